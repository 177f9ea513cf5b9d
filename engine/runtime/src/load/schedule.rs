//! When the next connection is due: a token bucket that is counted in picoseconds, so that no rate
//! drifts. It knows nothing of connections; whether one can be opened when it is due is the
//! generator's business, and what could not be opened is made up for only within [`SLACK`].

use barewire_stack::time::{Duration, Instant};

/// How much lost time may be made up for: a worker that was held up, by the machine or by a full
/// house, is not to start a flood afterwards.
const SLACK: Duration = Duration::from_millis(10);

const PS_PER_NS: u64 = 1_000;

/// Evenly spaced moments.
#[derive(Debug)]
pub(super) struct Schedule {
    origin: Instant,
    /// Picoseconds from one moment to the next; 0 when nothing limits.
    interval: u64,
    /// The next moment, in picoseconds from the origin.
    next: u64,
}

impl Schedule {
    /// `per_second` moments a second from `now` on, or no limit at all.
    pub(super) fn new(per_second: Option<f64>, now: Instant) -> Self {
        // From one in 64 days to 10^9 a second: between 10^3 and 10^19 ps.
        let interval = per_second.map_or(0, |rate| (1e12 / rate) as u64);
        Schedule { origin: now, interval, next: 0 }
    }

    /// The next moment has come.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next() <= now
    }

    /// Takes the moment that is due.
    pub(super) fn take(&mut self, now: Instant) {
        let elapsed = now.since(self.origin).as_nanos().saturating_mul(PS_PER_NS);
        let earliest = elapsed.saturating_sub(SLACK.as_nanos() * PS_PER_NS);
        self.next = self.next.max(earliest).saturating_add(self.interval);
    }

    /// The next moment.
    pub(super) fn next(&self) -> Instant {
        self.origin + Duration::from_nanos(self.next.div_ceil(PS_PER_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(n: u64) -> Instant {
        Instant::from_nanos(7_000_000 + n * 1_000)
    }

    fn take_all(schedule: &mut Schedule, now: Instant) -> i64 {
        let mut n = 0;
        while schedule.is_due(now) {
            schedule.take(now);
            n += 1;
        }
        n
    }

    #[test]
    fn a_rate_is_kept_to_the_last_one() {
        for (rate, step_us) in [(200_000.0, 1), (300_000.0, 50), (7.0, 1_000), (0.5, 100_000)] {
            let mut schedule = Schedule::new(Some(rate), us(0));
            let n: i64 =
                (0..=10_000_000).step_by(step_us).map(|at| take_all(&mut schedule, us(at))).sum();
            let expected = (rate * 10.0) as i64;
            assert!((n - expected).abs() <= 1, "{n} instead of {expected}");
        }
    }

    #[test]
    fn lost_time_is_made_up_for_only_a_little() {
        let mut schedule = Schedule::new(Some(1_000.0), us(0));
        assert_eq!(take_all(&mut schedule, us(0)), 1);
        assert_eq!(schedule.next(), us(1_000));
        let n = take_all(&mut schedule, us(5_000_000));
        assert_eq!(n, 11, "10 ms of arrears and the one that is due");
    }

    #[test]
    fn without_a_rate_it_is_always_time() {
        let mut schedule = Schedule::new(None, us(0));
        for at in [0, 0, 5, 1_000_000] {
            assert!(schedule.is_due(us(at)));
            schedule.take(us(at));
        }
    }
}
