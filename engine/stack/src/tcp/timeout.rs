//! What happens when a deadline passes: retransmission and persist, the delayed ACK, and the slow
//! timers of a connection's life (keepalive, FIN-WAIT-2, TIME-WAIT).

use super::recovery::Alarm;
use super::{Connection, Context, End, State, Tick};
use crate::time::Duration;

impl Connection {
    /// Handles every deadline that is due at `cx.now`. The caller polls for output afterwards, and
    /// looks at the state: TIME-WAIT that ran out leaves CLOSED.
    pub fn on_timeout(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.tick;
        if self.timers.ack.is_due(now) {
            self.timers.ack = Tick::NEVER;
            self.rcv.ack = true;
        }
        if self.timers.retransmit.is_due(now) {
            self.timers.retransmit = Tick::NEVER;
            if self.user_timeout_left(cx).is_some_and(Duration::is_zero) {
                self.give_up(cx);
                return;
            }
            match std::mem::take(&mut self.snd.alarm) {
                Alarm::Timeout => self.on_retransmit(cx),
                Alarm::TailProbe => self.snd.probe_tail = true,
                Alarm::Reordering => self.on_reordering(cx),
            }
        }
        if self.timers.life.is_due(now) {
            self.timers.life = Tick::NEVER;
            self.on_life(cx, now);
        }
    }

    /// Starts the keepalive timer, where configured.
    pub(super) fn arm_keepalive(&mut self, cx: &Context<'_>) {
        if !cx.config.keepalive.is_zero() {
            self.timers.life = cx.now.after(cx.config.keepalive);
        }
    }

    fn on_retransmit(&mut self, cx: &mut Context<'_>) {
        let handshake = matches!(self.state, State::SynSent | State::SynReceived);
        let retries_max = if handshake { cx.config.syn_retries_max } else { cx.config.retries_max };
        if self.snd.retries >= retries_max {
            self.finish(cx, End::TimedOut);
            return;
        }
        self.snd.retries += 1;
        self.doubts_path |= self.snd.retries == cx.config.retries_r1;
        self.rtt.on_timeout();
        if handshake {
            self.resend_syn(cx);
        } else if self.in_flight() > 0 {
            self.suspect_black_hole(cx);
            self.on_timeout_in_flight(cx);
        } else {
            // The window is closed: probe it. Or it is open but too small to be worth it: the
            // override timeout of SWS avoidance (RFC 9293 section 3.8.6.2.1) sends what fits, as a
            // probe does.
            self.snd.probe = true;
        }
        self.arm_retransmit(cx, None);
    }

    fn on_life(&mut self, cx: &mut Context<'_>, now: Tick) {
        match self.state {
            State::TimeWait => self.end_time_wait(cx),
            State::FinWait2 if self.detached => self.finish(cx, End::TimedOut),
            State::Established | State::CloseWait => self.on_keepalive(cx, now),
            _ => {}
        }
    }

    /// Keepalive (RFC 9293 section 3.8.4): probes only when idle with nothing outstanding, and only a
    /// row of unanswered ones ends the connection.
    fn on_keepalive(&mut self, cx: &mut Context<'_>, now: Tick) {
        let idle_ms = i64::from(now.until(self.active_at));
        let due_ms = cx.config.keepalive.as_millis() as i64;
        if self.in_flight() > 0 {
            // What is outstanding asks by itself (MUST-26); a peer that is gone ends it.
            self.keepalive_probes = 0;
            self.timers.life = cx.now.after(cx.config.keepalive);
            return;
        }
        if self.keepalive_probes == 0 && idle_ms < due_ms {
            let left = Duration::from_millis((due_ms - idle_ms) as u64);
            self.timers.life = cx.now.after(left);
            return;
        }
        if self.keepalive_probes >= cx.config.keepalive_probes_max {
            self.give_up(cx);
            return;
        }
        self.keepalive_probes += 1;
        self.snd.probe = true;
        self.timers.life = cx.now.after(cx.config.keepalive_interval);
    }

    /// What is left of the user timeout (RFC 9293 section 3.8.3, RFC 5482) while something is
    /// unacknowledged or a window is probed; `None` when it is off. A closed window may stay closed as
    /// long as the peer answers the probes (MUST-37). Nobody waits for a connection that a peer opens
    /// before it is open, so that one has only its retries.
    pub(super) fn user_timeout_left(&self, cx: &Context<'_>) -> Option<Duration> {
        let limit = cx.config.user_timeout;
        if limit.is_zero() || self.state == State::SynReceived {
            return None;
        }
        let passed_ms = cx.now.tick.until(self.snd.progress_at).max(0).unsigned_abs();
        let left_ms = limit.as_millis().saturating_sub(u64::from(passed_ms));
        Some(Duration::from_millis(left_ms))
    }

    /// The peer is taken for dead; if it is not, it should know.
    fn give_up(&mut self, cx: &mut Context<'_>) {
        self.reset = self.state.is_synchronized();
        self.finish(cx, End::TimedOut);
    }
}
