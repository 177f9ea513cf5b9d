//! `discard`: reads and forgets, and closes when the peer has finished. It never sends a byte.

use super::{App, Io};
use barewire_stack::stack::Event;
use barewire_stack::tcp::Events;

#[derive(Debug)]
pub(super) struct Discard;

impl App for Discard {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        if event.end.is_some() {
            return;
        }
        io.discard(event.id, usize::MAX);
        if event.events.contains(Events::FINISHED) {
            io.close(event.id);
        }
    }
}
