//! Time. The monotonic clock is `CLOCK_MONOTONIC`: one for all processes of a boot, counting time asleep too.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Wall clock, ns since 1970.
pub(crate) fn now_ns() -> u64 {
    ns(ClockId::Realtime)
}

/// Monotonic clock, ns.
pub(crate) fn monotonic_ns() -> u64 {
    ns(ClockId::Monotonic)
}

fn ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // A machine that believes it is before 1970 gets 0: a wrong clock must not wrap into the far future.
    u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

/// Sleeps on no word.
pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}
