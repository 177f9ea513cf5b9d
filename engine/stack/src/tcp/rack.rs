//! Loss detection by time (RACK, RFC 8985): a segment is lost when one that was sent later has been
//! delivered and a reordering window has passed since. This is what RACK remembers of a connection
//! and how it judges one segment; the segments are in the scoreboard, the reaction in `recovery`.
//! Times are microseconds that wrap after 71 minutes, which no segment in flight waits.

use super::scoreboard::Segment;
use super::seq::Seq;

/// Segments received out of order before reordering is no longer given the benefit of the doubt
/// (the DupThresh of RFC 8985 section 6.2 step 4).
const DUP_THRESH: u32 = 3;

/// Recoveries without a DSACK after which the reordering window is reset.
const REO_WND_PERSIST: u8 = 16;

/// How long the smallest round trip is believed, in milliseconds; paths change.
const MIN_RTT_MS: u32 = 300_000;

/// What RACK knows of one connection.
#[derive(Debug)]
pub struct Rack {
    /// Sending time and end of the segment that was sent last among those delivered.
    xmit_us: u32,
    end: Seq,
    /// Its round trip; 0 before the first delivery.
    rtt_us: u32,
    /// The smallest round trip of the last minutes, and when it was seen.
    min_rtt_us: u32,
    min_rtt_ms: u32,
    /// The highest number delivered (RACK.fack).
    fack: Seq,
    /// A segment below `fack` was delivered that had been sent once only.
    reordering: bool,
    /// Quarters of the smallest round trip in the reordering window.
    reo_wnd_mult: u8,
    reo_wnd_persist: u8,
    /// SND.NXT when the window last grew: it grows once a round trip.
    dsack_round: Seq,
}

/// What RACK thinks of a segment in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// Nothing that was sent later has been delivered.
    Unknown,
    /// It is lost unless it is delivered within so many microseconds.
    Waiting(u32),
    /// It is lost.
    Lost,
}

impl Rack {
    /// Nothing was delivered yet.
    pub fn new(iss: Seq) -> Self {
        Rack {
            xmit_us: 0,
            end: iss,
            rtt_us: 0,
            min_rtt_us: 0,
            min_rtt_ms: 0,
            fack: iss,
            reordering: false,
            reo_wnd_mult: 1,
            reo_wnd_persist: 0,
            dsack_round: iss,
        }
    }

    /// The smallest round trip of the last minutes; 0 before the first.
    pub fn min_rtt_us(&self) -> u32 {
        self.min_rtt_us
    }

    /// `segment` was delivered at `now_us` (RFC 8985 section 6.2 steps 1 to 3). Returns its round
    /// trip, if it is one.
    pub fn on_delivered(&mut self, segment: &Segment, now_us: u32) -> Option<u32> {
        if segment.end().gt(self.fack) {
            self.fack = segment.end();
        } else if segment.end().lt(self.fack) && !segment.retransmitted {
            self.reordering = true;
        }
        let rtt_us = now_us.wrapping_sub(segment.sent_us).max(1);
        if segment.retransmitted && rtt_us < self.min_rtt_us {
            // Too soon: this acknowledges an earlier transmission.
            return None;
        }
        if !segment.retransmitted {
            self.note_min_rtt(rtt_us, now_us / 1_000);
        }
        if self.rtt_us == 0 || sent_after(segment.sent_us, segment.end(), self.xmit_us, self.end) {
            self.xmit_us = segment.sent_us;
            self.end = segment.end();
            self.rtt_us = rtt_us;
        }
        (!segment.retransmitted).then_some(rtt_us)
    }

    /// The only segment in flight, sent once, was delivered after `rtt_us`: what it says is forgotten with
    /// it, but for its round trip.
    #[inline]
    pub fn on_lone_delivered(&mut self, segment: &Segment, rtt_us: u32, now_us: u32) {
        (self.fack, self.end, self.xmit_us) = (segment.end(), segment.end(), segment.sent_us);
        self.note_min_rtt(rtt_us, now_us / 1_000);
        self.forget_delivered();
    }

    /// The receiver got something twice: something was sent again too early, so the window grows,
    /// once per round trip and for the next 16 recoveries (section 6.2 step 4).
    pub fn on_dsack(&mut self, una: Seq, nxt: Seq) {
        if una.lt(self.dsack_round) {
            return;
        }
        self.dsack_round = nxt;
        self.reo_wnd_mult = self.reo_wnd_mult.saturating_add(1);
        self.reo_wnd_persist = REO_WND_PERSIST;
    }

    /// What was delivered last says nothing of what is sent from now on: nothing is in flight any
    /// more, or a timeout has judged it. Kept for half an hour it would lie ahead of the clock.
    pub fn forget_delivered(&mut self) {
        self.rtt_us = 0;
    }

    /// A recovery or a timeout is over.
    pub fn on_recovered(&mut self) {
        self.reo_wnd_persist = self.reo_wnd_persist.saturating_sub(1);
        if self.reo_wnd_persist == 0 {
            self.reo_wnd_mult = 1;
        }
    }

