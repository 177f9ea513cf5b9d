//! The control thread: it owns everything of a running engine but what the workers own, serves the
//! control socket, and ends the engine. A round of its loop waits for bytes, a call or the time of
//! the next look, then does a bounded amount of everything that is due.

use super::arrivals::ArrivalWatch;
use super::client::{Client, Line};
use super::hand::Wait;
use super::load::Test;
use super::neighbors::Neighbors;
use super::request::Reply;
use super::socket::Stranger;
use super::{Calls, ControlSocket, stopping};
use crate::engine::{AppMaker, Crew, Ending, Site, Statistics, Steering};
use crate::sys::poll::{Interest, poll};
use barewire_api::config::{AppSpec, Ownership};
use barewire_api::control::{
    ErrorCode, PROTOCOL_VERSION, REQUEST_BYTES_MAX, Request, Response, from_line, to_line,
};
use barewire_api::impair::Impairments;
use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Clients at the same time. Each costs at most a request and an answer of memory.
const CLIENTS_MAX: usize = 16;

/// Connections taken from the listener in one round.
const ACCEPTS_MAX: usize = 64;

/// Refused clients that are held for a moment: one that is hung up on while it still sends may not
/// read why.
const REFUSED_MAX: usize = 16;

/// Calls of this process taken in one round, and answers that may be outstanding.
const CALLS_MAX: usize = 16;
const WAITS_MAX: usize = 64;

/// How often the daemon's block of the statistics page is written and the workers are looked after.
const LOOK: Duration = Duration::from_millis(200);

/// How long to sleep at most while somebody waits for a connection, or the load test moves.
const LOOK_WAITING: Duration = Duration::from_millis(2);
const LOOK_LOAD: Duration = Duration::from_millis(20);

/// Shared ownership: how long a worker's question about a next hop may lie there.
const LOOK_NEIGHBORS: Duration = Duration::from_millis(5);

/// How long clients may take to read the answer to their last request.
const FAREWELL_MAX: Duration = Duration::from_millis(500);

/// Who gets an answer.
#[derive(Debug)]
pub(super) enum Asker {
    /// The client of this number.
    Client(u64),
    /// A caller in this process.
    Caller(SyncSender<Response>),
}

/// What makes up a running engine.
#[derive(Debug)]
pub(crate) struct Belongings {
    pub(crate) site: Site,
    /// The applications of the workers, in the order of their numbers.
    pub(crate) apps: Vec<AppSpec>,
    pub(crate) maker: AppMaker,
    pub(crate) crew: Crew,
    pub(crate) steering: Steering,
    pub(crate) statistics: Statistics,
    pub(crate) socket: ControlSocket,
    pub(crate) calls: Calls,
}

/// The control thread.
#[derive(Debug)]
pub(crate) struct Server {
    pub(super) own: Belongings,
    pub(super) started: Instant,
    pub(super) is_draining: bool,
    pub(super) is_stopping: bool,
    pub(super) test: Option<Test>,
    pub(super) impairments: Impairments,
    pub(super) arrivals: ArrivalWatch,
    clients: Vec<(u64, Client)>,
    next_client: u64,
    refused: VecDeque<(Instant, UnixStream)>,
    waits: Vec<(Asker, Wait)>,
    neighbors: Neighbors,
    looked_at: Instant,
    broken: Option<String>,
}

impl Server {
    pub(crate) fn new(own: Belongings) -> Self {
        let now = Instant::now();
        Server {
            neighbors: Neighbors::new(&own.site.interface),
            arrivals: ArrivalWatch::new(own.crew.len(), now),
            own,
            started: now,
            is_draining: false,
            is_stopping: false,
            test: None,
            impairments: Impairments::default(),
            clients: Vec::new(),
            next_client: 0,
            refused: VecDeque::new(),
            waits: Vec::new(),
            looked_at: now,
            broken: None,
        }
    }

    /// Serves until the engine is told to end, then ends it.
    pub(crate) fn run(mut self) -> Ending {
        self.start_configured_impairment();
        self.start_configured_load();
        while !self.is_stopping {
            self.wait();
            self.round(Instant::now());
        }
        self.end()
    }

