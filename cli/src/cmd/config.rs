//! `barewire config`: every setting of the running daemon, whether it was given or is a default, in the
//! form of its configuration file. It reads no file.

use std::io::{self, Write};
use std::path::Path;

use barewire_api::control::{Request, Response};
use clap::Args;

use crate::client::Client;
use crate::exit::{Error, Verdict};

#[derive(Args, Debug)]
pub(crate) struct Config {
    /// Print JSON instead of TOML
    #[arg(long)]
    json: bool,
}

impl Config {
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        let mut client = Client::open(control)?;
        let config = match client.ask(&Request::Config)? {
            Response::Config(config) => config,
            other => return Err(client.unexpected(&other)),
        };
        if self.json {
            serde_json::to_writer_pretty(&mut *out, &config).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            write!(out, "{}", config.to_toml())?;
        }
        Ok(Verdict::Passed)
    }
}
