//! CLOSED, LISTEN and both sides of the handshake, played by hand.

use crate::peer::*;
use barewire_stack::stack::{ConnectError, Disposition, Miss};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::{End, Events, State};
use barewire_stack::time::Duration;
use barewire_stack::wire::tcp::{Flags, Options, Tcp, Timestamps};
use std::net::SocketAddrV4;

fn closed() -> Flow {
    Flow { port: 9000, stack_port: 1, seq: 100, ack: 0, window: 1000, stamps: None }
}

#[test]
fn a_closed_port_answers_with_the_reset_that_fits() {
    let mut lab = Lab::new();
    lab.segment(&closed(), SYN, 100, 0, b"abc");
    let reset = lab.expect_flags(RST | ACK);
    assert_eq!((reset.tcp.seq, reset.tcp.ack), (0, 104));
    lab.segment(&closed(), ACK, 100, 777, b"");
    assert_eq!(lab.expect_flags(RST).tcp.seq, 777);
    lab.segment(&closed(), FIN, 100, 0, b"");
    assert_eq!(lab.expect_flags(RST | ACK).tcp.ack, 101);
    lab.segment(&closed(), RST, 100, 0, b"");
    lab.expect_silence();
    lab.audit();
}

#[test]
fn resets_to_strangers_are_limited_per_second() {
    let mut lab =
        Lab::with(barewire_stack::stack::StackConfig { resets_per_second_max: 5, ..config() });
    for _ in 0..20 {
        lab.segment(&closed(), ACK, 1, 1, b"");
    }
    assert_eq!(lab.sent.len(), 5);
    assert_eq!(lab.stat(Counter::TcpRstLimited), 15);
    lab.advance(Duration::from_secs(1));
    lab.segment(&closed(), ACK, 1, 1, b"");
    assert_eq!(lab.sent.len(), 6);
    lab.audit();
}

#[test]
fn a_listener_takes_a_syn_and_nothing_else() {
    let mut lab = Lab::new();
    let flow = Flow { stack_port: PORT, ..closed() };
    lab.segment(&flow, ACK, 100, 55, b"");
    assert_eq!(lab.expect_flags(RST).tcp.seq, 55);
    for flags in [RST, FIN, Flags::NONE, FIN | PSH | Flags::URG, SYN | FIN, SYN | RST] {
        lab.segment(&flow, flags, 100, 0, b"");
    }
    lab.expect_silence();
    assert_eq!(lab.stack.n_records(), 0);
    lab.audit();
}

#[test]
fn a_syn_ack_offers_only_what_was_offered() {
    let mut lab =
        Lab::with(barewire_stack::stack::StackConfig { tcp: Default::default(), ..config() });
    let (_, plain) = lab.syn(1, Options::default());
    assert_eq!(plain.tcp.options, Options { mss: Some(1460), ..Options::default() });
    let stamps = Timestamps { value: 77, echo: 0 };
    let all = Options {
        mss: Some(1400),
        window_scale: Some(15),
        sack_permitted: true,
        timestamps: Some(stamps),
        ..Options::default()
    };
    let (_, full) = lab.syn(2, all);
    assert_eq!(full.tcp.options.window_scale, Some(3));
    assert!(full.tcp.options.sack_permitted);
    assert_eq!(full.tcp.options.timestamps.map(|t| t.echo), Some(77));
    lab.audit();
}

#[test]
fn data_in_a_syn_is_not_acknowledged() {
    let mut lab = Lab::new();
    let flow = Flow { stack_port: PORT, ..closed() };
    lab.segment(&flow, SYN, 100, 0, b"hello");
    assert_eq!(lab.expect_flags(SYN | ACK).tcp.ack, 101);
}

#[test]
fn a_syn_ack_is_repeated_with_growing_gaps_and_then_given_up() {
    let mut lab = Lab::new();
    let (_, first) = lab.syn(1, Options::default());
    lab.advance(Duration::from_secs(200));
    let times: Vec<u64> = lab.sent.iter().map(|s| s.at.since(first.at).as_millis()).collect();
    assert_eq!(times, [1000, 3000, 7000, 15_000, 31_000, 63_000, 123_000]);
    assert!(lab.sent.iter().all(|s| s.tcp.seq == first.tcp.seq));
    assert_eq!(lab.stack.n_records(), 0);
    assert_eq!(lab.stat(Counter::ConnsTimedOut), 1);
    assert!(lab.events.is_empty(), "the application never heard of it");
    lab.audit();
}

