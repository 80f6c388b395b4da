//! What a log's files are, for people and for `--json`.
//!
//! Headers and batches are read, and what they say is put side by side. It judges only as far as recovery does: a log that
//! cannot be opened is described all the same, with the reason beside it. Nothing is written and no lock is taken; of a log
//! that is being written only what its writer says is durable is looked at.

use super::{
    Recovery,
    names::{self, Named, Names},
    recover::{Looking, hex, look},
    scan::{Segment, Walk, Window},
    state::{StateReader, is_alive},
};
use crate::{Error, Result};
use chronicle_core::wal::{Header, Position, layout::BATCH_FRAME_LEN, layout::FRAME_OVERHEAD};
use chronicle_platform::{File, Open, Platform};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A log.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Description {
    /// Its directory.
    pub path: PathBuf,
    /// Its identity, hex; of the newest segment that can be read.
    pub wal_id: Option<String>,
    /// Who has it open.
    pub writer: Writer,
    /// What opening it would find; nothing if it would be refused.
    pub recovery: Option<Recovery>,
    /// Why it would be refused.
    pub problem: Option<String>,
    /// Its segments, by id, dead ones included.
    pub segments: Vec<DescribedSegment>,
    /// Files ready to become segments.
    pub spares: u64,
    /// Files that a crash left, which the next writer removes.
    pub leftovers: Vec<PathBuf>,
    /// Segments that were put aside by hand.
    pub cut: Vec<PathBuf>,
}

/// Who has a log open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Writer {
    /// Nobody.
    None,
    /// Somebody.
    Alive {
        /// Newest record that is durable, if it says so.
        durable_seq: Option<u64>,
        /// A write or a sync has failed: nothing more becomes durable.
        poisoned: bool,
    },
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The segment; 0 = before the first.
    pub segment: u64,
    /// Offset in its file.
    pub offset: u64,
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        Place { segment: position.segment, offset: position.offset }
    }
}

/// What a segment is to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentState {
    /// Another one follows.
    Ended,
    /// The newest one: of a living writer, or of a dead one up to where its frames are good.
    Current,
    /// The newest one, closed in order.
    Closed,
    /// No part of the log.
    Dead,
    /// Its header cannot be believed.
    Damaged,
}

/// A segment's file.
#[derive(Clone, Debug, Serialize)]
pub struct DescribedSegment {
    /// It.
    pub path: PathBuf,
    /// Its id, by its name.
    pub id: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// What it is to its log.
    pub state: SegmentState,
    /// What its header says; nothing if that cannot be believed.
    pub header: Option<DescribedHeader>,
    /// What its batches hold; nothing without a header.
    pub batches: Option<DescribedBatches>,
    /// What is wrong with it, if anything is; of the newest segment also what its last batch lacks.
    pub fault: Option<String>,
}

/// A header.
#[derive(Clone, Debug, Serialize)]
pub struct DescribedHeader {
    /// The log's identity, hex.
    pub wal_id: String,
    /// Segment before this one; 0 = none.
    pub predecessor_id: u64,
    /// Where that one's accepted batches end.
    pub predecessor_end: u64,
    /// Up to where all was durable when this was made.
    pub durable: Place,
    /// Newest record before that place.
    pub durable_seq: u64,
    /// Its first record.
    pub first_seq: u64,
    /// Length of the file when it was made.
    pub segment_len: u64,
    /// When it was made, ns since 1970.
    pub created_ns: u64,
    /// What batches begin at multiples of.
    pub block_size: u32,
    /// Length of the largest batch.
    pub batch_len: u32,
    /// Takeovers that the log had seen.
    pub epoch: u32,
    /// Starting value of its checksums.
    pub salt: u32,
}

impl From<&Header> for DescribedHeader {
    fn from(header: &Header) -> Self {
        DescribedHeader {
            wal_id: hex(&header.wal_id),
            predecessor_id: header.predecessor_id,
            predecessor_end: header.predecessor_end,
            durable: header.durable.into(),
            durable_seq: header.durable_seq,
            first_seq: header.first_seq,
            segment_len: header.segment_len,
            created_ns: header.created_ns,
            block_size: header.block_size,
            batch_len: header.batch_len,
            epoch: header.epoch,
            salt: header.salt,
        }
    }
}

/// What a segment's good batches hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DescribedBatches {
    /// How many are whole.
    pub count: u64,
    /// Records.
    pub records: u64,
    /// Newest record, if there is one.
    pub last_seq: Option<u64>,
    /// Vote, meta and truncate frames, the one at the segment's head included.
    pub controls: u64,
    /// Bytes of the payloads of all these.
    pub payload_bytes: u64,
    /// Bytes that fill batches up to whole blocks.
    pub pad_bytes: u64,
    /// Where good frames end.
    pub end: u64,
    /// The furthest place that the header or a batch says was durable.
    pub durable: Place,
}

