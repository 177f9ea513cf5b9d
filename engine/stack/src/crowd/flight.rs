//! What a crowd has in flight: handshakes, requests without their response, and closes. There are no
//! more than `flights_max` of them, however many connections are open: they bound the memory, keep
//! the pace, and are all that is ever sent again. What a flight means is decided elsewhere.

use crate::flow::Keyed;
use crate::tcp::Seq;
use crate::time::{Duration, Instant};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// The first wait for an answer (RFC 6298 section 2.1); each repetition waits twice as long.
const RETRY: Duration = Duration::from_secs(1);

/// Doublings of [`RETRY`]: the timeout of a plan comes much earlier.
const DOUBLINGS_MAX: u8 = 6;

/// What a flight is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A SYN has no answer.
    Opening,
    /// The peer was asked for its sequence numbers, to do this with them.
    Asking(Purpose),
    /// A request has no whole response.
    Requesting,
    /// Our FIN is not acknowledged, or the peer's has not come.
    Closing,
    /// It is over and counted; only its RST has to leave.
    Resetting,
}

/// Why a connection is taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Request,
    Fin,
    Rst,
}

/// One thing in flight on one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    /// Which of the crowd's own connections.
    pub(super) idx: u64,
    pub(super) stage: Stage,
    /// When it began; its time runs from here.
    pub(super) since: Instant,
    /// The first number of what we send: of the request, or of the FIN.
    pub(super) snd: Seq,
    /// What we sent is acknowledged: it needs no repetition.
    pub(super) is_acked: bool,
    /// The next number expected.
    pub(super) rcv: Seq,
    /// Bytes of the response that came.
    pub(super) got: u32,
    /// The peer's FIN has come.
    pub(super) is_finished: bool,
    /// Requests that follow on this connection.
    pub(super) left: u32,
    /// The timestamp to echo: the last one that came.
    pub(super) ts_recent: u32,
    tries: u8,
    /// When it is looked at again.
    due: Instant,
    /// It waits for its turn to send.
    is_queued: bool,
}

/// All flights of a crowd. A place is the number of a flight while it lasts.
#[derive(Debug)]
pub(super) struct Flights {
    places: Vec<Option<Flight>>,
    free: Vec<u32>,
    of_idx: HashMap<u64, u32, Keyed>,
    due: BTreeSet<(Instant, u32)>,
    /// Places whose flight has something to send. One may be here for a flight that is gone.
    queue: VecDeque<u32>,
    len_max: u32,
}

impl Flights {
    /// Room for `len_max` flights; memory is taken as they come.
    pub(super) fn new(len_max: u32, key: [u64; 2]) -> Self {
        Flights {
            places: Vec::new(),
            free: Vec::new(),
            of_idx: HashMap::with_hasher(Keyed(key)),
            due: BTreeSet::new(),
            queue: VecDeque::new(),
            len_max,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.of_idx.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.len_max as usize
    }

    /// Handshakes among them.
    pub(super) fn n_opening(&self) -> u64 {
        let flights = self.places.iter().flatten();
        flights.filter(|flight| flight.stage == Stage::Opening).count() as u64
    }

    /// The place of what is in flight on connection `idx`.
    pub(super) fn find(&self, idx: u64) -> Option<u32> {
        self.of_idx.get(&idx).copied()
    }

    pub(super) fn get(&self, place: u32) -> Option<&Flight> {
        self.places.get(place as usize)?.as_ref()
    }

    /// The flight at a place that [`Flights::find`] or [`Flights::next_queued`] named.
    pub(super) fn get_mut(&mut self, place: u32) -> &mut Flight {
        self.places[place as usize].as_mut().expect("a place that was named has a flight")
    }

    /// Begins a flight on connection `idx`, which has none, and queues it. False when all are in use.
    pub(super) fn begin(&mut self, now: Instant, idx: u64, stage: Stage, left: u32) -> bool {
        if self.is_full() {
            return false;
        }
        let flight = Flight {
            idx,
            stage,
            since: now,
            snd: Seq(0),
            is_acked: false,
            rcv: Seq(0),
            got: 0,
            is_finished: false,
            left,
            ts_recent: 0,
            tries: 0,
            due: now + RETRY,
            is_queued: false,
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() as u32 - 1
        });
        self.places[place as usize] = Some(flight);
        self.of_idx.insert(idx, place);
        self.due.insert((now + RETRY, place));
        self.queue(place);
        true
    }

    /// The flight enters a stage at `now`, from which its time runs, and is queued.
    pub(super) fn enter(&mut self, now: Instant, place: u32, stage: Stage) {
        let flight = self.get_mut(place);
        (flight.stage, flight.since, flight.tries) = (stage, now, 0);
        (flight.is_acked, flight.got) = (false, 0);
        self.queue(place);
    }

