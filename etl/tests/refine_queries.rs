//! A book at any moment is the book that following everything from the very first frame gives: whatever day, snapshot or
//! tier the answer begins at.

#[path = "support/mod.rs"]
mod support;
#[path = "support/root.rs"]
mod support_root;
#[path = "support/synthetic.rs"]
mod support_synthetic;

use std::time::Duration;

use chronicle_etl::Error;
use chronicle_etl::book::Book;
use chronicle_etl::query::{At, Rows, book_at, export_book_snapshot};
use chronicle_etl::refine::{Options, refine, seal_aged};
use chronicle_etl::refinery::NOT_APPLIED;
use chronicle_platform::sim::Sim;
use chronicle_protocol::{Record, SnapshotSource};
use chronicle_storage::root::{Root, Stream};
use chronicle_storage::tier::{Policy, run_once};
use support::{Memory, csv, date, refined};
use support_root::{append, name};
use support_synthetic::{HOUR, MINUTE, SECOND, day, delta, snapshot, stormy};

const VENUE: &str = "binance-spot";

/// What is known at a time: the book, valid or the last valid one.
fn followed(memory: &Memory, until: u64) -> Option<(String, bool)> {
    let (mut book, mut valid, mut begun, mut last) = (Book::new(), false, false, 0);
    let books = memory.partitions.iter().filter(|(place, _)| place.stream == Stream::Book);
    for frame in books.flat_map(|(_, frames)| frames).filter(|f| f.flags & NOT_APPLIED == 0) {
        match frame.record() {
            Record::BookSnapshot(s) if s.source == SnapshotSource::Venue => {
                if frame.time_ns > until {
                    break;
                }
                book.replace(&s.head, s.bids, s.asks).unwrap();
                (valid, begun, last) = (true, true, 0);
            }
            Record::BookDelta(d) => {
                if frame.time_ns > until {
                    break;
                }
                book.apply(&d.head, d.bids, d.asks).unwrap();
                last = frame.time_ns;
            }
            Record::Gap(_) if until > last => valid = false,
            _ => {}
        }
    }
    begun.then(|| (csv(&book), valid))
}

#[test]
fn a_book_at_any_moment_is_the_followed_one() {
    let sim = Sim::new(11);
    let root = Root::new("/root");
    let mut frames = stormy("BTCUSDT", "a.gz");
    // A day later the book begins again, and ends with a snapshot that nobody can use.
    let later = day(2) + HOUR;
    frames.push(delta("BTCUSDT", 5_000, 5_001, later, later));
    frames.push(snapshot("BTCUSDT", 4_999, later));
    frames.push(delta("BTCUSDT", 5_002, 5_003, later + MINUTE, later));
    frames.push(snapshot("BTCUSDT", 9_999, later));
    append(&sim, &root, VENUE, &frames, 64 << 10);
    let (_, memory) = refined(VENUE, &frames);
    refine(&sim, &root, None, &Options { checkpoint_frames: 50, ..Options::default() }, |_| {}).unwrap();
    let (venue, symbol) = (name(VENUE), name("btcusdt"));
    let mut times: Vec<u64> = memory.partitions.values().flatten().map(|f| f.time_ns).collect();
    times.extend([0, day(0), day(1) - 1, day(1), day(2), later + HOUR, u64::MAX]);
    times = times.into_iter().flat_map(|t| [t.saturating_sub(1), t, t.saturating_add(1)]).collect();
    times.sort_unstable();
    times.dedup();
    let (mut valid, mut invalid, mut none) = (0, 0, 0);
    for tier in ["warm", "cold"] {
        for time in times.iter().step_by(if tier == "warm" { 3 } else { 7 }) {
            let found = match book_at(&sim, &root, &venue, &symbol, At::Time(*time)) {
                Ok(state) => Some((csv(&state.book), state.is_valid())),
                Err(Error::NoBook { .. }) => None,
                Err(error) => panic!("{time}: {error}"),
            };
            match &found {
                Some((_, true)) => valid += 1,
                Some((_, false)) => invalid += 1,
                None => none += 1,
            }
            assert_eq!(found, followed(&memory, *time), "{tier} at {time}");
        }
        let latest = book_at(&sim, &root, &venue, &symbol, At::Latest).unwrap();
        assert_eq!(Some((csv(&latest.book), latest.is_valid())), followed(&memory, u64::MAX));
        seal_aged(&sim, &root, None, day(6), Duration::from_secs(1), |_| {}).unwrap();
        let moved = run_once(&sim, &root, day(9), &Policy::default()).unwrap();
        assert!(moved.failed.is_empty() && moved.skipped.is_empty(), "{moved:?}");
    }
    assert!(valid > 50 && invalid > 50 && none > 0, "{valid} {invalid} {none}");
}

