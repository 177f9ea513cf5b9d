//! Connections that fall asleep: what is kept of them is enough. The same conversation is held with a
//! stack whose connections sleep after half a second and with one whose never do, and both say the
//! same.

use crate::peer::*;
use barewire_stack::stack::{ConnId, StackConfig};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::{End, State, TcpConfig};
use barewire_stack::time::Duration;
use barewire_stack::wire::tcp::{Options, Tcp};
use proptest::prelude::*;

const SLEEPS: Duration = Duration::from_millis(500);
const NEVER: Duration = Duration::from_secs(1_000_000);

fn lab(dormant_after: Duration, tcp: &TcpConfig) -> Lab {
    Lab::with(StackConfig { tcp: TcpConfig { dormant_after, ..tcp.clone() }, ..config() })
}

/// What the peer, the application or the clock does next.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// Quiet for so many tenths of a second.
    Pause(u16),
    /// The peer sends so many bytes, and the application reads them.
    Data(u16),
    /// The application sends so many bytes. What the peer gets of them it acknowledges at once: after
    /// a loss the congestion window of one that slept is rounded to whole segments.
    Send(u16),
    /// The peer acknowledges all it was sent.
    Ack,
    /// The peer tells another window.
    Window(u16),
    /// The peer repeats its acknowledgement, or sends one that is older than any window: between the
    /// two, one that slept is the stricter.
    OldAck(u32),
    /// A segment so far beyond the window that it is challenged.
    Far,
    /// A SYN in the window.
    Syn,
    /// A keepalive probe of the peer.
    Probe,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (1u16..70).prop_map(Move::Pause),
        3 => (1u16..1000).prop_map(Move::Data),
        3 => (1u16..600).prop_map(Move::Send),
        5 => Just(Move::Ack),
        1 => prop_oneof![Just(1000), Just(20_000), Just(65_535)].prop_map(Move::Window),
        1 => prop_oneof![Just(0u32), Just(200_000)].prop_map(Move::OldAck),
        1 => Just(Move::Far),
        1 => Just(Move::Syn),
        1 => Just(Move::Probe),
    ];
    prop::collection::vec(one, 1..60)
}

/// One stack in the conversation.
struct Side {
    lab: Lab,
    flow: Flow,
    id: ConnId,
    /// Everything it said, without the times, which rounding may move by a millisecond.
    said: Vec<(Tcp, usize)>,
}

impl Side {
    fn new(dormant_after: Duration, tcp: &TcpConfig, options: Options, active: bool) -> Self {
        let mut lab = lab(dormant_after, tcp);
        let (flow, id) = if active {
            let (mut flow, id) = lab.connect();
            lab.segment_with(&flow, SYN | ACK, flow.seq, flow.ack, options, b"");
            flow.seq += 1;
            lab.turn();
            (flow, id)
        } else {
            lab.open_with(1, options)
        };
        Side { lab, flow, id, said: Vec::new() }
    }

    fn act(&mut self, step: Move) {
        let (lab, flow) = (&mut self.lab, &mut self.flow);
        match step {
            Move::Pause(tenths) => lab.advance_ms(100 * u64::from(tenths)),
            Move::Data(n) => {
                lab.data(flow, &vec![7; usize::from(n)]);
                lab.stack.discard(lab.now, self.id, usize::from(n));
                lab.turn();
            }
            Move::Send(n) => {
                lab.stack.send(lab.now, self.id, &vec![9; usize::from(n)]);
                lab.turn();
            }
            Move::Ack => lab.ack(flow),
            Move::Window(window) => {
                flow.window = window;
                lab.ack(flow);
            }
            Move::OldAck(ago) => {
                let ack = flow.ack.wrapping_sub(ago);
                lab.segment(flow, ACK, flow.seq, ack, b"");
            }
            Move::Far => lab.segment(flow, ACK, flow.seq.wrapping_add(1 << 28), flow.ack, b""),
            Move::Syn => lab.segment(flow, SYN, flow.seq, 0, b""),
            Move::Probe => lab.segment(flow, ACK, flow.seq.wrapping_sub(1), flow.ack, b""),
        }
        while !self.lab.sent.is_empty() {
            if self.hear() {
                self.lab.ack(&self.flow);
            }
        }
        if let Some(stamps) = &mut self.flow.stamps {
            // The peer's clock goes on with ours.
            stamps.value = (self.lab.now.as_millis() as u32).wrapping_add(77);
        }
    }

