//! Next hops and their MAC addresses. The stack asks by ARP (RFC 826) for addresses it owns, or lets
//! the kernel be asked; either way the number of entries is bounded, only answers to questions are
//! believed, and records that wait for an answer hang on the entry they wait for.

use super::config::Resolver;
use super::queues::Queues;
use crate::flow::Keyed;
use crate::stats::{Counter, Counters};
use crate::time::{Duration, Instant};
use crate::wire::ethernet::Mac;
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

/// Time between requests for one next hop.
const RETRY: Duration = Duration::from_secs(1);

/// Requests before a next hop counts as unreachable.
const TRIES_MAX: u8 = 3;

/// How long an answer is used before it is asked for again.
const LIFETIME: Duration = Duration::from_secs(60);

/// What is left of an answer's lifetime while it is too young to be doubted: the first five seconds.
const TRUSTED_LEFT: Duration = Duration::from_secs(55);

/// How long an unreachable next hop fails at once, before it is asked for again.
const NEGATIVE: Duration = Duration::from_secs(3);

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// It is known; [`Neighbors::at`] has the MAC for a while.
    Way(Way),
    /// Asked; wait.
    Wait,
    /// It does not answer.
    Unreachable,
}

/// Where an entry was found, so that it need not be sought for every segment. An entry that goes leaves
/// another generation behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    at: u32,
    generation: u32,
}

impl Way {
    /// Nowhere yet.
    pub(super) const NONE: Way = Way { at: u32::MAX, generation: 0 };
}

#[derive(Debug)]
struct Neighbor {
    /// How many entries were in this place before.
    generation: u32,
    mac: Option<Mac>,
    /// When the MAC is old, the next request is due, or a failure is forgotten.
    deadline: Instant,
    tries: u8,
    /// One of our addresses, to ask from.
    asker: Ipv4Addr,
    /// Records that wait for an answer, in their order.
    waiting: Vec<u32>,
}

/// A question to put on the wire, or to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) target: Ipv4Addr,
    pub(super) asker: Ipv4Addr,
}

/// All next hops of a stack.
#[derive(Debug)]
pub(super) struct Neighbors {
    /// Where the entry of an address is in `entries`.
    places: HashMap<Ipv4Addr, u32, Keyed>,
    /// That of the address that was looked up last: most connections of a host have the same next hop.
    last: Option<(Ipv4Addr, u32)>,
    /// As many as there ever were at a time.
    entries: Vec<Neighbor>,
    /// Places in `entries` that nobody has.
    free: Vec<u32>,
    /// Addresses in the order in which they were added, for eviction; as many as entries.
    order: VecDeque<Ipv4Addr>,
    /// Addresses whose deadline matters, because a question is open; bounded like the entries.
    open: VecDeque<Ipv4Addr>,
    /// Questions to send now.
    due: VecDeque<Question>,
    max: usize,
    pub(super) resolver: Resolver,
}

impl Neighbors {
    pub(super) fn new(max: u32, resolver: Resolver, key: [u64; 2]) -> Self {
        Neighbors {
            places: HashMap::with_hasher(Keyed(key)),
            last: None,
            entries: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            open: VecDeque::new(),
            due: VecDeque::new(),
            max: max as usize,
            resolver,
        }
    }

    /// The MAC at the end of a way, while it is young or was asked for again.
    pub(super) fn at(&self, now: Instant, way: Way) -> Option<Mac> {
        let entry = self.entries.get(way.at as usize)?;
        let is_good = now < entry.deadline || entry.tries > 0;
        entry.mac.filter(|_| entry.generation == way.generation && is_good)
    }

    /// What is known of `target`; asks if nothing is, or if what is known is old.
    pub(super) fn lookup(
        &mut self,
        now: Instant,
        target: Ipv4Addr,
        asker: Ipv4Addr,
        stats: &mut Counters,
    ) -> Hop {
        let known = self.last.filter(|(addr, _)| *addr == target).map(|(_, at)| at);
        let known = known.or_else(|| self.places.get(&target).copied());
        let Some(at) = known.or_else(|| self.add(now, target, asker, None, stats)) else {
            return Hop::Unreachable;
        };
        self.last = Some((target, at));
        let entry = &mut self.entries[at as usize];
        let given_up = entry.tries > TRIES_MAX;
        if now >= entry.deadline && (entry.tries == 0 || given_up) {
            entry.tries = 0;
            entry.asker = asker;
            Self::ask(&mut self.due, &mut self.open, now, target, entry);
        }
        match entry.mac {
            Some(_) => Hop::Way(Way { at, generation: entry.generation }),
            None if entry.tries > TRIES_MAX => Hop::Unreachable,
            None => Hop::Wait,
        }
    }

    /// Segments by way of `target` get no answer (RFC 9293 section 3.8.3): it is asked for again before
    /// the next one leaves, unless it answered just now. What is known of it is used until then.
    pub(super) fn doubt(&mut self, now: Instant, target: Ipv4Addr, stats: &mut Counters) {
        let Some(entry) = self.entry(target) else { return };
        let is_recent = now + TRUSTED_LEFT < entry.deadline;
        if entry.mac.is_some() && entry.tries == 0 && now < entry.deadline && !is_recent {
            entry.deadline = now;
            stats.inc(Counter::NeighborDoubted);
        }
    }

