//! What a live feed did and met, in numbers and in events, for people and for machines.

use std::fmt;

use serde::Serialize;

use super::raw::RawCounts;

/// Counted since the feed began. Numbers only go up, but for those that say what is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Messages received.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Deltas, trades, quotes and snapshots kept.
    pub deltas: u64,
    /// See `deltas`.
    pub trades: u64,
    /// See `deltas`.
    pub quotes: u64,
    /// See `deltas`.
    pub snapshots: u64,
    /// Messages kept verbatim, malformed ones not among them.
    pub opaque: u64,
    /// Messages that are none, kept verbatim.
    pub malformed: u64,
    /// Deltas whose ids nothing confirmed, kept verbatim.
    pub lies: u64,
    /// Records of symbols that were not asked for, kept verbatim.
    pub unasked: u64,
    /// What two connections said, kept once.
    pub duplicates: u64,
    /// What one connection said twice, kept as it came.
    pub repeated: u64,
    /// Deltas that came before one that they follow, put in order.
    pub reordered: u64,
    /// Holes in the ids of a book.
    pub gaps: u64,
    /// Times that the ids of a book went back for good.
    pub went_back: u64,
    /// Checksums of the venue's that the book had.
    pub checksums: u64,
    /// Those that it had not.
    pub checksum_mismatches: u64,
    /// Connections opened.
    pub connections: u64,
    /// Connections that ended otherwise than by us.
    pub disconnects: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Connections that took over from an old one without a hole.
    pub handovers: u64,
    /// Snapshots that could not be had at the first attempt.
    pub snapshot_failures: u64,
    /// Steps of the wall clock.
    pub clock_steps: u64,
    /// Gap markers written: for what was dropped, for books that are wrong, for ids that begin anew.
    pub gap_markers: u64,
    /// Books that are whole now.
    pub books_whole: u64,
    /// Books that are followed.
    pub books: u64,
    /// Where records went.
    pub raw: RawCounts,
}

/// Something worth a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A connection is open.
    Connected {
        /// To where.
        to: String,
    },
    /// No connection could be opened.
    ConnectFailed {
        /// Why.
        why: String,
        /// When it is tried again.
        retry_ms: u64,
    },
    /// A connection ended otherwise than by us.
    Disconnected {
        /// How.
        why: String,
        /// When it is tried again.
        retry_ms: u64,
    },
    /// A second connection is opened because the first is old.
    Renewing {
        /// Why.
        why: String,
    },
    /// The second connection has taken over.
    HandedOver,
    /// Ids are missing in a book.
    Gap {
        /// Of this symbol.
        symbol: String,
        /// First missing.
        missing_from: u64,
        /// Last missing.
        missing_to: u64,
    },
    /// The ids of a book went back for good.
    WentBack {
        /// Of this symbol.
        symbol: String,
        /// Last id before.
        seen: u64,
    },
    /// A book is whole.
    Whole {
        /// Of this symbol.
        symbol: String,
        /// Up to this id.
        last_id: u64,
    },
    /// A snapshot could not be had.
    SnapshotFailed {
        /// Of this symbol.
        symbol: String,
        /// Why.
        why: String,
        /// When it is asked for again.
        retry_ms: u64,
    },
    /// A message that is none; told for the first few only, all are counted.
    Malformed {
        /// What is wrong with it.
        why: String,
    },
    /// Ids that nothing confirmed.
    Lie {
        /// Of this symbol.
        symbol: String,
        /// The id.
        id: u64,
    },
    /// A book is not what the venue's checksum says.
    ChecksumMismatch {
        /// Of this symbol.
        symbol: String,
    },
    /// Something is wrong with the raw queue; the feed goes on.
    RawTrouble {
        /// What.
        why: String,
    },
    /// The raw queue is full: records go to disk.
    Overflowing,
    /// They are all in the raw queue now.
    Drained,
    /// The overflow is full too: records are lost, and the stream says so.
    Dropping {
        /// Of this symbol.
        symbol: String,
    },
    /// Somebody set the wall clock.
    ClockStep {
        /// By so much; negative is back.
        by_ms: i64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { to } => write!(f, "connected to {to}"),
            Self::ConnectFailed { why, retry_ms } => write!(f, "no connection: {why}; again in {retry_ms} ms"),
            Self::Disconnected { why, retry_ms } => write!(f, "disconnected: {why}; again in {retry_ms} ms"),
            Self::Renewing { why } => write!(f, "a second connection: {why}"),
            Self::HandedOver => f.write_str("the second connection has taken over"),
            Self::Gap { symbol, missing_from, missing_to } => {
                write!(f, "{symbol}: ids {missing_from} to {missing_to} are missing; a snapshot is asked for")
            }
            Self::WentBack { symbol, seen } => {
                write!(f, "{symbol}: ids went back from {seen}; a snapshot is asked for")
            }
            Self::Whole { symbol, last_id } => write!(f, "{symbol}: the book is whole, id {last_id}"),
            Self::SnapshotFailed { symbol, why, retry_ms } => {
                write!(f, "{symbol}: no snapshot: {why}; again in {retry_ms} ms")
            }
            Self::Malformed { why } => write!(f, "a malformed message, kept verbatim: {why}"),
            Self::Lie { symbol, id } => write!(f, "{symbol}: nothing confirms id {id}; the message is kept verbatim"),
            Self::ChecksumMismatch { symbol } => {
                write!(f, "{symbol}: the book has not the venue's checksum; it is subscribed anew")
            }
            Self::RawTrouble { why } => write!(f, "the raw queue: {why}"),
            Self::Overflowing => f.write_str("the raw queue is full: records go to the overflow queue on disk"),
            Self::Drained => f.write_str("the overflow queue is drained"),
            Self::Dropping { symbol } => {
                write!(f, "{symbol}: the overflow queue is full too: records are lost, and the stream will say so")
            }
            Self::ClockStep { by_ms } => write!(f, "the wall clock was set by {by_ms} ms"),
        }
    }
}
