//! Books from the recordings against truth that we did not compute: golden files, and the venue's own best bid and offer.
//! A refinery that loses, repeats, reorders or rounds one level differs here.

mod support;

use std::collections::BTreeMap;

use chronicle_etl::book::Book;
use chronicle_etl::refinery::NOT_APPLIED;
use chronicle_protocol::{Record, SnapshotSource};
use chronicle_storage::root::Stream;
use support::{Clean, Raw, csv, golden, hex, recordings, refined};

struct Case {
    venue: &'static str,
    files: &'static [&'static str],
    golden: &'static str,
    digest: &'static str,
    /// Deltas whose best bid and offer the venue told, and how many of them are equal.
    truth: (usize, usize),
    /// Rows of `bookticker_exact`.
    exact: usize,
}

const CASES: [Case; 4] = [
    Case {
        venue: "binance-usdm",
        files: &["binance-usdm/btcusdt_20240808.gz"],
        golden: "usdm_btcusdt",
        digest: "877d4109fbff1fed",
        truth: (6_547, 6_547),
        exact: 629,
    },
    Case {
        venue: "binance-spot",
        files: &["binance-spot/btcusdt_20240808.gz", "binance-spot/btcusdt_20240809.gz"],
        golden: "spot_btcusdt",
        digest: "148110e45ed90405",
        truth: (6_493, 6_491),
        exact: 1_072,
    },
    Case {
        venue: "binance-coinm",
        files: &["binance-coinm/btcusd_perp_20240808.gz"],
        golden: "coinm_btcusd_perp_20240808",
        digest: "99f292dfc5d3eb7f",
        truth: (26_824, 26_824),
        exact: 1_124,
    },
    Case {
        venue: "binance-spot",
        files: &["binance-spot/ethusdt_20240808.gz"],
        golden: "spot_ethusdt_20240808",
        digest: "b590ee4e87c6031f",
        truth: (3_432, 3_432),
        exact: 577,
    },
];

/// The texts of a quote.
type Bests = (String, String, String, String);

fn bests(book: &Book) -> Bests {
    let (bid, ask) = (book.bids().next().unwrap(), book.asks().next().unwrap());
    (
        book.price(bid.0).to_string(),
        book.qty(bid.1).to_string(),
        book.price(ask.0).to_string(),
        book.qty(ask.1).to_string(),
    )
}

fn quotes(frames: &[Raw]) -> BTreeMap<u64, Bests> {
    let mut quotes = BTreeMap::new();
    for frame in frames {
        if let Record::Quote(q) = frame.record() {
            let (price, qty) = (q.head.price, q.head.qty);
            let text = |m, scale: chronicle_protocol::Scale| scale.decimal(m).to_string();
            let bests =
                (text(q.bid_price, price), text(q.bid_qty, qty), text(q.ask_price, price), text(q.ask_qty, qty));
            quotes.insert(q.update_id, bests);
        }
    }
    quotes
}

/// Replays a book's partitions as any reader of the archive would: venue snapshots and applied deltas.
fn replay<'a>(partitions: impl Iterator<Item = &'a [Clean]>, mut after_delta: impl FnMut(&Book, u64)) -> Book {
    let mut book = Book::new();
    for clean in partitions.flatten() {
        if clean.flags & NOT_APPLIED != 0 {
            continue;
        }
        match clean.record() {
            Record::BookSnapshot(s) if s.source == SnapshotSource::Venue => {
                book.replace(&s.head, s.bids, s.asks).unwrap();
            }
            Record::BookSnapshot(s) => {
                // The refinery's snapshot is the book that the deltas before it give.
                let mut other = Book::new();
                other.replace(&s.head, s.bids, s.asks).unwrap();
                assert!(other.bids().eq(book.bids()) && other.asks().eq(book.asks()));
            }
            Record::BookDelta(d) => {
                book.apply(&d.head, d.bids, d.asks).unwrap();
                after_delta(&book, d.last_id);
            }
            _ => {}
        }
    }
    book
}

/// A golden file in which a book's sides have `bid` and `ask`.
fn exact(name: &str) -> Option<BTreeMap<u64, Bests>> {
    let text = golden(&format!("{name}_bookticker_exact"))?;
    let rows = text.lines().skip(1).map(|line| {
        let mut cells = line.split(',').map(str::to_owned);
        let mut cell = || cells.next().unwrap();
        (cell().parse().unwrap(), (cell(), cell(), cell(), cell()))
    });
    Some(rows.collect())
}

