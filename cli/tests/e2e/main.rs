//! The daemon and the command as they are installed, over a veth pair against the kernel's own TCP,
//! curl, nginx, wrk, nmap, conntrack and tshark, and against each other. Needs root, and fails without it: what was
//! not tried has not passed. Everything a test makes goes away with it, also when it fails.
//!
//! - [`lab`]: the namespaces, and what runs in them
//! - [`engine`]: a daemon under test, and the command that talks to it
//! - [`kernel`]: what plays the other side
//! - [`conformance`]: the stack's readable scripts, over this pair

#![expect(unreachable_pub, reason = "the modules of a test have no crate to be public in")]

mod bad_input;
mod client_role;
mod coexistence;
mod conformance;
mod conntrack;
mod control_socket;
mod engine;
mod fingerprint;
mod give_back;
mod judge;
mod kernel;
mod lab;
mod loss;
mod server_role;
mod two_engines;
