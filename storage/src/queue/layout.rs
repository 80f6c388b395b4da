//! The bytes of a queue's small files, declared once. `docs/format.md` is normative and draws the same picture.
//!
//! ```text
//! control.meta, 4096 B                              readers/{name}.meta, 4096 B
//!      0  ControlHeader 64 B                             0  CursorHeader 64 B
//!   1024  ControlSlot 1024 B ┐ the valid one with      512  CursorSlot ┐ committed; the valid one with the
//!   2048  ControlSlot 1024 B ┘ the higher generation  1024  CursorSlot ┘ higher generation counts
//!   3072  heartbeat u32: monotonic ns >> 20           1536  CursorSlot ┐ durable: the same, stored after
//!   3080  oldest segment u64                          2048  CursorSlot ┘ a sync that covers it
//!   3088  rolls, 3096 recycled, 3104 refused,         3072  beats u32: raised at every look
//!   3112  aborted records, u64 each                   3076  ttl_ms u32 │ 3080 segment read u64
//!   3120  failed sync u64: 0 = none                   3088  flags u32: 1 = holds what it has not committed
//!   3128  unlocked u32: 1 = no alive.lock
//! wake.meta, 4096 B
//!      0  wake word u32: see chronicle_core::wake
//!
//! ControlHeader
//!   0  magic "CHRONCTL"                          8  version u16 │ zero u16 │ zero u32
//!  16  queue_id [u8; 16]                        32  created_ns u64
//!  40  zero [u8; 20]                            60  crc u32 (CRC-32 of bytes 0..60)
//!
//! ControlSlot
//!   0  generation u64                            8  boot_id [u8; 16]
//!  24  epoch u32 │ state u32 (1 open, 2 closed) 32  seq_bound u64
//!  40  last_segment u64                         48  synced_segment u64
//!  56  synced_seq u64                           64  synced_offset u32 │ segment_len u32
//!  72  max_bytes u64                            80  wake_mode u8 │ checksum u8 │ clock u8 │ required_count u8 │ ahead u32
//!  88  required [[u8; 64]; 8]                  600  zero [u8; 420]
//! 1020 crc u32 (CRC-32 of bytes 0..1020)
//!
//! CursorHeader: as ControlHeader with magic "CHRONCUR", queue_id and created_ns zero
//!
//! CursorSlot
//!   0  generation u64                            8  queue_id [u8; 16]
//!  24  epoch u32 │ offset u32                   32  segment_id u64
//!  40  seq u64: the next to read, 0 = none yet  48  zero [u8; 12] │ crc u32 (CRC-32 of bytes 0..60)
//!
//! index/{segment id, 20 digits}.idx
//!   0  IndexHeader: magic "CHRONIDX" │ version u16 │ zero u16 │ interval u32 │ queue_id [u8; 16]
//!      │ segment_id u64 │ salt u32 │ slots u32 │ zero [u8; 12] │ crc u32 (CRC-32 of bytes 0..60)
//!  64  IndexEntry: slot k, from 0, says where the first frame with offset ≥ k × interval stands; slots may be empty
//!      seq u64 │ min_time u64 │ max_time u64 (of all frames before it) │ offset u32 │ crc u32, started from the salt
//! ```
//!
//! Slots and the live words stand in sectors of their own, so that no torn write of one harms another. Live words are
//! hints: whoever reads them checks what they lead to.

