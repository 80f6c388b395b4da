//! A cold file gives back the sealed `.q` bit for bit, to us and to everybody else who reads zstd.
//!
//! If it did not, deleting the warm file would lose data. The readers here are ours, the `zstd` command, and the
//! official seekable reader in C.

mod archive_fixture;

use archive_fixture::{Row, book, read, rows};
use chronicle_core::frame::{Decoded, decode};
use chronicle_platform::{Platform, sim::Sim};
use chronicle_storage::{
    Error,
    archive::{ColdFile, Options, compress, index_path, layout, parse_index},
};
use std::path::{Path, PathBuf};

fn options(threads: usize) -> Options {
    Options { threads, ..Options::default() }
}

/// The cold files of these rows on a fresh machine: machine, path of the `.zst`, bytes of the `.q`.
fn archived(rows: &[Row], threads: usize) -> (Sim, PathBuf, Vec<u8>) {
    let sim = Sim::new(7);
    let source = book(&sim, Path::new("/warm"), rows);
    sim.create_dirs(Path::new("/cold")).unwrap();
    compress(&sim, &source, Path::new("/cold"), options(threads), &mut |_, _| {}).unwrap();
    let bytes = read(&sim, &source);
    (sim, "/cold/book.q.zst".into(), bytes)
}

#[test]
fn the_same_bytes_whatever_the_threads() {
    let rows = rows(1, 6000, 400, 0);
    let (sim, path, source) = archived(&rows, 1);
    let (zst, index) = (read(&sim, &path), read(&sim, &index_path(&path)));
    for threads in [2, 3, 8] {
        let (sim, path, _) = archived(&rows, threads);
        assert!(read(&sim, &path) == zst && read(&sim, &index_path(&path)) == index, "{threads} threads");
    }
    for threads in [1, 2, 5] {
        let cold = ColdFile::open(&sim, &path).unwrap();
        let mut out = Vec::new();
        cold.read_all(threads, &mut out).unwrap();
        assert!(out == source, "{threads} threads");
        assert_eq!(cold.blocks_read(), cold.blocks().len() as u64);
        assert_eq!(cold.source_digest(threads, &mut |_, _| {}).unwrap(), cold.tables().source_sha256);
    }
    assert_eq!(sim.list(Path::new("/cold")).unwrap().len(), 2, "nothing temporary is left");
}

/// Where blocks must begin, computed anew from the frames of the whole file.
fn model_cuts(source: &[u8]) -> Vec<(u64, u64, u64, u64, bool)> {
    let header = chronicle_core::Header::parse(source).unwrap();
    let mut cuts = Vec::new();
    let (mut start, mut at) = (0usize, 128usize);
    let mut frames: Vec<(u64, u64, bool)> = Vec::new();
    let mut next_seq = 1;
    loop {
        let left = (source.len() - at) as u64;
        let (snapshot, seq, time, len) =
            match decode(&source[at..], at as u64, left, header.salt, header.checksum).unwrap() {
                Decoded::Frame { header, len, .. } => {
                    (header.type_id.get() == 2, header.seq.get(), header.time_ns.get(), len)
                }
                Decoded::End { .. } => break,
                other => panic!("{other:?}"),
            };
        let pending = at - start;
        let full = pending + len > (1 << 20) - 32;
        if !frames.is_empty() && (full || (snapshot && pending >= 256 << 10)) {
            cuts.push(cut(start, &frames, next_seq));
            (start, frames) = (at, Vec::new());
        }
        frames.push((seq, time, snapshot));
        next_seq = seq + 1;
        at += len;
    }
    cuts.push(cut(start, &frames, next_seq));
    cuts
}

