//! Random operations of several producers against a `VecDeque`: whatever order they come in, and whoever forgets,
//! aborts or dies, the consumer gets exactly what was committed, in the order in which its space was claimed.
//!
//! Repeat one run with `CHRONICLE_SEED=<seed>`.
#![cfg(not(loom))]

mod seeded;

use chronicle_core::{
    HeapRegion, Region,
    ring::{
        Occupancy,
        mpsc::{self, Consumer, Producer, PushError, Spec, format, frame_len, len, max_payload},
    },
};
use seeded::{Seeded, seeds};
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

fn ring(capacity: usize, producers: u32) -> HeapRegion {
    let region = HeapRegion::new(len(capacity, producers).unwrap());
    format(&region, &Spec { capacity, producers, ..Spec::default() }).unwrap();
    region
}

/// What a claim became, at the place where it was made.
#[derive(Clone, Debug, PartialEq)]
enum Space {
    Frame(Vec<u8>),
    /// Padded, or to be padded: the producer that holds it open.
    Pad(usize),
    Open(usize),
}

struct Model {
    spaces: VecDeque<Space>,
    seq: u64,
}

impl Model {
    /// Whether `producer` has forgotten a claim; its next step ends it.
    fn settle(&mut self, producer: usize) {
        for space in &mut self.spaces {
            if *space == Space::Open(producer) {
                *space = Space::Pad(producer);
            }
        }
    }

    fn check(&mut self, consumer: &mut Consumer<&HeapRegion>) {
        loop {
            while matches!(self.spaces.front(), Some(Space::Pad(_))) {
                self.spaces.pop_front();
            }
            let ready = consumer.is_ready();
            match (self.spaces.front(), consumer.step().unwrap()) {
                (Some(Space::Frame(expected)), Some(frame)) => {
                    assert!(ready);
                    let mut payload = vec![0; frame.payload.len()];
                    frame.payload.copy_to(&mut payload);
                    assert_eq!((&payload, frame.seq), (expected, self.seq + 1));
                    self.seq += 1;
                    self.spaces.pop_front();
                }
                (None | Some(Space::Open(_)), None) => return,
                (expected, found) => panic!("{expected:?}, but {found:?}"),
            }
        }
    }
}

/// One claim of some kind. `Ok(false)` says that it was refused for want of space.
fn claim_somehow(
    rng: &mut Seeded,
    producer: &mut Producer<&HeapRegion>,
    id: usize,
    model: &mut Model,
) -> Result<(), PushError> {
    let longest = [8, 40, producer.max_payload() + 3][rng.below(3)];
    let len = rng.below(longest);
    let payload = rng.bytes(len);
    let fits = len <= producer.max_payload();
    let room = producer.has_room(len);
    let outcome = match rng.below(4) {
        0 | 1 => producer.push(&payload).map(|()| vec![Space::Frame(payload)]),
        2 => producer.claim(len).map(|mut claim| {
            let cut = rng.below(len + 1);
            match rng.below(5) {
                0 => {
                    claim.put(&payload[..cut]);
                    claim.abort();
                    vec![Space::Pad(id)]
                }
                1 => {
                    claim.put(&payload[..cut]);
                    std::mem::forget(claim);
                    vec![Space::Open(id)]
                }
                2 => {
                    // Only the end: the rest is zero.
                    claim.put_at(cut, &payload[cut..]);
                    claim.commit();
                    let mut expected = vec![0; len];
                    expected[cut..].copy_from_slice(&payload[cut..]);
                    vec![Space::Frame(expected)]
                }
                _ => {
                    claim.put(&payload[..cut]);
                    claim.put(&payload[cut..]);
                    claim.commit();
                    vec![Space::Frame(payload)]
                }
            }
        }),
        _ => producer.claim_batch(frame_len(len).unwrap()).map(|mut batch| {
            let (mut published, mut staged) = (Vec::new(), Vec::new());
            while rng.below(5) != 0 {
                let len = rng.below(batch.left() + 4);
                let payload = rng.bytes(len);
                if batch.push(&payload).is_ok() {
                    staged.push(Space::Frame(payload));
                } else {
                    assert!(frame_len(len).unwrap() > batch.left());
                }
                if rng.below(3) == 0 {
                    batch.publish();
                    published.append(&mut staged);
                }
            }
            let left = batch.left();
            match rng.below(4) {
                0 => drop(batch),
                1 => {
                    std::mem::forget(batch);
                    // The last publication may have ended it.
                    if left > 0 || !staged.is_empty() {
                        published.push(Space::Open(id));
                    }
                }
                _ => {
                    batch.commit();
                    published.append(&mut staged);
                }
            }
            published
        }),
    };
    match outcome {
        Ok(spaces) => {
            assert!(fits && room);
            model.spaces.extend(spaces);
            Ok(())
        }
        Err(error) => {
            match error {
                PushError::Full { needed, free } => assert!(!room && needed > free),
                PushError::TooLarge { .. } => assert!(!fits),
                other => panic!("{other}"),
            }
            Err(error)
        }
    }
}

