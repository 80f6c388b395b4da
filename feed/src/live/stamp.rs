//! The time at which a message was received, from a wall clock that other people set.
//!
//! ```text
//! the clock            the stamp                              why
//! goes on              is the clock's
//! is slewed back       stands still until it is caught up      readers merge streams by this time
//! is stepped (> 1 s)   is the clock's, back or forth; counted  what was wrong before must not stay wrong for ever
//! ```
//!
//! A step is told from time that passed by the monotonic clock, which nobody sets. No timeout, no limit and no wait of a
//! feed looks at the wall clock: only stamps do.

use std::time::Duration;
use tokio::time::Instant;

/// More than this between the two clocks is a step.
const STEP: Duration = Duration::from_secs(1);
/// The two clocks are compared anew so often: a slew drifts, and is no step.
const COMPARED_FOR: Duration = Duration::from_secs(30);

/// A step of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// How far, in ns; negative is back.
    pub(crate) by_ns: i64,
}

/// Gives out stamps.
#[derive(Debug)]
pub(crate) struct Stamps<C> {
    wall_ns: C,
    last: u64,
    /// Both clocks at one moment.
    compared: (Instant, u64),
}

impl<C: FnMut() -> u64> Stamps<C> {
    pub(crate) fn new(mut wall_ns: C, now: Instant) -> Self {
        let last = wall_ns();
        Self { wall_ns, last, compared: (now, last) }
    }

    /// The stamp of what was received now, and the step that the clock has made since the last one.
    pub(crate) fn stamp(&mut self, now: Instant) -> (u64, Option<Step>) {
        let wall = (self.wall_ns)();
        let (then, wall_then) = self.compared;
        let passed = now.saturating_duration_since(then);
        let expected = wall_then.saturating_add(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        if wall.abs_diff(expected) > STEP.as_nanos() as u64 {
            (self.last, self.compared) = (wall, (now, wall));
            return (wall, Some(Step { by_ns: wall.wrapping_sub(expected).cast_signed() }));
        }
        if passed > COMPARED_FOR {
            self.compared = (now, wall);
        }
        self.last = self.last.max(wall);
        (self.last, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_step_is_followed_and_counted_and_a_slew_never_turns_time_back() {
        let wall = Cell::new(5000 * S);
        let start = Instant::now();
        let mut stamps = Stamps::new(|| wall.get(), start);
        let at = |s: u64| start + Duration::from_secs(s);
        let mut see = |wall_s: f64, after: u64| {
            wall.set((wall_s * S as f64) as u64);
            stamps.stamp(at(after))
        };
        assert_eq!(see(5005.0, 5), (5005 * S, None));
        // Slewed back by half a second: it stands.
        assert_eq!(see(5004.5, 5), (5005 * S, None));
        assert_eq!(see(5006.5, 7), (5006 * S + S / 2, None));
        // Back by an hour, and forth again.
        assert_eq!(see(5006.5 - 3600.0, 7).1.map(|step| step.by_ns / S.cast_signed()), Some(-3600));
        let (stamp, step) = see(5008.5 - 3600.0, 9);
        assert_eq!((stamp, step), (wall.get(), None));
        assert_eq!(see(5009.5, 10).1.map(|step| step.by_ns / S.cast_signed()), Some(3600));
    }

    #[test]
    fn a_clock_that_drifts_slowly_makes_no_step() {
        let wall = Cell::new(1000 * S);
        let start = Instant::now();
        let mut stamps = Stamps::new(|| wall.get(), start);
        for second in 0..100_000 {
            // 0.05 % fast: 50 s after a day, and never a step.
            wall.set(1000 * S + second * S + second * S / 2000);
            assert_eq!(stamps.stamp(start + Duration::from_secs(second)).1, None, "{second}");
        }
    }
}
