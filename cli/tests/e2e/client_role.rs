//! The engine as client of the kernel's servers: nginx, an echo server, and nobody. The kernel must
//! find nothing to complain about in what it is sent.

use std::io::ErrorKind;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use socket2::{SockRef, TcpKeepalive};

use crate::engine::{CLIENT, Engine, KERNEL, load};
use crate::kernel::{Echo, Nginx, PATIENCE, expect_content, expect_no_repair, raised};
use crate::lab::{End, Lab};

fn lab() -> Lab {
    Lab::new(&[(End::Server, &format!("{KERNEL}/24"))])
}

/// Runs a load test against the kernel; nothing of it may fail.
fn load_kernel(lab: &Lab, line: &str) -> Value {
    let (ended, report) = load(lab, End::Client, &format!("{line} --addr {CLIENT}/24"));
    ended.expect_status(0);
    assert_eq!(report["failed"], 0, "{report:#}");
    assert_eq!(report["requests"], report["responses"], "{report:#}");
    expect_content(lab, End::Server);
    report
}

/// One request for each connection, but for those that the end of the test met before their request.
pub fn expect_one_request_each(cps: &Value, connections: u64) {
    let n = |name: &str| cps[name].as_u64().unwrap_or_else(|| panic!("{name}: {cps:#}"));
    assert!(n("opened") >= n("requests"), "{cps:#}");
    assert!(n("opened") - n("requests") <= connections, "{cps:#}");
}

#[test]
fn nginx_is_loaded_in_every_shape() {
    let lab = lab();
    let nginx = Nginx::start(&lab, End::Server, &format!("{KERNEL}:80"));
    let to = format!("--protocol http --dst {KERNEL}:80");
    let rr = load_kernel(&lab, &format!("rr {to} --connections 32 --duration 2s"));
    assert!(rr["responses"].as_u64() > Some(1_000), "{rr:#}");
    let cps = load_kernel(&lab, &format!("cps {to} --connections 32 --rate 2k --duration 2s"));
    assert!(cps["responses"].as_u64() > Some(1_000), "{cps:#}");
    expect_one_request_each(&cps, 32);
    let hold = load_kernel(&lab, &format!("hold {to} --connections 500 --duration 500ms"));
    assert_eq!((&hold["peak_open"], &hold["responses"]), (&500.into(), &500.into()));
    nginx.stop();
}

#[test]
fn an_echo_server_is_loaded_in_every_shape() {
    let lab = lab();
    let echo = Echo::start(&lab, End::Server, &format!("{KERNEL}:7000"), 64);
    let to = format!("--dst {KERNEL}:7000 --request-bytes 1000");
    let rr = load_kernel(&lab, &format!("rr {to} --connections 32 --duration 2s"));
    assert!(rr["responses"].as_u64() > Some(1_000), "{rr:#}");
    assert_eq!(rr["bytes_sent"], rr["bytes_received"]);
    let cps = load_kernel(&lab, &format!("cps {to} --connections 32 --rate 1k --duration 2s"));
    assert!(cps["responses"].as_u64() > Some(500), "{cps:#}");
    let hold =
        load_kernel(&lab, &format!("hold {to} --connections 50 --exchanges 10 --duration 500ms"));
    assert_eq!((&hold["peak_open"], &hold["responses"]), (&50.into(), &500.into()));
    drop(echo);
}

#[test]
fn the_kernel_takes_stateless_clients_for_clients() {
    let lab = lab();
    let echo = Echo::start(&lab, End::Server, &format!("{KERNEL}:7000"), 300);
    let to = format!("--stateless --dst {KERNEL}:7000 --request-bytes 500");
    let line = format!("hold {to} --connections 300 --exchanges 3 --duration 500ms");
    let fin = load_kernel(&lab, &line);
    // A reset is what the kernel complains of here, and rightly.
    let (ended, rst) = load(&lab, End::Client, &format!("{line} --close rst --addr {CLIENT}/24"));
    ended.expect_status(0);
    assert_eq!(
        raised(&lab, End::Server, &["TcpEstabResets"]),
        [("TcpEstabResets".to_owned(), 300)]
    );
    for hold in [fin, rst] {
        assert_eq!((&hold["peak_open"], &hold["closed"]), (&300.into(), &300.into()));
        assert_eq!((&hold["responses"], &hold["bytes_received"]), (&900.into(), &450_000.into()));
    }
    drop(echo);
}

