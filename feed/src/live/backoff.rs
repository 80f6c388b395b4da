//! How long to wait before the next attempt, so that a thousand clients of a venue that fell over do not come back at once.
//!
//! Full jitter: attempt `n` waits a random time between nothing and `min(most, base × 2ⁿ)`. The random numbers come from
//! a seed that is passed in, so a test sees the same waits again.

use std::time::Duration;

/// Random numbers from a seed; good enough to spread clients, and for nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A time from zero to `most`, both included.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        let most_ns = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        // The high half of the product is uniform over 0..=most for every `most` below u64::MAX.
        let drawn = (u128::from(self.next()) * (u128::from(most_ns) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(drawn).unwrap_or(u64::MAX))
    }
}

/// The waits of one thing that is tried again and again.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    base: Duration,
    most: Duration,
    attempt: u32,
    dice: Dice,
}

impl Backoff {
    pub(crate) const fn new(base: Duration, most: Duration, seed: u64) -> Self {
        Self { base, most, attempt: 0, dice: Dice::new(seed) }
    }

    /// The wait after one more failure.
    pub(crate) fn failed(&mut self) -> Duration {
        let most = self.base.saturating_mul(1 << self.attempt.min(20)).min(self.most);
        self.attempt = self.attempt.saturating_add(1);
        self.dice.up_to(most)
    }

    /// It worked, and has for a while: the next failure is a first one.
    pub(crate) const fn worked(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(5);

    #[test]
    fn waits_are_spread_over_all_of_a_window_that_doubles_up_to_its_limit() {
        let mut windows = [(Duration::MAX, Duration::ZERO); 12];
        for seed in 0..2000 {
            let mut backoff = Backoff::new(BASE, MOST, seed);
            for (attempt, (least, most)) in (0..).zip(&mut windows) {
                let wait = backoff.failed();
                assert!(wait <= (BASE * (1 << attempt)).min(MOST), "seed {seed} attempt {attempt}: {wait:?}");
                (*least, *most) = ((*least).min(wait), (*most).max(wait));
            }
        }
        for (attempt, (least, most)) in (0..).zip(windows) {
            let window = (BASE * (1 << attempt)).min(MOST);
            assert!(least < window / 50 && most > window - window / 50, "attempt {attempt}: {least:?} to {most:?}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_waits_again_and_another_seed_others() {
        let waits = |seed| {
            let mut backoff = Backoff::new(BASE, MOST, seed);
            (0..8).map(|_| backoff.failed()).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }

    #[test]
    fn success_makes_the_next_failure_a_first_one() {
        let mut backoff = Backoff::new(BASE, MOST, 1);
        for _ in 0..40 {
            backoff.failed();
        }
        backoff.worked();
        assert!(backoff.failed() <= BASE);
    }
}
