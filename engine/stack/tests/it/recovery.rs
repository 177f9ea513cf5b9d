//! The sender under loss with SACK: RACK, tail loss probes, PRR, DSACK, reneging; and explicit
//! congestion notification. The round trip is 10 ms unless a test says otherwise.

use crate::peer::*;
use barewire_stack::stack::{ConnId, StackConfig};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::TcpConfig;
use barewire_stack::tcp::config::{CongestionControl, Ecn};
use barewire_stack::time::Duration;
use barewire_stack::wire::ethernet::{self, Ethernet};
use barewire_stack::wire::ipv4::Ipv4;
use barewire_stack::wire::tcp::{Flags, Options, SackBlocks, Tcp};
use std::net::SocketAddrV4;

const ECE: Flags = Flags::ECE;
const CWR: Flags = Flags::CWR;

fn sack_permitted() -> Options {
    Options { mss: Some(1000), sack_permitted: true, ..Options::default() }
}

fn lab(tcp: TcpConfig) -> Lab {
    Lab::with(StackConfig { tcp, ..config() })
}

/// A connection with SACK and a round trip of 10 ms that has sent `n` segments of 1000 bytes as
/// far as its window allows. What it sent is forgotten; returns the number of its first byte too.
fn sending(lab: &mut Lab, n: usize) -> (Flow, ConnId, u32) {
    let (mut flow, _) = lab.syn(1, sack_permitted());
    lab.advance_ms(10);
    lab.ack(&flow);
    let id = lab.event().id;
    lab.stack.send(lab.now, id, &[7; 1000]);
    lab.turn();
    lab.advance_ms(10);
    flow.ack += 1000;
    lab.ack(&flow);
    lab.stack.send(lab.now, id, &vec![9; n * 1000]);
    lab.turn();
    lab.sent.clear();
    (flow, id, flow.ack)
}

/// An ACK of what the flow has seen with these SACK blocks.
fn sack(lab: &mut Lab, flow: &Flow, blocks: &[(u32, u32)]) {
    let mut list = SackBlocks::default();
    for &(left, right) in blocks {
        assert!(list.push(left, right));
    }
    let options = Options { sack: list, ..Options::default() };
    lab.segment_with(flow, ACK, flow.seq, flow.ack, options, b"");
}

/// The numbers of the segments sent since the last call, relative to `start`.
fn sent(lab: &mut Lab, start: u32) -> Vec<u32> {
    lab.sent.drain(..).map(|s| s.tcp.seq.wrapping_sub(start)).collect()
}

#[test]
fn three_segments_out_of_order_resend_the_hole_at_once() {
    let mut lab = Lab::new();
    let (flow, _, una) = sending(&mut lab, 10);
    lab.advance_ms(10);
    sack(&mut lab, &flow, &[(una + 1000, una + 2000)]);
    sack(&mut lab, &flow, &[(una + 1000, una + 3000)]);
    assert_eq!(sent(&mut lab, una), [0; 0], "two may be reordering");
    sack(&mut lab, &flow, &[(una + 1000, una + 4000)]);
    assert_eq!(sent(&mut lab, una), [0]);
    assert_eq!((lab.stat(Counter::TcpFastRetransmits), lab.stat(Counter::TcpTimeouts)), (1, 0));
}

#[test]
fn one_segment_out_of_order_resends_the_hole_after_the_reordering_window() {
    let mut lab = Lab::new();
    let (mut flow, _, una) = sending(&mut lab, 2);
    lab.advance_ms(10);
    sack(&mut lab, &flow, &[(una + 1000, una + 2000)]);
    assert_eq!(sent(&mut lab, una), [0; 0]);
    lab.advance_ms(2);
    assert_eq!(sent(&mut lab, una), [0; 0], "a quarter of the round trip is 2.5 ms");
    lab.advance_ms(2);
    assert_eq!(sent(&mut lab, una), [0]);
    flow.ack = una + 2000;
    lab.ack(&flow);
    lab.advance(Duration::from_secs(5));
    assert_eq!(sent(&mut lab, una), [0; 0]);
    lab.audit();
}

