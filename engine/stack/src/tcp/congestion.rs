//! How much may be in flight: slow start and congestion avoidance (RFC 5681), the initial window of
//! ten segments (RFC 6928), byte counting (RFC 3465, L = 2) and NewReno fast recovery (RFC 6582).
//! It counts bytes and sequence numbers; what is sent again, and when, is decided in `output`.

use super::seq::Seq;

/// Duplicate ACKs that begin a fast retransmit (RFC 5681 section 3.2).
const DUP_ACKS: u8 = 3;

/// Congestion state of one connection, in bytes.
#[derive(Debug)]
pub struct Congestion {
    /// Congestion window.
    pub cwnd: u32,
    /// Slow start threshold; above it congestion avoidance.
    pub ssthresh: u32,
    /// Acknowledged bytes that have not yet grown the window (congestion avoidance).
    acked: u32,
    /// SND.NXT when recovery began; recovery ends when it is acknowledged (RFC 6582).
    recover: Seq,
    /// Consecutive duplicate ACKs.
    pub dup_acks: u8,
    /// Inside fast recovery.
    pub in_recovery: bool,
}

/// What an acknowledgement asks of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing beyond the window.
    None,
    /// Send the segment at SND.UNA again now.
    Retransmit,
}

impl Congestion {
    /// The state at the start, before the handshake has told the segment size.
    pub fn new(iss: Seq) -> Self {
        Congestion {
            cwnd: 0,
            ssthresh: u32::MAX,
            acked: 0,
            recover: iss,
            dup_acks: 0,
            in_recovery: false,
        }
    }

    /// The handshake is complete: sets the initial window. RFC 6928 section 2 limits it to
    /// max(2 MSS, 14600) bytes too; a lost SYN leaves one segment.
    pub fn on_handshake(&mut self, mss: u32, segments: u32, syn_retransmitted: bool) {
        self.cwnd = if syn_retransmitted {
            mss
        } else {
            (segments * mss).min((2 * mss).max(14_600)).max(mss)
        };
    }

    /// `n` bytes were newly acknowledged up to `una`; `in_flight` bytes were out before that.
    pub fn on_ack(&mut self, una: Seq, n: u32, mss: u32, in_flight: u32) -> Reaction {
        self.dup_acks = 0;
        if self.in_recovery {
            if una.ge(self.recover) {
                // Full acknowledgement: deflate (RFC 6582 section 3.2 step 3, first option).
                self.in_recovery = false;
                self.cwnd = self.ssthresh.min((in_flight.saturating_sub(n)).max(mss) + mss);
                return Reaction::None;
            }
            // Partial acknowledgement: the next hole is lost too. Deflate by what was acknowledged
            // and add one segment back.
            self.cwnd = self.cwnd.saturating_sub(n).max(mss);
            if n >= mss {
                self.cwnd += mss;
            }
            return Reaction::Retransmit;
        }
        // A window that was not used is not proven and does not grow (RFC 7661 in spirit).
        if in_flight.saturating_add(mss) < self.cwnd / 2 {
            return Reaction::None;
        }
        if self.cwnd < self.ssthresh {
            // Slow start, at most 2 segments for one ACK, however it was divided (RFC 3465).
            self.cwnd = self.cwnd.saturating_add(n.min(2 * mss));
        } else {
            self.acked = self.acked.saturating_add(n);
            if self.acked >= self.cwnd {
                self.acked -= self.cwnd;
                self.cwnd = self.cwnd.saturating_add(mss);
            }
        }
        Reaction::None
    }

    /// A duplicate ACK arrived (RFC 5681 section 2 defines one) with `una` still unacknowledged.
    pub fn on_dup_ack(&mut self, una: Seq, max: Seq, mss: u32, in_flight: u32) -> Reaction {
        if self.in_recovery {
            // Each one says that a segment left the network.
            self.cwnd = self.cwnd.saturating_add(mss);
            return Reaction::None;
        }
        self.dup_acks = self.dup_acks.saturating_add(1);
        // RFC 6582 section 3.2 step 1: not again for the window that was just recovered.
        if self.dup_acks != DUP_ACKS || una.lt(self.recover) {
            return Reaction::None;
        }
        self.ssthresh = half(in_flight, mss);
        self.cwnd = self.ssthresh.saturating_add(u32::from(DUP_ACKS) * mss);
        self.recover = max;
        self.in_recovery = true;
        self.acked = 0;
        Reaction::Retransmit
    }

