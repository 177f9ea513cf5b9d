//! The limit on locked memory: a umem is charged against it unless the process has CAP_IPC_LOCK.

use std::io;

/// Raises the soft limit of `RLIMIT_MEMLOCK` to the hard one, and the hard one to infinity where the
/// process may. Returns the bytes that may now be locked; `None` is without bound.
pub fn raise_memlock() -> io::Result<Option<u64>> {
    let limit = memlock()?;
    let unbounded = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    if set_memlock(&unbounded).is_err() {
        set_memlock(&libc::rlimit { rlim_cur: limit.rlim_max, ..limit })?;
    }
    let now = memlock()?.rlim_cur;
    Ok((now != libc::RLIM_INFINITY).then_some(now))
}

fn memlock() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the kernel to write.
    match unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_memlock(limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: `limit` is a valid rlimit for the kernel to read.
    match unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reported_limit_is_the_one_in_force() {
        let reported = raise_memlock().expect("the soft limit may always rise to the hard one");
        let limit = memlock().expect("readable");
        assert_eq!(limit.rlim_cur, limit.rlim_max);
        assert_eq!(reported.unwrap_or(libc::RLIM_INFINITY), limit.rlim_cur);
    }
}
