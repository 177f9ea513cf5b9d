//! The conductor of a load test: it is shown how the workers stand, says when all of them enter the
//! next phase, and keeps what no single worker knows: how long the phases took, the most
//! connections at the same time, and the memory that they took then. It has no thread and no clock
//! and reaches no worker; whoever has these asks it, as often as once in [`Conductor::EVERY`].

use super::Progress;
use barewire_api::config::{LoadMode, LoadPlan};
use barewire_api::control::{Frames, LoadProgress};
use barewire_api::failure::Failure;
use barewire_api::impair::Impairments;
use barewire_api::report::{LoadPart, LoadPhase, LoadReport, PhaseReport, Surroundings};
use barewire_stack::time::{Duration, Instant};

/// The state of a load test over all workers.
#[derive(Debug)]
pub struct Conductor {
    plan: LoadPlan,
    n_workers: u32,
    phase: LoadPhase,
    began_at: Instant,
    entered_at: Instant,
    ended_at: Option<Instant>,
    /// What had been done when the phase was entered.
    before: Sum,
    now: Sum,
    peak_open: u64,
    bytes_resident: u64,
    bytes_resident_at_peak: u64,
    phases: Vec<PhaseReport>,
    interrupted: bool,
    /// What the engine did to its own frames at some time of the test.
    impairments: Impairments,
}

/// The counts of all workers together.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    opened: u64,
    established: u64,
    open: u64,
    closed: u64,
    failures: [u64; Failure::ALL.len()],
    requests: u64,
    responses: u64,
}

/// What a test of this mode begins with.
pub(super) fn first_phase(mode: LoadMode) -> LoadPhase {
    match mode {
        LoadMode::Hold | LoadMode::RequestResponse => LoadPhase::Ramp,
        LoadMode::ConnectionsPerSecond => LoadPhase::Run,
    }
}

impl Conductor {
    /// How often the conductor should be shown the workers. The durations in the report are more
    /// exact than this, except where the time itself ends a phase.
    pub const EVERY: Duration = Duration::from_millis(20);

    /// The conductor of a test that `n_workers` workers have begun at `now`.
    pub fn new(plan: LoadPlan, n_workers: usize, now: Instant) -> Self {
        Conductor {
            n_workers: n_workers as u32,
            phase: first_phase(plan.mode),
            began_at: now,
            entered_at: now,
            ended_at: None,
            before: Sum::default(),
            now: Sum::default(),
            peak_open: 0,
            bytes_resident: 0,
            bytes_resident_at_peak: 0,
            phases: Vec::new(),
            interrupted: false,
            impairments: Impairments::default(),
            plan,
        }
    }

    /// What the test is at.
    pub fn phase(&self) -> LoadPhase {
        self.phase
    }

    /// The report can be made.
    pub fn is_done(&self) -> bool {
        self.phase == LoadPhase::Done
    }

    /// Ends the test early: the next answer is that connections are to be closed.
    pub fn stop(&mut self) {
        self.interrupted |= !matches!(self.phase, LoadPhase::Close | LoadPhase::Done);
    }

    /// The engine does this to its own frames from now on.
    pub fn on_impaired(&mut self, now: &Impairments) {
        self.impairments = self.impairments.joined(now);
    }

    /// How every worker stands, and the resident memory of this process. Returns the phase that all
    /// of them are to enter, as long as one is not in it: an order that got lost is given again.
    pub fn on_progress(
        &mut self,
        now: Instant,
        workers: &[Progress],
        bytes_resident: u64,
    ) -> Option<LoadPhase> {
        self.now = Sum::over(workers);
        self.bytes_resident = bytes_resident;
        if self.now.established > self.peak_open {
            self.peak_open = self.now.established;
            self.bytes_resident_at_peak = bytes_resident;
        }
        if let Some(over_at) = self.over_at(now, workers) {
            self.leave_phase(now, over_at);
        }
        workers.iter().any(|worker| worker.phase != self.phase).then_some(self.phase)
    }

    /// The phase was over at `over_at`; the next one begins now.
    fn leave_phase(&mut self, now: Instant, over_at: Instant) {
        self.phases.push(PhaseReport {
            phase: self.phase,
            duration_ns: over_at.since(self.entered_at).as_nanos(),
            count: self.count(),
        });
        self.phase = self.next_phase();
        self.before = self.now;
        self.entered_at = now;
        if self.is_done() {
            self.ended_at = Some(over_at);
        }
    }

