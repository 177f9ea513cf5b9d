//! The queues in which active connections wait, linked through their records.

use super::record::Records;

const NIL: u32 = u32::MAX;

/// A place in one of the queues.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    next: u32,
    pub(super) queued: bool,
}

impl Link {
    /// In no queue.
    pub(super) const NONE: Link = Link { next: NIL, queued: false };
}

/// What a queue of records is for. A record waits at most once in each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// To be asked for segments; a queue of this kind also hangs on every unresolved neighbour.
    Output = 0,
    /// To tell its application of events.
    Event = 1,
}

/// A first-in first-out queue of records, linked through them: no memory of its own, and no bound
/// but the number of records.
#[derive(Debug)]
pub(super) struct Fifo {
    waits: Waits,
    head: u32,
    tail: u32,
}

impl Fifo {
    pub(super) const fn new(waits: Waits) -> Self {
        Fifo { waits, head: NIL, tail: NIL }
    }

    pub(super) fn front(&self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }

    /// Takes the first record out, whose link this is.
    pub(super) fn pop(&mut self, link: &mut Link) {
        self.head = std::mem::replace(link, Link::NONE).next;
        if self.head == NIL {
            self.tail = NIL;
        }
    }

    /// Moves the first record to the end of `to`, a queue of the same kind, without its ceasing to
    /// be queued.
    pub(super) fn move_front(&mut self, records: &mut Records, to: &mut Fifo) {
        debug_assert_eq!(self.waits, to.waits);
        if let Some(slot) = self.unlink_front(records) {
            to.append(records, slot);
        }
    }

    /// Moves the first record to the end.
    pub(super) fn rotate(&mut self, records: &mut Records) {
        if let Some(slot) = self.unlink_front(records) {
            self.append(records, slot);
        }
    }

    /// Moves everything to the end of `to`, a queue of the same kind.
    pub(super) fn move_all(&mut self, records: &mut Records, to: &mut Fifo) {
        debug_assert_eq!(self.waits, to.waits);
        if self.head == NIL {
            return;
        }
        if to.tail == NIL {
            to.head = self.head;
        } else {
            records.link_mut(to.tail, self.waits).next = self.head;
        }
        to.tail = self.tail;
        (self.head, self.tail) = (NIL, NIL);
    }

    /// Queues a record, which must not wait in a queue of this kind already.
    pub(super) fn append(&mut self, records: &mut Records, slot: u32) {
        *records.link_mut(slot, self.waits) = Link { next: NIL, queued: true };
        if self.tail == NIL {
            self.head = slot;
        } else {
            records.link_mut(self.tail, self.waits).next = slot;
        }
        self.tail = slot;
    }

    fn unlink_front(&mut self, records: &mut Records) -> Option<u32> {
        let slot = self.front()?;
        self.head = records.link_mut(slot, self.waits).next;
        if self.head == NIL {
            self.tail = NIL;
        }
        Some(slot)
    }
}
