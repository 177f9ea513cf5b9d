//! AF_XDP sockets as a [`Device`](barewire_stack::device::Device): one umem and one socket per NIC
//! queue, shared with nobody, over the kernel's own interface.
//!
//! * [`options`]: what to open, with the arithmetic of its frames.
//! * `umem`: the frames' memory. `frames`: where each frame is, and the judgement of what the kernel
//!   hands back. `ring`: one of the four rings. `socket`: all of them, bound to a queue, and what the
//!   kernel granted.
//! * [`device`]: the batches in and out that a worker sees.
//!
//! Nothing here knows a protocol, loads an eBPF program or fills an XSKMAP: the socket shows its
//! descriptor to whoever does. This folder may use unsafe; what it exports is safe. A descriptor
//! from the kernel is input: it is checked in release builds, and a bad one is counted by name.
//!
//! Frames for reception are posted before the socket is bound: some zero-copy drivers want them then.

pub mod device;
mod error;
mod frames;
pub mod options;
mod ring;
mod socket;
pub mod statistics;
mod umem;

pub use device::{Wake, XdpDevice};
pub use error::XdpError;
pub use options::{BusyPoll, HugePages, Mode, XdpOptions};
pub use socket::Outcome;
pub use statistics::{N_STATISTICS, Statistic, statistics_list};
