//! Connections opened by hand: an operator connects, sends, receives, closes and aborts over the
//! control socket. The hand keeps what its connections receive until it is asked for, up to
//! [`RECEIVED_BYTES_MAX`] each; beyond that the window closes. An ended connection is remembered
//! for a while, so that its last bytes and its end can still be read. Nothing in here waits:
//! whoever wants to wait asks again.

use super::failure::{of_end, of_refusal};
use super::{App, Io};
use barewire_api::control::RECEIVED_BYTES_MAX;
use barewire_api::failure::Failure;
use barewire_stack::stack::{ConnId, Event};
use barewire_stack::tcp::{End, Events};
use barewire_stack::time::{Duration, Instant};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddrV4;

/// Connections of one worker's hand, ended ones included.
pub const HANDS_MAX: usize = 1024;

/// How long an ended connection is remembered, unless its place is wanted.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Why there is no answer about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandError {
    /// The hand does not know it.
    #[error(
        "expected a connection opened by hand, found none with this id: \
         it was never opened here, or it ended more than a minute ago"
    )]
    Unknown,
    /// It has ended.
    #[error("expected a connection that is open, found one that ended{}", .0.map_or_else(
        || String::from(": both sides closed it"),
        |failure| format!(": {}", failure.sentence()),
    ))]
    Ended(Option<Failure>),
}

/// What a connection has received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The bytes since it was last asked, at most [`RECEIVED_BYTES_MAX`].
    pub bytes: Vec<u8>,
    /// All that the connection has ever received.
    pub bytes_total: u64,
    /// The peer has finished, or the connection has ended: these are the last bytes.
    pub end: bool,
}

/// One connection.
#[derive(Debug, Default)]
struct Held {
    opened: bool,
    /// It has ended: well, or with a failure.
    ended: Option<Option<Failure>>,
    /// The operator ended it: that it is aborted is no failure.
    dismissed: bool,
    finished: bool,
    received: Vec<u8>,
    received_total: u64,
}

/// The application of an operator's connections.
#[derive(Debug, Default)]
pub struct Hand {
    held: HashMap<ConnId, Held>,
    /// The ended ones in the order of their ends; one that was forgotten before stays until its
    /// time is over, at most [`HANDS_MAX`] of them.
    ended: VecDeque<(Instant, ConnId)>,
}

impl Hand {
    /// Begins to open a connection; how that goes is asked with [`Hand::outcome`].
    pub fn connect(
        &mut self,
        io: &mut Io<'_>,
        local: SocketAddrV4,
        remote: SocketAddrV4,
    ) -> Result<ConnId, Failure> {
        if self.held.len() >= HANDS_MAX && !self.forget_oldest() {
            return Err(Failure::ConnectionsMax);
        }
        let id = io.connect(local, remote, 0).map_err(of_refusal)?;
        self.held.insert(id, Held::default());
        Ok(id)
    }

    /// How the opening went: nothing as long as it goes on.
    pub fn outcome(&self, id: ConnId) -> Result<Option<Result<(), Failure>>, HandError> {
        let held = self.held.get(&id).ok_or(HandError::Unknown)?;
        Ok(match held.ended {
            _ if held.opened => Some(Ok(())),
            Some(failure) => Some(Err(failure.unwrap_or(Failure::Stopped))),
            None => None,
        })
    }

    /// Sends; returns how many bytes found room in the send buffer.
    pub fn send(&mut self, io: &mut Io<'_>, id: ConnId, bytes: &[u8]) -> Result<u64, HandError> {
        self.open(id)?;
        Ok(io.send(id, bytes) as u64)
    }

    /// Takes what was received, as soon as `bytes_min` are there or no more will come; nothing as
    /// long as neither is so. With 0 it takes what there is.
    pub fn receive(
        &mut self,
        io: &mut Io<'_>,
        id: ConnId,
        bytes_min: usize,
    ) -> Result<Option<Received>, HandError> {
        let held = self.held.get_mut(&id).ok_or(HandError::Unknown)?;
        let end = held.finished || held.ended.is_some();
        if held.received.len() < bytes_min.min(RECEIVED_BYTES_MAX) && !end {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut held.received);
        // The window was perhaps closed by what waited here.
        held.pull(io, id);
        let end = end && held.received.is_empty();
        Ok(Some(Received { bytes, bytes_total: held.received_total, end }))
    }

    /// Closes both directions, with a FIN if everything was read; what is kept in here counts as
    /// read.
    pub fn close(&mut self, io: &mut Io<'_>, id: ConnId) -> Result<(), HandError> {
        self.open(id)?.dismissed = true;
        io.close(id);
        Ok(())
    }

    /// Resets the connection.
    pub fn abort(&mut self, io: &mut Io<'_>, id: ConnId) -> Result<(), HandError> {
        self.open(id)?.dismissed = true;
        io.abort(id);
        Ok(())
    }

    /// Forgets a connection; if it lives it is reset first. For an opening that nobody waits for.
    pub fn forget(&mut self, io: &mut Io<'_>, id: ConnId) {
        if self.held.remove(&id).is_some() {
            io.abort(id);
        }
    }

    fn open(&mut self, id: ConnId) -> Result<&mut Held, HandError> {
        let held = self.held.get_mut(&id).ok_or(HandError::Unknown)?;
        match held.ended {
            Some(failure) => Err(HandError::Ended(failure)),
            None => Ok(held),
        }
    }

    /// Makes room at the cost of the connection that ended first. False when none has ended.
    fn forget_oldest(&mut self) -> bool {
        while let Some((_, id)) = self.ended.pop_front() {
            if self.held.remove(&id).is_some() {
                return true;
            }
        }
        false
    }
}

impl Held {
    /// Takes received bytes over, as far as the bound allows.
    fn pull(&mut self, io: &mut Io<'_>, id: ConnId) {
        while self.received.len() < RECEIVED_BYTES_MAX {
            let room = RECEIVED_BYTES_MAX - self.received.len();
            let bytes = io.peek(id);
            let n = bytes.len().min(room);
            if n == 0 {
                break;
            }
            self.received.extend_from_slice(&bytes[..n]);
            self.received_total += n as u64;
            io.discard(id, n);
        }
    }
}

impl App for Hand {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        let Some(held) = self.held.get_mut(&event.id) else { return };
        held.opened |= event.events.contains(Events::OPENED);
        held.finished |= event.events.contains(Events::FINISHED);
        held.pull(io, event.id);
        if let Some(end) = event.end {
            let failure = of_end(end, held.opened);
            let wanted = held.dismissed && end == End::Aborted;
            held.ended = Some(if wanted { None } else { failure });
            if self.ended.len() >= HANDS_MAX {
                self.forget_oldest();
            }
            self.ended.push_back((io.now(), event.id));
        }
    }

    fn on_turn(&mut self, io: &mut Io<'_>) -> Option<Instant> {
        while let Some(&(at, id)) = self.ended.front() {
            if io.now().since(at) < REMEMBERED {
                return Some(at + REMEMBERED);
            }
            self.ended.pop_front();
            self.held.remove(&id);
        }
        None
    }
}
