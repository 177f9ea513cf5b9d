//! The end of an engine: whether the sums that must hold did. A frame that was lost, or a connection
//! that ended under no name, is a bug of ours and shows up here.

use super::Statistics;
use crate::worker::Remains;
use barewire_api::page::CounterKind;
use barewire_api::unit::grouped;
use barewire_stack::stats::Counter;
use std::fmt;

/// What an engine leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Sums that did not hold.
    broken: Vec<String>,
    /// What else went wrong.
    failures: Vec<String>,
    n_workers: usize,
    umem_frames: u64,
    rx_frames: u64,
    opened: u64,
    ended: u64,
}

impl Ending {
    pub(crate) fn new(remains: &[Result<Remains, String>], statistics: &Statistics) -> Self {
        let broken = remains.iter().enumerate().filter_map(|(idx, remains)| match remains {
            Ok(remains) => remains.audit.as_ref().err().map(|why| format!("worker {idx}: {why}")),
            Err(why) => Some(why.clone()),
        });
        let named = |wanted: &[Counter]| {
            statistics.sum(|name, _| wanted.iter().any(|counter| counter.name() == name))
        };
        Ending {
            broken: broken.collect(),
            failures: Vec::new(),
            n_workers: remains.len(),
            umem_frames: remains.iter().flatten().map(|r| u64::from(r.ledger.total)).sum(),
            rx_frames: named(&[Counter::RxFrames]),
            opened: named(&[Counter::ConnsActive, Counter::ConnsPassive]),
            ended: statistics.sum(|_, kind| kind == CounterKind::End),
        }
    }

    /// Something else than a sum went wrong.
    pub(crate) fn add_failure(&mut self, why: String) {
        self.failures.push(why);
    }

    /// Every sum held, and nothing else went wrong.
    pub fn is_sound(&self) -> bool {
        self.broken.is_empty() && self.failures.is_empty()
    }

    /// The exit status that goes with it.
    pub fn status(&self) -> u8 {
        if self.is_sound() { 0 } else { 1 }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.failures.is_empty() {
            write!(f, "failed: {}; ", self.failures.join("; "))?;
        }
        if !self.broken.is_empty() {
            return write!(f, "ended, and the books do not balance: {}", self.broken.join("; "));
        }
        write!(
            f,
            "ended: {} umem frames of {} workers conserved; {} frames received, each used or dropped \
             under one name; {} connections opened, {} ended",
            grouped(self.umem_frames),
            self.n_workers,
            grouped(self.rx_frames),
            grouped(self.opened),
            grouped(self.ended),
        )
    }
}
