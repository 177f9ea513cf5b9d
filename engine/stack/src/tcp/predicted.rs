//! The segment that a connection waits for (the header prediction of RFC 1144's author): the next in
//! order, in its plain form, while nothing is lost, closing or in doubt. For such a segment the steps
//! of `input` are known to pass, so what remains is what follows from its acknowledgement and its data.
//! Nothing is decided in here that `input` would decide differently: the pieces are its own, and the
//! short way may be left at any time.

use super::{Connection, Context, Seq, State, Verdict};
use crate::wire::plain::Plain;
use std::ops::ControlFlow::{Break, Continue};

impl Connection {
    /// True when the segment is one that [`Connection::on_predicted`] takes.
    #[inline]
    pub fn predicts(&self, seg: &Plain<'_>) -> bool {
        let Connection { snd, rcv, stamps, .. } = self;
        let acked = Seq(seg.ack()) - snd.una;
        let is_young = match seg.timestamps() {
            Some(sent) => stamps.on && Seq(sent.value).ge(Seq(stamps.recent)),
            None => !stamps.on,
        };
        self.state == State::Established
            && Seq(seg.seq()) == rcv.nxt
            && seg.data().len() <= self.rcv_wnd() as usize
            && acked <= snd.max - snd.una
            // An empty segment from further on may have told of the window already.
            && snd.wl1.le(Seq(seg.seq()))
            // A duplicate ACK is for `recovery` to judge.
            && (acked > 0 || !seg.data().is_empty())
            // A closed window has a timer of its own.
            && seg.window() > 0
            && snd.wnd > 0
            && is_young
            && rcv.fin.is_none()
            && self.is_undisturbed()
    }

    /// Takes a segment that was predicted, and its data.
    #[inline]
    pub fn on_predicted(&mut self, cx: &mut Context<'_>, seg: &Plain<'_>) -> Verdict {
        let (seq, ack) = (Seq(seg.seq()), Seq(seg.ack()));
        (self.snd.wl1, self.snd.wl2) = (seq, ack);
        self.take_window(u32::from(seg.window()) << self.snd.shift);
        if ack != self.snd.una && !self.on_lone_ack(cx, ack) {
            self.on_plain_ack(cx, ack, seg.timestamps());
        }
        self.note_timestamp(seq, seg.timestamps());
        self.note_congestion(cx, seg.flags(), seg.ecn());
        self.active_at = cx.now.tick;
        self.keepalive_probes = 0;
        if seg.data().is_empty() {
            return Verdict::Accept;
        }
        match self.take_next(cx, seg.data()) {
            Break(verdict) => verdict,
            Continue(()) => Verdict::Accept,
        }
    }
}
