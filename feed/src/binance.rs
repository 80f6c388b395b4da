//! Binance's messages: spot, USD-M and COIN-M futures.
//!
//! ```text
//! {"stream":"btcusdt@depth@100ms","data":{ message }}       combined stream
//! { message }                                               single stream, or a REST snapshot
//!
//! message                                   is a                   because
//! "e":"depthUpdate"                         book delta             unless its stream is `@depth5|10|20`, a partial book
//! "e":"trade"                               trade
//! "e":"bookTicker", or no "e" and the       quote                  spot sends no "e"
//!   stream `@bookTicker`, or no "e", no
//!   stream and u, s, b, B, a, A
//! no stream, no "e", "lastUpdateId"         book snapshot          REST
//! any other JSON                            opaque                 kline, aggTrade, replies to subscriptions ..
//! ```
//!
//! What a record keeps is exact: ids, times, prices, quantities, the flags `m`, `M` and `X`. Not kept, because another
//! field says it or it is the same in every message of a stream: the stream's name, `e`, `ps`, `pair`. Fields that are
//! not known here are passed over: venues add fields. A message of a known kind whose texts would not be written again,
//! or whose numbers do not fit, is kept verbatim. A text that is not a message at all is a [`Flaw`].
//!
//! Here a venue's words end: nothing outside of this file knows what `pu` is called.

mod usual;

use chronicle_protocol::{Head, OpaqueReason, OrderType, Scale};

use crate::fields::{Fields, NOT_REPRESENTABLE, Unfit, Value, scaled};
use crate::flaw::Flaw;
use crate::json::{NotJson, Number, Scan, Text};
use crate::levels::{Columns, Pair, Store, Writing};
use crate::times::{AHEAD_NS_MAX, NS_PER_MS};
use crate::venue::{Dialect, Message, Part, Proof, Scratch, Span, What};

const DEPTH: &str = "depthUpdate";
const TICKER: &str = "bookTicker";
const TRADE: &str = "trade";
const SNAPSHOT: &str = "snapshot";
const KINDS: &[&str] = &[DEPTH, TICKER, TRADE, SNAPSHOT];

/// Spot.
pub(crate) struct Spot;
/// USD-M and COIN-M. A depth event names the one before it, `pu`, and must: spot's rule (U = last u + 1) does not hold
/// here.
pub(crate) struct Futures;

impl Dialect for Spot {
    fn kinds(&self) -> &'static [&'static str] {
        KINDS
    }

    fn read<'a>(&self, text: &'a str, received_ns: u64, scratch: &'a mut Scratch) -> Result<Message<'a>, Flaw> {
        read(text, received_ns, scratch, false)
    }
}

impl Dialect for Futures {
    fn kinds(&self) -> &'static [&'static str] {
        KINDS
    }

    fn read<'a>(&self, text: &'a str, received_ns: u64, scratch: &'a mut Scratch) -> Result<Message<'a>, Flaw> {
        read(text, received_ns, scratch, true)
    }
}

const NAMES: [&str; 20] = [
    "e",
    "E",
    "T",
    "s",
    "U",
    "u",
    "pu",
    "b",
    "a",
    "t",
    "p",
    "q",
    "m",
    "M",
    "X",
    "B",
    "A",
    "lastUpdateId",
    "bids",
    "asks",
];
const EVENT: usize = 0;
const EVENT_MS: usize = 1;
const TRANSACT_MS: usize = 2;
const S: usize = 3;
const FIRST_ID: usize = 4;
const LAST_ID: usize = 5;
const PREV_ID: usize = 6;
const B: usize = 7;
const A: usize = 8;
const TRADE_ID: usize = 9;
const PRICE: usize = 10;
const QTY: usize = 11;
const BUYER_IS_MAKER: usize = 12;
const LEGACY_M: usize = 13;
const ORDER_TYPE: usize = 14;
const BID_QTY: usize = 15;
const ASK_QTY: usize = 16;
const SNAPSHOT_ID: usize = 17;
const BIDS: usize = 18;
const ASKS: usize = 19;
/// COIN-M's snapshot calls the symbol so; it shares a slot with `s`.
const LONG_SYMBOL: &str = "symbol";

