//! What can go wrong between us and the kernel's BPF, each as a sentence that says what was found
//! and what to do about it.

use std::io;
use std::path::PathBuf;

use barewire_steer::abi::{BadPrefix, ForeignConfig, QUEUES_MAX};
use barewire_steer::attach::{AttachMode, Attached};
use thiserror::Error;

/// A failure of a [`Steer`](crate::Steer).
#[derive(Debug, Error)]
pub enum Error {
    /// More queues than the program has slots for, or none.
    #[error("the steering program serves 1 to {QUEUES_MAX} queues, and {0} were asked for")]
    Queues(u32),
    /// The kernel wants more privileges.
    #[error(
        "loading the steering program is not permitted: run as root or with CAP_BPF and \
         CAP_NET_ADMIN, or load it ahead with `barewire xdp load`"
    )]
    LoadNotPermitted,
    /// The kernel does not take the program.
    #[error("the kernel refused the steering program: {source:#}\n{log}")]
    Load {
        /// From libbpf.
        source: libbpf_rs::Error,
        /// What libbpf and the verifier said.
        log: String,
    },
    /// There is a program on the interface, and it stays.
    #[error(
        "interface {ifname} already carries {attached}; unload it (`barewire xdp unload {ifname}` \
         if it is barewire's, else `ip link set dev {ifname} xdp off`) or choose another interface"
    )]
    Occupied {
        /// The interface.
        ifname: String,
        /// What is on it.
        attached: Attached,
    },
    /// The driver or the kernel does not take the program there.
    #[error("cannot attach the steering program to {ifname} in {mode} mode: {source}; {advice}")]
    Attach {
        /// The interface.
        ifname: String,
        /// As asked for.
        mode: AttachMode,
        /// From the kernel.
        source: io::Error,
        /// The likely cause and the way out.
        advice: &'static str,
    },
    /// The kernel does not say what is attached.
    #[error(
        "cannot ask which XDP program is on interface number {ifindex}, in this network namespace: {source}"
    )]
    Query {
        /// The interface.
        ifindex: u32,
        /// From the kernel.
        source: io::Error,
    },
    /// The link could not be taken off.
    #[error("cannot detach the steering program: {0}")]
    Detach(io::Error),
    /// Only an attached program is worth keeping.
    #[error("there is no attached program to pin: attach it first, and pin it once")]
    NothingToPin,
    /// Somebody was there first.
    #[error("{} exists already: remove it with `barewire xdp unload`, or use what it holds", .0.display())]
    AlreadyPinned(PathBuf),
    /// A pin could not be made.
    #[error(
        "cannot pin to {}: {source}; the place must be on a bpffs that you may write to \
         (`mount -t bpf bpf /sys/fs/bpf` mounts one)",
        .path.display()
    )]
    Pin {
        /// The file or directory.
        path: PathBuf,
        /// From the kernel.
        source: io::Error,
    },
    /// Nothing was loaded ahead.
    #[error("nothing is pinned at {}: load it with `barewire xdp load`", .0.display())]
    NotPinned(PathBuf),
    /// A pin could not be opened.
    #[error(
        "cannot open the pin {}: {source:#}; grant access to it, or load anew with \
         `barewire xdp unload` and `barewire xdp load`",
        .path.display()
    )]
    OpenPin {
        /// The file.
        path: PathBuf,
        /// From the kernel.
        source: libbpf_rs::Error,
    },
    /// The maps are of another barewire, or of something else.
    #[error(
        "the maps are not this barewire's: {0}; `barewire xdp unload` and `barewire xdp load` \
         replace pinned ones"
    )]
    Foreign(#[from] ForeignConfig),
    /// The interface went away under the pinned link.
    #[error(
        "the link pinned at {} is attached to nothing any more, for its interface is gone; remove \
         it with `barewire xdp unload`",
        .0.display()
    )]
    DeadLink(PathBuf),
    /// A pin could not be removed.
    #[error("cannot remove the pin {}: {source}", .path.display())]
    Unpin {
        /// The file or directory.
        path: PathBuf,
        /// From the kernel.
        source: io::Error,
    },
    /// A map could not be read or written.
    #[error("cannot access map {map}, which has room for {max_entries} entries: {source:#}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Its bound.
        max_entries: u32,
        /// From libbpf.
        source: libbpf_rs::Error,
    },
    /// The queue has no slot.
    #[error("queue {queue} has no slot: the steering program was loaded for {n_queues} queues")]
    NoSuchQueue {
        /// As asked for.
        queue: u32,
        /// As loaded.
        n_queues: u32,
    },
    /// Not a prefix that can be owned.
    #[error(transparent)]
    BadPrefix(#[from] BadPrefix),
    /// Port 0 is never on the wire.
    #[error("port 0 cannot be steered: TCP ports are 1 to 65535")]
    PortZero,
    /// A range with no port in it.
    #[error("the port range {low}-{high} is empty: the first port must not be above the last")]
    EmptyPortRange {
        /// As given.
        low: u16,
        /// As given.
        high: u16,
    },
    /// Pins hold maps and link, not the program.
    #[error(
        "the program was loaded and attached by somebody else: it cannot be attached \
         or run from here"
    )]
    NoProgram,
    /// The kernel does not run the program over a frame.
    #[error("cannot run the steering program over a frame of {len} bytes: {source}")]
    TestRun {
        /// Length of the frame.
        len: usize,
        /// From the kernel.
        source: io::Error,
    },
}
