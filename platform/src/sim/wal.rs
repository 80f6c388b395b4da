//! The driver of a write-ahead log on a simulated machine.
//!
//! Asked for one way or another it behaves as the kernels' drivers do, and worse:
//!
//! | [`WalWay`] | An operation happens | A write is durable | Outcomes come |
//! |---|---|---|---|
//! | `Uring`, `Auto` | between submission and its outcome | by its own flag | in any order, late |
//! | `Direct` | at its submission | by its own flag | in order |
//! | `Buffered` | between submission and its outcome | by a sync of its own | in any order, late |
//!
//! The machine's buffers are looked at twice, when a write is submitted and when it ends: a buffer that changed meanwhile is
//! a bug of whoever owns it, and ends the test there.

use super::{
    Sim, SimFile, SimMapMut,
    content::Write,
    flight::{Flight, Work},
};
use crate::{File, Medium, Open, Platform, Result, Trouble, WalDriver, WalMode, WalOptions, WalWay};
use chronicle_core::{
    Region,
    wal::{Op, OpId, Outcome, SyncBy},
};
use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::ThreadId,
};

/// Carries out the operations of one log.
#[derive(Debug)]
pub struct SimWal {
    sim: Sim,
    id: u64,
    memory: Arc<SimMapMut>,
    options: WalOptions,
    mode: WalMode,
    segments: Mutex<BTreeMap<u64, Segment>>,
    /// The lock's file, for the words of a trouble that has no better path.
    path: Arc<Path>,
    /// The only thread that may use it, if there is one.
    thread: Option<ThreadId>,
}

#[derive(Debug)]
struct Segment {
    file: SimFile,
    len: u64,
}

impl SimWal {
    pub(super) fn new(sim: &Sim, memory: Arc<SimMapMut>, lock: &SimFile, options: &WalOptions) -> Result<SimWal> {
        let (medium, honest) = (sim.medium(&lock.path)?, sim.support().durable_sync);
        let way = if options.way == WalWay::Auto { WalWay::Uring } else { options.way };
        let why = match (medium, honest) {
            (Medium::Memory, _) => Some("the log lies in memory, where nothing is durable".to_owned()),
            (Medium::Disk, false) => Some("the disk lies about its syncs".to_owned()),
            (Medium::Disk, true) => None,
        };
        let mode = WalMode {
            way,
            driver: "simulated",
            direct: way != WalWay::Buffered,
            sync: if way == WalWay::Buffered { SyncBy::Op } else { SyncBy::Write },
            ends_in_submit: way == WalWay::Direct,
            durable: why.is_none(),
            why,
            measured: Vec::new(),
        };
        let id = sim.operate("make a driver", &lock.path, |machine| Ok(machine.next_driver()))?;
        let (sim, options, path) = (sim.clone(), options.clone(), lock.path.clone());
        let thread = options.one_thread.then(|| std::thread::current().id());
        Ok(SimWal { sim, id, memory, options, mode, segments: Mutex::default(), path, thread })
    }

    fn segments(&self) -> MutexGuard<'_, BTreeMap<u64, Segment>> {
        // A panic of a test's thread in here leaves a map that can still be looked at.
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_thread(&self, operation: &'static str) -> Result<()> {
        if self.thread.is_some_and(|only| only != std::thread::current().id()) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "the driver belongs to another thread");
            return Err(Trouble::new(operation, &*self.path, error));
        }
        Ok(())
    }

    fn bytes(&self, from: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.window().copy_out(from, &mut bytes);
        bytes
    }

    fn trouble(&self, operation: &'static str, segment: u64, kind: io::ErrorKind, reason: &str) -> Trouble {
        Trouble::new(operation, &*self.path, io::Error::new(kind, format!("segment {segment} {reason}")))
    }

    fn unattached(&self, operation: &'static str, segment: u64) -> Trouble {
        self.trouble(operation, segment, io::ErrorKind::NotFound, "is not attached")
    }
}

impl Drop for SimWal {
    /// Waits for what is in flight, if its process is there to wait.
    fn drop(&mut self) {
        let mut machine = self.sim.machine();
        let (mine, others) =
            std::mem::take(&mut machine.in_flight).into_iter().partition(|flight| flight.driver == self.id);
        machine.in_flight = others;
        if machine.off || machine.dead.contains(&self.sim.pid) {
            machine.in_flight.extend::<Vec<Flight>>(mine);
            return;
        }
        mine.into_iter()
            .filter(|flight: &Flight| flight.ended.is_none())
            .for_each(|flight| _ = machine.carry_out(&flight));
    }
}

