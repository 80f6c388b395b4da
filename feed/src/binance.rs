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

use chronicle_protocol::{DecimalText, Head, Level, NotExact, OpaqueReason, OrderType, Scale, ScaleFinder};

use crate::flaw::Flaw;
use crate::json::{NotJson, Number, Scan, Text};
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

/// An event time further ahead of its receive time than this cannot be meant.
const AHEAD_NS_MAX: u64 = 24 * 3600 * 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
/// What a record holds.
const SYMBOL_LEN_MAX: usize = 255;

/// The value of a field, as far as any kind of message cares.
#[derive(Clone, Copy, Debug, Default)]
enum Value<'a> {
    #[default]
    Absent,
    Number(Number),
    Text(Text<'a>),
    Bool(bool),
    /// An array at these bytes of the JSON text; if it has levels in the usual writing, they are in the scratch.
    Array {
        json: (usize, usize),
        levels: Option<(usize, usize)>,
    },
    /// Null or an object.
    Other,
}

/// The fields of a message, in the order of [`NAMES`].
type Fields<'a> = [Value<'a>; NAMES.len()];

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

/// The decimals of the levels of one message so far, while they are all the same.
#[derive(Clone, Copy, Debug, Default)]
struct Uniform {
    price: Option<u8>,
    qty: Option<u8>,
}

/// What a scan over one line's JSON found.
#[derive(Debug, Default)]
struct Found<'a> {
    fields: Fields<'a>,
    /// There are fields.
    any: bool,
    /// The first field met twice.
    twice: Option<&'static str>,
    stream: Option<Text<'a>>,
    enveloped: bool,
    uniform: Uniform,
}

impl<'a> Found<'a> {
    /// Reads `{ .. }`: a message, or the envelope around one.
    fn scan(&mut self, scan: &mut Scan<'a>, levels: &mut Vec<Level>) -> Result<(), NotJson> {
        if scan.begins() != b'{' {
            return scan.skip();
        }
        scan.open();
        let mut first = true;
        while let Some(key) = scan.key(&mut first)? {
            match key.raw {
                "stream" if scan.begins() == b'"' => self.stream = Some(scan.string()?),
                "data" if scan.begins() == b'{' && !self.enveloped => {
                    if self.any {
                        // What stood before the message is the envelope's.
                        let stream = self.stream;
                        levels.clear();
                        *self = Self { stream, ..Self::default() };
                    }
                    self.enveloped = true;
                    scan.open();
                    let mut first = true;
                    while let Some(key) = scan.key(&mut first)? {
                        self.field(key, scan, levels)?;
                    }
                }
                _ if self.enveloped => scan.skip()?,
                _ => self.field(key, scan, levels)?,
            }
        }
        Ok(())
    }

    #[inline]
    fn field(&mut self, key: Text<'a>, scan: &mut Scan<'a>, levels: &mut Vec<Level>) -> Result<(), NotJson> {
        let Some(slot) = slot(key.raw) else { return scan.skip() };
        if !matches!(self.fields[slot], Value::Absent) {
            self.twice = self.twice.or(Some(NAMES[slot]));
            return scan.skip();
        }
        self.any = true;
        self.fields[slot] = match scan.begins() {
            b'"' => Value::Text(scan.string()?),
            b'-' | b'0'..=b'9' => Value::Number(scan.number()?),
            b'[' => {
                let start = scan.at();
                let quick = self.quick_levels(scan, levels);
                if quick.is_none() {
                    scan.go_back_to(start);
                    scan.skip()?;
                }
                Value::Array { json: (start, scan.at()), levels: quick }
            }
            b'{' => {
                scan.skip()?;
                Value::Other
            }
            _ => scan.word()?.map_or(Value::Other, Value::Bool),
        };
        Ok(())
    }

