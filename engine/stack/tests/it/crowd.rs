//! A crowd of clients that remember nothing against a stack that remembers everything, in virtual
//! time, over paths that lose, double and reorder: what both count must be the same at the end.

use crate::peer::{PORT, config};
use barewire_stack::crowd::{Crowd, CrowdConfig, Event, Farewell, Hosts, Loss, Plan};
use barewire_stack::dice::Ratio;
use barewire_stack::impair::{Fate, Impair, Impairment};
use barewire_stack::stack::{Disposition, Miss, Prefix, Stack, StackConfig};
use barewire_stack::stats::{Counter, Counters, Kind};
use barewire_stack::tcp::isn::Secret;
use barewire_stack::tcp::{Events, TcpConfig};
use barewire_stack::time::{Duration, Instant};
use barewire_stack::wire::ethernet::Mac;
use barewire_stack::wire::ethernet::{self, Ethernet};
use barewire_stack::wire::ipv4::{self, Ipv4};
use barewire_stack::wire::tcp::ChecksumPolicy;
use barewire_stack::wire::tcp::{self, Flags, Options, Tcp, Timestamps};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), PORT);
const CROWD_MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
const N: u64 = 300;
const MINUTE: Duration = Duration::from_secs(60);

/// What the server does with what it receives.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    Echo,
    /// Sends other bytes back.
    Lie,
    /// Reads and says nothing.
    Listen,
    /// Closes at once.
    Close,
    Reset,
}

/// The number of a crowd that a frame is for, or the server.
const TO_SERVER: usize = usize::MAX;

struct World {
    now: Instant,
    server: Stack,
    habit: Habit,
    crowds: Vec<(Crowd, Counters)>,
    paths: [Impair; 2],
    wire: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    n_frames: u64,
    events: Vec<Event>,
}

fn crowd_config() -> CrowdConfig {
    CrowdConfig {
        mac: CROWD_MAC,
        // Ports of both parities, and three addresses.
        plan: Plan::new(
            &[Hosts { first: [10, 0, 0, 100].into(), n: 3 }],
            40_000..=40_200,
            &[SERVER],
        ),
        worker: 0,
        n_workers: 1,
        n_connections: N,
        on_link: vec![Prefix { addr: *SERVER.ip(), len: 24 }],
        gateway: None,
        ttl: 64,
        mss: 1460,
        timestamps: true,
        rx_checksum: ChecksumPolicy::Verify,
        request_bytes: 65,
        flights_max: 64,
        timeout: Duration::from_secs(90),
        secret: Secret::new([3; 32]),
        epoch: Instant::ZERO,
    }
}

fn server_config() -> StackConfig {
    let tcp = TcpConfig { timestamps: true, ..TcpConfig::default() };
    StackConfig { tcp, ..config() }
}

impl World {
    fn new(server: StackConfig, crowds: Vec<CrowdConfig>) -> Self {
        let mut server = Stack::new(server, Instant::ZERO);
        assert!(server.listen(SERVER, 2));
        let clean = |seed| Impair::new(Impairment::default(), seed);
        World {
            now: Instant::ZERO,
            server,
            habit: Habit::Echo,
            crowds: crowds.into_iter().map(|c| (Crowd::new(c), Counters::new())).collect(),
            paths: [clean(1), clean(2)],
            wire: BTreeMap::new(),
            n_frames: 0,
            events: Vec::new(),
        }
    }

    fn simple() -> Self {
        World::new(server_config(), vec![crowd_config()])
    }

    fn impair(&mut self, seed: u64) {
        let two = Ratio::from_percent(2);
        let spec = Impairment {
            loss: two,
            duplicate: two,
            corrupt: Ratio::from_percent(1),
            reorder: two,
            delay: Duration::from_millis(3),
            jitter: Duration::from_millis(1),
            ..Impairment::default()
        };
        self.paths = [Impair::new(spec, 2 * seed), Impair::new(spec, 2 * seed + 1)];
    }

