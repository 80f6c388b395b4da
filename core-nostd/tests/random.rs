//! Random operations against a `VecDeque`: whatever order they come in, a reader gets exactly what was committed.
//!
//! The region is recycled again and again without being cleaned, as a queue does it, and starts out full of noise.
//! Repeat one run with `CHRONICLE_SEED=<seed>`.
#![cfg(not(loom))]

mod seeded;

use chronicle_core::{
    Append, AppendError, Appended, Appender, Begin, Checksum, Frame, HeapRegion, Reader, Region, RegionMut, Spec, Step,
    frame, layout, prepare, read_seal, store_begin, store_seal,
};
use seeded::{Seeded, seeds};
use std::collections::VecDeque;

#[derive(Debug, PartialEq)]
struct Record {
    seq: u64,
    append: Append,
    offset: u64,
    payload: Vec<u8>,
}

impl Record {
    fn read(frame: &Frame<'_>) -> Self {
        let mut payload = vec![0xee; frame.payload.len()];
        assert_eq!(frame.payload.copy_to(&mut payload).len(), frame.payload.len());
        // Bytes reached one way are the bytes reached another way.
        for (at, word) in payload.chunks_exact(8).enumerate() {
            assert_eq!(frame.payload.u64_at(at * 8), Some(u64::from_le_bytes(word.try_into().unwrap())));
        }
        assert!(!frame.payload.copy_at(payload.len(), &mut [0]));
        let append = Append { time_ns: frame.time_ns, type_id: frame.type_id, flags: frame.flags };
        Record { seq: frame.seq, append, offset: frame.offset, payload }
    }
}

fn any_append(rng: &mut Seeded) -> Append {
    Append { time_ns: rng.next(), type_id: rng.next() as u16, flags: rng.next() as u16 }
}

/// Writes through a claim, in pieces, over and past each other; what is never written is zero.
fn through_claim(
    log: &mut Appender<&HeapRegion>,
    rng: &mut Seeded,
    append: Append,
    len: usize,
    payload: &mut Vec<u8>,
) -> Result<Option<Appended>, AppendError> {
    *payload = vec![0; len];
    let mut claim = log.claim(len)?;
    assert_eq!((claim.len(), claim.is_empty()), (len, len == 0));
    let mut filled = 0;
    for _ in 0..rng.below(6) {
        let at = if rng.below(2) == 0 { filled } else { rng.below(len + 1) };
        let count = rng.below(len - at + 1);
        let bytes = rng.bytes(count);
        if at == filled {
            claim.put(&bytes);
        } else {
            claim.put_at(at, &bytes);
        }
        payload[at..at + bytes.len()].copy_from_slice(&bytes);
        filled = filled.max(at + bytes.len());
    }
    match rng.below(8) {
        0 => claim.abort(),
        1 => drop(claim),
        _ => return Ok(Some(claim.commit(append))),
    }
    Ok(None)
}

/// Every frame of the segment once more, by `frame::decode` over a private copy.
fn decode_all(region: &HeapRegion, log: &Appender<&HeapRegion>, first_seq: u64) {
    let header = *log.header();
    let mut bytes = vec![0; region.len()];
    region.window().copy_out(0, &mut bytes);
    let mut at = layout::HEADER_LEN;
    let mut seq = first_seq;
    loop {
        let left = (bytes.len() - layout::FRAME_HEADER_LEN - at) as u64;
        let window = if left == 0 { break } else { &bytes[at..] };
        match frame::decode(window, at as u64, left, header.salt, header.checksum).unwrap() {
            frame::Decoded::Frame { header, len, .. } => {
                assert_eq!(header.seq.get(), seq);
                seq += 1;
                at += len;
            }
            frame::Decoded::Open => break,
            other => panic!("{other:?} before the log ended"),
        }
    }
    assert_eq!((at, seq), (log.tail() as usize, log.next_seq()));
}

