//! Reading tables and indexes that may be anything: cut, flipped, zeroed, or made to hurt.
//!
//! Every length is checked against bytes that are really there before anything is allocated for it, every sum is
//! checked, and what is accepted tiles file and source without hole or overlap. These functions take plain bytes, so
//! that fuzzers reach them.

use super::{
    block::{Block, Tables},
    layout::{
        BLOCK_SIZE, BlockEntry, INDEX_MAGIC, IndexEntry, IndexHeader, MAX_BLOCK_LEN, OPENS_WITH_SNAPSHOT,
        SEEK_FOOTER_MAGIC, SEEK_MAGIC, SeekEntry, SeekFooter, Skippable, TABLES_HEADER_LEN, TABLES_MAGIC, TABLES_NAME,
        TablesHeader, VERSION,
    },
};
use std::{fmt, mem::size_of};
use zerocopy::FromBytes;

/// What is wrong with a file's tables or index, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Offset in the file.
    pub offset: u64,
    /// What, with evidence.
    pub what: String,
}

impl Flaw {
    pub(crate) fn at(offset: u64, what: impl Into<String>) -> Flaw {
        Flaw { offset, what: what.into() }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}: {}", self.offset, self.what)
    }
}

impl std::error::Error for Flaw {}

/// A parsed index: where blocks stand, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Per block: offset in the `.q`, offset in the `.zst`, bytes in the `.zst`, bytes in the `.q`.
    pub entries: Vec<(u64, u64, u32, u32)>,
}

fn expect(what: &str, offset: u64, expected: impl Into<u64>, found: impl Into<u64>) -> Result<(), Flaw> {
    let (expected, found) = (expected.into(), found.into());
    if expected == found {
        return Ok(());
    }
    Err(Flaw::at(offset, format!("{what} is {found}, expected {expected}")))
}

fn magic(what: &str, offset: u64, expected: u32, found: u32) -> Result<(), Flaw> {
    if expected == found {
        return Ok(());
    }
    Err(Flaw::at(offset, format!("{what} is {found:#010x}, expected {expected:#010x}")))
}

fn checksum(what: &str, offset: u64, stored: u32, bytes: &[u8]) -> Result<(), Flaw> {
    let computed = crc32fast::hash(bytes);
    if stored == computed {
        return Ok(());
    }
    Err(Flaw::at(offset, format!("{what} checksum stored {stored:#010x}, computed {computed:#010x}")))
}

fn version(offset: u64, found: u16) -> Result<(), Flaw> {
    match found {
        VERSION => Ok(()),
        newer if newer > VERSION => {
            Err(Flaw::at(offset, format!("format version {newer} is newer than {VERSION}: upgrade to read it")))
        }
        other => Err(Flaw::at(offset, format!("format version is {other}, which no writer stores"))),
    }
}

/// Parses a whole `QZSTIDX1` file.
///
/// ```
/// use chronicle_storage::archive::{Tables, parse_index};
///
/// assert_eq!(parse_index(&Tables::default().index_bytes()).unwrap().entries.len(), 0);
/// assert_eq!(parse_index(b"QZST").unwrap_err().to_string(), "offset 0: 24 bytes needed, 4 there");
/// ```
///
/// # Errors
///
/// The first flaw: short or long, another magic or version, or blocks that do not tile both files from offset 0.
pub fn parse_index(bytes: &[u8]) -> Result<Index, Flaw> {
    let Ok((header, entries)) = IndexHeader::read_from_prefix(bytes) else {
        let needed = size_of::<IndexHeader>();
        return Err(Flaw::at(0, format!("{needed} bytes needed, {} there", bytes.len())));
    };
    if header.magic != INDEX_MAGIC {
        return Err(Flaw::at(0, format!("magic is \"{}\", not an index", header.magic.escape_ascii())));
    }
    version(8, header.version.get())?;
    expect("header_len", 10, size_of::<IndexHeader>() as u64, header.header_len.get())?;
    expect("block_size", 12, BLOCK_SIZE, header.block_size.get())?;
    // The file's length decides how much is allocated; the count only has to agree with it.
    let there = (entries.len() / size_of::<IndexEntry>()) as u64;
    expect("frame_count", 16, there, header.frame_count.get())?;
    if !entries.len().is_multiple_of(size_of::<IndexEntry>()) {
        let whole = bytes.len() - entries.len() % size_of::<IndexEntry>();
        return Err(Flaw::at(whole as u64, format!("{} bytes behind the last entry", bytes.len() - whole)));
    }

    let mut parsed = Vec::with_capacity(there as usize);
    let (mut offset, mut compressed_offset) = (0u64, 0u64);
    for (i, raw) in entries.chunks_exact(size_of::<IndexEntry>()).enumerate() {
        let at = (size_of::<IndexHeader>() + i * size_of::<IndexEntry>()) as u64;
        let entry = IndexEntry::read_from_bytes(raw).expect("bug: a chunk has the entry's size");
        let (compressed, uncompressed) = (entry.compressed_size.get(), entry.uncompressed_size.get());
        let named = |field: &str| format!("entry {i}: {field}");
        expect(&named("uncompressed_offset"), at, offset, entry.uncompressed_offset.get())?;
        expect(&named("compressed_offset"), at + 8, compressed_offset, entry.compressed_offset.get())?;
        sizes(&named("block"), at + 16, compressed, uncompressed)?;
        parsed.push((offset, compressed_offset, compressed, uncompressed));
        // Entries are 24 bytes for at most 2^32 each: the sums stay far below 2^64.
        offset += u64::from(uncompressed);
        compressed_offset += u64::from(compressed);
    }
    Ok(Index { entries: parsed })
}

