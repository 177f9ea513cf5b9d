//! Frames of T, byte by byte, because some of them must be wrong: damaged headers, odd options,
//! fragments, tags. Nothing is remembered here; the numbers are absolute.

use super::play::Ends;
use super::statement::{Checksum, Damage, Icmp, Station};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Mac;
use crate::wire::tcp::{Flags, fill_checksum};
use std::net::{Ipv4Addr, SocketAddrV4};

const TYPE_IPV4: u16 = 0x0800;
const TYPE_VLAN: u16 = 0x8100;
const TYPE_SERVICE_VLAN: u16 = 0x88a8;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;

/// A segment with everything decided.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: Flags,
    pub(super) window: u16,
    pub(super) urgent: u16,
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) ecn: u8,
}

/// The TCP segment, with the checksum and offset that `damage` asks for.
pub(super) fn segment(plain: &Plain, damage: &Damage) -> Vec<u8> {
    let words = 5 + plain.options.len() as u8 / 4;
    let mut bytes = Vec::with_capacity(60 + plain.payload.len());
    bytes.extend(plain.from.port().to_be_bytes());
    bytes.extend(plain.to.port().to_be_bytes());
    bytes.extend(plain.seq.to_be_bytes());
    bytes.extend(plain.ack.to_be_bytes());
    bytes.extend([damage.data_offset.unwrap_or(words) << 4, plain.flags.bits()]);
    bytes.extend(plain.window.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(plain.urgent.to_be_bytes());
    bytes.extend(&plain.options);
    bytes.extend(&plain.payload);
    fill_checksum(&mut bytes, *plain.from.ip(), *plain.to.ip());
    match damage.checksum {
        Checksum::Right => {}
        Checksum::Wrong => bytes[16] ^= 0x55,
        Checksum::Zero => bytes[16..18].fill(0),
    }
    bytes
}

/// The frame that carries a segment.
pub(super) fn frame(ends: &Ends, plain: &Plain, segment: &[u8], damage: &Damage) -> Vec<u8> {
    let start = usize::from(damage.fragment_offset).min(segment.len());
    let end = damage.cut.map_or(segment.len(), |len| (start + len).min(segment.len()));
    let station = match damage.station {
        Station::Stack => ends.stack_mac,
        Station::Broadcast => Mac::BROADCAST,
        // The group of all hosts, 224.0.0.1 (RFC 1112 section 6.4).
        Station::Multicast => Mac([0x01, 0x00, 0x5e, 0, 0, 1]),
        Station::Other => Mac([0x02, 0, 0, 0, 0xee, 0xee]),
    };
    let mut frame = ethernet(ends, station, &damage.vlans);
    let fragment = (damage.fragment_offset / 8) | if damage.more_fragments { 0x2000 } else { 0 };
    let header = Header {
        from: *plain.from.ip(),
        to: *plain.to.ip(),
        protocol: PROTOCOL_TCP,
        ecn: plain.ecn,
        fragment,
        options: &damage.ip_options,
    };
    frame.extend(header.bytes(end - start));
    frame.extend(&segment[start..end]);
    // Not zeros: what takes them for data must be found out.
    frame.resize(frame.len() + damage.trailing, 0xa5);
    frame
}

/// An ICMP error about the segment of D that begins with the number `quoted`.
pub(super) fn icmp_error(
    ends: &Ends,
    icmp: &Icmp,
    tester: SocketAddrV4,
    stack: SocketAddrV4,
    quoted: u32,
) -> Vec<u8> {
    let mut message = vec![icmp.kind, icmp.code, 0, 0, 0, 0];
    message.extend(icmp.mtu.to_be_bytes());
    message.extend(Header::plain(*stack.ip(), *tester.ip(), PROTOCOL_TCP).bytes(20));
    message.extend(stack.port().to_be_bytes());
    message.extend(icmp.port.unwrap_or(tester.port()).to_be_bytes());
    message.extend(quoted.to_be_bytes());
    let checksum = Sum::new().add_bytes(&message).finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = ethernet(ends, ends.stack_mac, &[]);
    frame.extend(Header::plain(*tester.ip(), *stack.ip(), PROTOCOL_ICMP).bytes(message.len()));
    frame.extend(message);
    frame
}

fn ethernet(ends: &Ends, station: Mac, vlans: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend(station.0);
    bytes.extend(ends.tester_mac.0);
    for (idx, vlan) in vlans.iter().enumerate() {
        let is_last = idx + 1 == vlans.len();
        bytes.extend(if is_last { TYPE_VLAN } else { TYPE_SERVICE_VLAN }.to_be_bytes());
        bytes.extend(vlan.to_be_bytes());
    }
    bytes.extend(TYPE_IPV4.to_be_bytes());
    bytes
}

/// An IPv4 header.
struct Header<'a> {
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    ecn: u8,
    /// Flags and offset, as on the wire.
    fragment: u16,
    options: &'a [u8],
}

impl Header<'_> {
    fn plain(from: Ipv4Addr, to: Ipv4Addr, protocol: u8) -> Self {
        Header { from, to, protocol, ecn: 0, fragment: 0, options: &[] }
    }

    fn bytes(&self, payload_len: usize) -> Vec<u8> {
        let options_len = self.options.len().next_multiple_of(4);
        let total_len = (20 + options_len + payload_len) as u16;
        let mut bytes = vec![0x45 + options_len as u8 / 4, self.ecn];
        bytes.extend(total_len.to_be_bytes());
        bytes.extend(7u16.to_be_bytes());
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([64, self.protocol, 0, 0]);
        bytes.extend(self.from.octets());
        bytes.extend(self.to.octets());
        bytes.extend(self.options);
        bytes.resize(20 + options_len, 0);
        let checksum = Sum::new().add_bytes(&bytes).finish();
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }
}