    /// The first two duplicate ACKs each allow one new segment beyond the window (limited
    /// transmit, RFC 3042).
    pub fn limited_transmit(&self, mss: u32) -> u32 {
        if self.in_recovery { 0 } else { u32::from(self.dup_acks.min(2)) * mss }
    }

    /// The retransmission timer ran out (RFC 5681 section 3.1); only the first timeout of a series
    /// halves the threshold.
    pub fn on_timeout(&mut self, max: Seq, mss: u32, in_flight: u32, first: bool) {
        if first {
            self.ssthresh = half(in_flight, mss);
        }
        self.cwnd = mss;
        self.acked = 0;
        self.recover = max;
        self.in_recovery = false;
        self.dup_acks = 0;
    }

    /// Nothing was sent for a retransmission timeout: the window is old news, and restarts from
    /// the initial one (RFC 5681 section 4.1).
    pub fn on_idle(&mut self, mss: u32, segments: u32) {
        let restart = (segments * mss).min((2 * mss).max(14_600));
        self.cwnd = self.cwnd.min(restart);
    }
}

/// Half of the flight, at least two segments (RFC 5681 equation 4).
fn half(in_flight: u32, mss: u32) -> u32 {
    (in_flight / 2).max(2 * mss)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn open() -> Congestion {
        let mut cc = Congestion::new(Seq(0));
        cc.on_handshake(MSS, 10, false);
        cc
    }

    #[test]
    fn the_initial_window_follows_rfc_6928() {
        assert_eq!(open().cwnd, 10_000);
        let mut cc = Congestion::new(Seq(0));
        cc.on_handshake(1460, 10, false);
        assert_eq!(cc.cwnd, 14_600);
        cc.on_handshake(9000, 10, false);
        assert_eq!(cc.cwnd, 18_000);
        cc.on_handshake(1460, 10, true);
        assert_eq!(cc.cwnd, 1460);
    }

    #[test]
    fn slow_start_counts_bytes_not_acks() {
        let mut cc = open();
        for i in 0..1000 {
            cc.on_ack(Seq(i), 1, MSS, 10_000);
        }
        assert_eq!(cc.cwnd, 11_000);
        cc.on_ack(Seq(50_000), 9_000, MSS, 10_000);
        assert_eq!(cc.cwnd, 13_000, "one ACK opens at most two segments");
    }

    #[test]
    fn congestion_avoidance_adds_one_segment_per_window() {
        let mut cc = open();
        cc.ssthresh = 10_000;
        for i in 1..=10 {
            cc.on_ack(Seq(i * 1000), 1000, MSS, 10_000);
        }
        assert_eq!(cc.cwnd, 11_000);
    }

    #[test]
    fn three_duplicates_retransmit_once_and_a_full_ack_ends_recovery() {
        let mut cc = open();
        let (una, max) = (Seq(0), Seq(10_000));
        assert_eq!(cc.on_dup_ack(una, max, MSS, 10_000), Reaction::None);
        assert_eq!(cc.limited_transmit(MSS), 1000);
        assert_eq!(cc.on_dup_ack(una, max, MSS, 10_000), Reaction::None);
        assert_eq!(cc.on_dup_ack(una, max, MSS, 10_000), Reaction::Retransmit);
        assert_eq!((cc.ssthresh, cc.cwnd), (5_000, 8_000));
        assert_eq!(cc.on_dup_ack(una, max, MSS, 10_000), Reaction::None);
        assert_eq!(cc.cwnd, 9_000);
        assert_eq!(cc.on_ack(Seq(3000), 3000, MSS, 10_000), Reaction::Retransmit);
        assert_eq!(cc.on_ack(Seq(10_000), 7000, MSS, 7_000), Reaction::None);
        assert!(!cc.in_recovery && cc.cwnd <= 5_000);
    }

    #[test]
    fn a_timeout_leaves_one_segment_and_the_old_window_starts_no_recovery() {
        let mut cc = open();
        cc.on_timeout(Seq(10_000), MSS, 10_000, true);
        assert_eq!((cc.cwnd, cc.ssthresh), (1000, 5000));
        cc.on_timeout(Seq(10_000), MSS, 1000, false);
        assert_eq!(cc.ssthresh, 5000);
        for _ in 0..5 {
            assert_eq!(cc.on_dup_ack(Seq(500), Seq(10_000), MSS, 1000), Reaction::None);
        }
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut cc = open();
        cc.on_ack(Seq(64), 64, MSS, 64);
        assert_eq!(cc.cwnd, 10_000);
    }
}
