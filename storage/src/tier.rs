//! The tier manager: sealed days move from warm to cold when they are old enough.
//!
//! Call [`run_once`] now and then, from a timer or by hand. It plans, then moves day after day; whatever stopped an
//! earlier run, a kill, a full disk, a power cut, the next one finishes. It reads no clock and no file's time of
//! modification: `now` is passed in, and a day's age is `now` − the end of the day in its directory's name.
//!
//! ```text
//! for each warm day that is old enough and final:
//!   for each .q that has no cold copy:   compress → sync → read back and compare SHA-256 → publish .idx → publish .zst
//!   for each .q that has one already:    read both and compare SHA-256; a wrong index is made anew
//!   meta.json → cold                     published whole
//!   sync the cold directory and those above it    a name that we see is not yet one that survives
//!   remove the warm .q files, sync, then the warm meta.json, then the directory
//! ```
//!
//! At every point of this one complete copy of each file has its final name: until the last but one line the warm one,
//! from the second on the cold one too, and readers ask warm first.
//!
//! A cold file whose index is missing gets one anew, from what it says itself.
//!
//! **What moves.** The directory of a (venue, symbol, date) moves when *every* `.q` in it is sealed and `meta.json` says
//! so too: the refinery writes it last, and a day that is split over two tiers for longer than a move would be one
//! that nobody can describe. Recorded raw segments (`raw/v1`) move one by one, they are sealed when they are published.
//! What is not ours, by its name, stays where it is, and so does its directory.
//!
//! One run at a time holds `state/tier.lock`. A damaged file is reported and stays; the others move. Nothing here seals
//! a partition, which is the refinery's, or touches hot.

use crate::{
    Error, ErrorKind, Result,
    archive::{ColdFile, Options, SealedFile, cold_path, compress, index_path},
    growing::remove_if_there,
    meta::{self, Meta},
    root::{Date, META, Name, RawName, Root, Stream, TEMPORARY, Tier},
};
use chronicle_platform::{File, Lock, Open, Platform, TroubleKind};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// Longest `meta.json` that is copied.
const MAX_META_LEN: u64 = 64 << 20;

/// When and how files move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Time from the end of a day until it moves.
    pub min_age: Duration,
    /// How it is compressed.
    pub compression: Options,
}

impl Default for Policy {
    /// After 24 hours.
    fn default() -> Self {
        Policy { min_age: Duration::from_secs(24 * 60 * 60), compression: Options::default() }
    }
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Files that are cold now and were not before.
    pub moved: Vec<Moved>,
    /// Days that stay warm for now.
    pub skipped: Vec<Skipped>,
    /// Files that could not be moved and stay where they are.
    pub failed: Vec<Failed>,
    /// Indexes that were missing beside their cold files and were made anew.
    pub reindexed: Vec<PathBuf>,
}

impl Report {
    /// Bytes that the moved files had on warm and have on cold.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        self.moved.iter().fold((0, 0), |(warm, cold), moved| (warm + moved.warm_bytes, cold + moved.cold_bytes))
    }
}

/// A file that is cold now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Its cold copy.
    pub path: PathBuf,
    /// Bytes of the `.q`.
    pub warm_bytes: u64,
    /// Bytes of the `.zst` and its index.
    pub cold_bytes: u64,
    /// Blocks.
    pub blocks: u64,
    /// Hex SHA-256 of the `.q`.
    pub sha256: String,
    /// An earlier run had made the cold copy; this one compared it and removed the warm one.
    pub finished_earlier_move: bool,
}

/// A day that stays warm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its warm directory.
    pub path: PathBuf,
    /// Why.
    pub reason: Reason,
}

/// Why a day stays warm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// It ended less than the policy's age ago.
    Young,
    /// Not all of its files are sealed.
    Unsealed,
    /// There is no `meta.json`, or it says that the day is not final: the refinery has not finished.
    Unfinished,
}

/// A file that could not be moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The warm file, or the directory that could not be looked into.
    pub path: PathBuf,
    /// Why: path, offset, evidence.
    pub error: String,
    /// Whether bytes are damaged; else the system said no.
    pub damage: bool,
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The file that is being moved.
    pub path: &'a Path,
    /// Bytes done of [`Progress::total`], over all files of the run; each file counts twice, because it is read back.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Moves what is old enough, once.
///
/// `now_ns` decides what is old enough. Call it as often as you like: what is done is not done again.
///
/// # Errors
///
/// [`Error::Locked`] while another run holds the lock; trouble with the lock or the listing of tiers. What concerns a
/// single day is in the report instead.
pub fn run_once<P: Platform>(platform: &P, root: &Root, now_ns: u64, policy: &Policy) -> Result<Report> {
    run_once_watched(platform, root, now_ns, policy, &mut |_| {})
}

