//! Instructions of a lookup and of a request at several sizes, counted in runs of this program under
//! valgrind.

use super::Options;
use crate::callgrind;
use crate::rig::Failure;
use serde::Serialize;

/// Sizes at which instructions are counted, as far as the run has as many connections.
const SIZES: [u64; 3] = [1_000, 1_000_000, 10_000_000];

/// Up to so many connections, all of them have a request.
const SAMPLED_MIN: u64 = 10_000;

/// Instructions of one operation with so many connections open.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Instructions {
    pub(super) connections: u64,
    pub(super) lookup: f64,
    pub(super) request: f64,
}

/// The functions whose instructions are counted, and which figure says how many operations they did.
const LOOKUP: (&str, &str) = ("*scale::look_up*", "lookups");
const REQUEST: (&str, &str) = ("*Field::turn_counted*", "requests");

/// Refuses a machine without valgrind.
pub(super) fn check() -> Result<(), Failure> {
    callgrind::check("leave --callgrind out")
}

/// Counts at each size.
pub(super) fn run(options: &Options) -> Result<Vec<Instructions>, Failure> {
    let sizes = SIZES.into_iter().filter(|&n| n <= options.connections.0);
    sizes.map(|n| at(options, n)).collect()
}

fn at(options: &Options, connections: u64) -> Result<Instructions, Failure> {
    let of = |(function, done)| count(options, connections, function, done);
    Ok(Instructions { connections, lookup: of(LOOKUP)?, request: of(REQUEST)? })
}

/// Runs this program with so many connections and counts the instructions of `function`, for each of
/// the operations that the run says under `done` it did there.
fn count(options: &Options, connections: u64, function: &str, done: &str) -> Result<f64, Failure> {
    let (connections, sample) = (connections.to_string(), sample(options, connections));
    eprintln!("counting the instructions of {done} with {connections} connections ...");
    let args = ["scale", "--connections", &connections, "--sample", &sample, "--close", "0%"];
    let args = args.into_iter().chain(options.stateless.then_some("--stateless"));
    let (total, stdout) = callgrind::count(function, &args.map(str::to_owned).collect::<Vec<_>>())?;
    Ok(total / operations(&stdout, done)?)
}

/// All of few connections have a request: what a turn costs by itself is then a small part of it.
fn sample(options: &Options, connections: u64) -> String {
    if connections <= SAMPLED_MIN { "100%".to_owned() } else { options.sample.to_string() }
}

fn operations(stdout: &[u8], key: &str) -> Result<f64, Failure> {
    let outcome: Option<serde_json::Value> = serde_json::from_slice(stdout).ok();
    let done = outcome.and_then(|outcome| outcome.get(key)?.as_f64());
    done.ok_or_else(|| Failure::Machine(format!("the run under valgrind did not print {key}")))
}
