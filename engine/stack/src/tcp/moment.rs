//! One point of time in every unit that a connection counts in: a turn is divided into milliseconds and
//! microseconds once, and not again by each segment. It is a value, not a clock.

use super::timer::Tick;
use crate::time::{Duration, Instant};

/// The time of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    at: Instant,
    /// The tick that contains it.
    pub tick: Tick,
    /// Its millisecond, wrapping after 49 days.
    pub ms: u32,
    /// Its microsecond, wrapping after 71 minutes: longer than any segment waits.
    pub us: u32,
    /// What has passed of the millisecond, in microseconds rounded up.
    part_us: u32,
}

impl Moment {
    /// `now`.
    pub fn of(now: Instant) -> Self {
        let ms = now.as_millis();
        let part_us = (now.as_nanos() - ms * 1_000_000).div_ceil(1_000) as u32;
        let us = (now.as_nanos() / 1_000) as u32;
        Moment { at: now, tick: Tick::at(now), ms: ms as u32, us, part_us }
    }

    /// Time has come to `now`, or stands still.
    #[inline]
    pub fn reach(&mut self, now: Instant) -> &Moment {
        if self.at != now {
            self.divide(now);
        }
        self
    }

    /// Out of line, or every caller would divide before it knows whether it has to.
    #[cold]
    #[inline(never)]
    fn divide(&mut self, now: Instant) {
        *self = Moment::of(now);
    }

    /// The first tick that is at least `d` later.
    pub fn after(&self, d: Duration) -> Tick {
        Tick::after(self.at, d)
    }

    /// As [`Moment::after`], for microseconds.
    #[inline]
    pub fn after_us(&self, us: u64) -> Tick {
        let ms = us.saturating_add(u64::from(self.part_us) + 999) / 1_000;
        Tick::of_millis(self.ms.wrapping_add(ms as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However it is asked, a deadline is the same.
        #[test]
        fn microseconds_are_those_of_a_duration(ns in any::<u64>(), us in 0u64..1 << 40) {
            let now = Instant::from_nanos(ns / 2);
            let moment = Moment::of(now);
            prop_assert_eq!(moment.after_us(us), Tick::after(now, Duration::from_micros(us)));
            prop_assert_eq!(moment.tick, Tick::at(now));
        }
    }
}
