//! How a running engine is talked to: one thread that takes requests from the control socket and
//! from this process, asks the workers by jobs in their mailboxes, and answers. It never holds a
//! worker up, and no client can hold it up.
//!
//! * `socket`: the file, and who may connect; `client`: one connection's bytes
//! * `server`: the thread, and everything that it owns
//! * `request`: what each request does; `status`, `conns`, `hand`, `load`, `impair`: the longer answers
//! * `arrivals`: whether frames arrive where the driver's answers foretell
//! * `neighbors`: next hops asked of the kernel, for addresses that are shared with it

mod arrivals;
mod client;
mod conns;
mod hand;
mod impair;
mod load;
mod neighbors;
mod request;
mod server;
mod socket;
mod status;

pub(crate) use server::{Belongings, Server};
pub(crate) use socket::ControlSocket;
pub use socket::SocketError;

use crate::sys::eventfd::EventFd;
use barewire_api::control::{ErrorCode, Request, Response};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Requests of this process that may wait to be looked at.
const CALLS_MAX: usize = 16;

/// Talks to an engine from the process that it runs in. Clones talk to the same engine.
#[derive(Clone, Debug)]
pub struct Control {
    calls: SyncSender<Call>,
    signals: Arc<Signals>,
}

/// What wakes the control thread.
#[derive(Debug)]
pub(crate) struct Signals {
    bell: EventFd,
    stop: AtomicBool,
}

/// A request of this process, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Call {
    request: Request,
    answer: SyncSender<Response>,
}

/// The control thread's end.
#[derive(Debug)]
pub(crate) struct Calls {
    queue: Receiver<Call>,
    signals: Arc<Signals>,
}

impl Control {
    pub(crate) fn new() -> io::Result<(Control, Calls)> {
        let signals = Arc::new(Signals { bell: EventFd::new()?, stop: AtomicBool::new(false) });
        let (calls, queue) = sync_channel(CALLS_MAX);
        Ok((Control { calls, signals: Arc::clone(&signals) }, Calls { queue, signals }))
    }

    /// The answer to a request, as a client of the control socket would get it.
    pub fn ask(&self, request: Request) -> Response {
        let (answer, answered) = sync_channel(1);
        if self.calls.send(Call { request, answer }).is_err() {
            return stopping();
        }
        self.signals.bell.ring();
        // An engine that ends drops the request with its sender.
        answered.recv().unwrap_or_else(|_| stopping())
    }

    /// Tells the engine to end, and does not wait.
    pub fn stop(&self) {
        self.signals.stop.store(true, Ordering::Release);
        self.signals.bell.ring();
    }
}

/// The answer of an engine on its way out.
fn stopping() -> Response {
    let message = "the engine is ending: start it again".to_owned();
    Response::Error { code: ErrorCode::Stopping, message }
}
