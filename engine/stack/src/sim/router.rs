//! What stands between the hosts: it answers ARP for itself, and where the path is narrower than a
//! packet it says so (RFC 1191) instead of fragmenting. Frames that are addressed to it vanish.

use super::plan::{ROUTER_IP, ROUTER_MAC, host_of, mac_of};
use crate::wire::arp::{self, Arp, ArpOperation};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Ethernet, Mac};
use crate::wire::icmp::CODE_FRAGMENTATION_NEEDED;
use crate::wire::ipv4::{self, Ipv4};
use std::net::Ipv4Addr;

/// ICMP destination unreachable.
const KIND_UNREACHABLE: u8 = 3;

/// Bytes of an ICMP header.
const HEADER_BYTES: usize = 8;

/// What a router has to quote: the IPv4 header and the begin of the TCP header.
const QUOTE_BYTES: usize = ipv4::HEADER_BYTES + 8;

/// The answer to a question for the router's MAC address, if `packet` asks for it.
pub(super) fn answer_arp(packet: &[u8]) -> Option<Vec<u8>> {
    let question = Arp::parse(packet).ok()?;
    if question.operation != ArpOperation::Request || question.target_ip != ROUTER_IP {
        return None;
    }
    let mut frame = vec![0; ethernet::HEADER_BYTES + arp::BYTES];
    emit_ethernet(&mut frame, question.sender_mac, ethernet::TYPE_ARP);
    let answer = Arp {
        operation: ArpOperation::Reply,
        sender_mac: ROUTER_MAC,
        sender_ip: ROUTER_IP,
        target_mac: question.sender_mac,
        target_ip: question.sender_ip,
    };
    answer.emit(&mut frame[ethernet::HEADER_BYTES..]);
    Some(frame)
}

/// Tells the sender of a frame with an IPv4 packet that only `mtu` bytes fit; old routers say 0.
pub(super) fn too_big(frame: &[u8], mtu: u16) -> Option<(usize, Vec<u8>)> {
    let packet = frame.get(ethernet::HEADER_BYTES..)?;
    let (ip, _) = Ipv4::parse(packet).ok()?;
    let host = host_of(Ethernet::parse(frame).ok()?.0.src)?;
    Some((host, unreachable(host, ip.src, &packet[..QUOTE_BYTES], mtu)))
}

/// An ICMP message to `host`, which says that the packet whose begin is quoted was too long.
pub(super) fn unreachable(host: usize, dst: Ipv4Addr, quote: &[u8], mtu: u16) -> Vec<u8> {
    let ip_at = ethernet::HEADER_BYTES;
    let at = ip_at + ipv4::HEADER_BYTES;
    let mut frame = vec![0; at + HEADER_BYTES + quote.len()];
    emit_ethernet(&mut frame, mac_of(host), ethernet::TYPE_IPV4);
    let header = Ipv4 {
        src: ROUTER_IP,
        dst,
        protocol: ipv4::PROTOCOL_ICMP,
        ttl: 64,
        dscp: 0,
        ecn: 0,
        id: 0,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
    };
    header.emit(&mut frame[ip_at..], (HEADER_BYTES + quote.len()) as u16);
    frame[at] = KIND_UNREACHABLE;
    frame[at + 1] = CODE_FRAGMENTATION_NEEDED;
    frame[at + 6..at + 8].copy_from_slice(&mtu.to_be_bytes());
    frame[at + HEADER_BYTES..].copy_from_slice(quote);
    let checksum = Sum::new().add_bytes(&frame[at..]).finish();
    frame[at + 2..at + 4].copy_from_slice(&checksum.to_be_bytes());
    frame
}

fn emit_ethernet(frame: &mut [u8], dst: Mac, ethertype: u16) {
    Ethernet { dst, src: ROUTER_MAC, vlan_id: None, ethertype }.emit(frame);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::sim::{attacker, plan};
    use crate::wire::icmp::Icmp;

    #[test]
    fn the_message_quotes_what_was_too_big() {
        let mut frame = attacker::flood(&mut Dice::new(1), 1);
        Ethernet::emit(
            &Ethernet {
                dst: mac_of(1),
                src: mac_of(0),
                vlan_id: None,
                ethertype: ethernet::TYPE_IPV4,
            },
            &mut frame,
        );
        let (host, message) = too_big(&frame, 600).expect("an IPv4 packet of a host");
        assert_eq!(host, 0);
        let (ip, range) = Ipv4::parse(&message[14..]).expect("sound IPv4");
        let icmp = Icmp::parse(&message[14..][range]).expect("sound ICMP");
        let Icmp::Unreachable { mtu: 600, quote: Some(quote), .. } = icmp else {
            panic!("unexpected {icmp:?}")
        };
        assert_eq!((quote.dst, quote.src), (plan::ip_of(1), ip.dst));
    }
}