/// As [`run_once`], and says how far it is.
///
/// # Errors
///
/// As [`run_once`].
pub fn run_once_watched<P: Platform>(
    platform: &P,
    root: &Root,
    now_ns: u64,
    policy: &Policy,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<Report> {
    platform.create_dirs(&root.state)?;
    let lock_path = root.state.join("tier.lock");
    let lock = platform.open(&lock_path, Open::EnsurePrivate)?;
    if !lock.try_lock(Lock::Exclusive)? {
        return Err(Error::Locked { path: lock_path });
    }

    let mut run = Run { platform, policy, root, watch, report: Report::default(), done: 0, total: 0 };
    let days = run.plan(now_ns)?;
    run.total = days.iter().flat_map(|day| &day.files).map(|file| 2 * file.len).sum();
    for day in &days {
        if let Err(error) = run.finish(day) {
            run.failed(&day.warm, &error);
            if is_sync(&error) {
                return Ok(run.report);
            }
        }
    }
    run.reindex()?;
    Ok(run.report)
}

/// Whether a sync failed. What it was to make durable may be lost although a later sync succeeds (D-2), and days share
/// directories: so the run ends, with nothing removed that depends on it.
fn is_sync(error: &Error) -> bool {
    matches!(error, Error::Trouble(trouble) if trouble.operation().starts_with("sync"))
}

/// A directory of warm files that move together.
struct Day {
    warm: PathBuf,
    cold: PathBuf,
    files: Vec<Warm>,
    /// Never with raw days.
    has_meta: bool,
}

struct Warm {
    path: PathBuf,
    len: u64,
}

struct Run<'a, P: Platform> {
    platform: &'a P,
    policy: &'a Policy,
    root: &'a Root,
    watch: &'a mut dyn FnMut(Progress<'_>),
    report: Report,
    done: u64,
    total: u64,
}

