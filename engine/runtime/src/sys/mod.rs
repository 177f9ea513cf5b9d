//! What the engine asks of Linux apart from AF_XDP: the clock, interfaces, addresses, neighbours and
//! routes of the kernel, CPU affinity, shared memory, limits. One file per noun; each is a small safe
//! surface over one system call or one netlink request. Nothing in here keeps state or decides
//! policy, and apart from [`clock`] and [`eventfd`] nothing is meant for the data path.

pub mod affinity;
pub mod clock;
mod ethtool;
pub mod eventfd;
pub mod interface;
pub mod memfd;
pub mod memory;
pub mod neighbour;
mod netlink;
pub mod peer;
pub mod poll;
pub mod rlimit;
pub mod route;
pub mod rss;
pub(crate) mod sockopt;
