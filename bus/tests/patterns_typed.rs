//! Queues of one message: what goes in comes out, what is something else is told, and nobody has to be there first.

use chronicle_bus::{
    Duplex, Message, Publisher, Subscriber, SubscriberDiscovery,
    message::{Malformed, OWN_TYPES},
    subscriber_discovery::{Disconnect, Link},
    typed::Received,
};
use chronicle_core::Append;
use chronicle_platform::{Platform, sim::Sim};
use chronicle_storage::queue::{Profile, PublisherOptions, SubscriberOptions};
use std::time::Duration;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    byteorder::little_endian::{I64, U64},
};

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Tick {
    price: I64,
    id: U64,
}

impl Message for Tick {
    const TYPE_ID: u16 = OWN_TYPES;

    fn check(&self) -> Result<(), Malformed> {
        let found = self.id.get();
        if found > 0 { Ok(()) } else { Err(Malformed::Field { name: "id", found }) }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Echo {
    id: U64,
}

impl Message for Echo {
    const TYPE_ID: u16 = OWN_TYPES + 1;
}

fn tick(id: u64) -> Tick {
    Tick { price: (-5).into(), id: id.into() }
}

fn options() -> PublisherOptions {
    PublisherOptions { segment_len: 4096, max_bytes: 8 * 4096, helper: false, ..PublisherOptions::new(Profile::Clean) }
}

#[test]
fn messages_come_out_as_they_went_in_over_rolls() {
    let sim = Sim::new(1);
    let mut publisher = Publisher::<_, Tick>::open(&sim, "/q", options()).unwrap();
    let mut subscriber = Subscriber::<_, Tick>::open(&sim, "/q", "reader", SubscriberOptions::default()).unwrap();
    assert!(subscriber.next().unwrap().is_none());
    for id in 1..=1000 {
        assert_eq!(publisher.send_wait(id * 10, &tick(id), Duration::from_secs(1)).unwrap(), id);
        match subscriber.next().unwrap() {
            Some(Received::Message { seq, time_ns, message }) => {
                assert_eq!((seq, time_ns, message), (id, id * 10, tick(id)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(publisher.queue().counters().rolls > 5);
}

/// Skipping what is not understood is how a program that is too old loses orders without a word.
#[test]
fn what_is_another_type_or_malformed_is_told() {
    let sim = Sim::new(1);
    let mut publisher = Publisher::<_, Tick>::open(&sim, "/q", options()).unwrap();
    let mut subscriber = Subscriber::<_, Tick>::observe(&sim, "/q", SubscriberOptions::default()).unwrap();
    let queue = publisher.queue();
    let mut put = |type_id, payload: &[u8]| {
        queue.append(Append { time_ns: 1, type_id, flags: 0 }, payload).unwrap();
    };
    put(9, b"something else");
    put(Tick::TYPE_ID, b"short");
    put(Tick::TYPE_ID, &[0; 17]);
    put(Tick::TYPE_ID, tick(0).as_bytes());
    put(Tick::TYPE_ID, tick(1).as_bytes());
    let mut told = Vec::new();
    while let Some(received) = subscriber.next().unwrap() {
        told.push(match received {
            Received::Other(frame) => format!("{}: type {}", frame.seq, frame.type_id),
            Received::Malformed { frame, reason } => format!("{}: {reason}", frame.seq),
            Received::Message { seq, message, .. } => format!("{seq}: {}", message.id),
        });
    }
    let expected = [
        "1: type 9",
        "2: payload has 5 bytes, the message 16",
        "3: payload has 17 bytes, the message 16",
        "4: id is 0x0, which no writer stores",
        "5: 1",
    ];
    assert_eq!(told, expected);
}

/// Whoever opens first: what was said before the other came is not lost.
#[test]
fn either_side_of_a_conversation_may_be_first() {
    let sim = Sim::new(1);
    let mut asks =
        Duplex::<_, Tick, Echo>::open(&sim, "/there", "/back", "asks", options(), SubscriberOptions::default())
            .unwrap();
    asks.send(1, &tick(1)).unwrap();
    assert!(!asks.is_connected() && asks.next().unwrap().is_none());
    let mut answers =
        Duplex::<_, Echo, Tick>::open(&sim, "/back", "/there", "answers", options(), SubscriberOptions::default())
            .unwrap();
    assert!(answers.is_connected());
    for id in 1..=50 {
        if id > 1 {
            asks.send(id, &tick(id)).unwrap();
        }
        let heard = answers.next().unwrap().and_then(Received::message).unwrap();
        answers.send(id, &Echo { id: heard.id }).unwrap();
        sim.sleep(Duration::from_millis(2));
        let back = asks.next().unwrap().and_then(Received::message).unwrap();
        assert_eq!(back.id.get(), id);
    }
    assert!(asks.is_connected() && asks.input().is_some());
}

/// Each state is told once, and nothing else is done.
#[test]
fn a_link_is_told_when_it_changes() {
    let sim = Sim::new(1);
    let mut discovery = SubscriberDiscovery::new(&sim, "/q", Duration::from_secs(2)).looking_every(Duration::ZERO);
    assert_eq!(discovery.poll().unwrap(), Some(Link::Waiting));
    assert_eq!(discovery.poll().unwrap(), None);
    let publisher = Publisher::<_, Tick>::open(&sim, "/q", options()).unwrap();
    assert_eq!(discovery.poll().unwrap(), Some(Link::Connected));
    assert_eq!((discovery.poll().unwrap(), discovery.link()), (None, Link::Connected));
    // Nobody maintains it.
    sim.sleep(Duration::from_secs(3));
    let Some(Link::Disconnected { reason: Disconnect::Stale { age } }) = discovery.poll().unwrap() else {
        panic!("{}", discovery.link())
    };
    assert!(age >= Duration::from_secs(2), "{age:?}");
    sim.sleep(Duration::from_secs(3));
    assert_eq!(discovery.poll().unwrap(), None, "older, but the same news");
    drop(publisher);
    assert_eq!(discovery.poll().unwrap(), Some(Link::Disconnected { reason: Disconnect::Died }));
    let publisher = Publisher::<_, Tick>::open(&sim, "/q", options()).unwrap();
    assert_eq!(discovery.poll().unwrap(), Some(Link::Connected));
    publisher.into_queue().close().unwrap();
    assert_eq!(discovery.poll().unwrap(), Some(Link::Disconnected { reason: Disconnect::Closed }));
    assert_eq!(discovery.link().to_string(), "disconnected: the writer closed it");
}

/// Looking is cheap and rare; asking is neither.
#[test]
fn a_link_is_looked_at_only_so_often() {
    let sim = Sim::new(1);
    let mut discovery = SubscriberDiscovery::new(&sim, "/q", Duration::from_secs(2));
    assert_eq!(discovery.poll().unwrap(), Some(Link::Waiting));
    let _publisher = Publisher::<_, Tick>::open(&sim, "/q", options()).unwrap();
    assert_eq!(discovery.poll().unwrap(), None);
    sim.sleep(Duration::from_millis(11));
    assert_eq!(discovery.poll().unwrap(), Some(Link::Connected));
}
