//! The venues, by the names that a user types, and the seam behind which each of them lives.
//!
//! A venue is one row of the table below and one module with its `Dialect`: how the text of one message becomes records.
//! Recordings and live connections read through the same dialects, so what is proved on the one holds for the other.
//! How a venue numbers its book, and how a snapshot is joined to what follows, is in [`continuity`](crate::continuity);
//! what it says about its book to check it by (a checksum, its best prices) comes out beside each record as [`Proof`].
//!
//! ```
//! use chronicle_feed::{Scratch, Venue};
//! use chronicle_protocol::Record;
//!
//! let mut scratch = Scratch::default(); // one for each connection: its memory is used again and again
//! let text = r#"{"stream":"ethusdt@trade","data":{"e":"trade","E":1723161255612,"s":"ETHUSDT","t":1520538925,"p":"2683.80000000","q":"0.00200000","T":1723161255611,"m":true,"M":true}}"#;
//! let message = Venue::BinanceSpot.read(text, 1_723_161_254_340_863_867, &mut scratch).unwrap();
//! assert_eq!(message.kind(), "trade");
//! for item in message.items() {
//!     let Record::Trade(trade) = item.record else { panic!() };
//!     assert_eq!((trade.symbol, trade.trade_id), ("ETHUSDT", 1_520_538_925));
//! }
//! ```
//!
//! **One message, one or many records.** Some venues put several trades into a message. [`Message::items`] gives its
//! records in the venue's order; there is always at least one. A message is kept as records or verbatim as one opaque
//! record, never half of each; a text that is no message at all gives a [`Flaw`] and no record.
//!
//! **No allocation.** [`Venue::read`] asks nothing of the heap once the [`Scratch`] has grown to the largest message so
//! far. Nothing here keeps a copy of the text: records borrow from the text and from the scratch.

use core::fmt;
use core::str::FromStr;

use chronicle_protocol::{
    BookDelta, BookSnapshot, CountedSnapshot, DecimalText, Head, Level, Opaque, OpaqueReason, OrderCount, OrderType,
    Quote, Record, SnapshotSource, Trade,
};

use crate::fields::Unfit;
use crate::flaw::Flaw;
use crate::levels::{LevelDigits, Store};
use crate::times::AHEAD_NS_MAX;
use crate::{binance, coinbase, hyperliquid, kraken, okx};

/// Memory that one message after another is read store.
///
/// It grows to what the largest message needed, and keeps that.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The levels of all parts, each side contiguous.
    pub(crate) levels: Vec<Level>,
    /// While levels differ in their decimals: those of price and quantity, one for each level.
    pub(crate) decimals: Vec<[u8; 2]>,
    /// Levels of one side that wait for those of the other, where a venue mixes them.
    pub(crate) aside: Vec<LevelDigits>,
    /// How many orders stand at levels, of venues that say it.
    pub(crate) counts: Vec<OrderCount>,
    /// What the message says, in order.
    pub(crate) parts: Vec<Part>,
}

impl Scratch {
    pub(crate) fn clear(&mut self) {
        self.levels.clear();
        self.decimals.clear();
        self.aside.clear();
        self.counts.clear();
        self.parts.clear();
    }

    /// The message, once its parts are in here.
    pub(crate) fn message<'a>(&'a self, kind: &'a str, text: &'a str) -> Message<'a> {
        debug_assert!(!self.parts.is_empty(), "every message is at least one record");
        Message { kind, text, levels: &self.levels, counts: &self.counts, parts: &self.parts }
    }

    /// A part of the message that was read last, of which this is the text.
    pub(crate) fn item<'a>(&'a self, index: usize, text: &'a str) -> Option<Item<'a>> {
        let record = |part: &Part| part.record(text, &self.levels, &self.counts);
        self.parts.get(index).map(|part| Item { record: record(part), proof: part.proof })
    }

    /// Where levels are read to.
    #[inline]
    pub(crate) fn store(&mut self) -> Store<'_> {
        Store { levels: &mut self.levels, decimals: &mut self.decimals }
    }

    /// The whole message becomes one opaque record.
    pub(crate) fn verbatim(&mut self, head: Head, symbol: &str, text: &str, reason: OpaqueReason) {
        self.parts.clear();
        let what = What::Opaque { reason };
        self.parts.push(Part { head, symbol: Span::of(symbol, text), what, proof: Proof::default() });
    }

    /// The message with the parts that were read; verbatim, as one of this symbol, if they do not hold it or if a time of
    /// theirs cannot be meant. `is_book` says that without its parts the book of the symbol is wrong.
    pub(crate) fn keep<'a>(
        &'a mut self,
        kind: &'a str,
        text: &'a str,
        received_ns: u64,
        symbol: &str,
        is_book: bool,
        outcome: Result<(), Unfit>,
    ) -> Result<Message<'a>, Flaw> {
        let ahead = received_ns.saturating_add(AHEAD_NS_MAX);
        let reason = match outcome {
            Err(Unfit::Flaw(flaw)) => return Err(flaw),
            Err(Unfit::Verbatim(reason)) => Some(reason),
            Ok(()) if self.parts.is_empty() => Some(OpaqueReason::UnknownKind),
            Ok(()) => self.parts.iter().any(|p| p.head.exchange_ns > ahead).then_some(OpaqueReason::AbsurdTime),
        };
        if let Some(reason) = reason {
            self.verbatim(Head { ingest_ns: received_ns, ..Head::default() }, symbol, text, reason);
            let breaks = is_book && reason != OpaqueReason::UnknownKind;
            self.parts.iter_mut().for_each(|part| part.proof.breaks = breaks);
        }
        Ok(self.message(kind, text))
    }
}

