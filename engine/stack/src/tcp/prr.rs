//! Proportional rate reduction (RFC 6937): while a window is being reduced, how much may be sent for
//! what an ACK says was delivered, so that the flight ends at the new threshold without a pause and
//! without a burst. All in bytes.

/// The sums since the reduction began.
#[derive(Debug, Default)]
pub struct Prr {
    /// Delivered to the receiver (prr_delivered).
    delivered: u32,
    /// Sent by us (prr_out).
    out: u32,
    /// In flight when it began (RecoverFS).
    flight: u32,
}

impl Prr {
    /// A reduction begins with so many bytes in flight.
    pub fn new(flight: u32) -> Self {
        Prr { delivered: 0, out: 0, flight: flight.max(1) }
    }

    /// Bytes left while the reduction goes on.
    pub fn on_sent(&mut self, n: u32) {
        self.out = self.out.saturating_add(n);
    }

    /// `delivered` bytes were delivered and `pipe` are in flight: returns how many may be sent now.
    /// Below the threshold the flight grows by one segment per ACK that shows progress (the slow
    /// start reduction bound), and else by what left the network (the conservative one).
    pub fn allowance(
        &mut self,
        delivered: u32,
        pipe: u32,
        ssthresh: u32,
        mss: u32,
        progress: bool,
    ) -> u32 {
        self.delivered = self.delivered.saturating_add(delivered);
        let n = if pipe > ssthresh {
            let due = u64::from(self.delivered) * u64::from(ssthresh);
            let due = due.div_ceil(u64::from(self.flight));
            u32::try_from(due).unwrap_or(u32::MAX).saturating_sub(self.out)
        } else {
            let bound = self.delivered.saturating_sub(self.out).max(delivered);
            let bound = if progress { bound.saturating_add(mss) } else { bound };
            bound.min(ssthresh - pipe)
        };
        // The retransmission that recovery is for leaves at once.
        if self.out == 0 { n.max(mss) } else { n }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1_000;

    #[test]
    fn a_full_window_is_thinned_out_evenly() {
        // 20 segments in flight, the first lost, threshold 14: RFC 6937 section 5's first example,
        // with CUBIC's factor.
        let mut prr = Prr::new(20 * MSS);
        let (mut pipe, mut sent) = (19 * MSS, 0);
        for _ in 0..19 {
            pipe -= MSS;
            let n = prr.allowance(MSS, pipe, 14 * MSS, MSS, false) / MSS * MSS;
            prr.on_sent(n);
            pipe += n;
            sent += n;
        }
        assert!((13 * MSS..=14 * MSS).contains(&pipe), "{pipe}");
        assert!((13 * MSS..=14 * MSS).contains(&sent), "{sent}");
    }

    #[test]
    fn heavy_loss_does_not_burst() {
        let mut prr = Prr::new(20 * MSS);
        let first = prr.allowance(MSS, 2 * MSS, 14 * MSS, MSS, false);
        assert_eq!(first, MSS, "what left the network, no more");
        prr.on_sent(first);
        let second = prr.allowance(MSS, 2 * MSS, 14 * MSS, MSS, true);
        assert_eq!(second, 2 * MSS, "one segment more for progress");
    }
}
