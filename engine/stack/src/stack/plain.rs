//! The short way through the stack, for segments in their plain form on connections that wait for them:
//! the frame is read in one go, the connection found by its four-tuple, and the segment taken if it is
//! the one that was predicted. The tuple vouches for addresses and ports: one that is in the table was
//! checked when the connection was opened. Whatever is unusual in frame, connection or segment leaves
//! the short way before anything has changed, for the long one in `demux`.

use super::{Context, Place, Stack};
use crate::flow::FourTuple;
use crate::stats::Counter;
use crate::time::Instant;
use crate::wire::plain::Plain;

impl Stack {
    /// Takes a frame the short way; `None` when it must go the long one. Out
    /// of line, so that what only the long one needs takes no register.
    #[inline(never)]
    pub(super) fn on_plain(&mut self, now: Instant, frame: &[u8]) -> Option<Counter> {
        let guess = self.guesses.take();
        let plain = Plain::read(frame, self.config.mac)?;
        let tuple = FourTuple::new(plain.dst(), plain.src());
        let Stack { table, records, config, moment, pool, segments, stats, queues, .. } = self;
        let slot = match guess {
            Some(slot) if records.is_between(slot, &tuple) => slot,
            _ => table.find(&tuple, |place| match place {
                Place::Record(slot) if records.is_between(slot, &tuple) => Some(slot),
                _ => None,
            })?,
        };
        let (_, active) = records.get_mut(slot)?;
        if !active.conn.predicts(&plain) {
            return None;
        }
        let is_partial = plain.verify(config.rx_checksum).ok()?;
        stats.inc(Counter::TcpIn);
        if is_partial {
            stats.inc(Counter::TcpChecksumPartial);
        }
        let mut cx = Context { now: moment.reach(now), config: &config.tcp, pool, segments, stats };
        let verdict = active.conn.on_predicted(&mut cx, &plain);
        queues.take_up(slot, active);
        Some(verdict.counter())
    }
}
