//! Memory as the kernel accounts it: what this process has resident, and how large a huge page is.

use std::fs;
use std::io;

/// Bytes of physical memory this process occupies, shared pages included (`/proc/self/statm`).
pub fn resident_bytes() -> io::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    // Fields are in pages: total size, resident, shared, ...
    let pages: u64 = second_field(&statm).ok_or_else(|| unreadable("/proc/self/statm", &statm))?;
    Ok(pages * page_bytes())
}

/// Bytes that new work may take without swapping (`MemAvailable` in `/proc/meminfo`).
pub fn available_bytes() -> io::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let line = meminfo.lines().find(|line| line.starts_with("MemAvailable:")).unwrap_or_default();
    let kib: u64 = second_field(line).ok_or_else(|| unreadable("/proc/meminfo", line))?;
    Ok(kib * 1024)
}

/// Bytes of one huge page of the default size (`Hugepagesize` in `/proc/meminfo`), or `None` on a
/// kernel without them.
pub fn huge_page_bytes() -> io::Result<Option<u64>> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let Some(line) = meminfo.lines().find(|line| line.starts_with("Hugepagesize:")) else {
        return Ok(None);
    };
    let kib: u64 = second_field(line).ok_or_else(|| unreadable("/proc/meminfo", line))?;
    Ok(Some(kib * 1024))
}

/// From now on the allocator takes every block of 16 KiB or more from the kernel by itself, and gives
/// it back when it is freed: pages of connections come and go, and what stays in a heap between others
/// would be resident for ever. For the whole process, so programs choose it, not the library. False
/// where the allocator has no such setting.
pub fn return_freed_blocks() -> bool {
    const BLOCK_BYTES_MIN: libc::c_int = 16 << 10;
    // SAFETY: takes and returns plain numbers; glibc guards its settings itself.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, BLOCK_BYTES_MIN) == 1 }
}

fn second_field(line: &str) -> Option<u64> {
    line.split_whitespace().nth(1)?.parse().ok()
}

fn unreadable(path: &str, found: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{path}: expected a number as second field, found {found:?}"),
    )
}

fn page_bytes() -> u64 {
    // SAFETY: takes and returns plain numbers.
    let n = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(n).expect("the page size is always known")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_memory_becomes_resident() {
        let before = resident_bytes().expect("statm is readable");
        let block = vec![1u8; 64 << 20];
        let after = resident_bytes().expect("statm is readable");
        assert_eq!(block[block.len() / 2], 1);
        assert!(after > before + (32 << 20), "{before} -> {after}");
    }

    #[test]
    fn freed_blocks_go_back() {
        assert!(return_freed_blocks());
        let blocks: Vec<Vec<u8>> = (0..2048).map(|_| vec![1; 64 << 10]).collect();
        let full = resident_bytes().expect("statm is readable");
        // One of each sixteen stays, as connections do that live on.
        let left: Vec<_> = blocks.into_iter().step_by(16).collect();
        let after = resident_bytes().expect("statm is readable");
        assert!(after + (96 << 20) < full, "{full} -> {after} with {} left", left.len());
    }

    #[test]
    fn some_memory_is_available() {
        assert!(available_bytes().expect("meminfo is readable") > page_bytes());
    }

    #[test]
    fn a_huge_page_is_larger_than_a_page() {
        let bytes = huge_page_bytes().expect("meminfo is readable");
        assert!(bytes.is_none_or(|n| n > page_bytes()), "{bytes:?}");
    }
}
