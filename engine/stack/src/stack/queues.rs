//! The lines in which active connections wait: to be asked for segments, and to tell their application
//! of events. They hold record numbers, each at most once in a line, so that none is longer than there
//! are active connections; the records know in which they wait.

use super::record::Active;

/// Places at the front that nobody waits in any more, before the others move up.
const LEFT_MIN: usize = 4096;

/// Record numbers, first come, first served. Most lines come to their end within a turn and begin anew.
#[derive(Debug, Default)]
pub(super) struct Line {
    numbers: Vec<u32>,
    /// Where the first of those that still wait is.
    first: usize,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    pub(super) fn front(&self) -> Option<u32> {
        self.numbers.get(self.first).copied()
    }

    #[inline]
    pub(super) fn push(&mut self, slot: u32) {
        self.numbers.push(slot);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<u32> {
        let slot = self.front()?;
        self.first += 1;
        if self.first == self.numbers.len() {
            self.numbers.clear();
            self.first = 0;
        } else if self.first >= LEFT_MIN && self.first * 2 >= self.numbers.len() {
            // Each number moves once at most for each that has left.
            self.numbers.drain(..self.first);
            self.first = 0;
        }
        Some(slot)
    }
}

impl Extend<u32> for Line {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, slots: I) {
        self.numbers.extend(slots);
    }
}

/// Both lines of a stack.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Records that may have something to send.
    pub(super) ready: Line,
    /// Records with events for their application.
    pub(super) events: Line,
}

impl Queues {
    /// Anything may have happened to the connection: it is asked for segments in this turn, and tells
    /// what there is to tell.
    #[inline]
    pub(super) fn take_up(&mut self, slot: u32, active: &mut Active) {
        if !active.in_ready {
            active.in_ready = true;
            self.ready.push(slot);
        }
        if active.conn.has_events() && !active.in_events {
            active.in_events = true;
            self.events.push(slot);
        }
    }

    /// The first in `ready`, whose record this is, has nothing to send for now.
    #[inline]
    pub(super) fn pop_ready(&mut self, active: &mut Active) {
        self.ready.pop();
        active.in_ready = false;
    }

    /// The first in `ready` goes to the end.
    pub(super) fn rotate(&mut self) {
        if let Some(slot) = self.ready.pop() {
            self.ready.push(slot);
        }
    }

    /// Bytes of memory that they take.
    pub(super) fn bytes(&self) -> usize {
        (self.ready.numbers.capacity() + self.events.numbers.capacity()) * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// First come, first served, and no room is kept for those that have left.
        #[test]
        fn a_line_keeps_its_order(steps in prop::collection::vec((0u32..3 * LEFT_MIN as u32, 0u32..3 * LEFT_MIN as u32), 1..20)) {
            let (mut line, mut model, mut n) = (Line::default(), VecDeque::new(), 0);
            for (n_in, n_out) in steps {
                line.extend(n..n + n_in);
                model.extend(n..n + n_in);
                n += n_in;
                for _ in 0..n_out {
                    prop_assert_eq!(line.front(), model.front().copied());
                    prop_assert_eq!(line.pop(), model.pop_front());
                    prop_assert!(line.numbers.len() <= (2 * model.len()).max(model.len() + LEFT_MIN));
                    prop_assert_eq!(line.is_empty(), model.is_empty());
                }
            }
        }
    }
}
