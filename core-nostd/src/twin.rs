//! Steps of the protocols made weaker, for models that must fail.
//!
//! A model that passes proves little until the same model, with one step taken away, is seen to fail. The steps below
//! can be taken away in a build with `--cfg loom` and in no other; the code around them is the code that ships.
//! What needs no weaker step, such as a missing barrier or a wrong order of two calls, the model itself leaves out.

extern crate std;

use crate::sync::{Ordering, thread};
use core::cell::Cell;

/// A step that is left out or done too weakly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weak {
    /// Words that are stored with Release, commit words among them, are stored Relaxed.
    CommitRelaxed,
    /// The slot behind a frame is not opened before the frame is committed.
    NoOpenWord,
    /// The writer clears the wake word instead of raising its generation.
    FlagOnly,
    /// A ring's producer stores where its newest frame begins after the tail.
    NewestAfterTail,
    /// A ring's producer overwrites the header that names the newest seq without naming another first.
    NoMark,
    /// A consumer within a process gives slots back Relaxed.
    HeadRelaxed,
    /// A broadcast writer does not fence its intent from the words that it announces.
    NoAnnounceFence,
    /// A broadcast reader does not fence its copy from the look at the intent.
    NoLookFence,
    /// A broadcast writer stores its intent after the words that it announces.
    LateIntent,
    /// A producer of many raises its flag after it has claimed.
    FlagAfterClaim,
    /// A producer of many stamps its claim after it has lowered its flag.
    StampAfterFlag,
    /// The consumer of many loads how far space is claimed after it has looked at the flags.
    TailAfterFlags,
    /// The consumer of many frees a dead producer's slot without having padded all that it had claimed.
    FreeUnwalked,
    /// The consumer of many gives space back before it has cleared it.
    HeadBeforeZeros,
}

std::thread_local! {
    // Loom runs a model's threads as coroutines of the thread that checks it, so this is one value for all of them.
    static WEAK: Cell<Option<Weak>> = const { Cell::new(None) };
}

/// Runs `model` with one step weakened.
pub fn with<T>(weak: Weak, model: impl FnOnce() -> T) -> T {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            WEAK.set(None);
        }
    }
    WEAK.set(Some(weak));
    let _restore = Restore;
    model()
}

std::thread_local! {
    static DEATH: Cell<Option<(thread::ThreadId, usize)>> = const { Cell::new(None) };
}

struct Dead;

/// Runs `life` on the model's current thread and kills it before its store number `steps`; `None` if it was killed.
///
/// Stores of protocols count, from 0. As after a kill, every store before it is done and nothing after it.
pub fn mortal<T>(steps: usize, life: impl FnOnce() -> T) -> Option<T> {
    DEATH.set(Some((thread::current().id(), steps)));
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life));
    DEATH.set(None);
    match lived {
        Ok(value) => Some(value),
        Err(why) if why.is::<Dead>() => None,
        Err(why) => std::panic::resume_unwind(why),
    }
}

/// A store is about to happen: the place to die. Returns the ordering that it has in this model.
pub(crate) fn step(ordering: Ordering) -> Ordering {
    if let Some((who, left)) = DEATH.get()
        && who == thread::current().id()
    {
        match left.checked_sub(1) {
            Some(left) => DEATH.set(Some((who, left))),
            None => std::panic::resume_unwind(std::boxed::Box::new(Dead)),
        }
    }
    if ordering == Ordering::Release && is(Weak::CommitRelaxed) { Ordering::Relaxed } else { ordering }
}

pub(crate) fn is(weak: Weak) -> bool {
    WEAK.get() == Some(weak)
}
