//! The writer of a queue.
//!
//! `append` is core's append and three looks: has the tail passed the next index entry's place, is the segment full,
//! does somebody sleep. At a roll the next segment is taken from a channel that the helper filled, its begin field is
//! stored, the old one's `End` committed, and the old one handed back; all of it stores into mapped, faulted-in memory.
//!
//! ```text
//! roll:  begin {first_seq} into the next segment    Release, pairs with the reader's look at begin
//!        End into the current one                   Release, pairs with `Reader::step`: who sees End finds begin
//! ```

use super::{
    PublisherOptions, Refused,
    control::Synced,
    names::Names,
    recover,
    segment::Segment,
    upkeep::{Ended, Endings, Flags, Soon, Upkeep},
};
use crate::{Error, Result};
use chronicle_core::{
    Append, AppendError, Appended, Appender, Claim, RegionMut,
    layout::{HEADER_LEN, SegmentHeader},
    wake,
};
use chronicle_platform::{Medium, Platform};
use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    thread::JoinHandle,
    time::Duration,
};

/// Up to where a queue is durable, and what that is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// This frame and all before it; 0 = none yet.
    pub seq: u64,
    /// Segment of the position behind it.
    pub segment_id: u64,
    /// Offset of the position behind it.
    pub offset: u32,
    /// In [`Medium::Memory`] it survives processes, not the machine: a sync there means nothing more.
    pub medium: Medium,
}

/// What a writer has counted since it opened its queue, and what recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Segments that ended.
    pub rolls: u64,
    /// Segments prepared by using a retired one again.
    pub recycled: u64,
    /// Appends and claims refused because nothing was ready.
    pub refused: u64,
    /// Appends that a dead writer left in progress and this one overwrote: 0 or 1.
    pub aborted_records: u64,
    /// Bytes behind the accepted end that a crash of the machine had torn and recovery cut.
    pub cut_bytes: u64,
}

/// The writing end of a queue. One at a time, by a kernel lock held for its life.
///
/// Dropping it is like a crash of the process, minus the mess: nothing is lost, nothing is synced. [`Publisher::close`]
/// syncs. It does not work in a forked child: its mappings are not there.
///
/// Made by [`super::Queue::publisher`].
#[derive(Debug)]
pub struct Publisher<P: Platform> {
    /// Declared first: it has ended before what it works with goes.
    helper: Option<Helper>,
    log: Appender<Arc<P::MapMut>>,
    segment: Arc<Segment<P>>,
    /// Tail from which on `note` has something to do.
    index_at: u32,
    /// Tail from which on an index entry is due.
    index_due: u32,
    waker: Waker<P>,
    /// Taken from `prepared` ahead of the roll, its first lines in our cache.
    next: Option<Next<P>>,
    /// What was left at the last roll, until there is time to let go of it.
    left: Option<Left<P>>,
    prepared: Receiver<Arc<Segment<P>>>,
    endings: Arc<Endings>,
    flags: Arc<Flags>,
    counters: Counters,
    queue_id: [u8; 16],
    upkeep: Arc<Mutex<Upkeep<P>>>,
    platform: P,
    /// Held for life. Declared last: it goes when nothing else of the writer is left.
    _lock: P::File,
}

/// What a roll leaves behind.
type Left<P> = (Appender<Arc<<P as Platform>::MapMut>>, Arc<Segment<P>>);

/// A segment that is ready, with a second handle on its mapping: to make one is a locked instruction, and not for a roll.
#[derive(Debug)]
struct Next<P: Platform> {
    segment: Arc<Segment<P>>,
    map: Arc<P::MapMut>,
}

impl<P: Platform> Next<P> {
    fn new(segment: Arc<Segment<P>>) -> Self {
        let map = segment.map.clone();
        Next { segment, map }
    }
}

/// Bytes before a segment's end at which the next one's first lines are fetched.
const WARM_LEFT: usize = 8 << 10;
/// Where a segment's begin field has its checksum: zero until it begins.
const BEGIN_CRC_AT: usize = std::mem::offset_of!(SegmentHeader, begin_crc);

