//! What is kept of a connection that sleeps: established, with nothing in flight, nothing buffered
//! and nothing owed. 27 bytes stand for all that the protocol needs to go on, exactly; what a sender
//! learned of the path is rounded: the windows of congestion control to a sixteenth, down, the
//! variation of the round trip to an eighth, up. Forgotten is what RFCs let expire when nothing is
//! sent for longer than a round trip: the epoch of CUBIC, the rounds of HyStart++, RACK's smallest
//! round trip and reordering window. The floor of honest acknowledgements rises, to SND.UNA at most:
//! what was on its way for so long is no honest one.

use super::pmtu::PathMtu;
use super::{
    Connection, Context, Events, Fin, Notification, Opening, Receive, Send, Seq, State, TcpConfig,
    Tick, rounded,
};
use crate::time::Duration;

/// Binary digits kept of each number.
const RTT_DIGITS: u32 = 11;
const VARIATION_DIGITS: u32 = 3;
const WINDOW_DIGITS: u32 = 4;

/// Without a threshold, as before the first loss.
const NO_THRESHOLD: u8 = u8::MAX;

/// The steps in which it is remembered for how long the congestion window was not used: quarters of
/// the five minutes after which it is halved (RFC 7661).
const AGE_MS: i32 = 75_000;

/// The smallest distance between challenge ACKs (RFC 5961): who slept has had none for so long.
const CHALLENGE_MS: i32 = 500;

/// A connection that sleeps. The fields lie without gaps; each is copied out before it is used.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed)]
pub struct Dormant {
    /// SND.UNA, which is SND.NXT.
    snd_nxt: u32,
    rcv_nxt: u32,
    /// TS.Recent.
    ts_recent: u32,
    /// The peer's window, scaled unless `Traits::PLAIN_WINDOW`.
    snd_wnd: u16,
    /// Ours, as told, scaled.
    rcv_wnd: u16,
    /// Send MSS.
    mss: u16,
    /// Smoothed round trip in microseconds.
    srtt: u16,
    /// Its variation; beside an `srtt` of 0 anything but 0 means that a SYN was lost.
    rttvar: u8,
    /// The peer's largest window, scaled like `snd_wnd`; 0 when that is it.
    snd_wnd_max: u8,
    /// In segments.
    cwnd: u8,
    ssthresh: u8,
    traits: Traits,
}

/// The small ones, in 22 bits of three bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Traits([u8; 3]);

impl Traits {
    const SACK: u32 = 1 << 0;
    const STAMPS: u32 = 1 << 1;
    const PASSIVE: u32 = 1 << 2;
    const ECN: u32 = 1 << 3;
    const ECN_ECHO: u32 = 1 << 4;
    const ECN_REDUCED: u32 = 1 << 5;
    /// The peer's window is that of its SYN, which is never scaled.
    const PLAIN_WINDOW: u32 = 1 << 6;
    /// Our windows are scaled.
    const RCV_SCALED: u32 = 1 << 7;
    /// Four bits: the peer's window scale.
    const SND_SHIFT: u32 = 8;
    /// Five bits: segments still to be acknowledged at once.
    const QUICK: u32 = 12;
    /// Three bits: the floor of honest acknowledgements lies the largest window below SND.UNA, halved
    /// so many times; 7 means at SND.UNA.
    const FLOOR: u32 = 17;
    /// Two bits: the age of the congestion window.
    const AGE: u32 = 20;

    fn bits(self) -> u32 {
        let [low, mid, high] = self.0.map(u32::from);
        high << 16 | mid << 8 | low
    }

    fn of(bits: u32) -> Self {
        debug_assert!(bits < 1 << 22);
        Traits([bits as u8, (bits >> 8) as u8, (bits >> 16) as u8])
    }

    fn has(self, bit: u32) -> bool {
        self.bits() & bit != 0
    }

    fn field(self, at: u32, len: u32) -> u32 {
        self.bits() >> at & ((1 << len) - 1)
    }
}

impl Dormant {
    /// A number in the place of a connection, for whoever keeps these and has to note another thing
    /// instead; [`Dormant::number`] gives it back.
    pub fn of_number(number: u32) -> Self {
        Dormant { snd_nxt: number, ..Dormant::default() }
    }

    /// The number that [`Dormant::of_number`] was given.
    pub fn number(self) -> u32 {
        self.snd_nxt
    }
}

