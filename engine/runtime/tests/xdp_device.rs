//! The AF_XDP device against the real kernel: two queues of a veth pair, the steering program on both
//! ends, frames sent and reflected, and every frame accounted for afterwards.
//!
//! ```text
//!   queue 0   +----+                    +----+   queue 0
//!   ----------| d0 |------- veth -------| d1 |----------     one network namespace per test
//!   queue 1   +----+                    +----+   queue 1
//! ```

mod netns;

use barewire_ebpf::{AttachMode, LoadOptions, OnMissing, Steer};
use barewire_engine::sys::eventfd::EventFd;
use barewire_engine::sys::interface::Interface;
use barewire_engine::xdp::{HugePages, Mode, XdpDevice, XdpError, XdpOptions};
use barewire_stack::device::{BATCH_MAX, Batch, Device, Frame};
use netns::{isolated, run};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

/// No step of a test takes longer, or it hangs and fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The veth pair with two queues on each end.
fn lay_wire() {
    run("ip link add d0 numtxqueues 2 numrxqueues 2 type veth \
         peer name d1 numtxqueues 2 numrxqueues 2");
    run("ip link set d0 up");
    run("ip link set d1 up");
}

/// The smallest rings, and frames for them.
fn small(ifname: &str, queue: u32) -> XdpOptions {
    let mut options = XdpOptions::new(ifname, queue);
    options.rx_ring = 64;
    options.tx_ring = 64;
    options.fill_ring = 64;
    options.completion_ring = 64;
    options.n_frames = options.n_frames_min();
    options.huge_pages = HugePages::Never;
    options
}

fn open(options: &XdpOptions) -> XdpDevice {
    XdpDevice::open(options).unwrap_or_else(|e| panic!("{e}"))
}

/// The steering program on an interface: all TCP to 10.9.0.0/16 goes to the sockets.
fn steer(ifname: &str) -> Steer {
    let interface = Interface::named(ifname).expect("the wire is laid");
    let options = LoadOptions { n_queues: interface.n_rx_queues, on_missing: OnMissing::Drop };
    let mut steer = Steer::load(&options).expect("the program loads");
    steer.attach(interface.ifindex, ifname, AttachMode::Native).expect("veth has native XDP");
    steer.add_prefix([10, 9, 0, 0].into(), 16).expect("room for a prefix");
    steer
}

/// Two ends of the wire on the same queue, ready to send to each other.
struct Pair {
    one: XdpDevice,
    other: XdpDevice,
    _programs: [Steer; 2],
}

impl Pair {
    fn new(options: impl Fn(&str) -> XdpOptions) -> Self {
        lay_wire();
        let programs = ["d0", "d1"].map(steer);
        let [one, other] = ["d0", "d1"].map(|ifname| open(&options(ifname)));
        for (program, device) in programs.iter().zip([&one, &other]) {
            program.set_xsk(device.queue(), device.as_fd()).expect("the slot is there");
        }
        Pair { one, other, _programs: programs }
    }

    /// Ends a test: whatever was sent completes, and both ends account for every frame.
    fn settle(mut self) {
        for device in [&mut self.one, &mut self.other] {
            settle(device);
        }
    }
}

/// Waits until nothing is being transmitted, and checks the ledger and the counters of bad events.
fn settle(device: &mut XdpDevice) {
    let mut batch = Batch::new();
    wait_until("all frames are sent", || {
        device.tx_batch(&mut batch);
        device.ledger().tx == 0
    });
    let ledger = device.ledger();
    assert_eq!(ledger, device.audit());
    assert!(ledger.balances() && ledger.held == 0, "{ledger:?}");
    for statistic in device.statistics().expect("the kernel counts") {
        let bad = ["invalid", "desc_", "completion_", "errors", "net_down"];
        if bad.iter().any(|word| statistic.name.contains(word)) {
            assert_eq!(statistic.value, 0, "{statistic:?}");
        }
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "in {PATIENCE:?} it did not come true that {what}");
        thread::yield_now();
    }
}

fn statistic(device: &XdpDevice, name: &str) -> u64 {
    let list = device.statistics().expect("the kernel counts");
    list.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("a counter `{name}`")).value
}

