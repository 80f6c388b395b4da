//! Is this a file that LMDB can be let loose on? Walked with bounds-checked reads before it is mapped.
//!
//! LMDB believes its file: it follows page numbers, counts and lengths through a memory map, and a wrong one is a wild
//! pointer or an `abort`. So everything that LMDB follows is followed here first, for the commit that it would open:
//!
//! ```text
//! meta page ─┬─ free tree: transaction → pages freed, descending, in range, free once and used nowhere
//!            └─ main tree: depth, page type, own number, slots inside the page and apart, keys in order and within what the
//!               branch above says, overflow runs inside the file, counts as the meta page says, no page twice
//! ```
//!
//! Bodies of overflow pages are not read: no pointers lie in them, and records have checksums of their own. So the walk costs a
//! read for each tree page and one for each chunk of a snapshot. It needs memory for one entry per page run.
//!
//! Known: the layout of LMDB's data version 1 on 64-bit little-endian machines (`mdb.c`: `MDB_meta`, `MDB_page`,
//! `MDB_node`), as this crate writes it: one unnamed database, no duplicates, no flags. Anything else is refused.

use chronicle_platform::{File, Trouble};
use static_assertions::const_assert_eq;
use zerocopy::{
    FromBytes, Immutable, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

#[cfg(not(all(target_endian = "little", target_pointer_width = "64")))]
compile_error!("LMDB's file has the machine's word size and byte order: 64-bit little-endian machines only");

const MAGIC: u32 = 0xBEEF_C0DE;
/// LMDB's data version.
pub(crate) const DATA_VERSION: u32 = 1;
const NO_PAGE: u64 = u64::MAX;
const META_PAGES: u64 = 2;
/// Deepest tree LMDB's cursors can walk.
const MAX_DEPTH: u16 = 32;
const MAX_KEY: usize = 511;

const PAGE_HEADER: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const OVERFLOW: u16 = 4;
const META: u16 = 8;
const NODE_HEADER: usize = 8;
const BIG_DATA: u16 = 1;

/// Flags that LMDB keeps in the free tree's record: integer keys, and ours from `env.rs`, no subdirectory.
const ENV_FLAGS: u16 = 0x0008 | 0x4000;

/// One of the trees that a meta page leads to.
#[derive(Clone, Copy, Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Tree {
    /// In the free tree's: the page size.
    pad: U32,
    flags: U16,
    depth: U16,
    branch_pages: U64,
    leaf_pages: U64,
    overflow_pages: U64,
    entries: U64,
    root: U64,
}
const_assert_eq!(size_of::<Tree>(), 48);

/// A meta page up to what is used of it.
#[derive(Clone, Copy, Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Meta {
    number: U64,
    pad: U16,
    flags: U16,
    unused: U32,
    magic: U32,
    version: U32,
    address: U64,
    map_size: U64,
    free: Tree,
    main: Tree,
    last_page: U64,
    txn: U64,
}
const META_LEN: usize = 152;
const_assert_eq!(size_of::<Meta>(), META_LEN);

/// Why LMDB must not see a file.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It could not be read.
    Trouble(Trouble),
    /// Written by another version.
    Version {
        /// Whose number it is.
        of: &'static str,
        /// What the file says.
        found: u32,
        /// What is known.
        known: u32,
    },
    /// What is wrong, and where.
    Damage(String),
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        Fault::Trouble(trouble)
    }
}

macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(Fault::Damage(format!($($what)+)));
        }
    };
}

/// A file that was found to be what LMDB expects, and how LMDB is to open it. Made here only.
#[derive(Debug)]
pub(crate) struct Checked {
    /// At the commit before the last.
    pub(crate) previous: bool,
    _private: (),
}

impl Checked {
    /// An empty file: LMDB makes a new store of it.
    pub(crate) fn empty(file: &impl File) -> Result<Self, Fault> {
        let len = file.len()?;
        ensure!(len == 0, "file of {len} bytes, expected an empty one");
        Ok(Checked { previous: false, _private: () })
    }
}

