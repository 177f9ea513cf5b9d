//! What the runs over the in-process wire have in common: the stacks of both ends, and workers around
//! them that nobody but the caller turns. Nothing in here measures.

use barewire_api::config::{AppSpec, Poll};
use barewire_bench::ends;
pub(crate) use barewire_bench::ends::{CLIENT, CLIENT_MAC, SECRET, SERVER, SOURCES};
use barewire_engine::app;
use barewire_engine::sys::clock;
use barewire_engine::sys::eventfd::EventFd;
use barewire_engine::worker::{Apps, Handoff, Mailbox, Parts, Worker};
use barewire_stack::device::memory::MemoryDevice;
use barewire_stack::stack::{Stack, StackConfig};
use barewire_stack::time::Instant;
use std::sync::Arc;
use std::{fmt, io};

/// Frames of each queue: two rings of the engine's default size.
const N_FRAMES: u32 = 4096;
const FRAME_BYTES: u16 = 2048;

/// Why a run failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The plan cannot be carried out.
    Plan(barewire_api::ConfigError),
    /// The operating system refused something.
    Os(&'static str, io::Error),
    /// Something did not add up, or a goal was missed.
    Sums(Vec<String>),
    /// The machine has not what the run needs.
    Machine(String),
    /// What was found is not to be compared with what was expected.
    Incomparable(String),
}

impl Failure {
    pub(crate) fn status(&self) -> u8 {
        match self {
            Failure::Sums(_) => 1,
            Failure::Plan(_) => 2,
            Failure::Os(..) | Failure::Machine(_) => 3,
            Failure::Incomparable(_) => 4,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Plan(error) => write!(f, "{error}"),
            Failure::Os(what, error) => write!(f, "could not {what}: {error}"),
            Failure::Machine(what) | Failure::Incomparable(what) => f.write_str(what),
            Failure::Sums(sums) => write!(f, "{}", sums.join("; ")),
        }
    }
}

/// `n` workers of one side, on queues of their own.
pub(crate) fn workers(
    n: usize,
    make: impl Fn() -> (Stack, Apps),
) -> io::Result<Vec<Worker<MemoryDevice>>> {
    let bells = (0..n).map(|_| EventFd::new().map(Arc::new)).collect::<io::Result<Vec<_>>>()?;
    let ring = Handoff::ring(&bells);
    let workers = bells.into_iter().zip(ring).map(|(bell, handoff)| {
        let (stack, apps) = make();
        Worker::new(Parts {
            device: device(),
            stack,
            apps,
            mailbox: Arc::new(Mailbox::new(bell.clone())),
            bell,
            handoff,
            block: None,
            poll: Poll::Busy,
        })
    });
    Ok(workers.collect())
}

/// One end of the wire.
pub(crate) fn device() -> MemoryDevice {
    MemoryDevice::new(N_FRAMES, FRAME_BYTES)
}

/// A stack that listens at [`SERVER`], with the application that echoes.
pub(crate) fn server(connections_max: u32) -> (Stack, Apps) {
    let stack = listener(ends::server(connections_max), clock::now());
    let mut apps = Apps::new();
    apps.set_listening(Apps::FIRST_LISTENING, app::make(&AppSpec::Echo));
    (stack, apps)
}

/// A stack that listens at [`SERVER`]; `now` is the time of its first turn.
pub(crate) fn listener(config: StackConfig, now: Instant) -> Stack {
    let mut stack = Stack::new(config, now);
    assert!(stack.listen(SERVER, Apps::FIRST_LISTENING), "nobody listens yet");
    stack
}

/// A stack that owns [`SOURCES`]; `now` is the time of its first turn.
pub(crate) fn client(connections_max: u32, now: Instant) -> Stack {
    Stack::new(ends::client(connections_max), now)
}
