//! Random operations on a ring of values against a `VecDeque`; and no value is dropped twice or lost, whatever panics or
//! is forgotten in between.
//!
//! Repeat one run with `CHRONICLE_SEED=<seed>`.
#![cfg(not(loom))]

mod seeded;

use chronicle_core::ring::{
    CapacityReason, FormatError,
    local::{self, Consumer, Full, Producer, Ring, TooFewSlots},
};
use seeded::{Seeded, seeds};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

/// A value with a destructor, counted while it lives.
#[derive(Debug)]
struct Counted {
    number: Box<u64>,
    alive: Arc<AtomicI64>,
}

impl Counted {
    fn new(number: u64, alive: &Arc<AtomicI64>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Counted { number: Box::new(number), alive: alive.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
        if *self.number == u64::MAX {
            panic!("a destructor that panics");
        }
    }
}

fn operate<const N: usize>(
    (producer, consumer): &mut (Producer<'_, Counted>, Consumer<'_, Counted>),
    model: &mut VecDeque<u64>,
    rng: &mut Seeded,
    alive: &Arc<AtomicI64>,
) {
    let count = rng.below(N + 2);
    let free = N - model.len();
    match rng.below(10) {
        0..3 => {
            let number = rng.next() >> 1;
            match producer.push(Counted::new(number, alive)) {
                Ok(()) => model.push_back(number),
                Err(Full(back)) => assert!(free == 0 && *back.number == number),
            }
        }
        3 => match producer.write_chunk_uninit(count) {
            Ok(chunk) => {
                let numbers: Vec<u64> = (0..rng.below(count + 3)).map(|_| rng.next() >> 1).collect();
                let filled = chunk.fill_from_iter(numbers.iter().map(|number| Counted::new(*number, alive)));
                assert_eq!(filled, numbers.len().min(count));
                model.extend(&numbers[..filled]);
            }
            Err(few) => assert!(few == TooFewSlots { asked: count, there: free } && count > free),
        },
        4 => {
            // The iterator panics after some values: those are there.
            if let Ok(chunk) = producer.write_chunk_uninit(count) {
                let mut left = rng.below(count + 1);
                let give = left;
                let values = std::iter::from_fn(|| {
                    left = left.checked_sub(1)?;
                    Some(Counted::new(left as u64, alive))
                })
                .chain(std::iter::once_with(|| panic!("an iterator that panics")));
                let done = catch_unwind(AssertUnwindSafe(|| chunk.fill_from_iter(values)));
                assert_eq!(done.is_err(), give < count);
                model.extend((0..give as u64).rev());
            }
        }
        5..7 => {
            assert_eq!(consumer.peek().map(|value| *value.number), model.front().copied());
            assert_eq!(consumer.pop().map(|value| *value.number), model.pop_front());
        }
        7 => match consumer.read_chunk(count) {
            Ok(chunk) => {
                let (first, second) = chunk.as_slices();
                let there: Vec<u64> = first.iter().chain(second).map(|value| *value.number).collect();
                assert_eq!(there, model.iter().copied().take(count).collect::<Vec<_>>());
                match rng.below(3) {
                    0 => drop(chunk),
                    1 => {
                        let taken = rng.below(count + 1);
                        chunk.commit(taken);
                        model.drain(..taken);
                    }
                    _ => {
                        let taken = rng.below(count + 1);
                        let values = chunk.into_iter().take(taken);
                        assert_eq!(values.map(|value| *value.number).collect::<Vec<_>>(), there[..taken]);
                        model.drain(..taken);
                    }
                }
            }
            Err(few) => assert!(few == TooFewSlots { asked: count, there: model.len() } && count > model.len()),
        },
        8 => {
            // A destructor panics: its value is gone, and those behind it are still there.
            if free > 0 && producer.push(Counted::new(u64::MAX, alive)).is_ok() {
                model.push_back(u64::MAX);
            }
            if let Some(at) = model.iter().position(|number| *number == u64::MAX) {
                let chunk = consumer.read_chunk(model.len()).unwrap();
                catch_unwind(AssertUnwindSafe(|| chunk.commit_all())).expect_err("it panics");
                model.drain(..=at);
            }
        }
        _ => {
            assert_eq!(producer.occupancy(), consumer.occupancy());
            assert_eq!(consumer.occupancy().used, model.len());
        }
    }
}

fn run<const N: usize>(seed: u64, steps: usize) {
    let mut rng = Seeded::new(seed);
    let alive = Arc::new(AtomicI64::new(0));
    let mut model = VecDeque::new();
    if rng.below(2) == 0 {
        let mut ring: Ring<Counted, N> = Ring::new();
        for _ in 0..3 {
            let mut ends = ring.split();
            for _ in 0..steps / 3 {
                operate::<N>(&mut ends, &mut model, &mut rng, &alive);
            }
        }
        assert_eq!(alive.load(Ordering::Relaxed), model.len() as i64);
    } else {
        let mut ends = local::channel(N).unwrap();
        for _ in 0..steps {
            operate::<N>(&mut ends, &mut model, &mut rng, &alive);
        }
        assert_eq!(alive.load(Ordering::Relaxed), model.len() as i64);
    }
    assert_eq!(alive.load(Ordering::Relaxed), 0, "what is left goes with the ring");
}

#[test]
fn the_consumer_gets_what_was_pushed_and_each_value_is_dropped_once() {
    // Hundreds of expected panics would drown everything else.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(|| {
        for seed in seeds(if cfg!(miri) { 2 } else { 60 }) {
            println!("seed {seed}");
            let steps = if cfg!(miri) { 100 } else { 2000 };
            run::<1>(seed, steps);
            run::<4>(seed, steps);
            run::<32>(seed, steps);
        }
    });
    std::panic::set_hook(hook);
    if let Err(why) = outcome {
        std::panic::resume_unwind(why);
    }
}

