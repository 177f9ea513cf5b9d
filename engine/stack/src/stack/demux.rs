//! A frame arrives: Ethernet, ARP, IPv4, ICMP, TCP, down to the connection or listener it is for.
//! Each received frame is counted once, as used or as dropped for a reason. An answer that needs no
//! connection (ARP, echo, RST, SYN cookie) is written into the very frame it answers, so answers need no queue
//! and never outnumber what arrived.

use super::listen::{Heard, Incoming};
use super::record::Active;
use super::{Stack, State};
use crate::flow::{FourTuple, Place};
use crate::stats::Counter;
use crate::tcp::resting::Stirred;
use crate::tcp::{End, Seq, Verdict};
use crate::time::Instant;
use crate::wire::arp::{Arp, ArpOperation};
use crate::wire::ethernet::{self, Ethernet, Mac};
use crate::wire::icmp::{self, Icmp, Quote};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::tcp::{self, Flags, Options, Tcp};
use crate::wire::{WireError, arp};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

/// What the caller does with a frame after [`Stack::on_frame`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The frame may be reused.
    Done,
    /// The frame now holds an answer of this length: transmit it.
    Reply(usize),
    /// The segment is for no connection here, or the ARP reply for all; with [`Miss::HandOff`] it goes
    /// to the next worker.
    HandOff,
}

/// What to do with a segment for which this stack has neither connection nor listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Answer with RST: there is no other worker.
    Answer,
    /// Answer with RST: every other worker has been asked.
    Last,
    /// Leave it as it is, for the next worker.
    HandOff,
}

/// How one frame ends.
enum Fate {
    Use(Counter),
    Drop(Counter),
    /// Used or dropped, and answered in place.
    Reply(Counter, usize),
}

/// Where things are in a frame that holds a TCP segment.
struct Layout {
    ether: Ethernet,
    ip: Ipv4,
    /// The TCP segment.
    segment: Range<usize>,
}

impl Stack {
    /// Takes one received frame, exactly its data bytes.
    pub fn on_frame(&mut self, now: Instant, frame: &mut [u8], miss: Miss) -> Disposition {
        self.stats.inc(Counter::RxFrames);
        self.stats.add(Counter::RxBytes, frame.len() as u64);
        if let Some(counter) = self.on_plain(now, frame) {
            self.stats.inc(counter);
            return Disposition::Done;
        }
        match self.dispatch(now, frame, miss) {
            Fate::Use(counter) | Fate::Drop(counter) => {
                self.stats.inc(counter);
                if counter == Counter::UseHandoff {
                    Disposition::HandOff
                } else {
                    Disposition::Done
                }
            }
            Fate::Reply(counter, len) => {
                self.stats.inc(counter);
                self.stats.inc(Counter::TxFrames);
                self.stats.add(Counter::TxBytes, len as u64);
                Disposition::Reply(len)
            }
        }
    }

    /// The long way. Out of line, so that the short one has the registers.
    #[inline(never)]
    fn dispatch(&mut self, now: Instant, frame: &mut [u8], miss: Miss) -> Fate {
        let Ok((ether, at)) = Ethernet::parse(frame) else {
            return Fate::Drop(Counter::DropEthernet);
        };
        if ether.vlan_id.is_some_and(|id| id != 0) {
            return Fate::Drop(Counter::DropVlan);
        }
        match ether.ethertype {
            ethernet::TYPE_ARP => self.on_arp(now, &ether, frame, at, miss),
            // A packet for one host in a frame for many is an error or an attack (RFC 1122
            // section 3.3.6), and TCP is never multicast (MUST-57).
            _ if ether.dst != self.config.mac => Fate::Drop(Counter::DropForeignMac),
            ethernet::TYPE_IPV4 => self.on_ipv4(now, ether, frame, at, miss),
            _ => Fate::Drop(Counter::DropEthertype),
        }
    }

