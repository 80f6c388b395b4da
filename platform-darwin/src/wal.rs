//! The operations of a write-ahead log, by calls that block, in the thread that submits: what it submits has ended when
//! `submit` returns.
//!
//! `pwrite` into the page cache; `F_FULLFSYNC` on the same descriptor makes it last (Darwin's `fsync` and `fdatasync` leave
//! the bytes in the device's cache). There is no write that carries its sync and no ring, so there is one way, which
//! [`WalMode`] says if another was asked for. `F_NOCACHE` asks for pages to be left out of the cache and promises nothing:
//! it is what `drop_cache` does here.
//!
//! Several threads may be in calls at once; no lock is held meanwhile.

use crate::{DarwinFile, DarwinMapMut, file, lease::pid, sys};
use chronicle_core::{
    Region,
    wal::{Op, OpId, Outcome, SyncBy},
};
use chronicle_platform::{File, Medium, Open, Result, Trouble, WalDriver, WalMode, WalOptions, WalWay};
use rustix::{fs::fcntl_nocache, io::Errno};
use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::ThreadId,
};

/// Carries out the operations of one log.
///
/// A forked child does not have its memory, and is refused.
#[derive(Debug)]
pub struct DarwinWal {
    memory: Arc<DarwinMapMut>,
    options: WalOptions,
    mode: WalMode,
    /// The only thread that may call, where one was promised.
    owner: Option<ThreadId>,
    /// The process that made it.
    pid: u32,
    /// For errors: the log's directory.
    path: PathBuf,
    state: Mutex<State>,
    /// An operation has ended, or the last outcome was told.
    news: Condvar,
}

#[derive(Debug)]
struct State {
    segments: Vec<Arc<Segment>>,
    /// Threads in a call.
    under_way: usize,
    ended: VecDeque<(u64, OpId, Outcome)>,
    /// Threads that sleep on `news`.
    sleeping: usize,
}

/// An attached segment.
#[derive(Debug)]
struct Segment {
    id: u64,
    file: DarwinFile,
    /// Its length then; nothing is written beyond.
    len: u64,
}

