//! Many producers and a consumer, on every schedule: no frame is lost, doubled, torn or out of order, and the death of a
//! producer at any step takes nothing from the living.
//!
//! A producer dies by not taking its next step (`Producer::die`); that it is dead is known by joining its thread, as
//! the platform knows it by a lock that the kernel has released. The ring's documentation argues why; the twins take the
//! argument's legs away one at a time and must fail.
#![cfg(loom)]

mod models;

use chronicle_core::{
    HeapRegion, RegionMut,
    ring::mpsc::{Consumer, DATA_WAKE, Producer, PushError, SPACE_WAKE, Spec, format, len},
    twin::{Weak, with},
    wake::{self, Mode},
};
use loom::{
    sync::{Condvar, Mutex, atomic::AtomicBool},
    thread,
};
use models::{check, must_fail};
use std::sync::{Arc, atomic::Ordering};

const CAPACITY: usize = 64;
type Ring = Arc<HeapRegion>;

fn ring(producers: u32) -> Ring {
    let region = Arc::new(HeapRegion::new(len(CAPACITY, producers).unwrap()));
    format(&*region, &Spec { capacity: CAPACITY, producers, ..Spec::default() }).unwrap();
    region
}

fn producer(region: &Ring) -> Producer<Ring> {
    Producer::register(region.clone()).unwrap()
}

/// Moves the ring's ends on, so that what is claimed next meets the ring's end.
fn advance(producer: &mut Producer<Ring>, consumer: &mut Consumer<Ring>, frames: usize) {
    for _ in 0..frames {
        producer.push(&[]).unwrap();
        assert!(consumer.step().unwrap().is_some());
    }
    consumer.release();
}

/// What is there, each payload one word said twice.
fn take(consumer: &mut Consumer<Ring>, seen: &mut Vec<u32>) {
    while let Some(frame) = consumer.step().expect("no damage on any schedule") {
        let [word, again] = frame.payload.read::<[u32; 2]>(0).expect("eight bytes");
        assert_eq!(word, again, "half a frame");
        seen.push(word);
    }
    consumer.release();
}

fn message(word: u32) -> [u8; 8] {
    let bytes = word.to_le_bytes();
    std::array::from_fn(|i| bytes[i % 4])
}

/// Two producers, one of them with two frames, and a consumer that looks meanwhile; the ring's end among the frames.
fn everything_arrives() {
    let region = ring(2);
    let mut consumer = Consumer::attach(region.clone()).unwrap();
    let (mut left, mut right) = (producer(&region), producer(&region));
    advance(&mut left, &mut consumer, 6);
    let first = consumer.next_seq();
    let spawned = thread::spawn(move || right.push(&message(3)).unwrap());
    let other = thread::spawn(move || {
        left.push(&message(1)).unwrap();
        let mut claim = left.claim(8).unwrap();
        claim.put(&message(2));
        claim.commit();
    });
    let mut seen = Vec::new();
    take(&mut consumer, &mut seen);
    spawned.join().unwrap();
    other.join().unwrap();
    take(&mut consumer, &mut seen);
    assert!([[1, 2, 3], [1, 3, 2], [3, 1, 2]].iter().any(|order| seen == order), "{seen:?}");
    assert_eq!(consumer.next_seq(), first + 3);
}

#[test]
fn every_frame_arrives_once_and_whole() {
    check(Some(3), everything_arrives);
}

/// A full ring and two messages more: space comes back clean while producers wait for it.
fn space_comes_back() {
    let region = ring(1);
    let mut consumer = Consumer::attach(region.clone()).unwrap();
    let mut left = producer(&region);
    for word in 1..=4 {
        left.push(&message(word)).unwrap();
    }
    let pushing = thread::spawn(move || {
        let mut pushed = 4;
        for word in 5..=6 {
            match left.push(&message(word)) {
                Ok(()) => pushed = word,
                Err(PushError::Full { needed: 16, free }) if free < 16 => break,
                Err(error) => panic!("{error}"),
            }
        }
        pushed
    });
    let mut seen = Vec::new();
    for _ in 0..2 {
        if consumer.step().unwrap().is_some() {
            seen.push(seen.len() as u32 + 1);
        }
        consumer.release();
    }
    let pushed = pushing.join().unwrap();
    take(&mut consumer, &mut seen);
    assert!(seen.iter().copied().eq(1..=pushed), "{seen:?} of {pushed}");
}

#[test]
fn space_comes_back_clean() {
    check(None, space_comes_back);
}

