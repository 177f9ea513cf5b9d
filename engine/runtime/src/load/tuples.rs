//! The tuples of one worker, taken one after the other and round again. Which of them are in use
//! only the stack knows: a tuple that it refuses is passed over, and when a whole round was refused
//! there is none left.

use barewire_api::plan::{PlannedTuple, TuplePlan, TupleShare};

/// A worker's tuples and where it is among them.
#[derive(Debug)]
pub(super) struct Tuples {
    plan: TuplePlan,
    worker: usize,
    n_workers: usize,
    next: u64,
    /// Tuples in a row that were in use.
    refused: u64,
}

impl Tuples {
    /// The part of worker number `worker` of `n_workers`.
    ///
    /// # Panics
    /// When there is no such worker.
    pub(super) fn new(plan: TuplePlan, worker: usize, n_workers: usize) -> Self {
        assert!(worker < n_workers, "worker {worker} of {n_workers}");
        Tuples { plan, worker, n_workers, next: 0, refused: 0 }
    }

    /// This worker's part of `total` connections.
    pub(super) fn part_of(&self, total: u64) -> u64 {
        self.share().part_of(total)
    }

    /// The next tuple; none when there are no tuples at all.
    pub(super) fn take(&mut self) -> Option<PlannedTuple> {
        let share = self.share();
        let idx = if self.next < share.len() { self.next } else { 0 };
        let tuple = share.tuple(idx);
        self.next = idx + 1;
        tuple
    }

    /// The last tuple was free.
    pub(super) fn note_free(&mut self) {
        self.refused = 0;
    }

    /// The last tuple was in use. True when that ends a whole round of such.
    pub(super) fn note_in_use(&mut self) -> bool {
        self.refused += 1;
        let all = self.refused >= self.share().len();
        if all {
            self.refused = 0;
        }
        all
    }

    fn share(&self) -> TupleShare<'_> {
        self.plan.share(self.worker, self.n_workers).expect("the worker is one of the plan's")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_come_round_and_a_round_of_refusals_is_noticed() {
        let source = "10.1.0.1/32".parse().expect("a prefix");
        let ports = "1024-1027".parse().expect("a port range");
        let dst = [std::net::SocketAddrV4::new([10, 0, 0, 2].into(), 80)];
        let mut tuples = Tuples::new(TuplePlan::new(&[source], ports, &dst), 1, 2);
        assert_eq!(tuples.part_of(5), 2);
        let ports: Vec<u16> =
            (0..3).filter_map(|_| tuples.take()).map(|tuple| tuple.local.port()).collect();
        assert_eq!(ports, [1025, 1027, 1025]);
        assert!(!tuples.note_in_use());
        tuples.note_free();
        assert!(!tuples.note_in_use());
        assert!(tuples.note_in_use());
    }
}
