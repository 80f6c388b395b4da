//! A simulated machine whose platform makes a mistake that real programs have made.

use super::check::Host;
use chronicle_core::wal::{Op, OpId, Outcome};
use chronicle_platform::{
    Entry, Medium, Memory, MemoryOptions, Open, Pages, Placement, Platform, Process, Processor, Result, Support,
    WalDriver, WalMode, WalOptions, Woken,
    sim::{Sim, SimFile, SimMap, SimMapMut, SimWal},
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// Writes are told to be durable when they are written.
    AcknowledgeEarly,
    /// Names are never synced.
    SkipDirectorySync,
    /// A sync that failed is tried again, and the second answer believed.
    RetryFailedSync,
}

/// The simulator with a mistake.
#[derive(Clone, Debug)]
pub(crate) struct Planted {
    pub(crate) sim: Sim,
    pub(crate) mistake: Mistake,
}

impl Host for Planted {
    fn on(&self, sim: Sim) -> Planted {
        Planted { sim, mistake: self.mistake }
    }

    fn sim(&self) -> &Sim {
        &self.sim
    }
}

/// Its driver.
#[derive(Debug)]
pub(crate) struct PlantedWal {
    inner: SimWal,
    mistake: Mistake,
    /// What is under way.
    ops: Mutex<HashMap<OpId, Op>>,
}

impl WalDriver for PlantedWal {
    fn mode(&self) -> &WalMode {
        self.inner.mode()
    }

    fn attach(&self, segment: u64, path: &Path) -> Result<()> {
        self.inner.attach(segment, path)
    }

    fn detach(&self, segment: u64) -> Result<()> {
        self.inner.detach(segment)
    }

    fn submit(&self, op: &Op) -> Result<()> {
        self.ops.lock().unwrap().insert(op.id(), *op);
        match *op {
            Op::Write { op, segment, offset, from, len, .. } if self.mistake == Mistake::AcknowledgeEarly => {
                self.inner.submit(&Op::Write { op, segment, offset, from, len, sync: false })
            }
            _ => self.inner.submit(op),
        }
    }

    fn reap(&self, wait: bool, done: &mut dyn FnMut(OpId, Outcome)) -> Result<usize> {
        let mut ended = Vec::new();
        let mut count = self.inner.reap(wait, &mut |id, outcome| ended.push((id, outcome)))?;
        for (id, outcome) in ended {
            let op = self.ops.lock().unwrap().remove(&id);
            match (op, outcome) {
                (Some(op @ Op::Sync { .. }), Outcome::Failed(_)) if self.mistake == Mistake::RetryFailedSync => {
                    count -= 1;
                    self.submit(&op)?;
                }
                _ => done(id, outcome),
            }
        }
        // Who waited for one that is on its way again waits on.
        if wait && count == 0 && !self.ops.lock().unwrap().is_empty() { self.reap(wait, done) } else { Ok(count) }
    }
}

impl Platform for Planted {
    type File = SimFile;
    type Map = SimMap;
    type MapMut = SimMapMut;
    type Wal = PlantedWal;

    fn support(&self) -> Support {
        self.sim.support()
    }

    fn open(&self, path: &Path, how: Open) -> Result<SimFile> {
        self.sim.open(path, how)
    }

    fn create_dirs(&self, path: &Path) -> Result<()> {
        self.sim.create_dirs(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>> {
        self.sim.list(dir)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.sim.exists(path)
    }

    fn is_dir(&self, path: &Path) -> Result<bool> {
        self.sim.is_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.sim.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.sim.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.sim.remove_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        match self.mistake {
            Mistake::SkipDirectorySync => Ok(()),
            _ => self.sim.sync_dir(dir),
        }
    }

    fn free_bytes(&self, path: &Path) -> Result<u64> {
        self.sim.free_bytes(path)
    }

    fn medium(&self, path: &Path) -> Result<Medium> {
        self.sim.medium(path)
    }

    fn memory_dir(&self) -> Option<PathBuf> {
        self.sim.memory_dir()
    }

    fn map(&self, file: &SimFile, len: usize) -> Result<SimMap> {
        self.sim.map(file, len)
    }

    fn map_mut(&self, file: &SimFile, len: usize) -> Result<SimMapMut> {
        self.sim.map_mut(file, len)
    }

    fn map_mut_at(&self, file: &SimFile, offset: u64, len: usize) -> Result<SimMapMut> {
        self.sim.map_mut_at(file, offset, len)
    }

    fn prefault(&self, map: &SimMap) -> Result<()> {
        self.sim.prefault(map)
    }

    fn prefault_mut(&self, map: &SimMapMut) -> Result<()> {
        self.sim.prefault_mut(map)
    }

    fn lock_memory(&self, map: &SimMapMut) -> Result<()> {
        self.sim.lock_memory(map)
    }

    fn memory(&self, len: usize, options: &MemoryOptions<'_>) -> Result<Memory<Planted>> {
        let Memory { file, map, pages, placement } = self.sim.memory(len, options)?;
        Ok(Memory { file, map, pages, placement })
    }

    fn open_memory(&self, name: &str, how: Open) -> Result<SimFile> {
        self.sim.open_memory(name, how)
    }

    fn remove_memory(&self, name: &str) -> Result<()> {
        self.sim.remove_memory(name)
    }

    fn ask_huge(&self, map: &SimMapMut) -> Pages {
        self.sim.ask_huge(map)
    }

    fn place(&self, map: &SimMapMut, node: Option<u32>) -> Placement {
        self.sim.place(map, node)
    }

    fn guard(&self, map: &SimMap) -> Result<()> {
        self.sim.guard(map)
    }

    fn guard_mut(&self, map: &SimMapMut) -> Result<()> {
        self.sim.guard_mut(map)
    }

    fn is_damaged(&self, map: &SimMap) -> bool {
        self.sim.is_damaged(map)
    }

    fn is_damaged_mut(&self, map: &SimMapMut) -> bool {
        self.sim.is_damaged_mut(map)
    }

    fn wait(&self, map: &SimMap, offset: usize, seen: u32, timeout: Duration) -> Result<Woken> {
        self.sim.wait(map, offset, seen, timeout)
    }

    fn wait_mut(&self, map: &SimMapMut, offset: usize, seen: u32, timeout: Duration) -> Result<Woken> {
        self.sim.wait_mut(map, offset, seen, timeout)
    }

    fn wake(&self, map: &SimMapMut, offset: usize) -> Result<()> {
        self.sim.wake(map, offset)
    }

    fn register_barrier(&self) -> Result<()> {
        self.sim.register_barrier()
    }

    fn barrier(&self) -> Result<()> {
        self.sim.barrier()
    }

    fn wal(&self, memory: Arc<SimMapMut>, lock: &SimFile, options: &WalOptions) -> Result<PlantedWal> {
        let inner = self.sim.wal(memory, lock, options)?;
        Ok(PlantedWal { inner, mistake: self.mistake, ops: Mutex::default() })
    }

    fn processors(&self) -> Result<Vec<Processor>> {
        self.sim.processors()
    }

    fn run_on(&self, processor: u32) -> Result<()> {
        self.sim.run_on(processor)
    }

    fn now_ns(&self) -> u64 {
        self.sim.now_ns()
    }

    fn monotonic_ns(&self) -> u64 {
        self.sim.monotonic_ns()
    }

    fn boot_id(&self) -> u128 {
        self.sim.boot_id()
    }

    fn process(&self) -> Process {
        self.sim.process()
    }

    fn random(&self) -> u128 {
        self.sim.random()
    }

    fn sleep(&self, time: Duration) {
        self.sim.sleep(time);
    }
}
