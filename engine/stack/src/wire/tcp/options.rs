//! The options of a TCP header: maximum segment size, window scale, SACK and timestamps (RFC 9293,
//! 7323, 2018). Other kinds are skipped by their length. Whether an option may stand in this
//! segment (some only in a SYN) and what its value means is decided by the connection.

use std::fmt;

use super::super::u32_at;
use super::{HEADER_BYTES, HEADER_BYTES_MAX};

const KIND_END: u8 = 0;
const KIND_NOP: u8 = 1;
const KIND_MSS: u8 = 2;
const KIND_WINDOW_SCALE: u8 = 3;
const KIND_SACK_PERMITTED: u8 = 4;
const KIND_SACK: u8 = 5;
const KIND_TIMESTAMPS: u8 = 8;

const TIMESTAMPS_BYTES: u8 = 10;
const SACK_BLOCK_BYTES: usize = 8;
/// Kind and length of an option, and the two NOPs that align it.
const ALIGNED_PREFIX_BYTES: usize = 4;

/// How a segment of an established connection begins its options, at nearly every sender (RFC 7323
/// appendix A).
const TIMESTAMPS_ALIGNED: [u8; ALIGNED_PREFIX_BYTES] =
    [KIND_NOP, KIND_NOP, KIND_TIMESTAMPS, TIMESTAMPS_BYTES];

/// The largest shift that a window scale option can ask for (RFC 7323 section 2.3).
pub const WINDOW_SCALE_MAX: u8 = 14;

/// The timestamps option (RFC 7323 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the receiver's clock, echoed; significant with ACK.
    pub echo: u32,
}

impl Timestamps {
    fn parse(body: &[u8; 8]) -> Timestamps {
        Timestamps { value: u32_at(body, 0), echo: u32_at(body, 4) }
    }
}

/// The blocks of a SACK option (RFC 2018 section 3), in their order. That a block makes sense, with
/// its left edge before its right, is not checked here.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(u32, u32); Self::N_MAX],
    len: u8,
}

impl SackBlocks {
    /// The most blocks that fit into a header.
    pub const N_MAX: usize = 4;

    /// Appends the block from `left` up to, not including, `right`; false when there is no room.
    pub fn push(&mut self, left: u32, right: u32) -> bool {
        let Some(block) = self.blocks.get_mut(usize::from(self.len)) else {
            return false;
        };
        *block = (left, right);
        self.len += 1;
        true
    }

    /// Keeps only the blocks for which `keep` holds, in their order.
    pub fn retain(&mut self, mut keep: impl FnMut((u32, u32)) -> bool) {
        let all = *self;
        self.len = 0;
        for (left, right) in all.iter().filter(|&block| keep(block)) {
            self.push(left, right);
        }
    }

    /// The blocks as pairs of left and right edge.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.blocks.iter().take(self.len()).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The options of a segment. When a kind is repeated, the last one counts; SACK blocks accumulate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The largest segment that the sender takes, in bytes; as received, even 0.
    pub mss: Option<u16>,
    /// How far to shift the window. A received value above [`WINDOW_SCALE_MAX`] is read as that
    /// (RFC 7323 section 2.3).
    pub window_scale: Option<u8>,
    /// The sender understands SACK.
    pub sack_permitted: bool,
    /// The timestamps.
    pub timestamps: Option<Timestamps>,
    /// What the sender has received beyond its acknowledgement.
    pub sack: SackBlocks,
    /// An option had an impossible length: 0, 1, beyond the header, or wrong for its kind. What
    /// came before it is valid; what came after was not read (RFC 9293 MUST-7). Never emitted.
    pub malformed: bool,
}

impl Options {
    /// Reads the bytes between the fixed header and the data: at most 40.
    pub(super) fn parse(bytes: &[u8]) -> Options {
        let mut options = Options::default();
        if let Some((prefix, body)) = bytes.split_first_chunk()
            && *prefix == TIMESTAMPS_ALIGNED
            && let Ok(body) = body.try_into()
        {
            options.timestamps = Some(Timestamps::parse(body));
        } else {
            options.malformed = options.read_each(bytes).is_none();
        }
        options
    }

