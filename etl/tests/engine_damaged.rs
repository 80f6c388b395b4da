//! Damaged recordings give the counts that an independent program computed: `damaged/expected.json`.
//!
//! Every delta is counted in exactly one of applied, dropped before the snapshot, duplicate, not applied and late; a
//! refinery that loses one silently, or counts one twice, differs here.

mod support;

use chronicle_etl::refinery::{Counts, LatePolicy, Refinery};
use chronicle_etl::report::{PartitionReport, Report};
use chronicle_protocol::{Record, SnapshotSource};
use chronicle_storage::root::Stream;
use serde_json::Value;
use support::{Memory, hex, imported, refinery, shared};

const SAMPLES: [(&str, &str); 7] = [
    ("gap_spot.gz", "binance-spot"),
    ("gap_usdm.gz", "binance-usdm"),
    ("gap_resync_spot.gz", "binance-spot"),
    ("truncated_spot.gz", "binance-spot"),
    ("malformed_spot.gz", "binance-spot"),
    ("late_coinm.gz", "binance-coinm"),
    ("duplicate_usdm.gz", "binance-usdm"),
];

/// A number, or 0 where the file leaves it out.
fn number(expected: &Value, key: &str) -> u64 {
    expected.get(key).map_or(0, |v| v.as_u64().unwrap())
}

fn sums(report: &Report, stream: Stream) -> Counts {
    report.partitions.iter().filter(|row| row.stream == stream).fold(Counts::default(), |sum, row| {
        let c = row.counts;
        sum.plus(Counts {
            events: c.events,
            applied: c.applied,
            dropped_before_snapshot: c.dropped_before_snapshot,
            duplicates: c.duplicates,
            not_applied: c.not_applied,
            late: c.late,
            snapshots: row.snapshots,
            oddities: row.oddities.unwrap_or_default(),
        })
    })
}

fn compare(name: &str, expected: &Value, refinery: &Refinery, report: &Report, policy: LatePolicy) {
    let expected = expected.get("complete_part").unwrap_or(expected);
    let (book, quotes, trades) =
        (sums(report, Stream::Book), sums(report, Stream::Quotes), sums(report, Stream::Trades));
    assert_eq!(book.applied, number(expected, "depth_applied"), "{name}");
    let not_applied = number(expected, "depth_after_gap_not_applied");
    let discarded = number(expected, "depth_before_snapshot_discarded");
    assert_eq!(book.not_applied, not_applied, "{name}");
    // Only the sample with a second snapshot has discarded ones after a gap.
    let after_gap = if name == "gap_resync_spot.gz" { not_applied } else { 0 };
    assert_eq!(book.dropped_before_snapshot, discarded - after_gap, "{name}");
    for (stream, counts, old, late) in [
        ("book", book, "depth_stale_or_duplicate", "late_over_1h_depthUpdate"),
        ("quotes", quotes, "bookTicker_stale_or_duplicate", "late_over_1h_bookTicker"),
        ("trades", trades, "trade_duplicate", "late_over_1h_trade"),
    ] {
        let late = number(expected, late);
        assert_eq!(counts.late, late, "{name} {stream}");
        assert_eq!(counts.duplicates, number(expected, old).saturating_sub(late), "{name} {stream}");
    }
    let by_kind = &expected["by_kind"];
    let kept = |c: Counts| c.applied + c.dropped_before_snapshot + c.duplicates + c.not_applied;
    assert_eq!(kept(book) + book.late, number(by_kind, "depthUpdate"), "{name}");
    assert_eq!(book.events, kept(book) + number(by_kind, "snapshot"), "{name}");
    assert_eq!(kept(quotes) + quotes.late, number(by_kind, "bookTicker"), "{name}");
    assert_eq!(kept(trades) + trades.late, number(by_kind, "trade"), "{name}");
    assert_eq!((quotes.events, trades.events), (kept(quotes), kept(trades)), "{name}");
    let late = sums(report, Stream::Late);
    let stored = if policy == LatePolicy::LateStream { book.late + quotes.late + trades.late } else { 0 };
    assert_eq!((late.events, late.not_applied), (stored, 0), "{name}: counted once");
    assert_eq!(book.late + quotes.late + trades.late, number(expected, "late_over_1h"), "{name}");

    let gaps: Vec<_> = report.partitions.iter().flat_map(|row| &row.gaps).collect();
    assert_eq!(gaps.len() as u64, number(expected, "gap_count"), "{name}: {gaps:?}");
    for (gap, expected) in gaps.iter().zip(expected["gaps"].as_array().unwrap()) {
        assert_eq!((gap.after, gap.next), (number(expected, "after_u"), number(expected, "next_U")), "{name}");
        assert_eq!(gap.time.0, number(expected, "E_ms") * 1_000_000, "{name}");
        let missing_to = match expected.get("missing_ids") {
            Some(ids) => {
                assert_eq!(gap.missing_from, ids[0].as_u64().unwrap(), "{name}");
                ids[1].as_u64().unwrap()
            }
            None => number(expected, "next_pu"),
        };
        assert_eq!((gap.missing_from, gap.missing_to), (gap.after + 1, missing_to), "{name}");
        assert_eq!(gap.cause, "sequence", "{name}");
    }

    let symbol = &refinery.symbols()[0];
    let last = &expected["final_book"];
    assert_eq!(symbol.is_valid(), last["valid"].as_bool().unwrap(), "{name}");
    let id = if symbol.is_valid() { "last_u" } else { "last_valid_u" };
    assert_eq!(symbol.last().0, number(last, id), "{name}");
    let levels = (symbol.book().bid_count() as u64, symbol.book().ask_count() as u64);
    assert_eq!(levels, (number(last, "bids"), number(last, "asks")), "{name}");
    let digest = if symbol.is_valid() { "digest" } else { "digest_at_last_valid_u" };
    assert_eq!(hex(&symbol.book().digest()), last[digest].as_str().unwrap(), "{name}");
}

