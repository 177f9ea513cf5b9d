//! A look ahead at a batch. Among very many connections each segment finds its table entry, its slot and
//! its record in no cache, one after the other, and waits for memory three times. Here all segments of
//! a batch ask for their entries, then for their slots, then for their records: the waits of one kind
//! overlap, and the way of each segment finds everything near. Nothing is decided or changed: what was
//! found is remembered as a guess, which a segment that comes to it compares with its own tuple.

use super::{ConnId, Place, Stack};
use crate::device::BATCH_MAX;
use crate::flow::FourTuple;
use crate::wire::plain;

/// With fewer connections all that they need stays in the cache by itself.
const CONNECTIONS_MIN: u32 = 8192;

/// The number of no record.
const NONE: u32 = u32::MAX;

impl Stack {
    /// Looks ahead at frames that will be taken next and in this order, at most a batch of them.
    pub fn look_ahead<'f>(&mut self, frames: impl Iterator<Item = &'f [u8]>) {
        self.guesses.clear();
        if self.records.len() < CONNECTIONS_MIN {
            return;
        }
        for frame in frames.take(BATCH_MAX) {
            let guess = plain::ends(frame)
                .and_then(|(src, dst)| self.table.guess(&FourTuple::new(dst, src)));
            self.guesses.push(match guess {
                Some(Place::Record(slot)) => slot,
                _ => NONE,
            });
        }
        self.records.fetch(self.guesses.list());
    }

    /// Looks ahead at connections that an application will ask something of next, at most a batch.
    pub fn look_ahead_at(&self, ids: impl Iterator<Item = ConnId>) {
        if self.records.len() < CONNECTIONS_MIN {
            return;
        }
        let mut slots = Guesses::default();
        ids.take(BATCH_MAX).for_each(|id| slots.push(id.slot));
        self.records.fetch(slots.list());
    }
}

/// Record numbers of one batch, in its order; [`NONE`] where none was found.
#[derive(Debug)]
pub(super) struct Guesses {
    numbers: [u32; BATCH_MAX],
    n: usize,
    /// How many have been taken.
    n_taken: usize,
}

impl Default for Guesses {
    fn default() -> Self {
        Guesses { numbers: [NONE; BATCH_MAX], n: 0, n_taken: 0 }
    }
}

impl Guesses {
    /// That for the next frame; nothing if the look ahead did not come so far.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.n_taken == self.n {
            return None;
        }
        let guess = self.numbers.get(self.n_taken).copied();
        self.n_taken += 1;
        guess
    }

    fn clear(&mut self) {
        (self.n, self.n_taken) = (0, 0);
    }

    fn push(&mut self, slot: u32) {
        self.numbers[self.n] = slot;
        self.n += 1;
    }

    fn list(&self) -> &[u32] {
        &self.numbers[..self.n]
    }
}
