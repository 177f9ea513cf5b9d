//! The small network that the targets share: who has which address, the configuration that everything
//! starts from, and frames put together byte by byte, so that they can be wrong in every way.

use barewire_stack::stack::{Prefix, Resolver, StackConfig};
use barewire_stack::tcp::TcpConfig;
use barewire_stack::tcp::isn::Secret;
use barewire_stack::wire::checksum::{Sum, pseudo_header_v4};
use barewire_stack::wire::ethernet::{self, Ethernet, Mac};
use barewire_stack::wire::ipv4::{self, Ipv4};
use barewire_stack::wire::tcp::{self, ChecksumPolicy, Tcp};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

/// The port that everybody listens on.
pub const PORT: u16 = 7000;

/// Where the parts of an untagged frame begin, in bytes.
const IP_AT: usize = ethernet::HEADER_BYTES;
const TCP_AT: usize = IP_AT + ipv4::HEADER_BYTES;

/// The MAC address of host `number`.
pub const fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

/// The address of host `number`. Stacks are hosts 1 and 2; the fuzzer may be any other.
pub const fn addr(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

/// A port of host `number`.
pub const fn end(number: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(addr(number), port)
}

/// The stack of host `number`, with limits so low that inputs reach them.
pub fn config(number: u8) -> StackConfig {
    StackConfig {
        mac: mac(number),
        addresses: vec![Prefix { addr: addr(number), len: 24 }],
        prefixes: vec![Prefix { addr: Ipv4Addr::new(10, 7, number, 0), len: 28 }],
        gateway: None,
        resolver: Resolver::Arp,
        ttl: 64,
        dscp: 0,
        rx_checksum: ChecksumPolicy::Verify,
        connections_max: 8,
        syn_backlog_max: 3,
        time_wait_max: 2,
        neighbors_max: 4,
        resets_per_second_max: 100,
        buffer_bytes_max: 1 << 20,
        secret: Secret::new([number; 32]),
        tcp: TcpConfig::default(),
    }
}

/// A segment with any options at all; its data offset says where they end.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// Who sends it.
    pub from: SocketAddrV4,
    /// Whom it is for.
    pub to: SocketAddrV4,
    /// Ports and options in here do not count.
    pub tcp: Tcp,
    /// Option bytes, of which 40 count.
    pub options: &'a [u8],
    /// Bytes of data, which the caller fills in.
    pub payload_len: usize,
}

impl Draft<'_> {
    /// The frame from host `sender` to host `receiver`, and where its data lie; checksums are those
    /// of data that are zero.
    pub fn frame(&self, sender: u8, receiver: u8) -> (Vec<u8>, Range<usize>) {
        let options = &self.options[..self.options.len().min(40)];
        let header_len = tcp::HEADER_BYTES + options.len().next_multiple_of(4);
        let mut frame = vec![0; TCP_AT + header_len + self.payload_len];
        let ethertype = ethernet::TYPE_IPV4;
        Ethernet { dst: mac(receiver), src: mac(sender), vlan_id: None, ethertype }
            .emit(&mut frame);
        let (src, dst) = (*self.from.ip(), *self.to.ip());
        ip(src, dst, ipv4::PROTOCOL_TCP)
            .emit(&mut frame[IP_AT..], (header_len + self.payload_len) as u16);
        let bare = Tcp {
            src_port: self.from.port(),
            dst_port: self.to.port(),
            options: tcp::Options::default(),
            ..self.tcp
        };
        bare.emit(&mut frame[TCP_AT..]);
        frame[TCP_AT + 12] = ((header_len / 4) << 4) as u8;
        let options_at = TCP_AT + tcp::HEADER_BYTES;
        frame[options_at..options_at + options.len()].copy_from_slice(options);
        tcp::fill_checksum(&mut frame[TCP_AT..], src, dst);
        let payload = TCP_AT + header_len..frame.len();
        (frame, payload)
    }
}

/// A header between two hosts.
pub fn ip(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8) -> Ipv4 {
    Ipv4 {
        src,
        dst,
        protocol,
        ttl: 64,
        dscp: 0,
        ecn: 0,
        id: 7,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
    }
}

/// Makes the checksums of an untagged IPv4 frame right, as far as its lengths allow: without this no
/// parser behind the first checksum would ever be reached.
pub fn repair(frame: &mut [u8]) {
    if frame.len() < TCP_AT || frame[12..14] != ethernet::TYPE_IPV4.to_be_bytes() {
        return;
    }
    let packet = &mut frame[IP_AT..];
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    if header_len < ipv4::HEADER_BYTES || header_len > packet.len() {
        return;
    }
    fill(&mut packet[..header_len], 10, Sum::new());
    let Ok((ip, range)) = Ipv4::parse(packet) else { return };
    let message = &mut packet[range];
    match ip.protocol {
        ipv4::PROTOCOL_TCP if message.len() >= tcp::HEADER_BYTES => {
            let sum = pseudo_header_v4(ip.src, ip.dst, ip.protocol, message.len() as u16);
            fill(message, 16, sum);
        }
        ipv4::PROTOCOL_ICMP if message.len() >= 4 => fill(message, 2, Sum::new()),
        _ => {}
    }
}

/// Writes the checksum of `bytes`, begun with `sum`, at `at`.
fn fill(bytes: &mut [u8], at: usize, sum: Sum) {
    bytes[at..at + 2].fill(0);
    let checksum = sum.add_bytes(bytes).finish();
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}
