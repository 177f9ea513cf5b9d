//! The stack of one worker: `wire`, `flow` and `tcp` put together, sans I/O. Frames and the time come
//! in, frames, events and deadlines are taken out; it owns no thread, clock, socket or umem, and
//! nothing in it is shared. One turn of a worker is
//!
//! ```text
//! on_frame (for each received frame) -> on_timeout -> poll_event (until none) -> poll_transmit
//! ```
//!
//! - `demux`: a frame arrives: Ethernet, ARP, IPv4, ICMP, and the connection it is for
//! - `plain`: the short way for the segments that a connection waits for
//! - `ahead`: what a batch will need is asked of memory beforehand
//! - `arrival`: whether frames arrive at the queue that was foretold
//! - `listen`: a segment without a connection: listeners and SYN cookies
//! - `output`: the next frame to send
//! - `call`: what applications ask; `info`: what operators see
//! - `sleep`: connections fall asleep and wake, and come to rest in TIME-WAIT
//! - `record`, `time_wait`, `pages`, `queues`: where connections live and wait
//! - `wheel`, `neighbor`: when they wake, where they send to
//!
//! Every received frame ends under one counter, and every connection under one end; the sums are
//! checked by [`Stack::audit`].

mod ahead;
mod arrival;
mod call;
mod config;
mod demux;
mod info;
mod listen;
mod neighbor;
mod output;
mod pages;
mod plain;
mod queues;
mod record;
mod sleep;
mod time_wait;
mod wheel;

pub use config::{Prefix, Resolver, StackConfig};
pub use demux::{Disposition, Miss};
pub use info::{ConnInfo, Memory};
pub use record::ConnId;

use crate::flow::port::QueuePorts;
use crate::flow::{FourTuple, Place, Table};
use crate::stats::Counters;
use crate::tcp::buffer::Pool;
use crate::tcp::scoreboard::Segments;
use crate::tcp::{Connection, Context, End, Events, Moment, State, Tick};
use crate::time::{Duration, Instant};
use crate::wire::plain::Headers;
use ahead::Guesses;
use arrival::ArrivalCheck;
use neighbor::{Neighbors, Way};
use queues::Queues;
use record::{Active, Records};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use time_wait::TimeWait;
use wheel::Wheel;

/// Timer entries handled in one turn: at up to two microseconds each, for records that no cache holds,
/// well under a millisecond. What is left comes up in the next turn.
const EXPIRIES_MAX: u32 = 256;

/// What happened to one connection, for its application.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The connection.
    pub id: ConnId,
    /// Which application it belongs to.
    pub app: u8,
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

/// The TCP/IP stack of one worker.
#[derive(Debug)]
pub struct Stack {
    config: StackConfig,
    records: Records,
    table: Table,
    wheel: Wheel,
    pool: Pool,
    segments: Segments,
    /// The time of this turn, in all units.
    moment: Moment,
    neighbors: Neighbors,
    /// What the headers of all segments sent have in common.
    headers: Headers,
    stats: Counters,
    /// Listening endpoints; the unspecified address stands for all of ours.
    listeners: BTreeMap<SocketAddrV4, u8>,
    /// When a SYN was last answered with a cookie.
    cookies_sent_at: Option<Instant>,
    queues: Queues,
    /// What rests in TIME-WAIT.
    time_wait: TimeWait,
    /// The tick in which all that was due was handled.
    looked_at: Option<Tick>,
    /// Connections whose send the pool cut short and that have nothing in flight to wake them.
    starved: VecDeque<ConnId>,
    resets: ResetLimit,
    /// Segments that the connection at the head of `ready` sent in a row.
    burst: u32,
    /// Where the search for a free port starts (RFC 6056 algorithm 3).
    next_port: u16,
    /// The ports that answers to this worker's queue arrive at, where the NIC says.
    queue_ports: Option<Box<QueuePorts>>,
    /// Where the frames that come next will probably lead.
    guesses: Guesses,
    arrival: ArrivalCheck,
}

