//! The byte ring on every schedule: frames whole and in order across the end of the ring, sleeping on both sides, and
//! ends that die between any two stores.
//!
//! loom finds a tail that is stored Relaxed. It cannot find a head that is: that lets a load see a store that comes later,
//! which loom never runs; `loom_local.rs` has the same two positions around cells, and there it does.
#![cfg(loom)]

mod models;

use chronicle_core::{
    HeapRegion, Region,
    ring::spsc::{self, Consumer, Producer, PushError, Spec},
    twin::{Weak, mortal, with},
    wake::{self, Mode},
};
use loom::{
    sync::{Condvar, Mutex, atomic::fence},
    thread,
};
use models::{check, must_fail};
use std::sync::{Arc, atomic::Ordering};

const CAPACITY: usize = 64;

/// A ring that begins a few bytes before the end of its first lap, so that the second frame needs a pad.
fn ring() -> Arc<HeapRegion> {
    let region = Arc::new(HeapRegion::new(spsc::len(CAPACITY).unwrap()));
    spsc::format(&region, &Spec { capacity: CAPACITY, ..Spec::default() }).unwrap();
    let mut producer = Producer::attach(&*region).unwrap();
    let mut consumer = Consumer::attach(&*region).unwrap();
    for _ in 0..2 {
        producer.push(&[0xee; 12]).unwrap();
        consumer.pop(&mut [0; 12]).unwrap().unwrap();
    }
    region
}

/// Frame `seq`, 3 to 6 words long with its header.
fn payload(seq: u64) -> Vec<u8> {
    vec![seq as u8; [4, 16, 8][seq as usize % 3]]
}

const FIRST: u64 = 3;

/// Takes what there is; each frame must be whole and the next.
fn drain(consumer: &mut Consumer<Arc<HeapRegion>>, next: &mut u64) {
    while let Some(frame) = consumer.step().expect("no damage on any schedule") {
        assert_eq!(frame.seq, *next);
        let mut bytes = [0; 64];
        assert_eq!(frame.payload.copy_to(&mut bytes), payload(*next));
        *next += 1;
    }
    consumer.release();
}

fn pass(produce: fn(&mut Producer<Arc<HeapRegion>>)) {
    let region = ring();
    let mut producer = Producer::attach(region.clone()).unwrap();
    let mut consumer = Consumer::attach(region).unwrap();
    let producing = thread::spawn(move || produce(&mut producer));
    let mut next = FIRST;
    drain(&mut consumer, &mut next);
    drain(&mut consumer, &mut next);
    producing.join().unwrap();
    drain(&mut consumer, &mut next);
    assert_eq!(next, FIRST + 3);
}

fn one_at_a_time(producer: &mut Producer<Arc<HeapRegion>>) {
    for seq in FIRST..FIRST + 3 {
        // A second try at most where the consumer makes no room meanwhile: the three do fit.
        assert_eq!(producer.push(&payload(seq)), Ok(seq));
    }
}

fn claimed_and_staged(producer: &mut Producer<Arc<HeapRegion>>) {
    let mut claim = producer.claim(payload(FIRST).len()).unwrap();
    claim.put(&payload(FIRST));
    claim.stage();
    producer.claim(8).unwrap().abort();
    producer.stage(&payload(FIRST + 1)).unwrap();
    producer.publish();
    producer.push(&payload(FIRST + 2)).unwrap();
}

#[test]
fn the_consumer_sees_each_frame_whole_and_in_order() {
    check(None, || pass(one_at_a_time));
    check(None, || pass(claimed_and_staged));
}

#[test]
fn twin_a_tail_stored_relaxed_shows_half_a_frame() {
    must_fail(|| with(Weak::CommitRelaxed, || check(None, || pass(one_at_a_time))));
    must_fail(|| with(Weak::CommitRelaxed, || check(None, || pass(claimed_and_staged))));
}

