//! `barewire listen add|remove`: the listeners of a daemon that runs.

use std::io::Write;
use std::path::Path;

use barewire_api::config::{self, ListenAddr};
use barewire_api::control::Request;
use clap::Subcommand;

use crate::client::Client;
use crate::exit::{Error, Verdict};

#[derive(Subcommand, Debug)]
pub(crate) enum Listen {
    /// Listen on one more port
    Add {
        /// Such as 8080=echo, 80=http:10MiB, 10.99.0.2:7000=discard
        #[arg(value_name = "PORT=APP")]
        listen: config::Listen,
    },
    /// Listen no more; connections that exist run on
    Remove {
        /// Such as 8080 or 10.99.0.2:7000
        #[arg(value_name = "PORT")]
        port: ListenAddr,
    },
}

impl Listen {
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        let mut client = Client::open(control)?;
        match self {
            Listen::Add { listen } => {
                client.order(&Request::ListenAdd { listen: listen.clone() })?;
                writeln!(out, "listening {listen}")?;
            }
            Listen::Remove { port } => {
                client.order(&Request::ListenRemove { port })?;
                writeln!(out, "removed {port}")?;
            }
        }
        Ok(Verdict::Passed)
    }
}