    fn send(&mut self, to: usize, frame: &[u8]) {
        let fate = self.paths[usize::from(to == TO_SERVER)].fate(self.now, frame.len());
        let Fate::Leaves { first, copy } = fate else { return };
        for departure in [Some(first), copy].into_iter().flatten() {
            let mut frame = frame.to_vec();
            if departure.damage.is_some_and(|damage| !damage.strike(&mut frame)) {
                continue;
            }
            self.n_frames += 1;
            let at = departure.at + Duration::from_micros(20);
            self.wire.insert((at, self.n_frames), (to, frame));
        }
    }

    fn arrive(&mut self, to: usize, mut frame: Vec<u8>) {
        if to == TO_SERVER {
            let disposition = self.server.on_frame(self.now, &mut frame, Miss::Answer);
            if let Disposition::Reply(len) = disposition {
                self.send(0, &frame[..len]);
            }
            return;
        }
        // Frames come to the first crowd, and go on from one to the next.
        let is_last = to + 1 == self.crowds.len();
        let miss = match (self.crowds.len(), is_last) {
            (1, _) => Miss::Answer,
            (_, true) => Miss::Last,
            (_, false) => Miss::HandOff,
        };
        let (crowd, stats) = &mut self.crowds[to];
        match crowd.on_frame(self.now, &mut frame, miss, stats) {
            Some(Disposition::Reply(len)) => self.send(TO_SERVER, &frame[..len]),
            Some(Disposition::HandOff) => self.arrive(to + 1, frame),
            Some(Disposition::Done) | None => {}
        }
    }

    fn turn_server(&mut self) {
        let now = self.now;
        self.server.on_timeout(now);
        while let Some(event) = self.server.poll_event() {
            let opened = event.events.contains(Events::OPENED);
            match self.habit {
                Habit::Echo => drop(self.server.echo(now, event.id)),
                Habit::Listen => drop(self.server.discard(now, event.id, usize::MAX)),
                Habit::Lie => {
                    let n = self.server.discard(now, event.id, usize::MAX);
                    self.server.send(now, event.id, &vec![b'x'; n]);
                }
                Habit::Close if opened => self.server.close(now, event.id),
                Habit::Reset if opened => self.server.abort(now, event.id),
                Habit::Close | Habit::Reset => {}
            }
            if event.events.contains(Events::FINISHED) {
                self.server.close(now, event.id);
            }
            self.server.event_done(&event);
        }
        let mut buf = [0; 2048];
        while let Some(len) = self.server.poll_transmit(now, &mut buf) {
            self.send(0, &buf[..len]);
        }
    }

    fn turn_crowds(&mut self) {
        let mut buf = [0; 2048];
        for i in 0..self.crowds.len() {
            let (crowd, stats) = &mut self.crowds[i];
            crowd.on_timeout(self.now, stats);
            while let Some(event) = crowd.poll_event() {
                self.events.push(event);
            }
            loop {
                let (crowd, stats) = &mut self.crowds[i];
                let Some(len) = crowd.poll_transmit(self.now, &mut buf, stats) else { break };
                self.send(TO_SERVER, &buf[..len]);
            }
        }
    }

    /// Runs until `limit` has passed, or until `order` has nothing more to say and nothing is in
    /// flight. `order` is asked for more as long as it says that there is.
    fn run(
        &mut self,
        limit: Duration,
        mut order: impl FnMut(usize, &mut Crowd, Instant, &mut Counters) -> bool,
    ) {
        let stop = self.now + limit;
        while self.now < stop {
            let (mut is_busy, mut has_more) = (false, false);
            for (me, (crowd, stats)) in self.crowds.iter_mut().enumerate() {
                let more = order(me, crowd, self.now, stats);
                has_more |= more;
                is_busy |= more || crowd.n_flights() > 0;
            }
            self.turn_server();
            self.turn_crowds();
            self.audit();
            if !is_busy && self.wire.is_empty() {
                break;
            }
            let has_room = self.crowds.iter().any(|(crowd, _)| crowd.n_flights() == 0);
            if !(has_more && has_room) {
                self.advance(stop);
            }
        }
    }

    /// Lets time pass with nothing ordered.
    fn idle(&mut self, limit: Duration) {
        let stop = self.now + limit;
        while self.now < stop {
            self.turn_server();
            self.turn_crowds();
            self.advance(stop);
        }
        self.audit();
    }

