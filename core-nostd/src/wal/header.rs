//! The header of a segment, written and checked.

use super::layout::{self, HEADER_LEN, SegmentHeader};
use crate::{Damage, Fault};
use core::{fmt, mem::offset_of};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// A place in the log: bytes of one of its segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The segment's id; 0 = before the first.
    pub segment: u64,
    /// Offset in its file.
    pub offset: u64,
}

impl Position {
    /// Before everything.
    pub const ZERO: Position = Position { segment: 0, offset: 0 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} offset {}", self.segment, self.offset)
    }
}

/// What the first block of a segment says, checked.
///
/// ```
/// use chronicle_core::wal::{Header, Position};
///
/// let header = Header {
///     wal_id: [7; 16],
///     segment_id: 1,
///     predecessor_id: 0,
///     predecessor_end: 0,
///     durable: Position::ZERO,
///     durable_seq: 0,
///     first_seq: 1,
///     segment_len: 1 << 20,
///     created_ns: 0,
///     block_size: 4096,
///     batch_len: 64 << 10,
///     epoch: 1,
///     salt: 0x5a17,
/// };
/// assert_eq!(Header::parse(&header.to_bytes()), Ok(header));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Random identity of the log.
    pub wal_id: [u8; 16],
    /// Position in the log, from 1, never reused.
    pub segment_id: u64,
    /// Segment before this one; 0 = none.
    pub predecessor_id: u64,
    /// Offset at which the predecessor's accepted batches end; 0 = there is none.
    pub predecessor_end: u64,
    /// Up to where all was durable when this was written.
    pub durable: Position,
    /// Newest data frame before that position; 0 = none.
    pub durable_seq: u64,
    /// Seq of the first data frame that goes here.
    pub first_seq: u64,
    /// Length of the file.
    pub segment_len: u64,
    /// When it was made, ns since 1970. The machine knows no time and leaves 0: whoever writes the header sets it.
    pub created_ns: u64,
    /// What batches begin at multiples of.
    pub block_size: u32,
    /// Length of the largest batch.
    pub batch_len: u32,
    /// Takeovers that the log has seen.
    pub epoch: u32,
    /// Starting value of the CRCs in this segment.
    pub salt: u32,
}