/// A batch, part of it published first, the rest given up; another producer beside it.
fn a_batch_is_seen_in_order() {
    let region = ring(2);
    let mut consumer = Consumer::attach(region.clone()).unwrap();
    let (mut left, mut right) = (producer(&region), producer(&region));
    let other = thread::spawn(move || right.push(&message(9)).unwrap());
    let batching = thread::spawn(move || {
        let mut batch = left.claim_batch(32).unwrap();
        batch.push(&message(1)).unwrap();
        batch.publish();
        batch.push(&message(2)).unwrap();
        batch.commit();
    });
    let mut seen = Vec::new();
    take(&mut consumer, &mut seen);
    other.join().unwrap();
    batching.join().unwrap();
    take(&mut consumer, &mut seen);
    assert!(seen == [1, 2, 9] || seen == [9, 1, 2], "{seen:?}");
}

#[test]
fn a_batch_arrives_in_order_and_in_one_piece() {
    check(Some(3), a_batch_is_seen_in_order);
}

/// One producer dies after `steps` steps of a push while another goes on; the consumer asks about the dead as soon as
/// it knows of them, which is at any moment of the other's push.
///
/// `frames` before it put the ring's end where it hurts.
fn a_death(steps: u32, frames: usize) {
    let region = ring(2);
    let mut consumer = Consumer::attach(region.clone()).unwrap();
    let (mut living, dying) = (producer(&region), producer(&region));
    advance(&mut living, &mut consumer, frames);
    let slot = dying.slot();
    let other = thread::spawn(move || {
        living.push(&message(1)).unwrap();
        living
    });
    let dead = thread::spawn(move || dying.die(&message(7), steps));
    dead.join().unwrap();
    // The first look comes while the other producer may be anywhere.
    let mut seen = Vec::new();
    let early = consumer.reap(|of, _| of != slot).expect("no damage on any schedule");
    take(&mut consumer, &mut seen);
    let _living = other.join().unwrap();
    let late = consumer.reap(|of, _| of != slot).expect("no damage on any schedule");
    take(&mut consumer, &mut seen);
    seen.sort_unstable();
    assert_eq!(seen, if steps == 7 { vec![1, 7] } else { vec![1] }, "what was committed arrives, and nothing else");
    assert_eq!(early.slots + late.slots, 1);
    assert_eq!(
        (early.holes + late.holes > 0, early.claims + late.claims),
        (steps == 2, u64::from((3..7).contains(&steps)))
    );
    assert_eq!(consumer.occupancy().unwrap().used, 0, "no space is lost");
    Producer::register_at(region, slot).expect("the slot is free again");
}

#[test]
fn a_producer_dies_at_any_step_and_the_other_one_goes_on() {
    for steps in 0..=7 {
        check(Some(3), move || a_death(steps, 0));
        check(Some(2), move || a_death(steps, 7));
    }
}

/// The dead one's slot is given away while the consumer still walks: the new owner's frame is the new owner's.
fn a_slot_changes_hands() {
    let region = ring(2);
    let mut consumer = Consumer::attach(region.clone()).unwrap();
    let (mut living, dying) = (producer(&region), producer(&region));
    let slot = dying.slot();
    let died = Arc::new(AtomicBool::new(false));
    let other = {
        let (region, died) = (region.clone(), died.clone());
        thread::spawn(move || {
            living.push(&message(1)).unwrap();
            dying.die(&message(7), 3);
            died.store(true, Ordering::Release);
            // Someone takes the slot as soon as it is free.
            if let Ok(mut heir) = Producer::register_at(region, slot) {
                heir.push(&message(2)).unwrap();
                return (living, Some(heir));
            }
            (living, None)
        })
    };
    let mut seen = Vec::new();
    // The question is answered by an Acquire of the death, as by a lock. The heir is the next incarnation.
    let mut ask = |of: u32, incarnation: u32| !(of == slot && incarnation == 0 && died.load(Ordering::Acquire));
    consumer.reap(&mut ask).expect("no damage on any schedule");
    take(&mut consumer, &mut seen);
    let (_living, heir) = other.join().unwrap();
    consumer.reap(&mut ask).expect("no damage on any schedule");
    take(&mut consumer, &mut seen);
    assert_eq!(seen, if heir.is_some() { vec![1, 2] } else { vec![1] });
    assert_eq!(consumer.occupancy().unwrap().used, 0, "no space is lost");
}

#[test]
fn a_slot_is_given_away_only_when_nothing_of_the_dead_is_left() {
    check(Some(3), a_slot_changes_hands);
    check(None, a_walk_is_cut_short);
}

/// A living producer that has claimed and not stamped cuts the walk short, before a stamp of the dead one's.
fn a_walk_is_cut_short() {
    let region = ring(2);
    let mut consumer = Consumer::attach(region.clone()).unwrap();
    let (mut living, dying) = (producer(&region), producer(&region));
    let slot = dying.slot();
    let other = thread::spawn(move || {
        living.push(&message(1)).unwrap();
        living
    });
    dying.die(&message(7), 3);
    let dead = |of: u32, incarnation: u32| (of, incarnation) != (slot, 0);
    consumer.reap(dead).expect("no damage on any schedule");
    let heir = Producer::register_at(region.clone(), slot);
    let _living = other.join().unwrap();
    consumer.reap(dead).expect("no damage on any schedule");
    let mut seen = Vec::new();
    take(&mut consumer, &mut seen);
    assert_eq!(seen, [1]);
    assert_eq!(consumer.occupancy().unwrap().used, 0, "no space is lost");
    drop(heir);
}

