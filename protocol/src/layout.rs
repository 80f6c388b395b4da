//! The bytes of every record, drawn, declared once and proved at compile time.
//!
//! All integers are little-endian; nothing is aligned by itself, every field lies at a multiple of its size. A payload
//! is one head, the fixed part of its type, its levels if it has any, and the symbol as the last bytes ([`type_id::OPAQUE`]
//! has the symbol before the venue's bytes, so that those are "the rest"). The payload's length must be exactly
//! what its counts and `symbol_len` say. Bits and fields called zero are written as zero and required to be zero.
//!
//! ```text
//! Head, 32 B, opens every record
//!   0               8               16              24  25  26  27  28
//!   +---------------+---------------+---------------+---+---+---+---+-------+
//!   | exchange_ns   | ingest_ns     | transact_ns   | pe| qe| tx| sl| marks |
//!   +---------------+---------------+---------------+---+---+---+---+-------+
//!   exchange_ns  u64  the venue's event time (Binance `E`), ns since 1970; 0 = the venue sent none
//!   ingest_ns    u64  the receive time of the recording, ns since 1970
//!   transact_ns  u64  the matching engine's time (Binance `T`), ns since 1970; 0 = none
//!   pe price_exp i8   a price is mantissa x 10^price_exp
//!   qe qty_exp   i8   a quantity is mantissa x 10^qty_exp
//!   tx text      u8   bit 0: prices are trimmed (no trailing zero after the point, no trailing point), else fixed
//!                     (exactly -price_exp decimals); bit 1: the same for quantities; bits 2..7 zero
//!   sl           u8   symbol_len, bytes of UTF-8; at least 1, in an opaque record also 0
//!   marks        u32  per type, below; all other bits zero
//!
//! Level, 16 B           0               8               16
//!                       | price i64     | qty i64       |        mantissas
//!
//! 1 BookDelta           marks bit 0: prev_id is given (else it is zero)
//!   0      32         40         48         56          60          64
//!   | Head | first_id | last_id  | prev_id  | bid_count | ask_count | bids .. | asks .. | symbol |
//!
//! 2 BookSnapshot        marks bit 0: made by the refinery (else the venue's own); bit 1: opens a partition
//!   0      32         40          44          48              56
//!   | Head | last_id  | bid_count | ask_count | last_event_ns | bids .. | asks .. | symbol |
//!   last_event_ns  exchange time of the last delta in the book; 0 = none (a venue's own snapshot)
//!
//! 3 Trade               marks bit 0: the buyer is the maker; bits 1..3: order type, 0 not given, 1 MARKET,
//!                       2 INSURANCE_FUND, 3 NA; bit 4: `M` is given; bit 5: its value
//!   0      32         40          48         56
//!   | Head | trade_id | price i64 | qty i64  | symbol |
//!
//! 4 Quote               marks zero
//!   0      32          40          48        56          64        72
//!   | Head | update_id | bid_price | bid_qty | ask_price | ask_qty | symbol |
//!
//! 5 Gap                 marks bits 0..7: cause, 1 sequence, 2 late, 3 raw_lost, 4 book_lost; bit 8: carried over
//!                       midnight. price_exp, qty_exp and text are zero.
//!   0      32         40        48             56           64
//!   | Head | after_id | next_id | missing_from | missing_to | symbol |
//!
//! 6 Opaque              marks bits 0..7: reason, 1 unknown kind, 2 not representable, 3 absurd time, 4 no symbol
//!                       known. price_exp, qty_exp and text are zero.
//!   0      32
//!   | Head | symbol | the venue's bytes, verbatim .. |
//!
//! 7 Source              marks bit 0: sha256 is given (else it is zero). price_exp, qty_exp and text are zero; the name
//!                       stands where others have their symbol. Only in raw streams: what follows it came from there.
//!   0      32       64
//!   | Head | sha256 | name |
//!
//! 8 OrderEvent          marks bits 0..2: action, 1 add, 2 modify, 3 cancel, 4 clear, 5 trade, 6 fill, 7 none;
//!                       bits 3..4: side, 0 none, 1 bid, 2 ask; bit 5: price is given (else it is zero);
//!                       bits 8..15: flags; bits 16..23: channel
//!   0      32         40      48    56         64
//!   | Head | order_id | price | qty | sequence | symbol |
//!   flags  bit 7: last record of its event; bit 5: part of a snapshot; the others as Databento's record flags, verbatim
//!
//! 9 OrdersSnapshot      marks bit 0: made by the refinery (else the venue's own); bit 1: opens a partition
//!   0      32         40              48          52          56
//!   | Head | sequence | last_event_ns | bid_count | ask_count | bids .. | asks .. | symbol |
//!
//! BookOrder, 24 B       0               8               16              24
//!                       | order_id u64  | price i64     | qty i64       |      the best price first, the first in its queue first
//!
//! 10 TextTrade          marks bits 0..1: side of the aggressor, 0 not known, 1 bid, 2 ask; bits 8..15: id_len;
//!                       bits 16..23: flags, as in an order event
//!   0      32      40    48         56
//!   | Head | price | qty | sequence | id | symbol |
//!
//! 11 CountedSnapshot    as 2; how many orders stand at each level, u32 each, follows the levels
//!   0                   56
//!   | as BookSnapshot   | bids .. | asks .. | counts of bids .. | counts of asks .. | symbol |
//! ```
//!
//! A layout is never changed: another layout of the same facts gets another `type_id`. The structs below are the
//! drawing a second time, for the compiler; use [`Record`](crate::Record) to read and write.

