//! Words that no end of ours made, anywhere in a ring of many producers, before and while its ends work: at worst they
//! report damage. Nothing panics, runs on, or reaches outside the region.
#![cfg(not(loom))]

mod seeded;

use chronicle_core::{
    Damage, HeapRegion, Region, RegionMut,
    ring::mpsc::{Consumer, DATA_WAKE, MAX_PRODUCERS, Producer, PushError, RegisterError, Spec, format, len, look},
    wake::Mode,
};
use seeded::{Seeded, seeds};
use std::sync::atomic::{AtomicBool, Ordering};

const CAPACITY: usize = 256;
const PRODUCERS: u32 = 3;
/// Where the positions are.
const TAIL: usize = 128;
const HEAD: usize = 256;
/// Behind the wake words.
const SLOTS: usize = 640;

fn ring() -> HeapRegion {
    let region = HeapRegion::new(len(CAPACITY, PRODUCERS).unwrap());
    format(&region, &Spec { capacity: CAPACITY, producers: PRODUCERS, ..Spec::default() }).unwrap();
    region
}

/// A word that comes near what ends store, or none at all.
fn word(rng: &mut Seeded) -> u32 {
    match rng.below(8) {
        0 => 0,
        1 => 1 + rng.below(CAPACITY) as u32,
        2 => 1 << 31 | (rng.below(PRODUCERS as usize + 1) as u32) << 25 | rng.below(CAPACITY / 8 + 2) as u32,
        3 => 1 << 30 | rng.below(CAPACITY / 8 + 2) as u32,
        4 => rng.below(CAPACITY / 2) as u32 * 8,
        5 => u32::MAX - rng.below(16) as u32,
        _ => rng.next() as u32,
    }
}

/// Stores words into control lines or data; the header is checked once and not looked at again.
fn mutate(region: &HeapRegion, rng: &mut Seeded, positions: bool) {
    let at = match rng.below(3) {
        0 => region.len() - CAPACITY + rng.below(CAPACITY / 4) * 4,
        1 => 640 + 128 * rng.below(PRODUCERS as usize) + 4 * rng.below(2),
        _ => TAIL + rng.below((region.len() - TAIL) / 4) * 4,
    };
    let position = [TAIL, HEAD].contains(&(at & !7));
    if positions || !position {
        region.window_mut().store(at, word(rng));
    }
}

struct Ends<'a> {
    region: &'a HeapRegion,
    producers: Vec<Producer<&'a HeapRegion>>,
    consumer: Option<Consumer<&'a HeapRegion>>,
    /// Frames since the last release.
    taken: usize,
}

impl<'a> Ends<'a> {
    fn new(region: &'a HeapRegion) -> Self {
        Ends { region, producers: Vec::new(), consumer: Consumer::attach(region).ok(), taken: 0 }
    }

