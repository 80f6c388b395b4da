//! Refining a root: the raw stream of a venue into the partitions of its symbols, from checkpoint to checkpoint.
//!
//! ```text
//! lock state/refine/{venue}.lock
//! read the checkpoint; cut each open partition to its length; remove files that it does not know; finish its sealing
//! for each raw frame behind its cursor: refine                        partitions grow through buffers
//! now and then, and at the end:
//!     write and sync every partition
//!     publish the checkpoint {cursor, state, partitions' lengths, days to seal}
//!     seal the files of those days, then their meta.json; meta.json first where only `late` is new
//! ```
//!
//! Use [`refine`] to take in all that is there and stop, [`Refiner`] to stay and take in more as it comes, and
//! [`seal_aged`] before days are moved to the archive. A kill at any moment costs the work since the last checkpoint and
//! no byte: what is made again is what was there. The first checkpoint is published before the first partition, so
//! that partitions without a checkpoint are a mishap and not a beginning; they are never removed then.
//!
//! What it never does: it moves, compresses or deletes no sealed partition, holds back no raw segment (the recorder
//! does), and leaves no file of its own under `v1/` but partitions and `meta.json`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chronicle_core::Append;
use chronicle_platform::{File, Lock, Open, Platform, Trouble, TroubleKind};
use chronicle_storage::Error as StorageError;
use chronicle_storage::meta::{Completeness, Gap as MetaGap, Meta, Range, Source as MetaSource};
use chronicle_storage::partition::{Committed, PartitionFile, PartitionWriter};
use chronicle_storage::raw::{RawEvent, RawReader};
use chronicle_storage::root::{Date, META, Name, PartitionId, Root, Stream, TEMPORARY, Tier, TimeNs};

use crate::checkpoint::{self, Checkpoint};
use crate::error::{Error, Result};
use crate::refinery::{Day, FrameError, LatePolicy, Place, RawFrame, Refinery, Sink, Symbol};
use crate::report::Report;

/// Partitions that are open at once.
const OPEN_MAX: usize = 256;
/// Bytes that a partition collects while it cannot be open, before another one is closed for it.
const COLLECTED_LEN: usize = 64 << 10;
/// And all of them together.
const COLLECTED_LEN_ALL: usize = 64 << 20;
/// Frames from one report of progress to the next.
const PROGRESS_FRAMES: u64 = 32;

/// How to refine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What happens to late records of days that are opened from now on; none = as the venue's last run, at first
    /// [`LatePolicy::default`].
    pub late_policy: Option<LatePolicy>,
    /// Seal every open day at the end.
    pub seal: bool,
    /// Raw frames from one checkpoint to the next. Changes no byte of what is made, only how much is made again after
    /// a kill.
    pub checkpoint_frames: u64,
}

