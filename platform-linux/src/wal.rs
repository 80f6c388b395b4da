//! The operations of a write-ahead log: through a ring of the kernel's, or by calls that block.
//!
//! | File | Job |
//! |---|---|
//! | `wal/choose.rs` | which way: what was asked for, what works here, what a measurement says |
//! | `wal/segment.rs` | a segment's file, opened past the page cache where that works |
//! | `wal/uring.rs` | several writes in flight, in an io_uring of its own |
//! | `wal/calls.rs` | `pwritev2`, `pwrite` and `fdatasync`, in the thread that submits |
//! | `wal/entry.rs` | the same operations as entries of a ring that the program owns |
//!
//! **Which.** With one write in flight a ring and a call are equally fast; with four the ring moves three times as many.
//! A ring's durable write has its flush done by a thread of the kernel's that waits for a processor like any other, a call
//! has it done in the thread that called: on a machine whose processors are all busy, a thread of high priority keeps its
//! pace with calls and loses it with a ring. [`WalMode`] says what is used and why.
//!
//! **Never here**: a thread of our own, a kernel thread that polls, a spin. A program with an event loop waits for
//! [`LinuxWal::event`]; one that owns a ring needs no driver but [`entry`] and [`outcome`].

mod calls;
mod choose;
mod entry;
mod segment;
mod uring;

pub use entry::{Target, entry, outcome, supports_wal};

use crate::{LinuxFile, LinuxMapMut, lease::pid};
use chronicle_core::wal::{Op, OpId, Outcome};
use chronicle_platform::{Result, Trouble, WalDriver, WalMode, WalOptions};
use rustix::io::Errno;
use std::{
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::Arc,
    thread::ThreadId,
};

/// Carries out the operations of one log.
///
/// A forked child has neither its memory nor its ring, and is refused.
#[derive(Debug)]
pub struct LinuxWal {
    mode: WalMode,
    /// The only thread that may call, where one was promised.
    owner: Option<ThreadId>,
    /// The process that made it.
    pid: u32,
    /// For errors: the log's directory.
    path: PathBuf,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Ring(Box<uring::Ring>),
    Calls(calls::Calls),
}

impl Way {
    fn attach(&self, segment: u64, path: &Path) -> Result<()> {
        match self {
            Way::Ring(ring) => ring.attach(segment, path),
            Way::Calls(calls) => calls.attach(segment, path),
        }
    }

    fn detach(&self, segment: u64) -> Result<()> {
        match self {
            Way::Ring(ring) => ring.detach(segment),
            Way::Calls(calls) => calls.detach(segment),
        }
    }

    fn submit(&self, op: &Op) -> Result<()> {
        match self {
            Way::Ring(ring) => ring.submit(op),
            Way::Calls(calls) => calls.submit(op),
        }
    }

    fn reap(&self, wait: bool, done: &mut dyn FnMut(OpId, Outcome)) -> Result<usize> {
        match self {
            Way::Ring(ring) => ring.reap(wait, done),
            Way::Calls(calls) => calls.reap(wait, done),
        }
    }
}

impl LinuxWal {
    pub(crate) fn new(memory: Arc<LinuxMapMut>, lock: &LinuxFile, options: &WalOptions) -> Result<LinuxWal> {
        let (way, mode) = choose::choose(memory, lock, options)?;
        let owner = options.one_thread.then(|| std::thread::current().id());
        let path = lock.path().parent().unwrap_or(Path::new(".")).to_owned();
        Ok(LinuxWal { mode, owner, pid: pid(), path, way })
    }

    /// A descriptor that is readable when there may be outcomes to [reap](WalDriver::reap), which makes it unreadable again:
    /// for epoll, a runtime, or another ring. It is readable at first. `None` where operations end before `submit` returns, so
    /// that there is nothing to wait for.
    ///
    /// # Errors
    ///
    /// If there is no descriptor to be had, or with `one_thread` in another thread.
    pub fn event(&self) -> Result<Option<BorrowedFd<'_>>> {
        self.check_caller("wait for")?;
        match &self.way {
            Way::Ring(ring) => ring.event().map(Some),
            Way::Calls(_) => Ok(None),
        }
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
}

impl WalDriver for LinuxWal {
    fn mode(&self) -> &WalMode {
        &self.mode
    }

    fn attach(&self, segment: u64, path: &Path) -> Result<()> {
        self.check_caller("attach")?;
        self.way.attach(segment, path)
    }

    fn detach(&self, segment: u64) -> Result<()> {
        self.check_caller("detach")?;
        self.way.detach(segment)
    }

    fn submit(&self, op: &Op) -> Result<()> {
        self.check_caller("submit")?;
        self.way.submit(op)
    }

    fn reap(&self, wait: bool, done: &mut dyn FnMut(OpId, Outcome)) -> Result<usize> {
        self.check_caller("reap")?;
        self.way.reap(wait, done)
    }
}

/// The segment that an operation of a driver's is about; none for those that change names.
fn segment_of(op: &Op) -> Option<u64> {
    match *op {
        Op::Write { segment, .. } | Op::Sync { segment, .. } => Some(segment),
        Op::Prepare { .. } | Op::Recycle { .. } => None,
    }
}

fn unattached(operation: &'static str, segment: u64) -> Trouble {
    Trouble::new(operation, format!("segment {segment}"), io::Error::from(io::ErrorKind::NotFound))
}

fn attached_twice(path: &Path) -> Trouble {
    Trouble::new("attach", path, io::Error::from(io::ErrorKind::AlreadyExists))
}