#[test]
fn a_reordered_segment_is_not_sent_again() {
    let mut lab = Lab::new();
    let (mut flow, _, una) = sending(&mut lab, 2);
    lab.advance_ms(10);
    sack(&mut lab, &flow, &[(una + 1000, una + 2000)]);
    lab.advance_ms(1);
    flow.ack = una + 2000;
    lab.ack(&flow);
    lab.advance(Duration::from_secs(5));
    assert_eq!(sent(&mut lab, una), [0; 0]);
    assert_eq!(lab.stat(Counter::TcpRetransmitted), 0);
}

#[test]
fn every_hole_is_resent_in_one_round_trip_and_nothing_else() {
    let mut lab = Lab::new();
    let (mut flow, _, una) = sending(&mut lab, 10);
    lab.advance_ms(10);
    let held = [(una + 1000, una + 2000), (una + 3000, una + 4000), (una + 5000, una + 10_000)];
    sack(&mut lab, &flow, &held[..1]);
    sack(&mut lab, &flow, &held[..2]);
    sack(&mut lab, &flow, &held);
    lab.advance_ms(5);
    assert_eq!(sent(&mut lab, una), [0, 2000, 4000]);
    flow.ack = una + 10_000;
    lab.ack(&flow);
    lab.advance(Duration::from_secs(5));
    assert_eq!(sent(&mut lab, una), [0; 0]);
    assert_eq!(lab.stat(Counter::TcpTimeouts), 0);
    lab.audit();
}

#[test]
fn a_lost_retransmission_is_found_by_time() {
    let mut lab = Lab::new();
    let (flow, _, una) = sending(&mut lab, 14);
    lab.advance_ms(10);
    sack(&mut lab, &flow, &[(una + 1000, una + 6000)]);
    let first: Vec<u32> = sent(&mut lab, una);
    assert_eq!(first[0], 0);
    let nxt = una + first.iter().max().expect("segments") + 1000;
    // A round trip later what was sent after the retransmission is acknowledged, and it is not.
    lab.advance_ms(10);
    sack(&mut lab, &flow, &[(una + 1000, nxt)]);
    assert!(sent(&mut lab, una).contains(&0), "again, without a timeout");
    assert_eq!(lab.stat(Counter::TcpTimeouts), 0);
}

#[test]
fn the_tail_is_probed_before_the_timeout() {
    let mut lab = Lab::new();
    let (mut flow, _, una) = sending(&mut lab, 4);
    lab.advance_ms(19);
    assert_eq!(sent(&mut lab, una), [0; 0]);
    lab.advance_ms(60);
    assert_eq!(sent(&mut lab, una), [3000], "the last segment, after two round trips");
    assert_eq!((lab.stat(Counter::TcpTailProbes), lab.stat(Counter::TcpTimeouts)), (1, 0));
    // It shows the hole before it, and that one is mended at once.
    lab.advance_ms(10);
    flow.ack = una + 2000;
    sack(&mut lab, &flow, &[(una + 3000, una + 4000)]);
    lab.advance_ms(5);
    assert_eq!(sent(&mut lab, una), [2000]);
    assert_eq!(lab.stat(Counter::TcpTimeouts), 0);
}

#[test]
fn a_probe_is_new_data_when_there_are_any_and_there_is_one_probe() {
    let mut lab = Lab::new();
    let (_, _, una) = sending(&mut lab, 20);
    lab.advance_ms(100);
    assert_eq!(sent(&mut lab, una).len(), 1, "one segment beyond the congestion window");
    lab.advance_ms(90);
    assert_eq!(sent(&mut lab, una), [0; 0], "the next is a timeout");
    lab.advance_ms(200);
    assert_eq!(sent(&mut lab, una), [0]);
    assert_eq!((lab.stat(Counter::TcpTailProbes), lab.stat(Counter::TcpTimeouts)), (1, 1));
}

#[test]
fn a_probe_that_repaired_the_tail_reduces_the_window_and_a_needless_one_does_not() {
    for (needless, reduced) in [(false, true), (true, false)] {
        let mut lab = Lab::new();
        let (mut flow, id, una) = sending(&mut lab, 10);
        let before = cwnd(&lab, id);
        lab.advance_ms(100);
        assert_eq!(lab.stat(Counter::TcpTailProbes), 1);
        flow.ack = una + 10_000;
        if needless {
            sack(&mut lab, &flow, &[(una + 9000, una + 10_000)]);
        } else {
            lab.ack(&flow);
        }
        lab.stack.send(lab.now, id, &[1; 2000]);
        lab.turn();
        flow.ack += 2000;
        lab.ack(&flow);
        assert_eq!(cwnd(&lab, id) < before, reduced, "needless: {needless}");
    }
}

