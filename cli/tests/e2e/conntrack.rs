//! The kernel's connection tracking judges what the engine puts on the wire: it follows every segment
//! of a connection by state and window, as the firewalls of others do, and must find none that it
//! calls invalid.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Linger;
use serde_json::Value;

use crate::engine::{CLIENT, Engine, KERNEL, SERVER, load};
use crate::kernel::{Echo, connect, expect_content, pattern};
use crate::lab::{End, Lab, within_a_second};

/// Counts segments by what the tracker thinks of them; `untracked` would mean that it does not look.
const RULES: &str = "
table inet judge {
    counter valid { }
    counter invalid { }
    counter untracked { }
    chain judged {
        ct state invalid counter name invalid return
        ct state untracked counter name untracked return
        counter name valid
    }
    chain input { type filter hook input priority 0; meta l4proto tcp jump judged; }
    chain output { type filter hook output priority 0; meta l4proto tcp jump judged; }
}
";

/// The tracker of one end.
struct Judge<'a> {
    lab: &'a Lab,
    end: End,
}

impl<'a> Judge<'a> {
    fn start(lab: &'a Lab, end: End) -> Judge<'a> {
        let rules = lab.path("judge.nft");
        std::fs::write(&rules, RULES).expect("writes the rules");
        lab.run(end, &format!("nft -f {}", rules.display())).expect_status(0);
        // As strict as it can be: a connection is followed from its SYN on, and resets are no exception.
        for (name, value) in [("be_liberal", 0), ("loose", 0), ("ignore_invalid_rst", 0)] {
            let setting = format!("net.netfilter.nf_conntrack_tcp_{name}={value}");
            lab.run(end, &format!("sysctl -qw {setting}")).expect_status(0);
        }
        Judge { lab, end }
    }

    fn count(&self, name: &str) -> u64 {
        let listed = self.lab.run(self.end, &format!("nft -j list counter inet judge {name}"));
        let listed: Value = serde_json::from_str(&listed.expect_status(0).out).expect("JSON");
        let packets = &listed["nftables"][1]["counter"]["packets"];
        packets.as_u64().unwrap_or_else(|| panic!("no counter in {listed}"))
    }

    /// At least `n_min` segments were looked at, and none was found invalid.
    #[track_caller]
    fn expect_content(&self, n_min: u64) {
        let (valid, invalid) = (self.count("valid"), self.count("invalid"));
        assert!(valid >= n_min, "expected at least {n_min} segments, found {valid}");
        assert_eq!((invalid, self.count("untracked")), (0, 0), "of {valid} segments");
    }
}

#[test]
fn a_server_sends_no_segment_that_is_invalid() {
    let lab = Lab::new(&[(End::Client, &format!("{KERNEL}/24"))]);
    let engine = Engine::server(&lab);
    let judge = Judge::start(&lab, End::Client);
    let at = |port: u16| format!("{SERVER}:{port}");
    let curl = format!("curl -sS --fail --max-time 20 -o /dev/null http://{SERVER}/bytes/4194304");
    lab.run(End::Client, &curl).expect_status(0);
    lab.within(End::Client, || {
        // The client closes first, and then the server does.
        let mut echo = connect(&at(8080));
        let sent = pattern(100_000, 1);
        echo.write_all(&sent).expect("sends");
        echo.shutdown(Shutdown::Write).expect("finishes");
        let mut found = Vec::new();
        echo.read_to_end(&mut found).expect("receives to the end");
        assert!(found == sent, "the echo differs");
        let mut close_after = connect(&at(8083));
        close_after.write_all(b"a").expect("sends");
        assert_eq!(close_after.read(&mut [0; 8]).expect("an orderly end"), 0);
        drop(close_after);

        // The server resets, refuses, and is reset.
        let mut close_unread = connect(&at(8085));
        close_unread.write_all(b"never read").expect("sends");
        let error = close_unread.read(&mut [0; 8]).expect_err("unread data end in a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let error = TcpStream::connect(at(8099)).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let mut reset = connect(&at(8080));
        reset.write_all(b"a").expect("sends");
        reset.read_exact(&mut [0]).expect("receives");
        let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&reset, Linger, &at_once).expect("closes with a reset");
    });
    engine.await_stat("conns_reset", 1);
    engine.await_stat("conns_open", 0);
    // It has reset and refused; each worker publishes by itself.
    engine.await_stat("tcp_rst_out", 2);
    judge.expect_content(1_000);
    engine.stop();
    judge.expect_content(1_000);
}

#[test]
fn what_is_sent_again_or_comes_late_is_not_invalid() {
    let lab = Lab::new(&[(End::Client, &format!("{KERNEL}/24"))]);
    let engine = Engine::server(&lab);
    let judge = Judge::start(&lab, End::Client);
    let faults = "--loss 2% --duplicate 1% --reorder 2% --delay 2ms --jitter 500us --seed 7";
    engine.command(&format!("impair --direction both {faults}")).expect_status(0);
    let curl = "curl -sS --fail --max-time 60 -o /dev/null";
    lab.run(End::Client, &format!("{curl} http://{SERVER}/bytes/2000000")).expect_status(0);
    let line = format!("{curl} --parallel --parallel-max 50 http://{SERVER}/bytes/[20000-20099]");
    lab.run(End::Client, &line).expect_status(0);
    engine.await_stat("conns_open", 0);
    assert!(engine.stats()["tcp_retransmitted"] > 0, "segments were sent again");
    judge.expect_content(3_000);
    engine.stop();
}

#[test]
fn a_client_sends_no_segment_that_is_invalid() {
    let lab = Lab::new(&[(End::Server, &format!("{KERNEL}/24"))]);
    let echo = Echo::start(&lab, End::Server, &format!("{KERNEL}:7000"), 16);
    let judge = Judge::start(&lab, End::Server);
    for (mode, close) in [("hold", "fin"), ("cps", "fin"), ("cps", "rst")] {
        let line = format!(
            "{mode} --addr {CLIENT}/24 --dst {KERNEL}:7000 --connections 16 --duration 500ms \
             --request-bytes 5000 --close {close}"
        );
        let (ended, report) = load(&lab, End::Client, &line);
        ended.expect_status(0);
        assert_eq!(report["failed"], 0, "{report:#}");
        judge.expect_content(100);
    }
    // Nothing listens there: the engine's SYN is answered with a reset.
    let engine = Engine::start(&lab, End::Client, &format!("--addr {CLIENT}/24"));
    engine.command(&format!("connect {KERNEL}:7001")).expect_status(1);
    let listener = lab.within(End::Server, || TcpListener::bind(format!("{KERNEL}:7002")));
    let listener = listener.expect("listens");
    let (id, _) = engine.connect(&format!("{KERNEL}:7002"));
    let (mut stream, _) = listener.accept().expect("the connection is there");
    engine.command(&format!("abort {id}")).expect_status(0);
    let error = stream.read(&mut [0; 8]).expect_err("it was reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    engine.stop();
    judge.expect_content(200);
    drop(echo);
}

/// The judge itself: a segment of no connection is invalid to it.
#[test]
fn the_judge_knows_an_invalid_segment() {
    let lab = Lab::new(&[(End::Client, &format!("{KERNEL}/24"))]);
    let engine = Engine::server(&lab);
    let mut stream = lab.within(End::Client, || connect(&format!("{SERVER}:8080")));
    // The tracker starts in the middle: it has seen no SYN.
    let judge = Judge::start(&lab, End::Client);
    stream.write_all(b"a").expect("sends");
    stream.read_exact(&mut [0]).expect("receives");
    within_a_second("the judge complains", || judge.count("invalid") > 0);
    drop(stream);
    engine.await_stat("conns_open", 0);
    expect_content(&lab, End::Client);
    engine.stop();
}