#[test]
fn rows_of_any_interval_are_books_before_their_time() {
    let sim = Sim::new(12);
    let root = Root::new("/root");
    let frames = stormy("BTCUSDT", "a.gz");
    append(&sim, &root, VENUE, &frames, 64 << 10);
    refine(&sim, &root, None, &Options::default(), |_| {}).unwrap();
    let (venue, symbol) = (name(VENUE), name("btcusdt"));
    for every in [10 * SECOND, MINUTE, 5 * MINUTE] {
        let rows = Rows { dates: date("2024-08-08")..=date("2024-08-09"), every_ns: every, depth: 2 };
        let mut out = Vec::new();
        export_book_snapshot(&sim, &root, &venue, &symbol, &rows, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let times: Vec<u64> = text
            .lines()
            .skip(1)
            .map(|row| {
                let cells: Vec<_> = row.split(',').collect();
                let time: u64 = cells[0].parse::<u64>().unwrap() * 1_000_000;
                let state = book_at(&sim, &root, &venue, &symbol, At::Time(time - 1)).unwrap();
                assert_eq!(cells.len(), 5 + 4 * 2);
                assert_eq!(cells[1].parse::<u64>().unwrap(), state.last_event_ns / 1_000_000);
                assert_eq!(cells[2].parse::<u64>().unwrap(), state.last_id);
                assert_eq!(cells[3].parse::<usize>().unwrap(), state.book.bid_count());
                let ask = state.book.asks().nth(1).unwrap();
                assert_eq!(
                    (cells[9], cells[10]),
                    (&*state.book.price(ask.0).to_string(), &*state.book.qty(ask.1).to_string())
                );
                time
            })
            .collect();
        assert!(!times.is_empty() && times.iter().all(|t| t.is_multiple_of(every)), "{times:?}");
        assert!(times.windows(2).all(|t| t[0] < t[1]));
        // From minute to minute within the valid stretches nothing is left out; two gaps interrupt.
        let holes = times.windows(2).filter(|t| t[1] - t[0] != every).count();
        assert!(holes <= 2, "{every}: {times:?}");
    }
}

#[test]
fn a_side_with_fewer_levels_has_empty_cells() {
    let sim = Sim::new(13);
    let root = Root::new("/root");
    let now = day(0) + HOUR;
    let frames = [snapshot("B", 0, now), delta("B", 1, 1, now, now), delta("B", 2, 2, now + MINUTE, now)];
    append(&sim, &root, VENUE, &frames, 64 << 10);
    refine(&sim, &root, None, &Options::default(), |_| {}).unwrap();
    let rows = Rows { dates: date("2024-08-08")..=date("2024-08-08"), every_ns: MINUTE, depth: 55 };
    let mut out = Vec::new();
    export_book_snapshot(&sim, &root, &name(VENUE), &name("b"), &rows, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let row = text.lines().nth(1).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_eq!(row.split(',').count(), 5 + 4 * 55);
    assert!(row.ends_with(",100.55,0.2,,"), "{row}");
}
