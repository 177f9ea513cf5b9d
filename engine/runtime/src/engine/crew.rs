//! The workers of a running engine: one thread for each queue, pinned, with its own stack and
//! applications. Whoever holds the crew talks to a worker by jobs in its mailbox and ends it by the
//! same way; what a worker does in between is not known here.

use super::options::{AppMaker, EngineOptions};
use super::stack_config::{secret, stack_config};
use super::tapped::Tapped;
use super::{Ending, Site, StartError, Statistics};
use crate::sys::affinity::{AffinityError, pin_current_thread};
use crate::sys::clock;
use crate::sys::eventfd::EventFd;
use crate::tap::{Capture, Tap};
use crate::worker::{
    Apps, Desk, Handoff, Mailbox, MailboxError, Parts, Queue, Remains, Stop, Worker,
};
use crate::xdp::{Outcome, XdpDevice};
use barewire_api::config::{AppSpec, ListenAddr};
use barewire_stack::stack::{Stack, StackConfig};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use tracing::{info, warn};

/// A running worker, as the control thread sees it.
#[derive(Debug)]
pub(crate) struct Member {
    mailbox: Arc<Mailbox>,
    /// The queue it serves.
    pub(crate) queue: u32,
    /// The CPU it is pinned to.
    pub(crate) cpu: usize,
    /// What the kernel granted for its queue.
    pub(crate) outcome: Outcome,
    thread: JoinHandle<Remains>,
}

/// All workers, in the order of their queues.
#[derive(Debug)]
pub(crate) struct Crew {
    members: Vec<Member>,
    capture: Option<Capture>,
}

impl Crew {
    /// Starts a worker for each device, listening as configured.
    pub(crate) fn start(
        site: &Site,
        devices: Vec<XdpDevice>,
        apps: &[AppSpec],
        options: &EngineOptions,
        statistics: &Statistics,
    ) -> Result<Crew, StartError> {
        let base = stack_config(site, secret()?, devices.len() as u64);
        let bells = (0..devices.len()).map(|_| EventFd::new().map(Arc::new));
        let bells: Vec<_> =
            bells.collect::<Result<_, _>>().map_err(StartError::os("make an eventfd"))?;
        let mut ring = Handoff::ring(&bells).into_iter();
        let (capture, taps) = start_capture(site, options)?;
        let mut taps = taps.into_iter();
        let mut crew = Crew { members: Vec::new(), capture };
        for ((idx, device), bell) in devices.into_iter().enumerate().zip(bells) {
            let (queue, cpu, outcome) = (device.queue(), site.cpus[idx], device.outcome());
            let mailbox = Arc::new(Mailbox::new(Arc::clone(&bell)));
            let config = StackConfig { secret: base.secret.of_worker(idx as u16), ..base.clone() };
            let mut stack = listening_stack(config, site, apps);
            stack.set_queue_ports(site.arrivals.queue_ports(queue));
            let parts = Parts {
                device: (),
                stack,
                apps: listening_apps(apps, &options.apps),
                mailbox: Arc::clone(&mailbox),
                bell,
                handoff: ring.next().expect("a place for every bell"),
                block: Some(statistics.block(idx)),
                poll: site.config.interface.poll,
            };
            let thread = match taps.next() {
                None => spawn(idx, cpu, Worker::new(with_device(parts, device))),
                Some(tap) => {
                    spawn(idx, cpu, Worker::new(with_device(parts, Tapped::new(device, tap))))
                }
            };
            crew.members.push(Member { mailbox, queue, cpu, outcome, thread: thread? });
        }
        Ok(crew)
    }

    /// The workers.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Runs `job` on one worker and waits for its answer.
    pub(crate) fn ask<R: Send + 'static>(
        &self,
        worker: usize,
        job: impl FnOnce(&mut Desk<'_>) -> R + Send + 'static,
    ) -> Result<R, MailboxError> {
        self.members[worker].mailbox.ask(job)
    }