#[test]
fn the_kernel_finds_stateless_clients_alive() {
    let lab = lab();
    let listener = lab.within(End::Server, || TcpListener::bind(format!("{KERNEL}:7000")));
    let listener = listener.expect("listens");
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new().with_time(second).with_interval(second).with_retries(2);
    // Every connection has it from the listener.
    let socket = SockRef::from(&listener);
    socket.set_keepalive(true).expect("keeps alive");
    socket.set_tcp_keepalive(&keepalive).expect("keeps alive");
    let server = thread::spawn(move || {
        let streams: Vec<_> = listener.incoming().take(40).collect();
        let is_well = |stream: std::io::Result<TcpStream>| {
            stream.and_then(|mut stream| stream.read(&mut [0; 8])).is_ok_and(|n| n == 0)
        };
        streams.into_iter().all(is_well)
    });
    let line = format!("hold --stateless --dst {KERNEL}:7000 --connections 40 --exchanges 0");
    let hold = load_kernel(&lab, &format!("{line} --duration 7s"));
    assert_eq!((&hold["peak_open"], &hold["closed"]), (&40.into(), &40.into()));
    assert!(server.join().expect("the server ends"), "every connection ended with a FIN");
    let probes = raised(&lab, End::Server, &["TcpExtTCPKeepAlive"]);
    assert!(probes.first().is_some_and(|&(_, n)| n >= 160), "{probes:?}");
}

#[test]
fn nothing_is_sent_twice_on_a_clean_path() {
    let lab = lab();
    let echo = Echo::start(&lab, End::Server, &format!("{KERNEL}:7000"), 4);
    let line = format!("hold --dst {KERNEL}:7000 --connections 4 --duration 100ms");
    expect_no_repair(&lab, End::Server, || {
        let report = load_kernel(&lab, &format!("{line} --exchanges 4 --request-bytes 100000"));
        assert_eq!(report["bytes_received"], 1_600_000);
    });
    drop(echo);
}

#[test]
fn a_connection_by_hand_talks_to_the_kernel() {
    let lab = lab();
    let echo = Echo::start(&lab, End::Server, &format!("{KERNEL}:7000"), 2);
    let engine = Engine::start(&lab, End::Client, &format!("--addr {CLIENT}/24"));
    let (id, line) = engine.connect(&format!("{KERNEL}:7000 --src-port 33333"));
    assert!(line.contains(&format!("from {CLIENT}:33333")), "{line}");

    let sent = engine.command(&format!("send {id} --text hello --expect-reply 5"));
    assert_eq!(sent.expect_status(0).out, "sent 5\nhello\n");
    let conns = engine.conns();
    assert_eq!(conns.len(), 1);
    assert_eq!(conns[0]["state"], "ESTABLISHED");
    assert_eq!(conns[0]["remote"], format!("{KERNEL}:7000"));

    engine.command(&format!("close {id}")).expect_status(0);
    engine.await_stat("conns_closed", 1);
    expect_content(&lab, End::Server);
    engine.stop();
    drop(echo);
}

#[test]
fn a_failed_open_says_why() {
    let lab = lab();
    let engine = Engine::start(&lab, End::Client, &format!("--addr {CLIENT}/24"));
    let refused = engine.command(&format!("connect {KERNEL}:7001")).expect_status(1).out;
    assert!(refused.starts_with("failed: ") && refused.contains("refused"), "{refused}");
    let silent = engine.command("connect 10.99.0.77:7001 --timeout 20s").expect_status(1).out;
    assert!(silent.starts_with("failed: ") && silent.contains("ARP"), "{silent}");
    engine.await_stat("conns_open", 0);
    engine.stop();
}

#[test]
fn an_aborted_connection_is_reset_at_the_kernel() {
    let lab = lab();
    let listener = lab.within(End::Server, || TcpListener::bind(format!("{KERNEL}:7000")));
    let listener = listener.expect("listens");
    let engine = Engine::start(&lab, End::Client, &format!("--addr {CLIENT}/24"));
    let (id, _) = engine.connect(&format!("{KERNEL}:7000"));
    let (mut stream, from) = listener.accept().expect("the connection is there");
    assert_eq!(from.ip().to_string(), CLIENT);
    stream.set_read_timeout(Some(PATIENCE)).expect("sets its patience");

    engine.command(&format!("abort {id}")).expect_status(0);
    let error = stream.read(&mut [0; 8]).expect_err("it was reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    engine.await_stat("conns_aborted", 1);
    engine.stop();
}
