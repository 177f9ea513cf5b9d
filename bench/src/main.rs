//! Programs that measure barewire, one file each. They print what they measured and how; they assert
//! sums, and speeds or sizes only where a flag asks for it.

mod baseline;
mod callgrind;
mod memory;
mod rig;
mod scale;
mod stack;
mod versus;

use barewire_engine::sys::memory::return_freed_blocks;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Measure barewire.
#[derive(Parser, Debug)]
#[command(name = "barewire-bench", version)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// A load test between two engines in this process, over a wire in memory; needs no root
    Memory(memory::Options),
    /// What each of very many connections takes, and costs, over a wire in memory; needs no root
    Scale(scale::Options),
    /// Instructions of operations and requests, beside those that are committed; needs valgrind
    Baseline(baseline::Options),
    /// What a request costs the stack alone, beside smoltcp doing the same; needs no root
    Stack(stack::Options),
    /// barewire against the kernel's TCP and raw AF_XDP, over veth in network namespaces; needs root
    Versus(versus::Options),
    /// One end of a pair of `versus`
    #[command(hide = true)]
    VersusEnd(versus::EndOptions),
}

fn main() -> ExitCode {
    let Line { command } = Line::parse();
    if !return_freed_blocks() {
        eprintln!("barewire-bench: the allocator keeps what connections leave");
    }
    let done = match &command {
        Command::Memory(options) => memory::run(options),
        Command::Scale(options) => scale::run(options),
        Command::Baseline(options) => baseline::run(options),
        Command::Stack(options) => stack::run(options),
        Command::Versus(options) => versus::run(options),
        Command::VersusEnd(options) => versus::run_end(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("barewire-bench: {failure}");
            ExitCode::from(failure.status())
        }
    }
}
