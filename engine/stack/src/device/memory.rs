//! The in-process wire: two devices in plain memory and the function that carries frames from one
//! to the other. It loses, delays and reorders nothing; faults are the simulator's business.

use super::{BATCH_MAX, Batch, Device, Frame, Ledger};
use std::collections::VecDeque;

/// One end of an in-process wire: a umem of plain memory, a receive queue and a transmit queue.
#[derive(Debug)]
pub struct MemoryDevice {
    umem: Vec<u8>,
    frame_bytes: usize,
    free: Vec<u32>,
    /// Frame index and length, oldest first; bounded by the number of frames.
    rx: VecDeque<(u32, u16)>,
    tx: VecDeque<(u32, u16)>,
    held: u32,
    n_frames: u32,
}

impl MemoryDevice {
    /// A device with `n_frames` frames of `frame_bytes` bytes each.
    pub fn new(n_frames: u32, frame_bytes: u16) -> Self {
        let queue = || VecDeque::with_capacity(n_frames as usize);
        MemoryDevice {
            umem: vec![0; n_frames as usize * usize::from(frame_bytes)],
            frame_bytes: usize::from(frame_bytes),
            free: (0..n_frames).rev().collect(),
            rx: queue(),
            tx: queue(),
            held: 0,
            n_frames,
        }
    }

    /// The frame at the head of the transmit queue, as the simulator and tests look at it.
    pub fn peek_tx(&self) -> Option<&[u8]> {
        self.tx.front().map(|&(idx, len)| self.data(idx, len))
    }

    /// Completes the transmission at the head of the queue: its frame becomes free.
    pub fn complete_tx(&mut self) {
        if let Some((idx, _)) = self.tx.pop_front() {
            self.free.push(idx);
        }
    }

    /// Delivers `bytes` as a received frame. False when no frame is free or they do not fit, as a
    /// NIC drops a packet when its fill ring is empty.
    pub fn deliver(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.frame_bytes {
            return false;
        }
        let Some(idx) = self.free.pop() else { return false };
        let start = idx as usize * self.frame_bytes;
        self.umem[start..start + bytes.len()].copy_from_slice(bytes);
        self.rx.push_back((idx, bytes.len() as u16));
        true
    }

    fn data(&self, idx: u32, len: u16) -> &[u8] {
        let start = idx as usize * self.frame_bytes;
        &self.umem[start..start + usize::from(len)]
    }
}

/// Carries every frame that waits in `from` over to `to`. Stops, with the rest still queued, when
/// `to` has no free frame; returns how many were carried.
pub fn carry(from: &mut MemoryDevice, to: &mut MemoryDevice) -> usize {
    let mut n = 0;
    while let Some(bytes) = from.peek_tx() {
        if !to.deliver(bytes) {
            break;
        }
        from.complete_tx();
        n += 1;
    }
    n
}

impl Device for MemoryDevice {
    fn rx_batch(&mut self, batch: &mut Batch) -> usize {
        let n = self.rx.len().min(batch.room());
        for (idx, len) in self.rx.drain(..n) {
            batch.push(Frame::mint(idx, 0, len));
        }
        self.held += n as u32;
        n
    }

    fn tx_batch(&mut self, batch: &mut Batch) -> usize {
        let n = batch.len().min(BATCH_MAX);
        for frame in batch.drain(n) {
            self.tx.push_back((frame.idx(), frame.len()));
        }
        self.held -= n as u32;
        n
    }

    fn alloc(&mut self) -> Option<Frame> {
        // Half of the frames stay for reception, or two ends that only send would lock up.
        if self.free.len() <= self.n_frames as usize / 2 {
            return None;
        }
        let idx = self.free.pop()?;
        self.held += 1;
        Some(Frame::mint(idx, 0, 0))
    }

    fn release(&mut self, frame: Frame) {
        self.held -= 1;
        self.free.push(frame.idx());
    }

    fn bytes(&self, frame: &Frame) -> &[u8] {
        self.data(frame.idx(), frame.len())
    }

    fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        let start = frame.idx() as usize * self.frame_bytes;
        &mut self.umem[start..start + self.frame_bytes]
    }

    fn ledger(&self) -> Ledger {
        Ledger {
            free: self.free.len() as u32,
            rx: self.rx.len() as u32,
            tx: self.tx.len() as u32,
            held: self.held,
            total: self.n_frames,
            ..Ledger::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_crosses_the_wire_and_every_frame_is_accounted_for() {
        let (mut a, mut b) = (MemoryDevice::new(4, 64), MemoryDevice::new(4, 64));
        let mut batch = Batch::new();
        let mut frame = a.alloc().expect("a fresh device has free frames");
        a.bytes_mut(&mut frame)[..3].copy_from_slice(b"abc");
        batch.push(frame.with_len(3));
        assert_eq!(a.tx_batch(&mut batch), 1);
        assert_eq!(carry(&mut a, &mut b), 1);
        assert_eq!(b.rx_batch(&mut batch), 1);
        let frame = batch.pop().expect("one frame was received");
        assert_eq!(b.bytes(&frame), b"abc");
        assert_eq!(b.ledger().held, 1);
        b.release(frame);
        assert!(a.ledger().balances() && b.ledger().balances());
        assert_eq!(b.ledger().free, 4);
    }

    #[test]
    fn a_full_receiver_leaves_frames_on_the_sender() {
        let (mut a, mut b) = (MemoryDevice::new(4, 64), MemoryDevice::new(1, 64));
        let mut batch = Batch::new();
        for _ in 0..2 {
            batch.push(a.alloc().expect("two frames are free to send").with_len(1));
        }
        a.tx_batch(&mut batch);
        assert_eq!(carry(&mut a, &mut b), 1);
        assert_eq!(a.ledger().tx, 1);
        assert!(!b.deliver(&[0; 65]), "longer than a frame");
    }
}
