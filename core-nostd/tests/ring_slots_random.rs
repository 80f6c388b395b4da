//! Random operations on a ring of values in shared memory against a `VecDeque`: values of whole words, of odd lengths and
//! of one byte, across the end of the ring and the wrap of the positions, with ends that are attached again.
//!
//! Repeat one run with `CHRONICLE_SEED=<seed>`.
#![cfg(not(loom))]

mod seeded;

use chronicle_core::{
    Damage, Fault, HeapRegion, Region, RegionMut,
    ring::{
        CapacityReason, FormatError,
        slots::{self, ChunkError, Consumer, Producer, PushError, Spec, Value},
    },
};
use seeded::{Seeded, seeds};
use std::{collections::VecDeque, sync::Arc};

fn ring<T: Value>(count: usize) -> HeapRegion {
    let region = HeapRegion::new(slots::len::<T>(count).unwrap());
    for at in (0..region.len()).step_by(4) {
        region.window_mut().store(at, 0xa5a5_a5a5);
    }
    slots::format::<T, _>(&region, &Spec { count, ..Spec::default() }).unwrap();
    region
}

fn run<const LEN: usize>(seed: u64, steps: usize) {
    let mut rng = Seeded::new(seed);
    let count = 1 << rng.below(6);
    let region = Arc::new(ring::<[u8; LEN]>(count));
    let first = match rng.below(3) {
        0 => 0,
        1 => (1u64 << (31 + rng.below(4))).saturating_sub(rng.below(100) as u64),
        _ => (7 << 32) - rng.below(100) as u64,
    };
    region.window_mut().store(slots::TAIL, first as u32);
    region.window_mut().store(slots::HEAD, first as u32);
    region.window_mut().store(slots::TAIL_HIGH, (first >> 31) as u32);
    let mut producer = Producer::<[u8; LEN], _>::attach(region.clone()).unwrap();
    let mut consumer = Consumer::<[u8; LEN], _>::attach(region.clone()).unwrap();
    let (mut staged, mut published, mut taken) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
    let mut pushed = first;
    for _ in 0..steps {
        let free = count - staged.len() - published.len() - taken.len();
        let mut values = |n: usize| -> Vec<[u8; LEN]> { (0..n).map(|_| rng.bytes(LEN).try_into().unwrap()).collect() };
        let one = values(1)[0];
        let many = values(count + 2);
        let n = rng.below(count + 2);
        match rng.below(12) {
            op @ 0..3 => {
                let outcome = if op == 0 { producer.stage(one) } else { producer.push(one) };
                match outcome {
                    Ok(()) => {
                        staged.push_back(one);
                        if op > 0 {
                            published.append(&mut staged);
                        }
                    }
                    Err(refused) => assert!(refused == PushError::Full(one) && free == 0),
                }
            }
            3 => {
                assert_eq!(producer.push_slice(&many[..n]), Ok(n.min(free)));
                staged.extend(&many[..n.min(free)]);
                if n.min(free) > 0 {
                    published.append(&mut staged);
                }
            }
            4 => match producer.chunk(n) {
                Ok(mut chunk) => {
                    let put = rng.below(n + 1);
                    many[..put].iter().for_each(|value| chunk.put(*value));
                    assert_eq!(chunk.left(), n - put);
                    if rng.below(3) > 0 {
                        chunk.commit();
                        staged.extend(&many[..put]);
                        published.append(&mut staged);
                    }
                }
                Err(few) => assert!(few == ChunkError::TooFew { asked: n, there: free } && n > free),
            },
            5 => {
                producer.publish();
                published.append(&mut staged);
            }
            6 => {
                assert_eq!(consumer.step(), Ok(published.front().copied()));
                taken.extend(published.pop_front());
            }
            7 => {
                assert_eq!(consumer.pop(), Ok(published.front().copied()));
                if published.pop_front().is_some() {
                    taken.clear();
                }
            }
            8 => {
                let mut out = vec![[0; LEN]; n];
                let got = consumer.pop_slice(&mut out).unwrap();
                // What it knew of was enough, or it looked.
                assert_eq!(got, n.min(published.len()));
                assert!(published.drain(..got).eq(out[..got].iter().copied()));
                if got > 0 {
                    taken.clear();
                }
            }
            9 => match consumer.chunk(n) {
                Ok(mut chunk) => {
                    let got = rng.below(n + 1);
                    assert!(chunk.by_ref().take(got).eq(published.iter().copied().take(got)));
                    assert_eq!(chunk.len(), n - got);
                    if rng.below(3) > 0 {
                        chunk.commit();
                        published.drain(..got);
                        taken.clear();
                    }
                }
                Err(few) => assert!(few == ChunkError::TooFew { asked: n, there: published.len() }),
            },
            10 => {
                consumer.release();
                taken.clear();
            }
            _ => {
                if rng.below(2) == 0 {
                    producer = Producer::attach(region.clone()).unwrap();
                    staged.clear();
                } else {
                    consumer = Consumer::attach(region.clone()).unwrap();
                    taken.append(&mut published);
                    std::mem::swap(&mut taken, &mut published);
                }
            }
        }
        pushed = pushed.max(producer.next_seq() - 1 - staged.len() as u64);
        assert_eq!(producer.next_seq() - 1, pushed + staged.len() as u64);
        assert_eq!(consumer.next_seq() - 1, pushed - published.len() as u64);
        assert_eq!(producer.occupancy(), consumer.occupancy());
        assert_eq!(consumer.occupancy().used, published.len() + taken.len());
        assert_eq!(consumer.is_ready(), !published.is_empty());
        let free = count - staged.len() - published.len() - taken.len();
        assert!(producer.has_room(free) && !producer.has_room(free + 1));
    }
}

