//! Rings: a fixed region reused in a circle, for messages that are read once and then make room.
//!
//! | Ring | Ends | Messages | When the other side does not keep up |
//! |---|---|---|---|
//! | [`spsc`] | one producer, one consumer | bytes of variable length | the producer is refused |
//! | [`slots`] | one producer, one consumer | values of one type, every bit pattern valid | the producer is refused |
//! | [`local`] | one producer, one consumer, both in one process | values of any `Send` type | the producer is refused |
//! | [`mpsc`] | many producers, one consumer | bytes of variable length | the producers are refused |
//! | [`broadcast`] | one writer, many readers | bytes of variable length | the reader is told how many it lost |
//!
//! All but [`local`] live in a [`Region`]: they work between threads and between processes, in a `static`, a file or a DMA
//! buffer, and a peer that writes nonsense into the region gets the other side a [`Damage`], never undefined behaviour,
//! an endless loop or a huge allocation: an end believes its own private copy of every position that it owns, and
//! checks every number of the other side's before using it.
//!
//! Every ring begins with the same header, [`Header`]; `docs/format.md` draws what follows it. Each ring's `format` makes
//! one of a region that nobody uses yet; attaching believes a header only after checking it. An operation never
//! blocks; each ring names the words to wait on.
//!
//! Never here: who may hold an end. Two producers on an SPSC ring corrupt its messages, not memory; keeping it to one is
//! the platform's lock, or, within a process, the ends' types.

pub mod broadcast;
pub mod local;
pub mod mpsc;
pub mod slots;
pub mod spsc;

use crate::{
    Damage, Fault, REGION_ALIGN,
    region::{Region, RegionMut, Window},
    wake,
};
use core::{
    fmt,
    mem::{offset_of, size_of},
};
use static_assertions::{const_assert, const_assert_eq};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// First bytes of every ring.
pub const MAGIC: [u8; 8] = *b"CHRONRNG";
/// The format that this crate writes.
pub const VERSION: u16 = 1;
/// Length of the header, and the spacing of everything behind it that different ends write: two cache lines on every
/// machine that we know, because processors fetch lines in pairs.
pub const SPACING: usize = 128;
/// Smallest data area.
pub const MIN_CAPACITY: usize = 64;
/// Largest data area: positions are counted modulo 2³², and the two ends are never further apart than this.
pub const MAX_CAPACITY: usize = 1 << 30;

/// Which protocol a ring follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`spsc`].
    Spsc = 1,
    /// [`slots`].
    Slots = 2,
    /// [`mpsc`].
    Mpsc = 3,
    /// [`broadcast`].
    Broadcast = 4,
}

/// First 128 bytes of a ring.
///
/// ```text
///   0  magic "CHRONRNG"                     8  version u16 │ kind u8 │ reserved u8 │ incompat u32
///  16  capacity u32 │ unit u32             24  ring_id [u8; 16]
///  40  created_ns u64                      48  spacing u32 │ reserved …
/// 124  crc u32  (CRC-32 of bytes 0..124)
/// ```
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawHeader {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U16,
    /// [`Kind`].
    pub kind: u8,
    /// Zero.
    pub reserved: u8,
    /// Features that a program must know to take part.
    pub incompat: U32,
    /// Bytes of the data area, or how many slots it has ([`Kind::Slots`]): a power of two.
    pub capacity: U32,
    /// What one unit is: bytes of a value ([`Kind::Slots`]), number of producers ([`Kind::Mpsc`]), else 0.
    pub unit: U32,
    /// Random identity of the ring.
    pub ring_id: [u8; 16],
    /// When it was made, ns since 1970.
    pub created_ns: U64,
    /// [`SPACING`], so that a program built with another one refuses.
    pub spacing: U32,
    /// Zero.
    pub reserved_tail: [u8; 72],
    /// CRC-32 over bytes 0..124.
    pub crc: U32,
}

const_assert_eq!(size_of::<RawHeader>(), SPACING);
const_assert_eq!(offset_of!(RawHeader, version), 8);
const_assert_eq!(offset_of!(RawHeader, kind), 10);
const_assert_eq!(offset_of!(RawHeader, incompat), 12);
const_assert_eq!(offset_of!(RawHeader, capacity), 16);
const_assert_eq!(offset_of!(RawHeader, unit), 20);
const_assert_eq!(offset_of!(RawHeader, ring_id), 24);
const_assert_eq!(offset_of!(RawHeader, created_ns), 40);
const_assert_eq!(offset_of!(RawHeader, spacing), 48);
const_assert_eq!(offset_of!(RawHeader, crc), 124);
const_assert_eq!(SPACING, REGION_ALIGN);
// Half of what a position can count: a full ring and an empty one always differ, and so do "ahead" and "behind".
const_assert!(MAX_CAPACITY as u64 <= (1 << 31));
const_assert!(MIN_CAPACITY.is_power_of_two() && MAX_CAPACITY.is_power_of_two());