/// One of the two commits that a store's file holds.
#[derive(Debug)]
pub(crate) struct Commit {
    /// Whether it is the one before the last.
    previous: bool,
    meta: Meta,
    page_size: u64,
    file_len: u64,
}

/// The last commit and the one before it, neither walked yet; in a new store both are the same transaction.
pub(crate) fn commits(file: &impl File) -> Result<[Commit; 2], Fault> {
    let file_len = file.len()?;
    let first = meta(file, 0, file_len)?;
    let page_size = u64::from(first.free.pad.get());
    ensure!(page_size.is_power_of_two() && (512..=65536).contains(&page_size), "offset 40: page size {page_size}");
    let second = meta(file, page_size, file_len)?;
    ensure!(
        u64::from(second.free.pad.get()) == page_size,
        "offset {}: page size {}, meta page 0 says {page_size}",
        page_size + 40,
        second.free.pad
    );
    for (number, meta) in (0..).zip([&first, &second]) {
        // These are written once: a commit leaves them as they are, so they must be right in both.
        ensure!(meta.number.get() == number, "offset {}: page {number} says it is {}", number * page_size, meta.number);
        ensure!(meta.address.get() == 0, "meta page {number}: fixed address 0x{:x}", meta.address);
    }
    // As LMDB picks it.
    let pair = if first.txn.get() < second.txn.get() { [second, first] } else { [first, second] };
    let [last, before] = pair;
    Ok([(last, false), (before, true)].map(|(meta, previous)| Commit { previous, meta, page_size, file_len }))
}

fn meta(file: &impl File, offset: u64, file_len: u64) -> Result<Meta, Fault> {
    let mut bytes = [0; META_LEN];
    let read = read_full(file, &mut bytes, offset)?;
    ensure!(read, "file of {file_len} bytes is too short for the meta page at {offset}");
    let meta = Meta::read_from_bytes(&bytes).expect("as long as itself");
    ensure!(meta.flags.get() == META, "offset {offset}: page flags 0x{:x}, no meta page", meta.flags);
    ensure!(meta.magic.get() == MAGIC, "offset {}: magic 0x{:08x}, not LMDB's", offset + 16, meta.magic);
    if meta.version.get() != DATA_VERSION {
        return Err(Fault::Version { of: "LMDB data", found: meta.version.get(), known: DATA_VERSION });
    }
    Ok(meta)
}

/// Whether the file had all of them.
fn read_full(file: &impl File, mut buf: &mut [u8], mut offset: u64) -> Result<bool, Trouble> {
    while !buf.is_empty() {
        match file.read_at(buf, offset)? {
            0 => return Ok(false),
            n => (buf, offset) = (&mut buf[n..], offset + n as u64),
        }
    }
    Ok(true)
}

impl Commit {
    /// LMDB's number of the transaction.
    pub(crate) fn txn(&self) -> u64 {
        self.meta.txn.get()
    }

