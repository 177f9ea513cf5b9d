//! Urgent data (RFC 9293 section 3.8.5): in line with all others, as RFC 6093 wants it. The peer's
//! pointer becomes an event and a mark in the stream that the application can ask for; ours goes out
//! with every segment before it. New applications should not use it (SHLD-13).

use super::{Connection, Context, Events, Outgoing, Seq};
use crate::wire::tcp::{Flags, Tcp};

/// The urgent pointers of a connection: the number behind the last urgent byte (MUST-62).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Urgent {
    /// RCV.UP, while the application has not read so far.
    received: Option<Seq>,
    /// SND.UP, while the peer has not acknowledged so far.
    sent: Option<Seq>,
}

impl Connection {
    /// SEND with the urgent flag: like [`Connection::send`], and the peer is told that what was taken
    /// is urgent.
    pub fn send_urgent(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> usize {
        let done = self.send(cx, bytes);
        if done > 0 {
            self.urgent.sent = Some(self.data_end());
        }
        done
    }

    /// Bytes from the next to be read up to the end of the urgent ones (MUST-33); 0 without any. They
    /// may not all have arrived.
    pub fn urgent_bytes(&self) -> u32 {
        let next = self.rcv.nxt - self.rcv.queue.len();
        self.urgent.received.filter(|up| up.gt(next)).map_or(0, |up| up - next)
    }

    /// Urgent bytes are still to be read or acknowledged.
    pub(super) fn has_urgent(&self) -> bool {
        self.urgent_bytes() > 0 || self.urgent.sent.is_some_and(|up| up.gt(self.snd.una))
    }

    /// Segments may have to carry an urgent pointer.
    #[inline]
    pub(super) fn has_urgent_out(&self) -> bool {
        self.urgent.sent.is_some()
    }

    /// Sixth, the URG bit: the pointer counts when it is ahead of all that was read and of the last
    /// one, and the application is told (MUST-31, MUST-32).
    pub(super) fn take_urgent(&mut self, seg: &Tcp) {
        let next = self.rcv.nxt - self.rcv.queue.len();
        let known = self.urgent.received.filter(|up| up.gt(next)).unwrap_or(next);
        let up = Seq(seg.seq) + u32::from(seg.urgent);
        if seg.flags.contains(Flags::URG) && up.gt(known) && !self.detached {
            self.urgent.received = Some(up);
            self.events.insert(Events::URGENT);
        }
    }

    /// Segments that begin before SND.UP carry it (MUST-30).
    pub(super) fn mark_urgent(&mut self, out: &mut Outgoing) {
        let Some(up) = self.urgent.sent else { return };
        let seq = Seq(out.tcp.seq);
        if up.le(self.snd.una) {
            self.urgent.sent = None;
        } else if up.gt(seq) && out.len > 0 {
            out.tcp.flags = out.tcp.flags | Flags::URG;
            out.tcp.urgent = u16::try_from(up - seq).unwrap_or(u16::MAX);
        }
    }
}
