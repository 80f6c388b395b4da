//! A broadcast ring on every schedule and with every value that the memory model lets a load return.
//!
//! The rings are as small as they can be, so that two pushes lap a reader that stands at the oldest message: one opens
//! its commit word, the next writes over the message. Whatever the reader is given must be whole and the next in line,
//! and what it loses must be counted. `docs/protocols.md` argues why; the twins take the argument's legs away, one each.
#![cfg(loom)]

mod models;

use chronicle_core::{
    HeapRegion, RegionMut,
    ring::broadcast::{self, DATA_WAKE, Reader, Received, Spec, Start, Writer, format},
    twin::{Weak, mortal, with},
    wake::{self, Mode},
};
use loom::{
    sync::{Condvar, Mutex, atomic::fence},
    thread,
};
use models::{check, must_fail};
use std::sync::{Arc, atomic::Ordering};

/// Four messages of 8 bytes, four blocks.
const CAPACITY: usize = 64;

type Shared = Arc<HeapRegion>;

fn ring() -> Shared {
    let region = Arc::new(HeapRegion::new(broadcast::len(CAPACITY).unwrap()));
    format(&*region, &Spec { capacity: CAPACITY, ..Spec::default() }).unwrap();
    region
}

fn message(seq: u64) -> [u8; 8] {
    [seq as u8; 8]
}

fn push(writer: &mut Writer<Shared>, count: u64) {
    for _ in 0..count {
        let seq = writer.next_seq();
        assert_eq!(writer.push(&message(seq)), Ok(seq));
    }
}

/// One look. `None`: nothing there; else how many messages were lost.
fn look(reader: &mut Reader<Shared>) -> Option<u64> {
    let due = reader.next_seq();
    let mut buffer = [0; 8];
    match reader.receive(&mut buffer).expect("no damage on any schedule") {
        Received::Message { seq, len } => {
            assert_eq!((seq, len, buffer), (due, 8, message(seq)));
            Some(0)
        }
        Received::Lapped { lost, resume_seq } => {
            assert!(lost > 0 && resume_seq == due + lost && reader.next_seq() == resume_seq);
            Some(lost)
        }
        Received::Empty => None,
        Received::Unfit { .. } => panic!("all messages have 8 bytes"),
    }
}

fn finish(reader: &mut Reader<Shared>, next_seq: u64) {
    while look(reader).is_some() {}
    assert_eq!(reader.next_seq(), next_seq, "behind the last message the ring is open");
}

/// The reader stands `behind` messages behind a writer that pushes `count` more while the reader looks `looks` times.
fn lapping(behind: u64, count: u64, looks: usize) {
    let region = ring();
    let mut writer = Writer::attach(region.clone()).unwrap();
    push(&mut writer, 3 - behind);
    let mut reader = Reader::attach(region, Start::Newest).unwrap();
    push(&mut writer, behind);
    let writing = thread::spawn(move || push(&mut writer, count));
    for _ in 0..looks {
        look(&mut reader);
    }
    writing.join().unwrap();
    finish(&mut reader, 4 + count);
}

fn lapping_the_other_way_round(behind: u64, count: u64, looks: usize) {
    let region = ring();
    let mut writer = Writer::attach(region.clone()).unwrap();
    push(&mut writer, 3 - behind);
    let mut reader = Reader::attach(region, Start::Newest).unwrap();
    push(&mut writer, behind);
    let reading = thread::spawn(move || {
        for _ in 0..looks {
            look(&mut reader);
        }
        reader
    });
    push(&mut writer, count);
    finish(&mut reading.join().unwrap(), 4 + count);
}

#[test]
fn a_reader_that_is_lapped_while_it_copies_returns_nothing_torn() {
    check(None, || lapping(3, 2, 1));
    check(None, || lapping_the_other_way_round(3, 2, 1));
}

