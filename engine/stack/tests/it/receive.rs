//! The receiver: acceptability, acknowledgement, reassembly, the window it offers.

use crate::peer::*;
use barewire_stack::stack::{Miss, StackConfig};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::{Events, TcpConfig};
use barewire_stack::wire::tcp::{Flags, Options, Tcp, Timestamps};

fn sack() -> Options {
    Options { mss: Some(1000), sack_permitted: true, ..Options::default() }
}

#[test]
fn data_arrives_and_is_acknowledged() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.data(&mut flow, b"hello");
    let ack = lab.expect_flags(ACK);
    assert_eq!(ack.tcp.ack, flow.seq);
    assert!(lab.event().events.contains(Events::READABLE));
    assert_eq!(lab.stack.peek(id), b"hello");
    lab.audit();
}

#[test]
fn a_lone_segment_is_acknowledged_late_and_a_second_one_at_once() {
    let mut lab = Lab::new();
    let (mut flow, _) = lab.open(1);
    for _ in 0..16 {
        lab.data(&mut flow, b"x");
    }
    assert_eq!(lab.sent.len(), 16, "the first ones are acknowledged at once");
    lab.sent.clear();
    lab.data(&mut flow, b"x");
    lab.advance_ms(30);
    lab.expect_silence();
    lab.advance_ms(30);
    let late = lab.expect_flags(ACK);
    assert_eq!(late.tcp.ack, flow.seq);
    lab.data(&mut flow, b"x");
    lab.data(&mut flow, b"x");
    assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq);
}

#[test]
fn a_hole_is_told_with_sack_and_filled() {
    let mut lab = Lab::new();
    let (flow, id) = lab.open_with(1, sack());
    let start = flow.seq;
    lab.segment(&flow, ACK, start + 100, flow.ack, &[2; 100]);
    let first = lab.expect_flags(ACK);
    assert_eq!(first.tcp.ack, start);
    assert_eq!(first.tcp.options.sack.iter().collect::<Vec<_>>(), [(start + 100, start + 200)]);
    lab.segment(&flow, ACK, start + 300, flow.ack, &[4; 50]);
    let blocks: Vec<_> = lab.expect().tcp.options.sack.iter().collect();
    assert_eq!(blocks, [(start + 300, start + 350), (start + 100, start + 200)], "newest first");
    lab.segment(&flow, ACK, start, flow.ack, &[1; 100]);
    let filled = lab.expect_flags(ACK);
    assert_eq!(filled.tcp.ack, start + 200);
    assert_eq!(filled.tcp.options.sack.iter().collect::<Vec<_>>(), [(start + 300, start + 350)]);
    lab.segment(&flow, ACK, start + 150, flow.ack, &[3; 150]);
    let all = lab.expect_flags(ACK);
    let twice: Vec<_> = all.tcp.options.sack.iter().collect();
    assert_eq!((all.tcp.ack, twice), (start + 350, vec![(start + 150, start + 200)]), "DSACK");
    let mut got = vec![0; 400];
    let n = lab.stack.recv(lab.now, id, &mut got);
    let mut expected = [vec![1; 100], vec![2; 100], vec![3; 100], vec![4; 50]].concat();
    assert_eq!(got[..n], expected[..]);
    expected.clear();
    lab.audit();
}

#[test]
fn old_data_is_acknowledged_at_once_and_overlap_is_cut() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.data(&mut flow, b"abcd");
    lab.sent.clear();
    lab.segment(&flow, ACK, flow.seq - 4, flow.ack, b"abcd");
    assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq);
    lab.segment(&flow, ACK, flow.seq - 2, flow.ack, b"cdef");
    assert_eq!(lab.stack.peek(id), b"abcdef");
    assert_eq!(lab.stat(Counter::TcpDuplicate), 2);
    lab.audit();
}

#[test]
fn keepalive_probes_of_the_peer_are_answered() {
    let mut lab = Lab::new();
    let (flow, _) = lab.open(1);
    lab.segment(&flow, ACK, flow.seq - 1, flow.ack, b"");
    assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq);
    lab.segment(&flow, ACK, flow.seq - 1, flow.ack, b"x");
    assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq);
}

