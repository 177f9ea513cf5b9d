//! A deterministic simulator of hosts that talk TCP through this stack: the code that the engine runs,
//! on a virtual clock that jumps from event to event. A seed draws a [`Plan`]: hosts with multi-queue
//! NICs, links that lose, double, reorder, damage, delay and part, rings that run empty or full,
//! workers that pause, applications that dawdle or abort, and an attacker. The run of a plan is a
//! function of the seed alone; its [`Report`] holds a hash over every frame and its time.
//!
//! Safety is judged at every step: streams arrive byte by byte as they were sent, only the
//! transitions of RFC 9293 happen, numbers and windows never go back, every frame that is sent is
//! well formed and fits MSS and window, and no frame, buffer or record is lost. Liveness is judged
//! after the faults have stopped: connections whose both ends live come to their end, graceful ones
//! that nothing rightly killed have delivered every byte, and within half a virtual hour, which is
//! what timeouts that faults have backed off may take, every record is gone.
//!
//! - `plan`, `script`, `draw`: what a seed decides
//! - `agenda`: the clock
//! - `world`: one run: hosts, links and agenda, joined
//! - `worker`, `nic`: a host: the worker's turn, its rings, and the placement by RSS
//! - `arrivals`: what a driver tells of that placement, and what follows
//! - `link`, `router`: the network between hosts
//! - `workload`: what applications do
//! - `attacker`: what somebody off the path sends
//! - `oracle`, `watch`, `segment`: what is judged: streams and ends, records, frames
//! - `trace`: what is left of a run

mod agenda;
mod arrivals;
mod attacker;
mod draw;
mod link;
mod nic;
mod oracle;
mod plan;
mod router;
mod script;
mod segment;
mod trace;
mod watch;
mod worker;
mod workload;
mod world;

pub use link::Traffic;
pub use nic::Rings;
pub use plan::{AttackPlan, Fault, FaultPlan, HostPlan, Narrow, Phase, Plan};
pub use script::{Finish, FlowPlan, ReadVerb, Script};
pub use trace::Sink;

use crate::stats::Counters;
use crate::tcp::State;
use crate::time::{Duration, Instant};
use trace::Trace;
use world::World;

/// What a run leaves behind.
#[derive(Clone, Debug)]
pub struct Report {
    /// How long it took in virtual time.
    pub virtual_time: Duration,
    /// TCP segments that hosts sent.
    pub segments: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// What happened to frames on the way.
    pub frames: Traffic,
    /// What happened to them at hosts.
    pub rings: RingCounts,
    /// What the stacks counted, summed over all of them.
    pub counters: Counters,
    /// A hash over every frame and its time.
    pub trace: u64,
}

/// What happened to frames at the rings of hosts.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingCounts {
    /// Dropped, because the fill ring was empty.
    pub fill_empty: u64,
    /// Dropped, because the receive ring was full.
    pub rx_full: u64,
    /// Handed to another worker.
    pub handed_over: u64,
    /// Dropped, because the inbox of the other worker was full.
    pub inbox_full: u64,
    /// Turns after which something could not be sent, for want of a frame or of a place.
    pub tx_stalls: u64,
}

/// The first thing that was wrong in a run.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When, in virtual time.
    pub at: Instant,
    /// What.
    pub what: String,
}

/// Faults of the simulator itself, so that tests can see its oracle find them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// One byte is changed between the stack and the oracle.
    pub flips_byte: bool,
    /// One frame token is dropped instead of given back.
    pub forgets_frame: bool,
    /// A connection is taken to have been in this state before.
    pub plants_state: Option<State>,
    /// Workers take the ports of the queue beside theirs for their own.
    pub misreads_rss: bool,
}

/// Runs a plan. Lines that tell what happens go to `sink`, if there is one.
pub fn run(plan: Plan, hooks: Hooks, sink: Option<Sink<'_>>) -> Result<Report, Failure> {
    let (at, result) = World::new(plan, hooks, Trace::new(sink)).run();
    result.map_err(|what| Failure { at, what })
}