fn cwnd(lab: &Lab, id: ConnId) -> u32 {
    lab.stack.conn_info(id.slot).expect("the connection lives").cwnd
}

#[test]
fn recovery_thins_the_flight_out_and_ends_at_the_threshold() {
    for (congestion, share) in [(CongestionControl::Cubic, 7), (CongestionControl::NewReno, 5)] {
        let mut lab = lab(TcpConfig { congestion, ..config().tcp });
        let (mut flow, id, una) = sending(&mut lab, 100);
        // The first two segments out of order each let a new one leave.
        let flight = cwnd(&lab, id) / 1000 + 2;
        lab.advance_ms(10);
        let mut n_sent = 0;
        for n in 2..=flight {
            sack(&mut lab, &flow, &[(una + 1000, una + n * 1000)]);
            n_sent += sent(&mut lab, una).len() as u32;
        }
        let allowed = 2 + flight * share / 10;
        assert!((allowed - 2..=allowed + 1).contains(&n_sent), "{n_sent} of {flight}");
        flow.ack = una + flight * 1000;
        lab.ack(&flow);
        let info = lab.stack.conn_info(id.slot).expect("the connection lives");
        assert_eq!((info.phase, info.cwnd), ("open", flight * 1000 * share / 10));
    }
}

#[test]
fn a_receiver_that_forgets_what_it_held_gets_it_again() {
    let mut lab = Lab::new();
    let (mut flow, _, una) = sending(&mut lab, 4);
    lab.advance_ms(10);
    sack(&mut lab, &flow, &[(una + 1000, una + 4000)]);
    assert_eq!(sent(&mut lab, una), [0]);
    // The hole is filled, but what lay behind it is gone.
    flow.ack = una + 1000;
    lab.ack(&flow);
    let mut again = Vec::new();
    for _ in 0..5 {
        lab.advance_ms(300);
        again.extend(sent(&mut lab, una));
        if let Some(&last) = again.last() {
            flow.ack = flow.ack.max(una + last + 1000);
            lab.ack(&flow);
        }
    }
    again.dedup();
    assert_eq!(again, [1000, 2000, 3000]);
    lab.audit();
}

#[test]
fn sack_blocks_outside_of_the_flight_are_ignored() {
    let mut lab = Lab::new();
    let (flow, id, una) = sending(&mut lab, 10);
    lab.advance_ms(1);
    for (left, right) in [
        (una + 20_000, una + 30_000),
        (una + 2000, una + 1000),
        (una.wrapping_sub(5000), una + 2000),
        (una + 9000, una + 10_001),
    ] {
        sack(&mut lab, &flow, &[(left, right)]);
    }
    let info = lab.stack.conn_info(id.slot).expect("the connection lives");
    assert_eq!(info.pipe, 10_000);
    assert_eq!(sent(&mut lab, una), [0; 0]);
}

#[test]
fn a_retransmission_is_no_sample_unless_a_timestamp_tells_it_apart() {
    let mut lab = Lab::new();
    let (mut flow, id, una) = sending(&mut lab, 1);
    let info = |lab: &Lab| lab.stack.conn_info(id.slot).expect("the connection lives");
    let before = info(&lab);
    lab.advance_ms(700);
    assert!(!sent(&mut lab, una).is_empty());
    flow.ack = una + 1000;
    lab.ack(&flow);
    assert_eq!(info(&lab).srtt_us, before.srtt_us, "Karn");
    assert!(info(&lab).rto_us > before.rto_us, "and the back-off stays until a sample comes");

    let mut lab = self::lab(TcpConfig { timestamps: true, ..config().tcp });
    let stamps = Some(barewire_stack::wire::tcp::Timestamps { value: 5, echo: 0 });
    let options = Options { timestamps: stamps, ..sack_permitted() };
    let (mut flow, id) = lab.open_with(1, options);
    lab.stack.send(lab.now, id, b"x");
    lab.turn();
    lab.sent.clear();
    // The first retransmission after 1 s is the one that is answered, 30 ms later.
    lab.advance_ms(1500);
    let again = lab.sent.back().cloned().expect("a retransmission");
    let echo = again.tcp.options.timestamps.expect("timestamps").value;
    lab.now = again.at + Duration::from_millis(30);
    flow.stamps = Some(barewire_stack::wire::tcp::Timestamps { value: 6, echo });
    flow.ack += 1;
    lab.ack(&flow);
    let info = lab.stack.conn_info(id.slot).expect("the connection lives");
    assert!((3_000..40_000).contains(&info.srtt_us), "{}", info.srtt_us);
}

