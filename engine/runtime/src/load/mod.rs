//! The load generator. [`Load`] is the application of one worker: it opens connections, exchanges
//! requests and responses on them and closes them, phase by phase. The [`Conductor`] runs on the
//! control thread and says when all workers enter the next phase. No worker knows of another; what
//! keeps their tuples apart is arithmetic.
//!
//! ```text
//! hold: ramp -> hold -> exchange -> close -> done      rr: ramp -> run -> close -> done
//! cps:  run -> close -> done
//! ```
//!
//! A connection costs a word in its record and, while it is idle, its id in a queue. Whatever is in
//! flight on it (handshake, request, close) takes one of `outstanding_max` flights: they bound the
//! memory, and in the order of their beginnings they are the timeouts too. The work of a turn is
//! bounded by the constants below.
//!
//! - `spread`: how a plan is divided among workers
//! - `tuples`, `schedule`: what is opened next, and when
//! - `flight`, `exchange`: what is in flight, and the request and response on it
//! - `mark`: the word of a connection
//! - `stateless`: the same for clients that keep nothing
//! - `recorder`: what is counted and timed

mod conductor;
mod exchange;
mod flight;
mod mark;
mod recorder;
mod schedule;
mod spread;
mod stateless;
mod tuples;

pub use conductor::Conductor;
pub use recorder::Progress;
pub use spread::Spread;
pub use stateless::{Share, Stateless};
pub use tuples::Tuples;

use crate::app::failure::{of_end, of_refusal};
use crate::app::{App, Io};
use barewire_api::config::{CloseWith, LoadMode, LoadPlan, LoadProtocol};
use barewire_api::failure::Failure;
use barewire_api::plan::TuplePlan;
use barewire_api::report::{LoadPart, LoadPhase};
use barewire_stack::dice::{Dice, Ratio};
use barewire_stack::stack::{ConnId, ConnectError, Event};
use barewire_stack::tcp::{End, Events};
use barewire_stack::time::{Duration, Instant};
use exchange::Traffic;
use flight::Flights;
use mark::{Mark, Stage};
use recorder::Recorder;
use schedule::Schedule;
use std::collections::VecDeque;

/// Connections opened in one turn.
const OPENS_MAX: usize = 256;

/// Tuples tried in one turn, those in use included.
const TUPLES_MAX: usize = 4096;

/// Idle connections that are given a request, or closed, in one turn.
const VISITS_MAX: usize = 256;

/// Idle connections that are looked ahead at together.
const AHEAD: usize = 64;

/// Flights that time out in one turn.
const TIMEOUTS_MAX: usize = 256;

/// Pause after an open that the stack refused while the test runs on.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// The load generator of one worker.
#[derive(Debug)]
pub struct Load {
    plan: LoadPlan,
    timeout: Duration,
    /// What tells this test's connections from those of an earlier one.
    run: u32,
    /// This worker's part of the plan's connections.
    n_connections: u64,
    tuples: Tuples,
    schedule: Schedule,
    traffic: Traffic,
    flights: Flights,
    /// Established connections without a request, the longest idle first. One that ended meanwhile
    /// stays until it is visited.
    idle: VecDeque<ConnId>,
    /// Idle connections that this phase still has to visit.
    to_visit: usize,
    /// Opens that are still to be begun.
    to_open: u64,
    paused_until: Instant,
    recorder: Recorder,
    /// Every request is the last of its connection, and the peer answers one who has finished.
    finishes_with_request: bool,
    /// Chooses who exchanges.
    dice: Dice,
}

impl Load {
    /// The part of worker number `worker` of `n_workers` in a plan that was checked, when every
    /// n-th of its tuples is the worker's. It begins with the first phase of the plan's mode at once.
    ///
    /// # Panics
    /// When there is no such worker.
    pub fn new(
        plan: &LoadPlan,
        tuples: TuplePlan,
        worker: usize,
        n_workers: usize,
        now: Instant,
    ) -> Self {
        let tuples = Tuples::by_number(tuples, worker, n_workers, plan.connections.0);
        Load::with_tuples(plan, tuples, worker, now)
    }

