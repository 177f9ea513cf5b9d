//! Slow start as CUBIC wants it (RFC 9438 section 4.10): HyStart++ (RFC 9406). The first slow start of
//! a connection ends when round trips grow, before the queue of the bottleneck overflows and a
//! window's worth of segments is lost at once. It answers by how much the window grows for an ACK;
//! after a loss the threshold is known, and plain slow start runs up to it.

use super::seq::Seq;

/// Bytes that one ACK may add. RFC 9406 section 4.2 allows 8 segments without pacing; but receivers
/// that put segments together (GRO, LRO, our own batches) acknowledge up to 64 KiB at a time, and a
/// smaller limit would never double the window for them.
const LIMIT_BYTES: u32 = 65_536;

/// Samples in a round trip before its smallest one means anything (N_RTT_SAMPLE).
const SAMPLES_MIN: u8 = 8;

/// The growth of the round trip that ends slow start: an eighth of it, within these bounds
/// (MIN_RTT_THRESH and MAX_RTT_THRESH).
const THRESHOLD_US_MIN: u32 = 4_000;
const THRESHOLD_US_MAX: u32 = 16_000;

/// Conservative slow start: a quarter of the growth for at most so many round trips.
const CONSERVATIVE_DIVISOR: u32 = 4;
const CONSERVATIVE_ROUNDS: u8 = 5;

/// What the first slow start of a connection has seen. Times are in microseconds; 0 is none.
#[derive(Debug)]
pub struct SlowStart {
    /// SND.NXT when the round began.
    round_end: Seq,
    /// The smallest round trips of the last round and of this one.
    last_us: u32,
    current_us: u32,
    /// The round trip that ended the fast part; 0 while that goes on.
    baseline_us: u32,
    n_samples: u8,
    conservative_rounds: u8,
}

/// How an ACK grows the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// By so many bytes.
    By(u32),
    /// By so many bytes, and slow start is over.
    Last(u32),
}

/// What slow start is told of an ACK.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// SND.UNA after it.
    pub una: Seq,
    /// SND.NXT.
    pub nxt: Seq,
    /// The round trip that it measured, if any.
    pub rtt_us: Option<u32>,
}

/// By how much `n` acknowledged bytes grow the window in plain slow start (RFC 3465, RFC 9406).
pub fn growth(n: u32, mss: u32) -> u32 {
    n.min(LIMIT_BYTES.max(8 * mss))
}

impl SlowStart {
    /// Nothing was seen.
    pub fn new(iss: Seq) -> Self {
        SlowStart {
            round_end: iss,
            last_us: 0,
            current_us: 0,
            baseline_us: 0,
            n_samples: 0,
            conservative_rounds: 0,
        }
    }

    /// `n` bytes were acknowledged.
    pub fn on_ack(&mut self, round: Round, n: u32, mss: u32) -> Growth {
        if let Some(rtt_us) = round.rtt_us {
            self.n_samples = self.n_samples.saturating_add(1);
            self.current_us =
                if self.current_us == 0 { rtt_us } else { self.current_us.min(rtt_us) };
        }
        let is_known = self.n_samples >= SAMPLES_MIN && self.last_us > 0;
        if self.baseline_us == 0 {
            let threshold = (self.last_us / 8).clamp(THRESHOLD_US_MIN, THRESHOLD_US_MAX);
            if is_known && self.current_us >= self.last_us.saturating_add(threshold) {
                self.baseline_us = self.current_us;
                self.conservative_rounds = 0;
            }
        } else if is_known && self.current_us < self.baseline_us {
            // The round trip has come back: it was no queue.
            self.baseline_us = 0;
        }
        let divisor = if self.baseline_us == 0 { 1 } else { CONSERVATIVE_DIVISOR };
        let bytes = growth(n, mss) / divisor;
        if round.una.ge(self.round_end) && self.ends_round(round.nxt) {
            return Growth::Last(bytes);
        }
        Growth::By(bytes)
    }

    /// A round trip is over; tells whether slow start is.
    fn ends_round(&mut self, nxt: Seq) -> bool {
        self.round_end = nxt;
        self.last_us = self.current_us;
        self.current_us = 0;
        self.n_samples = 0;
        if self.baseline_us == 0 {
            return false;
        }
        self.conservative_rounds += 1;
        self.conservative_rounds >= CONSERVATIVE_ROUNDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1_000;

    /// Numbers wrap in the course of every test.
    const ISS: Seq = Seq(u32::MAX - 20_000);

    /// A round of ten ACKs of one segment each; returns the growth of each and whether it ended.
    fn round(slow_start: &mut SlowStart, at: u32, rtt_us: u32) -> (Vec<u32>, bool) {
        let mut seen = Vec::new();
        let mut ended = false;
        for i in 1..=10 {
            let round = Round {
                una: ISS + (at * 10_000 + i * 1_000),
                nxt: ISS + (at + 2) * 10_000,
                rtt_us: Some(rtt_us),
            };
            let bytes = match slow_start.on_ack(round, MSS, MSS) {
                Growth::By(bytes) => bytes,
                Growth::Last(bytes) => {
                    ended = true;
                    bytes
                }
            };
            seen.push(bytes);
        }
        (seen, ended)
    }

    #[test]
    fn a_steady_round_trip_goes_on_and_a_growing_one_slows_down() {
        let mut slow_start = SlowStart::new(ISS);
        for at in 0..6 {
            let (seen, ended) = round(&mut slow_start, at, 20_000);
            assert!(!ended && seen.iter().all(|&bytes| bytes == MSS), "{seen:?}");
        }
        for at in 6..8 {
            round(&mut slow_start, at, 40_000);
        }
        assert!(slow_start.baseline_us > 0);
        let (seen, _) = round(&mut slow_start, 8, 45_000);
        assert!(seen.iter().all(|&bytes| bytes == MSS / 4), "{seen:?}");
    }

    #[test]
    fn conservative_rounds_end_it_and_a_round_trip_that_comes_back_does_not() {
        let mut slow_start = SlowStart::new(ISS);
        let mut ended_at = None;
        for at in 0..40 {
            let rtt_us = if at < 4 { 20_000 } else { 40_000 };
            if round(&mut slow_start, at, rtt_us).1 {
                ended_at = ended_at.or(Some(at));
            }
        }
        assert!(ended_at.is_some());

        let mut slow_start = SlowStart::new(ISS);
        for at in 0..40 {
            let rtt_us = if (8..10).contains(&at) { 40_000 } else { 20_000 };
            assert!(!round(&mut slow_start, at, rtt_us).1, "round {at}");
        }
    }

    #[test]
    fn one_ack_adds_what_one_reception_may_hold() {
        let mut slow_start = SlowStart::new(ISS);
        let round = Round { una: ISS + 9, nxt: ISS + 99, rtt_us: None };
        assert_eq!(slow_start.on_ack(round, 30_000, MSS), Growth::By(30_000));
        assert_eq!(slow_start.on_ack(round, 300_000, MSS), Growth::By(65_536));
    }
}
