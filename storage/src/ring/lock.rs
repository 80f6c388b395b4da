//! Who has an end of a ring: a kernel lock on a file beside it, held for life.
//!
//! ```text
//! holder: lock exclusive, own description, close-on-exec ── text: who ── … ── text emptied ── closed
//!         killed anywhere: the kernel frees the lock, the text stays
//! peer:   lock shared, at once unlocked again:   no → somebody is there     yes, no text → closed     yes, text → died
//! ```
//!
//! A forked child has a copy of the holder's value and no part in it: dropping the copy empties no text and frees no lock.
//!
//! A peer's look holds the lock for the time of two system calls, so who wants it tries more than once. Lock files are
//! never removed: a file by the same name must be the same lock to everybody.

use super::Disconnect;
use crate::{Error, Result};
use chronicle_platform::{File, Lock, Open, Platform};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

/// A process that is being killed frees its locks within milliseconds.
pub(super) const TRIES: u32 = 100;
pub(super) const PAUSE: Duration = Duration::from_millis(5);

/// The names beside a ring.
pub(super) fn beside(ring: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(ring);
    name.push(suffix);
    name.into()
}

pub(super) fn producer_lock(ring: &Path) -> PathBuf {
    beside(ring, ".producer.lock")
}

pub(super) fn consumer_lock(ring: &Path) -> PathBuf {
    beside(ring, ".consumer.lock")
}

pub(super) fn writer_lock(ring: &Path) -> PathBuf {
    beside(ring, ".writer.lock")
}

pub(super) fn alive_lock(ring: &Path) -> PathBuf {
    beside(ring, ".alive.lock")
}

pub(super) fn create_lock(ring: &Path) -> PathBuf {
    beside(ring, ".create.lock")
}

pub(super) fn slot_lock(ring: &Path, slot: u32) -> PathBuf {
    beside(ring, &format!(".producer-{slot:02}.lock"))
}

/// A lock that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Held<P: Platform> {
    file: P::File,
    platform: P,
    /// The process that took it.
    pid: u32,
}

impl<P: Platform> Held<P> {
    /// Takes it; a dying holder gets half a second.
    pub(super) fn take(platform: &P, path: &Path, how: Open) -> Result<Self> {
        for _ in 1..TRIES {
            if let Some(held) = Held::try_take(platform, path, how)? {
                return Ok(held);
            }
            platform.sleep(PAUSE);
        }
        Held::try_take(platform, path, how)?.ok_or_else(|| Error::Locked { path: path.to_path_buf() })
    }

    /// Whether this is the process that took it, and no forked child that has a copy of the value. The id alone is
    /// compared: the start time is read from a file, and a process that can open no more files must not pass for a child.
    pub(super) fn is_ours(&self) -> bool {
        self.platform.process().pid == self.pid
    }

    /// Takes it if it is free just now.
    pub(super) fn try_take(platform: &P, path: &Path, how: Open) -> Result<Option<Self>> {
        let file = platform.open(path, how)?;
        if !file.try_lock(Lock::Exclusive)? {
            return Ok(None);
        }
        let (process, boot) = (platform.process(), platform.boot_id());
        let text = format!("pid {}\nstarted {}\nboot {boot:032x}\n", process.pid, process.started);
        // For people, and to tell a death from a leave: whoever cannot write it has the lock all the same.
        _ = file.set_len(0).and_then(|()| file.write_at(text.as_bytes(), 0));
        Ok(Some(Held { file, platform: platform.clone(), pid: process.pid }))
    }
}

impl<P: Platform> Drop for Held<P> {
    fn drop(&mut self) {
        // Left in order. Closing the file frees the lock. A forked child leaves nothing: its parent has the lock still, and
        // may die yet.
        if self.is_ours() {
            _ = self.file.set_len(0);
        }
    }
}

/// A look at somebody else's lock.
#[derive(Debug)]
pub(super) struct Peer<P: Platform> {
    path: PathBuf,
    how: Open,
    file: Option<P::File>,
}

impl<P: Platform> Peer<P> {
    pub(super) fn new(path: PathBuf, how: Open) -> Self {
        Peer { path, how, file: None }
    }

    /// Why nobody is there; `None` if somebody is.
    pub(super) fn missing(&mut self, platform: &P) -> Result<Option<Disconnect>> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => match platform.open(&self.path, self.how).map_err(Error::from) {
                Ok(file) => empty.insert(file),
                Err(error) if error.is_not_found() => return Ok(Some(Disconnect::Closed)),
                Err(error) => return Err(error),
            },
        };
        if !file.try_lock(Lock::Shared)? {
            return Ok(None);
        }
        let text = file.is_empty();
        file.unlock()?;
        Ok(Some(if text? { Disconnect::Closed } else { Disconnect::Died }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{EndOptions, RingOptions, Waited, create, mpsc};
    use chronicle_platform::sim::Sim;

    #[test]
    fn only_who_took_a_lock_says_that_it_left_in_order() {
        let sim = Sim::new(1);
        let path = Path::new("/lock");
        let take = || Held::take(&sim, path, Open::Ensure).unwrap();
        let left = || Peer::<Sim>::new(path.into(), Open::Ensure).missing(&sim).unwrap();
        drop(take());
        assert_eq!(left(), Some(Disconnect::Closed));
        // As a child sees it.
        let mut held = take();
        held.pid += 1;
        drop(held);
        assert_eq!(left(), Some(Disconnect::Died));
    }

    /// A child that stored into the ring would store where nothing is mapped, or where something else is.
    #[test]
    fn s_17_a_forked_child_gives_up_no_slot_of_its_parent() {
        let sim = Sim::new(1);
        let (path, options) = (Path::new("/ring"), EndOptions::default());
        create(&sim, path, &RingOptions::mpsc(1024, 1)).unwrap();
        for (child, why) in [(0, Disconnect::Closed), (1, Disconnect::Died)] {
            let mut producer = mpsc::Producer::open(&sim, path, options).unwrap();
            producer.lock.pid += child;
            drop(producer);
            // The simulator has freed the lock; who finds the slot held believes in a death, and reaps it.
            let mut consumer = mpsc::Consumer::open(&sim, path, options).unwrap();
            assert_eq!(consumer.wait(Duration::from_secs(1)).unwrap(), Waited::Disconnected(why));
        }
    }
}
