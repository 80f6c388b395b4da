//! Cold files and indexes that are cut, flipped, zeroed or made to hurt: a clear error with the file and the offset.
//!
//! Whoever reads an archive in ten years must learn *where* it is damaged, and must never get other bytes than were
//! written, a panic, or a machine without memory.

mod archive_fixture;

use archive_fixture::{Random, book, read, rows, write};
use chronicle_platform::{Platform, sim::Sim};
use chronicle_storage::{
    Error, ErrorKind,
    archive::{Block, ColdFile, Options, Tables, compress, index_path, parse_index, parse_tables},
};
use std::path::{Path, PathBuf};

struct Archive {
    sim: Sim,
    path: PathBuf,
    source: Vec<u8>,
    zst: Vec<u8>,
    index: Vec<u8>,
}

fn archive(frames: u64) -> Archive {
    let sim = Sim::new(7);
    let source = book(&sim, Path::new("/warm"), &rows(1, frames, 60, 0));
    sim.create_dirs(Path::new("/cold")).unwrap();
    compress(&sim, &source, Path::new("/cold"), Options { threads: 1, ..Options::default() }, &mut |_, _| {}).unwrap();
    let path = PathBuf::from("/cold/book.q.zst");
    Archive { source: read(&sim, &source), zst: read(&sim, &path), index: read(&sim, &index_path(&path)), sim, path }
}

impl Archive {
    /// Everything that a reader can do with it.
    fn read(&self) -> Result<Vec<u8>, Error> {
        let cold = ColdFile::open(&self.sim, &self.path)?;
        let mut out = Vec::new();
        cold.read_all(1, &mut out)?;
        Ok(out)
    }

    fn read_with(&self, zst: &[u8], index: &[u8]) -> Result<Vec<u8>, Error> {
        write(&self.sim, &self.path, zst);
        write(&self.sim, &index_path(&self.path), index);
        self.read()
    }

    /// The cold file's own account, from its intact bytes.
    fn tables(&self) -> Tables {
        parse_tables(&self.zst, self.zst.len() as u64).unwrap()
    }
}

#[test]
fn every_flipped_byte_of_the_compressed_file_is_found_and_placed() {
    let archive = archive(900);
    let tables = archive.tables();
    assert!(tables.blocks.len() >= 2);
    let end = tables.blocks_len() as usize;
    let step = end / 2500 + 1;
    let everything_behind = end..archive.zst.len();
    for at in (0..end).step_by(step).chain(everything_behind) {
        let mut zst = archive.zst.clone();
        zst[at] ^= 1 << (at % 8);
        let error = archive.read_with(&zst, &archive.index).expect_err(&format!("byte {at}"));
        assert_eq!(error.kind(), ErrorKind::Damage, "byte {at}: {error}");
        assert_eq!(error.path(), Some(&*archive.path), "byte {at}: {error}");
        let offset = error.offset().unwrap() as usize;
        if at < end {
            let block = tables.blocks.iter().rposition(|b| b.compressed_offset as usize <= at).unwrap();
            assert_eq!(offset as u64, tables.blocks[block].compressed_offset, "byte {at}: {error}");
            assert!(error.to_string().contains(&format!("block {block}: ")), "byte {at}: {error}");
        } else {
            assert!(offset >= end && offset <= at, "byte {at}: {error}");
        }
    }
}

#[test]
fn every_flipped_byte_of_the_index_is_found_and_placed() {
    let archive = archive(900);
    for at in 0..archive.index.len() {
        let mut index = archive.index.clone();
        index[at] ^= 0x40;
        let error = archive.read_with(&archive.zst, &index).expect_err(&format!("byte {at}"));
        assert_eq!(error.path(), Some(&*index_path(&archive.path)), "byte {at}: {error}");
        let offset = error.offset().unwrap() as usize;
        assert!(offset <= at && at - offset < 8, "byte {at}: {error}");
    }
}

