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
//! (queues, archive, tiers), [`protocol`] (market-data records), [`feed`] (venues), [`etl`] (the refinery). This crate
//! adds one thing: [`System`], the platform of the machine that it is built for. It holds no code of its own.
#![forbid(unsafe_code)]

pub use chronicle_core as core;
pub use chronicle_core::{Append, Frame, Payload, Trusted};
pub use chronicle_etl as etl;
pub use chronicle_feed as feed;
pub use chronicle_platform as platform;
pub use chronicle_protocol as protocol;
pub use chronicle_storage as storage;

#[cfg(target_os = "macos")]
pub use chronicle_platform_darwin::Darwin as System;
#[cfg(target_os = "linux")]
pub use chronicle_platform_linux::Linux as System;
