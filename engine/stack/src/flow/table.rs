//! The connection table of one worker: four-tuple to where the connection's record is. The hash is
//! keyed, so that no peer can choose tuples that collide. The table is split into groups by hash bits,
//! and each group is an open-addressed table of its own that grows by a sixteenth: memory follows the
//! live connections closely, and the longest pause is the growth of one group. The entries of a group lie
//! in the order of their hashes, so that a search for what is not there ends where it would have been.
//! The tuples themselves stay in the records; an entry of six bytes holds the number of the record, which
//! kind it is, and enough of the hash to find the entry's place again.

use super::{FourTuple, Keyed};

/// Groups of a table. At ten million connections a group holds 2,400, and moving them takes some
/// microseconds.
const GROUPS: usize = 4096;

/// Entries of the smallest group that holds anything.
const GROUP_MIN: u32 = 8;

const NUMBER_BITS: u32 = 27;
const TAG_BITS: u32 = 20;

/// Records of a kind are numbered below this: 134 million.
pub const RECORDS_MAX: u32 = 1 << NUMBER_BITS;

/// Bytes that an entry takes at most in a table that has grown: its own six, and its share of the free
/// ones, rounded up.
pub const ENTRY_BYTES_MAX: usize = (size_of::<Entry>() * 16 * 33).div_ceil(13 * 32);

/// Where a connection's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Among the records of connections, with this number.
    Record(u32),
    /// Among those in TIME-WAIT.
    Rest(u32),
}

/// Maps four-tuples to places.
#[derive(Debug)]
pub struct Table {
    key: Keyed,
    groups: Vec<Group>,
    len: usize,
    /// Entries of all groups, free ones included.
    n_entries: usize,
}

/// 20 bits of the hash, the kind of the record, and its number; in three words so that it takes no
/// more than it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry([u16; 3]);

impl Entry {
    /// A free place: no record has the highest number.
    const EMPTY: Entry = Entry([u16::MAX; 3]);

    fn new(tag: u32, place: Place) -> Self {
        let (kind, number) = match place {
            Place::Record(number) => (0, number),
            Place::Rest(number) => (1, number),
        };
        debug_assert!(number < RECORDS_MAX - 1 && tag < 1 << TAG_BITS);
        let bits = (u64::from(tag) << 1 | kind) << NUMBER_BITS | u64::from(number);
        Entry([bits as u16, (bits >> 16) as u16, (bits >> 32) as u16])
    }

    #[inline]
    fn bits(self) -> u64 {
        let [low, mid, high] = self.0;
        u64::from(high) << 32 | u64::from(mid) << 16 | u64::from(low)
    }

    #[inline]
    fn tag(self) -> u32 {
        (self.bits() >> (NUMBER_BITS + 1)) as u32
    }

    #[inline]
    fn place(self) -> Place {
        let bits = self.bits();
        let number = bits as u32 & (RECORDS_MAX - 1);
        if bits >> NUMBER_BITS & 1 == 0 { Place::Record(number) } else { Place::Rest(number) }
    }
}

/// A linear-probing table of any size, sorted by the bits of its entries, whose load lies between 13/16
/// and 7/8 once it has grown. A search does not wrap: behind the last home there is some room for entries
/// that were pushed on.
#[derive(Debug, Default)]
struct Group {
    entries: Box<[Entry]>,
    len: u32,
    /// Places that are some entry's home; the rest of `entries` comes after them.
    n_homes: u32,
}

impl Table {
    /// An empty table whose hash uses `key`.
    pub fn new(key: [u64; 2]) -> Self {
        let groups = std::iter::repeat_with(Group::default).take(GROUPS).collect();
        Table { key: Keyed(key), groups, len: 0, n_entries: 0 }
    }

    /// How many tuples it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Shows `visit` where the record of `tuple` may be, until it has found something there; what it has
    /// found. Only whoever holds the records can compare their tuples.
    #[inline]
    pub fn find<R>(&self, tuple: &FourTuple, visit: impl Fn(Place) -> Option<R>) -> Option<R> {
        let (group, tag) = self.spot(tuple);
        self.groups[group].seek(tag, |_, place| visit(place))
    }

    /// Where the record of `tuple` probably is, if there is one: one tuple of a million is taken for
    /// another. Nothing but the table is read.
    #[inline]
    pub fn guess(&self, tuple: &FourTuple) -> Option<Place> {
        self.find(tuple, Some)
    }

