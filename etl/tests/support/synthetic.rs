//! Raw frames made by hand: small, and with everything in them that a venue does wrong.

#![allow(dead_code)]

use chronicle_protocol::{
    BookDelta, BookSnapshot, Gap, GapCause, Head, Level, Opaque, OpaqueReason, Quote, Record, Scale, SnapshotSource,
    Source, Trade,
};

use crate::support::{Raw, date};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

/// `2024-08-08` and the days after it.
pub(crate) fn day(n: u64) -> u64 {
    date("2024-08-08").start_ns() + n * DAY
}

pub(crate) fn head(exchange_ns: u64, ingest_ns: u64) -> Head {
    Head { exchange_ns, ingest_ns, transact_ns: 0, price: Scale::fixed(2), qty: Scale::fixed(1) }
}

/// A spot delta with ids `first..=last` that sets a level per id.
pub(crate) fn delta(symbol: &str, first: u64, last: u64, exchange_ns: u64, ingest_ns: u64) -> Raw {
    let bids: Vec<_> = (first..=last).map(|id| Level::new(10_000 - (id % 50) as i64, (id % 7) as i64)).collect();
    let asks: Vec<_> = (first..=last).map(|id| Level::new(10_001 + (id % 60) as i64, (id % 5) as i64)).collect();
    let record = Record::BookDelta(BookDelta {
        head: head(exchange_ns, ingest_ns),
        first_id: first,
        last_id: last,
        prev_id: None,
        bids: &bids,
        asks: &asks,
        symbol,
    });
    Raw::of(&record, ingest_ns)
}

pub(crate) fn snapshot(symbol: &str, last_id: u64, ingest_ns: u64) -> Raw {
    let bids: Vec<_> = (0..50).map(|i| Level::new(10_000 - i, 1)).collect();
    let asks: Vec<_> = (0..60).map(|i| Level::new(10_001 + i, 2)).collect();
    let record = Record::BookSnapshot(BookSnapshot {
        head: head(0, ingest_ns),
        last_id,
        last_event_ns: 0,
        source: SnapshotSource::Venue,
        opens_partition: false,
        bids: &bids,
        asks: &asks,
        symbol,
    });
    Raw::of(&record, ingest_ns)
}

pub(crate) fn quote(symbol: &str, update_id: u64, ingest_ns: u64) -> Raw {
    let record = Record::Quote(Quote {
        head: head(0, ingest_ns),
        update_id,
        bid_price: 10_000,
        bid_qty: 1,
        ask_price: 10_001,
        ask_qty: 2,
        symbol,
    });
    Raw::of(&record, ingest_ns)
}

pub(crate) fn trade(symbol: &str, trade_id: u64, exchange_ns: u64, ingest_ns: u64) -> Raw {
    let record = Record::Trade(Trade {
        head: head(exchange_ns, ingest_ns),
        trade_id,
        price: 10_000,
        qty: 3,
        buyer_is_maker: false,
        order_type: None,
        legacy_m: Some(true),
        symbol,
    });
    Raw::of(&record, ingest_ns)
}

pub(crate) fn opaque(symbol: &str, bytes: &[u8], exchange_ns: u64, ingest_ns: u64) -> Raw {
    let record = Record::Opaque(Opaque {
        head: Head { exchange_ns, ingest_ns, ..Head::default() },
        reason: if symbol.is_empty() { OpaqueReason::NoSymbol } else { OpaqueReason::UnknownKind },
        symbol,
        bytes,
    });
    Raw::of(&record, ingest_ns)
}

pub(crate) fn feed_gap(symbol: &str, ingest_ns: u64) -> Raw {
    let record = Record::Gap(Gap {
        head: Head { ingest_ns, ..Head::default() },
        after_id: 0,
        next_id: 0,
        missing_from: 0,
        missing_to: 0,
        cause: GapCause::RawLost,
        carried: false,
        symbol,
    });
    Raw::of(&record, ingest_ns)
}

/// What a feed says when ids begin again at `next`, though `after` was seen.
pub(crate) fn going_back(symbol: &str, after: u64, next: u64, exchange_ns: u64, ingest_ns: u64) -> Raw {
    let record = Record::Gap(Gap {
        head: Head { exchange_ns, ingest_ns, ..Head::default() },
        after_id: after,
        next_id: next,
        missing_from: after + 1,
        missing_to: next - 1,
        cause: GapCause::Sequence,
        carried: false,
        symbol,
    });
    Raw::of(&record, ingest_ns)
}

pub(crate) fn source(name: &str, digest: u8, ingest_ns: u64) -> Raw {
    let record = Record::Source(Source { head: Head::default(), sha256: Some([digest; 32]), name });
    Raw::of(&record, ingest_ns)
}

/// One symbol over midnight: quotes before any time, deltas before the snapshot, minutes, a duplicate, a gap that a
/// second snapshot heals, another one over midnight, a third snapshot, late records, and a record that is opaque.
pub(crate) fn stormy(symbol: &str, file: &str) -> Vec<Raw> {
    let midnight = day(1);
    let mut frames = vec![source(file, file.len() as u8, midnight - 10 * MINUTE)];
    let mut time = midnight - 10 * MINUTE;
    let mut id = 1_000;
    frames.push(quote(symbol, id - 1, time));
    frames.push(opaque(symbol, b"{\"e\":\"kline\"}", 0, time));
    for step in 0..160_u64 {
        time += 7_300_000_000;
        // The recorder's clock runs behind the venue's.
        let ingest = time - 1_250_000_000;
        let (first, last) = (id + 1, id + 1 + step % 3);
        id = last;
        match step {
            3 => frames.push(snapshot(symbol, id - 4, ingest)),
            // Lost: two gaps.
            40 | 41 | 78 => continue,
            50 => frames.push(snapshot(symbol, id - 5, ingest)),
            110 => frames.push(snapshot(symbol, id - 2, ingest)),
            _ => {}
        }
        let next = delta(symbol, first, last, time, ingest);
        frames.push(next.clone());
        frames.push(quote(symbol, last, ingest + 1));
        frames.push(trade(symbol, step + 1, time, ingest + 2));
        match step {
            20 | 90 => {
                frames.extend([next, quote(symbol, last, ingest + 3), trade(symbol, step + 1, time, ingest + 3)])
            }
            30 => frames.push(opaque(symbol, b"{\"e\":\"aggTrade\"}", time, ingest + 4)),
            31 => frames.push(opaque("", b"{\"result\":null}", 0, ingest + 5)),
            _ => {}
        }
    }
    // More than an hour after midnight: late, and it closes the first day.
    let after = midnight + HOUR + 5 * MINUTE;
    frames.push(trade(symbol, 500, midnight - MINUTE, after));
    frames.push(delta(symbol, id + 1, id + 2, midnight - MINUTE, after + 1));
    frames.push(quote(symbol, id + 2, after + 2));
    frames.push(trade(symbol, 501, after, after + 3));
    frames.push(delta(symbol, id + 3, id + 4, after, after + 4));
    frames
}
