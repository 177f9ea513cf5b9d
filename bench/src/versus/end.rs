//! One end of a pair, as a process of its own in a namespace: pinned to its core, told by one argument
//! what to do, and ended with the process that started it. What the contestants do is in the files
//! beside; this is how they start, say that they are ready, and tell what they counted.

use super::lab::Side;
use super::task::{Driven, Served, Task};
use super::{engine, epoll_client, epoll_server, raw, uring_server};
use crate::rig::Failure;
use barewire_engine::sys::affinity::pin_current_thread;
use clap::Args;
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Who plays an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contestant {
    /// barewire.
    Engine,
    /// barewire with workers that never sleep.
    BusyEngine,
    /// The kernel's TCP, by epoll.
    Epoll,
    /// The kernel's TCP, by io_uring. Servers only.
    IoUring,
    /// Frames without TCP.
    Raw,
}

/// What an end is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) side: Side,
    pub(crate) contestant: Contestant,
    pub(crate) task: Task,
    /// A path for the control socket of an engine.
    pub(crate) control: PathBuf,
}

/// What an end says, one to a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Word {
    /// The server can be connected to.
    Ready,
    Served(Served),
    Driven(Box<Driven>),
    Failed(String),
}

/// `versus-end`: not for people.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The order, as JSON
    order: String,
}

/// A server runs until this is set: when its standard input ends.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    fn at_end_of_input() -> Self {
        let stop = Stop(Arc::new(AtomicBool::new(false)));
        let setter = stop.clone();
        thread::spawn(move || {
            let _ = io::stdin().read_to_end(&mut Vec::new());
            setter.0.store(true, Ordering::Relaxed);
        });
        stop
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Plays an end.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let word = match play(&options.order) {
        Ok(word) => word,
        Err(failure) => Word::Failed(failure.to_string()),
    };
    say(&word)
}

fn play(order: &str) -> Result<Word, Failure> {
    set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| Failure::Os("ask to end with the parent", errno.into()))?;
    let order: Order = serde_json::from_str(order)
        .map_err(|error| Failure::Machine(format!("the order of an end: {error}")))?;
    // For top and perf.
    let name = format!("{:?}-{:?}", order.contestant, order.side).to_lowercase();
    set_name(&CString::new(name).expect("words"))
        .map_err(|errno| Failure::Os("name a process", errno.into()))?;
    pin_current_thread(order.side.cpu()).map_err(|error| Failure::Machine(error.to_string()))?;
    match order.side {
        Side::Server => {
            let stop = Stop::at_end_of_input();
            let served = match order.contestant {
                Contestant::Engine | Contestant::BusyEngine => engine::serve(&order, &stop),
                Contestant::Epoll => epoll_server::serve(&order.task, &stop),
                Contestant::IoUring => uring_server::serve(&order.task, &stop),
                Contestant::Raw => raw::reflect(&order.task, &stop),
            };
            served.map(Word::Served)
        }
        Side::Client => {
            let driven = match order.contestant {
                Contestant::Engine | Contestant::BusyEngine => engine::drive(&order),
                Contestant::Epoll => epoll_client::drive(&order.task),
                Contestant::Raw => raw::drive(&order.task),
                Contestant::IoUring => {
                    Err(Failure::Machine("no client uses io_uring: choose epoll".to_owned()))
                }
            };
            driven.map(|driven| Word::Driven(Box::new(driven)))
        }
    }
}

/// Tells the parent that the server can be connected to.
pub(crate) fn say_ready() -> Result<(), Failure> {
    say(&Word::Ready)
}

fn say(word: &Word) -> Result<(), Failure> {
    let mut line = serde_json::to_string(word).expect("a word has a JSON form");
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Os("tell the parent", error))
}
