//! What a book says that it should not is counted, to the level and the nanosecond, and changes nothing else. A refinery that
//! repairs a crossed book, or takes a removal of nothing for an error, would look right everywhere but here.

mod support;
#[path = "support/synthetic.rs"]
mod support_synthetic;

use chronicle_etl::oddity::{Oddities, Oddity};
use chronicle_etl::refinery::{NOT_APPLIED, Refinery};
use chronicle_etl::report::Report;
use chronicle_protocol::{BookDelta, Level, Record};
use chronicle_storage::root::Stream;
use support::{Memory, Raw, recordings, refined, refinery};
use support_synthetic::{HOUR, SECOND, day, head, snapshot};

fn oddities(refinery: &Refinery) -> Oddities {
    let report = Report::of(refinery);
    report.partitions.iter().filter_map(|row| row.oddities).fold(Oddities::default(), Oddities::plus)
}

/// Those that are not zero, by name.
fn found(refinery: &Refinery) -> Vec<(&'static str, u64)> {
    oddities(refinery).iter().filter(|(_, number)| *number != 0).map(|(kind, number)| (kind.as_str(), number)).collect()
}

fn delta_levels(memory: &Memory) -> usize {
    let book = memory.partitions.iter().filter(|(place, _)| place.stream == Stream::Book);
    book.flat_map(|(_, frames)| frames)
        .map(|clean| match clean.record() {
            Record::BookDelta(d) if clean.flags & NOT_APPLIED == 0 => d.bids.len() + d.asks.len(),
            _ => 0,
        })
        .sum()
}

