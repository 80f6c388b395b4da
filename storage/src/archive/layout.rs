//! The bytes of a cold file's tables and of its index, declared once. `docs/format.md` draws the same pictures.
//!
//! ```text
//! book.q.zst
//!   [ block 0 ] … [ block n-1 ]      zstd frames: content size given, no dictionary, no zstd checksum
//!   [ tables ]                       a skippable frame, ours
//!   [ seek table ]                   a skippable frame, the official seekable format 0.1.0
//!
//! tables
//!   0  0x184D2A50 u32 | size of what follows u32          8  name "QZBLOCKS"
//!  16  version u16 = 1 | entry_len u16 = 32 | block_size u32
//!  24  block_count u64                                   32  source_len u64
//!  40  source_sha256 [u8; 32]                            72  seek_crc u32 (CRC-32 of the whole seek table)
//!  76  zero u32
//!  80  block_count entries:  first_seq u64 | min_time u64 | max_time u64 | flags u32 | crc u32
//!      block_count u32:      CRC-32 of the block's compressed bytes
//!      crc u32:              CRC-32 of all bytes of the tables before it
//!
//! seek table
//!   0  0x184D2A5E u32 | size of what follows u32
//!   8  block_count + 1 entries:  compressed_size u32 | uncompressed_size u32      (the last one is the tables: n, 0)
//!      frame_count u32 = block_count + 1 | descriptor u8 = 0 | 0x8F92EAB1 u32
//!
//! book.q.zst.idx
//!   0  magic "QZSTIDX1"
//!   8  version u16 = 1 | header_len u16 = 24 | block_size u32
//!  16  frame_count u64 = block_count
//!  24  entries:  uncompressed_offset u64 | compressed_offset u64 | compressed_size u32 | uncompressed_size u32
//! ```
//!
//! Entry: `flags` bit 0 = the block's first frame is a book snapshot, all others zero; `crc` = CRC-32 of the block's
//! uncompressed bytes; `min_time`, `max_time` = of its frames, both 0 if it has none. `block_size` is the largest
//! uncompressed size that a block of more than one frame can have. Integers are little-endian; types have alignment 1
//! and every bit pattern is a value.

use static_assertions::{const_assert, const_assert_eq};
use std::mem::{offset_of, size_of};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// First bytes of an index.
pub const INDEX_MAGIC: [u8; 8] = *b"QZSTIDX1";
/// Name in the tables' frame, because other programs may use the same skippable magic.
pub const TABLES_NAME: [u8; 8] = *b"QZBLOCKS";
/// The version of index and tables that this crate writes.
pub const VERSION: u16 = 1;
/// First bytes of a zstd frame, as a number.
pub const ZSTD_MAGIC: u32 = 0xFD2F_B528;
/// First bytes of the tables, as a number.
pub const TABLES_MAGIC: u32 = 0x184D_2A50;
/// First bytes of the seek table, as a number.
pub const SEEK_MAGIC: u32 = 0x184D_2A5E;
/// Last bytes of a seekable file, as a number.
pub const SEEK_FOOTER_MAGIC: u32 = 0x8F92_EAB1;

/// A block of more than one frame has at most this many bytes.
pub const BLOCK_SIZE: u32 = 1 << 20;
/// A snapshot begins a new block when at least this many bytes are pending.
pub const SNAPSHOT_CUT: u32 = 256 << 10;
/// A block has never more bytes: the largest frame with its header, a segment's header and an `End`.
pub const MAX_BLOCK_LEN: u64 = chronicle_core::layout::MAX_SEGMENT_LEN as u64 + 256;
/// Flag of a block whose first frame is a book snapshot.
pub const OPENS_WITH_SNAPSHOT: u32 = 1;

/// Opens every skippable frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Skippable {
    /// [`TABLES_MAGIC`] or [`SEEK_MAGIC`].
    pub magic: U32,
    /// Bytes that follow.
    pub size: U32,
}

/// Head of the tables.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TablesHeader {
    /// Makes it a frame that zstd tools pass over.
    pub skippable: Skippable,
    /// [`TABLES_NAME`].
    pub name: [u8; 8],
    /// [`VERSION`].
    pub version: U16,
    /// Length of a [`BlockEntry`].
    pub entry_len: U16,
    /// [`BLOCK_SIZE`].
    pub block_size: U32,
    /// Number of blocks.
    pub block_count: U64,
    /// Length of the `.q`.
    pub source_len: U64,
    /// SHA-256 of the `.q`.
    pub source_sha256: [u8; 32],
    /// CRC-32 of the whole seek table, so that a flip there is not taken for one in the index.
    pub seek_crc: U32,
    /// Zero.
    pub reserved: U32,
}

