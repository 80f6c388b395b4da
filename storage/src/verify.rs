//! Is it intact? Every CRC, seq, index entry and checksum of a file, a day, a queue, a tier or a whole root.
//!
//! [`verify`] reads everything that a path names and reports what no writer of ours could have left, with file and
//! offset; it goes on after a problem as far as what follows can still be judged. What a crash may leave is a *note*, not
//! a problem: a torn tail of a file that still grows, files under temporary names, an index whose `.zst` was not published.
//!
//! | Path | What is checked |
//! |---|---|
//! | `.q` | header, begin, seal, every frame's CRC, seq and padding, `End`, length; that the file is where its identity says |
//! | `.q.zst` | tables, seek table, `.idx`; each block's compressed and uncompressed CRC; the same frames as of a `.q`; each block's first seq, times and flag; the SHA-256 of the whole |
//! | a queue | [`crate::queue::verify`] |
//! | a day | its files, and `meta.json`: there, and parsed |
//! | a root or a tier | all of that; `state/` is its owners' |
//!
//! It changes nothing, repairs nothing, takes no lock, and may run beside writers. Memory is bounded by a few blocks.

use crate::{
    Error, Result,
    archive::{self, Block, ColdFile, Progress, index_path, layout::ZSTD_MAGIC},
    meta::Meta,
    partition::{BOOK_SNAPSHOT, PartitionFile, Tail},
    queue,
    reader::FrameFile,
    root::{Date, META, Name, PartitionId, RawName, Stream, TEMPORARY},
};
use chronicle_core::{
    Begin, Header, Seal,
    frame::{Decoded, decode},
    layout::{FRAME_ALIGN, FRAME_HEADER_LEN, HEADER_LEN, MAGIC},
};
use chronicle_platform::{File, Open, Platform};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

/// What is known besides the files themselves.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Threads that decompress.
    pub threads: usize,
    /// Up to which length a growing file was synced, as the refinery's checkpoint says. Before it, what does not fit is
    /// damage; behind it, a torn tail. Where it is not known, a bad frame is damage if a good one follows.
    pub synced_len: &'a dyn Fn(&Path) -> Option<u64>,
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Default for Options<'_> {
    /// A thread for each core, and no checkpoint.
    fn default() -> Self {
        Options { threads: archive::Options::default().threads, synced_len: &|_| None }
    }
}

/// What was checked, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Files with frames: partitions, raw files, cold files; segments of queues.
    pub files: u64,
    /// Frames that are right.
    pub frames: u64,
    /// Bytes read, compressed ones as they lie there.
    pub bytes: u64,
    /// Blocks of cold files that are right.
    pub blocks: u64,
    /// Queues.
    pub queues: u64,
    /// What no writer of ours could have left.
    pub problems: Vec<Problem>,
    /// What a crash may leave, and what is not ours.
    pub notes: Vec<Note>,
}

impl Report {
    /// Whether there are no problems.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, or the directory that lacks one.
    pub path: PathBuf,
    /// Where in it; absent where a file is missing or cannot be read.
    pub offset: Option<u64>,
    /// What, with evidence.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        if let Some(offset) = self.offset {
            write!(f, "offset {offset}: ")?;
        }
        f.write_str(&self.what)
    }
}

impl Problem {
    fn of(error: &Error, fallback: &Path) -> Problem {
        let what = match error {
            Error::Damage { damage, .. } => damage.fault.to_string(),
            Error::Malformed { what, .. } => what.clone(),
            Error::Trouble(trouble) => match std::error::Error::source(trouble) {
                Some(source) => format!("{} failed: {source}", trouble.operation()),
                None => format!("{} failed", trouble.operation()),
            },
            other => other.to_string(),
        };
        Problem { path: error.path().unwrap_or(fallback).into(), offset: error.offset(), what }
    }
}

/// Something to know that is no damage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The file.
    pub path: PathBuf,
    /// What.
    pub what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// Checks everything under a path.
///
/// # Errors
///
/// The path is not there, cannot be read, or names nothing of ours. Damage is in the report.
pub fn verify<P: Platform>(platform: &P, path: &Path) -> Result<Report> {
    verify_with(platform, path, Options::default(), &mut |_, _| {})
}