    /// Reads `[["price","qty"],..]` in the usual writing, all prices with the same decimals and all quantities too.
    #[inline]
    fn quick_levels(&mut self, scan: &mut Scan<'a>, levels: &mut Vec<Level>) -> Option<(usize, usize)> {
        let from = levels.len();
        scan.open();
        if scan.take(b']') {
            return Some((from, from));
        }
        loop {
            if !scan.take(b'[') {
                return None;
            }
            let (price, price_decimals) = scan.quick_decimal()?;
            if !scan.take(b',') {
                return None;
            }
            let (qty, qty_decimals) = scan.quick_decimal()?;
            if !scan.take(b']')
                || *self.uniform.price.get_or_insert(price_decimals) != price_decimals
                || *self.uniform.qty.get_or_insert(qty_decimals) != qty_decimals
            {
                return None;
            }
            levels.push(Level::new(price, qty));
            if !scan.take(b',') {
                return scan.take(b']').then_some((from, levels.len()));
            }
        }
    }

    /// What is after the first `@` of the stream's name.
    fn channel(&self) -> Option<&'a str> {
        self.stream.filter(|s| !s.escaped).and_then(|s| s.raw.split_once('@')).map(|(_, channel)| channel)
    }

    fn kind(&self) -> Kind<'a> {
        let has = |slots: &[usize]| slots.iter().all(|slot| !matches!(self.fields[*slot], Value::Absent));
        match self.fields[EVENT] {
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

/// Why a message of a known kind becomes no record of that kind.
enum Unfit {
    Flaw(Flaw),
    Verbatim(OpaqueReason),
}

impl From<Flaw> for Unfit {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

const NOT_REPRESENTABLE: Unfit = Unfit::Verbatim(OpaqueReason::NotRepresentable);

impl<'a> Found<'a> {
    fn natural(&self, slot: usize) -> Result<u64, Flaw> {
        let field = NAMES[slot];
        match self.fields[slot] {
            Value::Absent => Err(Flaw::Lacks { field }),
            Value::Number(Number::Natural(value)) => Ok(value),
            Value::Number(Number::Other) => Err(Flaw::Absurd { field }),
            _ => Err(Flaw::WrongType { field, expected: "a number" }),
        }
    }

    /// The value, or none when the field is absent.
    fn optional<T, E>(&self, slot: usize, get: impl Fn(&Self, usize) -> Result<T, E>) -> Result<Option<T>, E> {
        match self.fields[slot] {
            Value::Absent => Ok(None),
            _ => get(self, slot).map(Some),
        }
    }

    fn flag(&self, slot: usize) -> Result<bool, Flaw> {
        let field = NAMES[slot];
        match self.fields[slot] {
            Value::Absent => Err(Flaw::Lacks { field }),
            Value::Bool(value) => Ok(value),
            _ => Err(Flaw::WrongType { field, expected: "true or false" }),
        }
    }

    fn text(&self, slot: usize) -> Result<Text<'a>, Flaw> {
        let field = NAMES[slot];
        match self.fields[slot] {
            Value::Absent => Err(Flaw::Lacks { field }),
            Value::Text(text) => Ok(text),
            _ => Err(Flaw::WrongType { field, expected: "a text" }),
        }
    }

    fn symbol(&self, slot: usize) -> Result<&'a str, Unfit> {
        let symbol = self.text(slot)?;
        match symbol.raw.len() {
            0 => Err(Flaw::Lacks { field: NAMES[slot] }.into()),
            1..=SYMBOL_LEN_MAX if !symbol.escaped => Ok(symbol.raw),
            _ => Err(NOT_REPRESENTABLE),
        }
    }

    fn decimal(&self, slot: usize) -> Result<DecimalText, Unfit> {
        let text = self.text(slot)?;
        if text.escaped {
            return Err(NOT_REPRESENTABLE);
        }
        DecimalText::parse(text.raw.as_bytes()).map_err(|why| unfit(why, NAMES[slot]))
    }

    /// A time in ns; 0 when the venue sent none.
    fn time_ns(&self, slot: usize) -> Result<u64, Unfit> {
        match self.optional(slot, Self::natural)? {
            None => Ok(0),
            // A record says "none" with 0, so it cannot say 1970.
            Some(0) => Err(NOT_REPRESENTABLE),
            Some(ms) => ms.checked_mul(NS_PER_MS).ok_or(NOT_REPRESENTABLE),
        }
    }

    /// Both sides' levels and the scales that write them again.
    fn levels(&self, json: &str, [bids, asks]: [usize; 2], scratch: &mut Scratch) -> Result<Sides, Unfit> {
        let side = |slot: usize| match self.fields[slot] {
            Value::Absent => Err(Flaw::Lacks { field: NAMES[slot] }),
            Value::Array { json, levels } => Ok((json, levels)),
            _ => Err(Flaw::WrongType { field: NAMES[slot], expected: "a list of levels" }),
        };
        let ((bids_json, quick_bids), (asks_json, quick_asks)) = (side(bids)?, side(asks)?);
        if let (Some(bids), Some(asks)) = (quick_bids, quick_asks) {
            let fixed = |decimals: Option<u8>| Scale::fixed(decimals.unwrap_or(0));
            return Ok(Sides {
                bids: Span::new(bids.0, bids.1),
                asks: Span::new(asks.0, asks.1),
                price: fixed(self.uniform.price),
                qty: fixed(self.uniform.qty),
            });
        }
        // The unusual: blanks, decimals that differ, a minus, many digits, or no levels at all.
        let Scratch { texts, levels, .. } = scratch;
        texts.clear();
        let bids_fit = closer_levels(&json[bids_json.0..bids_json.1], NAMES[bids], texts)?;
        let bid_count = texts.len();
        let asks_fit = closer_levels(&json[asks_json.0..asks_json.1], NAMES[asks], texts)?;
        if !(bids_fit && asks_fit) {
            return Err(NOT_REPRESENTABLE);
        }
        let (mut prices, mut qtys) = (ScaleFinder::new(), ScaleFinder::new());
        for (price, qty) in &*texts {
            prices.see(*price);
            qtys.see(*qty);
        }
        let (price, qty) = prices.scale().zip(qtys.scale()).ok_or(NOT_REPRESENTABLE)?;
        levels.clear();
        for (price_text, qty_text) in &*texts {
            let mantissas = price_text.under(price).zip(qty_text.under(qty)).ok_or(NOT_REPRESENTABLE)?;
            levels.push(Level::new(mantissas.0, mantissas.1));
        }
        let (bids, asks) = (Span::new(0, bid_count), Span::new(bid_count, levels.len()));
        Ok(Sides { bids, asks, price, qty })
    }

    fn part(
        &self,
        kind: Kind<'a>,
        json: &'a str,
        ingest_ns: u64,
        needs_prev: bool,
        scratch: &mut Scratch,
    ) -> Result<Part, Unfit> {
        if let Kind::Other(_) = kind {
            return Err(Unfit::Verbatim(OpaqueReason::UnknownKind));
        }
        if let Some(field) = self.twice {
            return Err(Flaw::Twice { field }.into());
        }
        // Damage first: what a message lacks makes it malformed, however odd the rest of it is.
        let required: &[usize] = match kind {
            Kind::Delta if needs_prev => &[EVENT_MS, S, FIRST_ID, LAST_ID, PREV_ID, B, A],
            Kind::Delta => &[EVENT_MS, S, FIRST_ID, LAST_ID, B, A],
            Kind::Quote => &[S, LAST_ID, B, BID_QTY, A, ASK_QTY],
            Kind::Trade => &[EVENT_MS, S, TRADE_ID, PRICE, QTY, TRANSACT_MS, BUYER_IS_MAKER],
            Kind::Snapshot => &[SNAPSHOT_ID, BIDS, ASKS],
            Kind::Other(_) => &[],
        };
        if let Some(missing) = required.iter().find(|slot| matches!(self.fields[**slot], Value::Absent)) {
            return Err(Flaw::Lacks { field: NAMES[*missing] }.into());
        }
        let mut head = Head { ingest_ns, ..Head::default() };
        let times = |head: &mut Head| -> Result<(), Unfit> {
            head.exchange_ns = self.time_ns(EVENT_MS)?;
            head.transact_ns = self.time_ns(TRANSACT_MS)?;
            Ok(())
        };
        let part = |head, symbol, what| Part { head, symbol: Span::of(symbol, json), what, proof: Proof::None };
        match kind {
            Kind::Delta => {
                let (first_id, last_id) = (self.natural(FIRST_ID)?, self.natural(LAST_ID)?);
                if first_id > last_id {
                    return Err(Flaw::Absurd { field: NAMES[FIRST_ID] }.into());
                }
                let prev_id = self.optional(PREV_ID, Self::natural)?;
                times(&mut head)?;
                let symbol = self.symbol(S)?;
                let Sides { bids, asks, price, qty } = self.levels(json, [B, A], scratch)?;
                let head = Head { price, qty, ..head };
                Ok(part(head, symbol, What::Delta { first_id, last_id, prev_id, bids, asks }))
            }
            Kind::Snapshot => {
                let last_id = self.natural(SNAPSHOT_ID)?;
                let symbol = self.optional(S, Self::symbol)?.unwrap_or_default();
                times(&mut head)?;
                let Sides { bids, asks, price, qty } = self.levels(json, [BIDS, ASKS], scratch)?;
                Ok(part(Head { price, qty, ..head }, symbol, What::Snapshot { last_id, bids, asks }))
            }
            Kind::Trade => {
                let trade_id = self.natural(TRADE_ID)?;
                let buyer_is_maker = self.flag(BUYER_IS_MAKER)?;
                let legacy_m = self.optional(LEGACY_M, Self::flag)?;
                let order_type = self.optional(ORDER_TYPE, Self::text)?;
                times(&mut head)?;
                let symbol = self.symbol(S)?;
                let (price, qty) = (self.decimal(PRICE)?, self.decimal(QTY)?);
                let order_type = match order_type {
                    None => None,
                    Some(text) => Some(OrderType::from_text(text.raw.as_bytes()).ok_or(NOT_REPRESENTABLE)?),
                };
                let head = Head { price: Scale::fixed(price.decimals), qty: Scale::fixed(qty.decimals), ..head };
                let (price, qty) = (price.mantissa, qty.mantissa);
                Ok(part(head, symbol, What::Trade { trade_id, price, qty, buyer_is_maker, order_type, legacy_m }))
            }
            Kind::Quote => {
                let update_id = self.natural(LAST_ID)?;
                times(&mut head)?;
                let symbol = self.symbol(S)?;
                let (bid, bid_qty) = (self.decimal(B)?, self.decimal(BID_QTY)?);
                let (ask, ask_qty) = (self.decimal(A)?, self.decimal(ASK_QTY)?);
                let scaled = |texts: [DecimalText; 2]| -> Result<(Scale, [i64; 2]), Unfit> {
                    let mut finder = ScaleFinder::new();
                    texts.iter().for_each(|text| finder.see(*text));
                    let scale = finder.scale().ok_or(NOT_REPRESENTABLE)?;
                    let [Some(one), Some(other)] = texts.map(|text| text.under(scale)) else {
                        return Err(NOT_REPRESENTABLE);
                    };
                    Ok((scale, [one, other]))
                };
                let (price, [bid_price, ask_price]) = scaled([bid, ask])?;
                let (qty, [bid_qty, ask_qty]) = scaled([bid_qty, ask_qty])?;
                let head = Head { price, qty, ..head };
                Ok(part(head, symbol, What::Quote { update_id, bid_price, bid_qty, ask_price, ask_qty }))
            }
            Kind::Other(_) => Err(Unfit::Verbatim(OpaqueReason::UnknownKind)),
        }
    }
}

