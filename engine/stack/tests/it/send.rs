//! The sender: segmentation, windows, retransmission, congestion control, probes.

use crate::peer::*;
use barewire_stack::stack::{ConnId, Miss, StackConfig};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::{End, Events, TcpConfig};
use barewire_stack::time::{Duration, Instant};
use barewire_stack::wire::tcp::Tcp;

/// A connection that has `n` bytes to send, and the first flight.
fn sending(lab: &mut Lab, n: usize) -> (Flow, ConnId) {
    let (flow, id) = lab.open(1);
    lab.stack.send(lab.now, id, &vec![9; n]);
    lab.turn();
    (flow, id)
}

fn gaps(from: Instant, lab: &Lab) -> Vec<u64> {
    let mut last = from;
    let mut gaps = Vec::new();
    for sent in &lab.sent {
        gaps.push(sent.at.since(last).as_millis());
        last = sent.at;
    }
    gaps
}

#[test]
fn data_is_cut_into_segments_and_the_last_one_pushes() {
    let mut lab = Lab::new();
    let (flow, _) = sending(&mut lab, 2500);
    let sizes: Vec<usize> = lab.sent.iter().map(|s| s.payload.len()).collect();
    assert_eq!(sizes, [1000, 1000, 500]);
    assert_eq!(lab.sent[0].tcp.seq, flow.ack);
    let pushes: Vec<bool> = lab.sent.iter().map(|s| s.tcp.flags.contains(PSH)).collect();
    assert_eq!(pushes, [false, false, true]);
}

#[test]
fn the_first_flight_is_ten_segments_and_slow_start_doubles_it() {
    let mut lab = Lab::new();
    let (mut flow, _) = sending(&mut lab, 100_000);
    assert_eq!(lab.sent.len(), 10);
    lab.sent.clear();
    for _ in 0..10 {
        flow.ack += 1000;
        lab.ack(&flow);
    }
    assert_eq!(lab.sent.len(), 20);
}

#[test]
fn the_peers_window_is_never_exceeded() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    flow.window = 2500;
    lab.ack(&flow);
    lab.stack.send(lab.now, id, &[9; 20_000]);
    lab.turn();
    let bytes: usize = lab.sent.iter().map(|s| s.payload.len()).sum();
    assert_eq!(bytes, 2000, "half a segment is not worth sending");
}

#[test]
fn an_unanswered_segment_is_sent_again_with_doubling_gaps_until_r2() {
    let tcp = TcpConfig { retries_max: 6, ..config().tcp };
    let mut lab = Lab::with(StackConfig { tcp, ..config() });
    let (flow, _) = sending(&mut lab, 100);
    let first = lab.expect();
    lab.advance(Duration::from_secs(300));
    assert_eq!(gaps(first.at, &lab), [200, 400, 800, 1600, 3200, 6400]);
    assert!(lab.sent.iter().all(|s| s.tcp.seq == flow.ack && s.payload.len() == 100));
    assert_eq!(lab.events.back().and_then(|e| e.end), Some(End::TimedOut));
    lab.segment(&flow, ACK, flow.seq, flow.ack + 100, b"");
    assert!(lab.sent.back().is_some_and(|s| s.tcp.flags.contains(RST)));
    lab.audit();
}

#[test]
fn a_timeout_sends_one_segment_and_starts_slowly() {
    let mut lab = Lab::new();
    let (mut flow, _) = sending(&mut lab, 50_000);
    lab.sent.clear();
    lab.advance_ms(300);
    assert_eq!(lab.sent.len(), 1);
    flow.ack += 1000;
    lab.sent.clear();
    lab.ack(&flow);
    assert_eq!(lab.sent.len(), 2);
    assert_eq!(lab.sent[0].tcp.seq, flow.ack);
}

#[test]
fn three_duplicates_resend_the_hole_and_partial_acks_the_next() {
    let mut lab = Lab::new();
    let (mut flow, id) = sending(&mut lab, 12_000);
    let una = flow.ack;
    lab.sent.clear();
    lab.ack(&flow);
    lab.ack(&flow);
    assert_eq!(lab.sent.len(), 2, "limited transmit: one new segment for each");
    lab.sent.clear();
    lab.ack(&flow);
    assert_eq!(lab.expect().tcp.seq, una);
    assert_eq!(lab.stat(Counter::TcpFastRetransmits), 1);
    for _ in 0..6 {
        lab.ack(&flow);
    }
    lab.sent.clear();
    flow.ack = una + 3000;
    lab.ack(&flow);
    assert_eq!(lab.expect().tcp.seq, una + 3000, "a partial ACK shows the next hole");
    lab.sent.clear();
    flow.ack = una + 12_000;
    lab.ack(&flow);
    lab.expect_silence();
    assert_eq!(lab.stat(Counter::TcpTimeouts), 0);
    let _ = id;
    lab.audit();
}

