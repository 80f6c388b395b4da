//! Somebody sets the clock while a feed runs: an hour back, a day forth. The records have the clock's time, for better or
//! worse; nothing else changes: no timeout fires, no wait is cut short or lasts for a day, no book is lost.
#![cfg(target_os = "linux")]

mod live_venue;

use std::{cell::Cell, rc::Rc};

use chronicle_feed::{
    Venue,
    live::{Event, RawEnd},
};
use chronicle_platform_linux::Linux;
use chronicle_protocol::Record;
use chronicle_storage::queue::Queue;
use live_venue::{delta, each_record, options, play_into, queue_of, scratch, small, snapshot, wall_ns};

const X: &str = "XUSDT";
const HOUR_NS: u64 = 3_600_000_000_000;

#[tokio::test]
async fn a_clock_that_is_set_changes_the_time_of_records_and_nothing_else() {
    let root = scratch();
    let hot = Queue::publisher(&Linux, queue_of(root.path()), small()).unwrap();
    let mut raw = RawEnd::new(&Linux, hot, &root.path().join("overflow/queue"), small()).unwrap();
    let offset = Rc::new(Cell::new(0_i64));
    let set = offset.clone();
    let clock = move || wall_ns().wrapping_add_signed(offset.get());
    let (result, events) = play_into(options(Venue::BinanceSpot, &[X]), &mut raw, clock, async move |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 1, 1)).await;
        stream.say(delta(X, 2, 2)).await;
        venue.request().await.answer(&snapshot(1)).await;
        venue.told("that the book is whole", |event| matches!(event, Event::Whole { .. })).await;
        for (hours, id) in [(-1, 3), (0, 4), (30, 5), (0, 6)] {
            set.set(hours * HOUR_NS.cast_signed());
            stream.say(delta(X, id, id)).await;
            venue.counted("it", |counts| counts.deltas == id).await;
        }
    })
    .await;
    let counts = result.unwrap();
    assert_eq!((counts.clock_steps, counts.disconnects, counts.gaps, counts.snapshot_failures), (4, 0, 0, 0));
    assert_eq!(counts.books_whole, 1);
    let steps: Vec<i64> = events
        .iter()
        .filter_map(|event| match event {
            Event::ClockStep { by_ms } => Some((*by_ms as f64 / 3_600_000.0).round() as i64),
            _ => None,
        })
        .collect();
    assert_eq!(steps, [-1, 1, 30, -30]);
    let mut times = Vec::new();
    each_record(&queue_of(root.path()), |_, record| {
        if matches!(record, Record::BookDelta(_)) {
            times.push(record.head().ingest_ns);
        }
    });
    assert!(times[2] < times[1] && times[3] > times[2] && times[4] > times[3] + 29 * HOUR_NS && times[5] < times[4]);
}
