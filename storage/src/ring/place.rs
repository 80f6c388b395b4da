//! Where a ring lies: its bytes, made whole before anybody sees them, and checked before anybody believes them.
//!
//! ```text
//! [ the ring, as core formats it ][ place, 128 B: which boot of the machine it belongs to ][ rest of a page ]
//! ```
//!
//! A ring's words are stored without syncs. After a crash of the machine its file, if it lay on a disk, holds pages of
//! different moments, with nothing in them to tell; so a ring belongs to the boot that it was made in.

use super::{EndOptions, RingOptions, lock};
use crate::{Error, Result, queue::wake_mode};
use chronicle_core::{
    Fault, HeapRegion, Region, RegionMut,
    ring::{self, FormatError, Header, Identity, Kind, SPACING, broadcast, mpsc, slots, spsc},
    wake::Mode,
};
use chronicle_platform::{File, Memory, MemoryOptions, Open, Platform, Trouble};
use static_assertions::const_assert_eq;
use std::{
    mem::{offset_of, size_of},
    path::Path,
};
use zerocopy::{
    FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32},
};

/// First bytes of a place.
const MAGIC: [u8; 8] = *b"CHRONRGP";
const VERSION: u16 = 1;
/// Length of a [`RawPlace`].
pub const PLACE_LEN: usize = 128;

/// What stands behind a ring, at the next multiple of 128.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawPlace {
    /// `CHRONRGP`.
    pub magic: [u8; 8],
    /// 1.
    pub version: U16,
    /// Zero.
    pub zero16: U16,
    /// Zero.
    pub zero32: U32,
    /// The boot in which the ring was made.
    pub boot_id: [u8; 16],
    /// The ring's identity.
    pub ring_id: [u8; 16],
    /// Zero.
    pub zero: [u8; 76],
    /// CRC-32 of all before it.
    pub crc: U32,
}

const_assert_eq!(size_of::<RawPlace>(), PLACE_LEN);
const_assert_eq!(offset_of!(RawPlace, boot_id), 16);
const_assert_eq!(offset_of!(RawPlace, ring_id), 32);
const_assert_eq!(offset_of!(RawPlace, crc), 124);

/// Makes a ring and publishes it under `path`, whole, in a directory that exists. A ring of an earlier boot of the machine
/// is replaced.
///
/// # Errors
///
/// There is a ring, or something else, by that name ([`chronicle_platform::TroubleKind::Exists`]); options that no ring
/// can have; trouble, such as no space, and then nothing is left behind.
pub fn create<P: Platform>(platform: &P, path: &Path, options: &RingOptions) -> Result<()> {
    make(platform, path, ring_len(path, options)?, options, format)
}

/// As [`create`], a ring of `count` values of type `T`.
///
/// # Errors
///
/// As [`create`].
pub fn create_slots<T: slots::Value, P: Platform>(platform: &P, path: &Path, count: usize) -> Result<()> {
    let options = RingOptions { kind: Kind::Slots, ..RingOptions::spsc(count) };
    make(platform, path, slots_len::<T>(path, count)?, &options, format_slots::<T, P::MapMut>)
}

/// Makes a ring in memory that no file lies behind; sealed, where the system can do that, so that no peer can cut it.
/// Its ends are opened with `over`; `path` is where their locks lie.
///
/// # Errors
///
/// Options that no ring can have; trouble.
pub fn create_in_memory<P: Platform>(
    platform: &P,
    path: &Path,
    options: &RingOptions,
    memory: &MemoryOptions<'_>,
) -> Result<Memory<P>> {
    make_in_memory(platform, path, ring_len(path, options)?, options, memory, format)
}

/// As [`create_in_memory`], a ring of `count` values of type `T`.
///
/// # Errors
///
/// As [`create_in_memory`].
pub fn create_slots_in_memory<T: slots::Value, P: Platform>(
    platform: &P,
    path: &Path,
    count: usize,
    memory: &MemoryOptions<'_>,
) -> Result<Memory<P>> {
    let options = RingOptions { kind: Kind::Slots, ..RingOptions::spsc(count) };
    let len = slots_len::<T>(path, count)?;
    make_in_memory(platform, path, len, &options, memory, format_slots::<T, P::MapMut>)
}

/// Makes a ring of a region.
type Format<R> = fn(&R, &RingOptions, Identity, Mode) -> std::result::Result<(), FormatError>;

fn format<R: RegionMut>(
    region: &R,
    options: &RingOptions,
    identity: Identity,
    wake: Mode,
) -> std::result::Result<(), FormatError> {
    let capacity = options.capacity;
    match options.kind {
        Kind::Spsc => spsc::format(region, &spsc::Spec { capacity, identity, wake }),
        Kind::Mpsc => {
            let spec = mpsc::Spec { capacity, producers: options.producers, wake_mode: wake, identity };
            mpsc::format(region, &spec)
        }
        Kind::Broadcast => broadcast::format(region, &broadcast::Spec { capacity, identity, wake }),
        Kind::Slots => unreachable!("`ring_len` refused it"),
    }
}

