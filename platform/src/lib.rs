//! What Chronicle asks of an operating system.
//!
//! [`Platform`] is the whole of it, phrased in storage's words: files that are locked, allocated, mapped and
//! published; a word to sleep on; a clock. `chronicle-platform-linux` and `chronicle-platform-darwin` answer it for
//! their kernels, [`sim::Sim`] for a machine that loses power, tears sectors and runs out of disk on demand. All of
//! them pass [`conformance!`], so what is proven on the simulator is proven of the same `Queue` that ships.
//!
//! Everything here is mechanism: nothing retries, sleeps in loops, or decides. What a system cannot do is
//! reported ([`Support`]), never pretended. There is no trait object and no global.
//!
//! Paths are plain [`Path`]s. Files and directories are created private to owner and group (0640, 0750) unless a
//! method says otherwise, whatever the umask.

pub mod conformance;
mod memory;
mod pool;
pub mod sim;
mod trouble;
mod wal;

use chronicle_core::{Region, RegionMut};
use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use memory::{
    Accept, HUGE_PAGE, Memory, MemoryOptions, PageSize, Pages, Placement, Processor, is_memory_name, memory_len,
};
pub use pool::{Pool, Share};
pub use trouble::{Trouble, TroubleKind};
pub use wal::{WalDriver, WalMode, WalOptions, WalWay};

/// `Result` whose error is [`Trouble`]: the operation, the path and the system's reason.
pub type Result<T> = std::result::Result<T, Trouble>;

/// Where a mapping may begin in its file ([`Platform::map_mut_at`]): the largest page of any machine that we know.
pub const MAP_ALIGN: u64 = 1 << 16;

/// What identifies a file whatever its name: equal for two descriptors of one file, different for any two files that
/// exist at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// File system.
    pub device: u64,
    /// File within it.
    pub inode: u64,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Must exist; reading only.
    Read,
    /// Must exist; reading and writing.
    Write,
    /// Must not exist; created empty, reading and writing, mode 0640.
    Create,
    /// Created empty where it does not exist; reading and writing, mode 0640.
    Ensure,
    /// As `Ensure`, mode 0600: a file that a mere reader must not be able to open, such as a writer's lock.
    EnsurePrivate,
}

/// A kernel lock on a whole file (`flock`): between open file descriptions, advisory, gone when its holder dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// With other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// What kind of storage a directory lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Memory (tmpfs): survives processes, not the machine. A sync there returns at once and means nothing.
    Memory,
    /// Anything else.
    Disk,
}

/// What a platform can do beyond the minimum; used to report, and to choose a fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support {
    /// [`Platform::barrier`] reaches every running thread that registered: signal suppression without a fence.
    pub barrier: bool,
    /// Prefaulting is one call of the kernel's, which fails where a touched page would have raised SIGBUS; else pages are
    /// touched one by one, to the same end.
    pub prefault_write: bool,
    /// [`Platform::wait`] works on a read-only mapping shared between processes.
    pub shared_wait: bool,
    /// Memory without a name is sealed: whoever it is handed to can rely on its length ([`File::is_sealed`]).
    pub sealed_memory: bool,
    /// [`Platform::guard`] keeps this process alive where a peer cuts the file under a mapping.
    pub guard: bool,
    /// [`File::sync`] reaches the medium (false for the simulator with a lying disk, never for a real platform).
    pub durable_sync: bool,
}

/// Why a wait returned. All of them mean: look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A wake arrived, or the system woke us for a reason of its own.
    Signal,
    /// The word was not the expected one to begin with.
    Changed,
    /// The time ran out.
    TimedOut,
}

/// An open file. Dropping it closes it and releases its lock.
pub trait File: Debug + Send + Sync {
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize>;

    /// Writes all of `buf` at `offset`, extending the file as needed.
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()>;

    /// Length in bytes.
    fn len(&self) -> Result<u64>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends (with a hole). Never used on a file that somebody may have mapped.
    fn set_len(&self, len: u64) -> Result<()>;

    /// Extends to `len` with storage behind every byte, so that a full disk is an error here and never a fault later.
    /// Never shortens. After an error the length is anything between the old one and `len`.
    fn allocate(&self, len: u64) -> Result<()>;

    /// Writes zeros over `from..to`, extending the file as needed, so that every byte there has storage that was once
    /// written: after a [`File::sync`] no later write into the range changes what the file system notes about the file.
    /// [`File::allocate`] first makes a full disk an error before anything is written.
    fn fill(&self, from: u64, to: u64) -> Result<()> {
        const CHUNK: usize = 1 << 18;
        let zeros = vec![0; CHUNK.min(usize::try_from(to.saturating_sub(from)).unwrap_or(CHUNK))];
        let mut at = from;
        while at < to {
            let n = (to - at).min(CHUNK as u64);
            self.write_at(&zeros[..n as usize], at)?;
            at += n;
        }
        Ok(())
    }