impl WalDriver for SimWal {
    fn mode(&self) -> &WalMode {
        &self.mode
    }

    fn attach(&self, segment: u64, path: &Path) -> Result<()> {
        self.check_thread("attach")?;
        let file = self.sim.open(path, Open::Write)?;
        let len = file.len()?;
        let mut segments = self.segments();
        if segments.contains_key(&segment) {
            return Err(self.trouble("attach", segment, io::ErrorKind::AlreadyExists, "is attached"));
        }
        segments.insert(segment, Segment { file, len });
        Ok(())
    }

    fn detach(&self, segment: u64) -> Result<()> {
        self.check_thread("detach")?;
        let mut segments = self.segments();
        if !segments.contains_key(&segment) {
            return Err(self.unattached("detach", segment));
        }
        self.sim.operate("detach", &self.path, |machine| {
            let busy = machine.in_flight.iter().any(|flight| flight.driver == self.id && flight.segment == segment);
            if busy { Err(io::ErrorKind::ResourceBusy.into()) } else { Ok(()) }
        })?;
        segments.remove(&segment);
        Ok(())
    }

    fn submit(&self, op: &Op) -> Result<()> {
        self.check_thread("submit")?;
        let segments = self.segments();
        let held = segments.get(&op.segment());
        let (path, len) = held.map_or((&*self.path, 0), |held| (&*held.file.path, held.len));
        let (work, from) = match *op {
            Op::Write { .. } if held.is_none() => {
                return Err(self.unattached("write", op.segment()));
            }
            Op::Sync { .. } if held.is_none() => return Err(self.unattached("sync", op.segment())),
            Op::Write { offset, from, len: n, sync, .. } => {
                self.options.check(op, path, self.memory.len(), len)?;
                (Work::Write(Write { offset, bytes: self.bytes(from, n as usize).into() }, sync), from)
            }
            Op::Sync { .. } => (Work::Sync, 0),
            Op::Prepare { .. } | Op::Recycle { .. } => {
                return self.options.check(op, path, self.memory.len(), len);
            }
        };
        let held = held.expect("bug: looked at above");
        self.sim.operate("submit", path, |machine| {
            let description = held.file.id;
            let inode = machine.descriptions[&description].inode;
            let (op, segment, pid) = (op.id(), op.segment(), self.sim.pid);
            let mut flight = Flight { driver: self.id, pid, op, segment, inode, description, work, from, ended: None };
            if self.mode.way == WalWay::Direct {
                flight.ended = Some(machine.carry_out(&flight));
            }
            machine.in_flight.push(flight);
            Ok(())
        })
    }

    fn reap(&self, wait: bool, done: &mut dyn FnMut(OpId, Outcome)) -> Result<usize> {
        self.check_thread("reap")?;
        let ended = self.sim.operate("reap", &self.path, |machine| {
            let count = machine.in_flight.iter().filter(|flight| flight.driver == self.id).count() as u64;
            let now = match (self.mode.way, wait) {
                (WalWay::Direct, _) | (_, _) if count == 0 || self.mode.way == WalWay::Direct => count,
                (_, true) => 1 + machine.random.below(count),
                (_, false) => machine.random.below(count + 1),
            };
            let mut ended = Vec::new();
            for left in (0..count).rev().take(now as usize) {
                let chosen = if self.mode.way == WalWay::Direct { 0 } else { machine.random.below(left + 1) };
                let mut mine = (0..machine.in_flight.len()).filter(|at| machine.in_flight[*at].driver == self.id);
                let at = mine.nth(chosen as usize).expect("bug: counted above");
                drop(mine);
                let mut flight = machine.in_flight.remove(at);
                let outcome = flight.ended.unwrap_or_else(|| machine.carry_out(&flight));
                flight.ended = Some(outcome);
                ended.push((flight, outcome));
            }
            Ok(ended)
        })?;
        for (flight, _) in &ended {
            if let Work::Write(write, _) = &flight.work {
                let now = self.bytes(flight.from, write.bytes.len());
                assert!(
                    *now == *write.bytes,
                    "bug: {:?} on its way to offset {} of segment {} was changed in memory at {}",
                    flight.op,
                    write.offset,
                    flight.segment,
                    flight.from
                );
            }
        }
        let count = ended.len();
        ended.into_iter().for_each(|(flight, outcome)| done(flight.op, outcome));
        Ok(count)
    }
}
