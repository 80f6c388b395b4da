//! A broadcast ring against a plain queue: random operations from a printed seed, numbers at their wrap, and threads.
//!
//! What must hold: a reader is given messages whole and in order, and what it is not given is counted; it is told that
//! it was lapped only if it was; and a writer that takes over at any moment leaves no seq out and uses none twice.
#![cfg(not(loom))]

mod seeded;

use chronicle_core::{
    HeapRegion, RegionMut,
    ring::{
        CapacityReason, FormatError, MAX_CAPACITY,
        broadcast::{self, AttachError, BLOCKS, INTENT, Reader, Received, Spec, Start, TooLarge, Writer, format},
    },
};
use seeded::{Seeded, seeds};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

fn ring(capacity: usize) -> HeapRegion {
    let region = HeapRegion::new(broadcast::len(capacity).unwrap());
    format(&region, &Spec { capacity, ..Spec::default() }).unwrap();
    region
}

/// The message that a seq has in the threaded tests: its length and every byte follow from the seq.
fn message_of(seq: u64, max: usize, out: &mut [u8]) -> usize {
    let len = (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % (max + 1);
    for (i, byte) in out[..len].iter_mut().enumerate() {
        *byte = seq.wrapping_mul(31).wrapping_add(i as u64) as u8;
    }
    len
}

/// All messages ever, by seq − 1, and what the protocol says of where they lie.
struct Model {
    capacity: u64,
    messages: VecDeque<Vec<u8>>,
}

impl Model {
    fn check(&self, (reader, fresh): &mut (Reader<&HeapRegion>, bool), random: &mut Seeded) {
        // One that was attached to a seq that is gone says so first.
        let fresh = std::mem::take(fresh);
        let due = reader.next_seq();
        let next = self.messages.len() as u64 + 1;
        let lag = reader.lag();
        let mut buffer = vec![0; if random.below(4) == 0 { random.below(64) } else { self.capacity as usize }];
        let skipped = random.below(8) == 0;
        let ready = reader.is_ready();
        let received = if skipped { reader.skip() } else { reader.receive(&mut buffer) }.expect("nobody scribbles");
        assert!(ready || received == Received::Empty, "{received:?} without notice");
        assert!(!reader.is_ready() || received != Received::Empty, "ready for nothing, twice");
        match received {
            Received::Message { seq, len } => {
                assert_eq!(seq, due);
                let message = &self.messages[due as usize - 1];
                assert_eq!(len, message.len());
                if !skipped {
                    assert_eq!(&buffer[..len], message);
                }
                assert_eq!(reader.next_seq(), due + 1);
            }
            Received::Empty => assert_eq!(due, next, "empty is said behind the last message only"),
            Received::Lapped { lost, resume_seq } => {
                assert!(lag > self.capacity || fresh, "it was not: {lag} bytes behind");
                assert!(lost > 0 && resume_seq == due + lost && resume_seq <= next);
                assert!(reader.lag() <= self.capacity, "it resumes where it is safe");
            }
            Received::Unfit { seq, len } => {
                assert_eq!((seq, len), (due, self.messages[due as usize - 1].len()));
                assert!(!skipped && len > buffer.len());
                assert_eq!(reader.next_seq(), due, "it stands before it");
            }
        }
    }
}

#[test]
fn random_operations_agree_with_a_queue() {
    for seed in seeds(if cfg!(miri) { 1 } else { 20 }) {
        println!("CHRONICLE_SEED={seed}");
        let mut random = Seeded::new(seed);
        let capacity = 64 << random.below(8);
        let region = ring(capacity);
        let mut model = Model { capacity: capacity as u64, messages: VecDeque::new() };
        let mut writer = Writer::attach(&region).unwrap();
        let max = writer.max_payload();
        let mut readers = vec![(Reader::attach(&region, Start::Oldest).unwrap(), false)];
        for _ in 0..if cfg!(miri) { 300 } else { 20_000 } {
            match random.below(12) {
                0..=4 => {
                    let len = if random.below(3) == 0 { random.below(max + 1) } else { random.below(max.min(40) + 1) };
                    let message = random.bytes(len);
                    let seq = writer.push(&message).unwrap();
                    model.messages.push_back(message);
                    assert_eq!(seq, model.messages.len() as u64);
                }
                5 => {
                    let len = random.below(max + 1);
                    let message = random.bytes(len);
                    let mut claim = writer.claim(message.len()).unwrap();
                    let half = message.len() / 2;
                    claim.put(&message[..half]);
                    if message.len().is_multiple_of(3) {
                        claim.abort();
                    } else {
                        claim.put_at(half, &message[half..]);
                        claim.commit();
                        model.messages.push_back(message);
                    }
                }
                6 => {
                    assert_eq!(writer.push(&vec![0; max + 1]), Err(TooLarge { len: max + 1, max }));
                }
                7 if random.below(4) == 0 => {
                    writer = Writer::attach(&region).unwrap();
                    assert_eq!(writer.next_seq(), model.messages.len() as u64 + 1);
                }
                8 if random.below(4) == 0 && readers.len() < 5 => {
                    let next = writer.next_seq();
                    let seq = random.below(next as usize + 3) as u64;
                    let start = [Start::Oldest, Start::Newest, Start::Seq(seq)][random.below(3)];
                    match Reader::attach(&region, start) {
                        Ok(reader) => {
                            match start {
                                Start::Newest => assert_eq!(reader.next_seq(), next),
                                Start::Seq(seq) => assert_eq!(reader.next_seq(), seq.max(1)),
                                Start::Oldest => assert!(reader.lag() <= capacity as u64),
                            }
                            readers.push((reader, matches!(start, Start::Seq(_))));
                        }
                        Err(AttachError::Ahead { asked, next: at }) => {
                            assert!((asked, at) == (seq, next) && seq > next)
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
                9 if readers.len() > 1 => {
                    let leaving = random.below(readers.len());
                    if random.below(50) == 0 {
                        readers.swap_remove(leaving);
                    }
                }
                _ => {
                    let which = random.below(readers.len());
                    model.check(&mut readers[which], &mut random);
                }
            }
        }
        for reader in &mut readers {
            while reader.0.is_ready() {
                model.check(reader, &mut random);
            }
            assert_eq!(reader.0.next_seq(), writer.next_seq());
        }
    }
}

#[test]
fn a_claim_writes_zeros_where_nothing_was_put_and_nothing_if_it_is_dropped() {
    let region = ring(256);
    let mut writer = Writer::attach(&region).unwrap();
    let mut reader = Reader::attach(&region, Start::Oldest).unwrap();
    let mut buffer = [0xaa; 64];
    for _ in 0..100 {
        writer.push(&[0xff; 40]).unwrap();
        assert!(matches!(reader.receive(&mut buffer), Ok(Received::Message { len: 40, .. })));
        writer.claim(30).unwrap().put(&[1; 30]);
        assert_eq!(reader.receive(&mut buffer), Ok(Received::Empty));
        let mut claim = writer.claim(21).unwrap();
        claim.put(b"ab");
        claim.put_at(5, b"c");
        let seq = claim.commit();
        assert_eq!(reader.receive(&mut buffer), Ok(Received::Message { seq, len: 21 }));
        assert_eq!(&buffer[..21], b"ab\0\0\0c\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }
}

#[test]
fn values_of_another_length_are_not_taken_for_ours() {
    let region = ring(256);
    let mut writer = Writer::attach(&region).unwrap();
    let mut reader = Reader::attach(&region, Start::Oldest).unwrap();
    writer.push(&7u64.to_le_bytes()).unwrap();
    let (mut short, mut long, mut value) = (0u32, 0u128, 0u64);
    let unfit = Ok(Received::Unfit { seq: 1, len: 8 });
    assert_eq!(reader.receive_value(&mut short), unfit);
    assert_eq!(reader.receive_value(&mut long), unfit);
    assert_eq!(reader.receive_value(&mut value), Ok(Received::Message { seq: 1, len: 8 }));
    assert_eq!(value, 7);
}

/// Puts a ring's control words where only a long life would bring them. `position` is a multiple of the capacity.
fn transplant(region: &HeapRegion, position: u64, seq: u64) {
    let window = region.window_mut();
    let capacity = broadcast_capacity(region);
    let block = (capacity / 32).max(16);
    assert!(position.is_multiple_of(capacity));
    window.store64(INTENT, position + block);
    window.store(BLOCKS, 1 << 8 | (position / capacity) as u32 & 0xff);
    window.store64(BLOCKS + 8, seq);
    window.store(broadcast::DATA, 0);
}

fn broadcast_capacity(region: &HeapRegion) -> u64 {
    chronicle_core::ring::header(region).unwrap().capacity.into()
}

#[test]
#[cfg_attr(miri, ignore = "the 64-bit word is stored as two, which Miri does not model")]
fn nothing_happens_where_a_half_of_a_number_wraps() {
    let half = 1u64 << 32;
    // The seq, the position, and the bits of the lap that an entry keeps.
    for (position, seq) in
        [(16 * half, half - 20), (half - 1024, 5), (255 << 10, 100), ((1 << 40) - 1024, half * 3 - 9)]
    {
        let region = ring(1024);
        let mut early = Reader::attach(&region, Start::Oldest).unwrap();
        transplant(&region, position, seq);
        let mut writer = Writer::attach(&region).unwrap();
        assert_eq!(writer.next_seq(), seq);
        let mut reader = Reader::attach(&region, Start::Newest).unwrap();
        let mut slow = Reader::attach(&region, Start::Seq(seq)).unwrap();
        for due in seq..seq + 300 {
            assert_eq!(writer.push(&due.to_le_bytes()), Ok(due));
            let mut value = 0u64;
            assert_eq!(reader.receive_value(&mut value), Ok(Received::Message { seq: due, len: 8 }));
            assert_eq!(value, due);
            if due % 50 == 0 {
                writer = Writer::attach(&region).unwrap();
            }
        }
        for (reader, due) in [(&mut slow, seq), (&mut early, 1)] {
            let Ok(Received::Lapped { lost, resume_seq }) = reader.receive(&mut [0; 8]) else {
                panic!("it was lapped")
            };
            assert_eq!(resume_seq, due + lost, "however many were lost, they are counted");
            for due in resume_seq..seq + 300 {
                let mut value = 0u64;
                assert_eq!(reader.receive_value(&mut value), Ok(Received::Message { seq: due, len: 8 }));
                assert_eq!(value, due);
            }
        }
    }
}

#[test]
fn a_ring_that_cannot_be_is_refused_with_the_numbers() {
    let region = HeapRegion::new(4096);
    let refusal = |capacity| format(&region, &Spec { capacity, ..Spec::default() }).unwrap_err();
    let capacity = |asked, reason| FormatError::Capacity { asked, reason };
    assert_eq!(refusal(0), capacity(0, CapacityReason::NotPowerOfTwo));
    assert_eq!(refusal(96), capacity(96, CapacityReason::NotPowerOfTwo));
    assert_eq!(refusal(32), capacity(32, CapacityReason::TooSmall { min: 64 }));
    let much = MAX_CAPACITY * 2;
    assert_eq!(refusal(much), capacity(much, CapacityReason::TooLarge { max: MAX_CAPACITY }));
    assert_eq!(refusal(4096), FormatError::Region { needed: broadcast::DATA + 4096, found: 4096 });
    assert_eq!(broadcast::len(96), None);
    let layout = broadcast::layout(4096).unwrap();
    assert_eq!((layout.size(), layout.align()), (broadcast::DATA + 4096, 128));
    assert!(Writer::attach(&region).is_err(), "a refusal leaves the region as it was");
}

/// One writer, two readers, as fast as they can: the small ring laps its readers all the time.
#[test]
fn threads_lose_nothing_that_is_not_counted() {
    let total: u64 = if cfg!(miri) { 100 } else { 300_000 };
    for capacity in [256, 1 << 12, 1 << 18] {
        let region = Arc::new(ring(capacity));
        let mut writer = Writer::attach(region.clone()).unwrap();
        let max = writer.max_payload().min(200);
        let done = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (done, mut reader) = (done.clone(), Reader::attach(region.clone(), Start::Oldest).unwrap());
                std::thread::spawn(move || {
                    let (mut received, mut lost_all, mut expected) = (0u64, 0u64, [0; 200]);
                    let mut buffer = [0; 200];
                    while received + lost_all < total {
                        let last = done.load(Ordering::Acquire);
                        match reader.receive(&mut buffer).expect("nobody scribbles") {
                            Received::Message { seq, len } => {
                                received += 1;
                                assert_eq!(seq, received + lost_all);
                                assert_eq!(len, message_of(seq, max, &mut expected));
                                assert_eq!(buffer[..len], expected[..len], "seq {seq} is torn");
                            }
                            Received::Lapped { lost, .. } => lost_all += lost,
                            Received::Empty if last => break,
                            Received::Empty => std::thread::yield_now(),
                            Received::Unfit { len, .. } => panic!("no message has {len} bytes"),
                        }
                    }
                    (received, lost_all)
                })
            })
            .collect();
        let mut bytes = [0; 200];
        for seq in 1..=total {
            let len = message_of(seq, max, &mut bytes);
            assert_eq!(writer.push(&bytes[..len]), Ok(seq));
            // Now and then the readers catch up, also where there are fewer processors than threads.
            if seq % if cfg!(miri) { 8 } else { 32 } == 0 {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            let (received, lost) = reader.join().unwrap();
            println!("capacity {capacity}: {received} received, {lost} lost");
            assert!(received > 0);
            assert_eq!(received + lost, total);
        }
    }
}
