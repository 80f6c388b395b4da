//! A machine in memory that fails on demand, from a seed.
//!
//! [`Sim`] is a [`Platform`] like any other: the same `Queue`, refinery and tier manager that ship run on it, unchanged,
//! through the same generic parameter. It passes the same conformance suite. What it adds is everything that a real
//! machine does too rarely to be tested:
//!
//! - **Power cuts** ([`Sim::crash`], [`Sim::crash_at`], and [`Sim::survivors`], which goes through all that may be left
//!   instead of drawing it by chance). What was synced survives. What was not may survive, or not, or
//!   in part: each page of 4 KiB may be of another moment, each sector of 512 bytes of a page on its way old or new,
//!   each rename, creation and removal done or undone, a length old, new or between. At random operations single pages
//!   are copied from memory to the medium, for mapped files as for written ones, so that any version that a page ever
//!   had can be the one that is found.
//! - **Killed processes** ([`Sim::start_process`], [`Sim::kill`], [`Sim::kill_at`]). Memory stays, locks go, and what a
//!   log's driver had given to the device lands later, if ever ([`Sim::land`]).
//! - **Drivers of logs that are slow, out of order, interrupted and cut short** ([`SimWal`], [`Faults`]).
//! - **Failed syncs, full disks, disks that lie** ([`Faults`]).
//! - **Time** that stands still but for [`Sim::advance`], sleeping, and waits that run out.
//!
//! One seed and one order of calls give one story; with several threads the order is theirs. Stores into a mapping are
//! no operations, because nobody can see them: [`Sim::tick`] is for tests that do nothing else.
//!
//! Never here: symbolic links, permissions other than [`Sim::set_read_only`], and blocking. It is stricter than a kernel
//! in two ways: a file with holes cannot be mapped for writing (a full disk would be a fault later), and a file cannot
//! be mapped beyond twice the length that it had when it was first mapped as long as a mapping of it is alive.
//!
//! ```
//! use chronicle_platform::{File, Open, Platform, sim::Sim};
//! use std::path::Path;
//!
//! let sim = Sim::new(42);
//! let file = sim.open(Path::new("/log"), Open::Create)?;
//! sim.sync_dir(Path::new("/"))?;
//! file.write_at(b"promised", 0)?;
//! file.sync()?;
//! file.write_at(b"maybe", 8)?;
//!
//! let after = sim.crash();
//! let mut found = [0; 8];
//! after.open(Path::new("/log"), Open::Read)?.read_at(&mut found, 0)?;
//! assert_eq!(&found, b"promised");
//! file.write_at(b"too late", 0).unwrap_err();
//! # Ok::<(), chronicle_platform::Trouble>(())
//! ```

mod content;
mod flight;
mod machine;
mod names;
mod pages;
mod random;
mod survivors;
mod wal;

use crate::{
    Entry, File, FileId, Lock, MAP_ALIGN, Medium, Memory, MemoryOptions, Open, PageSize, Pages, Placement, Platform,
    Process, Processor, Result, Support, Trouble, WalOptions, Woken, is_memory_name, memory_len,
};
use chronicle_core::{HeapRegion, Region, RegionMut};
use machine::{EBADF, EEXIST, EINVAL, EIO, EISDIR, ENOENT, ENOSPC, ENOTDIR, EPERM, Machine, errno};
use names::Inode;
use std::{
    fmt, io,
    path::{Path, PathBuf},
    ptr::NonNull,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use survivors::Survivors;
pub use wal::SimWal;

/// What goes wrong besides crashes, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// One in so many operations is accompanied by the kernel writing back a few pages; 0: it never does before a
    /// sync.
    pub write_back_one_in: u64,
    /// The sync of this number fails with `EIO`; counted from 1, files, directories, and writes of drivers that
    /// carry one; see [`Sim::syncs`].
    pub failing_sync: Option<u64>,
    /// One in so many syncs fails with `EIO`; 0: none.
    pub sync_fails_one_in: u64,
    /// The operation of this number fails with `EIO` and does nothing; counted from 1, see [`Sim::operations`].
    pub failing_operation: Option<u64>,
    /// Syncs succeed and do nothing: a device whose cache lies. [`Support::durable_sync`] tells.
    pub lying_sync: bool,
    /// A sector that did not survive the tearing of what it was part of holds garbage, not what it held before: a device
    /// without power-safe overwrite.
    pub garbage: bool,
    /// One in so many writes of a log's driver is interrupted before it did anything; 0: none.
    pub interrupted_one_in: u64,
    /// The driver's write of this number ends after so many bytes; counted from 1, see [`Sim::writes`].
    pub short_write: Option<(u64, u32)>,
    /// One in so many writes of a driver ends after fewer bytes than it has; 0: none.
    pub write_is_short_one_in: u64,
    /// The driver's write of this number fails with this errno, after a part of it that nobody tells.
    pub failing_write: Option<(u64, i32)>,
    /// One in so many writes of a driver fails with `EIO`; 0: none.
    pub write_fails_one_in: u64,
    /// One in so many operations is accompanied by a write of a dead process that lands at last; 0: they stay on their
    /// way until [`Sim::land`].
    pub late_one_in: u64,
    /// Size of the disk.
    pub disk_bytes: u64,
    /// Size of the memory directories together; see [`Sim::mount_memory`].
    pub memory_bytes: u64,
}