    /// Follows everything that LMDB would. `is_whole` judges the value of `wanted`, if the main tree has that key with a
    /// short value, and says what is wrong with it.
    pub(crate) fn check(
        &self,
        file: &impl File,
        wanted: &[u8],
        is_whole: impl FnOnce(Option<&[u8]>) -> Result<(), Fault>,
    ) -> Result<Checked, Fault> {
        let meta = &self.meta;
        ensure!(meta.free.flags.get() == ENV_FLAGS, "meta page: flags 0x{:x} of the free tree", meta.free.flags);
        ensure!(meta.main.flags.get() == 0, "meta page: flags 0x{:x} of the main tree", meta.main.flags);
        let last = meta.last_page.get();
        ensure!(
            last > 0 && last < meta.map_size.get() / self.page_size,
            "meta page: last page {last}, map of {} bytes",
            meta.map_size
        );
        let mut walk = Walk {
            file,
            commit: self,
            used: Vec::new(),
            visited: 0,
            wanted,
            found: None,
            page: vec![0; self.page_size as usize],
        };
        walk.tree(&meta.free, Which::Free)?;
        walk.tree(&meta.main, Which::Main)?;
        walk.no_page_twice()?;
        is_whole(walk.found.as_deref())?;
        Ok(Checked { previous: self.previous, _private: () })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Which {
    Free,
    Main,
}

#[derive(Default)]
struct Counts {
    branch: u64,
    leaf: u64,
    overflow: u64,
    entries: u64,
}

struct Walk<'a, F> {
    file: &'a F,
    commit: &'a Commit,
    /// Runs of pages, (first, count), that a tree uses or the free tree lists.
    used: Vec<(u64, u64)>,
    /// Pages read: more than the file has means that a page is reached twice.
    visited: u64,
    wanted: &'a [u8],
    found: Option<Vec<u8>>,
    page: Vec<u8>,
}

/// A slot of a page: its key, and the page below or the value.
struct Node {
    key: Vec<u8>,
    data: Data,
}

enum Data {
    Child(u64),
    Short(Vec<u8>),
    Long { first: u64, len: u64 },
}

impl<F: File> Walk<'_, F> {
    fn tree(&mut self, tree: &Tree, which: Which) -> Result<(), Fault> {
        let mut counts = Counts::default();
        if tree.root.get() == NO_PAGE {
            ensure!(tree.depth.get() == 0, "meta page: depth {} of an empty tree", tree.depth);
        } else {
            ensure!((1..=MAX_DEPTH).contains(&tree.depth.get()), "meta page: a tree of depth {}", tree.depth);
            self.subtree(tree.root.get(), tree.depth.get(), which, (None, None), &mut counts)?;
        }
        for (what, says, is) in [
            ("branch pages", tree.branch_pages, counts.branch),
            ("leaf pages", tree.leaf_pages, counts.leaf),
            ("overflow pages", tree.overflow_pages, counts.overflow),
            ("entries", tree.entries, counts.entries),
        ] {
            ensure!(says.get() == is, "meta page: {says} {what}, the tree has {is}");
        }
        Ok(())
    }

    /// `below` levels, this page included; its keys are at or above the first and below the second of `bounds`.
    fn subtree(
        &mut self,
        number: u64,
        below: u16,
        which: Which,
        bounds: (Option<&[u8]>, Option<&[u8]>),
        counts: &mut Counts,
    ) -> Result<(), Fault> {
        let kind = if below == 1 { LEAF } else { BRANCH };
        self.read(number, kind)?;
        self.used.push((number, 1));
        let nodes = self.nodes(number, kind, which)?;
        self.keys_in_order(number, kind, which, bounds, &nodes)?;
        if kind == BRANCH {
            counts.branch += 1;
            // A branch of the main tree has two ways at least; LMDB asserts it.
            ensure!(nodes.len() > usize::from(which == Which::Main), "page {number}: a branch with one way");
            for (at, node) in nodes.iter().enumerate() {
                let Data::Child(child) = node.data else { unreachable!("a branch has children") };
                // The first key of a branch may be missing: then the bound from above counts.
                let low = if at == 0 { bounds.0 } else { Some(&node.key[..]) };
                let high = nodes.get(at + 1).map_or(bounds.1, |next| Some(&next.key[..]));
                self.subtree(child, below - 1, which, (low, high), counts)?;
            }
            return Ok(());
        }
        counts.leaf += 1;
        counts.entries += nodes.len() as u64;
        for node in nodes {
            match (which, node.data) {
                (_, Data::Child(_)) => unreachable!("a leaf has values"),
                (Which::Main, Data::Short(value)) => {
                    if node.key == self.wanted {
                        self.found = Some(value);
                    }
                }
                (Which::Main, Data::Long { first, len }) => {
                    counts.overflow += self.run(first, len)?;
                }
                (Which::Free, Data::Short(value)) => self.freed(number, &node.key, &value)?,
                (Which::Free, Data::Long { first, len }) => {
                    counts.overflow += self.run(first, len)?;
                    let mut value = vec![0; usize::try_from(len).expect("within the file")];
                    let offset = first * self.commit.page_size + PAGE_HEADER as u64;
                    let read = read_full(self.file, &mut value, offset)?;
                    ensure!(read, "page {first}: value of {len} bytes ends behind the file");
                    self.freed(number, &node.key, &value)?;
                }
            }
        }
        Ok(())
    }

