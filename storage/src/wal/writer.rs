//! Appending, and what is under way.
//!
//! One lock guards the machine and all that is said about it; it is held for a copy and a checksum, never over a system
//! call that waits for the device. A thread that *leads* (`commit.rs`) takes operations out under the lock, gives them
//! to the driver without it, and takes their outcomes in under it again, in whatever order: the machine knows theirs.
//!
//! ```text
//! append: lock ── room? ── copy, CRC ── unlock            no system call, no allocation
//!            └ the batch is full and nobody leads: write it, as the leader would
//!            └ every buffer waits to be written: lead, or sleep until the leader has made room
//!            └ the segment ends and no file is ready for the next: wait for upkeep, or refuse, if the disk is full
//! ```

use super::{
    Options, Threads,
    commit::{Asked, Callback, Commit, CommitError, Group, Waiting},
    names::Names,
    state::{Progress, StateWriter},
    upkeep::{self, Live, Spare},
};
use crate::{Error, Result};
use chronicle_core::{
    Region, RegionMut,
    wal::{self, Kind, Machine, Op, OpId, Outcome, Position},
};
use chronicle_platform::{Medium, Platform, Trouble, WalDriver, WalMode};
use std::{
    collections::VecDeque,
    fmt,
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Why nothing was appended. The log is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppendError {
    /// Everything in memory waits to be written, or the next segment is being prepared: [`Wal::try_append`] would have to
    /// wait.
    Full,
    /// The disk has no room for the next segment. Nothing that was appended is in danger; it is tried again with each
    /// append, and clears when space returns. See [`Wal::trouble`].
    NoSpace,
    /// The next segment could not be prepared for another reason. See [`Wal::trouble`].
    PrepareFailed,
    /// No batch can take such a payload.
    TooLarge {
        /// Its length.
        len: usize,
        /// The largest one.
        max: usize,
    },
    /// What every segment repeats at its head would take more than [`Options::carry_len`].
    CarryFull {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        room: usize,
    },
    /// Not a control frame that an application appends, or a truncation after a frame that does not exist.
    Control,
    /// A write or a sync failed: what is on the medium is unknown, so nothing more is taken. Open the log again. See
    /// [`Wal::trouble`].
    Poisoned,
    /// The log is being closed.
    Closed,
    /// The numbers are used up.
    SeqEnd,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::Full => f.write_str("log full for now: every buffer waits to be written"),
            AppendError::NoSpace => f.write_str("log out of space: the disk has no room for the next segment"),
            AppendError::PrepareFailed => f.write_str("next segment not prepared: preparing it failed"),
            AppendError::TooLarge { len, max } => {
                write!(f, "payload of {len} bytes is too large: a batch takes at most {max}")
            }
            AppendError::CarryFull { needed, room } => {
                write!(f, "carry full: votes, meta values and truncations would take {needed} bytes, {room} there")
            }
            AppendError::Control => f.write_str("frame is not one that an application appends"),
            AppendError::Poisoned => f.write_str(
                "log poisoned: an earlier write or sync failed; open it again to go on with what is durable",
            ),
            AppendError::Closed => f.write_str("log closed"),
            AppendError::SeqEnd => f.write_str("log out of sequence numbers"),
        }
    }
}

impl std::error::Error for AppendError {}

/// What a log has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames appended, control frames included.
    pub appends: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Batches written.
    pub batches: u64,
    /// Bytes of those, with frames and padding.
    pub batch_bytes: u64,
    /// Writes that carried their sync, and syncs of their own.
    pub syncs: u64,
    /// Segments begun.
    pub rolls: u64,
    /// Of the segments begun, those in files that had been segments before.
    pub recycled: u64,
    /// Segments retired.
    pub retired: u64,
    /// Times that a thread was told to wake others, one system call each.
    pub wakeups: u64,
    /// Times that an append had to wait for room.
    pub stalls: u64,
}

impl Stats {
    /// Frames in a batch, on average.
    #[must_use]
    pub fn frames_per_batch(&self) -> f64 {
        if self.batches == 0 { 0.0 } else { self.appends as f64 / self.batches as f64 }
    }
}

/// Most operations that a machine hands out at once: its writes, a sync and what changes names.
const UNDER_WAY: usize = 16;
/// Bytes between two words that threads sleep on.
const SPACING: usize = 64;
/// Words that groups of committers sleep on, in turn; far more than there can be groups.
pub(super) const GROUP_WORDS: u64 = 60;
/// Pause before an operation that was put off is tried again.
const AGAIN: Duration = Duration::from_millis(1);
/// Longest sleep of a thread that somebody is to wake.
pub(super) const SLICE: Duration = Duration::from_millis(100);