    /// The record at the front of `ready` waits for `target`, which [`Hop::Wait`] was said of.
    pub(super) fn park(&mut self, queues: &mut Queues, target: Ipv4Addr) {
        if let Some(entry) = self.entry(target) {
            entry.waiting.extend(queues.ready.pop());
        }
    }

    /// A MAC for a next hop that is in the list; nothing else is believed. False when it is not.
    pub(super) fn learn(
        &mut self,
        now: Instant,
        addr: Ipv4Addr,
        mac: Mac,
        queues: &mut Queues,
    ) -> bool {
        let Some(entry) = self.entry(addr) else { return false };
        entry.mac = Some(mac);
        entry.tries = 0;
        entry.deadline = now + LIFETIME;
        queues.ready.extend(std::mem::take(&mut entry.waiting));
        true
    }

    /// Remembers a peer that asked for one of our addresses, if there is room without evicting.
    pub(super) fn note_asker(
        &mut self,
        now: Instant,
        addr: Ipv4Addr,
        mac: Mac,
        stats: &mut Counters,
    ) {
        if self.places.len() >= self.max {
            stats.inc(Counter::NeighborFull);
        } else if !self.places.contains_key(&addr) {
            self.add(now, addr, Ipv4Addr::UNSPECIFIED, Some(mac), stats);
        }
    }

    /// The next question that is due.
    pub(super) fn poll_question(&mut self) -> Option<Question> {
        self.due.pop_front()
    }

    /// Repeats or gives up questions whose time has come; records that waited in vain go back to
    /// vain, to find their next hop unreachable.
    pub(super) fn on_timeout(&mut self, now: Instant, queues: &mut Queues, stats: &mut Counters) {
        for _ in 0..self.open.len() {
            let Some(addr) = self.open.pop_front() else { return };
            let Some(&at) = self.places.get(&addr) else { continue };
            let entry = &mut self.entries[at as usize];
            if entry.tries == 0 || entry.tries > TRIES_MAX {
                continue;
            }
            if now < entry.deadline {
                self.open.push_back(addr);
            } else if entry.tries < TRIES_MAX {
                Self::ask(&mut self.due, &mut self.open, now, addr, entry);
            } else {
                entry.tries = TRIES_MAX + 1;
                entry.mac = None;
                entry.deadline = now + NEGATIVE;
                queues.ready.extend(std::mem::take(&mut entry.waiting));
                stats.inc(Counter::NeighborFailed);
            }
        }
    }

    /// When [`Neighbors::on_timeout`] has work.
    pub(super) fn next(&self) -> Option<Instant> {
        let places = self.open.iter().filter_map(|addr| self.places.get(addr));
        places.map(|&at| self.entries[at as usize].deadline).min()
    }

    fn entry(&mut self, addr: Ipv4Addr) -> Option<&mut Neighbor> {
        let at = *self.places.get(&addr)?;
        Some(&mut self.entries[at as usize])
    }

    fn ask(
        due: &mut VecDeque<Question>,
        open: &mut VecDeque<Ipv4Addr>,
        now: Instant,
        target: Ipv4Addr,
        entry: &mut Neighbor,
    ) {
        entry.tries += 1;
        entry.deadline = now + RETRY;
        due.push_back(Question { target, asker: entry.asker });
        open.push_back(target);
    }

    /// Adds an entry; makes room by dropping the oldest that nobody waits for. Where it is.
    fn add(
        &mut self,
        now: Instant,
        addr: Ipv4Addr,
        asker: Ipv4Addr,
        mac: Option<Mac>,
        stats: &mut Counters,
    ) -> Option<u32> {
        if self.places.len() >= self.max && !self.evict() {
            stats.inc(Counter::NeighborFull);
            return None;
        }
        let deadline = if mac.is_some() { now + LIFETIME } else { now };
        let waiting = Vec::new();
        let mut entry = Neighbor { generation: 0, mac, deadline, tries: 0, asker, waiting };
        let at = match self.free.pop() {
            Some(at) => {
                entry.generation = self.entries[at as usize].generation;
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.places.insert(addr, at);
        self.order.push_back(addr);
        Some(at)
    }

    /// Drops one of the oldest entries; looks at a few, so that a turn stays bounded.
    fn evict(&mut self) -> bool {
        const LOOKS: usize = 16;
        for _ in 0..LOOKS.min(self.order.len()) {
            let Some(addr) = self.order.pop_front() else { return false };
            if self.entry(addr).is_some_and(|entry| !entry.waiting.is_empty()) {
                self.order.push_back(addr);
                continue;
            }
            self.last = self.last.filter(|(last, _)| *last != addr);
            if let Some(at) = self.places.remove(&addr) {
                let generation = &mut self.entries[at as usize].generation;
                *generation = generation.wrapping_add(1);
                self.free.push(at);
            }
            return true;
        }
        false
    }
}
