//! Memory without a file that lasts: memfds, POSIX shared memory, huge pages, nodes.
//!
//! ```text
//! memfd or /dev/shm/name ── set length ── map ── advise huge ── prefer node ── fill ── seal ── look
//! ```
//!
//! The order matters. Pages take their size and node from what the mapping was told *before* they came into being, and
//! `fallocate` knows no mapping's advice, so where huge pages are hoped for the mapping is filled first. The length
//! is sealed last, when it will never change again.
//!
//! Huge pages that are reserved (hugetlb) either are there or the fill fails, and the next smaller wish is tried;
//! transparent ones are advice, so what came of it is read from `/proc/self/smaps` afterwards.

use crate::{LinuxFile, LinuxMapMut, sys};
use chronicle_core::Region;
use chronicle_platform::{
    File, HUGE_PAGE, Memory, MemoryOptions, Open, PageSize, Pages, Placement, Result, Trouble, is_memory_name,
    memory_len,
};
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
    param::page_size,
};
use std::{
    io,
    path::{Path, PathBuf},
    ptr::NonNull,
};

/// Where `shm_open` keeps its names.
const SHM: &str = "/dev/shm";

/// What others will see as this memory's file, in `/proc/PID/maps` and in errors.
const NAMELESS: &str = "memory";

pub(crate) fn make(len: usize, options: &MemoryOptions<'_>) -> Result<Memory<crate::Linux>> {
    let mut why = Vec::new();
    if options.pages == PageSize::Huge2M {
        match options.name {
            Some(_) => why.push("memory with a name has no reserved huge pages".to_owned()),
            None => match reserved(len, options) {
                Ok(memory) => return Ok(memory),
                Err(trouble) => why.push(no_reserved_pages(&trouble)),
            },
        }
    }
    let whole = whole(len, page_size(), options)?;
    room(whole, options)?;
    let file = match options.name {
        Some(name) => crate::file::open(&path_of("make memory", name)?, Open::Create)?,
        None => nameless(MemfdFlags::empty())?,
    };
    let made = base(file, whole, options, why);
    if let (Err(_), Some(name)) = (&made, options.name) {
        // The failure that led here is the news.
        _ = remove(name);
    }
    made
}

/// In huge pages that are there for certain, or not at all.
fn reserved(len: usize, options: &MemoryOptions<'_>) -> Result<Memory<crate::Linux>> {
    let whole = whole(len, HUGE_PAGE, options)?;
    let file = nameless(MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB)?;
    file.set_len(whole as u64)?;
    let map = LinuxMapMut::new(&file, 0, whole)?;
    let placement = prefer(&map, options.node);
    file.allocate(whole as u64)?;
    map.prefault()?;
    finish(file, map, options, placement, Vec::new())
}

/// In the machine's smallest pages, joined where that is asked for and the kernel likes.
fn base(
    file: LinuxFile,
    whole: usize,
    options: &MemoryOptions<'_>,
    mut why: Vec<String>,
) -> Result<Memory<crate::Linux>> {
    file.set_len(whole as u64)?;
    let map = LinuxMapMut::new(&file, 0, whole)?;
    if options.pages != PageSize::Base {
        why.extend(map.advise_huge().err());
    }
    let placement = prefer(&map, options.node);
    // Only the mapping knows the advice, so it is filled first where that can fail instead of faulting.
    if options.pages != PageSize::Base && crate::map::has_populate() {
        map.prefault()?;
    }
    file.allocate(whole as u64)?;
    map.prefault()?;
    finish(file, map, options, placement, why)
}

fn finish(
    file: LinuxFile,
    map: LinuxMapMut,
    options: &MemoryOptions<'_>,
    placement: Placement,
    why: Vec<String>,
) -> Result<Memory<crate::Linux>> {
    if options.name.is_none() {
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(|errno| Trouble::new("seal", file.path(), errno))?;
    }
    let pages = pages(&map, options.pages, why);
    let placement = look(&map, placement);
    Ok(Memory { file, map, pages, placement })
}

