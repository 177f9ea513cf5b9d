//! `barewire load` against a daemon that runs: the report, its JSON, and the verdict on it.

use std::path::Path;

use barewire_api::config::LoadPlan;
use barewire_api::control::{Frames, LoadProgress, Request, Response};
use barewire_api::failure::Failure;
use barewire_api::impair::Impairments;
use barewire_api::report::{LoadPart, LoadPhase, LoadReport, PhaseReport, Surroundings};
use barewire_api::unit::Count;

use crate::fake::{Daemon, Dir, barewire, command, end, spawn};

pub fn report(failed: u64) -> LoadReport {
    let mut part = LoadPart { opened: 10, closed: 10 - failed, ..LoadPart::default() };
    (0..failed).for_each(|_| part.fail(Failure::Refused));
    part.requests = 10;
    part.responses = 10;
    (1..=10u64).for_each(|us| part.request.record(us * 1_000));
    let plan = LoadPlan {
        connections: Count(10),
        dst: vec!["10.99.0.1:7000".parse().expect("an address and port")],
        ..LoadPlan::default()
    };
    let phases =
        vec![PhaseReport { phase: LoadPhase::Ramp, duration_ns: 1_000_000_000, count: 10 }];
    let frames = Frames { free: 8, total: 8, ..Frames::default() };
    let around = Surroundings {
        n_workers: 1,
        peak_open: 10,
        bytes_resident: 3_000,
        frames,
        interrupted: false,
        impairments: Impairments::default(),
    };
    LoadReport::new(plan, phases, &part, &around)
}

/// Plays a load test that is over at the third look, and nothing else.
fn load_daemon(report: LoadReport) -> Daemon {
    load_daemon_within(Dir::new(), report, |request| panic!("a load test needs no {request:?}"))
}

/// Plays a load test in `dir`, and leaves all other requests to `answer`.
pub fn load_daemon_within(
    dir: Dir,
    report: LoadReport,
    mut answer: impl FnMut(Request) -> Response + Send + 'static,
) -> Daemon {
    let mut looks = 0;
    Daemon::within(dir, 0, move |request| match request {
        Request::LoadStart { .. } => Response::Done,
        Request::LoadStatus => {
            looks += 1;
            let report = (looks > 2).then(|| Box::new(report.clone()));
            Response::Load(Box::new(LoadProgress { report, ..LoadProgress::default() }))
        }
        request => answer(request),
    })
}

#[test]
fn a_load_test_makes_its_engine_fit_its_plan() {
    let ended = barewire(&[
        "load",
        "hold",
        "--check",
        "--dev=d0",
        "--addr=10.99.0.3/24",
        "--src=10.1.0.0/16",
        "--dst=10.99.0.2:7000",
        "--connections=5m",
    ]);
    assert_eq!(ended.status, 0, "{}", ended.err);
    let config = barewire_api::Config::parse(&ended.out).expect("prints a configuration");
    assert_eq!(config.tcp.connections_max, Count(5_000_000));
    assert_eq!(config.interface.prefixes, ["10.1.0.0/16".parse().expect("a prefix")]);
}

#[test]
fn a_load_test_ends_with_its_report() {
    let daemon = load_daemon(report(0));
    let line = ["--control", daemon.path(), "load", "hold", "--dst", "10.99.0.1:7000"];
    let ended = barewire(&[&line[..], &["--expect", "p99<1ms", "--expect", "failed=0"]].concat());
    assert_eq!(ended.status, 0, "{}", ended.err);
    assert!(ended.out.contains("10 opened = 10 closed + 0 open + 0 failed"), "{}", ended.out);
    assert!(ended.out.contains("300 per connection"), "{}", ended.out);
}

#[test]
fn a_load_test_prints_json_alone_on_the_standard_output() {
    let daemon = load_daemon(report(0));
    let line = ["--control", daemon.path(), "load", "rr", "--dst=10.99.0.1:7000", "--json=-"];
    let ended = barewire(&line);
    let printed: LoadReport = serde_json::from_str(&ended.out).expect("prints a report");
    assert_eq!((printed, ended.status), (report(0), 0));
    assert!(ended.err.contains("connections  10 opened"), "{}", ended.err);
}

#[test]
fn a_load_test_writes_json_beside_its_report() {
    let daemon = load_daemon(report(0));
    let dir = Dir::new();
    let json = format!("--json={}", dir.join("report.json").display());
    let line = ["--control", daemon.path(), "load", "rr", "--dst=10.99.0.1:7000", &json];
    let ended = barewire(&line);
    assert!(ended.status == 0 && ended.out.contains("connections  10 opened"), "{}", ended.err);
    let written = std::fs::read_to_string(dir.join("report.json")).expect("writes its file");
    assert_eq!(serde_json::from_str::<LoadReport>(&written).expect("a report"), report(0));
    // Refused before anything is started: the socket is not even looked for.
    let ended = barewire(&["--control=/x", "load", "rr", "--json=/nonexistent/x"]);
    assert!(ended.err.starts_with("barewire: cannot write /nonexistent/x"), "{}", ended.err);
    assert_eq!(ended.status, 3);
}

#[test]
fn a_load_test_that_misses_its_expectation_has_status_1() {
    for (failed, flags, status, complaint) in [
        (0, &["--expect=p99<1us"][..], 1, "barewire: expected p99<1us, found 10.0us\n"),
        (2, &[], 1, "barewire: expected at most 0 failed connections, found 2\n"),
        (2, &["--allow-failed=2"], 0, ""),
        (2, &["--allow-failed=2", "--expect=failed.refused=0"], 1, "found 2\n"),
    ] {
        let daemon = load_daemon(report(failed));
        let line = ["--control", daemon.path(), "load", "hold", "--dst=10.99.0.1:7000"];
        let ended = barewire(&[&line[..], flags].concat());
        assert_eq!(ended.status, status, "{flags:?}: {}", ended.err);
        assert!(ended.err.ends_with(complaint), "{flags:?}: {}", ended.err);
    }
}

/// SIGINT stops the test, and the report of its part is printed all the same.
#[test]
fn an_interrupted_test_gives_its_report() {
    let mut is_stopped = false;
    let daemon = Daemon::new(move |request| match request {
        Request::LoadStart { .. } => Response::Done,
        Request::LoadStop => {
            is_stopped = true;
            Response::Done
        }
        Request::LoadStatus => {
            let part = LoadReport { interrupted: true, ..report(0) };
            let report = is_stopped.then(|| Box::new(part));
            Response::Load(Box::new(LoadProgress { report, ..LoadProgress::default() }))
        }
        other => panic!("a load test needs no {other:?}"),
    });
    let line = ["--control", daemon.path(), "load", "hold", "--dst=10.99.0.1:7000"];
    let child = command(&line);
    daemon.await_request(|request| *request == Request::LoadStatus);
    let kill = spawn(Path::new("kill"), &["-INT", &child.id().to_string()]);
    assert_eq!(end(kill).status, 0);
    let ended = end(child);
    assert!(
        ended.out.contains("* interrupted") && ended.out.contains("10 opened"),
        "{}",
        ended.out
    );
    assert!(ended.err.contains("interrupted before its end"), "{}", ended.err);
    assert_eq!(ended.status, 1);
}
