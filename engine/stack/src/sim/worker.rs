//! One worker of a simulated host: a queue, a stack, its inbox and its applications, and the turn
//! that the engine's worker takes, in the same order and with the same bounds. What the engine asks
//! the kernel for is answered on the spot.

use super::nic::{Queue, Rings};
use super::oracle::{Oracle, turned};
use super::plan::{ROUTER_IP, ROUTER_MAC, ip_of, mac_of};
use super::script::Script;
use super::segment;
use super::watch::Watch;
use super::workload::{Actor, Scene};
use crate::device::{Batch, Device, Frame};
use crate::flow::FourTuple;
use crate::stack::{ConnId, Disposition, Event, Miss, Stack, StackConfig};
use crate::stats::Counter;
use crate::tcp::config::SynCookies;
use crate::tcp::{End, Events};
use crate::time::Instant;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Frames sent in one turn, events told, and frames taken from the inbox: those of the engine.
const TX_FRAMES_MAX: usize = 256;
const EVENTS_MAX: usize = 1024;
const HANDOFF_MAX: usize = 256;

/// The one application of a simulated stack.
pub(super) const APP: u8 = 1;

/// Finds the flow and script of a connection that a listener accepted.
pub(super) type Book = BTreeMap<[u8; 12], (usize, Script)>;

/// A frame on its way round the workers.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) bytes: Vec<u8>,
    /// Workers behind the receiver that have not been asked.
    pub(super) hops_left: usize,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) stack: Stack,
    pub(super) queue: Queue,
    pub(super) inbox: VecDeque<Parcel>,
    /// What leaves for the next worker in this turn.
    pub(super) outbox: Vec<Parcel>,
    n_others: usize,
    rx: Batch,
    tx: Batch,
    actors: BTreeMap<ConnId, Actor>,
    alarms: BTreeSet<(Instant, ConnId)>,
    watch: Watch,
    n_handed: u64,
    n_turns: u64,
    /// When the next turn is entered in the agenda.
    pub(super) turn_at: Option<Instant>,
    pub(super) last_turn: Instant,
    pub(super) paused_until: Instant,
    /// Turns in a row that found nothing to do.
    pub(super) idle_turns: u32,
    /// Loses one frame token, to test the ledger.
    pub(super) forgets: bool,
}

/// What a turn says to the world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) worked: bool,
    pub(super) wake_at: Option<Instant>,
}

impl Worker {
    /// `is_narrow` says that the path may be narrower than the link.
    pub(super) fn new(
        config: StackConfig,
        rings: Rings,
        n_others: usize,
        is_narrow: bool,
        now: Instant,
    ) -> Self {
        let suspects = config.tcp.pmtu_black_hole;
        Worker {
            stack: Stack::new(config, now),
            queue: Queue::new(rings, now),
            inbox: VecDeque::new(),
            outbox: Vec::new(),
            n_others,
            rx: Batch::new(),
            tx: Batch::new(),
            actors: BTreeMap::new(),
            alarms: BTreeSet::new(),
            watch: Watch::new(is_narrow || suspects),
            n_handed: 0,
            n_turns: 0,
            turn_at: None,
            last_turn: now,
            paused_until: now,
            idle_turns: 0,
            forgets: false,
        }
    }

    /// One pass of the loop; then everything that must hold between turns is judged.
    pub(super) fn turn(&mut self, scene: &mut Scene<'_>, book: &Book) -> Result<Turn, String> {
        let now = scene.now;
        self.queue.now = now;
        self.last_turn = now;
        let received = self.receive(now)? + self.take_handed(now)?;
        self.stack.on_timeout(now);
        let told = self.run_apps(scene, book)?;
        let sent = self.transmit(now);
        self.ask_kernel(now);
        self.judge(now)?;
        let app_wake = self.alarms.first().map(|&(at, _)| at);
        // What the transmit ring did not take, the next turn offers again.
        let unsent = (!self.tx.is_empty()).then_some(now);
        let unread = (!self.inbox.is_empty() || self.queue.ledger().rx > 0).then_some(now);
        let wakes = [self.stack.poll_timeout(now), app_wake, unsent, unread];
        let wake_at = wakes.into_iter().flatten().min();
        Ok(Turn { worked: received + told + sent > 0, wake_at })
    }

    /// An application opens a connection, and may write at once.
    pub(super) fn enlist(
        &mut self,
        id: ConnId,
        number: usize,
        script: Script,
        scene: &mut Scene<'_>,
    ) -> Result<(), String> {
        self.actors.insert(id, Actor::new(id, number, script));
        self.run_actor(id, scene)?;
        self.watch.survey(scene.now, &self.stack)
    }

