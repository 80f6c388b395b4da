//! The bytes of a ring of many producers must never change within a version: programs of two releases share one.
//!
//! To write the file anew after a deliberate change of format, run once with `CHRONICLE_WRITE_GOLDEN=1`.
#![cfg(not(loom))]

use chronicle_core::{
    HeapRegion, Region, RegionMut,
    ring::{
        self, Identity, Kind,
        mpsc::{Consumer, Producer, Reaped, Spec, format, len},
    },
    wake::Mode,
};
use std::path::PathBuf;

const CAPACITY: usize = 256;

fn spec() -> Spec {
    let ring_id = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
    let identity = Identity { ring_id, created_ns: 1_723_161_255_088_176_367 };
    Spec { capacity: CAPACITY, producers: 3, wake_mode: Mode::Asymmetric, identity }
}

/// One frame released; two that wait, from two producers, with a pad and an open claim between; one slot used before.
fn ring() -> HeapRegion {
    let region = HeapRegion::new(len(CAPACITY, 3).unwrap());
    format(&region, &spec()).unwrap();
    let mut consumer = Consumer::attach(&region).unwrap();
    drop(Producer::register(&region).unwrap());
    let mut left = Producer::register(&region).unwrap();
    let mut right = Producer::register(&region).unwrap();
    left.push(b"released").unwrap();
    consumer.step().unwrap().unwrap();
    consumer.release();
    left.push(b"hello").unwrap();
    right.claim(20).unwrap().abort();
    let mut claim = right.claim(9).unwrap();
    claim.put(b"open");
    std::mem::forget(claim);
    left.push(b"").unwrap();
    let _ = consumer.mark_sleeper();
    // As they were when the program was killed.
    std::mem::forget((left, right));
    region
}

#[test]
fn a_ring_with_frames_a_pad_and_an_open_claim() {
    let made = ring();
    let mut bytes = vec![0; made.len()];
    made.window().copy_out(0, &mut bytes);
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1_ring_mpsc.bin"));
    if std::env::var_os("CHRONICLE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &bytes).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let differs = kept.iter().zip(&bytes).position(|(kept, made)| kept != made);
    assert!(kept == bytes, "v1_ring_mpsc.bin differs from byte {differs:?} on: the format changed");

    // docs/format.md, stated once more in numbers.
    let word = |at: usize| u32::from_le_bytes(kept[at..at + 4].try_into().unwrap());
    let data = 640 + 3 * 128;
    assert_eq!(kept.len(), data + CAPACITY);
    assert_eq!((word(128), word(132), word(256), word(260)), (96, 0, 16, 0), "tail and head");
    assert_eq!((word(384), word(408), word(416)), (1, 16, 1), "the second mark counts: position 16, one frame");
    assert_eq!((word(512), word(516), word(520)), (1, 0, 1), "somebody sleeps; asymmetric");
    assert_eq!([0, 1, 2].map(|slot| word(640 + 128 * slot)), [3, 1, 0], "second owner, first owner, free");
    assert_eq!((word(data), word(data + 8)), (0, 0), "what was released is zero");
    assert_eq!((word(data + 16), &kept[data + 24..data + 29]), (6, &b"hello"[..]));
    assert_eq!(word(data + 32), 1 << 30 | 4, "a pad of four units");
    assert_eq!((word(data + 64), &kept[data + 72..data + 76]), (1 << 31 | 1 << 25 | 3, &b"open"[..]));
    assert_eq!((word(data + 88), word(data + 96)), (1, 0), "an empty frame, and nobody behind it");

    // A program of today takes part: the open claim's owner is dead.
    let region = HeapRegion::new(kept.len());
    region.window_mut().copy_in(0, &kept);
    let header = ring::header(&region).unwrap();
    assert_eq!((header.kind, header.capacity, header.unit), (Kind::Mpsc, CAPACITY as u32, 3));
    assert_eq!(header.identity, spec().identity);
    let mut consumer = Consumer::attach(&region).unwrap();
    assert_eq!(consumer.wake_mode(), Mode::Asymmetric);
    assert_eq!(consumer.step().unwrap().map(|frame| (frame.seq, frame.payload.len())), Some((2, 5)));
    assert!(consumer.step().unwrap().is_none());
    assert_eq!(consumer.reap(|_, _| false).unwrap(), Reaped { claims: 1, slots: 2, ..Reaped::default() });
    assert_eq!(consumer.step().unwrap().map(|frame| (frame.seq, frame.payload.len())), Some((3, 0)));
    consumer.release();
    assert_eq!(consumer.occupancy().unwrap().used, 0);
    assert_eq!(Producer::register(&region).unwrap().incarnation(), 2);
}