impl<P: Platform> Run<'_, P> {
    fn failed(&mut self, path: &Path, error: &Error) {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        let damage = error.kind() == ErrorKind::Damage;
        self.report.failed.push(Failed { path: path.into(), error: text, damage });
    }

    fn skipped(&mut self, path: &Path, reason: Reason) {
        self.report.skipped.push(Skipped { path: path.into(), reason });
    }

    /// Names in a directory; none if it is not there.
    fn list(&self, dir: &Path) -> Result<Vec<chronicle_platform::Entry>> {
        match self.platform.list(dir).map_err(Error::from) {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            other => other,
        }
    }

    /// Directories in a directory whose names are a `T`; others are not ours.
    fn dirs<T: FromStr>(&self, dir: &Path) -> Result<Vec<T>> {
        Ok(self
            .list(dir)?
            .into_iter()
            .filter(|entry| entry.is_dir)
            .filter_map(|entry| entry.name.parse().ok())
            .collect())
    }

    /// All days that are ready to move, in the order of their names.
    fn plan(&mut self, now_ns: u64) -> Result<Vec<Day>> {
        let root = self.root;
        let mut days = Vec::new();
        let partitions = root.partitions(Tier::Warm);
        for venue in self.dirs::<Name>(&partitions)? {
            for symbol in self.dirs::<Name>(&partitions.join(&venue))? {
                for date in self.dirs::<Date>(&partitions.join(&venue).join(&symbol))? {
                    let warm = root.day(Tier::Warm, &venue, &symbol, date);
                    let cold = root.day(Tier::Cold, &venue, &symbol, date);
                    self.plan_day(&mut days, warm, cold, date, now_ns, false);
                }
            }
        }
        let raw = root.warm.join("raw").join("v1");
        for venue in self.dirs::<Name>(&raw)? {
            for date in self.dirs::<Date>(&root.raw(Tier::Warm, &venue))? {
                let warm = root.raw(Tier::Warm, &venue).join(date.to_string());
                let cold = root.raw(Tier::Cold, &venue).join(date.to_string());
                self.plan_day(&mut days, warm, cold, date, now_ns, true);
            }
        }
        Ok(days)
    }

    fn plan_day(&mut self, days: &mut Vec<Day>, warm: PathBuf, cold: PathBuf, date: Date, now_ns: u64, raw: bool) {
        let old_enough =
            now_ns.checked_sub(date.end_ns()).is_some_and(|age| u128::from(age) >= self.policy.min_age.as_nanos());
        if !old_enough {
            return self.skipped(&warm, Reason::Young);
        }
        match self.look(&warm, &cold, raw) {
            Ok(Ok(day)) => days.push(day),
            Ok(Err(reason)) => self.skipped(&warm, reason),
            Err(error) => self.failed(&warm, &error),
        }
    }

    /// What of a day would move, or why it stays.
    fn look(&mut self, warm: &Path, cold: &Path, raw: bool) -> Result<std::result::Result<Day, Reason>> {
        let mut day = Day { warm: warm.into(), cold: cold.into(), files: Vec::new(), has_meta: false };
        for entry in self.list(warm)? {
            let path = warm.join(&entry.name);
            if entry.is_dir {
                continue;
            }
            day.has_meta |= !raw && entry.name == META;
            let Some(stem) = entry.name.strip_suffix(".q") else { continue };
            let ours = if raw { RawName::of_file(&entry.name).is_some() } else { stem.parse::<Stream>().is_ok() };
            if !ours {
                continue;
            }
            match SealedFile::<P>::open(self.platform, &path) {
                Ok(sealed) => day.files.push(Warm { path, len: sealed.len() }),
                Err(Error::Unsealed { .. }) => return Ok(Err(Reason::Unsealed)),
                // One damaged file does not hold back the others of its day, nor they it: it stays, and is reported.
                Err(error) if error.kind() == ErrorKind::Damage => self.failed(&path, &error),
                Err(error) => return Err(error),
            }
        }
        if !raw && !day.files.is_empty() {
            // After a crash between the last steps of a move, cold may have the only one.
            let meta = match Meta::read(self.platform, warm) {
                Err(error) if error.is_not_found() => Meta::read(self.platform, cold),
                other => other,
            };
            match meta {
                Ok(meta) if meta.sealed => {}
                Ok(_) => return Ok(Err(Reason::Unfinished)),
                Err(error) if error.is_not_found() => return Ok(Err(Reason::Unfinished)),
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(day))
    }

    /// Makes indexes anew that somebody lost: cold files say all that is in them.
    fn reindex(&mut self) -> Result<()> {
        let mut days = Vec::new();
        let partitions = self.root.partitions(Tier::Cold);
        for venue in self.dirs::<Name>(&partitions)? {
            for symbol in self.dirs::<Name>(&partitions.join(&venue))? {
                for date in self.dirs::<Date>(&partitions.join(&venue).join(&symbol))? {
                    days.push(self.root.day(Tier::Cold, &venue, &symbol, date));
                }
            }
        }
        for venue in self.dirs::<Name>(&self.root.cold.join("raw").join("v1"))? {
            let raw = self.root.raw(Tier::Cold, &venue);
            days.extend(self.dirs::<Date>(&raw)?.into_iter().map(|date| raw.join(date.to_string())));
        }
        for day in days {
            let entries = self.list(&day)?;
            let has = |name: &str| entries.iter().any(|entry| entry.name == name);
            for entry in entries.iter().filter(|entry| entry.name.ends_with(".q.zst")) {
                if has(&format!("{}.idx", entry.name)) {
                    continue;
                }
                let path = day.join(&entry.name);
                let index = index_path(&path);
                let made = ColdFile::open_without_index(self.platform, &path)
                    .and_then(|cold| meta::publish(self.platform, &index, &cold.tables().index_bytes()));
                match made {
                    Ok(()) => self.report.reindexed.push(index),
                    Err(error) if is_sync(&error) => return Err(error),
                    Err(error) => self.failed(&path, &error),
                }
            }
        }
        Ok(())
    }

    /// Moves a day, or what an earlier run left of it.
    fn finish(&mut self, day: &Day) -> Result<()> {
        let began = self.is_begun(day)?;
        if day.files.is_empty() && !began {
            // Not one file, and none ever was archived: a refinery has just made the directory.
            return Ok(());
        }
        self.platform.create_dirs(&day.cold)?;
        self.clean(&day.cold)?;
        let mut copied = Vec::new();
        for file in &day.files {
            match self.copy(day, file) {
                Ok(moved) => copied.push((file, moved)),
                Err(error) if is_sync(&error) => return Err(error),
                Err(error) => self.failed(&file.path, &error),
            }
        }
        if copied.is_empty() && !began {
            return Ok(());
        }
        if day.has_meta {
            self.copy_meta(day)?;
        }
        self.sync_names(&day.cold)?;
        for (file, moved) in copied {
            self.platform.remove(&file.path)?;
            self.report.moved.push(moved);
        }
        self.platform.sync_dir(&day.warm)?;
        // It goes last, and not from under a file that stayed.
        if day.has_meta && self.list(&day.warm)?.iter().all(|entry| entry.name == META) {
            remove_if_there(self.platform, &day.warm.join(META))?;
        }
        if self.list(&day.warm)?.is_empty() {
            self.platform.remove_dir(&day.warm)?;
            if let Some(parent) = day.warm.parent() {
                self.platform.sync_dir(parent)?;
            }
        }
        Ok(())
    }

    /// D-9: what supersedes the warm files is durable, under its name, before they go. All names on its way are synced
    /// anew, because whoever gave one of them may have been killed before it was durable; nobody can see that.
    fn sync_names(&self, cold: &Path) -> Result<()> {
        for dir in cold.ancestors() {
            let outside = !dir.starts_with(&self.root.cold);
            let dir = if dir == Path::new("") { Path::new(".") } else { dir };
            match self.platform.sync_dir(dir) {
                // The tier's parent: its names may be another owner's business.
                Err(trouble) if outside && trouble.kind() == TroubleKind::Denied => {}
                other => other?,
            }
            if outside {
                break;
            }
        }
        Ok(())
    }

    /// Whether cold has anything of this day.
    fn is_begun(&self, day: &Day) -> Result<bool> {
        Ok(self.list(&day.cold)?.iter().any(|entry| entry.name.ends_with(".q.zst")))
    }

    /// Removes what a killed run left under temporary names. Only the holder of the lock makes any here.
    fn clean(&self, cold: &Path) -> Result<()> {
        for entry in self.list(cold)? {
            if !entry.is_dir && entry.name.ends_with(TEMPORARY) {
                remove_if_there(self.platform, &cold.join(&entry.name))?;
            }
        }
        Ok(())
    }

    /// Makes the cold copy, or proves that the one that is there is it.
    fn copy(&mut self, day: &Day, file: &Warm) -> Result<Moved> {
        let target = cold_path(&file.path, &day.cold);
        let (before, total) = (self.done, self.total);
        self.done += 2 * file.len;
        let watch = &mut self.watch;
        let mut furthest = before;
        let mut progress = |done: u64, _| {
            // A copy that is made anew does not take back what was said.
            furthest = furthest.max(before + done);
            watch(Progress { path: &file.path, done: furthest, total });
        };
        let threads = self.policy.compression.threads;

        if self.platform.exists(&target)? {
            match existing(self.platform, file, &target, threads, &mut progress) {
                Ok(Some(moved)) => return Ok(moved),
                // Both are whole, and which one is meant is not ours to say.
                Ok(None) => return Err(Error::malformed(target, 0, "whole, but of other bytes than the warm file")),
                // Warm is whole, so nothing is lost: the cold copy is made anew, in its place.
                Err(error) if error.kind() == ErrorKind::Damage && error.path() == Some(&target) => {}
                Err(error) => return Err(error),
            }
        }
        let options = self.policy.compression;
        let summary = compress(self.platform, &file.path, &day.cold, options, &mut progress)?;
        Ok(Moved {
            path: target,
            warm_bytes: summary.source_len,
            cold_bytes: summary.compressed_len + summary.index_len,
            blocks: summary.blocks,
            sha256: hex(&summary.source_sha256),
            finished_earlier_move: false,
        })
    }

    fn copy_meta(&self, day: &Day) -> Result<()> {
        let (from, to) = (day.warm.join(META), day.cold.join(META));
        let bytes = meta::read_small(self.platform, &from, MAX_META_LEN)?;
        let there = match meta::read_small(self.platform, &to, MAX_META_LEN) {
            Ok(there) => Some(there),
            Err(error) if error.is_not_found() => None,
            // What is there is not one of ours: it is replaced.
            Err(error) if error.kind() == ErrorKind::Damage => None,
            Err(error) => return Err(error),
        };
        if there.as_ref() != Some(&bytes) {
            meta::publish(self.platform, &to, &bytes)?;
        }
        Ok(())
    }
}

/// Compares a cold copy that was found with the warm file, and puts its index right. `None`: both are whole and differ.
fn existing<P: Platform>(
    platform: &P,
    warm: &Warm,
    target: &Path,
    threads: usize,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<Moved>> {
    let source = SealedFile::<P>::open(platform, &warm.path)?.digest()?;
    progress(warm.len, 2 * warm.len);
    let cold = ColdFile::open_without_index(platform, target)?;
    let digest = cold.source_digest(threads, &mut |done, total| progress(warm.len + done.min(total), 2 * warm.len))?;
    if digest != source {
        return Ok(None);
    }
    let index = cold.tables().index_bytes();
    match ColdFile::open(platform, target) {
        Ok(cold) if cold.has_index() => {}
        Err(error) if error.kind() != ErrorKind::Damage => return Err(error),
        _ => meta::publish(platform, &index_path(target), &index)?,
    }
    Ok(Some(Moved {
        path: target.into(),
        warm_bytes: warm.len,
        cold_bytes: cold.compressed_len() + index.len() as u64,
        blocks: cold.blocks().len() as u64,
        sha256: hex(&digest),
        finished_earlier_move: true,
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
