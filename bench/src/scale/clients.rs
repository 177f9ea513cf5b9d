//! The far end of a scale run: a crowd that keeps two bits per connection, or a stack like the
//! server's. Both open, ask and close the same connections, numbered by the same plan, and both are
//! told which one to take up; neither keeps a list of what it has open.

use crate::rig::{self, CLIENT, CLIENT_MAC, SECRET, SERVER, SOURCES};
use barewire_api::config::{PortRange, Prefix};
use barewire_stack::crowd::{Crowd, CrowdConfig, Event, Farewell, Hosts, Plan};
use barewire_stack::device::memory::MemoryDevice;
use barewire_stack::device::{Batch, Device};
use barewire_stack::dice::Dice;
use barewire_stack::stack::{self, Disposition, Miss, Stack};
use barewire_stack::stats::Counters;
use barewire_stack::tcp::isn::Secret;
use barewire_stack::tcp::{End, Events};
use barewire_stack::time::{Duration, Instant};
use barewire_stack::wire::tcp::ChecksumPolicy;

/// Handshakes, requests and closes in flight.
const FLIGHTS_MAX: u32 = 512;

/// Bytes of a request.
pub(super) const REQUEST_BYTES: usize = 64;

/// Frames sent in one turn.
const TX_FRAMES_MAX: usize = 256;

/// What the clients did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) established: u64,
    pub(super) responded: u64,
    pub(super) closed: u64,
    pub(super) lost: u64,
}

/// All clients.
pub(super) struct Clients {
    kind: Kind,
    n: u64,
    plan: Plan,
    tally: Tally,
    rx: Batch,
    tx: Batch,
}

enum Kind {
    Crowd(Box<Crowd>, Box<Counters>),
    /// A stack, how many connections were begun, and what is in flight on them.
    Stack(Box<Stack>, u64, u32),
}

/// The tuples of all runs.
pub(crate) fn plan() -> Plan {
    let sources: Prefix = SOURCES.parse().expect("a prefix");
    let first = sources.host(0).expect("a prefix of many hosts");
    let hosts = Hosts { first, n: sources.hosts() as u32 };
    let ports = PortRange::UNRESERVED;
    Plan::new(&[hosts], ports.lo()..=ports.hi(), &[SERVER])
}

