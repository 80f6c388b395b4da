//! Orders one by one: what happened to one, and a whole book of them.
//!
//! The actions are those of Databento's `mbo` schema, the widest there is, and a record of it becomes an [`OrderEvent`]
//! from which it could be made again, but for its publisher and its instrument, which stand in the path. An execution that
//! takes from an order is two records: the report, [`OrderAction::Fill`], which leaves the book alone, and the cancel or
//! modify that follows it and does the work.

use core::mem::{offset_of, size_of};

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{I64, U64};

use super::{EncodeError, Front, HEAD, Head, MARKS_AT, Malformed, Parts, SnapshotSource, Writer, check_symbol, count};
use crate::layout::{BookOrder, OrderEventLayout, OrdersSnapshotLayout, marks};

const ORDER: usize = size_of::<BookOrder>();

/// What happened to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderAction {
    /// It stands in the book now.
    Add,
    /// Its price and quantity are these now.
    Modify,
    /// Its quantity is less by this; with nothing left it is gone.
    Cancel,
    /// No order stands in the book any more, of any id and side.
    Clear,
    /// An aggressor traded. The book is left alone.
    Trade,
    /// A resting order was filled. The book is left alone.
    Fill,
    /// Nothing; a record may end an event, say.
    None,
}

impl OrderAction {
    /// All actions.
    pub const ALL: [Self; 7] =
        [Self::Add, Self::Modify, Self::Cancel, Self::Clear, Self::Trade, Self::Fill, Self::None];

    /// The word for it in files and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Modify => "modify",
            Self::Cancel => "cancel",
            Self::Clear => "clear",
            Self::Trade => "trade",
            Self::Fill => "fill",
            Self::None => "none",
        }
    }

    const fn code(self) -> u32 {
        match self {
            Self::Add => 1,
            Self::Modify => 2,
            Self::Cancel => 3,
            Self::Clear => 4,
            Self::Trade => 5,
            Self::Fill => 6,
            Self::None => 7,
        }
    }
}

/// A side of a book; of a trade, that of its aggressor: `Bid` bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who buys.
    Bid,
    /// Who sells.
    Ask,
}

impl Side {
    /// The word for it in files and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bid => "bid",
            Self::Ask => "ask",
        }
    }

    pub(super) const fn code(this: Option<Self>) -> u32 {
        match this {
            None => 0,
            Some(Self::Bid) => 1,
            Some(Self::Ask) => 2,
        }
    }

    pub(super) const fn from_code(code: u32) -> Result<Option<Self>, Malformed> {
        match code {
            0 => Ok(None),
            1 => Ok(Some(Self::Bid)),
            2 => Ok(Some(Self::Ask)),
            stored => Err(Malformed::UnknownCode { offset: MARKS_AT, stored }),
        }
    }
}

/// What a venue's record says about itself: the byte that Databento calls `flags`, bit for bit. A feed of another venue
/// sets [`LAST`](Self::LAST) and [`SNAPSHOT`](Self::SNAPSHOT) alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RecordFlags(pub u8);

impl RecordFlags {
    /// The last record of its event: what came before it, and it, count from here on.
    pub const LAST: Self = Self(1 << 7);
    /// Part of a snapshot: what stands in the book, not what happened.
    pub const SNAPSHOT: Self = Self(1 << 5);

    /// Whether all bits of another are set in this one.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What happened to one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderEvent<'a> {
    /// Times and scales. The engine's time is when it sent the message.
    pub head: Head,
    /// What.
    pub action: OrderAction,
    /// Of which side, where it is known.
    pub side: Option<Side>,
    /// The venue's id of the order; 0 = none.
    pub order_id: u64,
    /// Mantissa of the price, where there is one.
    pub price: Option<i64>,
    /// Mantissa of the quantity.
    pub qty: i64,
    /// The venue's number of the message; 0 = none. Several records of one event have the same.
    pub sequence: u64,
    /// What the record says about itself.
    pub flags: RecordFlags,
    /// The venue's channel; 0 where there are none.
    pub channel: u8,
    /// The venue's name of the symbol.
    pub symbol: &'a str,
}

