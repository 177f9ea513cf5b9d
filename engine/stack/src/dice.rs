//! A seeded source of draws for fault models and simulations: the same seed draws the same values
//! for ever. It is no source of secrets: who sees some draws can compute the rest.

/// A stream of draws: SplitMix64, which takes every seed, also 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dice {
    state: u64,
}

/// How often something happens, in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ratio(u32);

impl Dice {
    /// The stream of `seed`. Streams of neighbouring seeds have nothing in common.
    pub fn new(seed: u64) -> Self {
        Dice { state: seed }
    }

    /// A value of 64 bits, each as likely as any other.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A value below `n`, which is not 0. The bias is below `n` in 2^64.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "nothing is below 0");
        ((u128::from(self.draw()) * u128::from(n)) >> 64) as u64
    }

    /// Whether something happens this time. What never or always happens takes no draw.
    pub fn happens(&mut self, ratio: Ratio) -> bool {
        match ratio {
            Ratio::NEVER => false,
            Ratio::ALWAYS => true,
            Ratio(ppm) => self.below(u64::from(Ratio::ALWAYS.0)) < u64::from(ppm),
        }
    }

    /// A stream of its own, such as that of one of several links.
    pub fn fork(&mut self) -> Dice {
        Dice::new(self.draw())
    }
}

impl Ratio {
    /// It does not happen.
    pub const NEVER: Ratio = Ratio(0);

    /// It happens each time.
    pub const ALWAYS: Ratio = Ratio(1_000_000);

    /// So many times in a million; more than a million is each time.
    pub const fn from_ppm(ppm: u32) -> Self {
        if ppm > Ratio::ALWAYS.0 { Ratio::ALWAYS } else { Ratio(ppm) }
    }

    /// So many times in a hundred.
    pub const fn from_percent(percent: u32) -> Self {
        Ratio::from_ppm(percent.saturating_mul(10_000))
    }

    /// Times in a million.
    pub const fn ppm(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_another_something_else() {
        let stream = |seed| {
            let mut dice = Dice::new(seed);
            std::array::from_fn::<u64, 8, _>(|_| dice.draw())
        };
        assert_eq!(stream(7), stream(7));
        assert_ne!(stream(7), stream(8));
        // The published first output of SplitMix64 for seed 0.
        assert_eq!(stream(0)[0], 0xE220_A839_7B1D_CDAF);
    }

    #[test]
    fn values_stay_below_their_bound_and_reach_every_place() {
        let mut dice = Dice::new(1);
        let mut seen = [0u32; 6];
        for _ in 0..6_000 {
            seen[dice.below(6) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (880..1_120).contains(n)), "{seen:?}");
        assert_eq!(dice.below(1), 0);
    }

    #[test]
    fn a_ratio_is_met() {
        let mut dice = Dice::new(2);
        let mut hits = |ratio| (0..100_000).filter(|_| dice.happens(ratio)).count();
        assert_eq!(hits(Ratio::NEVER), 0);
        assert_eq!(hits(Ratio::ALWAYS), 100_000);
        // 1,000 expected; five standard deviations are 157.
        assert!((843..1_157).contains(&hits(Ratio::from_percent(1))));
        assert_eq!(Ratio::from_percent(101), Ratio::ALWAYS);
        assert_eq!(Ratio::from_ppm(5).ppm(), 5);
    }

    #[test]
    fn a_fork_goes_its_own_way() {
        let mut dice = Dice::new(3);
        let (mut one, mut two) = (dice.fork(), dice.fork());
        assert_ne!(one.draw(), two.draw());
    }
}
