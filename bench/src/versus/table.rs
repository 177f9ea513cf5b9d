//! What the rounds add up to: the rate and the latencies of each pair, the ratios between pairs round by
//! round, and how far each is from its goal; as text and as JSON. A ratio exists where both pairs of a
//! round went well.

use super::scenario::{Comparison, Goal, Measure, Pair, Scenario};
use super::task::{Driven, Served, Shape};
use barewire_api::report::{Percentiles, duration_text};
use barewire_api::unit::grouped;
use serde::Serialize;
use std::fmt;

/// What a pair did in one round, or why nothing counts.
pub(crate) type Round = Result<Sample, String>;

/// Both ends' books of a round in which everything added up.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) driven: Driven,
    pub(crate) served: Served,
}

/// The least, the middle and the most of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Nothing of nothing. Of two in the middle, the mean.
    pub(crate) fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Some(Spread { min, median, max })
    }
}

/// A pair's line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) pair: Pair,
    /// Events per second; of bulk, bits of payload per second.
    pub(crate) rate: Option<Spread>,
    /// Medians over the rounds, in nanoseconds.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    #[serde(rename = "p99.9")]
    pub(crate) p999: Option<f64>,
    pub(crate) done: u64,
    pub(crate) failed_rounds: Vec<String>,
    pub(crate) rounds: Vec<Option<Sample>>,
}

/// A comparison's line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Compared {
    pub(crate) of: String,
    pub(crate) to: String,
    pub(crate) measure: Measure,
    pub(crate) goal: Option<Goal>,
    pub(crate) rounds: Vec<f64>,
    pub(crate) ratio: Option<Spread>,
}

/// A scenario's part of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Section {
    pub(crate) name: String,
    shape: Shape,
    pub(crate) lines: Vec<Line>,
    pub(crate) compared: Vec<Compared>,
}

impl Section {
    /// `rounds[pair][round]`, in the order of the scenario's pairs.
    pub(crate) fn new(scenario: &Scenario, rounds: &[Vec<Round>]) -> Section {
        let shape = scenario.task.shape;
        let figures = |pair: &Pair, round: &Round, measure| {
            let sample = round.as_ref().ok()?;
            figure(scenario, pair, &sample.driven, measure)
        };
        let line = |(pair, rounds): (&Pair, &Vec<Round>)| line(scenario, pair, rounds);
        let of = |pair: &Pair| {
            let at = scenario.pairs.iter().position(|other| other == pair);
            at.map_or(&[][..], |at| &rounds[at])
        };
        let compare = |comparison: &Comparison| {
            let Comparison { of: one, to: other, measure, goal } = comparison;
            let ratios: Vec<f64> = of(one)
                .iter()
                .zip(of(other))
                .filter_map(|(a, b)| {
                    Some(figures(one, a, *measure)? / figures(other, b, *measure)?)
                })
                .collect();
            Compared {
                of: one.name(shape),
                to: other.name(shape),
                measure: *measure,
                goal: *goal,
                ratio: Spread::of(&ratios),
                rounds: ratios,
            }
        };
        Section {
            name: scenario.name.clone(),
            shape,
            lines: scenario.pairs.iter().zip(rounds).map(line).collect(),
            compared: scenario.comparisons.iter().map(compare).collect(),
        }
    }

    /// Rounds that failed.
    pub(crate) fn n_failed(&self) -> usize {
        self.lines.iter().map(|line| line.failed_rounds.len()).sum()
    }

    /// Goals that were missed, those that no round can judge included.
    pub(crate) fn n_missed(&self) -> usize {
        self.compared.iter().filter(|compared| compared.is_missed()).count()
    }
}

