//! Messages survive the way over the socket, their lines keep the promised bounds, and what is no
//! message is refused.

use std::collections::BTreeMap;

use barewire_api::config::{LoadPlan, Ownership};
use barewire_api::control::{
    CONNS_MAX, ConnFilter, ConnId, ConnPage, ConnRow, ConnState, ErrorCode, Frames, HandedOver,
    LoadProgress, PAYLOAD_BYTES_MAX, Payload, RECEIVED_BYTES_MAX, REQUEST_BYTES_MAX,
    RESPONSE_BYTES_MAX, RecordBytes, Request, Response, Role, RssStatus, Status, WorkerStatus,
    XdpMode, from_hex, from_line, to_hex, to_line,
};
use barewire_api::failure::Failure;
use barewire_api::impair::{Direction, Impaired, Impairment, Impairments};
use barewire_api::report::{LoadPart, LoadPhase, LoadReport, PhaseReport, Surroundings};
use barewire_api::unit::{Count, Span};

fn row() -> ConnRow {
    ConnRow {
        id: ConnId { worker: u16::MAX, slot: u32::MAX, generation: u32::MAX },
        local: "255.255.255.254:65535".parse().expect("an address"),
        remote: "255.255.255.253:65535".parse().expect("an address"),
        state: ConnState::SynReceived,
        role: Role::Passive,
        app: "small-writes:1000000x67108864".into(),
        dormant: false,
        snd_una: u32::MAX,
        snd_nxt: u32::MAX,
        snd_wnd: u32::MAX,
        rcv_nxt: u32::MAX,
        rcv_wnd: u32::MAX,
        cwnd: u32::MAX,
        ssthresh: u32::MAX,
        srtt_us: u64::MAX,
        rttvar_us: u64::MAX,
        rto_us: u64::MAX,
        mss: u16::MAX,
        path_mtu: Some(u16::MAX),
        retransmits: u64::MAX,
        send_bytes: u64::MAX,
        recv_bytes: u64::MAX,
        timestamps: false,
        sack: false,
        window_scale: false,
        ecn: false,
        congestion: "newreno".into(),
        phase: "recovery".into(),
        pipe_bytes: u64::MAX,
    }
}

fn report() -> LoadReport {
    let mut part = LoadPart { opened: 10, closed: 7, open: 1, ..LoadPart::default() };
    part.fail(Failure::Refused);
    part.fail(Failure::ResponseTimedOut);
    part.requests = 8;
    part.responses = 7;
    (1..=7).for_each(|ms| part.request.record(ms * 1_000_000));
    part.request.record_lost();
    let plan = LoadPlan {
        connections: Count(10),
        dst: vec!["10.99.0.1:7000".parse().expect("an address")],
        ..LoadPlan::default()
    };
    let phases =
        vec![PhaseReport { phase: LoadPhase::Ramp, duration_ns: 2_000_000_000, count: 10 }];
    let frames = Frames { free: 3, held: 1, total: 4, ..Frames::default() };
    let around = Surroundings {
        n_workers: 2,
        peak_open: 9,
        bytes_resident: 3_600,
        frames,
        interrupted: false,
        impairments: Impairments::default(),
    };
    LoadReport::new(plan, phases, &part, &around)
}

fn impairments() -> Impairments {
    let loss = "1%".parse().expect("a share");
    let impairment = Impairment { loss, ..Impairment::default() };
    Impairments { tx: Some(Impaired { impairment, seed: u32::MAX }), rx: None }
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        pid: 7,
        uptime_ms: 1,
        dev: "d0".into(),
        driver: "veth".into(),
        ownership: Ownership::Owned,
        addresses: vec!["10.99.0.2/24".parse().expect("a prefix")],
        draining: false,
        rss: RssStatus { reason: "one queue".into(), ..RssStatus::default() },
        handed_over: vec![HandedOver { from: 0, to: 1, frames: 9 }],
        workers: vec![WorkerStatus {
            worker: 0,
            queue: 0,
            cpu: 1,
            xdp_mode: XdpMode::Native,
            zero_copy: false,
            busy_poll: true,
            needs_wakeup: true,
            huge_pages: false,
            connections: 3,
            time_wait: 1,
            awake: 1,
            records: RecordBytes { asleep: 64, ..RecordBytes::default() },
            buffer_bytes: 0,
            frames: Frames { fill: 2, total: 2, ..Frames::default() },
        }],
        connections: 3,
        time_wait: 1,
        bytes_resident: 900,
        bytes_per_connection: Some(300),
        impairments: impairments(),
        listeners: vec!["80=http".parse().expect("a listener")],
        load: Some(LoadProgress { report: Some(Box::new(report())), ..LoadProgress::default() }),
    }
}

