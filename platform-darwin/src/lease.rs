//! Kernel locks, and who may hold them: process, boot, identities.
//!
//! A lock is a `flock` on a whole file. It belongs to the *open file description*, which descriptors are close-on-exec
//! but a forked child shares until it executes something or ends; so a child that lives on without either keeps its
//! parent's lock alive. As on Linux, a file that locked unlocks before it closes, unless it is a forked child that
//! closes its copy.
//!
//! Names of processes are for people and logs. Nothing here decides by a process id who is alive: the kernel's lock does.

use crate::{DarwinFile, sys};
use chronicle_platform::{Lock, Process, Result, Trouble};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::getpid,
};
use std::{
    os::fd::AsFd,
    sync::atomic::{AtomicU32, Ordering},
};

/// Which process took the lock of a description; 0 = none did.
#[derive(Debug, Default)]
pub(crate) struct Holder(AtomicU32);

impl Holder {
    /// Takes or converts without waiting.
    pub(crate) fn try_lock(&self, file: &DarwinFile, lock: Lock) -> Result<bool> {
        let operation = match lock {
            Lock::Shared => FlockOperation::NonBlockingLockShared,
            Lock::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        loop {
            match flock(file.as_fd(), operation) {
                Ok(()) => {
                    self.0.store(pid(), Ordering::Relaxed);
                    return Ok(true);
                }
                Err(Errno::WOULDBLOCK) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Trouble::new("lock", file.path(), errno)),
            }
        }
    }

    /// Releases.
    pub(crate) fn unlock(&self, file: &DarwinFile) -> Result<()> {
        self.0.store(0, Ordering::Relaxed);
        flock(file.as_fd(), FlockOperation::Unlock).map_err(|errno| Trouble::new("unlock", file.path(), errno))
    }

    /// Before the descriptor closes: releases what this very process took.
    pub(crate) fn close(&self, fd: impl AsFd) {
        let holder = self.0.load(Ordering::Relaxed);
        if holder != 0 && holder == pid() {
            // A failure leaves what closing does anyway: the lock goes with the last reference to the description.
            _ = flock(fd, FlockOperation::Unlock);
        }
    }
}

pub(crate) fn pid() -> u32 {
    getpid().as_raw_pid().cast_unsigned()
}

/// This process and its start, in microseconds since 1970 (0 if the kernel does not tell).
pub(crate) fn process() -> Process {
    Process { pid: pid(), started: sys::process_start(getpid().as_raw_pid()).unwrap_or(0) }
}

/// The kernel's random id of this boot. Where it does not tell, a random number: every look is then another boot,
/// which costs a recovery its short cut and nothing else.
pub(crate) fn boot_id() -> u128 {
    let text = sys::text(c"kern.bootsessionuuid").unwrap_or_default();
    parse_boot_id(&text).unwrap_or_else(random)
}

fn parse_boot_id(text: &str) -> Option<u128> {
    let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
    (digits.len() == 32).then(|| u128::from_str_radix(&digits, 16).ok())?
}

/// 16 unpredictable bytes.
pub(crate) fn random() -> u128 {
    let mut bytes = [0; 16];
    sys::entropy(&mut bytes).expect("bug: a kernel without entropy cannot name anything uniquely");
    u128::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_id_is_a_uuid_or_nothing() {
        let uuid = "0123ABCD-0000-4000-8000-0000000000ff\n";
        assert_eq!(parse_boot_id(uuid), Some(0x0123_abcd_0000_4000_8000_0000_0000_00ff));
        for broken in ["", "0123abcd", "g123abcd-0000-4000-8000-0000000000ff", "+123abcd-0000-4000-8000-000000000ff"] {
            assert_eq!(parse_boot_id(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn this_process_started_after_boot_and_random_differs() {
        let process = process();
        assert_eq!(process.pid, std::process::id());
        assert_ne!(process.started, 0);
        assert_ne!(random(), random());
        assert_eq!(boot_id(), boot_id());
    }
}
