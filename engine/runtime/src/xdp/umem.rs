//! The memory of the frames, and the descriptor that says where the data of each begin. Who may touch
//! a frame when is not known here: callers show the token, and `frames` knows whether it is good.

use super::error::XdpError;
use super::options::{HugePages, XdpOptions};
use crate::sys::memory;
use barewire_stack::device::Frame;
use std::error::Error;
use std::io;
use std::num::NonZeroU32;
use std::slice;
use xsk_rs::FrameDesc;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};

/// A umem of equal frames.
#[derive(Debug)]
pub(super) struct Umem {
    region: xsk_rs::Umem,
    /// Each frame with its data at the headroom's end, as long as fits.
    home: Box<[FrameDesc]>,
    /// Each frame with its data where they are now, always as long as fits: how many of these bytes
    /// mean something is in the token.
    descs: Box<[FrameDesc]>,
    huge_pages: bool,
}

impl Umem {
    /// A umem as `options` ask for it. In huge pages the number of frames grows to fill the last one.
    pub(super) fn new(options: &XdpOptions) -> Result<Self, XdpError> {
        if options.huge_pages != HugePages::Never {
            let page = memory::huge_page_bytes().ok().flatten().unwrap_or(0);
            let frames_per_page = u32::try_from(page).unwrap_or(0) / options.frame_bytes;
            let n_frames = options.n_frames.next_multiple_of(frames_per_page.max(1));
            match allocate(options, n_frames, true) {
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
        allocate(options, options.n_frames, false).map_err(|source| {
            if source.raw_os_error() == Some(libc::EPERM) {
                return XdpError::NotPermitted;
            }
            let n_bytes = u64::from(options.n_frames) * u64::from(options.frame_bytes);
            XdpError::Umem { n_bytes, source }
        })
    }

    /// The region, to make a socket of it.
    pub(super) fn region(&self) -> &xsk_rs::Umem {
        &self.region
    }

    /// How many frames there are.
    pub(super) fn n_frames(&self) -> u32 {
        // No more than N_FRAMES_MAX and what fills one huge page.
        self.home.len() as u32
    }

    /// True when the frames lie in huge pages.
    pub(super) fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// The descriptor of frame `idx` with its data back at the headroom's end.
    pub(super) fn reset(&mut self, idx: u32) -> FrameDesc {
        self.descs[idx as usize] = self.home[idx as usize];
        self.home[idx as usize]
    }

    /// Takes note of where the kernel put the data of frame `idx`.
    pub(super) fn received(&mut self, idx: u32, desc: FrameDesc) {
        self.descs[idx as usize] = widest(&self.region, desc);
    }

    /// The descriptor to transmit `frame` with. (A descriptor knows no length of its own until it is
    /// told one; without it the kernel drops the frame as invalid and never completes it.)
    pub(super) fn to_send(&self, frame: &Frame) -> FrameDesc {
        let mut desc = self.descs[frame.idx() as usize];
        // SAFETY: the descriptor came from this umem, and the view is dropped at once; nothing is
        // read or written through it.
        let mut data = unsafe { self.region.data_mut(&mut desc) };
        let mut cursor = data.cursor();
        cursor.set_pos(usize::from(frame.len()));
        assert_eq!(cursor.pos(), usize::from(frame.len()), "{frame:?} is longer than its frame");
        desc
    }

    /// The data of `frame`.
    ///
    /// # Safety
    /// The frame must be in nobody else's hands: neither the kernel's nor another token's.
    pub(super) unsafe fn bytes(&self, frame: &Frame) -> &[u8] {
        let desc = &self.descs[frame.idx() as usize];
        // SAFETY: the descriptor came from this umem and spans no more than its frame, which by the
        // caller's promise nobody writes while `self` is borrowed.
        let data = unsafe { self.region.data(desc) };
        &data.contents()[..usize::from(frame.len())]
    }

    /// Everything from the start of the data of `frame` to the end of the frame.
    ///
    /// # Safety
    /// As for [`Umem::bytes`].
    pub(super) unsafe fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        let desc = &mut self.descs[frame.idx() as usize];
        // SAFETY: as in `bytes`; `&mut self` keeps every other view of this umem out.
        let mut data = unsafe { self.region.data_mut(desc) };
        let contents = data.contents_mut();
        let (start, len) = (contents.as_mut_ptr(), contents.len());
        // SAFETY: the very slice of the line above, for as long as `self` stays borrowed: the memory
        // belongs to the region, which `self` owns.
        unsafe { slice::from_raw_parts_mut(start, len) }
    }
}

fn allocate(options: &XdpOptions, n_frames: u32, huge_pages: bool) -> io::Result<Umem> {
    let n_frames = NonZeroU32::new(n_frames).expect("the options demand many frames");
    let (region, descs) =
        xsk_rs::Umem::new(config(options), n_frames, huge_pages).map_err(|e| os_error(&e))?;
    let home: Box<[FrameDesc]> = descs.into_iter().map(|desc| widest(&region, desc)).collect();
    Ok(Umem { region, descs: home.clone(), home, huge_pages })
}

fn config(options: &XdpOptions) -> UmemConfig {
    let ring = |size| QueueSize::new(size).expect("the options demand a power of two");
    UmemConfig::builder()
        .frame_size(FrameSize::new(options.frame_bytes).expect("the options demand 2048 or more"))
        .fill_queue_size(ring(options.fill_ring))
        .comp_queue_size(ring(options.completion_ring))
        .frame_headroom(0)
        .build()
        .expect("a power of two above the headroom")
}

/// `desc` with as many data bytes as its frame has behind their start.
fn widest(region: &xsk_rs::Umem, mut desc: FrameDesc) -> FrameDesc {
    // SAFETY: the descriptor came from this region (or was judged to lie in one of its frames), and
    // the view is dropped at once; nothing is read or written through it.
    let mut data = unsafe { region.data_mut(&mut desc) };
    data.cursor().set_pos(usize::MAX);
    desc
}

/// The kernel's error behind one of xsk-rs.
pub(super) fn os_error(error: &(dyn Error + 'static)) -> io::Error {
    let cause = error.source().and_then(|e| e.downcast_ref::<io::Error>());
    match cause.and_then(io::Error::raw_os_error) {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error.to_string()),
    }
}
