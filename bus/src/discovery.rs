//! Finding who is registered, who is ready and who is dead, among thousands.
//!
//! A [`Discovery`] scans the bus once, is then told of changes by a [`Watch`], and looks at everything again now and then.
//! All three only say *where* to look; what is true is what a look finds ([`crate::look`](mod@crate::look)). So nothing
//! depends on the watch being complete, in order, or there at all: it makes the answer come in a millisecond instead of in
//! seconds.
//!
//! # Events
//!
//! Each entry goes through
//!
//! ```text
//! Added ( Ready{epoch} Lost{epoch, reason} )* Removed
//! ```
//!
//! - `Added`: the entry's directory is there. `Removed`: it is not; then, if ever, `Added` again.
//! - `Ready`: that registration lives, and its queues may be opened. `Lost`: it is over, or has stalled. The two alternate.
//! - An epoch that was lost comes back only from [`LostReason::Stalled`]; every other `Ready` has a higher epoch than those
//!   before it since `Added`.
//! - The events of one [`Discovery::poll`] come sorted by entry, and of each entry in the order above.
//!
//! **A slow poller** misses no state: each poll brings it from what it was told to what is true, in this order, and memory
//! is bounded by the entries that there are. A registration that began and ended between two polls is told by the epochs
//! that it used: [`Change::Ready`] says how many were skipped.
//!
//! # Time
//!
//! A new or ended registration is told at once where the directory is watched: its `READY` appears, its `LEASE` vanishes,
//! and when a process is killed the kernel closes its `LEASE`, which is told too. That is told an instant *before* the
//! lock goes, so an entry that something was told of is looked at again after 1, 10 and 100 ms. What the watch cannot
//! tell, because nothing changes, is a stall: it is found within [`DiscoveryOptions::rescan`] of its ttl.
//!
//! # Costs
//!
//! No thread of its own, no descriptor for an entry; see [`crate::watch`] for the watch's. The rescan is spread over its
//! interval, a few looks at a time, so that a poll stays short: at 10,000 entries and 10 s a look each millisecond. After the
//! watch has lost something all is looked at in one go, and if that keeps happening, at most a tenth of the time goes
//! there.
//!
//! Never here: a queue that is opened, a process that is ended. What dead owners left is removed ([`crate::sweep`](mod@crate::sweep)),
//! unless [`DiscoveryOptions::sweep`] says otherwise.

use crate::{
    error::Result,
    layout::{Entry, Kind, Layout, OWNER_LOCK, Place, is_file_of_an_owner},
    lease::{Lease, Owner},
    look::{Seen, State, has_left, look_again, trouble_reason},
    sweep::{Swept, sweep_dir},
    watch::{Changes, Notify, Unwatched, Watch},
};
use chronicle_platform::{Platform, Trouble, TroubleKind};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fmt,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How a bus is discovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryOptions {
    /// What is looked for.
    pub kinds: Vec<Kind>,
    /// In what time everything is looked at again.
    pub rescan: Duration,
    /// The same, while a directory is there that cannot be watched.
    pub rescan_unwatched: Duration,
    /// Whether what dead owners left is removed, where that is allowed.
    pub sweep: bool,
}

impl Default for DiscoveryOptions {
    fn default() -> Self {
        DiscoveryOptions {
            kinds: Kind::ALL.into(),
            rescan: Duration::from_secs(10),
            rescan_unwatched: Duration::from_millis(500),
            sweep: true,
        }
    }
}

/// Something happened to an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// To which one.
    pub entry: Entry,
    /// What.
    pub change: Change,
}

/// What happened to an entry. The order is in [the module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its directory is there.
    Added,
    /// A registration lives, and its queues may be opened.
    Ready {
        /// Which one.
        epoch: u64,
        /// Registrations between the one told before it and this one: they came and went unseen.
        skipped: u64,
        /// What its lease says.
        lease: Lease,
    },
    /// That registration is over, or has stalled.
    Lost {
        /// Which one.
        epoch: u64,
        /// Why.
        reason: LostReason,
    },
    /// Its directory is gone.
    Removed,
}

