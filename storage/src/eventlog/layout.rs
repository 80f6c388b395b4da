//! The bytes of an event log: a file header of 64 bytes, then events, one close behind the other.
//!
//! ```text
//! file header
//!   0  magic "EVTL"            4  version u32 = 1       8  created_at i64, seconds since 1970
//!  16  event_count u64        24  write_offset u64: where the next event begins; what is before it is whole
//!  32  flags u32              36  carry u32             40  count_check u32       44  zero u32
//!  48  synced_offset u64      56  zero u64
//! event, no alignment, no padding
//!   0  timestamp u64           8  event_type u8    9  flags u8   10  payload_len u16   12  reserved u32
//!  16  payload
//! ```
//!
//! Up to byte 32 these are ringlog's own; it leaves the rest zero, and so do its events with `reserved`. We use the rest,
//! which ringlog never looks at: see [`super::log`] for the words that make a commit whole, and [`CHECKSUMS`].

use static_assertions::const_assert_eq;
use std::mem::offset_of;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{I64, U32, U64},
};

/// The first 64 bytes of a log.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FileHeader {
    /// [`FileHeader::MAGIC`].
    pub magic: [u8; 4],
    /// [`FileHeader::VERSION`].
    pub version: U32,
    /// When it was made, seconds since 1970.
    pub created_at: I64,
    /// Events before `write_offset`. Stored just behind it, and counted again by whoever opens the log.
    pub event_count: U64,
    /// Where the next event begins. Everything before it is whole.
    pub write_offset: U64,
    /// Bit 0: `carry` and `count_check` are kept. Bit 1: events have checksums.
    pub flags: U32,
    /// The upper half of `write_offset`, stored before it changes.
    pub carry: U32,
    /// The lower half of `event_count`, stored after it has changed.
    pub count_check: U32,
    /// Zero.
    pub reserved: U32,
    /// What was before this offset when a sync ended is durable.
    pub synced_offset: U64,
    /// Zero.
    pub reserved_tail: [u8; 8],
}

/// In `flags`: `carry` and `count_check` are kept. Unset, another program wrote the file: `write_offset` counts as it is.
pub(super) const WORDS: u32 = 1;
/// In `flags`: `reserved` of every event is the CRC-32 of the event with `reserved` zero, started from the lower half of
/// the event's offset.
pub(super) const CHECKSUMS: u32 = 2;

pub(super) const EVENT_COUNT: usize = offset_of!(FileHeader, event_count);
pub(super) const WRITE_OFFSET: usize = offset_of!(FileHeader, write_offset);
pub(super) const FLAGS: usize = offset_of!(FileHeader, flags);
pub(super) const CARRY: usize = offset_of!(FileHeader, carry);
pub(super) const COUNT_CHECK: usize = offset_of!(FileHeader, count_check);
pub(super) const SYNCED_OFFSET: usize = offset_of!(FileHeader, synced_offset);

const_assert_eq!(size_of::<FileHeader>(), FileHeader::SIZE);
const_assert_eq!(offset_of!(FileHeader, created_at), 8);
const_assert_eq!(EVENT_COUNT, 16);
const_assert_eq!(WRITE_OFFSET, 24);
const_assert_eq!(FLAGS, 32);
const_assert_eq!(CARRY, 36);
const_assert_eq!(COUNT_CHECK, 40);
const_assert_eq!(SYNCED_OFFSET, 48);

impl FileHeader {
    /// Its length, and where the first event begins.
    pub const SIZE: usize = 64;
    /// First bytes of every event log.
    pub const MAGIC: [u8; 4] = *b"EVTL";
    /// The only version.
    pub const VERSION: u32 = 1;

    /// Of an empty log of ours.
    #[must_use]
    pub fn new(created_at: i64, checksums: bool) -> Self {
        FileHeader {
            magic: Self::MAGIC,
            version: Self::VERSION.into(),
            created_at: created_at.into(),
            event_count: 0.into(),
            write_offset: (Self::SIZE as u64).into(),
            flags: (WORDS | if checksums { CHECKSUMS } else { 0 }).into(),
            carry: 0.into(),
            count_check: 0.into(),
            reserved: 0.into(),
            synced_offset: 0.into(),
            reserved_tail: [0; 8],
        }
    }
}

/// What stands before an event's payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EventHeader {
    /// The caller's clock.
    pub timestamp: u64,
    /// The caller's.
    pub event_type: u8,
    /// The caller's.
    pub flags: u8,
    /// Bytes of the payload.
    pub payload_len: u16,
    /// Zero in memory. In a file with checksums the event's CRC-32.
    pub reserved: u32,
}

// Written as it lies in memory: core refuses big-endian targets.
const_assert_eq!(size_of::<EventHeader>(), EventHeader::SIZE);
const_assert_eq!(offset_of!(EventHeader, event_type), 8);
const_assert_eq!(offset_of!(EventHeader, flags), 9);
const_assert_eq!(offset_of!(EventHeader, payload_len), 10);
const_assert_eq!(offset_of!(EventHeader, reserved), RESERVED);

/// Offset of an event's `reserved`.
pub(super) const RESERVED: usize = 12;
/// Length of the longest event, header included.
pub const MAX_EVENT: usize = EventHeader::SIZE + u16::MAX as usize;

impl EventHeader {
    /// Its length.
    pub const SIZE: usize = 16;

    /// With no flags.
    #[inline]
    #[must_use]
    pub fn new(timestamp: u64, event_type: u8, payload_len: u16) -> Self {
        EventHeader { timestamp, event_type, flags: 0, payload_len, reserved: 0 }
    }

    /// Bytes of the whole event.
    #[inline]
    #[must_use]
    pub fn total_size(&self) -> usize {
        Self::SIZE + usize::from(self.payload_len)
    }

    /// What 16 bytes say, `reserved` as it was stored.
    #[inline]
    pub(super) fn parse(bytes: [u8; Self::SIZE]) -> Self {
        zerocopy::transmute!(bytes)
    }

    /// Its bytes, `reserved` zero.
    #[inline]
    pub(super) fn bytes(&self) -> [u8; Self::SIZE] {
        zerocopy::transmute!(EventHeader { reserved: 0, ..*self })
    }
}
