//! The built command, run to its end against the other side that `fake` plays.

#![expect(unreachable_pub, reason = "the modules of a test have no crate to be public in")]

mod control;
mod daemon;
mod fake;
mod impair;
mod load;
