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
//! Use [`refine`] to take in all that is there and stop, [`Refiner::follow`] to stay and take in more as it comes, and
//! [`seal_aged`] before days are moved to the archive. A kill at any moment costs the work since the last checkpoint and
//! no byte: what is made again is what was there. With several [shards](Options::shards) one thread reads and the others
//! refine, each some of the symbols; a checkpoint waits for all of them. The first checkpoint is published before the first partition, so
//! that partitions without a checkpoint are a mishap and not a beginning; they are never removed then.
//!
//! What it never does: it moves, compresses or deletes no sealed partition, holds back no raw segment (the recorder
//! does), and leaves no file of its own under `v1/` but partitions and `meta.json`.

mod crew;
mod describe;
mod files;
mod lane;
mod recover;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chronicle_platform::{File, Lock, Open, Platform, Trouble, TroubleKind};
use chronicle_storage::Error as StorageError;
use chronicle_storage::partition::Committed;
use chronicle_storage::raw::{RawEvent, RawReader};
use chronicle_storage::ring::WaitPolicy;
use chronicle_storage::root::{Date, Name, PartitionId, Root, Stream};

use self::crew::Hands;
use self::files::Files;
use self::lane::{Lane, Seats};
use crate::checkpoint::{self, Checkpoint, Part};
use crate::error::{Error, Result};
use crate::refinery::{Item, LatePolicy, Names, Place, RawFrame, Refinery, Whose};
use crate::report::{Report, TableReport};
use crate::symbols::{Table, Unresolved};

/// Frames from one report of progress to the next.
const PROGRESS_FRAMES: u64 = 32;
/// Frames that a follower takes in before it shows them, if no pause comes first.
const SHOW_FRAMES: u32 = 4096;
/// Looks without a frame from one report to the next, for a follower that never sleeps.
const IDLE_LOOKS: u32 = 1024;
/// Looks without a frame after which one that never sleeps makes sure that its queue is still the one.
const SURE_LOOKS: u32 = 1 << 20;
/// Longest sleep of a follower, so that it can be stopped.
const SLICE: Duration = Duration::from_millis(100);
/// Raw payload bytes taken in for each byte that a checkpoint costs: so taking them is never most of the work, however
/// many symbols there are.
const PER_CHECKPOINT_BYTE: u64 = 4;
/// What syncing one partition costs, in bytes.
const SYNC_COST: u64 = 64 << 10;
/// A checkpoint that costs less is taken whenever it is asked for.
const CHEAP_CHECKPOINT: u64 = 8 << 20;
/// Most shards: more threads than any machine gains from.
pub const SHARDS_MAX: usize = 64;

/// How to refine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What happens to late records of days that are opened from now on; none = as the venue's last run, at first
    /// [`LatePolicy::default`].
    pub late_policy: Option<LatePolicy>,
    /// Who a symbol is; none = as the table of the venue's last run says, at first by the venue's own text. A table must say the
    /// same about all that was refined before: it may only extend the last one.
    pub symbols: Option<Table>,
    /// What becomes of records that the table knows nobody for; none = as in the venue's last run, at first
    /// [`Unresolved::default`].
    pub unresolved: Option<Unresolved>,
    /// Seal every open day at the end.
    pub seal: bool,
    /// Raw frames from one checkpoint to the next; more where there are so many symbols that checkpoints would take most
    /// of the time. Changes no byte of what is made, only how much is made again after a kill.
    pub checkpoint_frames: u64,
    /// Threads that share the symbols out among themselves, 1 to [`SHARDS_MAX`]; with 1 the thread that reads does all
    /// the work. Changes no byte either, and may be another one in each run.
    pub shards: usize,
}

