//! `barewire status`: what the daemon is, what the kernel granted it, and where its memory and
//! frames are.

use std::io::{self, Write};
use std::path::Path;

use barewire_api::config::Listen;
use barewire_api::control::{self, Request, Response, RssStatus, WorkerStatus};
use barewire_api::unit::grouped;
use clap::Args;

use crate::client::Client;
use crate::exit::{Error, Verdict};
use crate::live;

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        let mut client = Client::open(control)?;
        let status = match client.ask(&Request::Status)? {
            Response::Status(status) => status,
            other => return Err(client.unexpected(&other)),
        };
        if self.json {
            serde_json::to_writer_pretty(&mut *out, &status).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            print(&status, out)?;
        }
        Ok(Verdict::Passed)
    }
}

fn print(status: &control::Status, out: &mut dyn Write) -> Result<(), Error> {
    let draining = if status.draining { ", draining" } else { "" };
    writeln!(
        out,
        "barewired {} (pid {}), up {}s{draining}",
        status.version,
        status.pid,
        status.uptime_ms / 1_000
    )?;
    if !status.impairments.is_none() {
        writeln!(out, "* IMPAIRED   {}", status.impairments)?;
    }
    let addresses: Vec<String> = status.addresses.iter().map(ToString::to_string).collect();
    writeln!(
        out,
        "device       {} ({}), {} {}",
        status.dev,
        status.driver,
        status.ownership,
        addresses.join(", ")
    )?;
    writeln!(
        out,
        "connections  {} and {} in TIME-WAIT",
        grouped(status.connections),
        grouped(status.time_wait)
    )?;
    write!(out, "memory       {} bytes resident", grouped(status.bytes_resident))?;
    if let Some(bytes) = status.bytes_per_connection {
        write!(out, ", {} per connection, all included", grouped(bytes))?;
    }
    let listeners: Vec<String> = status.listeners.iter().map(Listen::to_string).collect();
    let listeners = if listeners.is_empty() { "none".to_owned() } else { listeners.join(" ") };
    writeln!(out, "\nlisteners    {listeners}")?;
    print_rss(&status.rss, out)?;
    let handed: Vec<String> = status
        .handed_over
        .iter()
        .map(|pair| format!("{} to {} {}", pair.from, pair.to, grouped(pair.frames)))
        .collect();
    if !handed.is_empty() {
        writeln!(out, "handed over  frames from worker {}", handed.join(", "))?;
    }
    status.workers.iter().try_for_each(|worker| print_worker(worker, out))?;
    if let Some(load) = &status.load {
        writeln!(out, "load        {}", live::line(load, load))?;
    }
    Ok(())
}

fn print_rss(rss: &RssStatus, out: &mut dyn Write) -> Result<(), Error> {
    writeln!(out, "rss          {}", rss.reason)?;
    let key = if rss.key_known { "known" } else { "not known" };
    writeln!(
        out,
        "             hash {}, key {key}, table of {}, hashed {}, {} wanted",
        rss.hash_function, rss.table_len, rss.hashed, rss.wanted
    )?;
    if rss.checked > 0 {
        let mark = if rss.mismatched > 0 { "  *" } else { "" };
        writeln!(
            out,
            "             {} frames compared, {} of them arrived at another queue than foretold{mark}",
            grouped(rss.checked),
            grouped(rss.mismatched)
        )?;
    }
    for change in &rss.changes {
        writeln!(out, "* rss        after {}s: {}", change.uptime_ms / 1_000, change.what)?;
    }
    Ok(())
}

fn print_worker(worker: &WorkerStatus, out: &mut dyn Write) -> Result<(), Error> {
    let copies = if worker.zero_copy { "zero-copy" } else { "copy" };
    let extras: Vec<&str> = [
        (worker.busy_poll, "busy poll"),
        (worker.needs_wakeup, "need-wakeup"),
        (worker.huge_pages, "huge pages"),
    ]
    .into_iter()
    .filter_map(|(is_on, name)| is_on.then_some(name))
    .collect();
    writeln!(
        out,
        "worker {:<5} queue {}, cpu {}, {} XDP, {copies}{}{}",
        worker.worker,
        worker.queue,
        worker.cpu,
        worker.xdp_mode,
        if extras.is_empty() { "" } else { ", " },
        extras.join(", ")
    )?;
    let frames = &worker.frames;
    let mark = if frames.balances() { "" } else { "  * NOT CONSERVED" };
    writeln!(
        out,
        "             {} connections, {} of them awake, {} in TIME-WAIT",
        grouped(worker.connections),
        grouped(worker.awake),
        grouped(worker.time_wait)
    )?;
    let records = &worker.records;
    writeln!(
        out,
        "             bytes {} = {} records + {} awake + {} TIME-WAIT + {} table; {} buffered",
        grouped(records.total()),
        grouped(records.asleep),
        grouped(records.awake),
        grouped(records.time_wait),
        grouped(records.table),
        grouped(worker.buffer_bytes)
    )?;
    writeln!(
        out,
        "             frames {} = {} free + {} fill + {} rx + {} tx + {} completion + {} held{mark}",
        frames.total,
        frames.free,
        frames.fill,
        frames.rx,
        frames.tx,
        frames.completion,
        frames.held
    )?;
    Ok(())
}
