//! One stack, and the fuzzer in the place of everybody else.

use super::craft::{self, PEER, PEERS, US};
use super::host::{FRAMES_MAX, Host, question, span};
use super::knobs;
use crate::lan::{self, addr, end};
use crate::tape::Tape;
use barewire_stack::stack::{ConnectError, Miss};
use barewire_stack::time::{Duration, Instant};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Operations of one program, and turns within one span of time that passes.
const OPERATIONS_MAX: u32 = 400;
const TURNS_MAX: u32 = 400;

/// How long everything may take to end once every connection was aborted, or was closed and never
/// heard of its peer again: the sum of all retransmissions and of all waits.
const AFTER_ABORT: Duration = Duration::from_secs(600);
const AFTER_CLOSE: Duration = Duration::from_secs(3 * 3600);

/// Time at a stretch, after which somebody looks whether all is over.
const STRETCH: Duration = Duration::from_secs(100);

/// After this long every ACK has left.
const LATE: Duration = Duration::from_secs(2);

struct Solo {
    now: Instant,
    host: Host,
    /// Questions for a MAC address are answered.
    answers_arp: bool,
}

/// Plays one program.
pub(super) fn play(mut tape: Tape<'_>) {
    let config = knobs::draw(&mut tape, US);
    let how = tape.u8();
    // Up to 49 days after the origin, so that clocks of 32 bits wrap in the middle of a program.
    let now = Instant::ZERO + Duration::from_millis((u64::from(how >> 1) << 25) + 1_000_000);
    let host = Host::new(US, PEER, config, now);
    let mut solo = Solo { now, host, answers_arp: true };
    for _ in 0..OPERATIONS_MAX {
        if tape.is_over() {
            break;
        }
        solo.operate(&mut tape);
    }
    solo.end(how & 1 != 0);
}

impl Solo {
    fn operate(&mut self, tape: &mut Tape<'_>) {
        let what = tape.u8();
        let miss = match what >> 5 & 3 {
            2 => Miss::Last,
            3 => Miss::HandOff,
            _ => Miss::Answer,
        };
        match what & 31 {
            0..11 => {
                let which = tape.below(self.host.talks.len().max(1));
                let talk = self.host.talks.get(which).cloned();
                let info = talk.as_ref().and_then(|talk| self.host.info(talk.id));
                if let (Some(talk), Some(info)) = (talk, info) {
                    let frame = craft::segment(tape, self.now, &talk, &info);
                    self.host.receive(self.now, &frame, miss);
                }
            }
            11 | 12 => self.host.receive(self.now, &craft::syn(tape), miss),
            13 => {
                if let Some(cookie) = self.host.cookie {
                    self.host.receive(self.now, &craft::cookie_ack(tape, &cookie), miss);
                }
            }
            14 => self.host.receive(self.now, &craft::stray(tape), miss),
            15 => self.host.receive(self.now, &craft::arp(tape), miss),
            16 | 17 => self.icmp(tape, miss),
            18..20 => self.connect(tape),
            20..26 => self.host.call(self.now, tape),
            26..30 => {
                let time = span(tape);
                self.pass(time, TURNS_MAX);
                return;
            }
            30 => self.answers_arp = !self.answers_arp,
            _ => self.listeners(tape),
        }
        // Now and then the device has no free frame.
        self.turn(if what & 0x80 == 0 { FRAMES_MAX } else { usize::from(what & 1) });
    }

    fn icmp(&mut self, tape: &mut Tape<'_>, miss: Miss) {
        let which = tape.below(self.host.talks.len() + 1);
        let talk = self.host.talks.get(which);
        let both = talk.and_then(|talk| Some((talk, self.host.info(talk.id)?)));
        let frame = craft::icmp(tape, both.as_ref().map(|(talk, info)| (*talk, info)));
        self.host.receive(self.now, &frame, miss);
    }

    fn connect(&mut self, tape: &mut Tape<'_>) {
        let which = tape.u8();
        let local = match which & 3 {
            0 | 1 => end(US, 50_000 + u16::from(which >> 2 & 3)),
            2 => SocketAddrV4::new([10, 7, US, 1 + (which >> 2 & 3)].into(), 50_000),
            // Taken from a listener's port, or not ours.
            _ => tape.one_of(&[end(US, lan::PORT), end(PEER, 1), end(US, 0)]),
        };
        let remote = match which >> 4 {
            0..8 => end(PEER, 80 + u16::from(which >> 4 & 1)),
            8..12 => end(PEERS[1], 80),
            12 => SocketAddrV4::new([192, 0, 2, 1].into(), 80),
            13 => end(US, lan::PORT),
            14 => SocketAddrV4::new(Ipv4Addr::BROADCAST, 80),
            _ => end(PEER, 0),
        };
        let stack = &mut self.host.stack;
        match stack.connect(self.now, local, remote, 1, 0) {
            Ok(id) => assert_eq!(stack.word(id), Some(0)),
            Err(ConnectError::NoPort) => panic!("nobody asked for a port"),
            Err(_) => {}
        }
        self.host.observe();
    }

    fn listeners(&mut self, tape: &mut Tape<'_>) {
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, lan::PORT);
        let which = tape.u8();
        let at = if which & 1 == 0 { any } else { end(US, lan::PORT + 2) };
        match which & 2 {
            0 => self.host.stack.unlisten(at),
            _ => self.host.stack.listen(at, 1),
        };
    }

    /// One turn, and the answers to the questions in it, until none is asked.
    fn turn(&mut self, frames_max: usize) {
        self.host.turn(self.now, frames_max);
        for frame in std::mem::take(&mut self.host.out) {
            let asked = question(&frame).filter(|_| self.answers_arp);
            if asked == Some(addr(PEER)) {
                self.host.receive(self.now, &craft::arp_answer(PEER, US), Miss::Answer);
            }
        }
    }

    /// Time passes, with a turn whenever the stack wants one, but not without end.
    fn pass(&mut self, time: Duration, turns_max: u32) {
        let stop = self.now + time;
        for _ in 0..turns_max {
            self.turn(FRAMES_MAX);
            match self.host.next(self.now) {
                Some(next) if next <= stop => self.now = next.max(self.now),
                _ => {
                    self.now = stop;
                    break;
                }
            }
        }
        self.turn(FRAMES_MAX);
        if self.answers_arp && time >= LATE {
            self.host.has_acknowledged();
        }
    }

    /// The peer is never heard of again, and everything ends by itself.
    fn end(&mut self, is_abort: bool) {
        let ids: Vec<_> = self.host.talks.iter().map(|talk| talk.id).collect();
        for id in ids {
            match is_abort {
                true => self.host.stack.abort_slot(self.now, id.slot),
                false => self.host.close(self.now, id),
            }
        }
        let time = if is_abort { AFTER_ABORT } else { AFTER_CLOSE };
        let stop = self.now + time;
        while self.now < stop && !self.host.is_empty() {
            self.pass(STRETCH, u32::MAX);
        }
        assert!(self.host.is_empty(), "left after {time:?}: {:?}", self.host.left());
    }
}
