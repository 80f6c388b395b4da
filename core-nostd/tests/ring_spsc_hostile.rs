//! A peer that scribbles over a ring of two ends: damage at worst, with bounded work; and the bytes of the format.
#![cfg(not(loom))]

mod seeded;

use chronicle_core::{
    Damage, Fault, HeapRegion, Region, RegionMut,
    ring::{
        self, Identity, Kind,
        slots::{self, ChunkError},
        spsc::{self, PopError, PushError},
    },
    wake::Mode,
};
use seeded::{Seeded, seeds};
use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

const CAPACITY: usize = 256;
const COUNT: usize = 8;
type Value = [u32; 3];

fn bytes_ring() -> HeapRegion {
    let region = HeapRegion::new(spsc::len(CAPACITY).unwrap());
    spsc::format(&region, &spsc::Spec { capacity: CAPACITY, ..Default::default() }).unwrap();
    region
}

fn slots_ring() -> HeapRegion {
    let region = HeapRegion::new(slots::len::<Value>(COUNT).unwrap());
    slots::format::<Value, _>(&region, &slots::Spec { count: COUNT, ..Default::default() }).unwrap();
    region
}

/// One word, somewhere: a number near those that the protocol stores, or any.
fn scribble(region: &HeapRegion, rng: &mut Seeded) {
    let at = match rng.below(3) {
        0 => [spsc::TAIL, spsc::NEWEST, spsc::SEQ_HIGH, spsc::HEAD, spsc::DATA_WAKE, spsc::SPACE_WAKE][rng.below(6)],
        1 => spsc::DATA + rng.below((region.len() - spsc::DATA) / 4) * 4,
        _ => rng.below(region.len() / 4) * 4,
    };
    let old = region.window().load(at);
    let word = match rng.below(4) {
        0 => old.wrapping_add(8 * rng.below(80) as u32).wrapping_sub(320),
        1 => old ^ 1 << rng.below(32),
        2 => spsc::PAD | rng.below(300) as u32,
        _ => (rng.next() >> rng.below(64)) as u32,
    };
    region.window_mut().store(at, word);
}

/// Every operation of both ends of a byte ring, once. Frames never reach out of the data area or over the capacity.
fn use_bytes(producer: &mut spsc::Producer<&HeapRegion>, consumer: &mut spsc::Consumer<&HeapRegion>, rng: &mut Seeded) {
    let payload = [0x11; CAPACITY];
    let len = rng.below(spsc::max_payload(CAPACITY) + 2);
    let known = |refused: PushError| match refused {
        PushError::Full { needed, free } => assert!(needed > free && free <= CAPACITY),
        PushError::TooLarge { len, max } => assert!(len > max),
        PushError::Damage(damage) => assert_eq!(damage.offset, spsc::HEAD as u64),
    };
    match rng.below(3) {
        0 => drop(producer.push(&payload[..len]).map_err(known)),
        1 => drop(producer.stage(&payload[..len]).map_err(known)),
        _ => match producer.claim(len) {
            Ok(mut claim) => {
                claim.put(&payload[..len / 2]);
                claim.commit();
            }
            Err(refused) => known(refused),
        },
    }
    let _ = (producer.has_room(len), producer.occupancy(), producer.sleepers(Mode::Fence), producer.mark_sleeper());
    let mut frames = 0;
    while let Ok(Some(frame)) = consumer.step() {
        let mut out = [0; CAPACITY];
        assert!(frame.payload.copy_to(&mut out).len() <= CAPACITY - 8);
        frames += 1;
        assert!(frames <= CAPACITY / 8, "no more fit without a release");
    }
    let _ = (consumer.is_ready(), consumer.occupancy(), consumer.sleepers(Mode::Fence), consumer.mark_sleeper());
    if rng.below(3) > 0 {
        consumer.release();
    }
    match consumer.pop(&mut [0; 40]) {
        Ok(_) | Err(PopError::Damage(_)) => {}
        Err(PopError::TooShort { needed }) => assert!(needed > 40 && needed <= CAPACITY - 8),
    }
}

