//! `barewire impair`: what it asks of the daemon, what it prints, and that nobody overlooks it.

use barewire_api::control::{Request, Response, Status};
use barewire_api::impair::{Direction, Impaired, Impairment, Impairments};
use barewire_api::unit::Span;

use crate::control::status;
use crate::fake::{Daemon, barewire};

fn impairment() -> Impairment {
    Impairment {
        loss: "1%".parse().expect("a share"),
        delay: Span::from_millis(5),
        ..Impairment::default()
    }
}

fn impairments() -> Impairments {
    Impairments { tx: Some(Impaired { impairment: impairment(), seed: 7 }), rx: None }
}

/// A daemon that is impaired, whatever it is asked.
fn daemon() -> Daemon {
    Daemon::new(|request| match request {
        Request::Status => {
            let status = Status { impairments: impairments(), ..status(1) };
            Response::Status(Box::new(status))
        }
        _ => Response::Impairments(impairments()),
    })
}

#[test]
fn faults_are_asked_for_as_they_were_written() {
    let daemon = daemon();
    let impair = |flags: &[&str]| {
        let ended = barewire(&[&["--control", daemon.path(), "impair"], flags].concat());
        let printed = "impaired: tx loss 1%, delay 5ms, seed 7\n";
        assert_eq!((ended.out.as_str(), ended.status), (printed, 0), "{}", ended.err);
        daemon.last_request()
    };
    let set = |direction, impairment, seed| Request::ImpairSet { direction, impairment, seed };
    let asked = impair(&["--loss", "1%", "--delay", "5ms"]);
    assert_eq!(asked, set(Direction::Tx, impairment(), None));
    let all = Impairment {
        loss: "0.5%".parse().expect("a share"),
        duplicate: "0.1%".parse().expect("a share"),
        corrupt: "0.01%".parse().expect("a share"),
        reorder: "2%".parse().expect("a share"),
        delay: Span::from_millis(5),
        jitter: Span::from_millis(1),
        rate: "100mbit".parse().expect("a rate"),
        backlog: Span::from_millis(20),
    };
    let asked = impair(&[
        "--loss=0.5%",
        "--duplicate=0.1%",
        "--corrupt=0.01%",
        "--reorder=2%",
        "--delay=5ms",
        "--jitter=1ms",
        "--rate=100mbit",
        "--backlog=20ms",
        "--direction=both",
        "--seed=7",
    ]);
    assert_eq!(asked, set(Direction::Both, all, Some(7)));
    assert_eq!(impair(&["off"]), Request::ImpairOff { direction: Direction::Both });
    let asked = impair(&["off", "--direction", "rx"]);
    assert_eq!(asked, Request::ImpairOff { direction: Direction::Rx });
    assert_eq!(impair(&[]), Request::Status);
}

#[test]
fn json_has_the_faults_and_the_seed() {
    let daemon = daemon();
    for line in [&["impair", "--json"][..], &["impair", "off", "--json"]] {
        let ended = barewire(&[&["--control", daemon.path()], line].concat());
        let printed: Impairments = serde_json::from_str(&ended.out).expect("prints impairments");
        assert_eq!((printed, ended.status), (impairments(), 0));
    }
}

#[test]
fn status_shows_it_above_everything_else() {
    let daemon = daemon();
    let ended = barewire(&["--control", daemon.path(), "status"]);
    let second = ended.out.lines().nth(1);
    assert_eq!(second, Some("* IMPAIRED   tx loss 1%, delay 5ms, seed 7"), "{}", ended.out);
}

#[test]
fn what_cannot_be_meant_is_refused_before_anybody_is_asked() {
    for (flags, part) in [
        (&["--loss", "1"][..], "expected a share from 0% to 100%"),
        (&["--loss", "101%"], "expected a share from 0% to 100%"),
        (&["--delay", "5"], "expected a duration with its unit"),
        (&["--delay", "1ms", "--jitter", "2ms"], "expected at most the delay, which is 1ms"),
        (&["--rate", "100"], "expected bits per second such as 100mbit"),
        (&["--backlog", "1ms"], "--rate"),
        (&["--direction", "up", "--loss", "1%"], "expected tx, rx or both"),
        (&["--seed", "7"], "give a fault beside --seed"),
        (&["--loss", "1%", "off"], "cannot be used with"),
        (&["on"], "unrecognized subcommand"),
    ] {
        let ended = barewire(&[&["--control", "/nonexistent/x", "impair"], flags].concat());
        assert_eq!(ended.status, 2, "{flags:?}: {}", ended.err);
        assert!(ended.err.contains(part), "{flags:?}: expected `{part}` in\n{}", ended.err);
    }
}
