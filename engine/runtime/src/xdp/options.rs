//! What to open: interface, queue, ring sizes, frames. Checked as a whole before anything is opened.
//! Defaults suit a 10 GbE queue; config text is parsed elsewhere.

use super::error::XdpError;
use barewire_stack::device::BATCH_MAX;

/// Smallest ring: one batch. (The kernel's transmit budget of 32 fits as well.)
pub const RING_MIN: u32 = BATCH_MAX as u32;
/// Largest ring: beyond it a full ring is latency, not throughput.
pub const RING_MAX: u32 = 32_768;
/// Most frames of one umem: 4 GiB at 4096 bytes.
pub const N_FRAMES_MAX: u32 = 1 << 20;

/// What the kernel keeps free in front of received data (`XDP_PACKET_HEADROOM`), in bytes.
pub(super) const XDP_HEADROOM_BYTES: u32 = 256;
/// Ethernet header and two VLAN tags, in bytes: what a frame needs beyond the MTU.
const L2_BYTES_MAX: u32 = 14 + 2 * 4;

/// How frames travel between the driver and the umem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Zero-copy where driver and program allow it, else copy; the outcome tells which.
    #[default]
    Auto,
    /// Zero-copy or an error.
    ZeroCopy,
    /// Copy, also where zero-copy would work. The mode that goes with a generic XDP program.
    Copy,
}

/// Whether the umem lies in huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Where enough of them are free, else in ordinary pages; the outcome tells which.
    #[default]
    Auto,
    /// Ordinary pages.
    Never,
    /// Huge pages or an error.
    Require,
}

/// Preferred busy polling: system calls of the worker drive the NIC's NAPI, in place of interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// Frames per poll (`SO_BUSY_POLL_BUDGET`).
    pub budget: u32,
    /// How long a poll may spin, in microseconds (`SO_BUSY_POLL`).
    pub timeout_us: u32,
}

/// What to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpOptions {
    /// Name of the interface.
    pub ifname: String,
    /// Queue of the interface, receiving and transmitting.
    pub queue: u32,
    /// Zero-copy or copy.
    pub mode: Mode,
    /// Descriptors in the RX ring. Like all rings a power of two.
    pub rx_ring: u32,
    /// Descriptors in the TX ring.
    pub tx_ring: u32,
    /// Descriptors in the fill ring. A zero-copy driver moves them on to the NIC's own ring.
    pub fill_ring: u32,
    /// Descriptors in the completion ring; no fewer than in the TX ring.
    pub completion_ring: u32,
    /// Frames of the umem, at least [`XdpOptions::n_frames_min`]; rounded up to whole huge pages.
    pub n_frames: u32,
    /// Bytes of one frame, 2048 or 4096. The first 256 are the kernel's headroom.
    pub frame_bytes: u32,
    /// Where the umem lies.
    pub huge_pages: HugePages,
    /// Busy polling, when wanted.
    pub busy_poll: Option<BusyPoll>,
}

impl XdpOptions {
    /// The defaults for one queue of an interface: rings of 2048, the fewest frames that go with
    /// them, 2048 bytes each.
    pub fn new(ifname: &str, queue: u32) -> Self {
        let mut options = XdpOptions {
            ifname: ifname.to_owned(),
            queue,
            mode: Mode::Auto,
            rx_ring: 2048,
            tx_ring: 2048,
            fill_ring: 2048,
            completion_ring: 2048,
            n_frames: 0,
            frame_bytes: 2048,
            huge_pages: HugePages::Auto,
            busy_poll: None,
        };
        options.n_frames = options.n_frames_min();
        options
    }

    /// The fewest frames with which neither direction can starve the other. Frames that the stack
    /// holds for longer than a turn come on top.
    pub fn n_frames_min(&self) -> u32 {
        self.reception_min().saturating_add(self.transmission_min())
    }

    /// Frames that reception can claim at any time: while an RX ring waits full to be read, the fill
    /// ring behind it can be full too.
    pub(super) fn reception_min(&self) -> u32 {
        self.fill_ring.saturating_add(self.rx_ring)
    }

    /// Frames that reception can never claim, so that a NIC that swallows fill descriptors into its
    /// own ring cannot stop transmission: a full TX ring, and a batch in each direction in the hands
    /// of the worker.
    pub(super) fn transmission_min(&self) -> u32 {
        self.tx_ring.saturating_add(2 * BATCH_MAX as u32)
    }

