//! One case or one operation and nothing else, for a profiler to watch; and its instructions, counted
//! in a run of this program under valgrind. The clock of a case is invented and its secrets are fixed:
//! the same program counts the same each time.

use super::case::{CASES, Case, Contestant, Pairs};
use crate::callgrind;
use crate::rig::Failure;
use barewire_api::unit::grouped;
use barewire_bench::micro::{self, OPERATIONS, Operation};
use barewire_engine::sys::clock;
use std::fmt;

/// Times that an operation is done when its instructions are counted.
const OPERATIONS_COUNTED: u64 = 10_000;

/// What is watched.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Only {
    Case(Case),
    Operation(Operation),
}

impl Only {
    /// The case or operation of a name.
    pub(crate) fn named(name: &str) -> Result<Only, String> {
        let case = CASES.into_iter().find(|case| case.to_string() == name).map(Only::Case);
        case.or_else(|| Operation::named(name).map(Only::Operation)).ok_or_else(|| {
            let cases = CASES.iter().map(Case::to_string);
            let operations = OPERATIONS.iter().map(|operation| operation.name.to_owned());
            format!("expected one of {}", cases.chain(operations).collect::<Vec<_>>().join(", "))
        })
    }

    /// Does it `n` times, and says how long that took.
    pub(super) fn watch(self, n: u64) -> Result<(), Failure> {
        match self {
            Only::Case(case) => watch_case(case, n),
            Only::Operation(operation) => {
                let mut run = operation.make();
                let began_at = clock::thread_cpu();
                micro::repeat(&mut run, n);
                let ns = (clock::thread_cpu() - began_at).as_nanos() as f64 / n as f64;
                println!("{self}: done {} times, {ns:.1} ns each", grouped(n));
                Ok(())
            }
        }
    }

    /// Instructions of one request, what is around the stacks included, or of one operation.
    pub(crate) fn instructions(self) -> Result<f64, Failure> {
        eprintln!("counting     the instructions of {self} ...");
        // The whole name: what it begins with is found too.
        let (function, n) = match self {
            Only::Case(case) if case.contestant == Contestant::Smoltcp => {
                ("*smoltcp::Pair::exchange", case.counted)
            }
            Only::Case(case) => ("*barewire::Pair::exchange", case.counted),
            Only::Operation(_) => ("*micro::repeat", OPERATIONS_COUNTED),
        };
        let (name, times) = (self.to_string(), n.to_string());
        let args = ["stack", "--only", &name, "--times", &times].map(str::to_owned);
        let (total, _) = callgrind::count(function, &args)?;
        Ok(total / n as f64)
    }
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Only::Case(case) => case.fmt(f),
            Only::Operation(operation) => f.write_str(operation.name),
        }
    }
}

fn watch_case(case: Case, n: u64) -> Result<(), Failure> {
    let mut pairs = Pairs::default();
    let pair = pairs.of(case, n)?;
    pair.prepare(case.manner)?;
    let (frames, began_at) = (pair.n_frames(), clock::thread_cpu());
    pair.exchange(n)?;
    let (n_frames, took) = (pair.n_frames() - frames, clock::thread_cpu() - began_at);
    pairs.audit().map_err(|broken| Failure::Sums(vec![broken]))?;
    let (ns, frames) = (took.as_nanos() as f64 / n as f64, n_frames as f64 / n as f64);
    println!("{case}: {} requests answered, {ns:.0} ns and {frames:.2} frames each", grouped(n));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_case_or_an_operation() {
        for name in ["barewire_1", "smoltcp_1000", "barewire_1m_asleep", "checksum_64"] {
            assert_eq!(Only::named(name).expect("it is one").to_string(), name);
        }
        let refused = Only::named("barewire_2").expect_err("there is no such");
        assert!(refused.contains("barewire_16, ") && refused.contains("segment_in"), "{refused}");
    }

    #[test]
    fn small_cases_answer_every_request() {
        for name in ["barewire_1", "smoltcp_1", "barewire_16", "smoltcp_16", "barewire_1k"] {
            Only::named(name).expect("a case").watch(2_000).expect("it runs");
        }
    }
}
