//! The next segment to send. [`Connection::poll_transmit`] asks in a fixed order what the peer is
//! owed: a reset, the handshake, what was lost, new data, the FIN, a probe, and at last a bare ACK,
//! which every other segment makes superfluous. Headers are values; the payload is copied from the
//! send queue straight into the frame.

use super::buffer::Pool;
use super::recovery::{Alarm, TailProbe};
use super::scoreboard::Segment;
use super::{Connection, Context, End, Fin, Seq, State, Tick};
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
    /// The two ECN bits of the packet (RFC 3168 section 5).
    pub ecn: u8,
}

impl Connection {
    /// The next segment that may be sent now, if any. Each call returns one; the caller asks until
    /// nothing is left or its frames are.
    pub fn poll_transmit(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        if self.reset {
            return Some(self.reset_segment(cx));
        }
        match self.state {
            // The ACK of the last FIN leaves even if the rest in TIME-WAIT is over by then.
            State::Closed if self.end != Some(End::Closed) => None,
            State::Closed | State::TimeWait => self.next_ack(cx),
            State::SynSent | State::SynReceived => self.next_syn(cx).or_else(|| self.next_ack(cx)),
            _ => self
                .next_sack(cx)
                .or_else(|| self.next_retransmission(cx))
                .or_else(|| self.next_tail_probe(cx))
                .or_else(|| self.next_data(cx, 0))
                .or_else(|| self.next_fin(cx))
                .or_else(|| self.next_probe(cx))
                .or_else(|| self.next_ack(cx)),
        }
    }

    /// There may be something to send, so that it is worth to ask: false is certain.
    #[inline]
    pub fn may_transmit(&self) -> bool {
        // Behind a FIN that was sent there is nothing.
        let end = self.data_end() + u32::from(self.snd.fin == Fin::Queued);
        self.rcv.ack
            || self.snd.nxt != end
            // A connection that is over is asked once more, and then goes.
            || self.end.is_some()
            || self.snd.probe
            || self.snd.probe_tail
            || self.snd.board.lost_bytes() > 0
    }

    /// Copies the payload of `out` into `buf`, which is as long as the payload.
    #[inline]
    pub fn copy_payload(&mut self, pool: &Pool, out: &Outgoing, buf: &mut [u8]) {
        let n = self.snd.queue.copy_to(pool, out.offset, buf);
        assert_eq!(n, buf.len(), "a segment's payload lies within the send queue");
    }

    fn reset_segment(&mut self, cx: &mut Context<'_>) -> Outgoing {
        self.reset = false;
        cx.stats.inc(Counter::TcpRstOut);
        self.segment(cx, Flags::RST | Flags::ACK, self.bare_seq(), 0)
    }

