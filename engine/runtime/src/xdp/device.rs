//! A NIC queue as a [`Device`]: batches of frames in and out of an AF_XDP socket. Each call first
//! reclaims what was sent and refills what was received, so neither direction stalls while the worker
//! works. It neither knows what is in a frame nor decides when to sleep.

use super::error::XdpError;
use super::frames::{BadDesc, Frames, Place};
use super::options::XdpOptions;
use super::ring::Desc;
use super::socket::{Outcome, Xsk};
use super::statistics::{Counters, N_STATISTICS, NOTHING, Statistic};
use super::umem::Umem;
use crate::sys::interface::Interface;
use crate::sys::sockopt;
use barewire_stack::device::{Batch, Device, Frame, Ledger};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// Why [`XdpDevice::wait`] returned; neither is a timeout (or a signal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Frames wait in the RX ring.
    pub frames: bool,
    /// The other descriptor became readable.
    pub wakeup: bool,
}

/// One queue of a NIC. Opened on any thread, then owned by the worker's.
pub struct XdpDevice {
    options: XdpOptions,
    interface: Interface,
    outcome: Outcome,
    umem: Umem,
    frames: Frames,
    xsk: Xsk,
    counters: Counters,
    kicks_max: u32,
}

impl XdpDevice {
    /// Opens the queue and posts frames for reception. Nothing arrives until [`XdpDevice::as_fd`] is
    /// in the XSKMAP of a program on the interface.
    pub fn open(options: &XdpOptions) -> Result<Self, XdpError> {
        options.check()?;
        let interface = Interface::named(&options.ifname)?;
        if options.queue >= interface.n_queues() {
            return Err(XdpError::NoSuchQueue {
                ifname: options.ifname.clone(),
                queue: options.queue,
                n_queues: interface.n_queues(),
            });
        }
        options.check_mtu(interface.mtu)?;
        let umem = Umem::new(options)?;
        let mut xsk = Xsk::new(options, &umem)?;
        let mut frames = Frames::new(umem.n_frames(), options.frame_bytes);
        refill(options, &mut frames, &mut xsk);
        xsk.bind(options, &interface)?;
        let outcome = xsk.negotiate(options, &interface, umem.huge_pages())?;
        Ok(XdpDevice {
            options: options.clone(),
            interface,
            outcome,
            frames,
            umem,
            xsk,
            counters: Counters::default(),
            kicks_max: Xsk::kicks_max(options, &outcome),
        })
    }

    /// What the kernel granted.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The interface as it was when the device was opened: hardware address, MTU, driver.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The queue of the interface.
    pub fn queue(&self) -> u32 {
        self.options.queue
    }

    /// The NAPI that busy polling drives. `None` before the first frame in copy mode; `None` after it
    /// means that the driver does not say which NAPI serves the queue, so that busy polling does
    /// nothing although it is on.
    pub fn napi_id(&self) -> io::Result<Option<u32>> {
        self.xsk.napi_id()
    }

    /// All counters of the queue: the kernel's and the device's own. One system call.
    pub fn statistics(&self) -> io::Result<[Statistic; N_STATISTICS]> {
        let kernel = sockopt::get(self.as_fd(), libc::SOL_XDP, libc::XDP_STATISTICS, NOTHING)?;
        Ok(self.counters.list(&kernel))
    }

    /// The ledger counted again frame by frame: slow, for tests and for the end of a run. It equals
    /// [`Device::ledger`], or there is a bug.
    pub fn audit(&self) -> Ledger {
        self.frames.recount()
    }

