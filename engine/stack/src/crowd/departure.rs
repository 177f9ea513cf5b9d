//! The next frame to send: what a flight has to say, a request for the address of a next hop, and the
//! answers that are written into the frames they answer.

use super::arrival::Answer;
use super::flight::{Flight, Stage};
use super::hops::Hop;
use super::{Crowd, Loss};
use crate::flow::FourTuple;
use crate::stats::{Counter, Counters};
use crate::tcp::Seq;
use crate::time::Instant;
use crate::wire::arp::{self, Arp, ArpOperation};
use crate::wire::ethernet::{self, Ethernet, Mac};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::tcp::{self, Flags, Options, Tcp, Timestamps};
use std::net::Ipv4Addr;

/// The window that is told: all that fits without scaling.
const WINDOW: u16 = u16::MAX;

/// Flights tried for one frame, those that wait for their next hop passed over.
const LOOKS_MAX: usize = 16;

impl Crowd {
    /// Writes the next frame to send into `buf`, which holds a packet of the MTU; its length, or
    /// `None` when nothing is to be sent.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        buf: &mut [u8],
        stats: &mut Counters,
    ) -> Option<usize> {
        for _ in 0..LOOKS_MAX {
            let place = self.flights.next_queued()?;
            let flight = *self.flights.get_mut(place);
            let tuple = self.tuple(flight.idx);
            let remote = *tuple.remote().ip();
            let len = match self.hops.lookup(now, self.config.next_hop(remote)) {
                Hop::Mac(mac) => self.send(now, place, &flight, mac, buf, stats),
                Hop::Ask(hop) => {
                    stats.inc(Counter::ArpRequests);
                    self.ask(buf, *tuple.local().ip(), hop)
                }
                Hop::Wait => {
                    self.flights.pass();
                    continue;
                }
                Hop::Unreachable => {
                    self.on_unreachable(place, flight.stage, stats);
                    continue;
                }
            };
            self.is_stalled = false;
            stats.inc(Counter::TxFrames);
            stats.add(Counter::TxBytes, len as u64);
            return Some(len);
        }
        self.is_stalled = true;
        None
    }

    /// An open fails at once, as it does in the stack; what is established may see better times
    /// before it is given up.
    fn on_unreachable(&mut self, place: u32, stage: Stage, stats: &mut Counters) {
        match stage {
            Stage::Opening => {
                stats.inc(Counter::NeighborFailed);
                self.lose(place, Loss::Unreachable, stats);
                self.flights.end(place);
            }
            _ => self.flights.pass(),
        }
    }

    /// What a flight has to say in its stage.
    fn send(
        &mut self,
        now: Instant,
        place: u32,
        flight: &Flight,
        mac: Mac,
        buf: &mut [u8],
        stats: &mut Counters,
    ) -> usize {
        let tuple = self.tuple(flight.idx);
        let isn = self.isn(&tuple);
        let (flags, seq, ack) = match flight.stage {
            Stage::Opening => (Flags::SYN, isn, Seq(0)),
            // One byte before the SYN: so old that it is dropped before anybody looks at its ACK field,
            // and since it has data, the answer is under no limit.
            Stage::Asking(_) => (Flags::ACK, isn - 1, Seq(0)),
            Stage::Requesting => (Flags::ACK | Flags::PSH, flight.snd, flight.rcv),
            Stage::Closing => (Flags::ACK | Flags::FIN, flight.snd, flight.rcv),
            Stage::Resetting => (Flags::ACK | Flags::RST, flight.snd, flight.rcv),
        };
        let mut segment = segment(&tuple, Answer { flags, seq, ack });
        if flight.stage == Stage::Opening {
            segment.options.mss = Some(self.config.mss);
        }
        if self.config.timestamps {
            let value = self.clock(now, &tuple);
            segment.options.timestamps = Some(Timestamps { value, echo: flight.ts_recent });
        }
        let mut request = [0; super::REQUEST_BYTES_MAX as usize];
        let n = match flight.stage {
            Stage::Asking(_) => 1,
            Stage::Requesting => usize::from(self.config.request_bytes),
            _ => 0,
        };
        if flight.stage == Stage::Requesting {
            self.fill(flight.idx, isn, flight.snd, &mut request[..n]);
        }
        let len = self.emit(buf, mac, &tuple, &segment, &request[..n]);
        self.note_sent(now, place, flight.stage, stats);
        len
    }

    fn note_sent(&mut self, now: Instant, place: u32, stage: Stage, stats: &mut Counters) {
        let is_repeated = self.flights.sent(now, self.give_up_at(place));
        stats.inc(Counter::TcpOut);
        match stage {
            _ if is_repeated => stats.inc(Counter::TcpRetransmitted),
            Stage::Asking(_) => stats.inc(Counter::TcpProbes),
            Stage::Requesting => {
                stats.add(Counter::TcpBytesOut, u64::from(self.config.request_bytes));
            }
            Stage::Resetting => stats.inc(Counter::TcpRstOut),
            Stage::Opening | Stage::Closing => {}
        }
        if stage == Stage::Resetting {
            self.flights.end(place);
        }
    }

    /// Turns a frame with a segment into one with the answer to it. Timestamps are in the answer only
    /// where they were in the segment, so it is no longer than what it answers.
    pub(super) fn answer(
        &self,
        now: Instant,
        frame: &mut [u8],
        mac: Mac,
        tuple: &FourTuple,
        seg: &Tcp,
        answer: Answer,
    ) -> usize {
        let mut out = segment(tuple, answer);
        if let Some(theirs) = seg.options.timestamps {
            let value = self.clock(now, tuple);
            out.options.timestamps = Some(Timestamps { value, echo: theirs.value });
        }
        self.emit(frame, mac, tuple, &out, &[])
    }

    fn emit(
        &self,
        buf: &mut [u8],
        mac: Mac,
        tuple: &FourTuple,
        segment: &Tcp,
        payload: &[u8],
    ) -> usize {
        let (src, dst) = (*tuple.local().ip(), *tuple.remote().ip());
        let ether = Ethernet {
            dst: mac,
            src: self.config.mac,
            vlan_id: None,
            ethertype: ethernet::TYPE_IPV4,
        };
        let at = ether.emit(buf);
        let ip = Ipv4 {
            src,
            dst,
            protocol: ipv4::PROTOCOL_TCP,
            ttl: self.config.ttl,
            dscp: 0,
            ecn: 0,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
        };
        let len = segment.header_len() + payload.len();
        let start = at + ip.emit(&mut buf[at..], len as u16);
        let text = start + segment.emit(&mut buf[start..]);
        buf[text..text + payload.len()].copy_from_slice(payload);
        tcp::fill_checksum(&mut buf[start..start + len], src, dst);
        start + len
    }

    /// A request for the address of a next hop.
    fn ask(&self, buf: &mut [u8], asker: Ipv4Addr, hop: Ipv4Addr) -> usize {
        let request = Arp {
            operation: ArpOperation::Request,
            sender_mac: self.config.mac,
            sender_ip: asker,
            target_mac: Mac::ZERO,
            target_ip: hop,
        };
        self.emit_arp(buf, Mac::BROADCAST, &request)
    }

    pub(super) fn emit_arp(&self, buf: &mut [u8], to: Mac, packet: &Arp) -> usize {
        let ether = Ethernet {
            dst: to,
            src: self.config.mac,
            vlan_id: None,
            ethertype: ethernet::TYPE_ARP,
        };
        let at = ether.emit(buf);
        packet.emit(&mut buf[at..]);
        at + arp::BYTES
    }
}

fn segment(tuple: &FourTuple, answer: Answer) -> Tcp {
    Tcp {
        src_port: tuple.local().port(),
        dst_port: tuple.remote().port(),
        seq: answer.seq.0,
        ack: answer.ack.0,
        flags: answer.flags,
        window: WINDOW,
        urgent: 0,
        options: Options::default(),
    }
}
