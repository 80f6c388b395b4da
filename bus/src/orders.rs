//! What strategies and the router say to each other: orders one way, what became of them the other.
//!
//! Both are fixed records (docs/format.md, section 23), little-endian, 128 bytes:
//!
//! ```text
//! Order, type_id 256
//!   0        8        16             24           32         40      48     56
//!   | epoch  | seq    | target_epoch | target_seq | cause_ns | price | qty  | pe qe action side kind life vl sl |
//!   64                 88                        128
//!   | venue [u8; 24]   | symbol [u8; 40]         |        names, zeros behind them
//!
//! Reply, type_id 257
//!   0        8        16          24         32           40         48         56        64
//!   | epoch  | seq    | order_seq | answered | high_epoch | high_seq | venue_id | fill_id | venue_ns
//!   72      80      88      96                                 104        112        120      128
//!   | price | qty   | left  | pe qe kind reason  code i32      | cause_ns | order_ns | filled |
//! ```
//!
//! A **client order id** ([`OrderId`]) is (epoch of the strategy's registration, count in it from 1). A registration has an
//! epoch of its own, so no two orders of a strategy have the same id, whatever died in between; an order that is sent again
//! keeps its id, and is recognised by it. How both sides use `order_seq`, `answered` and `high` is told in [`crate::ends`].
//!
//! Prices and quantities are mantissas; `pe`, `qe` are exponents of ten, as in chronicle-protocol. Nothing here computes
//! with them.

use crate::message::{Malformed, Message};
use core::mem::{offset_of, size_of};
use static_assertions::const_assert_eq;
use std::{fmt, str::FromStr};
use zerocopy::{
    FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned,
    byteorder::little_endian::{I32, I64, U64},
};

/// Longest name of a venue in an order.
pub const VENUE_MAX: usize = 24;
/// Longest symbol in an order.
pub const SYMBOL_MAX: usize = 40;

/// What a strategy calls an order of its own.
///
/// Its text, such as `7-152`, is short enough to be a venue's client order id, and is read back by `parse`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderId {
    /// Epoch of the registration that sent it first.
    pub epoch: u64,
    /// Its number there, from 1.
    pub seq: u64,
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

/// A text that is no [`OrderId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoOrderId;

impl fmt::Display for NoOrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("client order id is not EPOCH-SEQ")
    }
}

impl std::error::Error for NoOrderId {}

impl FromStr for OrderId {
    type Err = NoOrderId;

    fn from_str(text: &str) -> Result<Self, NoOrderId> {
        let (epoch, seq) = text.split_once('-').ok_or(NoOrderId)?;
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0).ok_or(NoOrderId);
        let id = OrderId { epoch: number(epoch)?, seq: number(seq)? };
        // One text, one id: `+1-01` is not ours.
        if id.to_string() == text { Ok(id) } else { Err(NoOrderId) }
    }
}

/// Declares an enum of one byte, and what reading it back takes.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident: $($(#[$of:meta])* $variant:ident = $code:literal $text:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$of])* $variant = $code,)*
        }

        impl $name {
            /// What a byte means; `None` for one that no writer stores.
            #[must_use]
            pub const fn of(code: u8) -> Option<Self> {
                match code {
                    $($code => Some($name::$variant),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $($name::$variant => $text,)*
                })
            }
        }
    };
}

codes! {
    /// What an order asks for.
    Action:
    /// That something is bought or sold.
    New = 1 "new",
    /// That an order ends.
    Cancel = 2 "cancel",
}

codes! {
    /// Which way.
    Side:
    /// Bought.
    Buy = 1 "buy",
    /// Sold.
    Sell = 2 "sell",
}

codes! {
    /// At which price.
    OrderKind:
    /// The order's or a better one.
    Limit = 1 "limit",
    /// Whatever there is.
    Market = 2 "market",
}

codes! {
    /// For how long.
    Life:
    /// Until it is filled or cancelled.
    UntilCancelled = 1 "gtc",
    /// What can be filled at once, and no longer.
    Immediate = 2 "ioc",
    /// All of it at once, or nothing.
    AllOrNothing = 3 "fok",
}

codes! {
    /// What a reply says of an order.
    ReplyKind:
    /// The venue has it.
    Acked = 1 "acked",
    /// Some of it is filled; all of it if nothing is left.
    Filled = 2 "filled",
    /// It will not be; nothing of it was.
    Rejected = 3 "rejected",
    /// It has ended without being filled to its end.
    Cancelled = 4 "cancelled",
    /// It came again and was known: its other replies stand in the queue or will come.
    Known = 5 "known",
}

