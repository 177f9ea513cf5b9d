//! The Rust twin of `abi.h`: names, bounds, keys, values and verdicts of the steering program's
//! maps. Plain values that turn into bytes and back; nothing here talks to the kernel. The layout
//! is asserted below at compile time, and against the BTF of the compiled C in `tests/abi.rs`.

use std::fmt;
use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `STEER_MAGIC`: tells our config map from a foreign one.
pub const MAGIC: u32 = 0x6261_7265;
/// `STEER_ABI_VERSION`: changes with every change of a layout or of a meaning.
pub const ABI_VERSION: u32 = 1;

/// Name of the XDP program in the object and in the kernel.
pub const PROGRAM: &str = "steer";
/// File name of the link in a directory of pins; each map is pinned beside it under its own name.
pub const LINK: &str = "link";
/// Parent of the directories of pins, each named for its interface.
pub const PIN_ROOT: &str = "/sys/fs/bpf/barewire";

/// ARRAY of one [`Config`].
pub const MAP_CONFIG: &str = "config";
/// XSKMAP: queue to AF_XDP socket.
pub const MAP_XSKS: &str = "xsks";
/// LPM_TRIE of [`PrefixKey`] to [`PRESENT`].
pub const MAP_PREFIXES: &str = "prefixes";
/// HASH of [`ListenerKey`] to [`PRESENT`].
pub const MAP_LISTENERS: &str = "listeners";
/// HASH of [`Address`] to [`PortRange`].
pub const MAP_PORT_RANGES: &str = "port_ranges";
/// PERCPU_ARRAY of [`Verdict`] to a number of frames, `u64`.
pub const MAP_VERDICTS: &str = "verdicts";
/// Every map of the object.
pub const MAPS: [&str; 6] =
    [MAP_CONFIG, MAP_XSKS, MAP_PREFIXES, MAP_LISTENERS, MAP_PORT_RANGES, MAP_VERDICTS];

/// The most queues of one interface.
pub const QUEUES_MAX: u32 = 1024;
/// The most owned prefixes.
pub const PREFIXES_MAX: u32 = 1024;
/// The most listeners.
pub const LISTENERS_MAX: u32 = 1024;
/// The most port ranges, one for each address.
pub const PORT_RANGES_MAX: u32 = 1024;
/// How many IPv6 extension headers the program follows to find the transport header.
pub const EXTENSION_HEADERS_MAX: u32 = 4;

/// The value of a set's member, in maps that only say whether a key is there.
pub const PRESENT: u8 = 1;

/// What happens to a frame of ours on a queue that has no socket. The values are the XDP actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum OnMissing {
    /// It is dropped: established peers retry, and the kernel cannot answer them with a reset.
    Drop = 1,
    /// The kernel gets it, and refuses what it has no listener for.
    Pass = 2,
}

impl OnMissing {
    /// The word for it in configuration and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            OnMissing::Drop => "drop",
            OnMissing::Pass => "pass",
        }
    }
}

/// `struct steer_config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    magic: u32,
    abi_version: u32,
    enabled: u32,
    on_missing: u32,
}

impl Config {
    /// A config of this ABI.
    pub fn new(enabled: bool, on_missing: OnMissing) -> Self {
        Config {
            magic: MAGIC,
            abi_version: ABI_VERSION,
            enabled: u32::from(enabled),
            on_missing: on_missing as u32,
        }
    }

    /// Reads the value of a config map, which somebody else may have written.
    pub fn parse(bytes: &[u8]) -> Result<Self, ForeignConfig> {
        let config =
            Config::read_from_bytes(bytes).map_err(|_| ForeignConfig::Size(bytes.len()))?;
        if config.magic != MAGIC {
            return Err(ForeignConfig::Magic(config.magic));
        }
        if config.abi_version != ABI_VERSION {
            return Err(ForeignConfig::Version(config.abi_version));
        }
        Ok(config)
    }

    /// Whether the program steers at all; when not, every frame goes to the kernel.
    pub fn enabled(&self) -> bool {
        self.enabled != 0
    }

    /// What happens on a queue without a socket; the program takes any unknown value for pass.
    pub fn on_missing(&self) -> OnMissing {
        if self.on_missing == OnMissing::Drop as u32 { OnMissing::Drop } else { OnMissing::Pass }
    }
}

/// Why a config map is not one of this ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ForeignConfig {
    /// The value has another size.
    #[error("its config should have {size} bytes, and {0} were found", size = size_of::<Config>())]
    Size(usize),
    /// The value was never written, or by somebody else.
    #[error("its config should start with {MAGIC:#010x}, and {0:#010x} was found")]
    Magic(u32),
    /// Another barewire wrote it.
    #[error("this barewire needs steering ABI {ABI_VERSION}, and version {0} was found")]
    Version(u32),
}

