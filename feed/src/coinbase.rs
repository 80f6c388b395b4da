//! Coinbase Exchange's messages: the channels level2, matches and ticker.
//!
//! ```text
//! {"type":"snapshot","product_id":..,"asks":[..],"bids":[..]}                          book snapshot
//! {"type":"l2update","product_id":..,"changes":[["sell","price","size"],..],"time":..} book delta; sell = ask
//! {"type":"match","product_id":..,"trade_id":..,"side":..,"price":..,"size":..,..}     trade
//! {"type":"ticker",..,"best_bid":..,"best_ask":..}      opaque; its best prices are compared with the book
//! anything else                                          opaque: subscriptions, last_match, heartbeat ..
//! ```
//!
//! **No ids, no checksum.** The book's messages are not numbered, so what follows a snapshot in the stream follows it, and
//! a lost update shows nowhere but in the ticker, which says the best prices when it was made. `side` of a match is the
//! maker's. `last_match` is the trade before the subscription: it belongs to no stretch of the stream that was recorded,
//! and stays verbatim. Sizes of one message that no scale writes again (`0.10` beside `0.5`) are kept by their value, with
//! the most decimals of them, because a change that was left out would be seen by nobody. Not kept of a match: the orders' ids and `sequence`.
//!
//! Sources: `docs.cdp.coinbase.com`, "Exchange WebSocket channels"; the recording of 2021.

mod usual;

use chronicle_protocol::{Head, OpaqueReason, Scale};

use crate::fields::{Fields, NOT_REPRESENTABLE, Unfit};
use crate::flaw::Flaw;
use crate::json::Scan;
use crate::levels::{Bad, Columns, LevelDigits, Pair, Store, Writing, comma, pass, rest};
use crate::venue::{Dialect, Message, Part, Proof, Scratch, Span, What};

pub(crate) struct Coinbase;

const UPDATE: &str = "l2update";
const SNAPSHOT: &str = "snapshot";
const MATCH: &str = "match";
const TICKER: &str = "ticker";

const NAMES: [&str; 11] =
    ["type", "product_id", "asks", "bids", "time", "trade_id", "side", "price", "size", "best_bid", "best_ask"];
const TYPE: usize = 0;
const PRODUCT: usize = 1;
const ASKS: usize = 2;
const BIDS: usize = 3;
const TIME: usize = 4;
const TRADE_ID: usize = 5;
const SIDE: usize = 6;
const PRICE: usize = 7;
const SIZE: usize = 8;
const BEST_BID: usize = 9;
const BEST_ASK: usize = 10;
const CHANGES: &str = "changes";

fn slot(key: &str) -> Option<usize> {
    Some(match key.as_bytes() {
        b"type" => TYPE,
        b"product_id" => PRODUCT,
        b"asks" => ASKS,
        b"bids" => BIDS,
        b"time" => TIME,
        b"trade_id" => TRADE_ID,
        b"side" => SIDE,
        b"price" => PRICE,
        b"size" => SIZE,
        b"best_bid" => BEST_BID,
        b"best_ask" => BEST_ASK,
        _ => return None,
    })
}

impl Dialect for Coinbase {
    fn kinds(&self) -> &'static [&'static str] {
        &[UPDATE, SNAPSHOT, MATCH]
    }

    fn read<'a>(&self, text: &'a str, received_ns: u64, scratch: &'a mut Scratch) -> Result<Message<'a>, Flaw> {
        match usual::read(text, received_ns, scratch) {
            Some(kind) => Ok(scratch.message(kind, text)),
            None => read_any(text, received_ns, scratch),
        }
    }
}

/// Reads a message of any kind, its fields in any order.
fn read_any<'a>(text: &'a str, received_ns: u64, scratch: &'a mut Scratch) -> Result<Message<'a>, Flaw> {
    let mut scan = Scan::new(text);
    let mut store = Store { levels: &mut scratch.levels, decimals: &mut scratch.decimals };
    let mut columns = Columns::begin(&mut store);
    let mut fields = Fields::new(&NAMES);
    let mut changed = None;
    if scan.begins() == b'{' {
        scan.open();
        let mut first = true;
        while let Some(key) = scan.key(&mut first)? {
            match slot(key.raw) {
                Some(slot) => fields.take(slot, &mut scan, &mut Pair, &mut columns, &mut store)?,
                None if key.raw == CHANGES && scan.begins() == b'[' => {
                    if changed.is_some() {
                        fields.twice = fields.twice.or(Some(CHANGES));
                    }
                    let start = scan.at();
                    let sides = changes(&mut scan, &mut columns, &mut store, &mut scratch.aside);
                    if sides.is_err() {
                        scan.go_back_to(start);
                        scan.skip()?;
                    }
                    changed = Some(sides);
                }
                None => scan.skip()?,
            }
        }
    } else {
        scan.skip()?;
    }
    scan.end()?;
    let word = fields.word(TYPE).unwrap_or("unknown");
    let name = fields.symbol(PRODUCT).unwrap_or("");
    let head = Head { ingest_ns: received_ns, ..Head::default() };
    let part = match word {
        SNAPSHOT => snapshot(text, &fields, head, columns, &mut store),
        UPDATE => update(text, &fields, changed, head, columns, &mut store),
        MATCH => trade(text, &fields, head),
        _ => {
            let best = fields.decimal(BEST_BID).and_then(|bid| Ok([bid, fields.decimal(BEST_ASK)?])).ok();
            scratch.verbatim(head, name, text, OpaqueReason::UnknownKind);
            scratch.parts.iter_mut().for_each(|part| part.proof.best = best.filter(|_| word == TICKER));
            return Ok(scratch.message(word, text));
        }
    };
    let outcome = part.map(|part| scratch.parts.push(part));
    scratch.keep(word, text, received_ns, name, word != MATCH, outcome)
}

