//! Opening a queue for writing: a new one, one that was closed, one whose writer was killed, one whose machine died.
//!
//! ```text
//! lock writer.lock (a dying owner gets half a second)
//! no control.meta     new queue
//! same boot, or closed in order
//!     commit words are right by construction: scan the newest begun segment from its last index entry, go on there.
//!     Damage is damage.
//! another boot, or a sync has failed in this one
//!     every page may be of any age: check every CRC from the synced position on; the first bad frame ends the stream.
//!     1 sync what is accepted          2 remove segments behind it, sync the directory
//!       (after a failed sync: copy it, ended, to a new file and put that in its place)
//!     3 End at the accepted end, sync  4 epoch + 1 and a new bound of seqs, sync
//!     5 publish a new segment: new salt, begins at the old bound + 1, names its predecessor's accepted end
//!     A crash between any two steps leads here again and to the same prefix.
//! ```
//!
//! **After a failed sync** memory shows what the medium may never have got, and no later sync of the same file says so:
//! the kernel has marked those pages clean. So the writer that hears of the failure stops, a word in `control.meta` tells
//! the next one of the same boot, and that one believes nothing behind the synced position but what it has checked,
//! written to new blocks and synced. As after a crash of the machine seqs jump, because memory may have forgotten frames
//! that readers saw. It needs free space of one segment; without it the queue does not open, and stays as it is.
//!
//! **A segment whose file was taken away** behind the newest one that is there has had seqs that nobody finds any more. As
//! after a crash of the machine they are not used again: the epoch rises, and readers are told what is lost.
//!
//! The cost: in the same boot at most a 256th of a segment is scanned, whatever the queue's size. After a crash of the
//! machine everything behind the synced position is read once.

use super::{
    PublisherOptions, SyncPolicy, WakePolicy,
    control::{ControlFile, FIRST_GENERATION, State, Synced, is_failed_sync},
    index,
    layout::{ABORTED, META_LEN, REQUIRED_MAX},
    missing::MissingSegment,
    names::{self, Names},
    publisher::Counters,
    segment::{Head, IndexUse, Making, Segment, head, ids, salt},
    upkeep::{Endings, Flags, Live, Parts, Upkeep},
};
use crate::{Error, Result, root::Name};
use chronicle_core::{
    Appender, Begin, Checksum, Damage, Fault, Header, Mark, Reader, Region, RegionMut, Spec, Step, Window,
    frame::{Decoded, decode},
    layout::{COMMIT_END, FRAME_ALIGN, FRAME_HEADER_LEN, HEADER_LEN},
    store_begin, store_seal, wake,
};
use chronicle_platform::{File, Lock, Medium, Open, Platform};
use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    time::Duration,
};

/// An open queue, ready to append.
pub(crate) struct Opened<P: Platform> {
    pub(crate) upkeep: Upkeep<P>,
    pub(crate) log: Appender<Arc<P::MapMut>>,
    pub(crate) segment: Arc<Segment<P>>,
    pub(crate) wake_map: P::MapMut,
    pub(crate) mode: wake::Mode,
    pub(crate) prepared: Receiver<Arc<Segment<P>>>,
    pub(crate) endings: Arc<Endings>,
    pub(crate) flags: Arc<Flags>,
    pub(crate) counters: Counters,
    pub(crate) lock: P::File,
}

/// A lock of a process that is being killed goes within milliseconds; an owner that is stopped keeps it, and is not
/// raced.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// Most segments kept ready.
const AHEAD_MAX: u32 = 64;

pub(crate) fn open<P: Platform>(platform: &P, names: &Names, options: PublisherOptions) -> Result<Opened<P>> {
    let required = check(names, &options)?;
    for dir in [names.dir().to_path_buf(), names.readers(), names.index_dir()] {
        platform.create_dirs(&dir)?;
    }
    let medium = platform.medium(names.dir())?;
    if options.checksum == Checksum::CommitWord && medium != Medium::Memory {
        let what = "checksum: commit words alone are for memory; used again on a disk they guard nothing";
        return Err(Error::Options { path: names.dir().to_path_buf(), what: what.into() });
    }
    let mode = wake_mode(platform, names.dir(), options.wake)?;
    let lock = lock(platform, names)?;
    let making = Making { medium, lock_memory: options.lock_memory };
    let alive = platform.open(&names.alive_lock(), Open::Ensure)?;
    let wake_file = platform.open(&names.wake(), Open::Ensure)?;
    // Any word there is right; a length cut by a crash grows again.
    wake_file.allocate(META_LEN as u64)?;
    let wake_map = platform.map_mut(&wake_file, META_LEN)?;
    platform.prefault_mut(&wake_map)?;

    let mut opening = Opening { platform, names, options: &options, making, counters: Counters::default(), lost: None };
    let (mut control, found) = opening.control(mode, &required)?;
    let opened = opening.segments(&mut control, found).and_then(|segments| {
        opening.take_over(&mut control, mode, &required)?;
        Ok(segments)
    });
    if opened.as_ref().is_err_and(is_failed_sync) {
        control.tell_failure();
    }
    let (live, current, tail) = opened?;
    let (counters, lost) = (opening.counters, opening.lost);
    let aborted = control.counter(ABORTED).saturating_add(counters.aborted_records);
    control.set_counter(ABORTED, aborted);

    let ready = live.len() - 1 - current + options.segments_ahead as usize + 1;
    let (prepared_in, prepared) = sync_channel(ready);
    let endings = Arc::new(Endings::new(ready + 1));
    let flags = Arc::new(Flags::default());
    if let Some(lost) = lost {
        flags.misses(&lost);
    }
    let segment = live[current].segment.clone().expect("bug: the current segment was adopted");
    let upkeep = Upkeep::new(Parts {
        platform: platform.clone(),
        names: names.clone(),
        options,
        required,
        making,
        control,
        live,
        current,
        prepared: prepared_in,
        endings: endings.clone(),
        flags: flags.clone(),
        alive,
    });
    let log = Appender::resume(segment.map.clone(), &tail);
    Ok(Opened { upkeep, log, segment, wake_map, mode, prepared, endings, flags, counters, lock })
}

