//! The IPv4 header (RFC 791). Options are skipped, never obeyed; fragments are recognised, not put
//! together.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::checksum::Sum;
use super::{WireError, ipv4_at, u16_at};

/// Length of a header without options, in bytes.
pub const HEADER_BYTES: usize = 20;
/// Protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;

const FLAG_DONT_FRAGMENT: u16 = 0x4000;
const FLAG_MORE_FRAGMENTS: u16 = 0x2000;
pub(super) const FRAGMENT_OFFSET_MASK: u16 = 0x1fff;

/// The header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Who sent the packet.
    pub src: Ipv4Addr,
    /// Whom it is for.
    pub dst: Ipv4Addr,
    /// The protocol of the payload.
    pub protocol: u8,
    /// How many routers it may still pass.
    pub ttl: u8,
    /// Differentiated services code point, 6 bits (RFC 2474).
    pub dscp: u8,
    /// Congestion notification, 2 bits (RFC 3168).
    pub ecn: u8,
    /// What the fragments of one packet have in common.
    pub id: u16,
    /// Routers must not fragment it.
    pub dont_fragment: bool,
    /// It is a fragment, and not the last.
    pub more_fragments: bool,
    /// Where the payload lies in the unfragmented packet, in bytes; a multiple of 8.
    pub fragment_offset: u16,
}

impl Ipv4 {
    /// Reads and verifies a header; the range is that of the payload in `packet`, by the total
    /// length, so that the padding of short frames is not in it.
    pub fn parse(packet: &[u8]) -> Result<(Ipv4, Range<usize>), WireError> {
        let header = packet.first_chunk::<HEADER_BYTES>().ok_or(WireError::Truncated)?;
        if header[0] >> 4 != 4 {
            return Err(WireError::BadVersion);
        }
        let header_len = usize::from(header[0] & 0x0f) * 4;
        if header_len < HEADER_BYTES {
            return Err(WireError::BadHeaderLength);
        }
        let with_options = packet.get(..header_len).ok_or(WireError::Truncated)?;
        if Sum::new().add_bytes(with_options).fold() != 0xffff {
            return Err(WireError::BadChecksum);
        }
        let total_len = usize::from(u16_at(header, 2));
        if total_len < header_len {
            return Err(WireError::BadTotalLength);
        }
        if total_len > packet.len() {
            return Err(WireError::Truncated);
        }
        let fragment = u16_at(header, 6);
        let ipv4 = Ipv4 {
            src: ipv4_at(header, 12),
            dst: ipv4_at(header, 16),
            protocol: header[9],
            ttl: header[8],
            dscp: header[1] >> 2,
            ecn: header[1] & 0b11,
            id: u16_at(header, 4),
            dont_fragment: fragment & FLAG_DONT_FRAGMENT != 0,
            more_fragments: fragment & FLAG_MORE_FRAGMENTS != 0,
            fragment_offset: (fragment & FRAGMENT_OFFSET_MASK) * 8,
        };
        Ok((ipv4, header_len..total_len))
    }

    /// True when the payload is only a part of what was sent.
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// Writes the header of a packet with `payload_len` bytes behind it, checksum included, and
    /// returns its length. Of `dscp` and `ecn` the low 6 and 2 bits are written.
    ///
    /// # Panics
    /// When `buf` is shorter than [`HEADER_BYTES`], or the packet would be longer than 65,535
    /// bytes.
    pub fn emit(&self, buf: &mut [u8], payload_len: u16) -> usize {
        let header = &mut buf[..HEADER_BYTES];
        let total_len = payload_len
            .checked_add(HEADER_BYTES as u16)
            .expect("the MTU keeps a packet below 65,536 bytes");
        let mut fragment = self.fragment_offset / 8;
        if self.dont_fragment {
            fragment |= FLAG_DONT_FRAGMENT;
        }
        if self.more_fragments {
            fragment |= FLAG_MORE_FRAGMENTS;
        }
        header[0] = 0x45;
        header[1] = (self.dscp << 2) | (self.ecn & 0b11);
        header[2..4].copy_from_slice(&total_len.to_be_bytes());
        header[4..6].copy_from_slice(&self.id.to_be_bytes());
        header[6..8].copy_from_slice(&fragment.to_be_bytes());
        header[8] = self.ttl;
        header[9] = self.protocol;
        header[10..12].fill(0);
        header[12..16].copy_from_slice(&self.src.octets());
        header[16..20].copy_from_slice(&self.dst.octets());
        let checksum = Sum::new().add_bytes(header).finish();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        HEADER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> [u8; 46] {
        let ipv4 = Ipv4 {
            src: Ipv4Addr::new(192, 0, 2, 1),
            dst: Ipv4Addr::new(192, 0, 2, 2),
            protocol: PROTOCOL_TCP,
            ttl: 64,
            dscp: 0,
            ecn: 0,
            id: 7,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
        };
        let mut packet = [0; 46];
        ipv4.emit(&mut packet, 20);
        packet
    }

    /// The packet after a change of its header, with a checksum that covers the change.
    fn bent(change: impl FnOnce(&mut [u8; 46])) -> [u8; 46] {
        let mut packet = packet();
        change(&mut packet);
        let header_len = usize::from(packet[0] & 0x0f) * 4;
        packet[10..12].fill(0);
        let checksum = Sum::new().add_bytes(&packet[..header_len.min(46)]).finish();
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    #[test]
    fn padding_is_cut_off_the_payload() {
        let (_, payload) = Ipv4::parse(&packet()).expect("valid");
        assert_eq!(payload, 20..40);
    }

    #[test]
    fn options_are_skipped() {
        let (_, payload) = Ipv4::parse(&bent(|p| p[0] = 0x47)).expect("valid");
        assert_eq!(payload, 28..40);
    }

    #[test]
    fn each_wrong_length_or_version_has_its_own_error() {
        let parse = |packet: &[u8]| Ipv4::parse(packet).map(|_| ());
        assert_eq!(parse(&packet()[..19]), Err(WireError::Truncated));
        assert_eq!(parse(&packet()[..39]), Err(WireError::Truncated));
        assert_eq!(parse(&packet()[..40]), Ok(()));
        assert_eq!(parse(&bent(|p| p[0] = 0x65)), Err(WireError::BadVersion));
        assert_eq!(parse(&bent(|p| p[0] = 0x44)), Err(WireError::BadHeaderLength));
        assert_eq!(parse(&bent(|p| p[0] = 0x4f)), Err(WireError::Truncated));
        assert_eq!(parse(&bent(|p| p[3] = 19)), Err(WireError::BadTotalLength));
        assert_eq!(parse(&bent(|p| p[3] = 47)), Err(WireError::Truncated));
    }

    #[test]
    fn a_flip_of_any_header_bit_is_noticed() {
        for bit in 0..HEADER_BYTES * 8 {
            let mut packet = packet();
            packet[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(Ipv4::parse(&packet).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn first_middle_and_last_fragments_are_fragments() {
        let parse = |flags: u8, offset: u8| {
            let (ipv4, _) = Ipv4::parse(&bent(|p| (p[6], p[7]) = (flags, offset))).expect("valid");
            (ipv4.is_fragment(), ipv4.fragment_offset)
        };
        assert_eq!(parse(0x40, 0), (false, 0));
        assert_eq!(parse(0x20, 0), (true, 0));
        assert_eq!(parse(0x20, 3), (true, 24));
        assert_eq!(parse(0x1f, 0xff), (true, 65_528));
    }
}