impl Default for Options {
    /// No sealing; a checkpoint every 2^20 frames, about a second of work.
    fn default() -> Self {
        Self { late_policy: None, seal: false, checkpoint_frames: 1 << 20 }
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The venue.
    pub venue: &'a Name,
    /// Raw frames taken in by this run.
    pub frames: u64,
    /// Their payload bytes.
    pub len: u64,
}

/// Takes in all raw frames of a venue, or of all venues, and reports on everything that was ever refined here.
///
/// ```no_run
/// # fn main() -> chronicle_etl::error::Result<()> {
/// # #[cfg(target_os = "linux")] {
/// use chronicle_etl::refine::{Options, refine};
/// use chronicle_platform_linux::Linux;
/// use chronicle_storage::root::Root;
///
/// let report = refine(&Linux, &Root::new("data"), None, &Options::default(), |_| {})?;
/// for partition in &report.partitions {
///     println!("{} {} {}: {} events", partition.symbol, partition.date, partition.stream, partition.counts.events);
/// }
/// # }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The root is not there; another process refines the venue (`Locked`); no rules for it; damage, trouble.
pub fn refine<P: Platform>(
    platform: &P,
    root: &Root,
    venue: Option<&Name>,
    options: &Options,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Report> {
    each(platform, root, venue, options, |refiner| {
        refiner.run(&mut progress)?;
        if options.seal { refiner.seal_until(Date::MAX) } else { Ok(()) }
    })
}

/// Takes in what is there, then seals the days that ended at least `min_age` before `now_ns`.
///
/// # Errors
///
/// As [`refine`].
pub fn seal_aged<P: Platform>(
    platform: &P,
    root: &Root,
    venue: Option<&Name>,
    now_ns: u64,
    min_age: Duration,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Report> {
    let min_age = u64::try_from(min_age.as_nanos()).unwrap_or(u64::MAX);
    let last = now_ns.checked_sub(min_age).and_then(|ns| Date::of_ns(ns).previous());
    each(platform, root, venue, &Options::default(), |refiner| {
        refiner.run(&mut progress)?;
        last.map_or(Ok(()), |last| refiner.seal_until(last))
    })
}

fn each<P: Platform>(
    platform: &P,
    root: &Root,
    venue: Option<&Name>,
    options: &Options,
    mut work: impl FnMut(&mut Refiner<P>) -> Result<()>,
) -> Result<Report> {
    let venues = match venue {
        Some(venue) => vec![venue.clone()],
        None => venues(platform, root)?,
    };
    let mut report = Report::default();
    for venue in venues {
        let mut refiner = Refiner::open(platform, root, &venue, options.clone())?;
        work(&mut refiner)?;
        report.add(refiner.refinery());
    }
    report.sort();
    Ok(report)
}

/// Venues that have a raw stream or a checkpoint, sorted.
///
/// # Errors
///
/// Trouble, of kind `NotFound` if the root is not there.
pub fn venues<P: Platform>(platform: &P, root: &Root) -> Result<Vec<Name>> {
    must_exist(platform, root)?;
    let mut found = BTreeSet::new();
    let raw = [root.raw_queues(), root.warm.join("raw").join("v1"), root.cold.join("raw").join("v1")];
    for dir in raw {
        let entries = list(platform, &dir)?;
        found.extend(entries.iter().filter(|e| e.is_dir).filter_map(|e| Name::new(&e.name).ok()));
    }
    for entry in list(platform, &checkpoint::directory(root))? {
        found.extend(entry.name.strip_suffix(".checkpoint").and_then(|venue| Name::new(venue).ok()));
    }
    Ok(found.into_iter().collect())
}

/// Up to which length each partition of a venue that still grows is durable, by its checkpoint; none without one.
///
/// For `verify`: before that length, what does not fit is damage; behind it, a torn tail. A day that is being sealed may
/// be among them, and longer than this says.
///
/// # Errors
///
/// The checkpoint is damaged, or cannot be read.
pub fn durable_lens<P: Platform>(platform: &P, root: &Root, venue: &Name) -> Result<BTreeMap<PartitionId, u64>> {
    let Some(checkpoint) = Checkpoint::read(platform, &checkpoint::path(root, venue))? else {
        return Ok(BTreeMap::new());
    };
    let symbols = checkpoint.refinery.symbols();
    let of = |(place, committed): &(Place, Committed)| {
        let code = symbols.get(place.symbol as usize)?.code().clone();
        Some((PartitionId::new(venue.clone(), code, place.date, place.stream), committed.len))
    };
    Ok(checkpoint.committed.iter().filter_map(of).collect())
}

/// Whether a file is a checkpoint, by its first bytes.
#[must_use]
pub fn is_checkpoint<P: Platform>(platform: &P, path: &Path) -> bool {
    let mut magic = checkpoint::MAGIC.map(|_| 0);
    let read = platform.open(path, Open::Read).and_then(|file| file.read_at(&mut magic, 0));
    read.is_ok() && magic == checkpoint::MAGIC
}

/// Reads a checkpoint and checks every byte of it; what it says of partitions, [`durable_lens`] tells.
///
/// # Errors
///
/// It is damaged, or cannot be read.
pub fn verify_checkpoint<P: Platform>(platform: &P, path: &Path) -> Result<()> {
    match Checkpoint::read(platform, path)? {
        Some(_) => Ok(()),
        None => Err(Trouble::new("open", path, std::io::Error::from(std::io::ErrorKind::NotFound)).into()),
    }
}

fn must_exist<P: Platform>(platform: &P, root: &Root) -> Result<()> {
    for dir in [&root.hot, &root.warm, &root.cold, &root.state] {
        if platform.exists(dir)? {
            return Ok(());
        }
    }
    let reason = std::io::Error::from(std::io::ErrorKind::NotFound);
    Err(Trouble::new("open", root.warm.parent().unwrap_or(&root.warm), reason).into())
}

fn list<P: Platform>(platform: &P, dir: &Path) -> Result<Vec<chronicle_platform::Entry>> {
    match platform.list(dir) {
        Ok(entries) => Ok(entries),
        Err(trouble) if trouble.kind() == TroubleKind::NotFound => Ok(Vec::new()),
        Err(trouble) => Err(trouble.into()),
    }
}

/// Refines one venue, and holds its lock.
#[derive(Debug)]
pub struct Refiner<P: Platform> {
    files: Files<P>,
    refinery: Refinery,
    raw: RawReader<P>,
    options: Options,
    checkpoint: PathBuf,
    /// Days that the last checkpoint said were to be sealed.
    sealing: Vec<(u32, Date)>,
    /// Something happened since the last checkpoint.
    changed: bool,
    frames: u64,
    len: u64,
    /// A failed write leaves the state ahead of the files: only opening again helps.
    failed: bool,
    _lock: P::File,
}

impl<P: Platform> Refiner<P> {
    /// Takes the venue's lock, goes back to its last checkpoint, and finishes what that one began.
    ///
    /// # Errors
    ///
    /// As [`refine`].
    pub fn open(platform: &P, root: &Root, venue: &Name, options: Options) -> Result<Self> {
        must_exist(platform, root)?;
        let fresh = Refinery::new(venue.clone())?;
        platform.create_dirs(&checkpoint::directory(root))?;
        let lock_path = checkpoint::directory(root).join(format!("{venue}.lock"));
        let lock = platform.open(&lock_path, Open::EnsurePrivate)?;
        if !lock.try_lock(Lock::Exclusive)? {
            return Err(StorageError::Locked { path: lock_path }.into());
        }
        let path = checkpoint::path(root, venue);
        let found = Checkpoint::read(platform, &path)?;
        let is_new = found.is_none();
        let checkpoint =
            found.unwrap_or(Checkpoint { cursor: None, refinery: fresh, committed: Vec::new(), sealing: Vec::new() });
        let Checkpoint { cursor, mut refinery, committed, sealing } = checkpoint;
        if let Some(policy) = options.late_policy {
            refinery.set_late_policy(policy);
        }
        let mut this = Self {
            files: Files {
                platform: platform.clone(),
                root: root.clone(),
                venue: venue.clone(),
                writers: HashMap::new(),
                collected: BTreeMap::new(),
                collected_len: 0,
                touched: Vec::new(),
                committed: committed.into_iter().collect(),
                parked: BTreeMap::new(),
                resumed: BTreeSet::new(),
                sealing: BTreeSet::new(),
                tick: 0,
            },
            raw: RawReader::open(platform, root, venue, cursor)?,
            refinery,
            options,
            checkpoint: path,
            sealing,
            changed: is_new,
            frames: 0,
            len: 0,
            failed: false,
            _lock: lock,
        };
        if is_new {
            if let Some(partition) = this.files.any()? {
                return Err(Error::StateMissing { checkpoint: this.checkpoint, partition });
            }
            this.checkpoint()?;
        } else {
            this.files.go_back(&this.refinery)?;
            this.finish_sealing()?;
        }
        Ok(this)
    }

    /// The state that the raw frames so far gave.
    #[must_use]
    pub fn refinery(&self) -> &Refinery {
        &self.refinery
    }

    /// What everything refined so far gave.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::of(&self.refinery)
    }

    /// Takes in raw frames until there are no more for now, and takes a checkpoint.
    ///
    /// # Errors
    ///
    /// Damage, trouble. The refiner is then of no use any more; opening another goes on from the last checkpoint.
    pub fn run(&mut self, mut progress: impl FnMut(Progress<'_>)) -> Result<()> {
        self.guarded(|this| {
            let mut until_checkpoint = this.options.checkpoint_frames.max(1);
            while this.step()? {
                if this.frames.is_multiple_of(PROGRESS_FRAMES) {
                    progress(Progress { venue: this.refinery.venue(), frames: this.frames, len: this.len });
                }
                until_checkpoint -= 1;
                if until_checkpoint == 0 {
                    this.checkpoint()?;
                    until_checkpoint = this.options.checkpoint_frames.max(1);
                }
            }
            this.checkpoint()?;
            progress(Progress { venue: this.refinery.venue(), frames: this.frames, len: this.len });
            Ok(())
        })
    }

    /// Seals all open days up to and including `last`, lets go what waits for them, and takes a checkpoint.
    ///
    /// # Errors
    ///
    /// As [`Refiner::run`].
    pub fn seal_until(&mut self, last: Date) -> Result<()> {
        self.guarded(|this| {
            let before = this.refinery.symbols().iter().map(Symbol::waiting).sum::<u64>();
            this.refinery.seal_until(last, &mut this.files)?;
            this.files.settle(&this.refinery)?;
            let after = this.refinery.symbols().iter().map(Symbol::waiting).sum::<u64>();
            this.changed |= before != after || !this.files.sealing.is_empty();
            this.checkpoint()
        })
    }

    /// Waits until there may be more raw frames, at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Refiner::run`].
    pub fn wait(&mut self, timeout: Duration) -> Result<()> {
        Ok(self.raw.wait(timeout)?)
    }

    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        assert!(!self.failed, "bug: a refiner that failed was used again; open another");
        let result = work(self);
        self.failed = result.is_err();
        result
    }

    fn step(&mut self) -> Result<bool> {
        match self.raw.next()? {
            None => return Ok(false),
            Some(RawEvent::Lost { .. }) => self.refinery.raw_lost(),
            Some(RawEvent::Frame(raw)) => {
                let seq = raw.frame.seq;
                let in_private_memory = raw.frame.payload.as_slice(None);
                let payload = in_private_memory.expect("bug: a raw frame's payload is in private memory");
                let frame = RawFrame { ingest_ns: raw.frame.time_ns, type_id: raw.frame.type_id, payload };
                self.frames += 1;
                self.len += payload.len() as u64;
                match self.refinery.frame(frame, &mut self.files) {
                    Ok(()) => {}
                    Err(FrameError::Sink(error)) => return Err(error.into()),
                    Err(FrameError::Malformed(malformed)) => {
                        let queue = u128::from_be_bytes(raw.queue_id);
                        let place = format!("raw stream {} of queue {queue:032x}", self.refinery.venue());
                        return Err(Error::Record { place, seq, malformed });
                    }
                }
            }
        }
        self.changed = true;
        self.files.settle(&self.refinery)?;
        Ok(true)
    }

    fn checkpoint(&mut self) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        self.files.flush(&self.refinery)?;
        self.sealing.extend(std::mem::take(&mut self.files.sealing));
        self.write_metas()?;
        self.publish()?;
        self.finish_sealing()
    }

    fn publish(&mut self) -> Result<()> {
        let checkpoint = Checkpoint {
            cursor: self.raw.cursor(),
            refinery: self.refinery.clone(),
            committed: self.files.committed.iter().map(|(place, committed)| (*place, *committed)).collect(),
            sealing: self.sealing.clone(),
        };
        checkpoint.publish(&self.files.platform, &self.checkpoint)?;
        self.changed = false;
        Ok(())
    }

    /// The `meta.json` of open days that changed. One of a day to be sealed is written when its files are: it says that
    /// they are final.
    fn write_metas(&mut self) -> Result<()> {
        for (index, date) in self.refinery.take_changed() {
            let symbol = &self.refinery.symbols()[index as usize];
            let Some(day) = symbol.days().get(&date) else { continue };
            if !day.sealed && day.has_any() {
                self.files.write_meta(&self.refinery, symbol, date, day)?;
            }
        }
        Ok(())
    }

    /// Seals the files of the days that the published checkpoint says are to be sealed, then publishes one that says
    /// that they are.
    fn finish_sealing(&mut self) -> Result<()> {
        if self.sealing.is_empty() {
            return Ok(());
        }
        for (index, date) in std::mem::take(&mut self.sealing) {
            let symbol = &self.refinery.symbols()[index as usize];
            let Some(day) = symbol.days().get(&date) else { continue };
            // The archive takes a day once all its files are sealed and its meta.json says that they are. Where that says so
            // already, and `late` alone came behind it, the seal is what the archive waits for: it comes last.
            let was_final = self.files.is_final(symbol, date);
            if was_final {
                self.files.describe(&self.refinery, symbol, date, day)?;
            }
            for (stream, _) in day.partitions.iter().filter(|(_, partition)| partition.exists) {
                self.files.seal(&self.refinery, Place { symbol: index, date, stream: *stream })?;
            }
            if !was_final {
                self.files.describe(&self.refinery, symbol, date, day)?;
            }
        }
        self.publish()
    }
}

/// A partition's file, open.
#[derive(Debug)]
struct OpenFile<P: Platform> {
    writer: PartitionWriter<P>,
    /// When it was last used, in appends.
    used: u64,
}

/// The partitions of a venue, a bounded number of them open.
#[derive(Debug)]
struct Files<P: Platform> {
    platform: P,
    root: Root,
    venue: Name,
    writers: HashMap<Place, OpenFile<P>>,
    /// Frames for partitions that are not open, each as time, type, flags, length and payload.
    collected: BTreeMap<Place, Vec<u8>>,
    collected_len: usize,
    /// Partitions that got into `collected` since it was last looked at.
    touched: Vec<Place>,
    /// What is durable of each partition that is not sealed, as of its last flush.
    committed: BTreeMap<Place, Committed>,
    /// What is written, but not durable, of partitions that were closed to have fewer open.
    parked: BTreeMap<Place, Committed>,
    /// Partitions that were opened by this process, and so compared with the checkpoint.
    resumed: BTreeSet<Place>,
    sealing: BTreeSet<(u32, Date)>,
    tick: u64,
}

const COLLECTED_HEADER: usize = 16;

impl<P: Platform> Sink for Files<P> {
    type Error = StorageError;

