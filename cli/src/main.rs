//! The `barewire` command: reads flags, talks to the daemon over its control socket, prints. It moves
//! no packet itself and links no C library. Each subcommand is a file of `cmd`.

mod client;
mod cmd;
mod daemon;
mod exit;
mod expect;
mod live;
mod steer;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::exit::{Error, Verdict};

/// A kernel-bypass TCP engine: serve, load, look.
#[derive(Parser, Debug)]
#[command(name = "barewire", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Exit status: 0 done, 1 a test failed its expectation, 2 usage or \
    configuration, 3 environment")]
struct Line {
    /// Control socket of the daemon [default: /run/barewire.sock]
    #[arg(long, global = true, value_name = "PATH")]
    control: Option<PathBuf>,

    #[command(subcommand)]
    command: cmd::Command,
}

fn main() -> ExitCode {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return refuse(&error),
    };
    let mut out = std::io::stdout().lock();
    let ended = line.command.run(line.control.as_deref(), &mut out);
    match ended.and_then(|verdict| out.flush().map(|()| verdict).map_err(Error::Output)) {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::FAILURE,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("barewire: {error}");
            ExitCode::from(error.status())
        }
    }
}

/// Prints what clap has to say: help and version as they are, errors with our name in front.
fn refuse(error: &clap::Error) -> ExitCode {
    let text = error.render();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that closed the pipe has seen enough of the help.
            let _ = write!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{text}");
            ExitCode::from(2)
        }
        _ => {
            let text = text.to_string();
            eprint!("barewire: {}", text.strip_prefix("error: ").unwrap_or(&text));
            ExitCode::from(2)
        }
    }
}