/// The producer reuses what the consumer releases while the consumer reads on.
#[test]
fn room_is_reused_only_after_its_release() {
    check(Some(3), || {
        let region = ring();
        let mut producer = Producer::attach(region.clone()).unwrap();
        let mut consumer = Consumer::attach(region).unwrap();
        producer.push(&payload(FIRST)).unwrap();
        producer.push(&payload(FIRST + 1)).unwrap();
        let producing = thread::spawn(move || {
            let mut seq = FIRST + 2;
            for _ in 0..3 {
                match producer.push(&payload(seq)) {
                    Ok(_) => seq += 1,
                    Err(PushError::Full { .. }) => {}
                    Err(refused) => panic!("{refused}"),
                }
            }
            seq
        });
        let mut next = FIRST;
        for _ in 0..2 {
            let mut bytes = [0; 64];
            let (seq, bytes) = consumer.pop(&mut bytes).unwrap().expect("two were there");
            assert!(seq == next && bytes == payload(next));
            next += 1;
        }
        let end = producing.join().unwrap();
        drain(&mut consumer, &mut next);
        assert_eq!(next, end);
    });
}

/// A producer dies before any of its stores; its successor goes on without gap and without using a seq twice, while the
/// consumer reads.
fn producer_dies(steps: usize, during: bool) -> bool {
    let region = ring();
    let mut consumer = Consumer::attach(region.clone()).unwrap();
    let life = {
        let region = region.clone();
        move || {
            let mut producer = Producer::attach(region.clone()).unwrap();
            // Acknowledged means: `push` returned.
            let mut acknowledged = FIRST - 1;
            let lived = mortal(steps, || {
                producer.stage(&payload(FIRST)).unwrap();
                let claim = producer.claim(16).unwrap();
                claim.abort();
                acknowledged = producer.push(&payload(FIRST + 1)).unwrap();
            });
            drop(producer);
            let mut producer = Producer::attach(region).expect("whatever the dead one left is a ring");
            let next = producer.next_seq();
            assert!(next > acknowledged && (next == FIRST || next == FIRST + 2), "{next} after {acknowledged}");
            for seq in next..FIRST + 3 {
                assert_eq!(producer.push(&payload(seq)), Ok(seq));
            }
            lived.is_some()
        }
    };
    let mut next = FIRST;
    let lived = if during {
        let producing = thread::spawn(life);
        drain(&mut consumer, &mut next);
        producing.join().unwrap()
    } else {
        life()
    };
    drain(&mut consumer, &mut next);
    assert_eq!(next, FIRST + 3);
    lived
}

fn every_death(during: bool) {
    for steps in 0..200 {
        let lived = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = lived.clone();
        check(Some(2), move || seen.store(producer_dies(steps, during), Ordering::Relaxed));
        if lived.load(Ordering::Relaxed) {
            assert!(steps > 10, "it has more stores than that");
            return;
        }
    }
    panic!("the producer never came to its end");
}

#[test]
fn a_producer_that_dies_between_any_two_stores_leaves_no_gap() {
    every_death(false);
}

#[test]
fn a_producer_that_dies_beside_its_consumer_leaves_no_gap() {
    every_death(true);
}

/// The largest frame of an empty ring falls on the newest header: a producer that dies writing it.
fn dies_on_the_newest_header() {
    /// Lengths of the payloads, and the tail behind each: the last one goes from 64 to 96, over the header at 24.
    const FRAMES: [(usize, u32); 5] = [(0, 8), (0, 16), (0, 24), (8, 40), (24, 96)];
    for steps in 0..200 {
        let lived = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = lived.clone();
        check(Some(1), move || {
            let region = Arc::new(HeapRegion::new(spsc::len(CAPACITY).unwrap()));
            spsc::format(&region, &Spec { capacity: CAPACITY, ..Spec::default() }).unwrap();
            let mut producer = Producer::attach(&*region).unwrap();
            let mut consumer = Consumer::attach(&*region).unwrap();
            let alive = mortal(steps, || {
                for (len, _) in FRAMES {
                    let mut claim = producer.claim(len).unwrap();
                    claim.put(&vec![0xff; len]);
                    claim.commit();
                    consumer.pop(&mut [0; 24]).unwrap().unwrap();
                }
            });
            let tail = region.window().load(spsc::TAIL);
            let published = FRAMES.iter().filter(|(_, end)| *end <= tail).count() as u64;
            let producer = Producer::attach(&*region).expect("whatever the dead one left is a ring");
            assert_eq!(producer.next_seq(), published + 1, "tail {tail}");
            seen.store(alive.is_some(), Ordering::Relaxed);
        });
        if lived.load(Ordering::Relaxed) {
            return;
        }
    }
    panic!("the producer never came to its end");
}

