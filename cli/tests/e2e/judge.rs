//! tshark judges what the engine put on the wire: a transfer without loss must look like one.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::engine::{CLIENT, Engine, KERNEL, SERVER, load};
use crate::kernel::{Echo, connect, pattern};
use crate::lab::{End, Lab, Running, await_that};

/// A capture of all that passes the interface of an end.
struct Capture<'a> {
    lab: &'a Lab,
    tcpdump: Running,
}

impl<'a> Capture<'a> {
    fn start(lab: &'a Lab, end: End) -> Capture<'a> {
        let file = lab.path("judged.pcap");
        let line =
            format!("tcpdump -Z root -U -B 65536 -i {} -w {} tcp", end.dev(), file.display());
        let tcpdump = lab.start(end, &line, "tcpdump.log");
        await_that("tcpdump listens", Duration::from_secs(10), || {
            tcpdump.log().contains("listening on")
        });
        Capture { lab, tcpdump }
    }

    /// Ends the capture, which must be whole, and returns what tshark finds with `filter`.
    fn found(&mut self, filter: &str) -> Vec<String> {
        let file = self.lab.path("judged.pcap");
        let mut tshark = self.lab.command(End::Client, "tshark");
        tshark.args(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]);
        tshark.arg("-r").arg(file).args(["-Y", filter]);
        let ended = crate::lab::Ended::of(&mut tshark).expect_status(0);
        ended.out.lines().map(str::to_owned).collect()
    }

    /// Everything that tshark has a word for: retransmissions, gaps, duplicates, wrong checksums.
    fn complaints(mut self, n_segments_min: usize) -> Vec<String> {
        // What is still on its way to the file.
        std::thread::sleep(Duration::from_millis(300));
        self.tcpdump.signal("INT");
        assert_eq!(self.tcpdump.wait(Duration::from_secs(10)), 0);
        let log = self.tcpdump.log();
        assert!(log.contains("\n0 packets dropped by kernel"), "{log}");
        let n = self.found("tcp").len();
        assert!(n >= n_segments_min, "expected at least {n_segments_min} segments, found {n}");
        // A sum that comes out as 0xffff is one of two ways to write zero, and the kernel's; tshark
        // takes only the other one. It happens to one segment in 65,536.
        self.found(
            "(tcp.analysis.flags && !tcp.analysis.window_update) \
             || (tcp.checksum.status == Bad && tcp.checksum != 0xffff) \
             || ip.checksum.status == Bad || _ws.malformed || tcp.flags.reset == 1",
        )
    }
}

/// Runs a judged transfer until there is no complaint. More than one try, because a machine that takes
/// the CPU from an engine for some milliseconds makes the kernel repeat itself; what an engine does
/// wrong it does each time.
#[track_caller]
fn expect_clean(mut judged: impl FnMut(u64) -> Vec<String>) {
    let mut tried = Vec::new();
    for n in 1..=5 {
        let complaints = judged(n);
        if complaints.is_empty() {
            return;
        }
        tried.push(complaints);
    }
    panic!("no transfer without complaint: {tried:#?}");
}

#[test]
fn a_server_without_loss_looks_like_one() {
    let lab = Lab::new(&[(End::Client, &format!("{KERNEL}/24"))]);
    let engine = Engine::server(&lab);
    let curl = format!("curl -sS --fail --max-time 20 -o /dev/null http://{SERVER}/bytes/1048576");
    expect_clean(|n| {
        let capture = Capture::start(&lab, End::Client);
        lab.run(End::Client, &curl).expect_status(0);
        lab.within(End::Client, || echoes(20));
        engine.await_stat("conns_closed", 2 * n);
        // The megabyte alone is 725 segments of data; how many ACKs there are is the batches' choice.
        capture.complaints(750)
    });
    engine.stop();
}

/// A connection whose echoes come back one after the other, with an orderly end.
fn echoes(n: u64) {
    let mut stream = connect(&format!("{SERVER}:8080"));
    for seed in 0..n {
        let sent = pattern(3_000, seed);
        stream.write_all(&sent).expect("sends");
        let mut found = vec![0; sent.len()];
        stream.read_exact(&mut found).expect("receives");
        assert!(found == sent, "the echo differs");
    }
    stream.shutdown(Shutdown::Write).expect("finishes");
    assert_eq!(stream.read(&mut [0; 8]).expect("an orderly end"), 0);
}

#[test]
fn a_client_without_loss_looks_like_one() {
    let lab = Lab::new(&[(End::Server, &format!("{KERNEL}/24"))]);
    // On the port of RFC 862 tshark looks for nothing else in the bytes.
    let echo = Echo::start(&lab, End::Server, &format!("{KERNEL}:7"), 16);
    let line = format!(
        "hold --addr {CLIENT}/24 --dst {KERNEL}:7 --connections 10 --exchanges 10 \
         --request-bytes 5000 --duration 100ms"
    );
    expect_clean(|_| {
        let capture = Capture::start(&lab, End::Server);
        let (ended, report) = load(&lab, End::Client, &line);
        ended.expect_status(0);
        assert_eq!(report["responses"], 100);
        capture.complaints(500)
    });
    drop(echo);
    // The file is the proof, so it was there.
    assert!(fs::metadata(lab.path("judged.pcap")).is_ok_and(|file| file.len() > 100_000));
}
