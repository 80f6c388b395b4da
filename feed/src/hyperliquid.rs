//! Hyperliquid's messages: the channels l2Book and trades.
//!
//! ```text
//! {"channel":"l2Book","data":{"coin":"BTC","time":<ms>,"levels":[[{"n":5,"px":"1.5","sz":"2"},..],[..]]}}   counted snapshot
//! {"channel":"trades","data":[{"coin":..,"px":..,"side":"B","sz":..,"tid":..,"time":<ms>,..},..]}            a trade each
//! anything else                                                        opaque: bbo, subscriptionResponse, candles ..
//! ```
//!
//! **Whole books.** Each l2Book is the best 20 levels a side and replaces what was; nothing is numbered, so a lost one shows
//! nowhere, and costs half a second. `n` orders stand at a level. Two may have the same time. `side` is the taker's: B bought, A sold. A trade's `tid` is
//! no order but names it: when a subscription begins, trades from before it come again, and some twice. Not kept of a trade:
//! `hash` and `users`.
//!
//! Sources: `hyperliquid.gitbook.io`, "WebSocket subscriptions"; the recording of 2025.

use chronicle_protocol::{Head, OpaqueReason, OrderCount, Scale};

use crate::fields::{Fields, NOT_REPRESENTABLE, Unfit};
use crate::flaw::Flaw;
use crate::json::Scan;
use crate::levels::{Bad, Columns, Pair, PxSz, Store, Writing};
use crate::venue::{Dialect, Message, Part, Proof, Scratch, Span, What};

pub(crate) struct Hyperliquid;

const BOOK: &str = "l2Book";
const TRADES: &str = "trades";

const NAMES: [&str; 6] = ["coin", "time", "px", "sz", "side", "tid"];
const COIN: usize = 0;
const TIME: usize = 1;
const PX: usize = 2;
const SZ: usize = 3;
const SIDE: usize = 4;
const TID: usize = 5;
const LEVELS: &str = "levels";

fn slot(key: &str) -> Option<usize> {
    NAMES.iter().position(|name| *name == key)
}

impl Dialect for Hyperliquid {
    fn kinds(&self) -> &'static [&'static str] {
        &[BOOK, TRADES]
    }

    fn read<'a>(&self, text: &'a str, received_ns: u64, scratch: &'a mut Scratch) -> Result<Message<'a>, Flaw> {
        let (channel, data) = envelope(text)?;
        let head = Head { ingest_ns: received_ns, ..Head::default() };
        let (symbol, outcome) = match (channel, data) {
            (BOOK, Some(at)) => book(text, at, head, scratch)?,
            (TRADES, Some(at)) => trades(text, at, head, scratch)?,
            (BOOK | TRADES, None) => return Err(Flaw::Lacks { field: "data" }),
            _ => {
                scratch.verbatim(head, "", text, OpaqueReason::UnknownKind);
                return Ok(scratch.message(channel, text));
            }
        };
        scratch.keep(channel, text, received_ns, symbol, channel == BOOK, outcome)
    }
}

/// The channel's name, and where its data begins. All of the text is JSON.
fn envelope(text: &str) -> Result<(&str, Option<usize>), Flaw> {
    let mut scan = Scan::new(text);
    let (mut channel, mut data) = (None, None);
    if scan.begins() != b'{' {
        scan.skip()?;
        scan.end()?;
        return Ok(("unknown", None));
    }
    scan.open();
    let mut first = true;
    while let Some(key) = scan.key(&mut first)? {
        match key.raw {
            "channel" if scan.begins() == b'"' => {
                if channel.replace(scan.string()?.raw).is_some() {
                    return Err(Flaw::Twice { field: "channel" });
                }
            }
            "data" => {
                scan.begins();
                if data.replace(scan.at()).is_some() {
                    return Err(Flaw::Twice { field: "data" });
                }
                scan.skip()?;
            }
            _ => scan.skip()?,
        }
    }
    scan.end()?;
    Ok((channel.unwrap_or("unknown"), data))
}

type Outcome<'a> = (&'a str, Result<(), Unfit>);

fn book<'a>(text: &'a str, at: usize, head: Head, scratch: &mut Scratch) -> Result<Outcome<'a>, Flaw> {
    let mut scan = Scan::from(text, at);
    if scan.begins() != b'{' {
        return Err(Flaw::WrongType { field: "data", expected: "an object" });
    }
    let mut store = Store { levels: &mut scratch.levels, decimals: &mut scratch.decimals };
    let mut columns = Columns::begin(&mut store);
    let mut fields = Fields::new(&NAMES);
    let mut levels = None;
    scan.open();
    let mut first = true;
    while let Some(key) = scan.key(&mut first)? {
        match slot(key.raw) {
            Some(slot) => fields.take(slot, &mut scan, &mut Pair, &mut columns, &mut store)?,
            None if key.raw == LEVELS => {
                if levels.is_some() {
                    return Err(Flaw::Twice { field: LEVELS });
                }
                scan.begins();
                let start = scan.at();
                let read = sides(&mut scan, &mut columns, &mut store, &mut scratch.counts);
                if read.is_err() {
                    scan.go_back_to(start);
                    scan.skip()?;
                }
                levels = Some(read);
            }
            None => scan.skip()?,
        }
    }
    let symbol = fields.symbol(COIN).unwrap_or("");
    let part = snapshot(text, &fields, levels, head, columns, &mut store);
    Ok((symbol, part.map(|part| scratch.parts.push(part))))
}

