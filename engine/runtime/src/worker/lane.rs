//! One direction of an impaired path: the fault model, the frames that wait to leave, and what was
//! done to them. Moving frames into it and out of it is the impaired queue's part.

use barewire_api::page::CounterKind;
use barewire_stack::device::Frame;
use barewire_stack::impair::Impair;
use barewire_stack::time::Instant;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// How many numbers [`Faults`] has.
pub(super) const N_FAULTS: usize = 7;

/// What was done to the frames of one direction, in frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) corrupted: u64,
    pub(super) reordered: u64,
    pub(super) delayed: u64,
    pub(super) overflow: u64,
    pub(super) full: u64,
}

impl Faults {
    /// In the order of [`TX_FAULTS`] and [`RX_FAULTS`].
    pub(super) fn values(&self) -> [u64; N_FAULTS] {
        let Faults { lost, duplicated, corrupted, reordered, delayed, overflow, full } = *self;
        [lost, duplicated, corrupted, reordered, delayed, overflow, full]
    }
}

/// Name, kind and help of each fault of sent frames.
pub(super) const TX_FAULTS: [(&str, CounterKind, &str); N_FAULTS] = [
    (
        "impair_tx_lost",
        CounterKind::Warn,
        "Frames to send that `barewire impair` lost; also ARP that it was to corrupt.",
    ),
    ("impair_tx_duplicated", CounterKind::Warn, "Frames that `barewire impair` sent twice."),
    (
        "impair_tx_corrupted",
        CounterKind::Warn,
        "Frames that `barewire impair` sent with one bit turned over.",
    ),
    ("impair_tx_reordered", CounterKind::Warn, "Frames that `barewire impair` sent out of turn."),
    ("impair_tx_delayed", CounterKind::Count, "Frames that `barewire impair` held before sending."),
    (
        "impair_tx_overflow",
        CounterKind::Warn,
        "Frames to send dropped because the impaired line had its backlog full.",
    ),
    (
        "impair_tx_full",
        CounterKind::Warn,
        "Frames to send dropped because interface.impair_frames_max were held, or no frame was free \
         for a copy: raise it.",
    ),
];

/// Name, kind and help of each fault of received frames.
pub(super) const RX_FAULTS: [(&str, CounterKind, &str); N_FAULTS] = [
    (
        "impair_rx_lost",
        CounterKind::Warn,
        "Received frames that `barewire impair` lost; also ARP that it was to corrupt.",
    ),
    ("impair_rx_duplicated", CounterKind::Warn, "Frames that `barewire impair` received twice."),
    (
        "impair_rx_corrupted",
        CounterKind::Warn,
        "Received frames in which `barewire impair` turned one bit over.",
    ),
    (
        "impair_rx_reordered",
        CounterKind::Warn,
        "Received frames that `barewire impair` took out of turn.",
    ),
    (
        "impair_rx_delayed",
        CounterKind::Count,
        "Received frames that `barewire impair` held before the stack saw them.",
    ),
    (
        "impair_rx_overflow",
        CounterKind::Warn,
        "Received frames dropped because the impaired line had its backlog full.",
    ),
    (
        "impair_rx_full",
        CounterKind::Warn,
        "Received frames dropped because interface.impair_frames_max were held, or no frame was \
         free for a copy: raise it.",
    ),
];

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The fault model; without one every frame leaves at once.
    pub(super) model: Option<Impair>,
    pub(super) faults: Faults,
    waiting: BinaryHeap<Waiting>,
    /// Frames that ever waited: the order of those that leave at the same time.
    n_entered: u64,
    /// When the last of those that wait leaves.
    last_at: Instant,
}

impl Lane {
    /// Makes room for `n` frames, so that none is taken while they move.
    pub(super) fn reserve(&mut self, n: usize) {
        self.waiting.reserve_exact(n.saturating_sub(self.waiting.len()));
    }

    /// How many frames wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Keeps a frame until `at`.
    pub(super) fn push(&mut self, at: Instant, frame: Frame) {
        self.n_entered += 1;
        self.last_at = self.last_at.max(at);
        self.waiting.push(Waiting { at, order: self.n_entered, frame });
    }

    /// Keeps a frame until those that wait have left.
    pub(super) fn push_last(&mut self, now: Instant, frame: Frame) {
        self.push(self.last_at.max(now), frame);
    }

    /// The next frame whose time has come; without a fault model every frame's has.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Frame> {
        let next_at = self.waiting.peek()?.at;
        if next_at > now && self.model.is_some() {
            return None;
        }
        self.waiting.pop().map(|waiting| waiting.frame)
    }

    /// When the next frame leaves.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.waiting.peek().map(|waiting| waiting.at)
    }
}

/// A frame that waits; the greatest is the one that leaves first.
#[derive(Debug)]
struct Waiting {
    at: Instant,
    order: u64,
    frame: Frame,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

#[cfg(test)]
mod tests {
    use super::*;
    use barewire_stack::impair::Impairment;
    use barewire_stack::time::Duration;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    /// A lane with frames 0 to 3 that leave at 5, 3, 5 and 4 ms.
    fn lane() -> Lane {
        let model = Some(Impair::new(Impairment::default(), 1));
        let mut lane = Lane { model, ..Lane::default() };
        for (idx, ms) in [5, 3, 5, 4].into_iter().enumerate() {
            lane.push(at(ms), Frame::mint(idx as u32, 0, 60));
        }
        lane
    }

    fn drained(lane: &mut Lane, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| lane.pop(now)).map(|frame| frame.idx()).collect()
    }

    #[test]
    fn frames_leave_at_their_time_and_then_in_the_order_of_their_coming() {
        let mut lane = lane();
        assert_eq!(lane.wake_at(), Some(at(3)));
        assert_eq!(drained(&mut lane, at(2)), [0u32; 0]);
        assert_eq!(drained(&mut lane, at(4)), [1, 3]);
        assert_eq!((lane.len(), lane.wake_at()), (2, Some(at(5))));
        assert_eq!(drained(&mut lane, at(5)), [0, 2]);
        assert_eq!(lane.wake_at(), None);
    }

    #[test]
    fn a_lane_without_faults_lets_all_go_and_keeps_their_order() {
        let mut lane = lane();
        lane.model = None;
        lane.push_last(at(1), Frame::mint(4, 0, 60));
        assert_eq!(drained(&mut lane, at(1)), [1, 3, 0, 2, 4]);
    }
}
