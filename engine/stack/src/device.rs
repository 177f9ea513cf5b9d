//! The seam between a worker and whatever moves its frames: the move-only [`Frame`], the [`Batch`]
//! it travels in, the [`Ledger`] that proves none was lost, and the [`Device`] trait. Two devices
//! exist: AF_XDP sockets (in `barewire-engine`) and the in-process wire of [`memory`]. This file
//! knows no protocol and makes no system call.

pub mod memory;

/// The most frames that one `rx_batch` returns and one [`Batch`] holds.
pub const BATCH_MAX: usize = 64;

/// One frame of a device's umem, as a token. Whoever has the token owns the bytes; giving the token
/// to a ring or back to the device moves the ownership away. It is neither `Clone` nor `Copy`, so a
/// frame cannot be sent twice or freed twice; a token that is dropped instead of released shows up
/// in the [`Ledger`].
#[must_use = "a dropped frame token is a leaked frame: release it or transmit it"]
#[derive(Debug)]
pub struct Frame {
    idx: u32,
    offset: u16,
    len: u16,
}

impl Frame {
    /// A token for frame `idx`, whose data are the `len` bytes from `offset` of the frame. Only a
    /// device makes tokens, and each at most once until it gets it back.
    pub fn mint(idx: u32, offset: u16, len: u16) -> Self {
        Frame { idx, offset, len }
    }

    /// Which frame of the umem this is.
    pub fn idx(&self) -> u32 {
        self.idx
    }

    /// Where the data start inside the frame, in bytes.
    pub fn offset(&self) -> u16 {
        self.offset
    }

    /// Length of the data in bytes.
    #[expect(clippy::len_without_is_empty, reason = "an empty frame is never on a wire")]
    pub fn len(&self) -> u16 {
        self.len
    }

    /// The same frame with `len` bytes of data, as written by whoever filled it.
    pub fn with_len(mut self, len: u16) -> Self {
        self.len = len;
        self
    }
}

/// A group of frames on their way through a turn, at most [`BATCH_MAX`], oldest first. Allocated
/// once by its owner.
#[derive(Debug)]
pub struct Batch {
    frames: Vec<Frame>,
}

impl Batch {
    /// An empty batch with room for [`BATCH_MAX`] frames.
    pub fn new() -> Self {
        Batch { frames: Vec::with_capacity(BATCH_MAX) }
    }

    /// How many more frames fit.
    pub fn room(&self) -> usize {
        BATCH_MAX - self.frames.len()
    }

    /// The frames, oldest first.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// How many frames it holds.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Appends a frame.
    ///
    /// # Panics
    /// When the batch is full: callers ask [`Batch::room`] first.
    pub fn push(&mut self, frame: Frame) {
        assert!(self.room() > 0, "a batch holds at most {BATCH_MAX} frames");
        self.frames.push(frame);
    }

    /// Takes the first `n` frames out, oldest first.
    pub fn drain(&mut self, n: usize) -> impl Iterator<Item = Frame> {
        self.frames.drain(..n)
    }

    /// Takes the newest frame out.
    pub fn pop(&mut self) -> Option<Frame> {
        self.frames.pop()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

/// Where every frame of a umem is at this moment. `free` is the device's own store; `fill`, `rx`,
/// `tx` and `completion` are in the kernel's rings (a frame the kernel works on counts for the ring
/// it was last given to); `held` are tokens outside the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// In the device's free store.
    pub free: u32,
    /// Given to the kernel for reception.
    pub fill: u32,
    /// Received and not yet taken by `rx_batch`.
    pub rx: u32,
    /// Given to the kernel for transmission.
    pub tx: u32,
    /// Sent and not yet reclaimed.
    pub completion: u32,
    /// Owned by tokens outside the device.
    pub held: u32,
    /// All frames of the umem.
    pub total: u32,
}

impl Ledger {
    /// True when every frame is in exactly one place.
    pub fn balances(&self) -> bool {
        let sum = [self.free, self.fill, self.rx, self.tx, self.completion, self.held]
            .iter()
            .map(|&n| u64::from(n))
            .sum::<u64>();
        sum == u64::from(self.total)
    }
}

/// What a worker needs of a queue: batches in, batches out, and the bytes of the frames it holds.
pub trait Device {
    /// Appends received frames to `batch`, as many as are there and fit; returns how many. Refills
    /// the fill ring first, so that reception never starves while the caller works.
    fn rx_batch(&mut self, batch: &mut Batch) -> usize;

    /// Takes frames from the front of `batch` for transmission and returns how many; what does not
    /// fit in the transmit ring stays in the batch.
    fn tx_batch(&mut self, batch: &mut Batch) -> usize;

    /// A free frame to fill and transmit, or `None` when all are in use.
    fn alloc(&mut self) -> Option<Frame>;

    /// Takes a frame back unsent.
    fn release(&mut self, frame: Frame);

    /// The data of a frame: exactly `frame.len()` bytes.
    fn bytes(&self, frame: &Frame) -> &[u8];

    /// The whole writable part of a frame from its data offset on, at least as long as the data.
    fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8];

    /// Where all the frames are.
    fn ledger(&self) -> Ledger;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_balances_only_when_every_frame_is_in_one_place() {
        let ledger = Ledger { free: 3, fill: 2, rx: 0, tx: 1, completion: 0, held: 2, total: 8 };
        assert!(ledger.balances());
        assert!(!Ledger { held: 1, ..ledger }.balances());
        assert!(!Ledger { held: u32::MAX, ..ledger }.balances());
    }

    #[test]
    fn a_batch_gives_frames_back_in_order() {
        let mut batch = Batch::new();
        for idx in 0..3 {
            batch.push(Frame::mint(idx, 0, 60));
        }
        assert_eq!(batch.frames()[2].idx(), 2);
        let first: Vec<u32> = batch.drain(2).map(|f| f.idx()).collect();
        assert_eq!(first, [0, 1]);
        assert_eq!((batch.len(), batch.room()), (1, BATCH_MAX - 1));
    }
}
