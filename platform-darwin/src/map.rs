//! Shared mappings of files, as regions.
//!
//! No slice of a mapping is formed here or anywhere: a mapping is an address and a length, reached through
//! [`chronicle_core::Window`]. Mappings live until dropped and never move or grow. A peer that truncates the file makes
//! later loads raise SIGBUS, which ends the process (see the crate's documentation).
//!
//! The kernel writes dirty pages back when it likes; only [`chronicle_platform::File::sync`] says when it is done.

use crate::{DarwinFile, sys};
use chronicle_core::{Region, RegionMut};
use chronicle_platform::{File, MAP_ALIGN, Result, Trouble};
use memmap2::{MmapOptions, MmapRaw};
use rustix::{
    io::Errno,
    mm::mlock,
    param::page_size,
    process::{Resource, getrlimit},
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// A shared mapping, unmapped on drop.
#[derive(Debug)]
struct Mapping {
    raw: MmapRaw,
    path: Arc<Path>,
}

impl Mapping {
    fn new(file: &DarwinFile, offset: u64, len: usize, access: Access) -> Result<Mapping> {
        let trouble = |errno: Errno| Trouble::new("map", file.path(), errno);
        // `memmap2` maps one byte where none are asked for; all platforms refuse that instead.
        if len == 0 || !len.is_multiple_of(4) || !offset.is_multiple_of(MAP_ALIGN) {
            return Err(trouble(Errno::INVAL));
        }
        let stored = file.len()?;
        if offset.checked_add(len as u64).is_none_or(|end| end > stored) {
            let reason = format!("{len} bytes from {offset} asked for, the file has {stored}");
            return Err(Trouble::new("map", file.path(), io::Error::new(io::ErrorKind::UnexpectedEof, reason)));
        }
        let mut options = MmapOptions::new();
        options.offset(offset).len(len);
        let raw = match access {
            Access::Read => options.map_raw_read_only(file.as_fd().as_raw_fd()),
            Access::Write => options.map_raw(file.as_fd().as_raw_fd()),
        };
        let raw = raw.map_err(|error| Trouble::new("map", file.path(), error))?;
        Ok(Mapping { raw, path: file.shared_path() })
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4) && offset < self.len() && self.len() - offset >= 4,
            "bug: offset {offset} is not a word of a mapping of {} bytes",
            self.len()
        );
        // SAFETY: by the assertion 4 aligned bytes at `offset` lie inside the mapping (its base is page-aligned), which
        // lives as long as the borrow, and they are only reached through atomics of this size. Read-only mappings
        // are only loaded from, by the callers in this file and by the futex calls that take the word.
        unsafe { AtomicU32::from_ptr(self.raw.as_mut_ptr().wrapping_add(offset).cast()) }
    }

    #[inline]
    fn base(&self) -> NonNull<u8> {
        // SAFETY: a mapping that exists does not begin at address 0: the kernel gives that page only to who asks for
        // it by address, and `memmap2` asks for none.
        unsafe { NonNull::new_unchecked(self.raw.as_mut_ptr()) }
    }

    #[inline]
    fn len(&self) -> usize {
        self.raw.len()
    }

    /// One word of every page.
    fn pages(&self) -> impl Iterator<Item = &AtomicU32> {
        (0..self.len()).step_by(page_size()).filter(|offset| self.len() - offset >= 4).map(|offset| self.word(offset))
    }
}

/// What a mapping is for.
#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

/// A read-only shared mapping.
#[derive(Debug)]
pub struct DarwinMap(Mapping);

/// A writable shared mapping. A forked child does not have it.
#[derive(Debug)]
pub struct DarwinMapMut(Mapping);

impl DarwinMap {
    pub(crate) fn new(file: &DarwinFile, len: usize) -> Result<DarwinMap> {
        Mapping::new(file, 0, len, Access::Read).map(DarwinMap)
    }

    /// Every page is loaded from once.
    pub(crate) fn prefault(&self) -> Result<()> {
        self.0.pages().for_each(|word| _ = std::hint::black_box(word.load(Ordering::Relaxed)));
        Ok(())
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        self.0.word(offset)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }
}

impl DarwinMapMut {
    pub(crate) fn new(file: &DarwinFile, offset: u64, len: usize) -> Result<DarwinMapMut> {
        let mapping = Mapping::new(file, offset, len, Access::Write)?;
        // SAFETY: the range is the mapping just made.
        unsafe { sys::do_not_inherit(mapping.raw.as_mut_ptr().cast(), mapping.len()) }
            .map_err(|error| Trouble::new("map", file.path(), error))?;
        Ok(DarwinMapMut(mapping))
    }

    /// Every page is made writable, without changing a byte.
    pub(crate) fn prefault(&self) -> Result<()> {
        for word in self.0.pages() {
            // A store of the value found, as one step, so that a peer's store cannot be undone. (`fetch_or(0)` would
            // do, but compilers turn it into a load.) A lost race is the peer's store into *its* mapping: again.
            let mut found = word.load(Ordering::Relaxed);
            while let Err(now) = word.compare_exchange(found, found, Ordering::Relaxed, Ordering::Relaxed) {
                found = now;
            }
        }
        Ok(())
    }

    pub(crate) fn lock(&self) -> Result<()> {
        // SAFETY: the range is ours from the mapping until drop; pinning changes no byte.
        unsafe { mlock(self.0.raw.as_mut_ptr().cast(), self.0.len()) }
            .map_err(|errno| Trouble::new("lock memory", &*self.0.path, errno).noting(limit(self.0.len())))
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        self.0.word(offset)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }
}

/// What may stand in the way of pinning `len` bytes.
fn limit(len: usize) -> String {
    match getrlimit(Resource::Memlock).current {
        Some(most) => format!("{len} bytes to pin, and the limit is {most} bytes (RLIMIT_MEMLOCK; `ulimit -l`)"),
        None => format!("{len} bytes to pin, and no RLIMIT_MEMLOCK: the machine's own limit is vm.user_wire_limit"),
    }
}

// SAFETY: `memmap2` gave `base`, page-aligned and so aligned to REGION_ALIGN, and it stays mapped, readable and in place
// until `Mapping` drops; moving the value moves only the address. This crate reaches the bytes through atomics only.
// A truncated file makes loads raise SIGBUS, which ends the process: no load returns, so none returns wrongly.
unsafe impl Region for DarwinMap {
    #[inline]
    fn base(&self) -> NonNull<u8> {
        self.0.base()
    }
    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }
}

// SAFETY: as above.
unsafe impl Region for DarwinMapMut {
    #[inline]
    fn base(&self) -> NonNull<u8> {
        self.0.base()
    }
    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }
}

// SAFETY: mapped with PROT_WRITE from a descriptor that may write, else mapping would have been refused.
unsafe impl RegionMut for DarwinMapMut {}
