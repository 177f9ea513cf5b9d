//! A queue whose frames are also offered to a tap. It is a type of its own, so that a worker without
//! a capture pays nothing for the possibility of one.

use crate::sys::clock;
use crate::tap::{Direction, Tap};
use crate::worker::Queue;
use crate::xdp::N_STATISTICS;
use barewire_stack::device::{Batch, Device, Frame, Ledger};
use barewire_stack::time::Duration;
use std::os::fd::BorrowedFd;

/// A queue and its tap.
#[derive(Debug)]
pub(super) struct Tapped<Q> {
    queue: Q,
    tap: Tap,
    /// Frames at the front of the worker's batch that the TX ring had no room for: offered already.
    n_offered: usize,
}

impl<Q: Queue> Tapped<Q> {
    pub(super) fn new(queue: Q, tap: Tap) -> Self {
        Tapped { queue, tap, n_offered: 0 }
    }

    fn offer(&self, direction: Direction, frames: &[Frame]) {
        let now = clock::now();
        for frame in frames {
            self.tap.offer(direction, now, self.queue.bytes(frame));
        }
    }
}

impl<Q: Queue> Device for Tapped<Q> {
    fn rx_batch(&mut self, batch: &mut Batch) -> usize {
        let before = batch.len();
        let n = self.queue.rx_batch(batch);
        self.offer(Direction::In, &batch.frames()[before..]);
        n
    }

    fn tx_batch(&mut self, batch: &mut Batch) -> usize {
        self.offer(Direction::Out, &batch.frames()[self.n_offered..]);
        let n = self.queue.tx_batch(batch);
        self.n_offered = batch.len();
        n
    }

    fn alloc(&mut self) -> Option<Frame> {
        self.queue.alloc()
    }

    fn release(&mut self, frame: Frame) {
        self.queue.release(frame);
    }

    fn bytes(&self, frame: &Frame) -> &[u8] {
        self.queue.bytes(frame)
    }

    fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        self.queue.bytes_mut(frame)
    }

    fn ledger(&self) -> Ledger {
        self.queue.ledger()
    }
}

impl<Q: Queue> Queue for Tapped<Q> {
    fn wait(&self, timeout: Duration, bell: BorrowedFd<'_>) -> bool {
        self.queue.wait(timeout, bell)
    }

    fn statistics(&self) -> [u64; N_STATISTICS] {
        self.queue.statistics()
    }
}
