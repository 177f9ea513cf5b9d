//! One TCP connection, sans I/O. It does not know frames, queues, cores, addresses or ports: parsed
//! segments, calls of the application and the time come in; segments, deadlines and events are
//! taken out. All that the connections of a stack share (configuration, buffer pool, counters) is
//! lent to each call in a [`Context`].
//!
//! - `input`: a segment arrives (RFC 9293 section 3.10.7, step by step)
//! - `predicted`: the short way for the one that comes next; `lone`: for a request and its response
//! - `recovery`: what its acknowledgement says of the segments in flight, and what is lost
//! - `output`: the next segment to send
//! - `timeout`: what happens when a deadline passes
//! - `call`: what the application asks
//! - `dormant`, `resting`: what is kept of a connection that sleeps, or is in TIME-WAIT; `rounded`:
//!   its numbers
//! - `cookie`: what a SYN-ACK remembers in the listener's place
//! - `pmtu`: how large a segment the path takes
//! - `ecn`, `urgent`: explicit congestion notification, urgent data
//! - `scoreboard`, `rack`, `congestion`, `slow_start`, `cubic`, `prr`, `rtt`: what the sender knows of the path
//! - `seq`, `state`, `timer`, `moment`, `buffer`, `send_queue`, `isn`, `config`: the nouns they share

pub mod buffer;
mod call;
pub mod config;
pub mod congestion;
pub mod cookie;
pub mod cubic;
pub mod dormant;
mod ecn;
mod input;
pub mod isn;
mod lone;
mod moment;
mod output;
mod pmtu;
mod predicted;
pub mod prr;
pub mod rack;
mod recovery;
pub mod resting;
mod rounded;
pub mod rtt;
pub mod scoreboard;
mod send_queue;
pub mod seq;
pub mod slow_start;
pub mod state;
mod timeout;
pub mod timer;
mod urgent;

pub use config::TcpConfig;
pub use input::Verdict;
pub use lone::Lone;
pub use moment::Moment;
pub use output::Outgoing;
pub use seq::Seq;
pub use state::{End, State};
pub use timer::{Tick, Timers};

use crate::stats::{Counter, Counters};
use buffer::{Pool, Queue, Reassembly};
use congestion::Congestion;
use pmtu::PathMtu;
use rack::Rack;
use recovery::{Alarm, TailProbe};
use rtt::Rtt;
use scoreboard::{Scoreboard, Segments};
use send_queue::SendQueue;
use urgent::Urgent;

/// Send MSS when the peer announces none (RFC 9293 MUST-15, IPv4).
const MSS_DEFAULT: u16 = 536;

/// Smallest send MSS that a peer can make us use: below it headers cost more than data, and an
/// attacker gets many segments for few bytes (CVE-2019-11479).
const MSS_MIN: u16 = 88;

/// Bytes that the timestamps option takes from every segment (RFC 7323 appendix A).
const TIMESTAMPS_BYTES: u16 = 12;

/// Data segments acknowledged at once at the start of a connection, while the peer is in slow start.
const QUICK_ACKS: u8 = 16;

/// What the connections of one stack share, lent to each call.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time of this turn.
    pub now: &'a Moment,
    /// The knobs.
    pub config: &'a TcpConfig,
    /// The chunks for all buffered bytes.
    pub pool: &'a mut Pool,
    /// The records of all segments in flight.
    pub segments: &'a mut Segments,
    /// The counters.
    pub stats: &'a mut Counters,
}

/// What happened to a connection that its application should know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u8);

impl Events {
    /// The handshake completed.
    pub const OPENED: Events = Events(1);
    /// Bytes arrived.
    pub const READABLE: Events = Events(2);
    /// A send that was cut short may go on.
    pub const WRITABLE: Events = Events(4);
    /// The peer closed its direction: what is readable is all there will be.
    pub const FINISHED: Events = Events(8);
    /// The connection ended.
    pub const ENDED: Events = Events(16);
    /// The peer announced urgent data.
    pub const URGENT: Events = Events(32);

    /// All of `other` is among these.
    pub fn contains(self, other: Events) -> bool {
        self.0 & other.0 == other.0
    }

    /// None at all.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn insert(&mut self, other: Events) {
        self.0 |= other.0;
    }

    fn remove(&mut self, other: Events) {
        self.0 &= !other.0;
    }
}

