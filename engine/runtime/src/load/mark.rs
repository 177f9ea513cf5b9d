//! What the stack keeps for the load generator with each connection: one word. It is all that an
//! idle connection costs here, beside its id in the queue of the idle.

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
    /// Number of its destination, below 2^10.
    pub(super) dst: u16,
    /// Number of its flight, at most 2^20; of no meaning when it is over or idle.
    pub(super) flight: u32,
    /// Which load test it belongs to, below 2^30.
    pub(super) run: u32,
}

const FLIGHT_BITS: u32 = 21;
const DST_BITS: u32 = 10;
const RUN_BITS: u32 = 30;

impl Mark {
    pub(super) const OVER: Mark = Mark { stage: Stage::Over, dst: 0, flight: 0, run: 0 };

    /// A number for a load test that begins at so many nanoseconds: two that have the same began a
    /// multiple of 18 minutes apart, to the microsecond.
    pub(super) const fn run_at(ns: u64) -> u32 {
        (ns / 1_000) as u32 & ((1 << RUN_BITS) - 1)
    }

    pub(super) fn to_word(self) -> u64 {
        let Mark { stage, dst, flight, run } = self;
        let dst_and_flight = u64::from(dst) << FLIGHT_BITS | u64::from(flight);
        (stage as u64) << (RUN_BITS + DST_BITS + FLIGHT_BITS)
            | u64::from(run) << (DST_BITS + FLIGHT_BITS)
            | dst_and_flight
    }

    /// The mark of a word; one that no mark has made is that of a connection which is over.
    pub(super) fn from_word(word: u64) -> Self {
        let field = |at: u32, len: u32| ((word >> at) & ((1 << len) - 1)) as u32;
        let stage = match word >> (RUN_BITS + DST_BITS + FLIGHT_BITS) {
            1 => Stage::Opening,
            2 => Stage::Idle,
            3 => Stage::Busy,
            4 => Stage::Closing,
            _ => Stage::Over,
        };
        Mark {
            stage,
            dst: field(FLIGHT_BITS, DST_BITS) as u16,
            flight: field(0, FLIGHT_BITS),
            run: field(FLIGHT_BITS + DST_BITS, RUN_BITS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barewire_api::config::DESTINATIONS_MAX;

    #[test]
    fn every_mark_fits_a_word() {
        let stages = [Stage::Over, Stage::Opening, Stage::Idle, Stage::Busy, Stage::Closing];
        let last = DESTINATIONS_MAX as u16 - 1;
        for stage in stages {
            for (dst, flight, run) in
                [(0, 0, 0), (last, 1 << 20, Mark::run_at(u64::MAX)), (7, 9, 5)]
            {
                let mark = Mark { stage, dst, flight, run };
                assert_eq!(Mark::from_word(mark.to_word()), mark);
            }
        }
        assert_eq!(Mark::from_word(u64::MAX).stage, Stage::Over);
    }
}
