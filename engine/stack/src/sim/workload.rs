//! The application at one end of a connection: it runs its script against the stack and tells the
//! oracle what it sent and read. It is asked to go on whenever the stack has an event for it or a
//! pause of its own is over; when all is quiet, pauses are over and everybody comes to an end.

use super::oracle::Oracle;
use super::script::{Finish, ReadVerb, Script};
use crate::stack::{ConnId, Stack};
use crate::time::{Duration, Instant};

/// What an application sees of the world when it runs.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) now: Instant,
    /// Faults and pauses are over.
    pub(super) quiet: bool,
    pub(super) oracle: &'a mut Oracle,
    /// Memory to build and read portions in.
    pub(super) scratch: &'a mut Vec<u8>,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Actor {
    id: ConnId,
    /// Its number with the oracle.
    pub(super) number: usize,
    script: Script,
    opened: bool,
    /// The peer's direction is over.
    finished: bool,
    /// Nothing is to be done any more but to wait for the end.
    done: bool,
    next_read: Instant,
    next_write: Instant,
    n_writes: u32,
    abort_at: Option<Instant>,
}

impl Actor {
    pub(super) fn new(id: ConnId, number: usize, script: Script) -> Self {
        Actor {
            id,
            number,
            script,
            opened: false,
            finished: false,
            done: false,
            next_read: Instant::ZERO,
            next_write: Instant::ZERO,
            n_writes: 0,
            abort_at: None,
        }
    }

    /// The handshake is complete.
    pub(super) fn on_opened(&mut self, now: Instant) {
        self.opened = true;
        self.next_read = now + self.script.read_after;
        if let Finish::Abort(after) = self.script.finish {
            self.abort_at = Some(now + after);
        }
    }

    /// The peer closed its direction.
    pub(super) fn on_finished(&mut self, stack: &Stack, oracle: &mut Oracle) -> Result<(), String> {
        self.finished = true;
        if oracle.end(self.number).left {
            return Ok(());
        }
        let unread = stack.conn_info(self.id.slot).map_or(0, |info| info.buffered.0);
        oracle.finished(self.number, unread)
    }