#[test]
fn final_books_equal_the_golden_files() {
    for case in CASES {
        let Some(frames) = recordings(case.venue, case.files) else { return };
        let (refinery, memory) = refined(case.venue, &frames);
        let book = refinery.symbols()[0].book();
        assert!(refinery.symbols()[0].is_valid(), "{}", case.golden);
        assert!(hex(&book.digest()).starts_with(case.digest), "{}", case.golden);
        let text = csv(book);
        assert_eq!(text, golden(&format!("{}_final_book", case.golden)).unwrap(), "{}", case.golden);
        let days = memory.partitions.iter().filter(|(place, _)| place.stream == Stream::Book).map(|(_, f)| &f[..]);
        assert_eq!(csv(&replay(days, |_, _| {})), text, "{}: replayed", case.golden);
    }
}

#[test]
fn best_bids_and_offers_equal_the_venues() {
    for case in CASES {
        let Some(frames) = recordings(case.venue, case.files) else { return };
        let (quotes, mut exact) = (quotes(&frames), exact(case.golden).unwrap());
        assert_eq!(exact.len(), case.exact);
        let (_, memory) = refined(case.venue, &frames);
        let days = memory.partitions.iter().filter(|(place, _)| place.stream == Stream::Book).map(|(_, f)| &f[..]);
        let (mut checked, mut equal) = (0, 0);
        replay(days, |book, last_id| {
            let bests = bests(book);
            if let Some((_, quote)) = quotes.range(..=last_id).next_back() {
                checked += 1;
                equal += usize::from(*quote == bests);
            }
            if let Some(quote) = exact.remove(&last_id) {
                assert_eq!(bests, quote, "{} u {last_id}", case.golden);
            }
        });
        assert!(exact.is_empty(), "{}: never compared: {exact:?}", case.golden);
        assert_eq!((checked, equal), case.truth, "{}", case.golden);
    }
}

/// Every record that went in comes out, once, in the order of its stream, byte for byte.
#[test]
fn partitions_hold_every_record() {
    for case in CASES {
        let Some(frames) = recordings(case.venue, case.files) else { return };
        let (refinery, memory) = refined(case.venue, &frames);
        assert_eq!(refinery.symbols().iter().map(|s| s.waiting()).sum::<u64>(), 0);
        for stream in [Stream::Book, Stream::Trades, Stream::Quotes, Stream::Opaque] {
            let mut raw: Vec<_> = frames
                .iter()
                .filter(|f| match f.record() {
                    Record::BookDelta(_) | Record::BookSnapshot(_) => stream == Stream::Book,
                    Record::Trade(_) => stream == Stream::Trades,
                    Record::Quote(_) => stream == Stream::Quotes,
                    Record::Source(_) => false,
                    _ => stream == Stream::Opaque,
                })
                .map(|f| &f.payload)
                .collect();
            let mut clean: Vec<_> = memory
                .partitions
                .iter()
                .filter(|(place, _)| place.stream == stream)
                .flat_map(|(_, frames)| frames)
                .filter(|f| !matches!(f.record(), Record::BookSnapshot(s) if s.source == SnapshotSource::Refinery))
                .map(|f| &f.payload)
                .collect();
            if stream == Stream::Book {
                // The venue's snapshot stands before the delta that it was joined to.
                raw.sort();
                clean.sort();
            }
            assert_eq!(raw.len(), clean.len(), "{} {stream}", case.golden);
            assert!(raw == clean, "{} {stream}", case.golden);
        }
    }
}

/// The numbers of the README's table of days: exchange time cuts the days, not the recorder's clock.
#[test]
fn days_are_cut_by_exchange_time() {
    let Some(frames) = recordings(CASES[0].venue, CASES[0].files) else { return };
    let (_, memory) = refined(CASES[0].venue, &frames);
    let numbers = |date| {
        let count = |stream, venue_only: bool| {
            memory
                .get(0, date, stream)
                .iter()
                .filter(|f| !venue_only || matches!(f.record(), Record::BookDelta(_)))
                .count()
        };
        (count(Stream::Book, true), count(Stream::Quotes, false), count(Stream::Trades, false))
    };
    assert_eq!(numbers("2024-08-08"), (6_547, 66_088, 21_313));
    assert_eq!(numbers("2024-08-09"), (4, 1, 0));
    let opening = memory.get(0, "2024-08-09", Stream::Book)[0].clone();
    let Record::BookSnapshot(snapshot) = opening.record() else { panic!("a day opens with its book") };
    assert!(snapshot.opens_partition);
    assert_eq!(opening.time_ns, support::date("2024-08-09").start_ns());
}
