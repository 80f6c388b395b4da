//! The WAL as a state machine without IO: bytes in, operations out, and one number that says what is durable.
//!
//! A [`Machine`] gathers frames into batches in memory that its caller owns, and says which operations would make them
//! durable. Whoever drives it carries them out, with an io_uring, `pwrite` or a simulator, and reports each outcome:
//!
//! ```text
//! append(bytes) → seq          copies a frame into the batch that is being gathered
//! demand(seq)                  somebody waits for it
//! next_op() → Op               plain data: Write, Sync, Prepare, Recycle
//! complete(op, outcome)        in any order
//! durable() → seq              moves only over a completed prefix
//! ```
//!
//! ```
//! # #[cfg(feature = "std")] {
//! use chronicle_core::{HeapRegion, wal::{Batch, Config, Machine, Op, Outcome, Start, layout}};
//!
//! let config = Config { segment_len: 1 << 20, ..Config::default() };
//! let memory = HeapRegion::new(layout(&config).unwrap().size());
//! let start = Start { segment_id: 1, first_seq: 1, salt_seed: 0x5eed, ..Start::default() };
//! let mut log = Machine::begin(&memory, config, &start).unwrap();
//!
//! let seq = log.append(b"hello").unwrap();
//! log.demand(seq);
//! // A file in memory: whoever drives a machine does this with a disk.
//! let mut file = vec![0; 1 << 20];
//! while let Some(Op::Write { op, offset, from, len, .. }) = log.next_op() {
//!     use chronicle_core::Region;
//!     memory.window().copy_out(from, &mut file[offset as usize..][..len as usize]);
//!     log.complete(op, Outcome::Done(len));
//! }
//! assert_eq!(log.durable(), seq);
//!
//! // The first batch begins with what stands: nothing yet.
//! let batch = Batch::parse(&file[4096..], 4096, &log.header()).unwrap();
//! let frame = batch.frames().find(|frame| !frame.unwrap().carry).unwrap().unwrap();
//! assert_eq!((frame.seq, frame.payload), (1, &b"hello"[..]));
//! # }
//! ```
//!
//! It never allocates, makes a system call, reads a clock or draws a random number; from the same calls it makes the same
//! operations. It never repairs: a failed write or sync poisons it for ever, and nothing is acknowledged afterwards.
//!
//! Reading is apart from it: [`Header::parse`], [`Batch::parse`] and [`entries`] check bytes that nobody vouches for.
//! Which files a log consists of, and what a hole in one means, is decided above (`chronicle-storage`). The bytes are
//! drawn in [mod@layout] and, normatively, in `docs/format.md`.

mod batch;
mod carry;
mod header;
pub mod layout;
mod machine;
mod op;
mod sum;

pub use batch::{Batch, BatchHead, Frame, Frames};
pub use carry::{Carry, Entries, Entry, Truncation, entries};
pub use header::{Header, Position};
pub use layout::Kind;
#[cfg(feature = "planted")]
pub use machine::Planted;
pub use machine::{AppendError, Machine, Poison, RetireError, Start, Ticket};
pub use op::{Config, ConfigError, Op, OpId, Outcome, SyncBy, layout, salt};

use layout::{BATCH_FRAME_LEN, FRAME_OVERHEAD, MAX_BATCH_LEN, MAX_BLOCK_SIZE, MAX_SEGMENT_LEN, MIN_BLOCK_SIZE};

const fn is_block_size(block: u32) -> bool {
    block.is_power_of_two() && block >= MIN_BLOCK_SIZE && block <= MAX_BLOCK_SIZE
}

const fn is_batch_len(len: u32, block: u32) -> bool {
    len != 0 && len.is_multiple_of(block) && len <= MAX_BATCH_LEN
}

/// A segment has room for its header, its opening batch, one more, and the block kept for the close.
const fn is_segment_len(len: u64, batch_len: u32, block: u32) -> bool {
    len.is_multiple_of(block as u64) && len >= 2 * block as u64 + 2 * batch_len as u64 && len <= MAX_SEGMENT_LEN
}

/// Largest payload that a batch takes, behind its own frame.
const fn max_payload(batch_len: u32) -> u32 {
    batch_len - (BATCH_FRAME_LEN + FRAME_OVERHEAD) as u32
}
