//! Two stacks of barewire and the wire between them, turned by the caller in one thread: no worker, no
//! application, no device. The server sends back what it receives; the client sends a request when the
//! response to the one before is whole.
//!
//! The clock is invented, so that every run does the same work: what a timer does depends on the time
//! that a turn is said to take, and on nothing else.

use super::wire::Wire;
use super::{Manner, REQUEST_BYTES};
use crate::rig::{self, Failure};
use crate::scale::plan;
use barewire_bench::ends;
use barewire_stack::dice::Dice;
use barewire_stack::stack::{ConnId, Disposition, Miss, Stack, StackConfig};
use barewire_stack::stats::{Counter, Kind};
use barewire_stack::tcp::Events;
use barewire_stack::tcp::buffer::CHUNK_BYTES;
use barewire_stack::time::{Duration, Instant};

/// Frames that travel together in one direction: the batch of a NIC.
pub(super) const BATCH: usize = 64;

/// Requests in flight at the same time, on as many connections; with fewer, all have one.
const WINDOW: usize = 1000;

/// Connections that are opened at the same time.
const OPENS_MAX: u64 = 512;

/// What a turn is said to take. A request on each of a million connections is over before the first of
/// them must acknowledge its response: the acknowledgement travels with the next request.
const TURN: Duration = Duration::from_micros(1);

/// What a lap over all connections is said to take when the requests are spread: 400 ns for each of a
/// million.
const LAP_SPREAD: Duration = Duration::from_millis(400);

/// Requests after which a connection acknowledges no longer at once, and a few more.
const WARM_REQUESTS: u64 = 20;

/// The tick of the timers.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// Everyone who has nothing to do falls asleep in this time.
const ASLEEP_AFTER: Duration = Duration::from_secs(10);

/// Turns beyond one for each request in which something must have come of them.
const TURNS_SPARE: u64 = 100_000;

/// Both ends.
pub(super) struct Pair {
    client: Stack,
    server: Stack,
    up: Wire,
    down: Wire,
    now: Instant,
    turn: Duration,
    /// The connections, in the order in which they are asked: far from one another in memory.
    order: Vec<ConnId>,
    /// Which is next, where not all have a request in flight.
    next: usize,
    /// The first so many are asked in turn; without, each is asked again when it has answered.
    lap: Option<usize>,
    opened: u64,
    /// Requests that were answered.
    answered: u64,
    /// Requests that are still to be sent, of those in hand.
    left: u64,
    request: [u8; REQUEST_BYTES],
}

impl Pair {
    /// `n` connections, open and awake; the first `n_warm` in the order of asking have exchanged so much
    /// that they acknowledge as they will for good.
    pub(super) fn open(n: u64, n_warm: u64) -> Result<Self, Failure> {
        // Later than anything that a stack takes to have been before its first turn.
        let now = Instant::ZERO + Duration::from_secs(1_000);
        // Each response is held until the next request on its connection acknowledges it.
        let buffer_bytes_max = ends::BUFFER_BYTES_MAX + n as usize * CHUNK_BYTES;
        let server = StackConfig { buffer_bytes_max, ..ends::server(n as u32) };
        let mut pair = Pair {
            client: rig::client(n as u32, now),
            server: rig::listener(server, now),
            up: Wire::new(BATCH),
            down: Wire::new(BATCH),
            now,
            turn: TURN,
            order: Vec::with_capacity(n as usize),
            next: 0,
            lap: None,
            opened: 0,
            answered: 0,
            left: 0,
            request: [0x5a; REQUEST_BYTES],
        };
        pair.open_all(n)?;
        let n_warm = n_warm.min(n) as usize;
        while pair.next < n_warm {
            let n_next = (n_warm - pair.next).min(WINDOW);
            pair.answer_all(n_next, n_next as u64 * WARM_REQUESTS)?;
        }
        pair.next = 0;
        pair.lap = (n_warm > WINDOW).then_some(n_warm);
        Ok(pair)
    }

