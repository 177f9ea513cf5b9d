//! `barewire stats`: the counters, read from the daemon's statistics page. The daemon is asked only
//! where the page is; reading it costs the workers nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use barewire_api::page::{Page, PageCounter};
use barewire_api::unit::grouped;
use clap::Args;
use serde_json::{Value, json};

use crate::client::Client;
use crate::exit::{Error, Verdict};

/// More than the largest page: 257 blocks of 1,024 counters and their table.
const PAGE_BYTES_MAX: u64 = 4 << 20;

#[derive(Args, Debug)]
pub(crate) struct Stats {
    /// Print JSON: a flat map from counter to value, or to each worker's value, zeros included
    #[arg(long)]
    json: bool,

    /// Show counters at 0 too
    #[arg(long)]
    all: bool,

    /// Show each worker's value beside the sum
    #[arg(long)]
    workers: bool,

    /// Say what each counter means
    #[arg(long)]
    help_counters: bool,

    /// Only counters with this in their name
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

impl Stats {
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        let page = read_page(&Client::open(control)?)?;
        let is_named = |counter: &&PageCounter| {
            self.names.is_empty() || self.names.iter().any(|name| counter.name.contains(name))
        };
        let counters = page.counters.iter().filter(is_named);
        if self.json {
            let value = |counter: &PageCounter| {
                if self.workers { json!(counter.workers) } else { json!(counter.total()) }
            };
            let values: BTreeMap<&str, Value> =
                counters.map(|counter| (counter.name.as_str(), value(counter))).collect();
            serde_json::to_writer_pretty(&mut *out, &values).map_err(io::Error::from)?;
            writeln!(out)?;
            return Ok(Verdict::Passed);
        }
        for counter in counters.filter(|counter| self.all || counter.total() > 0) {
            self.print(counter, out)?;
        }
        Ok(Verdict::Passed)
    }

    fn print(&self, counter: &PageCounter, out: &mut dyn Write) -> Result<(), Error> {
        let is_trouble = counter.kind.is_trouble() && counter.total() > 0;
        let mark = if is_trouble { '*' } else { ' ' };
        let total = grouped(counter.total());
        write!(out, "{mark} {:<40} {total:>20} {}", counter.name, counter.unit)?;
        if self.workers {
            let workers: Vec<String> = counter.workers.iter().map(|&n| grouped(n)).collect();
            write!(out, "  [{}]", workers.join(" "))?;
        }
        writeln!(out)?;
        if self.help_counters {
            writeln!(out, "      {}: {}", counter.kind, counter.help)?;
        }
        Ok(())
    }
}

fn read_page(client: &Client) -> Result<Page, Error> {
    let path = PathBuf::from(format!("/proc/{}/fd/{}", client.pid, client.page_fd));
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(PAGE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| Error::file("read the statistics page", &path, &error))?;
    Page::parse(&bytes).map_err(|error| Error::Environment(error.to_string()))
}
