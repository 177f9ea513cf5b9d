//! Where every frame of the umem is, and the judgement of what the kernel hands back. One byte per
//! frame makes a second use of a frame detectable; the sums are kept as frames move, and
//! [`Frames::recount`] proves them. No memory and no ring is touched here.
//!
//! A frame moves Free -> Fill -> Held (received) or Free -> Held (to write) -> Tx -> Free, and from
//! Held back to Free or on to Tx. What waits in the RX ring still counts as Fill and what waits in the
//! completion ring still counts as Tx: it belongs to the kernel until it is taken.

use super::options::{XDP_HEADROOM_BYTES, XdpOptions};
use barewire_stack::device::{Frame, Ledger};

/// Set in `xdp_desc.options` when the packet goes on in the next descriptor (if_xdp.h).
const XDP_PKT_CONTD: u32 = 1;

/// Who has a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Place {
    /// The free store.
    Free,
    /// The kernel, to receive into.
    Fill,
    /// The kernel, to transmit from.
    Tx,
    /// A token outside the device.
    Held,
}

/// Why something the kernel handed back was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadDesc {
    /// The address lies in no frame of this umem.
    OutsideUmem,
    /// The data would cross the end of their frame.
    OutsideFrame,
    /// No data.
    Empty,
    /// Part of a packet in several frames, or an option we never asked for.
    Options,
    /// The frame is not with the kernel in this direction: it was handed back before, or never given.
    Duplicate,
}

/// The ledger of all frames, and the store of the free ones.
#[derive(Debug)]
pub(super) struct Frames {
    places: Vec<Place>,
    /// Last in, first out: the frame used last is the one still in the cache.
    free: Vec<u32>,
    /// How many frames are in each place, by `Place as usize`.
    counts: [u32; 4],
    frame_bytes: u32,
    /// The descriptor before ended in the middle of a packet.
    within_packet: bool,
}

impl Frames {
    /// All frames of a umem, free.
    pub(super) fn new(n_frames: u32, frame_bytes: u32) -> Self {
        Frames {
            places: vec![Place::Free; n_frames as usize],
            free: (0..n_frames).rev().collect(),
            counts: [n_frames, 0, 0, 0],
            frame_bytes,
            within_packet: false,
        }
    }

    /// How many frames are in `place`.
    #[inline]
    pub(super) fn count(&self, place: Place) -> u32 {
        self.counts[place as usize]
    }

    /// True when frame `idx` is in the hands of a token.
    #[inline]
    pub(super) fn is_held(&self, idx: u32) -> bool {
        self.places.get(idx as usize) == Some(&Place::Held)
    }

    /// Takes a free frame to `place`.
    #[inline]
    pub(super) fn take_free(&mut self, place: Place) -> Option<u32> {
        let idx = self.free.pop()?;
        self.moved(idx, Place::Free, place);
        Some(idx)
    }

    /// Moves frame `idx` on to `to`; false, and nothing happens, when it is not in `from` (which is
    /// not Free: [`Frames::take_free`] does that).
    #[inline]
    #[must_use]
    pub(super) fn shift(&mut self, idx: u32, from: Place, to: Place) -> bool {
        if self.places.get(idx as usize) != Some(&from) {
            return false;
        }
        self.moved(idx, from, to);
        if to == Place::Free {
            self.free.push(idx);
        }
        true
    }

    /// Judges a descriptor of the RX ring. A good one becomes the token of its frame. A bad one gives
    /// its frame back to the free store, when the address names one that the kernel had.
    #[inline]
    pub(super) fn receive(&mut self, addr: u64, len: u64, options: u32) -> Result<Frame, BadDesc> {
        let fragment = self.within_packet;
        self.within_packet = options & XDP_PKT_CONTD != 0;
        let idx = self.frame_at(addr).ok_or(BadDesc::OutsideUmem)?;
        let offset = addr as u32 & (self.frame_bytes - 1);
        let bad = if options != 0 || fragment {
            Some(BadDesc::Options)
        } else if len == 0 {
            Some(BadDesc::Empty)
        } else if len > u64::from(self.frame_bytes - offset) {
            Some(BadDesc::OutsideFrame)
        } else {
            None
        };
        let to = if bad.is_none() { Place::Held } else { Place::Free };
        if !self.shift(idx, Place::Fill, to) {
            return Err(BadDesc::Duplicate);
        }
        // Both fit: a frame has at most 4096 bytes.
        bad.map_or_else(|| Ok(Frame::mint(idx, offset as u16, len as u16)), Err)
    }

    /// Judges an address of the completion ring; a good one frees its frame, whose index it returns.
    #[inline]
    pub(super) fn complete(&mut self, addr: u64) -> Result<u32, BadDesc> {
        let idx = self.frame_at(addr).ok_or(BadDesc::OutsideUmem)?;
        if self.shift(idx, Place::Tx, Place::Free) { Ok(idx) } else { Err(BadDesc::Duplicate) }
    }

