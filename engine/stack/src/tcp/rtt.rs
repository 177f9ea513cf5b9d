//! Round-trip time and retransmission timeout (RFC 6298). What is a sample is decided in `recovery`:
//! at most one per ACK, and never the time of a segment that was sent twice (Karn's algorithm).
//! Times are in microseconds; the configured bounds come in as arguments, so that a million
//! connections do not repeat them.

use crate::time::Duration;

/// RTO before the first measurement (RFC 6298 section 2.1).
const RTO_INITIAL_US: u32 = 1_000_000;

/// RTO for data after the SYN had to be sent again (RFC 6298 section 5.7).
const RTO_AFTER_SYN_LOSS_US: u32 = 3_000_000;

/// The granularity G of the timer that enforces the RTO (RFC 6298 section 2.3): the wheel's tick.
const GRANULARITY_US: u32 = 1_000;

/// Doublings beyond this exceed every legal `rto_max` (1 ms << 20 is 17 minutes).
const BACKOFF_MAX: u8 = 20;

/// The estimator of one connection.
#[derive(Debug, Default)]
pub struct Rtt {
    /// Smoothed round-trip time; 0 before the first sample.
    pub srtt_us: u32,
    /// Its mean deviation.
    pub rttvar_us: u32,
    /// RTO before back-off; 0 means the initial value.
    base_us: u32,
    /// Consecutive timeouts. It ends with the next sample: until then the longer timeout is all
    /// that is known of the path (Karn's algorithm, second part).
    pub backoff: u8,
}

impl Rtt {
    /// The retransmission timer ran out (RFC 6298 section 5.5).
    pub fn on_timeout(&mut self) {
        self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
    }

    /// The handshake is complete; if its SYN was sent again, no sample exists and the RTO starts
    /// from 3 s (RFC 6298 section 5.7).
    pub fn on_handshake(&mut self, syn_retransmitted: bool) {
        if syn_retransmitted && self.srtt_us == 0 {
            self.base_us = RTO_AFTER_SYN_LOSS_US;
        }
        self.backoff = 0;
    }

    /// There is no sample yet, and the first timeout is that after a lost SYN.
    pub fn had_syn_loss(&self) -> bool {
        self.srtt_us == 0 && self.base_us == RTO_AFTER_SYN_LOSS_US
    }

    /// What a connection that slept knew. Without a sample, a variation that is not 0 says that its
    /// SYN was lost.
    pub fn restore(&mut self, srtt_us: u32, rttvar_us: u32, rto_min: Duration) {
        if srtt_us == 0 {
            self.on_handshake(rttvar_us > 0);
            return;
        }
        (self.srtt_us, self.rttvar_us) = (srtt_us, rttvar_us);
        self.set_base(rto_min);
    }

    /// The timeout that a segment sent now gets, in microseconds.
    #[inline]
    pub fn rto_us(&self, rto_min: Duration, rto_max: Duration) -> u64 {
        let base = if self.base_us == 0 {
            u64::from(RTO_INITIAL_US).max(rto_min.as_micros())
        } else {
            u64::from(self.base_us)
        };
        (base << self.backoff).min(rto_max.as_micros())
    }

    /// A segment that was sent once was acknowledged after `r_us`, or a timestamp came back. This
    /// ends the back-off.
    pub fn sample(&mut self, r_us: u32, rto_min: Duration) {
        let r_us = r_us.max(1);
        self.backoff = 0;
        if self.srtt_us == 0 {
            // RFC 6298 section 2.2.
            self.srtt_us = r_us;
            self.rttvar_us = r_us / 2;
        } else {
            // RFC 6298 section 2.3, alpha = 1/8 and beta = 1/4; rttvar before srtt.
            let deviation = self.srtt_us.abs_diff(r_us);
            self.rttvar_us = self.rttvar_us - self.rttvar_us / 4 + deviation / 4;
            self.srtt_us = (self.srtt_us - self.srtt_us / 8 + r_us / 8).max(1);
        }
        self.set_base(rto_min);
    }

    /// RFC 6298 section 2.3: the timeout before back-off.
    fn set_base(&mut self, rto_min: Duration) {
        let spread = self.rttvar_us.saturating_mul(4).max(GRANULARITY_US);
        let rto = u64::from(self.srtt_us.saturating_add(spread)).max(rto_min.as_micros());
        self.base_us = u32::try_from(rto).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(200);
    const MAX: Duration = Duration::from_secs(60);

    #[test]
    fn the_first_sample_sets_and_later_ones_smooth() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.rto_us(MIN, MAX), 1_000_000);
        rtt.sample(100_000, MIN);
        assert_eq!((rtt.srtt_us, rtt.rttvar_us), (100_000, 50_000));
        assert_eq!(rtt.rto_us(MIN, MAX), 300_000);
        rtt.sample(180_000, MIN);
        assert_eq!((rtt.srtt_us, rtt.rttvar_us), (110_000, 57_500));
    }

    #[test]
    fn timeouts_double_up_to_the_bound() {
        let mut rtt = Rtt::default();
        let mut seen = Vec::new();
        for _ in 0..40 {
            rtt.on_timeout();
            seen.push(rtt.rto_us(MIN, MAX) / 1_000);
        }
        assert_eq!(seen[..6], [2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
        assert_eq!(seen[39], 60_000);
        rtt.sample(100_000, MIN);
        assert_eq!(rtt.rto_us(MIN, MAX), 300_000, "a sample ends the back-off");
    }

    #[test]
    fn a_lost_syn_starts_data_from_three_seconds() {
        let mut rtt = Rtt::default();
        rtt.on_timeout();
        rtt.on_handshake(true);
        assert_eq!(rtt.rto_us(MIN, MAX), 3_000_000);
    }
}