    fn append(&mut self, place: Place, frame: Append, payload: &[u8]) -> std::result::Result<(), StorageError> {
        self.tick += 1;
        if let Some(open) = self.writers.get_mut(&place) {
            open.used = self.tick;
            open.writer.append(frame, payload)?;
            return Ok(());
        }
        let bytes = self.collected.entry(place).or_default();
        bytes.extend(frame.time_ns.to_le_bytes());
        bytes.extend(frame.type_id.to_le_bytes());
        bytes.extend(frame.flags.to_le_bytes());
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(payload);
        self.collected_len += COLLECTED_HEADER + payload.len();
        self.touched.push(place);
        Ok(())
    }

    fn seal(&mut self, place: Place) -> std::result::Result<(), StorageError> {
        self.sealing.insert((place.symbol, place.date));
        Ok(())
    }
}

impl<P: Platform> Files<P> {
    fn id(&self, refinery: &Refinery, place: Place) -> PartitionId {
        let code = refinery.symbols()[place.symbol as usize].code();
        PartitionId::new(self.venue.clone(), code.clone(), place.date, place.stream)
    }

    /// Opens what was collected for, as far as it may.
    fn settle(&mut self, refinery: &Refinery) -> Result<()> {
        while let Some(place) = self.touched.pop() {
            let len = self.collected.get(&place).map_or(0, Vec::len);
            if len == 0 {
                continue;
            }
            if self.writers.len() < OPEN_MAX || len >= COLLECTED_LEN {
                self.open(refinery, place)?;
            } else if self.collected_len >= COLLECTED_LEN_ALL {
                for place in self.collected.keys().copied().collect::<Vec<_>>() {
                    self.open(refinery, place)?;
                }
            }
        }
        Ok(())
    }

