//! The two ends of a scale run and the wire between them, turned in one thread. Each turn of the server
//! is timed, by the clock and by the CPU time of this thread: a machine that others use too stops a
//! thread whenever it likes, and that is no turn of ours.

use super::clients::Clients;
use crate::rig::{self, Failure, SERVER};
use barewire_engine::sys::clock;
use barewire_engine::worker::Worker;
use barewire_stack::device::memory::{MemoryDevice, carry};
use barewire_stack::flow::FourTuple;
use barewire_stack::stack::{ConnId, Memory, Stack};
use barewire_stack::stats::Counter;
use barewire_stack::time::{Duration, Instant};
use hdrhistogram::Histogram;
use serde::Serialize;

/// How long nothing may happen before a run counts as stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Turns between two looks at whether anything happens.
const LOOK_EVERY: u32 = 1 << 14;

/// The longest turn that is told apart from longer ones: 100 s, in nanoseconds.
const TURN_NS_MAX: u64 = 100_000_000_000;

/// How long turns took, in nanoseconds.
struct Times {
    wall: Histogram<u64>,
    cpu: Histogram<u64>,
    /// Connections that were established when a turn took the most CPU time.
    cpu_max_at: u64,
}

/// The figures of [`Times`], in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Turns {
    pub(super) n: u64,
    pub(super) wall_p9999_us: f64,
    pub(super) wall_max_us: f64,
    pub(super) cpu_p9999_us: f64,
    pub(super) cpu_max_us: f64,
    /// Connections that were established then.
    pub(super) cpu_max_at: u64,
}

/// Both ends.
pub(super) struct Field {
    server: Worker<MemoryDevice>,
    pub(super) clients: Clients,
    far: MemoryDevice,
    times: Times,
    /// The server's turns are those that instructions are counted of.
    is_counted: bool,
    /// What the clock of both ends is ahead of the real one: waits are jumped over.
    ahead: Duration,
}

impl Field {
    pub(super) fn new(n: u64, is_stateless: bool) -> Result<Self, Failure> {
        let mut servers = rig::workers(1, || rig::server(n as u32))
            .map_err(|error| Failure::Os("make an eventfd", error))?;
        Ok(Field {
            server: servers.pop().expect("one was made"),
            clients: Clients::new(n, is_stateless, clock::now()),
            far: rig::device(),
            times: Times::new(),
            is_counted: false,
            ahead: Duration::ZERO,
        })
    }

    pub(super) fn now(&self) -> Instant {
        clock::now() + self.ahead
    }

    /// Lets `time` pass at once.
    pub(super) fn jump(&mut self, time: Duration) {
        self.ahead = self.ahead + time;
    }

    /// Turns both ends until `is_done`; before each turn `order` tells the clients, and the server's
    /// stack where it wants to, what to begin.
    pub(super) fn run(
        &mut self,
        what: &str,
        mut order: impl FnMut(&mut Field, Instant),
        is_done: impl Fn(&mut Field) -> bool,
    ) -> Result<(), Failure> {
        let (mut n_turns, mut moved_at) = (0_u32, clock::now());
        while !is_done(self) {
            let now = self.now();
            order(self, now);
            let moved =
                if self.is_counted { self.turn_counted(now) } else { self.turn_server(now) };
            let moved = moved | (carry(self.server.device_mut(), &mut self.far) > 0);
            let moved = moved | self.clients.turn(now, &mut self.far);
            carry(&mut self.far, self.server.device_mut());
            n_turns = n_turns.wrapping_add(1);
            if n_turns.is_multiple_of(LOOK_EVERY) && self.clients.tally().lost > 0 {
                break;
            }
            if moved {
                moved_at = clock::now();
            } else if clock::now() - moved_at > STUCK {
                return Err(Failure::Sums(vec![format!("{what}: nothing happens any more")]));
            }
        }
        match self.clients.tally().lost {
            0 => Ok(()),
            n => Err(Failure::Sums(vec![format!("{what}: {n} connections were lost")])),
        }
    }

    /// One turn of the server, of those whose instructions are counted: valgrind knows it by its name.
    #[inline(never)]
    fn turn_counted(&mut self, now: Instant) -> bool {
        self.turn_server(now)
    }

    /// One turn of the server, timed.
    fn turn_server(&mut self, now: Instant) -> bool {
        let (wall, cpu) = (clock::now(), clock::thread_cpu());
        let worked = self.server.turn(now).worked;
        let cpu = (clock::thread_cpu() - cpu).as_nanos();
        if cpu > self.times.cpu.max() {
            self.times.cpu_max_at = self.clients.tally().established;
        }
        self.times.cpu.saturating_record(cpu);
        self.times.wall.saturating_record((clock::now() - wall).as_nanos());
        worked
    }

    /// Forgets the turns up to now, and counts from here on.
    pub(super) fn start_counting(&mut self) {
        (self.times, self.is_counted) = (Times::new(), true);
    }

    pub(super) fn stop_counting(&mut self) {
        self.is_counted = false;
    }

    pub(super) fn turns(&self) -> Turns {
        self.times.figures()
    }

    /// CPU time that the server's turns took, in nanoseconds.
    pub(super) fn cpu_ns(&self) -> f64 {
        self.times.cpu.mean() * self.times.cpu.len() as f64
    }

    /// Something with the server's stack, between two turns.
    pub(super) fn visit<R>(&mut self, job: impl FnOnce(&mut Stack) -> R) -> R {
        let now = self.now();
        self.server.visit(now, |desk| job(desk.stack))
    }

    pub(super) fn server_memory(&mut self) -> Memory {
        self.visit(|stack| stack.memory())
    }

    /// Connections that are awake, at both ends.
    pub(super) fn n_awake(&mut self) -> u32 {
        self.visit(|stack| stack.n_active()) + self.clients.n_awake()
    }

    pub(super) fn server_counter(&mut self, counter: Counter) -> u64 {
        self.visit(|stack| stack.stats().get(counter))
    }

    /// How the server sees connection `idx`.
    pub(super) fn server_tuple(&self, idx: u64) -> FourTuple {
        FourTuple::new(SERVER, self.clients.plan().tuple(idx).local())
    }

    /// The server's own name for connection `idx`.
    pub(super) fn server_id(&mut self, idx: u64) -> Option<ConnId> {
        let tuple = self.server_tuple(idx);
        self.visit(|stack| stack.id_between(&tuple))
    }

    /// The sums of both ends.
    pub(super) fn audit(&mut self) -> Result<(), Failure> {
        let server = self.visit(|stack| stack.audit());
        server.and_then(|()| self.clients.audit()).map_err(|broken| Failure::Sums(vec![broken]))
    }
}

impl Times {
    fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, TURN_NS_MAX, 3).expect("bounds that a histogram can have")
        };
        Times { wall: histogram(), cpu: histogram(), cpu_max_at: 0 }
    }

    fn figures(&self) -> Turns {
        let us = |ns: u64| ns as f64 / 1e3;
        Turns {
            n: self.wall.len(),
            wall_p9999_us: us(self.wall.value_at_quantile(0.9999)),
            wall_max_us: us(self.wall.max()),
            cpu_p9999_us: us(self.cpu.value_at_quantile(0.9999)),
            cpu_max_us: us(self.cpu.max()),
            cpu_max_at: self.cpu_max_at,
        }
    }
}
