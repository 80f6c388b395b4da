//! How long after a record is appended to the raw stream can readers of its partition see it, refined?
//!
//! ```text
//! cargo run --release -p chronicle-etl --example follow_latency -- [PER_SECOND [SECONDS]]
//! ```
//!
//! A writer appends quotes and deltas of four symbols at a steady rate; a follower refines them in another thread, in each
//! way of waiting. One object a line: `{wait, cores, shards, per_second, frames, p50_ns, p90_ns, p99_ns, max_ns}`, from the
//! append of the first record of each batch until the partition's file has it. A writer and a spinning follower need a
//! core each: with fewer, the way that spins shows the scheduler.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chronicle_core::Append;
use chronicle_etl::refine::{Next, Options, Refiner};
use chronicle_platform::Platform;
use chronicle_platform_linux::Linux;
use chronicle_protocol::{BookDelta, BookSnapshot, Head, Level, Quote, Record, Scale, SnapshotSource};
use chronicle_storage::queue::{Profile, PublisherOptions, Queue};
use chronicle_storage::ring::WaitPolicy;
use chronicle_storage::root::{Name, Root};

const SYMBOLS: [&str; 4] = ["AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT"];

fn records(i: u64, now: u64, put: &mut dyn FnMut(&Record<'_>)) {
    let symbol = SYMBOLS[(i % 4) as usize];
    let id = i / 4;
    let head =
        Head { exchange_ns: now, ingest_ns: now, price: Scale::fixed(2), qty: Scale::fixed(3), ..Head::default() };
    let bids: Vec<_> = (0..4).map(|k| Level::new(10_000 - ((id + k * 7) % 500) as i64, (id % 9) as i64)).collect();
    let asks: Vec<_> = (0..4).map(|k| Level::new(10_001 + ((id + k * 5) % 500) as i64, (id % 8) as i64)).collect();
    if id == 0 {
        let source = SnapshotSource::Venue;
        let (bids, asks) = (&bids[..], &asks[..]);
        let head = Head { exchange_ns: 0, ..head };
        let (last_id, last_event_ns, opens_partition) = (0, 0, false);
        put(&Record::BookSnapshot(BookSnapshot {
            head,
            last_id,
            last_event_ns,
            source,
            opens_partition,
            bids,
            asks,
            symbol,
        }));
    } else if i.is_multiple_of(3) {
        let (bid_price, bid_qty, ask_price, ask_qty) = (10_000, 1, 10_001, 1);
        put(&Record::Quote(Quote { head, update_id: id, bid_price, bid_qty, ask_price, ask_qty, symbol }));
    }
    let (first_id, last_id, prev_id) = (id + 1, id + 1, None);
    put(&Record::BookDelta(BookDelta { head, first_id, last_id, prev_id, bids: &bids, asks: &asks, symbol }));
}

fn main() {
    let mut args = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let (per_second, seconds) = (args.next().unwrap_or(2_000), args.next().unwrap_or(5));
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    for (wait, name) in [(WaitPolicy::default(), "sleep"), (WaitPolicy::Yield, "yield"), (WaitPolicy::Spin, "spin")] {
        let dir = tempfile::tempdir_in(Linux.memory_dir().unwrap_or_else(std::env::temp_dir)).expect("a directory");
        let (root, venue) = (Root::new(dir.path()), Name::new("binance-spot").expect("a name"));
        let path = root.raw_queue(&venue);
        Linux.create_dirs(&path).expect("a directory");
        let options = PublisherOptions { required: Vec::new(), ..PublisherOptions::new(Profile::Raw) };
        let mut publisher = Queue::publisher(&Linux, &path, options).expect("a queue");
        let over = AtomicBool::new(false);
        let (mut lags, mut frames) = (Vec::new(), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = Vec::new();
                let (began, step) = (Instant::now(), Duration::from_nanos(1_000_000_000 / per_second.max(1)));
                for i in 0..per_second * seconds {
                    let due = step * i as u32;
                    if let Some(left) = due.checked_sub(began.elapsed()) {
                        std::thread::sleep(left);
                    }
                    records(i, Linux.now_ns(), &mut |record| {
                        bytes.resize(record.encoded_len(), 0);
                        record.encode(&mut bytes).expect("it fits");
                        let append = Append { time_ns: Linux.now_ns(), type_id: record.type_id(), flags: 0 };
                        publisher.append(append, &bytes).expect("there is room");
                    });
                }
                // ORDERING: Relaxed: nothing else is read because of it.
                over.store(true, Ordering::Relaxed);
            });
            let mut refiner = Refiner::open(&Linux, &root, &venue, Options::default()).expect("a refiner");
            let follow = refiner.follow(wait, |progress| {
                frames = progress.frames;
                match progress.received_ns {
                    Some((first, _)) => lags.push(Linux.now_ns().saturating_sub(first)),
                    None if over.load(Ordering::Relaxed) => return Next::Stop,
                    None => {}
                }
                Next::GoOn
            });
            follow.expect("it follows");
        });
        // The first ones find files that do not exist yet.
        let mut lags = lags.split_off(lags.len() / 10);
        lags.sort_unstable();
        let at = |share: f64| lags[((lags.len() - 1) as f64 * share) as usize];
        println!(
            "{{\"wait\":\"{name}\",\"cores\":{cores},\"shards\":1,\"per_second\":{per_second},\"frames\":{frames},\
             \"p50_ns\":{},\"p90_ns\":{},\"p99_ns\":{},\"max_ns\":{}}}",
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
    }
}