fn snapshot(
    text: &str,
    fields: &Fields<'_, 6>,
    levels: Option<Result<[[Span; 2]; 2], Bad>>,
    head: Head,
    columns: Columns,
    store: &mut Store<'_>,
) -> Result<Part, Unfit> {
    fields.require(&[COIN, TIME])?;
    let symbol = fields.symbol(COIN)?;
    let exchange_ns = fields.ms(TIME)?;
    let [[bids, bid_counts], [asks, ask_counts]] = match levels {
        None => return Err(Flaw::Lacks { field: LEVELS }.into()),
        Some(Ok(sides)) => sides,
        Some(Err(Bad::Unfit)) => return Err(NOT_REPRESENTABLE),
        Some(Err(Bad::Absurd)) => return Err(Flaw::Absurd { field: LEVELS }.into()),
        Some(Err(Bad::Shape)) => {
            return Err(Flaw::WrongType { field: LEVELS, expected: "two lists of {px, sz, n}" }.into());
        }
    };
    let (price, qty) = columns.settle(store, Writing::TextsOrValues).ok_or(NOT_REPRESENTABLE)?;
    Ok(Part {
        head: Head { exchange_ns, price, qty, ..head },
        symbol: Span::of(symbol, text),
        what: What::Counted { bids, asks, bid_counts, ask_counts },
        proof: Proof::default(),
    })
}

/// Reads `[[level,..],[level,..]]`: bids, then asks, of each the levels and the counts of orders.
fn sides(
    scan: &mut Scan<'_>,
    columns: &mut Columns,
    store: &mut Store<'_>,
    counts: &mut Vec<OrderCount>,
) -> Result<[[Span; 2]; 2], Bad> {
    if scan.begins() != b'[' {
        return Err(Bad::Shape);
    }
    scan.open();
    let mut first = true;
    let (mut sides, mut unfit) = ([[Span::default(); 2]; 2], false);
    for side in &mut sides {
        if !scan.element(&mut first).map_err(|_| Bad::Shape)? || scan.begins() != b'[' {
            return Err(Bad::Shape);
        }
        let (start, from) = (scan.at(), counts.len());
        match columns.side(&mut PxSz { counts }, scan, store) {
            Ok(span) => *side = [span, Span::new(from, counts.len())],
            Err(Bad::Unfit) => {
                unfit = true;
                scan.go_back_to(start);
                scan.skip().map_err(|_| Bad::Shape)?;
            }
            Err(bad) => return Err(bad),
        }
    }
    if scan.element(&mut first).map_err(|_| Bad::Shape)? {
        return Err(Bad::Shape);
    }
    if unfit { Err(Bad::Unfit) } else { Ok(sides) }
}

fn trades<'a>(text: &'a str, at: usize, head: Head, scratch: &mut Scratch) -> Result<Outcome<'a>, Flaw> {
    let mut scan = Scan::from(text, at);
    if scan.begins() != b'[' {
        return Err(Flaw::WrongType { field: "data", expected: "a list of trades" });
    }
    scan.open();
    let (mut symbol, mut outcome) = ("", Ok(()));
    let mut first = true;
    while scan.element(&mut first)? {
        if scan.begins() != b'{' {
            return Err(Flaw::WrongType { field: "data", expected: "a list of trades" });
        }
        let mut store = Store { levels: &mut scratch.levels, decimals: &mut scratch.decimals };
        let mut columns = Columns::begin(&mut store);
        let mut fields = Fields::new(&NAMES);
        scan.open();
        let mut first = true;
        while let Some(key) = scan.key(&mut first)? {
            match slot(key.raw) {
                Some(slot) => fields.take(slot, &mut scan, &mut Pair, &mut columns, &mut store)?,
                None => scan.skip()?,
            }
        }
        if symbol.is_empty() {
            symbol = fields.symbol(COIN).unwrap_or("");
        }
        match trade(text, &fields, head) {
            Ok(part) => scratch.parts.push(part),
            Err(Unfit::Flaw(flaw)) => return Err(flaw),
            Err(why) => outcome = Err(why),
        }
    }
    Ok((symbol, outcome))
}

