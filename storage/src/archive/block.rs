//! What the tables of a cold file say, in memory, and the bytes they become.

use super::layout::{
    BLOCK_SIZE, BlockEntry, INDEX_MAGIC, IndexEntry, IndexHeader, OPENS_WITH_SNAPSHOT, SEEK_FOOTER_MAGIC, SEEK_MAGIC,
    SeekEntry, SeekFooter, Skippable, TABLES_HEADER_LEN, TABLES_MAGIC, TABLES_NAME, TablesHeader, VERSION,
};
use std::mem::size_of;
use zerocopy::IntoBytes;

/// One block: an independent zstd frame that holds whole frames of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it begins in the `.q`.
    pub offset: u64,
    /// Its bytes there.
    pub len: u32,
    /// Where it begins in the `.zst`.
    pub compressed_offset: u64,
    /// Its bytes there.
    pub compressed_len: u32,
    /// Seq of its first frame; of the next one that would come, if it has none.
    pub first_seq: u64,
    /// Smallest `time_ns` of its frames; 0 without frames.
    pub min_time: u64,
    /// Largest `time_ns` of its frames; 0 without frames.
    pub max_time: u64,
    /// Whether its first frame is a book snapshot.
    pub opens_with_snapshot: bool,
    /// CRC-32 of its uncompressed bytes.
    pub crc: u32,
    /// CRC-32 of its compressed bytes.
    pub compressed_crc: u32,
}

/// All that a cold file says about itself behind its blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The blocks, in order; they tile the `.q` and, from its start, the `.zst`.
    pub blocks: Vec<Block>,
    /// Length of the `.q`.
    pub source_len: u64,
    /// SHA-256 of the `.q`.
    pub source_sha256: [u8; 32],
}

impl Tables {
    /// Bytes of the `.zst` that blocks take: the offset of the tables.
    #[must_use]
    pub fn blocks_len(&self) -> u64 {
        self.blocks.last().map_or(0, |block| block.compressed_offset + u64::from(block.compressed_len))
    }

    /// Tables and seek table, as they stand behind the blocks.
    ///
    /// # Panics
    ///
    /// With more blocks than a skippable frame can list, about 119 million: 29 TiB at the smallest size of a block.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = self.blocks.len();
        let tables_len = TABLES_HEADER_LEN + count * (size_of::<BlockEntry>() + 4) + 4;
        let size_of_rest = |len: usize| {
            let rest = u32::try_from(len - size_of::<Skippable>());
            rest.unwrap_or_else(|_| panic!("bug: {count} blocks do not fit a skippable frame"))
        };
        let tables_size = size_of_rest(tables_len);

        let seek = self.seek_table(tables_len as u32, size_of_rest);
        let header = TablesHeader {
            skippable: Skippable { magic: TABLES_MAGIC.into(), size: tables_size.into() },
            name: TABLES_NAME,
            version: VERSION.into(),
            entry_len: (size_of::<BlockEntry>() as u16).into(),
            block_size: BLOCK_SIZE.into(),
            block_count: (count as u64).into(),
            source_len: self.source_len.into(),
            source_sha256: self.source_sha256,
            seek_crc: crc32fast::hash(&seek).into(),
            reserved: 0.into(),
        };
        let mut out = Vec::with_capacity(tables_len + seek.len());
        out.extend_from_slice(header.as_bytes());
        for block in &self.blocks {
            let entry = BlockEntry {
                first_seq: block.first_seq.into(),
                min_time: block.min_time.into(),
                max_time: block.max_time.into(),
                flags: if block.opens_with_snapshot { OPENS_WITH_SNAPSHOT } else { 0 }.into(),
                crc: block.crc.into(),
            };
            out.extend_from_slice(entry.as_bytes());
        }
        for block in &self.blocks {
            out.extend_from_slice(&block.compressed_crc.to_le_bytes());
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&seek);
        out
    }

    fn seek_table(&self, tables_len: u32, size_of_rest: impl Fn(usize) -> u32) -> Vec<u8> {
        let entries = self.blocks.len() + 1;
        let len = size_of::<Skippable>() + entries * size_of::<SeekEntry>() + size_of::<SeekFooter>();
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(Skippable { magic: SEEK_MAGIC.into(), size: size_of_rest(len).into() }.as_bytes());
        let blocks = self.blocks.iter().map(|block| (block.compressed_len, block.len));
        for (compressed, uncompressed) in blocks.chain([(tables_len, 0)]) {
            let entry = SeekEntry { compressed_size: compressed.into(), uncompressed_size: uncompressed.into() };
            out.extend_from_slice(entry.as_bytes());
        }
        let footer =
            SeekFooter { frame_count: (entries as u32).into(), descriptor: 0, magic: SEEK_FOOTER_MAGIC.into() };
        out.extend_from_slice(footer.as_bytes());
        out
    }

    /// The index file's bytes.
    #[must_use]
    pub fn index_bytes(&self) -> Vec<u8> {
        let header = IndexHeader {
            magic: INDEX_MAGIC,
            version: VERSION.into(),
            header_len: (size_of::<IndexHeader>() as u16).into(),
            block_size: BLOCK_SIZE.into(),
            frame_count: (self.blocks.len() as u64).into(),
        };
        let mut out = Vec::with_capacity(size_of::<IndexHeader>() + self.blocks.len() * size_of::<IndexEntry>());
        out.extend_from_slice(header.as_bytes());
        for block in &self.blocks {
            let entry = IndexEntry {
                uncompressed_offset: block.offset.into(),
                compressed_offset: block.compressed_offset.into(),
                compressed_size: block.compressed_len.into(),
                uncompressed_size: block.len.into(),
            };
            out.extend_from_slice(entry.as_bytes());
        }
        out
    }

    /// The block that holds the frame with this seq, if any does; of a seq past the end, none.
    ///
    /// Blocks know where they begin, so the last one is returned for every seq from its first on.
    #[must_use]
    pub fn block_of_seq(&self, seq: u64) -> Option<usize> {
        self.blocks.partition_point(|block| block.first_seq <= seq).checked_sub(1)
    }

    /// The first block that has a frame at `time_ns` or later: no such frame stands before it.
    ///
    /// Times may step back within a stream, so frames before `time_ns` may follow.
    #[must_use]
    pub fn first_block_at(&self, time_ns: u64) -> Option<usize> {
        self.blocks.iter().position(|block| block.max_time >= time_ns)
    }

    /// The last block that begins with a book snapshot and has a frame at `time_ns` or earlier.
    ///
    /// Where times step back the snapshot itself may be later than `time_ns`: whoever finds that asks again with
    /// `before` = this block.
    #[must_use]
    pub fn snapshot_block_at(&self, time_ns: u64, before: usize) -> Option<usize> {
        let end = before.min(self.blocks.len());
        self.blocks[..end].iter().rposition(|block| block.opens_with_snapshot && block.min_time <= time_ns)
    }
}
