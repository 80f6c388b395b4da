//! Readers' files: where each reader stands, and whether it still looks.
//!
//! A reader maps its own file, holds a lock on it for life (a name has one reader at a time), commits with a few stores
//! and raises a beat at every look. The writer reads the file with `read_at` and believes nothing in it but what a
//! reader may decide: how far back it holds segments, and only for as long as the writer's own limits allow.

use super::{
    layout::{
        BEATS, COUNT_END, CURSOR_MAGIC, CURSOR_SLOTS, CursorSlot, DURABLE_SLOTS, FLAG_COMMITS, FLAGS, META_LEN,
        MetaHeader, READING, Summed, TTL_MS, crc_text,
    },
    names::Names,
    slots::BadSlot,
};
use crate::{Error, Result, root::Name};
use chronicle_core::{RegionMut, layout::SEQ_END};
use chronicle_platform::{File, Lock, Open, Platform, TroubleKind};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// A place in a queue between two frames, and which queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Queue.
    pub queue_id: [u8; 16],
    /// Its epoch.
    pub epoch: u32,
    /// Segment.
    pub segment_id: u64,
    /// Offset in it.
    pub offset: u32,
    /// The next seq to read.
    pub seq: u64,
}

/// What a slot says; `None` where a reader never committed.
fn parse(bytes: &[u8]) -> std::result::Result<(u64, Option<Position>), String> {
    let Ok(slot) = CursorSlot::read_from_bytes(bytes) else { return Err("short".into()) };
    if !slot.is_whole(0) {
        return Err(crc_text(&slot, 0));
    }
    for (name, found, end) in [
        ("generation", slot.generation.get(), COUNT_END),
        ("seq", slot.seq.get(), SEQ_END),
        ("segment_id", slot.segment_id.get(), COUNT_END),
    ] {
        if found >= end {
            return Err(format!("{name} is {found:#x}, which no reader stores"));
        }
    }
    let position = Position {
        queue_id: slot.queue_id,
        epoch: slot.epoch.get(),
        segment_id: slot.segment_id.get(),
        offset: slot.offset.get(),
        seq: slot.seq.get(),
    };
    Ok((slot.generation.get(), (position.seq != 0).then_some(position)))
}

fn slot(generation: u64, position: Option<Position>) -> CursorSlot {
    let mut slot = CursorSlot::new_zeroed();
    slot.generation = generation.into();
    if let Some(position) = position {
        slot.queue_id = position.queue_id;
        slot.epoch = position.epoch.into();
        slot.offset = position.offset.into();
        slot.segment_id = position.segment_id.into();
        slot.seq = position.seq.into();
    }
    slot.summed(0)
}

/// The newer valid one of two slots.
fn newest(path: &Path, bytes: &[u8], slots: [usize; 2]) -> Result<(u64, Option<Position>)> {
    let mut best: Option<(u64, Option<Position>)> = None;
    let mut wrong = None;
    for at in slots {
        match parse(&bytes[at..at + size_of::<CursorSlot>()]) {
            Ok(found) if best.is_none_or(|best| best.0 < found.0) => best = Some(found),
            Ok(_) => {}
            Err(what) => wrong = Some(Error::malformed(path, at as u64 + 60, what)),
        }
    }
    match (best, wrong) {
        (Some(best), _) => Ok(best),
        (None, Some(error)) => Err(error),
        (None, None) => unreachable!("two slots were looked at"),
    }
}

/// The slots of a reader's file that are not whole, for `verify`: those that others beside them stand in for.
/// With each the generation of the one that stands in for it.
fn bad_slots(bytes: &[u8]) -> Vec<(BadSlot, u64)> {
    let mut bad = Vec::new();
    for slots in [CURSOR_SLOTS, DURABLE_SLOTS] {
        let bytes_of = |at: usize| &bytes[at..at + size_of::<CursorSlot>()];
        let whole = slots.into_iter().filter_map(|at| Some(parse(bytes_of(at)).ok()?.0)).max();
        let Some(whole) = whole else { continue };
        for at in slots {
            let Err(what) = parse(bytes_of(at)) else { continue };
            bad.push((BadSlot { at, offset: at as u64 + 60, what }, whole));
        }
    }
    bad
}

