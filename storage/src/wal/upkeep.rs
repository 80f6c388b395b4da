//! Segments made ahead, published, and used again.
//!
//! A *spare* is a file of full length, every byte of it written and synced: a write into it later changes nothing that a
//! file system would have to note, which is what makes a durable write one write. Making one takes as long as writing a
//! segment, so it is done ahead; publishing one is a block, two syncs and a rename. A log that syncs on commit only has
//! no durable writes: its spares are allocated and not written.
//!
//! ```text
//! making:      spare-{n}.tmp   allocate ─ fill ─ sync ─ rename ─▶ spare-{n}.spare
//! publishing:  header block into it ─ sync ─ rename ─▶ {id}.wal ─ sync the directory ─ driver opens it
//! recycling:   {id}.wal ─ rename ─▶ spare-{n}.spare ─ sync the directory         (removed, if there are enough)
//! ```
//!
//! Old frames in a spare mean nothing: each segment has a salt of its own. A disk that is full is found out here, while the
//! log still has room in the segments that it has, and told to the appends that would need more.

use super::{
    SyncPolicy,
    names::Names,
    writer::{AppendError, Core, Guard, Shared, Take, Word},
};
use crate::{Error, Result};
use chronicle_core::wal::{Header, Op, Outcome, RetireError};
use chronicle_platform::{File, Open, Platform, TroubleKind, WalDriver};
use std::{path::PathBuf, sync::Arc};

/// A segment that has a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) id: u64,
    /// Number of its first frame.
    pub(super) first_seq: u64,
    pub(super) len: u64,
}

/// A file that is ready to become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spare {
    pub(super) path: PathBuf,
    /// It was a segment before.
    pub(super) recycled: bool,
}

/// Bytes that are filled and synced at a time, so that what is urgent need not wait for a whole spare.
const STRETCH: u64 = 4 << 20;
/// Segments behind the newest that are open, not durable to their end, before a log that syncs on commit only is told to sync,
const OPEN_MANY: u64 = 8;
/// and before appends wait: a driver has room for 16.
pub(super) const OPEN_MAX: u64 = 12;
/// Tries to publish a segment, each with another spare.
const TRIES: u32 = 3;

/// Makes a file of `len` bytes under its final name for spares, all of them written if writes will carry their syncs;
/// between stretches, `pause` may do something else.
fn make_spare<P: Platform>(
    platform: &P,
    names: &Names,
    n: u64,
    len: u64,
    policy: SyncPolicy,
    mut pause: impl FnMut(),
) -> Result<Spare> {
    let (making, path) = (names.making_spare(n), names.spare(n));
    let file = platform.open(&making, Open::Create)?;
    let made = (|| {
        file.allocate(len)?;
        // One sync for a whole commit notes what was written first as cheaply as the bytes themselves.
        let mut at = if policy == SyncPolicy::OnCommit { len } else { 0 };
        while at < len {
            let to = len.min(at + STRETCH);
            file.fill(at, to)?;
            file.sync()?;
            at = to;
            pause();
        }
        platform.rename(&making, &path)
    })();
    match made {
        Ok(()) => Ok(Spare { path, recycled: false }),
        Err(trouble) => {
            // It takes space for nothing.
            _ = platform.remove(&making);
            Err(trouble.into())
        }
    }
}

/// What went wrong with a spare that was to become a segment.
enum Failed {
    /// Another one may do.
    Spare(Error),
    /// What the directory holds is unknown.
    Log(Error),
}

/// Makes a spare the segment that `header` names.
fn publish<P: Platform>(shared: &Shared<P>, spare: &Spare, mut header: Header) -> std::result::Result<(), Failed> {
    let platform = &shared.platform;
    let path = shared.names.segment(header.segment_id);
    header.created_ns = platform.now_ns();
    let prepared = (|| {
        let file = platform.open(&spare.path, Open::Write)?;
        file.write_at(&header_block(&header), 0)?;
        file.sync()?;
        platform.rename(&spare.path, &path)
    })();
    prepared.map_err(|trouble| Failed::Spare(trouble.into()))?;
    platform.sync_dir(shared.names.dir()).map_err(|trouble| Failed::Log(trouble.into()))?;
    shared.driver.attach(header.segment_id, &path).map_err(|trouble| Failed::Log(trouble.into()))
}