/// Who sleeps on which word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The thread that leads for others.
    Helper,
    /// The thread that prepares segments.
    Upkeep,
    /// Whoever waits for room, or for a segment.
    Room,
    /// The committers of a group.
    Group(u64),
}

impl Word {
    fn at(self) -> usize {
        SPACING
            * match self {
                Word::Helper => 0,
                Word::Upkeep => 1,
                Word::Room => 2,
                Word::Group(number) => 3 + (number % GROUP_WORDS) as usize,
            }
    }
}

/// What a thread that leads takes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// What comes next.
    All,
    /// What changes names: it came for that, and has no time to write.
    Names,
}

/// Bytes of memory for all of them.
pub(super) const WORDS_LEN: usize = SPACING * (3 + GROUP_WORDS as usize);

/// What the lock guards.
#[derive(Debug)]
pub(super) struct Core<P: Platform> {
    pub(super) machine: Machine<Arc<P::MapMut>>,
    state: StateWriter<P>,
    said: Progress,
    /// Threads that lead,
    pub(super) leaders: u8,
    /// and how many may.
    pub(super) leaders_max: u8,
    /// Committers that lead by calls: they wait, though in no group.
    pub(super) committing: u32,
    /// One of them is the helper, or shall be.
    pub(super) helper_leads: bool,
    /// Operations that the driver has.
    flight: Vec<Op>,
    /// Where the batch that is gathered goes, when it was last looked at.
    gathered_at: u64,
    /// Operations that change names, on their way to upkeep.
    pub(super) chores: VecDeque<Op>,
    /// Upkeep is carrying one out.
    pub(super) at_work: bool,
    /// Files that are ready to become segments.
    pub(super) spares: VecDeque<Spare>,
    /// Number for the next spare.
    pub(super) next_spare: u64,
    /// Why there is none, if making one failed.
    pub(super) spare_trouble: Option<Arc<Error>>,
    /// Newest segment that has a file.
    pub(super) published: u64,
    /// Segments with files, oldest first.
    pub(super) live: VecDeque<Live>,
    /// Oldest segment that the driver has open.
    pub(super) attached: u64,
    /// Frames before this one are nobody's need.
    pub(super) truncate_to: u64,
    /// A segment is to be retired, and nobody has taken out the operation for it yet.
    pub(super) retire_due: bool,
    /// One could not be: it is asked again when the log has got further, or with the next truncation.
    pub(super) retire_refused: bool,
    pub(super) groups: VecDeque<Group>,
    /// The newest group takes more members.
    pub(super) group_open: bool,
    pub(super) group_number: u64,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) waiting_id: u64,
    /// Somebody appends frames that are to follow one another: everybody else waits.
    pub(super) batching: bool,
    /// Threads that wait for room.
    pub(super) room_sleepers: u32,
    pub(super) failure: Option<Arc<Error>>,
    pub(super) stats: Stats,
    pub(super) stop: bool,
}

/// What the handle, its threads and its futures share.
#[derive(Debug)]
pub(super) struct Shared<P: Platform> {
    pub(super) platform: P,
    pub(super) names: Names,
    pub(super) options: Options,
    /// Length of the segments that this writer makes.
    pub(super) segment_len: u64,
    pub(super) driver: P::Wal,
    pub(super) core: Mutex<Core<P>>,
    words: P::MapMut,
    state: Arc<P::MapMut>,
    durable: AtomicU64,
    appended: AtomicU64,
    /// All of the groups before this one were woken.
    pub(super) groups_covered: AtomicU64,
    medium: Medium,
    pid: u32,
    /// Held for life. Declared last: they go when nothing else of the writer is left.
    _alive: P::File,
    _lock: P::File,
}

/// What [`Shared::new`] starts from.
pub(super) struct Parts<P: Platform> {
    pub(super) platform: P,
    pub(super) names: Names,
    pub(super) options: Options,
    pub(super) segment_len: u64,
    pub(super) driver: P::Wal,
    pub(super) machine: Machine<Arc<P::MapMut>>,
    pub(super) state: StateWriter<P>,
    pub(super) live: VecDeque<Live>,
    pub(super) spares: VecDeque<Spare>,
    pub(super) next_spare: u64,
    pub(super) words: P::MapMut,
    pub(super) medium: Medium,
    pub(super) alive: P::File,
    pub(super) lock: P::File,
}

pub(super) type Guard<'a, P> = MutexGuard<'a, Core<P>>;