    fn open_all(&mut self, n: u64) -> Result<(), Failure> {
        let (plan, mut n_turns) = (plan(), 0);
        while self.opened < n {
            while (self.order.len() as u64) < n.min(self.opened + OPENS_MAX) {
                let number = self.order.len() as u64;
                let tuple = plan.tuple(number);
                let opened =
                    self.client.connect(self.now, tuple.local(), tuple.remote(), 0, number);
                self.order.push(opened.expect("the plan's tuples are free"));
            }
            self.turn();
            n_turns += 1;
            check_turns(n_turns, n, "opening")?;
        }
        let mut dice = Dice::new(3);
        for last in (1..self.order.len()).rev() {
            self.order.swap(last, dice.below(last as u64 + 1) as usize);
        }
        Ok(())
    }

    /// Brings the connections to where they are at the beginning of such an exchange.
    pub(super) fn prepare(&mut self, manner: Manner) -> Result<(), Failure> {
        match manner {
            Manner::Dense => {}
            // What the last request left unacknowledged would all come due together.
            Manner::Spread => self.pass_until(Pair::is_acknowledged, "is acknowledged")?,
            Manner::Asleep => self.pass_until(Pair::is_asleep, "falls asleep")?,
        }
        let n_turns = self.lap.unwrap_or(self.order.len()).div_ceil(BATCH) as u64;
        self.turn = match manner {
            Manner::Dense => TURN,
            _ => Duration::from_nanos(LAP_SPREAD.as_nanos() / n_turns),
        };
        Ok(())
    }

    /// Time passes, and whatever is due happens when it is: if time was jumped over, an acknowledgement
    /// and the timeout of who waits for it would come at once.
    fn pass_until(&mut self, is_so: fn(&Pair) -> bool, what: &str) -> Result<(), Failure> {
        let end = self.now + ASLEEP_AFTER;
        self.turn = Duration::ZERO;
        while !is_so(self) {
            if self.now > end {
                return Err(Failure::Sums(vec![format!("not every connection {what}")]));
            }
            self.now += TICK;
            self.turn();
            while self.is_due() {
                self.turn();
            }
        }
        Ok(())
    }

    fn is_acknowledged(&self) -> bool {
        let bytes = |counter| self.server.stats().get(counter);
        bytes(Counter::TcpBytesAcked) == bytes(Counter::TcpBytesOut)
    }

    fn is_asleep(&self) -> bool {
        self.client.n_active() + self.server.n_active() == 0
    }

    /// Somebody has something to do at this very time.
    fn is_due(&self) -> bool {
        let wants = |stack: &Stack| stack.poll_timeout(self.now).is_some_and(|at| at <= self.now);
        wants(&self.client) || wants(&self.server)
    }

    /// Exchanges `n` requests and responses. Measured by name under valgrind.
    #[inline(never)]
    pub(super) fn exchange(&mut self, n: u64) -> Result<(), Failure> {
        self.next = if self.lap.is_some() { self.next } else { 0 };
        self.answer_all(self.order.len().min(WINDOW), n)
    }

    /// Exchanges `n` requests and responses, with `n_flights` in flight from the next connection on.
    fn answer_all(&mut self, n_flights: usize, n: u64) -> Result<(), Failure> {
        let (goal, mut n_turns) = (self.answered + n, 0);
        self.left = n;
        for _ in 0..n.min(n_flights as u64) {
            let id = self.next_in_order();
            self.ask(id);
        }
        while self.answered < goal {
            self.turn();
            n_turns += 1;
            check_turns(n_turns, n, "asking")?;
        }
        Ok(())
    }

    fn next_in_order(&mut self) -> ConnId {
        let id = self.order[self.next];
        self.next += 1;
        if self.lap.is_some_and(|n| self.next >= n) {
            self.next = 0;
        }
        id
    }

    fn ask(&mut self, id: ConnId) {
        self.left -= 1;
        self.request[..4].copy_from_slice(&id.slot.to_ne_bytes());
        let n = self.client.send(self.now, id, &self.request);
        assert_eq!(n, REQUEST_BYTES, "nothing else waits to be sent");
    }

    /// The client sends, the server takes it and answers, the client takes the answers.
    fn turn(&mut self) {
        self.now += self.turn;
        transmit(&mut self.client, self.now, &mut self.up);
        receive(&mut self.server, self.now, &mut self.up, &mut self.down);
        self.server.on_timeout(self.now);
        while let Some(event) = self.server.poll_event() {
            self.server.echo(self.now, event.id);
            self.server.event_done(&event);
        }
        transmit(&mut self.server, self.now, &mut self.down);
        receive(&mut self.client, self.now, &mut self.down, &mut self.up);
        self.client.on_timeout(self.now);
        if self.lap.is_some() {
            // As a load generator does that knows whom it will ask.
            self.client.look_ahead_at(self.order[self.next..].iter().copied());
        }
        while let Some(event) = self.client.poll_event() {
            self.opened += u64::from(event.events.contains(Events::OPENED));
            if event.events.contains(Events::READABLE) {
                self.take_response(event.id);
            }
            self.client.event_done(&event);
        }
    }

