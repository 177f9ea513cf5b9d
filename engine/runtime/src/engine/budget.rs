//! The arithmetic of an engine before it starts: frames, memory and tuples, each term with its
//! number. What is taken at the start, or will be for certain, must fit; what only may be taken
//! later is printed.

use super::{Site, StartError};
use crate::sys::memory::available_bytes;
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
            tuples: load.map(|plan| plan.tuples(interface).len()),
            buffer_bytes_max: tcp.buffer_bytes_max.0.saturating_mul(n_workers),
        }
    }

    /// Bytes of all umems, taken at the start.
    fn umem_bytes(&self) -> u64 {
        self.n_workers.saturating_mul(self.frames).saturating_mul(self.frame_bytes)
    }

    /// Bytes of `n` connections with empty buffers.
    fn connection_bytes(n: u64) -> u64 {
        n.saturating_mul(Stack::RECORD_BYTES as u64)
    }

    /// Refuses what cannot fit.
    pub fn check(&self) -> Result<(), StartError> {
        let available = available_bytes().map_err(StartError::os("read the available memory"))?;
        let planned = Self::connection_bytes(self.connections_planned);
        let needed = self.umem_bytes().saturating_add(planned);
        if needed <= available {
            return Ok(());
        }
        let frames = grouped(self.frames.saturating_mul(self.n_workers));
        Err(StartError::Memory {
            what: format!("{frames} frames and {} connections", grouped(self.connections_planned)),
            needed: Bytes(needed),
            available: Bytes(available),
            fix: "use smaller rings, fewer queues or fewer connections",
        })
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
                "memory at most: {} connections x {} bytes = {}, and {} of buffers",
                grouped(self.connections_max),
                Stack::RECORD_BYTES,
                mib(Self::connection_bytes(self.connections_max)),
                mib(self.buffer_bytes_max),
            ),
        ];
        if let Some(tuples) = self.tuples {
            lines.push(format!(
                "load: {} connections of {} tuples, {}",
                grouped(self.connections_planned),
                grouped(tuples),
                mib(Self::connection_bytes(self.connections_planned)),
            ));
        }
        lines
    }
}
