//! The short way for the segments that a connection waits for is the long way: whatever a peer and an
//! application do, a stack that gets plain frames and one that gets the same segments under a priority
//! tag, which the short way does not take, send, tell and count the same.

use crate::peer::{ACK, FIN, Flow, Lab, PEER_IP, PORT, PSH, STACK_IP, config, frame_of};
use barewire_stack::stack::{ConnId, Miss, StackConfig};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::{Seq, TcpConfig};
use barewire_stack::time::Duration;
use barewire_stack::wire::tcp::{Flags, Options, Tcp, Timestamps};
use proptest::prelude::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// The peer sends `len` bytes, `skip` beyond what comes next, and acknowledges all but `unacked`.
    Segment {
        skip: i32,
        len: usize,
        unacked: u32,
        flags: Flags,
    },
    /// The peer's window from now on.
    Window(u16),
    /// The peer's clock goes on, or back.
    Clock(i32),
    Send(usize),
    Recv(usize),
    Echo,
    Pass(u64),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![8 => Just(ACK | PSH), 8 => Just(ACK), 1 => Just(ACK | FIN)];
    let skip = prop_oneof![12 => Just(0), 1 => -1500..1500];
    let unacked = prop_oneof![8 => Just(0u32), 1 => 1..3000u32];
    let len = prop_oneof![3 => Just(0usize), 6 => 1..200usize, 1 => 900..1000usize];
    let segment = (skip, len, unacked, flags);
    prop_oneof![
        12 => segment.prop_map(|(skip, len, unacked, flags)| Step::Segment { skip, len, unacked, flags }),
        1 => prop_oneof![Just(0u16), 1..500u16, Just(65_535)].prop_map(Step::Window),
        1 => (-3..1000i32).prop_map(Step::Clock),
        6 => (1..3000usize).prop_map(Step::Send),
        4 => (1..4000usize).prop_map(Step::Recv),
        2 => Just(Step::Echo),
        4 => prop_oneof![0..60u64, 200..1500u64].prop_map(Step::Pass),
        1 => Just(Step::Close),
    ]
}

/// One stack, and its connection.
struct Side {
    lab: Lab,
    id: ConnId,
    tagged: bool,
}

impl Side {
    fn new(stamped: bool, sack: bool, tagged: bool) -> (Side, Flow) {
        let tcp = TcpConfig { timestamps: stamped, sack, ..config().tcp };
        let mut lab = Lab::with(StackConfig { tcp, ..config() });
        let options = Options {
            mss: Some(1000),
            sack_permitted: sack,
            timestamps: stamped.then_some(Timestamps { value: 100, echo: 0 }),
            ..Options::default()
        };
        let (flow, id) = lab.open_with(1, options);
        lab.sent.clear();
        lab.events.clear();
        (Side { lab, id, tagged }, flow)
    }

    fn segment(&mut self, flow: &Flow, flags: Flags, seq: u32, payload: &[u8], ack: u32) {
        let options = Options { timestamps: flow.stamps, ..Options::default() };
        let tcp = Tcp {
            src_port: flow.port,
            dst_port: PORT,
            seq,
            ack,
            flags,
            window: flow.window,
            options,
            ..Tcp::default()
        };
        let mut frame = frame_of(PEER_IP, STACK_IP, &tcp, payload);
        if self.tagged {
            // Priority 7, of no VLAN.
            frame.splice(12..12, [0x81, 0x00, 0xe0, 0x00]);
        }
        self.lab.frame(frame);
    }

    fn act(&mut self, step: &Step) {
        let Side { lab, id, .. } = self;
        let (now, id) = (lab.now, *id);
        match *step {
            Step::Send(n) => {
                lab.stack.send(now, id, &vec![7; n]);
            }
            Step::Recv(n) => {
                lab.stack.recv(now, id, &mut vec![0; n]);
            }
            Step::Echo => {
                lab.stack.echo(now, id);
            }
            Step::Close => lab.stack.close(now, id),
            Step::Pass(ms) => lab.advance(Duration::from_millis(ms)),
            Step::Segment { .. } | Step::Window(_) | Step::Clock(_) => {}
        }
        lab.turn();
    }

