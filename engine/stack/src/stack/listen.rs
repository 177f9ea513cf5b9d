//! A segment that belongs to no connection here: CLOSED and LISTEN (RFC 9293 sections 3.10.7.1 and
//! 3.10.7.2). For a listener a SYN opens a connection, or is answered with a cookie that costs no
//! memory (RFC 4987), and an ACK may bring such a cookie back; the rest may be for a connection of
//! another worker, or is refused.

use super::{Miss, Stack, State};
use crate::flow::FourTuple;
use crate::stats::Counter;
use crate::tcp::config::SynCookies;
use crate::tcp::cookie::Cookie;
use crate::tcp::{Connection, Opening, Seq, Verdict};
use crate::time::{Duration, Instant};
use crate::wire::tcp::{Flags, Options, Tcp, Timestamps};
use std::net::{Ipv4Addr, SocketAddrV4};

/// How long after the last cookie acknowledgements are searched for one: a cookie lives no longer.
const COOKIES_LIVE: Duration = Duration::from_secs(128);

/// A segment that has arrived.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub(super) tuple: FourTuple,
    pub(super) seg: &'a Tcp,
    /// The ECN bits of its packet.
    pub(super) ecn: u8,
    pub(super) payload: &'a [u8],
    /// Bytes that an answer in the place of the segment may take.
    pub(super) room: usize,
}

/// What becomes of it.
pub(super) enum Heard {
    /// The matter is settled.
    Settled(Verdict),
    /// This is the answer, and nothing is kept; the counter says what became of the segment.
    Answer(Tcp, Counter),
    /// The next worker may know the connection.
    HandOn,
}