/// A segment's first block.
pub(super) fn header_block(header: &Header) -> Vec<u8> {
    let mut block = vec![0; header.block_size as usize];
    let bytes = header.to_bytes();
    block[..bytes.len()].copy_from_slice(&bytes);
    block
}

/// Carries out what changes names. At the end nothing of it is left.
pub(super) fn chores<'a, P: Platform>(shared: &'a Shared<P>, mut core: Guard<'a, P>) -> Guard<'a, P> {
    if core.at_work {
        return core;
    }
    core.at_work = true;
    while let Some(op) = core.chores.pop_front() {
        core = match op {
            Op::Prepare { header, .. } => prepare(shared, core, &op, header),
            Op::Recycle { segment, .. } => recycle(shared, core, &op, segment),
            Op::Sync { .. } => sync(shared, core, &op),
            Op::Write { .. } => unreachable!("the driver has these"),
        };
        core = close_unused(shared, core);
        shared.publish(&mut core);
        retire(&mut core, shared.options.retain_bytes);
        if core.retire_due && core.chores.is_empty() && core.take_lead() {
            // The next segment goes as well, though nobody may come who leads.
            core = shared.hand_out_names(core);
            shared.leave(core);
            core = shared.lock();
        }
    }
    core.at_work = false;
    core = tell_room(shared, core);
    core
}

/// Those who wait for room or for a segment look again.
fn tell_room<'a, P: Platform>(shared: &'a Shared<P>, core: Guard<'a, P>) -> Guard<'a, P> {
    if core.room_sleepers == 0 {
        return core;
    }
    shared.bump(&core, Word::Room);
    drop(core);
    shared.wake(Word::Room);
    shared.lock()
}

fn prepare<'a, P: Platform>(shared: &'a Shared<P>, mut core: Guard<'a, P>, op: &Op, header: Header) -> Guard<'a, P> {
    for attempt in 1.. {
        let spare = core.spares.pop_front();
        let n = core.next_spare;
        core.next_spare += 1;
        drop(core);
        let spare = match spare {
            Some(spare) => Ok(spare),
            // An append saw one, and it was no good.
            None => make_spare(&shared.platform, &shared.names, n, shared.segment_len, shared.options.sync, || ())
                .map_err(Failed::Spare),
        };
        let done = spare.and_then(|spare| match publish(shared, &spare, header) {
            Ok(()) => Ok(spare.recycled),
            Err(failed) => {
                if let Failed::Spare(_) = failed {
                    // Its sync failed, or its name is gone: not to be used again.
                    _ = shared.platform.remove(&spare.path);
                }
                Err(failed)
            }
        });
        core = shared.lock();
        match done {
            Ok(recycled) => {
                core.machine.complete(op.id(), Outcome::Done(0));
                core.published = header.segment_id;
                core.live.push_back(Live {
                    id: header.segment_id,
                    first_seq: header.first_seq,
                    len: header.segment_len,
                });
                core.stats.rolls += 1;
                core.stats.recycled += u64::from(recycled);
                core.retire_refused = false;
                // A segment that has ended becomes durable, asked for or not, so that its file can be closed; and with it what
                // the new one repeats, so that older ones can be retired. Who wants syncs for commits only has some open.
                if shared.options.sync != SyncPolicy::OnCommit || core.open_behind() >= OPEN_MANY {
                    core.machine.demand(header.first_seq);
                }
                return core;
            }
            Err(Failed::Spare(error)) if attempt < TRIES && !core.machine.is_poisoned() => {
                core.spare_trouble = Some(Arc::new(error));
            }
            // Nobody shall wait for what may never come: those who commit are told.
            Err(Failed::Spare(error) | Failed::Log(error)) => {
                core.machine.complete(op.id(), Outcome::Failed(errno(&error)));
                core.fail(error);
                return core;
            }
        }
    }
    unreachable!("the last attempt returns")
}

/// A sync that nobody waited for when it was taken out: somebody may by now.
fn sync<'a, P: Platform>(shared: &'a Shared<P>, core: Guard<'a, P>, op: &Op) -> Guard<'a, P> {
    drop(core);
    let taken = shared.driver.submit(op);
    let mut core = shared.lock();
    if let Err(trouble) = taken {
        core.completed(&shared.names, op.id(), Outcome::Failed(trouble.errno().unwrap_or(0)), Some(trouble));
        shared.publish(&mut core);
    }
    core = shared.take_in(core, false);
    core.leaders += 1;
    shared.leave(core);
    shared.lock()
}

