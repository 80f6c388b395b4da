//! The bytes of a WAL segment, declared once. `docs/format.md` is normative and draws the same picture.
//!
//! ```text
//! segment:  [ header block: SegmentHeader 128 B, zeros ][ batch ][ batch ] …        each a whole number of blocks
//! batch:    [ batch frame ][ frame ] … [ frame ][ pad frame ]
//! frame, byte by byte behind the one before:
//!   0               8       12  13              13 + len
//!   +---------------+-------+---+---------------+-------+
//!   | seq u64       | len   | f | payload …     | crc   |     f: low 7 bits kind, bit 7 no checksum (never in a file)
//!   +---------------+-------+---+---------------+-------+     crc: CRC-32 over all before it, started from the salt
//!
//! SegmentHeader
//!   0  magic "CHRONWAL"                 8  version u16 │ reserved u16 │ incompat u32
//!  16  wal_id [u8; 16]
//!  32  segment_id u64                  40  predecessor_id u64
//!  48  predecessor_end u64             56  durable_segment u64
//!  64  durable_offset u64              72  durable_seq u64
//!  80  first_seq u64                   88  segment_len u64
//!  96  created_ns u64                 104  block_size u32 │ batch_len u32
//! 112  epoch u32 │ salt u32           120  reserved u32 │ crc u32  (CRC-32 of bytes 0..124)
//!
//! payload of a batch frame
//!   0  durable_segment u64              8  durable_offset u64
//!  16  durable_seq u64                 24  at u64  (this frame's own offset in the segment)
//!  32  len u32 │ flags u32  (bit 0: closed)
//!
//! payload of a meta frame: entries, one behind the other
//!   0  kind u8 │ reserved [u8; 3] │ len u32        8  bytes, then zeros up to the next multiple of 4
//!      4 truncation: after u64, at u64    5 vote: the application's bytes    6 meta: the application's bytes
//! ```
//!
//! Integers are little-endian, and frames stand at any alignment. The types here have alignment 1 and every bit pattern is
//! a value; whether the values make sense is decided by [`super::Header::parse`] and [`super::Batch::parse`].

use core::mem::{offset_of, size_of};
use static_assertions::{const_assert, const_assert_eq};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// First bytes of every WAL segment.
pub const MAGIC: [u8; 8] = *b"CHRONWAL";
/// The format that this crate writes.
pub const VERSION: u16 = 1;
/// Length of a [`SegmentHeader`]; zeros follow up to the end of its block.
pub const HEADER_LEN: usize = 128;
/// Smallest block: a sector.
pub const MIN_BLOCK_SIZE: u32 = 512;
/// Largest block.
pub const MAX_BLOCK_SIZE: u32 = 64 << 10;
/// Largest batch.
pub const MAX_BATCH_LEN: u32 = 64 << 20;
/// Largest segment.
pub const MAX_SEGMENT_LEN: u64 = 1 << 40;
/// Bytes of a frame before its payload: seq, len, flags.
pub const FRAME_HEADER_LEN: usize = 13;
/// Bytes of a frame besides its payload: what stands before it, and the checksum behind it.
pub const FRAME_OVERHEAD: usize = FRAME_HEADER_LEN + 4;
/// Length of a whole batch frame.
pub const BATCH_FRAME_LEN: usize = FRAME_OVERHEAD + size_of::<BatchPayload>();
/// Bit of a frame's flags: no checksum. For rings in memory only; no frame of a file has it.
pub const NO_CRC: u8 = 0x80;
/// Bit of a batch's flags: written by a clean close; nothing follows.
pub const CLOSED: u32 = 1;
/// Length of what stands before an entry's bytes.
pub const ENTRY_HEADER_LEN: usize = size_of::<EntryHeader>();
/// No frame's seq reaches this, so that counting never wraps.
pub const SEQ_END: u64 = 1 << 63;

/// First 128 bytes of a WAL segment. See the module's picture.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SegmentHeader {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U16,
    /// Zero.
    pub reserved: U16,
    /// Features that a reader must know to read at all.
    pub incompat: U32,
    /// Random identity of the log.
    pub wal_id: [u8; 16],
    /// Position in the log, from 1, never reused.
    pub segment_id: U64,
    /// Segment whose frames come before these; 0 = none.
    pub predecessor_id: U64,
    /// Offset at which the predecessor's accepted batches end; 0 = there is none.
    pub predecessor_end: U64,
    /// Segment of the position up to which all was durable when this was written; 0 = nothing was.
    pub durable_segment: U64,
    /// Offset of that position.
    pub durable_offset: U64,
    /// Newest data frame before that position; 0 = none.
    pub durable_seq: U64,
    /// Seq of the first data frame that goes here.
    pub first_seq: U64,
    /// Length of the file.
    pub segment_len: U64,
    /// When it was made, ns since 1970; for people.
    pub created_ns: U64,
    /// What batches begin at multiples of: a power of two.
    pub block_size: U32,
    /// Length of the largest batch.
    pub batch_len: U32,
    /// Raised by one by each takeover.
    pub epoch: U32,
    /// Starting value of every frame's CRC here, so that frames of another segment never pass.
    pub salt: U32,
    /// Zero.
    pub reserved_2: U32,
    /// CRC-32 over bytes 0..124.
    pub crc: U32,
}

