//! A TCP/IP stack for one worker, sans I/O: deterministic, without clock, thread, lock, system call,
//! random source or unsafe code. Frames, the time and the calls of applications come in as
//! arguments; frames, events and deadlines are taken out. The same code runs in the engine's
//! workers, in the simulator, and in tests that play the peer. `COMPLIANCE.md` beside this crate
//! holds it against the RFCs, requirement by requirement.
//!
//! # How a segment travels
//!
//! **In.** [`Stack::on_frame`](stack::Stack::on_frame) is given the bytes of a frame. `demux` takes it
//! apart with the checked views of [`wire`]: Ethernet, IPv4, TCP with its checksum and options; what
//! is not for us or not sound ends here under a counter of its own ([`stats`]). The four-tuple leads
//! through the keyed table of [`flow`] to a record; a connection that sleeps in it wakes, one that rests
//! in TIME-WAIT answers in the frame. Without a record the segment is a listener's (a SYN opens one, or
//! beyond the backlog gets a SYN cookie and no record), another worker's, or is answered with RST in the
//! very frame it came in.
//!
//! **Through.** [`Connection::on_segment`](tcp::Connection::on_segment) follows RFC 9293 section
//! 3.10.7.4 in its order, one function a step: timestamp (PAWS), sequence number, RST, SYN,
//! acknowledgement, URG, text, FIN. Each step ends the matter with a verdict or lets the next go on.
//! Its acknowledgement goes through `recovery`: bytes leave the send queue and segments the
//! [`scoreboard`](tcp::scoreboard); SACK blocks mark what has arrived; [`rack`](tcp::rack) tells by
//! the time of sending what is lost; [`congestion`](tcp::congestion) grows or reduces the window; the
//! timer is set to what must happen next: a tail loss probe, the end of a reordering window, or a
//! timeout. Its text goes to the receive queue, or waits in reassembly for what is missing. Nothing is
//! sent on the way: what the peer is owed is noted in the connection.
//!
//! **Up.** What the application should know waits in a queue of events
//! ([`Stack::poll_event`](stack::Stack::poll_event)): opened, readable, writable, urgent, finished,
//! ended. It answers with calls: send, receive, shut down, close, abort.
//!
//! **Out.** [`Stack::poll_transmit`](stack::Stack::poll_transmit) asks the connections that may owe
//! something, in turns. Each is asked in one order: a reset, the handshake, an ACK that tells of
//! holes, what was lost, a probe for the tail, new data as far as both windows, Nagle and SWS
//! avoidance allow, a FIN, a window or keepalive probe, a bare ACK. The header becomes bytes in the
//! frame, the payload is copied from the send queue behind it, and the neighbour table says to which
//! MAC address it goes.
//!
//! **Later.** Every deadline lies in one timing wheel ([`Stack::on_timeout`](stack::Stack::on_timeout)),
//! one entry for each connection; a bounded number comes up in a turn. Who is found quiet then falls
//! asleep ([`tcp::dormant`]): all that is left is a record of one cache line. What rests in TIME-WAIT
//! ([`tcp::resting`]) lies in the order in which it ends, and needs no entry.
//!
//! # Modules
//!
//! - [`time`]: points and spans of time; [`stats`]: the list of all counters and drop reasons
//! - [`wire`]: bytes to values and back
//! - [`tcp`]: one connection
//! - [`flow`]: which connection a segment is for, and which worker the NIC gives it to
//! - [`stack`]: all of it together
//! - [`crowd`]: a peer that keeps two bits per connection, to play any number of clients
//! - [`device`]: the seam to whatever moves frames, and the in-process wire
//! - [`dice`], [`impair`]: the faults of a path, drawn from a seed
//! - [`sim`]: hosts, links and faults on a virtual clock, and an oracle that watches
//! - [`script`]: readable conformance scripts and how they are played

#![forbid(unsafe_code)]

pub mod crowd;
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
