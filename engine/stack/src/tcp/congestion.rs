//! How much may be in flight: slow start from the initial window of RFC 6928, the first one with
//! HyStart++ (RFC 9406), congestion avoidance by CUBIC (RFC 9438) or NewReno, reductions by
//! PRR (RFC 6937), and the validation of a window that is not used (RFC 7661). It counts bytes; what
//! was lost, what is sent again and when is decided in `recovery` and `output`.

use super::config::CongestionControl;
use super::cubic::Cubic;
use super::prr::Prr;
use super::seq::Seq;
use super::slow_start::{self, Growth, Round, SlowStart};
use super::timer::Tick;

/// How long a window that is not used stays valid (the non-validated period of RFC 7661 section
/// 4.4.1), in milliseconds.
const NOT_VALIDATED_MS: i32 = 300_000;

/// What the sender is doing about loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is known to be lost.
    Open,
    /// The window is being reduced because the network marked segments (RFC 3168).
    Reduced,
    /// Fast recovery.
    Recovery,
    /// After a retransmission timeout.
    Loss,
}

impl Phase {
    /// One word, as users see it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Open => "open",
            Phase::Reduced => "reduced",
            Phase::Recovery => "recovery",
            Phase::Loss => "loss",
        }
    }
}

/// Congestion state of one connection, in bytes.
#[derive(Debug)]
pub struct Congestion {
    /// Congestion window.
    pub cwnd: u32,
    /// Slow start threshold; above it congestion avoidance.
    pub ssthresh: u32,
    phase: Phase,
    /// SND.NXT when the phase began; it ends when that is acknowledged.
    recover: Seq,
    /// Acknowledged bytes that have not yet grown NewReno's window.
    acked: u32,
    slow_start: SlowStart,
    cubic: Cubic,
    prr: Prr,
    /// What the last recovery took away, while it may turn out to have been needless.
    undo: Undo,
    /// When the window was last seen to be used.
    validated_at: Tick,
}

/// A reduction that is taken back if every retransmission proves to have been a duplicate: then
/// nothing was lost, and segments only changed places on the way (RFC 2883 section 5).
#[derive(Debug, Default)]
struct Undo {
    cwnd: u32,
    ssthresh: u32,
    /// Bytes sent again that no DSACK has answered; 0 also when there is nothing to take back.
    unanswered: u32,
}

/// What is needed of a connection to grow its window.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// The time.
    pub now: Tick,
    /// Bytes newly acknowledged.
    pub n: u32,
    /// Smoothed round trip in milliseconds.
    pub rtt_ms: u32,
    /// Bytes of a full segment.
    pub mss: u32,
    /// What the first slow start looks at.
    pub round: Round,
}

impl Congestion {
    /// The state at the start, before the handshake has told the segment size.
    pub fn new(iss: Seq) -> Self {
        Congestion {
            cwnd: 0,
            ssthresh: u32::MAX,
            phase: Phase::Open,
            recover: iss,
            acked: 0,
            slow_start: SlowStart::new(iss),
            cubic: Cubic::default(),
            prr: Prr::default(),
            undo: Undo::default(),
            validated_at: Tick::NEVER,
        }
    }

    /// What the sender is doing about loss.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The number whose acknowledgement ends the phase.
    pub fn recover(&self) -> Seq {
        self.recover
    }

    /// The handshake is complete: sets the initial window. A lost SYN leaves one segment.
    pub fn on_handshake(&mut self, mss: u32, segments: u32, syn_retransmitted: bool, now: Tick) {
        self.cwnd = if syn_retransmitted { mss } else { initial_window(mss, segments) };
        self.validated_at = now;
    }

    /// When the window was last seen to be used.
    pub fn validated_at(&self) -> Tick {
        self.validated_at
    }

    /// What a connection that slept knew.
    pub fn restore(&mut self, cwnd: u32, ssthresh: u32, validated_at: Tick) {
        (self.cwnd, self.ssthresh, self.validated_at) = (cwnd, ssthresh, validated_at);
    }

