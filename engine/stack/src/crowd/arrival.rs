//! A frame arrives: ARP for an address of the crowd, or a segment for one of its connections. What it
//! means is judged by what it says itself, by the two bits of its connection, and by the flight that
//! the connection may have. Every answer but a request or a FIN fits the very frame it answers and is
//! written into it.

use super::flight::{Flight, Purpose, Stage};
use super::{Crowd, Event, Loss};
use crate::flow::FourTuple;
use crate::stack::{Disposition, Miss};
use crate::stats::{Counter, Counters};
use crate::tcp::Seq;
use crate::time::Instant;
use crate::wire::arp::{Arp, ArpOperation};
use crate::wire::ethernet::{self, Ethernet, Mac};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::tcp::{Flags, Tcp};
use std::net::SocketAddrV4;

/// How a frame of the crowd is counted, and what the caller does with it.
type Taken = (Counter, Disposition);

/// What a segment is taken for, and the answer to it.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    counter: Counter,
    answer: Option<Answer>,
}

/// An answer without data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) flags: Flags,
    pub(super) seq: Seq,
    pub(super) ack: Seq,
}

/// A segment of one of the crowd's own connections.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    now: Instant,
    idx: u64,
    isn: Seq,
    seg: &'a Tcp,
    payload: &'a [u8],
}

impl Verdict {
    const fn new(counter: Counter) -> Self {
        Verdict { counter, answer: None }
    }

    fn with(self, answer: Answer) -> Self {
        Verdict { answer: Some(answer), ..self }
    }
}

const USE: Verdict = Verdict::new(Counter::UseTcp);

impl Arrival<'_> {
    fn has(&self, flags: Flags) -> bool {
        self.seg.flags.contains(flags)
    }

    /// The sequence number after the segment.
    fn next(&self) -> Seq {
        let flags = [Flags::SYN, Flags::FIN].map(|flag| u32::from(self.has(flag)));
        Seq(self.seg.seq) + self.payload.len() as u32 + flags[0] + flags[1]
    }

    /// It acknowledges our SYN, and nothing after it.
    fn acks_syn(&self) -> bool {
        self.has(Flags::ACK) && Seq(self.seg.ack) == self.isn + 1
    }

    /// Nothing but an acknowledgement.
    fn is_bare(&self) -> bool {
        self.payload.is_empty() && !self.has(Flags::FIN)
    }

    /// An answer that continues where the peer expects it.
    fn answer(&self, flags: Flags, ack: Seq) -> Answer {
        Answer { flags, seq: Seq(self.seg.ack), ack }
    }

    fn ack(&self, ack: Seq) -> Answer {
        self.answer(Flags::ACK, ack)
    }

    /// RST in the form of RFC 9293 section 3.10.7.1.
    fn reset(&self) -> Answer {
        match self.has(Flags::ACK) {
            true => self.answer(Flags::RST, Seq(0)),
            false => Answer { flags: Flags::RST | Flags::ACK, seq: Seq(0), ack: self.next() },
        }
    }
}

impl Crowd {
    /// Takes one received frame, exactly its data bytes. `None` when it is not for the crowd: then it
    /// was not counted, and is as it was.
    pub fn on_frame(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        miss: Miss,
        stats: &mut Counters,
    ) -> Option<Disposition> {
        let (ether, at) = Ethernet::parse(frame).ok()?;
        if ether.vlan_id.is_some_and(|id| id != 0) {
            return None;
        }
        let n_bytes = frame.len() as u64;
        let (counter, disposition) = match ether.ethertype {
            ethernet::TYPE_ARP => self.on_arp(now, &ether, frame, at, miss)?,
            ethernet::TYPE_IPV4 if ether.dst == self.config.mac => {
                self.on_ipv4(now, &ether, frame, at, miss, stats)?
            }
            _ => return None,
        };
        stats.inc(Counter::RxFrames);
        stats.add(Counter::RxBytes, n_bytes);
        stats.inc(counter);
        if let Disposition::Reply(len) = disposition {
            stats.inc(Counter::TxFrames);
            stats.add(Counter::TxBytes, len as u64);
        }
        Some(disposition)
    }

