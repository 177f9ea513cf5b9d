//! What the driver of a simulated host tells of its NIC's hash, what the workers make of it, and what
//! must follow: as long as what was read is what the NIC has, every segment arrives at the worker that
//! has its connection, and nothing is handed over. Connections from before a change are exempt, for
//! they stay where they are.

use super::worker::Worker;
use crate::flow::FourTuple;
use crate::flow::port::QueuePorts;
use crate::flow::rss::Rss;
use std::collections::BTreeSet;

/// What is known of one host.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// As it was last read; nothing on a host whose driver tells nothing.
    told: Option<QueuePorts>,
    /// Nothing has changed since.
    is_current: bool,
    /// Flows that anybody began, and those of them that began before the last reading.
    begun: BTreeSet<[u8; 12]>,
    old: BTreeSet<[u8; 12]>,
    /// The first segment that arrived where nobody knew of it, though it should not have.
    pub(super) wrong: Option<String>,
}

impl Arrivals {
    pub(super) fn new() -> Self {
        Arrivals {
            told: None,
            is_current: false,
            begun: BTreeSet::new(),
            old: BTreeSet::new(),
            wrong: None,
        }
    }

    /// The driver tells what the NIC has, and each worker gets the ports of its queue.
    pub(super) fn read(&mut self, rss: &Rss, workers: &mut [Worker], misreads: bool) {
        let told = QueuePorts::new(rss.clone(), 0);
        let (n, beside) = (workers.len(), usize::from(misreads));
        for (queue, worker) in workers.iter_mut().enumerate() {
            let ports = told.of_queue(((queue + beside) % n) as u16);
            worker.stack.set_queue_ports(Some(ports));
        }
        self.told = Some(told);
        self.is_current = true;
        self.old.append(&mut self.begun);
    }

    /// The NIC has something else now.
    pub(super) fn on_change(&mut self) {
        self.is_current = false;
    }

    /// The driver tells.
    pub(super) fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// The worker at which segments of a flow arrive, as far as anybody knows.
    pub(super) fn worker(&self, tuple: &FourTuple) -> Option<usize> {
        self.told.as_ref().map(|told| usize::from(told.rss().queue(tuple)))
    }

    /// A connection is opened, or a SYN for one arrives.
    pub(super) fn note_begin(&mut self, tuple: &FourTuple) {
        if self.is_told() {
            self.begun.insert(tuple.to_bytes());
        }
    }

    /// A flow of which it is known that its segments arrive elsewhere.
    pub(super) fn exempt(&mut self, tuple: &FourTuple) {
        self.old.insert(tuple.to_bytes());
    }

    /// A segment arrives at a queue: no other worker has its connection.
    pub(super) fn judge(&mut self, tuple: &FourTuple, queue: usize, workers: &[Worker]) {
        if !self.is_current || self.wrong.is_some() || workers.len() == 1 {
            return;
        }
        let has = |worker: &Worker| worker.stack.conn_between(tuple).is_some();
        let owner = workers.iter().enumerate().find(|(idx, worker)| *idx != queue && has(worker));
        if let Some((owner, _)) = owner.filter(|_| !self.old.contains(&tuple.to_bytes())) {
            let what = format!("{tuple:?} arrived at queue {queue}, and worker {owner} has it");
            self.wrong = Some(what);
        }
    }
}
