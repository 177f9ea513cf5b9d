//! The fault model of one direction of a path: which frames are lost, doubled, damaged or overtaken,
//! and when each leaves. The simulator's links and the engine's own impairment draw from it. The
//! time and the seed are arguments, so the same frames at the same times meet the same fate; frames
//! themselves are not held here: whoever asks keeps them until they leave.
//!
//! A frame passes the parts of the path in this order:
//!
//! ```text
//! loss -> duplication -> line (rate, backlog) -> damage -> delay (jitter, reordering)
//! ```
//!
//! Each copy of a doubled frame goes through the later parts by itself.

use crate::dice::{Dice, Ratio};
use crate::time::{Duration, Instant};
use crate::wire::ethernet;

/// How long a reordered frame is held back at most when the path has no delay that it could save.
const HOLD_MAX: Duration = Duration::from_millis(1);

/// What a path does to the frames of one direction. The default does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Impairment {
    /// Frames that vanish.
    pub loss: Ratio,
    /// Frames that arrive twice.
    pub duplicate: Ratio,
    /// Frames in which one bit is turned over.
    pub corrupt: Ratio,
    /// Frames that change places with others. With a delay they overtake, because they leave
    /// without it; without one they are held back by up to 1 ms, and later ones overtake them.
    pub reorder: Ratio,
    /// How late every other frame leaves.
    pub delay: Duration,
    /// By how much the delay of a frame differs from `delay` at most, either way. It reorders
    /// nothing: a frame that would leave before the one in front of it leaves with it.
    pub jitter: Duration,
    /// How many bytes the line takes in a second; 0 for one without limit.
    pub rate_bytes_per_second: u64,
    /// How long a frame waits for the line at most; one that would wait longer is dropped. Without
    /// a rate it means nothing.
    pub backlog_max: Duration,
}

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is lost.
    Lost,
    /// It is dropped, because the backlog of the line is full.
    Overflow,
    /// It leaves, and perhaps a copy of it does.
    Leaves {
        /// The frame.
        first: Departure,
        /// Its copy.
        copy: Option<Departure>,
    },
}

/// How one frame leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// When. Frames that leave at the same time leave in the order in which they came.
    pub at: Instant,
    /// With which damage.
    pub damage: Option<Damage>,
    /// It overtakes, or was held back to be overtaken.
    pub reordered: bool,
}

/// One bit that is turned over. An Internet checksum never misses a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which byte: inside the frame and, unless that is all there is, behind the Ethernet header,
    /// which no checksum covers.
    pub at: usize,
    /// Which bit of it, 0 to 7.
    pub bit: u8,
}

/// One direction of a path.
#[derive(Clone, Debug)]
pub struct Impair {
    spec: Impairment,
    dice: Dice,
    /// When the line has sent all that it took.
    line_free_at: Instant,
    /// When the last frame leaves that kept its place.
    last_at: Instant,
}

impl Impairment {
    /// True when it changes nothing.
    pub fn is_nothing(&self) -> bool {
        let Impairment { loss, duplicate, corrupt, reorder, delay, jitter, .. } = *self;
        [loss, duplicate, corrupt, reorder] == [Ratio::NEVER; 4]
            && delay.is_zero()
            && jitter.is_zero()
            && self.rate_bytes_per_second == 0
    }
}

impl Impair {
    /// A path that is empty.
    pub fn new(spec: Impairment, seed: u64) -> Self {
        Impair { spec, dice: Dice::new(seed), line_free_at: Instant::ZERO, last_at: Instant::ZERO }
    }

    /// What it does.
    pub fn spec(&self) -> &Impairment {
        &self.spec
    }

    /// The fate of a frame of `len` bytes, at least one, that comes to the path at `now`, which is
    /// no earlier than that of the frame before.
    pub fn fate(&mut self, now: Instant, len: usize) -> Fate {
        if self.dice.happens(self.spec.loss) {
            return Fate::Lost;
        }
        let is_doubled = self.dice.happens(self.spec.duplicate);
        let Some(first) = self.depart(now, len) else { return Fate::Overflow };
        let copy = if is_doubled { self.depart(now, len) } else { None };
        Fate::Leaves { first, copy }
    }

