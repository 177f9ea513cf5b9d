//! The short ways of a connection are its long way: two connections hear and are asked the same, one takes
//! the predicted segment and sends the lone one wherever it may, the other never does. They stay the same
//! to the last field.

use barewire_stack::stats::Counters;
use barewire_stack::tcp::buffer::Pool;
use barewire_stack::tcp::config::Ecn;
use barewire_stack::tcp::scoreboard::Segments;
use barewire_stack::tcp::{Connection, Context, Moment, Opening, Seq, TcpConfig};
use barewire_stack::time::{Duration, Instant};
use barewire_stack::wire::ethernet::Mac;
use barewire_stack::wire::plain::{Headers, Plain};
use barewire_stack::wire::tcp::{Flags, Options, Tcp, Timestamps};
use proptest::prelude::*;
use std::net::{Ipv4Addr, SocketAddrV4};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ISS: u32 = 0xffff_f000;
const PEER_ISS: u32 = 7_000;
const SYN_ACK: Flags = Flags::from_bits(0x12);
const ACK_PSH: Flags = Flags::from_bits(0x18);

const ECHO: u8 = 4;

#[derive(Clone, Debug)]
enum Step {
    /// The peer sends so many bytes, acknowledges all but so many of ours, and has these ECN bits on its
    /// packet, or with [`ECHO`] ECE in its header.
    Segment(usize, u32, u8),
    Window(u16),
    Send(usize),
    Recv(usize),
    Urgent,
    Pass(u64),
    Shutdown,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![1 => Just(0usize), 2 => 1..200usize];
    let unacked = prop_oneof![6 => Just(0u32), 1 => 1..2000u32];
    let ecn = prop_oneof![9 => Just(2u8), 1 => Just(3u8), 1 => Just(2 | ECHO)];
    prop_oneof![
        9 => (len, unacked, ecn).prop_map(|(len, unacked, ecn)| Step::Segment(len, unacked, ecn)),
        1 => prop_oneof![Just(0u16), 1..500u16, Just(65_535)].prop_map(Step::Window),
        9 => prop_oneof![4 => 1..600usize, 1 => 600..5000usize].prop_map(Step::Send),
        4 => (1..4000usize).prop_map(Step::Recv),
        1 => Just(Step::Urgent),
        5 => prop_oneof![3 => 0..60_000u64, 1 => 200_000..400_000_000u64].prop_map(Step::Pass),
        1 => Just(Step::Shutdown),
    ]
}

/// A connection, and what a stack would lend it.
struct Side {
    conn: Connection,
    config: TcpConfig,
    pool: Pool,
    segments: Segments,
    stats: Counters,
    moment: Moment,
    takes_short_ways: bool,
}

impl Side {
    fn ask<R>(&mut self, ask: impl FnOnce(&mut Connection, &mut Context<'_>) -> R) -> R {
        let Side { conn, config, pool, segments, stats, moment, .. } = self;
        ask(conn, &mut Context { now: moment, config, pool, segments, stats })
    }

    fn new(config: &TcpConfig, now: Instant, takes_short_ways: bool) -> Side {
        let (mut pool, mut segments, mut stats) =
            (Pool::new(1 << 20), Segments::new(1024), Counters::new());
        let (config, moment) = (config.clone(), Moment::of(now));
        let opening = Opening { iss: Seq(ISS), timestamp_offset: 5 };
        let (pool_of, segments_of, stats_of) = (&mut pool, &mut segments, &mut stats);
        let mut cx = Context {
            now: &moment,
            config: &config,
            pool: pool_of,
            segments: segments_of,
            stats: stats_of,
        };
        let conn = Connection::connect(&mut cx, opening);
        Side { conn, config, pool, segments, stats, moment, takes_short_ways }
    }

    fn hear(&mut self, tcp: &Tcp, ecn: u8, payload: &[u8]) -> String {
        let mut frame = vec![0; Headers::len(tcp)];
        frame.extend_from_slice(payload);
        Headers::new(MAC, 64, 0).emit(&mut frame, MAC, (PEER, OURS), ecn, tcp);
        let takes_short_ways = self.takes_short_ways;
        let verdict = self.ask(|conn, cx| match Plain::read(&frame, MAC) {
            Some(plain) if takes_short_ways && conn.predicts(&plain) => {
                conn.on_predicted(cx, &plain)
            }
            _ => conn.on_segment(cx, tcp, ecn, payload),
        });
        format!("{verdict:?}")
    }

    /// The frames that are to be sent.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let (headers, mut frames) = (Headers::new(MAC, 64, 0), Vec::new());
        let takes_short_ways = self.takes_short_ways;
        while let Some(frame) = self.ask(|conn, cx| {
            let mut frame = vec![0; 2048];
            if takes_short_ways && let Some(lone) = conn.next_lone(cx) {
                let ends = (SocketAddrV4::new(OURS, 1), SocketAddrV4::new(PEER, 2));
                let data = lone.data(cx.pool);
                let len = headers.emit_plain(&mut frame, MAC, ends, lone.ecn, &lone.fields, data);
                frame.truncate(len);
                return Some(frame);
            }
            let mut out = conn.poll_transmit(cx)?;
            (out.tcp.src_port, out.tcp.dst_port) = (1, 2);
            let data = Headers::len(&out.tcp);
            frame.truncate(data + out.len as usize);
            conn.copy_payload(cx.pool, &out, &mut frame[data..]);
            headers.emit(&mut frame, MAC, (OURS, PEER), out.ecn, &out.tcp);
            Some(frame)
        }) {
            frames.push(frame);
        }
        frames
    }

