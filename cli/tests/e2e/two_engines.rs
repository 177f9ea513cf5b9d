//! Two engines against each other: the books of the server and the report of the load test must
//! agree to the byte.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::client_role::expect_one_request_each;
use crate::engine::{CLIENT, Engine, SERVER, barewire, load};
use crate::lab::{End, Lab};

/// Runs a load test against the engine, and compares what both counted.
fn load_and_compare(lab: &Lab, server: &Engine<'_>, line: &str) -> Value {
    let before = server.stats();
    let flags = format!("{line} --addr {CLIENT}/24 --src 10.1.0.0/16");
    let (ended, report) = load(lab, End::Client, &flags);
    ended.expect_status(0);
    server.await_stat("conns_open", 0);
    let after = server.stats();
    let counted = |name: &str| after[name] - before[name];
    let reported =
        |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report:#}"));

    assert_eq!(reported("failed"), 0, "{report:#}");
    assert_eq!(reported("opened"), reported("closed"), "{report:#}");
    assert_eq!(reported("requests"), reported("responses"), "{report:#}");
    for (counter, figure) in
        [("conns_passive", "opened"), ("conns_established", "opened"), ("conns_closed", "closed")]
    {
        assert_eq!(counted(counter), reported(figure), "{counter} against {figure}");
    }
    for counter in ["conns_reset", "conns_aborted", "conns_timed_out", "tcp_rst_in", "tcp_rst_out"]
    {
        assert_eq!(counted(counter), 0, "{counter}");
    }
    expect_no_drops(&after);
    expect_frames(server);
    report
}

/// Nothing was dropped but what arrived twice.
fn expect_no_drops(stats: &BTreeMap<String, u64>) {
    let is_drop = |name: &str| name.starts_with("drop_") && name != "drop_sequence";
    let drops: Vec<_> = stats.iter().filter(|(name, n)| is_drop(name) && **n > 0).collect();
    assert!(drops.is_empty(), "{drops:?}");
}

/// Each worker knows where all of its frames are.
fn expect_frames(server: &Engine<'_>) {
    let status = server.status();
    let workers = status["workers"].as_array().expect("workers are a list");
    assert_eq!(workers.len(), 2, "one for each queue");
    for worker in workers {
        let frames = &worker["frames"];
        let n = |place: &str| frames[place].as_u64().unwrap_or_else(|| panic!("{place}: {frames}"));
        let places = ["free", "fill", "rx", "tx", "completion", "held"];
        assert_eq!(places.into_iter().map(n).sum::<u64>(), n("total"), "{frames}");
    }
}

#[test]
fn every_shape_of_load_adds_up_on_both_sides() {
    let lab = Lab::new(&[]);
    let server = Engine::server(&lab);
    let hold = format!("hold --dst {SERVER}:8080 --connections 2k --duration 1s --exchanges 3");
    let hold = load_and_compare(&lab, &server, &hold);
    assert_eq!(hold["peak_open"], 2_000);
    assert_eq!(hold["responses"], 6_000);
    assert_eq!(hold["bytes_sent"], 6_000 * 64);

    let rr = format!("rr --dst {SERVER}:8080 --connections 64 --duration 1s --request-bytes 4000");
    let rr = load_and_compare(&lab, &server, &rr);
    assert!(rr["responses"].as_u64() > Some(1_000), "{rr:#}");
    assert_eq!(rr["bytes_sent"], rr["bytes_received"]);

    let cps = format!("cps --dst {SERVER}:8080 --connections 64 --duration 1s");
    let cps = load_and_compare(&lab, &server, &cps);
    assert!(cps["responses"].as_u64() > Some(1_000), "{cps:#}");
    expect_one_request_each(&cps, 64);

    let http =
        format!("rr --dst {SERVER}:80 --protocol http:/bytes/20000 --connections 16 --duration 1s");
    let http = load_and_compare(&lab, &server, &http);
    assert!(http["responses"].as_u64() > Some(100), "{http:#}");
    server.stop();
}

#[test]
fn clients_that_keep_nothing_have_the_same_books_as_the_server() {
    let lab = Lab::new(&[]);
    let server = Engine::server_with(&lab, "--set tcp.keepalive=1s --connections-max 20k");
    let line = format!(
        "hold --stateless --dst {SERVER}:8080 --connections 20k --duration 4s --sample 5% --exchanges 2"
    );
    let report = load_and_compare(&lab, &server, &line);
    assert_eq!((&report["peak_open"], &report["failed"]), (&20_000.into(), &0.into()));
    let responses = report["responses"].as_u64().expect("a number");
    // 2,000 expected; five standard deviations are 310.
    assert!((1_690..2_310).contains(&responses), "{responses}");
    let stats = server.stats();
    assert_eq!(report["bytes_sent"], stats["tcp_bytes_in"]);
    assert_eq!(report["bytes_received"], stats["tcp_bytes_acked"]);
    assert!(stats["tcp_probes"] >= 20_000, "each was asked whether it lives: {stats:#?}");
    server.stop();
}

#[test]
fn stateless_clients_refuse_what_they_cannot_do() {
    let lab = Lab::new(&[]);
    for (line, words) in [
        ("rr", "expected mode hold, protocol echo and owned addresses, found mode rr"),
        ("cps", "found mode cps; use mode hold, or leave out --stateless"),
        ("hold --protocol http", "found protocol http; use protocol echo"),
        ("hold --ownership shared", "found interface.ownership"),
        ("hold --request-bytes 1000", "expected from 1 to 536, found 1,000"),
    ] {
        let (barewire, dev) = (barewire(), End::Client.dev());
        let line = format!(
            "{barewire} load {line} --stateless --dev {dev} --addr {CLIENT}/24 --dst {SERVER}:8080"
        );
        lab.run(End::Client, &line).expect_status(2).expect_words(&[words]);
    }
}

#[test]
fn bytes_agree_between_report_and_server() {
    let lab = Lab::new(&[]);
    let server = Engine::server(&lab);
    let line =
        format!("rr --dst {SERVER}:8080 --connections 8 --duration 1s --request-bytes 10000");
    let report = load_and_compare(&lab, &server, &line);
    let stats = server.stats();
    assert_eq!(report["bytes_sent"], stats["tcp_bytes_in"]);
    assert_eq!(report["bytes_received"], stats["tcp_bytes_out"]);
    assert_eq!(stats["tcp_bytes_acked"], stats["tcp_bytes_out"]);
    server.stop();
}

#[test]
fn a_load_test_that_misses_its_expectation_fails_with_status_1() {
    let lab = Lab::new(&[]);
    let server = Engine::server(&lab);
    let line = format!(
        "hold --dst {SERVER}:8080 --addr {CLIENT}/24 --connections 10 --duration 100ms --expect peak_open>10"
    );
    let (ended, report) = load(&lab, End::Client, &line);
    ended.expect_status(1).expect_words(&["expected peak_open>10, found 10"]);
    assert_eq!(report["peak_open"], 10);
    let nobody =
        format!("hold --dst {SERVER}:9999 --addr {CLIENT}/24 --connections 10 --duration 100ms");
    let (ended, report) = load(&lab, End::Client, &nobody);
    ended.expect_status(1).expect_words(&["at most 0 failed", "found 10"]);
    assert_eq!(report["failures"]["refused"], 10, "{report:#}");
    server.stop();
}
