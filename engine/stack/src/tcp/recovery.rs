//! Loss recovery: what an acknowledgement tells of the segments in flight, what is lost, and what
//! follows for the congestion window and the retransmission timer. With SACK it is RACK-TLP (RFC 8985)
//! over the scoreboard, without it NewReno's duplicate ACKs (RFC 6582); both reduce by PRR (RFC 6937).
//! An acknowledgement is taken in one order, told by [`Connection::on_ack`]; segments leave in `output`.

use super::congestion::{Acked, Phase};
use super::rack::Opinion;
use super::scoreboard::Fate;
use super::slow_start::Round;
use super::{Connection, Context, Events, Fin, Seq, State, Tick};
use crate::stats::Counter;
use crate::time::Duration;
use crate::wire::tcp::{Flags, Tcp, Timestamps};

/// Duplicate ACKs that begin a fast retransmit without SACK (RFC 5681 section 3.2).
const DUP_ACKS: u16 = 3;

/// How long a peer may hold back the ACK of the last segment of an odd flight (RFC 8985 section 7.2,
/// TLP.max_ack_delay). The RFC grants it to a flight of one; but an ACK for every second segment
/// leaves the last of any odd number waiting, and a probe for it would be a spurious retransmission.
const ACK_DELAY_US_MAX: u64 = 200_000;

/// The shortest wait for a tail loss probe. On a short path two round trips are less than a busy
/// host needs to answer, and a needless probe of the last segment meets a connection that has ended.
const PROBE_TIMEOUT_US_MIN: u64 = 10_000;

/// What the retransmission timer is set for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Alarm {
    /// A retransmission timeout, or a window probe when nothing is in flight.
    #[default]
    Timeout,
    /// A tail loss probe.
    TailProbe,
    /// The end of RACK's reordering window.
    Reordering,
}

/// A tail loss probe whose episode is not over (RFC 8985 section 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TailProbe {
    /// SND.NXT behind it (TLP.end_seq).
    pub(super) end: Seq,
    /// It repeated a segment (TLP.is_retrans).
    pub(super) repeated: bool,
}

/// What one acknowledgement brought.
#[derive(Debug, Default)]
struct News {
    /// Bytes cumulatively acknowledged.
    n: u32,
    /// Bytes that are known for the first time to have reached the receiver.
    delivered: u32,
    /// Round trip of the oldest segment that is acknowledged now and was sent once.
    rtt_us: Option<u32>,
    /// A segment that was sent twice is among them.
    is_ambiguous: bool,
    /// The receiver got something twice: where that ended (RFC 2883).
    dsack_end: Option<Seq>,
}

impl News {
    /// The round trip, unless it may be that of a retransmission.
    fn sole_rtt_us(&self) -> Option<u32> {
        self.rtt_us.filter(|_| !self.is_ambiguous)
    }
}

/// What is newly lost, and when RACK wants to look again.
#[derive(Debug, Default)]
struct Losses {
    bytes: u32,
    look_again: Option<Duration>,
}

impl Connection {
    /// An acceptable acknowledgement of SND.UNA or more. `is_dup` says that it is a duplicate by RFC
    /// 5681 section 2.
    pub(super) fn on_ack(&mut self, cx: &mut Context<'_>, seg: &Tcp, is_dup: bool) {
        let (ack, in_flight) = (Seq(seg.ack), self.in_flight());
        let mut news = News::default();
        if ack.gt(self.snd.una) {
            self.take_cumulative(cx, ack, &mut news);
        }
        if self.sack {
            self.take_sack(cx, seg, &mut news);
        } else {
            self.count_duplicates(&mut news, is_dup);
        }
        self.take_round_trip(cx, seg.options.timestamps, &news);
        self.end_tail_probe(cx, seg, &news, is_dup);
        let losses = self.detect_losses(cx, news.n > 0);
        self.control_congestion(cx, seg, &news, in_flight, losses.bytes);
        if self.in_flight() == 0 && news.n > 0 {
            self.timers.retransmit = Tick::NEVER;
        } else if news.n > 0 || (self.sack && news.delivered > 0) || losses.look_again.is_some() {
            // A duplicate alone restarts nothing: a peer that repeats itself, as it does in answer to
            // keepalive probes, would hold the timeout off for ever (RFC 6298 section 5.3).
            self.arm_retransmit(cx, losses.look_again);
        }
    }

