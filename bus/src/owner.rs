//! `owner.lock`: one owner of an entry at a time, and how often it was registered.
//!
//! ```text
//! owner.lock, mode 0600: empty, or 1024 B
//!    0  OwnerSlot 64 B ┐ the whole one with the higher generation counts;
//!  512  OwnerSlot 64 B ┘ each in a sector of its own, so that no torn write harms both
//!         0  magic "CHRONOWN"             8  version u16 = 1 │ zero u16 │ state u32 (1 registered, 2 left)
//!        16  generation u64              24  epoch u64
//!        32  owner [u8; 16]              48  zero [u8; 12] │ crc u32 (CRC-32 of bytes 0..60)
//! ```
//!
//! Its kernel lock is held by an owner for life, and by a sweeper for the moment in which it removes what a dead owner
//! left. Whoever makes, renames or removes `LEASE` or `READY` holds it: so a sweeper never meets a living owner's files, and
//! an owner never a sweeper. It is private (0600): a mere reader cannot take it, and so keeps nobody out.
//!
//! **It is never removed**: two processes would hold "the" lock, each of its own file. Somebody may remove it all the same,
//! with the directory; so whoever has locked it looks whether the name is still this file's, and an owner can look again
//! ([`crate::Registration::check`]).
//!
//! The epoch is synced before the registration it counts is seen by anybody: it is never used twice, as long as the
//! directory is there. A hot tier in memory begins at 1 again with the machine, and the owner's random id tells the two apart.

use crate::{
    error::{Error, Result},
    lease::{Owner, crc_of},
};
use chronicle_platform::{File, Lock, Open, Platform};
use static_assertions::const_assert_eq;
use std::{
    mem::{offset_of, size_of},
    path::{Path, PathBuf},
};
use zerocopy::{
    FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// First bytes of each slot of an `owner.lock`.
pub const MAGIC: [u8; 8] = *b"CHRONOWN";
/// The format.
pub const VERSION: u16 = 1;
/// Length of an `owner.lock` that somebody registered by.
pub const OWNER_LEN: usize = 1024;
/// Where its slots stand.
pub const SLOTS: [usize; 2] = [0, 512];

/// One of two slots.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct OwnerSlot {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U16,
    /// Zero.
    pub zero16: U16,
    /// 1 registered, 2 left.
    pub state: U32,
    /// Which write, from 1.
    pub generation: U64,
    /// Which registration of the entry, from 1.
    pub epoch: U64,
    /// The registration.
    pub owner: [u8; 16],
    /// Zero.
    pub zero: [u8; 12],
    /// CRC-32 of all before it.
    pub crc: U32,
}

const_assert_eq!(size_of::<OwnerSlot>(), 64);
const_assert_eq!(offset_of!(OwnerSlot, epoch), 24);
const_assert_eq!(offset_of!(OwnerSlot, owner), 32);
const_assert_eq!(offset_of!(OwnerSlot, crc), 60);

const REGISTERED: u32 = 1;
const LEFT: u32 = 2;

/// The last registration of an entry, as `owner.lock` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Which it was, from 1.
    pub epoch: u64,
    /// Its id.
    pub owner: Owner,
    /// Whether it ended by leaving; else it lives, or died.
    pub left: bool,
    generation: u64,
}

impl Last {
    /// A registration of this id after `last`.
    #[must_use]
    pub fn next(last: Option<Last>, owner: Owner) -> Last {
        let (epoch, generation) = last.map_or((0, 0), |last| (last.epoch, last.generation));
        Last { epoch: epoch.saturating_add(1), owner, left: false, generation: generation.saturating_add(1) }
    }

    /// The same, left.
    #[must_use]
    pub fn leaving(self) -> Last {
        Last { left: true, generation: self.generation.saturating_add(1), ..self }
    }

    /// Reads the bytes of an `owner.lock`: `None` where nobody ever registered; what is wrong as (offset, evidence).
    ///
    /// # Errors
    ///
    /// Neither slot is whole, and they are not zeros either.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Option<Last>, (u64, String)> {
        let mut best: Option<Last> = None;
        let mut wrong = None;
        for at in SLOTS {
            let Some(slot) = bytes.get(at..).filter(|bytes| !bytes.is_empty()) else { continue };
            match parse_slot(slot) {
                Ok(Some(found)) if best.is_none_or(|best| best.generation < found.generation) => best = Some(found),
                Ok(_) => {}
                Err(what) => wrong = Some((at as u64, what)),
            }
        }
        match (best, wrong) {
            (None, Some(wrong)) => Err(wrong),
            // A slot that is not whole is a write that a crash of the machine tore, which nobody had seen the epoch of; or
            // it is damaged, and somebody had: the epoch after it is used, and one is skipped.
            (Some(best), Some(_)) => Ok(Some(Last { epoch: best.epoch.saturating_add(1), ..best })),
            (best, None) => Ok(best),
        }
    }

    /// Its slot's bytes, and where they go.
    #[must_use]
    pub fn to_bytes(&self) -> (usize, [u8; 64]) {
        let mut slot = OwnerSlot::new_zeroed();
        slot.magic = MAGIC;
        slot.version = VERSION.into();
        slot.state = if self.left { LEFT } else { REGISTERED }.into();
        slot.generation = self.generation.into();
        slot.epoch = self.epoch.into();
        slot.owner = self.owner.to_le_bytes();
        slot.crc = crc_of(slot.as_bytes(), 0).into();
        (SLOTS[(self.generation % 2) as usize], zerocopy::transmute!(slot))
    }
}

