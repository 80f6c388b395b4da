//! Kraken's spot messages, versions 1 and 2 of its WebSocket API.
//!
//! ```text
//! version 1: an array, its kind behind its content        version 2: an object
//! [id,{"as":[..],"bs":[..]},"book-1000","XBT/USD"]        {"channel":"book","type":"snapshot","data":[{"symbol":..}]}
//!   book snapshot                                           book snapshot
//! [id,{"a":[..],"c":"…"},"book-1000","XBT/USD"]           {"channel":"book","type":"update","data":[..]}
//!   book delta; of two objects, {"a":..},{"b":..,"c":..},   book delta
//!   one delta of both sides                               {"channel":"trade",..,"data":[..]}
//! {"event":"heartbeat"}, trades, tickers ..                 trades, one record each
//!   opaque                                                anything else: opaque
//! ```
//!
//! **No ids.** Books are not numbered: a delta has the ids 0, and what follows a snapshot in the stream follows it. That
//! nothing is missing is told by the checksum: CRC-32 over the 10 best asks and the 10 best bids, all digits of price and
//! quantity without their leading zeros. A book is kept to the depth of its subscription; what falls out is not removed
//! by a message. Version 1 says the depth in the channel's name, version 2 in its answer to the subscription.
//!
//! **Times.** Version 1 has one per level; the latest of a delta's is taken, and none for a snapshot, whose levels may be
//! years old. Version 2 has one for the message.
//!
//! Not kept: the channel's number, the time of each level, `ord_type` of trades, `req_id`. Version 1 gives trades no id,
//! so they are kept verbatim: nobody could tell a duplicate.
//!
//! Sources: `docs.kraken.com`, "Book" and "Book checksum" of WebSocket v1 and v2, and the recording of 2021.

use chronicle_protocol::{Head, OpaqueReason, Scale};

use crate::fields::{Fields, NOT_REPRESENTABLE, SYMBOL_LEN_MAX, Unfit, Value};
use crate::flaw::Flaw;
use crate::json::{NotJson, Scan, Text};
use crate::levels::{Columns, Named, Store, Timed, Writing};
use crate::venue::{Dialect, Message, Part, Proof, Scratch, Span, What};

pub(crate) struct Kraken;

const BOOK: &str = "book";
const SNAPSHOT: &str = "book snapshot";
const TRADE: &str = "trade";

impl Dialect for Kraken {
    fn kinds(&self) -> &'static [&'static str] {
        &[BOOK, SNAPSHOT, TRADE]
    }

    fn read<'a>(&self, text: &'a str, received_ns: u64, scratch: &'a mut Scratch) -> Result<Message<'a>, Flaw> {
        let mut scan = Scan::new(text);
        match scan.begins() {
            b'[' => v1::read(text, scan, received_ns, scratch),
            b'{' => v2::read(text, scan, received_ns, scratch),
            _ => {
                scan.skip()?;
                scan.end()?;
                scratch.keep("unknown", text, received_ns, "", false, Ok(()))
            }
        }
    }
}

/// What a record can say of a text that may have escapes.
fn symbol(text: Text<'_>) -> Result<&str, Unfit> {
    match text.raw.len() {
        1..=SYMBOL_LEN_MAX if !text.escaped => Ok(text.raw),
        _ => Err(NOT_REPRESENTABLE),
    }
}

mod v1 {
    use super::*;

    pub(super) const NAMES: [&str; 5] = ["a", "b", "as", "bs", "c"];
    const ASKS: usize = 0;
    const BIDS: usize = 1;
    const ALL_ASKS: usize = 2;
    const ALL_BIDS: usize = 3;
    const CHECKSUM: usize = 4;

    pub(super) fn slot(key: &str) -> Option<usize> {
        Some(match key.as_bytes() {
            b"a" => ASKS,
            b"b" => BIDS,
            b"as" => ALL_ASKS,
            b"bs" => ALL_BIDS,
            b"c" => CHECKSUM,
            _ => return None,
        })
    }

