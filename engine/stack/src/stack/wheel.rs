//! The timing wheel: one entry per connection, at its earliest deadline, in millisecond ticks. Four
//! levels of 256 slots cover 49 days; the links are in the records. A deadline that moves later
//! is left where it is and looked at again when the entry comes up, so that traffic which rearms a
//! timer with every segment does not touch the wheel. Nothing scans connections, and a turn handles
//! a bounded number of entries, however many fall due in one tick.

use super::record::Records;
use crate::tcp::Tick;

const LEVELS: usize = 4;
const SLOTS: usize = 256;
const SLOT_BITS: u32 = 8;

const NIL: u32 = u32::MAX;

/// In the place of the one before, the first of a list has this and the number of its list.
const HEAD: u32 = 1 << 31;

/// A record's place in the wheel. 12 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct WheelLink {
    /// The record before this one; [`NIL`] when it is in no list.
    prev: u32,
    next: u32,
    /// The tick at which the entry comes up; not later than the connection's own deadline. In no
    /// list it is the holder's to use.
    pub(super) at: Tick,
}

impl WheelLink {
    pub(super) const fn new() -> Self {
        WheelLink { prev: NIL, next: NIL, at: Tick::NEVER }
    }

    /// A deadline needs no attention: it is none, or the record comes up by then as it is.
    pub(super) fn comes_up_by(&self, deadline: Tick) -> bool {
        !deadline.is_armed() || (self.prev != NIL && self.at.until(deadline) <= 0)
    }
}

/// The wheel of one stack.
#[derive(Debug)]
pub(super) struct Wheel {
    heads: Vec<u32>,
    /// One bit per slot that is not empty, per level.
    occupied: [[u64; SLOTS / 64]; LEVELS],
    /// The tick whose slots are being emptied; a turn may end before they are.
    now: u32,
}

impl Wheel {
    pub(super) fn new(now: Tick) -> Self {
        Wheel {
            heads: vec![NIL; LEVELS * SLOTS],
            occupied: [[0; SLOTS / 64]; LEVELS],
            now: now.value(),
        }
    }

    /// Makes sure that the record comes up at `deadline` or before.
    pub(super) fn arm(&mut self, records: &mut Records, slot: u32, deadline: Tick) {
        let link = records.timer(slot);
        if link.comes_up_by(deadline) {
            return;
        }
        if link.prev != NIL {
            self.unlink(records, link);
        }
        self.push(records, slot, deadline);
    }

    /// Takes the record out.
    pub(super) fn remove(&mut self, records: &mut Records, slot: u32) {
        let link = records.timer(slot);
        if link.prev != NIL {
            self.unlink(records, link);
            *records.timer_mut(slot) = WheelLink { prev: NIL, next: NIL, at: link.at };
        }
    }

    /// Joins the neighbours of a record that leaves its list.
    fn unlink(&mut self, records: &mut Records, WheelLink { prev, next, .. }: WheelLink) {
        if prev & HEAD == 0 {
            records.timer_mut(prev).next = next;
        } else {
            let list = (prev & !HEAD) as u16;
            self.heads[usize::from(list)] = next;
            self.mark(list, next != NIL);
        }
        if next != NIL {
            records.timer_mut(next).prev = prev;
        }
    }

    /// The next record that comes up at `now` or before; it is out of the wheel then. Uses up one
    /// unit of `budget` for every entry it touches, and returns `None` when that is spent or
    /// nothing is left.
    pub(super) fn expire(
        &mut self,
        records: &mut Records,
        now: Tick,
        budget: &mut u32,
    ) -> Option<u32> {
        loop {
            if *budget == 0 {
                return None;
            }
            let Some(list) = self.current_list() else {
                if (now.value().wrapping_sub(self.now) as i32) <= 0 {
                    return None;
                }
                self.step(now);
                continue;
            };
            *budget -= 1;
            let slot = self.heads[usize::from(list)];
            self.remove(records, slot);
            if usize::from(list) < SLOTS {
                return Some(slot);
            }
            // It came up in a higher level: now its tick is near enough for a lower one.
            let at = records.timer(slot).at;
            self.push(records, slot, at);
        }
    }

    /// Something is due in the tick that was handled last.
    pub(super) fn has_due(&self) -> bool {
        self.current_list().is_some()
    }

    /// The earliest tick at which [`Wheel::expire`] has work; a boundary at which a slot of a
    /// higher level must be sorted counts as work.
    pub(super) fn next(&self) -> Option<Tick> {
        if self.current_list().is_some() {
            return Some(tick(self.now));
        }
        let nexts = (0..LEVELS).filter_map(|level| self.next_of_level(level));
        nexts.reduce(|a, b| a.earlier(b))
    }

    /// A list that must be emptied before time goes on: the slot of a higher level whose span
    /// begins at this tick, then this tick's own.
    fn current_list(&self) -> Option<u16> {
        (0..LEVELS)
            .rev()
            .filter(|level| self.now & ((1 << (SLOT_BITS * *level as u32)) - 1) == 0)
            .map(|level| self.list(level, self.now))
            .find(|&list| self.heads[usize::from(list)] != NIL)
    }

    /// Goes to the next tick at which something may be, at most to `now`.
    fn step(&mut self, now: Tick) {
        let left = now.value().wrapping_sub(self.now);
        let boundary = SLOTS as u32 - (self.now & (SLOTS as u32 - 1));
        let empty = self.occupied[0].iter().all(|&word| word == 0);
        self.now = self.now.wrapping_add(if empty { left.min(boundary) } else { 1 });
    }

