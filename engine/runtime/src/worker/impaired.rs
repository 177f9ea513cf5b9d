//! A queue between which and its worker lies a path with faults, as `barewire impair` sets them. It
//! wraps every worker's queue; as long as nothing is set, a batch pays one branch for it. Frames
//! that are held back stay tokens of this worker, so the ledger knows them as held.
//!
//! The worker says what time it is at the start of its turn: frames leave when they are due at the
//! turn's time, and no clock is read here.

use super::lane::{Faults, Lane};
use super::publish::Queue;
use crate::xdp::N_STATISTICS;
use barewire_stack::device::{BATCH_MAX, Batch, Device, Frame, Ledger};
use barewire_stack::impair::{Damage, Departure, Fate, Impair};
use barewire_stack::time::{Duration, Instant};
use std::os::fd::BorrowedFd;

/// A queue and the path before it.
#[derive(Debug)]
pub(super) struct Impaired<Q> {
    pub(super) queue: Q,
    pub(super) paths: Paths,
    /// Received frames on their way to their fate; empty between calls.
    arrived: Batch,
}

/// The paths of both directions.
#[derive(Debug, Default)]
pub struct Paths {
    stage: Stage,
    now: Instant,
    tx: Lane,
    rx: Lane,
    /// Frames whose time has come, on their way into the TX ring.
    leaving: Batch,
    /// The bytes of a frame that is being doubled.
    copied: Vec<u8>,
    /// The most frames that may be held, of both directions.
    frames_max: usize,
}

/// Whether frames pass the paths or go past them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// They go past.
    #[default]
    Off,
    /// They will pass once those have left that found no room in the TX ring before.
    Starting,
    /// They pass.
    On,
}

/// One of the two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Frames that the worker sends.
    Tx,
    /// Frames that it receives.
    Rx,
}

impl Paths {
    /// Puts `model` in the place of what happens to the frames of one direction; with `None` those
    /// that are held leave at once. At most `frames_max` frames are held, of both directions
    /// together: the umem has so many for this.
    pub fn set(&mut self, way: Way, model: Option<Impair>, frames_max: u32) {
        self.frames_max = frames_max as usize;
        if self.stage == Stage::Off && model.is_some() {
            self.stage = Stage::Starting;
        }
        let lane = self.lane(way);
        lane.model = model;
        // A direction without faults has a batch in its lane while the other has some.
        lane.reserve(frames_max as usize + BATCH_MAX);
    }

    /// Ends all faults.
    pub(super) fn clear(&mut self) {
        self.tx.model = None;
        self.rx.model = None;
    }

    /// What was done to frames that were sent, and to those received.
    pub(super) fn faults(&self) -> [&Faults; 2] {
        [&self.tx.faults, &self.rx.faults]
    }

