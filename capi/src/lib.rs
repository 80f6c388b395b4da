//! Chronicle's queues for C: open, append, read, wait.
//!
//! C programs include `include/chronicle.h`, which is generated from this crate (`bash ci/header`), and link
//! `libchronicle_capi.a` or `.so`; `examples/queue.c` shows all of it. The header's first comment states the rules of errors,
//! ownership and threads; this is how they are kept:
//!
//! - Each function runs inside `status::guard` or `handle::with`, which turn errors and panics into a [`Status`] and a
//!   message, kept for the thread.
//! - What C passes by pointer becomes a Rust reference in `argument` and nowhere else, after a look for null. Numbers
//!   that stand for one of a few things come as integers, because an `enum` from C may hold any value.
//! - Handles are boxes. One that a panic left half done answers [`Status::Bug`] ever after.
//!
//! Never here: what a Rust caller would need, and zero-copy slices: what a frame lends was copied out of shared memory.

mod argument;
mod handle;
mod publisher;
mod status;
mod subscriber;

pub use publisher::{
    CHRONICLE_PROFILE_CLEAN, CHRONICLE_PROFILE_ORDERS, CHRONICLE_PROFILE_RAW, Publisher, PublisherOptions,
    chronicle_publisher_append, chronicle_publisher_append_wait, chronicle_publisher_close, chronicle_publisher_open,
    chronicle_publisher_sync,
};
pub use status::{Status, chronicle_last_error, chronicle_status_name};
pub use subscriber::{
    CHRONICLE_START_CURSOR, CHRONICLE_START_EARLIEST, CHRONICLE_START_LATEST, Frame, Subscriber,
    chronicle_subscriber_close, chronicle_subscriber_commit, chronicle_subscriber_open, chronicle_subscriber_read,
    chronicle_subscriber_wait,
};

/// Raised when a function or a struct of this interface changes its meaning: compare it with chronicle_abi_version().
pub const CHRONICLE_ABI_VERSION: u32 = 1;

/// The CHRONICLE_ABI_VERSION that the library was built with; the header's is the one that the program was built with.
#[unsafe(no_mangle)]
pub extern "C" fn chronicle_abi_version() -> u32 {
    CHRONICLE_ABI_VERSION
}
