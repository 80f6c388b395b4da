//! Any raw frames, refined: never a panic; every record of the venue comes out once and is counted once; sealed partitions
//! stay as they are; books are in order.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use chronicle_core::Append;
use chronicle_etl::refinery::{Place, RawFrame, Refinery, Sink};
use chronicle_etl::report::Report;
use chronicle_etl::venue::VENUES;
use chronicle_fuzz::choices;
use chronicle_protocol::{
    BookDelta, BookSnapshot, Gap, GapCause, Head, Level, Opaque, OpaqueReason, OrderAction, OrderEvent, Quote, Record,
    RecordFlags, Scale, Side, SnapshotSource, Trade,
};
use chronicle_storage::root::{Name, Stream};
use libfuzzer_sys::fuzz_target;

#[derive(Default)]
struct Partitions {
    frames: BTreeMap<Place, u64>,
    sealed: BTreeSet<Place>,
}

impl Sink for Partitions {
    type Error = Infallible;

    fn append(&mut self, place: Place, frame: Append, payload: &[u8]) -> Result<(), Infallible> {
        assert!(!self.sealed.contains(&place), "{place:?} was sealed");
        Record::parse(frame.type_id, payload).expect("what comes out is a record");
        *self.frames.entry(place).or_default() += 1;
        Ok(())
    }

    fn seal(&mut self, place: Place) -> Result<(), Infallible> {
        assert!(self.frames.contains_key(&place), "{place:?} has no frames");
        assert!(self.sealed.insert(place), "{place:?} was sealed");
        Ok(())
    }
}

const DAY_NS: u64 = 86_400_000_000_000;

/// A record of few bytes: what it is, when it happened and came, its ids, its levels.
fn record(step: &[u8; 12], bytes: &mut Vec<u8>) -> (u16, u64) {
    let [kind, who, event, ingest, id, more, b0, b1, a0, a1, q, flags] = *step;
    let time = |at: u8| match at % 16 {
        0 => 0,
        1 => u64::MAX - u64::from(at),
        _ => 19_943 * DAY_NS + u64::from(at / 16) * (DAY_NS / 8) + u64::from(at % 16) * 20_000_000_000,
    };
    let (exchange_ns, ingest_ns) = (time(event), time(ingest));
    let scale = Scale { exp: -((flags % 3) as i8), trimmed: flags & 8 != 0 };
    let head = Head { exchange_ns, ingest_ns, transact_ns: 0, price: scale, qty: scale };
    let without_numbers = Head { price: Scale::default(), qty: Scale::default(), ..head };
    let symbol = ["A", "B/C", "..", "\u{1F600}"][usize::from(who) % 4];
    let qty = |q: u8| i64::from(q % 4);
    let bids = [Level::new(1_000 - i64::from(b0), qty(q)), Level::new(1_000 + i64::from(b1 % 8), qty(q >> 2))];
    let asks = [Level::new(1_001 + i64::from(a0), qty(q >> 4)), Level::new(1_001 - i64::from(a1 % 8), qty(q >> 6))];
    let (bids, asks) = (&bids[..usize::from(flags >> 4 & 1) + 1], &asks[..usize::from(flags >> 5 & 1) + 1]);
    let (first_id, last_id) = (u64::from(id), u64::from(id) + u64::from(more % 4));
    let (price, qty) = (1_000 + i64::from(b0), qty(q));
    let record = match kind % 8 {
        0..3 => {
            let prev_id = (flags & 64 != 0).then_some(first_id.wrapping_sub(1));
            Record::BookDelta(BookDelta { head, first_id, last_id, prev_id, bids, asks, symbol })
        }
        3 => Record::BookSnapshot(BookSnapshot {
            head,
            last_id,
            last_event_ns: 0,
            source: if flags & 128 == 0 { SnapshotSource::Venue } else { SnapshotSource::Refinery },
            opens_partition: false,
            bids,
            asks,
            symbol,
        }),
        4 => Record::Trade(Trade {
            head,
            trade_id: first_id,
            price,
            qty,
            buyer_is_maker: false,
            order_type: None,
            legacy_m: None,
            symbol,
        }),
        5 => Record::Quote(Quote {
            head,
            update_id: last_id,
            bid_price: price,
            bid_qty: qty,
            ask_price: price,
            ask_qty: qty,
            symbol,
        }),
        6 if more < 128 => Record::Gap(Gap {
            head: without_numbers,
            after_id: first_id,
            next_id: last_id,
            missing_from: u64::from(b0),
            missing_to: u64::from(b1),
            cause: [GapCause::Sequence, GapCause::Late, GapCause::RawLost, GapCause::BookLost][usize::from(q % 4)],
            carried: false,
            symbol,
        }),
        6 => Record::Opaque(Opaque {
            head: without_numbers,
            reason: OpaqueReason::UnknownKind,
            symbol: if flags & 1 == 0 { symbol } else { "" },
            bytes: step,
        }),
        _ => Record::OrderEvent(OrderEvent {
            head,
            action: OrderAction::ALL[usize::from(more) % OrderAction::ALL.len()],
            side: [None, Some(Side::Bid), Some(Side::Ask)][usize::from(b1 % 3)],
            order_id: u64::from(id % 16),
            price: (a0 != 0).then_some(price),
            qty,
            sequence: u64::from(a1),
            flags: RecordFlags(flags),
            channel: 0,
            symbol,
        }),
    };
    bytes.resize(record.encoded_len(), 0);
    let len = record.encode(bytes).expect("it fits its own length");
    bytes.truncate(len);
    (record.type_id(), ingest_ns)
}

