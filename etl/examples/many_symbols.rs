//! What do checkpoints of thousands of books cost?
//!
//! ```text
//! cargo run --release -p chronicle-etl --example many_symbols -- [SYMBOLS [LEVELS]]
//! ```
//!
//! Every symbol has a book of so many levels a side. They are refined, then each symbol gets one delta more and a checkpoint
//! is taken. One object a line: `{symbols, levels, shards, refine_s, checkpoint_bytes, checkpoint_s, partitions}`. Files lie
//! in memory where the machine has a directory for that: a disk's syncs, one for each partition, come on top.

use std::time::Instant;

use chronicle_core::Append;
use chronicle_etl::refine::{Options, Refiner};
use chronicle_platform::Platform;
use chronicle_platform_linux::Linux;
use chronicle_protocol::{BookDelta, BookSnapshot, Head, Level, Record, Scale, SnapshotSource};
use chronicle_storage::queue::{Profile, PublisherOptions, Queue};
use chronicle_storage::root::{Name, Root};

const NOON: u64 = 1_723_118_400_000_000_000;

fn main() {
    let mut args = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let (symbols, levels) = (args.next().unwrap_or(5_000), args.next().unwrap_or(1_000));
    for shards in [1, 2] {
        let dir = tempfile::tempdir_in(Linux.memory_dir().unwrap_or_else(std::env::temp_dir)).expect("a directory");
        let (root, venue) = (Root::new(dir.path()), Name::new("binance-spot").expect("a name"));
        let path = root.raw_queue(&venue);
        Linux.create_dirs(&path).expect("a directory");
        let options = PublisherOptions { required: Vec::new(), ..PublisherOptions::new(Profile::Raw) };
        let mut publisher = Queue::publisher(&Linux, &path, options).expect("a queue");
        let mut refiner =
            Refiner::open(&Linux, &root, &venue, Options { shards, ..Options::default() }).expect("a refiner");
        let mut bytes = Vec::new();
        let mut put = |record: &Record<'_>| {
            bytes.resize(record.encoded_len(), 0);
            record.encode(&mut bytes).expect("it fits");
            let append = Append { time_ns: NOON, type_id: record.type_id(), flags: 0 };
            publisher.append(append, &bytes).is_ok()
        };
        let side = |from: i64, step: i64| -> Vec<Level> {
            (0..levels as i64).map(|i| Level::new(from + step * i, 1_000_000 + i * 7)).collect()
        };
        let (bids, asks) = (side(6_000_000, -1), side(6_000_001, 1));
        let head = Head {
            exchange_ns: NOON,
            ingest_ns: NOON,
            price: Scale::fixed(2),
            qty: Scale::fixed(5),
            ..Head::default()
        };
        let mut refine_s = 0.0;
        let run = |refiner: &mut Refiner<Linux>| {
            let began = Instant::now();
            refiner.run(|_| {}).expect("it is refined");
            began.elapsed().as_secs_f64()
        };
        let delta = |symbol: &str, id: u64, put: &mut dyn FnMut(&Record<'_>) -> bool| {
            let (first_id, last_id, bids, asks) = (id, id, &[][..], &[][..]);
            put(&Record::BookDelta(BookDelta { head, first_id, last_id, prev_id: None, bids, asks, symbol }))
        };
        for number in 0..symbols {
            let symbol = format!("S{number}USDT");
            let (source, head) = (SnapshotSource::Venue, Head { exchange_ns: 0, ..head });
            let (bids, asks, last_event_ns, opens_partition) = (&bids[..], &asks[..], 0, false);
            let snapshot =
                BookSnapshot { head, last_id: 0, last_event_ns, source, opens_partition, bids, asks, symbol: &symbol };
            assert!(put(&Record::BookSnapshot(snapshot)), "the queue is full");
            delta(&symbol, 1, &mut put);
            if number % 500 == 499 {
                // The queue keeps nothing for a reader that it does not know.
                refine_s += run(&mut refiner);
            }
        }
        refine_s += run(&mut refiner);
        for number in 0..symbols {
            delta(&format!("S{number}USDT"), 2, &mut put);
        }
        let checkpoint_s = run(&mut refiner);
        let checkpoint = root.state.join("refine").join("binance-spot.checkpoint");
        let len = std::fs::metadata(checkpoint).map_or(0, |meta| meta.len());
        let partitions = refiner.report().partitions.len();
        println!(
            "{{\"symbols\":{symbols},\"levels\":{levels},\"shards\":{shards},\"refine_s\":{refine_s:.2},\
             \"checkpoint_bytes\":{len},\"checkpoint_s\":{checkpoint_s:.3},\"partitions\":{partitions}}}"
        );
    }
}
