//! Reading a cold file: its tables at once, its blocks when they are asked for.
//!
//! [`ColdFile::open`] reads the tables at the file's end and the index beside it, checks both and that they agree. An
//! index that is missing is not needed: the tables say the same. [`ColdFile::read_block`] then reads exactly the block
//! that is asked for; [`ColdFile::blocks_read`] counts them.
//!
//! What is read is checked *before* it is decompressed: the CRC-32 of the compressed bytes, and that they are one zstd
//! frame of exactly the announced size. What zstd makes of them is then determined, so that checking the larger
//! uncompressed bytes too would find a broken decompressor and nothing else; `verify` and the tier manager do it
//! ([`ColdFile::verify_block`], [`ColdFile::source_digest`]), a sequential read does not pay for it.

use super::{
    Progress, SealedFile,
    block::{Block, Tables},
    layout::{BLOCK_SIZE, MAX_BLOCK_LEN, SeekFooter, TablesHeader},
    ordered,
    parse::{self, Flaw, parse_tables},
};
use crate::error::{Error, Result};
use chronicle_platform::{File, Open, Platform};
use sha2::{Digest, Sha256};
use std::{
    fmt, mem,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Where the tables have the SHA-256.
const SHA256_AT: u64 = mem::offset_of!(TablesHeader, source_sha256) as u64;

/// Where the index of a cold file lies: `book.q.zst` → `book.q.zst.idx`.
#[must_use]
pub fn index_path(zst: &Path) -> PathBuf {
    let mut name = zst.as_os_str().to_os_string();
    name.push(".idx");
    name.into()
}

/// An open cold file.
///
/// Blocks can be read from several threads at once. The file may be unlinked while it is open and stays readable.
pub struct ColdFile<P: Platform> {
    platform: P,
    path: PathBuf,
    file: P::File,
    len: u64,
    tables: Tables,
    has_index: bool,
    blocks_read: AtomicU64,
    bytes_read: AtomicU64,
    decoders: Pool<Decoder>,
    buffers: Pool<Vec<u8>>,
}

/// What one reader at a time needs: zstd's memory and a place for compressed bytes.
#[derive(Default)]
struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
    compressed: Vec<u8>,
}

/// Things that are dear to make, kept for the next one who needs them: fresh memory costs a fault for each page, for a
/// file of few blocks more than a tenth of reading it.
#[derive(Debug)]
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool(Mutex::new(Vec::new()))
    }
}

/// What a pool holds.
trait Kept: Default {
    /// Bytes that it takes.
    fn room(&self) -> usize;
}

impl Kept for Vec<u8> {
    fn room(&self) -> usize {
        self.capacity()
    }
}

impl Kept for Decoder {
    fn room(&self) -> usize {
        self.compressed.capacity()
    }
}

impl<T: Kept> Pool<T> {
    fn lend(&self) -> Lent<'_, T> {
        // Nothing is half done in here: a panic elsewhere leaves a list that is as good as before.
        let thing = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lent { thing: thing.unwrap_or_default(), pool: self }
    }
}

/// Goes back to its pool, unless one large frame blew it up: that must not stay for the file's life.
struct Lent<'a, T: Kept> {
    thing: T,
    pool: &'a Pool<T>,
}

impl<T: Kept> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        if self.thing.room() > 2 * BLOCK_SIZE as usize {
            return;
        }
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(mem::take(&mut self.thing));
    }
}

/// A decompressed block, as [`ColdFile::scan`] hands it out.
#[derive(Clone, Copy, Debug)]
pub struct Loaded<'a> {
    /// Its number.
    pub index: usize,
    /// What the tables say about it.
    pub block: &'a Block,
    /// Its bytes of the `.q`.
    pub bytes: &'a [u8],
}

impl<P: Platform> fmt::Debug for ColdFile<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ColdFile")
            .field("path", &self.path)
            .field("blocks", &self.tables.blocks.len())
            .finish_non_exhaustive()
    }
}

impl<P: Platform> ColdFile<P> {
    /// Opens a cold file and checks all that it says about itself, its index included.
    ///
    /// # Errors
    ///
    /// Damage in the tables, or in the index, which is named then. Whatever the bytes are, no more is allocated than a
    /// small multiple of the file's own length.
    pub fn open(platform: &P, path: &Path) -> Result<Self> {
        Self::open_with_index(platform, path, &index_path(path))
    }

