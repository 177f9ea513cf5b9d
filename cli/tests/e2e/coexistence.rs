//! The engine takes what is its own and nothing else: the kernel's address, services and datagrams on
//! the same interface go on as before.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::engine::{Engine, KERNEL, SERVER};
use crate::kernel::{Echo, connect, echoed_datagrams, expect_content, pattern};
use crate::lab::{End, Lab};

/// The kernel's own address on the engine's interface.
const BESIDE: &str = "10.99.0.9";

/// A peer on the client's end, and a kernel with an address of its own on the engine's.
fn lab() -> Lab {
    Lab::new(&[(End::Client, &format!("{KERNEL}/24")), (End::Server, &format!("{BESIDE}/24"))])
}

/// Sends through an echo service and compares.
fn expect_echo(lab: &Lab, addr: &str, seed: u64) {
    lab.within(End::Client, || {
        let mut stream = connect(addr);
        let sent = pattern(50_000, seed);
        stream.write_all(&sent).expect("sends");
        stream.shutdown(Shutdown::Write).expect("finishes");
        let mut found = Vec::new();
        stream.read_to_end(&mut found).expect("receives");
        assert!(found == sent, "{addr}: the echo differs");
    });
}

#[test]
fn the_kernels_address_keeps_answering_beside_a_busy_engine() {
    let lab = lab();
    let service = Echo::start(&lab, End::Server, &format!("{BESIDE}:2222"), 1);
    let engine = Engine::server(&lab);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // The engine is kept busy meanwhile.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                expect_echo(&lab, &format!("{SERVER}:8080"), 1);
            }
        });
        let pings = (0..10).filter(|_| lab.pings(End::Client, BESIDE)).count();
        let datagrams =
            echoed_datagrams(&lab, End::Server, &format!("{BESIDE}:5353"), End::Client, 50);
        for seed in 0..10 {
            expect_echo(&lab, &format!("{BESIDE}:2222"), seed);
        }
        is_over.store(true, Ordering::Relaxed);
        assert_eq!((pings, datagrams), (10, 50));
    });
    assert!(lab.pings(End::Client, SERVER), "the engine answers for its own address");
    expect_content(&lab, End::Client);
    engine.stop();
    drop(service);
}

#[test]
fn shared_ownership_takes_single_ports_and_leaves_the_rest() {
    let lab = lab();
    let ssh = Echo::start(&lab, End::Server, &format!("{BESIDE}:22"), 1);
    let flags = "--ownership shared --listen 8080=echo --listen 80=http";
    let engine = Engine::start(&lab, End::Server, flags);
    for seed in 0..3 {
        expect_echo(&lab, &format!("{BESIDE}:8080"), seed);
        expect_echo(&lab, &format!("{BESIDE}:22"), seed);
    }
    assert!(lab.pings(End::Client, BESIDE), "the kernel answers pings");
    engine.await_stat("conns_passive", 3);
    let curl = "curl -sS --fail --max-time 20 -o /dev/null -w %{size_download}";
    let curl = lab.run(End::Client, &format!("{curl} http://{BESIDE}/bytes/100000"));
    assert_eq!(curl.expect_status(0).out, "100000");
    expect_content(&lab, End::Client);
    engine.await_stat("conns_passive", 4);
    engine.stop();
    drop(ssh);
}

#[test]
fn shared_ownership_opens_connections_from_the_kernels_address() {
    let lab = lab();
    let echo = Echo::start(&lab, End::Client, &format!("{KERNEL}:7000"), 1);
    let engine = Engine::start(&lab, End::Server, "--ownership shared");
    let (id, line) = engine.connect(&format!("{KERNEL}:7000"));
    assert!(line.contains(&format!("from {BESIDE}:")), "{line}");
    let sent = engine.command(&format!("send {id} --text shared --expect-reply 6"));
    assert_eq!(sent.expect_status(0).out, "sent 6\nshared\n");
    engine.command(&format!("close {id}")).expect_status(0);
    engine.await_stat("conns_closed", 1);
    expect_content(&lab, End::Client);
    engine.stop();
    drop(echo);
}