    /// The slot of a level into which a tick falls.
    fn list(&self, level: usize, at: u32) -> u16 {
        (level * SLOTS + (at >> (SLOT_BITS * level as u32)) as usize % SLOTS) as u16
    }

    fn list_for(&self, at: Tick) -> u16 {
        let delta = at.until(tick(self.now));
        if delta <= 0 {
            return self.list(0, self.now);
        }
        let level = match delta as u32 {
            d if d < 1 << 8 => 0,
            d if d < 1 << 16 => 1,
            d if d < 1 << 24 => 2,
            _ => 3,
        };
        self.list(level, at.value())
    }

    fn push(&mut self, records: &mut Records, slot: u32, at: Tick) {
        let list = self.list_for(at);
        let head = std::mem::replace(&mut self.heads[usize::from(list)], slot);
        *records.timer_mut(slot) = WheelLink { prev: HEAD | u32::from(list), next: head, at };
        if head != NIL {
            records.timer_mut(head).prev = slot;
        } else {
            self.mark(list, true);
        }
    }

    fn mark(&mut self, list: u16, on: bool) {
        let (level, idx) = (usize::from(list) / SLOTS, usize::from(list) % SLOTS);
        let word = &mut self.occupied[level][idx / 64];
        let bit = 1 << (idx % 64);
        *word = if on { *word | bit } else { *word & !bit };
    }

    /// When the next occupied slot of a level comes up.
    fn next_of_level(&self, level: usize) -> Option<Tick> {
        let shift = SLOT_BITS * level as u32;
        let current = self.now >> shift;
        let is_occupied = |idx: usize| self.occupied[level][idx / 64] >> (idx % 64) & 1 == 1;
        if self.occupied[level].iter().all(|&word| word == 0) {
            return None;
        }
        (1..=SLOTS as u32)
            .map(|ahead| current.wrapping_add(ahead))
            .find(|&n| is_occupied(n as usize % SLOTS))
            .map(|n| tick(n << shift))
    }
}

fn tick(ms: u32) -> Tick {
    Tick::of_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FourTuple;
    use crate::stats::Counters;
    use crate::tcp::buffer::Pool;
    use crate::tcp::scoreboard::Segments;
    use crate::tcp::{Connection, Context, Moment, Opening, Seq, TcpConfig};
    use crate::time::Instant;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, SocketAddrV4};

    fn records(n: u16) -> Records {
        let (mut pool, mut stats, mut records) = (Pool::new(1), Counters::new(), Records::new());
        let (config, mut segments) = (TcpConfig::default(), Segments::new(1));
        for port in 0..n {
            let mut cx = Context {
                now: &Moment::of(Instant::ZERO),
                config: &config,
                pool: &mut pool,
                segments: &mut segments,
                stats: &mut stats,
            };
            let opening = Opening { iss: Seq(0), timestamp_offset: 0 };
            let conn = Connection::connect(&mut cx, opening);
            let addr = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            records.insert(conn, FourTuple::new(addr, addr), 0, 0);
        }
        records
    }

    proptest! {
        /// Whatever is armed, rearmed or removed: nothing comes up late, nothing before the
        /// earliest deadline it was ever given, nothing twice, and `next` never oversleeps.
        #[test]
        fn entries_come_up_in_time(
            start in prop_oneof![Just(1u32), Just(u32::MAX - 3000), any::<u32>()],
            steps in prop::collection::vec((0u32..50, 0u32..400_000, 0u32..3), 1..300),
        ) {
            let mut records = records(50);
            let mut wheel = Wheel::new(tick(start));
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            let mut now = start;
            for (slot, delta, action) in steps {
                match action {
                    0 => {
                        let at = now.wrapping_add(delta).max(1);
                        wheel.arm(&mut records, slot, tick(at));
                        let old = model.get(&slot).copied().unwrap_or(at);
                        model.insert(slot, if tick(old).until(tick(at)) <= 0 { old } else { at });
                    }
                    1 => {
                        wheel.remove(&mut records, slot);
                        model.remove(&slot);
                    }
                    _ => {
                        let earliest = model.values().map(|&at| tick(at).until(tick(now))).min();
                        match (wheel.next(), earliest) {
                            (Some(next), Some(earliest)) => prop_assert!(next.until(tick(now)) <= earliest.max(0)),
                            (None, Some(_)) => prop_assert!(false, "the wheel forgot an entry"),
                            _ => {}
                        }
                        now = now.wrapping_add(delta / 4).max(1);
                        let mut budget = 100_000;
                        while let Some(slot) = wheel.expire(&mut records, tick(now), &mut budget) {
                            let at = model.remove(&slot);
                            prop_assert!(at.is_some_and(|at| tick(at).until(tick(now)) <= 0));
                        }
                        prop_assert!(model.values().all(|&at| tick(at).until(tick(now)) > 0));
                    }
                }
            }
        }
    }

    #[test]
    fn a_crowd_in_one_tick_is_handled_in_portions() {
        let mut records = records(5000);
        let mut wheel = Wheel::new(tick(1));
        for slot in 0..5000 {
            wheel.arm(&mut records, slot, tick(70_000));
        }
        let (mut turns, mut seen) = (0, 0);
        while seen < 5000 {
            let mut budget = 100;
            while wheel.expire(&mut records, tick(70_000), &mut budget).is_some() {
                seen += 1;
            }
            turns += 1;
            assert!(turns <= 5000 * 3 / 100 + 10, "cascades are portioned too");
        }
        assert!(turns >= 50 && wheel.next().is_none());
    }
}
