//! What a run leaves behind for comparison and for readers: a hash over every frame with its time,
//! which two runs of one seed share, and, when somebody wants to read along, lines of text.

use crate::time::Instant;
use std::fmt;

/// Where lines of text go.
pub type Sink<'a> = &'a mut dyn FnMut(&str);

/// The trace of one run.
pub(super) struct Trace<'a> {
    hash: u64,
    sink: Option<Sink<'a>>,
}

impl<'a> Trace<'a> {
    pub(super) fn new(sink: Option<Sink<'a>>) -> Self {
        Trace { hash: 0, sink }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// A host sent a frame. Its headers are in the hash; of the data the oracle knows every byte.
    pub(super) fn frame(&mut self, now: Instant, host: usize, frame: &[u8]) {
        const HEADERS_BYTES: usize = 96;
        self.mix(now.as_nanos());
        self.mix((host as u64) << 32 | frame.len() as u64);
        for bytes in frame[..frame.len().min(HEADERS_BYTES)].chunks(8) {
            let word = bytes.iter().fold(0, |word, &byte| (word << 8) | u64::from(byte));
            self.mix(word);
        }
    }

    /// Something happened; the text is made only if somebody reads it.
    pub(super) fn line(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if let Some(sink) = &mut self.sink {
            sink(&format!("{:.6} {}", now.as_nanos() as f64 / 1e9, text()));
        }
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(29);
    }
}

impl fmt::Debug for Trace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("hash", &self.hash).finish_non_exhaustive()
    }
}