    /// Reads page `number` and checks that it is one of `kind`.
    fn read(&mut self, number: u64, kind: u16) -> Result<(), Fault> {
        let commit = self.commit;
        self.visited += 1;
        ensure!(self.visited <= commit.file_len / commit.page_size, "page {number}: reached more than once");
        self.in_file(number, 1)?;
        let read = read_full(self.file, &mut self.page, number * commit.page_size)?;
        ensure!(read, "page {number}: ends behind the file");
        let (says, flags) = (u64_at(&self.page, 0), u16_at(&self.page, 10));
        ensure!(says == number, "page {number}: says it is {says}");
        ensure!(flags == kind, "page {number}: flags 0x{flags:x}, expected 0x{kind:x}");
        Ok(())
    }

    /// Whether a run of pages lies behind the meta pages, at or before the last page, and inside the file.
    fn in_file(&self, first: u64, count: u64) -> Result<(), Fault> {
        let commit = self.commit;
        let end = first.checked_add(count).filter(|&end| end - 1 <= commit.meta.last_page.get());
        let inside = end.is_some_and(|end| end <= commit.file_len / commit.page_size);
        ensure!(
            first >= META_PAGES && inside,
            "page {first}: {count} pages from here leave the file of {} bytes or pass its last page {}",
            commit.file_len,
            commit.meta.last_page
        );
        Ok(())
    }

    /// Checks the overflow pages of a value and returns how many there are.
    fn run(&mut self, first: u64, len: u64) -> Result<u64, Fault> {
        let count = (PAGE_HEADER as u64 - 1 + len) / self.commit.page_size + 1;
        self.in_file(first, count)?;
        let mut header = [0; PAGE_HEADER];
        let read = read_full(self.file, &mut header, first * self.commit.page_size)?;
        ensure!(read, "page {first}: ends behind the file");
        let (says, flags, pages) = (u64_at(&header, 0), u16_at(&header, 10), u32_at(&header, 12));
        ensure!(says == first, "page {first}: says it is {says}");
        ensure!(flags == OVERFLOW, "page {first}: flags 0x{flags:x}, expected 0x{OVERFLOW:x}");
        ensure!(u64::from(pages) == count, "page {first}: a run of {pages} pages for {len} bytes, expected {count}");
        self.used.push((first, count));
        Ok(count)
    }

