//! Urgent data: announced at once, in line with the rest, and sent with a pointer that is right.

use crate::peer::*;
use barewire_stack::stack::Miss;
use barewire_stack::tcp::{End, Events};
use barewire_stack::wire::tcp::{Flags, Tcp};
use std::net::SocketAddrV4;

const URG: Flags = Flags::URG;

fn urgent(lab: &mut Lab, flow: &mut Flow, pointer: u16, payload: &[u8]) {
    let (seq, ack, window) = (flow.seq, flow.ack, flow.window);
    let tcp = Tcp { seq, ack, flags: ACK | URG, window, urgent: pointer, ..Tcp::default() };
    let from = SocketAddrV4::new(PEER_IP, flow.port);
    lab.segment_between(from, SocketAddrV4::new(STACK_IP, PORT), tcp, payload);
    flow.seq = flow.seq.wrapping_add(payload.len() as u32);
}

#[test]
fn the_application_is_told_and_can_ask_how_much_is_urgent() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    urgent(&mut lab, &mut flow, 10, b"abc");
    assert!(lab.event().events.contains(Events::URGENT));
    assert_eq!(lab.stack.urgent_bytes(id), 10, "of which three have arrived");
    let mut buf = [0; 2];
    lab.stack.recv(lab.now, id, &mut buf);
    assert_eq!((&buf, lab.stack.urgent_bytes(id)), (b"ab", 8));
    lab.events.clear();
    urgent(&mut lab, &mut flow, 7, b"defg");
    assert!(!lab.event().events.contains(Events::URGENT), "the same end, told before");
    lab.data(&mut flow, b"hij");
    let mut all = [0; 16];
    assert_eq!(lab.stack.recv(lab.now, id, &mut all), 8);
    assert_eq!((&all[..8], lab.stack.urgent_bytes(id)), (&b"cdefghij"[..], 0), "in line");
    lab.audit();
}

#[test]
fn urgent_data_may_be_of_any_length_and_the_window_may_be_closed() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    for pointer in [0, 1, 65_535] {
        urgent(&mut lab, &mut flow, pointer, b"");
    }
    assert_eq!(lab.stack.urgent_bytes(id), 65_535);
    let far = flow.seq;
    flow.seq = flow.seq.wrapping_add(60_000);
    urgent(&mut lab, &mut flow, 65_535, b"");
    assert_eq!(lab.stack.urgent_bytes(id), 125_535);
    flow.seq = far;
    while lab.stack.conn_info(id.slot).is_some_and(|info| info.rcv_wnd > 0) {
        lab.data(&mut flow, &[1; 1000]);
    }
    lab.events.clear();
    flow.seq = lab.stack.conn_info(id.slot).expect("the connection lives").rcv_nxt;
    urgent(&mut lab, &mut flow, 65_535, b"");
    assert!(lab.event().events.contains(Events::URGENT), "MUST-66");
}

#[test]
fn what_is_sent_as_urgent_is_marked_up_to_its_end() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.stack.send_urgent(lab.now, id, &[1; 1500]);
    lab.stack.send(lab.now, id, &[2; 700]);
    lab.turn();
    let marks: Vec<(usize, bool, u16)> = lab
        .sent
        .iter()
        .map(|s| (s.payload.len(), s.tcp.flags.contains(URG), s.tcp.urgent))
        .collect();
    assert_eq!(marks, [(1000, true, 1500), (1000, true, 500), (200, false, 0)]);
    flow.ack += 2200;
    lab.ack(&flow);
    lab.sent.clear();
    lab.stack.send(lab.now, id, b"calm");
    lab.turn();
    assert!(!lab.expect().tcp.flags.contains(URG));
}

/// A segment arrives, and the stack does nothing by itself.
fn give(lab: &mut Lab, tcp: &Tcp) {
    let mut frame = frame_of(PEER_IP, STACK_IP, tcp, b"");
    lab.stack.on_frame(lab.now, &mut frame, Miss::Answer);
}

/// Urgent data in TIME-WAIT, while the last ACK still waits for a frame: the application was told of the
/// end, and hears nothing more of the connection.
#[test]
fn nothing_is_told_after_the_end() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.stack.shutdown(lab.now, id);
    lab.turn();
    flow.ack = flow.ack.wrapping_add(1);
    let segment = |flags, seq, urgent| Tcp {
        src_port: flow.port,
        dst_port: flow.stack_port,
        seq,
        ack: flow.ack,
        flags,
        window: flow.window,
        urgent,
        ..Tcp::default()
    };
    give(&mut lab, &segment(FIN | ACK, flow.seq, 0));
    let event = lab.stack.poll_event().expect("the end");
    assert_eq!(event.end, Some(End::Closed));
    lab.stack.event_done(&event);
    give(&mut lab, &segment(URG | ACK, flow.seq.wrapping_add(1), 9));
    assert!(lab.stack.poll_event().is_none());
    lab.turn();
    lab.audit();
}
