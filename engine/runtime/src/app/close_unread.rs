//! `close-unread:DURATION`: closes that long after the first byte arrived, with everything unread,
//! so that the peer gets a RST (RFC 9293 SHLD-3). A peer that sends nothing and finishes is closed
//! at once.

use super::deadlines::Deadlines;
use super::{App, Io};
use barewire_stack::stack::Event;
use barewire_stack::tcp::Events;
use barewire_stack::time::{Duration, Instant};

/// Connections that may wait for their close; beyond them a connection is closed at its first byte.
const WAITING_MAX: usize = 1 << 16;

/// Connections closed in one turn.
const CLOSES_MAX: usize = 256;

/// The word of a connection whose close is due at some time.
const WAITS: u64 = 1;

#[derive(Debug)]
pub(super) struct CloseUnread {
    deadlines: Deadlines,
}

impl CloseUnread {
    /// An application that closes so long `after` the first byte.
    pub(super) fn new(after: Duration) -> Self {
        CloseUnread { deadlines: Deadlines::new(after, WAITING_MAX) }
    }
}

impl App for CloseUnread {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        if event.end.is_some() || event.word == WAITS {
            return;
        }
        if io.peek(event.id).is_empty() {
            if event.events.contains(Events::FINISHED) {
                io.close(event.id);
            }
        } else if self.deadlines.add(io.now(), event.id) {
            io.set_word(event.id, WAITS);
        } else {
            io.close(event.id);
        }
    }

    fn on_turn(&mut self, io: &mut Io<'_>) -> Option<Instant> {
        for _ in 0..CLOSES_MAX {
            let Some(id) = self.deadlines.expire(io.now()) else { break };
            io.close(id);
        }
        self.deadlines.next()
    }
}
