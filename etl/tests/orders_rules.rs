//! When a book by order is the venue's, and when it is not: holes that somebody tells, snapshots of which parts may be missing,
//! books that were cleared. One that is wrong without saying so is worth less than none.

#[path = "support/mod.rs"]
mod support;

use chronicle_etl::refinery::{Counts, NOT_APPLIED, Refinery};
use chronicle_protocol::{Gap, GapCause, Head, OrderAction, OrderEvent, Record, RecordFlags, Scale, Side, type_id};
use chronicle_storage::root::{Date, Stream};
use support::{Memory, Raw, refined, refinery};

const VENUE: &str = "coinbase";
const SECOND: u64 = 1_000_000_000;
const PART: u8 = 32;
const LAST: u8 = 128;

fn noon() -> u64 {
    "2024-08-08".parse::<Date>().unwrap().start_ns() + 43_200 * SECOND
}

fn order(action: OrderAction, order_id: u64, qty: i64, flags: u8, at: u64) -> Raw {
    let head = Head { exchange_ns: at, ingest_ns: at, price: Scale::trimmed(9), ..Head::default() };
    let (side, price) = (Some(Side::Bid), Some(100));
    let flags = RecordFlags(flags);
    let event =
        OrderEvent { head, action, side, order_id, price, qty, sequence: order_id, flags, channel: 0, symbol: "X" };
    Raw::of(&Record::OrderEvent(event), at)
}

fn add(order_id: u64, flags: u8, second: u64) -> Raw {
    order(OrderAction::Add, order_id, 1, flags, noon() + second * SECOND)
}

fn gap(second: u64) -> Raw {
    let at = noon() + second * SECOND;
    let head = Head { exchange_ns: at, ingest_ns: at, ..Head::default() };
    let (after_id, next_id, missing_from, missing_to) = (1, 9, 2, 8);
    let cause = GapCause::RawLost;
    let gap = Gap { head, after_id, next_id, missing_from, missing_to, cause, carried: false, symbol: "X" };
    Raw::of(&Record::Gap(gap), at)
}

fn ids(refinery: &Refinery) -> Vec<u64> {
    let orders = refinery.symbols()[0].orders().unwrap();
    orders.orders(Side::Bid).map(|order| order.order_id()).collect()
}

/// Whether the book is valid, its orders, what was counted, and the causes of its gaps.
fn outcome(frames: &[Raw]) -> (bool, Vec<u64>, Counts, Vec<GapCause>) {
    let (refinery, _) = refined(VENUE, frames);
    let symbol = &refinery.symbols()[0];
    let day = symbol.days().values().next_back().unwrap();
    let counts = day.partitions[&Stream::Book].counts;
    (symbol.is_valid(), ids(&refinery), counts, day.gaps.iter().map(|gap| gap.cause).collect())
}

#[test]
fn events_before_any_snapshot_are_kept_and_not_applied() {
    let (valid, orders, counts, gaps) = outcome(&[add(1, LAST, 0), add(2, LAST, 1)]);
    assert_eq!((valid, orders, counts.dropped_before_snapshot, counts.applied), (false, vec![], 2, 0));
    assert!(gaps.is_empty());
}

#[test]
fn a_snapshot_is_the_book_once_all_of_it_was_told() {
    let told = [add(1, PART, 0), add(2, PART, 0)];
    assert!(!outcome(&told).0, "its end has not come");
    let (valid, orders, ..) = outcome(&[&told[..], &[add(3, PART | LAST, 0)]].concat());
    assert_eq!((valid, orders), (true, vec![1, 2, 3]));
    let (valid, orders, ..) = outcome(&[&told[..], &[add(3, LAST, 1)]].concat());
    assert_eq!((valid, orders), (true, vec![1, 2, 3]), "an event behind it ends it, too");
    let again = [&told[..], &[add(3, PART | LAST, 0), add(7, PART | LAST, 2)]].concat();
    assert_eq!(outcome(&again).1, [7], "another one takes its place");
}

#[test]
fn a_book_that_is_cleared_is_whole_whatever_was_before() {
    let clear = order(OrderAction::Clear, 0, 0, LAST, noon() + SECOND);
    let (valid, orders, counts, _) = outcome(&[add(1, LAST, 0), clear, add(2, LAST, 2)]);
    assert_eq!((valid, orders), (true, vec![2]));
    assert_eq!((counts.dropped_before_snapshot, counts.applied), (1, 2));
}

