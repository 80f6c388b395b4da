//! The bytes of format version 1 must never change: files that exist are read for ten years.
//!
//! `golden/` holds what the first release wrote. Each test writes the same again and compares, then reads the old bytes
//! back. After a deliberate change of format there is a *new* version and a new file beside these; to write it, run the
//! tests once with `CHRONICLE_WRITE_GOLDEN=1`.
#![cfg(not(loom))]

use chronicle_core::{
    Append, Appender, Begin, Checksum, Clock, HeapRegion, Reader, Region, RegionMut, Spec, Step, frame, header, layout,
    prepare, read_begin, read_seal, store_begin, store_seal,
};
use std::path::PathBuf;

const LEN: usize = 512;

fn spec(checksum: Checksum) -> Spec {
    Spec {
        queue_id: *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff",
        segment_id: 7,
        epoch: 3,
        salt: 0x5a17_0001,
        predecessor_id: 6,
        predecessor_end: 4096,
        created_ns: 1_723_161_255_088_176_367,
        segment_len: LEN as u32,
        clock: if checksum == Checksum::Frame { Clock::Ingest } else { Clock::Exchange },
        checksum,
    }
}

/// What the tests append: empty, short, with an odd tail, with a whole slot.
fn frames() -> Vec<(Append, Vec<u8>)> {
    vec![
        (Append { time_ns: 1_723_161_256_299_000_000, type_id: 1, flags: 0 }, Vec::new()),
        (Append { time_ns: 1_723_161_256_299_000_001, type_id: 2, flags: 0x8001 }, b"hello".to_vec()),
        (Append { time_ns: 1_723_161_256_298_999_999, type_id: 0xffff, flags: 0xffff }, (0..32).collect()),
    ]
}

fn sealed(checksum: Checksum) -> HeapRegion {
    let region = HeapRegion::new(LEN);
    // A recycled region: what is behind `End` belongs to nobody, but must not depend on chance here.
    for at in (0..LEN).step_by(4) {
        region.window_mut().store(at, 0);
    }
    let spec = spec(checksum);
    prepare(&region, &spec).unwrap();
    store_begin(&region, spec.salt, Begin { first_seq: 41 });
    let mut log = Appender::attach(&region).unwrap();
    for (append, payload) in frames() {
        log.append(append, &payload).unwrap();
    }
    log.end();
    let seal = log.seal();
    store_seal(&region, spec.salt, seal);
    region
}

fn bytes(region: &HeapRegion) -> Vec<u8> {
    let mut all = vec![0; region.len()];
    region.window().copy_out(0, &mut all);
    all
}

fn compare(name: &str, made: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).join(name);
    if std::env::var_os("CHRONICLE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let differs = kept.iter().zip(made).position(|(kept, made)| kept != made);
    assert!(kept == made, "{name} differs from byte {differs:?} on: the format changed");
    kept
}

fn read_back(kept: &[u8], checksum: Checksum) {
    let region = HeapRegion::new(kept.len());
    region.window_mut().copy_in(0, kept);
    let spec = spec(checksum);
    let read = header(region.window()).unwrap();
    assert_eq!(read.queue_id, spec.queue_id);
    assert_eq!((read.segment_id, read.epoch, read.salt), (7, 3, 0x5a17_0001));
    assert_eq!((read.predecessor_id, read.predecessor_end), (6, 4096));
    assert_eq!((read.created_ns, read.segment_len), (1_723_161_255_088_176_367, LEN as u32));
    assert_eq!((read.clock, read.checksum, read.ro_compat), (spec.clock, checksum, 0));
    assert_eq!(read_begin(region.window(), read.salt), Some(Begin { first_seq: 41 }));

    let mut reader = Reader::attach(&region).unwrap();
    for (at, (append, payload)) in frames().into_iter().enumerate() {
        let Step::Frame(frame) = reader.step_verified().unwrap() else { panic!("frame {at}") };
        let mut read = vec![0; frame.payload.len()];
        frame.payload.copy_to(&mut read);
        assert_eq!((frame.seq, read), (41 + at as u64, payload));
        assert_eq!(Append { time_ns: frame.time_ns, type_id: frame.type_id, flags: frame.flags }, append);
    }
    assert!(matches!(reader.step_verified(), Ok(Step::End { next_seq: 44 })));
    assert_eq!(read_seal(region.window(), read.salt), reader.mark().seal());
}

#[test]
fn a_sealed_segment_with_frame_checksums() {
    let kept = compare("v1_sealed_frame_crc.bin", &bytes(&sealed(Checksum::Frame)));
    read_back(&kept, Checksum::Frame);
}

#[test]
fn a_sealed_segment_with_commit_words_only() {
    let kept = compare("v1_sealed_commit_word.bin", &bytes(&sealed(Checksum::CommitWord)));
    read_back(&kept, Checksum::CommitWord);
}

#[test]
fn a_prepared_header_has_no_late_fields() {
    let kept = compare("v1_prepared.bin", &spec(Checksum::Frame).to_bytes());
    let region = HeapRegion::new(LEN);
    region.window_mut().copy_in(0, &kept);
    let read = header(region.window()).unwrap();
    assert_eq!((read_begin(region.window(), read.salt), read_seal(region.window(), read.salt)), (None, None));
    Reader::attach(&region).unwrap_err();
}

/// A partition is written through a buffer by `frame::header`, a segment by `Appender`: a frame is the same bytes.
#[test]
fn buffered_frames_are_the_same_bytes_as_appended_ones() {
    for checksum in [Checksum::Frame, Checksum::CommitWord] {
        let salt = spec(checksum).salt;
        let mut buffer = Vec::new();
        for (at, (append, payload)) in frames().into_iter().enumerate() {
            let header = frame::header(append, 41 + at as u64, &payload, salt, checksum).unwrap();
            buffer.extend_from_slice(zerocopy::IntoBytes::as_bytes(&header));
            buffer.extend_from_slice(&payload);
            buffer.resize(buffer.len().next_multiple_of(layout::FRAME_ALIGN), 0);
        }
        buffer.extend_from_slice(zerocopy::IntoBytes::as_bytes(&frame::end(44, salt, checksum)));
        assert_eq!(buffer, bytes(&sealed(checksum))[layout::HEADER_LEN..][..buffer.len()]);
    }
}

/// The worked example of `docs/format.md`, frames: what it prints is what the code writes.
#[test]
fn the_document_shows_these_bytes() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/format.md")).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let all = bytes(&sealed(Checksum::Frame));
    let dump = &text[text.find("<!-- golden: v1_sealed_frame_crc.bin -->").expect("the marked example")..];
    for at in (0..336).step_by(16) {
        let line = format!("{at:4}  {}", hex(&all[at..at + 16]));
        assert!(dump.contains(&line), "docs/format.md lacks the line\n{line}");
    }
}
