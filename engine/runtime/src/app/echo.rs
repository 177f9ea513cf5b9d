//! `echo`: sends back what it receives, without copying it, and closes when the peer has finished
//! and everything is sent back. A peer that does not read stops us from taking more: nothing is
//! kept but what the connection's own buffers hold.

use super::{App, Io};
use barewire_stack::stack::Event;
use barewire_stack::tcp::Events;

/// The word of a connection whose peer has finished.
const FINISHED: u64 = 1;

#[derive(Debug)]
pub(super) struct Echo;

impl App for Echo {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        if event.end.is_some() {
            return;
        }
        io.echo(event.id);
        if event.word == FINISHED || event.events.contains(Events::FINISHED) {
            if io.peek(event.id).is_empty() {
                io.close(event.id);
            } else {
                io.set_word(event.id, FINISHED);
            }
        }
    }
}
