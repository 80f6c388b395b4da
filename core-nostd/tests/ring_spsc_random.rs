//! Random operations on a byte ring against a `VecDeque`: the consumer gets exactly what was published, in order, each
//! with its number, across the end of the ring, the wrap of the positions and of the lower half of the seq, and when
//! either end is dropped and attached again.
//!
//! Repeat one run with `CHRONICLE_SEED=<seed>`.
#![cfg(not(loom))]

mod seeded;

use chronicle_core::{
    HeapRegion, Region, RegionMut,
    ring::{
        CapacityReason, FormatError,
        spsc::{self, Consumer, PopError, Producer, PushError, Spec},
    },
};
use seeded::{Seeded, seeds};
use std::collections::VecDeque;

type Message = (u64, Vec<u8>);

struct Model {
    region: HeapRegion,
    capacity: usize,
    staged: VecDeque<Message>,
    published: VecDeque<Message>,
    /// Taken and not released: delivered again to a new consumer.
    taken: VecDeque<Message>,
    next_seq: u64,
}

fn ring(capacity: usize) -> HeapRegion {
    let region = HeapRegion::new(spsc::len(capacity).unwrap());
    // Used memory: old bytes everywhere.
    for at in (0..region.len()).step_by(4) {
        region.window_mut().store(at, 0xa5a5_a5a5);
    }
    spsc::format(&region, &Spec { capacity, ..Spec::default() }).unwrap();
    region
}

/// An empty ring whose next frame stands at `position` and has this seq.
fn ring_at(capacity: usize, position: u32, seq: u64) -> HeapRegion {
    let region = ring(capacity);
    let window = region.window_mut();
    for word in [spsc::TAIL, spsc::NEWEST, spsc::HEAD] {
        window.store(word, position);
    }
    window.store(spsc::DATA + (position as usize & (capacity - 1)) + 4, seq as u32);
    window.store(spsc::SEQ_HIGH, (seq >> 31) as u32);
    region
}

fn run(seed: u64, steps: usize) {
    let mut rng = Seeded::new(seed);
    let capacity = 64 << rng.below(5);
    let position = match rng.below(3) {
        0 => 0,
        1 => 0u32.wrapping_sub(8 * rng.below(600) as u32),
        _ => (1 << 31) - 8 * rng.below(600) as u32,
    };
    let first_seq = match rng.below(3) {
        0 => 1,
        1 => (1u64 << (31 + rng.below(3))).saturating_sub(rng.below(200) as u64),
        _ => (5 << 32) - rng.below(200) as u64,
    };
    let mut model = Model {
        region: ring_at(capacity, position, first_seq),
        capacity,
        staged: VecDeque::new(),
        published: VecDeque::new(),
        taken: VecDeque::new(),
        next_seq: first_seq,
    };
    let region = std::sync::Arc::new(std::mem::replace(&mut model.region, HeapRegion::new(0)));
    let mut producer = Producer::attach(region.clone()).unwrap();
    let mut consumer = Consumer::attach(region.clone()).unwrap();
    for _ in 0..steps {
        match rng.below(100) {
            0..45 => produce(&mut producer, &mut model, &mut rng),
            45..52 => {
                producer.publish();
                model.published.append(&mut model.staged);
            }
            52..84 => {
                let found = consumer.step().unwrap().map(|frame| {
                    let mut bytes = vec![0; frame.payload.len()];
                    frame.payload.copy_to(&mut bytes);
                    (frame.seq, bytes)
                });
                assert_eq!(found, model.published.front().cloned());
                model.taken.extend(model.published.pop_front());
            }
            84..91 => {
                consumer.release();
                model.taken.clear();
            }
            91..96 => {
                let mut buffer = vec![0; rng.below(capacity)];
                let before = consumer.occupancy();
                match consumer.pop(&mut buffer) {
                    Ok(None) => assert!(model.published.is_empty()),
                    Ok(found) => {
                        assert_eq!(found.map(|(seq, bytes)| (seq, bytes.to_vec())), model.published.front().cloned());
                        model.taken.extend(model.published.pop_front());
                        if consumer.occupancy() != before {
                            model.taken.clear();
                        } else {
                            // Not released yet: there is more, and it is no eighth of the ring.
                            let held: usize = model.taken.iter().map(|(_, bytes)| span(bytes.len())).sum();
                            assert!(held < capacity / 8 && consumer.is_ready());
                        }
                    }
                    Err(PopError::TooShort { needed }) => {
                        assert!(needed > buffer.len() && needed == model.published[0].1.len());
                        // Nothing was released, nor lost.
                    }
                    Err(PopError::Damage(damage)) => panic!("{damage}"),
                }
            }
            96..98 => {
                producer = Producer::attach(region.clone()).unwrap();
                model.next_seq = model.staged.front().map_or(model.next_seq, |(seq, _)| *seq);
                model.staged.clear();
                assert_eq!(producer.next_seq(), model.next_seq);
            }
            _ => {
                consumer = Consumer::attach(region.clone()).unwrap();
                model.taken.append(&mut model.published);
                std::mem::swap(&mut model.taken, &mut model.published);
            }
        }
        let least: usize = model.taken.iter().chain(&model.published).map(|(_, bytes)| span(bytes.len())).sum();
        for used in [producer.occupancy().used, consumer.occupancy().used] {
            assert!((least..=capacity).contains(&used), "{used} used, {least} of it frames");
        }
        // Ready may also mean a pad; never is there a frame without it.
        assert!(consumer.is_ready() || model.published.is_empty());
    }
}

