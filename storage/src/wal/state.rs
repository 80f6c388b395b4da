//! `state.meta`: how far the living writer has got, for readers of this and of other processes.
//!
//! ```text
//!    0  magic "CHRONWST" │ version u16 │ zero u16 │ zero u32
//!   16  wal_id [u8; 16]                         ┐
//!   32  boot_id [u8; 16]                        │ which log, which boot of the machine, which opening
//!   48  incarnation u64                         ┘
//!   56  turn u32: odd while the words around it change
//!   60  flags u32: 1 closed, 2 poisoned
//!   64  durable_seq u64 │ durable_segment u64 │ durable_offset u64 │ written_seq u64
//!   96  zero [u8; 32]
//!  128  wake u32: see chronicle_core::wake
//! ```
//!
//! One page, mapped. Nothing in it is ever synced and nothing needs it to recover: what it says of a log whose writer is
//! gone, or of another boot of the machine, is not believed, and what it leads to is checked like any other bytes. So
//! nobody who scribbles in it can do more than make a reader wait or look in vain.
//!
//! The words are changed by one thread at a time and read whole or not at all:
//!
//! ```text
//! writer: turn odd ── words, each Release ── turn even, Release ── wake who marked the wake word
//! reader: turn, Acquire ── words, each Acquire ── turn again: the same and even
//! ```

use super::names::Names;
use crate::Result;
use chronicle_core::{Region, RegionMut, Window, wake, wal::Position};
use chronicle_platform::{File, Lock, Open, Platform, TroubleKind};
use static_assertions::{const_assert, const_assert_eq};
use std::{
    mem::{offset_of, size_of},
    sync::Arc,
    time::Duration,
};
use zerocopy::{
    FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// First bytes of `state.meta`.
const MAGIC: [u8; 8] = *b"CHRONWST";
const VERSION: u16 = 1;
/// Length of `state.meta`.
const STATE_LEN: usize = 4096;
/// The word that sleepers mark and sleep on, in a cache line of its own.
pub(crate) const WAKE: usize = 128;

const TURN: usize = offset_of!(RawState, turn);

/// Flag: the writer has closed the log.
const CLOSED: u32 = 1;
/// Flag: a write or a sync has failed; nothing more becomes durable.
const POISONED: u32 = 2;

/// Longest sleep of a reader whom nobody wakes.
const UNWOKEN: Duration = Duration::from_millis(1);
/// Looks at words that change. A writer changes them in some ten stores, at each batch; one that was killed in between
/// leaves the turn odd for ever.
const LOOKS: u32 = 1000;

/// What the writer says.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawState {
    /// `CHRONWST`.
    magic: [u8; 8],
    /// 1.
    version: U16,
    /// Zero.
    zero16: U16,
    /// Zero.
    zero32: U32,
    /// The log's identity.
    wal_id: [u8; 16],
    /// The boot of the machine in which it was said.
    boot_id: [u8; 16],
    /// Which opening of the log, by chance.
    incarnation: U64,
    /// Odd while the words around it change.
    turn: U32,
    /// [`CLOSED`] and [`POISONED`].
    flags: U32,
    /// Last durable data frame.
    durable_seq: U64,
    /// Up to where everything is durable: the segment,
    durable_segment: U64,
    /// and the offset in it.
    durable_offset: U64,
    /// Last data frame that is written, durable or not.
    written_seq: U64,
    /// Zero.
    zero: [u8; 32],
}

const_assert_eq!(size_of::<RawState>(), 128);
const_assert_eq!(offset_of!(RawState, wal_id), 16);
const_assert_eq!(offset_of!(RawState, boot_id), 32);
const_assert_eq!(offset_of!(RawState, turn), 56);
const_assert_eq!(offset_of!(RawState, flags), 60);
const_assert_eq!(offset_of!(RawState, durable_seq), 64);
const_assert_eq!(offset_of!(RawState, written_seq), 88);
const_assert!(WAKE >= size_of::<RawState>() && WAKE + 4 <= STATE_LEN);

