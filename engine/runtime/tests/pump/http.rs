//! The HTTP server: bodies to the byte, requests cut and joined at will, and refusals that arrive.

use crate::pair::{Bounds, Pair};
use crate::peer::Conversation;
use barewire_engine::app::http::body;
use barewire_stack::stats::Counter;
use barewire_stack::tcp::{End, TcpConfig};
use barewire_stack::time::Duration;

/// A response, cut off the front of what was heard.
struct Response {
    head: String,
    body: Vec<u8>,
}

impl Response {
    fn status(&self) -> &str {
        &self.head[9..12]
    }

    /// Reads as many responses as there are; `has_body` tells which of them have one.
    fn read_all(mut heard: &[u8], has_body: impl Fn(usize) -> bool) -> Vec<Response> {
        let mut responses = Vec::new();
        while !heard.is_empty() {
            let end = heard.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head") + 4;
            let head = String::from_utf8(heard[..end].to_vec()).unwrap();
            let length = head.split("Content-Length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            let length = if has_body(responses.len()) { length } else { 0 };
            let body = heard[end..][..length].to_vec();
            heard = &heard[end + length..];
            responses.push(Response { head, body });
        }
        responses
    }
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: server\r\n\r\n").into_bytes()
}

fn generated(n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    body::fill(0, &mut bytes);
    bytes
}

#[test]
fn bodies_are_exact_from_none_to_ten_megabytes() {
    let mut pair = Pair::new("http");
    for (i, n) in [0, 1, 100, 1_460, 65_536, 1 << 20, 10 << 20].into_iter().enumerate() {
        let talk = pair.converse(40_000 + i as u16, &get(&format!("/bytes/{n}")));
        let [response] = &Response::read_all(&talk.heard, |_| true)[..] else { panic!("one") };
        assert_eq!((response.status(), response.body.len()), ("200", n));
        assert!(response.body == generated(n), "{n} bytes");
        assert_eq!(talk.end, Some(End::Closed));
    }
    pair.finish();
}

#[test]
fn a_slow_reader_gets_every_byte() {
    let mut pair = Pair::new("http:1MiB");
    let id = pair.connect(40_000, Conversation::new(&get("/")).deaf());
    pair.run(Duration::from_secs(5));
    let whole = |pair: &Pair| pair.said(id).heard.ends_with(&generated(1 << 20)[(1 << 20) - 9..]);
    while !whole(&pair) {
        pair.change(id, |talk| talk.hears_max = 3000);
        pair.run(Duration::from_micros(200));
    }
    let heard = pair.said(id).heard;
    assert!(Response::read_all(&heard, |_| true)[0].body == generated(1 << 20));
    pair.change(id, Conversation::finish);
    pair.until("the end", |pair| pair.said(id).is_over());
    pair.finish();
}

#[test]
fn requests_may_come_in_pieces_and_in_piles() {
    let pile: Vec<u8> = (0..300).flat_map(|i| get(&format!("/bytes/{}", i * 10))).collect();
    let mut pair = Pair::new("http");
    // All at once, with the FIN behind them.
    let talk = pair.converse(40_000, &pile);
    let check = |heard: &[u8]| {
        let responses = Response::read_all(heard, |_| true);
        assert_eq!(responses.len(), 300);
        for (i, response) in responses.iter().enumerate() {
            assert_eq!(response.status(), "200");
            assert!(response.body == generated(i * 10), "response {i}");
        }
    };
    check(&talk.heard);
    assert_eq!(talk.end, Some(End::Closed));
    // Seven bytes at a time.
    let id = pair.connect(40_001, Conversation::new(b""));
    for piece in pile.chunks(7) {
        pair.change(id, |talk| talk.say(piece));
        pair.run(Duration::from_micros(60));
    }
    pair.change(id, Conversation::finish);
    pair.until("the end", |pair| pair.said(id).is_over());
    check(&pair.said(id).heard);
    pair.finish();
}

#[test]
fn connections_stay_or_close_as_asked() {
    let mut pair = Pair::new("http:10");
    let id = pair.connect(40_000, Conversation::new(&get("/")));
    pair.run(Duration::from_secs(1));
    assert!(!pair.said(id).finished, "HTTP/1.1 stays");
    pair.change(id, |talk| talk.say(b"HEAD /bytes/500 HTTP/1.1\r\nHost: server\r\n\r\n"));
    pair.run(Duration::from_secs(1));
    pair.change(id, |talk| {
        talk.say(b"GET /nowhere HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n");
    });
    pair.until("the server has finished", |pair| pair.said(id).finished);
    let responses = Response::read_all(&pair.said(id).heard, |i| i != 1);
    let seen: Vec<_> = responses.iter().map(|r| (r.status(), !r.body.is_empty())).collect();
    assert_eq!(seen, [("200", true), ("200", false), ("404", true)]);
    assert!(responses[1].head.contains("Content-Length: 500\r\n"));
    assert!(responses[2].head.contains("Connection: close\r\n"));
    pair.change(id, Conversation::finish);

    let id = pair.connect(40_001, Conversation::new(b"GET / HTTP/1.0\r\n\r\n"));
    pair.until("HTTP/1.0 closes", |pair| pair.said(id).finished);
    pair.change(id, Conversation::finish);
    pair.finish();
}

#[test]
fn refusals_arrive_although_more_was_sent() {
    let long = [b"GET / HTTP/1.1\r\nHost: a\r\nx: ".as_slice(), &[b'y'; 100_000]].concat();
    let mut posted = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n".to_vec();
    posted.resize(200_000, b'z');
    let with_body = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nz";
    let mut pair = Pair::new("http");
    for (i, (bytes, status)) in [
        (long.as_slice(), "431"),
        (&posted, "405"),
        (with_body, "413"),
        (b"nonsense\r\n\r\n", "400"),
        (b"GET / HTTP/3.0\r\n\r\n", "505"),
    ]
    .into_iter()
    .enumerate()
    {
        let talk = pair.converse(40_000 + i as u16, bytes);
        let responses = Response::read_all(&talk.heard, |_| true);
        assert_eq!(responses.iter().map(Response::status).collect::<Vec<_>>(), [status]);
        assert_eq!(talk.end, Some(End::Closed), "{status}");
    }
    assert_eq!(pair.stat(Counter::TcpRstOut), [0, 0]);
    // One that never finishes is let go after a while.
    let id = pair.connect(40_100, Conversation::new(b"nonsense\r\n\r\n"));
    pair.until("the server has gone", |pair| pair.on_server(|desk| desk.stack.n_records() == 0));
    pair.on_client(|desk| desk.stack.abort(desk.now, id));
    pair.finish();
}

#[test]
fn a_head_that_trickles_in_is_cut_off_at_the_limit() {
    let mut pair = Pair::new("http");
    let id = pair.connect(40_000, Conversation::new(b"GET / HTTP/1.1\r\nHost: a\r\nx: "));
    while !pair.said(id).finished {
        pair.change(id, |talk| talk.say(b"yyyyyyyyy"));
        pair.run(Duration::from_micros(60));
    }
    assert!((8193..8400).contains(&pair.said(id).to_say.len()));
    pair.change(id, Conversation::finish);
    pair.until("the end", |pair| pair.said(id).is_over());
    let heard = pair.said(id).heard;
    assert_eq!(Response::read_all(&heard, |_| true)[0].status(), "431");
    pair.finish();
}

#[test]
fn a_small_window_lowers_the_limit_instead_of_locking_up() {
    let tcp = TcpConfig { window_bytes_max: 4096, ..TcpConfig::default() };
    let mut pair = Pair::with(Some("http"), &tcp, &Bounds::default());
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(5000));
    let talk = pair.converse(40_000, long.as_bytes());
    assert_eq!(Response::read_all(&talk.heard, |_| true)[0].status(), "431");
    let talk = pair.converse(40_001, &get("/bytes/100000"));
    assert!(Response::read_all(&talk.heard, |_| true)[0].body == generated(100_000));
    pair.finish();
}

#[test]
fn a_request_that_is_cut_off_gets_no_answer() {
    let mut pair = Pair::new("http");
    let talk = pair.converse(40_000, b"GET / HTTP/1.1\r\nHo");
    assert_eq!((talk.heard.len(), talk.end), (0, Some(End::Closed)));
    pair.finish();
}
