//! Clients of the control socket that do everything wrong: the daemon answers what can be answered,
//! drops the rest, and serves everybody else meanwhile.

use crate::lab::{Client, Daemon, OWNED, Peer, control_path, eventually};
use crate::netns::{isolated, run};
use nix::unistd::{Uid, seteuid};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const HELLO: &str = r#"{"request":"hello","protocol":1}"#;

fn greets(answer: &str) -> bool {
    answer.starts_with(r#"{"response":"hello","protocol":1"#)
}

#[test]
fn lines_that_are_no_requests_are_answered_and_the_next_is_served() {
    isolated("control::lines_that_are_no_requests_are_answered_and_the_next_is_served", || {
        let _peer = Peer::new();
        let daemon = Daemon::start(&OWNED);
        let mut client = daemon.client();
        for garbage in [
            "",
            "{",
            "null",
            "[]",
            r#"{"request":"explode"}"#,
            r#"{"request":"conns"}"#,
            r#"{"request":"hello","protocol":-1}"#,
            r#"{"request":"listen-add","listen":{"port":0,"app":"echo"}}"#,
            "\u{0}\u{7f}\u{fffd}",
            &"[".repeat(100_000),
        ] {
            let answer = client.ask(garbage);
            assert!(answer.contains(r#""code":"bad-request""#), "{garbage:.40}: {answer}");
        }
        for (request, code) in [
            (r#"{"request":"conns","limit":0}"#, "bad-request"),
            (r#"{"request":"conns","limit":257}"#, "bad-request"),
            (r#"{"request":"conns","limit":1,"cursor":18446744073709551615}"#, "bad-request"),
            (r#"{"request":"close","id":"9:0:0"}"#, "not-found"),
            (r#"{"request":"abort","id":"0:4000000000:7"}"#, "not-found"),
            (r#"{"request":"send","id":"0:0:0","payload":{"zeros":0}}"#, "bad-request"),
            (r#"{"request":"recv","id":"0:0:0","bytes_min":99999,"timeout":"1s"}"#, "bad-request"),
            (r#"{"request":"load-stop"}"#, "not-found"),
            (r#"{"request":"load-start","plan":{"connections":"5"}}"#, "refused"),
            (r#"{"request":"listen-remove","port":"81"}"#, "not-found"),
            (
                r#"{"request":"connect","remote":"10.99.0.1:9","src_port":0,"timeout":"1s"}"#,
                "bad-request",
            ),
        ] {
            let answer = client.ask(request);
            assert!(answer.contains(&format!(r#""code":"{code}""#)), "{request}: {answer}");
        }
        assert!(greets(&client.ask(HELLO)));
        daemon.stop();
    });
}

#[test]
fn another_version_is_told_and_shown_out() {
    isolated("control::another_version_is_told_and_shown_out", || {
        let _peer = Peer::new();
        let daemon = Daemon::start(&OWNED);
        let mut client = daemon.client();
        let answer = client.ask(r#"{"request":"hello","protocol":2}"#);
        assert!(answer.contains("bad-version") && answer.contains("found 2"), "{answer}");
        assert_eq!(client.answer(), "", "the connection is closed");
        daemon.stop();
    });
}

#[test]
fn a_line_without_end_is_cut_off() {
    isolated("control::a_line_without_end_is_cut_off", || {
        let _peer = Peer::new();
        let daemon = Daemon::start(&OWNED);
        let mut flood = daemon.client();
        let chunk = [b'x'; 64 << 10];
        // 10 MiB, if the daemon took them.
        let n_sent = (0..160).take_while(|_| flood.send(&chunk).is_ok()).count();
        assert!(n_sent < 160, "the daemon hangs up long before");
        assert!(flood.answer().contains("too-long"));
        assert!(greets(&daemon.ask(HELLO)));
        daemon.stop();
    });
}

#[test]
fn a_client_that_stops_in_the_middle_of_a_line_holds_nobody_up() {
    isolated("control::a_client_that_stops_in_the_middle_of_a_line_holds_nobody_up", || {
        let _peer = Peer::new();
        let daemon = Daemon::start(&OWNED);
        let mut half: Vec<Client> = (0..8).map(|_| daemon.client()).collect();
        half.iter_mut().for_each(|client| client.send(br#"{"request":"#).expect("is taken"));
        let begin = Instant::now();
        assert!(greets(&daemon.ask(HELLO)));
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        // After the five seconds that a line may take they are gone.
        for client in &mut half {
            assert_eq!(client.answer(), "");
        }
        assert!(begin.elapsed() > Duration::from_secs(4), "{:?}", begin.elapsed());
        daemon.stop();
    });
}

#[test]
fn an_answer_that_is_on_its_way_holds_nobody_up() {
    isolated("control::an_answer_that_is_on_its_way_holds_nobody_up", || {
        let _peer = Peer::new();
        let daemon = Daemon::start(&OWNED);
        let mut waiting = daemon.client();
        // Nobody has that address: its fate is known after the timeout.
        let connect = r#"{"request":"connect","remote":"10.99.0.77:9","timeout":"1s"}"#;
        waiting.send(format!("{connect}\n{HELLO}\n").as_bytes()).expect("is taken");
        // One that leaves in the meantime takes its opening with it.
        let mut leaving = daemon.client();
        let other = r#"{"request":"connect","remote":"10.99.0.78:9","timeout":"60s"}"#;
        leaving.send(format!("{other}\n").as_bytes()).expect("is taken");
        eventually("both are under way", || {
            daemon
                .ask(r#"{"request":"status"}"#)
                .contains(r#""connections":2,"time_wait":0,"bytes"#)
                .then_some(())
        });
        drop(leaving);
        assert!(waiting.answer().contains(r#""response":"failed""#));
        assert!(greets(&waiting.answer()), "answers come in the order of the requests");
        eventually("nothing is left", || {
            daemon
                .ask(r#"{"request":"status"}"#)
                .contains(r#""connections":0,"time_wait":0,"bytes"#)
                .then_some(())
        });
        daemon.stop();
    });
}

#[test]
fn a_thousand_connections_leave_the_daemon_as_it_was() {
    isolated("control::a_thousand_connections_leave_the_daemon_as_it_was", || {
        let _peer = Peer::new();
        let daemon = Daemon::start(&OWNED);
        let n_open = || {
            let dir = fs::read_dir(format!("/proc/{}/fd", daemon.pid()));
            dir.expect("it lives").count()
        };
        let before = n_open();
        let crowd: Vec<_> = (0..1_000).map(|_| UnixStream::connect(&daemon.control)).collect();
        assert!(crowd.iter().all(Result::is_ok), "the kernel queues them");
        eventually("sixteen are served", || (n_open() == before + 16).then_some(()));
        assert!(daemon.ask(HELLO).contains(r#""code":"busy""#));
        drop(crowd);
        eventually("they are forgotten", || (n_open() == before).then_some(()));
        assert!(greets(&daemon.ask(HELLO)));
        daemon.stop();
    });
}

#[test]
fn another_user_is_refused_even_where_the_file_lets_it_in() {
    isolated("control::another_user_is_refused_even_where_the_file_lets_it_in", || {
        let _peer = Peer::new();
        let daemon = Daemon::start(&OWNED);
        let mode = || fs::metadata(&daemon.control).expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&daemon.control, Permissions::from_mode(0o666)).expect("root may");
        // The kernel notes the effective user at the time of the connect.
        seteuid(Uid::from_raw(65_534)).expect("root may");
        let mut stranger = daemon.client();
        seteuid(Uid::from_raw(0)).expect("the saved user is root");
        let answer = stranger.ask(HELLO);
        assert!(answer.contains("only the user that runs the engine"), "{answer}");
        assert!(greets(&daemon.ask(HELLO)));
        let output = daemon.stop();
        assert!(output.contains("refused a control client of user 65534"), "{output}");
    });
}

#[test]
fn what_is_in_the_place_of_the_socket_is_judged() {
    isolated("control::what_is_in_the_place_of_the_socket_is_judged", || {
        let _peer = Peer::new();
        let killed = Daemon::start(&OWNED);
        let path = killed.control.clone();
        let set = format!("control.path={}", path.display());
        // On an interface that is free: it is the socket that is taken.
        run("ip link add c0 type veth peer name c1");
        run("ip link set c0 up");
        let other = ["--dev", "c0", "--addr", "10.98.0.2/24", "--set", &set];
        let at_path = || Daemon::refused(&other);
        let (status, output) = at_path();
        assert_eq!(status, 3, "{output}");
        assert!(output.contains("a daemon answers at the control socket"), "{output}");

        killed.signal("KILL");
        let mut killed = killed;
        killed.wait();
        assert!(path.exists(), "SIGKILL leaves the file, and nothing else");
        assert!(!run("ip -d link show d0").contains("xdp"));
        let replacement = Daemon::start_at(&path, &OWNED);
        assert!(greets(&replacement.ask(HELLO)));
        replacement.stop();
        assert!(!path.exists());

        let elsewhere = control_path();
        symlink(&elsewhere, &path).expect("a link");
        let (status, output) = at_path();
        assert_eq!(status, 3, "{output}");
        assert!(output.contains("found a symbolic link"), "{output}");
        assert!(!elsewhere.exists());
    });
}

#[test]
fn the_daemon_ends_with_the_input_that_it_was_told_to_watch() {
    isolated("control::the_daemon_ends_with_the_input_that_it_was_told_to_watch", || {
        let _peer = Peer::new();
        // Its standard input is /dev/null here, which ends at once.
        let (status, output) = Daemon::refused(&[&OWNED[..], &["--stop-on-eof"]].concat());
        assert_eq!(status, 0, "{output}");
        assert!(output.contains("ready") && output.contains("barewired: ended: "), "{output}");
    });
}