    /// `scan` stands at the array.
    pub(super) fn read<'a>(
        text: &'a str,
        mut scan: Scan<'a>,
        received_ns: u64,
        scratch: &'a mut Scratch,
    ) -> Result<Message<'a>, Flaw> {
        let mut store = scratch.store();
        let mut columns = Columns::begin(&mut store);
        let mut fields = Fields::new(&NAMES);
        let mut form = Timed::default();
        // The last two texts are the channel and the pair.
        let (mut channel, mut pair) = (None, None);
        scan.open();
        let mut first = true;
        while scan.element(&mut first)? {
            match scan.begins() {
                b'{' => {
                    scan.open();
                    let mut first = true;
                    while let Some(key) = scan.key(&mut first)? {
                        match slot(key.raw) {
                            Some(slot) => fields.take(slot, &mut scan, &mut form, &mut columns, &mut store)?,
                            None => scan.skip()?,
                        }
                    }
                }
                b'"' => (channel, pair) = (pair, Some(scan.string()?)),
                _ => scan.skip()?,
            }
        }
        scan.end()?;
        let word = channel.filter(|text: &Text<'_>| !text.escaped).map_or("unknown", |text| text.raw);
        let name = pair.and_then(|pair| symbol(pair).ok()).unwrap_or("");
        let Some(depth) = word.strip_prefix("book-").and_then(|depth| depth.parse().ok()) else {
            return scratch.keep(word, text, received_ns, name, false, Ok(()));
        };
        let is_snapshot = fields.has(ALL_ASKS) || fields.has(ALL_BIDS);
        let part = (|| {
            let required: &[usize] = if is_snapshot { &[ALL_ASKS, ALL_BIDS] } else { &[] };
            fields.require(required)?;
            let symbol = symbol(pair.unwrap_or(Text { raw: "", escaped: false }))?;
            let none = Span::default();
            let (asks, bids) = if is_snapshot {
                let [bids, asks] = fields.sides([ALL_BIDS, ALL_ASKS])?;
                (asks, bids)
            } else {
                if !fields.has(ASKS) && !fields.has(BIDS) {
                    return Err(Flaw::Lacks { field: NAMES[ASKS] }.into());
                }
                (
                    fields.optional(ASKS, Fields::side)?.unwrap_or(none),
                    fields.optional(BIDS, Fields::side)?.unwrap_or(none),
                )
            };
            let checksum = fields.optional(CHECKSUM, Fields::natural_text)?;
            let checksum = match checksum.map(u32::try_from) {
                Some(Err(_)) => return Err(fields.absurd(CHECKSUM).into()),
                Some(Ok(checksum)) => Some(checksum),
                None => None,
            };
            let (price, qty) = columns.settle(&mut store, Writing::Texts).ok_or(NOT_REPRESENTABLE)?;
            let exchange_ns = if is_snapshot { 0 } else { form.last_ns };
            let what = if is_snapshot {
                What::Snapshot { last_id: 0, bids, asks }
            } else {
                What::Delta { first_id: 0, last_id: 0, prev_id: None, bids, asks }
            };
            Ok(Part {
                head: Head { exchange_ns, ingest_ns: received_ns, price, qty, ..Head::default() },
                symbol: Span::of(symbol, text),
                what,
                proof: Proof { checksum, depth: Some(depth), ..Proof::default() },
            })
        })();
        let outcome = part.map(|part| scratch.parts.push(part));
        scratch.keep(if is_snapshot { SNAPSHOT } else { BOOK }, text, received_ns, name, true, outcome)
    }
}

mod v2 {
    use super::*;

    pub(super) const NAMES: [&str; 9] =
        ["symbol", "bids", "asks", "checksum", "timestamp", "side", "price", "qty", "trade_id"];
    const SYMBOL: usize = 0;
    const BIDS: usize = 1;
    const ASKS: usize = 2;
    const CHECKSUM: usize = 3;
    const TIME: usize = 4;
    const SIDE: usize = 5;
    const PRICE: usize = 6;
    const QTY: usize = 7;
    const TRADE_ID: usize = 8;

    pub(super) fn slot(key: &str) -> Option<usize> {
        Some(match key.as_bytes() {
            b"symbol" => SYMBOL,
            b"bids" => BIDS,
            b"asks" => ASKS,
            b"checksum" => CHECKSUM,
            b"timestamp" => TIME,
            b"side" => SIDE,
            b"price" => PRICE,
            b"qty" => QTY,
            b"trade_id" => TRADE_ID,
            _ => return None,
        })
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Book { is_snapshot: bool },
        Trade,
        Other,
    }

    fn kind(channel: Option<&str>, action: Option<&str>) -> Kind {
        match (channel, action) {
            (Some("book"), Some("snapshot")) => Kind::Book { is_snapshot: true },
            (Some("book"), Some("update")) => Kind::Book { is_snapshot: false },
            (Some("trade"), Some("snapshot" | "update")) => Kind::Trade,
            _ => Kind::Other,
        }
    }