#[test]
fn data_beyond_the_window_is_refused_and_the_edge_is_cut() {
    let window = 4000;
    let tcp = TcpConfig { window_bytes_max: window, ..config().tcp };
    let mut lab = Lab::with(StackConfig { tcp, ..config() });
    let (flow, id) = lab.open(1);
    lab.segment(&flow, ACK, flow.seq + window, flow.ack, b"far");
    assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq);
    assert_eq!(lab.stat(Counter::DropSequence), 1);
    for i in 0..3 {
        lab.segment(&flow, ACK, flow.seq + i * 1000, flow.ack, &[7; 1000]);
    }
    lab.segment(&flow, ACK, flow.seq + 3000, flow.ack, &[7; 1200]);
    let last = lab.sent.pop_back().expect("acknowledged");
    assert_eq!((last.tcp.ack, last.tcp.window), (flow.seq + 4000, 0));
    lab.sent.clear();
    // The window is closed: data is refused, an ACK and a probe are answered.
    lab.segment(&flow, ACK, flow.seq + 4000, flow.ack, b"x");
    assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq + 4000);
    // Reading a little tells nothing; reading half opens the window.
    lab.stack.discard(lab.now, id, 1);
    lab.turn();
    lab.expect_silence();
    lab.stack.discard(lab.now, id, 1999);
    lab.turn();
    assert_eq!(lab.expect_flags(ACK).tcp.window, 2000);
    lab.audit();
}

#[test]
fn every_second_byte_is_bounded_by_the_configuration() {
    let tcp = TcpConfig { reassembly_segments_max: 8, ..config().tcp };
    let mut lab = Lab::with(StackConfig { tcp, ..config() });
    let (flow, _) = lab.open(1);
    for i in 0..100 {
        lab.segment(&flow, ACK, flow.seq + 1 + 2 * i, flow.ack, b"x");
    }
    assert_eq!(lab.stat(Counter::DropReassembly), 92);
    assert_eq!(lab.stack.memory().buffers, 8 * 2048);
    lab.audit();
}

#[test]
fn a_used_up_pool_drops_data_that_the_peer_sends_again() {
    let mut lab = Lab::with(StackConfig { buffer_bytes_max: 2048, ..config() });
    let (mut hog, id) = lab.open(1);
    lab.data(&mut hog, &[1; 1000]);
    let (mut flow, other) = lab.open(2);
    lab.sent.clear();
    lab.data(&mut flow, b"refused");
    assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq - 7);
    assert_eq!(lab.stat(Counter::DropBuffer), 1);
    lab.stack.discard(lab.now, id, 1000);
    flow.seq -= 7;
    lab.data(&mut flow, b"taken");
    assert_eq!(lab.stack.peek(other), b"taken");
    lab.audit();
}

#[test]
fn urgent_data_stay_in_line() {
    let mut lab = Lab::new();
    let (flow, id) = lab.open(1);
    for (i, pointer) in [0u16, 1, 65535].into_iter().enumerate() {
        let tcp = Tcp {
            seq: flow.seq + i as u32,
            ack: flow.ack,
            flags: ACK | Flags::URG,
            window: 1000,
            urgent: pointer,
            ..Default::default()
        };
        let (from, to) = ((PEER_IP, flow.port), (STACK_IP, PORT));
        let addr = |(ip, port)| std::net::SocketAddrV4::new(ip, port);
        lab.segment_between(addr(from), addr(to), tcp, b"u");
    }
    assert_eq!(lab.stack.peek(id), b"uuu");
}

#[test]
fn a_segment_without_ack_or_with_a_wrong_one_is_dropped() {
    let mut lab = Lab::new();
    let (flow, id) = lab.open(1);
    lab.segment(&flow, PSH, flow.seq, 0, b"x");
    lab.expect_silence();
    lab.segment(&flow, ACK, flow.seq, flow.ack + 1, b"x");
    lab.expect_flags(ACK);
    lab.advance_ms(600);
    lab.segment(&flow, ACK, flow.seq, flow.ack - 70_000, b"x");
    lab.expect_flags(ACK);
    assert!(lab.stack.peek(id).is_empty());
    assert_eq!((lab.stat(Counter::DropNoAck), lab.stat(Counter::DropAck)), (1, 2));
    lab.audit();
}