    /// How many frames may be given to the kernel for reception now. See
    /// [`XdpOptions::transmission_min`] for why there is a limit besides the ring.
    pub(super) fn to_fill(&self, options: &XdpOptions) -> u32 {
        let reception_max = self.places.len() as u32 - options.transmission_min();
        let room = reception_max.saturating_sub(self.count(Place::Fill));
        room.min(self.count(Place::Free))
    }

    /// A frame to write and transmit, unless those left are what reception is owed. See
    /// [`XdpOptions::reception_min`].
    #[inline]
    pub(super) fn alloc(&mut self, options: &XdpOptions) -> Option<Frame> {
        let owed = options.reception_min().saturating_sub(self.count(Place::Fill));
        if self.count(Place::Free) <= owed {
            return None;
        }
        let idx = self.take_free(Place::Held)?;
        Some(Frame::mint(idx, XDP_HEADROOM_BYTES as u16, 0))
    }

    /// The sums, as kept.
    pub(super) fn ledger(&self) -> Ledger {
        Ledger {
            free: self.count(Place::Free),
            fill: self.count(Place::Fill),
            rx: 0,
            tx: self.count(Place::Tx),
            completion: 0,
            held: self.count(Place::Held),
            total: self.places.len() as u32,
        }
    }

    /// The sums, counted again frame by frame, the free store by what it holds. Equal to
    /// [`Frames::ledger`], or there is a bug.
    pub(super) fn recount(&self) -> Ledger {
        let n = |place| self.places.iter().filter(|&&p| p == place).count() as u32;
        let stored = |&&idx: &&u32| self.places[idx as usize] == Place::Free;
        Ledger {
            free: self.free.iter().filter(stored).count() as u32,
            fill: n(Place::Fill),
            tx: n(Place::Tx),
            held: n(Place::Held),
            ..self.ledger()
        }
    }

    #[inline]
    fn moved(&mut self, idx: u32, from: Place, to: Place) {
        self.places[idx as usize] = to;
        self.counts[from as usize] -= 1;
        self.counts[to as usize] += 1;
    }

    /// Where frame `idx` begins in the umem.
    #[inline]
    pub(super) fn address(&self, idx: u32) -> u64 {
        u64::from(idx) * u64::from(self.frame_bytes)
    }

