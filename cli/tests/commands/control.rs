//! Commands that talk to a daemon that runs: what they ask, what they print, and with which status
//! they end.

use std::os::fd::AsRawFd;

use crate::fake::{self, Daemon, barewire};
use barewire_api::config::{Config, Ownership};
use barewire_api::control::{
    CONNS_MAX, ConnId, ConnPage, ConnRow, ConnState, ErrorCode, Frames, HandedOver, HashFunction,
    HashedFields, Payload, RecordBytes, Request, Response, Role, RssChange, RssStatus, Status,
    WorkerStatus, XdpMode,
};
use barewire_api::failure::Failure;
use barewire_api::impair::Impairments;
use barewire_api::page::{CounterDef, CounterKind, Layout, MAGIC};
use barewire_api::unit::Span;

const ID: ConnId = ConnId { worker: 0, slot: 12, generation: 1 };

fn addr(text: &str) -> std::net::SocketAddrV4 {
    text.parse().expect("an address and port")
}

#[test]
fn connect_says_connected_and_which_one() {
    let daemon = Daemon::new(|request| {
        let Request::Connect { remote, src_port, .. } = request else { panic!("{request:?}") };
        assert_eq!((remote, src_port), (addr("192.0.2.7:4000"), Some(33_333)));
        Response::Connected { id: ID, local: addr("10.99.0.2:33333") }
    });
    let flags = ["connect", "192.0.2.7:4000", "--src-port", "33333"];
    let control = ["--control", daemon.path()];
    for line in [[&control[..], &flags].concat(), [&flags[..], &control].concat()] {
        let ended = barewire(&line);
        assert_eq!((ended.out.as_str(), ended.status), ("connected\n", 0));
        assert_eq!(ended.err, "connection 0:12:1 from 10.99.0.2:33333\n");
    }
}

#[test]
fn connect_says_why_it_failed() {
    let daemon = Daemon::new(|_| Response::Failed { reason: Failure::Refused });
    let ended = barewire(&["--control", daemon.path(), "connect", "192.0.2.7:4000"]);
    assert_eq!(ended.out, "failed: connection refused: nothing listens on that port\n");
    assert_eq!((ended.err.as_str(), ended.status), ("", 1));
}

#[test]
fn send_prints_the_reply_it_expects() {
    let daemon = Daemon::new(|request| match request {
        Request::Send { id: ID, payload: Payload::Text(text) } if text == "hello" => {
            Response::Sent { bytes: 5 }
        }
        Request::Recv { id: ID, bytes_min, .. } => {
            let end = bytes_min > 5;
            Response::Received { hex: "68656c6c6f".into(), bytes_total: 5, end }
        }
        other => panic!("{other:?}"),
    });
    let send = ["--control", daemon.path(), "send", "0:12:1", "--text", "hello"];
    let ended = barewire(&[&send[..], &["--expect-reply", "5"]].concat());
    assert_eq!((ended.out.as_str(), ended.status), ("sent 5\nhello\n", 0));
    let ended = barewire(&[&send[..], &["--expect-reply", "6"]].concat());
    assert_eq!(ended.err, "barewire: expected 6 bytes, found 5 before the peer closed\n");
    assert_eq!(ended.status, 1);
}

#[test]
fn orders_are_carried_out() {
    let daemon = Daemon::new(|_| Response::Done);
    for (line, out, request) in [
        (&["close", "0:12:1"][..], "closed 0:12:1\n", Request::Close { id: ID }),
        (&["abort", "0:12:1"], "aborted 0:12:1\n", Request::Abort { id: ID }),
        (&["drain"], "draining\n", Request::Drain),
        (
            &["listen", "add", "80=http"],
            "listening 80=http\n",
            Request::ListenAdd { listen: "80=http".parse().expect("a listener") },
        ),
        (
            &["listen", "remove", "80"],
            "removed 80\n",
            Request::ListenRemove { port: "80".parse().expect("a port") },
        ),
    ] {
        let ended = barewire(&[&["--control", daemon.path()], line].concat());
        assert_eq!((ended.out.as_str(), ended.status), (out, 0), "{}", ended.err);
        assert_eq!(daemon.last_request(), request);
    }
}

#[test]
fn refusals_become_sentences_and_statuses() {
    for (code, status) in [
        (ErrorCode::NotFound, 2),
        (ErrorCode::Refused, 2),
        (ErrorCode::Busy, 3),
        (ErrorCode::Stopping, 3),
    ] {
        let daemon =
            Daemon::new(move |_| Response::Error { code, message: "there is no 0:12:1".into() });
        let ended = barewire(&["--control", daemon.path(), "close", "0:12:1"]);
        assert_eq!(ended.err, "barewire: there is no 0:12:1\n");
        assert_eq!((ended.out.as_str(), ended.status), ("", status));
    }
}