/// A reader's file as others see it.
#[derive(Clone, Debug)]
pub(crate) struct CursorView {
    /// Slots that are not whole.
    pub(crate) bad: Vec<(BadSlot, u64)>,
    pub(crate) cursor: Option<Position>,
    pub(crate) durable: Option<Position>,
    pub(crate) beats: u32,
    pub(crate) ttl: Duration,
    pub(crate) reading: u64,
    pub(crate) commits: bool,
}

/// Reads a reader's file without believing it.
pub(crate) fn view<P: Platform>(platform: &P, path: &Path) -> Result<CursorView> {
    let file = platform.open(path, Open::Read)?;
    let mut bytes = vec![0; META_LEN];
    let read = file.read_at(&mut bytes, 0)?;
    let bytes = &bytes[..read];
    MetaHeader::parse(bytes, CURSOR_MAGIC).map_err(|(at, what)| Error::malformed(path, at, what))?;
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Ok(CursorView {
        bad: bad_slots(bytes),
        cursor: newest(path, bytes, CURSOR_SLOTS)?.1,
        durable: newest(path, bytes, DURABLE_SLOTS)?.1,
        beats: word(BEATS),
        ttl: Duration::from_millis(word(TTL_MS).into()),
        reading: u64::from(word(READING)) | u64::from(word(READING + 4)) << 32,
        commits: word(FLAGS) & FLAG_COMMITS != 0,
    })
}

/// A reader's own file.
#[derive(Debug)]
pub(crate) struct CursorFile<P: Platform> {
    file: P::File,
    map: P::MapMut,
    generation: u64,
    durable_generation: u64,
    beats: u32,
    poisoned: bool,
    path: PathBuf,
    /// As found at opening.
    pub(crate) found: Option<Position>,
}

/// How often a lock is tried again: its last holder may be about to die, or be a mere look.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