/// How far a writer has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Last durable data frame; 0 = none ever.
    pub(crate) durable_seq: u64,
    /// Up to where everything is durable.
    pub(crate) durable: Position,
    /// Last data frame that is written, durable or not.
    pub(crate) written_seq: u64,
    /// The log is closed.
    pub(crate) closed: bool,
    /// A write or a sync has failed: nothing more becomes durable.
    pub(crate) poisoned: bool,
}

/// The writer's end.
#[derive(Debug)]
pub(crate) struct StateWriter<P: Platform> {
    platform: P,
    map: Arc<P::MapMut>,
    raw: RawState,
}

impl<P: Platform> StateWriter<P> {
    /// Takes the page over, or makes it, and says `progress`. The caller has the writer's lock.
    pub(crate) fn open(platform: &P, names: &Names, wal_id: [u8; 16], progress: &Progress) -> Result<Self> {
        let file = platform.open(&names.state(), Open::Ensure)?;
        // Any words there are right; a length cut by a crash grows again.
        file.allocate(STATE_LEN as u64)?;
        let map = platform.map_mut(&file, STATE_LEN)?;
        platform.guard_mut(&map)?;
        platform.prefault_mut(&map)?;
        let mut raw = RawState::new_zeroed();
        raw.magic = MAGIC;
        raw.version = VERSION.into();
        raw.wal_id = wal_id;
        raw.boot_id = platform.boot_id().to_le_bytes();
        raw.incarnation = (platform.random() as u64).into();
        // Going on from a dead writer's turn, odd or even, so that no reader takes two of them for one.
        raw.turn = map.window().load(TURN).into();
        let mut writer = StateWriter { platform: platform.clone(), map: Arc::new(map), raw };
        writer.publish(progress)?;
        Ok(writer)
    }

    /// Says `progress`, and wakes who sleeps. A dozen stores and a fence; a system call only if somebody sleeps.
    pub(crate) fn publish(&mut self, progress: &Progress) -> Result<()> {
        let turn = self.raw.turn.get() | 1;
        self.raw.flags = ((u32::from(progress.closed) * CLOSED) | (u32::from(progress.poisoned) * POISONED)).into();
        self.raw.durable_seq = progress.durable_seq.into();
        self.raw.durable_segment = progress.durable.segment.into();
        self.raw.durable_offset = progress.durable.offset.into();
        self.raw.written_seq = progress.written_seq.into();
        self.raw.turn = turn.into();
        let words = self.map.window_mut();
        words.store_release(TURN, turn);
        for (word, bytes) in self.raw.as_bytes().chunks_exact(4).enumerate() {
            if word * 4 != TURN {
                // ORDERING: Release pairs with the Acquire of each word in `snapshot`: whoever sees one of these sees the
                // odd turn before it.
                words.store_release(word * 4, word_of(bytes));
            }
        }
        self.raw.turn = turn.wrapping_add(1).into();
        // ORDERING: Release pairs with the first Acquire in `snapshot`: whoever sees this turn sees all words of it.
        words.store_release(TURN, turn.wrapping_add(1));
        if wake::after_commit(words, WAKE, wake::Mode::Fence) {
            self.platform.wake(&self.map, WAKE)?;
        }
        Ok(())
    }

    /// The page, and in it the word that sleepers sleep on ([`WAKE`]), for who sleeps in a loop of their own.
    pub(crate) fn map(&self) -> &Arc<P::MapMut> {
        &self.map
    }
}

/// A reader's end: of a page that may not be there, or be anybody's bytes.
#[derive(Debug)]
pub(crate) struct StateReader<P: Platform> {
    platform: P,
    names: Names,
    wal_id: [u8; 16],
    page: Option<Page<P>>,
}

#[derive(Debug)]
struct Page<P: Platform> {
    map: P::Map,
    /// The same page, if we may mark who sleeps.
    waker: Option<P::MapMut>,
}

impl<P: Platform> StateReader<P> {
    pub(crate) fn new(platform: &P, names: &Names, wal_id: [u8; 16]) -> Self {
        StateReader { platform: platform.clone(), names: names.clone(), wal_id, page: None }
    }