    /// As [`ColdFile::open`], where the index is called otherwise.
    pub(crate) fn open_with_index(platform: &P, path: &Path, index_path: &Path) -> Result<Self> {
        let cold = Self::open_without_index(platform, path)?;
        let index = match platform.open(index_path, Open::Read) {
            Ok(index) => index,
            Err(trouble) => {
                let error = Error::from(trouble);
                return if error.is_not_found() { Ok(cold) } else { Err(error) };
            }
        };
        // The right length is known; of a file that is longer one byte more is enough to say so.
        let expected = cold.tables.index_bytes();
        let mut bytes = vec![0; expected.len() + 1];
        let read = index.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        if bytes != expected {
            let flaw = parse::first_difference(&bytes, &expected);
            return Err(Error::malformed(index_path, flaw.offset, flaw.what));
        }
        Ok(ColdFile { has_index: true, ..cold })
    }

    /// Opens a cold file and leaves its index alone: for those who make it anew.
    ///
    /// # Errors
    ///
    /// As [`ColdFile::open`].
    pub fn open_without_index(platform: &P, path: &Path) -> Result<Self> {
        let file = platform.open(path, Open::Read)?;
        let len = file.len()?;
        let flawed = |flaw: Flaw| Error::malformed(path, flaw.offset, flaw.what);
        let footer = read_tail(&file, path, len, len.min(mem::size_of::<SeekFooter>() as u64))?;
        let seek_len = parse::seek_table_len(&footer, len).map_err(flawed)?;
        let tables_len = parse::tables_len(seek_len, len).map_err(flawed)?;
        let tail = read_tail(&file, path, len, seek_len + tables_len)?;
        let tables = parse_tables(&tail, len).map_err(flawed)?;
        Ok(ColdFile {
            platform: platform.clone(),
            path: path.into(),
            file,
            len,
            tables,
            has_index: false,
            blocks_read: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            decoders: Pool::default(),
            buffers: Pool::default(),
        })
    }

    /// Its name when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The platform that it was opened on.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Its length in bytes, compressed.
    pub fn compressed_len(&self) -> u64 {
        self.len
    }

    /// Whether an index lies beside it, which was then found right.
    pub fn has_index(&self) -> bool {
        self.has_index
    }

    /// Its blocks, in order.
    pub fn blocks(&self) -> &[Block] {
        &self.tables.blocks
    }

    /// All that it says about itself; finding blocks by seq and time is [`Tables`]' work.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// How many blocks were read so far.
    pub fn blocks_read(&self) -> u64 {
        self.blocks_read.load(Ordering::Relaxed)
    }

    /// How many compressed bytes were read for them.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Puts the uncompressed bytes of block `i` into `out`, whose memory is used again.
    ///
    /// # Errors
    ///
    /// Damage at the block's offset, with its number.
    ///
    /// # Panics
    ///
    /// If there is no such block.
    pub fn read_block(&self, i: usize, out: &mut Vec<u8>) -> Result<()> {
        self.read_with(&mut self.decoders.lend().thing, i, out)
    }

    /// As [`ColdFile::read_block`], and checks the uncompressed bytes' CRC-32 as well.
    ///
    /// # Errors
    ///
    /// As [`ColdFile::read_block`].
    pub fn verify_block(&self, i: usize, out: &mut Vec<u8>) -> Result<()> {
        self.read_block(i, out)?;
        self.check_crc(i, out)
    }

    pub(crate) fn check_crc(&self, i: usize, bytes: &[u8]) -> Result<()> {
        let (stored, computed) = (self.tables.blocks[i].crc, crc32fast::hash(bytes));
        if stored == computed {
            return Ok(());
        }
        Err(self.damaged(i, format!("uncompressed checksum stored {stored:#010x}, computed {computed:#010x}")))
    }

