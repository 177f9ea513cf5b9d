//! How the control thread talks to a worker: jobs in a bounded queue, run by the worker between two
//! turns with everything it owns at hand, and an answer back over a channel of one place. The worker
//! never waits: a queue that is full refuses the sender.

use super::Desk;
use crate::sys::eventfd::EventFd;
use crossbeam_queue::ArrayQueue;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Jobs that may wait for one worker. The control thread waits for each answer, so more than a few
/// mean that the worker hangs.
const JOBS_MAX: usize = 64;

/// How long the control thread waits for an answer: hundreds of turns.
const ANSWER_MAX: Duration = Duration::from_secs(2);

type Job = Box<dyn FnOnce(&mut Desk<'_>) + Send>;

/// Why a worker gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    /// Too many jobs wait.
    #[error("the worker has {JOBS_MAX} unanswered requests; it hangs or is overloaded")]
    Full,
    /// No answer in time.
    #[error("the worker did not answer within {ANSWER_MAX:?}")]
    Silent,
    /// The worker has ended.
    #[error("the worker has ended")]
    Gone,
}

/// The mailbox of one worker.
pub struct Mailbox {
    jobs: ArrayQueue<Job>,
    bell: Arc<EventFd>,
}

impl Mailbox {
    /// An empty mailbox of the worker that sleeps on `bell`.
    pub fn new(bell: Arc<EventFd>) -> Self {
        Mailbox { jobs: ArrayQueue::new(JOBS_MAX), bell }
    }

    /// Runs `job` on the worker and waits for its answer.
    pub fn ask<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Desk<'_>) -> R + Send + 'static,
    ) -> Result<R, MailboxError> {
        let (answer, answered) = sync_channel(1);
        let job = Box::new(move |desk: &mut Desk<'_>| {
            // The asker may have given up; then nobody wants the answer.
            let _ = answer.try_send(job(desk));
        });
        self.jobs.push(job).map_err(|_| MailboxError::Full)?;
        self.bell.ring();
        answered.recv_timeout(ANSWER_MAX).map_err(|error| match error {
            RecvTimeoutError::Timeout => MailboxError::Silent,
            RecvTimeoutError::Disconnected => MailboxError::Gone,
        })
    }

    /// No job waits: the question of every turn, cheaper than to take one.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Runs the jobs that wait, at most as many as fit the queue. True when there was any.
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> bool {
        let mut n = 0;
        while n < JOBS_MAX
            && let Some(job) = self.jobs.pop()
        {
            job(desk);
            n += 1;
        }
        n > 0
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("waiting", &self.jobs.len()).finish()
    }
}
