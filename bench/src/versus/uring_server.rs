//! The server of `epoll_server` on io_uring: one multishot accept, and on each connection a receive and a
//! send in turn, submitted and reaped in batches by one system call. The one file of this crate with
//! unsafe code: the kernel writes into buffers that requests name by address.

use super::end::Stop;
use super::epoll_server::{Answer, EmptyLine, is_over, reset_at_close, serve_lanes};
use super::task::{Served, Task};
use crate::rig::Failure;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Requests that are submitted at a time.
const ENTRIES: u32 = 1024;

/// Completions that may wait: every connection has one request at most, and the kernel keeps more.
const COMPLETIONS: u32 = 16_384;

/// How long a lane sleeps before it looks whether it is to stop.
const LOOK: Timespec = Timespec::new().nsec(20_000_000);

/// Bytes received at a time.
const READ_BYTES: usize = 4 << 10;

/// The completion of an accept; connections count from 0.
const ACCEPT: u64 = u64::MAX;

/// Whether this kernel lets this process use io_uring; if not, why.
pub(crate) fn check() -> Result<(), String> {
    ring().map(drop).map_err(|error| {
        format!(
            "the kernel refuses io_uring ({error}); it needs Linux 6.1 or later, sysctl \
             kernel.io_uring_disabled = 0, and no seccomp filter against it"
        )
    })
}

/// Serves until told to stop.
pub(crate) fn serve(task: &Task, stop: &Stop) -> Result<Served, Failure> {
    serve_lanes(task, |listener| Lane::new(task, listener)?.run(stop))
}

fn ring() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(COMPLETIONS)
        .build(ENTRIES)
}

/// One thread's ring and connections.
struct Lane {
    /// Never freed, as the buffers.
    answer: &'static Answer,
    listener: TcpListener,
    ring: IoUring,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    /// Buffers of connections that are gone. None is ever freed: a request that outlives its ring
    /// still finds its memory.
    buffers: Vec<&'static mut [u8]>,
    served: Served,
}

struct Connection {
    stream: OwnedFd,
    buffer: &'static mut [u8],
    line: EmptyLine,
    doing: Doing,
}

/// The one request that a connection has in the ring.
enum Doing {
    Receiving,
    /// `sent` of `len` bytes of the buffer, or of the response of which `owed` are still to go.
    Sending {
        sent: usize,
        len: usize,
        owed: u32,
    },
}

impl Lane {
    fn new(task: &Task, listener: TcpListener) -> Result<Lane, Failure> {
        let ring = ring().map_err(|error| Failure::Os("make an io_uring", error))?;
        let (connections, vacant, buffers) = (Vec::new(), Vec::new(), Vec::new());
        let (answer, served) = (Box::leak(Box::new(Answer::of(task))), Served::default());
        Ok(Lane { answer, listener, ring, connections, vacant, buffers, served })
    }

    fn run(mut self, stop: &Stop) -> Result<Served, Failure> {
        self.accept()?;
        loop {
            let args = SubmitArgs::new().timespec(&LOOK);
            let waited = self.ring.submitter().submit_with_args(1, &args);
            let is_quiet = match waited {
                Ok(_) => false,
                Err(error) if error.raw_os_error() == Some(nix::libc::ETIME) => true,
                Err(error) if error.raw_os_error() == Some(nix::libc::EINTR) => false,
                Err(error) => return Err(Failure::Os("submit to io_uring", error)),
            };
            let done: Vec<cqueue::Entry> = self.ring.completion().collect();
            for entry in &done {
                self.on_done(entry)?;
            }
            // What came before the order to stop is served first.
            if is_quiet && done.is_empty() && stop.is_set() {
                let open = self.connections.iter().flatten();
                open.for_each(|connection| reset_at_close(&connection.stream));
                return Ok(self.served);
            }
        }
    }