#[test]
fn acknowledgements_from_before_the_connection_are_ghosts() {
    let mut lab = Lab::new();
    let (flow, id) = lab.open(1);
    lab.stack.send(lab.now, id, &[1; 100]);
    lab.turn();
    lab.sent.clear();
    // The window is 65535, but only 1 number was ever acknowledged: the ISS itself is the floor.
    lab.segment(&flow, ACK, flow.seq, flow.ack - 2, b"ghost");
    assert_eq!(lab.stat(Counter::DropAck), 1);
    assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq, "a challenge, and nothing taken");
    lab.segment(&flow, ACK, flow.seq, flow.ack - 1, b"old but honest");
    assert_eq!(lab.stat(Counter::DropAck), 1);
    lab.audit();
}

/// The ECN bits of the last frame that carried data.
fn ecn_of_next_frame(lab: &mut Lab) -> (u8, Flags) {
    let mut buf = [0; 2048];
    let len = lab.stack.poll_transmit(lab.now, &mut buf).expect("a frame");
    let (_, at) = Ethernet::parse(&buf[..len]).expect("Ethernet");
    let (ip, _) = Ipv4::parse(&buf[at..len]).expect("IPv4");
    (ip.ecn, Flags::from_bits(buf[at + 33]))
}

/// A data segment whose packet a router has marked.
fn marked(lab: &mut Lab, flow: &mut Flow, flags: Flags, ecn: u8, payload: &[u8]) {
    let tcp = Tcp {
        src_port: flow.port,
        dst_port: flow.stack_port,
        seq: flow.seq,
        ack: flow.ack,
        flags,
        window: flow.window,
        ..Tcp::default()
    };
    let mut frame = frame_of(PEER_IP, STACK_IP, &tcp, payload);
    let at = ethernet::HEADER_BYTES;
    let header = Ipv4 { ecn, ..Ipv4::parse(&frame[at..]).expect("IPv4").0 };
    header.emit(&mut frame[at..], (tcp.header_len() + payload.len()) as u16);
    flow.seq += payload.len() as u32;
    lab.frame(frame);
}

#[test]
fn ecn_is_agreed_on_as_configured() {
    for (ecn, asks, agrees) in
        [(Ecn::Off, false, false), (Ecn::Accept, false, true), (Ecn::Request, true, true)]
    {
        let mut lab = lab(TcpConfig { ecn, ..config().tcp });
        let flow = Flow { port: 1, stack_port: PORT, seq: 1, ack: 0, window: 65535, stamps: None };
        lab.segment(&flow, SYN | ECE | CWR, 1, 0, b"");
        let flags = lab.expect().tcp.flags;
        assert_eq!(flags, if agrees { SYN | ACK | ECE } else { SYN | ACK }, "{ecn:?}");
        let plain = Flow { port: 2, ..flow };
        lab.segment(&plain, SYN, 1, 0, b"");
        assert_eq!(lab.expect().tcp.flags, SYN | ACK, "only when asked");

        let local = SocketAddrV4::new(STACK_IP, 40_000);
        let remote = SocketAddrV4::new(PEER_IP, 80);
        lab.stack.connect(lab.now, local, remote, 9, 0).expect("a connection");
        lab.turn();
        let syn = lab.expect().tcp.flags;
        assert_eq!(syn, if asks { SYN | ECE | CWR } else { SYN });
        lab.advance_ms(1100);
        let again = lab.sent.iter().find(|s| s.tcp.flags.contains(SYN) && s.tcp.dst_port == 80);
        assert_eq!(again.map(|s| s.tcp.flags), Some(SYN), "the path may dislike the flags");
    }
}

