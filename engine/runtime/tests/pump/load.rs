//! The load generator under its conductor: every phase of every mode, and every way in which
//! connections fail. Whatever happens, what was opened is closed, failed or there, once.

use crate::pair::{Bounds, Pair, SERVER};
use barewire_api::config::{CloseWith, Interface, LoadMode, LoadPlan, PortRange, Prefix};
use barewire_api::control::Frames;
use barewire_api::failure::Failure;
use barewire_api::plan::TuplePlan;
use barewire_api::report::{LoadPart, LoadPhase, LoadReport};
use barewire_api::unit::{Count, Rate, Ratio, Span};
use barewire_engine::app::{App, Io};
use barewire_engine::load::{Conductor, Load, Share, Spread, Stateless};
use barewire_engine::worker::Desk;
use barewire_stack::flow::FourTuple;
use barewire_stack::flow::port::QueuePorts;
use barewire_stack::flow::rss::{Hashed, IndirectionTable, Rss, Toeplitz};
use barewire_stack::stack::Event;
use barewire_stack::stats::Counter;
use barewire_stack::tcp::{Events, TcpConfig};
use barewire_stack::time::Duration;
use std::collections::HashSet;

/// The workers' clients and servers, two and two.
struct Test {
    pairs: Vec<Pair>,
    conductor: Conductor,
}

impl Test {
    /// Begins a test from the addresses of `source`, one worker on each pair.
    fn begin(mut pairs: Vec<Pair>, plan: &LoadPlan, source: &str, ports: &str) -> Self {
        let (source, ports): (Prefix, PortRange) =
            (source.parse().unwrap(), ports.parse().unwrap());
        let tuples = TuplePlan::new(&[source], ports, &plan.dst);
        let n = pairs.len();
        for (worker, pair) in pairs.iter_mut().enumerate() {
            pair.on_client(|desk| {
                if plan.stateless {
                    let share =
                        Share { worker: worker as u64, n_workers: n as u64, epoch: desk.now };
                    let (plan, interface) =
                        (with_source(plan, source, ports), Interface::default());
                    let stateless = Stateless::new(&plan, &interface, share, desk.stack.config());
                    desk.apps.stateless = Some(Box::new(stateless));
                    return;
                }
                let load = Load::new(plan, tuples.clone(), worker, n, desk.now);
                desk.apps.load = Some(Box::new(load));
            });
        }
        let conductor = Conductor::new(plan.clone(), n, pairs[0].now);
        Test { pairs, conductor }
    }

    /// One step of every pair, under the conductor's eyes.
    fn step(&mut self) {
        for pair in &mut self.pairs {
            pair.step();
        }
        let now = self.pairs.iter().map(|pair| pair.now).max().unwrap();
        for pair in &mut self.pairs {
            pair.now = now;
        }
        let workers: Vec<_> = self
            .pairs
            .iter_mut()
            .map(|pair| pair.on_client(|desk| desk.apps.load_progress().unwrap()))
            .collect();
        for worker in &workers {
            assert!(worker.established <= worker.open(), "{worker:?}");
        }
        if let Some(phase) = self.conductor.on_progress(now, &workers, 0) {
            for pair in &mut self.pairs {
                pair.on_client(|desk| desk.apps.enter_load(phase));
            }
        }
    }

    fn until_phase(&mut self, phase: LoadPhase) {
        while self.conductor.phase() != phase {
            assert!(!self.conductor.is_done(), "the test is over before {phase}");
            self.step();
        }
    }

    /// Goes on to the end, holds everything to its sums, and returns the report.
    fn report(&mut self) -> LoadReport {
        while !self.conductor.is_done() {
            self.step();
        }
        let parts: Vec<LoadPart> = self
            .pairs
            .iter_mut()
            .map(|pair| pair.on_client(|desk| desk.apps.load_part().unwrap()))
            .collect();
        let report = self.conductor.report(&parts, Frames::default());
        assert!(report.adds_up(), "{report:?}");
        assert_eq!(report.open, 0);
        assert_eq!(report.request.count, report.responses);
        assert_eq!(report.requests, report.responses + report.request.lost);
        let established = self.pairs.iter_mut().map(|pair| pair.stat(Counter::ConnsEstablished)[0]);
        assert_eq!(report.connect.count, established.sum::<u64>());
        assert_eq!(report.opened, report.connect.count + report.connect.lost);
        report
    }

