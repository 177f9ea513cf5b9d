//! The Internet checksum (RFC 1071) as a partial sum that grows by pieces. It only adds: where the
//! checksum field lies, and what is to be done when it is wrong, is the business of each format.

use std::net::Ipv4Addr;

/// A one's complement sum in the making. It is a value: each `add` gives the next sum, so a prefix
/// that many segments share (a pseudo-header, say) is summed once and reused.
///
/// The sum of byte-swapped words is the byte-swapped sum (RFC 1071 section 2B): words are added in the
/// machine's own order, and only the 16 bits that remain are turned round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The empty sum.
    pub const fn new() -> Self {
        Sum(0)
    }

    /// Adds bytes that begin at an even offset of the data summed. A last odd byte counts as the
    /// high half of a word (RFC 1071 section 1), so only the final piece may have odd length.
    #[inline]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        let sum = native_sum(bytes);
        self.add((sum >> 32) + (sum & 0xffff_ffff))
    }

    /// Copies `from` to `to`, of the same length, and adds it as [`Sum::add_bytes`] does.
    ///
    /// # Panics
    /// When the lengths differ.
    #[inline]
    pub fn copy_bytes(self, to: &mut [u8], from: &[u8]) -> Self {
        to.copy_from_slice(from);
        self.add_bytes(to)
    }

    /// Adds one 16-bit word.
    #[inline]
    pub fn add_u16(self, word: u16) -> Self {
        self.add(u64::from(word.to_be()))
    }

    /// Adds two 16-bit words at once.
    #[inline]
    pub fn add_u32(self, words: u32) -> Self {
        self.add(u64::from(words.to_be()))
    }

    /// Adds what another sum has.
    #[inline]
    pub fn add_sum(self, other: Sum) -> Self {
        self.add(other.0)
    }

    /// Each addition brings at most 33 bits: it would take two thousand million of them to overflow.
    #[inline]
    fn add(self, n: u64) -> Self {
        Sum(self.0.wrapping_add(n))
    }

    /// The sum in 16 bits, not complemented: 0xffff when the data hold their own, correct checksum.
    pub fn fold(self) -> u16 {
        u16::from_be(fold(self.0))
    }

    /// The checksum: the complement of [`Sum::fold`].
    pub fn finish(self) -> u16 {
        !self.fold()
    }
}

/// The sum that TCP checksums start from (RFC 9293 section 3.1); `len` is that of the segment,
/// header included, in bytes.
pub fn pseudo_header_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u16) -> Sum {
    Sum::new()
        .add_u32(src.to_bits())
        .add_u32(dst.to_bits())
        .add_u16(u16::from(protocol))
        .add_u16(len)
}

/// Words of 8 bytes in a block: added in a row, each with the carry of the one before.
const BLOCK: usize = 4;

/// Adds words of 8 bytes, and the carries at the end. In one's complement the sum is the same whatever
/// the width of the words (RFC 1071 section 2A).
#[inline]
fn native_sum(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<{ 8 * BLOCK }>();
    let (mut sum, mut carries) = (0_u64, 0_u64);
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        let mut carry = false;
        for word in words {
            (sum, carry) = sum.carrying_add(u64::from_ne_bytes(*word), carry);
        }
        carries = carries.wrapping_add(u64::from(carry));
    }
    let (words, tail) = rest.as_chunks::<8>();
    for word in words {
        let carry;
        (sum, carry) = sum.overflowing_add(u64::from_ne_bytes(*word));
        carries = carries.wrapping_add(u64::from(carry));
    }
    carries = carries.wrapping_add(tail_sum(tail));
    let (sum, carry) = sum.overflowing_add(carries);
    sum.wrapping_add(u64::from(carry))
}

/// Adds fewer than 8 bytes.
#[inline]
fn tail_sum(tail: &[u8]) -> u64 {
    let (quad, rest) = match tail.split_first_chunk::<4>() {
        Some((quad, rest)) => (u64::from(u32::from_ne_bytes(*quad)), rest),
        None => (0, tail),
    };
    let last = match *rest {
        [] => 0,
        [a] => u32::from(u16::from_ne_bytes([a, 0])),
        [a, b] => u32::from(u16::from_ne_bytes([a, b])),
        [a, b, c, ..] => u32::from_ne_bytes([a, b, c, 0]),
    };
    quad + u64::from(last)
}

/// Adds the carries back in: 64 bits to 32, to 16, each half to the other with what that carries.
#[inline]
fn fold(sum: u64) -> u16 {
    let (half, carry) = (sum as u32).overflowing_add((sum >> 32) as u32);
    let half = half.wrapping_add(u32::from(carry));
    let (quarter, carry) = (half as u16).overflowing_add((half >> 16) as u16);
    quarter.wrapping_add(u16::from(carry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_section_3_sums_to_ddf2() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::new().add_bytes(&bytes).fold(), 0xddf2);
        assert_eq!(Sum::new().add_bytes(&bytes).finish(), !0xddf2);
    }

    #[test]
    fn no_carry_is_lost_at_the_largest_values() {
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(fold(0x1_0000), 1);
        assert_eq!(fold(0x0001_ffff), 1);
        assert_eq!(fold(0xffff_ffff_0001_0000), 1);
        assert_eq!(Sum::new().add_bytes(&[0xff; 65_535]).fold(), 0xff00);
        assert_eq!(Sum::new().add_bytes(&[0xff; 65_536]).fold(), 0xffff);
    }

    #[test]
    fn an_odd_last_byte_is_the_high_half_of_a_word() {
        assert_eq!(Sum::new().add_bytes(&[0x12]).fold(), 0x1200);
        assert_eq!(Sum::new().add_bytes(&[0x12, 0x34, 0x56]).fold(), 0x6834);
    }

    #[test]
    fn a_pseudo_header_is_the_sum_of_its_twelve_bytes() {
        let (src, dst) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 254));
        let bytes = [192, 0, 2, 1, 198, 51, 100, 254, 0, 6, 0x05, 0xb4];
        let sum = pseudo_header_v4(src, dst, 6, 0x05b4);
        assert_eq!(sum.fold(), Sum::new().add_bytes(&bytes).fold());
    }
}