    /// Sends a frame over the line and along the path; `None` when the backlog is full.
    fn depart(&mut self, now: Instant, len: usize) -> Option<Departure> {
        let sent_at = self.cross_line(now, len)?;
        let damage = self.dice.happens(self.spec.corrupt).then(|| self.damage(len));
        let reordered = self.dice.happens(self.spec.reorder);
        let at = match reordered {
            false => {
                self.last_at = self.last_at.max(sent_at + self.delay());
                self.last_at
            }
            true if self.spec.delay.is_zero() => sent_at + self.up_to(HOLD_MAX),
            true => sent_at,
        };
        Some(Departure { at, damage, reordered })
    }

    /// When the line has sent the last byte of a frame that comes now.
    fn cross_line(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let rate = self.spec.rate_bytes_per_second;
        if rate == 0 {
            return Some(now);
        }
        if self.line_free_at.since(now) > self.spec.backlog_max {
            return None;
        }
        // The longest packet takes 65,535 * 10^9 / rate: far from the end of 64 bits.
        let time = Duration::from_nanos((len as u64).saturating_mul(1_000_000_000) / rate);
        self.line_free_at = self.line_free_at.max(now) + time;
        Some(self.line_free_at)
    }

    /// The delay of one frame that keeps its place.
    fn delay(&mut self) -> Duration {
        let Impairment { delay, jitter, .. } = self.spec;
        if jitter.is_zero() {
            return delay;
        }
        let spread = self.dice.below(jitter.as_nanos().saturating_mul(2).saturating_add(1));
        let latest = (delay + Duration::from_nanos(spread)).as_nanos();
        Duration::from_nanos(latest.saturating_sub(jitter.as_nanos()))
    }

    /// Some time that is not 0 and no longer than `max`.
    fn up_to(&mut self, max: Duration) -> Duration {
        Duration::from_nanos(1 + self.dice.below(max.as_nanos()))
    }

    fn damage(&mut self, len: usize) -> Damage {
        let start = if len > ethernet::HEADER_BYTES { ethernet::HEADER_BYTES } else { 0 };
        let at = start + self.dice.below((len - start) as u64) as usize;
        Damage { at, bit: self.dice.below(8) as u8 }
    }
}

