//! Frames of a peer that knows the connection and does not wish it well: numbers near those that
//! count, any flags, any options, ICMP errors that quote it, and bytes overwritten at random. Data
//! always say what their sequence number says, so that what is delivered can be checked.

use super::host::Cookie;
use super::talk::{Talk, Voice};
use crate::lan::{self, Draft, addr, end, mac};
use crate::tape::Tape;
use barewire_stack::stack::ConnInfo;
use barewire_stack::time::Instant;
use barewire_stack::wire::arp::{Arp, ArpOperation};
use barewire_stack::wire::ethernet::{self, Ethernet};
use barewire_stack::wire::ipv4::{self, Ipv4};
use barewire_stack::wire::tcp::{ChecksumPolicy, Flags, Tcp};
use std::net::SocketAddrV4;

/// The stack under test, and the fuzzer.
pub(super) const US: u8 = 1;
pub(super) const PEER: u8 = 9;

/// Hosts that the fuzzer speaks for; the second never answers ARP.
pub(super) const PEERS: [u8; 2] = [PEER, 8];

const USUAL_FLAGS: [u8; 12] =
    [0x10, 0x10, 0x10, 0x18, 0x11, 0x12, 0x14, 0x04, 0x02, 0x30, 0x50, 0x90];

/// A segment for a connection, its numbers near those that it waits for.
pub(super) fn segment(tape: &mut Tape<'_>, now: Instant, talk: &Talk, info: &ConnInfo) -> Vec<u8> {
    let flags = flags(tape);
    let how = tape.u8();
    let read = talk.recv.map_or(info.rcv_nxt, |(base, _)| base);
    let seq_near = [info.rcv_nxt, info.rcv_nxt, info.rcv_nxt.wrapping_add(info.rcv_wnd), read];
    let ack_near = [info.snd_nxt, info.snd_nxt, info.snd_una, talk.send_pos];
    let seq = seq_near[usize::from(how & 3)].wrapping_add_signed(tape.distance());
    let ack = ack_near[usize::from(how >> 2 & 3)].wrapping_add_signed(tape.distance());
    let window = window(tape);
    let urgent = if flags & 0x20 != 0 { tape.u16() } else { 0 };
    let mut options = Vec::new();
    if info.timestamps && how & 0x10 == 0 {
        let clock = (now.as_millis() as u32).wrapping_add_signed(tape.distance());
        stamps(&mut options, clock, talk.stamp);
    }
    more_options(tape, &mut options, info.snd_una);
    let tcp = Tcp { seq, ack, flags: Flags::from_bits(flags), window, urgent, ..Tcp::default() };
    let payload_len = payload_len(tape);
    let draft = Draft { from: talk.remote, to: talk.local, tcp, options: &options, payload_len };
    finished(tape, &draft)
}

/// A segment for a connection that may not exist, such as the SYN of a new one.
pub(super) fn stray(tape: &mut Tape<'_>) -> Vec<u8> {
    let which = tape.u8();
    let from = end(PEERS[usize::from(which >> 1 & 1)], 40_000 + u16::from(which >> 2 & 3));
    let port = lan::PORT + u16::from(which >> 4 & 3);
    let to = if which & 0x40 == 0 {
        end(US, port)
    } else {
        SocketAddrV4::new([10, 7, US, 3].into(), port)
    };
    let flags = if which & 1 == 0 { 0x02 } else { flags(tape) };
    let (seq, ack) = (tape.u32(), if flags & 0x10 != 0 { tape.u32() } else { 0 });
    let window = window(tape);
    let mut options = Vec::new();
    more_options(tape, &mut options, ack);
    let tcp = Tcp { seq, ack, flags: Flags::from_bits(flags), window, ..Tcp::default() };
    let payload_len = payload_len(tape);
    finished(tape, &Draft { from, to, tcp, options: &options, payload_len })
}

