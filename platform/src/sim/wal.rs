//! The driver of a write-ahead log on a simulated machine.

use super::{Sim, SimFile, SimMapMut};
use crate::{File, Medium, Open, Platform, Result, Trouble, WalDriver, WalMode, WalOptions, WalWay};
use chronicle_core::{
    Region,
    wal::{Op, OpId, Outcome, SyncBy},
};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Carries out the operations of one log.
#[derive(Debug)]
pub struct SimWal {
    sim: Sim,
    memory: Arc<SimMapMut>,
    options: WalOptions,
    mode: WalMode,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    segments: BTreeMap<u64, Arc<SimFile>>,
    ended: VecDeque<(u64, OpId, Outcome)>,
}

impl SimWal {
    pub(super) fn new(sim: &Sim, memory: Arc<SimMapMut>, lock: &SimFile, options: &WalOptions) -> Result<SimWal> {
        let durable = sim.medium(&lock.path)? == Medium::Disk && sim.support().durable_sync;
        let mode = WalMode {
            way: WalWay::Buffered,
            driver: "simulated",
            direct: false,
            sync: SyncBy::Op,
            durable,
            why: None,
            measured: Vec::new(),
        };
        Ok(SimWal { sim: sim.clone(), memory, options: options.clone(), mode, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unattached(operation: &'static str, segment: u64) -> Trouble {
    Trouble::new(operation, format!("segment {segment}"), io::Error::from(io::ErrorKind::NotFound))
}

impl WalDriver for SimWal {
    fn mode(&self) -> &WalMode {
        &self.mode
    }

    fn attach(&self, segment: u64, path: &Path) -> Result<()> {
        let file = self.sim.open(path, Open::Write)?;
        let mut state = self.state();
        if state.segments.contains_key(&segment) {
            return Err(Trouble::new("attach", path, io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        state.segments.insert(segment, Arc::new(file));
        Ok(())
    }

    fn detach(&self, segment: u64) -> Result<()> {
        let mut state = self.state();
        let Some(held) = state.segments.get(&segment) else { return Err(unattached("detach", segment)) };
        if Arc::strong_count(held) > 1 || state.ended.iter().any(|(of, ..)| *of == segment) {
            return Err(Trouble::new("detach", &*held.path, io::Error::from(io::ErrorKind::ResourceBusy)));
        }
        state.segments.remove(&segment);
        Ok(())
    }

    fn submit(&self, op: &Op) -> Result<()> {
        let (Op::Write { segment, .. } | Op::Sync { segment, .. }) = *op else {
            return self.options.check(op, Path::new("wal"), self.memory.len(), 0);
        };
        let held = self.state().segments.get(&segment).cloned().ok_or_else(|| unattached("submit", segment))?;
        self.options.check(op, &held.path, self.memory.len(), held.len()?)?;
        let (op, result) = match *op {
            Op::Write { op, offset, from, len, sync, .. } => {
                let mut bytes = vec![0; len as usize];
                self.memory.window().copy_out(from, &mut bytes);
                let result = held.write_at(&bytes, offset);
                (op, result.and_then(|()| if sync { held.sync() } else { Ok(()) }).map(|()| len))
            }
            Op::Sync { op, .. } => (op, held.sync().map(|()| 0)),
            Op::Prepare { .. } | Op::Recycle { .. } => unreachable!("bug: refused above"),
        };
        let outcome = match result {
            Ok(n) => Outcome::Done(n),
            Err(trouble) => Outcome::Failed(trouble.errno().unwrap_or(super::machine::EIO)),
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
