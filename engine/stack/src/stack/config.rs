//! What a stack is made with. Everything that bounds it is a number in here; the stack takes what
//! they allow at the start or grows within them, and refuses the rest.

use crate::tcp::TcpConfig;
use crate::tcp::isn::Secret;
use crate::wire::ethernet::Mac;
use crate::wire::tcp::ChecksumPolicy;
use std::net::Ipv4Addr;

/// An IPv4 address range in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// An address inside the range.
    pub addr: Ipv4Addr,
    /// Length of the network part in bits, 0 to 32.
    pub len: u8,
}

impl Prefix {
    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0)
    }

    /// True when `addr` lies in the range.
    pub fn contains(self, addr: Ipv4Addr) -> bool {
        (u32::from(addr) ^ u32::from(self.addr)) & self.mask() == 0
    }

    /// True when `addr` is the range's network or broadcast address, which no host has; ranges of
    /// 31 bits and more have neither (RFC 3021).
    pub fn is_reserved(self, addr: Ipv4Addr) -> bool {
        let host = u32::from(addr) & !self.mask();
        self.len < 31 && self.contains(addr) && (host == 0 || host == !self.mask())
    }
}

/// Who finds the MAC addresses of next hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// The stack owns its addresses: it asks and answers ARP.
    Arp,
    /// The kernel owns the address: the stack asks through `poll_neighbor` and is told.
    Kernel,
}

/// Configuration of one stack.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// MAC address of the interface.
    pub mac: Mac,
    /// Our addresses, each with the prefix that is on link.
    pub addresses: Vec<Prefix>,
    /// Whole ranges that are ours too, as load test clients use them; they are not on link.
    pub prefixes: Vec<Prefix>,
    /// Next hop for what is not on link. Without one everything is taken to be on link.
    pub gateway: Option<Ipv4Addr>,
    /// Who resolves next hops.
    pub resolver: Resolver,
    /// Time to live of what we send (RFC 9293 MUST-49).
    pub ttl: u8,
    /// Differentiated services code point of what we send (MUST-48).
    pub dscp: u8,
    /// How received TCP checksums are judged.
    pub rx_checksum: ChecksumPolicy,
    /// Connections of this stack, TIME-WAIT included.
    pub connections_max: u32,
    /// Connections in SYN-RECEIVED.
    pub syn_backlog_max: u32,
    /// Records in TIME-WAIT; the oldest goes when another comes.
    pub time_wait_max: u32,
    /// Next hops whose MAC address is remembered.
    pub neighbors_max: u32,
    /// RST answers a second to segments without a connection.
    pub resets_per_second_max: u32,
    /// Bytes buffered by all connections together.
    pub buffer_bytes_max: usize,
    /// Keys of everything that must not be predicted.
    pub secret: Secret,
    /// The knobs of TCP.
    pub tcp: TcpConfig,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_know_their_hosts() {
        let prefix = Prefix { addr: [10, 1, 2, 3].into(), len: 16 };
        assert!(prefix.contains([10, 1, 255, 9].into()) && !prefix.contains([10, 2, 0, 1].into()));
        assert!(prefix.is_reserved([10, 1, 0, 0].into()));
        assert!(prefix.is_reserved([10, 1, 255, 255].into()));
        assert!(!prefix.is_reserved([10, 1, 0, 255].into()));
        let host = Prefix { addr: [10, 0, 0, 1].into(), len: 32 };
        assert!(host.contains(host.addr) && !host.is_reserved(host.addr));
        assert!(Prefix { addr: [0; 4].into(), len: 0 }.contains([9, 9, 9, 9].into()));
    }
}
