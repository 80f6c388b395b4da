//! A segment's file, opened past the page cache where that works.
//!
//! Where it works is asked of the kernel (`statx` knows the alignment since 6.1), else found out by trying: opening, and
//! one read of a whole block when a segment is attached. A *write* is never tried: a refused one would poison the log.

use super::choose::with_source;
use crate::{LinuxFile, file};
use chronicle_platform::{File, Open, Result, Trouble};
use rustix::{
    fs::{AtFlags, OFlags, StatxFlags, fcntl_setfl, statx},
    io::Errno,
};
use std::{io, path::Path};

/// An attached segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: u64,
    pub(super) file: LinuxFile,
    /// Its length then; nothing is written beyond.
    pub(super) len: u64,
}

impl Segment {
    /// Opens the file of segment `id`: with `direct`, past the page cache, for whole blocks of `block`.
    pub(super) fn open(id: u64, path: &Path, direct: bool, block: u32) -> Result<Segment> {
        let file = file::open(path, Open::Write)?;
        let trouble = |errno: Errno| Trouble::new("attach", path, errno);
        // The flags that stay: not the one for opening pipes, with which a ring reports what it should wait for.
        let flags = if direct { OFlags::DIRECT } else { OFlags::empty() };
        fcntl_setfl(&file, flags).map_err(|errno| trouble(errno).noting("past the page cache"))?;
        if direct {
            match granularity(&file) {
                Granularity::Blocks(unit) if fits(unit, block) => {}
                Granularity::Blocks(unit) => {
                    return Err(trouble(Errno::INVAL).noting(too_small(unit, block)));
                }
                Granularity::None => return Err(trouble(Errno::INVAL).noting("past the page cache")),
                Granularity::Unknown => read_block(&file, block)
                    .map_err(|error| Trouble::new("attach", path, error).noting(format!("in blocks of {block}")))?,
            }
        }
        let len = file.len()?;
        Ok(Segment { id, file, len })
    }
}

/// Whether segments beside this file can be written past the page cache in whole blocks of `block`; else why not.
pub(super) fn try_direct(beside: &LinuxFile, block: u32) -> std::result::Result<(), String> {
    let refused = |errno: Errno| format!("this file system has no O_DIRECT: {}", io::Error::from(errno));
    // Another description of the same file: the lock's own flags are left alone.
    let file = file::open(beside.path(), Open::Read).map_err(|trouble| with_source(&trouble))?;
    fcntl_setfl(&file, OFlags::DIRECT).map_err(refused)?;
    match granularity(&file) {
        Granularity::Blocks(unit) if fits(unit, block) => Ok(()),
        Granularity::Blocks(unit) => Err(too_small(unit, block)),
        Granularity::None => Err(refused(Errno::INVAL)),
        Granularity::Unknown => Ok(()),
    }
}

fn too_small(unit: u32, block: u32) -> String {
    format!("O_DIRECT takes blocks of {unit} bytes here, and the log's are {block}")
}

fn fits(unit: u32, block: u32) -> bool {
    block.is_multiple_of(unit)
}

/// What writes past the page cache must be multiples of, in memory and in the file.
enum Granularity {
    Blocks(u32),
    /// There are no such writes.
    None,
    /// The kernel or the file system does not say.
    Unknown,
}

fn granularity(file: &LinuxFile) -> Granularity {
    match statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) {
        Ok(stat) if stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
            match stat.stx_dio_mem_align.max(stat.stx_dio_offset_align) {
                0 => Granularity::None,
                unit => Granularity::Blocks(unit),
            }
        }
        _ => Granularity::Unknown,
    }
}

/// Reads the file's first block into memory that is aligned to nothing more than a block.
fn read_block(file: &LinuxFile, block: u32) -> io::Result<()> {
    let block = block as usize;
    let mut bytes = vec![0; 2 * block];
    let skip = bytes.as_ptr().align_offset(block);
    let read = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut bytes[skip..skip + block], 0))?;
    if read == block { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