/// `mem::forget` may leak, never give a value twice.
#[test]
#[cfg_attr(miri, ignore = "it leaks on purpose; run it with -Zmiri-ignore-leaks")]
fn forgotten_iterators_and_ends_leak_and_no_worse() {
    let alive = Arc::new(AtomicI64::new(0));
    let mut ring: Ring<Counted, 4> = Ring::new();
    {
        let (mut producer, mut consumer) = ring.split();
        for number in 0..4 {
            producer.push(Counted::new(number, &alive)).unwrap();
        }
        let mut values = consumer.read_chunk(3).unwrap().into_iter();
        assert_eq!(values.next().map(|value| *value.number), Some(0));
        std::mem::forget(values);
        std::mem::forget(consumer);
    }
    // 1 and 2 were the chunk's and are lost with it.
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(consumer.pop().map(|value| *value.number), Some(3));
    for number in 4..8 {
        producer.push(Counted::new(number, &alive)).unwrap();
    }
    assert!(producer.push(Counted::new(8, &alive)).is_err());
    std::mem::forget(consumer.read_chunk(2).unwrap().into_iter());
    assert_eq!(consumer.pop().map(|value| *value.number), Some(6));
    drop((producer, consumer));
    drop(ring);
    assert_eq!(alive.load(Ordering::Relaxed), 4, "two and two");
}

#[test]
fn chunks_of_defaults() {
    let (mut producer, mut consumer) = local::channel::<u32>(8).unwrap();
    for round in 0..5 {
        let mut chunk = producer.write_chunk(5).unwrap();
        let (first, second) = chunk.as_mut_slices();
        assert!(first.len() + second.len() == 5 && first.iter().chain(&*second).all(|value| *value == 0));
        for (i, value) in first.iter_mut().chain(second).enumerate() {
            *value = round * 10 + i as u32;
        }
        chunk.commit(4);
        let mut out = [0; 9];
        assert_eq!(consumer.pop_slice(&mut out), 4);
        assert_eq!(out[..4], [0, 1, 2, 3].map(|i| round * 10 + i));
        assert_eq!(producer.push_slice(&[7; 9]), 8);
        assert_eq!((consumer.pop_slice(&mut out[..3]), consumer.pop_slice(&mut out)), (3, 5));
        drop(producer.write_chunk(8).unwrap());
        assert_eq!(consumer.pop(), None);
    }
}

