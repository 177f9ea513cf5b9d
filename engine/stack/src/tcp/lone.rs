//! A lone segment: a request, or the response to it. Nothing else is in flight when it leaves, all that is
//! queued goes with it, and one acknowledgement answers it. In this form a segment is sent, watched over
//! and acknowledged in one step each; what comes out is what `output` and `recovery` would make of it,
//! who take whatever is not so.

use super::buffer::Pool;
use super::recovery::Alarm;
use super::scoreboard::Segment;
use super::{Connection, Context, Fin, Seq, State, Tick};
use crate::stats::Counter;
use crate::wire::plain::Fields;
use crate::wire::tcp::Flags;

/// A lone segment that leaves.
#[derive(Debug)]
pub struct Lone {
    /// Its header.
    pub fields: Fields,
    /// The two ECN bits of the packet.
    pub ecn: u8,
    /// The chunk that holds its data, and nothing else.
    chunk: u32,
}

impl Lone {
    /// Its data.
    pub fn data<'p>(&self, pool: &'p Pool) -> &'p [u8] {
        pool.data(self.chunk)
    }
}

impl Connection {
    /// The next segment, if it is a lone one that leaves for the first time.
    #[inline]
    pub fn next_lone(&mut self, cx: &mut Context<'_>) -> Option<Lone> {
        let (seq, len) = (self.snd.nxt, self.snd.queue.len());
        let chunk = self.snd.queue.only_chunk()?;
        if !self.is_lone(len) || self.path.may_be_raised(cx.now.tick) {
            return None;
        }
        let mss = u32::from(self.snd.mss);
        self.congestion.on_idle(cx.now.tick, mss, cx.config.initial_window_segments);
        let end = seq + len;
        if len < mss {
            self.snd.small_end = end;
        }
        (self.snd.nxt, self.snd.max) = (end, end);
        let sent_us = cx.now.us;
        self.snd.board.set_lone(Segment { start: seq, len, sent_us, ..Segment::default() });
        (self.active_at, self.snd.progress_at) = (cx.now.tick, cx.now.tick);
        self.watch_lone(cx);
        cx.stats.add(Counter::TcpBytesOut, u64::from(len));
        cx.stats.inc(Counter::TcpOut);
        let window = self.acknowledge(cx);
        let timestamps = self.stamps.on.then(|| self.timestamps(cx));
        let (ack, flags) = (self.rcv.nxt.0, Flags::ACK | Flags::PSH);
        let fields = Fields { seq: seq.0, ack, flags, window, timestamps };
        Some(Lone { fields, ecn: self.new_data_ecn(), chunk })
    }

    /// Nothing is in flight, and the `len` bytes that are queued go out in one segment whatever Nagle and
    /// SWS avoidance say, with flags and fields that every segment of data has.
    #[inline]
    fn is_lone(&self, len: u32) -> bool {
        let snd = &self.snd;
        self.state == State::Established
            && snd.una == snd.max
            && len <= u32::from(snd.mss)
            && len <= snd.wnd
            && len <= self.congestion.cwnd
            && snd.fin == Fin::None
            && !(snd.probe || snd.probe_tail || self.ecn.echo || self.ecn.reduced)
            && !self.has_urgent_out()
            && self.is_undisturbed()
    }

    /// What [`Connection::arm_retransmit`] comes to for the only segment in flight.
    #[inline]
    fn watch_lone(&mut self, cx: &Context<'_>) {
        if self.probes_tails() {
            self.watch(cx, Alarm::TailProbe, self.probe_timeout_us());
        } else {
            self.watch(cx, Alarm::Timeout, u64::MAX);
        }
    }

    /// What [`Connection::on_plain_ack`] comes to when `ack` acknowledges all that was sent, and that was
    /// a lone segment. False when it was not, and nothing has changed.
    #[inline]
    pub(super) fn on_lone_ack(&mut self, cx: &mut Context<'_>, ack: Seq) -> bool {
        let sent = if ack == self.snd.max { self.snd.board.take_lone(ack) } else { None };
        let Some(segment) = sent else { return false };
        let data = self.snd.queue.consume(cx.pool, segment.len);
        cx.stats.add(Counter::TcpBytesAcked, u64::from(data));
        let rtt_us = cx.now.us.wrapping_sub(segment.sent_us).max(1);
        self.rack.on_lone_delivered(&segment, rtt_us, cx.now.us);
        self.rtt.sample(rtt_us, cx.config.rto_min);
        self.snd.at_once = false;
        self.advance(cx, ack);
        self.grow_window(cx, segment.len, Some(rtt_us), segment.len);
        self.timers.retransmit = Tick::NEVER;
        true
    }
}
