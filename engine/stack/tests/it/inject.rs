//! What a stranger who guesses cannot do (RFC 5961, RFC 5927), and what garbage cannot do.

use crate::peer::*;
use barewire_stack::stats::Counter;
use barewire_stack::tcp::{End, State};
use barewire_stack::wire::ethernet::{self, Ethernet};
use barewire_stack::wire::ipv4;
use barewire_stack::wire::tcp::Tcp;
use proptest::prelude::*;

#[test]
fn only_the_exact_reset_ends_a_connection() {
    let mut lab = Lab::new();
    let (flow, id) = lab.open(1);
    lab.segment(&flow, RST, flow.seq + 100, 0, b"");
    assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq);
    lab.segment(&flow, RST, flow.seq - 1, 0, b"");
    lab.segment(&flow, RST, flow.seq + 10_000_000, 0, b"");
    lab.expect_silence();
    assert_eq!(lab.stack.state(id), Some(State::Established));
    lab.segment(&flow, RST, flow.seq, 0, b"");
    assert_eq!(lab.event().end, Some(End::Reset));
    lab.audit();
}

#[test]
fn a_syn_on_a_connection_gets_a_challenge() {
    for offset in [0i32, 100, -5, 300_000] {
        let mut lab = Lab::new();
        let (flow, id) = lab.open(1);
        lab.segment(&flow, SYN, flow.seq.wrapping_add_signed(offset), 0, b"");
        assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq, "at {offset}");
        assert_eq!(lab.stack.state(id), Some(State::Established));
    }
}

#[test]
fn challenges_are_limited_for_each_connection_by_itself() {
    let mut lab = Lab::new();
    let (a, _) = lab.open(1);
    let (b, _) = lab.open(2);
    for _ in 0..1000 {
        lab.segment(&a, RST, a.seq + 100, 0, b"");
    }
    assert_eq!(lab.sent.len(), 1);
    lab.sent.clear();
    lab.segment(&b, RST, b.seq + 100, 0, b"");
    lab.expect_flags(ACK);
    lab.advance_ms(500);
    lab.segment(&a, RST, a.seq + 100, 0, b"");
    lab.expect_flags(ACK);
    assert_eq!(lab.stat(Counter::TcpChallengeLimited), 999);
    lab.audit();
}

/// An ICMP error that quotes a segment of ours.
fn icmp_error(kind: u8, code: u8, local: (u16, u32), remote_port: u16) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    let mut quote = vec![0; 28];
    ip_of(STACK_IP, PEER_IP, ipv4::PROTOCOL_TCP).emit(&mut quote, 20);
    quote[20..22].copy_from_slice(&local.0.to_be_bytes());
    quote[22..24].copy_from_slice(&remote_port.to_be_bytes());
    quote[24..28].copy_from_slice(&local.1.to_be_bytes());
    message.extend_from_slice(&quote);
    icmp_frame(message)
}

/// A frame with an ICMP message from the peer, whose checksum is filled in.
pub(crate) fn icmp_frame(mut message: Vec<u8>) -> Vec<u8> {
    let sum = barewire_stack::wire::checksum::Sum::new().add_bytes(&message).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![0; 34];
    Ethernet { dst: STACK_MAC, src: PEER_MAC, vlan_id: None, ethertype: ethernet::TYPE_IPV4 }
        .emit(&mut frame);
    ip_of(PEER_IP, STACK_IP, ipv4::PROTOCOL_ICMP).emit(&mut frame[14..], message.len() as u16);
    frame.extend_from_slice(&message);
    frame
}

#[test]
fn an_icmp_error_ends_an_open_only_when_it_quotes_our_syn() {
    let mut lab = Lab::new();
    let (flow, id) = lab.connect();
    let iss = flow.ack - 1;
    lab.frame(icmp_error(3, 3, (40_000, iss + 77), 80));
    lab.frame(icmp_error(3, 3, (40_001, iss), 80));
    lab.frame(icmp_error(3, 1, (40_000, iss), 80));
    lab.frame(icmp_error(4, 0, (40_000, iss), 80));
    assert_eq!(lab.stack.state(id), Some(State::SynSent));
    lab.frame(icmp_error(3, 3, (40_000, iss), 80));
    assert_eq!(lab.event().end, Some(End::Unreachable));
    lab.audit();
}

