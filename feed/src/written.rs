//! Records in their venue's words again: the line of a recording that would be read as this record.
//!
//! ```text
//! line ──Recording──▶ record ──write_line──▶ the same line, byte for byte
//! ```
//!
//! Use it to speak to programs that know a venue and not this project: a replay behind a WebSocket, a recording for another
//! tool. Prices and quantities are written by the exact text rule of their record. Binance's venues only; of what a record
//! does not keep, the stream's pace (`depth@100ms` of spot, `depth@0ms` of futures) is the recordings' own.
//!
//! What has no words: what the refinery made, sources, gaps, and messages kept verbatim, whose stream nobody kept.

use std::fmt::Write as _;

use chronicle_protocol::{Head, Level, OrderType, Record, SnapshotSource};

use crate::times::NS_PER_MS;
use crate::venue::Venue;

/// Writes `<received, ns> <message>` and a line end to the end of `out`; `false`, and nothing, if there are no words for it.
///
/// ```
/// use chronicle_feed::{Recording, Venue, written::write_line};
/// use chronicle_protocol::Record;
///
/// let line = "1723161254024619568 {\"stream\":\"ethusdt@bookTicker\",\"data\":{\"u\":35346513501,\"s\":\"ETHUSDT\",\
///             \"b\":\"2683.80000000\",\"B\":\"3.02920000\",\"a\":\"2683.81000000\",\"A\":\"31.43950000\"}}\n";
/// let mut recording = Recording::open(Venue::BinanceSpot, "ethusdt", line.as_bytes());
/// let parsed = recording.advance().unwrap().unwrap();
/// let record = Record::parse(parsed.type_id, parsed.payload).unwrap();
/// let mut out = String::new();
/// assert!(write_line(Venue::BinanceSpot, parsed.ingest_ns, &record, &mut out));
/// assert_eq!(out, line);
/// ```
pub fn write_line(venue: Venue, received_ns: u64, record: &Record<'_>, out: &mut String) -> bool {
    let Some(dialect) = Words::of(venue) else { return false };
    let begin = out.len();
    _ = write!(out, "{received_ns} ");
    if dialect.message(record, out) {
        out.push('\n');
        return true;
    }
    out.truncate(begin);
    false
}

/// What Binance's venues write differently.
#[derive(Clone, Copy)]
struct Words {
    futures: bool,
    /// COIN-M names the pair of a symbol beside it.
    pair: bool,
}

impl Words {
    fn of(venue: Venue) -> Option<Self> {
        match venue {
            Venue::BinanceSpot => Some(Self { futures: false, pair: false }),
            Venue::BinanceUsdm => Some(Self { futures: true, pair: false }),
            Venue::BinanceCoinm => Some(Self { futures: true, pair: true }),
            _ => None,
        }
    }

