//! Shared mappings of files, as regions.
//!
//! No slice of a mapping is formed here or anywhere: a mapping is an address and a length, reached through
//! [`chronicle_core::Window`]. Mappings live until dropped and never move or grow. A peer that truncates the file makes
//! later loads raise SIGBUS, which ends the process unless the mapping is guarded (see the crate's documentation).
//!
//! The kernel writes dirty pages back when it likes; only [`chronicle_platform::File::sync`] says when it is done.

use crate::{LinuxFile, guard::Guard, lease::pid};
use chronicle_core::{Region, RegionMut};
use chronicle_platform::{File, MAP_ALIGN, Result, Trouble};
use memmap2::{MmapOptions, MmapRaw};
use rustix::{
    io::Errno,
    mm::{Advice, madvise, mlock},
    param::page_size,
    process::{Resource, getrlimit},
};
use std::{
    io,
    mem::ManuallyDrop,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    ptr::NonNull,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// A shared mapping, unmapped on drop.
#[derive(Debug)]
struct Mapping {
    /// Above `raw`, because fields drop in this order: no handler looks at what is unmapped.
    guard: OnceLock<Guard>,
    raw: MmapRaw,
    /// Length of its pages.
    page: usize,
    path: Arc<Path>,
}

impl Mapping {
    fn new(file: &LinuxFile, offset: u64, len: usize, access: Access) -> Result<Mapping> {
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
        // The kernel unmaps pages of hugetlbfs only as a whole, and would leave them mapped without a word.
        let page = file.page_len()?;
        if page > page_size() && !(len.is_multiple_of(page) && offset.is_multiple_of(page as u64)) {
            return Err(
                trouble(Errno::INVAL).noting(format!("{len} bytes from {offset} are not whole pages of {page}"))
            );
        }
        let mut options = MmapOptions::new();
        options.offset(offset).len(len);
        let raw = match access {
            Access::Read => options.map_raw_read_only(file.as_fd().as_raw_fd()),
            Access::Write => options.map_raw(file.as_fd().as_raw_fd()),
        };
        let raw = raw.map_err(|error| Trouble::new("map", file.path(), error))?;
        Ok(Mapping { guard: OnceLock::new(), raw, page, path: file.shared_path() })
    }

    fn advise(&self, operation: &'static str, advice: Advice) -> Result<()> {
        // SAFETY: the range is ours from the mapping until drop, and the advices used here (populate, don't fork) neither
        // unmap pages nor change their bytes.
        rustix::io::retry_on_intr(|| unsafe { madvise(self.raw.as_mut_ptr().cast(), self.len(), advice) })
            .map_err(|errno| Trouble::new(operation, &*self.path, errno))
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

    fn guard(&self, access: Access) -> Result<()> {
        if self.guard.get().is_some() {
            return Ok(());
        }
        let writable = matches!(access, Access::Write);
        let whole = self.len().next_multiple_of(self.page);
        // SAFETY: whole pages from the base are the mapping, which outlives its guard (see the fields), and by this crate's
        // first rule no slice of it is ever formed.
        let guard = unsafe { Guard::new(self.base(), whole, self.page, writable, &self.path) }?;
        // Two threads at once: the slot of the second is free again.
        _ = self.guard.set(guard);
        Ok(())
    }

    fn is_damaged(&self) -> bool {
        self.guard.get().is_some_and(Guard::is_damaged)
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
pub struct LinuxMap(Mapping);

/// A writable shared mapping. A forked child does not have it.
#[derive(Debug)]
pub struct LinuxMapMut {
    /// Dropped by hand: see [`Drop`].
    mapping: ManuallyDrop<Mapping>,
    /// The process that has it.
    pid: u32,
}

impl Drop for LinuxMapMut {
    fn drop(&mut self) {
        // In a forked child nothing of ours is mapped at that address, and perhaps something else is by now.
        if self.pid == pid() {
            // SAFETY: this is the only place that drops it, and a value drops once.
            unsafe { ManuallyDrop::drop(&mut self.mapping) }
        }
    }
}

impl LinuxMap {
    pub(crate) fn new(file: &LinuxFile, len: usize) -> Result<LinuxMap> {
        Mapping::new(file, 0, len, Access::Read).map(LinuxMap)
    }

    /// Every page is loaded from once.
    pub(crate) fn prefault(&self) -> Result<()> {
        if has_populate() {
            return self.0.advise("prefault", Advice::LinuxPopulateRead);
        }
        self.touch();
        Ok(())
    }

    /// For kernels without `MADV_POPULATE_READ`.
    fn touch(&self) {
        self.0.pages().for_each(|word| _ = std::hint::black_box(word.load(Ordering::Relaxed)));
    }

    pub(crate) fn guard(&self) -> Result<()> {
        self.0.guard(Access::Read)
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.0.is_damaged()
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        self.0.word(offset)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }
}

impl LinuxMapMut {
    pub(crate) fn new(file: &LinuxFile, offset: u64, len: usize) -> Result<LinuxMapMut> {
        let mapping = Mapping::new(file, offset, len, Access::Write)?;
        mapping.advise("map", Advice::LinuxDontFork)?;
        Ok(LinuxMapMut { mapping: ManuallyDrop::new(mapping), pid: pid() })
    }

    /// Every page is made writable, without changing a byte.
    pub(crate) fn prefault(&self) -> Result<()> {
        if has_populate() {
            return self.mapping.advise("prefault", Advice::LinuxPopulateWrite);
        }
        self.touch();
        Ok(())
    }

    /// For kernels without `MADV_POPULATE_WRITE`.
    fn touch(&self) {
        for word in self.mapping.pages() {
            // A store of the value found, as one step, so that a peer's store cannot be undone. (`fetch_or(0)` would
            // do, but compilers turn it into a load.) A lost race is the peer's store into *its* mapping: again.
            let mut found = word.load(Ordering::Relaxed);
            while let Err(now) = word.compare_exchange(found, found, Ordering::Relaxed, Ordering::Relaxed) {
                found = now;
            }
        }
    }

    pub(crate) fn lock(&self) -> Result<()> {
        // SAFETY: the range is ours from the mapping until drop; pinning changes no byte.
        unsafe { mlock(self.mapping.raw.as_mut_ptr().cast(), self.mapping.len()) }.map_err(|errno| {
            let trouble = Trouble::new("lock memory", &*self.mapping.path, errno);
            match errno {
                Errno::NOMEM | Errno::PERM | Errno::AGAIN => trouble.noting(limit(self.mapping.len())),
                _ => trouble,
            }
        })
    }

    /// Asks for huge pages; why not, in words.
    pub(crate) fn advise_huge(&self) -> std::result::Result<(), String> {
        self.mapping.advise("advise", Advice::LinuxHugepage).map_err(|trouble| {
            let source = std::error::Error::source(&trouble).map(ToString::to_string).unwrap_or_default();
            format!("{}: {source}", crate::memory::ADVICE_FAILED)
        })
    }

    pub(crate) fn guard(&self) -> Result<()> {
        self.mapping.guard(Access::Write)
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.mapping.is_damaged()
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        self.mapping.word(offset)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mapping.path
    }
}

/// What stands in the way of pinning `len` bytes.
fn limit(len: usize) -> String {
    let pinned = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let pinned = pinned.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap_or(" unknown").trim().to_owned();
    match getrlimit(Resource::Memlock).current {
        Some(most) => format!(
            "{len} bytes to pin, {pinned} pinned already, and the limit is {most} bytes (RLIMIT_MEMLOCK; raise it with \
             `ulimit -l`, LimitMEMLOCK= of the service, or CAP_IPC_LOCK)"
        ),
        None => format!("{len} bytes to pin, {pinned} pinned already, and no RLIMIT_MEMLOCK: the machine has no more"),
    }
}

/// Whether the kernel knows `MADV_POPULATE_*` (5.14): asked with an empty range, which does nothing else.
pub(crate) fn has_populate() -> bool {
    // SAFETY: no byte lies in an empty range.
    unsafe { madvise(std::ptr::null_mut(), 0, Advice::LinuxPopulateWrite) }.is_ok()
}

// SAFETY: `memmap2` gave `base`, page-aligned and so aligned to REGION_ALIGN, and it stays mapped, readable and in place
// until `Mapping` drops; moving the value moves only the address. This crate reaches the bytes through atomics only.
// A truncated file makes loads raise SIGBUS, which ends the process: no load returns, so none returns wrongly. Where the
// mapping is guarded, zeros take the place of what is gone, at the same address and with the same rights.
unsafe impl Region for LinuxMap {
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
unsafe impl Region for LinuxMapMut {
    #[inline]
    fn base(&self) -> NonNull<u8> {
        self.mapping.base()
    }
    #[inline]
    fn len(&self) -> usize {
        self.mapping.len()
    }
}

// SAFETY: mapped with PROT_WRITE from a descriptor that may write, else mapping would have been refused.
unsafe impl RegionMut for LinuxMapMut {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Linux;
    use chronicle_platform::{Open, Platform};

    const PAGES: usize = 256;

    /// Minor faults of this thread so far.
    fn faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(7).unwrap().parse().unwrap()
    }

    /// Faults of a store into, or a load from, every page. The few that reading `/proc` costs are in it.
    fn faults_of(act: impl Fn(usize)) -> u64 {
        faults();
        let before = faults();
        (0..PAGES).for_each(|page| act(page * page_size()));
        faults() - before
    }

    #[test]
    fn s_17_a_forked_child_unmaps_nothing_that_it_does_not_have() {
        let dir = tempfile::tempdir().unwrap();
        let file = Linux.open(&dir.path().join("mapped-file"), Open::Create).unwrap();
        file.allocate(4096).unwrap();
        let is_mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().contains("mapped-file");
        let map = Linux.map_mut(&file, 4096).unwrap();
        assert!(is_mapped());
        drop(map);
        assert!(!is_mapped());
        // As a child sees it that has something else at this address.
        let mut map = Linux.map_mut(&file, 4096).unwrap();
        map.pid += 1;
        drop(map);
        assert!(is_mapped());
    }

    #[test]
    fn prefaulting_leaves_no_fault_to_the_first_store_or_load() {
        const FEW: u64 = 16;
        let dir = tempfile::tempdir().unwrap();
        let file = Linux.open(&dir.path().join("file"), Open::Create).unwrap();
        let len = PAGES * page_size();
        file.allocate(len as u64).unwrap();
        let writable = || Linux.map_mut(&file, len).unwrap();
        let store = |map: &LinuxMapMut| faults_of(|at| map.window_mut().store(at, 1));
        let load = |map: &LinuxMap| faults_of(|at| _ = std::hint::black_box(map.window().load(at)));

        // The twin that shows that faults are counted at all.
        let cold = store(&writable());
        assert!(cold > 4 * FEW, "{cold} faults for stores into {PAGES} fresh pages");

        let map = writable();
        Linux.prefault_mut(&map).unwrap();
        assert!(store(&map) <= FEW);
        let map = writable();
        map.touch();
        assert!(store(&map) <= FEW, "touching does the same");

        let map = Linux.map(&file, len).unwrap();
        Linux.prefault(&map).unwrap();
        assert!(load(&map) <= FEW);
        let map = Linux.map(&file, len).unwrap();
        map.touch();
        assert!(load(&map) <= FEW);
        assert_eq!(writable().window().load(len - page_size()), 1, "and no byte changed");
    }
}
