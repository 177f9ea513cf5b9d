//! All ways a connection ends, and what guards its four-tuple afterwards.

use crate::peer::*;
use barewire_stack::flow::FourTuple;
use barewire_stack::stack::{ConnId, Miss, StackConfig};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::{End, Events, State, TcpConfig};
use barewire_stack::time::Duration;
use barewire_stack::wire::tcp::Tcp;
use std::net::SocketAddrV4;

fn state(lab: &Lab, flow: &Flow) -> Option<State> {
    let local = SocketAddrV4::new(STACK_IP, flow.stack_port);
    let tuple = FourTuple::new(local, SocketAddrV4::new(PEER_IP, flow.port));
    lab.stack.conn_between(&tuple).map(|info| info.state)
}

/// The peer acknowledges our FIN, the next segment.
fn ack_fin(lab: &mut Lab, flow: &mut Flow) {
    let fin = lab.expect_flags(FIN | ACK);
    flow.ack = fin.tcp.seq.wrapping_add(fin.payload.len() as u32 + 1);
    lab.ack(flow);
}

/// A connection that we closed first, at rest in TIME-WAIT; the flow's next number is its FIN's.
fn rest(lab: &mut Lab, port: u16) -> (Flow, ConnId) {
    let (mut flow, id) = lab.open(port);
    lab.stack.close(lab.now, id);
    lab.turn();
    flow.ack = lab.expect_flags(FIN | ACK).tcp.seq.wrapping_add(1);
    lab.segment(&flow, FIN | ACK, flow.seq, flow.ack, b"");
    lab.expect_flags(ACK);
    assert_eq!(state(lab, &flow), Some(State::TimeWait));
    (flow, id)
}

#[test]
fn the_peer_closes_first() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.segment(&flow, FIN | ACK, flow.seq, flow.ack, b"");
    flow.seq += 1;
    assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq);
    assert!(lab.event().events.contains(Events::FINISHED));
    assert_eq!(state(&lab, &flow), Some(State::CloseWait));
    // Half-closed: we may still send.
    lab.stack.send(lab.now, id, b"late");
    lab.turn();
    assert_eq!(lab.expect().payload, b"late");
    flow.ack += 4;
    lab.ack(&flow);
    lab.stack.close(lab.now, id);
    lab.turn();
    assert_eq!(state(&lab, &flow), Some(State::LastAck));
    ack_fin(&mut lab, &mut flow);
    assert_eq!(lab.event().end, Some(End::Closed));
    assert_eq!(lab.stack.n_records(), 0);
    lab.ack(&flow);
    lab.expect_flags(RST);
    lab.audit();
}

#[test]
fn we_close_first_and_rest_in_time_wait() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.stack.shutdown(lab.now, id);
    lab.turn();
    assert_eq!(state(&lab, &flow), Some(State::FinWait1));
    ack_fin(&mut lab, &mut flow);
    assert_eq!(state(&lab, &flow), Some(State::FinWait2));
    lab.data(&mut flow, b"still coming");
    lab.sent.clear();
    lab.stack.discard(lab.now, id, 100);
    lab.segment(&flow, FIN | ACK, flow.seq, flow.ack, b"");
    lab.expect_flags(ACK);
    assert_eq!(state(&lab, &flow), Some(State::TimeWait));
    assert_eq!(lab.events.back().and_then(|e| e.end), Some(End::Closed));
    assert_eq!((lab.stat(Counter::ConnsOpen), lab.stat(Counter::ConnsTimeWait)), (0, 1));
    // A reset does not assassinate it (RFC 1337); the FIN again is acknowledged.
    lab.segment(&flow, RST, flow.seq + 1, 0, b"");
    assert_eq!(state(&lab, &flow), Some(State::TimeWait));
    lab.advance(Duration::from_secs(40));
    lab.segment(&flow, FIN | ACK, flow.seq, flow.ack, b"");
    lab.expect_flags(ACK);
    lab.advance(Duration::from_secs(40));
    assert_eq!(state(&lab, &flow), Some(State::TimeWait), "2 MSL began again");
    lab.advance(Duration::from_secs(21));
    assert_eq!(lab.stack.n_records(), 0);
    assert_eq!(lab.stat(Counter::ConnsTimeWait), 0);
    lab.audit();
}

#[test]
fn both_close_at_once() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.stack.close(lab.now, id);
    lab.turn();
    let fin = lab.expect_flags(FIN | ACK);
    lab.segment(&flow, FIN | ACK, flow.seq, flow.ack, b"");
    flow.seq += 1;
    lab.expect_flags(ACK);
    assert_eq!(state(&lab, &flow), Some(State::Closing));
    flow.ack = fin.tcp.seq + 1;
    lab.ack(&flow);
    assert_eq!(state(&lab, &flow), Some(State::TimeWait));
    lab.audit();
}

