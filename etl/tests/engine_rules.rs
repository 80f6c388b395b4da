//! The refinery's rules, one story each, with frames made by hand: what waits, what is late, what a day opens with, what
//! a gap is called, and what a hostile stream cannot do.

#[path = "support/mod.rs"]
mod support;
#[path = "support/synthetic.rs"]
mod support_synthetic;

use chronicle_etl::refinery::{LatePolicy, NOT_APPLIED, RawFrame, Refinery, WAITING_MAX};
use chronicle_etl::report::{CountsReport, PartitionReport, Report};
use chronicle_protocol::{GapCause, Record, SnapshotSource, type_id};
use chronicle_storage::root::Stream;
use support::{Clean, Memory, Raw, refined, refinery};
use support_synthetic::{
    DAY, HOUR, MINUTE, SECOND, day, delta, feed_gap, going_back, opaque, quote, snapshot, source, stormy, trade,
};

const SPOT: &str = "binance-spot";

fn row(report: &Report, symbol: &str, date: &str, stream: Stream) -> PartitionReport {
    let found = report
        .partitions
        .iter()
        .find(|r| (r.symbol.as_str(), r.date.to_string().as_str(), r.stream) == (symbol, date, stream));
    found.unwrap_or_else(|| panic!("no row {symbol} {date} {stream}: {report:#?}")).clone()
}

/// A word for each frame of a book: `v`enue's or `m`inute's or `o`pening snapshot, `d`elta, `g`ap, `c`arried gap; in
/// capitals if it takes part.
fn story(frames: &[Clean]) -> String {
    frames
        .iter()
        .map(|frame| {
            let letter = match frame.record() {
                Record::BookSnapshot(s) if s.source == SnapshotSource::Venue => 'v',
                Record::BookSnapshot(s) if s.opens_partition => 'o',
                Record::BookSnapshot(_) => 'm',
                Record::BookDelta(_) => 'd',
                Record::Gap(g) if g.carried => 'c',
                Record::Gap(_) => 'g',
                other => panic!("{other:?} in a book"),
            };
            if frame.flags & NOT_APPLIED == 0 { letter.to_ascii_uppercase() } else { letter }
        })
        .collect()
}

fn book<'m>(memory: &'m Memory, date: &str) -> &'m [Clean] {
    memory.get(0, date, Stream::Book)
}

/// Deltas `first..` of one id each, a second apart from `from`, received when they were sent.
fn deltas(symbol: &str, first: u64, count: u64, from: u64) -> Vec<Raw> {
    (0..count).map(|i| delta(symbol, first + i, first + i, from + i * SECOND, from + i * SECOND)).collect()
}

#[test]
fn minutes_are_written_before_their_first_event() {
    let start = day(0) + 10 * HOUR;
    let mut frames = deltas("B", 1, 2, start + 58 * SECOND);
    frames.insert(1, snapshot("B", 0, start));
    // Exactly on the minute, and then nothing for three.
    frames.push(delta("B", 3, 3, start + MINUTE, start + MINUTE));
    frames.push(delta("B", 4, 4, start + 4 * MINUTE + 1, start + 4 * MINUTE));
    let (_, memory) = refined(SPOT, &frames);
    assert_eq!(story(book(&memory, "2024-08-08")), "VDDMDMMMD");
    let minutes: Vec<_> = book(&memory, "2024-08-08")
        .iter()
        .filter_map(|frame| match frame.record() {
            Record::BookSnapshot(s) if s.source == SnapshotSource::Refinery => {
                Some(((frame.time_ns - start) / MINUTE, s.last_id, (s.last_event_ns - start) / SECOND))
            }
            _ => None,
        })
        .collect();
    assert_eq!(minutes, [(1, 2, 59), (2, 3, 60), (3, 3, 60), (4, 3, 60)]);
}

#[test]
fn days_open_with_their_book_and_days_without_events_are_not_made() {
    let start = day(1) - 90 * SECOND;
    let mut frames = vec![snapshot("B", 0, start)];
    frames.extend(deltas("B", 1, 2, start));
    frames.push(delta("B", 3, 3, day(1) + 61 * SECOND, day(1) + 61 * SECOND));
    let gone = day(3) + 30 * SECOND;
    frames.push(delta("B", 4, 4, gone, gone));
    let (refinery, memory) = refined(SPOT, &frames);
    assert_eq!(story(book(&memory, "2024-08-08")), "VDDM");
    // Opening, 00:01, the event; then the rest of that day's minutes, for which there was no event.
    assert_eq!(story(book(&memory, "2024-08-09")), format!("OMD{}", "M".repeat(1440 - 2)));
    assert_eq!(story(book(&memory, "2024-08-11")), "OD");
    assert_eq!(refinery.symbols()[0].days().len(), 3);
    assert_eq!(memory.sealed.len(), 2, "the last event came an hour and more after the first two days");
}

