//! A next hop that does not answer ARP: what an open, a handshake and an established connection make
//! of it. Nothing may wait for ever for an address that nobody has.

use crate::peer::{ACK, Lab, PSH, SYN};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::State;
use barewire_stack::time::Duration;
use barewire_stack::wire::tcp::Options;

/// A SYN from an address that nobody has: a flood of those must not hold the backlog for ever.
#[test]
fn a_handshake_whose_answer_has_no_next_hop_ends() {
    let mut lab = Lab::new();
    lab.answers_arp = false;
    let flow = crate::peer::Flow {
        port: 40_000,
        stack_port: crate::peer::PORT,
        seq: 1000,
        ack: 0,
        window: 65535,
        stamps: None,
    };
    lab.segment_with(&flow, SYN, flow.seq, 0, Options::default(), b"");
    assert_eq!(lab.stat(Counter::ConnsHalfOpen), 1);
    lab.advance(Duration::from_secs(10));
    assert_eq!(lab.stat(Counter::ConnsHalfOpen), 0);
    assert_eq!(lab.stat(Counter::ConnsUnreachable), 1);
    assert_eq!(lab.stack.n_records(), 0);
    assert!(lab.events.is_empty(), "no application knew of it");
    lab.expect_silence();
    lab.audit();
}

/// The hop falls silent while the connection is idle: data that found it so leave when it is back.
#[test]
fn data_that_found_the_hop_silent_leave_when_it_is_back() {
    let mut lab = Lab::new();
    let (flow, id) = lab.open(40_000);
    lab.answers_arp = false;
    // The answer is a minute old: the next segment asks again, and three questions go unanswered.
    lab.advance(Duration::from_secs(70));
    lab.segment(&flow, ACK | PSH, flow.seq, flow.ack, b"?");
    lab.advance(Duration::from_secs(4));
    lab.sent.clear();
    assert_eq!(lab.stack.send(lab.now, id, b"late"), 4);
    lab.turn();
    lab.expect_silence();
    lab.answers_arp = true;
    lab.advance(Duration::from_secs(20));
    let sent = lab.expect();
    assert_eq!(sent.payload, b"late");
    assert_eq!(lab.stack.state(id), Some(State::Established));
    lab.audit();
}

/// The hop never comes back: the connection gives up as it does over a broken path.
#[test]
fn data_for_a_hop_that_stays_silent_time_out() {
    let mut lab = Lab::new();
    let (flow, id) = lab.open(40_000);
    lab.answers_arp = false;
    lab.advance(Duration::from_secs(70));
    lab.segment(&flow, ACK | PSH, flow.seq, flow.ack, b"?");
    lab.advance(Duration::from_secs(4));
    assert_eq!(lab.stack.send(lab.now, id, b"late"), 4);
    lab.advance(Duration::from_secs(3600));
    assert_eq!(lab.stat(Counter::ConnsTimedOut), 1);
    assert_eq!(lab.stack.n_records(), 0);
    assert_eq!(lab.stack.memory().buffers, 0);
    lab.audit();
}
