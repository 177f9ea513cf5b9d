//! Two stacks, and the fuzzer as the network between them: it delivers, loses, doubles, reorders and
//! damages, but says nothing of its own. So what one application says is what the other hears.

use super::host::{Ended, FRAMES_MAX, Host, span};
use super::knobs;
use super::talk::{ECHO_PORT, Talk};
use crate::lan::{self, end};
use crate::tape::Tape;
use barewire_stack::stack::{ConnId, Miss};
use barewire_stack::tcp::End;
use barewire_stack::time::{Duration, Instant};

const OPERATIONS_MAX: u32 = 400;
const TURNS_MAX: u32 = 400;

/// Frames on the way in one direction; more are lost.
const WIRE_FRAMES_MAX: usize = 512;

/// How long both applications go on reading over a network without faults before they leave, and how
/// long everything may then take to end.
const BEFORE_CLOSE: Duration = Duration::from_secs(300);
const AFTER_CLOSE: Duration = Duration::from_secs(3 * 3600);

/// Time at a stretch, after which applications read and somebody looks whether all is over.
const STRETCH: Duration = Duration::from_secs(10);

struct Pair {
    now: Instant,
    hosts: [Host; 2],
    /// Frames on the way to each.
    wires: [Vec<Transit>; 2],
}

/// A frame on its way. Damage can be noticed only once: a second turned bit may hide the first from
/// the checksum.
#[derive(Clone, Debug)]
struct Transit {
    bytes: Vec<u8>,
    is_damaged: bool,
}

/// Plays one program.
pub(super) fn play(mut tape: Tape<'_>) {
    let now = Instant::ZERO + Duration::from_secs(1_000);
    let configs = [knobs::draw(&mut tape, 1), knobs::draw(&mut tape, 2)];
    let [one, two] = configs;
    let hosts = [Host::new(1, 2, one, now), Host::new(2, 1, two, now)];
    let mut pair = Pair { now, hosts, wires: [Vec::new(), Vec::new()] };
    for _ in 0..OPERATIONS_MAX {
        if tape.is_over() {
            break;
        }
        pair.operate(&mut tape);
    }
    pair.end();
}

impl Pair {
    /// Connections that are up at both ends, with nothing that went wrong lately: these must come to
    /// a good end now that faults stop.
    fn survivors(&self) -> Vec<(usize, ConnId)> {
        let mut survivors = Vec::new();
        if !self.hosts.iter().all(Host::is_patient) {
            return survivors;
        }
        let [one, two] = &self.hosts;
        let is_up = |host: &Host, talk: &Talk| {
            let info = host.info(talk.id);
            let is_calm = info.is_some_and(|i| i.retries == 0 && i.state.is_synchronized());
            is_calm && talk.opened && talk.end.is_none() && !talk.has_left
        };
        for talk in one.talks.iter().filter(|talk| is_up(one, talk)) {
            let peers = two.talks.iter().filter(|peer| is_up(two, peer));
            for peer in peers.filter(|peer| is_same(talk, peer)) {
                survivors.extend([(0, talk.id), (1, peer.id)]);
            }
        }
        survivors
    }

    fn has_ended_well(&self, who: usize, id: ConnId) {
        let host = &self.hosts[who];
        let ended = host.ended.iter().find(|ended| ended.talk.id == id);
        let end = ended.and_then(|ended| ended.talk.end);
        assert!(end == Some(End::Closed), "{end:?} at {who}: {:?}", host.info(id));
    }

    fn operate(&mut self, tape: &mut Tape<'_>) {
        let what = tape.u8();
        let who = usize::from(what >> 5 & 1);
        match what & 31 {
            0..3 => self.connect(who, tape.u8()),
            3..11 => self.hosts[who].call(self.now, tape),
            11..18 => self.deliver(who, 1 + tape.below(16)),
            18 => self.fault(who, tape.u8(), |wire, at| drop(wire.remove(at))),
            19 => self.fault(who, tape.u8(), |wire, at| wire.push(wire[at].clone())),
            20 => self.fault(who, tape.u8(), |wire, at| {
                let frame = wire.remove(at);
                wire.push(frame);
            }),
            21 => {
                let place = tape.u16();
                self.fault(who, tape.u8(), |wire, at| damage(&mut wire[at], place));
            }
            22 => self.wires[who].clear(),
            23 => self.hosts[who].read_all(self.now),
            24..28 => {
                let time = span(tape);
                self.pass(time, false, TURNS_MAX);
                return;
            }
            _ => {
                let time = span(tape);
                self.pass(time, true, TURNS_MAX);
                return;
            }
        }
        self.turn(if what & 0x80 == 0 { FRAMES_MAX } else { 1 });
    }