#[test]
fn a_gap_over_midnight_stands_in_both_days_and_counts_once() {
    let start = day(1) - 10 * SECOND;
    let mut frames = vec![snapshot("B", 0, start)];
    frames.extend(deltas("B", 1, 3, start));
    // 4 and 5 are lost, 6 comes on the next day; another break; then a snapshot.
    frames.push(delta("B", 6, 6, day(1) + SECOND, day(1) + SECOND));
    frames.push(delta("B", 9, 9, day(1) + 2 * SECOND, day(1) + 2 * SECOND));
    frames.push(delta("B", 10, 10, day(1) + 3 * SECOND, day(1) + 3 * SECOND));
    frames.push(snapshot("B", 9, day(1) + 4 * SECOND));
    let (refinery, memory) = refined(SPOT, &frames);
    assert_eq!(story(book(&memory, "2024-08-08")), "VDDDG");
    assert!(book(&memory, "2024-08-08").iter().all(|f| f.time_ns < day(1)), "a frame of another day");
    // Carried; what waited until the next break; that break; what the snapshot holds; the snapshot; its delta.
    assert_eq!(story(book(&memory, "2024-08-09")), "CdGdVD");
    assert!(refinery.symbols()[0].is_valid());
    let report = Report::of(&refinery);
    let (first, second) =
        (row(&report, "b", "2024-08-08", Stream::Book), row(&report, "b", "2024-08-09", Stream::Book));
    let ids = |row: &PartitionReport| row.gaps.iter().map(|g| (g.after, g.next)).collect::<Vec<_>>();
    assert_eq!((ids(&first), ids(&second)), (vec![(3, 6)], vec![(6, 9)]));
    assert_eq!((second.counts.not_applied, second.counts.applied), (2, 1));
}

#[test]
fn a_gap_is_called_by_its_cause() {
    let start = day(1) - 20 * SECOND;
    let mut first = vec![snapshot("B", 0, start)];
    first.extend(deltas("B", 1, 3, start));
    let after = day(1) + HOUR;
    let cause = |frames: &[Raw], lost: bool| {
        let (mut refinery, mut memory) = refined(SPOT, &first);
        if lost {
            refinery.raw_lost();
        }
        for frame in frames {
            refinery.frame(frame.frame(), &mut memory).unwrap();
        }
        let symbol = &refinery.symbols()[0];
        let gaps: Vec<_> = symbol.days().values().flat_map(|day| &day.gaps).filter(|gap| !gap.carried).collect();
        gaps.iter().map(|gap| gap.cause).collect::<Vec<_>>()
    };
    let late = delta("B", 4, 4, start + 3 * SECOND, after);
    let next = delta("B", 5, 5, after, after);
    let contiguous = delta("B", 4, 4, after, after);
    assert_eq!(cause(std::slice::from_ref(&next), false), [GapCause::Sequence]);
    assert_eq!(cause(&[late, next.clone()], false), [GapCause::Late]);
    assert_eq!(cause(std::slice::from_ref(&next), true), [GapCause::RawLost]);
    assert_eq!(cause(&[feed_gap("B", after), next], false), [GapCause::RawLost]);
    // What was lost was nothing that the book needs: its ids say so.
    assert_eq!(cause(&[contiguous, delta("B", 9, 9, after + 1, after)], true), [GapCause::Sequence]);
}

