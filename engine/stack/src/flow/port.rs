//! Local ports by the queue that answers arrive at, so that a worker opens connections that come back
//! to it. The Toeplitz hash is linear over GF(2): the hash of what arrives is that of the rest of the
//! tuple, the *base*, plus (exclusive or) the share of the local port. Ports are therefore grouped
//! once per key into *classes* by the bits of their share that choose a place of the indirection
//! table; for any base, those that lead to place `b` are class `b ^ base`. Which ports are in use at
//! a moment, and everything random, is the caller's.

use super::rss::Rss;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;

/// All ports, grouped by their share in a hash.
#[derive(Clone, Debug)]
pub struct PortClasses {
    /// Class after class, ascending in each.
    ports: Box<[u16]>,
    /// Where each class begins, and the end.
    starts: Box<[u32]>,
}

/// The local ports whose segments arrive at one queue.
#[derive(Clone, Debug)]
pub struct QueuePorts {
    rss: Rss,
    classes: PortClasses,
    queue: u16,
    /// The places of the indirection table that lead to the queue.
    buckets: Box<[u32]>,
}

/// A walk over the ports of a queue between a local address and a peer: each port once, from a
/// place that the seed decides.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    base: u32,
    seed: u64,
    /// Buckets that are finished, and ports taken from the next.
    bucket: u32,
    port: u32,
}

impl PortClasses {
    /// The classes when `share` is what a port adds to the hash and `mask` are the bits that choose
    /// a place.
    pub fn new(share: impl Fn(u16) -> u32, mask: u32) -> Self {
        let n_classes = mask as usize + 1;
        let class = |port: u16| (share(port) & mask) as usize;
        let mut starts = vec![0; n_classes + 1].into_boxed_slice();
        for port in 0..=u16::MAX {
            starts[class(port) + 1] += 1;
        }
        for idx in 0..n_classes {
            starts[idx + 1] += starts[idx];
        }
        let mut next = starts.clone();
        let mut ports = vec![0; 1 << 16].into_boxed_slice();
        for port in 0..=u16::MAX {
            let at = &mut next[class(port)];
            ports[*at as usize] = port;
            *at += 1;
        }
        PortClasses { ports, starts }
    }

    /// The ports of a class that lie in a range: two binary searches, whatever the range.
    pub fn ports(&self, class: u32, range: &RangeInclusive<u16>) -> &[u16] {
        let class = class as usize;
        let all = &self.ports[self.starts[class] as usize..self.starts[class + 1] as usize];
        let from = all.partition_point(|port| port < range.start());
        let to = all.partition_point(|port| port <= range.end());
        &all[from..to.max(from)]
    }
}

impl QueuePorts {
    /// The ports that `rss` leads to `queue`.
    pub fn new(rss: Rss, queue: u16) -> Self {
        let classes = PortClasses::new(|port| rss.port(port), rss.table().mask());
        QueuePorts { buckets: buckets(&rss, queue), rss, classes, queue }
    }

    /// The ports of another queue of the same NIC.
    #[must_use]
    pub fn of_queue(&self, queue: u16) -> Self {
        let QueuePorts { rss, classes, .. } = self.clone();
        QueuePorts { buckets: buckets(&rss, queue), rss, classes, queue }
    }

    /// The queue.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// How segments find their queue.
    pub fn rss(&self) -> &Rss {
        &self.rss
    }

    /// For each value that the masked base of a pair of addresses can have: how many ports of
    /// `range` lead to the queue.
    pub fn count_by_base(&self, range: &RangeInclusive<u16>) -> Vec<u64> {
        let mask = self.rss.table().mask();
        let sizes: Vec<u64> =
            (0..=mask).map(|class| self.classes.ports(class, range).len() as u64).collect();
        let count = |base| self.buckets.iter().map(|bucket| sizes[(bucket ^ base) as usize]).sum();
        (0..=mask).map(count).collect()
    }

    /// Begins a walk over the ports between `local` and `remote`. A seed that nobody else knows makes
    /// the order one that nobody can guess (RFC 6056).
    pub fn walk(&self, local: Ipv4Addr, remote: SocketAddrV4, seed: u64) -> Walk {
        let base = self.rss.base(local, remote) & self.rss.table().mask();
        Walk { base, seed, bucket: 0, port: 0 }
    }

