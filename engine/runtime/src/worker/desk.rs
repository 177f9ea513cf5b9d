//! What a job from the control thread finds on the worker's desk: the stack, the applications, the
//! impaired paths and the time, between two turns.

use super::impaired::Paths;
use crate::app::App;
use crate::app::hand::Hand;
use crate::load::{Load, Progress, Stateless};
use barewire_api::report::{LoadPart, LoadPhase};
use barewire_stack::device::Ledger;
use barewire_stack::stack::Stack;
use barewire_stack::stats::Counters;
use barewire_stack::time::Instant;

/// Whether a worker goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It does.
    No,
    /// It resets its connections and ends.
    Now,
}

/// Everything a job may touch.
#[derive(Debug)]
pub struct Desk<'a> {
    /// The time of the turn.
    pub now: Instant,
    /// The worker's stack.
    pub stack: &'a mut Stack,
    /// The worker's applications.
    pub apps: &'a mut Apps,
    /// Where the worker's frames are.
    pub ledger: Ledger,
    /// What happens to its frames on their way.
    pub paths: &'a mut Paths,
    /// Set to make the worker end.
    pub stop: &'a mut Stop,
}

/// The applications of a worker, by number.
#[derive(Debug)]
pub struct Apps {
    /// Connections opened by hand.
    pub hand: Hand,
    /// The load generator, while a test runs.
    pub load: Option<Box<Load>>,
    /// The load generator of a test with stateless clients, while it runs. It is no application: it
    /// takes frames, and has no connections in the stack.
    pub stateless: Option<Box<Stateless>>,
    listening: Vec<Option<Box<dyn App>>>,
}

impl Apps {
    /// Number of [`Apps::hand`].
    pub const HAND: u8 = 0;
    /// Number of [`Apps::load`].
    pub const LOAD: u8 = 1;
    /// Number of the first application that listens.
    pub const FIRST_LISTENING: u8 = 2;

    /// No application but the hand.
    pub fn new() -> Self {
        Apps { hand: Hand::default(), load: None, stateless: None, listening: Vec::new() }
    }

    /// Puts an application at `number`, which is [`Apps::FIRST_LISTENING`] or more.
    pub fn set_listening(&mut self, number: u8, app: Box<dyn App>) {
        let idx = usize::from(number - Apps::FIRST_LISTENING);
        if self.listening.len() <= idx {
            self.listening.resize_with(idx + 1, || None);
        }
        self.listening[idx] = Some(app);
    }

    /// How the load test stands here.
    pub fn load_progress(&self) -> Option<Progress> {
        let load = self.load.as_ref().map(|load| load.progress());
        load.or_else(|| Some(self.stateless.as_ref()?.progress()))
    }

    /// What the load test counted and timed here.
    pub fn load_part(&self) -> Option<LoadPart> {
        let load = self.load.as_ref().map(|load| load.part());
        load.or_else(|| Some(self.stateless.as_ref()?.part()))
    }

    /// The load test enters a phase here.
    pub fn enter_load(&mut self, phase: LoadPhase) {
        if let Some(load) = &mut self.load {
            load.enter(phase);
        }
        if let Some(stateless) = &mut self.stateless {
            stateless.enter(phase);
        }
    }

    /// Lets the load test go; what it left open ends with it, in the counters too.
    pub fn end_load(&mut self, stats: &mut Counters) {
        self.load = None;
        if let Some(mut stateless) = self.stateless.take() {
            stateless.abandon(stats);
        }
    }

    /// The application of a number.
    pub fn get_mut(&mut self, number: u8) -> Option<&mut dyn App> {
        match number {
            Apps::HAND => Some(&mut self.hand),
            Apps::LOAD => self.load.as_deref_mut().map(|load| load as &mut dyn App),
            _ => {
                let idx = usize::from(number - Apps::FIRST_LISTENING);
                self.listening.get_mut(idx)?.as_deref_mut().map(|app| app as &mut dyn App)
            }
        }
    }

    /// All applications with their numbers.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u8, &mut dyn App)> {
        let load = self.load.as_deref_mut().map(|load| (Apps::LOAD, load as &mut dyn App));
        let listening = (Apps::FIRST_LISTENING..).zip(self.listening.iter_mut());
        let listening = listening
            .filter_map(|(number, app)| Some((number, app.as_deref_mut()? as &mut dyn App)));
        [(Apps::HAND, &mut self.hand as &mut dyn App)].into_iter().chain(load).chain(listening)
    }
}

impl Default for Apps {
    fn default() -> Self {
        Apps::new()
    }
}
