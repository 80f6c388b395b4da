//! Readers that do not keep up cost no record: what does not fit into the hot queue goes to disk and comes back in order,
//! also after the feed was killed. Only when the disk is full too is something lost, and then the stream says what.
#![cfg(target_os = "linux")]

mod live_venue;

use std::{cell::Cell, path::Path, rc::Rc};

use chronicle_core::Append;
use chronicle_feed::{
    Venue,
    live::{Event, Put, RawEnd},
};
use chronicle_platform_linux::Linux;
use chronicle_protocol::{Head, Record, Scale, Trade};
use chronicle_storage::queue::{Profile, Publisher, PublisherOptions, Queue, Subscriber, SubscriberOptions};
use live_venue::{delta, each_record, options, play_into, queue_of, scratch, snapshot, wall_ns};

const SLOW: &str = "slow";

/// Room for some hundred trades, and a reader that it waits for.
fn tiny(required: bool) -> PublisherOptions {
    PublisherOptions {
        segment_len: 8 << 10,
        max_bytes: 32 << 10,
        required: if required { vec![SLOW.to_owned()] } else { Vec::new() },
        ..PublisherOptions::new(Profile::Orders)
    }
}

fn open(root: &Path, overflow_max: u64) -> (RawEnd<Linux>, Subscriber<Linux>) {
    let hot: Publisher<Linux> = Queue::publisher(&Linux, queue_of(root), tiny(true)).unwrap();
    let slow = Queue::subscriber(&Linux, queue_of(root), SLOW, SubscriberOptions::default()).unwrap();
    let overflow = PublisherOptions { max_bytes: overflow_max, ..tiny(false) };
    (RawEnd::new(&Linux, hot, &root.join("overflow/queue"), overflow).unwrap(), slow)
}

fn put(raw: &mut RawEnd<Linux>, trade_id: u64) -> Put {
    let head = Head { ingest_ns: 1000 + trade_id, price: Scale::fixed(2), qty: Scale::fixed(1), ..Head::default() };
    raw.put(&Record::Trade(Trade {
        head,
        trade_id,
        price: 100,
        qty: 1,
        buyer_is_maker: true,
        order_type: None,
        legacy_m: None,
        symbol: "XUSDT",
    }))
    .unwrap()
}

/// What the slow reader has read since, as trade ids.
fn read(slow: &mut Subscriber<Linux>) -> Vec<u64> {
    let mut ids = Vec::new();
    let mut payload = Vec::new();
    while let Some(frame) = slow.next().unwrap() {
        payload.resize(frame.payload.len(), 0);
        frame.payload.copy_to(&mut payload);
        match Record::parse(frame.type_id, &payload).unwrap() {
            Record::Trade(trade) => {
                assert_eq!(frame.time_ns, 1000 + trade.trade_id);
                ids.push(trade.trade_id);
            }
            other => panic!("{}", other.type_name()),
        }
    }
    slow.commit_durable().unwrap();
    ids
}

#[test]
fn what_does_not_fit_goes_to_disk_and_comes_back_in_order() {
    let root = scratch();
    let (mut raw, mut slow) = open(root.path(), 8 << 20);
    let mut read_so_far = Vec::new();
    let mut aside = 0;
    for id in 1..=3000 {
        aside += u64::from(put(&mut raw, id) == Put::Overflow);
        // The reader stops for most of the time, and comes back now and then.
        if id % 700 == 0 {
            read_so_far.append(&mut read(&mut slow));
        }
    }
    assert!(aside > 1000 && raw.is_behind(), "{aside}");
    while raw.drain(100).unwrap() {
        read_so_far.append(&mut read(&mut slow));
    }
    read_so_far.append(&mut read(&mut slow));
    assert_eq!(read_so_far, (1..=3000).collect::<Vec<_>>());
    let counts = raw.counts();
    assert_eq!((counts.hot + counts.drained, counts.overflowed, counts.dropped), (3000, aside, 0));
    // The direct way again.
    assert_eq!(put(&mut raw, 3001), Put::Hot);
}

#[test]
fn what_a_killed_feed_left_on_disk_comes_first_when_the_next_one_begins() {
    let root = scratch();
    let (mut raw, mut slow) = open(root.path(), 8 << 20);
    for id in 1..=1000 {
        put(&mut raw, id);
    }
    let mut all = read(&mut slow);
    raw.drain(50).unwrap();
    assert!(raw.is_behind());
    // Dropped without a goodbye, as by a kill.
    drop((raw, slow));
    let (mut raw, mut slow) = open(root.path(), 8 << 20);
    assert!(raw.is_behind(), "it knows before anything is put");
    put(&mut raw, 1001);
    loop {
        all.append(&mut read(&mut slow));
        if !raw.drain(100).unwrap() {
            break;
        }
    }
    all.append(&mut read(&mut slow));
    assert_eq!(all, (1..=1001).collect::<Vec<_>>());
}