/// What completes the handshake of a SYN-ACK that nobody remembers, or nearly so.
pub(super) fn cookie_ack(tape: &mut Tape<'_>, cookie: &Cookie) -> Vec<u8> {
    let flags = flags(tape);
    let seq = cookie.tcp.ack.wrapping_add_signed(tape.distance());
    let ack = cookie.tcp.seq.wrapping_add(1).wrapping_add_signed(tape.distance());
    let mut options = Vec::new();
    if let Some(theirs) = cookie.tcp.options.timestamps {
        let echo = theirs.value.wrapping_add_signed(tape.distance());
        stamps(&mut options, theirs.echo.wrapping_add(1), echo);
    }
    let window = window(tape);
    let tcp = Tcp { seq, ack, flags: Flags::from_bits(flags), window, ..Tcp::default() };
    let payload_len = payload_len(tape);
    let (from, to) = (cookie.to, cookie.from);
    finished(tape, &Draft { from, to, tcp, options: &options, payload_len })
}

/// A SYN as a real host would send it.
pub(super) fn syn(tape: &mut Tape<'_>) -> Vec<u8> {
    let which = tape.u8();
    let from = end(PEERS[usize::from(which >> 7)], 40_000 + u16::from(which & 7));
    let to = end(US, lan::PORT + u16::from(which >> 3 & 1));
    let seq = u32::from(tape.u8()) << 24 | 0x00ff_fff0;
    let options: &[u8] = match which >> 4 & 3 {
        0 => &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7],
        1 => &[],
        2 => &[2, 4, 2, 0x18, 1, 1, 4, 2, 1, 3, 3, 14],
        _ => &[2, 4, 0, 1, 8, 10, 255, 255, 255, 250, 0, 0, 0, 0],
    };
    let flags = if which & 0x40 == 0 { 0x02 } else { 0xc2 };
    let tcp = Tcp { seq, flags: Flags::from_bits(flags), window: window(tape), ..Tcp::default() };
    Draft { from, to, tcp, options, payload_len: 0 }.frame(PEER, US).0
}

/// An ICMP message, most of them errors that quote the connection.
pub(super) fn icmp(tape: &mut Tape<'_>, talk: Option<(&Talk, &ConnInfo)>) -> Vec<u8> {
    let kind = tape.one_of(&[3, 3, 11, 12, 4, 8, 0]);
    let (code, mtu) = (tape.one_of(&[4, 3, 2, 0, 1, 13]), tape.u16());
    let mut quote = vec![0; 28];
    if let Some((talk, info)) = talk {
        let seq = info.snd_una.wrapping_add_signed(tape.distance());
        lan::ip(*talk.local.ip(), *talk.remote.ip(), ipv4::PROTOCOL_TCP).emit(&mut quote, 1400);
        quote[20..22].copy_from_slice(&talk.local.port().to_be_bytes());
        quote[22..24].copy_from_slice(&talk.remote.port().to_be_bytes());
        quote[24..28].copy_from_slice(&seq.to_be_bytes());
    }
    let mut frame = vec![0; 14 + 20 + 8 + quote.len()];
    Ethernet { dst: mac(US), src: mac(PEER), vlan_id: None, ethertype: ethernet::TYPE_IPV4 }
        .emit(&mut frame);
    lan::ip(addr(PEER), addr(US), ipv4::PROTOCOL_ICMP)
        .emit(&mut frame[14..], 8 + quote.len() as u16);
    frame[34..36].copy_from_slice(&[kind, code]);
    frame[40..42].copy_from_slice(&mtu.to_be_bytes());
    frame[42..].copy_from_slice(&quote);
    overwrite(tape, &mut frame);
    lan::repair(&mut frame);
    frame
}

/// An ARP packet: an answer, true or not, or a question.
pub(super) fn arp(tape: &mut Tape<'_>) -> Vec<u8> {
    let which = tape.u8();
    let operation = if which & 1 == 0 { ArpOperation::Reply } else { ArpOperation::Request };
    let sender = tape.one_of(&[PEER, PEERS[1], US, 0, 255]);
    let target = if which & 2 == 0 { US } else { PEER };
    let hardware = if which & 4 == 0 { mac(PEER) } else { mac(which) };
    arp_frame(operation, hardware, sender, target)
}

