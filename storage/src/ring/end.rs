//! What the ends of all rings have besides their ring: a system, a name, how they wait.

use super::{
    EndOptions, WaitPolicy, place,
    wait::{self, Side, Waited, take_part},
};
use crate::Result;
use chronicle_core::{Damage, wake::Mode};
use chronicle_platform::Platform;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

#[derive(Debug)]
pub(super) struct End<P: Platform> {
    pub(super) platform: P,
    pub(super) path: PathBuf,
    pub(super) mode: Mode,
    guarded: bool,
    policy: WaitPolicy,
    /// When the other side's locks were last looked at.
    pub(super) asked_ns: u64,
}

impl<P: Platform> End<P> {
    /// For an end that attached to a ring of this mode and has stored nothing yet.
    pub(super) fn new(platform: &P, path: &Path, mode: Mode, options: &EndOptions) -> Result<Self> {
        take_part(platform, mode)?;
        Ok(End {
            platform: platform.clone(),
            path: path.to_path_buf(),
            mode,
            guarded: options.guard,
            policy: options.wait,
            asked_ns: platform.monotonic_ns(),
        })
    }

    /// Wakes all who sleep on a word.
    #[cold]
    #[inline(never)]
    pub(super) fn wake(&self, map: &P::MapMut, word: usize) {
        // They sleep for a bounded time, so a wake that fails delays them and loses nothing.
        _ = self.platform.wake(map, word);
    }

    /// Whether the pages are gone and what was read is not the ring's.
    #[inline]
    pub(super) fn is_cut(&self, map: &P::MapMut) -> bool {
        self.guarded && self.platform.is_damaged_mut(map)
    }

    /// As an error, if so.
    pub(super) fn check(&self, map: &P::MapMut) -> Result<()> {
        if self.is_cut(map) { Err(place::cut(&self.path, map)) } else { Ok(()) }
    }

    /// As [`End::check`], for operations that return damage.
    #[inline]
    pub(super) fn intact(&self, map: &P::MapMut) -> std::result::Result<(), Damage> {
        if self.is_cut(map) { Err(place::cut_damage(map)) } else { Ok(()) }
    }

    /// What of a wait does not depend on the side.
    pub(super) fn waiting(&self) -> (P, WaitPolicy) {
        (self.platform.clone(), self.policy)
    }
}

/// Waits for `side`, which borrows the end that `waiting` was got from.
pub(super) fn wait<P: Platform>(
    (platform, policy): (P, WaitPolicy),
    timeout: Duration,
    mut side: impl Side,
) -> Result<Waited> {
    wait::wait(&platform, policy, timeout, &mut side)
}

/// How much of a time-out is left.
#[derive(Clone, Copy)]
pub(super) struct Deadline(u64);

impl Deadline {
    pub(super) fn after<P: Platform>(platform: &P, timeout: Duration) -> Self {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Deadline(platform.monotonic_ns().saturating_add(timeout))
    }

    pub(super) fn left<P: Platform>(self, platform: &P) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(platform.monotonic_ns()))
    }

    /// As `waited`, unless the time is over: then it is worth one more look, whatever it was, and no second wait. A wait
    /// is ready without a look at the clock, so where others take each time what it found, or a peer offers and takes
    /// back, nothing else would end the loop around it.
    pub(super) fn bound<P: Platform>(self, platform: &P, waited: Waited) -> Waited {
        if waited == Waited::Ready && self.left(platform).is_zero() { Waited::TimedOut } else { waited }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Disconnect;
    use chronicle_platform::sim::Sim;

    #[test]
    fn a_wait_that_is_ready_when_the_time_is_over_is_the_last() {
        let sim = Sim::new(1);
        let deadline = Deadline::after(&sim, Duration::from_secs(1));
        let gone = Waited::Disconnected(Disconnect::Died);
        let bound = || [Waited::Ready, Waited::TimedOut, gone].map(|waited| deadline.bound(&sim, waited));
        assert_eq!(bound(), [Waited::Ready, Waited::TimedOut, gone]);
        sim.sleep(Duration::from_secs(1));
        assert_eq!(bound(), [Waited::TimedOut, Waited::TimedOut, gone]);
        assert_eq!(Deadline::after(&sim, Duration::MAX).bound(&sim, Waited::Ready), Waited::Ready);
    }
}