#[test]
fn requests_survive_the_socket() {
    let id = ConnId { worker: 0, slot: 12, generation: 1 };
    for request in [
        Request::Hello { protocol: 1 },
        Request::Status,
        Request::Config,
        Request::Conns { cursor: Some(9), limit: 256, filter: ConnFilter::default() },
        Request::Connect {
            remote: "192.0.2.7:4000".parse().expect("an address"),
            local: None,
            src_port: Some(33_333),
            timeout: Span::from_secs(5),
        },
        Request::Send { id, payload: Payload::Text("hello\n".into()) },
        Request::Recv { id, bytes_min: 5, timeout: Span::from_millis(10) },
        Request::Close { id },
        Request::Abort { id },
        Request::ListenAdd { listen: "80=http".parse().expect("a listener") },
        Request::ListenRemove { port: "10.9.0.1:80".parse().expect("an address") },
        Request::LoadStart { plan: LoadPlan::default() },
        Request::LoadStatus,
        Request::LoadStop,
        Request::ImpairSet {
            direction: Direction::Both,
            impairment: Impairment { delay: Span::from_millis(5), ..Impairment::default() },
            seed: Some(7),
        },
        Request::ImpairOff { direction: Direction::Rx },
        Request::Drain,
        Request::Stop,
    ] {
        let line = to_line(&request);
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line}");
        let back: Request = from_line(line.as_bytes()).expect(&line);
        assert_eq!(back, request);
    }
    let line = to_line(&Request::Close { id });
    assert_eq!(line, "{\"request\":\"close\",\"id\":\"0:12:1\"}\n");
}

#[test]
fn responses_survive_the_socket() {
    let id = ConnId { worker: 0, slot: 12, generation: 1 };
    let failures = BTreeMap::from([(Failure::Refused, 3)]);
    for response in [
        Response::Hello { protocol: 1, version: "0.1.0".into(), pid: 7, page_fd: 9 },
        Response::Status(Box::new(status())),
        Response::Config(Box::default()),
        Response::Conns(ConnPage { rows: vec![row()], next: Some(4) }),
        Response::Connected { id, local: "10.99.0.2:33333".parse().expect("an address") },
        Response::Failed { reason: Failure::NoNeighbor },
        Response::Sent { bytes: 5 },
        Response::Received { hex: "00ff".into(), bytes_total: 2, end: true },
        Response::Load(Box::new(LoadProgress { failures, ..LoadProgress::default() })),
        Response::Impairments(impairments()),
        Response::Done,
        Response::Error { code: ErrorCode::Busy, message: "a load test runs already".into() },
    ] {
        let line = to_line(&response);
        let back: Response = from_line(line.as_bytes()).expect(&line);
        assert_eq!(back, response);
    }
}

