//! The arithmetic of an engine before it starts: frames, memory and tuples, each term with its
//! number. What is taken at the start, or will be for certain, must fit; what only may be taken
//! later is printed.

use super::{Site, StartError};
use crate::sys::memory::available_bytes;
use barewire_api::config::LoadPlan;
use barewire_api::unit::{Bytes, grouped};
use barewire_stack::stack::Stack;

/// What an engine takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    n_workers: u64,
    /// Of each queue.
    frames: u64,
    frame_bytes: u64,
    /// Connections that may exist, and those that the load test opens.
    connections_max: u64,
    connections_planned: u64,
    /// What those take.
    planned_bytes: u64,
    tuples: Option<u64>,
    /// Of all workers.
    buffer_bytes_max: u64,
}

impl Budget {
    /// The budget of a configuration on its machine.
    pub fn new(site: &Site) -> Self {
        let (interface, tcp) = (&site.config.interface, &site.config.tcp);
        let n_workers = u64::from(site.n_queues);
        let load = site.config.load.as_ref();
        Budget {
            n_workers,
            frames: u64::from(interface.frames()),
            frame_bytes: u64::from(interface.frame_bytes),
            connections_max: tcp.connections_max.0,
            connections_planned: load.map_or(0, |plan| plan.connections.0),
            planned_bytes: load.map_or(0, Self::planned_bytes),
            tuples: load.map(|plan| plan.tuples(interface).len()),
            buffer_bytes_max: tcp.buffer_bytes_max.0.saturating_mul(n_workers),
        }
    }

    /// Bytes of all umems, taken at the start.
    fn umem_bytes(&self) -> u64 {
        self.n_workers.saturating_mul(self.frames).saturating_mul(self.frame_bytes)
    }

    /// Bytes of `n` connections that sleep: what they take for certain. Awake they take more.
    fn connection_bytes(n: u64) -> u64 {
        n.saturating_mul(Stack::ASLEEP_BYTES as u64)
    }

    /// Bytes of the connections that a plan opens.
    fn planned_bytes(plan: &LoadPlan) -> u64 {
        match plan.stateless {
            // Two bits of each.
            true => plan.connections.0.div_ceil(4),
            false => Self::connection_bytes(plan.connections.0),
        }
    }

    /// Refuses what cannot fit.
    pub fn check(&self) -> Result<(), StartError> {
        let frames = grouped(self.frames.saturating_mul(self.n_workers));
        check_memory(self.umem_bytes().saturating_add(self.planned_bytes), || {
            format!("{frames} frames and {} connections", grouped(self.connections_planned))
        })
    }

    /// Refuses a load test, on an engine that runs, whose connections cannot fit.
    pub(crate) fn check_load(plan: &LoadPlan) -> Result<(), StartError> {
        let n = plan.connections.0;
        check_memory(Self::planned_bytes(plan), || format!("{} connections", grouped(n)))
    }

    /// The terms, one to a line.
    pub fn lines(&self) -> Vec<String> {
        let mib = |bytes: u64| format!("{} MiB", grouped(bytes.div_ceil(1 << 20)));
        let mut lines = vec![
            format!(
                "memory at the start: {} queues x {} frames x {} bytes = {}",
                self.n_workers,
                grouped(self.frames),
                self.frame_bytes,
                mib(self.umem_bytes()),
            ),
            format!(
                "memory at most: {} connections x {} bytes asleep = {}, x {} awake = {}, and {} of \
                 buffers",
                grouped(self.connections_max),
                Stack::ASLEEP_BYTES,
                mib(Self::connection_bytes(self.connections_max)),
                Stack::AWAKE_BYTES,
                mib(self.connections_max.saturating_mul(Stack::AWAKE_BYTES as u64)),
                mib(self.buffer_bytes_max),
            ),
        ];
        if let Some(tuples) = self.tuples {
            lines.push(format!(
                "load: {} connections of {} tuples, {}",
                grouped(self.connections_planned),
                grouped(tuples),
                mib(self.planned_bytes),
            ));
        }
        lines
    }
}

fn check_memory(needed: u64, what: impl FnOnce() -> String) -> Result<(), StartError> {
    let available = available_bytes().map_err(StartError::os("read the available memory"))?;
    if needed <= available {
        return Ok(());
    }
    Err(StartError::Memory {
        what: what(),
        needed: Bytes(needed),
        available: Bytes(available),
        fix: "use fewer connections, smaller rings or fewer queues",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget {
        n_workers: 2,
        frames: 8_320,
        frame_bytes: 2_048,
        connections_max: 1_000,
        connections_planned: 0,
        planned_bytes: 0,
        tuples: None,
        buffer_bytes_max: 1 << 20,
    };

    #[test]
    fn what_fits_passes_and_shows_its_sum() {
        BUDGET.check().expect("33 MiB");
        let lines = BUDGET.lines();
        assert_eq!(lines[0], "memory at the start: 2 queues x 8,320 frames x 2048 bytes = 33 MiB");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn what_no_machine_has_is_refused_with_the_numbers() {
        let huge = Budget {
            connections_planned: u64::MAX,
            planned_bytes: u64::MAX,
            tuples: Some(7),
            ..BUDGET
        };
        let error = huge.check().expect_err("too many").to_string();
        assert!(error.starts_with("16,640 frames and 18,446,744,073,709,551,615"), "{error}");
        assert!(error.contains("are available: use fewer connections"), "{error}");
        assert_eq!(huge.lines().len(), 3);
    }
}
