//! Records read from payload bytes, and written into them.
//!
//! One struct per type serves both ways: read, it borrows its levels, symbol and bytes from the payload; written, it
//! borrows them from the caller. The counts in a payload are a stranger's words: they are checked against the
//! payload's length before anything is borrowed by them, and a payload that is longer or shorter than they say is refused.
//!
//! Never here: an allocation, a copy of levels, a default for a field that the bytes do not have.

mod counted;
mod order;
mod text_trade;

use core::fmt;
use core::mem::size_of;

use zerocopy::byteorder::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::decimal::Scale;
use crate::layout::{
    BookDeltaLayout, BookSnapshotLayout, GapLayout, HeadLayout, Level, QuoteLayout, SourceLayout, TradeLayout, marks,
    text, type_id,
};

pub use counted::CountedSnapshot;
pub use order::{OrderAction, OrderEvent, OrdersSnapshot, RecordFlags, Side};
pub use text_trade::TextTrade;

const HEAD: usize = size_of::<HeadLayout>();
const LEVEL: usize = size_of::<Level>();

/// What every record has: its times and how its numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Head {
    /// The venue's event time, ns since 1970; 0 = the venue sent none.
    pub exchange_ns: u64,
    /// The receive time of the recording, ns since 1970.
    pub ingest_ns: u64,
    /// The matching engine's time, ns since 1970; 0 = none.
    pub transact_ns: u64,
    /// How prices are written; the default where the type has none.
    pub price: Scale,
    /// How quantities are written; the default where the type has none.
    pub qty: Scale,
}

/// Levels that changed in a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookDelta<'a> {
    /// Times and scales.
    pub head: Head,
    /// First id in the event (Binance `U`).
    pub first_id: u64,
    /// Last id in the event (Binance `u`).
    pub last_id: u64,
    /// Last id of the event before, where the venue says it (Binance `pu`).
    pub prev_id: Option<u64>,
    /// Bids as the venue ordered them; quantity 0 removes the price.
    pub bids: &'a [Level],
    /// Asks as the venue ordered them; quantity 0 removes the price.
    pub asks: &'a [Level],
    /// The venue's name of the symbol.
    pub symbol: &'a str,
}

/// Who made a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotSource {
    /// The venue.
    Venue,
    /// The refinery, from the book that it carries.
    Refinery,
}

impl SnapshotSource {
    fn marks(self, opens_partition: bool) -> u32 {
        let made_by = match self {
            Self::Venue => 0,
            Self::Refinery => marks::SNAPSHOT_REFINERY,
        };
        made_by | if opens_partition { marks::SNAPSHOT_OPENS } else { 0 }
    }

    /// Who made it, and whether it opens a partition.
    fn of_marks(parts: &Parts<'_>) -> Result<(Self, bool), Malformed> {
        let marks = parts.marks(marks::SNAPSHOT_REFINERY | marks::SNAPSHOT_OPENS)?;
        let source = if marks & marks::SNAPSHOT_REFINERY == 0 { Self::Venue } else { Self::Refinery };
        Ok((source, marks & marks::SNAPSHOT_OPENS != 0))
    }
}

/// A book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookSnapshot<'a> {
    /// Times and scales.
    pub head: Head,
    /// The last id in the book (Binance `lastUpdateId`).
    pub last_id: u64,
    /// Exchange time of the last delta in the book, ns; 0 = none, as in a venue's own snapshot.
    pub last_event_ns: u64,
    /// Who made it.
    pub source: SnapshotSource,
    /// It is the carried book that opens a partition.
    pub opens_partition: bool,
    /// Bids; the refinery writes the best first.
    pub bids: &'a [Level],
    /// Asks; the refinery writes the best first.
    pub asks: &'a [Level],
    /// The venue's name of the symbol.
    pub symbol: &'a str,
}

/// A futures trade's order type (Binance `X`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderType {
    /// `MARKET`.
    Market,
    /// `INSURANCE_FUND`.
    InsuranceFund,
    /// `NA`.
    Na,
}

impl OrderType {
    /// The venue's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Market => "MARKET",
            Self::InsuranceFund => "INSURANCE_FUND",
            Self::Na => "NA",
        }
    }

    /// From the venue's text.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Option<Self> {
        [Self::Market, Self::InsuranceFund, Self::Na].into_iter().find(|t| t.as_str().as_bytes() == text)
    }

    const fn code(this: Option<Self>) -> u32 {
        match this {
            None => 0,
            Some(Self::Market) => 1,
            Some(Self::InsuranceFund) => 2,
            Some(Self::Na) => 3,
        }
    }
}

/// A trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade<'a> {
    /// Times and scales.
    pub head: Head,
    /// The venue's trade id.
    pub trade_id: u64,
    /// Mantissa of the price.
    pub price: i64,
    /// Mantissa of the quantity.
    pub qty: i64,
    /// The buyer is the maker: the seller took the bid.
    pub buyer_is_maker: bool,
    /// Order type, where given.
    pub order_type: Option<OrderType>,
    /// Binance's field `M`, where given. The venue says to ignore it; it is kept, because it was sent.
    pub legacy_m: Option<bool>,
    /// The venue's name of the symbol.
    pub symbol: &'a str,
}