#[test]
fn what_is_cut_is_damage_and_what_is_missing_is_not_needed() {
    let archive = archive(900);
    let end = archive.tables().blocks_len() as usize;
    let cuts = (0..64).chain((64..end).step_by(end / 300 + 1)).chain(end..archive.zst.len());
    for len in cuts {
        let error = archive.read_with(&archive.zst[..len], &archive.index).expect_err(&format!("{len} bytes"));
        assert_eq!((error.kind(), error.path()), (ErrorKind::Damage, Some(&*archive.path)), "{len} bytes: {error}");
    }
    for len in 0..archive.index.len() {
        let error = archive.read_with(&archive.zst, &archive.index[..len]).expect_err(&format!("{len} bytes"));
        assert_eq!(error.path(), Some(&*index_path(&archive.path)), "{len} bytes: {error}");
    }
    // A right index of another file.
    for frames in [901, 1800] {
        let error = archive.read_with(&archive.zst, &self::archive(frames).index).unwrap_err();
        assert_eq!(error.path(), Some(&*index_path(&archive.path)), "{error}");
    }
    for behind in [&[0][..], b"more", &archive.index] {
        let longer = [&archive.index, behind].concat();
        archive.read_with(&archive.zst, &longer).unwrap_err();
        let longer = [&archive.zst, behind].concat();
        archive.read_with(&longer, &archive.index).unwrap_err();
    }
    archive.read_with(&vec![0; archive.zst.len()], &archive.index).unwrap_err();
    archive.read_with(&archive.zst, &vec![0; archive.index.len()]).unwrap_err();
    archive.read_with(b"", b"").unwrap_err();

    write(&archive.sim, &archive.path, &archive.zst);
    archive.sim.remove(&index_path(&archive.path)).unwrap();
    assert!(archive.read().unwrap() == archive.source, "a missing index is no damage");
    assert!(!ColdFile::open(&archive.sim, &archive.path).unwrap().has_index());
}

/// Tables with right checksums that lie: as hostile as they can be made.
#[test]
fn lying_tables_are_refused_before_anything_is_allocated_for_them() {
    let archive = archive(900);
    let honest = archive.tables();
    let blocks = &archive.zst[..honest.blocks_len() as usize];
    let index = |tables: &Tables| tables.index_bytes();
    let with = |change: &dyn Fn(&mut Vec<Block>)| {
        let mut tables = honest.clone();
        change(&mut tables.blocks);
        tables.source_len = tables.blocks.iter().map(|b| u64::from(b.len)).sum();
        let zst = [blocks, &tables.to_bytes()].concat();
        archive.read_with(&zst, &index(&tables)).unwrap_err()
    };
    assert!(archive.read_with(&[blocks, &honest.to_bytes()].concat(), &index(&honest)).unwrap() == archive.source);

    // A block that claims 4 GiB, 1 GiB, one byte less or more than its frame, or nothing.
    for len in [u32::MAX, 1 << 30, honest.blocks[0].len - 1, honest.blocks[0].len + 1, 0] {
        let error = with(&|blocks| blocks[0].len = len);
        assert_eq!(error.kind(), ErrorKind::Damage, "{len}: {error}");
    }
    // Compressed sizes that overlap, leave a hole or reach into the tables.
    for change in [-1i64, 1, 1000] {
        with(&|blocks| blocks[0].compressed_len = (i64::from(blocks[0].compressed_len) + change) as u32);
        with(&|blocks| {
            let last = blocks.len() - 1;
            blocks[last].compressed_len = (i64::from(blocks[last].compressed_len) + change) as u32;
        });
    }
    with(&|blocks| blocks[0].compressed_len = 0);
    with(&|blocks| blocks[0].compressed_len = u32::MAX);
    with(&|blocks| blocks[0].first_seq = 0);
    with(&|blocks| blocks[1].first_seq = 1);
    with(&|blocks| (blocks[1].min_time, blocks[1].max_time) = (2, 1));
    with(&|blocks| blocks[0].compressed_crc ^= 1);
    with(&|blocks| blocks.clear());
    with(&|blocks| {
        blocks.pop();
    });
    with(&|blocks| blocks.push(blocks[0]));

    // The uncompressed checksum is what `verify` and the tier manager look at.
    let mut tables = honest.clone();
    tables.blocks[1].crc ^= 1;
    let zst = [blocks, &tables.to_bytes()].concat();
    assert!(archive.read_with(&zst, &index(&tables)).unwrap() == archive.source);
    let cold = ColdFile::open(&archive.sim, &archive.path).unwrap();
    let error = cold.source_digest(1, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.offset(), Some(honest.blocks[1].compressed_offset));
    assert!(error.to_string().contains("block 1: uncompressed checksum"), "{error}");
}

