//! Sleeping on a word of a shared mapping.
//!
//! The shared kind of `os_sync_wait_on_address` is keyed by the memory object and the offset in it, so sleepers and wakers
//! meet whatever process they are in and wherever they mapped the file.
//!
//! There is no barrier: Darwin has nothing like `membarrier` for other processes, and pretending would lose wake-ups.

use crate::sys;
use chronicle_platform::{Result, Trouble, Woken};
use rustix::io::Errno;
use std::{
    io,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Sleeps while `word` is `seen`.
pub(crate) fn wait(word: &AtomicU32, path: &Path, seen: u32, timeout: Duration) -> Result<Woken> {
    // The kernel does not tell a word that was another from a wake; this look can, and the kernel looks again.
    if word.load(Ordering::Acquire) != seen {
        return Ok(Woken::Changed);
    }
    // Nobody waits longer than this by one call; a time-out of nothing is refused.
    const LONGEST: Duration = Duration::from_secs(86_400);
    let ns = timeout.min(LONGEST).as_nanos().max(1);
    let Err(error) = sys::wait(word, seen, ns as u64) else { return Ok(Woken::Signal) };
    match Errno::from_io_error(&error) {
        // FAULT: the page was away for a moment, which ends the sleep like a signal does.
        Some(Errno::INTR | Errno::FAULT) => Ok(Woken::Signal),
        Some(Errno::TIMEDOUT) => Ok(Woken::TimedOut),
        _ => Err(Trouble::new("wait", path, error)),
    }
}

/// Wakes every sleeper on `word`.
pub(crate) fn wake(word: &AtomicU32, path: &Path) -> Result<()> {
    match sys::wake(word) {
        // Nobody sleeps.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => Ok(()),
        other => other.map_err(|error| Trouble::new("wake", path, error)),
    }
}

/// Not on this system.
pub(crate) fn register_barrier() -> Result<()> {
    Err(Trouble::new("register barrier", "membarrier", io::ErrorKind::Unsupported))
}

/// Not on this system.
pub(crate) fn barrier() -> Result<()> {
    Err(Trouble::new("barrier", "membarrier", io::ErrorKind::Unsupported))
}