/// One delta with a last id that lies far ahead makes all that follow it duplicates. Only who receives them can tell, and
/// says so.
#[test]
fn ids_that_go_back_are_followed_where_the_feed_says_so() {
    let start = day(0) + HOUR;
    let at = |n: u64| start + n * SECOND;
    let mut before = vec![snapshot("B", 0, start)];
    before.extend(deltas("B", 1, 2, start));
    before.push(quote("B", 1_000_500, at(2)));
    before.push(delta("B", 3, 1_000_003, at(2), at(2)));
    let after =
        [delta("B", 4, 4, at(3), at(3)), delta("B", 5, 5, at(4), at(4)), snapshot("B", 4, at(5)), quote("B", 6, at(5))];

    let frames: Vec<Raw> = before.iter().chain(&after).cloned().collect();
    let (refinery, memory) = refined(SPOT, &frames);
    assert_eq!(story(book(&memory, "2024-08-08")), "VDDDddv", "by the ids alone they are duplicates");
    assert_eq!(refinery.symbols()[0].last().0, 1_000_003);

    for told_at in [0, at(3)] {
        let marker = going_back("B", 1_000_003, 4, told_at, at(3));
        let frames: Vec<Raw> = before.iter().chain([&marker]).chain(&after).cloned().collect();
        let (refinery, memory) = refined(SPOT, &frames);
        assert_eq!(story(book(&memory, "2024-08-08")), "VDDDGdVD");
        let symbol = &refinery.symbols()[0];
        assert!(symbol.is_valid());
        assert_eq!((symbol.last().0, symbol.waiting()), (5, 0));
        let gaps: Vec<_> = symbol.days().values().flat_map(|day| &day.gaps).collect();
        let gaps: Vec<_> = gaps.iter().map(|gap| (gap.after, gap.next, gap.cause)).collect();
        assert_eq!(gaps, [(1_000_003, 4, GapCause::Sequence)]);
        let report = Report::of(&refinery);
        assert_eq!(row(&report, "b", "2024-08-08", Stream::Quotes).counts.duplicates, 0);
        assert_eq!(row(&report, "b", "2024-08-08", Stream::Opaque).counts.events, 1, "the marker itself");
    }

    // A marker whose ids were not reached yet says nothing new, nor does one of a feed that was too slow.
    let known = going_back("B", 2, 3, at(2), at(2));
    let mut frames = before[..3].to_vec();
    frames.push(known);
    frames.extend(deltas("B", 3, 2, at(2)));
    let mut slow = frames.clone();
    slow[3] = feed_gap("B", at(2));
    for frames in [frames, slow] {
        let (refinery, memory) = refined(SPOT, &frames);
        assert_eq!(story(book(&memory, "2024-08-08")), "VDDDD");
        assert!(refinery.symbols()[0].is_valid());
    }
}

/// The day of the marker may be closed already: the days that follow have the new ids all the same.
#[test]
fn ids_that_go_back_on_a_sealed_day_are_followed_on_the_next() {
    let start = day(1) - MINUTE;
    let mut frames = vec![snapshot("B", 0, start)];
    frames.extend(deltas("B", 1, 2, start));
    frames.push(delta("B", 3, 1_000_003, start + 2 * SECOND, start + 2 * SECOND));
    let (mut refinery, mut memory) = refined(SPOT, &frames);
    refinery.seal(&mut memory).unwrap();
    let next = day(1) + SECOND;
    let later = [
        going_back("B", 1_000_003, 4, start + 3 * SECOND, start + 3 * SECOND),
        delta("B", 4, 4, start + 3 * SECOND, start + 3 * SECOND),
        delta("B", 5, 5, next, next),
        snapshot("B", 5, next),
        delta("B", 6, 6, next, next),
    ];
    for frame in &later {
        refinery.frame(frame.frame(), &mut memory).unwrap();
    }
    let symbol = &refinery.symbols()[0];
    assert!(symbol.is_valid());
    assert_eq!(symbol.last().0, 6);
    assert_eq!(story(book(&memory, "2024-08-09")), "GdVD");
}

#[test]
fn numbers_that_do_not_fit_the_book_break_it() {
    use chronicle_protocol::{BookDelta, Head, Level, Scale};
    let start = day(0) + HOUR;
    let mut frames = vec![snapshot("B", 0, start)];
    frames.extend(deltas("B", 1, 1, start));
    let huge = Record::BookDelta(BookDelta {
        head: Head { price: Scale::fixed(19), qty: Scale::fixed(0), ..support_synthetic::head(start + 1, start) },
        first_id: 2,
        last_id: 2,
        prev_id: None,
        bids: &[Level::new(i64::MAX, 1)],
        asks: &[],
        symbol: "B",
    });
    frames.push(Raw::of(&huge, start));
    frames.extend(deltas("B", 3, 2, start + SECOND));
    let (refinery, memory) = refined(SPOT, &frames);
    assert_eq!(story(book(&memory, "2024-08-08")), "VDGd");
    let gap = refinery.symbols()[0].days().values().next().unwrap().gaps[0];
    assert_eq!((gap.cause, gap.after, gap.next), (GapCause::BookLost, 1, 2));
    assert!(!refinery.symbols()[0].is_valid());
}