    fn finish(self) {
        for pair in self.pairs {
            pair.finish();
        }
    }
}

/// The plan with its sources written out.
fn with_source(plan: &LoadPlan, source: Prefix, ports: PortRange) -> LoadPlan {
    LoadPlan { src: vec![source], src_ports: Some(ports), ..plan.clone() }
}

fn load<'a>(desk: &'a mut Desk<'_>) -> &'a mut Load {
    desk.apps.load.as_mut().unwrap()
}

fn plan(mode: LoadMode, connections: u64) -> LoadPlan {
    LoadPlan {
        mode,
        dst: vec![SERVER],
        connections: Count(connections),
        duration: Span::from_millis(50),
        ..LoadPlan::default()
    }
}

fn failures(report: &LoadReport) -> Vec<(Failure, u64)> {
    report.failures.iter().map(|(&failure, &n)| (failure, n)).collect()
}

#[test]
fn ten_thousand_are_held_and_each_exchanges_what_is_its_own() {
    let plan = LoadPlan { exchanges: 2, ..plan(LoadMode::Hold, 10_001) };
    let pairs = vec![Pair::new("echo"), Pair::new("echo")];
    let mut test = Test::begin(pairs, &plan, "10.1.0.0/28", "1024-2047");
    test.until_phase(LoadPhase::Hold);
    let mut tuples = HashSet::new();
    for pair in &mut test.pairs {
        pair.on_client(|desk| {
            let infos = (0..desk.stack.n_slots()).filter_map(|slot| desk.stack.conn_info(slot));
            tuples.extend(infos.map(|info| (info.local, info.remote)));
        });
        let [client, server] = pair.stat(Counter::ConnsOpen);
        assert!(client == server && (5_000..=5_001).contains(&client));
    }
    assert_eq!(tuples.len(), 10_001, "no tuple is used twice");

    let report = test.report();
    assert_eq!((report.opened, report.closed, report.failed), (10_001, 10_001, 0));
    assert_eq!((report.requests, report.responses), (20_002, 20_002));
    assert_eq!((report.bytes_sent, report.bytes_received), (20_002 * 64, 20_002 * 64));
    assert_eq!(report.peak_open, 10_001);
    let counts: Vec<_> = report.phases.iter().map(|phase| (phase.phase, phase.count)).collect();
    assert_eq!(
        counts,
        [
            (LoadPhase::Ramp, 10_001),
            (LoadPhase::Hold, 0),
            (LoadPhase::Exchange, 20_002),
            (LoadPhase::Close, 10_001)
        ]
    );
    assert!(report.phase(LoadPhase::Hold).unwrap().duration_ns >= 50_000_000);
    for pair in &mut test.pairs {
        assert_eq!(pair.stat(Counter::TcpRetransmitted), [0, 0]);
    }
    test.finish();
}

#[test]
fn clients_that_keep_nothing_do_the_same() {
    let plan = LoadPlan { exchanges: 2, stateless: true, ..plan(LoadMode::Hold, 10_001) };
    let pairs = vec![Pair::new("echo"), Pair::new("echo")];
    let mut test = Test::begin(pairs, &plan, "10.1.0.0/28", "1024-2047");
    test.until_phase(LoadPhase::Hold);
    for pair in &mut test.pairs {
        let [client, server] = pair.stat(Counter::ConnsOpen);
        assert!(client == server && (5_000..=5_001).contains(&client));
        assert_eq!(pair.on_client(|desk| desk.stack.n_records()), 0);
    }
    let report = test.report();
    assert_eq!((report.opened, report.closed, report.failed), (10_001, 10_001, 0));
    assert_eq!((report.requests, report.responses), (20_002, 20_002));
    assert_eq!((report.bytes_sent, report.bytes_received), (20_002 * 64, 20_002 * 64));
    assert_eq!(report.peak_open, 10_001);
    assert!(report.to_string().contains("stateless clients"), "{report}");
    for pair in &mut test.pairs {
        assert_eq!(pair.stat(Counter::TcpRetransmitted), [0, 0]);
        let [sent, received] =
            [Counter::TcpBytesAcked, Counter::TcpBytesIn].map(|c| pair.stat(c)[0]);
        assert_eq!(sent, received);
        pair.on_client(|desk| desk.apps.end_load(desk.stack.stats_mut()));
    }
    test.finish();
}

