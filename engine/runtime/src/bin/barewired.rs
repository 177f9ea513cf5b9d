//! The daemon: a configuration from a file or from flags, an engine until somebody ends it, and an
//! exit status that scripts rely on. 0: ended in order, 1: something failed while it ran or the books
//! do not balance, 2: the configuration is wrong, 3: this machine does not fit it.

use barewire_api::flags::DaemonLine;
use barewire_engine::engine::{Budget, EngineOptions, Site};
use barewire_engine::sys::memory::return_freed_blocks;
use barewire_engine::tap::CaptureOptions;
use barewire_engine::{Config, Control, Engine, StartError};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

/// Limits of a capture: the headers of every frame, and no file that fills a disk.
const CAPTURE: CaptureOptions = CaptureOptions {
    path: PathBuf::new(),
    snap_bytes: 256,
    frames_max: u64::MAX,
    bytes_max: 1 << 30,
};

fn main() -> ExitCode {
    let line = DaemonLine::parse();
    tell_events();
    if !return_freed_blocks() {
        tracing::warn!("the allocator keeps what connections leave: memory stays resident");
    }
    match run(&line) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("barewired: {error}");
            ExitCode::from(error.status())
        }
    }
}

fn run(line: &DaemonLine) -> Result<u8, StartError> {
    let config = line.to_config()?;
    if line.check {
        return check(&config);
    }
    // Before the start, so that no signal finds an engine half made.
    let signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|source| StartError::Os { what: "catch signals", source })?;
    let capture = line.capture.clone().map(|path| CaptureOptions { path, ..CAPTURE });
    let options = EngineOptions { capture, ..EngineOptions::default() };
    let engine = Engine::start_with(config, options)?;
    let watched = watch_signals(signals, engine.control().clone()).and_then(|()| {
        if line.stop_on_eof { watch_stdin(engine.control().clone()) } else { Ok(()) }
    });
    watched.map_err(|source| StartError::Os { what: "start a thread", source })?;
    let ending = engine.join();
    eprintln!("barewired: {ending}");
    Ok(ending.status())
}

/// Holds the configuration against the machine, prints both, and touches nothing.
fn check(config: &Config) -> Result<u8, StartError> {
    let site = Site::survey(config)?;
    let budget = Budget::new(&site);
    for fact in site.facts().into_iter().chain(budget.lines()) {
        eprintln!("barewired: {fact}");
    }
    budget.check()?;
    print!("{}", site.config.to_toml());
    Ok(0)
}

/// Control-plane events go to the standard error, one to a line.
fn tell_events() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}

/// The first signal ends the engine in order; the second takes the process at once, and the kernel
/// gives the interface back.
fn watch_signals(mut signals: Signals, control: Control) -> io::Result<()> {
    let watch = move || {
        for (n, signal) in signals.forever().enumerate() {
            if n > 0 {
                std::process::exit(128 + signal);
            }
            control.stop();
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch).map(drop)
}

/// Ends the engine with the process that holds our standard input.
fn watch_stdin(control: Control) -> io::Result<()> {
    let watch = move || {
        // An error ends the input as well.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        control.stop();
    };
    thread::Builder::new().name("stdin".into()).spawn(watch).map(drop)
}
