//! What is measured: scenarios, the pairs of ends that go through each of them, and which of them are
//! compared, with the goal where there is one. A list to be read; nothing is run here.

use super::end::Contestant;
use super::task::{Shape, Task};
use serde::Serialize;

/// Requests, or handshakes, in flight at most: as many as the engine's load generator has by default,
/// and half of what the rings hold.
const IN_FLIGHT_MAX: u32 = 1024;

/// Of a request and its response.
const RR_BYTES: u32 = 64;
const CPS_BYTES: u32 = 16;

/// Connections that come and go at a time.
const CPS_CONNECTIONS: u32 = 256;

/// Of one response of bulk, and how many are under way at a time.
const BULK_BYTES: u32 = 256 << 10;
const BULK_CONNECTIONS: u32 = 8;

/// The Ethernet MTU, and the largest with which a veth takes a native XDP program without fragments:
/// one page less the program's headroom and what the kernel keeps behind the data.
pub(crate) const MTU: u32 = 1500;
pub(crate) const MTU_MAX: u32 = 3498;

/// Who talks to whom, and over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Pair {
    pub(crate) client: Contestant,
    pub(crate) server: Contestant,
    pub(crate) mtu: u32,
    pub(crate) segmentation_offload: bool,
}

pub(crate) const RAW: Pair = pair(Contestant::Raw, Contestant::Raw);
pub(crate) const ENGINE: Pair = pair(Contestant::Engine, Contestant::Engine);
pub(crate) const BUSY: Pair = pair(Contestant::BusyEngine, Contestant::BusyEngine);
pub(crate) const TO_EPOLL: Pair = pair(Contestant::Engine, Contestant::Epoll);
pub(crate) const TO_URING: Pair = pair(Contestant::Engine, Contestant::IoUring);
pub(crate) const FROM_EPOLL: Pair = pair(Contestant::Epoll, Contestant::Engine);
pub(crate) const EPOLL: Pair = pair(Contestant::Epoll, Contestant::Epoll);

const fn pair(client: Contestant, server: Contestant) -> Pair {
    Pair { client, server, mtu: MTU, segmentation_offload: true }
}

impl Pair {
    const fn mtu_max(self) -> Pair {
        Pair { mtu: MTU_MAX, ..self }
    }

    const fn without_offload(self) -> Pair {
        Pair { segmentation_offload: false, ..self }
    }

    /// Both ends are the kernel's, so that segments larger than a frame can go from one to the other.
    fn is_kernel(&self) -> bool {
        self.client == Contestant::Epoll && self.server == Contestant::Epoll
    }

    /// Payload of what is counted with [`Shape::Bulk`]: a response's body, or what a TCP segment in a raw
    /// frame would hold.
    pub(crate) fn payload_bytes(&self, body_bytes: u32) -> u32 {
        // IPv4 header, and TCP's with timestamps.
        if self.client == Contestant::Raw { self.mtu - 20 - 32 } else { body_bytes }
    }

    /// `client <-> server`, and what else tells it from others of its scenario.
    pub(crate) fn name(&self, shape: Shape) -> String {
        let mut name = format!("{} <-> {}", word(self.client), word(self.server));
        if shape == Shape::Bulk {
            name += &format!(", MTU {}", self.mtu);
            if self.is_kernel() {
                name += if self.segmentation_offload { ", GSO" } else { ", no GSO" };
            }
        }
        name
    }
}

fn word(contestant: Contestant) -> &'static str {
    match contestant {
        Contestant::Engine => "barewire",
        Contestant::BusyEngine => "barewire-busy",
        Contestant::Epoll => "epoll",
        Contestant::IoUring => "io_uring",
        Contestant::Raw => "raw",
    }
}

/// What of two pairs is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Measure {
    Rate,
    P50,
}

/// Where a ratio should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// A ratio between two pairs of a scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) of: Pair,
    pub(crate) to: Pair,
    pub(crate) measure: Measure,
    pub(crate) goal: Option<Goal>,
}

/// One task for several pairs.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) task: Task,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) comparisons: Vec<Comparison>,
}

impl Scenario {
    /// Leaves the pairs that are wanted, and the comparisons between them.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&Pair) -> bool) {
        self.pairs.retain(&is_wanted);
        self.comparisons.retain(|Comparison { of, to, .. }| is_wanted(of) && is_wanted(to));
    }
}

/// All scenarios. A quick run has none with very many connections.
pub(crate) fn all(duration_ms: u64, is_quick: bool) -> Vec<Scenario> {
    let mut scenarios = vec![rr("rr 1", 1), rr("rr 64", 64), rr("rr 1k", 1_000)];
    if !is_quick {
        scenarios.push(rr("rr 100k", 100_000));
    }
    scenarios.push(cps());
    scenarios.push(if is_quick { open("open 10k", 10_000) } else { open("open 100k", 100_000) });
    scenarios.push(bulk());
    for scenario in &mut scenarios {
        scenario.task.duration_ms = duration_ms;
    }
    // Held for a moment: what takes its time is the opening.
    let opens = scenarios.iter_mut().filter(|scenario| scenario.task.shape == Shape::Open);
    opens.for_each(|scenario| scenario.task.duration_ms = duration_ms.min(200));
    scenarios
}

