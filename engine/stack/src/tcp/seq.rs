//! Sequence numbers: 32 bits that wrap (RFC 9293 section 3.4). Comparisons hold for numbers less
//! than 2^31 apart, which the largest window (2^30) guarantees for everything compared here.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A TCP sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Seq(pub u32);

impl Seq {
    /// Before `other` in sequence space.
    pub fn lt(self, other: Seq) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Before or at `other`.
    pub fn le(self, other: Seq) -> bool {
        (self.0.wrapping_sub(other.0) as i32) <= 0
    }

    /// After `other`.
    pub fn gt(self, other: Seq) -> bool {
        other.lt(self)
    }

    /// After or at `other`.
    pub fn ge(self, other: Seq) -> bool {
        other.le(self)
    }

    /// The later of the two.
    pub fn max(self, other: Seq) -> Seq {
        if self.lt(other) { other } else { self }
    }

    /// The earlier of the two.
    pub fn min(self, other: Seq) -> Seq {
        if self.lt(other) { self } else { other }
    }
}

impl Add<u32> for Seq {
    type Output = Seq;
    fn add(self, n: u32) -> Seq {
        Seq(self.0.wrapping_add(n))
    }
}

impl AddAssign<u32> for Seq {
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}

impl Sub for Seq {
    type Output = u32;
    /// The distance from `earlier` up to `self`, modulo 2^32.
    fn sub(self, earlier: Seq) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

impl Sub<u32> for Seq {
    type Output = Seq;
    fn sub(self, n: u32) -> Seq {
        Seq(self.0.wrapping_sub(n))
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let (before, after) = (Seq(u32::MAX - 1), Seq(3));
        assert!(before.lt(after) && after.gt(before) && before.le(before) && after.ge(after));
        assert_eq!(after - before, 5);
        assert_eq!(before + 5, after);
        assert_eq!(before.max(after), after);
        assert_eq!(before.min(after), before);
    }
}
