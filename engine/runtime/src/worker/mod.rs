//! The worker: one pinned thread that owns a queue, a stack and the applications on it, and does
//! everything for its connections in one loop. One pass of the loop is a *turn*:
//!
//! ```text
//! clock -> held frames -> receive -> deadlines -> applications -> transmit -> mailbox
//! ```
//!
//! The clock is read once a turn. Each step is bounded, so a turn is. What a worker shares with
//! others is the mailbox, the hand-off ring and its block of the statistics page; there is no lock.

mod desk;
mod handoff;
mod impaired;
mod lane;
mod mailbox;
mod patience;
mod publish;

pub use desk::{Apps, Desk, Stop};
pub use handoff::Handoff;
pub use impaired::{Paths, Way};
pub use mailbox::{Mailbox, MailboxError};
pub use publish::{Block, HANDOFF_HELP, Queue, handoff_counter, n_handoffs, worker_counters};

use crate::app::Io;
use crate::sys::clock;
use crate::sys::eventfd::EventFd;
use barewire_api::config::Poll;
use barewire_stack::device::{Batch, Device, Frame, Ledger};
use barewire_stack::stack::{Disposition, Miss, Stack};
use barewire_stack::time::{Duration, Instant};
use barewire_stack::wire::ethernet::{Ethernet, TYPE_ARP};
use impaired::Impaired;
use patience::Patience;
use publish::Tally;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Frames sent in one turn: a few batches, so that reception is looked at between them.
const TX_FRAMES_MAX: usize = 256;

/// Events told in one turn; what is left comes in the next.
const EVENTS_MAX: usize = 1024;

/// Frames taken from the hand-off ring in one turn.
const HANDOFF_MAX: usize = 256;

/// The longest sleep, so that the statistics stay fresh.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// How often the statistics page is written.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

/// How long a stopping worker goes on resetting connections.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Connections reset in one turn of a stopping worker.
const FAREWELLS_MAX: u32 = 512;

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts<Q> {
    /// The queue it serves.
    pub device: Q,
    /// Its stack.
    pub stack: Stack,
    /// Its applications.
    pub apps: Apps,
    /// Where the control thread reaches it.
    pub mailbox: Arc<Mailbox>,
    /// What it sleeps on, beside its queue.
    pub bell: Arc<EventFd>,
    /// Its place among the workers.
    pub handoff: Handoff,
    /// Its block of the statistics page.
    pub block: Option<Block>,
    /// Sleep when idle, or spin.
    pub poll: Poll,
}

/// A worker. Made anywhere, run by its own thread.
#[derive(Debug)]
pub struct Worker<Q> {
    parts: Parts<Impaired<Q>>,
    rx: Batch,
    tx: Batch,
    tally: Tally,
    published_at: Instant,
    /// When an application wants a turn.
    apps_wake_at: Option<Instant>,
    stop: Stop,
}

/// What a turn says to the loop around it.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Anything was received, sent, told or asked.
    pub worked: bool,
}

/// What is left of a worker.
#[derive(Debug)]
pub struct Remains {
    /// The sums that must hold; an error says which one does not.
    pub audit: Result<(), String>,
    /// Where its frames were at the end.
    pub ledger: Ledger,
}

impl<Q: Queue> Worker<Q> {
    /// A worker that has not turned yet.
    pub fn new(parts: Parts<Q>) -> Self {
        let Parts { device, stack, apps, mailbox, bell, handoff, block, poll } = parts;
        let device = Impaired::new(device);
        let tally = Tally::new(handoff.n_workers());
        Worker {
            parts: Parts { device, stack, apps, mailbox, bell, handoff, block, poll },
            rx: Batch::new(),
            tx: Batch::new(),
            tally,
            published_at: Instant::ZERO,
            apps_wake_at: None,
            stop: Stop::No,
        }
    }

    /// Turns until it is told to stop, then resets what is open and ends.
    pub fn run(mut self) -> Remains {
        let mut patience = Patience::new();
        while self.stop == Stop::No {
            let now = clock::now();
            if self.turn(now).worked {
                patience.on_work();
            } else if self.parts.poll == Poll::Adaptive && patience.is_over(now) {
                self.sleep(&mut patience);
            }
        }
        self.farewell();
        self.finish()
    }

    /// The device, for whoever carries frames in its place.
    pub fn device_mut(&mut self) -> &mut Q {
        &mut self.parts.device.queue
    }

