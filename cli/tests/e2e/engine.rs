//! A daemon under test, started by `barewire serve` in one namespace of a lab, and the command that
//! talks to it. The books of every engine are checked when it ends: an engine that is stopped must
//! end with status 0, which says that frames were conserved and counters added up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{End, Ended, Lab, Running, await_that};

/// How long an engine may take to attach, and to end.
const START_TIME_MAX: Duration = Duration::from_secs(30);
pub const STOP_TIME_MAX: Duration = Duration::from_secs(15);

/// Address of an engine in the server's namespace, and of one in the client's.
pub const SERVER: &str = "10.99.0.2";
pub const CLIENT: &str = "10.99.0.3";

/// The kernel's address on either end.
pub const KERNEL: &str = "10.99.0.1";

/// The built command. The daemon must lie beside it.
pub fn barewire() -> &'static str {
    let barewire = env!("CARGO_BIN_EXE_barewire");
    let daemon = Path::new(barewire).with_file_name("barewired");
    let fix = "cargo build -p barewire-engine --bin barewired";
    assert!(daemon.is_file(), "expected {}, found nothing: {fix}", daemon.display());
    barewire
}

/// A daemon that is ready.
#[derive(Debug)]
pub struct Engine<'a> {
    /// It must not outlive the namespace it runs in.
    _lab: &'a Lab,
    pub running: Running,
    control: PathBuf,
}

impl<'a> Engine<'a> {
    /// Starts a daemon with these flags, beside `--dev` and `--control`.
    pub fn start(lab: &'a Lab, end: End, flags: &str) -> Engine<'a> {
        let control = lab.path(&format!("{}.sock", end.name()));
        let line = serve_line(end, &control, flags);
        let running = lab.start(end, &line, &format!("{}.log", end.name()));
        let mut engine = Engine { _lab: lab, running, control };
        await_that("the engine is ready", START_TIME_MAX, || {
            let ended = engine.running.child.try_wait().expect("can be waited for");
            assert!(ended.is_none(), "the engine did not start:\n{}", engine.running.log());
            engine.command("status").status == 0
        });
        engine
    }

    /// An engine in the server's namespace with one address and every application.
    pub fn server(lab: &'a Lab) -> Engine<'a> {
        Engine::server_with(lab, "")
    }

    /// The same with more flags.
    pub fn server_with(lab: &'a Lab, flags: &str) -> Engine<'a> {
        let listeners = [
            "8080=echo",
            "8081=discard",
            "8082=burst:60000",
            "8083=close-after:1",
            "8084=never-read",
            "8085=close-unread:300ms",
            "8086=small-writes:10x10",
            "80=http",
        ];
        let listeners: String = listeners.iter().map(|app| format!(" --listen {app}")).collect();
        Engine::start(lab, End::Server, &format!("--addr {SERVER}/24{listeners} {flags}"))
    }

    pub fn control(&self) -> &Path {
        &self.control
    }

    /// Runs a command of `barewire` against this engine.
    pub fn command(&self, line: &str) -> Ended {
        let mut command = Command::new(barewire());
        Ended::of(command.arg("--control").arg(&self.control).args(line.split_whitespace()))
    }

    /// Opens a connection by hand, and returns its handle and the line that names it.
    pub fn connect(&self, line: &str) -> (String, String) {
        let Ended { out, err, .. } = self.command(&format!("connect {line}")).expect_status(0);
        assert_eq!(out, "connected\n");
        let id = err.split_whitespace().nth(1).expect("the connection's handle").to_owned();
        (id, err)
    }

    fn json(&self, line: &str) -> Value {
        let ended = self.command(line).expect_status(0);
        serde_json::from_str(&ended.out)
            .unwrap_or_else(|error| panic!("{line}: {error}\n{}", ended.out))
    }

    pub fn status(&self) -> Value {
        self.json("status --json")
    }

    pub fn stats(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.json("stats --json")).expect("counters are numbers")
    }

    pub fn conns(&self) -> Vec<Value> {
        serde_json::from_value(self.json("conns --json")).expect("connections are a list")
    }

    /// Waits until a counter has this value.
    pub fn await_stat(&self, name: &str, value: u64) {
        await_that(&format!("{name} is {value}"), Duration::from_secs(10), || {
            self.stats().get(name) == Some(&value)
        });
    }

    /// Ends it by the command; its books must be right.
    pub fn stop(mut self) {
        self.command("stop").expect_status(0);
        assert_eq!(self.running.wait(STOP_TIME_MAX), 0, "{}", self.running.log());
        assert!(!self.control.exists(), "the control socket is gone");
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        // The counters tell most about a failure.
        if thread::panicking() && matches!(self.running.child.try_wait(), Ok(None)) {
            eprintln!("{}", self.command("stats").out);
        }
    }
}

/// The command line of a daemon on this end.
pub fn serve_line(end: End, control: &Path, flags: &str) -> String {
    let (barewire, control, dev) = (barewire(), control.display(), end.dev());
    format!("{barewire} --control {control} serve --dev {dev} {flags}")
}

/// Tries to start a daemon that must refuse.
pub fn refused(lab: &Lab, end: End, flags: &str) -> Ended {
    let line = serve_line(end, &lab.path("refused.sock"), flags);
    // One that starts after all must not go on for ever.
    lab.run(end, &format!("timeout -s KILL 20 {line}"))
}

/// Runs a load test with an engine of its own on this end, with the report as JSON.
pub fn load(lab: &Lab, end: End, line: &str) -> (Ended, Value) {
    let report = lab.path("load.json");
    let (barewire, dev, path) = (barewire(), end.dev(), report.display());
    let ended = lab.run(end, &format!("{barewire} load {line} --dev {dev} --json {path}"));
    let text = std::fs::read_to_string(&report).unwrap_or_else(|_| panic!("no report: {ended:?}"));
    (ended, serde_json::from_str(&text).expect("a report is JSON"))
}