use std::mem::{offset_of, size_of};
use zerocopy::{
    FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// Length of `control.meta`, `wake.meta` and cursor files.
pub const META_LEN: usize = 4096;
/// The format of all small files.
pub const VERSION: u16 = 1;
/// First bytes of `control.meta`.
pub const CONTROL_MAGIC: [u8; 8] = *b"CHRONCTL";
/// First bytes of a cursor file.
pub const CURSOR_MAGIC: [u8; 8] = *b"CHRONCUR";
/// First bytes of an index file.
pub const INDEX_MAGIC: [u8; 8] = *b"CHRONIDX";

/// Where the slots of `control.meta` stand.
pub const CONTROL_SLOTS: [usize; 2] = [1024, 2048];
/// Where a cursor file's committed cursor stands, twice.
pub const CURSOR_SLOTS: [usize; 2] = [512, 1024];
/// Where a cursor file's durable cursor stands, twice.
pub const DURABLE_SLOTS: [usize; 2] = [1536, 2048];
/// The writer's heartbeat.
pub const HEARTBEAT: usize = 3072;
/// The oldest segment that the queue has.
pub const OLDEST: usize = 3080;
/// How often a segment ended.
pub const ROLLS: usize = 3088;
/// How often a segment was used again.
pub const RECYCLED: usize = 3096;
/// How often `append` found nothing ready.
pub const REFUSED: usize = 3104;
/// Appends that a dead writer left in progress.
pub const ABORTED: usize = 3112;
/// The boot in which a sync failed, as far as a word tells ([`failed_in`]); 0 = none has since a writer made all durable
/// in new files.
pub const FAILED: usize = 3120;
/// 1 = the writer is there without `alive.lock`, because somebody else holds it: its heartbeat tells.
pub const UNLOCKED: usize = 3128;
/// A reader's looks.
pub const BEATS: usize = 3072;
/// How long a reader's silence means nothing.
pub const TTL_MS: usize = 3076;
/// The segment that a reader stands in.
pub const READING: usize = 3080;
/// A reader's flags.
pub const FLAGS: usize = 3088;
/// Flag: retention goes by the committed cursor, not by where the reader stands.
pub const FLAG_COMMITS: u32 = 1;
/// Readers that can be required.
pub const REQUIRED_MAX: usize = 8;

/// What [`FAILED`] holds when a sync failed in the boot `boot_id`.
#[must_use]
pub const fn failed_in(boot_id: u128) -> u64 {
    boot_id as u64 | 1
}

/// Numbers that only grow are never near the end of their type: ids, generations and seqs of files stay below, so that
/// nothing counted up from them wraps. At ten million a second it takes 14,000 years.
pub const COUNT_END: u64 = 1 << 62;
/// As [`COUNT_END`], of epochs.
pub const EPOCH_END: u32 = 1 << 31;

/// First bytes of `control.meta` and of cursor files.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MetaHeader {
    /// Which file it is.
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U16,
    /// Zero.
    pub zero16: U16,
    /// Zero.
    pub zero32: U32,
    /// Identity of the queue.
    pub queue_id: [u8; 16],
    /// When it was made, ns since 1970.
    pub created_ns: U64,
    /// Zero.
    pub zero: [u8; 20],
    /// CRC-32 of all before it.
    pub crc: U32,
}

/// What the writer says of its queue.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ControlSlot {
    /// The higher of two valid slots counts.
    pub generation: U64,
    /// Boot of the machine in which it was written.
    pub boot_id: [u8; 16],
    /// Crashes of the machine that the queue has seen.
    pub epoch: U32,
    /// 1 = a writer has it or died with it; 2 = closed in order, all of it synced.
    pub state: U32,
    /// No frame has a higher seq.
    pub seq_bound: U64,
    /// No segment has a higher id.
    pub last_segment: U64,
    /// Segment of the synced position.
    pub synced_segment: U64,
    /// Seq of the frame at the synced position: all before it are durable.
    pub synced_seq: U64,
    /// Offset of the synced position.
    pub synced_offset: U32,
    /// Length of segments from now on.
    pub segment_len: U32,
    /// Bytes that all segments together may take.
    pub max_bytes: U64,
    /// 1 = asymmetric, 2 = fence.
    pub wake_mode: u8,
    /// As in a segment's header.
    pub checksum: u8,
    /// As in a segment's header.
    pub clock: u8,
    /// Names in `required`.
    pub required_count: u8,
    /// Segments prepared ahead.
    pub segments_ahead: U32,
    /// Readers whose durable cursors retention waits for; names padded with zeros.
    pub required: [[u8; 64]; REQUIRED_MAX],
    /// Zero.
    pub zero: [u8; 420],
    /// CRC-32 of all before it.
    pub crc: U32,
}

/// Where a reader stands.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CursorSlot {
    /// The higher of two valid slots counts.
    pub generation: U64,
    /// Queue that the position is in.
    pub queue_id: [u8; 16],
    /// Epoch in which it was committed.
    pub epoch: U32,
    /// Offset in the segment.
    pub offset: U32,
    /// Segment.
    pub segment_id: U64,
    /// The next seq to read; 0 = nothing was committed yet.
    pub seq: U64,
    /// Zero.
    pub zero: [u8; 12],
    /// CRC-32 of all before it.
    pub crc: U32,
}

