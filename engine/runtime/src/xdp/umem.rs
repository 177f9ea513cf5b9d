//! The memory of the frames, equal pieces of one region. Who may touch a frame when is not known here:
//! callers show the token, and `frames` knows whether it is good.

use super::error::XdpError;
use super::options::{HugePages, XdpOptions};
use crate::sys::memory;
use crate::sys::sockopt;
use barewire_stack::device::Frame;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::slice;

/// A umem of equal frames, mapped for as long as this lives.
#[derive(Debug)]
pub(super) struct Umem {
    at: NonNull<u8>,
    n_frames: u32,
    frame_bytes: u32,
    huge_pages: bool,
}

// SAFETY: the region belongs to this value alone, and nothing in it belongs to a thread.
unsafe impl Send for Umem {}

impl Umem {
    /// A umem as `options` ask for it. In huge pages the number of frames grows to fill the last one.
    pub(super) fn new(options: &XdpOptions) -> Result<Self, XdpError> {
        if options.huge_pages != HugePages::Never {
            let page = memory::huge_page_bytes().ok().flatten().unwrap_or(0);
            let frames_per_page = u32::try_from(page).unwrap_or(0) / options.frame_bytes;
            let n_frames = options.n_frames.next_multiple_of(frames_per_page.max(1));
            match Umem::map(n_frames, options.frame_bytes, true) {
                Ok(umem) => return Ok(umem),
                Err(source) if options.huge_pages == HugePages::Require => {
                    let n_bytes = u64::from(n_frames) * u64::from(options.frame_bytes);
                    return Err(XdpError::HugePages {
                        n_bytes,
                        n_pages: n_bytes / page.max(1),
                        source,
                    });
                }
                // Told in the outcome; the error of the ordinary attempt counts if that fails too.
                Err(_) => {}
            }
        }
        Umem::map(options.n_frames, options.frame_bytes, false).map_err(|source| {
            let n_bytes = u64::from(options.n_frames) * u64::from(options.frame_bytes);
            XdpError::Umem { n_bytes, source }
        })
    }

    fn map(n_frames: u32, frame_bytes: u32, huge_pages: bool) -> io::Result<Self> {
        let huge = if huge_pages { libc::MAP_HUGETLB } else { 0 };
        // SAFETY: a fresh private mapping at an address the kernel chooses; the result is checked
        // below.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                n_frames as usize * frame_bytes as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE | huge,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).expect("mmap never gives address zero unasked");
        Ok(Umem { at, n_frames, frame_bytes, huge_pages })
    }

    /// Makes it the umem of a socket that is not bound yet.
    pub(super) fn register(&self, fd: BorrowedFd<'_>) -> Result<(), XdpError> {
        let region = libc::xdp_umem_reg {
            addr: self.at.as_ptr() as u64,
            len: self.n_bytes() as u64,
            chunk_size: self.frame_bytes,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        sockopt::set(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, region)
            .map_err(|source| XdpError::Umem { n_bytes: self.n_bytes() as u64, source })
    }

    /// How many frames there are.
    pub(super) fn n_frames(&self) -> u32 {
        self.n_frames
    }

    /// True when the frames lie in huge pages.
    pub(super) fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// The data of `frame`.
    ///
    /// # Safety
    /// The frame must be in nobody else's hands: neither the kernel's nor another token's.
    #[inline]
    pub(super) unsafe fn bytes(&self, frame: &Frame) -> &[u8] {
        let room = self.room(frame);
        assert!(usize::from(frame.len()) <= room, "{frame:?} is longer than its frame");
        // SAFETY: within the frame, which by the caller's promise nobody writes while `self` is
        // borrowed.
        unsafe { slice::from_raw_parts(self.start(frame).as_ptr(), usize::from(frame.len())) }
    }

    /// Everything from the start of the data of `frame` to the end of the frame.
    ///
    /// # Safety
    /// As for [`Umem::bytes`].
    #[inline]
    pub(super) unsafe fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        let room = self.room(frame);
        // SAFETY: as in `bytes`; `&mut self` keeps every other view of this umem out.
        unsafe { slice::from_raw_parts_mut(self.start(frame).as_ptr(), room) }
    }

    /// Where the data of `frame` begin in the umem, and that they fit in their frame.
    #[inline]
    pub(super) fn address(&self, frame: &Frame) -> u64 {
        let room = self.room(frame);
        assert!(usize::from(frame.len()) <= room, "{frame:?} is longer than its frame");
        u64::from(frame.idx()) * u64::from(self.frame_bytes) + u64::from(frame.offset())
    }

    /// Bytes from the start of the data of `frame` to its end.
    #[inline]
    fn room(&self, frame: &Frame) -> usize {
        let (idx, offset) = (frame.idx(), u32::from(frame.offset()));
        assert!(idx < self.n_frames && offset < self.frame_bytes, "{frame:?} is none of this umem");
        (self.frame_bytes - offset) as usize
    }

    #[inline]
    fn start(&self, frame: &Frame) -> NonNull<u8> {
        let at = frame.idx() as usize * self.frame_bytes as usize + usize::from(frame.offset());
        // SAFETY: `room`, which callers have asked, holds frame and offset to what is in the region.
        unsafe { self.at.add(at) }
    }

    fn n_bytes(&self) -> usize {
        self.n_frames as usize * self.frame_bytes as usize
    }
}

impl Drop for Umem {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`; `&mut self` proves that no view of it lives, and
        // the kernel keeps the pages that a socket still has for itself.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.n_bytes()) };
    }
}
