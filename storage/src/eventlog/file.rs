//! A log in a file: [`MmapWriter`] appends, [`MmapReader`] replays.
//!
//! **What is durable.** A committed event is in the file when `write_event` returns: it survives this process, however
//! it ends. It survives the machine once [`MmapWriter::sync`] has returned. After a power cut without one, the kernel
//! has written any pages that it liked, so events that were committed and not synced may be there, or not, or in part,
//! also before others that are. With checksums (the default) that is found: opening says where, and
//! [`MmapWriter::recover`] keeps the whole events before it. Without checksums it is not.
//!
//! One writer at a time, by a lock on the file that lasts as long as the writer. Readers take none.

use super::{
    error::WriteError,
    growth::{Growth, NoPart, Part, Source},
    layout::{EventHeader, FileHeader, MAX_EVENT},
    log::{LogWriter, Stand, check_len},
    replay::{EventView, Events, LogReader},
    spsc::Consumer,
};
use crate::{Error, Result};
use chronicle_core::{Damage, Fault};
use chronicle_platform::{File, Lock, MAP_ALIGN, Open, Platform, TroubleKind};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use zerocopy::{FromBytes, IntoBytes};

/// Smallest file.
const LEAST: u64 = 4096;
/// Bytes by which a file grows at a time, by default: a quarter of its capacity, within these.
const STEP: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 20;
/// Smallest such step: the longest event fits into what one step adds.
const LEAST_STEP: u64 = (MAX_EVENT as u64).next_multiple_of(MAP_ALIGN);
/// Largest: more than anybody's memory, which a step is faulted into.
const MOST_STEP: u64 = 1 << 48;
/// How long `write_event` sleeps between two looks for the next part.
const LOOK: Duration = Duration::from_micros(200);

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a new file that are allocated and faulted in before anything is written; of a file that is gone on with,
    /// what it has of them, and of the step behind its last event.
    pub capacity: u64,
    /// Bytes beyond which the file does not grow.
    pub max_bytes: u64,
    /// Bytes by which it grows at a time; 0: a quarter of the capacity, within 1 MiB and 64 MiB.
    pub step: u64,
    /// Whether the events of a new file carry checksums.
    pub checksums: bool,
    /// Whether a thread prepares what comes next. Without one, whoever finds no room waits for it to be made.
    pub helper: bool,
}

impl Default for Options {
    /// 1 MiB, growing without end in front of the writer, with checksums.
    fn default() -> Self {
        Options { capacity: 1 << 20, max_bytes: u64::MAX, step: 0, checksums: true, helper: true }
    }
}

impl Options {
    fn step(&self) -> u64 {
        match self.step {
            0 => (self.capacity / 4).clamp(*STEP.start(), *STEP.end()),
            step => step.clamp(LEAST_STEP, MOST_STEP),
        }
        .next_multiple_of(LEAST)
    }
}

/// What [`MmapWriter::recover`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Events that are whole.
    pub events: u64,
    /// Bytes behind them that the header had called events, and that are not.
    pub cut_bytes: u64,
    /// What was found there.
    pub damage: Option<Damage>,
}

/// Appends events to a file.
///
/// An append makes no system call and faults on no page, because what it writes to was prepared before. Dropping it
/// commits what was staged and syncs nothing.
#[derive(Debug)]
pub struct MmapWriter<P: Platform> {
    // First, so that the helper is gone before the file is closed and its lock with it.
    source: Source<P>,
    log: LogWriter<P::MapMut>,
    platform: P,
    path: PathBuf,
    file: Arc<P::File>,
    created_at: i64,
    max_bytes: u64,
    poisoned: bool,
}

impl<P: Platform + Default> MmapWriter<P> {
    /// Makes a new log at `path`, `capacity` bytes of it prepared; see [`MmapWriter::create_with`].
    ///
    /// # Errors
    ///
    /// As [`MmapWriter::create_with`].
    pub fn create(path: impl AsRef<Path>, capacity: usize) -> Result<Self> {
        Self::create_on(&P::default(), path, capacity)
    }

    /// Goes on with the log at `path`; see [`MmapWriter::open_with`].
    ///
    /// # Errors
    ///
    /// As [`MmapWriter::open_with`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_on(&P::default(), path)
    }
}

