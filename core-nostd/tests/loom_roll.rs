//! The roll: a reader that comes to the end of a segment finds the next one, already part of the stream.
//!
//! The writer stores the next segment's begin field, then commits `End`. In the other order a reader can see `End` and
//! find a segment that is only prepared: the last model has them so, and must fail.
#![cfg(loom)]

mod models;

use chronicle_core::{Append, Appender, Checksum, HeapRegion, Reader, Region, Spec, Step, format, header, prepare};
use loom::thread;
use models::{check, must_fail};
use std::sync::Arc;

const LEN: u32 = 512;

fn spec(segment_id: u64) -> Spec {
    Spec { segment_id, segment_len: LEN, checksum: Checksum::CommitWord, ..Spec::default() }
}

/// The current segment with one frame in it, and the next one: recycled, prepared, its old begin field wiped.
fn segments() -> (Arc<HeapRegion>, Arc<HeapRegion>) {
    let (current, next) = (Arc::new(HeapRegion::new(LEN as usize)), Arc::new(HeapRegion::new(LEN as usize)));
    format(&current, &spec(1)).unwrap();
    format(&next, &spec(1)).unwrap();
    let mut old = Appender::attach(&next).unwrap();
    while old.append(Append { time_ns: 666, ..Append::default() }, &[]).is_ok() {}
    prepare(&next, &spec(2)).unwrap();
    (current, next)
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    BeginThenEnd,
    EndThenBegin,
}

fn roll(order: Order) {
    let (current, next) = segments();
    let mut log = Appender::attach(current.clone()).unwrap();
    let mut reader = Reader::attach(current).unwrap();
    let header = header(next.window()).unwrap();
    let writer = {
        let next = next.clone();
        thread::spawn(move || {
            log.append(Append { time_ns: 1, ..Append::default() }, &[]).unwrap();
            let next_seq = log.next_seq();
            if order == Order::EndThenBegin {
                log.end();
            }
            let mut new = Appender::begin(next, header, next_seq);
            log.end();
            new.append(Append { time_ns: 2, ..Append::default() }, &[]).unwrap();
        })
    };
    let mut rolled = false;
    let mut seen = 0;
    let mut looks = 0;
    let mut writer = Some(writer);
    loop {
        match reader.step().expect("no damage on any schedule") {
            Step::Frame(frame) => {
                seen += 1;
                assert_eq!((frame.seq, frame.time_ns), (seen, seen));
            }
            Step::End { next_seq } => {
                assert!(!rolled && next_seq == seen + 1);
                reader = Reader::attach(next.clone()).expect("whoever sees `End` finds the next segment begun");
                assert_eq!(reader.mark().first_seq(), next_seq);
                assert_eq!(reader.header().segment_id, 2);
                rolled = true;
            }
            Step::Open if looks < 2 => looks += 1,
            Step::Open => match writer.take() {
                Some(writer) => writer.join().unwrap(),
                None => break,
            },
        }
    }
    assert!(rolled && seen == 2, "both frames, one on either side of the roll");
}

#[test]
fn whoever_sees_end_finds_the_next_segment_begun() {
    check(None, || roll(Order::BeginThenEnd));
}

#[test]
fn twin_end_before_begin_leaves_a_reader_before_a_segment_that_is_only_prepared() {
    must_fail(|| check(None, || roll(Order::EndThenBegin)));
}
