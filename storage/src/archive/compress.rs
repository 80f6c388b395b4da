//! Making a cold file.
//!
//! ```text
//! draft:     read sealed .q block by block → compress on threads → append to the temporary .zst, in order
//!            → tables and seek table → temporary .idx → sync both
//! check:     read the temporary .zst back, decompress, compare the SHA-256 with the source's
//! publish:   .idx, then .zst: whoever finds a .zst finds its index beside it
//! ```
//!
//! [`compress`] does all of it. A crash at any point leaves names that begin with `.tmp-`, at most an `.idx` without
//! its `.zst`, or the complete cold file; the source is only read.

use super::{
    Progress,
    block::{Block, Tables},
    cold::{ColdFile, index_path},
    cut::SealedFile,
    ordered,
};
use crate::error::{Error, Result};
use chronicle_platform::{File, Open, Platform, Trouble, TroubleKind};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// zstd's level: the fastest regular one was also the smaller on recorded books; see
/// `docs/decisions/0003-zstd-level.md`.
pub const DEFAULT_LEVEL: i32 = 1;

/// How a cold file is made. Only `level` changes its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// zstd's level, 1..=22.
    pub level: i32,
    /// Threads that compress; with 0 or 1 none is started.
    pub threads: usize,
}

impl Default for Options {
    /// The measured level, and a thread for each core that this process may use.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Options { level: DEFAULT_LEVEL, threads }
    }
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the `.q`.
    pub source_len: u64,
    /// SHA-256 of the `.q`.
    pub source_sha256: [u8; 32],
    /// Frames in it, `End` not counted.
    pub frames: u64,
    /// Blocks it became.
    pub blocks: u64,
    /// Bytes of the `.zst`.
    pub compressed_len: u64,
}

/// Compresses a sealed `.q` into `dir`, as `{name}.zst` and `{name}.zst.idx`, both complete, checked and durable when
/// this returns. Files that had these names are replaced.
///
/// `progress` is told bytes of the source, which are gone through twice: once to compress, once to check.
///
/// # Errors
///
/// [`Error::Unsealed`]; damage in the source, which leaves nothing behind under a final name; what the system refuses.
pub fn compress<P: Platform>(
    platform: &P,
    source: &Path,
    dir: &Path,
    options: Options,
    progress: Progress<'_>,
) -> Result<Summary> {
    let target = cold_path(source, dir);
    let draft_path = temporary(&target);
    let made = (|| {
        let (file, summary) = draft(platform, source, &draft_path, options, &mut *progress)?;
        check(platform, &draft_path, &summary, options.threads, progress)?;
        let index_draft = index_draft_path(&draft_path);
        let index = platform.open(&index_draft, Open::Read)?;
        platform.publish(&index, &index_draft, &index_path(&target))?;
        platform.publish(&file, &draft_path, &target)?;
        Ok(summary)
    })();
    if made.is_err() {
        // The error that brought us here says more than one of cleaning up could; leftovers are found by their names.
        _ = platform.remove(&draft_path);
        _ = platform.remove(&index_draft_path(&draft_path));
    }
    made
}

/// Where the cold file of `source` lies in `dir`.
pub(crate) fn cold_path(source: &Path, dir: &Path) -> PathBuf {
    let mut name = source.file_name().unwrap_or_default().to_os_string();
    name.push(".zst");
    dir.join(name)
}

/// The name under which `target` is made.
pub(crate) fn temporary(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".tmp-");
    name.push(target.file_name().unwrap_or_default());
    target.with_file_name(name)
}

/// The index's name while its `.zst` is called `draft`.
#[must_use]
pub fn index_draft_path(draft: &Path) -> PathBuf {
    index_path(draft)
}