    /// The part of worker number `worker`, which has these tuples.
    pub fn with_tuples(plan: &LoadPlan, tuples: Tuples, worker: usize, now: Instant) -> Self {
        let n_connections = tuples.portion();
        let part = n_connections as f64 / plan.connections.0.max(1) as f64;
        // A worker without connections has nothing to be on time for.
        let rate = plan.opens_per_second().map(|rate| rate * part).filter(|&rate| rate > 0.0);
        let n_idle_max = match plan.mode {
            LoadMode::ConnectionsPerSecond => 0,
            // Reserved whole, so that growing never stalls a turn; a page counts when it is used.
            LoadMode::Hold | LoadMode::RequestResponse => n_connections as usize,
        };
        let mut load = Load {
            timeout: Duration::from_nanos(plan.timeout.as_nanos()),
            run: Mark::run_at(now.as_nanos()),
            n_connections,
            tuples,
            schedule: Schedule::new(rate, now),
            traffic: Traffic::new(plan, worker),
            flights: Flights::new(plan.outstanding_max),
            idle: VecDeque::with_capacity(n_idle_max),
            to_visit: 0,
            to_open: 0,
            paused_until: now,
            recorder: Recorder::new(),
            finishes_with_request: plan.mode == LoadMode::ConnectionsPerSecond
                && plan.close == CloseWith::Fin
                && plan.protocol == LoadProtocol::Echo,
            dice: Dice::new(now.as_nanos() ^ worker as u64),
            plan: plan.clone(),
        };
        load.enter(conductor::first_phase(plan.mode));
        load
    }

    /// Enters a phase, as the conductor says; to be told twice makes no difference.
    pub fn enter(&mut self, phase: LoadPhase) {
        if phase == self.phase() {
            return;
        }
        self.recorder.enter(phase);
        match phase {
            LoadPhase::Ramp => self.to_open = self.n_connections,
            LoadPhase::Run if self.plan.mode == LoadMode::ConnectionsPerSecond => {
                self.to_open = self.n_connections;
            }
            LoadPhase::Exchange if self.plan.exchanges > 0 => self.to_visit = self.idle.len(),
            LoadPhase::Close => self.to_open = 0,
            _ => {}
        }
    }

    /// The hash of the NIC has changed. The tuples of this worker stay its own, so that no two use the
    /// same; among them those are opened from now on that arrive here, as long as there are any.
    pub fn on_hash_changed(&mut self) {
        self.tuples.on_hash_changed();
    }

    /// How it stands; cheap.
    pub fn progress(&self) -> Progress {
        *self.recorder.progress()
    }

    /// Everything that was counted and timed, the histograms included.
    pub fn part(&self) -> LoadPart {
        self.recorder.part()
    }

    fn phase(&self) -> LoadPhase {
        self.recorder.progress().phase
    }

    /// Begins the opens that are due.
    fn open_due(&mut self, io: &mut Io<'_>) {
        let now = io.now();
        let mut opened = 0;
        for _ in 0..TUPLES_MAX {
            let due = self.schedule.is_due(now) && self.paused_until <= now;
            if !due || self.to_open == 0 || self.flights.is_full() || opened == OPENS_MAX {
                break;
            }
            opened += usize::from(self.open_next(io));
        }
    }

    /// Tries the next tuple. True when that began an open.
    fn open_next(&mut self, io: &mut Io<'_>) -> bool {
        let now = io.now();
        let Some(tuple) = self.tuples.take() else {
            if self.tuples.len() == 0 {
                self.refuse_opens(now, Failure::NoPort);
            }
            return false;
        };
        if self.tuples.is_choosy() && !io.arrives_here(tuple.local, tuple.remote) {
            self.tuples.note_refused();
            return false;
        }
        match io.connect(tuple.local, tuple.remote, Mark::OVER.to_word()) {
            Ok(id) => {
                self.tuples.note_free();
                self.schedule.take(now);
                self.to_open -= 1;
                self.recorder.opened();
                let dst = self.traffic.destination(tuple.remote);
                let flight = self.flights.begin(id, now);
                let mark = Mark { stage: Stage::Opening, dst, flight, run: self.run };
                io.set_word(id, mark.to_word());
                return true;
            }
            Err(ConnectError::InUse) => {
                if self.tuples.note_refused() {
                    self.refuse_opens(now, Failure::NoPort);
                }
            }
            Err(error) => self.refuse_opens(now, of_refusal(error)),
        }
        false
    }

