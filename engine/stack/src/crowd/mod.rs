//! A peer that keeps nothing per connection but two bits, and so plays any number of clients: a
//! hundred million connections to a server under test cost it 25 MB. Sans I/O like the stack: frames,
//! the time and orders come in; frames, events and deadlines are taken out.
//!
//! What a TCP would remember is found in what arrives:
//!
//! - The initial sequence number is a keyed hash of the four-tuple, so a SYN-ACK can be judged (it must
//!   acknowledge that number plus one), and how far a request lies into its stream follows from its
//!   sequence number.
//! - A segment says what the peer has sent and what it expects, which is all that an answer needs. Only
//!   a keepalive probe looks like a bare ACK; one of the two bits tells them apart.
//! - To send first on an idle connection, the peer is asked for both numbers: one byte from before
//!   the SYN is so old that every TCP answers it with an ACK that says them (RFC 9293 section 3.10.7.4).
//!
//! What is in flight (a handshake, a request, a close) has one of `flights_max` places, which keep the
//! time and repeat what was lost. Requests fit one segment of any path, so there is no congestion
//! window; there is no SACK, no window scale and no ECN, and TIME-WAIT is kept by answering a repeated
//! FIN, not by a record.
//!
//! - `plan`: tuples and their numbers
//! - `arrival`: a segment of the plan arrives
//! - `departure`: the next frame to send
//! - `flight`, `hops`, `bits`: what is in flight, where it is sent to, and what is remembered

mod arrival;
mod bits;
mod departure;
mod flight;
mod hops;
mod plan;

pub use plan::{Hosts, Plan};

use crate::dice::Dice;
use crate::flow::FourTuple;
use crate::stack::Prefix;
use crate::stats::{Counter, Counters};
use crate::tcp::Seq;
use crate::tcp::isn::Secret;
use crate::time::{Duration, Instant};
use crate::wire::ethernet::Mac;
use crate::wire::tcp::ChecksumPolicy;
use bits::Bits;
use flight::{Flights, Purpose, Stage};
use hops::Hops;
use std::collections::VecDeque;
use std::net::Ipv4Addr;

/// The longest request: what every peer takes in one segment (RFC 9293 section 3.7.1).
pub const REQUEST_BYTES_MAX: u16 = 536;

/// Flights looked at in one turn because their time has come.
const EXPIRIES_MAX: usize = 1024;

/// What a crowd is made with.
#[derive(Clone, Debug)]
pub struct CrowdConfig {
    /// MAC address of the interface.
    pub mac: Mac,
    /// All tuples. Number `worker`, and every `n_workers`-th after it, are this crowd's own.
    pub plan: Plan,
    /// Which of several crowds with the same plan this is, and how many there are.
    pub worker: u64,
    /// See `worker`.
    pub n_workers: u64,
    /// How many of its own connections it opens.
    pub n_connections: u64,
    /// What is on link; everything else goes to the gateway, if there is one.
    pub on_link: Vec<Prefix>,
    /// Next hop for what is not on link.
    pub gateway: Option<Ipv4Addr>,
    /// Time to live of what it sends.
    pub ttl: u8,
    /// The largest segment it takes, in bytes, as told in its SYNs.
    pub mss: u16,
    /// Offers timestamps (RFC 7323), as most clients do.
    pub timestamps: bool,
    /// How received TCP checksums are judged.
    pub rx_checksum: ChecksumPolicy,
    /// Size of a request, 1 to [`REQUEST_BYTES_MAX`].
    pub request_bytes: u16,
    /// Handshakes, requests and closes in flight.
    pub flights_max: u32,
    /// How long each of them may take.
    pub timeout: Duration,
    /// Keys of the sequence numbers, the same in all crowds of a plan.
    pub secret: Secret,
    /// When the plan began, the same in all crowds of it: a later run has other sequence numbers.
    pub epoch: Instant,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// In order, with both FINs.
    Fin,
    /// With a reset, which counts as the end when it is sent.
    Rst,
}

/// How a connection came to a bad end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The SYN was answered with RST.
    Refused,
    /// The SYN got no answer in time.
    ConnectTimedOut,
    /// The next hop does not answer ARP.
    Unreachable,
    /// The peer reset it.
    Reset,
    /// The peer closed it without being asked to.
    ClosedEarly,
    /// What came back is not what was sent.
    WrongResponse,
    /// The request got no whole response in time.
    ResponseTimedOut,
    /// The close was not finished in time.
    CloseTimedOut,
}

/// Something happened to one of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is established, so long after it was begun.
    Opened(Duration),
    /// Its request has its whole and right response, so long after it was sent. With `left`, another
    /// request has begun.
    Responded {
        /// How long it took.
        took: Duration,
        /// Requests that follow.
        left: u32,
    },
    /// It ended well.
    Closed,
    /// It ended badly.
    Lost {
        /// How.
        loss: Loss,
        /// It had been established.
        was_open: bool,
        /// A request was under way.
        was_asked: bool,
    },
}

