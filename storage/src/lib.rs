//! Queues of many segments, day partitions, seekable archives, and one reader over all of them.
//!
//! Use [`queue`] to hand events from one process to many at memory speed and keep them over crashes; [`partition`] to
//! write a day of a symbol to a file that is the same bytes whenever it is made again; [`reader`] to read such a day
//! wherever it lies by now, hot, warm or cold. The bytes are core's segments on every tier; the medium decides how they
//! are reached (`mmap`, `read`, decompression), never what they mean.
//!
//! | Module | What it holds |
//! |---|---|
//! | [`root`] | where tiers lie, names in paths, partitions' identities |
//! | [`partition`] | files that grow through a buffer: the writer that a checkpoint resumes, and the reader |
//! | [`recorder`], [`raw`] | raw segments kept as files, and the raw stream read across files and queue |
//! | [`reader`] | partitions on any tier through one iterator; any file by its magic bytes |
//! | [`archive`] | cold files: seekable zstd, its tables and index |
//! | [`tier`] | what moves from warm to cold, and how |
//! | [`ring`](mod@ring) | rings between processes: locks, waiting, death |
//! | [`eventlog`] | a ring, one file of events, dispatch: ringlog's names and bytes |
//! | [`wal`] | the write-ahead log: durable appends, recovery, readers |
//! | [`verify`](mod@verify), [`inspect`](mod@inspect) | is it intact, and what is it |
//! | [`meta`], [`tally`] | `meta.json` beside a day's partitions, and what it counts of them |
//!
//! Everything is generic over [`chronicle_platform::Platform`]: the same code runs on Linux and on the simulator that
//! loses power. Nothing here parses a payload (but [`tally`] looks at one byte), knows a venue, opens a socket or contains
//! unsafe code; no manifest is kept, the file system is the index.
#![forbid(unsafe_code)]

pub mod archive;
pub mod error;
pub mod eventlog;
mod growing;
pub mod inspect;
pub mod meta;
pub mod partition;
pub mod queue;
pub mod raw;
pub mod reader;
pub mod recorder;
pub mod ring;
pub mod root;
pub mod tally;
pub mod tier;
mod time;
pub mod verify;
pub mod wal;

pub use error::{Error, ErrorKind, Result};
