//! The figures of a run, as a table for people, as one line of JSON for programs, and against the goals.

use super::case::{CASES, Case, Contestant};
use super::idle::Idle;
use barewire_api::unit::grouped;
use barewire_stack::time::Duration;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// What is known of every case.
#[derive(Default)]
pub(super) struct Figures {
    cases: [Figure; CASES.len()],
    /// The most usual first.
    idle: Vec<Idle>,
}

/// What is known of one.
#[derive(Default)]
struct Figure {
    /// Nanoseconds for each request, round by round.
    ns: Vec<f64>,
    /// Frames for each request of the last round.
    frames: f64,
    /// Instructions for each request.
    instructions: Option<f64>,
}

/// What is to be reached, and what was.
struct Goal {
    what: &'static str,
    found: Option<f64>,
    bound: Bound,
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Figures {
    pub(super) fn note_time(&mut self, case: Case, took: Duration) {
        self.of(case).ns.push(took.as_nanos() as f64 / case.requests as f64);
    }

    pub(super) fn note_frames(&mut self, case: Case, n_frames: u64) {
        self.of(case).frames = n_frames as f64 / case.requests as f64;
    }

    pub(super) fn note_instructions(&mut self, case: Case, instructions: f64) {
        self.of(case).instructions = Some(instructions);
    }

    pub(super) fn note_idle(&mut self, idle: Idle) {
        self.idle.push(idle);
    }

    fn of(&mut self, case: Case) -> &mut Figure {
        &mut self.cases[case.number()]
    }

    fn find(&self, contestant: Contestant, suffix: &str) -> &Figure {
        let is_it = |case: &Case| case.contestant == contestant && case.suffix == suffix;
        &self.cases[CASES.iter().position(is_it).expect("there is such a case")]
    }

    fn barewire(&self, suffix: &str) -> &Figure {
        self.find(Contestant::Barewire, suffix)
    }

    /// How many times longer smoltcp takes: the median over the rounds, in each of which both ran.
    fn ratio(&self, ours: &str, theirs: &str) -> Option<f64> {
        let (ours, theirs) = (self.barewire(ours), self.find(Contestant::Smoltcp, theirs));
        median(
            &ours.ns.iter().zip(&theirs.ns).map(|(ours, theirs)| theirs / ours).collect::<Vec<_>>(),
        )
    }

    fn goals(&self) -> [Goal; 7] {
        let instructions = |suffix| self.barewire(suffix).instructions;
        let of_large = instructions("1m").zip(instructions("1k")).map(|(m, k)| m / k * 100.0);
        // Whatever keepalive is.
        let idle = self.idle.iter().map(|idle| idle.percent).reduce(f64::max);
        let goal = |what, found, bound| Goal { what, found, bound };
        [
            goal("ns at 1 k", median(&self.barewire("1k").ns), Bound::AtMost(150.0)),
            goal("instructions at 1 k", instructions("1k"), Bound::AtMost(500.0)),
            goal("ns at 1 M", median(&self.barewire("1m").ns), Bound::AtMost(400.0)),
            goal("% of the instructions at 1 k, at 1 M", of_large, Bound::AtMost(110.0)),
            goal("times smoltcp at 16", self.ratio("16", "16"), Bound::AtLeast(6.0)),
            goal("times smoltcp at 1000", self.ratio("1k", "1000"), Bound::AtLeast(30.0)),
            goal("% of a core for 1 M that idle", idle, Bound::AtMost(5.0)),
        ]
    }

    /// As a table.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{:<20} {:>8} {:>8} {:>8} {:>12} {:>7}\n",
            "per request", "ns min", "median", "max", "instructions", "frames"
        );
        for (case, figure) in CASES.iter().zip(&self.cases) {
            let [min, median, max] = spread(&figure.ns).unwrap_or_default();
            let instructions = figure.instructions.map_or("-".to_owned(), |n| format!("{n:.0}"));
            let (name, frames) = (case.to_string(), figure.frames);
            let line = format_args!(
                "{name:<20} {min:>8.0} {median:>8.0} {max:>8.0} {instructions:>12} {frames:>7.2}"
            );
            writeln!(text, "{line}").expect("text takes text");
        }
        for Idle { connections, keepalive, probes, percent } in &self.idle {
            let line = format_args!(
                "idle         {}, keepalive after {} s: {probes} probes a minute, {percent:.2} % of a core",
                grouped(*connections),
                keepalive.as_secs_f64()
            );
            writeln!(text, "{line}").expect("text takes text");
        }
        for goal in self.goals() {
            writeln!(text, "{goal}").expect("text takes text");
        }
        text
    }

    /// As one line of JSON.
    pub(super) fn json(&self) -> String {
        let mut figures = Map::new();
        let mut note = |name: String, value: Value| figures.insert(name, value);
        for (case, figure) in CASES.iter().zip(&self.cases) {
            let name = case.figure("ns_per_request");
            if let Some([min, median, max]) = spread(&figure.ns) {
                note(format!("{name}_min"), json!(min));
                note(format!("{name}_max"), json!(max));
                note(name, json!(median));
            }
            if let Some(instructions) = figure.instructions {
                note(case.figure("instructions_per_request"), json!(instructions));
            }
            note(case.figure("frames_per_request"), json!(figure.frames));
        }
        for idle in &self.idle {
            let seconds = idle.keepalive.as_secs_f64();
            note(format!("idle_percent_of_core_keepalive_{seconds}s"), json!(idle.percent));
        }
        note("smoltcp_times_16".to_owned(), json!(self.ratio("16", "16")));
        note("smoltcp_times_1000".to_owned(), json!(self.ratio("1k", "1000")));
        let missed = self.goals().iter().filter(|goal| goal.is_met() == Some(false)).count();
        note("goals_missed".to_owned(), json!(missed));
        format!("{}\n", Value::Object(figures))
    }
}

