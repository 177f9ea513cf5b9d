//! When a peer is taken for dead: the user timeout, the limits of retransmission R1 and R2, and the
//! closing states that nobody answers.

use crate::peer::*;
use barewire_stack::stack::{ConnId, StackConfig};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::{End, State, TcpConfig};
use barewire_stack::time::Duration;
use barewire_stack::wire::ethernet::Mac;
use barewire_stack::wire::tcp::Options;

fn lab(tcp: TcpConfig) -> Lab {
    Lab::with(StackConfig { tcp: TcpConfig { timestamps: false, ..tcp }, ..config() })
}

fn lab_with_timeout(user_timeout: Duration) -> Lab {
    lab(TcpConfig { user_timeout, ..TcpConfig::default() })
}

const FIVE: Duration = Duration::from_secs(5);

/// An open connection with 100 bytes in flight.
fn in_flight(lab: &mut Lab) -> (Flow, ConnId) {
    let (flow, id) = lab.open(1);
    lab.stack.send(lab.now, id, &[1; 100]);
    lab.turn();
    lab.expect_flags(ACK);
    (flow, id)
}

#[test]
fn a_user_timeout_ends_a_connection_that_makes_no_progress() {
    let mut lab = lab_with_timeout(FIVE);
    let (flow, id) = in_flight(&mut lab);
    lab.advance_ms(4_990);
    assert_eq!(lab.stack.state(id), Some(State::Established));
    lab.sent.clear();
    lab.advance_ms(20);
    assert_eq!(lab.event().end, Some(End::TimedOut));
    assert_eq!(lab.expect_flags(RST | ACK).tcp.seq, flow.ack + 100);
    lab.expect_silence();
    // Whoever lives after all is told (E84).
    lab.segment(&flow, ACK, flow.seq, flow.ack + 100, b"");
    lab.expect_flags(RST);
    assert_eq!(lab.stack.n_records(), 0);
    lab.audit();
}

#[test]
fn progress_starts_the_user_timeout_anew_and_duplicates_do_not() {
    let mut lab = lab_with_timeout(FIVE);
    let (flow, id) = in_flight(&mut lab);
    lab.advance_ms(3_000);
    lab.segment(&flow, ACK, flow.seq, flow.ack + 40, b"");
    lab.advance_ms(4_900);
    assert_eq!(lab.stack.state(id), Some(State::Established));
    lab.segment(&flow, ACK, flow.seq, flow.ack + 40, b"");
    lab.advance_ms(200);
    assert_eq!(lab.event().end, Some(End::TimedOut));
    lab.audit();
}

#[test]
fn idle_time_does_not_count_for_the_user_timeout() {
    let mut lab = lab_with_timeout(FIVE);
    let (mut flow, id) = lab.open(1);
    lab.advance(Duration::from_secs(3600));
    assert_eq!(lab.stack.state(id), Some(State::Established));
    // Nor does it before a window that was closed all along.
    flow.window = 0;
    lab.ack(&flow);
    lab.advance(Duration::from_secs(3600));
    lab.stack.send(lab.now, id, &[1; 100]);
    lab.advance_ms(4_900);
    assert_eq!(lab.stack.state(id), Some(State::Established));
    lab.advance_ms(200);
    assert_eq!(lab.event().end, Some(End::TimedOut), "no probe was answered");
    lab.audit();
}

#[test]
fn a_closed_window_that_the_peer_confirms_may_stay_closed() {
    let mut lab = lab_with_timeout(FIVE);
    let (mut flow, id) = lab.open(1);
    flow.window = 0;
    lab.ack(&flow);
    lab.stack.send(lab.now, id, &[1; 100]);
    for _ in 0..120 {
        lab.advance_ms(1_000);
        if !lab.sent.is_empty() {
            lab.sent.clear();
            lab.ack(&flow);
        }
    }
    assert_eq!(lab.stack.state(id), Some(State::Established));
    assert!(lab.stat(Counter::TcpProbes) > 10);
    lab.audit();
}

#[test]
fn a_user_timeout_ends_an_open_without_a_reset() {
    let mut lab = lab_with_timeout(FIVE);
    lab.connect();
    lab.advance_ms(5_010);
    assert_eq!(lab.event().end, Some(End::TimedOut));
    assert_eq!(lab.sent.len(), 2, "SYNs only");
    lab.audit();
}