/// Why a registration was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostReason {
    /// It ended by itself.
    Left,
    /// Its process died.
    Died,
    /// It lives, and has not renewed its lease for longer than its ttl. It may be ready again, with the same epoch.
    Stalled,
    /// Another registration has its place; how it ended itself is not known any more.
    Replaced,
    /// Its files are gone, and nothing that we may read says why.
    Unknown,
    /// Its files cannot be judged any more: why.
    Unreadable(Arc<str>),
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LostReason::Left => "left",
            LostReason::Died => "died",
            LostReason::Stalled => "stalled",
            LostReason::Replaced => "replaced",
            LostReason::Unknown => "gone",
            LostReason::Unreadable(why) => why,
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = &self.entry;
        match &self.change {
            Change::Added => write!(f, "{entry} added"),
            Change::Ready { epoch, .. } => write!(f, "{entry} ready, epoch {epoch}"),
            Change::Lost { epoch, reason } => write!(f, "{entry} lost, epoch {epoch}: {reason}"),
            Change::Removed => write!(f, "{entry} removed"),
        }
    }
}

/// What a [`Discovery`] has done, and how well it is told of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryCounters {
    /// Looks at entries.
    pub looks: u64,
    /// How often everything was looked at, the first time included.
    pub scans: u64,
    /// How often the watch lost something.
    pub missed: u64,
    /// Files of dead owners that were removed.
    pub swept: u64,
    /// Directories that are watched.
    pub watched: usize,
    /// Directories that are there and not watched.
    pub unwatched: usize,
    /// Directories in the places of entries, by names that no entry has.
    pub foreign: usize,
}

/// What is known of an entry, and what was told.
#[derive(Debug)]
struct Known {
    state: State,
    seen: Option<Seen>,
    /// The registration that was told to be ready, and not yet to be lost.
    ready: Option<(u64, Owner)>,
    /// The one told last.
    last: Option<(u64, Owner)>,
    watched: bool,
    /// When it is looked at again without being told to, and which of [`AGAIN`] comes after that.
    again: Option<(u64, usize)>,
}

#[derive(Debug, Default)]
struct Branch {
    watched: bool,
    foreign: usize,
}

/// Why an entry is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It was found, or its turn has come.
    Scan,
    /// Something in it changed.
    Told,
    /// It was looked at before, so many times, and may not have been where it was going.
    Again(usize),
}

/// After which times an entry is looked at again that something was told of.
const AGAIN: [Duration; 3] = [Duration::from_millis(1), Duration::from_millis(10), Duration::from_millis(100)];
/// The shortest sleep between two parts of a rescan.
const SLICE: Duration = Duration::from_millis(10);
/// Of the time, so much at least is not spent on looking at everything.
const FULL_REST: u64 = 10;

/// Who is registered on a bus.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # #[cfg(target_os = "linux")] {
/// use chronicle_bus::{Change, Discovery, DiscoveryOptions, Kind, Layout};
/// use chronicle_platform_linux::Linux;
/// use std::time::Duration;
///
/// let options = DiscoveryOptions { kinds: vec![Kind::Strategy], ..DiscoveryOptions::default() };
/// let mut discovery = Discovery::open(&Linux, &Layout::new("/dev/shm/market"), options)?;
/// loop {
///     for event in discovery.wait(Duration::from_secs(1)) {
///         println!("{event}");
///         if let Change::Ready { .. } = event.change {
///             // Open its queues.
///         }
///     }
/// }
/// # }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Discovery<P: Platform, W: Watch = Notify> {
    platform: P,
    layout: Layout,
    options: DiscoveryOptions,
    watch: W,
    changes: Changes,
    entries: BTreeMap<Entry, Known>,
    branches: BTreeMap<PathBuf, Branch>,
    again: BTreeSet<(u64, Entry)>,
    pending: Vec<Event>,
    /// How far the rescan has come, and when.
    cursor: Option<Entry>,
    sliced_ns: u64,
    /// Everything is to be looked at, not before this moment.
    full_due: bool,
    full_after_ns: u64,
    /// The system watches no more: not asked again until the rescan has come around.
    is_limited: bool,
    /// Something was found that is not watched.
    is_blind: bool,
    refusal: Option<String>,
    counters: DiscoveryCounters,
}

