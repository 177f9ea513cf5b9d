//! `never-read`: accepts and never takes a byte, so that the window closes. When the peer has
//! finished it closes, which is a RST if there was anything to read.

use super::{App, Io};
use barewire_stack::stack::Event;
use barewire_stack::tcp::Events;

#[derive(Debug)]
pub(super) struct NeverRead;

impl App for NeverRead {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        if event.events.contains(Events::FINISHED) {
            io.close(event.id);
        }
    }
}
