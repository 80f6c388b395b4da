//! The bytes of WAL format version 1 must never change: logs that exist are read for ten years.
//!
//! `golden/v1_wal_segment.bin` is what the first release wrote: a segment that took over from another, with a frame of
//! each kind, closed. The test writes the same again and compares, then reads the old bytes back. `docs/format.md` takes
//! its example from the same bytes, and `ci/reader.py` reads them. To write a new version's file beside it, run the test
//! once with `CHRONICLE_WRITE_GOLDEN=1`.
#![cfg(not(loom))]

mod wal_disk;

use chronicle_core::HeapRegion;
use chronicle_core::wal::{
    Batch, Carry, Config, Header, Kind, Machine, Position, Start, SyncBy, Truncation, layout, salt,
};
use std::{path::PathBuf, sync::Arc};
use wal_disk::{Disk, Owned, read};

const BLOCK: u32 = 512;

fn config() -> Config {
    Config {
        block_size: BLOCK,
        batch_len: 2 * BLOCK,
        segment_len: 8 * u64::from(BLOCK),
        depth: 1,
        sync: SyncBy::Write,
        carry_len: 256,
        #[cfg(feature = "planted")]
        planted: chronicle_core::wal::Planted::NONE,
    }
}

fn segment() -> Vec<u8> {
    let config = config();
    let region = Arc::new(HeapRegion::new(layout(&config).unwrap().size()));
    let durable = Position { segment: 6, offset: 8192 };
    let start = Start {
        wal_id: *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff",
        segment_id: 7,
        predecessor: durable,
        first_seq: 41,
        epoch: 3,
        salt_seed: 5,
        durable,
        durable_seq: 40,
        carry: Carry {
            vote: Some(b"for 1"),
            meta: Some(b"applied 38"),
            truncations: &[Truncation { after: 30, at: 33 }],
        },
    };
    let mut log = Machine::begin(Arc::clone(&region), config, &start).unwrap();
    let mut disk = Disk::new(&region);
    disk.prepare(&Header { created_ns: 1_723_161_255_088_176_367, ..log.header() });
    // Empty, short, longer than what is left of the first block.
    log.append(b"").unwrap();
    log.append(b"hello").unwrap();
    log.append(&(0..400).map(|at| at as u8).collect::<Vec<u8>>()).unwrap();
    log.demand_all();
    disk.settle(&mut log);
    log.append_control(Kind::Vote, b"for 2").unwrap();
    log.append_control(Kind::Meta, b"applied 42").unwrap();
    log.append_control(Kind::Truncate, &[&42u64.to_le_bytes()[..], b"why"].concat()).unwrap();
    log.append(b"after").unwrap();
    log.demand_all();
    disk.settle(&mut log);
    // A batch that leaves less than a frame behind its last one: eleven zeros and no pad frame.
    log.append(&[0xee; 512 - 57 - 17 - 11]).unwrap();
    log.close();
    disk.settle(&mut log);
    assert!(log.is_closed());
    disk.files[&7].media.clone()
}

#[test]
fn a_segment_is_what_the_first_release_wrote() {
    let made = segment();
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1_wal_segment.bin"));
    if std::env::var_os("CHRONICLE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let differs = kept.iter().zip(&made).position(|(kept, made)| kept != made);
    assert!(kept == made, "v1_wal_segment.bin differs from byte {differs:?} on: the format changed");

    let header = Header::parse(&kept).unwrap();
    assert_eq!((header.segment_id, header.first_seq, header.epoch, header.salt), (7, 41, 3, salt(5, 7)));
    assert_eq!(header.predecessor(), Position { segment: 6, offset: 8192 });
    assert_eq!(header.to_bytes(), kept[..128]);
    let found = read(&[(7, &kept)]);
    assert!(found.closed);
    let frame = |seq, kind, payload: &[u8]| Owned { seq, kind, payload: payload.to_vec() };
    assert_eq!(
        found.frames,
        [
            frame(41, Kind::Data, b""),
            frame(42, Kind::Data, b"hello"),
            frame(43, Kind::Data, &(0..400).map(|at| at as u8).collect::<Vec<u8>>()),
            frame(44, Kind::Vote, b"for 2"),
            frame(44, Kind::Meta, b"\x06\0\0\0\x0a\0\0\0applied 42\0\0"),
            frame(44, Kind::Truncate, b"\x2a\0\0\0\0\0\0\0why"),
            frame(44, Kind::Data, b"after"),
            frame(45, Kind::Data, &[0xee; 427]),
        ]
    );
    assert_eq!((found.vote.as_deref(), found.meta.as_deref()), (Some(&b"for 2"[..]), Some(&b"applied 42"[..])));
    assert_eq!(found.truncations, [Truncation { after: 30, at: 33 }, Truncation { after: 42, at: 44 }]);
    assert_eq!(found.end, Position { segment: 7, offset: 6 * 512 });

    // Every single byte of a batch is under a checksum or required to be zero.
    let whole = found.frames.len();
    for at in BLOCK as usize..found.end.offset as usize {
        let mut flipped = kept.clone();
        flipped[at] ^= 0x40;
        let found = read(&[(7, &flipped)]);
        assert!(found.fault.is_some() && !found.closed, "byte {at} may be anything");
        assert!(found.frames.len() <= whole);
    }
    // Each of the header block too.
    for at in 0..BLOCK as usize {
        let mut flipped = kept[..BLOCK as usize].to_vec();
        flipped[at] ^= 0x40;
        assert!(Header::parse(&flipped).is_err(), "byte {at} may be anything");
    }
    // And no batch is accepted that is not all there.
    for at in (BLOCK as usize..found.end.offset as usize).step_by(BLOCK as usize) {
        if let Ok(batch) = Batch::parse(&kept[at..], at as u64, &header) {
            let len = batch.head().len as usize;
            assert!(Batch::parse(&kept[at..at + len], at as u64, &header).is_ok());
            assert!(Batch::parse(&kept[at..at + len - 1], at as u64, &header).is_err());
        }
    }
}

/// The worked example of `docs/format.md`: what it prints is what the code writes.
#[test]
fn the_document_shows_these_bytes() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/format.md")).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let all = segment();
    let dump = &text[text.find("<!-- golden: v1_wal_segment.bin -->").expect("the marked example")..];
    for at in (0..128).chain(512..688).chain(1088..1120).chain(2560..2640).step_by(16) {
        let line = format!("{at:4}  {}", hex(&all[at..at + 16]));
        assert!(dump.contains(&line), "docs/format.md lacks the line\n{line}");
    }
    let mut crc = crc32fast::Hasher::new_with_initial(salt(5, 7));
    crc.update(&all[663..681]);
    assert_eq!(crc.finalize(), 0x2429_8220);
}
