//! IPv4 prefixes and port ranges: which addresses and ports the engine may call its own. IPv6 is
//! refused by name until the stack speaks it.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::text::{SyntaxError, serde_as_text};

/// An address with a prefix length. As an interface address (`10.99.0.2/24`) the host bits say which
/// host; as a set of addresses (`10.1.0.0/16`) they are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    addr: Ipv4Addr,
    len: u8,
}

/// Ports from `lo` to `hi`, both included; never empty and never with port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    lo: u16,
    hi: u16,
}

impl Prefix {
    /// The prefix of `len` bits at `addr`; nothing when `len` exceeds 32.
    pub fn new(addr: Ipv4Addr, len: u8) -> Option<Self> {
        (len <= 32).then_some(Prefix { addr, len })
    }

    /// The address as written, host bits included.
    pub fn addr(&self) -> Ipv4Addr {
        self.addr
    }

    /// Length in bits, 0 to 32.
    #[expect(clippy::len_without_is_empty, reason = "a prefix always has addresses")]
    pub fn len(&self) -> u8 {
        self.len
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0)
    }

    /// The address with all host bits zero.
    pub fn network(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.addr.to_bits() & self.mask())
    }

    /// The address with all host bits one.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.addr.to_bits() | !self.mask())
    }

    /// True when host bits are set, so that it names one host and not a set.
    pub fn has_host_bits(&self) -> bool {
        self.addr != self.network()
    }

    /// True when `addr` lies in the prefix.
    pub fn contains(&self, addr: Ipv4Addr) -> bool {
        addr.to_bits() & self.mask() == self.network().to_bits()
    }

    /// True when `other` lies in it entirely.
    pub fn covers(&self, other: &Prefix) -> bool {
        self.len <= other.len && self.contains(other.addr)
    }

    /// True when some address lies in both.
    pub fn overlaps(&self, other: &Prefix) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// How many hosts it has: all addresses but network and broadcast; a /31 has 2 and a /32 has 1.
    pub fn hosts(&self) -> u64 {
        match self.len {
            32 => 1,
            31 => 2,
            len => (1u64 << (32 - len)) - 2,
        }
    }

    /// Host number `idx`, from 0 to `hosts() - 1`.
    pub fn host(&self, idx: u64) -> Option<Ipv4Addr> {
        if idx >= self.hosts() {
            return None;
        }
        let first = u64::from(self.network().to_bits()) + u64::from(self.len < 31);
        u32::try_from(first + idx).ok().map(Ipv4Addr::from_bits)
    }
}

impl PortRange {
    /// Every port above the reserved ones.
    pub const UNRESERVED: PortRange = PortRange { lo: 1024, hi: 65535 };

    /// The range from `lo` to `hi`; nothing when it would be empty or hold port 0.
    pub fn new(lo: u16, hi: u16) -> Option<Self> {
        (lo > 0 && lo <= hi).then_some(PortRange { lo, hi })
    }

    /// First port.
    pub fn lo(&self) -> u16 {
        self.lo
    }

    /// Last port.
    pub fn hi(&self) -> u16 {
        self.hi
    }

    /// How many ports.
    pub fn ports(&self) -> u64 {
        u64::from(self.hi - self.lo) + 1
    }

    /// True when `port` is one of them.
    pub fn contains(&self, port: u16) -> bool {
        (self.lo..=self.hi).contains(&port)
    }

    /// True when `other` lies in it entirely.
    pub fn covers(&self, other: &PortRange) -> bool {
        self.lo <= other.lo && other.hi <= self.hi
    }
}

const PREFIX_EXPECTED: &str = "an IPv4 prefix such as 10.1.0.0/16 or 10.99.0.2/24";
const PORT_RANGE_EXPECTED: &str = "a port range such as 61000-65535 or one port from 1 to 65535";
const IPV4_EXPECTED: &str = "an IPv4 address such as 10.99.0.2";
const IPV6_REFUSED: &str = "an IPv4 address (IPv6 is not supported yet by the stack)";