/// The best bid and the best offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    /// Times and scales.
    pub head: Head,
    /// The book's update id that the quote belongs to.
    pub update_id: u64,
    /// Mantissa of the best bid's price.
    pub bid_price: i64,
    /// Mantissa of the best bid's quantity.
    pub bid_qty: i64,
    /// Mantissa of the best ask's price.
    pub ask_price: i64,
    /// Mantissa of the best ask's quantity.
    pub ask_qty: i64,
    /// The venue's name of the symbol.
    pub symbol: &'a str,
}

/// Why ids are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapCause {
    /// The venue's ids do not follow each other.
    Sequence,
    /// They arrived after their day was over.
    Late,
    /// The raw stream lost them.
    RawLost,
    /// The book that should be carried on was lost.
    BookLost,
}

impl GapCause {
    /// The word for it in files and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Late => "late",
            Self::RawLost => "raw_lost",
            Self::BookLost => "book_lost",
        }
    }

    const fn code(self) -> u32 {
        match self {
            Self::Sequence => 1,
            Self::Late => 2,
            Self::RawLost => 3,
            Self::BookLost => 4,
        }
    }
}

/// Ids that are missing in a stream; the book is not valid from here to the next snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap<'a> {
    /// Times; the scales are the default.
    pub head: Head,
    /// The last id before the gap.
    pub after_id: u64,
    /// The first id after it.
    pub next_id: u64,
    /// The first missing id.
    pub missing_from: u64,
    /// The last missing id.
    pub missing_to: u64,
    /// Why.
    pub cause: GapCause,
    /// The gap is of the day before and still open.
    pub carried: bool,
    /// The venue's name of the symbol.
    pub symbol: &'a str,
}

/// Why a message is kept verbatim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpaqueReason {
    /// A kind of message that no record holds.
    UnknownKind,
    /// A number that does not fit, or a text that would not be written again.
    NotRepresentable,
    /// Its exchange time is more than 24 h ahead of its receive time. `exchange_ns` is 0.
    AbsurdTime,
    /// It names no symbol and none could be told.
    NoSymbol,
    /// It is no message of the venue's: cut, garbled, lacking a field. A live feed keeps it as evidence.
    Malformed,
}

impl OpaqueReason {
    /// All reasons.
    pub const ALL: [Self; 5] =
        [Self::UnknownKind, Self::NotRepresentable, Self::AbsurdTime, Self::NoSymbol, Self::Malformed];

    /// The word for it in files and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownKind => "unknown_kind",
            Self::NotRepresentable => "not_representable",
            Self::AbsurdTime => "absurd_time",
            Self::NoSymbol => "no_symbol",
            Self::Malformed => "malformed",
        }
    }

    const fn code(self) -> u32 {
        match self {
            Self::UnknownKind => 1,
            Self::NotRepresentable => 2,
            Self::AbsurdTime => 3,
            Self::NoSymbol => 4,
            Self::Malformed => 5,
        }
    }
}

/// A venue's message, verbatim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opaque<'a> {
    /// Times as far as they are known; the scales are the default.
    pub head: Head,
    /// Why it is kept so.
    pub reason: OpaqueReason,
    /// The venue's name of the symbol; empty when none is known.
    pub symbol: &'a str,
    /// The message.
    pub bytes: &'a [u8],
}

/// Where the records behind it in a raw stream came from: a recorded file, or a live feed.
///
/// Without it nobody could say later which file a day was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// Times; the scales are the default.
    pub head: Head,
    /// SHA-256 of the file as it was given, compressed or not; a live feed has none.
    pub sha256: Option<[u8; 32]>,
    /// Name of the file, without directories, or the feed's id.
    pub name: &'a str,
}

