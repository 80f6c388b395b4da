//! How many instructions do the steps take that run for every event?
//!
//! Counts do not depend on the machine's mood, so they gate: `ci/instructions` runs this under callgrind and compares
//! with `benches/baseline.json`. Each count is of [`EVENTS`] events, the loop around them included; setup and drop are
//! outside. Time is not measured here: fewer instructions are not always faster, and for that there are the other benches
//! and the rivals. `docs/instructions.md` says how to gate a program of your own in the same way.
//!
//! A ring has room for all events of a count, so what is counted is the step that runs for each of them, and once the look
//! at the other end. Messages are made and looked at as in `benches/rivals`: a number and seven constants, in place.

// The macros make public modules and functions that nobody calls by name.
#![allow(missing_docs)]

use chronicle_core::{
    Append, Appender, Checksum, HeapRegion, Reader, Region as _, Spec, Step, format, frame,
    ring::{broadcast, local, mpsc, slots, spsc},
    wake::Mode,
    wal,
};
use chronicle_etl::book::Book;
use chronicle_protocol::{BookDelta, Head, Level, Record, Scale, type_id};
use iai_callgrind::{library_benchmark, library_benchmark_group, main};
use std::{hint::black_box, sync::Arc};
use zerocopy::IntoBytes as _;

/// Events of each count.
const EVENTS: u64 = 1000;
const PAYLOAD: [u8; 64] = [7; 64];
const SEGMENT: usize = 1 << 20;

fn log(checksum: Checksum) -> Appender<HeapRegion> {
    let region = HeapRegion::new(SEGMENT);
    format(&region, &Spec { segment_len: SEGMENT as u32, checksum, salt: 5, ..Spec::default() }).unwrap();
    Appender::attach(region).unwrap()
}

fn meta(time_ns: u64) -> Append {
    Append { time_ns, type_id: 1, flags: 0 }
}

#[library_benchmark]
#[bench::commit_word(setup = log, args = (Checksum::CommitWord))]
#[bench::crc(setup = log, args = (Checksum::Frame))]
fn append(mut log: Appender<HeapRegion>) -> Appender<HeapRegion> {
    for time_ns in 0..EVENTS {
        log.append(meta(time_ns), black_box(&PAYLOAD[..])).unwrap();
    }
    log
}

#[library_benchmark]
#[bench::commit_word(setup = log, args = (Checksum::CommitWord))]
#[bench::crc(setup = log, args = (Checksum::Frame))]
fn claim_and_commit(mut log: Appender<HeapRegion>) -> Appender<HeapRegion> {
    for time_ns in 0..EVENTS {
        let mut claim = log.claim(black_box(&PAYLOAD).len()).unwrap();
        claim.put(black_box(&PAYLOAD));
        claim.commit(meta(time_ns));
    }
    log
}

fn filled(checksum: Checksum) -> Reader<HeapRegion> {
    let mut log = log(checksum);
    for time_ns in 0..EVENTS {
        log.append(meta(time_ns), &PAYLOAD).unwrap();
    }
    Reader::attach(log.into_region()).unwrap()
}

#[library_benchmark]
#[bench::commit_word(setup = filled, args = (Checksum::CommitWord))]
fn read(mut reader: Reader<HeapRegion>) -> Reader<HeapRegion> {
    let mut bytes = [0; 64];
    while let Step::Frame(frame) = reader.step().unwrap() {
        black_box(frame.payload.copy_to(&mut bytes));
    }
    reader
}

#[library_benchmark]
#[bench::crc(setup = filled, args = (Checksum::Frame))]
fn read_verified(mut reader: Reader<HeapRegion>) -> Reader<HeapRegion> {
    let mut bytes = [0; 64];
    while let Step::Frame(frame) = reader.step_verified().unwrap() {
        black_box(frame.payload.copy_to(&mut bytes));
    }
    reader
}

// Header and checksum of a frame that is written through a buffer, as in a partition file.
#[library_benchmark]
fn frame_header() -> u32 {
    (0..EVENTS).fold(0, |sum, seq| {
        let header = frame::header(meta(seq), seq, black_box(&PAYLOAD), 5, Checksum::Frame).unwrap();
        sum ^ header.crc.get()
    })
}

fn framed() -> Vec<u8> {
    let header = frame::header(meta(1), 1, &PAYLOAD, 5, Checksum::Frame).unwrap();
    [header.as_bytes(), &PAYLOAD].concat()
}

