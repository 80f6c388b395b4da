//! Market data as bytes: one record, one layout, from the first microsecond to the tenth year.
//!
//! A [`Record`] is what a feed appends to the raw queue, what the refinery writes into a partition and what a replay
//! gives back; the payload bytes are the same in all three places. A frame around it says which record it is
//! (`type_id`) and carries one clock; the record carries every other fact the venue sent: its times, its ids, its
//! prices and quantities as exact decimals, its own name of the symbol.
//!
//! Use it to read a payload ([`Record::parse`], which borrows and copies nothing) and to write one
//! ([`Record::encode`], into a buffer that the caller owns):
//!
//! ```
//! use chronicle_protocol::{Head, Record, Scale, Trade, type_id};
//!
//! let trade = Trade {
//!     head: Head {
//!         exchange_ns: 1_723_161_256_322_000_000,
//!         ingest_ns: 1_723_161_255_088_176_367,
//!         transact_ns: 1_723_161_256_322_000_000,
//!         price: Scale::fixed(2),
//!         qty: Scale::fixed(3),
//!     },
//!     trade_id: 5_266_583_935,
//!     price: 6_180_030,
//!     qty: 6,
//!     buyer_is_maker: false,
//!     order_type: None,
//!     legacy_m: None,
//!     symbol: "BTCUSDT",
//! };
//! let mut bytes = [0; 128];
//! let len = trade.encode(&mut bytes).unwrap();
//!
//! let Ok(Record::Trade(again)) = Record::parse(type_id::TRADE, &bytes[..len]) else { panic!() };
//! assert_eq!(again, trade);
//! assert_eq!(again.head.price.decimal(again.price).to_string(), "61800.30");
//! assert_eq!(again.head.qty.decimal(again.qty).to_string(), "0.006");
//! ```
//!
//! What this crate never does: it does not allocate, read a clock, know a venue's rules or know a frame; it never
//! rounds a number; it never trusts a length or a count in the bytes; it never accepts two spellings of one record:
//! whatever [`Record::parse`] accepts, [`Record::encode`] gives again byte for byte.
//!
//! Where to look: [`layout`] draws the bytes, [`decimal`] has the rules of exact text.

#![no_std]
#![forbid(unsafe_code)]

pub mod decimal;
pub mod layout;
mod record;

pub use decimal::{Decimal, DecimalText, NotExact, Scale, ScaleFinder};
pub use layout::{BookOrder, Level, OrderCount, type_id};
pub use record::{
    BookDelta, BookSnapshot, CountedSnapshot, EncodeError, Gap, GapCause, Head, Malformed, Opaque, OpaqueReason,
    OrderAction, OrderEvent, OrderType, OrdersSnapshot, Quote, Record, RecordFlags, Side, SnapshotSource, Source,
    TextTrade, Trade,
};