/// What the tables say about a block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BlockEntry {
    /// Seq of its first frame; of the next one that would come, if it has none.
    pub first_seq: U64,
    /// Smallest `time_ns` of its frames; 0 without frames.
    pub min_time: U64,
    /// Largest `time_ns` of its frames; 0 without frames.
    pub max_time: U64,
    /// [`OPENS_WITH_SNAPSHOT`] or 0.
    pub flags: U32,
    /// CRC-32 of its uncompressed bytes.
    pub crc: U32,
}

/// What the seek table says about a frame of the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SeekEntry {
    /// Its bytes in the file.
    pub compressed_size: U32,
    /// Bytes that it becomes; 0 for the tables.
    pub uncompressed_size: U32,
}

/// Last bytes of the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SeekFooter {
    /// Number of entries.
    pub frame_count: U32,
    /// 0: entries without checksums.
    pub descriptor: u8,
    /// [`SEEK_FOOTER_MAGIC`].
    pub magic: U32,
}

/// Head of an index.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IndexHeader {
    /// [`INDEX_MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U16,
    /// Length of this header.
    pub header_len: U16,
    /// [`BLOCK_SIZE`].
    pub block_size: U32,
    /// Number of entries.
    pub frame_count: U64,
}

/// What the index says about a block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IndexEntry {
    /// Where it begins in the `.q`.
    pub uncompressed_offset: U64,
    /// Where it begins in the `.zst`.
    pub compressed_offset: U64,
    /// Its bytes in the `.zst`.
    pub compressed_size: U32,
    /// Its bytes in the `.q`.
    pub uncompressed_size: U32,
}

/// Offset of the tables' first entry.
pub const TABLES_HEADER_LEN: usize = size_of::<TablesHeader>();

// The layout, stated a second time on purpose. If these fail to compile the format changed: bump the version in
// docs/format.md, do not edit the numbers.
const_assert_eq!(size_of::<Skippable>(), 8);
const_assert_eq!(size_of::<TablesHeader>(), 80);
const_assert_eq!(offset_of!(TablesHeader, name), 8);
const_assert_eq!(offset_of!(TablesHeader, version), 16);
const_assert_eq!(offset_of!(TablesHeader, block_size), 20);
const_assert_eq!(offset_of!(TablesHeader, block_count), 24);
const_assert_eq!(offset_of!(TablesHeader, source_len), 32);
const_assert_eq!(offset_of!(TablesHeader, source_sha256), 40);
const_assert_eq!(offset_of!(TablesHeader, seek_crc), 72);
const_assert_eq!(size_of::<BlockEntry>(), 32);
const_assert_eq!(offset_of!(BlockEntry, flags), 24);
const_assert_eq!(offset_of!(BlockEntry, crc), 28);
const_assert_eq!(size_of::<SeekEntry>(), 8);
const_assert_eq!(size_of::<SeekFooter>(), 9);
const_assert_eq!(size_of::<IndexHeader>(), 24);
const_assert_eq!(offset_of!(IndexHeader, version), 8);
const_assert_eq!(offset_of!(IndexHeader, header_len), 10);
const_assert_eq!(offset_of!(IndexHeader, block_size), 12);
const_assert_eq!(offset_of!(IndexHeader, frame_count), 16);
const_assert_eq!(size_of::<IndexEntry>(), 24);
const_assert_eq!(offset_of!(IndexEntry, compressed_offset), 8);
const_assert_eq!(offset_of!(IndexEntry, compressed_size), 16);
const_assert_eq!(offset_of!(IndexEntry, uncompressed_size), 20);

// Sizes of blocks, compressed ones included, fit the seek table's 32 bits: zstd adds less than one part in 250.
const_assert!(MAX_BLOCK_LEN + (MAX_BLOCK_LEN >> 7) < u32::MAX as u64);
// A snapshot can begin a block before a block is full.
const_assert!(SNAPSHOT_CUT < BLOCK_SIZE);
