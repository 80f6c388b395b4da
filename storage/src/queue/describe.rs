//! What a queue looks like from outside, for people and for `inspect`: read-only, and without a lock.
//!
//! A live queue changes while it is looked at; segments that retire meanwhile are left out.

use super::{
    control::{Control, age, tick},
    cursor::{self, Position},
    index,
    layout::{ABORTED, HEARTBEAT, META_LEN, OLDEST, RECYCLED, REFUSED, ROLLS, UNLOCKED},
    missing::{Chain, MissingSegment, missing},
    names::Names,
    segment::{Head, head, ids},
};
use crate::{Error, Result};
use chronicle_core::{Checksum, Clock, Reader, Step, wake};
use chronicle_platform::{File, Lock, Medium, Open, Platform, TroubleKind};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// A heartbeat younger than this is one of a writer that is there.
const FRESH: Duration = Duration::from_secs(1);

/// A queue.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// Identity, in hexadecimal.
    pub queue_id: String,
    /// When it was made, ns since 1970.
    pub created_ns: u64,
    /// Crashes of the machine that it has seen.
    pub epoch: u32,
    /// Whether its last writer closed it in order.
    pub closed: bool,
    /// Whether a writer has it now.
    pub writer: bool,
    /// Age of the writer's heartbeat, in ns.
    pub heartbeat_age_ns: u64,
    /// Whether it lies in memory that dies with the machine.
    pub in_memory: bool,
    /// The machine died and no writer has opened it since.
    pub unrecovered: bool,
    /// Length of new segments.
    pub segment_len: u32,
    /// Budget.
    pub max_bytes: u64,
    /// Bytes that segments take.
    pub used_bytes: u64,
    /// Segments kept ready.
    pub segments_ahead: u32,
    /// `asymmetric` or `fence`.
    pub wake_mode: &'static str,
    /// `frame` or `commit-word`.
    pub checksum: &'static str,
    /// `ingest` or `exchange`.
    pub clock: &'static str,
    /// Segment, offset and next seq up to which it is durable.
    pub synced: (u64, u32, u64),
    /// No frame has a higher seq.
    pub seq_bound: u64,
    /// The seq that the next frame gets; `None` without segments.
    pub next_seq: Option<u64>,
    /// Counters of the queue's life, as its writers last stored them.
    pub counters: DescribedCounters,
    /// Readers that retention waits for, dead or alive.
    pub required: Vec<String>,
    /// Segments, oldest first.
    pub segments: Vec<DescribedSegment>,
    /// Segments that somebody took away, oldest first.
    pub missing: Vec<MissingSegment>,
    /// Readers with a cursor file.
    pub readers: Vec<DescribedReader>,
}

/// A queue's counters.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DescribedCounters {
    /// Segments that ended.
    pub rolls: u64,
    /// Segments used again.
    pub recycled: u64,
    /// Appends refused because nothing was ready.
    pub refused: u64,
    /// Appends that dead writers left in progress.
    pub aborted_records: u64,
}

/// How far a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentState {
    /// Not part of the stream yet.
    Prepared,
    /// Written to.
    Current,
    /// Has its `End`, not its seal.
    Ended,
    /// Final.
    Sealed,
}

/// A segment.
#[derive(Clone, Debug, Serialize)]
pub struct DescribedSegment {
    /// Its id.
    pub segment_id: u64,
    /// Its file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u32,
    /// Epoch in which it was made.
    pub epoch: u32,
    /// When it was made.
    pub created_ns: u64,
    /// How far it is.
    pub state: SegmentState,
    /// Seq of its first frame.
    pub first_seq: Option<u64>,
    /// Frames.
    pub count: u64,
    /// Where its frames end.
    pub end: u64,
    /// Smallest and largest time; `None` without frames.
    pub times: Option<(u64, u64)>,
}