    /// Opens a partition's file where it was left, or begins it.
    fn writer(&mut self, refinery: &Refinery, place: Place) -> Result<PartitionWriter<P>> {
        let id = self.id(refinery, place);
        let path = self.root.partition(Tier::Warm, &id);
        let was_open = !self.resumed.insert(place);
        Ok(match (self.parked.remove(&place), self.committed.get(&place)) {
            (Some(parked), _) => PartitionWriter::reopen(&self.platform, &path, &id, &parked)?,
            (None, Some(committed)) if was_open => PartitionWriter::reopen(&self.platform, &path, &id, committed)?,
            (None, Some(committed)) => PartitionWriter::resume(&self.platform, &path, &id, committed)?,
            (None, None) => PartitionWriter::create(&self.platform, &path, &id)?,
        })
    }

    /// Opens a partition's file, another one is closed for it if need be, and writes what was collected.
    fn open(&mut self, refinery: &Refinery, place: Place) -> Result<()> {
        if !self.writers.contains_key(&place) {
            if self.writers.len() >= OPEN_MAX {
                let oldest = self.writers.iter().min_by_key(|(_, open)| open.used).map(|(place, _)| *place);
                if let Some(oldest) = oldest {
                    self.park(oldest)?;
                }
            }
            let writer = self.writer(refinery, place)?;
            self.writers.insert(place, OpenFile { writer, used: self.tick });
        }
        let (Some(open), Some(bytes)) = (self.writers.get_mut(&place), self.collected.remove(&place)) else {
            return Ok(());
        };
        self.collected_len -= bytes.len();
        let mut rest = &bytes[..];
        while let Some((header, behind)) = rest.split_first_chunk::<COLLECTED_HEADER>() {
            let [a, b, c, d, e, f, g, h, t0, t1, f0, f1, l0, l1, l2, l3] = *header;
            let frame = Append {
                time_ns: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                type_id: u16::from_le_bytes([t0, t1]),
                flags: u16::from_le_bytes([f0, f1]),
            };
            let (payload, behind) = behind.split_at(u32::from_le_bytes([l0, l1, l2, l3]) as usize);
            open.writer.append(frame, payload)?;
            rest = behind;
        }
        Ok(())
    }

