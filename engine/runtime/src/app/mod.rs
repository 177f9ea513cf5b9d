//! What runs on connections. An [`App`] gets the events of its connections and acts through [`Io`],
//! the whole of the surface it may use; it knows no frame, queue, worker or socket. One instance
//! lives in each worker, so an application shares nothing and locks nothing. What an application
//! knows of a connection is in the word that the stack keeps with it: no memory is taken per
//! connection.
//!
//! - `echo`, `discard`, [`http`]: what people serve
//! - `burst`, `close_after`, `never_read`, `close_unread`, `small_writes`: peers that tests need
//! - [`hand`]: connections that an operator opened
//! - [`failure`]: what the ends of connections are called in reports
//! - `deadlines`: what is due after a constant time

mod burst;
mod close_after;
mod close_unread;
mod deadlines;
mod discard;
mod echo;
pub mod failure;
pub mod hand;
pub mod http;
mod never_read;
mod small_writes;

use barewire_api::config::AppSpec;
use barewire_stack::flow::FourTuple;
use barewire_stack::stack::{ConnId, ConnectError, Event, Stack};
use barewire_stack::time::{Duration, Instant};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;

/// An application of one worker.
pub trait App: fmt::Debug + Send {
    /// Something happened to one of its connections. The event that tells the end of a connection
    /// is the last; its id is void afterwards.
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event);

    /// Called once in every turn, after the events. The work of one call is bounded by the
    /// application. Returns when it wants to be called again at the latest, if at all.
    fn on_turn(&mut self, io: &mut Io<'_>) -> Option<Instant> {
        let _ = io;
        None
    }
}

/// The application that a listener asks for.
pub fn make(spec: &AppSpec) -> Box<dyn App> {
    match *spec {
        AppSpec::Echo => Box::new(echo::Echo),
        AppSpec::Discard => Box::new(discard::Discard),
        AppSpec::Http { body } => Box::new(http::Http::new(body.0)),
        AppSpec::Burst { bytes } => Box::new(burst::Burst::new(bytes.0)),
        AppSpec::CloseAfter { bytes } => Box::new(close_after::CloseAfter::new(bytes.0)),
        AppSpec::NeverRead => Box::new(never_read::NeverRead),
        AppSpec::CloseUnread { after } => {
            let after = Duration::from_nanos(after.as_nanos());
            Box::new(close_unread::CloseUnread::new(after))
        }
        AppSpec::SmallWrites { count, bytes } => {
            Box::new(small_writes::SmallWrites::new(count.0, bytes.0))
        }
    }
}

/// What an application may do: the calls of the stack, at the time of this turn, with the word that
/// it keeps at each connection.
#[derive(Debug)]
pub struct Io<'a> {
    stack: &'a mut Stack,
    now: Instant,
    app: u8,
}

impl<'a> Io<'a> {
    /// The surface for application number `app`.
    pub fn new(stack: &'a mut Stack, now: Instant, app: u8) -> Self {
        Io { stack, now, app }
    }

    /// The time of this turn.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Opens a connection; it belongs to this application, with `word`.
    pub fn connect(
        &mut self,
        local: SocketAddrV4,
        remote: SocketAddrV4,
        word: u64,
    ) -> Result<ConnId, ConnectError> {
        self.stack.connect(self.now, local, remote, self.app, word)
    }

    /// A port that is free between `local` and `remote`.
    pub fn free_port(
        &mut self,
        local: Ipv4Addr,
        remote: SocketAddrV4,
        ports: RangeInclusive<u16>,
    ) -> Result<u16, ConnectError> {
        self.stack.free_port(self.now, local, remote, ports)
    }

    /// False when it is known that segments of this connection would arrive at another worker.
    pub fn arrives_here(&self, local: SocketAddrV4, remote: SocketAddrV4) -> bool {
        self.stack.arrives_here(&FourTuple::new(local, remote))
    }

    /// Says which connections will be asked something next, at most a batch of them: among very many,
    /// what is known of each lies far away, and comes sooner when it is asked for together.
    pub fn look_ahead(&self, ids: impl Iterator<Item = ConnId>) {
        self.stack.look_ahead_at(ids);
    }

    /// Queues bytes; returns how many were taken. When not all, WRITABLE follows.
    pub fn send(&mut self, id: ConnId, bytes: &[u8]) -> usize {
        self.stack.send(self.now, id, bytes)
    }

    /// Like [`Io::send`], with the urgent mark of RFC 9293 section 3.8.5, which new applications
    /// should not use.
    pub fn send_urgent(&mut self, id: ConnId, bytes: &[u8]) -> usize {
        self.stack.send_urgent(self.now, id, bytes)
    }

    /// Bytes from the next to be read up to the end of the urgent ones that the peer announced with
    /// [`Events::URGENT`](barewire_stack::tcp::Events::URGENT); 0 without any.
    pub fn urgent_bytes(&self, id: ConnId) -> usize {
        self.stack.urgent_bytes(id)
    }

    /// Queues `n` zero bytes; returns how many were taken. When not all, WRITABLE follows.
    pub fn send_zeros(&mut self, id: ConnId, n: u64) -> u64 {
        static ZEROS: [u8; 16 << 10] = [0; 16 << 10];
        let mut left = n;
        while left > 0 {
            let len = left.min(ZEROS.len() as u64) as usize;
            let taken = self.send(id, &ZEROS[..len]);
            left -= taken as u64;
            if taken < len {
                break;
            }
        }
        n - left
    }

    /// Bytes that the connection would take now.
    pub fn send_room(&self, id: ConnId) -> usize {
        self.stack.send_room(id)
    }

    /// Sends back what was received, without copying; returns how many bytes. When not all,
    /// WRITABLE follows.
    pub fn echo(&mut self, id: ConnId) -> usize {
        self.stack.echo(self.now, id)
    }

    /// The received bytes that lie together at the front; empty when none are left.
    pub fn peek(&self, id: ConnId) -> &[u8] {
        self.stack.peek(id)
    }

    /// Copies received bytes into `buf` and leaves them where they are; returns how many.
    pub fn peek_into(&self, id: ConnId, buf: &mut [u8]) -> usize {
        self.stack.peek_into(id, buf)
    }

    /// Bytes that a connection surely receives before the first of them is taken: half of the
    /// window, for its edge moves in steps of up to the other half.
    pub fn unread_bytes_max(&self) -> usize {
        self.stack.config().tcp.window_bytes_max as usize / 2
    }

    /// Copies received bytes out; returns how many.
    pub fn recv(&mut self, id: ConnId, buf: &mut [u8]) -> usize {
        self.stack.recv(self.now, id, buf)
    }

    /// Throws up to `n` received bytes away; returns how many.
    pub fn discard(&mut self, id: ConnId, n: usize) -> usize {
        self.stack.discard(self.now, id, n)
    }

    /// Ends our direction after what is queued; receiving goes on.
    pub fn shutdown(&mut self, id: ConnId) {
        self.stack.shutdown(self.now, id);
    }

    /// The application is done with the connection: FIN, or RST when data were not read.
    pub fn close(&mut self, id: ConnId) {
        self.stack.close(self.now, id);
    }

    /// Resets the connection.
    pub fn abort(&mut self, id: ConnId) {
        self.stack.abort(self.now, id);
    }

    /// The word of a connection, as long as it lives (TIME-WAIT counts as life).
    pub fn word(&self, id: ConnId) -> Option<u64> {
        self.stack.word(id)
    }

    /// Keeps `word` with the connection; it comes with every later event.
    pub fn set_word(&mut self, id: ConnId, word: u64) {
        self.stack.set_word(id, word);
    }
}
