//! The operations of a write-ahead log, by calls that block: `pwrite` into the page cache, `fdatasync` to make it last.

use crate::{LinuxFile, LinuxMapMut, file};
use chronicle_core::{
    Region,
    wal::{Op, OpId, Outcome, SyncBy},
};
use chronicle_platform::{File, Medium, Open, Result, Trouble, WalDriver, WalMode, WalOptions, WalWay};
use rustix::io::Errno;
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Carries out the operations of one log.
#[derive(Debug)]
pub struct LinuxWal {
    memory: Arc<LinuxMapMut>,
    options: WalOptions,
    mode: WalMode,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    segments: BTreeMap<u64, Arc<Segment>>,
    ended: VecDeque<(u64, OpId, Outcome)>,
}

#[derive(Debug)]
struct Segment {
    file: LinuxFile,
    len: u64,
}

impl LinuxWal {
    pub(crate) fn new(memory: Arc<LinuxMapMut>, lock: &LinuxFile, options: &WalOptions) -> Result<LinuxWal> {
        let durable = file::medium(lock.path())? == Medium::Disk;
        let mode = WalMode {
            way: WalWay::Buffered,
            driver: "pwrite",
            direct: false,
            sync: SyncBy::Op,
            durable,
            why: (!durable).then(|| "the log lies in memory".to_owned()),
            measured: Vec::new(),
        };
        Ok(LinuxWal { memory, options: options.clone(), mode, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock can leave a half-changed state behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unattached(operation: &'static str, segment: u64) -> Trouble {
    Trouble::new(operation, format!("segment {segment}"), io::Error::from(io::ErrorKind::NotFound))
}

fn ended(result: std::result::Result<usize, Errno>) -> Outcome {
    match result {
        Ok(n) => Outcome::Done(n as u32),
        Err(Errno::INTR | Errno::AGAIN) => Outcome::Again,
        Err(errno) => Outcome::Failed(errno.raw_os_error()),
    }
}

impl WalDriver for LinuxWal {
    fn mode(&self) -> &WalMode {
        &self.mode
    }

    fn attach(&self, segment: u64, path: &Path) -> Result<()> {
        let file = file::open(path, Open::Write)?;
        let len = file.len()?;
        let mut state = self.state();
        if state.segments.contains_key(&segment) {
            return Err(Trouble::new("attach", path, io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        state.segments.insert(segment, Arc::new(Segment { file, len }));
        Ok(())
    }

    fn detach(&self, segment: u64) -> Result<()> {
        let mut state = self.state();
        let Some(held) = state.segments.get(&segment) else { return Err(unattached("detach", segment)) };
        if Arc::strong_count(held) > 1 || state.ended.iter().any(|(of, ..)| *of == segment) {
            return Err(Trouble::new("detach", held.file.path(), Errno::BUSY));
        }
        state.segments.remove(&segment);
        Ok(())
    }

    fn submit(&self, op: &Op) -> Result<()> {
        let (Op::Write { segment, .. } | Op::Sync { segment, .. }) = *op else {
            return self.options.check(op, Path::new("wal"), self.memory.len(), 0);
        };
        let held = self.state().segments.get(&segment).cloned().ok_or_else(|| unattached("submit", segment))?;
        self.options.check(op, held.file.path(), self.memory.len(), held.len)?;
        let (op, outcome) = match *op {
            Op::Write { op, offset, from, len, sync, .. } => {
                // A copy: no slice of the machine's memory is formed.
                let mut bytes = vec![0; len as usize];
                self.memory.window().copy_out(from, &mut bytes);
                let written = rustix::io::pwrite(&held.file, &bytes, offset);
                let written = written.and_then(|n| if sync { sync_data(&held.file).map(|()| n) } else { Ok(n) });
                (op, ended(written))
            }
            Op::Sync { op, .. } => (op, ended(sync_data(&held.file).map(|()| 0))),
            Op::Prepare { .. } | Op::Recycle { .. } => unreachable!("bug: refused above"),
        };
        let mut state = self.state();
        drop(held);
        state.ended.push_back((segment, op, outcome));
        Ok(())
    }

    fn reap(&self, _wait: bool, done: &mut dyn FnMut(OpId, Outcome)) -> Result<usize> {
        let all = std::mem::take(&mut self.state().ended);
        let count = all.len();
        all.into_iter().for_each(|(_, op, outcome)| done(op, outcome));
        Ok(count)
    }
}

fn sync_data(file: &LinuxFile) -> std::result::Result<(), Errno> {
    rustix::fs::fdatasync(file)
}
