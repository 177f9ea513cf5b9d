//! CUBIC's growth in congestion avoidance (RFC 9438): the window follows a cubic function of the
//! time since the last reduction, centred on the window at which that happened, and is never below
//! what Reno would have. It only answers how far the window should grow; the window itself, slow
//! start and everything about loss but the factor is in `congestion`. Bytes and milliseconds, in
//! integers.

/// Multiplicative decrease, 0.7 (RFC 9438 section 4.6), in tenths.
const BETA: u64 = 7;

/// Additive increase of the Reno-friendly window until it has caught up, 3 (1 - 0.7) / (1 + 0.7), in
/// thousandths (section 4.3).
const ALPHA: u64 = 529;

/// The curve is cut off a minute away from its centre: 86 thousand segments above it.
const DELTA_MS_MAX: i64 = 60_000;

/// The curve since the last reduction of the window.
#[derive(Debug, Default)]
pub struct Cubic {
    /// The window just before the last reduction: the plateau.
    w_max: u32,
    /// What Reno would have by now.
    w_est: u32,
    /// What was acknowledged since it last grew, in bytes.
    acked: u32,
    /// Time from the begin of the epoch to the plateau.
    k_ms: u32,
    /// When the epoch began (wrapping), if one has.
    epoch_ms: Option<u32>,
}

impl Cubic {
    /// The window of `cwnd` bytes is about to be reduced: remembers the plateau, a lower one if the
    /// last was not reached again (fast convergence, section 4.7), and returns the new threshold for
    /// `in_flight` bytes.
    pub fn reduce(&mut self, cwnd: u32, in_flight: u32) -> u32 {
        self.epoch_ms = None;
        self.w_max = if cwnd < self.w_max { tenths(cwnd, (10 + BETA) / 2) } else { cwnd };
        tenths(in_flight, BETA)
    }

    /// Time passed in which the window was not used: it must not count as growth (section 5.8).
    pub fn pause(&mut self) {
        self.epoch_ms = None;
    }

    /// `n` bytes were acknowledged in congestion avoidance with a window of `cwnd` in use: returns
    /// by how many bytes it grows. `ssthresh` is the window after the last reduction.
    pub fn grow(&mut self, now_ms: u32, rtt_ms: u32, cwnd: u32, n: u32, mss: u32) -> u32 {
        let epoch_ms = match self.epoch_ms {
            Some(epoch_ms) => epoch_ms,
            None => self.begin(now_ms, cwnd, mss),
        };
        let t_ms = now_ms.wrapping_sub(epoch_ms);
        self.grow_estimate(cwnd, n, mss);
        if self.curve(t_ms, mss) < u64::from(self.w_est) {
            return self.w_est.saturating_sub(cwnd);
        }
        // Towards where the curve will be one round trip from now, at most half as much again.
        let target = self.curve(t_ms.saturating_add(rtt_ms), mss);
        let target = target.min(u64::from(cwnd) * 3 / 2);
        let gain = target.saturating_sub(u64::from(cwnd)) * u64::from(n) / u64::from(cwnd.max(1));
        u32::try_from(gain).unwrap_or(u32::MAX)
    }

    fn begin(&mut self, now_ms: u32, cwnd: u32, mss: u32) -> u32 {
        self.epoch_ms = Some(now_ms);
        self.w_est = cwnd;
        self.acked = 0;
        if cwnd < self.w_max {
            // K = cbrt((w_max - cwnd) / C) in segments and seconds, C = 0.4.
            let distance = u64::from(self.w_max - cwnd) * 2_500_000_000 / u64::from(mss);
            self.k_ms = cube_root(distance);
        } else {
            self.w_max = cwnd;
            self.k_ms = 0;
        }
        now_ms
    }

    /// Grows what Reno would have: alpha segments for a window of acknowledgements.
    fn grow_estimate(&mut self, cwnd: u32, n: u32, mss: u32) {
        self.acked = self.acked.saturating_add(n);
        if self.acked >= cwnd {
            self.acked -= cwnd;
            let alpha = if self.w_est < self.w_max { ALPHA } else { 1_000 };
            self.w_est = self.w_est.saturating_add((u64::from(mss) * alpha / 1_000) as u32);
        }
    }

    /// The window after `t_ms`: C (t - K)^3 + w_max.
    fn curve(&self, t_ms: u32, mss: u32) -> u64 {
        let delta = i64::from(t_ms) - i64::from(self.k_ms);
        let delta = delta.clamp(-DELTA_MS_MAX, DELTA_MS_MAX);
        // 0.4 segments per cubic second, and 10^9 cubic milliseconds in one: below 2^63 for any mss.
        let offset = delta * delta * delta / 1_000_000 * 4 * i64::from(mss) / 10_000;
        u64::try_from(i64::from(self.w_max) + offset).unwrap_or(0)
    }
}

fn tenths(n: u32, factor: u64) -> u32 {
    (u64::from(n) * factor / 10) as u32
}

/// The integer cube root, by bits: at most 22 steps.
fn cube_root(n: u64) -> u32 {
    let mut root: u64 = 0;
    for bit in (0..21).rev() {
        let wider = root | 1 << bit;
        if wider * wider * wider <= n {
            root = wider;
        }
    }
    root as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1_000;

    /// Windows in segments, one a round trip, after a reduction at 100 segments.
    fn windows(rtt_ms: u32, n: u32) -> Vec<u32> {
        let mut cubic = Cubic::default();
        let mut cwnd = cubic.reduce(100 * MSS, 100 * MSS);
        let mut seen = Vec::new();
        for round in 0..n {
            seen.push(cwnd / MSS);
            let mut left = cwnd;
            while left > 0 {
                let acked = left.min(MSS);
                cwnd += cubic.grow(round * rtt_ms, rtt_ms, cwnd, acked, MSS);
                left -= acked;
            }
        }
        seen
    }

    #[test]
    fn the_window_is_cut_to_seven_tenths_and_comes_back_after_k() {
        // K = cbrt(30 / 0.4) = 4.2 s: 42 rounds of 100 ms.
        let seen = windows(100, 80);
        assert_eq!(seen[0], 70);
        assert!((97..=100).contains(&seen[42]), "{seen:?}");
        assert!(seen[21] > 92, "concave first: {seen:?}");
        assert!(seen[79] > 110, "convex behind the plateau: {seen:?}");
        assert!(seen.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn on_a_short_path_it_grows_no_slower_than_reno() {
        let seen = windows(1, 100);
        // 0.529 segments a round trip.
        assert!(seen[90] >= 70 + 45, "{seen:?}");
    }

    #[test]
    fn a_plateau_that_is_not_reached_again_is_lowered() {
        let mut cubic = Cubic::default();
        cubic.reduce(100_000, 100_000);
        cubic.reduce(80_000, 80_000);
        assert_eq!(cubic.w_max, 64_000);
    }

    #[test]
    fn cube_roots_are_exact_below() {
        for n in [0, 1, 7, 8, 26, 27, 28, 999_999_999, 1_000_000_000, 1 << 60] {
            let root = u64::from(cube_root(n));
            assert!(root.pow(3) <= n && (root + 1).pow(3) > n, "{n}");
        }
    }
}