#[test]
fn a_reader_that_follows_sees_each_message_whole_and_an_open_word_behind_it() {
    check(Some(3), || lapping(0, 2, 3));
    check(Some(3), || lapping_the_other_way_round(0, 2, 3));
}

#[test]
fn a_lapped_reader_finds_a_place_while_the_writer_goes_on() {
    check(Some(2), || lapping(3, 3, 2));
    check(Some(2), || lapping_the_other_way_round(3, 3, 2));
}

/// A message that does not fit behind the tail: the rest of the lap is padded.
#[test]
fn a_pad_is_passed_or_lapped() {
    check(Some(3), || {
        let region = ring();
        let mut writer = Writer::attach(region.clone()).unwrap();
        // 16 bytes, 16, 16, 8: the next one does not fit into the last 8.
        push(&mut writer, 3);
        let mut reader = Reader::attach(region, Start::Newest).unwrap();
        writer.push(b"").unwrap();
        let writing = thread::spawn(move || push(&mut writer, 2));
        let mut buffer = [0; 8];
        for _ in 0..3 {
            if reader.next_seq() == 4 {
                assert_eq!(reader.receive(&mut buffer), Ok(Received::Message { seq: 4, len: 0 }));
            } else {
                look(&mut reader);
            }
        }
        writing.join().unwrap();
        finish(&mut reader, 7);
    });
}

#[test]
fn two_readers_do_not_notice_each_other() {
    check(Some(2), || {
        let region = ring();
        let mut writer = Writer::attach(region.clone()).unwrap();
        push(&mut writer, 2);
        let mut near = Reader::attach(region.clone(), Start::Newest).unwrap();
        let mut far = Reader::attach(region, Start::Oldest).unwrap();
        let reading = thread::spawn(move || {
            look(&mut far);
            far
        });
        let writing = thread::spawn(move || push(&mut writer, 3));
        look(&mut near);
        writing.join().unwrap();
        finish(&mut near, 6);
        finish(&mut reading.join().unwrap(), 6);
    });
}

/// Attaching reads the block table while the writer changes it.
#[test]
fn a_reader_that_attaches_beside_the_writer_finds_a_place() {
    for start in [Start::Oldest, Start::Newest, Start::Seq(3)] {
        check(Some(2), move || {
            let region = ring();
            let mut writer = Writer::attach(region.clone()).unwrap();
            push(&mut writer, 4);
            let writing = thread::spawn(move || push(&mut writer, 2));
            let mut reader = Reader::attach(region, start).unwrap();
            look(&mut reader);
            writing.join().unwrap();
            finish(&mut reader, 7);
        });
    }
}

/// A writer is killed before each of its stores, beside a reader; the next one goes on. Readers get each seq once, and
/// never a message that was not committed.
#[test]
fn a_writer_killed_at_any_step_is_followed_without_gap_or_repeat() {
    // 8-byte frames before: the first push pads and enters a new lap; the second laps a reader at the oldest message.
    for (before, pad) in [(3, false), (3, true), (5, false)] {
        let mut steps = 0;
        let survived = Arc::new(std::sync::atomic::AtomicBool::new(false));
        while !survived.load(Ordering::Relaxed) {
            let survives = survived.clone();
            check(Some(2), move || {
                let region = ring();
                let mut writer = Writer::attach(region.clone()).unwrap();
                push(&mut writer, before);
                let mut reader = Reader::attach(region.clone(), Start::Oldest).unwrap();
                if pad {
                    while reader.next_seq() < 4 {
                        look(&mut reader);
                    }
                    writer.push(b"").unwrap();
                    assert!(matches!(reader.receive(&mut [0; 8]), Ok(Received::Message { seq: 4, len: 0 })));
                }
                drop(writer);
                let next = reader.next_seq().max(before + 1 + u64::from(pad));
                let survives = survives.clone();
                let writing = thread::spawn(move || {
                    let lived = mortal(steps, || push(&mut Writer::attach(region.clone()).unwrap(), 2));
                    survives.store(lived.is_some(), Ordering::Relaxed);
                    let mut writer = Writer::attach(region).unwrap();
                    assert!((next..=next + 2).contains(&writer.next_seq()));
                    let left = next + 3 - writer.next_seq();
                    push(&mut writer, left);
                });
                look(&mut reader);
                writing.join().unwrap();
                finish(&mut reader, next + 3);
            });
            steps += 1;
        }
        println!("killed before each of {} stores", steps - 1);
        assert!(steps > 10);
    }
}