#[test]
fn damaged_samples_give_their_counts() {
    let Some(expected) = shared("damaged/expected.json") else { return };
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    for policy in [LatePolicy::LateStream, LatePolicy::Reject] {
        for (name, venue) in SAMPLES {
            let frames = imported(venue, name, &shared(&format!("damaged/{name}")).unwrap());
            let mut refinery = refinery(venue);
            refinery.set_late_policy(policy);
            let mut memory = Memory::default();
            for frame in &frames {
                refinery.frame(frame.frame(), &mut memory).unwrap();
            }
            let before = Report::of(&refinery);
            compare(name, &expected[name], &refinery, &before, policy);

            // Sealing lets go what waits, and must not count it otherwise than before.
            refinery.seal(&mut memory).unwrap();
            let after = Report::of(&refinery);
            compare(name, &expected[name], &refinery, &after, policy);
            assert_eq!(after.waiting, 0);
            let open = |row: &PartitionReport| PartitionReport { sealed: false, ..row.clone() };
            let rows = |r: &Report| r.partitions.iter().map(open).collect::<Vec<_>>();
            assert_eq!(rows(&before), rows(&after), "{name}");
            assert!(after.partitions.iter().all(|row| row.sealed), "{name}");
            let stored: u64 = memory
                .partitions
                .values()
                .flatten()
                .filter(|f| match f.record() {
                    Record::BookSnapshot(s) => s.source == SnapshotSource::Venue,
                    record => !matches!(record, Record::Gap(_)),
                })
                .count() as u64;
            assert_eq!(stored, after.partitions.iter().map(|row| row.counts.events).sum::<u64>(), "{name}");
        }
    }
}

#[test]
fn late_records_are_kept_in_order_of_arrival() {
    let Some(bytes) = shared("damaged/late_coinm.gz") else { return };
    let frames = imported("binance-coinm", "late_coinm.gz", &bytes);
    let (refinery, memory) = support::refined("binance-coinm", &frames);
    let late = memory.get(0, "2024-08-09", Stream::Late);
    assert_eq!(late.len(), 276);
    assert!(late.iter().zip(&frames[frames.len() - 276..]).all(|(l, f)| {
        l.time_ns == f.ingest_ns && l.payload == f.payload && l.record().head().exchange_ns < l.time_ns
    }));
    // They also closed the day that they belong to, and no other.
    let days = refinery.symbols()[0].days();
    assert!(days[&support::date("2024-08-08")].sealed);
    assert!(!days[&support::date("2024-08-09")].sealed);
    // The break on the first day is still open on the second: it stands there too, and counts once.
    let carried = &days[&support::date("2024-08-09")].gaps;
    assert!(carried.iter().all(|gap| gap.carried), "{carried:?}");
    assert_eq!(days[&support::date("2024-08-08")].gaps.len(), 1);
}