/// First bytes of an index file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IndexHeader {
    /// [`INDEX_MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U16,
    /// Zero.
    pub zero16: U16,
    /// Bytes of the segment for each slot.
    pub interval: U32,
    /// Identity of the queue.
    pub queue_id: [u8; 16],
    /// Segment that it leads into.
    pub segment_id: U64,
    /// The segment's salt.
    pub salt: U32,
    /// Entries that follow.
    pub slots: U32,
    /// Zero.
    pub zero: [u8; 12],
    /// CRC-32 of all before it.
    pub crc: U32,
}

/// One place in a segment.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IndexEntry {
    /// Seq of the frame that stands or will stand there.
    pub seq: U64,
    /// Smallest time of the frames before it in the segment; all ones if there are none.
    pub min_time: U64,
    /// Largest time of the frames before it in the segment.
    pub max_time: U64,
    /// Its offset.
    pub offset: U32,
    /// CRC-32 of all before it, started from the salt: entries of another segment never pass.
    pub crc: U32,
}

/// Length of [`IndexHeader`]; the first entry stands here.
pub const INDEX_HEADER_LEN: usize = size_of::<IndexHeader>();
/// Length of an [`IndexEntry`].
pub const INDEX_ENTRY_LEN: usize = size_of::<IndexEntry>();

// The layout, stated a second time on purpose. If these fail to compile the format changed: bump the version in
// docs/format.md, do not edit the numbers.
const _: () = {
    assert!(size_of::<MetaHeader>() == 64);
    assert!(offset_of!(MetaHeader, queue_id) == 16);
    assert!(offset_of!(MetaHeader, created_ns) == 32);
    assert!(offset_of!(MetaHeader, crc) == 60);
    assert!(size_of::<ControlSlot>() == 1024);
    assert!(offset_of!(ControlSlot, epoch) == 24);
    assert!(offset_of!(ControlSlot, seq_bound) == 32);
    assert!(offset_of!(ControlSlot, synced_segment) == 48);
    assert!(offset_of!(ControlSlot, synced_offset) == 64);
    assert!(offset_of!(ControlSlot, wake_mode) == 80);
    assert!(offset_of!(ControlSlot, required) == 88);
    assert!(offset_of!(ControlSlot, crc) == 1020);
    assert!(size_of::<CursorSlot>() == 64);
    assert!(offset_of!(CursorSlot, segment_id) == 32);
    assert!(offset_of!(CursorSlot, crc) == 60);
    assert!(INDEX_HEADER_LEN == 64);
    assert!(offset_of!(IndexHeader, crc) == 60);
    assert!(INDEX_ENTRY_LEN == 32);
    assert!(offset_of!(IndexEntry, crc) == 28);
    // No two of them share a sector.
    assert!(CONTROL_SLOTS[1] + size_of::<ControlSlot>() <= HEARTBEAT && HEARTBEAT.is_multiple_of(512));
    assert!(CURSOR_SLOTS[1] - CURSOR_SLOTS[0] == 512 && DURABLE_SLOTS[0] - CURSOR_SLOTS[1] == 512);
    assert!(DURABLE_SLOTS[1] + size_of::<CursorSlot>() <= BEATS);
};

/// A layout that ends in a CRC-32 of all before it.
pub(crate) trait Summed: FromBytes + IntoBytes + Immutable + KnownLayout {
    /// Its stored checksum.
    fn crc(&self) -> u32;
    /// Stores its checksum.
    fn set_crc(&mut self, crc: u32);

    /// The checksum that its bytes give, started from `seed`.
    fn computed(&self, seed: u32) -> u32 {
        let bytes = self.as_bytes();
        let mut crc = crc32fast::Hasher::new_with_initial(seed);
        crc.update(&bytes[..bytes.len() - 4]);
        crc.finalize()
    }

    /// Itself with its checksum.
    fn summed(mut self, seed: u32) -> Self
    where
        Self: Sized,
    {
        let crc = self.computed(seed);
        self.set_crc(crc);
        self
    }

    /// Whether the checksum is right.
    fn is_whole(&self, seed: u32) -> bool {
        self.crc() == self.computed(seed)
    }
}