    // Writing to a text never fails.
    fn message(self, record: &Record<'_>, out: &mut String) -> bool {
        let (head, symbol) = (record.head(), record.symbol());
        let channel = match record {
            Record::BookSnapshot(book) if book.source == SnapshotSource::Venue => {
                _ = write!(out, "{{\"lastUpdateId\":{},", book.last_id);
                if self.futures {
                    self.times(head, out);
                }
                if self.pair {
                    _ = write!(out, "\"symbol\":\"{symbol}\",\"pair\":\"{}\",", pair(symbol));
                }
                sides(head, ["bids", "asks"], [book.bids, book.asks], out);
                out.push('}');
                return true;
            }
            Record::BookDelta(_) if self.futures => "depth@0ms",
            Record::BookDelta(_) => "depth@100ms",
            Record::Trade(_) => "trade",
            Record::Quote(_) => "bookTicker",
            _ => return false,
        };
        out.push_str("{\"stream\":\"");
        out.extend(symbol.chars().map(|c| c.to_ascii_lowercase()));
        _ = write!(out, "@{channel}\",\"data\":{{");
        match record {
            Record::BookDelta(delta) => {
                out.push_str("\"e\":\"depthUpdate\",");
                self.times(head, out);
                self.symbol(symbol, out);
                _ = write!(out, "\"U\":{},\"u\":{},", delta.first_id, delta.last_id);
                if let Some(prev_id) = delta.prev_id {
                    _ = write!(out, "\"pu\":{prev_id},");
                } else if self.futures {
                    // A message of futures without it is none. The delta that a replay puts behind its first snapshot has
                    // none of its own, and there it is of no interest.
                    _ = write!(out, "\"pu\":{},", delta.first_id);
                }
                sides(head, ["b", "a"], [delta.bids, delta.asks], out);
            }
            Record::Trade(trade) => {
                out.push_str("\"e\":\"trade\",");
                // Spot says the time of the match behind the numbers.
                let transact_ms = head.transact_ns / NS_PER_MS;
                _ = write!(out, "\"E\":{},", head.exchange_ns / NS_PER_MS);
                if self.futures {
                    _ = write!(out, "\"T\":{transact_ms},");
                }
                let (price, qty) = (head.price.decimal(trade.price), head.qty.decimal(trade.qty));
                let id = trade.trade_id;
                _ = write!(out, "\"s\":\"{symbol}\",\"t\":{id},\"p\":\"{price}\",\"q\":\"{qty}\",");
                if !self.futures {
                    _ = write!(out, "\"T\":{transact_ms},");
                }
                if let Some(order_type) = trade.order_type.map(OrderType::as_str) {
                    _ = write!(out, "\"X\":\"{order_type}\",");
                }
                _ = write!(out, "\"m\":{}", trade.buyer_is_maker);
                if let Some(legacy_m) = trade.legacy_m {
                    _ = write!(out, ",\"M\":{legacy_m}");
                }
            }
            Record::Quote(quote) => {
                let id = quote.update_id;
                // USD-M says first what it is, COIN-M second, spot not at all.
                _ = match (self.futures, self.pair) {
                    (true, false) => write!(out, "\"e\":\"bookTicker\",\"u\":{id},"),
                    (true, true) => write!(out, "\"u\":{id},\"e\":\"bookTicker\","),
                    _ => write!(out, "\"u\":{id},"),
                };
                self.symbol(symbol, out);
                let (bid, bid_qty) = (head.price.decimal(quote.bid_price), head.qty.decimal(quote.bid_qty));
                let (ask, ask_qty) = (head.price.decimal(quote.ask_price), head.qty.decimal(quote.ask_qty));
                _ = write!(out, "\"b\":\"{bid}\",\"B\":\"{bid_qty}\",\"a\":\"{ask}\",\"A\":\"{ask_qty}\"");
                if self.futures {
                    let (transact, event) = (head.transact_ns / NS_PER_MS, head.exchange_ns / NS_PER_MS);
                    _ = write!(out, ",\"T\":{transact},\"E\":{event}");
                }
            }
            _ => return false,
        }
        out.push_str("}}");
        true
    }

    fn times(self, head: &Head, out: &mut String) {
        _ = write!(out, "\"E\":{},", head.exchange_ns / NS_PER_MS);
        if head.transact_ns != 0 {
            _ = write!(out, "\"T\":{},", head.transact_ns / NS_PER_MS);
        }
    }

    fn symbol(self, symbol: &str, out: &mut String) {
        _ = write!(out, "\"s\":\"{symbol}\",");
        if self.pair {
            _ = write!(out, "\"ps\":\"{}\",", pair(symbol));
        }
    }
}

/// COIN-M's name of what a symbol is of: `BTCUSD` of `BTCUSD_PERP`.
fn pair(symbol: &str) -> &str {
    symbol.split_once('_').map_or(symbol, |(pair, _)| pair)
}

fn sides(head: &Head, names: [&str; 2], sides: [&[Level]; 2], out: &mut String) {
    for (at, (name, levels)) in names.into_iter().zip(sides).enumerate() {
        _ = write!(out, "{}\"{name}\":[", if at == 0 { "" } else { "," });
        for (at, level) in levels.iter().enumerate() {
            let (price, qty) = (head.price.decimal(level.price()), head.qty.decimal(level.qty()));
            _ = write!(out, "{}[\"{price}\",\"{qty}\"]", if at == 0 { "" } else { "," });
        }
        out.push(']');
    }
}
