//! Why a queue could not be opened. Each sentence says what was asked, what was found and what to do;
//! nothing here happens after the device is open, when trouble is counted and not returned.

use crate::sys::interface::InterfaceError;
use std::io;

/// A device that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// The options contradict themselves.
    #[error("{0}")]
    Options(String),
    /// The interface is not usable.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The interface has no such queue.
    #[error(
        "`{ifname}` has {n_queues} queues that receive and transmit, numbered from 0, so no queue \
         {queue}; use fewer queues, or add some with `ethtool -L {ifname}`"
    )]
    NoSuchQueue {
        /// The interface.
        ifname: String,
        /// The queue that was asked for.
        queue: u32,
        /// How many there are.
        n_queues: u32,
    },
    /// The MTU does not fit in a frame.
    #[error("`{ifname}` has an MTU of {mtu}, and a frame holds {mtu_max} at most: {remedy}")]
    Mtu {
        /// The interface.
        ifname: String,
        /// Its MTU.
        mtu: u32,
        /// What fits.
        mtu_max: u32,
        /// What to do.
        remedy: String,
    },
    /// Huge pages were demanded and there are not enough.
    #[error(
        "the umem needs {n_bytes} bytes of huge pages and the kernel gave none ({source}): reserve \
         {n_pages} more with `sysctl vm.nr_hugepages`, or set huge pages to auto"
    )]
    HugePages {
        /// Bytes needed.
        n_bytes: u64,
        /// Pages needed.
        n_pages: u64,
        /// The kernel's error.
        source: io::Error,
    },
    /// The process may not open AF_XDP sockets.
    #[error(
        "opening an AF_XDP socket is not permitted: run as root, or with CAP_NET_RAW, CAP_NET_ADMIN \
         and CAP_BPF"
    )]
    NotPermitted,
    /// The kernel has no such sockets.
    #[error(
        "the kernel knows no AF_XDP sockets: it is built without CONFIG_XDP_SOCKETS, or older than \
         Linux 4.18"
    )]
    NoSockets,
    /// The umem could not be made.
    #[error("cannot make a umem of {n_bytes} bytes: {source}{}", umem_remedy(.source))]
    Umem {
        /// Its size.
        n_bytes: u64,
        /// The kernel's error.
        source: io::Error,
    },
    /// Somebody else has the queue.
    #[error(
        "queue {queue} of `{ifname}` is taken by another AF_XDP socket, also after {waited_ms} ms: \
         stop the process that uses it (`ss --xdp -p` shows it)"
    )]
    Busy {
        /// The interface.
        ifname: String,
        /// The queue.
        queue: u32,
        /// How long was waited.
        waited_ms: u64,
    },
    /// Zero-copy was demanded and cannot be had.
    #[error(
        "zero-copy was demanded, and driver `{driver}` of `{ifname}` does not give it for queue \
         {queue} ({reason}): use mode auto or copy, or a NIC whose driver supports AF_XDP zero-copy"
    )]
    NoZeroCopy {
        /// The interface.
        ifname: String,
        /// The queue.
        queue: u32,
        /// The driver.
        driver: String,
        /// What the kernel said.
        reason: String,
    },
    /// The kernel refused the socket for another reason.
    #[error("cannot bind an AF_XDP socket to queue {queue} of `{ifname}`: {source}")]
    Bind {
        /// The interface.
        ifname: String,
        /// The queue.
        queue: u32,
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel did not tell what it granted.
    #[error("cannot ask the kernel what it granted for queue {queue} of `{ifname}`: {source}")]
    Outcome {
        /// The interface.
        ifname: String,
        /// The queue.
        queue: u32,
        /// The kernel's error.
        source: io::Error,
    },
}

fn umem_remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOBUFS) => {
            "; the limit on locked memory is too low: raise it (`ulimit -l`, systemd \
             LimitMEMLOCK=infinity), or grant CAP_IPC_LOCK"
        }
        Some(libc::ENOMEM) => "; there is not enough memory: use fewer frames or queues",
        _ => "",
    }
}