impl<P: Platform> Discovery<P> {
    /// Scans the bus, told of changes by the system from then on. The first [`Discovery::poll`] tells what was found.
    ///
    /// # Errors
    ///
    /// The bus's directory is not there, or may not be listed.
    pub fn open(platform: &P, layout: &Layout, options: DiscoveryOptions) -> Result<Self> {
        Discovery::with_watch(platform, layout, options, Notify::new())
    }
}

impl<P: Platform, W: Watch> Discovery<P, W> {
    /// As [`Discovery::open`], told of changes by `watch`.
    ///
    /// # Errors
    ///
    /// As [`Discovery::open`].
    pub fn with_watch(platform: &P, layout: &Layout, options: DiscoveryOptions, watch: W) -> Result<Self> {
        // Watches speak of absolute paths.
        let hot = std::path::absolute(layout.hot()).map_err(|error| Trouble::new("resolve", layout.hot(), error))?;
        platform.list(&hot)?;
        let mut discovery = Discovery {
            platform: platform.clone(),
            layout: Layout::new(hot),
            options,
            watch,
            changes: Changes::default(),
            entries: BTreeMap::new(),
            branches: BTreeMap::new(),
            again: BTreeSet::new(),
            pending: Vec::new(),
            cursor: None,
            sliced_ns: platform.monotonic_ns(),
            full_due: false,
            full_after_ns: 0,
            is_limited: false,
            is_blind: false,
            refusal: None,
            counters: DiscoveryCounters::default(),
        };
        let hot = discovery.layout.hot().to_owned();
        discovery.scan_branch(&hot, true);
        discovery.counters.scans = 1;
        Ok(discovery)
    }

    /// What has happened since the last call; see [the module](self) for the order. Does not wait.
    pub fn poll(&mut self) -> Vec<Event> {
        self.follow_changes();
        if self.full_due && self.platform.monotonic_ns() >= self.full_after_ns {
            self.rescan();
        }
        self.look_again_where_due();
        self.rescan_slice();
        let mut events = std::mem::take(&mut self.pending);
        // Stable: the events of one entry keep their order.
        events.sort_by(|one, other| one.entry.cmp(&other.entry));
        events
    }

    /// As [`Discovery::poll`], but where nothing has happened waits until something has, or the time is over.
    pub fn wait(&mut self, timeout: Duration) -> Vec<Event> {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let end = self.platform.monotonic_ns().saturating_add(ns(timeout));
        loop {
            let events = self.poll();
            let now = self.platform.monotonic_ns();
            if !events.is_empty() || now >= end {
                return events;
            }
            let slice = self.slice_ns().max(ns(SLICE));
            let mut next = end.min(self.sliced_ns.saturating_add(slice).max(now + ns(SLICE)));
            if let Some((at, _)) = self.again.first() {
                next = next.min(*at);
            }
            if self.full_due {
                next = next.min(self.full_after_ns);
            }
            self.watch.wait(Duration::from_nanos(next.saturating_sub(now).max(1)));
        }
    }

    /// Looks at everything, now: what the next poll tells is true as of this call.
    pub fn rescan(&mut self) {
        let begun = self.platform.monotonic_ns();
        self.full_due = false;
        self.is_limited = false;
        self.counters.scans += 1;
        let known: Vec<Entry> = self.entries.keys().cloned().collect();
        for branch in self.branches.values_mut() {
            branch.watched = false;
        }
        for entry in self.entries.values_mut() {
            entry.watched = false;
        }
        let hot = self.layout.hot().to_owned();
        self.scan_branch(&hot, true);
        for entry in known {
            self.look_at(&entry, Why::Scan);
        }
        let now = self.platform.monotonic_ns();
        self.full_after_ns = now.saturating_add(now.saturating_sub(begun).saturating_mul(FULL_REST));
        (self.cursor, self.sliced_ns) = (None, now);
    }

