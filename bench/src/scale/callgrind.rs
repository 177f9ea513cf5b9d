//! Instructions where time is too coarse: the program runs itself again under valgrind, which counts
//! what is executed in one function and all that it calls, and nothing else. Instructions do not
//! depend on what else the machine does.

use super::Options;
use crate::rig::Failure;
use serde::Serialize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs, io, process};

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
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    match found {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Failure::Machine(
            "--callgrind: expected valgrind, found none; install the package valgrind, or leave \
             --callgrind out"
                .to_owned(),
        )),
    }
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
    let os = |what| move |error: io::Error| Failure::Os(what, error);
    let program = env::current_exe().map_err(os("find this program"))?;
    let file = env::temp_dir().join(format!("barewire-bench-callgrind-{}", process::id()));
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={function}"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(["scale", "--connections", &connections.to_string()])
        .args(["--sample", &sample(options, connections), "--close", "0%"])
        .args(options.stateless.then_some("--stateless"));
    eprintln!("counting the instructions of {done} with {connections} connections ...");
    let output = valgrind.stderr(Stdio::inherit()).output().map_err(os("run valgrind"))?;
    let text = fs::read_to_string(&file);
    // Nothing is left behind, also when the run failed.
    let _ = fs::remove_file(&file);
    if !output.status.success() {
        return Err(Failure::Machine(format!("the run under valgrind failed: {}", output.status)));
    }
    let total = total(&text.map_err(os("read what callgrind wrote"))?, &file)?;
    Ok(total / operations(&output.stdout, done)?)
}

/// All of few connections have a request: what a turn costs by itself is then a small part of it.
fn sample(options: &Options, connections: u64) -> String {
    if connections <= SAMPLED_MIN { "100%".to_owned() } else { options.sample.to_string() }
}

/// The sum over everything that was collected.
fn total(text: &str, file: &Path) -> Result<f64, Failure> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
    line.and_then(|total| total.trim().parse().ok()).filter(|&total: &f64| total > 0.0).ok_or_else(
        || {
            Failure::Machine(format!(
                "expected a sum of instructions from callgrind, found none in {}; is this a release \
                 build with symbols?",
                file.display()
            ))
        },
    )
}

fn operations(stdout: &[u8], key: &str) -> Result<f64, Failure> {
    let outcome: Option<serde_json::Value> = serde_json::from_slice(stdout).ok();
    let done = outcome.and_then(|outcome| outcome.get(key)?.as_f64());
    done.ok_or_else(|| Failure::Machine(format!("the run under valgrind did not print {key}")))
}
