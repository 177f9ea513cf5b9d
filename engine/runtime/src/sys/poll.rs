//! Waiting for several descriptors at once. What is readable is for the caller to find out.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// What to wait for on a descriptor, and what [`poll`] found.
#[derive(Clone, Copy, Debug)]
pub struct Interest<'a> {
    fd: BorrowedFd<'a>,
    events: libc::c_short,
    found: libc::c_short,
}

impl<'a> Interest<'a> {
    /// Nothing but that the other end is gone.
    pub fn new(fd: BorrowedFd<'a>) -> Self {
        Interest { fd, events: 0, found: 0 }
    }

    /// That there is something to read, too.
    pub fn read(self, wanted: bool) -> Self {
        Interest { events: self.events | if wanted { libc::POLLIN } else { 0 }, ..self }
    }

    /// That there is room to write, too.
    pub fn write(self, wanted: bool) -> Self {
        Interest { events: self.events | if wanted { libc::POLLOUT } else { 0 }, ..self }
    }

    /// Something that was waited for has come, or the other end is gone.
    pub fn is_ready(&self) -> bool {
        self.found != 0
    }
}

/// Waits until one of `interests` is ready or `timeout` has passed, rounded up to milliseconds. A
/// signal ends the wait early.
pub fn poll(interests: &mut [Interest<'_>], timeout: Duration) -> io::Result<()> {
    let wanted =
        |i: &Interest<'_>| libc::pollfd { fd: i.fd.as_raw_fd(), events: i.events, revents: 0 };
    let mut fds: Vec<libc::pollfd> = interests.iter().map(wanted).collect();
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    let millis = libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX);
    // SAFETY: `fds` is that many valid pollfds, whose descriptors are borrowed beyond the call.
    let n = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, millis) };
    if n < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    for (interest, fd) in interests.iter_mut().zip(&fds) {
        interest.found = if n > 0 { fd.revents } else { 0 };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn only_what_is_wanted_and_there_is_ready() {
        let (one, mut other) = UnixStream::pair().expect("a socket pair");
        let mut interests = [Interest::new(one.as_fd()).read(true), Interest::new(one.as_fd())];
        poll(&mut interests, Duration::ZERO).expect("polls");
        assert_eq!(interests.map(|i| i.is_ready()), [false, false]);
        other.write_all(b"x").expect("there is room");
        poll(&mut interests, Duration::from_secs(5)).expect("polls");
        assert_eq!(interests.map(|i| i.is_ready()), [true, false]);
        drop(other);
        poll(&mut interests, Duration::from_secs(5)).expect("polls");
        assert_eq!(interests.map(|i| i.is_ready()), [true, true]);
    }
}
