//! Target `segments`: a whole stack under a program of segments, application calls and time. The
//! first bytes of the input draw the configuration, the rest are the operations; after each one
//! everything is checked that must always hold (`host`). In `solo` the fuzzer is the peer and
//! sends whatever it likes; in `pair` two stacks talk and the fuzzer is the network between them.

mod craft;
mod host;
mod knobs;
mod pair;
mod solo;
mod talk;

use crate::tape::Tape;

/// Plays one program.
pub fn run(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    match tape.u8() & 1 {
        0 => solo::play(tape),
        _ => pair::play(tape),
    }
}
