//! A client on the kernel's TCP by edge-triggered epoll. It does what barewire's load generator does, and
//! counts and times in the same way: connections are opened `in_flight` at a time, requests go to the
//! connection that has been idle for longest, and a failure has a name.

use super::epoll_server::reset_at_close;
use super::lab::{SERVER, sources};
use super::lanes::{self, Gate};
use super::task::{Driven, Shape, Task};
use crate::rig;
use barewire_api::failure::Failure;
use barewire_api::report::LoadPart;
use nix::libc::MSG_MORE;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

const EVENTS_MAX: usize = 512;

/// How long nothing may happen while something is awaited.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long a wait for events takes at most.
const WAIT_MS: u16 = 50;

/// Where reads go; bulk is thrown away.
const READ_BYTES: usize = 256 << 10;

/// The head of a long response comes whole in the first segment, and is no longer than this.
const HEAD_BYTES_MAX: usize = 512;

/// What a lane did in the step that counts.
#[derive(Clone, Copy, Debug)]
struct Measured {
    count: u64,
    from: Instant,
    to: Instant,
}

/// Carries out a task.
pub(crate) fn drive(task: &Task) -> Result<Driven, rig::Failure> {
    let n = lanes::count(task);
    let gate = Gate::new(n);
    let done = lanes::run((0..n).collect(), |lane| {
        let run = Lane::new(task, lane, n, &gate).and_then(|mut lane| {
            let measured = lane.run()?;
            Ok((lane.part, measured))
        });
        run.inspect_err(|_| gate.fail())
    })?;
    Ok(sum(&done))
}

/// What all lanes did together: from the first one's begin to the last one's end.
fn sum(done: &[(LoadPart, Measured)]) -> Driven {
    let mut whole = LoadPart::default();
    done.iter().for_each(|(part, _)| whole.merge(part));
    let from = done.iter().map(|(_, measured)| measured.from).min();
    let to = done.iter().map(|(_, measured)| measured.to).max();
    let duration = from.zip(to).map_or(Duration::ZERO, |(from, to)| to - from);
    let reasons: Vec<String> = whole.failures.keys().map(Failure::to_string).collect();
    Driven {
        count: done.iter().map(|(_, measured)| measured.count).sum(),
        duration_ns: duration.as_nanos() as u64,
        opened: whole.opened,
        failed: whole.failed(),
        failures: reasons.join(", "),
        bytes_sent: whole.bytes_sent,
        connect: whole.connect.percentiles(),
        request: whole.request.percentiles(),
    }
}

/// One thread's connections.
struct Lane<'a> {
    task: Task,
    gate: &'a Gate,
    /// This lane's part of the task's.
    n_connections: u32,
    in_flight_max: u32,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    idle: VecDeque<usize>,
    /// Handshakes and requests in flight.
    in_flight: u32,
    sources: Vec<Ipv4Addr>,
    request: Vec<u8>,
    read: Vec<u8>,
    events: Vec<EpollEvent>,
    active_at: Instant,
    part: LoadPart,
}

struct Connection {
    stream: TcpStream,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Opening { since: Instant },
    Idle,
    Busy { since: Instant, received: usize, whole: Option<usize> },
}

impl<'a> Lane<'a> {
    fn new(task: &Task, lane: usize, n: usize, gate: &'a Gate) -> Result<Self, rig::Failure> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|errno| rig::Failure::Os("make an epoll", errno.into()))?;
        let request = match task.shape {
            Shape::Bulk => task.get().into_bytes(),
            _ => (0..task.bytes).map(|idx| idx as u8).collect(),
        };
        Ok(Lane {
            task: *task,
            gate,
            n_connections: lanes::part(task.connections, lane, n),
            in_flight_max: lanes::part(task.in_flight, lane, n).max(1),
            epoll,
            connections: Vec::new(),
            vacant: Vec::new(),
            idle: VecDeque::new(),
            in_flight: 0,
            sources: sources().collect(),
            request,
            read: vec![0; READ_BYTES],
            events: vec![EpollEvent::empty(); EVENTS_MAX],
            active_at: Instant::now(),
            part: LoadPart::default(),
        })
    }

    fn run(&mut self) -> Result<Measured, rig::Failure> {
        let steps = match self.task.shape {
            Shape::RequestResponse | Shape::Bulk => Lane::run_requests,
            Shape::ConnectionsPerSecond => Lane::run_connections,
            Shape::Open => Lane::run_open,
        };
        let measured = steps(self)?;
        self.close_all();
        Ok(measured)
    }

    fn run_requests(&mut self) -> Result<Measured, rig::Failure> {
        self.open_all()?;
        self.gate.pass(1)?;
        let (from, before) = (Instant::now(), self.part.responses);
        let to = from + self.task.duration();
        let mut count = None;
        while self.in_flight > 0 || count.is_none() {
            if Instant::now() < to {
                self.begin_requests()?;
            } else {
                count = count.or(Some(self.part.responses - before));
            }
            self.turn()?;
        }
        Ok(Measured { count: count.unwrap_or_default(), from, to })
    }

