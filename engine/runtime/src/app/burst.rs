//! `burst:N`: sends N zero bytes for each received byte. It reads in rounds: what a round owes is
//! sent before the next one is read, so that a peer which does not take the answers cannot run up
//! a debt.

use super::{App, Io};
use barewire_api::config::APP_BYTES_MAX;
use barewire_stack::stack::Event;
use barewire_stack::tcp::Events;

/// In the word: the peer has finished. The rest of the word is the number of bytes owed, at most
/// [`APP_BYTES_MAX`].
const FINISHED: u64 = 1 << 63;

#[derive(Debug)]
pub(super) struct Burst {
    /// Bytes to send per received byte.
    bytes: u64,
    /// Bytes read in one round.
    round: usize,
}

impl Burst {
    /// An application that sends `bytes` (1 to [`APP_BYTES_MAX`]) for each byte.
    pub(super) fn new(bytes: u64) -> Self {
        Burst { bytes, round: (APP_BYTES_MAX / bytes) as usize }
    }
}

impl App for Burst {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        if event.end.is_some() {
            return;
        }
        let told = event.events.contains(Events::FINISHED);
        let finished = if told { FINISHED } else { event.word & FINISHED };
        let mut owed = event.word & !FINISHED;
        loop {
            owed -= io.send_zeros(event.id, owed);
            if owed > 0 {
                break;
            }
            owed = io.discard(event.id, self.round) as u64 * self.bytes;
            if owed == 0 {
                break;
            }
        }
        if owed == 0 && finished != 0 {
            io.close(event.id);
        } else {
            io.set_word(event.id, owed | finished);
        }
    }
}