#[test]
fn paws_drops_old_timestamps_and_a_bad_one_does_not_poison() {
    let mut lab = Lab::with(StackConfig { tcp: TcpConfig::default(), ..config() });
    let options = Options {
        timestamps: Some(Timestamps { value: 5000, echo: 0 }),
        mss: Some(1000),
        ..Options::default()
    };
    let (mut flow, id) = lab.open_with(1, options);
    flow.stamps = Some(Timestamps { value: 4000, echo: 0 });
    lab.segment(&flow, ACK, flow.seq, flow.ack, b"old");
    assert_eq!(lab.expect_flags(ACK).tcp.options.timestamps.map(|t| t.echo), Some(5001));
    flow.stamps = Some(Timestamps { value: 6000 + (1 << 30), echo: 0 });
    lab.segment(&flow, ACK, flow.seq + 90_000_000, flow.ack, b"not acceptable");
    flow.stamps = None;
    lab.segment(&flow, ACK, flow.seq, flow.ack, b"none");
    assert!(lab.stack.peek(id).is_empty());
    assert_eq!(lab.stat(Counter::DropPaws), 2);
    flow.stamps = Some(Timestamps { value: 6000, echo: 0 });
    lab.data(&mut flow, b"fresh");
    assert_eq!(lab.stack.peek(id), b"fresh");
    lab.sent.clear();
    // PAWS never stops a reset.
    flow.stamps = Some(Timestamps { value: 1, echo: 0 });
    lab.segment(&flow, RST, flow.seq, 0, b"");
    assert!(lab.stack.state(id).is_none());
    lab.audit();
}

#[test]
fn numbers_wrap_in_both_directions() {
    for iss in [0, 1 << 31, u32::MAX - 2, (1 << 31) - 1] {
        let mut lab = Lab::new();
        let mut flow =
            Flow { port: 1, stack_port: PORT, seq: iss, ack: 0, window: 9000, stamps: None };
        lab.segment(&flow, SYN, iss, 0, b"");
        flow.seq = iss.wrapping_add(1);
        flow.ack = lab.expect_flags(SYN | ACK).tcp.seq.wrapping_add(1);
        lab.ack(&flow);
        let id = lab.event().id;
        for _ in 0..20 {
            lab.data(&mut flow, b"abc");
        }
        assert_eq!(lab.stack.peek(id).len(), 60, "from {iss}");
        lab.audit();
    }
}

#[test]
fn what_arrives_twice_is_told_in_the_first_block() {
    let mut lab = Lab::new();
    let (flow, _) = lab.open_with(1, sack());
    let start = flow.seq;
    lab.segment(&flow, ACK, start, flow.ack, &[1; 100]);
    lab.segment(&flow, ACK, start + 200, flow.ack, &[3; 100]);
    lab.sent.clear();
    lab.segment(&flow, ACK, start, flow.ack, &[1; 100]);
    let blocks: Vec<_> = lab.expect_flags(ACK).tcp.options.sack.iter().collect();
    assert_eq!(blocks, [(start, start + 100), (start + 200, start + 300)]);
    lab.segment(&flow, ACK, start + 200, flow.ack, &[3; 100]);
    let blocks: Vec<_> = lab.expect_flags(ACK).tcp.options.sack.iter().collect();
    let (twice, held) = ((start + 200, start + 300), (start + 200, start + 300));
    assert_eq!(blocks, [twice, held], "above the acknowledgement the run that holds it follows");
    lab.segment(&flow, ACK, start + 400, flow.ack, &[5; 100]);
    assert_eq!(lab.expect_flags(ACK).tcp.options.sack.len(), 2, "told once");

    let (flow, _) = lab.open(2);
    lab.segment(&flow, ACK, flow.seq, flow.ack, &[1; 100]);
    lab.sent.clear();
    lab.segment(&flow, ACK, flow.seq, flow.ack, &[1; 100]);
    assert!(lab.expect_flags(ACK).tcp.options.sack.is_empty(), "not without SACK");
}

#[test]
fn duplicates_of_one_turn_that_adjoin_are_told_together() {
    let mut lab = Lab::new();
    let (flow, _) = lab.open_with(1, sack());
    let start = flow.seq;
    lab.segment(&flow, ACK, start, flow.ack, &[1; 300]);
    lab.sent.clear();
    for at in [100, 200] {
        let tcp = Tcp {
            src_port: flow.port,
            dst_port: PORT,
            seq: start + at,
            ack: flow.ack,
            flags: ACK,
            window: flow.window,
            ..Tcp::default()
        };
        let mut frame = frame_of(PEER_IP, STACK_IP, &tcp, &[1; 100]);
        lab.stack.on_frame(lab.now, &mut frame, Miss::Answer);
    }
    lab.turn();
    let blocks: Vec<_> = lab.expect_flags(ACK).tcp.options.sack.iter().collect();
    assert_eq!(blocks, [(start + 100, start + 300)]);
}