/// Bytes of a text, or levels of a scratch, from .. to. No text that is read has 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    from: u32,
    to: u32,
}

impl Span {
    pub(crate) fn new(from: usize, to: usize) -> Self {
        Self { from: from as u32, to: to as u32 }
    }

    /// Where `part` stands in `text`, of which it is a piece.
    pub(crate) fn of(part: &str, text: &str) -> Self {
        let from = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
        debug_assert!(part.is_empty() || from + part.len() <= text.len(), "a piece of another text");
        if part.is_empty() { Self::default() } else { Self::new(from, from + part.len()) }
    }

    pub(crate) fn text(self, text: &str) -> &str {
        &text[self.from as usize..self.to as usize]
    }

    pub(crate) fn of_list<T>(self, list: &[T]) -> &[T] {
        &list[self.from as usize..self.to as usize]
    }
}

/// One record of a message, with places instead of borrows, so that many can wait in a scratch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) head: Head,
    /// In the message's text.
    pub(crate) symbol: Span,
    pub(crate) what: What,
    pub(crate) proof: Proof,
}

/// What a [`Part`] is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Delta {
        first_id: u64,
        last_id: u64,
        prev_id: Option<u64>,
        bids: Span,
        asks: Span,
    },
    Snapshot {
        last_id: u64,
        bids: Span,
        asks: Span,
    },
    /// The same, with a count of orders for each level.
    Counted {
        bids: Span,
        asks: Span,
        bid_counts: Span,
        ask_counts: Span,
    },
    Trade {
        trade_id: u64,
        price: i64,
        qty: i64,
        buyer_is_maker: bool,
        order_type: Option<OrderType>,
        legacy_m: Option<bool>,
    },
    Quote {
        update_id: u64,
        bid_price: i64,
        bid_qty: i64,
        ask_price: i64,
        ask_qty: i64,
    },
    /// The whole text of the message.
    Opaque {
        reason: OpaqueReason,
    },
}

/// What a venue says about its book beside a change of it: something to check one's own book by, once the record that it
/// came with is applied. See [`witness`](crate::witness).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proof {
    /// The venue's checksum of the book's best levels.
    pub checksum: Option<u32>,
    /// Books of this subscription are kept to so many levels a side.
    pub depth: Option<u32>,
    /// The best bid's price and the best ask's.
    pub best: Option<[DecimalText; 2]>,
    /// The record is a change of the book that could only be kept verbatim: without it the book is wrong.
    pub breaks: bool,
}

/// One record of a message, and what the venue said to check the book by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Item<'a> {
    /// The record; its symbol is empty if the message names none.
    pub record: Record<'a>,
    /// To be checked after the record is applied.
    pub proof: Proof,
}

/// One message, understood.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    kind: &'a str,
    text: &'a str,
    levels: &'a [Level],
    counts: &'a [OrderCount],
    parts: &'a [Part],
}

impl<'a> Message<'a> {
    /// The venue's word for the kind of message, for counting.
    #[must_use]
    pub fn kind(&self) -> &'a str {
        self.kind
    }

    /// The message itself, for keeping it verbatim.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Its records, at least one, in the venue's order.
    #[inline]
    pub fn items(&self) -> impl ExactSizeIterator<Item = Item<'a>> + use<'a> {
        let Self { text, levels, counts, .. } = *self;
        self.parts.iter().map(move |part| Item { record: part.record(text, levels, counts), proof: part.proof })
    }
}

