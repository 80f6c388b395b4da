//! A book by order of a real market, E-mini S&P 500 futures as the exchange opened after Christmas 2023: every order of it,
//! in whatever order the files were given, whatever day, tier or checkpoint a question begins at. Golden files decide.
//!
//! The second file begins with the snapshot that the first one is. Whoever adds it up doubles the book; whoever goes by
//! exchange time alone puts it on a day of its own.
#![cfg(target_os = "linux")]

#[path = "support/mod.rs"]
mod support;
#[path = "support/mbo.rs"]
mod support_mbo;
#[path = "support/root.rs"]
mod support_root;

use std::collections::BTreeMap;
use std::time::Duration;

use chronicle_etl::oddity::Oddity;
use chronicle_etl::query::{At, Rows, book_at, export_book_snapshot};
use chronicle_etl::refine::{Options, refine, seal_aged};
use chronicle_etl::refinery::NOT_APPLIED;
use chronicle_platform_linux::Linux;
use chronicle_protocol::{OrderAction, Record, Side, SnapshotSource};
use chronicle_storage::root::{Root, Stream, Tier};
use chronicle_storage::tier::{Policy, run_once};
use support::{Memory, Raw, date, golden, hex, refined, refinery};
use support_mbo::mbo;
use support_root::{append, difference, name, tree};

const VENUE: &str = "coinbase";
const SYMBOL: &str = "esh4";
const SEGMENT: u32 = 4 << 20;
const MINUTE: u64 = 60_000_000_000;
const DIGEST: &str = "118ad9a47f1314d2";

/// The snapshot of 2023-12-24, and the day behind it, which begins with the same snapshot.
fn files() -> Option<[Vec<Raw>; 2]> {
    let file = |day| mbo(&format!("esh4-glbx-mdp3-{day}.mbo.dbn.zst"), "ESH4");
    Some([file("20231224")?, file("20231225")?])
}

