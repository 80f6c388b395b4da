//! What a queue needs beside appending: preparing, recycling, retiring, sealing, syncing, and a heartbeat.
//!
//! The helper thread runs [`Upkeep::pass`] again and again, or the embedder does. It meets the append path in three
//! places only: prepared segments go one way through a bounded channel, the ends of segments are told the other way, and a
//! few flags say why nothing is ready. None of them blocks or wakes anybody: both sides look.
//!
//! ```text
//! pass:   heartbeat; take back ended segments: sync (by policy), seal
//!         once a second: are the names of all segments there?
//!         while fewer than `ahead` are prepared:
//!             over the budget?   retire the oldest ended segment that no reader needs:
//!                                rename it away, lock it exclusively (who reads it has a shared lock)
//!                                locked: use it again; not locked: remove it and make a fresh one
//!             raise seq_bound, sync control.meta; publish; hand over
//! ```

use super::{
    PublisherOptions, Refused, SyncPolicy,
    control::{ControlFile, Synced, is_failed_sync},
    cursor,
    layout::{RECYCLED, REFUSED, ROLLS},
    missing::MissingSegment,
    names::Names,
    publisher::Durable,
    segment::{Making, Segment, Spare, ids, salt},
};
use crate::{Error, Result, root::Name};
use chronicle_core::{Reader, Seal, Spec, Step, layout::FRAME_ALIGN, layout::HEADER_LEN, store_seal};
use chronicle_platform::{File, Lock, Medium, Open, Platform, TroubleKind};
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
        mpsc::SyncSender,
    },
};

/// What writer and helper tell each other without waiting. In-process flags, not shared memory.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    /// Why nothing is ready: see [`Flags::refusal`].
    state: AtomicU8,
    used: AtomicU64,
    max: AtomicU64,
    /// The writer found nothing ready: prepare at once, whatever `prepare_late` says.
    pub(crate) hungry: AtomicBool,
    pub(crate) poisoned: AtomicBool,
    pub(crate) refused: AtomicU64,
    pub(crate) recycled: AtomicU64,
    trouble: Mutex<Option<Arc<Error>>>,
    /// The newest segment that was found missing; it does not come back.
    missing: Mutex<Option<Arc<Error>>>,
    /// Its id if the writer was in it, for the writer to leave it.
    pub(crate) lost: AtomicU64,
}

const GETTING_READY: u8 = 0;
const NO_SPACE: u8 = 1;
const PREPARE_FAILED: u8 = 2;
const FULL: u8 = 3;

impl Flags {
    /// Why nothing is ready.
    pub(crate) fn refusal(&self) -> Refused {
        if self.poisoned.load(Ordering::Relaxed) {
            return Refused::Poisoned;
        }
        match self.state.load(Ordering::Acquire) {
            NO_SPACE => Refused::NoSpace,
            PREPARE_FAILED => Refused::PrepareFailed,
            FULL => {
                Refused::QueueFull { used: self.used.load(Ordering::Relaxed), max: self.max.load(Ordering::Relaxed) }
            }
            _ => Refused::NotReady,
        }
    }

    pub(crate) fn trouble(&self) -> Option<Arc<Error>> {
        let of = |trouble: &Mutex<Option<_>>| trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        of(&self.trouble).or_else(|| of(&self.missing))
    }

    pub(crate) fn misses(&self, missing: &MissingSegment) {
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(missing.to_error()));
    }

    fn set_trouble(&self, error: Option<Arc<Error>>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    pub(crate) fn failed(&self, error: Error) {
        let space = matches!(&error, Error::Trouble(trouble) if trouble.kind() == TroubleKind::NoSpace);
        self.set_trouble(Some(Arc::new(error)));
        self.state.store(if space { NO_SPACE } else { PREPARE_FAILED }, Ordering::Release);
    }

    fn full(&self, used: u64, max: u64) {
        self.used.store(used, Ordering::Relaxed);
        self.max.store(max, Ordering::Relaxed);
        self.state.store(FULL, Ordering::Release);
    }

    fn well(&self) {
        if self.state.swap(GETTING_READY, Ordering::AcqRel) != GETTING_READY {
            self.set_trouble(None);
        }
    }
}

/// A segment that the writer left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) id: u64,
    pub(crate) seal: Seal,
    pub(crate) next_seq: u64,
}

/// Ended segments on their way back, told in numbers: plain stores, because a locked instruction at a roll would wait until
/// everything that was appended before has reached the cache, ten times as long as the rest of the roll.
#[derive(Debug)]
pub(crate) struct Endings {
    slots: Box<[[AtomicU64; 6]]>,
    told: AtomicU64,
    taken: AtomicU64,
}

