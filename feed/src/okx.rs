//! OKX's messages, version 5 of its public WebSocket API: spot, futures, swaps and options alike.
//!
//! ```text
//! {"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[..],"bids":[..],"ts":"..",..}]}
//!   book snapshot; "action":"update": book delta       channels books, books-elp, books-l2-tbt, books50-l2-tbt
//! {"arg":{"channel":"trades",..},"data":[{..},..]}     trades, one record each
//! anything else                                        opaque: tickers, partial books (books5, bbo-tbt), answers ..
//! ```
//!
//! A level is price, quantity, a deprecated field and a count of orders; the first two are kept. A price is written
//! without needless zeros, so all levels of a message share a trimmed scale.
//!
//! **Ids.** `seqId` and `prevSeqId` are kept as a delta's ids where they are sent: the next delta names the last one, even
//! when numbering starts anew. Without them (before 2023) the checksum is all there is: CRC-32, as a signed number, over
//! the 25 best levels, `bid:size:ask:size:..`, the venue's texts. Since June 2026 OKX sends 0 beside `seqId` instead:
//! that is no checksum.
//!
//! Sources: `okx.com/docs-v5`, "Order book channel"; its change log of February 2026 on the checksum; the recording of
//! 2022.

use chronicle_protocol::{Head, Scale};

use crate::fields::{Fields, NOT_REPRESENTABLE, SYMBOL_LEN_MAX, Unfit, Value};
use crate::flaw::Flaw;
use crate::json::{NotJson, Number, Scan};
use crate::levels::{Columns, Longer, Store, Writing};
use crate::venue::{Dialect, Message, Part, Proof, Scratch, Span, What};

pub(crate) struct Okx;

const BOOK: &str = "books";
const SNAPSHOT: &str = "books snapshot";
const TRADES: &str = "trades";

const NAMES: [&str; 11] =
    ["asks", "bids", "ts", "checksum", "seqId", "prevSeqId", "instId", "tradeId", "px", "sz", "side"];
const ASKS: usize = 0;
const BIDS: usize = 1;
const TIME: usize = 2;
const CHECKSUM: usize = 3;
const SEQ: usize = 4;
const PREV_SEQ: usize = 5;
const INSTRUMENT: usize = 6;
const TRADE_ID: usize = 7;
const PRICE: usize = 8;
const QTY: usize = 9;
const SIDE: usize = 10;

fn slot(key: &str) -> Option<usize> {
    Some(match key.as_bytes() {
        b"asks" => ASKS,
        b"bids" => BIDS,
        b"ts" => TIME,
        b"checksum" => CHECKSUM,
        b"seqId" => SEQ,
        b"prevSeqId" => PREV_SEQ,
        b"instId" => INSTRUMENT,
        b"tradeId" => TRADE_ID,
        b"px" => PRICE,
        b"sz" => QTY,
        b"side" => SIDE,
        _ => return None,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Book {
        /// Levels a side that the channel keeps.
        depth: u32,
        is_snapshot: bool,
    },
    Trades,
    Other,
}

impl Dialect for Okx {
    fn kinds(&self) -> &'static [&'static str] {
        &[BOOK, SNAPSHOT, TRADES]
    }

    fn read<'a>(&self, text: &'a str, received_ns: u64, scratch: &'a mut Scratch) -> Result<Message<'a>, Flaw> {
        let mut scan = Scan::new(text);
        let mut told = Told::default();
        // Where the records are, and what they were read as, if by then it was told.
        let mut data = None;
        if scan.begins() == b'{' {
            scan.open();
            let mut first = true;
            while let Some(key) = scan.key(&mut first)? {
                match (key.raw, scan.begins()) {
                    ("action", b'"') => told.action = word(&mut scan)?,
                    ("event", b'"') => told.event = word(&mut scan)?,
                    ("arg", b'{') => (told.channel, told.instrument) = argument(&mut scan)?,
                    ("data", _) if data.is_some() => return Err(Flaw::Twice { field: "data" }),
                    ("data", b'[') => {
                        let (at, sort) = (scan.at(), told.sort());
                        let outcome = elements(text, &mut scan, sort, received_ns, scratch);
                        if let Err(Unfit::Flaw(flaw)) = outcome {
                            return Err(flaw);
                        }
                        data = Some((at, sort, outcome));
                    }
                    _ => scan.skip()?,
                }
            }
        } else {
            scan.skip()?;
        }
        scan.end()?;
        let sort = told.sort();
        let outcome = match data {
            None if sort.kind == Kind::Other => Ok(()),
            None => return Err(Flaw::Lacks { field: "data" }),
            Some((_, early, outcome)) if early == sort => outcome,
            // It was told behind them.
            Some((at, ..)) => {
                scratch.clear();
                elements(text, &mut Scan::from(text, at), sort, received_ns, scratch)
            }
        };
        scratch.keep(sort.word, text, received_ns, sort.name, matches!(sort.kind, Kind::Book { .. }), outcome)
    }
}

/// What a message says about itself.
#[derive(Default)]
struct Told<'a> {
    action: Option<&'a str>,
    event: Option<&'a str>,
    channel: Option<&'a str>,
    instrument: Option<&'a str>,
}

