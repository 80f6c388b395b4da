//! A second reader of Binance's messages, with serde_json and texts, that knows nothing of the first one.

use chronicle_protocol::{Head, Level, Record};
use serde_json::Value;

fn number(message: &Value, field: &str) -> Option<u64> {
    message.get(field).map(|value| value.as_u64().unwrap())
}

fn text<'v>(message: &'v Value, field: &str) -> &'v str {
    message[field].as_str().unwrap()
}

fn assert_times(head: &Head, message: &Value) {
    let ns = |field| number(message, field).map_or(0, |ms| ms * 1_000_000);
    assert_eq!((head.exchange_ns, head.transact_ns), (ns("E"), ns("T")));
}

fn assert_price(head: &Head, mantissa: i64, message: &Value, field: &str) {
    assert_eq!(head.price.decimal(mantissa).to_string(), text(message, field));
}

fn assert_qty(head: &Head, mantissa: i64, message: &Value, field: &str) {
    assert_eq!(head.qty.decimal(mantissa).to_string(), text(message, field));
}

/// Every level's price and quantity, rendered, is the venue's text. Gives their number.
fn assert_levels(head: &Head, levels: &[Level], message: &Value, field: &str) -> u64 {
    let texts = message[field].as_array().unwrap();
    assert_eq!(levels.len(), texts.len());
    for (level, pair) in levels.iter().zip(texts) {
        let pair = pair.as_array().unwrap();
        assert_eq!(head.price.decimal(level.price()).to_string(), pair[0].as_str().unwrap());
        assert_eq!(head.qty.decimal(level.qty()).to_string(), pair[1].as_str().unwrap());
    }
    texts.len() as u64
}

/// The record says what the line says: every id, time, text and flag. `only_symbol` is the file's. Gives the number of
/// levels compared.
pub(crate) fn assert_same(record: &Record<'_>, line: &str, only_symbol: &str) -> u64 {
    let (time, json) = line.split_once(' ').unwrap();
    let value: Value = serde_json::from_str(json).unwrap();
    let message = value.get("data").unwrap_or(&value);
    assert_eq!(record.head().ingest_ns, time.parse::<u64>().unwrap());
    let symbol = message.get("s").or(message.get("symbol")).map_or(only_symbol, |s| s.as_str().unwrap());
    assert_eq!(record.symbol(), symbol);
    let head = record.head();
    assert_times(head, message);
    match record {
        Record::BookDelta(delta) => {
            assert_eq!(text(message, "e"), "depthUpdate");
            assert_eq!(Some(delta.first_id), number(message, "U"));
            assert_eq!(Some(delta.last_id), number(message, "u"));
            assert_eq!(delta.prev_id, number(message, "pu"));
            assert_levels(head, delta.bids, message, "b") + assert_levels(head, delta.asks, message, "a")
        }
        Record::BookSnapshot(snapshot) => {
            assert_eq!(Some(snapshot.last_id), number(message, "lastUpdateId"));
            assert_levels(head, snapshot.bids, message, "bids") + assert_levels(head, snapshot.asks, message, "asks")
        }
        Record::Trade(trade) => {
            assert_eq!(text(message, "e"), "trade");
            assert_eq!(Some(trade.trade_id), number(message, "t"));
            assert_price(head, trade.price, message, "p");
            assert_qty(head, trade.qty, message, "q");
            assert_eq!(trade.buyer_is_maker, message["m"].as_bool().unwrap());
            assert_eq!(trade.legacy_m, message.get("M").map(|m| m.as_bool().unwrap()));
            assert_eq!(trade.order_type.map(|t| t.as_str()), message.get("X").map(|x| x.as_str().unwrap()));
            0
        }
        Record::Quote(quote) => {
            assert!(text(&value, "stream").ends_with("@bookTicker"));
            assert_eq!(Some(quote.update_id), number(message, "u"));
            assert_price(head, quote.bid_price, message, "b");
            assert_qty(head, quote.bid_qty, message, "B");
            assert_price(head, quote.ask_price, message, "a");
            assert_qty(head, quote.ask_qty, message, "A");
            0
        }
        Record::Opaque(opaque) => panic!("kept verbatim, {}: {line}", opaque.reason.as_str()),
        _ => panic!("a recording has no such records: {line}"),
    }
}
