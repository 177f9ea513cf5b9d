//! A multi-queue NIC of a simulated host: it places frames on queues as hardware does, and each queue
//! is a [`Device`] with bounded rings whose frames are tokens. Its faults are those of rings: nobody
//! refills the fill ring, the transmit ring takes nothing, completions come late. A worker cannot
//! tell it from an AF_XDP socket.

use super::segment;
use crate::device::{Batch, Device, Frame, Ledger};
use crate::flow::rss::{Hashed, IndirectionTable, KEY_BYTES, Rss};
use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// Bytes of a frame: the longest standard Ethernet frame fits.
pub(super) const FRAME_BYTES: usize = 2048;

/// Places of the indirection table: as in common hardware.
pub(super) const TABLE_LEN: usize = 128;

/// How large the rings of a queue are, in frames.
#[derive(Clone, Copy, Debug)]
pub struct Rings {
    /// Frames of the umem; half of them are for reception.
    pub n_frames: u32,
    /// Received frames that wait for the worker.
    pub rx_max: usize,
    /// Frames that wait for transmission.
    pub tx_max: usize,
}

/// What became of the frames that arrived at a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrivals {
    /// All that arrived.
    pub(super) total: u64,
    /// Taken by the worker.
    pub(super) taken: u64,
    /// Dropped, because the fill ring was empty.
    pub(super) fill_empty: u64,
    /// Dropped, because the receive ring was full.
    pub(super) rx_full: u64,
}

/// One queue and its umem.
#[derive(Debug)]
pub(super) struct Queue {
    umem: Vec<u8>,
    rings: Rings,
    free: Vec<u32>,
    fill: VecDeque<u32>,
    rx: VecDeque<(u32, u16)>,
    tx: VecDeque<(u32, u16)>,
    /// Sent frames and when their completion shows.
    completion: VecDeque<(Instant, u32)>,
    held: u32,
    /// The time of the turn: rings are looked at when the worker does.
    pub(super) now: Instant,
    pub(super) arrivals: Arrivals,
    /// Until then nobody refills the fill ring.
    pub(super) unfilled_until: Instant,
    /// Until then the transmit ring takes nothing.
    pub(super) tx_full_until: Instant,
    /// Until then completions come late, by so much.
    pub(super) late: (Instant, Duration),
}

impl Queue {
    pub(super) fn new(rings: Rings, now: Instant) -> Self {
        Queue {
            umem: vec![0; rings.n_frames as usize * FRAME_BYTES],
            rings,
            free: (0..rings.n_frames).rev().collect(),
            fill: VecDeque::new(),
            rx: VecDeque::new(),
            tx: VecDeque::new(),
            completion: VecDeque::new(),
            held: 0,
            now,
            arrivals: Arrivals::default(),
            unfilled_until: now,
            tx_full_until: now,
            late: (now, Duration::ZERO),
        }
    }

    /// A frame arrives from the wire; it is dropped when a ring says so.
    pub(super) fn arrive(&mut self, bytes: &[u8]) {
        self.arrivals.total += 1;
        if self.rx.len() >= self.rings.rx_max {
            self.arrivals.rx_full += 1;
        } else if let Some(idx) = self.fill.pop_front() {
            let start = idx as usize * FRAME_BYTES;
            self.umem[start..start + bytes.len()].copy_from_slice(bytes);
            self.rx.push_back((idx, bytes.len() as u16));
        } else {
            self.arrivals.fill_empty += 1;
        }
    }

    /// Sends the frame at the head of the transmit ring: its bytes go on the wire now, and its
    /// completion shows now or late.
    pub(super) fn depart(&mut self) -> Option<&[u8]> {
        let (idx, len) = self.tx.pop_front()?;
        let (until, late) = self.late;
        let shows_at = if self.now < until { self.now + late } else { self.now };
        // Completions keep their order.
        let shows_at = self.completion.back().map_or(shows_at, |&(before, _)| shows_at.max(before));
        self.completion.push_back((shows_at, idx));
        let start = idx as usize * FRAME_BYTES;
        Some(&self.umem[start..start + usize::from(len)])
    }

    /// Every frame that arrived is accounted for.
    pub(super) fn audit(&self) -> Result<(), String> {
        let Arrivals { total, taken, fill_empty, rx_full } = self.arrivals;
        let ledger = self.ledger();
        if !ledger.balances() {
            return Err(format!("frames of a umem are not conserved: {ledger:?}"));
        }
        if total != taken + fill_empty + rx_full + self.rx.len() as u64 {
            return Err(format!("arrivals are not conserved: {:?}", self.arrivals));
        }
        Ok(())
    }

    fn reclaim(&mut self) {
        while let Some(&(shows_at, idx)) = self.completion.front()
            && shows_at <= self.now
        {
            self.completion.pop_front();
            self.free.push(idx);
        }
    }