#[test]
fn without_a_user_timeout_only_the_retries_count() {
    let mut lab = lab(TcpConfig { retries_max: 4, ..TcpConfig::default() });
    let (_, id) = in_flight(&mut lab);
    lab.advance_ms(200 + 400 + 800 + 1_600);
    assert_eq!(lab.stack.state(id), Some(State::Established));
    lab.advance(Duration::from_secs(10));
    assert_eq!(lab.event().end, Some(End::TimedOut));
    lab.audit();
}

#[test]
fn the_next_hop_is_asked_for_again_at_r1() {
    let mut lab = Lab::new();
    let (flow, _) = in_flight(&mut lab);
    lab.advance(Duration::from_secs(10));
    lab.segment(&flow, ACK, flow.seq, flow.ack + 100, b"");
    let id = lab.stack.conn_info(0).expect("a connection").id;
    lab.stack.send(lab.now, id, &[2; 100]);
    lab.turn();
    let asked = lab.others.len();
    let doubted = lab.stat(Counter::NeighborDoubted);
    while lab.stack.conn_info(id.slot).expect("a connection").retries < 2 {
        lab.advance_ms(50);
    }
    assert_eq!(lab.stat(Counter::NeighborDoubted), doubted);
    assert_eq!(lab.others.len(), asked);
    while lab.stack.conn_info(id.slot).expect("a connection").retries < 3 {
        lab.advance_ms(50);
    }
    assert_eq!(lab.stat(Counter::NeighborDoubted), doubted + 1);
    assert_eq!(lab.others.len(), asked + 1, "one question");
    lab.audit();
}

#[test]
fn an_answer_that_just_came_is_not_doubted() {
    let mut lab = Lab::new();
    in_flight(&mut lab);
    lab.advance_ms(2_500);
    assert!(lab.stack.conn_info(0).expect("a connection").retries > 2);
    assert_eq!(lab.stat(Counter::NeighborDoubted), 0);
    lab.audit();
}

#[test]
fn a_next_hop_that_moved_is_found_at_r1() {
    let mut lab = Lab::new();
    let (flow, id) = in_flight(&mut lab);
    lab.segment(&flow, ACK, flow.seq, flow.ack + 100, b"");
    lab.advance(Duration::from_secs(10));
    lab.answers_arp = false;
    lab.stack.send(lab.now, id, &[2; 100]);
    lab.advance(Duration::from_secs(2));
    let moved = Mac([2, 0, 0, 0, 0, 3]);
    lab.frame(arp_reply(PEER_IP, moved));
    lab.advance(Duration::from_secs(1));
    let mut buf = [0; 2048];
    lab.stack.send(lab.now, id, &[2; 100]);
    lab.stack.abort(lab.now, id);
    let len = lab.stack.poll_transmit(lab.now, &mut buf).expect("the RST");
    assert_eq!((buf[..6].to_vec(), len), (moved.0.to_vec(), 54));
}

/// Lets our side close and brings it to `state`; nobody answers from then on.
fn closing(lab: &mut Lab, state: State) -> ConnId {
    let (mut flow, id) = lab.open(1);
    if state == State::LastAck {
        lab.segment(&flow, ACK | FIN, flow.seq, flow.ack, b"");
        flow.seq += 1;
    }
    lab.stack.close(lab.now, id);
    lab.turn();
    if state == State::Closing {
        lab.segment(&flow, ACK | FIN, flow.seq, flow.ack, b"");
    }
    assert_eq!(lab.stack.state(id), Some(state));
    id
}

#[test]
fn closing_states_end_with_the_retries() {
    for state in [State::FinWait1, State::Closing, State::LastAck] {
        let mut lab = lab(TcpConfig { retries_max: 5, ..TcpConfig::default() });
        let id = closing(&mut lab, state);
        lab.sent.clear();
        lab.advance(Duration::from_secs(60));
        assert_eq!(lab.stack.state(id), None, "{state}");
        let n_fins = lab.sent.iter().filter(|sent| sent.tcp.flags.contains(FIN)).count();
        assert!((5..=6).contains(&n_fins), "{state}: {n_fins}");
        assert_eq!((lab.stack.n_records(), lab.stat(Counter::ConnsTimedOut)), (0, 1), "{state}");
        lab.audit();
    }
}

#[test]
fn half_open_connections_end_with_the_syn_retries() {
    let mut lab = lab_with_timeout(FIVE);
    lab.syn(1, Options::default());
    lab.advance(Duration::from_secs(170));
    assert_eq!((lab.sent.len(), lab.stat(Counter::ConnsHalfOpen)), (7, 1));
    lab.advance(Duration::from_secs(20));
    assert_eq!((lab.sent.len(), lab.stat(Counter::ConnsHalfOpen)), (7, 0));
    lab.audit();
}
