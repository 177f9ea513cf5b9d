//! What applications do with a connection, as drawn from the seed: how much each end sends in which
//! portions, how it reads, and how it ends the connection.

use super::draw::{between, chance, pick, scaled, span};
use crate::dice::Dice;
use crate::time::Duration;

/// One flow of the plan: who opens it, when, how often, and what both ends do.
#[derive(Clone, Debug)]
pub struct FlowPlan {
    /// Host that opens.
    pub client: usize,
    /// Its worker that opens.
    pub worker: usize,
    /// Host that is opened to.
    pub server: usize,
    /// Ports of both.
    pub ports: (u16, u16),
    /// When, from the begin of the run.
    pub open_at: Duration,
    /// How often the same four-tuple is opened, each time when the last life is over.
    pub lives: u32,
    /// Both open, and so much later the server does; its port has no listener.
    pub simultaneous: Option<Duration>,
    /// What the client and the server do.
    pub scripts: [Script; 2],
}

/// What one end does.
#[derive(Clone, Debug)]
pub struct Script {
    /// Bytes to send; an echo sends what it gets instead.
    pub bytes: u64,
    /// Bytes of one write.
    pub chunk: usize,
    /// Time between writes.
    pub write_pause: Duration,
    /// Every fourth write is urgent.
    pub urgent: bool,
    /// Writes before the handshake is complete.
    pub eager: bool,
    /// Sends back what it gets.
    pub echo: bool,
    /// Does not read until so long after the handshake.
    pub read_after: Duration,
    /// Bytes of one read.
    pub read_chunk: usize,
    /// Time between reads.
    pub read_pause: Duration,
    /// How it reads.
    pub verb: ReadVerb,
    /// How it ends.
    pub finish: Finish,
}

/// The ways to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadVerb {
    /// Copy out.
    Recv,
    /// Look at the bytes where they are, then pass over them.
    Peek,
    /// Copy without taking, then pass over them.
    PeekInto,
}

/// The ways to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Closes its direction after the last byte, and reads on.
    Shutdown,
    /// Closes its direction when the peer has closed its own.
    AfterPeer,
    /// Closes both after the last byte was sent and the peer's end was read.
    Close,
    /// Closes both after the last byte was sent, whatever the peer has to say.
    CloseEarly,
    /// Resets the connection so long after the handshake.
    Abort(Duration),
    /// Stays silent until all is quiet, then closes its direction.
    Linger,
}

impl Finish {
    /// It lets the peer finish.
    pub fn is_graceful(self) -> bool {
        !matches!(self, Finish::CloseEarly | Finish::Abort(_))
    }
}

impl Script {
    /// Draws the script of one end, which sends at most `bytes_max`.
    pub(super) fn draw(dice: &mut Dice, bytes_max: u64, life: Duration) -> Script {
        let bytes = if chance(dice, 15) { 0 } else { scaled(dice, 1, bytes_max) };
        // Many small writes are wanted, but not a run of nothing else.
        let chunk_min = (bytes / 200).max(1);
        let chunk = scaled(dice, chunk_min, bytes.max(chunk_min)) as usize;
        let pause = |dice: &mut Dice, percent| {
            let steps = (bytes / chunk as u64).max(1);
            let max = Duration::from_nanos(life.as_nanos() / steps).max(Duration::from_micros(2));
            if chance(dice, percent) {
                span(dice, Duration::from_micros(1), max)
            } else {
                Duration::ZERO
            }
        };
        Script {
            bytes,
            chunk,
            write_pause: pause(dice, 30),
            urgent: chance(dice, 10),
            eager: chance(dice, 20),
            echo: false,
            read_after: if chance(dice, 15) {
                span(dice, Duration::from_millis(1), life)
            } else {
                Duration::ZERO
            },
            read_chunk: if chance(dice, 30) { scaled(dice, 64, 65_536) as usize } else { 65_536 },
            read_pause: pause(dice, 15),
            verb: pick(dice, &[ReadVerb::Recv, ReadVerb::Peek, ReadVerb::PeekInto]),
            finish: Finish::draw(dice, life),
        }
    }

    /// Nothing in it keeps both ends from getting all that the other sends.
    pub(super) fn is_graceful(&self) -> bool {
        self.finish.is_graceful()
    }
}

impl Finish {
    fn draw(dice: &mut Dice, life: Duration) -> Finish {
        match between(dice, 0, 99) {
            0..40 => Finish::Shutdown,
            40..60 => Finish::AfterPeer,
            60..80 => Finish::Close,
            80..86 => Finish::CloseEarly,
            86..92 => Finish::Abort(span(dice, Duration::from_micros(1), life)),
            _ => Finish::Linger,
        }
    }
}