#[test]
fn the_longest_messages_fit_their_bounds() {
    let rows = vec![row(); CONNS_MAX as usize];
    let page = Response::Conns(ConnPage { rows, next: Some(u64::MAX) });
    assert!(to_line(&page).len() <= RESPONSE_BYTES_MAX);
    let hex = "f".repeat(2 * RECEIVED_BYTES_MAX);
    let received = Response::Received { hex, bytes_total: u64::MAX, end: false };
    assert!(to_line(&received).len() <= RESPONSE_BYTES_MAX);
    let mut plan = LoadPlan::default();
    let dst = "255.255.255.253:65535".parse().expect("an address");
    plan.dst = vec![dst; barewire_api::config::DESTINATIONS_MAX];
    plan.src = vec!["255.255.255.240/28".parse().expect("a prefix"); 64];
    let request = Request::LoadStart { plan };
    assert!(to_line(&request).len() <= REQUEST_BYTES_MAX);
    let id = ConnId { worker: u16::MAX, slot: u32::MAX, generation: u32::MAX };
    // The worst text of all: every byte is written as a six-byte escape.
    let controls = Payload::Text("\u{1}".repeat(PAYLOAD_BYTES_MAX));
    assert!(to_line(&Request::Send { id, payload: controls }).len() <= REQUEST_BYTES_MAX);
}

#[test]
fn what_is_no_request_is_refused() {
    for line in [
        "",
        "{}",
        "null",
        "{\"request\":\"fly\"}",
        "{\"request\":\"close\"}",
        "{\"request\":\"close\",\"id\":\"1\"}",
        "{\"request\":\"close\",\"id\":\"0:1:2\",\"more\":1}",
        "{\"request\":\"status\"} x",
        "{\"request\":\"conns\",\"limit\":-1}",
    ] {
        let parsed = from_line::<Request>(line.as_bytes());
        let error = parsed.expect_err(line).to_string();
        assert!(error.starts_with("expected a line of JSON in the control protocol"), "{error}");
    }
}

#[test]
fn payloads_are_bounded() {
    assert_eq!(Payload::Text("hi".into()).bytes(), Ok(b"hi".to_vec()));
    assert_eq!(Payload::Hex("00fF".into()).bytes(), Ok(vec![0, 255]));
    assert_eq!(Payload::Zeros(3).bytes(), Ok(vec![0; 3]));
    for payload in [
        Payload::Text(String::new()),
        Payload::Zeros(0),
        Payload::Zeros(u32::MAX),
        Payload::Hex("0".into()),
        Payload::Hex("zz".into()),
        Payload::Hex("é0".into()),
    ] {
        assert!(payload.bytes().is_err(), "{payload:?} must be refused");
    }
    assert_eq!(from_hex(&to_hex(b"hello")), Ok(b"hello".to_vec()));
}

#[test]
fn the_report_prints_figures_that_can_be_checked() {
    let report = report();
    assert!(report.adds_up() && report.frames.balances());
    let text = report.to_string();
    for part in [
        "load hold: 10 connections to 10.99.0.1:7000, echo of 64 bytes, 2 workers",
        "ramp             2.00s  10 opened, 5/s",
        "connections  10 opened = 7 closed + 1 open + 2 failed\n",
        "9 open at the same time",
        "requests     8 sent, 7 answered, 1 not",
        "p50 4.00ms",
        "max never; 1 without an answer count as slower",
        "3,600 bytes resident at the peak, 400 per connection",
        "frames       4 of 4 accounted for: conserved",
        "* refused",
        "* response-timed-out",
    ] {
        assert!(text.contains(part), "expected `{part}` in\n{text}");
    }
    assert!(!text.contains("impaired"), "{text}");
    let impaired = LoadReport { impairments: impairments(), ..report.clone() };
    let words = "* impaired: the engine spoilt its own frames (tx loss 1%, seed 4294967295)\n";
    assert!(impaired.to_string().contains(words), "{impaired}");
    let broken = LoadReport { closed: 6, ..report };
    assert!(!broken.adds_up() && broken.to_string().contains("DOES NOT ADD UP"));
}

#[test]
fn merged_parts_are_one_part() {
    let mut one = LoadPart { opened: 2, open: 1, ..LoadPart::default() };
    one.fail(Failure::Refused);
    let mut two = LoadPart { opened: 3, closed: 2, ..LoadPart::default() };
    two.fail(Failure::Refused);
    two.connect.record(5_000);
    one.merge(&two);
    assert_eq!((one.opened, one.open, one.closed, one.failed()), (5, 1, 2, 2));
    assert_eq!(one.connect.percentiles().count, 1);
}
