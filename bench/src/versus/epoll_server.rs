//! A server on the kernel's TCP, as one writes it for speed: edge-triggered epoll, TCP_NODELAY, no call
//! that is not needed. It echoes, or answers each request line with the same long response.

use super::end::{Stop, say_ready};
use super::lab::SERVER;
use super::lanes;
use super::task::{Served, Shape, Task};
use crate::rig::Failure;
use nix::libc::MSG_MORE;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

/// Handshakes that wait to be accepted, per listener; the kernel has its own limit beside.
const BACKLOG: i32 = 65_535;

/// Events taken at a time.
const EVENTS_MAX: usize = 512;

/// How long a lane sleeps before it looks whether it is to stop.
const LOOK_MS: u16 = 20;

/// Where reads go.
const READ_BYTES: usize = 64 << 10;

/// The event of the listener; connections count from 0.
const LISTENER: u64 = u64::MAX;

/// Serves until told to stop.
pub(crate) fn serve(task: &Task, stop: &Stop) -> Result<Served, Failure> {
    serve_lanes(task, |listener| Lane::new(task, listener)?.run(stop))
}

/// Listens with as many lanes as the task needs; what all of them have served.
pub(crate) fn serve_lanes(
    task: &Task,
    lane: impl Fn(TcpListener) -> Result<Served, Failure> + Sync,
) -> Result<Served, Failure> {
    let listeners = listeners(task)?;
    say_ready()?;
    let lanes = lanes::run(listeners, lane)?;
    let mut served = Served::default();
    lanes.into_iter().for_each(|lane| served.merge(lane));
    Ok(served)
}

/// A listener for each lane; the kernel spreads connections over them.
fn listeners(task: &Task) -> Result<Vec<TcpListener>, Failure> {
    let listen = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_port(true)?;
        // Connections inherit it.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::V4(SERVER).into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    let listeners: std::io::Result<Vec<TcpListener>> =
        (0..lanes::count(task)).map(|_| listen()).collect();
    listeners.map_err(|error| Failure::Os("listen", error))
}

/// What a request is answered with.
#[derive(Debug)]
pub(crate) enum Answer {
    Echo,
    /// These bytes, for each empty line.
    Fixed(Vec<u8>),
}

impl Answer {
    pub(crate) fn of(task: &Task) -> Self {
        if task.shape != Shape::Bulk {
            return Answer::Echo;
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", task.bytes);
        let mut response = head.into_bytes();
        response.resize(response.len() + task.bytes as usize, 0);
        Answer::Fixed(response)
    }
}

/// How much of a request's last bytes `\r\n\r\n` has come: requests may arrive in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EmptyLine(usize);

impl EmptyLine {
    /// How many requests end in `bytes`.
    pub(crate) fn ends(&mut self, bytes: &[u8]) -> u32 {
        const END: &[u8; 4] = b"\r\n\r\n";
        let mut ends = 0;
        for &byte in bytes {
            self.0 = if byte == END[self.0] { self.0 + 1 } else { usize::from(byte == END[0]) };
            if self.0 == END.len() {
                self.0 = 0;
                ends += 1;
            }
        }
        ends
    }
}

/// One thread's listener and connections.
struct Lane {
    answer: Answer,
    listener: TcpListener,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    read: Vec<u8>,
    served: Served,
}

struct Connection {
    stream: TcpStream,
    line: EmptyLine,
    /// Responses that are still to be sent, and how much of the first of them was.
    owed: u32,
    sent: usize,
}

/// What became of a connection.
#[derive(PartialEq)]
enum Fate {
    Open,
    /// The peer is done with it, in order or by a reset.
    Over,
    Failed,
}

impl Lane {
    fn new(task: &Task, listener: TcpListener) -> Result<Lane, Failure> {
        let os = |errno: nix::Error| Failure::Os("make an epoll", errno.into());
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(os)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, LISTENER);
        epoll.add(&listener, event).map_err(os)?;
        Ok(Lane {
            answer: Answer::of(task),
            listener,
            epoll,
            connections: Vec::new(),
            vacant: Vec::new(),
            read: vec![0; READ_BYTES],
            served: Served::default(),
        })
    }