    /// `scan` stands at the object.
    pub(super) fn read<'a>(
        text: &'a str,
        mut scan: Scan<'a>,
        received_ns: u64,
        scratch: &'a mut Scratch,
    ) -> Result<Message<'a>, Flaw> {
        let (mut channel, mut action, mut event, mut method) = (None, None, None, None);
        let (mut pair, mut subscribed, mut name) = (None, None, "");
        // Where the records are, and what they were read as, if by then it was told.
        let mut data = None;
        scan.open();
        let mut first = true;
        while let Some(key) = scan.key(&mut first)? {
            let place = match key.raw {
                "channel" => &mut channel,
                "type" => &mut action,
                "event" => &mut event,
                "method" => &mut method,
                "pair" => &mut pair,
                "data" if data.is_some() => return Err(Flaw::Twice { field: "data" }),
                "data" if scan.begins() == b'[' => {
                    let (at, kind) = (scan.at(), kind(channel, action));
                    let outcome = elements(text, &mut scan, kind, received_ns, scratch, &mut name);
                    if let Err(Unfit::Flaw(flaw)) = outcome {
                        return Err(flaw);
                    }
                    data = Some((at, kind, outcome));
                    continue;
                }
                "result" if scan.begins() == b'{' => {
                    subscribed = subscription(&mut scan)?;
                    continue;
                }
                _ => {
                    scan.skip()?;
                    continue;
                }
            };
            if scan.begins() == b'"' {
                *place = Some(scan.string()?).filter(|text| !text.escaped).map(|text| text.raw);
            } else {
                scan.skip()?;
            }
        }
        scan.end()?;
        let kind = kind(channel, action);
        let word = match kind {
            Kind::Book { is_snapshot: true } => SNAPSHOT,
            Kind::Book { is_snapshot: false } => BOOK,
            Kind::Trade => TRADE,
            Kind::Other => channel.or(event).or(method).unwrap_or("unknown"),
        };
        let outcome = match data {
            None if kind == Kind::Other => Ok(()),
            None => return Err(Flaw::Lacks { field: "data" }),
            Some((_, early, outcome)) if early == kind => outcome,
            // It was told behind them.
            Some((at, ..)) => {
                scratch.clear();
                elements(text, &mut Scan::from(text, at), kind, received_ns, scratch, &mut name)
            }
        };
        if let Some((symbol, depth)) = subscribed {
            // Its depth is what the book is kept to.
            let head = Head { ingest_ns: received_ns, ..Head::default() };
            scratch.verbatim(head, symbol, text, OpaqueReason::UnknownKind);
            scratch.parts.iter_mut().for_each(|part| part.proof.depth = Some(depth));
            return Ok(scratch.message(word, text));
        }
        if name.is_empty() {
            name = pair.filter(|pair: &&str| pair.len() <= SYMBOL_LEN_MAX).unwrap_or("");
        }
        scratch.keep(word, text, received_ns, name, matches!(kind, Kind::Book { .. }), outcome)
    }

    /// Symbol and depth, if this is the answer to a subscription of a book. `scan` stands at the object.
    fn subscription<'a>(scan: &mut Scan<'a>) -> Result<Option<(&'a str, u32)>, NotJson> {
        let (mut is_book, mut name, mut depth) = (false, None, None);
        scan.open();
        let mut first = true;
        while let Some(key) = scan.key(&mut first)? {
            match (key.raw, scan.begins()) {
                ("channel", b'"') => is_book = scan.string()?.raw == "book",
                ("symbol", b'"') => name = Some(scan.string()?),
                ("depth", b'0'..=b'9') => depth = scan.number_text()?.parse().ok(),
                _ => scan.skip()?,
            }
        }
        let name = name.and_then(|name| symbol(name).ok());
        Ok(name.zip(depth).filter(|_| is_book))
    }

    /// Reads the records of `data`, at whose bracket `scan` stands; passes over them if they are none. `name` becomes the
    /// first symbol that can be told.
    fn elements<'a>(
        text: &'a str,
        scan: &mut Scan<'a>,
        kind: Kind,
        received_ns: u64,
        scratch: &mut Scratch,
        name: &mut &'a str,
    ) -> Result<(), Unfit> {
        let mut outcome = Ok(());
        if kind == Kind::Other {
            scan.skip().map_err(Flaw::from)?;
            return outcome;
        }
        scan.open();
        let mut first = true;
        while scan.element(&mut first).map_err(Flaw::from)? {
            if scan.begins() != b'{' {
                return Err(Flaw::WrongType { field: "data", expected: "a list of objects" }.into());
            }
            let mut store = scratch.store();
            let mut columns = Columns::begin(&mut store);
            let mut fields = Fields::new(&NAMES);
            let mut numbers = [None; 2];
            scan.open();
            let mut first = true;
            while let Some(key) = scan.key(&mut first).map_err(Flaw::from)? {
                let slot = slot(key.raw);
                if let Some(column @ (PRICE | QTY)) = slot {
                    scan.begins();
                    if let Some(number) = scan.quick_number() {
                        if numbers[column - PRICE].replace(number).is_some() {
                            return Err(Flaw::Twice { field: NAMES[column] }.into());
                        }
                        continue;
                    }
                }
                match slot {
                    Some(slot) => fields.take(slot, scan, &mut Named, &mut columns, &mut store),
                    None => scan.skip(),
                }
                .map_err(Flaw::from)?;
            }
            if name.is_empty() {
                *name = fields.symbol(SYMBOL).unwrap_or("");
            }
            let part = match kind {
                Kind::Trade | Kind::Other => trade(text, &fields, numbers, received_ns),
                Kind::Book { is_snapshot } => book(text, &fields, is_snapshot, received_ns, columns, &mut store),
            };
            match part {
                Ok(part) => scratch.parts.push(part),
                Err(Unfit::Flaw(flaw)) => return Err(flaw.into()),
                Err(why) => outcome = Err(why),
            }
        }
        outcome
    }

    fn book(
        text: &str,
        fields: &Fields<'_, 9>,
        is_snapshot: bool,
        received_ns: u64,
        columns: Columns,
        store: &mut Store<'_>,
    ) -> Result<Part, Unfit> {
        fields.require(&[SYMBOL, BIDS, ASKS, CHECKSUM])?;
        let checksum = u32::try_from(fields.natural(CHECKSUM)?).map_err(|_| fields.absurd(CHECKSUM))?;
        // Snapshots were sent without one before they had one.
        let exchange_ns = fields.optional(TIME, Fields::rfc3339)?.unwrap_or(0);
        let symbol = fields.symbol(SYMBOL)?;
        let [bids, asks] = fields.sides([BIDS, ASKS])?;
        let (price, qty) = columns.settle(store, Writing::Values).ok_or(NOT_REPRESENTABLE)?;
        Ok(Part {
            head: Head { exchange_ns, ingest_ns: received_ns, price, qty, ..Head::default() },
            symbol: Span::of(symbol, text),
            what: if is_snapshot {
                What::Snapshot { last_id: 0, bids, asks }
            } else {
                What::Delta { first_id: 0, last_id: 0, prev_id: None, bids, asks }
            },
            proof: Proof { checksum: Some(checksum), ..Proof::default() },
        })
    }

    fn trade(
        text: &str,
        fields: &Fields<'_, 9>,
        numbers: [Option<(i64, u8)>; 2],
        received_ns: u64,
    ) -> Result<Part, Unfit> {
        fields.require(&[SYMBOL, SIDE, TRADE_ID, TIME])?;
        let number = |column: usize| match (numbers[column], fields.value(PRICE + column)) {
            (Some(digits), _) => Ok(digits),
            // Many digits, an exponent.
            (None, Value::Number(_)) => Err(NOT_REPRESENTABLE),
            (None, _) => fields.decimal(PRICE + column).map(|text| (text.mantissa, text.decimals)),
        };
        let (price, qty) = (number(0)?, number(1)?);
        let trade_id = fields.natural(TRADE_ID)?;
        let exchange_ns = fields.rfc3339(TIME)?;
        let symbol = fields.symbol(SYMBOL)?;
        // The side is the taker's.
        let buyer_is_maker = match fields.text(SIDE)?.raw {
            "sell" => true,
            "buy" => false,
            _ => return Err(fields.absurd(SIDE).into()),
        };
        let (scale, price_scale) = (Scale::fixed(qty.1), Scale::fixed(price.1));
        Ok(Part {
            head: Head { exchange_ns, ingest_ns: received_ns, price: price_scale, qty: scale, ..Head::default() },
            symbol: Span::of(symbol, text),
            what: What::Trade {
                trade_id,
                price: price.0,
                qty: qty.0,
                buyer_is_maker,
                order_type: None,
                legacy_m: None,
            },
            proof: Proof::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{v1, v2};

    #[test]
    fn every_name_has_its_slot() {
        assert!(v1::NAMES.iter().enumerate().all(|(index, name)| v1::slot(name) == Some(index)));
        assert!(v2::NAMES.iter().enumerate().all(|(index, name)| v2::slot(name) == Some(index)));
    }
}
