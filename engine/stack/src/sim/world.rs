//! The world of one run: hosts, links and the agenda, joined. Each step takes the next event, lets
//! it happen and judges what it touched; the run is over when faults have stopped, every connection
//! has come to an end and every record is gone.

mod faults;

use super::agenda::Agenda;
use super::arrivals::Arrivals;
use super::link::{self, Links};
use super::nic::{FRAME_BYTES, Steering};
use super::oracle::{Oracle, turned};
use super::plan::{Fault, FaultPlan, LISTEN_PORTS, Narrow, Plan, endpoints, host_of};
use super::router;
use super::segment::{self, Sent};
use super::trace::Trace;
use super::worker::{APP, Book, Parcel, Worker};
use super::workload::{PATIENCE, Scene};
use super::{Hooks, Report, RingCounts};
use crate::dice::Dice;
use crate::flow::FourTuple;
use crate::stack::{ConnInfo, ConnectError, StackConfig};
use crate::stats::{Counter, Counters};
use crate::tcp::{Seq, State};
use crate::time::{Duration, Instant};
use crate::wire::ethernet::{Ethernet, Mac};
use crate::wire::tcp::Flags;
use std::net::{Ipv4Addr, SocketAddrV4};

/// When runs begin: no clock starts at zero.
const BEGIN: Instant = Instant::from_nanos(1_000_000_000_000);

/// How long after all is quiet everything is gone: [`PATIENCE`], and time for the last FINs.
const LIMIT: Duration = Duration::from_secs(1_800);

/// How long a four-tuple that is in use is left alone before it is tried again.
const REOPEN: Duration = Duration::from_secs(1);

/// From which ports clients choose, and how often one that another flow has is passed over.
const CLIENT_PORTS: std::ops::RangeInclusive<u16> = 20_000..=49_999;
const PORT_TRIES_MAX: u32 = 16;

/// The longest that a worker which finds nothing to do, though something is, waits for it.
const IDLE_MAX: Duration = Duration::from_millis(2);

#[derive(Debug)]
enum Event {
    Arrive { host: usize, frame: Vec<u8> },
    Turn { host: usize, worker: usize },
    Open { flow: usize, by_server: bool, life: u32 },
    Phase(usize),
    Fault(usize),
    ReadRss(usize),
    Flood,
    Forge,
    Garbage,
    Plant,
    Quiet,
    GiveUp,
}

#[derive(Debug)]
struct Host {
    workers: Vec<Worker>,
    steering: Steering,
    arrivals: Arrivals,
}