    /// What [`Connection::on_ack`] comes to when `ack` acknowledges new data and there is nothing to
    /// repair: no losses, no reduction, no probe ([`Connection::is_undisturbed`]).
    #[inline]
    pub(super) fn on_plain_ack(
        &mut self,
        cx: &mut Context<'_>,
        ack: Seq,
        stamps: Option<Timestamps>,
    ) {
        let (mut news, in_flight) = (News::default(), self.in_flight());
        self.take_cumulative(cx, ack, &mut news);
        self.take_round_trip(cx, stamps, &news);
        self.grow_window(cx, news.n, news.sole_rtt_us(), in_flight);
        if self.in_flight() == 0 {
            self.timers.retransmit = Tick::NEVER;
        } else {
            self.arm_retransmit(cx, None);
        }
    }

    /// Nothing is missing in either direction, and nothing follows from an earlier loss.
    #[inline]
    pub(super) fn is_undisturbed(&self) -> bool {
        let board = &self.snd.board;
        let n_disturbed = board.sacked_bytes() | board.lost_bytes() | u32::from(self.snd.dup_acks);
        n_disturbed == 0
            && board.is_in_order()
            && self.snd.tail_probe.is_none()
            && self.rcv.reassembly.is_empty()
            && self.rcv.dsack.is_none()
            && self.congestion.phase() == Phase::Open
    }

    /// Bytes in the network: neither received nor lost (RFC 6675 section 4). Without SACK each
    /// duplicate ACK stands for a segment that has arrived.
    pub fn pipe(&self) -> u32 {
        let board = &self.snd.board;
        let mss = u32::from(self.snd.mss);
        let duplicates = u32::from(self.snd.dup_acks).saturating_mul(mss);
        let arrived = duplicates.min(self.in_flight().saturating_sub(mss));
        let gone = board.sacked_bytes() + board.lost_bytes() + arrived;
        self.in_flight().saturating_sub(gone)
    }

    /// Starts the timer that watches over what is in flight: RACK's, the tail loss probe's or the
    /// retransmission timer (RFC 8985 section 8). With nothing in flight it is the persist timer.
    #[inline]
    pub(super) fn arm_retransmit(&mut self, cx: &Context<'_>, look_again: Option<Duration>) {
        let (alarm, wait_us) = match look_again {
            Some(wait) => (Alarm::Reordering, wait.as_micros()),
            None if self.may_probe_tail() => (Alarm::TailProbe, self.probe_timeout_us()),
            None => (Alarm::Timeout, u64::MAX),
        };
        self.watch(cx, alarm, wait_us);
    }

    /// Sets the retransmission timer for an alarm after so long, or earlier when the retransmission or the
    /// user timeout is.
    #[inline]
    pub(super) fn watch(&mut self, cx: &Context<'_>, alarm: Alarm, wait_us: u64) {
        self.snd.alarm = alarm;
        let rto_us = self.rtt.rto_us(cx.config.rto_min, cx.config.rto_max);
        let left_us = self.user_timeout_left(cx).map_or(u64::MAX, Duration::as_micros);
        self.timers.retransmit = cx.now.after_us(wait_us.min(rto_us).min(left_us));
    }

    /// RACK's reordering window has passed for some segment (RFC 8985 section 6.3).
    pub(super) fn on_reordering(&mut self, cx: &mut Context<'_>) {
        let losses = self.detect_losses(cx, false);
        if losses.bytes > 0 {
            self.begin_recovery(cx);
            // After a timeout the window grows from one segment; there is nothing left to reduce.
            if self.congestion.phase() != Phase::Loss {
                self.reduce_by(0, false);
            }
        }
        self.arm_retransmit(cx, losses.look_again);
    }

    /// The retransmission timer ran out with data in flight: the oldest segment is lost, and those
    /// that have had their time (RFC 8985 section 6.3); without SACK all are (RFC 5681 section 3.1).
    pub(super) fn on_timeout_in_flight(&mut self, cx: &mut Context<'_>) {
        cx.stats.inc(Counter::TcpTimeouts);
        let (una, mss, in_flight) = (self.snd.una, u32::from(self.snd.mss), self.in_flight());
        if self.snd.board.first().is_some_and(|first| first.fate == Fate::Sacked) {
            // It was received, but never acknowledged: the receiver has thrown it away.
            self.snd.board.forget_sacks(cx.segments);
        }
        let now_us = cx.now.us;
        let reo_wnd_us = self.reo_wnd_us();
        let (rack, sack) = (&self.rack, self.sack);
        self.snd.board.mark_lost(cx.segments, |segment| {
            let is_oldest = segment.start == una;
            Some(is_oldest || !sack || rack.is_overdue(segment, now_us, reo_wnd_us))
        });
        self.rack.forget_delivered();
        self.snd.dup_acks = 0;
        self.snd.tail_probe = None;
        self.snd.at_once = true;
        let (control, first) = (cx.config.congestion, self.snd.retries == 1);
        self.congestion.on_timeout(control, self.snd.nxt, in_flight, mss, first);
    }