    fn on_done(&mut self, entry: &cqueue::Entry) -> Result<(), Failure> {
        let outcome = match entry.result() {
            n if n < 0 => Err(io::Error::from_raw_os_error(-n)),
            n => Ok(n as usize),
        };
        if entry.user_data() == ACCEPT {
            let fd = outcome.map_err(|error| Failure::Os("accept", error))?;
            if !cqueue::more(entry.flags()) {
                self.accept()?;
            }
            return self.add(fd as i32);
        }
        let number = entry.user_data() as usize;
        match outcome {
            Ok(n) if n > 0 => self.on_bytes(number, n),
            Ok(_) => self.remove(number),
            Err(error) => {
                self.served.failed += u64::from(!is_over(&error));
                self.remove(number);
            }
        }
        if self.connections[number].is_some() { self.go_on(number) } else { Ok(()) }
    }

    fn accept(&mut self) -> Result<(), Failure> {
        let accept = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()));
        self.push(&accept.build().user_data(ACCEPT))
    }

    fn add(&mut self, fd: i32) -> Result<(), Failure> {
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
        let stream = unsafe { OwnedFd::from_raw_fd(fd) };
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let buffer = self.buffers.pop().unwrap_or_else(|| vec![0; READ_BYTES].leak());
        let line = EmptyLine::default();
        let connection = Connection { stream, buffer, line, doing: Doing::Receiving };
        self.connections[number] = Some(connection);
        self.served.accepted += 1;
        self.go_on(number)
    }

    /// `n` bytes were received or sent.
    fn on_bytes(&mut self, number: usize, n: usize) {
        let Some(connection) = &mut self.connections[number] else { return };
        connection.doing = match (&connection.doing, self.answer) {
            (Doing::Receiving, answer) => {
                self.served.bytes_received += n as u64;
                let (len, owed) = match answer {
                    Answer::Echo => (n, 1),
                    Answer::Fixed(response) => {
                        (response.len(), connection.line.ends(&connection.buffer[..n]))
                    }
                };
                if owed == 0 { Doing::Receiving } else { Doing::Sending { sent: 0, len, owed } }
            }
            (&Doing::Sending { sent, len, owed }, _) if sent + n < len => {
                Doing::Sending { sent: sent + n, len, owed }
            }
            (&Doing::Sending { len, owed, .. }, _) if owed > 1 => {
                Doing::Sending { sent: 0, len, owed: owed - 1 }
            }
            (Doing::Sending { .. }, _) => Doing::Receiving,
        };
    }

    /// Submits what the connection does next.
    fn go_on(&mut self, number: usize) -> Result<(), Failure> {
        let Some(connection) = &mut self.connections[number] else { return Ok(()) };
        let fd = Fd(connection.stream.as_raw_fd());
        let entry = match (&connection.doing, self.answer) {
            (Doing::Receiving, _) => {
                let buffer = &mut connection.buffer;
                opcode::Recv::new(fd, buffer.as_mut_ptr(), buffer.len() as u32).build()
            }
            (&Doing::Sending { sent, len, .. }, Answer::Echo) => {
                let rest = &connection.buffer[sent..len];
                opcode::Send::new(fd, rest.as_ptr(), rest.len() as u32).build()
            }
            (&Doing::Sending { sent, .. }, Answer::Fixed(response)) => {
                let rest = &response[sent..];
                opcode::Send::new(fd, rest.as_ptr(), rest.len() as u32).build()
            }
        };
        self.push(&entry.user_data(number as u64))
    }

    fn push(&mut self, entry: &squeue::Entry) -> Result<(), Failure> {
        if self.ring.submission().is_full() {
            self.ring.submit().map_err(|error| Failure::Os("submit to io_uring", error))?;
        }
        // SAFETY: an entry names a buffer of a connection, which is never freed and is touched only
        // when the connection has no request in the ring, or the response, which is never changed
        // or freed; or no memory at all.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.map_err(|error| Failure::Machine(format!("the ring was not emptied: {error}")))
    }

    fn remove(&mut self, number: usize) {
        if let Some(connection) = self.connections[number].take() {
            self.buffers.push(connection.buffer);
            self.vacant.push(number);
        }
    }
}
