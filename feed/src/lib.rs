//! Recorded market data into Chronicle's records.
//!
//! A recording is a file of a venue's own messages, one a line, with the time at which each was received; or what a vendor
//! of recordings makes of them. This crate turns each into records of `chronicle-protocol`, ready for a raw stream, and
//! says what it could not turn:
//!
//! ```
//! use chronicle_feed::{Venue, import};
//!
//! let file = br#"1723161254024619568 {"stream":"ethusdt@bookTicker","data":{"u":35346513501,"s":"ETHUSDT","b":"2683.80000000","B":"3.02920000","a":"2683.81000000","A":"31.43950000"}}
//! "#;
//! let mut stored = 0;
//! let report = import(Venue::BinanceSpot, "ethusdt.gz", &file[..], |parsed| {
//!     stored += parsed.payload.len();
//!     Ok::<(), std::convert::Infallible>(())
//! })
//! .unwrap();
//! assert!(report.is_clean());
//! assert_eq!(report.by_kind["bookTicker"], 1);
//! assert_eq!(stored, 32 + 40 + 7);
//! ```
//!
//! - [`Recorded`], [`Format`], [`look`]: a file of any format, told by its content. The formats have a module each:
//!   [`tardis`], [`databento`], and [`mod@import`] for venues' own messages, one a line.
//! - [`Recording`], [`import()`], [`check`]: reading messages, with the rules for damage and for symbols in [`mod@import`].
//! - [`Venue`]: the venues; each is one row of a table and one file. [`Venue::read`] reads one message, recorded or live.
//! - [`continuity`]: which record is next, which a duplicate, what is missing, when a snapshot and deltas are a book.
//! - [`Report`]: what was found, as `chronicle import --json` prints it.
//! - [`Pace`]: when a recorded message is due in a playback.
//! - [`written`]: the other way, records in their venue's words.
//!
//! - `live` (with the feature of that name): a venue's own stream, over sockets, into a raw stream.
//!
//! What this crate never does outside of `live`: it knows no storage and no operating system, opens no file, reads no clock,
//! starts no thread, never sleeps. Nowhere does it drop a message in silence: every line is a record or is counted as
//! malformed.

#![forbid(unsafe_code)]

mod binance;
mod coinbase;
pub mod continuity;
pub mod databento;
mod fields;
mod flaw;
mod format;
mod hyperliquid;
pub mod import;
mod json;
mod kraken;
mod levels;
mod line;
#[cfg(feature = "live")]
pub mod live;
mod okx;
mod pace;
mod recorded;
pub mod report;
mod staged;
pub mod tardis;
mod text;
mod times;
mod unpack;
pub mod venue;
pub mod witness;
pub mod written;

pub use flaw::Flaw;
pub use format::{Format, LOOK_LEN, Look, UnknownFormat, look};
pub use import::{ImportError, LINE_LEN_MAX, Parsed, ReadError, Recording, check, import};
pub use pace::Pace;
pub use recorded::Recorded;
pub use report::{MALFORMED_LINES_MAX, MalformedLine, Report};
pub use text::Cut;
pub use unpack::unpack;
pub use venue::{Message, Scratch, UnknownVenue, Venue};