#[test]
fn the_same_syn_again_gets_the_same_answer() {
    let mut lab = Lab::new();
    let (flow, first) = lab.syn(1, Options::default());
    lab.advance_ms(50);
    lab.segment(&flow, SYN, 1000, 0, b"");
    assert_eq!(lab.expect_flags(SYN | ACK).tcp.seq, first.tcp.seq);
    assert_eq!(lab.stack.n_records(), 1);
}

#[test]
fn only_the_right_ack_completes_the_handshake() {
    let mut lab = Lab::new();
    let (flow, _) = lab.syn(1, Options::default());
    for wrong in [flow.ack - 1, flow.ack + 1] {
        lab.segment(&flow, ACK, flow.seq, wrong, b"");
        assert_eq!(lab.expect_flags(RST).tcp.seq, wrong);
    }
    lab.segment(&flow, ACK, flow.seq, flow.ack, b"with data");
    let event = lab.event();
    assert!(event.events.contains(Events::OPENED));
    assert_eq!(event.app, 5);
    assert_eq!(lab.stack.peek(event.id), b"with data");
    assert_eq!(lab.stat(Counter::ConnsHalfOpen), 0);
    lab.audit();
}

#[test]
fn a_reset_ends_a_half_open_connection() {
    let mut lab = Lab::new();
    let (flow, _) = lab.syn(1, Options::default());
    lab.segment(&flow, RST, flow.seq, 0, b"");
    assert_eq!(lab.stack.n_records(), 0);
    lab.ack(&flow);
    lab.expect_flags(RST);
    lab.audit();
}

#[test]
fn a_full_backlog_without_cookies_drops_and_counts() {
    let mut config = config();
    config.syn_backlog_max = 3;
    config.tcp.syn_cookies = barewire_stack::tcp::config::SynCookies::Off;
    let mut lab = Lab::with(config);
    for port in 1..=5 {
        lab.segment(&Flow { port, stack_port: PORT, ..closed() }, SYN, 1, 0, b"");
    }
    assert_eq!(lab.sent.len(), 3);
    assert_eq!(lab.stat(Counter::DropBacklog), 2);
    lab.audit();
}

#[test]
fn a_full_table_drops_and_counts() {
    let mut lab = Lab::with(barewire_stack::stack::StackConfig { connections_max: 2, ..config() });
    lab.open(1);
    lab.open(2);
    lab.segment(&Flow { port: 3, stack_port: PORT, ..closed() }, SYN, 1, 0, b"");
    assert_eq!(lab.stat(Counter::DropTableFull), 1);
    lab.audit();
}

#[test]
fn an_active_open_completes() {
    let mut lab = Lab::new();
    let (flow, id) = lab.connect();
    let options = Options { mss: Some(1000), ..Options::default() };
    lab.segment_with(&flow, SYN | ACK, flow.seq, flow.ack, options, b"");
    let ack = lab.expect_flags(ACK);
    assert_eq!(ack.tcp.ack, flow.seq + 1);
    assert!(lab.event().events.contains(Events::OPENED));
    assert_eq!(lab.stack.state(id), Some(State::Established));
    lab.audit();
}

#[test]
fn a_syn_announces_the_mss_and_acknowledges_nothing() {
    let mut lab = Lab::new();
    let local = SocketAddrV4::new(STACK_IP, 40_001);
    lab.stack.connect(lab.now, local, SocketAddrV4::new(PEER_IP, 80), 9, 0).expect("opens");
    lab.turn();
    let syn = lab.expect_flags(SYN);
    assert_eq!((syn.tcp.ack, syn.tcp.options.mss), (0, Some(1460)));
    assert_eq!(syn.tcp.window, 65535);
}

