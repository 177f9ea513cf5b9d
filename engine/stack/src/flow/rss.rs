//! Receive side scaling in software: the Toeplitz hash that NICs compute over a flow, and the
//! indirection table that turns it into a queue. What is computed here is what the NIC computes, so
//! that the queue of a flow is known before its first segment arrives. The key is the NIC's and no
//! secret; the connection table hashes with one of its own.

use super::FourTuple;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

/// Bytes of a key: enough for the addresses and ports of IPv6.
pub const KEY_BYTES: usize = 40;

/// Bytes of what is hashed for TCP over IPv6: source and destination address, then the ports. Over
/// IPv4 it is the first 12 of them.
const INPUT_BYTES: usize = 36;

/// Where the ports begin, over IPv4 and IPv6.
const PORTS_V4: usize = 8;
const PORTS_V6: usize = 32;

/// The Toeplitz hash of one key, as a table: it is linear, so each byte of the input contributes by
/// itself, and the hash is the sum of the contributions.
#[derive(Clone, Debug)]
pub struct Toeplitz {
    contributions: Box<[[u32; 256]; INPUT_BYTES]>,
}

/// Which queue a hash leads to. Its size is a power of two, and the low bits of the hash choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndirectionTable {
    queues: Vec<u16>,
}

/// What of a TCP segment a NIC hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashed {
    /// Both addresses and both ports.
    AddressesAndPorts,
    /// The addresses alone: all connections between two hosts share a queue.
    Addresses,
}

/// Everything that decides at which queue of a NIC a TCP segment over IPv4 arrives.
#[derive(Clone, Debug)]
pub struct Rss {
    toeplitz: Toeplitz,
    hashed: Hashed,
    table: IndirectionTable,
}

impl Toeplitz {
    /// The key with which Microsoft publishes its verification vectors and that many drivers load.
    pub const KEY: [u8; KEY_BYTES] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    /// The hash with `key`, of which NICs use the first [`KEY_BYTES`]; what a shorter one lacks
    /// counts as 0.
    pub fn new(key: &[u8]) -> Self {
        let mut contributions = Box::new([[0; 256]; INPUT_BYTES]);
        for (at, table) in contributions.iter_mut().enumerate() {
            // A set bit adds the 32 bits of the key that begin at its place; the rest of the byte has
            // had its turn.
            for byte in 1..table.len() {
                let (rest, bit) = (byte & (byte - 1), byte.trailing_zeros() as usize);
                table[byte] = table[rest] ^ window(key, at * 8 + 7 - bit);
            }
        }
        Toeplitz { contributions }
    }

    /// The hash of a TCP segment over IPv4 from `src` to `dst`.
    pub fn tcp_v4(&self, src: SocketAddrV4, dst: SocketAddrV4) -> u32 {
        self.v4(*src.ip(), *dst.ip())
            ^ self.part(PORTS_V4, &src.port().to_be_bytes())
            ^ self.dst_port_v4(dst.port())
    }

    /// The hash of a packet without ports, such as a fragment or ICMP.
    pub fn v4(&self, src: Ipv4Addr, dst: Ipv4Addr) -> u32 {
        self.part(0, &src.octets()) ^ self.part(4, &dst.octets())
    }

    /// What the destination port contributes to the hash over IPv4.
    pub fn dst_port_v4(&self, port: u16) -> u32 {
        self.part(PORTS_V4 + 2, &port.to_be_bytes())
    }

    /// The hash of a TCP segment over IPv6 from `src` to `dst`.
    pub fn tcp_v6(&self, src: SocketAddrV6, dst: SocketAddrV6) -> u32 {
        self.v6(*src.ip(), *dst.ip())
            ^ self.part(PORTS_V6, &src.port().to_be_bytes())
            ^ self.dst_port_v6(dst.port())
    }

    /// The hash of a packet over IPv6 without ports.
    pub fn v6(&self, src: Ipv6Addr, dst: Ipv6Addr) -> u32 {
        self.part(0, &src.octets()) ^ self.part(16, &dst.octets())
    }

    /// What the destination port contributes to the hash over IPv6.
    pub fn dst_port_v6(&self, port: u16) -> u32 {
        self.part(PORTS_V6 + 2, &port.to_be_bytes())
    }

    /// What `bytes` from offset `at` of the input contribute.
    fn part(&self, at: usize, bytes: &[u8]) -> u32 {
        let bytes = bytes.iter().zip(&self.contributions[at..]);
        bytes.fold(0, |sum, (&byte, table)| sum ^ table[usize::from(byte)])
    }
}

impl IndirectionTable {
    /// A table of `len` places, which is a power of two, dealt to `n_queues` queues in turn as
    /// drivers do by default.
    ///
    /// # Panics
    /// When `len` is no power of two.
    pub fn dealt(len: usize, n_queues: u16) -> Self {
        IndirectionTable::from_queues((0..n_queues).cycle().take(len).collect())
    }

    /// A table with these queues in its places, whose number is a power of two.
    ///
    /// # Panics
    /// When the number of places is no power of two.
    pub fn from_queues(queues: Vec<u16>) -> Self {
        let len = queues.len();
        assert!(len.is_power_of_two(), "expected a power of two of places, found {len}");
        IndirectionTable { queues }
    }

    /// The queue that `hash` leads to.
    pub fn queue(&self, hash: u32) -> u16 {
        self.queues[(hash & self.mask()) as usize]
    }

    /// The queues in their places.
    pub fn queues(&self) -> &[u16] {
        &self.queues
    }

    /// The bits of a hash that choose the place.
    pub fn mask(&self) -> u32 {
        self.queues.len() as u32 - 1
    }
}

