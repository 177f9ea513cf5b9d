//! One direction of the wire between two stacks: a short ring of frame buffers, as a NIC has one. Who
//! sends writes into a buffer, who receives is given the same one: nothing is copied, nothing is lost,
//! and a sender who finds no room waits for its next turn.

/// What a frame may have at most.
const FRAME_BYTES: usize = 2048;

/// Frames on their way, oldest first. A ring is filled, and then emptied before it is filled again.
pub(super) struct Wire {
    frames: Box<[[u8; FRAME_BYTES]]>,
    lens: Vec<u16>,
    /// Frames that were taken already.
    n_taken: usize,
}

impl Wire {
    /// A ring of `n_frames`.
    pub(super) fn new(n_frames: usize) -> Self {
        Wire {
            frames: vec![[0; FRAME_BYTES]; n_frames].into_boxed_slice(),
            lens: Vec::with_capacity(n_frames),
            n_taken: 0,
        }
    }

    /// The buffer for the next frame, if one is free.
    pub(super) fn room(&mut self) -> Option<&mut [u8]> {
        self.frames.get_mut(self.lens.len()).map(|frame| &mut frame[..])
    }

    /// Sends what was written into [`Wire::room`].
    pub(super) fn push(&mut self, len: usize) {
        self.lens.push(len as u16);
    }

    /// The frames that will arrive, oldest first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        let frames = self.frames.iter().zip(&self.lens).skip(self.n_taken);
        frames.map(|(frame, &len)| &frame[..usize::from(len)])
    }

    /// The next frame that arrives.
    pub(super) fn take(&mut self) -> Option<&mut [u8]> {
        let Some(&len) = self.lens.get(self.n_taken) else {
            self.lens.clear();
            self.n_taken = 0;
            return None;
        };
        self.n_taken += 1;
        Some(&mut self.frames[self.n_taken - 1][..usize::from(len)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_in_order_and_a_full_ring_takes_no_more() {
        let mut wire = Wire::new(2);
        for byte in [1, 2] {
            wire.room().expect("it has room")[..3].fill(byte);
            wire.push(3);
        }
        assert!(wire.room().is_none());
        assert_eq!(wire.waiting().count(), 2);
        assert_eq!(wire.take(), Some(&mut [1; 3][..]));
        assert_eq!(wire.waiting().next(), Some(&[2; 3][..]));
        assert_eq!(wire.take(), Some(&mut [2; 3][..]));
        assert_eq!(wire.take(), None);
        assert!(wire.room().is_some(), "what was emptied is filled again");
    }
}
