//! The main job without a NIC: a server and a load generator, each with its own workers and stacks,
//! in one thread over the in-process wire. The code is that of the engine from the frames up; what is
//! missing is the kernel. Everything that a run counts must add up on both sides.

use crate::rig::{self, CLIENT, Failure, SERVER, SOURCES};
use barewire_api::Config;
use barewire_api::config::{LoadMode, LoadPlan, Prefix};
use barewire_api::control::Frames;
use barewire_api::report::{LoadPhase, LoadReport};
use barewire_api::unit::{Count, Span, grouped};
use barewire_engine::load::{Conductor, Load};
use barewire_engine::sys::clock;
use barewire_engine::sys::memory::resident_bytes;
use barewire_engine::worker::{Apps, Remains, Worker};
use barewire_stack::device::memory::{MemoryDevice, carry};
use barewire_stack::device::{Device, Ledger};
use barewire_stack::stats::{Counter, Counters};
use barewire_stack::time::{Duration, Instant};
use clap::Args;
use std::path::PathBuf;
use std::{io, thread};

/// What to run.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Connections open at the same time
    #[arg(long, value_name = "N", default_value = "1m")]
    connections: Count,
    /// Workers of each side
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    queues: u16,
    /// How long all connections are held before each exchanges a request and a response
    #[arg(long, value_name = "TIME", default_value = "1s")]
    duration: Span,
    /// Requests on each connection, one after the other
    #[arg(long, value_name = "N", default_value_t = 1)]
    exchanges: u32,
    /// Write the report there, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One side: its workers, and their counters when they have ended.
struct Side {
    workers: Vec<Worker<MemoryDevice>>,
}

/// Runs the test and prints its report; an error when anything does not add up.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let plan = plan(options).map_err(Failure::Plan)?;
    let (mut server, mut client) = sides(options).map_err(|e| Failure::Os("make an eventfd", e))?;
    let tuples = plan.tuples(&config(options).interface);
    let n_workers = client.workers.len();
    let now = clock::now();
    for (idx, worker) in client.workers.iter_mut().enumerate() {
        let load = Load::new(&plan, tuples.clone(), idx, n_workers, now);
        worker.visit(now, |desk| desk.apps.load = Some(Box::new(load)));
    }
    let mut conductor = Conductor::new(plan, n_workers, now);
    let peak = drive(&mut conductor, &mut server, &mut client)?;
    let now = clock::now();
    let report = report(&conductor, &mut client, now);
    println!("{report}");
    println!(
        "records      {} bytes per connection on the server, {} on the client",
        peak.0, peak.1
    );
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report).expect("a report has a JSON form");
        std::fs::write(path, json).map_err(|e| Failure::Os("write the report", e))?;
    }
    settle(server, client, &report)
}

fn config(options: &Options) -> Config {
    let mut config = Config::default();
    config.interface.addresses = vec![Prefix::new(CLIENT, 24).expect("a prefix of an address")];
    config.interface.prefixes = vec![SOURCES.parse().expect("a prefix")];
    config.tcp.connections_max = Count(options.connections.0.max(1));
    config
}

fn plan(options: &Options) -> Result<LoadPlan, barewire_api::ConfigError> {
    let plan = LoadPlan {
        mode: LoadMode::Hold,
        src: vec![SOURCES.parse().expect("a prefix")],
        dst: vec![SERVER],
        connections: options.connections,
        duration: options.duration,
        exchanges: options.exchanges,
        ..LoadPlan::default()
    };
    let config = config(options);
    plan.check(&config.interface, &config.tcp)?;
    Ok(plan)
}

fn sides(options: &Options) -> io::Result<(Side, Side)> {
    let n = usize::from(options.queues);
    let share = options.connections.0.div_ceil(n as u64);
    let connections_max = u32::try_from(share).unwrap_or(u32::MAX);
    let server = rig::workers(n, || rig::server(connections_max))?;
    let client = rig::workers(n, || (rig::client(connections_max, clock::now()), Apps::new()))?;
    let (server, client) = (Side { workers: server }, Side { workers: client });
    Ok((server, client))
}