    /// The next port of a walk; none when all of `range` were taken.
    pub fn next(&self, range: &RangeInclusive<u16>, walk: &mut Walk) -> Option<u16> {
        let n_buckets = self.buckets.len() as u64;
        while u64::from(walk.bucket) < n_buckets {
            // Two parts of the seed: where among the buckets to begin, and where in each.
            let bucket = (walk.seed % n_buckets + u64::from(walk.bucket)) % n_buckets;
            let class = self.classes.ports(self.buckets[bucket as usize] ^ walk.base, range);
            if (walk.port as usize) < class.len() {
                let at = (walk.seed >> 32) + u64::from(walk.port);
                walk.port += 1;
                return Some(class[(at % class.len() as u64) as usize]);
            }
            walk.bucket += 1;
            walk.port = 0;
        }
        None
    }
}

/// The places of the table that lead to `queue`.
fn buckets(rss: &Rss, queue: u16) -> Box<[u32]> {
    let places = (0..).zip(rss.table().queues());
    places.filter(|&(_, &q)| q == queue).map(|(bucket, _)| bucket).collect()
}

impl Rss {
    /// For each value that the masked base can have: how many pairs of a host of `sources` and a
    /// destination have it. A source is a network and the length of its prefix; network and broadcast
    /// address are no hosts where it is shorter than 31 bits. Nothing is enumerated: each bit of the
    /// host part adds the same to every hash.
    pub fn count_pairs(&self, sources: &[(Ipv4Addr, u8)], dst: &[SocketAddrV4]) -> Vec<u64> {
        let mask = self.table().mask();
        let nobody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let place = |addr: u32| self.base(addr.into(), nobody) & mask;
        let mut hosts = vec![0u64; mask as usize + 1];
        for &(network, len) in sources {
            let n_bits = 32 - u32::from(len);
            let network = u32::from(network) & u32::MAX.checked_shl(n_bits).unwrap_or(0);
            let mut these = vec![0; mask as usize + 1];
            these[place(network) as usize] = 1;
            for bit in 0..n_bits {
                let turn = place(1 << bit);
                these =
                    (0..=mask).map(|at| these[at as usize] + these[(at ^ turn) as usize]).collect();
            }
            if len < 31 {
                let broadcast = network | !u32::MAX.checked_shl(n_bits).unwrap_or(0);
                these[place(network) as usize] -= 1;
                these[place(broadcast) as usize] -= 1;
            }
            hosts.iter_mut().zip(these).for_each(|(sum, n)| *sum += n);
        }
        let mut pairs = vec![0; mask as usize + 1];
        for &remote in dst {
            let turn = self.base(Ipv4Addr::UNSPECIFIED, remote) & mask;
            for at in 0..=mask {
                pairs[(at ^ turn) as usize] += hosts[at as usize];
            }
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::super::FourTuple;
    use super::super::rss::{Hashed, IndirectionTable, KEY_BYTES, Toeplitz};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::net::SocketAddrV6;

    /// Any key, also a poor one, and any table.
    fn any_rss() -> impl Strategy<Value = Rss> {
        let key = prop_oneof![
            4 => prop::collection::vec(any::<u8>(), KEY_BYTES),
            1 => prop::collection::vec(prop_oneof![9 => Just(0u8), 1 => any::<u8>()], 12..60),
        ];
        let hashed =
            prop_oneof![4 => Just(Hashed::AddressesAndPorts), 1 => Just(Hashed::Addresses)];
        let table = (0u32..=9).prop_flat_map(|bits| prop::collection::vec(0u16..5, 1 << bits));
        (key, hashed, table).prop_map(|(key, hashed, table)| {
            Rss::new(&key, hashed, IndirectionTable::from_queues(table))
        })
    }

    fn all(ports: &QueuePorts, range: &RangeInclusive<u16>, mut walk: Walk) -> Vec<u16> {
        std::iter::from_fn(|| ports.next(range, &mut walk)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The walks of all queues together take every port once, and each port at the queue at
        /// which its segments arrive; the counts say how many.
        #[test]
        fn walks_are_what_brute_force_finds(
            rss in any_rss(),
            local: [u8; 4],
            remote: [u8; 4],
            remote_port: u16,
            lo: u16,
            len in prop_oneof![0u16..100, any::<u16>()],
            seed: u64,
        ) {
            let range = lo..=lo.saturating_add(len);
            let (local, remote) = (Ipv4Addr::from(local), SocketAddrV4::new(remote.into(), remote_port));
            let mut seen = BTreeSet::new();
            for queue in 0..5 {
                let ports = QueuePorts::new(rss.clone(), 4 - queue).of_queue(queue);
                let found = all(&ports, &range, ports.walk(local, remote, seed));
                let base = (rss.base(local, remote) & rss.table().mask()) as usize;
                prop_assert_eq!(ports.count_by_base(&range)[base], found.len() as u64);
                for port in found {
                    let tuple = FourTuple::new(SocketAddrV4::new(local, port), remote);
                    prop_assert_eq!(rss.queue(&tuple), queue);
                    prop_assert!(range.contains(&port) && seen.insert(port), "{port} twice");
                }
            }
            prop_assert_eq!(seen.len(), range.count());
        }

        /// Pairs are counted as if each host had been looked at.
        #[test]
        fn pairs_are_counted_without_looking_at_each(
            rss in any_rss(),
            sources in prop::collection::vec((any::<[u8; 4]>(), 22u8..=32), 1..4),
            dst in prop::collection::vec((any::<[u8; 4]>(), any::<u16>()), 1..4),
        ) {
            let sources: Vec<(Ipv4Addr, u8)> = sources.into_iter().map(|(a, len)| (a.into(), len)).collect();
            let dst: Vec<_> = dst.into_iter().map(|(a, port)| SocketAddrV4::new(a.into(), port)).collect();
            let mask = rss.table().mask();
            let mut expected = vec![0; mask as usize + 1];
            for &(addr, len) in &sources {
                let size = 1u64 << (32 - len);
                let first = u64::from(u32::from(addr)) / size * size;
                let hosts = if len < 31 { first + 1..first + size - 1 } else { first..first + size };
                for host in hosts {
                    for &remote in &dst {
                        expected[(rss.base((host as u32).into(), remote) & mask) as usize] += 1;
                    }
                }
            }
            prop_assert_eq!(rss.count_pairs(&sources, &dst), expected);
        }

        /// The same arithmetic over IPv6: class `b ^ base` leads to place `b`.
        #[test]
        fn classes_hold_over_ipv6(
            key: [u8; KEY_BYTES],
            src: [u8; 16],
            dst: [u8; 16],
            src_port: u16,
            bits in 0u32..=9,
        ) {
            let (toeplitz, mask) = (Toeplitz::new(&key), (1u32 << bits) - 1);
            let classes = PortClasses::new(|port| toeplitz.dst_port_v6(port), mask);
            let src = SocketAddrV6::new(src.into(), src_port, 0, 0);
            let hash = |port| toeplitz.tcp_v6(src, SocketAddrV6::new(dst.into(), port, 0, 0));
            let mut n = 0;
            for bucket in 0..=mask {
                let ports = classes.ports(bucket ^ (hash(0) & mask), &(0..=u16::MAX));
                n += ports.len();
                prop_assert!(ports.iter().all(|&port| hash(port) & mask == bucket));
            }
            prop_assert_eq!(n, 1 << 16);
        }
    }

    #[test]
    fn seeds_begin_at_different_ports() {
        let rss =
            Rss::new(&Toeplitz::KEY, Hashed::AddressesAndPorts, IndirectionTable::dealt(128, 4));
        let ports = QueuePorts::new(rss, 2);
        let (local, remote) = ([10, 0, 0, 1].into(), SocketAddrV4::new([10, 0, 0, 2].into(), 80));
        let first = |seed: u64| {
            let mut walk = ports.walk(local, remote, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            ports.next(&(1024..=65_535), &mut walk)
        };
        let firsts: BTreeSet<_> = (0..1000).filter_map(first).collect();
        assert!(firsts.len() > 900, "{} different ports", firsts.len());
    }

    #[test]
    fn a_queue_that_no_place_leads_to_has_no_port() {
        let rss =
            Rss::new(&Toeplitz::KEY, Hashed::AddressesAndPorts, IndirectionTable::dealt(8, 2));
        let ports = QueuePorts::new(rss, 2);
        let remote = SocketAddrV4::new([10, 0, 0, 2].into(), 80);
        let walk = ports.walk([10, 0, 0, 1].into(), remote, 7);
        assert_eq!(all(&ports, &(0..=u16::MAX), walk), [0u16; 0]);
        assert_eq!(ports.count_by_base(&(0..=u16::MAX)), [0; 8]);
    }
}