    fn park(&mut self, place: Place) -> Result<()> {
        if let Some(open) = self.writers.remove(&place)
            && self.committed.get(&place).map(|committed| committed.next_seq) != Some(open.writer.next_seq())
        {
            self.parked.insert(place, open.writer.park()?);
        }
        Ok(())
    }

    /// Writes and syncs everything.
    fn flush(&mut self, refinery: &Refinery) -> Result<()> {
        for place in self.collected.keys().copied().collect::<Vec<_>>() {
            self.open(refinery, place)?;
        }
        // In order, so that the same run does the same operations.
        let open: BTreeMap<_, _> = self.writers.iter_mut().collect();
        for (place, open) in open {
            let known = self.committed.get(place).map(|committed| committed.next_seq);
            if known != Some(open.writer.next_seq()) {
                self.committed.insert(*place, open.writer.flush()?);
            }
        }
        for place in self.parked.keys().copied().collect::<Vec<_>>() {
            let committed = self.writer(refinery, place)?.flush()?;
            self.committed.insert(place, committed);
        }
        Ok(())
    }

    /// Makes a partition's file final, or finds that it is.
    fn seal(&mut self, refinery: &Refinery, place: Place) -> Result<()> {
        let id = self.id(refinery, place);
        let path = self.root.partition(Tier::Warm, &id);
        let Some(committed) = self.committed.get(&place).copied() else { return Ok(()) };
        if let Some(mut open) = self.writers.remove(&place) {
            open.writer.seal()?;
        } else if self.platform.exists(&path)? {
            // A file with a seal is not opened for writing: somebody may be copying it.
            let end = PartitionFile::open(&self.platform, &path)?.seal().map(|seal| seal.end);
            if end != Some(committed.len) {
                PartitionWriter::resume(&self.platform, &path, &id, &committed)?.seal()?;
            }
        } else if !self.platform.exists(&self.root.partition(Tier::Cold, &id))? {
            let reason = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(Trouble::new("open", path, reason).into());
        }
        self.committed.remove(&place);
        self.resumed.remove(&place);
        Ok(())
    }

