//! The statistics page of a running engine: made once, written by each worker in its own block and
//! by the control thread in the daemon's, read by other processes without asking anybody.

use super::StartError;
use crate::sys::memfd::SharedPage;
use crate::worker::{Block, HANDOFF_HELP, handoff_counter, n_handoffs, worker_counters};
use barewire_api::page::{CounterDef, CounterKind, Layout, MAGIC};
use barewire_ebpf::Verdict;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The page and where things are on it.
#[derive(Debug)]
pub(crate) struct Statistics {
    page: Arc<SharedPage>,
    layout: Layout,
    kinds: Vec<(&'static str, CounterKind)>,
}

impl Statistics {
    /// A page for so many workers, all zero.
    pub(crate) fn new(n_workers: usize) -> Result<Self, StartError> {
        let workers = worker_counters();
        let pairs: Vec<String> = (0..n_handoffs(n_workers)).map(handoff_counter).collect();
        let handoffs = pairs.iter().map(|name| CounterDef {
            name,
            unit: "frames",
            kind: CounterKind::Count,
            help: HANDOFF_HELP,
        });
        let names = Verdict::ALL.map(|verdict| format!("xdp_{}", verdict.name()));
        let verdicts = Verdict::ALL.iter().zip(&names).map(|(&verdict, name)| {
            let (kind, help) = meaning(verdict);
            CounterDef { name, unit: "frames", kind, help }
        });
        let counters: Vec<_> = workers.iter().copied().chain(handoffs).chain(verdicts).collect();
        let layout = Layout::new(n_workers, &counters)
            .expect("our own counters have short names, and queues are bounded by the config");
        let page = SharedPage::new("barewire-statistics", layout.words())
            .map_err(StartError::os("make the statistics page"))?;
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let started_ms = started.unwrap_or(Duration::ZERO).as_millis() as u64;
        for (idx, &word) in layout.head(started_ms, std::process::id()).iter().enumerate() {
            page.store(idx, word);
        }
        page.store(0, MAGIC);
        let kinds = workers.iter().map(|counter| (counter.name, counter.kind)).collect();
        Ok(Statistics { page: Arc::new(page), layout, kinds })
    }

    /// The block that worker number `worker` writes.
    pub(crate) fn block(&self, worker: usize) -> Block {
        Block { page: Arc::clone(&self.page), at: self.layout.worker_block(worker) }
    }

    /// Writes the daemon's block.
    pub(crate) fn store_verdicts(&self, verdicts: &[(Verdict, u64)]) {
        let at =
            self.layout.daemon_block() + self.kinds.len() + n_handoffs(self.layout.n_workers());
        for (idx, &(_, frames)) in verdicts.iter().enumerate() {
            self.page.store(at + idx, frames);
        }
    }

    /// Frames that arrived at the first worker and were settled by the second, where there are any.
    pub(crate) fn handed_over(&self) -> Vec<(usize, usize, u64)> {
        let n = n_handoffs(self.layout.n_workers());
        let pairs = (0..n).flat_map(|from| (0..n).map(move |to| (from, to)));
        let counted = pairs.map(|(from, to)| {
            (from, to, self.page.load(self.layout.worker_block(to) + self.kinds.len() + from))
        });
        counted.filter(|&(_, _, frames)| frames > 0).collect()
    }

    /// One counter of one worker.
    pub(crate) fn of_worker(&self, worker: usize, name: &str) -> u64 {
        let idx = self.kinds.iter().position(|&(known, _)| known == name);
        let idx = idx.expect("a counter of the workers");
        self.page.load(self.layout.worker_block(worker) + idx)
    }

    /// Number of the page among our open files.
    pub(crate) fn fd_number(&self) -> u32 {
        self.page.fd_number().unsigned_abs()
    }

    /// The sum, over all workers, of the counters that `wanted` admits by name and kind.
    pub(crate) fn sum(&self, wanted: impl Fn(&str, CounterKind) -> bool) -> u64 {
        let blocks = (0..self.layout.n_workers()).map(|worker| self.layout.worker_block(worker));
        let counters =
            self.kinds.iter().enumerate().filter(|(_, (name, kind))| wanted(name, *kind));
        let words = counters.flat_map(|(idx, _)| blocks.clone().map(move |block| block + idx));
        words.map(|word| self.page.load(word)).sum()
    }
}

/// What a verdict's number means.
fn meaning(verdict: Verdict) -> (CounterKind, &'static str) {
    use CounterKind::{Count, Warn};
    match verdict {
        Verdict::Redirect => (Count, "Frames of ours, given to the socket of their queue."),
        Verdict::MissingPass => (
            Warn,
            "Frames of ours on a queue without a socket, passed to the kernel; serve all queues or \
             spread flows over the served ones (ethtool -X).",
        ),
        Verdict::MissingDrop => (
            Warn,
            "Frames of ours on a queue without a socket, dropped; serve all queues or spread flows \
             over the served ones (ethtool -X).",
        ),
        Verdict::PassDisabled => {
            (Warn, "Frames passed to the kernel because steering is switched off.")
        }
        Verdict::PassMalformed => (
            Count,
            "Frames passed to the kernel: truncated, or lengths that contradict each other.",
        ),
        Verdict::PassEthertype => (Count, "Frames passed to the kernel: neither ARP nor IP."),
        Verdict::PassVlan => (Count, "Frames passed to the kernel: a VLAN other than 0."),
        Verdict::PassArp => {
            (Count, "Frames passed to the kernel: ARP for an address that is not the engine's.")
        }
        Verdict::PassProtocol => {
            (Count, "Frames passed to the kernel: not the engine's address, and not TCP.")
        }
        Verdict::PassPort => {
            (Count, "Frames passed to the kernel: TCP to a port that is not the engine's.")
        }
        Verdict::PassFragment => {
            (Count, "Frames passed to the kernel: later fragments of packets to its addresses.")
        }
        Verdict::DropFragment => {
            (Warn, "Fragments to the engine's addresses, dropped; lower the sender's MTU.")
        }
        Verdict::DropProtocol => {
            (Count, "Frames to the engine's addresses that are neither TCP nor ICMP, dropped.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barewire_api::page::Page;
    use std::fs;

    #[test]
    fn a_reader_finds_the_workers_and_the_verdicts() {
        let statistics = Statistics::new(2).expect("a page");
        let block = statistics.block(1);
        block.page.store(block.at, 7);
        statistics.store_verdicts(&[(Verdict::Redirect, 9)]);
        let pair = block.at + worker_counters().len();
        block.page.store(pair, 5);
        let path = format!("/proc/self/fd/{}", statistics.fd_number());
        let page = Page::parse(&fs::read(path).expect("readable")).expect("a page");
        let first = worker_counters()[0];
        assert_eq!(page.counter(first.name).expect("the counter").workers, [0, 7]);
        assert_eq!(page.counter("xdp_redirect").expect("the counter").daemon, 9);
        assert_eq!(page.counter("handoff_from_0").expect("the counter").workers, [0, 5]);
        assert_eq!(statistics.handed_over(), [(0, 1, 5)]);
        assert_eq!(statistics.of_worker(1, first.name), 7);
        assert_eq!(statistics.sum(|name, _| name == first.name), 7);
    }
}
