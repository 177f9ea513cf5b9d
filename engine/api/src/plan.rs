//! The arithmetic of tuples: (source addresses x ports x destinations), numbered, and divided among
//! workers so that none is used twice. Every answer is O(1) in the number of tuples; nothing is
//! stored per tuple. Which of them are in use at a moment is the load generator's knowledge.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::config::{PortRange, Prefix};

/// All tuples of a load plan, numbered from 0 to `len() - 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TuplePlan {
    /// Each source prefix with the number of source addresses before it.
    sources: Vec<(u64, Prefix)>,
    addresses: u64,
    ports: PortRange,
    dst: Vec<SocketAddrV4>,
}

/// Both ends of a planned connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlannedTuple {
    /// Our address and port.
    pub local: SocketAddrV4,
    /// The destination.
    pub remote: SocketAddrV4,
}

/// One worker's part of a plan: its own tuples, numbered from 0 to `len() - 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TupleShare<'a> {
    plan: &'a TuplePlan,
    worker: u64,
    n_workers: u64,
}

impl TuplePlan {
    /// The tuples from the hosts of `sources` with local ports `ports` to each of `dst`. The
    /// prefixes do not overlap and no destination comes twice: `LoadPlan::check` sees to it.
    pub fn new(sources: &[Prefix], ports: PortRange, dst: &[SocketAddrV4]) -> Self {
        let mut addresses = 0;
        let numbered = |prefix: &Prefix| {
            let before = addresses;
            addresses += prefix.hosts();
            (before, *prefix)
        };
        let sources = sources.iter().map(numbered).collect();
        TuplePlan { sources, addresses, ports, dst: dst.to_vec() }
    }

    /// How many tuples. At most 64 prefixes of 2^24 hosts, 2^16 ports and 2^10 destinations: below
    /// 2^56.
    pub fn len(&self) -> u64 {
        self.addresses * self.ports.ports() * self.dst.len() as u64
    }

    /// True when there are no sources or no destinations.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many source addresses.
    pub fn addresses(&self) -> u64 {
        self.addresses
    }

    /// How many destinations.
    pub fn destinations(&self) -> u64 {
        self.dst.len() as u64
    }

    /// The source prefixes.
    pub fn sources(&self) -> impl Iterator<Item = Prefix> {
        self.sources.iter().map(|&(_, prefix)| prefix)
    }

    /// Source address number `idx`.
    pub fn address(&self, idx: u64) -> Option<Ipv4Addr> {
        let after = self.sources.partition_point(|&(before, _)| before <= idx);
        let (before, prefix) = self.sources.get(after.checked_sub(1)?)?;
        prefix.host(idx - before)
    }

    /// The local ports.
    pub fn ports(&self) -> PortRange {
        self.ports
    }

    /// The destinations.
    pub fn dst(&self) -> &[SocketAddrV4] {
        &self.dst
    }

    /// Tuple number `idx`. Destinations change fastest and source addresses slowest, so that a test
    /// uses as few source addresses as it needs: each costs the peer a neighbour entry. Destinations
    /// rotate from one local endpoint to the next, so that a worker that takes every n-th tuple meets
    /// them all.
    pub fn tuple(&self, idx: u64) -> Option<PlannedTuple> {
        if idx >= self.len() {
            return None;
        }
        let n_dst = self.dst.len() as u64;
        let (endpoint, turn) = (idx / n_dst, idx % n_dst);
        let remote = self.dst[((turn + endpoint) % n_dst) as usize];
        Some(PlannedTuple { local: self.endpoint(endpoint)?, remote })
    }

    /// Local endpoint number `idx`: ports change fastest.
    fn endpoint(&self, idx: u64) -> Option<SocketAddrV4> {
        let (address, port) = (idx / self.ports.ports(), idx % self.ports.ports());
        let port = u16::try_from(u64::from(self.ports.lo()) + port).ok()?;
        Some(SocketAddrV4::new(self.address(address)?, port))
    }

    /// What belongs to worker number `worker` of `n_workers`. Nothing when there is no such worker.
    pub fn share(&self, worker: usize, n_workers: usize) -> Option<TupleShare<'_>> {
        let (worker, n_workers) = (worker as u64, n_workers as u64);
        (worker < n_workers).then_some(TupleShare { plan: self, worker, n_workers })
    }
}