#[test]
fn a_refused_open_fails_at_once_and_a_forged_refusal_does_not() {
    let mut lab = Lab::new();
    let (flow, id) = lab.connect();
    lab.segment(&flow, RST, flow.seq, 0, b"");
    lab.segment(&flow, RST | ACK, flow.seq, flow.ack + 5, b"");
    lab.segment(&flow, FIN, flow.seq, 0, b"");
    lab.expect_silence();
    assert_eq!(lab.stack.state(id), Some(State::SynSent));
    lab.segment(&flow, ACK, flow.seq, flow.ack + 5, b"");
    assert_eq!(lab.expect_flags(RST).tcp.seq, flow.ack + 5);
    lab.segment(&flow, RST | ACK, 0, flow.ack, b"");
    assert_eq!(lab.event().end, Some(End::Refused));
    assert_eq!(lab.stack.n_records(), 0);
    lab.audit();
}

#[test]
fn an_unanswered_open_times_out() {
    let mut lab = Lab::new();
    lab.connect();
    // Three minutes at least (RFC 9293 MUST-23): 1 + 2 + 4 + 8 + 16 + 32 + 60 + 60 seconds.
    lab.advance(Duration::from_secs(182));
    assert_eq!(lab.sent.len(), 7);
    assert!(lab.events.is_empty());
    lab.advance(Duration::from_secs(2));
    assert_eq!(lab.event().end, Some(End::TimedOut));
    assert_eq!(lab.sent.len(), 7, "no RST: the peer knows of nothing");
    lab.audit();
}

#[test]
fn simultaneous_opens_meet() {
    let mut lab = Lab::new();
    let (flow, id) = lab.connect();
    lab.segment(&flow, SYN, flow.seq, 0, b"");
    let syn_ack = lab.expect_flags(SYN | ACK);
    assert_eq!((syn_ack.tcp.seq, syn_ack.tcp.ack), (flow.ack - 1, flow.seq + 1));
    lab.segment(&flow, SYN | ACK, flow.seq, flow.ack, b"");
    lab.segment(&flow, ACK, flow.seq + 1, flow.ack, b"");
    assert_eq!(lab.stack.state(id), Some(State::Established));
    lab.audit();
}

#[test]
fn opens_that_cannot_be_are_refused_without_a_packet() {
    let mut lab = Lab::new();
    let ours = SocketAddrV4::new(STACK_IP, 5);
    let peer = SocketAddrV4::new(PEER_IP, 80);
    let mut connect = |local, remote| lab.stack.connect(lab.now, local, remote, 9, 0).err();
    assert_eq!(connect(peer, peer), Some(ConnectError::NotOurAddress));
    for bad in ["255.255.255.255:80", "224.0.0.1:80", "0.0.0.0:80", "10.0.0.255:80", "10.0.0.2:0"] {
        assert_eq!(connect(ours, bad.parse().expect(bad)), Some(ConnectError::BadRemote), "{bad}");
    }
    assert_eq!(connect(ours, peer), None);
    assert_eq!(connect(ours, peer), Some(ConnectError::InUse));
}

#[test]
fn an_unresolved_next_hop_holds_the_syn_back_and_then_fails_the_open() {
    let mut lab = Lab::new();
    lab.answers_arp = false;
    let local = SocketAddrV4::new(STACK_IP, 40_000);
    lab.stack.connect(lab.now, local, SocketAddrV4::new(PEER_IP, 80), 9, 0).expect("opens");
    lab.turn();
    assert_eq!(lab.others.len(), 1, "one question");
    lab.frame(arp_reply(PEER_IP, PEER_MAC));
    lab.expect_flags(SYN);

    let nobody = SocketAddrV4::new([10, 0, 0, 77].into(), 80);
    lab.stack.connect(lab.now, local, nobody, 9, 0).expect("opens");
    lab.advance(Duration::from_secs(5));
    assert_eq!(lab.others.len(), 4, "three questions more");
    assert!(lab.events.iter().any(|e| e.end == Some(End::NoNeighbor)));
    assert_eq!(lab.stat(Counter::NeighborFailed), 1);
    lab.audit();
}

#[test]
fn sequence_numbers_of_a_tuple_follow_the_clock() {
    let mut lab = Lab::new();
    let (flow, first) = lab.syn(1, Options::default());
    lab.segment(&flow, RST, flow.seq, 0, b"");
    lab.advance_ms(100);
    let (_, second) = lab.syn(1, Options::default());
    assert_eq!(second.tcp.seq.wrapping_sub(first.tcp.seq), 25_000);
    let (_, other) = lab.syn(2, Options::default());
    assert!(other.tcp.seq.abs_diff(second.tcp.seq) > 1_000_000);
}

