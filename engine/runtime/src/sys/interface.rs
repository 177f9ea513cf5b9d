//! A network interface as the kernel knows it, and the addresses the kernel has on all of them. All
//! of it comes over netlink and ioctl, which follow the network namespace of the calling thread;
//! sysfs shows the namespace it was mounted in. Nothing is changed here.

use super::ethtool;
use super::netlink::{self, Scope};
use neli::consts::rtnl::{Arphrd, Ifa, Iff, Ifla, RtAddrFamily, RtScope, Rtm};
use neli::rtnl::{Ifaddrmsg, IfaddrmsgBuilder, Ifinfomsg, IfinfomsgBuilder};
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest interface name, without the zero byte that ends it in the kernel.
pub const NAME_BYTES_MAX: usize = libc::IFNAMSIZ - 1;

/// An Ethernet interface at the moment it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, like `eth0`.
    pub name: String,
    /// Its number in this network namespace.
    pub ifindex: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Largest packet (layer 3) in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// The driver's name as ethtool prints it; empty when the driver does not say.
    pub driver: String,
    /// Receive queues in use now.
    pub n_rx_queues: u32,
    /// Transmit queues in use now.
    pub n_tx_queues: u32,
}

/// An interface that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// No interface can have this name.
    #[error(
        "`{name}` cannot be the name of an interface: expected 1 to {NAME_BYTES_MAX} bytes; \
         `ip link` lists the interfaces"
    )]
    BadName {
        /// What was asked for.
        name: String,
    },
    /// There is none of this name.
    #[error(
        "there is no interface `{name}` in this network namespace; `ip link` lists those there are"
    )]
    Missing {
        /// What was asked for.
        name: String,
    },
    /// It is not Ethernet.
    #[error(
        "interface `{name}` has link type {link_type}, not Ethernet (1): the engine speaks Ethernet only"
    )]
    NotEthernet {
        /// Which interface.
        name: String,
        /// What it is: ARPHRD_* of linux/if_arp.h.
        link_type: u16,
    },
    /// The kernel did not answer.
    #[error("cannot ask the kernel about interface `{name}`: {source}")]
    Ask {
        /// Which interface.
        name: String,
        /// Its error.
        source: io::Error,
    },
}

impl Interface {
    /// Asks for the interface called `name`.
    pub fn named(name: &str) -> Result<Self, InterfaceError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(['\0', '/']) {
            return Err(InterfaceError::BadName { name: name.to_owned() });
        }
        let ask = |source| InterfaceError::Ask { name: name.to_owned(), source };
        let link = link(name).map_err(|e| match e.raw_os_error() {
            Some(libc::ENODEV) => InterfaceError::Missing { name: name.to_owned() },
            _ => ask(e),
        })?;
        let link = link.ok_or_else(|| ask(io::Error::other("the answer held no interface")))?;
        let Some(mac) = link.mac else {
            let (name, link_type) = (name.to_owned(), link.link_type);
            return Err(InterfaceError::NotEthernet { name, link_type });
        };
        let (n_rx_queues, n_tx_queues) =
            channels(name).map_err(ask)?.unwrap_or((link.n_rx_queues, link.n_tx_queues));
        Ok(Interface {
            name: name.to_owned(),
            ifindex: link.ifindex,
            mac,
            mtu: link.mtu,
            up: link.up,
            driver: driver(name).map_err(ask)?.unwrap_or_default(),
            n_rx_queues,
            n_tx_queues,
        })
    }

    /// How many queues can both receive and transmit: the queue ids an AF_XDP socket makes sense on
    /// are those below. (Transmission to a queue beyond vanishes without an error.)
    pub fn n_queues(&self) -> u32 {
        self.n_rx_queues.min(self.n_tx_queues)
    }
}

/// An address that the kernel has, so that the engine must not own it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelAddress {
    /// The interface it is on.
    pub ifindex: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of its network prefix in bits.
    pub prefix_bits: u8,
}

/// Every address of the kernel on all interfaces of this network namespace.
pub fn kernel_addresses() -> io::Result<Vec<KernelAddress>> {
    let query = IfaddrmsgBuilder::default()
        .ifa_family(RtAddrFamily::Unspecified)
        .ifa_prefixlen(0)
        .ifa_scope(RtScope::Universe)
        .ifa_index(0)
        .build()
        .map_err(io::Error::other)?;
    let mut found = Vec::new();
    netlink::ask(Rtm::Getaddr, Scope::All, query, |entry: &Ifaddrmsg| {
        // On a point-to-point link IFA_ADDRESS is the far end and IFA_LOCAL ours; elsewhere IPv4 has
        // both alike and IPv6 the first only.
        let v4 =
            netlink::find(entry.rtattrs(), Ifa::Local).map(|b| Ipv4Addr::from_octets(b).into());
        let v6 = netlink::find(entry.rtattrs(), Ifa::Local)
            .or_else(|| netlink::find(entry.rtattrs(), Ifa::Address))
            .map(|b| Ipv6Addr::from_octets(b).into());
        found.extend(v4.or(v6).map(|address| KernelAddress {
            ifindex: *entry.ifa_index(),
            address,
            prefix_bits: *entry.ifa_prefixlen(),
        }));
    })?;
    Ok(found)
}

