//! Plays a script: does what each statement says, in order, until one of them is not met. Time and
//! frames come from a [`Wire`]; what every segment of the stack under test must be like is in
//! `check`.

use super::flow::Flow;
use super::segment::{Segment, counted_from};
use super::statement::{
    Action, App, Bounds, Call, Comparison, Field, FlagPattern, Icmp, Number, Pattern, Script,
    Shape, Step, Term, Told, Value,
};
use super::trace::Trace;
use super::{check, frame};
use crate::time::{Duration, Instant};
use crate::wire::ethernet::{self, Ethernet, Mac};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::tcp::{ChecksumPolicy, Flags, Tcp};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddrV4;

/// How long an application may take to answer a probe of its life.
const ALIVE: Duration = Duration::from_secs(1);

/// What lies between the player and the stack under test.
pub trait Wire {
    /// The time.
    fn now(&self) -> Instant;

    /// Hands a frame to the stack under test.
    fn send(&mut self, frame: Vec<u8>);

    /// The next frame of the stack under test, and when it came; `None` when none comes until
    /// `deadline`, which is now the time.
    fn receive(&mut self, deadline: Instant) -> Option<(Instant, Vec<u8>)>;

    /// Makes the application act; an error says why it cannot.
    fn call(&mut self, call: &Call) -> Result<(), String>;

    /// True when the application has been told this, or is until `deadline`.
    fn is_told(&mut self, told: Told, deadline: Instant) -> bool;

    /// How far from the times of the script something may come: nothing in virtual time.
    fn slack(&self) -> Duration;
}

/// Who talks to whom.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The stack under test.
    pub stack_mac: Mac,
    /// Its address, and the port where its application listens.
    pub stack: SocketAddrV4,
    /// The tester.
    pub tester_mac: Mac,
    /// Its address and first port.
    pub tester: SocketAddrV4,
    /// Its initial sequence number.
    pub iss: u32,
}

/// Which statement was not met.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its line.
    pub line: usize,
    /// The statement, and what was found instead.
    pub message: String,
    /// What happened before.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}\n{}", self.line, self.message, self.trace)
    }
}

impl std::error::Error for Failure {}

/// Plays `script` over `wire`.
pub fn play(script: &Script, ends: &Ends, wire: &mut dyn Wire) -> Result<(), Failure> {
    let now = wire.now();
    let first = Flow::new(ends.tester, ends.stack, ends.iss);
    let mut player = Player {
        wire,
        ends,
        app: &script.app,
        flows: BTreeMap::from([(ends.tester.port(), first)]),
        names: vec![String::new()],
        current: ends.tester.port(),
        mark: now,
        trace: Trace::new(now),
    };
    player.steps(&script.steps)
}

struct Player<'a> {
    wire: &'a mut dyn Wire,
    ends: &'a Ends,
    app: &'a App,
    /// By T's port.
    flows: BTreeMap<u16, Flow>,
    /// The names of the flows; their ports follow each other.
    names: Vec<String>,
    current: u16,
    /// When the last thing happened that the script says.
    mark: Instant,
    trace: Trace,
}

/// What came until a deadline.
enum Came {
    Segment(Segment),
    /// A segment for no connection of the script.
    Stray(String),
}

