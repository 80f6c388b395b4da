//! Files of other people's making, each told by its content and read to the last record: what their makers and an independent
//! count say is in them must come out, no more and no less.
//!
//! What would be lost without it: a row, a record or a symbol that a format's reader passes over, and nobody would know.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use chronicle_feed::{Format, Recorded, Recording, Report, Venue, look};
use chronicle_protocol::{OrderAction, Record, RecordFlags, Side, Trade};

fn data() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: no recordings at {}", dir.display());
    None
}

/// What came out of a file.
struct Read {
    report: Report,
    /// By the name of the record's type.
    records: BTreeMap<&'static str, u64>,
}

/// Reads a file as its content says, and shows each record.
fn read(path: &Path, mut each: impl FnMut(&Record<'_>)) -> Read {
    let open = || File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let look = look(None, open()).unwrap();
    let name = path.file_name().unwrap().to_string_lossy();
    let (Some(format), Some(venue)) = (look.format, look.venue) else { panic!("{name}: not told by its content") };
    let mut recorded = Recorded::open(format, &venue, name, open()).unwrap();
    let mut records = BTreeMap::new();
    while let Some(parsed) = recorded.advance().unwrap() {
        let record = Record::parse(parsed.type_id, parsed.payload).unwrap();
        assert_eq!(record.head().ingest_ns, parsed.ingest_ns);
        *records.entry(record.type_name()).or_default() += 1;
        each(&record);
    }
    let report = recorded.into_report();
    assert_eq!(report.records, records.values().sum::<u64>());
    assert_eq!(report.lines, report.malformed + report.by_kind.values().sum::<u64>());
    Read { report, records }
}

fn of<const N: usize>(counts: [(&'static str, u64); N]) -> BTreeMap<&'static str, u64> {
    counts.into()
}

#[test]
fn tardis_samples() {
    let Some(dir) = data().map(|dir| dir.join("tardis-samples")) else { return };
    for (file, venue, symbol, kind, rows, records) in [
        (
            "binance-futures_book_snapshot_25_BTCUSDT.csv",
            "binance-futures",
            "BTCUSDT",
            "book_snapshot_25",
            10,
            of([("book_snapshot", 10)]),
        ),
        (
            "binance-futures_book_snapshot_5_BTCUSDT.csv",
            "binance-futures",
            "BTCUSDT",
            "book_snapshot_5",
            10,
            of([("book_snapshot", 10)]),
        ),
        ("bitmex_trades_XBTUSD.csv", "bitmex", "XBTUSD", "trades", 10, of([("text_trade", 10)])),
        (
            "deribit_incremental_book_L2_BTC-PERPETUAL.csv",
            "deribit",
            "BTC-PERPETUAL",
            "incremental_book_L2",
            15,
            of([("book_snapshot", 1)]),
        ),
        ("huobi-dm-swap_quotes_BTC-USD.csv", "huobi-dm-swap", "BTC-USD", "quotes", 10, of([("quote", 10)])),
    ] {
        let depth = if kind == "book_snapshot_25" { 25 } else { 5 };
        let found = read(&dir.join(file), |record| match record {
            Record::BookSnapshot(book) if kind.starts_with("book_snapshot") => {
                assert_eq!([book.bids.len(), book.asks.len()], [depth; 2], "{file}");
                assert!(book.bids[0].price() < book.asks[0].price(), "{file}");
            }
            Record::BookSnapshot(book) => assert_eq!([book.bids.len(), book.asks.len()], [0, 15]),
            Record::TextTrade(trade) => assert!(trade.id.len() == 36 && trade.side.is_some()),
            _ => {}
        });
        assert!(found.report.is_clean(), "{file}: {:?}", found.report);
        assert_eq!((found.report.format, found.report.venue.as_str()), (Format::Tardis, venue));
        assert_eq!(
            (found.report.by_kind[kind], found.report.lines, found.records),
            (rows, rows + 1, records),
            "{file}"
        );
        assert_eq!(found.report.symbols.into_iter().collect::<Vec<_>>(), [symbol]);
    }
}

/// The first row of a sample, digit by digit.
#[test]
fn tardis_numbers_are_the_files_own() {
    let Some(dir) = data().map(|dir| dir.join("tardis-samples")) else { return };
    let mut quotes = Vec::new();
    read(&dir.join("huobi-dm-swap_quotes_BTC-USD.csv"), |record| {
        let Record::Quote(quote) = record else { panic!() };
        let text = |scale: chronicle_protocol::Scale, mantissa| scale.decimal(mantissa).to_string();
        let (price, qty) = (quote.head.price, quote.head.qty);
        quotes.push((
            [text(price, quote.bid_price), text(price, quote.ask_price)],
            [text(qty, quote.bid_qty), text(qty, quote.ask_qty)],
            [quote.head.exchange_ns, quote.head.ingest_ns],
        ));
    });
    let (prices, sizes, times) = &quotes[0];
    assert_eq!((prices, sizes), (&["8629.2", "8629.3"].map(String::from), &["806", "5494"].map(String::from)));
    assert_eq!(times, &[1_588_291_201_099_000_000, 1_588_291_201_234_268_000]);
}

#[test]
fn tardis_files_of_a_day() {
    let Some(dir) = data().map(|dir| dir.join("tardis-schema-derived")) else { return };
    let (mut levels, mut snapshot) = (0, 0);
    let book = read(&dir.join("binance_incremental_book_L2_2024-08-08_BTCUSDT.csv.gz"), |record| match record {
        Record::BookSnapshot(book) => snapshot += book.bids.len() + book.asks.len(),
        Record::BookDelta(delta) => levels += delta.bids.len() + delta.asks.len(),
        _ => panic!(),
    });
    assert!(book.report.is_clean(), "{:?}", book.report);
    assert_eq!(book.report.by_kind["incremental_book_L2"], 126_058);
    assert_eq!((snapshot, levels), (2_001, 124_057));
    // The depth events after the bridging one.
    assert_eq!(book.records, of([("book_delta", 3_448), ("book_snapshot", 1)]));
}

/// Each trade of the venue's own stream, one by one.
#[test]
fn tardis_trades_are_the_venues() {
    let Some(dir) = data() else { return };
    type Fact = (u64, String, String, bool, u64, u64);
    let fact = |trade: &Trade<'_>, time: u64| -> Fact {
        let trimmed = |text: String| match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        };
        let (price, qty) = (trade.head.price.decimal(trade.price), trade.head.qty.decimal(trade.qty));
        let local = trade.head.ingest_ns / 1000;
        (trade.trade_id, trimmed(price.to_string()), trimmed(qty.to_string()), trade.buyer_is_maker, time, local)
    };
    let mut derived = Vec::new();
    let found = read(&dir.join("tardis-schema-derived/binance_trades_2024-08-08_BTCUSDT.csv.gz"), |record| {
        let Record::Trade(trade) = record else { panic!() };
        derived.push(fact(trade, trade.head.exchange_ns));
    });
    assert_eq!((found.report.by_kind["trades"], derived.len()), (9_757, 9_757));
    let file = File::open(dir.join("binance-spot/btcusdt_20240808.gz")).unwrap();
    let mut recording = Recording::open(Venue::BinanceSpot, "btcusdt", file);
    let mut own = Vec::new();
    while let Some(parsed) = recording.advance().unwrap() {
        if let Ok(Record::Trade(trade)) = Record::parse(parsed.type_id, parsed.payload) {
            own.push(fact(&trade, trade.head.transact_ns));
        }
    }
    assert!(derived == own, "{:?}", derived.iter().zip(&own).find(|(a, b)| a != b));
}

#[test]
fn hyperliquid() {
    let Some(dir) = data() else { return };
    let mut ids = std::collections::BTreeSet::new();
    let found = read(&dir.join("hyperliquid/btcusd_20250126.gz"), |record| match record {
        Record::CountedSnapshot(counted) => {
            assert_eq!([counted.book.bids.len(), counted.book.asks.len()], [20; 2]);
            assert!(counted.bid_counts.iter().chain(counted.ask_counts).all(|count| count.get() > 0));
        }
        Record::Trade(trade) => drop(ids.insert(trade.trade_id)),
        _ => panic!(),
    });
    assert!(found.report.is_clean());
    assert_eq!((found.report.format, found.report.venue.as_str()), (Format::Hyperliquid, "hyperliquid"));
    assert_eq!((found.report.lines, found.report.by_kind["l2Book"], found.report.by_kind["trades"]), (55, 46, 9));
    // The README counts 73 trades of 64 ids; 64 `tid` are in the file, each once.
    assert_eq!(found.records, of([("counted_snapshot", 46), ("trade", 64)]));
    assert_eq!(ids.len(), 64);
}

#[test]
fn captures_say_whose_they_are() {
    let Some(dir) = data() else { return };
    for (file, venue) in [
        ("binance-multisymbol/BINANCE.ws.1.0.gz", "binance-spot"),
        ("binance-multisymbol/BINANCE.http.0.0.gz", "binance-spot"),
        ("binance-multisymbol/BINANCE_FUTURES.ws.1.0.gz", "binance-usdm"),
        ("binance-multisymbol/BINANCE_FUTURES.http.0.0.gz", "binance-usdm"),
        ("kraken/KRAKEN.ws.50.0.gz", "kraken"),
        ("okx/OKX.ws.1.0.gz", "okx"),
        ("coinbase/COINBASE.ws.28.0.gz", "coinbase"),
    ] {
        let found = look(None, File::open(dir.join(file)).unwrap()).unwrap();
        assert_eq!((found.format, found.venue.as_deref()), (Some(Format::Cryptofeed), Some(venue)), "{file}");
    }
    for file in ["binance-spot/btcusdt_20240808.gz", "binance-usdm/btcusdt_20240808.gz"] {
        let found = look(None, File::open(dir.join(file)).unwrap()).unwrap();
        assert_eq!((found.format, found.venue), (Some(Format::Binance), None), "{file}");
    }
}

#[test]
fn databento_orders() {
    let Some(dir) = data().map(|dir| dir.join("databento")) else { return };
    let (mut actions, mut in_snapshot) = (BTreeMap::new(), 0);
    let found = read(&dir.join("esh4-glbx-mdp3-20231225.mbo.dbn.zst"), |record| {
        let Record::OrderEvent(event) = record else { panic!() };
        if event.flags.has(RecordFlags::SNAPSHOT) {
            in_snapshot += 1;
        } else {
            *actions.entry(event.action.as_str()).or_default() += 1;
        }
        assert!(event.symbol == "ESH4" && event.price.is_some() && event.action != OrderAction::Clear);
    });
    assert!(found.report.is_clean(), "{:?}", found.report);
    assert_eq!((found.report.format, found.report.venue.as_str()), (Format::Dbn, "glbx-mdp3"));
    assert_eq!((found.report.lines, found.report.by_kind["mbo"], found.report.unmapped), (68_792, 68_792, 0));
    assert_eq!(in_snapshot, 8_725);
    assert_eq!(
        actions,
        of([("add", 20_491), ("cancel", 17_999), ("modify", 12_233), ("trade", 2_973), ("fill", 6_371)])
    );

    let mut times = std::collections::BTreeSet::new();
    let found = read(&dir.join("esh4-glbx-mdp3-20231224.mbo.dbn.zst"), |record| {
        let Record::OrderEvent(event) = record else { panic!() };
        assert!(event.flags.has(RecordFlags::SNAPSHOT));
        times.insert(event.head.exchange_ns);
    });
    assert_eq!(found.report.by_kind["mbo"], 8_725);
    assert_eq!(times.into_iter().collect::<Vec<_>>(), [1_703_422_805_243_925_307]);
}

/// The best prices and the trades of one window, from the two files that have it.
#[test]
fn databento_quotes_and_trades() {
    let Some(dir) = data().map(|dir| dir.join("databento")) else { return };
    type Fact = (u64, u64, u64, i64, i64, Option<Side>, u64);
    let collect = |file: &str| {
        let mut trades: Vec<Fact> = Vec::new();
        let found = read(&dir.join(file), |record| {
            if let Record::TextTrade(trade) = record {
                let head = &trade.head;
                let times = (head.exchange_ns, head.ingest_ns, head.transact_ns);
                assert!(trade.id.is_empty() && trade.symbol == "ESU4");
                trades.push((times.0, times.1, times.2, trade.price, trade.qty, trade.side, trade.sequence));
            }
        });
        (found, trades)
    };
    let (quotes, beside) = collect("futures_mbp-1_2024-07-01T23-58_2024-07-02T00-02.dbn.zst");
    let (trades, alone) = collect("futures_trades_2024-07-01T23-58_2024-07-02T00-02.dbn.zst");
    assert_eq!((quotes.report.by_kind["mbp-1"], trades.report.by_kind["trades"]), (2_288, 120));
    assert_eq!(quotes.records, of([("quote", 2_288), ("text_trade", 120)]));
    assert_eq!(trades.records, of([("text_trade", 120)]));
    assert!(beside == alone, "{:?}", beside.iter().zip(&alone).find(|(a, b)| a != b));
    let midnight = 1_719_878_400_000_000_000;
    assert_eq!(alone.iter().filter(|trade| trade.0 < midnight).count(), 28);
}

#[test]
fn databento_fixtures_of_all_versions() {
    let Some(dir) = data().map(|dir| dir.join("databento/dbn-fixtures")) else { return };
    let mut first: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (kind, versions, count, records) in [
        ("definition", 1..=3, 2, of([("opaque", 2)])),
        ("mbo", 1..=3, 2, of([("order_event", 2)])),
        ("mbp-1", 1..=3, 2, of([("quote", 2)])),
        ("mbp-10", 1..=3, 2, of([("counted_snapshot", 2)])),
        ("trades", 1..=3, 2, of([("text_trade", 2)])),
        ("status", 2..=3, 4, of([("opaque", 4)])),
    ] {
        for version in versions {
            let mut seen = Vec::new();
            let file = format!("test_data.{kind}.v{version}.dbn.zst");
            let found = read(&dir.join(&file), |record| {
                // A definition has other bytes in each version.
                if kind != "definition" {
                    seen.push(format!("{record:?}"));
                }
                assert!(record.head().ingest_ns > 1_600_000_000_000_000_000, "{file}: {record:?}");
            });
            assert!(found.report.is_clean(), "{file}: {:?}", found.report);
            assert_eq!((found.report.by_kind[kind], found.report.lines), (count, count), "{file}");
            let mut expected = records.clone();
            if let (Some(trades), "mbp-1" | "mbp-10") = (found.records.get("text_trade"), kind) {
                // One with action T says both.
                expected.insert("text_trade", *trades);
            }
            assert_eq!(found.records, expected, "{file}");
            assert_eq!(&seen, first.entry(kind).or_insert_with(|| seen.clone()), "{file}: not as the version before");
        }
    }
}
