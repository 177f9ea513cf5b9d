//! The MAC addresses of the next hops to a crowd's destinations, asked for by ARP (RFC 826). There are
//! no more of them than destinations, and only answers to questions are believed. What waits for an
//! answer waits elsewhere.

use crate::time::{Duration, Instant};
use crate::wire::ethernet::Mac;
use std::net::Ipv4Addr;

/// Time between requests for one next hop.
const RETRY: Duration = Duration::from_secs(1);

/// Requests before a next hop counts as unreachable.
const TRIES_MAX: u8 = 3;

/// How long an unreachable next hop fails at once, before it is asked for again.
const NEGATIVE: Duration = Duration::from_secs(3);

/// How long an answer is used before it is asked for again.
const LIFETIME: Duration = Duration::from_secs(60);

/// What to do with a frame for a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// Send it there.
    Mac(Mac),
    /// Send a request for this address first.
    Ask(Ipv4Addr),
    /// A request has been sent: wait.
    Wait,
    /// It does not answer.
    Unreachable,
}

#[derive(Clone, Copy, Debug)]
struct NextHop {
    addr: Ipv4Addr,
    mac: Option<Mac>,
    /// When the answer is old, or the next request is due.
    deadline: Instant,
    /// Requests since the last answer; more than [`TRIES_MAX`] while it counts as unreachable.
    tries: u8,
}

/// All next hops of a crowd.
#[derive(Debug)]
pub(super) struct Hops {
    hops: Vec<NextHop>,
}

impl Hops {
    /// The next hops at `addrs`, of which nothing is known.
    pub(super) fn new(mut addrs: Vec<Ipv4Addr>) -> Self {
        addrs.sort_unstable();
        addrs.dedup();
        let unknown = |addr| NextHop { addr, mac: None, deadline: Instant::ZERO, tries: 0 };
        Hops { hops: addrs.into_iter().map(unknown).collect() }
    }

    /// How to send to `addr`. [`Hop::Ask`] is said once for each request that is due.
    pub(super) fn lookup(&mut self, now: Instant, addr: Ipv4Addr) -> Hop {
        let Some(hop) = self.find(addr) else { return Hop::Unreachable };
        let given_up = hop.tries > TRIES_MAX;
        if hop.deadline <= now {
            hop.tries = if given_up { 1 } else { hop.tries + 1 };
            if hop.tries > TRIES_MAX {
                (hop.mac, hop.deadline) = (None, now + NEGATIVE);
                return Hop::Unreachable;
            }
            hop.deadline = now + RETRY;
            return Hop::Ask(addr);
        }
        if given_up { Hop::Unreachable } else { hop.mac.map_or(Hop::Wait, Hop::Mac) }
    }

    /// An answer. False when `addr` is none of the next hops, or was not asked for.
    pub(super) fn learn(&mut self, now: Instant, addr: Ipv4Addr, mac: Mac) -> bool {
        match self.find(addr) {
            Some(hop) if hop.tries > 0 => {
                *hop = NextHop { addr, mac: Some(mac), deadline: now + LIFETIME, tries: 0 };
                true
            }
            _ => false,
        }
    }

    /// When a request is due, or a failure forgotten, for one that does not answer.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.hops.iter().filter(|hop| hop.tries > 0).map(|hop| hop.deadline).min()
    }

    fn find(&mut self, addr: Ipv4Addr) -> Option<&mut NextHop> {
        let at = self.hops.binary_search_by_key(&addr, |hop| hop.addr).ok()?;
        Some(&mut self.hops[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_hop_is_asked_for_known_and_asked_for_again() {
        let mut hops = Hops::new(vec![HOP, HOP]);
        assert!(!hops.learn(at(0), HOP, MAC), "nobody asked");
        assert_eq!(hops.lookup(at(0), HOP), Hop::Ask(HOP));
        assert_eq!(hops.lookup(at(999), HOP), Hop::Wait);
        assert_eq!(hops.lookup(at(1_000), HOP), Hop::Ask(HOP));
        assert!(hops.learn(at(1_100), HOP, MAC));
        assert_eq!(hops.lookup(at(61_000), HOP), Hop::Mac(MAC));
        assert_eq!(hops.lookup(at(61_100), HOP), Hop::Ask(HOP));
        assert_eq!(hops.lookup(at(61_101), HOP), Hop::Mac(MAC), "in use until it is answered");
    }

    #[test]
    fn a_silent_hop_is_given_up_and_others_do_not_exist() {
        let mut hops = Hops::new(vec![HOP]);
        for second in 0..3 {
            assert_eq!(hops.lookup(at(second * 1_000), HOP), Hop::Ask(HOP));
        }
        assert_eq!(hops.lookup(at(3_000), HOP), Hop::Unreachable);
        assert_eq!(hops.lookup(at(5_999), HOP), Hop::Unreachable);
        assert_eq!(hops.lookup(at(6_000), HOP), Hop::Ask(HOP));
        let other = Ipv4Addr::new(10, 0, 0, 9);
        assert_eq!(hops.lookup(at(0), other), Hop::Unreachable);
        assert!(!hops.learn(at(6_002), other, MAC));
    }
}
