//! Two stacks joined by a link that loses, duplicates, reorders and delays frames as a seed says, in
//! virtual time: what goes in at one end comes out at the other, and nothing is left behind.

use crate::peer::{PORT, config};
use barewire_stack::stack::{ConnId, Disposition, Miss, Prefix, Stack, StackConfig};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::isn::Secret;
use barewire_stack::tcp::{End, Events, TcpConfig};
use barewire_stack::time::{Duration, Instant};
use barewire_stack::wire::ethernet::Mac;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// xorshift64*: enough for drawing faults, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % n
    }

    fn percent(&mut self, p: u64) -> bool {
        self.roll(100) < p
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    loss: u64,
    duplication: u64,
    delay: Duration,
    /// Extra delay drawn up to this, which reorders.
    jitter: Duration,
}

const CLEAN: Link =
    Link { loss: 0, duplication: 0, delay: Duration::from_micros(50), jitter: Duration::ZERO };

/// What one end does with its connections.
struct End1 {
    stack: Stack,
    to_send: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    reads: bool,
    opened: u32,
    ends: Vec<End>,
}

struct Pair {
    now: Instant,
    ends: [End1; 2],
    link: Link,
    dice: Dice,
    /// Frames on the way: arrival, a number to keep order, receiver, bytes.
    wire: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    n_frames: u64,
}

fn end(number: u8, tcp: &TcpConfig) -> End1 {
    let addr = Ipv4Addr::new(10, 0, 0, number);
    let config = StackConfig {
        mac: Mac([2, 0, 0, 0, 0, number]),
        addresses: vec![Prefix { addr, len: 24 }],
        secret: Secret::new([number; 32]),
        tcp: tcp.clone(),
        ..config()
    };
    End1 {
        stack: Stack::new(config, Instant::ZERO),
        to_send: Vec::new(),
        sent: 0,
        received: Vec::new(),
        reads: true,
        opened: 0,
        ends: Vec::new(),
    }
}

fn addr(number: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, number), port)
}

impl Pair {
    fn new(seed: u64, link: Link, tcp: &TcpConfig) -> Self {
        let mut ends = [end(1, tcp), end(2, tcp)];
        assert!(ends[1].stack.listen(addr(2, PORT), 2));
        let dice = Dice(seed.wrapping_mul(2).wrapping_add(1));
        Pair { now: Instant::ZERO, ends, link, dice, wire: BTreeMap::new(), n_frames: 0 }
    }

    fn connect(&mut self, port: u16) -> ConnId {
        let end = &mut self.ends[0];
        end.stack.connect(self.now, addr(1, port), addr(2, PORT), 2, 0).expect("opens")
    }

    /// Puts a frame on the wire, to end `to`.
    fn send(&mut self, to: usize, frame: Vec<u8>) {
        // ARP is spared: three lost questions rightly fail an open.
        let is_arp = frame[12..14] == [0x08, 0x06];
        if !is_arp && self.dice.percent(self.link.loss) {
            return;
        }
        let copies = 1 + u64::from(self.dice.percent(self.link.duplication));
        for _ in 0..copies {
            let jitter = self.dice.roll(self.link.jitter.as_nanos().max(1));
            let at = self.now + self.link.delay + Duration::from_nanos(jitter);
            self.n_frames += 1;
            self.wire.insert((at, self.n_frames), (to, frame.clone()));
        }
    }

    fn turn(&mut self, me: usize) {
        let now = self.now;
        let end = &mut self.ends[me];
        end.stack.on_timeout(now);
        while let Some(event) = end.stack.poll_event() {
            end.opened += u32::from(event.events.contains(Events::OPENED));
            end.pump(now, event.id);
            if event.events.contains(Events::FINISHED) && end.sent == end.to_send.len() {
                end.stack.shutdown(now, event.id);
            }
            end.ends.extend(event.end);
            end.stack.event_done(&event);
        }
        let mut buf = [0; 2048];
        while let Some(len) = self.ends[me].stack.poll_transmit(now, &mut buf) {
            self.send(1 - me, buf[..len].to_vec());
        }
        self.ends[me].stack.audit().expect("the sums hold");
    }

    /// Runs until nothing is left to do, or until `limit`.
    fn run(&mut self, limit: Duration) {
        let stop = self.now + limit;
        while self.now < stop {
            self.turn(0);
            self.turn(1);
            let arrival = self.wire.keys().next().map(|&(at, _)| at);
            let timers = self.ends.iter().filter_map(|e| e.stack.poll_timeout(self.now));
            let Some(next) = timers.chain(arrival).min() else { return };
            self.now = if next > self.now { next } else { self.now + Duration::from_micros(1) };
            while let Some((&key, _)) =
                self.wire.iter().next().filter(|&(&(at, _), _)| at <= self.now)
            {
                let (to, mut frame) = self.wire.remove(&key).expect("the first frame is there");
                let disposition = self.ends[to].stack.on_frame(self.now, &mut frame, Miss::Answer);
                if let Disposition::Reply(len) = disposition {
                    frame.truncate(len);
                    self.send(1 - to, frame);
                }
            }
        }
    }
}

