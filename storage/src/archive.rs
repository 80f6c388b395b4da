//! Cold files: a sealed `.q` as a plain zstd file that can be read from the middle.
//!
//! Use [`compress`] to make one, [`ColdFile`] to read one. `book.q.zst` is a run of independent zstd frames, called
//! *blocks* here, and two skippable frames that zstd tools pass over: `zstd -d` gives the sealed `.q` bit for bit, and
//! whatever reads the official seekable format finds its seek table at the end. Beside it lies `book.q.zst.idx`, the
//! same block boundaries in a form that needs no zstd.
//!
//! ```text
//! book.q.zst  = [ block 0 ][ block 1 ] … [ tables: skippable 0x184D2A50 ][ seek table: skippable 0x184D2A5E ]
//! ```
//!
//! A block ends where a frame of the log ends, so a reader that starts at a block starts at a frame. It holds at most
//! 1 MiB, or one frame that is larger; a new one begins at a book snapshot when at least 256 KiB are pending. The
//! first block carries the segment's header, the last one its `End`. The tables say for each block which seqs and times
//! it has, its checksum before and after compression, and the SHA-256 of the whole `.q`. All bytes are drawn in
//! [`layout`].
//!
//! The bytes depend on the `.q` and the level alone: not on threads, time or place. Nothing here trusts what it reads:
//! tables are bounded by the file's own length before anything is allocated, a block's compressed bytes are checked
//! before zstd sees them. Nothing here moves, deletes or decides: that is [`crate::tier`].

mod block;
mod cold;
mod compress;
mod cut;
pub mod layout;
mod ordered;
mod parse;

pub use block::{Block, Tables};
pub use cold::{ColdFile, Loaded, index_path};
pub use compress::{DEFAULT_LEVEL, Options, Summary, cold_path, compress};
pub use cut::SealedFile;
pub use parse::{Flaw, Index, parse_index, parse_tables};

/// Called with bytes done and bytes in all, from the calling thread; `&mut |_, _| {}` where nobody looks.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);