/// Reads `[["sell","price","size"],..]`; `scan` stands at its bracket. If it is none, `scan` stands anywhere behind that.
fn changes(
    scan: &mut Scan<'_>,
    columns: &mut Columns,
    store: &mut Store<'_>,
    asks: &mut Vec<LevelDigits>,
) -> Result<[Span; 2], Bad> {
    let from = store.levels.len();
    asks.clear();
    scan.open();
    let (mut first, mut unfit) = (true, false);
    while scan.element(&mut first).map_err(|_| Bad::Shape)? {
        if scan.begins() != b'[' {
            return Err(Bad::Shape);
        }
        scan.open();
        if scan.begins() != b'"' {
            return Err(Bad::Shape);
        }
        let side = scan.string().map_err(|_| Bad::Shape)?;
        comma(scan)?;
        let (level, more) = rest(scan)?;
        if more {
            pass(scan)?;
        }
        match (side.raw, level) {
            ("buy", Ok(level)) => columns.push(store, level),
            ("sell", Ok(level)) => asks.push(level),
            ("buy" | "sell", Err(_)) => unfit = true,
            _ => return Err(Bad::Absurd),
        }
        unfit |= more;
    }
    let bids = Span::new(from, store.levels.len());
    for level in &*asks {
        columns.push(store, *level);
    }
    let sides = [bids, Span::new(store.levels.len() - asks.len(), store.levels.len())];
    if unfit { Err(Bad::Unfit) } else { Ok(sides) }
}

fn snapshot(
    text: &str,
    fields: &Fields<'_, 11>,
    head: Head,
    columns: Columns,
    store: &mut Store<'_>,
) -> Result<Part, Unfit> {
    fields.require(&[PRODUCT, ASKS, BIDS])?;
    let symbol = fields.symbol(PRODUCT)?;
    let exchange_ns = fields.optional(TIME, Fields::rfc3339)?.unwrap_or(0);
    let [bids, asks] = fields.sides([BIDS, ASKS])?;
    let (price, qty) = columns.settle(store, Writing::TextsOrValues).ok_or(NOT_REPRESENTABLE)?;
    Ok(Part {
        head: Head { exchange_ns, price, qty, ..head },
        symbol: Span::of(symbol, text),
        what: What::Snapshot { last_id: 0, bids, asks },
        proof: Proof::default(),
    })
}

fn update(
    text: &str,
    fields: &Fields<'_, 11>,
    changed: Option<Result<[Span; 2], Bad>>,
    head: Head,
    columns: Columns,
    store: &mut Store<'_>,
) -> Result<Part, Unfit> {
    fields.require(&[PRODUCT, TIME])?;
    let symbol = fields.symbol(PRODUCT)?;
    let [bids, asks] = match changed {
        None => return Err(Flaw::Lacks { field: CHANGES }.into()),
        Some(Ok(sides)) => sides,
        Some(Err(Bad::Unfit)) => return Err(NOT_REPRESENTABLE),
        Some(Err(Bad::Absurd)) => return Err(Flaw::Absurd { field: CHANGES }.into()),
        Some(Err(Bad::Shape)) => {
            return Err(Flaw::WrongType { field: CHANGES, expected: "a list of [side, price, size] texts" }.into());
        }
    };
    let exchange_ns = fields.rfc3339(TIME)?;
    let (price, qty) = columns.settle(store, Writing::TextsOrValues).ok_or(NOT_REPRESENTABLE)?;
    Ok(Part {
        head: Head { exchange_ns, price, qty, ..head },
        symbol: Span::of(symbol, text),
        what: What::Delta { first_id: 0, last_id: 0, prev_id: None, bids, asks },
        proof: Proof::default(),
    })
}

fn trade(text: &str, fields: &Fields<'_, 11>, head: Head) -> Result<Part, Unfit> {
    fields.require(&[PRODUCT, TRADE_ID, SIDE, PRICE, SIZE, TIME])?;
    let trade_id = fields.natural(TRADE_ID)?;
    let exchange_ns = fields.rfc3339(TIME)?;
    let symbol = fields.symbol(PRODUCT)?;
    let (price, qty) = (fields.decimal(PRICE)?, fields.decimal(SIZE)?);
    // The side is the maker's.
    let buyer_is_maker = match fields.text(SIDE)?.raw {
        "buy" => true,
        "sell" => false,
        _ => return Err(fields.absurd(SIDE).into()),
    };
    let (price_scale, qty_scale) = (Scale::fixed(price.decimals), Scale::fixed(qty.decimals));
    Ok(Part {
        head: Head { exchange_ns, price: price_scale, qty: qty_scale, ..head },
        symbol: Span::of(symbol, text),
        what: What::Trade {
            trade_id,
            price: price.mantissa,
            qty: qty.mantissa,
            buyer_is_maker,
            order_type: None,
            legacy_m: None,
        },
        proof: Proof::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_slot() {
        assert!(NAMES.iter().enumerate().all(|(index, name)| slot(name) == Some(index)));
    }
}
