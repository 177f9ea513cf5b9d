//! Somebody who can send but not see: floods of SYN from nowhere, frames without sense, and segments
//! that claim to be of a live connection. The forger is luckier than a real one, for it hits the
//! window whenever it likes; but it never hits what RFC 5961 lets pass, which is an acknowledgement
//! in the acceptable range together with a number in the window.

use super::draw::{between, chance, pick};
use super::plan::{LISTEN_PORTS, ROUTER_MAC, ip_of, mac_of};
use super::router;
use crate::dice::Dice;
use crate::flow::FourTuple;
use crate::stack::{ConnInfo, Stack};
use crate::tcp::State;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::tcp::{self, Flags, Options, Tcp, Timestamps};
use std::net::Ipv4Addr;

/// Bytes of data that a forged segment carries at most.
const FORGED_BYTES_MAX: u64 = 1000;

/// A frame, and whether it is a RST with which number to which flow.
#[derive(Debug)]
pub(super) struct Forgery {
    pub(super) frame: Vec<u8>,
    pub(super) reset: Option<(FourTuple, u32)>,
}

/// One SYN to a listener of `host`, from an address that nobody has.
pub(super) fn flood(dice: &mut Dice, host: usize) -> Vec<u8> {
    let src = Ipv4Addr::new(198, 51, 100, between(dice, 1, 250) as u8);
    let port = LISTEN_PORTS.start + dice.below(LISTEN_PORTS.len() as u64) as u16;
    let tcp = Tcp {
        src_port: between(dice, 1024, 65_535) as u16,
        dst_port: port,
        seq: dice.draw() as u32,
        flags: Flags::SYN,
        window: 65_535,
        options: Options { mss: Some(1460), ..Options::default() },
        ..Tcp::default()
    };
    frame_of(host, src, ip_of(host), &tcp, &[])
}

/// A frame to `host` whose bytes are drawn, or an IPv4 packet of which some are.
pub(super) fn garbage(dice: &mut Dice, host: usize) -> Vec<u8> {
    let mut frame = flood(dice, host);
    frame.resize(between(dice, 15, 200) as usize, 0);
    let from = if chance(dice, 50) { ethernet::HEADER_BYTES } else { 34 };
    for byte in frame.iter_mut().skip(from) {
        *byte = dice.draw() as u8;
    }
    frame
}

/// A segment that claims to be of a connection that `stack` has, if it has one that is open.
pub(super) fn forge(dice: &mut Dice, host: usize, stack: &Stack) -> Option<Forgery> {
    let n_slots = u64::from(stack.n_slots());
    let first = if n_slots > 0 { dice.below(n_slots) } else { 0 };
    let slots = (0..n_slots).map(|i| ((first + i) % n_slots) as u32);
    let victim = slots.filter_map(|slot| stack.conn_info(slot)).find(|info| {
        // The handshake itself is at the mercy of whoever guesses the ports.
        !matches!(info.state, State::SynSent | State::SynReceived | State::Closed)
    })?;
    if chance(dice, 15) {
        return Some(Forgery { frame: forged_icmp(dice, host, &victim), reset: None });
    }
    let tcp = forged_header(dice, &victim);
    let payload: Vec<u8> = if chance(dice, 50) && !tcp.flags.intersects(Flags::SYN | Flags::RST) {
        (0..between(dice, 1, FORGED_BYTES_MAX)).map(|_| dice.draw() as u8).collect()
    } else {
        Vec::new()
    };
    let frame = frame_of(host, *victim.remote.ip(), *victim.local.ip(), &tcp, &payload);
    let tuple = FourTuple::new(victim.local, victim.remote);
    let reset = tcp.flags.contains(Flags::RST).then_some((tuple, tcp.seq));
    Some(Forgery { frame, reset })
}

/// A router that nobody asked says that a packet was too long: one from before all that is in
/// flight (RFC 5927 section 4.1).
fn forged_icmp(dice: &mut Dice, host: usize, victim: &ConnInfo) -> Vec<u8> {
    let tcp = Tcp {
        src_port: victim.local.port(),
        dst_port: victim.remote.port(),
        seq: victim.snd_una.wrapping_sub(between(dice, 1, 1 << 30) as u32),
        flags: Flags::ACK,
        ..Tcp::default()
    };
    let quoted = frame_of(host, *victim.local.ip(), *victim.remote.ip(), &tcp, &[]);
    let mtu = pick(dice, &[0, 68, 296, 576, 1006]);
    let quote = &quoted[ethernet::HEADER_BYTES..ethernet::HEADER_BYTES + 28];
    router::unreachable(host, *victim.local.ip(), quote, mtu)
}

fn forged_header(dice: &mut Dice, victim: &ConnInfo) -> Tcp {
    let flags = match between(dice, 0, 4) {
        0 => Flags::RST,
        1 => Flags::RST | Flags::ACK,
        2 => Flags::SYN,
        3 => Flags::ACK,
        _ => Flags::ACK | Flags::FIN,
    };
    let window = u64::from(victim.rcv_wnd.max(2));
    let nxt = victim.rcv_nxt;
    let seq = match between(dice, 0, 2) {
        0 => dice.draw() as u32,
        // Inside the window, and for a RST not where it would count.
        1 => nxt.wrapping_add(between(dice, 1, window - 1) as u32),
        _ => nxt.wrapping_sub(between(dice, 1, FORGED_BYTES_MAX) as u32),
    };
    // A quarter of the numbers ahead of everything that was or will soon be sent.
    let ack = victim.snd_nxt.wrapping_add(1 << 30).wrapping_add(dice.draw() as u32 >> 3);
    let timestamps = chance(dice, 60)
        .then(|| Timestamps { value: dice.draw() as u32, echo: dice.draw() as u32 });
    Tcp {
        src_port: victim.remote.port(),
        dst_port: victim.local.port(),
        seq,
        ack: if flags.contains(Flags::ACK) { ack } else { 0 },
        flags,
        window: dice.draw() as u16,
        urgent: 0,
        options: Options { timestamps, ..Options::default() },
    }
}

fn frame_of(host: usize, src: Ipv4Addr, dst: Ipv4Addr, header: &Tcp, payload: &[u8]) -> Vec<u8> {
    let len = header.header_len() + payload.len();
    let at = ethernet::HEADER_BYTES;
    let start = at + ipv4::HEADER_BYTES;
    let mut frame = vec![0; start + len];
    let ethertype = ethernet::TYPE_IPV4;
    Ethernet { dst: mac_of(host), src: ROUTER_MAC, vlan_id: None, ethertype }.emit(&mut frame);
    let ip = Ipv4 {
        src,
        dst,
        protocol: ipv4::PROTOCOL_TCP,
        ttl: 60,
        dscp: 0,
        ecn: 0,
        id: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
    };
    ip.emit(&mut frame[at..], len as u16);
    let n = header.emit(&mut frame[start..]);
    frame[start + n..].copy_from_slice(payload);
    tcp::fill_checksum(&mut frame[start..], src, dst);
    frame
}