/// One record of any type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// Levels that changed in a book.
    BookDelta(BookDelta<'a>),
    /// A book.
    BookSnapshot(BookSnapshot<'a>),
    /// A trade.
    Trade(Trade<'a>),
    /// The best bid and the best offer.
    Quote(Quote<'a>),
    /// Ids that are missing in a stream.
    Gap(Gap<'a>),
    /// A message kept verbatim.
    Opaque(Opaque<'a>),
    /// Where the records behind it came from.
    Source(Source<'a>),
    /// What happened to one order.
    OrderEvent(OrderEvent<'a>),
    /// A book, order by order.
    OrdersSnapshot(OrdersSnapshot<'a>),
    /// A trade whose id is a text, or that has none.
    TextTrade(TextTrade<'a>),
    /// A book, with the number of orders at each level.
    CountedSnapshot(CountedSnapshot<'a>),
}

/// A payload that no writer of ours could have made. Offsets are within the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// No record has this type id.
    UnknownType {
        /// The frame's type id.
        type_id: u16,
    },
    /// The payload ends before the fixed part of its type does.
    Short {
        /// The frame's type id.
        type_id: u16,
        /// The payload's length.
        len: usize,
        /// What the fixed part needs.
        needed: usize,
    },
    /// The payload's length is not what its counts say.
    Length {
        /// The frame's type id.
        type_id: u16,
        /// The payload's length.
        len: usize,
        /// What counts and `symbol_len` say.
        computed: u64,
    },
    /// Bits that must be zero are set.
    UnknownBits {
        /// Where.
        offset: usize,
        /// The stored word.
        stored: u32,
        /// The bits that may be set.
        known: u32,
    },
    /// A code that means nothing.
    UnknownCode {
        /// Where.
        offset: usize,
        /// The stored code.
        stored: u32,
    },
    /// A field that must be zero is not.
    NotZero {
        /// Where.
        offset: usize,
    },
    /// A record without a symbol that must have one.
    NoSymbol {
        /// The frame's type id.
        type_id: u16,
    },
    /// The symbol is not UTF-8.
    SymbolNotUtf8 {
        /// Where the symbol begins.
        offset: usize,
        /// How many of its bytes are UTF-8.
        valid_up_to: usize,
    },
    /// The id is not UTF-8.
    IdNotUtf8 {
        /// Where the id begins.
        offset: usize,
        /// How many of its bytes are UTF-8.
        valid_up_to: usize,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType { type_id } => write!(f, "record: no record has type id {type_id}"),
            Self::Short { type_id, len, needed } => {
                write!(f, "record of type {type_id}: {len} bytes, its fixed part needs {needed}")
            }
            Self::Length { type_id, len, computed } => {
                write!(f, "record of type {type_id}: {len} bytes, its counts say {computed}")
            }
            Self::UnknownBits { offset, stored, known } => {
                write!(f, "record: unknown bits at offset {offset}, stored {stored:#x}, known {known:#x}")
            }
            Self::UnknownCode { offset, stored } => write!(f, "record: unknown code {stored} at offset {offset}"),
            Self::NotZero { offset } => write!(f, "record: field at offset {offset} is not zero"),
            Self::NoSymbol { type_id } => write!(f, "record of type {type_id}: no symbol"),
            Self::SymbolNotUtf8 { offset, valid_up_to } => {
                write!(f, "record: symbol at offset {offset} is not UTF-8 after {valid_up_to} bytes")
            }
            Self::IdNotUtf8 { offset, valid_up_to } => {
                write!(f, "record: id at offset {offset} is not UTF-8 after {valid_up_to} bytes")
            }
        }
    }
}

impl core::error::Error for Malformed {}

/// Why a record was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The buffer is too small.
    Short {
        /// What the record needs, see [`Record::encoded_len`].
        needed: usize,
        /// What the buffer has.
        left: usize,
    },
    /// The symbol has no bytes (only an opaque record may lack one) or more than 255.
    SymbolLen {
        /// Its length.
        len: usize,
    },
    /// More levels or orders on one side than a `u32` counts.
    LevelCount {
        /// Their number.
        count: usize,
    },
    /// A trade's id has more than 255 bytes.
    IdLen {
        /// Its length.
        len: usize,
    },
    /// One side has not as many counts of orders as levels.
    CountsDiffer {
        /// Levels of the side.
        levels: usize,
        /// Counts of the side.
        counts: usize,
    },
    /// A gap or an opaque record with a scale: it has no numbers to scale.
    ScaleWithoutNumbers,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { needed, left } => write!(f, "buffer full: record needs {needed} bytes, {left} left"),
            Self::SymbolLen { len } => write!(f, "symbol of {len} bytes: a record holds 1 to 255"),
            Self::LevelCount { count } => write!(f, "{count} levels or orders on one side: a record holds 4294967295"),
            Self::IdLen { len } => write!(f, "id of {len} bytes: a record holds 255"),
            Self::CountsDiffer { levels, counts } => {
                write!(f, "{levels} levels on one side, {counts} counts of orders")
            }
            Self::ScaleWithoutNumbers => f.write_str("record without numbers has a scale"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// A payload being taken apart from the front.
struct Parts<'a> {
    type_id: u16,
    len: usize,
    head: HeadLayout,
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn open(type_id: u16, payload: &'a [u8]) -> Result<Self, Malformed> {
        let short = Malformed::Short { type_id, len: payload.len(), needed: HEAD };
        let (head, rest) = HeadLayout::read_from_prefix(payload).map_err(|_| short)?;
        Ok(Self { type_id, len: payload.len(), head, rest })
    }

    fn fixed<T: FromBytes + KnownLayout + Immutable + Unaligned>(&mut self) -> Result<&'a T, Malformed> {
        let short = Malformed::Short { type_id: self.type_id, len: self.len, needed: HEAD + size_of::<T>() };
        let (fixed, rest) = T::ref_from_prefix(self.rest).map_err(|_| short)?;
        self.rest = rest;
        Ok(fixed)
    }

    /// What stands on both sides, `T` each; behind it `more` bytes for each, and the symbol: exactly the rest.
    fn sides<T: FromBytes + KnownLayout + Immutable + Unaligned>(
        &mut self,
        bids: U32,
        asks: U32,
        more: usize,
    ) -> Result<(&'a [T], &'a [T]), Malformed> {
        let each = (size_of::<T>() + more) as u64;
        let before = (self.len - self.rest.len()) as u64;
        let both = u64::from(bids.get()) + u64::from(asks.get());
        let computed = before + both * each + u64::from(self.head.symbol_len);
        let length = Malformed::Length { type_id: self.type_id, len: self.len, computed };
        if computed != self.len as u64 {
            return Err(length);
        }
        // In range: the sum of all lengths equals `len`, so each of them fits a usize.
        let (bids, rest) = <[T]>::ref_from_prefix_with_elems(self.rest, bids.get() as usize).map_err(|_| length)?;
        let (asks, rest) = <[T]>::ref_from_prefix_with_elems(rest, asks.get() as usize).map_err(|_| length)?;
        self.rest = rest;
        Ok((bids, asks))
    }

    /// A text before the symbol.
    fn id(&mut self, len: usize) -> Result<&'a str, Malformed> {
        let offset = self.len - self.rest.len();
        let Some((id, rest)) = self.rest.split_at_checked(len) else {
            let computed = (offset + len) as u64 + u64::from(self.head.symbol_len);
            return Err(Malformed::Length { type_id: self.type_id, len: self.len, computed });
        };
        self.rest = rest;
        core::str::from_utf8(id).map_err(|error| Malformed::IdNotUtf8 { offset, valid_up_to: error.valid_up_to() })
    }

    /// The symbol: exactly the rest.
    fn symbol(&self) -> Result<&'a str, Malformed> {
        let computed = (self.len - self.rest.len()) as u64 + u64::from(self.head.symbol_len);
        if computed != self.len as u64 {
            return Err(Malformed::Length { type_id: self.type_id, len: self.len, computed });
        }
        self.utf8(self.rest)
    }

    fn utf8(&self, symbol: &'a [u8]) -> Result<&'a str, Malformed> {
        if symbol.is_empty() {
            return Err(Malformed::NoSymbol { type_id: self.type_id });
        }
        let offset = self.len - symbol.len();
        core::str::from_utf8(symbol)
            .map_err(|error| Malformed::SymbolNotUtf8 { offset, valid_up_to: error.valid_up_to() })
    }

    fn marks(&self, known: u32) -> Result<u32, Malformed> {
        let stored = self.head.marks.get();
        if stored & !known != 0 {
            return Err(Malformed::UnknownBits { offset: MARKS_AT, stored, known });
        }
        Ok(stored)
    }

    fn head(&self) -> Result<Head, Malformed> {
        let (stored, known) = (self.head.text, text::PRICE_TRIMMED | text::QTY_TRIMMED);
        if stored & !known != 0 {
            return Err(Malformed::UnknownBits { offset: TEXT_AT, stored: stored.into(), known: known.into() });
        }
        Ok(Head {
            exchange_ns: self.head.exchange_ns.get(),
            ingest_ns: self.head.ingest_ns.get(),
            transact_ns: self.head.transact_ns.get(),
            price: Scale { exp: self.head.price_exp, trimmed: stored & text::PRICE_TRIMMED != 0 },
            qty: Scale { exp: self.head.qty_exp, trimmed: stored & text::QTY_TRIMMED != 0 },
        })
    }

    /// The head of a record without numbers.
    fn head_without_scales(&self) -> Result<Head, Malformed> {
        for (offset, is_zero) in [
            (core::mem::offset_of!(HeadLayout, price_exp), self.head.price_exp == 0),
            (core::mem::offset_of!(HeadLayout, qty_exp), self.head.qty_exp == 0),
            (TEXT_AT, self.head.text == 0),
        ] {
            if !is_zero {
                return Err(Malformed::NotZero { offset });
            }
        }
        self.head()
    }
}

const MARKS_AT: usize = core::mem::offset_of!(HeadLayout, marks);
const TEXT_AT: usize = core::mem::offset_of!(HeadLayout, text);

/// A payload being put together from the front, wherever it goes.
struct Writer<F> {
    put: F,
    written: usize,
}

impl<F: FnMut(&[u8])> Writer<F> {
    const fn new(put: F) -> Self {
        Self { put, written: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        (self.put)(bytes);
        self.written += bytes.len();
    }

    fn head(&mut self, head: &Head, symbol: &str, marks: u32) {
        let trimmed = |yes: bool, bit: u8| if yes { bit } else { 0 };
        self.put(
            HeadLayout {
                exchange_ns: U64::new(head.exchange_ns),
                ingest_ns: U64::new(head.ingest_ns),
                transact_ns: U64::new(head.transact_ns),
                price_exp: head.price.exp,
                qty_exp: head.qty.exp,
                text: trimmed(head.price.trimmed, text::PRICE_TRIMMED) | trimmed(head.qty.trimmed, text::QTY_TRIMMED),
                // `check_symbol` came before.
                symbol_len: symbol.len() as u8,
                marks: U32::new(marks),
            }
            .as_bytes(),
        );
    }

    /// All bytes that the record said it has are written.
    fn close(self, encoded_len: usize) {
        debug_assert_eq!(self.written, encoded_len, "a record is as long as it said it would be");
    }
}

/// The front of a buffer, as long as the record that is put into it.
struct Front<'o> {
    out: &'o mut [u8],
    at: usize,
}

impl<'o> Front<'o> {
    fn of(out: &'o mut [u8], needed: usize) -> Result<Self, EncodeError> {
        let left = out.len();
        Ok(Self { out: out.get_mut(..needed).ok_or(EncodeError::Short { needed, left })?, at: 0 })
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

fn check_symbol(symbol: &str, may_be_empty: bool) -> Result<(), EncodeError> {
    match symbol.len() {
        0 if may_be_empty => Ok(()),
        1..=255 => Ok(()),
        len => Err(EncodeError::SymbolLen { len }),
    }
}

fn count<T>(side: &[T]) -> Result<U32, EncodeError> {
    u32::try_from(side.len()).map(U32::new).map_err(|_| EncodeError::LevelCount { count: side.len() })
}

fn no_scales(head: &Head) -> Result<(), EncodeError> {
    if head.price == Scale::default() && head.qty == Scale::default() {
        Ok(())
    } else {
        Err(EncodeError::ScaleWithoutNumbers)
    }
}

impl<'a> BookDelta<'a> {
    /// The payload's length.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        HEAD + size_of::<BookDeltaLayout>() + (self.bids.len() + self.asks.len()) * LEVEL + self.symbol.len()
    }

    /// Writes the payload to the front of `out` and returns its length.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut front = Front::of(out, self.encoded_len())?;
        self.write(|bytes| front.put(bytes))?;
        Ok(front.at)
    }

    /// Gives the payload out part by part, [`encoded_len`](Self::encoded_len) bytes in all: into claimed space, say.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; nothing was given out then.
    pub fn write(&self, put: impl FnMut(&[u8])) -> Result<(), EncodeError> {
        check_symbol(self.symbol, false)?;
        let fixed = BookDeltaLayout {
            first_id: U64::new(self.first_id),
            last_id: U64::new(self.last_id),
            prev_id: U64::new(self.prev_id.unwrap_or(0)),
            bid_count: count(self.bids)?,
            ask_count: count(self.asks)?,
        };
        let mut writer = Writer::new(put);
        writer.head(&self.head, self.symbol, if self.prev_id.is_some() { marks::DELTA_HAS_PREV } else { 0 });
        writer.put(fixed.as_bytes());
        writer.put(self.bids.as_bytes());
        writer.put(self.asks.as_bytes());
        writer.put(self.symbol.as_bytes());
        writer.close(self.encoded_len());
        Ok(())
    }

    fn parse(mut parts: Parts<'a>) -> Result<Self, Malformed> {
        let fixed: &BookDeltaLayout = parts.fixed()?;
        let marks = parts.marks(marks::DELTA_HAS_PREV)?;
        let has_prev = marks & marks::DELTA_HAS_PREV != 0;
        if !has_prev && fixed.prev_id.get() != 0 {
            return Err(Malformed::NotZero { offset: HEAD + core::mem::offset_of!(BookDeltaLayout, prev_id) });
        }
        let (bids, asks) = parts.sides(fixed.bid_count, fixed.ask_count, 0)?;
        let symbol = parts.symbol()?;
        Ok(Self {
            head: parts.head()?,
            first_id: fixed.first_id.get(),
            last_id: fixed.last_id.get(),
            prev_id: has_prev.then_some(fixed.prev_id.get()),
            bids,
            asks,
            symbol,
        })
    }
}

impl<'a> BookSnapshot<'a> {
    /// The payload's length.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        HEAD + size_of::<BookSnapshotLayout>() + (self.bids.len() + self.asks.len()) * LEVEL + self.symbol.len()
    }

    /// Writes the payload to the front of `out` and returns its length.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut front = Front::of(out, self.encoded_len())?;
        self.write(|bytes| front.put(bytes))?;
        Ok(front.at)
    }

    /// Gives the payload out part by part, [`encoded_len`](Self::encoded_len) bytes in all: into claimed space, say.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; nothing was given out then.
    pub fn write(&self, put: impl FnMut(&[u8])) -> Result<(), EncodeError> {
        check_symbol(self.symbol, false)?;
        let fixed = BookSnapshotLayout {
            last_id: U64::new(self.last_id),
            bid_count: count(self.bids)?,
            ask_count: count(self.asks)?,
            last_event_ns: U64::new(self.last_event_ns),
        };
        let mut writer = Writer::new(put);
        writer.head(&self.head, self.symbol, self.source.marks(self.opens_partition));
        writer.put(fixed.as_bytes());
        writer.put(self.bids.as_bytes());
        writer.put(self.asks.as_bytes());
        writer.put(self.symbol.as_bytes());
        writer.close(self.encoded_len());
        Ok(())
    }

    fn parse(mut parts: Parts<'a>) -> Result<Self, Malformed> {
        let fixed: &BookSnapshotLayout = parts.fixed()?;
        let (source, opens_partition) = SnapshotSource::of_marks(&parts)?;
        let (bids, asks) = parts.sides(fixed.bid_count, fixed.ask_count, 0)?;
        let symbol = parts.symbol()?;
        Ok(Self {
            head: parts.head()?,
            last_id: fixed.last_id.get(),
            last_event_ns: fixed.last_event_ns.get(),
            source,
            opens_partition,
            bids,
            asks,
            symbol,
        })
    }
}

impl<'a> Trade<'a> {
    /// The payload's length.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        HEAD + size_of::<TradeLayout>() + self.symbol.len()
    }

    /// Writes the payload to the front of `out` and returns its length.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut front = Front::of(out, self.encoded_len())?;
        self.write(|bytes| front.put(bytes))?;
        Ok(front.at)
    }

    /// Gives the payload out part by part, [`encoded_len`](Self::encoded_len) bytes in all: into claimed space, say.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; nothing was given out then.
    pub fn write(&self, put: impl FnMut(&[u8])) -> Result<(), EncodeError> {
        check_symbol(self.symbol, false)?;
        let mut bits = OrderType::code(self.order_type) << marks::TRADE_ORDER_TYPE_SHIFT;
        if self.buyer_is_maker {
            bits |= marks::TRADE_BUYER_IS_MAKER;
        }
        bits |= match self.legacy_m {
            None => 0,
            Some(false) => marks::TRADE_HAS_M,
            Some(true) => marks::TRADE_HAS_M | marks::TRADE_M,
        };
        let fixed =
            TradeLayout { trade_id: U64::new(self.trade_id), price: I64::new(self.price), qty: I64::new(self.qty) };
        let mut writer = Writer::new(put);
        writer.head(&self.head, self.symbol, bits);
        writer.put(fixed.as_bytes());
        writer.put(self.symbol.as_bytes());
        writer.close(self.encoded_len());
        Ok(())
    }

    fn parse(mut parts: Parts<'a>) -> Result<Self, Malformed> {
        let fixed: &TradeLayout = parts.fixed()?;
        let marks = parts
            .marks(marks::TRADE_BUYER_IS_MAKER | marks::TRADE_ORDER_TYPE_MASK | marks::TRADE_HAS_M | marks::TRADE_M)?;
        let order_type = match (marks & marks::TRADE_ORDER_TYPE_MASK) >> marks::TRADE_ORDER_TYPE_SHIFT {
            0 => None,
            1 => Some(OrderType::Market),
            2 => Some(OrderType::InsuranceFund),
            3 => Some(OrderType::Na),
            stored => return Err(Malformed::UnknownCode { offset: MARKS_AT, stored }),
        };
        let legacy_m = match (marks & marks::TRADE_HAS_M != 0, marks & marks::TRADE_M != 0) {
            (true, value) => Some(value),
            (false, false) => None,
            (false, true) => {
                let known = !marks::TRADE_M;
                return Err(Malformed::UnknownBits { offset: MARKS_AT, stored: marks, known });
            }
        };
        let symbol = parts.symbol()?;
        Ok(Self {
            head: parts.head()?,
            trade_id: fixed.trade_id.get(),
            price: fixed.price.get(),
            qty: fixed.qty.get(),
            buyer_is_maker: marks & marks::TRADE_BUYER_IS_MAKER != 0,
            order_type,
            legacy_m,
            symbol,
        })
    }
}

impl<'a> Quote<'a> {
    /// The payload's length.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        HEAD + size_of::<QuoteLayout>() + self.symbol.len()
    }

    /// Writes the payload to the front of `out` and returns its length.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut front = Front::of(out, self.encoded_len())?;
        self.write(|bytes| front.put(bytes))?;
        Ok(front.at)
    }

    /// Gives the payload out part by part, [`encoded_len`](Self::encoded_len) bytes in all: into claimed space, say.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; nothing was given out then.
    pub fn write(&self, put: impl FnMut(&[u8])) -> Result<(), EncodeError> {
        check_symbol(self.symbol, false)?;
        let fixed = QuoteLayout {
            update_id: U64::new(self.update_id),
            bid_price: I64::new(self.bid_price),
            bid_qty: I64::new(self.bid_qty),
            ask_price: I64::new(self.ask_price),
            ask_qty: I64::new(self.ask_qty),
        };
        let mut writer = Writer::new(put);
        writer.head(&self.head, self.symbol, 0);
        writer.put(fixed.as_bytes());
        writer.put(self.symbol.as_bytes());
        writer.close(self.encoded_len());
        Ok(())
    }

    fn parse(mut parts: Parts<'a>) -> Result<Self, Malformed> {
        let fixed: &QuoteLayout = parts.fixed()?;
        parts.marks(0)?;
        let symbol = parts.symbol()?;
        Ok(Self {
            head: parts.head()?,
            update_id: fixed.update_id.get(),
            bid_price: fixed.bid_price.get(),
            bid_qty: fixed.bid_qty.get(),
            ask_price: fixed.ask_price.get(),
            ask_qty: fixed.ask_qty.get(),
            symbol,
        })
    }
}

