//! The network between hosts: one link for each ordered pair, with the faults of
//! [`impair`](crate::impair) and with partitions. It says when and how a frame arrives and counts
//! what it does; the frames themselves wait in the agenda.

use crate::dice::Dice;
use crate::impair::{Departure, Fate, Impair, Impairment};
use crate::time::Instant;
use crate::wire::checksum::Sum;
use crate::wire::{ethernet, ipv4};

/// What happened to the frames of all links.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Frames that a host sent, or somebody on the way made.
    pub sent: u64,
    /// Copies made on the way.
    pub copies: u64,
    /// Frames that never arrived.
    pub lost: u64,
    /// Frames that arrived at a host.
    pub delivered: u64,
    /// Frames marked on the way as having met congestion.
    pub marked: u64,
}

/// All links.
#[derive(Debug)]
pub(super) struct Links {
    links: Vec<Link>,
    n_hosts: usize,
    /// ARP meets no faults: three lost questions would rightly fail an open.
    spares_arp: bool,
    pub(super) traffic: Traffic,
}

#[derive(Debug)]
struct Link {
    impair: Impair,
    cut_until: Instant,
}

impl Links {
    pub(super) fn new(n_hosts: usize, spares_arp: bool, now: Instant) -> Self {
        let link = |_| Link { impair: Impair::new(Impairment::default(), 0), cut_until: now };
        let links = (0..n_hosts * n_hosts).map(link).collect();
        Links { links, n_hosts, spares_arp, traffic: Traffic::default() }
    }

    /// From now on links behave like this: frames to hosts of a higher number as the first says,
    /// the others as the second.
    pub(super) fn set(&mut self, up: Impairment, down: Impairment, dice: &mut Dice) {
        for (idx, link) in self.links.iter_mut().enumerate() {
            let (from, to) = (idx / self.n_hosts, idx % self.n_hosts);
            link.impair = Impair::new(if from < to { up } else { down }, dice.draw());
        }
    }

    /// Nothing passes from one host to another until then.
    pub(super) fn cut(&mut self, from: usize, to: usize, until: Instant) {
        self.links[from * self.n_hosts + to].cut_until = until;
    }

    /// Ends all partitions.
    pub(super) fn mend(&mut self, now: Instant) {
        for link in &mut self.links {
            link.cut_until = now;
        }
    }

    /// The arrivals of one frame at host `to`: none, one or two.
    pub(super) fn pass(
        &mut self,
        now: Instant,
        from: usize,
        to: usize,
        frame: &[u8],
    ) -> [Option<Departure>; 2] {
        self.traffic.sent += 1;
        let link = &mut self.links[from * self.n_hosts + to];
        let arrivals = if self.spares_arp && is_arp(frame) {
            let at = now + link.impair.spec().delay;
            [Some(Departure { at, damage: None, reordered: false }), None]
        } else if now < link.cut_until {
            [None, None]
        } else {
            match link.impair.fate(now, frame.len()) {
                Fate::Lost | Fate::Overflow => [None, None],
                Fate::Leaves { first, copy } => [Some(first), copy],
            }
        };
        self.traffic.lost += u64::from(arrivals[0].is_none());
        self.traffic.copies += u64::from(arrivals[1].is_some());
        arrivals
    }
}

impl Traffic {
    /// Every frame arrived or was lost, once nothing is on the way.
    pub(super) fn audit(&self) -> Result<(), String> {
        if self.sent + self.copies == self.lost + self.delivered {
            return Ok(());
        }
        Err(format!("frames on the wire are not conserved: {self:?}"))
    }
}

/// Marks a packet as having met congestion, if its sender said that it may be (RFC 3168 section 5).
pub(super) fn mark(frame: &mut [u8]) -> bool {
    const TOS_AT: usize = ethernet::HEADER_BYTES + 1;
    const CHECKSUM_AT: usize = ethernet::HEADER_BYTES + 10;
    let header = ethernet::HEADER_BYTES..ethernet::HEADER_BYTES + ipv4::HEADER_BYTES;
    let is_ipv4 = frame.get(12..14) == Some(&ethernet::TYPE_IPV4.to_be_bytes());
    if !is_ipv4 || frame.len() < header.end || !matches!(frame[TOS_AT] & 3, 1 | 2) {
        return false;
    }
    frame[TOS_AT] |= 3;
    frame[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
    let checksum = Sum::new().add_bytes(&frame[header]).finish();
    frame[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
    true
}

fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&ethernet::TYPE_ARP.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Ratio;
    use crate::time::Duration;

    #[test]
    fn a_cut_link_passes_nothing_and_a_clean_one_everything() {
        let mut links = Links::new(2, true, Instant::ZERO);
        let later = Instant::ZERO + Duration::from_secs(1);
        links.cut(0, 1, later);
        assert!(links.pass(Instant::ZERO, 0, 1, &[0; 60])[0].is_none());
        assert!(links.pass(Instant::ZERO, 1, 0, &[0; 60])[0].is_some());
        assert!(links.pass(later, 0, 1, &[0; 60])[0].is_some());
        let doubled = Impairment { duplicate: Ratio::ALWAYS, ..Impairment::default() };
        links.set(doubled, Impairment::default(), &mut Dice::new(1));
        assert!(links.pass(later, 0, 1, &[0; 60])[1].is_some());
        assert!(links.traffic.audit().is_err(), "nothing was delivered yet");
        links.traffic.delivered += 4;
        links.traffic.audit().expect("one was lost, and one copied");
    }
}
