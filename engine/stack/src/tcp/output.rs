//! The next segment to send. [`Connection::poll_transmit`] asks in a fixed order what the peer is
//! owed: a reset, the handshake, what was lost, new data, the FIN, a probe, and at last a bare ACK,
//! which every other segment makes superfluous. Headers are values; the payload is copied from the
//! send queue straight into the frame.

use super::buffer::Pool;
use super::{Connection, Context, Fin, Seq, State, Tick};
use crate::stats::Counter;
use crate::wire::tcp::{Flags, Options, SackBlocks, Tcp, Timestamps};

/// A segment about to leave: its header without ports, and which bytes of the send queue follow.
#[derive(Debug)]
pub struct Outgoing {
    /// The header; ports are filled in by whoever knows the four-tuple.
    pub tcp: Tcp,
    /// Offset of the payload in the send queue.
    offset: u32,
    /// Length of the payload in bytes.
    pub len: u32,
}

impl Connection {
    /// The next segment that may be sent now, if any. Each call returns one; the caller asks until
    /// nothing is left or its frames are.
    pub fn poll_transmit(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        if self.reset {
            return Some(self.reset_segment(cx));
        }
        match self.state {
            State::Closed => None,
            State::SynSent | State::SynReceived => self.next_syn(cx).or_else(|| self.next_ack(cx)),
            State::TimeWait => self.next_ack(cx),
            _ => self
                .next_retransmission(cx)
                .or_else(|| self.next_data(cx))
                .or_else(|| self.next_fin(cx))
                .or_else(|| self.next_probe(cx))
                .or_else(|| self.next_ack(cx)),
        }
    }

    /// Copies the payload of `out` into `buf`, which is as long as the payload.
    pub fn copy_payload(&self, pool: &Pool, out: &Outgoing, buf: &mut [u8]) {
        let n = self.snd.queue.copy_to(pool, out.offset, buf);
        assert_eq!(n, buf.len(), "a segment's payload lies within the send queue");
    }

    fn reset_segment(&mut self, cx: &mut Context<'_>) -> Outgoing {
        self.reset = false;
        cx.stats.inc(Counter::TcpRstOut);
        self.segment(cx, Flags::RST | Flags::ACK, self.bare_seq(), 0)
    }

    /// SYN or SYN-ACK, when it was not sent or its timer ran out.
    fn next_syn(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        if self.snd.nxt != self.snd.una {
            return None;
        }
        let again = self.snd.max != self.snd.una;
        let flags = match self.state {
            State::SynSent => Flags::SYN,
            _ => Flags::SYN | Flags::ACK,
        };
        self.note_sent(cx, self.snd.una, 1, again);
        self.snd.nxt = self.snd.una + 1;
        self.snd.max = self.snd.nxt;
        let mut out = self.segment(cx, flags, self.snd.una, 0);
        let passive = self.state == State::SynReceived;
        let scales =
            cx.config.window_scale && (!passive || self.rcv.shift > 0 || self.snd.shift > 0);
        let stamps = if passive { self.stamps.on } else { cx.config.timestamps };
        out.tcp.options = Options {
            mss: Some(cx.config.mss),
            window_scale: scales.then_some(self.rcv.shift),
            sack_permitted: if passive { self.sack } else { cx.config.sack },
            timestamps: stamps.then(|| self.timestamps(cx)),
            ..Options::default()
        };
        // The window of a SYN is never scaled (RFC 7323 section 2.2).
        out.tcp.window = cx.config.window_bytes_max.min(0xffff) as u16;
        Some(out)
    }

    /// The segment at SND.UNA, when duplicate ACKs or a partial one say that it was lost.
    fn next_retransmission(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        if !std::mem::take(&mut self.snd.retransmit) || self.snd.max == self.snd.una {
            return None;
        }
        let una = self.snd.una;
        let len = self.snd.queue.len().min(u32::from(self.snd.mss)).min(self.snd.max - una);
        self.note_sent(cx, una, len, true);
        let at_end = una + len == self.data_end();
        let fin = self.snd.fin == Fin::Queued && at_end && self.snd.max.gt(self.data_end());
        Some(self.data_segment(cx, una, len, fin))
    }

