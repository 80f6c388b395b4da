//! Is it intact? Every CRC, seq, index entry and checksum of a file, a day, a queue, a tier or a whole root.
//!
//! [`verify`] reads everything that a path names and reports what no writer of ours could have left, with file and
//! offset; it goes on after a problem as far as what follows can still be judged. What a crash may leave is a *note*, not
//! a problem: a torn tail of a file that still grows, files under temporary names, an index whose `.zst` was not published
//! while its `.q` is there.
//!
//! | Path | What is checked |
//! |---|---|
//! | `.q` | header, begin, seal, every frame's CRC, seq and padding, `End`, length; that the file is where its identity says |
//! | `.q.zst` | tables, seek table, `.idx`; each block's compressed and uncompressed CRC; the same frames as of a `.q`; each block's first seq, times and flag; the SHA-256 of the whole |
//! | `.idx` of a cold file | with its `.zst`; one that has none is a problem, unless the `.q` is there that a cut move was to replace |
//! | a queue | [`crate::queue::verify`], which says when a slot that is not whole is a problem and when a note |
//! | `control.meta`, a cursor, a segment, an index of a queue | the same, of that file (and of `control.meta`, by which it is judged); one that lies outside a queue by itself |
//! | `meta.json` | every byte ([`Meta::parse`]); venue, symbol and date are its path's; the streams that it counts are there |
//! | a day | its files and `meta.json`; of a sealed day also that counts, gaps and event times are those of the frames |
//! | a root or a tier | all of that; `state/` is its owners' |
//!
//! A file is known by its first bytes. A stream that a sealed day's `meta.json` counts and that no tier has is *missing*, a
//! problem. What an open day's `meta.json` counts may be gone after a crash, until the refinery makes it again: what must
//! be there, its checkpoint knows.
//!
//! It changes nothing, repairs nothing, takes no lock, and may run beside writers. Memory is bounded by a few blocks.

use crate::{
    Error, Result,
    archive::{
        self, Block, ColdFile, Progress, index_path,
        layout::{INDEX_MAGIC, ZSTD_MAGIC},
        parse_index,
    },
    growing::SEAL_AT,
    meta::{self, Meta},
    partition::{BOOK_SNAPSHOTS, PartitionFile, Tail},
    queue::{
        self,
        layout::{CONTROL_MAGIC, CURSOR_MAGIC, INDEX_MAGIC as QUEUE_INDEX_MAGIC},
    },
    reader::FrameFile,
    root::{Date, META, Name, PartitionId, RawName, Stream, TEMPORARY},
    tally::{self, Tally},
};
use chronicle_core::{
    Begin, Frame, Header, Seal,
    frame::{Decoded, decode},
    layout::{FRAME_HEADER_LEN, HEADER_LEN, MAGIC},
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
    /// Files that lead to others or speak of them: each `meta.json`, and indexes and a queue's small files that were asked
    /// for by name.
    pub small_files: u64,
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
    } else if path.parent() == Some(Path::new("")) {
        // So that it has a directory to be looked for in.
        tasks.file(platform, &Path::new(".").join(path))?;
    } else {
        tasks.file(platform, path)?;
    }
    // What speaks of other files comes behind them.
    tasks.work.sort_by_key(|(work, _, _)| *work == Work::Meta);
    let report = Report { problems: tasks.problems, notes: tasks.notes, ..Report::default() };
    let mut check = Check { platform, options, report, tallies: BTreeMap::new() };
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
        let moving = other_tier(&dir).map_or(Ok(false), |other| platform.exists(&other.join(META)))?;
        if !metas.contains(&day) && !moving {
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
    /// Small files of a queue.
    Control,
    Cursor,
    QueueIndex,
    Warm,
    Cold,
    /// The index of a cold file that is not there, or not where its name says.
    ColdIndex,
    Meta,
}

impl Work {
    /// Whether a file of this kind is one that has frames.
    fn has_frames(self) -> bool {
        matches!(self, Work::Segment | Work::Warm | Work::Cold)
    }
}

/// Venue, symbol, date, as text: what a day's directory is about, on whichever tier.
type DayKey = (String, String, String);

