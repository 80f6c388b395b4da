//! How a log is kept, and what of it a writer may change from one opening to the next.

use super::names::Names;
use crate::{Error, Result};
use chronicle_core::wal::{self, Config, SyncBy};
use chronicle_platform::{WalMode, WalOptions, WalWay};

/// What makes written frames durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SyncPolicy {
    /// What the driver does best: each write carries its sync where it can, else a commit asks for one.
    #[default]
    Auto,
    /// A sync of its own, when a commit asks for it. Appending without ever committing then syncs nothing but at a roll.
    OnCommit,
    /// Whatever is written becomes durable at once, asked for or not.
    EachBatch,
}

/// What recovery reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verify {
    /// Every frame of every segment.
    #[default]
    All,
    /// The newest segments, as far as a crash can have torn them; older ones are checked when they are read.
    Tail,
}

/// Whose threads do a log's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Threads {
    /// The callers', and two of the log's own: one prepares segments ahead, one finishes what several committers, a future
    /// or a callback wait for.
    #[default]
    Own,
    /// The callers': whoever appends prepares the segments, whoever commits writes; futures and callbacks make progress in
    /// [`super::Wal::drive`] alone.
    Callers,
    /// Only the one that opens the log, which then does no more than `Callers`. A kernel rewards that; calls of another
    /// thread that reach the driver fail, and poison the log.
    One,
}

/// How a log is kept.
///
/// ```
/// use chronicle_storage::wal::Options;
/// let options = Options { segment_len: 16 << 20, ..Options::default() };
/// assert_eq!((options.depth, options.block_size), (0, 4096));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Length of a segment's file: a multiple of the block, two blocks and two batches at least. Segments that are there
    /// keep theirs.
    pub segment_len: u64,
    /// Length of the largest batch, and of each of `depth` + 1 buffers in memory. A payload is at most 74 bytes shorter.
    pub batch_len: u32,
    /// What a write begins at and is a multiple of: a power of two from 512 bytes to 64 KiB.
    pub block_size: u32,
    /// Writes in flight at once: 1 to 8; 0, the default, is what suits the way. By calls that is two: while one committer
    /// waits for the device another one writes what has gathered. Through a ring it is one: more pay where a device makes
    /// several writes durable at once, and where their flushes queue up, as they mostly do, what comes during one write is
    /// better off in the next one together.
    pub depth: u8,
    /// Bytes kept for what each segment repeats at its head: the newest vote and meta value, and the truncations that
    /// still matter.
    pub carry_len: u32,
    /// How bytes go to the device. What is not to be had is replaced by the next best; see [`super::Wal::mode`].
    ///
    /// [`WalWay::Auto`] is, on Linux, calls that return when the bytes are durable: whoever writes waits for that anyway,
    /// and the flush is done in its own thread, where a ring leaves it to a thread of the kernel's that waits for a
    /// processor. With [`Threads::One`], which has more to do than wait, and with a `depth` above 2 it is the ring.
    pub way: WalWay,
    /// With [`WalWay::Auto`]: finds out at open which way is the fastest here, by a scratch file in the log's directory. It
    /// writes from one thread: what it finds is right for a lone committer, and may be slower than the default for many.
    pub measure: bool,
    /// Pages of the cache are given back behind the writes, so that a log does not push other files out of memory.
    pub drop_cache: bool,
    /// What makes written frames durable.
    pub sync: SyncPolicy,
    /// Segments kept written and synced ahead of their use: 1 to 16, and one more if it was retired.
    pub spares: u32,
    /// Most bytes that segments may take: beyond it the oldest are retired, read or not, checkpointed or not. `None`: only
    /// [`super::Wal::truncate_before`] retires.
    pub retain_bytes: Option<u64>,
    /// What recovery reads.
    pub verify: Verify,
    /// Frames up to this one are known to have been durable, from a checkpoint: a log that ends before is damaged, not torn.
    pub durable_seq: u64,
    /// Whose threads do the work.
    pub threads: Threads,
    /// Bugs to make on purpose.
    #[cfg(feature = "planted")]
    pub planted: Planted,
}