impl DarwinWal {
    pub(crate) fn new(memory: Arc<DarwinMapMut>, lock: &DarwinFile, options: &WalOptions) -> Result<DarwinWal> {
        let durable = file::medium(lock.path())? == Medium::Disk;
        let asked = match options.way {
            WalWay::Auto | WalWay::Buffered => None,
            WalWay::Uring => Some("there is no io_uring on Darwin"),
            WalWay::Direct => Some("no write carries its sync on Darwin"),
        };
        let why: Vec<_> = asked.into_iter().chain((!durable).then_some("the log lies in memory")).collect();
        let mode = WalMode {
            way: WalWay::Buffered,
            driver: "pwrite and F_FULLFSYNC",
            direct: false,
            sync: SyncBy::Op,
            ends_in_submit: true,
            durable,
            why: (!why.is_empty()).then(|| why.join("; ")),
            measured: Vec::new(),
        };
        // Room for what a machine has in flight at most, so that nothing is allocated later.
        let ended = VecDeque::with_capacity(2 * usize::from(options.depth));
        Ok(DarwinWal {
            memory,
            options: options.clone(),
            mode,
            owner: options.one_thread.then(|| std::thread::current().id()),
            pid: pid(),
            path: lock.path().parent().unwrap_or(Path::new(".")).to_owned(),
            state: Mutex::new(State { segments: Vec::new(), under_way: 0, ended, sleeping: 0 }),
            news: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock can leave a half-changed state behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_caller(&self, operation: &'static str) -> Result<()> {
        let refusal = |why| Err(Trouble::new(operation, &*self.path, Errno::PERM).noting(why));
        if self.pid != pid() {
            return refusal("the driver is another process's: a forked child opens the log anew");
        }
        match self.owner {
            Some(owner) if owner != std::thread::current().id() => {
                refusal("`one_thread` was asked for by another thread")
            }
            _ => Ok(()),
        }
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        let sleeping = state.sleeping;
        drop(state);
        if sleeping > 0 {
            self.news.notify_all();
        }
    }

    fn write(&self, segment: &Segment, offset: u64, from: usize, len: u32, sync: bool) -> Outcome {
        let at = self.memory.base().as_ptr().wrapping_add(from).cast_const();
        // SAFETY: the operation was checked: `len` bytes from `from` lie inside the mapping, which `self` keeps.
        let written = match unsafe { sys::write_at(&segment.file, at, len as usize, offset) } {
            Ok(written) => written as u32,
            Err(errno) => return failed(errno),
        };
        match if sync { self::sync(segment) } else { Outcome::Done(0) } {
            Outcome::Done(_) => Outcome::Done(written),
            not_done => not_done,
        }
    }
}

impl WalDriver for DarwinWal {
    fn mode(&self) -> &WalMode {
        &self.mode
    }

    fn attach(&self, id: u64, path: &Path) -> Result<()> {
        self.check_caller("attach")?;
        let file = file::open(path, Open::Write)?;
        if self.options.drop_cache {
            fcntl_nocache(&file, true).map_err(|errno| Trouble::new("attach", path, errno))?;
        }
        let len = file.len()?;
        let mut state = self.state();
        if state.segments.iter().any(|segment| segment.id == id) {
            return Err(Trouble::new("attach", path, io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        state.segments.push(Arc::new(Segment { id, file, len }));
        Ok(())
    }

    fn detach(&self, id: u64) -> Result<()> {
        self.check_caller("detach")?;
        let mut state = self.state();
        let found = state.segments.iter().position(|segment| segment.id == id);
        let place = found.ok_or_else(|| unattached("detach", id))?;
        // A thread in a call holds another reference, which it takes and gives back under this lock.
        if Arc::strong_count(&state.segments[place]) > 1 || state.ended.iter().any(|(of, ..)| *of == id) {
            let note = "operations are in flight, or their outcomes have not been told";
            return Err(Trouble::new("detach", state.segments[place].file.path(), Errno::BUSY).noting(note));
        }
        state.segments.swap_remove(place);
        Ok(())
    }

    fn submit(&self, op: &Op) -> Result<()> {
        self.check_caller("submit")?;
        let (Op::Write { segment: id, .. } | Op::Sync { segment: id, .. }) = *op else {
            return self.options.check(op, &self.path, 0, 0);
        };
        let segment = {
            let mut state = self.state();
            let found = state.segments.iter().find(|segment| segment.id == id);
            let segment = found.ok_or_else(|| unattached("submit", id))?.clone();
            self.options.check(op, segment.file.path(), self.memory.len(), segment.len)?;
            state.under_way += 1;
            segment
        };
        let outcome = match *op {
            Op::Write { offset, from, len, sync, .. } => self.write(&segment, offset, from, len, sync),
            _ => sync(&segment),
        };
        let mut state = self.state();
        drop(segment);
        state.under_way -= 1;
        state.ended.push_back((id, op.id(), outcome));
        self.tell(state);
        Ok(())
    }

    fn reap(&self, wait: bool, done: &mut dyn FnMut(OpId, Outcome)) -> Result<usize> {
        self.check_caller("reap")?;
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
}

fn sync(segment: &Segment) -> Outcome {
    file::full_sync(&segment.file).map_or_else(failed, |()| Outcome::Done(0))
}

fn failed(errno: Errno) -> Outcome {
    match errno {
        Errno::INTR | Errno::AGAIN => Outcome::Again,
        errno => Outcome::Failed(errno.raw_os_error()),
    }
}

fn unattached(operation: &'static str, segment: u64) -> Trouble {
    Trouble::new(operation, format!("segment {segment}"), io::Error::from(io::ErrorKind::NotFound))
}
