//! Reading a log: from a seq, in order, while it is written or long after, from any process.
//!
//! ```text
//! a writer lives      up to the durable position that it says in `state.meta`
//! nobody writes       up to the position that is proved durable; the end, if the log was closed in order
//! ```
//!
//! Nothing is presented that is not durable. Of a log whose writer died, frames behind the proved position may be
//! acknowledged ones or torn; the next writer makes them durable before it serves them. Who asks for them
//! ([`ReaderOptions::unproven`]) gets them marked.
//!
//! **Frames as written.** Truncations are not carried out: a reader sees the frames that a later `truncate` frame voids,
//! and the truncate frame too if it asks for control frames. What a segment repeats at its head is left out.
//!
//! **A reader holds nothing back.** Its segment may be retired and used again under it; each frame is checked when its batch
//! is entered, with the salt of the segment that it was read for, so what a recycled file holds never passes. Who was
//! that slow is told what is the oldest record there is ([`ReadError::Gone`]).
//!
//! **Following a takeover.** A new writer begins a new segment at the position that it could prove, which may lie before
//! the one that its predecessor had announced, and writes the frames between the two again. Where the reader's own
//! position is no part of the log any more it finds its place by seq, and passes over what it has handed out.

use super::{
    Verify,
    names::{self, Named, Names},
    recover::{Looking, Survey, look},
    scan::{Segment, Window},
    state::{Progress, StateReader, is_alive},
};
use crate::{Error, Result};
use chronicle_core::{
    Damage, Fault,
    wal::{
        Entry, Header, Kind, Position, entries,
        layout::{ENTRY_HEADER_LEN, FRAME_HEADER_LEN},
    },
};
use chronicle_platform::{File, FileId, Open, Platform};
use std::{fmt, path::Path, time::Duration};

/// How a log is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderOptions {
    /// Hands out vote, meta and truncate frames too, as they were written.
    pub controls: bool,
    /// Hands out what a dead writer left behind the proved position, marked. It may be gone when the next writer comes.
    pub unproven: bool,
}

/// A frame of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number; of a control frame, that of the data frame that comes next.
    pub seq: u64,
    /// What it is; without [`ReaderOptions::controls`] always data.
    pub kind: Kind,
    /// The application's bytes. Of a truncate frame the first eight are the seq after which frames are void.
    pub payload: &'a [u8],
    /// Not proved durable: see [`ReaderOptions::unproven`].
    pub unproven: bool,
}

/// Why a reader got no record.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// Records that come next are no longer there: they were retired. [`WalReader::seek`] goes on elsewhere.
    Gone {
        /// The oldest record that is still there.
        first_seq: u64,
    },
    /// Damage or trouble.
    Failed(Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Gone { first_seq } => write!(f, "records were retired: the oldest one is {first_seq}"),
            ReadError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Gone { .. } => None,
            ReadError::Failed(error) => std::error::Error::source(error),
        }
    }
}