    /// When the phase was over, if it is.
    fn over_at(&self, now: Instant, workers: &[Progress]) -> Option<Instant> {
        match self.phase {
            LoadPhase::Idle | LoadPhase::Done => None,
            LoadPhase::Close => complete_at(self.phase, workers),
            _ if self.interrupted => Some(now),
            LoadPhase::Ramp | LoadPhase::Exchange => complete_at(self.phase, workers),
            // There is nothing left to hold.
            LoadPhase::Hold if self.now.open == 0 => Some(now),
            LoadPhase::Hold | LoadPhase::Run => {
                let duration = Duration::from_nanos(self.plan.duration.as_nanos());
                (now.since(self.entered_at) >= duration).then_some(now)
            }
        }
    }

    fn next_phase(&self) -> LoadPhase {
        let has_more = !self.interrupted && self.now.open > 0;
        match (self.phase, self.plan.mode) {
            (LoadPhase::Ramp, LoadMode::Hold) if has_more => LoadPhase::Hold,
            (LoadPhase::Ramp, LoadMode::RequestResponse) if has_more => LoadPhase::Run,
            (LoadPhase::Hold, _) if has_more && self.plan.exchanges > 0 => LoadPhase::Exchange,
            (LoadPhase::Close | LoadPhase::Done, _) => LoadPhase::Done,
            _ => LoadPhase::Close,
        }
    }

    /// What the current phase did.
    fn count(&self) -> u64 {
        match self.phase {
            LoadPhase::Ramp => self.now.opened - self.before.opened,
            LoadPhase::Exchange | LoadPhase::Run => self.now.responses - self.before.responses,
            LoadPhase::Close => self.now.closed - self.before.closed,
            LoadPhase::Idle | LoadPhase::Hold | LoadPhase::Done => 0,
        }
    }

    /// How the test stood when the workers were last shown; without the report.
    pub fn progress(&self, now: Instant) -> LoadProgress {
        let Sum { opened, established, closed, failures, requests, responses, .. } = self.now;
        let counted = Failure::ALL.iter().copied().zip(failures);
        LoadProgress {
            phase: self.phase,
            elapsed_ms: self.ended_at.unwrap_or(now).since(self.began_at).as_millis(),
            planned: self.plan.connections.0,
            opened,
            open: established,
            peak_open: self.peak_open,
            closed,
            failed: failures.iter().sum(),
            failures: counted.filter(|&(_, n)| n > 0).collect(),
            requests,
            responses,
            bytes_resident: self.bytes_resident,
            impaired: !self.impairments.is_none(),
            report: None,
        }
    }

    /// The report over what every worker counted and timed; `frames` are those of all workers.
    pub fn report(&self, parts: &[LoadPart], frames: Frames) -> LoadReport {
        let mut whole = LoadPart::default();
        parts.iter().for_each(|part| whole.merge(part));
        let around = Surroundings {
            n_workers: self.n_workers,
            peak_open: self.peak_open,
            bytes_resident: self.bytes_resident_at_peak,
            frames,
            interrupted: self.interrupted,
            impairments: self.impairments,
        };
        LoadReport::new(self.plan.clone(), self.phases.clone(), &whole, &around)
    }
}

impl Sum {
    fn over(workers: &[Progress]) -> Self {
        let mut sum = Sum::default();
        for worker in workers {
            sum.opened += worker.opened;
            sum.established += worker.established;
            sum.open += worker.open();
            sum.closed += worker.closed;
            sum.requests += worker.requests;
            sum.responses += worker.responses;
            for (total, n) in sum.failures.iter_mut().zip(worker.failures) {
                *total += n;
            }
        }
        sum
    }
}

