//! The virtual clock: what is to happen, in the order in which it will. Nothing waits: the clock
//! jumps from one event to the next, and events of the same instant keep the order in which they
//! were entered.

use crate::time::Instant;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Events that lie ahead.
#[derive(Debug)]
pub(super) struct Agenda<E> {
    now: Instant,
    entries: BinaryHeap<Reverse<Entry<E>>>,
    n_entered: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    number: u64,
    event: E,
}

impl<E> Agenda<E> {
    pub(super) fn new(now: Instant) -> Self {
        Agenda { now, entries: BinaryHeap::new(), n_entered: 0 }
    }

    /// The time of the last event taken.
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// Enters an event; one for the past happens next.
    pub(super) fn enter(&mut self, at: Instant, event: E) {
        self.n_entered += 1;
        let number = self.n_entered;
        self.entries.push(Reverse(Entry { at: at.max(self.now), number, event }));
    }

    /// Takes the next event, and sets the clock to it.
    pub(super) fn next(&mut self) -> Option<E> {
        let Reverse(entry) = self.entries.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_jumps_to_the_next_event_and_never_back() {
        let mut agenda = Agenda::new(Instant::from_nanos(5));
        for (at, event) in [(9, 'c'), (7, 'a'), (9, 'd'), (1, 'z')] {
            agenda.enter(Instant::from_nanos(at), event);
        }
        let order: Vec<(char, u64)> =
            std::iter::from_fn(|| agenda.next().map(|event| (event, agenda.now().as_nanos())))
                .collect();
        assert_eq!(order, [('z', 5), ('a', 7), ('c', 9), ('d', 9)]);
    }
}