    /// `None` at the first option of impossible length.
    fn read_each(&mut self, mut bytes: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = bytes {
            match *kind {
                KIND_END => break,
                KIND_NOP => bytes = rest,
                kind => {
                    // The length counts the two bytes of kind and length itself.
                    let len = usize::from(*rest.first()?);
                    self.read(kind, bytes.get(2..len)?)?;
                    bytes = &bytes[len..];
                }
            }
        }
        Some(())
    }

    /// `None` when the length of `body` is wrong for the kind.
    fn read(&mut self, kind: u8, body: &[u8]) -> Option<()> {
        match kind {
            KIND_MSS => self.mss = Some(u16::from_be_bytes(body.try_into().ok()?)),
            KIND_WINDOW_SCALE => {
                let [shift] = body.try_into().ok()?;
                self.window_scale = Some(WINDOW_SCALE_MAX.min(shift));
            }
            KIND_SACK_PERMITTED => {
                if !body.is_empty() {
                    return None;
                }
                self.sack_permitted = true;
            }
            KIND_SACK => {
                let (blocks, rest) = body.as_chunks::<SACK_BLOCK_BYTES>();
                if blocks.is_empty() || !rest.is_empty() {
                    return None;
                }
                for block in blocks {
                    // Room for all: five blocks do not fit into a header, not even in several
                    // options.
                    self.sack.push(u32_at(block, 0), u32_at(block, 4));
                }
            }
            KIND_TIMESTAMPS => self.timestamps = Some(Timestamps::parse(body.try_into().ok()?)),
            _ => {}
        }
        Some(())
    }

    /// How many bytes [`Options::emit`] writes.
    pub(super) fn emitted_len(&self) -> usize {
        match self.n_sack_blocks() {
            0 => self.len_without_sack(),
            n => self.len_without_sack() + ALIGNED_PREFIX_BYTES + n * SACK_BLOCK_BYTES,
        }
    }

