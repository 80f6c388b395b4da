//! A reader of a queue.
//!
//! `next` looks at the commit word where the reader stands: open, a frame, or `End`. At `End` it crosses to the segment
//! that follows. A reader holds a shared lock on the segment that it reads, which is what keeps the writer from using
//! that file again; what it left, it keeps mapped and does not look at, until the same file comes back as another
//! segment: then it reads on without a mapping call or a fault.
//!
//! ```text
//! cross:  among the mappings kept, one whose header says "the next": lock it shared, check again, go on   (3 calls)
//!         else open the next by name, lock, check its id, map, fault in
//!         gone? the oldest one there is: Lapped.   a later epoch? its begin says what was lost
//! ```
//!
//! **After a crash of the machine**, until a writer has recovered the queue, only what a sync covered is taken as it is:
//! a reader finds its place before the synced position, walks on from there frame by verified frame, across segments, as
//! recovery will, and so never stands behind the place where that ends the stream. A reader that does stand behind such a
//! place (memory can forget what it showed, after a failed sync) sees the epoch change and finds its place anew, by seq.
//!
//! It never writes into the queue but its own cursor file and the wake word, and reads without either where it may not.

use super::{
    ReadError, Start, SubscriberOptions,
    control::{Control, Synced, age, tick},
    cursor::{CursorFile, Position},
    index,
    layout::{CONTROL_SLOTS, ControlSlot, FAILED, HEARTBEAT, META_LEN, OLDEST, UNLOCKED},
    names::Names,
    segment::{Head, head, ids},
};
use crate::{Error, Result, root::Name};
use chronicle_core::{
    Damage, Fault, Frame, Reader, Region, RegionMut, Seal, Step, Trusted,
    layout::{COMMIT_END, FrameHeader, HEADER_LEN},
    read_begin, read_seal, wake,
};
use chronicle_platform::{File, FileId, Lock, Open, Platform, TroubleKind};
use std::{
    mem::offset_of,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Whether a writer has the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterStatus {
    /// It has the lock, or would if nobody else had it, and its heart beats.
    Alive,
    /// It has the lock, but its last heartbeat is older than asked: stopped, or without maintenance.
    StaleHeartbeat {
        /// How old.
        age: Duration,
    },
    /// Nobody has the lock.
    LockLost,
}

/// Why no frames will come for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// The writer closed the queue in order.
    Closed,
    /// The writer died.
    Died,
    /// The writer is there and does nothing.
    Stale {
        /// For how long.
        age: Duration,
    },
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// There is something to read.
    Ready,
    /// The time is over.
    TimedOut,
    /// There is no writer. Waiting again waits for one to come back.
    Disconnected(Disconnect),
}

/// A segment that has its `End`, as [`Subscriber::ended`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedSegment {
    /// Its name while the queue has it.
    pub path: PathBuf,
    /// Queue.
    pub queue_id: [u8; 16],
    /// Segment.
    pub segment_id: u64,
    /// Epoch in which it was made.
    pub epoch: u32,
    /// When it was made, ns since 1970.
    pub created_ns: u64,
    /// What its `time_ns` means.
    pub clock: chronicle_core::Clock,
    /// Seq of its first frame.
    pub first_seq: u64,
    /// Its seal, where the writer has stored it already.
    pub seal: Option<Seal>,
}

/// A mapping of a segment's file, which may be another segment by now.
#[derive(Debug)]
struct Kept<P: Platform> {
    id: FileId,
    file: P::File,
    map: Arc<P::Map>,
    /// Crossings for which it has been of no use.
    idle: u32,
}

/// The segment that is read.
#[derive(Debug)]
struct Attached<P: Platform> {
    reader: Reader<Arc<P::Map>>,
    kept: Kept<P>,
    path: PathBuf,
}

/// The reading end of a queue.
///
/// Made by [`super::Queue::subscriber`] and [`super::Queue::observer`].
#[derive(Debug)]
pub struct Subscriber<P: Platform> {
    at: Option<Attached<P>>,
    cursor: Option<CursorFile<P>>,
    verify: bool,
    names: Names,
    platform: P,
    options: SubscriberOptions,
    queue_id: [u8; 16],
    control_map: P::Map,
    waker: Option<P::MapMut>,
    kept: Vec<Kept<P>>,
    /// Told once, before anything else.
    event: Option<ReadError>,
    /// The queue's epoch when the place was found.
    epoch: u32,
    /// Nobody has recovered the queue yet: behind this position only what was walked over counts.
    bound: Option<Synced>,
    /// Seqs below were read, or not asked for: nobody is told that they are lost.
    asked: u64,
    /// Looks that found nothing.
    idle: u32,
    /// Since when the next segment has been locked by somebody else.
    busy_since: Option<u64>,
    /// When a queue without segments was last looked at.
    looked_ns: u64,
    /// When the writer was last looked at.
    checked_ns: u64,
    alive_path: PathBuf,
    /// Made once: who idles looks there now and then, and asks the heap for nothing.
    control_path: PathBuf,
}

/// How long a segment may stay locked by others before a reader says so.
const BUSY_NS: u64 = 1_000_000_000;
/// Longest sleep without a look at the writer.
const SLICE: Duration = Duration::from_millis(100);
/// Longest sleep of a reader that nobody wakes.
const UNWOKEN: Duration = Duration::from_millis(1);
/// How many looks that find nothing go by until a reader looks whether the stream was ended elsewhere.
const IDLE_LOOKS: u32 = 1024;
/// A heartbeat older than this makes a wait tell.
const STALE: Duration = Duration::from_secs(5);

/// What taking the next segment came to.
enum Crossed {
    Yes,
    NotYet,
}