    /// Sleeps until frames wait, `wakeup` is readable or `timeout` has passed (`None`: for ever). The
    /// kernel goes on transmitting what is in the TX ring.
    pub fn wait(&self, timeout: Option<Duration>, wakeup: BorrowedFd<'_>) -> io::Result<Wake> {
        let read = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [read(self.as_fd().as_raw_fd()), read(wakeup.as_raw_fd())];
        let limit = timeout.map(|t| libc::timespec {
            // Saturates at 292 billion years.
            tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(t.subsec_nanos().cast_signed()),
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: two valid pollfds; the timespec, if any, and both descriptors live beyond the call.
        let n = unsafe { libc::ppoll(fds.as_mut_ptr(), 2, limit, std::ptr::null()) };
        if n < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
            return Ok(Wake { frames: false, wakeup: false });
        }
        Ok(Wake {
            frames: fds[0].revents & libc::POLLIN != 0,
            wakeup: fds[1].revents & libc::POLLIN != 0,
        })
    }

    /// Takes back every frame the kernel has sent. At most a ring of them.
    fn reclaim(&mut self) {
        let n = self.xsk.completion.peek(self.options.completion_ring);
        for _ in 0..n {
            match self.frames.complete(self.xsk.completion.take()) {
                Ok(_) => {}
                Err(BadDesc::Duplicate) => self.counters.completion_duplicate += 1,
                Err(_) => self.counters.completion_outside_umem += 1,
            }
        }
        if n > 0 {
            self.xsk.completion.release();
        }
    }

    /// Sees to it that the kernel works on the TX ring, when there is something in it and the kernel
    /// wants to be told. In copy mode one call may move only part of the ring, so it is repeated
    /// while the ring gets shorter; what is left then goes with the next call or the next turn.
    fn flush(&mut self) {
        let mut waiting = self.tx_waiting();
        for _ in 0..self.kicks_max {
            if waiting == 0 || !(self.xsk.tx.needs_wakeup() || self.outcome.busy_poll) {
                return;
            }
            self.counters.tx_kicks += 1;
            let Err(error) = self.xsk.kick_tx() else { return };
            match error.raw_os_error() {
                // The call's budget or the socket's memory is used up, or the driver's ring is full;
                // ENOBUFS: the completion ring is.
                Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => {
                    self.counters.tx_kick_again += 1
                }
                Some(libc::ENETDOWN) => {
                    self.counters.tx_kick_net_down += 1;
                    return;
                }
                _ => {
                    self.counters.tx_kick_errors += 1;
                    return;
                }
            }
            self.reclaim();
            let left = self.tx_waiting();
            if left == waiting {
                return;
            }
            waiting = left;
        }
    }

    /// Descriptors in the TX ring that the kernel has not taken yet.
    fn tx_waiting(&self) -> u32 {
        self.xsk.tx.waiting()
    }

    fn wake_rx(&mut self) {
        if self.xsk.fill.needs_wakeup() || self.outcome.busy_poll {
            self.counters.rx_kicks += 1;
            self.xsk.kick_rx();
        }
    }

    fn refuse(&mut self, bad: BadDesc) {
        let counter = match bad {
            BadDesc::OutsideUmem => &mut self.counters.rx_desc_outside_umem,
            BadDesc::OutsideFrame => &mut self.counters.rx_desc_outside_frame,
            BadDesc::Empty => &mut self.counters.rx_desc_empty,
            BadDesc::Options => &mut self.counters.rx_desc_options,
            BadDesc::Duplicate => &mut self.counters.rx_desc_duplicate,
        };
        *counter += 1;
    }

    /// Holds callers to tokens that this device minted and has not got back.
    fn assert_held(&self, frame: &Frame) {
        assert!(self.frames.is_held(frame.idx()), "{frame:?} is no token of this device");
    }
}

impl Device for XdpDevice {
    fn rx_batch(&mut self, batch: &mut Batch) -> usize {
        self.reclaim();
        refill(&self.options, &mut self.frames, &mut self.xsk);
        self.flush();
        let before = batch.len();
        let n = self.xsk.rx.peek(batch.room() as u32);
        if n == 0 {
            self.wake_rx();
            return 0;
        }
        for _ in 0..n {
            let Desc { addr, len, options } = self.xsk.rx.take();
            match self.frames.receive(addr, u64::from(len), options) {
                Ok(frame) => batch.push(frame),
                Err(bad) => self.refuse(bad),
            }
        }
        self.xsk.rx.release();
        batch.len() - before
    }

    fn tx_batch(&mut self, batch: &mut Batch) -> usize {
        self.reclaim();
        let n = self.xsk.tx.reserve(batch.len() as u32) as usize;
        for frame in batch.drain(n) {
            assert!(frame.len() > 0, "the kernel would keep an empty frame for ever");
            let desc =
                Desc { addr: self.umem.address(&frame), len: u32::from(frame.len()), options: 0 };
            let moved = self.frames.shift(frame.idx(), Place::Held, Place::Tx);
            assert!(moved, "{frame:?} is no token of this device");
            // SAFETY: a frame of this umem whose token ends here, so it is in no other ring; the
            // ledger says Tx, so no view of it is made until it completes.
            unsafe { self.xsk.tx.put(desc) };
        }
        self.xsk.tx.submit();
        self.flush();
        n
    }

    fn alloc(&mut self) -> Option<Frame> {
        self.frames.alloc(&self.options)
    }

    fn release(&mut self, frame: Frame) {
        let moved = self.frames.shift(frame.idx(), Place::Held, Place::Free);
        assert!(moved, "{frame:?} is no token of this device");
    }

    fn bytes(&self, frame: &Frame) -> &[u8] {
        self.assert_held(frame);
        // SAFETY: the frame is held, so the kernel does not have it; writing needs `&mut self`.
        unsafe { self.umem.bytes(frame) }
    }

    fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        self.assert_held(frame);
        // SAFETY: the frame is held, so the kernel does not have it; `&mut self` keeps all other
        // views out.
        unsafe { self.umem.bytes_mut(frame) }
    }

    fn ledger(&self) -> Ledger {
        self.frames.ledger()
    }
}

/// Fills the fill ring as far as free frames go.
fn refill(options: &XdpOptions, frames: &mut Frames, xsk: &mut Xsk) {
    let n = xsk.fill.reserve(frames.to_fill(options).min(options.fill_ring));
    for _ in 0..n {
        let idx = frames.take_free(Place::Fill).expect("to_fill counts free frames");
        // SAFETY: a frame of this umem that was free until now, so it is in no other ring and in no
        // token; the ledger says Fill, so no view of it is made until it comes back.
        unsafe { xsk.fill.put(frames.address(idx)) };
    }
    if n > 0 {
        xsk.fill.submit();
    }
}

impl AsFd for XdpDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.xsk.fd()
    }
}

impl fmt::Debug for XdpDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XdpDevice")
            .field("ifname", &self.options.ifname)
            .field("queue", &self.options.queue)
            .field("outcome", &self.outcome)
            .field("ledger", &self.frames.ledger())
            .finish_non_exhaustive()
    }
}