/// `struct steer_address`: IPv6, or IPv4 as `::ffff:a.b.c.d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Address([u8; 16]);

impl Address {
    /// Any address of either family, in a listener or a port range.
    pub const ANY: Address = Address([0; 16]);

    /// The address, or any when there is none or it is unspecified (`0.0.0.0`, `::`).
    pub fn new(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(v4)) if !v4.is_unspecified() => Address(v4.to_ipv6_mapped().octets()),
            Some(IpAddr::V6(v6)) => Address(v6.octets()),
            _ => Address::ANY,
        }
    }

    /// The address in its own family, or `None` for any.
    pub fn ip(self) -> Option<IpAddr> {
        (self != Address::ANY).then(|| Ipv6Addr::from(self.0).to_canonical())
    }
}

/// A prefix that user space owns: all its addresses are the engine's, and none the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    bits: u8,
}

impl Prefix {
    /// Checks that `address/len` is a prefix that can be owned.
    pub fn new(address: IpAddr, len: u8) -> Result<Self, BadPrefix> {
        let address = address.to_canonical();
        let len_max = if address.is_ipv4() { 32 } else { 128 };
        if len > len_max {
            return Err(BadPrefix::TooLong { address, len, len_max });
        }
        let key = PrefixKey::of(address, len);
        let mapped_ipv4 = PrefixKey::of(IpAddr::from([0, 0, 0, 0]), 0);
        if mapped_ipv4.network(key.len) == key.address.0 && key.len <= mapped_ipv4.len {
            return Err(BadPrefix::TooShort { address, len });
        }
        let network = key.network(key.len);
        if network != key.address.0 {
            let network = Ipv6Addr::from(network).to_canonical();
            return Err(BadPrefix::HostBits { address, len, network });
        }
        Ok(Prefix { address, bits: len })
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The length in bits, in the address's own family.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The key of the trie.
    pub fn key(&self) -> PrefixKey {
        PrefixKey::of(self.address, self.bits)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Why a prefix cannot be owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadPrefix {
    /// More bits than the family has.
    #[error("{address}/{len} is no prefix: the length is at most {len_max}")]
    TooLong {
        /// As given.
        address: IpAddr,
        /// As given.
        len: u8,
        /// Of the family.
        len_max: u8,
    },
    /// It would take every IPv4 address, and so the kernel's own.
    #[error("{address}/{len} would own every IPv4 address; name the prefixes that are yours")]
    TooShort {
        /// As given.
        address: IpAddr,
        /// As given.
        len: u8,
    },
    /// The address is not the first of its prefix.
    #[error(
        "{address}/{len} has bits behind the prefix; write {network}/{len} for all of it, or \
         {address} with the full length for the one address"
    )]
    HostBits {
        /// As given.
        address: IpAddr,
        /// As given.
        len: u8,
        /// The prefix without those bits.
        network: IpAddr,
    },
}

/// `struct steer_prefix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PrefixKey {
    len: u32,
    address: Address,
}

impl PrefixKey {
    fn of(address: IpAddr, len: u8) -> Self {
        match address {
            IpAddr::V4(v4) => PrefixKey {
                len: u32::from(len) + IPV4_MAPPED_BITS,
                address: Address(v4.to_ipv6_mapped().octets()),
            },
            IpAddr::V6(v6) => PrefixKey { len: u32::from(len), address: Address(v6.octets()) },
        }
    }

    /// The key of a trie entry, as aya gives it: its length and its address.
    pub fn new(len: u32, address: [u8; 16]) -> Self {
        PrefixKey { len, address: Address(address) }
    }

    /// The prefix that this key stands for, or `None` for a key that [`Prefix::new`] refuses.
    pub fn prefix(&self) -> Option<Prefix> {
        let address = Ipv6Addr::from(self.address.0).to_canonical();
        let len = match address {
            IpAddr::V4(_) => self.len.checked_sub(IPV4_MAPPED_BITS)?,
            IpAddr::V6(_) => self.len,
        };
        Prefix::new(address, u8::try_from(len).ok()?).ok()
    }

    /// The address with all but the first `len` bits cleared.
    fn network(&self, len: u32) -> [u8; 16] {
        let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
        (u128::from_be_bytes(self.address.0) & mask).to_be_bytes()
    }
}

/// How many bits `::ffff:0:0/96` puts before an IPv4 address.
const IPV4_MAPPED_BITS: u32 = 96;

/// `struct steer_listener`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ListenerKey {
    address: Address,
    /// Network byte order.
    port: [u8; 2],
    zero: u16,
}