fn open_with_ecn(lab: &mut Lab) -> (Flow, ConnId) {
    let mut flow = Flow { port: 1, stack_port: PORT, seq: 1, ack: 0, window: 65535, stamps: None };
    let options = Options { mss: Some(1000), ..Options::default() };
    lab.segment_with(&flow, SYN | ECE | CWR, 1, 0, options, b"");
    flow.ack = lab.expect().tcp.seq.wrapping_add(1);
    flow.seq = 2;
    lab.ack(&flow);
    let id = lab.event().id;
    (flow, id)
}

#[test]
fn marks_are_echoed_until_the_peer_says_it_has_reduced() {
    let mut lab = Lab::new();
    let (mut flow, _) = open_with_ecn(&mut lab);
    marked(&mut lab, &mut flow, ACK, 0b11, b"marked");
    assert_eq!(lab.expect().tcp.flags, ACK | ECE);
    marked(&mut lab, &mut flow, ACK, 0b10, b"next");
    assert_eq!(lab.expect().tcp.flags, ACK | ECE, "still");
    marked(&mut lab, &mut flow, ACK | CWR, 0b10, b"reduced");
    assert_eq!(lab.expect().tcp.flags, ACK);
    assert_eq!(lab.stat(Counter::TcpEcnMarked), 1);
}

#[test]
fn an_echo_reduces_the_window_once_and_new_data_say_so() {
    let mut lab = Lab::new();
    let (mut flow, id) = open_with_ecn(&mut lab);
    lab.stack.send(lab.now, id, &[1; 40_000]);
    let (ecn, _) = ecn_of_next_frame(&mut lab);
    assert_eq!(ecn, 0b10, "data are capable");
    lab.turn();
    lab.sent.clear();
    let before = cwnd(&lab, id);
    flow.ack += 1000;
    lab.segment(&flow, ACK | ECE, flow.seq, flow.ack, b"");
    flow.ack += 1000;
    lab.segment(&flow, ACK | ECE, flow.seq, flow.ack, b"");
    let said = lab.sent.iter().filter(|s| s.tcp.flags.contains(CWR)).count();
    assert_eq!((said, lab.stat(Counter::TcpEcnReductions)), (1, 1));
    flow.ack += before - 2000;
    lab.ack(&flow);
    assert_eq!(lab.stack.conn_info(id.slot).map(|info| info.ssthresh), Some(before / 10 * 7));
    assert_eq!(lab.stat(Counter::TcpRetransmitted), 0, "nothing was lost");
}

#[test]
fn neither_retransmissions_nor_bare_acks_may_be_marked() {
    let mut lab = Lab::new();
    let (mut flow, id) = open_with_ecn(&mut lab);
    lab.stack.send(lab.now, id, &[1; 100]);
    lab.turn();
    lab.now += Duration::from_millis(1001);
    lab.stack.on_timeout(lab.now);
    assert_eq!(ecn_of_next_frame(&mut lab).0, 0, "a retransmission");
    marked(&mut lab, &mut flow, ACK, 0b10, b"x");
    lab.sent.clear();
    flow.seq += 1;
    let mut frame = frame_of(
        PEER_IP,
        STACK_IP,
        &Tcp {
            src_port: flow.port,
            dst_port: flow.stack_port,
            seq: flow.seq,
            ack: flow.ack,
            flags: ACK,
            window: 100,
            ..Tcp::default()
        },
        b"hole",
    );
    lab.stack.on_frame(lab.now, &mut frame, barewire_stack::stack::Miss::Answer);
    assert_eq!(ecn_of_next_frame(&mut lab).0, 0, "a bare ACK");
}

#[test]
fn a_window_comes_with_what_acknowledges_more_even_out_of_order() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.stack.send(lab.now, id, &[1; 9000]);
    lab.turn();
    // A newer segment first; then an older one that acknowledges more and leaves less room.
    let first = flow.seq;
    lab.segment(&flow, ACK, first + 5, flow.ack, b"later");
    flow.ack += 5000;
    flow.window = 4000;
    lab.segment(&flow, ACK, first, flow.ack, b"first");
    let info = lab.stack.conn_info(id.slot).expect("the connection lives");
    assert_eq!((info.snd_una, info.snd_wnd), (flow.ack, 4000));
}