codes! {
    /// Why an order was rejected or cancelled.
    Reason:
    /// None is given.
    None = 0 "no reason",
    /// The order is not one: the frame is malformed or contradicts itself.
    Malformed = 1 "malformed",
    /// There is no such venue or symbol.
    UnknownSymbol = 2 "unknown symbol",
    /// A cancel of an order that nobody knows, or that has ended.
    UnknownOrder = 3 "unknown order",
    /// A limit of the router's.
    Limit = 4 "limit",
    /// The venue said no; the reply's `code` says what it said.
    Venue = 5 "refused by the venue",
    /// The venue cannot be reached.
    Unreachable = 6 "venue not reached",
    /// The strategy asked for it.
    Asked = 7 "asked for",
}

/// An order, or the cancel of one.
///
/// ```
/// use chronicle_bus::orders::{Order, Side};
/// let order = Order::limit("binance-spot", "BTCUSDT", Side::Buy, (6_180_020, -2), (5, -3)).unwrap();
/// assert_eq!((order.symbol(), order.price.get(), order.price_exp), ("BTCUSDT", 6_180_020, -2));
/// ```
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Order {
    /// Client order id: epoch; 0 until it is sent.
    pub epoch: U64,
    /// Client order id: number; 0 until it is sent.
    pub seq: U64,
    /// Of a cancel, the order that is to end: epoch.
    pub target_epoch: U64,
    /// Of a cancel, the order that is to end: number.
    pub target_seq: U64,
    /// Time of what the strategy acts upon, in its own clock; 0 = none.
    pub cause_ns: U64,
    /// Mantissa of the price; 0 for a market order.
    pub price: I64,
    /// Mantissa of the quantity.
    pub qty: I64,
    /// Exponent of ten of the price.
    pub price_exp: i8,
    /// Exponent of ten of the quantity.
    pub qty_exp: i8,
    /// [`Action`].
    pub action: u8,
    /// [`Side`]; 0 in a cancel.
    pub side: u8,
    /// [`OrderKind`]; 0 in a cancel.
    pub kind: u8,
    /// [`Life`]; 0 in a cancel.
    pub life: u8,
    /// Bytes of the venue's name.
    pub venue_len: u8,
    /// Bytes of the symbol.
    pub symbol_len: u8,
    /// The venue's name, zeros behind it.
    pub venue: [u8; VENUE_MAX],
    /// The symbol as the venue writes it, zeros behind it.
    pub symbol: [u8; SYMBOL_MAX],
}

const_assert_eq!(size_of::<Order>(), 128);
const_assert_eq!(offset_of!(Order, seq), 8);
const_assert_eq!(offset_of!(Order, target_epoch), 16);
const_assert_eq!(offset_of!(Order, target_seq), 24);
const_assert_eq!(offset_of!(Order, cause_ns), 32);
const_assert_eq!(offset_of!(Order, price), 40);
const_assert_eq!(offset_of!(Order, qty), 48);
const_assert_eq!(offset_of!(Order, price_exp), 56);
const_assert_eq!(offset_of!(Order, qty_exp), 57);
const_assert_eq!(offset_of!(Order, action), 58);
const_assert_eq!(offset_of!(Order, side), 59);
const_assert_eq!(offset_of!(Order, kind), 60);
const_assert_eq!(offset_of!(Order, life), 61);
const_assert_eq!(offset_of!(Order, venue_len), 62);
const_assert_eq!(offset_of!(Order, symbol_len), 63);
const_assert_eq!(offset_of!(Order, venue), 64);
const_assert_eq!(offset_of!(Order, symbol), 88);

/// A name that an order has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameTooLong {
    /// Its length.
    pub len: usize,
    /// The longest one.
    pub max: usize,
}

impl fmt::Display for NameTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "name of {} bytes: an order takes 1 to {}", self.len, self.max)
    }
}

impl std::error::Error for NameTooLong {}