impl End1 {
    /// Reads all there is, sends what fits, closes after the last byte.
    fn pump(&mut self, now: Instant, id: ConnId) {
        while self.reads && !self.stack.peek(id).is_empty() {
            let n = self.stack.peek(id).len();
            self.received.extend_from_slice(self.stack.peek(id));
            self.stack.discard(now, id, n);
        }
        if self.sent < self.to_send.len() {
            let n = self.stack.send(now, id, &self.to_send[self.sent..]);
            self.sent += n;
            if self.sent == self.to_send.len() {
                self.stack.shutdown(now, id);
            }
        }
    }
}

fn content(n: usize, salt: usize) -> Vec<u8> {
    (0..n).map(|i| ((i * 31 + i / 251 + salt) % 256) as u8).collect()
}

fn transfer(seed: u64, link: Link, n: usize, tcp: &TcpConfig) -> Pair {
    let mut pair = Pair::new(seed, link, tcp);
    pair.ends[0].to_send = content(n, 1);
    pair.ends[1].to_send = content(n / 2 + 1, 2);
    pair.connect(40_000);
    pair.run(Duration::from_secs(3600));
    let [a, b] = &pair.ends;
    assert_eq!(a.received.len(), b.to_send.len(), "seed {seed} {link:?}");
    assert_eq!(b.received.len(), a.to_send.len(), "seed {seed} {link:?}");
    assert!(a.received == b.to_send && b.received == a.to_send, "seed {seed} {link:?}");
    for end in &pair.ends {
        assert_eq!(end.ends, [End::Closed], "seed {seed} {link:?}");
        assert_eq!(end.stack.n_records(), 0, "TIME-WAIT is over");
        assert_eq!(end.stack.memory().buffers, 0);
    }
    pair
}

#[test]
fn a_clean_link_loses_and_repeats_nothing() {
    let pair = transfer(1, CLEAN, 3 << 20, &TcpConfig::default());
    for end in &pair.ends {
        let stats = end.stack.stats();
        assert_eq!(stats.get(Counter::TcpRetransmitted), 0);
        assert_eq!(stats.sum(barewire_stack::stats::Kind::Drop), 0, "{stats:?}");
        assert_eq!(stats.get(Counter::TcpBytesOut), stats.get(Counter::TcpBytesAcked));
    }
}

#[test]
fn transfers_survive_loss_duplication_and_reordering() {
    for seed in 0..300 {
        let mut dice = Dice(seed * 77 + 5);
        let link = Link {
            loss: dice.roll(12),
            duplication: dice.roll(10),
            delay: Duration::from_micros(20 + dice.roll(20_000)),
            jitter: Duration::from_micros(dice.roll(5_000)),
        };
        let tcp = TcpConfig {
            timestamps: dice.percent(50),
            sack: dice.percent(50),
            window_scale: dice.percent(50),
            nagle: dice.percent(50),
            window_bytes_max: 2_000 + dice.roll(300_000) as u32,
            reassembly_segments_max: 4 + dice.roll(300) as u16,
            ..TcpConfig::default()
        };
        transfer(seed, link, dice.roll(200_000) as usize, &tcp);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let link = Link { loss: 5, duplication: 3, jitter: Duration::from_millis(1), ..CLEAN };
    let run = |seed| {
        let pair = transfer(seed, link, 50_000, &TcpConfig::default());
        (pair.now, pair.n_frames)
    };
    assert_eq!(run(9), run(9));
    assert_ne!(run(9), run(10));
}

#[test]
fn a_reader_that_stops_holds_the_sender_and_lets_it_go_on() {
    let mut pair = Pair::new(3, CLEAN, &TcpConfig::default());
    pair.ends[0].to_send = content(1 << 20, 1);
    pair.ends[1].reads = false;
    pair.connect(40_000);
    pair.run(Duration::from_secs(600));
    let window = u64::from(TcpConfig::default().window_bytes_max);
    let taken = pair.ends[1].stack.stats().get(Counter::TcpBytesIn);
    assert!(taken <= window + 8 && taken > window / 2, "{taken}");
    pair.ends[1].reads = true;
    let slot = (0..pair.ends[1].stack.n_slots()).find_map(|s| pair.ends[1].stack.conn_info(s));
    let id = slot.expect("the connection lives").id;
    let now = pair.now;
    pair.ends[1].pump(now, id);
    pair.run(Duration::from_secs(3600));
    assert!(pair.ends[1].received == pair.ends[0].to_send);
}

#[test]
fn a_thousand_connections_open_at_once_and_end() {
    let mut pair = Pair::new(4, Link { loss: 2, ..CLEAN }, &TcpConfig::default());
    for port in 10_000..11_000 {
        pair.connect(port);
    }
    pair.run(Duration::from_secs(5));
    assert_eq!((pair.ends[0].opened, pair.ends[1].opened), (1000, 1000));
    for slot in 0..pair.ends[0].stack.n_slots() {
        pair.ends[0].stack.abort_slot(pair.now, slot);
    }
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.ends[0].stack.n_records(), 0);
    // A lost RST leaves the other side open: that is what keepalive is for.
    assert!(pair.ends[1].stack.n_records() < 50);
}