    fn on_arp(
        &mut self,
        now: Instant,
        ether: &Ethernet,
        frame: &mut [u8],
        at: usize,
        miss: Miss,
    ) -> Fate {
        let Ok(packet) = Arp::parse(&frame[at..]) else { return Fate::Drop(Counter::DropArp) };
        let for_us = self.is_ours(packet.target_ip);
        let sane = packet.sender_mac.is_unicast() && !self.is_ours(packet.sender_ip);
        if !for_us || !sane {
            return Fate::Drop(Counter::DropArp);
        }
        let (mac, ip) = (packet.sender_mac, packet.sender_ip);
        let known = self.neighbors.learn(now, ip, mac, &mut self.queues);
        if packet.operation == ArpOperation::Reply {
            // It goes to the queue that the NIC likes, whichever worker has asked.
            if miss == Miss::HandOff {
                return Fate::Use(Counter::UseHandoff);
            }
            // After a round one of the others may have been the one that asked.
            let asked = known || miss == Miss::Last;
            return if asked { Fate::Use(Counter::UseArp) } else { Fate::Drop(Counter::DropArp) };
        }
        if !ip.is_unspecified() {
            self.neighbors.note_asker(now, ip, mac, &mut self.stats);
        }
        let answer = Arp {
            operation: ArpOperation::Reply,
            sender_mac: self.config.mac,
            sender_ip: packet.target_ip,
            target_mac: mac,
            target_ip: ip,
        };
        let len = self.emit_ethernet(frame, ether.src, ethernet::TYPE_ARP);
        answer.emit(&mut frame[len..]);
        Fate::Reply(Counter::UseArp, len + arp::BYTES)
    }

    fn on_ipv4(
        &mut self,
        now: Instant,
        ether: Ethernet,
        frame: &mut [u8],
        at: usize,
        miss: Miss,
    ) -> Fate {
        let Ok((ip, payload)) = Ipv4::parse(&frame[at..]) else {
            return Fate::Drop(Counter::DropIpv4Header);
        };
        if !self.is_ours(ip.dst) {
            return Fate::Drop(Counter::DropForeignAddress);
        }
        if self.is_martian(ip.src) {
            return Fate::Drop(Counter::DropMartian);
        }
        if ip.is_fragment() {
            return Fate::Drop(Counter::DropFragment);
        }
        let place = Layout { ether, ip, segment: at + payload.start..at + payload.end };
        match place.ip.protocol {
            ipv4::PROTOCOL_TCP => self.on_tcp(now, place, frame, miss),
            ipv4::PROTOCOL_ICMP => self.on_icmp(now, place, frame, miss),
            _ => Fate::Drop(Counter::DropProtocol),
        }
    }

    fn on_icmp(&mut self, now: Instant, place: Layout, frame: &mut [u8], miss: Miss) -> Fate {
        let message = &mut frame[place.segment.clone()];
        match Icmp::parse(message) {
            Ok(Icmp::EchoRequest) => {
                icmp::turn_echo_into_reply(message);
                let len = message.len();
                Fate::Reply(Counter::UseIcmp, self.echo_reply(place, frame, len))
            }
            Ok(Icmp::Unreachable { code, mtu, quote: Some(quote) }) => {
                self.on_unreachable(now, code, mtu, &quote, miss)
            }
            _ => Fate::Drop(Counter::DropIcmp),
        }
    }

    /// A segment did not reach its destination. Protocol and port unreachable end an open, and a
    /// packet that is too big becomes smaller; everything else is soft (RFC 5461). Only a quote of what
    /// we really sent counts (RFC 5927 section 4.1).
    fn on_unreachable(
        &mut self,
        now: Instant,
        code: u8,
        mtu: u16,
        quote: &Quote,
        miss: Miss,
    ) -> Fate {
        let local = SocketAddrV4::new(quote.src, quote.src_port);
        let remote = SocketAddrV4::new(quote.dst, quote.dst_port);
        let slot = match self.find(&FourTuple::new(local, remote)) {
            Some(Place::Record(slot)) if self.records.get(slot).is_some() => slot,
            None if miss == Miss::HandOff => return Fate::Use(Counter::UseHandoff),
            // What sleeps or rests has nothing in flight that could be quoted.
            _ => return Fate::Drop(Counter::DropIcmp),
        };
        let seq = Seq(quote.seq);
        let (record, mut cx) = self.split(slot, now);
        let conn = &mut record.conn;
        let quotes_us = seq.ge(conn.snd.una) && seq.le(conn.snd.max);
        let is_of_use = match code {
            icmp::CODE_FRAGMENTATION_NEEDED => quotes_us && conn.on_too_big(&mut cx, seq, mtu),
            2 | 3 if quotes_us && conn.state() == State::SynSent => {
                conn.on_unreachable(&mut cx, End::Unreachable);
                true
            }
            _ => false,
        };
        if !is_of_use {
            return Fate::Drop(Counter::DropIcmp);
        }
        self.after(slot);
        Fate::Use(Counter::UseIcmp)
    }