    /// With no more than `in_flight` bytes the window was not used, so that it may not grow: half of it
    /// in flight proves it (RFC 7661).
    #[inline]
    pub fn is_unused(&mut self, in_flight: u32, mss: u32) -> bool {
        let is_unused = in_flight.saturating_add(mss) < self.cwnd / 2;
        if is_unused {
            self.cubic.pause();
        }
        is_unused
    }

    /// New data was acknowledged, no reduction goes on, and the window was used: it grows.
    pub fn on_ack(&mut self, control: CongestionControl, acked: &Acked) {
        self.validated_at = acked.now;
        if self.cwnd < self.ssthresh {
            self.grow_slowly(acked);
            return;
        }
        let gain = match control {
            CongestionControl::Cubic => {
                let now_ms = acked.now.value();
                self.cubic.grow(now_ms, acked.rtt_ms, self.cwnd, acked.n, acked.mss)
            }
            CongestionControl::NewReno => self.grow_by_one(acked.n, acked.mss),
        };
        self.cwnd = self.cwnd.saturating_add(gain);
    }

    /// Segments are lost (`Phase::Recovery`) or were marked (`Phase::Reduced`): the threshold falls,
    /// once per window, and the window follows it by PRR.
    pub fn reduce(
        &mut self,
        control: CongestionControl,
        to: Phase,
        nxt: Seq,
        in_flight: u32,
        mss: u32,
    ) {
        // A mark of the network is never taken back.
        self.undo = if to == Phase::Recovery {
            Undo { cwnd: self.cwnd, ssthresh: self.ssthresh, unanswered: 0 }
        } else {
            Undo::default()
        };
        if self.phase == Phase::Open {
            self.lower_threshold(control, in_flight, mss);
            self.prr = Prr::new(in_flight);
        }
        self.phase = to;
        self.recover = nxt;
    }

    /// An ACK in a reduction: `delivered` bytes reached the receiver, `pipe` are in flight, and
    /// `progress` says that nothing more was found to be lost.
    pub fn on_reduction_ack(&mut self, delivered: u32, pipe: u32, mss: u32, progress: bool) {
        let n = self.prr.allowance(delivered, pipe, self.ssthresh, mss, progress);
        self.cwnd = pipe.saturating_add(n);
    }

    /// Bytes were sent.
    pub fn on_sent(&mut self, n: u32) {
        if matches!(self.phase, Phase::Recovery | Phase::Reduced) {
            self.prr.on_sent(n);
        }
    }

    /// `n` bytes were sent again.
    pub fn on_resent(&mut self, n: u32) {
        self.on_sent(n);
        if self.phase == Phase::Recovery {
            self.undo.unanswered = self.undo.unanswered.saturating_add(n);
        }
    }

    /// The receiver got `n` bytes twice. When that holds for all that recovery sent again, the window
    /// is what it was before; tells whether that is so now.
    pub fn on_duplicate(&mut self, n: u32) -> bool {
        if self.undo.unanswered == 0 || self.phase == Phase::Loss {
            return false;
        }
        self.undo.unanswered = self.undo.unanswered.saturating_sub(n);
        if self.undo.unanswered > 0 {
            return false;
        }
        self.cwnd = self.cwnd.max(self.undo.cwnd);
        self.ssthresh = self.ssthresh.max(self.undo.ssthresh);
        self.phase = Phase::Open;
        true
    }

    /// `una` is acknowledged: tells whether that ends a phase.
    pub fn ends_phase(&mut self, una: Seq) -> bool {
        if self.phase == Phase::Open || una.lt(self.recover) {
            return false;
        }
        if self.phase != Phase::Loss {
            self.cwnd = self.ssthresh;
        }
        self.phase = Phase::Open;
        true
    }

    /// The lone loss that a probe repaired (RFC 8985 section 7.4.2): the window is reduced as in a
    /// recovery that is over at once.
    pub fn on_repaired(&mut self, control: CongestionControl, in_flight: u32, mss: u32) {
        self.lower_threshold(control, in_flight, mss);
        self.cwnd = self.ssthresh;
    }