fn whole(len: usize, page: usize, options: &MemoryOptions<'_>) -> Result<usize> {
    let trouble = || Trouble::new("make memory", options.name.unwrap_or(NAMELESS), Errno::INVAL);
    memory_len(len, page)
        .ok_or_else(|| trouble().noting(format!("{len} bytes are no multiple of 4 above 0, or too many")))
}

/// Refuses what the machine does not have: filling it would have the kernel end processes until there is room.
fn room(whole: usize, options: &MemoryOptions<'_>) -> Result<()> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match available(&meminfo) {
        Some(bytes) if whole as u64 > bytes => {
            let trouble = Trouble::new("make memory", options.name.unwrap_or(NAMELESS), Errno::NOSPC);
            Err(trouble.noting(format!("{whole} bytes asked for, {bytes} available (MemAvailable)")))
        }
        _ => Ok(()),
    }
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn nameless(flags: MemfdFlags) -> Result<LinuxFile> {
    let fd = memfd_create("chronicle", flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|errno| Trouble::new("make memory", NAMELESS, errno))?;
    Ok(LinuxFile::new(fd.into(), Path::new(NAMELESS)))
}

fn path_of(operation: &'static str, name: &str) -> Result<PathBuf> {
    if is_memory_name(name) {
        return Ok(Path::new(SHM).join(name));
    }
    let note = "a name for shared memory is 1 to 30 of a-z A-Z 0-9 . - _, not beginning with a dot";
    Err(Trouble::new(operation, name, Errno::INVAL).noting(note))
}

pub(crate) fn open(name: &str, how: Open) -> Result<LinuxFile> {
    let path = path_of("open memory", name)?;
    match how {
        Open::Read | Open::Write => crate::file::open(&path, how),
        _ => Err(Trouble::new("open memory", path, Errno::INVAL)),
    }
}

pub(crate) fn remove(name: &str) -> Result<()> {
    crate::file::remove(&path_of("remove memory", name)?)
}

// Pages.

/// Asks for transparent huge pages and reports.
pub(crate) fn ask_huge(map: &LinuxMapMut) -> Pages {
    let why = map.advise_huge().err();
    pages(map, PageSize::Transparent, why.into_iter().collect())
}

fn no_reserved_pages(trouble: &Trouble) -> String {
    let total = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages").unwrap_or_default();
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").unwrap_or_default();
    let source = std::error::Error::source(trouble).map(ToString::to_string).unwrap_or_default();
    match (total.trim(), free.trim()) {
        ("", _) => format!("this kernel has no reserved pages of 2 MiB ({source})"),
        (total, free) => {
            format!("{free} of {total} reserved pages of 2 MiB are free ({source}); vm.nr_hugepages reserves more")
        }
    }
}

fn pages(map: &LinuxMapMut, asked: PageSize, mut why: Vec<String>) -> Pages {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let found = Smaps::of(&smaps, map.base().as_ptr() as usize);
    let reserved = found.as_ref().is_some_and(|found| found.page_bytes >= HUGE_PAGE as u64);
    let got = match asked {
        _ if reserved => PageSize::Huge2M,
        PageSize::Base => PageSize::Base,
        _ => match transparent(map.len()) {
            Ok(()) if !why.iter().any(|reason| reason.starts_with(ADVICE_FAILED)) => PageSize::Transparent,
            Ok(()) => PageSize::Base,
            Err(reason) => {
                why.push(reason);
                PageSize::Base
            }
        },
    };
    let huge_bytes = found.map(|found| if reserved { map.len() as u64 } else { found.joined_bytes });
    let why = (got != asked && !reserved).then(|| why.join("; "));
    Pages { asked, got, huge_bytes, why }
}

/// How a reason from `madvise` begins.
pub(crate) const ADVICE_FAILED: &str = "MADV_HUGEPAGE is refused";

/// Whether advice on shared memory means anything on this machine.
fn transparent(len: usize) -> std::result::Result<(), String> {
    if len < HUGE_PAGE {
        return Err(format!("{len} bytes are less than one huge page"));
    }
    const SWITCH: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let Ok(switch) = std::fs::read_to_string(SWITCH) else {
        return Err("this kernel has no transparent huge pages for shared memory".to_owned());
    };
    // All choices on one line, the one in force in brackets.
    match switch.split(['[', ']']).nth(1) {
        Some(off @ ("never" | "deny")) => Err(format!("{SWITCH} is {off}; `advise` there lets advice work")),
        Some(_) => Ok(()),
        None => Err(format!("{SWITCH} says nothing")),
    }
}