/// What follows from that for its records.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sort<'a> {
    kind: Kind,
    /// The venue's word for it.
    word: &'a str,
    /// The instrument; empty if none can be told.
    name: &'a str,
}

impl<'a> Told<'a> {
    fn sort(&self) -> Sort<'a> {
        let depth = match self.channel {
            Some("books" | "books-elp" | "books-l2-tbt") => Some(400),
            Some("books50-l2-tbt") => Some(50),
            _ => None,
        };
        let (kind, word) = match (depth, self.channel, self.action) {
            // What answers a subscription names the channel too.
            _ if self.event.is_some() => (Kind::Other, self.event.unwrap_or("unknown")),
            (Some(depth), _, Some("snapshot")) => (Kind::Book { depth, is_snapshot: true }, SNAPSHOT),
            (Some(depth), _, Some("update")) => (Kind::Book { depth, is_snapshot: false }, BOOK),
            (_, Some("trades" | "trades-all"), _) => (Kind::Trades, TRADES),
            _ => (Kind::Other, self.channel.unwrap_or("unknown")),
        };
        let name = self.instrument.filter(|name| name.len() <= SYMBOL_LEN_MAX).unwrap_or("");
        Sort { kind, word, name }
    }
}

fn word<'a>(scan: &mut Scan<'a>) -> Result<Option<&'a str>, NotJson> {
    Ok(Some(scan.string()?).filter(|text| !text.escaped).map(|text| text.raw))
}

/// Channel and instrument; `scan` stands at the object.
fn argument<'a>(scan: &mut Scan<'a>) -> Result<(Option<&'a str>, Option<&'a str>), NotJson> {
    let (mut channel, mut instrument) = (None, None);
    scan.open();
    let mut first = true;
    while let Some(key) = scan.key(&mut first)? {
        match (key.raw, scan.begins()) {
            ("channel", b'"') => channel = word(scan)?,
            ("instId", b'"') => instrument = word(scan)?,
            _ => scan.skip()?,
        }
    }
    Ok((channel, instrument))
}

/// Reads the records of `data`, at whose bracket `scan` stands; passes over them if they are none.
fn elements(
    text: &str,
    scan: &mut Scan<'_>,
    sort: Sort<'_>,
    received_ns: u64,
    scratch: &mut Scratch,
) -> Result<(), Unfit> {
    let mut outcome = Ok(());
    if sort.kind == Kind::Other {
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
        scan.open();
        let mut first = true;
        while let Some(key) = scan.key(&mut first).map_err(Flaw::from)? {
            match slot(key.raw) {
                Some(slot) => fields.take(slot, scan, &mut Longer, &mut columns, &mut store),
                None => scan.skip(),
            }
            .map_err(Flaw::from)?;
        }
        let part = match sort.kind {
            Kind::Book { depth, is_snapshot } => {
                book(text, &fields, is_snapshot, depth, sort.name, received_ns, columns, &mut store)
            }
            Kind::Trades | Kind::Other => trade(text, &fields, received_ns),
        };
        match part {
            Ok(part) => scratch.parts.push(part),
            Err(Unfit::Flaw(flaw)) => return Err(flaw.into()),
            Err(why) => outcome = Err(why),
        }
    }
    outcome
}