    fn connect(&mut self, who: usize, which: u8) {
        let port = if which & 1 == 0 { lan::PORT } else { ECHO_PORT };
        let local = end(who as u8 + 1, 50_000 + u16::from(which >> 1 & 3));
        // The same ports at both ends make for simultaneous opens.
        let remote_port = if which & 0x10 == 0 { port } else { 50_000 + u16::from(which >> 5 & 3) };
        let remote = end(2 - who as u8, remote_port);
        let _ = self.hosts[who].stack.connect(self.now, local, remote, 1, 0);
        self.hosts[who].observe();
    }

    /// The first frames on the way to a host arrive.
    fn deliver(&mut self, who: usize, n: usize) {
        let n = n.min(self.wires[who].len());
        for frame in self.wires[who].drain(..n) {
            self.hosts[who].receive(self.now, &frame.bytes, Miss::Answer);
        }
    }

    fn fault(&mut self, who: usize, which: u8, happen: impl FnOnce(&mut Vec<Transit>, usize)) {
        let wire = &mut self.wires[who];
        if !wire.is_empty() {
            let at = usize::from(which) % wire.len();
            happen(wire, at);
        }
    }

    fn turn(&mut self, frames_max: usize) {
        for who in [0, 1] {
            self.hosts[who].turn(self.now, frames_max);
            let wire = &mut self.wires[1 - who];
            let sent = std::mem::take(&mut self.hosts[who].out);
            wire.extend(sent.into_iter().map(|bytes| Transit { bytes, is_damaged: false }));
            wire.truncate(WIRE_FRAMES_MAX);
        }
    }

    /// Time passes; `flows` says that frames arrive meanwhile, each a millisecond after it left.
    fn pass(&mut self, time: Duration, flows: bool, turns_max: u32) {
        let stop = self.now + time;
        for _ in 0..turns_max {
            self.turn(FRAMES_MAX);
            let on_the_way = flows && self.wires.iter().any(|wire| !wire.is_empty());
            let arrival = on_the_way.then(|| self.now + Duration::from_millis(1));
            let timers = self.hosts.iter_mut().filter_map(|host| host.next(self.now));
            match timers.chain(arrival).min() {
                Some(next) if next <= stop => self.now = next.max(self.now),
                _ => {
                    self.now = stop;
                    break;
                }
            }
            if flows && arrival.is_some_and(|at| at <= self.now) {
                for who in [0, 1] {
                    self.deliver(who, WIRE_FRAMES_MAX);
                }
            }
        }
        self.turn(FRAMES_MAX);
    }

    /// Faults stop: what was said arrives, and everything ends.
    fn end(&mut self) {
        let survivors = self.survivors();
        for host in &mut self.hosts {
            host.reads = true;
        }
        let stop = self.now + BEFORE_CLOSE;
        while self.now < stop && self.hosts.iter().any(|host| !host.is_empty()) {
            for host in &mut self.hosts {
                host.read_all(self.now);
                host.shut_all(self.now);
            }
            self.pass(STRETCH, true, u32::MAX);
        }
        for (who, id) in survivors {
            self.has_ended_well(who, id);
        }
        for who in [0, 1] {
            let ids: Vec<_> = self.hosts[who].talks.iter().map(|talk| talk.id).collect();
            for id in ids {
                self.hosts[who].close(self.now, id);
            }
        }
        let stop = self.now + AFTER_CLOSE;
        while self.now < stop && self.hosts.iter().any(|host| !host.is_empty()) {
            self.pass(STRETCH, true, u32::MAX);
        }
        for host in &self.hosts {
            assert!(host.is_empty(), "left after {AFTER_CLOSE:?}: {:?}", host.left());
        }
        let [one, two] = &self.hosts;
        for ended in &one.ended {
            for other in &two.ended {
                agree(ended, other);
                agree(other, ended);
            }
        }
    }
}

/// Both ends are of one connection, and not of two that had the same ports.
fn is_same(talk: &Talk, peer: &Talk) -> bool {
    talk.local == peer.remote
        && talk.remote == peer.local
        && peer.recv.is_some_and(|(base, _)| base == talk.send_base)
        && talk.recv.is_some_and(|(base, _)| base == peer.send_base)
}

/// When both ends of a connection were closed in order, all that one said the other has heard.
fn agree(one: &Ended, other: &Ended) {
    let (talk, peer) = (&one.talk, &other.talk);
    if is_same(talk, peer)
        && !peer.has_left
        && talk.end == Some(End::Closed)
        && peer.end == Some(End::Closed)
    {
        let said = talk.send_pos.wrapping_sub(talk.send_base);
        assert_eq!(said, other.n_received, "bytes said and heard: {talk:?} {peer:?}");
    }
}

/// Turns one bit over that a checksum covers.
fn damage(frame: &mut Transit, place: u16) {
    if !std::mem::replace(&mut frame.is_damaged, true) {
        let covered = frame.bytes.len() - 14;
        frame.bytes[14 + usize::from(place >> 3) % covered] ^= 1 << (place & 7);
    }
}