use core::mem::{offset_of, size_of};

use static_assertions::const_assert_eq;
use zerocopy::byteorder::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What a frame's `type_id` says about its payload. A new version of a record is a new number.
pub mod type_id {
    /// Levels that changed in a book.
    pub const BOOK_DELTA: u16 = 1;
    /// A book.
    pub const BOOK_SNAPSHOT: u16 = 2;
    /// A trade.
    pub const TRADE: u16 = 3;
    /// The best bid and the best offer.
    pub const QUOTE: u16 = 4;
    /// Ids that are missing in a stream.
    pub const GAP: u16 = 5;
    /// A venue's message that no other record holds, verbatim.
    pub const OPAQUE: u16 = 6;
    /// Where the records behind it came from. Only in raw streams.
    pub const SOURCE: u16 = 7;
    /// What happened to one order.
    pub const ORDER_EVENT: u16 = 8;
    /// A book, order by order.
    pub const ORDERS_SNAPSHOT: u16 = 9;
    /// A trade whose id is a text, or that has none.
    pub const TEXT_TRADE: u16 = 10;
    /// A book, with the number of orders at each level.
    pub const COUNTED_SNAPSHOT: u16 = 11;
}

/// Bits of [`HeadLayout::text`].
pub mod text {
    /// Prices are trimmed.
    pub const PRICE_TRIMMED: u8 = 1;
    /// Quantities are trimmed.
    pub const QTY_TRIMMED: u8 = 2;
}

/// Bits and codes of [`HeadLayout::marks`], per type.
pub mod marks {
    /// Book delta: `prev_id` is given.
    pub const DELTA_HAS_PREV: u32 = 1;
    /// Book snapshot: made by the refinery.
    pub const SNAPSHOT_REFINERY: u32 = 1;
    /// Book snapshot: opens a partition.
    pub const SNAPSHOT_OPENS: u32 = 1 << 1;
    /// Trade: the buyer is the maker.
    pub const TRADE_BUYER_IS_MAKER: u32 = 1;
    /// Trade: first bit of the order type.
    pub const TRADE_ORDER_TYPE_SHIFT: u32 = 1;
    /// Trade: the bits of the order type.
    pub const TRADE_ORDER_TYPE_MASK: u32 = 0b111 << TRADE_ORDER_TYPE_SHIFT;
    /// Trade: the field `M` is given.
    pub const TRADE_HAS_M: u32 = 1 << 4;
    /// Trade: the value of the field `M`.
    pub const TRADE_M: u32 = 1 << 5;
    /// Gap and opaque: the bits of cause and reason.
    pub const CODE_MASK: u32 = 0xff;
    /// Gap: carried over midnight.
    pub const GAP_CARRIED: u32 = 1 << 8;
    /// Source: `sha256` is given.
    pub const SOURCE_HAS_SHA256: u32 = 1;
    /// Order event: the bits of the action.
    pub const ORDER_ACTION_MASK: u32 = 0b111;
    /// Order event: first bit of the side.
    pub const ORDER_SIDE_SHIFT: u32 = 3;
    /// Order event: the price is given.
    pub const ORDER_HAS_PRICE: u32 = 1 << 5;
    /// Order event: first bit of the flags.
    pub const ORDER_FLAGS_SHIFT: u32 = 8;
    /// Order event: first bit of the channel.
    pub const ORDER_CHANNEL_SHIFT: u32 = 16;
    /// Text trade: first bit of the length of the id.
    pub const TEXT_TRADE_ID_SHIFT: u32 = 8;
    /// Text trade: first bit of the flags.
    pub const TEXT_TRADE_FLAGS_SHIFT: u32 = 16;
    /// A side, where its shift puts it.
    pub const SIDE_MASK: u32 = 0b11;
}