    /// What can be seen of it: segments, events and counters since the last look.
    fn look(&mut self) -> String {
        let sent: Vec<_> = self.lab.sent.drain(..).collect();
        let events: Vec<_> = self.lab.events.drain(..).collect();
        let counters = Counter::ALL.iter().filter(|&&c| c != Counter::RxBytes);
        let counters: Vec<_> = counters.map(|&c| (c.name(), self.lab.stat(c))).collect();
        format!("{sent:?} {events:?} {counters:?}")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn both_ways_lead_to_the_same(
        stamped in any::<bool>(),
        sack in any::<bool>(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let (mut short, mut flow) = Side::new(stamped, sack, false);
        let (mut long, _) = Side::new(stamped, sack, true);
        let mut nxt = Seq(flow.ack);
        for step in &steps {
            match *step {
                Step::Segment { skip, len, unacked, flags } => {
                    let seq = flow.seq.wrapping_add_signed(skip);
                    let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
                    let ack = (nxt - unacked).0;
                    for side in [&mut short, &mut long] {
                        side.segment(&flow, flags, seq, &payload, ack);
                    }
                    if skip == 0 {
                        flow.seq = flow.seq.wrapping_add(len as u32);
                    }
                }
                Step::Window(window) => flow.window = window,
                Step::Clock(ms) => {
                    if let Some(stamps) = &mut flow.stamps {
                        stamps.value = stamps.value.wrapping_add_signed(ms);
                    }
                }
                _ => {
                    for side in [&mut short, &mut long] {
                        side.act(step);
                    }
                }
            }
            for sent in &short.lab.sent {
                let end = Seq(sent.tcp.seq) + sent.payload.len() as u32;
                nxt = nxt.max(end);
                if let (Some(stamps), Some(ours)) = (&mut flow.stamps, sent.tcp.options.timestamps) {
                    stamps.echo = ours.value;
                }
            }
            let (seen, expected) = (short.look(), long.look());
            prop_assert_eq!(seen, expected, "after {:?}", step);
        }
        short.lab.audit();
    }
}

/// The header of what a peer sends next.
fn bare_ack(flow: &Flow) -> Tcp {
    Tcp {
        src_port: flow.port,
        dst_port: PORT,
        seq: flow.seq,
        ack: flow.ack,
        flags: ACK,
        ..Tcp::default()
    }
}

/// Looking ahead changes nothing, whatever the frames and the connections are.
#[test]
fn a_look_ahead_changes_nothing() {
    let mut lab = Lab::with(StackConfig { syn_backlog_max: 20_000, ..config() });
    let mut flows: Vec<_> = (1..=9_000).map(|port| lab.open(port)).collect();
    lab.stack.abort(lab.now, flows[0].1);
    lab.turn();
    lab.sent.clear();
    let mut frames: Vec<Vec<u8>> = flows
        .iter()
        .map(|(flow, _)| frame_of(PEER_IP, STACK_IP, &bare_ack(flow), b"hello"))
        .collect();
    frames.extend([vec![], vec![0; 10], vec![0xff; 60], vec![0x45; 54]]);
    let before = format!("{:?}", lab.stack.stats());
    for batch in frames.rchunks(100) {
        lab.stack.look_ahead(batch.iter().map(Vec::as_slice));
    }
    lab.stack.look_ahead_at(flows.iter().map(|&(_, id)| id));
    lab.stack.look_ahead_at([ConnId { slot: u32::MAX - 1, generation: 0 }].into_iter());
    lab.turn();
    lab.expect_silence();
    assert_eq!(format!("{:?}", lab.stack.stats()), before);
    // What was foreseen for a batch is compared with what comes, in whatever order.
    for (flow, id) in flows.iter_mut().skip(8_900) {
        lab.data(flow, b"hello");
        let mut buf = [0; 8];
        assert_eq!(lab.stack.recv(lab.now, *id, &mut buf), 5);
    }
    lab.audit();
}

/// The connections that were foreseen are gone, and so is the memory in which they were.
#[test]
fn a_look_ahead_at_connections_that_end_is_forgotten() {
    let mut lab = Lab::with(StackConfig { syn_backlog_max: 20_000, ..config() });
    let flows: Vec<_> = (1..=9_000).map(|port| lab.open(port)).collect();
    let last = &flows[8_990..];
    let frames: Vec<Vec<u8>> = last
        .iter()
        .map(|(flow, _)| frame_of(PEER_IP, STACK_IP, &bare_ack(flow), b"late"))
        .collect();
    lab.stack.look_ahead(frames.iter().map(Vec::as_slice));
    flows.iter().for_each(|&(_, id)| lab.stack.abort(lab.now, id));
    lab.turn();
    let before = lab.stack.stats().get(Counter::DropNoConnection);
    for mut frame in frames {
        lab.stack.on_frame(lab.now, &mut frame, Miss::Answer);
    }
    assert_eq!(lab.stack.stats().get(Counter::DropNoConnection), before + 10);
    lab.turn();
    lab.audit();
}
