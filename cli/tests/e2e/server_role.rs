//! The engine serves the kernel's clients: curl, wrk and plain sockets, byte for byte.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{Engine, KERNEL, SERVER};
use crate::kernel::{PATIENCE, connect, expect_content, expect_no_repair, pattern};
use crate::lab::{End, Lab};

fn lab() -> Lab {
    Lab::new(&[(End::Client, &format!("{KERNEL}/24"))])
}

fn at(port: u16) -> String {
    format!("{SERVER}:{port}")
}

/// The engine reset nothing and was reset by nobody, and dropped nothing.
fn expect_clean(engine: &Engine<'_>) {
    let stats = engine.stats();
    let is_trouble = |name: &str| {
        name.starts_with("drop_tcp")
            || ["tcp_rst_in", "tcp_rst_out", "conns_reset", "conns_aborted", "conns_timed_out"]
                .contains(&name)
    };
    let trouble: Vec<_> = stats.iter().filter(|(name, n)| is_trouble(name) && **n > 0).collect();
    assert!(trouble.is_empty(), "{trouble:?}");
}

/// The body that `/bytes/N` promises: byte i is the exclusive or of the three low bytes of i.
pub fn body(len: u64) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

#[test]
fn curl_gets_every_body_byte_for_byte() {
    let lab = lab();
    let engine = Engine::server(&lab);
    let file = lab.path("body");
    for len in [1, 1 << 10, 1 << 20, 10 << 20] {
        let line = format!("curl -sS --fail --max-time 30 -o {}", file.display());
        lab.run(End::Client, &format!("{line} http://{SERVER}/bytes/{len}")).expect_status(0);
        let found = fs::read(&file).expect("curl wrote the body");
        assert!(found == body(len), "the body of {len} bytes is not what was promised");
    }
    expect_clean(&engine);
    expect_content(&lab, End::Client);
    engine.stop();
}

#[test]
fn nothing_is_sent_twice_on_a_clean_path() {
    let lab = lab();
    let engine = Engine::server(&lab);
    let curl = "curl -sS --fail --max-time 30 -o /dev/null";
    expect_no_repair(&lab, End::Client, || {
        lab.run(End::Client, &format!("{curl} http://{SERVER}/bytes/4194304")).expect_status(0);
    });
    let sent = pattern(2 << 20, 1);
    expect_no_repair(&lab, End::Client, || {
        let stream = lab.within(End::Client, || connect(&at(8080)));
        let mut found = vec![0; sent.len()];
        thread::scope(|scope| {
            scope.spawn(|| (&stream).write_all(&sent).expect("sends"));
            (&stream).read_exact(&mut found).expect("receives");
        });
        assert!(found == sent, "the echo differs");
    });
    expect_clean(&engine);
    expect_content(&lab, End::Client);
    engine.stop();
}

#[test]
fn two_hundred_connections_at_once_are_kept_apart() {
    let lab = lab();
    let engine = Engine::server(&lab);
    let streams: Vec<TcpStream> =
        lab.within(End::Client, || (0..200).map(|_| connect(&at(8080))).collect());
    engine.await_stat("conns_open", 200);
    assert_eq!(engine.conns().len(), 200);
    thread::scope(|scope| {
        for (idx, mut stream) in streams.into_iter().enumerate() {
            scope.spawn(move || {
                let sent = pattern(4 << 10, idx as u64 * 1_000);
                stream.write_all(&sent).expect("sends");
                stream.shutdown(Shutdown::Write).expect("finishes");
                let mut found = Vec::new();
                stream.read_to_end(&mut found).expect("receives");
                assert!(found == sent, "connection {idx} got what it did not send");
            });
        }
    });
    engine.await_stat("conns_open", 0);
    expect_clean(&engine);
    expect_content(&lab, End::Client);
    engine.stop();
}

#[test]
fn curl_in_parallel_gets_every_body() {
    let lab = lab();
    let engine = Engine::server(&lab);
    let line = "curl -sS --fail --max-time 30 --parallel --parallel-max 100 -o /dev/null -w %{size_download}\\n";
    let ended = lab.run(End::Client, &format!("{line} http://{SERVER}/bytes/[10000-10199]"));
    let mut sizes: Vec<u32> = ended
        .expect_status(0)
        .out
        .lines()
        .map(|line| line.parse().expect("curl prints a size"))
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, (10_000..=10_199).collect::<Vec<u32>>());
    expect_content(&lab, End::Client);
    engine.stop();
}

#[test]
fn wrk_meets_no_error() {
    let lab = lab();
    let engine = Engine::server(&lab);
    let ended = lab.run(End::Client, &format!("wrk -t 2 -c 64 -d 2s http://{SERVER}:80/"));
    let out = ended.expect_status(0).out;
    assert!(!out.contains("Socket errors") && !out.contains("Non-2xx"), "{out}");
    let requests = out.lines().find_map(|line| line.trim().split_once(" requests in"));
    let requests = requests.and_then(|(n, _)| n.parse::<u32>().ok()).expect("wrk counts");
    assert!(requests > 1_000, "{out}");
    engine.stop();
}