fn run(seed: u64, checksum: Checksum) {
    println!("seed {seed}, {checksum:?}");
    let mut rng = Seeded::new(seed);
    let len = layout::MIN_SEGMENT_LEN + 32 * rng.below(if cfg!(miri) { 8 } else { 100 });
    let region = HeapRegion::new(len);
    region.window_mut().copy_in(0, &rng.bytes(len));

    let mut model: VecDeque<Record> = VecDeque::new();
    let mut next_seq = 1 + rng.next() % (layout::SEQ_END / 2);
    for segment_id in 1..if cfg!(miri) { 3 } else { 12 } {
        let spec = Spec { segment_id, salt: rng.next() as u32, segment_len: len as u32, checksum, ..Spec::default() };
        prepare(&region, &spec).unwrap();
        Reader::attach(&region).expect_err("prepared only");
        store_begin(&region, spec.salt, Begin { first_seq: next_seq });
        let first_seq = next_seq;
        let mut log = Appender::attach(&region).unwrap();
        let mut reader = Reader::attach(&region).unwrap();
        let mut written: Vec<(Appended, u64)> = Vec::new();
        loop {
            assert_eq!((log.next_seq(), log.left()), (next_seq, len - 32 - log.tail() as usize));
            let append = any_append(&mut rng);
            let size = if rng.below(20) == 0 { len } else { 200 };
            let mut payload = Vec::new();
            let outcome = match rng.below(10) {
                0..=3 => {
                    let size = rng.below(size);
                    payload = rng.bytes(size);
                    log.append(append, &payload).map(Some)
                }
                4..=5 => {
                    let size = rng.below(size);
                    through_claim(&mut log, &mut rng, append, size, &mut payload)
                }
                6 => {
                    // The writer dies and another goes on where a reader finds the end.
                    let start = rng.below(written.len() + 1);
                    let mut scout = match written.get(start) {
                        Some((known, _)) => Reader::attach_at(&region, known.offset, known.seq).unwrap(),
                        None => Reader::attach(&region).unwrap(),
                    };
                    let before = written[..start].iter().map(|(_, time)| *time);
                    let before = (before.clone().min().unwrap_or(u64::MAX), before.max().unwrap_or(0));
                    while let Step::Frame(_) = scout.step_verified().unwrap() {}
                    assert_eq!((scout.mark().offset(), scout.mark().next_seq()), (log.tail(), next_seq));
                    log = Appender::resume(&region, &scout.mark().including(before.0, before.1));
                    continue;
                }
                7 => {
                    decode_all(&region, &log, first_seq);
                    continue;
                }
                _ => {
                    for _ in 0..rng.below(8) {
                        let ready = reader.is_ready();
                        let step = if rng.below(2) == 0 { reader.step() } else { reader.step_verified() };
                        match (step.unwrap(), model.pop_front()) {
                            (Step::Frame(frame), Some(expected)) => assert_eq!(Record::read(&frame), expected),
                            (Step::Open, None) => assert!(!ready),
                            (step, expected) => panic!("{step:?} where {expected:?} was appended"),
                        }
                    }
                    continue;
                }
            };
            match outcome {
                Ok(Some(appended)) => {
                    assert_eq!(appended.seq, next_seq);
                    next_seq += 1;
                    written.push((appended, append.time_ns));
                    model.push_back(Record { seq: appended.seq, append, offset: appended.offset.into(), payload });
                }
                Ok(None) => {}
                Err(AppendError::TooLarge { len: asked, max }) => assert!(asked > max),
                Err(AppendError::Full { needed, left }) => {
                    assert!(needed > left && left == log.left());
                    if rng.below(3) == 0 {
                        break;
                    }
                }
            }
        }
        log.end();
        let seal = log.seal();
        store_seal(&region, spec.salt, seal);
        while let Some(expected) = model.pop_front() {
            let Step::Frame(frame) = reader.step_verified().unwrap() else { panic!("{expected:?} was appended") };
            assert_eq!(Record::read(&frame), expected);
        }
        assert!(matches!(reader.step_verified(), Ok(Step::End { next_seq: next }) if next == next_seq));
        assert_eq!(reader.mark().seal(), Some(seal));
        assert_eq!(read_seal(region.window(), spec.salt), Some(seal));
        // A gap in the numbers, as after a crash of the machine, is for the begin field to make.
        next_seq += rng.next() % 3;
    }
}

#[test]
fn a_reader_gets_what_was_committed_with_frame_checksums() {
    for seed in seeds(if cfg!(miri) { 1 } else { 60 }) {
        run(seed, Checksum::Frame);
    }
}

#[test]
fn a_reader_gets_what_was_committed_with_commit_words_only() {
    for seed in seeds(if cfg!(miri) { 1 } else { 60 }) {
        run(seed, Checksum::CommitWord);
    }
}