    /// Runs every application, whether or not it has a reason.
    pub(super) fn run_all(&mut self, scene: &mut Scene<'_>) -> Result<(), String> {
        let ids: Vec<ConnId> = self.actors.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.run_actor(id, scene))?;
        self.watch.after_turn(scene.now, &self.stack)
    }

    /// Closes what is left, once nothing that could complete is.
    pub(super) fn give_up(&mut self, scene: &mut Scene<'_>) -> Result<(), String> {
        for actor in self.actors.values_mut() {
            if scene.oracle.is_paired(actor.number) {
                let end = &scene.oracle.ends()[actor.number];
                return Err(format!("both ends live and do not come to an end: {end:?}"));
            }
            actor.give_up(&mut self.stack, scene);
        }
        self.watch.after_turn(scene.now, &self.stack)
    }

    /// Pretends that a connection was in another state.
    pub(super) fn plant(&mut self, state: crate::tcp::State) -> bool {
        self.watch.plant(state)
    }

    /// No frame waits to be taken or sent.
    pub(super) fn is_idle(&self) -> bool {
        let ledger = self.queue.ledger();
        self.inbox.is_empty() && self.tx.is_empty() && ledger.rx == 0 && ledger.tx == 0
    }

    /// What must hold when nothing happens any more.
    pub(super) fn audit(&self) -> Result<(), String> {
        self.stack.audit()?;
        self.queue.audit()?;
        let (frames, taken) =
            (self.stack.stats().get(Counter::RxFrames), self.queue.arrivals.taken);
        if frames != taken + self.n_handed {
            return Err(format!(
                "the stack saw {frames} frames of {taken} received and {} handed over",
                self.n_handed
            ));
        }
        let memory = self.stack.memory();
        let bound = self.stack.config().buffer_bytes_max + crate::tcp::buffer::CHUNK_BYTES;
        if memory.buffers > bound || self.stack.n_records() > self.stack.config().connections_max {
            return Err(format!("memory out of bounds: {memory:?}"));
        }
        Ok(())
    }

    fn receive(&mut self, now: Instant) -> Result<usize, String> {
        let n = self.queue.rx_batch(&mut self.rx);
        let miss = if self.n_others > 0 { Miss::HandOff } else { Miss::Answer };
        let frames: Vec<Frame> = self.rx.drain(n).collect();
        for mut frame in frames {
            let len = usize::from(frame.len());
            let bytes = &mut self.queue.bytes_mut(&mut frame)[..len];
            self.stack.check_arrival(bytes);
            let disposition = on_frame(&mut self.stack, &mut self.watch, now, bytes, miss)?;
            if std::mem::take(&mut self.forgets) {
                continue;
            }
            match disposition {
                Disposition::Done => self.queue.release(frame),
                Disposition::Reply(len) => self.send(frame, len),
                Disposition::HandOff => {
                    let hops_left = self.n_others - 1;
                    self.outbox.push(Parcel { bytes: bytes.to_vec(), hops_left });
                    self.queue.release(frame);
                }
            }
        }
        Ok(n)
    }

    fn take_handed(&mut self, now: Instant) -> Result<usize, String> {
        let mut n = 0;
        while n < HANDOFF_MAX
            && let Some(mut parcel) = self.inbox.pop_front()
        {
            n += 1;
            self.n_handed += 1;
            let miss = if parcel.hops_left > 0 { Miss::HandOff } else { Miss::Last };
            let bytes = &mut parcel.bytes;
            match on_frame(&mut self.stack, &mut self.watch, now, bytes, miss)? {
                Disposition::Done => {}
                Disposition::Reply(len) => self.send_copy(&parcel.bytes[..len]),
                Disposition::HandOff => {
                    parcel.hops_left -= 1;
                    self.outbox.push(parcel);
                }
            }
        }
        Ok(n)
    }

    fn send_copy(&mut self, bytes: &[u8]) {
        // Without a free frame the answer is lost, as in the engine.
        let Some(mut frame) = self.queue.alloc() else { return };
        self.queue.bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(bytes);
        self.send(frame, bytes.len());
    }

    fn send(&mut self, frame: Frame, len: usize) {
        if self.tx.room() == 0 {
            self.queue.tx_batch(&mut self.tx);
        }
        if self.tx.room() == 0 {
            self.queue.release(frame);
            return;
        }
        self.tx.push(frame.with_len(len as u16));
    }

    fn run_apps(&mut self, scene: &mut Scene<'_>, book: &Book) -> Result<usize, String> {
        let mut n = 0;
        while n < EVENTS_MAX
            && let Some(event) = self.stack.poll_event()
        {
            n += 1;
            self.on_event(&event, scene, book)?;
            self.stack.event_done(&event);
        }
        while let Some(&(at, id)) = self.alarms.first()
            && at <= scene.now
        {
            self.alarms.pop_first();
            n += 1;
            self.run_actor(id, scene)?;
        }
        Ok(n)
    }

    fn on_event(
        &mut self,
        event: &Event,
        scene: &mut Scene<'_>,
        book: &Book,
    ) -> Result<(), String> {
        let Some(info) = self.stack.conn_info(event.id.slot).filter(|info| info.id == event.id)
        else {
            return Err(format!("an event of a connection that is gone: {event:?}"));
        };
        let actor = match self.actors.entry(event.id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let tuple = FourTuple::new(info.local, info.remote);
                let Some((flow, script)) = book.get(&turned(&tuple).to_bytes()) else {
                    return Err(format!("a connection that nobody opened: {info:?}"));
                };
                let iss = info.snd_una.wrapping_sub(1);
                let has_cookies = self.stack.config().tcp.syn_cookies != SynCookies::Off;
                let oracle = &mut *scene.oracle;
                let number = oracle.enroll(*flow, tuple, iss, script.echo, has_cookies)?;
                entry.insert(Actor::new(event.id, number, script.clone()))
            }
        };
        if event.events.contains(Events::OPENED) {
            scene.oracle.open(actor.number, &info);
            actor.on_opened(scene.now);
        }
        // What was not read before a reset is gone, and nobody is told that it was all.
        let is_broken = event.end.is_some_and(|end| end != End::Closed);
        if event.events.contains(Events::FINISHED) && !is_broken {
            actor.on_finished(&self.stack, scene.oracle)?;
        }
        self.run_actor(event.id, scene)?;
        if let Some(end) = event.end
            && let Some(actor) = self.actors.remove(&event.id)
        {
            scene.oracle.ended(actor.number, end, info.rcv_nxt)?;
        }
        Ok(())
    }

    fn run_actor(&mut self, id: ConnId, scene: &mut Scene<'_>) -> Result<(), String> {
        let Some(actor) = self.actors.get_mut(&id) else { return Ok(()) };
        if let Some(at) = actor.run(&mut self.stack, scene)? {
            self.alarms.insert((at, id));
        }
        Ok(())
    }

    fn transmit(&mut self, now: Instant) -> usize {
        let mut n = 0;
        while n < TX_FRAMES_MAX {
            if self.tx.room() == 0 && self.queue.tx_batch(&mut self.tx) == 0 {
                break;
            }
            let Some(mut frame) = self.queue.alloc() else { break };
            let Some(len) = self.stack.poll_transmit(now, self.queue.bytes_mut(&mut frame)) else {
                self.queue.release(frame);
                break;
            };
            self.tx.push(frame.with_len(len as u16));
            n += 1;
        }
        if !self.tx.is_empty() {
            self.queue.tx_batch(&mut self.tx);
        }
        n
    }

    fn ask_kernel(&mut self, now: Instant) {
        while let Some(addr) = self.stack.poll_neighbor() {
            let known = (0..usize::from(u8::MAX)).find(|&host| ip_of(host) == addr);
            let mac = if addr == ROUTER_IP { Some(ROUTER_MAC) } else { known.map(mac_of) };
            if let Some(mac) = mac {
                self.stack.on_neighbor(now, addr, mac);
            }
        }
    }

    /// Everything that must hold between two turns.
    fn judge(&mut self, now: Instant) -> Result<(), String> {
        const AUDIT_EVERY: u64 = 64;
        self.watch.after_turn(now, &self.stack)?;
        let ledger = self.queue.ledger();
        if !ledger.balances() || ledger.held as usize != self.tx.len() {
            let waiting = self.tx.len();
            return Err(format!(
                "{waiting} frames wait to be sent, but the ledger says {ledger:?}"
            ));
        }
        self.n_turns += 1;
        if self.n_turns.is_multiple_of(AUDIT_EVERY) {
            self.watch.survey(now, &self.stack)?;
            self.audit()?;
        }
        Ok(())
    }
}

/// Gives a frame to a stack and watches the connection it was for.
fn on_frame(
    stack: &mut Stack,
    watch: &mut Watch,
    now: Instant,
    bytes: &mut [u8],
    miss: Miss,
) -> Result<Disposition, String> {
    let tuple = segment::receiver_tuple(bytes);
    let disposition = stack.on_frame(now, bytes, miss);
    if let Some(info) = tuple.and_then(|tuple| stack.conn_between(&tuple)) {
        watch.after_segment(now, &info)?;
    }
    Ok(disposition)
}

/// A test's hand on the oracle of a run.
pub(super) fn flip_next_byte(oracle: &mut Oracle) {
    oracle.flips = true;
}
