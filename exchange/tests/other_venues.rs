//! Futures name the event before; Kraken names no ids and gives a checksum. Clients by those rules have the same books.

mod client;

use std::collections::BTreeMap;

use chronicle_exchange::venue::Venue;
use client::{Stream, TextBook, get, post, start};
use serde_json::Value;

#[test]
fn futures_share_ids_and_name_the_event_before() {
    for (venue, rest) in [(Venue::BinanceUsdm, "/fapi/v1"), (Venue::BinanceCoinm, "/dapi/v1")] {
        let exchange = start(|config| {
            config.venue = venue;
            config.symbols.push("ethusdt=2650.00".parse().unwrap());
        });
        let at = exchange.address();
        let mut stream = Stream::open(at, "/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker");
        let mut depth = || {
            loop {
                let message = stream.next();
                if message["stream"] == "btcusdt@depth@100ms" {
                    return message["data"].clone();
                }
                assert_eq!(message["data"]["e"], "bookTicker");
                assert!(message["data"]["E"].is_u64() && message["data"]["T"].is_u64());
            }
        };
        let first = depth();
        let snapshot = get(at, &format!("{rest}/depth?symbol=BTCUSDT&limit=1000"));
        assert!(snapshot["E"].is_u64() && snapshot["T"].is_u64());
        assert_eq!(snapshot.get("pair").is_some(), venue == Venue::BinanceCoinm);
        let mut book = TextBook::of(&get(at, &format!("{rest}/depth?symbol=BTCUSDT&limit=5000")));
        post(at, "/local/pause");
        let own = TextBook::of(&get(at, "/local/book?symbol=BTCUSDT"));
        let (mut before, mut jumped) = (first["u"].as_u64().unwrap(), false);
        while book.last < own.last || before < own.last {
            let event = depth();
            assert_eq!(event["pu"].as_u64(), Some(before), "an event names the one before it");
            jumped |= event["U"].as_u64().unwrap() > before + 1;
            before = event["u"].as_u64().unwrap();
            if before >= book.last {
                book.set(&event["b"], &event["a"]);
                book.last = before;
            }
        }
        assert_eq!(book, own, "{venue}");
        assert!(jumped || own.last == first["u"].as_u64().unwrap(), "the other symbol took ids between");
    }
}

/// A book of Kraken as texts, keyed by price in whole steps so that it sorts.
type Texts = BTreeMap<u64, (String, String)>;

/// `{"price":1.5,"qty":..}` as the very text that was sent: floats would lose the zeros.
fn levels(text: &str, side: &str) -> Vec<(String, String)> {
    let from = text.find(&format!("\"{side}\":[")).unwrap() + side.len() + 4;
    let inside = &text[from..from + text[from..].find(']').unwrap()];
    let fields = inside.split("\"price\":").skip(1);
    let pair = |field: &str| {
        let (price, rest) = field.split_once(",\"qty\":").unwrap();
        (price.to_owned(), rest[..rest.find('}').unwrap()].to_owned())
    };
    fields.map(pair).collect()
}

fn apply(book: &mut Texts, changes: Vec<(String, String)>) {
    for (price, qty) in changes {
        let key = price.replace('.', "").parse().unwrap();
        if qty.trim_matches(['0', '.']).is_empty() {
            book.remove(&key);
        } else {
            book.insert(key, (price, qty));
        }
    }
}

fn checksum(bids: &Texts, asks: &Texts) -> u32 {
    let text: String = asks
        .values()
        .take(10)
        .chain(bids.values().rev().take(10))
        .flat_map(|(price, qty)| [price, qty])
        .map(|number| number.replace('.', "").trim_start_matches('0').to_owned())
        .collect();
    // CRC-32 bit by bit: other code than the exchange's.
    !text
        .bytes()
        .fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1))))
}

#[test]
fn krakens_checksum_is_that_of_the_book_cut_to_its_depth() {
    for depth in [10, 25, 1_000] {
        let exchange = start(|config| {
            config.venue = Venue::Kraken;
            config.symbols = vec!["btc/usd=61800.0".parse().unwrap()];
        });
        let at = exchange.address();
        let mut stream = Stream::open(at, "/v2");
        assert_eq!(stream.next()["channel"], "status");
        stream.say(&format!(
            r#"{{"method":"subscribe","params":{{"channel":"book","symbol":["BTC/USD"],"depth":{depth}}},"req_id":3}}"#
        ));
        let accepted = stream.next();
        assert_eq!((accepted["success"].as_bool(), accepted["req_id"].as_u64()), (Some(true), Some(3)));
        let (mut bids, mut asks) = (Texts::new(), Texts::new());
        for number in 0..60 {
            let texts = std::iter::repeat_with(|| stream.next_text().unwrap());
            let text = { texts }.find(|text| !text.contains("heartbeat")).unwrap();
            let message: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(message["type"], if number == 0 { "snapshot" } else { "update" });
            apply(&mut bids, levels(&text, "bids"));
            apply(&mut asks, levels(&text, "asks"));
            while bids.len() > depth {
                bids.pop_first();
            }
            while asks.len() > depth {
                asks.pop_last();
            }
            assert_eq!(message["data"][0]["checksum"].as_u64(), Some(u64::from(checksum(&bids, &asks))), "{depth}");
        }
        if depth == 1_000 {
            post(at, "/local/pause");
            let own = get(at, "/local/book?symbol=BTC/USD");
            assert_eq!(own["bids"].as_array().unwrap().len().min(depth), bids.len());
        }
        stream.say(r#"{"method":"subscribe","params":{"channel":"book","symbol":["NO/NE"]}}"#);
        stream.say(r#"{"method":"ping","req_id":9}"#);
        let mut answers = std::iter::repeat_with(|| stream.next()).filter(|m| m["channel"].is_null());
        assert_eq!(answers.next().unwrap()["success"], false);
        assert_eq!(answers.next().unwrap()["method"], "pong");
    }
}

#[test]
fn krakens_heart_beats_for_who_follows_anything() {
    let exchange = start(|config| {
        config.venue = Venue::Kraken;
        config.symbols = vec!["BTC/USD=61800.00".parse().unwrap()];
        config.rate = 0;
    });
    let mut stream = Stream::open(exchange.address(), "/v2");
    stream.say(r#"{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD"]}}"#);
    while stream.next()["channel"] != "heartbeat" {}
}
