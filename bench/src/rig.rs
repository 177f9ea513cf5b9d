//! What the runs over the in-process wire have in common: the addresses of both ends, their stacks, and
//! workers around them that nobody but the caller turns. Nothing in here measures.

use barewire_api::config::{AppSpec, Poll, Prefix};
use barewire_engine::app;
use barewire_engine::sys::clock;
use barewire_engine::sys::eventfd::EventFd;
use barewire_engine::worker::{Apps, Handoff, Mailbox, Parts, Worker};
use barewire_stack::device::memory::MemoryDevice;
use barewire_stack::stack::{self, Resolver, Stack, StackConfig};
use barewire_stack::tcp::TcpConfig;
use barewire_stack::tcp::isn::Secret;
use barewire_stack::time::Instant;
use barewire_stack::wire::ethernet::Mac;
use barewire_stack::wire::tcp::ChecksumPolicy;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::{fmt, io};

/// Frames of each queue: two rings of the engine's default size.
const N_FRAMES: u32 = 4096;
const FRAME_BYTES: u16 = 2048;

/// What both ends may buffer, per worker, unless a run needs more.
pub(crate) const BUFFER_BYTES_MAX: usize = 64 << 20;

/// Where the server listens.
pub(crate) const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 1), 7000);
/// The client's own address, beside those that its connections come from.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// Where connections come from.
pub(crate) const SOURCES: &str = "10.1.0.0/16";

/// The address of each end; all queues of an interface have the same.
const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(crate) const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// A fixed secret: nobody attacks a wire in memory, and runs are alike.
pub(crate) const SECRET: [u8; 32] = [2; 32];

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
}

impl Failure {
    pub(crate) fn status(&self) -> u8 {
        match self {
            Failure::Sums(_) => 1,
            Failure::Plan(_) => 2,
            Failure::Os(..) | Failure::Machine(_) => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Plan(error) => write!(f, "{error}"),
            Failure::Os(what, error) => write!(f, "could not {what}: {error}"),
            Failure::Machine(what) => f.write_str(what),
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
    let stack = listener(connections_max, BUFFER_BYTES_MAX, clock::now());
    let mut apps = Apps::new();
    apps.set_listening(Apps::FIRST_LISTENING, app::make(&AppSpec::Echo));
    (stack, apps)
}

/// A stack that listens at [`SERVER`]; `now` is the time of its first turn.
pub(crate) fn listener(connections_max: u32, buffer_bytes_max: usize, now: Instant) -> Stack {
    let mut stack = Stack::new(
        StackConfig {
            buffer_bytes_max,
            ..config(*SERVER.ip(), SERVER_MAC, connections_max, Vec::new())
        },
        now,
    );
    assert!(stack.listen(SERVER, Apps::FIRST_LISTENING), "nobody listens yet");
    stack
}

/// A stack that owns [`SOURCES`]; `now` is the time of its first turn.
pub(crate) fn client(connections_max: u32, now: Instant) -> Stack {
    let sources: Prefix = SOURCES.parse().expect("a prefix");
    let sources = stack::Prefix { addr: sources.addr(), len: sources.len() };
    Stack::new(config(CLIENT, CLIENT_MAC, connections_max, vec![sources]), now)
}

fn config(
    addr: Ipv4Addr,
    mac: Mac,
    connections_max: u32,
    prefixes: Vec<stack::Prefix>,
) -> StackConfig {
    StackConfig {
        mac,
        addresses: vec![stack::Prefix { addr, len: 24 }],
        prefixes,
        gateway: None,
        resolver: Resolver::Arp,
        ttl: 64,
        dscp: 0,
        rx_checksum: ChecksumPolicy::Verify,
        connections_max,
        syn_backlog_max: connections_max,
        time_wait_max: connections_max,
        neighbors_max: 4096,
        resets_per_second_max: 1000,
        buffer_bytes_max: BUFFER_BYTES_MAX,
        secret: Secret::new(SECRET),
        tcp: TcpConfig::default(),
    }
}