/// Bugs to make on purpose, so that the crash tests can be seen to find them. Never in a normal build.
#[cfg(feature = "planted")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    /// The machine's.
    pub machine: wal::Planted,
    /// Recovery takes a segment's existence as proof that the one before is whole.
    pub next_segment_proves: bool,
    /// Not a bug but a missing net: who sleeps is woken, or sleeps for ever.
    pub sleeps_unbounded: bool,
    /// Who was woken to lead, and finds its own frame durable, goes without a word.
    pub swallows_lead: bool,
}

impl Default for Options {
    fn default() -> Self {
        let config = Config::default();
        Options {
            segment_len: config.segment_len,
            batch_len: config.batch_len,
            block_size: config.block_size,
            depth: 0,
            carry_len: config.carry_len,
            way: WalWay::Auto,
            measure: false,
            drop_cache: false,
            sync: SyncPolicy::Auto,
            spares: 2,
            retain_bytes: None,
            verify: Verify::All,
            durable_seq: 0,
            threads: Threads::Own,
            #[cfg(feature = "planted")]
            planted: Planted::default(),
        }
    }
}

/// Most spares kept.
const SPARES_MAX: u32 = 16;

impl Options {
    /// What can be said of options without looking at the log.
    pub(crate) fn check(&self, names: &Names) -> Result<()> {
        let refuse = |what: String| Err(Error::Options { path: names.dir().to_path_buf(), what });
        if let Err(why) = self.config(SyncBy::Write).check() {
            return refuse(why.to_string());
        }
        if self.spares == 0 || self.spares > SPARES_MAX {
            return refuse(format!("spares: {} is not from 1 to {SPARES_MAX}", self.spares));
        }
        if let Some(bytes) = self.retain_bytes
            && bytes < 2 * self.segment_len
        {
            return refuse(format!("retain_bytes: {bytes} is less than two segments of {}", self.segment_len));
        }
        if self.durable_seq >= wal::layout::SEQ_END {
            return refuse(format!("durable_seq: {} is no seq", self.durable_seq));
        }
        Ok(())
    }

    /// The machine's measures.
    // Core has one field more where somebody else has asked it for its planted bugs.
    #[allow(clippy::needless_update)]
    pub(crate) fn config(&self, sync: SyncBy) -> Config {
        Config {
            block_size: self.block_size,
            batch_len: self.batch_len,
            segment_len: self.segment_len,
            depth: self.depth_max(),
            sync,
            carry_len: self.carry_len,
            #[cfg(feature = "planted")]
            planted: self.planted.machine,
            ..Config::default()
        }
    }

    /// Most writes in flight, whatever the way turns out to be.
    fn depth_max(&self) -> u8 {
        if self.depth == 0 { 2 } else { self.depth }
    }

    /// Writes in flight by the way that it turned out to be.
    pub(crate) fn depth_by(&self, mode: &WalMode) -> u8 {
        match self.depth {
            0 if !mode.ends_in_submit => 1,
            _ => self.depth_max(),
        }
    }

    /// When the machine asks a driver for syncs.
    pub(crate) fn sync_by(&self, mode: &WalMode) -> SyncBy {
        match (self.sync, mode.sync) {
            (SyncPolicy::OnCommit, _) => SyncBy::Request,
            (SyncPolicy::Auto | SyncPolicy::EachBatch, SyncBy::Write) => SyncBy::Write,
            (SyncPolicy::Auto, _) => SyncBy::Request,
            (SyncPolicy::EachBatch, _) => SyncBy::Op,
        }
    }

    /// What the driver is asked for.
    pub(crate) fn driver(&self, names: &Names) -> WalOptions {
        WalOptions {
            way: self.way,
            depth: self.depth_max(),
            block_size: self.block_size,
            one_thread: self.threads == Threads::One,
            measure: self.measure.then(|| names.dir().to_path_buf()),
            drop_cache: self.drop_cache,
        }
    }
}