impl<P: Platform> MmapWriter<P> {
    /// As [`MmapWriter::create`], on this system.
    ///
    /// # Errors
    ///
    /// As [`MmapWriter::create_with`].
    pub fn create_on(platform: &P, path: impl AsRef<Path>, capacity: usize) -> Result<Self> {
        Self::create_with(platform, path, Options { capacity: capacity as u64, ..Options::default() })
    }

    /// As [`MmapWriter::open`], on this system.
    ///
    /// # Errors
    ///
    /// As [`MmapWriter::open_with`].
    pub fn open_on(platform: &P, path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(platform, path, Options::default())
    }

    /// Makes a new log at `path`, in the place of what has this name: that is replaced at once, when the new one is
    /// whole, and whoever reads it goes on reading it.
    ///
    /// # Errors
    ///
    /// Somebody writes to the log that is there; the capacity is above `max_bytes`; the system says no.
    pub fn create_with(platform: &P, path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let path = path.as_ref();
        let _old = match platform.open(path, Open::Write) {
            Ok(file) => Some(locked(file, path)?),
            Err(trouble) if trouble.kind() == TroubleKind::NotFound => None,
            Err(trouble) => return Err(trouble.into()),
        };
        let max_bytes = options.max_bytes.min(usize::MAX as u64);
        let capacity = options.capacity.max(LEAST).checked_next_multiple_of(LEAST);
        let Some(capacity) = capacity.filter(|&capacity| capacity <= max_bytes) else {
            let what = format!("capacity of {} bytes is above the limit of {max_bytes}", options.capacity);
            return Err(Error::Options { path: path.to_owned(), what });
        };
        let draft = draft_name(path)?;
        let file = locked(platform.open(&draft, Open::Ensure)?, &draft)?;
        // Between our opening and our lock another creator may have published it: then it is a log, and no draft.
        if platform.open(&draft, Open::Read).ok().map(|found| found.id()).transpose()? != Some(file.id()?) {
            return Err(Error::Busy { path: draft });
        }
        // A draft that somebody died over; nobody maps a draft.
        file.set_len(0)?;
        let created_at = (platform.now_ns() / 1_000_000_000).cast_signed();
        let header = FileHeader::new(created_at, options.checksums);
        let made = (|| {
            file.allocate(capacity)?;
            file.write_at(header.as_bytes(), 0)?;
            platform.publish(&file, &draft, path)
        })();
        if let Err(trouble) = made {
            // A full disk must not stay full of a draft. Where not even this works, the next creator uses it again.
            _ = platform.remove(&draft);
            return Err(trouble.into());
        }
        let stand = Stand { count: 0, tail: FileHeader::SIZE as u64 };
        Self::go_on(platform, path, file, stand, options.checksums, created_at, capacity, &options)
    }

    /// Goes on with the log at `path`, behind its last event. The whole log is read over first: a file that is no event
    /// log, or has damage anywhere before its end, is refused. Whether events carry checksums stays as it is.
    ///
    /// # Errors
    ///
    /// There is none; somebody writes to it; damage; the system says no.
    pub fn open_with(platform: &P, path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let path = path.as_ref();
        let file = locked(platform.open(path, Open::Write)?, path)?;
        let len = file.len()?;
        let reader = reader_of(platform, &file, path, len)?;
        let stand = reader.audit().map_err(|damage| Error::damage(path, damage))?;
        Self::adopt(platform, path, file, &reader, len, stand, &options)
    }

    /// As [`MmapWriter::open_with`], of a log that was written to when the machine lost its power: keeps the events before
    /// the first damage and says what it cut. Nothing that was synced is ever cut: that is an error.
    ///
    /// # Errors
    ///
    /// As [`MmapWriter::open_with`]; damage before what the last sync covered.
    pub fn recover(platform: &P, path: impl AsRef<Path>, options: Options) -> Result<(Self, Recovered)> {
        let path = path.as_ref();
        let file = locked(platform.open(path, Open::Write)?, path)?;
        let len = file.len()?;
        let reader = reader_of(platform, &file, path, len)?;
        let header = file_header(&file)?;
        let (stand, damage) = reader.prefix();
        if let Some(damage) = damage.filter(|damage| damage.offset < header.synced_offset.get()) {
            return Err(Error::damage(path, damage));
        }
        let cut_bytes = reader.write_offset().saturating_sub(stand.tail);
        let writer = Self::adopt(platform, path, file, &reader, len, stand, &options)?;
        Ok((writer, Recovered { events: stand.count, cut_bytes, damage }))
    }

