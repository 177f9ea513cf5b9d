//! Every byte arrives over a path that loses, doubles, damages, delays and reorders, in both directions
//! and both roles. The engine impairs its own frames (`barewire impair`), so that the other side is
//! the kernel's TCP as it is: what the engine sends is lost for the kernel's receiver, what it
//! receives is lost for the kernel's sender.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use serde_json::Value;

use crate::engine::{CLIENT, Engine, KERNEL, SERVER, load};
use crate::kernel::{Echo, connect, nstat, pattern};
use crate::lab::{End, Lab, within_a_second};
use crate::server_role::body;

/// Faults without damage, which needs an engine that verifies.
const FAULTS: &str = "--loss 2% --duplicate 1% --reorder 2% --delay 2ms --jitter 500us --seed 7";

fn lab() -> Lab {
    Lab::new(&[(End::Client, &format!("{KERNEL}/24"))])
}

fn server(lab: &Lab) -> Engine<'_> {
    Engine::server_with(lab, "--rx-checksum verify")
}

/// Sets faults, and sees them shown.
fn impair(engine: &Engine<'_>, faults: &str) {
    let set = engine.command(&format!("impair {faults}")).expect_status(0).out;
    assert!(set.starts_with("impaired: ") && set.contains("seed 7"), "{set}");
    let status = engine.command("status").expect_status(0).out;
    assert!(status.contains("* IMPAIRED"), "{status}");
}

/// Ends the faults, and the engine; its books must balance.
fn finish(engine: Engine<'_>) {
    assert_eq!(engine.command("impair off").expect_status(0).out, "impaired: none\n");
    engine.stop();
}

/// These counters rose, or do when the engine's page is written the next time: what the test is about
/// did happen.
#[track_caller]
fn expect_raised(engine: &Engine<'_>, names: &[&str]) {
    within_a_second(&format!("all of {names:?} rise"), || {
        let stats = engine.stats();
        names.iter().all(|&name| stats[name] > 0)
    });
    let stats = engine.stats();
    assert_eq!((stats["impair_tx_full"], stats["impair_rx_full"]), (0, 0), "frames were too few");
}

/// Sends bytes to the engine's echo and expects them back.
fn expect_echo(lab: &Lab, len: usize, seed: u64) {
    let mut stream = lab.within(End::Client, || connect(&format!("{SERVER}:8080")));
    let sent = pattern(len, seed);
    let mut found = Vec::new();
    thread::scope(|scope| {
        let mut sender = stream.try_clone().expect("a second handle");
        let sent = &sent;
        scope.spawn(move || {
            sender.write_all(sent).expect("sends");
            sender.shutdown(Shutdown::Write).expect("finishes");
        });
        stream.read_to_end(&mut found).expect("receives to the end");
    });
    assert!(found == sent, "expected {len} bytes back, found {}", found.len());
}

#[test]
fn the_kernel_gets_every_byte_that_the_engine_sends() {
    let lab = lab();
    let engine = server(&lab);
    impair(&engine, FAULTS);
    let file = lab.path("body");
    let curl = format!("curl -sS --fail --max-time 60 -o {}", file.display());
    for len in [1, 100_000, 4 << 20] {
        lab.run(End::Client, &format!("{curl} http://{SERVER}/bytes/{len}")).expect_status(0);
        let found = fs::read(&file).expect("curl wrote the body");
        assert!(found == body(len), "the body of {len} bytes is not what was promised");
    }
    let faults =
        ["impair_tx_lost", "impair_tx_duplicated", "impair_tx_reordered", "impair_tx_delayed"];
    expect_raised(&engine, &faults);
    expect_raised(&engine, &["tcp_retransmitted"]);
    assert_eq!(engine.stats()["impair_rx_lost"], 0, "the other direction was left alone");
    finish(engine);
}

#[test]
fn the_engine_gets_every_byte_that_the_kernel_sends() {
    let lab = lab();
    let engine = server(&lab);
    impair(&engine, &format!("--direction rx {FAULTS}"));
    expect_echo(&lab, 2 << 20, 1);
    let faults =
        ["impair_rx_lost", "impair_rx_duplicated", "impair_rx_reordered", "impair_rx_delayed"];
    expect_raised(&engine, &faults);
    expect_raised(&engine, &["tcp_out_of_order", "tcp_duplicate"]);
    assert!(nstat(&lab, End::Client)["TcpRetransSegs"] > 0, "the kernel sent again");
    assert_eq!(engine.stats()["impair_tx_lost"], 0, "the other direction was left alone");
    finish(engine);
}

#[test]
fn both_get_every_byte_through_loss_and_damage_in_both_directions() {
    let lab = lab();
    let engine = server(&lab);
    impair(&engine, &format!("--direction both --corrupt 1% {FAULTS}"));
    expect_echo(&lab, 1 << 20, 2);
    // Damage in a header of IP is no segment any more.
    expect_raised(&engine, &["impair_tx_corrupted", "impair_rx_corrupted", "drop_tcp_checksum"]);
    let found = nstat(&lab, End::Client)["TcpInCsumErrors"];
    assert!(found > 0, "the kernel found damage");
    // The engine's page is a moment behind.
    within_a_second("no more was found than was done", || {
        found <= engine.stats()["impair_tx_corrupted"]
    });
    finish(engine);
}