    /// Adds a tuple that is not in the table.
    pub fn insert(&mut self, tuple: &FourTuple, place: Place) {
        let (group, tag) = self.spot(tuple);
        self.change(group, |group| group.insert(Entry::new(tag, place)));
        self.len += 1;
    }

    /// Removes `tuple`, whose record is at `place`. False when it is not there.
    pub fn remove(&mut self, tuple: &FourTuple, place: Place) -> bool {
        let (group, tag) = self.spot(tuple);
        let Some(at) = self.groups[group].position(tag, |p| p == place) else { return false };
        self.change(group, |group| group.remove(at));
        self.len -= 1;
        true
    }

    /// The record of `tuple` moves from one place to another. False when it is not there.
    pub fn relocate(&mut self, tuple: &FourTuple, from: Place, to: Place) -> bool {
        let (group, tag) = self.spot(tuple);
        let group = &mut self.groups[group];
        let Some(at) = group.position(tag, |p| p == from) else { return false };
        group.entries[at] = Entry::new(tag, to);
        true
    }

    /// Bytes of memory that the table takes.
    pub fn bytes(&self) -> usize {
        self.n_entries * size_of::<Entry>() + GROUPS * size_of::<Group>()
    }

    fn change(&mut self, group: usize, change: impl FnOnce(&mut Group)) {
        let group = &mut self.groups[group];
        let before = group.entries.len();
        change(group);
        self.n_entries = self.n_entries + group.entries.len() - before;
    }

    /// Group and tag of a tuple.
    #[inline]
    fn spot(&self, tuple: &FourTuple) -> (usize, u32) {
        let hash = self.key.hash(tuple);
        ((hash >> 32) as usize % GROUPS, hash as u32 >> (32 - TAG_BITS))
    }
}