/// What the kernel keeps for one futex word; see `loom_wake.rs`.
struct Futex {
    lock: Mutex<()>,
    sleepers: Condvar,
}

/// No schedule leaves a reader asleep while there is a message.
#[derive(Clone, Copy, PartialEq)]
enum Barrier {
    Fences,
    Membarrier,
    Nothing,
}

fn sleeping(barrier: Barrier) {
    let region = ring();
    let futex = Arc::new(Futex { lock: Mutex::new(()), sleepers: Condvar::new() });
    let mut writer = Writer::attach(region.clone()).unwrap();
    let mut reader = Reader::attach(region.clone(), Start::Oldest).unwrap();
    let writing = {
        let futex = futex.clone();
        thread::spawn(move || {
            push(&mut writer, 1);
            let mode = match barrier {
                Barrier::Fences => Mode::Fence,
                Barrier::Membarrier => {
                    // The kernel's interrupt; `docs/protocols.md` says why this is the same.
                    fence(Ordering::SeqCst);
                    Mode::Asymmetric
                }
                Barrier::Nothing => Mode::Asymmetric,
            };
            if writer.sleepers(mode) {
                let _held = futex.lock.lock().unwrap();
                futex.sleepers.notify_all();
            }
        })
    };
    while look(&mut reader).is_none() {
        let word = reader.mark_sleeper();
        if barrier != Barrier::Nothing {
            wake::settle();
        }
        if !reader.is_ready() {
            let held = futex.lock.lock().unwrap();
            if region.window_mut().load(DATA_WAKE) == word {
                drop(futex.sleepers.wait(held).unwrap());
            }
        }
    }
    writing.join().unwrap();
    finish(&mut reader, 2);
}

#[test]
fn no_wake_up_is_lost() {
    check(None, || sleeping(Barrier::Fences));
    check(None, || sleeping(Barrier::Membarrier));
}

#[test]
fn twin_without_a_barrier_a_wake_up_is_lost() {
    must_fail(|| check(None, || sleeping(Barrier::Nothing)));
}

#[test]
fn twin_without_a_fence_behind_the_intent_a_torn_message_passes() {
    must_fail(|| with(Weak::NoAnnounceFence, || check(None, || lapping(3, 2, 1))));
}

#[test]
fn twin_without_a_fence_before_the_look_a_torn_message_passes() {
    must_fail(|| with(Weak::NoLookFence, || check(None, || lapping(3, 2, 1))));
}

#[test]
fn twin_an_intent_that_comes_late_lets_a_torn_message_pass() {
    must_fail(|| with(Weak::LateIntent, || check(None, || lapping(3, 2, 1))));
}

#[test]
fn twin_a_commit_word_stored_relaxed_shows_half_a_message() {
    must_fail(|| with(Weak::CommitRelaxed, || check(None, || lapping(0, 2, 3))));
}

#[test]
fn twin_without_the_open_word_ahead_a_reader_takes_an_old_message() {
    must_fail(|| {
        with(Weak::NoOpenWord, || {
            check(None, || {
                let region = ring();
                let mut writer = Writer::attach(region.clone()).unwrap();
                // A lap of messages, so that behind the newest one there is an old one.
                push(&mut writer, 5);
                let mut reader = Reader::attach(region, Start::Seq(5)).unwrap();
                let writing = thread::spawn(move || push(&mut writer, 1));
                look(&mut reader);
                look(&mut reader);
                writing.join().unwrap();
            });
        });
    });
}