/// Venue, files, what is found, levels of applied deltas. The removals are figures that another program counted.
type Case = (&'static str, &'static [&'static str], &'static [(&'static str, u64)], usize);

const CASES: [Case; 7] = [
    ("binance-usdm", &["binance-usdm/btcusdt_20240808.gz"], &[("unknown_removals", 17_747)], 443_262),
    (
        "binance-spot",
        &["binance-spot/btcusdt_20240808.gz", "binance-spot/btcusdt_20240809.gz"],
        &[("unknown_removals", 26_140)],
        298_094,
    ),
    ("binance-coinm", &["binance-coinm/btcusd_perp_20240808.gz"], &[("unknown_removals", 40_176)], 295_747),
    ("binance-spot", &["binance-spot/ethusdt_20240808.gz"], &[("unknown_removals", 3_957)], 106_802),
    ("okx", &["okx/OKX.ws.1.0.gz"], &[("unknown_removals", 938)], 0),
    ("coinbase", &["coinbase/COINBASE.ws.28.0.gz"], &[], 9_719),
    ("kraken", &["kraken/KRAKEN.ws.50.0.gz"], &[], 0),
];

#[test]
fn recordings_have_the_oddities_that_another_program_counted() {
    for (venue, files, expected, levels) in CASES {
        let Some(frames) = recordings(venue, files) else { return };
        let (refinery, memory) = refined(venue, &frames);
        assert_eq!(found(&refinery), expected, "{venue} {files:?}");
        if levels != 0 {
            assert_eq!(delta_levels(&memory), levels, "{venue} {files:?}");
        }
        let report = Report::of(&refinery);
        for row in &report.partitions {
            let is_book = row.stream == Stream::Book;
            assert_eq!((row.oddities.is_some(), row.unexpected), (is_book, is_book.then_some(0)), "{venue}");
        }
    }
}

/// A spot delta with one id and these levels, in units of 0.01.
fn change(id: u64, time: u64, bids: &[(i64, i64)], asks: &[(i64, i64)]) -> Raw {
    let levels = |side: &[(i64, i64)]| side.iter().map(|(p, q)| Level::new(*p, *q)).collect::<Vec<_>>();
    let record = Record::BookDelta(BookDelta {
        head: head(time, time),
        first_id: id,
        last_id: id,
        prev_id: None,
        bids: &levels(bids),
        asks: &levels(asks),
        symbol: "A",
    });
    Raw::of(&record, time)
}

/// The snapshot's best bid is 100.00, its best ask 100.01.
const BEST_BID: i64 = 10_000;

#[test]
fn crossed_and_locked_time_is_counted_where_it_passed() {
    let midnight = day(1);
    let frames = [
        snapshot("A", 1, midnight - 60 * SECOND),
        change(2, midnight - 50 * SECOND, &[], &[]),
        change(3, midnight - 40 * SECOND, &[(BEST_BID + 1, 1)], &[]),
        change(4, midnight - 30 * SECOND, &[(BEST_BID + 2, 1)], &[]),
        // Crossed for 30 s of the one day and for 5 s of the next; still so for 1 s more.
        change(5, midnight + 5 * SECOND, &[(BEST_BID - 1, 2)], &[]),
        change(6, midnight + 6 * SECOND, &[(BEST_BID + 2, 0), (BEST_BID + 1, 0)], &[]),
        change(7, midnight + 9 * SECOND, &[], &[]),
    ];
    let (refinery, _) = refined("binance-spot", &frames);
    let report = Report::of(&refinery);
    let of = |date: &str| {
        let row = report.partitions.iter().find(|row| row.date.to_string() == date).unwrap();
        let get = |kind| row.oddities.unwrap().get(kind);
        let numbers = [Oddity::Locked, Oddity::LockedNs, Oddity::Crossed, Oddity::CrossedNs].map(get);
        (numbers, row.unexpected)
    };
    assert_eq!(of("2024-08-08"), ([1, 10 * SECOND, 1, 30 * SECOND], Some(2)));
    assert_eq!(of("2024-08-09"), ([0, 0, 1, 6 * SECOND], Some(1)));
    let book = refinery.symbols()[0].book();
    assert_eq!((book.bids().next(), book.asks().next()), (Some((BEST_BID, 1)), Some((BEST_BID + 1, 2))));
}

#[test]
fn the_end_of_a_crossed_state_behind_a_gap_is_not_known() {
    let start = day(0) + HOUR;
    let crossed = change(3, start + SECOND, &[(BEST_BID + 5, 1)], &[]);
    let frames = [
        snapshot("A", 1, start),
        change(2, start, &[], &[]),
        crossed,
        change(4, start + 2 * SECOND, &[], &[]),
        change(9, start + 20 * SECOND, &[], &[]),
        snapshot("A", 9, start + 30 * SECOND),
        change(10, start + 40 * SECOND, &[], &[]),
    ];
    let (refinery, _) = refined("binance-spot", &frames);
    assert_eq!(found(&refinery), [("crossed", 2), ("crossed_ns", SECOND)]);
}

#[test]
fn what_comes_out_of_order_is_told_from_what_comes_twice() {
    let start = day(0) + HOUR;
    let at = |n: u64| start + n * SECOND;
    let [second, third] = [change(2, at(2), &[], &[]), change(3, at(3), &[], &[])];
    let frames = [snapshot("A", 1, start), second.clone(), change(4, at(4), &[], &[]), third, second];
    let (refinery, _) = refined("binance-spot", &frames);
    assert_eq!(found(&refinery), [("out_of_order", 1)]);
    let row = &Report::of(&refinery).partitions[0];
    assert_eq!((row.counts.duplicates, row.gaps.len(), row.unexpected), (2, 1, Some(1)));
}

#[test]
fn levels_and_times_that_make_no_sense_are_counted_and_applied() {
    let start = day(0) + HOUR;
    let frames = [
        snapshot("A", 1, start),
        change(2, start + 9, &[(BEST_BID, 7), (BEST_BID, 8)], &[(1, 0)]),
        change(3, start + 8, &[(BEST_BID, 9)], &[]),
    ];
    let (refinery, _) = refined("binance-spot", &frames);
    assert_eq!(found(&refinery), [("unknown_removals", 1), ("repeated_prices", 1), ("time_back", 1)]);
    assert_eq!(refinery.symbols()[0].book().bids().next(), Some((BEST_BID, 9)));
    assert_eq!(Report::of(&refinery).partitions[0].unexpected, Some(2), "the removal is ordinary here");
    assert_eq!(found(&self::refinery("binance-spot")), []);
}
