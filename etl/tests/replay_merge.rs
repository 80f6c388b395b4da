//! A replay gives what came, in the order in which it came, and nothing else: refined once more it makes the same books,
//! from wherever it begins.

#[path = "support/mod.rs"]
mod support;
#[path = "support/root.rs"]
mod support_root;

use chronicle_core::Append;
use chronicle_etl::error::Error;
use chronicle_etl::query::{At, Rows, book_at, export_book_snapshot};
use chronicle_etl::records::each_record;
use chronicle_etl::refine::{Options, refine};
use chronicle_etl::refinery::NOT_APPLIED;
use chronicle_etl::replay::{Replay, Request};
use chronicle_platform::Platform as _;
use chronicle_platform::sim::Sim;
use chronicle_protocol::{Head, Record, Scale, Trade};
use chronicle_storage::partition::PartitionWriter;
use chronicle_storage::root::{Date, PartitionId, Root, Stream, Tier};
use support::{Raw, date, imported, shared};
use support_root::{append, name};

const SECOND: u64 = 1_000_000_000;
const SEGMENT_LEN: u32 = 4 << 20;

/// What a replay gives, as raw frames.
fn replayed(sim: &Sim, root: &Root, request: Request) -> Vec<Raw> {
    let mut frames = Vec::new();
    let count = Replay::open(sim, root, request)
        .unwrap()
        .each(|event| {
            event.record()?;
            frames.push(Raw { ingest_ns: event.received_ns, type_id: event.type_id, payload: event.payload.to_vec() });
            Ok::<(), Error>(())
        })
        .unwrap();
    assert_eq!(count, frames.len() as u64);
    assert!(frames.is_sorted_by_key(|frame| frame.ingest_ns), "the receive time never goes back");
    frames
}

fn refined(sim: &Sim, dir: &str, venue: &str, frames: &[Raw]) -> Root {
    let root = Root::new(dir);
    append(sim, &root, venue, frames, SEGMENT_LEN);
    refine(sim, &root, None, &Options::default(), |_| {}).unwrap();
    root
}

/// The books of every second, from a time on.
fn seconds(sim: &Sim, root: &Root, venue: &str, symbol: &str, from_ns: u64) -> Vec<String> {
    let rows = Rows { dates: date("2024-08-08")..=date("2024-08-09"), every_ns: SECOND, depth: 50 };
    let mut csv = Vec::new();
    export_book_snapshot(sim, root, &name(venue), &name(symbol), &rows, &mut csv).unwrap();
    let csv = String::from_utf8(csv).unwrap();
    let time_ns = |line: &str| line.split(',').next().unwrap().parse::<u64>().unwrap() * 1_000_000;
    csv.lines().skip(1).filter(|line| time_ns(line) >= from_ns).map(str::to_owned).collect()
}

/// Trades and quotes that count, as bytes.
fn records(sim: &Sim, root: &Root, venue: &str, symbol: &str, stream: Stream, from_ns: u64) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let dates = Date::of_ns(0)..=Date::MAX;
    each_record(sim, root, &name(venue), &name(symbol), stream, &dates, |stored| {
        if stored.flags & NOT_APPLIED == 0 && stored.time_ns >= from_ns {
            let mut payload = vec![0; stored.record.encoded_len()];
            stored.record.encode(&mut payload).unwrap();
            found.push(payload);
        }
        Ok::<(), Error>(())
    })
    .unwrap();
    found
}

/// Refined, replayed and refined again: all of it, and from the middle.
fn survives(venue: &str, symbol: &str, frames: &[Raw]) {
    let sim = Sim::new(1);
    let root = refined(&sim, "/first", venue, frames);
    let symbols = vec![(name(venue), name(symbol))];
    let all = replayed(&sim, &root, Request::of(symbols.clone()));
    let again = refined(&sim, "/again", venue, &all);
    let rows = seconds(&sim, &root, venue, symbol, 0);
    assert!(rows.len() > 60, "{} rows", rows.len());
    assert!(rows == seconds(&sim, &again, venue, symbol, 0), "other books");
    let latest = |root: &Root| book_at(&sim, root, &name(venue), &name(symbol), At::Latest).unwrap();
    assert_eq!(latest(&root).book.digest(), latest(&again).book.digest());
    for stream in [Stream::Trades, Stream::Quotes] {
        let of = |root: &Root| records(&sim, root, venue, symbol, stream, 0);
        assert!(!of(&root).is_empty());
        assert!(of(&root) == of(&again), "other {}", stream.stem());
    }

    // From the middle: the book is there from the first event on, and it is the same one.
    let middle_ns = rows[rows.len() / 2].split(',').next().unwrap().parse::<u64>().unwrap() * 1_000_000 + 123_456_789;
    let request = Request { from_ns: middle_ns, ..Request::of(symbols) };
    let part = replayed(&sim, &root, request);
    assert!(part.len() < all.len());
    let kinds: Vec<&str> = part.iter().map(|frame| frame.record().type_name()).take(2).collect();
    assert!(kinds.contains(&"book_snapshot"), "it opens with the book: {kinds:?}");
    let later = refined(&sim, "/later", venue, &part);
    // The second after the first event's has a row in both.
    let from_ns = middle_ns + 3 * SECOND;
    let rows = seconds(&sim, &root, venue, symbol, from_ns);
    assert!(rows.len() > 25, "{} rows", rows.len());
    assert!(rows == seconds(&sim, &later, venue, symbol, from_ns), "other books from the middle on");
    assert_eq!(latest(&root).book.digest(), latest(&later).book.digest());
}