#[test]
fn records_without_a_time_wait_for_one_and_take_the_highest() {
    let now = day(0) + HOUR;
    let frames = [
        quote("B", 1, now),
        opaque("B", b"{}", 0, now),
        trade("B", 1, now + 5, now),
        // Time goes back between streams; the highest one counts.
        delta("B", 1, 1, now + 3, now),
        quote("B", 2, now),
    ];
    let (mut refinery, mut memory) = (refinery(SPOT), Memory::default());
    for (i, frame) in frames.iter().enumerate() {
        refinery.frame(frame.frame(), &mut memory).unwrap();
        if i == 1 {
            assert_eq!(refinery.symbols()[0].waiting(), 2);
            assert!(memory.partitions.is_empty());
        }
    }
    let quotes = memory.get(0, "2024-08-08", Stream::Quotes);
    assert_eq!(quotes.iter().map(|q| q.time_ns).collect::<Vec<_>>(), [now + 5, now + 5]);
    assert_eq!(memory.get(0, "2024-08-08", Stream::Opaque)[0].time_ns, now + 5);

    // A day and more later: the old time is of a day that is over, so a quote waits for a new one.
    let later = now + 2 * DAY;
    refinery.frame(quote("B", 3, later).frame(), &mut memory).unwrap();
    assert_eq!(refinery.symbols()[0].waiting(), 1);
    refinery.frame(trade("B", 2, later + 1, later).frame(), &mut memory).unwrap();
    assert_eq!(memory.get(0, "2024-08-10", Stream::Quotes)[0].time_ns, later + 1);
}

#[test]
fn what_waits_is_bounded_and_nothing_of_it_is_lost() {
    let now = day(0) + HOUR;
    let (mut refinery, mut memory) = (refinery(SPOT), Memory::default());
    let many = WAITING_MAX as u64 + 10;
    for i in 1..=many {
        refinery.frame(quote("Q", i, now + i).frame(), &mut memory).unwrap();
        refinery.frame(delta("D", i, i, now + i, now + i).frame(), &mut memory).unwrap();
    }
    let report = Report::of(&refinery);
    assert_eq!((report.overdue, report.waiting), (10, 2 * WAITING_MAX as u64));
    assert_eq!(memory.get(0, "2024-08-08", Stream::Quotes)[0].time_ns, now + 1, "its receive time");
    // Deltas without any snapshot are counted as if none came any more, and still are when none did.
    let counts = row(&report, "d", "2024-08-08", Stream::Book).counts;
    assert_eq!((counts.events, counts.dropped_before_snapshot), (many, many));
    refinery.seal(&mut memory).unwrap();
    assert_eq!(row(&Report::of(&refinery), "d", "2024-08-08", Stream::Book).counts, counts);
    assert_eq!(memory.get(0, "2024-08-08", Stream::Quotes).len() as u64, many);
    assert_eq!(memory.get(1, "2024-08-08", Stream::Book).len() as u64, many);
}

#[test]
fn a_time_that_cannot_be_is_kept_aside() {
    let now = day(0) + HOUR;
    let frames = [
        trade("B", 1, now, now),
        trade("B", 2, now + 24 * HOUR, now),
        trade("B", 3, now + 24 * HOUR + 1, now),
        quote("B", 1, now),
    ];
    let (refinery, memory) = refined(SPOT, &frames);
    assert_eq!(memory.get(0, "2024-08-09", Stream::Trades).len(), 1);
    let aside = memory.get(0, "2024-08-09", Stream::Opaque);
    assert_eq!((aside.len(), aside[0].type_id, &aside[0].payload), (1, type_id::TRADE, &frames[2].payload));
    assert_eq!(refinery.symbols()[0].absurd_time(), 1);
    // It moved no clock.
    assert_eq!(memory.get(0, "2024-08-09", Stream::Quotes)[0].time_ns, now + 24 * HOUR);
}

#[test]
fn late_begins_one_hour_after_the_day_by_receive_time() {
    let event = day(1) - MINUTE;
    for (received, late) in [(day(1) + HOUR - 1, false), (day(1) + HOUR, true)] {
        for policy in [LatePolicy::Reject, LatePolicy::LateStream] {
            let (mut refinery, mut memory) = (refinery(SPOT), Memory::default());
            refinery.set_late_policy(policy);
            for frame in [trade("B", 1, event, event), trade("B", 2, event, received)] {
                refinery.frame(frame.frame(), &mut memory).unwrap();
            }
            // Fixed when the day was opened.
            refinery.set_late_policy(LatePolicy::Reject);
            refinery.frame(trade("B", 3, event, day(1) + 2 * HOUR).frame(), &mut memory).unwrap();
            let counts = row(&Report::of(&refinery), "b", "2024-08-08", Stream::Trades).counts;
            let expected = if late { (1, 2) } else { (2, 1) };
            assert_eq!((counts.events, counts.late), expected);
            let stored = memory.get(0, "2024-08-09", Stream::Late).len() as u64;
            assert_eq!(stored, if policy == LatePolicy::LateStream { counts.late } else { 0 });
        }
    }
}