/// What `/proc/self/smaps` tells of one mapping.
#[derive(Debug, PartialEq, Eq)]
struct Smaps {
    /// Size of the pages of its kind.
    page_bytes: u64,
    /// Bytes that lie in huge pages by the kernel's own choice.
    joined_bytes: u64,
}

impl Smaps {
    /// Of the mapping that begins at `base`.
    fn of(text: &str, base: usize) -> Option<Smaps> {
        let begin = format!("{base:x}-");
        let mut lines = text.lines().skip_while(|line| !line.starts_with(&begin)).skip(1);
        let mut found = Smaps { page_bytes: 0, joined_bytes: 0 };
        lines
            .try_for_each(|line| {
                let mut words = line.split_ascii_whitespace();
                let name = words.next().unwrap_or_default();
                // The next mapping's first line.
                let name = name.strip_suffix(':').ok_or(())?;
                let bytes =
                    words.next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024);
                match name {
                    "KernelPageSize" => found.page_bytes = bytes,
                    "AnonHugePages" | "ShmemPmdMapped" | "FilePmdMapped" => found.joined_bytes += bytes,
                    _ => {}
                }
                Ok::<(), ()>(())
            })
            .ok();
        (found.page_bytes > 0).then_some(found)
    }
}

// Nodes.

pub(crate) fn place(map: &LinuxMapMut, node: Option<u32>) -> Placement {
    look(map, prefer(map, node))
}

fn prefer(map: &LinuxMapMut, node: Option<u32>) -> Placement {
    let mut placement = Placement { asked: node, got: None, why: None };
    if let Some(node) = node {
        // SAFETY: the range is the mapping's, which lives as long as the borrow and begins on a page's edge.
        if let Err(error) = unsafe { sys::prefer_node(map.base(), map.len(), node) } {
            placement.why = Some(match error.raw_os_error() {
                Some(libc::EINVAL) => format!("node {node} has no memory here"),
                _ => format!("mbind to node {node}: {error}"),
            });
        }
    }
    placement
}

/// Looks at up to 64 pages, evenly spread.
fn look(map: &LinuxMapMut, mut placement: Placement) -> Placement {
    const LOOKS: usize = 64;
    let pages = map.len().div_ceil(page_size());
    let mut seen = Vec::new();
    for look in 0..LOOKS.min(pages) {
        let offset = look * pages / LOOKS.min(pages) * page_size();
        match node_at(map, offset) {
            Ok(node) => seen.push(node),
            Err(error) => {
                placement.why.get_or_insert_with(|| format!("the kernel does not tell where pages lie: {error}"));
                return placement;
            }
        }
    }
    seen.sort_unstable();
    seen.dedup();
    match seen[..] {
        [node] => placement.got = Some(node),
        _ => placement.why = placement.why.or_else(|| Some(format!("its pages lie on nodes {seen:?}"))),
    }
    if placement.asked.is_some() && placement.got != placement.asked {
        placement.why.get_or_insert_with(|| "pages were there before, or that node is full".to_owned());
    }
    placement
}

