//! The state of the engine at one moment: what the kernel granted, and what the workers say when
//! asked one after the other.

use super::request::Refusal;
use super::server::Server;
use crate::sys::memory::resident_bytes;
use crate::worker::Desk;
use barewire_api::control::{ErrorCode, Frames, RecordBytes, Status, WorkerStatus};
use barewire_stack::device::Ledger;
use barewire_stack::stack::Memory;
use barewire_stack::stats::Counter;
use std::time::Instant;

/// What a worker says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) connections: u64,
    time_wait: u64,
    awake: u64,
    memory: Memory,
    pub(super) ledger: Ledger,
}

impl Moment {
    /// The job for a worker.
    pub(super) fn of(desk: &mut Desk<'_>) -> Self {
        let stats = desk.stack.stats();
        Moment {
            connections: stats.get(Counter::ConnsOpen),
            time_wait: stats.get(Counter::ConnsTimeWait),
            awake: u64::from(desk.stack.n_active()),
            memory: desk.stack.memory(),
            ledger: desk.ledger,
        }
    }
}

/// The state of the engine.
pub(super) fn of(server: &Server, now: Instant) -> Result<Status, Refusal> {
    let moments = server.own.crew.ask_all(Moment::of)?;
    let bytes_resident = resident_bytes()
        .map_err(|error| Refusal::new(ErrorCode::Refused, format!("resident memory: {error}")))?;
    let members = server.own.crew.members().iter().enumerate().zip(&moments);
    let workers: Vec<WorkerStatus> = members
        .map(|((idx, member), moment)| WorkerStatus {
            worker: idx as u16,
            queue: member.queue,
            cpu: member.cpu as u32,
            xdp_mode: server.own.steering.mode,
            zero_copy: member.outcome.zero_copy,
            busy_poll: member.outcome.busy_poll,
            needs_wakeup: member.outcome.needs_wakeup,
            huge_pages: member.outcome.huge_pages,
            connections: moment.connections,
            time_wait: moment.time_wait,
            awake: moment.awake,
            records: record_bytes(&moment.memory),
            buffer_bytes: moment.memory.buffers as u64,
            frames: frames(&moment.ledger),
        })
        .collect();
    let connections = workers.iter().map(|worker| worker.connections).sum();
    let interface = &server.own.site.config.interface;
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_ms: now.duration_since(server.started).as_millis() as u64,
        dev: interface.dev.clone(),
        driver: server.own.site.interface.driver.clone(),
        ownership: interface.ownership,
        addresses: interface.addresses.iter().chain(&interface.prefixes).copied().collect(),
        draining: server.is_draining,
        connections,
        time_wait: workers.iter().map(|worker| worker.time_wait).sum(),
        workers,
        rss: server.rss_status(),
        handed_over: server.handed_over(),
        bytes_resident,
        bytes_per_connection: bytes_resident.checked_div(connections),
        impairments: server.impairments,
        listeners: server.own.site.config.listen.clone(),
        load: server.test.as_ref().map(|_| server.load_progress()),
    })
}

/// The memory of connections as the control protocol shows it.
fn record_bytes(memory: &Memory) -> RecordBytes {
    RecordBytes {
        asleep: memory.records as u64,
        awake: memory.active as u64,
        time_wait: memory.time_wait as u64,
        table: memory.table as u64,
    }
}

/// A ledger as the control protocol shows it.
pub(super) fn frames(ledger: &Ledger) -> Frames {
    Frames {
        free: u64::from(ledger.free),
        fill: u64::from(ledger.fill),
        rx: u64::from(ledger.rx),
        tx: u64::from(ledger.tx),
        completion: u64::from(ledger.completion),
        held: u64::from(ledger.held),
        total: u64::from(ledger.total),
    }
}