impl Default for Options {
    /// No sealing; a checkpoint every 2^20 frames, about a second of work; one shard.
    fn default() -> Self {
        Self { late_policy: None, symbols: None, unresolved: None, seal: false, checkpoint_frames: 1 << 20, shards: 1 }
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
    /// Receive times of the first and the last frame taken in since the last report, if there was any.
    pub received_ns: Option<(u64, u64)>,
    /// Checkpoints taken.
    pub checkpoints: u64,
}

/// What a follower is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Take in what comes.
    GoOn,
    /// Take a checkpoint first.
    Checkpoint,
    /// Take a checkpoint and return.
    Stop,
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
/// The root is not there; another process refines the venue (`Locked`); nothing was recorded of it; damage, trouble.
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
        Some(venue) if !venues(platform, root)?.contains(venue) => {
            return Err(Error::NothingRecorded { venue: venue.clone() });
        }
        Some(venue) => vec![venue.clone()],
        None => venues(platform, root)?,
    };
    let mut report = Report::default();
    for venue in venues {
        let mut refiner = Refiner::open(platform, root, &venue, options.clone())?;
        work(&mut refiner)?;
        refiner.add_to(&mut report);
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
        let code = symbols.get(place.symbol as usize)?.code_on(place.date).clone();
        Some((PartitionId::new(venue.clone(), code, place.date, place.stream), committed.len))
    };
    Ok(checkpoint.committed.iter().filter_map(of).collect())
}

/// What everything refined so far gave, by the venue's last checkpoint; none without one. Reads, and locks nothing: beside
/// a refinery at work it is as old as that one's last checkpoint.
///
/// # Errors
///
/// The checkpoint is damaged, or cannot be read.
pub fn last_report<P: Platform>(platform: &P, root: &Root, venue: &Name) -> Result<Option<Report>> {
    let checkpoint = Checkpoint::read(platform, &checkpoint::path(root, venue))?;
    Ok(checkpoint.map(|checkpoint| Report::of(&checkpoint.refinery)))
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
    intake: Intake<P>,
    lanes: Vec<Lane<P>>,
    /// A failed write leaves the state ahead of the files: only opening again helps.
    failed: bool,
    _lock: P::File,
}

/// What comes before the lanes: raw frames, and whose they are; and behind them: the checkpoint.
#[derive(Debug)]
struct Intake<P: Platform> {
    platform: P,
    names: Names,
    late_policy: LatePolicy,
    raw: RawReader<P>,
    seats: Seats,
    checkpoint: PathBuf,
    checkpoint_frames: u64,
    until_checkpoint: u64,
    /// Payload bytes that must have been taken in before the next one.
    checkpoint_len: u64,
    /// Something happened since the last checkpoint.
    changed: bool,
    frames: u64,
    len: u64,
    received_ns: Option<(u64, u64)>,
    checkpoints: u64,
}

impl<P: Platform> Refiner<P> {
    /// Takes the venue's lock, goes back to its last checkpoint, and finishes what that one began.
    ///
    /// # Errors
    ///
    /// As [`refine`].
    pub fn open(platform: &P, root: &Root, venue: &Name, options: Options) -> Result<Self> {
        must_exist(platform, root)?;
        let fresh = Refinery::new(venue.clone());
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
        let mut is_renamed = false;
        if let Some(table) = &options.symbols {
            is_renamed = refinery.table() != Some(&table.of_venue(venue));
            refinery.set_table(table)?;
        }
        if let Some(unresolved) = options.unresolved {
            refinery.set_unresolved(unresolved);
        }
        let (names, shard) = refinery.into_parts();
        let late_policy = shard.late_policy();
        let mut files = Files::new(platform, root, venue, 1, committed.into_iter().collect());
        if is_new {
            if let Some(partition) = files.any()? {
                return Err(Error::StateMissing { checkpoint: path, partition });
            }
        } else {
            files.go_back(&shard, names.sources())?;
        }
        let is_sealing = !sealing.is_empty();
        let count = options.shards.clamp(1, SHARDS_MAX);
        let (lanes, seats) = Lane::deal(shard, files, root, &names, sealing, count);
        let checkpoint_frames = options.checkpoint_frames.max(1);
        let intake = Intake {
            platform: platform.clone(),
            raw: RawReader::open(platform, root, venue, cursor)?,
            names,
            late_policy,
            seats,
            checkpoint: path,
            checkpoint_frames,
            until_checkpoint: checkpoint_frames,
            checkpoint_len: 0,
            changed: is_new || is_renamed,
            frames: 0,
            len: 0,
            received_ns: None,
            checkpoints: 0,
        };
        let mut this = Self { intake, lanes, failed: false, _lock: lock };
        this.with_hands(|intake, hands| match is_sealing {
            true => intake.finish_sealing(hands),
            false => intake.checkpoint(hands),
        })?;
        Ok(this)
    }