/// A crowd of clients. Its frames are counted in the [`Counters`] that each call is lent.
#[derive(Debug)]
pub struct Crowd {
    config: CrowdConfig,
    bits: Bits,
    flights: Flights,
    hops: Hops,
    events: VecDeque<Event>,
    /// Connections that were begun: those with a lower index.
    n_begun: u64,
    /// What waits to be sent waits for a next hop.
    is_stalled: bool,
}

impl Crowd {
    /// A crowd that has opened nothing.
    ///
    /// # Panics
    /// When its connections are more than its own tuples, or its request does not fit a segment.
    pub fn new(config: CrowdConfig) -> Self {
        let CrowdConfig { worker, n_workers, n_connections, ref plan, request_bytes, .. } = config;
        assert!(worker < n_workers, "crowd {worker} of {n_workers}");
        let last = n_connections.checked_sub(1).map(|idx| idx * n_workers + worker);
        let fits = last.is_none_or(|number| number < plan.n_tuples());
        assert!(fits, "{n_connections} connections of {} tuples", plan.n_tuples());
        assert!((1..=REQUEST_BYTES_MAX).contains(&request_bytes), "{request_bytes} bytes");
        let next_hop = |dst: &std::net::SocketAddrV4| config.next_hop(*dst.ip());
        Crowd {
            bits: Bits::new(n_connections),
            flights: Flights::new(config.flights_max, config.secret.table_key()),
            hops: Hops::new(plan.destinations().iter().map(next_hop).collect()),
            events: VecDeque::new(),
            n_begun: 0,
            is_stalled: false,
            config,
        }
    }

    /// Connections it is to have.
    pub fn n_connections(&self) -> u64 {
        self.config.n_connections
    }

    /// Connections that were begun. They are numbered from 0 in the order of their beginning.
    pub fn n_begun(&self) -> u64 {
        self.n_begun
    }

    /// Connections that are established.
    pub fn n_open(&self) -> u64 {
        self.bits.n_open()
    }

    /// What is in flight.
    pub fn n_flights(&self) -> usize {
        self.flights.len()
    }

    /// Nothing more can be begun before something in flight has ended.
    pub fn is_full(&self) -> bool {
        self.flights.is_full()
    }

    /// Bytes it keeps for its connections.
    pub fn bytes(&self) -> usize {
        self.bits.bytes()
    }

    /// The endpoints of connection `idx`.
    pub fn tuple(&self, idx: u64) -> FourTuple {
        self.config.plan.tuple(idx * self.config.n_workers + self.config.worker)
    }

    /// Begins the next connection; false when there is none, or too much is in flight.
    pub fn open(&mut self, now: Instant, stats: &mut Counters) -> bool {
        let idx = self.n_begun;
        if idx >= self.config.n_connections || !self.flights.begin(now, idx, Stage::Opening, 0) {
            return false;
        }
        self.n_begun += 1;
        stats.inc(Counter::ConnsActive);
        stats.inc(Counter::ConnsOpen);
        true
    }

    /// Sends `n` requests, one after the other, on connection `idx`, if it is established and nothing
    /// is in flight on it.
    pub fn request(&mut self, now: Instant, idx: u64, n: u32) -> bool {
        n > 0 && self.take_up(now, idx, Purpose::Request, n - 1)
    }

    /// Closes connection `idx`, if it is established and nothing is in flight on it.
    pub fn close(&mut self, now: Instant, idx: u64, farewell: Farewell) -> bool {
        let purpose = match farewell {
            Farewell::Fin => Purpose::Fin,
            Farewell::Rst => Purpose::Rst,
        };
        self.take_up(now, idx, purpose, 0)
    }

    fn take_up(&mut self, now: Instant, idx: u64, purpose: Purpose, left: u32) -> bool {
        self.bits.is_open(idx)
            && self.flights.find(idx).is_none()
            && self.flights.begin(now, idx, Stage::Asking(purpose), left)
    }