/// Describes the log in `dir`.
///
/// # Errors
///
/// It cannot be listed, or it holds nothing of a log; the system's. Damage is described.
pub fn inspect<P: Platform>(platform: &P, dir: impl AsRef<Path>) -> Result<Description> {
    let names = Names::new(dir.as_ref());
    let (mut ids, mut spares, mut leftovers, mut cut) = (Vec::new(), 0, Vec::new(), Vec::new());
    for entry in platform.list(names.dir())? {
        let path = names.dir().join(&entry.name);
        match names::parse(&entry.name) {
            Named::Segment(id) => ids.push(id),
            Named::Spare(_) => spares += 1,
            Named::Next(_) | Named::MakingSpare(_) => leftovers.push(path),
            Named::Cut(_) => cut.push(path),
            Named::Other => {}
        }
    }
    if ids.is_empty() && spares == 0 && leftovers.is_empty() && cut.is_empty() {
        let what = "no log: no file of one is there".into();
        return Err(Error::Options { path: names.dir().to_path_buf(), what });
    }
    let mut opened = Vec::new();
    for id in ids {
        match Segment::open(platform, &names, id, Open::Read) {
            Err(error) if error.is_not_found() => {}
            found => opened.push((id, found)),
        }
    }
    let wal_id = opened.iter().rev().find_map(|(_, segment)| Some(segment.as_ref().ok()?.header.wal_id));
    let (writer, limit) = writer(platform, &names, wal_id)?;
    let found = match look(platform, &names, &Looking { limit, ..Looking::default() }) {
        Err(Error::Trouble(trouble)) => return Err(trouble.into()),
        found => found,
    };
    let headers: Vec<Header> = opened.iter().filter_map(|(_, found)| Some(found.as_ref().ok()?.header)).collect();
    let mut segments = Vec::new();
    for (id, segment) in opened {
        let path = names.segment(id);
        let file_bytes = platform.open(&path, Open::Read).and_then(|file| file.len()).unwrap_or(0);
        let described = match segment {
            Err(error) => DescribedSegment {
                path,
                id,
                file_bytes,
                state: SegmentState::Damaged,
                header: None,
                batches: None,
                fault: Some(error.to_string()),
            },
            Ok(segment) => {
                // Of several that name this one as the one before, the newest counts.
                let next = headers.iter().rev().find(|header| header.predecessor_id == id);
                let here = limit.filter(|limit| limit.segment == id).map(|limit| limit.offset);
                let to = next.map(|next| next.predecessor_end).or(here);
                let mut walk = Walk::start(&segment);
                walk.on(&segment, &mut Window::default(), to, |_| Ok(()))?;
                let dead = found.as_ref().is_ok_and(|found| found.report.dead.contains(&id));
                let state = match (dead, next.is_some(), walk.closed) {
                    (true, _, _) => SegmentState::Dead,
                    (_, true, _) => SegmentState::Ended,
                    (_, _, true) => SegmentState::Closed,
                    (_, _, false) => SegmentState::Current,
                };
                let torn = walk.fault.filter(|_| to.is_some() || walk.torn_end.is_some());
                DescribedSegment {
                    path,
                    id,
                    file_bytes,
                    state,
                    header: Some(DescribedHeader::from(&segment.header)),
                    batches: Some(batches(&walk)),
                    fault: torn.map(|damage| damage.to_string()),
                }
            }
        };
        segments.push(described);
    }
    let (recovery, problem) = match found {
        Ok(found) => (Some(found.report), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(Description {
        path: names.dir().to_path_buf(),
        wal_id: wal_id.map(|id| hex(&id)),
        writer,
        recovery,
        problem,
        segments,
        spares,
        leftovers,
        cut,
    })
}

fn batches(walk: &Walk) -> DescribedBatches {
    let frames = walk.batches * BATCH_FRAME_LEN as u64
        + (walk.records + walk.controls) * FRAME_OVERHEAD as u64
        + walk.payload_bytes;
    DescribedBatches {
        count: walk.batches,
        records: walk.records,
        last_seq: (walk.records > 0).then(|| walk.next_seq - 1),
        controls: walk.controls,
        payload_bytes: walk.payload_bytes,
        pad_bytes: (walk.boundary - walk.start).saturating_sub(frames),
        end: walk.end,
        durable: walk.claim.durable.into(),
    }
}

/// Who has the log open, and up to where it may be looked at.
pub(super) fn writer<P: Platform>(
    platform: &P,
    names: &Names,
    wal_id: Option<[u8; 16]>,
) -> Result<(Writer, Option<Position>)> {
    if !is_alive(platform, names)? {
        return Ok((Writer::None, None));
    }
    let Some(wal_id) = wal_id else { return Ok((Writer::Alive { durable_seq: None, poisoned: false }, None)) };
    let said = StateReader::new(platform, names, wal_id).look()?;
    // Before its first word it has only looked.
    let limit = said.map(|said| said.durable).filter(|durable| durable.segment != 0);
    let poisoned = said.is_some_and(|said| said.poisoned);
    Ok((Writer::Alive { durable_seq: said.map(|said| said.durable_seq), poisoned }, limit))
}
