//! `control.meta`: what the writer says of its queue.
//!
//! Two slots are written in turn, each synced before what depends on it happens, so that a crash leaves the older one
//! whole. The live words behind them (heartbeat, oldest segment, counters) are plain stores and hints.

use super::{
    layout::{
        CONTROL_MAGIC, CONTROL_SLOTS, COUNT_END, ControlSlot, EPOCH_END, FAILED, HEARTBEAT, META_LEN, MetaHeader,
        OLDEST, REQUIRED_MAX, Summed, UNLOCKED, crc_text, failed_in,
    },
    names::Names,
    slots::BadSlot,
};
use crate::{Error, Result, root::Name};
use chronicle_core::{
    Checksum, Clock, RegionMut, Window,
    layout::{FRAME_ALIGN, HEADER_LEN, MAX_SEGMENT_LEN},
    wake,
};
use chronicle_platform::{File, Open, Platform};
use std::path::{Path, PathBuf};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Generation of a queue's first state. Even: it stands in slot 0.
pub(crate) const FIRST_GENERATION: u64 = 2;

/// What a slot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) generation: u64,
    pub(crate) boot_id: u128,
    pub(crate) epoch: u32,
    pub(crate) closed: bool,
    pub(crate) seq_bound: u64,
    pub(crate) last_segment: u64,
    pub(crate) synced: Synced,
    pub(crate) segment_len: u32,
    pub(crate) max_bytes: u64,
    pub(crate) wake_mode: wake::Mode,
    pub(crate) checksum: Checksum,
    pub(crate) clock: Clock,
    pub(crate) segments_ahead: u32,
    pub(crate) required: Vec<Name>,
}

/// A position up to which everything is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) segment: u64,
    pub(crate) offset: u32,
    /// Seq of the frame that stands or will stand there.
    pub(crate) seq: u64,
}