    /// `ack` acknowledges new data.
    #[inline]
    fn take_cumulative(&mut self, cx: &mut Context<'_>, ack: Seq, news: &mut News) {
        news.n = ack - self.snd.una;
        if self.snd.fin == Fin::Queued && ack == self.data_end() + 1 {
            self.snd.fin = Fin::Acked;
        }
        let syn = u32::from(std::mem::take(&mut self.snd.syn));
        let data = self.snd.queue.consume(cx.pool, news.n - syn);
        cx.stats.add(Counter::TcpBytesAcked, u64::from(data));
        let now_us = cx.now.us;
        self.take_segments(cx, ack, now_us, news);
        if self.snd.board.is_empty() {
            self.rack.forget_delivered();
            // What a timeout took for lost has arrived after all.
            self.snd.at_once = false;
        }
        self.advance(cx, ack);
    }

    /// SND.UNA moves on: that is progress, and there may be room for an application that was cut short.
    #[inline]
    pub(super) fn advance(&mut self, cx: &Context<'_>, ack: Seq) {
        self.snd.una = ack;
        self.snd.nxt = self.snd.nxt.max(ack);
        self.snd.retries = 0;
        self.snd.progress_at = cx.now.tick;
        self.snd.raise_ack_floor();
        if self.snd.blocked && self.send_room(cx.config) > 0 {
            self.snd.blocked = false;
            self.events.insert(Events::WRITABLE);
        }
    }

    /// The segments before `ack` leave the scoreboard.
    fn take_segments(&mut self, cx: &mut Context<'_>, ack: Seq, now_us: u32, news: &mut News) {
        let sacked = self.snd.board.sacked_bytes();
        let rack = &mut self.rack;
        self.snd.board.acknowledge(cx.segments, ack, |segment| {
            news.is_ambiguous |= segment.retransmitted;
            if segment.fate != Fate::Sacked {
                let rtt_us = rack.on_delivered(segment, now_us);
                news.rtt_us = news.rtt_us.or(rtt_us);
            }
        });
        news.delivered = news.n - (sacked - self.snd.board.sacked_bytes());
    }

    /// What the receiver holds beyond its acknowledgement, and what it got twice. A block counts only
    /// if it lies within what is in flight (RFC 2018, RFC 2883 section 4).
    fn take_sack(&mut self, cx: &mut Context<'_>, seg: &Tcp, news: &mut News) {
        let (una, nxt) = (self.snd.una, self.snd.nxt);
        let mut blocks = seg.options.sack;
        let mut list = seg.options.sack.iter();
        if let Some((left, right)) = list.next() {
            let second = list.next();
            let within = |(l, r): (u32, u32)| Seq(left).ge(Seq(l)) && Seq(right).le(Seq(r));
            // No older than an honest acknowledgement can be.
            let sane = Seq(left).lt(Seq(right)) && Seq(left).ge(self.snd.ack_floor);
            if sane && (Seq(right).le(Seq(seg.ack)) || second.is_some_and(within)) {
                cx.stats.inc(Counter::TcpDsackIn);
                news.dsack_end = Some(Seq(right));
                self.rack.on_dsack(una, nxt);
                if self.congestion.on_duplicate(Seq(right) - Seq(left)) {
                    cx.stats.inc(Counter::TcpRecoveriesUndone);
                }
            }
        }
        blocks.retain(|(left, right)| {
            Seq(left).lt(Seq(right)) && Seq(left).ge(una) && Seq(right).le(nxt)
        });
        let now_us = cx.now.us;
        let rack = &mut self.rack;
        self.snd.board.sack(cx.segments, &blocks, |segment| {
            news.delivered += segment.len;
            news.is_ambiguous |= segment.retransmitted;
            let rtt_us = rack.on_delivered(segment, now_us);
            news.rtt_us = news.rtt_us.or(rtt_us);
        });
    }

    /// Without SACK: a duplicate ACK says that some segment arrived, and a later acknowledgement
    /// takes back what it then covers.
    fn count_duplicates(&mut self, news: &mut News, is_dup: bool) {
        let mss = u32::from(self.snd.mss);
        if is_dup {
            self.snd.dup_acks = self.snd.dup_acks.saturating_add(1);
            news.delivered = mss;
        } else if news.n > 0 {
            let counted = u32::from(self.snd.dup_acks).saturating_mul(mss).min(news.n);
            news.delivered = news.n - counted;
            let covered = u16::try_from(counted / mss).unwrap_or(u16::MAX);
            let in_recovery = self.congestion.phase() == Phase::Recovery;
            self.snd.dup_acks =
                if in_recovery { self.snd.dup_acks.saturating_sub(covered) } else { 0 };
        }
    }