/// The third default panics: the two before it are dropped, and the slots are free again.
#[test]
fn a_default_that_panics_leaves_the_slots_free() {
    use std::cell::Cell;
    thread_local!(static ALIVE: Cell<i32> = const { Cell::new(0) });
    #[derive(Debug)]
    struct Third;
    impl Default for Third {
        fn default() -> Self {
            assert!(ALIVE.get() < 2, "the third");
            ALIVE.set(ALIVE.get() + 1);
            Third
        }
    }
    impl Drop for Third {
        fn drop(&mut self) {
            ALIVE.set(ALIVE.get() - 1);
        }
    }
    let (mut producer, mut consumer) = local::channel::<Third>(4).unwrap();
    catch_unwind(AssertUnwindSafe(|| drop(producer.write_chunk(3)))).expect_err("it panics");
    assert_eq!(ALIVE.get(), 0);
    producer.write_chunk(2).unwrap().commit(1);
    assert_eq!(ALIVE.get(), 1);
    assert!(consumer.pop().is_some() && consumer.pop().is_none());
}

#[test]
fn an_end_that_is_gone_is_seen_with_all_that_it_pushed() {
    let (mut producer, mut consumer) = local::channel(4).unwrap();
    assert!(!producer.is_abandoned() && !consumer.is_abandoned());
    let thread = std::thread::spawn(move || producer.push(5).unwrap());
    while !consumer.is_abandoned() {
        std::hint::spin_loop();
    }
    assert_eq!((consumer.pop(), consumer.pop()), (Some(5), None));
    thread.join().unwrap();
    let (producer, consumer) = local::channel::<u8>(4).unwrap();
    drop(consumer);
    assert!(producer.is_abandoned());
    let mut ring: Ring<u8, 2> = Ring::new();
    drop(ring.split());
    let (producer, consumer) = ring.split();
    assert!(!producer.is_abandoned() && !consumer.is_abandoned());
}

#[test]
fn a_capacity_that_no_ring_has_is_refused() {
    for asked in [0, 3, 24, usize::MAX] {
        let refused = FormatError::Capacity { asked, reason: CapacityReason::NotPowerOfTwo };
        assert_eq!(local::channel::<u8>(asked).map(|_| ()).unwrap_err(), refused);
    }
    let reason = CapacityReason::TooLarge { max: local::MAX_CAPACITY };
    let refused = local::channel::<u8>(1 << 31).map(|_| ()).unwrap_err();
    assert_eq!(refused, FormatError::Capacity { asked: 1 << 31, reason });
}

#[test]
fn two_threads_pass_every_value() {
    let count: u64 = if cfg!(miri) { 200 } else { 300_000 };
    let mut ring: Ring<Box<u64>, 64> = Ring::new();
    let (mut producer, mut consumer) = ring.split();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut next = 0;
            while next < count {
                if next % 3 == 0 {
                    let room = (64 - producer.occupancy().used).min((count - next) as usize).min(7);
                    let chunk = producer.write_chunk_uninit(room).unwrap();
                    next += chunk.fill_from_iter((next..).map(Box::new)) as u64;
                } else if producer.push(Box::new(next)).is_ok() {
                    next += 1;
                }
            }
        });
        let mut next = 0;
        while next < count {
            if let Some(value) = consumer.pop() {
                assert_eq!(*value, next);
                next += 1;
            }
            let ready = consumer.occupancy().used;
            for value in consumer.read_chunk(ready.min(5)).unwrap() {
                assert_eq!(*value, next);
                next += 1;
            }
        }
    });
}
