//! Which CPUs this process may use, and pinning a worker's thread to one of them. Placement (which
//! worker on which CPU) is the config's decision, not made here.

use core_affinity::CoreId;

/// A thread that could not be pinned.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AffinityError {
    /// The CPU is not among those the process may run on.
    #[error(
        "cannot pin a worker to CPU {cpu}: this process may run on CPUs {allowed:?} only; choose one \
         of these, or widen the cpuset (systemd AllowedCPUs=, taskset, container limits)"
    )]
    NotAllowed {
        /// The CPU that was asked for.
        cpu: usize,
        /// The CPUs that may be used.
        allowed: Vec<usize>,
    },
    /// The kernel refused although the CPU is allowed.
    #[error("the kernel refused to pin this thread to CPU {cpu}; is the CPU still online?")]
    Refused {
        /// The CPU that was asked for.
        cpu: usize,
    },
}

/// The CPUs that the calling thread may run on, in rising order. Never empty on a running system.
pub fn allowed_cpus() -> Vec<usize> {
    let mut cpus: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    cpus.sort_unstable();
    cpus
}

/// Pins the calling thread to `cpu`, and asks the kernel whether that is where it now runs.
pub fn pin_current_thread(cpu: usize) -> Result<(), AffinityError> {
    let allowed = allowed_cpus();
    if !allowed.contains(&cpu) {
        return Err(AffinityError::NotAllowed { cpu, allowed });
    }
    core_affinity::set_for_current(CoreId { id: cpu });
    if allowed_cpus() == [cpu] { Ok(()) } else { Err(AffinityError::Refused { cpu }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_pinned_to_an_allowed_cpu_and_only_there() {
        let cpu = *allowed_cpus().last().expect("a thread runs somewhere");
        let pinned = std::thread::spawn(move || pin_current_thread(cpu).map(|()| allowed_cpus()));
        assert_eq!(pinned.join().expect("the thread ends"), Ok(vec![cpu]));
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused_by_name() {
        let error = pin_current_thread(100_000).expect_err("no machine has that CPU");
        assert!(error.to_string().contains("CPU 100000"), "{error}");
    }
}
