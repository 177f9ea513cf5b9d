//! The connection table of one worker: four-tuple to record number. The hash is keyed, so that no
//! peer can choose tuples that collide. The table is split into groups by hash bits, and each group
//! is an open-addressed table of its own that grows by itself: memory follows the live connections,
//! and the longest pause is the growth of one group. The tuples themselves stay in the records; an
//! entry holds the record number and the rest of the hash.

use super::FourTuple;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Groups of a table. At ten million connections a group holds 10,000, and moving them takes tens of
/// microseconds.
const GROUPS: usize = 1024;

/// Entries of the smallest group that holds anything.
const GROUP_MIN: usize = 4;

const EMPTY: u32 = u32::MAX;

/// Maps four-tuples to record numbers.
#[derive(Debug)]
pub struct Table {
    key: [u64; 2],
    groups: Vec<Group>,
    len: usize,
}

/// `tag` is the part of the hash that chooses the place inside the group; `record` is [`EMPTY`] in
/// a free place.
#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u32,
    record: u32,
}

/// A linear-probing table whose size is a power of two and whose load stays under 7/8.
#[derive(Debug, Default)]
struct Group {
    entries: Box<[Entry]>,
    len: u32,
}

impl Table {
    /// An empty table whose hash uses `key`.
    pub fn new(key: [u64; 2]) -> Self {
        let groups = std::iter::repeat_with(Group::default).take(GROUPS).collect();
        Table { key, groups, len: 0 }
    }

    /// How many tuples it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The record of `tuple`; `is_it` compares a candidate record's tuple with the one sought.
    pub fn find(&self, tuple: &FourTuple, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let (group, tag) = self.place(tuple);
        self.groups[group].position(tag, is_it).map(|at| self.groups[group].entries[at].record)
    }

    /// Adds a tuple that is not in the table.
    pub fn insert(&mut self, tuple: &FourTuple, record: u32) {
        let (group, tag) = self.place(tuple);
        self.groups[group].insert(Entry { tag, record });
        self.len += 1;
    }

    /// Removes `tuple`, whose record is `record`. False when it is not there.
    pub fn remove(&mut self, tuple: &FourTuple, record: u32) -> bool {
        let (group, tag) = self.place(tuple);
        let Some(at) = self.groups[group].position(tag, |r| r == record) else { return false };
        self.groups[group].remove(at);
        self.len -= 1;
        true
    }

    /// Bytes of memory that the table takes.
    pub fn bytes(&self) -> usize {
        let entries: usize = self.groups.iter().map(|g| g.entries.len()).sum();
        entries * size_of::<Entry>() + GROUPS * size_of::<Group>()
    }

    fn place(&self, tuple: &FourTuple) -> (usize, u32) {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write(&tuple.to_bytes());
        let hash = hasher.finish();
        ((hash >> 32) as usize % GROUPS, hash as u32)
    }
}

impl Group {
    fn mask(&self) -> usize {
        self.entries.len() - 1
    }

    fn position(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let mut at = tag as usize & self.mask();
        loop {
            let entry = self.entries[at];
            if entry.record == EMPTY {
                return None;
            }
            if entry.tag == tag && is_it(entry.record) {
                return Some(at);
            }
            at = (at + 1) & self.mask();
        }
    }

    fn insert(&mut self, entry: Entry) {
        if (self.len as usize + 1) * 8 > self.entries.len() * 7 {
            self.resize((self.entries.len() * 2).max(GROUP_MIN));
        }
        self.put(entry);
        self.len += 1;
    }

    fn put(&mut self, entry: Entry) {
        let mut at = entry.tag as usize & self.mask();
        while self.entries[at].record != EMPTY {
            at = (at + 1) & self.mask();
        }
        self.entries[at] = entry;
    }

    /// Frees a place and moves the entries behind it up, so that no search ends too early.
    fn remove(&mut self, at: usize) {
        let mask = self.mask();
        let (mut hole, mut next) = (at, (at + 1) & mask);
        while self.entries[next].record != EMPTY {
            let home = self.entries[next].tag as usize & mask;
            // The entry may move into the hole unless its home lies behind it.
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.entries[hole] = self.entries[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.entries[hole].record = EMPTY;
        self.len -= 1;
        // Memory comes back when connections go: halve at a quarter full.
        if self.entries.len() > GROUP_MIN && (self.len as usize) * 4 < self.entries.len() {
            self.resize(self.entries.len() / 2);
        }
    }

    fn resize(&mut self, size: usize) {
        let empty = vec![Entry { tag: 0, record: EMPTY }; size].into_boxed_slice();
        let old = std::mem::replace(&mut self.entries, empty);
        for entry in old.iter().filter(|e| e.record != EMPTY) {
            self.put(*entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::net::SocketAddrV4;

    fn tuple(n: u32) -> FourTuple {
        let port = (n % 60_000) as u16 + 1;
        let local = SocketAddrV4::new((0x0a00_0000 + n / 60_000).into(), port);
        FourTuple::new(local, SocketAddrV4::new([10, 9, 9, 9].into(), 80))
    }

    proptest! {
        /// Any sequence of insertions and removals behaves like a map.
        #[test]
        fn behaves_like_a_map(operations in prop::collection::vec((any::<bool>(), 0u32..300), 1..2000)) {
            let mut table = Table::new([1, 2]);
            let mut model: HashMap<u32, u32> = HashMap::new();
            for (insert, n) in operations {
                if insert && !model.contains_key(&n) {
                    table.insert(&tuple(n), n);
                    model.insert(n, n);
                } else if !insert {
                    prop_assert_eq!(table.remove(&tuple(n), n), model.remove(&n).is_some());
                }
                prop_assert_eq!(table.find(&tuple(n), |r| r == n), model.get(&n).copied());
            }
            prop_assert_eq!(table.len(), model.len());
            for n in 0..300 {
                prop_assert_eq!(table.find(&tuple(n), |r| r == n), model.get(&n).copied());
            }
        }
    }

    #[test]
    fn memory_follows_the_connections_up_and_down() {
        let mut table = Table::new([3, 4]);
        let empty = table.bytes();
        for n in 0..200_000 {
            table.insert(&tuple(n), n);
        }
        let full = table.bytes() - empty;
        assert!(full / 200_000 <= 19, "{} bytes per entry", full / 200_000);
        for n in 0..200_000 {
            assert!(table.remove(&tuple(n), n));
        }
        assert!(table.is_empty());
        assert!(table.bytes() - empty <= GROUPS * GROUP_MIN * size_of::<Entry>());
    }
}
