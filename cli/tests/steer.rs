//! The two loaders on one interface: what the command loads with aya, the engine's library opens,
//! and the other way round. A veth pair in namespaces of the test's own; needs root.

#[path = "../../ebpf/tests/lab/mod.rs"]
mod lab;
/// The command is a binary, so the module under test is compiled in here.
#[path = "../src"]
mod command {
    pub(crate) mod steer;
}

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use barewire_ebpf::Steer;
use barewire_steer::abi::{self, Listener, LocalPorts, OnMissing, Verdict};
use barewire_steer::attach::{AttachMode, AttachedMode};

use command::steer::{self, Error, LoadOptions, Loaded, Unloaded};

const NATIVE: LoadOptions =
    LoadOptions { mode: AttachMode::Native, on_missing: OnMissing::Drop, n_queues: None };

#[test]
fn what_the_command_loads_the_engine_opens() {
    lab::enter();
    lab::veth("d0 numrxqueues 3 numtxqueues 3", "p0 numrxqueues 3 numtxqueues 3");
    let Loaded::Now(status) = steer::load("d0", &NATIVE).expect("it loads") else {
        panic!("it was not there before")
    };
    assert!(status.is_ours());
    let attached = status.attached.expect("it is attached");
    assert_eq!(attached.mode, AttachedMode::Native);
    assert_eq!(attached.program_name.as_deref(), Some(abi::PROGRAM));

    let opened = Steer::open_pinned(&Path::new(abi::PIN_ROOT).join("d0")).expect("it opens");
    assert_eq!((opened.n_queues(), opened.on_missing().ok()), (3, Some(OnMissing::Drop)));
    let host = "10.0.0.2".parse().ok();
    opened.add_prefix("10.1.0.0".parse().expect("address"), 16).expect("a prefix");
    opened.add_listener(host, 7000).expect("a listener");
    opened.set_port_range(None, 40000..=49999).expect("a port range");
    lab::ip("neigh add 10.9.0.1 lladdr 02:00:00:00:00:01 dev p0");
    lab::ip("addr add 10.9.0.2/24 dev p0");
    send_datagrams(3);

    let pinned = steer::status("d0").expect("a status").pinned.expect("pins");
    assert!(pinned.enabled);
    assert_eq!((pinned.n_queues, pinned.on_missing), (3, OnMissing::Drop));
    let prefixes: Vec<String> = pinned.prefixes.iter().map(|p| p.to_string()).collect();
    assert_eq!(prefixes, ["10.1.0.0/16"]);
    assert_eq!(pinned.listeners, [Listener { address: host, port: 7000 }]);
    assert_eq!(pinned.port_ranges, [LocalPorts { address: None, ports: 40000..=49999 }]);
    await_verdicts(Verdict::PassProtocol, 3);
}

/// Waits until d0's program has counted so many frames under a verdict; the kernel may receive them
/// some time after they were sent.
fn await_verdicts(verdict: Verdict, n: u64) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let pinned = steer::status("d0").expect("a status").pinned.expect("pins");
        if pinned.verdicts.iter().any(|&(found, frames)| found == verdict && frames >= n) {
            return;
        }
        assert!(Instant::now() < deadline, "{:?}", pinned.verdicts);
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends UDP over p0 to an address behind d0, so that the program sees frames.
fn send_datagrams(n: u32) {
    let socket = std::net::UdpSocket::bind("10.9.0.2:0").expect("a socket");
    for _ in 0..n {
        socket.send_to(b"x", "10.9.0.1:9").expect("a datagram leaves");
    }
}

#[test]
fn what_the_engine_pins_the_command_shows_and_unloads() {
    lab::enter();
    let ifindex = lab::veth("d0", "p0");
    let options = barewire_ebpf::LoadOptions { n_queues: 2, on_missing: OnMissing::Pass };
    let mut engine = Steer::load(&options).expect("it loads");
    engine.attach(ifindex, "d0", AttachMode::Generic).expect("it attaches");
    engine.pin(&Path::new(abi::PIN_ROOT).join("d0")).expect("it pins");

    let status = steer::status("d0").expect("a status");
    assert!(status.is_ours());
    assert_eq!(status.attached.as_ref().map(|attached| attached.mode), {
        Some(AttachedMode::Generic)
    });
    assert_eq!(status.pinned.map(|pinned| pinned.n_queues), Some(2));
    assert_eq!(steer::unload("d0").expect("it unloads"), Unloaded::Now, "though its maker lives");
    assert_eq!(Steer::attached(ifindex).expect("an answer"), None);
}

