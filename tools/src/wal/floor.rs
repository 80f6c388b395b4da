//! What the disk allows: a file that was written before, bare records, one leader that writes for all.
//!
//! The floor uses the log's own driver and as many writes in flight, and does nothing else that a log must do: no frames, no
//! checksums, no numbers, no recovery. Committers copy their record into the batch that gathers; whoever finds nobody
//! leading leads, and the others sleep on their batch's word.

use chronicle::{
    System,
    core::{
        RegionMut,
        wal::{Op, OpId, Outcome, SyncBy},
    },
    platform::{File, MemoryOptions, Open, Platform, Trouble, WalDriver, WalOptions},
};
use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

type MapMut = <System as Platform>::MapMut;

/// Length of the file that is written over and over.
const FILE_LEN: u64 = 64 << 20;
/// Length of a batch's buffer: more than 64 records of a KiB.
const BATCH_LEN: usize = 128 << 10;
/// Batches with sleepers, and a word for each; far more than are ever under way.
const WORDS: u64 = 32;
/// Bytes between two words.
const SPACING: usize = 64;

/// A batch under way.
struct Flying {
    batch: u64,
    buffer: usize,
    op: OpId,
    synced: bool,
    done: bool,
}

struct State {
    /// The batch that gathers, counted from 1; its buffer, and the bytes in it.
    batch: u64,
    buffer: usize,
    fill: usize,
    free: Vec<usize>,
    flying: VecDeque<Flying>,
    /// Every batch up to this one is durable.
    durable: u64,
    at: u64,
    last_op: u32,
    leads: bool,
    failed: Option<Arc<Trouble>>,
}

/// The floor of one log's directory.
pub(super) struct Floor {
    driver: <System as Platform>::Wal,
    memory: Arc<MapMut>,
    words: MapMut,
    block: usize,
    depth: usize,
    state: Mutex<State>,
    /// Held as a log holds it: a driver keeps the descriptor.
    _lock: <System as Platform>::File,
}

