//! A daemon that cannot start says why in a sentence, ends with the right status, and leaves nothing
//! on the interface and no socket behind.

use crate::lab::{Daemon, ENGINE, OWNED, Peer, control_path};
use crate::netns::{isolated, run};
use barewire_ebpf::{AttachMode, LoadOptions, OnMissing, Steer};
use barewire_engine::sys::interface::Interface;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

const USAGE: i32 = 2;
const ENVIRONMENT: i32 = 3;

/// Flags, a status and part of the sentence.
type Case<'a> = (&'a [&'a str], i32, &'a str);

fn assert_refused(cases: &[Case<'_>]) {
    for &(args, expected, sentence) in cases {
        let (status, output) = Daemon::refused(args);
        assert_eq!(status, expected, "{args:?}:\n{output}");
        assert!(output.contains(sentence), "{args:?}: expected `{sentence}` in:\n{output}");
        assert_nothing_is_left(&format!("{args:?}"));
    }
}

fn assert_nothing_is_left(what: &str) {
    let link = run("ip -d link show d0");
    assert!(!link.contains("xdp"), "{what} left a program:\n{link}");
}

#[test]
fn a_wrong_configuration_is_refused_anywhere() {
    isolated("start::a_wrong_configuration_is_refused_anywhere", || {
        let _peer = Peer::new();
        let with = |more: &[&'static str]| [&OWNED[..], more].concat();
        let tuples = [
            "--set",
            "load.mode=hold",
            "--set",
            "load.connections=1m",
            "--set",
            "load.dst=[\"10.99.0.1:7000\"]",
        ];
        assert_refused(&[
            (&with(&["--rss", "requried"]), USAGE, "auto, required or observe"),
            (&with(&["--listen", "0=echo"]), USAGE, "a port from 1 to 65535"),
            (&with(&["--listen", "70000=echo"]), USAGE, "a port from 1 to 65535"),
            (&with(&["--listen", "80=ecco"]), USAGE, "an application: echo"),
            (&with(&["--connections-max", "1e12"]), USAGE, "tcp.connections_max"),
            (&with(&["--set", "tcp.delayed_akc=1ms"]), USAGE, "did you mean `delayed_ack`?"),
            (&with(&["--set", "interface.rx_max=1000"]), USAGE, "use 1024"),
            (&with(&["--gateway", "10.99.0.2"]), USAGE, "which the engine owns"),
            (&with(&tuples), USAGE, "source addresses"),
            (&["--dev", "d0"], USAGE, "give --addr"),
            (&["--config", "/nowhere.toml"], USAGE, "/nowhere.toml"),
        ]);
    });
}

#[test]
fn a_machine_that_does_not_fit_is_refused() {
    isolated("start::a_machine_that_does_not_fit_is_refused", || {
        let _peer = Peer::new();
        run("ip link add c0 type veth peer name c1");
        run("ip link set c1 up");
        let d0 = |more: &[&'static str]| [&OWNED[..], more].concat();
        assert_refused(&[
            (&["--dev", "eth7", "--addr", "10.99.0.2/24"], ENVIRONMENT, "found: lo, d0"),
            (&["--dev", "c0", "--addr", "10.99.0.2/24"], ENVIRONMENT, "ip link set dev c0 up"),
            (&d0(&["--queues", "3"]), ENVIRONMENT, "give --queues 2"),
            (&d0(&["--cpus", "100000,100001"]), ENVIRONMENT, "CPU 100000"),
            (
                &d0(&["--rss", "required"]),
                ENVIRONMENT,
                "veth of `d0` tells nothing of how it spreads",
            ),
            (&d0(&["--mode", "zerocopy"]), ENVIRONMENT, "zero-copy was demanded"),
            (&["--dev", "d0", "--addr", "10.99.0.9/24"], ENVIRONMENT, "on interface `d0`"),
            (
                &["--dev", "d0", "--prefix", "10.99.0.0/24"],
                ENVIRONMENT,
                "the kernel has address 10.99.0.9 itself",
            ),
            (
                &["--dev", "d0", "--ownership", "shared", "--addr", "10.99.0.2/24"],
                ENVIRONMENT,
                "it has 10.99.0.9/24",
            ),
            (
                &["--dev", "d0", "--ownership", "shared", "--listen", "10.1.1.1:80=http"],
                USAGE,
                "add it to interface.addresses",
            ),
            (
                &[
                    "--dev",
                    "d0",
                    "--ownership",
                    "shared",
                    "--set",
                    "interface.port_range=40000-50000",
                ],
                ENVIRONMENT,
                "ip_local_port_range",
            ),
            (&d0(&["--control", "/nowhere/x.sock"]), USAGE, "cannot be used multiple times"),
        ]);
        run("ip addr del 10.99.0.9/24 dev d0");
        assert_refused(&[(
            &["--dev", "d0", "--ownership", "shared"],
            ENVIRONMENT,
            "no IPv4 address on `d0`",
        )]);
        run("ip link set d0 mtu 3000");
        assert_refused(&[(&d0(&[]), ENVIRONMENT, "frame_bytes = 4096")]);
    });
}

#[test]
fn a_foreign_program_stays() {
    isolated("start::a_foreign_program_stays", || {
        let _peer = Peer::new();
        let interface = Interface::named("d0").expect("it is there");
        let options = LoadOptions { n_queues: 2, on_missing: OnMissing::Pass };
        let mut foreign = Steer::load(&options).expect("loads");
        let attached =
            foreign.attach(interface.ifindex, "d0", AttachMode::Native).expect("attaches");
        let (status, output) = Daemon::refused(&OWNED);
        assert_eq!(status, ENVIRONMENT, "{output}");
        let id = format!("(id {}, native mode)", attached.program_id);
        assert!(output.contains("already carries") && output.contains(&id), "{output}");
        assert_eq!(Steer::attached(interface.ifindex).expect("answers"), Some(attached));
    });
}

#[test]
fn a_daemon_without_rights_says_which() {
    isolated("start::a_daemon_without_rights_says_which", || {
        let _peer = Peer::new();
        let control = control_path();
        // The binary may lie where nobody else can go: its open file can be run all the same.
        let binary = fs::File::open(env!("CARGO_BIN_EXE_barewired")).expect("it is there");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&binary);
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
            .arg(format!("/proc/{}/fd/{fd}", std::process::id()))
            .args(OWNED)
            .arg("--control")
            .arg(&control)
            .process_group(0)
            .output()
            .expect("setpriv (util-linux) runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(ENVIRONMENT), "{text}");
        assert!(text.contains("root") && text.contains("CAP_BPF"), "{text}");
        assert_nothing_is_left("a daemon without rights");
        assert!(!control.exists());
    });
}

#[test]
fn a_second_daemon_is_refused_and_the_first_runs_on() {
    isolated("start::a_second_daemon_is_refused_and_the_first_runs_on", || {
        let peer = Peer::new();
        let first = Daemon::start(&OWNED);
        // Another socket: it is the interface that is taken.
        let (status, output) = Daemon::refused(&["--dev", "d0", "--addr", "10.99.0.3/24"]);
        assert_eq!(status, ENVIRONMENT, "{output}");
        assert!(output.contains("already carries"), "{output}");
        assert!(peer.pings(ENGINE));
        first.stop();
    });
}

#[test]
fn a_check_tells_the_arithmetic_and_touches_nothing() {
    isolated("start::a_check_tells_the_arithmetic_and_touches_nothing", || {
        let _peer = Peer::new();
        let (status, output) = Daemon::refused(&[&OWNED[..], &["--check"]].concat());
        assert_eq!(status, 0, "{output}");
        for fact in [
            "interface d0: driver veth",
            "2 queues x 9,344 frames x 2048 bytes = 37 MiB",
            "2,000,000 connections",
        ] {
            assert!(output.contains(fact), "expected `{fact}` in:\n{output}");
        }
        assert_nothing_is_left("a check");
        let (status, output) = Daemon::refused(&["--dev", "d9", "--addr", "10.1.0.1/8", "--check"]);
        assert_eq!(status, ENVIRONMENT, "{output}");
    });
}