/// What the kernel keeps for one futex word; a sleep has no time-out here, so a lost wake-up is a deadlock.
struct Futex {
    lock: Mutex<()>,
    sleepers: Condvar,
}

impl Futex {
    fn new() -> Self {
        Futex { lock: Mutex::new(()), sleepers: Condvar::new() }
    }

    fn wait(&self, region: &Ring, word: usize, expected: u32) {
        let held = self.lock.lock().unwrap();
        if region.window_mut().load(word) == expected {
            drop(self.sleepers.wait(held).unwrap());
        }
    }

    fn wake_all(&self) {
        let _held = self.lock.lock().unwrap();
        self.sleepers.notify_all();
    }
}

/// The consumer sleeps until both producers' frames are there; the one that comes first may wait for the other's abort.
fn a_consumer_sleeps(settled: bool) {
    let region = ring(2);
    let futex = Arc::new(Futex::new());
    let mut consumer = Consumer::attach(region.clone()).unwrap();
    let (mut left, mut right) = (producer(&region), producer(&region));
    let wake = |producer: &Producer<Ring>, futex: &Futex| {
        if producer.sleepers(Mode::Fence) {
            futex.wake_all();
        }
    };
    let aborting = {
        let futex = futex.clone();
        thread::spawn(move || {
            left.claim(8).unwrap().abort();
            wake(&left, &futex);
        })
    };
    let pushing = {
        let futex = futex.clone();
        thread::spawn(move || {
            right.push(&message(1)).unwrap();
            wake(&right, &futex);
        })
    };
    let mut seen = Vec::new();
    loop {
        take(&mut consumer, &mut seen);
        if !seen.is_empty() {
            break;
        }
        let expected = consumer.mark_sleeper();
        if settled {
            wake::settle();
        }
        if !consumer.is_ready() {
            futex.wait(&region, DATA_WAKE, expected);
        }
    }
    aborting.join().unwrap();
    pushing.join().unwrap();
}

#[test]
fn a_consumer_is_woken_by_commits_and_aborts() {
    check(Some(2), || a_consumer_sleeps(true));
}

/// A producer sleeps until there is space.
fn a_producer_sleeps() {
    let region = ring(1);
    let futex = Arc::new(Futex::new());
    let mut consumer = Consumer::attach(region.clone()).unwrap();
    let mut left = producer(&region);
    for word in 1..=4 {
        left.push(&message(word)).unwrap();
    }
    let sleeping = {
        let (region, futex) = (region.clone(), futex.clone());
        thread::spawn(move || {
            while left.push(&message(5)).is_err() {
                let expected = left.mark_sleeper();
                wake::settle();
                if !left.has_room(8) {
                    futex.wait(&region, SPACE_WAKE, expected);
                }
            }
        })
    };
    let mut seen = Vec::new();
    take(&mut consumer, &mut seen);
    if consumer.sleepers(Mode::Fence) {
        futex.wake_all();
    }
    sleeping.join().unwrap();
    take(&mut consumer, &mut seen);
    assert_eq!(seen, [1, 2, 3, 4, 5]);
}

#[test]
fn a_producer_is_woken_by_a_release() {
    check(Some(3), a_producer_sleeps);
}

#[test]
fn twin_a_frame_committed_relaxed_is_seen_in_halves() {
    must_fail(|| with(Weak::CommitRelaxed, || check(Some(3), everything_arrives)));
}

#[test]
fn twin_space_given_back_before_it_is_clean_loses_a_frame() {
    must_fail(|| with(Weak::HeadBeforeZeros, || check(None, space_comes_back)));
}

#[test]
fn twin_a_flag_raised_after_the_claim_lets_a_living_claim_be_padded() {
    must_fail(|| with(Weak::FlagAfterClaim, || check(Some(3), || a_death(2, 0))));
}

#[test]
fn twin_a_flag_lowered_before_the_stamp_lets_a_living_claim_be_padded() {
    must_fail(|| with(Weak::StampAfterFlag, || check(Some(3), || a_death(2, 0))));
}

#[test]
fn twin_a_tail_loaded_after_the_flags_lets_a_living_claim_be_padded() {
    must_fail(|| with(Weak::TailAfterFlags, || check(Some(3), || a_death(2, 0))));
}

#[test]
fn twin_a_slot_freed_before_the_walk_is_over_confuses_the_dead_with_the_heir() {
    must_fail(|| with(Weak::FreeUnwalked, || check(None, a_walk_is_cut_short)));
}

#[test]
fn twin_without_its_fence_a_consumer_sleeps_on_a_frame() {
    must_fail(|| check(Some(2), || a_consumer_sleeps(false)));
}