#[test]
fn duplicates_that_carry_data_or_move_the_window_do_not_count() {
    let mut lab = Lab::new();
    let (mut flow, _) = sending(&mut lab, 10_000);
    lab.sent.clear();
    for i in 0..5 {
        flow.window = 60_000 - i;
        lab.ack(&flow);
    }
    for _ in 0..5 {
        lab.data(&mut flow, b"x");
    }
    assert_eq!(lab.stat(Counter::TcpFastRetransmits), 0);
}

#[test]
fn a_closed_window_is_probed_for_ever_while_answered() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    flow.window = 0;
    lab.ack(&flow);
    lab.stack.send(lab.now, id, b"held back");
    lab.turn();
    lab.expect_silence();
    let mut last = lab.now;
    let mut gaps = Vec::new();
    for _ in 0..40 {
        while lab.sent.is_empty() {
            lab.advance_ms(10);
        }
        let probe = lab.expect();
        assert_eq!((probe.payload.len(), probe.tcp.seq), (1, flow.ack));
        gaps.push(probe.at.since(last).as_millis());
        last = probe.at;
        lab.ack(&flow);
    }
    assert!(gaps[1] > gaps[0] && gaps.iter().all(|&gap| gap <= 60_010), "{gaps:?}");
    flow.window = 1000;
    lab.ack(&flow);
    let sent = lab.expect();
    assert_eq!(sent.payload, b"held back");
    lab.audit();
}

#[test]
fn a_closed_window_of_a_silent_peer_times_out() {
    let tcp = TcpConfig { retries_max: 4, ..config().tcp };
    let mut lab = Lab::with(StackConfig { tcp, ..config() });
    let (mut flow, id) = lab.open(1);
    flow.window = 0;
    lab.ack(&flow);
    lab.stack.send(lab.now, id, b"held back");
    lab.advance(Duration::from_secs(120));
    assert_eq!(lab.sent.len(), 4);
    assert_eq!(lab.events.back().and_then(|e| e.end), Some(End::TimedOut));
    lab.audit();
}

#[test]
fn an_accepted_probe_byte_counts() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    flow.window = 0;
    lab.ack(&flow);
    lab.stack.send(lab.now, id, b"abc");
    lab.advance(Duration::from_secs(2));
    assert!(lab.sent.iter().all(|s| s.payload == b"a"));
    lab.sent.clear();
    flow.ack += 1;
    flow.window = 100;
    lab.ack(&flow);
    assert_eq!(lab.expect().payload, b"bc");
}

#[test]
fn a_shrinking_window_is_survived() {
    let mut lab = Lab::new();
    let (mut flow, _) = sending(&mut lab, 10_000);
    lab.sent.clear();
    flow.ack += 1000;
    flow.window = 10;
    lab.ack(&flow);
    lab.advance(Duration::from_secs(3));
    flow.window = 60_000;
    lab.sent.clear();
    lab.ack(&flow);
    lab.advance(Duration::from_secs(10));
    assert!(lab.sent.iter().any(|s| s.tcp.seq == flow.ack));
    lab.audit();
}

#[test]
fn nagle_holds_small_writes_and_off_sends_them() {
    for (nagle, expected) in [(true, 1), (false, 10)] {
        let tcp = TcpConfig { nagle, ..config().tcp };
        let mut lab = Lab::with(StackConfig { tcp, ..config() });
        let (mut flow, id) = lab.open(1);
        for _ in 0..10 {
            lab.stack.send(lab.now, id, &[1; 10]);
            lab.turn();
        }
        assert_eq!(lab.sent.len(), expected);
        if nagle {
            lab.sent.clear();
            flow.ack += 10;
            lab.ack(&flow);
            assert_eq!(lab.expect().payload.len(), 90);
        }
    }
}

#[test]
fn the_tail_of_a_response_does_not_wait_for_its_head() {
    let mut lab = Lab::new();
    let (_, _) = sending(&mut lab, 1200);
    let sizes: Vec<usize> = lab.sent.iter().map(|s| s.payload.len()).collect();
    assert_eq!(sizes, [1000, 200]);
}

/// What an application could not queue follows: what is queued of it leaves in full segments, and a
/// small one goes only when the application, told that it may go on, has nothing more.
#[test]
fn a_send_that_was_cut_short_leaves_in_full_segments() {
    let tcp = TcpConfig { send_bytes_max: 4_500, ..config().tcp };
    let mut lab = Lab::with(StackConfig { tcp, ..config() });
    let (mut flow, id) = lab.open(1);
    lab.sent.clear();
    assert_eq!(lab.stack.send(lab.now, id, &[1; 6_000]), 4_500);
    lab.turn();
    let sizes = |lab: &mut Lab| lab.sent.drain(..).map(|s| s.payload.len()).collect::<Vec<_>>();
    assert_eq!(sizes(&mut lab), [1000; 4], "500 wait for those that could not be queued");
    flow.ack = flow.ack.wrapping_add(2_000);
    let tcp =
        Tcp { seq: flow.seq, ack: flow.ack, flags: ACK, window: flow.window, ..Tcp::default() };
    let tcp = Tcp { src_port: flow.port, dst_port: flow.stack_port, ..tcp };
    let mut frame = frame_of(PEER_IP, STACK_IP, &tcp, b"");
    lab.stack.on_frame(lab.now, &mut frame, Miss::Answer);
    let event = lab.stack.poll_event().expect("there is room");
    assert!(event.events.contains(Events::WRITABLE));
    assert_eq!(lab.stack.send(lab.now, id, &[2; 1_500]), 1_500);
    lab.turn();
    assert_eq!(sizes(&mut lab), [1000, 1000], "all full, for the two belong together");
    lab.audit();
}

