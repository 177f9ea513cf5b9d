//! Target `frame`: one received frame. The first byte of the input says how it is given to a stack
//! (checksums repaired or not, which policy, which [`Miss`]), the rest are its bytes. Each parser is
//! run over the frame by itself, then a stack with a listener takes it and all that it answers is
//! read again.

use crate::lan::{self, PORT, end};
use crate::tape::Tape;
use barewire_stack::stack::{Disposition, Miss, Stack};
use barewire_stack::time::{Duration, Instant};
use barewire_stack::wire::arp::Arp;
use barewire_stack::wire::ethernet::{self, Ethernet};
use barewire_stack::wire::icmp::{self, Icmp};
use barewire_stack::wire::ipv4::{self, Ipv4};
use barewire_stack::wire::tcp::{ChecksumPolicy, Tcp};

/// The stack that takes the frame is host 1.
const US: u8 = 1;

/// Takes one frame.
pub fn run(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let how = tape.u8();
    let mut frame = tape.rest().to_vec();
    if how & 1 != 0 {
        lan::repair(&mut frame);
    }
    parsers_agree_with_themselves(&frame);
    let policy = [ChecksumPolicy::Verify, ChecksumPolicy::AcceptPartial, ChecksumPolicy::Trust];
    let miss = [Miss::Answer, Miss::Last, Miss::HandOff, Miss::Answer];
    let policy = policy[usize::from(how >> 1 & 3).min(2)];
    taken(frame, policy, miss[usize::from(how >> 3 & 3)]);
}

/// What a parser takes for valid lies inside the bytes, and is written as it was read.
fn parsers_agree_with_themselves(frame: &[u8]) {
    let Ok((ether, at)) = Ethernet::parse(frame) else { return };
    assert!(at <= frame.len());
    let mut again = [0; ethernet::HEADER_BYTES];
    ether.emit(&mut again);
    assert_eq!(again[..12], frame[..12]);
    let packet = &frame[at..];
    if let Ok(arp) = Arp::parse(packet) {
        let mut again = [0; 28];
        arp.emit(&mut again);
        assert_eq!(again, packet[..28]);
    }
    let Ok((ip, range)) = Ipv4::parse(packet) else { return };
    let mut again = [0; ipv4::HEADER_BYTES];
    ip.emit(&mut again, (range.len().min(65_000)) as u16);
    let (same, _) =
        Ipv4::parse(&[&again[..], &packet[range.clone()]].concat()).unwrap_or((ip, range.clone()));
    assert_eq!(same, ip);
    let message = &packet[range];
    if let Ok(parsed) = Tcp::parse(message, ip.src, ip.dst, ChecksumPolicy::AcceptPartial) {
        assert!(parsed.payload_offset <= message.len());
        let trusted = Tcp::parse(message, ip.src, ip.dst, ChecksumPolicy::Trust);
        assert_eq!(trusted.map(|trusted| trusted.tcp), Ok(parsed.tcp));
    }
    if Icmp::parse(message) == Ok(Icmp::EchoRequest) {
        let mut reply = message.to_vec();
        icmp::turn_echo_into_reply(&mut reply);
        assert_eq!(Icmp::parse(&reply), Ok(Icmp::EchoReply));
    }
}

/// A stack takes the frame, answers, and lets its handshake, if it was one, die of old age.
fn taken(mut frame: Vec<u8>, policy: ChecksumPolicy, miss: Miss) {
    let mut now = Instant::ZERO + Duration::from_secs(1);
    let mut stack = Stack::new(
        barewire_stack::stack::StackConfig { rx_checksum: policy, ..lan::config(US) },
        now,
    );
    assert!(stack.listen(end(US, PORT), 1));
    let before = frame.clone();
    match stack.on_frame(now, &mut frame, miss) {
        Disposition::Done => {}
        Disposition::HandOff => assert_eq!(frame, before, "it goes on as it came"),
        Disposition::Reply(len) => {
            assert!(len <= frame.len(), "an answer is not longer than its frame");
            is_sound(&frame[..len]);
        }
    }
    let mut buf = [0; 2048];
    for _ in 0..200 {
        stack.on_timeout(now);
        while let Some(event) = stack.poll_event() {
            stack.event_done(&event);
        }
        while let Some(len) = stack.poll_transmit(now, &mut buf) {
            is_sound(&buf[..len]);
        }
        stack.audit().expect("the sums hold");
        match stack.poll_timeout(now) {
            Some(next) => now = next.max(now + Duration::from_millis(1)),
            None => break,
        }
    }
    assert_eq!(stack.n_records(), 0, "no handshake lives for ever");
}

/// What we send can be read by what we read with, to its last byte.
fn is_sound(frame: &[u8]) {
    let (ether, at) = Ethernet::parse(frame).expect("Ethernet");
    assert_eq!(ether.src, lan::mac(US));
    let packet = &frame[at..];
    if ether.ethertype == ethernet::TYPE_ARP {
        assert!(Arp::parse(packet).is_ok());
        return;
    }
    let (ip, range) = Ipv4::parse(packet).expect("IPv4");
    assert_eq!(range.end, packet.len());
    let message = &packet[range];
    if ip.protocol == ipv4::PROTOCOL_TCP {
        let parsed = Tcp::parse(message, ip.src, ip.dst, ChecksumPolicy::Verify).expect("TCP");
        assert!(!parsed.tcp.options.malformed);
    } else {
        assert_eq!(Icmp::parse(message), Ok(Icmp::EchoReply));
    }
}