// The other way: a frame of a file, checked.
#[library_benchmark]
#[bench::crc(setup = framed)]
fn frame_decode(bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..EVENTS {
        let decoded = frame::decode(black_box(&bytes), 128, 1 << 20, 5, Checksum::Frame).unwrap();
        assert!(matches!(black_box(decoded), frame::Decoded::Frame { .. }));
    }
    bytes
}

/// A WAL whose first batch has room for all events, and 128 bytes for each.
fn wal() -> wal::Machine<HeapRegion> {
    let config = wal::Config { batch_len: 256 << 10, depth: 1, ..wal::Config::default() };
    let region = HeapRegion::new(wal::layout(&config).unwrap().size());
    let start = wal::Start { segment_id: 1, first_seq: 1, salt_seed: 5, ..wal::Start::default() };
    wal::Machine::begin(region, config, &start).unwrap()
}

const WAL_PAYLOAD: [u8; 128] = [7; 128];

// What a writer pays for each record before it waits: bounds, header, copy, checksum.
#[library_benchmark]
#[bench::payload_of_128_bytes(setup = wal)]
fn wal_append(mut log: wal::Machine<HeapRegion>) -> wal::Machine<HeapRegion> {
    for _ in 0..EVENTS {
        log.append(black_box(&WAL_PAYLOAD[..])).unwrap();
    }
    log
}

/// The bytes of a batch with all events, and the header of its segment.
fn wal_batch() -> (wal::Header, Vec<u8>) {
    let mut log = wal();
    (0..EVENTS).for_each(|_| _ = log.append(&WAL_PAYLOAD[..]).unwrap());
    log.demand_all();
    let Some(wal::Op::Write { from, len, .. }) = log.next_op() else { panic!("a batch is demanded") };
    let mut bytes = vec![0; len as usize];
    log.region().window().copy_out(from, &mut bytes);
    (log.header(), bytes)
}

// Framing the other way: what recovery and readers pay for each record, checksum verified.
#[library_benchmark]
#[bench::payload_of_128_bytes(setup = wal_batch)]
fn wal_frames((header, bytes): (wal::Header, Vec<u8>)) -> (wal::Header, Vec<u8>) {
    let batch = wal::Batch::parse(&bytes, u64::from(header.block_size), &header).unwrap();
    for frame in batch.frames() {
        black_box(frame.unwrap().payload);
    }
    (header, bytes)
}

