//! `barewire impair`: what the daemon does to its own frames, so that loss, delay and disorder can be
//! tried against any peer. It sets, ends and shows; the faults are drawn by the daemon's workers.

use std::io::{self, Write};
use std::path::Path;

use barewire_api::control::{Request, Response};
use barewire_api::impair::{Direction, Impairment, Impairments};
use barewire_api::unit::{BitRate, Ratio, Span};
use clap::{Args, Subcommand};

use crate::client::Client;
use crate::exit::{Error, Verdict};

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Without a fault it shows what is set. Faults replace those that their \
    direction had; the other direction stays as it is.\n\n\
    barewire impair --loss 1% --delay 5ms --jitter 1ms\n\
    barewire impair --direction both --loss 0.5% --reorder 1% --duplicate 0.1%\n\
    barewire impair off")]
pub(crate) struct Impair {
    #[command(subcommand)]
    off: Option<Off>,

    #[command(flatten)]
    faults: Faults,

    /// Which frames: tx (sent), rx (received), both
    #[arg(long, value_name = "WHICH", default_value = "tx")]
    direction: Direction,

    /// Draw from this seed, so that a run can be repeated [default: drawn, and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u32>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Off {
    /// End the faults; frames that are held back leave at once
    Off {
        /// Of which frames: tx (sent), rx (received), both
        #[arg(long, value_name = "WHICH", default_value = "both")]
        direction: Direction,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
struct Faults {
    /// Share of frames that are lost, such as 1%
    #[arg(long, value_name = "SHARE", default_value_t, hide_default_value = true)]
    loss: Ratio,

    /// Share of frames that arrive twice
    #[arg(long, value_name = "SHARE", default_value_t, hide_default_value = true)]
    duplicate: Ratio,

    /// Share of frames in which one bit is turned over
    #[arg(long, value_name = "SHARE", default_value_t, hide_default_value = true)]
    corrupt: Ratio,

    /// Share of frames that overtake: without the delay, or, where there is none, by holding them
    /// back for up to 1 ms
    #[arg(long, value_name = "SHARE", default_value_t, hide_default_value = true)]
    reorder: Ratio,

    /// How late every other frame is, such as 5ms
    #[arg(long, value_name = "TIME", default_value_t, hide_default_value = true)]
    delay: Span,

    /// By how much the delay differs at most, either way; it reorders nothing
    #[arg(long, value_name = "TIME", default_value_t, hide_default_value = true)]
    jitter: Span,

    /// What the line takes, such as 100mbit [default: no limit]
    #[arg(long, value_name = "BITS", default_value_t, hide_default_value = true)]
    rate: BitRate,

    /// How long a frame waits for the line before it is dropped [default: 100ms]
    #[arg(long, value_name = "TIME", requires = "rate")]
    backlog: Option<Span>,
}

impl Faults {
    fn impairment(&self) -> Impairment {
        let Faults { loss, duplicate, corrupt, reorder, delay, jitter, rate, backlog } = *self;
        let backlog = backlog.unwrap_or(Impairment::default().backlog);
        Impairment { loss, duplicate, corrupt, reorder, delay, jitter, rate, backlog }
    }
}

impl Impair {
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        let impairment = self.faults.impairment();
        let is_set = impairment != Impairment::default();
        if is_set {
            impairment.check("impair")?;
        } else if self.seed.is_some() {
            return Err(Error::Usage("give a fault beside --seed, such as --loss 1%".to_owned()));
        }
        let (request, json) = match self.off {
            Some(Off::Off { direction, json }) => (Request::ImpairOff { direction }, json),
            None if is_set => {
                let Impair { direction, seed, json, .. } = self;
                (Request::ImpairSet { direction, impairment, seed }, json)
            }
            None => (Request::Status, self.json),
        };
        let mut client = Client::open(control)?;
        let impairments = match client.ask(&request)? {
            Response::Impairments(impairments) => impairments,
            Response::Status(status) => status.impairments,
            other => return Err(client.unexpected(&other)),
        };
        print(&impairments, json, out)?;
        Ok(Verdict::Passed)
    }
}

fn print(impairments: &Impairments, json: bool, out: &mut dyn Write) -> Result<(), Error> {
    if json {
        serde_json::to_writer_pretty(&mut *out, impairments).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        writeln!(out, "impaired: {impairments}")?;
    }
    Ok(())
}