impl Endings {
    pub(crate) fn new(capacity: usize) -> Self {
        let slots = (0..capacity).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect();
        Endings { slots, told: AtomicU64::new(0), taken: AtomicU64::new(0) }
    }

    /// The writer's end.
    #[inline]
    pub(crate) fn tell(&self, ended: Ended) {
        let told = self.told.load(Ordering::Relaxed);
        let waiting = told - self.taken.load(Ordering::Relaxed);
        let capacity = self.slots.len() as u64;
        assert!(waiting < capacity, "bug: {waiting} segments ended, at most {capacity} were handed out");
        let Ended { id, seal, next_seq } = ended;
        let words = [id, seal.count, seal.end, seal.min_time, seal.max_time, next_seq];
        for (slot, word) in self.slots[(told % capacity) as usize].iter().zip(words) {
            slot.store(word, Ordering::Relaxed);
        }
        // ORDERING: Release pairs with the Acquire in `take`.
        self.told.store(told + 1, Ordering::Release);
    }

    /// The helper's end.
    fn take(&self) -> Option<Ended> {
        let taken = self.taken.load(Ordering::Relaxed);
        if taken == self.told.load(Ordering::Acquire) {
            return None;
        }
        let slot = &self.slots[(taken % self.slots.len() as u64) as usize];
        let [id, count, end, min_time, max_time, next_seq] = std::array::from_fn(|at| slot[at].load(Ordering::Relaxed));
        self.taken.store(taken + 1, Ordering::Relaxed);
        Some(Ended { id, seal: Seal { count, end, min_time, max_time }, next_seq })
    }
}

/// A segment that the queue has.
#[derive(Debug)]
pub(crate) struct Live<P: Platform> {
    pub(crate) id: u64,
    pub(crate) len: u32,
    /// 0 = not known, or prepared.
    pub(crate) first_seq: u64,
    pub(crate) ended: bool,
    /// Somebody took its file away.
    pub(crate) lost: bool,
    /// All of it is on the medium.
    pub(crate) durable: bool,
    /// Of those that this writer has written or will.
    pub(crate) segment: Option<Arc<Segment<P>>>,
    /// Kept while it has to be synced: a sync through a descriptor from before the writes hears of all errors.
    pub(crate) file: Option<P::File>,
}

/// What was last seen of a reader.
#[derive(Clone, Copy, Debug)]
struct Seen {
    beats: u32,
    since_ns: u64,
}

/// How many ended segments may wait for a sync with their descriptors open.
const UNSYNCED_MAX: usize = 64;
/// How often beats are looked at.
const SAMPLE_NS: u64 = 1_000_000_000;
/// First and longest pause after a failed preparation.
const BACKOFF_NS: (u64, u64) = (10_000_000, 1_000_000_000);

/// How soon to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Soon {
    /// Something happened, or is missing.
    Busy,
    /// Nothing did.
    Idle,
}

/// The state of it all.
#[derive(Debug)]
pub(crate) struct Upkeep<P: Platform> {
    platform: P,
    names: Names,
    options: PublisherOptions,
    required: Vec<Name>,
    pub(crate) making: Making,
    pub(crate) control: ControlFile<P>,
    /// Oldest first; exactly one is neither ended nor prepared, at `current`.
    live: VecDeque<Live<P>>,
    current: usize,
    prepared: SyncSender<Arc<Segment<P>>>,
    endings: Arc<Endings>,
    flags: Arc<Flags>,
    readers: BTreeMap<Name, Seen>,
    sampled_ns: u64,
    synced_ns: u64,
    retry_ns: u64,
    backoff_ns: u64,
    rolls: u64,
    recycled_before: u64,
    refused_before: u64,
    /// Names that could not be removed yet, and the bytes that they take.
    garbage: Vec<(PathBuf, u64)>,
    alive: P::File,
    is_alive_locked: bool,
}

/// What [`Upkeep::new`] starts from.
pub(crate) struct Parts<P: Platform> {
    pub(crate) platform: P,
    pub(crate) names: Names,
    pub(crate) options: PublisherOptions,
    pub(crate) required: Vec<Name>,
    pub(crate) making: Making,
    pub(crate) control: ControlFile<P>,
    pub(crate) live: VecDeque<Live<P>>,
    pub(crate) current: usize,
    pub(crate) prepared: SyncSender<Arc<Segment<P>>>,
    pub(crate) endings: Arc<Endings>,
    pub(crate) flags: Arc<Flags>,
    pub(crate) alive: P::File,
}