impl<P: Platform> Core<P> {
    /// Whether the batch that is gathered, or the next one, has a file to go to.
    pub(super) fn has_file_for(&self, payload_len: usize) -> bool {
        // A segment that has begun without a file takes one of the spares.
        let begun = u64::from(self.machine.position().segment > self.published);
        self.spares.len() as u64 > begun && self.open_behind() < upkeep::OPEN_MAX || !self.machine.rolls(payload_len)
    }

    /// Segments behind the newest that the driver still has open.
    pub(super) fn open_behind(&self) -> u64 {
        self.published.saturating_sub(self.attached)
    }

    /// Takes an outcome in.
    pub(super) fn completed(&mut self, names: &Names, id: OpId, outcome: Outcome, trouble: Option<Trouble>) {
        let Some(at) = self.flight.iter().position(|op| op.id() == id) else {
            panic!("bug: the driver tells of {id}, which it does not have");
        };
        let op = self.flight.swap_remove(at);
        self.machine.complete(id, outcome);
        if matches!(outcome, Outcome::Done(_)) {
            match op {
                Op::Write { len, sync, .. } => {
                    self.stats.batches += 1;
                    self.stats.batch_bytes += u64::from(len);
                    self.stats.syncs += u64::from(sync);
                }
                _ => self.stats.syncs += 1,
            }
        }
        if let (Some(poison), None) = (self.machine.poisoned(), &self.failure) {
            self.failure =
                Some(Arc::new(Error::from(trouble.unwrap_or_else(|| describe(names, &op, outcome, poison)))));
        }
    }

    /// Something went wrong that the machine does not see: nothing is acknowledged from now on.
    pub(super) fn fail(&mut self, error: Error) {
        let errno = match &error {
            Error::Trouble(trouble) => trouble.errno().unwrap_or(0),
            _ => 0,
        };
        self.machine.poison(errno);
        if self.failure.is_none() {
            self.failure = Some(Arc::new(error));
        }
    }

    /// Whether a write or a sync is under way.
    pub(super) fn is_flying(&self) -> bool {
        !self.flight.is_empty()
    }

    /// Makes the caller lead, if one more may.
    pub(super) fn take_lead(&mut self) -> bool {
        let may = self.leaders < self.leaders_max;
        self.leaders += u8::from(may);
        may
    }

    /// Whether names are being changed, so that more may come without anybody's doing.
    pub(super) fn is_preparing(&self) -> bool {
        self.at_work || !self.chores.is_empty()
    }
}

/// What an operator needs to know of a failed operation: which, where, what the system said, what next.
fn describe(names: &Names, op: &Op, outcome: Outcome, poison: wal::Poison) -> Trouble {
    let path = names.segment(op.segment());
    let errno = match (outcome, poison) {
        (Outcome::Failed(errno), _) => errno,
        (_, wal::Poison::Write { errno } | wal::Poison::Sync { errno } | wal::Poison::Told { errno }) => errno,
        (_, wal::Poison::Short { .. } | wal::Poison::Again) => EIO,
    };
    let next = "nothing after the last durable frame is acknowledged; close the log, see to the disk, open it again";
    match *op {
        Op::Write { offset, len, .. } => Trouble::new("write", path, std::io::Error::from_raw_os_error(errno))
            .noting(format!("{len} bytes at offset {offset}: {poison}; {next}")),
        _ => Trouble::new("sync", path, std::io::Error::from_raw_os_error(errno)).noting(format!("{poison}; {next}")),
    }
}

/// The same number on every system of ours: the device failed.
const EIO: i32 = 5;

impl<P: Platform> Shared<P> {
    pub(super) fn new(parts: Parts<P>) -> Shared<P> {
        let Parts { platform, names, options, segment_len, driver, machine, state, live, spares, .. } = parts;
        let published = live.back().map_or(0, |live| live.id);
        let (durable, appended) = (machine.durable(), machine.next_seq() - 1);
        let gathered_at = machine.position().offset;
        let page = state.map().clone();
        let leaders_max = if driver.mode().ends_in_submit { machine.config().depth } else { 1 };
        let core = Core {
            machine,
            state,
            said: Progress::default(),
            leaders: 0,
            committing: 0,
            leaders_max,
            helper_leads: false,
            flight: Vec::with_capacity(UNDER_WAY),
            gathered_at,
            chores: VecDeque::with_capacity(4),
            at_work: false,
            spares,
            next_spare: parts.next_spare,
            spare_trouble: None,
            published,
            live,
            attached: published,
            truncate_to: 0,
            retire_due: false,
            retire_refused: false,
            groups: VecDeque::with_capacity(GROUP_WORDS as usize),
            group_open: false,
            group_number: 0,
            waiting: VecDeque::with_capacity(1024),
            waiting_id: 0,
            batching: false,
            room_sleepers: 0,
            failure: None,
            stats: Stats::default(),
            stop: false,
        };
        let pid = platform.process().pid;
        let shared = Shared {
            platform,
            names,
            options,
            segment_len,
            driver,
            core: Mutex::new(core),
            words: parts.words,
            state: page,
            durable: AtomicU64::new(durable),
            appended: AtomicU64::new(appended),
            groups_covered: AtomicU64::new(0),
            medium: parts.medium,
            pid,
            _alive: parts.alive,
            _lock: parts.lock,
        };
        shared.publish(&mut shared.lock());
        shared
    }

