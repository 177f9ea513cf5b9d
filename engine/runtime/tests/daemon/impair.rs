//! A daemon that impairs its own frames: from its configuration and on request, against the kernel's
//! TCP.

use crate::lab::{Daemon, ENGINE, OWNED, Peer};
use crate::netns::isolated;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const STATUS: &str = r#"{"request":"status"}"#;
const DELAY: &str = r#"{"request":"impair-set","direction":"both","seed":7,"impairment":"#;
const OFF: &str = r#"{"request":"impair-off","direction":"both"}"#;

/// How long a byte takes to the engine's echo and back.
fn round_trip(stream: &mut TcpStream) -> Duration {
    let begin = Instant::now();
    stream.write_all(b"x").expect("the peer takes it");
    stream.read_exact(&mut [0]).expect("comes back");
    begin.elapsed()
}

#[test]
fn faults_of_the_configuration_are_there_from_the_start_until_they_are_ended() {
    isolated(
        "impair::faults_of_the_configuration_are_there_from_the_start_until_they_are_ended",
        || {
            let peer = Peer::new();
            let impair = [
                "--listen",
                "7000=echo",
                "--set",
                "impair.tx={delay='30ms'}",
                "--set=impair.seed=9",
            ];
            let daemon = Daemon::start(&[&OWNED[..], &impair].concat());
            let faults = daemon.ask(STATUS);
            assert!(faults.contains(r#""impairments":{"tx":{"impairment":"#), "{faults}");
            assert!(faults.contains(r#""delay":"30ms""#) && faults.contains(r#""seed":9"#));
            let mut stream = peer.within(|| TcpStream::connect((ENGINE, 7000)).expect("connects"));
            stream.set_nodelay(true).expect("no delay of the peer's");
            let took = round_trip(&mut stream);
            assert!(took >= Duration::from_millis(30), "{took:?}");

            let answer = daemon.ask(&format!(r#"{DELAY}{{"delay":"20ms"}}}}"#));
            assert!(answer.contains(r#""response":"impairments""#), "{answer}");
            let took = round_trip(&mut stream);
            assert!(took >= Duration::from_millis(40), "there and back: {took:?}");

            assert_eq!(daemon.ask(OFF), r#"{"response":"impairments"}"#);
            let took = (0..10).map(|_| round_trip(&mut stream)).min();
            assert!(took < Some(Duration::from_millis(10)), "{took:?}");
            // The books are closed with frames on their way.
            daemon.ask(&format!(r#"{DELAY}{{"delay":"60s"}}}}"#));
            stream.write_all(b"held").expect("the peer takes it");
            daemon.stop();
        },
    );
}

#[test]
fn what_would_go_unnoticed_or_means_nothing_is_refused() {
    isolated("impair::what_would_go_unnoticed_or_means_nothing_is_refused", || {
        let _peer = Peer::new();
        let daemon = Daemon::start(&OWNED);
        // On veth the peer's checksums may be unfinished, so that damage would not be noticed.
        for (impairment, part) in [
            (r#"{"corrupt":"1%"}"#, "start with --rx-checksum verify"),
            ("{}", "expected a fault, found none"),
            (r#"{"delay":"1ms","jitter":"2ms"}"#, "expected at most the delay"),
        ] {
            let answer = daemon.ask(&format!("{DELAY}{impairment}}}"));
            let is_refused = answer.contains(r#""code":"refused""#) && answer.contains(part);
            assert!(is_refused, "{impairment}: {answer}");
        }
        assert!(daemon.ask(STATUS).contains(r#""impairments":{}"#), "nothing was set");
        daemon.stop();
        let corrupt = ["--set", "impair.rx={corrupt='1%'}"];
        let (status, output) = Daemon::refused(&[&OWNED[..], &corrupt].concat());
        assert_eq!(status, 2, "{output}");
        assert!(output.contains("impair.rx.corrupt"), "{output}");
    });
}
