//! One record of every type, with every optional part once present and once absent, and its bytes written by hand.

use chronicle_protocol::{
    BookDelta, BookOrder, BookSnapshot, CountedSnapshot, Gap, GapCause, Head, Level, Opaque, OpaqueReason, OrderAction,
    OrderCount, OrderEvent, OrderType, OrdersSnapshot, Quote, Record, RecordFlags, Scale, Side, SnapshotSource, Source,
    TextTrade, Trade,
};

/// A record, and the bytes that another implementation must give for it: hex, blanks for the eye.
pub(crate) type Sample = (&'static str, Record<'static>, &'static str);

const TIMES: Head = Head {
    exchange_ns: 0x0102_0304_0506_0708,
    ingest_ns: 0x1112_1314_1516_1718,
    transact_ns: 0x2122_2324_2526_2728,
    price: Scale { exp: 0, trimmed: false },
    qty: Scale { exp: 0, trimmed: false },
};

const BIDS: [Level; 2] = [Level::new(6_183_763_000_000, 0), Level::new(-1, 5)];
const ASKS: [Level; 1] = [Level::new(i64::MAX, i64::MIN)];

const ORDERS: [BookOrder; 3] =
    [BookOrder::new(u64::MAX, 2, 3), BookOrder::new(1, 2, i64::MIN), BookOrder::new(4, -2, 5)];
const COUNTS: [OrderCount; 3] = [OrderCount::new(5), OrderCount::new(0), OrderCount::new(u32::MAX)];

pub(crate) fn samples() -> Vec<Sample> {
    let spot = Head { transact_ns: 0, price: Scale::fixed(8), qty: Scale::fixed(8), ..TIMES };
    let nanos = Head { price: Scale::trimmed(9), ..TIMES };
    let futures = Head { price: Scale::fixed(1), qty: Scale::trimmed(3), ..TIMES };
    vec![
        (
            "spot delta",
            Record::BookDelta(BookDelta {
                head: spot,
                first_id: 50_093_239_189,
                last_id: 50_093_239_202,
                prev_id: None,
                bids: &BIDS,
                asks: &ASKS,
                symbol: "BTCUSDT",
            }),
            "0807060504030201 1817161514131211 0000000000000000 f8 f8 00 07 00000000 \
             952bcaa90b000000 a22bcaa90b000000 0000000000000000 02000000 01000000 \
             c03affc49f050000 0000000000000000 ffffffffffffffff 0500000000000000 \
             ffffffffffffff7f 0000000000000080 42544355534454",
        ),
        (
            "futures delta, previous id zero, no levels",
            Record::BookDelta(BookDelta {
                head: futures,
                first_id: 1,
                last_id: 2,
                prev_id: Some(0),
                bids: &[],
                asks: &[],
                symbol: "\u{5e01}",
            }),
            "0807060504030201 1817161514131211 2827262524232221 ff fd 02 03 01000000 \
             0100000000000000 0200000000000000 0000000000000000 00000000 00000000 e5b881",
        ),
        (
            "refinery snapshot",
            Record::BookSnapshot(BookSnapshot {
                head: Head { price: Scale::trimmed(2), ..spot },
                last_id: 50_093_239_218,
                last_event_ns: 9,
                source: SnapshotSource::Refinery,
                opens_partition: true,
                bids: &ASKS,
                asks: &BIDS,
                symbol: "B",
            }),
            "0807060504030201 1817161514131211 0000000000000000 fe f8 01 01 03000000 \
             b22bcaa90b000000 01000000 02000000 0900000000000000 \
             ffffffffffffff7f 0000000000000080 \
             c03affc49f050000 0000000000000000 ffffffffffffffff 0500000000000000 42",
        ),
        (
            "venue snapshot",
            Record::BookSnapshot(BookSnapshot {
                head: Head { exchange_ns: 0, ..spot },
                last_id: 7,
                last_event_ns: 0,
                source: SnapshotSource::Venue,
                opens_partition: false,
                bids: &[],
                asks: &[],
                symbol: "B",
            }),
            "0000000000000000 1817161514131211 0000000000000000 f8 f8 00 01 00000000 \
             0700000000000000 00000000 00000000 0000000000000000 42",
        ),
        (
            "spot trade",
            Record::Trade(Trade {
                head: spot,
                trade_id: 1_520_538_925,
                price: 268_380_000_000,
                qty: 200_000,
                buyer_is_maker: true,
                order_type: None,
                legacy_m: Some(true),
                symbol: "ETHUSDT",
            }),
            "0807060504030201 1817161514131211 0000000000000000 f8 f8 00 07 31000000 \
             2d95a15a00000000 00cfb17c3e000000 400d030000000000 45544855534454",
        ),
        (
            "futures trade",
            Record::Trade(Trade {
                head: futures,
                trade_id: 3,
                price: -4,
                qty: 5,
                buyer_is_maker: false,
                order_type: Some(OrderType::Na),
                legacy_m: Some(false),
                symbol: "B",
            }),
            "0807060504030201 1817161514131211 2827262524232221 ff fd 02 01 16000000 \
             0300000000000000 fcffffffffffffff 0500000000000000 42",
        ),
        (
            "quote",
            Record::Quote(Quote {
                head: spot,
                update_id: 1,
                bid_price: 2,
                bid_qty: 3,
                ask_price: 4,
                ask_qty: 5,
                symbol: "B",
            }),
            "0807060504030201 1817161514131211 0000000000000000 f8 f8 00 01 00000000 \
             0100000000000000 0200000000000000 0300000000000000 0400000000000000 0500000000000000 42",
        ),
        (
            "gap",
            Record::Gap(Gap {
                head: TIMES,
                after_id: 50_093_247_277,
                next_id: 50_093_247_410,
                missing_from: 50_093_247_278,
                missing_to: 50_093_247_409,
                cause: GapCause::BookLost,
                carried: true,
                symbol: "B",
            }),
            "0807060504030201 1817161514131211 2827262524232221 00 00 00 01 04010000 \
             2d4bcaa90b000000 b24bcaa90b000000 2e4bcaa90b000000 b14bcaa90b000000 42",
        ),
        (
            "opaque with a symbol",
            Record::Opaque(Opaque {
                head: TIMES,
                reason: OpaqueReason::NotRepresentable,
                symbol: "B",
                bytes: b"{}\xff",
            }),
            "0807060504030201 1817161514131211 2827262524232221 00 00 00 01 02000000 42 7b7dff",
        ),
        (
            "opaque with nothing",
            Record::Opaque(Opaque {
                head: Head { exchange_ns: 0, transact_ns: 0, ..TIMES },
                reason: OpaqueReason::UnknownKind,
                symbol: "",
                bytes: b"",
            }),
            "0000000000000000 1817161514131211 0000000000000000 00 00 00 00 01000000",
        ),
        (
            "source, a file",
            Record::Source(Source {
                head: TIMES,
                sha256: Some([
                    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
                    27, 28, 29, 30, 31,
                ]),
                name: "f.gz",
            }),
            "0807060504030201 1817161514131211 2827262524232221 00 00 00 04 01000000 \
             0001020304050607 08090a0b0c0d0e0f \
             1011121314151617 18191a1b1c1d1e1f 662e677a",
        ),
        (
            "source, a feed",
            Record::Source(Source { head: TIMES, sha256: None, name: "live" }),
            "0807060504030201 1817161514131211 2827262524232221 00 00 00 04 00000000 \
             0000000000000000 0000000000000000 0000000000000000 0000000000000000 6c697665",
        ),
        (
            "order event, part of a snapshot",
            Record::OrderEvent(OrderEvent {
                head: nanos,
                action: OrderAction::Add,
                side: Some(Side::Bid),
                order_id: 6_412_777_162_812,
                price: Some(4_799_000_000_000),
                qty: 2,
                sequence: 682,
                flags: RecordFlags(40),
                channel: 0,
                symbol: "ESH4",
            }),
            "0807060504030201 1817161514131211 2827262524232221 f7 00 01 04 29280000 \
             3c084e17d5050000 00b6b05a5d040000 0200000000000000 aa02000000000000 45534834",
        ),
        (
            "order event without order, price and side, the last of its event",
            Record::OrderEvent(OrderEvent {
                head: nanos,
                action: OrderAction::Clear,
                side: None,
                order_id: 0,
                price: None,
                qty: 0,
                sequence: 0,
                flags: RecordFlags::LAST,
                channel: 255,
                symbol: "B",
            }),
            "0807060504030201 1817161514131211 2827262524232221 f7 00 01 01 0480ff00 \
             0000000000000000 0000000000000000 0000000000000000 0000000000000000 42",
        ),
        (
            "snapshot of orders by the refinery",
            Record::OrdersSnapshot(OrdersSnapshot {
                head: nanos,
                sequence: 4960,
                last_event_ns: 9,
                source: SnapshotSource::Refinery,
                opens_partition: true,
                bids: &ORDERS[..2],
                asks: &ORDERS[2..],
                symbol: "B",
            }),
            "0807060504030201 1817161514131211 2827262524232221 f7 00 01 01 03000000 \
             6013000000000000 0900000000000000 02000000 01000000 \
             ffffffffffffffff 0200000000000000 0300000000000000 \
             0100000000000000 0200000000000000 0000000000000080 \
             0400000000000000 feffffffffffffff 0500000000000000 42",
        ),
        (
            "snapshot of orders by the venue, empty",
            Record::OrdersSnapshot(OrdersSnapshot {
                head: nanos,
                sequence: 0,
                last_event_ns: 0,
                source: SnapshotSource::Venue,
                opens_partition: false,
                bids: &[],
                asks: &[],
                symbol: "B",
            }),
            "0807060504030201 1817161514131211 2827262524232221 f7 00 01 01 00000000 \
             0000000000000000 0000000000000000 00000000 00000000 42",
        ),
        (
            "trade with a text id",
            Record::TextTrade(TextTrade {
                head: futures,
                id: "c0ffee-1",
                price: -4,
                qty: 5,
                side: Some(Side::Ask),
                sequence: 6,
                flags: RecordFlags(130),
                symbol: "XBTUSD",
            }),
            "0807060504030201 1817161514131211 2827262524232221 ff fd 02 06 02088200 \
             fcffffffffffffff 0500000000000000 0600000000000000 6330666665652d31 584254555344",
        ),
        (
            "trade without id and side",
            Record::TextTrade(TextTrade {
                head: futures,
                id: "",
                price: 4,
                qty: 5,
                side: None,
                sequence: 0,
                flags: RecordFlags(0),
                symbol: "B",
            }),
            "0807060504030201 1817161514131211 2827262524232221 ff fd 02 01 00000000 \
             0400000000000000 0500000000000000 0000000000000000 42",
        ),
        (
            "counted snapshot",
            Record::CountedSnapshot(CountedSnapshot {
                book: BookSnapshot {
                    head: spot,
                    last_id: 7,
                    last_event_ns: 0,
                    source: SnapshotSource::Venue,
                    opens_partition: false,
                    bids: &ASKS,
                    asks: &BIDS,
                    symbol: "BTC",
                },
                bid_counts: &COUNTS[..1],
                ask_counts: &COUNTS[1..],
            }),
            "0807060504030201 1817161514131211 0000000000000000 f8 f8 00 03 00000000 \
             0700000000000000 01000000 02000000 0000000000000000 \
             ffffffffffffff7f 0000000000000080 \
             c03affc49f050000 0000000000000000 ffffffffffffffff 0500000000000000 \
             05000000 00000000 ffffffff 425443",
        ),
    ]
}

/// The bytes of a sample's hex.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.bytes().filter(|b| !b.is_ascii_whitespace()).map(|b| (b as char).to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