/// One run.
#[derive(Debug)]
pub(super) struct World<'a> {
    plan: Plan,
    hooks: Hooks,
    agenda: Agenda<Event>,
    hosts: Vec<Host>,
    links: Links,
    oracle: Oracle,
    book: Book,
    /// Draws what happens while the world runs; the plan had its own.
    dice: Dice,
    quiet: bool,
    scratch: Vec<u8>,
    /// Connections still to be opened.
    n_unopened: usize,
    n_flying: usize,
    segments: u64,
    rings: RingCounts,
    trace: Trace<'a>,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: Plan, hooks: Hooks, trace: Trace<'a>) -> Self {
        let hosts = plan.hosts.iter().map(|host| {
            let n_others = usize::from(host.n_queues) - 1;
            let worker = |number| {
                let secret = host.config.secret.of_worker(number);
                let config = StackConfig { secret, ..host.config.clone() };
                Worker::new(config, host.rings, n_others, plan.narrow.is_some(), BEGIN)
            };
            Host {
                workers: (0..host.n_queues).map(worker).collect(),
                steering: Steering::new(host.rss_key, host.n_queues),
                arrivals: Arrivals::new(),
            }
        });
        let mut world = World {
            hosts: hosts.collect(),
            links: Links::new(plan.hosts.len(), plan.spares_arp, BEGIN),
            agenda: Agenda::new(BEGIN),
            oracle: Oracle::default(),
            book: Book::new(),
            dice: Dice::new(!plan.seed),
            quiet: false,
            scratch: Vec::new(),
            n_unopened: 0,
            n_flying: 0,
            segments: 0,
            rings: RingCounts::default(),
            trace,
            hooks,
            plan,
        };
        world.links.set(world.plan.calm, world.plan.calm, &mut world.dice);
        world.enter_plan();
        world
    }

    /// Runs to the end, or to the first thing that is wrong.
    pub(super) fn run(mut self) -> (Instant, Result<Report, String>) {
        let result = self.run_to_end();
        let now = self.agenda.now();
        if let Err(wrong) = &result {
            self.trace.line(now, || format!("WRONG {wrong}"));
        }
        (now, result.map(|()| self.report()))
    }

    fn run_to_end(&mut self) -> Result<(), String> {
        let limit = BEGIN + self.plan.quiet_after + LIMIT;
        while let Some(event) = self.agenda.next() {
            self.step(event)?;
            if self.quiet && self.is_over() {
                break;
            }
            if self.agenda.now() > limit {
                return Err(self.what_is_left());
            }
        }
        if !self.is_over() {
            return Err(self.what_is_left());
        }
        self.judge_end()
    }

    fn report(&self) -> Report {
        let mut rings = self.rings;
        let mut counters = Counters::new();
        for worker in self.workers() {
            rings.fill_empty += worker.queue.arrivals.fill_empty;
            rings.rx_full += worker.queue.arrivals.rx_full;
            for &counter in Counter::ALL {
                counters.add(counter, worker.stack.stats().get(counter));
            }
        }
        Report {
            virtual_time: self.agenda.now().since(BEGIN),
            segments: self.segments,
            connections: self.oracle.ends().len() as u64 / 2,
            frames: self.links.traffic,
            rings,
            counters,
            trace: self.trace.hash(),
        }
    }

    fn enter_plan(&mut self) {
        for (number, host) in self.plan.hosts.iter().enumerate() {
            for worker in 0..usize::from(host.n_queues) {
                for port in LISTEN_PORTS {
                    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
                    self.hosts[number].workers[worker].stack.listen(any, APP);
                }
                self.hosts[number].workers[worker].turn_at = Some(BEGIN);
                self.agenda.enter(BEGIN, Event::Turn { host: number, worker });
            }
        }
        for number in 0..self.hosts.len() {
            if self.plan.hosts[number].tells_rss {
                self.read_rss(number);
            }
        }
        for (number, flow) in self.plan.flows.iter().enumerate() {
            let open_at = BEGIN + flow.open_at;
            self.n_unopened += 1;
            self.agenda.enter(open_at, Event::Open { flow: number, by_server: false, life: 1 });
            if let Some(after) = flow.simultaneous {
                self.n_unopened += 1;
                let event = Event::Open { flow: number, by_server: true, life: 1 };
                self.agenda.enter(open_at + after, event);
            } else {
                let (client, server) = endpoints(flow);
                let tuple = FourTuple::new(client, server);
                let script = flow.scripts[1].clone();
                self.book.insert(tuple.to_bytes(), (number, script));
            }
        }
        for (number, phase) in self.plan.phases.iter().enumerate() {
            self.agenda.enter(BEGIN + phase.from, Event::Phase(number));
        }
        for (number, fault) in self.plan.faults.iter().enumerate() {
            self.agenda.enter(BEGIN + fault.at, Event::Fault(number));
        }
        let attack = self.plan.attack;
        self.enter_volleys(attack.floods, || Event::Flood);
        self.enter_volleys(attack.forgeries, || Event::Forge);
        self.enter_volleys(attack.garbage, || Event::Garbage);
        if self.hooks != Hooks::default() {
            self.agenda.enter(BEGIN, Event::Plant);
        }
        self.agenda.enter(BEGIN + self.plan.quiet_after, Event::Quiet);
        self.agenda.enter(BEGIN + self.plan.quiet_after + PATIENCE, Event::GiveUp);
    }

    fn enter_volleys(&mut self, n: u32, event: impl Fn() -> Event) {
        for _ in 0..n {
            let after = self.dice.below(self.plan.quiet_after.as_nanos());
            self.agenda.enter(BEGIN + Duration::from_nanos(after), event());
        }
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrive { host, frame } => {
                self.n_flying -= 1;
                self.links.traffic.delivered += 1;
                self.arrive(host, &frame);
                Ok(())
            }
            Event::Turn { host, worker } => self.turn(host, worker),
            Event::Open { flow, by_server, life } => self.open(flow, by_server, life),
            Event::Phase(number) => {
                let phase = self.plan.phases[number];
                self.trace.line(self.agenda.now(), || format!("links {phase:?}"));
                self.links.set(phase.up, phase.down, &mut self.dice);
                Ok(())
            }
            Event::Fault(number) => {
                self.begin_fault(number);
                Ok(())
            }
            Event::ReadRss(host) => {
                self.read_rss(host);
                Ok(())
            }
            Event::Flood | Event::Forge | Event::Garbage => {
                self.attack(&event);
                Ok(())
            }
            Event::Plant => {
                self.plant();
                Ok(())
            }
            Event::Quiet => self.calm_down(),
            Event::GiveUp => self.visit(|worker, scene| worker.give_up(scene)),
        }
    }

    /// A frame is at the NIC of a host.
    fn arrive(&mut self, host: usize, frame: &[u8]) {
        let queue = self.hosts[host].steering.queue(frame);
        if let Some(tuple) = segment::receiver_tuple(frame) {
            let it = &mut self.hosts[host];
            if segment::is_syn(frame) {
                let flow = self.book.get(&turned(&tuple).to_bytes()).map(|(flow, _)| *flow);
                self.oracle.note_syn(&tuple, queue, flow);
                it.arrivals.note_begin(&tuple);
            }
            it.arrivals.judge(&tuple, queue, &it.workers);
        }
        self.hosts[host].workers[queue].queue.arrive(frame);
        self.wake(host, queue, self.agenda.now());
    }

    /// Sees to it that a worker turns at `at` or soon after.
    fn wake(&mut self, host: usize, worker: usize, at: Instant) {
        let turn = self.plan.hosts[host].turn;
        let it = &mut self.hosts[host].workers[worker];
        let at = at.max(it.last_turn + turn).max(it.paused_until);
        if it.turn_at.is_none_or(|planned| planned > at) {
            it.turn_at = Some(at);
            self.agenda.enter(at, Event::Turn { host, worker });
        }
    }

    fn turn(&mut self, host: usize, worker: usize) -> Result<(), String> {
        let now = self.agenda.now();
        let it = &mut self.hosts[host].workers[worker];
        if it.turn_at != Some(now) {
            return Ok(());
        }
        it.turn_at = None;
        if it.paused_until > now {
            let until = it.paused_until;
            self.wake(host, worker, until);
            return Ok(());
        }
        let mut scene =
            Scene { now, quiet: self.quiet, oracle: &mut self.oracle, scratch: &mut self.scratch };
        let n_known = scene.oracle.ends().len();
        let turn = it.turn(&mut scene, &self.book)?;
        it.idle_turns = if turn.worked { 0 } else { it.idle_turns + 1 };
        if let Some(at) = turn.wake_at {
            // Something may be left that cannot be done now; it is looked for less and less often.
            let back_off = self.plan.hosts[host].turn * (1 << it.idle_turns.min(10));
            self.rings.tx_stalls += u64::from(at <= now);
            let at = if at <= now { now + back_off.min(IDLE_MAX) } else { at };
            self.wake(host, worker, at);
        }
        self.judge_tables(host, n_known)?;
        self.pass_parcels(host, worker);
        self.depart(host, worker)
    }

    /// The connections that became known in this turn are in the table of one worker only, unless
    /// flows change their queue: then the SYN of a new life may reach a worker that knows nothing of
    /// the old one on another.
    fn judge_tables(&self, host: usize, n_known: usize) -> Result<(), String> {
        if let Some(wrong) = &self.hosts[host].arrivals.wrong {
            return Err(format!("host {host}: {wrong}"));
        }
        let moves = |plan: &FaultPlan| matches!(plan.fault, Fault::Rehash(_));
        let fresh = &self.oracle.ends()[n_known..];
        if fresh.is_empty() || self.plan.faults.iter().any(moves) {
            return Ok(());
        }
        for end in fresh {
            let workers = self.hosts[host].workers.iter();
            let n = workers.filter(|it| it.stack.conn_between(&end.tuple).is_some()).count();
            if n > 1 {
                return Err(format!("in the tables of {n} workers: {end:?}"));
            }
        }
        Ok(())
    }

    /// What a worker did not know goes to the next one, if its inbox has room.
    fn pass_parcels(&mut self, host: usize, worker: usize) {
        let parcels: Vec<Parcel> = self.hosts[host].workers[worker].outbox.drain(..).collect();
        if parcels.is_empty() {
            return;
        }
        let next = (worker + 1) % self.hosts[host].workers.len();
        let inbox = &mut self.hosts[host].workers[next].inbox;
        for parcel in parcels {
            if inbox.len() < self.plan.hosts[host].handoff_max {
                inbox.push_back(parcel);
                self.rings.handed_over += 1;
            } else {
                self.rings.inbox_full += 1;
            }
        }
        self.wake(host, next, self.agenda.now());
    }

    /// Everything in the transmit ring goes on the wire.
    fn depart(&mut self, host: usize, worker: usize) -> Result<(), String> {
        let mut frame = [0; FRAME_BYTES];
        while let Some(bytes) = self.hosts[host].workers[worker].queue.depart() {
            let len = bytes.len();
            frame[..len].copy_from_slice(bytes);
            self.emit(host, worker, &frame[..len])?;
        }
        Ok(())
    }

    /// Judges a frame that a host sends, and carries it.
    fn emit(&mut self, host: usize, worker: usize, frame: &[u8]) -> Result<(), String> {
        let now = self.agenda.now();
        let mac = self.plan.hosts[host].config.mac;
        let sent = segment::judge(mac, frame)
            .map_err(|wrong| format!("host {host} sent {wrong}: {frame:02x?}"))?;
        self.trace.frame(now, host, frame);
        if let Some(sent) = &sent {
            self.segments += 1;
            self.trace.line(now, || format!("{host}.{worker} {}", sent.line()));
            self.judge_sent(sent)?;
            if sent.tcp.flags.contains(Flags::RST) {
                self.oracle.note_reset(&sent.tuple());
            }
        }
        self.carry(host, frame);
        Ok(())
    }

    /// What a segment carries fits the MSS of both ends and the window that the receiver has told;
    /// a probe of one byte may go beyond (RFC 9293 section 3.8.6.1).
    fn judge_sent(&self, sent: &Sent) -> Result<(), String> {
        const PROBE_BYTES: u32 = 1;
        const MSS_MIN: u16 = 88;
        let len = sent.payload_len();
        if len == 0 {
            return Ok(());
        }
        let hosts = [*sent.src.ip(), *sent.dst.ip()].map(|ip| usize::from(ip.octets()[3]) - 1);
        let mss = hosts
            .map(|host| self.plan.hosts.get(host).map_or(u16::MAX, |host| host.config.tcp.mss));
        let mss = u32::from(mss[0].min(mss[1]).max(MSS_MIN));
        if len + sent.options_len as u32 > mss {
            return Err(format!("{len} bytes do not fit an MSS of {mss}: {}", sent.line()));
        }
        let Some(receiver) = self.hosts.get(hosts[1]) else { return Ok(()) };
        let tuple = turned(&sent.tuple());
        let seq = Seq(sent.tcp.seq);
        let near = |info: &ConnInfo| {
            // Another life of the four-tuple has numbers that have nothing to do with these.
            let is_near = |a: u32, b: u32| (a.wrapping_sub(b) as i32).unsigned_abs() < 1 << 21;
            let is_meant = match info.state {
                State::SynSent | State::TimeWait => false,
                // A SYN that came twice may have left a second record, which nobody talks to.
                State::SynReceived => sent.tcp.ack == info.snd_nxt,
                _ => is_near(sent.tcp.ack, info.snd_una),
            };
            is_meant && is_near(seq.0, info.rcv_nxt)
        };
        let ends = receiver.workers.iter().filter_map(|worker| worker.stack.conn_between(&tuple));
        let ends: Vec<ConnInfo> = ends.filter(near).collect();
        let fits = |info: &ConnInfo| {
            let edge = Seq(info.rcv_nxt) + info.rcv_wnd;
            (seq + len).le(edge) || (len == PROBE_BYTES && seq.le(edge))
        };
        if ends.is_empty() || ends.iter().any(fits) {
            return Ok(());
        }
        Err(format!("beyond the window: {} to {ends:?}", sent.line()))
    }

    /// Carries a frame to whom it is addressed.
    fn carry(&mut self, from: usize, frame: &[u8]) {
        let Ok((ether, at)) = Ethernet::parse(frame) else { return };
        if ether.dst == Mac::BROADCAST {
            if let Some(answer) = router::answer_arp(&frame[at..]) {
                self.inject(from, &answer);
            }
            for to in (0..self.hosts.len()).filter(|&to| to != from) {
                self.launch(from, to, frame);
            }
        } else if let Some(to) = host_of(ether.dst).filter(|&to| to < self.hosts.len()) {
            match self.plan.narrow {
                Some(narrow) if frame.len() - at > usize::from(narrow.mtu) => {
                    self.refuse_as_too_big(narrow, frame);
                }
                _ => self.launch(from, to, frame),
            }
        }
        // What else is addressed to the router vanishes behind it.
    }

    fn launch(&mut self, from: usize, to: usize, frame: &[u8]) {
        let arrivals = self.links.pass(self.agenda.now(), from, to, frame);
        for departure in arrivals.into_iter().flatten() {
            let mut frame = frame.to_vec();
            if let Some(damage) = departure.damage
                && !damage.strike(&mut frame)
            {
                self.links.traffic.lost += 1;
                continue;
            }
            if !self.quiet && self.dice.happens(self.plan.marks) {
                self.links.traffic.marked += u64::from(link::mark(&mut frame));
            }
            self.n_flying += 1;
            self.agenda.enter(departure.at, Event::Arrive { host: to, frame });
        }
    }

    /// The frame does not fit the path: its sender is told, and it goes no further.
    fn refuse_as_too_big(&mut self, narrow: Narrow, frame: &[u8]) {
        self.links.traffic.sent += 1;
        self.links.traffic.lost += 1;
        let told = if narrow.tells { narrow.mtu } else { 0 };
        if let Some((host, message)) = router::too_big(frame, told) {
            self.inject(host, &message);
        }
    }

    /// A frame that no host sent arrives now.
    fn inject(&mut self, host: usize, frame: &[u8]) {
        self.links.traffic.sent += 1;
        self.links.traffic.delivered += 1;
        self.arrive(host, frame);
    }

    fn open(&mut self, number: usize, by_server: bool, life: u32) -> Result<(), String> {
        let now = self.agenda.now();
        if !by_server && life == 1 {
            self.choose_port(number);
        }
        let flow = self.plan.flows[number].clone();
        let (client, server) = endpoints(&flow);
        let (host, worker, local, remote) = if by_server {
            let arrivals = &self.hosts[flow.server].arrivals;
            let worker = arrivals.worker(&FourTuple::new(server, client));
            (flow.server, worker.unwrap_or(0), server, client)
        } else {
            (flow.client, flow.worker, client, server)
        };
        if self.quiet && life > 1 {
            self.n_unopened -= 1;
            return Ok(());
        }
        let tuple = FourTuple::new(local, remote);
        let again = Event::Open { flow: number, by_server, life };
        // Another worker may still have the four-tuple: whoever chooses ports knows.
        let in_use =
            self.hosts[host].workers.iter().any(|w| w.stack.conn_between(&tuple).is_some());
        if in_use {
            self.agenda.enter(now + REOPEN, again);
            return Ok(());
        }
        self.hosts[host].arrivals.note_begin(&tuple);
        let it = &mut self.hosts[host].workers[worker];
        let word = 0;
        match it.stack.connect(now, local, remote, APP, word) {
            Err(ConnectError::InUse) => self.agenda.enter(now + REOPEN, again),
            Err(wrong) => return Err(format!("{tuple:?} cannot be opened: {wrong}")),
            Ok(id) => {
                self.n_unopened -= 1;
                let info = it.stack.conn_info(id.slot);
                let iss = info.map_or(0, |info| info.snd_una);
                let script = flow.scripts[usize::from(by_server)].clone();
                let end = self.oracle.enroll(number, tuple, iss, script.echo, false)?;
                let mut scene = Scene {
                    now,
                    quiet: self.quiet,
                    oracle: &mut self.oracle,
                    scratch: &mut self.scratch,
                };
                it.enlist(id, end, script, &mut scene)?;
                self.trace.line(now, || format!("{host}.{worker} opens {tuple:?}, life {life}"));
                if life < flow.lives {
                    self.n_unopened += 1;
                    let event = Event::Open { flow: number, by_server, life: life + 1 };
                    self.agenda.enter(now + REOPEN, event);
                }
            }
        }
        self.wake(host, worker, now);
        Ok(())
    }

    /// The driver of a host is asked what its NIC has.
    fn read_rss(&mut self, host: usize) {
        self.trace.line(self.agenda.now(), || format!("{host} reads its hash"));
        let it = &mut self.hosts[host];
        it.arrivals.read(it.steering.rss(), &mut it.workers, self.hooks.misreads_rss);
    }

    /// Where the driver of the client tells its hash, a flow gets a port whose answers arrive at the
    /// worker that opens it.
    fn choose_port(&mut self, number: usize) {
        let flow = &self.plan.flows[number];
        let ((planned, server), it) = (endpoints(flow), &mut self.hosts[flow.client]);
        if !it.arrivals.is_told() {
            return;
        }
        let stack = &mut it.workers[flow.worker].stack;
        let tries = (0..PORT_TRIES_MAX).filter_map(|_| {
            stack.free_port(self.agenda.now(), *planned.ip(), server, CLIENT_PORTS).ok()
        });
        let others = &self.plan.flows;
        let ends = |port| (SocketAddrV4::new(*planned.ip(), port), server);
        let is_free = |&port: &u16| others.iter().all(|other| endpoints(other) != ends(port));
        match tries.into_iter().find(is_free) {
            Some(port) => {
                let before = FourTuple::new(planned, server).to_bytes();
                if let Some(entry) = self.book.remove(&before) {
                    self.book.insert(FourTuple::new(ends(port).0, server).to_bytes(), entry);
                }
                self.plan.flows[number].ports.0 = port;
            }
            // A table that was drawn anew may leave the worker without any.
            None => it.arrivals.exempt(&FourTuple::new(planned, server)),
        }
    }

    /// Lets every worker do something beside its turns, and turn afterwards.
    fn visit(
        &mut self,
        mut what: impl FnMut(&mut Worker, &mut Scene<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let now = self.agenda.now();
        for host in 0..self.hosts.len() {
            for worker in 0..self.hosts[host].workers.len() {
                let mut scene = Scene {
                    now,
                    quiet: self.quiet,
                    oracle: &mut self.oracle,
                    scratch: &mut self.scratch,
                };
                what(&mut self.hosts[host].workers[worker], &mut scene)?;
                self.wake(host, worker, now);
            }
        }
        Ok(())
    }

    fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.hosts.iter().flat_map(|host| &host.workers)
    }

    fn is_over(&self) -> bool {
        self.n_unopened == 0
            && self.n_flying == 0
            && self.workers().all(|worker| worker.stack.n_records() == 0 && worker.is_idle())
    }

    fn judge_end(&self) -> Result<(), String> {
        self.links.traffic.audit()?;
        self.judge_prophecies()?;
        for worker in self.workers() {
            worker.audit()?;
            let buffers = worker.stack.memory().buffers;
            if buffers > 0 {
                return Err(format!("{buffers} bytes of buffers are left"));
            }
        }
        if let Some(end) = self.oracle.ends().iter().find(|end| end.outcome.is_none()) {
            return Err(format!("its application was never told of the end: {end:?}"));
        }
        if self.plan.is_survivable() {
            let is_reused = |flow: usize| self.plan.flows[flow].lives > 1;
            self.oracle.judge_complete(|flow| self.plan.is_graceful(flow), is_reused)?;
        }
        Ok(())
    }

    /// What was foretold of a NIC that nobody changed came true.
    fn judge_prophecies(&self) -> Result<(), String> {
        for (number, host) in self.hosts.iter().enumerate() {
            let moves =
                |plan: &FaultPlan| matches!(plan.fault, Fault::Rehash(host) if host == number);
            let stats = host.workers.iter().map(|worker| worker.stack.stats());
            let mismatched: u64 = stats.map(|stats| stats.get(Counter::RssMismatched)).sum();
            if mismatched > 0 && !self.plan.faults.iter().any(moves) {
                return Err(format!("host {number}: {mismatched} frames at another queue"));
            }
        }
        Ok(())
    }

    fn what_is_left(&self) -> String {
        let left = self.workers().flat_map(|worker| {
            (0..worker.stack.n_slots()).filter_map(|slot| worker.stack.conn_info(slot))
        });
        let left: Vec<ConnInfo> = left.take(3).collect();
        let (unopened, flying) = (self.n_unopened, self.n_flying);
        format!(
            "not over in time: {unopened} unopened, {flying} frames on the way; first of what is \
             left: {left:?}"
        )
    }
}
