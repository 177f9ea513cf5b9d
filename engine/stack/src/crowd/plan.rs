//! The tuples of a crowd, numbered, and the way back: from the tuple of an arriving segment to the
//! number of its connection. Both directions are arithmetic over the source addresses, the ports and
//! the destinations; nothing is stored per tuple.

use crate::flow::FourTuple;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;

/// Source addresses that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// The first of them.
    pub first: Ipv4Addr,
    /// How many.
    pub n: u32,
}

/// Every tuple of a crowd: number 0 to [`Plan::n_tuples`], that one excluded. Destinations change
/// fastest, then ports, and source addresses slowest: each costs the peer a neighbour entry.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Each run of sources with the number of sources before it; in the order of their numbers.
    sources: Vec<(u64, Hosts)>,
    n_sources: u64,
    ports: RangeInclusive<u16>,
    /// Without repetitions.
    destinations: Vec<SocketAddrV4>,
    /// The same in their own order, each with its place in `destinations`.
    sorted: Vec<(SocketAddrV4, u64)>,
}

impl Plan {
    /// From all `sources` and `ports` to each of `destinations`. Sources that overlap and
    /// destinations that come twice are for the caller to refuse: two numbers would have one tuple.
    pub fn new(
        sources: &[Hosts],
        ports: RangeInclusive<u16>,
        destinations: &[SocketAddrV4],
    ) -> Self {
        let mut n_sources = 0;
        let numbered = |&hosts: &Hosts| {
            let before = n_sources;
            n_sources += u64::from(hosts.n);
            (before, hosts)
        };
        let sources = sources.iter().map(numbered).collect();
        let mut sorted: Vec<_> = destinations.iter().copied().zip(0..).collect();
        sorted.sort_unstable();
        Plan { sources, n_sources, ports, destinations: destinations.to_vec(), sorted }
    }

    /// How many tuples there are.
    pub fn n_tuples(&self) -> u64 {
        self.n_sources * self.n_ports() * self.n_destinations()
    }

    /// Where the connections go.
    pub fn destinations(&self) -> &[SocketAddrV4] {
        &self.destinations
    }

    /// The tuple of a number, which is below [`Plan::n_tuples`]. Destinations rotate from one local
    /// endpoint to the next, so that who takes every n-th tuple meets them all.
    pub fn tuple(&self, number: u64) -> FourTuple {
        let n_dst = self.n_destinations();
        let (endpoint, turn) = (number / n_dst, number % n_dst);
        let (source, port) = (endpoint / self.n_ports(), endpoint % self.n_ports());
        let after = self.sources.partition_point(|&(before, _)| before <= source);
        let (before, hosts) = self.sources[after - 1];
        let addr = Ipv4Addr::from(u32::from(hosts.first) + (source - before) as u32);
        let port = *self.ports.start() + port as u16;
        let remote = self.destinations[((turn + endpoint) % n_dst) as usize];
        FourTuple::new(SocketAddrV4::new(addr, port), remote)
    }

    /// The number of a tuple, if it is one of the plan's.
    pub fn number(&self, tuple: &FourTuple) -> Option<u64> {
        let (local, n_dst) = (tuple.local(), self.n_destinations());
        let source = self.source(*local.ip())?;
        if !self.ports.contains(&local.port()) {
            return None;
        }
        let at = self.sorted.binary_search_by_key(&tuple.remote(), |&(dst, _)| dst).ok()?;
        let (_, dst) = self.sorted[at];
        let endpoint = source * self.n_ports() + u64::from(local.port() - self.ports.start());
        let turn = (dst + n_dst - endpoint % n_dst) % n_dst;
        Some(endpoint * n_dst + turn)
    }

    /// True when `addr` is one of the sources.
    pub fn is_source(&self, addr: Ipv4Addr) -> bool {
        self.source(addr).is_some()
    }

    /// The number of a source address.
    fn source(&self, addr: Ipv4Addr) -> Option<u64> {
        self.sources.iter().find_map(|&(before, hosts)| {
            let offset = u32::from(addr).wrapping_sub(hosts.first.into());
            (offset < hosts.n).then_some(before + u64::from(offset))
        })
    }

    fn n_ports(&self) -> u64 {
        self.ports.len() as u64
    }

    fn n_destinations(&self) -> u64 {
        self.destinations.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn plan(n_dst: u16) -> Plan {
        let sources = [
            Hosts { first: [10, 1, 0, 1].into(), n: 3 },
            Hosts { first: [10, 0, 7, 250].into(), n: 10 },
        ];
        let dst: Vec<_> =
            (0..n_dst).map(|n| SocketAddrV4::new([10, 99, 0, 1].into(), 7_000 - n)).collect();
        Plan::new(&sources, 65_530..=65_535, &dst)
    }

    #[test]
    fn every_number_has_a_tuple_of_its_own_and_every_tuple_leads_back() {
        for n_dst in 1..=4 {
            let plan = plan(n_dst);
            assert_eq!(plan.n_tuples(), 13 * 6 * u64::from(n_dst));
            let mut seen = HashSet::new();
            for number in 0..plan.n_tuples() {
                let tuple = plan.tuple(number);
                assert!(seen.insert(tuple.to_bytes()), "{tuple:?} twice");
                assert_eq!(plan.number(&tuple), Some(number));
            }
        }
    }

    #[test]
    fn what_is_not_of_the_plan_has_no_number() {
        let plan = plan(2);
        let good = plan.tuple(0);
        let (local, remote) = (good.local(), good.remote());
        for (local, remote) in [
            (SocketAddrV4::new([10, 1, 0, 0].into(), local.port()), remote),
            (SocketAddrV4::new([10, 1, 0, 4].into(), local.port()), remote),
            (SocketAddrV4::new(*local.ip(), 65_529), remote),
            (local, SocketAddrV4::new(*remote.ip(), 80)),
            (local, SocketAddrV4::new([10, 99, 0, 2].into(), remote.port())),
        ] {
            assert_eq!(plan.number(&FourTuple::new(local, remote)), None, "{local} {remote}");
        }
        assert!(plan.is_source([10, 0, 8, 3].into()) && !plan.is_source([10, 0, 8, 4].into()));
    }

    #[test]
    fn who_takes_every_nth_tuple_meets_every_destination() {
        let plan = plan(4);
        let met: HashSet<_> = (0..8).map(|n| plan.tuple(2 * n).remote()).collect();
        assert_eq!(met.len(), 4);
    }
}
