//! Segments whose files somebody took away.
//!
//! A segment leaves a queue at its old end alone, and `control.meta` says which one is the oldest. So a younger one that is
//! not there, although something names it, was moved or removed, and its frames with it:
//!
//! ```text
//! what names it                                  when that was stored
//! the segment behind it, as its predecessor      when that was made
//! the live word "oldest"                         when those before it had retired
//! the synced position                            when it had begun
//! the End of the segment before it               when it had begun; while a writer is there that is in it
//! ```
//!
//! The writer looks for the names of all that it has, too (`upkeep.rs`), and leaves a segment that nobody finds any more.
//!
//! Never here: a repair. Put back under its name, the file is the queue's again; nothing else brings its frames back.

use super::{control::Control, layout::OLDEST, names::Names, segment::ids};
use crate::{Error, Result};
use chronicle_platform::{File, Open, Platform};
use serde::Serialize;
use std::{collections::BTreeMap, path::PathBuf};

/// A segment that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingSegment {
    /// Its id.
    pub segment_id: u64,
    /// Where it should be.
    pub path: PathBuf,
    /// What says that it was there.
    pub evidence: String,
}

impl MissingSegment {
    pub(crate) fn new(names: &Names, segment_id: u64, evidence: String) -> Self {
        MissingSegment { segment_id, path: names.segment(segment_id), evidence }
    }

    pub(crate) fn to_error(&self) -> Error {
        Error::malformed(&self.path, 0, format!("missing, although {}", self.evidence))
    }
}

/// What was found of a queue's segments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    /// Segment and predecessor of each that is there.
    pub(crate) links: Vec<(u64, u64)>,
    /// The newest one that has begun, if it has its `End`.
    pub(crate) newest_ended: Option<u64>,
    /// A writer is there.
    pub(crate) writer: bool,
}

/// Segments that are missing, oldest first. Of a queue on which nobody is at work but its writer, whose machine has not died
/// under it: recovery removes segments.
pub(crate) fn missing<P: Platform>(
    platform: &P,
    names: &Names,
    control: &Control,
    chain: &Chain,
) -> Result<Vec<MissingSegment>> {
    let oldest = || -> Result<u64> {
        let mut word = [0; 8];
        platform.open(&names.control(), Open::Read)?.read_at(&mut word, OLDEST as u64)?;
        Ok(u64::from_le_bytes(word))
    };
    let from = oldest()?;
    if from == 0 {
        // No writer has come so far as to have a segment.
        return Ok(Vec::new());
    }
    let mut named = BTreeMap::from([(from, "control.meta says that it is the oldest one".to_owned())]);
    named.insert(control.state.synced.segment, "control.meta has the synced position in it".to_owned());
    if let Some(newest) = chain.newest_ended.filter(|_| chain.writer) {
        // The next one has begun, and a writer that begins it has made it; one that was listed too early is there now.
        let current = control.state.last_segment.max(newest + 1);
        if ids(platform, names)?.iter().all(|id| *id <= newest) {
            named.insert(current, format!("segment {newest} has ended and the writer goes on"));
        }
    }
    for (id, predecessor) in chain.links.iter().filter(|(id, predecessor)| predecessor < id) {
        named.insert(*predecessor, format!("segment {id} follows it"));
    }
    let mut missing = Vec::new();
    for (id, evidence) in named.into_iter().filter(|(id, _)| *id >= from) {
        let is_there = chain.links.iter().any(|(there, _)| *there == id)
            || platform.exists(&names.segment(id))?
            // It is leaving.
            || platform.exists(&names.retired(id))?;
        // Or it has left while we looked.
        if !is_there && id >= oldest()? {
            missing.push(MissingSegment::new(names, id, evidence));
        }
    }
    Ok(missing)
}