impl<'a> Gap<'a> {
    /// The payload's length.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        HEAD + size_of::<GapLayout>() + self.symbol.len()
    }

    /// Writes the payload to the front of `out` and returns its length.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut front = Front::of(out, self.encoded_len())?;
        self.write(|bytes| front.put(bytes))?;
        Ok(front.at)
    }

    /// Gives the payload out part by part, [`encoded_len`](Self::encoded_len) bytes in all: into claimed space, say.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; nothing was given out then.
    pub fn write(&self, put: impl FnMut(&[u8])) -> Result<(), EncodeError> {
        check_symbol(self.symbol, false)?;
        no_scales(&self.head)?;
        let fixed = GapLayout {
            after_id: U64::new(self.after_id),
            next_id: U64::new(self.next_id),
            missing_from: U64::new(self.missing_from),
            missing_to: U64::new(self.missing_to),
        };
        let mut writer = Writer::new(put);
        let carried = if self.carried { marks::GAP_CARRIED } else { 0 };
        writer.head(&self.head, self.symbol, self.cause.code() | carried);
        writer.put(fixed.as_bytes());
        writer.put(self.symbol.as_bytes());
        writer.close(self.encoded_len());
        Ok(())
    }

    fn parse(mut parts: Parts<'a>) -> Result<Self, Malformed> {
        let fixed: &GapLayout = parts.fixed()?;
        let marks = parts.marks(marks::CODE_MASK | marks::GAP_CARRIED)?;
        let cause = match marks & marks::CODE_MASK {
            1 => GapCause::Sequence,
            2 => GapCause::Late,
            3 => GapCause::RawLost,
            4 => GapCause::BookLost,
            stored => return Err(Malformed::UnknownCode { offset: MARKS_AT, stored }),
        };
        let symbol = parts.symbol()?;
        Ok(Self {
            head: parts.head_without_scales()?,
            after_id: fixed.after_id.get(),
            next_id: fixed.next_id.get(),
            missing_from: fixed.missing_from.get(),
            missing_to: fixed.missing_to.get(),
            cause,
            carried: marks & marks::GAP_CARRIED != 0,
            symbol,
        })
    }
}

