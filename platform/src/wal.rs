//! What carries out a write-ahead log's operations on a system.
//!
//! `chronicle_core::wal` decides *what* is written where and in which order, and does no IO; a [`WalDriver`] does the IO
//! and decides nothing. Between the two stands plain data: the machine hands out an [`Op`], the driver takes it
//! ([`WalDriver::submit`]) and tells once how it ended ([`WalDriver::reap`]).
//!
//! ```text
//! machine ──next_op──▶ Op ──submit──▶ driver ──▶ device
//!    ▲                                  │
//!    └──complete── (OpId, Outcome) ◀──reap
//! ```
//!
//! Of the operations a driver carries out [`Op::Write`] and [`Op::Sync`] only. What changes names ([`Op::Prepare`],
//! [`Op::Recycle`]) is a few calls of [`Platform`](crate::Platform) in a row, the same on every system, and storage's.
//!
//! **What a driver never does.** It retries nothing that could lose data: a short write, an interruption, an error are
//! outcomes, and the machine knows what follows from them. It counts no write as durable whose own completion did not say
//! so, orders a sync behind nothing but the completions that it has reported, and never writes outside the bytes that a
//! segment had when it was attached.

use crate::{Result, Trouble};
use chronicle_core::wal::{Op, OpId, Outcome, SyncBy};
use std::{
    fmt::{self, Debug},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// How a log's bytes go to the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WalWay {
    /// The best that this system allows; measured where [`WalOptions::measure`] says so.
    #[default]
    Auto,
    /// Through a ring of the kernel's, past the page cache, each write made durable by its own flag; several in flight.
    Uring,
    /// By calls that return when the bytes are durable, past the page cache.
    Direct,
    /// By calls into the page cache; a sync of its own makes them durable.
    Buffered,
}

impl fmt::Display for WalWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WalWay::Auto => "auto",
            WalWay::Uring => "uring",
            WalWay::Direct => "direct",
            WalWay::Buffered => "buffered",
        })
    }
}

/// Wishes for a driver. What is not granted is no error; [`WalMode`] says what is used instead, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// The way asked for.
    pub way: WalWay,
    /// Writes in flight at most; a driver takes at least as many syncs besides.
    pub depth: u8,
    /// Every write begins at a multiple of it, in the file and in memory, and is a multiple of it long.
    pub block_size: u32,
    /// The thread that makes the driver is the only one that uses it until it is dropped, which a kernel rewards. Another
    /// thread's calls may be refused.
    pub one_thread: bool,
    /// With [`WalWay::Auto`]: a directory on the log's own device, in which a scratch file is written and removed to find
    /// out which way is the fastest.
    pub measure: Option<PathBuf>,
    /// Pages of the cache are given back behind the writes, so that a log does not push other files out of memory.
    pub drop_cache: bool,
}

impl Default for WalOptions {
    fn default() -> Self {
        WalOptions {
            way: WalWay::Auto,
            depth: 4,
            block_size: 4096,
            one_thread: false,
            measure: None,
            drop_cache: false,
        }
    }
}

/// What a driver is, for people and for the machine's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalMode {
    /// The way in use, never [`WalWay::Auto`].
    pub way: WalWay,
    /// The calls behind it, such as `io_uring` or `pwrite`.
    pub driver: &'static str,
    /// Whether writes go past the page cache, so that no cached page can tell of bytes that the device does not have.
    pub direct: bool,
    /// How this driver is best asked to make writes durable: by a flag of each write, or by a sync of its own. It obeys both.
    pub sync: SyncBy,
    /// An operation has ended when `submit` returns, which waited for it in the thread that called; several threads may be
    /// in it at once, and [`WalDriver::reap`] never waits.
    pub ends_in_submit: bool,
    /// Whether an acknowledged write survives a power cut. False where the log lies in memory (tmpfs), where a sync
    /// succeeds and means nothing, and on a simulated disk that lies.
    pub durable: bool,
    /// Why it is not what was asked for or hoped for, in words.
    pub why: Option<String>,
    /// What was measured, if anything was: how long one durable write of a block took.
    pub measured: Vec<(WalWay, Duration)>,
}

/// One line for a log or an operator: `io_uring, past the page cache, durable with each write`.
impl fmt::Display for WalMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cache = if self.direct { "past the page cache" } else { "through the page cache" };
        let durable = match (self.durable, self.sync) {
            (false, _) => "never durable",
            (true, SyncBy::Write) => "durable with each write",
            (true, _) => "durable by syncs",
        };
        write!(f, "{}, {cache}, {durable}", self.driver)?;
        self.why.iter().try_for_each(|why| write!(f, " ({why})"))
    }
}