/// What can be said of options without looking at the queue.
fn check(names: &Names, options: &PublisherOptions) -> Result<Vec<Name>> {
    let refuse = |what: String| Err(Error::Options { path: names.dir().to_path_buf(), what });
    let len = options.segment_len;
    if chronicle_core::layout::segment(len as usize).is_none() {
        return refuse(format!("segment_len: {len} is not a multiple of 32 from 512 bytes to 1 GiB"));
    }
    let ahead = options.segments_ahead;
    if ahead == 0 || ahead > AHEAD_MAX {
        return refuse(format!("segments_ahead: {ahead} is not from 1 to {AHEAD_MAX}"));
    }
    // The current one, those ready, and one that just ended: with less a writer could wait for itself.
    let least = (u64::from(ahead) + 2) * u64::from(len);
    if options.max_bytes < least {
        return refuse(format!("max_bytes: {} is less than {least}, {} segments", options.max_bytes, ahead + 2));
    }
    if matches!(options.sync, SyncPolicy::Every(period) if period.is_zero()) {
        return refuse("sync: a period of zero".into());
    }
    if options.required.len() > REQUIRED_MAX {
        return refuse(format!("required: {} names, at most {REQUIRED_MAX}", options.required.len()));
    }
    options.required.iter().map(|name| Ok(names::parse_reader(name)?)).collect()
}

/// How a writer and its sleepers order their steps, where `path` lies; the process is registered for it.
pub(crate) fn wake_mode<P: Platform>(platform: &P, path: &Path, policy: WakePolicy) -> Result<wake::Mode> {
    let mode = match (policy, platform.support().barrier) {
        (WakePolicy::Fence, _) | (WakePolicy::Auto, false) => wake::Mode::Fence,
        (WakePolicy::Auto | WakePolicy::Asymmetric, true) => wake::Mode::Asymmetric,
        (WakePolicy::Asymmetric, false) => {
            let what = "wake: asymmetric needs a barrier that this system does not have".into();
            return Err(Error::Options { path: path.to_path_buf(), what });
        }
    };
    if mode == wake::Mode::Asymmetric {
        match platform.register_barrier() {
            Ok(()) => {}
            Err(_) if policy == WakePolicy::Auto => return Ok(wake::Mode::Fence),
            Err(trouble) => return Err(trouble.into()),
        }
    }
    Ok(mode)
}

fn lock<P: Platform>(platform: &P, names: &Names) -> Result<P::File> {
    let path = names.writer_lock();
    let file = platform.open(&path, Open::EnsurePrivate)?;
    for attempt in 1.. {
        if file.try_lock(Lock::Exclusive)? {
            break;
        }
        if attempt == TRIES {
            return Err(Error::Locked { path });
        }
        platform.sleep(PAUSE);
    }
    Ok(file)
}

const NO_TIMES: (u64, u64) = (u64::MAX, 0);

struct Opening<'a, P: Platform> {
    platform: &'a P,
    names: &'a Names,
    options: &'a PublisherOptions,
    making: Making,
    counters: Counters,
    /// A segment that is not there, although others were made behind it.
    lost: Option<MissingSegment>,
}

/// A reader at the tail, the times of frames before what it scanned, and the seq behind `End` if that is there.
type Scanned<P> = (Reader<Arc<<P as Platform>::MapMut>>, (u64, u64), Option<u64>);
/// The queue's segments, which of them is the current one, and its tail.
type Segments<P> = (VecDeque<Live<P>>, usize, Mark);

/// How the queue was left.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// A slot of the control file was torn.
    torn: bool,
    /// The machine died.
    unrecovered: bool,
    /// A sync failed in this boot.
    failed: bool,
}