impl Player<'_> {
    fn steps(&mut self, steps: &[Step]) -> Result<(), Failure> {
        for step in steps {
            if let Action::Repeat(n, inner) = &step.action {
                for _ in 0..*n {
                    self.steps(inner)?;
                }
                continue;
            }
            self.trace.note(self.wire.now(), &format!("{}: {}", step.line, step.text));
            self.step(&step.action).map_err(|found| Failure {
                line: step.line,
                message: format!("expected `{}`, found {found}", step.text),
                trace: self.trace.to_string(),
            })?;
        }
        Ok(())
    }

    fn step(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Open(syn) => self.open(syn),
            Action::Send(shape) => {
                self.send(shape);
                Ok(())
            }
            Action::Expect(pattern, bounds) => self.expect(pattern, *bounds).map(|_| ()),
            Action::Never(pattern, time) => self.never(pattern, *time),
            Action::Silent(time) => self.silent(*time),
            Action::Wait(time) => self.wait(*time),
            Action::Receive(n, time) => self.receive(*n, *time),
            Action::Received(number) => match self.flow().rcv_nxt {
                found if found >= *number => Ok(()),
                found => Err(format!("that everything up to {found} came")),
            },
            Action::Alive => self.alive(),
            Action::Gone => self.gone(),
            Action::Icmp(icmp) => {
                self.icmp(icmp);
                Ok(())
            }
            Action::Call(call, true) => self.wire.call(call),
            Action::Call(call, false) => match self.wire.call(call) {
                Ok(()) => Err("that it succeeds".to_owned()),
                Err(_) => Ok(()),
            },
            Action::Told(told, time) => {
                let deadline = self.deadline(*time);
                let is_told = self.wire.is_told(*told, deadline);
                is_told.then_some(()).ok_or_else(|| "that it is not told".to_owned())
            }
            Action::Untold(told, time) => {
                let deadline = self.wire.now() + *time;
                let is_told = self.wire.is_told(*told, deadline);
                (!is_told).then_some(()).ok_or_else(|| "that it is told".to_owned())
            }
            Action::Flow(name) => {
                self.choose(name);
                Ok(())
            }
            Action::Flood(n, shape) => {
                self.flood(*n, shape);
                Ok(())
            }
            Action::Isn(further) => {
                self.flow_mut().begin_anew(*further);
                Ok(())
            }
            Action::Repeat(_, steps) => self.steps(steps).map_err(|failure| failure.message),
        }
    }

    fn flow(&self) -> &Flow {
        &self.flows[&self.current]
    }

    fn flow_mut(&mut self) -> &mut Flow {
        self.flows.get_mut(&self.current).expect("the current flow exists")
    }

    fn choose(&mut self, name: &str) {
        let known = self.names.iter().position(|other| other == name);
        let idx = known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        self.current = self.ends.tester.port().wrapping_add(idx as u16);
        let tester = SocketAddrV4::new(*self.ends.tester.ip(), self.current);
        // Each connection has numbers of its own.
        let iss = self.ends.iss.wrapping_add((idx as u32).wrapping_mul(0x0123_4567));
        let (stack, current) = (self.ends.stack, self.current);
        self.flows.entry(current).or_insert_with(|| Flow::new(tester, stack, iss));
    }

    fn deadline(&self, time: Duration) -> Instant {
        self.wire.now() + time + self.wire.slack()
    }

    fn send(&mut self, shape: &Shape) {
        let (seq, plain) = self.flow().resolve(shape, self.ends);
        let segment = frame::segment(&plain, &shape.damage);
        self.flow_mut().on_sent(shape, seq, &plain, &segment);
        self.mark = self.wire.now();
        let text =
            format!("  > {:?} seq={seq} len={} win={}", plain.flags, shape.len, plain.window);
        self.trace.note(self.mark, &text);
        self.wire.send(frame::frame(self.ends, &plain, &segment, &shape.damage));
    }

    fn send_bare(&mut self, flags: Flags, len: u32) {
        self.send(&Shape { flags, len, ..Shape::default() });
    }

    fn flood(&mut self, n: u32, shape: &Shape) {
        /// Below the ports of the flows.
        const FIRST_PORT: u16 = 1024;
        for idx in 0..n {
            let port = FIRST_PORT + (idx % u32::from(u16::MAX / 2)) as u16;
            let shape = Shape { port: Some(port), ..shape.clone() };
            let (_, plain) = self.flow().resolve(&shape, self.ends);
            let segment = frame::segment(&plain, &shape.damage);
            self.wire.send(frame::frame(self.ends, &plain, &segment, &shape.damage));
        }
    }

    fn icmp(&mut self, icmp: &Icmp) {
        let flow = self.flow();
        let quoted = flow.irs.wrapping_add(icmp.quote as u32);
        let frame = frame::icmp_error(self.ends, icmp, flow.tester, flow.stack, quoted);
        self.mark = self.wire.now();
        self.wire.send(frame);
    }

    /// What comes next until `deadline`.
    fn next(&mut self, deadline: Instant) -> Result<Option<Came>, String> {
        if let Some(segment) = self.flow_mut().backlog.pop_front() {
            return self.take_up(segment).map(|segment| Some(Came::Segment(segment)));
        }
        while let Some((at, bytes)) = self.wire.receive(deadline) {
            let Some((port, came, raw)) = self.read(at, &bytes)? else { continue };
            let segment = match came {
                Came::Segment(segment) => segment,
                stray @ Came::Stray(_) => return Ok(Some(stray)),
            };
            let flow = &self.flows[&port];
            if let Some(complaint) = check::complaint(flow, self.app, &segment, &raw) {
                return Err(format!("`{segment}`, which cannot be: {complaint}"));
            }
            if port == self.current {
                return self.take_up(segment).map(|segment| Some(Came::Segment(segment)));
            }
            if let Some(flow) = self.flows.get_mut(&port) {
                flow.backlog.push_back(segment);
            }
        }
        Ok(None)
    }

    fn take_up(&mut self, segment: Segment) -> Result<Segment, String> {
        self.flow_mut().on_received(&segment);
        Ok(segment)
    }

    /// Reads a frame: T's port, the segment, and its bytes from the TCP header on. Frames of other
    /// protocols are nothing to a script.
    fn read(&mut self, at: Instant, bytes: &[u8]) -> Result<Option<(u16, Came, Vec<u8>)>, String> {
        let (ether, start) = Ethernet::parse(bytes).map_err(|error| format!("a frame: {error}"))?;
        if ether.ethertype != ethernet::TYPE_IPV4 {
            return Ok(None);
        }
        let packet = &bytes[start..];
        let (ip, range) = Ipv4::parse(packet).map_err(|error| format!("a packet: {error}"))?;
        if ip.protocol != ipv4::PROTOCOL_TCP {
            return Ok(None);
        }
        if packet[range.end..].iter().any(|&byte| byte != 0) {
            return Err("a frame whose padding is not zero".to_owned());
        }
        let raw = packet[range].to_vec();
        let parsed = Tcp::parse(&raw, ip.src, ip.dst, ChecksumPolicy::Verify)
            .map_err(|error| format!("a segment: {error}"))?;
        let tcp = parsed.tcp;
        let port = tcp.dst_port;
        let is_ours = ip.dst == *self.ends.tester.ip();
        let Some(flow) = self.flows.get_mut(&port).filter(|_| is_ours) else {
            let text = format!("  < stray {:?} to {}:{port}", tcp.flags, ip.dst);
            self.trace.note(at, &text);
            return Ok(Some((port, Came::Stray(text), raw)));
        };
        if tcp.flags.contains(Flags::SYN) {
            flow.on_syn(SocketAddrV4::new(ip.src, tcp.src_port), &tcp);
        }
        let from_tester = |number| counted_from(flow.iss, number);
        let segment = Segment {
            at,
            ip,
            tcp,
            seq: counted_from(flow.irs, tcp.seq),
            ack: from_tester(tcp.ack),
            payload: raw[parsed.payload_offset..].to_vec(),
            sack: tcp.options.sack.iter().map(|(l, r)| (from_tester(l), from_tester(r))).collect(),
        };
        self.trace.note(at, &format!("  < {segment}"));
        Ok(Some((port, Came::Segment(segment), raw)))
    }

    fn expect(&mut self, pattern: &Pattern, bounds: Bounds) -> Result<Segment, String> {
        let deadline = self.deadline(bounds.within);
        let mut n_passed = 0;
        while let Some(came) = self.next(deadline)? {
            let Came::Segment(segment) = came else { continue };
            if !segment.matches(pattern, self.flow().snd_nxt) {
                n_passed += 1;
                continue;
            }
            let waited = segment.at.since(self.mark);
            if waited + self.wire.slack() < bounds.after {
                return Err(format!("it after {waited:?} already"));
            }
            self.mark = segment.at;
            return Ok(segment);
        }
        Err(format!("none of that kind ({n_passed} others passed by)"))
    }

    fn never(&mut self, pattern: &Pattern, time: Duration) -> Result<(), String> {
        let deadline = self.wire.now() + time;
        while let Some(came) = self.next(deadline)? {
            if let Came::Segment(segment) = came
                && segment.matches(pattern, self.flow().snd_nxt)
            {
                return Err(format!("`{segment}`"));
            }
        }
        self.mark = self.wire.now();
        Ok(())
    }

    fn silent(&mut self, time: Duration) -> Result<(), String> {
        let deadline = self.wire.now() + time;
        match self.next(deadline)? {
            Some(Came::Segment(segment)) => Err(format!("`{segment}`")),
            Some(Came::Stray(text)) => Err(text),
            None => {
                self.mark = self.wire.now();
                Ok(())
            }
        }
    }

    fn wait(&mut self, time: Duration) -> Result<(), String> {
        let deadline = self.wire.now() + time;
        while self.next(deadline)?.is_some() {}
        self.mark = self.wire.now();
        Ok(())
    }

    /// SYN, SYN|ACK, ACK.
    fn open(&mut self, syn: &Shape) -> Result<(), String> {
        self.send(syn);
        let flags = FlagPattern::Exactly(Flags::SYN | Flags::ACK);
        let terms = vec![Term::Compare(Field::Ack, Comparison::Is, Value::Number(1))];
        let bounds = Bounds { after: Duration::ZERO, within: Duration::from_secs(1) };
        self.expect(&Pattern { flags, push: None, terms }, bounds)?;
        self.send_bare(Flags::ACK, 0);
        Ok(())
    }

    fn receive(&mut self, number: Number, time: Duration) -> Result<(), String> {
        let deadline = self.deadline(time);
        let begun = self.flow().rcv_nxt;
        let end = match number {
            Number::At(end) => end,
            Number::Further(n) => begun + n,
        };
        while self.flow().rcv_nxt < end {
            match self.next(deadline)? {
                Some(Came::Segment(segment)) if segment.span() > 0 => self.send_bare(Flags::ACK, 0),
                Some(_) => {}
                None => return Err(format!("{} bytes", self.flow().rcv_nxt - begun)),
            }
        }
        Ok(())
    }

    /// A byte of data is acknowledged, and comes back from an echo.
    fn alive(&mut self) -> Result<(), String> {
        self.send_bare(Flags::ACK | Flags::PSH, 1);
        let (acked, received) = (self.flow().snd_nxt, self.flow().rcv_nxt);
        let deadline = self.deadline(ALIVE);
        let mut is_acked = false;
        let is_echoed = |flow: &Flow| !self.app.echoes() || flow.rcv_nxt > received;
        while !is_acked || !is_echoed(&self.flows[&self.current]) {
            match self.next(deadline)? {
                Some(Came::Segment(segment)) => {
                    if segment.tcp.flags.contains(Flags::RST) {
                        return Err("a RST".to_owned());
                    }
                    is_acked |= segment.ack >= acked;
                }
                Some(Came::Stray(_)) => {}
                None => return Err("no answer to a byte".to_owned()),
            }
        }
        if self.flow().rcv_nxt > received {
            self.send_bare(Flags::ACK, 0);
        }
        Ok(())
    }

    /// An ACK is answered with RST: nobody knows of the connection.
    fn gone(&mut self) -> Result<(), String> {
        self.send_bare(Flags::ACK, 0);
        let seq = self.flow().rcv_nxt;
        let flags = FlagPattern::Exactly(Flags::RST);
        let terms = vec![Term::Compare(Field::Seq, Comparison::Is, Value::Number(seq))];
        let bounds = Bounds { after: Duration::ZERO, within: Duration::from_millis(500) };
        self.expect(&Pattern { flags, push: None, terms }, bounds).map(|_| ())
    }
}