/// Carries out the writes and syncs of one log.
///
/// **Memory.** A driver is made with the machine's region and keeps it alive as long as the kernel may look at it:
/// dropping a driver waits for what is in flight, so that nobody reads the region afterwards. A driver reads only the ranges
/// of writes in flight, and those stay unchanged until their outcome was reported: the machine's promise.
///
/// **Order.** Operations in flight together happen in any order. What must come behind another is submitted when the
/// other's outcome is known: a sync covers the writes whose outcomes had been reported when it was submitted.
///
/// **Threads.** All methods may be called by several threads at once, unless [`WalOptions::one_thread`] was asked for. They
/// may block, so no caller holds a lock over them that an appending thread needs.
pub trait WalDriver: Debug + Send + Sync + 'static {
    /// What is used, and why not what was asked for.
    fn mode(&self) -> &WalMode;

    /// Opens the file of a segment, in this driver's own way; operations name it by its id from now on. The file has its
    /// full length, allocated; where writes carry their syncs, every byte of it has been written.
    ///
    /// # Errors
    ///
    /// As opening; [`TroubleKind::Exists`](crate::TroubleKind::Exists) where a segment of this id is attached.
    fn attach(&self, segment: u64, path: &Path) -> Result<()>;

    /// Closes a segment's file.
    ///
    /// # Errors
    ///
    /// [`TroubleKind::NotFound`](crate::TroubleKind::NotFound) if it is not attached; refused while operations on it are in
    /// flight, whose outcomes have not been reported.
    fn detach(&self, segment: u64) -> Result<()>;

    /// Takes a write or a sync. It may carry it out at once and block for that, or leave it to the kernel; either way
    /// its outcome comes from [`WalDriver::reap`], exactly once, also if it failed.
    ///
    /// # Errors
    ///
    /// The operation was not taken and nothing was written; no outcome will come. Writes outside the segment, outside
    /// the memory or off the block boundaries are refused ([`WalOptions::check`]), segments that are not attached
    /// ([`TroubleKind::NotFound`](crate::TroubleKind::NotFound)), and operations that change names.
    fn submit(&self, op: &Op) -> Result<()>;

    /// Tells the outcomes of operations that have ended: each to one caller, once. With `wait` it blocks until there is
    /// one, unless nothing is in flight. Returns how many there were. `done` must not call the driver.
    ///
    /// A write that ended short is [`Outcome::Done`] with fewer bytes. If it carried its sync those are durable, as the flag of
    /// the call is for the range that the call wrote (`pwritev2(2)`, `RWF_DSYNC`); the rest is written by who submitted it.
    ///
    /// # Errors
    ///
    /// The driver itself is out of order, and what is in flight is in doubt for ever: as after a failed sync.
    fn reap(&self, wait: bool, done: &mut dyn FnMut(OpId, Outcome)) -> Result<usize>;
}

impl WalOptions {
    /// Refuses what no driver takes: see [`WalDriver::submit`]. `memory` and `segment` are the lengths of the machine's
    /// region and of the file when it was attached.
    ///
    /// # Errors
    ///
    /// The operation, `path`, and what is wrong with it.
    pub fn check(&self, op: &Op, path: &Path, memory: usize, segment: u64) -> Result<()> {
        let refusal = |operation, reason: String| {
            Err(Trouble::new(operation, path, io::Error::new(io::ErrorKind::InvalidInput, reason)))
        };
        match *op {
            Op::Write { offset, from, len, .. } => {
                let block = u64::from(self.block_size).max(1);
                if len == 0 || [offset, from as u64, u64::from(len)].iter().any(|n| !n.is_multiple_of(block)) {
                    let reason =
                        format!("{len} bytes from {from} in memory to offset {offset} are not whole blocks of {block}");
                    return refusal("write", reason);
                }
                if offset.checked_add(u64::from(len)).is_none_or(|end| end > segment) {
                    return refusal("write", format!("{len} bytes at offset {offset} of a segment of {segment}"));
                }
                if from.checked_add(len as usize).is_none_or(|end| end > memory) {
                    return refusal("write", format!("{len} bytes from {from} of a memory of {memory}"));
                }
                Ok(())
            }
            Op::Sync { .. } => Ok(()),
            Op::Prepare { .. } | Op::Recycle { .. } => {
                refusal("submit", "names are changed by the platform, not by a driver".to_owned())
            }
        }
    }
}