#[test]
fn a_record_that_no_segment_takes_is_dropped_and_said_to_be() {
    let root = scratch();
    let (mut raw, _slow) = open(root.path(), 8 << 20);
    let bytes = vec![b'x'; 9 << 10];
    let opaque = chronicle_protocol::Opaque {
        head: Head::default(),
        reason: chronicle_protocol::OpaqueReason::UnknownKind,
        symbol: "",
        bytes: &bytes,
    };
    assert_eq!(raw.put(&Record::Opaque(opaque)).unwrap(), Put::Dropped);
    assert_eq!(put(&mut raw, 1), Put::Hot);
}

/// An overflow queue whose writer had other options, or a frame that is none of ours, must not stop the rest.
#[test]
fn a_frame_too_large_for_the_hot_queue_does_not_hold_up_those_behind_it() {
    let root = scratch();
    {
        let options = PublisherOptions { segment_len: 1 << 20, max_bytes: 4 << 20, ..tiny(false) };
        let mut left = Queue::publisher(&Linux, root.path().join("overflow/queue"), options).unwrap();
        let append = Append { time_ns: 1, type_id: 6, flags: 0 };
        left.append(append, &vec![0; 100 << 10]).unwrap();
        left.close().unwrap();
    }
    let (mut raw, mut slow) = open(root.path(), 8 << 20);
    assert_eq!(put(&mut raw, 1), Put::Hot);
    assert_eq!((raw.counts().dropped, read(&mut slow)), (1, vec![1]));
}

#[tokio::test]
async fn when_the_disk_is_full_too_the_stream_says_what_is_missing() {
    let root = scratch();
    let (mut raw, slow) = open(root.path(), 32 << 10);
    let slow = Rc::new(std::cell::RefCell::new(slow));
    let reader = slow.clone();
    let last = Rc::new(Cell::new(0));
    let sent = last.clone();
    let (result, events) = play_into(options(Venue::BinanceSpot, &["XUSDT"]), &mut raw, wall_ns, async move |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta("XUSDT", 1, 1)).await;
        stream.say(delta("XUSDT", 2, 2)).await;
        venue.request().await.answer(&snapshot(1)).await;
        venue.told("that the book is whole", |event| matches!(event, Event::Whole { .. })).await;
        let mut id = 2;
        while !venue.events().iter().any(|event| matches!(event, Event::Dropping { .. })) {
            for _ in 0..20 {
                id += 1;
                stream.say(delta("XUSDT", id, id)).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        // The reader wakes up.
        let drained = async {
            loop {
                while let Ok(Some(_)) = reader.borrow_mut().next() {}
                reader.borrow_mut().commit_durable().unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        let goes_on = async {
            venue.told("that it is drained", |event| *event == Event::Drained).await;
            for _ in 0..3 {
                id += 1;
                stream.say(delta("XUSDT", id, id)).await;
            }
            venue.request().await.answer(&snapshot(id)).await;
            venue.counted("the marker", |counts| counts.gap_markers > 0 && counts.snapshots == 2).await;
            sent.set(id);
        };
        tokio::select! { () = drained => unreachable!(), () = goes_on => {} }
    })
    .await;
    let counts = result.unwrap();
    assert!(counts.raw.overflowed > 0 && counts.raw.dropped > 0, "{:?}", counts.raw);
    assert!(events.contains(&Event::Overflowing));
    // Of what the queue still has: ids without a hole, a marker that names exactly the hole, ids without a hole.
    let (mut markers, mut missing, mut at) = (0, 0, 0);
    each_record(&queue_of(root.path()), |_, record| match record {
        Record::BookDelta(delta) => {
            assert!(at == 0 || delta.first_id == at + 1, "{} after {at}", delta.first_id);
            at = delta.last_id;
        }
        Record::Gap(gap) => {
            assert!(at == 0 || gap.after_id == at, "{gap:?} after {at}");
            assert_eq!((gap.missing_from, gap.next_id), (gap.after_id + 1, gap.missing_to + 1));
            markers += 1;
            missing += gap.missing_to - gap.after_id;
            at = gap.missing_to;
        }
        _ => {}
    });
    assert_eq!((markers, missing, at), (counts.gap_markers, counts.raw.dropped, last.get()));
}