/// The first 32 bytes of every record.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct HeadLayout {
    /// The venue's event time, ns; 0 = none.
    pub exchange_ns: U64,
    /// The recording's receive time, ns.
    pub ingest_ns: U64,
    /// The matching engine's time, ns; 0 = none.
    pub transact_ns: U64,
    /// Exponent of ten of prices.
    pub price_exp: i8,
    /// Exponent of ten of quantities.
    pub qty_exp: i8,
    /// Text rules, see [`text`].
    pub text: u8,
    /// Bytes of the symbol.
    pub symbol_len: u8,
    /// Bits per type, see [`marks`].
    pub marks: U32,
}

const_assert_eq!(size_of::<HeadLayout>(), 32);
const_assert_eq!(offset_of!(HeadLayout, exchange_ns), 0);
const_assert_eq!(offset_of!(HeadLayout, ingest_ns), 8);
const_assert_eq!(offset_of!(HeadLayout, transact_ns), 16);
const_assert_eq!(offset_of!(HeadLayout, price_exp), 24);
const_assert_eq!(offset_of!(HeadLayout, qty_exp), 25);
const_assert_eq!(offset_of!(HeadLayout, text), 26);
const_assert_eq!(offset_of!(HeadLayout, symbol_len), 27);
const_assert_eq!(offset_of!(HeadLayout, marks), 28);

/// A price and the quantity at it, as mantissas; the record's head has the exponents.
///
/// Lists of levels are borrowed from a payload as they lie there.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Level {
    /// Mantissa of the price.
    pub price: I64,
    /// Mantissa of the quantity; in a delta, 0 removes the price.
    pub qty: I64,
}

impl Level {
    /// A level from its two mantissas.
    #[must_use]
    pub const fn new(price: i64, qty: i64) -> Self {
        Self { price: I64::new(price), qty: I64::new(qty) }
    }

    /// The price's mantissa.
    #[must_use]
    pub const fn price(&self) -> i64 {
        self.price.get()
    }

    /// The quantity's mantissa.
    #[must_use]
    pub const fn qty(&self) -> i64 {
        self.qty.get()
    }
}

impl core::fmt::Debug for Level {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} x {}", self.price(), self.qty())
    }
}

const_assert_eq!(size_of::<Level>(), 16);
const_assert_eq!(offset_of!(Level, qty), 8);

/// Fixed part of a book delta, after the head.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct BookDeltaLayout {
    /// First id in the event (Binance `U`).
    pub first_id: U64,
    /// Last id in the event (Binance `u`).
    pub last_id: U64,
    /// Last id of the event before (Binance `pu`); zero unless marked as given.
    pub prev_id: U64,
    /// Number of bid levels.
    pub bid_count: U32,
    /// Number of ask levels.
    pub ask_count: U32,
}

const_assert_eq!(size_of::<BookDeltaLayout>(), 32);
const_assert_eq!(offset_of!(BookDeltaLayout, last_id), 8);
const_assert_eq!(offset_of!(BookDeltaLayout, prev_id), 16);
const_assert_eq!(offset_of!(BookDeltaLayout, bid_count), 24);
const_assert_eq!(offset_of!(BookDeltaLayout, ask_count), 28);

/// Fixed part of a book snapshot, after the head.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct BookSnapshotLayout {
    /// The last id in the book (Binance `lastUpdateId`).
    pub last_id: U64,
    /// Number of bid levels.
    pub bid_count: U32,
    /// Number of ask levels.
    pub ask_count: U32,
    /// Exchange time of the last delta applied, ns; 0 = none.
    pub last_event_ns: U64,
}

const_assert_eq!(size_of::<BookSnapshotLayout>(), 24);
const_assert_eq!(offset_of!(BookSnapshotLayout, bid_count), 8);
const_assert_eq!(offset_of!(BookSnapshotLayout, ask_count), 12);
const_assert_eq!(offset_of!(BookSnapshotLayout, last_event_ns), 16);

/// Fixed part of a trade, after the head.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct TradeLayout {
    /// The venue's trade id.
    pub trade_id: U64,
    /// Mantissa of the price.
    pub price: I64,
    /// Mantissa of the quantity.
    pub qty: I64,
}

const_assert_eq!(size_of::<TradeLayout>(), 24);
const_assert_eq!(offset_of!(TradeLayout, price), 8);
const_assert_eq!(offset_of!(TradeLayout, qty), 16);

/// Fixed part of a quote, after the head.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct QuoteLayout {
    /// The book's update id that the quote belongs to.
    pub update_id: U64,
    /// Mantissa of the best bid's price.
    pub bid_price: I64,
    /// Mantissa of the best bid's quantity.
    pub bid_qty: I64,
    /// Mantissa of the best ask's price.
    pub ask_price: I64,
    /// Mantissa of the best ask's quantity.
    pub ask_qty: I64,
}

