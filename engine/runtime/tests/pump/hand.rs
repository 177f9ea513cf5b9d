//! The hand: what an operator does to one connection, step by step.

use crate::pair::{Bounds, CLIENT, Pair, SERVER};
use barewire_api::control::RECEIVED_BYTES_MAX;
use barewire_api::failure::Failure;
use barewire_engine::app::Io;
use barewire_engine::app::hand::{HANDS_MAX, Hand, HandError};
use barewire_engine::worker::Apps;
use barewire_stack::stack::ConnId;
use barewire_stack::tcp::TcpConfig;
use barewire_stack::time::Duration;
use std::net::SocketAddrV4;

impl Pair {
    fn by_hand<R>(&mut self, job: impl FnOnce(&mut Hand, &mut Io<'_>) -> R) -> R {
        self.on_client(|desk| {
            job(&mut desk.apps.hand, &mut Io::new(desk.stack, desk.now, Apps::HAND))
        })
    }

    fn hand_connect(&mut self, port: u16) -> Result<ConnId, Failure> {
        self.by_hand(|hand, io| hand.connect(io, SocketAddrV4::new(CLIENT, port), SERVER))
    }

    /// Opens a connection and waits for the outcome.
    fn hand_open(&mut self, port: u16) -> (ConnId, Result<(), Failure>) {
        let id = self.hand_connect(port).unwrap();
        self.until("the open has an outcome", |pair| {
            pair.by_hand(|hand, _| hand.outcome(id)).unwrap().is_some()
        });
        (id, self.by_hand(|hand, _| hand.outcome(id)).unwrap().unwrap())
    }
}

#[test]
fn an_operator_connects_sends_receives_and_closes() {
    let mut pair = Pair::new("echo");
    let (id, outcome) = pair.hand_open(33_333);
    assert_eq!(outcome, Ok(()));
    assert_eq!(pair.by_hand(|hand, io| hand.receive(io, id, 1)), Ok(None));
    assert_eq!(pair.by_hand(|hand, io| hand.send(io, id, b"hello")), Ok(5));
    pair.run(Duration::from_millis(5));
    assert_eq!(pair.by_hand(|hand, io| hand.receive(io, id, 6)), Ok(None));
    let received = pair.by_hand(|hand, io| hand.receive(io, id, 5)).unwrap().unwrap();
    assert_eq!(
        (&received.bytes[..], received.bytes_total, received.end),
        (&b"hello"[..], 5, false)
    );

    assert_eq!(pair.by_hand(|hand, io| hand.close(io, id)), Ok(()));
    pair.run(Duration::from_millis(50));
    let received = pair.by_hand(|hand, io| hand.receive(io, id, 1)).unwrap().unwrap();
    assert!(received.bytes.is_empty() && received.end);
    let again = pair.by_hand(|hand, io| hand.send(io, id, b"more"));
    assert_eq!(again, Err(HandError::Ended(None)));
    pair.run(Duration::from_secs(61));
    assert_eq!(pair.by_hand(|hand, _| hand.outcome(id)), Err(HandError::Unknown));
    pair.finish();
}

#[test]
fn what_is_not_taken_closes_the_window_and_comes_later() {
    let mut pair = Pair::new("burst:1000000");
    let (id, _) = pair.hand_open(33_333);
    pair.by_hand(|hand, io| hand.send(io, id, b"!")).unwrap();
    pair.run(Duration::from_secs(5));
    let (mut total, mut n) = (0, 0);
    while total < 1_000_000 {
        let received = pair.by_hand(|hand, io| hand.receive(io, id, 1)).unwrap();
        if let Some(received) = received {
            assert!(received.bytes.len() <= RECEIVED_BYTES_MAX);
            n += received.bytes.len();
            total = received.bytes_total;
        }
        pair.run(Duration::from_micros(100));
    }
    n += pair.by_hand(|hand, io| hand.receive(io, id, 0)).unwrap().unwrap().bytes.len();
    assert_eq!((n, total), (1_000_000, 1_000_000));
    pair.by_hand(|hand, io| hand.abort(io, id)).unwrap();
    let ended = pair.by_hand(|hand, io| hand.close(io, id));
    assert_eq!(ended, Ok(()), "the end is told with the next turn");
    pair.run(Duration::from_millis(1));
    assert_eq!(pair.by_hand(|hand, io| hand.close(io, id)), Err(HandError::Ended(None)));
    pair.finish();
}

#[test]
fn failures_have_their_names() {
    let mut pair = Pair::with(None, &TcpConfig::default(), &Bounds::default());
    assert_eq!(pair.hand_open(33_333).1, Err(Failure::Refused));
    let elsewhere = SocketAddrV4::new([192, 0, 2, 7].into(), 33_333);
    let foreign = pair.by_hand(|hand, io| hand.connect(io, elsewhere, SERVER));
    assert_eq!(foreign, Err(Failure::NotOurAddress));
    pair.mute = true;
    let id = pair.hand_connect(40_000).unwrap();
    assert_eq!(pair.hand_connect(40_000), Err(Failure::TupleInUse));
    pair.until("the stack gives up", |pair| {
        pair.by_hand(|hand, _| hand.outcome(id)) == Ok(Some(Err(Failure::ConnectTimedOut)))
    });
    let nobody = SocketAddrV4::new([10, 0, 0, 77].into(), 80);
    let local = SocketAddrV4::new(CLIENT, 40_001);
    let id = pair.by_hand(|hand, io| hand.connect(io, local, nobody)).unwrap();
    pair.until("nobody answers ARP", |pair| {
        pair.by_hand(|hand, _| hand.outcome(id)) == Ok(Some(Err(Failure::NoNeighbor)))
    });
    pair.finish();

    let mut pair = Pair::new("close-unread:1ms");
    let (id, _) = pair.hand_open(33_333);
    pair.by_hand(|hand, io| hand.send(io, id, b"x")).unwrap();
    pair.run(Duration::from_millis(50));
    let ended = pair.by_hand(|hand, io| hand.send(io, id, b"y"));
    assert_eq!(ended, Err(HandError::Ended(Some(Failure::Reset))));
    pair.finish();
}

#[test]
fn the_hand_holds_so_many_and_forgets_the_ended_first() {
    let mut pair = Pair::new("echo");
    let ids: Vec<_> =
        (0..HANDS_MAX as u16).map(|i| pair.hand_connect(20_000 + i).unwrap()).collect();
    assert_eq!(pair.hand_connect(50_000), Err(Failure::ConnectionsMax));
    pair.run(Duration::from_millis(50));
    pair.by_hand(|hand, io| hand.abort(io, ids[7])).unwrap();
    pair.run(Duration::from_millis(1));
    let new = pair.hand_connect(50_000).unwrap();
    assert_eq!(pair.by_hand(|hand, _| hand.outcome(ids[7])), Err(HandError::Unknown));
    for id in ids.into_iter().chain([new]) {
        pair.by_hand(|hand, io| hand.forget(io, id));
    }
    pair.finish();
}