    pub(super) fn lock(&self) -> Guard<'_, P> {
        // A panic under the lock is a bug of ours, told where it happened; those who come later see the machine's state,
        // which is whole between its calls.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Newest frame that is durable.
    pub(super) fn durable(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release in `publish`: who sees a frame durable sees what its leader did before.
        self.durable.load(Ordering::Acquire)
    }

    /// Newest frame that is appended, as far as this thread has heard.
    pub(super) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Relaxed)
    }

    /// Whether threads of the log's own are there.
    pub(super) fn has_threads(&self) -> bool {
        self.options.threads == Threads::Own
    }

    /// Whether this is a forked child's copy, which has no part in the log.
    fn is_child(&self) -> bool {
        self.platform.process().pid != self.pid
    }

    /// Changes a word, so that nobody who saw it before goes to sleep on it. Under the lock.
    pub(super) fn bump(&self, _: &Core<P>, word: Word) {
        let window = self.words.window_mut();
        window.store_release(word.at(), window.load(word.at()).wrapping_add(1));
    }

    /// What the word is now. Under the lock.
    pub(super) fn look(&self, _: &Core<P>, word: Word) -> u32 {
        self.words.window().load_acquire(word.at())
    }

    /// Wakes one of those who sleep on a word. Without the lock.
    pub(super) fn wake_one(&self, word: Word) {
        _ = self.platform.wake_one(&self.words, word.at());
    }

    /// Wakes who sleeps on a word. Without the lock.
    pub(super) fn wake(&self, word: Word) {
        // Sleepers look again after a bounded time anyway; a failure costs that.
        _ = self.platform.wake(&self.words, word.at());
    }

    /// Sleeps while the word is `seen`. Without the lock.
    pub(super) fn sleep(&self, word: Word, seen: u32) {
        if self.platform.wait_mut(&self.words, word.at(), seen, self.longest_sleep()).is_err() {
            std::thread::yield_now();
        }
    }

    fn longest_sleep(&self) -> Duration {
        #[cfg(feature = "planted")]
        if self.options.planted.sleeps_unbounded {
            return Duration::from_secs(24 * 3600);
        }
        SLICE
    }

    /// Tells everybody how far it has got.
    pub(super) fn publish(&self, core: &mut Core<P>) {
        let progress = Progress {
            durable_seq: core.machine.durable(),
            durable: core.machine.durable_position(),
            written_seq: core.machine.written(),
            closed: core.machine.is_closed(),
            poisoned: core.machine.is_poisoned(),
        };
        if progress == core.said {
            return;
        }
        core.said = progress;
        // ORDERING: Release pairs with the Acquire in `durable`.
        self.durable.store(progress.durable_seq, Ordering::Release);
        // Readers that sleep look again after a bounded time.
        _ = core.state.publish(&progress);
    }

    /// Whether what the driver takes has ended when it returns, in the thread that gave it: several may lead at once.
    pub(super) fn ends_in_submit(&self) -> bool {
        self.driver.mode().ends_in_submit
    }

    /// Gives the driver all that there is to do now. The caller leads.
    pub(super) fn hand_out<'a>(&'a self, mut core: Guard<'a, P>) -> Guard<'a, P> {
        // By calls each takes its time, and more may come meanwhile: then it is somebody else's.
        let most = if self.ends_in_submit() { 1 + u32::from(core.machine.config().depth) } else { u32::MAX };
        for _ in 0..most {
            let did;
            (did, core) = self.hand_out_some(core, Take::All);
            if !did {
                break;
            }
        }
        core
    }

    /// Has done what changes names, and nothing else. The caller leads.
    pub(super) fn hand_out_names<'a>(&'a self, mut core: Guard<'a, P>) -> Guard<'a, P> {
        let mut did = true;
        while did {
            (did, core) = self.hand_out_some(core, Take::Names);
        }
        core
    }

    /// Gives the driver what there is to do now: one thing, if it ends at once. Whether there was anything. The caller leads.
    pub(super) fn hand_out_some<'a>(&'a self, mut core: Guard<'a, P>, take: Take) -> (bool, Guard<'a, P>) {
        let most = if self.ends_in_submit() { 1 } else { UNDER_WAY };
        let mut ops = [const { None }; UNDER_WAY];
        let mut count = 0;
        let mut chores = false;
        while count < most {
            let next = match take {
                Take::All => core.machine.next_op(),
                Take::Names => core.machine.next_name_op(),
            };
            match next {
                Some(op @ Op::Sync { .. })
                    if self.ends_in_submit() && self.has_threads() && core.committing == 0 && !core.has_waiting() =>
                {
                    // Nobody waits for it, so nobody who appends shall.
                    core.flight.push(op);
                    core.chores.push_back(op);
                    chores = true;
                }
                Some(op @ (Op::Write { .. } | Op::Sync { .. })) => {
                    core.flight.push(op);
                    core.group_open = false;
                    ops[count] = Some(op);
                    count += 1;
                }
                Some(op) => {
                    if matches!(op, Op::Recycle { .. }) {
                        core.retire_due = false;
                    }
                    core.chores.push_back(op);
                    chores = true;
                }
                None => break,
            }
        }
        core.gathered_at = core.machine.position().offset;
        if count == 0 && !chores {
            return (false, core);
        }
        if chores && self.has_threads() {
            self.bump(&core, Word::Upkeep);
        }
        drop(core);
        if chores && self.has_threads() {
            self.wake(Word::Upkeep);
        }
        let mut refused: [Option<(OpId, Trouble)>; UNDER_WAY] = [const { None }; UNDER_WAY];
        for (op, refused) in ops.iter().flatten().zip(&mut refused) {
            if let Err(trouble) = self.driver.submit(op) {
                *refused = Some((op.id(), trouble));
            }
        }
        core = self.lock();
        for (id, trouble) in refused.into_iter().flatten() {
            // Another thread may have given up all that the driver had.
            if !core.flight.iter().any(|op| op.id() == id) {
                continue;
            }
            let outcome = Outcome::Failed(trouble.errno().unwrap_or(EIO));
            core.completed(&self.names, id, outcome, Some(trouble));
            self.publish(&mut core);
        }
        if core.machine.is_poisoned() && core.room_sleepers > 0 {
            self.bump(&core, Word::Room);
            drop(core);
            self.wake(Word::Room);
            core = self.lock();
        }
        if self.ends_in_submit() {
            core = self.take_in(core, false);
        }
        if chores && !self.has_threads() {
            core = upkeep::chores(self, core);
        }
        (true, core)
    }

    /// Takes in what has ended; with `wait`, at least one thing, if anything is under way that does not end in `submit`.
    /// The caller leads.
    pub(super) fn take_in<'a>(&'a self, core: Guard<'a, P>, wait: bool) -> Guard<'a, P> {
        if !core.is_flying() {
            return core;
        }
        let mut done = [None; UNDER_WAY];
        let mut count = 0;
        let mut each = |id, outcome| {
            done[count] = Some((id, outcome));
            count += 1;
        };
        let (reaped, mut core) = if self.ends_in_submit() {
            // Under the lock, so that whoever finds its own outcome taken finds it in the machine.
            (self.driver.reap(false, &mut each), core)
        } else {
            drop(core);
            (self.driver.reap(wait, &mut each), self.lock())
        };
        let again = done.iter().flatten().any(|(_, outcome)| *outcome == Outcome::Again);
        for (id, outcome) in done.into_iter().flatten() {
            core.completed(&self.names, id, outcome, None);
        }
        if let Err(trouble) = reaped {
            // Nobody will ever tell what became of these.
            core.flight.clear();
            core.fail(trouble.into());
        }
        self.publish(&mut core);
        upkeep::retire(&mut core, self.options.retain_bytes);
        let room = core.room_sleepers > 0;
        if room {
            self.bump(&core, Word::Room);
        }
        if room || again {
            drop(core);
            if room {
                self.wake(Word::Room);
            }
            if again {
                // It has no memory or was interrupted: tried again at once it might say so until the machine gives up.
                self.platform.sleep(AGAIN);
            }
            core = self.lock();
        }
        core
    }

    /// Appends; with `patient`, waits for room.
    fn append_with<T>(
        &self,
        len: usize,
        patient: bool,
        mine: bool,
        mut put: impl FnMut(&mut Machine<Arc<P::MapMut>>, &mut Stats) -> std::result::Result<T, wal::AppendError>,
    ) -> std::result::Result<T, AppendError> {
        let mut guard = self.lock();
        let mut stalled = false;
        loop {
            let core = &mut *guard;
            let refusal = if core.batching && !mine {
                // Somebody's frames are to follow one another.
                wal::AppendError::Full
            } else if core.has_file_for(len) {
                match put(&mut core.machine, &mut core.stats) {
                    Ok(done) => {
                        core.stats.stalls += u64::from(stalled);
                        self.appended.store(core.machine.next_seq() - 1, Ordering::Relaxed);
                        if core.machine.position().offset != core.gathered_at && core.leaders == 0 {
                            self.write_full_batch(guard);
                        }
                        return Ok(done);
                    }
                    Err(refusal) => refusal,
                }
            } else if core.machine.is_poisoned() {
                wal::AppendError::Poisoned
            } else {
                // Upkeep says why.
                wal::AppendError::Stalled { errno: 0 }
            };
            let refused = match refusal {
                wal::AppendError::TooLarge { len, max } => AppendError::TooLarge { len, max },
                wal::AppendError::CarryFull { needed, room } => AppendError::CarryFull { needed, room },
                wal::AppendError::Control => AppendError::Control,
                wal::AppendError::Poisoned => AppendError::Poisoned,
                wal::AppendError::Closed => AppendError::Closed,
                wal::AppendError::SeqEnd => AppendError::SeqEnd,
                wal::AppendError::Full if !patient => AppendError::Full,
                wal::AppendError::Full => {
                    stalled = true;
                    guard = self.make_room(guard, mine);
                    continue;
                }
                wal::AppendError::Stalled { .. } => {
                    stalled = true;
                    guard = upkeep::await_spare(self, guard, len, patient)?;
                    continue;
                }
            };
            return Err(refused);
        }
    }

    /// Every buffer waits to be written: leads until one is, or sleeps until the leader has come so far.
    fn make_room<'a>(&'a self, mut core: Guard<'a, P>, mine: bool) -> Guard<'a, P> {
        if core.batching && !mine || !core.take_lead() {
            return self.await_room(core);
        }
        let (did, mut core) = self.hand_out_some(core, Take::All);
        if core.is_flying() && !self.ends_in_submit() {
            core = self.take_in(core, true);
            core = self.hand_out(core);
        } else if !did && (core.is_flying() || core.is_preparing()) && !core.machine.is_poisoned() {
            // Others write, or prepare a segment.
            core.leaders -= 1;
            return self.await_room(core);
        }
        self.leave(core);
        self.lock()
    }

    /// Sleeps until something has changed that an append may wait for.
    pub(super) fn await_room<'a>(&'a self, mut core: Guard<'a, P>) -> Guard<'a, P> {
        core.room_sleepers += 1;
        let seen = self.look(&core, Word::Room);
        drop(core);
        self.sleep(Word::Room, seen);
        core = self.lock();
        core.room_sleepers -= 1;
        core
    }

    /// A batch is full, nobody waits for it and nobody leads: it is written as it is.
    #[cold]
    fn write_full_batch<'a>(&'a self, mut core: Guard<'a, P>) {
        core.leaders += 1;
        core = self.hand_out(core);
        core = self.take_in(core, false);
        self.leave(core);
    }
}

