//! The engine inside another program: an application of its own, requests without a socket, and the
//! end by a call.

use crate::lab::{ENGINE, Peer, control_path};
use crate::netns::{isolated, run};
use barewire_api::control::{ConnFilter, ErrorCode, Request, Response};
use barewire_engine::app::{App, Io, make};
use barewire_engine::engine::{AppMaker, EngineOptions};
use barewire_engine::{Config, Engine};
use barewire_stack::stack::Event;
use barewire_stack::tcp::Events;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

/// Answers each byte with its successor.
#[derive(Debug)]
struct Successor;

impl App for Successor {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        let mut buf = [0; 256];
        loop {
            let n = io.recv(event.id, &mut buf);
            if n == 0 {
                break;
            }
            buf[..n].iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
            assert_eq!(io.send(event.id, &buf[..n]), n, "a few bytes find room");
        }
        if event.events.contains(Events::FINISHED) {
            io.close(event.id);
        }
    }
}

fn config() -> Config {
    let path = control_path();
    let text = format!(
        r#"
        listen = [{{ port = 7000, app = "discard" }}, {{ port = 7001, app = "echo" }}]
        interface = {{ dev = "d0", addresses = ["10.99.0.2/24"] }}
        control = {{ path = "{}" }}
        "#,
        path.display()
    );
    Config::parse(&text).expect("a configuration")
}

fn exchanged(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect((ENGINE, port)).expect("connects");
    stream.write_all(bytes).expect("is taken");
    stream.shutdown(Shutdown::Write).expect("half-closes");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("comes back");
    back
}

#[test]
fn a_program_serves_with_an_application_of_its_own() {
    isolated("embed::a_program_serves_with_an_application_of_its_own", || {
        let peer = Peer::new();
        let apps = AppMaker::new(|spec| match spec.to_string().as_str() {
            "discard" => Box::new(Successor),
            _ => make(spec),
        });
        let options = EngineOptions { apps, ..EngineOptions::default() };
        let engine = Engine::start_with(config(), options).expect("starts");
        peer.within(|| {
            assert_eq!(exchanged(7000, b"HAL"), b"IBM");
            assert_eq!(exchanged(7001, b"HAL"), b"HAL");
        });
        let control = engine.control().clone();
        let Response::Status(status) = control.ask(Request::Status) else { panic!("a status") };
        assert_eq!(status.listeners.len(), 2);
        assert!(status.workers.iter().all(|worker| worker.frames.balances()), "{status:?}");
        let filter = ConnFilter::default();
        let conns = control.ask(Request::Conns { cursor: None, limit: 9, filter });
        assert!(matches!(conns, Response::Conns(_)), "{conns:?}");

        engine.stop();
        let ending = engine.join();
        assert!(ending.is_sound(), "{ending}");
        assert!(ending.to_string().contains("2 connections opened, 2 ended"), "{ending}");
        let late = control.ask(Request::Status);
        assert!(matches!(late, Response::Error { code: ErrorCode::Stopping, .. }), "{late:?}");
    });
}

#[test]
fn a_dropped_engine_leaves_the_interface_and_can_be_started_again() {
    isolated("embed::a_dropped_engine_leaves_the_interface_and_can_be_started_again", || {
        let peer = Peer::new();
        for _ in 0..3 {
            let engine = Engine::start(config()).expect("starts");
            assert!(peer.pings(ENGINE));
            drop(engine);
            assert!(!run("ip -d link show d0").contains("xdp"));
        }
    });
}
