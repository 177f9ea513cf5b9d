//! The daemon against the kernel's own TCP over a veth pair, in both roles and both ownerships, and
//! the interface before, during and after: whose it is, and who answers on it.

use crate::lab::{Daemon, ENGINE, KERNEL, OWNED, PEER, Peer, eventually, mount_bpffs};
use crate::netns::{isolated, run};
use barewire_ebpf::{AttachMode, LoadOptions, OnMissing, Steer};
use barewire_engine::sys::interface::Interface;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Bytes with no period that a segment could hide behind.
fn pattern(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn connect(addr: Ipv4Addr, port: u16) -> TcpStream {
    let stream = TcpStream::connect((addr, port)).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream
}

/// Sends `bytes`, closes that direction, and returns what comes back.
fn echoed(addr: Ipv4Addr, port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(addr, port);
    let mut sender = stream.try_clone().expect("a second handle");
    thread::scope(|scope| {
        scope.spawn(move || {
            sender.write_all(bytes).expect("the peer takes it");
            sender.shutdown(Shutdown::Write).expect("half-closes");
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).expect("comes back");
        back
    })
}

/// The connections of both workers.
fn rows(daemon: &Daemon) -> String {
    let page =
        |cursor: u64| daemon.ask(&format!(r#"{{"request":"conns","limit":9,"cursor":{cursor}}}"#));
    page(0) + &page(1 << 32)
}

#[test]
fn the_kernels_clients_get_back_what_they_sent() {
    isolated("veth::the_kernels_clients_get_back_what_they_sent", || {
        let peer = Peer::new();
        let bytes = pattern(3 << 20);
        // With transmit offload the peer leaves checksums to a device that is not there.
        for (offload, more) in [("on", &[][..]), ("off", &["--rx-checksum", "verify"][..])] {
            peer.run(&format!("ethtool -K d1 tx {offload}"));
            let daemon = Daemon::start(&[&OWNED[..], &["--listen", "7000=echo"], more].concat());
            peer.within(|| {
                thread::scope(|scope| {
                    let clients: Vec<_> =
                        (0..8).map(|_| scope.spawn(|| echoed(ENGINE, 7000, &bytes))).collect();
                    for client in clients {
                        let back = client.join().expect("no panic");
                        assert!(back == bytes, "offload {offload}: {} bytes", back.len());
                    }
                });
                assert_eq!(echoed(ENGINE, 7000, b""), b"");
                let refused = TcpStream::connect((ENGINE, 7001)).expect_err("nobody listens");
                assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
            });
            daemon.stop();
        }
    });
}

#[test]
fn the_kernels_clients_bring_syn_cookies_back() {
    isolated("veth::the_kernels_clients_bring_syn_cookies_back", || {
        let peer = Peer::new();
        let bytes = pattern(1 << 20);
        for stamps in ["1", "0"] {
            peer.run(&format!("sysctl -q -w net.ipv4.tcp_timestamps={stamps}"));
            let more = ["--listen", "7000=echo", "--set", "tcp.syn_cookies=always"];
            let daemon = Daemon::start(&[&OWNED[..], &more].concat());
            let config = daemon.ask(r#"{"request":"config"}"#);
            assert!(config.contains(r#""syn_cookies":"always""#), "{config}");
            assert!(config.contains(r#""mss":1460"#), "{config}");
            let row = peer.within(|| {
                thread::scope(|scope| {
                    let client = || assert!(echoed(ENGINE, 7000, &bytes) == bytes);
                    (0..8).for_each(|_| drop(scope.spawn(client)));
                });
                let stream = connect(ENGINE, 7000);
                let row = eventually("the connection is there", || {
                    let rows = rows(&daemon);
                    rows.contains("ESTABLISHED").then_some(rows)
                });
                drop(stream);
                row
            });
            let agreed = stamps == "1";
            for option in ["timestamps", "sack", "window_scale"] {
                assert!(row.contains(&format!(r#""{option}":{agreed}"#)), "{option}: {row}");
            }
            let output = daemon.stop();
            assert!(output.contains("9 connections opened, 9 ended"), "{output}");
        }
    });
}

#[test]
fn a_router_on_the_path_makes_segments_smaller() {
    isolated("veth::a_router_on_the_path_makes_segments_smaller", || {
        let peer = Peer::new();
        let far = peer.router_to_far(1200);
        let more = ["--listen", "7000=echo", "--gateway", "10.99.0.1"];
        let daemon = Daemon::start(&[&OWNED[..], &more].concat());
        let bytes = pattern(1 << 20);
        let row = far.within(|| {
            let mut stream = connect(ENGINE, 7000);
            stream.write_all(&bytes).expect("the engine takes it");
            let mut back = vec![0; 1000];
            for part in bytes.chunks_exact(1000) {
                stream.read_exact(&mut back).expect("it comes back");
                assert!(back == part);
            }
            rows(&daemon)
        });
        assert!(row.contains(r#""path_mtu":1200"#), "{row}");
        daemon.stop();
    });
}

#[test]
fn the_kernel_keeps_what_is_its_own() {
    isolated("veth::the_kernel_keeps_what_is_its_own", || {
        let peer = Peer::new();
        let daemon = Daemon::start(&[&OWNED[..], &["--listen", "7000=echo"]].concat());
        assert!(peer.pings(ENGINE) && peer.pings(KERNEL));
        let tcp = TcpListener::bind((KERNEL, 22)).expect("binds");
        let udp = UdpSocket::bind((KERNEL, 53)).expect("binds");
        peer.within(|| {
            connect(KERNEL, 22).write_all(b"ssh").expect("the kernel takes it");
            let socket = UdpSocket::bind((PEER, 0)).expect("binds");
            socket.send_to(b"dns", (KERNEL, 53)).expect("sends");
        });
        let mut buf = [0; 8];
        assert_eq!(udp.recv(&mut buf).expect("arrives"), 3);
        assert_eq!(tcp.accept().expect("arrives").0.read(&mut buf).expect("arrives"), 3);
        daemon.stop();
    });
}

#[test]
fn every_end_gives_the_interface_back() {
    isolated("veth::every_end_gives_the_interface_back", || {
        let peer = Peer::new();
        for signal in ["TERM", "INT", "KILL"] {
            let mut daemon = Daemon::start(&[&OWNED[..], &["--listen", "7000=echo"]].concat());
            let mut stream = peer.within(|| connect(ENGINE, 7000));
            assert!(run("ip -d link show d0").contains("xdp"));
            daemon.signal(signal);
            let status = daemon.wait();
            assert_eq!(status.success(), signal != "KILL", "{}", daemon.output());
            assert!(peer.pings(KERNEL), "after SIG{signal}");
            assert!(!peer.pings(ENGINE), "after SIG{signal}");
            let link = run("ip -d link show d0");
            assert!(!link.contains("xdp"), "after SIG{signal}:\n{link}");
            assert_eq!(daemon.control.exists(), signal == "KILL");
            if signal != "KILL" {
                let end = stream.read(&mut [0]).expect_err("the engine says goodbye");
                assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
                assert!(daemon.output().contains("1 connections opened, 1 ended"));
            }
        }
    });
}

#[test]
fn a_connection_by_hand_reaches_the_kernels_listener() {
    isolated("veth::a_connection_by_hand_reaches_the_kernels_listener", || {
        let peer = Peer::new();
        let daemon = Daemon::start(&OWNED);
        let listener = peer.within(|| TcpListener::bind((PEER, 4000)).expect("binds"));
        let connect = |port: u16, more: &str| {
            let remote = format!("{PEER}:{port}");
            daemon.ask(&format!(
                r#"{{"request":"connect","remote":"{remote}","timeout":"5s"{more}}}"#
            ))
        };
        let answer = connect(4000, r#","src_port":33333"#);
        assert!(answer.contains(r#""response":"connected""#), "{answer}");
        assert!(answer.contains(r#""local":"10.99.0.2:33333""#), "{answer}");
        let id = answer.split(r#""id":""#).nth(1).and_then(|rest| rest.split('"').next());
        let id = id.expect("a handle");
        let (mut stream, from) = listener.accept().expect("it came");
        assert_eq!(from.to_string(), "10.99.0.2:33333");
        assert!(connect(4000, r#","src_port":33333"#).contains(r#""reason":"tuple-in-use""#));
        assert!(connect(4001, "").contains(r#""reason":"refused""#));

        let send = format!(r#"{{"request":"send","id":"{id}","payload":{{"text":"hello"}}}}"#);
        assert_eq!(daemon.ask(&send), r#"{"response":"sent","bytes":5}"#);
        let mut buf = [0; 5];
        stream.read_exact(&mut buf).expect("arrives");
        stream.write_all(b"world").expect("is taken");
        drop(stream);
        let recv = format!(r#"{{"request":"recv","id":"{id}","bytes_min":99,"timeout":"9s"}}"#);
        let answer = daemon.ask(&recv);
        assert!(answer.contains(r#""hex":"776f726c64","bytes_total":5,"end":true"#), "{answer}");
        assert_eq!(
            daemon.ask(&format!(r#"{{"request":"close","id":"{id}"}}"#)),
            r#"{"response":"done"}"#
        );
        daemon.stop();
    });
}

#[test]
fn a_shared_address_serves_both() {
    isolated("veth::a_shared_address_serves_both", || {
        let peer = Peer::new();
        let daemon =
            Daemon::start(&["--dev", "d0", "--ownership", "shared", "--listen", "7000=echo"]);
        assert!(peer.pings(KERNEL), "ARP and ICMP stay with the kernel");
        let kernels = TcpListener::bind((KERNEL, 7001)).expect("binds");
        let bytes = pattern(300_000);
        peer.within(|| {
            assert!(echoed(KERNEL, 7000, &bytes) == bytes);
            connect(KERNEL, 7001).write_all(b"kernel").expect("is taken");
        });
        assert_eq!(kernels.accept().expect("arrives").0.read(&mut [0; 9]).expect("arrives"), 6);

        // A listener that comes later, and a connection from a port of the range.
        let add = r#"{"request":"listen-add","listen":{"port":"7002","app":"echo"}}"#;
        assert_eq!(daemon.ask(add), r#"{"response":"done"}"#);
        peer.within(|| assert_eq!(echoed(KERNEL, 7002, b"later"), b"later"));
        let listener = peer.within(|| TcpListener::bind((PEER, 4000)).expect("binds"));
        let answer =
            daemon.ask(r#"{"request":"connect","remote":"10.99.0.1:4000","timeout":"5s"}"#);
        assert!(answer.contains(r#""response":"connected""#), "{answer}");
        let (_, from) = listener.accept().expect("it came");
        assert!(from.ip() == KERNEL && from.port() >= 61_000, "{from}");
        daemon.stop();
        assert!(peer.pings(KERNEL));
    });
}

#[test]
fn a_drained_daemon_refuses_and_keeps_what_it_has() {
    isolated("veth::a_drained_daemon_refuses_and_keeps_what_it_has", || {
        let peer = Peer::new();
        let daemon = Daemon::start(&[&OWNED[..], &["--listen", "7000=echo"]].concat());
        let mut old = peer.within(|| connect(ENGINE, 7000));
        // What is established at the engine is what it keeps.
        old.write_all(b"?").expect("is taken");
        old.read_exact(&mut [0]).expect("comes back");
        assert_eq!(daemon.ask(r#"{"request":"drain"}"#), r#"{"response":"done"}"#);
        peer.within(|| TcpStream::connect((ENGINE, 7000)).expect_err("nobody listens any more"));
        old.write_all(b"!").expect("is taken");
        let mut buf = [0];
        old.read_exact(&mut buf).expect("comes back");
        assert_eq!(&buf, b"!");
        let add = r#"{"request":"listen-add","listen":{"port":"7002","app":"echo"}}"#;
        assert!(daemon.ask(add).contains("accepts no more connections"));
        assert!(daemon.ask(r#"{"request":"status"}"#).contains(r#""draining":true"#));
        daemon.stop();
    });
}

#[test]
fn a_program_loaded_ahead_is_used_and_left() {
    isolated("veth::a_program_loaded_ahead_is_used_and_left", || {
        mount_bpffs();
        let peer = Peer::new();
        let dir = Path::new("/sys/fs/bpf/barewire/d0");
        let ifindex = Interface::named("d0").expect("it is there").ifindex;
        let options = LoadOptions { n_queues: 2, on_missing: OnMissing::Pass };
        let mut steer = Steer::load(&options).expect("loads");
        let before = steer.attach(ifindex, "d0", AttachMode::Native).expect("attaches");
        steer.pin(dir).expect("a bpffs is mounted");

        let flags = [&OWNED[..], &["--listen", "7000=echo"]].concat();
        for _ in 0..2 {
            let daemon = Daemon::start(&flags);
            peer.within(|| assert_eq!(echoed(ENGINE, 7000, b"pinned"), b"pinned"));
            daemon.stop();
            assert_eq!(Steer::attached(ifindex).expect("answers").as_ref(), Some(&before));
            let left = Steer::open_pinned(dir).expect("still there");
            assert_eq!(left.prefixes(), [], "the engine's rules go with it");
        }
        Steer::unpin(dir).expect("root may");
        // The kernel lets go of an unpinned link a moment later.
        eventually("the interface is free", || {
            Steer::attached(ifindex).expect("answers").is_none().then_some(())
        });

        // And one that the daemon itself leaves behind.
        Daemon::start(&[&flags[..], &["--persist"]].concat()).stop();
        assert!(dir.exists() && Steer::attached(ifindex).expect("answers").is_some());
        Steer::unpin(dir).expect("root may");
    });
}

#[test]
fn a_load_test_of_the_configuration_runs_and_ends_the_daemon() {
    isolated("veth::a_load_test_of_the_configuration_runs_and_ends_the_daemon", || {
        let peer = Peer::new();
        let echo = peer.within(|| TcpListener::bind((PEER, 4000)).expect("binds"));
        thread::spawn(move || {
            for stream in echo.incoming().flatten() {
                thread::spawn(move || {
                    let mut stream = stream;
                    let mut buf = [0; 256];
                    while let Ok(n @ 1..) = stream.read(&mut buf) {
                        if stream.write_all(&buf[..n]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        let plan = [
            "--set",
            "load.mode=hold",
            "--set",
            "load.connections=50",
            "--set",
            "load.duration=100ms",
            "--set",
            "load.exchanges=3",
            "--set",
            "load.dst=[\"10.99.0.1:4000\"]",
        ];
        let (status, output) = Daemon::refused(&[&OWNED[..], &plan].concat());
        assert_eq!(status, 0, "{output}");
        assert!(output.contains("50 opened = 50 closed + 0 open + 0 failed"), "{output}");
        assert!(output.contains("150 sent, 150 answered, 0 not"), "{output}");
    });
}

#[test]
fn generic_mode_serves_where_native_is_not_wanted() {
    isolated("veth::generic_mode_serves_where_native_is_not_wanted", || {
        let peer = Peer::new();
        let flags = ["--mode", "generic", "--poll", "busy", "--listen", "7000=echo"];
        let daemon = Daemon::start(&[&OWNED[..], &flags].concat());
        assert!(run("ip -d link show d0").contains("xdpgeneric"));
        assert!(daemon.output().contains("queue 0: generic XDP, copy"), "{}", daemon.output());
        let bytes = pattern(200_000);
        peer.within(|| assert!(echoed(ENGINE, 7000, &bytes) == bytes));
        daemon.stop();
    });
}

#[test]
fn a_capture_holds_what_came_and_what_went() {
    isolated("veth::a_capture_holds_what_came_and_what_went", || {
        let peer = Peer::new();
        let file = std::env::temp_dir().join(format!("barewired-{}.pcapng", std::process::id()));
        let capture = ["--listen", "7000=echo", "--capture", file.to_str().expect("a plain path")];
        let daemon = Daemon::start(&[&OWNED[..], &capture].concat());
        peer.within(|| assert_eq!(echoed(ENGINE, 7000, b"find me"), b"find me"));
        let output = daemon.stop();
        assert!(output.contains("frames written, 0 missed"), "{output}");
        let bytes = std::fs::read(&file).expect("the file is there");
        std::fs::remove_file(&file).expect("it is ours");
        let found = bytes.windows(7).filter(|window| window == b"find me").count();
        assert!(found >= 2, "once in and once out, found {found}");
    });
}

#[test]
fn what_arrives_elsewhere_is_handed_over_and_counted_by_pair() {
    isolated("veth::what_arrives_elsewhere_is_handed_over_and_counted_by_pair", || {
        let peer = Peer::new();
        let daemon = Daemon::start(&OWNED);
        let listener = peer.within(|| TcpListener::bind((PEER, 7000)).expect("binds"));
        // Worker 0 opens all of them, and the kernel answers at the queue that it likes.
        let mut accepted = Vec::new();
        for _ in 0..32 {
            let answer =
                daemon.ask(r#"{"request":"connect","remote":"10.99.0.1:7000","timeout":"5s"}"#);
            assert!(answer.contains(r#""response":"connected""#), "{answer}");
            accepted.push(listener.accept().expect("a connection"));
        }
        let status = daemon.ask(r#"{"request":"status"}"#);
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let rss = &status["rss"];
        assert_eq!((&rss["ports_by_class"], &rss["wanted"]), (&false.into(), &"auto".into()));
        let reason = rss["reason"].as_str().expect("a text");
        assert!(reason.starts_with("arrival queue is observed"), "{reason}");
        let pair = eventually("the counters are published", || {
            let status = daemon.ask(r#"{"request":"status"}"#);
            let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
            status["handed_over"].as_array().and_then(|pairs| pairs.first().cloned())
        });
        assert_eq!((&pair["from"], &pair["to"]), (&1.into(), &0.into()), "{pair}");
        drop(accepted);
        daemon.stop();
    });
}

#[test]
fn queues_that_come_and_go_are_noticed_and_said_aloud() {
    isolated("veth::queues_that_come_and_go_are_noticed_and_said_aloud", || {
        let peer = Peer::new();
        let serving = [&OWNED[..], &["--listen", "7000=echo"]].concat();
        let daemon = Daemon::start(&serving);
        // A queue that is served the kernel does not take away.
        let taken = Command::new("ethtool").args(["-L", "d0", "rx", "1"]).output();
        let taken = taken.expect("ethtool runs");
        assert!(!taken.status.success(), "{taken:?}");
        daemon.stop();
        let daemon = Daemon::start(&[&serving[..], &["--queues", "1"]].concat());
        peer.run("ethtool -L d1 tx 1");
        run("ethtool -L d0 rx 1");
        eventually("the change is told", || {
            daemon.output().contains("2 queues became 1").then_some(())
        });
        let status = daemon.ask(r#"{"request":"status"}"#);
        assert!(status.contains("2 queues became 1: one queue, where everything"), "{status}");
        let served = peer.within(|| echoed(ENGINE, 7000, &pattern(10_000)));
        assert_eq!(served, pattern(10_000));
        run("ethtool -L d0 rx 2");
        eventually("the change is told", || {
            daemon.output().contains("1 queues became 2").then_some(())
        });
        daemon.stop();
    });
}
