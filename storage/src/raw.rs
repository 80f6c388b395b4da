//! A venue's raw stream, read across recorded files and the hot queue without gap or repeat.
//!
//! ```text
//! {warm,cold}/raw/v1/{venue}/{date}/{queue id}-{first seq}.q[.zst]     segments that the recorder kept
//! hot/streams/raw/{venue}/queue/                                       what is not recorded yet, and what comes
//! ```
//!
//! A raw frame is addressed by a [`RawCursor`]. [`RawReader`] goes through each queue's files in the order of seqs, then,
//! if that queue is still the hot one, goes on in it live; queues follow one another in the order in which they were
//! made. What lies in two places is read once. What lies in none although frames behind it exist is told:
//! [`RawEvent::Lost`]. What a queue lost at its very end, with a machine's memory, no number tells; the venue's own ids
//! do.
//!
//! It keeps no cursor and holds nothing back: whoever reads to make something of it stores [`RawReader::cursor`] with
//! what was made. It never writes.

use crate::{
    Error, Result,
    partition::Tail,
    queue::{Queue, ReadError, Start, Subscriber, SubscriberOptions, Waited, layout as queue_layout},
    reader::{FrameFile, list, not_an_event},
    root::{Date, Name, RawName, Root, Tier},
};
use chronicle_core::{Frame, Payload};
use chronicle_platform::{File, Open, Platform, TroubleKind};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

/// A raw frame's address: reading goes on behind it. Addresses order as frames are read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RawCursor {
    /// When the queue that it came through was made, ns since 1970.
    pub created_ns: u64,
    /// That queue.
    pub queue_id: [u8; 16],
    /// Its number there.
    pub seq: u64,
}

impl fmt::Display for RawCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}", u128::from_be_bytes(self.queue_id), self.seq)
    }
}

impl fmt::Debug for RawCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What comes next in a raw stream.
#[derive(Clone, Copy, Debug)]
pub enum RawEvent<'a> {
    /// A frame.
    Frame(RawFrame<'a>),
    /// Frames that exist nowhere any more, though ones behind them do: a crash of the machine took them, or files were
    /// removed.
    Lost {
        /// Their queue.
        queue_id: [u8; 16],
        /// The first.
        from: u64,
        /// The last that it may have been; a crash does not tell how many there were.
        to: u64,
    },
}

/// A raw frame. Its payload is always in private memory: `payload.as_slice(None)` gives the bytes.
#[derive(Clone, Copy, Debug)]
pub struct RawFrame<'a> {
    /// The queue that it came through.
    pub queue_id: [u8; 16],
    /// Seq, ingest time, type and payload.
    pub frame: Frame<'a>,
}

/// A recorded raw segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFile {
    /// Queue and first seq.
    pub name: RawName,
    /// UTC day of its first ingest time.
    pub date: Date,
    /// The fastest tier that has it.
    pub tier: Tier,
    /// Where.
    pub path: PathBuf,
}