impl<P: Platform> Upkeep<P> {
    /// Whether a thread is to run this.
    pub(crate) fn helper(&self) -> bool {
        self.options.helper
    }

    pub(crate) fn new(parts: Parts<P>) -> Self {
        let Parts { platform, names, options, required, making, control, live, current, .. } = parts;
        let now = platform.monotonic_ns();
        for segment in live.iter().skip(current + 1).filter_map(|live| live.segment.clone()) {
            parts.prepared.try_send(segment).expect("bug: more segments were adopted than the channel holds");
        }
        control.set_oldest(live.front().map_or(0, |live| live.id));
        let (rolls, recycled_before) = (control.counter(ROLLS), control.counter(RECYCLED));
        let refused_before = control.counter(REFUSED);
        let mut this = Upkeep {
            platform,
            names,
            options,
            required,
            making,
            control,
            live,
            current,
            prepared: parts.prepared,
            endings: parts.endings,
            flags: parts.flags,
            readers: BTreeMap::new(),
            sampled_ns: 0,
            synced_ns: now,
            retry_ns: 0,
            backoff_ns: BACKOFF_NS.0,
            rolls,
            recycled_before,
            refused_before,
            garbage: Vec::new(),
            alive: parts.alive,
            is_alive_locked: false,
        };
        // Now, not in the helper's first pass: whoever finds the queue finds its writer.
        this.show_life();
        this
    }

    /// Somebody may just be looking at the lock, or keep us from it: the next pass tries again, and till then the heartbeat
    /// tells.
    fn show_life(&mut self) {
        if !self.is_alive_locked {
            self.is_alive_locked = self.alive.try_lock(Lock::Exclusive).unwrap_or(false);
            self.control.set_unlocked(!self.is_alive_locked);
        }
    }

    /// Everything that is due. With `patient`, a failed preparation is tried again only after a pause.
    pub(crate) fn pass(&mut self, patient: bool) -> Soon {
        let now = self.platform.monotonic_ns();
        self.control.heartbeat(&self.platform);
        self.show_life();
        let mut soon = self.take_back();
        let platform = &self.platform;
        self.garbage.retain(|(path, _)| platform.remove(path).is_err() && platform.exists(path).unwrap_or(true));
        if now.wrapping_sub(self.sampled_ns) >= SAMPLE_NS || self.sampled_ns == 0 {
            self.sample(now);
            self.look_for_all();
        } else if soon == Soon::Busy {
            self.look_for_current();
        }
        let poisoned = self.flags.poisoned.load(Ordering::Relaxed);
        if !poisoned && (!patient || now >= self.retry_ns) {
            let hungry = self.flags.hungry.swap(false, Ordering::Relaxed);
            while self.live.len() - 1 - self.current < self.wanted(hungry) {
                match self.prepare(now) {
                    Ok(true) => {
                        self.flags.well();
                        self.backoff_ns = BACKOFF_NS.0;
                        soon = Soon::Busy;
                    }
                    // Full: readers decide when that changes.
                    Ok(false) => {
                        self.flags.hungry.store(hungry, Ordering::Relaxed);
                        break;
                    }
                    Err(error) => {
                        self.note_failed_sync(&error);
                        self.flags.failed(error);
                        self.flags.hungry.store(hungry, Ordering::Relaxed);
                        self.retry_ns = self.platform.monotonic_ns() + self.backoff_ns;
                        self.backoff_ns = (self.backoff_ns * 2).min(BACKOFF_NS.1);
                        break;
                    }
                }
            }
        }
        if let SyncPolicy::Every(period) = self.options.sync
            && now.wrapping_sub(self.synced_ns) as u128 >= period.as_nanos()
            && !poisoned
        {
            self.synced_ns = now;
            let tail = self.find_tail();
            if tail != self.control.state.synced {
                self.sync_to(tail).unwrap_or_else(|error| self.flags.failed(error));
            }
        }
        self.control.set_counter(ROLLS, self.rolls);
        self.control
            .set_counter(RECYCLED, self.recycled_before.saturating_add(self.flags.recycled.load(Ordering::Relaxed)));
        self.control
            .set_counter(REFUSED, self.refused_before.saturating_add(self.flags.refused.load(Ordering::Relaxed)));
        soon
    }

