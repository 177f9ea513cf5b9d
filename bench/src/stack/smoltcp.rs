//! The same exchange between two interfaces of smoltcp: the same loop, the same kind of wire, the same
//! checks. It is asked in the cheapest way it has: what has arrived, one frame after the other, then a
//! look at every socket, for it does not say which of them has something, then one pass over what is to
//! be sent. Checksums are made and checked on both ends, as barewire does; timestamps are off, as they
//! are unless somebody sets them.

use super::REQUEST_BYTES;
use super::wire::Wire;
use crate::rig::Failure;
use ::smoltcp::iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet};
use ::smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use ::smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use ::smoltcp::time::{Duration, Instant};
use ::smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

/// It looks at its sockets from the first one on in every turn: a ring that takes less than all of them
/// send would never come to the last.
const RING: usize = 1024;

/// Bytes that a socket may hold in each direction.
const BUFFER_BYTES: usize = 4096;

const SERVER_PORT: u16 = 7000;
const CLIENT_PORT_MIN: u16 = 10_000;

/// What a turn is said to take, as for barewire.
const TURN: Duration = Duration::from_micros(1);

/// Turns beyond one for each request in which something must have come of them.
const TURNS_SPARE: u64 = 100_000;

/// One end.
struct End {
    interface: Interface,
    sockets: SocketSet<'static>,
    handles: Vec<SocketHandle>,
}

/// Both ends.
pub(super) struct Pair {
    client: End,
    server: End,
    up: Wire,
    down: Wire,
    now: Instant,
    n_frames: u64,
    /// Requests that were answered.
    answered: u64,
    /// Requests that are still to be sent, of those in hand.
    left: u64,
}

/// What an interface of smoltcp takes for its NIC.
struct Port<'a> {
    rx: &'a mut Wire,
    tx: &'a mut Wire,
    n_sent: &'a mut u64,
}

struct Arrival<'a>(&'a [u8]);

struct Departure<'a> {
    wire: &'a mut Wire,
    n_sent: &'a mut u64,
}

impl Pair {
    /// `n` connections, open.
    pub(super) fn open(n: u64) -> Result<Self, Failure> {
        let n = n as usize;
        let (mut up, mut down, mut n_frames) = (Wire::new(RING), Wire::new(RING), 0);
        let now = Instant::from_millis(1_000);
        let mut port = Port { rx: &mut down, tx: &mut up, n_sent: &mut n_frames };
        let (client, server) = (End::new(2, n, &mut port, now), End::new(1, n, &mut port, now));
        let mut pair = Pair { client, server, up, down, now, n_frames, answered: 0, left: 0 };
        pair.connect();
        for _ in 0..TURNS_SPARE {
            pair.turn();
            if pair.client.is_open() && pair.server.is_open() {
                return Ok(pair);
            }
        }
        Err(Failure::Sums(vec!["smoltcp: not all connections were opened".to_owned()]))
    }

    fn connect(&mut self) {
        let End { interface, sockets, handles } = &mut self.client;
        for (&handle, port) in handles.iter().zip(CLIENT_PORT_MIN..) {
            let remote = (IpAddress::v4(10, 99, 0, 1), SERVER_PORT);
            let socket = sockets.get_mut::<Socket<'_>>(handle);
            socket.connect(interface.context(), remote, port).expect("the port is free");
        }
        for &handle in &self.server.handles {
            let socket = self.server.sockets.get_mut::<Socket<'_>>(handle);
            socket.listen(SERVER_PORT).expect("the socket is closed");
        }
    }

    /// Exchanges `n` requests and responses. Measured by name under valgrind.
    #[inline(never)]
    pub(super) fn exchange(&mut self, n: u64) -> Result<(), Failure> {
        let (goal, mut n_turns) = (self.answered + n, 0);
        self.left = n;
        let n_first = n.min(self.client.handles.len() as u64) as usize;
        for (idx, &handle) in self.client.handles[..n_first].iter().enumerate() {
            ask(self.client.sockets.get_mut(handle), idx, &mut self.left);
        }
        while self.answered < goal {
            self.turn();
            n_turns += 1;
            if n_turns > n + TURNS_SPARE {
                return Err(Failure::Sums(vec!["smoltcp: nothing happens any more".to_owned()]));
            }
        }
        Ok(())
    }

