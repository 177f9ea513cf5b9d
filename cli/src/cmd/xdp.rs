//! `barewire xdp load|status|unload`: the steering program by itself, so that a daemon without the
//! right to load programs finds it in place. The work is `steer`'s; here are the words around it.

use std::io::{self, Write};

use barewire_api::config::OnMissing;
use barewire_api::unit::grouped;
use barewire_steer::abi;
use barewire_steer::attach::AttachMode;
use clap::{Subcommand, ValueEnum};
use serde_json::json;

use crate::exit::{Error, Verdict};
use crate::steer::{self, LoadOptions, Loaded, Pinned, Status, Unloaded};

#[derive(Subcommand, Debug)]
pub(crate) enum Xdp {
    /// Load the program, attach it, and pin it so that it stays
    Load {
        /// The network device
        #[arg(value_name = "IF")]
        dev: String,
        /// Where it is attached
        #[arg(long, default_value = "native")]
        mode: Attach,
        /// What becomes of our frames on a queue without a socket: pass, drop
        #[arg(long, value_name = "WHAT", default_value = "pass")]
        on_missing: OnMissing,
        /// How many queues it can serve [default: all receive queues of the device]
        #[arg(long, value_name = "N")]
        queues: Option<u32>,
    },
    /// What is attached, and what is pinned
    Status {
        /// The network device
        #[arg(value_name = "IF")]
        dev: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove the pins, and the program with them
    Unload {
        /// The network device
        #[arg(value_name = "IF")]
        dev: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Attach {
    /// In the driver
    Native,
    /// In the kernel's generic receive path
    Generic,
}

impl Xdp {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<Verdict, Error> {
        match self {
            Xdp::Load { dev, mode, on_missing, queues } => {
                let mode = match mode {
                    Attach::Native => AttachMode::Native,
                    Attach::Generic => AttachMode::Generic,
                };
                let on_missing = match on_missing {
                    OnMissing::Pass => abi::OnMissing::Pass,
                    OnMissing::Drop => abi::OnMissing::Drop,
                };
                match steer::load(&dev, &LoadOptions { mode, on_missing, n_queues: queues })? {
                    Loaded::Now(status) => print_status(&status, out)?,
                    Loaded::Already(status) => {
                        writeln!(out, "{dev} was loaded like this before")?;
                        print_status(&status, out)?;
                    }
                }
            }
            Xdp::Status { dev, json: true } => print_json(&steer::status(&dev)?, out)?,
            Xdp::Status { dev, json: false } => print_status(&steer::status(&dev)?, out)?,
            Xdp::Unload { dev } => match steer::unload(&dev)? {
                Unloaded::Now => writeln!(out, "{dev} unloaded")?,
                Unloaded::Already => writeln!(out, "{dev} had nothing to unload")?,
            },
        }
        Ok(Verdict::Passed)
    }
}

fn print_status(status: &Status, out: &mut dyn Write) -> Result<(), Error> {
    match &status.attached {
        Some(attached) => writeln!(out, "{} carries {attached}", status.ifname)?,
        None => writeln!(out, "{} carries no XDP program", status.ifname)?,
    }
    let Some(pinned) = &status.pinned else {
        writeln!(out, "nothing is pinned")?;
        return Ok(());
    };
    if !status.is_ours() {
        writeln!(out, "* what is pinned is not what is attached")?;
    }
    let switch = if pinned.enabled { "steering" } else { "* switched off: everything passes" };
    writeln!(
        out,
        "pinned       program {}, {} queues, frames without a socket {}, {switch}",
        pinned.program_id,
        pinned.n_queues,
        pinned.on_missing.name()
    )?;
    for (name, values) in rules(pinned) {
        if !values.is_empty() {
            writeln!(out, "{name:<12} {}", values.join(" "))?;
        }
    }
    for (verdict, n) in pinned.verdicts.iter().filter(|&&(_, n)| n > 0) {
        writeln!(out, "  {:<24} {:>20}  {}", verdict.name(), grouped(*n), verdict.help())?;
    }
    Ok(())
}

fn print_json(status: &Status, out: &mut dyn Write) -> Result<(), Error> {
    let pinned = status.pinned.as_ref().map(|pinned| {
        let verdicts: serde_json::Map<String, serde_json::Value> = pinned
            .verdicts
            .iter()
            .map(|&(verdict, n)| (verdict.name().to_owned(), n.into()))
            .collect();
        let [(_, prefixes), (_, listeners), (_, port_ranges)] = rules(pinned);
        json!({
            "program_id": pinned.program_id,
            "enabled": pinned.enabled,
            "on_missing": pinned.on_missing.name(),
            "queues": pinned.n_queues,
            "prefixes": prefixes,
            "listeners": listeners,
            "port_ranges": port_ranges,
            "verdicts": verdicts,
        })
    });
    let attached = status.attached.as_ref().map(|attached| {
        json!({
            "program_id": attached.program_id,
            "program_name": attached.program_name,
            "mode": attached.mode.to_string(),
        })
    });
    let status = json!({
        "dev": status.ifname,
        "attached": attached,
        "is_ours": status.is_ours(),
        "pinned": pinned,
    });
    serde_json::to_writer_pretty(&mut *out, &status).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// What the pinned program redirects, as text.
fn rules(pinned: &Pinned) -> [(&'static str, Vec<String>); 3] {
    let prefixes = pinned.prefixes.iter().map(ToString::to_string).collect();
    let listeners = pinned.listeners.iter().map(ToString::to_string).collect();
    let port_ranges = pinned.port_ranges.iter().map(ToString::to_string).collect();
    [("prefixes", prefixes), ("listeners", listeners), ("port ranges", port_ranges)]
}

impl From<steer::Error> for Error {
    fn from(error: steer::Error) -> Self {
        match error {
            steer::Error::BadName(_) | steer::Error::Queues(_) => Error::Usage(error.to_string()),
            _ => Error::Environment(error.to_string()),
        }
    }
}