    /// What everything refined so far gave.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = Report::default();
        self.add_to(&mut report);
        report.sort();
        report
    }

    fn add_to(&self, report: &mut Report) {
        report.tables.extend(self.intake.names.table().map(TableReport::from));
        for lane in &self.lanes {
            report.add_symbols(self.intake.names.venue(), lane.table(), lane.symbols());
        }
    }

    /// Takes in raw frames until there are no more for now, and takes a checkpoint.
    ///
    /// # Errors
    ///
    /// Damage, trouble. The refiner is then of no use any more; opening another goes on from the last checkpoint.
    pub fn run(&mut self, mut progress: impl FnMut(Progress<'_>)) -> Result<()> {
        self.guarded(|this| {
            this.with_hands(|intake, hands| {
                while intake.step(hands)? {
                    if intake.frames.is_multiple_of(PROGRESS_FRAMES) {
                        progress(intake.progress());
                    }
                }
                intake.checkpoint(hands)?;
                progress(intake.progress());
                Ok(())
            })
        })
    }

    /// Seals all open days up to and including `last`, lets go what waits for them, and takes a checkpoint.
    ///
    /// # Errors
    ///
    /// As [`Refiner::run`].
    pub fn seal_until(&mut self, last: Date) -> Result<()> {
        self.guarded(|this| {
            this.with_hands(|intake, hands| {
                let changed = hands.each(move |lane| lane.seal_until(last))?;
                intake.changed |= changed.contains(&true);
                intake.checkpoint(hands)
            })
        })
    }

    /// Takes in raw frames as they come, until it is told to stop. What was taken in is written to the partitions' files
    /// whenever there is no more for now, so that whoever reads them sees it at once; it is durable with the next
    /// checkpoint, of which there is one every [`Options::checkpoint_frames`] and whenever `told` asks for one.
    ///
    /// `told` is asked after each such write, and now and then while nothing comes.
    ///
    /// # Errors
    ///
    /// As [`Refiner::run`].
    pub fn follow(&mut self, wait: WaitPolicy, mut told: impl FnMut(Progress<'_>) -> Next) -> Result<()> {
        self.guarded(|this| {
            this.with_hands(|intake, hands| {
                let mut looks = 0_u32;
                loop {
                    let mut count = 0;
                    while count < SHOW_FRAMES && intake.step(hands)? {
                        count += 1;
                    }
                    if count > 0 {
                        hands.each(Lane::show)?;
                        looks = 0;
                    } else {
                        looks = looks.wrapping_add(1);
                        if !intake.pause(wait, looks)? && !looks.is_multiple_of(IDLE_LOOKS) {
                            continue;
                        }
                    }
                    match told(intake.progress()) {
                        Next::GoOn => {}
                        Next::Checkpoint => intake.checkpoint(hands)?,
                        Next::Stop => return intake.checkpoint(hands),
                    }
                }
            })
        })
    }

    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        assert!(!self.failed, "bug: a refiner that failed was used again; open another");
        let result = work(self);
        self.failed = result.is_err();
        result
    }

    /// With a thread for each lane, where there are several.
    fn with_hands(&mut self, work: impl FnOnce(&mut Intake<P>, &mut Hands<'_, '_, P>) -> Result<()>) -> Result<()> {
        match &mut self.lanes[..] {
            alone @ [_] => work(&mut self.intake, &mut Hands::Alone(alone)),
            lanes => std::thread::scope(|scope| work(&mut self.intake, &mut Hands::start(scope, lanes))),
        }
    }
}