    fn run(mut self, stop: &Stop) -> Result<Served, Failure> {
        let mut events = vec![EpollEvent::empty(); EVENTS_MAX];
        loop {
            let n = match self.epoll.wait(&mut events, EpollTimeout::from(LOOK_MS)) {
                Err(nix::Error::EINTR) => 0,
                waited => waited.map_err(|errno| Failure::Os("wait", errno.into()))?,
            };
            for event in &events[..n] {
                match event.data() {
                    LISTENER => self.accept()?,
                    number => {
                        let finished = event.events().contains(EpollFlags::EPOLLRDHUP);
                        self.on_ready(number as usize, finished);
                    }
                }
            }
            // What came before the order to stop is served first.
            if n == 0 && stop.is_set() {
                let open = self.connections.iter().flatten();
                open.for_each(|connection| reset_at_close(&connection.stream));
                return Ok(self.served);
            }
        }
    }

    fn accept(&mut self) -> Result<(), Failure> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.add(stream).map_err(|e| Failure::Os("accept", e))?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // It was reset before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(Failure::Os("accept", error)),
            }
        }
    }

    fn add(&mut self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nonblocking(true)?;
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        self.epoll.add(&stream, EpollEvent::new(flags, number as u64))?;
        self.served.accepted += 1;
        let line = EmptyLine::default();
        self.connections[number] = Some(Connection { stream, line, owed: 0, sent: 0 });
        Ok(())
    }

    /// Something has come; `finished`: the peer has said that it is all there will be.
    fn on_ready(&mut self, number: usize, finished: bool) {
        let Some(connection) = &mut self.connections[number] else { return };
        let fate = match &self.answer {
            Answer::Echo => echo(connection, finished, &mut self.read, &mut self.served),
            Answer::Fixed(response) => {
                respond(connection, response, &mut self.read, &mut self.served)
            }
        };
        if fate == Fate::Open {
            return;
        }
        self.served.failed += u64::from(fate == Fate::Failed);
        self.connections[number] = None;
        self.vacant.push(number);
    }
}

fn echo(connection: &mut Connection, finished: bool, buf: &mut [u8], served: &mut Served) -> Fate {
    // The FIN goes with the last bytes.
    let flags = if finished { MSG_MORE } else { 0 };
    loop {
        let n = match read(&mut connection.stream, buf) {
            Ok(n) => n,
            Err(fate) => return fate,
        };
        served.bytes_received += n as u64;
        // Requests are far smaller than the send buffer of a connection that has no other.
        match SockRef::from(&connection.stream).send_with_flags(&buf[..n], flags) {
            Ok(sent) if sent == n => {}
            Err(error) if is_over(&error) => return Fate::Over,
            _ => return Fate::Failed,
        }
        if n < buf.len() {
            return if finished { Fate::Over } else { Fate::Open };
        }
    }
}

fn respond(
    connection: &mut Connection,
    response: &[u8],
    buf: &mut [u8],
    served: &mut Served,
) -> Fate {
    loop {
        let n = match read(&mut connection.stream, buf) {
            Ok(n) => n,
            Err(Fate::Open) => break,
            Err(fate) => return fate,
        };
        served.bytes_received += n as u64;
        connection.owed += connection.line.ends(&buf[..n]);
        if n < buf.len() {
            break;
        }
    }
    while connection.owed > 0 {
        match connection.stream.write(&response[connection.sent..]) {
            Ok(n) => connection.sent += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Fate::Open,
            Err(error) if is_over(&error) => return Fate::Over,
            Err(_) => return Fate::Failed,
        }
        if connection.sent == response.len() {
            connection.sent = 0;
            connection.owed -= 1;
        }
    }
    Fate::Open
}

/// Bytes that have come, or why there are none.
fn read(stream: &mut TcpStream, buf: &mut [u8]) -> Result<usize, Fate> {
    match stream.read(buf) {
        Ok(0) => Err(Fate::Over),
        Ok(n) => Ok(n),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Fate::Open),
        Err(error) if is_over(&error) => Err(Fate::Over),
        Err(_) => Err(Fate::Failed),
    }
}

/// Nothing of a connection whose peer is gone is to be left for the next round, which may have it again.
pub(crate) fn reset_at_close(stream: &impl AsFd) {
    // Where that fails the connection is gone already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// The peer is gone: clients end some tasks by resets.
pub(crate) fn is_over(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_end_with_an_empty_line_however_they_are_cut() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\r\n\r\n";
        for cut in 0..text.len() {
            let mut line = EmptyLine::default();
            let (one, other) = text.split_at(cut);
            assert_eq!(line.ends(one) + line.ends(other), 2, "cut at {cut}");
        }
    }
}