#[test]
fn icmp_errors_do_not_end_an_established_connection() {
    let mut lab = Lab::new();
    let (flow, id) = lab.open(1);
    for (kind, code) in [(3, 0), (3, 1), (3, 2), (3, 3), (3, 5), (11, 0), (12, 0), (4, 0)] {
        lab.frame(icmp_error(kind, code, (PORT, flow.ack), 1));
    }
    assert_eq!(lab.stack.state(id), Some(State::Established));
    lab.audit();
}

#[test]
fn an_echo_request_is_answered_in_place() {
    let mut lab = Lab::new();
    let mut frame = icmp_frame(vec![8, 0, 0, 0, 0, 1, 0, 2, 1, 2, 3]);
    frame.resize(60, 0xa5);
    lab.frame(frame);
    let reply = lab.others.pop().expect("an echo reply");
    let (headers, _) =
        etherparse::Ipv4Slice::from_slice(&reply[14..]).map(|s| (s, ())).expect("IPv4");
    assert_eq!(headers.header().destination_addr(), PEER_IP);
    let (icmp, payload) =
        etherparse::Icmpv4Header::from_slice(headers.payload().payload).expect("ICMP");
    assert!(
        matches!(icmp.icmp_type, etherparse::Icmpv4Type::EchoReply(h) if h.id == 1 && h.seq == 2)
    );
    assert_eq!(payload, [1, 2, 3], "the padding is not sent back");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No sequence of segments with numbers near the live ones, calls of the application and steps
    /// of time makes the stack panic, break its sums, or hold more than its bounds.
    #[test]
    fn no_sequence_of_segments_breaks_the_stack(
        steps in prop::collection::vec(
            (0u8..12, any::<u8>(), -3000i32..3000, -3000i32..3000, 0usize..1500, any::<u16>()), 1..200),
    ) {
        let mut lab = Lab::new();
        let (mut flow, id) = lab.open(1);
        for (kind, flags, dseq, dack, len, window) in steps {
            match kind {
                0 => lab.advance_ms(u64::from(window)),
                1 => { lab.stack.send(lab.now, id, &vec![1; len]); }
                2 => { lab.stack.discard(lab.now, id, len); }
                3 => lab.stack.shutdown(lab.now, id),
                4 if flags > 250 => lab.stack.abort(lab.now, id),
                5 => { lab.stack.echo(lab.now, id); }
                _ => {
                    let tcp = Tcp {
                        src_port: flow.port,
                        dst_port: PORT,
                        seq: flow.seq.wrapping_add_signed(dseq / if kind < 9 { 3000 } else { 1 }),
                        ack: flow.ack.wrapping_add_signed(dack / if kind < 9 { 3000 } else { 1 }),
                        flags: barewire_stack::wire::tcp::Flags::from_bits(if kind < 8 { 0x10 } else { flags }),
                        window,
                        urgent: window,
                        options: Default::default(),
                    };
                    lab.frame(frame_of(PEER_IP, STACK_IP, &tcp, &vec![7; len]));
                }
            }
            while let Some(sent) = lab.sent.pop_front() {
                if !sent.tcp.flags.contains(RST) {
                    let end = sent.tcp.seq.wrapping_add(sent.payload.len() as u32);
                    if end.wrapping_sub(flow.ack) as i32 > 0 && window % 3 > 0 { flow.ack = end; }
                    flow.seq = sent.tcp.ack;
                }
            }
            prop_assert!(lab.stack.audit().is_ok(), "{:?}", lab.stack.audit());
            prop_assert!(lab.stack.memory().buffers <= 4 << 20);
        }
        lab.advance(barewire_stack::time::Duration::from_secs(4000));
        prop_assert!(lab.stack.audit().is_ok());
    }
}