    /// The client sends, the server takes it and answers, the client takes the answers.
    fn turn(&mut self) {
        self.now += TURN;
        let Pair { client, server, up, down, n_frames, now, .. } = self;
        client.send(*now, &mut Port { rx: down, tx: up, n_sent: n_frames });
        server.receive(*now, &mut Port { rx: up, tx: down, n_sent: n_frames });
        for &handle in &server.handles {
            let socket = server.sockets.get_mut::<Socket<'_>>(handle);
            if socket.can_recv() {
                let mut request = [0; REQUEST_BYTES];
                let n = socket.recv_slice(&mut request).expect("it is open");
                let sent = socket.send_slice(&request[..n]).expect("it is open");
                assert_eq!(sent, n, "nothing else waits to be sent");
            }
        }
        server.send(*now, &mut Port { rx: up, tx: down, n_sent: n_frames });
        client.receive(*now, &mut Port { rx: down, tx: up, n_sent: n_frames });
        for (idx, &handle) in client.handles.iter().enumerate() {
            let socket = client.sockets.get_mut::<Socket<'_>>(handle);
            if socket.can_recv() {
                take_response(socket, idx);
                self.answered += 1;
                if self.left > 0 {
                    ask(socket, idx, &mut self.left);
                }
            }
        }
    }

    /// Frames of both ends up to now.
    pub(super) fn n_frames(&self) -> u64 {
        self.n_frames
    }

    /// That nothing is on the way any more.
    pub(super) fn audit(&self) -> Result<(), String> {
        for End { sockets, handles, .. } in [&self.client, &self.server] {
            let is_quiet = |&handle: &SocketHandle| {
                let socket = sockets.get::<Socket<'_>>(handle);
                socket.state() == State::Established && socket.recv_queue() == 0
            };
            if !handles.iter().all(is_quiet) {
                return Err("smoltcp: expected every connection open and read".to_owned());
            }
        }
        Ok(())
    }
}

impl End {
    fn new(number: u8, n: usize, port: &mut Port<'_>, now: Instant) -> Self {
        let mac = EthernetAddress([2, 0, 0, 0, 0, number]);
        let mut config = Config::new(mac.into());
        config.random_seed = u64::from(number);
        let mut interface = Interface::new(config, port, now);
        interface.update_ip_addrs(|addrs| {
            let addr = IpCidr::new(IpAddress::v4(10, 99, 0, number), 24);
            addrs.push(addr).expect("there is room for one");
        });
        let mut sockets = SocketSet::new(Vec::with_capacity(n));
        let buffer = || SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let handles = (0..n).map(|_| sockets.add(Socket::new(buffer(), buffer()))).collect();
        End { interface, sockets, handles }
    }

    fn is_open(&self) -> bool {
        let state = |&handle: &SocketHandle| self.sockets.get::<Socket<'_>>(handle).state();
        self.handles.iter().all(|handle| state(handle) == State::Established)
    }

    /// Takes everything that has arrived.
    fn receive(&mut self, now: Instant, port: &mut Port<'_>) {
        let End { interface, sockets, .. } = self;
        while interface.poll_ingress_single(now, port, sockets) != PollIngressSingleResult::None {}
    }

    /// Sends what each socket has, one frame of each.
    fn send(&mut self, now: Instant, port: &mut Port<'_>) {
        self.interface.poll_egress(now, port, &mut self.sockets);
    }
}

fn ask(socket: &mut Socket<'_>, idx: usize, left: &mut u64) {
    *left -= 1;
    let mut request = [0x5a; REQUEST_BYTES];
    request[..4].copy_from_slice(&(idx as u32).to_ne_bytes());
    let n = socket.send_slice(&request).expect("it is open");
    assert_eq!(n, REQUEST_BYTES, "nothing else waits to be sent");
}

fn take_response(socket: &mut Socket<'_>, idx: usize) {
    let mut response = [0; REQUEST_BYTES];
    let n = socket.recv_slice(&mut response).expect("it is open");
    assert_eq!(n, REQUEST_BYTES, "a response of this size is one segment");
    assert_eq!(response[..4], (idx as u32).to_ne_bytes(), "it is the response to its request");
}

impl Device for Port<'_> {
    type RxToken<'a>
        = Arrival<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Departure<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Arrival<'_>, Departure<'_>)> {
        self.tx.room()?;
        let frame = self.rx.take()?;
        Some((Arrival(frame), Departure { wire: self.tx, n_sent: self.n_sent }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Departure<'_>> {
        self.tx.room()?;
        Some(Departure { wire: self.tx, n_sent: self.n_sent })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl RxToken for Arrival<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Departure<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let room = self.wire.room().expect("a token is given for a free buffer");
        let result = f(&mut room[..len]);
        self.wire.push(len);
        *self.n_sent += 1;
        result
    }
}
