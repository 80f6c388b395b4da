//! Rings of events give back what was put in, in order, whatever the lengths and wherever the circle ends; dispatchers
//! count what each consumer took.

use chronicle_platform::sim::Sim;
use chronicle_storage::eventlog::{
    Consumer, EventConsumer, EventDispatcher, EventHeader, MmapReader, MmapWriter, Options, RingBuffer, RingError,
    SpscRingBuffer,
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

fn event(seq: u64, len: usize) -> (EventHeader, Vec<u8>) {
    let payload = (0..len).map(|at| seq as u8 ^ at as u8).collect();
    (EventHeader { flags: seq as u8, ..EventHeader::new(seq, 5, len as u16) }, payload)
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[test]
fn a_ring_agrees_with_a_deque() {
    for capacity in [64, 128, 256, 1024] {
        let mut random = Random(capacity as u64 + 1);
        let mut ring = RingBuffer::new(capacity).unwrap();
        let mut model: VecDeque<(EventHeader, Vec<u8>)> = VecDeque::new();
        for seq in 0..if cfg!(miri) { 200 } else { 20_000 } {
            if random.below(5) < 3 {
                let (header, payload) = event(seq, random.below(capacity as u64) as usize);
                let used: usize = model.iter().map(|(header, _)| header.total_size()).sum();
                let (required, available) = (header.total_size(), capacity - used);
                match ring.write_event(&header, &payload) {
                    Ok(()) => {
                        assert!(required <= available);
                        model.push_back((header, payload));
                    }
                    Err(error) => {
                        assert!(required > available);
                        assert_eq!(error, RingError::NotEnoughSpace { required, available });
                    }
                }
            } else {
                let found = ring.read_event().map(|(header, payload)| (header, payload.to_vec()));
                assert_eq!(found, model.pop_front());
            }
            let used: usize = model.iter().map(|(header, _)| header.total_size()).sum();
            assert_eq!((ring.used(), ring.is_empty()), (used, model.is_empty()));
        }
    }
}

#[test]
fn capacities_are_refused_with_their_reason() {
    for capacity in [0, 63, 100, 1000, 32] {
        let error = RingBuffer::new(capacity).unwrap_err();
        assert!(matches!(error, RingError::InvalidCapacity { capacity: found, .. } if found == capacity));
        assert_eq!(SpscRingBuffer::new(capacity).unwrap_err(), error);
    }
    assert!(matches!(SpscRingBuffer::new(1 << 31), Err(RingError::InvalidCapacity { .. })));
    let text = RingBuffer::new(1000).unwrap_err().to_string();
    assert_eq!(text, "ring capacity 1000: not a power of two");
    let mut ring = RingBuffer::new(64).unwrap();
    let wrong = RingError::PayloadLength { stated: 3, given: 4 };
    assert_eq!(ring.write_event(&EventHeader::new(0, 0, 3), b"four"), Err(wrong));
    let (mut producer, _consumer) = SpscRingBuffer::new(64).unwrap().split();
    assert_eq!(producer.write_event(&EventHeader::new(0, 0, 3), b"four"), Err(wrong));
    // Never, not only now.
    let refused = producer.write_event(&EventHeader::new(0, 0, 40), &[0; 40]).unwrap_err();
    assert_eq!(refused, RingError::NotEnoughSpace { required: 56, available: 24 });
}

#[test]
fn two_threads_lose_nothing() {
    let count = if cfg!(miri) { 300 } else { 300_000_u64 };
    let (mut producer, mut consumer) = SpscRingBuffer::new(1 << 12).unwrap().split();
    let len = |seq: u64| (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for seq in 0..count {
                let (header, payload) = event(seq, len(seq));
                while producer.stage(&header, &payload).is_err() {
                    producer.commit();
                    std::thread::yield_now();
                }
                if seq % 5 == 0 {
                    producer.commit();
                }
            }
            producer.commit();
        });
        let mut seq = 0;
        while seq < count {
            let Some((header, payload)) = consumer.read_event() else {
                std::thread::yield_now();
                continue;
            };
            let mut found = [0; 256];
            assert_eq!((header, &*payload.copy_to(&mut found)), (event(seq, len(seq)).0, &*event(seq, len(seq)).1));
            seq += 1;
        }
        assert!(consumer.is_empty() && consumer.read_event().is_none());
    });
}