    fn lane(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::Tx => &mut self.tx,
            Way::Rx => &mut self.rx,
        }
    }

    fn n_held(&self) -> usize {
        self.tx.len() + self.rx.len() + self.leaving.len()
    }

    /// No fault is set and no frame is held.
    fn is_done(&self) -> bool {
        self.tx.model.is_none() && self.rx.model.is_none() && self.n_held() == 0
    }

    /// A frame meets its fate.
    fn enter<Q: Queue>(&mut self, queue: &mut Q, way: Way, frame: Frame) {
        let now = self.now;
        let lane = self.lane(way);
        let Some(model) = &mut lane.model else {
            lane.push_last(now, frame);
            return;
        };
        let (first, copy) = match model.fate(now, usize::from(frame.len())) {
            Fate::Leaves { first, copy } => (first, copy),
            Fate::Lost => {
                lane.faults.lost += 1;
                queue.release(frame);
                return;
            }
            Fate::Overflow => {
                lane.faults.overflow += 1;
                queue.release(frame);
                return;
            }
        };
        let twin = copy.and_then(|copy| Some((copy, self.twin(queue, way, &frame)?)));
        self.keep(queue, way, first, frame);
        if let Some((departure, twin)) = twin {
            self.lane(way).faults.duplicated += 1;
            self.keep(queue, way, departure, twin);
        }
    }

    /// A second frame with the same bytes.
    fn twin<Q: Queue>(&mut self, queue: &mut Q, way: Way, frame: &Frame) -> Option<Frame> {
        self.copied.clear();
        self.copied.extend_from_slice(queue.bytes(frame));
        let Some(mut twin) = queue.alloc() else {
            self.lane(way).faults.full += 1;
            return None;
        };
        // A received frame may begin further in front than one to be sent.
        if let Some(room) = queue.bytes_mut(&mut twin).get_mut(..self.copied.len()) {
            room.copy_from_slice(&self.copied);
            return Some(twin.with_len(frame.len()));
        }
        self.lane(way).faults.full += 1;
        queue.release(twin);
        None
    }

    /// Keeps a frame until it leaves, with the damage it is to have; one too many is dropped.
    fn keep<Q: Queue>(&mut self, queue: &mut Q, way: Way, departure: Departure, mut frame: Frame) {
        let Departure { at, damage, reordered } = departure;
        let (now, is_full) = (self.now, self.n_held() >= self.frames_max);
        let lane = self.lane(way);
        if is_full {
            lane.faults.full += 1;
            queue.release(frame);
            return;
        }
        if damage.is_some_and(|damage| !strike(queue, damage, &mut frame)) {
            lane.faults.lost += 1;
            queue.release(frame);
            return;
        }
        lane.faults.corrupted += u64::from(damage.is_some());
        lane.faults.reordered += u64::from(reordered);
        lane.faults.delayed += u64::from(at > now);
        lane.push(at, frame);
    }

    /// Moves what is due into the TX ring; false when the ring has no room.
    fn send_due<Q: Queue>(&mut self, queue: &mut Q) -> bool {
        loop {
            while self.leaving.room() > 0
                && let Some(frame) = self.tx.pop(self.now)
            {
                self.leaving.push(frame);
            }
            if self.leaving.is_empty() {
                return true;
            }
            queue.tx_batch(&mut self.leaving);
            if !self.leaving.is_empty() {
                return false;
            }
        }
    }

    /// Moves what is due of the received frames into `batch`.
    fn take_due(&mut self, batch: &mut Batch) {
        while batch.room() > 0
            && let Some(frame) = self.rx.pop(self.now)
        {
            batch.push(frame);
        }
    }
}

impl<Q: Queue> Impaired<Q> {
    pub(super) fn new(queue: Q) -> Self {
        Impaired { queue, paths: Paths::default(), arrived: Batch::new() }
    }

    /// A turn begins: what is due leaves. `unsent` are the frames that found no room in the TX ring.
    pub(super) fn on_turn(&mut self, now: Instant, unsent: &mut Batch) {
        if self.paths.stage == Stage::Off {
            return;
        }
        self.paths.now = now;
        if self.paths.stage == Stage::Starting {
            self.queue.tx_batch(unsent);
            if !unsent.is_empty() {
                return;
            }
            self.paths.stage = Stage::On;
        }
        self.paths.send_due(&mut self.queue);
        if self.paths.is_done() {
            self.paths.stage = Stage::Off;
        }
    }

    /// When a held frame is due.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let Paths { stage, now, tx, rx, leaving, .. } = &self.paths;
        if *stage == Stage::Off {
            return None;
        }
        // What finds no room in the TX ring asks again at once.
        let no_room = !leaving.is_empty() || *stage == Stage::Starting;
        [tx.wake_at(), rx.wake_at(), no_room.then_some(*now)].into_iter().flatten().min()
    }

    /// Gives all held frames back.
    pub(super) fn release_held(&mut self) {
        self.paths.clear();
        let Paths { tx, rx, leaving, now, .. } = &mut self.paths;
        for lane in [tx, rx] {
            while let Some(frame) = lane.pop(*now) {
                self.queue.release(frame);
            }
        }
        for frame in leaving.drain(leaving.len()) {
            self.queue.release(frame);
        }
    }
}

/// Damages a frame; false when nothing in it would tell.
fn strike<Q: Queue>(queue: &mut Q, damage: Damage, frame: &mut Frame) -> bool {
    let len = usize::from(frame.len());
    damage.strike(&mut queue.bytes_mut(frame)[..len])
}