    /// One operation of any kind; whatever it says is fine.
    fn operate(&mut self, rng: &mut Seeded) {
        match rng.below(10) {
            0 => match Producer::register(self.region) {
                Ok(producer) => self.producers.push(producer),
                Err(RegisterError::NoSlot { .. } | RegisterError::Damage(_)) => {}
                Err(other) => panic!("{other}"),
            },
            1 if !self.producers.is_empty() => {
                let at = rng.below(self.producers.len());
                drop(self.producers.swap_remove(at));
            }
            2 => {
                self.consumer = Consumer::attach(self.region).ok();
                self.taken = 0;
            }
            3..6 => {
                if let Some(producer) = self.producers.last_mut() {
                    let len = rng.below(140);
                    let _ = (producer.has_room(len), producer.occupancy(), producer.sleepers(Mode::Fence));
                    match rng.below(4) {
                        0 => {
                            if let Ok(mut batch) = producer.claim_batch(len) {
                                while batch.push(&[7; 10]).is_ok() {
                                    if rng.below(2) == 0 {
                                        batch.publish();
                                    }
                                }
                                if rng.below(2) == 0 {
                                    batch.commit();
                                }
                            }
                        }
                        1 => {
                            if let Ok(mut claim) = producer.claim(len) {
                                claim.put(&vec![8; len]);
                                if rng.below(2) == 0 {
                                    std::mem::forget(claim);
                                }
                            }
                        }
                        _ => match producer.push(&rng.bytes(len)) {
                            Ok(())
                            | Err(
                                PushError::Full { .. }
                                | PushError::TooLarge { .. }
                                | PushError::Damage(_)
                                | PushError::Contended,
                            ) => {}
                        },
                    }
                }
                let at = rng.below(self.producers.len().max(1));
                if at < self.producers.len() {
                    self.producers.swap(0, at);
                }
            }
            6 => {
                if let Some(consumer) = &mut self.consumer {
                    let dead = rng.next();
                    if let Ok(reaped) = consumer.reap(|slot, _| dead >> slot & 1 == 0) {
                        assert!(reaped.slots + reaped.left <= MAX_PRODUCERS);
                        assert!(reaped.claims + reaped.holes <= (CAPACITY / 8) as u64);
                    }
                    let _ = (consumer.occupancy(), consumer.reaped());
                }
            }
            _ => {
                if let Some(consumer) = &mut self.consumer {
                    for _ in 0..rng.below(20) {
                        let _ = consumer.is_ready();
                        match consumer.step() {
                            Ok(Some(frame)) => {
                                let mut payload = vec![0; frame.payload.len()];
                                frame.payload.copy_to(&mut payload);
                                self.taken += 1;
                                assert!(self.taken <= CAPACITY / 8, "more frames than a ring has room for");
                            }
                            Ok(None) => break,
                            Err(Damage { offset, .. }) => {
                                assert!((offset as usize) < self.region.len());
                                break;
                            }
                        }
                    }
                    if rng.below(2) == 0 {
                        consumer.release();
                        self.taken = 0;
                        let _ = consumer.sleepers(Mode::Fence);
                    }
                }
            }
        }
    }
}

#[test]
fn s_7_words_that_change_between_operations_do_no_worse_than_damage() {
    for seed in seeds(if cfg!(miri) { 3 } else { 400 }) {
        println!("seed {seed}");
        let mut rng = Seeded::new(seed);
        let region = ring();
        let mut ends = Ends::new(&region);
        for _ in 0..if cfg!(miri) { 100 } else { 400 } {
            ends.operate(&mut rng);
            if rng.below(3) == 0 {
                mutate(&region, &mut rng, true);
            }
        }
    }
}