impl Group {
    /// Where an entry with this tag belongs: the tag as a fraction of the size, so that any size will
    /// do and none needs a division.
    #[inline]
    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * u64::from(self.n_homes)) >> TAG_BITS) as usize
    }

    /// Shows `visit` the entries with this tag, until it has found what it looks for.
    #[inline]
    fn seek<R>(&self, tag: u32, mut visit: impl FnMut(usize, Place) -> Option<R>) -> Option<R> {
        let home = self.home(tag);
        for (n, &entry) in self.entries[home..].iter().enumerate() {
            if entry.tag() < tag {
                continue;
            }
            // A free place has the highest tag.
            if entry.tag() > tag || entry == Entry::EMPTY {
                return None;
            }
            if let Some(found) = visit(home + n, entry.place()) {
                return Some(found);
            }
        }
        None
    }

    fn position(&self, tag: u32, is_it: impl Fn(Place) -> bool) -> Option<usize> {
        self.seek(tag, |at, place| is_it(place).then_some(at))
    }

    fn insert(&mut self, entry: Entry) {
        if (self.len + 1) * 8 > self.n_homes * 7 {
            self.grow();
        }
        while !self.put(entry) {
            self.grow();
        }
        self.len += 1;
    }

    /// Puts an entry in its place and pushes those that come after it on, up to the next free place.
    /// False when there is none.
    fn put(&mut self, entry: Entry) -> bool {
        let home = self.home(entry.tag());
        let n_before = self.entries[home..].iter().take_while(|e| e.bits() < entry.bits()).count();
        let at = home + n_before;
        let mut rest = self.entries[at..].iter();
        let Some(n_pushed) = rest.position(|&e| e == Entry::EMPTY) else { return false };
        self.entries.copy_within(at..at + n_pushed, at + 1);
        self.entries[at] = entry;
        true
    }

    /// Frees a place and moves those that were pushed on by its entry back.
    fn remove(&mut self, at: usize) {
        let is_pushed = |&(n, entry): &(usize, &Entry)| {
            *entry != Entry::EMPTY && self.home(entry.tag()) < at + 1 + n
        };
        let n_pushed = self.entries[at + 1..].iter().enumerate().take_while(is_pushed).count();
        self.entries.copy_within(at + 1..at + 1 + n_pushed, at);
        self.entries[at + n_pushed] = Entry::EMPTY;
        self.len -= 1;
        // Memory comes back when connections go: at half full, down to two thirds.
        if self.len == 0 {
            *self = Group::default();
        } else if self.len * 2 < self.n_homes && self.n_homes > GROUP_MIN {
            self.resize((self.len * 3 / 2).max(GROUP_MIN));
        }
    }

    fn grow(&mut self) {
        self.resize((self.n_homes + self.n_homes / 16 + 1).max(GROUP_MIN));
    }

    /// Gives the group so many homes, or more if the last entries do not fit behind them.
    fn resize(&mut self, n_homes: u32) {
        let size = (n_homes + n_homes / 32 + 2) as usize;
        let old = std::mem::replace(&mut self.entries, vec![Entry::EMPTY; size].into());
        self.n_homes = n_homes;
        let mut next = 0;
        for &entry in old.iter().filter(|&&entry| entry != Entry::EMPTY) {
            next = self.home(entry.tag()).max(next);
            let Some(place) = self.entries.get_mut(next) else {
                self.entries = old;
                return self.grow();
            };
            *place = entry;
            next += 1;
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

    /// Number `n` finds itself, whatever kind its record is.
    fn find(table: &Table, n: u32) -> Option<u32> {
        table.find(&tuple(n), |place| {
            let (Place::Record(number) | Place::Rest(number)) = place;
            (number == n).then_some(number)
        })
    }

    proptest! {
        /// Any sequence of insertions and removals behaves like a map.
        #[test]
        fn behaves_like_a_map(operations in prop::collection::vec((0u8..3, 0u32..300), 1..2000)) {
            let mut table = Table::new([1, 2]);
            let mut model: HashMap<u32, u32> = HashMap::new();
            for (operation, n) in operations {
                let is_in = model.contains_key(&n);
                if operation == 0 && !is_in {
                    table.insert(&tuple(n), Place::Record(n));
                    model.insert(n, n);
                } else if operation == 1 {
                    // Moved and back: no entry is lost, and none is found where it was.
                    let (from, to) = (Place::Record(n), Place::Rest(n));
                    prop_assert_eq!(table.relocate(&tuple(n), from, to), is_in);
                    prop_assert!(!table.remove(&tuple(n), from));
                    prop_assert_eq!(table.relocate(&tuple(n), to, from), is_in);
                } else if operation == 2 {
                    prop_assert_eq!(table.remove(&tuple(n), Place::Record(n)), is_in);
                    model.remove(&n);
                }
                prop_assert_eq!(find(&table, n), model.get(&n).copied());
            }
            prop_assert_eq!(table.len(), model.len());
            for n in 0..300 {
                prop_assert_eq!(find(&table, n), model.get(&n).copied());
            }
        }
    }

    proptest! {
        /// A group whose entries crowd at one end of it, with equal tags among them.
        #[test]
        fn a_crowded_group_finds_what_it_holds(
            at_the_end in any::<bool>(),
            operations in prop::collection::vec((any::<bool>(), 0u32..40, 0u32..60), 1..400),
        ) {
            let mut group = Group::default();
            let mut model = HashMap::new();
            for (inserts, tag, number) in operations {
                let tag = if at_the_end { (1 << TAG_BITS) - 1 - tag } else { tag };
                let place = Place::Record(number);
                if !inserts && let Some(tag) = model.remove(&number) {
                    let at = group.position(tag, |p| p == place).expect("it was inserted");
                    group.remove(at);
                } else if inserts && !model.contains_key(&number) {
                    model.insert(number, tag);
                    group.insert(Entry::new(tag, place));
                }
                for (&number, &tag) in &model {
                    prop_assert!(group.position(tag, |p| p == Place::Record(number)).is_some());
                }
                prop_assert_eq!(group.len as usize, model.len());
                let held = group.entries.iter().filter(|&&entry| entry != Entry::EMPTY);
                prop_assert!(held.clone().is_sorted_by_key(|entry| entry.bits()));
                prop_assert_eq!(held.count(), model.len());
            }
        }
    }

    #[test]
    fn memory_follows_the_connections_up_and_down() {
        const N: u32 = 1_000_000;
        let mut table = Table::new([3, 4]);
        let empty = table.bytes();
        for n in 0..N {
            table.insert(&tuple(n), Place::Record(n));
            if n % 1000 == 0 && n >= N / 2 {
                let each = (table.bytes() - empty) as f64 / f64::from(n + 1);
                assert!(each < 7.7, "{each} bytes per entry at {n}");
            }
        }
        for n in 0..N {
            assert!(table.remove(&tuple(n), Place::Record(n)));
        }
        assert!(table.is_empty());
        assert_eq!(table.bytes(), empty);
    }
}
