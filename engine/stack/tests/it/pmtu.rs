//! Path MTU discovery (RFC 1191): routers that say that a segment was too big, those that lie
//! (RFC 5927), and what the sender makes of it.

use crate::inject::icmp_frame;
use crate::peer::*;
use barewire_stack::stack::{ConnId, StackConfig};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::{State, TcpConfig};
use barewire_stack::time::Duration;
use barewire_stack::wire::ipv4;
use barewire_stack::wire::tcp::{Options, Timestamps};

/// "Fragmentation needed": a segment of the flow with this number is larger than `mtu`.
fn too_big(flow: &Flow, seq: u32, mtu: u16) -> Vec<u8> {
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend_from_slice(&mtu.to_be_bytes());
    let mut quote = vec![0; 28];
    ip_of(STACK_IP, PEER_IP, ipv4::PROTOCOL_TCP).emit(&mut quote, 1440);
    quote[20..22].copy_from_slice(&flow.stack_port.to_be_bytes());
    quote[22..24].copy_from_slice(&flow.port.to_be_bytes());
    quote[24..28].copy_from_slice(&seq.to_be_bytes());
    message.extend_from_slice(&quote);
    icmp_frame(message)
}

fn full_size() -> Options {
    Options { mss: Some(1460), ..Options::default() }
}

/// An open connection with three segments of 1460 bytes in flight.
fn in_flight(lab: &mut Lab) -> (Flow, ConnId) {
    let (flow, id) = lab.open_with(1, full_size());
    lab.stack.send(lab.now, id, &[1; 4380]);
    lab.turn();
    assert_eq!(sizes(lab), [1460, 1460, 1460]);
    (flow, id)
}

/// Payload sizes of what was sent.
fn sizes(lab: &mut Lab) -> Vec<usize> {
    lab.sent.drain(..).map(|sent| sent.payload.len()).collect()
}

#[test]
fn what_does_not_fit_goes_again_in_smaller_segments_at_once() {
    let mut lab = Lab::new();
    let (flow, id) = in_flight(&mut lab);
    let before = lab.stack.conn_info(id.slot).expect("a connection");
    lab.frame(too_big(&flow, flow.ack, 1200));
    let starts: Vec<(u32, usize)> =
        lab.sent.iter().map(|sent| (sent.tcp.seq - flow.ack, sent.payload.len())).collect();
    assert_eq!(
        starts,
        [(0, 1160), (1160, 300), (1460, 1160), (2620, 300), (2920, 1160), (4080, 300)]
    );
    let after = lab.stack.conn_info(id.slot).expect("a connection");
    assert_eq!((after.cwnd, after.ssthresh, after.phase), (before.cwnd, before.ssthresh, "open"));
    assert_eq!((after.mss, after.path_mtu), (1160, Some(1200)));
    assert_eq!(lab.stat(Counter::PathMtuReduced), 1);
    // The router tells it of each of them.
    lab.sent.clear();
    lab.frame(too_big(&flow, flow.ack + 1460, 1200));
    lab.frame(too_big(&flow, flow.ack + 2920, 1200));
    lab.expect_silence();
    assert_eq!(lab.stat(Counter::PathMtuReduced), 1);
    // New data are as small.
    lab.segment(&flow, ACK, flow.seq, flow.ack + 4380, b"");
    lab.stack.send(lab.now, id, &[2; 2320]);
    lab.turn();
    assert_eq!(sizes(&mut lab), [1160, 1160]);
    lab.audit();
}

#[test]
fn with_timestamps_the_packet_still_fits() {
    let tcp = TcpConfig::default();
    let mut lab = Lab::with(StackConfig { tcp, ..config() });
    let stamps = Some(Timestamps { value: 9, echo: 0 });
    let (flow, id) = lab.open_with(1, Options { timestamps: stamps, ..full_size() });
    lab.stack.send(lab.now, id, &[1; 1448]);
    lab.turn();
    lab.sent.clear();
    lab.frame(too_big(&flow, flow.ack, 1200));
    assert_eq!(sizes(&mut lab), [1148, 300]);
    assert_eq!(lab.stack.conn_info(id.slot).expect("a connection").path_mtu, Some(1200));
}