#[test]
fn a_missing_mss_means_536_and_a_tiny_one_is_raised() {
    for (mss, expected) in [(None, 536), (Some(515), 515), (Some(10), 88), (Some(9000), 1460)] {
        let mut lab = Lab::new();
        let (_, id) = lab.open_with(1, Options { mss, ..Options::default() });
        lab.stack.send(lab.now, id, &[1; 5000]);
        lab.turn();
        assert_eq!(lab.expect().payload.len(), expected);
    }
}

#[test]
fn frames_that_are_not_for_us_are_dropped_by_name() {
    let mut lab = Lab::new();
    let syn = Tcp { seq: 1, flags: SYN, window: 10, src_port: 9, dst_port: PORT, ..Tcp::default() };
    let mut expected = Vec::new();
    let mut drop = |lab: &mut Lab, frame: Vec<u8>, counter: Counter| {
        lab.frame(frame);
        expected.push(counter);
        assert_eq!(lab.stat(counter), 1, "{}", counter.name());
    };
    drop(&mut lab, vec![0; 13], Counter::DropEthernet);
    let good = frame_of(PEER_IP, STACK_IP, &syn, b"");
    let mut other_mac = good.clone();
    other_mac[5] = 9;
    drop(&mut lab, other_mac, Counter::DropForeignMac);
    let mut ipv6 = good.clone();
    ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
    drop(&mut lab, ipv6, Counter::DropEthertype);
    let mut checksum = good.clone();
    checksum[50] ^= 1;
    drop(&mut lab, checksum, Counter::DropTcpChecksum);
    let mut header = good.clone();
    header[24] ^= 1;
    drop(&mut lab, header, Counter::DropIpv4Header);
    let far = frame_of(PEER_IP, [10, 0, 0, 3].into(), &syn, b"");
    drop(&mut lab, far, Counter::DropForeignAddress);
    drop(&mut lab, frame_of([127, 0, 0, 1].into(), STACK_IP, &syn, b""), Counter::DropMartian);
    let mut vlan = good.clone();
    vlan.splice(12..12, [0x81, 0, 0, 5]);
    drop(&mut lab, vlan, Counter::DropVlan);
    for source in [[0, 1, 2, 3], [224, 0, 0, 1], [255; 4], [10, 0, 0, 255], [10, 0, 0, 1]] {
        lab.frame(frame_of(source.into(), STACK_IP, &syn, b""));
    }
    assert_eq!(lab.stat(Counter::DropMartian), 6);
    lab.expect_silence();
    let mut priority = good;
    priority.splice(12..12, [0x81, 0, 0xe0, 0]);
    lab.frame(priority);
    lab.expect_flags(SYN | ACK);
    lab.audit();
}

#[test]
fn owned_addresses_answer_arp_and_strangers_are_not_believed() {
    use barewire_stack::wire::arp::ArpOperation;
    let mut lab = Lab::new();
    lab.frame(arp_frame(ArpOperation::Request, PEER_IP, PEER_MAC, STACK_IP));
    lab.frame(arp_frame(ArpOperation::Request, PEER_IP, PEER_MAC, [10, 7, 3, 3].into()));
    assert_eq!(lab.others.len(), 2);
    lab.frame(arp_frame(ArpOperation::Request, PEER_IP, PEER_MAC, [10, 0, 0, 9].into()));
    lab.frame(arp_reply([10, 0, 0, 66].into(), PEER_MAC));
    lab.frame(arp_reply(STACK_IP, PEER_MAC));
    assert_eq!((lab.others.len(), lab.stat(Counter::DropArp)), (2, 3));
    for host in 3..200 {
        lab.frame(arp_frame(ArpOperation::Request, [10, 0, 0, host].into(), PEER_MAC, STACK_IP));
    }
    assert!(lab.stat(Counter::NeighborFull) > 0, "the cache is bounded");
    lab.audit();
}