/// As [`verify`], with a checkpoint's knowledge, and says how far it is, in bytes.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_with<P: Platform>(
    platform: &P,
    path: &Path,
    options: Options<'_>,
    progress: Progress<'_>,
) -> Result<Report> {
    let mut tasks = Tasks::default();
    if platform.list(path).is_ok() {
        tasks.directory(platform, path, true)?;
    } else {
        tasks.file(platform, path)?;
    }
    let mut check = Check { platform, options, report: Report { notes: tasks.notes, ..Report::default() } };
    let total = tasks.work.iter().map(|(_, _, len)| len).sum();
    let mut done = 0;
    let mut metas = BTreeSet::new();
    for (work, path, len) in &tasks.work {
        match check.one(*work, path) {
            Ok(()) => {}
            // A file that moved or retired while we came to it is its new place's business.
            Err(error) if error.is_not_found() && !platform.exists(path)? => {
                check.note(path, "gone before it was checked");
            }
            Err(error) => check.problem(&error, path),
        }
        if *work == Work::Meta {
            metas.extend(day_of(path));
        }
        done += len;
        progress(done, total);
    }
    // A move copies it before the warm one goes: on either tier will do. A refinery that was killed may not have made
    // it yet.
    for (day, dir) in tasks.days {
        if !metas.contains(&day) && tasks.streams.contains(&day) {
            if tasks.cold.contains(&day) {
                let what = "has partitions, but no meta.json".into();
                check.report.problems.push(Problem { path: dir, offset: None, what });
            } else {
                check.note(&dir, "no meta.json yet: the refinery was stopped, and writes it when it goes on");
            }
        }
    }
    Ok(check.report)
}

/// What to do with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Queue,
    /// A queue's segment by itself.
    Segment,
    Warm,
    Cold,
    Meta,
}

/// Venue, symbol, date, as text: what a day's directory is about, on whichever tier.
type DayKey = (String, String, String);

#[derive(Default)]
struct Tasks {
    work: Vec<(Work, PathBuf, u64)>,
    notes: Vec<Note>,
    /// Days with files of ours, and the first directory that showed each.
    days: BTreeMap<DayKey, PathBuf>,
    /// Of these, those with partitions.
    streams: BTreeSet<DayKey>,
    /// Of these, those with cold ones: a day moves only when it is final, `meta.json` and all.
    cold: BTreeSet<DayKey>,
}

/// `…/{venue}/{symbol}/{date}/{file}`, if the names are such.
fn day_of(file: &Path) -> Option<DayKey> {
    let mut up = file.parent()?.components().rev().map(|part| part.as_os_str().to_str());
    let (date, symbol, venue) = (up.next()??, up.next()??, up.next()??);
    date.parse::<Date>().ok()?;
    Some((venue.into(), symbol.into(), date.into()))
}

impl Tasks {
    fn push<P: Platform>(&mut self, platform: &P, work: Work, path: PathBuf) -> Result<()> {
        let len = match work {
            Work::Queue => 0,
            _ => match platform.open(&path, Open::Read) {
                Ok(file) => file.len()?,
                // The check itself says why.
                Err(_) => 0,
            },
        };
        self.work.push((work, path, len));
        Ok(())
    }

    fn note(&mut self, path: &Path, what: &str) {
        self.notes.push(Note { path: path.into(), what: what.into() });
    }

    fn directory<P: Platform>(&mut self, platform: &P, dir: &Path, top: bool) -> Result<()> {
        let entries = platform.list(dir)?;
        let has = |name: &str| entries.iter().any(|entry| entry.name == name);
        if has("control.meta") {
            return self.push(platform, Work::Queue, dir.into());
        }
        // A root's `state` is its owners': checkpoints and locks.
        let root = top && has("state") && entries.iter().any(|e| ["hot", "warm", "cold"].contains(&&*e.name));
        let is_day = dir.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<Date>().is_ok());
        for entry in &entries {
            let path = dir.join(&entry.name);
            if entry.is_dir {
                if !(root && entry.name == "state") {
                    match self.directory(platform, &path, false) {
                        Err(error) if error.is_not_found() => self.note(&path, "gone before it was checked"),
                        other => other?,
                    }
                }
                continue;
            }
            let stem = entry.name.strip_suffix(".q").or_else(|| entry.name.strip_suffix(".q.zst"));
            if entry.name.ends_with(TEMPORARY) {
                self.note(&path, "being made, or left over: nobody reads it");
            } else if let Some(stem) = stem {
                if let Some(day) = day_of(&path).filter(|_| stem.parse::<Stream>().is_ok()) {
                    self.days.entry(day.clone()).or_insert_with(|| dir.into());
                    if entry.name.ends_with(".zst") {
                        self.cold.insert(day.clone());
                    }
                    self.streams.insert(day);
                }
                let work = if entry.name.ends_with(".q") { Work::Warm } else { Work::Cold };
                self.push(platform, magic(platform, &path)?.unwrap_or(work), path)?;
            } else if entry.name == META && is_day {
                self.push(platform, Work::Meta, path)?;
            } else if let Some(zst) = entry.name.strip_suffix(".idx") {
                if !has(zst) {
                    self.note(&path, "index of a file that is not there: its move was cut short");
                }
            } else if is_day {
                self.note(&path, "not ours");
            }
        }
        Ok(())
    }

    fn file<P: Platform>(&mut self, platform: &P, path: &Path) -> Result<()> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(zst) = name.strip_suffix(".idx").filter(|zst| zst.ends_with(".zst")) {
            return self.push(platform, Work::Cold, path.with_file_name(zst));
        }
        let by_name = match name {
            META => Some(Work::Meta),
            _ if name.ends_with(".zst") => Some(Work::Cold),
            _ if name.ends_with(".q") => Some(Work::Warm),
            _ => None,
        };
        // Opening it first, so that a path that is not there is an error and not a problem.
        let work = magic(platform, path)?.or(by_name);
        let work =
            work.ok_or_else(|| Error::malformed(path, 0, "no file of ours: neither segment, cold file nor index"))?;
        self.push(platform, work, path.into())
    }
}