#[test]
fn a_router_that_does_not_tell_its_mtu_means_the_next_common_one() {
    let mut lab = Lab::new();
    let (flow, id) = in_flight(&mut lab);
    lab.frame(too_big(&flow, flow.ack, 0));
    assert_eq!(lab.stack.conn_info(id.slot).expect("a connection").mss, 1452);
    lab.frame(too_big(&flow, flow.ack, 0));
    assert_eq!(lab.stack.conn_info(id.slot).expect("a connection").mss, 966);
    lab.audit();
}

#[test]
fn a_message_that_quotes_nothing_of_ours_changes_nothing() {
    let mut lab = Lab::new();
    let (flow, id) = in_flight(&mut lab);
    lab.frame(too_big(&flow, flow.ack - 1, 1200));
    lab.frame(too_big(&flow, flow.ack + 4380, 1200));
    lab.frame(too_big(&flow, flow.ack + 100_000, 1200));
    lab.frame(too_big(&Flow { port: 2, ..flow }, flow.ack, 1200));
    lab.frame(too_big(&Flow { stack_port: 80, ..flow }, flow.ack, 1200));
    // Larger than what we send, or smaller than any link.
    for mtu in [1500, 1501, 9000, u16::MAX, 67, 1] {
        lab.frame(too_big(&flow, flow.ack, mtu));
    }
    lab.expect_silence();
    assert_eq!(lab.stack.conn_info(id.slot).expect("a connection").mss, 1460);
    assert_eq!((lab.stat(Counter::DropIcmp), lab.stat(Counter::PathMtuReduced)), (11, 0));
    // What was acknowledged, or was small enough, cannot have been too big.
    lab.segment(&flow, ACK, flow.seq, flow.ack + 4380, b"");
    lab.frame(too_big(&flow, flow.ack, 1200));
    lab.stack.send(lab.now, id, &[2; 800]);
    lab.turn();
    lab.sent.clear();
    lab.frame(too_big(&flow, flow.ack + 4380, 1200));
    lab.expect_silence();
    assert_eq!(lab.stat(Counter::PathMtuReduced), 0);
    lab.audit();
}

#[test]
fn segments_do_not_become_smaller_than_the_floor() {
    let mut lab = Lab::new();
    let (flow, id) = in_flight(&mut lab);
    lab.frame(too_big(&flow, flow.ack, 68));
    let conn = lab.stack.conn_info(id.slot).expect("a connection");
    assert_eq!((conn.mss, conn.path_mtu), (512, Some(552)));
    lab.sent.clear();
    for n in 0..10_000 {
        lab.frame(too_big(&flow, flow.ack + n % 4380, 68 + (n % 400) as u16));
    }
    lab.expect_silence();
    assert_eq!(lab.stack.conn_info(id.slot).expect("a connection").mss, 512);
    lab.audit();
}

#[test]
fn the_full_size_is_tried_again_after_a_while() {
    let mut lab = Lab::new();
    let (flow, id) = in_flight(&mut lab);
    lab.frame(too_big(&flow, flow.ack, 1200));
    lab.segment(&flow, ACK, flow.seq, flow.ack + 4380, b"");
    lab.sent.clear();
    lab.advance(Duration::from_secs(590));
    lab.stack.send(lab.now, id, &[2; 1460]);
    lab.turn();
    assert_eq!(sizes(&mut lab)[0], 1160);
    lab.segment(&flow, ACK, flow.seq, flow.ack + 5840, b"");
    lab.advance(Duration::from_secs(11));
    lab.stack.send(lab.now, id, &[2; 1460]);
    lab.turn();
    assert_eq!(sizes(&mut lab), [1460]);
    assert_eq!(lab.stack.conn_info(id.slot).expect("a connection").path_mtu, None);
    // The path is as narrow as it was.
    lab.frame(too_big(&flow, flow.ack + 5840, 1200));
    assert_eq!(sizes(&mut lab), [1160, 300]);
    lab.audit();
}