    /// Writes the options, each group of them a whole number of words, so that no padding is needed
    /// at the end. The window scale comes after the timestamps, as Linux has it.
    pub(in super::super) fn emit(&self, buf: &mut [u8]) -> usize {
        let mut len = 0;
        let mut put = |bytes: &[u8]| {
            buf[len..len + bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        };
        if let Some(mss) = self.mss {
            put(&[KIND_MSS, 4]);
            put(&mss.to_be_bytes());
        }
        match (self.sack_permitted, self.timestamps) {
            (true, Some(_)) => put(&[KIND_SACK_PERMITTED, 2, KIND_TIMESTAMPS, TIMESTAMPS_BYTES]),
            (true, None) => put(&[KIND_NOP, KIND_NOP, KIND_SACK_PERMITTED, 2]),
            (false, Some(_)) => put(&TIMESTAMPS_ALIGNED),
            (false, None) => {}
        }
        if let Some(Timestamps { value, echo }) = self.timestamps {
            put(&value.to_be_bytes());
            put(&echo.to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            put(&[KIND_NOP, KIND_WINDOW_SCALE, 3, shift]);
        }
        let n_sack_blocks = self.n_sack_blocks();
        if n_sack_blocks > 0 {
            let option_len = 2 + n_sack_blocks * SACK_BLOCK_BYTES;
            put(&[KIND_NOP, KIND_NOP, KIND_SACK, option_len as u8]);
            for (left, right) in self.sack.iter().take(n_sack_blocks) {
                put(&left.to_be_bytes());
                put(&right.to_be_bytes());
            }
        }
        len
    }

    /// The timestamps, if they are all there is.
    pub(in super::super) fn sole_timestamps(&self) -> Option<Timestamps> {
        let others = self.sack_permitted
            || self.mss.is_some()
            || self.window_scale.is_some()
            || !self.sack.is_empty();
        self.timestamps.filter(|_| !others)
    }

    /// At most 20 bytes, so that there is always room for two SACK blocks.
    fn len_without_sack(&self) -> usize {
        let mss = if self.mss.is_some() { 4 } else { 0 };
        let timestamps = match (self.sack_permitted, self.timestamps) {
            (_, Some(_)) => ALIGNED_PREFIX_BYTES + 8,
            (true, None) => ALIGNED_PREFIX_BYTES,
            (false, None) => 0,
        };
        let window_scale = if self.window_scale.is_some() { 4 } else { 0 };
        mss + timestamps + window_scale
    }

    /// How many of the SACK blocks fit beside the other options.
    fn n_sack_blocks(&self) -> usize {
        let room = HEADER_BYTES_MAX - HEADER_BYTES - self.len_without_sack() - ALIGNED_PREFIX_BYTES;
        self.sack.len().min(room / SACK_BLOCK_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typical_syn_is_read_whole() {
        let bytes = [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
        let syn = Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps { value: 9, echo: 0 }),
            ..Options::default()
        };
        assert_eq!(Options::parse(&bytes), syn);
        let mut emitted = [0; 20];
        assert_eq!(syn.emit(&mut emitted), 20);
        assert_eq!(emitted, bytes);
    }

    #[test]
    fn options_may_stand_at_any_offset_and_end_early() {
        let bytes = [1, 2, 4, 0x02, 0x18, 1, 1, 3, 3, 2, 4, 2, 0, 0xff, 0xff, 0xff];
        let options = Options::parse(&bytes);
        assert_eq!(options.mss, Some(536));
        assert_eq!(options.window_scale, Some(2));
        assert!(options.sack_permitted && !options.malformed);
    }

    #[test]
    fn the_short_way_and_the_long_way_read_the_same_timestamps() {
        let aligned = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
        let shifted = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1];
        let longer = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 1, 1];
        let expected = Options {
            timestamps: Some(Timestamps { value: 0x0102_0304, echo: 0x0506_0708 }),
            ..Options::default()
        };
        assert_eq!(Options::parse(&aligned), expected);
        assert_eq!(Options::parse(&shifted), expected);
        assert_eq!(Options::parse(&longer), expected);
        assert!(Options::parse(&aligned[..8]).malformed);
    }

    #[test]
    fn reading_stops_at_the_first_impossible_length_and_keeps_what_was_before() {
        for broken in [&[5, 0][..], &[5, 1], &[5, 2], &[5, 9], &[5, 10], &[254], &[254, 3]] {
            let bytes = [&[2, 4, 0x05, 0xb4], broken].concat();
            let options = Options::parse(&bytes);
            assert!(options.malformed, "{broken:?}");
            assert_eq!(options.mss, Some(1460), "{broken:?}");
        }
        let options = Options::parse(&[3, 4, 7, 0, 2, 4, 0x05, 0xb4]);
        assert_eq!(options, Options { malformed: true, ..Options::default() });
    }

    #[test]
    fn a_window_scale_beyond_14_is_read_as_14() {
        assert_eq!(Options::parse(&[3, 3, 14, 0]).window_scale, Some(14));
        assert_eq!(Options::parse(&[3, 3, 15, 0]).window_scale, Some(14));
        assert_eq!(Options::parse(&[3, 3, 255, 0]).window_scale, Some(14));
    }

    #[test]
    fn three_sack_blocks_fit_beside_timestamps_and_four_without() {
        let mut sack = SackBlocks::default();
        for left in [10, 30, 50, 70] {
            assert!(sack.push(left, left + 10));
        }
        assert!(!sack.push(90, 100));
        assert_eq!(sack.iter().collect::<Vec<_>>(), [(10, 20), (30, 40), (50, 60), (70, 80)]);

        let mut buf = [0; 40];
        let bare = Options { sack, ..Options::default() };
        assert_eq!((bare.emitted_len(), bare.emit(&mut buf)), (36, 36));
        assert_eq!(Options::parse(&buf[..36]).sack, sack);

        let timed = Options { timestamps: Some(Timestamps::default()), ..bare };
        assert_eq!((timed.emitted_len(), timed.emit(&mut buf)), (40, 40));
        let emitted = Options::parse(&buf).sack;
        assert_eq!(emitted.iter().collect::<Vec<_>>(), [(10, 20), (30, 40), (50, 60)]);
    }
}