    fn adopt(
        platform: &P,
        path: &Path,
        file: P::File,
        reader: &LogReader<P::Map>,
        len: u64,
        stand: Stand,
        options: &Options,
    ) -> Result<Self> {
        // What was prepared and is left, as far as a new log of these options would be: a file may say that it is longer than
        // the machine. At least to where a window can be mapped that holds the tail.
        let wanted = options.capacity.max(stand.tail.saturating_add(options.step()));
        let end = len.min(wanted).max(stand.tail + 1).next_multiple_of(LEAST);
        let (checksums, created_at) = (reader.has_checksums(), reader.created_at());
        let writer = Self::go_on(platform, path, file, stand, checksums, created_at, end, options)?;
        writer.log.store_words();
        Ok(writer)
    }

    #[allow(clippy::too_many_arguments, reason = "the one place that both beginnings end in")]
    fn go_on(
        platform: &P,
        path: &Path,
        file: P::File,
        stand: Stand,
        checksums: bool,
        created_at: i64,
        end: u64,
        options: &Options,
    ) -> Result<Self> {
        let file = Arc::new(file);
        let max_bytes = options.max_bytes;
        let growth = Growth { platform: platform.clone(), file: file.clone(), step: options.step(), max_bytes };
        let Part { map: data, start, end } = growth.part(stand.tail / MAP_ALIGN * MAP_ALIGN, end)?;
        let head = platform.map_mut(&file, LEAST as usize)?;
        platform.prefault_mut(&head)?;
        let usable = end.min(max_bytes).max(stand.tail);
        let log = LogWriter::resume(head, data, start, usable, stand, checksums);
        let source = Source::new(growth, end, options.helper)?;
        let (platform, path) = (platform.clone(), path.to_owned());
        Ok(MmapWriter { source, log, platform, path, file, created_at, max_bytes, poisoned: false })
    }

    /// Appends one event and commits it. Waits where the next part of the file is not prepared yet.
    ///
    /// # Errors
    ///
    /// Nothing of the event was written: no room and none to be had, or the header says another length than the payload
    /// has. What was committed before stays.
    #[inline]
    pub fn write_event(&mut self, header: &EventHeader, payload: &[u8]) -> std::result::Result<(), WriteError> {
        self.stage(header, payload)?;
        self.commit();
        Ok(())
    }

    /// As [`MmapWriter::write_event`], and never waits.
    ///
    /// # Errors
    ///
    /// As there, and [`WriteError::NotReady`].
    #[inline]
    pub fn try_write_event(&mut self, header: &EventHeader, payload: &[u8]) -> std::result::Result<(), WriteError> {
        check_len(header, payload)?;
        while !self.log.put(header, payload) {
            self.turn(header.total_size())?;
        }
        self.commit();
        Ok(())
    }

    /// Appends one event without showing it to readers: [`MmapWriter::commit`] shows all that were staged, at the price
    /// of one. Waits as [`MmapWriter::write_event`].
    ///
    /// # Errors
    ///
    /// As [`MmapWriter::write_event`]. What was staged before stays staged.
    #[inline]
    pub fn stage(&mut self, header: &EventHeader, payload: &[u8]) -> std::result::Result<(), WriteError> {
        check_len(header, payload)?;
        while !self.log.put(header, payload) {
            self.turn_wait(header.total_size())?;
        }
        Ok(())
    }

    /// Shows everything that was staged. Readers see all of it, or none.
    #[inline]
    pub fn commit(&mut self) {
        self.log.commit();
    }