    fn advance(&mut self, stop: Instant) {
        let arrival = self.wire.keys().next().map(|&(at, _)| at);
        let crowds = self.crowds.iter().filter_map(|(crowd, _)| crowd.poll_timeout(self.now));
        let timers = crowds.chain(self.server.poll_timeout(self.now));
        let next = timers.chain(arrival).chain([stop]).min().expect("at least the end");
        self.now = next.max(self.now + Duration::from_micros(1));
        while let Some((&key, _)) = self.wire.iter().next().filter(|&(&(at, _), _)| at <= self.now)
        {
            let (to, frame) = self.wire.remove(&key).expect("the first frame is there");
            self.arrive(to, frame);
        }
    }

    fn audit(&self) {
        self.server.audit().expect("the sums of the server hold");
        for (crowd, stats) in &self.crowds {
            stats.audit().expect("the sums of the crowd hold");
            assert!(crowd.n_open() <= stats.get(Counter::ConnsOpen));
        }
    }

    fn open_all(&mut self) {
        self.run(MINUTE * 30, |_, crowd, now, stats| {
            while crowd.open(now, stats) {}
            crowd.n_begun() < crowd.n_connections()
        });
    }

    /// Does something to every connection, in the order of their numbers.
    fn visit_all(&mut self, visit: impl Fn(&mut Crowd, Instant, u64)) {
        let mut next = vec![0; self.crowds.len()];
        self.run(MINUTE * 30, |me, crowd, now, _| {
            while next[me] < crowd.n_connections() && !crowd.is_full() {
                visit(crowd, now, next[me]);
                next[me] += 1;
            }
            next[me] < crowd.n_connections()
        });
    }

    fn request_all(&mut self, n: u32) {
        self.visit_all(|crowd, now, idx| {
            crowd.request(now, idx, n);
        });
    }

    fn close_all(&mut self, farewell: Farewell) {
        self.visit_all(|crowd, now, idx| {
            crowd.close(now, idx, farewell);
        });
    }

    fn client(&self, counter: Counter) -> u64 {
        self.crowds.iter().map(|(_, stats)| stats.get(counter)).sum()
    }

    fn n_open(&self) -> u64 {
        self.crowds.iter().map(|(crowd, _)| crowd.n_open()).sum()
    }

    fn n_events(&self, is_it: impl Fn(&Event) -> bool) -> u64 {
        self.events.iter().filter(|event| is_it(event)).count() as u64
    }

    fn n_lost(&self, loss: Loss) -> u64 {
        self.n_events(|event| matches!(event, Event::Lost { loss: l, .. } if *l == loss))
    }

    /// Both sides' books after everything was opened, asked `n` times and closed.
    fn assert_books(&self, n: u64) {
        let total = self.crowds.iter().map(|(crowd, _)| crowd.n_connections()).sum::<u64>();
        assert_eq!(self.n_events(|event| matches!(event, Event::Lost { .. })), 0);
        assert_eq!(self.n_events(|event| matches!(event, Event::Opened(_))), total);
        assert_eq!(self.n_events(|event| *event == Event::Closed), total);
        assert_eq!(self.n_events(|event| matches!(event, Event::Responded { .. })), n * total);
        assert_eq!(self.client(Counter::ConnsActive), total);
        assert_eq!(self.client(Counter::ConnsClosed), total);
        assert_eq!(self.client(Counter::ConnsOpen), 0);
        let server = self.server.stats();
        assert_eq!(server.get(Counter::ConnsEstablished), total);
        assert_eq!(server.get(Counter::ConnsClosed), total);
        assert_eq!(server.get(Counter::ConnsOpen), 0);
        let bytes = n * total * 65;
        for stats in [Counter::TcpBytesIn, Counter::TcpBytesAcked] {
            assert_eq!((server.get(stats), self.client(stats)), (bytes, bytes), "{stats:?}");
        }
        assert_eq!(self.server.n_records(), 0, "the crowd closed first: nothing is left here");
    }
}