impl ListenerKey {
    /// TCP to `port` of `address`, or of any address.
    pub fn new(address: Option<IpAddr>, port: u16) -> Self {
        ListenerKey { address: Address::new(address), port: port.to_be_bytes(), zero: 0 }
    }

    /// The listener that this key stands for.
    pub fn listener(&self) -> Listener {
        Listener { address: self.address.ip(), port: u16::from_be_bytes(self.port) }
    }
}

/// A port that the engine takes of an address that the kernel has; `None` is any address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Whose port.
    pub address: Option<IpAddr>,
    /// TCP.
    pub port: u16,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}", SocketAddr::new(address, self.port)),
            None => write!(f, "*:{}", self.port),
        }
    }
}

/// The local ports of active opens that the engine takes of an address; `None` is any address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPorts {
    /// Whose ports.
    pub address: Option<IpAddr>,
    /// TCP, both ends included.
    pub ports: RangeInclusive<u16>,
}

impl fmt::Display for LocalPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = Listener { address: self.address, port: *self.ports.start() };
        write!(f, "{first}-{}", self.ports.end())
    }
}

/// `struct steer_port_range`: both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortRange {
    /// The first port.
    pub low: u16,
    /// The last port.
    pub high: u16,
}

/// `enum steer_verdict`: what became of a frame. Every frame is counted under exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Verdict {
    /// Given to the socket of its queue.
    Redirect,
    /// Ours, its queue has no socket, passed.
    MissingPass,
    /// Ours, its queue has no socket, dropped.
    MissingDrop,
    /// The kill switch is on.
    PassDisabled,
    /// Truncated, or lengths that contradict each other.
    PassMalformed,
    /// Neither ARP nor IP.
    PassEthertype,
    /// A VLAN other than 0.
    PassVlan,
    /// ARP for an address that is not owned.
    PassArp,
    /// Not owned, and not TCP.
    PassProtocol,
    /// Not owned, and TCP to a port that is not listed.
    PassPort,
    /// Not owned, and a later fragment.
    PassFragment,
    /// Ours, but in fragments.
    DropFragment,
    /// Owned, but neither TCP nor ICMP.
    DropProtocol,
}

impl Verdict {
    /// All of them, in the order of their numbers.
    pub const ALL: [Verdict; 13] = [
        Verdict::Redirect,
        Verdict::MissingPass,
        Verdict::MissingDrop,
        Verdict::PassDisabled,
        Verdict::PassMalformed,
        Verdict::PassEthertype,
        Verdict::PassVlan,
        Verdict::PassArp,
        Verdict::PassProtocol,
        Verdict::PassPort,
        Verdict::PassFragment,
        Verdict::DropFragment,
        Verdict::DropProtocol,
    ];

    /// The name of its counter.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Redirect => "redirect",
            Verdict::MissingPass => "missing_pass",
            Verdict::MissingDrop => "missing_drop",
            Verdict::PassDisabled => "pass_disabled",
            Verdict::PassMalformed => "pass_malformed",
            Verdict::PassEthertype => "pass_ethertype",
            Verdict::PassVlan => "pass_vlan",
            Verdict::PassArp => "pass_arp",
            Verdict::PassProtocol => "pass_protocol",
            Verdict::PassPort => "pass_port",
            Verdict::PassFragment => "pass_fragment",
            Verdict::DropFragment => "drop_fragment",
            Verdict::DropProtocol => "drop_protocol",
        }
    }

    /// One line for whoever sees the counter.
    pub fn help(self) -> &'static str {
        match self {
            Verdict::Redirect => "frames given to the AF_XDP socket of their queue",
            Verdict::MissingPass => "frames for the engine on a queue without a socket, passed",
            Verdict::MissingDrop => "frames for the engine on a queue without a socket, dropped",
            Verdict::PassDisabled => "frames passed because steering is switched off",
            Verdict::PassMalformed => {
                "frames passed because their headers are cut or contradictory"
            }
            Verdict::PassEthertype => "frames passed because they are neither ARP nor IP",
            Verdict::PassVlan => "frames passed because they are in a VLAN other than 0",
            Verdict::PassArp => "ARP frames passed because their target address is not owned",
            Verdict::PassProtocol => "packets passed because they are not TCP and not owned",
            Verdict::PassPort => "TCP segments passed because their port is not listed",
            Verdict::PassFragment => "later fragments passed because they show no port",
            Verdict::DropFragment => "fragments for the engine dropped: it does not reassemble",
            Verdict::DropProtocol => "packets for owned addresses dropped: neither TCP nor ICMP",
        }
    }

    /// What the program told the kernel to do with the frame.
    pub fn action(self) -> Action {
        match self {
            Verdict::Redirect => Action::Redirect,
            Verdict::MissingDrop | Verdict::DropFragment | Verdict::DropProtocol => Action::Drop,
            _ => Action::Pass,
        }
    }
}

