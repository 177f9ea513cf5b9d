//! `[interface]`: the network device, its queues and rings, and which addresses the engine owns on
//! it. Whether the device exists and what it can do is for the daemon to find out.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::prefix::{PortRange, Prefix};
use super::{ConfigError, in_range};
use crate::text::word_enum;

/// The most queues, and so workers, of one daemon.
pub const QUEUES_MAX: u32 = 256;

/// The most entries of `addresses`, and of `prefixes`.
pub const PREFIXES_MAX: usize = 64;

/// Ring sizes are powers of two from here ...
pub const RING_MIN: u32 = 64;

/// ... to here.
pub const RING_MAX: u32 = 32_768;

/// The most frames of one queue: 2 GiB of them at 2048 bytes.
pub const FRAMES_MAX: u32 = 1 << 20;

/// The fewest frames that an impairment may hold: what comes in and goes out in one turn, all of it
/// doubled.
pub const IMPAIR_FRAMES_MIN: u32 = 4 * 64;

/// Longest interface name that the kernel takes (`IFNAMSIZ` less the final zero).
const DEV_BYTES_MAX: usize = 15;

word_enum! {
    /// How frames cross between NIC and engine.
    pub enum Mode: "auto, zerocopy, copy or generic" {
        /// Native XDP with zero-copy where the driver can, and what it can where not; reported.
        Auto = "auto",
        /// Native XDP with zero-copy or refuse to start.
        ZeroCopy = "zerocopy",
        /// Native XDP with copies.
        Copy = "copy",
        /// The kernel's generic XDP, which works on every device, with copies.
        Generic = "generic",
    }
}

word_enum! {
    /// Who holds the addresses.
    pub enum Ownership: "owned or shared" {
        /// The engine alone: it answers ARP and ICMP echo for addresses the kernel does not have.
        Owned = "owned",
        /// The kernel keeps the addresses; only listener ports and `port_range` come to the engine.
        Shared = "shared",
    }
}

word_enum! {
    /// What becomes of a frame that is ours but arrives on a queue without a socket.
    pub enum OnMissing: "pass or drop" {
        /// The kernel gets it.
        Pass = "pass",
        /// It is dropped and counted.
        Drop = "drop",
    }
}

word_enum! {
    /// Whether the checksums of received segments are computed.
    pub enum RxChecksum: "auto, verify or trust" {
        /// Verified, except on virtual devices that deliver frames without finished checksums.
        Auto = "auto",
        /// Always verified.
        Verify = "verify",
        /// Never: the NIC has done it.
        Trust = "trust",
    }
}

word_enum! {
    /// Whether connections are opened from ports whose answers arrive at the queue of their worker.
    pub enum RssUse: "auto, required or observe" {
        /// Where the driver tells how it spreads flows; elsewhere frames that arrive at another
        /// worker are handed over. Reported. The driver is given its own key and table again after
        /// the program is attached, for some lose them then.
        Auto = "auto",
        /// Or refuse to start, and end when the driver's answers cease to hold.
        Required = "required",
        /// Never, and nothing is written: frames that arrive at another worker are handed over.
        Observe = "observe",
    }
}

word_enum! {
    /// What a worker does when nothing happens.
    pub enum Poll: "adaptive or busy" {
        /// Turns in vain for at most 50 us, less where that has not paid, and then sleeps in `poll` until
        /// a frame, a timer or a command.
        Adaptive = "adaptive",
        /// Keeps turning, and asks the kernel for busy polling; not on a veth, which has no interrupts.
        Busy = "busy",
    }
}

word_enum! {
    /// Where the umem lives.
    pub enum HugePages: "auto, never or require" {
        /// Huge pages when there are some, small pages otherwise; reported.
        Auto = "auto",
        /// Small pages.
        Never = "never",
        /// Huge pages or refuse to start.
        Require = "require",
    }
}

