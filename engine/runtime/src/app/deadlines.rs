//! Connections for which something is due a constant time after it was asked for: since the time is
//! the same for all, a queue in the order of asking is in the order of the deadlines, and nothing
//! is ever searched. It does not know which connections have ended; acting on an old id does
//! nothing.

use barewire_stack::stack::ConnId;
use barewire_stack::time::{Duration, Instant};
use std::collections::VecDeque;

/// A bounded queue of deadlines.
#[derive(Debug)]
pub(super) struct Deadlines {
    after: Duration,
    queue: VecDeque<(Instant, ConnId)>,
    n_max: usize,
}

impl Deadlines {
    /// A queue for at most `n_max` connections, each due `after` it is added.
    pub(super) fn new(after: Duration, n_max: usize) -> Self {
        Deadlines { after, queue: VecDeque::new(), n_max }
    }

    /// Adds a connection. False when the queue is full.
    pub(super) fn add(&mut self, now: Instant, id: ConnId) -> bool {
        let fits = self.queue.len() < self.n_max;
        if fits {
            self.queue.push_back((now + self.after, id));
        }
        fits
    }

    /// Takes the oldest connection that is due.
    pub(super) fn expire(&mut self, now: Instant) -> Option<ConnId> {
        let due = self.queue.front().is_some_and(|&(at, _)| at <= now);
        if due { self.queue.pop_front().map(|(_, id)| id) } else { None }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_order_and_what_does_not_fit_is_refused() {
        let id = |slot| ConnId { slot, generation: 0 };
        let at = |ms| Instant::ZERO + Duration::from_millis(ms);
        let mut deadlines = Deadlines::new(Duration::from_millis(10), 2);
        assert!(deadlines.add(at(0), id(7)));
        assert!(deadlines.add(at(5), id(8)));
        assert!(!deadlines.add(at(6), id(9)));
        assert_eq!((deadlines.expire(at(9)), deadlines.next()), (None, Some(at(10))));
        assert_eq!(deadlines.expire(at(20)), Some(id(7)));
        assert_eq!(deadlines.expire(at(20)), Some(id(8)));
        assert_eq!((deadlines.expire(at(20)), deadlines.next()), (None, None));
    }
}