#[test]
fn nothing_is_added_to_a_day_that_was_sealed_by_hand() {
    let now = day(0) + HOUR;
    let mut frames = vec![snapshot("B", 0, now)];
    frames.extend(deltas("B", 1, 3, now));
    let (mut refinery, mut memory) = refined(SPOT, &frames);
    refinery.seal(&mut memory).unwrap();
    // The sink fails the test if anything is added to what is sealed; what comes is late, and the day after it opens with
    // the book.
    for frame in deltas("B", 4, 2, now + MINUTE) {
        refinery.frame(frame.frame(), &mut memory).unwrap();
    }
    refinery.frame(quote("B", 9, now + MINUTE).frame(), &mut memory).unwrap();
    let report = Report::of(&refinery);
    assert_eq!(row(&report, "b", "2024-08-08", Stream::Book).counts.late, 2);
    assert_eq!(memory.get(0, "2024-08-08", Stream::Late).len(), 2, "under the day of its arrival");
    for frame in deltas("B", 6, 1, day(1) + SECOND) {
        refinery.frame(frame.frame(), &mut memory).unwrap();
    }
    let gaps = row(&Report::of(&refinery), "b", "2024-08-09", Stream::Book).gaps;
    assert_eq!((gaps[0].after, gaps[0].missing_to, gaps[0].cause), (3, 5, "late"));
    // The quote waited for a time, and got one of a day that began 23 hours later: that is not its day.
    assert_eq!(late(&refinery, "2024-08-08", Stream::Quotes), 1);
    assert!(memory.get(0, "2024-08-09", Stream::Quotes).is_empty());
}

fn late(refinery: &Refinery, date: &str, stream: Stream) -> u64 {
    row(&Report::of(refinery), "b", date, stream).counts.late
}

/// A day sealed at noon, with a book, trades and quotes; the clock stands at `last`.
fn sealed_at(last: u64, policy: LatePolicy) -> (Refinery, Memory) {
    let (mut refinery, mut memory) = (refinery(SPOT), Memory::default());
    refinery.set_late_policy(policy);
    let mut frames = vec![snapshot("B", 0, last - SECOND)];
    frames.extend(deltas("B", 1, 2, last - SECOND));
    frames.extend([quote("B", 1, last), trade("B", 1, last, last), opaque("", b"?", 0, last)]);
    for frame in frames {
        refinery.frame(frame.frame(), &mut memory).unwrap();
    }
    refinery.seal(&mut memory).unwrap();
    (refinery, memory)
}