/// A reader.
#[derive(Clone, Debug, Serialize)]
pub struct DescribedReader {
    /// Its name.
    pub name: String,
    /// Whether retention waits for it, dead or alive.
    pub required: bool,
    /// Whether a process has it open.
    pub open: bool,
    /// The next seq that its cursor says; `None` if it never committed or its cursor is another queue's.
    pub seq: Option<u64>,
    /// Segment and offset that its cursor says.
    pub at: Option<(u64, u32)>,
    /// Its durable cursor's next seq.
    pub durable_seq: Option<u64>,
    /// The segment that it stands in, as it last said.
    pub reading: u64,
    /// Frames between its cursor and the tail.
    pub lag: Option<u64>,
    /// Why its file cannot be read.
    pub error: Option<String>,
}

/// Describes the queue at `path`. Reads at most a 256th of a segment that is not sealed.
///
/// # Errors
///
/// There is no queue, its control file or a segment's header is damaged, or the system's.
pub fn describe<P: Platform>(platform: &P, path: &Path) -> Result<Description> {
    let names = Names::new(path);
    let control_path = names.control();
    let file = platform.open(&control_path, Open::Read)?;
    let control = Control::read::<P>(&control_path, &file)?;
    let mut live = vec![0; META_LEN];
    file.read_at(&mut live, 0)?;
    let word64 = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| live[at + byte]));
    let heartbeat = word64(HEARTBEAT) as u32;
    // Somebody may keep the lock from a writer that is there.
    let beats = word64(UNLOCKED) as u32 != 0 && age(tick(platform), heartbeat) <= FRESH;
    let writer = match platform.open(&names.alive_lock(), Open::Read) {
        Ok(file) => !file.try_lock(Lock::Shared)? || beats,
        Err(trouble) if trouble.kind() == TroubleKind::NotFound => false,
        Err(trouble) => return Err(trouble.into()),
    };

    let oldest = word64(OLDEST);
    let mut segments = Vec::new();
    let mut chain = Chain { writer, ..Chain::default() };
    for id in ids(platform, &names)? {
        let path = names.segment(id);
        let file = match platform.open(&path, Open::Read) {
            Ok(file) => file,
            Err(trouble) if trouble.kind() == TroubleKind::NotFound => continue,
            Err(trouble) => return Err(trouble.into()),
        };
        if !file.try_lock(Lock::Shared)? {
            continue;
        }
        match head::<P>(&path, &file, id, control.queue_id) {
            Ok(head) => {
                chain.links.push((id, head.header.predecessor_id));
                segments.push(segment(platform, &names, &file, &head)?);
            }
            Err(_) if id < oldest || !platform.exists(&path)? => {}
            Err(error) => return Err(error),
        }
    }
    let next_seq =
        segments.iter().rev().find_map(|segment: &DescribedSegment| Some(segment.first_seq? + segment.count));
    let newest = segments.iter().rev().find(|segment| segment.state != SegmentState::Prepared);
    chain.newest_ended = newest.filter(|newest| newest.state != SegmentState::Current).map(|newest| newest.segment_id);
    let unrecovered = control.is_unrecovered(platform);
    let missing = if unrecovered { Vec::new() } else { missing(platform, &names, &control, &chain)? };
    let mut readers = Vec::new();
    for (name, path) in cursor::list(platform, &names)? {
        let required = control.state.required.contains(&name);
        readers.push(reader(platform, &control, name.to_string(), &path, required, next_seq)?);
    }
    let state = &control.state;
    Ok(Description {
        queue_id: control.queue_id.iter().map(|byte| format!("{byte:02x}")).collect(),
        created_ns: control.created_ns,
        epoch: state.epoch,
        closed: state.closed,
        writer,
        heartbeat_age_ns: u64::try_from(age(tick(platform), heartbeat).as_nanos()).unwrap_or(u64::MAX),
        in_memory: platform.medium(path)? == Medium::Memory,
        unrecovered,
        segment_len: state.segment_len,
        max_bytes: state.max_bytes,
        used_bytes: segments.iter().map(|segment| u64::from(segment.bytes)).sum(),
        segments_ahead: state.segments_ahead,
        wake_mode: match state.wake_mode {
            wake::Mode::Asymmetric => "asymmetric",
            wake::Mode::Fence => "fence",
        },
        checksum: match state.checksum {
            Checksum::Frame => "frame",
            Checksum::CommitWord => "commit-word",
        },
        clock: match state.clock {
            Clock::Ingest => "ingest",
            Clock::Exchange => "exchange",
        },
        synced: (state.synced.segment, state.synced.offset, state.synced.seq),
        seq_bound: state.seq_bound,
        next_seq,
        counters: DescribedCounters {
            rolls: word64(ROLLS),
            recycled: word64(RECYCLED),
            refused: word64(REFUSED),
            aborted_records: word64(ABORTED),
        },
        required: state.required.iter().map(ToString::to_string).collect(),
        segments,
        missing,
        readers,
    })
}