    fn on_arp(
        &mut self,
        now: Instant,
        ether: &Ethernet,
        frame: &mut [u8],
        at: usize,
        miss: Miss,
    ) -> Option<Taken> {
        let packet = Arp::parse(&frame[at..]).ok()?;
        let plan = &self.config.plan;
        let sane = packet.sender_mac.is_unicast() && !plan.is_source(packet.sender_ip);
        if !sane || !plan.is_source(packet.target_ip) {
            return None;
        }
        if packet.operation == ArpOperation::Request {
            let len = self.answer_arp(ether.src, &packet, frame);
            return Some((Counter::UseArp, Disposition::Reply(len)));
        }
        let known = self.hops.learn(now, packet.sender_ip, packet.sender_mac);
        self.is_stalled &= !known;
        // It comes to the queue that the NIC likes, whichever worker has asked.
        match miss {
            Miss::HandOff => Some((Counter::UseHandoff, Disposition::HandOff)),
            Miss::Last => Some((Counter::UseArp, Disposition::Done)),
            Miss::Answer => known.then_some((Counter::UseArp, Disposition::Done)),
        }
    }

    fn on_ipv4(
        &mut self,
        now: Instant,
        ether: &Ethernet,
        frame: &mut [u8],
        at: usize,
        miss: Miss,
        stats: &mut Counters,
    ) -> Option<Taken> {
        let (ip, range) = Ipv4::parse(&frame[at..]).ok()?;
        if ip.protocol != ipv4::PROTOCOL_TCP || ip.is_fragment() {
            return None;
        }
        let segment = &frame[at..][range];
        let parsed = Tcp::parse(segment, ip.src, ip.dst, self.config.rx_checksum).ok()?;
        let seg = &parsed.tcp;
        let local = SocketAddrV4::new(ip.dst, seg.dst_port);
        let tuple = FourTuple::new(local, SocketAddrV4::new(ip.src, seg.src_port));
        let number = self.config.plan.number(&tuple)?;
        let (idx, worker) = (number / self.config.n_workers, number % self.config.n_workers);
        if worker != self.config.worker {
            // Another crowd of the plan owns the connection.
            return Some(match miss {
                Miss::HandOff => (Counter::UseHandoff, Disposition::HandOff),
                Miss::Answer | Miss::Last => (Counter::DropNoConnection, Disposition::Done),
            });
        }
        stats.inc(Counter::TcpIn);
        if parsed.partial_checksum {
            stats.inc(Counter::TcpChecksumPartial);
        }
        let payload = &segment[parsed.payload_offset..];
        let arrival = Arrival { now, idx, isn: self.isn(&tuple), seg, payload };
        let Verdict { counter, answer } = self.judge(&arrival, stats);
        let Some(answer) = answer else { return Some((counter, Disposition::Done)) };
        stats.inc(Counter::TcpOut);
        if answer.flags.contains(Flags::RST) {
            stats.inc(Counter::TcpRstOut);
        }
        let len = self.answer(now, frame, ether.src, &tuple, seg, answer);
        Some((counter, Disposition::Reply(len)))
    }

    fn judge(&mut self, arrival: &Arrival<'_>, stats: &mut Counters) -> Verdict {
        let Some(place) = self.flights.find(arrival.idx) else {
            return match self.bits.is_open(arrival.idx) {
                true => self
                    .on_open(arrival, None, stats)
                    .unwrap_or_else(|| self.on_idle(arrival, stats)),
                false => on_closed(arrival, arrival.idx < self.n_begun),
            };
        };
        let flight = *self.flights.get_mut(place);
        match flight.stage {
            Stage::Opening => return self.on_opening(arrival, place, stats),
            Stage::Resetting => return Verdict::new(Counter::DropAfterClose),
            Stage::Asking(_) | Stage::Requesting | Stage::Closing => {}
        }
        if let Some(verdict) = self.on_open(arrival, Some(place), stats) {
            return verdict;
        }
        if let Some(timestamps) = arrival.seg.options.timestamps {
            self.flights.get_mut(place).ts_recent = timestamps.value;
        }
        match flight.stage {
            Stage::Asking(purpose) => self.on_told(arrival, place, purpose, stats),
            Stage::Requesting => self.on_response(arrival, place, flight, stats),
            _ => self.on_closing(arrival, place, flight, stats),
        }
    }

    /// In SYN-SENT (RFC 9293 section 3.10.7.3). A SYN without ACK, of a peer that opens at the same
    /// time, is dropped: it will answer ours.
    fn on_opening(&mut self, a: &Arrival<'_>, place: u32, stats: &mut Counters) -> Verdict {
        if a.has(Flags::RST) {
            if !a.acks_syn() {
                return Verdict::new(Counter::DropRst);
            }
            stats.inc(Counter::TcpRstIn);
            self.lose(place, Loss::Refused, stats);
            self.flights.end(place);
            return USE;
        }
        if a.has(Flags::ACK) && !a.acks_syn() {
            // The peer has an older connection there: it must go first.
            return Verdict::new(Counter::DropAck).with(a.reset());
        }
        if !a.has(Flags::SYN | Flags::ACK) {
            return Verdict::new(Counter::DropSyn);
        }
        let took = a.now - self.flights.get_mut(place).since;
        self.bits.open(a.idx, a.next().0);
        self.flights.end(place);
        stats.inc(Counter::ConnsEstablished);
        self.events.push_back(Event::Opened(took));
        USE.with(a.ack(a.next()))
    }