impl Stack {
    /// The application that accepts connections at `local`.
    pub(super) fn listener(&self, local: SocketAddrV4) -> Option<u8> {
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, local.port());
        self.listeners.get(&local).or_else(|| self.listeners.get(&any)).copied()
    }

    /// All workers listen, but a connection belongs to one: what opens none may be for a connection
    /// elsewhere, whose flow changed its queue.
    pub(super) fn on_stray(&mut self, now: Instant, stray: &Incoming<'_>, miss: Miss) -> Heard {
        let listener = self.listener(stray.tuple.local());
        if let Some(app) = listener {
            if is_opening(stray.seg) {
                return self.on_syn(now, app, stray);
            }
            if let Some(verdict) = self.open_from_cookie(now, app, stray) {
                return Heard::Settled(verdict);
            }
        }
        if miss == Miss::HandOff {
            return Heard::HandOn;
        }
        let flags = stray.seg.flags;
        let is_silent = flags.contains(Flags::RST) || !flags.contains(Flags::ACK);
        if listener.is_some() && is_silent {
            return Heard::Settled(Verdict::Drop(Counter::DropListenFlags));
        }
        if listener.is_some() && self.takes_cookies(now) {
            self.stats.inc(Counter::SynCookiesFailed);
        }
        Heard::Settled(Verdict::Refuse(Counter::DropNoConnection))
    }

    /// A SYN for a listener.
    fn on_syn(&mut self, now: Instant, app: u8, stray: &Incoming<'_>) -> Heard {
        if stray.seg.flags.contains(Flags::FIN) {
            return Heard::Settled(Verdict::Drop(Counter::DropListenFlags));
        }
        let half_open = self.stats.get(Counter::ConnsHalfOpen);
        let is_past_backlog = half_open >= u64::from(self.config.syn_backlog_max);
        match self.config.tcp.syn_cookies {
            SynCookies::Off if is_past_backlog => {
                Heard::Settled(Verdict::Drop(Counter::DropBacklog))
            }
            SynCookies::Always => self.send_cookie(now, stray),
            SynCookies::Auto if is_past_backlog => self.send_cookie(now, stray),
            SynCookies::Off | SynCookies::Auto => Heard::Settled(self.open(now, app, stray)),
        }
    }

    /// Opens the connection of an ACK that brings a cookie back, and gives it the segment, which may
    /// hold data and FIN already. Another worker never opens it too: a cookie is valid only where it
    /// was made.
    fn open_from_cookie(&mut self, now: Instant, app: u8, stray: &Incoming<'_>) -> Option<Verdict> {
        let Incoming { tuple, seg, ecn, payload, .. } = *stray;
        let is_ack = seg.flags.contains(Flags::ACK);
        if !is_ack || seg.flags.intersects(Flags::SYN | Flags::RST) || !self.takes_cookies(now) {
            return None;
        }
        let secret = &self.config.secret;
        let cookie = Cookie::open(&self.config.tcp, secret, &tuple, seg, now)?;
        if !self.make_room() {
            return Some(Verdict::Refuse(Counter::DropTableFull));
        }
        let opening = Opening { iss: Seq(seg.ack) - 1, ..self.opening(&tuple, now) };
        let conn = Connection::accept_cookie(&mut self.context(now), opening, &cookie, seg);
        let slot = self.add(now, conn, tuple, app, 0);
        self.stats.inc(Counter::SynCookiesAccepted);
        // The echo of a cookie's timestamp tells options, not the time.
        let untimed = |stamps: Timestamps| Timestamps { echo: 0, ..stamps };
        let timestamps = seg.options.timestamps.map(untimed);
        let seg = Tcp { options: Options { timestamps, ..seg.options }, ..*seg };
        let (record, mut cx) = self.split(slot, now);
        let verdict = record.conn.on_segment(&mut cx, &seg, ecn, payload);
        debug_assert_ne!(record.conn.state(), State::SynReceived);
        self.after(slot);
        Some(verdict)
    }

    fn open(&mut self, now: Instant, app: u8, stray: &Incoming<'_>) -> Verdict {
        if !self.make_room() {
            return Verdict::Drop(Counter::DropTableFull);
        }
        let opening = self.opening(&stray.tuple, now);
        let conn = Connection::accept(&mut self.context(now), opening, stray.seg);
        self.add(now, conn, stray.tuple, app, 0);
        Verdict::Accept
    }

    /// Answers a SYN and forgets it. The table's bound holds all the same: what it could not take
    /// when the cookie returns is not invited.
    fn send_cookie(&mut self, now: Instant, stray: &Incoming<'_>) -> Heard {
        if self.n_records() >= self.config.connections_max && self.time_wait.len() == 0 {
            return Heard::Settled(Verdict::Drop(Counter::DropTableFull));
        }
        let tcp = &self.config.tcp;
        let Opening { timestamp_offset, .. } = self.opening(&stray.tuple, now);
        let clock = (now.as_millis() as u32).wrapping_add(timestamp_offset);
        let answer = |syn: &Tcp| {
            let cookie = Cookie::of(tcp, syn);
            let (flags, options) = cookie.answer(tcp, syn, clock);
            Tcp {
                src_port: syn.dst_port,
                dst_port: syn.src_port,
                seq: cookie.isn(&self.config.secret, &stray.tuple, syn.seq, now).0,
                ack: syn.seq.wrapping_add(1),
                flags,
                window: tcp.window_bytes_max.min(0xffff) as u16,
                urgent: 0,
                options,
            }
        };
        let mut answer_to = answer(stray.seg);
        if answer_to.header_len() > stray.room {
            // A SYN without options or padding leaves no room for ours; the peer will not miss them.
            answer_to = answer(&Tcp { options: Options::default(), ..*stray.seg });
            answer_to.options = Options::default();
        }
        self.cookies_sent_at = Some(now);
        self.stats.inc(Counter::SynCookiesSent);
        self.stats.inc(Counter::TcpOut);
        Heard::Answer(answer_to, Counter::UseTcp)
    }

    /// A cookie of ours may come back.
    fn takes_cookies(&self, now: Instant) -> bool {
        self.cookies_sent_at.is_some_and(|at| now.since(at) <= COOKIES_LIVE)
    }
}

/// A SYN that asks a listener for a connection.
fn is_opening(seg: &Tcp) -> bool {
    seg.flags.contains(Flags::SYN) && !seg.flags.intersects(Flags::ACK | Flags::RST)
}