fn span(len: usize) -> usize {
    8 + len.next_multiple_of(8)
}

fn produce(producer: &mut Producer<std::sync::Arc<HeapRegion>>, model: &mut Model, rng: &mut Seeded) {
    let max = spsc::max_payload(model.capacity);
    let len = if rng.below(4) == 0 { max - rng.below(9).min(max) } else { rng.below(max.min(70) + 1) };
    let mut payload = rng.bytes(len);
    let room = producer.has_room(len);
    let publish = rng.below(3) > 0;
    let outcome = match rng.below(3) {
        0 if publish => producer.push(&payload),
        0 => producer.stage(&payload),
        _ => match producer.claim(len) {
            Err(refused) => Err(refused),
            Ok(mut claim) => {
                let (first, rest) = payload.split_at(rng.below(len + 1));
                claim.put_at(first.len(), rest);
                claim.put_at(0, first);
                if rng.below(5) == 0 {
                    // Bytes that nobody wrote are zero.
                    claim.abort();
                    let filled = rng.below(len + 1);
                    payload[filled..].fill(0);
                    claim = producer.claim(len).expect("there was room, and nothing took it");
                    claim.put(&payload[..filled]);
                }
                if rng.below(5) == 0 {
                    return claim.abort();
                }
                Ok(if publish { claim.commit() } else { claim.stage() })
            }
        },
    };
    match outcome {
        Ok(seq) => {
            assert!(room && seq == model.next_seq, "{seq}");
            model.next_seq += 1;
            model.staged.push_back((seq, payload));
            if publish {
                model.published.append(&mut model.staged);
            }
        }
        Err(PushError::Full { needed, free }) => {
            assert!(!room && needed >= span(len) && needed > free);
            let all = model.staged.iter().chain(&model.published).chain(&model.taken);
            let frames: usize = all.map(|(_, bytes)| span(bytes.len())).sum();
            // Pads and what is popped or aborted beside them: at most one rest of a ring in either end's way.
            assert!(frames > 0 || free < model.capacity, "an empty ring takes any payload");
        }
        Err(refused) => panic!("{refused}"),
    }
}

#[test]
fn the_consumer_gets_what_was_published() {
    let (count, steps) = if cfg!(miri) { (3, 150) } else { (400, 3000) };
    for seed in seeds(count) {
        println!("seed {seed}");
        run(seed, steps);
    }
}

