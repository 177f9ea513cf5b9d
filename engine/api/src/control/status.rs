//! The state of the daemon as the control protocol shows it: what the kernel granted, which is not
//! always what the configuration asked for, and where memory and frames are.

use serde::{Deserialize, Serialize};

use super::LoadProgress;
use crate::config::{Listen, Ownership, Prefix};
use crate::impair::Impairments;
use crate::text::word_enum;

word_enum! {
    /// How the XDP program is attached, as the kernel reports it.
    pub enum XdpMode: "native, generic or none" {
        /// In the driver.
        Native = "native",
        /// In the kernel's generic receive path.
        Generic = "generic",
        /// Not at all: the in-process wire.
        None = "none",
    }
}

/// The daemon at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How long it runs.
    pub uptime_ms: u64,
    /// The device.
    pub dev: String,
    /// The device's driver.
    pub driver: String,
    /// Who holds the addresses.
    pub ownership: Ownership,
    /// The engine's addresses and prefixes.
    pub addresses: Vec<Prefix>,
    /// It accepts no more connections.
    pub draining: bool,
    /// The workers, one per queue.
    pub workers: Vec<WorkerStatus>,
    /// Connections in any state but TIME_WAIT.
    pub connections: u64,
    /// Connections in TIME_WAIT.
    pub time_wait: u64,
    /// Resident memory in bytes.
    pub bytes_resident: u64,
    /// Resident memory over connections, everything included; absent without connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_connection: Option<u64>,
    /// What the engine does to its own frames.
    #[serde(default)]
    pub impairments: Impairments,
    /// The listeners.
    pub listeners: Vec<Listen>,
    /// The load test that runs or was the last to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadProgress>,
}

/// One worker at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its number.
    pub worker: u16,
    /// The queue it serves.
    pub queue: u32,
    /// The CPU it is pinned to.
    pub cpu: u32,
    /// How the XDP program is attached.
    pub xdp_mode: XdpMode,
    /// The kernel moves frames without copying.
    pub zero_copy: bool,
    /// The kernel accepted busy polling.
    pub busy_poll: bool,
    /// The kernel says when it wants to be woken.
    pub needs_wakeup: bool,
    /// The umem is in huge pages.
    pub huge_pages: bool,
    /// Connections in any state but TIME_WAIT.
    pub connections: u64,
    /// Connections in TIME_WAIT.
    pub time_wait: u64,
    /// Bytes of connection records, tables and blocks.
    pub record_bytes: u64,
    /// Bytes that connections have buffered.
    pub buffer_bytes: u64,
    /// Where its frames are.
    pub frames: Frames,
}

/// Where the frames of a umem, or of several, are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frames {
    /// Unused.
    pub free: u64,
    /// With the kernel for reception.
    pub fill: u64,
    /// Received, not yet taken.
    pub rx: u64,
    /// With the kernel for transmission.
    pub tx: u64,
    /// Sent, not yet reclaimed.
    pub completion: u64,
    /// In the worker's hands.
    pub held: u64,
    /// All of them.
    pub total: u64,
}

impl Frames {
    /// The sum of all places.
    pub fn accounted(&self) -> u64 {
        [self.free, self.fill, self.rx, self.tx, self.completion, self.held]
            .iter()
            .fold(0, |sum, &n| sum.saturating_add(n))
    }

    /// True when every frame is in exactly one place.
    pub fn balances(&self) -> bool {
        self.accounted() == self.total
    }

    /// The frames of both.
    pub fn merged(&self, other: &Frames) -> Frames {
        Frames {
            free: self.free.saturating_add(other.free),
            fill: self.fill.saturating_add(other.fill),
            rx: self.rx.saturating_add(other.rx),
            tx: self.tx.saturating_add(other.tx),
            completion: self.completion.saturating_add(other.completion),
            held: self.held.saturating_add(other.held),
            total: self.total.saturating_add(other.total),
        }
    }
}
