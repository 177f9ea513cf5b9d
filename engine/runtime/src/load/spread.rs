//! How the tuples and connections of a load plan are divided among workers, before the first packet:
//! by number, or by the queue at which answers arrive. How many tuples a queue has is computed, not
//! enumerated: a plan may have 2^56 of them.

use super::tuples::Tuples;
use barewire_api::ConfigError;
use barewire_api::plan::{TuplePlan, portions};
use barewire_api::unit::grouped;
use barewire_stack::flow::port::QueuePorts;
use barewire_stack::flow::rss::Rss;
use std::net::Ipv4Addr;

/// A plan, divided.
#[derive(Clone, Debug)]
pub struct Spread {
    plan: TuplePlan,
    connections: u64,
    n_workers: usize,
    /// What each worker has, when it is known where answers arrive.
    queues: Option<Vec<Queue>>,
}

/// What one worker has.
#[derive(Clone, Debug)]
struct Queue {
    ports: QueuePorts,
    tuples: u64,
    portion: u64,
}

impl Spread {
    /// Every n-th tuple to one of n workers.
    pub fn by_number(plan: TuplePlan, connections: u64, n_workers: u32) -> Self {
        Spread { plan, connections, n_workers: n_workers as usize, queues: None }
    }

    /// To worker number q the tuples whose answers arrive at queue q.
    pub fn by_queue(plan: TuplePlan, connections: u64, rss: &Rss, n_workers: u32) -> Self {
        let sources: Vec<(Ipv4Addr, u8)> =
            plan.sources().map(|prefix| (prefix.network(), prefix.len())).collect();
        let pairs = rss.count_pairs(&sources, plan.dst());
        let range = plan.ports().lo()..=plan.ports().hi();
        let mut queues: Vec<Queue> = (0..n_workers)
            .map(|queue| {
                let ports = QueuePorts::new(rss.clone(), queue as u16);
                let by_base = ports.count_by_base(&range);
                let tuples = pairs.iter().zip(by_base).map(|(pairs, ports)| pairs * ports).sum();
                Queue { ports, tuples, portion: 0 }
            })
            .collect();
        let tuples: Vec<u64> = queues.iter().map(|queue| queue.tuples).collect();
        let portions = portions(connections, &tuples);
        queues.iter_mut().zip(portions).for_each(|(queue, portion)| queue.portion = portion);
        Spread { plan, connections, n_workers: n_workers as usize, queues: Some(queues) }
    }

    /// Refuses a plan that has too few tuples for its connections, or none for a queue, on an
    /// interface called `dev`.
    pub fn check(&self, dev: &str) -> Result<(), ConfigError> {
        let Some(queues) = &self.queues else { return Ok(()) };
        let n = self.n_workers;
        let reached: u64 = queues.iter().map(|queue| queue.tuples).sum();
        let sum = format!(
            "{} source addresses x {} ports x {} destinations make {} tuples",
            grouped(self.plan.addresses()),
            grouped(self.plan.ports().ports()),
            grouped(self.plan.destinations()),
            grouped(self.plan.len()),
        );
        if self.connections > reached {
            return Err(ConfigError::new(
                "load.connections",
                format!(
                    "{sum}, of which `{dev}` answers {} at the {n} served queues: {} connections do \
                     not fit",
                    grouped(reached),
                    grouped(self.connections),
                ),
                format!(
                    "give more source addresses or destinations, serve all queues, or spread the \
                     hash over the served ones with `ethtool -X {dev} equal {n}`"
                ),
            ));
        }
        let idle: Vec<String> = (0..n)
            .filter(|&queue| queues[queue].tuples == 0)
            .map(|queue| queue.to_string())
            .collect();
        if idle.is_empty() || self.connections < n as u64 {
            return Ok(());
        }
        let per_queue: Vec<String> = queues.iter().map(|queue| grouped(queue.tuples)).collect();
        Err(ConfigError::new(
            "load.src",
            format!(
                "{sum}, which `{dev}` answers at its {n} queues so: {}; queue {} would idle",
                per_queue.join(" + "),
                idle.join(", "),
            ),
            format!(
                "give more source addresses; or let `{dev}` hash ports with `ethtool -N {dev} \
                 rx-flow-hash tcp4 sdfn`, and spread over all queues with `ethtool -X {dev} equal \
                 {n}`; or serve fewer queues; or set interface.rss = \"observe\""
            ),
        ))
    }

