//! The program on an interface: a veth pair in namespaces of the test's own. Needs root.

mod lab;

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use barewire_ebpf::{
    AttachMode, Attached, AttachedMode, Error, LoadOptions, OnMissing, Steer, abi,
};

fn load() -> Steer {
    let options = LoadOptions { n_queues: 1, on_missing: OnMissing::Pass };
    Steer::load(&options).expect("the program loads")
}

fn attached(ifindex: u32) -> Option<Attached> {
    Steer::attached(ifindex).expect("the kernel answers")
}

/// Waits for the kernel to take the program off, which closing a link may leave for later.
fn assert_detaches(ifindex: u32) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Some(attached) = attached(ifindex) {
        assert!(Instant::now() < deadline, "still there: {attached}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_mode_asked_for_is_the_mode_that_the_kernel_reports() {
    lab::enter();
    let ifindex = lab::veth("d0", "p0");
    for (mode, reported) in
        [(AttachMode::Native, AttachedMode::Native), (AttachMode::Generic, AttachedMode::Generic)]
    {
        let mut steer = load();
        let answer = steer.attach(ifindex, "d0", mode).expect("it attaches");
        assert_eq!(answer.mode, reported);
        assert_eq!(answer.program_name.as_deref(), Some(abi::PROGRAM));
        assert_eq!(attached(ifindex), Some(answer));
        drop(steer);
        assert_detaches(ifindex);
    }
}

#[test]
fn detaching_is_done_when_it_returns() {
    lab::enter();
    let ifindex = lab::veth("d0", "p0");
    let mut steer = load();
    steer.attach(ifindex, "d0", AttachMode::Native).expect("it attaches");
    assert!(steer.detach().expect("it detaches"));
    assert_eq!(attached(ifindex), None);
    assert!(!steer.detach().expect("nothing to detach"));
    steer.attach(ifindex, "d0", AttachMode::Native).expect("it attaches again");
}

#[test]
fn an_interface_with_a_program_is_refused_with_its_id_and_name() {
    lab::enter();
    let ifindex = lab::veth("d0", "p0");
    let mut first = load();
    let there = first.attach(ifindex, "d0", AttachMode::Native).expect("it attaches");
    for mode in [AttachMode::Native, AttachMode::Generic] {
        let error = load().attach(ifindex, "d0", mode).expect_err("it is taken").to_string();
        let words = format!("d0 already carries XDP program 'steer' (id {},", there.program_id);
        assert!(error.contains(&words), "{error}");
    }
    let again = first.attach(ifindex, "d0", AttachMode::Native);
    assert!(matches!(again, Err(Error::Occupied { .. })), "{again:?}");
    assert_eq!(attached(ifindex), Some(there), "and the first one stays");
}

#[test]
fn native_mode_that_cannot_be_is_an_error_with_advice() {
    lab::enter();
    let large = lab::veth("d0 mtu 9000", "p0 mtu 9000");
    let few = lab::veth("d1 numrxqueues 1 numtxqueues 1", "p1 numrxqueues 4 numtxqueues 4");
    let gone = lab::veth("d2", "p2");
    lab::ip("link del d2");
    let refused = |ifindex, ifname| {
        let error = load().attach(ifindex, ifname, AttachMode::Native).expect_err("refused");
        error.to_string()
    };
    assert!(refused(large, "d0").contains("MTU"));
    assert!(refused(few, "d1").contains("receive queues"));
    assert!(refused(gone, "d2").contains("No such device"));
    load().attach(large, "d0", AttachMode::Generic).expect("generic mode takes any MTU");
}

#[test]
fn a_pinned_program_survives_and_can_be_opened_and_removed() {
    lab::enter();
    let ifindex = lab::veth("d0", "p0");
    let dir = Path::new(abi::PIN_ROOT).join("d0");
    let mut steer = load();
    let there = steer.attach(ifindex, "d0", AttachMode::Native).expect("it attaches");
    steer.pin(&dir).expect("it pins");
    steer.add_listener(None, 7000).expect("the maps are still ours");
    let again = load().pin(&dir).expect_err("nothing is attached");
    assert!(matches!(again, Error::NothingToPin), "{again}");
    drop(steer);

    assert_eq!(attached(ifindex), Some(there), "it survives its process");
    let opened = Steer::open_pinned(&dir).expect("it opens");
    assert_eq!(opened.n_queues(), 1);
    assert_eq!(opened.listeners().len(), 1);
    opened.add_prefix([10, 1, 0, 0].into(), 16).expect("rules can be set");
    opened.set_on_missing(OnMissing::Drop).expect("and the config");
    let other = Steer::open_pinned(&dir).expect("it opens twice");
    assert_eq!((other.prefixes().len(), other.on_missing().ok()), (1, Some(OnMissing::Drop)));
    assert!(matches!(opened.test_run(&[0; 60]), Err(Error::NoProgram)));
    assert!(opened.verdicts().is_ok());

    assert!(Steer::unpin(&dir).expect("it unpins"));
    assert!(!dir.exists());
    assert_detaches(ifindex);
    assert!(!Steer::unpin(&dir).expect("nothing to unpin"));
    assert!(matches!(Steer::open_pinned(&dir), Err(Error::NotPinned(_))));
}

#[test]
fn a_place_that_cannot_hold_pins_is_left_as_it_was() {
    lab::enter();
    let ifindex = lab::veth("d0", "p0");
    let mut steer = load();
    steer.attach(ifindex, "d0", AttachMode::Native).expect("it attaches");
    let no_bpffs = Path::new("/tmp").join(format!("barewire-ebpf-{}", std::process::id()));
    let error = steer.pin(&no_bpffs).expect_err("/tmp is no bpffs").to_string();
    assert!(error.contains("mount -t bpf"), "{error}");
    assert!(!no_bpffs.exists(), "nothing is left behind");
    let taken = Path::new("/sys/fs/bpf/taken");
    fs::create_dir(taken).expect("a directory");
    assert!(matches!(steer.pin(taken), Err(Error::AlreadyPinned(_))));
    steer.pin(&taken.join("d0")).expect("it can be pinned elsewhere after that");
}

#[test]
fn pins_that_are_dead_or_foreign_are_refused() {
    lab::enter();
    let ifindex = lab::veth("d0", "p0");
    let dir = Path::new(abi::PIN_ROOT).join("d0");
    let mut steer = load();
    steer.attach(ifindex, "d0", AttachMode::Native).expect("it attaches");
    steer.pin(&dir).expect("it pins");

    fs::rename(dir.join(abi::MAP_CONFIG), dir.join("aside")).expect("bpffs renames");
    fs::rename(dir.join(abi::MAP_PORT_RANGES), dir.join(abi::MAP_CONFIG)).expect("bpffs renames");
    let missing = Steer::open_pinned(&dir).expect_err("a map is missing");
    assert!(matches!(missing, Error::OpenPin { .. }), "{missing}");
    fs::rename(dir.join(abi::MAP_CONFIG), dir.join(abi::MAP_PORT_RANGES)).expect("bpffs renames");
    fs::rename(dir.join("aside"), dir.join(abi::MAP_CONFIG)).expect("bpffs renames");
    Steer::open_pinned(&dir).expect("whole again");

    lab::ip("link del d0");
    let dead = Steer::open_pinned(&dir).expect_err("its interface is gone");
    assert!(matches!(dead, Error::DeadLink(_)), "{dead}");
    assert!(Steer::unpin(&dir).expect("what is dead can be removed"));
}