#[test]
fn s_7_a_peer_that_scribbles_while_we_work_does_no_worse_than_damage() {
    let stop = AtomicBool::new(false);
    let region = ring();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = Seeded::new(1);
            while !stop.load(Ordering::Relaxed) {
                mutate(&region, &mut rng, false);
            }
        });
        let mut rng = Seeded::new(2);
        for round in 0..if cfg!(miri) { 3 } else { 300 } {
            // Nobody else works: a new beginning, so that positions are good now and then.
            format(&region, &Spec { capacity: CAPACITY, producers: PRODUCERS, ..Spec::default() }).unwrap();
            let mut ends = Ends::new(&region);
            for _ in 0..if cfg!(miri) { 30 } else { 200 } {
                ends.operate(&mut rng);
                if round % 2 == 0 && rng.below(16) == 0 {
                    mutate(&region, &mut rng, true);
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[cfg_attr(miri, ignore = "under Miri a position is an atomic of another size than its halves")]
fn halves_of_a_position_may_be_looked_at_and_stored_while_it_moves() {
    let (region, stop) = (ring(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (window, mut rng) = (region.window_mut(), Seeded::new(5));
            while !stop.load(Ordering::Relaxed) {
                for at in [TAIL, TAIL + 4, HEAD, HEAD + 4] {
                    std::hint::black_box((window.load(at), window.load_acquire(at)));
                    window.copy_out(at, &mut [0; 8]);
                    if rng.below(64) == 0 {
                        window.store(at, word(&mut rng));
                    }
                }
            }
        });
        let outcomes = (0..2_000).filter(|_| {
            let Ok(mut producer) = Producer::register(&region) else { return false };
            let Ok(mut consumer) = Consumer::attach(&region) else { return false };
            let pushed = producer.push(&[7; 8]).is_ok();
            _ = consumer.step();
            consumer.release();
            pushed
        });
        println!("{} pushes went through", outcomes.count());
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn who_only_looks_comes_to_an_end_whatever_the_positions() {
    let region = ring();
    let window = region.window_mut();
    let near_the_end = |below: u64| 0_u64.wrapping_sub(below);
    for head in [0, 8, near_the_end(8), near_the_end(256), near_the_end(3)] {
        for tail in [0, 8, u64::MAX, near_the_end(8), near_the_end(256)] {
            for word in [9, 1 << 30 | 1, 1 << 30, 1 << 31, 0, u32::MAX] {
                window.store64(HEAD, head);
                window.store64(TAIL, tail);
                (SLOTS..region.len()).step_by(4).for_each(|at| window.store(at, word));
                let seen = look(&region).unwrap();
                assert!(seen.occupancy.used <= CAPACITY, "{head:#x} {tail:#x} {word:#x}: {seen:?}");
            }
        }
    }
}

#[test]
fn positions_that_no_end_stores_are_told() {
    for (at, value, name) in [
        (TAIL, 4, "tail is 0x4"),
        (TAIL + 4, 1 << 31, "tail is 0x8000000000000000"),
        (TAIL, 2 * CAPACITY as u32, "head is 0x0"),
        (HEAD, 2 * CAPACITY as u32, "head is 0x200"),
        (HEAD, 3, "head is 0x3"),
    ] {
        let region = ring();
        let mut producer = Producer::register(&region).unwrap();
        region.window_mut().store(at, value);
        // A head is looked at when the one that was seen last leaves no room.
        let refused = (0..3).find_map(|_| producer.push(&[1; CAPACITY / 2 - 8]).err());
        let Some(PushError::Damage(damage)) = refused else { panic!("{name}: {refused:?}") };
        assert!(damage.to_string().contains(name), "{damage}");
        assert!(producer.occupancy().is_err() && producer.has_room(8));
        drop(producer);
        assert!(matches!(Producer::register(&region), Err(RegisterError::Damage(_))));
        Consumer::attach(&region).expect_err(name);
    }
    for (at, value, name) in [
        (384, 2, "current is 0x2"),
        (392, 8, "mark is 0x8"),
        (392, 4, "mark is 0x4"),
        (400, 1, "mark.frames is 0x1"),
        (DATA_WAKE + 8, 2, "wake_mode is 0x2"),
        (16, 128, "checksum"),
    ] {
        let region = ring();
        region.window_mut().store(at, value);
        let damage = Consumer::attach(&region).unwrap_err();
        assert!(damage.to_string().contains(name), "{damage}");
    }
}

/// A stamp in the name of a slot that nobody holds, and lengths that lead out of the ring.
#[test]
fn words_that_no_producer_stores_are_told_and_stay() {
    for (bad, name) in [
        (1 << 30, "claims 0 bytes"),
        (1 << 30 | 33, "claims 264 bytes"),
        (250, "claims 264 bytes"),
        (1 << 29, "bytes, 256 left"),
        (1 << 31 | 1 << 25 | 2, "stamp is"),
        (1 << 31 | 2, "stamp is"),
        (1 << 31 | 63 << 25 | 2, "stamp is"),
    ] {
        let region = ring();
        let mut producer = Producer::register(&region).unwrap();
        producer.push(&[1; 120]).unwrap();
        producer.push(&[1; 120]).unwrap();
        drop(producer);
        region.window_mut().store(region.len() - CAPACITY, bad);
        let mut consumer = Consumer::attach(&region).unwrap();
        for _ in 0..2 {
            let damage = match consumer.step() {
                Err(damage) => damage,
                Ok(found) => {
                    assert!(found.is_none(), "{name}");
                    consumer.reap(|_, _| false).expect_err(name)
                }
            };
            assert!(damage.to_string().contains(name), "{damage}, not {name}");
        }
    }
}