#[test]
fn a_worker_hands_on_what_may_belong_to_a_connection_elsewhere() {
    let mut lab = Lab::new();
    let segment = |flags| {
        let (src_port, dst_port) = (40_000, PORT);
        let tcp = Tcp { src_port, dst_port, seq: 5, ack: 7, flags, ..Tcp::default() };
        frame_of(PEER_IP, STACK_IP, &tcp, b"")
    };
    for flags in [ACK, FIN | ACK, RST, RST | ACK, SYN | ACK] {
        let asked = lab.stack.on_frame(lab.now, &mut segment(flags), Miss::HandOff);
        assert_eq!(asked, Disposition::HandOff, "{flags:?}");
        let last = lab.stack.on_frame(lab.now, &mut segment(flags), Miss::Last);
        let is_refused = matches!(last, Disposition::Reply(_));
        assert_eq!(is_refused, !flags.contains(RST), "{flags:?}");
    }
    let opened = lab.stack.on_frame(lab.now, &mut segment(SYN), Miss::HandOff);
    assert_eq!((opened, lab.stack.n_records()), (Disposition::Done, 1));
    lab.audit();
}

/// The flow changed its queue between a SYN and its retransmission: two workers have answered, and the
/// peer took the other's answer.
#[test]
fn a_half_open_connection_hands_on_what_acknowledges_the_syn_of_another_worker() {
    let mut lab = Lab::new();
    let (flow, syn_ack) = lab.syn(40_000, Options::default());
    let iss = syn_ack.tcp.seq;
    let segment = |ack: u32, flags, payload: &[u8]| {
        let (src_port, dst_port) = (40_000, PORT);
        let tcp = Tcp { src_port, dst_port, seq: flow.seq, ack, flags, ..Tcp::default() };
        frame_of(PEER_IP, STACK_IP, &tcp, payload)
    };
    for elsewhere in [iss, iss.wrapping_add(2), iss.wrapping_sub(250_000)] {
        for (flags, payload) in [(ACK, &b""[..]), (ACK, b"data"), (FIN | ACK, b"")] {
            let mut frame = segment(elsewhere, flags, payload);
            let asked = lab.stack.on_frame(lab.now, &mut frame, Miss::HandOff);
            assert_eq!(asked, Disposition::HandOff, "{elsewhere} {flags:?}");
        }
    }
    let mut frame = segment(iss, ACK, b"");
    let last = lab.stack.on_frame(lab.now, &mut frame, Miss::Last);
    assert!(matches!(last, Disposition::Reply(_)), "nobody else knows it: a reset");
    let mut frame = segment(iss.wrapping_add(1), ACK, b"");
    let ours = lab.stack.on_frame(lab.now, &mut frame, Miss::HandOff);
    assert_eq!((ours, lab.stat(Counter::ConnsEstablished)), (Disposition::Done, 1));
    lab.audit();
}

#[test]
fn two_addresses_listen_on_one_port() {
    let mut lab = Lab::new();
    let other = SocketAddrV4::new([10, 7, 0, 1].into(), PORT);
    assert!(lab.stack.listen(other, 6), "beside the listener at all addresses");
    assert!(!lab.stack.listen(other, 7), "one listener for each endpoint");
    for (addr, app) in [(STACK_IP, 5), (*other.ip(), 6)] {
        let (from, to) = (SocketAddrV4::new(PEER_IP, 1), SocketAddrV4::new(addr, PORT));
        let syn = Tcp { seq: 1000, flags: SYN, window: 65535, ..Tcp::default() };
        lab.segment_between(from, to, syn, b"");
        let iss = lab.expect_flags(SYN | ACK).tcp.seq;
        let ack = Tcp { seq: 1001, ack: iss.wrapping_add(1), flags: ACK, ..syn };
        lab.segment_between(from, to, ack, b"");
        assert_eq!(lab.event().app, app);
    }
    lab.audit();
}

#[test]
fn a_half_open_connection_whose_next_hop_is_silent_ends() {
    let mut lab = Lab::new();
    lab.answers_arp = false;
    let flow = Flow { port: 9000, stack_port: PORT, seq: 1, ack: 0, window: 1000, stamps: None };
    lab.segment(&flow, SYN, 1, 0, b"");
    assert_eq!(lab.stack.n_records(), 1);
    lab.advance(Duration::from_secs(600));
    lab.expect_silence();
    assert_eq!(lab.stack.n_records(), 0, "it was given up like any SYN-ACK that meets silence");
    lab.audit();
}