    /// Takes down what was said, of which the peer has all. Tells whether there were data.
    fn hear(&mut self) -> bool {
        let before = self.flow.ack;
        for sent in self.lab.sent.drain(..) {
            let end = sent.tcp.seq.wrapping_add(sent.payload.len() as u32);
            if end.wrapping_sub(self.flow.ack) as i32 > 0 {
                self.flow.ack = end;
            }
            self.said.push((sent.tcp, sent.payload.len()));
        }
        self.flow.ack != before
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_connection_that_slept_behaves_as_one_that_did_not(
        moves in moves(),
        (active, timestamps, sack, scale, keepalive) in any::<(bool, bool, bool, bool, bool)>(),
    ) {
        let tcp = TcpConfig {
            keepalive: Duration::from_secs(if keepalive { 4 } else { 0 }),
            // Longer than the idle time it would put that off for those who stay awake.
            keepalive_interval: Duration::from_secs(1),
            // Moves the end of a delayed ACK away from the tenths at which the others move.
            delayed_ack: Duration::from_millis(43),
            timestamps: timestamps && !active,
            ..config().tcp
        };
        let options = Options {
            mss: Some(1000),
            window_scale: scale.then_some(5),
            sack_permitted: sack,
            ..Options::default()
        };
        let options = Options {
            timestamps: (timestamps && !active).then_some(Default::default()),
            ..options
        };
        let mut sides = [SLEEPS, NEVER].map(|after| Side::new(after, &tcp, options, active));
        for step in moves {
            sides.iter_mut().for_each(|side| side.act(step));
            let [sleeper, waker] = &sides;
            let news = |side: &Side| format!("{:?}", side.said.last());
            prop_assert_eq!(news(sleeper), news(waker), "after {:?}", step);
            prop_assert_eq!(&sleeper.said, &waker.said, "after {:?}", step);
            let states = sides.each_ref().map(|side| side.lab.stack.state(side.id));
            prop_assert_eq!(states[0], states[1]);
        }
        let [sleeper, waker] = &mut sides;
        for counter in [
            Counter::TcpBytesOut,
            Counter::TcpProbes,
            Counter::TcpChallengeAcks,
            Counter::DropSequence,
            Counter::DropAck,
            Counter::DropSyn,
            Counter::ConnsTimedOut,
        ] {
            prop_assert_eq!(sleeper.lab.stat(counter), waker.lab.stat(counter), "{:?}", counter);
        }
        sleeper.lab.audit();
    }
}

fn n_awake(lab: &Lab) -> u32 {
    lab.stack.n_active()
}

#[test]
fn an_idle_connection_sleeps_and_any_side_wakes_it() {
    let mut lab = lab(Duration::from_secs(1), &config().tcp);
    let (mut flow, id) = lab.open(1);
    lab.stack.set_word(id, 0xfeed);
    assert_eq!(n_awake(&lab), 1);
    lab.advance_ms(2_100);
    assert_eq!((n_awake(&lab), lab.stack.n_records()), (0, 1));
    assert_eq!(lab.stack.poll_timeout(lab.now), None, "nothing is left to come up for");
    assert_eq!(lab.stack.state(id), Some(State::Established));
    assert_eq!((lab.stack.word(id), lab.stack.peek(id).len()), (Some(0xfeed), 0));
    assert_eq!(lab.stack.send_room(id), config().tcp.send_bytes_max as usize);
    let info = lab.stack.conn_info(id.slot).expect("it lives");
    assert!(info.dormant && info.mss == 1000 && info.rcv_nxt == flow.seq && info.app == Some(5));

    lab.sent.clear();
    lab.data(&mut flow, b"good morning");
    assert_eq!(n_awake(&lab), 1);
    let event = lab.events.pop_back().expect("it is told");
    assert_eq!((event.id, event.word), (id, 0xfeed));
    lab.stack.discard(lab.now, id, 100);
    lab.advance_ms(2_100);
    assert_eq!(n_awake(&lab), 0);

    lab.sent.clear();
    assert_eq!(lab.stack.send(lab.now, id, b"good evening"), 12);
    lab.turn();
    assert_eq!(lab.expect().payload, b"good evening");
    lab.audit();
}

#[test]
fn unread_bytes_and_open_windows_keep_it_awake() {
    let mut lab = lab(Duration::from_secs(1), &config().tcp);
    let (mut flow, id) = lab.open(1);
    lab.data(&mut flow, b"unread");
    lab.advance_ms(10_000);
    assert_eq!(n_awake(&lab), 1);
    lab.stack.discard(lab.now, id, 100);
    flow.window = 0;
    lab.ack(&flow);
    lab.stack.send(lab.now, id, b"never taken");
    lab.advance_ms(3_000);
    assert_eq!(n_awake(&lab), 1);
    lab.audit();
}

#[test]
fn keepalive_wakes_it_and_a_silent_peer_ends_it() {
    let tcp = TcpConfig {
        keepalive: Duration::from_secs(10),
        keepalive_interval: Duration::from_secs(2),
        keepalive_probes_max: 3,
        ..config().tcp
    };
    let mut lab = lab(Duration::from_secs(1), &tcp);
    let (flow, _) = lab.open(1);
    lab.advance_ms(9_900);
    assert_eq!(n_awake(&lab), 0);
    lab.sent.clear();
    lab.advance_ms(200);
    assert_eq!(lab.expect_flags(ACK).tcp.seq, flow.ack.wrapping_sub(1));
    assert_eq!(n_awake(&lab), 1);
    lab.ack(&flow);
    lab.advance_ms(5_000);
    assert_eq!(n_awake(&lab), 0, "an answer, and it sleeps again");
    lab.advance_ms(20_000);
    assert_eq!(lab.events.back().and_then(|e| e.end), Some(End::TimedOut));
    assert_eq!(lab.stack.n_records(), 0);
    lab.audit();
}

#[test]
fn memory_is_that_of_those_awake_and_comes_back() {
    let mut lab = lab(Duration::from_secs(1), &config().tcp);
    let empty = lab.stack.memory().connections();
    let flows: Vec<_> = (1..=20_000).map(|port| lab.open(port)).collect();
    lab.advance_ms(3_000);
    let memory = lab.stack.memory();
    assert_eq!(lab.stack.n_active(), 0);
    assert!(memory.active <= 64 << 10, "{memory:?}");
    assert!(memory.records / flows.len() <= 64 + 4, "{memory:?}");
    for (_, id) in flows {
        lab.stack.abort(lab.now, id);
        lab.turn();
    }
    let left = lab.stack.memory().connections() - empty;
    assert!(left <= 3 * (64 << 10), "{left} bytes are left: {:?}", lab.stack.memory());
    lab.audit();
}

#[test]
fn a_rest_takes_little_and_ends_in_order() {
    let mut lab = lab(Duration::from_secs(1), &config().tcp);
    let empty = lab.stack.memory().connections();
    for port in 1..=10_000 {
        let (mut flow, id) = lab.open(port);
        lab.stack.close(lab.now, id);
        lab.turn();
        flow.ack = flow.ack.wrapping_add(1);
        lab.segment(&flow, FIN | ACK, flow.seq, flow.ack, b"");
        lab.advance_ms(1);
    }
    assert_eq!((lab.stat(Counter::ConnsTimeWait), lab.stack.n_records()), (1000, 1000));
    let memory = lab.stack.memory();
    assert!(memory.time_wait <= 1000 * 26 + 3 * 25_000, "{memory:?}");
    assert_eq!(lab.stat(Counter::TimeWaitRecycled), 9_000, "beyond the bound the oldest went");
    lab.advance(Duration::from_secs(70));
    assert_eq!((lab.stat(Counter::ConnsTimeWait), lab.stack.n_records()), (0, 0));
    let left = lab.stack.memory().connections() - empty;
    assert!(left <= 3 * (64 << 10), "{left} bytes are left");
    lab.audit();
}

/// A timeout and the acknowledgement that makes it needless come in one turn, before anything was sent
/// again: nothing of it keeps the connection awake.
#[test]
fn a_timeout_that_came_to_nothing_lets_the_connection_sleep() {
    let mut lab = Lab::new();
    let (mut flow, id) = lab.open(1);
    lab.stack.send(lab.now, id, b"hello");
    lab.turn();
    flow.ack = flow.ack.wrapping_add(5);
    lab.now += Duration::from_secs(3);
    lab.stack.on_timeout(lab.now);
    assert_eq!(lab.stat(Counter::TcpTimeouts), 1);
    lab.ack(&flow);
    assert_eq!(lab.stat(Counter::TcpRetransmitted), 0);
    lab.advance(Duration::from_secs(5));
    assert_eq!(lab.stack.n_active(), 0, "nothing is in flight, queued or owed");
    lab.audit();
}
