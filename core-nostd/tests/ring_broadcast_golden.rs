//! The bytes of a broadcast ring, as drawn in `docs/format.md`: a reader of another release, or in another language, must
//! find what this one wrote.
//!
//! To write the file after a deliberate change of format, run once with `CHRONICLE_WRITE_GOLDEN=1`.
#![cfg(not(loom))]

use chronicle_core::{
    HeapRegion, Region, RegionMut,
    ring::{
        Identity,
        broadcast::{self, Reader, Received, Spec, Start, Writer, format},
    },
};
use std::path::PathBuf;

const CAPACITY: usize = 128;

fn spec() -> Spec {
    let ring_id = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
    Spec {
        capacity: CAPACITY,
        identity: Identity { ring_id, created_ns: 1_723_161_255_088_176_367 },
        ..Spec::default()
    }
}

/// Into a second lap: a message of odd length, one of none, one of a quarter of the ring; a pad before the last one.
fn messages() -> Vec<Vec<u8>> {
    vec![b"hello".to_vec(), Vec::new(), (0..24).collect(), vec![0xee; 24], vec![0x77; 16], (100..124).collect()]
}

fn written() -> HeapRegion {
    let region = HeapRegion::new(broadcast::len(CAPACITY).unwrap());
    format(&region, &spec()).unwrap();
    let mut writer = Writer::attach(&region).unwrap();
    for message in messages() {
        writer.push(&message).unwrap();
    }
    region
}

fn golden() -> Vec<u8> {
    let region = written();
    let mut made = vec![0; region.len()];
    region.window().copy_out(0, &mut made);
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1_ring_broadcast.bin"));
    if std::env::var_os("CHRONICLE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let differs = kept.iter().zip(&made).position(|(kept, made)| kept != made);
    assert!(kept == made, "the file differs from byte {differs:?} on: the format changed");
    kept
}

#[test]
#[cfg_attr(miri, ignore = "reads a file")]
fn the_bytes_are_those_of_version_1() {
    let kept = golden();
    let word = |at: usize| u32::from_le_bytes(kept[at..at + 4].try_into().unwrap());
    // Stated a second time, from docs/format.md and by hand.
    assert_eq!(&kept[..8], b"CHRONRNG");
    assert_eq!((kept[10], word(16), word(20)), (4, 128, 0));
    // Frames of 16, 8, 32, 32, 24: the sixth, of 32, does not fit into the 16 that are left.
    assert_eq!(
        (word(128), word(132)),
        (176, 0),
        "the tail is 160: its commit word ends at 168, in the block up to 176"
    );
    let entry = |block: usize| (word(384 + block * 16), word(384 + block * 16 + 8));
    assert_eq!(entry(0), (1 << 8 | 1, 6), "the second lap's");
    assert_eq!(entry(1), (0, 2), "and its message covers this block");
    assert_eq!(entry(2), (1 << 8 | 1, 7));
    assert_eq!(entry(3), (2 << 8, 4));
    assert_eq!(entry(7), (1 << 8, 6), "the pad begins there");
    assert_eq!((word(896), word(900)), (25, 6));
    assert_eq!((word(896 + 32), word(896 + 112), word(896 + 116)), (0, u32::MAX, 6));
}

#[test]
#[cfg_attr(miri, ignore = "reads a file")]
fn what_version_1_wrote_is_read_and_gone_on_with() {
    let kept = golden();
    let region = HeapRegion::new(kept.len());
    region.window_mut().copy_in(0, &kept);
    let mut reader = Reader::attach(&region, Start::Seq(1)).unwrap();
    let Ok(Received::Lapped { resume_seq, .. }) = reader.receive(&mut []) else { panic!("1 is overwritten") };
    let mut buffer = [0; 24];
    for seq in resume_seq..=6 {
        let expected = &messages()[seq as usize - 1];
        assert_eq!(reader.receive(&mut buffer), Ok(Received::Message { seq, len: expected.len() }));
        assert_eq!(&buffer[..expected.len()], expected);
    }
    assert_eq!(reader.receive(&mut buffer), Ok(Received::Empty));
    let mut writer = Writer::attach(&region).unwrap();
    assert_eq!(writer.header().identity, spec().identity);
    assert_eq!(writer.push(b"more"), Ok(7));
    assert_eq!(reader.receive(&mut buffer), Ok(Received::Message { seq: 7, len: 4 }));
}
