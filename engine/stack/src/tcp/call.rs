//! What the application asks of a connection (RFC 9293 section 3.9.1): OPEN, SEND, RECEIVE, CLOSE,
//! ABORT. CLOSE comes in the kernel's two forms: `shutdown` ends only our direction, `close` says
//! that the application is done with both.

use super::buffer::Pool;
use super::{Connection, Context, End, Events, Fin, Opening, State, TcpConfig, Tick};
use crate::stats::Counter;

impl Connection {
    /// OPEN, active: the SYN leaves with the next poll.
    pub fn connect(cx: &mut Context<'_>, opening: Opening) -> Self {
        cx.stats.inc(Counter::ConnsActive);
        cx.stats.inc(Counter::ConnsOpen);
        Connection::new(cx.config, cx.now.tick, opening, State::SynSent)
    }

    /// Bytes that the send queue still takes, apart from the pool's own bound.
    pub fn send_room(&self, config: &TcpConfig) -> u32 {
        config.send_bytes_max.saturating_sub(self.snd.queue.len())
    }

    /// SEND: queues as much as fits and returns how much did. When that is not all,
    /// [`Events::WRITABLE`] follows. Nothing is taken after our FIN.
    pub fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> usize {
        if !self.state.may_send() || self.snd.fin != Fin::None {
            return 0;
        }
        let fits = bytes.len().min(self.send_room(cx.config) as usize);
        let n_chunks_max = cx.pool.n_sendable();
        let done = self.snd.queue.append(cx.pool, &bytes[..fits], n_chunks_max);
        if done < fits {
            cx.stats.inc(Counter::BufferRefused);
        }
        if done < bytes.len() {
            self.snd.blocked = true;
        }
        done
    }

    /// Moves received bytes to the send queue without copying, as many whole chunks as fit: what an
    /// echo does. Returns how many bytes; when that is not all, [`Events::WRITABLE`] follows. A send
    /// queue that is empty takes at least one chunk, for `send_bytes_max` is not less.
    pub fn echo(&mut self, cx: &mut Context<'_>) -> usize {
        if self.rcv.queue.is_empty() || !self.state.may_send() || self.snd.fin != Fin::None {
            return 0;
        }
        let room = self.send_room(cx.config);
        let done = self.snd.queue.splice(cx.pool, &mut self.rcv.queue, room);
        if !self.rcv.queue.is_empty() {
            self.snd.blocked = true;
        }
        if done > 0 {
            self.on_read(cx);
        }
        done as usize
    }

    /// The received bytes that lie together at the front.
    pub fn peek<'p>(&self, pool: &'p Pool) -> &'p [u8] {
        self.rcv.queue.front(pool)
    }

    /// Copies received bytes into `buf` and leaves them where they are; returns how many.
    pub fn peek_into(&self, pool: &Pool, buf: &mut [u8]) -> usize {
        self.rcv.queue.copy_to(pool, 0, buf)
    }

    /// RECEIVE: copies bytes out; returns how many.
    pub fn recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> usize {
        let n = self.rcv.queue.copy_to(cx.pool, 0, buf);
        self.discard(cx, n)
    }

    /// Throws up to `n` received bytes away; returns how many.
    pub fn discard(&mut self, cx: &mut Context<'_>, n: usize) -> usize {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let done = self.rcv.queue.consume(cx.pool, n);
        if done > 0 {
            self.on_read(cx);
        }
        done as usize
    }

    /// The pool has room again for a send that it had cut short.
    pub fn on_pool_room(&mut self) {
        if self.snd.blocked {
            self.snd.blocked = false;
            self.events.insert(Events::WRITABLE);
        }
    }

    /// CLOSE of our direction: a FIN follows what is queued; receiving goes on.
    pub fn shutdown(&mut self, cx: &mut Context<'_>) {
        match self.state {
            State::SynSent => self.finish(cx, End::Aborted),
            State::SynReceived => self.snd.fin = Fin::Queued,
            State::Established => {
                self.snd.fin = Fin::Queued;
                self.state = State::FinWait1;
            }
            State::CloseWait => {
                self.snd.fin = Fin::Queued;
                self.state = State::LastAck;
            }
            _ => {}
        }
    }

    /// CLOSE of both directions: the application takes no more data. Unread data mean a RST, for
    /// the peer must not believe that they arrived (RFC 9293 SHLD-3).
    pub fn close(&mut self, cx: &mut Context<'_>) {
        if !self.rcv.queue.is_empty() && self.end.is_none() {
            self.abort(cx);
            return;
        }
        self.detached = true;
        self.rcv.queue.clear(cx.pool);
        self.shutdown(cx);
        if self.state == State::FinWait2 {
            self.timers.life = cx.now.after(cx.config.fin_wait2);
        } else if self.state.has_our_fin() && self.end.is_none() {
            self.timers.life = Tick::NEVER;
        }
    }

    /// ABORT: a RST goes out if the peer knows of the connection.
    pub fn abort(&mut self, cx: &mut Context<'_>) {
        if self.end.is_some() {
            self.rcv.queue.clear(cx.pool);
            return;
        }
        self.reset = self.state.is_synchronized();
        self.finish(cx, End::Aborted);
    }

    /// An ICMP error (RFC 9293 SHLD-26 allows it before the handshake) or a silent next hop ended
    /// the open, as `end` says. Later it is no more than a segment that did not arrive, so what
    /// could not leave is tried again by the timer.
    pub fn on_unreachable(&mut self, cx: &mut Context<'_>, end: End) {
        let has_to_send = !self.snd.queue.is_empty() || self.snd.fin == Fin::Queued;
        if matches!(self.state, State::SynSent | State::SynReceived) {
            self.finish(cx, end);
        } else if has_to_send && !self.timers.retransmit.is_armed() {
            self.snd.progress_at = cx.now.tick;
            self.arm_retransmit(cx, None);
        }
    }

    /// The application has read: the peer is told when the window opens by much, or from nearly
    /// closed (RFC 9293 section 3.8.6.2.2).
    #[inline]
    fn on_read(&mut self, cx: &Context<'_>) {
        if self.rcv_wnd() > cx.config.window_bytes_max / 2 {
            // Neither nearly closed nor to be opened by half.
            return;
        }
        let edge = self.window_edge(cx);
        let gain = edge - self.rcv.edge;
        let step = u32::from(cx.config.mss).min(cx.config.window_bytes_max / 2);
        let nearly_closed = self.rcv_wnd() < step;
        if gain >= cx.config.window_bytes_max / 2 || (nearly_closed && gain >= step) {
            self.rcv.ack = true;
        }
    }
}
