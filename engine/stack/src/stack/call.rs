//! What applications and operators ask of a stack: listen, connect, send, receive, close. Each call
//! finds the connection, lets it do the work, and takes up what follows from it.

use super::{
    Active, ConnId, ConnectError, Connection, Context, FourTuple, Instant, Place, Stack, State,
};
use crate::tcp::Opening;
use std::net::{Ipv4Addr, SocketAddrV4};

impl Stack {
    /// Accepts connections at `local` for application `app`; the unspecified address stands for all
    /// of ours. False when somebody listens there already.
    pub fn listen(&mut self, local: SocketAddrV4, app: u8) -> bool {
        if self.listeners.contains_key(&local) {
            return false;
        }
        self.listeners.insert(local, app);
        true
    }

    /// Accepts no more connections there; those that exist go on. False when nobody listened.
    pub fn unlisten(&mut self, local: SocketAddrV4) -> bool {
        self.listeners.remove(&local).is_some()
    }

    /// Opens a connection for application `app`, which keeps `word` with it. How that goes comes
    /// out as an event.
    pub fn connect(
        &mut self,
        now: Instant,
        local: SocketAddrV4,
        remote: SocketAddrV4,
        app: u8,
        word: u64,
    ) -> Result<ConnId, ConnectError> {
        if !self.is_ours(*local.ip()) || local.port() == 0 {
            return Err(ConnectError::NotOurAddress);
        }
        if self.is_martian(*remote.ip()) || remote.port() == 0 {
            return Err(ConnectError::BadRemote);
        }
        let tuple = FourTuple::new(local, remote);
        if self.find(&tuple).is_some() {
            return Err(ConnectError::InUse);
        }
        if !self.make_room() {
            return Err(ConnectError::Full);
        }
        let opening = self.opening(&tuple, now);
        let conn = Connection::connect(&mut self.context(now), opening);
        let slot = self.add(now, conn, tuple, app, word);
        Ok(self.records.id(slot))
    }

    /// A port in `ports` that is free between `local` and `remote`, and whose segments arrive at this
    /// worker's queue where that is known. The search begins at a place that differs per peer (RFC
    /// 6056 algorithm 3) and looks at every port at most once.
    pub fn free_port(
        &mut self,
        now: Instant,
        local: Ipv4Addr,
        remote: SocketAddrV4,
        ports: std::ops::RangeInclusive<u16>,
    ) -> Result<u16, ConnectError> {
        let whole = FourTuple::new(SocketAddrV4::new(local, 0), remote);
        let offset = self.config.secret.port_offset(&whole).wrapping_add(now.as_nanos());
        // The next choice begins one bucket and one port further.
        let seed = offset.wrapping_add(u64::from(self.next_port) * 0x1_0000_0001);
        let is_free = |&port: &u16| {
            self.find(&FourTuple::new(SocketAddrV4::new(local, port), remote)).is_none()
        };
        let port = match &self.queue_ports {
            Some(own) => {
                let mut walk = own.walk(local, remote, seed);
                std::iter::from_fn(|| own.next(&ports, &mut walk)).find(is_free)
            }
            None => {
                let n = u64::from(*ports.end()) - u64::from(*ports.start()) + 1;
                (0..n).map(|i| ports.start() + (seed.wrapping_add(i) % n) as u16).find(is_free)
            }
        };
        self.next_port = self.next_port.wrapping_add(1);
        port.ok_or(ConnectError::NoPort)
    }

    /// Queues bytes for sending; returns how many were taken. When not all, a WRITABLE event
    /// follows.
    pub fn send(&mut self, now: Instant, id: ConnId, bytes: &[u8]) -> usize {
        let done = self.call(now, id, |conn, cx| conn.send(cx, bytes)).unwrap_or(0);
        if done < bytes.len() && self.pool.n_sendable() == 0 {
            self.note_starved(id);
        }
        done
    }

    /// Like [`Stack::send`], and the peer is told that what was taken is urgent (RFC 9293 section
    /// 3.8.5). New applications should not use it.
    pub fn send_urgent(&mut self, now: Instant, id: ConnId, bytes: &[u8]) -> usize {
        self.call(now, id, |conn, cx| conn.send_urgent(cx, bytes)).unwrap_or(0)
    }

    /// Bytes from the next to be read up to the end of the urgent ones; 0 without any.
    pub fn urgent_bytes(&self, id: ConnId) -> usize {
        self.awake(id).map_or(0, |active| active.conn.urgent_bytes() as usize)
    }

    /// Bytes that the connection would take for sending.
    pub fn send_room(&self, id: ConnId) -> usize {
        let tcp = &self.config.tcp;
        match self.awake(id) {
            Some(active) => active.conn.send_room(tcp) as usize,
            None if self.records.slot_of(id).is_some() => tcp.send_bytes_max as usize,
            None => 0,
        }
    }

    /// Sends back what was received, without copying; returns how many bytes. When not all, a
    /// WRITABLE event follows.
    pub fn echo(&mut self, now: Instant, id: ConnId) -> usize {
        self.call(now, id, |conn, cx| conn.echo(cx)).unwrap_or(0)
    }

    /// The received bytes that lie together at the front; [`Stack::discard`] passes over them.
    pub fn peek(&self, id: ConnId) -> &[u8] {
        self.awake(id).map_or(&[], |active| active.conn.peek(&self.pool))
    }