impl<P: Platform> CursorFile<P> {
    /// Opens or makes a reader's file and locks it; `None` where we may not write.
    pub(crate) fn open(platform: &P, names: &Names, name: &Name, ttl: Duration) -> Result<Option<Self>> {
        let path = names.cursor(name);
        let mut tries = 0;
        let file = loop {
            match platform.open(&path, Open::Write) {
                Ok(file) if file.try_lock(Lock::Exclusive)? => break file,
                Ok(_) => {}
                Err(trouble) if trouble.kind() == TroubleKind::Denied => return Ok(None),
                Err(trouble) if trouble.kind() == TroubleKind::NotFound => match Self::create(platform, names, name) {
                    Ok(Some(file)) => break file,
                    Ok(None) => {}
                    Err(Error::Trouble(trouble)) if trouble.kind() == TroubleKind::Denied => return Ok(None),
                    Err(error) => return Err(error),
                },
                Err(trouble) => return Err(trouble.into()),
            }
            tries += 1;
            if tries == TRIES {
                return Err(Error::Locked { path });
            }
            platform.sleep(PAUSE);
        };
        let mut bytes = vec![0; META_LEN];
        let read = file.read_at(&mut bytes, 0)?;
        let bytes = &bytes[..read];
        MetaHeader::parse(bytes, CURSOR_MAGIC).map_err(|(at, what)| Error::malformed(&path, at, what))?;
        let (generation, found) = newest(&path, bytes, CURSOR_SLOTS)?;
        let (durable_generation, _) = newest(&path, bytes, DURABLE_SLOTS)?;
        let map = platform.map_mut(&file, META_LEN)?;
        let window = map.window_mut();
        window.store(TTL_MS, u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX));
        // The flags stay as they were: until a place is found, what the last reader of this name held is held.
        let beats = window.load(BEATS).wrapping_add(1);
        window.store(BEATS, beats);
        Ok(Some(CursorFile { file, map, generation, durable_generation, beats, poisoned: false, path, found }))
    }

    /// `None` if somebody else is at it.
    fn create(platform: &P, names: &Names, name: &Name) -> Result<Option<P::File>> {
        let (path, fresh) = (names.cursor(name), names.fresh_cursor(name));
        let file = platform.open(&fresh, Open::Ensure)?;
        if !file.try_lock(Lock::Exclusive)? {
            return Ok(None);
        }
        // Whoever had the lock before us may have published this very file.
        if platform.exists(&path)? {
            // If not, ours is one too many.
            _ = platform.remove(&fresh);
            return Ok(None);
        }
        let mut bytes = vec![0; META_LEN];
        bytes[..size_of::<MetaHeader>()].copy_from_slice(MetaHeader::new(CURSOR_MAGIC, [0; 16], 0).as_bytes());
        // All four slots are whole from the start, so that a torn first commit leaves one.
        for slots in [CURSOR_SLOTS, DURABLE_SLOTS] {
            for (generation, at) in slots.into_iter().enumerate() {
                let slot = slot(generation as u64, None);
                bytes[at..at + size_of::<CursorSlot>()].copy_from_slice(slot.as_bytes());
            }
        }
        file.allocate(META_LEN as u64)?;
        file.write_at(&bytes, 0)?;
        if let Err(trouble) = platform.publish(&file, &fresh, &path) {
            // Lost a race for the name: the winner's file is as good.
            if trouble.kind() == TroubleKind::NotFound {
                return Ok(None);
            }
            return Err(trouble.into());
        }
        Ok(Some(file))
    }

    /// One more look.
    #[inline]
    pub(crate) fn beat(&mut self) {
        self.beats = self.beats.wrapping_add(1);
        self.map.window_mut().store(BEATS, self.beats);
    }

    pub(crate) fn reading(&self, segment: u64) {
        self.map.window_mut().store64(READING, segment);
    }

    /// From now on retention goes by the committed cursor.
    pub(crate) fn set_commits(&self, commits: bool) {
        self.map.window_mut().store(FLAGS, if commits { FLAG_COMMITS } else { 0 });
    }

    /// Stores the cursor: a few stores, durable whenever the kernel likes.
    pub(crate) fn commit(&mut self, position: Position) {
        self.generation += 1;
        // Slot 0 was made with generation 0: the parity says which one is older.
        let at = CURSOR_SLOTS[(self.generation % 2) as usize];
        self.map.window_mut().copy_in(at, slot(self.generation, Some(position)).as_bytes());
    }

    /// Stores the cursor and makes it durable; only then others may rely on it.
    pub(crate) fn commit_durable(&mut self, position: Position) -> Result<()> {
        if self.poisoned {
            return Err(Error::Poisoned { path: self.path.clone() });
        }
        self.commit(position);
        if let Err(trouble) = self.file.sync() {
            self.poisoned = true;
            return Err(trouble.into());
        }
        self.durable_generation += 1;
        let at = DURABLE_SLOTS[(self.durable_generation % 2) as usize];
        self.map.window_mut().copy_in(at, slot(self.durable_generation, Some(position)).as_bytes());
        Ok(())
    }
}

/// All readers that have a file.
pub(crate) fn list<P: Platform>(platform: &P, names: &Names) -> Result<Vec<(Name, PathBuf)>> {
    let entries = match platform.list(&names.readers()) {
        Ok(entries) => entries,
        Err(trouble) if trouble.kind() == TroubleKind::NotFound => return Ok(Vec::new()),
        Err(trouble) => return Err(trouble.into()),
    };
    let readers = entries.into_iter().filter(|entry| !entry.is_dir);
    Ok(readers
        .filter_map(|entry| super::names::reader_name(&entry.name))
        .map(|name| {
            let path = names.cursor(&name);
            (name, path)
        })
        .collect())
}
