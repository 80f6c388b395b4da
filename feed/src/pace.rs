//! When a recorded message is due, if the recording is played again.
//!
//! Pure arithmetic from receive times to offsets since the start of the playback. Nothing here waits, and no clock is
//! read: the player compares [`Pace::due`] with its own clock and decides what to do about it.

use core::time::Duration;

/// How fast a recording is played.
///
/// ```
/// use core::time::Duration;
/// use chronicle_feed::Pace;
///
/// // A recording of 100 s, played in 10 s.
/// let pace = Pace::over(1_000_000_000_000, 1_100_000_000_000, Duration::from_secs(10));
/// assert_eq!(pace.due(1_050_000_000_000), Duration::from_secs(5));
/// assert_eq!(Pace::full_speed().due(1_050_000_000_000), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    first_ns: u64,
    span_ns: u64,
    over: Duration,
}

impl Pace {
    /// Everything is due at once.
    #[must_use]
    pub const fn full_speed() -> Self {
        Self { first_ns: 0, span_ns: 0, over: Duration::ZERO }
    }

    /// The stretch from the first to the last receive time (see [`Report`](crate::Report)) takes `over`.
    #[must_use]
    pub const fn over(first_ns: u64, last_ns: u64, over: Duration) -> Self {
        Self { first_ns, span_ns: last_ns.saturating_sub(first_ns), over }
    }

    /// As fast as it was recorded.
    #[must_use]
    pub const fn as_recorded(first_ns: u64, last_ns: u64) -> Self {
        Self::over(first_ns, last_ns, Duration::from_nanos(last_ns.saturating_sub(first_ns)))
    }

    /// How long after the start the message received at `ingest_ns` is due. Times outside the stretch are taken to
    /// its nearer end, so that a clock that jumped while recording does not hold up the playback.
    #[must_use]
    pub fn due(&self, ingest_ns: u64) -> Duration {
        if self.span_ns == 0 {
            return Duration::ZERO;
        }
        let offset_ns = ingest_ns.saturating_sub(self.first_ns).min(self.span_ns);
        // At most 2^64 x 2^94: split, so that no product exceeds 128 bits.
        let (over_ns, span_ns) = (self.over.as_nanos(), u128::from(self.span_ns));
        let (whole, rest) = (over_ns / span_ns, over_ns % span_ns);
        let offset_ns = u128::from(offset_ns);
        let due_ns = offset_ns * whole + offset_ns * rest / span_ns;
        let second = 1_000_000_000;
        // No more than `over`, so it fits.
        Duration::new((due_ns / second) as u64, (due_ns % second) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_is_within_the_stretch_and_in_order() {
        let over = Duration::from_millis(1234);
        let pace = Pace::over(1_000, 2_000, over);
        assert_eq!(pace.due(0), Duration::ZERO);
        assert_eq!(pace.due(1_000), Duration::ZERO);
        assert_eq!(pace.due(1_500), over / 2);
        assert_eq!(pace.due(2_000), over);
        assert_eq!(pace.due(u64::MAX), over);
        let mut last = Duration::ZERO;
        for ingest_ns in 0..3_000 {
            assert!(pace.due(ingest_ns) >= last);
            last = pace.due(ingest_ns);
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        assert_eq!(Pace::over(0, u64::MAX, Duration::MAX).due(u64::MAX), Duration::MAX);
        assert_eq!(Pace::over(7, 3, Duration::from_secs(1)).due(5), Duration::ZERO);
        assert_eq!(Pace::over(0, 1, Duration::MAX).due(1), Duration::MAX);
        assert_eq!(Pace::as_recorded(5, 25).due(15), Duration::from_nanos(10));
    }
}