    /// Takes up to `limit` events from a ring into the log and commits them as one; says how many. Waits as
    /// [`MmapWriter::write_event`].
    ///
    /// # Errors
    ///
    /// As [`MmapWriter::write_event`]. Events before the refused one are committed; it and those behind it are still in
    /// the ring.
    pub fn drain_from(&mut self, ring: &mut Consumer, limit: usize) -> std::result::Result<usize, WriteError> {
        let mut taken = 0;
        let result = loop {
            let refused = self.log.take_from(ring, limit, &mut taken);
            let Some(refused) = refused else { break Ok(taken) };
            if let Err(error) = self.turn_wait(refused) {
                break Err(error);
            }
        };
        self.commit();
        result
    }

    /// Goes over to the next part, for an event of `needed` bytes.
    #[cold]
    #[inline(never)]
    fn turn(&mut self, needed: usize) -> std::result::Result<(), WriteError> {
        if self.poisoned {
            return Err(WriteError::Poisoned);
        }
        // It may be the longest commit that is in the way, and not the end.
        if self.log.available() >= needed as u64 {
            self.log.commit();
            return Ok(());
        }
        match self.source.next(self.log.end()) {
            Ok(Part { map, start, end }) => {
                let old = self.log.turn(map, start, end.min(self.max_bytes));
                self.source.retire(old);
                Ok(())
            }
            Err(NoPart::Full) => Err(self.log.full(needed)),
            Err(NoPart::NotReady) => Err(WriteError::NotReady),
            Err(NoPart::Failed(error)) => Err(error),
        }
    }

    #[cold]
    #[inline(never)]
    fn turn_wait(&mut self, needed: usize) -> std::result::Result<(), WriteError> {
        loop {
            match self.turn(needed) {
                Err(WriteError::NotReady) => self.platform.sleep(LOOK),
                other => return other,
            }
        }
    }

    /// Commits what was staged and makes every event durable.
    ///
    /// # Errors
    ///
    /// The system says no. What is durable is unknown then, and stays so: the writer takes no event any more.
    pub fn sync(&mut self) -> Result<()> {
        if self.poisoned {
            return Err(Error::Poisoned { path: self.path.clone() });
        }
        self.commit();
        let offset = self.log.write_offset();
        if let Err(trouble) = self.file.sync() {
            self.poisoned = true;
            self.log.stop();
            return Err(trouble.into());
        }
        self.log.store_synced(offset);
        Ok(())
    }

    /// Syncs, and ends the writer.
    ///
    /// # Errors
    ///
    /// As [`MmapWriter::sync`].
    pub fn close(mut self) -> Result<()> {
        self.sync()
    }

    /// Events in the log, staged ones included.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.log.event_count()
    }

    /// Where the next event goes.
    #[must_use]
    pub fn write_offset(&self) -> u64 {
        self.log.write_offset()
    }

    /// Bytes that events may still take in what the writer has before it; the file may grow beyond.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.log.available()
    }

    /// When the log was made, seconds since 1970.
    #[must_use]
    pub fn created_at(&self) -> i64 {
        self.created_at
    }

    /// Where the log is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the file could not be extended, until it can be.
    #[must_use]
    pub fn last_trouble(&self) -> Option<Arc<Error>> {
        self.source.trouble()
    }
}

impl<P: Platform> Drop for MmapWriter<P> {
    fn drop(&mut self) {
        self.log.commit();
    }
}

fn locked<F: File>(file: F, path: &Path) -> Result<F> {
    if file.try_lock(Lock::Exclusive)? { Ok(file) } else { Err(Error::Locked { path: path.to_owned() }) }
}

/// What a log is called until it is whole.
fn draft_name(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::Options { path: path.to_owned(), what: "names no file".into() });
    };
    let mut draft = name.to_owned();
    draft.push(".draft");
    Ok(path.with_file_name(draft))
}

/// The header, as bytes of the file.
fn file_header(file: &impl File) -> Result<FileHeader> {
    let mut bytes = [0; FileHeader::SIZE];
    file.read_at(&mut bytes, 0)?;
    Ok(FileHeader::read_from_bytes(&bytes).expect("a header has 64 bytes"))
}