#[test]
fn the_full_size_is_never_tried_again_when_that_is_off() {
    let mut config = config();
    config.tcp.pmtu_raise = Duration::ZERO;
    let mut lab = Lab::with(config);
    let (flow, id) = in_flight(&mut lab);
    lab.frame(too_big(&flow, flow.ack, 1200));
    lab.segment(&flow, ACK, flow.seq, flow.ack + 4380, b"");
    lab.advance(Duration::from_secs(10_000));
    lab.sent.clear();
    lab.stack.send(lab.now, id, &[2; 2320]);
    lab.turn();
    assert_eq!(sizes(&mut lab), [1160, 1160]);
}

#[test]
fn a_fin_is_no_byte_that_has_to_fit() {
    let mut lab = Lab::new();
    let (flow, id) = lab.open_with(1, full_size());
    lab.stack.send(lab.now, id, &[1; 1460 + 1160]);
    lab.stack.shutdown(lab.now, id);
    lab.turn();
    assert_eq!(sizes(&mut lab), [1460, 1160]);
    lab.frame(too_big(&flow, flow.ack, 1200));
    assert_eq!(sizes(&mut lab), [1160, 300], "the second segment did fit");
    lab.segment(&flow, ACK, flow.seq, flow.ack + 1460 + 1161, b"");
    assert_eq!(lab.stack.state(id), Some(State::FinWait2));
    lab.audit();
}

#[test]
fn an_open_does_not_heed_it() {
    let mut lab = Lab::new();
    let (flow, id) = lab.connect();
    lab.frame(too_big(&flow, flow.ack - 1, 68));
    assert_eq!(lab.stack.state(id), Some(State::SynSent));
    assert_eq!(lab.stat(Counter::DropIcmp), 1);
}

#[test]
fn a_router_that_tells_no_size_means_the_packet_that_it_quotes() {
    let mut lab = Lab::new();
    let (flow, id) = lab.open_with(1, full_size());
    lab.stack.send(lab.now, id, &[1; 988]);
    lab.turn();
    assert_eq!(sizes(&mut lab), [988]);
    lab.frame(too_big(&flow, flow.ack, 0));
    assert_eq!(sizes(&mut lab), [966, 22], "the plateau below 1028 bytes is 1006");
}

/// A path that takes packets of at most 1000 bytes and tells nobody: what arrives is acknowledged.
fn cross_black_hole(lab: &mut Lab, flow: &Flow, len: u32) {
    let mut acked = 0;
    for _ in 0..100 {
        lab.advance_ms(100);
        for sent in lab.sent.drain(..) {
            let from = sent.tcp.seq - flow.ack;
            let end = from + sent.payload.len() as u32;
            if sent.payload.len() <= 960 && from <= acked {
                acked = acked.max(end);
            }
        }
        lab.segment(flow, ACK, flow.seq, flow.ack + acked, b"");
    }
    assert!(acked == 0 || acked == len, "{acked}");
}

#[test]
fn a_black_hole_is_crossed_in_small_segments_where_it_is_expected() {
    for is_expected in [true, false] {
        let mut config = config();
        config.tcp.pmtu_black_hole = is_expected;
        let mut lab = Lab::with(config);
        let (flow, id) = in_flight(&mut lab);
        cross_black_hole(&mut lab, &flow, 4380);
        let conn = lab.stack.conn_info(id.slot).expect("a connection");
        assert_eq!(conn.path_mtu, is_expected.then_some(576));
        assert_eq!(conn.snd_una == flow.ack + 4380, is_expected);
        assert_eq!(lab.stat(Counter::PathMtuBlackHoles), u64::from(is_expected));
        lab.audit();
    }
}

#[test]
fn small_segments_and_a_single_timeout_suggest_no_black_hole() {
    let mut config = config();
    config.tcp.pmtu_black_hole = true;
    let mut lab = Lab::with(config);
    let (flow, id) = in_flight(&mut lab);
    while lab.stack.conn_info(id.slot).expect("a connection").retries < 1 {
        lab.advance_ms(10);
    }
    lab.segment(&flow, ACK, flow.seq, flow.ack + 4380, b"");
    lab.stack.send(lab.now, id, &[2; 500]);
    lab.advance(Duration::from_secs(10));
    assert!(lab.stack.conn_info(id.slot).expect("a connection").retries > 2);
    assert_eq!(lab.stat(Counter::PathMtuBlackHoles), 0);
    lab.audit();
}