impl Order {
    /// A limit order until cancelled. Price and quantity are (mantissa, exponent of ten).
    ///
    /// # Errors
    ///
    /// A name is empty or too long.
    pub fn limit(venue: &str, symbol: &str, side: Side, price: (i64, i8), qty: (i64, i8)) -> Result<Self, NameTooLong> {
        let mut order = Order::new_zeroed();
        (order.venue_len, order.symbol_len) = (put(&mut order.venue, venue)?, put(&mut order.symbol, symbol)?);
        (order.action, order.side) = (Action::New as u8, side as u8);
        (order.kind, order.life) = (OrderKind::Limit as u8, Life::UntilCancelled as u8);
        (order.price, order.price_exp) = (price.0.into(), price.1);
        (order.qty, order.qty_exp) = (qty.0.into(), qty.1);
        Ok(order)
    }

    /// A market order.
    ///
    /// # Errors
    ///
    /// A name is empty or too long.
    pub fn market(venue: &str, symbol: &str, side: Side, qty: (i64, i8)) -> Result<Self, NameTooLong> {
        let order = Self::limit(venue, symbol, side, (0, 0), qty)?;
        Ok(Order { kind: OrderKind::Market as u8, life: Life::Immediate as u8, ..order })
    }

    /// The end of another order, which must be known by its id; an order like any other, with an id of its own.
    #[must_use]
    pub fn cancel(&self) -> Self {
        let (venue, symbol) = (self.venue, self.symbol);
        let mut order = Order { venue, symbol, ..Order::new_zeroed() };
        (order.venue_len, order.symbol_len) = (self.venue_len, self.symbol_len);
        order.action = Action::Cancel as u8;
        (order.target_epoch, order.target_seq) = (self.epoch, self.seq);
        order
    }

    /// With another life.
    #[must_use]
    pub fn living(self, life: Life) -> Self {
        Order { life: life as u8, ..self }
    }

    /// Because of what happened at this time.
    #[must_use]
    pub fn caused_at(self, cause_ns: u64) -> Self {
        Order { cause_ns: cause_ns.into(), ..self }
    }

    /// Its client order id; zeros until it is sent.
    #[must_use]
    pub fn id(&self) -> OrderId {
        OrderId { epoch: self.epoch.get(), seq: self.seq.get() }
    }

    /// Of a cancel, the order that is to end.
    #[must_use]
    pub fn target(&self) -> OrderId {
        OrderId { epoch: self.target_epoch.get(), seq: self.target_seq.get() }
    }

    /// What it asks for; `None` if it was never checked and is none.
    #[must_use]
    pub fn action(&self) -> Option<Action> {
        Action::of(self.action)
    }

    /// Which way; `None` in a cancel.
    #[must_use]
    pub fn side(&self) -> Option<Side> {
        Side::of(self.side)
    }

    /// At which price; `None` in a cancel.
    #[must_use]
    pub fn kind(&self) -> Option<OrderKind> {
        OrderKind::of(self.kind)
    }

    /// For how long; `None` in a cancel.
    #[must_use]
    pub fn life(&self) -> Option<Life> {
        Life::of(self.life)
    }

    /// The venue's name; empty if it was never checked and is none.
    #[must_use]
    pub fn venue(&self) -> &str {
        name(&self.venue, self.venue_len).unwrap_or_default()
    }

    /// The symbol; empty if it was never checked and is none.
    #[must_use]
    pub fn symbol(&self) -> &str {
        name(&self.symbol, self.symbol_len).unwrap_or_default()
    }
}

fn put(into: &mut [u8], name: &str) -> Result<u8, NameTooLong> {
    let too_long = NameTooLong { len: name.len(), max: into.len() };
    if name.is_empty() {
        return Err(too_long);
    }
    into.get_mut(..name.len()).ok_or(too_long)?.copy_from_slice(name.as_bytes());
    // Names are shorter than 256 bytes because their places are.
    Ok(name.len() as u8)
}

fn name(bytes: &[u8], len: u8) -> Option<&str> {
    let (name, rest) = bytes.split_at_checked(len.into())?;
    let name = std::str::from_utf8(name).ok()?;
    (!name.is_empty() && rest.iter().all(|byte| *byte == 0)).then_some(name)
}

fn field(is: bool, name: &'static str, found: u64) -> Result<(), Malformed> {
    if is { Ok(()) } else { Err(Malformed::Field { name, found }) }
}

impl Message for Order {
    const TYPE_ID: u16 = 256;

