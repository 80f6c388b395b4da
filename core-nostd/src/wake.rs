//! Waking sleepers at no cost to the writer while nobody sleeps, without losing a wake-up.
//!
//! A plain load of a "somebody sleeps" flag after the Release store of a commit word may be reordered before it (store
//! buffering): the writer then misses a reader that has just marked itself and sleeps on a frame that is there. The
//! usual cure is a locked instruction on every append. Ours lets the sleeper pay.
//!
//! ```text
//! wake word:  bit 0 = somebody sleeps, bits 1..31 = generation (only the writer changes it)
//!
//! writer, after the Release commit            reader that found nothing
//!   compiler fence (full fence in mode Fence)   e = fetch_or(1) | 1
//!   w = plain load                              barrier (membarrier; a full fence in mode Fence)
//!   if w is odd: fetch_add(1), wake all         look at the commit word again
//!                                               sleep while word == e, bounded; then check liveness
//! ```
//!
//! `fetch_add(1)` on an odd word clears the bit and raises the generation at once, so a mark that the writer wipes, or
//! that another reader sets again, has another value than the one slept on: the sleep returns. A flag of 0 and 1 loses
//! wake-ups there, and so does sleeping on the commit word; both are kept as models that must fail (`tests/loom_wake.rs`).
//!
//! Never here: the system calls themselves. The caller sleeps and wakes with its platform.

use crate::{
    region::WindowMut,
    sync::{AtomicU32, Ordering, compiler_fence, fence},
};

/// How a queue's writer and sleepers order their steps; chosen by the writer, kept with the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The writer does nothing but load; each sleeper runs an expedited barrier on every registered process.
    Asymmetric,
    /// The writer pays a full fence after each commit; sleepers need no system call for it.
    Fence,
}

/// After a commit: whether sleepers must be woken, all of them, on this word.
///
/// The word is already changed when this returns `true`, so a sleeper that comes too late does not sleep.
#[inline]
pub fn after_commit(window: WindowMut<'_>, offset: usize, mode: Mode) -> bool {
    asked(window.word32(offset), mode)
}

/// As [`after_commit`], for who has the word.
#[inline(always)]
pub(crate) fn asked(word: &AtomicU32, mode: Mode) -> bool {
    match mode {
        // ORDERING: in mode `Asymmetric` the sleeper's barrier stands for a full fence between our commit and this load
        // (the kernel runs one on this CPU); the compiler must not reorder them by itself either.
        Mode::Asymmetric => compiler_fence(Ordering::SeqCst),
        // ORDERING: SeqCst pairs with the fence in `mark`: of the two, whoever comes second sees the other's store.
        Mode::Fence => fence(Ordering::SeqCst),
    }
    if word.load(Ordering::Relaxed) & 1 == 0 {
        return false;
    }
    claim_sleepers(word)
}

#[cold]
#[inline(never)]
fn claim_sleepers(word: &AtomicU32) -> bool {
    #[cfg(loom)]
    if crate::twin::is(crate::twin::Weak::FlagOnly) {
        word.swap(0, Ordering::AcqRel);
        return true;
    }
    // ORDERING: AcqRel keeps the generation's changes in one order with the marks; the wake that follows is a system
    // call, and the kernel compares the word under its own lock.
    word.fetch_add(1, Ordering::AcqRel);
    true
}

/// Marks that somebody is about to sleep; returns the value to sleep on.
///
/// Next: [`settle`], or the platform's barrier in mode [`Mode::Asymmetric`]; look for frames once more; sleep while the
/// word still has this value, bounded in time.
#[must_use]
pub fn mark(window: WindowMut<'_>, offset: usize) -> u32 {
    // ORDERING: AcqRel as in `claim_sleepers`; the barrier that follows does the rest.
    window.word32(offset).fetch_or(1, Ordering::AcqRel) | 1
}

/// The sleeper's full fence in mode [`Mode::Fence`], between [`mark`] and its second look.
pub fn settle() {
    // ORDERING: SeqCst pairs with the fence in `after_commit`.
    fence(Ordering::SeqCst);
}