#[test]
fn a_producer_that_dies_on_the_newest_header_loses_no_number() {
    dies_on_the_newest_header();
}

#[test]
fn twin_without_the_mark_the_count_is_lost() {
    must_fail(|| with(Weak::NoMark, dies_on_the_newest_header));
}

#[test]
fn twin_a_newest_stored_after_the_tail_uses_a_number_twice() {
    must_fail(|| with(Weak::NewestAfterTail, || every_death(false)));
}

/// A consumer that is gone before it released gets its frames again.
#[test]
fn a_consumer_that_dies_before_its_release_gets_its_frames_again() {
    check(None, || {
        let region = ring();
        let mut producer = Producer::attach(region.clone()).unwrap();
        let producing = thread::spawn(move || one_at_a_time(&mut producer));
        let first = Consumer::attach(region.clone()).unwrap();
        while first.step().unwrap().is_some() {}
        drop(first);
        let mut consumer = Consumer::attach(region).unwrap();
        let mut next = FIRST;
        drain(&mut consumer, &mut next);
        producing.join().unwrap();
        drain(&mut consumer, &mut next);
        assert_eq!(next, FIRST + 3);
    });
}

/// What the kernel keeps for one futex word. A sleep has no time-out: one lost wake-up is a deadlock, and loom says so.
struct Futex {
    lock: Mutex<()>,
    sleepers: Condvar,
}

impl Futex {
    fn new() -> Self {
        Futex { lock: Mutex::new(()), sleepers: Condvar::new() }
    }

    fn wait(&self, region: &HeapRegion, offset: usize, expected: u32) {
        let held = self.lock.lock().unwrap();
        if region.window().load(offset) == expected {
            drop(self.sleepers.wait(held).unwrap());
        }
    }

    fn wake(&self) {
        let _held = self.lock.lock().unwrap();
        self.sleepers.notify_all();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Barrier {
    Fences,
    /// Mode `Asymmetric`: the sleeper's `membarrier`, a fence where the interrupt puts one.
    Membarrier,
    Nothing,
}

impl Barrier {
    fn mode(self) -> Mode {
        match self {
            Barrier::Fences => return Mode::Fence,
            Barrier::Membarrier => fence(Ordering::SeqCst),
            Barrier::Nothing => {}
        }
        Mode::Asymmetric
    }
}

/// Two frames through room for one: both ends sleep.
fn both_sleep(barrier: Barrier) {
    let region = Arc::new(HeapRegion::new(spsc::len(CAPACITY).unwrap()));
    spsc::format(&region, &Spec { capacity: CAPACITY, ..Spec::default() }).unwrap();
    let futexes = Arc::new([Futex::new(), Futex::new()]);
    let mut producer = Producer::attach(region.clone()).unwrap();
    producer.push(&[1; 24]).unwrap();
    let mut consumer = Consumer::attach(region.clone()).unwrap();
    let producing = {
        let (region, futexes) = (region.clone(), futexes.clone());
        thread::spawn(move || {
            for seq in 2..=3 {
                while producer.push(&[seq as u8; 24]).is_err() {
                    let expected = producer.mark_sleeper();
                    if barrier != Barrier::Nothing {
                        wake::settle();
                    }
                    if !producer.has_room(24) {
                        futexes[1].wait(&region, spsc::SPACE_WAKE, expected);
                    }
                }
                if producer.sleepers(barrier.mode()) {
                    futexes[0].wake();
                }
            }
        })
    };
    for _ in 1..=3 {
        while consumer.pop(&mut [0; 24]).unwrap().is_none() {
            let expected = consumer.mark_sleeper();
            if barrier != Barrier::Nothing {
                wake::settle();
            }
            if !consumer.is_ready() {
                futexes[0].wait(&region, spsc::DATA_WAKE, expected);
            }
        }
        if consumer.sleepers(barrier.mode()) {
            futexes[1].wake();
        }
    }
    producing.join().unwrap();
}

#[test]
fn neither_end_sleeps_while_there_is_something_to_do() {
    check(Some(3), || both_sleep(Barrier::Fences));
    check(Some(3), || both_sleep(Barrier::Membarrier));
}

#[test]
fn twin_without_a_barrier_an_end_is_missed() {
    must_fail(|| check(None, || both_sleep(Barrier::Nothing)));
}
