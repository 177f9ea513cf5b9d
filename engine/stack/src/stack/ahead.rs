//! A look ahead at a batch. Among very many connections each segment finds its table entry, its slot and
//! its record in no cache, one after the other, and waits for memory three times. Here all segments of
//! a batch ask for their entries, then for their slots, then for their records: the waits of one kind
//! overlap, and the way of each segment finds everything near. Nothing is decided or changed.

use super::{ConnId, Place, Stack};
use crate::device::BATCH_MAX;
use crate::flow::FourTuple;
use crate::wire::plain;

/// With fewer connections all that they need stays in the cache by itself.
const CONNECTIONS_MIN: u32 = 8192;

impl Stack {
    /// Looks ahead at frames that will be taken next, at most a batch of them.
    pub fn look_ahead<'f>(&self, frames: impl Iterator<Item = &'f [u8]>) {
        if self.records.len() < CONNECTIONS_MIN {
            return;
        }
        let mut slots = Slots::default();
        for (src, dst) in frames.take(BATCH_MAX).filter_map(plain::ends) {
            if let Some(Place::Record(slot)) = self.table.guess(&FourTuple::new(dst, src)) {
                slots.push(slot);
            }
        }
        self.records.fetch(slots.list());
    }

    /// Looks ahead at connections that an application will ask something of next, at most a batch.
    pub fn look_ahead_at(&self, ids: impl Iterator<Item = ConnId>) {
        if self.records.len() < CONNECTIONS_MIN {
            return;
        }
        let mut slots = Slots::default();
        ids.take(BATCH_MAX).for_each(|id| slots.push(id.slot));
        self.records.fetch(slots.list());
    }
}

/// Record numbers of one batch.
struct Slots {
    numbers: [u32; BATCH_MAX],
    n: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Slots { numbers: [0; BATCH_MAX], n: 0 }
    }
}

impl Slots {
    fn push(&mut self, slot: u32) {
        self.numbers[self.n] = slot;
        self.n += 1;
    }

    fn list(&self) -> &[u32] {
        &self.numbers[..self.n]
    }
}