#[test]
fn a_cut_short_send_says_when_it_may_go_on() {
    let tcp = TcpConfig { send_bytes_max: 5000, ..config().tcp };
    let mut lab = Lab::with(StackConfig { tcp, ..config() });
    let (mut flow, id) = lab.open(1);
    assert_eq!(lab.stack.send(lab.now, id, &[1; 9000]), 5000);
    lab.turn();
    assert!(lab.events.is_empty());
    flow.ack += 5000;
    lab.ack(&flow);
    assert!(lab.event().events.contains(Events::WRITABLE));
    assert_eq!(lab.stack.send(lab.now, id, &[1; 4000]), 4000);
}

#[test]
fn a_used_up_pool_wakes_the_sender_when_it_has_room() {
    let mut lab = Lab::with(StackConfig { buffer_bytes_max: 2048, ..config() });
    let (mut flow, hog) = lab.open(1);
    lab.data(&mut flow, &[1; 1000]);
    let (_, id) = lab.open(2);
    assert_eq!(lab.stack.send(lab.now, id, b"no room"), 0);
    assert_eq!(lab.stat(Counter::BufferRefused), 1);
    lab.events.clear();
    lab.stack.discard(lab.now, hog, 1000);
    lab.turn();
    lab.turn();
    let event = lab.event();
    assert!(event.id == id && event.events.contains(Events::WRITABLE));
    lab.audit();
}

#[test]
fn acknowledging_what_was_never_sent_is_refused() {
    let mut lab = Lab::new();
    let (flow, _) = sending(&mut lab, 1000);
    lab.sent.clear();
    lab.segment(&flow, ACK, flow.seq, flow.ack + 1001, b"");
    lab.expect_flags(ACK);
    assert_eq!(lab.stat(Counter::TcpBytesAcked), 0);
}

#[test]
fn keepalive_is_off_by_default_and_ends_a_dead_connection_when_on() {
    let mut lab = Lab::new();
    lab.open(1);
    lab.advance(Duration::from_secs(3 * 3600));
    lab.expect_silence();

    let tcp = TcpConfig {
        keepalive: Duration::from_secs(10),
        keepalive_interval: Duration::from_secs(1),
        keepalive_probes_max: 3,
        ..config().tcp
    };
    let mut lab = Lab::with(StackConfig { tcp, ..config() });
    let (flow, _) = lab.open(1);
    lab.advance(Duration::from_secs(11));
    let probe = lab.expect_flags(ACK);
    assert_eq!(probe.tcp.seq, flow.ack - 1);
    lab.ack(&flow);
    lab.sent.clear();
    lab.advance(Duration::from_secs(9));
    lab.expect_silence();
    lab.advance(Duration::from_secs(10));
    let flags: Vec<bool> = lab.sent.iter().map(|s| s.tcp.flags.contains(RST)).collect();
    assert_eq!(flags, [false, false, false, true]);
    assert_eq!(lab.events.back().and_then(|e| e.end), Some(End::TimedOut));
    lab.audit();
}

#[test]
fn data_that_find_the_next_hop_silent_are_sent_when_it_answers_again() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(9000);
    lab.advance(Duration::from_secs(61));
    lab.answers_arp = false;
    // The ACK of these asks for the next hop anew, in vain.
    lab.data(&mut flow, b"abc");
    lab.advance(Duration::from_secs(5));
    lab.sent.clear();
    assert_eq!(lab.stack.send(lab.now, id, b"xyz"), 3);
    lab.turn();
    lab.expect_silence();
    lab.answers_arp = true;
    lab.advance(Duration::from_secs(10));
    assert_eq!(lab.expect().payload, b"xyz");
}

#[test]
fn keepalive_does_not_probe_while_data_are_outstanding() {
    let mut lab = Lab::with(StackConfig {
        tcp: TcpConfig {
            keepalive: Duration::from_secs(1),
            keepalive_interval: Duration::from_secs(1),
            ..config().tcp
        },
        ..config()
    });
    let (flow, id) = lab.open(9000);
    assert_eq!(lab.stack.send(lab.now, id, b"abc"), 3);
    for _ in 0..20 {
        lab.advance(Duration::from_secs(1));
        // Its duplicate tells nothing new, and holds no retransmission up.
        lab.ack(&flow);
    }
    let sent: Vec<_> = lab.sent.drain(..).collect();
    assert!(sent.iter().all(|sent| sent.tcp.seq == flow.ack && sent.payload == b"abc"), "{sent:?}");
    assert!(sent.len() >= 6, "sent again at 0.2, 0.6, 1.4, 3, 6.2 and 12.6 s: {}", sent.len());
}