fn format_slots<T: slots::Value, R: RegionMut>(
    region: &R,
    options: &RingOptions,
    identity: Identity,
    wake: Mode,
) -> std::result::Result<(), FormatError> {
    slots::format::<T, R>(region, &slots::Spec { count: options.capacity, identity, wake })
}

/// Bytes of the ring that these options ask for.
fn ring_len(path: &Path, options: &RingOptions) -> Result<usize> {
    let RingOptions { kind, capacity, producers, .. } = *options;
    let len = match kind {
        Kind::Spsc => spsc::len(capacity),
        Kind::Mpsc => mpsc::len(capacity, producers),
        Kind::Broadcast => broadcast::len(capacity),
        Kind::Slots => return Err(refused(path, "a ring of slots is made by create_slots, which knows their type")),
    };
    // What is wrong with it, in core's words: no region is so small that the capacity is not looked at first.
    len.ok_or_else(|| {
        let tiny = HeapRegion::new(4);
        let why = format(&tiny, options, Identity::default(), Mode::Fence).err();
        refused(path, why.map_or("no ring is like this".into(), |why| why.to_string()))
    })
}

fn slots_len<T: slots::Value>(path: &Path, count: usize) -> Result<usize> {
    slots::len::<T>(count).ok_or_else(|| refused(path, format!("{count} slots: not a power of two up to 2^30")))
}

/// Bytes of the file or the memory that is to hold a ring of so many.
fn file_len(path: &Path, len: usize) -> Result<usize> {
    whole_len(len).ok_or_else(|| refused(path, format!("a ring of {len} bytes is longer than this machine can map")))
}

fn refused(path: &Path, what: impl Into<String>) -> Error {
    Error::Options { path: path.to_path_buf(), what: what.into() }
}

fn make<P: Platform>(
    platform: &P,
    path: &Path,
    len: usize,
    options: &RingOptions,
    format: Format<P::MapMut>,
) -> Result<()> {
    let mode = wake_mode(platform, path, options.wake)?;
    let _lock = lock::Held::take(platform, &lock::create_lock(path), Open::EnsurePrivate)?;
    match platform.open(path, Open::Read).map_err(Error::from) {
        Ok(file) if find::<P>(path, &file)?.boot_id == platform.boot_id().to_le_bytes() => {
            let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(Trouble::new("create", path, exists).noting("there is a ring: open its ends").into());
        }
        // Of an earlier boot: nobody can have it, and what it held is lost.
        Ok(_) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    let fresh = lock::beside(path, ".fresh");
    if platform.exists(&fresh)? {
        // Of somebody who died making it: we have the lock.
        platform.remove(&fresh)?;
    }
    let file = platform.open(&fresh, Open::Create)?;
    let made = fill(platform, &file, path, len, options, mode, format)
        .and_then(|()| Ok(platform.publish(&file, &fresh, path)?));
    if made.is_err() {
        // It takes space for nothing.
        _ = platform.remove(&fresh);
    }
    made
}

fn fill<P: Platform>(
    platform: &P,
    file: &P::File,
    path: &Path,
    len: usize,
    options: &RingOptions,
    mode: Mode,
    format: Format<P::MapMut>,
) -> Result<()> {
    let whole = file_len(path, len)?;
    file.allocate(whole as u64)?;
    let map = platform.map_mut(file, whole)?;
    platform.prefault_mut(&map)?;
    write(platform, &map, path, len, options, mode, format)
}

fn write<P: Platform>(
    platform: &P,
    map: &P::MapMut,
    path: &Path,
    len: usize,
    options: &RingOptions,
    mode: Mode,
    format: Format<P::MapMut>,
) -> Result<()> {
    let identity = Identity { ring_id: platform.random().to_le_bytes(), created_ns: platform.now_ns() };
    let mut place = RawPlace::new_zeroed();
    place.magic = MAGIC;
    place.version = VERSION.into();
    place.boot_id = platform.boot_id().to_le_bytes();
    place.ring_id = identity.ring_id;
    place.crc = crc32fast::hash(&place.as_bytes()[..offset_of!(RawPlace, crc)]).into();
    map.window_mut().copy_in(len.next_multiple_of(SPACING), place.as_bytes());
    // The header last, for who opens memory by its name meanwhile.
    format(map, options, identity, mode).map_err(|why| refused(path, why.to_string()))
}

fn make_in_memory<P: Platform>(
    platform: &P,
    path: &Path,
    len: usize,
    options: &RingOptions,
    memory: &MemoryOptions<'_>,
    format: Format<P::MapMut>,
) -> Result<Memory<P>> {
    let mode = wake_mode(platform, path, options.wake)?;
    let memory = platform.memory(file_len(path, len)?, memory)?;
    write(platform, &memory.map, path, len, options, mode, format)?;
    Ok(memory)
}

/// Bytes of a file for a ring of so many; `None` if there is no such number here.
fn whole_len(len: usize) -> Option<usize> {
    len.checked_next_multiple_of(SPACING)?.checked_add(PLACE_LEN)
}

/// Bytes of a ring of so many slots of so many bytes, which may be anybody's words.
fn slots_len_of(count: usize, unit: usize) -> Option<usize> {
    count.checked_mul(unit.checked_next_multiple_of(4)?)?.checked_add(slots::DATA)
}

/// A ring's file, as it says of itself.
pub(super) struct Found {
    pub(super) header: Header,
    /// Bytes to map.
    pub(super) len: usize,
    boot_id: [u8; 16],
}

/// Reads and checks what a file says, without mapping it: nothing that a peer does to it can hurt.
pub(super) fn find<P: Platform>(path: &Path, file: &P::File) -> Result<Found> {
    let head = HeapRegion::new(SPACING);
    let mut bytes = [0; SPACING];
    let read = file.read_at(&mut bytes, 0)?;
    if read < SPACING {
        return Err(Error::fault(path, 0, Fault::Short { needed: SPACING as u64, found: read as u64 }));
    }
    head.window_mut().copy_in(0, &bytes);
    let header = ring::header(&head).map_err(|damage| Error::damage(path, damage))?;
    let (capacity, unit) = (header.capacity as usize, header.unit);
    let len = match header.kind {
        Kind::Spsc => spsc::len(capacity),
        Kind::Mpsc => mpsc::len(capacity, unit),
        Kind::Broadcast => broadcast::len(capacity),
        Kind::Slots => slots_len_of(capacity, unit as usize),
    };
    let Some((len, whole)) = len.and_then(|len| Some((len, whole_len(len)?))) else {
        return Err(Error::fault(path, 20, Fault::Field { name: "unit", found: unit.into() }));
    };
    let (found, needed) = (file.len()?, whole as u64);
    if found < needed {
        return Err(Error::fault(path, 0, Fault::Short { needed, found }));
    }
    let at = len.next_multiple_of(SPACING) as u64;
    let mut place = RawPlace::new_zeroed();
    let read = file.read_at(place.as_mut_bytes(), at)?;
    if read < PLACE_LEN {
        return Err(Error::fault(path, 0, Fault::Short { needed, found: at + read as u64 }));
    }
    if place.magic != MAGIC {
        return Err(Error::fault(path, at, Fault::Magic { found: place.magic }));
    }
    let computed = crc32fast::hash(&place.as_bytes()[..offset_of!(RawPlace, crc)]);
    if computed != place.crc.get() {
        return Err(Error::fault(path, at + 124, Fault::Crc { stored: place.crc.get(), computed }));
    }
    if place.version.get() != VERSION {
        return Err(Error::fault(path, at + 8, Fault::Version { found: place.version.get() }));
    }
    if place.ring_id != header.identity.ring_id {
        let what = "the place behind the ring is another ring's";
        return Err(Error::malformed(path, at + 32, what));
    }
    Ok(Found { header, len: whole, boot_id: place.boot_id })
}

/// As [`find`], of a ring of this kind that is of this boot.
pub(super) fn expect<P: Platform>(platform: &P, path: &Path, file: &P::File, kind: Kind) -> Result<Found> {
    let found = find::<P>(path, file)?;
    if found.header.kind != kind {
        let (is, asked) = (name(found.header.kind), name(kind));
        return Err(refused(path, format!("it is {is}, not {asked}")));
    }
    if found.boot_id != platform.boot_id().to_le_bytes() {
        let what = "of an earlier boot of the machine: what it held is lost, create it anew";
        return Err(refused(path, what));
    }
    Ok(found)
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Spsc => "a ring of one producer",
        Kind::Slots => "a ring of slots",
        Kind::Mpsc => "a ring of many producers",
        Kind::Broadcast => "a broadcast ring",
    }
}