/// A log, open for appending. One at a time, by a kernel lock held for its life; any number of threads.
///
/// Dropping it is like a crash of the process, minus the mess: what was committed is durable, what was appended and not
/// committed may be or not, nothing is flushed. [`Wal::close`] flushes. Futures borrow the log; callbacks that still wait
/// are told [`CommitError::Dropped`]. It does not work in a forked child: its memory is not there.
///
/// Made by [`Wal::open`].
#[derive(Debug)]
pub struct Wal<P: Platform> {
    pub(super) shared: Arc<Shared<P>>,
    pub(super) threads: Vec<JoinHandle<()>>,
}

impl<P: Platform> Wal<P> {
    /// Appends a frame and says its number. It is copied to memory, nothing else; [`Wal::commit`] makes it durable.
    ///
    /// Where every buffer waits to be written it waits for one, and where the next segment is not ready yet, for that.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]; never [`AppendError::Full`].
    pub fn append(&self, payload: &[u8]) -> std::result::Result<u64, AppendError> {
        self.shared.append_one(payload, true)
    }

    /// As [`Wal::append`], without waiting.
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    pub fn try_append(&self, payload: &[u8]) -> std::result::Result<u64, AppendError> {
        self.shared.append_one(payload, false)
    }

    /// Appends frames whose numbers follow one another. They need not share a batch: a crash may keep the first of them.
    ///
    /// # Errors
    ///
    /// As [`Wal::append`], of the first frame that was refused; [`BatchError`] says how many went before it.
    pub fn append_batch(&self, payloads: &[&[u8]]) -> std::result::Result<Range<u64>, BatchError> {
        self.shared.append_many(payloads)
    }