    /// The next bytes of the send queue, as far as both windows, Nagle and SWS avoidance allow.
    fn next_data(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        let (nxt, end) = (self.snd.nxt, self.data_end());
        if nxt.ge(end) {
            return None;
        }
        self.restart_after_idle(cx);
        let (queued, mss) = (end - nxt, u32::from(self.snd.mss));
        let cwnd = self.congestion.cwnd.saturating_add(self.congestion.limited_transmit(mss));
        let room = self.snd.wnd.min(cwnd).saturating_sub(self.in_flight());
        let len = queued.min(mss).min(room);
        if len == 0 || !self.is_worth_sending(cx, len, queued) {
            if self.in_flight() == 0 && !self.timers.retransmit.is_armed() {
                // Only the peer's window can hold us back with nothing in flight: persist.
                self.arm_retransmit(cx);
            }
            return None;
        }
        let again = nxt.lt(self.snd.max);
        let fin = self.snd.fin == Fin::Queued && len == queued;
        self.note_sent(cx, nxt, len, again);
        if len < mss {
            self.snd.small_end = nxt + len;
        }
        self.count_fresh(cx, nxt + len);
        self.snd.nxt = nxt + len + u32::from(fin);
        self.snd.max = self.snd.max.max(self.snd.nxt);
        Some(self.data_segment(cx, nxt, len, fin))
    }

    /// Sender SWS avoidance and Nagle (RFC 9293 sections 3.8.6.2.1 and 3.7.4). Nagle is held to
    /// small segments only, so that the tail of a response does not wait for the ACK of its head.
    fn is_worth_sending(&self, cx: &Context<'_>, len: u32, queued: u32) -> bool {
        let small_in_flight = self.snd.small_end.gt(self.snd.una);
        len == u32::from(self.snd.mss)
            || self.snd.nxt.lt(self.snd.max)
            || (len == queued
                && (!cx.config.nagle || !small_in_flight || self.snd.fin == Fin::Queued))
            || len >= self.snd.wnd_max / 2
    }

    fn next_fin(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        let end = self.data_end();
        if self.snd.fin != Fin::Queued || self.snd.nxt != end {
            return None;
        }
        let again = self.snd.max.gt(end);
        self.note_sent(cx, end, 1, again);
        self.snd.nxt = end + 1;
        self.snd.max = self.snd.max.max(self.snd.nxt);
        Some(self.data_segment(cx, end, 0, true))
    }

    /// A window probe carries what a small window admits, or the first byte that a closed one does
    /// not (RFC 9293 section 3.8.6.1); a keepalive probe repeats the number before SND.UNA (section
    /// 3.8.4).
    fn next_probe(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        if !std::mem::take(&mut self.snd.probe) {
            return None;
        }
        cx.stats.inc(Counter::TcpProbes);
        if self.snd.queue.is_empty() || self.in_flight() > 0 {
            return Some(self.segment(cx, Flags::ACK, self.snd.una - 1, 0));
        }
        let mss = u32::from(self.snd.mss);
        let len = self.snd.queue.len().min(self.snd.wnd).clamp(1, mss);
        self.count_fresh(cx, self.snd.una + len);
        self.snd.max = self.snd.max.max(self.snd.una + len);
        Some(self.data_segment(cx, self.snd.una, len, false))
    }

    fn next_ack(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        if !self.rcv.ack {
            return None;
        }
        let mut out = self.segment(cx, Flags::ACK, self.bare_seq(), 0);
        out.tcp.options.sack = self.sack_blocks(cx.pool);
        Some(out)
    }

    /// The number of a segment that carries nothing. Not SND.NXT, which goes back after a timeout:
    /// the peer would take an ACK for an old duplicate and drop it. Nor beyond a window that is
    /// closed, where a probe may have gone, or was taken back: a RST would go unheard (RFC 5961).
    fn bare_seq(&self) -> Seq {
        self.snd.max.min(self.snd.una + self.snd.wnd)
    }

