//! The counters of one queue: what the kernel counts for the socket, and what the device counts
//! itself. Names and help are for people; nothing is aggregated or published here.

/// How many counters a device has.
pub const N_STATISTICS: usize = 18;

/// One counter: its name in snake case, its value, and a sentence on what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistic {
    /// The name users see.
    pub name: &'static str,
    /// Events since the device was opened.
    pub value: u64,
    /// What happened, and where it helps what to do about it.
    pub help: &'static str,
}

/// What the kernel has counted for a new socket.
pub(super) const NOTHING: libc::xdp_statistics = libc::xdp_statistics {
    rx_dropped: 0,
    rx_invalid_descs: 0,
    tx_invalid_descs: 0,
    rx_ring_full: 0,
    rx_fill_ring_empty_descs: 0,
    tx_ring_empty_descs: 0,
};

/// The counters without their values, in the order of every list.
pub fn statistics_list() -> [Statistic; N_STATISTICS] {
    Counters::default().list(&NOTHING)
}

/// What the device counts itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) rx_desc_outside_umem: u64,
    pub(super) rx_desc_outside_frame: u64,
    pub(super) rx_desc_empty: u64,
    pub(super) rx_desc_options: u64,
    pub(super) rx_desc_duplicate: u64,
    pub(super) completion_outside_umem: u64,
    pub(super) completion_duplicate: u64,
    pub(super) rx_kicks: u64,
    pub(super) tx_kicks: u64,
    pub(super) tx_kick_again: u64,
    pub(super) tx_kick_net_down: u64,
    pub(super) tx_kick_errors: u64,
}

impl Counters {
    /// All counters of the queue, the kernel's first.
    pub(super) fn list(&self, kernel: &libc::xdp_statistics) -> [Statistic; N_STATISTICS] {
        let row = |name, value, help| Statistic { name, value, help };
        [
            row(
                "xsk_rx_dropped",
                kernel.rx_dropped,
                "frames the kernel dropped for another reason, such as one larger than a umem frame",
            ),
            row(
                "xsk_rx_invalid_descs",
                kernel.rx_invalid_descs,
                "fill descriptors the kernel found invalid; never happens unless the umem is broken",
            ),
            row(
                "xsk_tx_invalid_descs",
                kernel.tx_invalid_descs,
                "TX descriptors the kernel found invalid; never happens unless the umem is broken",
            ),
            row(
                "xsk_rx_ring_full",
                kernel.rx_ring_full,
                "frames dropped because the RX ring was full: the worker is too slow or rx_ring too \
                 small",
            ),
            row(
                "xsk_rx_fill_ring_empty",
                kernel.rx_fill_ring_empty_descs,
                "times the kernel found no frame to receive into: too few frames, or fill_ring too \
                 small",
            ),
            row(
                "xsk_tx_ring_empty",
                kernel.tx_ring_empty_descs,
                "times the kernel came to the end of the TX ring; normal",
            ),
            row(
                "xsk_rx_desc_outside_umem",
                self.rx_desc_outside_umem,
                "received descriptors whose address is in no frame of the umem",
            ),
            row(
                "xsk_rx_desc_outside_frame",
                self.rx_desc_outside_frame,
                "received descriptors whose data cross the end of their frame",
            ),
            row("xsk_rx_desc_empty", self.rx_desc_empty, "received descriptors without data"),
            row(
                "xsk_rx_desc_options",
                self.rx_desc_options,
                "received descriptors of a packet in several frames, or with unknown options",
            ),
            row(
                "xsk_rx_desc_duplicate",
                self.rx_desc_duplicate,
                "received descriptors of a frame that the kernel did not have",
            ),
            row(
                "xsk_completion_outside_umem",
                self.completion_outside_umem,
                "completed addresses in no frame of the umem",
            ),
            row(
                "xsk_completion_duplicate",
                self.completion_duplicate,
                "completed addresses of a frame that was not being transmitted",
            ),
            row("xsk_rx_kicks", self.rx_kicks, "system calls made to wake reception"),
            row("xsk_tx_kicks", self.tx_kicks, "system calls made to wake transmission"),
            row(
                "xsk_tx_kick_again",
                self.tx_kick_again,
                "transmit calls that the kernel ended early, to be repeated",
            ),
            row(
                "xsk_tx_kick_net_down",
                self.tx_kick_net_down,
                "transmit calls while the interface was down",
            ),
            row(
                "xsk_tx_kick_errors",
                self.tx_kick_errors,
                "transmit calls that failed in an unexpected way; is the interface still there?",
            ),
        ]
    }
}