    /// Appends a vote, meta or truncate frame, which takes no number; [`Wal::commit_all`] makes it durable.
    ///
    /// The newest vote and the newest meta value are repeated at the head of every segment, and so is a truncation as long
    /// as it matters. A truncation's payload begins with the number of the newest frame that stays, little-endian.
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    pub fn append_control(&self, kind: Kind, payload: &[u8]) -> std::result::Result<(), AppendError> {
        // A meta value gets a head and is padded.
        self.shared.append_with(payload.len() + 12, true, false, |machine, stats| {
            machine.append_control(kind, payload)?;
            stats.appends += 1;
            stats.bytes += payload.len() as u64;
            Ok(())
        })
    }

    /// Waits until frame `seq` and all before it are durable. Whoever comes first writes for all who come meanwhile.
    ///
    /// # Errors
    ///
    /// There is no such frame yet; or a write or a sync failed before it was durable. Then it is unknown whether it will be
    /// found when the log is opened again: nothing can be said of it but that.
    pub fn commit(&self, seq: u64) -> std::result::Result<(), CommitError> {
        if self.shared.durable() >= seq {
            return Ok(());
        }
        self.shared.commit(Asked::Seq(seq))
    }

    /// Waits until all that this thread has appended is durable, control frames too.
    ///
    /// # Errors
    ///
    /// As [`Wal::commit`].
    pub fn commit_all(&self) -> std::result::Result<(), CommitError> {
        self.shared.commit(Asked::All)
    }