impl Damage {
    /// Damages `frame`, if its receiver can tell: it is IPv4, whose headers and contents are under
    /// checksums. Any other frame stays as it is, and false says that it must be lost instead, as
    /// the check sequence of a real link would see to.
    #[must_use]
    pub fn strike(self, frame: &mut [u8]) -> bool {
        let is_ipv4 =
            frame.get(12..ethernet::HEADER_BYTES) == Some(&ethernet::TYPE_IPV4.to_be_bytes());
        if is_ipv4 {
            frame[self.at] ^= 1 << self.bit;
        }
        is_ipv4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Impairment = Impairment {
        loss: Ratio::NEVER,
        duplicate: Ratio::NEVER,
        corrupt: Ratio::NEVER,
        reorder: Ratio::NEVER,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        rate_bytes_per_second: 0,
        backlog_max: Duration::ZERO,
    };
    const MS: Duration = Duration::from_millis(1);

    fn at_us(us: u64) -> Instant {
        Instant::ZERO + Duration::from_micros(us)
    }

    /// The fates of `n` frames of 1000 bytes, one each 10 us.
    fn fates(spec: Impairment, seed: u64, n: u64) -> Vec<Fate> {
        let mut path = Impair::new(spec, seed);
        (0..n).map(|i| path.fate(at_us(10 * i), 1000)).collect()
    }

    /// Of those that leave, the first departures with the time at which they came.
    fn departures(spec: Impairment, seed: u64, n: u64) -> Vec<(Instant, Departure)> {
        let fates = fates(spec, seed, n).into_iter().enumerate();
        let leaving = fates.filter_map(|(i, fate)| match fate {
            Fate::Leaves { first, .. } => Some((at_us(10 * i as u64), first)),
            _ => None,
        });
        leaving.collect()
    }

    /// 100,000 draws at 2 %: 2,000 expected; five standard deviations are 221.
    fn is_two_percent(n: usize) -> bool {
        (1_779..2_221).contains(&n)
    }

    const TWO: Ratio = Ratio::from_percent(2);

    #[test]
    fn a_path_without_faults_lets_everything_pass_at_once() {
        assert!(NONE.is_nothing() && Impairment::default() == NONE);
        for (came, departure) in departures(NONE, 1, 1_000) {
            let clean = Departure { at: came, damage: None, reordered: false };
            assert_eq!(departure, clean);
        }
    }

    #[test]
    fn each_fault_makes_a_difference() {
        for spec in [
            Impairment { loss: TWO, ..NONE },
            Impairment { duplicate: TWO, ..NONE },
            Impairment { corrupt: TWO, ..NONE },
            Impairment { reorder: TWO, ..NONE },
            Impairment { delay: MS, ..NONE },
            Impairment { jitter: MS, ..NONE },
            Impairment { rate_bytes_per_second: 50_000_000, backlog_max: MS, ..NONE },
        ] {
            assert!(!spec.is_nothing(), "{spec:?}");
            assert_ne!(fates(spec, 1, 1_000), fates(NONE, 1, 1_000), "{spec:?}");
        }
    }

    #[test]
    fn the_same_seed_means_the_same_fate() {
        let spec = Impairment {
            loss: TWO,
            duplicate: TWO,
            corrupt: TWO,
            reorder: TWO,
            delay: MS,
            jitter: MS,
            ..NONE
        };
        assert_eq!(fates(spec, 9, 10_000), fates(spec, 9, 10_000));
        assert_ne!(fates(spec, 9, 10_000), fates(spec, 10, 10_000));
    }

    #[test]
    fn ratios_are_met() {
        let n = 100_000;
        let lost = fates(Impairment { loss: TWO, ..NONE }, 1, n);
        assert!(is_two_percent(lost.iter().filter(|&&fate| fate == Fate::Lost).count()));
        let doubled = fates(Impairment { duplicate: TWO, ..NONE }, 2, n);
        let is_doubled = |fate: &&Fate| matches!(fate, Fate::Leaves { copy: Some(_), .. });
        assert!(is_two_percent(doubled.iter().filter(is_doubled).count()));
        let damaged = departures(Impairment { corrupt: TWO, ..NONE }, 3, n);
        assert!(is_two_percent(damaged.iter().filter(|(_, d)| d.damage.is_some()).count()));
        let reordered = departures(Impairment { reorder: TWO, ..NONE }, 4, n);
        assert!(is_two_percent(reordered.iter().filter(|(_, d)| d.reordered).count()));
        let all = fates(Impairment { loss: Ratio::ALWAYS, ..NONE }, 5, 100);
        assert!(all.iter().all(|&fate| fate == Fate::Lost));
    }

    #[test]
    fn with_a_delay_reordered_frames_overtake() {
        let spec = Impairment { reorder: TWO, delay: MS, ..NONE };
        let departures = departures(spec, 1, 10_000);
        for (came, departure) in &departures {
            let delay = if departure.reordered { Duration::ZERO } else { MS };
            assert_eq!(departure.at, *came + delay);
        }
        let overtakes = |pair: &[(Instant, Departure)]| pair[1].1.at < pair[0].1.at;
        assert!(departures.windows(2).any(overtakes));
    }

    #[test]
    fn without_a_delay_reordered_frames_are_held_back() {
        for (came, departure) in departures(Impairment { reorder: TWO, ..NONE }, 1, 10_000) {
            let late = departure.at - came;
            assert_eq!(departure.reordered, !late.is_zero());
            assert!(late <= HOLD_MAX);
        }
    }

    #[test]
    fn jitter_spreads_around_the_delay_and_keeps_the_order() {
        let spec = Impairment { delay: MS, jitter: Duration::from_micros(500), ..NONE };
        // So far apart that none has to wait for the one in front.
        let mut path = Impair::new(spec, 1);
        let delays = (0..10_000u64).map(|i| {
            let came = at_us(2_000 * i);
            let Fate::Leaves { first, copy: None } = path.fate(came, 1000) else { panic!("{i}") };
            (first.at - came).as_micros()
        });
        let delays: Vec<u64> = delays.collect();
        assert!(delays.iter().all(|us| (500..=1_500).contains(us)));
        let mean = delays.iter().sum::<u64>() / delays.len() as u64;
        assert!((985..1_015).contains(&mean), "a mean of {mean} us");
        assert!(delays.iter().any(|&us| us < 520) && delays.iter().any(|&us| us > 1_480));

        let close = departures(spec, 2, 10_000);
        assert!(close.windows(2).all(|pair| pair[0].1.at <= pair[1].1.at));
        let early = Impairment { jitter: MS, ..NONE };
        assert!(departures(early, 3, 1_000).iter().all(|(came, d)| d.at >= *came));
    }

    #[test]
    fn a_line_sends_at_its_rate_and_drops_what_would_wait_too_long() {
        // 1000 bytes take 100 us; 10 us apart they come ten times too fast.
        let spec = Impairment { rate_bytes_per_second: 10_000_000, backlog_max: MS, ..NONE };
        let sent = departures(spec, 1, 10_000);
        assert_eq!(sent[0].1.at, at_us(100));
        for pair in sent.windows(2) {
            assert_eq!(pair[1].1.at - pair[0].1.at, Duration::from_micros(100));
        }
        let longest = sent.iter().map(|(came, d)| d.at - *came).max().expect("some were sent");
        assert!(longest > MS && longest <= MS + Duration::from_micros(100), "{longest:?}");
        // 100 ms of frames, at 100 us each, and the backlog.
        assert!((1_000..=1_011).contains(&sent.len()), "{} were sent", sent.len());
        let overflowed = fates(spec, 1, 10_000).iter().filter(|&&f| f == Fate::Overflow).count();
        assert_eq!(sent.len() + overflowed, 10_000);
    }

    #[test]
    fn a_line_that_was_idle_saves_nothing_up() {
        let spec = Impairment { rate_bytes_per_second: 10_000_000, backlog_max: MS, ..NONE };
        let mut path = Impair::new(spec, 1);
        for came in [at_us(0), at_us(1_000_000), at_us(2_000_000)] {
            let Fate::Leaves { first, .. } = path.fate(came, 1000) else {
                panic!("the line is free")
            };
            assert_eq!(first.at, came + Duration::from_micros(100));
        }
    }

    #[test]
    fn damage_is_one_bit_behind_the_ethernet_header() {
        let spec = Impairment { corrupt: Ratio::ALWAYS, ..NONE };
        let mut path = Impair::new(spec, 1);
        let mut seen = [false; 60];
        for _ in 0..10_000 {
            let Fate::Leaves { first, .. } = path.fate(at_us(0), 60) else {
                panic!("none is lost")
            };
            let damage = first.damage.expect("all are damaged");
            assert!((14..60).contains(&damage.at) && damage.bit < 8, "{damage:?}");
            seen[damage.at] = true;
            let mut frame = [0; 60];
            frame[12] = 8;
            let before = frame;
            assert!(damage.strike(&mut frame));
            let turned = |(a, b): (&u8, &u8)| (a ^ b).count_ones();
            assert_eq!(frame.iter().zip(&before).map(turned).sum::<u32>(), 1);
        }
        assert!(seen[14..].iter().all(|&is_hit| is_hit), "every byte is hit at some time");
        let Fate::Leaves { first, .. } = path.fate(at_us(0), 1) else { panic!("none is lost") };
        assert_eq!(first.damage.map(|damage| damage.at), Some(0), "a frame of one byte");
    }

    #[test]
    fn what_has_no_checksum_is_not_damaged() {
        let damage = Damage { at: 30, bit: 3 };
        let mut arp = [0; 42];
        arp[12..14].copy_from_slice(&ethernet::TYPE_ARP.to_be_bytes());
        let before = arp;
        assert!(!damage.strike(&mut arp) && arp == before);
        assert!(!damage.strike(&mut [0; 8]));
    }
}