#[test]
fn only_a_sample_is_asked_and_it_is_chosen_at_random() {
    for stateless in [false, true] {
        let sample: Ratio = "10%".parse().unwrap();
        let plan = LoadPlan { sample, stateless, ..plan(LoadMode::Hold, 10_000) };
        let mut test = Test::begin(vec![Pair::new("echo")], &plan, "10.1.0.0/28", "1024-2047");
        let report = test.report();
        // 1,000 expected; five standard deviations are 150.
        assert!((850..1_150).contains(&report.responses), "{}", report.responses);
        assert_eq!((report.requests, report.closed), (report.responses, 10_000));
        test.finish();
    }
}

#[test]
fn a_stateless_test_that_is_stopped_closes_what_it_opened() {
    let ramp = Span::from_secs(1);
    let plan = LoadPlan { ramp, stateless: true, ..plan(LoadMode::Hold, 1_000) };
    let mut test = Test::begin(vec![Pair::new("echo")], &plan, "10.1.0.0/28", "1024-2047");
    while test.pairs[0].now.as_millis() < 500 {
        test.step();
    }
    test.conductor.stop();
    let report = test.report();
    assert!(report.interrupted && (450..550).contains(&report.opened), "{report:?}");
    assert_eq!((report.closed, report.failed), (report.opened, 0));
    test.finish();
}

#[test]
fn what_a_stateless_test_leaves_behind_is_in_the_books() {
    let plan = LoadPlan { stateless: true, ..plan(LoadMode::Hold, 100) };
    let mut test = Test::begin(vec![Pair::new("echo")], &plan, "10.1.0.0/28", "1024-2047");
    test.until_phase(LoadPhase::Hold);
    let mut pair = test.pairs.pop().unwrap();
    pair.on_client(|desk| desk.apps.end_load(desk.stack.stats_mut()));
    assert_eq!(pair.stat(Counter::ConnsAborted)[0], 100);
    assert_eq!(pair.stat(Counter::ConnsOpen)[0], 0);
    pair.abandon();
}

#[test]
fn stateless_clients_without_a_server_fail_by_name() {
    for (app, mute, expected) in [
        (None, false, Failure::Refused),
        (Some("echo"), true, Failure::ConnectTimedOut),
        (Some("discard"), false, Failure::ResponseTimedOut),
    ] {
        let timeout = Span::from_secs(4);
        let plan = LoadPlan { timeout, stateless: true, ..plan(LoadMode::Hold, 50) };
        let mut pair = Pair::with(app, &TcpConfig::default(), &Bounds::default());
        pair.mute = mute;
        let mut test = Test::begin(vec![pair], &plan, "10.1.0.0/28", "1024-2047");
        let report = test.report();
        assert_eq!(failures(&report), [(expected, 50)]);
        test.finish();
    }
}

#[test]
fn a_ramp_is_even_and_outstanding_handshakes_are_bounded() {
    let ramp = Span::from_millis(400);
    let plan = LoadPlan { ramp, outstanding_max: 3, ..plan(LoadMode::Hold, 400) };
    let mut test = Test::begin(vec![Pair::new("echo")], &plan, "10.1.0.1/32", "1024-2047");
    while test.pairs[0].now.as_millis() < 200 {
        test.step();
        let progress = test.pairs[0].on_client(|desk| load(desk).progress());
        assert!(progress.open() - progress.established <= 3);
    }
    let opened = test.pairs[0].on_client(|desk| load(desk).progress().opened);
    assert!((195..=205).contains(&opened), "{opened} at half-time");
    let report = test.report();
    let took = report.phase(LoadPhase::Ramp).unwrap().duration_ns / 1_000_000;
    assert!((395..=405).contains(&took), "{took} ms");
    assert_eq!(report.closed, 400);
    test.finish();
}

