//! The records of all connections of one stack: pages of slots, so that growing never moves a
//! record and never stalls a turn, a free list through the empty slots, and the links with which
//! records wait in queues. A slot keeps a generation, so that an old [`ConnId`] never reaches a new
//! connection.

use super::wheel::WheelLink;
use crate::flow::FourTuple;
use crate::tcp::Connection;
use std::ops::{Index, IndexMut};

/// Records of one page: about a hundred kilobytes are taken at a time.
const PAGE_RECORDS: usize = 512;

/// Bytes of one record.
pub(super) const SLOT_BYTES: usize = size_of::<Slot>();

const NIL: u32 = u32::MAX;

/// Names one connection of one stack, for as long as it lives and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Number of the record.
    pub slot: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

/// One connection with everything the stack itself needs to know of it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) conn: Connection,
    pub(super) tuple: FourTuple,
    pub(super) generation: u32,
    /// Which application it belongs to.
    pub(super) app: u16,
    /// The table still leads here.
    pub(super) in_table: bool,
    /// The application knows of the connection.
    pub(super) opened: bool,
    /// The application has been told of the end, or never will know of the connection.
    pub(super) told: bool,
    /// The id is in the stack's list of connections in TIME-WAIT.
    pub(super) resting: bool,
    /// The id is in the stack's list of connections that wait for the buffer pool.
    pub(super) starved: bool,
    /// What the application keeps with the connection.
    pub(super) word: u64,
    pub(super) timer: WheelLink,
    links: [Link; 2],
}

/// A place in one of the queues.
#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    queued: bool,
}

/// A free slot is as large as a live one: pages are what memory is taken in.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a record lives in its page, not behind a pointer")]
enum Slot {
    Free { next: u32, generation: u32 },
    Live(Record),
}

/// All records.
#[derive(Debug)]
pub(super) struct Records {
    pages: Vec<Box<[Slot]>>,
    free: u32,
    len: u32,
}

impl Records {
    pub(super) fn new() -> Self {
        Records { pages: Vec::new(), free: NIL, len: 0 }
    }

    /// Live records.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Slots there are, live or free: record numbers are below this.
    pub(super) fn n_slots(&self) -> u32 {
        (self.pages.len() * PAGE_RECORDS) as u32
    }

    /// Bytes of memory that the pages take.
    pub(super) fn bytes(&self) -> usize {
        self.pages.len() * PAGE_RECORDS * size_of::<Slot>()
    }

    pub(super) fn insert(
        &mut self,
        conn: Connection,
        tuple: FourTuple,
        app: u16,
        word: u64,
    ) -> u32 {
        if self.free == NIL {
            self.add_page();
        }
        let slot = self.free;
        let place = self.slot_mut(slot);
        let Slot::Free { next, generation } = *place else {
            unreachable!("the free list leads to free slots only")
        };
        let link = Link { next: NIL, queued: false };
        *place = Slot::Live(Record {
            conn,
            tuple,
            generation,
            app,
            in_table: true,
            opened: false,
            told: false,
            resting: false,
            starved: false,
            word,
            timer: WheelLink::new(),
            links: [link; 2],
        });
        self.free = next;
        self.len += 1;
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let next = self.free;
        let place = self.slot_mut(slot);
        let Slot::Live(record) = place else { unreachable!("only live records are removed") };
        let generation = record.generation.wrapping_add(1);
        *place = Slot::Free { next, generation };
        self.free = slot;
        self.len -= 1;
    }

    /// The record number of a connection that still lives.
    pub(super) fn slot_of(&self, id: ConnId) -> Option<u32> {
        let record = self.get(id.slot)?;
        (record.generation == id.generation).then_some(id.slot)
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Record> {
        let page = self.pages.get(slot as usize / PAGE_RECORDS)?;
        match &page[slot as usize % PAGE_RECORDS] {
            Slot::Live(record) => Some(record),
            Slot::Free { .. } => None,
        }
    }

    pub(super) fn id(&self, slot: u32) -> ConnId {
        ConnId { slot, generation: self[slot].generation }
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.pages[slot as usize / PAGE_RECORDS][slot as usize % PAGE_RECORDS]
    }

    fn add_page(&mut self) {
        let first = self.n_slots();
        let slots = (first..first + PAGE_RECORDS as u32).map(|slot| {
            let last = slot + 1 == first + PAGE_RECORDS as u32;
            Slot::Free { next: if last { NIL } else { slot + 1 }, generation: 0 }
        });
        self.pages.push(slots.collect());
        self.free = first;
    }
}

impl Index<u32> for Records {
    type Output = Record;
    fn index(&self, slot: u32) -> &Record {
        self.get(slot).expect("a record number that is in use names a live record")
    }
}

impl IndexMut<u32> for Records {
    fn index_mut(&mut self, slot: u32) -> &mut Record {
        match self.slot_mut(slot) {
            Slot::Live(record) => record,
            Slot::Free { .. } => panic!("a record number that is in use names a live record"),
        }
    }
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

    /// Queues a record, unless it waits in a queue of this kind already.
    pub(super) fn push(&mut self, records: &mut Records, slot: u32) {
        if !records.is_queued(slot, self.waits) {
            self.append(records, slot);
        }
    }

    pub(super) fn pop(&mut self, records: &mut Records) -> Option<u32> {
        let slot = self.unlink_front(records)?;
        records[slot].links[self.waits as usize].queued = false;
        Some(slot)
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
            records[to.tail].links[self.waits as usize].next = self.head;
        }
        to.tail = self.tail;
        (self.head, self.tail) = (NIL, NIL);
    }

    fn append(&mut self, records: &mut Records, slot: u32) {
        records[slot].links[self.waits as usize] = Link { next: NIL, queued: true };
        if self.tail == NIL {
            self.head = slot;
        } else {
            records[self.tail].links[self.waits as usize].next = slot;
        }
        self.tail = slot;
    }

    fn unlink_front(&mut self, records: &Records) -> Option<u32> {
        let slot = self.front()?;
        self.head = records[slot].links[self.waits as usize].next;
        if self.head == NIL {
            self.tail = NIL;
        }
        Some(slot)
    }
}

impl Records {
    /// The record waits in a queue of this kind.
    pub(super) fn is_queued(&self, slot: u32, waits: Waits) -> bool {
        self[slot].links[waits as usize].queued
    }
}
