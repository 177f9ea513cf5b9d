//! The stack seen from outside: one module for each behaviour, all in virtual time. `peer` plays the
//! other end by hand.

mod close;
mod cookies;
mod crowd;
mod giving_up;
mod handshake;
mod inject;
mod lone;
mod pair;
mod peer;
mod pmtu;
mod ports;
mod receive;
mod recovery;
mod send;
mod short_way;
mod silent_hop;
mod sleep;
mod urgent;
mod wire;