impl Connection {
    /// The connection as it sleeps, if it can: nothing goes on, and nothing has gone on for
    /// `quiet_for`, at least the distance of two challenge ACKs. Also tells since when it is quiet.
    pub fn sleep(&mut self, cx: &Context<'_>, quiet_for: Duration) -> Option<(Dormant, Tick)> {
        let now = cx.now.tick;
        let quiet_ms = i64::from(now.until(self.active_at));
        let is_challenged = self.challenged_at.is_armed()
            && (0..CHALLENGE_MS).contains(&now.until(self.challenged_at));
        if quiet_ms < quiet_for.as_millis() as i64 || is_challenged || !self.is_at_rest() {
            return None;
        }
        self.raise_path_mtu(cx);
        if self.snd.mss != self.path.mss_agreed {
            return None;
        }
        let rcv_wnd = u16::try_from(self.rcv_wnd() >> self.rcv.shift).ok()?;
        if u32::from(rcv_wnd) << self.rcv.shift != self.rcv_wnd() {
            return None;
        }
        let (mss, segments) = (u32::from(self.snd.mss), cx.config.initial_window_segments);
        self.congestion.on_idle(now, mss, segments);
        let wnd_shift = self.window_shift()?;
        let threshold = match self.congestion.ssthresh {
            u32::MAX => NO_THRESHOLD,
            bytes => in_segments(bytes, mss),
        };
        let dormant = Dormant {
            snd_nxt: self.snd.nxt.0,
            rcv_nxt: self.rcv.nxt.0,
            ts_recent: self.stamps.recent,
            snd_wnd: (self.snd.wnd >> wnd_shift) as u16,
            rcv_wnd,
            mss: self.snd.mss,
            srtt: rounded::down(self.rtt.srtt_us, RTT_DIGITS) as u16,
            rttvar: match self.rtt.srtt_us {
                0 => u8::from(self.rtt.had_syn_loss()),
                _ => rounded::up(self.rtt.rttvar_us, VARIATION_DIGITS) as u8,
            },
            snd_wnd_max: self.window_max(wnd_shift),
            cwnd: in_segments(self.congestion.cwnd, mss),
            ssthresh: threshold,
            traits: self.traits(wnd_shift),
        };
        Some((dormant, self.active_at))
    }

    /// The connection as it was. `quiet_since` is when it was last active; its initial number is of no
    /// meaning any more.
    pub fn wake(
        config: &TcpConfig,
        dormant: Dormant,
        timestamp_offset: u32,
        quiet_since: Tick,
    ) -> Self {
        let una = Seq(dormant.snd_nxt);
        let traits = dormant.traits;
        let opening = Opening { iss: una, timestamp_offset };
        let mut conn = Connection::new(config, Tick::NEVER, opening, State::Established);
        conn.passive = traits.has(Traits::PASSIVE);
        conn.sack = traits.has(Traits::SACK);
        conn.ecn = Notification {
            on: traits.has(Traits::ECN),
            echo: traits.has(Traits::ECN_ECHO),
            reduced: traits.has(Traits::ECN_REDUCED),
        };
        conn.stamps.on = traits.has(Traits::STAMPS);
        conn.stamps.recent = dormant.ts_recent;
        conn.stamps.last_ack = Seq(dormant.rcv_nxt);
        conn.active_at = quiet_since;
        if !config.keepalive.is_zero() {
            conn.timers.life = quiet_since.plus(config.keepalive);
        }
        conn.path = PathMtu::of(dormant.mss);
        conn.snd.wake(dormant, conn.path.mss_agreed);
        conn.rcv.wake(dormant);
        let mss = u32::from(conn.snd.mss);
        let variation = rounded::exact(u32::from(dormant.rttvar), VARIATION_DIGITS);
        let srtt = rounded::exact(u32::from(dormant.srtt), RTT_DIGITS);
        conn.rtt.restore(srtt, variation, config.rto_min);
        let age_ms = u64::from(traits.field(Traits::AGE, 2)) * AGE_MS as u64;
        let cwnd = in_bytes(dormant.cwnd, mss).max(mss);
        let ssthresh = match dormant.ssthresh {
            NO_THRESHOLD => u32::MAX,
            segments => in_bytes(segments, mss).max(2 * mss),
        };
        let validated_at = quiet_since.minus(Duration::from_millis(age_ms));
        conn.congestion.restore(cwnd, ssthresh, validated_at);
        conn
    }

    /// Established, nothing in flight, buffered, owed or to be told.
    fn is_at_rest(&self) -> bool {
        let Connection { snd, rcv, .. } = self;
        let is_sent = snd.una == snd.nxt && snd.max == snd.nxt && snd.queue.is_empty();
        let is_received = rcv.queue.is_empty() && rcv.reassembly.is_empty() && rcv.fin.is_none();
        let is_told = rcv.unacked == 0 && !rcv.ack && rcv.dsack.is_none();
        self.state == State::Established
            && self.end.is_none()
            && is_sent
            && is_received
            && is_told
            && self.events == Events::default()
            && !self.timers.retransmit.is_armed()
            && !self.timers.ack.is_armed()
            && self.keepalive_probes == 0
            && !self.doubts_path
            && !self.has_urgent()
            && (!self.stamps.on || self.stamps.last_ack == rcv.nxt)
            && snd.rests()
            && self.rtt.backoff == 0
            && self.congestion.phase() == super::congestion::Phase::Open
    }