impl<'a> Opaque<'a> {
    /// The payload's length.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        HEAD + self.symbol.len() + self.bytes.len()
    }

    /// Writes the payload to the front of `out` and returns its length.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut front = Front::of(out, self.encoded_len())?;
        self.write(|bytes| front.put(bytes))?;
        Ok(front.at)
    }

    /// Gives the payload out part by part, [`encoded_len`](Self::encoded_len) bytes in all: into claimed space, say.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; nothing was given out then.
    pub fn write(&self, put: impl FnMut(&[u8])) -> Result<(), EncodeError> {
        check_symbol(self.symbol, true)?;
        no_scales(&self.head)?;
        let mut writer = Writer::new(put);
        writer.head(&self.head, self.symbol, self.reason.code());
        writer.put(self.symbol.as_bytes());
        writer.put(self.bytes);
        writer.close(self.encoded_len());
        Ok(())
    }

    fn parse(parts: Parts<'a>) -> Result<Self, Malformed> {
        let marks = parts.marks(marks::CODE_MASK)?;
        let reason = OpaqueReason::ALL
            .into_iter()
            .find(|r| r.code() == marks)
            .ok_or(Malformed::UnknownCode { offset: MARKS_AT, stored: marks })?;
        let len = usize::from(parts.head.symbol_len);
        let Some((symbol, bytes)) = parts.rest.split_at_checked(len) else {
            let computed = (HEAD + len) as u64;
            return Err(Malformed::Length { type_id: parts.type_id, len: parts.len, computed });
        };
        let symbol = core::str::from_utf8(symbol)
            .map_err(|error| Malformed::SymbolNotUtf8 { offset: HEAD, valid_up_to: error.valid_up_to() })?;
        Ok(Self { head: parts.head_without_scales()?, reason, symbol, bytes })
    }
}

