//! The bell of a worker's mailbox: an eventfd that another thread rings and that `ppoll` wakes for.
//! It carries no message and does not count how often it was rung.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// An eventfd, non-blocking, closed on exec.
#[derive(Debug)]
pub struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    /// A silent bell.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers; the result is checked before use.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
        Ok(EventFd { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Rings: the descriptor becomes readable until [`EventFd::clear`].
    pub fn ring(&self) {
        let one = 1u64;
        // SAFETY: eight readable bytes, as an eventfd takes. The one failure, EAGAIN when the
        // counter is full, means that the bell rings already.
        unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Silences the bell; true when it had been rung.
    pub fn clear(&self) -> bool {
        let mut count = 0u64;
        // SAFETY: eight writable bytes, as an eventfd gives. EAGAIN means that it was not rung.
        let n = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut count).cast(), 8) };
        n == 8
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rung_twice_is_cleared_once() {
        let bell = EventFd::new().expect("an eventfd");
        assert!(!bell.clear());
        bell.ring();
        bell.ring();
        assert!(bell.clear());
        assert!(!bell.clear());
    }
}
