//! What is in flight: handshakes, requests without their response, and closes, each for no longer
//! than the plan's timeout. Since that is the same for all, a list in the order of their beginnings
//! is in the order of their deadlines. Memory is bounded by `outstanding_max`, and nothing in here
//! knows what a flight is about.

use super::exchange::Exchange;
use barewire_stack::stack::ConnId;
use barewire_stack::time::Instant;

const NIL: u32 = u32::MAX;

/// One thing in flight on one connection. It lies in one cache line: among many, each response finds its
/// own far away.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Flight {
    pub(super) id: ConnId,
    /// When it began.
    pub(super) since: Instant,
    /// The request and how far it is, for a connection that is busy.
    pub(super) exchange: Exchange,
    older: u32,
    /// The next in the list, or in that of the free places.
    newer: u32,
}

const _: () = assert!(size_of::<Flight>() == 64, "a flight lies in one cache line");

/// All flights of a worker, oldest first.
#[derive(Debug)]
pub(super) struct Flights {
    places: Vec<Flight>,
    free: u32,
    oldest: u32,
    newest: u32,
    len: u32,
    len_max: u32,
}

impl Flights {
    /// Room for `len_max` flights; memory is taken as they come.
    pub(super) fn new(len_max: u32) -> Self {
        Flights { places: Vec::new(), free: NIL, oldest: NIL, newest: NIL, len: 0, len_max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == self.len_max
    }

    /// How many can be begun.
    pub(super) fn n_free(&self) -> usize {
        (self.len_max - self.len) as usize
    }

    /// Begins a flight and returns its number.
    ///
    /// # Panics
    /// When all are in use: callers ask [`Flights::is_full`] first.
    pub(super) fn begin(&mut self, id: ConnId, now: Instant) -> u32 {
        assert!(!self.is_full(), "at most {} flights at a time", self.len_max);
        let exchange = Exchange::default();
        let flight = Flight { id, since: now, exchange, older: NIL, newer: NIL };
        let idx = self.free;
        self.len += 1;
        let idx = match self.places.get_mut(idx as usize) {
            Some(place) => {
                self.free = place.newer;
                *place = flight;
                idx
            }
            None => {
                self.places.push(flight);
                self.places.len() as u32 - 1
            }
        };
        self.append(idx);
        idx
    }

    /// The next thing begins on the same connection: its time runs from now.
    pub(super) fn renew(&mut self, idx: u32, now: Instant) {
        if idx != self.newest {
            self.unlink(idx);
            self.append(idx);
        }
        self.get_mut(idx).since = now;
    }

    /// Ends a flight; its number will be used again.
    pub(super) fn end(&mut self, idx: u32) {
        self.unlink(idx);
        let free = self.free;
        self.get_mut(idx).newer = free;
        self.free = idx;
        self.len -= 1;
    }

    /// The flight that began first.
    pub(super) fn oldest(&self) -> Option<&Flight> {
        self.places.get(self.oldest as usize)
    }

    pub(super) fn get_mut(&mut self, idx: u32) -> &mut Flight {
        &mut self.places[idx as usize]
    }

    fn append(&mut self, idx: u32) {
        let newest = self.newest;
        let flight = self.get_mut(idx);
        (flight.older, flight.newer) = (newest, NIL);
        match self.places.get_mut(newest as usize) {
            Some(before) => before.newer = idx,
            None => self.oldest = idx,
        }
        self.newest = idx;
    }

    fn unlink(&mut self, idx: u32) {
        let flight = self.get_mut(idx);
        let (older, newer) = (flight.older, flight.newer);
        match self.places.get_mut(older as usize) {
            Some(before) => before.newer = newer,
            None => self.oldest = newer,
        }
        match self.places.get_mut(newer as usize) {
            Some(after) => after.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Whatever begins, renews and ends, the oldest is the oldest and no place is lost.
        #[test]
        fn the_list_is_in_the_order_of_beginnings(
            steps in prop::collection::vec((0u8..3, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut flights = Flights::new(8);
            let mut model: VecDeque<(u32, Instant)> = VecDeque::new();
            for (n, (step, which)) in steps.into_iter().enumerate() {
                let now = Instant::from_nanos(n as u64);
                if step == 0 && !flights.is_full() {
                    let id = ConnId { slot: n as u32, generation: 0 };
                    model.push_back((flights.begin(id, now), now));
                } else if !model.is_empty() {
                    let (idx, _) = model.remove(which.index(model.len())).expect("in the model");
                    if step == 1 {
                        flights.renew(idx, now);
                        model.push_back((idx, now));
                    } else {
                        flights.end(idx);
                    }
                }
                prop_assert_eq!(flights.is_full(), model.len() == 8);
                prop_assert_eq!(flights.is_empty(), model.is_empty());
                let oldest = flights.oldest().map(|flight| flight.since);
                prop_assert_eq!(oldest, model.front().map(|&(_, since)| since));
                prop_assert!(flights.places.len() <= 8);
            }
        }
    }
}