    /// The echo reply is the request with its addresses turned round; what the frame holds beyond
    /// the packet is cut.
    fn echo_reply(&mut self, place: Layout, frame: &mut [u8], len: usize) -> usize {
        let at = self.emit_ethernet(frame, place.ether.src, ethernet::TYPE_IPV4);
        // IP options or a priority tag are not repeated: the message moves up to the header.
        let target = at + ipv4::HEADER_BYTES;
        frame.copy_within(place.segment, target);
        let header = self.ipv4_header(place.ip.dst, place.ip.src, ipv4::PROTOCOL_ICMP);
        header.emit(&mut frame[at..], len as u16);
        target + len
    }

    fn on_tcp(&mut self, now: Instant, place: Layout, frame: &mut [u8], miss: Miss) -> Fate {
        let (src, dst) = (place.ip.src, place.ip.dst);
        let segment = &frame[place.segment.clone()];
        let parsed = match Tcp::parse(segment, src, dst, self.config.rx_checksum) {
            Ok(parsed) => parsed,
            Err(WireError::BadChecksum) => return Fate::Drop(Counter::DropTcpChecksum),
            Err(_) => return Fate::Drop(Counter::DropTcpHeader),
        };
        let seg = parsed.tcp;
        if seg.src_port == 0 || seg.dst_port == 0 {
            return Fate::Drop(Counter::DropMartian);
        }
        self.stats.inc(Counter::TcpIn);
        if parsed.partial_checksum {
            self.stats.inc(Counter::TcpChecksumPartial);
        }
        if seg.options.malformed {
            self.stats.inc(Counter::TcpOptionsMalformed);
        }
        let payload = &segment[parsed.payload_offset..];
        let len = payload.len() as u32;
        let local = SocketAddrV4::new(dst, seg.dst_port);
        let tuple = FourTuple::new(local, SocketAddrV4::new(src, seg.src_port));
        let room = frame.len() - ethernet::HEADER_BYTES - ipv4::HEADER_BYTES;
        let incoming = Incoming { tuple, seg: &seg, ecn: place.ip.ecn, payload, room };
        match self.on_segment(now, &incoming, miss) {
            Heard::Settled(Verdict::Accept) => Fate::Use(Counter::UseTcp),
            Heard::Settled(Verdict::Drop(counter)) => Fate::Drop(counter),
            Heard::Settled(Verdict::Refuse(counter)) => {
                self.refuse(now, place, frame, &seg, len, counter)
            }
            Heard::Answer(answer, counter) => {
                Fate::Reply(counter, self.emit_answer(&place, frame, &answer))
            }
            Heard::HandOn => Fate::Use(Counter::UseHandoff),
        }
    }

    /// A segment finds its connection: awake, asleep, at rest, or none here.
    fn on_segment(&mut self, now: Instant, incoming: &Incoming<'_>, miss: Miss) -> Heard {
        let Incoming { tuple, seg, ecn, payload, room } = *incoming;
        match self.find(&tuple) {
            Some(found) if miss == Miss::HandOff && self.acks_another_syn(found, seg) => {
                Heard::HandOn
            }
            Some(found) if self.is_fresh_syn(found, seg, tuple.local()) => {
                self.recycle(found);
                self.on_stray(now, incoming, miss)
            }
            Some(Place::Record(slot)) => {
                self.wake(now, slot);
                let (active, mut cx) = self.split(slot, now);
                let verdict = active.conn.on_segment(&mut cx, seg, ecn, payload);
                self.after(slot);
                Heard::Settled(verdict)
            }
            Some(Place::Rest(number)) => {
                let Stirred { verdict, answer, .. } = self.stir(now, number, seg, payload);
                let Some(mut answer) = answer.map(|out| out.tcp) else {
                    return Heard::Settled(verdict);
                };
                (answer.src_port, answer.dst_port) = (seg.dst_port, seg.src_port);
                if answer.header_len() > room {
                    answer.options = Options::default();
                }
                Heard::Answer(answer, verdict.counter())
            }
            None => self.on_stray(now, incoming, miss),
        }
    }

    /// Acknowledges a SYN that this half-open connection did not send. Its flow may have changed its
    /// queue between the peer's SYN and the repetition of it: then two workers have answered, and the
    /// peer goes on with the other one.
    fn acks_another_syn(&self, found: Place, seg: &Tcp) -> bool {
        let Place::Record(slot) = found else { return false };
        let Some(Active { conn, .. }) = self.records.get(slot) else { return false };
        let ack = Seq(seg.ack);
        conn.state() == State::SynReceived
            && seg.flags.contains(Flags::ACK)
            && (ack.le(conn.snd.una) || ack.gt(conn.snd.max))
    }