/// What has no time of its own is of the day that the records around it are of: sealed by hand in the middle of that day,
/// all of it is late, and none of it begins the day after.
#[test]
fn records_without_a_time_are_late_on_a_day_that_was_sealed_by_hand() {
    let noon = day(0) + 12 * HOUR;
    let mut frames = Vec::new();
    for i in 1..=3 {
        let now = noon + i * SECOND;
        frames.extend([quote("B", 10 + i, now), quote("B", 20 + i, now), opaque("B", b"{}", 0, now)]);
        frames.extend(deltas("B", 2 + i, 1, now));
        frames.push(trade("B", 1 + i, now, now));
        frames.push(opaque("", b"??", 0, now));
        // An absurd time is none.
        frames.push(trade("B", 1 + i, now + 2 * DAY, now));
        // The book is valid: this one is of no use.
        frames.push(snapshot("B", 2 + i, now));
    }
    frames.push(quote("B", 30, noon + MINUTE));
    for policy in [LatePolicy::LateStream, LatePolicy::Reject] {
        let mut seen = None;
        for every in [1, 5, 1000] {
            let (mut refinery, mut memory) = sealed_at(noon, policy);
            for chunk in frames.chunks(every) {
                refinery = postcard::from_bytes(&postcard::to_stdvec(&refinery).unwrap()).unwrap();
                for frame in chunk {
                    refinery.frame(frame.frame(), &mut memory).unwrap();
                }
            }
            let report = Report::of(&refinery);
            // The absurd one behind the last late record, and the last quote: counted as if nothing came any more.
            assert_eq!((report.waiting, report.overdue), (2, 0));
            let kinds = [Stream::Book, Stream::Trades, Stream::Quotes, Stream::Opaque];
            let count = |refinery: &Refinery| kinds.map(|stream| late(refinery, "2024-08-08", stream));
            assert_eq!(count(&refinery), [6, 3, 7, 6]);
            assert_eq!(row(&report, "_", "2024-08-08", Stream::Opaque).counts.late, 3);
            refinery.seal(&mut memory).unwrap();
            assert_eq!(count(&refinery), [6, 3, 7, 6]);

            let dates: Vec<_> = memory.partitions.keys().map(|place| place.date.to_string()).collect();
            assert!(dates.iter().all(|date| date == "2024-08-08"), "{dates:?}");
            let kept = memory.get(0, "2024-08-08", Stream::Late);
            match policy {
                LatePolicy::Reject => assert!(kept.is_empty()),
                LatePolicy::LateStream => {
                    let of_b = frames.iter().filter(|frame| frame.record().symbol() == "B");
                    assert!(kept.iter().map(|frame| frame.time_ns).is_sorted(), "in order of arrival");
                    assert_eq!(kept.len(), of_b.count());
                    let end = row(&Report::of(&refinery), "b", "2024-08-08", Stream::Late);
                    assert_eq!((end.counts.events, end.sealed), (22, true));
                    assert_eq!(row(&report, "b", "2024-08-08", Stream::Late).counts, end.counts);
                }
            }
            assert_eq!(*seen.get_or_insert_with(|| memory.clone()), memory, "every {every}");
            // Sealed too by now, so that what is later still needs another day's.
            refinery.frame(trade("B", 9, noon + 2 * MINUTE, noon + 2 * MINUTE).frame(), &mut memory).unwrap();
            let second = memory.get(0, "2024-08-09", Stream::Late).len();
            assert_eq!(second, usize::from(policy == LatePolicy::LateStream));
        }
    }
}

/// A recording that begins at midnight, of a symbol whose last day was sealed: its first quotes are the new day's, once an
/// event says so; those in front of an event of the old day are late as it is.
#[test]
fn quotes_before_the_first_event_of_a_day_wait_for_it() {
    let last = day(1) - 2 * SECOND;
    let (mut refinery, mut memory) = sealed_at(last, LatePolicy::LateStream);
    // The recorder's clock may run behind the venue's.
    let behind = day(1) - SECOND;
    let old = delta("B", 3, 3, day(1) - 1, behind + 2);
    let new = delta("B", 4, 4, day(1) + 3, behind + 5);
    for frame in [quote("B", 3, behind), old, quote("B", 4, behind + 3), quote("B", 5, behind + 4), new] {
        refinery.frame(frame.frame(), &mut memory).unwrap();
    }
    assert_eq!((late(&refinery, "2024-08-08", Stream::Quotes), late(&refinery, "2024-08-08", Stream::Book)), (1, 1));
    let times = |date| memory.get(0, date, Stream::Quotes).iter().map(|q| q.time_ns).collect::<Vec<_>>();
    assert_eq!(times("2024-08-09"), [day(1) + 3; 2]);
    assert_eq!(memory.get(0, "2024-08-08", Stream::Late).len(), 2);

    // Over for an hour, the old day says nothing: a straggler of it is late alone.
    let (mut refinery, mut memory) = sealed_at(last, LatePolicy::LateStream);
    let later = day(1) + 10 * HOUR;
    for frame in [quote("B", 6, later), trade("B", 2, last, later), trade("B", 3, later, later)] {
        refinery.frame(frame.frame(), &mut memory).unwrap();
    }
    assert_eq!(late(&refinery, "2024-08-08", Stream::Trades), 1);
    assert_eq!(memory.get(0, "2024-08-09", Stream::Quotes)[0].time_ns, later);
}

