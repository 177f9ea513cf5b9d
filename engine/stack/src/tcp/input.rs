//! A segment arrives (RFC 9293 section 3.10.7). One function per step of the RFC, in its order; each
//! step either ends the matter with a [`Verdict`] or lets the next one go on. Nothing is sent in
//! here: what the peer is owed is noted in the connection and leaves through `output`.

use super::buffer::Kept;
use super::cookie::Cookie;
use super::{
    Connection, Context, End, Events, Fin, MSS_DEFAULT, MSS_MIN, Opening, Seq, State,
    TIMESTAMPS_BYTES, Tick,
};
use crate::stats::Counter;
use crate::wire::tcp::{Flags, Tcp, Timestamps};
use std::ops::ControlFlow::{self, Break, Continue};

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was used.
    Accept,
    /// It was dropped for this reason; what the peer is owed leaves through `output`.
    Drop(Counter),
    /// It was dropped for this reason, and the RST that RFC 9293 section 3.10.7.1 describes is
    /// the answer.
    Refuse(Counter),
}

impl Verdict {
    /// Under which counter the segment's frame goes.
    pub fn counter(self) -> Counter {
        match self {
            Verdict::Accept => Counter::UseTcp,
            Verdict::Drop(counter) | Verdict::Refuse(counter) => counter,
        }
    }
}

/// How a step ends: with the verdict, or with the next step.
pub(super) type Step = ControlFlow<Verdict>;

impl Connection {
    /// A listener received this SYN: opens the passive side in SYN-RECEIVED.
    pub fn accept(cx: &mut Context<'_>, opening: Opening, syn: &Tcp) -> Self {
        let mut conn = Connection::new(cx.config, cx.now.tick, opening, State::SynReceived);
        conn.take_options(cx, syn);
        conn.take_peer_isn(cx, syn);
        cx.stats.inc(Counter::ConnsPassive);
        cx.stats.inc(Counter::ConnsOpen);
        cx.stats.inc(Counter::ConnsHalfOpen);
        conn
    }

    /// A listener received this acknowledgement, which brings back `cookie`: makes the connection that
    /// waits for it in SYN-RECEIVED, to be given the segment.
    pub fn accept_cookie(
        cx: &mut Context<'_>,
        opening: Opening,
        cookie: &Cookie,
        ack: &Tcp,
    ) -> Self {
        let mut conn = Connection::accept(cx, opening, &cookie.syn(ack));
        // The SYN-ACK has left, but nobody noted when: it says nothing about the round trip.
        conn.snd.nxt = opening.iss + 1;
        conn.snd.max = conn.snd.nxt;
        conn
    }

    /// Takes one segment for this connection; `ecn` are the two bits of its packet (RFC 3168).
    pub fn on_segment(
        &mut self,
        cx: &mut Context<'_>,
        seg: &Tcp,
        ecn: u8,
        payload: &[u8],
    ) -> Verdict {
        let flow = match self.state {
            State::Closed => Break(Verdict::Refuse(Counter::DropNoConnection)),
            State::SynSent => self.arrives_in_syn_sent(cx, seg),
            _ => self.arrives_synchronized(cx, seg, ecn, payload),
        };
        match flow {
            Break(verdict) => verdict,
            Continue(()) => Verdict::Accept,
        }
    }