/// Number and name of every interface of this network namespace.
pub fn names() -> io::Result<Vec<(u32, String)>> {
    let query = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .build()
        .map_err(io::Error::other)?;
    let mut found = Vec::new();
    netlink::ask(Rtm::Getlink, Scope::All, query, |entry: &Ifinfomsg| {
        let attributes = entry.rtattrs().iter();
        let mut name = attributes.filter(|attribute| *attribute.rta_type() == Ifla::Ifname);
        if let Some(name) = name.next() {
            let name = String::from_utf8_lossy(name.rta_payload().as_ref());
            let name = name.trim_end_matches('\0').to_owned();
            found.push((entry.ifi_index().unsigned_abs(), name));
        }
    })?;
    Ok(found)
}

/// What RTM_GETLINK tells.
struct Link {
    ifindex: u32,
    link_type: u16,
    mac: Option<[u8; 6]>,
    mtu: u32,
    up: bool,
    n_rx_queues: u32,
    n_tx_queues: u32,
}

fn link(name: &str) -> io::Result<Option<Link>> {
    let mut name_z = name.as_bytes().to_vec();
    name_z.push(0);
    let query = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .rtattrs(netlink::attributes(vec![(Ifla::Ifname, name_z)])?)
        .build()
        .map_err(io::Error::other)?;
    let mut found = None;
    netlink::ask(Rtm::Getlink, Scope::One, query, |entry: &Ifinfomsg| {
        let number = |kind| netlink::find(entry.rtattrs(), kind).map_or(0, u32::from_ne_bytes);
        let ethernet = matches!(entry.ifi_type(), Arphrd::Ether | Arphrd::Loopback);
        found = Some(Link {
            ifindex: entry.ifi_index().unsigned_abs(),
            link_type: u16::from(*entry.ifi_type()),
            mac: netlink::find(entry.rtattrs(), Ifla::Address).filter(|_| ethernet),
            mtu: number(Ifla::Mtu),
            up: entry.ifi_flags().contains(Iff::UP),
            n_rx_queues: number(Ifla::NumRxQueues),
            n_tx_queues: number(Ifla::NumTxQueues),
        });
    })?;
    Ok(found)
}

/// `struct ethtool_drvinfo` of linux/ethtool.h.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_channels` of linux/ethtool.h.
#[repr(C)]
struct Channels {
    cmd: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

fn driver(name: &str) -> io::Result<Option<String>> {
    const ETHTOOL_GDRVINFO: u32 = 0x03;
    let mut answer = DriverInfo { cmd: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    if !ethtool::ask(name, &mut answer)? {
        return Ok(None);
    }
    let driver = CStr::from_bytes_until_nul(&answer.driver);
    Ok(driver.ok().map(|text| text.to_string_lossy().into_owned()))
}

/// Receive and transmit queues in use, or `None` when the driver has no such notion.
pub(super) fn channels(name: &str) -> io::Result<Option<(u32, u32)>> {
    const ETHTOOL_GCHANNELS: u32 = 0x3c;
    let mut answer =
        Channels { cmd: ETHTOOL_GCHANNELS, max: [0; 4], rx: 0, tx: 0, other: 0, combined: 0 };
    let answered = ethtool::ask(name, &mut answer)?;
    let (rx, tx) = (answer.rx + answer.combined, answer.tx + answer.combined);
    Ok((answered && rx > 0 && tx > 0).then_some((rx, tx)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_there() {
        let lo = Interface::named("lo").expect("every namespace has lo");
        assert_eq!((lo.ifindex, lo.mac), (1, [0; 6]));
        assert!(lo.mtu >= 1500 && lo.n_queues() >= 1, "{lo:?}");
        let names = names().expect("the kernel answers");
        assert!(names.contains(&(1, "lo".to_owned())), "{names:?}");
    }

    #[test]
    fn the_kernel_has_the_loopback_address() {
        let addresses = kernel_addresses().expect("the kernel answers");
        let localhost = IpAddr::from(Ipv4Addr::LOCALHOST);
        let found = addresses.iter().find(|a| a.address == localhost).expect("lo is up");
        assert_eq!((found.ifindex, found.prefix_bits), (1, 8));
    }

    #[test]
    fn bad_names_are_refused_with_the_name() {
        let long = "a-name-of-sixteen";
        for name in ["", long, "a/b"] {
            let error = Interface::named(name).expect_err("no such interface");
            assert!(matches!(error, InterfaceError::BadName { .. }), "{error}");
        }
        let error = Interface::named("bw-nowhere0").expect_err("no such interface");
        assert!(matches!(error, InterfaceError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("bw-nowhere0"), "{error}");
    }
}
