//! Socket options as values. Only types whose every bit pattern is valid can be read.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A type the kernel can write: plain old data.
///
/// # Safety
/// Every bit pattern must be a valid value, and there must be no padding.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: any bits are a number.
unsafe impl Plain for i32 {}
// SAFETY: any bits are a number.
unsafe impl Plain for u32 {}
// SAFETY: any bytes are bytes.
unsafe impl Plain for [u8; libc::IFNAMSIZ] {}
// SAFETY: three 32-bit numbers without padding.
unsafe impl Plain for libc::ucred {}
// SAFETY: sixteen 64-bit numbers without padding.
unsafe impl Plain for libc::xdp_mmap_offsets {}
// SAFETY: two 64-bit numbers and four 32-bit numbers without padding.
unsafe impl Plain for libc::xdp_umem_reg {}
// SAFETY: six 64-bit numbers without padding.
unsafe impl Plain for libc::xdp_statistics {}

/// Sets option `name` of `level` to `value`.
pub(crate) fn set<T: Plain>(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: T,
) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is `len` readable bytes that live beyond the call.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads option `name` of `level`; `initial` only lends its memory.
pub(crate) fn get<T: Plain>(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    initial: T,
) -> io::Result<T> {
    let mut value = initial;
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is `len` writable bytes, and `Plain` promises that any bits make a valid `T`.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if len as usize != size_of::<T>() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("socket option {level}/{name}: expected {} bytes, got {len}", size_of::<T>()),
        ));
    }
    Ok(value)
}
