//! One stack in virtual time, with a wire to the player of a script. Every deadline of the stack is
//! met exactly, and time passes only while somebody waits.

use crate::app::Running;
use crate::settings;
use barewire_stack::flow::FourTuple;
use barewire_stack::script::{Call, Ends, Script, Told, Wire};
use barewire_stack::stack::{ConnId, Disposition, Miss, Prefix, Resolver, Stack, StackConfig};
use barewire_stack::tcp::isn::Secret;
use barewire_stack::tcp::{End, Events, TcpConfig};
use barewire_stack::time::{Duration, Instant};
use barewire_stack::wire::arp::{Arp, ArpOperation};
use barewire_stack::wire::ethernet::{self, Ethernet, Mac};
use barewire_stack::wire::tcp::ChecksumPolicy;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};

const STACK_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const TESTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const STACK_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TESTER_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Where the application listens, and where from the stack connects.
const PORT: u16 = 7000;
const CONNECT_PORT: u16 = 50_000;
const TESTER_PORT: u16 = 40_000;

/// Steps of time while nothing can be sent that waits.
const STEP: Duration = Duration::from_millis(1);

pub(crate) struct Lab {
    stack: Stack,
    now: Instant,
    app: Running,
    /// Frames of the stack, and when they left it.
    frames: VecDeque<(Instant, Vec<u8>)>,
    told: Vec<Told>,
    /// The connection that `call`s are about: the newest.
    id: Option<ConnId>,
}

fn config() -> StackConfig {
    StackConfig {
        mac: STACK_MAC,
        addresses: vec![Prefix { addr: STACK_IP, len: 24 }],
        prefixes: Vec::new(),
        gateway: None,
        resolver: Resolver::Arp,
        ttl: 64,
        dscp: 0,
        rx_checksum: ChecksumPolicy::Verify,
        connections_max: 100_000,
        syn_backlog_max: 1000,
        time_wait_max: 1000,
        neighbors_max: 64,
        resets_per_second_max: 1000,
        buffer_bytes_max: 16 << 20,
        secret: Secret::new([42; 32]),
        tcp: TcpConfig::default(),
    }
}

impl Lab {
    /// A stack as the script wants it, at a time at which the first connection of the script gets
    /// the initial sequence number `irs`.
    pub(crate) fn new(script: &Script, irs: u32) -> Self {
        let mut config = config();
        for (key, value) in &script.settings {
            settings::apply(&mut config, key, value);
        }
        let port = if script.connects() { CONNECT_PORT } else { PORT };
        let tester = SocketAddrV4::new(TESTER_IP, TESTER_PORT);
        let tuple = FourTuple::new(SocketAddrV4::new(STACK_IP, port), tester);
        let ticks = irs.wrapping_sub(config.secret.isn(&tuple, Instant::ZERO).0);
        // The number advances every 4 microseconds (RFC 9293 section 3.4.1).
        let now = Instant::from_nanos(u64::from(ticks) * 4_000);
        let mut stack = Stack::new(config, now);
        assert!(stack.listen(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT), 1));
        let mut lab = Lab {
            stack,
            now,
            app: Running::new(&script.app),
            frames: VecDeque::new(),
            told: Vec::new(),
            id: None,
        };
        lab.meet_the_tester();
        lab
    }

    pub(crate) fn ends(&self, iss: u32) -> Ends {
        Ends {
            stack_mac: STACK_MAC,
            stack: SocketAddrV4::new(STACK_IP, PORT),
            tester_mac: TESTER_MAC,
            tester: SocketAddrV4::new(TESTER_IP, TESTER_PORT),
            iss,
        }
    }

    /// The sums that hold at the end.
    pub(crate) fn audit(&self) -> Result<(), String> {
        self.stack.audit()
    }

    fn meet_the_tester(&mut self) {
        self.give(arp(ArpOperation::Request, TESTER_IP));
    }

    fn give(&mut self, mut frame: Vec<u8>) {
        if let Disposition::Reply(len) = self.stack.on_frame(self.now, &mut frame, Miss::Answer) {
            frame.truncate(len);
            self.take(frame);
        }
        self.turn();
    }

    /// Everything the stack and its application do at this moment.
    fn turn(&mut self) {
        self.stack.on_timeout(self.now);
        while let Some(event) = self.stack.poll_event() {
            self.note(event.events, event.end);
            if event.events.contains(Events::OPENED) {
                self.id = Some(event.id);
            }
            self.app.on_event(&mut self.stack, self.now, &event);
            self.stack.event_done(&event);
        }
        self.app.on_turn(&mut self.stack, self.now);
        let mut buf = [0; 2048];
        while let Some(len) = self.stack.poll_transmit(self.now, &mut buf) {
            self.take(buf[..len].to_vec());
        }
    }

    /// A frame of the stack: ARP is answered for everybody, so that nothing is held back.
    fn take(&mut self, frame: Vec<u8>) {
        let (ether, at) = Ethernet::parse(&frame).expect("the stack sends Ethernet");
        if ether.ethertype != ethernet::TYPE_ARP {
            self.frames.push_back((self.now, frame));
            return;
        }
        let asked = Arp::parse(&frame[at..]).expect("the stack sends sound ARP");
        if asked.operation == ArpOperation::Request {
            self.give(arp(ArpOperation::Reply, asked.target_ip));
        }
    }

    fn note(&mut self, events: Events, end: Option<End>) {
        let plain = [
            (Events::OPENED, Told::Opened),
            (Events::READABLE, Told::Readable),
            (Events::URGENT, Told::Urgent),
            (Events::FINISHED, Told::Finished),
        ];
        self.told.extend(plain.iter().filter(|(e, _)| events.contains(*e)).map(|(_, told)| *told));
        self.told.extend(end.map(|end| match end {
            End::Closed => Told::Closed,
            End::Refused => Told::Refused,
            End::Unreachable | End::NoNeighbor => Told::Unreachable,
            End::Reset => Told::Reset,
            End::TimedOut => Told::TimedOut,
            End::Aborted => Told::Aborted,
        }));
    }

    /// Lets time pass to the next deadline, at most to `end`; false when that is reached.
    fn step(&mut self, end: Instant) -> bool {
        if self.now >= end {
            return false;
        }
        let due = [self.stack.poll_timeout(self.now), self.app.poll_timeout()];
        let due = due.into_iter().flatten().min().unwrap_or(end);
        self.now = due.max(self.now + STEP).min(end);
        self.turn();
        true
    }
}

