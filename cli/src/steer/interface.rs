//! One interface as rtnetlink describes it: its number, how many receive queues it can have, and
//! which XDP program is on it. One question on a socket of its own, and one answer.

use std::io;

use barewire_steer::attach::{Attached, AttachedMode};
use neli::consts::nl::{NlTypeWrapper, NlmF};
use neli::consts::rtnl::{Ifla, RtAddrFamily, Rtm};
use neli::consts::socket::NlFamily;
use neli::err::SocketError;
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::rtnl::{Ifinfomsg, IfinfomsgBuilder, RtattrBuilder};
use neli::socket::synchronous::NlSocketHandle;
use neli::types::RtBuffer;
use neli::utils::Groups;

use super::Error;

/// What the kernel says about an interface.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) ifindex: u32,
    /// As many as it was made with; fewer may be in use.
    pub(super) n_queues: u32,
    /// The program's name is not asked for.
    pub(super) attached: Option<Attached>,
}

const ENODEV: i32 = 19;

// Attributes inside IFLA_XDP (linux/if_link.h), which neli does not name.
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;

impl Interface {
    /// Asks for the interface of this name in this network namespace.
    pub(super) fn query(name: &str) -> Result<Interface, Error> {
        match ask(name) {
            Ok(interface) => Ok(interface),
            Err(error) if error.raw_os_error() == Some(ENODEV) => {
                Err(Error::NoInterface(name.to_string()))
            }
            Err(source) => Err(Error::Query { ifname: name.to_string(), source }),
        }
    }
}

fn ask(name: &str) -> io::Result<Interface> {
    let mut wanted = RtBuffer::new();
    wanted.push(
        RtattrBuilder::default()
            .rta_type(Ifla::Ifname)
            .rta_payload([name.as_bytes(), &[0]].concat())
            .build()
            .map_err(io::Error::other)?,
    );
    let question = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .rtattrs(wanted)
        .build()
        .map_err(io::Error::other)?;
    let message = NlmsghdrBuilder::default()
        .nl_type(Rtm::Getlink)
        .nl_flags(NlmF::REQUEST)
        .nl_payload(NlPayload::Payload(question))
        .build()
        .map_err(io::Error::other)?;
    let socket = NlSocketHandle::connect(NlFamily::Route, None, Groups::empty()).map_err(broken)?;
    socket.send(&message).map_err(broken)?;
    let (answers, _) = socket.recv::<NlTypeWrapper, Ifinfomsg>().map_err(broken)?;
    for answer in answers {
        match answer.map_err(io::Error::other)?.nl_payload() {
            NlPayload::Err(error) => return Err(io::Error::from_raw_os_error(-error.error())),
            NlPayload::Payload(link) => return described(name, link),
            NlPayload::Ack(_) | NlPayload::DumpExtAck(_) | NlPayload::Empty => {}
        }
    }
    Err(io::Error::other("the kernel's answer is empty"))
}

fn described(name: &str, link: &Ifinfomsg) -> io::Result<Interface> {
    let attributes = link.rtattrs();
    let find = |kind| attributes.iter().find(|attribute| *attribute.rta_type() == kind);
    let n_queues = find(Ifla::NumRxQueues).and_then(|queues| number(queues.rta_payload().as_ref()));
    let xdp = find(Ifla::Xdp);
    Ok(Interface {
        name: name.to_string(),
        ifindex: u32::try_from(*link.ifi_index()).map_err(io::Error::other)?,
        n_queues: n_queues.ok_or_else(|| io::Error::other("it does not tell its queues"))?,
        attached: xdp.and_then(|xdp| attached(xdp.rta_payload().as_ref())),
    })
}

/// The program in the attributes inside IFLA_XDP, if there is one.
fn attached(xdp: &[u8]) -> Option<Attached> {
    [
        (IFLA_XDP_DRV_PROG_ID, AttachedMode::Native),
        (IFLA_XDP_SKB_PROG_ID, AttachedMode::Generic),
        (IFLA_XDP_HW_PROG_ID, AttachedMode::Offloaded),
    ]
    .into_iter()
    .find_map(|(kind, mode)| {
        let program_id = number(nested(xdp, kind)?)?;
        (program_id != 0).then_some(Attached { program_id, program_name: None, mode })
    })
}

/// The payload of the attribute `kind` in a run of attributes: each has a length of 16 bits that
/// counts its header, a kind of 16 bits, and padding to 4 bytes.
fn nested(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    while let Some(([a, b, c, d], _)) = attributes.split_first_chunk() {
        let len = usize::from(u16::from_ne_bytes([*a, *b]));
        let payload = attributes.get(4..len)?;
        if u16::from_ne_bytes([*c, *d]) == kind {
            return Some(payload);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
    None
}

fn number(payload: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(payload.try_into().ok()?))
}

fn broken(error: SocketError) -> io::Error {
    match error {
        SocketError::Io(error) => io::Error::new(error.kind(), error),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
        let len = (4 + payload.len()) as u16;
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_program_is_found_behind_other_attributes() {
        let skb = attribute(IFLA_XDP_SKB_PROG_ID, &7u32.to_ne_bytes());
        let xdp = [attribute(2, &[2]), attribute(4, &7u32.to_ne_bytes()), skb].concat();
        let found = attached(&xdp).expect("a program");
        assert_eq!((found.program_id, found.mode), (7, AttachedMode::Generic));
        assert_eq!(attached(&attribute(2, &[0])), None);
    }

    #[test]
    fn broken_attributes_end_the_search() {
        for broken in [&[0, 0, 5, 0][..], &[3, 0, 1, 0], &[255, 0, 5, 0, 1], &[4]] {
            assert_eq!(attached(broken), None, "{broken:?}");
        }
    }
}