/// Reads the draft back from the file system and compares it with what was compressed.
fn check<P: Platform>(
    platform: &P,
    draft: &Path,
    summary: &Summary,
    threads: usize,
    progress: Progress<'_>,
) -> Result<()> {
    let total = 2 * summary.source_len;
    let mut shifted = |done: u64, _| progress(summary.source_len + done, total);
    let cold = ColdFile::open(platform, draft)?;
    let sha256 = cold.source_digest(threads, &mut shifted)?;
    if sha256 != summary.source_sha256 || cold.tables().source_len != summary.source_len {
        return Err(Error::malformed(draft, 0, "decompresses to other bytes than were compressed"));
    }
    Ok(())
}

struct Job {
    block: Block,
    source: Vec<u8>,
    compressed: Vec<u8>,
    failure: Option<std::io::Error>,
}

/// Writes and syncs a cold file and its index under temporary names, and neither checks nor publishes it: the first
/// step of [`compress`], for those who do the others themselves.
///
/// Returns the open `.zst`; its index is called [`index_draft_path`]. An older file of either name is replaced.
///
/// # Errors
///
/// As [`compress`]; both files are then in any state.
pub fn draft<P: Platform>(
    platform: &P,
    source: &Path,
    draft: &Path,
    options: Options,
    progress: Progress<'_>,
) -> Result<(P::File, Summary)> {
    let mut sealed = SealedFile::<P>::open(platform, source)?;
    let total = 2 * sealed.len();
    let frames = sealed.seal().count;
    let file = create(platform, draft)?;

    let mut tables = Tables { source_len: sealed.len(), ..Tables::default() };
    let mut sha256 = Sha256::new();
    let mut compressed_offset = 0;
    ordered::run(
        options.threads,
        |spare: Option<Job>| {
            let (mut bytes, mut compressed) = spare.map_or_else(Default::default, |job| (job.source, job.compressed));
            let Some(block) = sealed.next_block(&mut bytes)? else { return Ok(None) };
            sha256.update(&bytes);
            compressed.clear();
            Ok(Some(Job { block, source: bytes, compressed, failure: None }))
        },
        || zstd::bulk::Compressor::new(options.level),
        |compressor, mut job| {
            // Capacity is the room that zstd may use.
            job.compressed.reserve(zstd::compress_bound(job.source.len()));
            job.failure = match compressor {
                Ok(compressor) => compressor.compress_to_buffer(&job.source, &mut job.compressed).err(),
                Err(error) => Some(std::io::Error::new(error.kind(), error.to_string())),
            };
            job.block.compressed_crc = crc32fast::hash(&job.compressed);
            job
        },
        |job| {
            if let Some(error) = job.failure.take() {
                return Err(Error::from(Trouble::new("compress", source, error)));
            }
            job.block.compressed_offset = compressed_offset;
            job.block.compressed_len = u32::try_from(job.compressed.len()).expect("bug: zstd's bound fits 32 bits");
            file.write_at(&job.compressed, compressed_offset)?;
            compressed_offset += job.compressed.len() as u64;
            tables.blocks.push(job.block);
            progress(job.block.offset + u64::from(job.block.len), total);
            Ok(())
        },
    )?;
    tables.source_sha256 = sha256.finalize().into();
    let bytes = tables.to_bytes();
    file.write_at(&bytes, compressed_offset)?;
    file.sync()?;
    let index = create(platform, &index_draft_path(draft))?;
    index.write_at(&tables.index_bytes(), 0)?;
    index.sync()?;
    let summary = Summary {
        source_len: tables.source_len,
        source_sha256: tables.source_sha256,
        frames,
        blocks: tables.blocks.len() as u64,
        compressed_len: compressed_offset + bytes.len() as u64,
    };
    Ok((file, summary))
}

/// A new empty file; one of that name that was left behind is removed first.
pub(crate) fn create<P: Platform>(platform: &P, path: &Path) -> Result<P::File> {
    match platform.open(path, Open::Create) {
        Err(trouble) if trouble.kind() == TroubleKind::Exists => {
            platform.remove(path)?;
            Ok(platform.open(path, Open::Create)?)
        }
        other => Ok(other?),
    }
}
