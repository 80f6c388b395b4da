//! Numbers that look random and come again from the same seed. Every test that uses them prints its seed.

/// SplitMix64.
pub(crate) struct Seeded(u64);

// Each test uses its part of these.
#[allow(dead_code)]
impl Seeded {
    /// From a seed that was printed.
    pub(crate) fn new(seed: u64) -> Self {
        Seeded(seed)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// That many bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// The seeds of one run: `CHRONICLE_SEED` alone if it is set, else `count` fixed ones and a fresh one.
pub(crate) fn seeds(count: u64) -> Vec<u64> {
    use std::hash::{BuildHasher, Hasher, RandomState};
    if let Ok(seed) = std::env::var("CHRONICLE_SEED") {
        return vec![seed.parse().expect("CHRONICLE_SEED is a decimal number")];
    }
    let fresh = RandomState::new().build_hasher().finish();
    (0..count).chain([fresh]).collect()
}