    /// SYN-SENT (section 3.10.7.3): first the ACK, second the RST, fourth the SYN.
    fn arrives_in_syn_sent(&mut self, cx: &mut Context<'_>, seg: &Tcp) -> Step {
        let has_ack = seg.flags.contains(Flags::ACK);
        let ack = Seq(seg.ack);
        if has_ack && (ack.le(self.snd.una) || ack.gt(self.snd.max)) {
            return Break(if seg.flags.contains(Flags::RST) {
                Verdict::Drop(Counter::DropAck)
            } else {
                Verdict::Refuse(Counter::DropAck)
            });
        }
        if seg.flags.contains(Flags::RST) {
            if !has_ack {
                return Break(Verdict::Drop(Counter::DropRst));
            }
            cx.stats.inc(Counter::TcpRstIn);
            self.finish(cx, End::Refused);
            return Continue(());
        }
        if !seg.flags.contains(Flags::SYN) {
            return Break(Verdict::Drop(Counter::DropListenFlags));
        }
        self.take_options(cx, seg);
        self.take_peer_isn(cx, seg);
        if has_ack {
            self.snd.wl1 = Seq(seg.seq);
            self.snd.wl2 = ack;
            self.take_window(u32::from(seg.window));
            self.establish(cx, seg);
            self.rcv.ack = true;
        } else {
            // Simultaneous open: our SYN goes again, with the ACK (MUST-10).
            self.state = State::SynReceived;
            self.resend_syn(cx);
            cx.stats.inc(Counter::ConnsHalfOpen);
        }
        Continue(())
    }

    /// SYN-RECEIVED and all later states (section 3.10.7.4), in the order of the RFC.
    fn arrives_synchronized(
        &mut self,
        cx: &mut Context<'_>,
        seg: &Tcp,
        ecn: u8,
        payload: &[u8],
    ) -> Step {
        self.check_timestamp(cx, seg)?;
        let text = self.check_sequence(cx, seg, payload)?;
        let fin = self.fin_in_window(seg, payload);
        self.check_rst(cx, seg)?;
        self.check_syn(cx, seg)?;
        self.check_ack(cx, seg, payload)?;
        self.note_timestamp(Seq(seg.seq), seg.options.timestamps);
        self.note_congestion(cx, seg.flags, ecn);
        self.active_at = cx.now.tick;
        self.keepalive_probes = 0;
        self.take_urgent(seg);
        self.take_text(cx, seg, text)?;
        self.take_fin(cx, fin);
        Continue(())
    }

    /// The number of the segment's FIN, unless the window cut it off.
    fn fin_in_window(&self, seg: &Tcp, payload: &[u8]) -> Option<Seq> {
        let fin = Seq(seg.seq) + payload.len() as u32;
        let inside = fin.ge(self.rcv.nxt) && fin.le(self.rcv.nxt + self.rcv_wnd());
        (seg.flags.contains(Flags::FIN) && inside).then_some(fin)
    }

    /// PAWS (RFC 7323 section 5.3 R1), which never stops a RST. A segment without the option that
    /// was negotiated is dropped (section 3.2 SHOULD).
    fn check_timestamp(&mut self, cx: &mut Context<'_>, seg: &Tcp) -> Step {
        if !self.stamps.on || seg.flags.contains(Flags::RST) {
            return Continue(());
        }
        match seg.options.timestamps {
            Some(stamps) if !Seq(stamps.value).lt(Seq(self.stamps.recent)) => Continue(()),
            Some(_) => {
                self.challenge(cx);
                Break(Verdict::Drop(Counter::DropPaws))
            }
            None if seg.flags.contains(Flags::SYN) => Continue(()),
            None => Break(Verdict::Drop(Counter::DropPaws)),
        }
    }