/// What the first bytes say that a file is; `None` if they are nobody's.
fn magic<P: Platform>(platform: &P, path: &Path) -> Result<Option<Work>> {
    let mut bytes = [0; HEADER_LEN];
    let file = platform.open(path, Open::Read)?;
    let read = file.read_at(&mut bytes, 0)?;
    Ok(if bytes[..4] == ZSTD_MAGIC.to_le_bytes() {
        Some(Work::Cold)
    } else if bytes[..8] == MAGIC {
        match Header::parse(&bytes[..read]) {
            Ok(header) if header.segment_len != 0 => Some(Work::Segment),
            _ => Some(Work::Warm),
        }
    } else {
        None
    })
}

struct Check<'a, P: Platform> {
    platform: &'a P,
    options: Options<'a>,
    report: Report,
}

impl<P: Platform> Check<'_, P> {
    fn problem(&mut self, error: &Error, fallback: &Path) {
        self.report.problems.push(Problem::of(error, fallback));
    }

    fn note(&mut self, path: &Path, what: impl Into<String>) {
        self.report.notes.push(Note { path: path.into(), what: what.into() });
    }

    fn one(&mut self, work: Work, path: &Path) -> Result<()> {
        match work {
            Work::Queue => self.queue(path, None),
            Work::Segment => match path.parent() {
                Some(queue) if self.platform.exists(&queue.join("control.meta"))? => self.queue(queue, Some(path)),
                _ => self.lone_segment(path),
            },
            Work::Warm => self.warm(path),
            Work::Cold => self.cold(path),
            Work::Meta => {
                let day = path.parent().unwrap_or(Path::new("."));
                Meta::read(self.platform, day).map(drop)
            }
        }
    }

    fn queue(&mut self, path: &Path, only: Option<&Path>) -> Result<()> {
        let problems = &mut self.report.problems;
        let verified = queue::verify(self.platform, path, &mut |error| {
            if only.is_none_or(|only| error.path() == Some(only)) {
                problems.push(Problem::of(&error, path));
            }
        })?;
        self.report.queues += 1;
        self.report.files += verified.segments;
        self.report.frames += verified.frames;
        self.report.bytes += verified.bytes;
        Ok(())
    }

    /// A segment that was taken out of its queue.
    fn lone_segment(&mut self, path: &Path) -> Result<()> {
        let mut file = FrameFile::open(self.platform, path)?;
        while file.advance()? {
            self.report.frames += 1;
        }
        self.report.files += 1;
        Ok(())
    }

    fn warm(&mut self, path: &Path) -> Result<()> {
        let mut file = PartitionFile::open(self.platform, path)?;
        self.report.files += 1;
        place(path, file.header(), file.first_seq())?;
        let synced = (self.options.synced_len)(path);
        file.require(synced.unwrap_or(0));
        let walked = loop {
            match file.next() {
                Ok(Some(_)) => self.report.frames += 1,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.report.bytes += file.offset();
        walked?;
        match file.tail() {
            Tail::Torn { damage } => {
                let behind = match synced {
                    Some(_) => None,
                    None => follower(self.platform, path, file.header(), damage.offset, file.next_seq())?,
                };
                if let Some(offset) = behind {
                    let error = Error::damage(path, damage);
                    let mut problem = Problem::of(&error, path);
                    problem.what.push_str(&format!("; a good frame follows at {offset}"));
                    self.report.problems.push(problem);
                } else {
                    self.note(path, format!("not sealed, torn tail at offset {}: {}", damage.offset, damage.fault));
                }
            }
            Tail::Open => self.note(path, format!("not sealed, ends at offset {}", file.offset())),
            Tail::Sealed | Tail::Ahead => {}
        }
        Ok(())
    }

    fn cold(&mut self, path: &Path) -> Result<()> {
        let index = index_path(path);
        let cold = match ColdFile::open(self.platform, path) {
            Ok(cold) if !cold.has_index() => {
                let what = "missing: the tier manager makes it anew".into();
                self.report.problems.push(Problem { path: index, offset: None, what });
                cold
            }
            // The index does not hinder the look at the blocks.
            Err(error) if error.path() == Some(&index) => {
                self.problem(&error, &index);
                ColdFile::open_without_index(self.platform, path)?
            }
            other => other?,
        };
        self.report.files += 1;
        self.report.bytes += cold.compressed_len();

        let mut sha256 = Sha256::new();
        let mut frames = Frames::new(path);
        let mut from = 0;
        let mut whole = true;
        while from < cold.blocks().len() {
            // A block that cannot be read hides its frames, not those of the next one.
            let mut bad = None;
            let scanned = cold.scan(from, self.options.threads, |loaded| {
                from = loaded.index + 1;
                let judged = cold
                    .check_crc(loaded.index, loaded.bytes)
                    .and_then(|()| frames.block(loaded.index, loaded.block, loaded.bytes, from == cold.blocks().len()));
                match judged {
                    Ok(count) => {
                        self.report.blocks += 1;
                        self.report.frames += count;
                    }
                    Err(error) => {
                        whole = false;
                        frames.lost();
                        bad.get_or_insert(Vec::new()).push(error);
                    }
                }
                sha256.update(loaded.bytes);
                Ok(())
            });
            for error in bad.into_iter().flatten() {
                self.problem(&error, path);
            }
            if let Err(error) = scanned {
                whole = false;
                frames.lost();
                self.problem(&error, path);
                from += 1;
            }
        }
        if whole && <[u8; 32]>::from(sha256.finalize()) != cold.tables().source_sha256 {
            let what = "SHA-256 of the decompressed file is not the stored one".into();
            let offset = Some(cold.tables().blocks_len());
            self.report.problems.push(Problem { path: path.into(), offset, what });
        }
        Ok(())
    }
}

/// Whether the file lies where its identity says. What lies outside a root's layout may lie anywhere.
fn place(path: &Path, header: &Header, first_seq: u64) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(raw) = RawName::of_file(name) {
        if raw.queue_id != header.queue_id {
            return Err(Error::malformed(path, 24, "another queue's id than the file's name says"));
        }
        if raw.first_seq != first_seq {
            let what = format!("first seq is {first_seq}, the file's name says {}", raw.first_seq);
            return Err(Error::malformed(path, 80, what));
        }
        return Ok(());
    }
    let stem = name.strip_suffix(".q").or_else(|| name.strip_suffix(".q.zst"));
    let in_root = path.ancestors().nth(4).is_some_and(|dir| dir.ends_with("v1"));
    let (Some(Ok(stream)), Some((venue, symbol, date)), true) = (stem.map(str::parse::<Stream>), day_of(path), in_root)
    else {
        return Ok(());
    };
    let (Ok(venue), Ok(symbol), Ok(date)) = (Name::new(&venue), Name::new(&symbol), date.parse::<Date>()) else {
        return Ok(());
    };
    let id = PartitionId::new(venue, symbol, date, stream);
    if id.queue_id() != header.queue_id || id.salt() != header.salt {
        return Err(Error::malformed(path, 24, format!("identity is not that of {id}")));
    }
    Ok(())
}