macro_rules! summed {
    ($($layout:ty),*) => {$(
        impl Summed for $layout {
            fn crc(&self) -> u32 {
                self.crc.get()
            }
            fn set_crc(&mut self, crc: u32) {
                self.crc = crc.into();
            }
        }
    )*};
}
summed!(MetaHeader, ControlSlot, CursorSlot, IndexHeader, IndexEntry);

impl MetaHeader {
    pub(crate) fn new(magic: [u8; 8], queue_id: [u8; 16], created_ns: u64) -> Self {
        let mut header = MetaHeader::new_zeroed();
        header.magic = magic;
        header.version = VERSION.into();
        header.queue_id = queue_id;
        header.created_ns = created_ns.into();
        header.summed(0)
    }

    /// Checks the first bytes of a small file; what is wrong as (offset, evidence).
    pub(crate) fn parse(bytes: &[u8], magic: [u8; 8]) -> Result<MetaHeader, (u64, String)> {
        let Ok((header, _)) = MetaHeader::read_from_prefix(bytes) else {
            return Err((0, format!("{} bytes needed, {} there", size_of::<MetaHeader>(), bytes.len())));
        };
        if bytes.len() < META_LEN {
            return Err((bytes.len() as u64, format!("{META_LEN} bytes needed, {} there", bytes.len())));
        }
        if header.magic != magic {
            let (found, expected) = (header.magic.escape_ascii(), magic.escape_ascii());
            return Err((0, format!("magic is \"{found}\", not \"{expected}\"")));
        }
        if header.version.get() > VERSION {
            let found = header.version.get();
            return Err((8, format!("format version {found} is newer than {VERSION}: upgrade to read it")));
        }
        if !header.is_whole(0) {
            return Err((60, crc_text(&header, 0)));
        }
        if header.version.get() == 0 {
            return Err((8, "version is 0x0, which no writer stores".into()));
        }
        Ok(header)
    }
}

/// Stored and computed, for people.
pub(crate) fn crc_text<T: Summed>(layout: &T, seed: u32) -> String {
    format!("checksum stored {:#010x}, computed {:#010x}", layout.crc(), layout.computed(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Written down by hand from the picture above; the checksums were computed with another implementation (zlib's).
    #[test]
    fn golden_bytes() {
        let header = MetaHeader::new(CONTROL_MAGIC, *b"0123456789abcdef", 0x0102_0304_0506_0708);
        assert_eq!(
            hex(&header.as_bytes()[..60]),
            "4348524f4e43544c01000000000000003031323334353637383961626364656608070605040302010000000000000000\
             000000000000000000000000"
        );
        let mut entry = IndexEntry::new_zeroed();
        entry.seq = 7.into();
        entry.min_time = 8.into();
        entry.max_time = 9.into();
        entry.offset = 4096.into();
        let entry = entry.summed(5);
        assert_eq!(hex(&entry.as_bytes()[..28]), "07000000000000000800000000000000090000000000000000100000");
        assert!(entry.is_whole(5) && !entry.is_whole(6));
        let mut cursor = CursorSlot::new_zeroed();
        cursor.generation = 1.into();
        cursor.queue_id = [0xaa; 16];
        cursor.epoch = 2.into();
        cursor.offset = 128.into();
        cursor.segment_id = 3.into();
        cursor.seq = 4.into();
        assert_eq!(
            hex(&cursor.summed(0).as_bytes()[..60]),
            format!(
                "0100000000000000{}0200000080000000030000000000000004000000000000000000000000000000{}",
                "aa".repeat(16),
                "00".repeat(8).get(..8).unwrap()
            )
        );
    }

    #[test]
    fn small_files_of_others_are_told_apart() {
        let mut bytes = vec![0; META_LEN];
        bytes[..64].copy_from_slice(MetaHeader::new(CURSOR_MAGIC, [0; 16], 0).as_bytes());
        MetaHeader::parse(&bytes, CURSOR_MAGIC).unwrap();
        assert_eq!(MetaHeader::parse(&bytes, CONTROL_MAGIC).unwrap_err().0, 0);
        assert_eq!(MetaHeader::parse(&bytes[..100], CURSOR_MAGIC).unwrap_err().0, 100);
        assert_eq!(MetaHeader::parse(&bytes[..10], CURSOR_MAGIC).unwrap_err().0, 0);
        for at in 8..64 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            MetaHeader::parse(&flipped, CURSOR_MAGIC).expect_err("a flipped bit");
        }
    }
}