#[test]
fn whatever_producers_do_the_consumer_gets_what_was_committed() {
    for seed in seeds(if cfg!(miri) { 2 } else { 200 }) {
        println!("seed {seed}");
        let mut rng = Seeded::new(seed);
        let (capacity, producers) = (64 << rng.below(5), 1 + rng.below(4));
        let region = ring(capacity, producers as u32);
        let mut consumer = Consumer::attach(&region).unwrap();
        let mut ends: Vec<Option<Producer<&HeapRegion>>> = (0..producers).map(|_| None).collect();
        let mut model = Model { spaces: VecDeque::new(), seq: 0 };
        // Which slots' owners are dead: their `Producer` was forgotten.
        let mut dead = vec![false; producers];
        for _ in 0..if cfg!(miri) { 60 } else { 400 } {
            let id = rng.below(producers);
            match rng.below(12) {
                0 => {
                    if ends[id].take().is_some() {
                        model.settle(id);
                    }
                }
                1 => {
                    if let Some(end) = ends[id].take() {
                        std::mem::forget(end);
                        dead[id] = true;
                    }
                }
                2 => {
                    let reaped = consumer.reap(|slot, _| !dead[slot as usize]).unwrap();
                    assert_eq!((reaped.slots as usize, reaped.left), (dead.iter().filter(|dead| **dead).count(), 0));
                    for (slot, dead) in dead.iter_mut().enumerate() {
                        if std::mem::take(dead) {
                            model.settle(slot);
                        }
                    }
                }
                3..7 => {
                    model.check(&mut consumer);
                    if rng.below(2) == 0 {
                        consumer.release();
                    }
                    if rng.below(8) == 0 {
                        // All that was released stays released, what was not comes again.
                        consumer.release();
                        consumer = Consumer::attach(&region).unwrap();
                    }
                }
                _ => {
                    if ends[id].is_none() {
                        match Producer::register_at(&region, id as u32) {
                            Ok(end) => ends[id] = Some(end),
                            Err(error) => {
                                assert!(dead[id], "{error}");
                                continue;
                            }
                        }
                    }
                    let end = ends[id].as_mut().unwrap();
                    // A claim that is refused for its length alone ends no other.
                    let outcome = {
                        let mut scratch = Model { spaces: VecDeque::new(), seq: 0 };
                        let outcome = claim_somehow(&mut rng, end, id, &mut scratch);
                        if !matches!(outcome, Err(PushError::TooLarge { .. })) {
                            model.settle(id);
                        }
                        model.spaces.append(&mut scratch.spaces);
                        outcome
                    };
                    let _ = outcome;
                }
            }
            let used = consumer.occupancy().unwrap();
            assert!(used.used <= used.capacity && used.capacity == capacity);
        }
        // Everyone goes home, and nothing is left.
        for (id, end) in ends.into_iter().enumerate() {
            if end.is_some() {
                model.settle(id);
            }
        }
        consumer.reap(|slot, _| !dead[slot as usize]).unwrap();
        for (slot, dead) in dead.iter().enumerate() {
            if *dead {
                model.settle(slot);
            }
        }
        model.check(&mut consumer);
        consumer.release();
        assert!(model.spaces.is_empty());
        assert_eq!(consumer.occupancy().unwrap(), Occupancy { used: 0, capacity });
        let data = region.len() - capacity;
        for at in (data..region.len()).step_by(4) {
            assert_eq!(region.window().load(at), 0, "free space is zero");
        }
    }
}