    /// One sample of the round trip: a segment that was sent once (Karn), or else the timestamp that
    /// came back with an acknowledgement of new data, which cannot be mistaken (RFC 7323 section 4.1).
    #[inline]
    fn take_round_trip(&mut self, cx: &Context<'_>, stamps: Option<Timestamps>, news: &News) {
        let rto_min = cx.config.rto_min;
        if let Some(rtt_us) = news.sole_rtt_us() {
            self.rtt.sample(rtt_us, rto_min);
        } else if let Some(stamps) = stamps
            && self.stamps.on
            && news.n > 0
            && stamps.echo != 0
        {
            let now_ms = self.stamps.value(cx.now);
            let rtt_ms = now_ms.wrapping_sub(stamps.echo);
            // Beyond the longest timeout it is no timestamp of ours.
            if u64::from(rtt_ms) <= cx.config.rto_max.as_millis() {
                // The clock of timestamps ticks in milliseconds: half of one is what 0 means.
                self.rtt.sample((rtt_ms * 1_000).max(500), rto_min);
            }
        }
    }

    /// RFC 8985 section 7.4.2: was the tail really lost, so that the probe has repaired it unseen?
    fn end_tail_probe(&mut self, cx: &mut Context<'_>, seg: &Tcp, news: &News, is_dup: bool) {
        let Some(probe) = self.snd.tail_probe else { return };
        if Seq(seg.ack).lt(probe.end) {
            return;
        }
        if !probe.repeated
            || news.dsack_end == Some(probe.end)
            || (is_dup && seg.options.sack.is_empty())
        {
            self.snd.tail_probe = None;
        } else if Seq(seg.ack).gt(probe.end) {
            self.snd.tail_probe = None;
            let mss = u32::from(self.snd.mss);
            self.congestion.on_repaired(cx.config.congestion, self.in_flight().max(mss), mss);
        }
    }

    /// Marks what is lost. `progress` says that SND.UNA has moved.
    fn detect_losses(&mut self, cx: &mut Context<'_>, progress: bool) -> Losses {
        if !self.sack {
            let bytes = self.detect_by_duplicates(cx, progress);
            return Losses { bytes, look_again: None };
        }
        let mut longest = 0;
        if self.snd.board.is_in_order() {
            return Losses::default();
        }
        let now_us = cx.now.us;
        let reo_wnd_us = self.reo_wnd_us();
        let rack = &self.rack;
        let bytes = self.snd.board.mark_lost(cx.segments, |segment| {
            match rack.judge(segment, now_us, reo_wnd_us) {
                Opinion::Lost => Some(true),
                Opinion::Waiting(us) => {
                    longest = longest.max(us);
                    Some(false)
                }
                // What was sent once is in the order of sending: none behind it can be older.
                Opinion::Unknown => segment.retransmitted.then_some(false),
            }
        });
        let look_again = (longest > 0).then(|| Duration::from_micros(u64::from(longest)));
        Losses { bytes, look_again }
    }

    /// RFC 6582: the third duplicate ACK means that the oldest segment is lost, unless it belongs to
    /// a window that was just repaired; in recovery each partial acknowledgement means the next.
    fn detect_by_duplicates(&mut self, cx: &mut Context<'_>, progress: bool) -> u32 {
        let is_lost = match self.congestion.phase() {
            Phase::Open | Phase::Reduced => {
                self.snd.dup_acks == DUP_ACKS && self.snd.una.gt(self.congestion.recover())
            }
            Phase::Recovery => progress && self.snd.una.lt(self.congestion.recover()),
            // After a timeout the duplicates of the old flight are no sign (RFC 6582 section 4.1); those
            // that follow progress are: what was sent again was lost again. The window is small
            // already, and to wait for the next, longer timeout could take minutes.
            Phase::Loss => self.snd.dup_acks == DUP_ACKS && self.snd.retries == 0,
        };
        if !is_lost {
            return 0;
        }
        let una = self.snd.una;
        self.snd.board.mark_lost(cx.segments, |segment| (segment.start == una).then_some(true))
    }