    fn check(&self) -> Result<(), Malformed> {
        field(self.epoch.get() > 0, "epoch", 0)?;
        field(self.seq.get() > 0, "seq", 0)?;
        field(name(&self.venue, self.venue_len).is_some(), "venue", self.venue_len.into())?;
        field(name(&self.symbol, self.symbol_len).is_some(), "symbol", self.symbol_len.into())?;
        let is_new = match Action::of(self.action) {
            Some(action) => action == Action::New,
            None => return field(false, "action", self.action.into()),
        };
        // A cancel has a target and nothing to trade; an order the other way round.
        field(is_new == self.side().is_some() && (is_new || self.side == 0), "side", self.side.into())?;
        field(is_new == self.kind().is_some() && (is_new || self.kind == 0), "kind", self.kind.into())?;
        field(is_new == self.life().is_some() && (is_new || self.life == 0), "life", self.life.into())?;
        field(is_new == (self.target_epoch.get() == 0), "target_epoch", self.target_epoch.get())?;
        field(is_new == (self.target_seq.get() == 0), "target_seq", self.target_seq.get())?;
        field(is_new == (self.qty.get() > 0), "qty", self.qty.get() as u64)
    }
}

/// A number as people write it, all its decimals shown. One with an exponent that no market has stays as it is stored.
fn decimal(mantissa: i64, exp: i8) -> String {
    match exp {
        0 => mantissa.to_string(),
        -18..0 => {
            let decimals = usize::from(exp.unsigned_abs());
            let mut text = format!("{:0>1$}", mantissa.unsigned_abs(), decimals + 1);
            text.insert(text.len() - decimals, '.');
            if mantissa < 0 { format!("-{text}") } else { text }
        }
        _ => format!("{mantissa}e{exp}"),
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id();
        match self.action() {
            Some(Action::Cancel) => write!(f, "{id} cancel {} at {}", self.target(), self.venue()),
            _ => {
                let (qty, price) = (decimal(self.qty.get(), self.qty_exp), decimal(self.price.get(), self.price_exp));
                let side = self.side().map_or("?".to_owned(), |side| side.to_string());
                let (symbol, venue) = (self.symbol(), self.venue());
                write!(f, "{id} {side} {qty} {symbol} at {venue}, price {price}")
            }
        }
    }
}

/// What became of an order. The router's end fills in what the two ends keep their books by.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Reply {
    /// The order's id: epoch.
    pub epoch: U64,
    /// The order's id: number.
    pub seq: U64,
    /// Seq, in `orders_out`, of the frame that brought the order.
    pub order_seq: U64,
    /// Of `orders_out`, all frames up to this seq have had a reply.
    pub answered: U64,
    /// The highest client order id that was taken so far: epoch.
    pub high_epoch: U64,
    /// The highest client order id that was taken so far: number.
    pub high_seq: U64,
    /// The venue's number of the order; 0 = none.
    pub venue_id: U64,
    /// The venue's number of the fill; 0 in other replies.
    pub fill_id: U64,
    /// The venue's time; 0 = none.
    pub venue_ns: U64,
    /// Mantissa of the fill's price.
    pub price: I64,
    /// Mantissa of the fill's quantity.
    pub qty: I64,
    /// Mantissa of the quantity that is still to be filled.
    pub left: I64,
    /// Exponent of ten of the price.
    pub price_exp: i8,
    /// Exponent of ten of quantities.
    pub qty_exp: i8,
    /// [`ReplyKind`].
    pub kind: u8,
    /// [`Reason`].
    pub reason: u8,
    /// What the venue said, in its own numbers; 0 = nothing.
    pub code: I32,
    /// The order's `cause_ns`.
    pub cause_ns: U64,
    /// Time of the frame that brought the order.
    pub order_ns: U64,
    /// Mantissa of the quantity that was filled so far, this fill included.
    pub filled: I64,
}

const_assert_eq!(size_of::<Reply>(), 128);
const_assert_eq!(offset_of!(Reply, seq), 8);
const_assert_eq!(offset_of!(Reply, order_seq), 16);
const_assert_eq!(offset_of!(Reply, answered), 24);
const_assert_eq!(offset_of!(Reply, high_epoch), 32);
const_assert_eq!(offset_of!(Reply, high_seq), 40);
const_assert_eq!(offset_of!(Reply, venue_id), 48);
const_assert_eq!(offset_of!(Reply, fill_id), 56);
const_assert_eq!(offset_of!(Reply, venue_ns), 64);
const_assert_eq!(offset_of!(Reply, price), 72);
const_assert_eq!(offset_of!(Reply, qty), 80);
const_assert_eq!(offset_of!(Reply, left), 88);
const_assert_eq!(offset_of!(Reply, price_exp), 96);
const_assert_eq!(offset_of!(Reply, qty_exp), 97);
const_assert_eq!(offset_of!(Reply, kind), 98);
const_assert_eq!(offset_of!(Reply, reason), 99);
const_assert_eq!(offset_of!(Reply, code), 100);
const_assert_eq!(offset_of!(Reply, cause_ns), 104);
const_assert_eq!(offset_of!(Reply, order_ns), 112);
const_assert_eq!(offset_of!(Reply, filled), 120);

