//! `sim`: runs seeds of the simulator and tells which failed and how to run one of them again. The
//! simulator itself is [`barewire_stack::sim`]; what is here is options, the real clock and printing.

use barewire_stack::sim::{self, Hooks, Plan, Report};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "\
usage: sim [--seeds N] [--first N]     run N seeds (1000) from the first (0)
       sim --seed N [--trace]          run one, and say what it drew; with --trace every segment too
       sim --until-failure             with --seeds: stop at the first that fails";

/// What was asked for.
struct Options {
    first: u64,
    n_seeds: u64,
    /// One seed only, and in words.
    single: bool,
    trace: bool,
    until_failure: bool,
}

/// The sums over all runs.
#[derive(Default)]
struct Sums {
    failed: u64,
    virtual_secs: f64,
    segments: u64,
    connections: u64,
}

fn main() -> ExitCode {
    let options = match parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("sim: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.single { run_single(&options) } else { run_many(&options) }
}

fn parse() -> Result<Option<Options>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut options =
        Options { first: 0, n_seeds: 1000, single: false, trace: false, until_failure: false };
    let mut parser = lexopt::Parser::from_env();
    while let Some(option) = parser.next()? {
        match option {
            Long("seeds") => options.n_seeds = parser.value()?.parse()?,
            Long("first") => options.first = parser.value()?.parse()?,
            Long("seed") => {
                options.first = parser.value()?.parse()?;
                options.single = true;
            }
            Long("trace") => options.trace = true,
            Long("until-failure") => options.until_failure = true,
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(options))
}

fn run_single(options: &Options) -> ExitCode {
    let plan = Plan::draw(options.first);
    println!("{plan:#?}");
    let mut print = |line: &str| println!("{line}");
    let sink: Option<sim::Sink<'_>> = if options.trace { Some(&mut print) } else { None };
    match run(plan, sink) {
        Ok(report) => {
            println!("seed {} passed: {report:?}", options.first);
            ExitCode::SUCCESS
        }
        Err(what) => {
            println!("seed {} failed {what}", options.first);
            ExitCode::FAILURE
        }
    }
}

fn run_many(options: &Options) -> ExitCode {
    // What a panicking seed says is printed with the seed.
    panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let mut sums = Sums::default();
    let mut n_run = 0;
    for seed in options.first..options.first.saturating_add(options.n_seeds) {
        n_run += 1;
        match run(Plan::draw(seed), None) {
            Ok(report) => sums.add(&report),
            Err(what) => {
                sums.failed += 1;
                println!("sim --seed {seed}    # {what}");
                if options.until_failure {
                    break;
                }
            }
        }
    }
    let speedup = sums.virtual_secs / begun.elapsed().as_secs_f64();
    println!(
        "seeds={n_run} failed={} virtual_hours={:.1} connections={} segments={} speedup={speedup:.0}",
        sums.failed,
        sums.virtual_secs / 3600.0,
        sums.connections,
        sums.segments,
    );
    if sums.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one plan; a panic is a failure like any other.
fn run(plan: Plan, sink: Option<sim::Sink<'_>>) -> Result<Report, String> {
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| sim::run(plan, Hooks::default(), sink)));
    match outcome {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(failure)) => {
            let at = failure.at.as_nanos() as f64 / 1e9;
            Err(format!("at {at:.6} s: {}", failure.what))
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panicked: {}", text.unwrap_or("without a message")))
        }
    }
}

impl Sums {
    fn add(&mut self, report: &Report) {
        self.virtual_secs += report.virtual_time.as_secs_f64();
        self.segments += report.segments;
        self.connections += report.connections;
    }
}