#[derive(Debug)]
struct Waker<P: Platform> {
    platform: P,
    map: P::MapMut,
    mode: wake::Mode,
}

impl<P: Platform> Waker<P> {
    #[inline]
    fn after_commit(&self) {
        if wake::after_commit(self.map.window_mut(), 0, self.mode) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        // Sleepers look again after a bounded time anyway; a failure costs that.
        _ = self.platform.wake(&self.map, 0);
    }
}

#[derive(Debug)]
struct Helper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    fn start<P: Platform>(upkeep: Arc<Mutex<Upkeep<P>>>) -> std::io::Result<Helper> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("chronicle-queue".into()).spawn(move || {
            let mut quiet = 0u32;
            while !stopped.load(Ordering::Relaxed) {
                let soon = upkeep.lock().unwrap_or_else(PoisonError::into_inner).pass(true);
                quiet = if soon == Soon::Busy { 0 } else { quiet.saturating_add(1) };
                // The writer wakes nobody, so we look: often while segments roll, seldom in a quiet queue.
                std::thread::park_timeout(Duration::from_micros(match quiet {
                    0..500 => 200,
                    500..1000 => 1_000,
                    _ => 10_000,
                }));
            }
        })?;
        Ok(Helper { stop, thread: Some(thread) })
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A helper that panicked has said so already.
            _ = thread.join();
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<P: Platform> Publisher<P> {
    pub(crate) fn open(platform: &P, path: &Path, options: PublisherOptions) -> Result<Self> {
        let names = Names::new(path);
        let opened = recover::open(platform, &names, options)?;
        let recover::Opened { upkeep, log, segment, wake_map, mode, prepared, endings, flags, counters, lock } = opened;
        let (helper, queue_id) = (upkeep.helper(), upkeep.control.queue_id);
        let upkeep = Arc::new(Mutex::new(upkeep));
        let index_due = (log.tail() / segment.index.interval() + 1).saturating_mul(segment.index.interval());
        let mut publisher = Publisher {
            log,
            segment,
            index_at: 0,
            index_due,
            waker: Waker { platform: platform.clone(), map: wake_map, mode },
            next: None,
            left: None,
            prepared,
            endings,
            flags,
            counters,
            queue_id,
            upkeep,
            helper: None,
            platform: platform.clone(),
            _lock: lock,
        };
        // The helper's first pass may fault in whole segments: an opening does not wait for that.
        if !helper {
            publisher.maintain();
        } else {
            let helper = Helper::start(publisher.upkeep.clone())
                .map_err(|error| chronicle_platform::Trouble::new("start thread", path, error))?;
            publisher.helper = Some(helper);
        }
        Ok(publisher)
    }

    /// Appends one frame and returns its seq. Makes no system call and no allocation, unless a reader sleeps and must be
    /// woken; readers in any process see the frame at once.
    ///
    /// # Errors
    ///
    /// A refusal; the queue is as it was.
    #[inline]
    pub fn append(&mut self, append: Append, payload: &[u8]) -> std::result::Result<u64, Refused> {
        if self.log.tail() >= self.index_at {
            self.note();
        }
        match self.log.append(append, payload) {
            Ok(Appended { seq, .. }) => {
                self.waker.after_commit();
                Ok(seq)
            }
            Err(error) => self.append_in_next(error, append, payload),
        }
    }

    #[cold]
    fn append_in_next(
        &mut self,
        error: AppendError,
        append: Append,
        payload: &[u8],
    ) -> std::result::Result<u64, Refused> {
        self.make_room(error)?;
        match self.log.append(append, payload) {
            Ok(Appended { seq, .. }) => {
                self.waker.after_commit();
                Ok(seq)
            }
            Err(AppendError::TooLarge { len, max } | AppendError::Full { needed: len, left: max }) => {
                Err(Refused::TooLarge { len, max })
            }
        }
    }

    fn make_room(&mut self, error: AppendError) -> std::result::Result<(), Refused> {
        match error {
            AppendError::TooLarge { len, max } => Err(Refused::TooLarge { len, max }),
            AppendError::Full { .. } => self.roll(),
        }
    }

    /// As [`Publisher::append`], but waits, at most `timeout`, while nothing is ready.
    ///
    /// # Errors
    ///
    /// The refusal that still stood at the end, or one that waiting cannot change.
    pub fn append_wait(
        &mut self,
        append: Append,
        payload: &[u8],
        timeout: Duration,
    ) -> std::result::Result<u64, Refused> {
        match self.append(append, payload) {
            Err(refused) if refused.passes() => {}
            other => return other,
        }
        let deadline =
            self.platform.monotonic_ns().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        let mut pause = Duration::from_micros(20);
        loop {
            if self.helper.is_none() {
                self.maintain();
            }
            match self.append(append, payload) {
                Err(refused) if refused.passes() && self.platform.monotonic_ns() < deadline => {}
                other => return other,
            }
            self.platform.sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(1));
        }
    }

    /// Takes space for a payload of `len` bytes, to be written in place. Dropping the claim gives it back.
    ///
    /// # Errors
    ///
    /// As [`Publisher::append`].
    #[inline]
    pub fn claim(&mut self, len: usize) -> std::result::Result<PublisherClaim<'_, P>, Refused> {
        if self.log.tail() >= self.index_at {
            self.note();
        }
        // Looked at first: a claim that is returned from inside a `match` would be borrowed in the other arm too.
        if let Some(error) = self.log.claim(len).err() {
            self.make_room(error)?;
        }
        match self.log.claim(len) {
            Ok(claim) => Ok(PublisherClaim { claim, waker: &self.waker }),
            Err(AppendError::TooLarge { len, max } | AppendError::Full { needed: len, left: max }) => {
                Err(Refused::TooLarge { len, max })
            }
        }
    }

    /// Now and then: an index entry, and what a roll will need.
    #[cold]
    fn note(&mut self) {
        if self.flags.poisoned.load(Ordering::Relaxed) {
            // An append looks at no flag of the helper's; here it does, and no more frames go where no sync is believed.
            self.log.stop();
        }
        if self.leave_lost() {
            return;
        }
        let tail = self.log.tail();
        if tail >= self.index_due {
            let seal = self.log.seal();
            let times = if seal.count == 0 { (u64::MAX, 0) } else { (seal.min_time, seal.max_time) };
            self.index_due = self.segment.index.note(tail, self.log.next_seq(), times);
        }
        self.left = None;
        if self.next.is_none() {
            self.next = self.prepared.try_recv().ok().map(Next::new);
        }
        let left = self.log.left();
        if left > WARM_LEFT {
            self.index_at = self.index_due.min(tail + (left - WARM_LEFT) as u32);
            return;
        }
        self.index_at = self.index_due;
        if let Some(next) = &self.next {
            // The helper stored these lines, and a whole segment has passed through our cache since: fetch them now, not
            // at the roll. They hold what is stored.
            let window = next.map.window_mut();
            window.store(HEADER_LEN, 0);
            window.store(BEGIN_CRC_AT, 0);
            let segment = &next.segment;
            std::hint::black_box((segment.header.segment_len, segment.index.interval()));
        }
    }

    /// Ends the current segment and begins the next. Appending does so by itself when a segment is full.
    ///
    /// # Errors
    ///
    /// Nothing is ready; the segment goes on.
    pub fn roll(&mut self) -> std::result::Result<(), Refused> {
        if self.flags.poisoned.load(Ordering::Relaxed) {
            return Err(self.refuse());
        }
        let next = self.next.take().or_else(|| self.prepared.try_recv().ok().map(Next::new));
        let Some(Next { segment, map }) = next else { return Err(self.refuse()) };
        let next_seq = self.log.next_seq();
        // ORDERING: begin before End, both Release: whoever Acquires End and looks for the next segment finds its begin.
        let log = Appender::begin(map, segment.header, next_seq);
        self.log.end();
        let (id, seal) = (self.segment.id, self.log.seal());
        self.index_due = segment.index.interval();
        self.index_at = 0;
        // Kept for the next append's `note`: to let go of it is a locked instruction.
        self.left = Some((std::mem::replace(&mut self.log, log), std::mem::replace(&mut self.segment, segment)));
        self.endings.tell(Ended { id, seal, next_seq });
        self.counters.rolls += 1;
        self.waker.after_commit();
        Ok(())
    }

    /// Ends the current segment if its file was taken away, so that the frames which follow are found; whether it was.
    /// Appending does it by itself now and then; who appends seldom calls this beside it.
    pub fn leave_lost(&mut self) -> bool {
        // Refused, it stays where it is until the next time.
        self.flags.lost.load(Ordering::Relaxed) == self.segment.id && self.roll().is_ok()
    }

    #[cold]
    fn refuse(&mut self) -> Refused {
        self.flags.hungry.store(true, Ordering::Relaxed);
        self.flags.refused.fetch_add(1, Ordering::Relaxed);
        self.flags.refusal()
    }

    /// Makes every frame appended so far durable, and says which these are and what that is worth where the queue lies.
    /// Waits for the medium; never on the append path.
    ///
    /// # Errors
    ///
    /// The system's. If it was the sync that failed the queue is poisoned: no later sync succeeds, and nothing is appended
    /// any more. Open it again: what can be saved is written to new files first.
    pub fn sync(&mut self) -> Result<Durable> {
        let at = self.here();
        let synced = self.upkeep().sync_at(at);
        if self.flags.poisoned.load(Ordering::Relaxed) {
            self.log.stop();
        }
        synced
    }

    fn here(&self) -> Synced {
        Synced { segment: self.segment.id, offset: self.log.tail(), seq: self.log.next_seq() }
    }

    fn upkeep(&self) -> std::sync::MutexGuard<'_, Upkeep<P>> {
        self.upkeep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the helper thread does, once: for writers opened without one, a few times a second and when `append`
    /// returned [`Refused::NotReady`].
    pub fn maintain(&mut self) {
        self.upkeep().pass(false);
    }

    /// Syncs and ends: the next writer goes on as if this one had never left, whatever happened to the machine.
    ///
    /// # Errors
    ///
    /// The sync's. The queue is then left as by a crash.
    pub fn close(mut self) -> Result<Durable> {
        self.helper = None;
        let at = self.here();
        self.upkeep().close(at)
    }

    /// Why the last preparation or sync failed, until one has succeeded again; else which segment's file was taken away, if one
    /// was since the queue was opened, or before.
    #[must_use]
    pub fn last_trouble(&self) -> Option<Arc<Error>> {
        self.flags.trouble()
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            recycled: self.flags.recycled.load(Ordering::Relaxed),
            refused: self.flags.refused.load(Ordering::Relaxed),
            ..self.counters
        }
    }

    /// Identity of the queue.
    #[must_use]
    pub fn queue_id(&self) -> [u8; 16] {
        self.queue_id
    }

    /// The seq that the next frame gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.log.next_seq()
    }

    /// The segment written to.
    #[must_use]
    pub fn segment_id(&self) -> u64 {
        self.segment.id
    }
}