    /// How many segments should be ready behind the current one.
    fn wanted(&self, hungry: bool) -> usize {
        let ahead = self.options.segments_ahead.max(1) as usize;
        let current = self.live[self.current].segment.as_ref();
        let early =
            self.options.prepare_late && !hungry && current.is_some_and(|current| !current.index.is_past_half());
        if early { 0 } else { ahead }
    }

    /// Ended segments: synced where the policy says so, then sealed.
    fn take_back(&mut self) -> Soon {
        let mut soon = Soon::Idle;
        while let Some(Ended { id, seal, next_seq }) = self.endings.take() {
            soon = Soon::Busy;
            self.rolls = self.rolls.saturating_add(1);
            let live = &mut self.live[self.current];
            assert_eq!(live.id, id, "bug: segments end in the order in which they were handed out");
            live.ended = true;
            let segment = live.segment.as_ref().expect("bug: what was handed out is mapped");
            store_seal(&*segment.map, segment.header.salt, seal);
            self.current += 1;
            let live = &mut self.live[self.current];
            live.first_seq = next_seq;
            let synced = Synced { segment: live.id, offset: HEADER_LEN as u32, seq: next_seq };
            let waiting = self.live.iter().filter(|live| live.ended && live.file.is_some()).count();
            let due = match self.options.sync {
                SyncPolicy::None => waiting > UNSYNCED_MAX,
                SyncPolicy::Roll | SyncPolicy::Every(_) => true,
            };
            if self.making.medium == Medium::Memory && self.options.sync == SyncPolicy::None {
                // Nothing would become durable by it.
                for live in self.live.iter_mut().filter(|live| live.ended) {
                    live.file = None;
                }
            } else if due && !self.flags.poisoned.load(Ordering::Relaxed) {
                self.sync_to(synced).unwrap_or_else(|error| self.flags.failed(error));
            }
        }
        soon
    }

    /// Are the names of all segments there?
    fn look_for_all(&mut self) {
        let Ok(there) = ids(&self.platform, &self.names) else { return };
        for at in 0..self.live.len() {
            if there.binary_search(&self.live[at].id).is_err() {
                self.miss(at);
            }
        }
    }

    /// Is the name of the segment there into which the writer has just gone?
    fn look_for_current(&mut self) {
        let path = self.names.segment(self.live[self.current].id);
        if matches!(self.platform.exists(&path), Ok(false)) {
            self.miss(self.current);
        }
    }

    /// A segment has lost its name, and nobody finds what is written into it.
    fn miss(&mut self, at: usize) {
        let live = &mut self.live[at];
        if !std::mem::replace(&mut live.lost, true) {
            let evidence = "the writer made it, and it has not retired".to_owned();
            self.flags.misses(&MissingSegment::new(&self.names, live.id, evidence));
        }
        if at == self.current {
            self.flags.lost.store(live.id, Ordering::Relaxed);
        }
    }

    /// Takes note of which readers still look.
    fn sample(&mut self, now: u64) {
        self.sampled_ns = now.max(1);
        let Ok(readers) = cursor::list(&self.platform, &self.names) else { return };
        let mut seen = BTreeMap::new();
        for (name, path) in readers {
            let Ok(view) = cursor::view(&self.platform, &path) else { continue };
            let since_ns = match self.readers.get(&name) {
                Some(before) if before.beats == view.beats => before.since_ns,
                _ => now,
            };
            seen.insert(name, Seen { beats: view.beats, since_ns });
        }
        self.readers = seen;
    }

    /// The oldest segment that somebody needs: a reader that looks, or a required one whatever it does.
    fn needed_from(&mut self, now: u64) -> Result<u64> {
        self.sample(now);
        let current = self.live[self.current].id;
        let mut needed = current;
        let files = cursor::list(&self.platform, &self.names)?;
        for name in &self.required {
            // One that has no cursor yet, or another queue's, needs all there is.
            let durable = files.iter().find(|(other, _)| other == name).and_then(|(_, path)| {
                let durable = cursor::view(&self.platform, path).ok()?.durable?;
                (durable.queue_id == self.control.queue_id).then_some(durable.segment_id)
            });
            needed = needed.min(durable.unwrap_or(0));
        }
        for (name, path) in &files {
            let Some(seen) = self.readers.get(name) else { continue };
            // What cannot be read holds nothing back: one bad file must not stop the writer.
            let Ok(view) = cursor::view(&self.platform, path) else { continue };
            let ttl = view.ttl.min(self.options.reader_ttl);
            if u128::from(now.wrapping_sub(seen.since_ns)) > ttl.as_nanos() {
                continue;
            }
            let stands = match view.cursor {
                Some(cursor) if view.commits && cursor.queue_id == self.control.queue_id => {
                    cursor.segment_id.min(view.reading)
                }
                _ => view.reading,
            };
            // Not attached anywhere yet.
            if stands == 0 {
                continue;
            }
            if let Some(limit) = self.options.reader_lag_max {
                let behind: u64 = self
                    .live
                    .iter()
                    .filter(|live| live.id >= stands && live.id < current)
                    .map(|live| u64::from(live.len))
                    .sum();
                if behind > limit {
                    continue;
                }
            }
            needed = needed.min(stands);
        }
        Ok(needed)
    }

