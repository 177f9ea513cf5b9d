//! What the stack keeps for the load generator with each connection: one word. It is all that an idle
//! connection costs here, beside its id in the queue of the idle.

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has been counted: what still happens to it is of no interest.
    Over,
    /// The handshake goes on.
    Opening,
    /// Established, without a request.
    Idle,
    /// A request has no whole response yet.
    Busy,
    /// We have closed it, the peer has not.
    Closing,
}

/// The word of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) stage: Stage,
    /// Number of its destination, below 1024.
    pub(super) dst: u16,
    /// Number of its flight; of no meaning when it is over or idle.
    pub(super) flight: u32,
}

impl Mark {
    pub(super) const OVER: Mark = Mark { stage: Stage::Over, dst: 0, flight: 0 };

    pub(super) fn to_word(self) -> u64 {
        u64::from(self.flight) | u64::from(self.dst) << 32 | (self.stage as u64) << 48
    }

    /// The mark of a word; one that no mark has made is that of a connection which is over.
    pub(super) fn from_word(word: u64) -> Self {
        let stage = match word >> 48 {
            1 => Stage::Opening,
            2 => Stage::Idle,
            3 => Stage::Busy,
            4 => Stage::Closing,
            _ => Stage::Over,
        };
        Mark { stage, dst: (word >> 32) as u16, flight: word as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_fits_a_word() {
        let stages = [Stage::Over, Stage::Opening, Stage::Idle, Stage::Busy, Stage::Closing];
        for stage in stages {
            for (dst, flight) in [(0, 0), (1023, u32::MAX), (7, 9)] {
                let mark = Mark { stage, dst, flight };
                assert_eq!(Mark::from_word(mark.to_word()), mark);
            }
        }
        assert_eq!(Mark::from_word(u64::MAX).stage, Stage::Over);
    }
}