    /// How long after the round trip a segment may still arrive (section 6.2 step 4). `srtt_us` is
    /// its bound; `in_recovery` and many segments out of order leave no doubt unless reordering was
    /// seen before.
    pub fn reo_wnd_us(&self, srtt_us: u32, n_sacked: u32, in_recovery: bool) -> u32 {
        if !self.reordering && (in_recovery || n_sacked >= DUP_THRESH) {
            return 0;
        }
        (u32::from(self.reo_wnd_mult).saturating_mul(self.min_rtt_us) / 4).min(srtt_us)
    }

    /// What is to be thought of `segment` (section 6.2 step 5).
    pub fn judge(&self, segment: &Segment, now_us: u32, reo_wnd_us: u32) -> Opinion {
        if self.rtt_us == 0 || !sent_after(self.xmit_us, self.end, segment.sent_us, segment.end()) {
            return Opinion::Unknown;
        }
        let limit = u64::from(self.rtt_us) + u64::from(reo_wnd_us);
        match limit.saturating_sub(u64::from(now_us.wrapping_sub(segment.sent_us))) {
            0 => Opinion::Lost,
            left => Opinion::Waiting(u32::try_from(left).unwrap_or(u32::MAX)),
        }
    }

    /// The time a segment has had if a timeout takes it for lost too (section 6.3).
    pub fn is_overdue(&self, segment: &Segment, now_us: u32, reo_wnd_us: u32) -> bool {
        let limit = u64::from(self.rtt_us) + u64::from(reo_wnd_us);
        u64::from(now_us.wrapping_sub(segment.sent_us)) >= limit
    }

    fn note_min_rtt(&mut self, rtt_us: u32, now_ms: u32) {
        // The clock of microseconds wraps, and this one with it: at worst the value is renewed.
        let is_old = now_ms.wrapping_sub(self.min_rtt_ms) > MIN_RTT_MS;
        if self.min_rtt_us == 0 || rtt_us <= self.min_rtt_us || is_old {
            self.min_rtt_us = rtt_us;
            self.min_rtt_ms = now_ms;
        }
    }
}

/// RACK_sent_after: by time, and by number among those sent at the same time.
fn sent_after(us: u32, end: Seq, other_us: u32, other_end: Seq) -> bool {
    let later = us.wrapping_sub(other_us) as i32;
    later > 0 || (later == 0 && end.gt(other_end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::scoreboard::Fate;

    fn segment(start: u32, sent_us: u32) -> Segment {
        Segment { start: Seq(start), len: 100, sent_us, fate: Fate::InFlight, retransmitted: false }
    }

    #[test]
    fn what_was_sent_before_a_delivered_segment_waits_and_is_then_lost() {
        let mut rack = Rack::new(Seq(0));
        assert_eq!(rack.judge(&segment(0, 10), 9_999, 0), Opinion::Unknown);
        rack.on_delivered(&segment(100, 20), 1_020);
        let reo_wnd = rack.reo_wnd_us(1_000, 1, false);
        assert_eq!(reo_wnd, 250);
        assert_eq!(rack.judge(&segment(0, 10), 1_020, reo_wnd), Opinion::Waiting(240));
        assert_eq!(rack.judge(&segment(0, 10), 1_260, reo_wnd), Opinion::Lost);
        assert_eq!(rack.judge(&segment(200, 20), 9_999, reo_wnd), Opinion::Unknown);
        assert_eq!(rack.reo_wnd_us(1_000, 3, false), 0, "three out of order leave no doubt");
    }

    #[test]
    fn reordering_keeps_the_window_open() {
        let mut rack = Rack::new(Seq(0));
        rack.on_delivered(&segment(100, 20), 1_020);
        rack.on_delivered(&segment(0, 10), 1_030);
        assert!(rack.reordering);
        assert_eq!(rack.reo_wnd_us(1_000, 5, true), 250);
    }

    #[test]
    fn duplicates_widen_the_window_once_a_round_and_sixteen_recoveries_reset_it() {
        let mut rack = Rack::new(Seq(0));
        rack.on_delivered(&segment(0, 0), 1_000);
        rack.on_dsack(Seq(100), Seq(500));
        rack.on_dsack(Seq(200), Seq(600));
        assert_eq!(rack.reo_wnd_us(10_000, 1, false), 500);
        rack.on_dsack(Seq(500), Seq(900));
        assert_eq!(rack.reo_wnd_us(10_000, 1, false), 750);
        assert_eq!(rack.reo_wnd_us(600, 1, false), 600, "never more than the round trip");
        for _ in 0..16 {
            rack.on_recovered();
        }
        assert_eq!(rack.reo_wnd_us(10_000, 1, false), 250);
    }

    #[test]
    fn an_acknowledgement_of_the_first_transmission_says_nothing_of_the_second() {
        let mut rack = Rack::new(Seq(0));
        rack.on_delivered(&segment(0, 0), 1_000);
        let again = Segment { retransmitted: true, ..segment(100, 5_000) };
        assert_eq!(rack.on_delivered(&again, 5_100), None);
        assert_eq!(rack.judge(&segment(200, 4_000), 99_000, 0), Opinion::Unknown);
        assert_eq!(rack.on_delivered(&again, 6_100), None, "and never gives a round trip (Karn)");
        assert_eq!(rack.judge(&segment(200, 4_000), 99_000, 0), Opinion::Lost);
    }
}
