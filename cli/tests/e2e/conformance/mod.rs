//! The readable scripts of the stack, over a veth pair in real time: against the engine, and
//! against the kernel as a control of the scripts. A segment may come as late as a busy machine
//! makes it; a script that fails while others run beside it is played again alone, and counts then.
//!
//! - [`peer`]: the wire to the player
//! - [`engine_subject`], [`kernel_subject`]: what is asked of either stack beside segments

mod engine_subject;
mod kernel_subject;
mod peer;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;

use barewire_stack::script::{App, Script, parse, play};
use barewire_stack::wire::ethernet::Mac;

use crate::engine::{KERNEL, SERVER};
use crate::lab::{End, Lab};
use engine_subject::EngineSide;
use kernel_subject::KernelSide;
use peer::{PacketWire, Subject};

/// The next hop to the testers: the kernel of their namespace.
pub const GATEWAY: &str = "10.99.0.9";

/// Scripts played at the same time: most of their time they wait.
const PLAYERS: usize = 8;

/// How often a script may fail before it has.
const ATTEMPTS: u8 = 3;

/// A script, its name, and its number, which gives it an address.
pub struct Numbered {
    pub name: String,
    pub idx: usize,
    pub script: Script,
}

/// A stack under test.
trait Side: Sync {
    /// Where the application of the script listens.
    fn stack(&self, script: &Script) -> SocketAddrV4;

    fn subject<'a>(&'a self, numbered: &Numbered, tester: SocketAddrV4) -> Box<dyn Subject + 'a>;
}

fn scripts() -> Vec<Numbered> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/stack/tests/conformance/scripts");
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of scripts can be read")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let read = |(idx, path): (usize, std::path::PathBuf)| {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let text = fs::read_to_string(&path).expect("a script is text");
        let script = parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        Numbered { name, idx, script }
    };
    let scripts: Vec<_> = paths.into_iter().enumerate().map(read).collect();
    assert!(scripts.len() > 100, "found the scripts");
    scripts
}

/// The tester's end belongs to a kernel that routes nothing.
fn lab(server: Option<&str>) -> Lab {
    let client = format!("{GATEWAY}/24");
    let mut kernel = vec![(End::Client, client.as_str())];
    kernel.extend(server.map(|address| (End::Server, address)));
    Lab::new(&kernel)
}

fn attempt(lab: &Lab, side: &dyn Side, numbered: &Numbered, n: u8) -> Result<(), String> {
    let macs: (Mac, Mac) = (peer::link(lab, End::Server).1, peer::link(lab, End::Client).1);
    let ends = peer::ends(side.stack(&numbered.script), macs, numbered.idx, n);
    let subject = side.subject(numbered, ends.tester);
    let mut wire = PacketWire::new(lab, &ends, subject);
    play(&numbered.script, &ends, &mut wire).map_err(|failure| failure.to_string())
}

/// Plays the scripts, several at a time; then those that failed, alone. Returns the failures.
fn play_all(lab: &Lab, side: &dyn Side, scripts: &[&Numbered]) -> Vec<(String, String)> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    let locked = || -> MutexGuard<'_, Vec<_>> { failed.lock().expect("nobody panicked") };
    thread::scope(|scope| {
        for _ in 0..PLAYERS.min(scripts.len()) {
            scope.spawn(|| {
                while let Some(&numbered) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = attempt(lab, side, numbered, 0) {
                        eprintln!("once more, alone: {}.script: {failure}", numbered.name);
                        locked().push(numbered);
                    }
                }
            });
        }
    });
    let again = |numbered: &&Numbered| {
        let mut result = Ok(());
        for n in 1..ATTEMPTS {
            result = attempt(lab, side, numbered, n);
            if result.is_ok() {
                break;
            }
        }
        result.err().map(|failure| (numbered.name.clone(), failure))
    };
    locked().iter().filter_map(again).collect()
}

fn complain(failures: &[(String, String)]) {
    let texts: Vec<String> =
        failures.iter().map(|(name, failure)| format!("{name}.script: {failure}")).collect();
    assert!(texts.is_empty(), "\n{}\n", texts.join("\n"));
}

#[test]
fn the_engine_does_as_the_scripts_say() {
    let scripts = scripts();
    let mut groups: BTreeMap<&[(String, String)], Vec<&Numbered>> = BTreeMap::new();
    for numbered in scripts.iter().filter(|numbered| numbered.script.veth_skip.is_none()) {
        groups.entry(&numbered.script.settings).or_default().push(numbered);
    }
    let lab = lab(None);
    let mut failures = Vec::new();
    let mut n = 0;
    for (settings, scripts) in groups {
        let side = EngineSide::start(&lab, settings, &scripts);
        failures.extend(play_all(&lab, &side, &scripts));
        n += scripts.len();
        side.stop();
    }
    complain(&failures);
    println!("{n} scripts played against the engine");
}

#[test]
fn the_kernel_does_as_the_scripts_say() {
    let scripts = scripts();
    let lab = lab(Some(&format!("{KERNEL}/24")));
    let route = format!("ip route add 198.18.0.0/15 via {GATEWAY} dev server0");
    lab.run(End::Server, &route).expect_status(0);
    let (same, different): (Vec<_>, Vec<_>) = scripts
        .iter()
        .filter(|numbered| numbered.script.kernel_skip.is_none())
        .partition(|numbered| numbered.script.kernel_differs.is_none());
    let side = KernelSide::start(&lab, same.iter().chain(&different).copied());
    let mut failures = play_all(&lab, &side, &same);
    for numbered in &different {
        if attempt(&lab, &side, numbered, 0).is_ok() {
            let failure = "expected that the kernel does otherwise, found that it does not";
            failures.push((numbered.name.clone(), failure.to_owned()));
        }
    }
    drop(side);
    complain(&failures);
    println!("{} scripts played against the kernel, {} differ", same.len(), different.len());
}

/// The application as a listener names it.
fn app_name(script: &Script) -> Option<&str> {
    match &script.app {
        App::Hand => None,
        App::Named(name) => Some(name),
    }
}

/// An address of the laboratory.
fn address(text: &str, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(text.parse().expect("an address"), port)
}

/// The engine's address.
fn engine_address(port: u16) -> SocketAddrV4 {
    address(SERVER, port)
}