    /// It has something to send. False when it waits for its turn already.
    pub(super) fn queue(&mut self, place: u32) -> bool {
        let is_new = !std::mem::replace(&mut self.get_mut(place).is_queued, true);
        if is_new {
            self.queue.push_back(place);
        }
        is_new
    }

    /// The flight that sends next; it stays in the queue until [`Flights::sent`] or
    /// [`Flights::pass`].
    pub(super) fn next_queued(&mut self) -> Option<u32> {
        while let Some(&place) = self.queue.front() {
            if self.get(place).is_some_and(|flight| flight.is_queued) {
                return Some(place);
            }
            self.queue.pop_front();
        }
        None
    }

    /// How many may be in the queue.
    pub(super) fn n_queued(&self) -> usize {
        self.queue.len()
    }

    /// The first in the queue cannot send now: others may try before it.
    pub(super) fn pass(&mut self) {
        if let Some(place) = self.queue.pop_front() {
            self.queue.push_back(place);
        }
    }

    /// The first in the queue has sent. It is looked at again when an answer should have come, or
    /// `give_up_at` if that is earlier. Returns whether it had sent the same before.
    pub(super) fn sent(&mut self, now: Instant, give_up_at: Instant) -> bool {
        let Some(place) = self.queue.pop_front() else { return false };
        let flight = self.get_mut(place);
        flight.is_queued = false;
        let is_repeated = flight.tries > 0;
        let wait = RETRY * (1 << flight.tries.min(DOUBLINGS_MAX));
        flight.tries = flight.tries.saturating_add(1);
        self.look_at(place, (now + wait).min(give_up_at));
        is_repeated
    }

    /// It is looked at again at `due`.
    pub(super) fn look_at(&mut self, place: u32, due: Instant) {
        let before = std::mem::replace(&mut self.get_mut(place).due, due);
        self.due.remove(&(before, place));
        self.due.insert((due, place));
    }

    /// A flight that is to be looked at by `now`: the one that waits longest.
    pub(super) fn overdue(&self, now: Instant) -> Option<u32> {
        self.due.first().filter(|&&(due, _)| due <= now).map(|&(_, place)| place)
    }

    /// When the next flight is to be looked at.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|&(due, _)| due)
    }

    /// Ends a flight; its place will be used again.
    pub(super) fn end(&mut self, place: u32) {
        if let Some(flight) = self.places[place as usize].take() {
            self.of_idx.remove(&flight.idx);
            self.due.remove(&(flight.due, place));
            self.free.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn begin(flights: &mut Flights, idx: u64) -> bool {
        flights.begin(at(0), idx, Stage::Opening, 0)
    }

    #[test]
    fn flights_are_bounded_and_found_by_their_connection() {
        let mut flights = Flights::new(2, [1, 2]);
        assert!(begin(&mut flights, 7) && begin(&mut flights, 9) && !begin(&mut flights, 11));
        let place = flights.find(9).expect("in flight");
        assert_eq!(flights.get_mut(place).idx, 9);
        flights.end(place);
        assert_eq!((flights.find(9), flights.len()), (None, 1));
        assert!(begin(&mut flights, 11) && flights.is_full());
    }

    #[test]
    fn what_gets_no_answer_is_looked_at_later_and_later() {
        let mut flights = Flights::new(2, [1, 2]);
        begin(&mut flights, 7);
        let mut now = at(0);
        for (repeated, wait) in [(false, 1_000), (true, 2_000), (true, 4_000)] {
            let place = flights.next_queued().expect("something to send");
            assert_eq!(flights.sent(now, at(60_000)), repeated);
            assert_eq!(flights.next_queued(), None);
            assert_eq!(flights.next_due(), Some(now + Duration::from_millis(wait)));
            now += Duration::from_millis(wait);
            assert_eq!(flights.overdue(now), Some(place));
            flights.queue(place);
        }
        flights.next_queued();
        flights.sent(now, now + Duration::from_millis(1));
        assert_eq!(flights.next_due(), Some(now + Duration::from_millis(1)), "it is given up then");
    }

    #[test]
    fn a_place_in_the_queue_does_not_outlive_its_flight() {
        let mut flights = Flights::new(2, [1, 2]);
        begin(&mut flights, 7);
        begin(&mut flights, 8);
        let first = flights.next_queued().expect("queued");
        flights.pass();
        assert_ne!(flights.next_queued(), Some(first));
        flights.end(first);
        begin(&mut flights, 9);
        let mut sent = Vec::new();
        while let Some(place) = flights.next_queued() {
            sent.push(flights.get_mut(place).idx);
            flights.sent(at(1), at(9));
        }
        assert_eq!(sent, [8, 9]);
        assert_eq!(flights.n_queued(), 0);
    }
}