/// A venue's recorded raw segments, by queue id and first seq; one that lies on two tiers is listed once.
///
/// # Errors
///
/// Trouble.
pub fn files<P: Platform>(platform: &P, root: &Root, venue: &Name) -> Result<Vec<RawFile>> {
    let mut found = BTreeMap::new();
    // Warm before cold: a file that moves is published in its new place before it leaves the old one, so in this order
    // no file is missed.
    for tier in [Tier::Warm, Tier::Cold] {
        let dir = root.raw(tier, venue);
        for day in list(platform, &dir)?.into_iter().filter(|entry| entry.is_dir) {
            let Ok(date) = day.name.parse::<Date>() else { continue };
            for entry in list(platform, &dir.join(&day.name))? {
                if let Some(name) = RawName::of_file(&entry.name).filter(|_| !entry.is_dir) {
                    let path = dir.join(&day.name).join(&entry.name);
                    found.entry(name).or_insert(RawFile { name, date, tier, path });
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

/// The address just before this seq of a venue's hot queue: a [`RawReader`] opened with it begins with that frame. `None` if
/// the venue has no hot queue.
///
/// # Errors
///
/// The queue's control block is damaged; trouble.
pub fn address_before<P: Platform>(platform: &P, root: &Root, venue: &Name, seq: u64) -> Result<Option<RawCursor>> {
    let made = queue_made(platform, &root.raw_queue(venue))?;
    Ok(made.map(|Made { created_ns, queue_id }| RawCursor { created_ns, queue_id, seq: seq.saturating_sub(1) }))
}

/// When a queue was made, from its own words; `None` if there is no queue.
pub(crate) fn queue_made<P: Platform>(platform: &P, queue: &std::path::Path) -> Result<Option<Made>> {
    let path = queue.join("control.meta");
    let file = match platform.open(&path, Open::Read) {
        Ok(file) => file,
        Err(trouble) if trouble.kind() == TroubleKind::NotFound => return Ok(None),
        Err(trouble) => return Err(trouble.into()),
    };
    let mut bytes = vec![0; queue_layout::META_LEN];
    let n = file.read_at(&mut bytes, 0)?;
    let header = queue_layout::MetaHeader::parse(&bytes[..n], queue_layout::CONTROL_MAGIC);
    let header = header.map_err(|(at, what)| Error::malformed(&path, at, what))?;
    Ok(Some(Made { created_ns: header.created_ns.get(), queue_id: header.queue_id }))
}

/// A queue, in the order in which queues follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Made {
    pub(crate) created_ns: u64,
    pub(crate) queue_id: [u8; 16],
}

impl RawCursor {
    fn made(&self) -> Made {
        Made { created_ns: self.created_ns, queue_id: self.queue_id }
    }
}

/// Reads a venue's raw stream from a place on; see the module.
///
/// ```no_run
/// # fn refine(frame: chronicle_storage::raw::RawFrame<'_>) {}
/// # fn mark_gap() {}
/// # fn main() -> chronicle_storage::Result<()> {
/// # #[cfg(target_os = "linux")] {
/// use chronicle_platform_linux::Linux;
/// use chronicle_storage::{raw::{RawEvent, RawReader}, root::Root};
///
/// let venue = "binance-spot".parse().unwrap();
/// let mut raw = RawReader::open(&Linux, &Root::new("data"), &venue, None)?;
/// while let Some(event) = raw.next()? {
///     match event {
///         RawEvent::Frame(frame) => refine(frame),
///         RawEvent::Lost { .. } => mark_gap(),
///     }
/// }
/// let checkpoint = raw.cursor();
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RawReader<P: Platform> {
    platform: P,
    root: Root,
    venue: Name,
    cursor: Option<RawCursor>,
    source: Source<P>,
    /// What the last call found.
    event: Event,
    /// A frame that was found with a gap before it, and comes after the gap was told.
    held: bool,
    /// When the queues of recorded files were made; a file's header says it.
    made: BTreeMap<[u8; 16], Made>,
    /// The last file that was read to its end.
    done: Option<RawName>,
    /// The hot queue said that it has no longer what comes next, and files were looked at since.
    looked_again: bool,
}

#[derive(Debug)]
enum Source<P: Platform> {
    None,
    File { made: Made, name: RawName, file: Box<FrameFile<P>> },
    Hot { made: Made, queue: Box<Subscriber<P>>, frame: Option<Frame<'static>>, payload: Vec<u8> },
}

#[derive(Clone, Copy, Debug)]
enum Event {
    None,
    Frame,
    Lost { queue_id: [u8; 16], from: u64, to: u64 },
}

impl<P: Platform> RawReader<P> {
    /// Reads what follows `after`; everything, if that is `None`.
    ///
    /// # Errors
    ///
    /// Trouble; damage in what is looked at to begin. A venue without raw data is read as empty.
    pub fn open(platform: &P, root: &Root, venue: &Name, after: Option<RawCursor>) -> Result<Self> {
        Ok(RawReader {
            platform: platform.clone(),
            root: root.clone(),
            venue: venue.clone(),
            cursor: after,
            source: Source::None,
            event: Event::None,
            held: false,
            made: BTreeMap::new(),
            done: None,
            looked_again: false,
        })
    }

    /// Address of the last event that was handed out: of a frame its own, of a loss the last seq lost. Reading behind it
    /// goes on without gap or repeat.
    #[must_use]
    pub fn cursor(&self) -> Option<RawCursor> {
        self.cursor
    }

    /// What comes next; `None` if there is no more for now, and a later call may have some.
    ///
    /// # Errors
    ///
    /// Damage in a file or in the queue; `Busy`; trouble.
    // Not an iterator: the frame borrows the reader.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<RawEvent<'_>>> {
        Ok(if self.advance()? { self.current() } else { None })
    }

    /// Moves behind the next event, which is then [`RawReader::current`]; `false` if there is none for now.
    ///
    /// # Errors
    ///
    /// As [`RawReader::next`].
    pub fn advance(&mut self) -> Result<bool> {
        self.event = Event::None;
        loop {
            let (Source::File { made, .. } | Source::Hot { made, .. }) = self.source else {
                if self.choose()? {
                    continue;
                }
                return Ok(false);
            };
            let seq = if std::mem::take(&mut self.held) { self.here() } else { self.step()? };
            let Some(seq) = seq else {
                // At the end of a file, or of what the hot queue has: there is more only elsewhere.
                if matches!(self.source, Source::Hot { .. }) {
                    return Ok(false);
                }
                self.source = Source::None;
                continue;
            };
            self.looked_again = false;
            // Within one queue the next one is known; a queue that is begun is begun with what it has.
            let expected = match self.cursor {
                Some(cursor) if cursor.made() == made => cursor.seq.saturating_add(1),
                _ => seq,
            };
            if seq < expected {
                continue;
            }
            if seq > expected {
                self.held = true;
                self.event = Event::Lost { queue_id: made.queue_id, from: expected, to: seq - 1 };
            } else {
                self.event = Event::Frame;
            }
            let seq = if self.held { seq - 1 } else { seq };
            self.cursor = Some(RawCursor { created_ns: made.created_ns, queue_id: made.queue_id, seq });
            return Ok(true);
        }
    }

    /// What the last call moved over, if it did.
    #[must_use]
    pub fn current(&self) -> Option<RawEvent<'_>> {
        let (made, frame) = match (&self.event, &self.source) {
            (Event::Lost { queue_id, from, to }, _) => {
                return Some(RawEvent::Lost { queue_id: *queue_id, from: *from, to: *to });
            }
            (Event::None, _) | (_, Source::None) => return None,
            (Event::Frame, Source::File { made, file, .. }) => (made, file.current()?),
            (Event::Frame, Source::Hot { made, frame, payload, .. }) => {
                (made, Frame { payload: Payload::own(payload), ..(*frame)? })
            }
        };
        Some(RawEvent::Frame(RawFrame { queue_id: made.queue_id, frame }))
    }

    /// Seq of the frame that the source stands on.
    fn here(&self) -> Option<u64> {
        match &self.source {
            Source::None => None,
            Source::File { file, .. } => file.current().map(|frame| frame.seq),
            Source::Hot { frame, .. } => frame.map(|frame| frame.seq),
        }
    }

    /// The source's next frame.
    fn step(&mut self) -> Result<Option<u64>> {
        match &mut self.source {
            Source::None => Ok(None),
            Source::File { name, file, .. } => {
                if file.advance()? {
                    return Ok(file.current().map(|frame| frame.seq));
                }
                if file.tail() != Tail::Sealed {
                    // The recorder publishes whole files only.
                    return Err(Error::Unsealed { path: file.path().to_owned() });
                }
                self.done = Some(*name);
                Ok(None)
            }
            Source::Hot { queue, frame, payload, .. } => {
                *frame = None;
                loop {
                    match queue.next() {
                        Ok(Some(found)) => {
                            // Copied out: a peer may change the region, what was handed out must not change.
                            payload.resize(found.payload.len(), 0);
                            found.payload.copy_to(payload);
                            *frame = Some(Frame { payload: Payload::own(&[]), ..found });
                            return Ok(frame.map(|frame| frame.seq));
                        }
                        Ok(None) => return Ok(None),
                        // Seqs tell it, here as between files, once there is a frame behind it.
                        Err(ReadError::Lost { .. }) => {}
                        Err(ReadError::Lapped { .. } | ReadError::Reset { .. }) if !self.looked_again => {
                            // What it no longer has was recorded before it left.
                            self.looked_again = true;
                            self.source = Source::None;
                            return Ok(None);
                        }
                        Err(ReadError::Lapped { .. } | ReadError::Reset { .. }) => {}
                        Err(ReadError::Busy { path }) => return Err(Error::Busy { path }),
                        Err(ReadError::Failed(error)) => return Err(error),
                    }
                }
            }
        }
    }

    /// Finds where what comes next is; `false` if nowhere yet.
    fn choose(&mut self) -> Result<bool> {
        if self.choose_file(None)? {
            return Ok(true);
        }
        let path = self.root.raw_queue(&self.venue);
        let Some(made) = queue_made(&self.platform, &path)? else { return Ok(false) };
        let start = match &self.cursor {
            Some(cursor) if cursor.made() == made => Start::Seq(cursor.seq.saturating_add(1)),
            // An older queue under a newer name: somebody set the clock back, or put it there.
            Some(cursor) if cursor.made() > made => return Ok(false),
            _ => Start::Earliest,
        };
        let options = SubscriberOptions { start, ..SubscriberOptions::default() };
        let queue = match Queue::observer(&self.platform, &path, options) {
            Ok(queue) => queue,
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        };
        if queue.queue_id() != made.queue_id {
            return Ok(false);
        }
        // What left the queue before it was opened was recorded before that: this look finds it.
        if self.choose_file(Some(made))? {
            return Ok(true);
        }
        self.source = Source::Hot { made, queue: Box::new(queue), frame: None, payload: Vec::new() };
        Ok(true)
    }

    /// Opens the recorded file that has what comes next, if one has; none of a queue made after `hot`.
    fn choose_file(&mut self, hot: Option<Made>) -> Result<bool> {
        let mut looks = 1;
        loop {
            let files = files(&self.platform, &self.root, &self.venue)?;
            match self.file_among(&files, hot) {
                // It moved to another tier between listing and opening.
                Err(error) if error.is_not_found() && looks < LOOKS => looks += 1,
                found => return found,
            }
        }
    }

    fn file_among(&mut self, files: &[RawFile], hot: Option<Made>) -> Result<bool> {
        if let Some(cursor) = self.cursor {
            let own: Vec<_> = files.iter().filter(|file| file.name.queue_id == cursor.queue_id).collect();
            let next = cursor.seq.saturating_add(1);
            let behind = own.partition_point(|file| file.name.first_seq <= next);
            if let Some(file) = behind.checked_sub(1).map(|i| own[i])
                && self.done != Some(file.name)
            {
                let mut opened = FrameFile::open(&self.platform, &file.path)?;
                opened.seek_seq(next)?;
                if opened.advance()? {
                    opened.hold();
                    self.source = Source::File { made: cursor.made(), name: file.name, file: Box::new(opened) };
                    return Ok(true);
                }
                self.done = Some(file.name);
            }
            if let Some(file) = own.get(behind) {
                let opened = FrameFile::open(&self.platform, &file.path)?;
                self.source = Source::File { made: cursor.made(), name: file.name, file: Box::new(opened) };
                return Ok(true);
            }
        }
        // The cursor's queue has no more files. As long as it is the hot one, no other can have begun.
        let own = self.cursor.map(|cursor| cursor.made());
        if own.is_some() && own == hot {
            return Ok(false);
        }
        let mut next: Option<(Made, &RawFile)> = None;
        for (i, file) in files.iter().enumerate() {
            // They are sorted: a queue's first file.
            if i > 0 && files[i - 1].name.queue_id == file.name.queue_id {
                continue;
            }
            let made = self.made_of(file)?;
            if own.is_none_or(|own| made > own) && next.is_none_or(|(first, _)| made < first) {
                next = Some((made, file));
            }
        }
        let Some((made, file)) = next else { return Ok(false) };
        let opened = FrameFile::open(&self.platform, &file.path)?;
        self.source = Source::File { made, name: file.name, file: Box::new(opened) };
        Ok(true)
    }

    fn made_of(&mut self, file: &RawFile) -> Result<Made> {
        if let Some(made) = self.made.get(&file.name.queue_id) {
            return Ok(*made);
        }
        let header = FrameFile::open(&self.platform, &file.path)?.header()?;
        if header.queue_id != file.name.queue_id {
            let found = u64::from_be_bytes(header.queue_id[..8].try_into().unwrap_or_default());
            let fault = chronicle_core::Fault::Field { name: "queue_id, which is not the one in the name", found };
            return Err(Error::fault(&file.path, 24, fault));
        }
        let made = Made { created_ns: header.created_ns, queue_id: header.queue_id };
        self.made.insert(made.queue_id, made);
        Ok(made)
    }

    /// Whether what comes next is looked for in the hot queue: in memory, without asking the system.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.source, Source::Hot { .. })
    }

    /// Waits until there may be more, at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`RawReader::next`].
    pub fn wait(&mut self, timeout: Duration) -> Result<()> {
        match &mut self.source {
            Source::Hot { made, queue, .. } => {
                match queue.wait(timeout) {
                    // It is still the one: who only asks for more must not open a file first.
                    Ok(Waited::Ready) => return Ok(()),
                    waited => waited.map(drop).or_else(not_an_event)?,
                }
                let made = *made;
                let path = self.root.raw_queue(&self.venue);
                if !self.held && queue_made(&self.platform, &path)? != Some(made) {
                    // Another queue stands there by now.
                    self.source = Source::None;
                }
            }
            _ => self.platform.sleep(timeout.min(NO_QUEUE)),
        }
        Ok(())
    }
}

/// How often files are listed anew because one of them vanished before it was opened.
const LOOKS: usize = 10;

/// Longest sleep while there is no hot queue that could wake.
const NO_QUEUE: Duration = Duration::from_millis(50);
