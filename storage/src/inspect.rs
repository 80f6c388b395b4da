//! What is it? A queue, a segment, a partition, a cold file or a day, described for people and for `--json`.
//!
//! [`inspect`] looks at a path and says what its headers, seals and tables say: identity, counts, ranges, the tail of
//! what still grows, a queue's readers. Of sealed files it believes the seal and reads no frame; of a growing one it
//! reads all, to find its end. It judges nothing beyond that: [`crate::verify`] does.

use crate::{
    Error, Result,
    archive::{ColdFile, index_path, layout::ZSTD_MAGIC},
    meta::Meta,
    partition::{PartitionFile, Tail},
    queue,
    root::META,
};
use chronicle_core::{
    Begin, Checksum, Clock, Header, Seal,
    layout::{HEADER_LEN, MAGIC},
};
use chronicle_platform::{File, Open, Platform};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What a path is.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Description {
    /// A queue's directory.
    Queue(Box<queue::Description>),
    /// A file of a queue.
    Segment(Segment),
    /// A partition or a recorded raw file.
    Partition(Partition),
    /// A cold file.
    Archive(Archive),
    /// The directory of a symbol's day, or of recorded raw files.
    Day(Day),
}

/// A header, in words.
#[derive(Clone, Debug, Serialize)]
pub struct HeaderText {
    /// Identity of the queue or partition, hex.
    pub queue_id: String,
    /// Position in the queue.
    pub segment_id: u64,
    /// Crashes of the machine that the queue has seen.
    pub epoch: u32,
    /// Starting value of checksums.
    pub salt: u32,
    /// Segment before this one; 0 = none.
    pub predecessor_id: u64,
    /// Where its accepted frames end; 0 = at its `End`.
    pub predecessor_end: u32,
    /// When it was made, ns since 1970; 0 = not recorded.
    pub created_ns: u64,
    /// Length of a queue's segment; 0 = a partition.
    pub segment_len: u32,
    /// `ingest` or `exchange`.
    pub clock: &'static str,
    /// `frame` or `commit-word`.
    pub checksum: &'static str,
}

impl From<&Header> for HeaderText {
    fn from(header: &Header) -> Self {
        HeaderText {
            queue_id: hex(&header.queue_id),
            segment_id: header.segment_id,
            epoch: header.epoch,
            salt: header.salt,
            predecessor_id: header.predecessor_id,
            predecessor_end: header.predecessor_end,
            created_ns: header.created_ns,
            segment_len: header.segment_len,
            clock: match header.clock {
                Clock::Ingest => "ingest",
                Clock::Exchange => "exchange",
            },
            checksum: match header.checksum {
                Checksum::Frame => "frame",
                Checksum::CommitWord => "commit-word",
            },
        }
    }
}

/// Which frames a file has.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Frames {
    /// How many.
    pub count: u64,
    /// Seq of the first.
    pub first_seq: u64,
    /// Seq of the one that comes behind the last.
    pub next_seq: u64,
    /// Smallest and largest `time_ns`; absent without frames.
    pub times: Option<(u64, u64)>,
    /// Offset of `End`, or of what would be the next frame.
    pub end: u64,
}

impl Frames {
    fn sealed(begin: Begin, seal: &Seal) -> Self {
        Frames {
            count: seal.count,
            first_seq: begin.first_seq,
            next_seq: begin.first_seq.saturating_add(seal.count),
            times: (seal.count > 0).then_some((seal.min_time, seal.max_time)),
            end: seal.end,
        }
    }
}

/// What the end of a file looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TailText {
    /// Final.
    Sealed,
    /// Still grows, and ends between two frames.
    Open,
    /// Still grows, or was torn by a crash.
    Torn {
        /// Where good frames end.
        offset: u64,
        /// What does not fit.
        what: String,
    },
}

/// A file of a queue.
#[derive(Clone, Debug, Serialize)]
pub struct Segment {
    /// It.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its header.
    pub header: HeaderText,
    /// What its queue knows about it; absent where it lies outside one.
    pub in_queue: Option<queue::DescribedSegment>,
}

/// A partition or a recorded raw file.
#[derive(Clone, Debug, Serialize)]
pub struct Partition {
    /// It.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its header.
    pub header: HeaderText,
    /// Its frames.
    pub frames: Frames,
    /// Its end.
    pub tail: TailText,
}

/// A cold file.
#[derive(Clone, Debug, Serialize)]
pub struct Archive {
    /// It.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Length of its index; absent if that is missing.
    pub index_bytes: Option<u64>,
    /// Length of the `.q`.
    pub source_bytes: u64,
    /// SHA-256 of the `.q`, hex.
    pub source_sha256: String,
    /// Header of the `.q`.
    pub header: HeaderText,
    /// Its frames.
    pub frames: Frames,
    /// Its blocks.
    pub blocks: Vec<Block>,
}

/// A block of a cold file.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Block {
    /// Where it begins in the `.q`, and its bytes there.
    pub offset: u64,
    /// Its bytes there.
    pub bytes: u32,
    /// Where it begins in the `.zst`.
    pub compressed_offset: u64,
    /// Its bytes there.
    pub compressed_bytes: u32,
    /// Seq of its first frame.
    pub first_seq: u64,
    /// Smallest `time_ns` of its frames.
    pub min_time: u64,
    /// Largest.
    pub max_time: u64,
    /// Whether it begins with a book snapshot.
    pub opens_with_snapshot: bool,
}