fn node_at(map: &LinuxMapMut, offset: usize) -> io::Result<u32> {
    // A mapping is shorter than the address space is long, and `offset` is inside.
    let at = NonNull::new(map.base().as_ptr().wrapping_add(offset)).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: `at` is a page of the mapping, which lives as long as the borrow; mappings are only made of what a file
    // has.
    unsafe { sys::node_of(at) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Linux;
    use chronicle_core::RegionMut;
    use chronicle_platform::Platform;

    const SMAPS: &str = "\
7f0000000000-7f0000400000 rw-s 00000000 00:01 1 /memfd:chronicle (deleted)
Size:               4096 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
AnonHugePages:         0 kB
ShmemPmdMapped:     2048 kB
FilePmdMapped:         0 kB
VmFlags: rd wr sh
7f0000400000-7f0000800000 rw-s 00000000 00:01 1 /anon_hugepage (deleted)
KernelPageSize:     2048 kB
ShmemPmdMapped:        0 kB
";

    #[test]
    fn smaps_are_read_of_the_one_mapping() {
        let found = |base| Smaps::of(SMAPS, base);
        assert_eq!(found(0x7f00_0000_0000), Some(Smaps { page_bytes: 4096, joined_bytes: 2 << 20 }));
        assert_eq!(found(0x7f00_0040_0000), Some(Smaps { page_bytes: 2 << 20, joined_bytes: 0 }));
        assert_eq!(found(0x7f00_0000), None, "a prefix is another address");
        assert_eq!(Smaps::of("", 1), None);
    }

    #[test]
    fn more_than_the_machine_has_is_refused_before_it_is_filled() {
        let trouble = make(1 << (usize::BITS - 2), &MemoryOptions::default()).map(drop).unwrap_err();
        assert_eq!(trouble.kind(), chronicle_platform::TroubleKind::NoSpace);
        assert!(trouble.to_string().contains("MemAvailable"), "{trouble}");
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    12 kB\n"), Some(12 << 10));
        assert_eq!(available("MemAvailable:\n"), None);
    }

    #[test]
    fn a_name_is_one_that_shm_open_knows() {
        let name = format!("chronicle-{:016x}", crate::lease::random() as u64);
        let memory = make(4096, &MemoryOptions { name: Some(&name), ..MemoryOptions::default() }).unwrap();
        memory.map.window_mut().store(0, 11);
        let theirs = std::ffi::CString::new(format!("/{name}")).unwrap();
        // SAFETY: the name ends in a zero.
        let fd = unsafe { libc::shm_open(theirs.as_ptr(), libc::O_RDWR, 0) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the call gave it to us just now.
        let fd = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
        let file = LinuxFile::adopt(fd, chronicle_platform::Accept::Any).unwrap();
        assert_eq!(Linux.map(&file, 4096).unwrap().window().load(0), 11);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::shm_unlink(theirs.as_ptr()) }, 0);
        open(&name, Open::Read).expect_err("its name is gone");
    }

    #[test]
    fn memory_in_base_pages_really_is_there() {
        let memory = make(64 * page_size(), &MemoryOptions::default()).unwrap();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let found = Smaps::of(&smaps, memory.map.base().as_ptr() as usize).expect("the kernel tells of our mapping");
        assert_eq!(found.page_bytes, page_size() as u64);
        assert_eq!(memory.pages.huge_bytes, Some(found.joined_bytes));
    }

    #[test]
    fn huge_pages_are_what_the_kernel_says_that_they_are() {
        for asked in [PageSize::Transparent, PageSize::Huge2M] {
            let memory = make(HUGE_PAGE + 4, &MemoryOptions { pages: asked, ..MemoryOptions::default() }).unwrap();
            let len = memory.map.len();
            memory.map.window_mut().store(len - 4, 9);
            let again = Linux.map(&memory.file, len).unwrap();
            assert_eq!(again.window().load(len - 4), 9);
            match memory.pages.got {
                PageSize::Huge2M => {
                    assert_eq!((len, memory.pages.huge_bytes), (2 * HUGE_PAGE, Some(len as u64)));
                    Linux.map(&memory.file, 4096).expect_err("part of a page");
                    assert_eq!(Linux.ask_huge(&memory.map).got, PageSize::Huge2M);
                }
                PageSize::Transparent => assert!(memory.pages.huge_bytes.is_some_and(|bytes| bytes <= len as u64)),
                PageSize::Base => assert_eq!(memory.pages.huge_bytes, Some(0)),
            }
            assert!(memory.file.is_sealed().unwrap());
            eprintln!("{:?} in {len} bytes", memory.pages);
        }
    }

    #[test]
    fn where_pages_of_2_mib_run_out_smaller_ones_are_used_and_the_reason_told() {
        // More than any machine that runs this has reserved.
        let len = 1 << 40;
        let trouble = reserved(len, &MemoryOptions::default()).map(drop).expect_err("a TiB of reserved pages");
        assert!(!no_reserved_pages(&trouble).is_empty());
    }
}
