//! One question to the kernel's routing tables and its answer, over a netlink socket of its own. No
//! connection is kept and no notifications are followed: each call sees the tables as they are.

use neli::consts::nl::{NlTypeWrapper, NlmF, Nlmsg};
use neli::consts::rtnl::{RtaType, Rtm};
use neli::consts::socket::NlFamily;
use neli::err::SocketError;
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::rtnl::{Rtattr, RtattrBuilder};
use neli::socket::synchronous::NlSocketHandle;
use neli::types::{Buffer, RtBuffer};
use neli::utils::Groups;
use neli::{FromBytesWithInput, Size, ToBytes};
use std::fmt::Debug;
use std::io;

/// A dump of more datagrams than this (each holds tens of entries) is cut off with an error: no
/// machine that runs the engine has that many addresses.
const DATAGRAMS_MAX: usize = 4096;

/// How much is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The one entry that the request names.
    One,
    /// All entries of the table.
    All,
}

/// Sends `query` and shows every entry of the answer to `on_entry`. An error of the kernel comes back
/// with its errno.
pub(super) fn ask<Q, A>(
    kind: Rtm,
    scope: Scope,
    query: Q,
    mut on_entry: impl FnMut(&A),
) -> io::Result<()>
where
    Q: Size + ToBytes + Debug,
    A: Size + FromBytesWithInput<Input = usize> + Debug,
{
    let socket = NlSocketHandle::connect(NlFamily::Route, None, Groups::empty()).map_err(broken)?;
    let flags = match scope {
        Scope::One => NlmF::REQUEST,
        Scope::All => NlmF::REQUEST | NlmF::DUMP,
    };
    let message = NlmsghdrBuilder::default()
        .nl_type(kind)
        .nl_flags(flags)
        .nl_payload(NlPayload::Payload(query))
        .build()
        .map_err(io::Error::other)?;
    socket.send(&message).map_err(broken)?;
    for _ in 0..DATAGRAMS_MAX {
        let (answers, _) = socket.recv::<NlTypeWrapper, A>().map_err(broken)?;
        for answer in answers {
            let answer = answer.map_err(io::Error::other)?;
            match answer.nl_payload() {
                NlPayload::Err(e) => return Err(io::Error::from_raw_os_error(-e.error())),
                NlPayload::Payload(entry) => on_entry(entry),
                NlPayload::Ack(_) | NlPayload::DumpExtAck(_) | NlPayload::Empty => {}
            }
            if scope == Scope::One || *answer.nl_type() == NlTypeWrapper::Nlmsg(Nlmsg::Done) {
                return Ok(());
            }
        }
    }
    Err(io::Error::other(format!("the kernel's answer exceeds {DATAGRAMS_MAX} datagrams")))
}

/// Attributes for a query.
pub(super) fn attributes<T: RtaType>(list: Vec<(T, Vec<u8>)>) -> io::Result<RtBuffer<T, Buffer>> {
    list.into_iter().map(|(kind, bytes)| attribute(kind, bytes)).collect()
}

fn attribute<T: RtaType>(kind: T, bytes: Vec<u8>) -> io::Result<Rtattr<T, Buffer>> {
    RtattrBuilder::default()
        .rta_type(kind)
        .rta_payload(Buffer::from(bytes))
        .build()
        .map_err(io::Error::other)
}

/// The payload of attribute `kind`, when it is there and exactly `N` bytes long.
pub(super) fn find<T: RtaType + PartialEq, const N: usize>(
    attributes: &RtBuffer<T, Buffer>,
    kind: T,
) -> Option<[u8; N]> {
    let found = attributes.iter().find(|attribute| *attribute.rta_type() == kind)?;
    found.rta_payload().as_ref().try_into().ok()
}

fn broken(error: SocketError) -> io::Error {
    match error {
        SocketError::Io(e) => io::Error::new(e.kind(), e),
        other => io::Error::other(other),
    }
}
