//! An append-only log whose acknowledgements are true: through crashes, full disks, failed syncs and recycled files.
//!
//! Use it where "durable" must mean that: events before they are acted upon, messages between processes, a replicated log.
//! Many threads append and commit at once and share writes and syncs. For values that need no sync there are
//! [`crate::queue`]s, and for whole days of data [`crate::partition`]s.
//!
//! ```text
//! append ─▶ a batch in memory ─┐   one thread leads: it writes what was gathered, and whoever else
//! append ─▶      "             ├─▶ commits meanwhile waits; then it hands over what came in between
//! append ─▶      "             ┘
//! commit(seq) returns: this frame and all before it are on the medium
//! ```
//!
//! The bytes, the order of operations and what follows from their outcomes are [`chronicle_core::wal`]'s; carrying them
//! out is a [`chronicle_platform::WalDriver`]'s. Here: files and their names, recovery, who waits for whom, readers.
//!
//! | File | Job |
//! |---|---|
//! | `options.rs` | how a log is kept |
//! | `open.rs` | the lock, recovery, going on or taking over |
//! | `writer.rs` | appending; what is under way; making room |
//! | `commit.rs` | waiting for durability: leading, sleeping, futures, callbacks |
//! | `upkeep.rs` | segments made ahead, published, recycled |
//! | `recover.rs`, `scan.rs` | what a log holds, found out before anybody writes to it |
//! | `reader.rs` | reading, live or long after, from any process |
//! | `inspect.rs`, `verify.rs`, `cut.rs` | for operators: what it is, whether it is intact, the way out if it is not |
//! | `names.rs`, `state.rs` | files of a log; what its writer tells readers |
//!
//! **What it never does.** It acknowledges nothing before the write or sync that covers it has succeeded, and nothing at all
//! after one has failed: no retry can tell what the medium has ([`Wal::commit`]). It appends nothing that it has no room to
//! write. It repairs nothing in silence: [`Recovery`] says what was cut, and damage before what was durable is an error with
//! file and offset. Dropping a log flushes nothing; [`Wal::close`] does.
//!
//! **What a commit is worth** is in [`Wal::mode`]: on a file system in memory nothing is durable, and it says so.

mod commit;
mod cut;
mod inspect;
mod names;
mod open;
mod options;
mod reader;
mod recover;
mod scan;
mod state;
mod upkeep;
mod verify;
mod writer;

pub use commit::{Commit, CommitError};
pub use cut::{CutPlan, Lost, cut, plan_cut};
pub use inspect::{
    DescribedBatches, DescribedHeader, DescribedSegment, Description, Place, SegmentState, Writer, inspect,
};
#[cfg(feature = "planted")]
pub use options::Planted;
pub use options::{Options, SyncPolicy, Threads, Verify};
pub use reader::{ReadError, ReaderOptions, Record, Waited, WalReader};
pub use recover::{Cut, Recovery};
pub use verify::{Verified, verify};
pub use writer::{AppendError, BatchError, Stats, Wal};
