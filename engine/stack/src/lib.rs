//! A TCP/IP stack for one worker, sans I/O: deterministic, without clock, thread, lock, system call,
//! random source or unsafe code. Frames, the time and the calls of applications come in as
//! arguments; frames, events and deadlines are taken out. The same code runs in the engine's
//! workers, in tests that play the peer, and wherever else two stacks are joined by a wire.
//!
//! How a segment travels: [`Stack::on_frame`](stack::Stack::on_frame) parses it ([`wire`]), finds
//! its connection by the keyed table ([`flow`]) and hands header and payload to
//! [`Connection::on_segment`](tcp::Connection::on_segment), which follows RFC 9293 section 3.10.7
//! step by step. What that leads to is noted in the connection: bytes for the application come out
//! of [`Stack::poll_event`](stack::Stack::poll_event), segments owed to the peer out of
//! [`Stack::poll_transmit`](stack::Stack::poll_transmit), deadlines out of a timing wheel.
//!
//! - [`time`]: points and spans of time
//! - [`stats`]: the list of all counters and drop reasons
//! - [`wire`]: bytes to values and back
//! - [`tcp`]: one connection
//! - [`flow`]: which connection a segment is for
//! - [`stack`]: all of it together
//! - [`device`]: the seam to whatever moves frames, and the in-process wire
//! - [`script`]: readable scripts of a peer, for the tests of several crates
//! - [`dice`], [`impair`]: seeded draws, and the faults of a path made of them

#![forbid(unsafe_code)]

pub mod device;
pub mod dice;
pub mod flow;
pub mod impair;
pub mod script;
pub mod sim;
pub mod stack;
pub mod stats;
pub mod tcp;
pub mod time;
pub mod wire;