impl State {
    fn to_slot(&self) -> ControlSlot {
        let mut slot = ControlSlot::new_zeroed();
        slot.generation = self.generation.into();
        slot.boot_id = self.boot_id.to_le_bytes();
        slot.epoch = self.epoch.into();
        slot.state = if self.closed { 2 } else { 1 }.into();
        slot.seq_bound = self.seq_bound.into();
        slot.last_segment = self.last_segment.into();
        slot.synced_segment = self.synced.segment.into();
        slot.synced_seq = self.synced.seq.into();
        slot.synced_offset = self.synced.offset.into();
        slot.segment_len = self.segment_len.into();
        slot.max_bytes = self.max_bytes.into();
        slot.wake_mode = match self.wake_mode {
            wake::Mode::Asymmetric => 1,
            wake::Mode::Fence => 2,
        };
        slot.checksum = match self.checksum {
            Checksum::Frame => 1,
            Checksum::CommitWord => 2,
        };
        slot.clock = match self.clock {
            Clock::Ingest => 0,
            Clock::Exchange => 1,
        };
        slot.segments_ahead = self.segments_ahead.into();
        slot.required_count = self.required.len().min(REQUIRED_MAX) as u8;
        for (to, name) in slot.required.iter_mut().zip(&self.required) {
            to[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
        }
        slot.summed(0)
    }

    /// `None` if the slot was never written; an error with its offset within the slot if no writer stores it.
    pub(super) fn parse(bytes: &[u8]) -> std::result::Result<Option<State>, (usize, String)> {
        let Ok(slot) = ControlSlot::read_from_bytes(bytes) else {
            return Err((0, format!("{} bytes needed, {} there", size_of::<ControlSlot>(), bytes.len())));
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if !slot.is_whole(0) {
            return Err((1020, crc_text(&slot, 0)));
        }
        let field = |at, name: &str, found: u64| Err((at, format!("{name} is {found:#x}, which no writer stores")));
        let closed = match slot.state.get() {
            1 => false,
            2 => true,
            other => return field(28, "state", other.into()),
        };
        let wake_mode = match slot.wake_mode {
            1 => wake::Mode::Asymmetric,
            2 => wake::Mode::Fence,
            other => return field(80, "wake_mode", other.into()),
        };
        let checksum = match slot.checksum {
            1 => Checksum::Frame,
            2 => Checksum::CommitWord,
            other => return field(81, "checksum", other.into()),
        };
        let clock = match slot.clock {
            0 => Clock::Ingest,
            1 => Clock::Exchange,
            other => return field(82, "clock", other.into()),
        };
        if chronicle_core::layout::segment(slot.segment_len.get() as usize).is_none() {
            return field(68, "segment_len", slot.segment_len.get().into());
        }
        if slot.required_count as usize > REQUIRED_MAX {
            return field(83, "required_count", slot.required_count.into());
        }
        // Every sum from here on starts from one of these.
        for (at, name, found, end) in [
            (0, "generation", slot.generation.get(), COUNT_END),
            (24, "epoch", slot.epoch.get().into(), EPOCH_END.into()),
            (32, "seq_bound", slot.seq_bound.get(), COUNT_END),
            (40, "last_segment", slot.last_segment.get(), COUNT_END),
            (48, "synced_segment", slot.synced_segment.get(), slot.last_segment.get().saturating_add(1)),
            (56, "synced_seq", slot.synced_seq.get(), slot.seq_bound.get().saturating_add(2)),
        ] {
            if found >= end {
                return field(at, name, found);
            }
        }
        if slot.synced_seq.get() == 0 {
            return field(56, "synced_seq", 0);
        }
        let offset = slot.synced_offset.get() as usize;
        if !(HEADER_LEN..MAX_SEGMENT_LEN).contains(&offset) || !offset.is_multiple_of(FRAME_ALIGN) {
            return field(64, "synced_offset", offset as u64);
        }
        let mut required = Vec::new();
        for (at, name) in slot.required[..slot.required_count as usize].iter().enumerate() {
            let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            match std::str::from_utf8(&name[..len]).ok().and_then(|name| Name::new(name).ok()) {
                Some(name) => required.push(name),
                None => return Err((88 + at * 64, "required holds a name that no reader can have".into())),
            }
        }
        Ok(Some(State {
            generation: slot.generation.get(),
            boot_id: u128::from_le_bytes(slot.boot_id),
            epoch: slot.epoch.get(),
            closed,
            seq_bound: slot.seq_bound.get(),
            last_segment: slot.last_segment.get(),
            synced: Synced {
                segment: slot.synced_segment.get(),
                offset: slot.synced_offset.get(),
                seq: slot.synced_seq.get(),
            },
            segment_len: slot.segment_len.get(),
            max_bytes: slot.max_bytes.get(),
            wake_mode,
            checksum,
            clock,
            segments_ahead: slot.segments_ahead.get(),
            required,
        }))
    }
}

/// What a whole `control.meta` says.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) queue_id: [u8; 16],
    pub(crate) created_ns: u64,
    pub(crate) state: State,
    /// A slot was there and no longer whole: the older one counts.
    pub(crate) torn: bool,
    /// That slot.
    pub(crate) bad: Option<BadSlot>,
    /// What the live word says of failed syncs.
    failed: u64,
}

impl Control {
    fn parse(path: &Path, bytes: &[u8]) -> Result<Control> {
        let header = MetaHeader::parse(bytes, CONTROL_MAGIC).map_err(|(at, what)| Error::malformed(path, at, what))?;
        let mut best: Option<State> = None;
        let mut wrong = None;
        let mut empty = None;
        for at in CONTROL_SLOTS {
            match State::parse(&bytes[at..at + size_of::<ControlSlot>()]) {
                Ok(Some(state)) if best.as_ref().is_none_or(|best| best.generation < state.generation) => {
                    best = Some(state);
                }
                Ok(Some(_)) => {}
                Ok(None) => empty = Some(at),
                Err((offset, what)) => wrong = Some(BadSlot { at, offset: (at + offset) as u64, what }),
            }
        }
        match (best, wrong) {
            (Some(state), wrong) => {
                // Only the first state ever written stands alone.
                let bad = wrong.or(empty.filter(|_| state.generation > FIRST_GENERATION).map(|at| BadSlot {
                    at,
                    offset: at as u64,
                    what: "zeros where a state was stored".into(),
                }));
                Ok(Control {
                    queue_id: header.queue_id,
                    created_ns: header.created_ns.get(),
                    torn: bad.is_some(),
                    bad,
                    state,
                    failed: u64::from_le_bytes(std::array::from_fn(|byte| bytes[FAILED + byte])),
                })
            }
            (None, Some(BadSlot { offset, what, .. })) => Err(Error::malformed(path, offset, what)),
            (None, None) => {
                let what = "generation is 0x0 in both slots, which no writer stores";
                Err(Error::malformed(path, CONTROL_SLOTS[0] as u64, what))
            }
        }
    }

