//! Impaired paths between two workers: applications notice nothing but time, every frame is accounted
//! for, and a seed repeats what happened.

use crate::pair::{Bounds, Pair};
use crate::peer::Conversation;
use barewire_engine::worker::{Desk, Way};
use barewire_stack::dice::Ratio;
use barewire_stack::impair::{Impair, Impairment};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::TcpConfig;
use barewire_stack::time::{Duration, Instant};

const DELAY: Duration = Duration::from_millis(5);

/// Bytes with no period that a segment could hide behind.
fn pattern(n: u32) -> Vec<u8> {
    (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn set(desk: &mut Desk<'_>, way: Way, spec: Option<Impairment>, seed: u64) {
    desk.paths.set(way, spec.map(|spec| Impair::new(spec, seed)), 1024);
}

/// Everything that can happen, in both directions of the server.
fn storm(pair: &mut Pair, seed: u64) {
    let spec = Impairment {
        loss: Ratio::from_percent(3),
        duplicate: Ratio::from_percent(2),
        corrupt: Ratio::from_percent(2),
        reorder: Ratio::from_percent(5),
        delay: DELAY,
        jitter: Duration::from_millis(1),
        rate_bytes_per_second: 20_000_000,
        backlog_max: Duration::from_millis(50),
    };
    pair.on_server(|desk| {
        set(desk, Way::Tx, Some(spec), seed);
        set(desk, Way::Rx, Some(spec), seed + 1);
    });
}

/// An echo through the storm; returns when it was over, and what both ends counted.
fn echo_through(seed: u64) -> (Instant, Vec<[u64; 2]>) {
    let mut pair = Pair::new("echo");
    storm(&mut pair, seed);
    let bytes = pattern(200_000);
    let talk = pair.converse(4000, &bytes);
    assert!(talk.heard == bytes, "expected {} bytes back, found {}", bytes.len(), talk.heard.len());
    let over_at = pair.now;
    let counted: Vec<[u64; 2]> = Counter::ALL.iter().map(|&counter| pair.stat(counter)).collect();
    for (counter, why) in [
        (Counter::TcpRetransmitted, "frames were lost"),
        (Counter::DropTcpChecksum, "frames were damaged"),
        (Counter::TcpOutOfOrder, "frames were overtaken"),
    ] {
        let n = pair.stat(counter);
        assert!(n[0] > 0 && n[1] > 0, "{why}: {counter:?} is {n:?}");
    }
    pair.finish();
    (over_at, counted)
}

#[test]
fn every_byte_comes_through_a_storm_and_no_frame_is_missing() {
    echo_through(1);
}

#[test]
fn a_seed_repeats_what_happened() {
    assert_eq!(echo_through(2), echo_through(2));
    assert_ne!(echo_through(2).0, echo_through(3).0);
}

#[test]
fn a_delay_is_what_the_round_trip_takes() {
    let mut pair = Pair::new("echo");
    let spec = Impairment { delay: DELAY, ..Impairment::default() };
    pair.on_server(|desk| {
        set(desk, Way::Tx, Some(spec), 1);
        set(desk, Way::Rx, Some(spec), 1);
    });
    let id = pair.connect(4000, Conversation::then_finish(b"ping"));
    pair.until("it is open", |pair| pair.said(id).opened);
    // ARP for the server is asked and answered, and then the SYN: two round trips of twice the delay.
    let took = pair.now.since(Instant::ZERO);
    let four = Duration::from_millis(20);
    assert!((four..four + Duration::from_millis(1)).contains(&took), "open after {took:?}");
    pair.until("it is over", |pair| pair.said(id).is_over());
    assert_eq!(pair.said(id).heard, b"ping");
    assert_eq!(pair.stat(Counter::TcpRetransmitted), [0, 0]);
    pair.finish();
}

#[test]
fn what_is_lost_comes_when_the_faults_end() {
    let mut pair = Pair::new("echo");
    let all = Impairment { loss: Ratio::ALWAYS, ..Impairment::default() };
    pair.on_client(|desk| set(desk, Way::Tx, Some(all), 1));
    let id = pair.connect(4000, Conversation::then_finish(b"ping"));
    pair.run(Duration::from_millis(300));
    assert_eq!(pair.stat(Counter::RxFrames), [0, 0], "nothing came through");
    pair.on_client(|desk| set(desk, Way::Tx, None, 1));
    pair.until("it is over", |pair| pair.said(id).is_over());
    assert_eq!(pair.said(id).heard, b"ping");
    pair.finish();
}

#[test]
fn frames_that_are_held_at_the_end_are_given_back() {
    let mut pair = Pair::with(Some("echo"), &TcpConfig::default(), &Bounds::default());
    let id = pair.connect(4000, Conversation::new(&pattern(100_000)));
    pair.until("it is open", |pair| pair.said(id).opened);
    let hour = Impairment { delay: Duration::from_secs(3_600), ..Impairment::default() };
    pair.on_client(|desk| set(desk, Way::Tx, Some(hour), 1));
    pair.run(Duration::from_millis(5));
    let held = pair.on_client(|desk| desk.ledger.held);
    assert!(held > 0, "some are on their way");
    pair.abandon();
}
