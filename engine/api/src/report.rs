//! What a load test measured. Each worker fills a [`LoadPart`]; the parts are merged and become the
//! [`LoadReport`], which has a JSON form and a page of text. The figures are checked against each
//! other here; measuring them is the load generator's part.

mod latency;
mod print;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use latency::{Latency, Percentiles};
pub use print::duration_text;

use crate::config::LoadPlan;
use crate::control::Frames;
use crate::failure::Failure;
use crate::impair::Impairments;
use crate::text::word_enum;

word_enum! {
    /// What a load test is at.
    #[derive(Default)]
    pub enum LoadPhase: "idle, ramp, hold, exchange, run, close or done" {
        /// No test was started.
        #[default]
        Idle = "idle",
        /// Connections are being opened.
        Ramp = "ramp",
        /// They stay open and idle.
        Hold = "hold",
        /// `hold`: the requests and responses on every connection.
        Exchange = "exchange",
        /// `rr`, `cps`: the measured time.
        Run = "run",
        /// Connections are being closed.
        Close = "close",
        /// The report is there.
        Done = "done",
    }
}

/// What one worker counted and timed.
#[derive(Clone, Debug, Default)]
pub struct LoadPart {
    /// Opens begun.
    pub opened: u64,
    /// Connections that ended well.
    pub closed: u64,
    /// Connections that are still there.
    pub open: u64,
    /// Connections that ended badly, by reason.
    pub failures: BTreeMap<Failure, u64>,
    /// Requests sent.
    pub requests: u64,
    /// Whole and right responses.
    pub responses: u64,
    /// Bytes of requests.
    pub bytes_sent: u64,
    /// Bytes of responses.
    pub bytes_received: u64,
    /// From the first SYN to established.
    pub connect: Latency,
    /// From when a request was due to the end of its response.
    pub request: Latency,
}

impl LoadPart {
    /// One more connection that ended with `failure`.
    pub fn fail(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    /// Connections that ended badly.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Adds what another worker counted and timed.
    pub fn merge(&mut self, other: &LoadPart) {
        self.opened += other.opened;
        self.closed += other.closed;
        self.open += other.open;
        self.requests += other.requests;
        self.responses += other.responses;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        for (&failure, n) in &other.failures {
            *self.failures.entry(failure).or_default() += n;
        }
        self.connect.merge(&other.connect);
        self.request.merge(&other.request);
    }
}

/// A phase that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Which.
    pub phase: LoadPhase,
    /// How long it took.
    pub duration_ns: u64,
    /// What it did: opens (ramp), responses (exchange, run), closes (close); 0 for hold.
    pub count: u64,
}

impl PhaseReport {
    /// Events per second.
    pub fn rate(&self) -> f64 {
        if self.duration_ns == 0 { 0.0 } else { self.count as f64 * 1e9 / self.duration_ns as f64 }
    }
}

/// What the daemon knows and no single worker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// How many workers took part.
    pub n_workers: u32,
    /// The most connections that were established at the same time.
    pub peak_open: u64,
    /// Resident memory of the daemon at that time, in bytes.
    pub bytes_resident: u64,
    /// Where the frames of all workers were at the end.
    pub frames: Frames,
    /// The test was stopped before its end.
    pub interrupted: bool,
    /// What the engine did to its own frames at some time of the test.
    pub impairments: Impairments,
}

/// The result of a load test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// What was asked for.
    pub plan: LoadPlan,
    /// How many workers took part.
    pub n_workers: u32,
    /// The test was stopped before its end.
    pub interrupted: bool,
    /// What the engine did to its own frames at some time of the test: its figures are those of an
    /// impaired path.
    #[serde(default, skip_serializing_if = "Impairments::is_none")]
    pub impairments: Impairments,
    /// Its phases in order.
    pub phases: Vec<PhaseReport>,
    /// Opens begun.
    pub opened: u64,
    /// Connections that ended well.
    pub closed: u64,
    /// Connections that were left when the report was made.
    pub open: u64,
    /// Connections that ended badly, their opening included.
    pub failed: u64,
    /// The same by reason.
    pub failures: BTreeMap<Failure, u64>,
    /// The most connections that were established at the same time.
    pub peak_open: u64,
    /// Requests sent.
    pub requests: u64,
    /// Whole and right responses.
    pub responses: u64,
    /// Bytes of requests.
    pub bytes_sent: u64,
    /// Bytes of responses.
    pub bytes_received: u64,
    /// From the first SYN to established.
    pub connect: Percentiles,
    /// From when a request was due to the end of its response.
    pub request: Percentiles,
    /// Resident memory of the daemon at the peak, in bytes.
    pub bytes_resident: u64,
    /// That over `peak_open`, everything included; absent when nothing was established.
    pub bytes_per_connection: Option<u64>,
    /// Where the frames of all workers were at the end.
    pub frames: Frames,
}

impl LoadReport {
    /// The report of a test over its merged parts.
    pub fn new(
        plan: LoadPlan,
        phases: Vec<PhaseReport>,
        part: &LoadPart,
        around: &Surroundings,
    ) -> Self {
        LoadReport {
            plan,
            n_workers: around.n_workers,
            interrupted: around.interrupted,
            impairments: around.impairments,
            phases,
            opened: part.opened,
            closed: part.closed,
            open: part.open,
            failed: part.failed(),
            failures: part.failures.clone(),
            peak_open: around.peak_open,
            requests: part.requests,
            responses: part.responses,
            bytes_sent: part.bytes_sent,
            bytes_received: part.bytes_received,
            connect: part.connect.percentiles(),
            request: part.request.percentiles(),
            bytes_resident: around.bytes_resident,
            bytes_per_connection: around.bytes_resident.checked_div(around.peak_open),
            frames: around.frames,
        }
    }

    /// True when every opened connection is closed, open or failed.
    pub fn adds_up(&self) -> bool {
        self.closed.checked_add(self.open).and_then(|n| n.checked_add(self.failed))
            == Some(self.opened)
    }

    /// The phase of that name, if the test came to it.
    pub fn phase(&self, phase: LoadPhase) -> Option<&PhaseReport> {
        self.phases.iter().find(|report| report.phase == phase)
    }
}