fuzz_target!(|data: &[u8]| {
    let (choice, script) = choices(data);
    let rules = &VENUES[usize::from(choice) % VENUES.len()];
    let mut refinery = Refinery::new(Name::new(rules.venue).expect("a name"));
    let (mut partitions, mut given, mut bytes) = (Partitions::default(), 0_u64, Vec::new());
    for step in script.as_chunks::<12>().0 {
        match step[0] {
            255 => refinery.raw_lost(),
            254 => refinery.seal(&mut partitions).unwrap_or_else(|never| match never {}),
            _ => {
                let (type_id, ingest_ns) = record(step, &mut bytes);
                if step[0] & 0x40 != 0 {
                    // Bytes that nobody wrote, for once.
                    let at = usize::from(step[2]) % bytes.len();
                    bytes[at] ^= step[3];
                }
                let taken = refinery.frame(RawFrame { ingest_ns, type_id, payload: &bytes }, &mut partitions);
                given += u64::from(taken.is_ok());
            }
        }
    }
    for symbol in refinery.symbols() {
        let book = symbol.book();
        assert!(book.bids().is_sorted_by(|a, b| a.0 > b.0) && book.asks().is_sorted_by(|a, b| a.0 < b.0));
        assert!(book.bids().chain(book.asks()).all(|(_, qty)| qty != 0));
        assert_eq!((book.bid_count(), book.ask_count()), (book.bids().count(), book.asks().count()));
    }
    let before = Report::of(&refinery);
    refinery.seal(&mut partitions).unwrap_or_else(|never| match never {});
    let report = Report::of(&refinery);
    let events = |report: &Report| report.partitions.iter().map(|row| row.counts.events).sum::<u64>();
    assert_eq!((events(&report), report.waiting), (given, 0), "each record comes out once");
    assert!(before.partitions.len() <= report.partitions.len());
    for row in report.partitions.iter().filter(|row| row.stream != Stream::Late) {
        let c = row.counts;
        let parts = c.applied + c.dropped_before_snapshot + c.duplicates + c.not_applied;
        assert!(parts <= c.events && c.events <= parts + row.snapshots, "each record is counted once: {row:?}");
        assert!(row.oddities.is_none_or(|oddities| row.unexpected == Some(oddities.unexpected(rules.ordinary))));
    }
});