#[test]
fn bad_flags_and_missing_daemons_are_told_apart() {
    for (line, status, part) in [
        (&["--control", "/nonexistent/x", "status"][..], 3, "no daemon listens at /nonexistent/x"),
        (&["close", "12"], 2, "expected a connection such as 0:12:1"),
        (&["send", "0:0:0"], 2, "--text"),
        (&["connect", "[::1]:80"], 2, "IPv6 is not supported yet by the stack"),
        (&["connect", "1.2.3.4:0"], 2, "expected a port from 1 to 65535"),
        (&["load", "hold", "--dst", "10.0.0.2:7000"], 2, "give --dev to start an engine"),
        (
            &["load", "hold", "--control=/x", "--set=tcp.ttl=9", "--dst=10.0.0.2:7000"],
            2,
            "expected no flags for the engine, which runs already",
        ),
        (&["load", "hold", "--control=/x", "--check"], 2, "leave out --check"),
        (&["load", "held"], 2, "expected hold, rr or cps"),
        (
            &[
                "load",
                "hold",
                "--dev=d0",
                "--addr=10.99.0.3/24",
                "--src=10.1.0.0/29",
                "--dst=10.99.0.2:7000",
                "--connections=1m",
            ],
            2,
            "1,000,000 connections need 16 source addresses",
        ),
        (
            &["load", "hold", "--dev=d0", "--dst=10.9.0.2:7", "--connections=1e12"],
            2,
            "interface.addresses",
        ),
        (
            &[
                "load",
                "hold",
                "--dev=d0",
                "--addr=10.9.0.3/24",
                "--dst=10.9.0.2:7",
                "--connections=1e12",
            ],
            2,
            "load.connections: expected from 1 to 100,000,000",
        ),
        (&["load", "rr", "--expect", "p98<1"], 2, "METRIC OPERATOR VALUE"),
        (&["serve", "--dev=d0"], 2, "give --addr"),
        (&["serve", "--dev=d0", "--listen=70000=echo"], 2, "found `70000`"),
        (&["frobnicate"], 2, "unrecognized subcommand"),
    ] {
        let ended = barewire(line);
        assert_eq!(ended.status, status, "{line:?}: {}", ended.err);
        assert!(ended.err.starts_with("barewire: "), "{line:?}: {}", ended.err);
        assert!(ended.err.contains(part), "{line:?}: expected `{part}` in\n{}", ended.err);
    }
}

#[test]
fn check_prints_the_whole_configuration() {
    let ended = barewire(&[
        "serve",
        "--check",
        "--dev=d0",
        "--addr=10.99.0.2/24",
        "--listen=80=http",
        "--control=/run/x.sock",
    ]);
    assert_eq!(ended.status, 0, "{}", ended.err);
    for part in ["dev = \"d0\"", "app = \"http\"", "path = \"/run/x.sock\"", "rto_min = \"200ms\""]
    {
        assert!(ended.out.contains(part), "expected `{part}` in\n{}", ended.out);
    }
    let config = Config::parse(&ended.out).expect("prints a configuration");
    assert_eq!(config.check(), Ok(()));
}

#[test]
fn conns_asks_page_by_page() {
    let daemon = Daemon::new(|request| {
        let Request::Conns { cursor, limit, filter } = request else { panic!("{request:?}") };
        assert_eq!((limit, filter.state), (CONNS_MAX, Some(ConnState::Established)));
        let next = match cursor {
            None => Some(7),
            // A page with nothing on it is not the last one.
            Some(7) => Some(8),
            Some(_) => None,
        };
        let rows = if cursor == Some(7) { vec![] } else { vec![row(cursor.unwrap_or(0))] };
        Response::Conns(ConnPage { rows, next })
    });
    let line = ["--control", daemon.path(), "conns", "--state", "established"];
    let ended = barewire(&[&line[..], &["--json"]].concat());
    assert_eq!(ended.status, 0, "{}", ended.err);
    let rows: Vec<ConnRow> = serde_json::from_str(&ended.out).expect("prints an array of rows");
    assert_eq!(rows, [row(0), row(8)]);
    let ended = barewire(&line);
    assert_eq!(ended.out.lines().count(), 3, "{}", ended.out);
    assert!(ended.out.contains("ESTABLISHED  10.99.0.2:80"), "{}", ended.out);
}

