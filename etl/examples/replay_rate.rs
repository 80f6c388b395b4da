//! What does merging cost? The same records from 1, 10 and 100 partitions: frames with a trade each, received in turns, read
//! alone (no merge), through a replay of one lane, of ten and of a hundred.
//!
//! ```text
//! cargo run --release -p chronicle-etl --example replay_rate
//! ```
//!
//! One object a line: `{case, partitions, records, records_per_s, of_one}`, medians of 5; `of_one` is the rate against the
//! replay of one partition.

#[cfg(target_os = "linux")]
fn main() {
    use std::time::Instant;

    use chronicle_core::Append;
    use chronicle_etl::error::Error;
    use chronicle_etl::records::each_record;
    use chronicle_etl::replay::{Replay, Request};
    use chronicle_platform_linux::Linux;
    use chronicle_protocol::{Head, Record, Scale, Trade};
    use chronicle_storage::partition::PartitionWriter;
    use chronicle_storage::root::{Date, Name, PartitionId, Root, Stream, Tier};

    const RECORDS: u64 = 2_000_000;
    let date: Date = "2024-08-08".parse().expect("a date");
    let dir = tempfile::tempdir().expect("a directory");
    let venue = Name::new("v").expect("a name");
    let make = |count: u64| {
        let root = Root::new(dir.path().join(count.to_string()));
        let symbols: Vec<Name> = (0..count).map(|at| Name::new(&format!("s{at}")).expect("a name")).collect();
        let mut payload = [0; 128];
        for (lane, symbol) in (0..).zip(&symbols) {
            let id = PartitionId::new(venue.clone(), symbol.clone(), date, Stream::Trades);
            let path = root.partition(Tier::Warm, &id);
            let mut writer = PartitionWriter::create(&Linux, &path, &id).expect("a partition");
            // Every lane has the next record in its turn: each record makes the merge look anew.
            for at in (lane..RECORDS).step_by(count as usize) {
                let time_ns = date.start_ns() + at * 1_000;
                let head = Head {
                    exchange_ns: time_ns,
                    ingest_ns: time_ns,
                    price: Scale::fixed(2),
                    qty: Scale::fixed(3),
                    ..Head::default()
                };
                let trade = Record::Trade(Trade {
                    head,
                    trade_id: at,
                    price: 6_180_030,
                    qty: 6,
                    buyer_is_maker: false,
                    order_type: None,
                    legacy_m: None,
                    symbol: "BTCUSDT",
                });
                let len = trade.encode(&mut payload).expect("it fits");
                writer.append(Append { time_ns, type_id: trade.type_id(), flags: 0 }, &payload[..len]).expect("a disk");
            }
            writer.seal().expect("a disk");
        }
        (root, symbols)
    };
    let median = |mut run: Box<dyn FnMut() -> u64>| {
        let mut rates: Vec<f64> = (0..5)
            .map(|_| {
                let began = Instant::now();
                let count = run();
                assert_eq!(count, RECORDS);
                count as f64 / began.elapsed().as_secs_f64()
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        rates[2]
    };
    let mut one = None;
    for count in [1, 10, 100] {
        let (root, symbols) = make(count);
        if count == 1 {
            let (root, venue, symbol) = (root.clone(), venue.clone(), symbols[0].clone());
            let rate = median(Box::new(move || {
                let mut count = 0;
                each_record(&Linux, &root, &venue, &symbol, Stream::Trades, &(date..=date), |_| {
                    count += 1;
                    Ok::<(), Error>(())
                })
                .expect("it reads");
                count
            }));
            println!(
                "{{\"case\":\"parsed, no merge\",\"partitions\":1,\"records\":{RECORDS},\"records_per_s\":{rate:.0}}}"
            );
        }
        let symbols: Vec<_> = symbols.into_iter().map(|symbol| (venue.clone(), symbol)).collect();
        let rate = median(Box::new(move || {
            let request = Request { streams: vec![Stream::Trades], ..Request::of(symbols.clone()) };
            let replay = Replay::open(&Linux, &root, request).expect("it opens");
            replay.each(|_| Ok::<(), Error>(())).expect("it reads")
        }));
        let of_one = rate / *one.get_or_insert(rate);
        println!(
            "{{\"case\":\"merged\",\"partitions\":{count},\"records\":{RECORDS},\"records_per_s\":{rate:.0},\
             \"of_one\":{of_one:.2}}}"
        );
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}
