//! barewire's ends: an engine in this process, with the applications and the load generator that it
//! ships, on one worker, which never sleeps where that is asked for. Its configuration is the default but
//! for Nagle's algorithm.

use super::end::{Contestant, Order, Stop, say_ready};
use super::lab::{CLIENT, SERVER, SOURCES};
use super::task::{Driven, Served, Shape, Task};
use crate::rig::Failure;
use barewire_api::Config;
use barewire_api::config::{CloseWith, LoadMode, LoadPlan, LoadProtocol, Poll, Prefix};
use barewire_api::control::{PROTOCOL_VERSION, Request, Response};
use barewire_api::page::Page;
use barewire_api::report::{LoadPhase, LoadReport};
use barewire_api::unit::{Count, Span};
use barewire_engine::Engine;
use barewire_stack::stats::Counter;
use std::fs::File;
use std::io::Read;
use std::time::Duration;
use std::{process, thread};

/// How often a load test is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Serves until told to stop.
pub(crate) fn serve(order: &Order, stop: &Stop) -> Result<Served, Failure> {
    let app = if order.task.shape == Shape::Bulk { "http" } else { "echo" };
    let mut config = config(order);
    config.interface.addresses = vec![Prefix::new(*SERVER.ip(), 24).expect("a prefix")];
    config.listen = vec![format!("{}={app}", SERVER.port()).parse().expect("a listener")];
    let engine = start(config)?;
    let page = page(&engine)?;
    say_ready()?;
    while !stop.is_set() {
        thread::sleep(LOOK);
    }
    end(engine)?;
    count(page)
}

/// Runs a load test.
pub(crate) fn drive(order: &Order) -> Result<Driven, Failure> {
    let mut config = config(order);
    config.interface.addresses = vec![Prefix::new(CLIENT, 24).expect("a prefix")];
    config.interface.prefixes = vec![SOURCES.parse().expect("a prefix")];
    let engine = start(config)?;
    ask(&engine, Request::LoadStart { plan: plan(&order.task) })?;
    let report = loop {
        thread::sleep(LOOK);
        if let Response::Load(progress) = ask(&engine, Request::LoadStatus)?
            && let Some(report) = progress.report
        {
            break report;
        }
    };
    end(engine)?;
    driven(&order.task, &report)
}

fn config(order: &Order) -> Config {
    let mut config = Config::default();
    config.interface.dev = order.side.interface().to_owned();
    config.interface.queues = Some(1);
    config.interface.cpus = vec![order.side.cpu() as u32];
    config.interface.frame_bytes = order.task.frame_bytes();
    // The kernel's ends have TCP_NODELAY.
    config.tcp.nagle = false;
    if order.contestant == Contestant::BusyEngine {
        config.interface.poll = Poll::Busy;
    }
    config.control.path = order.control.clone();
    config
}

fn plan(task: &Task) -> LoadPlan {
    let (mode, close) = match task.shape {
        Shape::RequestResponse | Shape::Bulk => (LoadMode::RequestResponse, CloseWith::Rst),
        Shape::ConnectionsPerSecond => (LoadMode::ConnectionsPerSecond, CloseWith::Fin),
        Shape::Open => (LoadMode::Hold, CloseWith::Rst),
    };
    LoadPlan {
        mode,
        close,
        src: vec![SOURCES.parse().expect("a prefix")],
        dst: vec![SERVER],
        connections: Count(task.connections.into()),
        outstanding_max: task.in_flight,
        duration: Span(task.duration()),
        protocol: match task.shape {
            Shape::Bulk => LoadProtocol::Http { path: format!("/bytes/{}", task.bytes) },
            _ => LoadProtocol::Echo,
        },
        request_bytes: task.bytes,
        ..LoadPlan::default()
    }
}

fn driven(task: &Task, report: &LoadReport) -> Result<Driven, Failure> {
    let phase = match task.shape {
        Shape::Open => LoadPhase::Ramp,
        _ => LoadPhase::Run,
    };
    let measured = report.phase(phase).copied();
    if !report.adds_up() {
        return Err(Failure::Machine("the load report does not add up".to_owned()));
    }
    Ok(Driven {
        count: measured.map_or(0, |phase| phase.count),
        duration_ns: measured.map_or(0, |phase| phase.duration_ns),
        opened: report.opened,
        failed: report.failed,
        failures: report
            .failures
            .keys()
            .map(|reason| reason.to_string())
            .collect::<Vec<_>>()
            .join(", "),
        bytes_sent: report.bytes_sent,
        connect: report.connect,
        request: report.request,
    })
}

fn start(config: Config) -> Result<Engine, Failure> {
    Engine::start(config).map_err(|error| Failure::Machine(format!("the engine: {error}")))
}

fn end(engine: Engine) -> Result<(), Failure> {
    engine.stop();
    let ending = engine.join();
    if ending.is_sound() { Ok(()) } else { Err(Failure::Machine(format!("the engine {ending}"))) }
}

fn ask(engine: &Engine, request: Request) -> Result<Response, Failure> {
    match engine.control().ask(request) {
        Response::Error { message, .. } => Err(Failure::Machine(format!("the engine: {message}"))),
        response => Ok(response),
    }
}

/// The statistics page; it stays when the engine has ended, and is complete then.
fn page(engine: &Engine) -> Result<File, Failure> {
    let Response::Hello { page_fd, .. } =
        ask(engine, Request::Hello { protocol: PROTOCOL_VERSION })?
    else {
        return Err(Failure::Machine("the engine does not say where its page is".to_owned()));
    };
    let path = format!("/proc/{}/fd/{page_fd}", process::id());
    File::open(path).map_err(|error| Failure::Os("open the statistics page", error))
}

fn count(mut page: File) -> Result<Served, Failure> {
    let mut bytes = Vec::new();
    page.read_to_end(&mut bytes).map_err(|e| Failure::Os("read the statistics page", e))?;
    let page = Page::parse(&bytes).map_err(|error| Failure::Machine(error.to_string()))?;
    let counted = |counter: Counter| page.counter(counter.name()).map_or(0, |c| c.total());
    Ok(Served {
        accepted: counted(Counter::ConnsPassive),
        bytes_received: counted(Counter::TcpBytesIn),
        failed: 0,
    })
}
