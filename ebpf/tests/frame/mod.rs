//! Frames for the table: a few builders, written from the RFCs and not from the program's parser.
//! Lengths are right unless a row breaks them; checksums are zero, for the program reads none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const LLDP: u16 = 0x88cc;

const PEER_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

pub(crate) fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let macs = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    [&macs, &ethertype.to_be_bytes()[..], payload].concat()
}

/// The same frame with a tag before its ethertype: 0x8100 or 0x88a8, priority and VID.
pub(crate) fn tagged(tpid: u16, tci: u16, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &tpid.to_be_bytes(), &tci.to_be_bytes(), &frame[12..]].concat()
}

pub(crate) fn arp(operation: u16, target: [u8; 4]) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4];
    body.extend(operation.to_be_bytes());
    body.extend([2, 0, 0, 0, 0, 1]);
    body.extend(PEER_V4.octets());
    body.extend([0; 6]);
    body.extend(target);
    ethernet(ARP, &body)
}

/// An IPv4 packet with `options` (a multiple of 4 bytes) and the flags-and-offset word `fragment`.
pub(crate) fn ipv4(
    to: [u8; 4],
    protocol: u8,
    options: &[u8],
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let header_len = 20 + options.len();
    let total_len = (header_len + payload.len()) as u16;
    let mut packet = vec![0x40 | (header_len / 4) as u8, 0];
    packet.extend(total_len.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(PEER_V4.octets());
    packet.extend(to);
    packet.extend(options);
    packet.extend(payload);
    ethernet(0x0800, &packet)
}

/// An IPv6 packet; `next` is the protocol of whatever `payload` starts with.
pub(crate) fn ipv6(to: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let to: Ipv6Addr = to.parse().expect("an IPv6 address");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(PEER_V6.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    ethernet(0x86dd, &packet)
}

/// An options or routing header of `8 * units` bytes, before `payload`.
pub(crate) fn extension(next: u8, units: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next, units - 1];
    header.resize(8 * usize::from(units), 0);
    header.extend(payload);
    header
}

/// A fragment header with the word of offset and flags, before `payload`.
pub(crate) fn fragment(next: u8, word: u16, payload: &[u8]) -> Vec<u8> {
    let word = word.to_be_bytes();
    [&[next, 0, word[0], word[1], 0, 0, 0, 7][..], payload].concat()
}

/// A TCP header of a SYN to `port`.
pub(crate) fn syn(port: u16) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40];
    segment.extend(port.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

/// A SYN to `port` of an address of either family.
pub(crate) fn tcp(to: &str, port: u16) -> Vec<u8> {
    match to.parse().expect("an address") {
        IpAddr::V4(v4) => ipv4(v4.octets(), TCP, &[], 0, &syn(port)),
        IpAddr::V6(_) => ipv6(to, TCP, &syn(port)),
    }
}

/// An ICMP or ICMPv6 message of a type, with a body of `len` zeros.
pub(crate) fn icmp(kind: u8, len: usize) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.resize(4 + len, 0);
    message
}

/// A neighbour solicitation for `target`.
pub(crate) fn solicitation(target: &str) -> Vec<u8> {
    let target: Ipv6Addr = target.parse().expect("an IPv6 address");
    [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat()
}

/// The frame with byte `at` replaced.
pub(crate) fn with_byte(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}