/// RST answers are limited per second, so that a flood is not reflected.
#[derive(Debug)]
struct ResetLimit {
    second: Instant,
    left: u32,
}

impl Stack {
    /// Bytes of a connection that sleeps, its place in the table included.
    pub const ASLEEP_BYTES: usize = record::SLOT_BYTES + crate::flow::ENTRY_BYTES_MAX;

    /// Bytes of one that is awake, its buffers left out.
    pub const AWAKE_BYTES: usize = Stack::ASLEEP_BYTES + record::ACTIVE_BYTES;

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
            moment: Moment::of(now),
            neighbors: Neighbors::new(config.neighbors_max, config.resolver, key),
            headers: Headers::new(config.mac, config.ttl, config.dscp),
            stats: Counters::new(),
            listeners: BTreeMap::new(),
            cookies_sent_at: None,
            queues: Queues::default(),
            time_wait: TimeWait::new(config.tcp.time_wait),
            looked_at: None,
            starved: VecDeque::new(),
            resets: ResetLimit { second: now, left: config.resets_per_second_max },
            burst: 0,
            next_port: key[0] as u16,
            queue_ports: None,
            guesses: Guesses::default(),
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

    /// The counters, for whoever takes frames in the stack's place: then the sums are of both.
    pub fn stats_mut(&mut self) -> &mut Counters {
        &mut self.stats
    }