fn line(scenario: &Scenario, pair: &Pair, rounds: &[Round]) -> Line {
    let good = || rounds.iter().flatten();
    let rates: Vec<f64> =
        good().filter_map(|s| figure(scenario, pair, &s.driven, Measure::Rate)).collect();
    let latency = |of: fn(&Percentiles) -> Option<u64>| {
        let values: Vec<f64> = good()
            .filter_map(|s| of(latencies(scenario.task.shape, &s.driven)))
            .map(|ns| ns as f64)
            .collect();
        Spread::of(&values).map(|spread| spread.median)
    };
    let named = rounds.iter().enumerate();
    Line {
        name: pair.name(scenario.task.shape),
        pair: *pair,
        rate: Spread::of(&rates),
        p50: latency(|p| p.p50),
        p99: latency(|p| p.p99),
        p999: latency(|p| p.p999),
        done: good().map(|s| s.driven.count).sum(),
        failed_rounds: named
            .filter_map(|(idx, round)| {
                Some(format!("round {}: {}", idx + 1, round.as_ref().err()?))
            })
            .collect(),
        rounds: rounds.iter().map(|round| round.as_ref().ok().cloned()).collect(),
    }
}

/// What a connection costs its client is how long it takes to open; otherwise it is the request.
fn latencies(shape: Shape, driven: &Driven) -> &Percentiles {
    if shape == Shape::Open { &driven.connect } else { &driven.request }
}

fn figure(scenario: &Scenario, pair: &Pair, driven: &Driven, measure: Measure) -> Option<f64> {
    let shape = scenario.task.shape;
    match measure {
        Measure::P50 => latencies(shape, driven).p50.map(|ns| ns as f64),
        Measure::Rate if shape == Shape::Bulk => {
            Some(driven.rate() * 8.0 * f64::from(pair.payload_bytes(scenario.task.bytes)))
        }
        Measure::Rate => Some(driven.rate()),
    }
}

impl Compared {
    /// How much of its goal the median is: 1 and more is met. Nothing without a goal.
    pub(crate) fn reached(&self) -> Option<f64> {
        let median = self.ratio?.median;
        Some(match self.goal? {
            Goal::AtLeast(goal) => median / goal,
            Goal::AtMost(goal) => goal / median,
        })
    }

