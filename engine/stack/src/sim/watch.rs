//! Watches every connection record of one stack from outside: only the transitions of RFC 9293
//! section 3.3.2 happen, numbers never go back, the right edge of the window never moves left, and
//! TIME-WAIT lasts. It knows a record by its slot and what [`Stack::conn_info`] tells of it; what rests
//! in TIME-WAIT has no slot any more, and is known by its four-tuple.

use crate::flow::FourTuple;
use crate::stack::{ConnId, ConnInfo, Stack};
use crate::stats::Counter;
use crate::tcp::{Seq, State};
use crate::time::{Duration, Instant};

/// What made a connection move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// One segment, which may acknowledge our FIN and carry the peer's.
    Segment,
    /// A call of the application, or a deadline.
    Call,
}

/// What was last seen of one record.
#[derive(Clone, Copy, Debug)]
struct Seen {
    id: ConnId,
    tuple: FourTuple,
    state: State,
    since: Instant,
    rcv_nxt: Seq,
    edge: Seq,
    snd_una: Seq,
}

/// The records of one stack.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: Vec<Option<Seen>>,
    /// Slots in which something was seen. Every connection is seen when its SYN comes or goes.
    live: Vec<u32>,
    /// What has come to rest.
    rests: Vec<Seen>,
    /// TIME-WAIT records given up early, when last looked at.
    n_recycled: u64,
    /// Some path is narrower than the link, or may be taken for such after timeouts; otherwise nobody
    /// honest says so.
    is_narrow: bool,
}

impl Watch {
    pub(super) fn new(is_narrow: bool) -> Self {
        Watch { is_narrow, ..Watch::default() }
    }

    /// One segment was given to the connection `info`.
    pub(super) fn after_segment(&mut self, now: Instant, info: &ConnInfo) -> Result<(), String> {
        self.look(now, info, Cause::Segment)
    }

    /// A turn is over, in which applications and deadlines had their say.
    pub(super) fn after_turn(&mut self, now: Instant, stack: &Stack) -> Result<(), String> {
        let n_recycled = stack.stats().get(Counter::TimeWaitRecycled);
        let recycled = std::mem::replace(&mut self.n_recycled, n_recycled) != n_recycled;
        let time_wait = stack.config().tcp.time_wait;
        let has_deadline = stack.poll_timeout(now).is_some();
        for at in (0..self.live.len()).rev() {
            let slot = self.live[at];
            if let Some(info) = stack.conn_info(slot) {
                self.look(now, &info, Cause::Call)?;
                if info.snd_una != info.snd_nxt && info.state != State::Closed && !has_deadline {
                    return Err(format!("in flight, and nothing watches over it: {info:?}"));
                }
                continue;
            }
            self.live.swap_remove(at);
            let gone = self.seen[slot as usize].take();
            match gone {
                Some(seen) if rests(stack, &seen) => self.rests.push(seen),
                Some(seen) if !recycled => judge_rest(now, &seen, time_wait)?,
                _ => {}
            }
        }
        for at in (0..self.rests.len()).rev() {
            if !rests(stack, &self.rests[at]) {
                let seen = self.rests.swap_remove(at);
                if !recycled {
                    judge_rest(now, &seen, time_wait)?;
                }
            }
        }
        Ok(())
    }

    /// A connection was opened, or every record is looked at for once.
    pub(super) fn survey(&mut self, now: Instant, stack: &Stack) -> Result<(), String> {
        let infos = (0..stack.n_slots()).filter_map(|slot| stack.conn_info(slot));
        infos.into_iter().try_for_each(|info| self.look(now, &info, Cause::Call))?;
        self.after_turn(now, stack)
    }

    /// Pretends that a connection was last seen in another state: what tests of the watch do.
    pub(super) fn plant(&mut self, state: State) -> bool {
        let open = self.seen.iter_mut().flatten().find(|seen| seen.state == State::Established);
        open.map(|seen| seen.state = state).is_some()
    }