#[test]
fn a_forged_timestamp_does_not_silence_the_peer() {
    let mut lab = lab(TcpConfig { timestamps: true, ..config().tcp });
    let stamps = barewire_stack::wire::tcp::Timestamps { value: 5, echo: 0 };
    let options = Options { timestamps: Some(stamps), ..sack_permitted() };
    let (mut flow, _) = lab.open_with(1, options);
    let mut forged = flow;
    forged.stamps = flow.stamps.map(|mut stamps| {
        stamps.value += 1 << 30;
        stamps
    });
    lab.segment(&forged, ACK, flow.seq, flow.ack + 100_000, b"forged");
    assert_eq!(lab.stat(Counter::DropAck), 1);
    lab.data(&mut flow, b"real");
    assert_eq!(lab.stat(Counter::DropPaws), 0);
    assert_eq!(lab.stat(Counter::TcpBytesIn), 4);
}

#[test]
fn answered_window_probes_are_no_duplicates() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    flow.window = 0;
    lab.ack(&flow);
    lab.stack.send(lab.now, id, &[1; 5000]);
    for _ in 0..200 {
        lab.advance_ms(100);
        if lab.sent.drain(..).count() > 0 {
            lab.ack(&flow);
        }
    }
    assert_eq!(lab.stat(Counter::TcpFastRetransmits), 0);
    assert!(lab.stat(Counter::TcpProbes) >= 4);
}

#[test]
fn without_sack_a_retransmission_that_is_lost_again_does_not_wait_for_the_next_timeout() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    let start = flow.ack;
    lab.stack.send(lab.now, id, &[7; 10_000]);
    lab.turn();
    assert_eq!(sent(&mut lab, start).len(), 10);
    // All are lost; the retransmission timer brings them back one by one, and the third is lost again.
    lab.advance_ms(1000);
    assert_eq!(sent(&mut lab, start).first(), Some(&0));
    flow.ack += 1000;
    lab.ack(&flow);
    assert_eq!(sent(&mut lab, start), [1000, 2000]);
    flow.ack += 1000;
    for _ in 0..3 {
        // The third segment does not arrive, and what is sent on each of these does.
        lab.ack(&flow);
        assert!(!sent(&mut lab, start).contains(&2000));
    }
    lab.ack(&flow);
    assert_eq!(sent(&mut lab, start).first(), Some(&2000), "three duplicates tell of it");
    for _ in 0..5 {
        lab.ack(&flow);
    }
    assert!(!sent(&mut lab, start).contains(&2000), "once");
    lab.audit();
}

#[test]
fn a_recovery_for_what_only_changed_places_is_taken_back() {
    let mut lab = Lab::new();
    let (mut flow, id, una) = sending(&mut lab, 20);
    let before = cwnd(&lab, id);
    lab.advance_ms(10);
    for n in 2..=4 {
        sack(&mut lab, &flow, &[(una + 1000, una + n * 1000)]);
    }
    assert_eq!(lab.stat(Counter::TcpFastRetransmits), 1);
    // The first segment was only late; a round trip later its repetition is reported.
    flow.ack = una + 12_000;
    lab.ack(&flow);
    assert!(cwnd(&lab, id) < before);
    lab.advance_ms(10);
    sack(&mut lab, &flow, &[(una, una + 1000)]);
    assert_eq!((cwnd(&lab, id) >= before, lab.stat(Counter::TcpRecoveriesUndone)), (true, 1));
}

#[test]
fn a_receiver_without_room_is_not_asked_at_the_speed_of_the_path() {
    let mut lab = Lab::new();
    let (mut flow, id, una) = sending(&mut lab, 3);
    lab.advance_ms(10);
    flow.ack = una + 3000;
    lab.ack(&flow);
    // The clock of microseconds wraps after 71 minutes: what was delivered 40 minutes ago looks like
    // half an hour from now.
    lab.advance(Duration::from_secs(2_400));
    lab.stack.send(lab.now, id, &[1; 3000]);
    lab.turn();
    lab.sent.clear();
    lab.advance_ms(10);
    // All three arrive and are thrown away; each gets the same ACK at once. So does whatever follows.
    for _ in 0..3 {
        lab.ack(&flow);
    }
    let mut n_sent = 0;
    for _ in 0..500 {
        lab.advance_ms(2);
        let again = sent(&mut lab, una).len();
        n_sent += again;
        for _ in 0..again {
            lab.ack(&flow);
        }
    }
    assert!((2..=8).contains(&n_sent), "{n_sent} in a second");
}