    /// Any partition's file of the venue.
    fn any(&self) -> Result<Option<PathBuf>> {
        for tier in [Tier::Warm, Tier::Cold] {
            let venue = self.root.partitions(tier).join(&self.venue);
            for symbol in list(&self.platform, &venue)?.iter().filter(|e| e.is_dir) {
                let symbol = venue.join(&symbol.name);
                for date in list(&self.platform, &symbol)?.iter().filter(|e| e.is_dir) {
                    let day = symbol.join(&date.name);
                    let found = list(&self.platform, &day)?;
                    if let Some(file) = found.iter().find(|e| stream_of(&e.name).is_some()) {
                        return Ok(Some(day.join(&file.name)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Makes the files what the checkpoint says: longer ones are cut, unknown ones removed; a missing or shorter one is
    /// damage, but for `meta.json`, which says nothing that the checkpoint does not.
    fn go_back(&mut self, refinery: &Refinery) -> Result<()> {
        let by_code: BTreeMap<&str, (u32, &Symbol)> =
            (0..).zip(refinery.symbols()).map(|(index, symbol)| (symbol.code().as_str(), (index, symbol))).collect();
        let venue = self.root.partitions(Tier::Warm).join(&self.venue);
        for entry in list(&self.platform, &venue)?.iter().filter(|e| e.is_dir) {
            let symbol = by_code.get(entry.name.as_str());
            let dir = venue.join(&entry.name);
            for entry in list(&self.platform, &dir)?.iter().filter(|e| e.is_dir) {
                let Ok(date) = entry.name.parse::<Date>() else { continue };
                let day = symbol.and_then(|(_, symbol)| symbol.days().get(&date));
                self.remove_unknown(&dir.join(&entry.name), day)?;
                if let (Some((index, symbol)), Some(day)) = (symbol, day) {
                    // One of a day that is being sealed is written when its files are.
                    let is_growing = || self.committed.keys().any(|at| (at.symbol, at.date) == (*index, date));
                    let is_being_sealed = day.sealed && is_growing();
                    if !is_being_sealed && !self.platform.exists(&dir.join(&entry.name).join(META))? {
                        self.describe(refinery, symbol, date, day)?;
                    }
                }
            }
        }
        for (place, committed) in self.committed.clone() {
            let id = self.id(refinery, place);
            let path = self.root.partition(Tier::Warm, &id);
            if refinery.symbols()[place.symbol as usize]
                .days()
                .get(&place.date)
                .is_some_and(|day| day.is_sealed(place.stream))
            {
                // About to be sealed, or sealed, or moved since: whoever finishes that looks at it.
                continue;
            }
            let is_as_it_was = match PartitionFile::open(&self.platform, &path) {
                Ok(file) => file.len() == committed.len && file.seal().is_none(),
                Err(error) if error.is_not_found() => {
                    let missing = StorageError::malformed(&path, 0, "partition is gone, the checkpoint knows it");
                    return Err(missing.into());
                }
                // Longer by less than a header, say: cutting it tells.
                Err(_) => false,
            };
            if !is_as_it_was {
                drop(PartitionWriter::resume(&self.platform, &path, &id, &committed)?);
                self.resumed.insert(place);
            }
        }
        Ok(())
    }

    fn remove_unknown(&self, dir: &Path, day: Option<&Day>) -> Result<()> {
        let mut removed = false;
        let entries = list(&self.platform, dir)?;
        let mut left = entries.len();
        for entry in &entries {
            let known = match stream_of(&entry.name) {
                Some(stream) => day.is_some_and(|day| day.has(stream)),
                // The archive's own, while it moves a day.
                None if entry.name != META && !entry.name.ends_with(TEMPORARY) => true,
                None => day.is_some_and(Day::has_any) && entry.name == META,
            };
            if !known {
                self.platform.remove(&dir.join(&entry.name))?;
                removed = true;
                left -= 1;
            }
        }
        if left == 0 && day.is_none_or(|day| !day.has_any()) {
            self.platform.remove_dir(dir)?;
            if let Some(parent) = dir.parent() {
                self.platform.sync_dir(parent)?;
            }
        } else if removed {
            self.platform.sync_dir(dir)?;
        }
        Ok(())
    }

    /// Whether a day's `meta.json`, on whichever tier, says that it is final.
    fn is_final(&self, symbol: &Symbol, date: Date) -> bool {
        let says_so = |tier| {
            let day = self.root.day(tier, &self.venue, symbol.code(), date);
            Meta::read(&self.platform, &day).is_ok_and(|meta| meta.sealed)
        };
        says_so(Tier::Warm) || says_so(Tier::Cold)
    }

    /// Writes a day's `meta.json` if the day has files that are warm. Else it was moved to the archive by now, with it.
    fn describe(&self, refinery: &Refinery, symbol: &Symbol, date: Date, day: &Day) -> Result<()> {
        let dir = self.root.day(Tier::Warm, &self.venue, symbol.code(), date);
        match list(&self.platform, &dir)?.iter().any(|entry| stream_of(&entry.name).is_some()) {
            true => self.write_meta(refinery, symbol, date, day),
            false => Ok(()),
        }
    }

    fn write_meta(&self, refinery: &Refinery, symbol: &Symbol, date: Date, day: &Day) -> Result<()> {
        let meta = meta(refinery, symbol, date, day);
        let dir = self.root.day(Tier::Warm, &self.venue, symbol.code(), date);
        if Meta::read(&self.platform, &dir).is_ok_and(|found| found == meta) {
            return Ok(());
        }
        Ok(meta.publish(&self.platform, &dir)?)
    }
}

/// The stream whose warm file has this name.
fn stream_of(name: &str) -> Option<Stream> {
    name.strip_suffix(".q").or_else(|| name.strip_suffix(".q.zst")).and_then(|stem| stem.parse().ok())
}

/// What `meta.json` says about a day. Late records are not in it: they may come when the day lies in the archive.
fn meta(refinery: &Refinery, symbol: &Symbol, date: Date, day: &Day) -> Meta {
    let sources: BTreeSet<_> = day.sources.iter().map(|index| &refinery.sources()[*index as usize]).collect();
    let range =
        |range: Option<(u64, u64)>| range.map(|(first, last)| Range { first: TimeNs(first), last: TimeNs(last) });
    let mut counts = BTreeMap::new();
    for (stream, partition) in day.partitions.iter().filter(|(_, partition)| partition.exists) {
        let c = partition.counts;
        for (kind, number) in [
            ("events", c.events),
            ("applied", c.applied),
            ("dropped_before_snapshot", c.dropped_before_snapshot),
            ("duplicates", c.duplicates),
            ("not_applied", c.not_applied),
            ("snapshots", c.snapshots),
        ] {
            if number != 0 {
                counts.insert(format!("{stream}.{kind}"), number);
            }
        }
    }
    Meta {
        venue: refinery.venue().to_string(),
        symbol_id: None,
        symbol_version_id: None,
        symbol_code: symbol.code().to_string(),
        raw_symbol: symbol.raw().to_owned(),
        date,
        source: sources
            .into_iter()
            .map(|source| match &source.sha256 {
                Some(sha256) => MetaSource::File {
                    name: source.name.clone(),
                    sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
                },
                None => MetaSource::Feed { feed: source.name.clone() },
            })
            .collect(),
        ingest_time: range(day.ingest_ns),
        event_time_range: range(day.event_ns),
        completeness: Completeness {
            gaps: day
                .gaps
                .iter()
                .map(|gap| MetaGap {
                    after: gap.after,
                    next: gap.next,
                    missing_from: gap.missing_from,
                    missing_to: gap.missing_to,
                    time: TimeNs(gap.time_ns),
                    cause: gap.cause.as_str().to_owned(),
                    carried: gap.carried,
                })
                .collect(),
        },
        late_policy: day.late_policy.as_str().to_owned(),
        sealed: day.sealed,
        counts,
    }
}