    /// Every entry that is there, and what the last look found; [`State::Refused`] says why something is in the way.
    pub fn states(&self) -> impl Iterator<Item = (&Entry, &State)> {
        self.entries.iter().map(|(entry, known)| (entry, &known.state))
    }

    /// What the last look at an entry found; [`State::Gone`] where it is not there.
    #[must_use]
    pub fn state(&self, entry: &Entry) -> &State {
        self.entries.get(entry).map_or(&State::Gone, |known| &known.state)
    }

    /// What it has done, and how well it is told of changes.
    #[must_use]
    pub fn counters(&self) -> DiscoveryCounters {
        let branches = self.branches.values();
        let watched = branches.clone().filter(|branch| branch.watched).count()
            + self.entries.values().filter(|known| known.watched).count();
        DiscoveryCounters {
            watched,
            unwatched: self.branches.len() + self.entries.len() - watched,
            foreign: branches.map(|branch| branch.foreign).sum(),
            ..self.counters
        }
    }

    /// Why not everything is watched, swept or listed: the last reason.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Looks where the watch says.
    fn follow_changes(&mut self) {
        let mut changes = std::mem::take(&mut self.changes);
        self.watch.take(&mut changes);
        if std::mem::take(&mut changes.missed) {
            self.counters.missed += 1;
            self.full_due = true;
        }
        let (mut entries, mut branches) = (BTreeSet::new(), BTreeSet::new());
        for path in changes.paths.drain(..) {
            match self.layout.place(&path) {
                // The directory itself came, went, or is another one by this name: what watched it may be gone.
                Place::Entry(entry) => {
                    if let Some(known) = self.entries.get_mut(&entry) {
                        known.watched = false;
                    }
                    entries.insert(entry);
                }
                Place::Branch => _ = branches.insert(path),
                Place::Elsewhere => {
                    // Drafts, too: who is killed while it makes one leaves nothing else that tells.
                    let ours = |name: &OsStr| is_file_of_an_owner(name.to_str().unwrap_or_default());
                    if let (true, Some(dir)) = (path.file_name().is_some_and(ours), path.parent())
                        && let Place::Entry(entry) = self.layout.place(dir)
                    {
                        entries.insert(entry);
                    }
                }
            }
        }
        // Its room is used again.
        self.changes = changes;
        for branch in branches {
            if let Some(known) = self.branches.get_mut(&branch) {
                known.watched = false;
            }
            self.scan_branch(&branch, false);
        }
        for entry in entries {
            self.look_at(&entry, Why::Told);
        }
    }

    fn look_again_where_due(&mut self) {
        let now = self.platform.monotonic_ns();
        while let Some((at, _)) = self.again.first()
            && *at <= now
            && let Some((at, entry)) = self.again.pop_first()
        {
            match self.entries.get(&entry).and_then(|known| known.again) {
                Some((due, step)) if due == at => self.look_at(&entry, Why::Again(step)),
                // Told of meanwhile, and due later.
                _ => {}
            }
        }
    }

    /// Time for one part of a rescan.
    fn slice_ns(&self) -> u64 {
        let round = if self.is_blind { self.options.rescan_unwatched } else { self.options.rescan };
        u64::try_from(round.as_nanos()).unwrap_or(u64::MAX) / (self.entries.len() as u64 + 1)
    }