/// A block's sizes, before anybody allocates for them.
fn sizes(what: &str, at: u64, compressed: u32, uncompressed: u32) -> Result<(), Flaw> {
    let (compressed, uncompressed) = (u64::from(compressed), u64::from(uncompressed));
    if uncompressed == 0 || uncompressed > MAX_BLOCK_LEN {
        return Err(Flaw::at(at, format!("{what}: uncompressed size {uncompressed} is not in 1..={MAX_BLOCK_LEN}")));
    }
    // zstd's own bound on incompressible data, and its smallest frame.
    let most = uncompressed + (uncompressed >> 8) + 128;
    if compressed < 9 || compressed > most {
        return Err(Flaw::at(at, format!("{what}: compressed size {compressed} is not in 9..={most}")));
    }
    // What zstd writes for one repeated byte; more than that no frame of the format can expand to.
    if uncompressed / compressed > 1 << 16 {
        return Err(Flaw::at(at, format!("{what}: {compressed} bytes cannot become {uncompressed}")));
    }
    Ok(())
}

/// How long the seek table is and, behind it to the left, where the tables end; from a file's last bytes.
///
/// `tail` must hold at least the footer; `file_len` bounds what is believed.
pub(crate) fn seek_table_len(tail: &[u8], file_len: u64) -> Result<u64, Flaw> {
    let Ok((_, footer)) = SeekFooter::read_from_suffix(tail) else {
        return Err(Flaw::at(
            0,
            format!("{} bytes needed for a seek table, {file_len} there", size_of::<SeekFooter>()),
        ));
    };
    let at = file_len - size_of::<SeekFooter>() as u64;
    magic("seek table's last magic", at + 5, SEEK_FOOTER_MAGIC, footer.magic.get())?;
    expect("seek table's descriptor", at + 4, 0u8, footer.descriptor)?;
    let count = u64::from(footer.frame_count.get());
    let len = (size_of::<Skippable>() + size_of::<SeekFooter>()) as u64 + count * size_of::<SeekEntry>() as u64;
    if count == 0 || len > file_len {
        return Err(Flaw::at(at, format!("seek table lists {count} frames, the file has {file_len} bytes")));
    }
    Ok(len)
}

/// How long the tables are, if the seek table is `seek_len` long.
pub(crate) fn tables_len(seek_len: u64, file_len: u64) -> Result<u64, Flaw> {
    let entries =
        (seek_len - (size_of::<Skippable>() + size_of::<SeekFooter>()) as u64) / size_of::<SeekEntry>() as u64;
    let len = TABLES_HEADER_LEN as u64 + (entries - 1) * (size_of::<BlockEntry>() as u64 + 4) + 4;
    if len + seek_len > file_len {
        let at = file_len - size_of::<SeekFooter>() as u64;
        return Err(Flaw::at(at, format!("seek table lists {entries} frames, the file has {file_len} bytes")));
    }
    Ok(len)
}