#[derive(Default)]
struct Tasks {
    work: Vec<(Work, PathBuf, u64)>,
    problems: Vec<Problem>,
    notes: Vec<Note>,
    /// Days with partitions, and the first directory that showed each.
    days: BTreeMap<DayKey, PathBuf>,
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

/// The same directory on the tier that a day moves from or to, if it lies in a root that has both under their own names:
/// `{tier}/v1/{venue}/{symbol}/{date}` or `{tier}/raw/v1/{venue}/{date}`.
fn other_tier(day: &Path) -> Option<PathBuf> {
    let tier = day.ancestors().nth(4)?;
    let other = match tier.file_name()?.to_str()? {
        "warm" => "cold",
        "cold" => "warm",
        _ => return None,
    };
    Some(tier.with_file_name(other).join(day.strip_prefix(tier).ok()?))
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
                        self.cold.insert(day);
                    }
                }
                let work = if entry.name.ends_with(".q") { Work::Warm } else { Work::Cold };
                let found = magic(platform, &path)?.filter(|found| found.has_frames());
                self.push(platform, found.unwrap_or(work), path)?;
            } else if entry.name == META && is_day {
                self.push(platform, Work::Meta, path)?;
            } else if let Some(zst) = entry.name.strip_suffix(".idx") {
                if !has(zst) {
                    self.lone_index(platform, &path, zst)?;
                }
            } else if is_day {
                self.note(&path, "not ours");
            }
        }
        Ok(())
    }

    /// An index without its file. A move publishes it first, and the `.q` stays until both are there.
    fn lone_index<P: Platform>(&mut self, platform: &P, path: &Path, zst: &str) -> Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let source = zst.strip_suffix(".zst").unwrap_or(zst);
        for dir in [Some(dir.to_owned()), other_tier(dir)].into_iter().flatten() {
            if platform.exists(&dir.join(source))? {
                self.note(path, "index of a file that is not there: its move was cut short");
                return Ok(());
            }
        }
        let what = format!("index of {zst}, which is missing, and so is {source}");
        self.problems.push(Problem { path: path.into(), offset: None, what });
        Ok(())
    }

    fn file<P: Platform>(&mut self, platform: &P, path: &Path) -> Result<()> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(zst) = name.strip_suffix(".idx").filter(|zst| zst.ends_with(".zst")) {
            let whole = path.with_file_name(zst);
            if platform.exists(&whole)? {
                return self.push(platform, Work::Cold, whole);
            }
            // One that is not there either is an error and not a problem.
            platform.open(path, Open::Read)?;
            self.lone_index(platform, path, zst)?;
            return self.push(platform, Work::ColdIndex, path.into());
        }
        let by_name = match name {
            META => Some(Work::Meta),
            _ if name.ends_with(".zst") => Some(Work::Cold),
            _ if name.ends_with(".q") => Some(Work::Warm),
            _ => None,
        };
        // Opening it first, so that a path that is not there is an error and not a problem.
        let found = magic(platform, path)?;
        // In the place of one with frames, one without is damaged.
        let found = found.filter(|found| found.has_frames() || !by_name.is_some_and(Work::has_frames));
        let work = found.or(by_name).ok_or_else(|| {
            let what =
                "no file of ours: neither segment, partition, cold file, index, control file, cursor nor meta.json";
            Error::malformed(path, 0, what)
        })?;
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
        match &bytes[..8] {
            m if m == CONTROL_MAGIC => Some(Work::Control),
            m if m == CURSOR_MAGIC => Some(Work::Cursor),
            m if m == QUEUE_INDEX_MAGIC => Some(Work::QueueIndex),
            m if m == INDEX_MAGIC => Some(Work::ColdIndex),
            _ => None,
        }
    })
}

struct Check<'a, P: Platform> {
    platform: &'a P,
    options: Options<'a>,
    report: Report,
    /// Of partitions that are whole, their frames counted, and whether that was all: they are sealed.
    tallies: BTreeMap<DayKey, BTreeMap<Stream, (Tally, bool)>>,
}