#[test]
fn requests_larger_than_every_buffer_come_back_whole() {
    let tcp =
        TcpConfig { window_bytes_max: 16 << 10, send_bytes_max: 8 << 10, ..TcpConfig::default() };
    let pair = Pair::with(Some("echo"), &tcp, &Bounds::default());
    let plan = LoadPlan { request_bytes: 300_000, exchanges: 2, ..plan(LoadMode::Hold, 20) };
    let mut test = Test::begin(vec![pair], &plan, "10.1.0.1/32", "1024-2047");
    let report = test.report();
    assert_eq!((report.closed, report.failed, report.responses), (20, 0, 40));
    assert_eq!((report.bytes_sent, report.bytes_received), (12_000_000, 12_000_000));
    test.finish();
}

#[test]
fn rr_keeps_requests_going_until_its_time_is_over() {
    for outstanding_max in [1024, 7] {
        let plan = LoadPlan { outstanding_max, ..plan(LoadMode::RequestResponse, 50) };
        let mut test = Test::begin(vec![Pair::new("echo")], &plan, "10.1.0.1/32", "1024-2047");
        let report = test.report();
        assert_eq!((report.opened, report.closed, report.failed), (50, 50, 0));
        let run = report.phase(LoadPhase::Run).unwrap();
        assert!((50_000_000..51_000_000).contains(&run.duration_ns));
        // A round trip takes four turns of 20 us: nobody waits longer than the flights make him.
        let expected = u64::from(outstanding_max.min(50)) * 50_000 / 80;
        let found = run.count;
        assert!((expected * 8 / 10..=expected * 2).contains(&found), "{found} and not {expected}");
        test.finish();
    }
}

#[test]
fn rr_replaces_what_the_server_closes() {
    let plan = LoadPlan { request_bytes: 10, ..plan(LoadMode::RequestResponse, 20) };
    // Every request of ten bytes makes the server close without an answer.
    let pair = Pair::new("close-after:10");
    let mut test = Test::begin(vec![pair], &plan, "10.1.0.0/24", "1024-2047");
    let report = test.report();
    assert!(report.opened > 200, "{}", report.opened);
    assert_eq!(failures(&report), [(Failure::ClosedEarly, report.requests)]);
    test.finish();
}

#[test]
fn cps_opens_exchanges_and_closes_thousands() {
    for close in [CloseWith::Fin, CloseWith::Rst] {
        let duration = Span::from_secs(1);
        let rate = Some(Rate(5_000));
        let plan = LoadPlan { close, duration, rate, ..plan(LoadMode::ConnectionsPerSecond, 64) };
        let mut test = Test::begin(vec![Pair::new("echo")], &plan, "10.1.0.0/28", "1024-2047");
        let report = test.report();
        assert!((4_990..=5_060).contains(&report.opened), "{} opened", report.opened);
        assert_eq!((report.closed, report.responses), (report.opened, report.opened));
        let resting = test.pairs[0].stat(Counter::ConnsTimeWait)[0];
        assert_eq!(resting, if close == CloseWith::Fin { report.opened } else { 0 });
        test.finish();
    }
}

#[test]
fn cps_passes_over_tuples_that_rest_and_says_when_all_do() {
    let plan = plan(LoadMode::ConnectionsPerSecond, 8);
    let tcp = TcpConfig { time_wait: Duration::from_millis(2), ..TcpConfig::default() };
    let pair = Pair::with(Some("echo"), &tcp, &Bounds::default());
    let mut test = Test::begin(vec![pair], &plan, "10.1.0.1/32", "1024-1123");
    let report = test.report();
    // A hundred tuples, each back after about 2.1 ms: two thousand in 50 ms, and then pauses.
    assert!(report.closed > 400, "{}", report.closed);
    assert!(report.failures.keys().all(|&failure| failure == Failure::NoPort));
    test.finish();

    let pair = Pair::new("echo");
    let mut test = Test::begin(vec![pair], &plan, "10.1.0.1/32", "1024-1123");
    let report = test.report();
    assert_eq!(report.closed, 100);
    let [(Failure::NoPort, n)] = failures(&report)[..] else { panic!("{report:?}") };
    assert!((3..=7).contains(&n), "one in 10 ms, not {n}");
    test.finish();
}

