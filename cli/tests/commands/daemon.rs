//! How the command starts `barewired`, and that it never leaves one behind. A shell script beside a
//! copy of the command plays the daemon's process.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use barewire_api::control::{Request, Response};

use crate::fake::{self, Dir};
use crate::load::{load_daemon_within, report};

/// A copy of the command in `dir`, beside a `barewired` that does `script`.
fn install(dir: &Dir, script: &str) -> PathBuf {
    let _writing = fake::PROGRAMS.lock().expect("no test panics while it holds this");
    let command = dir.join("barewire");
    std::fs::copy(env!("CARGO_BIN_EXE_barewire"), &command).expect("copies the command");
    let daemon = dir.join("barewired");
    std::fs::write(&daemon, format!("#!/bin/sh\ncd {}\necho $$ > pid\n{script}\n", dir.path()))
        .expect("writes");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&daemon, executable).expect("makes it executable");
    command
}

const LOAD: [&str; 5] = ["load", "hold", "--dev=d0", "--addr=10.99.0.3/24", "--dst=10.99.0.2:7000"];

fn await_file(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} did not come", path.display());
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn serve_becomes_the_daemon() {
    let dir = Dir::new();
    let command = install(&dir, "echo \"$@\" $PPID; cat; exit 7");
    let line = ["serve", "--dev=d0", "--addr=10.99.0.2/24", "--listen=80=http"];
    let ended = fake::end(fake::spawn(&command, &line));
    let (first, config) = ended.out.split_once('\n').expect("prints its line and configuration");
    // The process that started the command is the parent of the daemon: there is none in between.
    assert_eq!(first, format!("--config - {}", std::process::id()));
    let config = barewire_api::Config::parse(config).expect("reads a configuration");
    assert_eq!(config.interface.dev, "d0");
    assert_eq!(ended.status, 7);
}

#[test]
fn a_daemon_that_does_not_start_is_reported() {
    for (script, status, part) in [
        ("echo barewired: no >&2; exit 2", 2, "barewired refused its configuration, see above"),
        ("exit 3", 3, "barewired ended with exit status: 3, see above"),
    ] {
        let dir = Dir::new();
        let ended = fake::end(fake::spawn(&install(&dir, script), &LOAD));
        assert_eq!(ended.status, status, "{}", ended.err);
        assert!(ended.err.contains(part), "{}", ended.err);
    }
}

#[test]
fn a_missing_daemon_is_reported() {
    let dir = Dir::new();
    let command = install(&dir, "");
    std::fs::remove_file(dir.join("barewired")).expect("removes it");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).any(|dir| dir.join("barewired").exists());
    assert!(!installed, "this test needs a PATH without barewired");
    let ended = fake::end(fake::spawn(&command, &LOAD));
    assert!(ended.err.contains("found no barewired beside this program"), "{}", ended.err);
    assert_eq!(ended.status, 3);
}

#[test]
fn a_load_test_starts_its_daemon_and_stops_it() {
    let dir = Dir::new();
    let script = "cp $2 config; cat > /dev/null & while [ ! -e stop ]; do sleep 0.02; done";
    let command = install(&dir, script);
    let (stop, config) = (dir.join("stop"), dir.join("config"));
    let daemon = load_daemon_within(dir, report(0), move |request| {
        assert_eq!(request, Request::Stop);
        std::fs::write(&stop, "").expect("makes a file");
        Response::Done
    });
    let line = [&LOAD[..], &["--src=10.1.0.0/24", "--control", daemon.path()]].concat();
    let ended = fake::end(fake::spawn(&command, &line));
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert!(ended.out.contains("10 opened = 10 closed"), "{}", ended.out);
    let config = std::fs::read_to_string(config).expect("the daemon got a configuration");
    let config = barewire_api::Config::parse(&config).expect("a good one");
    assert_eq!(config.interface.prefixes, ["10.1.0.0/24".parse().expect("a prefix")]);
    assert_eq!(config.load, None, "the test is started over the socket");
}

#[test]
fn a_daemon_that_ends_badly_spoils_a_good_report() {
    let dir = Dir::new();
    let script = "cat > /dev/null & while [ ! -e stop ]; do sleep 0.02; done; exit 3";
    let command = install(&dir, script);
    let stop = dir.join("stop");
    let daemon = load_daemon_within(dir, report(0), move |_| {
        std::fs::write(&stop, "").expect("makes a file");
        Response::Done
    });
    let line = [&LOAD[..], &["--control", daemon.path()]].concat();
    let ended = fake::end(fake::spawn(&command, &line));
    assert!(ended.out.contains("10 opened = 10 closed"), "{}", ended.out);
    assert!(ended.err.contains("barewired ended with exit status: 3"), "{}", ended.err);
    assert_eq!(ended.status, 3);
}

/// Another daemon holds the socket and answers there; ours finds it taken and ends.
#[test]
fn a_test_never_runs_on_the_wrong_daemon() {
    let dir = Dir::new();
    let command = install(&dir, "sleep 0.2; exit 3");
    let other = fake::Daemon::new(|request| panic!("the other daemon got {request:?}"));
    let line = [&LOAD[..], &["--control", other.path()]].concat();
    let ended = fake::end(fake::spawn(&command, &line));
    assert!(ended.err.contains("barewired ended with exit status: 3"), "{}", ended.err);
    assert_eq!(ended.status, 3);
}

/// The command is killed outright; the end of the pipe tells the daemon.
#[test]
fn a_killed_command_takes_its_daemon_along() {
    let dir = Dir::new();
    let command = install(&dir, "touch started; cat > /dev/null; touch ended");
    let mut child = fake::spawn(&command, &LOAD);
    await_file(&dir.join("started"));
    child.kill().expect("kills it");
    child.wait().expect("it ends");
    await_file(&dir.join("ended"));
    // The killed command could not remove its directory.
    let left = std::env::temp_dir().join(format!("barewire-{}-0", child.id()));
    std::fs::remove_dir_all(left).expect("its configuration is there");
}