impl Wire for Lab {
    fn now(&self) -> Instant {
        self.now
    }

    fn send(&mut self, frame: Vec<u8>) {
        self.give(frame);
    }

    fn receive(&mut self, deadline: Instant) -> Option<(Instant, Vec<u8>)> {
        while self.frames.is_empty() && self.step(deadline) {}
        self.frames.pop_front()
    }

    fn call(&mut self, call: &Call) -> Result<(), String> {
        if let Call::Connect | Call::ConnectTo(_) = call {
            let tester = SocketAddrV4::new(TESTER_IP, TESTER_PORT);
            let remote = match call {
                Call::ConnectTo(addr) => SocketAddrV4::new(*addr, TESTER_PORT),
                _ => tester,
            };
            let local = SocketAddrV4::new(STACK_IP, CONNECT_PORT);
            let opened = self.stack.connect(self.now, local, remote, 1, 0);
            self.id = Some(opened.map_err(|error| error.to_string())?);
            self.turn();
            return Ok(());
        }
        let id = self.id.ok_or("no connection")?;
        let (stack, now) = (&mut self.stack, self.now);
        let short = |done: usize, n: u32| match done == n as usize {
            true => Ok(()),
            false => Err(format!("{done} bytes")),
        };
        let mut result = Ok(());
        match call {
            Call::Send(n) => result = short(self.app.send(stack, now, id, *n), *n),
            Call::Read(n) => result = short(stack.discard(now, id, *n as usize), *n),
            Call::Shutdown => stack.shutdown(now, id),
            Call::Close => stack.close(now, id),
            Call::Abort => stack.abort(now, id),
            Call::Connect | Call::ConnectTo(_) => {}
        }
        self.turn();
        result
    }

    fn is_told(&mut self, told: Told, deadline: Instant) -> bool {
        while !self.told.contains(&told) && self.step(deadline) {}
        self.told.contains(&told)
    }

    fn slack(&self) -> Duration {
        Duration::ZERO
    }
}

/// ARP of the station that has `ip`, and of all others.
fn arp(operation: ArpOperation, ip: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0; 42];
    Ethernet { dst: STACK_MAC, src: TESTER_MAC, vlan_id: None, ethertype: ethernet::TYPE_ARP }
        .emit(&mut frame);
    let arp = Arp {
        operation,
        sender_mac: TESTER_MAC,
        sender_ip: ip,
        target_mac: STACK_MAC,
        target_ip: STACK_IP,
    };
    arp.emit(&mut frame[14..]);
    frame
}