#[test]
fn an_empty_ring_takes_the_largest_payload_wherever_it_stands() {
    for capacity in [64, 128, 1024] {
        let max = spsc::max_payload(capacity);
        for start in (0..capacity).step_by(8) {
            let region = ring_at(capacity, start as u32, 1);
            let mut producer = Producer::attach(&region).unwrap();
            let mut consumer = Consumer::attach(&region).unwrap();
            let payload = vec![7; max];
            for seq in 1..=3 {
                assert_eq!(producer.push(&payload), Ok(seq));
                let mut buffer = vec![0; max];
                assert_eq!(consumer.pop(&mut buffer).unwrap().unwrap().1, payload);
            }
            let too_large = Err(PushError::TooLarge { len: max + 1, max });
            assert_eq!(producer.push(&vec![7; max + 1]), too_large);
            assert_eq!(producer.claim(max + 1).map(|_| 0), too_large);
            for len in [usize::MAX, usize::MAX - 7, usize::MAX - 15, 1 << 31, 1 << 32] {
                assert_eq!(producer.claim(len).map(|_| 0), Err(PushError::TooLarge { len, max }));
                assert!(!producer.has_room(len));
            }
        }
    }
}

#[test]
fn a_capacity_that_no_ring_has_is_refused_with_the_reason() {
    let region = HeapRegion::new(4096);
    let format = |capacity| spsc::format(&region, &Spec { capacity, ..Spec::default() });
    let refused = |asked, reason| Err(FormatError::Capacity { asked, reason });
    for asked in [0, 65, 96, 1000, 1023, usize::MAX] {
        assert_eq!(format(asked), refused(asked, CapacityReason::NotPowerOfTwo));
        assert_eq!((spsc::len(asked), spsc::layout(asked)), (None, None));
    }
    assert_eq!(format(32), refused(32, CapacityReason::TooSmall { min: 64 }));
    assert_eq!(format(1 << 31), refused(1 << 31, CapacityReason::TooLarge { max: 1 << 30 }));
    assert_eq!(format(4096), Err(FormatError::Region { needed: 4096 + 512, found: 4096 }));
    assert_eq!(format(2048), Ok(()));
    let layout = spsc::layout(2048).unwrap();
    assert_eq!((layout.size(), layout.align()), (2048 + 512, 128));
    let text = format(1000).unwrap_err().to_string();
    assert_eq!(text, "capacity 1000 is not a power of two: the next one is 1024");
}

#[test]
fn a_full_ring_says_what_is_missing() {
    let region = ring(64);
    let mut producer = Producer::attach(&region).unwrap();
    let mut consumer = Consumer::attach(&region).unwrap();
    for _ in 0..4 {
        producer.push(&[1; 8]).unwrap();
    }
    assert_eq!(producer.push(&[]), Err(PushError::Full { needed: 8, free: 0 }));
    assert_eq!(producer.push(&[]).unwrap_err().to_string(), "ring full: frame needs 8 bytes, 0 free");
    consumer.step().unwrap().unwrap();
    assert_eq!(producer.push(&[]), Err(PushError::Full { needed: 8, free: 0 }), "taken is not released");
    consumer.release();
    assert_eq!(producer.push(&[2; 8]), Ok(5));
    assert_eq!(producer.push(&[]), Err(PushError::Full { needed: 8, free: 0 }));
}

/// Two threads and every length that fits.
#[test]
fn two_threads_pass_every_message() {
    let count: u64 = if cfg!(miri) { 300 } else { 400_000 };
    let region = ring(1024);
    let mut producer = Producer::attach(&region).unwrap();
    let mut consumer = Consumer::attach(&region).unwrap();
    let length = |seq: u64| (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % 150;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for seq in 1..=count {
                let payload = [seq as u8; 150];
                loop {
                    let staged = producer.stage(&payload[..length(seq)]);
                    if seq.is_multiple_of(7) || staged.is_err() || seq == count {
                        producer.publish();
                    }
                    match staged {
                        Ok(number) => break assert_eq!(number, seq),
                        Err(PushError::Full { .. }) => std::thread::yield_now(),
                        Err(refused) => panic!("{refused}"),
                    }
                }
            }
        });
        for seq in 1..=count {
            loop {
                if let Some(frame) = consumer.step().unwrap() {
                    let mut bytes = [0; 150];
                    let bytes = frame.payload.copy_to(&mut bytes);
                    assert!(frame.seq == seq && bytes.len() == length(seq) && bytes.iter().all(|b| *b == seq as u8));
                    break;
                }
                consumer.release();
                std::thread::yield_now();
            }
            if seq.is_multiple_of(5) {
                consumer.release();
            }
        }
    });
}
