//! Making a cold file.
//!
//! ```text
//! draft:     read sealed .q block by block → compress on threads → append to the temporary .zst, in order
//!            → tables and seek table → temporary .idx → sync both
//! check:     read the temporary .zst back, decompress, compare the SHA-256 with the source's
//! publish:   .idx, then .zst: whoever finds a .zst finds its index beside it
//! ```
//!
//! [`compress`] does all of it. A crash at any point leaves names that end with [`crate::root::TEMPORARY`], at most an `.idx` without
//! its `.zst`, or the complete cold file; the source is only read.

use super::{
    Progress,
    block::{Block, Tables},
    cold::{ColdFile, index_path},
    cut::SealedFile,
    ordered,
};
use crate::{
    error::{Error, Result},
    growing::{remove_if_there, temporary},
};
use chronicle_platform::{File, Open, Platform, Trouble};
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
    /// Bytes of its index.
    pub index_len: u64,
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
    let made = (|| {
        let draft = Draft::write(platform, source, &target, options, &mut *progress)?;
        draft.check(progress)?;
        draft.publish()
    })();
    if made.is_err() {
        // The error says more than one of this could, and what stays is known by its name.
        _ = platform.remove(&temporary(&target));
        _ = platform.remove(&temporary(&index_path(&target)));
    }
    made
}

/// Where the cold file of `source` lies in `dir`: `book.q` → `book.q.zst`.
#[must_use]
pub fn cold_path(source: &Path, dir: &Path) -> PathBuf {
    let mut name = source.file_name().unwrap_or_default().to_os_string();
    name.push(".zst");
    dir.join(name)
}

/// A cold file that is being made, under temporary names: the steps of [`compress`] one by one.
#[derive(Debug)]
struct Draft<P: Platform> {
    platform: P,
    target: PathBuf,
    file: P::File,
    index: P::File,
    summary: Summary,
    threads: usize,
}

impl<P: Platform> Draft<P> {
    /// Writes and syncs both files.
    fn write(platform: &P, source: &Path, target: &Path, options: Options, progress: Progress<'_>) -> Result<Self> {
        let sealed = SealedFile::<P>::open(platform, source)?;
        let file = create(platform, &temporary(target))?;
        let (tables, summary) = write(sealed, source, &file, options, progress)?;
        file.sync()?;
        let index = create(platform, &temporary(&index_path(target)))?;
        index.write_at(&tables.index_bytes(), 0)?;
        index.sync()?;
        let threads = options.threads;
        Ok(Draft { platform: platform.clone(), target: target.into(), file, index, summary, threads })
    }

    /// Reads both back from the file system and compares what they become with what was compressed.
    fn check(&self, progress: Progress<'_>) -> Result<()> {
        let Summary { source_len, source_sha256, .. } = self.summary;
        let path = temporary(&self.target);
        let cold = ColdFile::open_with_index(&self.platform, &path, &temporary(&index_path(&self.target)))?;
        let sha256 = cold.source_digest(self.threads, &mut |done, _| progress(source_len + done, 2 * source_len))?;
        if sha256 != source_sha256 || cold.tables().source_sha256 != sha256 || !cold.has_index() {
            return Err(Error::malformed(path, 0, "decompresses to other bytes than were compressed"));
        }
        Ok(())
    }

    /// Gives them their names: the index first, so that whoever finds the `.zst` finds it too.
    fn publish(self) -> Result<Summary> {
        let index = index_path(&self.target);
        self.platform.publish(&self.index, &temporary(&index), &index)?;
        self.platform.publish(&self.file, &temporary(&self.target), &self.target)?;
        Ok(self.summary)
    }
}

struct Job {
    block: Block,
    source: Vec<u8>,
    compressed: Vec<u8>,
    failure: Option<std::io::Error>,
}

/// The blocks, the tables and the seek table of `sealed`, into an empty file.
fn write<P: Platform>(
    mut sealed: SealedFile<P>,
    source: &Path,
    file: &P::File,
    options: Options,
    progress: Progress<'_>,
) -> Result<(Tables, Summary)> {
    let total = 2 * sealed.len();
    let frames = sealed.seal().count;
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
    let summary = Summary {
        source_len: tables.source_len,
        source_sha256: tables.source_sha256,
        frames,
        blocks: tables.blocks.len() as u64,
        compressed_len: compressed_offset + bytes.len() as u64,
        index_len: tables.index_bytes().len() as u64,
    };
    Ok((tables, summary))
}

/// A new empty file; one of that name that was left behind is removed first.
fn create<P: Platform>(platform: &P, path: &Path) -> Result<P::File> {
    remove_if_there(platform, path)?;
    Ok(platform.open(path, Open::Create)?)
}