/// The segment whose file is open and locked; where it is not sealed its tail is looked for.
fn segment<P: Platform>(platform: &P, names: &Names, file: &P::File, head: &Head) -> Result<DescribedSegment> {
    let path = names.segment(head.id);
    let mut described = DescribedSegment {
        segment_id: head.id,
        path,
        bytes: head.header.segment_len,
        epoch: head.header.epoch,
        created_ns: head.header.created_ns,
        state: SegmentState::Prepared,
        first_seq: head.begin.map(|begin| begin.first_seq),
        count: 0,
        end: chronicle_core::layout::HEADER_LEN as u64,
        times: None,
    };
    let Some(begin) = head.begin else { return Ok(described) };
    if let Some(seal) = head.seal {
        described.state = SegmentState::Sealed;
        described.count = seal.count;
        described.end = seal.end;
        described.times = (seal.count > 0).then_some((seal.min_time, seal.max_time));
        return Ok(described);
    }
    let map = platform.map(file, head.header.segment_len as usize)?;
    let places = index::load(platform, &names.index(head.id), &head.header);
    let damaged = |damage| Error::damage(names.segment(head.id), damage);
    let (mut reader, mut times) = match places.last() {
        Some(place) => {
            (Reader::attach_at(&map, place.offset, place.seq).map_err(damaged)?, (place.min_time, place.max_time))
        }
        None => (Reader::attach(&map).map_err(damaged)?, (u64::MAX, 0)),
    };
    described.state = loop {
        match reader.step() {
            Ok(Step::Frame(_)) => {}
            Ok(Step::End { .. }) => break SegmentState::Ended,
            // Behind damage nothing is known; `verify` names it.
            Ok(Step::Open) | Err(_) => break SegmentState::Current,
        }
    };
    let mark = reader.mark();
    if let Some((min, max)) = mark.times() {
        times = (times.0.min(min), times.1.max(max));
    }
    described.count = mark.next_seq() - begin.first_seq;
    described.end = mark.offset().into();
    described.times = (times.0 <= times.1).then_some(times);
    Ok(described)
}

fn reader<P: Platform>(
    platform: &P,
    control: &Control,
    name: String,
    path: &Path,
    required: bool,
    next_seq: Option<u64>,
) -> Result<DescribedReader> {
    let open = match platform.open(path, Open::Read) {
        Ok(file) => !file.try_lock(Lock::Shared)?,
        Err(_) => false,
    };
    let mut described = DescribedReader {
        name,
        required,
        open,
        seq: None,
        at: None,
        durable_seq: None,
        reading: 0,
        lag: None,
        error: None,
    };
    match cursor::view(platform, path) {
        Ok(view) => {
            let ours = |position: &Position| position.queue_id == control.queue_id;
            let cursor = view.cursor.filter(ours);
            described.seq = cursor.map(|cursor| cursor.seq);
            described.at = cursor.map(|cursor| (cursor.segment_id, cursor.offset));
            described.durable_seq = view.durable.filter(ours).map(|durable| durable.seq);
            described.reading = view.reading;
            described.lag = cursor.and_then(|cursor| Some(next_seq?.saturating_sub(cursor.seq)));
        }
        Err(error) => described.error = Some(error.to_string()),
    }
    Ok(described)
}
