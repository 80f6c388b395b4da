//! The one place where this crate's atomics come from, so that a model checker fits underneath.
//!
//! Everything in a region is reached through `AtomicU32`, 4-aligned: two atomics of different sizes that race on the
//! same bytes are undefined in Rust's memory model, and one size rules that out. A protocol's own 64-bit position word has
//! instructions of its own (`word64.rs`).

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, Ordering, compiler_fence, fence};

#[cfg(all(
    not(loom),
    target_has_atomic = "64",
    not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))
))]
pub(crate) use core::sync::atomic::AtomicU64;

// With `--cfg loom --cfg shuttle` the model's region stays and shuttle's atomics take the place of loom's.
#[cfg(all(loom, not(shuttle)))]
use loom as checker;
#[cfg(all(loom, shuttle))]
use shuttle as checker;

#[cfg(loom)]
pub(crate) use checker::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use checker::thread;

/// A model checker runs one thread at a time and reorders by its model: the compiler's reordering is the model's business.
#[cfg(loom)]
pub(crate) fn compiler_fence(_: Ordering) {}

/// A cell whose content is reached through a closure, as loom's is, so that the model sees how long.
#[cfg(any(not(loom), shuttle))]
#[repr(transparent)]
pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(any(not(loom), shuttle))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        UnsafeCell(core::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    #[cfg_attr(shuttle, allow(dead_code, reason = "slices, which models do not have"))]
    pub(crate) fn with<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
        look(self.0.get())
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        change(self.0.get())
    }
}

#[cfg(all(loom, not(shuttle)))]
pub(crate) use loom::cell::UnsafeCell;

#[cfg(all(any(test, feature = "std"), not(loom)))]
pub(crate) use std::sync::Arc;

#[cfg(all(any(test, feature = "std"), loom))]
pub(crate) use checker::sync::Arc;
