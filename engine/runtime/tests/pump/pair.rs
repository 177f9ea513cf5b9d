//! Two workers on a wire. The test's connections belong to a [`Peer`] on the client; whatever the
//! server listens with is what is tested.

use crate::peer::{Conversation, Peer, Shared};
use barewire_api::config::{AppSpec, Poll};
use barewire_engine::app::{self, App};
use barewire_engine::sys::eventfd::EventFd;
use barewire_engine::worker::{Apps, Desk, Handoff, Mailbox, Parts, Worker};
use barewire_stack::device::memory::{MemoryDevice, carry};
use barewire_stack::stack::Stack;
use barewire_stack::stack::{ConnId, Prefix, Resolver, StackConfig};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::TcpConfig;
use barewire_stack::tcp::isn::Secret;
use barewire_stack::time::{Duration, Instant};
use barewire_stack::wire::ethernet::Mac;
use barewire_stack::wire::tcp::ChecksumPolicy;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 7000);

/// Time from one turn to the next while there is work.
const TURN: Duration = Duration::from_micros(20);

/// Frames of each device.
const N_FRAMES: u32 = 4096;

/// Client and server.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    client: Worker<MemoryDevice>,
    server: Worker<MemoryDevice>,
    peer: Arc<Mutex<Peer>>,
    /// Nothing but ARP reaches the server.
    pub(crate) mute: bool,
}

fn worker(number: u8, tcp: &TcpConfig, bounds: &Bounds) -> Worker<MemoryDevice> {
    let config = StackConfig {
        mac: Mac([2, 0, 0, 0, 0, number]),
        addresses: vec![Prefix { addr: Ipv4Addr::new(10, 0, 0, number), len: 24 }],
        prefixes: vec![Prefix { addr: Ipv4Addr::new(10, number, 0, 0), len: 16 }],
        gateway: None,
        resolver: Resolver::Arp,
        ttl: 64,
        dscp: 0,
        rx_checksum: ChecksumPolicy::Verify,
        connections_max: bounds.connections_max,
        syn_backlog_max: 20_000,
        time_wait_max: 20_000,
        neighbors_max: 64,
        resets_per_second_max: 100_000,
        buffer_bytes_max: bounds.buffer_bytes_max,
        secret: Secret::new([number; 32]),
        tcp: tcp.clone(),
    };
    let bell = Arc::new(EventFd::new().unwrap());
    let mut ring = Handoff::ring(std::slice::from_ref(&bell));
    Worker::new(Parts {
        device: MemoryDevice::new(N_FRAMES, 2048),
        stack: Stack::new(config, Instant::ZERO),
        apps: Apps::new(),
        mailbox: Arc::new(Mailbox::new(bell.clone())),
        bell,
        handoff: ring.pop().unwrap(),
        block: None,
        poll: Poll::Busy,
    })
}

/// What the stacks are allowed.
pub(crate) struct Bounds {
    pub(crate) connections_max: u32,
    pub(crate) buffer_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { connections_max: 40_000, buffer_bytes_max: 16 << 20 }
    }
}

impl Pair {
    /// A server with the application that `app` says, such as `echo`.
    pub(crate) fn new(app: &str) -> Self {
        Pair::with(Some(app), &TcpConfig::default(), &Bounds::default())
    }

    /// A server with or without an application, with a configuration for both ends.
    pub(crate) fn with(app: Option<&str>, tcp: &TcpConfig, bounds: &Bounds) -> Self {
        let spec = app.map(|app| app.parse::<AppSpec>().unwrap());
        Pair::of(spec.map(|spec| app::make(&spec)), tcp, bounds)
    }

    /// A server with an application of the test's own.
    pub(crate) fn of(app: Option<Box<dyn App>>, tcp: &TcpConfig, bounds: &Bounds) -> Self {
        let (mut client, mut server) = (worker(1, tcp, bounds), worker(2, tcp, bounds));
        let number = Apps::FIRST_LISTENING;
        let peer = Arc::new(Mutex::new(Peer::default()));
        let shared = Box::new(Shared(peer.clone()));
        client.visit(Instant::ZERO, |desk| desk.apps.set_listening(number, shared));
        if let Some(app) = app {
            server.visit(Instant::ZERO, |desk| {
                desk.apps.set_listening(number, app);
                assert!(desk.stack.listen(SERVER, number));
            });
        }
        Pair { now: Instant::ZERO, client, server, peer, mute: false }
    }

