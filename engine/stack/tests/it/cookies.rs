//! SYN cookies (RFC 4987): what a listener does when its backlog is full, and what it makes of
//! acknowledgements that it has no record for.

use crate::peer::*;
use barewire_stack::stack::{Disposition, Memory, Miss, StackConfig};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::config::{Ecn, SynCookies};
use barewire_stack::tcp::isn::Secret;
use barewire_stack::tcp::{Events, State, TcpConfig};
use barewire_stack::time::Duration;
use barewire_stack::wire::tcp::{Flags, Options, Tcp, Timestamps};
use std::net::{Ipv4Addr, SocketAddrV4};

const ECE: Flags = Flags::ECE;
const CWR: Flags = Flags::CWR;

/// A listener that answers every SYN with a cookie.
fn always() -> StackConfig {
    let mut config = config();
    config.tcp.syn_cookies = SynCookies::Always;
    config
}

/// The same, with timestamps.
fn always_with_stamps() -> StackConfig {
    let tcp = TcpConfig { syn_cookies: SynCookies::Always, ..TcpConfig::default() };
    StackConfig { tcp, ..config() }
}

fn all_options() -> Options {
    Options {
        mss: Some(1400),
        window_scale: Some(9),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 77, echo: 0 }),
        ..Options::default()
    }
}

/// Half-open connections from as many peers.
fn flood(lab: &mut Lab, n: u32) {
    for i in 0..n {
        let [_, a, b, c] = i.to_be_bytes();
        let from = SocketAddrV4::new(Ipv4Addr::new(11, a, b, c), 1024);
        let syn = Tcp { seq: i, flags: SYN, window: 1000, ..Tcp::default() };
        lab.segment_between(from, SocketAddrV4::new(STACK_IP, PORT), syn, b"");
    }
}

#[test]
fn a_flood_past_the_backlog_takes_no_memory_and_shuts_nobody_out() {
    // The flood comes through a router, as one from many addresses does.
    let mut lab = Lab::with(StackConfig { gateway: Some(PEER_IP), ..config() });
    flood(&mut lab, 1000);
    let before = lab.stack.memory();
    flood(&mut lab, 20_000);
    let after = lab.stack.memory();
    let all = |memory: Memory| (memory.records, memory.table, memory.buffers);
    assert_eq!(all(before), all(after));
    assert_eq!(lab.stat(Counter::ConnsHalfOpen), 1000);
    // The first thousand came again, and had their records.
    assert_eq!(lab.stat(Counter::SynCookiesSent), 19_000);
    assert_eq!(lab.stat(Counter::DropBacklog), 0);

    let (flow, id) = lab.open_with(9, Options { mss: Some(1440), ..Options::default() });
    assert_eq!(lab.stat(Counter::SynCookiesAccepted), 1);
    assert_eq!(lab.stat(Counter::ConnsHalfOpen), 1000);
    lab.stack.send(lab.now, id, &[7; 4000]);
    lab.turn();
    assert_eq!(lab.expect().payload.len(), 1440, "the MSS of the SYN");
    lab.segment(&flow, RST, flow.seq, 0, b"");
    lab.audit();
}

#[test]
fn without_a_flood_there_are_no_cookies() {
    let mut lab = Lab::new();
    lab.open(1);
    assert_eq!(lab.stat(Counter::SynCookiesSent), 0);
    // No cookie is out, so none can come back.
    let stray = Flow { port: 2, stack_port: PORT, seq: 1, ack: 0, window: 9, stamps: None };
    lab.segment(&stray, ACK, 1, 5, b"");
    lab.expect_flags(RST);
    assert_eq!(lab.stat(Counter::SynCookiesFailed), 0);
    lab.audit();
}

#[test]
fn a_cookie_is_a_syn_ack_like_any_other() {
    let mut lab = Lab::with(always_with_stamps());
    let (_, cookie) = lab.syn(1, all_options());
    assert_eq!(lab.stack.n_records(), 0, "nothing is kept");
    let mut plain = Lab::with(StackConfig { tcp: TcpConfig::default(), ..config() });
    let (_, record) = plain.syn(1, all_options());
    let (a, b) = (cookie.tcp, record.tcp);
    assert_eq!(
        (a.ack, a.window, a.src_port, a.dst_port),
        (b.ack, b.window, b.src_port, b.dst_port)
    );
    let (mut a, b) = (a.options, b.options);
    let stamps = a.timestamps.expect("timestamps");
    let clock = b.timestamps.expect("timestamps");
    assert!(clock.value.wrapping_sub(stamps.value) < 64, "{stamps:?} is a little before {clock:?}");
    a.timestamps = b.timestamps;
    assert_eq!(a, b);
    lab.audit();
}

