//! A venue's limits, kept by asking before each step: so much in so long a time.
//!
//! A bucket is full at first and fills up again steadily. It says how long to wait; it never sleeps.

use std::time::Duration;
use tokio::time::Instant;

/// One limit.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    capacity: f64,
    per: Duration,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// At most `capacity` in any `per`.
    ///
    /// Half of it may go at once and the other half comes back over `per`: a full bucket spent at once and its refill spent
    /// as it comes are together what the venue allows, in every window.
    pub(crate) fn new(capacity: u32, per: Duration, now: Instant) -> Self {
        let capacity = (f64::from(capacity) / 2.0).max(1.0);
        Self { capacity, per, left: capacity, at: now }
    }

    /// Takes `amount`, or says after what time there will be as much. More than there ever is takes all there is.
    pub(crate) fn take(&mut self, amount: u32, now: Instant) -> Result<(), Duration> {
        let per = self.per.as_secs_f64();
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed / per * self.capacity).min(self.capacity);
        self.at = now;
        let amount = f64::from(amount).min(self.capacity);
        if self.left >= amount {
            self.left -= amount;
            return Ok(());
        }
        // A microsecond more than computed: rounding must not make a caller come too early, again and again.
        Err(Duration::from_secs_f64((amount - self.left) / self.capacity * per) + Duration::from_micros(1))
    }

    /// The venue said that nothing is left.
    pub(crate) fn empty(&mut self, now: Instant) {
        (self.left, self.at) = (0.0, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_holds_more_than_the_limit_however_greedy_the_caller() {
        const LIMIT: u32 = 60;
        const PER: Duration = Duration::from_secs(60);
        let start = Instant::now();
        let mut bucket = Bucket::new(LIMIT, PER, start);
        let (mut now, mut taken) = (start, Vec::new());
        while now < start + PER * 5 {
            match bucket.take(5, now) {
                Ok(()) => taken.push(now),
                Err(wait) => now += wait,
            }
        }
        for from in &taken {
            let in_window = taken.iter().filter(|at| *at >= from && **at < *from + PER).count() * 5;
            assert!(in_window <= LIMIT as usize, "{in_window} in one window");
        }
        // It is not much more careful than it must be.
        assert!(taken.len() * 5 >= LIMIT as usize / 2 * 5, "{}", taken.len() * 5);
    }

    #[test]
    fn more_than_the_limit_is_allowed_when_all_of_it_is_there() {
        let now = Instant::now();
        let mut bucket = Bucket::new(10, Duration::from_secs(1), now);
        assert!(bucket.take(1000, now).is_ok());
        assert!(bucket.take(1, now).is_err());
        bucket.empty(now + Duration::from_secs(5));
        assert!(bucket.take(1, now + Duration::from_secs(5)).is_err());
        assert!(bucket.take(1, now + Duration::from_secs(6)).is_ok());
    }
}