impl<E: Into<Error>> From<E> for ReadError {
    fn from(error: E) -> Self {
        ReadError::Failed(error.into())
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// There is something to read.
    Ready,
    /// The time is over.
    TimedOut,
    /// Nobody has the log open, and all that is durable is read. Waiting again waits for a writer to come.
    NoWriter,
    /// A write or a sync of the writer's failed: nothing more becomes durable until another one has taken over.
    Poisoned,
}

/// Longest time without a look at whether there is a writer.
const SLICE: Duration = Duration::from_millis(100);
/// Looks at a directory that changes meanwhile.
const TRIES: u32 = 10;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(1);

/// Reads a log. See the module.
#[derive(Debug)]
pub struct WalReader<P: Platform> {
    platform: P,
    names: Names,
    options: ReaderOptions,
    state: StateReader<P>,
    reach: Reach,
    at: Option<Here<P::File>>,
    window: Window,
    /// Frames of the batch that was entered last, in the order in which they stand.
    entered: Vec<Entered>,
    /// How many of them were handed out or passed over.
    passed: usize,
    /// The next record to hand out.
    next_seq: u64,
    /// Control frames that come before that record: met on this way to it,
    controls_met: u64,
    /// and handed out on any.
    controls_given: u64,
}

/// What may be read, as it was when that was looked at.
#[derive(Debug, Default)]
struct Reach {
    /// The log's segments up to that place.
    chain: Vec<Header>,
    /// Up to where it is durable.
    durable: Position,
    /// Up to where frames may be read: the same, or behind it what nobody has proved.
    end: Position,
    /// What the writer said then.
    said: Option<Progress>,
    /// Nobody had the log open then, and its files were looked at.
    of_dead: bool,
}

/// The segment that a reader stands in.
#[derive(Debug)]
struct Here<F> {
    segment: Segment<F>,
    file: FileId,
    /// Which of the reach's chain it is.
    n: usize,
    /// Where the next batch stands.
    offset: u64,
    /// Number of the next data frame there.
    stream_seq: u64,
    /// A batch at `offset` is torn: its good frames were read.
    torn: bool,
}

/// A frame in the window.
#[derive(Clone, Copy, Debug)]
struct Entered {
    seq: u64,
    /// Where its payload stands in the segment.
    offset: u64,
    len: u32,
    kind: Kind,
    unproven: bool,
}

impl<P: Platform> WalReader<P> {
    /// Opens the log in `dir` for reading, from record `from` on; 0 = from the oldest that is there. The record need not
    /// exist yet.
    ///
    /// # Errors
    ///
    /// There is no log; `from` was retired; damage; the system's.
    pub fn open(
        platform: &P,
        dir: impl AsRef<Path>,
        from: u64,
        options: ReaderOptions,
    ) -> std::result::Result<Self, ReadError> {
        let names = Names::new(dir.as_ref());
        let wal_id = wal_id(platform, &names)?;
        let mut reader = WalReader {
            platform: platform.clone(),
            state: StateReader::new(platform, &names, wal_id),
            names,
            options,
            reach: Reach::default(),
            at: None,
            window: Window::default(),
            entered: Vec::new(),
            passed: 0,
            next_seq: 1,
            controls_met: 0,
            controls_given: 0,
        };
        reader.refresh()?;
        reader.start(from)?;
        Ok(reader)
    }

    /// Number of the next record.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Goes on with record `from`; 0 = with the oldest that is there.
    ///
    /// # Errors
    ///
    /// As [`WalReader::open`]. After [`ReadError::Gone`] the reader stays where it was.
    pub fn seek(&mut self, from: u64) -> std::result::Result<(), ReadError> {
        self.survey_again()?;
        self.start(from)
    }

    fn start(&mut self, from: u64) -> std::result::Result<(), ReadError> {
        for _ in 0..TRIES {
            let first_seq = self.first_seq();
            if from != 0 && from < first_seq {
                return Err(ReadError::Gone { first_seq });
            }
            self.next_seq = from.max(first_seq);
            self.controls_given = 0;
            match self.find() {
                // The oldest was retired between the look at what there is and the look into it: another one is the oldest.
                Err(ReadError::Gone { .. }) if from == 0 => {}
                found => return found,
            }
        }
        Err(Error::Busy { path: self.names.dir().to_path_buf() }.into())
    }

    /// The next record, or control frame if those were asked for; nothing if there is none for now.
    ///
    /// # Errors
    ///
    /// Records were retired before they were read; damage; the system's.
    #[allow(clippy::should_implement_trait, reason = "what it hands out borrows from the reader")]
    pub fn next(&mut self) -> std::result::Result<Option<Record<'_>>, ReadError> {
        if !self.advance()? {
            return Ok(None);
        }
        let Entered { seq, offset, len, kind, unproven } = self.entered[self.passed];
        self.passed += 1;
        match kind {
            Kind::Data => self.behind(seq),
            _ => {
                self.controls_met += 1;
                self.controls_given = self.controls_met;
            }
        }
        Ok(Some(Record { seq, kind, payload: self.window.peek(offset, len as usize), unproven }))
    }

    /// Waits until there is something to read, at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`WalReader::next`].
    pub fn wait(&mut self, timeout: Duration) -> std::result::Result<Waited, ReadError> {
        let mut now = self.platform.monotonic_ns();
        let deadline = now.saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        loop {
            if self.advance()? {
                return Ok(Waited::Ready);
            }
            if now >= deadline {
                return Ok(Waited::TimedOut);
            }
            let seen = self.reach.said;
            let left = Duration::from_nanos(deadline - now).min(SLICE);
            self.state.sleep(left, |state| Ok(state.look()? != seen))?;
            if self.advance()? {
                return Ok(Waited::Ready);
            }
            // Who was gone before `advance` looked has said nothing since.
            if !is_alive(&self.platform, &self.names)? {
                return Ok(if self.advance()? { Waited::Ready } else { Waited::NoWriter });
            }
            if self.reach.said.is_some_and(|said| said.poisoned) {
                return Ok(Waited::Poisoned);
            }
            now = self.platform.monotonic_ns();
        }
    }

