//! The engine as the stack under test: its applications are listeners, its calls are commands of
//! `barewire`, and what an application is told shows in the command's answer and in the counters.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::process::{Child, Command, Stdio};

use barewire_stack::script::{Call, Script, Told, pattern_byte};

use super::peer::Subject;
use super::{GATEWAY, Numbered, Side, app_name, engine_address};
use crate::engine::{Engine, SERVER, barewire};
use crate::lab::{End, Lab};

/// Where the first listener is.
const FIRST_PORT: u16 = 7001;

pub struct EngineSide<'a> {
    engine: Engine<'a>,
    ports: BTreeMap<String, u16>,
}

impl<'a> EngineSide<'a> {
    /// An engine with these settings, and a listener for each application of the scripts.
    pub fn start(lab: &'a Lab, settings: &[(String, String)], scripts: &[&Numbered]) -> Self {
        let mut ports = BTreeMap::new();
        for name in scripts.iter().filter_map(|numbered| app_name(&numbered.script)) {
            let next = FIRST_PORT + ports.len() as u16;
            ports.entry(name.to_owned()).or_insert(next);
        }
        let mut flags = format!("--addr {SERVER}/24 --gateway {GATEWAY} --rx-checksum verify");
        for (name, port) in &ports {
            flags += &format!(" --listen {port}={name}");
        }
        for (key, value) in settings {
            flags += &format!(" --set {key}={value}");
        }
        EngineSide { engine: Engine::start(lab, End::Server, &flags), ports }
    }

    pub fn stop(self) {
        self.engine.stop();
    }

    fn count(&self, told: Told) -> u64 {
        let name = match told {
            Told::Opened => "conns_established",
            Told::Closed => "conns_closed",
            Told::Refused => "conns_refused",
            Told::Unreachable => "conns_unreachable",
            Told::Reset => "conns_reset",
            Told::TimedOut => "conns_timed_out",
            Told::Aborted => "conns_aborted",
            Told::Readable | Told::Finished | Told::Urgent => {
                panic!("{told:?} does not show in any counter")
            }
        };
        self.engine.stats()[name]
    }
}

impl Side for EngineSide<'_> {
    fn stack(&self, script: &Script) -> SocketAddrV4 {
        engine_address(app_name(script).map_or(1, |name| self.ports[name]))
    }

    fn subject<'a>(&'a self, numbered: &Numbered, tester: SocketAddrV4) -> Box<dyn Subject + 'a> {
        let ends = [Told::Closed, Told::Reset, Told::TimedOut, Told::Aborted];
        let before = ends.into_iter().map(|told| (told, self.count(told))).collect();
        let src_port = 50_000 + numbered.idx as u16;
        Box::new(EngineSubject { side: self, tester, src_port, before, open: Open::Not, sent: 0 })
    }
}

/// A connection opened by hand.
enum Open {
    Not,
    /// The command that waits for it.
    Trying(Child),
    /// The outcome, and its name if there is one.
    Done(String, Option<String>),
}

struct EngineSubject<'a> {
    side: &'a EngineSide<'a>,
    tester: SocketAddrV4,
    src_port: u16,
    /// The counters of ends when the script began.
    before: Vec<(Told, u64)>,
    open: Open,
    /// Bytes sent by hand.
    sent: u64,
}

impl EngineSubject<'_> {
    fn connect(&mut self) {
        let mut command = Command::new(barewire());
        command
            .arg("--control")
            .arg(self.side.engine.control())
            .arg("connect")
            .arg(self.tester.to_string())
            .args(["--src-port", &self.src_port.to_string(), "--timeout", "60s"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.open = Open::Trying(command.spawn().expect("the command starts"));
    }

    /// The outcome of the open, when there is one.
    fn outcome(&mut self, waits: bool) -> Option<&str> {
        if let Open::Trying(child) = &mut self.open {
            if !waits && child.try_wait().expect("can be waited for").is_none() {
                return None;
            }
            let Open::Trying(child) = std::mem::replace(&mut self.open, Open::Not) else {
                return None;
            };
            let output = child.wait_with_output().expect("can be waited for");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let id = text(&output.stderr).split_whitespace().nth(1).map(str::to_owned);
            self.open = Open::Done(text(&output.stdout), id);
        }
        match &self.open {
            Open::Done(outcome, _) => Some(outcome),
            _ => None,
        }
    }

    fn command(&mut self, verb: &str, rest: &str) -> Result<(), String> {
        self.outcome(true);
        let Open::Done(_, Some(id)) = &self.open else { return Err("no connection".to_owned()) };
        let ended = self.side.engine.command(&format!("{verb} {id} {rest}"));
        if ended.status == 0 { Ok(()) } else { Err(ended.err) }
    }
}

impl Subject for EngineSubject<'_> {
    fn call(&mut self, call: &Call) -> Result<(), String> {
        match call {
            Call::Connect => {
                self.connect();
                Ok(())
            }
            Call::ConnectTo(addr) => {
                let line = format!("connect {addr}:7 --timeout 2s");
                let ended = self.side.engine.command(&line);
                if ended.status == 0 { Ok(()) } else { Err(ended.out + &ended.err) }
            }
            Call::Send(n) => {
                let bytes = self.sent..self.sent + u64::from(*n);
                let digits: String = bytes.map(|at| format!("{:02x}", pattern_byte(at))).collect();
                self.sent += u64::from(*n);
                self.command("send", &format!("--hex {digits}"))
            }
            Call::Close => self.command("close", ""),
            Call::Abort => self.command("abort", ""),
            Call::Read(_) | Call::Shutdown => Err("no command does that".to_owned()),
        }
    }

    fn is_told(&mut self, told: Told) -> bool {
        if let Some((_, before)) = self.before.iter().find(|(known, _)| *known == told) {
            return self.side.count(told) > *before;
        }
        let words = match told {
            Told::Opened => "connected",
            Told::Refused => "refused",
            Told::Unreachable => "unreachable",
            told => panic!("{told:?} is not told outside of the engine"),
        };
        self.outcome(false).is_some_and(|outcome| outcome.contains(words))
    }
}

impl Drop for EngineSubject<'_> {
    fn drop(&mut self) {
        if let Open::Trying(child) = &mut self.open {
            // It waits for an answer that the script does not give.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
