//! One ring of an AF_XDP socket: descriptors between two indexes, in memory that the kernel shares. We
//! produce into the fill and TX rings and consume from the RX and completion rings; the kernel does the
//! other half. Each half keeps a copy of the other's index, and looks at it again only when the copy
//! says that there is too little; its own index it publishes once per batch. What the kernel writes is
//! judged by others; an index of it that cannot be counts for an empty or a full ring.

use crate::sys::sockopt;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Which of the four rings of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Rx,
    Tx,
    Fill,
    Completion,
}

/// An address in the umem, as the fill and completion rings have it.
pub(super) type Addr = u64;

/// A packet in the umem, as the RX and TX rings have it.
pub(super) type Desc = libc::xdp_desc;

/// The ring that we fill.
pub(super) struct Producer<D> {
    shared: Shared<D>,
    /// Where the next descriptor goes; published by [`Producer::submit`].
    next: u32,
    /// How far it may go, as was last seen of the kernel's index.
    limit: u32,
}

/// The ring that we empty.
pub(super) struct Consumer<D> {
    shared: Shared<D>,
    /// Where the next descriptor is; published by [`Consumer::release`].
    next: u32,
    /// Where they end, as was last seen of the kernel's index.
    limit: u32,
}

impl<D: Copy> Producer<D> {
    /// Makes the ring of a socket that is not bound yet.
    pub(super) fn new(fd: BorrowedFd<'_>, which: Which, size: u32) -> io::Result<Self> {
        Ok(Producer { shared: Shared::new(fd, which, size)?, next: 0, limit: size })
    }

    /// How many of `wanted` descriptors find room.
    pub(super) fn reserve(&mut self, wanted: u32) -> u32 {
        if self.limit.wrapping_sub(self.next) < wanted {
            self.limit = self.next.wrapping_add(self.shared.size - self.waiting());
        }
        self.limit.wrapping_sub(self.next).min(wanted)
    }

    /// Writes the next of the descriptors that [`Producer::reserve`] found room for.
    ///
    /// # Safety
    /// What it names belongs to the kernel from here on, until the kernel hands it back.
    ///
    /// # Panics
    /// When there is no room.
    pub(super) unsafe fn put(&mut self, desc: D) {
        assert!(self.next != self.limit, "the ring has room for what is put in it");
        // SAFETY: the kernel reads no place at or behind the published index.
        unsafe { self.shared.place(self.next).write(desc) };
        self.next = self.next.wrapping_add(1);
    }

    /// Shows the kernel everything that was put.
    pub(super) fn submit(&self) {
        self.shared.producer().store(self.next, Ordering::Release);
    }

    /// Descriptors that the kernel has not taken, as its index says now.
    pub(super) fn waiting(&self) -> u32 {
        let taken = self.shared.consumer().load(Ordering::Acquire);
        self.next.wrapping_sub(taken).min(self.shared.size)
    }

    /// The kernel wants a system call before it looks at this ring.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.shared.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

impl<D: Copy> Consumer<D> {
    /// Makes the ring of a socket that is not bound yet.
    pub(super) fn new(fd: BorrowedFd<'_>, which: Which, size: u32) -> io::Result<Self> {
        Ok(Consumer { shared: Shared::new(fd, which, size)?, next: 0, limit: 0 })
    }

    /// How many descriptors can be taken, at most `wanted`.
    pub(super) fn peek(&mut self, wanted: u32) -> u32 {
        if self.limit.wrapping_sub(self.next) < wanted {
            let end = self.shared.producer().load(Ordering::Acquire);
            let is_sound = end.wrapping_sub(self.next) <= self.shared.size;
            self.limit = if is_sound { end } else { self.next };
        }
        self.limit.wrapping_sub(self.next).min(wanted)
    }

