//! The stack of one worker: `wire`, `flow` and `tcp` put together, sans I/O. Frames and the time come
//! in, frames, events and deadlines are taken out; it owns no thread, clock, socket or umem, and
//! nothing in it is shared. One turn of a worker is
//!
//! ```text
//! on_frame (for each received frame) -> on_timeout -> poll_event (until none) -> poll_transmit
//! ```
//!
//! - `demux`: a frame arrives: Ethernet, ARP, IPv4, ICMP, and the connection it is for
//! - `arrival`: whether frames arrive at the queue that was foretold
//! - `listen`: a segment without a connection: listeners and SYN cookies
//! - `output`: the next frame to send
//! - `record`, `wheel`, `neighbor`: where connections live, when they wake, where they send to
//!
//! Every received frame ends under one counter, and every connection under one end; the sums are
//! checked by [`Stack::audit`].

mod arrival;
mod call;
mod config;
mod demux;
mod listen;
mod neighbor;
mod output;
mod record;
mod wheel;

pub use config::{Prefix, Resolver, StackConfig};
pub use demux::{Disposition, Miss};
pub use record::ConnId;

use crate::flow::port::QueuePorts;
use crate::flow::{FourTuple, Table};
use crate::stats::{Counter, Counters};
use crate::tcp::buffer::{CHUNK_BYTES, Pool};
use crate::tcp::scoreboard::Segments;
use crate::tcp::{Connection, Context, End, Events, State, Tick};
use crate::time::{Duration, Instant};
use arrival::ArrivalCheck;
use neighbor::Neighbors;
use record::{Fifo, Record, Records, Waits};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use wheel::Wheel;

/// Timer entries handled in one turn: at about 100 ns each, well under a millisecond. What is left
/// comes up in the next turn.
const EXPIRIES_MAX: u32 = 4096;

/// What happened to one connection, for its application.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The connection.
    pub id: ConnId,
    /// Which application it belongs to.
    pub app: u16,
    /// What the application keeps with it.
    pub word: u64,
    /// What happened, possibly several things.
    pub events: Events,
    /// How it ended, with [`Events::ENDED`]: the id is void once this event is handled.
    pub end: Option<End>,
}

/// Why an open was refused before a packet was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The local address is not ours.
    NotOurAddress,
    /// The remote address or port is none that a peer can have (RFC 9293 MUST-46).
    BadRemote,
    /// A connection between these endpoints exists.
    InUse,
    /// `connections_max` connections exist.
    Full,
    /// No free port is left between the address and this peer.
    NoPort,
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ConnectError::NotOurAddress => "the source address is not one of the engine's",
            ConnectError::BadRemote => "no peer can have this address or port",
            ConnectError::InUse => "a connection between these two endpoints exists already",
            ConnectError::Full => "tcp.connections_max connections exist already",
            ConnectError::NoPort => "every source port to this peer is in use",
        })
    }
}

impl std::error::Error for ConnectError {}

/// What a connection looks like from outside, as `barewire conns` shows it. Sizes are in bytes,
/// times in microseconds.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// The connection.
    pub id: ConnId,
    /// Which application it belongs to.
    pub app: u16,
    /// Our end.
    pub local: SocketAddrV4,
    /// The peer's end.
    pub remote: SocketAddrV4,
    /// State.
    pub state: State,
    /// Opened by the peer.
    pub passive: bool,
    /// Send sequence variables.
    pub snd_una: u32,
    /// Next to send.
    pub snd_nxt: u32,
    /// The peer's window.
    pub snd_wnd: u32,
    /// Next expected.
    pub rcv_nxt: u32,
    /// Our window, as told.
    pub rcv_wnd: u32,
    /// Received and not read; queued and not acknowledged.
    pub buffered: (u32, u32),
    /// Congestion window.
    pub cwnd: u32,
    /// Slow start threshold.
    pub ssthresh: u32,
    /// Smoothed round-trip time, 0 before the first sample.
    pub srtt_us: u32,
    /// Its deviation.
    pub rttvar_us: u32,
    /// Retransmission timeout, backed off.
    pub rto_us: u64,
    /// Effective send MSS.
    pub mss: u16,
    /// The largest packet that the path takes, where the full size is too much for it.
    pub path_mtu: Option<u16>,
    /// Consecutive retransmissions.
    pub retries: u8,
    /// Timestamps are in use.
    pub timestamps: bool,
    /// SACK is permitted.
    pub sack: bool,
    /// Windows are scaled.
    pub window_scale: bool,
    /// Explicit congestion notification is in use.
    pub ecn: bool,
    /// Congestion control, in one word.
    pub congestion: &'static str,
    /// What the sender does about loss, in one word: open, reduced, recovery or loss.
    pub phase: &'static str,
    /// Bytes that are taken to be in the network.
    pub pipe: u32,
}

