//! The bytes of the protocols: parse, checksum, emit. Every format follows the same two steps.
//! First `parse` checks the bytes once, at the edge: lengths, versions, checksums. What it returns
//! is a plain value that cannot lie any more, together with where the payload lies; no code outside
//! this folder reads a header by its offset. In the other direction `emit` writes such a value into
//! a buffer.
//!
//! There is no state in here, no allocation, and no judgement: whether a valid segment is
//! acceptable is for the layers above to say. Any bytes at all may be given to a `parse`; the worst
//! they bring about is a [`WireError`]. An `emit` trusts its caller and panics when the buffer is
//! too short.

use std::error::Error;
use std::fmt;
use std::net::Ipv4Addr;

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod plain;
pub mod tcp;

/// Why bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireError {
    /// The bytes end before the header does, or before the end that the header states.
    Truncated,
    /// The IP version is not that of the parser.
    BadVersion,
    /// The header length field states less than the fixed header.
    BadHeaderLength,
    /// The total length is shorter than the header, or longer than an IPv4 packet can carry.
    BadTotalLength,
    /// The checksum does not match the bytes it covers.
    BadChecksum,
    /// A field that has only a few legal values holds another one.
    Malformed,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WireError::Truncated => "the bytes end before the length that the header states",
            WireError::BadVersion => "the IP version is not the expected one",
            WireError::BadHeaderLength => "the header length is less than the fixed header",
            WireError::BadTotalLength => "the total length does not fit the header or the protocol",
            WireError::BadChecksum => "the checksum does not match",
            WireError::Malformed => "a field holds a value that the protocol does not allow",
        })
    }
}

impl Error for WireError {}

// Big-endian fields of a header whose length is already proven by its type. With constant offsets,
// which is how every parser calls them, the bounds checks compile to nothing.

fn u16_at<const N: usize>(header: &[u8; N], offset: usize) -> u16 {
    u16::from_be_bytes([header[offset], header[offset + 1]])
}

fn u32_at<const N: usize>(header: &[u8; N], offset: usize) -> u32 {
    u32::from_be_bytes([header[offset], header[offset + 1], header[offset + 2], header[offset + 3]])
}

fn ipv4_at<const N: usize>(header: &[u8; N], offset: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32_at(header, offset))
}