impl<P: Platform> Subscriber<P> {
    pub(crate) fn open(platform: &P, path: &Path, name: Option<Name>, options: SubscriberOptions) -> Result<Self> {
        let names = Names::new(path);
        let control_path = names.control();
        let control_file = platform.open(&control_path, Open::Read)?;
        let control = Control::read::<P>(&control_path, &control_file)?;
        let control_map = platform.map(&control_file, META_LEN)?;
        platform.prefault(&control_map)?;
        let cursor = match &name {
            Some(name) => CursorFile::open(platform, &names, name, options.ttl)?,
            None => None,
        };
        let waker = Self::open_waker(platform, &names)?;
        let mut this = Subscriber {
            at: None,
            cursor,
            verify: true,
            alive_path: names.alive_lock(),
            control_path,
            names,
            platform: platform.clone(),
            queue_id: control.queue_id,
            control_map,
            waker,
            kept: Vec::new(),
            event: None,
            epoch: 0,
            bound: None,
            asked: 0,
            idle: 0,
            busy_since: None,
            looked_ns: 0,
            checked_ns: 0,
            options,
        };
        let start = this.options.start;
        this.place(start, &control).map_err(|error| match error {
            ReadError::Failed(error) => error,
            ReadError::Busy { path } => Error::Busy { path },
            event => unreachable!("events are kept for the first read: {event}"),
        })?;
        if let Some(cursor) = &this.cursor {
            // It has committed before: what it has not committed is held back for it.
            let goes_on = start == Start::Cursor && cursor.found.is_some_and(|found| found.queue_id == this.queue_id);
            cursor.set_commits(goes_on);
        }
        Ok(this)
    }

    /// The wake word, where we may write it and can settle with the writer.
    fn open_waker(platform: &P, names: &Names) -> Result<Option<P::MapMut>> {
        let file = match platform.open(&names.wake(), Open::Write) {
            Ok(file) => file,
            Err(trouble) if matches!(trouble.kind(), TroubleKind::Denied | TroubleKind::NotFound) => return Ok(None),
            Err(trouble) => return Err(trouble.into()),
        };
        // Somebody who may write it may have cut it: then nobody is woken.
        if file.len()? < META_LEN as u64 {
            return Ok(None);
        }
        let map = platform.map_mut(&file, META_LEN)?;
        platform.prefault_mut(&map)?;
        Ok(Some(map))
    }