fn rr(name: &str, connections: u32) -> Scenario {
    let in_flight = connections.min(IN_FLIGHT_MAX);
    let (of_raw, of_kernel) = match connections {
        1 => (None, Some(Goal::AtLeast(5.0))),
        _ => (Some(Goal::AtLeast(0.8)), Some(Goal::AtLeast(8.0))),
    };
    let mut comparisons = Vec::new();
    for barewire in [ENGINE, BUSY] {
        if connections == 1 {
            let (measure, goal) = (Measure::P50, Some(Goal::AtMost(1.3)));
            comparisons.push(Comparison { of: barewire, to: RAW, measure, goal });
        }
        comparisons.push(rate(barewire, RAW, of_raw));
        comparisons.push(rate(barewire, EPOLL, of_kernel));
    }
    comparisons.push(rate(RAW, EPOLL, None));
    Scenario {
        name: name.to_owned(),
        task: task(Shape::RequestResponse, connections, in_flight, RR_BYTES),
        pairs: vec![RAW, ENGINE, BUSY, TO_EPOLL, TO_URING, FROM_EPOLL, EPOLL],
        comparisons: [comparisons, one_end()].concat(),
    }
}

fn cps() -> Scenario {
    Scenario {
        name: "cps".to_owned(),
        task: task(Shape::ConnectionsPerSecond, CPS_CONNECTIONS, CPS_CONNECTIONS, CPS_BYTES),
        pairs: vec![ENGINE, TO_EPOLL, TO_URING, FROM_EPOLL, EPOLL],
        comparisons: [vec![rate(ENGINE, EPOLL, Some(Goal::AtLeast(5.0)))], one_end()].concat(),
    }
}

fn open(name: &str, connections: u32) -> Scenario {
    Scenario {
        name: name.to_owned(),
        task: task(Shape::Open, connections, IN_FLIGHT_MAX, RR_BYTES),
        pairs: vec![ENGINE, TO_EPOLL, TO_URING, FROM_EPOLL, EPOLL],
        comparisons: [vec![rate(ENGINE, EPOLL, Some(Goal::AtLeast(8.0)))], one_end()].concat(),
    }
}

fn bulk() -> Scenario {
    let kernel = EPOLL.without_offload();
    Scenario {
        name: "bulk".to_owned(),
        task: task(Shape::Bulk, BULK_CONNECTIONS, BULK_CONNECTIONS, BULK_BYTES),
        pairs: vec![
            RAW,
            ENGINE,
            kernel,
            EPOLL,
            TO_EPOLL,
            TO_URING,
            FROM_EPOLL,
            RAW.mtu_max(),
            ENGINE.mtu_max(),
            kernel.mtu_max(),
        ],
        comparisons: [
            vec![
                rate(ENGINE, kernel, Some(Goal::AtLeast(1.0))),
                rate(ENGINE.mtu_max(), kernel, Some(Goal::AtLeast(2.0))),
                rate(ENGINE.mtu_max(), kernel.mtu_max(), None),
                rate(ENGINE, EPOLL, None),
                rate(ENGINE, RAW, None),
                rate(ENGINE.mtu_max(), RAW.mtu_max(), None),
                rate(RAW, kernel, None),
                rate(RAW.mtu_max(), kernel, None),
            ],
            one_end(),
        ]
        .concat(),
    }
}

/// What changes when only one end of barewire's pair is the kernel's.
fn one_end() -> Vec<Comparison> {
    [TO_EPOLL, TO_URING, FROM_EPOLL].into_iter().map(|pair| rate(ENGINE, pair, None)).collect()
}

fn rate(of: Pair, to: Pair, goal: Option<Goal>) -> Comparison {
    Comparison { of, to, measure: Measure::Rate, goal }
}

fn task(shape: Shape, connections: u32, in_flight: u32, bytes: u32) -> Task {
    let (mtu, segmentation_offload, duration_ms) = (MTU, true, 0);
    Task { shape, connections, in_flight, bytes, mtu, segmentation_offload, duration_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_comparison_is_of_pairs_that_its_scenario_has() {
        for scenario in all(1, false).iter().chain(&all(1, true)) {
            for Comparison { of, to, .. } in &scenario.comparisons {
                assert!(scenario.pairs.contains(of), "{}: {of:?}", scenario.name);
                assert!(scenario.pairs.contains(to), "{}: {to:?}", scenario.name);
            }
            let mut names: Vec<_> =
                scenario.pairs.iter().map(|pair| pair.name(scenario.task.shape)).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), scenario.pairs.len(), "{names:?}");
        }
    }

    #[test]
    fn a_contestant_that_is_left_out_is_in_no_pair_and_no_comparison() {
        for mut scenario in all(1, true) {
            let n = scenario.pairs.len();
            scenario.retain(|pair| pair.server != Contestant::IoUring);
            assert_eq!(scenario.pairs.len(), n - 1, "{}", scenario.name);
            let is_left = |pair: &Pair| scenario.pairs.contains(pair);
            assert!(scenario.comparisons.iter().all(|c| is_left(&c.of) && is_left(&c.to)));
        }
    }

    #[test]
    fn a_quick_run_opens_few_and_a_whole_one_many() {
        let most = |is_quick| all(1, is_quick).iter().map(|s| s.task.connections).max();
        assert_eq!((most(true), most(false)), (Some(10_000), Some(100_000)));
    }
}
