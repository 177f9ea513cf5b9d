//! Segments that arrived at a worker which does not know their connection. Where the kernel or the
//! NIC chooses the queue by rules that cannot be read, a flow may change its queue; such a segment
//! visits the other workers in a ring until one knows it, and only the last of them refuses it. The
//! bytes travel in boxes that circulate between a store and an inbox: the store is the bound, and a
//! box takes its memory when it is first used.

use crate::sys::eventfd::EventFd;
use crossbeam_queue::ArrayQueue;
use std::fmt;
use std::sync::Arc;

/// Frames on their way to one worker: as many as an RX ring of the default size brings at once.
const FRAMES_MAX: usize = 2048;

/// The longest frame that an AF_XDP umem holds.
const FRAME_BYTES_MAX: usize = 4096;

/// A frame on its way.
pub(super) struct Parcel {
    bytes: Vec<u8>,
    /// The worker at whose queue it arrived.
    pub(super) from: usize,
    /// Workers behind the receiver that have not been asked.
    pub(super) hops_left: usize,
}

impl Parcel {
    /// The frame.
    pub(super) fn frame(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// The inbox of one worker.
struct Inbox {
    full: ArrayQueue<Box<Parcel>>,
    empty: ArrayQueue<Box<Parcel>>,
    bell: Arc<EventFd>,
}

/// One worker's place in the ring.
pub struct Handoff {
    mine: Arc<Inbox>,
    next: Arc<Inbox>,
    /// This worker's number.
    number: usize,
    /// Workers of the ring, this one not counted.
    n_others: usize,
}

impl Handoff {
    /// The places of a ring of workers, one for each bell. A single worker has nobody to hand to,
    /// and its ring holds no boxes.
    pub fn ring(bells: &[Arc<EventFd>]) -> Vec<Handoff> {
        let n_boxes = if bells.len() > 1 { FRAMES_MAX } else { 0 };
        let inbox = |bell: &Arc<EventFd>| {
            let empty = ArrayQueue::new(FRAMES_MAX);
            for _ in 0..n_boxes {
                let parcel = Parcel { bytes: Vec::new(), from: 0, hops_left: 0 };
                assert!(empty.push(Box::new(parcel)).is_ok(), "there are as many places as boxes");
            }
            Arc::new(Inbox { full: ArrayQueue::new(FRAMES_MAX), empty, bell: bell.clone() })
        };
        let inboxes: Vec<_> = bells.iter().map(inbox).collect();
        let n = inboxes.len();
        (0..n)
            .map(|i| Handoff {
                mine: inboxes[i].clone(),
                next: inboxes[(i + 1) % n].clone(),
                number: i,
                n_others: n - 1,
            })
            .collect()
    }

    /// There is another worker to ask about a segment that arrived from the device.
    pub(super) fn has_others(&self) -> bool {
        self.n_others > 0
    }

    /// Workers of the ring.
    pub(super) fn n_workers(&self) -> usize {
        self.n_others + 1
    }

    /// Passes a frame that arrived from the device to the next worker. False when its inbox is
    /// full: the frame is lost, and the peer sends it again.
    pub(super) fn pass(&self, frame: &[u8]) -> bool {
        self.send(frame, self.number, self.n_others - 1)
    }

    /// Passes a frame on that came from the worker before.
    pub(super) fn pass_on(&self, parcel: &mut Parcel) -> bool {
        let (from, hops_left) = (parcel.from, parcel.hops_left - 1);
        self.send(parcel.frame(), from, hops_left)
    }

    fn send(&self, frame: &[u8], from: usize, hops_left: usize) -> bool {
        if frame.len() > FRAME_BYTES_MAX {
            return false;
        }
        let Some(mut parcel) = self.next.empty.pop() else { return false };
        (parcel.from, parcel.hops_left) = (from, hops_left);
        parcel.bytes.clear();
        // Whole at once: every later frame fits.
        parcel.bytes.reserve_exact(FRAME_BYTES_MAX);
        parcel.bytes.extend_from_slice(frame);
        // A receiver that has frames waiting is awake, or about to be.
        let asleep = self.next.full.is_empty();
        assert!(self.next.full.push(parcel).is_ok(), "an inbox has a place for every box");
        if asleep {
            self.next.bell.ring();
        }
        true
    }

    /// The next frame that waits here; goes back with [`Handoff::put_back`].
    pub(super) fn take(&self) -> Option<Box<Parcel>> {
        self.mine.full.pop()
    }

    /// Returns an emptied box to the store.
    pub(super) fn put_back(&self, parcel: Box<Parcel>) {
        assert!(self.mine.empty.push(parcel).is_ok(), "a store has a place for every box");
    }
}

impl fmt::Debug for Handoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handoff").field("waiting", &self.mine.full.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(n: usize) -> Vec<Handoff> {
        let bell = || Arc::new(EventFd::new().expect("an eventfd"));
        Handoff::ring(&(0..n).map(|_| bell()).collect::<Vec<_>>())
    }

    #[test]
    fn a_frame_visits_every_other_worker_once() {
        let ring = ring(3);
        assert!(ring[0].has_others());
        assert!(ring[0].pass(b"frame"));
        let mut parcel = ring[1].take().expect("the second worker is asked first");
        assert_eq!((parcel.from, parcel.hops_left), (0, 1));
        assert_eq!(parcel.frame(), b"frame");
        assert!(ring[1].pass_on(&mut parcel));
        ring[1].put_back(parcel);
        let parcel = ring[2].take().expect("then the third");
        assert_eq!((parcel.from, parcel.hops_left), (0, 0));
        ring[2].put_back(parcel);
        assert!(ring[0].take().is_none());
    }

    #[test]
    fn a_full_inbox_refuses_and_recovers() {
        let ring = ring(2);
        for _ in 0..FRAMES_MAX {
            assert!(ring[0].pass(b"x"));
        }
        assert!(!ring[0].pass(b"x"));
        let parcel = ring[1].take().expect("frames wait");
        ring[1].put_back(parcel);
        assert!(ring[0].pass(b"x"));
        assert!(!ring[0].pass(&[0; FRAME_BYTES_MAX + 1]));
    }

    #[test]
    fn a_single_worker_has_nobody_to_ask() {
        assert!(!ring(1)[0].has_others());
    }
}