impl<'a> Source<'a> {
    /// The payload's length.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        HEAD + size_of::<SourceLayout>() + self.name.len()
    }

    /// Writes the payload to the front of `out` and returns its length.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut front = Front::of(out, self.encoded_len())?;
        self.write(|bytes| front.put(bytes))?;
        Ok(front.at)
    }

    /// Gives the payload out part by part, [`encoded_len`](Self::encoded_len) bytes in all: into claimed space, say.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; nothing was given out then.
    pub fn write(&self, put: impl FnMut(&[u8])) -> Result<(), EncodeError> {
        check_symbol(self.name, false)?;
        no_scales(&self.head)?;
        let mut writer = Writer::new(put);
        writer.head(&self.head, self.name, if self.sha256.is_some() { marks::SOURCE_HAS_SHA256 } else { 0 });
        writer.put(SourceLayout { sha256: self.sha256.unwrap_or_default() }.as_bytes());
        writer.put(self.name.as_bytes());
        writer.close(self.encoded_len());
        Ok(())
    }

    fn parse(mut parts: Parts<'a>) -> Result<Self, Malformed> {
        let fixed: &SourceLayout = parts.fixed()?;
        let has_sha256 = parts.marks(marks::SOURCE_HAS_SHA256)? != 0;
        if !has_sha256 && fixed.sha256 != [0; 32] {
            return Err(Malformed::NotZero { offset: HEAD });
        }
        let name = parts.symbol()?;
        Ok(Self { head: parts.head_without_scales()?, sha256: has_sha256.then_some(fixed.sha256), name })
    }
}