#[test]
fn many_connections_at_once_get_every_byte() {
    let lab = lab();
    let engine = server(&lab);
    impair(&engine, &format!("--direction both {FAULTS}"));
    let line = "curl -sS --fail --max-time 60 --parallel --parallel-max 50 -o /dev/null -w %{size_download}\\n";
    let ended = lab.run(End::Client, &format!("{line} http://{SERVER}/bytes/[20000-20099]"));
    let mut sizes: Vec<u32> = ended
        .expect_status(0)
        .out
        .lines()
        .map(|line| line.parse().expect("curl prints a size"))
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, (20_000..=20_099).collect::<Vec<u32>>());
    finish(engine);
}

#[test]
fn a_client_gets_every_answer_and_its_report_says_how() {
    let lab = Lab::new(&[(End::Server, &format!("{KERNEL}/24"))]);
    let echo = Echo::start(&lab, End::Server, &format!("{KERNEL}:7000"), 8);
    let faults = "{loss='2%',duplicate='1%',reorder='2%',delay='2ms',corrupt='0.5%'}";
    let line = format!(
        "hold --addr {CLIENT}/24 --dst {KERNEL}:7000 --connections 8 --duration 100ms --exchanges 2 \
         --request-bytes 100000 --rx-checksum verify --set impair.seed=7 --set impair.tx={faults} \
         --set impair.rx={faults}"
    );
    let (ended, report) = load(&lab, End::Client, &line);
    let out = ended.expect_status(0).out;
    assert_eq!((&report["failed"], &report["closed"]), (&0.into(), &8.into()), "{report:#}");
    assert_eq!(report["bytes_sent"], 1_600_000);
    assert_eq!(report["bytes_received"], 1_600_000);
    let told = "* impaired: the engine spoilt its own frames (tx loss 2%, duplicate 1%";
    assert!(out.contains(told), "expected `{told}` in\n{out}");
    for way in ["tx", "rx"] {
        assert_eq!(report["impairments"][way]["impairment"]["loss"], "2%", "{report:#}");
        assert_eq!(report["impairments"][way]["seed"], 7);
    }
    assert!(nstat(&lab, End::Server)["TcpRetransSegs"] > 0, "the kernel sent again");
    drop(echo);
}

#[test]
fn two_engines_get_every_byte_from_each_other() {
    let lab = Lab::new(&[]);
    let engine = server(&lab);
    impair(&engine, &format!("--direction both --corrupt 0.5% {FAULTS}"));
    let line = format!(
        "hold --addr {CLIENT}/24 --rx-checksum verify --dst {SERVER}:8080 --connections 16 \
         --duration 100ms --exchanges 2 --request-bytes 50000"
    );
    let (ended, report) = load(&lab, End::Client, &line);
    ended.expect_status(0);
    assert_eq!((&report["failed"], &report["closed"]), (&0.into(), &16.into()), "{report:#}");
    assert_eq!(report["bytes_received"], 1_600_000);
    expect_raised(&engine, &["impair_tx_lost", "impair_rx_lost", "tcp_retransmitted"]);
    finish(engine);
}

#[test]
fn a_line_is_as_fast_as_it_is_told() {
    let lab = lab();
    let engine = server(&lab);
    // 33 full frames wait at most: less than the window, so that the line's end is felt.
    impair(&engine, "--rate 20mbit --backlog 20ms --seed 7");
    let curl = "curl -sS --fail --max-time 60 -o /dev/null -w %{speed_download}";
    let ended = lab.run(End::Client, &format!("{curl} http://{SERVER}/bytes/4194304"));
    let found: f64 = ended.expect_status(0).out.parse().expect("curl prints a speed");
    // Headers take 4 % of 2.5 MB/s; below the half of it something waits that need not.
    assert!((1.2e6..2.5e6).contains(&found), "{found} bytes per second");
    expect_raised(&engine, &["impair_tx_overflow", "impair_tx_delayed"]);
    finish(engine);
}

#[test]
fn a_report_without_faults_does_not_speak_of_any() {
    let lab = Lab::new(&[(End::Server, &format!("{KERNEL}/24"))]);
    let echo = Echo::start(&lab, End::Server, &format!("{KERNEL}:7000"), 2);
    let line = format!("hold --addr {CLIENT}/24 --dst {KERNEL}:7000 --connections 2 --duration 0");
    let (ended, report) = load(&lab, End::Client, &line);
    let out = ended.expect_status(0).out;
    assert!(!out.contains("impaired"), "{out}");
    assert_eq!(report.get("impairments"), None::<&Value>);
    drop(echo);
}
