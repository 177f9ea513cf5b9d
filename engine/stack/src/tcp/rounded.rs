//! Numbers in fewer bits than they need: a power of two and the first few digits, as in floating
//! point, without a sign. Small ones are exact. For what a connection that sleeps remembers of its
//! path, where the sixteenth part of a value does not matter and a million copies do.

/// `value` rounded down, with `digits` binary digits after the leading one.
pub(super) fn down(value: u32, digits: u32) -> u32 {
    if value < 1 << digits {
        return value;
    }
    let shift = value.ilog2() - digits;
    (shift << digits) + (value >> shift)
}

/// `value` rounded up.
pub(super) fn up(value: u32, digits: u32) -> u32 {
    let code = down(value, digits);
    if exact(code, digits) < value { code + 1 } else { code }
}

/// The value of a code.
pub(super) fn exact(code: u32, digits: u32) -> u32 {
    if code < 1 << digits {
        return code;
    }
    let (shift, rest) = ((code >> digits) - 1, code & ((1 << digits) - 1));
    u32::try_from(((1u64 << digits) + u64::from(rest)) << shift).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_comes_back_is_near_and_on_the_right_side(value: u32, digits in 3u32..=11) {
            let (low, high) = (exact(down(value, digits), digits), exact(up(value, digits), digits));
            prop_assert!(low <= value && value <= high);
            prop_assert!(u64::from(high - low) <= u64::from(value) >> digits);
            prop_assert_eq!(exact(down(low, digits), digits), low);
        }
    }

    #[test]
    fn small_ones_are_exact_and_the_largest_fit() {
        for value in 0..=31 {
            assert_eq!(exact(down(value, 4), 4), value);
        }
        assert!(
            down(u32::MAX, 11) <= u32::from(u16::MAX) && up(u32::MAX, 11) <= u32::from(u16::MAX)
        );
        assert!(up(u32::MAX, 3) <= 255 && up(0xffff, 4) <= 255);
    }
}