    /// Whether the machine died under the last writer and no writer has looked since. A torn slot may have been of a
    /// writer that came after one that closed.
    pub(crate) fn is_unrecovered<P: Platform>(&self, platform: &P) -> bool {
        self.state.boot_id != platform.boot_id() && (!self.state.closed || self.torn)
    }

    /// Whether a sync failed in this boot and nobody has made durable since what it was to.
    pub(crate) fn has_failed<P: Platform>(&self, platform: &P) -> bool {
        self.failed == failed_in(platform.boot_id())
    }

    /// Reads a file with `read_at`: nothing that a peer does to it can hurt.
    pub(crate) fn read<P: Platform>(path: &Path, file: &P::File) -> Result<Control> {
        let mut bytes = vec![0; META_LEN];
        let read = file.read_at(&mut bytes, 0)?;
        Control::parse(path, &bytes[..read])
    }

    /// Reads a mapping that its writer may be storing into; a slot that is being written counts as torn.
    pub(crate) fn look(path: &Path, window: Window<'_>) -> Result<Control> {
        // Readers look while they idle, and ask the heap for nothing.
        let mut bytes = [0; META_LEN];
        let bytes = &mut bytes[..META_LEN.min(window.len())];
        window.copy_out(0, bytes);
        Control::parse(path, bytes)
    }
}

/// The writer's `control.meta`.
#[derive(Debug)]
pub(crate) struct ControlFile<P: Platform> {
    path: PathBuf,
    file: P::File,
    map: P::MapMut,
    poisoned: bool,
    /// What [`FAILED`] is in this boot once a sync has failed.
    failed: u64,
    pub(crate) queue_id: [u8; 16],
    pub(crate) state: State,
}

impl<P: Platform> ControlFile<P> {
    /// Opens it; `None` if there is none.
    pub(crate) fn open(platform: &P, names: &Names) -> Result<Option<(Self, Control)>> {
        let path = names.control();
        let file = match platform.open(&path, Open::Write).map_err(Error::from) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let control = Control::read::<P>(&path, &file)?;
        let map = platform.map_mut(&file, META_LEN)?;
        let failed = failed_in(platform.boot_id());
        let (queue_id, state) = (control.queue_id, control.state.clone());
        Ok(Some((ControlFile { path, file, map, poisoned: false, failed, queue_id, state }, control)))
    }