/// When the last of the workers had done everything of the phase; nothing as long as one has not,
/// or has not even entered it.
fn complete_at(phase: LoadPhase, workers: &[Progress]) -> Option<Instant> {
    let mut last = None;
    for worker in workers {
        let complete = worker.complete.filter(|_| worker.phase == phase)?;
        last = last.max(Some(complete));
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use barewire_api::impair::{Impaired, Impairment};
    use barewire_api::unit::{Count, Span};

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn plan(mode: LoadMode) -> LoadPlan {
        let duration = Span::from_millis(100);
        LoadPlan { mode, connections: Count(10), duration, ..LoadPlan::default() }
    }

    /// A worker with `established` of 5 opened connections, the rest failed.
    fn worker(phase: LoadPhase, established: u64, complete: Option<u64>) -> Progress {
        let mut failures = [0; Failure::ALL.len()];
        failures[Failure::Refused as usize] = 5 - established;
        Progress {
            phase,
            complete: complete.map(at),
            opened: 5,
            established,
            closed: 0,
            failures,
            requests: 0,
            responses: 0,
        }
    }

    #[test]
    fn a_hold_goes_through_its_phases() {
        let mut conductor = Conductor::new(plan(LoadMode::Hold), 2, at(1000));
        assert_eq!(conductor.phase(), LoadPhase::Ramp);
        let ramp = |complete| worker(LoadPhase::Ramp, 5, complete);
        let almost = [ramp(Some(1005)), worker(LoadPhase::Ramp, 4, None)];
        assert_eq!(conductor.on_progress(at(1010), &almost, 1), None);
        let both = [ramp(Some(1005)), ramp(Some(1015))];
        assert_eq!(conductor.on_progress(at(1020), &both, 7_000), Some(LoadPhase::Hold));
        let hold = [worker(LoadPhase::Hold, 5, None), worker(LoadPhase::Hold, 4, None)];
        assert_eq!(conductor.on_progress(at(1100), &hold, 1), None);
        assert_eq!(conductor.on_progress(at(1120), &hold, 1), Some(LoadPhase::Exchange));
        // What a worker had completed before it entered the phase does not count.
        assert_eq!(conductor.on_progress(at(1121), &both, 1), Some(LoadPhase::Exchange));
        let mut exchange = [worker(LoadPhase::Exchange, 5, Some(1130)); 2];
        exchange[0].responses = 5;
        assert_eq!(conductor.on_progress(at(1140), &exchange, 1), Some(LoadPhase::Close));
        let mut close = [Progress { closed: 5, ..worker(LoadPhase::Close, 5, Some(1150)) }; 2];
        close.iter_mut().for_each(|worker| worker.established = 0);
        assert_eq!(conductor.on_progress(at(1160), &close, 1), Some(LoadPhase::Done));
        assert!(conductor.is_done());

        let report = conductor.report(&[], Frames::default());
        let took = |phase| report.phase(phase).map(|p| (p.duration_ns / 1_000_000, p.count));
        assert_eq!(took(LoadPhase::Ramp), Some((15, 10)));
        assert_eq!(took(LoadPhase::Hold), Some((100, 0)));
        assert_eq!(took(LoadPhase::Exchange), Some((10, 5)));
        assert_eq!(took(LoadPhase::Close), Some((10, 10)));
        assert_eq!((report.peak_open, report.bytes_per_connection), (10, Some(700)));
        assert!(!report.interrupted);
        assert_eq!(conductor.progress(at(9999)).elapsed_ms, 150);
    }

    #[test]
    fn a_test_that_was_impaired_once_stays_marked() {
        let mut conductor = Conductor::new(plan(LoadMode::Hold), 1, at(0));
        assert!(!conductor.progress(at(1)).impaired);
        let impairment = Impairment { delay: Span::from_millis(5), ..Impairment::default() };
        let tx = Some(Impaired { impairment, seed: 7 });
        conductor.on_impaired(&Impairments { tx, rx: None });
        conductor.on_impaired(&Impairments::default());
        assert!(conductor.progress(at(1)).impaired);
        assert_eq!(conductor.report(&[], Frames::default()).impairments.tx, tx);
    }

    #[test]
    fn a_stop_leads_to_the_close_at_once() {
        for mode in [LoadMode::Hold, LoadMode::RequestResponse, LoadMode::ConnectionsPerSecond] {
            let mut conductor = Conductor::new(plan(mode), 1, at(0));
            let phase = conductor.phase();
            assert_eq!(conductor.on_progress(at(1), &[worker(phase, 5, None)], 1), None);
            conductor.stop();
            let next = conductor.on_progress(at(2), &[worker(phase, 5, None)], 1);
            assert_eq!(next, Some(LoadPhase::Close));
            assert!(conductor.report(&[], Frames::default()).interrupted);
        }
    }

    #[test]
    fn nothing_is_held_when_nothing_opened() {
        for mode in [LoadMode::Hold, LoadMode::RequestResponse] {
            let mut conductor = Conductor::new(plan(mode), 1, at(0));
            let ramp = [worker(LoadPhase::Ramp, 0, Some(5))];
            assert_eq!(conductor.on_progress(at(10), &ramp, 1), Some(LoadPhase::Close));
        }
    }
}
