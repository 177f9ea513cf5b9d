//! The records of all connections of one stack. Every connection has a slot of one cache line, which
//! holds what finds it, wakes it and belongs to its application. A connection that sleeps has nothing
//! else: the rest of the line is all that TCP needs of it ([`Dormant`]). One with work to do borrows an
//! [`Active`] record, in which it is whole. A slot keeps a generation, so that an old [`ConnId`] never
//! reaches a new connection. Those in TIME-WAIT are elsewhere, in `time_wait`.

use super::neighbor::Way;
use super::pages::{Cell, Pages};
use super::wheel::WheelLink;
use crate::device::BATCH_MAX;
use crate::flow::FourTuple;
use crate::tcp::Connection;
use crate::tcp::dormant::Dormant;
use std::hint::black_box;
use std::ops::{Index, IndexMut};

/// Bytes of a connection that sleeps.
pub(super) const SLOT_BYTES: usize = size_of::<Slot>();

/// Bytes that one with work to do takes beside.
pub(super) const ACTIVE_BYTES: usize = size_of::<Block>();

/// Why an active record must be there.
const AWAKE: &str = "the number of a connection that is awake";

/// Names one connection of one stack, for as long as it lives and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Number of the record.
    pub slot: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Free = 0,
    Dormant = 1,
    Active = 2,
}

/// One connection. `dormant` is the connection while it sleeps; while it is active it is the number
/// of its block, and in a free slot that of the next.
#[derive(Debug)]
pub(super) struct Slot {
    /// What the application keeps with the connection.
    pub(super) word: u64,
    pub(super) timer: WheelLink,
    /// The kind in two bits, above them the generation.
    tag: u32,
    pub(super) tuple: FourTuple,
    /// Which application it belongs to.
    pub(super) app: u8,
    dormant: Dormant,
}

/// A connection with work to do, and everything the stack itself needs to know of it meanwhile.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) conn: Connection,
    /// The table still leads here.
    pub(super) in_table: bool,
    /// The application knows of the connection.
    pub(super) opened: bool,
    /// The application has been told of the end, or never will know of the connection.
    pub(super) told: bool,
    /// The id is in the stack's list of connections that wait for the buffer pool.
    pub(super) starved: bool,
    /// Where its next hop was found the last time.
    pub(super) way: Way,
    /// It is in the stack's queue of those that may have something to send, or waits for its next hop.
    pub(super) in_ready: bool,
    /// It is in the stack's queue of those with events.
    pub(super) in_events: bool,
}

/// A place for an active record.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a record lives in its page, not behind a pointer")]
enum Block {
    Free { next: u32 },
    Live(Active),
}

impl Slot {
    const KIND_BITS: u32 = 2;

    fn kind(&self) -> Kind {
        match self.tag & 3 {
            0 => Kind::Free,
            1 => Kind::Dormant,
            _ => Kind::Active,
        }
    }

    fn set_kind(&mut self, kind: Kind) {
        self.tag = self.generation() << Self::KIND_BITS | kind as u32;
    }

    pub(super) fn generation(&self) -> u32 {
        self.tag >> Self::KIND_BITS
    }
}

impl Cell for Slot {
    fn free(next: u32, generation: u32) -> Self {
        Slot {
            word: 0,
            timer: WheelLink::new(),
            tag: generation << Self::KIND_BITS | Kind::Free as u32,
            tuple: FourTuple::NONE,
            app: 0,
            dormant: Dormant::of_number(next),
        }
    }

    fn as_free(&self) -> Option<(u32, u32)> {
        (self.kind() == Kind::Free).then(|| (self.dormant.number(), self.generation()))
    }
}

impl Cell for Block {
    fn free(next: u32, _: u32) -> Self {
        Block::Free { next }
    }

    fn as_free(&self) -> Option<(u32, u32)> {
        match *self {
            Block::Free { next } => Some((next, 0)),
            Block::Live(_) => None,
        }
    }
}

/// All records. A page of either kind has about 64 KiB.
#[derive(Debug)]
pub(super) struct Records {
    slots: Pages<Slot, 1024>,
    blocks: Pages<Block, 128>,
}

impl Records {
    pub(super) fn new() -> Self {
        Records { slots: Pages::new(), blocks: Pages::new() }
    }

    /// Connections.
    pub(super) fn len(&self) -> u32 {
        self.slots.len()
    }

    /// Those of them that are active.
    pub(super) fn n_active(&self) -> u32 {
        self.blocks.len()
    }

    /// Slots there are, live or free: record numbers are below this.
    pub(super) fn n_slots(&self) -> u32 {
        self.slots.n_cells()
    }

    /// Bytes of memory that the slots take, and that the active records do.
    pub(super) fn bytes(&self) -> (usize, usize) {
        (self.slots.bytes(), self.blocks.bytes())
    }

    /// A new connection, active.
    pub(super) fn insert(&mut self, conn: Connection, tuple: FourTuple, app: u8, word: u64) -> u32 {
        let block = self.blocks.insert(|_| Block::Live(Active::new(conn, false)));
        self.slots.insert(|generation| Slot {
            word,
            timer: WheelLink::new(),
            tag: generation << Slot::KIND_BITS | Kind::Active as u32,
            tuple,
            app,
            dormant: Dormant::of_number(block),
        })
    }

    /// Frees the record of an active connection.
    pub(super) fn remove(&mut self, slot: u32) {
        let cell = self.slots.at(slot);
        debug_assert_eq!(cell.kind(), Kind::Active);
        let (block, generation) = (cell.dormant.number(), cell.generation());
        self.blocks.remove(block, 0);
        self.slots.remove(slot, generation);
    }

