//! What can go wrong with the steering program, each as a sentence with the way out.

use std::io;
use std::path::PathBuf;

use barewire_steer::abi::{ForeignConfig, OnMissing, QUEUES_MAX};
use barewire_steer::attach::{AttachMode, Attached, AttachedMode};
use thiserror::Error;

/// A failure of [`load`](super::load), [`status`](super::status) or [`unload`](super::unload).
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// No interface can have this name.
    #[error("'{0}' is no interface name: 1 to 15 bytes, without slashes and spaces")]
    BadName(String),
    /// There is no interface of this name.
    #[error("there is no interface '{0}' in this network namespace; `ip link` lists them")]
    NoInterface(String),
    /// The kernel does not tell about interfaces.
    #[error("cannot ask the kernel about interface {ifname}: {source}")]
    Query {
        /// The interface.
        ifname: String,
        /// From netlink.
        source: io::Error,
    },
    /// More queues than the program has slots for, or none.
    #[error("the steering program serves 1 to {QUEUES_MAX} queues, and {0} were asked for")]
    Queues(u32),
    /// There is a program on the interface, and it stays.
    #[error(
        "interface {ifname} already carries {attached}; stop the barewire daemon that attached it, \
         unload another one with `ip link set dev {ifname} xdp off`, or choose another interface"
    )]
    Occupied {
        /// The interface.
        ifname: String,
        /// What is on it.
        attached: Attached,
    },
    /// It is loaded, but not like this.
    #[error(
        "barewire's program is loaded for {ifname} already: {mode} mode, frames without a socket \
         {}, {n_queues} queues; `barewire xdp unload {ifname}` first to load it otherwise",
        .on_missing.name()
    )]
    LoadedOtherwise {
        /// The interface.
        ifname: String,
        /// As found.
        mode: AttachedMode,
        /// As found.
        on_missing: OnMissing,
        /// As found.
        n_queues: u32,
    },
    /// The pins are of a program that is not on the interface any more.
    #[error(
        "what is pinned at {} is not on {ifname} any more; `barewire xdp unload {ifname}` first",
        .dir.display()
    )]
    DeadPins {
        /// The interface.
        ifname: String,
        /// Its pins.
        dir: PathBuf,
    },
    /// The kernel does not take the program.
    #[error(
        "cannot load the steering program: {0}; it needs root, or CAP_BPF and CAP_NET_ADMIN, and \
         Linux 5.11 or later"
    )]
    Load(String),
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
    /// It is attached in a way that cannot be pinned.
    #[error(
        "the kernel made no link for {ifname}, so the program cannot be kept by a pin: take it off \
         with `ip link set dev {ifname} xdp off`; links of XDP programs need Linux 5.9 or later"
    )]
    NoLink {
        /// The interface.
        ifname: String,
    },
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
    /// A pin could not be opened.
    #[error(
        "cannot open the pin {}: {reason}; run as root, or `barewire xdp unload` what is incomplete",
        .path.display()
    )]
    OpenPin {
        /// The file.
        path: PathBuf,
        /// From aya.
        reason: String,
    },
    /// A pin could not be removed.
    #[error("cannot remove the pin {}: {source}", .path.display())]
    Unpin {
        /// The file or directory.
        path: PathBuf,
        /// From the kernel.
        source: io::Error,
    },
    /// The pins are of another barewire, or of something else.
    #[error(
        "the maps pinned at {} are not this barewire's: {source}; `barewire xdp unload` removes them",
        .dir.display()
    )]
    Foreign {
        /// The directory of the pins.
        dir: PathBuf,
        /// The difference.
        source: ForeignConfig,
    },
    /// A map could not be read or written.
    #[error("cannot access map {map} of the steering program: {reason}")]
    Map {
        /// Its name.
        map: &'static str,
        /// From aya.
        reason: String,
    },
    /// A program that we did not pin.
    #[error(
        "interface {ifname} carries {attached}, which is not pinned by barewire and so not removed: \
         stop whoever attached it, or `ip link set dev {ifname} xdp off`"
    )]
    NotOurs {
        /// The interface.
        ifname: String,
        /// What is on it.
        attached: Attached,
    },
}

/// An error of aya with its causes, which its own words leave out, or say twice.
pub(super) fn sentence(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        cause = error.source();
    }
    words
}