    /// Copies received bytes into `buf` and leaves them where they are; returns how many.
    pub fn peek_into(&self, id: ConnId, buf: &mut [u8]) -> usize {
        self.awake(id).map_or(0, |active| active.conn.peek_into(&self.pool, buf))
    }

    /// Copies received bytes out; returns how many.
    pub fn recv(&mut self, now: Instant, id: ConnId, buf: &mut [u8]) -> usize {
        self.call(now, id, |conn, cx| conn.recv(cx, buf)).unwrap_or(0)
    }

    /// Throws up to `n` received bytes away; returns how many.
    pub fn discard(&mut self, now: Instant, id: ConnId, n: usize) -> usize {
        self.call(now, id, |conn, cx| conn.discard(cx, n)).unwrap_or(0)
    }

    /// Ends our direction after what is queued; receiving goes on.
    pub fn shutdown(&mut self, now: Instant, id: ConnId) {
        self.call(now, id, |conn, cx| conn.shutdown(cx));
    }

    /// The application is done with the connection: FIN, or RST when data were not read.
    pub fn close(&mut self, now: Instant, id: ConnId) {
        self.call(now, id, |conn, cx| conn.close(cx));
    }

    /// Resets the connection.
    pub fn abort(&mut self, now: Instant, id: ConnId) {
        self.call(now, id, |conn, cx| conn.abort(cx));
    }

    /// Resets the connection with a number of [`Stack::n_slots`], if there is one; what a stack that
    /// ends does to all. In TIME-WAIT nobody waits for us, and the record just goes.
    pub fn abort_slot(&mut self, now: Instant, slot: u32) {
        if let Some(position) = slot.checked_sub(self.records.n_slots()) {
            if let Some((number, _)) = self.time_wait.nth(position) {
                self.recycle(Place::Rest(number));
            }
        } else if self.records.is_live(slot) {
            match self.records.get(slot).map(|active| active.conn.state()) {
                Some(State::TimeWait) => self.recycle(Place::Record(slot)),
                _ => self.abort(now, self.records.id(slot)),
            }
        }
    }

    /// State of a connection that lives.
    pub fn state(&self, id: ConnId) -> Option<State> {
        let slot = self.records.slot_of(id)?;
        Some(self.records.get(slot).map_or(State::Established, |active| active.conn.state()))
    }

    /// What the application keeps with a connection that lives.
    pub fn word(&self, id: ConnId) -> Option<u64> {
        self.records.slot_of(id).map(|slot| self.records.word(slot))
    }

    /// Changes what the application keeps with the connection.
    pub fn set_word(&mut self, id: ConnId, word: u64) {
        if let Some(slot) = self.records.slot_of(id) {
            self.records.set_word(slot, word);
        }
    }

    /// The connection, if it is awake: one that sleeps has nothing that is worth waking it to look.
    fn awake(&self, id: ConnId) -> Option<&Active> {
        self.records.get(self.records.slot_of(id)?)
    }

    fn call<R>(
        &mut self,
        now: Instant,
        id: ConnId,
        action: impl FnOnce(&mut Connection, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let Stack { records, config, moment, pool, segments, stats, queues, .. } = self;
        let Some((_, active)) = records.of_id(id) else {
            self.wake(now, self.records.slot_of(id)?);
            return self.call(now, id, action);
        };
        let mut cx = Context { now: moment.reach(now), config: &config.tcp, pool, segments, stats };
        let result = action(&mut active.conn, &mut cx);
        queues.take_up(id.slot, active);
        if active.conn.state() != State::Established {
            self.after_end(id.slot);
        }
        Some(result)
    }

    pub(super) fn opening(&self, tuple: &FourTuple, now: Instant) -> Opening {
        self.config.secret.opening(tuple, now)
    }

    /// Takes a new connection into table, wheel and queues.
    pub(super) fn add(
        &mut self,
        now: Instant,
        conn: Connection,
        tuple: FourTuple,
        app: u8,
        word: u64,
    ) -> u32 {
        let slot = self.records.insert(conn, tuple, app, word);
        self.table.insert(&tuple, Place::Record(slot));
        self.visit_later(now, slot);
        self.after(slot);
        slot
    }

    /// True when one more record fits; the oldest TIME-WAIT goes if need be.
    pub(super) fn make_room(&mut self) -> bool {
        if self.n_records() >= self.config.connections_max {
            self.recycle_oldest();
        }
        self.n_records() < self.config.connections_max
    }

    fn note_starved(&mut self, id: ConnId) {
        let Some(slot) = self.records.slot_of(id) else { return };
        let Some((_, active)) = self.records.get_mut(slot) else { return };
        if !std::mem::replace(&mut active.starved, true) {
            self.starved.push_back(id);
        }
    }

    /// Lets connections that the pool cut short go on, as far as it has room: one per free chunk.
    pub(super) fn feed_starved(&mut self) {
        let mut room = self.pool.n_sendable();
        while room > 0
            && let Some(id) = self.starved.pop_front()
        {
            if let Some(slot) = self.records.slot_of(id) {
                self.records[slot].starved = false;
                self.records[slot].conn.on_pool_room();
                self.after(slot);
                room -= 1;
            }
        }
    }
}