/// Each producer's frames come in its order, none is missing, none is torn; singles and batches mixed.
#[test]
fn producers_on_threads_lose_nothing() {
    const PRODUCERS: u64 = 3;
    let count: u64 = if cfg!(miri) { 40 } else { 300_000 };
    let region = ring(1 << 12, PRODUCERS as u32);
    let pushed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for id in 0..PRODUCERS {
            let (region, pushed) = (&region, &pushed);
            scope.spawn(move || {
                let mut producer = Producer::register(region).unwrap();
                let mut rng = Seeded::new(id);
                let mut next = 0;
                while next < count {
                    let frames = if rng.below(4) == 0 { 1 + rng.below(16) as u64 } else { 1 };
                    let frames = frames.min(count - next);
                    let message = |number: u64| [id, number, id ^ number, number.wrapping_mul(0x9e37_79b9)];
                    let words = |number| -> Vec<u8> { message(number).iter().flat_map(|w| w.to_le_bytes()).collect() };
                    let sent = match frames {
                        1 if rng.below(16) == 0 => producer.claim(50).map(mpsc::Claim::abort).map(|()| 0),
                        1 => producer.push(&words(next)).map(|()| 1),
                        _ => producer.claim_batch(frames as usize * 40 + 8 * rng.below(4)).map(|mut batch| {
                            for number in next..next + frames {
                                batch.push(&words(number)).unwrap();
                                if rng.below(8) == 0 {
                                    batch.publish();
                                }
                            }
                            batch.commit();
                            frames
                        }),
                    };
                    match sent {
                        Ok(sent) => next += sent,
                        Err(PushError::Full { .. }) => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
                pushed.fetch_add(1, Ordering::Relaxed);
            });
        }
        let mut consumer = Consumer::attach(&region).unwrap();
        let mut next = [0; PRODUCERS as usize];
        let mut rounds = 0u64;
        while next != [count; PRODUCERS as usize] {
            let mut taken = 0;
            while taken < 100
                && let Some(frame) = consumer.step().unwrap()
            {
                let [id, number, mixed, hashed] = frame.payload.read::<[u64; 4]>(0).expect("four words");
                assert_eq!((number, mixed), (next[id as usize], id ^ number));
                assert_eq!(hashed, number.wrapping_mul(0x9e37_79b9));
                next[id as usize] += 1;
                taken += 1;
                assert_eq!(frame.seq, next.iter().sum::<u64>());
            }
            consumer.release();
            if taken == 0 {
                std::thread::yield_now();
            }
            rounds += 1;
            if rounds.is_multiple_of(64) {
                // Nobody is dead, so nothing is taken away.
                let reaped = consumer.reap(|_, _| true).unwrap();
                assert_eq!((reaped.claims, reaped.slots, reaped.holes), (0, 0, 0));
            }
        }
        assert!(consumer.step().unwrap().is_none());
    });
    assert_eq!(pushed.load(Ordering::Relaxed), PRODUCERS);
}

#[test]
fn every_capacity_says_what_it_takes() {
    for shift in 0..32 {
        let capacity = 1usize << shift;
        let valid = (64..=1 << 30).contains(&capacity);
        assert_eq!(len(capacity, 1).is_some(), valid);
        assert_eq!(len(capacity - 1, 1), None);
        assert_eq!((len(capacity, 0), len(capacity, 65)), (None, None));
        if valid {
            let layout = mpsc::layout(capacity, 3).unwrap();
            assert_eq!((layout.size(), layout.align()), (len(capacity, 3).unwrap(), 128));
            assert!(frame_len(max_payload(capacity)).unwrap() <= capacity / 2);
        }
    }
    // A stamp counts 25 bits of units.
    assert_eq!(max_payload(1 << 30), ((1 << 25) - 1) * 8 - 8);
    assert_eq!(frame_len(max_payload(1 << 30) + 1), None);
    let region = HeapRegion::new(1024);
    let say = |capacity, producers| format(&region, &Spec { capacity, producers, ..Spec::default() }).unwrap_err();
    assert_eq!(say(100, 1).to_string(), "capacity 100 is not a power of two: the next one is 128");
    assert_eq!(say(32, 1).to_string(), "capacity 32 is too small: a ring needs at least 64");
    assert_eq!(say(64, 0).to_string(), "unit 0 is not from 1 to 64");
    assert_eq!(say(64, 65).to_string(), "unit 65 is not from 1 to 64");
    assert_eq!(say(512, 2).to_string(), "region too small: ring needs 1408 bytes, 1024 there");
}