#[test]
fn loading_and_unloading_twice_say_so() {
    lab::enter();
    lab::veth("d0", "p0");
    assert_eq!(steer::unload("d0").expect("nothing there"), Unloaded::Already);
    let status = steer::status("d0").expect("a status");
    assert!(status.attached.is_none() && status.pinned.is_none() && status.ifname == "d0");
    assert!(matches!(steer::load("d0", &NATIVE), Ok(Loaded::Now(_))));
    let again = steer::load("d0", &NATIVE).expect("it is there");
    assert!(matches!(again, Loaded::Already(status) if status.is_ours()));
    let generic = LoadOptions { mode: AttachMode::Generic, ..NATIVE };
    let error = steer::load("d0", &generic).expect_err("it is loaded otherwise");
    assert!(error.to_string().contains("already: native mode"), "{error}");
    assert_eq!(steer::unload("d0").expect("it unloads"), Unloaded::Now);
    assert_eq!(steer::unload("d0").expect("nothing there"), Unloaded::Already);
}

#[test]
fn a_program_without_our_pins_is_neither_replaced_nor_removed() {
    lab::enter();
    let ifindex = lab::veth("d0", "p0");
    let options = barewire_ebpf::LoadOptions { n_queues: 1, on_missing: OnMissing::Pass };
    let mut other = Steer::load(&options).expect("it loads");
    let there = other.attach(ifindex, "d0", AttachMode::Native).expect("it attaches");
    let words = format!("XDP program 'steer' (id {}, native mode)", there.program_id);
    let load = steer::load("d0", &NATIVE).expect_err("it is taken").to_string();
    assert!(load.contains(&words), "{load}");
    let unload = steer::unload("d0").expect_err("it is not ours").to_string();
    assert!(unload.contains(&words) && unload.contains("not pinned by barewire"), "{unload}");
    assert_eq!(Steer::attached(ifindex).expect("an answer"), Some(there));
}

#[test]
fn what_cannot_be_done_is_told_with_the_way_out() {
    lab::enter();
    lab::veth("d0 mtu 9000", "p0 mtu 9000");
    let refused = |ifname: &str, options| steer::load(ifname, options).expect_err("no").to_string();
    let none = LoadOptions { n_queues: Some(0), ..NATIVE };
    assert!(refused("d0", &NATIVE).contains("MTU"));
    assert!(refused("d0", &none).contains("1 to 1024 queues"));
    assert!(refused("nosuch0", &NATIVE).contains("no interface 'nosuch0'"));
    assert!(refused("../d0", &NATIVE).contains("no interface name"));
    unmount_bpffs();
    let generic = LoadOptions { mode: AttachMode::Generic, ..NATIVE };
    assert!(refused("d0", &generic).contains("mount -t bpf"));
    let after = steer::status("d0").expect("a status");
    assert!(after.pinned.is_none(), "nothing is left behind");
}

fn unmount_bpffs() {
    let status = Command::new("umount").arg("/sys/fs/bpf").stderr(Stdio::null()).status();
    assert!(status.expect("umount runs").success());
}

#[test]
fn pins_outlive_their_interface_and_can_be_removed() {
    lab::enter();
    lab::veth("d0", "p0");
    steer::load("d0", &NATIVE).expect("it loads");
    lab::ip("link del d0");
    let status = steer::status("d0").expect("a status");
    assert!(status.attached.is_none() && status.pinned.is_some() && !status.is_ours());
    lab::veth("d0", "p0");
    let error = steer::load("d0", &NATIVE).expect_err("the pins are of the d0 before");
    assert!(error.to_string().contains("not on d0 any more"), "{error}");
    lab::ip("link del d0");
    assert_eq!(steer::unload("d0").expect("it unloads"), Unloaded::Now);
    let gone = steer::status("d0").expect_err("nothing is left");
    assert!(matches!(gone, Error::NoInterface(_)), "{gone}");
}
