//! The queues in which active connections wait: to be asked for segments, and to tell their application
//! of events. They hold record numbers, each at most once in a queue, so that none is longer than there
//! are active connections; the records know in which they wait.

use super::record::Active;
use std::collections::VecDeque;

/// Both queues of a stack.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Records that may have something to send.
    pub(super) ready: VecDeque<u32>,
    /// Records with events for their application.
    pub(super) events: VecDeque<u32>,
}

impl Queues {
    /// Anything may have happened to the connection: it is asked for segments in this turn, and tells
    /// what there is to tell.
    #[inline]
    pub(super) fn take_up(&mut self, slot: u32, active: &mut Active) {
        if !active.in_ready {
            active.in_ready = true;
            self.ready.push_back(slot);
        }
        if active.conn.has_events() && !active.in_events {
            active.in_events = true;
            self.events.push_back(slot);
        }
    }

    /// The first in `ready`, whose record this is, has nothing to send for now.
    #[inline]
    pub(super) fn pop_ready(&mut self, active: &mut Active) {
        self.ready.pop_front();
        active.in_ready = false;
    }

    /// The first in `ready` goes to the end.
    pub(super) fn rotate(&mut self) {
        if let Some(slot) = self.ready.pop_front() {
            self.ready.push_back(slot);
        }
    }

    /// Bytes of memory that they take.
    pub(super) fn bytes(&self) -> usize {
        (self.ready.capacity() + self.events.capacity()) * size_of::<u32>()
    }
}