impl TupleShare<'_> {
    /// How many tuples: those of two workers differ by at most one.
    pub fn len(&self) -> u64 {
        divided(self.plan.len(), self.worker, self.n_workers)
    }

    /// True when there are more workers than tuples and this one got none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The worker's tuple number `idx`.
    pub fn tuple(&self, idx: u64) -> Option<PlannedTuple> {
        self.plan.tuple(idx.checked_mul(self.n_workers)?.checked_add(self.worker)?)
    }

    /// How many of `total` connections are this worker's. Never more than its tuples when `total` is
    /// not more than all tuples.
    pub fn part_of(&self, total: u64) -> u64 {
        divided(total, self.worker, self.n_workers)
    }
}

/// How many of `total` connections each worker opens that has so many tuples: as evenly as they
/// allow, and all of `total` when there are as many tuples.
pub fn portions(total: u64, tuples: &[u64]) -> Vec<u64> {
    let mut portions = vec![0; tuples.len()];
    let mut open: Vec<usize> = (0..tuples.len()).filter(|&worker| tuples[worker] > 0).collect();
    let mut left = total;
    while left > 0 && !open.is_empty() {
        // The same for each, and what cannot be divided any more to the first of them.
        let each = (left / open.len() as u64).max(1);
        for &worker in &open {
            let more = each.min(tuples[worker] - portions[worker]).min(left);
            portions[worker] += more;
            left -= more;
        }
        open.retain(|&worker| portions[worker] < tuples[worker]);
    }
    portions
}

/// How many of the numbers below `total` are `worker` modulo `n_workers`.
fn divided(total: u64, worker: u64, n_workers: u64) -> u64 {
    total / n_workers + u64::from(worker < total % n_workers)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn plan(sources: &[&str], ports: &str, n_dst: u16) -> TuplePlan {
        let sources: Vec<Prefix> = sources.iter().map(|s| s.parse().expect("a prefix")).collect();
        let dst: Vec<SocketAddrV4> =
            (0..n_dst).map(|n| SocketAddrV4::new([10, 99, 0, 1].into(), 7_000 + n)).collect();
        TuplePlan::new(&sources, ports.parse().expect("a port range"), &dst)
    }

    #[test]
    fn a_million_connections_need_sixteen_addresses() {
        let plan = plan(&["10.1.0.0/16"], "1024-65535", 1);
        assert_eq!(plan.len(), 65_534 * 64_512);
        let last = plan.tuple(1_000_000 - 1).expect("enough tuples");
        assert_eq!(last.local.ip().octets(), [10, 1, 0, 16]);
    }

    #[test]
    fn every_worker_meets_every_destination() {
        let plan = plan(&["10.1.0.1/32"], "1024-2047", 4);
        for n_workers in [1, 2, 4] {
            for worker in 0..n_workers {
                let share = plan.share(worker, n_workers).expect("a worker");
                let met: HashSet<_> =
                    (0..16).filter_map(|idx| share.tuple(idx)).map(|t| t.remote).collect();
                assert_eq!(met.len(), 4, "worker {worker} of {n_workers}");
            }
        }
        assert_eq!(plan.share(2, 2), None);
    }

    proptest! {
        #[test]
        fn portions_add_up_and_fit(
            total in 0u64..2_000,
            tuples in prop::collection::vec(0u64..500, 0..6),
        ) {
            let portions = portions(total, &tuples);
            prop_assert_eq!(portions.iter().sum::<u64>(), total.min(tuples.iter().sum()));
            prop_assert!(portions.iter().zip(&tuples).all(|(portion, tuples)| portion <= tuples));
            // Who has tuples left opens no fewer than anybody else, but for the remainder.
            let most = portions.iter().copied().max().unwrap_or(0);
            for (portion, tuples) in portions.iter().zip(&tuples) {
                prop_assert!(portion == tuples || portion + 1 >= most);
            }
        }

        #[test]
        fn shares_partition_the_tuples(
            len in 28u8..=32,
            lo in 1u16..=65_500,
            n_ports in 0u16..=20,
            n_dst in 1u16..=3,
            n_workers in 1usize..=5,
        ) {
            let first = format!("10.1.0.0/{len}");
            let ports = format!("{lo}-{}", lo + n_ports);
            let plan = plan(&[&first, "10.2.0.4/31"], &ports, n_dst);
            let mut seen = HashSet::new();
            let mut connections = 0;
            for worker in 0..n_workers {
                let share = plan.share(worker, n_workers).expect("a worker");
                for idx in 0..share.len() {
                    let tuple = share.tuple(idx).expect("a tuple of the share");
                    prop_assert!(seen.insert(tuple), "{tuple:?} twice");
                }
                prop_assert_eq!(share.tuple(share.len()), None);
                prop_assert!(share.part_of(plan.len()) == share.len());
                connections += share.part_of(1_000_003);
            }
            prop_assert_eq!(seen.len() as u64, plan.len());
            prop_assert_eq!(connections, 1_000_003);
        }
    }
}