impl Clients {
    pub(super) fn new(n: u64, is_stateless: bool, now: Instant) -> Self {
        let plan = plan();
        let kind = if is_stateless {
            let config = CrowdConfig {
                mac: CLIENT_MAC,
                plan: plan.clone(),
                worker: 0,
                n_workers: 1,
                n_connections: n,
                on_link: vec![stack::Prefix { addr: CLIENT, len: 24 }],
                gateway: None,
                ttl: 64,
                mss: 1460,
                timestamps: true,
                rx_checksum: ChecksumPolicy::Verify,
                request_bytes: REQUEST_BYTES as u16,
                flights_max: FLIGHTS_MAX,
                timeout: Duration::from_secs(30),
                secret: Secret::new(SECRET),
                epoch: now,
            };
            Kind::Crowd(Box::new(Crowd::new(config)), Box::default())
        } else {
            Kind::Stack(Box::new(rig::client(n as u32, now)), 0, 0)
        };
        Clients { kind, n, plan, tally: Tally::default(), rx: Batch::new(), tx: Batch::new() }
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes of everything that grows with connections.
    pub(super) fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Crowd(crowd, _) => crowd.bytes(),
            Kind::Stack(stack, ..) => super::total(stack.memory()),
        }
    }

    /// Connections that are awake; a crowd has no such.
    pub(super) fn n_awake(&self) -> u32 {
        match &self.kind {
            Kind::Crowd(..) => 0,
            Kind::Stack(stack, ..) => stack.n_active(),
        }
    }

    pub(super) fn audit(&self) -> Result<(), String> {
        match &self.kind {
            Kind::Crowd(_, stats) => stats.audit(),
            Kind::Stack(stack, ..) => stack.audit(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        match &self.kind {
            Kind::Crowd(crowd, _) => crowd.is_full(),
            Kind::Stack(_, _, n_flights) => *n_flights >= FLIGHTS_MAX,
        }
    }

    /// Begins the next connection; false when all were begun, or too much is in flight.
    pub(super) fn open(&mut self, now: Instant) -> bool {
        let is_full = self.is_full();
        match &mut self.kind {
            Kind::Crowd(crowd, stats) => crowd.open(now, stats),
            Kind::Stack(stack, n_begun, n_flights) => {
                if is_full || *n_begun == self.n {
                    return false;
                }
                let tuple = self.plan.tuple(*n_begun);
                stack
                    .connect(now, tuple.local(), tuple.remote(), 0, *n_begun)
                    .expect("the plan's tuples are free, and as many as may exist");
                (*n_begun, *n_flights) = (*n_begun + 1, *n_flights + 1);
                true
            }
        }
    }

    /// Sends a request on connection `idx`, on which nothing is in flight.
    pub(super) fn request(&mut self, now: Instant, idx: u64) {
        match &mut self.kind {
            Kind::Crowd(crowd, _) => assert!(crowd.request(now, idx, 1), "{idx} is open and idle"),
            Kind::Stack(stack, _, n_flights) => {
                let id = stack.id_between(&self.plan.tuple(idx)).expect("it is open");
                assert_eq!(
                    stack.send(now, id, &request(idx)),
                    REQUEST_BYTES,
                    "its buffer is empty"
                );
                *n_flights += 1;
            }
        }
    }

    /// Closes connection `idx`, on which nothing is in flight.
    pub(super) fn close(&mut self, now: Instant, idx: u64) {
        match &mut self.kind {
            Kind::Crowd(crowd, _) => {
                assert!(crowd.close(now, idx, Farewell::Fin), "{idx} is open and idle");
            }
            Kind::Stack(stack, _, n_flights) => {
                let id = stack.id_between(&self.plan.tuple(idx)).expect("it is open");
                stack.close(now, id);
                *n_flights += 1;
            }
        }
    }

    /// Takes what has arrived, does what is due, and sends; true when there was anything.
    pub(super) fn turn(&mut self, now: Instant, device: &mut MemoryDevice) -> bool {
        let n = device.rx_batch(&mut self.rx);
        for mut frame in self.rx.drain(n) {
            let len = usize::from(frame.len());
            let bytes = &mut device.bytes_mut(&mut frame)[..len];
            match self.kind.on_frame(now, bytes) {
                Disposition::Reply(len)
                    if self.tx.room() > 0 || device.tx_batch(&mut self.tx) > 0 =>
                {
                    self.tx.push(frame.with_len(len as u16));
                }
                _ => device.release(frame),
            }
        }
        self.kind.on_timeout(now, &mut self.tally);
        let mut n_sent = 0;
        while n_sent < TX_FRAMES_MAX && (self.tx.room() > 0 || device.tx_batch(&mut self.tx) > 0) {
            let Some(mut frame) = device.alloc() else { break };
            let Some(len) = self.kind.poll_transmit(now, device.bytes_mut(&mut frame)) else {
                device.release(frame);
                break;
            };
            self.tx.push(frame.with_len(len as u16));
            n_sent += 1;
        }
        device.tx_batch(&mut self.tx);
        n + n_sent > 0
    }
}

impl Kind {
    fn on_frame(&mut self, now: Instant, bytes: &mut [u8]) -> Disposition {
        match self {
            Kind::Crowd(crowd, stats) => {
                crowd.on_frame(now, bytes, Miss::Answer, stats).unwrap_or(Disposition::Done)
            }
            Kind::Stack(stack, ..) => stack.on_frame(now, bytes, Miss::Answer),
        }
    }

    fn poll_transmit(&mut self, now: Instant, buf: &mut [u8]) -> Option<usize> {
        match self {
            Kind::Crowd(crowd, stats) => crowd.poll_transmit(now, buf, stats),
            Kind::Stack(stack, ..) => stack.poll_transmit(now, buf),
        }
    }

    fn on_timeout(&mut self, now: Instant, tally: &mut Tally) {
        match self {
            Kind::Crowd(crowd, stats) => {
                crowd.on_timeout(now, stats);
                while let Some(event) = crowd.poll_event() {
                    tally.note(event);
                }
            }
            Kind::Stack(stack, _, n_flights) => {
                stack.on_timeout(now);
                while let Some(event) = stack.poll_event() {
                    let n_done = on_event(stack, now, &event, tally);
                    *n_flights = n_flights.saturating_sub(n_done);
                    stack.event_done(&event);
                }
            }
        }
    }
}

impl Tally {
    fn note(&mut self, event: Event) {
        match event {
            Event::Opened(_) => self.established += 1,
            Event::Responded { .. } => self.responded += 1,
            Event::Closed => self.closed += 1,
            // The server closes a part of them first, as it is told to.
            Event::Lost { loss: barewire_stack::crowd::Loss::ClosedEarly, .. } => self.closed += 1,
            Event::Lost { .. } => self.lost += 1,
        }
    }
}

/// What happened to a connection of the stack; how many flights ended with it.
fn on_event(stack: &mut Stack, now: Instant, event: &stack::Event, tally: &mut Tally) -> u32 {
    let mut n_done = 0;
    if event.events.contains(Events::OPENED) {
        tally.established += 1;
        n_done += 1;
    }
    let mut response = [0; REQUEST_BYTES];
    if stack.peek_into(event.id, &mut response) == REQUEST_BYTES {
        stack.discard(now, event.id, REQUEST_BYTES);
        let is_right = response == request(event.word) && stack.peek(event.id).is_empty();
        *(if is_right { &mut tally.responded } else { &mut tally.lost }) += 1;
        n_done += 1;
    }
    if event.events.contains(Events::FINISHED) && event.end.is_none() {
        stack.close(now, event.id);
    }
    match event.end {
        None => {}
        Some(End::Closed) => {
            tally.closed += 1;
            n_done += 1;
        }
        Some(_) => tally.lost += 1,
    }
    n_done
}

/// The bytes that connection `idx` sends.
fn request(idx: u64) -> [u8; REQUEST_BYTES] {
    let mut dice = Dice::new(idx);
    let mut bytes = [0; REQUEST_BYTES];
    for word in bytes.chunks_mut(8) {
        word.copy_from_slice(&dice.draw().to_le_bytes());
    }
    bytes
}