    /// The retransmission timer ran out (RFC 5681 section 3.1): one segment, and a lower threshold
    /// unless the segment is one that a timeout has sent again before. What is in flight counts only
    /// as far as the window has not been reduced below it already.
    pub fn on_timeout(
        &mut self,
        control: CongestionControl,
        nxt: Seq,
        in_flight: u32,
        mss: u32,
        first: bool,
    ) {
        self.undo = Undo::default();
        if first {
            self.lower_threshold(control, in_flight.min(self.cwnd), mss);
        }
        self.cwnd = mss;
        self.phase = Phase::Loss;
        self.recover = nxt;
    }

    /// Data follow an idle time: for every five minutes in which the window was not used, half of
    /// it is forgotten, down to the initial one, and the threshold remembers it (RFC 7661 sections
    /// 4.4.1 and 4.4.3).
    pub fn on_idle(&mut self, now: Tick, mss: u32, segments: u32) {
        let unused_ms = now.until(self.validated_at);
        if (0..NOT_VALIDATED_MS).contains(&unused_ms) {
            return;
        }
        let floor = initial_window(mss, segments);
        self.cubic.pause();
        // Negative means more than 24 days; no window needs more halvings than 31.
        let periods = if unused_ms < 0 { 31 } else { (unused_ms / NOT_VALIDATED_MS).min(31) };
        self.validated_at = now;
        if self.cwnd > floor {
            self.ssthresh = self.ssthresh.max(self.cwnd / 4 * 3);
            self.cwnd = (self.cwnd >> periods).max(floor);
        }
    }

    /// Equation 4 of RFC 5681: a share of what is in flight, at least two segments.
    fn lower_threshold(&mut self, control: CongestionControl, in_flight: u32, mss: u32) {
        let threshold = match control {
            CongestionControl::Cubic => self.cubic.reduce(self.cwnd, in_flight),
            CongestionControl::NewReno => in_flight / 2,
        };
        self.ssthresh = threshold.max(2 * mss);
        self.acked = 0;
    }

    /// Slow start, up to a threshold that a loss has taught, or with an eye on the round trip.
    fn grow_slowly(&mut self, acked: &Acked) {
        let bytes = if self.ssthresh < u32::MAX {
            slow_start::growth(acked.n, acked.mss)
        } else {
            match self.slow_start.on_ack(acked.round, acked.n, acked.mss) {
                Growth::By(bytes) => bytes,
                Growth::Last(bytes) => {
                    self.ssthresh = self.cwnd.saturating_add(bytes);
                    bytes
                }
            }
        };
        self.cwnd = self.cwnd.saturating_add(bytes);
    }

    /// One segment for a window of acknowledgements (RFC 5681 section 3.1).
    fn grow_by_one(&mut self, n: u32, mss: u32) -> u32 {
        self.acked = self.acked.saturating_add(n);
        if self.acked < self.cwnd {
            return 0;
        }
        self.acked -= self.cwnd;
        mss
    }
}

