//! The bytes of a segment, declared once. `docs/format.md` is normative and draws the same picture.
//!
//! ```text
//! segment:  [ SegmentHeader 128 B ][ frame ][ frame ] … [ End ]
//!
//! SegmentHeader
//!   0  magic "CHRONLOG"                 8  version u16 │ clock u8 │ checksum u8 │ incompat u32
//!  16  ro_compat u32 │ epoch u32       24  queue_id [u8; 16]
//!  40  segment_id u64                  48  predecessor_id u64
//!  56  created_ns u64                  64  predecessor_end u32 │ segment_len u32
//!  72  salt u32 │ crc u32  (CRC-32 of bytes 0..76)
//!  80  begin: first_seq u64, crc u32                    ┐ late fields: zero until set,
//!  92  seal:  count u64, end u64, min_time u64, max_time u64, crc u32 ┘ each with its own CRC
//!
//! frame, aligned to 32
//!   0               4               8                              16
//!   +---------------+---------------+-------------------------------+
//!   | commit        | crc           | seq                           |
//!   +---------------+---------------+-------+-------+---------------+
//!   | time_ns                       | type  | flags | reserved = 0  |
//!   +-------------------------------+-------+-------+---------------+
//!   | payload, then zeros up to the next multiple of 32 …           |
//! ```
//!
//! Integers are little-endian. The types here have alignment 1 and every bit pattern is a value, so that they can be
//! read from untrusted bytes; whether the values make sense is decided by [`crate::header`] and [`crate::frame`].

use core::mem::{offset_of, size_of};
use static_assertions::{const_assert, const_assert_eq};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// First bytes of every segment and partition file.
pub const MAGIC: [u8; 8] = *b"CHRONLOG";
/// The format that this crate writes.
pub const VERSION: u16 = 1;
/// Length of a [`SegmentHeader`]; the first frame stands here.
pub const HEADER_LEN: usize = 128;
/// Frames begin at multiples of this; see `docs/decisions/0001-frame-header.md`.
pub const FRAME_ALIGN: usize = 32;
/// Length of a [`FrameHeader`].
pub const FRAME_HEADER_LEN: usize = 32;
/// Commit word of the frame that ends a segment.
pub const COMMIT_END: u32 = 0x8000_0000;
/// Largest segment of a queue: offsets and lengths fit 31 bits with room to add them.
pub const MAX_SEGMENT_LEN: usize = 1 << 30;
/// No frame's seq reaches this, so that counting never wraps: at ten million a second it takes 29,000 years.
pub const SEQ_END: u64 = 1 << 63;
/// Smallest segment: a header, one frame with a small payload and the slot kept for `End`.
pub const MIN_SEGMENT_LEN: usize = 512;

/// First 128 bytes of a segment. See the module's picture.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SegmentHeader {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U16,
    /// What `time_ns` of the frames means: 0 = ingest time, 1 = the exchange's time.
    pub clock: u8,
    /// 1 = CRC-32 in every frame; 2 = commit words only, for memory that dies with the machine.
    pub checksum: u8,
    /// Features that a reader must know to read at all.
    pub incompat: U32,
    /// Features that a program must know to write.
    pub ro_compat: U32,
    /// Raised by one when a writer goes on after a crash of the machine.
    pub epoch: U32,
    /// Random identity of the queue; for partitions, a digest of what they hold.
    pub queue_id: [u8; 16],
    /// Position in the queue, from 1, never reused.
    pub segment_id: U64,
    /// Segment whose frames come before these; 0 = none.
    pub predecessor_id: U64,
    /// When it was made, ns since 1970; 0 in partitions, whose bytes must not depend on when they are made.
    pub created_ns: U64,
    /// Offset at which the predecessor's accepted frames end; 0 = at its `End`.
    pub predecessor_end: U32,
    /// Length of the whole segment; 0 in partitions, which end where they were sealed.
    pub segment_len: U32,
    /// Starting value of every CRC in this segment, so that frames of another one never pass.
    pub salt: U32,
    /// CRC-32 over bytes 0..76.
    pub crc: U32,
    /// Seq of the first frame; stored when the predecessor ends.
    pub begin_first_seq: U64,
    /// CRC-32 over bytes 80..88, started from the salt.
    pub begin_crc: U32,
    /// Number of frames.
    pub seal_count: U64,
    /// Offset of the `End` frame.
    pub seal_end: U64,
    /// Smallest `time_ns`; 0 if there are no frames.
    pub seal_min_time: U64,
    /// Largest `time_ns`; 0 if there are no frames.
    pub seal_max_time: U64,
    /// CRC-32 over bytes 92..124, started from the salt.
    pub seal_crc: U32,
}