    /// What is held out of order, the run with the newest segment first (RFC 2018 section 4).
    fn sack_blocks(&self, pool: &Pool) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        if !self.sack || self.rcv.reassembly.is_empty() {
            return blocks;
        }
        // Three fit beside timestamps in the 40 bytes of options, four without.
        let max = if self.stamps.on { 3 } else { 4 };
        let newest = |&(left, right): &(u32, u32)| {
            Seq(left).le(self.rcv.recent) && self.rcv.recent.lt(Seq(right))
        };
        let runs = &self.rcv.reassembly;
        if let Some((left, right)) = runs.runs(pool).find(newest) {
            blocks.push(left, right);
        }
        for (left, right) in runs.runs(pool).filter(|run| !newest(run)).take(max - blocks.len()) {
            blocks.push(left, right);
        }
        blocks
    }

    fn data_segment(&mut self, cx: &mut Context<'_>, seq: Seq, len: u32, fin: bool) -> Outgoing {
        let mut flags = Flags::ACK;
        if len > 0 && seq + len == self.data_end() {
            // The last queued byte: the peer need not wait for more (MUST-60, MUST-61).
            flags = flags | Flags::PSH;
        }
        if fin {
            flags = flags | Flags::FIN;
        }
        let mut out = self.segment(cx, flags, seq, len);
        out.offset = seq - self.data_start();
        out
    }

    /// A header with all that every segment carries; what it acknowledges is owed no more.
    fn segment(&mut self, cx: &mut Context<'_>, flags: Flags, seq: Seq, len: u32) -> Outgoing {
        let acks = flags.contains(Flags::ACK);
        let mut window = 0;
        if acks {
            self.rcv.edge = self.window_edge(cx);
            let unit = 1u32 << self.rcv.shift;
            // Rounded up, so that the edge which the peer computes never moves left.
            window = self.rcv_wnd().div_ceil(unit).min(0xffff);
            self.rcv.edge = self.rcv.nxt + window * unit;
            self.rcv.ack = false;
            self.rcv.unacked = 0;
            self.timers.ack = Tick::NEVER;
            self.stamps.last_ack = self.rcv.nxt;
        }
        cx.stats.inc(Counter::TcpOut);
        let options = Options {
            timestamps: self.stamps.on.then(|| self.timestamps(cx)),
            ..Options::default()
        };
        let tcp = Tcp {
            src_port: 0,
            dst_port: 0,
            seq: seq.0,
            ack: if acks { self.rcv.nxt.0 } else { 0 },
            flags,
            window: window as u16,
            urgent: 0,
            options,
        };
        Outgoing { tcp, offset: 0, len }
    }

    fn timestamps(&self, cx: &Context<'_>) -> Timestamps {
        let value = (cx.now.as_millis() as u32).wrapping_add(self.stamps.offset);
        Timestamps { value, echo: self.stamps.recent }
    }

    /// Something that the peer must acknowledge leaves: it is timed or ambiguous, and the
    /// retransmission timer runs (RFC 6298 section 5.1).
    fn note_sent(&mut self, cx: &mut Context<'_>, seq: Seq, len: u32, again: bool) {
        if again {
            cx.stats.inc(Counter::TcpRetransmitted);
            self.rtt.on_retransmitted();
        } else {
            self.rtt.on_sent(cx.now, seq + len);
        }
        self.active_at = Tick::at(cx.now);
        if !self.timers.retransmit.is_armed() || self.in_flight() == 0 {
            self.arm_retransmit(cx);
        }
    }

    /// Counts the payload up to `end` that was never sent before.
    fn count_fresh(&self, cx: &mut Context<'_>, end: Seq) {
        if end.gt(self.snd.max) {
            cx.stats.add(Counter::TcpBytesOut, u64::from(end - self.snd.max));
        }
    }

    /// RFC 5681 section 4.1: after an RTO without traffic the window starts afresh.
    fn restart_after_idle(&mut self, cx: &Context<'_>) {
        if self.snd.max != self.snd.una {
            return;
        }
        let rto = self.rtt.rto(cx.config.rto_min, cx.config.rto_max).as_millis();
        if i64::from(Tick::at(cx.now).until(self.active_at)) > rto as i64 {
            self.congestion.on_idle(u32::from(self.snd.mss), cx.config.initial_window_segments);
        }
    }
}
