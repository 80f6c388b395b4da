//! What a machine is told, and what it asks for: plain data.

use super::{
    Header, is_batch_len, is_block_size, is_segment_len,
    layout::{BATCH_FRAME_LEN, FRAME_OVERHEAD},
};
use core::fmt;

/// Names an operation until it is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpId(u32);

impl OpId {
    pub(super) const fn new(number: u32) -> Self {
        OpId(number)
    }

    /// As a number, for a completion's user data.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The one that [`OpId::number`] gave.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        OpId(number)
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {}", self.0)
    }
}

/// Something to do. Several may be under way at once; each is reported to [`super::Machine::complete`] exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write `len` bytes of the machine's region, from its offset `from`, to `offset` of the segment's file. All three are
    /// multiples of the block. The bytes stay as they are until it is completed.
    Write {
        /// Its name.
        op: OpId,
        /// Which segment.
        segment: u64,
        /// Where in its file.
        offset: u64,
        /// Where in the region.
        from: usize,
        /// How many bytes.
        len: u32,
        /// Whether they must be durable when it is done (`RWF_DSYNC` or what is as good).
        sync: bool,
    },
    /// Make durable all writes to this segment that were completed before this was handed out.
    Sync {
        /// Its name.
        op: OpId,
        /// Which segment.
        segment: u64,
    },
    /// Make a spare file the segment that this header names: write its header block (set `created_ns` first), sync it,
    /// rename it, sync the directory.
    Prepare {
        /// Its name.
        op: OpId,
        /// The header.
        header: Header,
    },
    /// Nobody needs this segment any more: rename it to a spare, or remove it, and sync the directory.
    Recycle {
        /// Its name.
        op: OpId,
        /// Which segment.
        segment: u64,
    },
}

impl Op {
    /// Its name.
    #[must_use]
    pub const fn id(&self) -> OpId {
        match self {
            Op::Write { op, .. } | Op::Sync { op, .. } | Op::Prepare { op, .. } | Op::Recycle { op, .. } => *op,
        }
    }

    /// The segment that it is about.
    #[must_use]
    pub const fn segment(&self) -> u64 {
        match self {
            Op::Write { segment, .. } | Op::Sync { segment, .. } | Op::Recycle { segment, .. } => *segment,
            Op::Prepare { header, .. } => header.segment_id,
        }
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; for a write, so many bytes of it (fewer than asked: the rest is handed out again). For others, 0.
    Done(u32),
    /// Nothing happened, try again: `EINTR`, `EAGAIN`. The operation is handed out again at once, so wait a moment where
    /// the system is short of something. A write or a sync that is put off 4096 times in a row counts as failed, because
    /// nobody would hear of it otherwise; nothing hangs on the others, and they are handed out for ever.
    Again,
    /// The system refused, with its errno.
    Failed(i32),
}

/// What makes a written batch durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SyncBy {
    /// Every write carries it.
    #[default]
    Write,
    /// A `Sync` operation, handed out by itself as soon as something is written and not yet durable.
    Op,
    /// A `Sync` operation, handed out only when something is demanded (or the log is closed).
    Request,
}

/// A machine's measures. They go into each segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// What a write begins at and is a multiple of: a power of two from 512 bytes to 64 KiB.
    pub block_size: u32,
    /// Length of the largest batch, a multiple of the block; a payload is at most 74 bytes shorter.
    pub batch_len: u32,
    /// Length of a segment's file, a multiple of the block: two blocks and two batches at least.
    pub segment_len: u64,
    /// Writes in flight at once, 1..=8.
    pub depth: u8,
    /// What makes a written batch durable.
    pub sync: SyncBy,
    /// Bytes kept for what each segment repeats at its head ([`super::Carry::len`]): with its two frames it fits a batch.
    pub carry_len: u32,
    /// Bugs to make on purpose.
    #[cfg(feature = "planted")]
    pub planted: super::Planted,
}

impl Default for Config {
    /// 64 MiB segments of 4 KiB blocks, batches up to 256 KiB, four writes in flight, each carrying its sync.
    fn default() -> Self {
        Config {
            block_size: 4096,
            batch_len: 256 << 10,
            segment_len: 64 << 20,
            depth: 4,
            sync: SyncBy::Write,
            carry_len: 4096,
            #[cfg(feature = "planted")]
            planted: super::Planted::NONE,
        }
    }
}

impl Config {
    /// Largest payload of a frame.
    #[must_use]
    pub const fn max_payload(&self) -> u32 {
        super::max_payload(self.batch_len)
    }