fn slot(key: &str) -> Option<usize> {
    Some(match key.as_bytes() {
        b"e" => EVENT,
        b"E" => EVENT_MS,
        b"T" => TRANSACT_MS,
        b"s" => S,
        b"U" => FIRST_ID,
        b"u" => LAST_ID,
        b"pu" => PREV_ID,
        b"b" => B,
        b"a" => A,
        b"t" => TRADE_ID,
        b"p" => PRICE,
        b"q" => QTY,
        b"m" => BUYER_IS_MAKER,
        b"M" => LEGACY_M,
        b"X" => ORDER_TYPE,
        b"B" => BID_QTY,
        b"A" => ASK_QTY,
        b"lastUpdateId" => SNAPSHOT_ID,
        b"bids" => BIDS,
        b"asks" => ASKS,
        _ if key == LONG_SYMBOL => S,
        _ => return None,
    })
}

/// What is after the first `@` of a stream's name.
fn channel(stream: &str) -> Option<&str> {
    // Names are shorter than what a search for one byte prepares.
    let at = stream.bytes().position(|byte| byte == b'@')?;
    stream.get(at + 1..)
}

/// What a scan over one message found.
#[derive(Debug)]
struct Found<'a> {
    fields: Fields<'a, 20>,
    stream: Option<Text<'a>>,
    enveloped: bool,
    columns: Columns,
}

impl<'a> Found<'a> {
    /// Reads `{ .. }`: a message, or the envelope around one.
    // In its only caller, what it finds is made where it stays.
    #[inline(always)]
    fn scan(scan: &mut Scan<'a>, store: &mut Store<'_>) -> Result<Self, NotJson> {
        let columns = Columns::begin(store);
        let mut found = Self { fields: Fields::new(&NAMES), stream: None, enveloped: false, columns };
        if scan.begins() != b'{' {
            scan.skip()?;
            return Ok(found);
        }
        scan.open();
        let mut first = true;
        while let Some(key) = scan.key(&mut first)? {
            match key.raw {
                "stream" if scan.begins() == b'"' => found.stream = Some(scan.string()?),
                "data" if scan.begins() == b'{' && !found.enveloped => {
                    if found.fields.any {
                        // What stood before the message is the envelope's.
                        store.levels.clear();
                        (found.fields, found.columns) = (Fields::new(&NAMES), Columns::begin(store));
                    }
                    found.enveloped = true;
                    scan.open();
                    let mut first = true;
                    while let Some(key) = scan.key(&mut first)? {
                        found.field(key, scan, store)?;
                    }
                }
                _ if found.enveloped => scan.skip()?,
                _ => found.field(key, scan, store)?,
            }
        }
        Ok(found)
    }

    #[inline]
    fn field(&mut self, key: Text<'a>, scan: &mut Scan<'a>, store: &mut Store<'_>) -> Result<(), NotJson> {
        match slot(key.raw) {
            Some(slot) => self.fields.take(slot, scan, &mut Pair, &mut self.columns, store),
            None => scan.skip(),
        }
    }