/// An IPv4 address, with its own sentence for an IPv6 one.
pub(crate) fn parse_addr(text: &str) -> Result<Ipv4Addr, SyntaxError> {
    let expected = if text.contains(':') { IPV6_REFUSED } else { IPV4_EXPECTED };
    text.parse().map_err(|_| SyntaxError::new(expected, text))
}

/// A port from 1 to 65535.
pub(crate) fn parse_port(text: &str) -> Result<u16, SyntaxError> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(SyntaxError::new("a port from 1 to 65535", text)),
    }
}

impl FromStr for Prefix {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let refused = || SyntaxError::new(PREFIX_EXPECTED, text);
        let (addr, len) = text.trim().split_once('/').ok_or_else(|| match text.contains(':') {
            true => SyntaxError::new(IPV6_REFUSED, text),
            false => refused(),
        })?;
        let addr = parse_addr(addr)?;
        let len = len.parse().map_err(|_| refused())?;
        Prefix::new(addr, len)
            .ok_or_else(|| SyntaxError::new("a prefix length from 0 to 32", &format!("/{len}")))
    }
}

impl FromStr for PortRange {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let (lo, hi) = text.trim().split_once('-').unwrap_or((text, text));
        let (lo, hi) = (parse_port(lo.trim())?, parse_port(hi.trim())?);
        PortRange::new(lo, hi).ok_or_else(|| SyntaxError::new(PORT_RANGE_EXPECTED, text))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.lo, self.hi)
    }
}

serde_as_text! {
    Prefix: PREFIX_EXPECTED;
    PortRange: PORT_RANGE_EXPECTED;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("a prefix")
    }

    #[test]
    fn hosts_leave_out_network_and_broadcast() {
        for (text, n, first) in [
            ("10.1.0.0/29", 6, "10.1.0.1"),
            ("10.1.0.0/16", 65_534, "10.1.0.1"),
            ("10.1.0.8/31", 2, "10.1.0.8"),
            ("10.1.0.9/32", 1, "10.1.0.9"),
            ("0.0.0.0/0", (1 << 32) - 2, "0.0.0.1"),
        ] {
            let prefix = prefix(text);
            assert_eq!(prefix.hosts(), n, "{text}");
            assert_eq!(prefix.host(0), Some(first.parse().expect("an address")), "{text}");
            assert!(prefix.host(n - 1).is_some_and(|last| prefix.contains(last)), "{text}");
            assert_eq!(prefix.host(n), None, "{text}");
        }
    }

    #[test]
    fn sets_of_addresses_know_each_other() {
        let wide = prefix("10.0.0.0/8");
        assert!(wide.covers(&prefix("10.1.0.0/16")) && !prefix("10.1.0.0/16").covers(&wide));
        assert!(wide.overlaps(&prefix("10.1.2.3/32")) && !wide.overlaps(&prefix("11.0.0.0/8")));
        assert!(prefix("10.99.0.2/24").has_host_bits() && !wide.has_host_bits());
        assert_eq!(prefix("10.99.0.2/24").broadcast(), Ipv4Addr::new(10, 99, 0, 255));
    }

    #[test]
    fn bad_texts_say_what_was_expected() {
        for (text, sentence) in [
            ("10.1.0.0", "expected an IPv4 prefix such as"),
            ("10.1.0.0/33", "expected a prefix length from 0 to 32, found `/33`"),
            ("10.1.0/16", "expected an IPv4 address such as 10.99.0.2, found `10.1.0`"),
            ("fd00::1/64", "IPv6 is not supported yet by the stack"),
            ("fd00::1", "IPv6 is not supported yet by the stack"),
        ] {
            let error = text.parse::<Prefix>().expect_err(text).to_string();
            assert!(error.contains(sentence), "{text}: {error}");
        }
        for text in ["0-5", "9-3", "1-70000", "x", ""] {
            assert!(text.parse::<PortRange>().is_err(), "{text} must be refused");
        }
        assert_eq!("80".parse(), Ok(PortRange { lo: 80, hi: 80 }));
    }
}