/// RFC 6928 section 2: so many segments, but no more than max(2 MSS, 14600) bytes.
fn initial_window(mss: u32, segments: u32) -> u32 {
    (segments * mss).min((2 * mss).max(14_600)).max(mss)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Duration, Instant};

    const MSS: u32 = 1000;
    const RENO: CongestionControl = CongestionControl::NewReno;

    fn at(s: u64) -> Tick {
        Tick::at(Instant::ZERO + Duration::from_secs(s))
    }

    fn open() -> Congestion {
        let mut cc = Congestion::new(Seq(0));
        cc.on_handshake(MSS, 10, false, at(1));
        cc
    }

    fn on_ack(cc: &mut Congestion, n: u32, in_flight: u32) {
        let round = Round { una: Seq(0), nxt: Seq(1), rtt_us: None };
        if !cc.is_unused(in_flight, MSS) {
            cc.on_ack(RENO, &Acked { now: at(1), n, rtt_ms: 1, mss: MSS, round });
        }
    }

    #[test]
    fn the_initial_window_follows_rfc_6928() {
        assert_eq!(open().cwnd, 10_000);
        let mut cc = Congestion::new(Seq(0));
        cc.on_handshake(1460, 10, false, at(1));
        assert_eq!(cc.cwnd, 14_600);
        cc.on_handshake(9000, 10, false, at(1));
        assert_eq!(cc.cwnd, 18_000);
        cc.on_handshake(1460, 10, true, at(1));
        assert_eq!(cc.cwnd, 1460);
    }

    #[test]
    fn slow_start_counts_bytes_not_acks() {
        let mut cc = open();
        for _ in 0..1000 {
            on_ack(&mut cc, 1, 10_000);
        }
        assert_eq!(cc.cwnd, 11_000);
        on_ack(&mut cc, 9_000, 10_000);
        assert_eq!(cc.cwnd, 20_000);
    }

    #[test]
    fn new_reno_adds_one_segment_per_window() {
        let mut cc = open();
        cc.ssthresh = 10_000;
        for _ in 0..10 {
            on_ack(&mut cc, 1000, 10_000);
        }
        assert_eq!(cc.cwnd, 11_000);
    }

    #[test]
    fn a_recovery_reduces_once_and_ends_at_the_threshold() {
        for (control, threshold) in [(RENO, 5_000), (CongestionControl::Cubic, 7_000)] {
            let mut cc = open();
            cc.reduce(control, Phase::Recovery, Seq(10_000), 10_000, MSS);
            assert_eq!((cc.ssthresh, cc.phase()), (threshold, Phase::Recovery));
            cc.reduce(control, Phase::Recovery, Seq(12_000), 10_000, MSS);
            assert_eq!(cc.ssthresh, threshold);
            assert!(!cc.ends_phase(Seq(11_999)) && cc.ends_phase(Seq(12_000)));
            assert_eq!((cc.cwnd, cc.phase()), (threshold, Phase::Open));
        }
    }

    #[test]
    fn a_recovery_that_was_needless_is_taken_back_once_all_of_it_is_known_to_be() {
        let mut cc = open();
        cc.reduce(RENO, Phase::Recovery, Seq(10_000), 10_000, MSS);
        cc.on_resent(MSS);
        cc.on_resent(MSS);
        assert!(!cc.on_duplicate(MSS));
        assert!(cc.ends_phase(Seq(10_000)) && cc.cwnd == 5_000);
        assert!(cc.on_duplicate(MSS));
        assert_eq!((cc.cwnd, cc.ssthresh, cc.phase()), (10_000, u32::MAX, Phase::Open));
        assert!(!cc.on_duplicate(MSS), "once");

        cc.reduce(RENO, Phase::Recovery, Seq(20_000), 10_000, MSS);
        cc.on_resent(MSS);
        cc.on_timeout(RENO, Seq(20_000), 10_000, MSS, true);
        assert!(!cc.on_duplicate(MSS), "not after a timeout");
    }

    #[test]
    fn a_timeout_leaves_one_segment_and_a_second_one_the_threshold() {
        let mut cc = open();
        cc.on_timeout(RENO, Seq(10_000), 10_000, MSS, true);
        assert_eq!((cc.cwnd, cc.ssthresh), (1000, 5000));
        cc.on_timeout(RENO, Seq(10_000), 1000, MSS, false);
        assert_eq!(cc.ssthresh, 5000);
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut cc = open();
        on_ack(&mut cc, 64, 64);
        assert_eq!(cc.cwnd, 10_000);
    }

    #[test]
    fn an_idle_window_is_kept_five_minutes_and_then_halved() {
        let mut cc = open();
        cc.cwnd = 100_000;
        cc.ssthresh = 50_000;
        cc.on_idle(at(299), MSS, 10);
        assert_eq!(cc.cwnd, 100_000);
        cc.on_idle(at(302), MSS, 10);
        assert_eq!((cc.cwnd, cc.ssthresh), (50_000, 75_000));
        cc.on_idle(at(302 + 3_000), MSS, 10);
        assert_eq!(cc.cwnd, 10_000, "never below the initial window");
    }
}