    /// The frame that `addr` lies in. Data may begin anywhere in it: drivers and programs move them.
    #[inline]
    fn frame_at(&self, addr: u64) -> Option<u32> {
        // A shift, for this is done for every frame: options demand a power of two.
        let idx = addr >> self.frame_bytes.trailing_zeros();
        (idx < self.places.len() as u64).then_some(idx as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barewire_stack::device::BATCH_MAX;

    /// Eight frames of 2048 bytes; frames 0 to 3 are with the kernel to receive, 4 to transmit.
    fn frames() -> Frames {
        let mut frames = Frames::new(8, 2048);
        for idx in 0..4 {
            assert_eq!(frames.take_free(Place::Fill), Some(idx));
        }
        assert_eq!(frames.take_free(Place::Tx), Some(4));
        frames
    }

    fn check(frames: &Frames, free: u32, fill: u32, tx: u32, held: u32) {
        let ledger = frames.ledger();
        assert_eq!(ledger, frames.recount());
        assert!(ledger.balances(), "{ledger:?}");
        assert_eq!((ledger.free, ledger.fill, ledger.tx, ledger.held), (free, fill, tx, held));
    }

    #[test]
    fn a_good_descriptor_becomes_the_token_of_its_frame() {
        let mut frames = frames();
        let frame = frames.receive(2048 + 256, 60, 0).expect("frame 1 is with the kernel");
        assert_eq!((frame.idx(), frame.offset(), frame.len()), (1, 256, 60));
        check(&frames, 3, 3, 1, 1);
    }

    #[test]
    fn data_may_fill_their_frame_to_the_last_byte() {
        let mut frames = frames();
        let frame = frames.receive(256, 1792, 0).expect("256 + 1792 = 2048");
        assert_eq!(frame.len(), 1792);
        let frame = frames.receive(2048, 2048, 0).expect("a whole frame");
        assert_eq!((frame.offset(), frame.len()), (0, 2048));
    }

    #[test]
    fn a_bad_descriptor_is_named_and_its_frame_recovered() {
        for (addr, len, options, expected) in [
            (256, 0, 0, BadDesc::Empty),
            (256, 1793, 0, BadDesc::OutsideFrame),
            (2047, 2, 0, BadDesc::OutsideFrame),
            (256, u64::from(u32::MAX), 0, BadDesc::OutsideFrame),
            (256, 60, 2, BadDesc::Options),
            (256, 60, 1 << 31, BadDesc::Options),
        ] {
            let mut frames = frames();
            let found = frames.receive(addr, len, options).expect_err("must be refused");
            assert_eq!(found, expected, "address {addr}, length {len}, options {options}");
            check(&frames, 4, 3, 1, 0);
        }
    }

    #[test]
    fn an_address_outside_the_umem_names_no_frame() {
        let mut frames = frames();
        for addr in [8 * 2048, 1 << 48 | 256, u64::MAX] {
            assert_eq!(frames.receive(addr, 60, 0).err(), Some(BadDesc::OutsideUmem));
            assert_eq!(frames.complete(addr), Err(BadDesc::OutsideUmem));
        }
        check(&frames, 3, 4, 1, 0);
    }

    #[test]
    fn a_frame_handed_back_twice_is_a_duplicate_and_changes_nothing() {
        let mut frames = frames();
        let _held = frames.receive(256, 60, 0).expect("the first time");
        assert_eq!(frames.receive(256, 60, 0).err(), Some(BadDesc::Duplicate));
        assert_eq!(frames.receive(300, 0, 0).err(), Some(BadDesc::Duplicate));
        check(&frames, 3, 3, 1, 1);
        assert_eq!(frames.complete(4 * 2048 + 256), Ok(4));
        assert_eq!(frames.complete(4 * 2048 + 256), Err(BadDesc::Duplicate));
        check(&frames, 4, 3, 0, 1);
    }

    #[test]
    fn a_frame_handed_back_by_the_wrong_ring_is_a_duplicate() {
        let mut frames = frames();
        assert_eq!(frames.receive(4 * 2048 + 256, 60, 0).err(), Some(BadDesc::Duplicate));
        assert_eq!(frames.complete(256), Err(BadDesc::Duplicate));
        assert_eq!(frames.complete(6 * 2048), Err(BadDesc::Duplicate), "a free frame");
        check(&frames, 3, 4, 1, 0);
    }

    #[test]
    fn every_part_of_a_packet_in_several_frames_is_refused_and_recovered() {
        let mut frames = frames();
        assert_eq!(frames.receive(256, 1792, 1).err(), Some(BadDesc::Options));
        assert_eq!(frames.receive(2048 + 256, 1792, 1).err(), Some(BadDesc::Options));
        assert_eq!(frames.receive(4096 + 256, 100, 0).err(), Some(BadDesc::Options), "the tail");
        let whole = frames.receive(6144 + 256, 100, 0).expect("the next packet is a whole one");
        assert_eq!(whole.len(), 100);
        check(&frames, 6, 0, 1, 1);
    }

    #[test]
    fn a_token_of_a_frame_that_is_not_held_is_not_taken() {
        let mut frames = frames();
        assert!(!frames.shift(0, Place::Held, Place::Free), "with the kernel");
        assert!(!frames.shift(7, Place::Held, Place::Tx), "free");
        assert!(!frames.shift(8, Place::Held, Place::Free), "no frame of this umem");
        check(&frames, 3, 4, 1, 0);
    }

    /// The smallest sound device: rings of 64, 320 frames.
    fn small() -> (XdpOptions, Frames) {
        let mut options = XdpOptions::new("d0", 0);
        options.rx_ring = 64;
        options.tx_ring = 64;
        options.fill_ring = 64;
        options.completion_ring = 64;
        options.n_frames = options.n_frames_min();
        let frames = Frames::new(options.n_frames, options.frame_bytes);
        (options, frames)
    }

    #[test]
    fn transmission_never_takes_what_reception_is_owed() {
        let (options, mut frames) = small();
        let mut n = 0;
        while let Some(frame) = frames.alloc(&options) {
            assert_eq!((frame.offset(), frame.len()), (256, 0));
            n += 1;
        }
        assert_eq!(n, 64 + 2 * BATCH_MAX, "the TX ring and two batches");
        assert_eq!(frames.count(Place::Free), 64 + 64, "the fill ring and the RX ring");
        while frames.to_fill(&options) > 0 {
            frames.take_free(Place::Fill).expect("it said that there are some");
        }
        assert_eq!(frames.count(Place::Fill), 128);
        check(&frames, 0, 128, 0, 192);
    }

    #[test]
    fn reception_never_takes_what_transmission_is_owed() {
        let (options, mut frames) = small();
        while frames.to_fill(&options) > 0 {
            frames.take_free(Place::Fill).expect("it said that there are some");
        }
        assert_eq!(frames.count(Place::Fill), 128);
        let n = std::iter::from_fn(|| frames.alloc(&options)).count();
        assert_eq!(n, 64 + 2 * BATCH_MAX);
    }
}