    /// Looks at those whose turn has come since the last time: all of them where that was long ago.
    fn rescan_slice(&mut self) {
        let now = self.platform.monotonic_ns();
        let slice = self.slice_ns().max(1);
        let due = now.saturating_sub(self.sliced_ns) / slice;
        if due == 0 {
            return;
        }
        self.sliced_ns = self.sliced_ns.saturating_add(due.saturating_mul(slice));
        // A round is every entry, and the directories above them.
        for _ in 0..due.min(self.entries.len() as u64 + 1) {
            let from = self.cursor.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            match self.entries.range((from, Bound::Unbounded)).next() {
                Some((entry, _)) => {
                    let entry = entry.clone();
                    self.look_at(&entry, Why::Scan);
                    self.cursor = Some(entry);
                }
                None => {
                    self.cursor = None;
                    self.is_limited = false;
                    let branches: Vec<PathBuf> = self.branches.keys().cloned().collect();
                    for branch in branches {
                        self.scan_branch(&branch, false);
                    }
                    self.is_blind = self.branches.values().any(|branch| !branch.watched)
                        || self.entries.values().any(|known| !known.watched);
                }
            }
        }
    }

    /// Whether a directory lies above or at what is looked for.
    fn is_wanted(&self, branch: &Path) -> bool {
        self.options.kinds.iter().any(|kind| {
            let dir = self.layout.kind_dir(*kind);
            dir.starts_with(branch) || branch.starts_with(&dir)
        })
    }

    /// Finds what is new below a directory; in the directories below it that are known, too, if it is to go `deep`.
    fn scan_branch(&mut self, branch: &Path, deep: bool) {
        if !self.is_wanted(branch) {
            return;
        }
        // Watched first, then listed: what comes after the list is told.
        let watched = match self.branches.get(branch) {
            Some(known) if known.watched => true,
            _ => match self.begin_watch(branch) {
                Ok(watched) => watched,
                Err(Gone) => return self.forget_branch(branch),
            },
        };
        let listed = match self.platform.list(branch) {
            Ok(listed) => listed,
            Err(trouble) if trouble.kind() == TroubleKind::NotFound => return self.forget_branch(branch),
            Err(trouble) => {
                self.refusal = Some(trouble_reason(trouble));
                Vec::new()
            }
        };
        self.branches.insert(branch.to_owned(), Branch { watched, foreign: 0 });
        let mut foreign = 0;
        for name in listed.into_iter().filter(|name| name.is_dir) {
            let path = branch.join(name.name);
            match self.layout.place(&path) {
                Place::Entry(entry) if self.options.kinds.contains(&entry.kind()) => {
                    if !self.entries.contains_key(&entry) {
                        self.look_at(&entry, Why::Scan);
                    }
                }
                Place::Branch if deep || !self.branches.contains_key(&path) => self.scan_branch(&path, deep),
                Place::Branch | Place::Entry(_) => {}
                Place::Elsewhere => foreign += 1,
            }
        }
        // At the top other things have their places: other tiers, for one.
        if let Some(known) = self.branches.get_mut(branch).filter(|_| branch != self.layout.hot()) {
            known.foreign = foreign;
        }
    }

    fn forget_branch(&mut self, branch: &Path) {
        if self.branches.remove(branch).is_some() {
            self.watch.unwatch(branch);
        }
    }

    /// Whether a directory is watched from now on, if it is there.
    fn begin_watch(&mut self, dir: &Path) -> std::result::Result<bool, Gone> {
        if !self.is_limited {
            match self.watch.watch(dir) {
                Ok(()) => return Ok(true),
                Err(Unwatched::Absent) => return Err(Gone),
                Err(Unwatched::Limit(why)) => (self.is_limited, self.refusal) = (true, Some(why)),
                Err(Unwatched::Other(why)) => self.refusal = Some(why),
            }
        }
        self.is_blind = true;
        Ok(false)
    }