    fn round(&mut self, now: Instant) {
        self.accept(now);
        self.take_calls(now);
        self.poll_waits(now);
        self.poll_load(now);
        if self.own.site.config.interface.ownership == Ownership::Shared {
            self.neighbors.round(&self.own.crew, now);
        }
        self.serve_clients(now);
        if now.duration_since(self.looked_at) >= LOOK {
            self.looked_at = now;
            self.refused.retain(|(since, _)| now.duration_since(*since) < LOOK);
            self.look();
            self.watch_arrivals(now);
        }
        self.is_stopping |= self.own.calls.signals.stop.load(Ordering::Acquire);
    }

    /// Sleeps until something happens or is due, and notes at which clients it happened.
    fn wait(&mut self) {
        let mut interests = vec![
            Interest::new(self.own.calls.signals.bell.as_fd()).read(true),
            Interest::new(self.own.socket.as_fd()).read(true),
        ];
        interests.extend(self.clients.iter().map(|(_, client)| client.interest()));
        if let Err(error) = poll(&mut interests, self.patience()) {
            // Out of memory, at worst: the next round comes after a pause instead of at once.
            warn!("waiting for the control socket: {error}");
            std::thread::sleep(LOOK);
        }
        let ready: Vec<bool> = interests.iter().map(Interest::is_ready).collect();
        if ready[0] {
            self.own.calls.signals.bell.clear();
        }
        let now = Instant::now();
        for ((_, client), _) in
            self.clients.iter_mut().zip(&ready[2..]).filter(|(_, is_ready)| **is_ready)
        {
            client.on_ready(now);
        }
    }

    fn patience(&self) -> Duration {
        if self.clients.iter().any(|(_, client)| client.has_line()) {
            return Duration::ZERO;
        }
        if !self.waits.is_empty() {
            return LOOK_WAITING;
        }
        if self.own.site.config.interface.ownership == Ownership::Shared {
            return LOOK_NEIGHBORS;
        }
        if self.test.as_ref().is_some_and(Test::is_running) { LOOK_LOAD } else { LOOK }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_MAX {
            match self.own.socket.accept() {
                None => return,
                Some(Err(Stranger { stream, uid })) => {
                    warn!("refused a control client of user {uid}");
                    let why = "only the user that runs the engine, or root, may control it";
                    self.refuse(stream, why.to_owned(), now);
                }
                Some(Ok(stream)) if self.clients.len() >= CLIENTS_MAX => {
                    let why = format!(
                        "expected at most {CLIENTS_MAX} clients at a time, and they are there: \
                         close one, or come back later"
                    );
                    self.refuse(stream, why, now);
                }
                Some(Ok(stream)) => match Client::new(stream, now) {
                    Ok(client) => {
                        self.clients.push((self.next_client, client));
                        self.next_client += 1;
                    }
                    Err(error) => warn!("lost a control client: {error}"),
                },
            }
        }
    }

    /// Says why, in one short line into an empty socket buffer, which takes it at once.
    fn refuse(&mut self, mut stream: UnixStream, message: String, now: Instant) {
        let line = to_line(&Response::Error { code: ErrorCode::Busy, message });
        if stream.write_all(line.as_bytes()).is_ok() {
            self.refused.push_back((now, stream));
        }
        if self.refused.len() > REFUSED_MAX {
            self.refused.pop_front();
        }
    }

    fn take_calls(&mut self, now: Instant) {
        for _ in 0..CALLS_MAX {
            let Ok(call) = self.own.calls.queue.try_recv() else { return };
            self.serve(Asker::Caller(call.answer), call.request, now);
        }
    }

    /// Takes one request of each client, and lets those go that are done.
    fn serve_clients(&mut self, now: Instant) {
        for idx in 0..self.clients.len() {
            let (number, client) = &mut self.clients[idx];
            let number = *number;
            match client.next_line(now) {
                Line::None => {}
                Line::TooLong => client.dismiss(&too_long(), now),
                Line::Whole(line) => match from_line::<Request>(&line) {
                    Ok(Request::Hello { protocol }) if protocol != PROTOCOL_VERSION => {
                        client.dismiss(&bad_version(protocol), now);
                    }
                    Ok(request) => self.serve(Asker::Client(number), request, now),
                    Err(error) => client.answer(&bad_request(&error.to_string()), now),
                },
            }
        }
        self.clients.retain(|(_, client)| !client.is_over(now));
        self.abandon_waits();
    }

