//! The kernel's neighbour table, for addresses that engine and kernel share: the kernel keeps
//! answering and asking ARP there, and the engine borrows what it learnt. This file neither
//! speaks ARP nor caches.

use super::netlink::{self, Scope};
use super::sockopt;
use neli::consts::rtnl::{Nda, Nud, RtAddrFamily, Rtm, Rtn};
use neli::rtnl::{Ndmsg, NdmsgBuilder};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;

/// The discard service (RFC 863): a port where an unexpected empty datagram does no harm.
const DISCARD_PORT: u16 = 9;

/// The hardware address of `address` on interface `ifindex`, when the kernel knows one that it still
/// trusts; `None` when it knows none or found that nobody answers.
pub fn lookup(ifindex: u32, address: Ipv4Addr) -> io::Result<Option<[u8; 6]>> {
    let query = NdmsgBuilder::default()
        .ndm_family(RtAddrFamily::Inet)
        .ndm_index(ifindex.cast_signed())
        .ndm_state(Nud::empty())
        .ndm_type(Rtn::Unspec)
        .rtattrs(netlink::attributes(vec![(Nda::Dst, address.octets().to_vec())])?)
        .build()
        .map_err(io::Error::other)?;
    let mut found = None;
    let asked = netlink::ask(Rtm::Getneigh, Scope::One, query, |entry: &Ndmsg| {
        let useless = Nud::INCOMPLETE | Nud::FAILED;
        if !entry.ndm_state().intersects(useless) {
            found = netlink::find(entry.rtattrs(), Nda::Lladdr);
        }
    });
    match asked {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(io::Error::new(e.kind(), format!("neighbour {address}: {e}"))),
        Ok(()) => Ok(found),
    }
}

/// Makes the kernel resolve `address` on the interface called `ifname`, by sending an empty datagram
/// there; ask [`lookup`] a little later. Does not wait.
pub fn resolve(ifname: &str, address: Ipv4Addr) -> io::Result<()> {
    let sentence = |e: io::Error| {
        io::Error::new(e.kind(), format!("cannot resolve {address} on `{ifname}`: {e}"))
    };
    let mut name = [0; libc::IFNAMSIZ];
    name.iter_mut().zip(ifname.bytes()).for_each(|(to, from)| *to = from);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(sentence)?;
    socket.set_nonblocking(true).map_err(sentence)?;
    sockopt::set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name)
        .map_err(sentence)?;
    socket.send_to(&[], (address, DISCARD_PORT)).map_err(sentence)?;
    Ok(())
}