    /// Runs a job on the desk of a worker that turns on the caller's own thread.
    pub fn visit<R>(&mut self, now: Instant, job: impl FnOnce(&mut Desk<'_>) -> R) -> R {
        let Parts { stack, apps, device, .. } = &mut self.parts;
        let (ledger, paths) = (device.ledger(), &mut device.paths);
        job(&mut Desk { now, stack, apps, ledger, paths, stop: &mut self.stop })
    }

    /// One pass of the loop.
    pub fn turn(&mut self, now: Instant) -> Turn {
        self.parts.device.on_turn(now, &mut self.tx);
        let received = self.receive(now) + self.take_handed(now);
        self.parts.stack.on_timeout(now);
        let told = self.run_apps(now);
        let sent = self.transmit(now);
        let asked = self.answer_mail(now);
        if now.since(self.published_at) >= PUBLISH_EVERY {
            self.publish(now);
        }
        Turn { worked: received + told + sent > 0 || asked }
    }

    /// When the next turn is wanted without a frame having arrived. Asked only by those who would
    /// sleep until then: a turn does without.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        let Parts { stack, device, .. } = &self.parts;
        [stack.poll_timeout(now), self.apps_wake_at, device.wake_at()].into_iter().flatten().min()
    }

    /// Writes the statistics page.
    pub fn publish(&mut self, now: Instant) {
        self.published_at = now;
        if let Some(block) = &self.parts.block {
            let Parts { stack, device, .. } = &self.parts;
            block.store(stack, &self.tally, &device.paths, &device.queue);
        }
    }

    /// Ends a worker that somebody else turned; [`Worker::run`] does it by itself.
    pub fn finish(mut self) -> Remains {
        self.publish(clock::now());
        for frame in self.tx.drain(self.tx.len()) {
            self.parts.device.release(frame);
        }
        self.parts.device.release_held();
        let ledger = self.parts.device.ledger();
        let frames = if ledger.balances() && ledger.held == 0 {
            Ok(())
        } else {
            Err(format!("frames are not conserved: {ledger:?}"))
        };
        Remains { audit: self.parts.stack.audit().and(frames), ledger }
    }

    fn receive(&mut self, now: Instant) -> usize {
        let n = self.parts.device.rx_batch(&mut self.rx);
        let miss = if self.parts.handoff.has_others() { Miss::HandOff } else { Miss::Answer };
        let Parts { stack, device, .. } = &mut self.parts;
        stack.look_ahead(self.rx.frames().iter().map(|frame| device.bytes(frame)));
        for mut frame in self.rx.drain(n) {
            let len = usize::from(frame.len());
            let bytes = &mut self.parts.device.bytes_mut(&mut frame)[..len];
            self.parts.stack.check_arrival(bytes);
            match take(&mut self.parts.stack, &mut self.parts.apps, now, bytes, miss) {
                Disposition::Done => self.parts.device.release(frame),
                Disposition::Reply(len) => {
                    send(&mut self.parts.device, &mut self.tx, &mut self.tally, frame, len);
                }
                Disposition::HandOff => {
                    self.tally.handed(self.parts.handoff.pass(bytes));
                    self.parts.device.release(frame);
                }
            }
        }
        n
    }

    /// Takes what other workers did not know; answers go out through this worker's queue.
    fn take_handed(&mut self, now: Instant) -> usize {
        let mut n = 0;
        if !self.parts.handoff.has_others() {
            return n;
        }
        while n < HANDOFF_MAX
            && let Some(mut parcel) = self.parts.handoff.take()
        {
            n += 1;
            self.tally.handoff_received += 1;
            let miss = if parcel.hops_left > 0 { Miss::HandOff } else { Miss::Last };
            let Parts { stack, apps, .. } = &mut self.parts;
            let disposition = take(stack, apps, now, parcel.frame(), miss);
            if disposition != Disposition::HandOff && !is_arp(parcel.frame()) {
                self.tally.handoff_from[parcel.from] += 1;
            }
            match disposition {
                Disposition::Done => {}
                Disposition::Reply(len) => self.send_copy(&parcel.frame()[..len]),
                Disposition::HandOff => {
                    self.tally.handed(self.parts.handoff.pass_on(&mut parcel));
                }
            }
            self.parts.handoff.put_back(parcel);
        }
        n
    }

    fn send_copy(&mut self, bytes: &[u8]) {
        let Some(mut frame) = self.parts.device.alloc() else {
            self.tally.tx_dropped += 1;
            return;
        };
        self.parts.device.bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(bytes);
        send(&mut self.parts.device, &mut self.tx, &mut self.tally, frame, bytes.len());
    }