/// The send half (RFC 9293 section 3.3.1, send sequence variables).
#[derive(Debug)]
pub struct Send {
    /// Oldest unacknowledged sequence number.
    pub una: Seq,
    /// Next to send. What lies between `una` and this is in the scoreboard.
    pub nxt: Seq,
    /// Highest ever sent: `nxt`, or one byte of a window probe beyond it. What acknowledgements are
    /// checked against.
    pub max: Seq,
    /// No acknowledgement below this can be honest: the ISS at first, then what lies a window before
    /// `una` (RFC 5961 section 5).
    ack_floor: Seq,
    /// The peer's window in bytes, scaled.
    pub wnd: u32,
    /// The largest window the peer ever offered (RFC 5961, and SWS avoidance).
    pub wnd_max: u32,
    /// SEG.SEQ and SEG.ACK of the last window update.
    wl1: Seq,
    wl2: Seq,
    /// End of the last segment shorter than the MSS: Nagle waits only for that one.
    small_end: Seq,
    /// Bytes from `una` on that are not acknowledged or not sent.
    queue: SendQueue,
    /// Effective send MSS: payload bytes of a full segment, timestamps deducted.
    pub mss: u16,
    /// The peer's window scale.
    shift: u8,
    /// Consecutive retransmissions or unanswered probes.
    pub retries: u8,
    /// When the peer last acknowledged something new or answered a probe, or what is unacknowledged
    /// began to be: what the user timeout counts from.
    progress_at: Tick,
    /// The SYN is not acknowledged: it takes the number `una`.
    syn: bool,
    fin: Fin,
    /// What is in flight.
    pub board: Scoreboard,
    /// Duplicate ACKs since `una` moved, on a connection without SACK.
    dup_acks: u16,
    /// What the retransmission timer is set for.
    alarm: Alarm,
    /// A tail loss probe is due.
    probe_tail: bool,
    /// The episode of the last tail loss probe.
    tail_probe: Option<TailProbe>,
    /// The oldest segment goes again whatever the congestion window says: a timeout has shown that
    /// the network is empty of it.
    at_once: bool,
    /// Send a window probe.
    probe: bool,
    /// The application wants to know when there is room.
    blocked: bool,
}

impl Send {
    /// SND.UNA has moved: the floor of honest acknowledgements follows at the distance of the largest
    /// window, and never falls back.
    fn raise_ack_floor(&mut self) {
        if self.una - self.ack_floor > self.wnd_max {
            self.ack_floor = self.una - self.wnd_max;
        }
    }
}

/// Our FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    /// The application has not closed.
    None,
    /// It follows the queue: its number is the one behind the last byte.
    Queued,
    /// It is acknowledged, and `una` lies behind it.
    Acked,
}

/// The receive half.
#[derive(Debug)]
pub struct Receive {
    /// Next expected.
    pub nxt: Seq,
    /// Right edge of the window that the peer was told; never moves left (RFC 9293 SHLD-14).
    edge: Seq,
    /// Bytes in order that the application has not read.
    queue: Queue,
    reassembly: Reassembly,
    /// Start of the newest segment that came out of order: its run is reported first (RFC 2018).
    recent: Seq,
    /// What arrived twice, for the next ACK to tell (RFC 2883).
    dsack: Option<(Seq, Seq)>,
    /// Where the peer's FIN is, once a segment in the window carried it.
    fin: Option<Seq>,
    /// Our window scale.
    shift: u8,
    /// Data segments received since the last ACK went out.
    unacked: u8,
    /// Segments still to be acknowledged at once.
    quick: u8,
    /// An ACK must go out now.
    ack: bool,
}

/// Timestamps of RFC 7323, when both sides agreed on them.
#[derive(Debug)]
struct Stamps {
    on: bool,
    /// TS.Recent.
    recent: u32,
    /// Last.ACK.sent.
    last_ack: Seq,
    /// What is added to the millisecond clock, so that uptime does not show.
    offset: u32,
}

impl Stamps {
    /// TSval at `now`.
    fn value(&self, now: &Moment) -> u32 {
        now.ms.wrapping_add(self.offset)
    }
}

/// What a connection is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Our initial sequence number.
    pub iss: Seq,
    /// Offset of our timestamp clock.
    pub timestamp_offset: u32,
}

/// Explicit congestion notification (RFC 3168).
#[derive(Clone, Copy, Debug, Default)]
struct Notification {
    /// Both sides agreed on it.
    on: bool,
    /// Every ACK carries ECE: a marked segment arrived, and the peer's CWR has not.
    echo: bool,
    /// The window was reduced: the next new segment carries CWR.
    reduced: bool,
}