/// Both sides in the scratch, and how they are written.
#[derive(Clone, Copy)]
struct Sides {
    bids: Span,
    asks: Span,
    price: Scale,
    qty: Scale,
}

fn unfit(why: NotExact, field: &'static str) -> Unfit {
    match why {
        NotExact::NotANumber => Flaw::Absurd { field }.into(),
        NotExact::Spelling | NotExact::TooLong => NOT_REPRESENTABLE,
    }
}

/// Reads any list of levels, in JSON that has been checked. Gives whether all of them are representable.
fn closer_levels(json: &str, field: &'static str, texts: &mut Vec<(DecimalText, DecimalText)>) -> Result<bool, Flaw> {
    let no_levels = Flaw::WrongType { field, expected: "a list of [price, quantity] texts" };
    let mut all_fit = true;
    let mut scan = Scan::new(json);
    scan.open();
    let mut first = true;
    while scan.element(&mut first).map_err(|_| no_levels)? {
        if scan.begins() != b'[' {
            return Err(no_levels);
        }
        scan.open();
        let mut first = true;
        let mut pair = [None; 2];
        for half in &mut pair {
            if !scan.element(&mut first).map_err(|_| no_levels)? || scan.begins() != b'"' {
                return Err(no_levels);
            }
            let text = scan.string().map_err(|_| no_levels)?;
            *half = match DecimalText::parse(text.raw.as_bytes()) {
                _ if text.escaped => None,
                Ok(decimal) => Some(decimal),
                Err(NotExact::NotANumber) => return Err(Flaw::Absurd { field }),
                Err(NotExact::Spelling | NotExact::TooLong) => None,
            };
        }
        match pair {
            [Some(price), Some(qty)] => texts.push((price, qty)),
            _ => all_fit = false,
        }
        // A third value in a level says something that a record does not.
        while scan.element(&mut first).map_err(|_| no_levels)? {
            all_fit = false;
            scan.skip().map_err(|_| no_levels)?;
        }
    }
    Ok(all_fit)
}