impl Header {
    /// Its bytes. Zeros follow up to the end of the header block.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut raw = SegmentHeader::new_zeroed();
        raw.magic = layout::MAGIC;
        raw.version = layout::VERSION.into();
        raw.wal_id = self.wal_id;
        raw.segment_id = self.segment_id.into();
        raw.predecessor_id = self.predecessor_id.into();
        raw.predecessor_end = self.predecessor_end.into();
        raw.durable_segment = self.durable.segment.into();
        raw.durable_offset = self.durable.offset.into();
        raw.durable_seq = self.durable_seq.into();
        raw.first_seq = self.first_seq.into();
        raw.segment_len = self.segment_len.into();
        raw.created_ns = self.created_ns.into();
        raw.block_size = self.block_size.into();
        raw.batch_len = self.batch_len.into();
        raw.epoch = self.epoch.into();
        raw.salt = self.salt.into();
        raw.crc = crc32fast::hash(&raw.as_bytes()[..offset_of!(SegmentHeader, crc)]).into();
        zerocopy::transmute!(raw)
    }

    /// Checks the first bytes of a segment: 128, and as much of the rest of the header block as is given.
    ///
    /// Whether the file has `segment_len` bytes, and the name that this id belongs to, is for the caller to see.
    ///
    /// # Errors
    ///
    /// Damage at the field's offset: short, another magic, a newer version, unknown features, a wrong checksum, a value
    /// that no writer stores, or something other than zeros behind it in its block.
    pub fn parse(bytes: &[u8]) -> Result<Header, Damage> {
        let Ok((raw, rest)) = SegmentHeader::read_from_prefix(bytes) else {
            let fault = Fault::Short { needed: HEADER_LEN as u64, found: bytes.len() as u64 };
            return Err(Damage::at(0, fault));
        };
        if raw.magic != layout::MAGIC {
            return Err(Damage::at(0, Fault::Magic { found: raw.magic }));
        }
        if raw.version.get() > layout::VERSION {
            return Err(Damage::at(8, Fault::Version { found: raw.version.get() }));
        }
        let crc_at = offset_of!(SegmentHeader, crc);
        let computed = crc32fast::hash(&raw.as_bytes()[..crc_at]);
        if computed != raw.crc.get() {
            return Err(Damage::at(crc_at as u64, Fault::Crc { stored: raw.crc.get(), computed }));
        }
        if raw.incompat.get() != 0 {
            return Err(Damage::at(12, Fault::Incompatible { bits: raw.incompat.get() }));
        }
        let header = Header {
            wal_id: raw.wal_id,
            segment_id: raw.segment_id.get(),
            predecessor_id: raw.predecessor_id.get(),
            predecessor_end: raw.predecessor_end.get(),
            durable: Position { segment: raw.durable_segment.get(), offset: raw.durable_offset.get() },
            durable_seq: raw.durable_seq.get(),
            first_seq: raw.first_seq.get(),
            segment_len: raw.segment_len.get(),
            created_ns: raw.created_ns.get(),
            block_size: raw.block_size.get(),
            batch_len: raw.batch_len.get(),
            epoch: raw.epoch.get(),
            salt: raw.salt.get(),
        };
        let block = u64::from(header.block_size);
        let whole = |len: u64| len.is_multiple_of(block);
        let seq_fits = (1..layout::SEQ_END).contains(&header.first_seq);
        // Each with its offset and name, in the order in which later ones rely on earlier ones.
        let fields: [(usize, &'static str, u64, bool); 12] = [
            (8, "version", raw.version.get().into(), raw.version.get() != 0),
            (10, "reserved", raw.reserved.get().into(), raw.reserved.get() == 0),
            (120, "reserved", raw.reserved_2.get().into(), raw.reserved_2.get() == 0),
            (104, "block_size", block, super::is_block_size(header.block_size)),
            (108, "batch_len", header.batch_len.into(), super::is_batch_len(header.batch_len, header.block_size)),
            (
                88,
                "segment_len",
                header.segment_len,
                super::is_segment_len(header.segment_len, header.batch_len, header.block_size),
            ),
            (32, "segment_id", header.segment_id, header.segment_id != 0),
            (40, "predecessor_id", header.predecessor_id, header.predecessor_id < header.segment_id),
            (
                48,
                "predecessor_end",
                header.predecessor_end,
                (header.predecessor_id == 0) == (header.predecessor_end == 0)
                    && header.predecessor_end <= layout::MAX_SEGMENT_LEN,
            ),
            (80, "first_seq", header.first_seq, seq_fits),
            (56, "durable_segment", header.durable.segment, header.durable.segment <= header.segment_id),
            (72, "durable_seq", header.durable_seq, header.durable_seq < layout::SEQ_END),
        ];
        for (offset, name, found, fits) in fields {
            if !fits {
                return Err(Damage::at(offset as u64, Fault::Field { name, found }));
            }
        }
        if !whole(header.durable.offset) && header.durable.segment == header.segment_id {
            let fault = Fault::Field { name: "durable_offset", found: header.durable.offset };
            return Err(Damage::at(64, fault));
        }
        let rest = &rest[..rest.len().min(header.block_size as usize - HEADER_LEN)];
        if let Some(at) = rest.iter().position(|byte| *byte != 0) {
            return Err(Damage::at((HEADER_LEN + at) as u64, Fault::Padding { found: rest[at] }));
        }
        Ok(header)
    }

    /// Where this segment's predecessor ends.
    #[must_use]
    pub fn predecessor(&self) -> Position {
        Position { segment: self.predecessor_id, offset: self.predecessor_end }
    }
}
