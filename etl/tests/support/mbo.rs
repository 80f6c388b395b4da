//! Databento's `mbo` records of the recordings as order events, read by hand from the published layout: an opinion of its
//! own, beside that of whoever imports such files.

use chronicle_protocol::{Head, OrderAction, OrderEvent, Record, RecordFlags, Scale, Side};

use super::support::{Raw, shared};

/// The order events of a file, or nothing, said aloud.
pub(crate) fn mbo(name: &str, symbol: &str) -> Option<Vec<Raw>> {
    let bytes = zstd::decode_all(&shared(&format!("databento/{name}"))?[..]).unwrap();
    assert_eq!(&bytes[..3], b"DBN");
    let u64_at = |record: &[u8], at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
    let u32_at = |record: &[u8], at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap());
    let mut rest = &bytes[8 + u32_at(&bytes, 4) as usize..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (record, behind) = rest.split_at(usize::from(rest[0]) * 4);
        rest = behind;
        assert_eq!((record.len(), record[1]), (56, 160), "an mbo record");
        let ingest_ns = u64_at(record, 40);
        let event = OrderEvent {
            head: Head {
                exchange_ns: u64_at(record, 8),
                ingest_ns,
                transact_ns: ingest_ns.wrapping_sub(u32_at(record, 48) as i32 as u64),
                price: Scale::trimmed(9),
                qty: Scale::fixed(0),
            },
            action: match record[38] {
                b'A' => OrderAction::Add,
                b'M' => OrderAction::Modify,
                b'C' => OrderAction::Cancel,
                b'R' => OrderAction::Clear,
                b'T' => OrderAction::Trade,
                b'F' => OrderAction::Fill,
                other => panic!("{other}"),
            },
            side: match record[39] {
                b'B' => Some(Side::Bid),
                b'A' => Some(Side::Ask),
                _ => None,
            },
            order_id: u64_at(record, 16),
            price: Some(u64_at(record, 24) as i64).filter(|price| *price != i64::MAX),
            qty: u32_at(record, 32).into(),
            sequence: u32_at(record, 52).into(),
            flags: RecordFlags(record[36]),
            channel: record[37],
            symbol,
        };
        frames.push(Raw::of(&Record::OrderEvent(event), ingest_ns));
    }
    Some(frames)
}