    fn used(&self) -> u64 {
        let live: u64 = self.live.iter().map(|live| u64::from(live.len)).sum();
        live + self.garbage.iter().map(|(_, len)| len).sum::<u64>()
    }

    /// Makes one more segment ready; `false` if the budget does not allow it.
    fn prepare(&mut self, now: u64) -> Result<bool> {
        let len = self.options.segment_len;
        let mut spare = None;
        if self.used() + u64::from(len) > self.options.max_bytes {
            let needed = self.needed_from(now)?;
            while self.used() + u64::from(len) > self.options.max_bytes {
                let oldest = &self.live[0];
                if !oldest.ended || oldest.id >= needed {
                    self.flags.full(self.used(), self.options.max_bytes);
                    return Ok(false);
                }
                // Only the last one retired can be of use.
                if let Some(Spare { was, .. }) = spare.take() {
                    // It could be used again, so it is of this length.
                    self.discard(self.names.retired(was), len.into());
                }
                spare = self.retire()?;
            }
        }
        let last = self.live.back().expect("bug: a queue has a current segment");
        let id = self.control.state.last_segment + 1;
        let spec = Spec {
            queue_id: self.control.queue_id,
            segment_id: id,
            epoch: self.control.state.epoch,
            salt: salt(&self.platform),
            predecessor_id: last.id,
            predecessor_end: 0,
            created_ns: self.platform.now_ns(),
            segment_len: len,
            clock: self.options.clock,
            checksum: self.options.checksum,
        };
        let current = &self.live[self.current];
        let ahead: u64 = self.live.iter().skip(self.current).map(|live| u64::from(live.len / FRAME_ALIGN as u32)).sum();
        let bound = current.first_seq.saturating_add(ahead).saturating_add(u64::from(len / FRAME_ALIGN as u32));
        let control = &mut self.control;
        // Before the name is visible: no frame may ever carry a seq that a crash could hand out again.
        let mut announce = || {
            control.update(|state| {
                state.last_segment = id;
                state.seq_bound = state.seq_bound.max(bound);
            })
        };
        let (segment, file) = match spare {
            Some(spare) => {
                let retired = self.names.retired(spare.was);
                let made =
                    announce().and_then(|()| Segment::make_of(&self.platform, &self.names, &spec, spare, self.making));
                match made {
                    Ok(made) => {
                        self.flags.recycled.fetch_add(1, Ordering::Relaxed);
                        made
                    }
                    Err(error) => {
                        self.discard(retired, len.into());
                        return Err(error);
                    }
                }
            }
            None => Segment::make(&self.platform, &self.names, &spec, None, self.making, announce)?,
        };
        let segment = Arc::new(segment);
        self.live.push_back(Live {
            id,
            len,
            first_seq: 0,
            ended: false,
            lost: false,
            durable: false,
            segment: Some(segment.clone()),
            file: Some(file),
        });
        self.prepared.try_send(segment).expect("bug: more segments are ready than were asked for");
        Ok(true)
    }

    /// The oldest segment leaves the queue. It can be used again if it is of the right length and nobody reads it.
    fn retire(&mut self) -> Result<Option<Spare<P>>> {
        let (id, retired) = (self.live[0].id, self.names.retired(self.live[0].id));
        // Renamed away first, so that nobody new finds it.
        let is_lost = match self.platform.rename(&self.names.segment(id), &retired) {
            Ok(()) => false,
            Err(trouble) if trouble.kind() == TroubleKind::NotFound => true,
            Err(trouble) => return Err(trouble.into()),
        };
        if is_lost {
            self.miss(0);
        }
        let live = self.live.pop_front().expect("bug: looked at above");
        self.current -= 1;
        self.control.set_oldest(self.live[0].id);
        if self.making.medium == Medium::Disk {
            // Else a crash could leave the old name on the new content.
            if let Err(trouble) = self.platform.sync_dir(self.names.dir()) {
                self.discard(retired, live.len.into());
                return Err(trouble.into());
            }
        }
        let len = live.len.into();
        let spare = if is_lost { None } else { self.reclaim(live, &retired) };
        if spare.is_none() {
            self.discard(retired, len);
            self.discard(self.names.index(id), 0);
        }
        Ok(spare)
    }

