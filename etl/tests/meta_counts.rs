//! `verify` counts a partition's frames against its `meta.json` without the protocol: what it takes for a delta, a gap, or
//! one of the refinery's own snapshots must be what the protocol writes, or good days are called damaged.

use chronicle_etl::refinery::NOT_APPLIED;
use chronicle_protocol::{BookSnapshot, Head, Record, SnapshotSource, type_id};
use chronicle_storage::{partition::BOOK_SNAPSHOTS, tally};

#[test]
fn storage_knows_records_as_the_protocol_writes_them() {
    assert_eq!(
        (tally::BOOK_DELTAS, BOOK_SNAPSHOTS, tally::GAP),
        (
            [type_id::BOOK_DELTA, type_id::ORDER_EVENT],
            [type_id::BOOK_SNAPSHOT, type_id::ORDERS_SNAPSHOT, type_id::COUNTED_SNAPSHOT],
            type_id::GAP
        )
    );
    assert_eq!(tally::NOT_APPLIED, NOT_APPLIED);
    for (source, opens_partition, marks) in
        [(SnapshotSource::Venue, false, 0), (SnapshotSource::Refinery, false, 1), (SnapshotSource::Refinery, true, 1)]
    {
        let record = Record::BookSnapshot(BookSnapshot {
            head: Head::default(),
            last_id: 1,
            last_event_ns: 0,
            source,
            opens_partition,
            bids: &[],
            asks: &[],
            symbol: "BTCUSDT",
        });
        let mut bytes = vec![0; record.encoded_len()];
        record.encode(&mut bytes).expect("a snapshot");
        assert_eq!(bytes[tally::MARKS_AT] & 1, marks, "{source:?}");
    }
}