#[test]
fn a_hold_after_a_hold_finds_the_free_tuples() {
    let plan = plan(LoadMode::Hold, 500);
    let mut test = Test::begin(vec![Pair::new("echo")], &plan, "10.1.0.1/32", "1024-2023");
    assert_eq!(test.report().closed, 500);
    let mut test = Test::begin(test.pairs, &plan, "10.1.0.1/32", "1024-2023");
    let second = {
        while !test.conductor.is_done() {
            test.step();
        }
        test.pairs[0].on_client(|desk| load(desk).part())
    };
    assert_eq!((second.closed, second.failed()), (500, 0));
    let mut test = Test::begin(test.pairs, &plan, "10.1.0.1/32", "1024-2023");
    while !test.conductor.is_done() {
        test.step();
    }
    let third = test.pairs[0].on_client(|desk| load(desk).part());
    assert_eq!(third.failures.get(&Failure::NoPort), Some(&500), "all thousand rest");
    test.finish();
}

#[test]
fn http_responses_are_counted_whole() {
    let protocol = "http:/bytes/5000".parse().unwrap();
    for mode in [LoadMode::Hold, LoadMode::RequestResponse, LoadMode::ConnectionsPerSecond] {
        let plan = LoadPlan { protocol: "http:/bytes/5000".parse().unwrap(), ..plan(mode, 30) };
        assert_eq!(plan.protocol, protocol);
        let mut test = Test::begin(vec![Pair::new("http")], &plan, "10.1.0.0/24", "1024-2047");
        let report = test.report();
        assert_eq!(report.failed, 0, "{mode}: {report:?}");
        assert!(report.responses >= 30 && report.responses == report.requests);
        assert!(report.bytes_received > 5_000 * report.responses);
        test.finish();
    }
    let plan = LoadPlan { protocol: "http:/no".parse().unwrap(), ..plan(LoadMode::Hold, 30) };
    let mut test = Test::begin(vec![Pair::new("http")], &plan, "10.1.0.0/24", "1024-2047");
    assert_eq!(failures(&test.report()), [(Failure::WrongResponse, 30)]);
    test.finish();
}

/// Answers a request and closes.
#[derive(Debug)]
struct Once;

impl App for Once {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        let asked = io.peek(event.id).ends_with(b"\r\n\r\n");
        if asked {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
            io.discard(event.id, usize::MAX);
            io.send(event.id, answer);
        }
        if asked || event.events.contains(Events::FINISHED) {
            io.close(event.id);
        }
    }
}

#[test]
fn rr_goes_on_with_a_server_that_closes_after_its_response() {
    let protocol = "http".parse().unwrap();
    let plan = LoadPlan { protocol, ..plan(LoadMode::RequestResponse, 20) };
    let pair = Pair::of(Some(Box::new(Once)), &TcpConfig::default(), &Bounds::default());
    let mut test = Test::begin(vec![pair], &plan, "10.1.0.0/24", "1024-2047");
    let report = test.report();
    assert_eq!((failures(&report), report.closed), (vec![], report.opened));
    assert!(report.responses > 1_000, "{}", report.responses);
    assert_eq!(test.pairs[0].stat(Counter::TcpRstOut), [0, 0]);
    test.finish();
}

#[test]
fn a_refused_port_fails_every_open_at_once() {
    for mode in [LoadMode::Hold, LoadMode::RequestResponse] {
        let pair = Pair::with(None, &TcpConfig::default(), &Bounds::default());
        let plan = LoadPlan { duration: Span::from_secs(3600), ..plan(mode, 100) };
        let mut test = Test::begin(vec![pair], &plan, "10.1.0.0/24", "1024-2047");
        let report = test.report();
        assert_eq!(failures(&report), [(Failure::Refused, 100)]);
        assert_eq!(report.connect.lost, 100);
        assert!(test.pairs[0].now.as_millis() < 100, "an hour of nothing is not held");
        test.finish();
    }
}

