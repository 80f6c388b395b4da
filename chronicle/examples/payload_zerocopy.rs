//! A record of fixed layout through a queue, with zerocopy: written from where it stands, read by copy or in place.
//!
//! `cargo run -p chronicle --example payload_zerocopy`
//!
//! By copy needs no trust: whoever writes the queue can make the numbers wrong, nothing else. In place is for programs
//! that say, in one `unsafe` line, that what was committed does not change.

use chronicle::{
    Append, System, Trusted,
    storage::queue::{Profile, PublisherOptions, Queue, Start, SubscriberOptions},
};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{I64, U16, U32},
};

/// What the payload is: `type_id` of its frames.
const QUOTE: u16 = 7;

/// The byte order is in the types, and every bit pattern is a value: that is what zerocopy checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Quote {
    bid: I64,
    ask: I64,
    bid_quantity: U32,
    ask_quantity: U32,
    venue: U16,
    flags: U16,
    zero: U32,
}

// The layout once more: who reads it elsewhere counts on this.
const _: () = assert!(size_of::<Quote>() == 32 && std::mem::offset_of!(Quote, venue) == 24);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("quotes");
    let mut publisher = Queue::publisher(&System, &path, PublisherOptions::new(Profile::Orders))?;
    let quote = |n: i64| Quote {
        bid: (100 - n).into(),
        ask: (101 + n).into(),
        bid_quantity: 5.into(),
        ask_quantity: 6.into(),
        venue: 3.into(),
        flags: 0.into(),
        zero: 0.into(),
    };
    for n in 0..100 {
        publisher.append(Append { time_ns: n as u64, type_id: QUOTE, flags: 0 }, quote(n).as_bytes())?;
    }
    // A record of a later version, longer than this program knows, and one that is too short to be any.
    let longer = [quote(100).as_bytes(), &[1; 8]].concat();
    publisher.append(Append { time_ns: 100, type_id: QUOTE, flags: 0 }, &longer)?;
    publisher.append(Append { time_ns: 101, type_id: QUOTE, flags: 0 }, &longer[..31])?;

    let from_the_oldest = SubscriberOptions { start: Start::Earliest, ..SubscriberOptions::default() };
    let mut reader = Queue::observer(&System, &path, from_the_oldest.clone())?;
    let (mut read, mut refused) = (0, 0);
    while let Some(frame) = reader.next()? {
        match frame.payload.read::<Quote>(0) {
            Some(found) => {
                assert_eq!(found, quote(read));
                read += 1;
            }
            None => refused += 1,
        }
    }
    assert_eq!((read, refused), (101, 1));

    // SAFETY: the directory is this program's, made above with a name that nobody knows, and its only writer is above.
    let trusted = unsafe { Trusted::assert() };
    let mut reader = Queue::observer(&System, &path, SubscriberOptions { trusted: Some(trusted), ..from_the_oldest })?;
    let (trusted, mut in_place) = (reader.trusted(), 0);
    while let Some(frame) = reader.next()? {
        let bytes = frame.payload.as_slice(trusted.as_ref()).ok_or("this reader is trusted")?;
        if let Ok((found, _)) = Quote::ref_from_prefix(bytes) {
            assert_eq!(found, &quote(in_place));
            in_place += 1;
        }
    }
    assert_eq!(in_place, read);
    println!("{read} quotes by copy, {in_place} in place, {refused} too short");
    Ok(())
}
