//! `barewire completions`: a completion script for a shell.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Line;
use crate::exit::{Error, Verdict};

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<Verdict, Error> {
        // By way of memory: the generator panics where it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Line::command(), "barewire", &mut script);
        out.write_all(&script)?;
        Ok(Verdict::Passed)
    }
}