/// The device and what the engine owns on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Interface {
    /// Name of the network device.
    pub dev: String,
    /// How many queues to serve, from queue 0 on; all receive queues of the device when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queues: Option<u32>,
    /// How frames cross between NIC and engine.
    pub mode: Mode,
    /// Who holds the addresses.
    pub ownership: Ownership,
    /// The engine's own addresses with the length of their network, the first being the source of
    /// connections that name none. With `shared` ownership they may be absent: the kernel's are used.
    pub addresses: Vec<Prefix>,
    /// Further prefixes, every address of which is the engine's own: load-test clients.
    pub prefixes: Vec<Prefix>,
    /// Next hop for destinations outside the networks of `addresses`. Without one every destination
    /// is taken to be on the link, as with a route that names only a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// Neighbours (next hops with their MAC address) that a worker remembers.
    pub neighbors_max: u32,
    /// Pins the XDP program and its maps, so that they outlive the daemon.
    pub persist: bool,
    /// What becomes of our frames on a queue without a socket.
    pub on_missing: OnMissing,
    /// Whether the checksums of received segments are computed.
    pub rx_checksum: RxChecksum,
    /// Whether connections are opened from ports whose answers arrive at the queue of their worker.
    pub rss: RssUse,
    /// What a worker does when nothing happens.
    pub poll: Poll,
    /// CPUs for the workers, one each in the order of queues; chosen by the daemon when empty.
    pub cpus: Vec<u32>,
    /// Descriptors of the RX ring, a power of two.
    pub rx_max: u32,
    /// Descriptors of the TX ring, a power of two.
    pub tx_max: u32,
    /// Descriptors of the fill ring, a power of two.
    pub fill_max: u32,
    /// Descriptors of the completion ring, a power of two.
    pub completion_max: u32,
    /// Bytes of one frame: 2048 or 4096.
    pub frame_bytes: u32,
    /// Frames of one queue that an impairment may hold back at a time. Beyond them frames are
    /// dropped, so this bounds delay times rate: 1024 full frames in 5 ms are 2.4 Gbit/s.
    pub impair_frames_max: u32,
    /// Frames of one queue's umem; computed by [`Interface::frames`] when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames_max: Option<u32>,
    /// Where the umem lives.
    pub huge_pages: HugePages,
    /// With `shared` ownership: the local ports of active opens. The default lies above the kernel's
    /// own default range (`net.ipv4.ip_local_port_range`).
    pub port_range: PortRange,
}

impl Default for Interface {
    fn default() -> Self {
        Interface {
            dev: String::new(),
            queues: None,
            mode: Mode::Auto,
            ownership: Ownership::Owned,
            addresses: Vec::new(),
            prefixes: Vec::new(),
            gateway: None,
            neighbors_max: 4_096,
            persist: false,
            on_missing: OnMissing::Pass,
            rx_checksum: RxChecksum::Auto,
            rss: RssUse::Auto,
            poll: Poll::Adaptive,
            cpus: Vec::new(),
            rx_max: 2_048,
            tx_max: 2_048,
            fill_max: 2_048,
            completion_max: 2_048,
            frame_bytes: 2_048,
            impair_frames_max: 1_024,
            frames_max: None,
            huge_pages: HugePages::Auto,
            port_range: PortRange::new(61_000, 65_535).expect("61000 is below 65535"),
        }
    }
}

impl Interface {
    /// Frames of one queue's umem: `frames_max`, or the fewest with which no ring ever waits for a
    /// frame.
    pub fn frames(&self) -> u32 {
        self.frames_max.unwrap_or_else(|| self.frames_needed())
    }

    /// One frame for every place where one can be.
    fn frames_needed(&self) -> u32 {
        /// Twice the device's largest batch: one coming in and one going out in the worker's turn.
        const HELD: u32 = 2 * 64;
        self.fill_max // waiting for the NIC
            .saturating_add(self.rx_max) // received, not yet taken by the worker
            .saturating_add(self.tx_max) // waiting for the NIC to send
            .saturating_add(self.completion_max) // sent, not yet reclaimed
            .saturating_add(HELD)
            .saturating_add(self.impair_frames_max) // held back by an impairment
    }

    /// True when `addr` is one that the engine owns.
    pub fn owns(&self, addr: Ipv4Addr) -> bool {
        self.addresses.iter().any(|address| address.addr() == addr)
            || self.prefixes.iter().any(|prefix| prefix.contains(addr))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_dev()?;
        self.check_workers()?;
        self.check_rings()?;
        self.check_addresses()?;
        in_range("interface.neighbors_max", u64::from(self.neighbors_max), 1, 1 << 20)?;
        self.check_prefixes()
    }

    fn check_dev(&self) -> Result<(), ConfigError> {
        if self.dev.is_empty() {
            return Err(ConfigError::new(
                "interface.dev",
                "expected the name of a network device, found none",
                "give --dev or set `dev` in [interface]; `ip link` lists the devices",
            ));
        }
        if self.dev.len() > DEV_BYTES_MAX || self.dev.contains(['/', ' ', '\0']) {
            return Err(ConfigError::new(
                "interface.dev",
                format!("expected a device name of at most 15 bytes, found `{}`", self.dev),
                "`ip link` lists the devices",
            ));
        }
        Ok(())
    }