/// The stream that a file of this name is, whatever its bytes are.
fn stream_of(path: &Path) -> Option<Stream> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".q").or_else(|| name.strip_suffix(".q.zst"))?.parse().ok()
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
            Work::Control | Work::Cursor | Work::QueueIndex => match queue::queue_of(self.platform, path)? {
                Some(queue) => self.queue(&queue, Some(path)),
                None => self.lone_queue_file(work, path),
            },
            Work::Warm => self.warm(path),
            Work::Cold => self.cold(path),
            Work::ColdIndex => self.lone_cold_index(path),
            Work::Meta => self.meta(path),
        }
    }

    fn queue(&mut self, path: &Path, only: Option<&Path>) -> Result<()> {
        let Report { problems, notes, .. } = &mut self.report;
        let control = path.join("control.meta");
        let asked =
            |error: &Error| only.is_none_or(|only| error.path().is_some_and(|found| found == only || found == control));
        let verified = queue::verify_noting(
            self.platform,
            path,
            &mut |error| {
                if asked(&error) {
                    problems.push(Problem::of(&error, path));
                }
            },
            &mut |error| {
                if asked(&error) {
                    let Problem { path, offset, what } = Problem::of(&error, path);
                    let what = format!("offset {}: not whole, as a kill may leave it: {what}", offset.unwrap_or(0));
                    notes.push(Note { path, what });
                }
            },
        )?;
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

    /// A small file that was taken out of its queue.
    fn lone_queue_file(&mut self, work: Work, path: &Path) -> Result<()> {
        let problems = &mut self.report.problems;
        let on_problem = &mut |error: Error| problems.push(Problem::of(&error, path));
        match work {
            Work::Control => queue::verify_control(self.platform, path, on_problem)?,
            Work::Cursor => queue::verify_cursor(self.platform, path, on_problem)?,
            _ => queue::verify_index(self.platform, path, on_problem)?,
        }
        self.report.small_files += 1;
        Ok(())
    }

    /// A cold file's index by itself. It has no checksum: its entries must follow one another.
    fn lone_cold_index(&mut self, path: &Path) -> Result<()> {
        let bytes = meta::read_small(self.platform, path, MAX_INDEX_LEN)?;
        parse_index(&bytes).map_err(|flaw| Error::malformed(path, flaw.offset, flaw.what))?;
        self.report.small_files += 1;
        Ok(())
    }

    fn meta(&mut self, path: &Path) -> Result<()> {
        let bytes = meta::read_small(self.platform, path, meta::MAX_LEN)?;
        self.report.small_files += 1;
        let meta = Meta::parse(path, &bytes)?;
        let dir = path.parent().unwrap_or(Path::new("."));
        let in_root = path.ancestors().nth(4).is_some_and(|dir| dir.ends_with("v1"));
        if let Some((venue, symbol, date)) = day_of(path).filter(|_| in_root) {
            for (key, said, expected) in [
                ("venue", meta.venue.clone(), venue),
                ("symbol_code", meta.symbol_code.clone(), symbol),
                ("date", meta.date.to_string(), date),
            ] {
                if said != expected {
                    let what = format!("{key} is {said:?}, but it lies at {expected:?}");
                    self.report.problems.push(Problem { path: path.into(), offset: key_at(&bytes, key), what });
                }
            }
        }
        for stream in tally::streams(&meta) {
            self.must_be_there(&meta, dir, stream)?;
        }
        if meta.sealed
            && let Some(day) = day_of(path)
        {
            let tallies = self.final_tallies(&day, dir)?;
            for (key, what) in tally::disagreements(&meta, &tallies) {
                let offset = key_at(&bytes, &key).or_else(|| key_at(&bytes, "counts"));
                self.report.problems.push(Problem { path: path.into(), offset, what });
            }
        }
        Ok(())
    }

    /// Whether a stream that a day's `meta.json` counts is on any tier.
    fn must_be_there(&mut self, meta: &Meta, dir: &Path, stream: Stream) -> Result<()> {
        for dir in [Some(dir.to_owned()), other_tier(dir)].into_iter().flatten() {
            for name in [format!("{stream}.q"), format!("{stream}.q.zst")] {
                if self.platform.exists(&dir.join(name))? {
                    return Ok(());
                }
            }
        }
        // By what else lies here.
        let names = self.platform.list(dir)?;
        if !names.iter().any(|entry| entry.name == META) {
            // The day has moved away meanwhile.
            return Ok(());
        }
        let is_cold = names.iter().any(|entry| entry.name.contains(".zst"));
        let here: Vec<_> = names.iter().filter_map(|entry| stream_of(Path::new(&entry.name))).collect();
        if here == [Stream::Late] && !is_cold && other_tier(dir).is_none_or(|other| self.platform.list(&other).is_err())
        {
            self.note(dir, format!("only late records here: {stream} was archived somewhere that was not looked at"));
            return Ok(());
        }
        let path = dir.join(format!("{stream}.q{}", if is_cold { ".zst" } else { "" }));
        if meta.sealed {
            let what = "missing: meta.json counts records of it, and says that the day is final".into();
            self.report.problems.push(Problem { path, offset: None, what });
        } else {
            self.note(&path, "not there, meta.json counts records of it: the refinery was stopped, and makes it again");
        }
        Ok(())
    }

    /// The counted frames of a day's partitions, all of them final. One that still grew when it was looked at has been
    /// sealed since, or is not what `meta.json` says.
    fn final_tallies(&mut self, day: &DayKey, dir: &Path) -> Result<Vec<(Stream, Tally)>> {
        let mut tallies = Vec::new();
        for (stream, (tally, sealed)) in self.tallies.get(day).into_iter().flatten() {
            if *stream == Stream::Late && !sealed {
                // Late records may come when all else is final.
                continue;
            }
            let path = dir.join(format!("{stream}.q"));
            if *sealed {
                tallies.push((*stream, *tally));
            } else if self.platform.exists(&path)? {
                let mut file = PartitionFile::open(self.platform, &path)?;
                let mut tally = Tally::default();
                while let Some(frame) = file.next()? {
                    take(&mut tally, *stream, &frame);
                }
                if file.tail() == Tail::Sealed {
                    tallies.push((*stream, tally));
                } else {
                    let what = "not sealed, but meta.json says that the day is final".into();
                    self.report.problems.push(Problem { path, offset: Some(SEAL_AT as u64), what });
                }
            }
        }
        Ok(tallies)
    }

    fn tally(&mut self, path: &Path, tally: Tally, sealed: bool) {
        if let (Some(day), Some(stream)) = (day_of(path), stream_of(path)) {
            let of_day = self.tallies.entry(day).or_default();
            // Both tiers have it for a while: the final one tells.
            if sealed || !of_day.contains_key(&stream) {
                of_day.insert(stream, (tally, sealed));
            }
        }
    }

    fn warm(&mut self, path: &Path) -> Result<()> {
        let mut file = PartitionFile::open(self.platform, path)?;
        self.report.files += 1;
        place(path, file.header(), file.first_seq())?;
        let synced = (self.options.synced_len)(path);
        file.require(synced.unwrap_or(0));
        let mut tally = Tally::default();
        let stream = stream_of(path).unwrap_or(Stream::Opaque);
        let walked = loop {
            match file.next() {
                Ok(Some(frame)) => {
                    take(&mut tally, stream, &frame);
                    self.report.frames += 1;
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.report.bytes += file.offset();
        walked?;
        match file.tail() {
            Tail::Torn { damage } => {
                let behind = if synced.is_none() { file.frame_behind_damage()? } else { None };
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
        self.tally(path, tally, file.tail() == Tail::Sealed);
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
        if whole {
            self.tally(path, frames.tally, true);
        }
        Ok(())
    }
}

/// Longest index of a cold file that is read by itself: of a file of 700 GiB.
const MAX_INDEX_LEN: u64 = 16 << 20;

fn take(tally: &mut Tally, stream: Stream, frame: &Frame<'_>) {
    let payload = frame.payload.as_slice(None).expect("bug: a partition's payload is in private memory");
    tally.take(stream, frame.type_id, frame.flags, frame.time_ns, payload);
}

/// Where a field of a `meta.json` stands.
fn key_at(bytes: &[u8], key: &str) -> Option<u64> {
    let key = format!("\"{key}\": ");
    bytes.windows(key.len()).position(|window| window == key.as_bytes()).map(|at| at as u64)
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

/// The frames of a cold file, block after block, against what the tables say of each.
struct Frames<'a> {
    path: &'a Path,
    header: Option<(Header, Begin, Seal)>,
    /// `None` behind a block that could not be read.
    next_seq: Option<u64>,
    times: Option<(u64, u64)>,
    complete: bool,
    tally: Tally,
}

impl<'a> Frames<'a> {
    fn new(path: &'a Path) -> Self {
        Frames { path, header: None, next_seq: None, times: None, complete: true, tally: Tally::default() }
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
        let stream = stream_of(self.path).unwrap_or(Stream::Opaque);
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
                Decoded::Frame { header, payload, len } => {
                    let (type_id, flags) = (header.type_id.get(), header.flags.get());
                    self.tally.take(stream, type_id, flags, header.time_ns.get(), payload);
                    if count == 0 && BOOK_SNAPSHOTS.contains(&type_id) != block.opens_with_snapshot {
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