/// Reads the log that a file of `len` bytes is.
fn reader_of<P: Platform>(platform: &P, file: &P::File, path: &Path, len: u64) -> Result<LogReader<P::Map>> {
    let damaged = |damage| Error::damage(path, damage);
    let needed = FileHeader::SIZE as u64;
    if len < needed {
        return Err(damaged(Damage::at(0, Fault::Short { needed, found: len })));
    }
    let words =
        usize::try_from(len & !3).map_err(|_| damaged(Damage::at(0, Fault::Length { claimed: len, left: 0 })))?;
    let reader = LogReader::attach_part(platform.map(file, words)?, len).map_err(damaged)?;
    let end = reader.write_offset();
    if end <= words as u64 {
        return Ok(reader);
    }
    // The file ends, and its last event with it, in the middle of a word, which no mapping shows. Ours never do.
    let last = reader.events(needed, end).map_while(|event| event.ok()).last();
    let at = last.map_or(needed, |event| event.offset + event.header.total_size() as u64);
    let mut bytes = vec![0; usize::try_from(end.saturating_sub(at)).map_or(0, |len| len.min(MAX_EVENT))];
    let found = file.read_at(&mut bytes, at)?;
    bytes.truncate(found);
    Ok(reader.with_last(at, bytes.into_boxed_slice()))
}

/// Reads a log file, while it is being written or after.
#[derive(Debug)]
pub struct MmapReader<P: Platform> {
    log: LogReader<P::Map>,
    platform: P,
    path: PathBuf,
    file: P::File,
}

impl<P: Platform + Default> MmapReader<P> {
    /// Opens the log at `path`.
    ///
    /// # Errors
    ///
    /// There is none, it is another format, or its header is damaged. Damage further on is found by reading.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_on(&P::default(), path)
    }
}

impl<P: Platform> MmapReader<P> {
    /// As [`MmapReader::open`], on this system.
    ///
    /// # Errors
    ///
    /// As [`MmapReader::open`].
    pub fn open_on(platform: &P, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = platform.open(path, Open::Read)?;
        let len = file.len()?;
        let log = reader_of(platform, &file, path, len)?;
        Ok(MmapReader { log, platform: platform.clone(), path: path.to_owned(), file })
    }

    /// Looks again how long the file is: a log that has grown since it was opened is otherwise read to where it ended
    /// then.
    ///
    /// # Errors
    ///
    /// As [`MmapReader::open`]; this reader stays as it was.
    pub fn refresh(&mut self) -> Result<()> {
        self.log = reader_of(&self.platform, &self.file, &self.path, self.file.len()?)?;
        Ok(())
    }

    /// Touches every page, so that reading does not fault.
    ///
    /// # Errors
    ///
    /// The system says no.
    pub fn prefault(&self) -> Result<()> {
        Ok(self.platform.prefault(self.log.region())?)
    }

    /// Events in the log, by its header: more may have been committed since, none fewer. [`MmapReader::replay`] counts.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.log.event_count()
    }

    /// Where the next event goes: more may have been committed since.
    #[must_use]
    pub fn write_offset(&self) -> u64 {
        self.log.write_offset()
    }

    /// When the log was made, seconds since 1970.
    #[must_use]
    pub fn created_at(&self) -> i64 {
        self.log.created_at()
    }

    /// Whether events carry checksums, which reading compares.
    #[must_use]
    pub fn has_checksums(&self) -> bool {
        self.log.has_checksums()
    }

    /// Every event that is committed now, in order. After damage there is nothing more.
    #[must_use]
    pub fn iter(&self) -> Events<'_> {
        self.log.iter()
    }

    /// Hands every event that is committed now to `callback`, in place, and says how many there were.
    ///
    /// # Errors
    ///
    /// Damage, after the events before it were handed out; or the header counts other events than there are.
    pub fn replay<'a>(&'a self, callback: impl FnMut(EventView<'a>)) -> Result<u64> {
        self.log.replay(callback).map_err(|damage| Error::damage(&self.path, damage))
    }

    /// Where the log is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl<'a, P: Platform> IntoIterator for &'a MmapReader<P> {
    type Item = std::result::Result<EventView<'a>, Damage>;
    type IntoIter = Events<'a>;
    fn into_iter(self) -> Events<'a> {
        self.iter()
    }
}