const_assert_eq!(size_of::<QuoteLayout>(), 40);
const_assert_eq!(offset_of!(QuoteLayout, bid_price), 8);
const_assert_eq!(offset_of!(QuoteLayout, bid_qty), 16);
const_assert_eq!(offset_of!(QuoteLayout, ask_price), 24);
const_assert_eq!(offset_of!(QuoteLayout, ask_qty), 32);

/// Fixed part of a gap, after the head.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct GapLayout {
    /// The last id before the gap.
    pub after_id: U64,
    /// The first id after it.
    pub next_id: U64,
    /// The first missing id.
    pub missing_from: U64,
    /// The last missing id.
    pub missing_to: U64,
}

const_assert_eq!(size_of::<GapLayout>(), 32);
const_assert_eq!(offset_of!(GapLayout, next_id), 8);
const_assert_eq!(offset_of!(GapLayout, missing_from), 16);
const_assert_eq!(offset_of!(GapLayout, missing_to), 24);

/// Fixed part of a source, after the head.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct SourceLayout {
    /// SHA-256 of the file; zero unless marked as given.
    pub sha256: [u8; 32],
}

const_assert_eq!(size_of::<SourceLayout>(), 32);

/// Fixed part of an order event, after the head.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct OrderEventLayout {
    /// The venue's id of the order; 0 = none.
    pub order_id: U64,
    /// Mantissa of the price; zero unless marked as given.
    pub price: I64,
    /// Mantissa of the quantity.
    pub qty: I64,
    /// The venue's number of the message; 0 = none.
    pub sequence: U64,
}

const_assert_eq!(size_of::<OrderEventLayout>(), 32);
const_assert_eq!(offset_of!(OrderEventLayout, price), 8);
const_assert_eq!(offset_of!(OrderEventLayout, qty), 16);
const_assert_eq!(offset_of!(OrderEventLayout, sequence), 24);

/// One order of a book, its numbers as mantissas; the record's head has the exponents.
///
/// Lists of orders are borrowed from a payload as they lie there.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct BookOrder {
    /// The venue's id.
    pub order_id: U64,
    /// Mantissa of the price.
    pub price: I64,
    /// Mantissa of the quantity.
    pub qty: I64,
}

impl BookOrder {
    /// An order from its id and its two mantissas.
    #[must_use]
    pub const fn new(order_id: u64, price: i64, qty: i64) -> Self {
        Self { order_id: U64::new(order_id), price: I64::new(price), qty: I64::new(qty) }
    }

    /// The venue's id.
    #[must_use]
    pub const fn order_id(&self) -> u64 {
        self.order_id.get()
    }

    /// The price's mantissa.
    #[must_use]
    pub const fn price(&self) -> i64 {
        self.price.get()
    }

    /// The quantity's mantissa.
    #[must_use]
    pub const fn qty(&self) -> i64 {
        self.qty.get()
    }
}

impl core::fmt::Debug for BookOrder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "#{} {} x {}", self.order_id(), self.price(), self.qty())
    }
}

const_assert_eq!(size_of::<BookOrder>(), 24);
const_assert_eq!(offset_of!(BookOrder, price), 8);
const_assert_eq!(offset_of!(BookOrder, qty), 16);

/// Fixed part of a snapshot of orders, after the head.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct OrdersSnapshotLayout {
    /// The venue's number of the last message in the book; 0 = none.
    pub sequence: U64,
    /// Exchange time of the last event in the book, ns; 0 = none.
    pub last_event_ns: U64,
    /// Number of bids.
    pub bid_count: U32,
    /// Number of asks.
    pub ask_count: U32,
}

const_assert_eq!(size_of::<OrdersSnapshotLayout>(), 24);
const_assert_eq!(offset_of!(OrdersSnapshotLayout, last_event_ns), 8);
const_assert_eq!(offset_of!(OrdersSnapshotLayout, bid_count), 16);
const_assert_eq!(offset_of!(OrdersSnapshotLayout, ask_count), 20);

/// Fixed part of a trade with a text id, after the head.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct TextTradeLayout {
    /// Mantissa of the price.
    pub price: I64,
    /// Mantissa of the quantity.
    pub qty: I64,
    /// The venue's number of the message; 0 = none.
    pub sequence: U64,
}

const_assert_eq!(size_of::<TextTradeLayout>(), 24);
const_assert_eq!(offset_of!(TextTradeLayout, qty), 8);
const_assert_eq!(offset_of!(TextTradeLayout, sequence), 16);

/// How many orders stand at a level.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct OrderCount(U32);

impl OrderCount {
    /// So many.
    #[must_use]
    pub const fn new(count: u32) -> Self {
        Self(U32::new(count))
    }

    /// The number.
    #[must_use]
    pub const fn get(&self) -> u32 {
        self.0.get()
    }
}

impl core::fmt::Debug for OrderCount {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.get().fmt(f)
    }
}

const_assert_eq!(size_of::<OrderCount>(), 4);
