//! The recordings through a real root on this machine: queue, recorder, refinery, partitions, archive, and what a user
//! asks of them. Golden files decide.
#![cfg(target_os = "linux")]

#[path = "support/mod.rs"]
mod support;
#[path = "support/root.rs"]
mod support_root;

use chronicle_etl::query::{At, Rows, book_at, export_book_snapshot};
use chronicle_etl::refine::{Options, refine, seal_aged};
use chronicle_etl::refinery::LatePolicy;
use chronicle_etl::report::Report;
use chronicle_platform_linux::Linux;
use chronicle_storage::meta::Meta;
use chronicle_storage::root::{Date, Root, Tier};
use chronicle_storage::tier::{Policy, run_once};
use std::time::Duration;
use support::{csv, date, golden, hex, recordings};
use support_root::{append, difference, name, tree};

const SEGMENT: u32 = 4 << 20;
const MINUTE: u64 = 60_000_000_000;

struct Case {
    venue: &'static str,
    symbol: &'static str,
    files: &'static [&'static str],
    golden: &'static str,
}

const CASES: [Case; 4] = [
    Case {
        venue: "binance-usdm",
        symbol: "btcusdt",
        files: &["binance-usdm/btcusdt_20240808.gz"],
        golden: "usdm_btcusdt",
    },
    Case {
        venue: "binance-spot",
        symbol: "btcusdt",
        files: &["binance-spot/btcusdt_20240808.gz", "binance-spot/btcusdt_20240809.gz"],
        golden: "spot_btcusdt",
    },
    Case {
        venue: "binance-coinm",
        symbol: "btcusd_perp",
        files: &["binance-coinm/btcusd_perp_20240808.gz"],
        golden: "coinm_btcusd_perp_20240808",
    },
    Case {
        venue: "binance-spot",
        symbol: "ethusdt",
        files: &["binance-spot/ethusdt_20240808.gz"],
        golden: "spot_ethusdt_20240808",
    },
];

fn refined(root: &Root, options: &Options) -> Report {
    refine(&Linux, root, None, options, |_| {}).unwrap()
}

