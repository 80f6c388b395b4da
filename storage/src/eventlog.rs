//! Event logs: a ring between two threads, and one file of events that a reader replays.
//!
//! Use this for what the ringlog crate is used for: a hot path that hands small events to another thread, a file that
//! keeps them, consumers that are fed in batches. Names, bytes and meaning are ringlog's, so a program that uses it moves
//! over by changing its imports, and files are read both ways. For many readers, many processes or retention, use
//! [`crate::queue`].
//!
//! | Type | What it is |
//! |---|---|
//! | [`RingBuffer`] | events in memory, one thread |
//! | [`SpscRingBuffer`] | events from one thread to another, over [`chronicle_core::ring::spsc`] |
//! | [`MmapWriter`], [`MmapReader`] | a log file: append and replay |
//! | [`LogWriter`], [`LogReader`] | the same log in a region of the caller's, with no file behind it |
//! | [`EventDispatcher`], [`EventConsumer`] | events handed to consumers, counted for each |
//!
//! Where ringlog keeps silent, this says it. An event that does not fit is an error, and nothing of it is written: a log
//! grows until its limit, and `event_count` is what landed. A file that is not ours or is damaged is refused, with the
//! place. Whoever is killed leaves a whole prefix. Replaying allocates nothing and copies nothing.
//!
//! Never here: a clock. Timestamps are the caller's. No slice of a mapping is formed unless the program says so
//! ([`chronicle_core::Trusted`]). `docs/format.md`, "Event logs", draws the file.
//!
//! ```
//! # use chronicle_platform::sim::Sim;
//! # use std::path::Path;
//! use chronicle_storage::eventlog::{EventHeader, MmapReader, MmapWriter, Options};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (system, path) = (Sim::new(1), Path::new("/events.log"));
//! let bounded = Options { capacity: 1 << 15, max_bytes: 1 << 15, ..Options::default() };
//! let mut writer = MmapWriter::create_with(&system, path, bounded)?;
//! writer.write_event(&EventHeader::new(17, 1, 5), b"hello")?;
//! writer.sync()?;
//!
//! let reader = MmapReader::open_on(&system, path)?;
//! let count = reader.replay(|event| {
//!     let mut payload = [0; 5];
//!     event.payload.copy_to(&mut payload);
//!     assert_eq!((event.header.timestamp, &payload), (17, b"hello"));
//! })?;
//! assert_eq!(count, 1);
//! # Ok(()) }
//! ```

mod dispatch;
mod error;
mod file;
mod growth;
mod layout;
mod log;
mod replay;
mod ring;
mod spsc;

pub use dispatch::{ConsumerStats, DrainStats, EventConsumer, EventDispatcher, EventSource};
pub use error::{RingError, WriteError};
pub use file::{MmapReader, MmapWriter, Options, Recovered};
pub use layout::{EventHeader, FileHeader, MAX_EVENT};
pub use log::LogWriter;
pub use replay::{EventView, Events, LogReader};
pub use ring::RingBuffer;
pub use spsc::{Consumer, Producer, SpscRingBuffer};
