//! Steps of the protocols made weaker, for models that must fail.
//!
//! A model that passes proves little until the same model, with one step taken away, is seen to fail. The steps below
//! can be taken away in a build with `--cfg loom` and in no other; the code around them is the code that ships.
//! What needs no weaker step, such as a missing barrier or a wrong order of two calls, the model itself leaves out.

extern crate std;

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

pub(crate) fn is(weak: Weak) -> bool {
    WEAK.get() == Some(weak)
}
