//! A seeded generator: the same seed gives the same market, on every machine and with every version of this crate.
//!
//! SplitMix64 (Steele, Lea and Flood, 2014). Ten lines here rather than a dependency, because a new version of that one
//! might draw other numbers, and every seed that somebody wrote down would then mean something else.

/// The generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One whose numbers `seed` decides.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which must not be 0. The multiplication favours no number by more than 2^-24 for the ends
    /// below 2^40 that are asked for here.
    pub const fn below(&mut self, end: u64) -> u64 {
        ((self.next() as u128 * end as u128) >> 64) as u64
    }

    /// A number below 2^`bits`, small ones far likelier: every power of two is as likely as the next.
    pub const fn skewed(&mut self, bits: u32) -> u64 {
        let bits = self.below(bits as u64 + 1);
        self.below(1 << bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // The reference implementation's first numbers for this seed.
        let mut random = Random::new(1_234_567);
        assert_eq!(
            [random.next(), random.next(), random.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }
}