/// One connection (the RFC's TCB).
#[derive(Debug)]
pub struct Connection {
    state: State,
    /// The handshake was begun by a peer.
    passive: bool,
    /// The application closed both directions and takes no more data.
    detached: bool,
    /// A RST must go out.
    reset: bool,
    /// Both sides permit SACK.
    sack: bool,
    syn_retransmitted: bool,
    end: Option<End>,
    events: Events,
    path: PathMtu,
    /// Keepalive probes that got no answer.
    keepalive_probes: u8,
    /// Retransmissions have reached R1: whoever knows the way should ask for it again.
    doubts_path: bool,
    /// The send half.
    pub snd: Send,
    /// The receive half.
    pub rcv: Receive,
    /// Round-trip time.
    pub rtt: Rtt,
    /// Congestion control.
    pub congestion: Congestion,
    /// Loss detection by time.
    pub rack: Rack,
    ecn: Notification,
    urgent: Urgent,
    /// Deadlines.
    pub timers: Timers,
    stamps: Stamps,
    /// When the last challenge ACK went out (RFC 5961 section 5.3).
    challenged_at: Tick,
    /// When anything was last sent or received, for keepalive and the restart after idle.
    active_at: Tick,
}

impl Connection {
    fn new(config: &TcpConfig, now: Tick, opening: Opening, state: State) -> Self {
        let iss = opening.iss;
        let offers_scale = config.window_scale;
        Connection {
            state,
            passive: state == State::SynReceived,
            detached: false,
            reset: false,
            sack: false,
            syn_retransmitted: false,
            end: None,
            events: Events::default(),
            path: PathMtu::default(),
            keepalive_probes: 0,
            doubts_path: false,
            snd: Send {
                una: iss,
                nxt: iss,
                max: iss,
                ack_floor: iss,
                wnd: 0,
                wnd_max: 0,
                wl1: Seq(0),
                wl2: iss,
                small_end: iss,
                queue: SendQueue::new(),
                mss: MSS_DEFAULT,
                shift: 0,
                retries: 0,
                progress_at: now,
                syn: true,
                fin: Fin::None,
                board: Scoreboard::default(),
                dup_acks: 0,
                alarm: Alarm::default(),
                probe_tail: false,
                tail_probe: None,
                at_once: false,
                probe: false,
                blocked: false,
            },
            rcv: Receive {
                nxt: Seq(0),
                edge: Seq(0),
                queue: Queue::new(),
                reassembly: Reassembly::new(),
                recent: Seq(0),
                dsack: None,
                fin: None,
                shift: if offers_scale { config.window_shift() } else { 0 },
                unacked: 0,
                quick: QUICK_ACKS,
                ack: false,
            },
            rtt: Rtt::default(),
            congestion: Congestion::new(iss),
            rack: Rack::new(iss),
            ecn: Notification::default(),
            urgent: Urgent::default(),
            timers: Timers::default(),
            stamps: Stamps {
                on: false,
                recent: 0,
                last_ack: Seq(0),
                offset: opening.timestamp_offset,
            },
            challenged_at: Tick::NEVER,
            active_at: now,
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// How it ended, once it has.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// True when a segment is owed that does not depend on windows: the record must stay.
    pub fn owes_reset(&self) -> bool {
        self.reset
    }

    /// Both sides use timestamps.
    pub fn has_timestamps(&self) -> bool {
        self.stamps.on
    }

    /// Both sides permit SACK.
    pub fn has_sack(&self) -> bool {
        self.sack
    }

    /// Both sides use explicit congestion notification.
    pub fn has_ecn(&self) -> bool {
        self.ecn.on
    }

    /// A window of either side is scaled.
    pub fn has_window_scale(&self) -> bool {
        self.rcv.shift > 0 || self.snd.shift > 0
    }

    /// When anything was last sent or received.
    pub fn active_at(&self) -> Tick {
        self.active_at
    }

    /// The connection was opened by a peer.
    pub fn is_passive(&self) -> bool {
        self.passive
    }

    /// The receive window that the peer was told, in bytes.
    #[inline]
    pub fn rcv_wnd(&self) -> u32 {
        if self.rcv.edge.gt(self.rcv.nxt) { self.rcv.edge - self.rcv.nxt } else { 0 }
    }

    /// Bytes received and not read, and bytes queued and not acknowledged.
    pub fn buffered(&self) -> (u32, u32) {
        (self.rcv.queue.len(), self.snd.queue.len())
    }

    /// What happened since the last call. The end is told only when everything received in order
    /// has been read, or nobody reads any more.
    #[inline]
    pub fn poll_event(&mut self) -> Events {
        let mut events = self.events;
        if self.end == Some(End::Closed) && !self.rcv.queue.is_empty() && !self.detached {
            events.remove(Events::ENDED);
        }
        self.events.0 &= !events.0;
        events
    }

    /// There is something for [`Connection::poll_event`] to tell.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Negative advice about the next hop, once when R1 retransmissions were in vain (RFC 9293 section
    /// 3.8.3).
    pub fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubts_path)
    }