/// Maps a ring for an end that stores into it: checked, every page present.
pub(super) fn map<P: Platform>(
    platform: &P,
    path: &Path,
    file: &P::File,
    kind: Kind,
    options: &EndOptions,
) -> Result<P::MapMut> {
    let found = expect(platform, path, file, kind)?;
    let map = platform.map_mut(file, found.len)?;
    if options.guard {
        platform.guard_mut(&map)?;
    }
    platform.prefault_mut(&map)?;
    if options.lock_memory {
        platform.lock_memory(&map)?;
    }
    Ok(map)
}

/// What a guarded end says when its pages are gone.
pub(super) fn cut(path: &Path, map: &impl Region) -> Error {
    Error::damage(path, cut_damage(map))
}

/// As [`cut`], without the path.
pub(super) fn cut_damage(map: &impl Region) -> chronicle_core::Damage {
    chronicle_core::Damage::at(0, Fault::Short { needed: map.len() as u64, found: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a `usize` has 32 bits, a header's numbers alone reach its end; here larger ones stand for them.
    #[test]
    fn lengths_that_no_number_holds_are_none() {
        assert_eq!(slots_len_of(4, 5), Some(4 * 8 + slots::DATA));
        for (count, unit) in [(1, usize::MAX), (usize::MAX / 4, 4), (usize::MAX / 2, 3)] {
            assert_eq!(slots_len_of(count, unit), None, "{count} of {unit}");
        }
        assert_eq!(whole_len(129), Some(256 + PLACE_LEN));
        assert_eq!(whole_len(usize::MAX - SPACING + 1), None, "the place behind it");
        assert_eq!(whole_len(usize::MAX), None);
    }
}