fn orders_csv(book: &chronicle_etl::orders::OrderBook) -> String {
    let mut out = Vec::new();
    book.write_csv(&mut out, usize::MAX).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn every_order_is_there_in_whatever_order_the_files_come() {
    let Some([first, second]) = files() else { return };
    assert_eq!((first.len(), second.len()), (8_725, 68_792));
    let expected = golden("esh4_20231225_final_orders").unwrap();
    let by_price = golden("esh4_20231225_final_book").unwrap();
    for (story, files) in
        [("both", vec![&first, &second]), ("the other way round", vec![&second, &first]), ("alone", vec![&second])]
    {
        let frames: Vec<Raw> = files.into_iter().flatten().cloned().collect();
        let (refinery, memory) = refined(VENUE, &frames);
        let symbol = &refinery.symbols()[0];
        assert!(symbol.is_valid(), "{story}");
        let orders = symbol.orders().unwrap();
        assert_eq!(orders.count(), 11_217, "{story}");
        assert_eq!(orders_csv(orders), expected, "{story}");
        let book = orders.to_book();
        assert_eq!(support::csv(&book), by_price, "{story}");
        assert!(hex(&book.digest()).starts_with(DIGEST), "{story}");

        let day = &symbol.days()[&date("2023-12-25")];
        let counts = day.partitions[&Stream::Book].counts;
        assert_eq!((counts.events, counts.applied), (68_792, 68_792), "{story}");
        let oddities: Vec<_> = counts.oddities.iter().filter(|(kind, n)| *n != 0 && !kind.is_time()).collect();
        assert_eq!(oddities, [(Oddity::Crossed, 891)], "{story}");
        assert!(day.gaps.is_empty(), "{story}");
        // One for each minute that an event ended, from the first full one on.
        assert_eq!(counts.snapshots, 119, "{story}");
        let before = symbol.days().get(&date("2023-12-24")).map(|day| day.partitions[&Stream::Book].counts);
        let before = before.map(|c| (c.events, c.applied, c.duplicates, c.snapshots));
        match story {
            "both" => assert_eq!(before, Some((8_725, 8_725, 0, 0))),
            "alone" => assert_eq!(before, None),
            _ => assert_eq!(before, Some((8_725, 0, 8_725, 0)), "it was received before what is in the book"),
        }
        assert_eq!(memory.partitions.len(), symbol.days().len(), "{story}: books alone");
    }
}

/// What the refinery wrote of a book, read back without it.
#[test]
fn the_sum_of_the_orders_is_the_book_after_every_event() {
    let Some([_, second]) = files() else { return };
    let mut book = chronicle_etl::orders::OrderBook::new();
    let mut orders: BTreeMap<u64, (Side, i64, i64)> = BTreeMap::new();
    let mut levels: BTreeMap<(bool, i64), i64> = BTreeMap::new();
    for (at, frame) in second.iter().enumerate() {
        let Record::OrderEvent(event) = frame.record() else { panic!() };
        book.apply(&event).unwrap();
        // By price alone: what each event adds and takes away.
        let (id, qty) = (event.order_id, event.qty);
        let mut change = |(side, price, qty): (Side, i64, i64)| {
            let level = levels.entry((side == Side::Bid, price)).or_default();
            *level += qty;
            if *level == 0 {
                levels.remove(&(side == Side::Bid, price));
            }
        };
        match event.action {
            OrderAction::Add => {
                let order = (event.side.unwrap(), event.price.unwrap(), qty);
                assert_eq!(orders.insert(id, order), None, "no known order is added");
                change(order);
            }
            OrderAction::Modify => {
                let before = orders.insert(id, (event.side.unwrap(), event.price.unwrap(), qty)).unwrap();
                change((before.0, before.1, -before.2));
                change(orders[&id]);
            }
            OrderAction::Cancel => {
                let before = orders.remove(&id).unwrap();
                assert_eq!(before.2, qty, "all cancels are of all that is left");
                change((before.0, before.1, -qty));
            }
            _ => {}
        }
        if at % 97 == 0 || at + 1 == second.len() {
            let summed = book.to_book();
            assert!(summed.bids().eq(levels.range((true, i64::MIN)..).rev().map(|(at, qty)| (at.1, *qty))), "{at}");
            assert!(summed.asks().eq(levels.range(..(true, i64::MIN)).map(|(at, qty)| (at.1, *qty))), "{at}");
        }
        let best = |bids: bool| match bids {
            true => levels.range((true, i64::MIN)..).next_back().map(|(at, _)| at.1),
            false => levels.range(..(true, i64::MIN)).next().map(|(at, _)| at.1),
        };
        assert_eq!((book.best(Side::Bid), book.best(Side::Ask)), (best(true), best(false)), "{at}");
    }
    assert_eq!(book.count(), orders.len());
}

fn minutes(root: &Root, from: &str, to: &str) -> String {
    let rows = Rows { dates: date(from)..=date(to), every_ns: MINUTE, depth: 25 };
    let mut out = Vec::new();
    export_book_snapshot(&Linux, root, &name(VENUE), &name(SYMBOL), &rows, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn check(root: &Root, story: &str) {
    let (venue, symbol) = (name(VENUE), name(SYMBOL));
    let state = book_at(&Linux, root, &venue, &symbol, At::Latest).unwrap().require_valid().unwrap();
    assert_eq!(orders_csv(&state.orders.unwrap()), golden("esh4_20231225_final_orders").unwrap(), "{story}");
    assert_eq!(support::csv(&state.book), golden("esh4_20231225_final_book").unwrap(), "{story}");

    let expected = golden("esh4_20231225_minute_top25").unwrap();
    assert_eq!(minutes(root, "2023-12-25", "2023-12-25"), expected, "{story}");
    assert_eq!(minutes(root, "2023-12-24", "2023-12-26"), expected, "{story}: whatever days are asked for");
    for row in expected.lines().skip(1).step_by(7) {
        let cells: Vec<&str> = row.split(',').collect();
        let number = |at: usize| cells[at].parse::<u64>().unwrap();
        let state = book_at(&Linux, root, &venue, &symbol, At::Time(number(0) * 1_000_000 - 1)).unwrap();
        let orders = state.orders.as_ref().unwrap();
        assert_eq!((state.last_event_ns, state.last_id), (number(1), number(2)), "{story}");
        assert_eq!(orders.count() as u64, number(3), "{story}");
        assert_eq!(state.book.bid_count() as u64, number(4), "{story}");
        assert_eq!(state.book.price(orders.best(Side::Bid).unwrap()).to_string(), cells[8], "{story}");
    }
    // After the snapshot and before the first event.
    let noon = At::Time(date("2023-12-25").start_ns() + 720 * MINUTE);
    let state = book_at(&Linux, root, &venue, &symbol, noon).unwrap().require_valid().unwrap();
    assert_eq!((state.orders.unwrap().count(), state.last_event_ns), (8_725, 1_703_422_805_243_925_307), "{story}");
}

#[test]
fn golden_files_from_warm_and_from_cold_through_any_checkpoint() {
    let Some([first, second]) = files() else { return };
    let mut trees = Vec::new();
    for (story, files, checkpoint_frames) in [
        ("both", vec![&first, &second], 1 << 20),
        ("both, many checkpoints", vec![&first, &second], 5_000),
        ("the other way round", vec![&second, &first], 1 << 20),
        ("alone", vec![&second], 1 << 20),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        let options = Options { checkpoint_frames, ..Options::default() };
        for file in &files {
            append(&Linux, &root, VENUE, file, SEGMENT);
            if checkpoint_frames < 1 << 20 {
                refine(&Linux, &root, None, &options, |_| {}).unwrap();
            }
        }
        refine(&Linux, &root, None, &options, |_| {}).unwrap();
        check(&root, story);
        trees.push(tree(&Linux, &root.partitions(Tier::Warm)));
        if story != "both" && story != "the other way round" {
            continue;
        }
        let later = date("2023-12-28").start_ns();
        seal_aged(&Linux, &root, None, later, Duration::from_secs(24 * 3600), |_| {}).unwrap();
        let moved = run_once(&Linux, &root, later, &Policy::default()).unwrap();
        assert!(moved.skipped.is_empty() && moved.failed.is_empty(), "{moved:?}");
        assert!(!root.day(Tier::Warm, &name(VENUE), &name(SYMBOL), date("2023-12-25")).exists());
        check(&root, &format!("{story}, cold"));
    }
    assert_eq!(difference(&trees[0], &trees[1]), None, "the same bytes, whatever the checkpoints");
}

/// At any frame the state goes through a checkpoint's bytes and goes on as if nothing had been.
#[test]
fn a_checkpoint_at_any_frame_changes_nothing() {
    let Some([first, second]) = files() else { return };
    let frames: Vec<Raw> = first[..400].iter().chain(&second[..400]).chain(&second[8_500..10_500]).cloned().collect();
    let (_, expected) = refined(VENUE, &frames);
    let (mut refinery, mut memory) = (refinery(VENUE), Memory::default());
    for (at, frame) in frames.iter().enumerate() {
        if at % 61 == 0 {
            refinery = postcard::from_bytes(&postcard::to_stdvec(&refinery).unwrap()).unwrap();
        }
        refinery.frame(frame.frame(), &mut memory).unwrap();
    }
    assert_eq!(memory, expected);
}

/// Minutes hold the orders in the order in which they would be filled: going on from one gives what never stopping gives.
#[test]
fn following_on_from_any_snapshot_gives_the_same_queues() {
    let Some([_, second]) = files() else { return };
    let (refinery, memory) = refined(VENUE, &second);
    let frames = memory.get(0, "2023-12-25", Stream::Book);
    let last = refinery.symbols()[0].orders().unwrap();
    let snapshots: Vec<usize> = (0..frames.len()).filter(|at| frames[*at].type_id == 9).collect();
    for start in snapshots.iter().step_by(13) {
        let mut book = chronicle_etl::orders::OrderBook::new();
        for (at, frame) in frames.iter().enumerate().skip(*start) {
            assert_eq!(frame.flags & NOT_APPLIED, 0);
            match frame.record() {
                Record::OrdersSnapshot(snapshot) if at == *start => {
                    assert_eq!(snapshot.source, SnapshotSource::Refinery);
                    book.replace(&snapshot).unwrap();
                }
                Record::OrdersSnapshot(snapshot) => {
                    let mut other = chronicle_etl::orders::OrderBook::new();
                    other.replace(&snapshot).unwrap();
                    assert_eq!(book, other, "frame {at}");
                }
                Record::OrderEvent(event) => assert_eq!(book.apply(&event), Ok(None), "frame {at}"),
                other => panic!("{}", other.type_name()),
            }
        }
        assert_eq!(&book, last);
    }
}