    /// Looks at an entry and tells what is new.
    fn look_at(&mut self, entry: &Entry, why: Why) {
        if !self.options.kinds.contains(&entry.kind()) {
            return;
        }
        let dir = self.layout.dir(entry);
        if !self.entries.contains_key(entry) {
            // What has the name may be a file, or a link to somewhere else.
            if !self.platform.is_dir(&dir).unwrap_or(false) {
                return;
            }
            let known =
                Known { state: State::Absent, seen: None, ready: None, last: None, watched: false, again: None };
            self.entries.insert(entry.clone(), known);
            self.pending.push(Event { entry: entry.clone(), change: Change::Added });
        }
        // Watched first, then looked at: what changes after the look is told.
        if !self.entries[entry].watched
            && let Ok(watched) = self.begin_watch(&dir)
        {
            self.known(entry).watched = watched;
        }
        self.counters.looks += 1;
        let mut seen = self.entries[entry].seen;
        let mut state = look_again(&self.platform, &dir, &mut seen);
        let mut is_settled = !matches!(state, State::Starting(_) | State::Ready(_) | State::Refused(_));
        if self.options.sweep && matches!(state, State::Dead(_)) {
            // Told before it is removed, and the reason with it.
            self.tell(entry, &dir, &state);
            match sweep_dir(&self.platform, &dir) {
                Swept::Removed(count) => self.counters.swept += count as u64,
                Swept::Held => is_settled = false,
                Swept::Refused(why) => self.refusal = Some(why),
            }
            state = look_again(&self.platform, &dir, &mut seen);
        }
        self.tell(entry, &dir, &state);
        if state == State::Gone {
            self.watch.unwatch(&dir);
            self.entries.remove(entry);
            return;
        }
        let now = self.platform.monotonic_ns();
        let step = match why {
            Why::Scan => None,
            Why::Told => Some(0),
            Why::Again(step) => Some(step),
        };
        let due = step.filter(|_| !is_settled).and_then(|step| Some((AGAIN.get(step)?, step + 1)));
        let known = self.known(entry);
        (known.state, known.seen) = (state, seen);
        if let Some((after, step)) = due {
            let at = now + after.as_nanos() as u64;
            known.again = Some((at, step));
            self.again.insert((at, entry.clone()));
        } else if why != Why::Scan {
            known.again = None;
        }
    }

    fn known(&mut self, entry: &Entry) -> &mut Known {
        self.entries.get_mut(entry).expect("bug: an entry that is looked at is known")
    }

    /// Tells what takes the poller from what it was told to this state.
    fn tell(&mut self, entry: &Entry, dir: &Path, state: &State) {
        let known = self.entries.get_mut(entry).expect("bug: an entry that is told of is known");
        let mut tell = |change| self.pending.push(Event { entry: entry.clone(), change });
        let now = state.ready().map(|lease| (lease.epoch, lease.owner));
        if let Some((epoch, owner)) = known.ready
            && now != known.ready
        {
            let is_own = |lease: &Lease| lease.owner == owner;
            let left = || has_left(&self.platform, &dir.join(OWNER_LOCK), epoch, owner);
            let reason = match state {
                State::Stalled(lease) if is_own(lease) => LostReason::Stalled,
                // It has taken its READY back: it is about to go.
                State::Starting(lease) if is_own(lease) => LostReason::Left,
                State::Starting(_) | State::Ready(_) | State::Stalled(_) => LostReason::Replaced,
                State::Refused(why) => LostReason::Unreadable(why.clone()),
                State::Dead(_) if left() != Some(true) => LostReason::Died,
                State::Dead(_) | State::Absent | State::Gone => match left() {
                    Some(true) => LostReason::Left,
                    Some(false) => LostReason::Died,
                    None => LostReason::Unknown,
                },
            };
            known.ready = None;
            tell(Change::Lost { epoch, reason });
        }
        if *state == State::Gone {
            tell(Change::Removed);
            return;
        }
        let (Some((epoch, owner)), Some(lease), None) = (now, state.ready(), known.ready) else { return };
        let is_another = known.last.is_some_and(|(last, its)| its != owner && epoch <= last);
        if is_another {
            // Epochs only grow: the directory was removed and made again, and its lock with it.
            tell(Change::Removed);
            tell(Change::Added);
            known.last = None;
        }
        let skipped = known.last.map_or(0, |(last, _)| epoch.saturating_sub(last).saturating_sub(1));
        (known.ready, known.last) = (now, now);
        tell(Change::Ready { epoch, skipped, lease: *lease });
    }
}

/// A directory that was to be watched is not there.
struct Gone;
