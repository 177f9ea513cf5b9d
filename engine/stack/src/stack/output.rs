//! The next frame to send: questions for neighbours first, then the segments of the connections that
//! wait in `ready`. A connection sends a burst and then goes to the end, so that a bulk transfer does
//! not hold up the rest; one whose next hop is unknown waits at the neighbour instead.

use super::neighbor::{Hop, Question};
use super::{Connection, Context, FourTuple, Resolver, Stack};
use crate::stats::Counter;
use crate::tcp::End;
use crate::time::Instant;
use crate::wire::arp::{self, Arp, ArpOperation};
use crate::wire::ethernet::{self, Mac};
use crate::wire::plain::Headers;
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
        self.neighbors.learn(now, addr, mac, &mut self.queues);
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
        while let Some(slot) = self.queues.ready.front() {
            if let Some(len) = self.segment_of(now, slot, buf) {
                return Some(len);
            }
        }
        None
    }

    /// The next segment of the connection at the front, which leaves the line when it has no more, or goes
    /// to its end after a burst. Out of line, or the loop would prepare for more than one in advance.
    #[inline(never)]
    fn segment_of(&mut self, now: Instant, slot: u32, buf: &mut [u8]) -> Option<usize> {
        let Stack { records, neighbors, config, headers, moment, pool, segments, stats, .. } = self;
        let (cell, active) = records.both_mut(slot);
        let (mut sent, mut has_more) = (None, active.conn.may_transmit());
        if has_more {
            let Some(mac) = neighbors.at(now, active.way) else {
                return self.find_way(now, slot, buf);
            };
            let now = moment.reach(now);
            let mut cx = Context { now, config: &config.tcp, pool, segments, stats };
            let conn = &mut active.conn;
            let Some(len) = write_segment(conn, &mut cx, headers, mac, &cell.tuple, buf) else {
                self.drop_from_ready(slot);
                return None;
            };
            (sent, has_more) = (Some(len), conn.may_transmit());
            self.burst += 1;
        }
        if !has_more {
            self.burst = 0;
            self.queues.pop_ready(active);
            let deadline = active.conn.poll_timeout();
            if !cell.timer.comes_up_by(deadline) {
                self.wheel.arm(&mut self.records, slot, deadline);
            }
        } else if self.burst == BURST_MAX {
            self.burst = 0;
            self.queues.rotate();
        }
        sent
    }

    /// The connection at the front has not sent before, or not for long: finds its next hop. A question
    /// that has to be asked for that leaves at once, and the connection waits for the answer.
    fn find_way(&mut self, now: Instant, slot: u32, buf: &mut [u8]) -> Option<usize> {
        let tuple = self.records.tuple(slot);
        if !self.records[slot].in_table && self.find(&tuple).is_some() {
            self.records[slot].conn.forget_ack();
        }
        let (local, remote) = (*tuple.local().ip(), *tuple.remote().ip());
        let hop = self.next_hop(remote);
        match self.neighbors.lookup(now, hop, local, &mut self.stats) {
            Hop::Way(way) => self.records[slot].way = way,
            Hop::Wait => {
                self.burst = 0;
                self.neighbors.park(&mut self.queues, hop);
                self.take_up_deadline(slot);
                return self.next_question(buf);
            }
            Hop::Unreachable => self.lose_segment(now, slot),
        }
        None
    }

    /// The connection's deadline is taken up.
    pub(super) fn take_up_deadline(&mut self, slot: u32) {
        let deadline = self.records[slot].conn.poll_timeout();
        self.wheel.arm(&mut self.records, slot, deadline);
    }

    /// The connection has nothing to send for now: it leaves the queue, its deadline is taken up.
    fn drop_from_ready(&mut self, slot: u32) {
        self.burst = 0;
        self.queues.pop_ready(&mut self.records[slot]);
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
}

/// Writes the next segment of a connection into `buf`; its length as a frame, if there is one.
#[inline(always)]
fn write_segment(
    conn: &mut Connection,
    cx: &mut Context<'_>,
    headers: &Headers,
    mac: Mac,
    tuple: &FourTuple,
    buf: &mut [u8],
) -> Option<usize> {
    let (local, remote) = (tuple.local(), tuple.remote());
    if let Some(lone) = conn.next_lone(cx) {
        let (fields, data) = (&lone.fields, lone.data(cx.pool));
        return Some(headers.emit_plain(buf, mac, (local, remote), lone.ecn, fields, data));
    }
    let mut out = conn.poll_transmit(cx)?;
    (out.tcp.src_port, out.tcp.dst_port) = (local.port(), remote.port());
    let data = Headers::len(&out.tcp);
    let len = data + out.len as usize;
    conn.copy_payload(cx.pool, &out, &mut buf[data..len]);
    headers.emit(&mut buf[..len], mac, (*local.ip(), *remote.ip()), out.ecn, &out.tcp);
    Some(len)
}