/// The XDP actions that the program returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    /// `XDP_DROP`
    Drop = 1,
    /// `XDP_PASS`
    Pass = 2,
    /// `XDP_REDIRECT`
    Redirect = 4,
}

const _: () = {
    assert!(size_of::<Config>() == 16);
    assert!(offset_of!(Config, abi_version) == 4);
    assert!(offset_of!(Config, enabled) == 8);
    assert!(offset_of!(Config, on_missing) == 12);
    assert!(size_of::<Address>() == 16);
    assert!(size_of::<PrefixKey>() == 20);
    assert!(offset_of!(PrefixKey, address) == 4);
    assert!(size_of::<ListenerKey>() == 20);
    assert!(offset_of!(ListenerKey, port) == 16);
    assert!(size_of::<PortRange>() == 4);
    assert!(offset_of!(PortRange, high) == 2);
    let mut number = 0;
    while number < Verdict::ALL.len() {
        assert!(Verdict::ALL[number] as usize == number);
        number += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Result<Prefix, BadPrefix> {
        let (address, len) = text.split_once('/').expect("address/len");
        Prefix::new(address.parse().expect("address"), len.parse().expect("len"))
    }

    #[test]
    fn a_prefix_comes_back_from_its_key() {
        for text in ["10.1.0.0/16", "10.0.0.2/32", "128.0.0.0/1", "2001:db8::/32", "fe80::1/128"] {
            let prefix = prefix(text).expect("a good prefix");
            assert_eq!(prefix.to_string(), text);
            assert_eq!(prefix.key().prefix(), Some(prefix));
        }
        assert_eq!(prefix("::ffff:10.0.0.2/32").map(|p| p.to_string()), Ok("10.0.0.2/32".into()));
    }

    #[test]
    fn a_prefix_that_takes_the_kernels_addresses_is_refused() {
        for text in ["0.0.0.0/0", "::/0", "::/80", "::/1"] {
            assert!(matches!(prefix(text), Err(BadPrefix::TooShort { .. })), "{text}");
        }
        assert!(matches!(prefix("10.0.0.0/33"), Err(BadPrefix::TooLong { len_max: 32, .. })));
        let error = prefix("10.1.2.3/16").expect_err("host bits");
        assert!(error.to_string().contains("10.1.0.0/16"), "{error}");
    }

    #[test]
    fn unspecified_and_absent_addresses_mean_any() {
        for any in [None, Some("0.0.0.0"), Some("::")] {
            let address = any.map(|text| text.parse().expect("address"));
            let listener = ListenerKey::new(address, 80).listener();
            assert_eq!(listener, Listener { address: None, port: 80 });
        }
        let key = ListenerKey::new(Some(IpAddr::from([10, 0, 0, 2])), 7000);
        assert_eq!(key.listener().to_string(), "10.0.0.2:7000");
        assert_eq!(&key.as_bytes()[10..18], [0xff, 0xff, 10, 0, 0, 2, 0x1b, 0x58]);
    }

    #[test]
    fn listeners_and_port_ranges_print_as_people_write_them() {
        let loopback = Some(IpAddr::from(Ipv6Addr::LOCALHOST));
        assert_eq!(Listener { address: None, port: 80 }.to_string(), "*:80");
        assert_eq!(Listener { address: loopback, port: 80 }.to_string(), "[::1]:80");
        let ports = LocalPorts { address: None, ports: 40000..=49999 };
        assert_eq!(ports.to_string(), "*:40000-49999");
    }

    #[test]
    fn a_foreign_config_is_refused_with_what_was_found() {
        let config = Config::new(true, OnMissing::Drop);
        assert_eq!(Config::parse(config.as_bytes()), Ok(config));
        assert_eq!(Config::parse(&[0; 16]), Err(ForeignConfig::Magic(0)));
        assert_eq!(Config::parse(&[0; 12]), Err(ForeignConfig::Size(12)));
        let newer = Config { abi_version: ABI_VERSION + 1, ..config };
        assert_eq!(Config::parse(newer.as_bytes()), Err(ForeignConfig::Version(ABI_VERSION + 1)));
    }

    #[test]
    fn names_of_verdicts_are_distinct_and_tell_the_action() {
        for verdict in Verdict::ALL {
            let same = Verdict::ALL.iter().filter(|other| other.name() == verdict.name());
            assert_eq!(same.count(), 1, "{verdict:?}");
            let action = format!("{:?}", verdict.action()).to_lowercase();
            assert!(verdict.name().contains(&action), "{verdict:?}");
        }
    }
}