impl Rss {
    /// A NIC that hashes so much of a segment with `key`, and has this table.
    pub fn new(key: &[u8], hashed: Hashed, table: IndirectionTable) -> Self {
        Rss { toeplitz: Toeplitz::new(key), hashed, table }
    }

    /// The queue at which segments of a connection arrive. As the NIC receives them, the peer is
    /// their source.
    pub fn queue(&self, tuple: &FourTuple) -> u16 {
        let (local, remote) = (tuple.local(), tuple.remote());
        self.table.queue(self.base(*local.ip(), remote) ^ self.port(local.port()))
    }

    /// The hash of what arrives at `local` from `remote`, less the share of the local port.
    pub fn base(&self, local: Ipv4Addr, remote: SocketAddrV4) -> u32 {
        match self.hashed {
            Hashed::AddressesAndPorts => self.toeplitz.tcp_v4(remote, SocketAddrV4::new(local, 0)),
            Hashed::Addresses => self.toeplitz.v4(*remote.ip(), local),
        }
    }

    /// The share of the local port in the hash of what arrives.
    pub fn port(&self, port: u16) -> u32 {
        match self.hashed {
            Hashed::AddressesAndPorts => self.toeplitz.dst_port_v4(port),
            Hashed::Addresses => 0,
        }
    }

    /// The indirection table.
    pub fn table(&self) -> &IndirectionTable {
        &self.table
    }
}

/// The 32 bits of `key` that begin at `bit`.
fn window(key: &[u8], bit: usize) -> u32 {
    let byte = |at: usize| u64::from(key.get(at).copied().unwrap_or(0));
    let five = (0..5).fold(0, |bits, i| (bits << 8) | byte(bit / 8 + i));
    (five >> (8 - bit % 8)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source, destination, hash over addresses, hash over addresses and ports: the verification
    /// suite that Microsoft publishes for RSS.
    const VECTORS: [(&str, &str, u32, u32); 5] = [
        ("66.9.149.187:2794", "161.142.100.80:1766", 0x323e_8fc2, 0x51cc_c178),
        ("199.92.111.2:14230", "65.69.140.83:4739", 0xd718_262a, 0xc626_b0ea),
        ("24.19.198.95:12898", "12.22.207.184:38024", 0xd2d0_a5de, 0x5c2b_394a),
        ("38.27.205.30:48228", "209.142.163.6:2217", 0x8298_9176, 0xafc7_327f),
        ("153.39.163.191:44251", "202.188.127.2:1303", 0x5d18_09c5, 0x10e8_28a2),
    ];

    /// The same over IPv6.
    const VECTORS_V6: [(&str, &str, u32, u32); 3] = [
        ("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x2cc1_8cd5, 0x4020_7d3d),
        ("[3ffe:501:8::260:97ff:fe40:efab]:14230", "[ff02::1]:4739", 0x0f0c_461c, 0xdde5_1bbf),
        (
            "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
            "[fe80::200:f8ff:fe21:67cf]:38024",
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];

    fn endpoint(text: &str) -> SocketAddrV4 {
        text.parse().expect("an address and a port")
    }

    #[test]
    fn the_published_vectors_hold() {
        let toeplitz = Toeplitz::new(&Toeplitz::KEY);
        for (src, dst, v4, tcp_v4) in VECTORS {
            let (src, dst) = (endpoint(src), endpoint(dst));
            assert_eq!(toeplitz.v4(*src.ip(), *dst.ip()), v4, "{src} {dst}");
            assert_eq!(toeplitz.tcp_v4(src, dst), tcp_v4, "{src} {dst}");
        }
    }

    #[test]
    fn the_published_vectors_hold_over_ipv6() {
        let toeplitz = Toeplitz::new(&Toeplitz::KEY);
        for (src, dst, v6, tcp_v6) in VECTORS_V6 {
            let endpoint = |text: &str| text.parse::<SocketAddrV6>().expect("address and port");
            let (src, dst) = (endpoint(src), endpoint(dst));
            assert_eq!(toeplitz.v6(*src.ip(), *dst.ip()), v6, "{src} {dst}");
            assert_eq!(toeplitz.tcp_v6(src, dst), tcp_v6, "{src} {dst}");
        }
    }

    #[test]
    fn a_nic_hashes_ports_or_leaves_them_out() {
        let table = IndirectionTable::dealt(128, 8);
        let (remote, local, v4, tcp_v4) = VECTORS[2];
        let tuple = FourTuple::new(endpoint(local), endpoint(remote));
        for (hashed, hash) in [(Hashed::Addresses, v4), (Hashed::AddressesAndPorts, tcp_v4)] {
            let rss = Rss::new(&Toeplitz::KEY, hashed, table.clone());
            assert_eq!(rss.queue(&tuple), table.queue(hash), "{hashed:?}");
        }
    }

    #[test]
    fn another_key_hashes_otherwise() {
        let mut key = Toeplitz::KEY;
        key[7] ^= 1;
        let (src, dst, _, hash) = VECTORS[0];
        let toeplitz = Toeplitz::new(&key);
        assert_ne!(toeplitz.tcp_v4(endpoint(src), endpoint(dst)), hash);
    }

    #[test]
    fn the_low_bits_choose_the_queue() {
        let table = IndirectionTable::dealt(8, 3);
        let queues: Vec<u16> = (0..8).map(|hash| table.queue(hash)).collect();
        assert_eq!(queues, [0, 1, 2, 0, 1, 2, 0, 1]);
        assert_eq!(table.queue(0xffff_fff8), 0);
        assert_eq!(IndirectionTable::from_queues(vec![7; 4]).queue(3), 7);
    }

    #[test]
    #[should_panic(expected = "a power of two")]
    fn a_table_of_an_odd_size_is_refused() {
        let _ = IndirectionTable::dealt(6, 3);
    }
}