#[test]
fn what_waits_behind_a_sealed_day_is_bounded_and_then_late() {
    let noon = day(0) + 12 * HOUR;
    let (mut refinery, mut memory) = sealed_at(noon, LatePolicy::LateStream);
    let many = WAITING_MAX as u64 + 10;
    for i in 1..=many {
        refinery.frame(quote("B", i, noon + i).frame(), &mut memory).unwrap();
    }
    let report = Report::of(&refinery);
    assert_eq!((report.waiting, report.overdue), (WAITING_MAX as u64, 0));
    assert_eq!(memory.get(0, "2024-08-08", Stream::Late).len(), 10);
    assert_eq!(late(&refinery, "2024-08-08", Stream::Quotes), many);

    // Quotes of a symbol that never had a clock: its days are those of receipt, and sealed they are sealed.
    let (mut refinery, mut memory) = refined(SPOT, &[quote("B", 1, noon)]);
    refinery.seal(&mut memory).unwrap();
    refinery.frame(quote("B", 2, noon + 1).frame(), &mut memory).unwrap();
    refinery.seal(&mut memory).unwrap();
    assert_eq!((Report::of(&refinery).overdue, late(&refinery, "2024-08-08", Stream::Quotes)), (2, 1));
    assert!(memory.partitions.keys().all(|place| place.date.to_string() == "2024-08-08"));
}

#[test]
fn an_applied_delta_never_goes_to_an_earlier_day_than_the_one_before_it() {
    let start = day(1) - 2 * SECOND;
    let mut frames = vec![snapshot("B", 0, start)];
    frames.extend(deltas("B", 1, 3, start));
    let back = day(1) - SECOND;
    frames.push(delta("B", 4, 4, back, back));
    // A duplicate from before does not open, or open again, anything.
    frames.push(delta("B", 2, 2, back, back));
    let (_, memory) = refined(SPOT, &frames);
    assert_eq!(story(book(&memory, "2024-08-08")), "VDDd");
    assert_eq!(story(book(&memory, "2024-08-09")), "ODD");
    assert_eq!(book(&memory, "2024-08-09")[2].time_ns, back, "its time stays the venue's");
}

#[test]
fn a_snapshot_never_goes_to_an_earlier_day_than_it_was_received_on() {
    let frames = [
        delta("B", 1, 1, day(1) - 1, day(1) - 1),
        delta("B", 2, 2, day(1) + 1, day(1) + 1),
        snapshot("B", 0, day(1) + 2),
    ];
    let (_, memory) = refined(SPOT, &frames);
    assert_eq!(story(book(&memory, "2024-08-08")), "");
    assert_eq!(story(book(&memory, "2024-08-09")), "VDMD");
    assert_eq!(book(&memory, "2024-08-09")[0].time_ns, day(1));
}

#[test]
fn snapshots_that_cannot_be_joined_are_kept_and_do_nothing() {
    let now = day(0) + HOUR;
    let mut frames = deltas("B", 10, 2, now);
    // Too old for the deltas that there are; then one too new, an older one beside it, its delta, and one too many.
    frames.push(snapshot("B", 5, now));
    frames.push(snapshot("B", 13, now));
    frames.push(snapshot("B", 12, now));
    frames.extend(deltas("B", 12, 3, now + 2 * SECOND));
    frames.push(snapshot("B", 14, now));
    let (refinery, memory) = refined(SPOT, &frames);
    assert_eq!(story(book(&memory, "2024-08-08")), "vddvddVDv");
    let counts = row(&Report::of(&refinery), "b", "2024-08-08", Stream::Book);
    assert_eq!((counts.counts.applied, counts.counts.dropped_before_snapshot, counts.snapshots), (1, 4, 4));
}

#[test]
fn symbols_that_no_path_can_hold_are_nobodys() {
    let now = day(0) + HOUR;
    let long = "X".repeat(200);
    let frames = [
        trade("BTC/USD", 1, now, now),
        trade("BTC-USD", 1, now, now),
        trade("_", 1, now, now),
        trade("..", 2, now, now),
        trade(&long, 3, now, now),
        opaque("", b"hello", 0, now),
    ];
    let (refinery, memory) = refined(SPOT, &frames);
    let symbols: Vec<_> = refinery.symbols().iter().map(|s| (s.code().as_str(), s.raw())).collect();
    assert_eq!(symbols, [("btc-usd", "BTC/USD"), ("_", "")]);
    assert_eq!(memory.get(1, "2024-08-08", Stream::Trades).len(), 4, "kept, under no symbol's name");
    assert_eq!(memory.get(1, "2024-08-08", Stream::Opaque)[0].time_ns, now);
}

