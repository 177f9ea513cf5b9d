//! Applications, the hand and the load generator over two workers that are joined by the in-process
//! wire and turned in virtual time: everything is the engine's own code but the NIC and the clock,
//! and every run is the same.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without ends it")]

mod apps;
mod hand;
mod http;
mod impair;
mod load;
mod pair;
mod peer;