/// The first good frame behind a bad one, with a later seq: no torn tail has that, unless the machine crashed before
/// the tail was synced; who knows up to where it was does not ask.
fn follower<P: Platform>(platform: &P, path: &Path, header: &Header, bad: u64, next_seq: u64) -> Result<Option<u64>> {
    /// As far as is looked; one block of an archive.
    const LOOK: usize = 1 << 20;
    let file = platform.open(path, Open::Read)?;
    let mut bytes = vec![0; LOOK];
    let read = file.read_at(&mut bytes, bad)?;
    let len = file.len()?;
    for at in (FRAME_ALIGN..read).step_by(FRAME_ALIGN) {
        let offset = bad + at as u64;
        let left = len.saturating_sub(offset);
        match decode(&bytes[at..read], offset, left, header.salt, header.checksum) {
            Ok(Decoded::Frame { header, .. }) if header.seq.get() > next_seq => return Ok(Some(offset)),
            Ok(Decoded::End { next_seq: end }) if end > next_seq => return Ok(Some(offset)),
            _ => {}
        }
    }
    Ok(None)
}

/// The frames of a cold file, block after block, against what the tables say of each.
struct Frames<'a> {
    path: &'a Path,
    header: Option<(Header, Begin, Seal)>,
    /// `None` behind a block that could not be read.
    next_seq: Option<u64>,
    times: Option<(u64, u64)>,
    complete: bool,
}

