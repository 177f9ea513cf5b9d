//! A load test from the side of the control thread: started by a client or by the configuration,
//! shown to its conductor now and then, and made into a report that stays to be read. What is sent
//! and counted is the business of the workers' `Load`.

use super::impair::drawn_seed;
use super::request::Refusal;
use super::server::Server;
use super::status::{Moment, frames};
use crate::engine::Budget;
use crate::load::{Conductor, Load, Share, Stateless};
use crate::sys::clock;
use crate::sys::memory::resident_bytes;
use crate::worker::{Desk, MailboxError};
use barewire_api::config::LoadPlan;
use barewire_api::control::{ErrorCode, Frames, LoadProgress};
use barewire_api::report::LoadReport;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long an engine lives on after the load test of its configuration, so that a client can read
/// the report.
const REPORT_TIME: Duration = Duration::from_secs(5);

/// The load test that runs, or was the last to run.
#[derive(Debug)]
pub(super) struct Test {
    conductor: Conductor,
    report: Option<LoadReport>,
    shown_at: Instant,
}

impl Test {
    pub(super) fn is_running(&self) -> bool {
        self.report.is_none()
    }
}

impl Server {
    /// Starts the test that the configuration names; the engine ends with it.
    pub(super) fn start_configured_load(&mut self) {
        let Some(plan) = self.own.site.config.load.clone() else { return };
        if let Err(refusal) = self.start_load(plan) {
            self.give_up(format!("the load test did not start: {refusal}"));
        }
    }

    /// Gives each worker its part of the plan.
    pub(super) fn start_load(&mut self, plan: LoadPlan) -> Result<(), Refusal> {
        if self.test.as_ref().is_some_and(Test::is_running) {
            let message = "a load test runs already: wait for its end, or stop it first";
            return Err(Refusal::new(ErrorCode::Busy, message));
        }
        let (interface, tcp) = (&self.own.site.config.interface, &self.own.site.config.tcp);
        plan.check(interface, tcp)?;
        Budget::check_load(&plan)
            .map_err(|error| Refusal::new(ErrorCode::Refused, error.to_string()))?;
        let (n_workers, seed) = (self.own.crew.len(), u64::from(drawn_seed()?));
        let spread = self.own.site.spread(&plan)?;
        let epoch = clock::now();
        let conductor = Conductor::new(plan.clone(), n_workers, epoch);
        for worker in 0..n_workers {
            let (plan, tuples) = (plan.clone(), spread.tuples(worker, seed));
            let interface = interface.clone();
            let share = Share { worker: worker as u64, n_workers: n_workers as u64, epoch };
            self.own.crew.ask(worker, move |desk| {
                if plan.stateless {
                    let stateless = Stateless::new(&plan, &interface, share, desk.stack.config());
                    desk.apps.stateless = Some(Box::new(stateless));
                } else {
                    let load = Load::with_tuples(&plan, tuples, worker, desk.now);
                    desk.apps.load = Some(Box::new(load));
                }
            })?;
        }
        info!(
            "load test {} with {} connections; {}",
            plan.mode,
            plan.connections,
            spread.describe()
        );
        self.test = Some(Test { conductor, report: None, shown_at: Instant::now() });
        self.mark_load_impaired();
        Ok(())
    }

    /// A test that runs says in its report what was done to its frames.
    pub(super) fn mark_load_impaired(&mut self) {
        if let Some(test) = self.test.as_mut().filter(|test| test.is_running()) {
            test.conductor.on_impaired(&self.impairments);
        }
    }

    /// Ends the test early.
    pub(super) fn stop_load(&mut self) -> Result<(), Refusal> {
        match self.test.as_mut().filter(|test| test.is_running()) {
            Some(test) => {
                test.conductor.stop();
                Ok(())
            }
            None => Err(Refusal::not_found("no load test runs: there is nothing to stop")),
        }
    }

    /// How the test stands, with its report once it is over.
    pub(super) fn load_progress(&self) -> LoadProgress {
        let Some(test) = &self.test else { return LoadProgress::default() };
        let report = test.report.clone().map(Box::new);
        LoadProgress { report, ..test.conductor.progress(clock::now()) }
    }

    /// Shows the workers to the conductor, and does what it says.
    pub(super) fn poll_load(&mut self, now: Instant) {
        let every = Duration::from_nanos(Conductor::EVERY.as_nanos());
        match &mut self.test {
            Some(test) if test.is_running() && now.duration_since(test.shown_at) >= every => {
                test.shown_at = now;
                // A worker that is too busy to answer is shown the next time.
                if let Err(error) = self.conduct() {
                    warn!("the load test goes on unwatched: {error}");
                }
            }
            Some(test) if !test.is_running() && self.own.site.config.load.is_some() => {
                self.is_stopping |= now.duration_since(test.shown_at) >= REPORT_TIME;
            }
            _ => {}
        }
    }

    fn conduct(&mut self) -> Result<(), MailboxError> {
        let shown = self.own.crew.ask_all(|desk| desk.apps.load_progress())?;
        let workers: Vec<_> = shown.into_iter().flatten().collect();
        let bytes_resident = resident_bytes().unwrap_or_else(|error| {
            warn!("resident memory: {error}");
            0
        });
        let Some(test) = &mut self.test else { return Ok(()) };
        let next = test.conductor.on_progress(clock::now(), &workers, bytes_resident);
        if test.conductor.is_done() {
            return self.report_load();
        }
        let Some(phase) = next else { return Ok(()) };
        info!("load test: {phase}");
        let enter = move |desk: &mut Desk<'_>| desk.apps.enter_load(phase);
        self.own.crew.ask_all(enter).map(drop)
    }

    /// Makes the report of the workers' parts, and then lets them go.
    fn report_load(&mut self) -> Result<(), MailboxError> {
        let taken = self
            .own
            .crew
            .ask_all(|desk| (desk.apps.load_part().unwrap_or_default(), Moment::of(desk).ledger))?;
        let (parts, ledgers): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
        let frames =
            ledgers.iter().map(frames).fold(Frames::default(), |sum, one| sum.merged(&one));
        if let Some(test) = &mut self.test {
            let report = test.conductor.report(&parts, frames);
            if self.own.site.config.load.is_some() {
                // Nobody may come to read it.
                info!("load test: done\n{report}");
            }
            test.report = Some(report);
        }
        self.own.crew.ask_all(|desk| desk.apps.end_load(desk.stack.stats_mut())).map(drop)
    }
}