    /// First, the sequence number. Returns the part of the payload that is new and in the window.
    fn check_sequence<'p>(
        &mut self,
        cx: &mut Context<'_>,
        seg: &Tcp,
        payload: &'p [u8],
    ) -> ControlFlow<Verdict, &'p [u8]> {
        let (seq, nxt, wnd) = (Seq(seg.seq), self.rcv.nxt, self.rcv_wnd());
        if self.state == State::SynReceived
            && seg.flags.contains(Flags::SYN)
            && seq + 1 == nxt
            && !seg.flags.intersects(Flags::RST | Flags::ACK)
        {
            // The same SYN again: the SYN-ACK was lost, and goes again.
            self.resend_syn(cx);
            return Break(Verdict::Accept);
        }
        let len = payload.len() as u32
            + u32::from(seg.flags.contains(Flags::SYN))
            + u32::from(seg.flags.contains(Flags::FIN));
        let end = seq + len;
        let begins_inside = seq.ge(nxt) && (seq.lt(nxt + wnd) || seq == nxt);
        let ends_inside = len > 0 && end.gt(nxt) && end.le(nxt + wnd);
        let spans = len > 0 && seq.lt(nxt) && end.gt(nxt);
        if !(begins_inside || ends_inside || spans) {
            return Break(self.refuse_sequence(cx, seg, payload));
        }
        if wnd == 0 && !payload.is_empty() {
            // A closed window takes no data, yet the ACK and a RST count (MUST-66).
            self.rcv.ack = true;
            return Continue(&[]);
        }
        Continue(self.trim(cx, seq, wnd, payload))
    }

    /// Not acceptable: a RST is silence (RFC 5961 section 3.2); data deserves an immediate ACK, for
    /// the peer's ACK was lost; anything else may be an attack or a keepalive and gets a limited one.
    fn refuse_sequence(&mut self, cx: &mut Context<'_>, seg: &Tcp, payload: &[u8]) -> Verdict {
        if seg.flags.contains(Flags::RST) {
            return Verdict::Drop(Counter::DropRst);
        }
        if seg.flags.contains(Flags::SYN) {
            self.challenge(cx);
            return Verdict::Drop(Counter::DropSyn);
        }
        if self.state == State::TimeWait {
            // The peer's FIN again: acknowledge, and wait 2 MSL from now (section 3.10.7.4, eighth).
            self.timers.life = cx.now.after(cx.config.time_wait);
        }
        if payload.is_empty() && !seg.flags.contains(Flags::FIN) {
            self.challenge(cx);
        } else {
            self.note_duplicate(cx, Seq(seg.seq), payload.len());
        }
        Verdict::Drop(Counter::DropSequence)
    }

    /// Cuts what was received before and what lies beyond the window.
    fn trim<'p>(
        &mut self,
        cx: &mut Context<'_>,
        seq: Seq,
        wnd: u32,
        payload: &'p [u8],
    ) -> &'p [u8] {
        let nxt = self.rcv.nxt;
        let mut payload = payload;
        let mut seq = seq;
        if seq.lt(nxt) && !payload.is_empty() {
            let old = ((nxt - seq) as usize).min(payload.len());
            self.note_duplicate(cx, seq, old);
            payload = &payload[old..];
            seq = nxt;
        }
        let room = if (nxt + wnd).gt(seq) { (nxt + wnd) - seq } else { 0 } as usize;
        if payload.len() > room {
            payload = &payload[..room];
            self.rcv.ack = true;
        }
        payload
    }

    /// `len` bytes from `seq` on were received before: the peer is told at once, and which ones
    /// (RFC 2883 section 4).
    fn note_duplicate(&mut self, cx: &mut Context<'_>, seq: Seq, len: usize) {
        self.rcv.ack = true;
        cx.stats.inc(Counter::TcpDuplicate);
        let end = (seq + len as u32).min(self.rcv.nxt);
        if seq.lt(end) {
            self.report_duplicate(seq, end);
        }
    }

    /// One ACK may tell of all that arrives in a turn: what adjoins is reported together.
    fn report_duplicate(&mut self, start: Seq, end: Seq) {
        let (start, end) = match self.rcv.dsack {
            Some((left, right)) if right == start => (left, end),
            Some((left, right)) if left == end => (start, right),
            _ => (start, end),
        };
        self.rcv.dsack = self.sack.then_some((start, end));
    }

    /// Second, the RST bit (RFC 5961 section 3.2; RFC 1337 in TIME-WAIT).
    fn check_rst(&mut self, cx: &mut Context<'_>, seg: &Tcp) -> Step {
        if !seg.flags.contains(Flags::RST) {
            return Continue(());
        }
        if self.state == State::TimeWait {
            return Break(Verdict::Drop(Counter::DropRst));
        }
        if Seq(seg.seq) != self.rcv.nxt {
            self.challenge(cx);
            return Break(Verdict::Drop(Counter::DropRst));
        }
        cx.stats.inc(Counter::TcpRstIn);
        let refused = self.state == State::SynReceived && !self.passive;
        self.finish(cx, if refused { End::Refused } else { End::Reset });
        Break(Verdict::Accept)
    }

    /// Fourth, the SYN bit: never legal here (RFC 5961 section 4.2).
    fn check_syn(&mut self, cx: &mut Context<'_>, seg: &Tcp) -> Step {
        if !seg.flags.contains(Flags::SYN) {
            return Continue(());
        }
        self.challenge(cx);
        Break(Verdict::Drop(Counter::DropSyn))
    }

    /// TS.Recent follows the segment that holds Last.ACK.sent (RFC 7323 section 4.3). Only now that
    /// its acknowledgement is known to be honest: a forged one would let PAWS drop all that follows.
    #[inline]
    pub(super) fn note_timestamp(&mut self, seq: Seq, stamps: Option<Timestamps>) {
        if let Some(stamps) = stamps
            && self.stamps.on
            && seq.le(self.stamps.last_ack)
            && Seq(stamps.value).ge(Seq(self.stamps.recent))
        {
            self.stamps.recent = stamps.value;
        }
    }

    /// Fifth, the ACK field.
    fn check_ack(&mut self, cx: &mut Context<'_>, seg: &Tcp, payload: &[u8]) -> Step {
        if !seg.flags.contains(Flags::ACK) {
            return Break(Verdict::Drop(Counter::DropNoAck));
        }
        let ack = Seq(seg.ack);
        if self.state == State::SynReceived {
            if ack.le(self.snd.una) || ack.gt(self.snd.max) {
                return Break(Verdict::Refuse(Counter::DropAck));
            }
            cx.stats.dec(Counter::ConnsHalfOpen);
            self.snd.wl1 = Seq(seg.seq);
            self.snd.wl2 = ack;
            self.take_window(u32::from(seg.window) << self.snd.shift);
            self.establish(cx, seg);
            return Continue(());
        }
        if self.state == State::TimeWait {
            return Continue(());
        }
        if ack.gt(self.snd.max) {
            // Never sent: an ACK in reply, but no more than the limit allows (RFC 5961 section 5.2).
            self.challenge(cx);
            return Break(Verdict::Drop(Counter::DropAck));
        }
        if ack.lt(self.snd.ack_floor) {
            // Too old to be honest, or before our ISS: a ghost (RFC 5961 section 5.2).
            self.challenge(cx);
            return Break(Verdict::Drop(Counter::DropAck));
        }
        let window_moved = self.update_window(Seq(seg.seq), ack, seg.window);
        if ack == self.snd.una && self.snd.wnd == 0 && !self.detached {
            // An answered probe: a closed window may stay closed for ever (MUST-37), while an
            // application waits for it.
            self.snd.retries = 0;
            self.snd.progress_at = cx.now.tick;
        }
        if ack.ge(self.snd.una) {
            let plain = payload.is_empty() && !seg.flags.contains(Flags::FIN);
            // What a window probe carries beyond the window is no flight.
            let outstanding = self.in_flight() > 0 && self.snd.wnd > 0;
            let is_dup = ack == self.snd.una && plain && !window_moved && outstanding;
            self.on_ack(cx, seg, is_dup);
        }
        self.close_step(cx);
        Continue(())
    }

    /// SND.WND follows the newest segment (section 3.10.7.4), and any that acknowledges more: the
    /// right edge of the window would otherwise move with SND.UNA, and the peer never offered that.
    /// Tells whether the window changed.
    #[inline]
    pub(super) fn update_window(&mut self, seq: Seq, ack: Seq, window: u16) -> bool {
        let fresh = self.snd.wl1.lt(seq)
            || (self.snd.wl1 == seq && self.snd.wl2.le(ack))
            || ack.gt(self.snd.una);
        if !fresh || ack.lt(self.snd.una) {
            return false;
        }
        let before = self.snd.wnd;
        self.snd.wl1 = self.snd.wl1.max(seq);
        self.snd.wl2 = ack;
        self.take_window(u32::from(window) << self.snd.shift);
        if before == 0 && self.snd.wnd > 0 && self.in_flight() == 0 {
            // The persist timer has done its work.
            self.timers.retransmit = Tick::NEVER;
            self.rtt.backoff = 0;
        }
        before != self.snd.wnd
    }

    #[inline]
    pub(super) fn take_window(&mut self, wnd: u32) {
        self.snd.wnd = wnd;
        self.snd.wnd_max = self.snd.wnd_max.max(wnd);
    }

    /// What an acknowledged FIN means for the state.
    fn close_step(&mut self, cx: &mut Context<'_>) {
        if self.snd.fin != Fin::Acked {
            return;
        }
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                if self.detached {
                    self.timers.life = cx.now.after(cx.config.fin_wait2);
                }
            }
            State::Closing => self.enter_time_wait(cx),
            State::LastAck => self.finish(cx, End::Closed),
            _ => {}
        }
    }

    /// Seventh, the segment text.
    fn take_text(&mut self, cx: &mut Context<'_>, seg: &Tcp, payload: &[u8]) -> Step {
        let open = matches!(self.state, State::Established | State::FinWait1 | State::FinWait2);
        if payload.is_empty() || !open {
            return Continue(());
        }
        if self.detached {
            // Nobody will read this: say so (RFC 9293 section 3.6.1, RFC 1122 section 4.2.2.13).
            self.finish(cx, End::Aborted);
            return Break(Verdict::Refuse(Counter::DropAfterClose));
        }
        let seq = Seq(seg.seq).max(self.rcv.nxt);
        if seq != self.rcv.nxt {
            return self.keep_for_reassembly(cx, seq, payload);
        }
        self.take_next(cx, payload)
    }

    /// The bytes that come next; their ACK is owed.
    #[inline]
    pub(super) fn take_next(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Step {
        let stored = self.rcv.queue.append(cx.pool, payload, u32::MAX) as u32;
        if stored == 0 {
            self.rcv.ack = true;
            return Break(Verdict::Drop(Counter::DropBuffer));
        }
        let before = self.rcv.nxt;
        self.rcv.nxt += stored;
        if !self.rcv.reassembly.is_empty() {
            // A filled hole is acknowledged at once (RFC 5681 section 4.2).
            self.rcv.ack = true;
            let nxt = self.rcv.nxt.0;
            self.rcv.nxt = Seq(self.rcv.reassembly.drain_to(cx.pool, nxt, &mut self.rcv.queue));
        }
        cx.stats.add(Counter::TcpBytesIn, u64::from(self.rcv.nxt - before));
        self.events.insert(Events::READABLE);
        self.owe_ack(cx);
        Continue(())
    }

    fn keep_for_reassembly(&mut self, cx: &mut Context<'_>, seq: Seq, payload: &[u8]) -> Step {
        // An immediate duplicate ACK tells the sender of the hole (RFC 5681 section 4.2).
        self.rcv.ack = true;
        self.rcv.recent = seq;
        let max = cx.config.reassembly_segments_max;
        let base = self.rcv.nxt.0;
        match self.rcv.reassembly.insert(cx.pool, base, seq.0, payload, max) {
            Kept::All => {
                cx.stats.inc(Counter::TcpOutOfOrder);
                Continue(())
            }
            Kept::Twice => {
                cx.stats.inc(Counter::TcpDuplicate);
                let end = seq + payload.len() as u32;
                self.report_duplicate(seq, end);
                Continue(())
            }
            Kept::Full => Break(Verdict::Drop(Counter::DropReassembly)),
        }
    }

    /// Delays the ACK of in-order data, for at most every second segment (RFC 9293 section 3.8.6.3).
    #[inline]
    fn owe_ack(&mut self, cx: &mut Context<'_>) {
        self.rcv.unacked = self.rcv.unacked.saturating_add(1);
        if self.rcv.quick > 0 {
            self.rcv.quick -= 1;
            self.rcv.ack = true;
        } else if self.rcv.unacked >= 2 {
            self.rcv.ack = true;
        } else if !self.timers.ack.is_armed() {
            self.timers.ack = cx.now.after_us(cx.config.delayed_ack.as_micros());
        }
    }

    /// Eighth, the FIN bit, at number `fin`; it counts when everything before it has arrived.
    fn take_fin(&mut self, cx: &mut Context<'_>, fin: Option<Seq>) {
        self.rcv.fin = self.rcv.fin.or(fin);
        if self.rcv.fin != Some(self.rcv.nxt) {
            // Out of order: the peer hears of the hole at once, as with data (RFC 5681 section 4.2).
            self.rcv.ack |= fin.is_some();
            return;
        }
        match self.state {
            State::Established => self.state = State::CloseWait,
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => {}
            _ => return,
        }
        self.rcv.nxt += 1;
        self.rcv.ack = true;
        self.events.insert(Events::FINISHED);
        if self.state == State::FinWait2 {
            self.enter_time_wait(cx);
        }
    }

    /// The handshake is complete: `seg` acknowledges our SYN.
    fn establish(&mut self, cx: &mut Context<'_>, seg: &Tcp) {
        self.rtt.on_handshake(self.syn_retransmitted);
        self.on_ack(cx, seg, false);
        let segments = cx.config.initial_window_segments;
        let (mss, now) = (u32::from(self.snd.mss), cx.now.tick);
        self.congestion.on_handshake(mss, segments, self.syn_retransmitted, now);
        self.state = State::Established;
        self.arm_keepalive(cx);
        self.events.insert(Events::OPENED);
        cx.stats.inc(Counter::ConnsEstablished);
        if self.snd.fin == Fin::Queued {
            self.state = State::FinWait1;
        }
    }

    /// The SYN or SYN-ACK was lost: it goes again.
    pub(super) fn resend_syn(&mut self, cx: &mut Context<'_>) {
        self.syn_retransmitted = true;
        self.snd.board.mark_lost(cx.segments, |_| Some(true));
    }

    /// Reads the options of a SYN; each is used only when both sides offer it.
    fn take_options(&mut self, cx: &Context<'_>, syn: &Tcp) {
        let options = &syn.options;
        self.agree_on_ecn(cx, syn.flags);
        self.stamps.on = cx.config.timestamps && options.timestamps.is_some();
        self.stamps.recent = options.timestamps.map_or(0, |t| t.value);
        self.sack = cx.config.sack && options.sack_permitted;
        match options.window_scale {
            // RFC 7323 section 2.3: a shift above 14 counts as 14.
            Some(shift) if cx.config.window_scale => self.snd.shift = shift.min(14),
            _ => self.rcv.shift = 0,
        }
        let mss = options.mss.unwrap_or(MSS_DEFAULT).min(cx.config.mss).max(MSS_MIN);
        self.snd.mss = if self.stamps.on { mss - TIMESTAMPS_BYTES } else { mss };
        self.path.mss_agreed = self.snd.mss;
    }

    fn take_peer_isn(&mut self, cx: &Context<'_>, syn: &Tcp) {
        self.rcv.nxt = Seq(syn.seq) + 1;
        self.rcv.edge = self.rcv.nxt + cx.config.window_bytes_max.min(0xffff);
        self.stamps.last_ack = self.rcv.nxt;
        // The window in a SYN is never scaled (RFC 7323 section 2.2).
        self.take_window(u32::from(syn.window));
        self.snd.wl1 = Seq(syn.seq);
    }
}
