//! The identity of a flow, seen from our side.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Local and remote address and port of a connection. 12 bytes.
#[derive(Clone, Copy)]
pub struct FourTuple {
    local_addr: [u8; 4],
    remote_addr: [u8; 4],
    local_port: u16,
    remote_port: u16,
}

impl FourTuple {
    /// That of no connection.
    pub const NONE: FourTuple =
        FourTuple { local_addr: [0; 4], remote_addr: [0; 4], local_port: 0, remote_port: 0 };

    /// The flow between two endpoints.
    #[inline]
    pub fn new(local: SocketAddrV4, remote: SocketAddrV4) -> Self {
        FourTuple {
            local_addr: local.ip().octets(),
            remote_addr: remote.ip().octets(),
            local_port: local.port(),
            remote_port: remote.port(),
        }
    }

    /// Our end.
    pub fn local(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from(self.local_addr), self.local_port)
    }

    /// The peer's end.
    pub fn remote(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from(self.remote_addr), self.remote_port)
    }

    /// The tuple in two words: addresses, and ports. On a little-endian machine they are what lies in
    /// memory.
    #[inline]
    pub fn to_words(&self) -> (u64, u64) {
        let (local, remote) =
            (u32::from_ne_bytes(self.local_addr), u32::from_ne_bytes(self.remote_addr));
        let addresses = u64::from(remote) << 32 | u64::from(local);
        (addresses, u64::from(self.remote_port) << 16 | u64::from(self.local_port))
    }

    /// The tuple as bytes for a keyed hash.
    pub fn to_bytes(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.local_addr);
        bytes[4..8].copy_from_slice(&self.remote_addr);
        bytes[8..10].copy_from_slice(&self.local_port.to_be_bytes());
        bytes[10..].copy_from_slice(&self.remote_port.to_be_bytes());
        bytes
    }
}

/// Two comparisons of words, where one by fields would be four.
impl PartialEq for FourTuple {
    #[inline]
    fn eq(&self, other: &FourTuple) -> bool {
        self.to_words() == other.to_words()
    }
}

impl Eq for FourTuple {}

impl fmt::Debug for FourTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <- {}", self.local(), self.remote())
    }
}