    /// Refuses a plan of which `needed` tuples are in TIME_WAIT at a time, when a worker has fewer than
    /// its part of them.
    pub fn check_time_wait(&self, dev: &str, needed: u64) -> Result<(), ConfigError> {
        let queues = self.queues.as_deref().unwrap_or_default();
        let part = |queue: &Queue| {
            // Below 2^64 times 2^64.
            let part = u128::from(needed) * u128::from(queue.portion);
            u64::try_from(part / u128::from(self.connections.max(1))).unwrap_or(u64::MAX)
        };
        let short = queues.iter().enumerate().find(|(_, queue)| part(queue) > queue.tuples);
        let Some((number, queue)) = short else { return Ok(()) };
        Err(ConfigError::new(
            "load.rate",
            format!(
                "worker {number} would have {} tuples in TIME_WAIT, and `{dev}` answers {} at its queue",
                grouped(part(queue)),
                grouped(queue.tuples),
            ),
            format!(
                "give more source addresses or destinations, or a lower --rate, or --close rst, or \
                 spread evenly with `ethtool -X {dev} equal {}`",
                self.n_workers
            ),
        ))
    }

    /// One worker's part; `seed` decides in which order its ports come.
    ///
    /// # Panics
    /// When there is no such worker.
    pub fn tuples(&self, worker: usize, seed: u64) -> Tuples {
        match &self.queues {
            None => Tuples::by_number(self.plan.clone(), worker, self.n_workers, self.connections),
            Some(queues) => {
                let Queue { ports, tuples, portion } = queues[worker].clone();
                Tuples::by_queue(self.plan.clone(), ports, tuples, portion, seed)
            }
        }
    }