#[test]
fn the_excerpt_replayed_is_the_excerpt() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/binance-spot/ethusdt-20240808-excerpt.gz");
    let bytes = std::fs::read(path).expect("the excerpt is part of the project");
    survives("binance-spot", "ethusdt", &imported("binance-spot", "excerpt.gz", &bytes));
}

/// Futures join a snapshot to the delta that holds its last id: a replay from the middle must bring one.
#[test]
fn a_replay_of_futures_begins_in_the_middle() {
    let Some(bytes) = shared("binance-usdm/btcusdt_20240808.gz") else { return };
    survives("binance-usdm", "btcusdt", &imported("binance-usdm", "btcusdt_20240808.gz", &bytes));
}

/// The merge against sorting: by the highest receive time so far, then by lane, then as stored.
#[test]
fn the_merge_is_a_stable_sort() {
    let sim = Sim::new(3);
    let root = Root::new("/root");
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let start = date("2024-08-08").start_ns();
    let mut symbols = Vec::new();
    let mut expected: Vec<(u64, String, u64)> = Vec::new();
    for lane in 0..17 {
        let symbol = format!("s{lane:02}");
        let mut highest = 0;
        let mut id = 0;
        for day in 0..2 {
            let time_ns = start + day * 86_400 * SECOND;
            let partition = PartitionId::new(name("v"), name(&symbol), Date::of_ns(time_ns), Stream::Trades);
            let path = root.partition(Tier::Warm, &partition);
            let mut writer = PartitionWriter::create(&sim, &path, &partition).unwrap();
            // Some lanes have nothing on a day; few different times, so that many are equal.
            let count = if below(4) == 0 { 0 } else { below(200) };
            for at in 0..count {
                let ingest_ns = time_ns + at / 3 + below(40);
                id += 1;
                let record = Record::Trade(Trade {
                    head: Head {
                        exchange_ns: time_ns + at,
                        ingest_ns,
                        price: Scale::fixed(0),
                        qty: Scale::fixed(0),
                        ..Head::default()
                    },
                    trade_id: id,
                    price: 1,
                    qty: 1,
                    buyer_is_maker: false,
                    order_type: None,
                    legacy_m: None,
                    symbol: &symbol,
                });
                let raw = Raw::of(&record, ingest_ns);
                let frame = Append { time_ns: time_ns + at, type_id: raw.type_id, flags: 0 };
                writer.append(frame, &raw.payload).unwrap();
                highest = highest.max(ingest_ns);
                expected.push((highest, symbol.clone(), id));
            }
            writer.seal().unwrap();
        }
        symbols.push((name("v"), name(&symbol)));
    }
    expected.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    // The order of the request is of no matter, nor is naming one twice.
    symbols.reverse();
    symbols.push(symbols[0].clone());
    let mut told = Vec::new();
    Replay::open(&sim, &root, Request::of(symbols))
        .unwrap()
        .each(|event| {
            let Ok(Record::Trade(trade)) = event.record() else { panic!("only trades are there") };
            told.push((event.received_ns, event.lane.symbol.to_string(), trade.trade_id));
            Ok::<(), Error>(())
        })
        .unwrap();
    assert!(expected.len() > 1_000);
    assert_eq!(told, expected);
}

#[test]
fn what_is_not_there_is_refused() {
    let sim = Sim::new(4);
    let root = Root::new("/root");
    sim.create_dirs(&root.warm).unwrap();
    let request = Request::of(vec![(name("v"), name("nobody"))]);
    assert!(matches!(Replay::open(&sim, &root, request), Err(Error::NotFound { .. })));
}