    /// Record `seq` is behind us.
    fn behind(&mut self, seq: u64) {
        self.next_seq = seq + 1;
        self.controls_met = 0;
        self.controls_given = 0;
    }

    /// Brings the next frame to hand out to the front of those that were entered; whether there is one.
    fn advance(&mut self) -> std::result::Result<bool, ReadError> {
        loop {
            while let Some(frame) = self.entered.get(self.passed) {
                let wanted = match frame.kind {
                    Kind::Data => frame.seq >= self.next_seq,
                    _ if !self.options.controls || frame.seq < self.next_seq => false,
                    _ => self.controls_met >= self.controls_given,
                };
                if wanted {
                    return Ok(true);
                }
                if frame.kind != Kind::Data && frame.seq == self.next_seq {
                    self.controls_met += 1;
                }
                self.passed += 1;
            }
            if !self.enter()? {
                return Ok(false);
            }
        }
    }

    /// Enters the next batch; whether there is one that may be read.
    fn enter(&mut self) -> std::result::Result<bool, ReadError> {
        let mut changed = 0;
        while changed < TRIES {
            let Some(here) = &mut self.at else {
                self.find()?;
                continue;
            };
            let to = match self.reach.chain.get(here.n + 1) {
                Some(next) => next.predecessor_end,
                None => self.reach.end.offset,
            };
            if here.offset < to && !here.torn {
                let durable = self.reach.durable;
                match here.enter(&mut self.window, &mut self.entered, to, durable)? {
                    None => {
                        self.passed = 0;
                        return Ok(true);
                    }
                    Some(damage) => {
                        changed += 1;
                        self.explain(damage)?;
                    }
                }
            } else if here.n + 1 < self.reach.chain.len() {
                self.roll()?;
            } else if !self.refresh()? {
                return Ok(false);
            } else {
                // What was read behind the old reach may have been written since.
                self.window.forget();
                self.place()?;
            }
        }
        Err(Error::Busy { path: self.names.dir().to_path_buf() }.into())
    }

    /// Into the segment that follows.
    fn roll(&mut self) -> std::result::Result<(), ReadError> {
        let Some(here) = &self.at else { return Ok(()) };
        let n = here.n + 1;
        let header = self.reach.chain[n];
        if here.offset != header.predecessor_end {
            // Its writer began before the place where we are.
            return self.find();
        }
        if header.first_seq != here.stream_seq {
            let fault = Fault::Seq { expected: here.stream_seq, found: header.first_seq };
            return Err(Error::fault(self.names.segment(header.segment_id), 80, fault).into());
        }
        match self.open_segment(n)? {
            Some(here) => {
                self.window.forget();
                self.at = Some(here);
                Ok(())
            }
            None => self.find_again(),
        }
    }

    /// Opens the segment that is the `n`-th of the chain; nothing if it is not there any more.
    fn open_segment(&self, n: usize) -> Result<Option<Here<P::File>>> {
        let header = self.reach.chain[n];
        let segment = match Segment::open(&self.platform, &self.names, header.segment_id, Open::Read) {
            Ok(segment) => segment,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return if self.is_named(header.segment_id, None)? { Err(error) } else { Ok(None) },
        };
        if segment.header != header {
            return Ok(None);
        }
        let (file, offset) = (segment.file.id()?, segment.start());
        Ok(Some(Here { segment, file, n, offset, stream_seq: header.first_seq, torn: false }))
    }