    /// Runs `job` on every worker, one after the other; their answers in order. One that does not
    /// answer in time gets its job all the same, and so do those behind it.
    pub(crate) fn ask_all<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Desk<'_>) -> R + Clone + Send + 'static,
    ) -> Result<Vec<R>, MailboxError> {
        let answers: Vec<_> =
            self.members.iter().map(|member| member.mailbox.ask(job.clone())).collect();
        answers.into_iter().collect()
    }

    /// A worker that has ended although nobody told it to: its thread panicked.
    pub(crate) fn lost(&self) -> Option<usize> {
        self.members.iter().position(|member| member.thread.is_finished())
    }

    /// Ends all workers and takes the sums that must hold.
    pub(crate) fn end(mut self, statistics: &Statistics) -> Ending {
        let remains = self.dismiss();
        match self.capture.take().map(Capture::stop) {
            None => {}
            Some(Ok(report)) => {
                info!("capture: {} frames written, {} missed", report.written, report.missed);
            }
            Some(Err(error)) => warn!("{error}"),
        }
        Ending::new(&remains, statistics)
    }

    /// Tells every worker to stop, then waits for all: they take leave of their peers side by side.
    fn dismiss(&mut self) -> Vec<Result<Remains, String>> {
        for member in &self.members {
            // A worker that does not answer has ended or hangs; joining it tells.
            let _ = member.mailbox.ask(|desk| *desk.stop = Stop::Now);
        }
        let members = self.members.drain(..).enumerate();
        members
            .map(|(idx, member)| {
                member.thread.join().map_err(|_| format!("worker {idx} panicked, see above"))
            })
            .collect()
    }
}

impl Drop for Crew {
    /// A start that failed half-way leaves no thread behind.
    fn drop(&mut self) {
        self.dismiss();
        // The failure of the start is what is told; an ended crew has no capture any more.
        let _ = self.capture.take().map(Capture::stop);
    }
}

/// A capture, if one is wanted, and a tap for each queue.
fn start_capture(
    site: &Site,
    options: &EngineOptions,
) -> Result<(Option<Capture>, Vec<Tap>), StartError> {
    let Some(options) = &options.capture else { return Ok((None, Vec::new())) };
    let name = |queue| format!("{} queue {queue}", site.interface.name);
    let queues: Vec<String> = (0..site.n_queues).map(name).collect();
    let (capture, taps) = Capture::start(options, &queues)?;
    Ok((Some(capture), taps))
}

/// The same parts around a device.
fn with_device<Q>(parts: Parts<()>, device: Q) -> Parts<Q> {
    let Parts { device: (), stack, apps, mailbox, bell, handoff, block, poll } = parts;
    Parts { device, stack, apps, mailbox, bell, handoff, block, poll }
}

/// Starts the thread and waits until it is pinned.
fn spawn<Q: Queue + 'static>(
    idx: usize,
    cpu: usize,
    worker: Worker<Q>,
) -> Result<JoinHandle<Remains>, StartError> {
    let (pinned, is_pinned): (SyncSender<Result<(), AffinityError>>, _) = sync_channel(1);
    let thread = thread::Builder::new().name(format!("worker-{idx}")).spawn(move || {
        let result = pin_current_thread(cpu);
        let failed = result.is_err();
        // The receiver waits for exactly this.
        let _ = pinned.send(result);
        if failed { worker.finish() } else { worker.run() }
    });
    let thread = thread.map_err(StartError::os("start a worker's thread"))?;
    match is_pinned.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(StartError::Os {
            what: "start a worker's thread",
            source: std::io::Error::other("it ended at once"),
        }),
    }
}

/// The number of the application that runs `spec`: one instance serves all its listeners.
pub(crate) fn app_number(apps: &[AppSpec], spec: &AppSpec) -> Option<u8> {
    let idx = apps.iter().position(|known| known == spec)?;
    u8::try_from(idx).ok()?.checked_add(Apps::FIRST_LISTENING)
}

/// The endpoint of a listener in a stack, where the unspecified address stands for all.
pub(crate) fn endpoint(at: ListenAddr) -> SocketAddrV4 {
    SocketAddrV4::new(at.addr.unwrap_or(Ipv4Addr::UNSPECIFIED), at.port)
}

fn listening_apps(specs: &[AppSpec], maker: &AppMaker) -> Apps {
    let mut apps = Apps::new();
    for spec in specs {
        let number = app_number(specs, spec).expect("there are at most LISTENERS_MAX");
        apps.set_listening(number, maker.make(spec));
    }
    apps
}

fn listening_stack(config: StackConfig, site: &Site, apps: &[AppSpec]) -> Stack {
    let mut stack = Stack::new(config, clock::now());
    for listen in &site.config.listen {
        let number = app_number(apps, &listen.app).expect("every listener's application is there");
        let is_new = stack.listen(endpoint(listen.at), number);
        assert!(is_new, "the checked configuration has each listener once");
    }
    stack
}