/// Parses tables and seek table from a cold file's last bytes.
///
/// `tail` is the end of the file, long enough for both (the whole file will do); `file_len` is how long the file is.
///
/// # Errors
///
/// The first flaw, with its offset in the file: short, a wrong magic, version, checksum or reserved byte, or blocks
/// that do not tile file and source.
pub fn parse_tables(tail: &[u8], file_len: u64) -> Result<Tables, Flaw> {
    if (tail.len() as u64) > file_len {
        return Err(Flaw::at(0, format!("{} bytes of a file of {file_len}", tail.len())));
    }
    let seek_len = seek_table_len(tail, file_len)?;
    let tables_len = tables_len(seek_len, file_len)?;
    let tables_at = file_len - seek_len - tables_len;
    let seek_at = file_len - seek_len;
    if (tail.len() as u64) < seek_len + tables_len {
        return Err(Flaw::at(tables_at, format!("{} bytes needed, {} given", seek_len + tables_len, tail.len())));
    }
    let (rest, seek) = tail.split_at(tail.len() - seek_len as usize);
    let tables = &rest[rest.len() - tables_len as usize..];

    let (skippable, seek_entries) = Skippable::read_from_prefix(seek).expect("bug: seek_table_len is at least this");
    let begins = (skippable.magic.get() == SEEK_MAGIC, u64::from(skippable.size.get()) == seek_len - 8);
    if begins == (false, false) {
        let at = file_len - size_of::<SeekFooter>() as u64;
        return Err(Flaw::at(at, format!("frame count puts the seek table at {seek_at}, where none begins")));
    }
    magic("seek table's magic", seek_at, SEEK_MAGIC, skippable.magic.get())?;
    expect("seek table's size", seek_at + 4, seek_len - 8, skippable.size.get())?;

    // The tables' checksum covers them and, through them, the seek table.
    let (header, entries) = TablesHeader::read_from_prefix(tables).expect("bug: tables_len is at least the header's");
    magic("tables' magic", tables_at, TABLES_MAGIC, header.skippable.magic.get())?;
    expect("tables' size", tables_at + 4, tables_len - 8, header.skippable.size.get())?;
    if header.name != TABLES_NAME {
        return Err(Flaw::at(tables_at + 8, format!("tables' name is \"{}\"", header.name.escape_ascii())));
    }
    version(tables_at + 16, header.version.get())?;
    let crc_at = tables.len() - 4;
    let stored = u32::from_le_bytes(tables[crc_at..].try_into().expect("bug: four bytes"));
    checksum("tables'", tables_at, stored, &tables[..crc_at])?;
    expect("tables' entry_len", tables_at + 18, size_of::<BlockEntry>() as u64, header.entry_len.get())?;
    expect("tables' block_size", tables_at + 20, BLOCK_SIZE, header.block_size.get())?;
    expect("tables' reserved field", tables_at + 76, 0u32, header.reserved.get())?;
    checksum("seek table's", seek_at, header.seek_crc.get(), seek)?;

    let seek_entries = &seek_entries[..seek_entries.len() - size_of::<SeekFooter>()];
    let count = seek_entries.len() / size_of::<SeekEntry>() - 1;
    expect("tables' block_count", tables_at + 24, count as u64, header.block_count.get())?;
    if count == 0 {
        return Err(Flaw::at(tables_at + 24, "no blocks: a sealed file has at least a header and an end"));
    }

    let (entries, crcs) = entries[..entries.len() - 4].split_at(count * size_of::<BlockEntry>());
    let mut blocks = Vec::with_capacity(count);
    let (mut offset, mut compressed_offset) = (0u64, 0u64);
    let mut last_seq = 0;
    let seeks = seek_entries.chunks_exact(size_of::<SeekEntry>());
    let rows = entries.chunks_exact(size_of::<BlockEntry>()).zip(crcs.chunks_exact(4)).zip(seeks.clone());
    for (i, ((raw, crc), seek)) in rows.enumerate() {
        let at = tables_at + (TABLES_HEADER_LEN + i * size_of::<BlockEntry>()) as u64;
        let entry = BlockEntry::read_from_bytes(raw).expect("bug: a chunk has the entry's size");
        let seek = SeekEntry::read_from_bytes(seek).expect("bug: a chunk has the entry's size");
        let seek_entry_at = seek_at + (size_of::<Skippable>() + i * size_of::<SeekEntry>()) as u64;
        let (compressed_len, len) = (seek.compressed_size.get(), seek.uncompressed_size.get());
        sizes(&format!("seek table: block {i}"), seek_entry_at, compressed_len, len)?;
        if entry.flags.get() & !OPENS_WITH_SNAPSHOT != 0 {
            return Err(Flaw::at(at + 24, format!("block {i}: flags are {:#x}, which no writer stores", entry.flags)));
        }
        if entry.min_time.get() > entry.max_time.get() {
            let (min, max) = (entry.min_time, entry.max_time);
            return Err(Flaw::at(at + 8, format!("block {i}: min_time {min} is after max_time {max}")));
        }
        // A block without frames, which has only `End`, shares its seq with nobody: seqs rise strictly.
        if entry.first_seq.get() <= last_seq {
            let found = entry.first_seq;
            return Err(Flaw::at(at, format!("block {i}: first_seq {found} does not follow {last_seq}")));
        }
        last_seq = entry.first_seq.get();
        blocks.push(Block {
            offset,
            len,
            compressed_offset,
            compressed_len,
            first_seq: entry.first_seq.get(),
            min_time: entry.min_time.get(),
            max_time: entry.max_time.get(),
            opens_with_snapshot: entry.flags.get() & OPENS_WITH_SNAPSHOT != 0,
            crc: entry.crc.get(),
            compressed_crc: u32::from_le_bytes(crc.try_into().expect("bug: four bytes")),
        });
        offset += u64::from(len);
        compressed_offset += u64::from(compressed_len);
    }
    let last = seeks.last().expect("bug: count + 1 entries");
    let last = SeekEntry::read_from_bytes(last).expect("bug: a chunk has the entry's size");
    let last_at = file_len - (size_of::<SeekFooter>() + size_of::<SeekEntry>()) as u64;
    expect("seek table: size of the tables", last_at, tables_len, last.compressed_size.get())?;
    expect("seek table: uncompressed size of the tables", last_at + 4, 0u32, last.uncompressed_size.get())?;
    expect("seek table: compressed sizes' sum", seek_at, tables_at, compressed_offset)?;
    expect("tables' source_len", tables_at + 32, offset, header.source_len.get())?;
    Ok(Tables { blocks, source_len: offset, source_sha256: header.source_sha256 })
}