    fn take_response(&mut self, id: ConnId) {
        let mut response = [0; REQUEST_BYTES];
        let n = self.client.recv(self.now, id, &mut response);
        assert_eq!(n, REQUEST_BYTES, "a response of this size is one segment");
        assert_eq!(response[..4], id.slot.to_ne_bytes(), "it is the response to its request");
        self.answered += 1;
        if self.left > 0 {
            let next = if self.lap.is_some() { self.next_in_order() } else { id };
            self.ask(next);
        }
    }

    /// Frames of both ends up to now: what a request costs in segments.
    pub(super) fn n_frames(&self) -> u64 {
        self.client.stats().get(Counter::TxFrames) + self.server.stats().get(Counter::TxFrames)
    }

    /// The sums of both ends, and that nothing was lost or sent twice.
    pub(super) fn audit(&self) -> Result<(), String> {
        for (stack, end) in [(&self.client, "client"), (&self.server, "server")] {
            stack.audit()?;
            let stats = stack.stats();
            let troubles = stats.sum(Kind::Drop) + stats.sum(Kind::End) + stats.sum(Kind::Warn);
            if troubles > 0 {
                return Err(format!("expected a quiet run, found on the {end}: {stats:?}"));
            }
        }
        let bytes = |stack: &Stack, counter| stack.stats().get(counter);
        let (asked, answered) = (
            bytes(&self.server, Counter::TcpBytesIn) / REQUEST_BYTES as u64,
            bytes(&self.client, Counter::TcpBytesIn) / REQUEST_BYTES as u64,
        );
        if asked != self.answered || answered != self.answered {
            return Err(format!(
                "expected {} requests on both ends, found {asked} asked and {answered} answered",
                self.answered
            ));
        }
        Ok(())
    }
}

/// Sends what `stack` has, as far as the wire takes it.
pub(super) fn transmit(stack: &mut Stack, now: Instant, wire: &mut Wire) {
    while let Some(buf) = wire.room() {
        let Some(len) = stack.poll_transmit(now, buf) else { break };
        wire.push(len);
    }
}

/// Gives `stack` what is on the wire; what it answers in the frame itself goes out on the other one.
pub(super) fn receive(stack: &mut Stack, now: Instant, wire: &mut Wire, back: &mut Wire) {
    stack.look_ahead(wire.waiting());
    while let Some(frame) = wire.take() {
        if let Disposition::Reply(len) = stack.on_frame(now, frame, Miss::Answer) {
            let room = back.room().expect("answers are as many as fit at most");
            room[..len].copy_from_slice(&frame[..len]);
            back.push(len);
        }
    }
}

fn check_turns(n_turns: u64, n: u64, what: &str) -> Result<(), Failure> {
    if n_turns > n + TURNS_SPARE {
        return Err(Failure::Sums(vec![format!("{what}: nothing happens any more")]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manner_follows_every_other() {
        // Fewer would have to wait in the window for so long that they take it for a loss.
        let n = 30 * WINDOW as u64;
        let mut pair = Pair::open(n, n).expect("it opens");
        let manners = [Manner::Dense, Manner::Spread, Manner::Asleep];
        for manner in manners.into_iter().chain(manners.into_iter().rev()) {
            pair.prepare(manner).expect("it gets there");
            assert_eq!(pair.is_asleep(), manner == Manner::Asleep);
            let before = pair.n_frames();
            pair.exchange(n).expect("all are answered");
            let frames = (pair.n_frames() - before) as f64 / n as f64;
            match manner {
                Manner::Dense => assert!(frames < 2.1, "{frames}"),
                // The last have not acknowledged yet.
                Manner::Spread | Manner::Asleep => assert!(frames > 2.8, "{frames}"),
            }
        }
        pair.audit().expect("nothing was lost or sent twice");
    }
}