/// Frame number `n` of a test: Ethernet, IPv4 and TCP headers to 10.9.0.1, then bytes that follow from
/// `n`, 60 to 1514 in all.
fn frame_bytes(n: u32) -> Vec<u8> {
    let len = 60 + (n as usize * 97) % (1514 - 60 + 1);
    let ip_len = u16::try_from(len - 14).expect("fits").to_be_bytes();
    let mut bytes = vec![0; 14 + 20 + 20];
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes[14..18].copy_from_slice(&[0x45, 0, ip_len[0], ip_len[1]]);
    bytes[22..24].copy_from_slice(&[64, 6]);
    bytes[26..34].copy_from_slice(&[10, 8, 0, 1, 10, 9, 0, 1]);
    bytes[46] = 5 << 4;
    bytes.extend_from_slice(&n.to_be_bytes());
    bytes.extend((bytes.len()..len).map(|i| (i as u32 ^ n) as u8));
    bytes
}

/// A token with frame number `n` in it, when the device has one to spare.
fn numbered(device: &mut XdpDevice, n: u32) -> Option<Frame> {
    let mut frame = device.alloc()?;
    let bytes = frame_bytes(n);
    device.bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(&bytes);
    Some(frame.with_len(bytes.len() as u16))
}

/// Sends frames numbered from `first` until a call takes none; returns how many went out.
fn send_from(device: &mut XdpDevice, batch: &mut Batch, first: u32, n_max: usize) -> u32 {
    let mut n = 0;
    while batch.room() > 0 && (n as usize) < n_max {
        let Some(frame) = numbered(device, first + n) else { break };
        batch.push(frame);
        n += 1;
    }
    device.tx_batch(batch);
    n
}

fn release_all(device: &mut XdpDevice, batch: &mut Batch) {
    while let Some(frame) = batch.pop() {
        device.release(frame);
    }
}

#[test]
fn frames_are_reflected_in_order_and_all_are_accounted_for() {
    isolated("frames_are_reflected_in_order_and_all_are_accounted_for", || {
        const N: u32 = 100_000;
        const IN_FLIGHT_MAX: u32 = 512;
        let mut pair = Pair::new(|ifname| XdpOptions::new(ifname, 0));
        let (one, other) = (&mut pair.one, &mut pair.other);
        let [mut out, mut reflect, mut back] = [Batch::new(), Batch::new(), Batch::new()];
        let (mut sent, mut returned) = (0, 0);
        let begin = Instant::now();
        while returned < N {
            assert!(begin.elapsed() < 3 * PATIENCE, "{returned} of {sent} came back: {one:?}");
            let window = (IN_FLIGHT_MAX - (sent - returned)).min(N - sent);
            sent += send_from(one, &mut out, sent, window as usize);
            other.rx_batch(&mut reflect);
            other.tx_batch(&mut reflect);
            one.rx_batch(&mut back);
            for frame in back.drain(back.len()) {
                assert_eq!(one.bytes(&frame), frame_bytes(returned), "frame {returned}");
                one.release(frame);
                returned += 1;
            }
        }
        for name in ["xsk_rx_dropped", "xsk_rx_ring_full", "xsk_rx_fill_ring_empty"] {
            assert_eq!(statistic(one, name), 0, "{name}");
        }
        pair.settle();
    });
}

#[test]
fn each_queue_receives_what_the_same_queue_sent() {
    isolated("each_queue_receives_what_the_same_queue_sent", || {
        lay_wire();
        let program = steer("d1");
        let mut senders = [0, 1].map(|queue| open(&small("d0", queue)));
        let mut receivers = [0, 1].map(|queue| open(&small("d1", queue)));
        for device in &receivers {
            program.set_xsk(device.queue(), device.as_fd()).expect("the slot is there");
        }
        let mut batch = Batch::new();
        for (first, sender) in [1000, 2000].into_iter().zip(&mut senders) {
            assert_eq!(send_from(sender, &mut batch, first, 10), 10);
        }
        for (first, receiver) in [1000, 2000].into_iter().zip(&mut receivers) {
            wait_until("ten frames arrive", || {
                receiver.rx_batch(&mut batch);
                batch.len() == 10
            });
            for (n, frame) in (first..).zip(batch.drain(10)) {
                assert_eq!(receiver.bytes(&frame), frame_bytes(n));
                receiver.release(frame);
            }
            settle(receiver);
        }
        senders.iter_mut().for_each(settle);
    });
}