    /// Does what can be done now; returns when to be asked again at the latest.
    pub(super) fn run(
        &mut self,
        stack: &mut Stack,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Instant>, String> {
        if self.done || !(self.opened || self.script.eager) {
            return Ok(None);
        }
        if self.abort_at.is_some_and(|at| at <= scene.now) {
            self.leave(stack, scene, Stack::abort);
            return Ok(None);
        }
        if self.script.echo {
            self.echo(stack, scene)?;
        } else {
            self.read(stack, scene)?;
            self.write(stack, scene);
        }
        self.finish(stack, scene);
        if self.done {
            return Ok(None);
        }
        let pauses = [Some(self.next_read), Some(self.next_write), self.abort_at];
        Ok(pauses.into_iter().flatten().filter(|&at| at > scene.now && !scene.quiet).min())
    }

    /// Gives up: closes both directions with what is unread and unsent.
    pub(super) fn give_up(&mut self, stack: &mut Stack, scene: &mut Scene<'_>) {
        self.leave(stack, scene, Stack::close);
    }

    fn leave(
        &mut self,
        stack: &mut Stack,
        scene: &mut Scene<'_>,
        how: fn(&mut Stack, Instant, ConnId),
    ) {
        let end = scene.oracle.end(self.number);
        (end.left, end.shut) = (true, true);
        self.done = true;
        how(stack, scene.now, self.id);
    }

    fn read(&mut self, stack: &mut Stack, scene: &mut Scene<'_>) -> Result<(), String> {
        while self.opened && (scene.quiet || scene.now >= self.next_read) {
            let n = self.read_once(stack, scene)?;
            if n == 0 {
                break;
            }
            if !self.script.read_pause.is_zero() {
                self.next_read = scene.now + self.script.read_pause;
            }
        }
        Ok(())
    }

    fn read_once(&mut self, stack: &mut Stack, scene: &mut Scene<'_>) -> Result<usize, String> {
        let (now, id, max) = (scene.now, self.id, self.script.read_chunk);
        if scene.scratch.len() < max {
            scene.scratch.resize(max, 0);
        }
        let n = match self.script.verb {
            ReadVerb::Recv => stack.recv(now, id, &mut scene.scratch[..max]),
            ReadVerb::PeekInto => {
                let n = stack.peek_into(id, &mut scene.scratch[..max]);
                stack.discard(now, id, n)
            }
            ReadVerb::Peek => {
                let bytes = stack.peek(id);
                let n = bytes.len().min(max);
                scene.scratch[..n].copy_from_slice(&bytes[..n]);
                stack.discard(now, id, n)
            }
        };
        scene.oracle.read(self.number, &scene.scratch[..n])?;
        Ok(n)
    }

    fn write(&mut self, stack: &mut Stack, scene: &mut Scene<'_>) {
        while scene.quiet || scene.now >= self.next_write {
            let left = self.script.bytes - scene.oracle.end(self.number).sent;
            let n = left.min(self.script.chunk as u64) as usize;
            // What the stack will not take need not be made; one byte more, so that it says so.
            let n = n.min(stack.send_room(self.id) + 1);
            if left == 0 || scene.oracle.end(self.number).shut {
                break;
            }
            if scene.scratch.len() < n {
                scene.scratch.resize(n, 0);
            }
            scene.oracle.fill(self.number, &mut scene.scratch[..n]);
            self.n_writes += 1;
            let is_urgent = self.script.urgent && self.n_writes.is_multiple_of(4);
            let send = if is_urgent { Stack::send_urgent } else { Stack::send };
            let taken = send(stack, scene.now, self.id, &scene.scratch[..n]);
            scene.oracle.end(self.number).sent += taken as u64;
            if taken < n {
                break;
            }
            if !self.script.write_pause.is_zero() {
                self.next_write = scene.now + self.script.write_pause;
            }
        }
    }

    fn echo(&mut self, stack: &mut Stack, scene: &mut Scene<'_>) -> Result<(), String> {
        while self.opened && (scene.quiet || scene.now >= self.next_read) {
            let n = stack.echo(scene.now, self.id);
            if n == 0 {
                break;
            }
            scene.oracle.echoed(self.number, n)?;
        }
        Ok(())
    }

    fn finish(&mut self, stack: &mut Stack, scene: &mut Scene<'_>) {
        let end = scene.oracle.end(self.number);
        let all_read = self.finished && stack.peek(self.id).is_empty();
        let all_sent = if self.script.echo { all_read } else { end.sent == self.script.bytes };
        if !all_sent || !self.opened {
            return;
        }
        let quiet = scene.quiet;
        match self.script.finish {
            Finish::CloseEarly => self.leave(stack, scene, Stack::close),
            // Nothing is left to read, so nobody is the poorer.
            Finish::Close if all_read => {
                end.shut = true;
                self.done = true;
                stack.close(scene.now, self.id);
            }
            Finish::Shutdown => self.shut(stack, scene),
            Finish::AfterPeer if self.finished || quiet => self.shut(stack, scene),
            Finish::Close | Finish::Linger | Finish::Abort(_) if quiet => self.shut(stack, scene),
            _ => {}
        }
    }

    fn shut(&mut self, stack: &mut Stack, scene: &mut Scene<'_>) {
        if !std::mem::replace(&mut scene.oracle.end(self.number).shut, true) {
            stack.shutdown(scene.now, self.id);
        }
    }
}

/// How long after all is quiet a connection whose both ends live must be over. Without timestamps and
/// SACK a retransmission that is lost again waits for a timeout that faults have backed off to
/// `rto_max` of 120 s, several times, and R2 with 15 retries comes after 15 minutes at least. Then
/// what is left, whose other end is gone, is given up by its application.
pub(super) const PATIENCE: Duration = Duration::from_secs(1_500);