fn row(slot: u64) -> ConnRow {
    ConnRow {
        id: ConnId { worker: 0, slot: slot as u32, generation: 1 },
        local: addr("10.99.0.2:80"),
        remote: addr("10.1.0.1:5000"),
        state: ConnState::Established,
        role: Role::Passive,
        app: "echo".into(),
        dormant: true,
        snd_una: 1,
        snd_nxt: 1,
        snd_wnd: 65_535,
        rcv_nxt: 1,
        rcv_wnd: 65_535,
        cwnd: 14_600,
        ssthresh: u32::MAX,
        srtt_us: 31,
        rttvar_us: 4,
        rto_us: 200_000,
        mss: 1_460,
        path_mtu: None,
        retransmits: 0,
        send_bytes: 0,
        recv_bytes: 0,
        timestamps: true,
        sack: true,
        window_scale: true,
        ecn: false,
        congestion: "cubic".into(),
        phase: "open".into(),
        pipe_bytes: 0,
    }
}

#[test]
fn the_configuration_is_printed_as_a_file_that_reads_back() {
    let mut config = Config::default();
    config.tcp.user_timeout = Span::from_secs(30);
    let told = config.clone();
    let daemon = Daemon::new(move |_| Response::Config(Box::new(told.clone())));
    let ended = barewire(&["--control", daemon.path(), "config"]);
    assert_eq!((Config::parse(&ended.out), ended.status), (Ok(config.clone()), 0), "{}", ended.err);
    assert!(ended.out.contains("syn_cookies = \"auto\""), "{}", ended.out);
    let ended = barewire(&["--control", daemon.path(), "config", "--json"]);
    let printed: Config = serde_json::from_str(&ended.out).expect("prints a configuration");
    assert_eq!((printed, daemon.last_request()), (config, Request::Config));
}

#[test]
fn an_empty_table_is_an_empty_array() {
    let daemon = Daemon::new(|_| Response::Conns(ConnPage::default()));
    let ended = barewire(&["--control", daemon.path(), "conns", "--json"]);
    let rows: Vec<ConnRow> = serde_json::from_str(&ended.out).expect("prints an array");
    assert!(rows.is_empty() && ended.status == 0);
}

pub(crate) fn status(held: u64) -> Status {
    Status {
        version: "0.1.0".into(),
        pid: 7,
        uptime_ms: 61_000,
        dev: "d0".into(),
        driver: "veth".into(),
        ownership: Ownership::Owned,
        addresses: vec!["10.99.0.2/24".parse().expect("a prefix")],
        draining: true,
        workers: vec![WorkerStatus {
            worker: 0,
            queue: 0,
            cpu: 1,
            xdp_mode: XdpMode::Native,
            zero_copy: false,
            busy_poll: false,
            needs_wakeup: true,
            huge_pages: false,
            connections: 1_000,
            time_wait: 1,
            awake: 20,
            records: RecordBytes { asleep: 64_000, awake: 9_000, time_wait: 26, table: 7_400 },
            buffer_bytes: 0,
            frames: Frames { fill: 2, held, total: 3, ..Frames::default() },
        }],
        rss: RssStatus {
            reason: "ports are chosen by class".into(),
            hash_function: HashFunction::Toeplitz,
            hashed: HashedFields::AddressesAndPorts,
            key_known: true,
            table_len: 128,
            checked: 2_000,
            mismatched: 3,
            changes: vec![RssChange { uptime_ms: 5_400, what: "another key".into() }],
            ..RssStatus::default()
        },
        handed_over: vec![
            HandedOver { from: 0, to: 1, frames: 1_500 },
            HandedOver { from: 1, to: 0, frames: 7 },
        ],
        connections: 1_000,
        time_wait: 1,
        bytes_resident: 300_000,
        bytes_per_connection: Some(300),
        impairments: Impairments::default(),
        listeners: vec!["80=http".parse().expect("a listener")],
        load: None,
    }
}