#[test]
fn with_timestamps_scale_sack_and_ecn_are_kept() {
    let mut lab = Lab::with(always_with_stamps());
    let mut flow = Flow { port: 1, stack_port: PORT, seq: 1000, ack: 0, window: 500, stamps: None };
    lab.segment_with(&flow, SYN | ECE | CWR, flow.seq, 0, all_options(), b"");
    let syn_ack = lab.expect_flags(SYN | ACK | ECE);
    let echo = syn_ack.tcp.options.timestamps.expect("timestamps").value;
    flow.stamps = Some(Timestamps { value: 78, echo });
    (flow.seq, flow.ack) = (1001, syn_ack.tcp.seq.wrapping_add(1));
    lab.ack(&flow);
    let id = lab.event().id;
    let conn = lab.stack.conn_info(id.slot).expect("a connection");
    assert!(conn.timestamps && conn.sack && conn.window_scale && conn.ecn && conn.passive);
    assert_eq!(conn.snd_wnd, 500 << 9);
    assert_eq!(conn.mss, 1360 - 12, "the class below the peer's 1400");
    assert_eq!(conn.srtt_us, 0, "the timestamp of a cookie tells no time");
    lab.audit();
}

#[test]
fn without_timestamps_neither_scale_nor_sack_is_agreed() {
    let mut lab = Lab::with(always_with_stamps());
    let options = Options { timestamps: None, ..all_options() };
    let (flow, syn_ack) = lab.syn(1, options);
    assert_eq!(syn_ack.tcp.options, Options { mss: Some(1460), ..Options::default() });
    lab.ack(&flow);
    let id = lab.event().id;
    let conn = lab.stack.conn_info(id.slot).expect("a connection");
    assert!(!conn.timestamps && !conn.sack && !conn.window_scale && !conn.ecn);
    assert_eq!((conn.snd_wnd, conn.mss), (65535, 1360));
    lab.audit();
}

#[test]
fn ecn_stays_off_where_it_is_off() {
    let mut config = always_with_stamps();
    config.tcp.ecn = Ecn::Off;
    let mut lab = Lab::with(config);
    let flow = Flow { port: 1, stack_port: PORT, seq: 1000, ack: 0, window: 500, stamps: None };
    lab.segment_with(&flow, SYN | ECE | CWR, flow.seq, 0, all_options(), b"");
    lab.expect_flags(SYN | ACK);
}

#[test]
fn the_ack_of_a_cookie_may_bring_data_and_fin() {
    for config in [config(), always(), always_with_stamps()] {
        let mut lab = Lab::with(config);
        let (mut flow, syn_ack) = lab.syn(1, all_options());
        flow.stamps = syn_ack
            .tcp
            .options
            .timestamps
            .map(|stamps| Timestamps { value: stamps.echo + 1, echo: stamps.value });
        lab.segment(&flow, ACK | PSH | FIN, flow.seq, flow.ack, b"all there is");
        let event = lab.event();
        for expected in [Events::OPENED, Events::READABLE, Events::FINISHED] {
            assert!(event.events.contains(expected), "{event:?}");
        }
        assert_eq!(lab.stack.peek(event.id), b"all there is");
        assert_eq!(lab.stack.state(event.id), Some(State::CloseWait));
        assert_eq!(lab.expect_flags(ACK).tcp.ack, flow.seq + 13);
        assert_eq!(lab.stack.echo(lab.now, event.id), 12);
        lab.stack.close(lab.now, event.id);
        lab.turn();
        let last = lab.expect_flags(ACK | FIN);
        assert_eq!(last.payload, b"all there is");
        lab.segment(&flow, ACK, flow.seq + 13, last.tcp.seq + 13, b"");
        assert_eq!(lab.stack.n_records(), 0);
        lab.audit();
    }
}

#[test]
fn a_cookie_opens_after_the_bare_ack_was_lost() {
    let mut lab = Lab::with(always());
    let (mut flow, _) = lab.syn(1, Options::default());
    lab.advance_ms(900);
    lab.data(&mut flow, b"request");
    assert_eq!(lab.stack.peek(lab.events[0].id), b"request");
    lab.audit();
}