    /// As [`Wal::commit`], as a future that any runtime can poll. Dropping it takes nothing back but the waiting.
    ///
    /// With [`Threads::Own`] one of the log's threads makes progress; otherwise somebody must call [`Wal::drive`].
    pub fn commit_async(&self, seq: u64) -> Commit<'_, P> {
        Commit::new(&self.shared, seq)
    }

    /// Calls `then` once frame `seq` and all before it are durable, or never will be as far as anybody can tell.
    ///
    /// It is called by the thread that finds out, with no lock held: by this one if it is so already. It should be short,
    /// and may use what does not wait, such as [`Wal::try_append`] and [`Wal::on_commit`], and nothing else of the log: the
    /// thread it is called by may be the one that all others wait for. For the same reason a panic in it ends with it.
    ///
    /// # Errors
    ///
    /// There is no such frame yet. `then` is not called.
    pub fn on_commit(
        &self,
        seq: u64,
        then: impl FnOnce(std::result::Result<(), CommitError>) + Send + 'static,
    ) -> std::result::Result<(), CommitError> {
        let then: Callback = Box::new(then);
        self.shared.on_commit(seq, then)
    }

    /// Does what can be done without waiting: takes in what has ended, calls who waits for it, and gives the driver what
    /// was asked for since. For who has one thread: no other is needed, and nothing is allocated.
    ///
    /// A ring takes a write and returns. Any other way to the device ([`Wal::mode`]) makes it here, and that waits.
    ///
    /// Says whether something is under way, so that calling again is worth while.
    pub fn drive(&self) -> bool {
        self.shared.drive(false)
    }

    /// As [`Wal::drive`], and if something is under way, waits until some of it has ended.
    pub fn drive_waiting(&self) -> bool {
        self.shared.drive(true)
    }

    /// Newest frame that is durable, with all before it; 0 = none. There may be newer ones when this returns.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.shared.durable()
    }

    /// The log's directory: where its readers find it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.shared.names.dir()
    }

    /// The log's identity, the same for its whole life.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.shared.lock().machine.header().wal_id
    }

    /// Up to where all is durable.
    #[must_use]
    pub fn durable_position(&self) -> Position {
        self.shared.lock().machine.durable_position()
    }

    /// Newest frame that is written, with all before it, durable or not.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.shared.lock().machine.written()
    }

    /// The number that the next frame gets, unless another thread is faster.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.shared.lock().machine.next_seq()
    }

    /// Frames before `seq` are nobody's need any more: segments of nothing else are retired, their files used again.
    ///
    /// Call it when what replaces those frames is durable, such as a checkpoint with its directory (rule D-9): what is
    /// retired cannot be read again. It returns at once.
    pub fn truncate_before(&self, seq: u64) {
        self.shared.truncate_before(seq);
    }

    /// How bytes go to the device, why not as was asked, and whether an acknowledgement survives a power cut.
    #[must_use]
    pub fn mode(&self) -> &WalMode {
        self.shared.driver.mode()
    }

    /// Writes in flight at once, at most.
    #[must_use]
    pub fn depth(&self) -> u8 {
        self.shared.lock().machine.config().depth
    }

    /// What an acknowledgement is worth: in [`Medium::Memory`] it survives processes, not the machine.
    #[must_use]
    pub fn medium(&self) -> Medium {
        self.shared.medium
    }

    /// What was done since the log was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats
    }

    /// Why the log is poisoned, or why the last segment could not be prepared: operation, path, what the system said.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<Error>> {
        let core = self.shared.lock();
        core.failure.clone().or_else(|| core.spare_trouble.clone())
    }

    /// Where in the log's shared page the word is that changes when something becomes durable: for who sleeps in a loop of
    /// their own. See [`chronicle_core::wake`].
    #[must_use]
    pub fn wake_word(&self) -> (&Arc<P::MapMut>, usize) {
        (&self.shared.state, super::state::WAKE)
    }

    /// Prepares segments ahead, as many as [`Options::spares`] says, and uses retired ones again. With [`Threads::Own`]
    /// the log does so by itself.
    ///
    /// # Errors
    ///
    /// The system's; the log is none the worse.
    pub fn maintain(&self) -> Result<()> {
        upkeep::maintain(&self.shared)
    }

    /// Makes all that was appended durable and says so in a last batch: the next opening finds a log that ended in order.
    ///
    /// # Errors
    ///
    /// A write or a sync failed, then or before: see [`CommitError`] and [`Wal::trouble`], whose error this is.
    pub fn close(mut self) -> Result<()> {
        let closed = self.shared.close();
        self.end();
        closed
    }

    /// Ends the threads.
    fn end(&mut self) {
        if self.shared.is_child() {
            // The threads, the locks and the memory are the parent's.
            std::mem::forget(std::mem::take(&mut self.threads));
            std::mem::forget(self.shared.clone());
            return;
        }
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // It panicked: told where it did.
            _ = thread.join();
        }
        self.shared.give_up();
    }
}