    /// Checks the measures by themselves.
    ///
    /// # Errors
    ///
    /// The first one that does not fit.
    pub const fn check(&self) -> Result<(), ConfigError> {
        if !is_block_size(self.block_size) {
            return Err(ConfigError::BlockSize { asked: self.block_size });
        }
        if !is_batch_len(self.batch_len, self.block_size) {
            return Err(ConfigError::BatchLen { asked: self.batch_len });
        }
        if !is_segment_len(self.segment_len, self.batch_len, self.block_size) {
            return Err(ConfigError::SegmentLen { asked: self.segment_len });
        }
        if self.depth == 0 || self.depth > 8 {
            return Err(ConfigError::Depth { asked: self.depth });
        }
        let max = self.batch_len - (BATCH_FRAME_LEN + FRAME_OVERHEAD) as u32;
        if !self.carry_len.is_multiple_of(4) || self.carry_len > max {
            return Err(ConfigError::CarryLen { asked: self.carry_len, max });
        }
        Ok(())
    }
}

/// Why no machine can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// Not a power of two from 512 bytes to 64 KiB.
    BlockSize {
        /// The one asked for.
        asked: u32,
    },
    /// Not a multiple of the block, or larger than 64 MiB.
    BatchLen {
        /// The one asked for.
        asked: u32,
    },
    /// Not a multiple of the block, less than two blocks and two batches, or more than a TiB.
    SegmentLen {
        /// The one asked for.
        asked: u64,
    },
    /// Not 1 to 8.
    Depth {
        /// The one asked for.
        asked: u8,
    },
    /// Not a multiple of 4, or more than a batch takes.
    CarryLen {
        /// The one asked for.
        asked: u32,
        /// The largest one.
        max: u32,
    },
    /// The region is smaller than [`layout`](fn@layout) says.
    Region {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// What stands already takes more than `carry_len`.
    Carry {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// The segment to go on in has no room: begin a new one.
    NoRoom {
        /// Bytes left.
        left: u64,
    },
    /// A number in what the machine shall begin with makes no sense.
    Start {
        /// Its name.
        name: &'static str,
        /// Its value.
        found: u64,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::BlockSize { asked } => {
                write!(f, "block size {asked} is not a power of two from 512 to 65536")
            }
            ConfigError::BatchLen { asked } => {
                write!(f, "batch length {asked} is not a multiple of the block up to 64 MiB")
            }
            ConfigError::SegmentLen { asked } => {
                write!(
                    f,
                    "segment length {asked} is not a multiple of the block from two blocks and two batches to 1 TiB"
                )
            }
            ConfigError::Depth { asked } => write!(f, "depth {asked} is not from 1 to 8"),
            ConfigError::CarryLen { asked, max } => {
                write!(f, "carry length {asked} is not a multiple of 4 up to {max}")
            }
            ConfigError::Region { needed, found } => {
                write!(f, "region too small: {needed} bytes needed, {found} there")
            }
            ConfigError::Carry { needed, found } => {
                write!(f, "carry too small: votes, meta values and truncations take {needed} bytes, {found} there")
            }
            ConfigError::NoRoom { left } => write!(f, "segment full: {left} bytes left"),
            ConfigError::Start { name, found } => write!(f, "{name} is {found}, which no log has"),
        }
    }
}

impl core::error::Error for ConfigError {}

/// Size and alignment of a machine's memory: `depth + 1` batches, then the carry, twice.
///
/// `None` if the measures do not fit one another. The alignment is the block: `O_DIRECT` needs it; a driver that does not
/// may live with [`crate::REGION_ALIGN`].
///
/// ```
/// use chronicle_core::wal::{Config, layout};
///
/// const LAYOUT: core::alloc::Layout = layout(&Config {
///     block_size: 4096,
///     batch_len: 64 << 10,
///     segment_len: 1 << 20,
///     depth: 1,
///     sync: chronicle_core::wal::SyncBy::Write,
///     carry_len: 1024,
/// #   #[cfg(feature = "planted")]
/// #   planted: chronicle_core::wal::Planted::NONE,
/// })
/// .unwrap();
/// assert_eq!((LAYOUT.size(), LAYOUT.align()), (2 * (64 << 10) + 4096, 4096));
/// ```
#[must_use]
pub const fn layout(config: &Config) -> Option<core::alloc::Layout> {
    if config.check().is_err() {
        return None;
    }
    let buffers = (config.depth as u64 + 1) * config.batch_len as u64;
    // Rounded up to whole blocks, so that memory of whole pages has nothing of anybody else in it.
    let carry = (2 * config.carry_len as u64).next_multiple_of(config.block_size as u64);
    if buffers + carry > isize::MAX as u64 {
        return None;
    }
    match core::alloc::Layout::from_size_align((buffers + carry) as usize, config.block_size as usize) {
        Ok(layout) => Some(layout),
        Err(_) => None,
    }
}

/// The salt of a segment of a log that was opened with a random `seed`: another one for each segment and each opening.
#[must_use]
pub const fn salt(seed: u64, segment: u64) -> u32 {
    let mut mixed = seed ^ segment.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ mixed >> 31) as u32
}
