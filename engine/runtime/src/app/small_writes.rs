//! `small-writes:COUNTxBYTES`: once connected, sends COUNT pieces of BYTES zeros, each with a call
//! of its own, as an application does that writes a message field by field. What it receives it
//! throws away; when the peer has finished and everything is sent it closes.

use super::{App, Io};
use barewire_stack::stack::Event;
use barewire_stack::tcp::Events;

/// In the word: the peer has finished. The rest of the word is the number of bytes sent, below
/// 2^47: a million pieces of 64 MiB.
const FINISHED: u64 = 1 << 63;

#[derive(Debug)]
pub(super) struct SmallWrites {
    piece: u64,
    total: u64,
}

impl SmallWrites {
    /// An application that sends `count` pieces of `bytes`.
    pub(super) fn new(count: u64, bytes: u64) -> Self {
        SmallWrites { piece: bytes, total: count * bytes }
    }
}

impl App for SmallWrites {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        if event.end.is_some() {
            return;
        }
        io.discard(event.id, usize::MAX);
        let told = event.events.contains(Events::FINISHED);
        let finished = if told { FINISHED } else { event.word & FINISHED };
        let mut sent = event.word & !FINISHED;
        // The send queue bounds the work: a piece that it does not take whole ends the loop.
        while sent < self.total {
            let rest = self.piece - sent % self.piece;
            let taken = io.send_zeros(event.id, rest);
            sent += taken;
            if taken < rest {
                break;
            }
        }
        if sent == self.total && finished != 0 {
            io.close(event.id);
        } else {
            io.set_word(event.id, sent | finished);
        }
    }
}
