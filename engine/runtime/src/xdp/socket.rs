//! One AF_XDP socket: its four rings, bound to a queue, the system calls that nudge the kernel, and
//! what the kernel granted of what was asked. No frame's place is known here.

use super::error::XdpError;
use super::options::{BusyPoll, Mode, XdpOptions};
use super::ring::{Addr, Consumer, Desc, Producer, Which};
use super::umem::Umem;
use crate::sys::interface::Interface;
use crate::sys::sockopt;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

// Options that the libc crate does not know yet, from linux/socket.h and linux/if_xdp.h.
const SO_BUSY_POLL: libc::c_int = 46;
const SO_INCOMING_NAPI_ID: libc::c_int = 56;
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// Frames that one `sendto` moves in copy mode when the kernel knows no XDP_MAX_TX_SKB_BUDGET.
const TX_BUDGET_DEFAULT: u32 = 32;

/// The kernel frees a closed socket's queue a moment after the close, so a queue that was just given
/// up is waited for this long.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// What the kernel granted, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The driver reads and writes the umem itself.
    pub zero_copy: bool,
    /// The umem lies in huge pages.
    pub huge_pages: bool,
    /// Preferred busy polling is on. Whether the driver's queue takes part shows in
    /// [`XdpDevice::napi_id`](super::XdpDevice::napi_id).
    pub busy_poll: bool,
    /// The rings say when the kernel must be woken.
    pub needs_wakeup: bool,
    /// Frames that one system call transmits in copy mode. `None`: the kernel is older than 6.17 and
    /// moves 32, so a full ring takes several calls.
    pub tx_budget: Option<u32>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let copy = if self.zero_copy { "zero-copy" } else { "copy" };
        let pages = if self.huge_pages { "huge pages" } else { "4 KiB pages" };
        let poll = if self.busy_poll { "busy poll" } else { "interrupts" };
        write!(f, "{copy}, {pages}, {poll}")?;
        if !self.needs_wakeup {
            write!(f, ", no needs_wakeup")?;
        }
        match self.tx_budget {
            Some(n) => write!(f, ", {n} frames per transmit call"),
            None => write!(f, ", {TX_BUDGET_DEFAULT} frames per transmit call (before Linux 6.17)"),
        }
    }
}

/// A socket with its rings. Closing it takes it out of every XSKMAP.
#[derive(Debug)]
pub(super) struct Xsk {
    pub(super) rx: Consumer<Desc>,
    pub(super) tx: Producer<Desc>,
    pub(super) fill: Producer<Addr>,
    pub(super) completion: Consumer<Addr>,
    fd: OwnedFd,
}

impl Xsk {
    /// A socket with `umem` and the rings of `options`, not bound yet: what is put in its fill ring
    /// now is there when the first frame arrives.
    pub(super) fn new(options: &XdpOptions, umem: &Umem) -> Result<Self, XdpError> {
        let failed = |source| open_error(options, source);
        let fd = socket().map_err(failed)?;
        umem.register(fd.as_fd())?;
        let at = fd.as_fd();
        Ok(Xsk {
            fill: Producer::new(at, Which::Fill, options.fill_ring).map_err(failed)?,
            completion: Consumer::new(at, Which::Completion, options.completion_ring)
                .map_err(failed)?,
            rx: Consumer::new(at, Which::Rx, options.rx_ring).map_err(failed)?,
            tx: Producer::new(at, Which::Tx, options.tx_ring).map_err(failed)?,
            fd,
        })
    }