#[test]
fn a_starved_fill_ring_drops_counts_and_recovers() {
    isolated("a_starved_fill_ring_drops_counts_and_recovers", || {
        let mut pair = Pair::new(|ifname| small(ifname, 0));
        let (one, other) = (&mut pair.one, &mut pair.other);
        let mut out = Batch::new();
        let mut hoard: Vec<Batch> = Vec::new();
        wait_until("the receiver runs dry", || {
            send_from(one, &mut out, 0, BATCH_MAX);
            let mut held = Batch::new();
            other.rx_batch(&mut held);
            hoard.push(held);
            statistic(other, "xsk_rx_fill_ring_empty") > 0
        });
        assert!(other.ledger().balances() && other.ledger().held > 128, "{other:?}");
        assert_eq!(other.ledger(), other.audit());

        for held in &mut hoard {
            release_all(other, held);
        }
        let mut held = Batch::new();
        wait_until("frames arrive again", || {
            send_from(one, &mut out, 77, 1);
            other.rx_batch(&mut held);
            held.drain(held.len()).fold(false, |found, frame| {
                let is_it = other.bytes(&frame) == frame_bytes(77);
                other.release(frame);
                found || is_it
            })
        });
        pair.settle();
    });
}

#[test]
fn a_full_transmit_ring_takes_no_more_and_drains() {
    isolated("a_full_transmit_ring_takes_no_more_and_drains", || {
        lay_wire();
        let mut device = open(&XdpOptions { huge_pages: HugePages::Never, ..small("d0", 0) });
        // With the interface down the kernel moves nothing.
        run("ip link set d0 down");
        let mut batch = Batch::new();
        assert_eq!(send_from(&mut device, &mut batch, 0, BATCH_MAX), 64);
        assert_eq!((batch.len(), device.ledger().tx), (0, 64), "the ring has 64 descriptors");
        assert_eq!(send_from(&mut device, &mut batch, 64, BATCH_MAX), 64);
        assert_eq!((batch.len(), device.ledger().tx), (64, 64), "the ring is full");
        assert!(statistic(&device, "xsk_tx_kick_net_down") > 0);

        run("ip link set d0 up");
        wait_until("the ring drains", || {
            device.tx_batch(&mut batch);
            batch.is_empty() && device.ledger().tx == 0
        });
        let ledger = device.ledger();
        assert_eq!(ledger, device.audit());
        assert_eq!((ledger.held, ledger.tx), (0, 0));
        assert_eq!(statistic(&device, "xsk_tx_invalid_descs"), 0);
    });
}

#[test]
fn a_closed_queue_opens_again_at_once() {
    isolated("a_closed_queue_opens_again_at_once", || {
        let options = |ifname: &str| small(ifname, 0);
        let mut pair = Pair::new(options);
        for round in 0..20 {
            let Pair { one, other, _programs } = pair;
            drop((one, other));
            let [one, other] = ["d0", "d1"].map(|ifname| open(&options(ifname)));
            _programs[1].set_xsk(0, other.as_fd()).expect("the slot is free again");
            pair = Pair { one, other, _programs };
            let mut batch = Batch::new();
            assert_eq!(send_from(&mut pair.one, &mut batch, round, 1), 1);
            wait_until("a frame crosses", || pair.other.rx_batch(&mut batch) == 1);
            release_all(&mut pair.other, &mut batch);
        }
        pair.settle();
    });
}

#[test]
fn a_taken_queue_is_waited_for_and_then_refused() {
    isolated("a_taken_queue_is_waited_for_and_then_refused", || {
        lay_wire();
        let owner = open(&small("d0", 0));
        let begin = Instant::now();
        let error = XdpDevice::open(&small("d0", 0)).expect_err("the queue is taken");
        assert!(matches!(error, XdpError::Busy { queue: 0, .. }), "{error}");
        assert!(error.to_string().contains("taken by another AF_XDP socket"), "{error}");
        let waited = begin.elapsed();
        assert!((2..6).contains(&waited.as_secs()), "waited {waited:?}");

        let owner = thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            drop(owner);
        });
        let mut device = open(&small("d0", 0));
        owner.join().expect("the owner let go");
        settle(&mut device);
    });
}