#[test]
fn the_connection_limit_fails_the_rest_of_the_ramp() {
    let bounds = Bounds { connections_max: 60, ..Bounds::default() };
    let pair = Pair::with(Some("echo"), &TcpConfig::default(), &bounds);
    let plan = plan(LoadMode::Hold, 100);
    let mut test = Test::begin(vec![pair], &plan, "10.1.0.0/24", "1024-2047");
    let report = test.report();
    assert_eq!((report.opened, report.closed), (100, 60));
    assert_eq!(failures(&report), [(Failure::ConnectionsMax, 40)]);
    test.finish();
}

#[test]
fn a_peer_that_never_answers_times_out_step_by_step() {
    let timeout = Span::from_millis(300);
    let plan = LoadPlan { timeout, outstanding_max: 10, ..plan(LoadMode::Hold, 25) };

    // No answer to the SYN: three rounds of ten at most.
    let mut pair = Pair::new("echo");
    pair.mute = true;
    let mut test = Test::begin(vec![pair], &plan, "10.1.0.0/24", "1024-2047");
    let report = test.report();
    assert_eq!(failures(&report), [(Failure::ConnectTimedOut, 25)]);
    let took = report.phase(LoadPhase::Ramp).unwrap().duration_ns / 1_000_000;
    assert!((900..920).contains(&took), "{took} ms");
    test.finish();

    // No response.
    let mut test = Test::begin(vec![Pair::new("discard")], &plan, "10.1.0.0/24", "1024-2047");
    let report = test.report();
    assert_eq!(failures(&report), [(Failure::ResponseTimedOut, 25)]);
    assert_eq!((report.requests, report.request.lost), (25, 25));
    test.finish();
}

/// Answers as an echo does, and keeps its side open for ever.
#[derive(Debug)]
struct Stubborn;

impl App for Stubborn {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        io.echo(event.id);
    }
}

/// Answers every request with the bytes that the request before it had.
#[derive(Debug, Default)]
struct Crossed {
    before: Vec<u8>,
}

impl App for Crossed {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        let bytes = io.peek(event.id).to_vec();
        io.discard(event.id, bytes.len());
        if !bytes.is_empty() {
            let answer = std::mem::replace(&mut self.before, bytes);
            io.send(event.id, &answer);
        }
        if event.events.contains(Events::FINISHED) {
            io.close(event.id);
        }
    }
}

#[test]
fn a_close_that_the_peer_does_not_finish_times_out() {
    let timeout = Span::from_millis(300);
    let plan = LoadPlan { timeout, ..plan(LoadMode::Hold, 25) };
    let app = Box::new(Stubborn);
    let pair = Pair::of(Some(app), &TcpConfig::default(), &Bounds::default());
    let mut test = Test::begin(vec![pair], &plan, "10.1.0.0/24", "1024-2047");
    let report = test.report();
    assert_eq!(failures(&report), [(Failure::CloseTimedOut, 25)]);
    assert_eq!(report.responses, 25);
    test.finish();
}

#[test]
fn bytes_of_another_stream_are_no_answer() {
    let plan = LoadPlan { timeout: Span::from_millis(300), ..plan(LoadMode::Hold, 25) };
    let app = Box::new(Crossed { before: Vec::new() });
    let pair = Pair::of(Some(app), &TcpConfig::default(), &Bounds::default());
    let mut test = Test::begin(vec![pair], &plan, "10.1.0.0/24", "1024-2047");
    let report = test.report();
    let crossed = [(Failure::ResponseTimedOut, 1), (Failure::WrongResponse, 24)];
    assert_eq!(failures(&report), crossed, "the first gets nothing, the others the wrong thing");
    test.finish();

    // A server that talks first is none either.
    let pair = Pair::new("small-writes:1x5");
    let mut test = Test::begin(vec![pair], &plan, "10.1.0.0/24", "1024-2047");
    assert_eq!(failures(&test.report()), [(Failure::WrongResponse, 25)]);
    test.finish();
}

/// Answers with the request and one byte more.
#[derive(Debug)]
struct Generous;

impl App for Generous {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        if event.end.is_none() && io.echo(event.id) > 0 {
            io.send(event.id, b"!");
        }
    }
}

