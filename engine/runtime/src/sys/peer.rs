//! Who is at the other end of a Unix socket, as the kernel knows it. Whether they may command the
//! engine is the control plane's decision.

use super::sockopt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// The process that connected, at the time it did (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Its process id.
    pub pid: i32,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

impl PeerCredentials {
    /// The credentials of the peer of `stream`.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let nobody = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let cred = sockopt::get(stream.as_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, nobody)?;
        Ok(PeerCredentials { pid: cred.pid, uid: cred.uid, gid: cred.gid })
    }

    /// The effective user id of this process, to compare with.
    pub fn own_uid() -> u32 {
        // SAFETY: takes nothing, cannot fail.
        unsafe { libc::geteuid() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_of_a_socket_pair_is_this_process() {
        let (one, _other) = UnixStream::pair().expect("a socket pair");
        let peer = PeerCredentials::of(&one).expect("credentials");
        assert_eq!(peer.pid, std::process::id() as i32);
        assert_eq!(peer.uid, PeerCredentials::own_uid());
    }
}
