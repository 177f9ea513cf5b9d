//! The tuples of one worker, taken one after the other and round again. Where it is known at which
//! queue answers arrive they are those of the worker's own queue, address by address; elsewhere every
//! n-th of the plan. Which of them are in use only the stack knows: a tuple that it refuses is passed
//! over, and when a whole round was refused there is none left.

use barewire_api::plan::{PlannedTuple, TuplePlan};
use barewire_stack::flow::port::{QueuePorts, Walk};
use std::net::SocketAddrV4;
use std::ops::RangeInclusive;

/// Source addresses looked at for one tuple. Only where a NIC hashes addresses alone do more than a
/// few in a row have none for a queue; then the next call goes on.
const ADDRESSES_MAX: u32 = 64;

/// Tuples in a row that are passed over because they arrive at another worker: those of a hundred
/// places of an indirection table.
const PASSED_MAX: u64 = 1 << 16;

/// A worker's tuples and where it is among them.
#[derive(Debug)]
pub struct Tuples {
    plan: TuplePlan,
    order: Order,
    /// How many there are.
    len: u64,
    /// How many connections the worker opens on them.
    portion: u64,
    /// Tuples in a row that were in use, or passed over.
    refused: u64,
    /// Tuples that arrive at another worker are passed over: since the hash changed, they may. A long
    /// row of nothing else ends that, and they are opened all the same.
    is_choosy: bool,
}

#[derive(Debug)]
enum Order {
    /// Every n-th of the plan.
    ByNumber { worker: usize, n_workers: usize, next: u64 },
    /// Those whose answers arrive at a queue.
    ByQueue(Box<Arriving>),
}

/// A walk over all tuples of a queue: source addresses change slowest, destinations fastest.
#[derive(Debug)]
struct Arriving {
    own: QueuePorts,
    ports: RangeInclusive<u16>,
    seed: u64,
    /// The next source address.
    address: u64,
    /// Between the address before and each destination.
    walks: Vec<Walk>,
    /// The address before.
    local: std::net::Ipv4Addr,
    /// The destination whose turn it is.
    turn: usize,
}

impl Tuples {
    /// Every `n_workers`-th tuple of a plan of `total` connections.
    ///
    /// # Panics
    /// When there is no such worker.
    pub fn by_number(plan: TuplePlan, worker: usize, n_workers: usize, total: u64) -> Self {
        let share = plan.share(worker, n_workers).expect("the worker is one of the plan's");
        let (len, portion) = (share.len(), share.part_of(total));
        let order = Order::ByNumber { worker, n_workers, next: 0 };
        Tuples { plan, order, len, portion, refused: 0, is_choosy: false }
    }

    /// The tuples of a plan that arrive at a queue, of which there are `len`, for `portion`
    /// connections; `seed` decides in which order.
    pub(super) fn by_queue(
        plan: TuplePlan,
        own: QueuePorts,
        len: u64,
        portion: u64,
        seed: u64,
    ) -> Self {
        let arriving = Arriving {
            own,
            ports: plan.ports().lo()..=plan.ports().hi(),
            seed,
            address: 0,
            walks: Vec::with_capacity(plan.dst().len()),
            local: std::net::Ipv4Addr::UNSPECIFIED,
            turn: 0,
        };
        Tuples {
            plan,
            order: Order::ByQueue(Box::new(arriving)),
            len,
            portion,
            refused: 0,
            is_choosy: false,
        }
    }

    /// The connections that this worker opens.
    pub(super) fn portion(&self) -> u64 {
        self.portion
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The next tuple; none when there are no tuples at all, or none was found yet.
    pub(super) fn take(&mut self) -> Option<PlannedTuple> {
        if self.len == 0 {
            return None;
        }
        match &mut self.order {
            Order::ByNumber { worker, n_workers, next } => {
                let idx = if *next < self.len { *next } else { 0 };
                *next = idx + 1;
                self.plan.share(*worker, *n_workers)?.tuple(idx)
            }
            Order::ByQueue(arriving) => arriving.take(&self.plan),
        }
    }

    /// The hash of the NIC has changed.
    pub(super) fn on_hash_changed(&mut self) {
        (self.is_choosy, self.refused) = (true, 0);
    }

    /// Tuples that arrive at another worker are to be passed over.
    pub(super) fn is_choosy(&self) -> bool {
        self.is_choosy
    }

    /// The last tuple was free.
    pub(super) fn note_free(&mut self) {
        self.refused = 0;
    }

    /// The last tuple was in use, or passed over. True when that ends a whole round of tuples in use.
    pub(super) fn note_refused(&mut self) -> bool {
        self.refused += 1;
        let max = if self.is_choosy { self.len.min(PASSED_MAX) } else { self.len };
        if self.refused < max {
            return false;
        }
        self.refused = 0;
        !std::mem::take(&mut self.is_choosy)
    }
}

impl Arriving {
    fn take(&mut self, plan: &TuplePlan) -> Option<PlannedTuple> {
        for _ in 0..=ADDRESSES_MAX {
            for _ in 0..self.walks.len() {
                let turn = self.turn;
                self.turn = (turn + 1) % self.walks.len();
                if let Some(port) = self.own.next(&self.ports, &mut self.walks[turn]) {
                    let local = SocketAddrV4::new(self.local, port);
                    return Some(PlannedTuple { local, remote: plan.dst()[turn] });
                }
            }
            self.next_address(plan)?;
        }
        None
    }

    /// Begins a walk to each destination from the next source address.
    fn next_address(&mut self, plan: &TuplePlan) -> Option<()> {
        self.local = plan.address(self.address)?;
        let (local, seed, first) = (self.local, self.seed, self.address);
        self.address = (self.address + 1) % plan.addresses();
        self.walks.clear();
        self.walks.extend(plan.dst().iter().zip(0u64..).map(|(&remote, idx)| {
            self.own.walk(local, remote, mixed(seed ^ mixed(first << 10 | idx)))
        }));
        // So that no destination always comes first.
        self.turn = (first % plan.destinations()) as usize;
        Some(())
    }
}

/// Spreads every bit of a number over all of the result (the end of MurmurHash3).
fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    number = (number ^ (number >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_come_round_and_a_round_of_refusals_is_noticed() {
        let source = "10.1.0.1/32".parse().expect("a prefix");
        let ports = "1024-1027".parse().expect("a port range");
        let dst = [SocketAddrV4::new([10, 0, 0, 2].into(), 80)];
        let mut tuples = Tuples::by_number(TuplePlan::new(&[source], ports, &dst), 1, 2, 5);
        assert_eq!(tuples.portion(), 2);
        let ports: Vec<u16> =
            (0..3).filter_map(|_| tuples.take()).map(|tuple| tuple.local.port()).collect();
        assert_eq!(ports, [1025, 1027, 1025]);
        assert!(!tuples.note_refused());
        tuples.note_free();
        assert!(!tuples.note_refused());
        assert!(tuples.note_refused());
        tuples.on_hash_changed();
        assert!(!tuples.note_refused() && tuples.is_choosy());
        assert!(!tuples.note_refused() && !tuples.is_choosy(), "from here on any will do");
        assert!(!tuples.note_refused() && tuples.note_refused());
    }
}