#[test]
fn more_than_was_asked_for_is_no_answer() {
    for request_bytes in [1, 64] {
        let plan = LoadPlan { request_bytes, ..plan(LoadMode::Hold, 25) };
        let pair = Pair::of(Some(Box::new(Generous)), &TcpConfig::default(), &Bounds::default());
        let mut test = Test::begin(vec![pair], &plan, "10.1.0.0/24", "1024-2047");
        assert_eq!(failures(&test.report()), [(Failure::WrongResponse, 25)]);
        test.finish();
    }
}

#[test]
fn connections_that_the_peer_ends_while_held_are_failures() {
    let pair = Pair::new("echo");
    let plan = LoadPlan { duration: Span::from_secs(1), ..plan(LoadMode::Hold, 40) };
    let mut test = Test::begin(vec![pair], &plan, "10.1.0.0/24", "1024-2047");
    test.until_phase(LoadPhase::Hold);
    test.pairs[0].on_server(|desk| {
        for slot in 0..30 {
            let id = desk.stack.conn_info(slot).unwrap().id;
            if slot < 20 {
                desk.stack.abort(desk.now, id);
            } else {
                desk.stack.close(desk.now, id);
            }
        }
    });
    let report = test.report();
    assert_eq!(failures(&report), [(Failure::Reset, 20), (Failure::ClosedEarly, 10)]);
    assert_eq!((report.closed, report.responses), (10, 10));
    test.finish();
}

#[test]
fn a_test_that_was_given_up_does_not_disturb_the_next() {
    let plan = plan(LoadMode::Hold, 100);
    let mut test = Test::begin(vec![Pair::new("echo")], &plan, "10.1.0.1/32", "1024-2023");
    test.until_phase(LoadPhase::Hold);
    let again = LoadPlan { outstanding_max: 5, ..plan };
    let mut test = Test::begin(test.pairs, &again, "10.1.0.2/32", "1024-2023");
    test.until_phase(LoadPhase::Hold);
    // The old connections say something: nobody counts them any more.
    test.pairs[0].on_server(|desk| {
        for slot in 0..100 {
            let id = desk.stack.conn_info(slot).unwrap().id;
            desk.stack.send(desk.now, id, b"hello");
        }
    });
    while !test.conductor.is_done() {
        test.step();
    }
    let part = test.pairs[0].on_client(|desk| load(desk).part());
    assert_eq!((part.opened, part.closed, part.responses), (100, 100, 100));
    assert_eq!(test.pairs[0].stat(Counter::ConnsAborted)[0], 100);
    test.finish();
}

#[test]
fn a_stop_closes_what_is_open_in_every_mode() {
    for (mode, phase) in [
        (LoadMode::Hold, LoadPhase::Ramp),
        (LoadMode::Hold, LoadPhase::Hold),
        (LoadMode::Hold, LoadPhase::Exchange),
        (LoadMode::RequestResponse, LoadPhase::Run),
        (LoadMode::ConnectionsPerSecond, LoadPhase::Run),
    ] {
        let plan = LoadPlan { exchanges: 1000, outstanding_max: 50, ..plan(mode, 300) };
        let mut test = Test::begin(vec![Pair::new("echo")], &plan, "10.1.0.0/24", "1024-2047");
        test.until_phase(phase);
        for _ in 0..5 {
            test.step();
        }
        assert_eq!(test.conductor.phase(), phase);
        test.conductor.stop();
        test.step();
        assert_eq!(test.conductor.phase(), LoadPhase::Close);
        let report = test.report();
        assert!(report.interrupted);
        assert_eq!((report.failed, report.closed), (0, report.opened), "{mode} in {phase}");
        test.finish();
    }
}

/// A NIC whose table leads `run` places to queue 0, as many to queue 1, and so on.
fn nic(run: u16) -> Rss {
    let table = (0..128).map(|place| (place / run) % 2).collect();
    Rss::new(&Toeplitz::KEY, Hashed::AddressesAndPorts, IndirectionTable::from_queues(table))
}