    /// The slots of the page that was read last: inside the page, and apart.
    fn nodes(&self, number: u64, kind: u16, which: Which) -> Result<Vec<Node>, Fault> {
        let page = &self.page[..];
        let (lower, upper) = (usize::from(u16_at(page, 12)), usize::from(u16_at(page, 14)));
        ensure!(
            lower > PAGE_HEADER && lower.is_multiple_of(2) && lower <= upper && upper <= page.len(),
            "page {number}: slots end at {lower}, nodes begin at {upper}"
        );
        let mut nodes = Vec::with_capacity((lower - PAGE_HEADER) / 2);
        let mut places = Vec::with_capacity(nodes.capacity());
        for slot in (PAGE_HEADER..lower).step_by(2) {
            let at = usize::from(u16_at(page, slot));
            ensure!(
                at >= upper && at.is_multiple_of(2) && at + NODE_HEADER <= page.len(),
                "page {number}: slot at {slot} points to {at}"
            );
            let (low, high, flags, key_len) =
                (u16_at(page, at), u16_at(page, at + 2), u16_at(page, at + 4), usize::from(u16_at(page, at + 6)));
            let len = u32::from(low) | u32::from(high) << 16;
            let body = &page[at + NODE_HEADER..];
            let may_be_empty = kind == BRANCH && slot == PAGE_HEADER;
            ensure!(
                key_len <= MAX_KEY.min(body.len()) && (key_len > 0 || may_be_empty),
                "page {number}: key of {key_len} bytes at {at}"
            );
            ensure!(
                which == Which::Main || key_len == 8 || key_len == 0,
                "page {number}: key of {key_len} bytes in the free tree"
            );
            let (key, body) = body.split_at(key_len);
            let (data, data_len) = if kind == BRANCH {
                // The page below: its upper half lies where a leaf has its flags.
                (Data::Child(u64::from(len) | u64::from(flags) << 32), 0)
            } else if flags == BIG_DATA {
                ensure!(body.len() >= 8, "page {number}: node at {at} leaves the page");
                (Data::Long { first: u64_at(body, 0), len: u64::from(len) }, 8)
            } else {
                ensure!(flags == 0, "page {number}: node flags 0x{flags:x} at {at}");
                ensure!(len as usize <= body.len(), "page {number}: value of {len} bytes at {at} leaves the page");
                (Data::Short(body[..len as usize].to_vec()), len as usize)
            };
            places.push((at, (NODE_HEADER + key_len + data_len).next_multiple_of(2)));
            nodes.push(Node { key: key.to_vec(), data });
        }
        // LMDB moves nodes together when one goes, by these lengths: they must fill the page's upper part exactly.
        places.sort_unstable();
        let end = places.iter().try_fold(upper, |expected, &(at, len)| (at == expected).then_some(at + len));
        ensure!(end == Some(page.len()), "page {number}: nodes overlap or leave gaps");
        Ok(nodes)
    }

    fn keys_in_order(
        &self,
        number: u64,
        kind: u16,
        which: Which,
        (low, high): (Option<&[u8]>, Option<&[u8]>),
        nodes: &[Node],
    ) -> Result<(), Fault> {
        // The first key of a branch stands for whatever is smaller: LMDB does not look at it.
        let keys = &nodes[usize::from(kind == BRANCH)..];
        let before = |a: &[u8], b: &[u8]| match which {
            Which::Main => a < b,
            // Both are 8 bytes: a branch's first key is left out here, and bounds come from the others.
            Which::Free => u64_at(a, 0) < u64_at(b, 0),
        };
        let ordered = keys.windows(2).all(|pair| before(&pair[0].key, &pair[1].key));
        ensure!(ordered, "page {number}: keys out of order");
        if let (Some(first), Some(last)) = (keys.first(), keys.last()) {
            let inside =
                low.is_none_or(|low| !before(&first.key, low)) && high.is_none_or(|high| before(&last.key, high));
            ensure!(inside, "page {number}: keys outside what the branch above says");
        }
        Ok(())
    }

    /// One record of the free tree: which transaction freed which pages.
    fn freed(&mut self, number: u64, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let txn = u64_at(key, 0);
        ensure!((1..=self.commit.txn()).contains(&txn), "page {number}: pages freed by transaction {txn}");
        ensure!(
            value.len() >= 8 && value.len().is_multiple_of(8) && u64_at(value, 0) < value.len() as u64 / 8,
            "page {number}: list of free pages in {} bytes",
            value.len()
        );
        let mut above = self.commit.meta.last_page.get() + 1;
        for at in 1..=u64_at(value, 0) as usize {
            let free = u64_at(value, at * 8);
            ensure!(
                (META_PAGES..above).contains(&free),
                "page {number}: free page {free} is out of order or none of the file's"
            );
            above = free;
            self.used.push((free, 1));
        }
        Ok(())
    }

    fn no_page_twice(&mut self) -> Result<(), Fault> {
        self.used.sort_unstable();
        let mut next = 0;
        for &(first, count) in &self.used {
            ensure!(first >= next, "page {first}: used twice, or used and free");
            next = first + count;
        }
        Ok(())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