/// Reads one message.
fn read<'a>(json: &'a str, ingest_ns: u64, scratch: &'a mut Scratch, needs_prev: bool) -> Result<Message<'a>, Flaw> {
    let mut found = Found::default();
    let mut scan = Scan::new(json);
    found.scan(&mut scan, &mut scratch.levels).and_then(|()| scan.end())?;

    let kind = found.kind();
    let name = match kind {
        Kind::Delta => DEPTH,
        Kind::Quote => TICKER,
        Kind::Trade => TRADE,
        Kind::Snapshot => SNAPSHOT,
        Kind::Other("") => "unknown",
        Kind::Other(name) => name,
    };
    let absurd = match found.fields[EVENT_MS] {
        Value::Number(Number::Natural(ms)) => {
            ms.checked_mul(NS_PER_MS).is_none_or(|ns| ns > ingest_ns.saturating_add(AHEAD_NS_MAX))
        }
        _ => false,
    };
    match found.part(kind, json, ingest_ns, needs_prev, scratch) {
        Err(Unfit::Flaw(flaw)) => return Err(flaw),
        Ok(part) if !absurd => scratch.parts.push(part),
        unfit => {
            let head = Head {
                exchange_ns: if absurd { 0 } else { found.time_ns(EVENT_MS).unwrap_or(0) },
                ingest_ns,
                transact_ns: found.time_ns(TRANSACT_MS).unwrap_or(0),
                ..Head::default()
            };
            let reason = match unfit {
                Err(Unfit::Verbatim(reason)) if !absurd => reason,
                _ => OpaqueReason::AbsurdTime,
            };
            scratch.verbatim(head, Span::of(found.symbol(S).unwrap_or(""), json), reason, Proof::None);
        }
    }
    Ok(scratch.message(name, json))
}