impl Test {
    /// Begins a test whose workers open what arrives at their queue.
    fn begin_by_queue(mut pairs: Vec<Pair>, plan: &LoadPlan, source: &str, rss: &Rss) -> Self {
        let n = pairs.len() as u32;
        let ports = "1024-65535".parse().unwrap();
        let tuples = TuplePlan::new(&[source.parse().unwrap()], ports, &plan.dst);
        let spread = Spread::by_queue(tuples, plan.connections.0, rss, n);
        spread.check("d0").expect("it fits");
        for (worker, pair) in pairs.iter_mut().enumerate() {
            let own = QueuePorts::new(rss.clone(), worker as u16);
            let tuples = spread.tuples(worker, 7);
            pair.on_client(|desk| {
                desk.stack.set_queue_ports(Some(own));
                let load = Load::with_tuples(plan, tuples, worker, desk.now);
                desk.apps.load = Some(Box::new(load));
            });
        }
        let conductor = Conductor::new(plan.clone(), n as usize, pairs[0].now);
        Test { pairs, conductor }
    }

    /// At how many connections of each worker segments arrive, and do not.
    fn arrivals(&mut self, rss: &Rss) -> Vec<[usize; 2]> {
        let counted = self.pairs.iter_mut().enumerate().map(|(worker, pair)| {
            let rss = rss.clone();
            pair.on_client(move |desk| {
                let slots = 0..desk.stack.n_slots();
                let conns: Vec<_> = slots.filter_map(|slot| desk.stack.conn_info(slot)).collect();
                let arrives = |tuple| usize::from(rss.queue(&tuple)) == worker;
                let here =
                    conns.iter().filter(|c| arrives(FourTuple::new(c.local, c.remote))).count();
                [here, conns.len() - here]
            })
        });
        counted.collect()
    }
}

#[test]
fn workers_open_what_arrives_at_their_queue() {
    let plan = plan(LoadMode::Hold, 500);
    let pairs = vec![Pair::new("echo"), Pair::new("echo")];
    let mut test = Test::begin_by_queue(pairs, &plan, "10.1.0.0/30", &nic(3));
    test.until_phase(LoadPhase::Hold);
    assert_eq!(test.arrivals(&nic(3)), [[250, 0], [250, 0]]);
    let report = test.report();
    assert_eq!((report.opened, report.closed, report.failed), (500, 500, 0));
    for pair in &mut test.pairs {
        assert!(pair.stat(Counter::RssChecked)[0] > 250);
        assert_eq!(pair.stat(Counter::RssMismatched)[0], 0);
    }
}

/// The table changes under a test; what each worker has some time later, by where it arrives then.
fn arrivals_after_a_change(to: &Rss) -> Vec<[usize; 2]> {
    let run = plan(LoadMode::ConnectionsPerSecond, 20);
    let plan = LoadPlan { close: CloseWith::Rst, duration: Span::from_millis(150), ..run };
    let pairs = vec![Pair::new("echo"), Pair::new("echo")];
    let mut test = Test::begin_by_queue(pairs, &plan, "10.1.0.0/30", &nic(64));
    (0..50).for_each(|_| test.step());
    for (worker, pair) in test.pairs.iter_mut().enumerate() {
        let own = QueuePorts::new(to.clone(), worker as u16);
        pair.on_client(|desk| {
            desk.stack.set_queue_ports(Some(own));
            load(desk).on_hash_changed();
        });
    }
    let mut arrivals = Vec::new();
    for _ in 0..200 {
        (0..5).for_each(|_| test.step());
        arrivals = test.arrivals(to);
        if arrivals.iter().all(|worker| worker[0] + worker[1] == 10) {
            break;
        }
    }
    let report = test.report();
    assert_eq!((report.failed, report.opened), (0, report.closed));
    arrivals
}

#[test]
fn after_a_change_of_the_table_a_run_opens_what_arrives_then() {
    assert_eq!(arrivals_after_a_change(&nic(32)), [[10, 0], [10, 0]]);
}

#[test]
fn when_nothing_of_a_worker_arrives_any_more_it_goes_on_all_the_same() {
    let other = (0..128).map(|place| 1 - place / 64).collect();
    let hashed = Hashed::AddressesAndPorts;
    let other = Rss::new(&Toeplitz::KEY, hashed, IndirectionTable::from_queues(other));
    assert_eq!(arrivals_after_a_change(&other), [[0, 10], [0, 10]]);
}