    /// All that can be seen of it, but where its send queue was read last.
    fn state(&self) -> String {
        let conn = format!("{:?}", self.conn);
        let (before, rest) = conn.split_once("mark: ").expect("a send queue has a mark");
        let (_, after) = rest.split_once('}').expect("a structure ends");
        format!("{before}{after} {:?}", self.stats)
    }
}

/// What the peer knows.
struct Peer {
    nxt: u32,
    window: u16,
    stamped: bool,
    now: Instant,
}

impl Peer {
    fn segment(&self, flags: Flags, ack: u32) -> Tcp {
        let timestamps = Timestamps {
            value: self.now.as_millis() as u32,
            echo: self.now.as_millis() as u32 + 5,
        };
        let options =
            Options { timestamps: self.stamped.then_some(timestamps), ..Options::default() };
        Tcp {
            src_port: 2,
            dst_port: 1,
            seq: self.nxt,
            ack,
            flags,
            window: self.window,
            options,
            ..Tcp::default()
        }
    }
}

proptest! {
    #[test]
    fn both_connections_stay_the_same(
        (stamped, sack, nagle, ecn, has_limit) in any::<(bool, bool, bool, bool, bool)>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let config = TcpConfig {
            nagle,
            timestamps: stamped,
            sack,
            ecn: if ecn { Ecn::Request } else { Ecn::Off },
            user_timeout: if has_limit { Duration::from_secs(20) } else { Duration::ZERO },
            ..TcpConfig::default()
        };
        let mut peer = Peer { nxt: PEER_ISS, window: 65_535, stamped, now: Instant::from_nanos(1 << 40) };
        let mut sides = [true, false].map(|takes| Side::new(&config, peer.now, takes));
        sides.iter_mut().for_each(|side| drop(side.sent()));
        let mut syn_ack = peer.segment(SYN_ACK, ISS.wrapping_add(1));
        syn_ack.flags = if ecn { SYN_ACK | Flags::ECE } else { SYN_ACK };
        syn_ack.options.sack_permitted = sack;
        syn_ack.options.mss = Some(1000);
        sides.iter_mut().for_each(|side| drop(side.hear(&syn_ack, 0, &[])));
        peer.nxt += 1;
        for step in steps {
            let ack = sides[1].conn.snd.max.0;
            let did = sides.each_mut().map(|side| match &step {
                Step::Segment(len, unacked, mark) => {
                    let n_in_flight = ack.wrapping_sub(side.conn.snd.una.0);
                    let ack = ack.wrapping_sub((*unacked).min(n_in_flight));
                    let flags = if mark & ECHO > 0 { ACK_PSH | Flags::ECE } else { ACK_PSH };
                    let tcp = peer.segment(flags, ack);
                    side.hear(&tcp, if ecn { mark & 3 } else { 0 }, &vec![7; *len])
                }
                Step::Send(len) => side.ask(|conn, cx| format!("{}", conn.send(cx, &vec![9; *len]))),
                Step::Urgent => side.ask(|conn, cx| format!("{}", conn.send_urgent(cx, b"!"))),
                Step::Recv(len) => side.ask(|conn, cx| format!("{}", conn.recv(cx, &mut vec![0; *len]))),
                Step::Shutdown => side.ask(|conn, cx| { conn.shutdown(cx); String::new() }),
                Step::Window(_) => String::new(),
                Step::Pass(us) => {
                    side.moment = Moment::of(peer.now + Duration::from_micros(*us));
                    let now = side.moment.tick;
                    if side.conn.poll_timeout().is_due(now) {
                        side.ask(|conn, cx| conn.on_timeout(cx));
                    }
                    String::new()
                }
            });
            match step {
                Step::Segment(len, ..) => peer.nxt = peer.nxt.wrapping_add(len as u32),
                Step::Window(window) => peer.window = window,
                Step::Pass(us) => peer.now += Duration::from_micros(us),
                _ => {}
            }
            prop_assert_eq!(&did[0], &did[1], "after {:?}", step);
            let [short, long] = &mut sides;
            prop_assert_eq!(short.sent(), long.sent(), "after {:?}", step);
            prop_assert_eq!(short.conn.poll_event(), long.conn.poll_event());
            prop_assert_eq!(short.state(), long.state(), "after {:?}", step);
        }
    }
}