/// Changes of books that nobody can be told apart by are no book: they are kept, and nothing is made of them.
#[test]
fn nobody_has_a_book() {
    let now = day(0) + HOUR;
    for venue in [SPOT, "kraken"] {
        let frames = [
            snapshot("..", 1, now),
            delta("..", 2, 2, now + 1, now + 1),
            delta("_", 3, 3, now + MINUTE, now + MINUTE),
            delta("..", 9, 9, now + 2 * MINUTE, now + 2 * MINUTE),
            snapshot("_", 9, now + 3 * MINUTE),
            delta("_", 10, 10, day(1) + 1, day(1) + 1),
        ];
        let (mut refinery, mut memory) = refined(venue, &frames);
        refinery.seal(&mut memory).unwrap();
        let symbol = &refinery.symbols()[0];
        assert_eq!((symbol.code().as_str(), symbol.is_valid(), symbol.book().is_empty()), ("_", false, true));
        let kept: usize = memory.partitions.values().map(Vec::len).sum();
        assert!(memory.partitions.keys().all(|place| place.stream == Stream::Opaque), "{venue}");
        assert_eq!((kept, Report::of(&refinery).waiting), (frames.len(), 0), "{venue}");
    }
}

#[test]
fn a_state_that_was_stored_goes_on_as_if_it_had_not_been() {
    let frames = [stormy("BTCUSDT", "a.gz"), stormy("ETHUSDT", "b.gz")].concat();
    let (expected, in_one_go) = refined(SPOT, &frames);
    for every in [1, 7, 100] {
        let (mut refinery, mut memory) = (refinery(SPOT), Memory::default());
        for chunk in frames.chunks(every) {
            let bytes = postcard::to_stdvec(&refinery).unwrap();
            refinery = postcard::from_bytes::<Refinery>(&bytes).unwrap();
            for frame in chunk {
                refinery.frame(frame.frame(), &mut memory).unwrap();
            }
        }
        assert_eq!(memory, in_one_go, "every {every}");
        assert_eq!(Report::of(&refinery), Report::of(&expected));
        assert_eq!(refinery.sources(), expected.sources());
    }
}

#[test]
fn payloads_that_are_no_records_are_refused_and_change_nothing() {
    let now = day(0) + HOUR;
    let (mut refinery, mut memory) = refined(SPOT, &deltas("B", 1, 2, now));
    let before = postcard::to_stdvec(&refinery).unwrap();
    for (type_id, payload) in [(1, &b""[..]), (99, b"x"), (type_id::QUOTE, &[0; 80]), (type_id::SOURCE, &[255; 70])] {
        let frame = RawFrame { ingest_ns: now, type_id, payload };
        assert!(refinery.frame(frame, &mut memory).is_err());
    }
    assert_eq!(postcard::to_stdvec(&refinery).unwrap(), before);
}

/// Any order of any frames, with times up to the end of time: the sink's own checks must hold, and the counts must add up.
#[test]
fn hostile_streams_only_make_odd_partitions() {
    let mut seed = 0x5eed_0002_u64;
    println!("seed {seed:#x}");
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..60 {
        let (mut refinery, mut memory) =
            (refinery(if round % 2 == 0 { SPOT } else { "binance-usdm" }), Memory::default());
        let mut given = 0_u64;
        for _ in 0..400 {
            let times = [0, 1, day(0), day(1) - 1, day(1), day(1) + HOUR, day(2), day(9), u64::MAX - 1, u64::MAX];
            let mut time = || times[next(times.len() as u64) as usize].saturating_add(next(3) * MINUTE);
            let (event, ingest) = (time(), time());
            let (symbol, id) = (["A", "B", ""][next(2) as usize], if next(50) == 0 { u64::MAX - 1 } else { next(40) });
            given += 1;
            let frame = match next(8) {
                0 => snapshot(symbol, id, ingest),
                1 => quote(symbol, id, ingest),
                2 => trade(symbol, id, event, ingest),
                3 => opaque("", b"?", event, ingest),
                4 if next(20) == 0 => {
                    given -= 1;
                    source("s", next(3) as u8, ingest)
                }
                _ => delta(symbol, id, id + next(2), event, ingest),
            };
            refinery.frame(frame.frame(), &mut memory).unwrap();
            if next(100) == 0 {
                refinery.seal(&mut memory).unwrap();
            }
        }
        refinery.seal(&mut memory).unwrap();
        let report = Report::of(&refinery);
        let events: u64 = report.partitions.iter().map(|row| row.counts.events).sum();
        assert_eq!((events, report.waiting), (given, 0), "round {round}");
        for row in &report.partitions {
            let c = row.counts;
            if row.stream == Stream::Late {
                // Counted as late where they belong.
                assert_eq!(c, CountsReport { events: c.events, ..CountsReport::default() });
                continue;
            }
            let parts = c.applied + c.dropped_before_snapshot + c.duplicates + c.not_applied;
            assert!(parts <= c.events && c.events <= parts + row.snapshots, "{row:?}");
        }
    }
}