    /// SYN or SYN-ACK, when it was not sent or is lost.
    fn next_syn(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        let (una, now_us) = (self.snd.una, cx.now.us);
        if self.snd.nxt == una {
            self.note_sent(cx, una, 1);
            self.snd.nxt = una + 1;
            self.snd.max = self.snd.nxt;
        } else {
            self.snd.board.resend(cx.segments, now_us, 1)?;
            self.note_resent(cx, 1);
        }
        let flags = match self.state {
            State::SynSent => Flags::SYN,
            _ => Flags::SYN | Flags::ACK,
        } | self.handshake_ecn(cx);
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

    /// The oldest segment that is lost, as far as the congestion window allows. The peer's window is
    /// not asked: it held the segment once (RFC 9293 MAY-7).
    fn next_retransmission(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        if self.snd.board.lost_bytes() == 0 {
            return None;
        }
        let mss = u32::from(self.snd.mss);
        let may = self.snd.at_once || self.pipe() + mss <= self.congestion.cwnd || self.pipe() == 0;
        if !may {
            return None;
        }
        self.snd.at_once = false;
        let again = self.snd.board.resend(cx.segments, cx.now.us, mss)?;
        self.note_resent(cx, again.len);
        Some(self.segment_again(cx, &again))
    }

    /// A tail loss probe: new data if there are any, or else the last segment again (RFC 8985 section
    /// 7.3). One segment of it may exceed the congestion window.
    fn next_tail_probe(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        if !std::mem::take(&mut self.snd.probe_tail) || self.in_flight() == 0 {
            return None;
        }
        cx.stats.inc(Counter::TcpTailProbes);
        let mss = u32::from(self.snd.mss);
        let fresh = self.next_data(cx, mss);
        let repeated = fresh.is_none();
        let out = match fresh {
            Some(out) => out,
            None => {
                let again = self.snd.board.resend_last(cx.segments, cx.now.us, mss)?;
                self.note_resent(cx, again.len);
                self.segment_again(cx, &again)
            }
        };
        self.snd.tail_probe = Some(TailProbe { end: self.snd.nxt, repeated });
        self.arm_retransmit(cx, None);
        Some(out)
    }

    /// A segment of the scoreboard as it goes again.
    fn segment_again(&mut self, cx: &mut Context<'_>, again: &Segment) -> Outgoing {
        let fin = again.end().gt(self.data_end());
        self.data_segment(cx, again.start, again.len - u32::from(fin), fin)
    }

    /// The next bytes of the send queue, as far as both windows, Nagle and SWS avoidance allow;
    /// `extra` bytes beyond the congestion window.
    fn next_data(&mut self, cx: &mut Context<'_>, extra: u32) -> Option<Outgoing> {
        let (nxt, end) = (self.snd.nxt, self.data_end());
        if nxt.ge(end) || !self.has_record(cx) {
            return None;
        }
        self.raise_path_mtu(cx);
        if self.in_flight() == 0 {
            let (mss, segments) = (u32::from(self.snd.mss), cx.config.initial_window_segments);
            self.congestion.on_idle(cx.now.tick, mss, segments);
        }
        let (queued, mss) = (end - nxt, u32::from(self.snd.mss));
        let room = self.snd.wnd.saturating_sub(self.in_flight());
        let cwnd = self.congestion.cwnd.saturating_add(extra);
        let room = room.min(cwnd.saturating_sub(self.pipe()));
        let len = queued.min(mss).min(room);
        if len == 0 || !self.is_worth_sending(cx, len, queued) {
            if self.in_flight() == 0 && !self.timers.retransmit.is_armed() {
                // Only the peer's window can hold us back with nothing in flight: persist.
                self.snd.progress_at = cx.now.tick;
                self.arm_retransmit(cx, None);
            }
            return None;
        }
        let fin = self.snd.fin == Fin::Queued && len == queued;
        if len < mss {
            self.snd.small_end = nxt + len;
        }
        self.count_fresh(cx, nxt + len);
        self.note_sent(cx, nxt, len + u32::from(fin));
        self.snd.nxt = nxt + len + u32::from(fin);
        self.snd.max = self.snd.max.max(self.snd.nxt);
        let mut out = self.data_segment(cx, nxt, len, fin);
        self.mark_new_data(&mut out);
        Some(out)
    }

    /// Sender SWS avoidance and Nagle (RFC 9293 sections 3.8.6.2.1 and 3.7.4). Nagle is held to
    /// small segments only, so that the tail of a response does not wait for the ACK of its head. An
    /// application that was cut short has more: the ACK that makes room for it comes first, and a small
    /// segment in the middle of a response would make its tail wait.
    fn is_worth_sending(&self, cx: &Context<'_>, len: u32, queued: u32) -> bool {
        let small_in_flight = self.snd.small_end.gt(self.snd.una);
        let more_follows = self.snd.blocked && self.in_flight() > 0;
        len == u32::from(self.snd.mss)
            // What a window probe has sent already waits for nothing.
            || self.snd.nxt.lt(self.snd.max)
            || (len == queued
                && !more_follows
                && (!cx.config.nagle || !small_in_flight || self.snd.fin == Fin::Queued))
            || len >= self.snd.wnd_max / 2
    }

    fn next_fin(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        let end = self.data_end();
        if self.snd.fin != Fin::Queued || self.snd.nxt != end || !self.has_record(cx) {
            return None;
        }
        self.note_sent(cx, end, 1);
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

    /// An ACK that tells of data out of order or received twice: no other segment has room for that.
    fn next_sack(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        let tells = self.rcv.dsack.is_some() || !self.rcv.reassembly.is_empty();
        if self.sack && tells { self.next_ack(cx) } else { None }
    }

    fn next_ack(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        if !self.rcv.ack {
            return None;
        }
        let mut out = self.segment(cx, Flags::ACK, self.bare_seq(), 0);
        out.tcp.options.sack = self.sack_blocks(cx.pool);
        Some(out)
    }

    /// The number of a segment that carries nothing: the highest sent, but not beyond a window that
    /// is closed, where a probe may have gone, or was taken back: a RST would go unheard (RFC 5961).
    fn bare_seq(&self) -> Seq {
        self.snd.max.min(self.snd.una + self.snd.wnd)
    }

    /// What was received twice (RFC 2883 section 4), then what is held out of order, the run with the
    /// newest segment first (RFC 2018 section 4).
    fn sack_blocks(&mut self, pool: &Pool) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        let dsack = self.rcv.dsack.take();
        if !self.sack {
            return blocks;
        }
        if let Some((left, right)) = dsack {
            blocks.push(left.0, right.0);
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
        self.mark_urgent(&mut out);
        out
    }

    /// A header with all that every segment carries; what it acknowledges is owed no more.
    #[inline]
    fn segment(&mut self, cx: &mut Context<'_>, flags: Flags, seq: Seq, len: u32) -> Outgoing {
        let acks = flags.contains(Flags::ACK);
        let mut flags = flags;
        if acks && self.ecn.echo && !flags.intersects(Flags::SYN | Flags::RST) {
            flags = flags | Flags::ECE;
        }
        let window = if acks { self.acknowledge(cx) } else { 0 };
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
            window,
            urgent: 0,
            options,
        };
        Outgoing { tcp, offset: 0, len, ecn: 0 }
    }

    /// A segment acknowledges all that came in order: the window that it tells of.
    #[inline]
    pub(super) fn acknowledge(&mut self, cx: &Context<'_>) -> u16 {
        self.rcv.edge = self.window_edge(cx);
        let shift = self.rcv.shift;
        // Rounded up, so that the edge which the peer computes never moves left.
        let window = ((self.rcv_wnd() + (1 << shift) - 1) >> shift).min(0xffff);
        self.rcv.edge = self.rcv.nxt + (window << shift);
        self.rcv.ack = false;
        self.rcv.unacked = 0;
        self.timers.ack = Tick::NEVER;
        self.stamps.last_ack = self.rcv.nxt;
        window as u16
    }

    pub(super) fn timestamps(&self, cx: &Context<'_>) -> Timestamps {
        Timestamps { value: self.stamps.value(cx.now), echo: self.stamps.recent }
    }

    /// What is sent now can be noted; if not, an acknowledgement of what is in flight is awaited.
    fn has_record(&self, cx: &Context<'_>) -> bool {
        self.snd.board.is_empty()
            || self.snd.board.has_room(cx.segments, cx.config.flight_segments_max())
    }

    /// A segment leaves for the first time: it is noted in the scoreboard, and a timer watches it
    /// (RFC 6298 section 5.1; RFC 8985 section 7.2 for every new segment).
    #[inline]
    fn note_sent(&mut self, cx: &mut Context<'_>, start: Seq, len: u32) {
        let segment = Segment { start, len, sent_us: cx.now.us, ..Segment::default() };
        self.snd.board.push(cx.segments, segment);
        self.congestion.on_sent(len);
        self.active_at = cx.now.tick;
        let first = self.in_flight() == 0;
        if first {
            self.snd.progress_at = cx.now.tick;
        }
        if first || !self.timers.retransmit.is_armed() || self.snd.alarm == Alarm::TailProbe {
            self.arm_retransmit(cx, None);
        }
    }

    /// A segment of `len` numbers leaves again.
    fn note_resent(&mut self, cx: &mut Context<'_>, len: u32) {
        cx.stats.inc(Counter::TcpRetransmitted);
        self.congestion.on_resent(len);
        self.active_at = cx.now.tick;
        if !self.timers.retransmit.is_armed() {
            self.arm_retransmit(cx, None);
        }
    }

    /// Counts the payload up to `end` that was never sent before.
    fn count_fresh(&self, cx: &mut Context<'_>, end: Seq) {
        if end.gt(self.snd.max) {
            cx.stats.add(Counter::TcpBytesOut, u64::from(end - self.snd.max));
        }
    }
}