    /// Makes written bytes (through `write_at` or a mapping) and the length durable. After an error the file's
    /// durable content is unknown for ever: a later success must not be believed.
    fn sync(&self) -> Result<()>;

    /// Which file this is.
    fn id(&self) -> Result<FileId>;

    /// Takes, or converts to, a lock without waiting; `false` if another description holds a conflicting one. A
    /// conversion that gets `false` may have lost the lock that was held before: kernels drop it first.
    fn try_lock(&self, lock: Lock) -> Result<bool>;

    /// Releases the lock.
    fn unlock(&self) -> Result<()>;

    /// Whether nobody, with whatever rights, can change the length any more.
    fn is_sealed(&self) -> Result<bool>;

    /// Time of last modification, ns since 1970: a hint for people and time-outs, never for correctness.
    fn modified_ns(&self) -> Result<u64>;
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its last component; names that are not UTF-8 are not ours and are left out of listings.
    pub name: String,
    /// Whether it is a directory (a symbolic link is not).
    pub is_dir: bool,
}

/// An operating system, in storage's words.
///
/// Cheap to clone; clones are the same system.
pub trait Platform: Clone + Debug + Send + Sync + 'static {
    /// An open file.
    type File: File + 'static;
    /// A read-only shared mapping.
    type Map: Region + Debug + Send + Sync + 'static;
    /// A writable shared mapping. Not inherited by a forked child.
    type MapMut: RegionMut + Debug + Send + Sync + 'static;
    /// What carries out a write-ahead log's operations.
    type Wal: WalDriver;

    /// What this system can do.
    fn support(&self) -> Support;

    // Names.

    /// Opens a regular file; its descriptor is close-on-exec. Anything else is refused, a symbolic link in the last
    /// component included.
    fn open(&self, path: &Path, how: Open) -> Result<Self::File>;
    /// Creates a directory and its missing parents, each durable in its parent. One that exists is fine.
    fn create_dirs(&self, path: &Path) -> Result<()>;
    /// Names in a directory, sorted.
    fn list(&self, dir: &Path) -> Result<Vec<Entry>>;
    /// Whether anything has this name.
    fn exists(&self, path: &Path) -> Result<bool>;
    /// Whether a directory has this name; a symbolic link to one is none.
    fn is_dir(&self, path: &Path) -> Result<bool>;
    /// Renames within one directory tree, replacing the target. Visible at once; durable after [`Platform::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file's name. Durable after [`Platform::sync_dir`].
    fn remove(&self, path: &Path) -> Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> Result<()>;

    /// Makes `file`, so far known as `from`, durable and visible under `to` at once: sync, rename, sync the directory.
    /// `to` never names an incomplete file, whatever crashes when.
    fn publish(&self, file: &Self::File, from: &Path, to: &Path) -> Result<()> {
        file.sync()?;
        self.rename(from, to)?;
        self.sync_dir(to.parent().unwrap_or(Path::new(".")))
    }

    /// Free bytes for an unprivileged user where `path` lies.
    fn free_bytes(&self, path: &Path) -> Result<u64>;
    /// What `path` lies on.
    fn medium(&self, path: &Path) -> Result<Medium>;
    /// A directory in memory with room for scratch files, if the system has one (`/dev/shm`).
    fn memory_dir(&self) -> Option<PathBuf>;

    // Memory.

    /// Maps the first `len` bytes for reading: a multiple of 4 above 0, because regions are read in words, and the file
    /// must be that long.
    fn map(&self, file: &Self::File, len: usize) -> Result<Self::Map>;
    /// As [`Platform::map`], for reading and writing.
    fn map_mut(&self, file: &Self::File, len: usize) -> Result<Self::MapMut>;
    /// As [`Platform::map_mut`], from byte `offset` of the file, a multiple of [`MAP_ALIGN`]: a window into a file that
    /// grows, so that its next part is mapped and prefaulted without touching the parts before it.
    fn map_mut_at(&self, file: &Self::File, offset: u64, len: usize) -> Result<Self::MapMut>;
    /// Touches every page for reading, so that the first load does not fault.
    fn prefault(&self, map: &Self::Map) -> Result<()>;
    /// Makes every page present and writable, so that the first store does not fault.
    fn prefault_mut(&self, map: &Self::MapMut) -> Result<()>;
    /// Pins the pages in memory. Where a limit forbids it, the error says which one and how much it allows.
    fn lock_memory(&self, map: &Self::MapMut) -> Result<()>;
    /// Makes memory of at least `len` bytes, a multiple of 4 above 0, that no named file lies behind: zeroed, every page
    /// present, sealed where it has no name. Wishes that are not granted are no errors; see [`Memory`].
    fn memory(&self, len: usize, options: &MemoryOptions<'_>) -> Result<Memory<Self>>;
    /// Opens memory by the name that it was made with, to map it: [`Open::Read`] or [`Open::Write`], anything else is
    /// refused.
    fn open_memory(&self, name: &str, how: Open) -> Result<Self::File>;
    /// Removes a memory's name; those who have it keep it.
    fn remove_memory(&self, name: &str) -> Result<()>;
    /// Asks for huge pages behind a mapping, best before its first touch, and says what it has.
    fn ask_huge(&self, map: &Self::MapMut) -> Pages;
    /// Asks for pages that are still absent to come from `node`, or with none only looks, and says where some of them lie;
    /// those that it looks at are present afterwards.
    fn place(&self, map: &Self::MapMut, node: Option<u32>) -> Placement;
    /// Guards a mapping until it is dropped: where a peer cuts the file and its pages are gone, loads find zeros and stores
    /// reach nobody, instead of ending the process, and the mapping is damaged for good.
    fn guard(&self, map: &Self::Map) -> Result<()>;
    /// As [`Platform::guard`].
    fn guard_mut(&self, map: &Self::MapMut) -> Result<()>;
    /// Whether a page of a guarded mapping was touched and gone. To be asked after bytes were read and before they are
    /// believed: `false` says that they are the file's.
    fn is_damaged(&self, map: &Self::Map) -> bool;
    /// As [`Platform::is_damaged`].
    fn is_damaged_mut(&self, map: &Self::MapMut) -> bool;
    /// The same mapping, for reading: a writer's own look at its region.
    fn reader(map: &Self::MapMut) -> impl Region + '_ {
        map
    }

    // Waiting.

    /// Sleeps while the word at `offset` of `map` equals `seen`, until woken, for at most `timeout`.
    fn wait(&self, map: &Self::Map, offset: usize, seen: u32, timeout: Duration) -> Result<Woken>;
    /// As [`Platform::wait`], on a writable mapping of the same file: the same sleepers.
    fn wait_mut(&self, map: &Self::MapMut, offset: usize, seen: u32, timeout: Duration) -> Result<Woken>;
    /// Wakes all who sleep on the word, in any process.
    fn wake(&self, map: &Self::MapMut, offset: usize) -> Result<()>;
    /// Wakes one of them at least, and where the system can, no more.
    fn wake_one(&self, map: &Self::MapMut, offset: usize) -> Result<()> {
        self.wake(map, offset)
    }
    /// Registers this process to be reached by barriers; before the first append of a writer in asymmetric mode.
    fn register_barrier(&self) -> Result<()>;
    /// A full memory barrier on every running thread of every registered process.
    fn barrier(&self) -> Result<()>;

    // Write-ahead logs.

    /// A driver for the log whose machine lives in `memory`, which the driver keeps alive. `lock` is the file whose lock the
    /// writer holds for life: where the kernel works on after a process has died, it keeps the lock held until the last
    /// write has landed. What is wished for and not to be had is no error; see [`WalMode`].
    fn wal(&self, memory: Arc<Self::MapMut>, lock: &Self::File, options: &WalOptions) -> Result<Self::Wal>;

    // Processors.

    /// The processors that the calling thread may run on, ascending.
    fn processors(&self) -> Result<Vec<Processor>>;
    /// Keeps the calling thread on one processor from now on.
    fn run_on(&self, processor: u32) -> Result<()>;

    // Clocks and names of processes.

    /// Wall clock, ns since 1970.
    fn now_ns(&self) -> u64;
    /// Monotonic clock, ns since some moment of this boot; the same for all processes.
    fn monotonic_ns(&self) -> u64;
    /// Identifies this boot of the machine: different after every restart.
    fn boot_id(&self) -> u128;
    /// This process and when it started, in the system's own ticks: for people and logs, never for locking.
    fn process(&self) -> Process;
    /// 16 unpredictable bytes, for identities.
    fn random(&self) -> u128;
    /// Sleeps on no word at all; the simulator advances its clock instead.
    fn sleep(&self, time: Duration);
}

/// Who a process is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id, in its own namespace.
    pub pid: u32,
    /// Start time in the system's ticks since boot; tells apart two processes of the same id.
    pub started: u64,
}
