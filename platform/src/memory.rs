//! Memory that is asked for as such: how large its pages are, on which node they lie, and what was granted of that.
//!
//! [`Platform::memory`] gives a file without a name (or a POSIX shared memory with one) together with its mapping, every
//! page of it present. What the caller *wishes* (large pages, a node) and cannot have is no error: a program runs
//! slower without it, not wrongly. It is reported beside the memory, with the reason in words an operator can act on.
//! Nothing here pretends: what is reported was asked of the kernel after the pages were there.

use crate::Platform;

/// Size of a huge page, the only one that is asked for.
pub const HUGE_PAGE: usize = 2 << 20;

/// Sizes of pages: as a wish, and as what was granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageSize {
    /// The machine's smallest, such as 4 KiB.
    #[default]
    Base,
    /// The system is advised to join base pages into huge ones where it can, and may do so now, later or never.
    Transparent,
    /// Reserved pages of 2 MiB, there for certain. As a wish: `Transparent` where there are none, then `Base`.
    Huge2M,
}

/// What pages a mapping has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// The wish.
    pub asked: PageSize,
    /// What was granted.
    pub got: PageSize,
    /// Bytes of the mapping that lay in huge pages when it was asked, where the system tells.
    pub huge_bytes: Option<u64>,
    /// Why it is less than was asked for, and what to change.
    pub why: Option<String>,
}

/// Where a mapping lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The wish.
    pub asked: Option<u32>,
    /// The node of every page that was looked at; `None` where they differ or the system does not tell.
    pub got: Option<u32>,
    /// Why it is not as was asked for.
    pub why: Option<String>,
}

/// What memory is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryOptions<'a> {
    /// A name by which other processes of this machine open it: letters, digits, `.`, `-`, `_`, at most 30 of them (what
    /// every system takes). It must be free. The name is there before the bytes mean anything, so format the memory and
    /// let the others' attaching refuse until then. Without one the memory is only reached by whom it is handed to.
    pub name: Option<&'a str>,
    /// Size of its pages.
    pub pages: PageSize,
    /// The node that it should lie on.
    pub node: Option<u32>,
}

/// Memory of a fixed length, zeroed, with storage behind every byte of it.
#[derive(Debug)]
pub struct Memory<P: Platform> {
    /// For handing it to others and mapping it again; without a name it is sealed where the system can do that: nobody
    /// who has it can change its length ([`crate::File::is_sealed`]).
    pub file: P::File,
    /// Its mapping, all pages present and writable. At least as long as was asked for: whole pages.
    pub map: P::MapMut,
    /// What pages it got.
    pub pages: Pages,
    /// Where it lies.
    pub placement: Placement,
}

/// What is accepted of somebody who hands over memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Only what nobody can shorten any more: no peer can then take pages away under a mapping.
    Sealed,
    /// Anything: a peer that is trusted, or a mapping that is guarded ([`Platform::guard`]).
    Any,
}

/// One processor that the calling thread may run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Processor {
    /// Its number.
    pub id: u32,
    /// The node whose memory is near; `None` where the system does not tell.
    pub node: Option<u32>,
}

/// Whether a name is one that every system takes for shared memory.
#[must_use]
pub fn is_memory_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=30).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('.')
}

/// The length of memory of at least `len` bytes in whole pages of `page`; `None` where no memory can have that length.
#[must_use]
pub fn memory_len(len: usize, page: usize) -> Option<usize> {
    let whole = len.checked_next_multiple_of(page)?;
    (len > 0 && len.is_multiple_of(4) && whole <= isize::MAX as usize).then_some(whole)
}
