//! Where the NIC tells how it spreads flows: the ports of this worker's queue, and whether what
//! arrives there is what was foretold. The first frames are all compared, then a few of many for as
//! long as the stack runs. What follows from a wrong prophecy is decided by whoever reads the counters;
//! a frame at the wrong queue is served like any other.

use super::Stack;
use crate::flow::FourTuple;
use crate::flow::port::QueuePorts;
use crate::stats::Counter;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv4::{self, Ipv4};
use std::net::SocketAddrV4;

/// Frames that are all compared.
const FIRST: u32 = 1024;

/// Afterwards one of so many.
const EVERY: u32 = 256;

/// Which frames are still to be compared.
#[derive(Debug, Default)]
pub(super) struct ArrivalCheck {
    /// Of the first.
    first: u32,
    /// Frames to be passed over before the next comparison.
    pause: u32,
}

impl Stack {
    /// From now on free ports are chosen among these, or without regard to the NIC, and arrivals are
    /// compared with them. Connections that exist go on.
    pub fn set_queue_ports(&mut self, ports: Option<QueuePorts>) {
        self.queue_ports = ports.map(Box::new);
        self.arrival = ArrivalCheck { first: FIRST, pause: 0 };
    }

    /// False when it is known that segments of this flow arrive at another worker.
    pub fn arrives_here(&self, tuple: &FourTuple) -> bool {
        self.queue_ports.as_ref().is_none_or(|ports| ports.rss().queue(tuple) == ports.queue())
    }

    /// Compares the queue of a frame that has just arrived from the device with what was foretold.
    /// Only for TCP to one of our addresses, in its plain form: about others NICs differ.
    pub fn check_arrival(&mut self, frame: &[u8]) {
        if self.queue_ports.is_none() {
            return;
        }
        if self.arrival.first > 0 {
            self.arrival.first -= 1;
        } else if self.arrival.pause > 0 {
            self.arrival.pause -= 1;
            return;
        } else {
            self.arrival.pause = EVERY - 1;
        }
        let Some(tuple) = plain_tcp(frame).filter(|tuple| self.is_ours(*tuple.local().ip())) else {
            return;
        };
        let is_foretold = self.arrives_here(&tuple);
        self.stats.inc(Counter::RssChecked);
        if !is_foretold {
            self.stats.inc(Counter::RssMismatched);
        }
    }
}

/// The flow of a TCP segment in an untagged frame over IPv4 without options.
fn plain_tcp(frame: &[u8]) -> Option<FourTuple> {
    let (ether, at) = Ethernet::parse(frame).ok()?;
    let (ip, payload) = Ipv4::parse(frame.get(at..)?).ok()?;
    let is_plain = ether.ethertype == ethernet::TYPE_IPV4
        && ether.vlan_id.is_none()
        && ip.protocol == ipv4::PROTOCOL_TCP
        && !ip.is_fragment()
        && payload.start == ipv4::HEADER_BYTES;
    let &[src_high, src_low, dst_high, dst_low, ..] = frame.get(at + payload.start..)? else {
        return None;
    };
    let local = SocketAddrV4::new(ip.dst, u16::from_be_bytes([dst_high, dst_low]));
    let remote = SocketAddrV4::new(ip.src, u16::from_be_bytes([src_high, src_low]));
    is_plain.then(|| FourTuple::new(local, remote))
}