fn cut(start: usize, frames: &[(u64, u64, bool)], next_seq: u64) -> (u64, u64, u64, u64, bool) {
    let times = frames.iter().map(|frame| frame.1);
    let (min, max) = (times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
    let first = frames.first().copied().unwrap_or((next_seq, 0, false));
    (start as u64, first.0, min, max, first.2)
}

#[test]
fn blocks_are_cut_at_frames_and_snapshots_and_say_what_they_hold() {
    let mut big = rows(2, 4000, 300, 0);
    // Larger than a block: one of its own. Then one that exactly fills what is left beside it.
    big[700].payload = vec![3; 3 << 20];
    big[701].payload = vec![4; (1 << 20) - 64];
    big[702].payload = vec![5; (1 << 20) - 65];
    for rows in [rows(1, 5000, 77, 0), rows(1, 5000, 1_000_000, 0), big, rows(5, 1, 1, 0), Vec::new()] {
        let (sim, path, source) = archived(&rows, 2);
        let cold = ColdFile::open(&sim, &path).unwrap();
        let found: Vec<_> = cold
            .blocks()
            .iter()
            .map(|b| (b.offset, b.first_seq, b.min_time, b.max_time, b.opens_with_snapshot))
            .collect();
        assert_eq!(found, model_cuts(&source));
        let mut bytes = Vec::new();
        for (i, block) in cold.blocks().iter().enumerate() {
            cold.verify_block(i, &mut bytes).unwrap();
            let at = block.offset as usize;
            assert!(bytes == source[at..at + block.len as usize], "block {i}");
        }
        assert!(cold.blocks().iter().all(|b| b.len <= layout::BLOCK_SIZE || b.len > 1 << 20));
    }
}

#[test]
fn exactly_the_blocks_of_a_range_are_read() {
    let rows = rows(3, 8000, 400, 0);
    let (sim, path, source) = archived(&rows, 1);
    let cold = ColdFile::open(&sim, &path).unwrap();
    assert!(cold.blocks().len() > 4);
    let tables = cold.tables();
    for (i, row) in rows.iter().enumerate().step_by(97) {
        let seq = i as u64 + 1;
        let block = tables.block_of_seq(seq).unwrap();
        let begins = tables.blocks[block].first_seq;
        let ends = tables.blocks.get(block + 1).map_or(u64::MAX, |b| b.first_seq);
        assert!((begins..ends).contains(&seq));

        // No frame at this time or later stands before the block that is named, and one stands in it.
        let first = tables.first_block_at(row.time_ns).unwrap();
        let before = rows[..tables.blocks[first].first_seq as usize - 1].iter();
        assert!(before.clone().all(|earlier| earlier.time_ns < row.time_ns));
        assert!(first <= block);
        let snapshot = tables.snapshot_block_at(row.time_ns, usize::MAX);
        assert!(
            snapshot.is_none_or(|b| tables.blocks[b].opens_with_snapshot && tables.blocks[b].min_time <= row.time_ns)
        );
    }
    assert_eq!(tables.block_of_seq(0), None);
    assert_eq!(tables.first_block_at(u64::MAX), None);

    assert_eq!(cold.blocks_read(), 0, "tables are not blocks");
    let mut bytes = Vec::new();
    cold.read_block(2, &mut bytes).unwrap();
    assert_eq!((cold.blocks_read(), cold.bytes_read()), (1, u64::from(cold.blocks()[2].compressed_len)));
    assert!(bytes == source[cold.blocks()[2].offset as usize..][..bytes.len()]);
}

#[test]
fn what_is_not_sealed_or_not_whole_is_refused_and_leaves_nothing() {
    let sim = Sim::new(3);
    let source = book(&sim, Path::new("/warm"), &rows(4, 500, 100, 0));
    sim.create_dirs(Path::new("/cold")).unwrap();
    let good = read(&sim, &source);
    let refused = |bytes: &[u8]| {
        archive_fixture::write(&sim, &source, bytes);
        let error = compress(&sim, &source, Path::new("/cold"), options(2), &mut |_, _| {}).unwrap_err();
        assert_eq!(sim.list(Path::new("/cold")).unwrap(), [], "{error}");
        error
    };
    let mut open = good.clone();
    open[92..128].fill(0);
    assert!(matches!(refused(&open), Error::Unsealed { .. }));
    assert_eq!(refused(&good[..good.len() - 1]).offset(), Some(good.len() as u64 - 1));
    assert_eq!(refused(&good[..100]).offset(), Some(0));
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let error = refused(&flipped);
    assert!(error.offset().is_some_and(|at| at > 128 && at <= good.len() as u64 / 2), "{error}");
    let mut longer = good.clone();
    longer.push(0);
    refused(&longer);
    refused(&vec![0; good.len()]);
    refused(b"");
}

/// A disk that fills up or fails ends it with the system's reason, and nothing partial is visible.
#[test]
fn a_failing_disk_leaves_no_cold_file() {
    let (sim, path, _) = archived(&rows(4, 3000, 100, 0), 1);
    let needed = read(&sim, &path).len() as u64;
    let mut reached = 0;
    for k in 1.. {
        let sim = Sim::new(k);
        let source = book(&sim, Path::new("/warm"), &rows(4, 3000, 100, 0));
        sim.create_dirs(Path::new("/cold")).unwrap();
        let failing = sim.operations() + k;
        sim.faults(chronicle_platform::sim::Faults { failing_operation: Some(failing), ..Default::default() });
        let done = compress(&sim, &source, Path::new("/cold"), options(1), &mut |_, _| {});
        if sim.operations() < failing {
            done.unwrap();
            break;
        }
        reached = k;
        let target = Path::new("/cold/book.q.zst");
        if sim.exists(target).unwrap() {
            // Only what follows the rename can have failed.
            ColdFile::open(&sim, target).unwrap().source_digest(1, &mut |_, _| {}).unwrap();
        } else {
            assert!(done.is_err());
        }
    }
    assert!(reached > 10, "{reached}");

    let sim = Sim::new(1);
    let source = book(&sim, Path::new("/warm"), &rows(4, 3000, 100, 0));
    sim.create_dirs(Path::new("/cold")).unwrap();
    let warm = read(&sim, &source).len() as u64;
    let disk_bytes = warm + needed / 2;
    sim.faults(chronicle_platform::sim::Faults { disk_bytes, ..Default::default() });
    let error = compress(&sim, &source, Path::new("/cold"), options(1), &mut |_, _| {}).unwrap_err();
    assert!(matches!(&error, Error::Trouble(t) if t.kind() == chronicle_platform::TroubleKind::NoSpace), "{error:?}");
    assert_eq!(sim.list(Path::new("/cold")).unwrap(), []);
}

#[test]
fn progress_counts_the_source_twice_and_never_goes_back() {
    let sim = Sim::new(3);
    let source = book(&sim, Path::new("/warm"), &rows(4, 5000, 100, 0));
    let len = read(&sim, &source).len() as u64;
    sim.create_dirs(Path::new("/cold")).unwrap();
    let mut seen = vec![(0, 2 * len)];
    compress(&sim, &source, Path::new("/cold"), options(3), &mut |done, total| seen.push((done, total))).unwrap();
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0) && seen.iter().all(|step| step.1 == 2 * len));
    assert_eq!(seen.last(), Some(&(2 * len, 2 * len)));
}

