//! Who has an end of a ring: a kernel lock on a file beside it, held for life.
//!
//! ```text
//! holder: lock exclusive, own description, close-on-exec ── text: who ── … ── text emptied ── closed
//!         killed anywhere: the kernel frees the lock, the text stays
//! peer:   lock shared, at once unlocked again:   no → somebody is there     yes, no text → closed     yes, text → died
//! ```
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
        Ok(Some(Held { file }))
    }
}

impl<P: Platform> Drop for Held<P> {
    fn drop(&mut self) {
        // Left in order. Closing the file frees the lock.
        _ = self.file.set_len(0);
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