    fn reclaim(&self, live: Live<P>, retired: &std::path::Path) -> Option<Spare<P>> {
        if live.len != self.options.segment_len {
            return None;
        }
        // The writer lets go of a segment a little after it left it; and the mapping has no other owner then.
        let segment = Arc::try_unwrap(live.segment?).ok()?;
        if Arc::strong_count(&segment.map) != 1 {
            return None;
        }
        let file = match live.file {
            Some(file) => file,
            None => self.platform.open(retired, Open::Write).ok()?,
        };
        // A reader that found it in time has a shared lock: then it stays as it is until that reader leaves.
        if !file.try_lock(Lock::Exclusive).ok()? {
            return None;
        }
        Some(Spare { was: live.id, file, map: segment.map, index: segment.index })
    }

    /// Removes a file; where that fails it counts for the budget until it succeeds.
    fn discard(&mut self, path: PathBuf, len: u64) {
        if self.platform.remove(&path).is_err() && self.platform.exists(&path).unwrap_or(true) {
            self.garbage.push((path, len));
        }
    }

    /// The writer's tail as the memory shows it.
    fn find_tail(&self) -> Synced {
        let live = &self.live[self.current];
        let segment = live.segment.as_ref().expect("bug: the current segment is mapped");
        let begin = Synced { segment: live.id, offset: HEADER_LEN as u32, seq: live.first_seq };
        let place = segment.index.last();
        let known = self.control.state.synced;
        let reader = match place {
            Some(place) if known.segment != live.id || known.offset < place.offset => {
                Reader::attach_at(segment.map.clone(), place.offset, place.seq)
            }
            _ if known.segment == live.id => Reader::attach_at(segment.map.clone(), known.offset, known.seq),
            _ => Reader::attach(segment.map.clone()),
        };
        let Ok(mut reader) = reader else { return begin };
        while let Ok(Step::Frame(_)) = reader.step() {}
        let mark = reader.mark();
        Synced { segment: live.id, offset: mark.offset(), seq: mark.next_seq() }
    }

    /// Makes everything before `at` durable and says so. A failure is for ever.
    pub(crate) fn sync_to(&mut self, at: Synced) -> Result<()> {
        if self.flags.poisoned.load(Ordering::Relaxed) {
            return Err(Error::Poisoned { path: self.names.dir().to_path_buf() });
        }
        self.sync_files(at).inspect_err(|error| self.note_failed_sync(error))
    }

    /// A file or directory whose sync failed may have lost what an earlier one promised; nothing is believed any more, by
    /// us or by who opens the queue next. Another trouble, such as too many open files, passes.
    fn note_failed_sync(&self, error: &Error) {
        if is_failed_sync(error) || self.control.is_poisoned() {
            self.flags.poisoned.store(true, Ordering::Relaxed);
            self.control.tell_failure();
        }
    }

    fn sync_files(&mut self, at: Synced) -> Result<()> {
        for live in self.live.iter_mut().take_while(|live| live.id <= at.segment).filter(|live| !live.durable) {
            match &live.file {
                Some(file) => file.sync()?,
                // Written by an earlier process, or in memory where no sync matters.
                None => self.platform.open(&self.names.segment(live.id), Open::Write)?.sync()?,
            }
            if live.ended {
                live.durable = true;
                live.file = None;
            }
        }
        self.control.update(|state| state.synced = at)
    }

    /// As [`Upkeep::sync_to`], for the writer itself, which knows where it stands.
    pub(crate) fn sync_at(&mut self, at: Synced) -> Result<Durable> {
        self.take_back();
        self.sync_to(at)?;
        Ok(Durable { seq: at.seq - 1, segment_id: at.segment, offset: at.offset, medium: self.making.medium })
    }

    /// Ends the writer's time in order.
    pub(crate) fn close(&mut self, at: Synced) -> Result<Durable> {
        let durable = self.sync_at(at)?;
        self.control.update(|state| state.closed = true)?;
        self.control.set_unlocked(false);
        self.control.set_counter(ROLLS, self.rolls);
        Ok(durable)
    }
}