impl<'a> Record<'a> {
    /// Reads the payload of a frame with this type id; borrows from it, copies no level.
    ///
    /// # Errors
    ///
    /// See [`Malformed`]. What is accepted is exactly what [`Record::encode`] writes.
    pub fn parse(type_id: u16, payload: &'a [u8]) -> Result<Self, Malformed> {
        if !(type_id::BOOK_DELTA..=type_id::COUNTED_SNAPSHOT).contains(&type_id) {
            return Err(Malformed::UnknownType { type_id });
        }
        let parts = Parts::open(type_id, payload)?;
        match type_id {
            type_id::BOOK_DELTA => BookDelta::parse(parts).map(Self::BookDelta),
            type_id::BOOK_SNAPSHOT => BookSnapshot::parse(parts).map(Self::BookSnapshot),
            type_id::TRADE => Trade::parse(parts).map(Self::Trade),
            type_id::QUOTE => Quote::parse(parts).map(Self::Quote),
            type_id::GAP => Gap::parse(parts).map(Self::Gap),
            type_id::OPAQUE => Opaque::parse(parts).map(Self::Opaque),
            type_id::SOURCE => Source::parse(parts).map(Self::Source),
            type_id::ORDER_EVENT => OrderEvent::parse(parts).map(Self::OrderEvent),
            type_id::ORDERS_SNAPSHOT => OrdersSnapshot::parse(parts).map(Self::OrdersSnapshot),
            type_id::TEXT_TRADE => TextTrade::parse(parts).map(Self::TextTrade),
            type_id::COUNTED_SNAPSHOT => CountedSnapshot::parse(parts).map(Self::CountedSnapshot),
            type_id => Err(Malformed::UnknownType { type_id }),
        }
    }

