//! How long an adaptive worker that has nothing to do goes on turning before it sleeps. To be woken
//! takes longer than a peer on a quick link takes to answer, so turning pays where answers come soon and
//! this CPU is needed by nobody; it does not where they come late, or where the peer waits for this very
//! CPU. Which of them is the case is learnt from how the last waits ended. No clock is read here.

use barewire_stack::time::{Duration, Instant};

/// The shortest wait: a few turns.
const SPAN_MIN: Duration = Duration::from_micros(2);

/// The longest: about what to fall asleep and be woken costs on a machine that saves power.
const SPAN_MAX: Duration = Duration::from_micros(50);

/// A shorter sleep tells of an answer that may come within the longest wait. It is longer than that wait,
/// for where both ends sleep each answer has two wakings in it, the peer's and our own: neither would
/// ever wait if that were called late.
const SOON: Duration = Duration::from_micros(200);

/// Sleeps without another try, at most, after the longest wait was in vain again and again.
const PAUSE_MAX: u32 = 1024;

/// What a worker has learnt.
#[derive(Debug)]
pub(super) struct Patience {
    /// How long it turns in vain before it sleeps.
    span: Duration,
    idle_since: Option<Instant>,
    /// Sleeps without a longer wait, after the next longest one that is in vain.
    pause: u32,
    pause_left: u32,
}

impl Patience {
    pub(super) fn new() -> Self {
        Patience { span: SPAN_MIN, idle_since: None, pause: 1, pause_left: 0 }
    }

    /// A turn found something to do.
    pub(super) fn on_work(&mut self) {
        if self.idle_since.take().is_some() {
            self.pause = 1;
        }
    }

    /// A turn at `now` found nothing; true when it is time to sleep.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        now.since(*self.idle_since.get_or_insert(now)) >= self.span
    }

    /// A sleep has ended.
    pub(super) fn on_sleep(&mut self, slept: Duration) {
        self.idle_since = None;
        if slept >= SOON {
            self.span = Duration::from_nanos(self.span.as_nanos() / 2).max(SPAN_MIN);
        } else if self.span == SPAN_MAX {
            // It came soon, and yet never while we looked: perhaps because we did.
            self.span = SPAN_MIN;
            self.pause_left = self.pause;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        } else if self.pause_left > 0 {
            self.pause_left -= 1;
        } else {
            self.span = (self.span * 2).min(SPAN_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns of 200 ns, with work `answer` after the last; returns the sleeps of so many answers and
    /// the time spent turning in vain. With `shared` nothing comes before the worker sleeps.
    fn wait_for(
        patience: &mut Patience,
        n: u32,
        answer: Duration,
        shared: bool,
    ) -> (u32, Duration) {
        let turn = Duration::from_nanos(200);
        let (mut now, mut sleeps, mut vain) = (Instant::ZERO, 0, 0);
        for _ in 0..n {
            let begun = now;
            loop {
                now += turn;
                if now - begun >= answer && !shared {
                    patience.on_work();
                    break;
                }
                vain += turn.as_nanos();
                if patience.is_over(now) {
                    let slept = if shared { answer } else { (begun + answer).since(now) };
                    now += slept;
                    sleeps += 1;
                    patience.on_sleep(slept);
                    patience.on_work();
                    break;
                }
            }
        }
        (sleeps, Duration::from_nanos(vain))
    }

    #[test]
    fn answers_that_come_soon_are_waited_for() {
        let mut patience = Patience::new();
        for micros in [3, 10, 40] {
            let (sleeps, _) = wait_for(&mut patience, 1000, Duration::from_micros(micros), false);
            assert!(sleeps < 8, "{sleeps} sleeps with answers after {micros} us");
        }
    }

    /// Both ends of a link begin asleep, and each is woken this much after a frame has come; `n` times
    /// one answers the other. Returns the sleeps of both in the last half.
    fn volley(n: u32, waking: Duration) -> u32 {
        let (turn, reply) = (Duration::from_nanos(200), Duration::from_micros(2));
        let mut ends = [Patience::new(), Patience::new()];
        // When each end began to wait.
        let mut waits_since = [Instant::ZERO; 2];
        let (mut arrives_at, mut sleeps) = (Instant::ZERO + waking, 0);
        for volley in 0..n {
            let to = (volley % 2) as usize;
            let mut now = waits_since[to];
            while now < arrives_at && !ends[to].is_over(now) {
                now += turn;
            }
            if now < arrives_at {
                let begun = now;
                now = arrives_at + waking;
                ends[to].on_sleep(now - begun);
                sleeps += u32::from(volley >= n / 2);
            }
            ends[to].on_work();
            arrives_at = now + reply;
            waits_since[to] = arrives_at;
        }
        sleeps
    }

    #[test]
    fn two_that_sleep_wake_each_other_up_for_good() {
        for micros in [5, 30, 45] {
            let sleeps = volley(200, Duration::from_micros(micros));
            assert_eq!(sleeps, 0, "with wakings of {micros} us");
        }
    }

    #[test]
    fn answers_that_come_late_are_slept_for() {
        let mut patience = Patience::new();
        wait_for(&mut patience, 100, Duration::from_micros(20), false);
        let (sleeps, vain) = wait_for(&mut patience, 1000, Duration::from_millis(1), false);
        assert_eq!(sleeps, 1000);
        assert!(vain < Duration::from_millis(4), "{vain:?} of a second");
        // Soon, but never while one looks.
        let (sleeps, vain) = wait_for(&mut patience, 10_000, Duration::from_micros(100), false);
        assert_eq!(sleeps, 10_000);
        assert!(vain < Duration::from_millis(30), "{vain:?} of a second");
    }

    #[test]
    fn a_peer_that_needs_this_cpu_gets_it() {
        let mut patience = Patience::new();
        let (sleeps, vain) = wait_for(&mut patience, 10_000, Duration::from_micros(20), true);
        assert_eq!(sleeps, 10_000);
        assert!(vain < Duration::from_millis(30), "{vain:?} of 200 ms");
    }
}
