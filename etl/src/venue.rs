//! How each venue numbers its book events: the rules that say which delta comes next, which is old and which is missing.
//!
//! A venue is one row of the table below and one file with its [`Rules`]. The refinery knows nothing else about it: the
//! records are the same for all venues, and so are books, days, gaps and snapshots. A venue without a row is one that
//! numbers nothing: recorded data of somebody else's making (Tardis' files, Databento's) has no ids that a rule could use.
//!
//! ```
//! use chronicle_etl::venue::{Follows, Ids, rules};
//!
//! let spot = rules("binance-spot");
//! let event = |first, last| Ids { first, last, prev: None };
//! assert_eq!((spot.follows)(100, event(101, 105)), Follows::Next);
//! assert_eq!((spot.follows)(100, event(98, 100)), Follows::Old);
//! assert_eq!((spot.follows)(100, event(104, 105)), Follows::Break { missing_from: 101, missing_to: 103 });
//! ```
//!
//! Rules are pure functions of ids: they see no book, no time and no other event, and never decide what to do about what
//! they find.

use crate::oddity::Oddity;

mod binance;
mod met;
mod stream;

pub use met::{Met, RECENT_MAX, id_of_text};

/// The ids of one delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// First id in the event.
    pub first: u64,
    /// Last id in the event.
    pub last: u64,
    /// Last id of the event before, where the venue says it.
    pub prev: Option<u64>,
}

/// How a delta stands to the last one received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// It is the next one.
    Next,
    /// It was there before, or is older: a duplicate, or late. Not a gap.
    Old,
    /// Events between the two are missing.
    Break {
        /// First missing id.
        missing_from: u64,
        /// Last missing id; before `missing_from` if the venue's ids contradict each other instead.
        missing_to: u64,
    },
}

/// How a snapshot becomes the book that deltas change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joins {
    /// It is asked for beside the stream, and ids say which delta it is joined to: `covered` and `bridges`.
    ById,
    /// It stands in the stream: it replaces the book where it stands, whatever was before, and what follows it in the
    /// stream follows it.
    InStream,
}

/// What the ids of a venue's trades or quotes say about which of them was there before. An id of 0 is none: a record without
/// an id is never a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// They only go up: one that is not above the last was there before.
    NotAbove,
    /// They come in any order: one that is among the last [`RECENT_MAX`] was there before.
    Recent,
    /// Nothing.
    Unknown,
}

/// The rules of one venue.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The venue's name in paths and on the command line; empty for those without a row.
    pub venue: &'static str,
    /// How snapshots come. `covered` and `bridges` are asked only where by id.
    pub joins: Joins,
    /// Whether a snapshot with this last id already holds the event.
    pub covered: fn(snapshot: u64, event: Ids) -> bool,
    /// Whether an event that is not covered joins a snapshot with this last id without a hole.
    pub bridges: fn(snapshot: u64, event: Ids) -> bool,
    /// How the event stands to the one received before it.
    pub follows: fn(last: u64, event: Ids) -> Follows,
    /// Oddities that the venue's feed has by design; all are counted, these are no reason to look.
    pub ordinary: &'static [Oddity],
    /// How a repeated trade is told.
    pub trades: Repeats,
    /// How a repeated quote is told.
    pub quotes: Repeats,
}

/// The venues with rules of their own.
pub const VENUES: &[Rules] =
    &[binance::SPOT, binance::USDM, binance::COINM, stream::KRAKEN, stream::OKX, stream::COINBASE, stream::HYPERLIQUID];

/// The rules of a venue; those of a venue that numbers nothing if it has no row.
#[must_use]
pub fn rules(venue: &str) -> &'static Rules {
    VENUES.iter().find(|rules| rules.venue == venue).unwrap_or(&stream::UNNUMBERED)
}
