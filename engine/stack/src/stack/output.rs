//! The next frame to send: questions for neighbours first, then the segments of the connections that
//! wait in `ready`. A connection sends a burst and then goes to the end, so that a bulk transfer does
//! not hold up the rest; one whose next hop is unknown waits at the neighbour instead.

use super::fifo::Waits;
use super::neighbor::{Hop, Question};
use super::{Resolver, Stack};
use crate::stats::Counter;
use crate::tcp::{End, Outgoing};
use crate::time::Instant;
use crate::wire::arp::{self, Arp, ArpOperation};
use crate::wire::ethernet::{self, Mac};
use crate::wire::ipv4;
use crate::wire::plain::Headers;
use crate::wire::tcp;
use std::net::Ipv4Addr;

/// Segments one connection sends before others get their turn.
const BURST_MAX: u32 = 16;

impl Stack {
    /// Writes the next frame into `buf` and returns its length, or `None` when nothing is to be
    /// sent. `buf` takes headers and a segment of the configured MSS.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut [u8]) -> Option<usize> {
        let Some(len) = self.next_question(buf).or_else(|| self.next_segment(now, buf)) else {
            // Nothing changes the pool from here on until the next turn.
            self.stats.set(Counter::BufferChunks, u64::from(self.pool.n_used()));
            return None;
        };
        self.stats.inc(Counter::TxFrames);
        self.stats.add(Counter::TxBytes, len as u64);
        Some(len)
    }

    /// The next address whose MAC the kernel must be asked for, when it resolves for us.
    pub fn poll_neighbor(&mut self) -> Option<Ipv4Addr> {
        if self.neighbors.resolver == Resolver::Arp {
            return None;
        }
        self.neighbors.poll_question().map(|question| question.target)
    }

    /// The kernel's answer to [`Stack::poll_neighbor`].
    pub fn on_neighbor(&mut self, now: Instant, addr: Ipv4Addr, mac: Mac) {
        self.neighbors.learn(now, addr, mac, &mut self.records, &mut self.ready);
    }

    fn next_question(&mut self, buf: &mut [u8]) -> Option<usize> {
        if self.neighbors.resolver == Resolver::Kernel {
            return None;
        }
        let Question { target, asker } = self.neighbors.poll_question()?;
        self.stats.inc(Counter::ArpRequests);
        let question = Arp {
            operation: ArpOperation::Request,
            sender_mac: self.config.mac,
            sender_ip: asker,
            target_mac: Mac::ZERO,
            target_ip: target,
        };
        let at = self.emit_ethernet(buf, Mac::BROADCAST, ethernet::TYPE_ARP);
        question.emit(&mut buf[at..]);
        Some(at + arp::BYTES)
    }

    fn next_segment(&mut self, now: Instant, buf: &mut [u8]) -> Option<usize> {
        while let Some(slot) = self.ready.front() {
            let mac = match self.hop(now, slot) {
                Hop::Mac(mac, _) => mac,
                Hop::Wait => {
                    self.park(slot);
                    // The question just asked leaves at once.
                    if let Some(len) = self.next_question(buf) {
                        return Some(len);
                    }
                    continue;
                }
                Hop::Unreachable => {
                    self.lose_segment(now, slot);
                    continue;
                }
            };
            if !self.records[slot].in_table && self.find(&self.records.tuple(slot)).is_some() {
                self.records[slot].conn.forget_ack();
            }
            let (active, mut cx) = self.split(slot, now);
            if let Some(out) = active.conn.poll_transmit(&mut cx) {
                let len = self.emit_segment(slot, mac, out, buf);
                self.burst += 1;
                if !self.records[slot].conn.may_transmit() {
                    self.drop_from_ready(slot);
                } else if self.burst == BURST_MAX {
                    self.burst = 0;
                    self.ready.rotate(&mut self.records);
                }
                return Some(len);
            }
            self.drop_from_ready(slot);
        }
        None
    }

    /// What is known of the connection's next hop.
    fn hop(&mut self, now: Instant, slot: u32) -> Hop {
        let (cell, active) = self.records.both_mut(slot);
        if let Some(mac) = self.neighbors.at(now, active.way) {
            return Hop::Mac(mac, active.way);
        }
        let (local, remote) = (*cell.tuple.local().ip(), *cell.tuple.remote().ip());
        let hop = self.neighbors.lookup(now, self.next_hop(remote), local, &mut self.stats);
        if let Hop::Mac(_, way) = hop {
            self.records[slot].way = way;
        }
        hop
    }

    /// The connection at the front waits for its next hop to become known; its deadlines count on.
    fn park(&mut self, slot: u32) {
        self.burst = 0;
        let hop = self.next_hop(*self.records.tuple(slot).remote().ip());
        self.neighbors.park(&mut self.records, &mut self.ready, hop);
        self.take_up_deadline(slot);
    }

    pub(super) fn take_up_deadline(&mut self, slot: u32) {
        let deadline = self.records[slot].conn.poll_timeout();
        self.wheel.arm(&mut self.records, slot, deadline);
    }

    /// The connection has nothing to send for now: it leaves the queue, its deadline is taken up.
    fn drop_from_ready(&mut self, slot: u32) {
        self.burst = 0;
        self.ready.pop(self.records.link_mut(slot, Waits::Output));
        self.take_up_deadline(slot);
        self.retire(slot);
    }

    /// The next hop does not answer: an open fails. What others would have sent is lost like on any
    /// link; their timers run, so that they try again or give up in the end.
    fn lose_segment(&mut self, now: Instant, slot: u32) {
        let (record, mut cx) = self.split(slot, now);
        record.conn.on_unreachable(&mut cx, End::NoNeighbor);
        let is_done = record.conn.poll_transmit(&mut cx).is_none();
        self.after(slot);
        if is_done {
            self.drop_from_ready(slot);
        }
    }

    pub(super) fn next_hop(&self, remote: Ipv4Addr) -> Ipv4Addr {
        let on_link = self.config.addresses.iter().any(|prefix| prefix.contains(remote));
        match self.config.gateway {
            Some(gateway) if !on_link => gateway,
            _ => remote,
        }
    }

    fn emit_segment(&mut self, slot: u32, mac: Mac, mut out: Outgoing, buf: &mut [u8]) -> usize {
        let tuple = self.records.tuple(slot);
        let (local, remote) = (tuple.local(), tuple.remote());
        (out.tcp.src_port, out.tcp.dst_port) = (local.port(), remote.port());
        let ends = (*local.ip(), *remote.ip());
        let Some(data) = Headers::len(&out.tcp.options) else {
            return self.emit_by_layers(slot, mac, ends, &out, buf);
        };
        let frame = &mut buf[..data + out.len as usize];
        self.records[slot].conn.copy_payload(&self.pool, &out, &mut frame[data..]);
        self.headers.emit(frame, mac, ends, out.ecn, &out.tcp);
        frame.len()
    }

    /// Segments with options that few have.
    fn emit_by_layers(
        &self,
        slot: u32,
        mac: Mac,
        (local, remote): (Ipv4Addr, Ipv4Addr),
        out: &Outgoing,
        buf: &mut [u8],
    ) -> usize {
        let at = self.emit_ethernet(buf, mac, ethernet::TYPE_IPV4);
        let mut header = self.ipv4_header(local, remote, ipv4::PROTOCOL_TCP);
        header.ecn = out.ecn;
        let len = out.tcp.header_len() + out.len as usize;
        let start = at + header.emit(&mut buf[at..], len as u16);
        let payload = start + out.tcp.emit(&mut buf[start..]);
        let end = start + len;
        self.records[slot].conn.copy_payload(&self.pool, out, &mut buf[payload..end]);
        tcp::fill_checksum(&mut buf[start..end], local, remote);
        end
    }
}