/// A zstd frame with the right checksum in the tables that is no frame, two frames, or one that becomes more than it
/// says.
#[test]
fn a_block_that_is_not_exactly_its_frame_is_refused() {
    let archive = archive(900);
    let honest = archive.tables();
    let at = honest.blocks[0].compressed_len as usize;
    let compress = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
    let original = &archive.source[..honest.blocks[0].len as usize];
    let half = original.len() / 2;
    let with = |frame: &[u8], len: usize| {
        let mut tables = honest.clone();
        let shift = frame.len() as i64 - at as i64;
        tables.blocks[0].compressed_len = frame.len() as u32;
        tables.blocks[0].compressed_crc = crc32fast::hash(frame);
        tables.source_len = tables.source_len - u64::from(tables.blocks[0].len) + len as u64;
        tables.blocks[0].len = len as u32;
        let mut offset = len as u64;
        for block in &mut tables.blocks[1..] {
            block.compressed_offset = (block.compressed_offset as i64 + shift) as u64;
            block.offset = offset;
            offset += u64::from(block.len);
        }
        let rest = &archive.zst[at..honest.blocks_len() as usize];
        archive.read_with(&[frame, rest, &tables.to_bytes()].concat(), &tables.index_bytes())
    };
    assert!(with(&compress(original), original.len()).unwrap() == archive.source);

    let mut frames = vec![
        ("two frames", [compress(&original[..half]), compress(&original[half..])].concat(), original.len()),
        ("a bomb", compress(&vec![0; 1 << 20]), 1 << 15),
        ("a frame that is cut", compress(original)[..at / 2].to_vec(), original.len()),
        ("no frame", vec![0x55; 1000], original.len()),
        ("a frame of the right size and bytes behind it", [compress(original), vec![0; 9]].concat(), original.len()),
    ];
    // zstd's streaming writer does not tell the size.
    let unsized_frame = zstd::stream::encode_all(original, 1).unwrap();
    frames.push(("a frame without its size", unsized_frame, original.len()));
    // Content size in the header says less than comes out.
    let mut lying = compress(&vec![7; 1 << 20]);
    assert_eq!(lying[4] >> 6, 2, "a four-byte content size");
    lying[5..9].copy_from_slice(&(1u32 << 19).to_le_bytes());
    frames.push(("a frame that lies about its size", lying, 1 << 19));
    for (what, frame, len) in frames {
        let error = with(&frame, len).expect_err(what);
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Damage, Some(0)), "{what}: {error}");
        assert!(error.to_string().contains("block 0: "), "{what}: {error}");
    }
}

/// Random damage, whole sectors of it too, on both files at once. Either an error, or the very bytes that were written.
#[test]
fn random_damage_never_gives_other_bytes() {
    let seed = std::env::var("CHRONICLE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_240_808);
    println!("seed {seed} (CHRONICLE_SEED)");
    let archive = archive(600);
    let mut random = Random(seed);
    let mut refused = 0;
    for round in 0..600 {
        let (mut zst, mut index) = (archive.zst.clone(), archive.index.clone());
        for _ in 0..=random.below(3) {
            let bytes = if random.below(3) == 0 { &mut index } else { &mut zst };
            damage(&mut random, bytes);
        }
        let changed = zst != archive.zst || index != archive.index;
        match archive.read_with(&zst, &index) {
            Ok(bytes) => {
                assert!(bytes == archive.source, "round {round}");
                assert!(!changed, "round {round}: damage that nobody noticed");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damage, "round {round}: {error}");
                refused += 1;
            }
        }
        // The parsers on their own, as fuzzers call them.
        _ = parse_index(&zst);
        _ = parse_tables(&index, random.next());
        _ = parse_tables(&zst, zst.len() as u64 + random.below(2) * random.next() / 4);
    }
    assert!(refused > 500, "{refused}");
}

fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    let len = bytes.len() as u64;
    if len == 0 {
        return;
    }
    // Half of it where the tables are: the end.
    let at = if random.below(2) == 0 { random.below(len) } else { len - 1 - random.below(len.min(400)) } as usize;
    match random.below(6) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes.truncate(at),
        2 => {
            let end = (at + 512).min(bytes.len());
            bytes[at..end].fill(0);
        }
        3 => bytes.extend((0..random.below(40)).map(|i| i as u8)),
        4 => {
            let value = [0, 1, u32::MAX, 1 << 31, random.next() as u32][random.below(5) as usize];
            let end = (at + 4).min(bytes.len());
            bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
        _ => {
            let from = random.below(len) as usize;
            let count = (random.below(64) as usize).min(bytes.len() - from.max(at));
            bytes.copy_within(from..from + count, at);
        }
    }
}