impl<Q: Queue> Device for Impaired<Q> {
    fn rx_batch(&mut self, batch: &mut Batch) -> usize {
        if self.paths.stage != Stage::On {
            return self.queue.rx_batch(batch);
        }
        let before = batch.len();
        self.paths.take_due(batch);
        if batch.room() > 0 {
            let n = self.queue.rx_batch(&mut self.arrived);
            for frame in self.arrived.drain(n) {
                self.paths.enter(&mut self.queue, Way::Rx, frame);
            }
            self.paths.take_due(batch);
        }
        batch.len() - before
    }

    fn tx_batch(&mut self, batch: &mut Batch) -> usize {
        if self.paths.stage != Stage::On {
            return self.queue.tx_batch(batch);
        }
        if !self.paths.send_due(&mut self.queue) {
            return 0;
        }
        let n = batch.len();
        for frame in batch.drain(n) {
            self.paths.enter(&mut self.queue, Way::Tx, frame);
        }
        self.paths.send_due(&mut self.queue);
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

impl<Q: Queue> Queue for Impaired<Q> {
    fn wait(&self, timeout: Duration, bell: BorrowedFd<'_>) -> bool {
        self.queue.wait(timeout, bell)
    }

    fn statistics(&self) -> [u64; N_STATISTICS] {
        self.queue.statistics()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barewire_stack::device::memory::MemoryDevice;
    use barewire_stack::dice::Ratio;
    use barewire_stack::impair::Impairment;

    const MS: Duration = Duration::from_millis(1);
    const FRAME_BYTES: usize = 60;

    /// A wire whose TX ring takes as many frames as it is told, and no more.
    struct Narrow {
        wire: MemoryDevice,
        room: usize,
    }

    impl Device for Narrow {
        fn rx_batch(&mut self, batch: &mut Batch) -> usize {
            self.wire.rx_batch(batch)
        }

        fn tx_batch(&mut self, batch: &mut Batch) -> usize {
            let n = batch.len().min(self.room);
            self.room -= n;
            let mut taken = Batch::new();
            for frame in batch.drain(n) {
                taken.push(frame);
            }
            self.wire.tx_batch(&mut taken)
        }

        fn alloc(&mut self) -> Option<Frame> {
            self.wire.alloc()
        }

        fn release(&mut self, frame: Frame) {
            self.wire.release(frame);
        }

        fn bytes(&self, frame: &Frame) -> &[u8] {
            self.wire.bytes(frame)
        }

        fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
            self.wire.bytes_mut(frame)
        }

        fn ledger(&self) -> Ledger {
            self.wire.ledger()
        }
    }

    impl Queue for Narrow {
        fn wait(&self, _timeout: Duration, _bell: BorrowedFd<'_>) -> bool {
            false
        }

        fn statistics(&self) -> [u64; N_STATISTICS] {
            [0; N_STATISTICS]
        }
    }

    /// A queue under test, the worker's batch, and the time.
    struct Rig {
        queue: Impaired<Narrow>,
        batch: Batch,
        now: Instant,
    }

    impl Rig {
        fn new(way: Way, spec: Impairment) -> Self {
            let wire = MemoryDevice::new(1024, 128);
            let mut queue = Impaired::new(Narrow { wire, room: usize::MAX });
            queue.paths.set(way, Some(Impair::new(spec, 1)), 256);
            let mut rig = Rig { queue, batch: Batch::new(), now: Instant::ZERO };
            rig.turn_at(0);
            rig
        }

        /// A turn begins so many milliseconds after the start.
        fn turn_at(&mut self, ms: u64) {
            self.now = Instant::ZERO + Duration::from_millis(ms);
            self.queue.on_turn(self.now, &mut self.batch);
        }

        /// The worker sends frames of IPv4 that hold their number.
        fn send(&mut self, numbers: std::ops::Range<u8>) {
            for number in numbers {
                let mut frame = self.queue.alloc().expect("a frame is free");
                self.queue.bytes_mut(&mut frame)[..FRAME_BYTES].copy_from_slice(&ipv4(number));
                self.batch.push(frame.with_len(FRAME_BYTES as u16));
            }
            self.queue.tx_batch(&mut self.batch);
        }

        /// What is on the wire, first to last.
        fn sent(&mut self) -> Vec<u8> {
            let wire = &mut self.queue.queue.wire;
            let mut numbers = Vec::new();
            while let Some(number) = wire.peek_tx().map(|frame| frame[20]) {
                numbers.push(number);
                wire.complete_tx();
            }
            numbers
        }

        /// What the worker receives in one turn.
        fn received(&mut self) -> Vec<[u8; FRAME_BYTES]> {
            let mut batch = Batch::new();
            let n = self.queue.rx_batch(&mut batch);
            let mut frames = Vec::new();
            for frame in batch.drain(n) {
                frames.push(self.queue.bytes(&frame).try_into().expect("it kept its length"));
                self.queue.release(frame);
            }
            frames
        }

        fn deliver(&mut self, frame: [u8; FRAME_BYTES]) {
            assert!(self.queue.queue.wire.deliver(&frame), "the wire has room");
        }

        /// Everything comes to rest, and no frame is missing.
        fn finish(mut self) {
            self.queue.release_held();
            for frame in self.batch.drain(self.batch.len()) {
                self.queue.release(frame);
            }
            let ledger = self.queue.ledger();
            assert!(ledger.balances() && ledger.held == 0, "{ledger:?}");
        }
    }

    fn ipv4(number: u8) -> [u8; FRAME_BYTES] {
        let mut frame = [0; FRAME_BYTES];
        frame[12] = 8;
        frame[20] = number;
        frame
    }

    #[test]
    fn without_faults_frames_go_past_and_none_is_waited_for() {
        let mut rig = Rig::new(Way::Tx, Impairment { delay: MS, ..Impairment::default() });
        rig.queue.paths.clear();
        rig.turn_at(1);
        assert_eq!(rig.queue.paths.stage, Stage::Off);
        rig.send(0..3);
        assert_eq!((rig.sent(), rig.queue.wake_at()), (vec![0, 1, 2], None));
        rig.finish();
    }

    #[test]
    fn delayed_frames_leave_in_the_turn_in_which_they_are_due() {
        let mut rig = Rig::new(Way::Tx, Impairment { delay: MS, ..Impairment::default() });
        rig.send(0..3);
        assert_eq!(rig.sent(), [0u8; 0]);
        assert_eq!(rig.queue.wake_at(), Some(rig.now + MS));
        assert_eq!(rig.queue.ledger().held, 3);
        rig.turn_at(1);
        assert_eq!(rig.sent(), [0, 1, 2]);
        assert_eq!((rig.queue.paths.tx.faults.delayed, rig.queue.wake_at()), (3, None));
        rig.finish();
    }

    #[test]
    fn received_frames_meet_their_fate_before_the_worker_sees_them() {
        let mut rig = Rig::new(Way::Rx, Impairment { delay: MS, ..Impairment::default() });
        rig.deliver(ipv4(7));
        assert_eq!(rig.received(), [[0; FRAME_BYTES]; 0]);
        // The other direction is as it was.
        rig.send(0..1);
        assert_eq!(rig.sent(), [0]);
        rig.turn_at(1);
        assert_eq!(rig.received(), [ipv4(7)]);
        rig.finish();
    }

    #[test]
    fn lost_frames_are_free_again() {
        let spec = Impairment { loss: Ratio::ALWAYS, ..Impairment::default() };
        let mut rig = Rig::new(Way::Tx, spec);
        rig.queue.paths.set(Way::Rx, Some(Impair::new(spec, 1)), 256);
        rig.send(0..10);
        rig.deliver(ipv4(1));
        assert_eq!((rig.sent(), rig.received()), (vec![], vec![]));
        assert_eq!(rig.queue.paths.faults().map(|faults| faults.lost), [10, 1]);
        assert_eq!(rig.queue.ledger().held, 0);
        rig.finish();
    }

    #[test]
    fn doubled_frames_are_two_frames_with_the_same_bytes() {
        let spec = Impairment { duplicate: Ratio::ALWAYS, ..Impairment::default() };
        let mut rig = Rig::new(Way::Tx, spec);
        rig.queue.paths.set(Way::Rx, Some(Impair::new(spec, 1)), 256);
        rig.send(0..40);
        let twice: Vec<u8> = (0..40).flat_map(|number| [number, number]).collect();
        assert_eq!(rig.sent(), twice);
        rig.deliver(ipv4(9));
        assert_eq!(rig.received(), [ipv4(9), ipv4(9)]);
        assert_eq!(rig.queue.paths.faults().map(|faults| faults.duplicated), [40, 1]);
        rig.finish();
    }

    #[test]
    fn damage_is_one_bit_and_what_cannot_show_it_is_lost() {
        let spec = Impairment { corrupt: Ratio::ALWAYS, ..Impairment::default() };
        let mut rig = Rig::new(Way::Rx, spec);
        rig.deliver(ipv4(9));
        // No IPv4: it has no checksum.
        rig.deliver([0; FRAME_BYTES]);
        let received = rig.received();
        assert_eq!(received.len(), 1);
        let turned = received[0].iter().zip(ipv4(9)).map(|(a, b)| (a ^ b).count_ones());
        assert_eq!(turned.sum::<u32>(), 1);
        let faults = rig.queue.paths.rx.faults;
        assert_eq!((faults.corrupted, faults.lost), (1, 1));
        rig.finish();
    }

    #[test]
    fn no_more_frames_are_held_than_there_is_room_for() {
        let mut rig = Rig::new(Way::Tx, Impairment { delay: MS, ..Impairment::default() });
        for _ in 0..5 {
            rig.send(0..60);
        }
        assert_eq!(rig.queue.paths.tx.faults.full, 300 - 256);
        assert_eq!(rig.queue.ledger().held, 256);
        rig.turn_at(1);
        assert_eq!(rig.sent().len(), 256);
        rig.finish();
    }

    #[test]
    fn a_full_ring_holds_the_worker_up_and_loses_nothing() {
        let mut rig = Rig::new(Way::Tx, Impairment { jitter: MS, ..Impairment::default() });
        rig.queue.queue.room = 5;
        rig.send(0..10);
        rig.turn_at(2);
        assert_eq!(rig.sent(), [0, 1, 2, 3, 4]);
        rig.send(10..12);
        assert_eq!(rig.batch.len(), 2, "they wait at the worker");
        assert_eq!(rig.queue.wake_at(), Some(rig.now), "and it is to come back at once");
        rig.queue.queue.room = usize::MAX;
        rig.turn_at(3);
        rig.send(0..0);
        rig.turn_at(5);
        assert_eq!(rig.sent(), [5, 6, 7, 8, 9, 10, 11]);
        rig.finish();
    }

    #[test]
    fn what_found_no_room_before_the_faults_began_leaves_untouched() {
        let mut rig = Rig::new(Way::Tx, Impairment::default());
        rig.queue.paths.clear();
        rig.turn_at(1);
        rig.queue.queue.room = 0;
        rig.send(0..3);
        let spec = Impairment { loss: Ratio::ALWAYS, ..Impairment::default() };
        rig.queue.paths.set(Way::Tx, Some(Impair::new(spec, 1)), 256);
        rig.turn_at(2);
        assert_eq!(rig.queue.paths.stage, Stage::Starting);
        rig.queue.queue.room = usize::MAX;
        rig.turn_at(3);
        rig.send(3..6);
        assert_eq!((rig.sent(), rig.queue.paths.tx.faults.lost), (vec![0, 1, 2], 3));
        rig.finish();
    }

    #[test]
    fn held_frames_leave_at_once_and_in_their_order_when_the_faults_end() {
        let delay = Duration::from_millis(50);
        let mut rig = Rig::new(Way::Tx, Impairment { delay, ..Impairment::default() });
        rig.send(0..3);
        rig.queue.paths.set(Way::Tx, None, 256);
        rig.send(3..5);
        assert_eq!(rig.sent(), [0, 1, 2, 3, 4]);
        rig.turn_at(1);
        assert_eq!(rig.queue.paths.stage, Stage::Off);
        rig.finish();
    }
}
