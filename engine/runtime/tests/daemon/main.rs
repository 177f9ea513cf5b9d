//! `barewired` as a process, between the kernel and its clients: how it starts and refuses to, how it
//! is controlled, and how it serves, loads and leaves a veth pair whose other end is the kernel's.
//! Needs root, and fails without it.

#[path = "../netns/mod.rs"]
mod netns;

mod control;
mod embed;
mod impair;
mod lab;
mod start;
mod veth;
