//! Append and read, on every schedule and with every value that the memory model lets a load return.
//!
//! The region is recycled: full of frames that were good once, with the very seqs that are due. A reader must see each
//! new frame whole, an open word behind it, and never an old one. `docs/protocols.md` argues why; the last two models
//! take the argument's two legs away and must fail.
#![cfg(loom)]

mod models;

use chronicle_core::{
    Append, Appender, Begin, Checksum, HeapRegion, Reader, Region, Spec, Step, format, read_seal, store_begin,
    store_seal,
    twin::{Weak, with},
};
use loom::thread;
use models::{check, must_fail};
use std::sync::Arc;

const LEN: usize = 512;
const FRAMES: u64 = 3;

fn spec() -> Spec {
    // One salt for both lives, so that nothing but the protocol keeps the old frames out.
    Spec { segment_len: LEN as u32, checksum: Checksum::CommitWord, ..Spec::default() }
}

fn append(seq: u64) -> (Append, [u8; 8]) {
    (Append { time_ns: seq * 10, type_id: seq as u16, flags: 7 }, [seq as u8; 8])
}

/// A region in its second life; the first one's frames still lie in it, all of them with payloads of `0xee`.
fn recycled() -> Arc<HeapRegion> {
    let region = Arc::new(HeapRegion::new(LEN));
    format(&*region, &spec()).unwrap();
    let mut log = Appender::attach(&*region).unwrap();
    while log.append(Append { time_ns: 1, type_id: 99, flags: 0 }, &[0xee; 8]).is_ok() {}
    format(&*region, &spec()).unwrap();
    region
}

fn take(reader: &mut Reader<Arc<HeapRegion>>) -> bool {
    let seq = reader.mark().next_seq();
    match reader.step().expect("no damage on any schedule") {
        Step::Frame(frame) => {
            let (expected, payload) = append(seq);
            assert_eq!((frame.seq, frame.time_ns), (seq, expected.time_ns));
            assert_eq!((frame.type_id, frame.flags), (expected.type_id, expected.flags));
            assert_eq!(frame.payload.read::<[u8; 8]>(0), Some(payload));
            true
        }
        Step::Open => false,
        Step::End { .. } => panic!("nobody ended the segment"),
    }
}

fn write(mut log: Appender<Arc<HeapRegion>>, claimed: bool) {
    for seq in 1..=FRAMES {
        let (append, payload) = append(seq);
        if claimed {
            let mut claim = log.claim(payload.len()).unwrap();
            claim.put(&payload);
            claim.commit(append);
        } else {
            log.append(append, &payload).unwrap();
        }
    }
}

fn look(reader: &mut Reader<Arc<HeapRegion>>) {
    for _ in 0..=FRAMES {
        take(reader);
    }
}

fn finish(reader: &mut Reader<Arc<HeapRegion>>, frames: u64) {
    while take(reader) {}
    assert_eq!(reader.mark().next_seq(), frames + 1, "every frame was read, and behind the last one the log is open");
}

/// A writer appends while a reader looks as often as there are frames, and once more; then it reads what is left.
///
/// Both ends attach before they part: loom finds races by the *last* access to each word, and a writer that itself
/// reads the header would hide a reader's look at it. For the same reason each model runs with either end spawned.
fn append_and_read(claimed: bool) {
    let region = recycled();
    let mut reader = Reader::attach(region.clone()).unwrap();
    let log = Appender::attach(region).unwrap();
    let writer = thread::spawn(move || write(log, claimed));
    look(&mut reader);
    writer.join().unwrap();
    finish(&mut reader, FRAMES);
}

fn append_and_read_the_other_way_round(claimed: bool) {
    let region = recycled();
    let mut reader = Reader::attach(region.clone()).unwrap();
    let log = Appender::attach(region).unwrap();
    let reading = thread::spawn(move || {
        look(&mut reader);
        reader
    });
    write(log, claimed);
    finish(&mut reading.join().unwrap(), FRAMES);
}

#[test]
fn a_reader_sees_each_frame_whole_and_an_open_word_behind_it() {
    check(None, || append_and_read(false));
    check(None, || append_and_read_the_other_way_round(false));
}

#[test]
fn a_claimed_frame_is_seen_whole_too() {
    check(None, || append_and_read(true));
    check(None, || append_and_read_the_other_way_round(true));
}

/// A writer that dies between two appends is followed by another on the same region while a reader goes on.
#[test]
fn a_reader_notices_nothing_of_a_writer_that_is_followed_by_another() {
    check(None, || {
        let region = recycled();
        let mut reader = Reader::attach(region.clone()).unwrap();
        let writer = thread::spawn(move || {
            let mut log = Appender::attach(&*region).unwrap();
            let (append_1, payload) = append(1);
            log.append(append_1, &payload).unwrap();
            // It dies with half a frame written.
            let mut claim = log.claim(8).unwrap();
            claim.put(&[0xbb; 8]);
            claim.abort();
            let mut scout = Reader::attach(&*region).unwrap();
            while let Step::Frame(_) = scout.step().unwrap() {}
            let mut log = Appender::resume(&*region, &scout.mark());
            let (append_2, payload) = append(2);
            log.append(append_2, &payload).unwrap();
        });
        look(&mut reader);
        writer.join().unwrap();
        finish(&mut reader, 2);
    });
}

/// The seal comes late, beside readers: it is absent or whole.
#[test]
fn a_late_seal_is_absent_or_whole() {
    check(Some(2), || {
        let region = recycled();
        let mut log = Appender::attach(region.clone()).unwrap();
        let writer = {
            let region = region.clone();
            thread::spawn(move || {
                let (append, payload) = append(1);
                log.append(append, &payload).unwrap();
                log.end();
                let seal = log.seal();
                store_seal(&region, 0, seal);
                seal
            })
        };
        let seen = read_seal(region.window(), 0);
        let stored = writer.join().unwrap();
        assert!(seen.is_none() || seen == Some(stored), "{seen:?}");
        assert_eq!(read_seal(region.window(), 0), Some(stored));
    });
}

/// The begin field comes late as well; who sees it sees its value.
#[test]
fn a_late_begin_is_absent_or_whole() {
    check(None, || {
        let region = Arc::new(HeapRegion::new(LEN));
        chronicle_core::prepare(&*region, &spec()).unwrap();
        let begin = Begin { first_seq: 0x0102_0304_0506_0708 };
        let writer = {
            let region = region.clone();
            thread::spawn(move || store_begin(&*region, 0, begin))
        };
        let seen = chronicle_core::read_begin(region.window(), 0);
        assert!(seen.is_none() || seen == Some(begin), "{seen:?}");
        writer.join().unwrap();
        assert_eq!(chronicle_core::read_begin(region.window(), 0), Some(begin));
    });
}

#[test]
fn twin_a_commit_word_stored_relaxed_shows_half_a_frame() {
    must_fail(|| with(Weak::CommitRelaxed, || check(None, || append_and_read(false))));
}

#[test]
fn twin_without_the_open_word_ahead_a_reader_takes_an_old_frame() {
    must_fail(|| with(Weak::NoOpenWord, || check(None, || append_and_read(false))));
    must_fail(|| with(Weak::NoOpenWord, || check(None, || append_and_read(true))));
}