#[test]
fn a_fin_with_the_ack_of_ours_goes_straight_to_time_wait() {
    let mut lab = Lab::new();
    rest(&mut lab, 1);
    lab.audit();
}

#[test]
fn a_fin_rides_on_the_last_data_and_is_sent_again() {
    let mut lab = Lab::new();
    let (flow, id) = lab.open(1);
    lab.stack.send(lab.now, id, b"bye");
    lab.stack.shutdown(lab.now, id);
    lab.turn();
    let first = lab.expect_flags(FIN | ACK);
    assert_eq!(first.payload, b"bye");
    lab.advance_ms(250);
    let again = lab.expect_flags(FIN | ACK);
    assert_eq!((again.tcp.seq, again.payload), (first.tcp.seq, first.payload));
    let mut flow = flow;
    flow.ack = first.tcp.seq + 3;
    lab.ack(&flow);
    lab.sent.clear();
    lab.advance_ms(700);
    let bare = lab.expect_flags(FIN | ACK);
    assert_eq!((bare.tcp.seq, bare.payload.len()), (first.tcp.seq + 3, 0));
}

#[test]
fn data_and_fin_together_are_both_taken() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.segment(&flow, FIN | ACK | PSH, flow.seq, flow.ack, b"request");
    flow.seq += 8;
    assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq);
    let event = lab.event();
    assert!(event.events.contains(Events::READABLE) && event.events.contains(Events::FINISHED));
    assert_eq!(lab.stack.echo(lab.now, id), 7);
    lab.stack.close(lab.now, id);
    lab.turn();
    assert_eq!(lab.expect_flags(FIN | ACK).payload, b"request");
}

#[test]
fn a_fin_out_of_order_waits_for_what_is_missing() {
    let mut lab = Lab::new();
    let (flow, _) = lab.open(1);
    lab.segment(&flow, FIN | ACK, flow.seq + 3, flow.ack, b"def");
    assert_eq!(state(&lab, &flow), Some(State::Established));
    lab.sent.clear();
    lab.segment(&flow, ACK, flow.seq, flow.ack, b"abc");
    assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq + 7);
    assert_eq!(state(&lab, &flow), Some(State::CloseWait));
}

#[test]
fn a_fin_outside_the_window_changes_nothing() {
    let mut lab = Lab::new();
    let (flow, _) = lab.open(1);
    lab.segment(&flow, FIN | ACK, flow.seq + 1_000_000, flow.ack, b"");
    lab.expect_flags(ACK);
    assert_eq!(state(&lab, &flow), Some(State::Established));
}

#[test]
fn closing_with_unread_data_resets() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.data(&mut flow, b"unread");
    lab.sent.clear();
    lab.stack.close(lab.now, id);
    lab.turn();
    let reset = lab.expect_flags(RST | ACK);
    assert_eq!(reset.tcp.seq, flow.ack);
    assert_eq!(lab.events.back().and_then(|e| e.end), Some(End::Aborted));
    assert_eq!(lab.stack.n_records(), 0);
    lab.audit();
}

#[test]
fn data_after_a_full_close_resets() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.stack.close(lab.now, id);
    lab.turn();
    ack_fin(&mut lab, &mut flow);
    lab.data(&mut flow, b"too late");
    assert_eq!(lab.expect_flags(RST).tcp.seq, flow.ack);
    assert_eq!(lab.stack.n_records(), 0);
    assert_eq!(lab.stat(Counter::DropAfterClose), 1);
    lab.audit();
}

#[test]
fn a_silent_peer_does_not_hold_fin_wait_2_for_ever() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.stack.close(lab.now, id);
    lab.turn();
    ack_fin(&mut lab, &mut flow);
    lab.advance(Duration::from_secs(61));
    assert_eq!(lab.stack.n_records(), 0);
    assert_eq!(lab.stat(Counter::ConnsTimedOut), 1);
    lab.audit();
}

#[test]
fn a_silent_peer_does_not_hold_last_ack_for_ever() {
    let tcp = TcpConfig { retries_max: 3, ..config().tcp };
    let mut lab = Lab::with(StackConfig { tcp, ..config() });
    let (flow, id) = lab.open(1);
    lab.segment(&flow, FIN | ACK, flow.seq, flow.ack, b"");
    lab.stack.close(lab.now, id);
    lab.advance(Duration::from_secs(60));
    assert_eq!(lab.stack.n_records(), 0);
    lab.audit();
}

#[test]
fn what_was_received_can_be_read_after_both_sides_closed() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.stack.shutdown(lab.now, id);
    lab.turn();
    ack_fin(&mut lab, &mut flow);
    lab.data(&mut flow, b"last words");
    lab.segment(&flow, FIN | ACK, flow.seq, flow.ack, b"");
    assert!(lab.events.iter().all(|e| e.end.is_none()), "the end waits for the reader");
    let mut buf = [0; 20];
    assert_eq!(lab.stack.recv(lab.now, id, &mut buf), 10);
    lab.turn();
    assert_eq!(lab.events.back().and_then(|e| e.end), Some(End::Closed));
    lab.audit();
}

