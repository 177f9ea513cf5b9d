//! The TCP header (RFC 9293 section 3.1) and its checksum. What a segment means for a connection is
//! decided elsewhere; reserved bits are ignored on receipt and zero on emission.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::BitOr;

use super::checksum::pseudo_header_v4;
use super::ipv4::PROTOCOL_TCP;
use super::{WireError, u16_at, u32_at};

mod options;

pub use options::{Options, SackBlocks, Timestamps, WINDOW_SCALE_MAX};

/// Length of a header without options, in bytes.
pub const HEADER_BYTES: usize = 20;
/// Length of the longest header, in bytes: 15 words.
pub const HEADER_BYTES_MAX: usize = 60;

/// The control bits of a segment.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// No control bit.
    pub const NONE: Flags = Flags(0);
    /// The sender has no more data.
    pub const FIN: Flags = Flags(0x01);
    /// The sequence number is the initial one.
    pub const SYN: Flags = Flags(0x02);
    /// The connection is to be reset.
    pub const RST: Flags = Flags(0x04);
    /// The data are to be passed to the application at once.
    pub const PSH: Flags = Flags(0x08);
    /// The acknowledgement field is significant.
    pub const ACK: Flags = Flags(0x10);
    /// The urgent pointer is significant.
    pub const URG: Flags = Flags(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Flags = Flags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Flags = Flags(0x80);

    const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

    /// The flags of a header byte.
    pub const fn from_bits(bits: u8) -> Flags {
        Flags(bits)
    }

    /// The header byte.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// True when all of `other` are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// True when any of `other` is set.
    pub const fn intersects(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Flags::NONE {
            return f.write_str("NONE");
        }
        let mut separator = "";
        for (bit, name) in Flags::NAMES.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        Ok(())
    }
}

/// How much of the checksum is left for us to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumPolicy {
    /// The checksum must match.
    Verify,
    /// The checksum must match, or its field must hold exactly the sum of the pseudo-header. That
    /// is what the kernel leaves there for a device with transmit offload, and what a veth peer
    /// therefore hands over: a segment that never was on a wire which could damage it.
    AcceptPartial,
    /// The device has verified it.
    Trust,
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Port it comes from.
    pub src_port: u16,
    /// Port it goes to.
    pub dst_port: u16,
    /// Sequence number of the first byte of data, or of the SYN.
    pub seq: u32,
    /// The next sequence number that the sender expects; significant with [`Flags::ACK`].
    pub ack: u32,
    /// The control bits.
    pub flags: Flags,
    /// The receive window, not yet scaled.
    pub window: u16,
    /// The urgent pointer; significant with [`Flags::URG`].
    pub urgent: u16,
    /// The options.
    pub options: Options,
}

/// A header, and what else there is to know about its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The header.
    pub tcp: Tcp,
    /// Where the data begin, in bytes from the begin of the segment.
    pub payload_offset: usize,
    /// The checksum was found to be that of the pseudo-header alone, under
    /// [`ChecksumPolicy::AcceptPartial`].
    pub partial_checksum: bool,
}

impl Tcp {
    /// Reads and verifies the header of a segment, which is the whole payload of a packet from
    /// `src` to `dst`. Malformed options do not make the segment malformed: see
    /// [`Options::malformed`].
    pub fn parse(
        segment: &[u8],
        src: Ipv4Addr,
        dst: Ipv4Addr,
        policy: ChecksumPolicy,
    ) -> Result<Parsed, WireError> {
        let header = segment.first_chunk::<HEADER_BYTES>().ok_or(WireError::Truncated)?;
        let payload_offset = usize::from(header[12] >> 4) * 4;
        if payload_offset < HEADER_BYTES {
            return Err(WireError::BadHeaderLength);
        }
        let options = segment.get(HEADER_BYTES..payload_offset).ok_or(WireError::Truncated)?;
        let partial_checksum = verify(segment, u16_at(header, 16), src, dst, policy)?;
        let tcp = Tcp {
            src_port: u16_at(header, 0),
            dst_port: u16_at(header, 2),
            seq: u32_at(header, 4),
            ack: u32_at(header, 8),
            flags: Flags(header[13]),
            window: u16_at(header, 14),
            urgent: u16_at(header, 18),
            options: Options::parse(options),
        };
        Ok(Parsed { tcp, payload_offset, partial_checksum })
    }

    /// Length of the header as [`Tcp::emit`] writes it, options included: a multiple of 4, at most
    /// [`HEADER_BYTES_MAX`].
    pub fn header_len(&self) -> usize {
        HEADER_BYTES + self.options.emitted_len()
    }

    /// Writes the header with its options and returns its length. The checksum field is 0 until
    /// [`fill_checksum`], since the data come after. SACK blocks that do not fit are left out, last
    /// first (RFC 2018 section 3: three fit beside timestamps).
    ///
    /// # Panics
    /// When `buf` is shorter than [`Tcp::header_len`].
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        let len = HEADER_BYTES + self.options.emit(&mut buf[HEADER_BYTES..]);
        let header = &mut buf[..HEADER_BYTES];
        header[0..2].copy_from_slice(&self.src_port.to_be_bytes());
        header[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        header[4..8].copy_from_slice(&self.seq.to_be_bytes());
        header[8..12].copy_from_slice(&self.ack.to_be_bytes());
        header[12] = (len as u8 / 4) << 4;
        header[13] = self.flags.0;
        header[14..16].copy_from_slice(&self.window.to_be_bytes());
        header[16..18].fill(0);
        header[18..20].copy_from_slice(&self.urgent.to_be_bytes());
        len
    }
}