#[test]
fn the_official_seekable_reader_finds_every_offset() {
    let (sim, path, source) = archived(&rows(6, 5000, 300, 0), 2);
    let zst = read(&sim, &path);
    let mut reader = zstd_safe::seekable::Seekable::create();
    reader.init_buff(&zst).unwrap();
    let blocks = ColdFile::open(&sim, &path).unwrap().blocks().to_vec();
    assert_eq!(reader.num_frames() as usize, blocks.len() + 1, "the tables are a frame too");
    for (i, block) in blocks.iter().enumerate() {
        assert_eq!(reader.frame_compressed_offset(i as u32).unwrap(), block.compressed_offset);
        assert_eq!(reader.frame_decompressed_offset(i as u32).unwrap(), block.offset);
        assert_eq!(reader.frame_decompressed_size(i as u32).unwrap(), block.len as usize);
        assert_eq!(reader.offset_to_frame_index(block.offset), i as u32);
    }
    let mut random = archive_fixture::Random(11);
    let mut bytes = Vec::with_capacity(1 << 16);
    for _ in 0..60 {
        let at = random.below(source.len() as u64);
        bytes.clear();
        let read = reader.decompress(&mut bytes, at).unwrap();
        assert_eq!(read, (source.len() - at as usize).min(1 << 16));
        assert!(bytes == source[at as usize..][..read], "offset {at}");
    }
    // And the index says the same in its own words.
    let index = parse_index(&read(&sim, &index_path(&path))).unwrap();
    let expected: Vec<_> = blocks.iter().map(|b| (b.offset, b.compressed_offset, b.compressed_len, b.len)).collect();
    assert_eq!(index.entries, expected);
}