    /// The identities that hold between turns; the error says which one is broken.
    pub fn audit(&self) -> Result<(), String> {
        self.stats.audit()?;
        let (in_table, records) = (self.table.len(), self.n_records() as usize);
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

    /// Handles deadlines that have passed, a bounded number of them. Within one tick there is nothing
    /// new to look for, unless the last call left some over.
    pub fn on_timeout(&mut self, now: Instant) {
        self.feed_starved();
        let tick = Tick::at(now);
        if self.looked_at == Some(tick) && !self.wheel.has_due() {
            return;
        }
        let mut budget = EXPIRIES_MAX;
        while let Some(slot) = self.wheel.expire(&mut self.records, tick, &mut budget) {
            self.come_up(now, slot);
        }
        let left = self.end_rests(tick, budget);
        self.neighbors.on_timeout(now, &mut self.queues, &mut self.stats);
        self.looked_at = (left > 0).then_some(tick);
    }

    /// A connection came up in the wheel and is out of it: what is due is done, and it comes up again or
    /// falls asleep.
    fn come_up(&mut self, now: Instant, slot: u32) {
        self.wake(now, slot);
        let (active, mut cx) = self.split(slot, now);
        let deadline = active.conn.poll_timeout();
        if deadline.is_due(cx.now.tick) {
            active.conn.on_timeout(&mut cx);
            if active.conn.take_doubt() {
                let hop = self.next_hop(*self.records.tuple(slot).remote().ip());
                self.neighbors.doubt(now, hop, &mut self.stats);
            }
            self.after(slot);
        } else {
            self.wheel.arm(&mut self.records, slot, deadline);
        }
        self.settle(now, slot);
    }

    /// When the stack next wants a turn without a frame having arrived: now, if something is left
    /// to send or to tell.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if !self.queues.ready.is_empty() || !self.queues.events.is_empty() {
            return Some(now);
        }
        let tick = Tick::at(now);
        let at = |next: Tick| {
            now + Duration::from_millis(u64::from(next.until(tick).max(0).unsigned_abs()))
        };
        let (timer, rest) = (self.wheel.next().map(at), self.time_wait.next().map(at));
        [timer, rest, self.neighbors.next()].into_iter().flatten().min()
    }

    /// The next connection with something to tell its application.
    pub fn poll_event(&mut self) -> Option<Event> {
        while let Some(slot) = self.queues.events.pop() {
            let (cell, active) = self.records.both_mut(slot);
            active.in_events = false;
            let events = active.conn.poll_event();
            active.opened |= events.contains(Events::OPENED) || !active.conn.is_passive();
            let end = if events.contains(Events::ENDED) { active.conn.end() } else { None };
            if !active.opened {
                // It never got beyond the handshake: no application knows of it.
                active.told |= end.is_some();
            }
            if events.is_empty() || active.told {
                self.retire(slot);
                continue;
            }
            active.told = end.is_some();
            let id = ConnId { slot, generation: cell.generation() };
            return Some(Event { id, app: cell.app, word: cell.word, events, end });
        }
        None
    }

    /// The event that [`Stack::poll_event`] returned has been handled; a connection that ended
    /// with it is gone.
    pub fn event_done(&mut self, event: &Event) {
        if event.end.is_none() {
            return;
        }
        let Stack { records, pool, segments, .. } = self;
        if let Some((_, active)) = records.of_id(event.id) {
            active.conn.release(pool, segments);
            self.retire(event.id.slot);
        }
    }

    /// Where the connection between two endpoints is.
    fn find(&self, tuple: &FourTuple) -> Option<Place> {
        self.table.find(tuple, |place| {
            let is_it = match place {
                Place::Record(slot) => self.records.is_between(slot, tuple),
                Place::Rest(number) => self.time_wait.at(number).tuple == *tuple,
            };
            is_it.then_some(place)
        })
    }

    /// The record of a connection that is awake, and what the connection is lent.
    fn split(&mut self, slot: u32, now: Instant) -> (&mut Active, Context<'_>) {
        let Stack { records, config, moment, pool, segments, stats, .. } = self;
        let now = moment.reach(now);
        (&mut records[slot], Context { now, config: &config.tcp, pool, segments, stats })
    }

    fn context(&mut self, now: Instant) -> Context<'_> {
        let Stack { config, moment, pool, segments, stats, .. } = self;
        Context { now: moment.reach(now), config: &config.tcp, pool, segments, stats }
    }

    /// After anything happened to a connection: its events and what it may have to send are taken up,
    /// and a dead one goes. Its deadline is taken up when it leaves `ready` again, in the same turn:
    /// most of those that a segment sets, the segment that answers it has cleared by then.
    fn after(&mut self, slot: u32) {
        let active = &mut self.records[slot];
        self.queues.take_up(slot, active);
        if matches!(active.conn.state(), State::Closed | State::TimeWait) {
            self.after_end(slot);
        }
    }

    /// What the end of a connection means for its tuple.
    fn after_end(&mut self, slot: u32) {
        match self.records[slot].conn.state() {
            State::Closed => self.forget_tuple(slot),
            State::TimeWait => {
                // It may be over before anything else happens to the connection.
                self.take_up_deadline(slot);
                self.bound_time_wait(slot);
            }
            _ => {}
        }
    }

    /// The four-tuple of a closed connection is free from now on, even while its record waits.
    fn forget_tuple(&mut self, slot: u32) {
        if std::mem::take(&mut self.records[slot].in_table) {
            // Before it sends again, somebody may have come into its tuple.
            self.records[slot].way = Way::NONE;
            let tuple = self.records.tuple(slot);
            let removed = self.table.remove(&tuple, Place::Record(slot));
            assert!(removed, "a record that says so is in the table");
        }
    }

    /// Frees the record of a connection that is over, when nothing refers to it any more; one in
    /// TIME-WAIT comes to rest. Out of line: most events end nothing.
    #[inline(never)]
    fn retire(&mut self, slot: u32) {
        let active = &self.records[slot];
        let conn = &active.conn;
        let is_over = active.told && matches!(conn.state(), State::Closed | State::TimeWait);
        if !is_over || conn.owes_reset() || active.is_queued() {
            return;
        }
        if conn.state() == State::TimeWait {
            self.come_to_rest(slot);
        } else {
            self.forget_tuple(slot);
            self.free(slot);
        }
    }

    /// Gives the record of a connection back, and what it holds.
    fn free(&mut self, slot: u32) {
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
