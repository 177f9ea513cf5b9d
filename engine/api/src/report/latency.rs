//! Latencies of a worker and their percentiles. What never got its answer counts as slower than
//! everything measured, so that a stalled peer cannot make the percentiles better. No clock in here.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency that is told apart from longer ones: 1000 s, in nanoseconds.
const LATENCY_NS_MAX: u64 = 1_000_000_000_000;

/// A histogram of latencies in nanoseconds, exact to 3 digits, of about 240 KiB whatever it records.
#[derive(Clone, Debug)]
pub struct Latency {
    measured: Histogram<u64>,
    lost: u64,
}

/// The figures of a [`Latency`], in nanoseconds. A percentile is absent when nothing was recorded, or
/// when it falls among the lost: then no number would be true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// How many never got their answer.
    pub lost: u64,
    /// The shortest measured.
    pub min: Option<u64>,
    /// The mean of those measured.
    pub mean: Option<u64>,
    /// Half of all are not longer.
    pub p50: Option<u64>,
    /// Nine of ten are not longer.
    pub p90: Option<u64>,
    /// 99 of 100 are not longer.
    pub p99: Option<u64>,
    /// 999 of 1000 are not longer.
    #[serde(rename = "p99.9")]
    pub p999: Option<u64>,
    /// The longest of all.
    pub max: Option<u64>,
}

impl Latency {
    /// An empty histogram. Allocates all that it will ever need.
    pub fn new() -> Self {
        let measured = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
            .expect("1 ns to 1000 s with 3 digits are bounds that a histogram can have");
        Latency { measured, lost: 0 }
    }

    /// Records one latency; what is longer than 1000 s counts as 1000 s.
    pub fn record(&mut self, ns: u64) {
        self.measured.saturating_record(ns);
    }

    /// Records one that never got its answer.
    pub fn record_lost(&mut self) {
        self.lost += 1;
    }

    /// Adds everything that `other` recorded.
    pub fn merge(&mut self, other: &Latency) {
        self.measured.add(&other.measured).expect("all histograms here have the same bounds");
        self.lost += other.lost;
    }

    /// The latency that `permille` of 1000 do not exceed, the lost included.
    fn at(&self, permille: u64) -> Option<u64> {
        let count = self.measured.len();
        let rank = u128::from(count + self.lost) * u128::from(permille);
        let rank = u64::try_from(rank.div_ceil(1000)).ok()?;
        if count == 0 || rank > count {
            return None;
        }
        Some(self.measured.value_at_quantile(rank as f64 / count as f64))
    }

    /// The figures.
    pub fn percentiles(&self) -> Percentiles {
        let count = self.measured.len();
        let measured = |n: u64| (count > 0).then_some(n);
        Percentiles {
            count,
            lost: self.lost,
            min: measured(self.measured.min()),
            mean: measured(self.measured.mean() as u64),
            p50: self.at(500),
            p90: self.at(900),
            p99: self.at(990),
            p999: self.at(999),
            max: self.at(1000),
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Latency::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close_to(found: Option<u64>, wanted: u64) -> bool {
        found.is_some_and(|found| found.abs_diff(wanted) <= wanted / 500)
    }

    #[test]
    fn percentiles_are_exact_to_three_digits() {
        let mut latency = Latency::new();
        (1..=1000u64).for_each(|us| latency.record(us * 1_000));
        let figures = latency.percentiles();
        assert_eq!((figures.count, figures.lost), (1000, 0));
        assert!(close_to(figures.p50, 500_000), "{figures:?}");
        assert!(close_to(figures.p99, 990_000), "{figures:?}");
        assert!(close_to(figures.p999, 999_000), "{figures:?}");
        assert!(close_to(figures.max, 1_000_000), "{figures:?}");
    }

    #[test]
    fn the_lost_are_slower_than_everything() {
        let mut latency = Latency::new();
        (0..95).for_each(|_| latency.record(1_000));
        (0..5).for_each(|_| latency.record_lost());
        let figures = latency.percentiles();
        assert!(close_to(figures.p90, 1_000));
        assert_eq!((figures.p99, figures.max), (None, None));
    }

    #[test]
    fn nothing_recorded_has_no_figures() {
        assert_eq!(Latency::new().percentiles(), Percentiles::default());
    }

    #[test]
    fn merging_is_recording_in_one() {
        let (mut one, mut two, mut both) = (Latency::new(), Latency::new(), Latency::new());
        for ns in [5, 70, 900, u64::MAX] {
            one.record(ns);
            both.record(ns);
        }
        two.record(12_000);
        two.record_lost();
        both.record(12_000);
        both.record_lost();
        one.merge(&two);
        assert_eq!(one.percentiles(), both.percentiles());
    }
}