    /// Whether segment `id` has its name, and is this file.
    fn is_named(&self, id: u64, file: Option<FileId>) -> Result<bool> {
        match self.platform.open(&self.names.segment(id), Open::Read).map_err(Error::from) {
            Ok(named) => Ok(file.is_none_or(|file| named.id().is_ok_and(|id| id == file))),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What does not fit was either retired and is used again, or is damage.
    fn explain(&mut self, damage: Damage) -> std::result::Result<(), ReadError> {
        let Some(here) = &self.at else { return Ok(()) };
        if !self.is_named(here.segment.id(), Some(here.file))? {
            return self.find_again();
        }
        if here.torn {
            return Ok(());
        }
        Err(Error::damage(&here.segment.path, damage).into())
    }

    fn first_seq(&self) -> u64 {
        self.reach.chain.first().map_or(1, |header| header.first_seq)
    }

    /// The log has changed since it was looked at.
    fn find_again(&mut self) -> std::result::Result<(), ReadError> {
        self.survey_again()?;
        self.find()
    }

    /// Stands at the start of the segment in which the next record is, or will be.
    fn find(&mut self) -> std::result::Result<(), ReadError> {
        for _ in 0..TRIES {
            let first_seq = self.first_seq();
            if self.next_seq < first_seq {
                self.at = None;
                return Err(ReadError::Gone { first_seq });
            }
            // A segment that begins with it has no control frames that come before it.
            let before = |header: &&Header| match self.options.controls {
                true => header.first_seq < self.next_seq,
                false => header.first_seq <= self.next_seq,
            };
            let n = self.reach.chain.iter().take_while(before).count().saturating_sub(1);
            let here = if self.reach.chain.is_empty() { None } else { self.open_segment(n)? };
            if let Some(here) = here {
                self.window.forget();
                self.entered.clear();
                self.passed = 0;
                self.controls_met = 0;
                self.at = Some(here);
                return Ok(());
            }
            self.platform.sleep(PAUSE);
            self.survey_again()?;
        }
        let path = self.names.dir().to_path_buf();
        Err(Error::Busy { path }.into())
    }

    /// After the reach changed: which of its chain we stand in.
    fn place(&mut self) -> std::result::Result<(), ReadError> {
        let Some(here) = &mut self.at else { return Ok(()) };
        let id = here.segment.id();
        let Ok(n) = self.reach.chain.binary_search_by_key(&id, |header| header.segment_id) else {
            return self.find();
        };
        (here.n, here.torn) = (n, false);
        let to = self.reach.chain.get(n + 1).map_or(self.reach.end.offset, |next| next.predecessor_end);
        if here.offset > to { self.find() } else { Ok(()) }
    }

    /// Looks how far the log has got; whether it got further.
    fn refresh(&mut self) -> Result<bool> {
        let said = self.state.look()?;
        let looked = !self.reach.chain.is_empty();
        if looked && said == self.reach.said && (self.reach.of_dead || is_alive(&self.platform, &self.names)?) {
            return Ok(false);
        }
        if let Some(progress) = said
            && progress.durable > self.reach.durable
            && let Some(chain) = self.chain_to(progress.durable)?
        {
            self.reach = Reach { chain, durable: progress.durable, end: progress.durable, said, of_dead: false };
            return Ok(true);
        }
        if looked && is_alive(&self.platform, &self.names)? {
            (self.reach.said, self.reach.of_dead) = (said, false);
            return Ok(false);
        }
        self.look_at_dead(said)
    }

    /// The log's segments up to a position that its writer said; nothing if it has no such segment.
    fn chain_to(&self, limit: Position) -> Result<Option<Vec<Header>>> {
        let known = &self.reach.chain;
        let chain = match known.last() {
            Some(last) if last.segment_id == limit.segment => known.clone(),
            _ => survey(&self.platform, &self.names, Some(limit))?,
        };
        let has = chain.last().is_some_and(|last| {
            last.segment_id == limit.segment && (u64::from(last.block_size)..=last.segment_len).contains(&limit.offset)
        });
        Ok(has.then_some(chain))
    }

    /// Finds out how far a log is durable whose writer says nothing more.
    fn look_at_dead(&mut self, said: Option<Progress>) -> Result<bool> {
        let looking = Looking { verify: Verify::Tail, ..Looking::default() };
        let found = tries(&self.platform, || look(&self.platform, &self.names, &looking))?;
        // What it said of durability was true when it said it, and the log has it.
        let said_durable = said.map(|said| said.durable.min(found.end));
        let said_durable = said_durable.filter(|at| found.chain.iter().any(|link| link.id() == at.segment));
        let durable = said_durable.map_or(found.proven, |at| at.max(found.proven));
        let end = if self.options.unproven { found.end } else { durable };
        let news = durable > self.reach.durable || end > self.reach.end;
        let chain = found.chain.iter().map(|link| link.header);
        let chain = chain.filter(|header| header.segment_id <= end.segment).collect();
        self.reach = Reach { chain, durable, end, said, of_dead: true };
        Ok(news)
    }

    /// Looks again which segments there are, up to where the reader may read.
    fn survey_again(&mut self) -> Result<()> {
        // Its place in the chain may be another one; it is found again by seq.
        self.at = None;
        if let Some(said) = self.state.look()?
            && said.durable >= self.reach.durable
        {
            let chain = survey(&self.platform, &self.names, Some(said.durable))?;
            if chain.last().is_some_and(|last| last.segment_id == said.durable.segment) {
                self.reach =
                    Reach { chain, durable: said.durable, end: said.durable, said: Some(said), of_dead: false };
                return Ok(());
            }
        }
        if !is_alive(&self.platform, &self.names)? {
            let said = self.reach.said;
            self.look_at_dead(said)?;
        }
        Ok(())
    }
}

impl<F: File> Here<F> {
    /// Checks the batch that comes next, which must end at `to` or before, and lists its frames. What is wrong below the
    /// durable position is returned; behind it, the good frames of a torn batch count.
    fn enter(
        &mut self,
        window: &mut Window,
        entered: &mut Vec<Entered>,
        to: u64,
        durable: Position,
    ) -> Result<Option<Damage>> {
        entered.clear();
        let position = Position { segment: self.segment.id(), offset: self.offset };
        let unproven = position >= durable;
        let end = if unproven { self.segment.len } else { to.min(self.segment.len) };
        let batch = match window.batch(&self.segment, self.offset, end)? {
            Ok(batch) => batch,
            Err(damage) => return Ok(Some(self.stop(window, unproven, damage))),
        };
        let head = *batch.head();
        if head.end() > to && !unproven {
            let fault = Fault::End { expected: to, found: head.end() };
            return Ok(Some(self.stop(window, unproven, Damage::at(self.offset, fault))));
        }
        if head.first_seq != self.stream_seq {
            let fault = Fault::Seq { expected: self.stream_seq, found: head.first_seq };
            return Ok(Some(self.stop(window, unproven, Damage::at(self.offset, fault))));
        }
        let mut frames = batch.frames();
        let mut bad = None;
        for frame in frames.by_ref() {
            match frame {
                Ok(frame) if frame.carry => {}
                Ok(frame) => {
                    let (mut offset, mut len) = (frame.offset + FRAME_HEADER_LEN as u64, frame.payload.len());
                    if frame.kind == Kind::Meta
                        && let Some(Ok(Entry::Meta(bytes))) = entries(frame.payload, offset).next()
                    {
                        // The application's bytes, without what the machine put around them.
                        (offset, len) = (offset + ENTRY_HEADER_LEN as u64, bytes.len());
                    }
                    entered.push(Entered { seq: frame.seq, offset, len: len as u32, kind: frame.kind, unproven });
                }
                Err(damage) => bad = Some(damage),
            }
        }
        let next_seq = frames.next_seq();
        match bad {
            None => {
                self.stream_seq = next_seq;
                self.offset = head.end();
                Ok(None)
            }
            Some(_) if unproven => {
                // The frames before the damage count.
                self.torn = true;
                Ok(None)
            }
            Some(damage) => {
                entered.clear();
                Ok(Some(self.stop(window, unproven, damage)))
            }
        }
    }

    /// Nothing that was read here counts: the file may be another one's by now.
    fn stop(&mut self, window: &mut Window, unproven: bool, damage: Damage) -> Damage {
        window.forget();
        self.torn = unproven;
        damage
    }
}

/// The identity of the log in a directory.
fn wal_id<P: Platform>(platform: &P, names: &Names) -> Result<[u8; 16]> {
    tries(platform, || {
        let entries = platform.list(names.dir())?;
        let newest = entries.iter().rev().find_map(|entry| match names::parse(&entry.name) {
            Named::Segment(id) => Some(id),
            _ => None,
        });
        let Some(id) = newest else {
            let what = "no log: no segment is there".into();
            return Err(Error::Options { path: names.dir().to_path_buf(), what });
        };
        Ok(Segment::open(platform, names, id, Open::Read)?.header.wal_id)
    })
}

/// The log's segments up to `limit`.
fn survey<P: Platform>(platform: &P, names: &Names, limit: Option<Position>) -> Result<Vec<Header>> {
    tries(platform, || Ok(Survey::of(platform, names, limit)?.chain))
}

/// A directory that a writer changes is looked at again: between the list and a look at a file, that may have gone.
fn tries<P: Platform, T>(platform: &P, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES {
        match look() {
            Err(Error::Trouble(_) | Error::Damage { .. } | Error::Hole { .. } | Error::Busy { .. }) => {
                platform.sleep(PAUSE);
            }
            // A segment that another one names was retired between two looks.
            Err(Error::Malformed { .. }) => platform.sleep(PAUSE),
            other => return other,
        }
    }
    look()
}
