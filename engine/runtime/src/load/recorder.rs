//! What one worker counts and times, and the small copy of it that the control thread looks at
//! while the test runs. Every opened connection is counted once when it ends, so that at any moment
//! opened = closed + failed + those that are there.

use barewire_api::failure::Failure;
use barewire_api::report::{LoadPart, LoadPhase};
use barewire_stack::time::{Duration, Instant};

/// How a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it is at.
    pub phase: LoadPhase,
    /// When it had done everything of this phase; a phase that only time ends never has.
    pub complete: Option<Instant>,
    /// Opens begun.
    pub opened: u64,
    /// Connections that are established now.
    pub established: u64,
    /// Connections that ended well.
    pub closed: u64,
    /// Connections that ended badly, in the order of [`Failure::ALL`].
    pub failures: [u64; Failure::ALL.len()],
    /// Requests begun.
    pub requests: u64,
    /// Whole and right responses.
    pub responses: u64,
}

impl Progress {
    /// Connections that ended badly.
    pub fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    /// Connections that are there, in whatever state.
    pub fn open(&self) -> u64 {
        self.opened - self.closed - self.failed()
    }
}

/// Counters and histograms of one worker.
#[derive(Debug)]
pub(super) struct Recorder {
    part: LoadPart,
    progress: Progress,
}

impl Recorder {
    pub(super) fn new() -> Self {
        let progress = Progress {
            phase: LoadPhase::Idle,
            complete: None,
            opened: 0,
            established: 0,
            closed: 0,
            failures: [0; Failure::ALL.len()],
            requests: 0,
            responses: 0,
        };
        Recorder { part: LoadPart::default(), progress }
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The report's part: what is counted here, and the histograms.
    pub(super) fn part(&self) -> LoadPart {
        let Progress { opened, closed, requests, responses, .. } = self.progress;
        let counted = Failure::ALL.iter().copied().zip(self.progress.failures);
        LoadPart {
            opened,
            closed,
            open: self.progress.open(),
            failures: counted.filter(|&(_, n)| n > 0).collect(),
            requests,
            responses,
            ..self.part.clone()
        }
    }

    pub(super) fn enter(&mut self, phase: LoadPhase) {
        self.progress.phase = phase;
        self.progress.complete = None;
    }

    /// Everything of this phase is done; the first call counts.
    pub(super) fn complete(&mut self, now: Instant) {
        self.progress.complete.get_or_insert(now);
    }

    pub(super) fn opened(&mut self) {
        self.progress.opened += 1;
    }

    /// A connection was never even begun.
    pub(super) fn refused(&mut self, failure: Failure) {
        self.progress.opened += 1;
        self.handshake_lost();
        self.failed(failure);
    }

    pub(super) fn established(&mut self, took: Duration) {
        self.progress.established += 1;
        self.part.connect.record(took.as_nanos());
    }

    pub(super) fn handshake_lost(&mut self) {
        self.part.connect.record_lost();
    }

    /// An established connection is no longer.
    pub(super) fn left(&mut self) {
        self.progress.established -= 1;
    }

    pub(super) fn closed(&mut self) {
        self.progress.closed += 1;
    }

    pub(super) fn failed(&mut self, failure: Failure) {
        self.progress.failures[failure as usize] += 1;
    }

    pub(super) fn requested(&mut self) {
        self.progress.requests += 1;
    }

    pub(super) fn responded(&mut self, took: Duration) {
        self.progress.responses += 1;
        self.part.request.record(took.as_nanos());
    }

    pub(super) fn response_lost(&mut self) {
        self.part.request.record_lost();
    }

    pub(super) fn sent(&mut self, bytes: u64) {
        self.part.bytes_sent += bytes;
    }

    pub(super) fn received(&mut self, bytes: u64) {
        self.part.bytes_received += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_counted_under_its_name() {
        let mut recorder = Recorder::new();
        for &failure in Failure::ALL {
            recorder.refused(failure);
        }
        recorder.opened();
        recorder.failed(Failure::Reset);
        recorder.opened();
        let part = recorder.part();
        assert_eq!(part.failures.len(), Failure::ALL.len());
        assert_eq!((part.failures[&Failure::Reset], part.open), (2, 1));
        assert_eq!(part.opened, part.open + part.closed + part.failed());
    }
}
