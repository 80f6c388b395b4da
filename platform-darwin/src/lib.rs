//! Chronicle on Darwin (macOS 14.4 and later, for waiting on addresses).
//!
//! `Darwin` answers `chronicle_platform::Platform`, file by file beside the crate for Linux:
//!
//! | File | Job | Darwin's answer |
//! |---|---|---|
//! | `file.rs` | open, allocate, sync, publish's steps, directories | `F_FULLFSYNC`, `F_PREALLOCATE` |
//! | `map.rs` | shared mappings as `chronicle_core::Region`s | pages touched one by one, `minherit` |
//! | `memory.rs` | memory that no file lies behind, huge pages, nodes | `shm_open`; neither huge pages nor nodes |
//! | `handover.rs` | giving memory to another process | descriptors over a socket; no seals |
//! | `guard.rs` | staying alive where a peer cuts a mapped file | none |
//! | `cpu.rs` | processors, their nodes, staying on one | none |
//! | `lease.rs` | kernel locks, and who holds them | `flock`, `kern.bootsessionuuid`, `proc_pidinfo` |
//! | `wait.rs` | sleeping on a word between processes | `os_sync_wait_on_address`, shared; no barrier |
//! | `wal.rs` | the operations of a write-ahead log | `pwrite`, `F_FULLFSYNC`; no ring, no direct writes |
//! | `clock.rs` | time | |
//! | `sys.rs` | the calls that rustix lacks | |
//!
//! **It is type-checked and linted in CI and has never been run there**: no machine of ours runs Darwin. On one,
//! `cargo test -p chronicle-platform-darwin` runs the conformance suite; until somebody did, take it as a draft
//! that compiles. What Darwin cannot do is reported by `Support`: there is no barrier, so writers wake with a fence.
//!
//! It keeps no state and no global, starts no thread and retries nothing but interrupted calls.
//!
//! **SIGBUS.** Whoever may write a file may truncate it, and a load from a mapping beyond the new end raises SIGBUS,
//! which ends the process and is not undefined behaviour. A file shorter than asked for is refused when it is mapped.
#![cfg(target_os = "macos")]

mod clock;
mod cpu;
mod file;
mod guard;
mod handover;
mod lease;
mod map;
mod memory;
mod sys;
mod wait;
mod wal;

pub use file::DarwinFile;
pub use map::{DarwinMap, DarwinMapMut};
pub use wal::DarwinWal;

use chronicle_platform::{
    Entry, Medium, Memory, MemoryOptions, Open, Pages, Placement, Platform, Process, Processor, Result, Support,
    WalOptions, Woken,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// This machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Darwin;

impl Platform for Darwin {
    type File = DarwinFile;
    type Map = DarwinMap;
    type MapMut = DarwinMapMut;
    type Wal = DarwinWal;

    fn support(&self) -> Support {
        Support {
            barrier: false,
            prefault_write: false,
            shared_wait: true,
            sealed_memory: false,
            guard: false,
            durable_sync: true,
        }
    }

    fn open(&self, path: &Path, how: Open) -> Result<DarwinFile> {
        file::open(path, how)
    }
    fn create_dirs(&self, path: &Path) -> Result<()> {
        file::create_dirs(path)
    }
    fn list(&self, dir: &Path) -> Result<Vec<Entry>> {
        file::list(dir)
    }
    fn exists(&self, path: &Path) -> Result<bool> {
        file::exists(path)
    }
    fn is_dir(&self, path: &Path) -> Result<bool> {
        file::is_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        file::rename(from, to)
    }
    fn remove(&self, path: &Path) -> Result<()> {
        file::remove(path)
    }
    fn remove_dir(&self, path: &Path) -> Result<()> {
        file::remove_dir(path)
    }
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        file::sync_dir(dir)
    }
    fn free_bytes(&self, path: &Path) -> Result<u64> {
        file::free_bytes(path)
    }
    fn medium(&self, path: &Path) -> Result<Medium> {
        file::medium(path)
    }
    fn memory_dir(&self) -> Option<PathBuf> {
        file::memory_dir()
    }

    fn map(&self, file: &DarwinFile, len: usize) -> Result<DarwinMap> {
        DarwinMap::new(file, len)
    }
    fn map_mut(&self, file: &DarwinFile, len: usize) -> Result<DarwinMapMut> {
        DarwinMapMut::new(file, 0, len)
    }
    fn map_mut_at(&self, file: &DarwinFile, offset: u64, len: usize) -> Result<DarwinMapMut> {
        DarwinMapMut::new(file, offset, len)
    }
    fn prefault(&self, map: &DarwinMap) -> Result<()> {
        map.prefault()
    }
    fn prefault_mut(&self, map: &DarwinMapMut) -> Result<()> {
        map.prefault()
    }
    fn lock_memory(&self, map: &DarwinMapMut) -> Result<()> {
        map.lock()
    }

    fn memory(&self, len: usize, options: &MemoryOptions<'_>) -> Result<Memory<Darwin>> {
        memory::make(len, options)
    }
    fn open_memory(&self, name: &str, how: Open) -> Result<DarwinFile> {
        memory::open(name, how)
    }
    fn remove_memory(&self, name: &str) -> Result<()> {
        memory::remove(name)
    }
    fn ask_huge(&self, map: &DarwinMapMut) -> Pages {
        memory::ask_huge(map)
    }
    fn place(&self, map: &DarwinMapMut, node: Option<u32>) -> Placement {
        memory::place(map, node)
    }
    fn guard(&self, map: &DarwinMap) -> Result<()> {
        guard::guard(map.path())
    }
    fn guard_mut(&self, map: &DarwinMapMut) -> Result<()> {
        guard::guard(map.path())
    }
    fn is_damaged(&self, _map: &DarwinMap) -> bool {
        false
    }
    fn is_damaged_mut(&self, _map: &DarwinMapMut) -> bool {
        false
    }
    fn processors(&self) -> Result<Vec<Processor>> {
        cpu::processors()
    }
    fn run_on(&self, processor: u32) -> Result<()> {
        cpu::run_on(processor)
    }

    fn wait(&self, map: &DarwinMap, offset: usize, seen: u32, timeout: Duration) -> Result<Woken> {
        wait::wait(map.word(offset), map.path(), seen, timeout)
    }
    fn wait_mut(&self, map: &DarwinMapMut, offset: usize, seen: u32, timeout: Duration) -> Result<Woken> {
        wait::wait(map.word(offset), map.path(), seen, timeout)
    }
    fn wake(&self, map: &DarwinMapMut, offset: usize) -> Result<()> {
        wait::wake(map.word(offset), map.path())
    }
    fn register_barrier(&self) -> Result<()> {
        wait::register_barrier()
    }
    fn barrier(&self) -> Result<()> {
        wait::barrier()
    }

    fn wal(&self, memory: Arc<DarwinMapMut>, lock: &DarwinFile, options: &WalOptions) -> Result<DarwinWal> {
        DarwinWal::new(memory, lock, options)
    }

    fn now_ns(&self) -> u64 {
        clock::now_ns()
    }
    fn monotonic_ns(&self) -> u64 {
        clock::monotonic_ns()
    }
    fn boot_id(&self) -> u128 {
        lease::boot_id()
    }
    fn process(&self) -> Process {
        lease::process()
    }
    fn random(&self) -> u128 {
        lease::random()
    }
    fn sleep(&self, time: Duration) {
        clock::sleep(time);
    }
}
