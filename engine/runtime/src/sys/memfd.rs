//! A page of counters that other processes may read: `AtomicU64` slots in a memfd, reachable as
//! `/proc/PID/fd/N`. One thread writes a slot, anybody reads it; what a slot means is laid down
//! elsewhere. The size is sealed, so no reader can shrink the memory under a worker's feet.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

/// The largest page: 1 Mi slots, 8 MiB.
pub const N_SLOTS_MAX: usize = 1 << 20;

/// Shared memory of `u64` slots, all zero at first.
#[derive(Debug)]
pub struct SharedPage {
    fd: OwnedFd,
    slots: NonNull<AtomicU64>,
    n_slots: usize,
}

// SAFETY: the mapping is reached only as atomics through `&self`, and lives until the last owner
// drops it; nothing in it belongs to a thread.
unsafe impl Send for SharedPage {}
// SAFETY: as for `Send`: all access is by atomic loads and stores.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// A page of `n_slots` zero slots; `name` is what `/proc/PID/fd` shows.
    pub fn new(name: &str, n_slots: usize) -> io::Result<Self> {
        if n_slots == 0 || n_slots > N_SLOTS_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a shared page holds 1 to {N_SLOTS_MAX} slots, not {n_slots}"),
            ));
        }
        let n_bytes = n_slots * size_of::<AtomicU64>();
        let fd = sealed_memfd(name, n_bytes)?;
        // SAFETY: a fresh shared mapping of a descriptor we own, at an address the kernel chooses;
        // the result is checked below.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                n_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let slots = NonNull::new(at.cast()).expect("mmap never gives address zero unasked");
        Ok(SharedPage { fd, slots, n_slots })
    }

    /// Publishes `value` in slot `idx`. Relaxed: each slot is a number by itself, and a reader may
    /// see one slot newer than its neighbour.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn store(&self, idx: usize, value: u64) {
        self.slots()[idx].store(value, Ordering::Relaxed);
    }

    /// What slot `idx` holds.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn load(&self, idx: usize) -> u64 {
        self.slots()[idx].load(Ordering::Relaxed)
    }

    /// How many slots there are.
    pub fn n_slots(&self) -> usize {
        self.n_slots
    }

    /// The descriptor's number N, for readers of `/proc/PID/fd/N`.
    pub fn fd_number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn slots(&self) -> &[AtomicU64] {
        // SAFETY: the mapping spans `n_slots` slots, is page-aligned, started as zero bytes, cannot
        // shrink (sealed) and is unmapped only in `drop`. Other processes write it only as memory,
        // which atomics allow.
        unsafe { slice::from_raw_parts(self.slots.as_ptr(), self.n_slots) }
    }
}

impl AsFd for SharedPage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        let n_bytes = self.n_slots * size_of::<AtomicU64>();
        // SAFETY: exactly the mapping made in `new`; `&mut self` proves that no slice of it lives.
        unsafe { libc::munmap(self.slots.as_ptr().cast(), n_bytes) };
    }
}

/// A memfd of `n_bytes` zero bytes that can neither grow nor shrink any more.
fn sealed_memfd(name: &str, n_bytes: usize) -> io::Result<OwnedFd> {
    let name = CString::new(name).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "a shared page's name holds no zero byte")
    })?;
    // SAFETY: `name` is a zero-terminated string that lives beyond the call.
    let fd =
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: no pointers are passed, and the descriptor is open.
    let sealed = unsafe {
        libc::ftruncate(fd.as_raw_fd(), n_bytes as libc::off_t) == 0
            && libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) == 0
    };
    if sealed { Ok(fd) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};

    #[test]
    fn another_reader_sees_what_was_stored() {
        let page = SharedPage::new("test-page", 3).expect("a page");
        page.store(2, 0x0102_0304_0506_0708);
        let bytes = fs::read(format!("/proc/self/fd/{}", page.fd_number())).expect("readable");
        assert_eq!(bytes.len(), 3 * 8);
        assert_eq!(bytes[16..], 0x0102_0304_0506_0708u64.to_ne_bytes());
        assert_eq!((page.load(0), page.load(2)), (0, 0x0102_0304_0506_0708));
    }

    #[test]
    fn nobody_can_shrink_the_page() {
        let page = SharedPage::new("test-page", 512).expect("a page");
        let path = format!("/proc/self/fd/{}", page.fd_number());
        let file = OpenOptions::new().write(true).open(path).expect("opens for writing");
        assert!(file.set_len(0).is_err());
        assert_eq!(page.load(511), 0);
    }

    #[test]
    fn sizes_without_sense_are_refused() {
        for n_slots in [0, N_SLOTS_MAX + 1] {
            assert!(SharedPage::new("test-page", n_slots).is_err());
        }
        assert!(SharedPage::new("zero\0byte", 1).is_err());
    }
}