    /// Gives up what is awaited by clients that have left.
    fn abandon_waits(&mut self) {
        let Server { waits, clients, own, .. } = self;
        waits.retain(|(asker, wait)| {
            let is_there = match asker {
                Asker::Client(number) => clients.iter().any(|(other, _)| other == number),
                Asker::Caller(_) => true,
            };
            if !is_there {
                wait.abandon(&own.crew);
            }
            is_there
        });
    }

    fn serve(&mut self, asker: Asker, request: Request, now: Instant) {
        match self.reply(request, now) {
            Reply::Now(response) => self.answer(asker, response, now),
            Reply::Later(_) if self.waits.len() >= WAITS_MAX => {
                let message = format!("{WAITS_MAX} requests wait for their outcome: try again");
                self.answer(asker, Response::Error { code: ErrorCode::Busy, message }, now);
            }
            Reply::Later(wait) => self.waits.push((asker, wait)),
        }
    }

    fn poll_waits(&mut self, now: Instant) {
        for idx in (0..self.waits.len()).rev() {
            if let Some(response) = self.waits[idx].1.poll(&self.own.crew, now) {
                let (asker, _) = self.waits.swap_remove(idx);
                self.answer(asker, response, now);
            }
        }
    }

    fn answer(&mut self, asker: Asker, response: Response, now: Instant) {
        match asker {
            Asker::Client(number) => {
                let client = self.clients.iter_mut().find(|(other, _)| *other == number);
                if let Some((_, client)) = client {
                    client.answer(&response, now);
                }
            }
            // The caller may have died with its thread.
            Asker::Caller(answer) => drop(answer.send(response)),
        }
    }

    /// Publishes the verdicts, and ends the engine when a worker is gone.
    fn look(&mut self) {
        match self.own.steering.verdicts() {
            Ok(verdicts) => self.own.statistics.store_verdicts(&verdicts),
            Err(error) => warn!("{error}"),
        }
        if let Some(worker) = self.own.crew.lost() {
            self.give_up(format!("worker {worker} ended by itself"));
        }
    }

    /// Ends the engine because it cannot do what it is there for.
    pub(super) fn give_up(&mut self, why: String) {
        self.broken = Some(why);
        self.is_stopping = true;
    }

    fn end(mut self) -> Ending {
        info!("ending: connections are reset, the interface goes back to the kernel");
        for (asker, _) in std::mem::take(&mut self.waits) {
            self.answer(asker, stopping(), Instant::now());
        }
        self.take_leave();
        self.look();
        let mut ending = self.own.crew.end(&self.own.statistics);
        if let Err(error) = self.own.steering.close() {
            ending.add_failure(error.to_string());
        }
        self.own.site.arrivals.write_back(&self.own.site.interface.name);
        if let Some(why) = self.broken {
            ending.add_failure(why);
        }
        ending
    }

    /// Clients read the answers that they have coming.
    fn take_leave(&mut self) {
        let deadline = Instant::now() + FAREWELL_MAX;
        while Instant::now() < deadline
            && self.clients.iter().any(|(_, client)| client.has_output())
        {
            self.clients.retain(|(_, client)| client.has_output());
            let mut interests: Vec<_> =
                self.clients.iter().map(|(_, client)| client.interest()).collect();
            if poll(&mut interests, LOOK_LOAD).is_err() {
                return;
            }
            self.clients.iter_mut().for_each(|(_, client)| client.on_ready(Instant::now()));
        }
    }
}

fn too_long() -> Response {
    let message =
        format!("expected a line of at most {REQUEST_BYTES_MAX} bytes, found a longer one");
    Response::Error { code: ErrorCode::TooLong, message }
}

fn bad_version(found: u32) -> Response {
    let message = format!(
        "this daemon speaks control protocol {PROTOCOL_VERSION}, found {found}: use the barewire \
         command of the daemon's version, {}",
        env!("CARGO_PKG_VERSION")
    );
    Response::Error { code: ErrorCode::BadVersion, message }
}

fn bad_request(message: &str) -> Response {
    Response::Error { code: ErrorCode::BadRequest, message: message.to_owned() }
}