    /// Makes it, with a first slot, and publishes it: from then on there is a queue.
    pub(crate) fn create(platform: &P, names: &Names, state: State) -> Result<Self> {
        let (path, fresh) = (names.control(), names.dir().join("control.meta.fresh"));
        if platform.exists(&fresh)? {
            platform.remove(&fresh)?;
        }
        let queue_id = platform.random().to_le_bytes();
        let mut bytes = vec![0; META_LEN];
        bytes[..size_of::<MetaHeader>()]
            .copy_from_slice(MetaHeader::new(CONTROL_MAGIC, queue_id, platform.now_ns()).as_bytes());
        bytes[CONTROL_SLOTS[0]..CONTROL_SLOTS[0] + size_of::<ControlSlot>()]
            .copy_from_slice(state.to_slot().as_bytes());
        // Until its name is durable too: who finds it like this makes another.
        let failed = failed_in(platform.boot_id());
        bytes[FAILED..FAILED + 8].copy_from_slice(&failed.to_le_bytes());
        let file = platform.open(&fresh, Open::Create)?;
        file.allocate(META_LEN as u64)?;
        file.write_at(&bytes, 0)?;
        platform.publish(&file, &fresh, &path)?;
        // By its name from now on, which is what an error should say.
        let file = platform.open(&path, Open::Write)?;
        let map = platform.map_mut(&file, META_LEN)?;
        let this = ControlFile { path, file, map, poisoned: false, failed, queue_id, state };
        this.forget_failure();
        Ok(this)
    }

    /// Says to whoever opens the queue next in this boot that a sync failed: what memory shows may be nowhere else.
    ///
    /// Not through the mapping: where a file system has given up, a store is a fault and a write an error.
    pub(crate) fn tell_failure(&self) {
        // Where not even this can be written, nothing can, and nobody opens the queue.
        _ = self.file.write_at(&self.failed.to_le_bytes(), FAILED as u64);
    }

    /// All that the queue shows is durable again, in files that no sync has failed of.
    pub(crate) fn forget_failure(&self) {
        self.map.window_mut().store64(FAILED, 0);
    }

    /// Changes what it says and makes that durable. After an error nobody knows which of the two it says, and no later
    /// success would be believed: there is none.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut State)) -> Result<()> {
        if self.poisoned {
            return Err(Error::Poisoned { path: self.path.clone() });
        }
        let mut state = self.state.clone();
        change(&mut state);
        state.generation += 1;
        let at = CONTROL_SLOTS[(state.generation % 2) as usize];
        self.map.window_mut().copy_in(at, state.to_slot().as_bytes());
        self.state = state;
        let synced = self.file.sync();
        if synced.is_err() {
            self.poisoned = true;
            self.tell_failure();
        }
        Ok(synced?)
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    pub(crate) fn heartbeat(&self, platform: &P) {
        let tick = tick(platform);
        let window = self.map.window_mut();
        if window.load(HEARTBEAT) != tick {
            window.store(HEARTBEAT, tick);
        }
    }

    /// Says whether others can see by `alive.lock` that there is a writer.
    pub(crate) fn set_unlocked(&self, unlocked: bool) {
        let window = self.map.window_mut();
        if window.load(UNLOCKED) != u32::from(unlocked) {
            window.store(UNLOCKED, unlocked.into());
        }
    }

    pub(crate) fn set_oldest(&self, id: u64) {
        self.map.window_mut().store64(OLDEST, id);
    }

    /// Stores a live counter.
    pub(crate) fn set_counter(&self, at: usize, value: u64) {
        let window = self.map.window_mut();
        if window.load64(at) != value {
            window.store64(at, value);
        }
    }

    pub(crate) fn counter(&self, at: usize) -> u64 {
        self.map.window_mut().load64(at)
    }
}

/// Whether an error says that something may not have become durable, and never will by another try.
pub(crate) fn is_failed_sync(error: &Error) -> bool {
    matches!(error, Error::Trouble(trouble) if trouble.operation().starts_with("sync"))
}

/// The monotonic clock in steps of about a millisecond, in 32 bits: compare by wrapping difference.
pub(crate) fn tick<P: Platform>(platform: &P) -> u32 {
    (platform.monotonic_ns() >> 20) as u32
}

/// Age of a heartbeat; one from the future is of now.
pub(crate) fn age(now: u32, heartbeat: u32) -> std::time::Duration {
    let ticks = now.wrapping_sub(heartbeat);
    let ticks = if ticks > u32::MAX / 2 { 0 } else { ticks };
    std::time::Duration::from_nanos(u64::from(ticks) << 20)
}