    /// The type id that the frame around the payload must have.
    #[must_use]
    pub const fn type_id(&self) -> u16 {
        match self {
            Self::BookDelta(_) => type_id::BOOK_DELTA,
            Self::BookSnapshot(_) => type_id::BOOK_SNAPSHOT,
            Self::Trade(_) => type_id::TRADE,
            Self::Quote(_) => type_id::QUOTE,
            Self::Gap(_) => type_id::GAP,
            Self::Opaque(_) => type_id::OPAQUE,
            Self::Source(_) => type_id::SOURCE,
            Self::OrderEvent(_) => type_id::ORDER_EVENT,
            Self::OrdersSnapshot(_) => type_id::ORDERS_SNAPSHOT,
            Self::TextTrade(_) => type_id::TEXT_TRADE,
            Self::CountedSnapshot(_) => type_id::COUNTED_SNAPSHOT,
        }
    }

    /// The word for the type in files and on the command line.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::BookDelta(_) => "book_delta",
            Self::BookSnapshot(_) => "book_snapshot",
            Self::Trade(_) => "trade",
            Self::Quote(_) => "quote",
            Self::Gap(_) => "gap",
            Self::Opaque(_) => "opaque",
            Self::Source(_) => "source",
            Self::OrderEvent(_) => "order_event",
            Self::OrdersSnapshot(_) => "orders_snapshot",
            Self::TextTrade(_) => "text_trade",
            Self::CountedSnapshot(_) => "counted_snapshot",
        }
    }

    /// Times and scales.
    #[must_use]
    pub const fn head(&self) -> &Head {
        match self {
            Self::BookDelta(r) => &r.head,
            Self::BookSnapshot(r) => &r.head,
            Self::Trade(r) => &r.head,
            Self::Quote(r) => &r.head,
            Self::Gap(r) => &r.head,
            Self::Opaque(r) => &r.head,
            Self::Source(r) => &r.head,
            Self::OrderEvent(r) => &r.head,
            Self::OrdersSnapshot(r) => &r.head,
            Self::TextTrade(r) => &r.head,
            Self::CountedSnapshot(r) => &r.book.head,
        }
    }

    /// The venue's name of the symbol; empty in an opaque record whose symbol is not known. A source is of no symbol:
    /// here stands its own name.
    #[must_use]
    pub const fn symbol(&self) -> &'a str {
        match self {
            Self::BookDelta(r) => r.symbol,
            Self::BookSnapshot(r) => r.symbol,
            Self::Trade(r) => r.symbol,
            Self::Quote(r) => r.symbol,
            Self::Gap(r) => r.symbol,
            Self::Opaque(r) => r.symbol,
            Self::Source(r) => r.name,
            Self::OrderEvent(r) => r.symbol,
            Self::OrdersSnapshot(r) => r.symbol,
            Self::TextTrade(r) => r.symbol,
            Self::CountedSnapshot(r) => r.book.symbol,
        }
    }

    /// The same record under another symbol text; a source, under another name.
    #[must_use]
    pub fn with_symbol(mut self, symbol: &'a str) -> Self {
        match &mut self {
            Self::BookDelta(r) => r.symbol = symbol,
            Self::BookSnapshot(r) => r.symbol = symbol,
            Self::Trade(r) => r.symbol = symbol,
            Self::Quote(r) => r.symbol = symbol,
            Self::Gap(r) => r.symbol = symbol,
            Self::Opaque(r) => r.symbol = symbol,
            Self::Source(r) => r.name = symbol,
            Self::OrderEvent(r) => r.symbol = symbol,
            Self::OrdersSnapshot(r) => r.symbol = symbol,
            Self::TextTrade(r) => r.symbol = symbol,
            Self::CountedSnapshot(r) => r.book.symbol = symbol,
        }
        self
    }

    /// The payload's length.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        match self {
            Self::BookDelta(r) => r.encoded_len(),
            Self::BookSnapshot(r) => r.encoded_len(),
            Self::Trade(r) => r.encoded_len(),
            Self::Quote(r) => r.encoded_len(),
            Self::Gap(r) => r.encoded_len(),
            Self::Opaque(r) => r.encoded_len(),
            Self::Source(r) => r.encoded_len(),
            Self::OrderEvent(r) => r.encoded_len(),
            Self::OrdersSnapshot(r) => r.encoded_len(),
            Self::TextTrade(r) => r.encoded_len(),
            Self::CountedSnapshot(r) => r.encoded_len(),
        }
    }

    /// Writes the payload to the front of `out` and returns its length.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut front = Front::of(out, self.encoded_len())?;
        self.write(|bytes| front.put(bytes))?;
        Ok(front.at)
    }

    /// Gives the payload out part by part, [`encoded_len`](Self::encoded_len) bytes in all: into claimed space, say.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; nothing was given out then.
    pub fn write(&self, put: impl FnMut(&[u8])) -> Result<(), EncodeError> {
        match self {
            Self::BookDelta(r) => r.write(put),
            Self::BookSnapshot(r) => r.write(put),
            Self::Trade(r) => r.write(put),
            Self::Quote(r) => r.write(put),
            Self::Gap(r) => r.write(put),
            Self::Opaque(r) => r.write(put),
            Self::Source(r) => r.write(put),
            Self::OrderEvent(r) => r.write(put),
            Self::OrdersSnapshot(r) => r.write(put),
            Self::TextTrade(r) => r.write(put),
            Self::CountedSnapshot(r) => r.write(put),
        }
    }
}