fn parse_slot(bytes: &[u8]) -> std::result::Result<Option<Last>, String> {
    let Ok((slot, _)) = OwnerSlot::read_from_prefix(bytes) else {
        return Err(format!("64 bytes needed, {} there", bytes.len()));
    };
    if slot.as_bytes().iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    if slot.magic != MAGIC {
        return Err(format!("magic is {}, not that of owner.lock", slot.magic.escape_ascii()));
    }
    if slot.version.get() != VERSION {
        return Err(format!("version {}, this program knows {VERSION}", slot.version));
    }
    let computed = crc_of(slot.as_bytes(), 0);
    if computed != slot.crc.get() {
        return Err(format!("checksum stored {:#010x}, computed {computed:#010x}", slot.crc));
    }
    let (state, epoch, generation) = (slot.state.get(), slot.epoch.get(), slot.generation.get());
    if !(REGISTERED..=LEFT).contains(&state) || epoch == 0 || epoch >= COUNT_END || generation >= COUNT_END {
        return Err(format!("state {state}, epoch {epoch}, generation {generation}: no owner stores that"));
    }
    Ok(Some(Last { epoch, owner: Owner::from_le_bytes(slot.owner), left: state == LEFT, generation }))
}

/// Numbers that only grow are never near the end of their type.
const COUNT_END: u64 = 1 << 62;

/// An `owner.lock` that this process holds.
#[derive(Debug)]
pub(crate) struct Held<P: Platform> {
    file: P::File,
    path: PathBuf,
}

/// What came of trying the lock once.
#[derive(Debug)]
pub(crate) enum Tried<P: Platform> {
    /// It is ours, and its name is still its own.
    Held(Held<P>),
    /// Somebody has it, or it was removed under us: look again.
    Busy,
}

impl<P: Platform> Held<P> {
    /// Tries the lock once; makes the file where the directory is and it is not.
    pub(crate) fn try_take(platform: &P, path: &Path) -> Result<Tried<P>> {
        let file = platform.open(path, Open::EnsurePrivate)?;
        if !file.try_lock(Lock::Exclusive)? {
            return Ok(Tried::Busy);
        }
        let held = Held { file, path: path.to_owned() };
        // Between opening and locking, somebody may have removed the directory and made another.
        Ok(if held.has_its_name(platform)? { Tried::Held(held) } else { Tried::Busy })
    }

    /// Whether its name still is this file's.
    pub(crate) fn has_its_name(&self, platform: &P) -> Result<bool> {
        match platform.open(&self.path, Open::Read).map_err(Error::from) {
            Ok(named) => Ok(named.id()? == self.file.id()?),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The last registration.
    pub(crate) fn last(&self) -> Result<Option<Last>> {
        read(&self.file, &self.path)
    }

    /// Says which registration there is now, durably.
    pub(crate) fn store(&self, last: &Last) -> Result<()> {
        if self.file.len()? < OWNER_LEN as u64 {
            self.file.allocate(OWNER_LEN as u64)?;
        }
        let (at, slot) = last.to_bytes();
        self.file.write_at(&slot, at as u64)?;
        Ok(self.file.sync()?)
    }
}

fn read(file: &impl File, path: &Path) -> Result<Option<Last>> {
    let mut bytes = [0; OWNER_LEN];
    let len = file.read_at(&mut bytes, 0)?;
    Last::parse(&bytes[..len]).map_err(|(offset, what)| Error::malformed(path, offset, what))
}

/// The last registration, for who may read the file and does not hold the lock; `None` if that cannot be told.
pub(crate) fn look<P: Platform>(platform: &P, path: &Path) -> Option<Last> {
    let file = platform.open(path, Open::Read).ok()?;
    read(&file, path).ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(writes: &[Last]) -> Vec<u8> {
        let mut bytes = vec![0; OWNER_LEN];
        for last in writes {
            let (at, slot) = last.to_bytes();
            bytes[at..at + 64].copy_from_slice(&slot);
        }
        bytes
    }

    #[test]
    fn the_newest_whole_write_counts() {
        assert_eq!(Last::parse(&[]), Ok(None));
        assert_eq!(Last::parse(&[0; OWNER_LEN]), Ok(None));
        let first = Last::next(None, 5);
        let second = Last::next(Some(first.leaving()), 6);
        assert_eq!((first.epoch, second.epoch), (1, 2));
        assert_eq!(Last::parse(&file(&[first])), Ok(Some(first)));
        assert_eq!(Last::parse(&file(&[first, first.leaving()])), Ok(Some(first.leaving())));
        assert_eq!(Last::parse(&file(&[first, first.leaving(), second])), Ok(Some(second)));
    }

    #[test]
    fn an_epoch_is_not_used_twice_whichever_slot_is_damaged() {
        let first = Last::next(None, 5);
        let writes = [first, first.leaving(), Last::next(Some(first.leaving()), 6)];
        let whole = file(&writes);
        for at in SLOTS {
            for bit in 0..64 * 8 {
                let mut changed = whole.clone();
                changed[at + bit / 8] ^= 1 << (bit % 8);
                let last = Last::parse(&changed).unwrap();
                assert!(Last::next(last, 7).epoch > 2, "slot {at}, bit {bit}: {last:?}");
            }
        }
        let mut both = whole.clone();
        both[SLOTS[0]] ^= 1;
        both[SLOTS[1]] ^= 1;
        let (_, what) = Last::parse(&both).unwrap_err();
        assert!(what.contains("magic"), "{what}");
        for len in 1..64 {
            assert!(Last::parse(&vec![7; len]).unwrap_err().1.contains("64 bytes needed"));
        }
    }
}