    /// What the last writer of this boot says; nothing if it says nothing that can be believed.
    ///
    /// What it says of durability stays true after its death: it said so only when it was.
    pub(crate) fn look(&mut self) -> Result<Option<Progress>> {
        let (boot_id, wal_id) = (self.platform.boot_id().to_le_bytes(), self.wal_id);
        let Some(page) = self.page()? else { return Ok(None) };
        let Some(raw) = snapshot(page.map.window()) else { return Ok(None) };
        let ours = raw.magic == MAGIC && raw.version.get() == VERSION && raw.wal_id == wal_id;
        if !ours || raw.boot_id != boot_id {
            return Ok(None);
        }
        Ok(Some(Progress {
            durable_seq: raw.durable_seq.get(),
            durable: Position { segment: raw.durable_segment.get(), offset: raw.durable_offset.get() },
            written_seq: raw.written_seq.get(),
            closed: raw.flags.get() & CLOSED != 0,
            poisoned: raw.flags.get() & POISONED != 0,
        }))
    }

    /// Sleeps until the writer says something, at most so long, unless `is_ready`.
    pub(crate) fn sleep(&mut self, timeout: Duration, is_ready: impl FnOnce(&mut Self) -> Result<bool>) -> Result<()> {
        let Some(page) = self.page()? else {
            self.platform.sleep(timeout.min(UNWOKEN));
            return Ok(());
        };
        let turn = page.map.window().load_acquire(TURN);
        let seen = page.waker.as_ref().map(|waker| wake::mark(waker.window_mut(), WAKE));
        if seen.is_some() {
            wake::settle();
        }
        // ORDERING: after the fence: what the writer said before its look at our mark is seen here.
        if is_ready(self)? {
            return Ok(());
        }
        let Some(page) = &self.page else { return Ok(()) };
        match (&page.waker, seen) {
            (Some(waker), Some(seen)) => _ = self.platform.wait_mut(waker, WAKE, seen, timeout)?,
            // Nobody will wake us. Another turn than the one that we saw ends the wait at once.
            _ => _ = self.platform.wait(&page.map, TURN, turn, timeout.min(UNWOKEN))?,
        }
        Ok(())
    }

    fn page(&mut self) -> Result<Option<&Page<P>>> {
        if self.page.as_ref().is_some_and(|page| self.platform.is_damaged(&page.map)) {
            self.page = None;
        }
        if self.page.is_none() {
            self.page = self.open()?;
        }
        Ok(self.page.as_ref())
    }

    fn open(&self) -> Result<Option<Page<P>>> {
        let path = self.names.state();
        let (file, may_mark) = match self.platform.open(&path, Open::Write) {
            Ok(file) => (file, true),
            Err(trouble) if trouble.kind() == TroubleKind::NotFound => return Ok(None),
            Err(_) => match self.platform.open(&path, Open::Read) {
                Ok(file) => (file, false),
                Err(trouble) if trouble.kind() == TroubleKind::NotFound => return Ok(None),
                Err(trouble) => return Err(trouble.into()),
            },
        };
        if file.len()? < STATE_LEN as u64 {
            return Ok(None);
        }
        let map = self.platform.map(&file, STATE_LEN)?;
        self.platform.guard(&map)?;
        let waker = if may_mark { Some(self.platform.map_mut(&file, STATE_LEN)?) } else { None };
        if let Some(waker) = &waker {
            self.platform.guard_mut(waker)?;
        }
        Ok(Some(Page { map, waker }))
    }
}

/// Whether somebody has the log open for writing. It may be gone when this returns.
pub(crate) fn is_alive<P: Platform>(platform: &P, names: &Names) -> Result<bool> {
    let file = match platform.open(&names.alive_lock(), Open::Read) {
        Ok(file) => file,
        Err(trouble) if trouble.kind() == TroubleKind::NotFound => return Ok(false),
        Err(trouble) => return Err(trouble.into()),
    };
    if file.try_lock(Lock::Shared)? {
        file.unlock()?;
        return Ok(false);
    }
    Ok(true)
}