    fn is_missed(&self) -> bool {
        self.goal.is_some() && self.reached().is_none_or(|reached| reached < 1.0)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::AtLeast(goal) => write!(f, ">= {goal:.1}"),
            Goal::AtMost(goal) => write!(f, "<= {goal:.1}"),
        }
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.measure {
            Measure::Rate => "",
            Measure::P50 => " (p50)",
        };
        let names = format!("{}  /  {}{what}", self.of, self.to);
        let Some(Spread { min, median, max }) = self.ratio else {
            return write!(f, "{names:<64} no round in which both went well");
        };
        write!(f, "{names:<64} {min:>7.2} {median:>7.2} {max:>7.2}")?;
        match (self.goal, self.reached()) {
            (Some(goal), Some(reached)) if reached >= 1.0 => {
                write!(f, "   goal {goal}: met, {reached:.2} of it")
            }
            (Some(goal), Some(reached)) => {
                write!(f, "   goal {goal}: missed, {:.0}% of it", 100.0 * reached)
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |rate: f64| match rate {
            r if r >= 1e9 => format!("{:.2} G", r / 1e9),
            r if r >= 1e6 => format!("{:.2} M", r / 1e6),
            r => format!("{:.1} k", r / 1e3),
        };
        let latency = |ns: Option<f64>| ns.map_or("-".to_owned(), |ns| duration_text(ns as u64));
        write!(f, "{:<40}", self.name)?;
        match self.rate {
            Some(Spread { min, median, max }) => {
                write!(f, "{:>10} {:>10} {:>10}", rate(min), rate(median), rate(max))?;
            }
            None => write!(f, "{:>10} {:>10} {:>10}", "-", "-", "-")?,
        }
        let (p50, p99, p999) = (latency(self.p50), latency(self.p99), latency(self.p999));
        write!(f, " {p50:>9} {p99:>9} {p999:>9} {:>12}", grouped(self.done))?;
        self.failed_rounds.iter().try_for_each(|why| write!(f, "\n    * {why}"))
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.shape {
            Shape::RequestResponse => "responses/s",
            Shape::ConnectionsPerSecond => "connections/s",
            Shape::Open => "opens/s",
            Shape::Bulk => "bit/s of payload",
        };
        writeln!(
            f,
            "{:<40}{:>10} {:>10} {:>10} {:>9} {:>9} {:>9} {:>12}",
            format!("{}: {unit}", self.name),
            "min",
            "median",
            "max",
            "p50",
            "p99",
            "p99.9",
            "done"
        )?;
        self.lines.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        self.compared.iter().try_for_each(|compared| writeln!(f, "  {compared}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{ENGINE, EPOLL, RAW};
    use super::*;

    fn round(rate: u64) -> Round {
        let request =
            Percentiles { count: rate, p50: Some(1_000_000 / rate), ..Default::default() };
        let driven =
            Driven { count: rate, duration_ns: 1_000_000_000, request, ..Driven::default() };
        Ok(Sample { driven, served: Served::default() })
    }

    fn scenario(comparisons: Vec<Comparison>) -> Scenario {
        let mut scenario = super::super::scenario::all(1_000, true).swap_remove(1);
        scenario.pairs = vec![RAW, ENGINE, EPOLL];
        scenario.comparisons = comparisons;
        scenario
    }

    #[test]
    fn a_spread_has_its_middle_where_half_is_on_either_side() {
        let spread = |values: &[f64]| Spread::of(values).map(|s| (s.min, s.median, s.max));
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), Some((3.0, 3.0, 3.0)));
        assert_eq!(spread(&[9.0, 1.0, 2.0]), Some((1.0, 2.0, 9.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]), Some((1.0, 3.0, 9.0)));
    }

    #[test]
    fn ratios_are_taken_round_by_round_and_held_against_the_goal() {
        let measure = Measure::Rate;
        let at_least =
            |to, goal| Comparison { of: ENGINE, to, measure, goal: Some(Goal::AtLeast(goal)) };
        let p50 = Comparison {
            measure: Measure::P50,
            goal: Some(Goal::AtMost(1.25)),
            ..at_least(RAW, 0.0)
        };
        let scenario = scenario(vec![at_least(RAW, 0.8), at_least(EPOLL, 8.0), p50]);
        let rounds = [
            vec![round(1_000), round(500), round(2_000)],
            vec![round(900), round(400), round(1_000)],
            vec![round(100), round(100), round(100)],
        ];
        let section = Section::new(&scenario, &rounds);
        let [raw, kernel, latency] = &section.compared[..] else { panic!("three comparisons") };
        assert_eq!(raw.rounds, [0.9, 0.8, 0.5]);
        assert_eq!(raw.ratio, Some(Spread { min: 0.5, median: 0.8, max: 0.9 }));
        assert_eq!((raw.reached(), raw.is_missed()), (Some(1.0), false));
        assert_eq!(kernel.ratio.map(|ratio| ratio.median), Some(9.0));
        assert_eq!(latency.ratio.map(|ratio| ratio.median), Some(1.25));
        assert_eq!((section.n_missed(), section.n_failed()), (0, 0));
    }

    #[test]
    fn a_failed_round_is_named_and_never_a_smaller_number() {
        let goal = Some(Goal::AtLeast(0.8));
        let comparison = Comparison { of: ENGINE, to: RAW, measure: Measure::Rate, goal };
        let scenario = scenario(vec![comparison]);
        let rounds = [
            vec![round(1_000), round(1_000)],
            vec![Err("7 failed (reset)".to_owned()), round(600)],
            vec![round(100), Err("ended without a word".to_owned())],
        ];
        let section = Section::new(&scenario, &rounds);
        assert_eq!(section.compared[0].rounds, [0.6]);
        assert!(section.compared[0].to_string().ends_with("missed, 75% of it"));
        assert_eq!(section.lines[1].rate.map(|rate| rate.min), Some(600.0));
        assert_eq!((section.n_missed(), section.n_failed()), (1, 2));
        let text = section.to_string();
        assert!(text.contains("* round 1: 7 failed (reset)"), "{text}");
        assert!(text.contains("* round 2: ended without a word"), "{text}");
    }

    #[test]
    fn a_goal_that_nothing_can_judge_is_missed() {
        let goal = Some(Goal::AtMost(1.3));
        let comparison = Comparison { of: ENGINE, to: RAW, measure: Measure::P50, goal };
        let section = Section::new(
            &scenario(vec![comparison]),
            &[vec![round(1)], vec![Err("late".to_owned())], vec![]],
        );
        assert_eq!(section.compared[0].ratio, None);
        assert_eq!((section.n_missed(), section.n_failed()), (1, 1));
        assert!(section.to_string().contains("no round in which both went well"));
    }
}