#[test]
fn the_outcome_is_what_the_kernel_says() {
    isolated("the_outcome_is_what_the_kernel_says", || {
        lay_wire();
        let outcome = open(&small("d0", 0)).outcome();
        assert!(!outcome.zero_copy, "veth copies");
        assert!(!outcome.huge_pages, "none were asked for");
        assert!(!outcome.busy_poll, "none was asked for");
        assert!(outcome.needs_wakeup);
        assert!(outcome.to_string().starts_with("copy, 4 KiB pages, interrupts"), "{outcome}");

        let busy_poll = Some(barewire_engine::xdp::BusyPoll { budget: 64, timeout_us: 20 });
        let outcome = open(&XdpOptions { busy_poll, ..small("d0", 0) }).outcome();
        assert!(!outcome.busy_poll, "a veth has no interrupts to do without");
    });
}

#[test]
fn huge_pages_are_there_or_it_is_said() {
    isolated("huge_pages_are_there_or_it_is_said", || {
        lay_wire();
        let with = |huge_pages| XdpDevice::open(&XdpOptions { huge_pages, ..small("d0", 0) });
        match with(HugePages::Require) {
            Ok(device) => {
                assert!(device.outcome().huge_pages);
                let bytes = u64::from(device.ledger().total) * 2048;
                assert_eq!(bytes % (2 << 20), 0, "whole pages");
            }
            Err(error) => {
                assert!(matches!(error, XdpError::HugePages { n_pages: 1, .. }), "{error}");
                assert!(error.to_string().contains("vm.nr_hugepages"), "{error}");
                let device = with(HugePages::Auto).expect("auto falls back");
                assert!(!device.outcome().huge_pages, "and says so");
            }
        }
    });
}

#[test]
fn what_cannot_be_opened_is_refused_with_the_reason() {
    isolated("what_cannot_be_opened_is_refused_with_the_reason", || {
        lay_wire();
        let refused = |options: &XdpOptions| {
            XdpDevice::open(options).expect_err("must be refused").to_string()
        };
        let zero_copy = refused(&XdpOptions { mode: Mode::ZeroCopy, ..small("d0", 0) });
        assert!(zero_copy.contains("zero-copy was demanded"), "{zero_copy}");
        assert!(zero_copy.contains("driver `veth` of `d0`"), "{zero_copy}");
        let queue = refused(&small("d0", 2));
        assert!(queue.contains("has 2 queues"), "{queue}");
        let name = refused(&small("d7", 0));
        assert!(name.contains("no interface `d7`"), "{name}");
        run("ip link set d0 mtu 3000");
        let mtu = refused(&small("d0", 0));
        assert!(mtu.contains("frame_bytes = 4096"), "{mtu}");
        open(&XdpOptions { frame_bytes: 4096, ..small("d0", 0) });
    });
}

#[test]
fn a_sleeper_wakes_for_frames_for_its_bell_and_for_the_time() {
    isolated("a_sleeper_wakes_for_frames_for_its_bell_and_for_the_time", || {
        let mut pair = Pair::new(|ifname| small(ifname, 0));
        let bell = EventFd::new().expect("an eventfd");
        let wait = |device: &XdpDevice, timeout| {
            let woken = device.wait(timeout, bell.as_fd()).expect("polls");
            (woken.frames, woken.wakeup)
        };
        let begin = Instant::now();
        assert_eq!(wait(&pair.other, Some(Duration::from_micros(1500))), (false, false));
        assert!(begin.elapsed() >= Duration::from_micros(1500));
        assert_eq!(wait(&pair.other, Some(Duration::ZERO)), (false, false));

        bell.ring();
        assert_eq!(wait(&pair.other, None), (false, true));
        assert!(bell.clear());

        let mut batch = Batch::new();
        assert_eq!(send_from(&mut pair.one, &mut batch, 5, 1), 1);
        assert_eq!(wait(&pair.other, Some(PATIENCE)), (true, false));
        assert_eq!(pair.other.rx_batch(&mut batch), 1);
        release_all(&mut pair.other, &mut batch);
        pair.settle();
    });
}

#[test]
fn a_forged_token_is_not_taken() {
    isolated("a_forged_token_is_not_taken", || {
        lay_wire();
        let device = open(&small("d0", 0));
        let free_frame = device.ledger().total - 1;
        for idx in [0, free_frame, u32::MAX] {
            let forged = Frame::mint(idx, 256, 60);
            let read = catch_unwind(AssertUnwindSafe(|| device.bytes(&forged).len()));
            let panic = read.expect_err("the frame is not held");
            let sentence = panic.downcast_ref::<String>().expect("a message");
            assert!(sentence.contains("is no token of this device"), "{sentence}");
        }
    });
}