    /// All blocks from number `from` on, in order, decompressed on `threads` threads; `take` runs on the calling one.
    ///
    /// At most `2 * threads + 1` blocks are in memory.
    ///
    /// # Errors
    ///
    /// The first block's damage, after `take` got all before it; or `take`'s own error.
    pub fn scan(&self, from: usize, threads: usize, mut take: impl FnMut(Loaded<'_>) -> Result<()>) -> Result<()> {
        let mut next = from;
        ordered::run(
            threads,
            |spare: Option<(usize, Lent<'_, Vec<u8>>, Result<()>)>| {
                let i = next;
                next += 1;
                let buffer = spare.map_or_else(|| self.buffers.lend(), |(_, buffer, _)| buffer);
                Ok((i < self.tables.blocks.len()).then_some((i, buffer)))
            },
            || self.decoders.lend(),
            |decoder, (i, mut buffer)| {
                let read = self.read_with(&mut decoder.thing, i, &mut buffer.thing);
                (i, buffer, read)
            },
            |(i, buffer, read)| {
                mem::replace(read, Ok(()))?;
                take(Loaded { index: *i, block: &self.tables.blocks[*i], bytes: &buffer.thing })
            },
        )
    }

    /// Puts the whole `.q` into `out`.
    ///
    /// # Errors
    ///
    /// As [`ColdFile::scan`].
    pub fn read_all(&self, threads: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        // Grows with what was really decompressed, whatever the tables claim.
        self.scan(0, threads, |loaded| {
            out.extend_from_slice(loaded.bytes);
            Ok(())
        })
    }

    /// Decompresses everything, checks every block's both checksums and the whole file's SHA-256, and returns that.
    ///
    /// # Errors
    ///
    /// As [`ColdFile::scan`].
    pub fn source_digest(&self, threads: usize, progress: Progress<'_>) -> Result<[u8; 32]> {
        let mut sha256 = Sha256::new();
        self.scan(0, threads, |loaded| {
            self.check_crc(loaded.index, loaded.bytes)?;
            sha256.update(loaded.bytes);
            progress(loaded.block.offset + loaded.bytes.len() as u64, self.tables.source_len);
            Ok(())
        })?;
        let digest: [u8; 32] = sha256.finalize().into();
        if digest != self.tables.source_sha256 {
            let what = "SHA-256 of the decompressed file is not the stored one";
            return Err(Error::malformed(&self.path, self.tables.blocks_len() + SHA256_AT, what));
        }
        Ok(digest)
    }

    fn read_with(&self, decoder: &mut Decoder, i: usize, out: &mut Vec<u8>) -> Result<()> {
        let block = &self.tables.blocks[i];
        // Both lengths were bounded by the file's and by the format when the tables were parsed.
        let compressed_len = block.compressed_len as usize;
        if decoder.compressed.len() < compressed_len {
            decoder.compressed.resize(compressed_len, 0);
        }
        let compressed = &mut decoder.compressed[..compressed_len];
        let read = self.file.read_at(compressed, block.compressed_offset)?;
        self.blocks_read.fetch_add(1, Ordering::Relaxed);
        self.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        if read < compressed.len() {
            return Err(self.damaged(i, format!("{} bytes needed, {read} there", compressed.len())));
        }
        let (stored, computed) = (block.compressed_crc, crc32fast::hash(compressed));
        if stored != computed {
            return Err(self.damaged(i, format!("checksum stored {stored:#010x}, computed {computed:#010x}")));
        }
        out.clear();
        let len = block.len as usize;
        debug_assert!(len as u64 <= MAX_BLOCK_LEN);
        match zstd::zstd_safe::get_frame_content_size(compressed) {
            Ok(Some(content)) if content == len as u64 => {}
            Ok(Some(content)) => {
                return Err(self.damaged(i, format!("zstd frame of {content} bytes, seek table says {len}")));
            }
            _ => return Err(self.damaged(i, "not a zstd frame that tells its size")),
        }
        match zstd::zstd_safe::find_frame_compressed_size(compressed) {
            Ok(size) if size == compressed.len() => {}
            _ => return Err(self.damaged(i, "not exactly one zstd frame")),
        }
        out.reserve_exact(len);
        match decoder.zstd.decompress_to_buffer(compressed, out) {
            Ok(written) if written == len => Ok(()),
            Ok(written) => Err(self.damaged(i, format!("becomes {written} bytes, seek table says {len}"))),
            Err(error) => Err(self.damaged(i, format!("does not decompress: {error}"))),
        }
    }

    fn damaged(&self, i: usize, what: impl fmt::Display) -> Error {
        let at = self.tables.blocks[i].compressed_offset;
        Error::malformed(&self.path, at, format!("block {i}: {what}"))
    }
}

impl<P: Platform> SealedFile<P> {
    /// Reads the whole file, checks all of it, and returns its SHA-256.
    ///
    /// # Errors
    ///
    /// As [`SealedFile::next_block`].
    pub fn digest(mut self) -> Result<[u8; 32]> {
        let mut sha256 = Sha256::new();
        let mut bytes = Vec::new();
        while self.next_block(&mut bytes)?.is_some() {
            sha256.update(&bytes);
        }
        Ok(sha256.finalize().into())
    }
}

/// The last `wanted` bytes of a file.
fn read_tail<F: File>(file: &F, path: &Path, len: u64, wanted: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; wanted as usize];
    let at = len - wanted;
    let read = file.read_at(&mut bytes, at)?;
    if read < bytes.len() {
        return Err(Error::malformed(path, at + read as u64, format!("cut while it was read, it had {len} bytes")));
    }
    Ok(bytes)
}
