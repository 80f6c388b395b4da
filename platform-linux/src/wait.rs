//! Sleeping on a word of a shared mapping, and the barrier that lets sleepers pay for waking.
//!
//! The futex is the shared kind, keyed by inode and offset, so sleepers and wakers meet whatever process they are in
//! and wherever they mapped the file. A read-only mapping is enough to sleep, not to wake anybody reliably, so only
//! writable mappings wake.
//!
//! The barrier is `membarrier` in its *global expedited* form: it interrupts the CPUs that run registered
//! processes (about a microsecond), unlike *global*, which waits for a grace period (13 ms) and is never used.

use chronicle_platform::{Result, Trouble, Woken};
use rustix::{
    io::Errno,
    thread::{MembarrierCommand, MembarrierQuery, futex, membarrier, membarrier_query},
    time::Timespec,
};
use std::{path::Path, sync::atomic::AtomicU32, time::Duration};

/// Not [`futex::Flags::PRIVATE`]: sleepers are in other processes.
const SHARED: futex::Flags = futex::Flags::empty();

/// Sleeps while `word` is `seen`.
pub(crate) fn wait(word: &AtomicU32, path: &Path, seen: u32, timeout: Duration) -> Result<Woken> {
    // The kernel takes what it can count; nobody waits longer than this by one call.
    const LONGEST: Duration = Duration::from_secs(86_400);
    let timeout = timeout.min(LONGEST);
    let limit = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
    match futex::wait(word, SHARED, seen, Some(&limit)) {
        Ok(()) | Err(Errno::INTR) => Ok(Woken::Signal),
        Err(Errno::AGAIN) => Ok(Woken::Changed),
        Err(Errno::TIMEDOUT) => Ok(Woken::TimedOut),
        Err(errno) => Err(Trouble::new("wait", path, errno)),
    }
}

/// Wakes sleepers on `word`, at most so many.
pub(crate) fn wake(word: &AtomicU32, path: &Path, most: u32) -> Result<()> {
    match futex::wake(word, SHARED, most) {
        Ok(_) => Ok(()),
        Err(errno) => Err(Trouble::new("wake", path, errno)),
    }
}

/// Whether the kernel has both halves of the barrier.
pub(crate) fn has_barrier() -> bool {
    membarrier_query().contains(MembarrierQuery::REGISTER_GLOBAL_EXPEDITED | MembarrierQuery::GLOBAL_EXPEDITED)
}

/// Asks to be reached by barriers.
pub(crate) fn register_barrier() -> Result<()> {
    membarrier(MembarrierCommand::RegisterGlobalExpedited)
        .map_err(|errno| Trouble::new("register barrier", "membarrier", errno))
}

/// A full barrier on every running thread of every registered process.
pub(crate) fn barrier() -> Result<()> {
    membarrier(MembarrierCommand::GlobalExpedited).map_err(|errno| Trouble::new("barrier", "membarrier", errno))
}