    /// Data bytes that fit in a frame.
    pub(super) fn data_bytes(&self) -> u32 {
        self.frame_bytes - XDP_HEADROOM_BYTES
    }

    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<(), XdpError> {
        let rings = [
            ("rx_ring", self.rx_ring),
            ("tx_ring", self.tx_ring),
            ("fill_ring", self.fill_ring),
            ("completion_ring", self.completion_ring),
        ];
        for (name, size) in rings {
            if !size.is_power_of_two() || !(RING_MIN..=RING_MAX).contains(&size) {
                return Err(XdpError::Options(format!(
                    "{name} must be a power of two from {RING_MIN} to {RING_MAX}, and is {size}"
                )));
            }
        }
        if self.completion_ring < self.tx_ring {
            return Err(XdpError::Options(format!(
                "completion_ring must be no smaller than tx_ring, or a full TX ring cannot drain: \
                 they are {} and {}",
                self.completion_ring, self.tx_ring
            )));
        }
        if !matches!(self.frame_bytes, 2048 | 4096) {
            return Err(XdpError::Options(format!(
                "frame_bytes must be 2048 or 4096, and is {}",
                self.frame_bytes
            )));
        }
        self.check_frames()
    }

    fn check_frames(&self) -> Result<(), XdpError> {
        let min = self.n_frames_min();
        if !(min..=N_FRAMES_MAX).contains(&self.n_frames) {
            return Err(XdpError::Options(format!(
                "n_frames must be from {min} (fill_ring {} + rx_ring {} + tx_ring {} + two batches \
                 of {BATCH_MAX}) to {N_FRAMES_MAX}, and is {}",
                self.fill_ring, self.rx_ring, self.tx_ring, self.n_frames
            )));
        }
        Ok(())
    }

    /// Refuses an MTU that does not fit in a frame, with the sizes that would do.
    pub(super) fn check_mtu(&self, mtu: u32) -> Result<(), XdpError> {
        let mtu_max = self.data_bytes() - L2_BYTES_MAX;
        if mtu <= mtu_max {
            return Ok(());
        }
        let remedy = if self.frame_bytes < 4096 && mtu <= 4096 - XDP_HEADROOM_BYTES - L2_BYTES_MAX {
            "set frame_bytes = 4096, or lower the MTU".to_owned()
        } else {
            format!("lower the MTU: ip link set {} mtu {mtu_max}", self.ifname)
        };
        Err(XdpError::Mtu { ifname: self.ifname.clone(), mtu, mtu_max, remedy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut XdpOptions)) -> String {
        let mut options = XdpOptions::new("d0", 0);
        change(&mut options);
        options.check().expect_err("must be refused").to_string()
    }

    #[test]
    fn the_defaults_pass_and_hold_their_sum() {
        let options = XdpOptions::new("d0", 0);
        options.check().expect("the defaults are sound");
        options.check_mtu(1500).expect("Ethernet fits");
        assert_eq!(options.n_frames, 3 * 2048 + 2 * 64);
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        assert!(refused(|o| o.rx_ring = 1000).contains("rx_ring"));
        assert!(refused(|o| o.tx_ring = 32).contains("tx_ring"));
        assert!(refused(|o| o.fill_ring = 1 << 16).contains("fill_ring"));
        assert!(refused(|o| o.fill_ring = u32::MAX).contains("fill_ring"));
        assert!(refused(|o| o.completion_ring = 1024).contains("completion_ring"));
        assert!(refused(|o| o.frame_bytes = 3000).contains("frame_bytes"));
        assert!(refused(|o| o.n_frames -= 1).contains("n_frames must be from 6272"));
        assert!(refused(|o| o.n_frames = N_FRAMES_MAX + 1).contains("n_frames"));
    }

    #[test]
    fn an_mtu_beyond_the_frame_is_refused_with_the_remedy() {
        let mut options = XdpOptions::new("d0", 0);
        let remedy = |o: &XdpOptions, mtu| o.check_mtu(mtu).expect_err("too large").to_string();
        options.check_mtu(1770).expect("1770 + 22 + 256 = 2048");
        assert!(remedy(&options, 1771).contains("frame_bytes = 4096"));
        assert!(remedy(&options, 9000).contains("ip link set d0 mtu 1770"));
        options.frame_bytes = 4096;
        options.check_mtu(3818).expect("3818 + 22 + 256 = 4096");
        assert!(remedy(&options, 9000).contains("mtu 3818"));
    }
}
