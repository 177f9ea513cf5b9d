//! Connections with nothing to do fall asleep, and what happens to them wakes them; those in TIME-WAIT
//! of which their application knows nothing more come to rest.
//!
//! Whoever is awake comes up in the wheel within `dormant_after`, and is asked then whether it can
//! sleep: work costs nothing more by that, and a connection between two requests stays awake.

use super::time_wait::Rest;
use super::{Connection, Place, Stack, State};
use crate::stats::Counter;
use crate::tcp::resting::Stirred;
use crate::tcp::{Opening, Tick};
use crate::time::Instant;
use crate::wire::tcp::Tcp;

impl Stack {
    /// Wakes the connection if it sleeps.
    pub(super) fn wake(&mut self, now: Instant, slot: u32) {
        if let Some(conn) = self.asleep(slot) {
            self.records.wake(slot, conn);
            self.visit_later(now, slot);
        }
    }

    /// The connection as it is once it wakes, if it sleeps.
    pub(super) fn asleep(&self, slot: u32) -> Option<Connection> {
        let dormant = self.records.dormant(slot)?;
        let tcp = &self.config.tcp;
        let offset = self.config.secret.timestamp_offset(&self.records.tuple(slot));
        // The wheel has the time of its keepalive, or in its place when it was last active.
        let at = self.records.timer(slot).at;
        let quiet_since = if tcp.keepalive.is_zero() { at } else { at.minus(tcp.keepalive) };
        Some(Connection::wake(tcp, dormant, offset, quiet_since))
    }

    /// A connection came up in the wheel: it falls asleep, or comes up again.
    pub(super) fn settle(&mut self, now: Instant, slot: u32) {
        if matches!(self.records[slot].conn.state(), State::Closed | State::TimeWait) {
            return;
        }
        if !self.records[slot].is_idle() {
            self.visit_later(now, slot);
            return;
        }
        let quiet_for = self.config.tcp.dormant_after;
        let (active, cx) = self.split(slot, now);
        let Some((dormant, quiet_since)) = active.conn.sleep(&cx, quiet_for) else {
            let quiet = active.conn.active_at().plus(quiet_for);
            if quiet.until(Tick::at(now)) > 0 {
                self.wheel.arm(&mut self.records, slot, quiet);
            } else {
                self.visit_later(now, slot);
            }
            return;
        };
        self.wheel.remove(&mut self.records, slot);
        let keepalive = self.config.tcp.keepalive;
        if keepalive.is_zero() {
            self.records.timer_mut(slot).at = quiet_since;
        } else {
            self.wheel.arm(&mut self.records, slot, quiet_since.plus(keepalive));
        }
        self.records.sleep(slot, dormant);
    }

    /// The connection is awake, and is asked later whether it still has to be.
    pub(super) fn visit_later(&mut self, now: Instant, slot: u32) {
        let visit = Tick::after(now, self.config.tcp.dormant_after);
        self.wheel.arm(&mut self.records, slot, visit);
    }

    /// Nothing refers any more to a connection in TIME-WAIT: it rests from when it entered it.
    pub(super) fn come_to_rest(&mut self, slot: u32) {
        let active = &self.records[slot];
        let Some(resting) = active.conn.rest().filter(|_| active.in_table) else { return };
        if self.time_wait.is_full() {
            self.recycle_oldest();
        }
        let began = self.records[slot].conn.poll_timeout().minus(self.config.tcp.time_wait);
        let tuple = self.records.tuple(slot);
        let number = self.time_wait.push(began, Rest { tuple, resting });
        let found = self.table.relocate(&tuple, Place::Record(slot), Place::Rest(number));
        assert!(found, "a record that says so is in the table");
        self.free(slot);
    }

    /// A segment for a connection at rest.
    pub(super) fn stir(&mut self, now: Instant, number: u32, seg: &Tcp, payload: &[u8]) -> Stirred {
        let Rest { tuple, resting } = *self.time_wait.at(number);
        let tick = Tick::at(now);
        let may_challenge = self.time_wait.may_challenge(tick, number);
        let Opening { timestamp_offset, .. } = self.opening(&tuple, now);
        let mut cx = self.context(now);
        let stirred = resting.on_segment(&mut cx, timestamp_offset, seg, payload, may_challenge);
        if stirred.challenged {
            self.time_wait.note_challenge(tick, number);
        }
        if stirred.again && self.time_wait.is_stale(tick, number) && !self.time_wait.is_full() {
            let again = self.time_wait.push(tick, Rest { tuple, resting });
            self.table.relocate(&tuple, Place::Rest(number), Place::Rest(again));
            self.time_wait.remove(number);
        }
        stirred
    }

    /// Rests that are over end, a bounded number of them; what is left of the budget.
    pub(super) fn end_rests(&mut self, now: Tick, mut budget: u32) -> u32 {
        while budget > 0
            && let Some(number) = self.time_wait.expired(now)
        {
            self.end_rest(number);
            budget -= 1;
        }
        budget
    }

    /// A connection has entered TIME-WAIT; beyond the bound the oldest at rest goes.
    pub(super) fn bound_time_wait(&mut self, slot: u32) {
        let max = u64::from(self.config.time_wait_max);
        if self.stats.get(Counter::ConnsTimeWait) > max && !self.recycle_oldest() {
            self.recycle(Place::Record(slot));
        }
    }

    /// Gives up the oldest connection at rest before its time, if there is one.
    pub(super) fn recycle_oldest(&mut self) -> bool {
        let oldest = self.time_wait.oldest();
        oldest.inspect(|&number| self.recycle(Place::Rest(number))).is_some()
    }

    /// Gives up a connection in TIME-WAIT before its time.
    pub(super) fn recycle(&mut self, place: Place) {
        self.stats.inc(Counter::TimeWaitRecycled);
        match place {
            Place::Rest(number) => self.end_rest(number),
            Place::Record(slot) => {
                let (active, mut cx) = self.split(slot, Instant::ZERO);
                active.conn.end_time_wait(&mut cx);
                self.forget_tuple(slot);
                self.retire(slot);
            }
        }
    }

    fn end_rest(&mut self, number: u32) {
        let tuple = self.time_wait.at(number).tuple;
        let removed = self.table.remove(&tuple, Place::Rest(number));
        assert!(removed, "what rests is in the table");
        self.time_wait.remove(number);
        self.stats.dec(Counter::ConnsTimeWait);
    }
}