// The layout, stated a second time on purpose. If these fail to compile the format changed: bump the version in
// docs/format.md, do not edit the numbers.
const_assert_eq!(size_of::<SegmentHeader>(), HEADER_LEN);
const_assert_eq!(offset_of!(SegmentHeader, version), 8);
const_assert_eq!(offset_of!(SegmentHeader, epoch), 20);
const_assert_eq!(offset_of!(SegmentHeader, queue_id), 24);
const_assert_eq!(offset_of!(SegmentHeader, segment_id), 40);
const_assert_eq!(offset_of!(SegmentHeader, predecessor_id), 48);
const_assert_eq!(offset_of!(SegmentHeader, created_ns), 56);
const_assert_eq!(offset_of!(SegmentHeader, predecessor_end), 64);
const_assert_eq!(offset_of!(SegmentHeader, segment_len), 68);
const_assert_eq!(offset_of!(SegmentHeader, salt), 72);
const_assert_eq!(offset_of!(SegmentHeader, crc), 76);
const_assert_eq!(offset_of!(SegmentHeader, begin_first_seq), 80);
const_assert_eq!(offset_of!(SegmentHeader, begin_crc), 88);
const_assert_eq!(offset_of!(SegmentHeader, seal_count), 92);
const_assert_eq!(offset_of!(SegmentHeader, seal_end), 100);
const_assert_eq!(offset_of!(SegmentHeader, seal_min_time), 108);
const_assert_eq!(offset_of!(SegmentHeader, seal_max_time), 116);
const_assert_eq!(offset_of!(SegmentHeader, seal_crc), 124);

/// First 32 bytes of a frame. See the module's picture.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FrameHeader {
    /// 0 = open; payload length + 1; or [`COMMIT_END`]. Written last, with Release.
    pub commit: U32,
    /// CRC-32 from byte 8 to the payload's end, started from salt XOR commit. It stands before what it covers, so
    /// that one call computes it.
    pub crc: U32,
    /// Position in the stream, counting from 1, never reused.
    pub seq: U64,
    /// The stream's clock; 584 years from 1970 fit.
    pub time_ns: U64,
    /// What the payload is.
    pub type_id: U16,
    /// Bits that the record's protocol defines.
    pub flags: U16,
    /// Zero.
    pub reserved: U32,
}

const_assert_eq!(size_of::<FrameHeader>(), FRAME_HEADER_LEN);
const_assert_eq!(offset_of!(FrameHeader, commit), 0);
const_assert_eq!(offset_of!(FrameHeader, crc), 4);
const_assert_eq!(offset_of!(FrameHeader, seq), 8);
const_assert_eq!(offset_of!(FrameHeader, time_ns), 16);
const_assert_eq!(offset_of!(FrameHeader, type_id), 24);
const_assert_eq!(offset_of!(FrameHeader, flags), 26);
const_assert_eq!(offset_of!(FrameHeader, reserved), 28);

// A payload starts aligned for any field that it may hold; headers and frames tile a segment without holes.
const_assert!(HEADER_LEN.is_multiple_of(FRAME_ALIGN));
const_assert_eq!(FRAME_HEADER_LEN, FRAME_ALIGN);
const_assert!(MIN_SEGMENT_LEN >= HEADER_LEN + 2 * FRAME_HEADER_LEN);
// A segment whose first seq is below `SEQ_END` cannot count past the end of `u64`, however many frames it holds.
const_assert!(SEQ_END < u64::MAX - MAX_SEGMENT_LEN as u64);
// `payload_len + 1` never collides with `COMMIT_END`.
const_assert!((MAX_SEGMENT_LEN as u64) < COMMIT_END as u64);

/// Bytes that a frame with `payload_len` bytes of payload takes; `None` if no segment could hold it.
#[inline]
#[must_use]
pub const fn frame_len(payload_len: usize) -> Option<usize> {
    if payload_len > MAX_SEGMENT_LEN {
        return None;
    }
    Some((FRAME_HEADER_LEN + payload_len + FRAME_ALIGN - 1) & !(FRAME_ALIGN - 1))
}

/// Largest payload that a segment of `segment_len` bytes can take: the header, the frame's own header and the last
/// slot, kept for `End`, are not available.
#[must_use]
pub const fn max_payload(segment_len: usize) -> usize {
    segment_len.saturating_sub(HEADER_LEN + 2 * FRAME_HEADER_LEN)
}

/// Size and alignment of a segment's memory, for those who place one in a `static`, a heap block or a DMA buffer.
///
/// `None` if no segment can have this length: it must be a multiple of 32 from 512 bytes to 1 GiB.
///
/// ```
/// const LAYOUT: core::alloc::Layout = chronicle_core::layout::segment(64 << 20).unwrap();
/// assert_eq!((LAYOUT.size(), LAYOUT.align()), (64 << 20, 128));
/// ```
#[must_use]
pub const fn segment(segment_len: usize) -> Option<core::alloc::Layout> {
    if segment_len < MIN_SEGMENT_LEN || segment_len > MAX_SEGMENT_LEN || !segment_len.is_multiple_of(FRAME_ALIGN) {
        return None;
    }
    match core::alloc::Layout::from_size_align(segment_len, crate::REGION_ALIGN) {
        Ok(layout) => Some(layout),
        Err(_) => None,
    }
}
