//! The kernel's ends in several threads, each with a table of descriptors of its own, for a process may
//! have no more of them than its limit says (20,000 here and there, also for root). All lanes of an end
//! share its one core.

use super::task::Task;
use crate::rig::Failure;
use nix::sched::{CloneFlags, unshare};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Connections of one lane: an uneven spread over listeners, and the lane's other descriptors, leave it
/// below a limit of 20,000.
const CONNECTIONS_MAX: u32 = 12_000;

/// How many lanes a task takes.
pub(crate) fn count(task: &Task) -> usize {
    task.connections.div_ceil(CONNECTIONS_MAX) as usize
}

/// Lane number `lane` of `n` has this part of `whole`.
pub(crate) fn part(whole: u32, lane: usize, n: usize) -> u32 {
    let (n, lane) = (n as u32, lane as u32);
    whole / n + u32::from(lane < whole % n)
}

/// Runs each of `lanes` in a thread with its own descriptors; what they return, in order.
pub(crate) fn run<L: Send, R: Send>(
    lanes: Vec<L>,
    body: impl Fn(L) -> Result<R, Failure> + Sync,
) -> Result<Vec<R>, Failure> {
    let body = &body;
    thread::scope(|scope| {
        let spawn = |lane| {
            scope.spawn(move || {
                unshare(CloneFlags::CLONE_FILES).map_err(|errno| {
                    Failure::Os("give a thread descriptors of its own", errno.into())
                })?;
                body(lane)
            })
        };
        let threads: Vec<_> = lanes.into_iter().map(spawn).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("lanes return errors"));
        joined.collect()
    })
}

/// Where lanes wait for each other between the steps of a task.
#[derive(Debug)]
pub(crate) struct Gate {
    n_lanes: usize,
    arrived: AtomicUsize,
    has_failed: AtomicBool,
}

impl Gate {
    const LOOK: Duration = Duration::from_millis(1);

    pub(crate) fn new(n_lanes: usize) -> Self {
        Gate { n_lanes, arrived: AtomicUsize::new(0), has_failed: AtomicBool::new(false) }
    }

    /// Waits until all lanes have come to step number `step`, from 1.
    pub(crate) fn pass(&self, step: usize) -> Result<(), Failure> {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        while self.arrived.load(Ordering::Acquire) < step * self.n_lanes {
            if self.has_failed.load(Ordering::Acquire) {
                return Err(Failure::Machine("another lane failed".to_owned()));
            }
            thread::sleep(Gate::LOOK);
        }
        Ok(())
    }

    /// Nobody need wait for this lane.
    pub(crate) fn fail(&self) {
        self.has_failed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versus::task::Shape;

    #[test]
    fn lanes_divide_all_there_is() {
        let task = Task {
            shape: Shape::Open,
            connections: 100_000,
            in_flight: 1024,
            bytes: 64,
            mtu: 1500,
            segmentation_offload: true,
            duration_ms: 1,
        };
        assert_eq!(count(&task), 9);
        for whole in [1, 9, 1024, 100_000] {
            assert_eq!((0..9).map(|lane| part(whole, lane, 9)).sum::<u32>(), whole);
        }
        assert_eq!(count(&Task { connections: 1, ..task }), 1);
    }

    #[test]
    fn a_gate_opens_when_all_have_come_and_not_when_one_has_failed() {
        let gate = Gate::new(2);
        thread::scope(|scope| {
            let other = scope.spawn(|| gate.pass(1));
            gate.pass(1).expect("both came");
            other.join().expect("no panic").expect("both came");
        });
        gate.fail();
        gate.pass(2).expect_err("the other never comes");
    }
}
