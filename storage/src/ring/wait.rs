//! How an end passes the time until the other side has done something.
//!
//! ```text
//! look, `spins` times ── clock ── now and then: is there still another side?
//!                                 spin │ yield │ mark ─ barrier ─ look again ─ sleep, at most 100 ms
//!                                 look
//! ```
//!
//! A sleeper pays for being woken: it marks the ring's wake word, runs a barrier on the other side's processors (or both
//! pay a fence, as the ring's maker chose), looks once more and sleeps. The other side loads that word once after what
//! it publishes or releases, and makes a system call only if somebody is marked; [`chronicle_core::wake`] has the argument.
//! No sleep is longer than 100 ms, and a killed sleeper's mark costs the other side one call.

use super::Disconnect;
use crate::{Error, Result};
use chronicle_core::wake::{self, Mode};
use chronicle_platform::Platform;
use std::time::Duration;

/// How a wait passes the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitPolicy {
    /// Looks without pause: the fastest, for an end that has a processor for itself.
    Spin,
    /// Looks, and lets others run in between.
    Yield,
    /// Looks so many times, then sleeps until it is woken.
    Park {
        /// How many times.
        spins: u32,
    },
}

impl Default for WaitPolicy {
    /// Some 10 µs of looks, then sleep.
    fn default() -> Self {
        WaitPolicy::Park { spins: 256 }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// There is something to do. (A consumer may find only what is passed over, and should wait again.)
    Ready,
    /// The time is over.
    TimedOut,
    /// There is nothing to do and nobody on the other side. Waiting again waits for somebody to come.
    Disconnected(Disconnect),
}

/// Longest time without a look at the other side.
pub(super) const SLICE: Duration = Duration::from_millis(100);
/// Longest sleep of somebody whom nobody wakes.
pub(super) const UNWOKEN: Duration = Duration::from_millis(1);
/// Looks between two readings of the clock.
const BATCH: u32 = 1024;

/// What is waited for.
pub(super) trait Side {
    /// Whether it has happened.
    fn is_ready(&self) -> bool;
    /// Sleeps until the other side says something, at most so long.
    fn sleep(&self, timeout: Duration) -> Result<()>;
    /// Whether the other side is gone, by its locks.
    fn missing(&mut self) -> Result<Option<Disconnect>>;
    /// When that was last asked.
    fn asked_ns(&mut self) -> &mut u64;
}

/// Waits until `side` is ready.
pub(super) fn wait<P: Platform>(
    platform: &P,
    policy: WaitPolicy,
    timeout: Duration,
    side: &mut impl Side,
) -> Result<Waited> {
    if side.is_ready() {
        return Ok(Waited::Ready);
    }
    let spins = if let WaitPolicy::Park { spins } = policy { spins } else { BATCH };
    if !timeout.is_zero() && spin(spins, side) {
        return Ok(Waited::Ready);
    }
    let mut now = platform.monotonic_ns();
    let deadline = now.saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    let slice = SLICE.as_nanos() as u64;
    loop {
        let asked = now.saturating_sub(*side.asked_ns());
        if asked >= slice {
            *side.asked_ns() = now;
            let missing = side.missing()?;
            // ORDERING: what the other side did before the kernel freed its lock is visible to who found that lock free.
            if side.is_ready() {
                return Ok(Waited::Ready);
            }
            if let Some(why) = missing {
                return Ok(Waited::Disconnected(why));
            }
        }
        if now >= deadline {
            return Ok(Waited::TimedOut);
        }
        match policy {
            WaitPolicy::Spin => _ = spin(BATCH, side),
            WaitPolicy::Yield => std::thread::yield_now(),
            WaitPolicy::Park { .. } => {
                let until_asked = if asked >= slice { slice } else { slice - asked };
                side.sleep(Duration::from_nanos(until_asked.min(deadline - now)))?;
            }
        }
        if side.is_ready() {
            return Ok(Waited::Ready);
        }
        now = platform.monotonic_ns();
    }
}

fn spin(times: u32, side: &impl Side) -> bool {
    (0..times).any(|_| {
        std::hint::spin_loop();
        side.is_ready()
    })
}

/// Sleeps on a wake word of `map` that `mark` marks, unless `is_ready` after all.
pub(super) fn park<P: Platform>(
    platform: &P,
    map: &P::MapMut,
    (word, mode): (usize, Mode),
    timeout: Duration,
    mark: impl FnOnce() -> u32,
    is_ready: impl FnOnce() -> bool,
) -> Result<()> {
    let seen = mark();
    let settled = match mode {
        Mode::Asymmetric => platform.barrier().is_ok(),
        Mode::Fence => {
            wake::settle();
            true
        }
    };
    // ORDERING: after the barrier or the fence: what the other side published before its look at our mark is seen here.
    if !is_ready() {
        // Without a barrier the other side may have missed the mark.
        platform.wait_mut(map, word, seen, if settled { timeout } else { timeout.min(UNWOKEN) })?;
    }
    Ok(())
}

/// Whether this process can take part in a ring of this mode, arranged before it publishes anything.
pub(super) fn take_part<P: Platform>(platform: &P, mode: Mode) -> Result<()> {
    match mode {
        // Who looks at wake words without a fence must be reached by the sleepers' barriers.
        Mode::Asymmetric => platform.register_barrier().map_err(Error::from),
        Mode::Fence => Ok(()),
    }
}