#[test]
#[cfg(target_os = "linux")]
fn the_zstd_command_gives_back_the_sealed_file() {
    let linux = chronicle_platform_linux::Linux;
    let dir = tempfile::tempdir().unwrap();
    let source = book(&linux, dir.path(), &rows(9, 6000, 300, 0));
    let summary = compress(&linux, &source, dir.path(), Options::default(), &mut |_, _| {}).unwrap();
    let zst = dir.path().join("book.q.zst");
    let bytes = read(&linux, &source);
    assert_eq!(summary.source_len, bytes.len() as u64);
    assert_eq!(summary.frames, 6000);
    assert_eq!(
        summary.compressed_len,
        linux.open(&zst, chronicle_platform::Open::Read).map(|f| chronicle_platform::File::len(&f)).unwrap().unwrap()
    );
    let Ok(output) = std::process::Command::new("zstd").arg("-dc").arg(&zst).output() else {
        eprintln!("skipped: no zstd command here");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == bytes);
}

/// The exact bytes of tables, seek table and index, so that another implementation can be checked against them.
#[test]
fn golden_tables() {
    use chronicle_storage::archive::{Block, Tables, parse_tables};
    let block = |offset, len, compressed_offset, compressed_len, first_seq, crc| Block {
        offset,
        len,
        compressed_offset,
        compressed_len,
        first_seq,
        min_time: 10 * first_seq,
        max_time: 10 * first_seq + 5,
        opens_with_snapshot: first_seq == 1,
        crc,
        compressed_crc: crc + 1,
    };
    let tables = Tables {
        blocks: vec![block(0, 1000, 0, 100, 1, 0xAAAA_0001), block(1000, 500, 100, 60, 9, 0xAAAA_0003)],
        source_len: 1500,
        source_sha256: [0x5A; 32],
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let golden_index = "515a535449445831\
        0100180000001000\
        0200000000000000\
        0000000000000000000000000000000064000000e8030000\
        e80300000000000064000000000000003c000000f4010000";
    assert_eq!(hex(&tables.index_bytes()), golden_index);
    let golden_tables = "502a4d1894000000515a424c4f434b53\
        0100200000001000\
        0200000000000000\
        dc05000000000000\
        5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\
        SEEKCRC_00000000\
        01000000000000000a000000000000000f00000000000000010000000100aaaa\
        09000000000000005a000000000000005f00000000000000000000000300aaaa\
        0200aaaa0400aaaa\
        TABLECRC";
    let golden_seek = "5e2a4d1821000000\
        64000000e80300003c000000f40100009c00000000000000\
        0300000000b1ea928f";
    let bytes = tables.to_bytes();
    let unhex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    };
    // The checksums are zlib's CRC-32, computed here over the golden bytes themselves.
    let seek_crc = hex(&crc32fast::hash(&unhex(golden_seek)).to_le_bytes());
    let tables_hex = golden_tables.replace("SEEKCRC_", &seek_crc);
    let covered = tables_hex.trim_end_matches("TABLECRC");
    let crc = hex(&crc32fast::hash(&unhex(covered)).to_le_bytes());
    assert_eq!(hex(&bytes), format!("{covered}{crc}{golden_seek}"));

    // And back; the file's blocks lie in front.
    let mut file = vec![0; 160];
    file.extend_from_slice(&bytes);
    assert_eq!(parse_tables(&file, file.len() as u64).unwrap(), tables);
    assert_eq!(parse_tables(&bytes, file.len() as u64).unwrap(), tables);
}