#[test]
fn connections_open_ask_and_close_and_both_sides_count_the_same() {
    for timestamps in [true, false] {
        let mut world =
            World::new(server_config(), vec![CrowdConfig { timestamps, ..crowd_config() }]);
        world.open_all();
        assert_eq!((world.n_open(), world.server.stats().get(Counter::ConnsOpen)), (N, N));
        world.request_all(2);
        world.close_all(Farewell::Fin);
        world.assert_books(2);
        for (stats, side) in [(world.server.stats(), "server"), (&world.crowds[0].1, "crowd")] {
            assert_eq!(stats.get(Counter::TcpRetransmitted), 0, "{side}");
            assert_eq!(stats.get(Counter::TcpTimeouts), 0, "{side}");
            assert_eq!(stats.get(Counter::TcpRstOut), 0, "{side}");
        }
        assert_eq!(world.crowds[0].1.sum(Kind::Drop), 0);
    }
}

#[test]
fn faults_of_the_path_change_no_sum() {
    for seed in 0..20 {
        let mut world = World::simple();
        world.impair(seed);
        world.open_all();
        assert_eq!(world.n_open(), N, "seed {seed}");
        world.request_all(3);
        world.close_all(Farewell::Fin);
        world.idle(MINUTE * 30);
        let total = N;
        assert_eq!(world.n_lost(Loss::WrongResponse), 0, "seed {seed}");
        assert_eq!(world.n_events(|event| *event == Event::Closed), total, "seed {seed}");
        assert_eq!(world.client(Counter::ConnsClosed), total, "seed {seed}");
        let server = world.server.stats();
        assert_eq!(server.get(Counter::ConnsClosed), total, "seed {seed}");
        let bytes = 3 * total * 65;
        assert_eq!(server.get(Counter::TcpBytesIn), bytes, "seed {seed}");
        assert_eq!(world.client(Counter::TcpBytesIn), bytes, "seed {seed}");
        assert!(world.client(Counter::TcpRetransmitted) > 0, "seed {seed}");
    }
}

#[test]
fn several_crowds_share_a_plan_and_hand_frames_on() {
    let crowd = |worker| CrowdConfig { worker, n_workers: 3, n_connections: 90, ..crowd_config() };
    let mut world = World::new(server_config(), (0..3).map(crowd).collect());
    world.open_all();
    assert_eq!(world.n_open(), 270);
    world.request_all(1);
    world.close_all(Farewell::Fin);
    world.assert_books(1);
    assert!(world.client(Counter::UseHandoff) > 0);
}

#[test]
fn keepalives_find_everybody_alive() {
    let tcp = TcpConfig {
        timestamps: true,
        keepalive: MINUTE,
        keepalive_interval: Duration::from_secs(5),
        keepalive_probes_max: 3,
        ..TcpConfig::default()
    };
    let mut world = World::new(StackConfig { tcp, ..config() }, vec![crowd_config()]);
    world.open_all();
    world.idle(MINUTE * 20);
    // An odd number of bytes moves the number that the next probe is told by.
    world.request_all(1);
    world.idle(MINUTE * 20);
    assert_eq!(world.n_open(), N);
    let server = world.server.stats();
    assert_eq!(server.get(Counter::ConnsOpen), N);
    let probes = server.get(Counter::TcpProbes);
    assert!((30 * N..42 * N).contains(&probes), "{probes}: about one a minute, each answered");
    world.close_all(Farewell::Fin);
    world.assert_books(1);
}

#[test]
fn a_server_out_of_backlog_answers_with_cookies() {
    let server = StackConfig { syn_backlog_max: 4, ..server_config() };
    let mut world = World::new(server, vec![crowd_config()]);
    world.open_all();
    world.request_all(1);
    world.close_all(Farewell::Fin);
    assert!(world.server.stats().get(Counter::SynCookiesAccepted) > 0);
    world.assert_books(1);
}

#[test]
fn a_reset_ends_a_connection_once_and_in_both_directions() {
    let mut world = World::simple();
    world.open_all();
    world.request_all(1);
    world.close_all(Farewell::Rst);
    assert_eq!(world.n_events(|event| *event == Event::Closed), N);
    assert_eq!(world.client(Counter::ConnsAborted), N);
    assert_eq!(world.server.stats().get(Counter::ConnsReset), N);

    let mut world = World::simple();
    world.impair(7);
    world.habit = Habit::Reset;
    world.open_all();
    world.idle(MINUTE);
    // Who missed the reset learns of it when it asks.
    assert!(world.n_open() > 0);
    world.request_all(1);
    assert_eq!((world.n_open(), world.n_lost(Loss::Reset)), (0, N));
}