    /// A number for which every cache line of the connection is read that its next segment will need.
    pub fn spread(&self) -> u32 {
        let Connection { snd, rcv, rtt, congestion, rack, timers, .. } = self;
        let lines = [
            u32::from(self.passive),
            snd.una.0,
            snd.board.lost_bytes(),
            rcv.nxt.0,
            rcv.queue.len(),
            rtt.srtt_us,
            congestion.cwnd,
            congestion.recover().0,
            rack.min_rtt_us(),
            timers.ack.value(),
            self.stamps.recent,
        ];
        lines.into_iter().fold(0, |sum, line| sum ^ line)
    }

    /// The earliest deadline.
    #[inline]
    pub fn poll_timeout(&self) -> Tick {
        self.timers.next()
    }

    /// Gives all buffers and records back. The connection must not be used for data after this.
    pub fn release(&mut self, pool: &mut Pool, segments: &mut Segments) {
        self.snd.board.clear(segments);
        self.snd.queue.clear(pool);
        self.rcv.queue.clear(pool);
        self.rcv.reassembly.clear(pool);
    }

    /// The connection is over, in this way: counts it once, disarms it and tells the application.
    fn finish(&mut self, cx: &mut Context<'_>, end: End) {
        if self.end.is_some() {
            return;
        }
        if self.state == State::SynReceived {
            cx.stats.dec(Counter::ConnsHalfOpen);
        }
        self.end = Some(end);
        self.events.insert(Events::ENDED);
        self.snd.board.clear(cx.segments);
        self.snd.queue.clear(cx.pool);
        self.rcv.reassembly.clear(cx.pool);
        if end != End::Closed {
            self.rcv.queue.clear(cx.pool);
        }
        self.timers.clear();
        self.state = State::Closed;
        cx.stats.dec(Counter::ConnsOpen);
        cx.stats.inc(match end {
            End::Closed => Counter::ConnsClosed,
            End::Refused => Counter::ConnsRefused,
            End::Unreachable | End::NoNeighbor => Counter::ConnsUnreachable,
            End::Reset => Counter::ConnsReset,
            End::TimedOut => Counter::ConnsTimedOut,
            End::Aborted => Counter::ConnsAborted,
        });
    }

    /// Both FINs are acknowledged and ours was first: the connection has ended for the application
    /// and for the sums, and its four-tuple rests for 2 MSL (RFC 9293 MUST-13).
    fn enter_time_wait(&mut self, cx: &mut Context<'_>) {
        self.finish(cx, End::Closed);
        self.state = State::TimeWait;
        self.timers.life = cx.now.after(cx.config.time_wait);
        cx.stats.inc(Counter::ConnsTimeWait);
    }

    /// TIME-WAIT is over: the four-tuple is free.
    pub fn end_time_wait(&mut self, cx: &mut Context<'_>) {
        if self.state == State::TimeWait {
            self.state = State::Closed;
            self.timers.clear();
            cx.stats.dec(Counter::ConnsTimeWait);
        }
    }

    /// The four-tuple has a new life already, in which an ACK of this one would be a stranger's.
    pub fn forget_ack(&mut self) {
        self.rcv.ack = false;
    }

    /// The number of the first byte of the send queue.
    fn data_start(&self) -> Seq {
        self.snd.una + u32::from(self.snd.syn)
    }

    /// The number behind the last byte of the send queue: that of the FIN, if one follows.
    fn data_end(&self) -> Seq {
        self.data_start() + self.snd.queue.len()
    }

    /// Sequence numbers sent and not acknowledged.
    fn in_flight(&self) -> u32 {
        self.snd.nxt - self.snd.una
    }

    /// The right edge of the window that the buffers allow now. It moves in steps worth telling:
    /// a full segment or half of the window (receiver SWS avoidance, RFC 9293 section 3.8.6.2.2).
    #[inline]
    fn window_edge(&self, cx: &Context<'_>) -> Seq {
        let room = cx.config.window_bytes_max.saturating_sub(self.rcv.queue.len());
        // What the scale cannot express is not offered.
        let room = room.min(0xffff << self.rcv.shift);
        let edge = self.rcv.nxt + room;
        let step = u32::from(cx.config.mss).min(cx.config.window_bytes_max / 2);
        let gain = if edge.gt(self.rcv.edge) { edge - self.rcv.edge } else { 0 };
        if gain >= step { edge } else { self.rcv.edge }
    }

    /// Owes the peer an ACK in answer to a suspicious segment, at most one per 500 ms and
    /// connection (RFC 5961 section 5.3): a limit shared by connections would be a side channel.
    fn challenge(&mut self, cx: &mut Context<'_>) {
        const INTERVAL_MS: i32 = 500;
        let now = cx.now.tick;
        if self.challenged_at.is_armed() && now.until(self.challenged_at) < INTERVAL_MS {
            cx.stats.inc(Counter::TcpChallengeLimited);
            return;
        }
        self.challenged_at = now;
        self.rcv.ack = true;
        cx.stats.inc(Counter::TcpChallengeAcks);
    }
}