#[test]
fn a_log_is_read_while_it_is_written() {
    let count = if cfg!(miri) { 100 } else { 30_000_u64 };
    let sim = Sim::new(1);
    let options = Options { capacity: 4 << 20, max_bytes: u64::MAX, step: 0, checksums: true, helper: false };
    let mut log = MmapWriter::create_with(&sim, "/log", options).unwrap();
    let reader = MmapReader::open_on(&sim, "/log").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for seq in 0..count {
                let (header, payload) = event(seq, seq as usize % 100);
                log.stage(&header, &payload).unwrap();
                if seq % 3 == 0 {
                    log.commit();
                }
            }
        });
        let mut seen = 0;
        while seen < count {
            let mut seq = 0;
            let replayed = reader.replay(|event| {
                assert_eq!(event.header.timestamp, seq);
                seq += 1;
            });
            let replayed = replayed.unwrap();
            assert!(replayed >= seen, "{replayed} after {seen}");
            seen = replayed;
        }
    });
}

struct Taker {
    name: &'static str,
    every: u64,
    seen: Arc<Mutex<Vec<u64>>>,
    flushed: Arc<AtomicU64>,
}

impl EventConsumer for Taker {
    fn consume(&mut self, header: &EventHeader, payload: &[u8]) -> bool {
        assert_eq!(payload, event(header.timestamp, payload.len()).1);
        self.seen.lock().unwrap().push(header.timestamp);
        header.timestamp.is_multiple_of(self.every)
    }
    fn flush(&mut self) {
        self.flushed.fetch_add(1, Ordering::Relaxed);
    }
    fn name(&self) -> &str {
        self.name
    }
}

#[test]
fn dispatchers_count_for_each_consumer() {
    let (seen, flushed) = (Arc::<Mutex<Vec<u64>>>::default(), Arc::<AtomicU64>::default());
    let taker = |name, every| Taker { name, every, seen: seen.clone(), flushed: flushed.clone() };
    let mut dispatcher = EventDispatcher::new();
    let mut ring = RingBuffer::new(1024).unwrap();
    assert_eq!(dispatcher.drain(&mut ring).success_rate(), 1.0);
    dispatcher.add_consumer(taker("all", 1));
    dispatcher.add_consumer(taker("even", 2));
    for seq in 0..10 {
        let (header, payload) = event(seq, seq as usize);
        ring.write_event(&header, &payload).unwrap();
    }
    let stats = dispatcher.drain_batch(&mut ring, 3);
    assert_eq!((stats.events_read, stats.events_delivered, stats.events_failed), (3, 5, 1));
    assert_eq!((flushed.load(Ordering::Relaxed), ring.is_empty()), (0, false));
    let stats = dispatcher.drain(&mut ring);
    assert_eq!((stats.events_read, stats.events_delivered, stats.events_failed), (7, 10, 4));
    assert_eq!((flushed.load(Ordering::Relaxed), ring.is_empty()), (2, true));
    let own: Vec<_> = dispatcher.stats().map(|(name, own)| (name.to_owned(), own.delivered, own.failed)).collect();
    assert_eq!(own, [("all".to_owned(), 10, 0), ("even".to_owned(), 5, 5)]);
    assert_eq!(dispatcher.stats().map(|(_, own)| own.success_rate()).collect::<Vec<_>>(), [1.0, 0.5]);
    assert_eq!(*seen.lock().unwrap(), (0..10).flat_map(|seq| [seq, seq]).collect::<Vec<_>>());

    // The same from the other kind of ring.
    let (mut producer, mut consumer): (_, Consumer) = SpscRingBuffer::new(1024).unwrap().split();
    for seq in 0..5 {
        let (header, payload) = event(seq, 33);
        producer.write_event(&header, &payload).unwrap();
    }
    let stats = dispatcher.drain_batch(&mut consumer, 2);
    assert_eq!((stats.events_read, dispatcher.drain(&mut consumer).events_read), (2, 3));
}
