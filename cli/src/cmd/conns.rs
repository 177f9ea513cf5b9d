//! `barewire conns`: the connections, page by page. The daemon is asked for the next page only when
//! the last one is printed, so neither side ever holds them all.

use std::io::{self, Write};
use std::path::Path;

use barewire_api::control::{
    CONNS_MAX, ConnFilter, ConnPage, ConnRow, ConnState, Request, Response,
};
use barewire_api::text::SyntaxError;
use barewire_api::unit::{Count, grouped};
use clap::Args;

use crate::client::Client;
use crate::exit::{Error, Verdict};

#[derive(Args, Debug)]
pub(crate) struct Conns {
    /// Print JSON: an array of connections
    #[arg(long)]
    json: bool,

    /// Only those in this state, such as ESTABLISHED
    #[arg(long, value_name = "STATE", value_parser = parse_state)]
    state: Option<ConnState>,

    /// Only those with this port at either end
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<Count>,
}

impl Conns {
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        let mut client = Client::open(control)?;
        let filter = ConnFilter { state: self.state, port: self.port };
        let mut left = self.limit.map_or(u64::MAX, |limit| limit.0);
        let mut cursor = None;
        let mut n_printed = 0;
        self.begin(out)?;
        while left > 0 {
            let limit = u32::try_from(left).unwrap_or(CONNS_MAX).min(CONNS_MAX);
            let page = ask(&mut client, &Request::Conns { cursor, limit, filter })?;
            for row in &page.rows {
                self.print(row, n_printed == 0, out)?;
                n_printed += 1;
            }
            left = left.saturating_sub(page.rows.len() as u64);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        self.end(out)?;
        Ok(Verdict::Passed)
    }

    fn begin(&self, out: &mut dyn Write) -> Result<(), Error> {
        if self.json {
            write!(out, "[")?;
        } else {
            writeln!(
                out,
                "{:<16} {:<12} {:<21} {:<21} {:<14} {:>9} {:>8} {:>8} {:>7}",
                "id", "state", "local", "remote", "app", "srtt", "sending", "unread", "resent"
            )?;
        }
        Ok(())
    }

    fn print(&self, row: &ConnRow, is_first: bool, out: &mut dyn Write) -> Result<(), Error> {
        if self.json {
            let separator = if is_first { "\n" } else { ",\n" };
            write!(out, "{separator}")?;
            serde_json::to_writer(&mut *out, row).map_err(io::Error::from)?;
            return Ok(());
        }
        writeln!(
            out,
            "{:<16} {:<12} {:<21} {:<21} {:<14} {:>7}us {:>8} {:>8} {:>7}",
            row.id,
            row.state,
            row.local.to_string(),
            row.remote.to_string(),
            row.app,
            row.srtt_us,
            grouped(row.send_bytes),
            grouped(row.recv_bytes),
            grouped(row.retransmits)
        )?;
        Ok(())
    }

    fn end(&self, out: &mut dyn Write) -> Result<(), Error> {
        if self.json {
            writeln!(out, "\n]")?;
        }
        Ok(())
    }
}

/// States are written in capitals, and typed as it comes.
fn parse_state(text: &str) -> Result<ConnState, SyntaxError> {
    text.to_ascii_uppercase().parse()
}

fn ask(client: &mut Client, request: &Request) -> Result<ConnPage, Error> {
    match client.ask(request)? {
        Response::Conns(page) => Ok(page),
        other => Err(client.unexpected(&other)),
    }
}