impl<'a> Frames<'a> {
    fn new(path: &'a Path) -> Self {
        Frames { path, header: None, next_seq: None, times: None, complete: true }
    }

    fn lost(&mut self) {
        self.next_seq = None;
        self.complete = false;
    }

    fn block(&mut self, i: usize, block: &Block, bytes: &[u8], last: bool) -> Result<u64> {
        // Offsets are of the `.zst`: where the block begins. Those in the `.q` are in the text.
        let wrong = |what: String| Error::malformed(self.path, block.compressed_offset, format!("block {i}: {what}"));
        let mut at = 0;
        if i == 0 {
            let header = Header::parse(bytes).map_err(|damage| wrong(damage.to_string()))?;
            let late: &[u8; HEADER_LEN] = bytes.first_chunk().expect("bug: the header was parsed");
            let begin = Begin::parse(late, header.salt).ok_or_else(|| wrong("no begin field".into()))?;
            let seal = Seal::parse(late, header.salt).ok_or_else(|| wrong("not sealed".into()))?;
            place(self.path, &header, begin.first_seq).map_err(|error| match error {
                Error::Malformed { offset, what, .. } => wrong(format!("offset {offset} of the .q: {what}")),
                other => other,
            })?;
            self.header = Some((header, begin, seal));
            self.next_seq = Some(begin.first_seq);
            at = HEADER_LEN;
        }
        let Some((header, begin, seal)) = self.header else {
            return Err(wrong("salt unknown: block 0 cannot be read".into()));
        };
        let mut next_seq = self.next_seq.unwrap_or(block.first_seq);
        let mut first = None;
        let mut times: Option<(u64, u64)> = None;
        let mut count = 0;
        let mut ended = false;
        while at < bytes.len() {
            let offset = block.offset + at as u64;
            let left = (bytes.len() - at) as u64;
            let decoded = decode(&bytes[at..], offset, left, header.salt, header.checksum)
                .map_err(|damage| wrong(format!("offset {} of the .q: {}", damage.offset, damage.fault)))?;
            let seq = match &decoded {
                Decoded::Frame { header, .. } => header.seq.get(),
                Decoded::End { next_seq } => *next_seq,
                _ => return Err(wrong(format!("offset {offset} of the .q: block ends inside a frame"))),
            };
            if seq != next_seq {
                return Err(wrong(format!("offset {offset} of the .q: seq {next_seq} expected, {seq} found")));
            }
            first.get_or_insert(seq);
            match decoded {
                Decoded::Frame { header, len, .. } => {
                    if count == 0 && (header.type_id.get() == BOOK_SNAPSHOT) != block.opens_with_snapshot {
                        return Err(wrong("flag for a snapshot at its start is wrong".into()));
                    }
                    let time = header.time_ns.get();
                    times = Some(times.map_or((time, time), |(min, max)| (min.min(time), max.max(time))));
                    next_seq += 1;
                    count += 1;
                    at += len;
                }
                _ => {
                    ended = true;
                    at += FRAME_HEADER_LEN;
                    break;
                }
            }
        }
        if ended != last || at != bytes.len() {
            return Err(wrong("`End` is not the last frame of the last block".into()));
        }
        if first != Some(block.first_seq) || times.unwrap_or((0, 0)) != (block.min_time, block.max_time) {
            return Err(wrong("first seq or times are not those of its frames".into()));
        }
        self.next_seq = Some(next_seq);
        if let Some((min, max)) = times {
            self.times = Some(self.times.map_or((min, max), |(a, b)| (a.min(min), b.max(max))));
        }
        if last && self.complete {
            let (min_time, max_time) = self.times.unwrap_or((0, 0));
            let end = block.offset + (at - FRAME_HEADER_LEN) as u64;
            let found = Seal { count: next_seq - begin.first_seq, end, min_time, max_time };
            if found != seal {
                return Err(wrong("seal in the header is not that of the frames".into()));
            }
        }
        Ok(count)
    }
}
