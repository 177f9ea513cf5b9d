//! The subcommands, one file each. Each is its flags and a `run` that prints to `out`.

mod abort;
mod close;
mod completions;
mod config;
mod connect;
mod conns;
mod drain;
mod impair;
mod listen;
mod load;
mod man;
mod send;
mod serve;
mod stats;
mod status;
mod stop;
mod xdp;

use std::io::Write;
use std::path::Path;

use clap::Subcommand;

use crate::exit::{Error, Verdict};

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run the daemon in the foreground, from flags
    Serve(Box<serve::Serve>),
    /// Run a load test: hold, rr or cps
    Load(Box<load::Load>),
    /// What the daemon is and does
    Status(status::Status),
    /// What the daemon was made with: every setting, and its defaults
    Config(config::Config),
    /// The counters
    Stats(stats::Stats),
    /// The connections
    Conns(conns::Conns),
    /// Open one connection by hand
    Connect(connect::Connect),
    /// Send on a connection opened by hand
    Send(send::Send),
    /// Close a connection with a FIN
    Close(close::Close),
    /// Abort a connection with a RST
    Abort(abort::Abort),
    /// Add or remove a listener
    #[command(subcommand)]
    Listen(listen::Listen),
    /// Lose, delay, double, damage or reorder the daemon's own frames
    Impair(Box<impair::Impair>),
    /// Accept no more connections; those that exist run on
    Drain(drain::Drain),
    /// Stop the daemon
    Stop(stop::Stop),
    /// Load, show or unload the steering program by itself
    #[command(subcommand)]
    Xdp(xdp::Xdp),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Print the manual page, or write all of them
    Man(man::Man),
}

impl Command {
    /// Carries the command out against the daemon at `control`.
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        match self {
            Command::Serve(serve) => serve.run(control, out),
            Command::Load(load) => load.run(control, out),
            Command::Status(status) => status.run(control, out),
            Command::Config(config) => config.run(control, out),
            Command::Stats(stats) => stats.run(control, out),
            Command::Conns(conns) => conns.run(control, out),
            Command::Connect(connect) => connect.run(control, out),
            Command::Send(send) => send.run(control, out),
            Command::Close(close) => close.run(control, out),
            Command::Abort(abort) => abort.run(control, out),
            Command::Listen(listen) => listen.run(control, out),
            Command::Impair(impair) => impair.run(control, out),
            Command::Drain(drain) => drain.run(control, out),
            Command::Stop(stop) => stop.run(control, out),
            Command::Xdp(xdp) => xdp.run(out),
            Command::Completions(completions) => completions.run(out),
            Command::Man(man) => man.run(out),
        }
    }
}
