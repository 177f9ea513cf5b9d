//! `barewire connect`: one connection by hand. It stays open in the daemon until it is closed there.
//! The outcome alone is on the standard output; which connection it is, on the standard error.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use barewire_api::config::parse_destination;
use barewire_api::control::{Request, Response};
use barewire_api::unit::Span;
use clap::Args;

use crate::client::Client;
use crate::exit::{Error, Verdict};

#[derive(Args, Debug)]
pub(crate) struct Connect {
    /// Where to, such as 192.0.2.7:4000
    #[arg(value_name = "ADDR:PORT", value_parser = parse_destination)]
    remote: SocketAddrV4,

    /// From which of the engine's addresses [default: its first]
    #[arg(long, value_name = "ADDR")]
    src: Option<Ipv4Addr>,

    /// From which port [default: the engine chooses]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    src_port: Option<u16>,

    /// How long to wait for the outcome
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: Span,
}

impl Connect {
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        let mut client = Client::open(control)?;
        let request = Request::Connect {
            remote: self.remote,
            local: self.src,
            src_port: self.src_port,
            timeout: self.timeout,
        };
        match client.ask_patiently(&request, self.timeout.0)? {
            Response::Connected { id, local } => {
                writeln!(out, "connected")?;
                eprintln!("connection {id} from {local}");
                Ok(Verdict::Passed)
            }
            Response::Failed { reason } => {
                writeln!(out, "failed: {}", reason.sentence())?;
                Ok(Verdict::Failed)
            }
            other => Err(client.unexpected(&other)),
        }
    }
}