fn use_slots(
    producer: &mut slots::Producer<Value, &HeapRegion>,
    consumer: &mut slots::Consumer<Value, &HeapRegion>,
    rng: &mut Seeded,
) {
    let n = rng.below(COUNT + 2);
    let _ = (producer.push([1, 2, 3]), producer.stage([4, 5, 6]), producer.has_room(n), producer.occupancy());
    let pushed = producer.push_slice(&vec![[7; 3]; n]).unwrap_or(0);
    assert!(pushed <= COUNT);
    if let Ok(mut chunk) = producer.chunk(n) {
        (0..n).for_each(|_| chunk.put([8; 3]));
        chunk.commit();
    }
    let mut taken = 0;
    while let Ok(Some(_)) = consumer.step() {
        taken += 1;
        assert!(taken <= COUNT, "no more fit without a release");
    }
    if rng.below(3) > 0 {
        consumer.release();
    }
    match consumer.chunk(n) {
        Ok(mut chunk) => {
            assert!(chunk.by_ref().count() == n && n <= COUNT);
            chunk.commit();
        }
        Err(ChunkError::TooFew { asked, there }) => assert!(there < asked && there <= COUNT),
        Err(ChunkError::Damage(damage)) => assert_eq!(damage.offset, slots::TAIL as u64),
    }
    assert!(consumer.pop_slice(&mut vec![[0; 3]; n]).unwrap_or(0) <= n);
    let _ = (consumer.pop(), consumer.is_ready(), consumer.occupancy());
}

#[test]
fn any_word_may_change_between_any_two_operations() {
    for seed in seeds(if cfg!(miri) { 3 } else { 300 }) {
        println!("seed {seed}");
        let mut rng = Seeded::new(seed);
        let (bytes, values) = (bytes_ring(), slots_ring());
        let mut byte_ends = (spsc::Producer::attach(&bytes).unwrap(), spsc::Consumer::attach(&bytes).unwrap());
        let mut value_ends = (slots::Producer::attach(&values).unwrap(), slots::Consumer::attach(&values).unwrap());
        for _ in 0..if cfg!(miri) { 30 } else { 500 } {
            use_bytes(&mut byte_ends.0, &mut byte_ends.1, &mut rng);
            use_slots(&mut value_ends.0, &mut value_ends.1, &mut rng);
            if rng.below(3) == 0 {
                scribble(&bytes, &mut rng);
                scribble(&values, &mut rng);
            }
            if rng.below(8) == 0 {
                // Whatever stands there, attaching finds a ring or says what is wrong.
                if let Ok(producer) = spsc::Producer::attach(&bytes) {
                    byte_ends.0 = producer;
                }
                if let Ok(consumer) = spsc::Consumer::attach(&bytes) {
                    byte_ends.1 = consumer;
                }
                if let Ok(producer) = slots::Producer::attach(&values) {
                    value_ends.0 = producer;
                }
                if let Ok(consumer) = slots::Consumer::attach(&values) {
                    value_ends.1 = consumer;
                }
            }
            if rng.below(40) == 0 {
                spsc::format(&&bytes, &spsc::Spec { capacity: CAPACITY, ..Default::default() }).unwrap();
                byte_ends = (spsc::Producer::attach(&bytes).unwrap(), spsc::Consumer::attach(&bytes).unwrap());
            }
        }
    }
}