    /// What is after the first `@` of the stream's name.
    fn channel(&self) -> Option<&'a str> {
        self.stream.filter(|s| !s.escaped).and_then(|s| channel(s.raw))
    }

    fn kind(&self) -> Kind<'a> {
        let has = |slots: &[usize]| slots.iter().all(|slot| self.fields.has(*slot));
        match self.fields.value(EVENT) {
            Value::Text(Text { raw, escaped: false }) => match raw {
                DEPTH => match self.channel().and_then(|c| c.strip_prefix("depth")) {
                    Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => Kind::Other("partialDepth"),
                    _ => Kind::Delta,
                },
                TICKER => Kind::Quote,
                TRADE => Kind::Trade,
                other => Kind::Other(other),
            },
            Value::Absent if self.enveloped => match self.channel() {
                Some(TICKER) => Kind::Quote,
                Some(channel) => Kind::Other(channel),
                None => Kind::Other(""),
            },
            Value::Absent if has(&[SNAPSHOT_ID]) => Kind::Snapshot,
            Value::Absent if has(&[LAST_ID, S, B, BID_QTY, A, ASK_QTY]) => Kind::Quote,
            _ => Kind::Other(""),
        }
    }

    /// Both sides, and the head with their scales.
    fn levels(&self, sides: [usize; 2], head: Head, store: &mut Store<'_>) -> Result<(Head, [Span; 2]), Unfit> {
        let sides = self.fields.sides(sides)?;
        let (price, qty) = self.columns.settle(store, Writing::Texts).ok_or(NOT_REPRESENTABLE)?;
        Ok((Head { price, qty, ..head }, sides))
    }

    fn part(
        &self,
        kind: Kind<'a>,
        json: &'a str,
        ingest_ns: u64,
        needs_prev: bool,
        store: &mut Store<'_>,
    ) -> Result<Part, Unfit> {
        let fields = &self.fields;
        let required: &[usize] = match kind {
            Kind::Delta if needs_prev => &[EVENT_MS, S, FIRST_ID, LAST_ID, PREV_ID, B, A],
            Kind::Delta => &[EVENT_MS, S, FIRST_ID, LAST_ID, B, A],
            Kind::Quote => &[S, LAST_ID, B, BID_QTY, A, ASK_QTY],
            Kind::Trade => &[EVENT_MS, S, TRADE_ID, PRICE, QTY, TRANSACT_MS, BUYER_IS_MAKER],
            Kind::Snapshot => &[SNAPSHOT_ID, BIDS, ASKS],
            Kind::Other(_) => return Err(Unfit::Verbatim(OpaqueReason::UnknownKind)),
        };
        fields.require(required)?;
        let mut head = Head { ingest_ns, ..Head::default() };
        let times = |head: &mut Head| -> Result<(), Unfit> {
            head.exchange_ns = fields.ms(EVENT_MS)?;
            head.transact_ns = fields.ms(TRANSACT_MS)?;
            Ok(())
        };
        let part = |head, symbol, what| Part { head, symbol: Span::of(symbol, json), what, proof: Proof::default() };
        match kind {
            Kind::Delta => {
                let (first_id, last_id) = (fields.natural(FIRST_ID)?, fields.natural(LAST_ID)?);
                if first_id > last_id {
                    return Err(fields.absurd(FIRST_ID).into());
                }
                let prev_id = fields.optional(PREV_ID, Fields::natural)?;
                times(&mut head)?;
                let symbol = fields.symbol(S)?;
                let (head, [bids, asks]) = self.levels([B, A], head, store)?;
                Ok(part(head, symbol, What::Delta { first_id, last_id, prev_id, bids, asks }))
            }
            Kind::Snapshot => {
                let last_id = fields.natural(SNAPSHOT_ID)?;
                let symbol = fields.optional(S, Fields::symbol)?.unwrap_or_default();
                times(&mut head)?;
                let (head, [bids, asks]) = self.levels([BIDS, ASKS], head, store)?;
                Ok(part(head, symbol, What::Snapshot { last_id, bids, asks }))
            }
            Kind::Trade => {
                let trade_id = fields.natural(TRADE_ID)?;
                let buyer_is_maker = fields.flag(BUYER_IS_MAKER)?;
                let legacy_m = fields.optional(LEGACY_M, Fields::flag)?;
                let order_type = fields.optional(ORDER_TYPE, Fields::text)?;
                times(&mut head)?;
                let symbol = fields.symbol(S)?;
                let (price, qty) = (fields.decimal(PRICE)?, fields.decimal(QTY)?);
                let order_type = match order_type {
                    None => None,
                    Some(text) => Some(OrderType::from_text(text.raw.as_bytes()).ok_or(NOT_REPRESENTABLE)?),
                };
                let head = Head { price: Scale::fixed(price.decimals), qty: Scale::fixed(qty.decimals), ..head };
                let (price, qty) = (price.mantissa, qty.mantissa);
                Ok(part(head, symbol, What::Trade { trade_id, price, qty, buyer_is_maker, order_type, legacy_m }))
            }
            Kind::Quote => {
                let update_id = fields.natural(LAST_ID)?;
                times(&mut head)?;
                let symbol = fields.symbol(S)?;
                let (bid, bid_qty) = (fields.decimal(B)?, fields.decimal(BID_QTY)?);
                let (ask, ask_qty) = (fields.decimal(A)?, fields.decimal(ASK_QTY)?);
                let (price, [bid_price, ask_price]) = scaled([bid, ask])?;
                let (qty, [bid_qty, ask_qty]) = scaled([bid_qty, ask_qty])?;
                let head = Head { price, qty, ..head };
                Ok(part(head, symbol, What::Quote { update_id, bid_price, bid_qty, ask_price, ask_qty }))
            }
            Kind::Other(_) => Err(Unfit::Verbatim(OpaqueReason::UnknownKind)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind<'a> {
    Delta,
    Quote,
    Trade,
    Snapshot,
    /// Its name; may be empty.
    Other(&'a str),
}

/// Reads one message.
fn read<'a>(json: &'a str, ingest_ns: u64, scratch: &'a mut Scratch, needs_prev: bool) -> Result<Message<'a>, Flaw> {
    match usual::read(json, ingest_ns, scratch, needs_prev) {
        Some(kind) => Ok(scratch.message(kind, json)),
        None => {
            scratch.levels.clear();
            read_any(json, ingest_ns, scratch, needs_prev)
        }
    }
}

/// Reads one message, whatever the order of its fields.
fn read_any<'a>(
    json: &'a str,
    ingest_ns: u64,
    scratch: &'a mut Scratch,
    needs_prev: bool,
) -> Result<Message<'a>, Flaw> {
    let mut scan = Scan::new(json);
    let found = Found::scan(&mut scan, &mut scratch.store())?;
    scan.end()?;

    let kind = found.kind();
    let name = match kind {
        Kind::Delta => DEPTH,
        Kind::Quote => TICKER,
        Kind::Trade => TRADE,
        Kind::Snapshot => SNAPSHOT,
        Kind::Other("") => "unknown",
        Kind::Other(name) => name,
    };
    let absurd = match found.fields.value(EVENT_MS) {
        Value::Number(Number::Natural(ms)) => {
            ms.checked_mul(NS_PER_MS).is_none_or(|ns| ns > ingest_ns.saturating_add(AHEAD_NS_MAX))
        }
        _ => false,
    };
    match found.part(kind, json, ingest_ns, needs_prev, &mut scratch.store()) {
        Err(Unfit::Flaw(flaw)) => return Err(flaw),
        Ok(part) if !absurd => scratch.parts.push(part),
        unfit => {
            let head = Head {
                exchange_ns: if absurd { 0 } else { found.fields.ms(EVENT_MS).unwrap_or(0) },
                ingest_ns,
                transact_ns: found.fields.ms(TRANSACT_MS).unwrap_or(0),
                ..Head::default()
            };
            let reason = match unfit {
                Err(Unfit::Verbatim(reason)) if !absurd => reason,
                _ => OpaqueReason::AbsurdTime,
            };
            scratch.verbatim(head, found.fields.symbol(S).unwrap_or(""), json, reason);
        }
    }
    Ok(scratch.message(name, json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_slot() {
        assert!(NAMES.iter().enumerate().all(|(index, name)| slot(name) == Some(index)));
    }
}