/// A day's directory.
#[derive(Clone, Debug, Serialize)]
pub struct Day {
    /// It.
    pub path: PathBuf,
    /// Its `meta.json`, if it has one.
    pub meta: Option<Meta>,
    /// Its partitions and cold files, in the order of their names.
    pub files: Vec<Description>,
}

/// Describes a path.
///
/// # Errors
///
/// It is not there, cannot be read, is nothing of ours, or its header or tables are damaged.
pub fn inspect<P: Platform>(platform: &P, path: &Path) -> Result<Description> {
    match platform.list(path) {
        Ok(entries) => directory(platform, path, &entries),
        Err(_) => file(platform, path),
    }
}

fn directory<P: Platform>(platform: &P, path: &Path, entries: &[chronicle_platform::Entry]) -> Result<Description> {
    if entries.iter().any(|entry| entry.name == "control.meta") {
        return Ok(Description::Queue(Box::new(queue::describe(platform, path)?)));
    }
    let ours = |name: &str| name.ends_with(".q") || name.ends_with(".q.zst");
    let names: Vec<_> = entries.iter().filter(|entry| !entry.is_dir && ours(&entry.name)).collect();
    let has_meta = entries.iter().any(|entry| entry.name == META);
    if names.is_empty() && !has_meta {
        return Err(Error::malformed(path, 0, "neither a queue nor a day: nothing of ours lies directly in it"));
    }
    let meta = if has_meta { Some(Meta::read(platform, path)?) } else { None };
    let files = names.iter().map(|entry| file(platform, &path.join(&entry.name))).collect::<Result<_>>()?;
    Ok(Description::Day(Day { path: path.into(), meta, files }))
}

fn file<P: Platform>(platform: &P, path: &Path) -> Result<Description> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(zst) = name.strip_suffix(".idx") {
        return archive(platform, &path.with_file_name(zst)).map(Description::Archive);
    }
    let file = platform.open(path, Open::Read)?;
    let mut bytes = [0; HEADER_LEN];
    let read = file.read_at(&mut bytes, 0)?;
    if bytes[..4] == ZSTD_MAGIC.to_le_bytes() || (bytes[..8] != MAGIC && name.ends_with(".zst")) {
        return archive(platform, path).map(Description::Archive);
    }
    let header = Header::parse(&bytes[..read]).map_err(|damage| Error::damage(path, damage))?;
    if header.segment_len == 0 {
        return partition(platform, path).map(Description::Partition);
    }
    let in_queue = match path.parent() {
        Some(queue) if platform.exists(&queue.join("control.meta"))? => {
            queue::describe(platform, queue)?.segments.into_iter().find(|segment| segment.path == path)
        }
        _ => None,
    };
    Ok(Description::Segment(Segment {
        path: path.into(),
        bytes: file.len()?,
        header: HeaderText::from(&header),
        in_queue,
    }))
}

fn partition<P: Platform>(platform: &P, path: &Path) -> Result<Partition> {
    let mut file = PartitionFile::open(platform, path)?;
    let first_seq = file.first_seq();
    let (frames, tail) = match file.seal().copied() {
        Some(seal) => (Frames::sealed(Begin { first_seq }, &seal), TailText::Sealed),
        None => {
            let mut times: Option<(u64, u64)> = None;
            while let Some(frame) = file.next()? {
                let time = frame.time_ns;
                times = Some(times.map_or((time, time), |(min, max)| (min.min(time), max.max(time))));
            }
            let next_seq = file.next_seq();
            let frames = Frames { count: next_seq - first_seq, first_seq, next_seq, times, end: file.offset() };
            let tail = match file.tail() {
                Tail::Torn { damage } => TailText::Torn { offset: damage.offset, what: damage.fault.to_string() },
                Tail::Sealed => TailText::Sealed,
                Tail::Open | Tail::Ahead => TailText::Open,
            };
            (frames, tail)
        }
    };
    let header = HeaderText::from(file.header());
    Ok(Partition { path: path.into(), bytes: file.len(), header, frames, tail })
}

fn archive<P: Platform>(platform: &P, path: &Path) -> Result<Archive> {
    let cold = ColdFile::open(platform, path)?;
    let mut first = Vec::new();
    cold.read_block(0, &mut first)?;
    let wrong = |what: &str| Error::malformed(path, 0, format!("block 0: {what}"));
    let header = Header::parse(&first).map_err(|damage| wrong(&damage.to_string()))?;
    let late: &[u8; HEADER_LEN] = first.first_chunk().expect("bug: the header was parsed");
    let begin = Begin::parse(late, header.salt).ok_or_else(|| wrong("no begin field"))?;
    let seal = Seal::parse(late, header.salt).ok_or_else(|| wrong("not sealed"))?;
    let index_bytes = if cold.has_index() { Some(platform.open(&index_path(path), Open::Read)?.len()?) } else { None };
    Ok(Archive {
        path: path.into(),
        bytes: cold.compressed_len(),
        index_bytes,
        source_bytes: cold.tables().source_len,
        source_sha256: hex(&cold.tables().source_sha256),
        header: HeaderText::from(&header),
        frames: Frames::sealed(begin, &seal),
        blocks: cold
            .blocks()
            .iter()
            .map(|block| Block {
                offset: block.offset,
                bytes: block.len,
                compressed_offset: block.compressed_offset,
                compressed_bytes: block.compressed_len,
                first_seq: block.first_seq,
                min_time: block.min_time,
                max_time: block.max_time,
                opens_with_snapshot: block.opens_with_snapshot,
            })
            .collect(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
