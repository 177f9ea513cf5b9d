//! The clock that drives the stack: `CLOCK_MONOTONIC` in nanoseconds, one origin for all workers of
//! the machine. A worker reads it once a turn. It says nothing about the time of day; for that,
//! [`boot_time`] tells when the origin was.

use barewire_stack::time::Instant;
use std::time::{Duration, SystemTime};

/// The present moment. A vDSO call, no system call, on every machine that AF_XDP runs on.
pub fn now() -> Instant {
    read(libc::CLOCK_MONOTONIC)
}

/// The CPU time that the calling thread has had: it stands while others run in its place. A system
/// call.
pub fn thread_cpu() -> Instant {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> Instant {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid timespec for the kernel to write, and lives beyond the call.
    let result = unsafe { libc::clock_gettime(clock, &raw mut ts) };
    assert_eq!(result, 0, "both clocks exist on every Linux");
    // These clocks are never negative, and 2^64 ns are 584 years.
    Instant::from_nanos(ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64)
}

/// The time of day at [`Instant::ZERO`], as the wall clock sees it now: add an instant's nanoseconds
/// to it for a timestamp that people can read.
pub fn boot_time() -> SystemTime {
    SystemTime::now() - Duration::from_nanos(now().as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_forward_by_what_was_slept() {
        let before = now();
        std::thread::sleep(Duration::from_millis(5));
        assert!((now() - before).as_millis() >= 5);
    }

    #[test]
    fn cpu_time_stands_while_the_thread_sleeps() {
        let before = thread_cpu();
        std::thread::sleep(Duration::from_millis(50));
        assert!((thread_cpu() - before).as_millis() < 40);
    }

    #[test]
    fn boot_time_plus_now_is_the_time_of_day() {
        let wall = boot_time() + Duration::from_nanos(now().as_nanos());
        let apart = wall.duration_since(SystemTime::now()).unwrap_or_else(|e| e.duration());
        assert!(apart < Duration::from_secs(1), "{apart:?}");
    }
}
