//! The timers of one connection as deadlines in wheel ticks. Three slots serve all purposes,
//! because the purposes exclude each other: `retransmit` is the retransmission timer while data,
//! SYN or FIN is unacknowledged and the persist timer while the peer's window is closed; `ack` is
//! the delayed ACK; `life` is keepalive while established, the FIN-WAIT-2 limit, or 2 MSL in
//! TIME-WAIT. Arming is setting a slot; the stack's wheel looks at the earliest.

use crate::time::{Duration, Instant};

/// A point of time in milliseconds that wraps after 49 days; 0 means never. Deadlines lie less
/// than 24 days ahead, so that comparisons hold across the wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tick(u32);

impl Tick {
    /// Not armed.
    pub const NEVER: Tick = Tick(0);

    /// The tick that contains `now`.
    pub fn at(now: Instant) -> Tick {
        Tick::of_millis(now.as_millis() as u32)
    }

    /// The first tick that is at least `d` after `now`.
    pub fn after(now: Instant, d: Duration) -> Tick {
        let ms = (now + d).as_nanos().div_ceil(1_000_000);
        Tick::of_millis(ms as u32)
    }

    /// Armed.
    pub fn is_armed(self) -> bool {
        self != Tick::NEVER
    }

    /// Armed and not later than `now`.
    pub fn is_due(self, now: Tick) -> bool {
        self.is_armed() && self.until(now) <= 0
    }

    /// Milliseconds from `now` until this tick; negative when past.
    pub fn until(self, now: Tick) -> i32 {
        self.0.wrapping_sub(now.0) as i32
    }

    /// The earlier of two, where never is the latest.
    pub fn earlier(self, other: Tick) -> Tick {
        match (self.is_armed(), other.is_armed()) {
            (true, true) if other.until(self) < 0 => other,
            (true, _) => self,
            (false, _) => other,
        }
    }

    /// So much later.
    pub fn plus(self, d: Duration) -> Tick {
        Tick::of_millis(self.0.wrapping_add(d.as_millis() as u32))
    }

    /// So much earlier.
    pub fn minus(self, d: Duration) -> Tick {
        Tick::of_millis(self.0.wrapping_sub(d.as_millis() as u32))
    }

    /// The bare number, for the wheel's arithmetic.
    pub fn value(self) -> u32 {
        self.0
    }

    /// The tick of a wrapping millisecond; what would be never is the one after it.
    pub(crate) fn of_millis(ms: u32) -> Tick {
        Tick(ms.max(1))
    }
}

/// The deadlines of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timers {
    /// Retransmit or persist.
    pub retransmit: Tick,
    /// Delayed ACK.
    pub ack: Tick,
    /// Keepalive, FIN-WAIT-2 or TIME-WAIT.
    pub life: Tick,
}

impl Timers {
    /// The earliest deadline.
    pub fn next(&self) -> Tick {
        self.retransmit.earlier(self.ack).earlier(self.life)
    }

    /// Disarms all.
    pub fn clear(&mut self) {
        *self = Timers::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_order_across_the_wrap() {
        let before = Tick(u32::MAX - 5);
        let after = Tick(7);
        assert_eq!(after.until(before), 13);
        assert_eq!(before.earlier(after), before);
        assert_eq!(after.earlier(before), before);
        assert_eq!(Tick::NEVER.earlier(after), after);
        assert!(before.is_due(after) && !after.is_due(before) && !Tick::NEVER.is_due(after));
    }

    #[test]
    fn a_deadline_is_never_early() {
        let now = Instant::from_nanos(1_500_000);
        assert_eq!(Tick::after(now, Duration::from_millis(1)), Tick(3));
        assert_eq!(Tick::at(now), Tick(1));
    }
}