impl Goal {
    /// Nothing, when it was not measured.
    fn is_met(&self) -> Option<bool> {
        self.found.map(|found| match self.bound {
            Bound::AtMost(bound) => found <= bound,
            Bound::AtLeast(bound) => found >= bound,
        })
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, bound) = match self.bound {
            Bound::AtMost(bound) => ("at most", bound),
            Bound::AtLeast(bound) => ("at least", bound),
        };
        write!(f, "goal         {word} {bound} {}: ", self.what)?;
        match (self.found, self.is_met()) {
            (Some(found), Some(true)) => write!(f, "met with {found:.1}"),
            (Some(found), _) => {
                write!(f, "missed with {found:.1}, {:.2} times of it", found / bound)
            }
            (None, _) => f.write_str("not measured"),
        }
    }
}

/// The least, the median and the greatest.
fn spread(values: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let mid = sorted.len() / 2;
    let median =
        if sorted.len() % 2 == 1 { sorted[mid] } else { (sorted[mid - 1] + sorted[mid]) / 2.0 };
    Some([min, median, max])
}

fn median(values: &[f64]) -> Option<f64> {
    spread(values).map(|[_, median, _]| median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some([1.0, 2.0, 3.0]));
        assert_eq!(spread(&[4.0, 1.0, 3.0, 2.0]), Some([1.0, 2.5, 4.0]));
    }

    #[test]
    fn a_ratio_is_of_rounds_and_not_of_medians() {
        let mut figures = Figures::default();
        let case = |name| CASES.into_iter().find(|case| case.to_string() == name).expect("a case");
        // The second round was slow for both.
        for (ours, theirs) in [(100, 700), (1_000, 7_000), (100, 900)] {
            let took = |case: Case, ns: u64| Duration::from_nanos(ns * case.requests);
            let (us, them) = (case("barewire_16"), case("smoltcp_16"));
            figures.note_time(us, took(us, ours));
            figures.note_time(them, took(them, theirs));
        }
        assert_eq!(figures.ratio("16", "16"), Some(7.0));
        assert_eq!(figures.ratio("1k", "1000"), None);
    }

    #[test]
    fn a_goal_says_how_far_it_is() {
        let goal = |found, bound| Goal { what: "ns", found, bound }.to_string();
        assert_eq!(
            goal(Some(300.0), Bound::AtMost(150.0)),
            "goal         at most 150 ns: missed with 300.0, 2.00 times of it"
        );
        assert_eq!(
            goal(Some(7.25), Bound::AtLeast(6.0)),
            "goal         at least 6 ns: met with 7.2"
        );
        assert_eq!(goal(None, Bound::AtMost(1.0)), "goal         at most 1 ns: not measured");
    }

    #[test]
    fn figures_are_named_as_their_readers_expect() {
        let mut figures = Figures::default();
        for case in CASES {
            figures.note_time(case, Duration::from_nanos(100 * case.requests));
            figures.note_instructions(case, 500.0);
        }
        let json: Value = serde_json::from_str(&figures.json()).expect("it is JSON");
        for name in [
            "ns_per_request_1k",
            "ns_per_request_1m",
            "ns_per_request_1m_asleep",
            "instructions_per_request_1k",
            "instructions_per_request_1m",
            "smoltcp_ns_per_request_16",
            "smoltcp_ns_per_request_1000",
        ] {
            assert!(json[name].is_f64(), "{name} in {json}");
        }
    }
}