// Each is one fact of the message; a struct of them would be built and taken apart here only.
#[allow(clippy::too_many_arguments)]
fn book(
    text: &str,
    fields: &Fields<'_, 11>,
    is_snapshot: bool,
    depth: u32,
    name: &str,
    received_ns: u64,
    columns: Columns,
    store: &mut Store<'_>,
) -> Result<Part, Unfit> {
    fields.require(&[ASKS, BIDS, TIME])?;
    if name.is_empty() {
        return Err(Flaw::Lacks { field: NAMES[INSTRUMENT] }.into());
    }
    let last_id = fields.optional(SEQ, Fields::natural)?;
    let prev_id = match fields.value(PREV_SEQ) {
        // The venue's word for none.
        Value::Number(Number::Negative(1)) => None,
        _ => fields.optional(PREV_SEQ, Fields::natural)?,
    };
    let exchange_ns = fields.ms_text(TIME)?;
    let [bids, asks] = fields.sides([BIDS, ASKS])?;
    let checksum = checksum(fields)?.filter(|checksum| *checksum != 0 || last_id.is_none());
    let (price, qty) = columns.settle(store, Writing::Texts).ok_or(NOT_REPRESENTABLE)?;
    let last_id = last_id.unwrap_or(0);
    Ok(Part {
        head: Head { exchange_ns, ingest_ns: received_ns, price, qty, ..Head::default() },
        symbol: Span::of(name, text),
        what: if is_snapshot {
            What::Snapshot { last_id, bids, asks }
        } else {
            What::Delta { first_id: last_id, last_id, prev_id, bids, asks }
        },
        proof: Proof { checksum, depth: Some(depth), ..Proof::default() },
    })
}

/// The bits of the signed number.
fn checksum(fields: &Fields<'_, 11>) -> Result<Option<u32>, Unfit> {
    let signed = match fields.value(CHECKSUM) {
        Value::Absent => return Ok(None),
        Value::Number(Number::Natural(value)) => i32::try_from(value).ok(),
        Value::Number(Number::Negative(value)) => {
            i64::try_from(value).ok().and_then(|value| i32::try_from(-value).ok())
        }
        _ => None,
    };
    match signed {
        Some(signed) => Ok(Some(signed.cast_unsigned())),
        None => Err(fields.absurd(CHECKSUM).into()),
    }
}

fn trade(text: &str, fields: &Fields<'_, 11>, received_ns: u64) -> Result<Part, Unfit> {
    fields.require(&[INSTRUMENT, TRADE_ID, PRICE, QTY, SIDE, TIME])?;
    let trade_id = fields.natural_text(TRADE_ID)?;
    let exchange_ns = fields.ms_text(TIME)?;
    let symbol = fields.symbol(INSTRUMENT)?;
    let (price, qty) = (fields.decimal(PRICE)?, fields.decimal(QTY)?);
    // The side is the taker's.
    let buyer_is_maker = match fields.text(SIDE)?.raw {
        "sell" => true,
        "buy" => false,
        _ => return Err(fields.absurd(SIDE).into()),
    };
    let (price_scale, qty_scale) = (Scale::fixed(price.decimals), Scale::fixed(qty.decimals));
    Ok(Part {
        head: Head { exchange_ns, ingest_ns: received_ns, price: price_scale, qty: qty_scale, ..Head::default() },
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