impl Floor {
    /// Prepares its file in `dir`.
    pub(super) fn new(dir: &Path, options: &WalOptions) -> Result<Floor, Trouble> {
        let path = dir.join("floor");
        let file = System.open(&path, Open::Create)?;
        file.allocate(FILE_LEN)?;
        file.fill(0, FILE_LEN)?;
        file.sync()?;
        System.sync_dir(dir)?;
        let lock = System.open(&dir.join("floor.lock"), Open::EnsurePrivate)?;
        let depth = usize::from(options.depth);
        let memory = Arc::new(System.memory((depth + 1) * BATCH_LEN, &MemoryOptions::default())?.map);
        let driver = System.wal(memory.clone(), &lock, options)?;
        driver.attach(1, &path)?;
        let state = State {
            batch: 1,
            buffer: 0,
            fill: 0,
            free: (1..=depth).collect(),
            flying: VecDeque::with_capacity(depth),
            durable: 0,
            at: 0,
            last_op: 0,
            leads: false,
            failed: None,
        };
        Ok(Floor {
            driver,
            memory,
            words: System.memory(WORDS as usize * SPACING, &MemoryOptions::default())?.map,
            block: options.block_size as usize,
            depth,
            state: Mutex::new(state),
            _lock: lock,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies the record into the batch that gathers, and returns its number.
    fn put(&self, state: &mut State, record: &[u8]) -> u64 {
        self.memory.window_mut().copy_in(state.buffer * BATCH_LEN + state.fill, record);
        state.fill += record.len();
        state.batch
    }

    /// Commits one record: returns when it is durable.
    pub(super) fn commit(&self, record: &[u8]) -> Result<(), Arc<Trouble>> {
        let mut state = self.lock();
        while state.fill + record.len() > BATCH_LEN {
            // Cannot be with as many committers as there is room for; but a floor must not fall through.
            state = if state.leads { self.sleep(state, 0) } else { self.lead(state, |state| state.fill == 0)? };
        }
        let batch = self.put(&mut state, record);
        loop {
            if let Some(trouble) = &state.failed {
                return Err(trouble.clone());
            }
            if state.durable >= batch {
                return Ok(());
            }
            if !state.leads {
                drop(self.lead(state, |state| state.durable >= batch)?);
                return Ok(());
            }
            state = self.sleep(state, batch);
        }
    }

    /// Keeps `outstanding` records on their way from one thread, for so long; how many became durable.
    pub(super) fn several(&self, record: &[u8], outstanding: usize, time: Duration) -> Result<u64, Arc<Trouble>> {
        let share = outstanding.div_ceil(self.depth);
        let began = std::time::Instant::now();
        let mut state = self.lock();
        let first = state.durable;
        while began.elapsed() < time {
            while state.fill / record.len() < share {
                self.put(&mut state, record);
            }
            let before = state.durable;
            state = self.lead(state, |state| state.durable > before && state.fill == 0)?;
        }
        let batches = state.durable - first;
        state = self.lead(state, |state| state.flying.is_empty())?;
        drop(state);
        Ok(batches * share as u64)
    }

    fn word(batch: u64) -> usize {
        (batch % WORDS) as usize * SPACING
    }

    fn sleep<'a>(&'a self, state: MutexGuard<'a, State>, batch: u64) -> MutexGuard<'a, State> {
        let word = Self::word(batch);
        let seen = self.words.window_mut().load(word);
        drop(state);
        // Bounded, so that a lost wake-up would be slow, not for ever.
        _ = System.wait_mut(&self.words, word, seen, Duration::from_millis(100));
        self.lock()
    }

    /// Changes a batch's word, under the lock; whoever sleeps on it is woken after.
    fn ring(&self, batch: u64) {
        let window = self.words.window_mut();
        window.store_release(Self::word(batch), window.load(Self::word(batch)).wrapping_add(1));
    }

    fn lead<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        enough: impl Fn(&State) -> bool,
    ) -> Result<MutexGuard<'a, State>, Arc<Trouble>> {
        state.leads = true;
        let result = self.lead_until(&mut Some(state), &enough);
        let mut state = self.lock();
        state.leads = false;
        if let Err(trouble) = result {
            let trouble = Arc::new(trouble);
            state.failed = Some(trouble.clone());
            let batches = state.durable..=state.batch;
            drop(state);
            for batch in batches {
                self.ring(batch);
                _ = System.wake(&self.words, Self::word(batch));
            }
            return Err(trouble);
        }
        let next = state.durable + 1;
        if next < state.batch || state.fill > 0 {
            // Somebody of the next batch leads on.
            self.ring(next);
            drop(state);
            _ = System.wake(&self.words, Self::word(next));
            state = self.lock();
        }
        Ok(state)
    }

    fn lead_until<'a>(
        &'a self,
        guard: &mut Option<MutexGuard<'a, State>>,
        enough: &impl Fn(&State) -> bool,
    ) -> Result<(), Trouble> {
        let with_write = self.driver.mode().sync == SyncBy::Write;
        loop {
            let mut state = guard.take().unwrap_or_else(|| self.lock());
            if enough(&state) {
                return Ok(());
            }
            if state.fill > 0
                && state.flying.len() < self.depth
                && let Some(next) = state.free.pop()
            {
                let (buffer, len) = (state.buffer, state.fill.next_multiple_of(self.block));
                let at = if state.at + len as u64 > FILE_LEN { 0 } else { state.at };
                let op = state.next_op();
                let batch = state.batch;
                state.flying.push_back(Flying { batch, buffer, op, synced: with_write, done: false });
                (state.batch, state.buffer, state.fill, state.at) = (batch + 1, next, 0, at + len as u64);
                drop(state);
                let from = buffer * BATCH_LEN;
                self.driver.submit(&Op::Write {
                    op,
                    segment: 1,
                    offset: at,
                    from,
                    len: len as u32,
                    sync: with_write,
                })?;
                continue;
            }
            if state.flying.is_empty() {
                return Ok(());
            }
            drop(state);
            let mut ended = [None; 16];
            let mut count = 0;
            self.driver.reap(true, &mut |op, outcome| {
                ended[count] = Some((op, outcome));
                count += 1;
            })?;
            let (mut woken, mut syncs) = (VecDeque::new(), Vec::new());
            let mut state = self.lock();
            for (op, outcome) in ended.into_iter().flatten() {
                if let Outcome::Failed(errno) = outcome {
                    return Err(Trouble::new("write", "floor", io::Error::from_raw_os_error(errno)));
                }
                let sync = state.next_op();
                let Some(flying) = state.flying.iter_mut().find(|flying| flying.op == op) else { continue };
                if flying.synced {
                    flying.done = true;
                } else {
                    (flying.synced, flying.op) = (true, sync);
                    syncs.push(sync);
                }
            }
            while let Some(flying) = state.flying.pop_front_if(|flying| flying.done) {
                state.durable = flying.batch;
                state.free.push(flying.buffer);
                self.ring(flying.batch);
                woken.push_back(flying.batch);
            }
            drop(state);
            for op in syncs {
                self.driver.submit(&Op::Sync { op, segment: 1 })?;
            }
            for batch in &woken {
                _ = System.wake(&self.words, Self::word(*batch));
            }
            if !woken.is_empty() {
                // Those who wake run first, and are part of the next batch.
                std::thread::yield_now();
            }
        }
    }
}

impl State {
    fn next_op(&mut self) -> OpId {
        self.last_op = self.last_op.wrapping_add(1);
        OpId::from_number(self.last_op)
    }
}
