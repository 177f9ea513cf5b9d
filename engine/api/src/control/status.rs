//! The state of the daemon as the control protocol shows it: what the kernel granted, which is not
//! always what the configuration asked for, and where memory and frames are.

use serde::{Deserialize, Serialize};

use super::LoadProgress;
use crate::config::{Listen, Ownership, Prefix, RssUse};
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
    /// At which queue connections arrive.
    #[serde(default)]
    pub rss: RssStatus,
    /// Frames that arrived at one worker and were for a connection of another; pairs without any are
    /// absent.
    #[serde(default)]
    pub handed_over: Vec<HandedOver>,
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

word_enum! {
    /// The hash function of a NIC, as its driver tells.
    pub enum HashFunction: "toeplitz, xor, crc32 or unknown" {
        /// The one that the engine can compute.
        Toeplitz = "toeplitz",
        /// Another.
        Xor = "xor",
        /// Another.
        Crc32 = "crc32",
        /// The driver tells none.
        Unknown = "unknown",
    }
}

word_enum! {
    /// What of a TCP segment a NIC hashes, as its driver tells.
    pub enum HashedFields: "addresses-and-ports, addresses, other or unknown" {
        /// Every connection by itself.
        AddressesAndPorts = "addresses-and-ports",
        /// All connections between two hosts alike.
        Addresses = "addresses",
        /// Something else.
        Other = "other",
        /// The driver does not tell.
        Unknown = "unknown",
    }
}

/// What is known of the queue at which connections arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RssStatus {
    /// As configured.
    pub wanted: RssUse,
    /// Ports are chosen so that answers arrive at the queue of the worker that opens.
    pub ports_by_class: bool,
    /// Why that is so, or why not, in one sentence.
    pub reason: String,
    /// How the NIC hashes.
    pub hash_function: HashFunction,
    /// What it hashes.
    pub hashed: HashedFields,
    /// The driver tells its key.
    pub key_known: bool,
    /// Places of the indirection table; 0 when the driver tells none.
    pub table_len: u32,
    /// Frames whose queue was foretold and compared.
    pub checked: u64,
    /// Those of them that arrived at another queue.
    pub mismatched: u64,
    /// The last changes while the engine ran, oldest first.
    pub changes: Vec<RssChange>,
}

impl Default for RssStatus {
    fn default() -> Self {
        RssStatus {
            wanted: RssUse::Auto,
            ports_by_class: false,
            reason: String::new(),
            hash_function: HashFunction::Unknown,
            hashed: HashedFields::Unknown,
            key_known: false,
            table_len: 0,
            checked: 0,
            mismatched: 0,
            changes: Vec::new(),
        }
    }
}

/// A change of key, table or queues while the engine ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RssChange {
    /// When, in milliseconds after the start.
    pub uptime_ms: u64,
    /// What changed and what became of it.
    pub what: String,
}

/// Frames handed from one worker to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// The worker at whose queue they arrived.
    pub from: u16,
    /// The worker that used them.
    pub to: u16,
    /// How many.
    pub frames: u64,
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
    /// Connections that are awake: the others sleep, in one cache line each.
    #[serde(default)]
    pub awake: u64,
    /// What connections take beside their buffers.
    pub records: RecordBytes,
    /// Bytes that connections have buffered.
    pub buffer_bytes: u64,
    /// Where its frames are.
    pub frames: Frames,
}

/// Memory that grows with the number of connections, in bytes. Timers take none of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordBytes {
    /// What every connection has.
    pub asleep: u64,
    /// What those that are awake have beside.
    pub awake: u64,
    /// What rests in TIME_WAIT.
    pub time_wait: u64,
    /// The connection table.
    pub table: u64,
}

impl RecordBytes {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.asleep + self.awake + self.time_wait + self.table
    }
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
