//! The front door: everything a program needs, with the platform chosen.
//!
//! ```no_run
//! use chronicle::{Append, System, storage::queue};
//! use std::path::Path;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut writer = queue::Queue::publisher(&System, Path::new("/dev/shm/ticks"), queue::PublisherOptions::default())?;
//! writer.append(Append { time_ns: 1, type_id: 1, flags: 0 }, b"hello")?;
//! # Ok(()) }
//! ```
//!
//! The crates behind it: [`core`] (bytes and protocols), [`platform`] (what is asked of a system), [`storage`]
//! (queues, the WAL, archive, tiers), [`checkpoint`] (snapshots and cursors), [`bus`] (processes that find each other),
//! [`protocol`] (market-data records), [`feed`] (venues), [`etl`] (the refinery). This crate adds one thing: [`System`],
//! the platform of the machine that it is built for. It holds no code of its own.
#![forbid(unsafe_code)]

/// Processes of one host that find each other by the file system.
pub use chronicle_bus as bus;
/// Snapshots of a program's state and its consumers' cursors, and the log cut behind them.
///
/// ```no_run
/// use chronicle::{System, checkpoint::{self, Checkpoints}, storage::wal::{self, Wal}};
/// use std::path::Path;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let checkpoints = Checkpoints::open(&System, Path::new("sum/checkpoints"), &checkpoint::Options::default())?;
/// let options = wal::Options { durable_seq: checkpoints.durable_seq()?, ..wal::Options::default() };
/// let (wal, _) = Wal::open(&System, "sum/wal", &options)?;
///
/// // The newest snapshot, and every frame behind it.
/// let mut recovered = checkpoints.recover(&wal, "sum")?;
/// let mut sum = recovered.snapshot.try_into().map_or(0, u64::from_le_bytes);
/// while let Some(record) = recovered.tail.next()? {
///     sum += record.payload.len() as u64;
/// }
///
/// let seq = wal.append(b"one more")?;
/// sum += 8;
/// // Durable, then the log is cut behind it.
/// checkpoints.checkpoint(&wal, "sum", seq, &sum.to_le_bytes(), &[])?;
/// # Ok(()) }
/// ```
pub use chronicle_checkpoint as checkpoint;
pub use chronicle_core as core;
pub use chronicle_core::{Append, Frame, Payload, Trusted};
pub use chronicle_etl as etl;
pub use chronicle_feed as feed;
pub use chronicle_platform as platform;
pub use chronicle_protocol as protocol;
pub use chronicle_storage as storage;
/// Rings between processes; the system is given where a ring is made and where its ends are opened.
///
/// ```no_run
/// use chronicle::{System, ring::{self, EndOptions, RingOptions, spsc}};
/// use std::{path::Path, time::Duration};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let path = Path::new("/dev/shm/ticks");
/// ring::create(&System, path, &RingOptions::spsc(1 << 20))?;
/// let mut producer = spsc::Producer::open(&System, path, EndOptions::default())?;
/// producer.push_wait(b"hello", Duration::from_secs(1))?;
/// # Ok(()) }
/// ```
pub use chronicle_storage::ring;

#[cfg(target_os = "macos")]
pub use chronicle_platform_darwin::Darwin as System;
#[cfg(target_os = "linux")]
pub use chronicle_platform_linux::Linux as System;

/// [Event logs](chronicle_storage::eventlog) on this machine: ringlog's names, with nothing to choose.
///
/// ```no_run
/// use chronicle::eventlog::{EventHeader, MmapReader, MmapWriter, SpscRingBuffer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut producer, mut consumer) = SpscRingBuffer::new(1 << 20)?.split();
/// producer.write_event(&EventHeader::new(17, 1, 5), b"hello")?;
///
/// let mut log = MmapWriter::create("/tmp/events.log", 1 << 30)?;
/// log.drain_from(&mut consumer, 256)?;
/// log.sync()?;
///
/// let events = MmapReader::open("/tmp/events.log")?.replay(|event| println!("{}", event.header.timestamp))?;
/// assert_eq!(events, 1);
/// # Ok(()) }
/// ```
pub mod eventlog {
    pub use chronicle_storage::eventlog::*;

    /// [`chronicle_storage::eventlog::MmapReader`] of this machine.
    pub type MmapReader = chronicle_storage::eventlog::MmapReader<crate::System>;
    /// [`chronicle_storage::eventlog::MmapWriter`] of this machine.
    pub type MmapWriter = chronicle_storage::eventlog::MmapWriter<crate::System>;
}