    fn run_apps(&mut self, now: Instant) -> usize {
        let Parts { stack, apps, .. } = &mut self.parts;
        let mut n = 0;
        while n < EVENTS_MAX
            && let Some(event) = stack.poll_event()
        {
            n += 1;
            match apps.get_mut(event.app) {
                Some(app) => app.on_event(&mut Io::new(stack, now, event.app), &event),
                // Its listener was removed and its application with it.
                None => stack.abort(now, event.id),
            }
            stack.event_done(&event);
        }
        let mut wake_at = None;
        for (number, app) in apps.iter_mut() {
            let wanted = app.on_turn(&mut Io::new(stack, now, number));
            wake_at = [wake_at, wanted].into_iter().flatten().min();
        }
        if let Some(stateless) = &mut apps.stateless {
            let wanted = stateless.on_turn(now, stack.stats_mut());
            wake_at = [wake_at, wanted].into_iter().flatten().min();
        }
        self.apps_wake_at = wake_at;
        n
    }

    fn transmit(&mut self, now: Instant) -> usize {
        let Parts { device, stack, apps, .. } = &mut self.parts;
        let mut n = 0;
        while n < TX_FRAMES_MAX {
            if self.tx.room() == 0 && device.tx_batch(&mut self.tx) == 0 {
                break;
            }
            let Some(mut frame) = device.alloc() else { break };
            let Some(len) = next_frame(stack, apps, now, device.bytes_mut(&mut frame)) else {
                device.release(frame);
                break;
            };
            self.tx.push(frame.with_len(len as u16));
            n += 1;
        }
        if !self.tx.is_empty() {
            device.tx_batch(&mut self.tx);
        }
        n
    }

    fn answer_mail(&mut self, now: Instant) -> bool {
        let Parts { stack, apps, mailbox, device, .. } = &mut self.parts;
        if mailbox.is_empty() {
            return false;
        }
        let (ledger, paths) = (device.ledger(), &mut device.paths);
        mailbox.run(&mut Desk { now, stack, apps, ledger, paths, stop: &mut self.stop })
    }

    /// Sleeps until there may be something to do.
    fn sleep(&mut self, patience: &mut Patience) {
        let now = clock::now();
        let longest = self.wake_at(now).map_or(SLEEP_MAX, |at| at.since(now).min(SLEEP_MAX));
        if longest.is_zero() {
            return;
        }
        self.tally.sleeps += 1;
        let rung = self.parts.device.wait(longest, self.parts.bell.as_fd());
        if rung {
            self.parts.bell.clear();
        }
        patience.on_sleep(clock::now() - now);
    }

    /// Resets all connections, so that no peer waits for one that is gone; bounded in time.
    fn farewell(&mut self) {
        // No peer is to miss its reset for a fault of ours.
        self.parts.device.paths.clear();
        self.parts.apps.end_load(self.parts.stack.stats_mut());
        let begun = clock::now();
        let (mut next, n_slots) = (0, self.parts.stack.n_slots());
        loop {
            let now = clock::now();
            let last = next + FAREWELLS_MAX.min(n_slots - next);
            for slot in next..last {
                self.parts.stack.abort_slot(now, slot);
            }
            next = last;
            self.parts.device.on_turn(now, &mut self.tx);
            let sent = self.transmit(now);
            self.run_apps(now);
            if (next == n_slots && sent == 0) || now.since(begun) > FAREWELL_MAX {
                break;
            }
        }
    }
}

/// An answer to ARP visits all workers, and is nobody's.
fn is_arp(frame: &[u8]) -> bool {
    Ethernet::parse(frame).is_ok_and(|(ether, _)| ether.ethertype == TYPE_ARP)
}

/// A received frame is for the stateless clients of a load test, where there are any, or for the stack.
fn take(
    stack: &mut Stack,
    apps: &mut Apps,
    now: Instant,
    frame: &mut [u8],
    miss: Miss,
) -> Disposition {
    let stateless = apps.stateless.as_mut();
    let taken = stateless.and_then(|s| s.on_frame(now, frame, miss, stack.stats_mut()));
    taken.unwrap_or_else(|| stack.on_frame(now, frame, miss))
}

/// The next frame to send, of either.
fn next_frame(stack: &mut Stack, apps: &mut Apps, now: Instant, buf: &mut [u8]) -> Option<usize> {
    if let Some(len) = stack.poll_transmit(now, buf) {
        return Some(len);
    }
    apps.stateless.as_mut()?.poll_transmit(now, buf, stack.stats_mut())
}

/// Queues an answer for transmission; with every place taken it is dropped and counted.
fn send<Q: Queue>(device: &mut Q, tx: &mut Batch, tally: &mut Tally, frame: Frame, len: usize) {
    if tx.room() == 0 {
        device.tx_batch(tx);
    }
    if tx.room() == 0 {
        tally.tx_dropped += 1;
        device.release(frame);
        return;
    }
    tx.push(frame.with_len(len as u16));
}