    fn check_workers(&self) -> Result<(), ConfigError> {
        if let Some(queues) = self.queues {
            in_range("interface.queues", u64::from(queues), 1, u64::from(QUEUES_MAX))?;
            if !self.cpus.is_empty() && self.cpus.len() < queues as usize {
                return Err(ConfigError::new(
                    "interface.cpus",
                    format!(
                        "expected a CPU for each of {queues} queues, found {}",
                        self.cpus.len()
                    ),
                    "name as many CPUs as queues, or none to let the daemon choose",
                ));
            }
        }
        let mut cpus = self.cpus.clone();
        cpus.sort_unstable();
        match cpus.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(ConfigError::new(
                "interface.cpus",
                format!("expected each CPU once, found {} twice", pair[0]),
                "give every worker a CPU of its own",
            )),
            None => Ok(()),
        }
    }

    fn check_rings(&self) -> Result<(), ConfigError> {
        for (place, n) in [
            ("interface.rx_max", self.rx_max),
            ("interface.tx_max", self.tx_max),
            ("interface.fill_max", self.fill_max),
            ("interface.completion_max", self.completion_max),
        ] {
            if !n.is_power_of_two() || !(RING_MIN..=RING_MAX).contains(&n) {
                let nearest = n.clamp(RING_MIN, RING_MAX).next_power_of_two();
                return Err(ConfigError::new(
                    place,
                    format!("expected a power of two from {RING_MIN} to {RING_MAX}, found {n}"),
                    format!("use {nearest}"),
                ));
            }
        }
        if ![2_048, 4_096].contains(&self.frame_bytes) {
            return Err(ConfigError::new(
                "interface.frame_bytes",
                format!("expected 2048 or 4096, found {}", self.frame_bytes),
                "use 2048 unless the MTU is above 1500",
            ));
        }
        in_range(
            "interface.impair_frames_max",
            u64::from(self.impair_frames_max),
            u64::from(IMPAIR_FRAMES_MIN),
            u64::from(FRAMES_MAX / 2),
        )?;
        let Some(frames) = self.frames_max else { return Ok(()) };
        if frames < self.frames_needed() || frames > FRAMES_MAX {
            return Err(ConfigError::new(
                "interface.frames_max",
                format!(
                    "expected from {} (the sum of the rings, two batches and impair_frames_max) to \
                     {FRAMES_MAX}, found {frames}",
                    self.frames_needed()
                ),
                "leave it out, or make the rings smaller",
            ));
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        let place = "interface.addresses";
        in_range(place, self.addresses.len() as u64, 0, PREFIXES_MAX as u64)?;
        for (idx, address) in self.addresses.iter().enumerate() {
            let addr = address.addr();
            let is_net_end =
                address.len() < 31 && (addr == address.network() || addr == address.broadcast());
            if is_net_end || !is_unicast(addr) {
                return Err(ConfigError::new(
                    place,
                    format!("expected the address of a host, found {address}"),
                    "write one address of the network with the network's length: 10.99.0.2/24",
                ));
            }
            if self.addresses[..idx].iter().any(|other| other.addr() == addr) {
                return Err(ConfigError::new(
                    place,
                    format!("expected each address once, found {addr} twice"),
                    "remove one",
                ));
            }
        }
        match self.gateway {
            Some(gateway) if self.owns(gateway) => Err(ConfigError::new(
                "interface.gateway",
                format!("expected the address of a router, found {gateway}, which the engine owns"),
                "give another gateway or keep it out of `addresses` and `prefixes`",
            )),
            Some(gateway) if !is_unicast(gateway) => Err(ConfigError::new(
                "interface.gateway",
                format!("expected the address of a router, found {gateway}"),
                "give the address of a host on the link",
            )),
            _ => Ok(()),
        }
    }

    fn check_prefixes(&self) -> Result<(), ConfigError> {
        let place = "interface.prefixes";
        in_range(place, self.prefixes.len() as u64, 0, PREFIXES_MAX as u64)?;
        match (self.ownership, self.prefixes.first()) {
            (Ownership::Shared, Some(prefix)) => {
                return Err(ConfigError::new(
                    place,
                    format!("expected none with shared ownership, found {prefix}"),
                    "use ownership = \"owned\": the kernel would answer for these addresses too",
                ));
            }
            (Ownership::Owned, None) if self.addresses.is_empty() => {
                return Err(ConfigError::new(
                    "interface.addresses",
                    "expected an address for the engine to own, found none",
                    "give --addr, such as --addr 10.99.0.2/24, or use ownership = \"shared\"",
                ));
            }
            _ => {}
        }
        for (idx, prefix) in self.prefixes.iter().enumerate() {
            check_network(place, prefix)?;
            if let Some(other) = self.prefixes[..idx].iter().find(|other| other.overlaps(prefix)) {
                return Err(ConfigError::new(
                    place,
                    format!("expected separate prefixes, found {other} and {prefix}"),
                    "keep the wider one",
                ));
            }
        }
        Ok(())
    }
}

/// Refuses a set of addresses that is written with host bits, or that takes in addresses no host has.
pub(super) fn check_network(place: &str, prefix: &Prefix) -> Result<(), ConfigError> {
    if prefix.has_host_bits() {
        return Err(ConfigError::new(
            place,
            format!("expected a prefix without host bits, found {prefix}"),
            format!("write {}/{} or {}/32", prefix.network(), prefix.len(), prefix.addr()),
        ));
    }
    // Anything shorter than a /8 takes in addresses that belong to others.
    if prefix.len() < 8 || !is_unicast(prefix.addr()) {
        return Err(ConfigError::new(
            place,
            format!("expected a prefix of unicast addresses, /8 or longer, found {prefix}"),
            "use private addresses such as 10.1.0.0/16",
        ));
    }
    Ok(())
}

/// An address that one host may have: not 0.0.0.0/8, loopback, multicast, reserved or broadcast.
fn is_unicast(addr: Ipv4Addr) -> bool {
    let first = addr.octets()[0];
    first != 0 && first != 127 && first < 224
}
