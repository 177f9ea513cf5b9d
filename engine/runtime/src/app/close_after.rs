//! `close-after:N`: reads, and closes both directions once N bytes were received: the server that
//! closes first. What the peer sends after that is answered with a RST, as the stack does for an
//! application that has gone.

use super::{App, Io};
use barewire_stack::stack::Event;
use barewire_stack::tcp::Events;

/// The word of a connection is the number of bytes it has received.
#[derive(Debug)]
pub(super) struct CloseAfter {
    bytes: u64,
}

impl CloseAfter {
    /// An application that closes after `bytes`.
    pub(super) fn new(bytes: u64) -> Self {
        CloseAfter { bytes }
    }
}

impl App for CloseAfter {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        if event.end.is_some() {
            return;
        }
        let received = event.word + io.discard(event.id, usize::MAX) as u64;
        io.set_word(event.id, received);
        if received >= self.bytes || event.events.contains(Events::FINISHED) {
            io.close(event.id);
        }
    }
}