impl<P: Platform> Intake<P> {
    fn progress(&mut self) -> Progress<'_> {
        let Self { frames, len, checkpoints, .. } = *self;
        Progress { venue: self.names.venue(), frames, len, received_ns: self.received_ns.take(), checkpoints }
    }

    /// Passes the time after so many looks that found no frame; whether it slept.
    fn pause(&mut self, wait: WaitPolicy, looks: u32) -> Result<bool> {
        let sleeps = match wait {
            WaitPolicy::Park { spins } => looks > spins,
            WaitPolicy::Spin | WaitPolicy::Yield => false,
        };
        // Without a queue of shared memory to look at, looking means listing directories.
        if sleeps || !self.raw.is_live() {
            self.raw.wait(SLICE)?;
            return Ok(true);
        }
        if looks.is_multiple_of(SURE_LOOKS) {
            self.raw.wait(Duration::ZERO)?;
        }
        if wait == WaitPolicy::Yield {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
        Ok(false)
    }

    /// Takes in the next raw frame, and a checkpoint if it is time for one.
    fn step(&mut self, hands: &mut Hands<'_, '_, P>) -> Result<bool> {
        match self.raw.next()? {
            None => return Ok(false),
            Some(RawEvent::Lost { .. }) => {
                hands.each(|lane| {
                    lane.raw_lost();
                    Ok(())
                })?;
            }
            Some(RawEvent::Frame(raw)) => {
                let seq = raw.frame.seq;
                let in_private_memory = raw.frame.payload.as_slice(None);
                let payload = in_private_memory.expect("bug: a raw frame's payload is in private memory");
                let frame = RawFrame { ingest_ns: raw.frame.time_ns, type_id: raw.frame.type_id, payload };
                self.frames += 1;
                self.len += payload.len() as u64;
                let (first, _) = self.received_ns.unwrap_or((frame.ingest_ns, 0));
                self.received_ns = Some((first, frame.ingest_ns));
                let record = match frame.record() {
                    Ok(record) => record,
                    Err(malformed) => {
                        return Err(Error::Record { place: place(self.names.venue(), raw.queue_id), seq, malformed });
                    }
                };
                let seats = &mut self.seats;
                let whose = self.names.whose(&record, frame.ingest_ns, |number, symbol| {
                    hands.begin(seats.begin().lane, symbol, number);
                });
                let whose = match whose {
                    Ok(whose) => whose,
                    Err(stranger) => {
                        let place = place(self.names.venue(), raw.queue_id);
                        return Err(Error::Unresolved { place, seq, stranger });
                    }
                };
                if let Some(Whose { number, turn }) = whose {
                    let seat = seats.next(number);
                    hands.take(seat.lane, seat.symbol, Item::of(frame, self.names.source(), turn), &record)?;
                }
            }
        }
        self.changed = true;
        self.until_checkpoint = self.until_checkpoint.saturating_sub(1);
        if self.until_checkpoint == 0 && self.len >= self.checkpoint_len {
            self.checkpoint(hands)?;
        }
        Ok(true)
    }

    fn checkpoint(&mut self, hands: &mut Hands<'_, '_, P>) -> Result<()> {
        self.until_checkpoint = self.checkpoint_frames;
        if !self.changed {
            return Ok(());
        }
        let sources = Arc::clone(self.names.sources());
        let parts = hands.each(move |lane| lane.flush(&sources))?;
        let is_sealing = parts.iter().any(|part| !part.sealing.is_empty());
        self.publish(parts)?;
        if is_sealing { self.finish_sealing(hands) } else { Ok(()) }
    }

    /// Seals the files of the days that the published checkpoint says are to be sealed, then publishes one that says
    /// that they are.
    fn finish_sealing(&mut self, hands: &mut Hands<'_, '_, P>) -> Result<()> {
        let sources = Arc::clone(self.names.sources());
        let parts = hands.each(move |lane| lane.finish_sealing(&sources))?;
        self.publish(parts)
    }

    fn publish(&mut self, parts: Vec<Part>) -> Result<()> {
        let partitions = parts.iter().map(|part| part.committed.len() as u64).sum::<u64>();
        let cursor = self.raw.cursor();
        let len = checkpoint::publish(&self.platform, &self.checkpoint, cursor, &self.names, self.late_policy, parts)?;
        let cost = (len as u64 + SYNC_COST * partitions).saturating_sub(CHEAP_CHECKPOINT);
        self.checkpoint_len = self.len + PER_CHECKPOINT_BYTE * cost;
        self.checkpoints += 1;
        self.changed = false;
        Ok(())
    }
}

/// The name of a raw stream in messages.
fn place(venue: &Name, queue_id: [u8; 16]) -> String {
    format!("raw stream {venue} of queue {:032x}", u128::from_be_bytes(queue_id))
}

/// The stream whose warm file has this name.
fn stream_of(name: &str) -> Option<Stream> {
    name.strip_suffix(".q").or_else(|| name.strip_suffix(".q.zst")).and_then(|stem| stem.parse().ok())
}