    /// The division in a few words.
    pub fn describe(&self) -> String {
        let Some(queues) = &self.queues else {
            return format!("every {} tuples to another worker", self.n_workers);
        };
        let portions: Vec<String> = queues.iter().map(|queue| grouped(queue.portion)).collect();
        format!("answers arrive at the worker that opens: {} connections", portions.join(" + "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barewire_api::config::{PortRange, Prefix};
    use barewire_stack::flow::FourTuple;
    use barewire_stack::flow::rss::{Hashed, IndirectionTable, Toeplitz};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::net::SocketAddrV4;

    fn plan(sources: &[&str], ports: &str, n_dst: u16) -> TuplePlan {
        let sources: Vec<Prefix> = sources.iter().map(|s| s.parse().expect("a prefix")).collect();
        let ports: PortRange = ports.parse().expect("a port range");
        let dst: Vec<SocketAddrV4> =
            (0..n_dst).map(|n| SocketAddrV4::new([10, 99, 0, 1].into(), 7_000 + n)).collect();
        TuplePlan::new(&sources, ports, &dst)
    }

    fn rss(hashed: Hashed, n_queues: u16) -> Rss {
        Rss::new(&Toeplitz::KEY, hashed, IndirectionTable::dealt(128, n_queues))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Over all workers every tuple that arrives at a served queue comes up once a round, at its
        /// worker; their number is the one that was computed, and the connections add up.
        #[test]
        fn workers_partition_what_arrives_at_them(
            key in prop::collection::vec(any::<u8>(), 40),
            table in prop::collection::vec(0u16..5, 16),
            by_ports: bool,
            len in 28u8..=32,
            n_ports in 0u16..=20,
            n_dst in 1u16..=3,
            connections in 0u64..500,
            seed: u64,
        ) {
            let hashed = if by_ports { Hashed::AddressesAndPorts } else { Hashed::Addresses };
            let rss = Rss::new(&key, hashed, IndirectionTable::from_queues(table));
            let plan = plan(&[&format!("10.1.0.0/{len}"), "10.2.0.4/31"], &format!("5000-{}", 5000 + n_ports), n_dst);
            // Queue 4 is not served.
            let spread = Spread::by_queue(plan.clone(), connections, &rss, 4);
            let (mut seen, mut opened) = (BTreeSet::new(), 0);
            for worker in 0..4 {
                let mut tuples = spread.tuples(worker, seed);
                let n = tuples.len();
                let mut round = Vec::new();
                for _ in 0..2 * n {
                    let tuple = tuples.take().expect("a round has no end");
                    let arrival = rss.queue(&FourTuple::new(tuple.local, tuple.remote));
                    prop_assert_eq!(usize::from(arrival), worker);
                    round.push(tuple);
                }
                let (first, second) = round.split_at(n as usize);
                prop_assert_eq!(first, second);
                for tuple in first {
                    prop_assert!(seen.insert(*tuple), "{tuple:?} twice");
                }
                prop_assert_eq!(tuples.take().is_none(), n == 0);
                opened += tuples.portion();
                prop_assert!(tuples.portion() <= n);
            }
            let all = (0..plan.len()).filter_map(|idx| plan.tuple(idx));
            let served = all.filter(|t| rss.queue(&FourTuple::new(t.local, t.remote)) < 4);
            prop_assert_eq!(seen, served.collect::<BTreeSet<_>>());
            prop_assert_eq!(opened, connections.min(spread.reached()));
            prop_assert_eq!(spread.check("d0").is_err(), spread.is_refused());
        }
    }

    impl Spread {
        fn reached(&self) -> u64 {
            self.queues.iter().flatten().map(|queue| queue.tuples).sum()
        }

        fn is_refused(&self) -> bool {
            let idles = self.queues.iter().flatten().any(|queue| queue.tuples == 0);
            self.connections > self.reached() || (idles && self.connections >= 4)
        }
    }

    #[test]
    fn a_million_connections_spread_over_four_queues() {
        let plan = plan(&["10.1.0.0/16"], "1024-65535", 1);
        let spread = Spread::by_queue(plan, 1_000_000, &rss(Hashed::AddressesAndPorts, 4), 4);
        spread.check("d0").expect("they fit");
        assert_eq!(
            spread.describe(),
            "answers arrive at the worker that opens: 250,000 + 250,000 + 250,000 + 250,000 \
             connections"
        );
    }

    #[test]
    fn one_address_cannot_reach_four_queues_without_its_ports() {
        let plan = plan(&["10.1.0.1/32"], "1024-65535", 1);
        let spread = Spread::by_queue(plan, 1_000, &rss(Hashed::Addresses, 4), 4);
        let error = spread.check("eth1").expect_err("three queues idle").to_string();
        assert!(
            error.starts_with(
                "load.src: 1 source addresses x 64,512 ports x 1 destinations make 64,512 tuples, \
                 which `eth1` answers at its 4 queues so: "
            ),
            "{error}"
        );
        assert!(error.contains("ethtool -N eth1 rx-flow-hash tcp4 sdfn"), "{error}");
    }

    #[test]
    fn a_queue_with_few_places_runs_out_of_tuples_first() {
        let plan = plan(&["10.1.0.1/32"], "1024-65535", 1);
        let places = (0..128).map(|place| u16::from(place >= 8)).collect();
        let table = IndirectionTable::from_queues(places);
        let rss = Rss::new(&Toeplitz::KEY, Hashed::AddressesAndPorts, table);
        let spread = Spread::by_queue(plan, 64, &rss, 2);
        spread.check_time_wait("eth1", 8_000).expect("4,000 each are there");
        let error = spread.check_time_wait("eth1", 9_000).expect_err("4,500 are not").to_string();
        assert!(
            error.starts_with(
                "load.rate: worker 0 would have 4,500 tuples in TIME_WAIT, and `eth1` answers 4,0"
            ),
            "{error}"
        );
    }

    #[test]
    fn what_arrives_at_queues_that_are_not_served_does_not_count() {
        let plan = plan(&["10.1.0.1/32"], "1024-65535", 1);
        let spread = Spread::by_queue(plan, 64_000, &rss(Hashed::AddressesAndPorts, 4), 2);
        let error = spread.check("eth1").expect_err("half of them do").to_string();
        assert!(error.contains("at the 2 served queues: 64,000 connections do not fit"), "{error}");
        assert!(error.contains("ethtool -X eth1 equal 2"), "{error}");
    }
}