/// What a ring's creator says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Random identity.
    pub ring_id: [u8; 16],
    /// When it was made, ns since 1970; 0 where nobody knows.
    pub created_ns: u64,
}

/// A header that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which protocol.
    pub kind: Kind,
    /// Bytes of the data area: a power of two from [`MIN_CAPACITY`] to [`MAX_CAPACITY`]; or slots, from 1.
    pub capacity: u32,
    /// See [`RawHeader::unit`].
    pub unit: u32,
    /// Who it is.
    pub identity: Identity,
}

/// How much of a ring is in use: a snapshot of words that the other end stores meanwhile.
///
/// The producer's can only be too high by the time that it is read, because only the consumer makes room; the
/// consumer's can only be too low.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// What is published and not released: bytes with headers and pads, or slots.
    pub used: usize,
    /// What there is: bytes of the data area, or slots.
    pub capacity: usize,
}

/// The 64-bit number that ends in `low`, where `high` is an older or slightly newer number of the same count, without its
/// lowest 31 bits.
///
/// The upper half of a count is stored apart from the lower one, and seldom. This finds the number as long as it is less
/// than 2³⁰ behind, and less than 2³⁰ ahead of all that `high` can mean.
pub(crate) fn widen(high: u32, low: u32) -> u64 {
    let from = (u64::from(high) << 31).saturating_sub(1 << 30);
    from + u64::from(low.wrapping_sub(from as u32))
}

/// Stores how a ring's ends sleep and wake.
pub(crate) fn store_mode<R: RegionMut>(region: &R, offset: usize, mode: wake::Mode) {
    let word = match mode {
        wake::Mode::Fence => 0,
        wake::Mode::Asymmetric => 1,
    };
    region.window_mut().store(offset, word);
}

/// How a ring's ends sleep and wake.
///
/// # Errors
///
/// Damage: no mode has this number.
pub(crate) fn read_mode(window: Window<'_>, offset: usize) -> Result<wake::Mode, Damage> {
    match window.load(offset) {
        0 => Ok(wake::Mode::Fence),
        1 => Ok(wake::Mode::Asymmetric),
        found => Err(Damage::at(offset as u64, Fault::Field { name: "wake_mode", found: found.into() })),
    }
}

/// Why a capacity cannot be a ring's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CapacityReason {
    /// It is not a power of two.
    NotPowerOfTwo,
    /// Below what the protocol needs.
    TooSmall {
        /// The least.
        min: usize,
    },
    /// Above what positions can count.
    TooLarge {
        /// The most.
        max: usize,
    },
}

/// Why no ring was made. The region is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// No ring can have this capacity.
    Capacity {
        /// The one asked for.
        asked: usize,
        /// Why not.
        reason: CapacityReason,
    },
    /// No ring can have this unit: a slot's length, a number of producers.
    Unit {
        /// The one asked for.
        asked: usize,
        /// The most.
        max: usize,
    },
    /// The region is smaller than the ring.
    Region {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            FormatError::Capacity { asked, reason } => {
                write!(f, "capacity {asked} ")?;
                match reason {
                    CapacityReason::NotPowerOfTwo => match asked.checked_next_power_of_two() {
                        Some(next) => write!(f, "is not a power of two: the next one is {next}"),
                        None => write!(f, "is not a power of two"),
                    },
                    CapacityReason::TooSmall { min } => write!(f, "is too small: a ring needs at least {min}"),
                    CapacityReason::TooLarge { max } => write!(f, "is too large: a ring takes at most {max}"),
                }
            }
            FormatError::Unit { asked, max } => write!(f, "unit {asked} is not from 1 to {max}"),
            FormatError::Region { needed, found } => {
                write!(f, "region too small: ring needs {needed} bytes, {found} there")
            }
        }
    }
}

impl core::error::Error for FormatError {}

/// Whether a data area can have this length.
///
/// # Errors
///
/// Not a power of two, below `min` (or [`MIN_CAPACITY`]) or above [`MAX_CAPACITY`].
pub(crate) const fn check_capacity(asked: usize, min: usize) -> Result<u32, FormatError> {
    let min = if min > MIN_CAPACITY { min } else { MIN_CAPACITY };
    let reason = if !asked.is_power_of_two() {
        CapacityReason::NotPowerOfTwo
    } else if asked < min {
        CapacityReason::TooSmall { min }
    } else if asked > MAX_CAPACITY {
        CapacityReason::TooLarge { max: MAX_CAPACITY }
    } else {
        return Ok(asked as u32);
    };
    Err(FormatError::Capacity { asked, reason })
}