    /// Binds to the queue of `options`, waiting a bounded time for a predecessor to let go of it.
    pub(super) fn bind(&self, options: &XdpOptions, interface: &Interface) -> Result<(), XdpError> {
        let mut waited = Duration::ZERO;
        let mut pause = Duration::from_millis(1);
        loop {
            let Err(error) = bind(self.fd(), options, interface) else { return Ok(()) };
            if error.raw_os_error() != Some(libc::EBUSY) || waited >= BUSY_WAIT {
                return Err(bind_error(options, interface, waited, error));
            }
            thread::sleep(pause);
            waited += pause;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// Asks for what cannot be asked in `bind`, then asks back what is in force.
    pub(super) fn negotiate(
        &self,
        options: &XdpOptions,
        interface: &Interface,
        huge_pages: bool,
    ) -> Result<Outcome, XdpError> {
        let granted = sockopt::get(self.fd(), libc::SOL_XDP, libc::XDP_OPTIONS, 0u32);
        let zero_copy = granted.map_err(|source| XdpError::Outcome {
            ifname: options.ifname.clone(),
            queue: options.queue,
            source,
        })? & libc::XDP_OPTIONS_ZEROCOPY
            != 0;
        if options.mode == Mode::ZeroCopy && !zero_copy {
            return Err(no_zero_copy(options, interface, "the kernel bound in copy mode".into()));
        }
        let budget = options.tx_ring;
        let tx_budget = sockopt::set(self.fd(), libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, budget).ok();
        Ok(Outcome {
            zero_copy,
            huge_pages,
            // The frames of a veth come within the sender's system call: there are no interrupts to
            // do without, and a call that looks for some finds none.
            busy_poll: interface.driver != "veth"
                && options.busy_poll.is_some_and(|wanted| self.prefer_busy_poll(wanted)),
            // A fresh TX ring asks to be woken if and only if the kernel honours the flag.
            needs_wakeup: self.tx.needs_wakeup(),
            tx_budget: tx_budget.map(|()| budget),
        })
    }

    /// How many times a full TX ring may have to be kicked until it is empty.
    pub(super) fn kicks_max(options: &XdpOptions, outcome: &Outcome) -> u32 {
        options.tx_ring.div_ceil(outcome.tx_budget.unwrap_or(TX_BUDGET_DEFAULT)) + 1
    }

    /// The socket's descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The NAPI that busy polling would drive; none until the first frame in copy mode, and none at
    /// all when the driver does not say which NAPI serves the queue.
    pub(super) fn napi_id(&self) -> io::Result<Option<u32>> {
        let id = sockopt::get(self.fd(), libc::SOL_SOCKET, SO_INCOMING_NAPI_ID, 0u32)?;
        Ok((id != 0).then_some(id))
    }

    /// Makes the kernel look at the TX ring; in copy mode it does all its work in here.
    pub(super) fn kick_tx(&self) -> io::Result<()> {
        let fd = self.fd().as_raw_fd();
        // SAFETY: an empty message; no memory is passed.
        let sent = unsafe {
            libc::sendto(fd, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Makes the kernel look at the fill ring. Its errors mean what those of the next call will.
    pub(super) fn kick_rx(&self) {
        let fd = self.fd().as_raw_fd();
        let nowhere = std::ptr::null_mut();
        // SAFETY: an empty buffer and no address; no memory is passed.
        unsafe {
            libc::recvfrom(
                fd,
                nowhere,
                0,
                libc::MSG_DONTWAIT,
                nowhere.cast(),
                std::ptr::null_mut(),
            );
        }
    }

    /// True when the kernel took all three settings and reads back those it lets one read.
    fn prefer_busy_poll(&self, wanted: BusyPoll) -> bool {
        let (fd, level) = (self.fd(), libc::SOL_SOCKET);
        let set = |name, value: u32| sockopt::set(fd, level, name, value).is_ok();
        let reads = |name, value: u32| sockopt::get(fd, level, name, 0).is_ok_and(|v| v == value);
        set(SO_PREFER_BUSY_POLL, 1)
            && set(SO_BUSY_POLL, wanted.timeout_us)
            && set(SO_BUSY_POLL_BUDGET, wanted.budget)
            && reads(SO_PREFER_BUSY_POLL, 1)
            && reads(SO_BUSY_POLL, wanted.timeout_us)
    }
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: takes and returns plain numbers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(fd: BorrowedFd<'_>, options: &XdpOptions, interface: &Interface) -> io::Result<()> {
    let copying = match options.mode {
        Mode::Auto => 0,
        Mode::ZeroCopy => libc::XDP_ZEROCOPY,
        Mode::Copy => libc::XDP_COPY,
    };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: copying | libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: interface.ifindex,
        sxdp_queue_id: options.queue,
        sxdp_shared_umem_fd: 0,
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is `len` readable bytes that live beyond the call.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn open_error(options: &XdpOptions, source: io::Error) -> XdpError {
    match source.raw_os_error() {
        Some(libc::EPERM) => XdpError::NotPermitted,
        Some(libc::EAFNOSUPPORT) => XdpError::NoSockets,
        _ => XdpError::Bind { ifname: options.ifname.clone(), queue: options.queue, source },
    }
}

fn bind_error(
    options: &XdpOptions,
    interface: &Interface,
    waited: Duration,
    error: io::Error,
) -> XdpError {
    let (ifname, queue) = (options.ifname.clone(), options.queue);
    match error.raw_os_error() {
        Some(libc::EBUSY) => XdpError::Busy { ifname, queue, waited_ms: waited.as_millis() as u64 },
        Some(libc::EPERM) => XdpError::NotPermitted,
        Some(libc::EOPNOTSUPP | libc::EINVAL) if options.mode == Mode::ZeroCopy => {
            no_zero_copy(options, interface, error.to_string())
        }
        _ => XdpError::Bind { ifname, queue, source: error },
    }
}

fn no_zero_copy(options: &XdpOptions, interface: &Interface, reason: String) -> XdpError {
    XdpError::NoZeroCopy {
        ifname: options.ifname.clone(),
        queue: options.queue,
        driver: interface.driver.clone(),
        reason,
    }
}