fn trade(text: &str, fields: &Fields<'_, 6>, head: Head) -> Result<Part, Unfit> {
    fields.require(&[COIN, TIME, PX, SZ, SIDE, TID])?;
    let trade_id = fields.natural(TID)?;
    let exchange_ns = fields.ms(TIME)?;
    let symbol = fields.symbol(COIN)?;
    let (price, qty) = (fields.decimal(PX)?, fields.decimal(SZ)?);
    let buyer_is_maker = match fields.text(SIDE)?.raw {
        "B" => false,
        "A" => true,
        _ => return Err(fields.absurd(SIDE).into()),
    };
    Ok(Part {
        head: Head { exchange_ns, price: Scale::fixed(price.decimals), qty: Scale::fixed(qty.decimals), ..head },
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
    use crate::venue::Venue;
    use chronicle_protocol::Record;

    #[test]
    fn a_book_and_trades() {
        let mut scratch = Scratch::default();
        let text = r#"{"channel":"l2Book","data":{"coin":"BTC","levels":[[{"n":5,"px":"105055.0","sz":"3.03622"},{"n":1,"px":"105054.0","sz":"0.1428"}],[{"px":"105056.0","sz":"7.5","n":2}]],"time":1737918843721}}"#;
        let received_ns = 1_737_918_843_893_903_000;
        let message = Venue::Hyperliquid.read(text, received_ns, &mut scratch).unwrap();
        let Some(Record::CountedSnapshot(counted)) = message.items().next().map(|item| item.record) else { panic!() };
        let book = counted.book;
        let times = (book.head.exchange_ns, book.head.ingest_ns);
        assert_eq!((book.symbol, times), ("BTC", (1_737_918_843_721_000_000, received_ns)));
        let counts = [counted.bid_counts, counted.ask_counts].map(|of| of.iter().map(|n| n.get()).collect::<Vec<_>>());
        assert_eq!(counts, [vec![5, 1], vec![2]]);
        let texts: Vec<String> =
            book.bids.iter().chain(book.asks).map(|level| book.head.qty.decimal(level.qty()).to_string()).collect();
        assert_eq!(texts, ["3.03622", "0.1428", "7.5"]);

        let text = r#"{"channel":"trades","data":[{"coin":"BTC","hash":"0x","px":"105056.0","side":"B","sz":"0.00219","tid":121451470284048,"time":1737918794873,"users":["a","b"]},{"coin":"BTC","px":"1.5","side":"A","sz":"2","tid":2,"time":3}]}"#;
        let message = Venue::Hyperliquid.read(text, received_ns, &mut scratch).unwrap();
        let trades: Vec<_> = message.items().map(|item| item.record).collect();
        let [Record::Trade(bought), Record::Trade(sold)] = trades[..] else { panic!() };
        assert_eq!((bought.trade_id, bought.buyer_is_maker, sold.buyer_is_maker), (121_451_470_284_048, false, true));
    }

    #[test]
    fn what_is_no_message() {
        let mut scratch = Scratch::default();
        let mut read = |text: &str| Venue::Hyperliquid.read(text, 1, &mut scratch).map(|m| m.kind().to_owned());
        for text in [
            r#"{"channel":"l2Book"}"#,
            r#"{"channel":"l2Book","data":[]}"#,
            r#"{"channel":"l2Book","data":{"coin":"BTC","time":1}}"#,
            r#"{"channel":"l2Book","data":{"coin":"BTC","time":1,"levels":[[]]}}"#,
            r#"{"channel":"l2Book","data":{"coin":"BTC","time":1,"levels":[[],[],[]]}}"#,
            r#"{"channel":"l2Book","data":{"coin":"BTC","time":1,"levels":[[{"px":"1","n":1}],[]]}}"#,
            r#"{"channel":"l2Book","data":{"coin":"BTC","time":1,"levels":[[{"px":"1","sz":"1"}],[]]}}"#,
            r#"{"channel":"l2Book","data":{"coin":"BTC","time":1,"levels":[[{"px":"1","sz":"1","n":4294967296}],[]]}}"#,
            r#"{"channel":"l2Book","data":{"coin":"BTC","time":1,"levels":[[{"px":"a","sz":"1","n":1}],[]]}}"#,
            r#"{"channel":"trades","data":{}}"#,
            r#"{"channel":"trades","data":[{"coin":"BTC"}]}"#,
            r#"{"channel":"trades","data":[{"coin":"B","px":"1","side":"C","sz":"1","tid":1,"time":1}]}"#,
            "{",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read(r#"{"channel":"bbo","data":{}}"#).unwrap(), "bbo");
        assert_eq!(read(r#"{"channel":"trades","data":[]}"#).unwrap(), "trades", "kept verbatim");
    }
}