/// Memory of a stack, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Connection records.
    pub records: usize,
    /// The connection table.
    pub table: usize,
    /// Buffer chunks in use, and the records of segments in flight beyond one per connection.
    pub buffers: usize,
}

/// The TCP/IP stack of one worker.
#[derive(Debug)]
pub struct Stack {
    config: StackConfig,
    records: Records,
    table: Table,
    wheel: Wheel,
    pool: Pool,
    segments: Segments,
    neighbors: Neighbors,
    stats: Counters,
    /// Listening endpoints; the unspecified address stands for all of ours.
    listeners: BTreeMap<SocketAddrV4, u16>,
    /// When a SYN was last answered with a cookie.
    cookies_sent_at: Option<Instant>,
    /// Records that may have something to send.
    ready: Fifo,
    /// Records with events for their application.
    events: Fifo,
    /// Records in TIME-WAIT in the order of their arrival; stale ids are skipped.
    time_wait: VecDeque<ConnId>,
    /// Connections whose send the pool cut short and that have nothing in flight to wake them.
    starved: VecDeque<ConnId>,
    resets: ResetLimit,
    /// Segments that the connection at the head of `ready` sent in a row.
    burst: u32,
    /// Where the search for a free port starts (RFC 6056 algorithm 3).
    next_port: u16,
    /// The ports that answers to this worker's queue arrive at, where the NIC says.
    queue_ports: Option<Box<QueuePorts>>,
    arrival: ArrivalCheck,
}

/// RST answers are limited per second, so that a flood is not reflected.
#[derive(Debug)]
struct ResetLimit {
    second: Instant,
    left: u32,
}

impl Stack {
    /// Bytes that one connection with empty buffers takes, its few in the table left out.
    pub const RECORD_BYTES: usize = record::SLOT_BYTES;