/// Says whether the checksum of a whole segment is a partial one; an error when it is wrong. `field` is
/// what the segment has in its place.
#[inline]
pub(super) fn verify(
    segment: &[u8],
    field: u16,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    policy: ChecksumPolicy,
) -> Result<bool, WireError> {
    let len = u16::try_from(segment.len()).map_err(|_| WireError::BadTotalLength)?;
    if policy == ChecksumPolicy::Trust {
        return Ok(false);
    }
    let sum = pseudo_header_v4(src, dst, PROTOCOL_TCP, len);
    if policy == ChecksumPolicy::AcceptPartial && field == sum.fold() {
        return Ok(true);
    }
    if sum.add_bytes(segment).fold() == 0xffff { Ok(false) } else { Err(WireError::BadChecksum) }
}

/// Computes the checksum of a whole segment, header and data, and writes it into the header.
///
/// # Panics
/// When `segment` is shorter than [`HEADER_BYTES`] or does not fit an IPv4 packet.
pub fn fill_checksum(segment: &mut [u8], src: Ipv4Addr, dst: Ipv4Addr) {
    let len = u16::try_from(segment.len()).expect("the MTU keeps a segment below 65,536 bytes");
    segment[16..18].fill(0);
    let checksum = pseudo_header_v4(src, dst, PROTOCOL_TCP, len).add_bytes(segment).finish();
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const DST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

    /// A segment with four bytes of data and a checksum field of 0.
    fn segment() -> Vec<u8> {
        let tcp = Tcp { src_port: 40_000, dst_port: 80, flags: Flags::ACK, ..Tcp::default() };
        let mut segment = vec![0; 24];
        tcp.emit(&mut segment);
        segment[20..].copy_from_slice(b"data");
        segment
    }

    fn parse(segment: &[u8], policy: ChecksumPolicy) -> Result<bool, WireError> {
        Tcp::parse(segment, SRC, DST, policy).map(|parsed| parsed.partial_checksum)
    }

    #[test]
    fn a_full_checksum_is_accepted_by_every_policy_and_damage_only_by_trust() {
        let mut segment = segment();
        fill_checksum(&mut segment, SRC, DST);
        for policy in [ChecksumPolicy::Verify, ChecksumPolicy::AcceptPartial, ChecksumPolicy::Trust]
        {
            assert_eq!(parse(&segment, policy), Ok(false), "{policy:?}");
        }
        segment[23] ^= 1;
        assert_eq!(parse(&segment, ChecksumPolicy::Verify), Err(WireError::BadChecksum));
        assert_eq!(parse(&segment, ChecksumPolicy::AcceptPartial), Err(WireError::BadChecksum));
        assert_eq!(parse(&segment, ChecksumPolicy::Trust), Ok(false));
    }

    #[test]
    fn a_partial_checksum_is_accepted_and_reported_only_when_asked_for() {
        let mut segment = segment();
        let partial = pseudo_header_v4(SRC, DST, PROTOCOL_TCP, 24).fold();
        segment[16..18].copy_from_slice(&partial.to_be_bytes());
        assert_eq!(parse(&segment, ChecksumPolicy::AcceptPartial), Ok(true));
        assert_eq!(parse(&segment, ChecksumPolicy::Verify), Err(WireError::BadChecksum));
        segment[16..18].copy_from_slice(&(!partial).to_be_bytes());
        assert_eq!(parse(&segment, ChecksumPolicy::AcceptPartial), Err(WireError::BadChecksum));
    }

    #[test]
    fn the_checksum_covers_the_addresses() {
        let mut segment = segment();
        fill_checksum(&mut segment, SRC, DST);
        let elsewhere = Ipv4Addr::new(198, 51, 100, 3);
        let parsed = Tcp::parse(&segment, SRC, elsewhere, ChecksumPolicy::Verify);
        assert_eq!(parsed, Err(WireError::BadChecksum));
    }

    #[test]
    fn a_segment_longer_than_ipv4_can_carry_is_refused_without_a_panic() {
        let mut segment = segment();
        segment.resize(65_536, 0);
        assert_eq!(parse(&segment, ChecksumPolicy::Trust), Err(WireError::BadTotalLength));
    }

    #[test]
    fn flags_print_by_name() {
        assert_eq!(format!("{:?}", Flags::SYN | Flags::ACK), "SYN|ACK");
        assert_eq!(format!("{:?}", Flags::NONE), "NONE");
        assert_eq!(format!("{:?}", Flags::from_bits(0xff)), "FIN|SYN|RST|PSH|ACK|URG|ECE|CWR");
    }

    #[test]
    fn contains_asks_for_all_and_intersects_for_any() {
        let flags = Flags::SYN | Flags::ACK;
        assert!(flags.contains(Flags::SYN | Flags::ACK) && flags.contains(Flags::NONE));
        assert!(!flags.contains(Flags::SYN | Flags::FIN));
        assert!(flags.intersects(Flags::SYN | Flags::FIN));
        assert!(!flags.intersects(Flags::RST | Flags::FIN));
    }
}