impl<P: Platform> Opening<'_, P> {
    /// The queue's control file, made where there is none; and what it says of how the queue was left.
    fn control(&self, mode: wake::Mode, required: &[Name]) -> Result<(ControlFile<P>, Found)> {
        if let Some((file, control)) = ControlFile::open(self.platform, self.names)? {
            // In memory nothing is durable that a sync could have failed to make so.
            let failed = self.making.medium == Medium::Disk && control.has_failed(self.platform);
            if !failed || control.state.generation > FIRST_GENERATION {
                let unrecovered = control.is_unrecovered(self.platform);
                return Ok((file, Found { torn: control.torn, unrecovered, failed }));
            }
            // Its name may be nowhere but in memory; no segment was made before it was durable.
            self.platform.remove(&self.names.control())?;
        }
        if let Some(id) = ids(self.platform, self.names)?.first() {
            let what = format!("missing, although segment {id} is there");
            return Err(Error::malformed(self.names.control(), 0, what));
        }
        let state = State {
            generation: FIRST_GENERATION,
            boot_id: self.platform.boot_id(),
            epoch: 0,
            closed: false,
            seq_bound: 0,
            last_segment: 0,
            synced: Synced { segment: 0, offset: HEADER_LEN as u32, seq: 1 },
            segment_len: self.options.segment_len,
            max_bytes: self.options.max_bytes,
            wake_mode: mode,
            checksum: self.options.checksum,
            clock: self.options.clock,
            segments_ahead: self.options.segments_ahead,
            required: required.to_vec(),
        };
        Ok((ControlFile::create(self.platform, self.names, state)?, Found::default()))
    }

    /// The queue is ours: says so, durably, before the first append.
    fn take_over(&self, control: &mut ControlFile<P>, mode: wake::Mode, required: &[Name]) -> Result<()> {
        let boot_id = self.platform.boot_id();
        control.update(|state| {
            state.boot_id = boot_id;
            state.closed = false;
            state.wake_mode = mode;
            state.required = required.to_vec();
            state.segment_len = self.options.segment_len;
            state.max_bytes = self.options.max_bytes;
            state.segments_ahead = self.options.segments_ahead;
            state.checksum = self.options.checksum;
            state.clock = self.options.clock;
        })?;
        control.forget_failure();
        let process = self.platform.process();
        let text = format!(
            "pid {}\nstarted {}\nboot {boot_id:032x}\nepoch {}\n",
            process.pid, process.started, control.state.epoch
        );
        // For people: whoever cannot write it has the lock all the same.
        if let Ok(file) = self.platform.open(&self.names.writer_lock(), Open::Write) {
            _ = file.set_len(0).and_then(|()| file.write_at(text.as_bytes(), 0));
        }
        control.heartbeat(self.platform);
        Ok(())
    }

    fn segments(&mut self, control: &mut ControlFile<P>, found: Found) -> Result<Segments<P>> {
        self.remove_leftovers()?;
        let mut heads = Vec::new();
        for id in ids(self.platform, self.names)? {
            let path = self.names.segment(id);
            let file = self.platform.open(&path, Open::Write)?;
            let head = head::<P>(&path, &file, id, control.queue_id)?;
            if head.header.ro_compat != 0 {
                let what =
                    format!("segment {id} has features {:#x} that this version cannot write", head.header.ro_compat);
                return Err(Error::Options { path, what });
            }
            heads.push(head);
        }
        if control.state.boot_id != self.platform.boot_id() {
            self.remove_torn_indexes(&heads)?;
        }
        let segments = if found.unrecovered || found.failed {
            self.after_machine_crash(control, heads, found)?
        } else {
            self.same_boot(control, heads, found.torn)?
        };
        self.remove_stale_indexes(&segments.0)?;
        Ok(segments)
    }

    /// Files that only a crash leaves.
    fn remove_leftovers(&self) -> Result<()> {
        for entry in self.platform.list(self.names.dir())? {
            if names::is_leftover(&entry.name) {
                self.platform.remove(&self.names.dir().join(entry.name))?;
            }
        }
        Ok(())
    }

    /// Indexes are never synced, not even when a queue is closed.
    fn remove_torn_indexes(&self, heads: &[Head]) -> Result<()> {
        for head in heads {
            let path = self.names.index(head.id);
            if self.platform.exists(&path)? && !index::check(self.platform, &path, &head.header).1.is_empty() {
                self.platform.remove(&path)?;
            }
        }
        Ok(())
    }

    fn remove_stale_indexes(&self, live: &VecDeque<Live<P>>) -> Result<()> {
        for entry in self.platform.list(&self.names.index_dir())? {
            if names::index_id(&entry.name).is_some_and(|id| !live.iter().any(|live| live.id == id)) {
                self.platform.remove(&self.names.index_dir().join(entry.name))?;
            }
        }
        Ok(())
    }

    fn open_map(&self, id: u64, len: u32) -> Result<(P::File, Arc<P::MapMut>)> {
        let file = self.platform.open(&self.names.segment(id), Open::Write)?;
        let map = Arc::new(self.platform.map_mut(&file, len as usize)?);
        Ok((file, map))
    }

    /// A begin field that a crash tore, computed again from the first frame.
    fn repair_begin(&self, head: &mut Head) -> Result<()> {
        if head.begin.is_some() {
            return Ok(());
        }
        let (_file, map) = self.open_map(head.id, head.header.segment_len)?;
        // Nothing is stored before that frame has proved to be this segment's.
        let first_seq = first_seq(&map.window_mut(), &head.header)
            .map_err(|damage| Error::damage(self.names.segment(head.id), damage))?;
        let begin = Begin { first_seq };
        store_begin(&*map, head.header.salt, begin);
        head.begin = Some(begin);
        Ok(())
    }

    /// Walks to a segment's tail from its last index entry, by commit words.
    fn scan(&self, head: &Head, map: &Arc<P::MapMut>) -> Result<Scanned<P>> {
        let path = self.names.segment(head.id);
        let places = index::load(self.platform, &self.names.index(head.id), &head.header);
        // The last entry first; where one leads nowhere, the one before, and in the end the segment's start.
        let starts = places.iter().rev().map(Some).chain([None]);
        let mut damage = None;
        for place in starts {
            let (reader, earlier) = match place {
                Some(place) => {
                    let times = (place.min_time, place.max_time);
                    (Reader::attach_at(map.clone(), place.offset, place.seq), times)
                }
                None => (Reader::attach(map.clone()), NO_TIMES),
            };
            let walked = reader.and_then(|mut reader| {
                loop {
                    match reader.step()? {
                        Step::Frame(_) => {}
                        Step::Open => return Ok((reader, None)),
                        Step::End { next_seq } => return Ok((reader, Some(next_seq))),
                    }
                }
            });
            match walked {
                Ok((reader, end)) => return Ok((reader, earlier, end)),
                Err(found) => damage = Some(found),
            }
        }
        Err(Error::damage(path, damage.expect("bug: at least the start was tried")))
    }

    /// Stores `End` where the reader stands, and the seal.
    fn end(&self, reader: &Reader<Arc<P::MapMut>>, earlier: (u64, u64)) {
        let mut log = Appender::resume(reader.region().clone(), &reader.mark());
        log.end();
        self.seal(reader, earlier);
    }

    fn seal(&self, reader: &Reader<Arc<P::MapMut>>, earlier: (u64, u64)) {
        let seal = reader.mark().including(earlier.0, earlier.1).seal().expect("bug: all times were included");
        store_seal(&**reader.region(), reader.header().salt, seal);
    }

    /// The process died, or everything was synced: what the commit words say is so.
    fn same_boot(&mut self, control: &mut ControlFile<P>, mut heads: Vec<Head>, torn: bool) -> Result<Segments<P>> {
        let Some(mut newest) = heads.iter().rposition(|head| head.begin.is_some()) else {
            // Nothing was ever appended: what is there was prepared at most.
            self.remove(&heads)?;
            return self.first(control, None, torn, VecDeque::new());
        };
        for head in &mut heads[..newest] {
            self.repair_begin(head)?;
        }
        self.end_predecessor(&heads, newest)?;
        self.lost = self.lost_behind(control, &heads, newest);
        if self.lost.is_some() {
            return self.after_loss(control, heads, newest, torn);
        }
        let (mut file, mut map) = self.open_map(heads[newest].id, heads[newest].header.segment_len)?;
        let (mut reader, mut earlier, end) = self.scan(&heads[newest], &map)?;
        if let Some(next_seq) = end {
            self.seal(&reader, earlier);
            // Its successor's begin was stored before this End. A crash of the machine after `close`, or a flipped bit,
            // can have taken it; or recovery stopped between ending this segment and making the next.
            let continues = heads[newest].header.epoch == control.state.epoch
                && heads.get(newest + 1).is_some_and(|next| next.header.predecessor_id == heads[newest].id);
            if !continues {
                self.remove(&heads.split_off(newest + 1))?;
                let seq = if heads[newest].header.epoch == control.state.epoch { Some(next_seq) } else { None };
                let last = heads[newest];
                let live = self.live_of(&heads, control);
                return self.next_of(control, Some((last.id, reader.mark().offset())), seq, torn, live);
            }
            newest += 1;
            (file, map) = self.open_map(heads[newest].id, heads[newest].header.segment_len)?;
            let begin = Begin { first_seq: next_seq };
            store_begin(&*map, heads[newest].header.salt, begin);
            heads[newest].begin = Some(begin);
            (reader, earlier, _) = self.scan(&heads[newest], &map)?;
        }
        let mark = reader.mark().including(earlier.0, earlier.1);
        drop(reader);
        drop(map);
        // An append in progress had stored its seq behind the open commit word; frames that a recycled segment still
        // holds there have older ones.
        let prepared = heads.split_off(newest + 1);
        let head = heads[newest];
        let mut live = self.live_of(&heads, control);
        let segment = Segment::adopt(self.platform, self.names, &head.header, &file, IndexUse::Keep)?;
        if segment.map.window_mut().load64(mark.offset() as usize + 8) == mark.next_seq() {
            self.counters.aborted_records += 1;
        }
        let current = live.len() - 1;
        live[current].segment = Some(Arc::new(segment));
        live[current].file = Some(file);
        live[current].durable = false;
        self.adopt_prepared(&mut live, &prepared, &head.header)?;
        let bound = mark.next_seq().saturating_add(self.bound_of(&live, current));
        let last = live.back().map_or(0, |live| live.id);
        control.state.seq_bound = control.state.seq_bound.max(bound);
        control.state.last_segment = control.state.last_segment.max(last);
        Ok((live, current, mark))
    }

    /// A segment behind the newest one that has begun which is not there, although it was.
    fn lost_behind(&self, control: &ControlFile<P>, heads: &[Head], newest: usize) -> Option<MissingSegment> {
        let last = heads[newest].id;
        let is_lost = |id: u64| id > last && heads.iter().all(|head| head.id != id);
        let synced = control.state.synced.segment;
        let follower = heads[newest + 1..].iter().find(|head| is_lost(head.header.predecessor_id.min(head.id)));
        let (id, evidence) = match follower {
            Some(head) => (head.header.predecessor_id, format!("segment {} follows it", head.id)),
            None if is_lost(synced) => (synced, "control.meta has the synced position in it".to_owned()),
            None => return None,
        };
        Some(MissingSegment::new(self.names, id, evidence))
    }

    /// Goes on behind the newest segment that is there, in an epoch of its own.
    fn after_loss(
        &mut self,
        control: &mut ControlFile<P>,
        mut heads: Vec<Head>,
        newest: usize,
        torn: bool,
    ) -> Result<Segments<P>> {
        let (_file, map) = self.open_map(heads[newest].id, heads[newest].header.segment_len)?;
        let (reader, earlier, end) = self.scan(&heads[newest], &map)?;
        match end {
            Some(_) => self.seal(&reader, earlier),
            None => self.end(&reader, earlier),
        }
        // First, for what is removed then is what tells of the loss.
        control.update(|state| state.epoch += 1)?;
        self.remove(&heads.split_off(newest + 1))?;
        let live = self.live_of(&heads, control);
        self.next_of(control, Some((heads[newest].id, reader.mark().offset())), None, torn, live)
    }

    /// Removes segments, the youngest first: at no time one is left that follows another which is not there.
    fn remove(&self, heads: &[Head]) -> Result<()> {
        for head in heads.iter().rev() {
            self.platform.remove(&self.names.segment(head.id))?;
        }
        Ok(())
    }

    /// Seqs that the segments from `current` on can hold.
    fn bound_of(&self, live: &VecDeque<Live<P>>, current: usize) -> u64 {
        live.iter().skip(current).map(|live| u64::from(live.len / FRAME_ALIGN as u32)).sum()
    }

    /// A writer that died between storing the newest segment's begin and ending the one before.
    fn end_predecessor(&self, heads: &[Head], newest: usize) -> Result<()> {
        let Some(before) = newest.checked_sub(1).map(|at| &heads[at]) else { return Ok(()) };
        if before.id != heads[newest].header.predecessor_id || before.seal.is_some() {
            return Ok(());
        }
        let (_file, map) = self.open_map(before.id, before.header.segment_len)?;
        let (reader, earlier, end) = self.scan(before, &map)?;
        match end {
            Some(_) => self.seal(&reader, earlier),
            None => {
                let (expected, found) =
                    (reader.mark().next_seq(), heads[newest].begin.map_or(0, |begin| begin.first_seq));
                if expected != found {
                    let damage = Damage::at(80, Fault::Seq { expected, found });
                    return Err(Error::damage(self.names.segment(heads[newest].id), damage));
                }
                self.end(&reader, earlier);
            }
        }
        Ok(())
    }

    /// Begun segments, as kept.
    fn live_of(&self, heads: &[Head], control: &ControlFile<P>) -> VecDeque<Live<P>> {
        let newest = heads.last().map_or(0, |head| head.id);
        heads
            .iter()
            .map(|head| Live {
                id: head.id,
                len: head.header.segment_len,
                first_seq: head.begin.map_or(0, |begin| begin.first_seq),
                ended: head.id != newest,
                lost: false,
                durable: head.id < control.state.synced.segment,
                segment: None,
                file: None,
            })
            .collect()
    }

    /// Segments that were prepared and never begun: taken over where they fit, removed where not.
    fn adopt_prepared(&self, live: &mut VecDeque<Live<P>>, prepared: &[Head], current: &Header) -> Result<()> {
        let mut before = current.segment_id;
        let mut fits = |head: &Head| {
            let header = &head.header;
            let follows = header.predecessor_id == before;
            before = head.id;
            follows
                && header.epoch == current.epoch
                && header.segment_len == self.options.segment_len
                && header.checksum == self.options.checksum
                && header.clock == self.options.clock
        };
        let fitting = prepared.iter().take_while(|head| fits(head)).count();
        self.remove(&prepared[fitting..])?;
        for head in &prepared[..fitting] {
            let header = &head.header;
            let path = self.names.segment(head.id);
            let file = self.platform.open(&path, Open::Write)?;
            let segment = Segment::adopt(self.platform, self.names, header, &file, IndexUse::Fresh)?;
            // A begin field that is not whole would stay: prepared means that it is zero and the first slot open.
            segment.map.window_mut().store(HEADER_LEN, 0);
            live.push_back(Live {
                id: head.id,
                len: header.segment_len,
                first_seq: 0,
                ended: false,
                lost: false,
                durable: false,
                segment: Some(Arc::new(segment)),
                file: Some(file),
            });
        }
        Ok(())
    }

    /// A segment for a queue that has none that could go on.
    fn first(
        &self,
        control: &mut ControlFile<P>,
        first_seq: Option<u64>,
        torn: bool,
        live: VecDeque<Live<P>>,
    ) -> Result<Segments<P>> {
        // Segment 1 stays until another has begun: if there is none of either, nothing was ever appended.
        let fresh = control.state.last_segment <= 1;
        self.next_of(control, None, first_seq.or(fresh.then_some(1)), torn, live)
    }

    /// A new segment behind `before` (id, accepted end), begun at once. Without `first_seq`, seqs go on behind the bound.
    fn next_of(
        &self,
        control: &mut ControlFile<P>,
        before: Option<(u64, u32)>,
        first_seq: Option<u64>,
        torn: bool,
        mut live: VecDeque<Live<P>>,
    ) -> Result<Segments<P>> {
        for live in &mut live {
            live.ended = true;
        }
        let per_segment = u64::from(self.options.segment_len / FRAME_ALIGN as u32);
        // A torn slot may have held a bound that was higher by what one update raises it.
        let slack = if torn { per_segment * u64::from(self.options.segments_ahead + 2) } else { 0 };
        let first_seq = match first_seq {
            Some(seq) => seq,
            None => control.state.seq_bound.saturating_add(slack).saturating_add(1),
        };
        let last = live.back().map_or(0, |live| live.id);
        let id = control.state.last_segment.max(last) + 1;
        let announce = |control: &mut ControlFile<P>| {
            control.update(|state| {
                state.last_segment = id;
                state.seq_bound = state.seq_bound.max(first_seq.saturating_add(per_segment));
            })
        };
        let spec = Spec {
            queue_id: control.queue_id,
            segment_id: id,
            epoch: control.state.epoch,
            salt: salt(self.platform),
            predecessor_id: before.map_or(0, |before| before.0),
            predecessor_end: before.map_or(0, |before| before.1),
            created_ns: self.platform.now_ns(),
            segment_len: self.options.segment_len,
            clock: self.options.clock,
            checksum: self.options.checksum,
        };
        let begin = Some(Begin { first_seq });
        let (segment, file) =
            Segment::make(self.platform, self.names, &spec, begin, self.making, || announce(control))?;
        let mark =
            Reader::attach(segment.map.clone()).map_err(|damage| Error::damage(self.names.segment(id), damage))?.mark();
        live.push_back(Live {
            id,
            len: self.options.segment_len,
            first_seq,
            ended: false,
            lost: false,
            durable: false,
            segment: Some(Arc::new(segment)),
            file: Some(file),
        });
        // Published means synced: everything before it is as durable as it will ever be.
        let synced = Synced { segment: id, offset: HEADER_LEN as u32, seq: first_seq };
        if live.iter().all(|live| live.durable || live.id == id) {
            control.state.synced = synced;
        }
        let current = live.len() - 1;
        Ok((live, current, mark))
    }

    /// The machine died, or a sync failed: pages are of any age.
    fn after_machine_crash(
        &mut self,
        control: &mut ControlFile<P>,
        mut heads: Vec<Head>,
        found: Found,
    ) -> Result<Segments<P>> {
        let synced = control.state.synced;
        let start = match heads.iter().position(|head| head.id == synced.segment) {
            Some(at) => Some(at),
            // What was synced has retired since.
            None => heads.iter().position(|head| head.id > synced.segment && head.begin.is_some()),
        };
        let mut dead = Vec::new();
        let accepted = match start {
            Some(start) => {
                // What was synced has its begin field, or a frame that proves it. Behind that, a segment whose first
                // sector never got there says nothing of what it holds.
                for head in heads[..start].iter_mut().filter(|head| head.id < synced.segment) {
                    self.repair_begin(head)?;
                }
                dead.extend(heads.extract_if(..start, |head| head.begin.is_none()));
                let start = start - dead.len();
                Some(self.accept(&mut heads, start, synced)?)
            }
            None => None,
        };
        // Behind the accepted end nothing is the stream's.
        dead.extend(heads.split_off(accepted.as_ref().map_or(0, |accepted| accepted.at + 1)));
        self.counters.cut_bytes = self.cut(accepted.as_ref(), &heads, &dead);
        if let Some(accepted) = &accepted
            && !found.failed
        {
            for head in &heads[accepted.from..] {
                self.platform.open(&self.names.segment(head.id), Open::Write)?.sync()?;
            }
        }
        dead.sort_unstable_by_key(|head| head.id);
        self.remove(&dead)?;
        // Indexes of cut segments may lead behind the cut.
        let from = accepted.as_ref().map_or(0, |accepted| accepted.from);
        for head in &heads[from..] {
            let path = self.names.index(head.id);
            if self.platform.exists(&path)? {
                self.platform.remove(&path)?;
            }
        }
        let last_seen = dead.iter().chain(&heads).map(|head| head.id).max().unwrap_or(0);
        self.platform.sync_dir(self.names.dir())?;
        let mut before = None;
        let mut next_seq = 1;
        if let Some(Accepted { from, reader, ended, at, ends, .. }) = &accepted {
            let mark = reader.mark();
            // In the old file even if it is to be replaced: readers that stand in it go on from there.
            match ended {
                true => self.seal(reader, NO_TIMES),
                false => self.end(reader, NO_TIMES),
            }
            if found.failed {
                for (head, end) in heads[*from..].iter().zip(ends) {
                    self.replace(head, *end)?;
                }
            } else {
                self.platform.open(&self.names.segment(heads[*at].id), Open::Write)?.sync()?;
            }
            before = Some((heads[*at].id, mark.offset()));
            next_seq = mark.next_seq();
        }
        let boot_id = self.platform.boot_id();
        let per_segment = u64::from(self.options.segment_len / FRAME_ALIGN as u32);
        let slack = if found.torn { per_segment * u64::from(self.options.segments_ahead + 2) } else { 0 };
        let first_seq = match accepted {
            // As in `first`: the first segment is durable before anything is appended to it.
            None if control.state.last_segment <= 1 => 1,
            _ => control.state.seq_bound.saturating_add(slack).max(next_seq - 1) + 1,
        };
        control.update(|state| {
            state.epoch += 1;
            state.boot_id = boot_id;
            state.last_segment = state.last_segment.max(last_seen);
            state.seq_bound = first_seq - 1;
        })?;
        let mut live = self.live_of(&heads, control);
        for live in &mut live {
            live.durable = true;
        }
        self.next_of(control, before, Some(first_seq), false, live)
    }

    /// Puts a copy of a segment that ends at `end` in its place: other blocks, synced before anybody finds them.
    fn replace(&self, head: &Head, end: u32) -> Result<()> {
        let (_, map) = self.open_map(head.id, head.header.segment_len)?;
        let fresh = self.names.fresh(head.id);
        let copied = (|| {
            let file = self.platform.open(&fresh, Open::Create)?;
            file.allocate(head.header.segment_len.into())?;
            let len = end as usize + FRAME_HEADER_LEN;
            let mut chunk = vec![0; len.min(COPIED_AT_ONCE)];
            for at in (0..len).step_by(COPIED_AT_ONCE) {
                let chunk = &mut chunk[..COPIED_AT_ONCE.min(len - at)];
                map.window_mut().copy_out(at, chunk);
                file.write_at(chunk, at as u64)?;
            }
            self.platform.publish(&file, &fresh, &self.names.segment(head.id))
        })();
        if copied.is_err() {
            // Gives back what space it took. If not even that works, the next opening does.
            _ = self.platform.remove(&fresh);
        }
        Ok(copied?)
    }

    /// How many bytes of frames are cut, as far as anything that survived tells where there were some.
    fn cut(&self, accepted: Option<&Accepted<P>>, heads: &[Head], dead: &[Head]) -> u64 {
        let known_end = |head: &Head| {
            let places = index::load(self.platform, &self.names.index(head.id), &head.header);
            let indexed = places.iter().map(|place| u64::from(place.offset)).max().unwrap_or(0);
            let sealed = head.seal.map_or(0, |seal| seal.end);
            indexed.max(sealed).clamp(HEADER_LEN as u64, head.header.segment_len.into())
        };
        let behind: u64 = match accepted {
            Some(Accepted { reader, at, cut, .. }) => {
                let end = u64::from(reader.mark().offset());
                known_end(&heads[*at]).max(end + cut) - end
            }
            None => 0,
        };
        dead.iter().map(|head| known_end(head) - HEADER_LEN as u64).sum::<u64>() + behind
    }

    /// Checks every frame from the synced position on, segment after segment, as far as the chain is whole.
    fn accept(&self, heads: &mut [Head], start: usize, synced: Synced) -> Result<Accepted<P>> {
        let mut at = start;
        self.repair_begin(&mut heads[at])?;
        let path = self.names.segment(heads[at].id);
        let (_, map) = self.open_map(heads[at].id, heads[at].header.segment_len)?;
        let refuse = |damage| Error::damage(&path, damage);
        let mut reader = Reader::attach(map).map_err(refuse)?;
        if heads[at].id == synced.segment {
            // What was synced is there: if not, no crash did that.
            while reader.mark().offset() < synced.offset {
                let at = reader.mark().offset();
                if !matches!(reader.step().map_err(refuse)?, Step::Frame(_)) {
                    let fault = Fault::End { expected: synced.offset.into(), found: at.into() };
                    return Err(refuse(Damage::at(at.into(), fault)));
                }
            }
            let mark = reader.mark();
            if (mark.offset(), mark.next_seq()) != (synced.offset, synced.seq) {
                let fault = Fault::Seq { expected: synced.seq, found: mark.next_seq() };
                return Err(refuse(Damage::at(mark.offset().into(), fault)));
            }
        }
        let mut ends = Vec::new();
        loop {
            let (end, cut) = verified_end(&mut reader);
            ends.push(reader.mark().offset());
            let here = Accepted { from: start, at, ended: end.is_some(), cut, ends, reader };
            let Some(next_seq) = end else { return Ok(here) };
            // The newest segment that names this one: an older one was given up by an earlier recovery.
            let Some(next) =
                (at + 1..heads.len()).rev().find(|next| heads[*next].header.predecessor_id == heads[at].id)
            else {
                return Ok(here);
            };
            // Only the last of a chain of consecutive ids can follow; anything between belongs to nobody.
            if next != at + 1 {
                heads[at + 1..=next].rotate_right(1);
            }
            let head = heads[at + 1];
            let (_, map) = self.open_map(head.id, head.header.segment_len)?;
            match head.begin {
                Some(begin) if begin.first_seq == next_seq => {}
                Some(begin) if begin.first_seq > next_seq && head.header.epoch > heads[at].header.epoch => {}
                // Torn with the page that it stands in, or of a segment that never began.
                _ => {
                    let begin = Begin { first_seq: next_seq };
                    store_begin(&*map, head.header.salt, begin);
                    heads[at + 1].begin = Some(begin);
                }
            }
            let Ok(next) = Reader::attach(map) else { return Ok(here) };
            (reader, ends) = (next, here.ends);
            at += 1;
        }
    }
}

