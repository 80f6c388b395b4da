//! Books of captures with many symbols, of venues that number their books and of venues that do not, against golden files
//! that we did not compute. An event of one symbol that reaches another's book, a snapshot that is joined to the wrong
//! delta, or a digit that is not the venue's differs here.

mod support;

use chronicle_etl::book::Book;
use chronicle_etl::refinery::NOT_APPLIED;
use chronicle_protocol::{BookDelta, Gap, GapCause, Head, Level, Record, Scale, SnapshotSource};
use chronicle_storage::root::Stream;
use support::{Memory, Raw, csv, golden, recordings, refined};

/// Venue, files, golden file, symbols.
type Case = (&'static str, &'static [&'static str], &'static str, usize);

const SPOT: [&str; 2] = ["binance-multisymbol/BINANCE.ws.1.0.gz", "binance-multisymbol/BINANCE.http.0.0.gz"];
const USDM: [&str; 2] =
    ["binance-multisymbol/BINANCE_FUTURES.ws.1.0.gz", "binance-multisymbol/BINANCE_FUTURES.http.0.0.gz"];

const CASES: [Case; 7] = [
    // A snapshot is joined by its ids, whichever of the two is imported first.
    ("binance-spot", &SPOT, "multisymbol_spot", 4),
    ("binance-spot", &[SPOT[1], SPOT[0]], "multisymbol_spot", 4),
    ("binance-usdm", &USDM, "multisymbol_usdm", 4),
    ("binance-usdm", &[USDM[1], USDM[0]], "multisymbol_usdm", 4),
    ("kraken", &["kraken/KRAKEN.ws.50.0.gz"], "kraken", 8),
    ("okx", &["okx/OKX.ws.1.0.gz"], "okx", 2),
    ("coinbase", &["coinbase/COINBASE.ws.28.0.gz"], "coinbase", 10),
];

/// Replays a symbol's book as any reader of the archive would.
fn replay(memory: &Memory, symbol: u32) -> Book {
    let mut book = Book::new();
    let places = memory.partitions.iter().filter(|(place, _)| place.symbol == symbol && place.stream == Stream::Book);
    for clean in places.flat_map(|(_, frames)| frames).filter(|clean| clean.flags & NOT_APPLIED == 0) {
        match clean.record() {
            Record::BookSnapshot(s) if s.source == SnapshotSource::Venue => {
                book.replace(&s.head, s.bids, s.asks).unwrap();
            }
            Record::BookDelta(d) => {
                book.apply(&d.head, d.bids, d.asks).unwrap();
            }
            _ => {}
        }
    }
    book
}

/// A book's lines with the symbol in front.
fn rows(symbol: &str, book: &Book) -> String {
    csv(book).lines().skip(1).map(|line| format!("{symbol},{line}\n")).collect()
}

#[test]
fn final_books_of_many_symbols_equal_the_golden_files() {
    for (venue, files, name, count) in CASES {
        let Some(frames) = recordings(venue, files) else { return };
        let (refinery, memory) = refined(venue, &frames);
        let mut symbols: Vec<_> = (0..).zip(refinery.symbols()).filter(|(_, s)| !s.book().is_empty()).collect();
        symbols.sort_by_key(|(_, symbol)| symbol.raw().to_owned());
        let (mut text, mut replayed) = ("symbol,side,price,qty\n".to_owned(), "symbol,side,price,qty\n".to_owned());
        for (index, symbol) in &symbols {
            assert!(symbol.is_valid(), "{venue} {}", symbol.raw());
            text += &rows(symbol.raw(), symbol.book());
            replayed += &rows(symbol.raw(), &replay(&memory, *index));
            let gaps: usize = symbol.days().values().map(|day| day.gaps.len()).sum();
            assert_eq!(gaps, 0, "{venue} {}", symbol.raw());
        }
        assert_eq!(symbols.len(), count, "{venue}");
        let golden = golden(&format!("{name}_final_books")).unwrap();
        assert!(text == golden, "{venue} {files:?}: {}", first_difference(&text, &golden));
        assert!(replayed == golden, "{venue} {files:?}, replayed: {}", first_difference(&replayed, &golden));
    }
}

fn first_difference(ours: &str, golden: &str) -> String {
    let pair = ours.lines().zip(golden.lines()).find(|(ours, golden)| ours != golden);
    format!("{} lines, {} golden, first {pair:?}", ours.lines().count(), golden.lines().count())
}

/// A book delta of one bid, or a snapshot of one.
fn bid(snapshot: bool, time: u64, price: i64, ids: (u64, Option<u64>)) -> Raw {
    let head =
        Head { exchange_ns: time, ingest_ns: time, price: Scale::fixed(0), qty: Scale::fixed(0), ..Head::default() };
    let bids = &[Level::new(price, 1)][..];
    let record = if snapshot {
        Record::BookSnapshot(chronicle_protocol::BookSnapshot {
            head,
            last_id: ids.0,
            last_event_ns: 0,
            source: SnapshotSource::Venue,
            opens_partition: false,
            bids,
            asks: &[],
            symbol: "A/B",
        })
    } else {
        let (first_id, last_id, prev_id) = (ids.0, ids.0, ids.1);
        Record::BookDelta(BookDelta { head, first_id, last_id, prev_id, bids, asks: &[], symbol: "A/B" })
    };
    Raw::of(&record, time)
}

fn lost(time: u64) -> Raw {
    let head = Head { exchange_ns: time, ingest_ns: time, ..Head::default() };
    let record = Record::Gap(Gap {
        head,
        after_id: 0,
        next_id: 0,
        missing_from: 0,
        missing_to: 0,
        cause: GapCause::BookLost,
        carried: false,
        symbol: "A/B",
    });
    Raw::of(&record, time)
}

#[test]
fn a_snapshot_in_the_stream_replaces_the_book_where_it_stands() {
    let none = (0, None);
    for venue in ["kraken", "okx", "coinbase"] {
        let frames = [bid(false, 1, 50, none), bid(true, 2, 10, none), bid(false, 3, 11, none), bid(true, 4, 20, none)];
        let (refinery, memory) = refined(venue, &frames);
        let symbol = &refinery.symbols()[0];
        assert!(symbol.is_valid());
        assert_eq!(csv(symbol.book()), "side,price,qty\nbid,20,1\n", "{venue}: nothing of what was before is left");
        assert_eq!(csv(&replay(&memory, 0)), csv(symbol.book()));
    }
}

#[test]
fn a_gap_of_the_feed_ends_a_book_that_no_ids_prove() {
    let none = (0, None);
    let frames = [bid(true, 2, 10, none), bid(false, 3, 11, none), lost(4), bid(false, 5, 12, none)];
    let (refinery, _) = refined("kraken", &frames);
    assert!(!refinery.symbols()[0].is_valid());
    let gaps: Vec<_> = refinery.symbols()[0].days().values().flat_map(|day| &day.gaps).collect();
    assert_eq!((gaps.len(), gaps[0].cause), (1, GapCause::BookLost));
    let (refinery, _) = refined("kraken", &[&frames[..], &[bid(true, 6, 30, none), bid(false, 7, 31, none)]].concat());
    assert!(refinery.symbols()[0].is_valid());
    assert_eq!(csv(refinery.symbols()[0].book()), "side,price,qty\nbid,31,1\nbid,30,1\n");
    // Frames that the raw stream lost end it as well.
    let (mut refinery, mut memory) = refined("kraken", &frames[..2]);
    refinery.raw_lost();
    refinery.frame(frames[3].frame(), &mut memory).unwrap();
    assert!(!refinery.symbols()[0].is_valid());
}

#[test]
fn okx_is_followed_by_its_ids_where_it_sends_them() {
    let frames = [
        bid(true, 1, 10, (100, None)),
        bid(false, 2, 11, (105, Some(100))),
        bid(false, 3, 12, (105, Some(100))),
        bid(false, 4, 13, (7, Some(105))),
    ];
    let (refinery, _) = refined("okx", &frames);
    assert!(refinery.symbols()[0].is_valid(), "a duplicate, and numbering that begins anew, are no gaps");
    assert_eq!(csv(refinery.symbols()[0].book()), "side,price,qty\nbid,13,1\nbid,11,1\nbid,10,1\n");
    let (refinery, _) = refined("okx", &[&frames[..], &[bid(false, 5, 14, (12, Some(9)))]].concat());
    assert!(!refinery.symbols()[0].is_valid(), "8 and 9 are missing");
}
