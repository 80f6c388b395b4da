//! By calls that block, in the thread that submits: what it submits has ended when `submit` returns.
//!
//! Past the page cache a write carries its sync (`pwritev2` with `RWF_DSYNC`): an error is that write's own. Through the page
//! cache a sync is a call of its own on the descriptor that wrote (`fdatasync`): it was open before the writes, so it is
//! told of every page that could not be written back, and told once.
//!
//! Several threads may be in calls at once; no lock is held meanwhile.

use super::{attached_twice, entry::failed, segment::Segment, segment_of, unattached};
use crate::{LinuxMapMut, sys};
use chronicle_core::{
    Region,
    wal::{Op, OpId, Outcome},
};
use chronicle_platform::{Result, Trouble, WalOptions};
use rustix::{
    fs::{Advice, fadvise, fdatasync},
    io::Errno,
};
use std::{
    collections::VecDeque,
    num::NonZeroU64,
    os::fd::AsFd,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The calls of one log.
#[derive(Debug)]
pub(super) struct Calls {
    memory: Arc<LinuxMapMut>,
    options: WalOptions,
    direct: bool,
    state: Mutex<State>,
    /// An operation has ended, or the last outcome was told.
    news: Condvar,
}

#[derive(Debug)]
struct State {
    segments: Vec<Arc<Open>>,
    /// Threads in a call.
    under_way: usize,
    ended: VecDeque<(u64, OpId, Outcome)>,
    /// Threads that sleep on `news`.
    sleeping: usize,
}

#[derive(Debug)]
struct Open {
    segment: Segment,
    cached: Cached,
}

/// Which pages of a segment may still be in the cache.
#[derive(Debug, Default)]
struct Cached {
    /// Given back up to here.
    from: AtomicU64,
    /// Written up to here.
    to: AtomicU64,
}

impl Calls {
    pub(super) fn new(memory: Arc<LinuxMapMut>, options: &WalOptions, direct: bool) -> Calls {
        // Room for what a machine has in flight at most, so that nothing is allocated later.
        let ended = VecDeque::with_capacity(2 * usize::from(options.depth));
        let state = State { segments: Vec::new(), under_way: 0, ended, sleeping: 0 };
        Calls { memory, options: options.clone(), direct, state: Mutex::new(state), news: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock can leave a half-changed state behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn attach(&self, id: u64, path: &Path) -> Result<()> {
        let segment = Segment::open(id, path, self.direct, self.options.block_size)?;
        let mut state = self.state();
        if state.segments.iter().any(|open| open.segment.id == id) {
            return Err(attached_twice(path));
        }
        state.segments.push(Arc::new(Open { segment, cached: Cached::default() }));
        Ok(())
    }

    pub(super) fn detach(&self, id: u64) -> Result<()> {
        let mut state = self.state();
        let found = state.segments.iter().position(|open| open.segment.id == id);
        let place = found.ok_or_else(|| unattached("detach", id))?;
        // A thread in a call holds another reference, which it takes and gives back under this lock.
        if Arc::strong_count(&state.segments[place]) > 1 || state.ended.iter().any(|(of, ..)| *of == id) {
            let note = "operations are in flight, or their outcomes have not been told";
            return Err(Trouble::new("detach", state.segments[place].segment.file.path(), Errno::BUSY).noting(note));
        }
        let open = state.segments.swap_remove(place);
        drop(state);
        if self.options.drop_cache && !self.direct {
            open.give_back(0);
        }
        Ok(())
    }

    pub(super) fn submit(&self, op: &Op) -> Result<()> {
        let Some(id) = segment_of(op) else { return self.options.check(op, Path::new("wal"), 0, 0) };
        let open = {
            let mut state = self.state();
            let found = state.segments.iter().find(|open| open.segment.id == id);
            let open = found.ok_or_else(|| unattached("submit", id))?.clone();
            self.options.check(op, open.segment.file.path(), self.memory.len(), open.segment.len)?;
            state.under_way += 1;
            open
        };
        let outcome = match *op {
            Op::Write { offset, from, len, sync, .. } => self.write(&open, offset, from, len, sync),
            _ => self.sync(&open),
        };
        let mut state = self.state();
        drop(open);
        state.under_way -= 1;
        state.ended.push_back((id, op.id(), outcome));
        self.tell(state);
        Ok(())
    }

    pub(super) fn reap(&self, wait: bool, done: &mut dyn FnMut(OpId, Outcome)) -> Result<usize> {
        let mut state = self.state();
        while wait && state.ended.is_empty() && state.under_way > 0 {
            state.sleeping += 1;
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeping -= 1;
        }
        let mut count = 0;
        while let Some((_, op, outcome)) = state.ended.pop_front() {
            count += 1;
            done(op, outcome);
        }
        // Perhaps there is nothing left for the others to wait for.
        self.tell(state);
        Ok(count)
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        let sleeping = state.sleeping;
        drop(state);
        if sleeping > 0 {
            self.news.notify_all();
        }
    }

    fn write(&self, open: &Open, offset: u64, from: usize, len: u32, sync: bool) -> Outcome {
        let fd = open.segment.file.as_fd();
        let at = self.memory.base().as_ptr().wrapping_add(from).cast_const();
        // Through the cache the sync is `fdatasync` on this descriptor, always: one way to be tested.
        let durable = sync && self.direct;
        // SAFETY: the operation was checked: `len` bytes from `from` lie inside the mapping, which `self` keeps.
        let written = match unsafe { sys::write_at(fd, at, len as usize, offset, durable) } {
            Ok(written) => written as u32,
            Err(errno) => return failed(errno.raw_os_error()),
        };
        // ORDERING: a hint of how far there are pages to give back; nothing is read because of it.
        open.cached.to.fetch_max(offset + u64::from(written), Ordering::Relaxed);
        match if sync && !self.direct { self.sync(open) } else { Outcome::Done(0) } {
            Outcome::Done(_) => Outcome::Done(written),
            not_done => not_done,
        }
    }

    fn sync(&self, open: &Open) -> Outcome {
        if let Err(errno) = fdatasync(&open.segment.file) {
            return failed(errno.raw_os_error());
        }
        if self.options.drop_cache && !self.direct {
            open.give_back(GIVE_BACK);
        }
        Outcome::Done(0)
    }
}

/// Pages are given back so many bytes at a time.
const GIVE_BACK: u64 = 1 << 20;

impl Open {
    /// Gives back the pages written since the last time, if they are `least` bytes or more. Pages that are not yet on the
    /// device stay, whatever is asked.
    fn give_back(&self, least: u64) {
        // ORDERING: as where it is raised: a hint. Two threads at once give the same pages back twice.
        let (from, to) = (self.cached.from.load(Ordering::Relaxed), self.cached.to.load(Ordering::Relaxed));
        let Some(len) = NonZeroU64::new(to.saturating_sub(from)) else { return };
        if len.get() >= least {
            // Refused where there is nothing to give back.
            _ = fadvise(&self.segment.file, from, Some(len), Advice::DontNeed);
            self.cached.from.store(to, Ordering::Relaxed);
        }
    }
}