/// Whether a ring of slots can have so many: a power of two, and one is enough.
///
/// # Errors
///
/// Not a power of two or above [`MAX_CAPACITY`].
pub(crate) const fn check_count(asked: usize) -> Result<u32, FormatError> {
    if asked.is_power_of_two() && asked < MIN_CAPACITY { Ok(asked as u32) } else { check_capacity(asked, 0) }
}

/// Writes a header. The caller has checked the numbers and formatted what stands behind it.
#[allow(dead_code, reason = "the rings of this module use it")]
pub(crate) fn store_header<R: RegionMut>(region: &R, kind: Kind, capacity: u32, unit: u32, identity: Identity) {
    let mut raw = RawHeader {
        magic: MAGIC,
        version: VERSION.into(),
        kind: kind as u8,
        reserved: 0,
        incompat: 0.into(),
        capacity: capacity.into(),
        unit: unit.into(),
        ring_id: identity.ring_id,
        created_ns: identity.created_ns.into(),
        spacing: (SPACING as u32).into(),
        reserved_tail: [0; 72],
        crc: 0.into(),
    };
    raw.crc = crate::frame::crc_cold(0, &raw.as_bytes()[..offset_of!(RawHeader, crc)]).into();
    region.window_mut().copy_in(0, raw.as_bytes());
}

/// Reads and checks the header of any ring.
///
/// # Errors
///
/// Damage: too short for a header, another format's magic, a newer version, a wrong checksum, an impossible value. That
/// the region is as long as the ring needs is checked by the ring's own `attach`.
pub fn header<R: Region>(region: &R) -> Result<Header, Damage> {
    read_header(region.window())
}

fn read_header(window: Window<'_>) -> Result<Header, Damage> {
    if window.len() < SPACING {
        return Err(Damage::at(0, Fault::Short { needed: SPACING as u64, found: window.len() as u64 }));
    }
    let mut bytes = [0; SPACING];
    window.copy_out(0, &mut bytes);
    let raw: RawHeader = zerocopy::transmute!(bytes);
    if raw.magic != MAGIC {
        return Err(Damage::at(0, Fault::Magic { found: raw.magic }));
    }
    if raw.version.get() != VERSION {
        return Err(Damage::at(8, Fault::Version { found: raw.version.get() }));
    }
    let computed = crate::frame::crc_cold(0, &bytes[..offset_of!(RawHeader, crc)]);
    if computed != raw.crc.get() {
        return Err(Damage::at(124, Fault::Crc { stored: raw.crc.get(), computed }));
    }
    let field = |offset, name, found: u64| Err(Damage::at(offset, Fault::Field { name, found }));
    if raw.incompat.get() != 0 {
        return Err(Damage::at(12, Fault::Incompatible { bits: raw.incompat.get() }));
    }
    let kind = match raw.kind {
        1 => Kind::Spsc,
        2 => Kind::Slots,
        3 => Kind::Mpsc,
        4 => Kind::Broadcast,
        found => return field(10, "kind", found.into()),
    };
    let capacity = raw.capacity.get() as usize;
    if match kind {
        Kind::Slots => check_count(capacity).is_err(),
        _ => check_capacity(capacity, MIN_CAPACITY).is_err(),
    } {
        return field(16, "capacity", raw.capacity.get().into());
    }
    if raw.spacing.get() != SPACING as u32 {
        return field(48, "spacing", raw.spacing.get().into());
    }
    Ok(Header {
        kind,
        capacity: raw.capacity.get(),
        unit: raw.unit.get(),
        identity: Identity { ring_id: raw.ring_id, created_ns: raw.created_ns.get() },
    })
}

/// As [`header`](fn@header), of a ring that must be of one kind and no longer than its region: `needed` says how long.
#[allow(dead_code, reason = "the rings of this module use it")]
pub(crate) fn expect<R: Region>(
    region: &R,
    kind: Kind,
    needed: impl FnOnce(&Header) -> Option<usize>,
) -> Result<Header, Damage> {
    let header = header(region)?;
    if header.kind != kind {
        return Err(Damage::at(10, Fault::Field { name: "kind", found: header.kind as u64 }));
    }
    let Some(needed) = needed(&header) else {
        return Err(Damage::at(20, Fault::Field { name: "unit", found: header.unit.into() }));
    };
    let found = region.len();
    if found < needed {
        return Err(Damage::at(0, Fault::Short { needed: needed as u64, found: found as u64 }));
    }
    Ok(header)
}
