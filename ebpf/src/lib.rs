//! Loads the steering XDP program with libbpf, attaches it in the mode that was asked for, pins it,
//! and sets what it steers. The program itself and the layout of its maps are in `barewire-steer`;
//! the AF_XDP sockets that it redirects to belong to the caller, who puts them in by
//! [`Steer::set_xsk`].
//!
//! ```no_run
//! use barewire_ebpf::{AttachMode, LoadOptions, OnMissing, Steer};
//! # fn main() -> Result<(), barewire_ebpf::Error> {
//! let mut steer = Steer::load(&LoadOptions { n_queues: 4, on_missing: OnMissing::Pass })?;
//! steer.add_listener(None, 7000)?;
//! let attached = steer.attach(3, "eth1", AttachMode::Native)?;
//! println!("{attached}");
//! for (verdict, frames) in steer.verdicts()? {
//!     println!("{} {frames}", verdict.name());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A program attached this way leaves the interface when its [`Steer`] is dropped or its process
//! dies, unless [`Steer::pin`] has handed it to a bpffs.

mod error;
mod maps;
mod program;
mod rules;

pub use barewire_steer::abi::{self, Action, Listener, LocalPorts, OnMissing, Prefix, Verdict};
pub use barewire_steer::attach::{AttachMode, Attached, AttachedMode};
pub use error::Error;
pub use program::{LoadOptions, Steer};
