//! Long schedules: more threads, more messages and more laps than loom can exhaust, each run on a random schedule.
//!
//! Shuttle treats every atomic access as sequentially consistent, so nothing here speaks of orderings: that is what the
//! loom models are for. What it finds are schedules: who comes between which two steps, over many laps and wake-ups.
//! A failure prints its schedule, to be replayed. Run by `ci/shuttle`; `SHUTTLE_ITERATIONS` says how often.
#![cfg(all(loom, shuttle))]

use chronicle_core::{
    HeapRegion, RegionMut,
    ring::{
        broadcast::{self, Received, Start},
        mpsc, spsc,
    },
    twin::mortal,
    wake::{self, Mode},
};
use shuttle::{
    sync::{Condvar, Mutex},
    thread,
};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// On schedules drawn evenly, and on such that change threads at few, ill-chosen moments.
fn check(model: fn()) {
    let runs = std::env::var("SHUTTLE_ITERATIONS").map_or(1000, |n| n.parse().expect("SHUTTLE_ITERATIONS is a number"));
    shuttle::check_random(model, runs);
    shuttle::check_pct(model, runs, 3);
}

/// What the kernel keeps for one futex word. A sleep has no time-out: a lost wake-up is a deadlock, and is reported.
#[derive(Default)]
struct Futex {
    lock: Mutex<()>,
    sleepers: Condvar,
}

impl Futex {
    fn wait(&self, as_expected: impl Fn() -> bool) {
        let held = self.lock.lock().unwrap();
        if as_expected() {
            drop(self.sleepers.wait(held).unwrap());
        }
    }

    fn wake_all(&self) {
        let _held = self.lock.lock().unwrap();
        self.sleepers.notify_all();
    }
}

fn broadcast_ring(capacity: usize) -> Arc<HeapRegion> {
    let region = Arc::new(HeapRegion::new(broadcast::len(capacity).unwrap()));
    broadcast::format(&*region, &broadcast::Spec { capacity, ..Default::default() }).unwrap();
    region
}

/// Length and bytes that a seq's message has.
fn message(seq: u64) -> Vec<u8> {
    vec![seq as u8; (seq as usize * 5) % 9]
}

/// Reads until `last` is read or lost; sleeps where there is a futex, else gives way.
fn follow(region: Arc<HeapRegion>, last: u64, futex: Option<Arc<Futex>>) -> (u64, u64) {
    let mut reader = broadcast::Reader::attach(region.clone(), Start::Seq(1)).unwrap();
    let (mut received, mut lost_all) = (0, 0);
    let mut buffer = [0; 8];
    while received + lost_all < last {
        match reader.receive(&mut buffer).expect("no damage on any schedule") {
            Received::Message { seq, len } => {
                received += 1;
                assert_eq!(seq, received + lost_all);
                assert_eq!(buffer[..len], message(seq), "seq {seq} is torn");
            }
            Received::Lapped { lost, resume_seq } => {
                lost_all += lost;
                assert_eq!(resume_seq, received + lost_all + 1);
            }
            Received::Unfit { len, .. } => panic!("no message has {len} bytes"),
            Received::Empty => match &futex {
                None => thread::yield_now(),
                Some(futex) => {
                    let word = reader.mark_sleeper();
                    wake::settle();
                    if !reader.is_ready() {
                        futex.wait(|| region.window_mut().load(broadcast::DATA_WAKE) == word);
                    }
                }
            },
        }
    }
    (received, lost_all)
}

#[test]
fn broadcast_readers_lose_nothing_that_is_not_counted() {
    check(|| {
        let region = broadcast_ring(64);
        let mut writer = broadcast::Writer::attach(region.clone()).unwrap();
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let region = region.clone();
                thread::spawn(move || follow(region, 40, None))
            })
            .collect();
        for seq in 1..=40 {
            assert_eq!(writer.push(&message(seq)), Ok(seq));
        }
        for reader in readers {
            let (received, lost) = reader.join().unwrap();
            assert_eq!(received + lost, 40);
        }
    });
}