/// What a host answers that is asked for its MAC address.
pub(super) fn arp_answer(sender: u8, target: u8) -> Vec<u8> {
    arp_frame(ArpOperation::Reply, mac(sender), sender, target)
}

fn arp_frame(
    operation: ArpOperation,
    sender_mac: ethernet::Mac,
    sender: u8,
    target: u8,
) -> Vec<u8> {
    let mut frame = vec![0; 42];
    Ethernet { dst: mac(target), src: sender_mac, vlan_id: None, ethertype: ethernet::TYPE_ARP }
        .emit(&mut frame);
    let arp = Arp {
        operation,
        sender_mac,
        sender_ip: addr(sender),
        target_mac: mac(target),
        target_ip: addr(target),
    };
    arp.emit(&mut frame[14..]);
    frame
}

fn flags(tape: &mut Tape<'_>) -> u8 {
    match tape.u8() {
        usual @ 0..192 => USUAL_FLAGS[usize::from(usual) % USUAL_FLAGS.len()],
        _ => tape.u8(),
    }
}

fn window(tape: &mut Tape<'_>) -> u16 {
    match tape.below(8) {
        0..4 => 65_535,
        4 => 0,
        5 => 1,
        6 => u16::from(tape.u8()),
        _ => tape.u16(),
    }
}

fn payload_len(tape: &mut Tape<'_>) -> usize {
    match tape.u8() {
        0..96 => 0,
        n @ 96..160 => usize::from(n - 95),
        n @ 160..224 => usize::from(n - 159) * 23,
        _ => 1460,
    }
}

fn stamps(options: &mut Vec<u8>, value: u32, echo: u32) {
    options.extend_from_slice(&[1, 1, 8, 10]);
    options.extend_from_slice(&value.to_be_bytes());
    options.extend_from_slice(&echo.to_be_bytes());
}

/// SACK blocks near `una`, or any bytes.
fn more_options(tape: &mut Tape<'_>, options: &mut Vec<u8>, una: u32) {
    match tape.u8() {
        0..128 => {}
        n @ 128..192 => {
            let n_blocks = 1 + (n & 3);
            options.extend_from_slice(&[1, 1, 5, 2 + 8 * n_blocks]);
            for _ in 0..n_blocks {
                let left = una.wrapping_add_signed(tape.distance());
                let right = left.wrapping_add_signed(tape.distance());
                options.extend_from_slice(&left.to_be_bytes());
                options.extend_from_slice(&right.to_be_bytes());
            }
        }
        n => options.extend_from_slice(tape.take(usize::from(n & 31))),
    }
}

/// The frame of a draft, perhaps with some bytes overwritten; its data say what they must.
fn finished(tape: &mut Tape<'_>, draft: &Draft<'_>) -> Vec<u8> {
    let (mut frame, _) = draft.frame(PEER, US);
    overwrite(tape, &mut frame);
    speak(&mut frame);
    frame
}

fn overwrite(tape: &mut Tape<'_>, frame: &mut [u8]) {
    let n = tape.u8();
    if n < 240 {
        return;
    }
    for _ in 0..1 + (n & 3) {
        let at = usize::from(tape.u8()) % frame.len();
        frame[at] = tape.u8();
    }
}

/// Fills the data of a frame with what its sequence number says, whatever became of its header, and
/// makes its checksums right.
fn speak(frame: &mut [u8]) {
    lan::repair(frame);
    let Ok((_, at)) = Ethernet::parse(frame) else { return };
    let Ok((ip, range)) = Ipv4::parse(&frame[at..]) else { return };
    let segment = &mut frame[at..][range];
    let Ok(parsed) = Tcp::parse(segment, ip.src, ip.dst, ChecksumPolicy::Trust) else { return };
    let syn = u32::from(parsed.tcp.flags.contains(Flags::SYN));
    Voice::of(PEER).say(parsed.tcp.seq.wrapping_add(syn), &mut segment[parsed.payload_offset..]);
    lan::repair(frame);
}