    /// What every established connection does with RST, SYN and a segment without ACK. A reset is
    /// believed whatever its number, which only a record could tell.
    fn on_open(
        &mut self,
        a: &Arrival<'_>,
        place: Option<u32>,
        stats: &mut Counters,
    ) -> Option<Verdict> {
        if a.has(Flags::RST) {
            stats.inc(Counter::TcpRstIn);
            self.end_badly(a.idx, place, Loss::Reset, stats);
            return Some(USE);
        }
        if a.has(Flags::SYN) {
            let again = a.acks_syn().then(|| USE.with(a.ack(a.next())));
            return Some(again.unwrap_or(Verdict::new(Counter::DropSyn)));
        }
        (!a.has(Flags::ACK)).then_some(Verdict::new(Counter::DropNoAck))
    }

    /// Nothing was asked of the peer. Data are acknowledged: they may be a response whose
    /// acknowledgement was lost.
    fn on_idle(&mut self, a: &Arrival<'_>, stats: &mut Counters) -> Verdict {
        if a.has(Flags::FIN) {
            self.end_badly(a.idx, None, Loss::ClosedEarly, stats);
            return USE.with(a.answer(Flags::FIN | Flags::ACK, a.next()));
        }
        if !a.payload.is_empty() {
            stats.inc(Counter::TcpDuplicate);
        } else if self.bits.expects(a.idx, a.seg.seq) {
            return USE;
        }
        let next = self.expected(a);
        self.bits.open(a.idx, next.0);
        USE.with(a.ack(next))
    }

    /// The number after what has come, keepalive probes seen as what they are.
    fn expected(&self, a: &Arrival<'_>) -> Seq {
        let is_probe = a.is_bare() && !self.bits.expects(a.idx, a.seg.seq);
        a.next() + u32::from(is_probe)
    }

    /// The peer says its numbers, and so what the connection was taken up for can be done.
    fn on_told(
        &mut self,
        a: &Arrival<'_>,
        place: u32,
        purpose: Purpose,
        stats: &mut Counters,
    ) -> Verdict {
        if a.has(Flags::FIN) {
            match purpose {
                Purpose::Request => self.end_badly(a.idx, Some(place), Loss::ClosedEarly, stats),
                Purpose::Fin | Purpose::Rst => self.end_well(a.idx, place, stats),
            }
            return USE.with(a.answer(Flags::FIN | Flags::ACK, a.next()));
        }
        let next = self.expected(a);
        self.bits.open(a.idx, next.0);
        let flight = self.flights.get_mut(place);
        (flight.snd, flight.rcv) = (Seq(a.seg.ack), next);
        let stage = match purpose {
            Purpose::Request => Stage::Requesting,
            Purpose::Fin => Stage::Closing,
            Purpose::Rst => {
                self.settle(a.idx, Counter::ConnsAborted, stats);
                Stage::Resetting
            }
        };
        self.flights.enter(a.now, place, stage);
        if a.payload.is_empty() { USE } else { USE.with(a.ack(next)) }
    }