    /// An active connection falls asleep and gives its active record back.
    pub(super) fn sleep(&mut self, slot: u32, dormant: Dormant) {
        let cell = self.slots.at_mut(slot);
        debug_assert_eq!(cell.kind(), Kind::Active);
        let block = cell.dormant.number();
        cell.set_kind(Kind::Dormant);
        cell.dormant = dormant;
        self.blocks.remove(block, 0);
    }

    /// A connection that slept gets an active record; `conn` is what it was.
    pub(super) fn wake(&mut self, slot: u32, conn: Connection) {
        let block = self.blocks.insert(|_| Block::Live(Active::new(conn, true)));
        let cell = self.slots.at_mut(slot);
        debug_assert_eq!(cell.kind(), Kind::Dormant);
        cell.set_kind(Kind::Active);
        cell.dormant = Dormant::of_number(block);
    }

    /// What a connection that sleeps is.
    #[inline]
    pub(super) fn dormant(&self, slot: u32) -> Option<Dormant> {
        let cell = self.slots.get(slot)?;
        (cell.kind() == Kind::Dormant).then_some(cell.dormant)
    }

    /// The active record of a connection, unless it sleeps or there is none.
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Active> {
        let cell = self.slots.get(slot).filter(|cell| cell.kind() == Kind::Active)?;
        match self.blocks.at(cell.dormant.number()) {
            Block::Live(active) => Some(active),
            Block::Free { .. } => unreachable!("an active slot leads to a live block"),
        }
    }

    /// The slot and the active record of a connection, unless it sleeps or there is none. What the way
    /// of a segment needs of a connection it gets here, once.
    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<(&mut Slot, &mut Active)> {
        let cell = self.slots.cell_mut(slot).filter(|cell| cell.kind() == Kind::Active)?;
        match self.blocks.at_mut(cell.dormant.number()) {
            Block::Live(active) => Some((cell, active)),
            Block::Free { .. } => unreachable!("an active slot leads to a live block"),
        }
    }

    /// Brings slots and active records near, for all of `slots` at once.
    pub(super) fn fetch(&self, slots: &[u32]) {
        let mut blocks = [0; BATCH_MAX];
        let mut n = 0;
        for cell in slots.iter().filter_map(|&slot| self.slots.cell(slot)) {
            if cell.kind() == Kind::Active {
                blocks[n] = cell.dormant.number();
                n += 1;
            }
        }
        for &block in &blocks[..n] {
            if let Block::Live(active) = self.blocks.at(block) {
                // The sum is of no interest; that its terms are read is.
                black_box(active.conn.spread() ^ u32::from(active.in_ready));
            }
        }
    }

    /// As [`Records::get_mut`], of a connection that is awake.
    #[inline]
    pub(super) fn both_mut(&mut self, slot: u32) -> (&mut Slot, &mut Active) {
        self.get_mut(slot).expect(AWAKE)
    }

    /// There is a connection with this number.
    pub(super) fn is_live(&self, slot: u32) -> bool {
        self.slots.get(slot).is_some()
    }

    /// As [`Records::get_mut`], of a connection that still lives.
    #[inline]
    pub(super) fn of_id(&mut self, id: ConnId) -> Option<(&mut Slot, &mut Active)> {
        self.get_mut(id.slot).filter(|(cell, _)| cell.generation() == id.generation)
    }

    /// The record number of a connection that still lives.
    pub(super) fn slot_of(&self, id: ConnId) -> Option<u32> {
        let cell = self.slots.get(id.slot)?;
        (cell.generation() == id.generation).then_some(id.slot)
    }

    pub(super) fn id(&self, slot: u32) -> ConnId {
        ConnId { slot, generation: self.slots.at(slot).generation() }
    }

    /// The connection with this number is the one between these two endpoints.
    #[inline]
    pub(super) fn is_between(&self, slot: u32, tuple: &FourTuple) -> bool {
        self.slots.cell(slot).is_some_and(|cell| cell.tuple == *tuple)
    }

    pub(super) fn tuple(&self, slot: u32) -> FourTuple {
        self.slots.at(slot).tuple
    }

    pub(super) fn app(&self, slot: u32) -> u8 {
        self.slots.at(slot).app
    }

    pub(super) fn word(&self, slot: u32) -> u64 {
        self.slots.at(slot).word
    }

    pub(super) fn set_word(&mut self, slot: u32, word: u64) {
        self.slots.at_mut(slot).word = word;
    }

    pub(super) fn timer(&self, slot: u32) -> WheelLink {
        self.slots.at(slot).timer
    }

    pub(super) fn timer_mut(&mut self, slot: u32) -> &mut WheelLink {
        &mut self.slots.at_mut(slot).timer
    }
}

impl Active {
    fn new(conn: Connection, opened: bool) -> Self {
        Active {
            conn,
            in_table: true,
            opened,
            told: false,
            starved: false,
            way: Way::NONE,
            in_ready: false,
            in_events: false,
        }
    }

    /// It is in one of the queues.
    pub(super) fn is_queued(&self) -> bool {
        self.in_ready || self.in_events
    }

    /// Nothing outside the connection keeps it awake.
    pub(super) fn is_idle(&self) -> bool {
        self.in_table && self.opened && !self.told && !self.starved && !self.is_queued()
    }
}

impl Index<u32> for Records {
    type Output = Active;
    #[inline]
    fn index(&self, slot: u32) -> &Active {
        self.get(slot).expect(AWAKE)
    }
}

impl IndexMut<u32> for Records {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut Active {
        self.both_mut(slot).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_sleeps_takes_one_cache_line() {
        assert_eq!(SLOT_BYTES, 64);
    }
}