    fn look(&mut self, now: Instant, info: &ConnInfo, cause: Cause) -> Result<(), String> {
        if info.app.is_none() {
            return Ok(());
        }
        let slot = info.id.slot as usize;
        if self.seen.len() <= slot {
            self.seen.resize(slot + 1, None);
        }
        let next = Seen {
            id: info.id,
            tuple: FourTuple::new(info.local, info.remote),
            state: info.state,
            since: now,
            rcv_nxt: Seq(info.rcv_nxt),
            edge: Seq(info.rcv_nxt) + info.rcv_wnd,
            snd_una: Seq(info.snd_una),
        };
        let wrong = |what: &str, seen: &Seen| {
            Err(format!("{what}: after {cause:?}, {info:?}, before {seen:?}"))
        };
        let Some(seen) = self.seen[slot].filter(|seen| seen.id == info.id) else {
            if !may_begin(next.state, cause) {
                return Err(format!("a connection begins in {}: {info:?}", next.state));
            }
            if self.seen[slot].replace(next).is_none() {
                self.live.push(info.id.slot);
            }
            return Ok(());
        };
        if info.path_mtu.is_some() && !self.is_narrow {
            return wrong("a forged ICMP message was believed", &seen);
        }
        let same = seen.state == next.state;
        if !same && !may_follow(seen.state, next.state, cause) {
            return wrong("an illegal transition", &seen);
        }
        if !matches!(seen.state, State::SynSent | State::Closed) && next.state != State::Closed {
            if next.rcv_nxt.lt(seen.rcv_nxt) {
                return wrong("RCV.NXT went back", &seen);
            }
            if next.edge.lt(seen.edge) {
                return wrong("the right edge of the window moved left", &seen);
            }
        }
        if next.snd_una.lt(seen.snd_una) || next.snd_una.gt(Seq(info.snd_nxt)) {
            return wrong("SND.UNA is out of order", &seen);
        }
        let since = if same { seen.since } else { now };
        self.seen[slot] = Some(Seen { since, ..next });
        Ok(())
    }
}

/// The connection is in TIME-WAIT, wherever that is kept.
fn rests(stack: &Stack, seen: &Seen) -> bool {
    seen.state == State::TimeWait
        && stack.conn_between(&seen.tuple).is_some_and(|info| info.state == State::TimeWait)
}

/// TIME-WAIT lasts as long as it is configured (RFC 9293 MUST-13).
fn judge_rest(now: Instant, seen: &Seen, time_wait: Duration) -> Result<(), String> {
    if seen.state == State::TimeWait && now.since(seen.since) < time_wait {
        return Err(format!("TIME-WAIT ended early: {seen:?}"));
    }
    Ok(())
}

/// States in which a connection may first be seen.
fn may_begin(state: State, cause: Cause) -> bool {
    match cause {
        // One that is opened and given up within a turn is first seen when it is over.
        Cause::Call => matches!(state, State::SynSent | State::Closed),
        // A listener opens it; with a cookie the ACK does, which may carry data and a FIN.
        Cause::Segment => {
            matches!(state, State::SynReceived | State::Established | State::CloseWait)
        }
    }
}

/// The transitions of RFC 9293 section 3.3.2; those of a segment may be two at once, for its ACK
/// and for its FIN. Any state may end in CLOSED: by RST, by abort, or by giving up.
fn may_follow(from: State, to: State, cause: Cause) -> bool {
    use State::*;
    if to == Closed {
        return true;
    }
    match (from, cause) {
        (Established, Cause::Call) => to == FinWait1,
        (CloseWait, Cause::Call) => to == LastAck,
        (SynSent, Cause::Segment) => matches!(to, SynReceived | Established),
        (SynReceived, Cause::Segment) => {
            matches!(to, Established | CloseWait | FinWait1 | Closing)
        }
        (Established, Cause::Segment) => to == CloseWait,
        (FinWait1, Cause::Segment) => matches!(to, FinWait2 | Closing | TimeWait),
        (FinWait2 | Closing, Cause::Segment) => to == TimeWait,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::*;

    #[test]
    fn the_table_is_that_of_the_rfc() {
        let legal = [
            (SynSent, SynReceived, Cause::Segment),
            (SynSent, Established, Cause::Segment),
            (SynReceived, Established, Cause::Segment),
            (Established, FinWait1, Cause::Call),
            (Established, CloseWait, Cause::Segment),
            (FinWait1, FinWait2, Cause::Segment),
            (FinWait1, Closing, Cause::Segment),
            (FinWait2, TimeWait, Cause::Segment),
            (Closing, TimeWait, Cause::Segment),
            (CloseWait, LastAck, Cause::Call),
            (LastAck, Closed, Cause::Segment),
            (TimeWait, Closed, Cause::Call),
        ];
        for (from, to, cause) in legal {
            assert!(may_follow(from, to, cause), "{from} to {to}");
        }
        let illegal = [
            (Established, FinWait1, Cause::Segment),
            (Established, TimeWait, Cause::Segment),
            (CloseWait, TimeWait, Cause::Segment),
            (LastAck, TimeWait, Cause::Segment),
            (TimeWait, Established, Cause::Segment),
            (Closed, Established, Cause::Segment),
            (SynSent, FinWait1, Cause::Call),
            (FinWait2, Closing, Cause::Segment),
        ];
        for (from, to, cause) in illegal {
            assert!(!may_follow(from, to, cause), "{from} to {to}");
        }
        assert!(may_begin(SynSent, Cause::Call) && !may_begin(SynReceived, Cause::Call));
    }
}
