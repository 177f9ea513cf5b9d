//! The load generator that keeps nothing per connection but two bits: the part of one worker in a
//! `hold` whose plan says `stateless`. The crowd of the stack crate plays the clients; this file says
//! what it begins in each phase, and when, and counts what comes of it. It is no [`App`](crate::app::App):
//! the worker shows it the frames before its stack sees them.

use super::Progress;
use super::recorder::Recorder;
use super::schedule::Schedule;
use barewire_api::config::{CloseWith, Interface, LoadPlan, Prefix};
use barewire_api::failure::Failure;
use barewire_api::report::{LoadPart, LoadPhase};
use barewire_stack::crowd::{Crowd, CrowdConfig, Event, Farewell, Hosts, Loss, Plan};
use barewire_stack::dice::{Dice, Ratio};
use barewire_stack::stack::{Disposition, Miss, StackConfig};
use barewire_stack::stats::Counters;
use barewire_stack::time::{Duration, Instant};

/// Connections opened in one turn.
const OPENS_MAX: usize = 256;

/// Connections looked at in one turn, to ask or to close them.
const LOOKS_MAX: usize = 8192;

/// Which part of a plan a worker has.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Number of the worker.
    pub worker: u64,
    /// How many there are.
    pub n_workers: u64,
    /// When the test began, the same for all workers.
    pub epoch: Instant,
}

/// The stateless load generator of one worker.
#[derive(Debug)]
pub struct Stateless {
    crowd: Crowd,
    schedule: Schedule,
    recorder: Recorder,
    /// The next connection that this phase looks at.
    next: u64,
    dice: Dice,
    sample: Ratio,
    exchanges: u32,
    request_bytes: u64,
    farewell: Farewell,
}

impl Stateless {
    /// The part of one worker in a plan that was checked. `stack` is the configuration of the stack
    /// with which it shares interface and addresses.
    pub fn new(plan: &LoadPlan, interface: &Interface, share: Share, stack: &StackConfig) -> Self {
        let (total, Share { worker, n_workers, epoch }) = (plan.connections.0, share);
        let n_connections = total / n_workers + u64::from(worker < total % n_workers);
        let part = n_connections as f64 / total.max(1) as f64;
        // A worker without connections has nothing to be on time for.
        let rate = plan.opens_per_second().map(|rate| rate * part).filter(|&rate| rate > 0.0);
        let request_bytes = u16::try_from(plan.request_bytes).expect("the plan was checked");
        let crowd = Crowd::new(CrowdConfig {
            mac: stack.mac,
            plan: tuples(plan, interface),
            worker,
            n_workers,
            n_connections,
            on_link: stack.addresses.clone(),
            gateway: stack.gateway,
            ttl: stack.ttl,
            mss: stack.tcp.mss,
            timestamps: stack.tcp.timestamps,
            rx_checksum: stack.rx_checksum,
            request_bytes,
            flights_max: plan.outstanding_max,
            timeout: Duration::from_nanos(plan.timeout.as_nanos()),
            secret: stack.secret,
            epoch,
        });
        let mut recorder = Recorder::new();
        recorder.enter(LoadPhase::Ramp);
        Stateless {
            crowd,
            schedule: Schedule::new(rate, epoch),
            recorder,
            next: 0,
            dice: Dice::new(epoch.as_nanos() ^ worker),
            sample: Ratio::from_ppm(plan.sample.ppm()),
            exchanges: plan.exchanges,
            request_bytes: u64::from(request_bytes),
            farewell: match plan.close {
                CloseWith::Fin => Farewell::Fin,
                CloseWith::Rst => Farewell::Rst,
            },
        }
    }

    /// Enters a phase, as the conductor says; to be told twice makes no difference.
    pub fn enter(&mut self, phase: LoadPhase) {
        if phase != self.phase() {
            self.recorder.enter(phase);
            self.next = 0;
        }
    }

    /// How it stands; cheap.
    pub fn progress(&self) -> Progress {
        *self.recorder.progress()
    }

    /// Everything that was counted and timed, the histograms included.
    pub fn part(&self) -> LoadPart {
        self.recorder.part()
    }

    /// Takes one received frame; `None` when it is not for the crowd.
    pub fn on_frame(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        miss: Miss,
        stats: &mut Counters,
    ) -> Option<Disposition> {
        self.crowd.on_frame(now, frame, miss, stats)
    }