    fn run_connections(&mut self) -> Result<Measured, rig::Failure> {
        self.gate.pass(1)?;
        let from = Instant::now();
        let to = from + self.task.duration();
        let mut count = None;
        while self.in_flight > 0 || count.is_none() {
            if Instant::now() < to {
                while self.in_flight < self.in_flight_max {
                    self.open()?;
                }
            } else {
                count = count.or(Some(self.part.responses));
            }
            self.turn()?;
        }
        Ok(Measured { count: count.unwrap_or_default(), from, to })
    }

    fn run_open(&mut self) -> Result<Measured, rig::Failure> {
        self.gate.pass(1)?;
        let from = Instant::now();
        self.open_all()?;
        let measured = Measured { count: self.idle.len() as u64, from, to: Instant::now() };
        self.gate.pass(2)?;
        std::thread::sleep(self.task.duration());
        let all = self.part.requests + self.idle.len() as u64;
        while self.part.requests < all || self.in_flight > 0 {
            if self.part.requests < all {
                self.begin_requests_to(all)?;
            }
            self.turn()?;
        }
        Ok(measured)
    }

    fn open_all(&mut self) -> Result<(), rig::Failure> {
        while self.part.opened < self.n_connections.into() || self.in_flight > 0 {
            while self.in_flight < self.in_flight_max
                && self.part.opened < self.n_connections.into()
            {
                self.open()?;
            }
            self.turn()?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), rig::Failure> {
        let source = self.sources[self.part.opened as usize % self.sources.len()];
        let stream = connect(source).map_err(|error| rig::Failure::Os("connect", error))?;
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.epoll
            .add(&stream, EpollEvent::new(flags, number as u64))
            .map_err(|errno| rig::Failure::Os("watch a connection", errno.into()))?;
        let state = State::Opening { since: Instant::now() };
        self.connections[number] = Some(Connection { stream, state });
        self.part.opened += 1;
        self.in_flight += 1;
        Ok(())
    }

    fn begin_requests(&mut self) -> Result<(), rig::Failure> {
        self.begin_requests_to(u64::MAX)
    }

    /// Gives idle connections requests, until as many as that have been sent.
    fn begin_requests_to(&mut self, requests_max: u64) -> Result<(), rig::Failure> {
        while self.in_flight < self.in_flight_max && self.part.requests < requests_max {
            let Some(number) = self.idle.pop_front() else { break };
            self.ask(number);
        }
        Ok(())
    }

    /// Sends a request on a connection that is open.
    fn ask(&mut self, number: usize) {
        let Some(connection) = &mut self.connections[number] else { return };
        self.in_flight += 1;
        self.part.requests += 1;
        let whole = (self.task.shape != Shape::Bulk).then_some(self.request.len());
        connection.state = State::Busy { since: Instant::now(), received: 0, whole };
        // Requests are far smaller than the send buffer, which is empty. The FIN goes with the last.
        let is_last = self.task.shape == Shape::ConnectionsPerSecond;
        let flags = if is_last { MSG_MORE } else { 0 };
        let sent = SockRef::from(&connection.stream).send_with_flags(&self.request, flags);
        let finished = !is_last || connection.stream.shutdown(Shutdown::Write).is_ok();
        match sent {
            Ok(n) if n == self.request.len() && finished => self.part.bytes_sent += n as u64,
            _ => self.fail(number, Failure::Reset),
        }
    }

    /// Waits for events, and acts on them.
    fn turn(&mut self) -> Result<(), rig::Failure> {
        let mut events = std::mem::take(&mut self.events);
        let n = match self.epoll.wait(&mut events, EpollTimeout::from(WAIT_MS)) {
            Err(nix::Error::EINTR) => 0,
            waited => waited.map_err(|errno| rig::Failure::Os("wait", errno.into()))?,
        };
        for event in &events[..n] {
            self.on_ready(event.data() as usize, event.events());
        }
        self.events = events;
        let now = Instant::now();
        if n > 0 || self.in_flight == 0 {
            self.active_at = now;
        } else if now - self.active_at > SILENCE_MAX {
            self.give_up();
        }
        Ok(())
    }

    fn on_ready(&mut self, number: usize, flags: EpollFlags) {
        let Some(connection) = &self.connections[number] else { return };
        match connection.state {
            State::Opening { .. } if flags.intersects(EpollFlags::EPOLLERR) => {
                self.fail(number, Failure::Refused);
            }
            State::Opening { since } => {
                self.in_flight -= 1;
                self.part.connect.record(since.elapsed().as_nanos() as u64);
                if self.task.shape == Shape::ConnectionsPerSecond {
                    self.ask(number);
                } else {
                    self.rest(number);
                }
            }
            State::Busy { since, .. } if flags.contains(EpollFlags::EPOLLIN) => {
                self.receive(number, since);
            }
            State::Busy { .. } => {}
            State::Idle if flags.contains(EpollFlags::EPOLLIN) => {
                self.fail(number, Failure::ClosedEarly);
            }
            State::Idle => {}
        }
    }

    fn rest(&mut self, number: usize) {
        if let Some(connection) = &mut self.connections[number] {
            connection.state = State::Idle;
            self.idle.push_back(number);
        }
    }

    fn receive(&mut self, number: usize, since: Instant) {
        let is_bulk = self.task.shape == Shape::Bulk;
        let expected = if is_bulk { None } else { Some(&self.request[..]) };
        let Some(connection) = &mut self.connections[number] else { return };
        match receive(connection, &mut self.read, expected, self.task.bytes as usize) {
            Err(failure) => self.fail(number, failure),
            Ok(Progress { bytes, whole }) => {
                self.part.bytes_received += bytes as u64;
                if whole {
                    self.on_response(number, since);
                }
            }
        }
    }

    fn on_response(&mut self, number: usize, since: Instant) {
        self.in_flight -= 1;
        self.part.responses += 1;
        self.part.request.record(since.elapsed().as_nanos() as u64);
        if self.task.shape == Shape::ConnectionsPerSecond {
            // The kernel goes on with the close by itself.
            self.part.closed += 1;
            self.remove(number);
        } else {
            self.rest(number);
        }
    }

    fn fail(&mut self, number: usize, failure: Failure) {
        if let Some(Connection { state, .. }) = self.connections[number] {
            self.in_flight -= u32::from(!matches!(state, State::Idle));
            self.part.fail(failure);
            self.remove(number);
        }
    }

    /// Nothing comes any more.
    fn give_up(&mut self) {
        for number in 0..self.connections.len() {
            match self.connections[number].as_ref().map(|connection| connection.state) {
                Some(State::Opening { .. }) => self.fail(number, Failure::ConnectTimedOut),
                Some(State::Busy { .. }) => self.fail(number, Failure::ResponseTimedOut),
                Some(State::Idle) | None => {}
            }
        }
    }

    fn remove(&mut self, number: usize) {
        self.connections[number] = None;
        self.vacant.push(number);
    }

    /// Resets what is open, so that nothing of it is left in either kernel.
    fn close_all(&mut self) {
        for connection in self.connections.drain(..).flatten() {
            reset_at_close(&connection.stream);
            self.part.closed += 1;
        }
    }
}

/// What has come of a response.
struct Progress {
    bytes: usize,
    whole: bool,
}

/// Takes what has come. Of an echo it must be the bytes that went out.
fn receive(
    connection: &mut Connection,
    buf: &mut [u8],
    expected: Option<&[u8]>,
    body_bytes: usize,
) -> Result<Progress, Failure> {
    let State::Busy { received, whole, .. } = &mut connection.state else {
        return Err(Failure::WrongResponse);
    };
    let mut bytes = 0;
    loop {
        let n = match connection.stream.read(buf) {
            Ok(0) => return Err(Failure::ClosedEarly),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(Progress { bytes, whole: false });
            }
            Err(_) => return Err(Failure::Reset),
        };
        if let Some(expected) = expected
            && expected.get(*received..*received + n) != Some(&buf[..n])
        {
            return Err(Failure::WrongResponse);
        }
        let all = match *whole {
            Some(all) => all,
            None => *whole.insert(head_bytes(&buf[..n])? + body_bytes),
        };
        *received += n;
        bytes += n;
        if *received >= all {
            let is_right = *received == all;
            return is_right
                .then_some(Progress { bytes, whole: true })
                .ok_or(Failure::WrongResponse);
        }
    }
}

/// How long the head of a response is.
fn head_bytes(front: &[u8]) -> Result<usize, Failure> {
    let front = &front[..front.len().min(HEAD_BYTES_MAX)];
    let end = front.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    end.filter(|_| front.starts_with(b"HTTP/1.1 200 ")).ok_or(Failure::WrongResponse)
}

fn connect(source: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    // The port is chosen with the destination in view.
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(source, 0)).into())?;
    match socket.connect(&SocketAddr::V4(SERVER).into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_response_ends_with_an_empty_line() {
        assert_eq!(head_bytes(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n\0\0"), Ok(25));
        for wrong in [&b"HTTP/1.1 200 OK\r\nA: b\r\n"[..], b"HTTP/1.1 404 Not Found\r\n\r\n"] {
            assert_eq!(head_bytes(wrong), Err(Failure::WrongResponse));
        }
    }
}