    /// The stack refuses an open for a reason that stays. In the ramp it holds for all that are
    /// left; in a run one has failed, and after a pause things may be better.
    fn refuse_opens(&mut self, now: Instant, failure: Failure) {
        if self.phase() == LoadPhase::Run {
            self.recorder.refused(failure);
            self.paused_until = now + REFUSED_PAUSE;
            return;
        }
        for _ in 0..std::mem::take(&mut self.to_open) {
            self.recorder.refused(failure);
        }
    }

    /// Gives idle connections their requests, as far as flights are free.
    fn begin_exchanges(&mut self, io: &mut Io<'_>) {
        let left = match self.phase() {
            LoadPhase::Exchange => self.plan.exchanges - 1,
            _ => 0,
        };
        self.visit_idle(io, |load, io, id, mark| load.begin_exchange(io, id, mark, left));
    }

    /// Takes idle connections from the queue, a bounded number, as far as flights are free, and
    /// begins a flight on each.
    fn visit_idle(
        &mut self,
        io: &mut Io<'_>,
        begin: impl Fn(&mut Self, &mut Io<'_>, ConnId, Mark),
    ) {
        for n in 0..VISITS_MAX {
            if self.flights.is_full() || !self.has_visits() {
                break;
            }
            if n.is_multiple_of(AHEAD) {
                let next = self.idle.iter().take(self.flights.n_free().min(AHEAD));
                io.look_ahead(next.copied());
            }
            let Some(id) = self.idle.pop_front() else { break };
            self.to_visit = self.to_visit.saturating_sub(1);
            if !self.is_chosen() {
                self.idle.push_back(id);
                continue;
            }
            let mark = io.word(id).map(Mark::from_word);
            if let Some(mark) = mark.filter(|mark| mark.stage == Stage::Idle) {
                let flight = self.flights.begin(id, io.now());
                begin(self, io, id, Mark { flight, ..mark });
            }
        }
    }

    /// In the exchange phase only a sample of the connections, chosen at random, has a request.
    fn is_chosen(&mut self) -> bool {
        self.phase() != LoadPhase::Exchange
            || self.dice.happens(Ratio::from_ppm(self.plan.sample.ppm()))
    }

    /// This phase wants something of an idle connection.
    fn has_visits(&self) -> bool {
        match self.phase() {
            LoadPhase::Exchange => self.to_visit > 0,
            LoadPhase::Run | LoadPhase::Close => !self.idle.is_empty(),
            _ => false,
        }
    }

    /// Sends a request on a connection that has a flight; `left` more follow.
    fn begin_exchange(&mut self, io: &mut Io<'_>, id: ConnId, mark: Mark, left: u32) {
        self.flights.renew(mark.flight, io.now());
        self.flights.get_mut(mark.flight).exchange = self.traffic.begin(io, id, mark.dst, left);
        self.recorder.requested();
        io.set_word(id, Mark { stage: Stage::Busy, ..mark }.to_word());
        self.send_request(io, id, mark);
    }

    fn send_request(&mut self, io: &mut Io<'_>, id: ConnId, mark: Mark) {
        let exchange = &mut self.flights.get_mut(mark.flight).exchange;
        let sent = self.traffic.send(io, id, mark.dst, exchange);
        self.recorder.sent(sent);
        // With what is sent there is nothing more to say: the FIN goes with it.
        if self.finishes_with_request && sent > 0 && exchange.is_sent() {
            io.shutdown(id);
        }
    }

    /// A busy connection may be able to send or to receive; `finished`: the peer sends no more.
    fn go_on(&mut self, io: &mut Io<'_>, id: ConnId, mark: Mark, finished: bool) {
        if !self.flights.get_mut(mark.flight).exchange.is_sent() {
            self.send_request(io, id, mark);
        }
        let exchange = &mut self.flights.get_mut(mark.flight).exchange;
        match self.traffic.receive(io, id, exchange) {
            Err(failure) => self.fail(io, id, mark, failure),
            Ok((bytes, whole)) => {
                self.recorder.received(bytes);
                if whole {
                    self.on_response(io, id, mark, finished);
                } else if finished {
                    self.fail(io, id, mark, Failure::ClosedEarly);
                }
            }
        }
    }

    fn on_response(&mut self, io: &mut Io<'_>, id: ConnId, mark: Mark, finished: bool) {
        let flight = self.flights.get_mut(mark.flight);
        let exchange = flight.exchange;
        self.recorder.responded(io.now() - flight.since);
        let is_done = self.phase() == LoadPhase::Close
            || self.plan.mode == LoadMode::ConnectionsPerSecond
            || exchange.is_last
            || finished;
        if is_done {
            self.begin_close(io, id, mark);
        } else if exchange.left > 0 {
            self.begin_exchange(io, id, mark, exchange.left - 1);
        } else {
            self.rest(io, id, mark);
        }
    }

    /// Nothing is in flight on the connection any more: it waits among the idle.
    fn rest(&mut self, io: &mut Io<'_>, id: ConnId, mark: Mark) {
        self.flights.end(mark.flight);
        io.set_word(id, Mark { stage: Stage::Idle, ..mark }.to_word());
        self.idle.push_back(id);
    }

    /// Closes a connection that has a flight.
    fn begin_close(&mut self, io: &mut Io<'_>, id: ConnId, mark: Mark) {
        let mark = Mark { stage: Stage::Closing, ..mark };
        match self.plan.close {
            CloseWith::Fin => {
                self.flights.renew(mark.flight, io.now());
                io.set_word(id, mark.to_word());
                io.close(id);
            }
            CloseWith::Rst => {
                self.settle(io, id, mark, None);
                io.abort(id);
            }
        }
    }

    fn on_opened(&mut self, io: &mut Io<'_>, id: ConnId, mark: Mark) {
        let flight = self.flights.get_mut(mark.flight);
        self.recorder.established(io.now() - flight.since);
        if self.phase() == LoadPhase::Close {
            self.begin_close(io, id, mark);
        } else if self.plan.mode == LoadMode::ConnectionsPerSecond {
            self.begin_exchange(io, id, mark, 0);
        } else {
            self.rest(io, id, mark);
        }
    }

    /// A connection ended by itself, or at the end of our close.
    fn on_end(&mut self, io: &mut Io<'_>, id: ConnId, mark: Mark, end: End) {
        let failure = match (mark.stage, end) {
            (Stage::Closing, End::Closed) => None,
            (Stage::Closing, End::TimedOut) => Some(Failure::CloseTimedOut),
            // The stack resets what still gets data after the close.
            (Stage::Closing, End::Aborted) => Some(Failure::WrongResponse),
            (_, End::Closed) => Some(Failure::ClosedEarly),
            (stage, end) => of_end(end, stage != Stage::Opening),
        };
        self.settle(io, id, mark, failure);
    }

    fn fail(&mut self, io: &mut Io<'_>, id: ConnId, mark: Mark, failure: Failure) {
        self.settle(io, id, mark, Some(failure));
        io.abort(id);
    }

    /// Counts the end of a connection, once: from here on its mark says that it is over.
    fn settle(&mut self, io: &mut Io<'_>, id: ConnId, mark: Mark, failure: Option<Failure>) {
        io.set_word(id, Mark::OVER.to_word());
        if mark.stage != Stage::Idle {
            self.flights.end(mark.flight);
        }
        match mark.stage {
            Stage::Opening => self.recorder.handshake_lost(),
            Stage::Busy => self.recorder.response_lost(),
            Stage::Over | Stage::Idle | Stage::Closing => {}
        }
        let was_established = mark.stage != Stage::Opening;
        if was_established {
            self.recorder.left();
        }
        match failure {
            None => self.recorder.closed(),
            Some(failure) => self.recorder.failed(failure),
        }
        // A run keeps up the number of its connections; one that never opened is no loss to `rr`.
        let replaces = was_established || self.plan.mode == LoadMode::ConnectionsPerSecond;
        if self.phase() == LoadPhase::Run && replaces {
            self.to_open += 1;
        }
    }

    /// Gives up what has been in flight for too long.
    fn expire(&mut self, io: &mut Io<'_>) {
        for _ in 0..TIMEOUTS_MAX {
            let Some(flight) = self.flights.oldest() else { break };
            if io.now().since(flight.since) < self.timeout {
                break;
            }
            let id = flight.id;
            let word = io.word(id).expect("a connection with something in flight lives");
            let mark = Mark::from_word(word);
            let failure = match mark.stage {
                Stage::Opening => Failure::ConnectTimedOut,
                Stage::Busy => Failure::ResponseTimedOut,
                Stage::Closing => Failure::CloseTimedOut,
                Stage::Over | Stage::Idle => unreachable!("{mark:?} has nothing in flight"),
            };
            self.fail(io, id, mark, failure);
        }
    }

    fn note_complete(&mut self, now: Instant) {
        let is_complete = match self.phase() {
            LoadPhase::Ramp => self.to_open == 0 && self.flights.is_empty(),
            LoadPhase::Exchange => self.to_visit == 0 && self.flights.is_empty(),
            LoadPhase::Close => self.recorder.progress().open() == 0,
            _ => false,
        };
        if is_complete {
            self.recorder.complete(now);
        }
    }

    /// When there is something to do without an event.
    fn wake_at(&self, now: Instant) -> Option<Instant> {
        let timeout = self.flights.oldest().map(|flight| flight.since + self.timeout);
        let has_room = !self.flights.is_full();
        let visit = (has_room && self.has_visits()).then_some(now);
        let open =
            (has_room && self.to_open > 0).then(|| self.schedule.next().max(self.paused_until));
        [timeout, visit, open].into_iter().flatten().min()
    }
}

impl App for Load {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        let (id, events) = (event.id, event.events);
        let mark = Mark::from_word(event.word);
        if mark.stage == Stage::Over {
            return;
        }
        if mark.run != self.run {
            // Left over from a test that was given up.
            io.set_word(id, Mark::OVER.to_word());
            io.abort(id);
            return;
        }
        let mark = if mark.stage == Stage::Opening && events.contains(Events::OPENED) {
            self.on_opened(io, id, mark);
            // It may be further on by now.
            io.word(id).map_or(Mark::OVER, Mark::from_word)
        } else {
            mark
        };
        let finished = events.contains(Events::FINISHED);
        match (mark.stage, event.end) {
            (Stage::Over, _) => {}
            (_, Some(end)) => self.on_end(io, id, mark, end),
            (Stage::Busy, None) => self.go_on(io, id, mark, finished),
            (Stage::Idle, None) if !io.peek(id).is_empty() => {
                // An answer that nobody asked for.
                self.fail(io, id, mark, Failure::WrongResponse);
            }
            (Stage::Idle, None) if finished => self.fail(io, id, mark, Failure::ClosedEarly),
            (Stage::Idle | Stage::Opening | Stage::Closing, None) => {}
        }
    }

    fn on_turn(&mut self, io: &mut Io<'_>) -> Option<Instant> {
        self.expire(io);
        match self.phase() {
            LoadPhase::Ramp => self.open_due(io),
            LoadPhase::Exchange => self.begin_exchanges(io),
            LoadPhase::Run => {
                self.begin_exchanges(io);
                self.open_due(io);
            }
            LoadPhase::Close => self.visit_idle(io, Load::begin_close),
            LoadPhase::Idle | LoadPhase::Hold | LoadPhase::Done => {}
        }
        self.note_complete(io.now());
        self.wake_at(io.now())
    }
}
