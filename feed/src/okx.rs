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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// With the levels that the channel keeps.
    Book(u32),
    Trades,
    Other,
}

impl Dialect for Okx {
    fn kinds(&self) -> &'static [&'static str] {
        &[BOOK, SNAPSHOT, TRADES]
    }

    fn read<'a>(&self, text: &'a str, received_ns: u64, scratch: &'a mut Scratch) -> Result<Message<'a>, Flaw> {
        let mut scan = Scan::new(text);
        let (mut action, mut event, mut channel, mut instrument, mut data) = (None, None, None, None, None);
        if scan.begins() == b'{' {
            scan.open();
            let mut first = true;
            while let Some(key) = scan.key(&mut first)? {
                match (key.raw, scan.begins()) {
                    ("action", b'"') => action = word(&mut scan)?,
                    ("event", b'"') => event = word(&mut scan)?,
                    ("arg", b'{') => (channel, instrument) = argument(&mut scan)?,
                    ("data", b'[') => {
                        data = Some(scan.at());
                        scan.skip()?;
                    }
                    _ => scan.skip()?,
                }
            }
        } else {
            scan.skip()?;
        }
        scan.end()?;
        let depth = match channel {
            Some("books" | "books-elp" | "books-l2-tbt") => Some(400),
            Some("books50-l2-tbt") => Some(50),
            _ => None,
        };
        let (kind, word) = match (depth, channel, action) {
            // What answers a subscription names the channel too.
            _ if event.is_some() => (Kind::Other, event.unwrap_or("unknown")),
            (Some(depth), _, Some("snapshot")) => (Kind::Book(depth), SNAPSHOT),
            (Some(depth), _, Some("update")) => (Kind::Book(depth), BOOK),
            (_, Some("trades" | "trades-all"), _) => (Kind::Trades, TRADES),
            _ => (Kind::Other, channel.unwrap_or("unknown")),
        };
        let name = instrument.filter(|name| name.len() <= SYMBOL_LEN_MAX).unwrap_or("");
        let outcome = match (kind, data) {
            (Kind::Other, _) => Ok(()),
            (_, None) => Err(Flaw::Lacks { field: "data" }.into()),
            (_, Some(at)) => elements(text, at, kind, word == SNAPSHOT, name, received_ns, scratch),
        };
        scratch.keep(word, text, received_ns, name, matches!(kind, Kind::Book(_)), outcome)
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

/// Reads the records of `data`, which is at `at` and was found to be JSON.
fn elements(
    text: &str,
    at: usize,
    kind: Kind,
    is_snapshot: bool,
    name: &str,
    received_ns: u64,
    scratch: &mut Scratch,
) -> Result<(), Unfit> {
    let mut scan = Scan::from(text, at);
    let mut verbatim = Ok(());
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
            match NAMES.iter().position(|name| *name == key.raw) {
                Some(slot) => fields.take(slot, &mut scan, &mut Longer, &mut columns, &mut store),
                None => scan.skip(),
            }
            .map_err(Flaw::from)?;
        }
        let part = match kind {
            Kind::Book(depth) => book(text, &fields, is_snapshot, depth, name, received_ns, columns, &mut store),
            Kind::Trades | Kind::Other => trade(text, &fields, received_ns),
        };
        match part {
            Ok(part) => scratch.parts.push(part),
            Err(Unfit::Flaw(flaw)) => return Err(flaw.into()),
            Err(why) => verbatim = Err(why),
        }
    }
    verbatim
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