/// S-7, with both ends at work while a third scribbles.
#[test]
fn s_7_a_peer_that_scribbles_meanwhile_does_no_worse_than_damage() {
    let (bytes, values) = (bytes_ring(), slots_ring());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = Seeded::new(3);
            while !stop.load(Ordering::Relaxed) {
                scribble(&bytes, &mut rng);
                scribble(&values, &mut rng);
                if rng.below(50) == 0 {
                    spsc::format(&&bytes, &spsc::Spec { capacity: CAPACITY, ..Default::default() }).unwrap();
                    slots::format::<Value, _>(&&values, &slots::Spec { count: COUNT, ..Default::default() }).unwrap();
                }
            }
        });
        let mut rng = Seeded::new(4);
        for _ in 0..if cfg!(miri) { 10 } else { 3000 } {
            if let (Ok(mut producer), Ok(mut consumer)) =
                (spsc::Producer::attach(&bytes), spsc::Consumer::attach(&bytes))
            {
                (0..20).for_each(|_| use_bytes(&mut producer, &mut consumer, &mut rng));
            }
            if let (Ok(mut producer), Ok(mut consumer)) =
                (slots::Producer::attach(&values), slots::Consumer::attach(&values))
            {
                (0..20).for_each(|_| use_slots(&mut producer, &mut consumer, &mut rng));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let field = |offset, name, found| Err(Damage::at(offset as u64, Fault::Field { name, found }));
    let attach = |at: usize, word: u32| {
        let region = bytes_ring();
        region.window_mut().store(at, word);
        spsc::Producer::attach(&region).map(|_| ()).and(spsc::Consumer::attach(&region).map(|_| ()))
    };
    assert_eq!(attach(spsc::TAIL, 8), Ok(()));
    assert_eq!(attach(spsc::TAIL, 4), field(spsc::TAIL, "tail", 4));
    assert_eq!(attach(spsc::TAIL, 264), field(spsc::TAIL, "tail", 264));
    assert_eq!(attach(spsc::HEAD, 12), field(spsc::HEAD, "head", 12));
    assert_eq!(attach(spsc::HEAD, 8), field(spsc::TAIL, "tail", 0));
    assert_eq!(attach(spsc::NEWEST, 4), field(spsc::NEWEST, "newest", 4));
    assert_eq!(attach(spsc::NEWEST, 1 << 20), field(spsc::NEWEST, "newest", 1 << 20));
    assert_eq!(attach(spsc::WAKE_MODE, 2), field(spsc::WAKE_MODE, "wake_mode", 2));
    assert!(matches!(attach(16, 128).unwrap_err().fault, Fault::Crc { .. }));
    let short = HeapRegion::new(512);
    let whole = bytes_ring();
    let mut head = vec![0; 512];
    whole.window().copy_out(0, &mut head);
    short.window_mut().copy_in(0, &head);
    let needed = Fault::Short { needed: 768, found: 512 };
    assert_eq!(spsc::Consumer::attach(&short).unwrap_err(), Damage::at(0, needed));

    let step = |words: &[(usize, u32)]| {
        let region = bytes_ring();
        let mut producer = spsc::Producer::attach(&region).unwrap();
        let consumer = spsc::Consumer::attach(&region).unwrap();
        producer.push(&[1; 8]).unwrap();
        producer.push(&[2; 8]).unwrap();
        assert_eq!(consumer.step().unwrap().unwrap().seq, 1);
        words.iter().for_each(|(at, word)| region.window_mut().store(*at, *word));
        consumer.step().map(|frame| frame.map(|frame| frame.seq))
    };
    let second = spsc::DATA + 16;
    assert_eq!(step(&[]), Ok(Some(2)));
    let length = |claimed| Err(Damage::at(second as u64, Fault::Length { claimed, left: 16 }));
    assert_eq!(step(&[(second, 9)]), length(17));
    assert_eq!(step(&[(second, u32::MAX)]), length(0x8000_0007));
    assert_eq!(step(&[(second, spsc::PAD | 8)]), length(16));
    let seq = Err(Damage::at(second as u64, Fault::Seq { expected: 2, found: 7 }));
    assert_eq!(step(&[(second + 4, 7)]), seq);
}

/// Format version 1: an identity, a mode, and two frames of which the second has odd bytes.
#[test]
fn golden_bytes() {
    let identity =
        Identity { ring_id: *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff", created_ns: 17 };
    let bytes = HeapRegion::new(spsc::len(64).unwrap());
    spsc::format(&bytes, &spsc::Spec { capacity: 64, identity, wake: Mode::Asymmetric }).unwrap();
    let mut producer = spsc::Producer::attach(&bytes).unwrap();
    producer.push(b"frame of sixteen").unwrap();
    producer.push(b"hello").unwrap();
    compare("v1_ring_spsc", &bytes);
    let header = ring::header(&bytes).unwrap();
    assert_eq!((header.kind, header.capacity, header.unit, header.identity), (Kind::Spsc, 64, 0, identity));

    let values = HeapRegion::new(slots::len::<[u8; 6]>(4).unwrap());
    slots::format::<[u8; 6], _>(&values, &slots::Spec { count: 4, identity, wake: Mode::Fence }).unwrap();
    let mut producer = slots::Producer::attach(&values).unwrap();
    producer.push(*b"first.").unwrap();
    producer.push(*b"second").unwrap();
    compare("v1_ring_slots", &values);
    let header = ring::header(&values).unwrap();
    assert_eq!((header.kind, header.capacity, header.unit, header.identity), (Kind::Slots, 4, 6, identity));
}

fn compare(name: &str, region: &HeapRegion) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.bin"));
    let mut all = vec![0; region.len()];
    region.window().copy_out(0, &mut all);
    if std::env::var_os("CHRONICLE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &all).unwrap();
    }
    let golden = std::fs::read(&path).unwrap_or_else(|it| panic!("{}: {it}", path.display()));
    assert_eq!(all, golden, "{name}: the format changed: see docs/format.md on versions");
}