/// Space for one frame that its writer fills in place. Dropping it aborts: nobody has seen anything.
#[must_use = "dropping a claim aborts it"]
#[derive(Debug)]
pub struct PublisherClaim<'a, P: Platform> {
    claim: Claim<'a, Arc<P::MapMut>>,
    waker: &'a Waker<P>,
}

impl<P: Platform> PublisherClaim<'_, P> {
    /// Length of the payload.
    #[must_use]
    pub fn len(&self) -> usize {
        self.claim.len()
    }

    /// Whether the payload has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claim.is_empty()
    }

    /// Writes the next bytes.
    ///
    /// # Panics
    ///
    /// If they do not fit the claimed length.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.claim.put(bytes);
    }

    /// Writes bytes at `at`. Bytes that are never written are zero.
    ///
    /// # Panics
    ///
    /// If they do not fit the claimed length.
    #[inline]
    pub fn put_at(&mut self, at: usize, bytes: &[u8]) {
        self.claim.put_at(at, bytes);
    }

    /// Makes the frame visible and returns its seq.
    #[inline]
    pub fn commit(self, append: Append) -> u64 {
        let appended = self.claim.commit(append);
        self.waker.after_commit();
        appended.seq
    }

    /// Gives the space back; the same as dropping the claim.
    pub fn abort(self) {}
}
