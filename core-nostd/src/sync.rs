//! The one place where this crate's atomics come from, so that a model checker fits underneath.
//!
//! Everything in a region is reached through `AtomicU32`, 4-aligned: two atomics of different sizes that race on the
//! same bytes are undefined in Rust's memory model, and one size rules that out. The one exception is a protocol's own
//! 64-bit position word (`Window::word64`), on targets that have one.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, Ordering, compiler_fence, fence};

#[cfg(all(not(loom), target_has_atomic = "64"))]
pub(crate) use core::sync::atomic::AtomicU64;

#[cfg(loom)]
pub(crate) use loom::sync::atomic::AtomicU64;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, Ordering, fence};

/// Loom runs one thread at a time and reorders by its model: the compiler's reordering is the model's business.
#[cfg(loom)]
pub(crate) fn compiler_fence(_: Ordering) {}