    /// Takes the next of the descriptors that [`Consumer::peek`] found.
    ///
    /// # Panics
    /// When there is none.
    pub(super) fn take(&mut self) -> D {
        assert!(self.next != self.limit, "the ring holds what is taken from it");
        // SAFETY: the kernel has written this place before it published an index behind it, and writes
        // it again only when our index has passed it.
        let desc = unsafe { self.shared.place(self.next).read() };
        self.next = self.next.wrapping_add(1);
        desc
    }

    /// Gives the places of everything that was taken back to the kernel.
    pub(super) fn release(&self) {
        self.shared.consumer().store(self.next, Ordering::Release);
    }
}

impl<D> fmt::Debug for Producer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<D> fmt::Debug for Consumer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("next", &self.next).finish_non_exhaustive()
    }
}

/// The memory of a ring, mapped for as long as this lives.
struct Shared<D> {
    at: NonNull<u8>,
    n_bytes: usize,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    descs: NonNull<D>,
    /// Descriptors, a power of two.
    size: u32,
}

// SAFETY: the mapping belongs to this value alone, and nothing in it belongs to a thread.
unsafe impl<D: Send> Send for Shared<D> {}

impl<D> Shared<D> {
    fn new(fd: BorrowedFd<'_>, which: Which, size: u32) -> io::Result<Self> {
        assert!(size.is_power_of_two(), "the options demand a power of two");
        sockopt::set(fd, libc::SOL_XDP, which.option(), size)?;
        let offsets = which.offsets(&offsets(fd)?);
        let n_bytes = offsets.desc as usize + size as usize * size_of::<D>();
        // SAFETY: a fresh shared mapping of a ring of this socket, at an address the kernel chooses;
        // the result is checked below.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                n_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd.as_raw_fd(),
                which.page_offset(),
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast::<u8>()).expect("mmap never gives address zero unasked");
        // SAFETY: the kernel says where in the mapping these lie, aligned for what they are.
        unsafe {
            Ok(Shared {
                at,
                n_bytes,
                producer: at.add(offsets.producer as usize).cast(),
                consumer: at.add(offsets.consumer as usize).cast(),
                flags: at.add(offsets.flags as usize).cast(),
                descs: at.add(offsets.desc as usize).cast(),
                size,
            })
        }
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: mapped and aligned as long as `self` lives; both sides reach it as an atomic.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for the producer's index.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as for the producer's index.
        unsafe { self.flags.as_ref() }
    }

    /// The place of descriptor number `number`.
    fn place(&self, number: u32) -> NonNull<D> {
        // SAFETY: the mask keeps it within the `size` descriptors of the mapping.
        unsafe { self.descs.add((number & (self.size - 1)) as usize) }
    }
}

impl<D> Drop for Shared<D> {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; `&mut self` proves that no view of it lives.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.n_bytes) };
    }
}

impl Which {
    fn option(self) -> libc::c_int {
        match self {
            Which::Rx => libc::XDP_RX_RING,
            Which::Tx => libc::XDP_TX_RING,
            Which::Fill => libc::XDP_UMEM_FILL_RING,
            Which::Completion => libc::XDP_UMEM_COMPLETION_RING,
        }
    }

    fn page_offset(self) -> libc::off_t {
        match self {
            Which::Rx => libc::XDP_PGOFF_RX_RING,
            Which::Tx => libc::XDP_PGOFF_TX_RING,
            Which::Fill => libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t,
            Which::Completion => libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t,
        }
    }

    fn offsets(self, all: &libc::xdp_mmap_offsets) -> libc::xdp_ring_offset {
        match self {
            Which::Rx => all.rx,
            Which::Tx => all.tx,
            Which::Fill => all.fr,
            Which::Completion => all.cr,
        }
    }
}

/// Where in their mappings the kernel keeps the parts of the rings.
fn offsets(fd: BorrowedFd<'_>) -> io::Result<libc::xdp_mmap_offsets> {
    let none = || libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 };
    let empty = libc::xdp_mmap_offsets { rx: none(), tx: none(), fr: none(), cr: none() };
    sockopt::get(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, empty)
}
