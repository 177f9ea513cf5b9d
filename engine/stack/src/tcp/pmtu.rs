//! Path MTU discovery (RFC 1191): everything leaves with DF set, and a router on whose next link a
//! segment does not fit says so. What it says counts only for the connection whose segment it quotes,
//! and is forgotten after a while; nothing is kept for a path, and ICMP never makes segments larger.
//! How a message is parsed and its connection found is in the stack.

use super::scoreboard::Segment;
use super::{Connection, Context, MSS_DEFAULT, MSS_MIN, Seq, TIMESTAMPS_BYTES, Tick};
use crate::stats::Counter;

/// IPv4 and TCP headers without options.
const HEADERS_BYTES: u16 = 40;

/// Every link carries so much (RFC 791 section 3.2): a router that says less lies.
const MTU_MIN: u16 = 68;

/// The MTUs of common links (RFC 1191 section 7), for routers that do not tell theirs.
const PLATEAUS: [u16; 10] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, MTU_MIN];

/// What is known of the path beyond our own link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PathMtu {
    /// The send MSS that both ends allow.
    pub(super) mss_agreed: u16,
    /// When that is tried again, while segments are smaller.
    raise_at: Tick,
}

impl PathMtu {
    /// Nothing is known of a path to a peer that agreed to this send MSS.
    pub(super) fn of(mss_agreed: u16) -> Self {
        PathMtu { mss_agreed, raise_at: Tick::NEVER }
    }
}

impl PathMtu {
    /// Long enough after a reduction, new data may try the full size again.
    pub(super) fn may_be_raised(&self, now: Tick) -> bool {
        self.raise_at.is_due(now)
    }
}

impl Connection {
    /// The largest packet of this connection in bytes, where the full size is too much for the path.
    pub fn path_mtu(&self) -> Option<u16> {
        (self.snd.mss < self.path.mss_agreed).then(|| self.snd.mss + self.header_bytes())
    }

    /// A router says that the segment with the number `seq` was larger than `mtu`; 0 when it does not
    /// tell. Tells whether that is believed. The message must quote what is in flight (RFC 5927 section
    /// 4.1), and a segment that really is larger than what is said to fit; then all that do not fit go
    /// again at once in smaller segments. Their loss says nothing about congestion (RFC 1191 section
    /// 6.4). A flood of such messages can do this once for each byte between MSS and `pmtu_min`.
    pub fn on_too_big(&mut self, cx: &mut Context<'_>, seq: Seq, mtu: u16) -> bool {
        let headers = self.header_bytes();
        let data_end = self.data_end();
        let payload = |segment: &Segment| segment.len - u32::from(segment.end().gt(data_end));
        let is_quoted = |segment: &Segment| segment.start.le(seq) && segment.end().gt(seq);
        let Some(quoted) = self.snd.board.iter(cx.segments).find(|segment| is_quoted(segment))
        else {
            return false;
        };
        let quoted = payload(quoted);
        // Old routers tell only that this very packet was too big, whatever others may be.
        let packet = u16::try_from(quoted).unwrap_or(u16::MAX).min(self.snd.mss) + headers;
        let told = if mtu == 0 { plateau_below(packet) } else { mtu };
        let mss = told.max(cx.config.pmtu_min).saturating_sub(headers).max(MSS_MIN);
        if told < MTU_MIN || mss >= self.snd.mss || quoted <= u32::from(mss) {
            return false;
        }
        let is_too_big = |segment: &Segment| payload(segment) > u32::from(mss);
        cx.stats.inc(Counter::PathMtuReduced);
        self.reduce_mss(cx, mss);
        self.snd.board.mark_lost(cx.segments, |segment| Some(is_too_big(segment)));
        self.snd.at_once = true;
        true
    }

    /// The path may have changed: new data try the full size again (RFC 1191 section 6.3). If it still
    /// does not fit, a router says so.
    pub(super) fn raise_path_mtu(&mut self, cx: &Context<'_>) {
        if self.path.may_be_raised(cx.now.tick) {
            self.path.raise_at = Tick::NEVER;
            self.snd.mss = self.path.mss_agreed;
        }
    }

    /// The retransmission timer runs out. Where routers drop what is too big and tell nobody (RFC 2923
    /// section 2.1), large segments time out again and again: after the second time the default size
    /// is tried, if the operator expects such paths. A path that is just dead looks the same.
    pub(super) fn suspect_black_hole(&mut self, cx: &mut Context<'_>) {
        let mss = MSS_DEFAULT + HEADERS_BYTES - self.header_bytes();
        let is_large = self.snd.board.first().is_some_and(|first| first.len > u32::from(mss));
        if cx.config.pmtu_black_hole && self.snd.retries == 2 && self.snd.mss > mss && is_large {
            cx.stats.inc(Counter::PathMtuBlackHoles);
            self.reduce_mss(cx, mss);
        }
    }

    fn reduce_mss(&mut self, cx: &Context<'_>, mss: u16) {
        self.snd.mss = mss;
        self.path.raise_at = if cx.config.pmtu_raise.is_zero() {
            Tick::NEVER
        } else {
            cx.now.after(cx.config.pmtu_raise)
        };
    }

    /// Headers of a segment with data.
    fn header_bytes(&self) -> u16 {
        HEADERS_BYTES + if self.stamps.on { TIMESTAMPS_BYTES } else { 0 }
    }
}

fn plateau_below(mtu: u16) -> u16 {
    PLATEAUS.into_iter().find(|&plateau| plateau < mtu).unwrap_or(MTU_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plateaus_go_down_to_the_smallest_link() {
        let mut mtu = 1500;
        let mut steps = Vec::new();
        while mtu > MTU_MIN {
            mtu = plateau_below(mtu);
            steps.push(mtu);
        }
        assert_eq!(steps, [1492, 1006, 508, 296, 68]);
        assert_eq!((plateau_below(u16::MAX), plateau_below(68)), (32_000, 68));
    }
}