/// How far a queue is whole after a crash of the machine.
struct Accepted<P: Platform> {
    from: usize,
    at: usize,
    /// Its segment has its `End` already.
    ended: bool,
    /// Bytes of the frame that was torn.
    cut: u64,
    /// Where each segment from `from` on ends.
    ends: Vec<u32>,
    reader: Reader<Arc<P::MapMut>>,
}

/// Bytes of a segment that are copied at once.
const COPIED_AT_ONCE: usize = 1 << 20;

/// The seq of a segment's first frame, checked by itself.
fn first_seq(window: &Window<'_>, header: &Header) -> std::result::Result<u64, Damage> {
    let absent = Damage::at(80, Fault::Field { name: "begin.first_seq", found: 0 });
    let at = HEADER_LEN as u64;
    let left = u64::from(header.segment_len) - at - FRAME_HEADER_LEN as u64;
    let mut bytes = vec![0; FRAME_HEADER_LEN];
    window.copy_out(HEADER_LEN, &mut bytes);
    if let Decoded::More { needed } = decode(&bytes, at, left, header.salt, header.checksum)? {
        bytes.resize(needed, 0);
        window.copy_out(HEADER_LEN, &mut bytes);
    }
    match decode(&bytes, at, left, header.salt, header.checksum)? {
        Decoded::Frame { header, .. } if header.seq.get() != 0 => Ok(header.seq.get()),
        Decoded::End { next_seq } if next_seq != 0 => Ok(next_seq),
        _ => Err(absent),
    }
}

/// Walks verified frames; the seq behind `End` if it is there, and how many bytes a bad frame claims to take.
fn verified_end<R: Region>(reader: &mut Reader<R>) -> (Option<u64>, u64) {
    if reader.header().checksum == Checksum::CommitWord {
        // Commit words prove nothing about pages of any age.
        return (None, 0);
    }
    loop {
        match reader.step_verified() {
            Ok(Step::Frame(_)) => {}
            Ok(Step::Open) => return (None, 0),
            Ok(Step::End { next_seq }) => return (Some(next_seq), 0),
            Err(_) => {
                let mark = reader.mark();
                let commit = reader.region().window().load(mark.offset() as usize);
                let left = u64::from(reader.header().segment_len - mark.offset());
                let claimed = if commit == COMMIT_END { 32 } else { u64::from(commit).saturating_add(31) };
                return (None, claimed.min(left));
            }
        }
    }
}
