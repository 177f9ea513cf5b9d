//! T's side of one connection: the numbers, windows and timestamps that an orderly peer keeps, so
//! that a script need not. It follows what was sent and received, and judges nothing.

use super::frame::Plain;
use super::options;
use super::play::Ends;
use super::segment::{Segment, pattern_byte};
use super::statement::{Damage, Host, Number, Shape};
use crate::wire::tcp::{ChecksumPolicy, Flags, Tcp};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};

/// What a sender takes for the largest segment when none is announced (RFC 9293 MUST-15).
const MSS_DEFAULT: u16 = 536;

/// One connection.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) tester: SocketAddrV4,
    pub(super) stack: SocketAddrV4,
    /// T's initial sequence number, and D's: 0 before it is known.
    pub(super) iss: u32,
    pub(super) irs: u32,
    is_answered: bool,
    /// What T sends next, and the end of all that it sent.
    pub(super) snd_nxt: i64,
    pub(super) snd_max: i64,
    /// What T acknowledged last, and up to where D's stream has come.
    acked: i64,
    pub(super) rcv_nxt: i64,
    /// What came beyond that.
    ahead: Vec<(i64, i64)>,
    window: u16,
    /// The right edge of all that T offered.
    pub(super) edge: i64,
    /// The right edge of what D offered last.
    pub(super) stack_edge: Option<i64>,
    /// The largest segment that T announced.
    pub(super) mss: u16,
    stamp: u32,
    echo: u32,
    offered: Offered,
    answered: Offered,
    /// Segments that came while the script was busy with another connection.
    pub(super) backlog: VecDeque<Segment>,
}

/// The options of a SYN that count when both sides have them.
#[derive(Clone, Copy, Debug, Default)]
struct Offered {
    stamps: bool,
    window_scale: Option<u8>,
}

impl Flow {
    pub(super) fn new(tester: SocketAddrV4, stack: SocketAddrV4, iss: u32) -> Flow {
        Flow {
            tester,
            stack,
            iss,
            irs: 0,
            is_answered: false,
            snd_nxt: 0,
            snd_max: 0,
            acked: 0,
            rcv_nxt: 0,
            ahead: Vec::new(),
            window: 65535,
            edge: 0,
            stack_edge: None,
            mss: MSS_DEFAULT,
            stamp: 0,
            echo: 0,
            offered: Offered::default(),
            answered: Offered::default(),
            backlog: VecDeque::new(),
        }
    }

    /// A new connection on the same ports, whose numbers begin so far from the old ones.
    pub(super) fn begin_anew(&mut self, further: u32) {
        let iss = self.iss.wrapping_add(further);
        *self = Flow { stamp: self.stamp, ..Flow::new(self.tester, self.stack, iss) };
    }

    /// Both sides have the option; D's windows are shifted by this.
    pub(super) fn stack_shift(&self) -> u8 {
        self.offered.window_scale.and(self.answered.window_scale).unwrap_or(0)
    }

    fn shift(&self) -> u8 {
        self.answered.window_scale.and(self.offered.window_scale).unwrap_or(0)
    }

    /// Both sides have timestamps.
    pub(super) fn is_stamped(&self) -> bool {
        self.offered.stamps && self.answered.stamps
    }

    /// Decides what the script left open.
    pub(super) fn resolve(&self, shape: &Shape, ends: &Ends) -> (i64, Plain) {
        let has = |flag| shape.flags.contains(flag);
        let seq = shape.seq.unwrap_or(if has(Flags::SYN) { 0 } else { self.snd_nxt });
        let ack = match shape.ack {
            Some(Number::At(ack)) => ack,
            Some(Number::Further(further)) => self.acked + further,
            None => self.rcv_nxt,
        };
        let has_ack = has(Flags::ACK);
        let stamps = (shape.stamp.is_some() || self.is_stamped()) && !shape.is_unstamped;
        let value = shape.stamp.unwrap_or(self.stamp);
        let echo = shape.echo.unwrap_or(if has_ack { self.echo } else { 0 });
        let on_wire = |&(left, right): &(i64, i64)| {
            (self.irs.wrapping_add(left as u32), self.irs.wrapping_add(right as u32))
        };
        let blocks: Vec<(u32, u32)> = shape.sack.iter().map(on_wire).collect();
        let first = (seq + i64::from(has(Flags::SYN)) - 1).cast_unsigned();
        let payload = (0..u64::from(shape.len)).map(|at| pattern_byte(first.wrapping_add(at)));
        let ip = |host: Option<Host>, own: Ipv4Addr| match host {
            None => own,
            Some(Host::At(addr)) => addr,
            Some(Host::Stack) => *ends.stack.ip(),
            // D's network has 24 bits in every laboratory.
            Some(Host::NetBroadcast) => Ipv4Addr::from(u32::from(*ends.stack.ip()) | 0xff),
        };
        let plain = Plain {
            from: SocketAddrV4::new(
                ip(shape.from, *self.tester.ip()),
                shape.port.unwrap_or(self.tester.port()),
            ),
            to: SocketAddrV4::new(
                ip(shape.to, *self.stack.ip()),
                shape.to_port.unwrap_or(self.stack.port()),
            ),
            seq: self.iss.wrapping_add(seq as u32),
            ack: match shape.ack {
                None if !has_ack => 0,
                _ => self.irs.wrapping_add(ack as u32),
            },
            flags: shape.flags,
            window: shape.window.unwrap_or(self.window),
            urgent: shape.urgent,
            options: options::bytes(shape, stamps.then_some((value, echo)), &blocks),
            payload: payload.collect(),
            ecn: shape.ecn,
        };
        (seq, plain)
    }