    /// A request is under way: its acknowledgement, and what has come of the response.
    fn on_response(
        &mut self,
        a: &Arrival<'_>,
        place: u32,
        flight: Flight,
        stats: &mut Counters,
    ) -> Verdict {
        let n_asked = u32::from(self.config.request_bytes);
        if !flight.is_acked && Seq(a.seg.ack).ge(flight.snd + n_asked) {
            stats.add(Counter::TcpBytesAcked, u64::from(n_asked));
            self.flights.get_mut(place).is_acked = true;
        }
        let seq = Seq(a.seg.seq);
        if seq.gt(flight.rcv) {
            stats.inc(Counter::TcpOutOfOrder);
            return USE.with(a.ack(flight.rcv));
        }
        let n_old = (flight.rcv - seq) as usize;
        if n_old > 0 && a.next().le(flight.rcv) {
            stats.inc(Counter::TcpDuplicate);
            return USE.with(a.ack(flight.rcv));
        }
        let new = &a.payload[n_old..];
        if !self.is_right(a, &flight, new) {
            self.end_badly(a.idx, Some(place), Loss::WrongResponse, stats);
            return USE.with(a.reset());
        }
        let n_new = new.len() as u32;
        stats.add(Counter::TcpBytesIn, u64::from(n_new));
        let is_whole = flight.got + n_new == n_asked;
        let next = flight.rcv + n_new;
        let taken = self.flights.get_mut(place);
        (taken.rcv, taken.got) = (next, flight.got + n_new);
        self.bits.open(a.idx, next.0);
        if is_whole {
            let left = if a.has(Flags::FIN) { 0 } else { flight.left };
            self.events.push_back(Event::Responded { took: a.now - flight.since, left });
        }
        if a.has(Flags::FIN) {
            match is_whole {
                true => self.end_well(a.idx, place, stats),
                false => self.end_badly(a.idx, Some(place), Loss::ClosedEarly, stats),
            }
            return USE.with(a.answer(Flags::FIN | Flags::ACK, next + 1));
        }
        if is_whole {
            self.after_response(a.now, place, flight.snd + n_asked);
        }
        if new.is_empty() { USE } else { USE.with(a.ack(next)) }
    }

    /// The next request goes out on the same connection, or nothing is in flight on it any more.
    fn after_response(&mut self, now: Instant, place: u32, snd: Seq) {
        let flight = self.flights.get_mut(place);
        if flight.left == 0 {
            self.flights.end(place);
            return;
        }
        (flight.left, flight.snd) = (flight.left - 1, snd);
        self.flights.enter(now, place, Stage::Requesting);
    }

    /// What has come is what was sent, byte for byte, and not more than that.
    fn is_right(&self, a: &Arrival<'_>, flight: &Flight, new: &[u8]) -> bool {
        let n_asked = usize::from(self.config.request_bytes);
        let got = flight.got as usize;
        if got + new.len() > n_asked {
            return false;
        }
        let mut sent = [0; super::REQUEST_BYTES_MAX as usize];
        self.fill(a.idx, a.isn, flight.snd, &mut sent[..n_asked]);
        sent[got..got + new.len()] == *new
    }

    /// We have sent a FIN: its acknowledgement, and the peer's FIN.
    fn on_closing(
        &mut self,
        a: &Arrival<'_>,
        place: u32,
        flight: Flight,
        stats: &mut Counters,
    ) -> Verdict {
        let is_acked = flight.is_acked || Seq(a.seg.ack).gt(flight.snd);
        let is_finished = flight.is_finished || a.has(Flags::FIN);
        let taken = self.flights.get_mut(place);
        (taken.is_acked, taken.is_finished) = (is_acked, is_finished);
        if is_acked && is_finished {
            self.end_well(a.idx, place, stats);
        }
        if a.is_bare() {
            let is_probe = !is_finished && !self.bits.expects(a.idx, a.seg.seq);
            return if is_probe { USE.with(a.ack(a.next() + 1)) } else { USE };
        }
        USE.with(a.ack(a.next()))
    }

    fn end_well(&mut self, idx: u64, place: u32, stats: &mut Counters) {
        self.settle(idx, Counter::ConnsClosed, stats);
        self.flights.end(place);
    }

    fn end_badly(&mut self, idx: u64, place: Option<u32>, loss: Loss, stats: &mut Counters) {
        match place {
            Some(place) => {
                self.lose(place, loss, stats);
                self.flights.end(place);
            }
            None => self.count_loss(idx, loss, false, stats),
        }
    }

    fn answer_arp(&self, to: Mac, packet: &Arp, frame: &mut [u8]) -> usize {
        let answer = Arp {
            operation: ArpOperation::Reply,
            sender_mac: self.config.mac,
            sender_ip: packet.target_ip,
            target_mac: packet.sender_mac,
            target_ip: packet.sender_ip,
        };
        self.emit_arp(frame, to, &answer)
    }
}

/// Nothing is open there. A repeated FIN is acknowledged, as TIME-WAIT would; what belongs to no
/// connection is answered with RST, but a bare ACK on the way when its connection ended is not: it
/// would undo the close.
fn on_closed(a: &Arrival<'_>, was_begun: bool) -> Verdict {
    let verdict = Verdict::new(Counter::DropNoConnection);
    if a.has(Flags::RST) {
        return Verdict::new(Counter::DropRst);
    }
    let is_over = was_begun && a.has(Flags::ACK) && !a.has(Flags::SYN);
    match is_over {
        true if a.has(Flags::FIN) => verdict.with(a.ack(a.next())),
        true if a.payload.is_empty() => verdict,
        _ => verdict.with(a.reset()),
    }
}
