//! `barewire close`: ends one connection with a FIN.

use std::io::Write;
use std::path::Path;

use barewire_api::control::{ConnId, Request};
use clap::Args;

use crate::client::Client;
use crate::exit::{Error, Verdict};

#[derive(Args, Debug)]
pub(crate) struct Close {
    /// The connection, as `connect` or `conns` printed it
    id: ConnId,
}

impl Close {
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        Client::open(control)?.order(&Request::Close { id: self.id })?;
        writeln!(out, "closed {}", self.id)?;
        Ok(Verdict::Passed)
    }
}