impl Part {
    #[inline]
    fn record<'a>(&self, text: &'a str, levels: &'a [Level], counts: &'a [OrderCount]) -> Record<'a> {
        let (head, symbol) = (self.head, self.symbol.text(text));
        let snapshot = |last_id, bids: Span, asks: Span| BookSnapshot {
            head,
            last_id,
            last_event_ns: 0,
            source: SnapshotSource::Venue,
            opens_partition: false,
            bids: bids.of_list(levels),
            asks: asks.of_list(levels),
            symbol,
        };
        match self.what {
            What::Delta { first_id, last_id, prev_id, bids, asks } => {
                let (bids, asks) = (bids.of_list(levels), asks.of_list(levels));
                Record::BookDelta(BookDelta { head, first_id, last_id, prev_id, bids, asks, symbol })
            }
            What::Snapshot { last_id, bids, asks } => Record::BookSnapshot(snapshot(last_id, bids, asks)),
            What::Counted { bids, asks, bid_counts, ask_counts } => Record::CountedSnapshot(CountedSnapshot {
                book: snapshot(0, bids, asks),
                bid_counts: bid_counts.of_list(counts),
                ask_counts: ask_counts.of_list(counts),
            }),
            What::Trade { trade_id, price, qty, buyer_is_maker, order_type, legacy_m } => {
                Record::Trade(Trade { head, trade_id, price, qty, buyer_is_maker, order_type, legacy_m, symbol })
            }
            What::Quote { update_id, bid_price, bid_qty, ask_price, ask_qty } => {
                Record::Quote(Quote { head, update_id, bid_price, bid_qty, ask_price, ask_qty, symbol })
            }
            What::Opaque { reason } => Record::Opaque(Opaque { head, reason, symbol, bytes: text.as_bytes() }),
        }
    }
}

/// How a venue's messages are read. One module each; see [`crate::venue`].
pub(crate) trait Dialect: Sync {
    /// The kinds that it makes records of, counted even when there are none.
    fn kinds(&self) -> &'static [&'static str];

    /// Reads the text of one message, received at `received_ns`, into `scratch`.
    ///
    /// Only what stands in this text counts: a dialect remembers nothing from message to message.
    fn read<'a>(&self, text: &'a str, received_ns: u64, scratch: &'a mut Scratch) -> Result<Message<'a>, Flaw>;
}

macro_rules! venues {
    ($($(#[$doc:meta])* $venue:ident = $name:literal => $dialect:expr;)*) => {
        /// A venue whose messages can be read.
        ///
        /// ```
        /// use chronicle_feed::Venue;
        ///
        /// let venue: Venue = "binance-spot".parse().unwrap();
        /// assert_eq!(venue, Venue::BinanceSpot);
        /// assert_eq!(venue.to_string(), "binance-spot");
        /// let unknown = "binance".parse::<Venue>().unwrap_err().to_string();
        /// assert!(unknown.starts_with("venue `binance` is not known: binance-spot, binance-usdm, "), "{unknown}");
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Venue {
            $($(#[$doc])* $venue,)*
        }

        impl Venue {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$venue),*];

            /// The name in paths and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$venue => $name,)*
                }
            }

            fn dialect(self) -> &'static dyn Dialect {
                match self {
                    $(Self::$venue => &$dialect,)*
                }
            }
        }
    };
}

venues! {
    /// Binance spot.
    BinanceSpot = "binance-spot" => binance::Spot;
    /// Binance futures settled in a stablecoin.
    BinanceUsdm = "binance-usdm" => binance::Futures;
    /// Binance futures settled in the coin.
    BinanceCoinm = "binance-coinm" => binance::Futures;
    /// Kraken spot, both versions of its messages.
    Kraken = "kraken" => kraken::Kraken;
    /// OKX, all its markets.
    Okx = "okx" => okx::Okx;
    /// Coinbase Exchange.
    Coinbase = "coinbase" => coinbase::Coinbase;
    /// Hyperliquid.
    Hyperliquid = "hyperliquid" => hyperliquid::Hyperliquid;
}

impl Venue {
    /// The kinds of messages that records are made of.
    #[must_use]
    pub fn kinds(self) -> &'static [&'static str] {
        self.dialect().kinds()
    }

    /// Reads the text of one message, which was received at `received_ns` (ns since 1970, the time of the records).
    ///
    /// Keep the `scratch` for the next message: then nothing is asked of the heap.
    ///
    /// # Errors
    ///
    /// What is wrong with a text that is no message of this venue. Nothing of it is kept.
    pub fn read<'a>(self, text: &'a str, received_ns: u64, scratch: &'a mut Scratch) -> Result<Message<'a>, Flaw> {
        // Spans are of 32 bits.
        if u32::try_from(text.len()).is_err() {
            return Err(Flaw::TooLong { most: u32::MAX as usize });
        }
        scratch.clear();
        self.dialect().read(text, received_ns, scratch)
    }
}

impl fmt::Display for Venue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no venue's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVenue {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownVenue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "venue `{}` is not known: ", self.name.escape_debug())?;
        for (i, venue) in Venue::ALL.iter().enumerate() {
            write!(f, "{}{venue}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(" are")
    }
}

impl core::error::Error for UnknownVenue {}

impl FromStr for Venue {
    type Err = UnknownVenue;

    fn from_str(name: &str) -> Result<Self, UnknownVenue> {
        Self::ALL.iter().copied().find(|v| v.name() == name).ok_or_else(|| UnknownVenue { name: name.to_owned() })
    }
}