#[test]
fn a_server_that_closes_first_is_followed() {
    let mut world = World::simple();
    world.habit = Habit::Close;
    world.open_all();
    world.idle(MINUTE * 5);
    assert_eq!((world.n_open(), world.n_lost(Loss::ClosedEarly)), (0, N));
    assert_eq!(world.server.stats().get(Counter::ConnsClosed), N);
    assert_eq!(world.server.n_records(), 0);
}

#[test]
fn nobody_listens_nobody_answers_nobody_is_there() {
    let mut world = World::simple();
    assert!(world.server.unlisten(SERVER));
    world.open_all();
    assert_eq!((world.n_lost(Loss::Refused), world.client(Counter::ConnsRefused)), (N, N));

    let mut world = World::simple();
    world.paths[1] = Impair::new(Impairment { loss: Ratio::ALWAYS, ..Impairment::default() }, 1);
    world.open_all();
    assert_eq!(world.n_lost(Loss::Unreachable), N);
    assert_eq!(world.client(Counter::ConnsOpen), 0);
}

#[test]
fn what_hangs_is_given_up_and_reset() {
    let mut world = World::simple();
    world.habit = Habit::Listen;
    world.open_all();
    world.request_all(1);
    assert_eq!((world.n_open(), world.n_lost(Loss::ResponseTimedOut)), (0, N));
    assert_eq!(world.server.stats().get(Counter::ConnsReset), N);

    let mut world = World::simple();
    world.open_all();
    world.paths[1] = Impair::new(Impairment { loss: Ratio::ALWAYS, ..Impairment::default() }, 1);
    world.close_all(Farewell::Fin);
    assert_eq!((world.n_open(), world.n_lost(Loss::CloseTimedOut)), (0, N));
    assert_eq!(world.client(Counter::ConnsTimedOut), N);
}

#[test]
fn other_bytes_are_no_response() {
    let mut world = World::simple();
    world.habit = Habit::Lie;
    world.open_all();
    world.request_all(1);
    assert_eq!((world.n_open(), world.n_lost(Loss::WrongResponse)), (0, N));
    assert_eq!(world.server.stats().get(Counter::ConnsReset), N);
}

#[test]
fn a_later_run_over_what_an_earlier_one_left_behind_opens_all_the_same() {
    let mut world = World::simple();
    world.open_all();
    let epoch = world.now + MINUTE;
    world.idle(MINUTE);
    // The first crowd is gone without a word; the server still has all of its connections.
    world.crowds = vec![(Crowd::new(CrowdConfig { epoch, ..crowd_config() }), Counters::new())];
    world.events.clear();
    world.open_all();
    assert_eq!(world.n_open(), N);
    assert_eq!(world.server.stats().get(Counter::ConnsReset), N, "the old ones");
    world.close_all(Farewell::Fin);
    assert_eq!(world.n_events(|event| *event == Event::Closed), N);
}

#[test]
fn what_is_abandoned_counts_as_aborted_and_frames_of_others_are_not_taken() {
    let mut world = World::simple();
    world.open_all();
    let (crowd, stats) = &mut world.crowds[0];
    crowd.abandon(stats);
    assert_eq!((stats.get(Counter::ConnsAborted), stats.get(Counter::ConnsOpen)), (N, 0));
    stats.audit().expect("the sums hold");
    let received = stats.get(Counter::RxFrames);
    for mut frame in [vec![0; 60], vec![0xff; 60], vec![]] {
        assert_eq!(crowd.on_frame(world.now, &mut frame, Miss::Answer, stats), None);
    }
    assert_eq!(stats.get(Counter::RxFrames), received);
}