fn minutes(root: &Root, case: &Case, from: &str, to: &str) -> String {
    let rows = Rows { dates: date(from)..=date(to), every_ns: MINUTE, depth: 25 };
    let mut out = Vec::new();
    export_book_snapshot(&Linux, root, &name(case.venue), &name(case.symbol), &rows, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn check(root: &Root, case: &Case) {
    let (venue, symbol) = (name(case.venue), name(case.symbol));
    let state = book_at(&Linux, root, &venue, &symbol, At::Latest).unwrap().require_valid().unwrap();
    assert_eq!(csv(&state.book), golden(&format!("{}_final_book", case.golden)).unwrap(), "{}", case.golden);

    let expected = golden(&format!("{}_minute_top25", case.golden)).unwrap();
    assert_eq!(minutes(root, case, "2024-08-08", "2024-08-09"), expected, "{}", case.golden);
    // A row belongs to the day of its minute, and a range without rows has its heading.
    let days = [minutes(root, case, "2024-08-08", "2024-08-08"), minutes(root, case, "2024-08-09", "2024-08-09")];
    let (heading, rows) = expected.split_once('\n').unwrap();
    let first: String = days[0].strip_prefix(heading).unwrap()[1..].to_owned();
    let second: String = days[1].strip_prefix(heading).unwrap()[1..].to_owned();
    assert_eq!(first + &second, rows);
    assert!(days[1].lines().nth(1).unwrap().starts_with("1723161600000,"));
    assert_eq!(minutes(root, case, "2024-08-10", "2024-08-11"), format!("{heading}\n"));

    // The book just before each minute is the one in its row.
    for row in rows.lines() {
        let cells: Vec<_> = row.split(',').collect();
        let minute: u64 = cells[0].parse().unwrap();
        let state = book_at(&Linux, root, &venue, &symbol, At::Time(minute * 1_000_000 - 1)).unwrap();
        assert_eq!(state.last_event_ns / 1_000_000, cells[1].parse::<u64>().unwrap());
        assert_eq!(state.last_id, cells[2].parse::<u64>().unwrap());
        let (ask, bid) = (state.book.asks().next().unwrap(), state.book.bids().next().unwrap());
        assert_eq!(state.book.price(ask.0).to_string(), cells[5]);
        assert_eq!(state.book.qty(bid.1).to_string(), cells[8]);
    }
}

#[test]
fn golden_files_from_warm_and_from_cold() {
    for case in CASES {
        let Some(frames) = recordings(case.venue, case.files) else { return };
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        append(&Linux, &root, case.venue, &frames, SEGMENT);
        refined(&root, &Options::default());
        check(&root, &case);

        let two_days_later = date("2024-08-12").start_ns();
        let day = Duration::from_secs(24 * 3600);
        seal_aged(&Linux, &root, None, two_days_later, day, |_| {}).unwrap();
        let moved = run_once(&Linux, &root, two_days_later, &Policy::default()).unwrap();
        assert!(moved.skipped.is_empty() && moved.failed.is_empty(), "{moved:?}");
        let venue = name(case.venue);
        assert!(!root.day(Tier::Warm, &venue, &name(case.symbol), date("2024-08-08")).exists());
        check(&root, &case);

        // The day is in the archive and done: refining again finds nothing to do and does nothing.
        let before = tree(&Linux, dir.path());
        refined(&root, &Options::default());
        assert_eq!(difference(&before, &tree(&Linux, dir.path())), None);
    }
}

#[test]
fn days_imported_at_once_or_in_turn_give_the_same_bytes() {
    let case = &CASES[1];
    let Some(both) = recordings(case.venue, case.files) else { return };
    let mut trees = Vec::new();
    let mut reports = Vec::new();
    for (in_turn, checkpoint_frames) in [(false, 1 << 20), (true, 1 << 20), (true, 777)] {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        let options = Options { checkpoint_frames, ..Options::default() };
        if in_turn {
            for file in case.files {
                append(&Linux, &root, case.venue, &recordings(case.venue, &[file]).unwrap(), SEGMENT);
                refined(&root, &options);
            }
        } else {
            append(&Linux, &root, case.venue, &both, SEGMENT);
            refined(&root, &options);
        }
        let v1 = tree(&Linux, &root.partitions(Tier::Warm));
        reports.push(refined(&root, &options));
        assert_eq!(difference(&v1, &tree(&Linux, &root.partitions(Tier::Warm))), None, "refined twice");
        reports.push(refined(&root, &Options { seal: true, ..options }));
        trees.push((v1, tree(&Linux, &root.partitions(Tier::Warm))));
    }
    for (open, sealed) in &trees[1..] {
        assert_eq!(difference(&trees[0].0, open), None);
        assert_eq!(difference(&trees[0].1, sealed), None);
    }
    assert!(reports.chunks(2).all(|pair| pair == &reports[..2]));
    let dates: Vec<_> =
        trees[0].0.keys().map(|path| path.components().nth(2).unwrap().as_os_str().to_owned()).collect();
    assert!(dates.contains(&"2024-08-08".into()) && dates.contains(&"2024-08-09".into()), "{dates:?}");
}

/// The first file ends with the second day's first second. Sealed then, by hand or by age, that day is over: what the
/// second file has of it is late, quotes too, which have no time of their own. Nothing of it begins a third day.
#[test]
fn a_day_that_is_sealed_between_its_files_takes_no_more() {
    let case = &CASES[1];
    let [Some(first), Some(second)] = [0, 1].map(|i| recordings(case.venue, &case.files[i..=i])) else { return };
    let (venue, symbol) = (name(case.venue), name(case.symbol));
    for (by_age, policy) in
        [(false, LatePolicy::LateStream), (true, LatePolicy::LateStream), (false, LatePolicy::Reject)]
    {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        let later = date("2024-08-12").start_ns();
        let options = Options {
            late_policy: Some(policy),
            seal: !by_age,
            checkpoint_frames: 20_000,
            shards: 2,
            ..Options::default()
        };
        append(&Linux, &root, case.venue, &first, SEGMENT);
        refined(&root, &options);
        if by_age {
            seal_aged(&Linux, &root, None, later, Duration::ZERO, |_| {}).unwrap();
            run_once(&Linux, &root, later, &Policy::default()).unwrap();
        }
        append(&Linux, &root, case.venue, &second, SEGMENT);
        let report = refined(&root, &Options { seal: false, ..options });
        let of = |date: &str| report.partitions.iter().filter(|row| row.date.to_string() == date).collect::<Vec<_>>();
        let late: Vec<_> = of("2024-08-09").iter().map(|row| (row.stream.to_string(), row.counts.late)).collect();
        let kinds = [("book", 3_044), ("trades", 10_147), ("quotes", 45_134), ("late", 0)];
        let kinds = kinds.map(|(stream, late)| (stream.to_owned(), late));
        let kept = policy == LatePolicy::LateStream;
        assert_eq!(late, kinds[..if kept { 4 } else { 3 }]);
        assert!(of("2024-08-08").iter().all(|row| row.counts.late == 0 && row.sealed));
        assert_eq!((report.overdue, report.waiting, of("2024-08-10").len()), (0, 0, 0));
        assert!(!root.day(Tier::Warm, &venue, &symbol, date("2024-08-10")).exists());

        seal_aged(&Linux, &root, None, later, Duration::ZERO, |_| {}).unwrap();
        let moved = run_once(&Linux, &root, later, &Policy::default()).unwrap();
        assert!(moved.skipped.is_empty() && moved.failed.is_empty(), "{moved:?}");
        let cold = root.day(Tier::Cold, &venue, &symbol, date("2024-08-09"));
        assert_eq!(cold.join("late.q.zst").exists(), kept);
        let meta = Meta::read(&Linux, &cold).unwrap();
        assert_eq!(meta.counts.get("late.events"), kept.then_some(&58_325));
        // The book that was sealed is the book that is there.
        let state = book_at(&Linux, &root, &venue, &symbol, At::Latest).unwrap();
        assert!(state.is_valid() && state.last_event_ns / 1_000_000 < 1_723_161_601_273);
    }
}

#[test]
fn symbols_in_either_order_give_the_same_bytes() {
    let files = ["binance-spot/btcusdt_20240808.gz", "binance-spot/ethusdt_20240808.gz"];
    let mut trees = Vec::new();
    for files in [[files[0], files[1]], [files[1], files[0]]] {
        let Some(frames) = recordings("binance-spot", &files) else { return };
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        append(&Linux, &root, "binance-spot", &frames, SEGMENT);
        refined(&root, &Options::default());
        trees.push(tree(&Linux, &root.partitions(Tier::Warm)));
    }
    assert_eq!(difference(&trees[0], &trees[1]), None);
}

#[test]
fn meta_says_what_the_day_was_made_of() {
    let case = &CASES[1];
    let Some(frames) = recordings(case.venue, case.files) else { return };
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new(dir.path());
    append(&Linux, &root, case.venue, &frames, SEGMENT);
    refined(&root, &Options { late_policy: Some(LatePolicy::Reject), seal: true, ..Options::default() });
    let (venue, symbol) = (name(case.venue), name(case.symbol));
    let meta = Meta::read(&Linux, &root.day(Tier::Warm, &venue, &symbol, date("2024-08-09"))).unwrap();
    let text = String::from_utf8(meta.to_bytes()).unwrap();
    assert_eq!((meta.symbol_code.as_str(), meta.raw_symbol.as_str()), ("btcusdt", "BTCUSDT"));
    // The first file holds the first second of the second day.
    assert!(text.contains("btcusdt_20240808.gz") && text.contains("5d263f4c5379cfc2"), "{text}");
    assert!(text.contains("btcusdt_20240809.gz") && text.contains("2981a27474b89031"), "{text}");
    assert_eq!(meta.event_time_range.unwrap().last.to_string(), "2024-08-09T00:05:05.809000000Z");
    assert_eq!((meta.late_policy.as_str(), meta.sealed), ("reject", true));
    assert!(meta.completeness.gaps.is_empty());
    assert_eq!(meta.counts["book.applied"], 3_056);
}

#[test]
fn a_book_that_is_not_valid_is_refused_with_its_reasons() {
    let Some(bytes) = support::shared("damaged/gap_spot.gz") else { return };
    let frames = support::imported("binance-spot", "gap_spot.gz", &bytes);
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new(dir.path());
    append(&Linux, &root, "binance-spot", &frames, SEGMENT);
    refined(&root, &Options::default());
    let (venue, symbol) = (name("binance-spot"), name("btcusdt"));
    let at = |at| book_at(&Linux, &root, &venue, &symbol, at).unwrap();

    let latest = at(At::Latest);
    // The last valid book is there for who asks for it, and is said not to be the venue's.
    assert!(hex(&latest.book.digest()).starts_with("57c0ca401eefcd93"));
    let invalid = latest.invalid.clone().unwrap();
    assert_eq!((invalid.after, invalid.next), (50_093_247_277, 50_093_247_410));
    assert_eq!((invalid.missing_from, invalid.missing_to), (50_093_247_278, 50_093_247_409));
    let last_valid = invalid.last_valid.unwrap().0;
    let refusal = latest.require_valid().unwrap_err().to_string();
    for part in ["book.q", "50093247277", "last valid at 2024-08-08T23:54:3"] {
        assert!(refusal.contains(part), "{refusal}");
    }
    assert!(at(At::Time(last_valid)).is_valid());
    assert!(!at(At::Time(last_valid + 1)).is_valid(), "what is missing may have come right then");
    assert!(!at(At::Time(invalid.time.0 - 1)).is_valid());
    let before = book_at(&Linux, &root, &venue, &symbol, At::Time(Date::MIN.start_ns())).unwrap_err();
    assert_eq!(before.to_string(), "binance-spot/btcusdt: no book known at 1970-01-01T00:00:00.000000000Z");
    let unknown = book_at(&Linux, &root, &venue, &name("dogeusdt"), At::Latest).unwrap_err();
    assert_eq!(unknown.to_string(), "binance-spot/dogeusdt: nothing stored");
}

#[test]
fn a_gap_over_midnight_makes_the_next_day_invalid_too() {
    let Some(bytes) = support::shared("damaged/late_coinm.gz") else { return };
    let frames = support::imported("binance-coinm", "late_coinm.gz", &bytes);
    for policy in [LatePolicy::LateStream, LatePolicy::Reject] {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        append(&Linux, &root, "binance-coinm", &frames, SEGMENT);
        let report = refined(&root, &Options { late_policy: Some(policy), seal: true, ..Options::default() });
        assert_eq!(report.partitions.iter().map(|row| row.gaps.len()).sum::<usize>(), 1);
        let (venue, symbol) = (name("binance-coinm"), name("btcusd_perp"));
        let day = root.day(Tier::Warm, &venue, &symbol, date("2024-08-09"));
        assert_eq!(day.join("late.q").exists(), policy == LatePolicy::LateStream);
        let gaps = Meta::read(&Linux, &day).unwrap().completeness.gaps;
        assert!(gaps.len() == 1 && gaps[0].carried, "{gaps:?}");
        let state = book_at(&Linux, &root, &venue, &symbol, At::Latest).unwrap();
        assert!(hex(&state.book.digest()).starts_with("816405703c16380b"));
        let invalid = state.invalid.unwrap();
        assert_eq!(invalid.after, 1_007_202_043_613);
        // The file in which the gap began, not the one into which it was carried.
        assert!(invalid.file.to_string_lossy().contains("2024-08-08"), "{}", invalid.file.display());
    }
}