/// Turns all workers until the test is over. Returns the bytes of records and table per connection
/// on both sides while most were open.
fn drive(
    conductor: &mut Conductor,
    server: &mut Side,
    client: &mut Side,
) -> Result<(u64, u64), Failure> {
    let (mut shown_at, mut told_at) = (Instant::ZERO, clock::now());
    let (mut most, mut peak) = (0, (0, 0));
    while !conductor.is_done() {
        let now = clock::now();
        let mut worked = false;
        for (a, b) in server.workers.iter_mut().zip(&mut client.workers) {
            worked |= a.turn(now).worked;
            carry(a.device_mut(), b.device_mut());
            worked |= b.turn(now).worked;
            carry(b.device_mut(), a.device_mut());
        }
        if now.since(shown_at) >= Conductor::EVERY {
            shown_at = now;
            let resident = resident_bytes().map_err(|e| Failure::Os("read resident memory", e))?;
            conduct(conductor, client, now, resident);
            let open = conductor.progress(now).open;
            if open > most {
                most = open;
                peak = (server.bytes(now) / open, client.bytes(now) / open);
            }
        }
        if now.since(told_at) >= Duration::from_secs(1) {
            told_at = now;
            tell(conductor, now);
        }
        if !worked {
            thread::sleep(std::time::Duration::from_micros(100));
        }
    }
    Ok(peak)
}

fn conduct(conductor: &mut Conductor, client: &mut Side, now: Instant, resident: u64) {
    let progress =
        |worker: &mut Worker<MemoryDevice>| worker.visit(now, |desk| desk.apps.load_progress());
    let shown: Vec<_> = client.workers.iter_mut().filter_map(progress).collect();
    let Some(phase) = conductor.on_progress(now, &shown, resident) else { return };
    if phase == LoadPhase::Done {
        return;
    }
    for worker in &mut client.workers {
        worker.visit(now, |desk| desk.apps.enter_load(phase));
    }
}

fn tell(conductor: &Conductor, now: Instant) {
    let p = conductor.progress(now);
    eprintln!(
        "{:>4}s {:<9} open {:>11}  responses {:>11}  closed {:>11}  failed {}",
        p.elapsed_ms / 1000,
        p.phase.word(),
        grouped(p.open),
        grouped(p.responses),
        grouped(p.closed),
        grouped(p.failed),
    );
}

fn report(conductor: &Conductor, client: &mut Side, now: Instant) -> LoadReport {
    let part = |worker: &mut Worker<MemoryDevice>| worker.visit(now, |desk| desk.apps.load_part());
    let parts: Vec<_> = client.workers.iter_mut().filter_map(part).collect();
    let ledgers = client.workers.iter_mut().map(|worker| frames(worker.device_mut().ledger()));
    let frames = ledgers.fold(Frames::default(), |sum, one| sum.merged(&one));
    conductor.report(&parts, frames)
}

fn frames(ledger: Ledger) -> Frames {
    let Ledger { free, fill, rx, tx, completion, held, total } = ledger;
    Frames {
        free: free.into(),
        fill: fill.into(),
        rx: rx.into(),
        tx: tx.into(),
        completion: completion.into(),
        held: held.into(),
        total: total.into(),
    }
}

/// The end: every sum of both sides, and the sums between them.
fn settle(server: Side, client: Side, report: &LoadReport) -> Result<(), Failure> {
    let mut broken = Vec::new();
    if !report.adds_up() {
        broken.push("the report's opened, closed, open and failed do not add up".to_owned());
    }
    if report.failed > 0 {
        broken.push(format!("{} connections failed", grouped(report.failed)));
    }
    let (served, loaded) = (server.end(&mut broken), client.end(&mut broken));
    for (what, ours, theirs) in [
        ("connections", Counter::ConnsActive, Counter::ConnsPassive),
        ("bytes to the server", Counter::TcpBytesAcked, Counter::TcpBytesIn),
        ("bytes to the client", Counter::TcpBytesIn, Counter::TcpBytesAcked),
    ] {
        let (ours, theirs) = (loaded.get(ours), served.get(theirs));
        if ours != theirs {
            broken.push(format!("{what}: {ours} on the client, {theirs} on the server"));
        }
    }
    if broken.is_empty() {
        println!("both sides  agree: connections, bytes and frames are accounted for");
        return Ok(());
    }
    Err(Failure::Sums(broken))
}

impl Side {
    /// Bytes of records and tables.
    fn bytes(&mut self, now: Instant) -> u64 {
        let memory = |worker: &mut Worker<MemoryDevice>| worker.visit(now, |d| d.stack.memory());
        self.workers.iter_mut().map(memory).map(|m| m.connections() as u64).sum()
    }

    /// Ends the workers; their counters, summed.
    fn end(mut self, broken: &mut Vec<String>) -> Counters {
        let now = clock::now();
        let mut sum = Counters::new();
        for worker in &mut self.workers {
            worker.visit(now, |desk| {
                for &counter in Counter::ALL {
                    sum.add(counter, desk.stack.stats().get(counter));
                }
            });
        }
        for worker in self.workers {
            let Remains { audit, .. } = worker.finish();
            broken.extend(audit.err());
        }
        sum
    }
}