    /// The next frame to send.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        buf: &mut [u8],
        stats: &mut Counters,
    ) -> Option<usize> {
        self.crowd.poll_transmit(now, buf, stats)
    }

    /// What a turn does beside moving frames: deadlines, what has happened, and what the phase begins.
    /// Returns when the next turn is wanted at the latest.
    pub fn on_turn(&mut self, now: Instant, stats: &mut Counters) -> Option<Instant> {
        self.crowd.on_timeout(now, stats);
        while let Some(event) = self.crowd.poll_event() {
            self.record(event);
        }
        match self.phase() {
            LoadPhase::Ramp => self.open_due(now, stats),
            LoadPhase::Exchange => self.ask(now),
            LoadPhase::Close => self.close(now),
            _ => {}
        }
        self.note_complete(now);
        self.wake_at(now)
    }

    /// Gives up what is still there; nobody is told.
    pub fn abandon(&mut self, stats: &mut Counters) {
        self.crowd.abandon(stats);
    }

    fn phase(&self) -> LoadPhase {
        self.recorder.progress().phase
    }

    fn open_due(&mut self, now: Instant, stats: &mut Counters) {
        for _ in 0..OPENS_MAX {
            if !self.schedule.is_due(now) || !self.crowd.open(now, stats) {
                break;
            }
            self.schedule.take(now);
            self.recorder.opened();
        }
    }

    /// Sends requests on connections chosen at random.
    fn ask(&mut self, now: Instant) {
        for _ in 0..LOOKS_MAX {
            if self.crowd.is_full() || !self.has_next() {
                break;
            }
            let idx = self.next;
            self.next += 1;
            if self.dice.happens(self.sample) && self.crowd.request(now, idx, self.exchanges) {
                self.requested();
            }
        }
    }

    fn close(&mut self, now: Instant) {
        for _ in 0..LOOKS_MAX {
            if self.crowd.is_full() || !self.has_next() {
                break;
            }
            self.crowd.close(now, self.next, self.farewell);
            self.next += 1;
        }
        // What something was in flight on, when its turn came, has its turn again.
        if !self.has_next() && self.crowd.n_flights() == 0 && self.crowd.n_open() > 0 {
            self.next = 0;
        }
    }

    /// This phase has not looked at every connection yet.
    fn has_next(&self) -> bool {
        self.next < self.crowd.n_begun()
    }

    fn requested(&mut self) {
        self.recorder.requested();
        self.recorder.sent(self.request_bytes);
    }

    fn record(&mut self, event: Event) {
        match event {
            Event::Opened(took) => self.recorder.established(took),
            Event::Responded { took, left } => {
                self.recorder.responded(took);
                self.recorder.received(self.request_bytes);
                if left > 0 {
                    self.requested();
                }
            }
            Event::Closed => {
                self.recorder.left();
                self.recorder.closed();
            }
            Event::Lost { loss, was_open, was_asked } => {
                if was_open {
                    self.recorder.left();
                } else {
                    self.recorder.handshake_lost();
                }
                if was_asked {
                    self.recorder.response_lost();
                }
                self.recorder.failed(failure(loss));
            }
        }
    }

    fn note_complete(&mut self, now: Instant) {
        let is_idle = self.crowd.n_flights() == 0;
        let is_complete = match self.phase() {
            LoadPhase::Ramp => is_idle && self.crowd.n_begun() == self.crowd.n_connections(),
            LoadPhase::Exchange => is_idle && !self.has_next(),
            LoadPhase::Close => is_idle && self.recorder.progress().open() == 0,
            _ => false,
        };
        if is_complete {
            self.recorder.complete(now);
        }
    }

    fn wake_at(&self, now: Instant) -> Option<Instant> {
        let has_room = !self.crowd.is_full();
        let begins = match self.phase() {
            LoadPhase::Ramp if self.crowd.n_begun() < self.crowd.n_connections() => {
                Some(self.schedule.next())
            }
            LoadPhase::Exchange | LoadPhase::Close if self.has_next() => Some(now),
            _ => None,
        };
        [self.crowd.poll_timeout(now), begins.filter(|_| has_room)].into_iter().flatten().min()
    }
}

/// The tuples of a plan, in the crowd's own terms.
fn tuples(plan: &LoadPlan, interface: &Interface) -> Plan {
    let hosts = |prefix: &Prefix| {
        let first = prefix.host(0)?;
        Some(Hosts { first, n: u32::try_from(prefix.hosts()).ok()? })
    };
    let sources: Vec<Hosts> = plan.sources(interface).iter().filter_map(hosts).collect();
    let ports = plan.source_ports(interface);
    Plan::new(&sources, ports.lo()..=ports.hi(), &plan.dst)
}

fn failure(loss: Loss) -> Failure {
    match loss {
        Loss::Refused => Failure::Refused,
        Loss::ConnectTimedOut => Failure::ConnectTimedOut,
        Loss::Unreachable => Failure::NoNeighbor,
        Loss::Reset => Failure::Reset,
        Loss::ClosedEarly => Failure::ClosedEarly,
        Loss::WrongResponse => Failure::WrongResponse,
        Loss::ResponseTimedOut => Failure::ResponseTimedOut,
        Loss::CloseTimedOut => Failure::CloseTimedOut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crowd_has_the_tuples_of_the_plan() {
        let plan = LoadPlan {
            src: vec![
                "10.1.0.0/29".parse().expect("a prefix"),
                "10.2.0.4/31".parse().expect("one"),
            ],
            src_ports: Some("1024-1030".parse().expect("a range")),
            dst: vec![
                std::net::SocketAddrV4::new([10, 99, 0, 1].into(), 80),
                std::net::SocketAddrV4::new([10, 99, 0, 1].into(), 70),
            ],
            ..LoadPlan::default()
        };
        let interface = Interface::default();
        let (ours, theirs) = (tuples(&plan, &interface), plan.tuples(&interface));
        assert_eq!(ours.n_tuples(), theirs.len());
        for number in 0..theirs.len() {
            let (ours, theirs) = (ours.tuple(number), theirs.tuple(number).expect("it is there"));
            assert_eq!((ours.local(), ours.remote()), (theirs.local, theirs.remote));
        }
    }
}