    /// The next frame, or `None` if the writer has come no further.
    ///
    /// Between rolls it makes no system call. An event (a loss, a lap, a reset) comes once, as an error; the next call
    /// goes on behind it.
    ///
    /// # Errors
    ///
    /// An event, a segment that stays locked, damage, trouble.
    // Not an iterator: a frame borrows the reader, and an iterator's items may not.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> std::result::Result<Option<Frame<'_>>, ReadError> {
        if !self.advance(true)? {
            return Ok(None);
        }
        self.step()
    }

    /// The frame whose time [`Subscriber::peek_time`] has told with the call before this one: it is not looked for again.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::next`].
    #[inline]
    pub fn next_peeked(&mut self) -> std::result::Result<Option<Frame<'_>>, ReadError> {
        // After any other call it finds what `next` finds, but crosses over no end: then there is nothing.
        if self.event.is_some() { Ok(None) } else { self.step() }
    }

    /// The time of the frame that [`Subscriber::next`] returns next, or `None` if it would return none: for who merges
    /// queues, and must not move behind a frame that another queue's goes before.
    ///
    /// A reader that verifies verifies twice.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::next`]; an event is told by the one of the two that comes upon it.
    #[inline]
    pub fn peek_time(&mut self) -> std::result::Result<Option<u64>, ReadError> {
        if !self.advance(true)? {
            return Ok(None);
        }
        if self.verify {
            return self.peek_verified();
        }
        Ok(self.at.as_ref().map(|at| {
            let offset = at.reader.mark().offset() as usize;
            at.reader.region().window().load64(offset + offset_of!(FrameHeader, time_ns))
        }))
    }

    /// What is torn, or damaged, is so before anybody goes by its time.
    #[cold]
    fn peek_verified(&mut self) -> std::result::Result<Option<u64>, ReadError> {
        let Some(at) = &mut self.at else { return Ok(None) };
        let before = at.reader.clone();
        let peeked = self.step().map(|frame| frame.map(|frame| frame.time_ns));
        if let Some(at) = &mut self.at {
            at.reader = before;
        }
        peeked
    }

    /// As [`Subscriber::next`], but stops at the end of the segment that the reader stands in.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::next`].
    pub fn next_in_segment(&mut self) -> std::result::Result<Option<Frame<'_>>, ReadError> {
        if !self.advance(false)? {
            return Ok(None);
        }
        self.step()
    }

    /// Whether a frame stands where the reader is, after crossing over ends.
    #[inline]
    fn advance(&mut self, cross: bool) -> std::result::Result<bool, ReadError> {
        if let Some(cursor) = &mut self.cursor {
            cursor.beat();
        }
        if self.event.is_some() {
            return self.tell();
        }
        loop {
            let Some(at) = &self.at else {
                if !self.attach_later()? {
                    return Ok(false);
                }
                if self.event.is_some() {
                    return self.tell();
                }
                continue;
            };
            match at.reader.region().window().load_acquire(at.reader.mark().offset() as usize) {
                0 => {
                    if !self.idles()? {
                        return Ok(false);
                    }
                    if self.event.is_some() {
                        return self.tell();
                    }
                }
                COMMIT_END => {
                    if !cross || matches!(self.cross()?, Crossed::NotYet) {
                        return Ok(false);
                    }
                    if self.event.is_some() {
                        return self.tell();
                    }
                }
                _ => return Ok(true),
            }
        }
    }

    /// Nothing stands here. Whether the reader stands elsewhere now.
    #[inline]
    fn idles(&mut self) -> std::result::Result<bool, ReadError> {
        self.idle = self.idle.wrapping_add(1);
        if self.bound.is_none() && !self.idle.is_multiple_of(IDLE_LOOKS) {
            return Ok(false);
        }
        self.find_again()
    }

    /// Looks whether the stream was ended before the place where the reader waits; if so, it finds its place by seq.
    #[cold]
    fn find_again(&mut self) -> std::result::Result<bool, ReadError> {
        // Before the whole file is read and its names are put on the heap: no slot has a later epoch, so neither has the file.
        if !self.may_be_cut(self.epoch) {
            return Ok(false);
        }
        let Ok(control) = Control::look(&self.control_path, self.control_map.window()) else { return Ok(false) };
        if control.state.epoch == self.epoch {
            return Ok(false);
        }
        // ORDERING: recovery ends what it accepts before it raises the epoch: who sees the epoch, and looks again behind
        // this, sees the end.
        wake::settle();
        let seq = match &self.at {
            Some(at) if at.reader.header().epoch < control.state.epoch => {
                if at.reader.is_ready() {
                    return Ok(false);
                }
                Some(at.reader.mark().next_seq())
            }
            _ => None,
        };
        self.follow_control(&control);
        let Some(seq) = seq else { return Ok(false) };
        self.leave();
        self.at_seq(seq)?;
        Ok(true)
    }

    /// Takes note of the state of the queue, as far as it says what can be believed.
    fn follow_control(&mut self, control: &Control) {
        self.epoch = control.state.epoch;
        self.bound = control.is_unrecovered(&self.platform).then_some(control.state.synced);
        self.verify = self.options.verify_reads || self.bound.is_some();
    }

    #[cold]
    fn tell(&mut self) -> std::result::Result<bool, ReadError> {
        self.event.take().map_or(Ok(false), Err)
    }

    #[inline]
    fn step(&mut self) -> std::result::Result<Option<Frame<'_>>, ReadError> {
        let Some(at) = &mut self.at else { return Ok(None) };
        let step = if self.verify { at.reader.step_verified() } else { at.reader.step() };
        match step {
            Ok(Step::Frame(frame)) => Ok(Some(frame)),
            // A peer changed the word under us.
            Ok(Step::Open | Step::End { .. }) => Ok(None),
            Err(damage) => {
                // Behind the synced position of a queue that nobody has recovered yet it is torn, not the stream's.
                let torn = is_torn(&mut self.bound, &self.platform, &self.names, &self.control_map);
                if torn { Ok(None) } else { Err(Error::damage(&at.path, damage).into()) }
            }
        }
    }

    /// Calls `each` with up to `limit` frames and returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::next`]; frames before it were handed out.
    pub fn poll(&mut self, limit: usize, mut each: impl FnMut(Frame<'_>)) -> std::result::Result<usize, ReadError> {
        let mut count = 0;
        while count < limit {
            match self.next() {
                Ok(Some(frame)) => each(frame),
                Ok(None) => break,
                // Told by the next call: what was read counts.
                Err(event) if event.is_event() && count > 0 => {
                    self.event = Some(event);
                    break;
                }
                Err(error) => return Err(error),
            }
            count += 1;
        }
        Ok(count)
    }

    /// Waits until there is something to read, at most `timeout`. Sleeps without cost to the writer.
    ///
    /// Without permission to write the wake word it looks every millisecond.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::next`], without events.
    pub fn wait(&mut self, timeout: Duration) -> std::result::Result<Waited, ReadError> {
        self.checked_ns = self.platform.monotonic_ns();
        let deadline = self.checked_ns.saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        loop {
            if self.event.is_some() || self.advance(true).or_else(|error| self.keep(error))? {
                return Ok(Waited::Ready);
            }
            let now = self.platform.monotonic_ns();
            if now >= deadline {
                return Ok(Waited::TimedOut);
            }
            let left = Duration::from_nanos(deadline - now);
            self.sleep(left.min(SLICE))?;
            if self.advance(true).or_else(|error| self.keep(error))? {
                return Ok(Waited::Ready);
            }
            // Now and then, look whether there is still a writer to wait for.
            let now = self.platform.monotonic_ns();
            if now.wrapping_sub(self.checked_ns) < SLICE.as_nanos() as u64 {
                continue;
            }
            self.checked_ns = now;
            if self.find_again()? {
                continue;
            }
            if let Some(reason) = self.detect_disconnect(STALE)? {
                return Ok(Waited::Disconnected(reason));
            }
        }
    }

    /// An event that a wait came upon is for the next read.
    fn keep(&mut self, error: ReadError) -> std::result::Result<bool, ReadError> {
        if !error.is_event() {
            return Err(error);
        }
        self.event = Some(error);
        Ok(true)
    }

    fn sleep(&mut self, timeout: Duration) -> std::result::Result<(), ReadError> {
        let Some(at) = &self.at else {
            self.platform.sleep(timeout.min(UNWOKEN));
            return Ok(());
        };
        let offset = at.reader.mark().offset() as usize;
        let mode = self.wake_mode();
        let settled = match (&self.waker, mode) {
            (Some(waker), Some(mode)) => {
                let seen = wake::mark(waker.window_mut(), 0);
                let settled = match mode {
                    wake::Mode::Asymmetric => self.platform.barrier().is_ok(),
                    wake::Mode::Fence => {
                        wake::settle();
                        true
                    }
                };
                settled.then_some((waker, seen))
            }
            _ => None,
        };
        match settled {
            Some((waker, seen)) => {
                // ORDERING: after the barrier or the fence; see chronicle_core::wake.
                if !at.reader.is_ready() {
                    self.platform.wait_mut(waker, 0, seen, timeout)?;
                } else if at.reader.region().window().load_acquire(offset) == COMMIT_END {
                    // An end that leads nowhere yet: recovery is at work.
                    self.platform.sleep(timeout.min(UNWOKEN));
                }
            }
            // Nobody will wake us. 0 is the word that we found; another one ends the wait at once.
            None => _ = self.platform.wait(at.reader.region(), offset, 0, timeout.min(UNWOKEN))?,
        }
        Ok(())
    }

    fn wake_mode(&self) -> Option<wake::Mode> {
        Control::look(&self.control_path, self.control_map.window()).ok().map(|control| control.state.wake_mode)
    }

    /// Stores the cursor: a few stores, no system call. Where to go on after a restart; retention follows it.
    ///
    /// # Errors
    ///
    /// None today; a reader without a cursor file commits nothing.
    pub fn commit(&mut self) -> Result<()> {
        let Some(position) = self.standing() else { return Ok(()) };
        if let Some(cursor) = &mut self.cursor {
            cursor.commit(position);
            cursor.set_commits(true);
        }
        Ok(())
    }

    /// As [`Subscriber::commit`], at a place where this reader stood before, as [`Subscriber::position`] told: for who is
    /// done with frames later, or in another order, than it reads them.
    ///
    /// # Errors
    ///
    /// The reader has not come there, or it is a place in another queue.
    pub fn commit_at(&mut self, position: Position) -> Result<()> {
        self.stood_at(position)?;
        if let Some(cursor) = &mut self.cursor {
            cursor.commit(position);
            cursor.set_commits(true);
        }
        Ok(())
    }

    /// Stores the cursor and makes it durable: what retention of a *required* reader follows.
    ///
    /// # Errors
    ///
    /// The sync's; afterwards none succeeds.
    pub fn commit_durable(&mut self) -> Result<()> {
        let Some(position) = self.standing() else { return Ok(()) };
        self.commit_durable_at(position)
    }

    /// As [`Subscriber::commit_durable`], at a place where this reader stood before.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::commit_durable`] and [`Subscriber::commit_at`].
    pub fn commit_durable_at(&mut self, position: Position) -> Result<()> {
        self.stood_at(position)?;
        if let Some(cursor) = &mut self.cursor {
            cursor.commit_durable(position)?;
            cursor.set_commits(true);
        }
        Ok(())
    }

    /// Whether this reader may have stood at this place.
    fn stood_at(&self, position: Position) -> Result<()> {
        let standing = self.standing();
        let is_behind = |standing: Position| {
            let before = (position.segment_id, position.seq) <= (standing.segment_id, standing.seq);
            position.queue_id == standing.queue_id && before
        };
        if standing.is_some_and(is_behind) {
            return Ok(());
        }
        let stands = standing.map_or(0, |standing| standing.seq);
        let what = format!("cursor at seq {} of a queue, its reader stands at seq {stands}", position.seq);
        Err(Error::Options { path: self.names.control(), what })
    }

    fn standing(&self) -> Option<Position> {
        self.at.as_ref().map(|at| {
            let (mark, header) = (at.reader.mark(), at.reader.header());
            Position {
                queue_id: header.queue_id,
                epoch: header.epoch,
                segment_id: header.segment_id,
                offset: mark.offset(),
                seq: mark.next_seq(),
            }
        })
    }

    /// Where the reader stands; `None` while the queue has no segment.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.standing()
    }

    /// Whether commits are kept: false without permission to write, and for observers.
    #[must_use]
    pub fn keeps_cursor(&self) -> bool {
        self.cursor.is_some()
    }

    /// The program's word from the options, for `frame.payload.as_slice(trusted.as_ref())`.
    #[must_use]
    pub fn trusted(&self) -> Option<Trusted> {
        self.options.trusted
    }

    /// Identity of the queue.
    #[must_use]
    pub fn queue_id(&self) -> [u8; 16] {
        self.queue_id
    }

    /// Goes elsewhere.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::next`], without events: those come with the next read.
    pub fn seek(&mut self, start: Start) -> std::result::Result<(), ReadError> {
        let control = self.control()?;
        self.event = None;
        self.place(start, &control)
    }

    fn control(&self) -> Result<Control> {
        let path = self.names.control();
        let file = self.platform.open(&path, Open::Read)?;
        Control::read::<P>(&path, &file)
    }

    /// The segment that the reader stands in, once it has its `End`; the reader's lock keeps it as it is.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::next`].
    pub fn ended(&mut self) -> std::result::Result<Option<EndedSegment>, ReadError> {
        if let Some(cursor) = &mut self.cursor {
            cursor.beat();
        }
        if self.event.is_some() {
            return self.tell().map(|_| None);
        }
        if self.at.is_none() && !self.attach_later()? {
            return Ok(None);
        }
        if self.event.is_some() {
            return self.tell().map(|_| None);
        }
        let Some(at) = &self.at else { return Ok(None) };
        let header = *at.reader.header();
        let seal = read_seal(at.reader.region().window(), header.salt);
        if seal.is_none() {
            // The writer seals a little after it ends; who cannot wait for that walks. A segment that has a successor
            // with a begin field has its End too, or gets it at recovery.
            let mut ahead = at.reader.clone();
            loop {
                match ahead.step().map_err(|damage| Error::damage(&at.path, damage))? {
                    Step::Frame(_) => {}
                    Step::Open => return Ok(None),
                    Step::End { .. } => break,
                }
            }
        }
        Ok(Some(EndedSegment {
            path: at.path.clone(),
            queue_id: header.queue_id,
            segment_id: header.segment_id,
            epoch: header.epoch,
            created_ns: header.created_ns,
            clock: header.clock,
            first_seq: at.reader.mark().first_seq(),
            seal,
        }))
    }

    /// From anywhere in a segment that has ended to the start of the one that follows; `false` if that is not there yet.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::next`]. Frames that were not read are skipped.
    pub fn leave_segment(&mut self) -> std::result::Result<bool, ReadError> {
        while self.next_in_segment()?.is_some() {}
        let Some(at) = &self.at else { return Ok(false) };
        let before = at.reader.header().segment_id;
        let word = at.reader.region().window().load_acquire(at.reader.mark().offset() as usize);
        if word != COMMIT_END || matches!(self.cross()?, Crossed::NotYet) {
            return Ok(false);
        }
        Ok(self.at.as_ref().is_some_and(|at| at.reader.header().segment_id != before))
    }

    /// Whether a writer has the queue, and whether its heart beats.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn writer_status(&self, ttl: Duration) -> Result<WriterStatus> {
        let window = self.control_map.window();
        status(&self.platform, &self.alive_path, window.load(HEARTBEAT), window.load(UNLOCKED), ttl)
    }

    /// Why no frames will come, if none will for now.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn detect_disconnect(&self, ttl: Duration) -> Result<Option<Disconnect>> {
        let status = self.writer_status(ttl)?;
        Ok(reason(status, || {
            Control::look(&self.control_path, self.control_map.window()).is_ok_and(|control| control.state.closed)
        }))
    }

    // Finding a place.

    /// Stands where `start` says; what there is to tell about that is kept for the first read.
    fn place(&mut self, start: Start, control: &Control) -> std::result::Result<(), ReadError> {
        self.leave();
        self.follow_control(control);
        self.asked = 0;
        match start {
            Start::Earliest => _ = self.oldest()?,
            Start::Latest => self.latest()?,
            Start::Seq(seq) => self.at_seq(seq)?,
            Start::Time(time) => self.at_time(time)?,
            Start::Cursor => match self.cursor.as_ref().and_then(|cursor| cursor.found) {
                None => _ = self.oldest()?,
                Some(found) if found.queue_id != self.queue_id => {
                    self.oldest()?;
                    self.event = Some(ReadError::Reset { epoch: control.state.epoch });
                }
                Some(found) => self.at_position(found, control.state.epoch)?,
            },
        }
        Ok(())
    }

    /// Gives up the segment that is read, and keeps its mapping.
    fn leave(&mut self) {
        if let Some(at) = self.at.take() {
            _ = at.kept.file.unlock();
            self.keep_mapping(at.kept);
        }
    }

    fn keep_mapping(&mut self, kept: Kept<P>) {
        if self.kept.len() >= self.options.keep_segments.max(2) {
            self.kept.remove(0);
        }
        self.kept.push(kept);
    }

    /// Waits, within reason, for a segment that others keep locked.
    fn patiently<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> std::result::Result<Taken<T>, ReadError>,
    ) -> std::result::Result<Option<T>, ReadError> {
        let begun = self.platform.monotonic_ns();
        loop {
            match attempt(self)? {
                Taken::Got(got) => return Ok(Some(got)),
                Taken::Gone => return Ok(None),
                Taken::Locked(path) => {
                    if self.platform.monotonic_ns().wrapping_sub(begun) >= BUSY_NS {
                        return Err(ReadError::Busy { path });
                    }
                    self.platform.sleep(Duration::from_millis(5));
                }
            }
        }
    }

    /// Opens segment `id` by name and locks it.
    fn take(&mut self, id: u64) -> std::result::Result<Taken<(Kept<P>, Head)>, ReadError> {
        let path = self.names.segment(id);
        let file = match self.platform.open(&path, Open::Read) {
            Ok(file) => file,
            Err(trouble) if trouble.kind() == TroubleKind::NotFound => return Ok(Taken::Gone),
            Err(trouble) => return Err(trouble.into()),
        };
        if !file.try_lock(Lock::Shared)? {
            return Ok(Taken::Locked(path));
        }
        // Locked: what it says now stays so.
        let head = match head::<P>(&path, &file, id, self.queue_id) {
            Ok(head) => head,
            // Used again between open and lock: it is not under this name any more.
            Err(_) if !self.is_named(&path, &file)? => return Ok(Taken::Gone),
            Err(error) => return Err(error.into()),
        };
        let file_id = file.id()?;
        let same = self.kept.iter().position(|kept| kept.id == file_id);
        let map = match same.map(|at| self.kept.remove(at)) {
            Some(kept) if kept.map.len() == head.header.segment_len as usize => kept.map,
            _ => {
                let map = self.platform.map(&file, head.header.segment_len as usize)?;
                self.platform.prefault(&map)?;
                Arc::new(map)
            }
        };
        Ok(Taken::Got((Kept { id: file_id, file, map, idle: 0 }, head)))
    }

    fn is_named(&self, path: &Path, file: &P::File) -> Result<bool> {
        match self.platform.open(path, Open::Read) {
            Ok(other) => Ok(other.id()? == file.id()?),
            Err(trouble) if trouble.kind() == TroubleKind::NotFound => Ok(false),
            Err(trouble) => Err(trouble.into()),
        }
    }

    fn attach(&mut self, kept: Kept<P>, reader: Reader<Arc<P::Map>>) {
        self.leave();
        let id = reader.header().segment_id;
        if let Some(cursor) = &self.cursor {
            cursor.reading(id);
        }
        self.at = Some(Attached { reader, kept, path: self.names.segment(id) });
        self.looked_ns = 0;
    }

    /// Stands at the start of segment `id`; `false` if it is not there or has not begun.
    fn start_of(&mut self, id: u64) -> std::result::Result<bool, ReadError> {
        let Some((kept, _)) = self.patiently(|this| this.take(id))? else { return Ok(false) };
        if read_begin(kept.map.window(), salt_of(&kept)?).is_none() {
            return Ok(false);
        }
        let path = self.names.segment(id);
        let reader = Reader::attach(kept.map.clone()).map_err(|damage| Error::damage(path, damage))?;
        self.attach(kept, reader);
        Ok(true)
    }

    /// Stands at the oldest frame; `false` if there is no segment yet.
    fn oldest(&mut self) -> std::result::Result<bool, ReadError> {
        // A segment can retire between listing and opening: then there is another oldest one.
        for _ in 0..100 {
            let ids = ids(&self.platform, &self.names)?;
            // One that has not begun is prepared, or a crash took its begin field: recovery will go by the next one too.
            for id in &ids {
                if self.start_of(*id)? {
                    return Ok(true);
                }
            }
            match ids.first() {
                Some(first) if !self.platform.exists(&self.names.segment(*first))? => {}
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Begun segments in which a place may be taken, oldest first: all, or those that were synced, or the oldest.
    fn heads(&self) -> Result<Vec<Head>> {
        let mut heads = self.begun()?;
        if let Some(synced) = self.bound {
            let known = heads.iter().take_while(|head| head.id <= synced.segment).count();
            heads.truncate(known.max(1));
        }
        Ok(heads)
    }

    /// Begun segments, oldest first, with what their heads say.
    fn begun(&self) -> Result<Vec<Head>> {
        let mut heads = Vec::new();
        for id in ids(&self.platform, &self.names)? {
            let path = self.names.segment(id);
            let file = match self.platform.open(&path, Open::Read) {
                Ok(file) => file,
                Err(trouble) if trouble.kind() == TroubleKind::NotFound => continue,
                Err(trouble) => return Err(trouble.into()),
            };
            match head::<P>(&path, &file, id, self.queue_id) {
                Ok(head) if head.begin.is_some() => heads.push(head),
                Ok(_) => {}
                // Retired and used again while we looked.
                Err(_) if !self.is_named(&path, &file)? => {}
                Err(error) => return Err(error),
            }
        }
        Ok(heads)
    }

    fn latest(&mut self) -> std::result::Result<(), ReadError> {
        let Some(newest) = self.heads()?.pop() else { return Ok(()) };
        if !self.start_of(newest.id)? {
            return Ok(());
        }
        self.skip_by_index(|_| true);
        // To the very end; more may be appended meanwhile.
        self.walk(|_| true)?;
        self.event = None;
        Ok(())
    }

    /// Moves on over frames that are before the place that is looked for; in a queue that nobody has recovered yet, into
    /// the segments that follow too.
    fn walk(&mut self, is_before: impl Fn(&Frame<'_>) -> bool) -> std::result::Result<(), ReadError> {
        loop {
            while self.frame_here(&is_before)? {
                // What was lost before a frame that nobody asked for was not asked for either.
                self.event = None;
            }
            if self.bound.is_none() || !self.is_at_end() || matches!(self.cross()?, Crossed::NotYet) {
                return Ok(());
            }
        }
    }

    fn is_at_end(&self) -> bool {
        self.at.as_ref().is_some_and(|at| {
            at.reader.region().window().load_acquire(at.reader.mark().offset() as usize) == COMMIT_END
        })
    }

    /// Jumps to the last index entry that `is_before`, if the segment confirms it.
    fn skip_by_index(&mut self, is_before: impl Fn(&index::Place) -> bool) {
        let Some(at) = &mut self.at else { return };
        let header = *at.reader.header();
        let mut places = index::load(&self.platform, &self.names.index(header.segment_id), &header);
        if let Some(seal) = read_seal(at.reader.region().window(), header.salt) {
            // Behind End lie bytes that belong to nobody.
            places.retain(|place| u64::from(place.offset) < seal.end);
        }
        if let Some(synced) = self.bound.filter(|synced| synced.segment <= header.segment_id) {
            let known = if synced.segment == header.segment_id { synced.offset } else { 0 };
            places.retain(|place| place.offset <= known);
        }
        for place in places.iter().rev().filter(|place| is_before(place)) {
            let Ok(mut reader) = Reader::attach_at(at.reader.region().clone(), place.offset, place.seq) else {
                continue;
            };
            let there = reader.clone();
            // An open slot proves nothing: only a frame with the right seq does.
            let step = if self.verify { reader.step_verified() } else { reader.step() };
            if matches!(step, Ok(Step::Frame(_))) {
                at.reader = there;
                return;
            }
        }
    }

    /// Moves over the frame that stands here if `is_before`; false at a frame that is not, and where nothing stands.
    fn frame_here(&mut self, is_before: impl Fn(&Frame<'_>) -> bool) -> std::result::Result<bool, ReadError> {
        let verify = self.verify;
        let Some(at) = &mut self.at else { return Ok(false) };
        let before = at.reader.clone();
        let step = if verify { at.reader.step_verified() } else { at.reader.step() };
        match step {
            Ok(Step::Frame(frame)) if is_before(&frame) => Ok(true),
            Ok(Step::Frame(_)) => {
                at.reader = before;
                Ok(false)
            }
            Ok(Step::Open | Step::End { .. }) => Ok(false),
            Err(damage) => {
                at.reader = before;
                // Told when it is read.
                _ = damage;
                Ok(false)
            }
        }
    }

    fn at_seq(&mut self, seq: u64) -> std::result::Result<(), ReadError> {
        self.asked = seq;
        let heads = self.heads()?;
        let first = |head: &Head| head.begin.map_or(u64::MAX, |begin| begin.first_seq);
        let Some(at) = heads.iter().rposition(|head| first(head) <= seq) else {
            // Older than all there is.
            if self.oldest()? {
                let resume_at = self.at.as_ref().map_or(0, |at| at.reader.mark().next_seq());
                if seq != 0 && resume_at > seq.max(1) {
                    self.event = Some(ReadError::Lapped { resume_at });
                }
            }
            return Ok(());
        };
        if !self.start_of(heads[at].id)? {
            // Retired since: once more, from what is left.
            return if heads.len() > 1 { self.at_seq(seq) } else { Ok(()) };
        }
        self.skip_by_index(|place| place.seq <= seq);
        // A seq that a crash took ends at that segment's End: reading crosses over the hole and tells.
        self.walk(|frame| frame.seq < seq)
    }

    fn at_time(&mut self, time: u64) -> std::result::Result<(), ReadError> {
        let heads = self.heads()?;
        let mut before: Option<&Head> = None;
        for (at, head) in heads.iter().enumerate() {
            // From the last one that is known, all that follow are reached by walking.
            let walks_on = self.bound.is_some() && at + 1 == heads.len();
            let is_before = head.seal.is_some_and(|seal| seal.max_time < time) && !walks_on;
            if is_before || !self.start_of(head.id)? {
                before = Some(head);
                continue;
            }
            self.skip_by_index(|place| place.max_time < time);
            self.walk(|frame| frame.time_ns < time)?;
            // Not sealed yet, but ended, and nothing that late in it.
            if self.is_at_end() {
                before = Some(head);
                continue;
            }
            // What a crash took before its first frame may have been that late: reading crosses over the hole and tells.
            let at_start = self.standing().is_some_and(|at| (at.segment_id, at.offset) == (head.id, HEADER_LEN as u32));
            if at_start
                && let Some(before) = before
                && before.id == head.header.predecessor_id
                && before.header.epoch < head.header.epoch
            {
                self.end_of(before.id)?;
            }
            return Ok(());
        }
        if let (None, Some(last)) = (&self.at, before) {
            self.end_of(last.id)?;
        }
        Ok(())
    }

    /// Behind the last frame of segment `id`, if that is still there.
    fn end_of(&mut self, id: u64) -> std::result::Result<(), ReadError> {
        if self.start_of(id)? {
            self.skip_by_index(|_| true);
            while self.frame_here(|_| true)? {}
        }
        Ok(())
    }

    fn at_position(&mut self, position: Position, epoch: u32) -> std::result::Result<(), ReadError> {
        // A crash of the machine since then may have cut the stream before this place, and what lies behind the cut can
        // look like a frame: then only the way there from the segment's start tells; and if nobody has recovered from one
        // yet, the way there from what is known to be whole.
        let is_known =
            self.bound.is_none_or(|synced| (position.segment_id, position.offset) <= (synced.segment, synced.offset));
        if position.epoch == epoch
            && is_known
            && let Some((kept, head)) = self.patiently(|this| this.take(position.segment_id))?
            && let Some(begin) = head.begin
            && head.header.epoch == position.epoch
            && begin.first_seq <= position.seq
            && let Ok(reader) = Reader::attach_at(kept.map.clone(), position.offset, position.seq)
        {
            let there = reader.clone();
            let mut reader = reader;
            // A frame with that seq confirms it. Open or End do only if the walk from before ends there too.
            if matches!(reader.step(), Ok(Step::Frame(_) | Step::End { .. })) {
                self.attach(kept, there);
                return Ok(());
            }
            drop(kept);
        }
        self.at_seq(position.seq)
    }

    /// A queue that had no segment when it was opened.
    #[cold]
    fn attach_later(&mut self) -> std::result::Result<bool, ReadError> {
        let now = self.platform.monotonic_ns();
        if self.looked_ns != 0 && now.wrapping_sub(self.looked_ns) < 1_000_000 {
            return Ok(false);
        }
        self.looked_ns = now;
        if self.asked == 0 {
            return self.oldest();
        }
        self.at_seq(self.asked)?;
        Ok(self.at.is_some())
    }

    // Crossing.

    /// From the `End` where the reader stands into the segment that follows.
    #[cold]
    fn cross(&mut self) -> std::result::Result<Crossed, ReadError> {
        match self.cross_over() {
            // Behind the synced position of a queue that nobody has recovered yet: torn.
            Err(ReadError::Failed(Error::Damage { .. }))
                if is_torn(&mut self.bound, &self.platform, &self.names, &self.control_map) =>
            {
                Ok(Crossed::NotYet)
            }
            other => other,
        }
    }

    fn cross_over(&mut self) -> std::result::Result<Crossed, ReadError> {
        let Some(at) = &self.at else { return Ok(Crossed::NotYet) };
        let verify = self.verify;
        if verify {
            // Whoever checks reads checks this one too.
            let mut end = at.reader.clone();
            end.step_verified().map_err(|damage| Error::damage(&at.path, damage))?;
        }
        let (header, mark) = (*at.reader.header(), at.reader.mark());
        let (here, next) = (header.segment_id, header.segment_id.saturating_add(1));
        // A mapping is of a file that may have lost its name since: a recovery ends the stream before what it cuts.
        let follows = |kept: &Kept<P>| first_seq_of(&kept.map, self.queue_id, next, here) == Some(mark.next_seq());
        let at = if self.may_be_cut(header.epoch) { None } else { self.kept.iter().position(follows) };
        if let Some(at) = at {
            let kept = self.kept.remove(at);
            if kept.file.try_lock(Lock::Shared)? {
                if first_seq_of(&kept.map, self.queue_id, next, here) == Some(mark.next_seq()) {
                    let path = self.names.segment(next);
                    let reader = Reader::attach(kept.map.clone()).map_err(|damage| Error::damage(path, damage))?;
                    return self.enter(kept, reader, mark.next_seq());
                }
                _ = kept.file.unlock();
            }
            self.keep_mapping(kept);
        }
        // By name; and where no such name is, the oldest of those behind it: after a crash of the machine ids jump.
        match self.follow(next, here)? {
            Followed::Into(kept, reader) => return self.enter(kept, reader, mark.next_seq()),
            Followed::Locked(path) => return self.busy(path),
            Followed::Not | Followed::Gone => {}
        }
        for id in ids(&self.platform, &self.names)?.into_iter().filter(|id| *id > here) {
            match self.follow(id, here)? {
                Followed::Into(kept, reader) if reader.header().predecessor_id == here => {
                    return self.enter(kept, reader, mark.next_seq());
                }
                // Nothing retires before somebody has recovered the queue: the one that follows has lost its begin field.
                Followed::Into(..) if self.bound.is_some() => return Ok(Crossed::NotYet),
                // What followed us has retired.
                Followed::Into(kept, reader) => {
                    let resume_at = reader.mark().next_seq();
                    self.attach(kept, reader);
                    self.busy_since = None;
                    self.event = Some(ReadError::Lapped { resume_at });
                    return Ok(Crossed::Yes);
                }
                Followed::Locked(path) => return self.busy(path),
                Followed::Not | Followed::Gone => {}
            }
        }
        Ok(Crossed::NotYet)
    }

    /// Whether a recovery has ended the stream since the reader's segment was made, or may be about to. Two slots and a
    /// word, looked at without a checksum: a wrong yes costs a few system calls.
    fn may_be_cut(&self, epoch: u32) -> bool {
        let window = self.control_map.window();
        let raised = CONTROL_SLOTS.iter().any(|slot| window.load(slot + offset_of!(ControlSlot, epoch)) > epoch);
        self.bound.is_some() || raised || window.load64(FAILED) != 0
    }

    /// Segment `id`, if it has begun; one right behind `here` must name it as its predecessor.
    fn follow(&mut self, id: u64, here: u64) -> std::result::Result<Followed<P>, ReadError> {
        let (kept, head) = match self.take(id)? {
            Taken::Got(got) => got,
            Taken::Locked(path) => return Ok(Followed::Locked(path)),
            Taken::Gone => return Ok(Followed::Gone),
        };
        // It got its begin before we could see the End that led here; so it is of another time, which recovery ends.
        if head.begin.is_none() || (Some(id) == here.checked_add(1) && head.header.predecessor_id != here) {
            return Ok(Followed::Not);
        }
        let path = self.names.segment(id);
        let reader = Reader::attach(kept.map.clone()).map_err(|damage| Error::damage(path, damage))?;
        Ok(Followed::Into(kept, reader))
    }

    fn busy(&mut self, path: PathBuf) -> std::result::Result<Crossed, ReadError> {
        let now = self.platform.monotonic_ns();
        let since = *self.busy_since.get_or_insert(now);
        if now.wrapping_sub(since) < BUSY_NS {
            return Ok(Crossed::NotYet);
        }
        self.busy_since = None;
        Err(ReadError::Busy { path })
    }

    fn enter(
        &mut self,
        kept: Kept<P>,
        reader: Reader<Arc<P::Map>>,
        next_seq: u64,
    ) -> std::result::Result<Crossed, ReadError> {
        self.busy_since = None;
        let (first, epoch) = (reader.mark().next_seq(), reader.header().epoch);
        let before = self.at.as_ref().map_or(epoch, |at| at.reader.header().epoch);
        if first != next_seq {
            if first < next_seq || epoch == before {
                let id = reader.header().segment_id;
                let fault = Fault::Seq { expected: next_seq, found: first };
                return Err(Error::damage(self.names.segment(id), Damage::at(80, fault)).into());
            }
            let from = next_seq.max(self.asked);
            if from < first {
                self.event = Some(ReadError::Lost { from, to: first - 1 });
            }
        }
        self.attach(kept, reader);
        if self.bound.is_some()
            && let Ok(control) = self.control()
        {
            // Recovered meanwhile?
            self.follow_control(&control);
        }
        self.tidy();
        self.prepare_next();
        Ok(Crossed::Yes)
    }

    /// Lets go of mappings whose files will not come back: they would hold memory that the queue has given up.
    fn tidy(&mut self) {
        let oldest = self.control_map.window().load64(OLDEST);
        self.kept.retain_mut(|kept| {
            let id = kept.map.window().load64(SEGMENT_ID_AT);
            kept.idle = if id < oldest { kept.idle + 1 } else { 0 };
            kept.idle < 3
        });
    }

    /// Maps the segment after this one, which the writer prepares ahead, and faults it in.
    fn prepare_next(&mut self) {
        let Some(at) = &self.at else { return };
        let next = at.reader.header().segment_id.saturating_add(1);
        let named = |kept: &Kept<P>| kept.map.window().load64(SEGMENT_ID_AT) == next;
        if self.kept.iter().any(named) {
            return;
        }
        // For speed alone: whatever fails here is met, and told, at the crossing.
        let path = self.names.segment(next);
        let Ok(file) = self.platform.open(&path, Open::Read) else { return };
        let Ok(id) = file.id() else { return };
        if self.kept.iter().any(|kept| kept.id == id) {
            return;
        }
        let len = self.at.as_ref().map_or(0, |at| at.reader.header().segment_len as usize);
        let Ok(map) = self.platform.map(&file, len) else { return };
        if self.platform.prefault(&map).is_ok() {
            self.keep_mapping(Kept { id, file, map: Arc::new(map), idle: 0 });
        }
    }
}

/// [`Subscriber::detect_disconnect`] for who has no reader: looks at two small files of the queue at `path`, maps nothing
/// and leaves no trace.
///
/// # Errors
///
/// There is no queue, its control file is damaged, or the system's.
pub fn detect_disconnect<P: Platform>(platform: &P, path: &Path, ttl: Duration) -> Result<Option<Disconnect>> {
    let names = Names::new(path);
    let control_path = names.control();
    let file = platform.open(&control_path, Open::Read)?;
    // First, because it says whether this is a control file of the right length at all.
    let control = Control::read::<P>(&control_path, &file)?;
    let mut live = [0; META_LEN];
    file.read_at(&mut live, 0)?;
    let word = |at: usize| u32::from_le_bytes([live[at], live[at + 1], live[at + 2], live[at + 3]]);
    let status = status(platform, &names.alive_lock(), word(HEARTBEAT), word(UNLOCKED), ttl)?;
    Ok(reason(status, || control.state.closed))
}

fn status<P: Platform>(
    platform: &P,
    alive: &Path,
    heartbeat: u32,
    unlocked: u32,
    ttl: Duration,
) -> Result<WriterStatus> {
    let file = match platform.open(alive, Open::Read) {
        Ok(file) => file,
        Err(trouble) if trouble.kind() == TroubleKind::NotFound => return Ok(WriterStatus::LockLost),
        Err(trouble) => return Err(trouble.into()),
    };
    let age = age(tick(platform), heartbeat);
    if file.try_lock(Lock::Shared)? {
        file.unlock()?;
        // Somebody who may look at the lock may also hold it, and so keep the writer from it.
        let squatted = unlocked != 0 && age <= ttl;
        return Ok(if squatted { WriterStatus::Alive } else { WriterStatus::LockLost });
    }
    Ok(if age <= ttl { WriterStatus::Alive } else { WriterStatus::StaleHeartbeat { age } })
}

fn reason(status: WriterStatus, closed: impl FnOnce() -> bool) -> Option<Disconnect> {
    match status {
        WriterStatus::Alive => None,
        WriterStatus::StaleHeartbeat { age } => Some(Disconnect::Stale { age }),
        WriterStatus::LockLost if closed() => Some(Disconnect::Closed),
        WriterStatus::LockLost => Some(Disconnect::Died),
    }
}

/// Where a header has its segment id.
const SEGMENT_ID_AT: usize = 40;

/// What opening and locking came to.
enum Taken<T> {
    Got(T),
    Locked(PathBuf),
    Gone,
}

/// What looking for the next segment came to.
enum Followed<P: Platform> {
    Into(Kept<P>, Reader<Arc<P::Map>>),
    Not,
    Locked(PathBuf),
    Gone,
}

/// The first seq of a mapping that, unlocked or not, looks like segment `id` after `before`, begun.
fn first_seq_of<R: Region>(map: &R, queue_id: [u8; 16], id: u64, before: u64) -> Option<u64> {
    let window = map.window();
    if window.len() < HEADER_LEN || window.load64(SEGMENT_ID_AT) != id {
        return None;
    }
    let header = chronicle_core::header(window).ok()?;
    let looks_right = header.queue_id == queue_id
        && header.segment_id == id
        && header.predecessor_id == before
        && window.len() == header.segment_len as usize;
    if !looks_right {
        return None;
    }
    read_begin(window, header.salt).map(|begin| begin.first_seq)
}

/// Whether damage is what a crash tore: the queue was not recovered when the reader found its place. If it is since, what
/// was torn has been cut, and the next look tells.
fn is_torn<P: Platform>(bound: &mut Option<Synced>, platform: &P, names: &Names, control_map: &P::Map) -> bool {
    let torn = bound.is_some();
    if Control::look(&names.control(), control_map.window()).is_ok_and(|control| !control.is_unrecovered(platform)) {
        *bound = None;
    }
    torn
}

fn salt_of<P: Platform>(kept: &Kept<P>) -> Result<u32> {
    let window = kept.map.window();
    chronicle_core::header(window).map(|header| header.salt).map_err(|damage| Error::damage("segment", damage))
}