/// Where an index file first differs from what the tables make of it. The tables carry checksums, so it is the index
/// that is wrong.
pub(crate) fn first_difference(found: &[u8], expected: &[u8]) -> Flaw {
    let same = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
    let header_len = size_of::<IndexHeader>();
    if same < header_len {
        // Its own parser says more about a header: another magic, a newer version.
        return match parse_index(found) {
            Err(flaw) => flaw,
            Ok(index) => {
                let expected = (expected.len() - header_len) / size_of::<IndexEntry>();
                Flaw::at(16, format!("frame_count is {}, the seek table has {expected} blocks", index.entries.len()))
            }
        };
    }
    if same == found.len() || same == expected.len() {
        let what = format!("{} bytes, the seek table's blocks need {}", found.len(), expected.len());
        return Flaw::at(same as u64, what);
    }
    let entry = (same - header_len) / size_of::<IndexEntry>();
    let within = (same - header_len) % size_of::<IndexEntry>();
    let (field, begin, end) = [
        ("uncompressed_offset", 0, 8),
        ("compressed_offset", 8, 16),
        ("compressed_size", 16, 20),
        ("uncompressed_size", 20, 24),
    ]
    .into_iter()
    .find(|(_, _, end)| within < *end)
    .expect("bug: the fields tile an entry");
    let at = header_len + entry * size_of::<IndexEntry>() + begin;
    let value = |bytes: &[u8]| {
        let mut wide = [0; 8];
        let bytes = bytes.get(at..).unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(end - begin)];
        wide[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(wide)
    };
    let (found, expected) = (value(found), value(expected));
    Flaw::at(at as u64, format!("entry {entry}: {field} is {found}, the seek table says {expected}"))
}
