//! What a worker publishes: the counters of its stack, of its own loop, of its impaired paths and of
//! its queue, in one block of the statistics page. The order is that of [`worker_counters`]; whoever makes the page uses
//! the same list.

use super::impaired::Paths;
use super::lane::{Faults, RX_FAULTS, TX_FAULTS};
use crate::sys::memfd::SharedPage;
use barewire_api::page::{CounterDef, CounterKind};
use barewire_stack::device::Device;
use barewire_stack::device::memory::MemoryDevice;
use barewire_stack::stack::Stack;
use barewire_stack::stats::{Counter, Kind};
use barewire_stack::time::Duration;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::xdp::{N_STATISTICS, XdpDevice, statistics_list};

/// A [`Device`] that a worker can sleep on and that counts.
pub trait Queue: Device + Send {
    /// Sleeps until frames wait, `bell` rings or `timeout` has passed; true when the bell rang.
    fn wait(&self, timeout: Duration, bell: BorrowedFd<'_>) -> bool;

    /// The queue's own counters, in the order of [`statistics_list`].
    fn statistics(&self) -> [u64; N_STATISTICS];
}

impl Queue for XdpDevice {
    fn wait(&self, timeout: Duration, bell: BorrowedFd<'_>) -> bool {
        let timeout = std::time::Duration::from_nanos(timeout.as_nanos());
        // An error here is a signal or memory pressure: the worker turns and comes back.
        XdpDevice::wait(self, Some(timeout), bell).is_ok_and(|wake| wake.wakeup)
    }

    fn statistics(&self) -> [u64; N_STATISTICS] {
        XdpDevice::statistics(self).map_or([0; N_STATISTICS], |list| list.map(|s| s.value))
    }
}

impl Queue for MemoryDevice {
    /// The other end of the wire runs on the same thread: there is nothing to wait for.
    fn wait(&self, _timeout: Duration, _bell: BorrowedFd<'_>) -> bool {
        false
    }

    fn statistics(&self) -> [u64; N_STATISTICS] {
        [0; N_STATISTICS]
    }
}

/// What the loop counts itself.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) handoff_sent: u64,
    pub(super) handoff_received: u64,
    pub(super) handoff_full: u64,
    pub(super) tx_dropped: u64,
    pub(super) sleeps: u64,
    /// Frames that were settled here, by the worker at whose queue they arrived.
    pub(super) handoff_from: Vec<u64>,
}

const N_TALLIES: usize = 5;

impl Tally {
    /// Nothing yet, for one of so many workers.
    pub(super) fn new(n_workers: usize) -> Self {
        Tally {
            handoff_sent: 0,
            handoff_received: 0,
            handoff_full: 0,
            tx_dropped: 0,
            sleeps: 0,
            handoff_from: vec![0; n_handoffs(n_workers)],
        }
    }

    /// A frame was passed to the next worker, or lost on the way.
    pub(super) fn handed(&mut self, passed: bool) {
        if passed {
            self.handoff_sent += 1;
        } else {
            self.handoff_full += 1;
        }
    }

    fn values(&self) -> [u64; N_TALLIES] {
        let &Tally { handoff_sent, handoff_received, handoff_full, tx_dropped, sleeps, .. } = self;
        [handoff_sent, handoff_received, handoff_full, tx_dropped, sleeps]
    }
}

const TALLIES: [(&str, CounterKind, &str, &str); N_TALLIES] = [
    (
        "handoff_sent",
        CounterKind::Count,
        "frames",
        "Frames passed to the next worker, because this one does not know their connection.",
    ),
    ("handoff_received", CounterKind::Count, "frames", "Frames taken from the worker before."),
    (
        "handoff_full",
        CounterKind::Warn,
        "frames",
        "Frames lost because the next worker's inbox was full; the peer sends them again.",
    ),
    (
        "tx_dropped",
        CounterKind::Warn,
        "frames",
        "Answers dropped because the TX ring was full or no frame was free.",
    ),
    ("sleeps", CounterKind::Count, "times", "Times that the worker had nothing to do and slept."),
];

/// How many counters of frames handed over each of so many workers has.
pub fn n_handoffs(n_workers: usize) -> usize {
    if n_workers > 1 { n_workers } else { 0 }
}

/// The name of the counter of frames handed over from worker number `worker`.
pub fn handoff_counter(worker: usize) -> String {
    format!("handoff_from_{worker}")
}

/// What it means.
pub const HANDOFF_HELP: &str =
    "Frames, ARP apart, that arrived at that worker's queue and were settled here.";

/// The counters of a worker's block, in its order; behind them come [`n_handoffs`] times a
/// [`handoff_counter`].
pub fn worker_counters() -> Vec<CounterDef<'static>> {
    let stack = Counter::ALL.iter().map(|counter| CounterDef {
        name: counter.name(),
        unit: counter.unit(),
        kind: match counter.kind() {
            Kind::Count => CounterKind::Count,
            Kind::Gauge => CounterKind::Gauge,
            Kind::Use => CounterKind::Use,
            Kind::Drop => CounterKind::Drop,
            Kind::End => CounterKind::End,
            Kind::Warn => CounterKind::Warn,
        },
        help: counter.help(),
    });
    let tally =
        TALLIES.iter().map(|&(name, kind, unit, help)| CounterDef { name, unit, kind, help });
    let faults = TX_FAULTS.iter().chain(&RX_FAULTS);
    let faults = faults.map(|&(name, kind, help)| CounterDef { name, unit: "frames", kind, help });
    let queue = statistics_list().map(|statistic| CounterDef {
        name: statistic.name,
        unit: "events",
        kind: if is_normal(statistic.name) { CounterKind::Count } else { CounterKind::Warn },
        help: statistic.help,
    });
    stack.chain(tally).chain(faults).chain(queue).collect()
}

/// A counter of the queue that rises with normal work.
fn is_normal(name: &str) -> bool {
    ["xsk_tx_ring_empty", "xsk_rx_kicks", "xsk_tx_kicks", "xsk_tx_kick_again"].contains(&name)
}

/// A worker's block of the statistics page.
#[derive(Clone, Debug)]
pub struct Block {
    /// The page, which other processes read.
    pub page: Arc<SharedPage>,
    /// Where the block starts, in words.
    pub at: usize,
}

impl Block {
    pub(super) fn store<Q: Queue>(&self, stack: &Stack, tally: &Tally, paths: &Paths, queue: &Q) {
        let statistics = queue.statistics();
        let loop_values = tally.values();
        let [tx, rx] = paths.faults().map(Faults::values);
        let values = stack.stats().values().iter().chain(&loop_values);
        let values = values.chain(&tx).chain(&rx).chain(&statistics).chain(&tally.handoff_from);
        for (idx, &value) in values.enumerate() {
            self.page.store(self.at + idx, value);
        }
    }
}
