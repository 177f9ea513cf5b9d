//! The stack alone: what one request of 64 bytes and its response cost, both ends together, with nothing
//! around two stacks but a wire in memory; and smoltcp doing the same. Nanoseconds are of the CPU time
//! of this thread, in rounds that take every case once; instructions are counted by valgrind. What the
//! engine adds around the stack is the business of `scale` and `memory`.

mod barewire;
mod case;
mod figures;
mod idle;
mod only;
mod smoltcp;
mod wire;

use crate::callgrind;
use crate::rig::Failure;
use barewire_api::unit::{Count, grouped};
use barewire_engine::sys::clock;
use barewire_engine::sys::memory::available_bytes;
use barewire_stack::stack::Stack;
use barewire_stack::tcp::buffer::CHUNK_BYTES;
use barewire_stack::time::Duration;
use case::{CASES, Manner, Pairs};
use clap::Args;
use figures::Figures;
pub(crate) use only::Only;
use std::io::Write;
use std::path::PathBuf;

/// Bytes of a request, and of its response.
const REQUEST_BYTES: usize = 64;

/// Rounds that are timed, after one that is not.
const ROUNDS: usize = 9;
const ROUNDS_QUICK: usize = 3;

/// Connections that are idle, and after how long each is probed: what Linux does unless it is told
/// otherwise, and what a server behind a load balancer needs.
const IDLE_CONNECTIONS: u64 = 1_000_000;
const KEEPALIVE_USUAL: Duration = Duration::from_secs(7_200);
const KEEPALIVE_SHORT: Duration = Duration::from_secs(300);

/// What to run.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Write the figures there as one line of JSON; `-` is the standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer rounds, and no instructions at a million connections
    #[arg(long)]
    quick: bool,
    /// Leave the instructions out: for a machine without valgrind
    #[arg(long)]
    no_instructions: bool,
    /// Do requests of one case, or one operation, and nothing else, for a profiler to watch
    #[arg(long, value_name = "NAME", value_parser = Only::named)]
    only: Option<Only>,
    /// How often --only does it
    #[arg(long, value_name = "N", requires = "only", default_value = "1m")]
    times: Count,
}

/// Runs and prints; an error when a sum does not hold.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    if let Some(only) = options.only {
        return only.watch(options.times.0);
    }
    let counts = !options.no_instructions;
    if counts {
        callgrind::check("use --no-instructions")?;
    }
    check_memory()?;
    let mut figures = Figures::default();
    measure(options, &mut figures)?;
    for keepalive in [KEEPALIVE_USUAL, KEEPALIVE_SHORT] {
        eprintln!("idling       with keepalive after {} s", keepalive.as_secs_f64());
        figures.note_idle(idle::measure(IDLE_CONNECTIONS, keepalive)?);
    }
    if counts {
        for case in CASES.into_iter().filter(|case| !(options.quick && case.is_large())) {
            figures.note_instructions(case, Only::Case(case).instructions()?);
        }
    }
    eprint!("{}", figures.text());
    let Some(path) = &options.json else { return Ok(()) };
    let line = figures.json();
    let written = match path.to_str() {
        Some("-") => std::io::stdout().write_all(line.as_bytes()),
        _ => std::fs::write(path, line),
    };
    written.map_err(|error| Failure::Os("write the figures", error))
}

/// Refuses a machine without the memory for a million connections that are awake on both ends.
fn check_memory() -> Result<(), Failure> {
    let n = CASES.iter().map(|case| case.connections).max().expect("there are cases");
    // Both ends, a response that is held, and a quarter more: what grows has room for what is to come.
    let needed = n * (2 * Stack::AWAKE_BYTES + CHUNK_BYTES) as u64 * 5 / 4;
    let available = available_bytes().map_err(|e| Failure::Os("read the available memory", e))?;
    if needed <= available {
        return Ok(());
    }
    Err(Failure::Machine(format!(
        "{} connections that are awake on both ends need {} MiB, and {} MiB are available: use a \
         larger machine, or --only CASE with fewer connections",
        grouped(n),
        needed >> 20,
        available >> 20
    )))
}

/// Times every case in every round.
fn measure(options: &Options, figures: &mut Figures) -> Result<(), Failure> {
    let mut pairs = Pairs::default();
    let n_rounds = if options.quick { ROUNDS_QUICK } else { ROUNDS };
    for round in 0..=n_rounds {
        for case in CASES {
            if round == 0 {
                eprintln!("opening      {case}");
            }
            let pair = pairs.of(case, case.requests)?;
            pair.prepare(case.manner)?;
            let (frames, began_at) = (pair.n_frames(), clock::thread_cpu());
            pair.exchange(case.requests)?;
            let took = clock::thread_cpu() - began_at;
            if round > 0 {
                figures.note_time(case, took);
            }
            figures.note_frames(case, pair.n_frames() - frames);
        }
    }
    pairs.audit().map_err(|broken| Failure::Sums(vec![broken]))
}
