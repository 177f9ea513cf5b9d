//! The kernel's route to one IPv4 destination: which interface, through which gateway, from which
//! source. The table stays the kernel's; nothing is cached or changed.

use super::netlink::{self, Scope};
use neli::consts::rtnl::{RtAddrFamily, RtScope, RtTable, Rta, Rtm, Rtn, Rtprot};
use neli::rtnl::{Rtmsg, RtmsgBuilder};
use std::io;
use std::net::Ipv4Addr;

/// How the kernel would send to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface it leaves by.
    pub ifindex: u32,
    /// The router it goes to first, or `None` when the destination is on the link.
    pub gateway: Option<Ipv4Addr>,
    /// The source address the kernel would choose.
    pub source: Option<Ipv4Addr>,
    /// True when the destination is an address of this machine.
    pub local: bool,
}

/// The kernel's route to `destination`, or `None` when it has none.
pub fn lookup(destination: Ipv4Addr) -> io::Result<Option<Route>> {
    let query = RtmsgBuilder::default()
        .rtm_family(RtAddrFamily::Inet)
        .rtm_dst_len(32)
        .rtm_src_len(0)
        .rtm_tos(0)
        .rtm_table(RtTable::Unspec)
        .rtm_protocol(Rtprot::Unspec)
        .rtm_scope(RtScope::Universe)
        .rtm_type(Rtn::Unspec)
        .rtattrs(netlink::attributes(vec![(Rta::Dst, destination.octets().to_vec())])?)
        .build()
        .map_err(io::Error::other)?;
    let mut found = None;
    let asked = netlink::ask(Rtm::Getroute, Scope::One, query, |entry: &Rtmsg| {
        let address = |kind| netlink::find(entry.rtattrs(), kind).map(Ipv4Addr::from_octets);
        found = netlink::find(entry.rtattrs(), Rta::Oif).map(|ifindex| Route {
            ifindex: u32::from_ne_bytes(ifindex),
            gateway: address(Rta::Gateway),
            source: address(Rta::Prefsrc),
            local: *entry.rtm_type() == Rtn::Local,
        });
    });
    match asked {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => {
            Ok(None)
        }
        Err(e) => Err(io::Error::new(e.kind(), format!("route to {destination}: {e}"))),
        Ok(()) => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_local() {
        let route = lookup(Ipv4Addr::LOCALHOST).expect("the kernel answers").expect("a route");
        assert_eq!((route.ifindex, route.gateway, route.local), (1, None, true));
    }
}
