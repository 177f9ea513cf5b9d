//! The bytes of generated bodies: byte number `i` of every body is the exclusive or of the three
//! low bytes of `i`, so that a client which knows nothing but this sentence can check what it got,
//! and a block that is lost, doubled or shifted is noticed wherever it lies. No buffer holds a
//! body.

/// Byte number `offset` of every generated body.
pub const fn byte(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 16)) as u8
}

/// Writes the bytes from `offset` on.
pub fn fill(offset: u64, buf: &mut [u8]) {
    let (mut at, mut rest) = (offset, buf);
    while !rest.is_empty() {
        // Within 256 bytes only the lowest changes, so that a step writes a whole register.
        let mut low = at as u8;
        let others = byte(at) ^ low;
        let n = rest.len().min(256 - usize::from(low));
        let (block, tail) = rest.split_at_mut(n);
        for place in block {
            *place = low ^ others;
            low = low.wrapping_add(1);
        }
        at += n as u64;
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_cut_up() {
        let mut whole = vec![0; 1 << 17];
        fill(0, &mut whole);
        let mut piece = [0; 777];
        fill(65_500, &mut piece);
        assert_eq!(whole[65_500..][..777], piece);
        assert!((0..).zip(&whole).all(|(at, &found)| found == byte(at)));
        assert_eq!((whole[5], whole[256], whole[65_536], whole[65_793]), (5, 1, 1, 1));
    }
}