/// A book, order by order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrdersSnapshot<'a> {
    /// Times and scales.
    pub head: Head,
    /// The venue's number of the last message in the book; 0 = none.
    pub sequence: u64,
    /// Exchange time of the last event in the book, ns; 0 = none, as in a venue's own snapshot.
    pub last_event_ns: u64,
    /// Who made it.
    pub source: SnapshotSource,
    /// It is the carried book that opens a partition.
    pub opens_partition: bool,
    /// Bids: the best price first, and at a price in the order in which they would be filled.
    pub bids: &'a [BookOrder],
    /// Asks, in the same order.
    pub asks: &'a [BookOrder],
    /// The venue's name of the symbol.
    pub symbol: &'a str,
}

impl<'a> OrderEvent<'a> {
    /// The payload's length.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        HEAD + size_of::<OrderEventLayout>() + self.symbol.len()
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
        let fixed = OrderEventLayout {
            order_id: U64::new(self.order_id),
            price: I64::new(self.price.unwrap_or(0)),
            qty: I64::new(self.qty),
            sequence: U64::new(self.sequence),
        };
        let bits = self.action.code()
            | Side::code(self.side) << marks::ORDER_SIDE_SHIFT
            | if self.price.is_some() { marks::ORDER_HAS_PRICE } else { 0 }
            | u32::from(self.flags.0) << marks::ORDER_FLAGS_SHIFT
            | u32::from(self.channel) << marks::ORDER_CHANNEL_SHIFT;
        let mut writer = Writer::new(put);
        writer.head(&self.head, self.symbol, bits);
        writer.put(fixed.as_bytes());
        writer.put(self.symbol.as_bytes());
        writer.close(self.encoded_len());
        Ok(())
    }

    pub(super) fn parse(mut parts: Parts<'a>) -> Result<Self, Malformed> {
        let fixed: &OrderEventLayout = parts.fixed()?;
        let bits = parts.marks(
            marks::ORDER_ACTION_MASK
                | marks::SIDE_MASK << marks::ORDER_SIDE_SHIFT
                | marks::ORDER_HAS_PRICE
                | 0xff << marks::ORDER_FLAGS_SHIFT
                | 0xff << marks::ORDER_CHANNEL_SHIFT,
        )?;
        let code = bits & marks::ORDER_ACTION_MASK;
        let action = OrderAction::ALL
            .into_iter()
            .find(|action| action.code() == code)
            .ok_or(Malformed::UnknownCode { offset: MARKS_AT, stored: code })?;
        let side = Side::from_code(bits >> marks::ORDER_SIDE_SHIFT & marks::SIDE_MASK)?;
        let has_price = bits & marks::ORDER_HAS_PRICE != 0;
        if !has_price && fixed.price.get() != 0 {
            return Err(Malformed::NotZero { offset: HEAD + offset_of!(OrderEventLayout, price) });
        }
        let symbol = parts.symbol()?;
        Ok(Self {
            head: parts.head()?,
            action,
            side,
            order_id: fixed.order_id.get(),
            price: has_price.then_some(fixed.price.get()),
            qty: fixed.qty.get(),
            sequence: fixed.sequence.get(),
            flags: RecordFlags((bits >> marks::ORDER_FLAGS_SHIFT) as u8),
            channel: (bits >> marks::ORDER_CHANNEL_SHIFT) as u8,
            symbol,
        })
    }
}

impl<'a> OrdersSnapshot<'a> {
    /// The payload's length.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        HEAD + size_of::<OrdersSnapshotLayout>() + (self.bids.len() + self.asks.len()) * ORDER + self.symbol.len()
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
        let fixed = OrdersSnapshotLayout {
            sequence: U64::new(self.sequence),
            last_event_ns: U64::new(self.last_event_ns),
            bid_count: count(self.bids)?,
            ask_count: count(self.asks)?,
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

    pub(super) fn parse(mut parts: Parts<'a>) -> Result<Self, Malformed> {
        let fixed: &OrdersSnapshotLayout = parts.fixed()?;
        let (source, opens_partition) = SnapshotSource::of_marks(&parts)?;
        let (bids, asks) = parts.sides(fixed.bid_count, fixed.ask_count, 0)?;
        let symbol = parts.symbol()?;
        Ok(Self {
            head: parts.head()?,
            sequence: fixed.sequence.get(),
            last_event_ns: fixed.last_event_ns.get(),
            source,
            opens_partition,
            bids,
            asks,
            symbol,
        })
    }
}