impl Reply {
    fn to(order: &Order, kind: ReplyKind, reason: Reason) -> Self {
        let mut reply = Reply::new_zeroed();
        (reply.epoch, reply.seq) = (order.epoch, order.seq);
        (reply.price_exp, reply.qty_exp) = (order.price_exp, order.qty_exp);
        (reply.kind, reply.reason) = (kind as u8, reason as u8);
        reply.cause_ns = order.cause_ns;
        reply
    }

    /// The venue has it, under this number.
    #[must_use]
    pub fn acked(order: &Order, venue_id: u64) -> Self {
        Reply { venue_id: venue_id.into(), left: order.qty, ..Self::to(order, ReplyKind::Acked, Reason::None) }
    }

    /// So much of it was filled at this price, `filled` of it in all.
    #[must_use]
    pub fn filled(order: &Order, venue_id: u64, fill_id: u64, price: i64, qty: i64, filled: i64) -> Self {
        Reply {
            venue_id: venue_id.into(),
            fill_id: fill_id.into(),
            price: price.into(),
            qty: qty.into(),
            left: order.qty.get().saturating_sub(filled).into(),
            filled: filled.into(),
            ..Self::to(order, ReplyKind::Filled, Reason::None)
        }
    }

    /// It will not be.
    #[must_use]
    pub fn rejected(order: &Order, reason: Reason, code: i32) -> Self {
        Reply { code: code.into(), ..Self::to(order, ReplyKind::Rejected, reason) }
    }

    /// It has ended with so much of it filled.
    #[must_use]
    pub fn cancelled(order: &Order, venue_id: u64, filled: i64, reason: Reason) -> Self {
        let left = order.qty.get().saturating_sub(filled).into();
        let (venue_id, filled) = (venue_id.into(), filled.into());
        Reply { venue_id, filled, left, ..Self::to(order, ReplyKind::Cancelled, reason) }
    }

    /// It came again, and is known.
    #[must_use]
    pub fn known(order: &Order) -> Self {
        Self::to(order, ReplyKind::Known, Reason::None)
    }

    /// The order's id.
    #[must_use]
    pub fn id(&self) -> OrderId {
        OrderId { epoch: self.epoch.get(), seq: self.seq.get() }
    }

    /// What it says; `None` if it was never checked and is none.
    #[must_use]
    pub fn kind(&self) -> Option<ReplyKind> {
        ReplyKind::of(self.kind)
    }

    /// Why; `None` if it was never checked and is none.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        Reason::of(self.reason)
    }

    /// Whether the order has ended: nothing more comes of it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self.kind() {
            Some(ReplyKind::Rejected | ReplyKind::Cancelled) => true,
            Some(ReplyKind::Filled) => self.left.get() <= 0,
            _ => false,
        }
    }

    /// The highest client order id that was taken so far.
    pub(crate) fn high(&self) -> OrderId {
        OrderId { epoch: self.high_epoch.get(), seq: self.high_seq.get() }
    }
}

impl Message for Reply {
    const TYPE_ID: u16 = 257;

    fn check(&self) -> Result<(), Malformed> {
        field(self.epoch.get() > 0, "epoch", 0)?;
        field(self.seq.get() > 0, "seq", 0)?;
        field(self.order_seq.get() > 0, "order_seq", 0)?;
        field(self.kind().is_some(), "kind", self.kind.into())?;
        field(self.reason().is_some(), "reason", self.reason.into())
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, qty) = (self.id(), |qty: I64| decimal(qty.get(), self.qty_exp));
        match (self.kind(), self.reason()) {
            (Some(kind @ ReplyKind::Filled), _) => {
                let price = decimal(self.price.get(), self.price_exp);
                write!(f, "{id} {kind} {} at {price}, {} left", qty(self.qty), qty(self.left))
            }
            (Some(kind), Some(reason)) if reason != Reason::None => write!(f, "{id} {kind}: {reason}"),
            (Some(kind), _) => write!(f, "{id} {kind}"),
            (None, _) => write!(f, "{id} of kind {}", self.kind),
        }
    }
}