/// Levels of one delta: what a busy symbol sends, near the middle of the book, in no order.
fn levels(of: u64, side: i64) -> [Level; 8] {
    std::array::from_fn(|i| {
        let mixed = (of * 8 + i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let away = (mixed % 400) as i64 + 1;
        // Every fourth removes its price.
        Level::new(6_000_000 + side * away, if mixed.is_multiple_of(4) { 0 } else { (mixed % 90_000) as i64 })
    })
}

const HEAD: Head = Head {
    exchange_ns: 1_723_161_256_322_000_000,
    ingest_ns: 1_723_161_255_088_176_367,
    transact_ns: 1_723_161_256_322_000_000,
    price: Scale::fixed(2),
    qty: Scale::fixed(3),
};

fn delta<'a>(id: u64, bids: &'a [Level], asks: &'a [Level]) -> BookDelta<'a> {
    BookDelta { head: HEAD, first_id: id, last_id: id + 1, prev_id: Some(id - 1), bids, asks, symbol: "BTCUSDT" }
}

#[library_benchmark]
fn record_encode() -> usize {
    let (bids, asks) = (levels(1, -1), levels(2, 1));
    let mut bytes = [0; 1024];
    (1..=EVENTS).fold(0, |sum, id| sum + delta(black_box(id), &bids, &asks).encode(black_box(&mut bytes)).unwrap())
}

fn encoded() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    let len = delta(1, &levels(1, -1), &levels(2, 1)).encode(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

#[library_benchmark]
#[bench::delta_of_16_levels(setup = encoded)]
fn record_parse(bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..EVENTS {
        let Ok(Record::BookDelta(delta)) = Record::parse(type_id::BOOK_DELTA, black_box(&bytes)) else {
            panic!("bug: a record of our own is refused")
        };
        black_box(delta);
    }
    bytes
}

type Deltas = Vec<([Level; 8], [Level; 8])>;

fn market() -> (Book, Deltas) {
    let deltas: Deltas = (0..EVENTS).map(|of| (levels(2 * of, -1), levels(2 * of + 1, 1))).collect();
    let mut book = Book::new();
    for (bids, asks) in &deltas {
        book.apply(&HEAD, bids, asks).unwrap();
    }
    (book, deltas)
}

#[library_benchmark]
#[bench::deltas_of_16_levels(setup = market)]
fn book_apply((mut book, deltas): (Book, Deltas)) -> (Book, Deltas) {
    for (bids, asks) in &deltas {
        book.apply(&HEAD, bids, asks).unwrap();
    }
    (book, deltas)
}

/// What rings carry: 64 bytes.
type Message = [u64; 8];
/// Messages of one batch.
const BATCH: u64 = 32;
/// Room for all events, in bytes and in slots.
const ROOM: usize = 1 << 17;
const SLOTS: usize = 1024;

#[inline(always)]
fn message(number: u64) -> Message {
    [black_box(number), 1, 2, 3, 4, 5, 6, 7]
}

#[inline(always)]
fn number(message: &Message) -> u64 {
    black_box(message)[0]
}

/// Shared as between two threads.
fn region(len: Option<usize>) -> Arc<HeapRegion> {
    Arc::new(HeapRegion::new(len.unwrap()))
}

type Shared = Arc<HeapRegion>;

// What the loops below take by themselves: `ci/instructions` subtracts it where it compares with a bound.
#[library_benchmark]
#[bench::with_a_number(EVENTS)]
fn loop_alone(events: u64) {
    for n in 0..events {
        black_box(n);
    }
}

#[library_benchmark]
#[bench::with_a_look(EVENTS)]
fn loop_looking(events: u64) {
    let message = [0; 8];
    for _ in 0..events {
        number(&message);
    }
}

fn spsc() -> spsc::Producer<Shared> {
    let region = region(spsc::len(ROOM));
    spsc::format(&region, &spsc::Spec { capacity: ROOM, ..spsc::Spec::default() }).unwrap();
    spsc::Producer::attach(region).unwrap()
}

fn spsc_filled() -> spsc::Consumer<Shared> {
    let mut producer = spsc();
    for n in 0..EVENTS {
        producer.push(message(n).as_bytes()).unwrap();
    }
    spsc::Consumer::attach(producer.into_region()).unwrap()
}

#[library_benchmark]
#[bench::known_length(setup = spsc)]
fn spsc_push(mut producer: spsc::Producer<Shared>) -> spsc::Producer<Shared> {
    for n in 0..EVENTS {
        producer.push(message(n).as_bytes()).unwrap();
    }
    producer
}

#[library_benchmark]
#[bench::any_length(setup = spsc)]
fn spsc_push_slice(mut producer: spsc::Producer<Shared>) -> spsc::Producer<Shared> {
    for _ in 0..EVENTS {
        producer.push(black_box(&PAYLOAD[..])).unwrap();
    }
    producer
}

// As `spsc_push`, with the question whether the consumer sleeps: the difference is what waking costs while nobody does.
#[library_benchmark]
#[bench::known_length(setup = spsc)]
fn spsc_push_and_ask(mut producer: spsc::Producer<Shared>) -> spsc::Producer<Shared> {
    for n in 0..EVENTS {
        producer.push(message(n).as_bytes()).unwrap();
        if producer.sleepers(Mode::Asymmetric) {
            panic!("bug: nobody sleeps");
        }
    }
    producer
}

#[library_benchmark]
#[bench::batches_of_32(setup = spsc)]
fn spsc_stage(mut producer: spsc::Producer<Shared>) -> spsc::Producer<Shared> {
    for n in 0..EVENTS {
        producer.stage(message(n).as_bytes()).unwrap();
        if n % BATCH == BATCH - 1 {
            producer.publish();
        }
    }
    producer.publish();
    producer
}

#[library_benchmark]
#[bench::in_place(setup = spsc)]
fn spsc_claim_and_commit(mut producer: spsc::Producer<Shared>) -> spsc::Producer<Shared> {
    for n in 0..EVENTS {
        let mut claim = producer.claim(64).unwrap();
        claim.put(message(n).as_bytes());
        claim.commit();
    }
    producer
}

#[library_benchmark]
#[bench::copied(setup = spsc_filled)]
fn spsc_pop(mut consumer: spsc::Consumer<Shared>) -> spsc::Consumer<Shared> {
    let mut message = [0; 8];
    for _ in 0..EVENTS {
        assert!(consumer.pop(message.as_mut_bytes()).unwrap().is_some());
        number(&message);
    }
    consumer
}

#[library_benchmark]
#[bench::batches_of_32(setup = spsc_filled)]
fn spsc_step(mut consumer: spsc::Consumer<Shared>) -> spsc::Consumer<Shared> {
    for n in 0..EVENTS {
        let frame = consumer.step().unwrap().unwrap();
        number(&frame.payload.read(0).unwrap());
        if n % BATCH == BATCH - 1 {
            consumer.release();
        }
    }
    consumer
}

type SlotsProducer = slots::Producer<Message, Shared>;
type SlotsConsumer = slots::Consumer<Message, Shared>;

fn slots() -> SlotsProducer {
    let region = region(slots::len::<Message>(SLOTS));
    slots::format::<Message, _>(&region, &slots::Spec { count: SLOTS, ..slots::Spec::default() }).unwrap();
    slots::Producer::attach(region).unwrap()
}

fn slots_filled() -> SlotsConsumer {
    let mut producer = slots();
    for n in 0..EVENTS {
        producer.push(message(n)).unwrap();
    }
    slots::Consumer::attach(producer.into_region()).unwrap()
}

#[library_benchmark]
#[bench::one(setup = slots)]
fn slots_push(mut producer: SlotsProducer) -> SlotsProducer {
    for n in 0..EVENTS {
        producer.push(message(n)).unwrap();
    }
    producer
}

#[library_benchmark]
#[bench::one(setup = slots_filled)]
fn slots_pop(mut consumer: SlotsConsumer) -> SlotsConsumer {
    for _ in 0..EVENTS {
        number(&consumer.pop().unwrap().unwrap());
    }
    consumer
}

#[library_benchmark]
#[bench::chunks_of_32(setup = slots)]
fn slots_fill(mut producer: SlotsProducer) -> SlotsProducer {
    for first in (0..EVENTS).step_by(BATCH as usize) {
        let mut chunk = producer.chunk((EVENTS - first).min(BATCH) as usize).unwrap();
        for n in first..EVENTS.min(first + BATCH) {
            chunk.put(message(n));
        }
        chunk.commit();
    }
    producer
}

#[library_benchmark]
#[bench::chunks_of_32(setup = slots_filled)]
fn slots_take(mut consumer: SlotsConsumer) -> SlotsConsumer {
    let mut left = EVENTS;
    while left > 0 {
        for message in consumer.chunk(left.min(BATCH) as usize).unwrap() {
            number(&message);
            left -= 1;
        }
    }
    consumer
}

type LocalEnds = (local::Producer<'static, Message>, local::Consumer<'static, Message>);

fn channel() -> LocalEnds {
    local::channel(SLOTS).unwrap()
}

fn channel_filled() -> LocalEnds {
    let (mut producer, consumer) = channel();
    for n in 0..EVENTS {
        producer.push(message(n)).unwrap();
    }
    (producer, consumer)
}

#[library_benchmark]
#[bench::one(setup = channel)]
fn local_push((mut producer, consumer): LocalEnds) -> LocalEnds {
    for n in 0..EVENTS {
        producer.push(message(n)).unwrap();
    }
    (producer, consumer)
}

#[library_benchmark]
#[bench::one(setup = channel_filled)]
fn local_pop((producer, mut consumer): LocalEnds) -> LocalEnds {
    for _ in 0..EVENTS {
        number(&consumer.pop().unwrap());
    }
    (producer, consumer)
}

#[library_benchmark]
#[bench::chunks_of_32(setup = channel)]
fn local_fill((mut producer, consumer): LocalEnds) -> LocalEnds {
    let mut next = 0;
    while next < EVENTS {
        let chunk = producer.write_chunk_uninit((EVENTS - next).min(BATCH) as usize).unwrap();
        next += chunk.fill_from_iter((next..EVENTS).map(message)) as u64;
    }
    (producer, consumer)
}

#[library_benchmark]
#[bench::chunks_of_32(setup = channel_filled)]
fn local_take((producer, mut consumer): LocalEnds) -> LocalEnds {
    let mut left = EVENTS;
    while left > 0 {
        let chunk = consumer.read_chunk(left.min(BATCH) as usize).unwrap();
        let (first, second) = chunk.as_slices();
        for message in first.iter().chain(second) {
            number(message);
        }
        left -= chunk.len() as u64;
        chunk.commit_all();
    }
    (producer, consumer)
}

fn mpsc() -> mpsc::Producer<Shared> {
    let region = region(mpsc::len(ROOM, 2));
    mpsc::format(&region, &mpsc::Spec { capacity: ROOM, producers: 2, ..mpsc::Spec::default() }).unwrap();
    mpsc::Producer::register(region).unwrap()
}

fn mpsc_filled() -> mpsc::Consumer<Shared> {
    let mut producer = mpsc();
    for n in 0..EVENTS {
        producer.push(message(n).as_bytes()).unwrap();
    }
    mpsc::Consumer::attach(producer.region().clone()).unwrap()
}

#[library_benchmark]
#[bench::known_length(setup = mpsc)]
fn mpsc_push(mut producer: mpsc::Producer<Shared>) -> mpsc::Producer<Shared> {
    for n in 0..EVENTS {
        producer.push(message(n).as_bytes()).unwrap();
    }
    producer
}

#[library_benchmark]
#[bench::batches_of_32(setup = mpsc)]
fn mpsc_claim_batch(mut producer: mpsc::Producer<Shared>) -> mpsc::Producer<Shared> {
    let each = mpsc::frame_len(size_of::<Message>()).unwrap();
    for first in (0..EVENTS).step_by(BATCH as usize) {
        let count = (EVENTS - first).min(BATCH);
        let mut batch = producer.claim_batch(each * count as usize).unwrap();
        for n in first..first + count {
            batch.push(message(n).as_bytes()).unwrap();
        }
        batch.commit();
    }
    producer
}

#[library_benchmark]
#[bench::batches_of_32(setup = mpsc_filled)]
fn mpsc_step(mut consumer: mpsc::Consumer<Shared>) -> mpsc::Consumer<Shared> {
    for n in 0..EVENTS {
        let frame = consumer.step().unwrap().unwrap();
        number(&frame.payload.read(0).unwrap());
        if n % BATCH == BATCH - 1 {
            consumer.release();
        }
    }
    consumer
}

fn broadcast() -> broadcast::Writer<Shared> {
    let region = region(broadcast::len(ROOM));
    broadcast::format(&region, &broadcast::Spec { capacity: ROOM, ..broadcast::Spec::default() }).unwrap();
    broadcast::Writer::attach(region).unwrap()
}

fn broadcast_filled() -> broadcast::Reader<Shared> {
    let mut writer = broadcast();
    for n in 0..EVENTS {
        writer.push(message(n).as_bytes()).unwrap();
    }
    broadcast::Reader::attach(writer.into_region(), broadcast::Start::Oldest).unwrap()
}

#[library_benchmark]
#[bench::known_length(setup = broadcast)]
fn broadcast_push(mut writer: broadcast::Writer<Shared>) -> broadcast::Writer<Shared> {
    for n in 0..EVENTS {
        writer.push(message(n).as_bytes()).unwrap();
    }
    writer
}

#[library_benchmark]
#[bench::any_length(setup = broadcast)]
fn broadcast_push_slice(mut writer: broadcast::Writer<Shared>) -> broadcast::Writer<Shared> {
    for _ in 0..EVENTS {
        writer.push(black_box(&PAYLOAD[..])).unwrap();
    }
    writer
}

#[library_benchmark]
#[bench::known_length(setup = broadcast_filled)]
fn broadcast_receive_value(mut reader: broadcast::Reader<Shared>) -> broadcast::Reader<Shared> {
    let mut message = [0; 8];
    for _ in 0..EVENTS {
        assert!(matches!(reader.receive_value(&mut message), Ok(broadcast::Received::Message { .. })));
        number(&message);
    }
    reader
}

#[library_benchmark]
#[bench::any_length(setup = broadcast_filled)]
fn broadcast_receive(mut reader: broadcast::Reader<Shared>) -> broadcast::Reader<Shared> {
    let mut message = [0; 8];
    for _ in 0..EVENTS {
        assert!(matches!(reader.receive(message.as_mut_bytes()), Ok(broadcast::Received::Message { .. })));
        number(&message);
    }
    reader
}

library_benchmark_group!(name = log_steps; benchmarks = append, claim_and_commit, read, read_verified);
library_benchmark_group!(name = frames; benchmarks = frame_header, frame_decode);
library_benchmark_group!(name = wal_steps; benchmarks = wal_append, wal_frames);
library_benchmark_group!(name = records; benchmarks = record_encode, record_parse, book_apply);
library_benchmark_group!(
    name = rings_of_two_ends;
    benchmarks =
        loop_alone, loop_looking, spsc_push, spsc_push_slice, spsc_push_and_ask, spsc_stage, spsc_claim_and_commit, spsc_pop, spsc_step,
        slots_push, slots_pop, slots_fill, slots_take, local_push, local_pop, local_fill, local_take
);
library_benchmark_group!(
    name = rings_of_many;
    benchmarks =
        mpsc_push, mpsc_claim_batch, mpsc_step,
        broadcast_push, broadcast_push_slice, broadcast_receive_value, broadcast_receive
);
main!(library_benchmark_groups = log_steps, frames, wal_steps, records, rings_of_two_ends, rings_of_many);
