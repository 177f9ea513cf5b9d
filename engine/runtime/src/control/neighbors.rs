//! Next hops for addresses that are shared with the kernel: the workers' stacks ask, the kernel's
//! routing and neighbour tables answer. ARP itself stays with the kernel; nothing is kept here but
//! the questions that have no answer yet.

use crate::engine::Crew;
use crate::sys::interface::Interface;
use crate::sys::{neighbour, route};
use barewire_stack::wire::ethernet::Mac;
use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tracing::warn;

/// Questions taken from one worker in one round.
const QUESTIONS_MAX: usize = 16;

/// Open questions that the kernel is asked about in one round.
const LOOKS_MAX: usize = 64;

/// Questions without an answer, over all workers. What comes on top is dropped; the stack asks again
/// after a second.
const OPEN_MAX: usize = 1_024;

/// How long a question stays open: the stack repeats it after a second.
const OPEN_TIME_MAX: Duration = Duration::from_secs(1);

/// A question that the kernel is working on.
#[derive(Clone, Copy, Debug)]
struct Question {
    worker: usize,
    target: Ipv4Addr,
    /// The router on the way to the target, or the target itself.
    hop: Ipv4Addr,
    expires: Instant,
}

/// The open questions.
#[derive(Debug)]
pub(super) struct Neighbors {
    ifname: String,
    ifindex: u32,
    /// Oldest first, so that all are looked at in turn.
    open: VecDeque<Question>,
}

impl Neighbors {
    pub(super) fn new(interface: &Interface) -> Self {
        Neighbors {
            ifname: interface.name.clone(),
            ifindex: interface.ifindex,
            open: VecDeque::new(),
        }
    }

    /// Takes new questions, and answers those that the kernel knows the answer of by now.
    pub(super) fn round(&mut self, crew: &Crew, now: Instant) {
        for worker in 0..crew.len() {
            // A worker that does not answer is the concern of whoever looks after the workers.
            let asked = crew.ask(worker, |desk| {
                std::iter::from_fn(|| desk.stack.poll_neighbor())
                    .take(QUESTIONS_MAX)
                    .collect::<Vec<Ipv4Addr>>()
            });
            for target in asked.unwrap_or_default() {
                self.ask(worker, target, now);
            }
        }
        for _ in 0..self.open.len().min(LOOKS_MAX) {
            let Some(question) = self.open.pop_front() else { return };
            if now < question.expires && !self.try_answer(crew, &question) {
                self.open.push_back(question);
            }
        }
    }

    /// Opens a question; the kernel is made to resolve what it does not know.
    fn ask(&mut self, worker: usize, target: Ipv4Addr, now: Instant) {
        if self.open.len() >= OPEN_MAX {
            return;
        }
        let known = self.hop(target).and_then(|hop| {
            let Some(hop) = hop else { return Ok(None) };
            if neighbour::lookup(self.ifindex, hop)?.is_none() {
                neighbour::resolve(&self.ifname, hop)?;
            }
            Ok(Some(hop))
        });
        match known {
            Ok(Some(hop)) => {
                let expires = now + OPEN_TIME_MAX;
                self.open.push_back(Question { worker, target, hop, expires });
            }
            // No route by this interface: the stack finds out by getting no answer.
            Ok(None) => {}
            Err(error) => warn!("next hop of {target}: {error}"),
        }
    }

    /// The next hop of `target`, if the kernel has a route to it by our interface.
    fn hop(&self, target: Ipv4Addr) -> io::Result<Option<Ipv4Addr>> {
        let route = route::lookup(target)?.filter(|r| r.ifindex == self.ifindex && !r.local);
        Ok(route.map(|route| route.gateway.unwrap_or(target)))
    }

    /// True when the question is answered, or cannot be.
    fn try_answer(&self, crew: &Crew, question: &Question) -> bool {
        let &Question { worker, target, hop, .. } = question;
        match neighbour::lookup(self.ifindex, hop) {
            Ok(None) => false,
            Ok(Some(mac)) => {
                let told = crew
                    .ask(worker, move |desk| desk.stack.on_neighbor(desk.now, target, Mac(mac)));
                told.is_ok()
            }
            Err(error) => {
                warn!("neighbour {hop}: {error}");
                true
            }
        }
    }
}