    /// The SYN of a new connection whose four-tuple still rests in TIME-WAIT: its number lies
    /// beyond the old ones, or its timestamp is newer (RFC 6191, RFC 1122 section 4.2.2.13).
    fn is_fresh_syn(&self, found: Place, seg: &Tcp, local: SocketAddrV4) -> bool {
        let is_syn = seg.flags.contains(Flags::SYN)
            && !seg.flags.intersects(Flags::RST | Flags::ACK | Flags::FIN);
        is_syn
            && self.listener(local).is_some()
            && match found {
                Place::Rest(number) => self.time_wait.at(number).resting.is_older_than(seg),
                Place::Record(slot) => self.records.get(slot).is_some_and(|active| {
                    active.conn.state() == State::TimeWait && active.conn.is_older_than(seg)
                }),
            }
    }

    /// Answers a segment with the RST of RFC 9293 section 3.10.7.1; a RST is never answered, and a
    /// flood only up to the limit.
    fn refuse(
        &mut self,
        now: Instant,
        place: Layout,
        frame: &mut [u8],
        seg: &Tcp,
        payload_len: u32,
        counter: Counter,
    ) -> Fate {
        if seg.flags.contains(Flags::RST) {
            return Fate::Drop(counter);
        }
        if !self.resets.allows(now, self.config.resets_per_second_max) {
            self.stats.inc(Counter::TcpRstLimited);
            return Fate::Drop(counter);
        }
        let has_ack = seg.flags.contains(Flags::ACK);
        let len = payload_len
            + u32::from(seg.flags.contains(Flags::SYN))
            + u32::from(seg.flags.contains(Flags::FIN));
        let answer = Tcp {
            src_port: seg.dst_port,
            dst_port: seg.src_port,
            seq: if has_ack { seg.ack } else { 0 },
            ack: if has_ack { 0 } else { seg.seq.wrapping_add(len) },
            flags: if has_ack { Flags::RST } else { Flags::RST | Flags::ACK },
            window: 0,
            urgent: 0,
            options: Options::default(),
        };
        self.stats.inc(Counter::TcpRstOut);
        self.stats.inc(Counter::TcpOut);
        Fate::Reply(counter, self.emit_answer(&place, frame, &answer))
    }

    /// Writes a segment without data into the frame that it answers.
    fn emit_answer(&self, place: &Layout, frame: &mut [u8], answer: &Tcp) -> usize {
        let (local, remote) = (place.ip.dst, place.ip.src);
        let at = self.emit_ethernet(frame, place.ether.src, ethernet::TYPE_IPV4);
        let header = self.ipv4_header(local, remote, ipv4::PROTOCOL_TCP);
        let start = at + header.emit(&mut frame[at..], answer.header_len() as u16);
        let end = start + answer.emit(&mut frame[start..]);
        tcp::fill_checksum(&mut frame[start..end], local, remote);
        end
    }

    pub(super) fn emit_ethernet(&self, frame: &mut [u8], dst: Mac, ethertype: u16) -> usize {
        Ethernet { dst, src: self.config.mac, vlan_id: None, ethertype }.emit(frame)
    }

    /// A header of ours. The identification is 0, for nothing we send may be fragmented (RFC 6864).
    pub(super) fn ipv4_header(&self, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8) -> Ipv4 {
        Ipv4 {
            src,
            dst,
            protocol,
            ttl: self.config.ttl,
            dscp: self.config.dscp,
            ecn: 0,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
        }
    }

    /// One of our unicast addresses.
    pub(super) fn is_ours(&self, addr: Ipv4Addr) -> bool {
        self.config.addresses.iter().any(|p| p.addr == addr)
            || self.config.prefixes.iter().any(|p| p.contains(addr) && !p.is_reserved(addr))
    }

    /// A source that no peer can have (RFC 1122 section 3.2.1.3, MUST-63).
    pub(super) fn is_martian(&self, addr: Ipv4Addr) -> bool {
        addr.octets()[0] == 0
            || addr.is_loopback()
            || addr.is_multicast()
            || addr.octets()[0] >= 240
            || self.is_ours(addr)
            || self.config.addresses.iter().any(|p| p.is_reserved(addr))
    }
}