// The layout, stated a second time on purpose. If these fail to compile the format changed: bump the version in
// docs/format.md, do not edit the numbers.
const_assert_eq!(size_of::<SegmentHeader>(), HEADER_LEN);
const_assert_eq!(offset_of!(SegmentHeader, version), 8);
const_assert_eq!(offset_of!(SegmentHeader, incompat), 12);
const_assert_eq!(offset_of!(SegmentHeader, wal_id), 16);
const_assert_eq!(offset_of!(SegmentHeader, segment_id), 32);
const_assert_eq!(offset_of!(SegmentHeader, predecessor_id), 40);
const_assert_eq!(offset_of!(SegmentHeader, predecessor_end), 48);
const_assert_eq!(offset_of!(SegmentHeader, durable_segment), 56);
const_assert_eq!(offset_of!(SegmentHeader, durable_offset), 64);
const_assert_eq!(offset_of!(SegmentHeader, durable_seq), 72);
const_assert_eq!(offset_of!(SegmentHeader, first_seq), 80);
const_assert_eq!(offset_of!(SegmentHeader, segment_len), 88);
const_assert_eq!(offset_of!(SegmentHeader, created_ns), 96);
const_assert_eq!(offset_of!(SegmentHeader, block_size), 104);
const_assert_eq!(offset_of!(SegmentHeader, batch_len), 108);
const_assert_eq!(offset_of!(SegmentHeader, epoch), 112);
const_assert_eq!(offset_of!(SegmentHeader, salt), 116);
const_assert_eq!(offset_of!(SegmentHeader, reserved_2), 120);
const_assert_eq!(offset_of!(SegmentHeader, crc), 124);

/// First 13 bytes of a frame. See the module's picture.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FrameHeader {
    /// A data frame's own number, from 1 and without gap; any other's is the number that the next data frame gets.
    pub seq: U64,
    /// Length of the payload.
    pub len: U32,
    /// The [`Kind`], and [`NO_CRC`].
    pub flags: u8,
}

const_assert_eq!(size_of::<FrameHeader>(), FRAME_HEADER_LEN);
const_assert_eq!(offset_of!(FrameHeader, len), 8);
const_assert_eq!(offset_of!(FrameHeader, flags), 12);

/// Payload of the frame that opens a batch. See the module's picture.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BatchPayload {
    /// Segment of the position up to which all was durable when this was built; 0 = nothing was.
    pub durable_segment: U64,
    /// Offset of that position.
    pub durable_offset: U64,
    /// Newest data frame before that position; 0 = none.
    pub durable_seq: U64,
    /// This frame's own offset in the segment: a batch is valid nowhere else.
    pub at: U64,
    /// Bytes of the whole batch, padding included.
    pub len: U32,
    /// [`CLOSED`], and nothing else yet.
    pub flags: U32,
}

const_assert_eq!(size_of::<BatchPayload>(), 40);
const_assert_eq!(offset_of!(BatchPayload, durable_offset), 8);
const_assert_eq!(offset_of!(BatchPayload, durable_seq), 16);
const_assert_eq!(offset_of!(BatchPayload, at), 24);
const_assert_eq!(offset_of!(BatchPayload, len), 32);
const_assert_eq!(offset_of!(BatchPayload, flags), 36);

/// What stands before each entry of a meta frame. See the module's picture.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EntryHeader {
    /// 4, 5 or 6: the frame kind whose newest content this repeats.
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Length of the bytes behind it, without the zeros that fill up the last word.
    pub len: U32,
}

const_assert_eq!(size_of::<EntryHeader>(), 8);
const_assert_eq!(offset_of!(EntryHeader, len), 4);

/// Bytes of a truncation entry.
pub const TRUNCATION_LEN: usize = ENTRY_HEADER_LEN + 16;

// A header has a block to itself, and a batch of one block has room for its batch frame, a meta frame and a pad.
const_assert!(HEADER_LEN <= MIN_BLOCK_SIZE as usize);
const_assert!(BATCH_FRAME_LEN + 2 * FRAME_OVERHEAD <= MIN_BLOCK_SIZE as usize);
// A segment whose first seq is below `SEQ_END` cannot count past the end of `u64`, however many frames it holds.
const_assert!(SEQ_END < u64::MAX - MAX_SEGMENT_LEN);

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The application's bytes; the only kind that is numbered.
    Data = 1,
    /// Opens a batch and says how far the log was durable.
    Batch = 2,
    /// Fills up a batch's last block.
    Pad = 3,
    /// Voids data frames before it: its payload begins with the seq after which they are void.
    Truncate = 4,
    /// A vote of the application; the newest one stands.
    Vote = 5,
    /// Standing values of the application, and the carry at the head of each segment.
    Meta = 6,
}

impl Kind {
    /// The kind that a frame's flags name; `None` if no frame of a file has such flags.
    #[inline]
    #[must_use]
    pub const fn from_flags(flags: u8) -> Option<Kind> {
        match flags {
            1 => Some(Kind::Data),
            2 => Some(Kind::Batch),
            3 => Some(Kind::Pad),
            4 => Some(Kind::Truncate),
            5 => Some(Kind::Vote),
            6 => Some(Kind::Meta),
            _ => None,
        }
    }

    /// Its name in `docs/format.md`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Data => "data",
            Kind::Batch => "batch",
            Kind::Pad => "pad",
            Kind::Truncate => "truncate",
            Kind::Vote => "vote",
            Kind::Meta => "meta",
        }
    }
}