    /// Frames that reception is owed.
    fn unfilled(&self) -> usize {
        (self.rings.n_frames as usize / 2).saturating_sub(self.fill.len() + self.rx.len())
    }
}

impl Device for Queue {
    fn rx_batch(&mut self, batch: &mut Batch) -> usize {
        self.reclaim();
        if self.now >= self.unfilled_until {
            let n = self.unfilled().min(self.free.len());
            self.fill.extend(self.free.drain(self.free.len() - n..));
        }
        let n = self.rx.len().min(batch.room());
        for (idx, len) in self.rx.drain(..n) {
            batch.push(Frame::mint(idx, 0, len));
        }
        self.held += n as u32;
        self.arrivals.taken += n as u64;
        n
    }

    fn tx_batch(&mut self, batch: &mut Batch) -> usize {
        let room = if self.now < self.tx_full_until {
            0
        } else {
            self.rings.tx_max.saturating_sub(self.tx.len())
        };
        let n = batch.len().min(room);
        for frame in batch.drain(n) {
            self.tx.push_back((frame.idx(), frame.len()));
        }
        self.held -= n as u32;
        n
    }

    fn alloc(&mut self) -> Option<Frame> {
        self.reclaim();
        // What reception is owed is not taken, or two hosts that only send would lock up.
        if self.free.len() <= self.unfilled() {
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
        let start = frame.idx() as usize * FRAME_BYTES;
        &self.umem[start..start + usize::from(frame.len())]
    }

    fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        let start = frame.idx() as usize * FRAME_BYTES;
        &mut self.umem[start..start + FRAME_BYTES]
    }

    fn ledger(&self) -> Ledger {
        Ledger {
            free: self.free.len() as u32,
            fill: self.fill.len() as u32,
            rx: self.rx.len() as u32,
            tx: self.tx.len() as u32,
            completion: self.completion.len() as u32,
            held: self.held,
            total: self.rings.n_frames,
        }
    }
}

/// What places frames on the queues of one host.
#[derive(Debug)]
pub(super) struct Steering {
    key: [u8; KEY_BYTES],
    rss: Rss,
}

impl Steering {
    pub(super) fn new(key: [u8; KEY_BYTES], n_queues: u16) -> Self {
        let table = IndirectionTable::dealt(TABLE_LEN, n_queues);
        Steering { key, rss: Rss::new(&key, Hashed::AddressesAndPorts, table) }
    }

    /// Replaces the indirection table, and perhaps the key, as `ethtool -X` does under traffic.
    pub(super) fn rehash(&mut self, queues: Vec<u16>, key: Option<[u8; KEY_BYTES]>) {
        self.key = key.unwrap_or(self.key);
        let table = IndirectionTable::from_queues(queues);
        self.rss = Rss::new(&self.key, Hashed::AddressesAndPorts, table);
    }

    /// What a driver that tells everything tells.
    pub(super) fn rss(&self) -> &Rss {
        &self.rss
    }

    /// The queue of a frame; what is no TCP goes to the first.
    pub(super) fn queue(&self, frame: &[u8]) -> usize {
        segment::receiver_tuple(frame).map_or(0, |tuple| usize::from(self.rss.queue(&tuple)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RINGS: Rings = Rings { n_frames: 8, rx_max: 2, tx_max: 2 };

    #[test]
    fn each_ring_drops_or_holds_by_its_own_rule() {
        let mut queue = Queue::new(RINGS, Instant::ZERO);
        let mut batch = Batch::new();
        queue.arrive(b"early");
        assert_eq!(queue.arrivals.fill_empty, 1, "nothing was filled yet");
        assert_eq!(queue.rx_batch(&mut batch), 0);
        for _ in 0..3 {
            queue.arrive(b"frame");
        }
        assert_eq!(queue.arrivals.rx_full, 1);
        assert_eq!(queue.rx_batch(&mut batch), 2);
        for frame in batch.drain(2) {
            queue.release(frame);
        }
        queue.audit().expect("all are accounted for");
    }

    #[test]
    fn faults_keep_frames_away_for_a_while() {
        let mut queue = Queue::new(RINGS, Instant::ZERO);
        let mut batch = Batch::new();
        let later = Instant::from_nanos(100);
        queue.tx_full_until = later;
        queue.late = (later + Duration::from_nanos(1), Duration::from_nanos(50));
        queue.rx_batch(&mut batch);
        while let Some(frame) = queue.alloc() {
            batch.push(frame.with_len(60));
        }
        assert_eq!((batch.len(), queue.tx_batch(&mut batch)), (4, 0));
        queue.now = later;
        assert_eq!(queue.tx_batch(&mut batch), 2, "as many as the ring takes");
        while queue.depart().is_some() {}
        assert!(queue.alloc().is_none(), "completions are late");
        queue.now = later + Duration::from_nanos(50);
        assert!(queue.alloc().is_some_and(|frame| frame.len() == 0));
        assert!(queue.ledger().balances());
    }
}
