//! The control socket listens to its owner only, and nothing that is said there disturbs an engine.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::engine::{Engine, KERNEL, SERVER, barewire};
use crate::kernel::{PATIENCE, connect, pattern};
use crate::lab::{End, Lab, await_that};

fn lab() -> Lab {
    Lab::new(&[(End::Client, &format!("{KERNEL}/24"))])
}

#[test]
fn another_user_is_not_heard() {
    let lab = lab();
    let engine = Engine::server(&lab);
    let mode = fs::metadata(engine.control()).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let copy = lab.path("barewire");
    fs::copy(barewire(), &copy).expect("copies the command");
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let control = engine.control().display();
    let status = format!("{nobody} {} --control {control} status", copy.display());
    lab.run(End::Client, &status).expect_status(3).expect_words(&["may not talk", "account"]);

    // Whoever opens the door by hand has not let anybody in.
    let open = fs::Permissions::from_mode(0o666);
    fs::set_permissions(engine.control(), open).expect("opens the socket to all");
    let ended = lab.run(End::Client, &status).expect_status(3);
    assert!(!ended.out.contains("barewired"), "another user was answered: {}", ended.out);
    engine.stop();
}

#[test]
fn garbage_does_not_disturb() {
    let lab = lab();
    let engine = Engine::server(&lab);
    let mut echo = lab.within(End::Client, || connect(&format!("{SERVER}:8080")));
    let long = vec![b'x'; 4 << 20];
    let mut silent = Vec::new();
    for garbage in [&b"\n"[..], b"{}\n", b"{\"stop\"\n", b"\xff\xfe\x00\n", b"[[[[[[[[", &long] {
        let mut stream = UnixStream::connect(engine.control()).expect("connects");
        stream.set_write_timeout(Some(Duration::from_secs(5))).expect("sets its patience");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("sets its patience");
        // It may be cut off while it talks.
        let _ = stream.write_all(garbage);
        let _ = stream.read(&mut [0; 512]);
        silent.push(stream);

        let sent = pattern(1_000, silent.len() as u64);
        echo.write_all(&sent).expect("sends");
        let mut found = vec![0; sent.len()];
        echo.read_exact(&mut found).expect("the engine goes on");
        assert!(found == sent, "the echo differs");
        engine.command("status").expect_status(0);
    }
    drop(echo);
    engine.await_stat("conns_closed", 1);
    engine.stop();
}

#[test]
fn many_clients_that_say_nothing_keep_nobody_out_for_long() {
    let lab = lab();
    let engine = Engine::server(&lab);
    let clients: Vec<Option<UnixStream>> =
        (0..200).map(|_| UnixStream::connect(engine.control()).ok()).collect();
    assert!(clients.iter().any(Option::is_some), "somebody was let in");
    drop(clients);
    // The daemon has still to notice that they left.
    await_that("the daemon has room again", PATIENCE, || engine.command("status").status == 0);
    engine.stop();
}

#[test]
fn a_command_without_a_daemon_says_so() {
    let lab = lab();
    let path = lab.path("nobody.sock");
    let line = format!("{} --control {} status", barewire(), path.display());
    let ended = lab.run(End::Client, &line);
    ended.expect_status(3).expect_words(&["nobody.sock"]);
    assert!(!Path::new(&path).exists());
}
