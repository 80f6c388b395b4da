//! Chronicle on Linux.
//!
//! [`Linux`] answers [`chronicle_platform::Platform`] with the kernel's own calls, one file for each job; the crate
//! for Darwin has the same files:
//!
//! | File | Job |
//! |---|---|
//! | `file.rs` | open, allocate, sync, publish's steps, directories, what a path lies on |
//! | `map.rs` | shared mappings as [`chronicle_core::Region`]s, prefaulting, pinning |
//! | `memory.rs` | memory that no file lies behind, huge pages, nodes |
//! | `handover.rs` | giving memory to another process, and what is accepted of one |
//! | `guard.rs` | staying alive where a peer cuts a mapped file |
//! | `cpu.rs` | processors, their nodes, staying on one |
//! | `lease.rs` | kernel locks, and who holds them: process, boot, identities |
//! | `wait.rs` | sleeping on a word between processes, the asymmetric barrier |
//! | `event.rs` | sleeping on a word where only descriptors can be waited for: epoll, tokio |
//! | `uring.rs` | sleeping on a word inside an io_uring loop |
//! | `wal.rs` | the operations of a write-ahead log: a ring, calls, and entries for a ring of the program's |
//! | `clock.rs` | time |
//! | `sys.rs` | the calls that rustix lacks |
//!
//! It retries nothing but interrupted calls. It starts no thread but the one of an [`EventWait`], and keeps no global but
//! the table of guarded mappings, which is empty until one is asked for. Kernel 5.14 has all that a queue needs; on
//! older ones prefaulting touches pages one by one, which [`Support`] tells.
//!
//! **SIGBUS.** Whoever may write a file may truncate it, and a load from a mapping beyond the new end raises SIGBUS.
//! That ends the process and is not undefined behaviour: no byte of it is read as something else. Queues never shrink
//! a file that has been published, and a file shorter than asked for is refused when it is mapped. Against a *hostile*
//! peer there are sealed memory ([`Platform::memory`], whose length nobody can change), a guard ([`Platform::guard`]),
//! file permissions, and `read_at`, which returns short instead.
#![cfg(target_os = "linux")]

mod clock;
mod cpu;
mod event;
mod file;
mod guard;
mod handover;
mod lease;
mod map;
mod memory;
mod sys;
pub mod uring;
mod wait;
pub mod wal;

pub use event::EventWait;
pub use file::LinuxFile;
/// The version of the crate that [`uring`] and [`wal`] speak of.
pub use io_uring;
pub use map::{LinuxMap, LinuxMapMut};
pub use wal::LinuxWal;

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
pub struct Linux;

impl Platform for Linux {
    type File = LinuxFile;
    type Map = LinuxMap;
    type MapMut = LinuxMapMut;
    type Wal = LinuxWal;

    fn support(&self) -> Support {
        Support {
            barrier: wait::has_barrier(),
            prefault_write: map::has_populate(),
            shared_wait: true,
            sealed_memory: true,
            guard: true,
            durable_sync: true,
        }
    }

    fn open(&self, path: &Path, how: Open) -> Result<LinuxFile> {
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

    fn map(&self, file: &LinuxFile, len: usize) -> Result<LinuxMap> {
        LinuxMap::new(file, len)
    }
    fn map_mut(&self, file: &LinuxFile, len: usize) -> Result<LinuxMapMut> {
        LinuxMapMut::new(file, 0, len)
    }
    fn map_mut_at(&self, file: &LinuxFile, offset: u64, len: usize) -> Result<LinuxMapMut> {
        LinuxMapMut::new(file, offset, len)
    }
    fn prefault(&self, map: &LinuxMap) -> Result<()> {
        map.prefault()
    }
    fn prefault_mut(&self, map: &LinuxMapMut) -> Result<()> {
        map.prefault()
    }
    fn lock_memory(&self, map: &LinuxMapMut) -> Result<()> {
        map.lock()
    }

    fn memory(&self, len: usize, options: &MemoryOptions<'_>) -> Result<Memory<Linux>> {
        memory::make(len, options)
    }
    fn open_memory(&self, name: &str, how: Open) -> Result<LinuxFile> {
        memory::open(name, how)
    }
    fn remove_memory(&self, name: &str) -> Result<()> {
        memory::remove(name)
    }
    fn ask_huge(&self, map: &LinuxMapMut) -> Pages {
        memory::ask_huge(map)
    }
    fn place(&self, map: &LinuxMapMut, node: Option<u32>) -> Placement {
        memory::place(map, node)
    }
    fn guard(&self, map: &LinuxMap) -> Result<()> {
        map.guard()
    }
    fn guard_mut(&self, map: &LinuxMapMut) -> Result<()> {
        map.guard()
    }
    fn is_damaged(&self, map: &LinuxMap) -> bool {
        map.is_damaged()
    }
    fn is_damaged_mut(&self, map: &LinuxMapMut) -> bool {
        map.is_damaged()
    }
    fn processors(&self) -> Result<Vec<Processor>> {
        cpu::processors()
    }
    fn run_on(&self, processor: u32) -> Result<()> {
        cpu::run_on(processor)
    }

    fn wait(&self, map: &LinuxMap, offset: usize, seen: u32, timeout: Duration) -> Result<Woken> {
        wait::wait(map.word(offset), map.path(), seen, timeout)
    }
    fn wait_mut(&self, map: &LinuxMapMut, offset: usize, seen: u32, timeout: Duration) -> Result<Woken> {
        wait::wait(map.word(offset), map.path(), seen, timeout)
    }
    fn wake(&self, map: &LinuxMapMut, offset: usize) -> Result<()> {
        wait::wake(map.word(offset), map.path(), i32::MAX.cast_unsigned())
    }
    fn wake_one(&self, map: &LinuxMapMut, offset: usize) -> Result<()> {
        wait::wake(map.word(offset), map.path(), 1)
    }
    fn register_barrier(&self) -> Result<()> {
        wait::register_barrier()
    }
    fn barrier(&self) -> Result<()> {
        wait::barrier()
    }

    fn wal(&self, memory: Arc<LinuxMapMut>, lock: &LinuxFile, options: &WalOptions) -> Result<LinuxWal> {
        LinuxWal::new(memory, lock, options)
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