fn recycle<'a, P: Platform>(shared: &'a Shared<P>, mut core: Guard<'a, P>, op: &Op, segment: u64) -> Guard<'a, P> {
    let at = core.live.iter().position(|live| live.id == segment);
    let len = at.map(|at| core.live[at].len);
    // One more than are made: then a log that retires as it goes makes none any more.
    let keep = len == Some(shared.segment_len) && core.spares.len() <= shared.options.spares as usize;
    let n = core.next_spare;
    core.next_spare += 1;
    let attached = core.attached <= segment;
    // Ours to close from here on.
    core.attached = core.attached.max(segment + 1);
    drop(core);
    let platform = &shared.platform;
    let (from, to) = (shared.names.segment(segment), shared.names.spare(n));
    let detached = if attached { shared.driver.detach(segment) } else { Ok(()) };
    let attached = attached && detached.is_err();
    let gone = detached.and_then(|()| if keep { platform.rename(&from, &to) } else { platform.remove(&from) });
    let done = match gone {
        Ok(()) => platform.sync_dir(shared.names.dir()).map_err(|trouble| Failed::Log(trouble.into())),
        Err(trouble) => Err(Failed::Spare(trouble.into())),
    };
    let mut core = shared.lock();
    if attached {
        // Refused: it is still open.
        core.attached = core.attached.min(segment);
    }
    match done {
        Ok(()) => {
            core.machine.complete(op.id(), Outcome::Done(0));
            if let Some(at) = at {
                core.live.remove(at);
            }
            core.stats.retired += 1;
            if keep {
                core.spares.push_back(Spare { path: to, recycled: true });
            }
        }
        // It has its name yet and is the log's oldest: a newer one that went first would leave a gap behind it.
        Err(Failed::Spare(error)) => {
            core.machine.complete(op.id(), Outcome::Failed(errno(&error)));
            core.retire_refused = true;
            core.spare_trouble = Some(Arc::new(error));
        }
        // Were the next one to go, this one might come back after a crash, and not that one.
        Err(Failed::Log(error)) => {
            core.machine.complete(op.id(), Outcome::Failed(errno(&error)));
            core.fail(error);
        }
    }
    core
}

fn errno(error: &Error) -> i32 {
    match error {
        Error::Trouble(trouble) => trouble.errno().unwrap_or(0),
        _ => 0,
    }
}

/// Closes the files of segments that nothing is written to any more.
fn close_unused<'a, P: Platform>(shared: &'a Shared<P>, mut core: Guard<'a, P>) -> Guard<'a, P> {
    while core.attached < core.machine.oldest_in_use().min(core.published) {
        let segment = core.attached;
        core.attached += 1;
        drop(core);
        // Refused only while an outcome is on its way; then it stays open until the log is closed.
        _ = shared.driver.detach(segment);
        core = shared.lock();
    }
    core
}

/// Asks for the oldest segment to be retired, if nobody needs it.
pub(super) fn retire<P: Platform>(core: &mut Core<P>, retain_bytes: Option<u64>) -> bool {
    let (Some(oldest), Some(next)) = (core.live.front(), core.live.get(1)) else { return false };
    if core.retire_refused {
        return false;
    }
    let over = |max| core.live.iter().map(|live| live.len).sum::<u64>() > max;
    if next.first_seq > core.truncate_to && !retain_bytes.is_some_and(over) {
        return false;
    }
    let due = match core.machine.retire(oldest.id, next.first_seq) {
        Ok(()) => true,
        Err(RetireError::NotDurable | RetireError::NotCarried) => {
            // Perhaps nobody else will ever ask for what this takes.
            let first_seq = core.live.back().map_or(0, |newest| newest.first_seq);
            core.machine.demand(first_seq);
            false
        }
        // It is asked again when the log has moved.
        Err(_) => false,
    };
    core.retire_due |= due;
    due
}

impl<P: Platform> Shared<P> {
    pub(super) fn truncate_before(&self, seq: u64) {
        let mut core = self.lock();
        core.truncate_to = core.truncate_to.max(seq);
        core.retire_refused = false;
        let due = retire(&mut core, self.options.retain_bytes);
        // What has to be durable first is upkeep's to sync, if there is one.
        let sync = !due && self.ends_in_submit() && self.has_threads();
        if (due || sync) && core.take_lead() {
            core = if due { self.hand_out_names(core) } else { self.hand_out_some(core, Take::All).1 };
            self.leave(core);
        }
    }