#[test]
fn the_consumer_gets_what_was_published() {
    let (some, steps) = if cfg!(miri) { (1, 100) } else { (60, 2000) };
    for seed in seeds(some) {
        println!("seed {seed}");
        run::<64>(seed, steps);
        run::<1>(seed, steps);
        run::<13>(seed, steps);
        run::<200>(seed, steps);
    }
}

#[test]
fn a_ring_of_other_values_or_another_kind_is_damage() {
    let region = ring::<u64>(4);
    let unit = |found| Damage::at(20, Fault::Field { name: "unit", found });
    assert_eq!(Producer::<u32, _>::attach(&region).unwrap_err(), unit(8));
    assert_eq!(Consumer::<[u8; 9], _>::attach(&region).unwrap_err(), unit(8));
    let kind = chronicle_core::ring::spsc::Producer::attach(&region).unwrap_err();
    assert_eq!(kind, Damage::at(10, Fault::Field { name: "kind", found: 2 }));
    region.window_mut().store(slots::TAIL, 5);
    let tail = Damage::at(slots::TAIL as u64, Fault::Field { name: "tail", found: 5 });
    assert_eq!(Consumer::<u64, _>::attach(&region).unwrap_err(), tail);
}

#[test]
fn a_number_of_slots_that_no_ring_has_is_refused_with_the_reason() {
    let region = HeapRegion::new(1024);
    let format = |count| slots::format::<u64, _>(&region, &Spec { count, ..Spec::default() });
    for asked in [0, 3, 1000] {
        let reason = CapacityReason::NotPowerOfTwo;
        assert_eq!(format(asked), Err(FormatError::Capacity { asked, reason }));
    }
    let reason = CapacityReason::TooLarge { max: 1 << 30 };
    assert_eq!(format(1 << 31), Err(FormatError::Capacity { asked: 1 << 31, reason }));
    assert_eq!(format(128), Err(FormatError::Region { needed: 512 + 1024, found: 1024 }));
    assert_eq!(format(1), Ok(()));
    let layout = slots::layout::<[u8; 13]>(4).unwrap();
    assert_eq!((layout.size(), layout.align()), (512 + 4 * 16, 128));
}

#[test]
fn two_threads_pass_every_value() {
    let count: u64 = if cfg!(miri) { 200 } else { 400_000 };
    let region = ring::<[u64; 2]>(64);
    let mut producer = Producer::<[u64; 2], _>::attach(&region).unwrap();
    let mut consumer = Consumer::<[u64; 2], _>::attach(&region).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut next = 0;
            while next < count {
                if next % 3 == 0 {
                    let values: Vec<_> = (next..count.min(next + 5)).map(|n| [n, !n]).collect();
                    next += producer.push_slice(&values).unwrap() as u64;
                } else if producer.push([next, !next]).is_ok() {
                    next += 1;
                } else {
                    std::thread::yield_now();
                }
            }
        });
        let mut next = 0;
        while next < count {
            let mut out = [[0; 2]; 7];
            let got = consumer.pop_slice(&mut out).unwrap();
            for value in out[..got].iter().copied().chain(consumer.pop().unwrap()) {
                assert_eq!(value, [next, !next]);
                next += 1;
            }
            if got == 0 {
                std::thread::yield_now();
            }
        }
    });
}