    /// Opens a connection of the peer's with what it has to say.
    pub(crate) fn connect(&mut self, port: u16, conversation: Conversation) -> ConnId {
        let (peer, local) = (self.peer.clone(), SocketAddrV4::new(CLIENT, port));
        self.on_client(|desk| {
            let app = Apps::FIRST_LISTENING;
            let id = desk.stack.connect(desk.now, local, SERVER, app, 0).unwrap();
            peer.lock().unwrap().conversations.insert(id, conversation);
            id
        })
    }

    /// Says everything, finishes, and listens until the end.
    pub(crate) fn converse(&mut self, port: u16, bytes: &[u8]) -> Conversation {
        let id = self.connect(port, Conversation::then_finish(bytes));
        self.until("the conversation is over", |pair| pair.said(id).is_over());
        self.peer().conversations.remove(&id).unwrap()
    }

    pub(crate) fn peer(&self) -> MutexGuard<'_, Peer> {
        self.peer.lock().unwrap()
    }

    /// A copy of how a conversation stands.
    pub(crate) fn said(&self, id: ConnId) -> Conversation {
        self.peer().conversations[&id].clone()
    }

    /// Changes a conversation, and lets the peer act on it.
    pub(crate) fn change(&mut self, id: ConnId, change: impl FnOnce(&mut Conversation)) {
        let peer = self.peer.clone();
        self.on_client(|desk| {
            let mut peer = peer.lock().unwrap();
            change(peer.conversations.get_mut(&id).unwrap());
            let mut io = app::Io::new(desk.stack, desk.now, Apps::FIRST_LISTENING);
            peer.act(&mut io, id);
        });
    }

    pub(crate) fn on_client<R>(&mut self, job: impl FnOnce(&mut Desk<'_>) -> R) -> R {
        self.client.visit(self.now, job)
    }

    pub(crate) fn on_server<R>(&mut self, job: impl FnOnce(&mut Desk<'_>) -> R) -> R {
        self.server.visit(self.now, job)
    }

    /// One turn of each; time goes on to the next thing that is due.
    pub(crate) fn step(&mut self) {
        let turns = [self.client.turn(self.now), self.server.turn(self.now)];
        let carried = self.carry();
        self.now += TURN;
        if carried == 0 && !turns.iter().any(|turn| turn.worked) {
            let wake_at = [&self.client, &self.server].map(|worker| worker.wake_at(self.now));
            let wake_at = wake_at.into_iter().flatten().min();
            let idle = Duration::from_millis(10);
            let wake_at = wake_at.unwrap_or(self.now + idle);
            self.now = self.now.max(wake_at.min(self.now + idle));
        }
    }

    fn carry(&mut self) -> usize {
        let (client, server) = (self.client.device_mut(), self.server.device_mut());
        let mut lost = 0;
        while self.mute && client.peek_tx().is_some_and(|frame| frame[12..14] == [8, 0]) {
            client.complete_tx();
            lost += 1;
        }
        lost + carry(client, server) + carry(server, client)
    }

    /// Steps for so long.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Steps until something is so, for five minutes at most.
    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&mut Pair) -> bool) {
        let end = self.now + Duration::from_secs(300);
        while !is_so(self) {
            assert!(self.now < end, "not within five minutes: {what}");
            self.step();
        }
    }

    /// A counter of the client's and of the server's stack.
    pub(crate) fn stat(&mut self, counter: Counter) -> [u64; 2] {
        let get = |desk: &mut Desk<'_>| desk.stack.stats().get(counter);
        [self.on_client(get), self.on_server(get)]
    }

    /// Steps until no connection is left, TIME-WAIT included, and holds both ends to their sums.
    pub(crate) fn finish(mut self) {
        self.until("every connection is gone", |pair| {
            let n = |desk: &mut Desk<'_>| desk.stack.n_records();
            pair.on_client(n) + pair.on_server(n) == 0
        });
        self.run(Duration::from_millis(1));
        for worker in [&mut self.client, &mut self.server] {
            worker.visit(self.now, |desk| assert_eq!(desk.stack.memory().buffers, 0));
        }
        self.abandon();
    }

    /// Ends both workers as they are, and holds them to their sums.
    pub(crate) fn abandon(self) {
        for worker in [self.client, self.server] {
            worker.finish().audit.unwrap();
        }
    }
}
