//! What plans are drawn with, on top of [`Dice`]: ranges, chances and choices. Sizes and times are
//! drawn evenly over their orders of magnitude, for faults at 10 us and at 10 s are both wanted.

use crate::dice::{Dice, Ratio};
use crate::time::Duration;

/// A value from `min` to `max`, both possible.
pub(super) fn between(dice: &mut Dice, min: u64, max: u64) -> u64 {
    min + dice.below(max - min + 1)
}

/// A value from `min`, which is not 0, to `max`, each order of magnitude as likely as the others.
pub(super) fn scaled(dice: &mut Dice, min: u64, max: u64) -> u64 {
    let doublings = u64::from((max / min).ilog2()) + 1;
    let low = min << dice.below(doublings);
    between(dice, low, (2 * low).min(max).max(low))
}

/// A span between two, over the orders of magnitude.
pub(super) fn span(dice: &mut Dice, min: Duration, max: Duration) -> Duration {
    Duration::from_nanos(scaled(dice, min.as_nanos(), max.as_nanos()))
}

/// True so many times in a hundred.
pub(super) fn chance(dice: &mut Dice, percent: u32) -> bool {
    dice.happens(Ratio::from_percent(percent))
}

/// One of several.
pub(super) fn pick<T: Copy>(dice: &mut Dice, from: &[T]) -> T {
    from[dice.below(from.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_within_their_bounds() {
        let mut dice = Dice::new(1);
        for _ in 0..10_000 {
            assert!((3..=9).contains(&between(&mut dice, 3, 9)));
            assert!((3..=1000).contains(&scaled(&mut dice, 3, 1000)));
            assert_eq!(scaled(&mut dice, 5, 5), 5);
        }
    }

    #[test]
    fn scaled_draws_are_small_as_often_as_large() {
        let mut dice = Dice::new(2);
        let n = (0..10_000).filter(|_| scaled(&mut dice, 1, 1 << 20) < 1 << 10).count();
        assert!((4_000..6_000).contains(&n), "{n}");
    }
}