#[test]
fn a_newer_syn_takes_a_resting_tuple_and_an_older_one_does_not() {
    let mut lab = Lab::new();
    let (flow, _) = rest(&mut lab, 1);
    lab.segment(&flow, SYN, flow.seq - 100, 0, b"");
    assert_eq!(state(&lab, &flow), Some(State::TimeWait));
    lab.sent.clear();
    lab.segment(&flow, SYN, flow.seq + 50_000, 0, b"");
    let syn_ack = lab.expect_flags(SYN | ACK);
    assert_eq!(syn_ack.tcp.ack, flow.seq + 50_001);
    assert_eq!(lab.stat(Counter::TimeWaitRecycled), 1);
    lab.audit();
}

#[test]
fn time_wait_is_bounded_and_gives_way_to_new_connections() {
    let mut lab = Lab::with(StackConfig { time_wait_max: 3, connections_max: 4, ..config() });
    for port in 1..=8 {
        rest(&mut lab, port);
    }
    assert_eq!(lab.stat(Counter::ConnsTimeWait), 3);
    assert_eq!(lab.stat(Counter::ConnsClosed), 8);
    for port in 11..=13 {
        lab.open(port);
    }
    assert!(lab.stack.n_records() <= 4);
    lab.audit();
}

#[test]
fn an_abort_resets_the_peer_and_frees_the_tuple() {
    let mut lab = Lab::new();
    let (_, id) = lab.open(1);
    lab.stack.abort(lab.now, id);
    lab.turn();
    lab.expect_flags(RST | ACK);
    lab.open(1);
    lab.audit();
}

#[test]
fn a_closed_window_holds_no_connection_that_nobody_has() {
    let tcp = TcpConfig { retries_max: 3, ..config().tcp };
    let mut lab = Lab::with(StackConfig { tcp, ..config() });
    let (mut flow, id) = lab.open(1);
    flow.window = 0;
    lab.ack(&flow);
    lab.stack.send(lab.now, id, b"never taken");
    lab.stack.close(lab.now, id);
    for _ in 0..600 {
        lab.advance_ms(500);
        if lab.sent.drain(..).count() > 0 {
            lab.ack(&flow);
        }
    }
    assert_eq!(lab.stack.n_records(), 0, "a peer that answers probes for ever is not waited for");
    assert_eq!(lab.events.back().and_then(|e| e.end), Some(End::TimedOut));
    lab.audit();
}

/// Without a TIME-WAIT, by its length or by its number, the peer's FIN is still acknowledged: it
/// must not find a stranger who answers its repetition with RST.
#[test]
fn the_last_fin_is_acknowledged_though_no_record_rests() {
    let no_time = TcpConfig { time_wait: Duration::ZERO, ..config().tcp };
    for config in
        [StackConfig { tcp: no_time, ..config() }, StackConfig { time_wait_max: 0, ..config() }]
    {
        let mut lab = Lab::with(config);
        let (mut flow, id) = lab.open(1);
        lab.stack.close(lab.now, id);
        lab.turn();
        flow.ack = lab.expect_flags(FIN | ACK).tcp.seq.wrapping_add(1);
        lab.segment(&flow, FIN | ACK, flow.seq, flow.ack, b"");
        assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq.wrapping_add(1));
        assert_eq!(lab.event().end, Some(End::Closed));
        assert_eq!(lab.stack.n_records(), 0);
        lab.expect_silence();
        lab.audit();
    }
}

/// The ACK of an old life waits for a frame while the peer opens the four-tuple anew: it must not
/// leave any more, for the peer would answer it with RST.
#[test]
fn an_ack_of_an_old_life_does_not_leave_in_the_new_one() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.stack.close(lab.now, id);
    lab.turn();
    flow.ack = lab.expect_flags(FIN | ACK).tcp.seq.wrapping_add(1);
    let to = SocketAddrV4::new(STACK_IP, PORT);
    let mut arrives = |flags, seq, ack| {
        let tcp = Tcp { src_port: 1, dst_port: to.port(), seq, ack, flags, ..Tcp::default() };
        let mut frame = frame_of(PEER_IP, STACK_IP, &tcp, b"");
        lab.stack.on_frame(lab.now, &mut frame, Miss::Answer);
    };
    // Both arrive in one turn, before anything can leave.
    arrives(FIN | ACK, flow.seq, flow.ack);
    let fresh = flow.seq.wrapping_add(1000);
    arrives(SYN, fresh, 0);
    lab.turn();
    assert_eq!(lab.expect_flags(SYN | ACK).tcp.ack, fresh.wrapping_add(1));
    lab.expect_silence();
    lab.audit();
}
