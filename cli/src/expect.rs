//! `--expect 'p99<1ms'`: a metric of the report, a comparison, a value with its unit. Which metrics
//! there are is told in one table; nothing is measured here.

use std::str::FromStr;

use barewire_api::failure::Failure;
use barewire_api::report::{LoadPhase, LoadReport, Percentiles, duration_text};
use barewire_api::text::SyntaxError;
use barewire_api::unit::{Bytes, Count, Span, grouped};

/// A condition on a report.
#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    text: String,
    metric: Metric,
    comparison: Comparison,
    /// In the metric's own unit: things, bytes or nanoseconds.
    bound: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

/// Longer operators first, so that `<=` is not read as `<`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    ("=", Comparison::Equal),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Things,
    Bytes,
    Time,
}

/// Looks a figure up in a report.
type Read = fn(&LoadReport) -> Option<u64>;

/// What can be looked up in a report.
#[derive(Clone, Copy, Debug)]
enum Metric {
    Figure { unit: Unit, read: Read },
    Failed(Failure),
}

/// The metrics with a fixed name; `failed.REASON` is one more for each reason.
const FIGURES: [(&str, Unit, Read); 23] = [
    ("opened", Unit::Things, |report| Some(report.opened)),
    ("closed", Unit::Things, |report| Some(report.closed)),
    ("open", Unit::Things, |report| Some(report.open)),
    ("failed", Unit::Things, |report| Some(report.failed)),
    ("peak_open", Unit::Things, |report| Some(report.peak_open)),
    ("requests", Unit::Things, |report| Some(report.requests)),
    ("responses", Unit::Things, |report| Some(report.responses)),
    ("opens_per_second", Unit::Things, |report| rate(report, &[LoadPhase::Ramp])),
    ("responses_per_second", Unit::Things, |report| {
        rate(report, &[LoadPhase::Run, LoadPhase::Exchange])
    }),
    ("bytes_sent", Unit::Bytes, |report| Some(report.bytes_sent)),
    ("bytes_received", Unit::Bytes, |report| Some(report.bytes_received)),
    ("bytes_resident", Unit::Bytes, |report| Some(report.bytes_resident)),
    ("bytes_per_connection", Unit::Bytes, |report| report.bytes_per_connection),
    ("p50", Unit::Time, |report| report.request.p50),
    ("p90", Unit::Time, |report| report.request.p90),
    ("p99", Unit::Time, |report| report.request.p99),
    ("p99.9", Unit::Time, |report| report.request.p999),
    ("max", Unit::Time, |report| report.request.max),
    ("connect.p50", Unit::Time, |report| report.connect.p50),
    ("connect.p90", Unit::Time, |report| report.connect.p90),
    ("connect.p99", Unit::Time, |report| report.connect.p99),
    ("connect.p99.9", Unit::Time, |report| report.connect.p999),
    ("connect.max", Unit::Time, |report| report.connect.max),
];

fn rate(report: &LoadReport, phases: &[LoadPhase]) -> Option<u64> {
    phases.iter().find_map(|&phase| report.phase(phase)).map(|phase| phase.rate() as u64)
}

impl Metric {
    fn named(name: &str) -> Option<Metric> {
        if let Some(reason) = name.strip_prefix("failed.") {
            return reason.parse().ok().map(Metric::Failed);
        }
        FIGURES
            .iter()
            .find(|(known, ..)| *known == name)
            .map(|&(_, unit, read)| Metric::Figure { unit, read })
    }

    fn unit(self) -> Unit {
        match self {
            Metric::Figure { unit, .. } => unit,
            Metric::Failed(_) => Unit::Things,
        }
    }

    fn read(self, report: &LoadReport) -> Option<u64> {
        match self {
            Metric::Figure { read, .. } => read(report),
            Metric::Failed(failure) => Some(report.failures.get(&failure).copied().unwrap_or(0)),
        }
    }
}

