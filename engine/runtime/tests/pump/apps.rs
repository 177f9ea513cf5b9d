//! The applications: all bytes arrive, whatever either side's buffers hold, and connections end as
//! each application promises.

use crate::pair::{Bounds, Pair};
use crate::peer::Conversation;
use barewire_stack::stats::Counter;
use barewire_stack::tcp::{End, TcpConfig};
use barewire_stack::time::Duration;

/// A megabyte in which no block is like another.
fn megabyte() -> Vec<u8> {
    (0..1u32 << 20).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

#[test]
fn echo_sends_everything_back_and_then_closes() {
    let mut pair = Pair::new("echo");
    let talk = pair.converse(40_000, &megabyte());
    assert!(talk.heard == megabyte());
    assert_eq!((talk.finished, talk.end), (true, Some(End::Closed)));
    let talk = pair.converse(40_001, b"");
    assert_eq!((talk.heard.len(), talk.end), (0, Some(End::Closed)));
    pair.finish();
}

#[test]
fn echo_waits_for_a_deaf_peer_and_loses_nothing() {
    let mut pair = Pair::new("echo");
    let id = pair.connect(40_000, Conversation::then_finish(&megabyte()).deaf());
    pair.run(Duration::from_secs(20));
    let stuck = pair.said(id);
    assert!(!stuck.is_said(), "the windows and buffers hold less than a megabyte");
    while !pair.said(id).is_over() {
        pair.change(id, |talk| talk.hears_max = 1000);
        pair.run(Duration::from_millis(1));
    }
    let talk = pair.said(id);
    assert!(talk.heard == megabyte());
    assert_eq!(talk.end, Some(End::Closed));
    pair.finish();
}

#[test]
fn echo_with_a_send_buffer_smaller_than_the_window_makes_progress() {
    let tcp = TcpConfig { send_bytes_max: 4096, ..TcpConfig::default() };
    let mut pair = Pair::with(Some("echo"), &tcp, &Bounds::default());
    let talk = pair.converse(40_000, &megabyte());
    assert!(talk.heard == megabyte());
    pair.finish();
}

#[test]
fn echo_shares_a_small_pool_among_many() {
    let bounds = Bounds { buffer_bytes_max: 256 << 10, ..Bounds::default() };
    let mut pair = Pair::with(Some("echo"), &TcpConfig::default(), &bounds);
    let bytes = &megabyte()[..50_000];
    let ids: Vec<_> =
        (0..20).map(|i| pair.connect(40_000 + i, Conversation::then_finish(bytes))).collect();
    pair.until("all conversations are over", |pair| ids.iter().all(|&id| pair.said(id).is_over()));
    for id in ids {
        let talk = pair.said(id);
        assert!(talk.heard == bytes && talk.end == Some(End::Closed), "{:?}", talk.end);
    }
    pair.finish();
}

#[test]
fn echo_forgets_a_peer_that_resets() {
    let mut pair = Pair::new("echo");
    let id = pair.connect(40_000, Conversation::new(&megabyte()).deaf());
    pair.run(Duration::from_millis(5));
    pair.on_client(|desk| desk.stack.abort(desk.now, id));
    pair.run(Duration::from_millis(5));
    assert_eq!(pair.stat(Counter::ConnsReset), [0, 1]);
    pair.finish();
}

#[test]
fn discard_takes_everything_and_says_nothing() {
    let mut pair = Pair::new("discard");
    let talk = pair.converse(40_000, &megabyte());
    assert_eq!((talk.heard.len(), talk.end), (0, Some(End::Closed)));
    assert_eq!(pair.stat(Counter::TcpBytesIn)[1], 1 << 20);
    pair.finish();
}

#[test]
fn burst_pays_for_every_byte_even_when_the_peer_listens_late() {
    let mut pair = Pair::new("burst:60000");
    let id = pair.connect(40_000, Conversation::then_finish(&[7; 30]).deaf());
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.said(id).heard.len(), 0);
    pair.change(id, |talk| talk.hears_max = usize::MAX);
    pair.until("the end", |pair| pair.said(id).is_over());
    let talk = pair.said(id);
    assert_eq!((talk.heard.len(), talk.end), (30 * 60_000, Some(End::Closed)));
    assert!(talk.heard.iter().all(|&byte| byte == 0));
    pair.finish();
}

#[test]
fn close_after_closes_first() {
    let mut pair = Pair::new("close-after:5");
    let id = pair.connect(40_000, Conversation::new(b"four"));
    pair.run(Duration::from_millis(500));
    assert!(!pair.said(id).finished);
    pair.change(id, |talk| talk.say(b"!"));
    pair.until("the server has finished", |pair| pair.said(id).finished);
    pair.change(id, Conversation::finish);
    pair.until("the end", |pair| pair.said(id).is_over());
    assert_eq!(pair.said(id).end, Some(End::Closed));
    assert_eq!(pair.stat(Counter::ConnsTimeWait), [0, 1]);

    let talk = pair.converse(40_001, b"four");
    assert_eq!(talk.end, Some(End::Closed));
    pair.finish();
}

#[test]
fn never_read_closes_its_window() {
    let mut pair = Pair::new("never-read");
    let id = pair.connect(40_000, Conversation::new(&megabyte()));
    pair.run(Duration::from_secs(10));
    assert!(!pair.said(id).is_said());
    assert!(pair.stat(Counter::TcpProbes)[0] > 0, "the client probes the closed window");
    pair.on_client(|desk| desk.stack.abort(desk.now, id));

    let talk = pair.converse(40_001, b"");
    assert_eq!(talk.end, Some(End::Closed), "nothing unread, so a FIN");
    let talk = pair.converse(40_002, b"unread");
    assert_eq!(talk.end, Some(End::Reset));
    pair.finish();
}

#[test]
fn close_unread_resets_when_its_time_is_over() {
    let mut pair = Pair::new("close-unread:300ms");
    let id = pair.connect(40_000, Conversation::new(b""));
    pair.run(Duration::from_secs(1));
    assert!(!pair.said(id).is_over(), "the time runs from the first byte");
    pair.change(id, |talk| talk.say(b"x"));
    let said_at = pair.now;
    pair.until("the reset", |pair| pair.said(id).is_over());
    assert_eq!(pair.said(id).end, Some(End::Reset));
    let took = (pair.now - said_at).as_millis();
    assert!((300..310).contains(&took), "{took} ms");

    let talk = pair.converse(40_001, b"");
    assert_eq!(talk.end, Some(End::Closed));
    pair.finish();
}

#[test]
fn small_writes_arrive_whole_even_when_they_do_not_fit() {
    for (app, total) in [("small-writes:10x10", 100), ("small-writes:90x7001", 90 * 7001)] {
        let mut pair = Pair::new(app);
        let id = pair.connect(40_000, Conversation::new(b"ignored").deaf());
        pair.run(Duration::from_secs(2));
        pair.change(id, |talk| talk.hears_max = usize::MAX);
        pair.until("everything has come", |pair| pair.said(id).heard.len() == total);
        assert!(!pair.said(id).finished);
        pair.change(id, Conversation::finish);
        pair.until("the end", |pair| pair.said(id).is_over());
        assert_eq!(pair.said(id).end, Some(End::Closed));
        pair.finish();
    }
}
