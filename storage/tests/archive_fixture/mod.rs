//! Sealed files to archive: frames that look like a book's, from a seed.

// Each test file uses its own part.
#![allow(dead_code)]

use chronicle_core::Append;
use chronicle_platform::{File, Open, Platform};
use chronicle_storage::{
    partition::PartitionWriter,
    root::{Date, Name, PartitionId, Stream},
};
use std::path::{Path, PathBuf};

/// The shipped generators are the platform's; a test's numbers only have to differ from one another.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A frame to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) time_ns: u64,
    pub(crate) type_id: u16,
    pub(crate) payload: Vec<u8>,
}

/// `count` rows: deltas of a few levels, a snapshot every `snapshot_every`, times that now and then step back.
pub(crate) fn rows(seed: u64, count: u64, snapshot_every: u64, start_ns: u64) -> Vec<Row> {
    let mut random = Random(seed);
    let mut time_ns = start_ns + 1_000_000_000;
    (0..count)
        .map(|i| {
            let snapshot = i % snapshot_every == 0;
            let levels = if snapshot { 500 } else { 1 + random.below(40) };
            let mut payload = vec![0; 56];
            for level in 0..levels {
                payload.extend_from_slice(&(6_000_000 + level * 10 + random.below(3)).to_le_bytes());
                payload.extend_from_slice(&(random.below(5_000)).to_le_bytes());
            }
            payload.extend_from_slice(b"BTCUSDT");
            time_ns += random.below(3_000_000);
            let back = if random.below(50) == 0 { random.below(2_000_000) } else { 0 };
            Row { time_ns: time_ns - back, type_id: if snapshot { 2 } else { 1 }, payload }
        })
        .collect()
}

pub(crate) fn partition(venue: &str, symbol: &str, date: &str, stream: Stream) -> PartitionId {
    let date: Date = date.parse().unwrap();
    PartitionId::new(Name::new(venue).unwrap(), Name::new(symbol).unwrap(), date, stream)
}

/// Writes and seals a partition's file.
pub(crate) fn seal<P: Platform>(platform: &P, path: &Path, id: &PartitionId, rows: &[Row]) {
    let mut writer = PartitionWriter::create(platform, path, id).unwrap();
    for row in rows {
        let append = Append { time_ns: row.time_ns, type_id: row.type_id, flags: 0 };
        writer.append(append, &row.payload).unwrap();
    }
    writer.seal().unwrap();
}

/// A sealed `book.q` in `dir`, which is made.
pub(crate) fn book<P: Platform>(platform: &P, dir: &Path, rows: &[Row]) -> PathBuf {
    platform.create_dirs(dir).unwrap();
    let path = dir.join("book.q");
    seal(platform, &path, &partition("test", "btcusdt", "2024-08-08", Stream::Book), rows);
    path
}

pub(crate) fn read<P: Platform>(platform: &P, path: &Path) -> Vec<u8> {
    let file = platform.open(path, Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

/// Replaces a file's bytes.
pub(crate) fn write<P: Platform>(platform: &P, path: &Path, bytes: &[u8]) {
    let file = platform.open(path, Open::Ensure).unwrap();
    file.set_len(0).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
}
