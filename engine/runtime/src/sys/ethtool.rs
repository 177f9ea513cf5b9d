//! One ethtool command to the driver of an interface, by ioctl. What the commands are and what their
//! answers mean is known where they are asked.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

/// Asks the driver of the interface called `name`, which is at most 15 bytes long; false when the
/// driver does not implement the command. `T` is the command's struct as linux/ethtool.h has it, with
/// as much room behind it as its sizes say, and begins with its number.
pub(super) fn ask<T: ?Sized>(name: &str, command: &mut T) -> io::Result<bool> {
    // Any socket of the namespace will do; this one is never connected.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let mut ifr = libc::ifreq {
        ifr_name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut *command).cast() },
    };
    // SAFETY: `ifr` names an interface (zero-terminated: the last byte stays 0) and points to a struct
    // of the layout and size that its command number and sizes tell the kernel; both outlive the call.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as libc::Ioctl, &raw mut ifr) };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EOPNOTSUPP) { Ok(false) } else { Err(error) }
}
