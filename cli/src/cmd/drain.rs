//! `barewire drain`: the daemon accepts no more connections; those that exist run on.

use std::io::Write;
use std::path::Path;

use barewire_api::control::Request;
use clap::Args;

use crate::client::Client;
use crate::exit::{Error, Verdict};

#[derive(Args, Debug)]
pub(crate) struct Drain {}

impl Drain {
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        Client::open(control)?.order(&Request::Drain)?;
        writeln!(out, "draining")?;
        Ok(Verdict::Passed)
    }
}