    /// The shift with which 16 bits tell the peer's window, or `None` when they cannot.
    fn window_shift(&self) -> Option<u8> {
        let fits = |shift: u8| {
            let scaled = self.snd.wnd >> shift;
            scaled <= 0xffff && scaled << shift == self.snd.wnd
        };
        [self.snd.shift, 0].into_iter().find(|&shift| fits(shift))
    }

    /// The largest window that the peer ever offered, rounded up.
    fn window_max(&self, shift: u8) -> u8 {
        if self.snd.wnd_max == self.snd.wnd {
            return 0;
        }
        let scaled = self.snd.wnd_max.div_ceil(1 << shift);
        rounded::up(scaled, WINDOW_DIGITS).min(u32::from(u8::MAX)) as u8
    }

    fn traits(&self, wnd_shift: u8) -> Traits {
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        let distance = self.snd.una - self.snd.ack_floor;
        // The nearest floor that is not below the true one.
        let floor = (0..7).find(|&halvings| self.snd.wnd_max >> halvings <= distance).unwrap_or(7);
        let unused_ms = self.active_at.until(self.congestion.validated_at()).max(0);
        let age = ((unused_ms + AGE_MS - 1) / AGE_MS).min(3) as u32;
        Traits::of(
            bit(self.sack, Traits::SACK)
                | bit(self.stamps.on, Traits::STAMPS)
                | bit(self.passive, Traits::PASSIVE)
                | bit(self.ecn.on, Traits::ECN)
                | bit(self.ecn.echo, Traits::ECN_ECHO)
                | bit(self.ecn.reduced, Traits::ECN_REDUCED)
                | bit(wnd_shift != self.snd.shift, Traits::PLAIN_WINDOW)
                | bit(self.rcv.shift > 0, Traits::RCV_SCALED)
                | u32::from(self.snd.shift) << Traits::SND_SHIFT
                | u32::from(self.rcv.quick) << Traits::QUICK
                | floor << Traits::FLOOR
                | age << Traits::AGE,
        )
    }
}

impl Send {
    /// No probe, repetition or blocked application waits.
    fn rests(&self) -> bool {
        let waits = self.syn || self.probe || self.probe_tail || self.at_once || self.blocked;
        !waits && self.fin == Fin::None && self.retries == 0
    }

    fn wake(&mut self, dormant: Dormant, mss: u16) {
        let traits = dormant.traits;
        self.syn = false;
        self.mss = mss;
        self.shift = traits.field(Traits::SND_SHIFT, 4) as u8;
        let shift = if traits.has(Traits::PLAIN_WINDOW) { 0 } else { self.shift };
        self.wnd = u32::from(dormant.snd_wnd) << shift;
        let max = rounded::exact(u32::from(dormant.snd_wnd_max), WINDOW_DIGITS) << shift;
        self.wnd_max = self.wnd.max(max);
        // The segment that told the window is older than all that will come.
        self.wl1 = Seq(dormant.rcv_nxt);
        self.wl2 = self.una;
        self.ack_floor = match traits.field(Traits::FLOOR, 3) {
            7 => self.una,
            halvings => self.una - (self.wnd_max >> halvings),
        };
    }
}

impl Receive {
    fn wake(&mut self, dormant: Dormant) {
        let traits = dormant.traits;
        if !traits.has(Traits::RCV_SCALED) {
            self.shift = 0;
        }
        self.nxt = Seq(dormant.rcv_nxt);
        self.edge = self.nxt + (u32::from(dormant.rcv_wnd) << self.shift);
        self.quick = traits.field(Traits::QUICK, 5) as u8;
    }
}

/// Whole segments in `bytes`, rounded down.
fn in_segments(bytes: u32, mss: u32) -> u8 {
    let code = rounded::down(bytes / mss.max(1), WINDOW_DIGITS);
    code.min(u32::from(NO_THRESHOLD - 1)) as u8
}

fn in_bytes(segments: u8, mss: u32) -> u32 {
    rounded::exact(u32::from(segments), WINDOW_DIGITS).saturating_mul(mss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_27_bytes() {
        assert_eq!(size_of::<Dormant>(), 27);
    }
}