    /// An empty stack; `now` is the time of its first turn.
    pub fn new(config: StackConfig, now: Instant) -> Self {
        let key = config.secret.table_key();
        let pool = Pool::new(config.buffer_bytes_max);
        // Two segments in flight for every chunk: half a chunk each, as small writes leave them.
        let segments = Segments::new(2 * pool.n_free());
        Stack {
            records: Records::new(),
            table: Table::new(key),
            wheel: Wheel::new(Tick::at(now)),
            pool,
            segments,
            neighbors: Neighbors::new(config.neighbors_max, config.resolver, key),
            stats: Counters::new(),
            listeners: BTreeMap::new(),
            cookies_sent_at: None,
            ready: Fifo::new(Waits::Output),
            events: Fifo::new(Waits::Event),
            time_wait: VecDeque::new(),
            starved: VecDeque::new(),
            resets: ResetLimit { second: now, left: config.resets_per_second_max },
            burst: 0,
            next_port: key[0] as u16,
            queue_ports: None,
            arrival: ArrivalCheck::default(),
            config,
        }
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &StackConfig {
        &self.config
    }

    /// The counters.
    pub fn stats(&self) -> &Counters {
        &self.stats
    }

    /// Live records: connections and TIME-WAIT.
    pub fn n_records(&self) -> u32 {
        self.records.len()
    }

    /// Memory in use.
    pub fn memory(&self) -> Memory {
        Memory {
            records: self.records.bytes(),
            table: self.table.bytes(),
            buffers: self.pool.n_used() as usize * CHUNK_BYTES + self.segments.bytes(),
        }
    }

    /// The identities that hold between turns; the error says which one is broken.
    pub fn audit(&self) -> Result<(), String> {
        self.stats.audit()?;
        let (in_table, records) = (self.table.len(), self.records.len() as usize);
        if in_table > records {
            return Err(format!("the table holds {in_table} tuples for {records} records"));
        }
        if records == 0 && self.pool.n_used() > 0 {
            return Err(format!("{} buffer chunks belong to nobody", self.pool.n_used()));
        }
        if records == 0 && self.segments.n_used() > 0 {
            return Err(format!("{} segments are in flight for nobody", self.segments.n_used()));
        }
        Ok(())
    }

    /// Handles deadlines that have passed, a bounded number of them.
    pub fn on_timeout(&mut self, now: Instant) {
        let mut budget = EXPIRIES_MAX;
        let tick = Tick::at(now);
        while let Some(slot) = self.wheel.expire(&mut self.records, tick, &mut budget) {
            if self.records[slot].conn.poll_timeout().is_due(tick) {
                let (record, mut cx) = self.split(slot, now);
                record.conn.on_timeout(&mut cx);
                if record.conn.take_doubt() {
                    let hop = self.next_hop(*self.records[slot].tuple.remote().ip());
                    self.neighbors.doubt(now, hop, &mut self.stats);
                }
            }
            self.after(slot);
        }
        let (records, ready) = (&mut self.records, &mut self.ready);
        self.neighbors.on_timeout(now, records, ready, &mut self.stats);
        self.feed_starved();
    }

    /// When the stack next wants a turn without a frame having arrived: now, if something is left
    /// to send or to tell.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.ready.front().is_some() || self.events.front().is_some() {
            return Some(now);
        }
        let tick = Tick::at(now);
        let timer = self.wheel.next().map(|next| {
            now + Duration::from_millis(u64::from(next.until(tick).max(0).unsigned_abs()))
        });
        [timer, self.neighbors.next()].into_iter().flatten().min()
    }

    /// The next connection with something to tell its application.
    pub fn poll_event(&mut self) -> Option<Event> {
        while let Some(slot) = self.events.pop(&mut self.records) {
            let record = &mut self.records[slot];
            let events = record.conn.poll_event();
            record.opened |= events.contains(Events::OPENED) || !record.conn.is_passive();
            let end = if events.contains(Events::ENDED) { record.conn.end() } else { None };
            if !record.opened {
                // It never got beyond the handshake: no application knows of it.
                record.told |= end.is_some();
            }
            if events.is_empty() || record.told {
                self.retire(slot);
                continue;
            }
            record.told = end.is_some();
            let (app, word) = (record.app, record.word);
            return Some(Event { id: self.records.id(slot), app, word, events, end });
        }
        None
    }

    /// The event that [`Stack::poll_event`] returned has been handled; a connection that ended
    /// with it is gone.
    pub fn event_done(&mut self, id: ConnId) {
        if let Some(slot) = self.records.slot_of(id) {
            if self.records[slot].told {
                let Stack { records, pool, segments, .. } = self;
                records[slot].conn.release(pool, segments);
            }
            self.retire(slot);
        }
    }

    /// Records are numbered below this; for [`Stack::conn_info`].
    pub fn n_slots(&self) -> u32 {
        self.records.n_slots()
    }

    /// The connection in a record, if there is one.
    pub fn conn_info(&self, slot: u32) -> Option<ConnInfo> {
        let record = self.records.get(slot)?;
        let (conn, tcp) = (&record.conn, &self.config.tcp);
        Some(ConnInfo {
            id: self.records.id(slot),
            app: record.app,
            local: record.tuple.local(),
            remote: record.tuple.remote(),
            state: conn.state(),
            passive: conn.is_passive(),
            snd_una: conn.snd.una.0,
            snd_nxt: conn.snd.nxt.0,
            snd_wnd: conn.snd.wnd,
            rcv_nxt: conn.rcv.nxt.0,
            rcv_wnd: conn.rcv_wnd(),
            buffered: conn.buffered(),
            cwnd: conn.congestion.cwnd,
            ssthresh: conn.congestion.ssthresh,
            srtt_us: conn.rtt.srtt_us,
            rttvar_us: conn.rtt.rttvar_us,
            rto_us: conn.rtt.rto(tcp.rto_min, tcp.rto_max).as_micros(),
            mss: conn.snd.mss,
            path_mtu: conn.path_mtu(),
            retries: conn.snd.retries,
            timestamps: conn.has_timestamps(),
            sack: conn.has_sack(),
            window_scale: conn.has_window_scale(),
            ecn: conn.has_ecn(),
            congestion: tcp.congestion.name(),
            phase: conn.congestion.phase().name(),
            pipe: conn.pipe(),
        })
    }

    /// The connection between two endpoints, if there is one.
    pub fn conn_between(&self, tuple: &FourTuple) -> Option<ConnInfo> {
        self.conn_info(self.find(tuple)?)
    }

    /// The record of the connection between two endpoints.
    fn find(&self, tuple: &FourTuple) -> Option<u32> {
        self.table.find(tuple, |slot| self.records[slot].tuple == *tuple)
    }

    /// A record and what its connection is lent.
    fn split(&mut self, slot: u32, now: Instant) -> (&mut Record, Context<'_>) {
        let Stack { records, config, pool, segments, stats, .. } = self;
        (&mut records[slot], Context { now, config: &config.tcp, pool, segments, stats })
    }

    fn context(&mut self, now: Instant) -> Context<'_> {
        let Stack { config, pool, segments, stats, .. } = self;
        Context { now, config: &config.tcp, pool, segments, stats }
    }

    /// After anything happened to a connection: its deadline, its events and what it may have to
    /// send are taken up, and a dead one goes.
    fn after(&mut self, slot: u32) {
        let record = &self.records[slot];
        let (deadline, has_events) = (record.conn.poll_timeout(), record.conn.has_events());
        let closed = record.conn.state() == State::Closed;
        self.wheel.arm(&mut self.records, slot, deadline);
        if has_events {
            self.events.push(&mut self.records, slot);
        }
        if closed {
            self.forget_tuple(slot);
        } else if self.records[slot].conn.state() == State::TimeWait {
            self.note_time_wait(slot);
        }
        self.ready.push(&mut self.records, slot);
    }

    /// The four-tuple of a closed connection is free from now on, even while its record waits.
    fn forget_tuple(&mut self, slot: u32) {
        let record = &mut self.records[slot];
        if std::mem::take(&mut record.in_table) {
            let tuple = record.tuple;
            let removed = self.table.remove(&tuple, slot);
            assert!(removed, "a record that says so is in the table");
        }
    }

    /// Frees the record of a closed connection that nothing refers to any more.
    fn retire(&mut self, slot: u32) {
        let record = &self.records[slot];
        let busy = record.conn.state() != State::Closed
            || record.conn.owes_reset()
            || !record.told
            || self.records.is_queued(slot, Waits::Output)
            || self.records.is_queued(slot, Waits::Event);
        if busy {
            return;
        }
        self.forget_tuple(slot);
        self.wheel.remove(&mut self.records, slot);
        let Stack { records, pool, segments, .. } = self;
        records[slot].conn.release(pool, segments);
        self.records.remove(slot);
    }
}

impl ResetLimit {
    fn allows(&mut self, now: Instant, per_second_max: u32) -> bool {
        if now.since(self.second) >= Duration::from_secs(1) {
            *self = ResetLimit { second: now, left: per_second_max };
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}
