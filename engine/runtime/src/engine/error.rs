//! Why an engine does not start. Each sentence says what was expected, what was found and what to
//! do. Nothing is attached or left behind when one of these comes out.

use crate::control::SocketError;
use crate::sys::affinity::AffinityError;
use crate::sys::interface::InterfaceError;
use crate::tap::CaptureError;
use crate::xdp::XdpError;
use barewire_api::ConfigError;
use barewire_api::unit::Bytes;
use std::io;
use std::net::Ipv4Addr;

/// An engine that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong wherever it is used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no such interface.
    #[error("there is no interface `{dev}` in this network namespace; found: {found}")]
    NoInterface {
        /// As configured.
        dev: String,
        /// Those that there are.
        found: String,
    },
    /// The interface cannot be used.
    #[error(transparent)]
    Interface(InterfaceError),
    /// The interface is administratively down.
    #[error("interface `{0}` is down: bring it up with `ip link set dev {0} up`")]
    Down(String),
    /// More queues are asked for than there are.
    #[error(
        "interface.queues: expected at most {found}, for that many queues of `{dev}` can receive \
         and transmit; found {wanted}; give --queues {found}, or add queues with `ethtool -L {dev} \
         combined {wanted}` (a veth gets them when it is made: numrxqueues and numtxqueues)"
    )]
    Queues {
        /// The interface.
        dev: String,
        /// As configured.
        wanted: u32,
        /// How many there are.
        found: u32,
    },
    /// The kernel has an address that the engine is to own.
    #[error(
        "the kernel has address {addr} itself, on interface `{ifname}`, and the engine is to own \
         it: choose an address that the kernel does not have, remove it with `ip addr del`, or set \
         ownership = \"shared\" to take only single ports of it"
    )]
    Clash {
        /// The address.
        addr: Ipv4Addr,
        /// Where the kernel has it.
        ifname: String,
    },
    /// The kernel does not have an address that it is to share.
    #[error(
        "with shared ownership the kernel holds the addresses, and it does not have {addr} on \
         `{dev}`; it has {found}: name one of those, add it with `ip addr add`, or set ownership = \
         \"owned\""
    )]
    NotShared {
        /// The address.
        addr: Ipv4Addr,
        /// The interface.
        dev: String,
        /// What the kernel has there.
        found: String,
    },
    /// The kernel has no address to share.
    #[error(
        "with shared ownership the kernel holds the addresses, and it has no IPv4 address on \
         `{0}`: add one with `ip addr add ADDRESS/LENGTH dev {0}`, or set ownership = \"owned\""
    )]
    NothingToShare(String),
    /// Port range and the kernel's own would collide.
    #[error(
        "interface.port_range {range} overlaps the ports that the kernel gives to its own \
         connections (net.ipv4.ip_local_port_range = {kernel}), whose answers it would then miss: \
         choose ports outside it"
    )]
    PortRange {
        /// As configured.
        range: String,
        /// The kernel's.
        kernel: String,
    },
    /// Pins of this name, but nothing on the interface.
    #[error(
        "{path} holds a steering program, and none is attached to `{dev}` here: it belongs to an \
         interface of that name in another network namespace, or to one that was deleted; remove \
         it with `barewire xdp unload {dev}`"
    )]
    StrayPins {
        /// The pins.
        path: String,
        /// The interface.
        dev: String,
    },
    /// The queue of a connection cannot be foretold, and the configuration wants it to be.
    #[error(
        "interface.rss = \"required\": expected a driver of `{dev}` that tells at which queue a \
         connection arrives; {why}; rss = \"auto\" observes arrivals instead and hands foreign frames \
         over"
    )]
    Rss {
        /// The interface.
        dev: String,
        /// What is missing, and the fix.
        why: String,
    },
    /// The load plan does not fit the queues of this machine.
    #[error(transparent)]
    Spread(ConfigError),
    /// It does not fit in memory.
    #[error("{what} need {needed} of memory, and {available} are available: {fix}")]
    Memory {
        /// What needs it.
        what: String,
        /// How much.
        needed: Bytes,
        /// What there is.
        available: Bytes,
        /// What to do.
        fix: &'static str,
    },
    /// A queue could not be opened.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// The steering program could not be loaded, attached or set.
    #[error(transparent)]
    Steer(#[from] barewire_ebpf::Error),
    /// A worker cannot have its CPU.
    #[error(transparent)]
    Cpu(#[from] AffinityError),
    /// The control socket could not be opened.
    #[error(transparent)]
    Control(#[from] SocketError),
    /// The capture could not be started.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The kernel refused something that it never refuses a healthy process.
    #[error("cannot {what}: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// From the kernel.
        source: io::Error,
    },
}

impl StartError {
    /// The exit status that goes with it: 2 for a configuration that is wrong everywhere, 3 for one
    /// that does not fit this machine.
    pub fn status(&self) -> u8 {
        if matches!(self, StartError::Config(_)) { 2 } else { 3 }
    }

    /// For `map_err`: `what` could not be done.
    pub(crate) fn os(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
        move |source| StartError::Os { what, source }
    }
}
