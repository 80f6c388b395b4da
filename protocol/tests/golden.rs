//! The bytes of the records are a promise to every file ever written: each record is compared with bytes that were
//! written down by hand from the drawing in `layout`, in both directions. If one of these differs, files written
//! before can no longer be read, and the new layout needs a `type_id` of its own.

mod samples;

use chronicle_protocol::{
    BookOrder, CountedSnapshot, EncodeError, Head, Level, Opaque, OpaqueReason, Quote, Record, RecordFlags, Scale,
    TextTrade,
};
use samples::{bytes, samples};

#[test]
fn records_have_the_bytes_of_the_drawing() {
    for (name, record, hex) in samples() {
        let golden = bytes(hex);
        assert_eq!(record.encoded_len(), golden.len(), "{name}");
        let mut out = vec![0xaa; golden.len() + 8];
        assert_eq!(record.encode(&mut out), Ok(golden.len()), "{name}");
        assert_eq!(out[..golden.len()], golden, "{name}");
        assert_eq!(out[golden.len()..], [0xaa; 8], "{name}: wrote behind its end");
        assert_eq!(Record::parse(record.type_id(), &golden), Ok(record), "{name}");
    }
}

#[test]
fn a_buffer_that_is_too_short_is_refused_and_left_alone() {
    for (name, record, _) in samples() {
        let needed = record.encoded_len();
        for left in 0..needed {
            let mut out = vec![0xaa; left];
            assert_eq!(record.encode(&mut out), Err(EncodeError::Short { needed, left }), "{name}");
            assert!(out.iter().all(|b| *b == 0xaa), "{name}");
        }
    }
}

#[test]
fn what_no_payload_can_hold_is_refused() {
    let mut out = vec![0; 1024];
    for (name, record, _) in samples() {
        let long = "x".repeat(256);
        assert_eq!(record.with_symbol(&long).encode(&mut out), Err(EncodeError::SymbolLen { len: 256 }), "{name}");
        let longest = "x".repeat(255);
        assert!(record.with_symbol(&longest).encode(&mut out).is_ok(), "{name}");
        let empty = record.with_symbol("").encode(&mut out);
        match record {
            Record::Opaque(_) => assert!(empty.is_ok(), "{name}"),
            _ => assert_eq!(empty, Err(EncodeError::SymbolLen { len: 0 }), "{name}"),
        }
    }
    let head = Head { qty: Scale::fixed(1), ..Head::default() };
    let opaque = Opaque { head, reason: OpaqueReason::NoSymbol, symbol: "", bytes: b"" };
    assert_eq!(opaque.encode(&mut out), Err(EncodeError::ScaleWithoutNumbers));
    for (_, record, _) in samples() {
        match record {
            Record::TextTrade(trade) => {
                let id = "x".repeat(256);
                assert_eq!(TextTrade { id: &id, ..trade }.encode(&mut out), Err(EncodeError::IdLen { len: 256 }));
                assert!(TextTrade { id: &id[..255], ..trade }.encode(&mut out).is_ok());
            }
            Record::CountedSnapshot(counted) => {
                let counted = CountedSnapshot { bid_counts: &[], ..counted };
                assert_eq!(counted.encode(&mut out), Err(EncodeError::CountsDiffer { levels: 1, counts: 0 }));
            }
            _ => {}
        }
    }
}

#[test]
fn accessors_answer_for_every_type() {
    let names: Vec<_> = samples().iter().map(|(_, r, _)| (r.type_id(), r.type_name())).collect();
    for expected in [
        (1, "book_delta"),
        (2, "book_snapshot"),
        (3, "trade"),
        (4, "quote"),
        (5, "gap"),
        (6, "opaque"),
        (7, "source"),
        (8, "order_event"),
        (9, "orders_snapshot"),
        (10, "text_trade"),
        (11, "counted_snapshot"),
    ] {
        assert!(names.contains(&expected), "{expected:?}");
    }
    for (name, record, _) in samples() {
        let renamed = record.with_symbol("OTHER");
        assert_eq!(renamed.symbol(), "OTHER", "{name}");
        assert_eq!(renamed.head(), record.head(), "{name}");
        assert_eq!(renamed.with_symbol(record.symbol()), record, "{name}");
    }
    let quote = Quote {
        head: Head { price: Scale::fixed(2), qty: Scale::trimmed(3), ..Head::default() },
        update_id: 0,
        bid_price: 6_180_020,
        bid_qty: 2_500,
        ask_price: 6_180_030,
        ask_qty: 0,
        symbol: "B",
    };
    assert_eq!(quote.head.price.decimal(quote.bid_price).to_string(), "61800.20");
    assert_eq!(quote.head.qty.decimal(quote.bid_qty).to_string(), "2.5");
    assert_eq!(format!("{:?}", Level::new(-3, 4)), "-3 x 4");
    assert_eq!(format!("{:?}", BookOrder::new(7, -3, 4)), "#7 -3 x 4");
    let last_of_a_snapshot = RecordFlags::LAST.with(RecordFlags::SNAPSHOT);
    assert_eq!(last_of_a_snapshot, RecordFlags(160), "Databento's bits");
    assert!(RecordFlags(168).has(last_of_a_snapshot) && !RecordFlags(40).has(last_of_a_snapshot));
}