impl Default for Faults {
    /// A kernel that writes back now and then, and nothing wrong.
    fn default() -> Self {
        Faults {
            write_back_one_in: 2,
            failing_sync: None,
            sync_fails_one_in: 0,
            failing_operation: None,
            lying_sync: false,
            garbage: false,
            interrupted_one_in: 0,
            short_write: None,
            write_is_short_one_in: 0,
            failing_write: None,
            write_fails_one_in: 0,
            late_one_in: 4,
            disk_bytes: u64::MAX,
            memory_bytes: u64::MAX,
        }
    }
}

/// Processors of a simulated machine, and the nodes that they are spread over.
const PROCESSORS: u32 = 4;
const NODES: u32 = 2;

/// A simulated machine's memory is a real one's; more than any has is refused before its pages are counted.
const MOST_MEMORY: u64 = 1 << 40;

/// One process on a simulated machine. Clones are the same process.
#[derive(Clone)]
pub struct Sim {
    machine: Arc<Mutex<Machine>>,
    pid: u32,
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = self.machine();
        f.debug_struct("Sim")
            .field("boot_id", &machine.boot_id)
            .field("pid", &self.pid)
            .field("operations", &machine.operations)
            .finish_non_exhaustive()
    }
}

impl Sim {
    /// The first process of a machine with an empty disk, as chance has it from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Sim {
        Sim::boot(Machine::new(seed))
    }

    fn boot(mut machine: Machine) -> Sim {
        let pid = machine.next_pid();
        Sim { machine: Arc::new(Mutex::new(machine)), pid }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        // A panic of a test's thread in here leaves a machine that can still be looked at.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another process on the same machine.
    #[must_use]
    pub fn start_process(&self) -> Sim {
        let pid = self.machine().next_pid();
        Sim { machine: self.machine.clone(), pid }
    }

    /// Ends this process as `SIGKILL` does: its files close, its locks go, and everything it asks for from now on is
    /// refused. What it wrote stays. Its threads are the test's to stop: a store into a mapping cannot be refused.
    pub fn kill(&self) {
        self.machine().kill(self.pid);
    }

    /// Kills this process in operation `n` of the machine, which may or may not have happened then.
    pub fn kill_at(&self, n: u64) {
        self.machine().kill_at.insert(self.pid, n);
    }

    /// Cuts the power. The survivor is the machine booted again, with one process; this one refuses everything from now
    /// on. Called again it gives another possible survivor of the same moment.
    #[must_use]
    pub fn crash(&self) -> Sim {
        Sim::boot(self.machine().crash())
    }

    /// Cuts the power in operation `n`, which may or may not have happened then; see [`Sim::crash`] for what is left.
    pub fn crash_at(&self, n: u64) {
        self.machine().crash_at = Some(n);
    }

    /// Cuts the power, and goes through what may be left: all of it where the device may or may not have few operations,
    /// `samples` by chance where it is more; see [`Survivors`]. This machine refuses everything from now on.
    #[must_use]
    pub fn survivors(&self, samples: u64) -> Survivors {
        Survivors::new(self.clone(), samples)
    }

    /// Whether the power is cut.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.machine().off
    }

    /// Operations since boot, of all processes.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.machine().operations
    }

    /// Syncs since boot, of files and directories, and those that writes of drivers carry.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.machine().syncs
    }

    /// Writes of drivers of logs that were carried out since boot, whatever came of them.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.machine().writes
    }

    /// Writes of processes that died while they were on their way to the device.
    #[must_use]
    pub fn late_writes(&self) -> usize {
        self.machine().late().count()
    }

    /// Lets one of [`Sim::late_writes`] land, whoever owns the file by now; `false` if there is none. They also do so by
    /// chance: [`Faults::late_one_in`].
    pub fn land(&self) -> bool {
        self.machine().land()
    }

    /// The last operation, for the message of a test that failed.
    #[must_use]
    pub fn last_operation(&self) -> String {
        let machine = self.machine();
        format!("operation {}: {} {}", machine.operations, machine.last.0, machine.last.1.display())
    }

    /// From now on, these things go wrong.
    pub fn faults(&self, faults: Faults) {
        self.machine().faults = faults;
    }

    /// One operation of no effect, but that the kernel writes back a few pages.
    pub fn tick(&self) {
        // Off or dead, there is no kernel to do it.
        _ = self.operate("tick", Path::new(""), |machine| {
            machine.write_back();
            Ok(())
        });
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        self.machine().advance(time);
    }

    /// Sets the wall clock, forwards or back. The monotonic clock does not notice.
    pub fn set_now_ns(&self, ns: u64) {
        self.machine().wall_ns = ns;
    }

    /// Puts memory at `path`, which is created: what lies there survives processes and no power cut. The first such
    /// directory is [`Platform::memory_dir`]. Mount it empty; `/` makes the whole machine forgetful.
    ///
    /// # Errors
    ///
    /// As [`Platform::create_dirs`].
    pub fn mount_memory(&self, path: &Path) -> Result<()> {
        self.create_dirs(path)?;
        self.operate("mount", path, |machine| machine.mount_memory(path))
    }

    /// Refuses, or allows again, every change at and below `path`.
    pub fn set_read_only(&self, path: &Path, read_only: bool) {
        let mut machine = self.machine();
        if read_only {
            machine.read_only.insert(path.to_owned());
        } else {
            machine.read_only.remove(path);
        }
    }

    /// Every operation goes through here: it is counted, and refused, cut short or failed where that is due.
    fn operate<T>(
        &self,
        operation: &'static str,
        path: &Path,
        act: impl FnOnce(&mut Machine) -> io::Result<T>,
    ) -> Result<T> {
        let mut machine = self.machine();
        let machine = &mut *machine;
        let trouble = |source: io::Error| Trouble::new(operation, path, source);
        let off = || trouble(io::Error::other("machine is off"));
        let dead = || trouble(io::Error::other("process is dead"));
        if machine.off {
            return Err(off());
        }
        if machine.dead.contains(&self.pid) {
            return Err(dead());
        }
        machine.operations += 1;
        machine.last = (operation, path.to_owned());
        let now = machine.operations;
        let cut = machine.crash_at.is_some_and(|n| now >= n);
        if cut || machine.kill_at.get(&self.pid).is_some_and(|n| now >= *n) {
            if machine.random.coin() {
                // Done, and nobody is told.
                _ = act(machine);
            }
            if cut {
                machine.off = true;
                return Err(off());
            }
            machine.kill(self.pid);
            return Err(dead());
        }
        if machine.faults.failing_operation == Some(now) {
            return Err(trouble(io::Error::from_raw_os_error(EIO)));
        }
        machine.maybe_write_back();
        machine.maybe_land();
        act(machine).map_err(trouble)
    }

    fn mapping(&self, file: &SimFile, start: u64, len: usize, writable: bool) -> Result<SimMemory> {
        let (region, inode) = self.operate("map", &file.path, |machine| {
            if writable {
                machine.writable(file.id)?;
            }
            let content = machine.content(file.id);
            if len == 0 || !len.is_multiple_of(4) || !start.is_multiple_of(MAP_ALIGN) {
                return errno(EINVAL);
            }
            let end = start.checked_add(len as u64).filter(|end| *end <= content.live.len());
            let Some(end) = end.and_then(|end| usize::try_from(end).ok()) else {
                let reason = format!("{len} bytes from {start} asked for, the file has {}", content.live.len());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
            };
            if writable && content.has_holes(end as u64) {
                return Err(io::Error::other("a store into a hole would need room that the disk may not have"));
            }
            let region = content.live.region(end).ok_or_else(|| {
                io::Error::other("the file is mapped and outgrew its simulated memory, which cannot move")
            })?;
            if writable {
                content.map_writable();
            }
            Ok((region, machine.descriptions[&file.id].inode))
        })?;
        let (guarded, damaged) = (AtomicBool::new(false), AtomicBool::new(false));
        // Inside the region, which holds the file's first `end` bytes.
        Ok(SimMemory { region, start: start as usize, len, path: file.path.clone(), inode, guarded, damaged })
    }

    /// A cut file is noticed when somebody asks; a kernel notices it at the first touch.
    fn lost_pages(&self, map: &SimMemory) -> bool {
        if map.guarded.load(Ordering::Relaxed) {
            let stored = self.machine().files.get(&map.inode).map_or(0, |content| content.live.len());
            if stored < (map.start + map.len) as u64 {
                map.damaged.store(true, Ordering::Relaxed);
            }
        }
        map.damaged.load(Ordering::Relaxed)
    }

    fn start_guard(&self, map: &SimMemory) -> Result<()> {
        self.operate("guard", &map.path, |_| {
            map.guarded.store(true, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Where shared memory has its names.
    fn memory_path(&self, operation: &'static str, name: &str) -> Result<PathBuf> {
        let trouble = |kind: io::ErrorKind, why| Trouble::new(operation, name, io::Error::new(kind, why));
        if !is_memory_name(name) {
            return Err(trouble(io::ErrorKind::InvalidInput, "no name for shared memory"));
        }
        let dir = self.memory_dir();
        dir.map(|dir| dir.join(name)).ok_or_else(|| trouble(io::ErrorKind::Unsupported, "no memory is mounted"))
    }

    fn sleep_on(&self, map: &SimMemory, offset: usize, seen: u32, timeout: Duration) -> Result<Woken> {
        let woken = self.operate("wait", &map.path, |machine| {
            if map.window().load_acquire(offset) != seen {
                return Ok(Woken::Changed);
            }
            machine.advance(timeout);
            Ok(Woken::TimedOut)
        });
        // Whoever is to change the word may be a thread that wants to run.
        std::thread::yield_now();
        woken
    }
}

/// An open file of a simulated process.
pub struct SimFile {
    sim: Sim,
    id: u64,
    path: Arc<Path>,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("path", &self.path).field("pid", &self.sim.pid).finish_non_exhaustive()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.sim.machine().descriptions.remove(&self.id);
    }
}

impl SimFile {
    /// The same file as a descriptor of `process`, as if it had been sent there; its rights come along.
    ///
    /// # Errors
    ///
    /// As any operation of a process that is dead or a machine that is off.
    pub fn hand_to(&self, process: &Sim) -> Result<SimFile> {
        let id = self.operate("hand over", |machine| {
            let (inode, writable) = (machine.descriptions[&self.id].inode, machine.descriptions[&self.id].writable);
            Ok(machine.open(inode, process.pid, writable))
        })?;
        Ok(SimFile { sim: process.clone(), id, path: self.path.clone() })
    }

    fn operate<T>(&self, operation: &'static str, act: impl FnOnce(&mut Machine) -> io::Result<T>) -> Result<T> {
        self.sim.operate(operation, &self.path, act)
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.operate("read", |machine| Ok(machine.content(self.id).live.read(offset, buf)))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.operate("write", |machine| {
            if buf.is_empty() {
                return machine.writable(self.id).map(drop);
            }
            let end = offset.checked_add(buf.len() as u64).map_or_else(|| errno(EINVAL), Ok)?;
            let room = machine.allocate(self.id, offset, end)?;
            let now = machine.wall_ns;
            let content = machine.content(self.id);
            content.modified_ns = now;
            match room {
                Ok(()) => content.write(offset, buf),
                Err(stop) => {
                    content.write(offset, &buf[..(stop - offset) as usize]);
                    return errno(ENOSPC);
                }
            }
            Ok(())
        })
    }

    fn len(&self) -> Result<u64> {
        self.operate("stat", |machine| Ok(machine.content(self.id).live.len()))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.operate("set length", |machine| {
            let content = machine.writable(self.id)?;
            if content.sealed && len != content.live.len() {
                return errno(EPERM);
            }
            content.set_len(len);
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.operate("allocate", |machine| {
            if machine.allocate(self.id, 0, len)?.is_err() {
                return errno(ENOSPC);
            }
            let content = machine.content(self.id);
            if content.live.len() < len {
                content.live.set_len(len);
            }
            Ok(())
        })
    }

    fn sync(&self) -> Result<()> {
        self.operate("sync", |machine| machine.sync_file(self.id))
    }

    fn id(&self) -> Result<FileId> {
        self.operate("stat", |machine| {
            let inode = machine.descriptions[&self.id].inode;
            let device = match machine.medium(inode) {
                Medium::Disk => 1,
                Medium::Memory => 2,
            };
            Ok(FileId { device, inode })
        })
    }

    fn try_lock(&self, lock: Lock) -> Result<bool> {
        self.operate("lock", |machine| Ok(machine.try_lock(self.id, lock)))
    }

    fn unlock(&self) -> Result<()> {
        self.operate("unlock", |machine| match machine.descriptions.get_mut(&self.id) {
            Some(description) => {
                description.lock = None;
                Ok(())
            }
            None => errno(EBADF),
        })
    }

    fn is_sealed(&self) -> Result<bool> {
        self.operate("look at seals", |machine| Ok(machine.content(self.id).sealed))
    }

    fn modified_ns(&self) -> Result<u64> {
        self.operate("stat", |machine| Ok(machine.content(self.id).modified_ns))
    }
}

/// What both kinds of mapping are.
struct SimMemory {
    region: Arc<HeapRegion>,
    start: usize,
    len: usize,
    path: Arc<Path>,
    inode: Inode,
    guarded: AtomicBool,
    damaged: AtomicBool,
}

impl fmt::Debug for SimMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimMemory").field("path", &self.path).field("len", &self.len).finish_non_exhaustive()
    }
}

/// A simulated mapping for reading.
#[derive(Debug)]
pub struct SimMap(SimMemory);

/// A simulated mapping for reading and writing.
#[derive(Debug)]
pub struct SimMapMut(SimMemory);

// SAFETY: the `Arc` keeps the heap region, whose contract this is, and `start + len` is at most its length: `Live::region`
// gives no shorter one. `start` is a multiple of `MAP_ALIGN` and so of a region's alignment. The simulator itself
// reaches the bytes through windows only.
unsafe impl Region for SimMemory {
    fn base(&self) -> NonNull<u8> {
        // SAFETY: inside the region, or its end: see above.
        unsafe { self.region.base().add(self.start) }
    }
    fn len(&self) -> usize {
        self.len
    }
}

// SAFETY: as above.
unsafe impl Region for SimMap {
    fn base(&self) -> NonNull<u8> {
        self.0.base()
    }
    fn len(&self) -> usize {
        self.0.len
    }
}

// SAFETY: as above.
unsafe impl Region for SimMapMut {
    fn base(&self) -> NonNull<u8> {
        self.0.base()
    }
    fn len(&self) -> usize {
        self.0.len
    }
}

// SAFETY: a heap region may be written.
unsafe impl RegionMut for SimMapMut {}

impl Platform for Sim {
    type File = SimFile;
    type Map = SimMap;
    type MapMut = SimMapMut;
    type Wal = SimWal;

    fn support(&self) -> Support {
        // No barrier: the threads of a test are real ones, and a fence is what works between them.
        let durable_sync = !self.machine().faults.lying_sync;
        Support {
            barrier: false,
            prefault_write: true,
            shared_wait: true,
            sealed_memory: true,
            guard: true,
            durable_sync,
        }
    }

    fn open(&self, path: &Path, how: Open) -> Result<SimFile> {
        let id = self.operate("open", path, |machine| {
            let (dir, name) = machine.locate(path)?;
            let Some(name) = name else {
                return errno(EISDIR);
            };
            let found = machine.names.find(dir, &name);
            if how != Open::Read {
                machine.check_writable(path)?;
            }
            let inode = match (found, how) {
                (Some(_), Open::Create) => return errno(EEXIST),
                (Some(inode), _) if machine.names.is_dir(inode) => return errno(EISDIR),
                (Some(inode), _) => inode,
                (None, Open::Read | Open::Write) => return errno(ENOENT),
                (None, _) => machine.create(dir, name, false),
            };
            Ok(machine.open(inode, self.pid, how != Open::Read))
        })?;
        Ok(SimFile { sim: self.clone(), id, path: path.into() })
    }

    fn create_dirs(&self, path: &Path) -> Result<()> {
        let mut dirs: Vec<&Path> = path.ancestors().filter(|dir| dir.file_name().is_some()).collect();
        dirs.reverse();
        for dir in dirs {
            let made = self.operate("create directory", dir, |machine| match machine.make_dir(dir) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    match machine.names.is_dir(machine.resolve(dir)?) {
                        true => Ok(false),
                        false => errno(if dir == path { EEXIST } else { ENOTDIR }),
                    }
                }
                Err(error) => Err(error),
            })?;
            // Of those that exist only the last one's name may have been left without a sync by whoever made it.
            if made || dir == path {
                self.sync_dir(dir.parent().unwrap_or(Path::new("/")))?;
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>> {
        self.operate("list", dir, |machine| {
            let inode = machine.resolve_dir(dir)?;
            let names = &machine.names;
            let entries = names.entries(inode);
            Ok(entries.map(|(name, inode)| Entry { name: name.clone(), is_dir: names.is_dir(inode) }).collect())
        })
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.operate("stat", path, |machine| match machine.resolve(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        })
    }

    fn is_dir(&self, path: &Path) -> Result<bool> {
        use io::ErrorKind::{NotADirectory, NotFound};
        self.operate("stat", path, |machine| match machine.resolve(path) {
            Ok(inode) => Ok(machine.names.is_dir(inode)),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(false),
            Err(error) => Err(error),
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.operate("rename", from, |machine| machine.rename(from, to))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.operate("remove", path, |machine| machine.remove(path, false))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.operate("remove directory", path, |machine| machine.remove(path, true))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.operate("sync directory", dir, |machine| machine.sync_dir(dir))
    }

    fn free_bytes(&self, path: &Path) -> Result<u64> {
        self.operate("free bytes", path, |machine| Ok(machine.free_bytes(machine.resolve(path)?)))
    }

    fn medium(&self, path: &Path) -> Result<Medium> {
        self.operate("medium", path, |machine| Ok(machine.medium(machine.resolve(path)?)))
    }

    fn memory_dir(&self) -> Option<PathBuf> {
        self.machine().memory_dirs.first().cloned()
    }

    fn map(&self, file: &SimFile, len: usize) -> Result<SimMap> {
        self.mapping(file, 0, len, false).map(SimMap)
    }

    fn map_mut(&self, file: &SimFile, len: usize) -> Result<SimMapMut> {
        self.mapping(file, 0, len, true).map(SimMapMut)
    }

    fn map_mut_at(&self, file: &SimFile, offset: u64, len: usize) -> Result<SimMapMut> {
        self.mapping(file, offset, len, true).map(SimMapMut)
    }

    fn prefault(&self, map: &SimMap) -> Result<()> {
        self.operate("prefault", &map.0.path, |_| Ok(()))
    }

    fn prefault_mut(&self, map: &SimMapMut) -> Result<()> {
        self.operate("prefault", &map.0.path, |_| Ok(()))
    }

    fn lock_memory(&self, map: &SimMapMut) -> Result<()> {
        self.operate("lock memory", &map.0.path, |_| Ok(()))
    }

    fn memory(&self, len: usize, options: &MemoryOptions<'_>) -> Result<Memory<Sim>> {
        let Some(whole) = memory_len(len, 4096) else {
            let path = options.name.unwrap_or("memory");
            return Err(Trouble::new("make memory", path, io::Error::from_raw_os_error(EINVAL)));
        };
        if whole as u64 > MOST_MEMORY {
            let path = options.name.unwrap_or("memory");
            return Err(Trouble::new("make memory", path, io::Error::from_raw_os_error(ENOSPC)));
        }
        let file = match options.name {
            Some(name) => self.open(&self.memory_path("make memory", name)?, Open::Create)?,
            None => {
                let path = Path::new("memory");
                let id = self.operate("make memory", path, |machine| {
                    let inode = machine.create_nameless();
                    Ok(machine.open(inode, self.pid, true))
                })?;
                SimFile { sim: self.clone(), id, path: path.into() }
            }
        };
        let map = match file.allocate(whole as u64).and_then(|()| self.map_mut(&file, whole)) {
            Ok(map) => map,
            Err(trouble) => {
                if options.name.is_some() {
                    // The failure that led here is the news.
                    _ = self.remove(&file.path);
                }
                return Err(trouble);
            }
        };
        if options.name.is_none() {
            file.operate("seal", |machine| {
                machine.content(file.id).sealed = true;
                Ok(())
            })?;
        }
        let pages = match options.pages {
            PageSize::Base => Pages { asked: PageSize::Base, got: PageSize::Base, huge_bytes: Some(0), why: None },
            asked => Pages { asked, ..self.ask_huge(&map) },
        };
        let placement = self.place(&map, options.node);
        Ok(Memory { file, map, pages, placement })
    }

    fn open_memory(&self, name: &str, how: Open) -> Result<SimFile> {
        let path = self.memory_path("open memory", name)?;
        match how {
            Open::Read | Open::Write => self.open(&path, how),
            _ => Err(Trouble::new("open memory", path, io::Error::from_raw_os_error(EINVAL))),
        }
    }

    fn remove_memory(&self, name: &str) -> Result<()> {
        self.remove(&self.memory_path("remove memory", name)?)
    }

    fn ask_huge(&self, _map: &SimMapMut) -> Pages {
        let why = Some("a simulated machine has pages of one size".to_owned());
        Pages { asked: PageSize::Transparent, got: PageSize::Base, huge_bytes: Some(0), why }
    }

    fn place(&self, _map: &SimMapMut, node: Option<u32>) -> Placement {
        match node {
            Some(node) if node >= NODES => {
                let why = Some(format!("node {node} does not exist, the machine has {NODES}"));
                Placement { asked: Some(node), got: Some(0), why }
            }
            asked => Placement { asked, got: Some(asked.unwrap_or(0)), why: None },
        }
    }

    fn guard(&self, map: &SimMap) -> Result<()> {
        self.start_guard(&map.0)
    }

    fn guard_mut(&self, map: &SimMapMut) -> Result<()> {
        self.start_guard(&map.0)
    }

    fn is_damaged(&self, map: &SimMap) -> bool {
        self.lost_pages(&map.0)
    }

    fn is_damaged_mut(&self, map: &SimMapMut) -> bool {
        self.lost_pages(&map.0)
    }

    /// Looks once: another word returns at once, the expected one lets the whole time pass.
    fn wait(&self, map: &SimMap, offset: usize, seen: u32, timeout: Duration) -> Result<Woken> {
        self.sleep_on(&map.0, offset, seen, timeout)
    }

    fn wait_mut(&self, map: &SimMapMut, offset: usize, seen: u32, timeout: Duration) -> Result<Woken> {
        self.sleep_on(&map.0, offset, seen, timeout)
    }

    fn wake(&self, map: &SimMapMut, offset: usize) -> Result<()> {
        self.operate("wake", &map.0.path, |_| {
            map.window().load(offset);
            Ok(())
        })
    }

    fn register_barrier(&self) -> Result<()> {
        self.operate("register barrier", Path::new(""), |_| Err(io::ErrorKind::Unsupported.into()))
    }

    fn barrier(&self) -> Result<()> {
        self.operate("barrier", Path::new(""), |_| Err(io::ErrorKind::Unsupported.into()))
    }

    fn wal(&self, memory: Arc<SimMapMut>, lock: &SimFile, options: &WalOptions) -> Result<SimWal> {
        SimWal::new(self, memory, lock, options)
    }

    fn processors(&self) -> Result<Vec<Processor>> {
        self.operate("list processors", Path::new(""), |machine| {
            let all = (0..PROCESSORS).map(|id| Processor { id, node: Some(id * NODES / PROCESSORS) });
            let only = machine.pinned.get(&std::thread::current().id());
            Ok(all.filter(|processor| only.is_none_or(|only| *only == processor.id)).collect())
        })
    }

    fn run_on(&self, processor: u32) -> Result<()> {
        self.operate("run on a processor", Path::new(""), |machine| {
            if processor >= PROCESSORS {
                return errno(EINVAL);
            }
            machine.pinned.insert(std::thread::current().id(), processor);
            Ok(())
        })
    }

    fn now_ns(&self) -> u64 {
        self.machine().wall_ns
    }

    fn monotonic_ns(&self) -> u64 {
        self.machine().monotonic_ns
    }

    fn boot_id(&self) -> u128 {
        self.machine().boot_id
    }

    fn process(&self) -> Process {
        Process { pid: self.pid, started: u64::from(self.pid) }
    }

    fn random(&self) -> u128 {
        self.machine().random.next128()
    }

    fn sleep(&self, time: Duration) {
        self.machine().advance(time);
        std::thread::yield_now();
    }
}
