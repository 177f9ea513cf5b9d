//! `barewire man`: the manual pages of the command, its subcommands and the daemon.

use std::io::Write;
use std::path::PathBuf;

use barewire_api::flags::DaemonLine;
use clap::{Args, CommandFactory};

use crate::Line;
use crate::exit::{Error, Verdict};

#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Write every page into this directory instead of printing the main one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<Verdict, Error> {
        match self.dir {
            None => clap_mangen::Man::new(Line::command()).render(out)?,
            Some(dir) => {
                for command in [Line::command(), DaemonLine::command()] {
                    clap_mangen::generate_to(command, &dir)
                        .map_err(|error| Error::file("write the pages into", &dir, &error))?;
                }
            }
        }
        Ok(Verdict::Passed)
    }
}