#[test]
fn two_bits_are_all_that_a_connection_costs() {
    let plan =
        Plan::new(&[Hosts { first: [10, 1, 0, 1].into(), n: 2_000 }], 1_024..=65_535, &[SERVER]);
    let crowd = Crowd::new(CrowdConfig { plan, n_connections: 100_000_000, ..crowd_config() });
    assert_eq!(crowd.bytes(), 25_000_000);
}

/// A segment from the server to connection `idx`.
fn forged(crowd: &Crowd, idx: u64, tcp: Tcp, payload: &[u8]) -> Vec<u8> {
    let tuple = crowd.tuple(idx);
    let (local, remote) = (tuple.local(), tuple.remote());
    let tcp = Tcp { src_port: remote.port(), dst_port: local.port(), ..tcp };
    let mut frame = vec![0; 14 + 20 + tcp.header_len() + payload.len()];
    let ether = Ethernet {
        dst: CROWD_MAC,
        src: Mac([2, 0, 0, 0, 0, 1]),
        vlan_id: None,
        ethertype: ethernet::TYPE_IPV4,
    };
    let ip = Ipv4 {
        src: *remote.ip(),
        dst: *local.ip(),
        protocol: ipv4::PROTOCOL_TCP,
        ttl: 64,
        dscp: 0,
        ecn: 0,
        id: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
    };
    let at = ether.emit(&mut frame);
    let start = at + ip.emit(&mut frame[at..], (tcp.header_len() + payload.len()) as u16);
    let text = start + tcp.emit(&mut frame[start..]);
    frame[text..].copy_from_slice(payload);
    tcp::fill_checksum(&mut frame[start..], *remote.ip(), *local.ip());
    frame
}

proptest! {
    /// Whatever a server says, in whatever state, the sums hold and an answer fits its frame.
    #[test]
    fn no_segment_breaks_the_books(
        segments in prop::collection::vec(
            (0_u64..8, any::<u8>(), -3_i64..70, -70_i64..70, 0_usize..80, any::<bool>(), 0_u8..8),
            1..120,
        ),
    ) {
        let mut world =
            World::new(server_config(), vec![CrowdConfig { n_connections: 6, ..crowd_config() }]);
        world.run(Duration::from_secs(30), |_, crowd, now, stats| {
            crowd.n_begun() < 4 && crowd.open(now, stats)
        });
        for (n, (idx, flags, seq, ack, len, has_timestamps, order)) in (0..).zip(segments) {
            let (now, tuple) = (world.now, world.crowds[0].0.tuple(idx));
            let seen = world.server.conn_between(&barewire_stack::flow::FourTuple::new(
                tuple.remote(),
                tuple.local(),
            ));
            let (snd, rcv) = seen.map_or((n, n), |info| (info.snd_nxt, info.rcv_nxt));
            let timestamps = has_timestamps.then_some(Timestamps { value: n, echo: n });
            let tcp = Tcp {
                seq: snd.wrapping_add(seq as u32),
                ack: rcv.wrapping_add(ack as u32),
                flags: Flags::from_bits(flags),
                options: Options { timestamps, ..Options::default() },
                ..Tcp::default()
            };
            let (crowd, stats) = &mut world.crowds[0];
            match order {
                0 => drop(crowd.request(now, idx, 2)),
                1 => drop(crowd.close(now, idx, Farewell::Fin)),
                2 => drop(crowd.close(now, idx, Farewell::Rst)),
                3 => drop(crowd.open(now, stats)),
                _ => {}
            }
            let mut frame = forged(crowd, idx, tcp, &vec![7; len]);
            let taken = crowd.on_frame(now, &mut frame, Miss::Answer, stats);
            if let Some(Disposition::Reply(n)) = taken {
                prop_assert!(n <= frame.len());
            }
            prop_assert!(taken.is_some());
            world.idle(Duration::from_millis(1 << order));
        }
        world.idle(MINUTE * 10);
        let (crowd, stats) = &mut world.crowds[0];
        prop_assert_eq!(crowd.n_flights(), 0);
        prop_assert_eq!(crowd.n_open(), stats.get(Counter::ConnsOpen));
        crowd.abandon(stats);
        prop_assert_eq!(stats.get(Counter::ConnsOpen), 0);
        prop_assert_eq!(stats.audit(), Ok(()));
    }
}
