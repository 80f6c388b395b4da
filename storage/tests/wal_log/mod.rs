//! Logs to be damaged: written by the writer that ships, changed through plain files.
#![allow(dead_code, reason = "each test file uses its part")]

use chronicle_core::wal::{Batch, Header};
use chronicle_platform::{File, Open, Platform, sim::Sim};
use chronicle_storage::wal::{Options, ReaderOptions, Threads, Wal, WalReader};
use std::path::{Path, PathBuf};

/// Small segments; every step is the test's.
pub(crate) fn small() -> Options {
    Options {
        block_size: 512,
        batch_len: 2048,
        segment_len: 8 << 10,
        depth: 2,
        carry_len: 256,
        threads: Threads::Callers,
        ..Options::default()
    }
}

/// Of every length from none to some that need more than one block.
pub(crate) fn payload(seq: u64) -> Vec<u8> {
    (0..seq * 37 % 700).map(|n| (seq * 31 + n) as u8).collect()
}

/// Appends records up to `last`, each committed by itself.
pub(crate) fn write<P: Platform>(wal: &Wal<P>, last: u64) {
    for seq in wal.next_seq()..=last {
        assert_eq!(wal.append(&payload(seq)), Ok(seq));
        wal.commit(seq).unwrap();
    }
}

/// A log of so many records.
pub(crate) fn log<P: Platform>(platform: &P, dir: &Path, last: u64, close: bool) {
    let (wal, _) = Wal::open(platform, dir, &small()).unwrap();
    write(&wal, last);
    if close {
        wal.close().unwrap();
    }
}

/// Opens the log, lets it go, and tells the last record; every record is what was appended.
pub(crate) fn reopen<P: Platform>(platform: &P, dir: &Path) -> u64 {
    let (wal, recovery) = Wal::open(platform, dir, &small()).unwrap();
    assert_eq!(recovery.records(), recovery.next_seq - recovery.first_seq);
    drop(wal);
    let last = check(platform, dir, recovery.first_seq);
    assert_eq!(last, recovery.next_seq - 1, "{recovery}");
    last
}

/// Reads all records from `from` on, and tells the last one.
pub(crate) fn check<P: Platform>(platform: &P, dir: &Path, from: u64) -> u64 {
    let mut reader = WalReader::open(platform, dir, from, ReaderOptions::default()).unwrap();
    let mut next = reader.next_seq();
    while let Some(record) = reader.next().unwrap() {
        assert_eq!((record.seq, record.payload), (next, &payload(next)[..]));
        next += 1;
    }
    next - 1
}

pub(crate) fn segments<P: Platform>(platform: &P, dir: &Path) -> Vec<PathBuf> {
    let names = platform.list(dir).unwrap().into_iter().map(|entry| entry.name);
    names.filter(|name| name.ends_with(".wal")).map(|name| dir.join(name)).collect()
}

pub(crate) fn bytes<P: Platform>(platform: &P, path: &Path) -> Vec<u8> {
    let file = platform.open(path, Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    let mut have = 0;
    while have < bytes.len() {
        have += file.read_at(&mut bytes[have..], have as u64).unwrap();
    }
    bytes
}

pub(crate) fn put<P: Platform>(platform: &P, path: &Path, offset: u64, bytes: &[u8]) {
    platform.open(path, Open::Write).unwrap().write_at(bytes, offset).unwrap();
}

pub(crate) fn flip<P: Platform>(platform: &P, path: &Path, offset: u64, bits: u8) {
    let byte = bytes(platform, path)[offset as usize];
    put(platform, path, offset, &[byte ^ bits]);
}

/// Where a record stands.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) path: PathBuf,
    pub(crate) seq: u64,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// Its batch.
    pub(crate) batch: std::ops::Range<u64>,
}

/// Where the records of a log stand that has had no takeover.
pub(crate) fn records<P: Platform>(platform: &P, dir: &Path) -> Vec<Placed> {
    let mut placed = Vec::new();
    for path in segments(platform, dir) {
        let bytes = bytes(platform, &path);
        let header = Header::parse(&bytes).unwrap();
        let mut at = u64::from(header.block_size);
        while let Ok(batch) = Batch::parse(&bytes[at as usize..], at, &header) {
            for frame in batch.frames().flatten() {
                if frame.kind == chronicle_core::wal::Kind::Data {
                    placed.push(Placed {
                        path: path.clone(),
                        seq: frame.seq,
                        offset: frame.offset,
                        len: frame.payload.len() as u64 + 17,
                        batch: at..batch.head().end(),
                    });
                }
            }
            at = batch.head().end();
            if at == header.segment_len {
                break;
            }
        }
    }
    placed
}

/// The same files on another machine.
pub(crate) fn copy<P: Platform>(platform: &P, dir: &Path) -> Sim {
    let sim = Sim::new(1);
    sim.create_dirs(dir).unwrap();
    for entry in platform.list(dir).unwrap() {
        if !entry.is_dir && !entry.name.ends_with(".lock") && entry.name != "state.meta" {
            let bytes = bytes(platform, &dir.join(&entry.name));
            sim.open(&dir.join(&entry.name), Open::Create).unwrap().write_at(&bytes, 0).unwrap();
        }
    }
    sim
}
