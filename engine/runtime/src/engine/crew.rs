//! The workers of a running engine: one thread for each queue, pinned, with its own stack and
//! applications. Whoever holds the crew talks to a worker by jobs in its mailbox and ends it by the
//! same way; what a worker does in between is not known here.

use super::{Ending, Site, StartError, Statistics};
use crate::app;
use crate::sys::affinity::{AffinityError, pin_current_thread};
use crate::sys::clock;
use crate::sys::eventfd::EventFd;
use crate::worker::{
    Apps, Desk, Handoff, Mailbox, MailboxError, Parts, Queue, Remains, Stop, Worker,
};
use crate::xdp::{Outcome, XdpDevice};
use barewire_api::config::{AppSpec, Ownership, Prefix};
use barewire_api::unit::Span;
use barewire_stack::stack::{self, Resolver, Stack, StackConfig};
use barewire_stack::tcp::TcpConfig;
use barewire_stack::tcp::isn::Secret;
use barewire_stack::time::Duration;
use barewire_stack::wire::ethernet::Mac;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

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
}

impl Crew {
    /// Starts a worker for each device, listening as configured.
    pub(crate) fn start(
        site: &Site,
        devices: Vec<XdpDevice>,
        apps: &[AppSpec],
        statistics: &Statistics,
    ) -> Result<Crew, StartError> {
        let config = stack_config(site, secret()?, devices.len() as u64);
        let bells = (0..devices.len()).map(|_| EventFd::new().map(Arc::new));
        let bells: Vec<_> =
            bells.collect::<Result<_, _>>().map_err(StartError::os("make an eventfd"))?;
        let ring = Handoff::ring(&bells);
        let mut crew = Crew { members: Vec::new() };
        for (idx, ((device, bell), handoff)) in devices.into_iter().zip(bells).zip(ring).enumerate()
        {
            let (queue, outcome) = (device.queue(), device.outcome());
            let mailbox = Arc::new(Mailbox::new(Arc::clone(&bell)));
            let parts = Parts {
                device,
                stack: listening_stack(&config, site, apps),
                apps: listening_apps(apps),
                mailbox: Arc::clone(&mailbox),
                bell,
                handoff,
                block: Some(statistics.block(idx)),
                poll: site.config.interface.poll,
            };
            let cpu = site.cpus[idx];
            // Dropping the crew on an error closes the mailboxes' other ends: see `Drop`.
            let thread = spawn(idx, cpu, Worker::new(parts))?;
            crew.members.push(Member { mailbox, queue, cpu, outcome, thread });
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
    }
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

/// One secret for all workers: a segment may arrive at a worker that did not make its ISN.
fn secret() -> Result<Secret, StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StartError::Os {
        what: "get random numbers from the kernel",
        source: std::io::Error::other(error),
    })?;
    Ok(Secret::new(seed))
}

/// The number of the application that runs `spec`: one instance serves all its listeners.
pub(crate) fn app_number(apps: &[AppSpec], spec: &AppSpec) -> Option<u16> {
    let idx = apps.iter().position(|known| known == spec)?;
    u16::try_from(idx).ok()?.checked_add(Apps::FIRST_LISTENING)
}

/// The endpoint of a listener in a stack, where the unspecified address stands for all.
pub(crate) fn endpoint(at: barewire_api::config::ListenAddr) -> SocketAddrV4 {
    SocketAddrV4::new(at.addr.unwrap_or(Ipv4Addr::UNSPECIFIED), at.port)
}

fn listening_apps(specs: &[AppSpec]) -> Apps {
    let mut apps = Apps::new();
    for spec in specs {
        let number = app_number(specs, spec).expect("listeners are far fewer than 65,536");
        apps.set_listening(number, app::make(spec));
    }
    apps
}

fn listening_stack(config: &StackConfig, site: &Site, apps: &[AppSpec]) -> Stack {
    let mut stack = Stack::new(config.clone(), clock::now());
    for listen in &site.config.listen {
        let number = app_number(apps, &listen.app).expect("every listener's application is there");
        let is_new = stack.listen(endpoint(listen.at), number);
        assert!(is_new, "the checked configuration has each listener once");
    }
    stack
}

/// The configuration of each worker's stack. Limits of the whole daemon are divided evenly and
/// rounded up.
fn stack_config(site: &Site, secret: Secret, n_workers: u64) -> StackConfig {
    let (interface, tcp) = (&site.config.interface, &site.config.tcp);
    let share = |total: u64| u32::try_from(total.div_ceil(n_workers)).unwrap_or(u32::MAX);
    let whole = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let prefixes = |list: &[Prefix]| {
        list.iter().map(|p| stack::Prefix { addr: p.addr(), len: p.len() }).collect()
    };
    StackConfig {
        mac: Mac(site.interface.mac),
        addresses: prefixes(&interface.addresses),
        prefixes: prefixes(&interface.prefixes),
        gateway: interface.gateway,
        resolver: match interface.ownership {
            Ownership::Owned => Resolver::Arp,
            Ownership::Shared => Resolver::Kernel,
        },
        mtu: u16::try_from(site.interface.mtu).unwrap_or(u16::MAX),
        ttl: tcp.ttl,
        dscp: tcp.dscp,
        rx_checksum: site.rx_checksum,
        connections_max: share(tcp.connections_max.0),
        syn_backlog_max: whole(tcp.syn_backlog_max.0),
        time_wait_max: share(tcp.time_wait_max.0),
        neighbors_max: interface.neighbors_max,
        resets_per_second_max: whole(tcp.resets_per_second_max.0),
        buffer_bytes_max: usize::try_from(tcp.buffer_bytes_max.0).unwrap_or(usize::MAX),
        secret,
        tcp: tcp_config(site),
    }
}

fn tcp_config(site: &Site) -> TcpConfig {
    let tcp = &site.config.tcp;
    let span = |span: Span| Duration::from_nanos(span.as_nanos());
    let bytes = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let tries = |n: u32| u8::try_from(n).unwrap_or(u8::MAX);
    // MTU less the IP and TCP headers without options (RFC 9293 section 3.7.1).
    let mss_max = u16::try_from(site.interface.mtu).unwrap_or(u16::MAX).saturating_sub(40);
    TcpConfig {
        mss: tcp.mss.unwrap_or(mss_max).min(mss_max),
        window_bytes_max: bytes(tcp.window_bytes_max.0),
        send_bytes_max: bytes(tcp.send_bytes_max.0),
        reassembly_segments_max: u16::try_from(tcp.reassembly_segments_max).unwrap_or(u16::MAX),
        rto_min: span(tcp.rto_min),
        rto_max: span(tcp.rto_max),
        syn_retries_max: tries(tcp.syn_retries_max),
        retries_max: tries(tcp.retries_max),
        delayed_ack: span(tcp.delayed_ack),
        time_wait: span(tcp.time_wait),
        fin_wait2: span(tcp.fin_wait2),
        keepalive: span(tcp.keepalive),
        keepalive_interval: span(tcp.keepalive_interval),
        keepalive_probes_max: tries(tcp.keepalive_probes_max),
        nagle: tcp.nagle,
        timestamps: tcp.timestamps,
        sack: tcp.sack,
        window_scale: tcp.window_scale,
        initial_window_segments: tcp.initial_window_segments,
    }
}