#[test]
fn after_a_hole_nothing_is_applied_until_the_next_snapshot() {
    let before = [add(1, PART | LAST, 0), add(2, LAST, 1)];
    let (valid, orders, counts, gaps) = outcome(&[&before[..], &[gap(2), add(3, LAST, 3)]].concat());
    assert_eq!((valid, orders, counts.not_applied), (false, vec![1, 2], 1));
    assert_eq!(gaps, [GapCause::RawLost], "once");
    let healed = [&before[..], &[gap(2), add(3, LAST, 3), add(5, PART | LAST, 4), add(6, LAST, 5)]].concat();
    let (valid, orders, ..) = outcome(&healed);
    assert_eq!((valid, orders), (true, vec![5, 6]));
    // Databento's flag for a hole in its channel.
    let (valid, _, counts, gaps) = outcome(&[&before[..], &[add(3, LAST | 4, 3), add(4, LAST, 4)]].concat());
    assert_eq!((valid, counts.not_applied, gaps), (false, 2, vec![GapCause::Sequence]));
}

#[test]
fn a_snapshot_with_a_hole_in_it_is_none() {
    let frames = [add(1, PART | LAST, 0), add(5, PART, 1), gap(2), add(6, PART | LAST, 3), add(7, LAST, 4)];
    let (valid, orders, counts, gaps) = outcome(&frames);
    assert!(!valid, "{orders:?}");
    assert_eq!((counts.applied, counts.not_applied, gaps.len()), (2, 2, 1));
    // Frames that the raw stream lost say nothing themselves.
    let (mut refinery, mut memory) = (refinery(VENUE), Memory::default());
    for (at, frame) in [add(1, PART, 0), add(2, PART | LAST, 0), add(3, LAST, 1)].iter().enumerate() {
        if at == 1 {
            refinery.raw_lost();
        }
        refinery.frame(frame.frame(), &mut memory).unwrap();
    }
    assert!(!refinery.symbols()[0].is_valid());
    let flags: Vec<u16> = memory.partitions.values().flatten().map(|f| f.flags & NOT_APPLIED).collect();
    assert_eq!(flags, [0, 0, 1, 1], "a part, the gap, a part, an event");
}

#[test]
fn an_event_that_cannot_be_in_the_book_breaks_it() {
    let start = add(1, PART | LAST, 0);
    let hour = 3_600;
    let negative = order(OrderAction::Add, 2, -1, LAST, noon() + SECOND);
    let late = {
        let Raw { type_id, payload, .. } = order(OrderAction::Cancel, 1, 1, LAST, noon() - 86_400 * SECOND);
        Raw { ingest_ns: noon() + SECOND, type_id, payload }
    };
    let absurd = {
        let Raw { type_id, payload, .. } = order(OrderAction::Add, 2, 1, LAST, noon() + 30 * hour * SECOND);
        Raw { ingest_ns: noon() + SECOND, type_id, payload }
    };
    for (frame, cause) in [(negative, GapCause::BookLost), (late, GapCause::Late), (absurd, GapCause::BookLost)] {
        let (valid, orders, _, gaps) = outcome(&[start.clone(), frame, add(9, LAST, 2)]);
        assert_eq!((valid, orders, gaps), (false, vec![1], vec![cause]));
    }
    // A report of a trade changes nothing, however late.
    let Raw { type_id, payload, .. } = order(OrderAction::Trade, 1, 1, LAST, noon() - 86_400 * SECOND);
    let (valid, ..) = outcome(&[start, Raw { ingest_ns: noon() + SECOND, type_id, payload }]);
    assert!(valid);
}

#[test]
fn an_event_is_of_one_minute_and_minutes_hold_whole_events() {
    let minute = |second: u64| noon() + second * SECOND;
    let frames = [
        add(1, PART | LAST, 0),
        add(2, LAST, 10),
        order(OrderAction::Add, 3, 1, 0, minute(59)),
        order(OrderAction::Add, 4, 1, LAST, minute(61)),
        add(5, LAST, 62),
    ];
    let (_, memory) = refined(VENUE, &frames);
    let book: Vec<_> = memory.partitions.values().flatten().collect();
    let at = book.iter().position(|f| f.type_id == type_id::ORDERS_SNAPSHOT).unwrap();
    assert_eq!((at, book.len()), (4, 6), "behind the event that went on into the minute");
    let Record::OrdersSnapshot(snapshot) = book[at].record() else { panic!() };
    assert_eq!(snapshot.bids.iter().map(|o| o.order_id()).collect::<Vec<_>>(), [1, 2, 3, 4]);
}
