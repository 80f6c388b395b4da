//! Sleeping on a word inside an io_uring loop: one more operation in flight, beside its sockets and files.
//!
//! `IORING_OP_FUTEX_WAIT` (kernel 6.7) sleeps on the same words, with the same wakers, as
//! [`chronicle_platform::Platform::wait`]; no thread of the loop does. The protocol stays that of `chronicle_core::wake`: mark
//! that somebody is about to sleep, barrier or fence, look once more, and only then [`push`] the value that was marked.
//!
//! ```text
//! nothing to read ── mark ── settle or barrier ── look again ── push ── … the loop … ── completion ── look again
//! ```
//!
//! A sleep in flight has no end of its own. Link a time-out to it (`IO_LINK`, then `LinkTimeout`), or have one in the loop
//! anyway: a writer that died wakes nobody. `examples/wait_io_uring.rs` is a whole loop.
//!
//! Never here: the ring itself. It is the program's, and of this version of the crate: [`crate::io_uring`].

use chronicle_core::Region;
use chronicle_platform::{Result, Trouble, Woken};
use io_uring::{IoUring, Probe, opcode, squeue};
use rustix::io::Errno;
use std::{fmt, io};

/// `FUTEX2_SIZE_U32`, and not `FUTEX2_PRIVATE`: wakers are in other processes.
const SHARED_U32: u32 = 2;

/// `FUTEX_BITSET_MATCH_ANY`: whoever wakes.
const ANYBODY: u64 = u32::MAX as u64;

/// The submission queue is full: submit, then push again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

impl fmt::Display for QueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("submission queue full: submit, then push again")
    }
}

impl std::error::Error for QueueFull {}

/// Whether this ring can sleep on a word; if not, why.
///
/// # Errors
///
/// [`chronicle_platform::TroubleKind::Unsupported`] on a kernel before 6.7; wait with [`crate::EventWait`] instead.
pub fn supports_wait(ring: &IoUring) -> Result<()> {
    let trouble = |source: io::Error| Trouble::new("probe io_uring", "io_uring", source);
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(trouble)?;
    if probe.is_supported(opcode::FutexWait::CODE) {
        return Ok(());
    }
    Err(trouble(io::ErrorKind::Unsupported.into()).noting("IORING_OP_FUTEX_WAIT needs kernel 6.7"))
}

/// Puts a sleep on the word at `offset` into the queue, for as long as the word is `seen`. It begins with the next
/// submission, and completes with `user_data`; [`woken`] reads the result.
///
/// The mapping should stay until then: of one that is gone the kernel says that the sleep failed.
///
/// # Errors
///
/// If the queue is full.
///
/// # Panics
///
/// If `offset` is no word of the region.
pub fn push<R: Region>(
    queue: &mut squeue::SubmissionQueue<'_>,
    region: &R,
    offset: usize,
    seen: u32,
    user_data: u64,
) -> std::result::Result<(), QueueFull> {
    let entry = entry(region, offset, seen).user_data(user_data);
    // SAFETY: the operation's one address is read by the kernel, four bytes of it, when it is submitted, and nothing is
    // written. Of an address where nothing is mapped by then it reports a fault; of one where something else is, it
    // compares a number. Neither touches memory of the program's.
    unsafe { queue.push(&entry) }.map_err(|_| QueueFull)
}

/// The same as an entry, to set flags on. Pushing an entry is `unsafe` in that crate: [`push`] has the argument.
///
/// # Panics
///
/// If `offset` is no word of the region.
pub fn entry<R: Region>(region: &R, offset: usize, seen: u32) -> squeue::Entry {
    // The window's own check, which panics with the numbers.
    region.window().load(offset);
    let word = region.base().as_ptr().wrapping_add(offset).cast::<u32>();
    opcode::FutexWait::new(word, seen.into(), ANYBODY, SHARED_U32).build()
}

/// What a completed sleep says.
///
/// # Errors
///
/// If it could not sleep: the mapping is gone, or the kernel is too old.
pub fn woken(result: i32) -> Result<Woken> {
    if result >= 0 {
        return Ok(Woken::Signal);
    }
    let error = io::Error::from_raw_os_error(result.saturating_neg());
    match Errno::from_io_error(&error) {
        Some(Errno::INTR) => Ok(Woken::Signal),
        Some(Errno::AGAIN) => Ok(Woken::Changed),
        // By a linked time-out, or by the program itself.
        Some(Errno::CANCELED | Errno::TIME | Errno::TIMEDOUT) => Ok(Woken::TimedOut),
        _ => Err(Trouble::new("wait", "io_uring", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Linux;
    use chronicle_platform::{MemoryOptions, Platform};
    use io_uring::{squeue::Flags, types::Timespec};

    #[test]
    fn results_say_what_a_wait_says() {
        for (result, expected) in
            [(0, Woken::Signal), (-4, Woken::Signal), (-11, Woken::Changed), (-125, Woken::TimedOut)]
        {
            assert_eq!(woken(result).unwrap(), expected, "{result}");
        }
        assert_eq!(woken(-14).unwrap_err().errno(), Some(14));
        woken(i32::MIN).expect_err("no result of the kernel's");
    }

    #[test]
    fn a_sleep_ends_by_its_linked_time_out_and_not_at_all_on_another_value() {
        let Ok(mut ring) = IoUring::new(4) else { return eprintln!("skipped: no io_uring here") };
        if let Err(trouble) = supports_wait(&ring) {
            return eprintln!("skipped: {trouble}");
        }
        let memory = Linux.memory(4096, &MemoryOptions::default()).unwrap();
        let mut run = |seen| {
            let soon = Timespec::new().nsec(5_000_000);
            let sleep = entry(&memory.map, 128, seen).user_data(1).flags(Flags::IO_LINK);
            let limit = opcode::LinkTimeout::new(&soon).build().user_data(2);
            // SAFETY: the word and the time live until both have completed, below.
            unsafe { ring.submission().push_multiple(&[sleep, limit]) }.unwrap();
            ring.submit_and_wait(2).unwrap();
            let results: Vec<_> =
                ring.completion().filter(|done| done.user_data() == 1).map(|done| done.result()).collect();
            woken(results[0]).unwrap()
        };
        assert_eq!(run(0), Woken::TimedOut);
        assert_eq!(run(1), Woken::Changed);
        push(&mut ring.submission(), &memory.map, 128, 1, 0).unwrap();
        let mut pushed = 1;
        while push(&mut ring.submission(), &memory.map, 128, 1, 0).is_ok() {
            pushed += 1;
        }
        assert_eq!(pushed, 4, "then the queue is full");
        std::panic::catch_unwind(|| entry(&memory.map, 4096, 0)).expect_err("outside");
    }
}