#[test]
fn status_tells_what_the_kernel_granted() {
    let daemon = Daemon::new(|_| Response::Status(Box::new(status(1))));
    let ended = barewire(&["--control", daemon.path(), "status"]);
    for part in [
        "barewired 0.1.0 (pid 7), up 61s, draining",
        "d0 (veth), owned 10.99.0.2/24",
        "1,000 and 1 in TIME-WAIT",
        "300,000 bytes resident, 300 per connection",
        "listeners    80=http",
        "rss          ports are chosen by class\n",
        "hash toeplitz, key known, table of 128, hashed addresses-and-ports, auto wanted\n",
        "2,000 frames compared, 3 of them arrived at another queue than foretold  *\n",
        "* rss        after 5s: another key\n",
        "handed over  frames from worker 0 to 1 1,500, 1 to 0 7\n",
        "queue 0, cpu 1, native XDP, copy, need-wakeup\n",
        "1,000 connections, 20 of them awake, 1 in TIME-WAIT\n",
        "bytes 80,426 = 64,000 records + 9,000 awake + 26 TIME-WAIT + 7,400 table; 0 buffered\n",
        "frames 3 = 0 free + 2 fill + 0 rx + 0 tx + 0 completion + 1 held\n",
    ] {
        assert!(ended.out.contains(part), "expected `{part}` in\n{}", ended.out);
    }
    let ended = barewire(&["--control", daemon.path(), "status", "--json"]);
    let printed: Status = serde_json::from_str(&ended.out).expect("prints a status");
    assert_eq!((printed, ended.status), (status(1), 0));
    let daemon = Daemon::new(|_| Response::Status(Box::new(status(0))));
    let ended = barewire(&["--control", daemon.path(), "status"]);
    assert!(ended.out.contains("0 held  * NOT CONSERVED"), "{}", ended.out);
}

#[test]
fn stats_reads_the_page() {
    let def = |name, kind, help| CounterDef { name, unit: "frames", kind, help };
    let layout = Layout::new(
        2,
        &[
            def("rx_frames", CounterKind::Count, "Frames received."),
            def("drop_vlan", CounterKind::Drop, "Frames of a VLAN."),
            def("tx_frames", CounterKind::Count, "Frames sent."),
        ],
    )
    .expect("a layout");
    let mut words = layout.head(0, 1);
    words.resize(layout.words(), 0);
    words[0] = MAGIC;
    words[layout.worker_block(0)] = 1_000;
    words[layout.worker_block(1)] = 234;
    words[layout.daemon_block() + 1] = 5;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let dir = fake::Dir::new();
    std::fs::write(dir.join("page"), bytes).expect("writes the page");
    let page = std::fs::File::open(dir.join("page")).expect("opens the page");
    let fd = u32::try_from(page.as_raw_fd()).expect("an open file has a number");
    let daemon = Daemon::with_page(fd, |request| panic!("stats needs no {request:?}"));

    let stats = |flags: &[&str]| {
        let ended = barewire(&[&["--control", daemon.path(), "stats"], flags].concat());
        assert_eq!(ended.status, 0, "{}", ended.err);
        ended.out
    };
    let json: serde_json::Value = serde_json::from_str(&stats(&["--json"])).expect("prints JSON");
    assert_eq!(json, serde_json::json!({"rx_frames": 1_234, "drop_vlan": 5, "tx_frames": 0}));
    let json: serde_json::Value =
        serde_json::from_str(&stats(&["--json", "--workers", "rx"])).expect("prints JSON");
    assert_eq!(json, serde_json::json!({"rx_frames": [1_000, 234]}));
    let table = stats(&["--workers", "--help-counters"]);
    assert!(table.contains("1,234 frames  [1,000 234]"), "{table}");
    assert!(table.contains("* drop_vlan") && table.contains("drop: Frames of a VLAN."), "{table}");
    assert!(!table.contains("tx_frames"), "zeros are left out:\n{table}");
    assert!(stats(&["--all"]).contains("tx_frames"));
    assert_eq!(stats(&["vlan"]).lines().count(), 1);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let daemon = Daemon::new(|request| {
        let Request::Conns { cursor, .. } = request else { panic!("{request:?}") };
        let at = cursor.unwrap_or(0);
        // More than any pipe holds.
        let next = (at < 200).then_some(at + 1);
        Response::Conns(ConnPage { rows: vec![row(at); CONNS_MAX as usize], next })
    });
    let mut child = fake::command(&["--control", daemon.path(), "conns"]);
    let out = child.stdout.take().expect("has a standard output");
    drop(out);
    let ended = child.wait_with_output().expect("ends");
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

#[test]
fn completions_and_manual_pages_are_made() {
    let ended = barewire(&["completions", "bash"]);
    assert!(ended.status == 0 && ended.out.contains("_barewire()"));
    let ended = barewire(&["man"]);
    assert!(ended.status == 0 && ended.out.contains(".TH barewire"), "{}", ended.out);
    let dir = fake::Dir::new();
    let ended = barewire(&["man", "--dir", dir.path()]);
    assert_eq!(ended.status, 0, "{}", ended.err);
    for page in ["barewire.1", "barewire-load.1", "barewired.1"] {
        assert!(dir.join(page).is_file(), "{page} is missing");
    }
}