#[test]
fn a_half_closed_connection_gets_the_rest_of_its_echo() {
    let lab = lab();
    let engine = Engine::server(&lab);
    lab.within(End::Client, || {
        let mut stream = connect(&at(8080));
        let sent = pattern(100_000, 1);
        stream.write_all(&sent).expect("sends");
        stream.shutdown(Shutdown::Write).expect("finishes");
        let mut found = Vec::new();
        stream.read_to_end(&mut found).expect("receives to the end");
        assert!(found == sent, "expected {} bytes back, found {}", sent.len(), found.len());
    });
    engine.await_stat("conns_closed", 1);
    expect_clean(&engine);
    expect_content(&lab, End::Client);
    engine.stop();
}

#[test]
fn a_megabyte_goes_both_ways_at_once() {
    let lab = lab();
    let engine = Engine::server(&lab);
    let stream = lab.within(End::Client, || connect(&at(8080)));
    let sent = pattern(1 << 20, 2);
    let mut found = vec![0; sent.len()];
    thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(&sent).expect("sends"));
        (&stream).read_exact(&mut found).expect("receives");
    });
    assert!(found == sent, "the echo differs");
    drop(stream);
    engine.await_stat("conns_closed", 1);
    expect_clean(&engine);
    expect_content(&lab, End::Client);
    engine.stop();
}

#[test]
fn discard_and_burst_do_as_their_names_say() {
    let lab = lab();
    let engine = Engine::server(&lab);
    lab.within(End::Client, || {
        let mut discard = connect(&at(8081));
        discard.write_all(&pattern(1 << 20, 3)).expect("sends");
        discard.shutdown(Shutdown::Write).expect("finishes");
        let mut found = Vec::new();
        discard.read_to_end(&mut found).expect("the peer closes");
        assert_eq!(found, b"", "discard sends nothing");

        let mut burst = connect(&at(8082));
        let mut found = vec![1; 60_000];
        for request in [&b"a"[..], b"bc"] {
            burst.write_all(request).expect("sends");
            for _ in request {
                burst.read_exact(&mut found).expect("a burst for each byte");
                assert!(found.iter().all(|&byte| byte == 0), "a burst is of zeros");
            }
        }
        burst.shutdown(Shutdown::Write).expect("finishes");
        assert_eq!(burst.read(&mut found).expect("the peer closes"), 0, "no byte more");
    });
    engine.await_stat("conns_closed", 2);
    expect_clean(&engine);
    engine.stop();
}

#[test]
fn closing_ports_close_when_they_say() {
    let lab = lab();
    let engine = Engine::server(&lab);
    lab.within(End::Client, || {
        let mut buf = [0; 256];
        let mut close_after = connect(&at(8083));
        close_after.write_all(b"a").expect("sends");
        assert_eq!(close_after.read(&mut buf).expect("an orderly end"), 0);

        let mut close_unread = connect(&at(8085));
        close_unread.write_all(b"never read").expect("sends");
        let begun = Instant::now();
        let error = close_unread.read(&mut buf).expect_err("unread data end in a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(250), "closed after {took:?}");
        assert!(took < Duration::from_secs(2), "closed after {took:?}");

        let mut small_writes = connect(&at(8086));
        small_writes.read_exact(&mut buf[..100]).expect("10 pieces of 10 bytes");
        small_writes.shutdown(Shutdown::Write).expect("finishes");
        assert_eq!(small_writes.read(&mut buf).expect("an orderly end"), 0, "no byte more");
    });
    engine.stop();
}

#[test]
fn a_reader_that_never_reads_closes_its_window() {
    let lab = lab();
    let engine = Engine::server(&lab);
    lab.within(End::Client, || {
        let mut stream = connect(&at(8084));
        stream.set_write_timeout(Some(Duration::from_millis(500))).expect("sets its patience");
        let piece = vec![7; 64 << 10];
        let mut n = 0;
        let error = loop {
            match stream.write(&piece) {
                Ok(len) => n += len,
                Err(error) => break error,
            }
            assert!(n < 64 << 20, "nothing stops the sender");
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "it waits for the window");
        assert!(n >= 64 << 10, "the window was open at first: {n}");
    });
    let stats = engine.stats();
    assert!(stats["tcp_bytes_in"] > 0 && stats["tcp_bytes_in"] < 64 << 20, "{stats:?}");
    engine.stop();
}

#[test]
fn a_port_without_a_listener_refuses() {
    let lab = lab();
    let engine = Engine::server(&lab);
    let begun = Instant::now();
    let error =
        lab.within(End::Client, || TcpStream::connect(at(8099)).expect_err("nobody listens"));
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(begun.elapsed() < PATIENCE, "a refusal comes at once");
    engine.stop();
}