    /// What the thread that prepares segments does, as long as the log is open.
    pub(super) fn keep_up(&self) {
        let mut core = self.lock();
        loop {
            core = chores(self, core);
            if core.stop {
                return;
            }
            let seen = self.look(&core, Word::Upkeep);
            if core.spares.len() < self.options.spares as usize && !core.machine.is_poisoned() {
                let (made, guard) = self.add_spare(core);
                core = guard;
                if made || core.stop {
                    continue;
                }
            }
            drop(core);
            self.sleep(Word::Upkeep, seen);
            core = self.lock();
        }
    }

    /// Makes one more spare; says whether that went well.
    fn add_spare<'a>(&'a self, mut core: Guard<'a, P>) -> (bool, Guard<'a, P>) {
        let n = core.next_spare;
        core.next_spare += 1;
        drop(core);
        let made = make_spare(&self.platform, &self.names, n, self.segment_len, self.options.sync, || {
            // Somebody's commit may wait for a segment that is ready.
            drop(chores(self, self.lock()));
        });
        core = self.lock();
        let well = made.is_ok();
        match made {
            Ok(spare) => {
                core.spares.push_back(spare);
                core.spare_trouble = None;
            }
            Err(error) => core.spare_trouble = Some(Arc::new(error)),
        }
        (well, tell_room(self, core))
    }
}

/// An append of so many bytes needs a segment, and there is no file for it.
pub(super) fn await_spare<'a, P: Platform>(
    shared: &'a Shared<P>,
    mut core: Guard<'a, P>,
    len: usize,
    patient: bool,
) -> std::result::Result<Guard<'a, P>, AppendError> {
    if core.open_behind() >= OPEN_MAX {
        core.machine.demand_all();
        if core.take_lead() {
            core = shared.hand_out(core);
            core = shared.take_in(core, patient);
            core = close_unused(shared, core);
            shared.leave(core);
            core = shared.lock();
        }
        let waits = core.open_behind() >= OPEN_MAX && !core.machine.is_poisoned();
        return match (waits, patient) {
            (true, false) => Err(AppendError::Full),
            (true, true) => Ok(shared.await_room(core)),
            (false, _) => Ok(core),
        };
    }
    if core.machine.position().segment > core.published && !core.is_preparing() && core.take_lead() {
        // One has begun and nobody has asked for its file yet.
        core = shared.hand_out_names(core);
        shared.leave(core);
        return Ok(shared.lock());
    }
    if shared.has_threads() {
        // Upkeep looks at once, whatever it does; the next append finds what came of it.
        shared.bump(&core, Word::Upkeep);
        let refused = core.spare_trouble.as_deref().map(refusal);
        drop(core);
        shared.wake(Word::Upkeep);
        return match refused {
            Some(refused) => Err(refused),
            None if !patient => Err(AppendError::Full),
            None => {
                let core = shared.lock();
                // It may have come meanwhile.
                let waits = !core.has_file_for(len) && core.spare_trouble.is_none() && !core.machine.is_poisoned();
                Ok(if waits { shared.await_room(core) } else { core })
            }
        };
    }
    let (made, core) = shared.add_spare(core);
    if made { Ok(core) } else { Err(core.spare_trouble.as_deref().map_or(AppendError::PrepareFailed, refusal)) }
}

fn refusal(error: &Error) -> AppendError {
    match error {
        Error::Trouble(trouble) if trouble.kind() == TroubleKind::NoSpace => AppendError::NoSpace,
        _ => AppendError::PrepareFailed,
    }
}

/// As many spares as there should be, made here and now.
pub(super) fn maintain<P: Platform>(shared: &Shared<P>) -> Result<()> {
    let mut core = shared.lock();
    while core.spares.len() < shared.options.spares as usize && !core.machine.is_poisoned() {
        let (made, guard) = shared.add_spare(core);
        core = guard;
        if !made {
            let trouble = core.spare_trouble.clone();
            return trouble.map_or(Ok(()), |trouble| Err(Error::Wal(trouble)));
        }
    }
    Ok(())
}
