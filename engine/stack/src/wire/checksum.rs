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
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        Sum(add(self.0, native_sum(bytes)))
    }

    /// Adds one 16-bit word.
    pub fn add_u16(self, word: u16) -> Self {
        Sum(add(self.0, u64::from(word.to_be())))
    }

    /// Adds two 16-bit words at once.
    pub fn add_u32(self, words: u32) -> Self {
        Sum(add(self.0, u64::from(words.to_be())))
    }

    /// Adds what another sum has.
    pub fn add_sum(self, other: Sum) -> Self {
        Sum(add(self.0, other.0))
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

/// Words of 8 bytes that are summed side by side, so that no addition waits for the one before.
const LANES: usize = 4;

/// Adds words of 8 bytes, and each carry back in: two instructions a word. In one's complement the sum
/// is the same whatever the width of the words (RFC 1071 section 2A).
fn native_sum(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<{ 8 * LANES }>();
    let mut lanes = [0_u64; LANES];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = add(*lane, u64::from_ne_bytes(*word));
        }
    }
    let (words, tail) = rest.as_chunks::<8>();
    let mut sum = add(add(lanes[0], lanes[1]), add(lanes[2], lanes[3]));
    for word in words {
        sum = add(sum, u64::from_ne_bytes(*word));
    }
    if tail.is_empty() {
        return sum;
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    add(sum, u64::from_ne_bytes(last))
}

/// One's complement addition.
fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(u64::from(carry))
}

/// Adds the carries back in: 64 bits to 33, to 18, to 17, to 16.
fn fold(mut sum: u64) -> u16 {
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
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