impl Expectation {
    /// Nothing when `report` meets it, else the sentence that says what was found. A figure that was
    /// not measured, or that falls among requests without an answer, meets nothing.
    pub(crate) fn unmet(&self, report: &LoadReport) -> Option<String> {
        let Some(found) = self.metric.read(report) else {
            let why = match self.metric.unit() {
                Unit::Time if has_lost(report) => "that falls among those without an answer",
                _ => "this test did not measure it",
            };
            return Some(format!("expected {}: {why}", self.text));
        };
        let is_met = match self.comparison {
            Comparison::Less => found < self.bound,
            Comparison::LessOrEqual => found <= self.bound,
            Comparison::Equal => found == self.bound,
            Comparison::NotEqual => found != self.bound,
            Comparison::GreaterOrEqual => found >= self.bound,
            Comparison::Greater => found > self.bound,
        };
        let text = match self.metric.unit() {
            Unit::Time => duration_text(found),
            Unit::Things | Unit::Bytes => grouped(found),
        };
        (!is_met).then(|| format!("expected {}, found {text}", self.text))
    }
}

fn has_lost(report: &LoadReport) -> bool {
    let lost = |figures: &Percentiles| figures.lost > 0;
    lost(&report.request) || lost(&report.connect)
}

impl FromStr for Expectation {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let shape = || {
            let names: Vec<&str> = FIGURES.iter().map(|(name, ..)| *name).collect();
            let names = names.join(", ");
            let expected = format!(
                "METRIC OPERATOR VALUE such as p99<1ms, with one of {names}, failed.REASON"
            );
            SyntaxError::new(expected, text)
        };
        let at = text.find(['<', '>', '=', '!']).ok_or_else(shape)?;
        let (name, rest) = text.split_at(at);
        let &(operator, comparison) =
            COMPARISONS.iter().find(|(op, _)| rest.starts_with(op)).ok_or_else(shape)?;
        let metric = Metric::named(name.trim()).ok_or_else(shape)?;
        let value = rest[operator.len()..].trim();
        let bound = match metric.unit() {
            Unit::Things => value.parse::<Count>()?.0,
            Unit::Bytes => value.parse::<Bytes>()?.0,
            Unit::Time => value.parse::<Span>()?.as_nanos(),
        };
        Ok(Expectation { text: text.to_owned(), metric, comparison, bound })
    }
}

#[cfg(test)]
mod tests {
    use barewire_api::config::LoadPlan;
    use barewire_api::report::{LoadPart, PhaseReport, Surroundings};

    use super::*;

    fn report() -> LoadReport {
        let mut part = LoadPart { opened: 100, closed: 98, ..LoadPart::default() };
        part.fail(Failure::Refused);
        part.fail(Failure::Reset);
        (1..=100u64).for_each(|us| part.request.record(us * 1_000));
        part.connect.record_lost();
        let run = PhaseReport { phase: LoadPhase::Run, duration_ns: 2_000_000_000, count: 100 };
        let around =
            Surroundings { peak_open: 100, bytes_resident: 40_000, ..Surroundings::default() };
        LoadReport::new(LoadPlan::default(), vec![run], &part, &around)
    }

    #[test]
    fn expectations_compare_in_the_unit_of_their_metric() {
        for (text, unmet) in [
            ("failed=2", None),
            ("failed.refused=1", None),
            ("failed.no-port=0", None),
            ("failed=0", Some("expected failed=0, found 2")),
            ("opened >= 0.1k", None),
            ("opened != 100", Some("expected opened != 100, found 100")),
            ("p99<1ms", None),
            ("p99 < 50us", Some("expected p99 < 50us, found 99.0us")),
            ("p99.9<=1s", None),
            ("bytes_per_connection<=400", None),
            ("responses_per_second>49", None),
            (
                "opens_per_second>1",
                Some("expected opens_per_second>1: this test did not measure it"),
            ),
            (
                "connect.p50<1s",
                Some("expected connect.p50<1s: that falls among those without an answer"),
            ),
        ] {
            let expectation: Expectation = text.parse().expect(text);
            assert_eq!(expectation.unmet(&report()).as_deref(), unmet, "{text}");
        }
    }

    #[test]
    fn bad_expectations_say_what_was_expected() {
        for (text, sentence) in [
            ("p99", "METRIC OPERATOR VALUE such as p99<1ms"),
            ("p98<1ms", "with one of opened, closed"),
            ("p99!1ms", "METRIC OPERATOR VALUE"),
            ("p99<1", "expected a duration with its unit"),
            ("failed=1ms", "expected a count"),
            ("bytes_per_connection<0.3KiB", "expected bytes such as"),
            ("failed.nonsense=0", "failed.REASON"),
        ] {
            let error = text.parse::<Expectation>().expect_err(text).to_string();
            assert!(error.contains(sentence), "{text}: {error}");
        }
    }
}