    /// Gives up everything: what is still there counts as aborted, and nobody is told.
    pub fn abandon(&mut self, stats: &mut Counters) {
        let n = self.bits.n_open() + self.flights.n_opening();
        stats.add(Counter::ConnsAborted, n);
        stats.set(Counter::ConnsOpen, stats.get(Counter::ConnsOpen) - n);
        self.bits = Bits::new(0);
        self.flights = Flights::new(0, self.config.secret.table_key());
        self.n_begun = 0;
        self.events.clear();
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Looks at flights whose time has come, a bounded number of them: what got no answer is sent
    /// again, and what took too long is given up.
    pub fn on_timeout(&mut self, now: Instant, stats: &mut Counters) {
        for _ in 0..EXPIRIES_MAX {
            let Some(place) = self.flights.overdue(now) else { break };
            let give_up_at = self.give_up_at(place);
            if give_up_at <= now {
                self.expire(now, place, stats);
                continue;
            }
            if !self.flights.get_mut(place).is_acked && self.flights.queue(place) {
                stats.inc(Counter::TcpTimeouts);
            }
            self.flights.look_at(place, give_up_at);
        }
    }

    /// When the crowd next wants a turn without a frame having arrived.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.flights.n_queued() > 0 && !self.is_stalled {
            return Some(now);
        }
        let hop = if self.is_stalled { self.hops.next_due() } else { None };
        [self.flights.next_due(), hop].into_iter().flatten().min()
    }

    fn give_up_at(&self, place: u32) -> Instant {
        let since = self.flights.get(place).map_or(Instant::ZERO, |flight| flight.since);
        since + self.config.timeout
    }

    /// A flight took too long. What is known to be there still is reset.
    fn expire(&mut self, now: Instant, place: u32, stats: &mut Counters) {
        let flight = *self.flights.get_mut(place);
        let loss = match flight.stage {
            Stage::Opening => Loss::ConnectTimedOut,
            Stage::Asking(Purpose::Request) | Stage::Requesting => Loss::ResponseTimedOut,
            Stage::Asking(Purpose::Fin | Purpose::Rst) | Stage::Closing => Loss::CloseTimedOut,
            Stage::Resetting => return self.flights.end(place),
        };
        self.lose(place, loss, stats);
        let n_sent = match flight.stage {
            Stage::Requesting => u32::from(self.config.request_bytes),
            Stage::Closing => 1,
            _ => return self.flights.end(place),
        };
        // A reset must have exactly the number that the peer expects (RFC 5961).
        self.flights.get_mut(place).snd += if flight.is_acked { n_sent } else { 0 };
        self.flights.enter(now, place, Stage::Resetting);
    }

    /// Counts the bad end of the connection that has this flight; the flight goes on.
    fn lose(&mut self, place: u32, loss: Loss, stats: &mut Counters) {
        let flight = *self.flights.get_mut(place);
        let was_asked = matches!(flight.stage, Stage::Asking(Purpose::Request) | Stage::Requesting);
        self.count_loss(flight.idx, loss, was_asked, stats);
    }

    fn count_loss(&mut self, idx: u64, loss: Loss, was_asked: bool, stats: &mut Counters) {
        let was_open = self.bits.close(idx);
        stats.dec(Counter::ConnsOpen);
        stats.inc(match loss {
            Loss::Refused => Counter::ConnsRefused,
            Loss::Unreachable => Counter::ConnsUnreachable,
            Loss::Reset => Counter::ConnsReset,
            Loss::ClosedEarly => Counter::ConnsClosed,
            Loss::WrongResponse => Counter::ConnsAborted,
            Loss::ConnectTimedOut | Loss::ResponseTimedOut | Loss::CloseTimedOut => {
                Counter::ConnsTimedOut
            }
        });
        self.events.push_back(Event::Lost { loss, was_open, was_asked });
    }

    /// Counts the good end of an established connection.
    fn settle(&mut self, idx: u64, end: Counter, stats: &mut Counters) {
        self.bits.close(idx);
        stats.dec(Counter::ConnsOpen);
        stats.inc(end);
        self.events.push_back(Event::Closed);
    }

    /// The initial sequence number of a connection.
    fn isn(&self, tuple: &FourTuple) -> Seq {
        self.config.secret.isn(tuple, self.config.epoch)
    }

    /// Our timestamp clock, in milliseconds, for a connection (RFC 7323 section 5.4).
    fn clock(&self, now: Instant, tuple: &FourTuple) -> u32 {
        self.config.secret.timestamp_offset(tuple).wrapping_add(now.as_millis() as u32)
    }

    /// The bytes of a connection's stream that lie from sequence number `seq` on: whatever is sent or
    /// comes back is made again from the numbers alone.
    fn fill(&self, idx: u64, isn: Seq, seq: Seq, buf: &mut [u8]) {
        let stream = idx << 32 ^ u64::from(isn.0);
        let (mut at, mut rest) = (u64::from(seq - (isn + 1)), buf);
        while !rest.is_empty() {
            let word = Dice::new(stream.wrapping_add(at / 8)).draw().to_le_bytes();
            let from = (at % 8) as usize;
            let n = rest.len().min(8 - from);
            let (piece, tail) = rest.split_at_mut(n);
            piece.copy_from_slice(&word[from..from + n]);
            (at, rest) = (at + n as u64, tail);
        }
    }
}

impl CrowdConfig {
    fn next_hop(&self, remote: Ipv4Addr) -> Ipv4Addr {
        let on_link = self.on_link.iter().any(|prefix| prefix.contains(remote));
        self.gateway.filter(|_| !on_link).unwrap_or(remote)
    }
}