/// The words as they were together at one moment; nothing if they changed all the time.
fn snapshot(words: Window<'_>) -> Option<RawState> {
    let mut raw = RawState::new_zeroed();
    for _ in 0..LOOKS {
        // ORDERING: Acquire pairs with the Release of the even turn in `publish`.
        let turn = words.load_acquire(TURN);
        if turn & 1 == 1 {
            std::hint::spin_loop();
            continue;
        }
        for (word, bytes) in raw.as_mut_bytes().chunks_exact_mut(4).enumerate() {
            // ORDERING: Acquire pairs with the Release of each word in `publish`, and keeps the last look at the turn
            // behind it.
            bytes.copy_from_slice(&words.load_acquire(word * 4).to_le_bytes());
        }
        if words.load(TURN) == turn {
            return Some(raw);
        }
    }
    None
}

fn word_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("bug: a word has four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{Options, ReaderOptions, Threads, Wal, WalReader};
    use chronicle_platform::sim::Sim;
    use std::path::Path;

    const DIR: &str = "/log";
    const WAL_ID: [u8; 16] = [7; 16];

    fn said(n: u64) -> Progress {
        let durable = Position { segment: n + 1, offset: n + 2 };
        Progress { durable_seq: n, durable, written_seq: n + 3, closed: n & 1 == 1, poisoned: n & 2 == 2 }
    }

    fn page(progress: &Progress) -> (Sim, Names, StateWriter<Sim>) {
        let (sim, names) = (Sim::new(11), Names::new(Path::new(DIR)));
        sim.create_dirs(names.dir()).unwrap();
        let writer = StateWriter::open(&sim, &names, WAL_ID, progress).unwrap();
        (sim, names, writer)
    }

    fn put(sim: &Sim, names: &Names, offset: usize, bytes: &[u8]) {
        sim.open(&names.state(), Open::Ensure).unwrap().write_at(bytes, offset as u64).unwrap();
    }

    fn bytes(sim: &Sim, names: &Names) -> Vec<u8> {
        let mut bytes = vec![0; STATE_LEN];
        assert_eq!(sim.open(&names.state(), Open::Read).unwrap().read_at(&mut bytes, 0).unwrap(), STATE_LEN);
        bytes
    }

    fn look(sim: &Sim, names: &Names) -> Option<Progress> {
        StateReader::new(sim, names, WAL_ID).look().unwrap()
    }

    #[test]
    fn what_another_log_version_or_boot_said_is_not_believed() {
        let (sim, names, writer) = page(&said(9));
        let right = bytes(&sim, &names);
        assert_eq!(look(&sim, &names), Some(said(9)));
        for at in (0..offset_of!(RawState, zero16)).chain(16..offset_of!(RawState, incarnation)) {
            put(&sim, &names, at, &[right[at] ^ 0x10]);
            assert_eq!(look(&sim, &names), None, "byte {at}");
            put(&sim, &names, at, &right[at..=at]);
        }
        assert_eq!(look(&sim, &names), Some(said(9)));
        assert_eq!(StateReader::new(&sim, &names, [8; 16]).look().unwrap(), None);

        let next = sim.crash();
        drop(writer);
        next.create_dirs(names.dir()).unwrap();
        put(&next, &names, 0, &right);
        assert_eq!(look(&next, &names), None);
    }

    #[test]
    fn a_writer_that_died_between_two_words_is_not_believed_and_the_next_one_is() {
        let (sim, names, writer) = page(&said(9));
        drop(writer);
        for turn in [1, 7, u32::MAX] {
            put(&sim, &names, TURN, &turn.to_le_bytes());
            assert_eq!(look(&sim, &names), None);
            let writer = StateWriter::open(&sim, &names, WAL_ID, &said(4)).unwrap();
            assert_eq!(look(&sim, &names), Some(said(4)));
            assert_eq!(writer.raw.turn.get(), turn.wrapping_add(1));
        }
    }

    #[test]
    fn words_of_two_turns_are_never_read_as_one() {
        let (sim, names, mut writer) = page(&said(0));
        let mut reader = StateReader::new(&sim, &names, WAL_ID);
        std::thread::scope(|scope| {
            let last = 20_000;
            scope.spawn(move || (1..=last).for_each(|n| writer.publish(&said(n)).unwrap()));
            let mut seen = 0;
            while seen < last {
                if let Some(progress) = reader.look().unwrap() {
                    assert_eq!(progress, said(progress.durable_seq));
                    assert!(progress.durable_seq >= seen, "{} after {seen}", progress.durable_seq);
                    seen = progress.durable_seq;
                }
            }
        });
    }

    #[test]
    fn any_bytes_are_a_page_that_says_nothing_or_what_stands_there() {
        let (sim, names, writer) = page(&said(9));
        let right = bytes(&sim, &names);
        drop(writer);
        for seed in 0..200 {
            let noise = Sim::new(seed);
            let mut page: Vec<u8> = (0..STATE_LEN / 16).flat_map(|_| noise.random().to_le_bytes()).collect();
            if seed % 2 == 0 {
                page[..TURN].copy_from_slice(&right[..TURN]);
            }
            let len = if seed % 5 == 4 { page[0] as usize * 17 % STATE_LEN } else { STATE_LEN };
            sim.remove(&names.state()).unwrap();
            put(&sim, &names, 0, &page[..len]);
            let is_ours = seed % 2 == 0 && len == STATE_LEN && page[TURN] & 1 == 0;
            let mut reader = StateReader::new(&sim, &names, WAL_ID);
            let found = reader.look().unwrap();
            assert_eq!(found.is_some(), is_ours, "seed {seed}");
            if let Some(found) = found {
                assert_eq!(found.durable_seq.to_le_bytes(), page[64..72]);
                assert_eq!(found.written_seq.to_le_bytes(), page[88..96]);
            }
            reader.sleep(Duration::from_millis(1), |_| Ok(false)).unwrap();
        }
        sim.remove(&names.state()).unwrap();
        assert_eq!(look(&sim, &names), None);
    }

    /// Whoever may write to the page can make a reader look in vain, and no more.
    #[test]
    fn lies_make_no_record_and_recovery_does_not_hear_them() {
        let options = Options {
            block_size: 512,
            batch_len: 1024,
            segment_len: 4096,
            depth: 2,
            carry_len: 128,
            threads: Threads::Callers,
            ..Options::default()
        };
        let write = |wal: &Wal<Sim>, last: u64| {
            for seq in wal.next_seq()..=last {
                assert_eq!(wal.append(&[seq as u8; 100]), Ok(seq));
                wal.commit(seq).unwrap();
            }
        };
        let read = |sim: &Sim| {
            let mut reader = WalReader::open(sim, DIR, 1, ReaderOptions::default())?;
            let mut last = 0;
            while let Some(record) = reader.next()? {
                last += 1;
                assert_eq!((record.seq, record.payload), (last, &[last as u8; 100][..]));
                assert!(last <= 31, "nobody appended it");
            }
            let _ = reader.wait(Duration::from_millis(1));
            Ok::<_, crate::wal::ReadError>(last)
        };
        let wrong = [0, 1, 511, 513, 1 << 20, u64::MAX - 1, u64::MAX];
        for (segment, offset) in wrong.into_iter().flat_map(|a| wrong.map(|b| (a, b))) {
            for dies in [false, true] {
                let mut sim = Sim::new(5);
                let names = Names::new(Path::new(DIR));
                let wal = Wal::open(&sim, DIR, &options).unwrap().0;
                write(&wal, 30);
                let mut living = Some(wal);
                if dies {
                    let next = sim.start_process();
                    sim.kill();
                    living = None;
                    sim = next;
                }
                let words = [segment, segment, offset, u64::MAX];
                put(&sim, &names, offset_of!(RawState, durable_seq), words.as_bytes());
                let _ = read(&sim);
                let _ = crate::wal::inspect(&sim, DIR);
                let wal = living.unwrap_or_else(|| {
                    let (wal, recovery) = Wal::open(&sim, DIR, &options).unwrap();
                    assert_eq!(recovery.next_seq, 31);
                    wal
                });
                write(&wal, 31);
                assert_eq!(read(&sim).unwrap(), 31, "segment {segment}, offset {offset}");
            }
        }
    }
}
