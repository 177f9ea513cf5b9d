//! What each request does. Everything here answers at once, or says what is to be waited for; a
//! worker is asked by short jobs only.

use super::hand::{self, Wait};
use super::server::Server;
use super::{conns, status};
use crate::engine::{app_number, endpoint};
use crate::worker::{Apps, MailboxError};
use barewire_api::ConfigError;
use barewire_api::config::{Listen, ListenAddr};
use barewire_api::control::{ErrorCode, PROTOCOL_VERSION, Request, Response};
use barewire_api::unit::Span;
use std::fmt;
use std::time::{Duration, Instant};
use tracing::info;

/// Different applications that listeners may be given while an engine runs: their number is part of
/// every connection, so that it is not used again.
const APPS_MAX: usize = 250;

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Reply {
    /// It is answered.
    Now(Response),
    /// Its answer is on its way.
    Later(Wait),
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Reply::Now(response)
    }
}

/// Why a request is not done.
#[derive(Debug)]
pub(super) struct Refusal {
    code: ErrorCode,
    message: String,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Refusal::new(ErrorCode::NotFound, message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        Response::Error { code: refusal.code, message: refusal.message }
    }
}

impl From<MailboxError> for Refusal {
    fn from(error: MailboxError) -> Self {
        Refusal::new(ErrorCode::TimedOut, error.to_string())
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Refusal::new(ErrorCode::Refused, error.to_string())
    }
}

impl From<barewire_ebpf::Error> for Refusal {
    fn from(error: barewire_ebpf::Error) -> Self {
        Refusal::new(ErrorCode::Refused, error.to_string())
    }
}

impl Server {
    /// Does what is asked.
    pub(super) fn reply(&mut self, request: Request, now: Instant) -> Reply {
        self.try_reply(request, now).unwrap_or_else(|refusal| Reply::Now(refusal.into()))
    }

    fn try_reply(&mut self, request: Request, now: Instant) -> Result<Reply, Refusal> {
        let done = |()| Reply::Now(Response::Done);
        match request {
            Request::Hello { .. } => Ok(self.hello().into()),
            Request::Status => {
                let status = status::of(self, now)?;
                Ok(Response::Status(Box::new(status)).into())
            }
            Request::Config => Ok(Response::Config(Box::new(self.own.site.config.clone())).into()),
            Request::Conns { cursor, limit, filter } => {
                let page = conns::page(&self.own.crew, &self.own.apps, cursor, limit, filter)?;
                Ok(Response::Conns(page).into())
            }
            Request::Connect { remote, local, src_port, timeout } => {
                hand::connect(self, remote, local, src_port, deadline(now, timeout))
            }
            Request::Send { id, payload } => {
                hand::send(&self.own.crew, id, &payload).map(Reply::Now)
            }
            Request::Recv { id, bytes_min, timeout } => {
                hand::recv(id, bytes_min, deadline(now, timeout))
            }
            Request::Close { id } => hand::close(&self.own.crew, id).map(done),
            Request::Abort { id } => hand::abort(&self.own.crew, id).map(done),
            Request::ListenAdd { listen } => self.add_listener(listen).map(done),
            Request::ListenRemove { port } => self.remove_listener(port).map(done),
            Request::LoadStart { plan } => self.start_load(plan).map(done),
            Request::LoadStatus => Ok(Response::Load(Box::new(self.load_progress())).into()),
            Request::LoadStop => self.stop_load().map(done),
            Request::ImpairSet { direction, impairment, seed } => {
                let impairments = self.impair(direction, impairment, seed)?;
                Ok(Response::Impairments(impairments).into())
            }
            Request::ImpairOff { direction } => {
                Ok(Response::Impairments(self.end_impairment(direction)?).into())
            }
            Request::Drain => self.drain().map(done),
            Request::Stop => {
                self.is_stopping = true;
                Ok(Response::Done.into())
            }
        }
    }

    fn hello(&self) -> Response {
        Response::Hello {
            protocol: PROTOCOL_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            page_fd: self.own.statistics.fd_number(),
        }
    }

    fn add_listener(&mut self, listen: Listen) -> Result<(), Refusal> {
        if self.is_draining {
            let message = "the engine accepts no more connections, as it was told to";
            return Err(Refusal::new(ErrorCode::Refused, message));
        }
        self.own.site.check_listener(&listen)?;
        let number = match app_number(&self.own.apps, &listen.app) {
            Some(number) => number,
            None => self.add_app(&listen)?,
        };
        self.own.steering.add_listener(listen.at)?;
        let local = endpoint(listen.at);
        self.own.crew.ask_all(move |desk| desk.stack.listen(local, number))?;
        info!("listening on {listen}");
        self.own.site.config.listen.push(listen);
        Ok(())
    }

    /// Gives every worker an instance of the application.
    fn add_app(&mut self, listen: &Listen) -> Result<u8, Refusal> {
        if self.own.apps.len() >= APPS_MAX {
            let message = format!("{APPS_MAX} different applications have listened: start anew");
            return Err(Refusal::new(ErrorCode::Refused, message));
        }
        self.own.apps.push(listen.app.clone());
        let number = app_number(&self.own.apps, &listen.app).expect("it was just added");
        let (spec, maker) = (listen.app.clone(), self.own.maker.clone());
        self.own.crew.ask_all(move |desk| desk.apps.set_listening(number, maker.make(&spec)))?;
        Ok(number)
    }

    fn remove_listener(&mut self, at: ListenAddr) -> Result<(), Refusal> {
        let listeners = &mut self.own.site.config.listen;
        let Some(idx) = listeners.iter().position(|listen| listen.at == at) else {
            let there: Vec<String> = listeners.iter().map(|listen| listen.at.to_string()).collect();
            let message = format!("no listener at {at}; there are: {}", there.join(", "));
            return Err(Refusal::not_found(message));
        };
        let listen = listeners.remove(idx);
        let local = endpoint(at);
        self.own.crew.ask_all(move |desk| desk.stack.unlisten(local))?;
        info!("no longer listening on {listen}");
        Ok(())
    }

    fn drain(&mut self) -> Result<(), Refusal> {
        self.is_draining = true;
        while let Some(at) = self.own.site.config.listen.last().map(|listen| listen.at) {
            self.remove_listener(at)?;
        }
        Ok(())
    }
}

/// When a client has waited long enough. A day is, whatever it says.
fn deadline(now: Instant, timeout: Span) -> Instant {
    const WAIT_MAX: Duration = Duration::from_secs(86_400);
    now + timeout.0.min(WAIT_MAX)
}

/// The name of an application of a connection.
pub(super) fn app_name(apps: &[String], number: u8) -> String {
    match number {
        Apps::HAND => "hand".to_owned(),
        Apps::LOAD => "load".to_owned(),
        _ => {
            let idx = usize::from(number - Apps::FIRST_LISTENING);
            apps.get(idx).cloned().unwrap_or_else(|| format!("number {number}"))
        }
    }
}