    /// What an acknowledgement means for the window.
    fn control_congestion(
        &mut self,
        cx: &mut Context<'_>,
        seg: &Tcp,
        news: &News,
        in_flight: u32,
        lost: u32,
    ) {
        let ended = news.n > 0 && self.congestion.ends_phase(self.snd.una);
        if ended {
            self.rack.on_recovered();
            self.snd.dup_acks = 0;
        }
        if lost > 0 && self.congestion.phase() != Phase::Loss {
            self.begin_recovery(cx);
        } else if self.ecn.on
            && seg.flags.contains(Flags::ECE)
            && !seg.flags.contains(Flags::SYN)
            && self.congestion.phase() == Phase::Open
            && in_flight > 0
            && !ended
        {
            self.on_congestion_echo(cx, in_flight);
        }
        match self.congestion.phase() {
            Phase::Recovery | Phase::Reduced => {
                self.reduce_by(news.delivered, news.n > 0 && lost == 0);
            }
            Phase::Open | Phase::Loss if news.n > 0 && !ended => {
                self.grow_window(cx, news.n, news.sole_rtt_us(), in_flight);
            }
            Phase::Open | Phase::Loss => {}
        }
    }

    /// `n` numbers of `in_flight` were acknowledged while nothing reduces the window, and told of a round
    /// trip.
    #[inline]
    pub(super) fn grow_window(
        &mut self,
        cx: &Context<'_>,
        n: u32,
        rtt_us: Option<u32>,
        in_flight: u32,
    ) {
        let mss = u32::from(self.snd.mss);
        if self.congestion.is_unused(in_flight, mss) {
            return;
        }
        let round = Round { una: self.snd.una, nxt: self.snd.nxt, rtt_us };
        let rtt_ms = self.rtt.srtt_us / 1_000;
        let acked = Acked { now: cx.now.tick, n, rtt_ms, mss, round };
        self.congestion.on_ack(cx.config.congestion, &acked);
    }

    /// PRR's part of an acknowledgement.
    fn reduce_by(&mut self, delivered: u32, progress: bool) {
        let (pipe, mss) = (self.pipe(), u32::from(self.snd.mss));
        self.congestion.on_reduction_ack(delivered, pipe, mss, progress);
    }

    fn begin_recovery(&mut self, cx: &mut Context<'_>) {
        if matches!(self.congestion.phase(), Phase::Recovery | Phase::Loss) {
            return;
        }
        cx.stats.inc(Counter::TcpFastRetransmits);
        let (in_flight, mss) = (self.in_flight(), u32::from(self.snd.mss));
        let control = cx.config.congestion;
        self.congestion.reduce(control, Phase::Recovery, self.snd.nxt, in_flight, mss);
        // The episode of a probe ends with it (RFC 8985 section 7.4.1).
        self.snd.tail_probe = None;
    }

    /// The peer says that the network marked a segment: one reduction per window, of which the ACK that
    /// ends the last one tells too, and CWR on the next new data (RFC 3168 section 6.1.2).
    fn on_congestion_echo(&mut self, cx: &mut Context<'_>, in_flight: u32) {
        cx.stats.inc(Counter::TcpEcnReductions);
        let mss = u32::from(self.snd.mss);
        let control = cx.config.congestion;
        self.congestion.reduce(control, Phase::Reduced, self.snd.nxt, in_flight, mss);
        self.ecn.reduced = true;
    }

    fn reo_wnd_us(&self) -> u32 {
        let in_recovery = matches!(self.congestion.phase(), Phase::Recovery | Phase::Loss);
        self.rack.reo_wnd_us(self.rtt.srtt_us, self.snd.board.n_sacked(), in_recovery)
    }

    /// RFC 8985 section 7.2: with SACK, outside of recovery, with nothing out of order, and one probe
    /// for each tail.
    fn may_probe_tail(&self) -> bool {
        self.probes_tails()
            && self.snd.tail_probe.is_none()
            && self.congestion.phase() == Phase::Open
            && self.snd.board.is_in_order()
            && !self.snd.board.is_empty()
            && !matches!(self.state, State::SynSent | State::SynReceived)
    }

    /// Tails of this connection are probed at all: with SACK, and a round trip to wait for.
    #[inline]
    pub(super) fn probes_tails(&self) -> bool {
        self.sack && self.rtt.srtt_us > 0
    }

    /// PTO: two round trips, or what their variation and the timer's grain demand, and time for a
    /// delayed ACK where there may be one.
    #[inline]
    pub(super) fn probe_timeout_us(&self) -> u64 {
        let srtt_us = u64::from(self.rtt.srtt_us);
        let spread_us = (4 * u64::from(self.rtt.rttvar_us)).max(srtt_us);
        let wait_us = (srtt_us + spread_us).max(PROBE_TIMEOUT_US_MIN);
        if self.snd.board.len() % 2 == 1 { wait_us + ACK_DELAY_US_MAX } else { wait_us }
    }
}
