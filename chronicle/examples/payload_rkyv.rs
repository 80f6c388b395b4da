//! A record with strings and lists through a queue, with rkyv, from a writer that is not trusted.
//!
//! `cargo run -p chronicle --example payload_rkyv`
//!
//! An archive of rkyv has offsets inside: followed unchecked, one wrong offset reads anywhere. So `access` checks all of
//! them, on a copy: a check of shared memory would say nothing of what it holds a moment later. The queue's CRC is no
//! such check, because a writer that lies makes a right CRC of it.

use chronicle::{
    Append, System,
    storage::queue::{Profile, PublisherOptions, Queue, Start, SubscriberOptions},
};
use rkyv::{Archive, Deserialize, Serialize, access, rancor, to_bytes, util::AlignedVec};

const ORDER: u16 = 8;

#[derive(Archive, Serialize, Deserialize, Debug, PartialEq)]
struct Order {
    client: String,
    legs: Vec<Leg>,
    note: Option<String>,
}

#[derive(Archive, Serialize, Deserialize, Debug, PartialEq)]
struct Leg {
    symbol: String,
    price: i64,
    quantity: u32,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let order = Order {
        client: "a client with a long name".to_owned(),
        legs: (0..3).map(|n| Leg { symbol: format!("SYMBOL-{n}-USDT"), price: 100 + n, quantity: 1 }).collect(),
        note: Some("as soon as you can".to_owned()),
    };
    let good = to_bytes::<rancor::Error>(&order)?;

    let directory = tempfile::tempdir()?;
    let path = directory.path().join("orders");
    let mut publisher = Queue::publisher(&System, &path, PublisherOptions::new(Profile::Orders))?;
    let mut append = |payload: &[u8]| publisher.append(Append { time_ns: 0, type_id: ORDER, flags: 0 }, payload);
    append(&good)?;
    // A writer that lies: each byte changed in turn, and archives that end too early.
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0xff;
        append(&bad)?;
    }
    for len in 0..good.len() {
        append(&good[..len])?;
    }

    let options = SubscriberOptions { start: Start::Earliest, ..SubscriberOptions::default() };
    let mut reader = Queue::observer(&System, &path, options)?;
    // One buffer for all frames, aligned as archives want it.
    let mut bytes = AlignedVec::<16>::new();
    let (mut same, mut other, mut refused) = (0, 0, 0);
    while let Some(frame) = reader.next()? {
        bytes.resize(frame.payload.len(), 0);
        frame.payload.copy_to(&mut bytes);
        match access::<ArchivedOrder, rancor::Error>(&bytes) {
            // Read in place, in our copy: nothing is allocated before it is known to be whole.
            Ok(found) if rkyv::deserialize::<Order, rancor::Error>(found)? == order => same += 1,
            // Another order, and a whole one: what a writer may always send.
            Ok(_) => other += 1,
            Err(_) => refused += 1,
        }
    }
    let lies = 2 * good.len();
    assert_eq!(same + other + refused, 1 + lies);
    assert!(same >= 1 && other > 0 && refused > good.len(), "{same} {other} {refused}");
    // A change of bytes between the fields, which mean nothing, is the same order still.
    println!("{lies} lies: {refused} refused, {other} whole orders of other content, {} of no consequence", same - 1);
    Ok(())
}
