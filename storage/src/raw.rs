//! A venue's raw stream, read across recorded files and the hot queue without gap or repeat.
//!
//! ```text
//! {warm,cold}/raw/v1/{venue}/{date}/{queue id}-{first seq}.q[.zst]     segments that the recorder kept
//! hot/streams/raw/{venue}/queue/                                       what is not recorded yet, and what comes
//! ```
//!
//! A raw frame is addressed by (queue id, seq), a [`RawCursor`]. [`RawReader`] goes through each queue's files in the
//! order of seqs, then, if that queue is still the hot one, goes on in it live; queues follow one another in the order
//! in which they were made. What lies in two places is read once, what lies in none although frames behind it exist is
//! told: [`RawEvent::Lost`].
//!
//! It keeps no cursor and holds nothing back: whoever reads to make something of it stores [`RawReader::cursor`] with
//! what was made. It never writes.

use crate::{
    Error, Result,
    reader::{FrameFile, list},
    root::{Date, Name, RawName, Root, Tier},
};
use chronicle_core::Frame;
use chronicle_platform::Platform;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    time::Duration,
};

/// A raw frame's address: reading goes on behind it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RawCursor {
    /// The queue that it came through.
    pub queue_id: [u8; 16],
    /// Its number there.
    pub seq: u64,
}

impl fmt::Display for RawCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}", u128::from_be_bytes(self.queue_id), self.seq)
    }
}

impl fmt::Debug for RawCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What comes next in a raw stream.
#[derive(Clone, Copy, Debug)]
pub enum RawEvent<'a> {
    /// A frame.
    Frame(RawFrame<'a>),
    /// Frames that exist nowhere any more, though ones behind them do: a crash of the machine took them, or files were
    /// removed.
    Lost {
        /// Their queue.
        queue_id: [u8; 16],
        /// The first.
        from: u64,
        /// The last that it may have been; a crash does not tell how many there were.
        to: u64,
    },
}

/// A raw frame. Its payload is always in private memory: `payload.as_slice(None)` gives the bytes.
#[derive(Clone, Copy, Debug)]
pub struct RawFrame<'a> {
    /// The queue that it came through.
    pub queue_id: [u8; 16],
    /// Seq, ingest time, type and payload.
    pub frame: Frame<'a>,
}

/// A recorded raw segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFile {
    /// Queue and first seq.
    pub name: RawName,
    /// UTC day of its first ingest time.
    pub date: Date,
    /// The fastest tier that has it.
    pub tier: Tier,
    /// Where.
    pub path: PathBuf,
}

/// A venue's recorded raw segments, by queue id and first seq; one that lies on two tiers is listed once.
///
/// # Errors
///
/// Trouble.
pub fn files<P: Platform>(platform: &P, root: &Root, venue: &Name) -> Result<Vec<RawFile>> {
    let mut found = BTreeMap::new();
    // Warm before cold: a file that moves is published in its new place before it leaves the old one, so in this order
    // no file is missed.
    for tier in [Tier::Warm, Tier::Cold] {
        let dir = root.raw(tier, venue);
        for day in list(platform, &dir)?.into_iter().filter(|entry| entry.is_dir) {
            let Ok(date) = day.name.parse::<Date>() else { continue };
            for entry in list(platform, &dir.join(&day.name))? {
                if let Some(name) = RawName::of_file(&entry.name).filter(|_| !entry.is_dir) {
                    let path = dir.join(&day.name).join(&entry.name);
                    found.entry(name).or_insert(RawFile { name, date, tier, path });
                }
            }
        }
    }
    Ok(found.into_values().collect())
}
