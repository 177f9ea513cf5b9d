//! `barewire serve`: the daemon in the foreground, from flags. This process becomes the daemon, so
//! signals and the exit status are the daemon's own.

use std::io::Write;
use std::path::Path;

use barewire_api::flags::Flags;
use clap::Args;

use crate::daemon;
use crate::exit::{Error, Verdict};

#[derive(Args, Debug)]
pub(crate) struct Serve {
    #[command(flatten)]
    flags: Flags,

    /// Check the configuration, print it in full, and start nothing
    #[arg(long)]
    check: bool,
}

impl Serve {
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        let config = self.flags.to_config(control)?;
        config.check()?;
        if self.check {
            write!(out, "{}", config.to_toml())?;
            return Ok(Verdict::Passed);
        }
        match daemon::become_daemon(&config)? {}
    }
}