#[test]
fn broadcast_writers_that_are_killed_are_followed_without_gap_or_repeat() {
    check(|| {
        let region = broadcast_ring(64);
        let reader = {
            let region = region.clone();
            thread::spawn(move || follow(region, 40, None))
        };
        let mut next = 1;
        while next <= 40 {
            let steps = shuttle::rand::Rng::gen_range(&mut shuttle::rand::thread_rng(), 0..60);
            mortal(steps, || {
                let mut writer = broadcast::Writer::attach(region.clone()).unwrap();
                while writer.next_seq() <= 40 {
                    let seq = writer.next_seq();
                    writer.push(&message(seq)).unwrap();
                }
            });
            let followed = broadcast::Writer::attach(region.clone()).unwrap().next_seq();
            assert!(followed >= next);
            next = followed;
        }
        let (received, lost) = reader.join().unwrap();
        assert_eq!(received + lost, 40);
    });
}

fn sleepers(settled: bool) {
    let region = broadcast_ring(256);
    let futex = Arc::new(Futex::default());
    let mut writer = broadcast::Writer::attach(region.clone()).unwrap();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (region, futex) = (region.clone(), futex.clone());
            thread::spawn(move || follow(region, 6, Some(futex)))
        })
        .collect();
    for seq in 1..=6 {
        // The wrong order for the twin: who looks before it stores misses a sleeper that has just looked.
        let early = !settled && writer.sleepers(Mode::Fence);
        writer.push(&message(seq)).unwrap();
        if early || settled && writer.sleepers(Mode::Fence) {
            futex.wake_all();
        }
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn no_wake_up_is_lost_over_many_sleeps() {
    check(|| sleepers(true));
}

#[test]
fn twin_a_writer_that_looks_for_sleepers_before_it_pushes_loses_a_wake_up() {
    let refuted = catch_unwind(AssertUnwindSafe(|| check(|| sleepers(false))));
    assert!(refuted.is_err(), "the weakened protocol passed: the model is blind");
}

#[test]
fn spsc_messages_arrive_in_order_over_many_laps() {
    check(|| {
        let region = Arc::new(HeapRegion::new(spsc::len(64).unwrap()));
        spsc::format(&*region, &spsc::Spec { capacity: 64, ..Default::default() }).unwrap();
        let mut producer = spsc::Producer::attach(region.clone()).unwrap();
        let mut consumer = spsc::Consumer::attach(region).unwrap();
        let pushing = thread::spawn(move || {
            for seq in 1..=60 {
                while let Err(refused) = producer.push(&message(seq)) {
                    assert!(matches!(refused, spsc::PushError::Full { .. }), "{refused}");
                    thread::yield_now();
                }
            }
        });
        let (mut buffer, mut next) = ([0; 8], 1);
        while next <= 60 {
            match consumer.pop(&mut buffer).unwrap() {
                Some((seq, bytes)) => {
                    assert_eq!((seq, &*bytes), (next, &*message(next)));
                    next += 1;
                }
                None => thread::yield_now(),
            }
        }
        pushing.join().unwrap();
    });
}

#[test]
fn mpsc_messages_of_each_producer_arrive_once_and_in_order() {
    check(|| {
        let spec = mpsc::Spec { capacity: 128, producers: 3, ..Default::default() };
        let region = Arc::new(HeapRegion::new(mpsc::len(spec.capacity, spec.producers).unwrap()));
        mpsc::format(&*region, &spec).unwrap();
        let mut consumer = mpsc::Consumer::attach(region.clone()).unwrap();
        let producers: Vec<_> = (0..3u8)
            .map(|who| {
                let mut producer = mpsc::Producer::register(region.clone()).unwrap();
                thread::spawn(move || {
                    for n in 0..12u8 {
                        while let Err(refused) = producer.push(&[who, n]) {
                            assert!(matches!(refused, mpsc::PushError::Full { .. }), "{refused}");
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let (mut seen, mut taken) = (BTreeMap::new(), 0);
        while taken < 36 {
            let mut any = false;
            while let Some(frame) = consumer.step().unwrap() {
                taken += 1;
                any = true;
                assert_eq!(frame.seq, taken);
                let [who, n] = frame.payload.read::<[u8; 2]>(0).unwrap();
                assert_eq!(std::mem::replace(seen.entry(who).or_insert(0), n + 1), n);
            }
            consumer.release();
            if !any {
                thread::yield_now();
            }
        }
        for producer in producers {
            producer.join().unwrap();
        }
    });
}