#[test]
fn what_is_no_cookie_is_refused() {
    let mut lab = Lab::with(always());
    let (flow, _) = lab.syn(1, Options::default());
    for (seq, ack) in [(flow.seq, flow.ack + 1), (flow.seq + 1, flow.ack), (flow.seq - 1, flow.ack)]
    {
        lab.segment(&flow, ACK, seq, ack, b"");
        assert_eq!(lab.expect_flags(RST).tcp.seq, ack);
    }
    let elsewhere = Flow { port: 2, ..flow };
    lab.ack(&elsewhere);
    lab.expect_flags(RST);
    // Nor does anything but an ACK bring one.
    lab.segment(&flow, SYN | ACK, flow.seq, flow.ack, b"");
    lab.expect_flags(RST);
    lab.segment(&flow, RST | ACK, flow.seq, flow.ack, b"");
    lab.segment(&flow, FIN, flow.seq, 0, b"");
    lab.expect_silence();
    assert_eq!((lab.stack.n_records(), lab.stat(Counter::SynCookiesAccepted)), (0, 0));
    assert_eq!(lab.stat(Counter::SynCookiesFailed), 5);
    lab.ack(&flow);
    assert_eq!(lab.stat(Counter::SynCookiesAccepted), 1, "the right one still does");
    lab.audit();
}

#[test]
fn refusals_of_guesses_are_limited() {
    let mut lab = Lab::with(StackConfig { resets_per_second_max: 10, ..always() });
    let (flow, _) = lab.syn(1, Options::default());
    for guess in 0..10_000 {
        lab.segment(&flow, ACK, flow.seq, flow.ack.wrapping_add(1 + guess * 7919), b"");
    }
    assert_eq!((lab.sent.len(), lab.stack.n_records()), (10, 0));
    lab.audit();
}

#[test]
fn an_old_cookie_is_refused() {
    let mut lab = Lab::with(always());
    let (flow, _) = lab.syn(1, Options::default());
    // While cookies are still taken: the other peer's SYN is newer.
    lab.advance(Duration::from_secs(100));
    lab.syn(2, Options::default());
    lab.advance(Duration::from_secs(30));
    lab.ack(&flow);
    lab.expect_flags(RST);
    assert_eq!(lab.stat(Counter::SynCookiesFailed), 1);
    lab.audit();
}

#[test]
fn a_cookie_counts_once() {
    let mut lab = Lab::with(always());
    let (flow, id) = lab.open(1);
    for _ in 0..3 {
        lab.ack(&flow);
    }
    assert_eq!(lab.stack.n_records(), 1);
    assert_eq!(lab.stat(Counter::SynCookiesAccepted), 1);
    lab.stack.abort(lab.now, id);
    lab.turn();
    lab.advance(Duration::from_secs(180));
    lab.sent.clear();
    lab.ack(&flow);
    lab.expect_flags(RST);
    lab.audit();
}

#[test]
fn a_full_table_invites_nobody_and_takes_nobody() {
    let mut lab = Lab::with(StackConfig { connections_max: 2, ..always() });
    let (late, _) = lab.syn(3, Options::default());
    lab.open(1);
    lab.open(2);
    lab.segment(&Flow { port: 4, ..late }, SYN, 1, 0, b"");
    lab.expect_silence();
    assert_eq!(lab.stat(Counter::DropTableFull), 1);
    lab.ack(&late);
    lab.expect_flags(RST);
    assert_eq!((lab.stat(Counter::DropTableFull), lab.stack.n_records()), (2, 2));
    lab.audit();
}

#[test]
fn cookies_open_only_at_the_worker_that_made_them() {
    let worker =
        |n| Lab::with(StackConfig { secret: Secret::new([9; 32]).of_worker(n), ..always() });
    let (mut first, mut second) = (worker(0), worker(1));
    let (flow, _) = first.syn(1, Options::default());
    second.syn(2, Options::default());
    let tcp = Tcp {
        src_port: 1,
        dst_port: PORT,
        seq: flow.seq,
        ack: flow.ack,
        flags: ACK,
        window: 100,
        ..Tcp::default()
    };
    let mut frame = frame_of(PEER_IP, STACK_IP, &tcp, b"");
    // It arrives at the other one, goes round, and opens where it came from.
    let asked = second.stack.on_frame(second.now, &mut frame, Miss::HandOff);
    assert_eq!((asked, second.stack.n_records()), (Disposition::HandOff, 0));
    let opened = first.stack.on_frame(first.now, &mut frame, Miss::HandOff);
    assert_eq!((opened, first.stack.n_records()), (Disposition::Done, 1));
    first.audit();
    second.audit();
}

#[test]
fn a_syn_without_room_for_options_is_answered_without() {
    let mut lab = Lab::with(always());
    let (flow, syn_ack) = lab.syn(1, Options::default());
    assert_eq!(syn_ack.tcp.options, Options::default());
    lab.ack(&flow);
    let id = lab.event().id;
    assert_eq!(lab.stack.conn_info(id.slot).expect("a connection").mss, 536);
    lab.audit();
}
