//! How many instructions do the steps take that run for every event?
//!
//! Counts do not depend on the machine's mood, so they gate: `ci/instructions` runs this under callgrind and compares
//! with `benches/baseline.json`. Each count is of [`EVENTS`] events; setup and drop are outside. Time is not measured
//! here: fewer instructions are not always faster, and for that there are the other benches and the rivals.

// The macros make public modules and functions that nobody calls by name.
#![allow(missing_docs)]

use chronicle_core::{Append, Appender, Checksum, HeapRegion, Reader, Spec, Step, format, frame};
use chronicle_etl::book::Book;
use chronicle_protocol::{BookDelta, Head, Level, Record, Scale, type_id};
use iai_callgrind::{library_benchmark, library_benchmark_group, main};
use std::hint::black_box;

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
    use zerocopy::IntoBytes as _;
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

library_benchmark_group!(name = log_steps; benchmarks = append, claim_and_commit, read, read_verified);
library_benchmark_group!(name = frames; benchmarks = frame_header, frame_decode);
library_benchmark_group!(name = records; benchmarks = record_encode, record_parse, book_apply);
main!(library_benchmark_groups = log_steps, frames, records);