    /// `segment` is about to leave, with the number `seq`.
    pub(super) fn on_sent(&mut self, shape: &Shape, seq: i64, plain: &Plain, segment: &[u8]) {
        self.stamp = shape.stamp.unwrap_or(self.stamp);
        let has = |flag| shape.flags.contains(flag);
        let is_own = shape.from.is_none()
            && shape.to.is_none()
            && shape.port.is_none()
            && shape.to_port.is_none();
        if !is_own || !is_sound(&shape.damage) {
            return;
        }
        self.window = plain.window;
        if has(Flags::SYN) {
            let parsed =
                Tcp::parse(segment, *plain.from.ip(), *plain.to.ip(), ChecksumPolicy::Trust);
            if let Ok(parsed) = parsed {
                let options = parsed.tcp.options;
                self.mss = options.mss.unwrap_or(MSS_DEFAULT);
                self.stamp = options.timestamps.map_or(self.stamp, |stamps| stamps.value);
                self.offered = Offered {
                    stamps: options.timestamps.is_some(),
                    window_scale: options.window_scale,
                };
            }
        }
        let span = i64::from(shape.len) + i64::from(has(Flags::SYN)) + i64::from(has(Flags::FIN));
        if has(Flags::RST) {
            return;
        }
        self.snd_max = self.snd_max.max(seq + span);
        if shape.seq.is_none() && (has(Flags::ACK) || has(Flags::SYN)) {
            self.snd_nxt = seq + span;
        }
        if has(Flags::ACK) {
            let ack = i64::from(plain.ack.wrapping_sub(self.irs).cast_signed());
            self.acked = ack;
            // The window of a SYN is never scaled (RFC 7323 section 2.2).
            let shift = if has(Flags::SYN) { 0 } else { self.shift() };
            self.edge = self.edge.max(ack + (i64::from(plain.window) << shift));
        } else if has(Flags::SYN) {
            self.edge = self.edge.max(1 + i64::from(plain.window));
        }
    }

    /// The first SYN of D says where its numbers begin.
    pub(super) fn on_syn(&mut self, from: SocketAddrV4, tcp: &Tcp) {
        if self.is_answered {
            return;
        }
        self.is_answered = true;
        self.stack = from;
        self.irs = tcp.seq;
        self.answered = Offered {
            stamps: tcp.options.timestamps.is_some(),
            window_scale: tcp.options.window_scale,
        };
    }

    /// Follows a segment of D that is taken up by the script.
    pub(super) fn on_received(&mut self, segment: &Segment) {
        let flags = segment.tcp.flags;
        if flags.contains(Flags::RST) {
            return;
        }
        if let Some(stamps) = segment.tcp.options.timestamps {
            self.echo = stamps.value;
        }
        if flags.contains(Flags::ACK) {
            self.snd_nxt = self.snd_nxt.max(segment.ack.min(self.snd_max));
            let shift = if flags.contains(Flags::SYN) { 0 } else { self.stack_shift() };
            let edge = segment.ack + (i64::from(segment.tcp.window) << shift);
            self.stack_edge = Some(self.stack_edge.map_or(edge, |old| old.max(edge)));
        }
        self.ahead.push((segment.seq, segment.seq + segment.span()));
        self.ahead.sort_unstable();
        for &(left, right) in &self.ahead {
            if left <= self.rcv_nxt {
                self.rcv_nxt = self.rcv_nxt.max(right);
            }
        }
        self.ahead.retain(|&(_, right)| right > self.rcv_nxt);
    }
}

/// D takes the segment for what it says: it follows the others.
fn is_sound(damage: &Damage) -> bool {
    let Damage { trailing: _, ip_options: _, .. } = damage;
    damage.checksum == Default::default()
        && damage.station == Default::default()
        && damage.data_offset.is_none()
        && damage.cut.is_none()
        && damage.vlans.iter().all(|&vlan| vlan == 0)
}
