//! What is kept of a connection in TIME-WAIT: enough to acknowledge the peer's FIN again, to judge a
//! SYN that opens the four-tuple anew, and to know old segments for what they are (RFC 9293 section
//! 3.10.7.4, RFC 6191, RFC 1337). 12 bytes.

use super::{Connection, Context, Opening, Outgoing, Seq, State, TcpConfig, Tick, Verdict};
use crate::wire::tcp::Tcp;

/// A connection in TIME-WAIT of which the application knows nothing more.
#[derive(Clone, Copy, Debug)]
pub struct Resting {
    snd_nxt: Seq,
    rcv_nxt: Seq,
    /// TS.Recent; 0 without timestamps.
    ts_recent: u32,
}

/// What a segment did to a connection in TIME-WAIT.
#[derive(Debug)]
pub struct Stirred {
    /// What became of the segment.
    pub verdict: Verdict,
    /// What the peer is owed.
    pub answer: Option<Outgoing>,
    /// It was the peer's FIN again: 2 MSL begin anew.
    pub again: bool,
    /// The answer is one of those that are limited (RFC 5961 section 5.3).
    pub challenged: bool,
}

impl Connection {
    /// The connection as it rests, if it can: in TIME-WAIT, with nothing buffered or owed.
    pub fn rest(&self) -> Option<Resting> {
        let is_empty = self.rcv.queue.is_empty() && self.snd.queue.is_empty();
        if self.state != State::TimeWait || !is_empty || self.rcv.ack || self.has_events() {
            return None;
        }
        Some(self.as_resting())
    }

    /// A SYN that opens the same four-tuple anew cannot be an old duplicate (RFC 6191 section 2,
    /// RFC 1122 section 4.2.2.13): its timestamp or its number is newer than all we know.
    pub fn is_older_than(&self, syn: &Tcp) -> bool {
        self.as_resting().is_older_than(syn)
    }

    fn as_resting(&self) -> Resting {
        // 0 has another meaning, and counts as the value before it.
        let recent = if self.stamps.recent == 0 { u32::MAX } else { self.stamps.recent };
        Resting {
            snd_nxt: self.snd.nxt,
            rcv_nxt: self.rcv.nxt,
            ts_recent: if self.stamps.on { recent } else { 0 },
        }
    }

    /// The connection that rests. Its window is the largest that an unscaled field tells, so that
    /// whatever its scale was the right edge does not move left: no data follow the peer's FIN.
    pub fn of_resting(config: &TcpConfig, resting: &Resting, timestamp_offset: u32) -> Self {
        let opening = Opening { iss: resting.snd_nxt, timestamp_offset };
        let mut conn = Connection::new(config, Tick::NEVER, opening, State::TimeWait);
        conn.snd.syn = false;
        conn.rcv.nxt = resting.rcv_nxt;
        conn.rcv.shift = 0;
        conn.rcv.edge = resting.rcv_nxt + 0xffff;
        conn.stamps.on = resting.ts_recent != 0;
        conn.stamps.recent = resting.ts_recent;
        conn.stamps.last_ack = resting.rcv_nxt;
        conn.end = Some(super::End::Closed);
        conn
    }
}

impl Resting {
    /// A segment arrives; `may_challenge` says that no challenge ACK has gone out just now.
    pub fn on_segment(
        &self,
        cx: &mut Context<'_>,
        timestamp_offset: u32,
        seg: &Tcp,
        payload: &[u8],
        may_challenge: bool,
    ) -> Stirred {
        let mut conn = Connection::of_resting(cx.config, self, timestamp_offset);
        if !may_challenge {
            conn.challenged_at = cx.now.tick;
        }
        let verdict = conn.on_segment(cx, seg, 0, payload);
        let again = conn.timers.life.is_armed();
        let challenged = may_challenge && conn.challenged_at.is_armed();
        Stirred { verdict, answer: conn.poll_transmit(cx), again, challenged }
    }

    /// See [`Connection::is_older_than`].
    pub fn is_older_than(&self, syn: &Tcp) -> bool {
        let newer_stamp = match syn.options.timestamps {
            Some(stamps) if self.ts_recent != 0 => Seq(stamps.value).gt(Seq(self.ts_recent)),
            _ => false,
        };
        newer_stamp || Seq(syn.seq).gt(self.rcv_nxt)
    }
}