impl<P: Platform> Drop for Wal<P> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Why a batch was not appended whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchError {
    /// Frames of it that were appended: they are in the log like any other.
    pub appended: usize,
    /// Why the next one was not.
    pub error: AppendError,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {} frames of the batch", self.error, self.appended)
    }
}

impl std::error::Error for BatchError {}

impl<P: Platform> Shared<P> {
    #[inline]
    fn append_one(&self, payload: &[u8], patient: bool) -> std::result::Result<u64, AppendError> {
        self.append_with(payload.len(), patient, false, |machine, stats| {
            let seq = machine.append(payload)?;
            stats.appends += 1;
            stats.bytes += payload.len() as u64;
            Ok(seq)
        })
    }

    fn append_many(&self, payloads: &[&[u8]]) -> std::result::Result<Range<u64>, BatchError> {
        let mut core = self.lock();
        while core.batching {
            core = self.await_room(core);
        }
        core.batching = true;
        let first = core.machine.next_seq();
        drop(core);
        let mut appended = 0;
        let mut appending = || {
            while let Some(next) = payloads.get(appended) {
                self.append_with(next.len(), true, true, |machine, stats| {
                    // As many as go in while the lock is held.
                    machine.append(next)?;
                    let mut bytes = next.len();
                    appended += 1;
                    let before = appended;
                    for payload in &payloads[before..] {
                        if machine.rolls(payload.len()) || machine.append(payload).is_err() {
                            break;
                        }
                        bytes += payload.len();
                        appended += 1;
                    }
                    stats.appends += (appended - before + 1) as u64;
                    stats.bytes += bytes as u64;
                    Ok(())
                })?;
            }
            Ok(())
        };
        let result = appending();
        let mut core = self.lock();
        core.batching = false;
        let woken = core.room_sleepers > 0;
        if woken {
            self.bump(&core, Word::Room);
        }
        drop(core);
        if woken {
            self.wake(Word::Room);
        }
        match result {
            Ok(()) => Ok(first..first + payloads.len() as u64),
            Err(error) => Err(BatchError { appended, error }),
        }
    }
}
