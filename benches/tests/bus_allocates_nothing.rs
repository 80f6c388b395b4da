//! A message asks nothing of the heap: not where it is sent or received, not in the merge, not at the two ends of an order.
//!
//! What does is another segment: its mapping at a roll. So the segments here are long enough, nobody has a helper thread,
//! and each pattern has sent and received before counting begins.

#![cfg(target_os = "linux")]

use chronicle_bus::{
    FanIn, Layout, Message, Publisher, RouterEnd, StrategyEnd, Subscriber,
    ends::{FromStrategy, RouterOptions, StrategyOptions},
    fan_in::Merged,
    message::OWN_TYPES,
    orders::{Order, Reply, Side},
    typed::Received,
};
use chronicle_platform_linux::Linux;
use chronicle_storage::queue::{Profile, PublisherOptions, Queue, SubscriberOptions};
use std::{
    alloc::{GlobalAlloc, Layout as Memory, System},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, byteorder::little_endian::U64};

/// Counts what is asked of the heap, by any thread.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on as it came, to an allocator that keeps the promises of the trait.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        // ORDERING: a count, and only one thread works while it is compared.
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about the layout, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Memory) {
        // SAFETY: `at` came from `alloc` above with this layout, and so from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
struct Tick {
    id: U64,
}

impl Message for Tick {
    const TYPE_ID: u16 = OWN_TYPES;
}

fn options() -> PublisherOptions {
    PublisherOptions {
        segment_len: 8 << 20,
        max_bytes: 32 << 20,
        helper: false,
        ..PublisherOptions::new(Profile::Clean)
    }
}

/// What `work` asks of the heap, the second time.
fn allocations(mut work: impl FnMut()) -> u64 {
    work();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

const MESSAGES: u64 = 2_000;

/// One test, so that no other counts in between.
#[test]
fn messages_allocate_nothing() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![7_u8; 100]))), 1, "what is asked of the heap is counted");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();

    let path = dir.path().join("typed");
    let mut publisher = Publisher::<_, Tick>::open(&Linux, &path, options()).unwrap();
    let mut subscriber = Subscriber::<_, Tick>::open(&Linux, &path, "one", SubscriberOptions::default()).unwrap();
    let typed = allocations(|| {
        for id in 1..=MESSAGES {
            publisher.send(id, &Tick { id: id.into() }).unwrap();
            assert!(matches!(subscriber.next(), Ok(Some(Received::Message { .. }))));
            assert!(subscriber.next().unwrap().is_none());
            subscriber.queue().commit().unwrap();
        }
        // A reader that idles looks at more than the next word now and then.
        for _ in 0..5_000 {
            assert!(subscriber.next().unwrap().is_none());
        }
    });
    assert_eq!(typed, 0, "publisher and subscriber");

    let path = |nth: usize| dir.path().join(nth.to_string());
    let mut merge = FanIn::new(&Linux, Duration::from_micros(1));
    let mut queues = Vec::new();
    for nth in 0..8 {
        queues.push(Publisher::<_, Tick>::open(&Linux, path(nth), options()).unwrap());
        merge.add(Queue::subscriber(&Linux, path(nth), "merge", SubscriberOptions::default()).unwrap());
    }
    let mut now = 0;
    let merged = allocations(|| {
        for round in 0..MESSAGES {
            now += 10_000;
            for queue in queues.iter_mut().skip((round % 8) as usize) {
                queue.send(now, &Tick { id: now.into() }).unwrap();
            }
            while let Some(Merged::Frame(it)) = merge.next(now + 2_000) {
                let source = it.source;
                merge.commit(source).unwrap();
            }
        }
    });
    assert_eq!(merged, 0, "merge of eight");

    let layout = Layout::new(dir.path().join("hot"));
    let ends = StrategyOptions { renew: false, queue: options(), ..StrategyOptions::default() };
    let mut router =
        RouterEnd::open(&Linux, &layout, RouterOptions { queue: options(), ..RouterOptions::default() }).unwrap();
    let mut strategies = ["one", "two", "three"].map(|name| StrategyEnd::open(&Linux, &layout, name, &ends).unwrap());
    router.discovery().rescan();
    router.drive();
    assert_eq!(router.strategies().count(), 3);
    let order = Order::limit("venue", "BTCUSDT", Side::Buy, (1, 0), (1, 0)).unwrap();
    let orders = allocations(|| {
        for round in 0..MESSAGES {
            now += 1;
            for end in &mut strategies {
                end.send(now, &order).unwrap();
            }
            let mut taken = 0;
            while let Some(FromStrategy::Order(it)) = router.next(now) {
                router.reply(&it, now, &Reply::acked(&it.order, round)).unwrap();
                taken += 1;
            }
            assert_eq!(taken, 3);
            for end in &mut strategies {
                assert!(matches!(end.next(), Ok(Some(Received::Message { .. }))));
                end.commit().unwrap();
            }
        }
    });
    assert_eq!(orders, 0, "orders there and replies back");
}
