//! Kraken, WebSocket version 2.
//!
//! One connection, subscriptions by message. Each subscription to a book begins with its snapshot and every update carries
//! a checksum; there are no ids of updates. So a new snapshot is had by subscribing anew, and there is nothing to fetch
//! beside the stream. A ping of the protocol keeps a quiet connection open; the venue sends a heartbeat each second.

use std::time::Duration;

use super::{Channel, Limits, Plan, Snapshots, Wire};

/// See the module.
pub(super) struct Kraken;

/// Levels a side of a subscribed book: the most that the venue gives.
const DEPTH: u32 = 1000;
/// Symbols in one message.
const AT_ONCE: usize = 50;

fn book(method: &str, symbols: &[String]) -> String {
    let list: Vec<String> = symbols.iter().map(|symbol| format!("\"{symbol}\"")).collect();
    let list = list.join(",");
    format!(r#"{{"method":"{method}","params":{{"channel":"book","symbol":[{list}],"depth":{DEPTH}}}}}"#)
}

impl Wire for Kraken {
    fn addresses(&self) -> [&'static str; 2] {
        ["wss://ws.kraken.com", "https://api.kraken.com"]
    }

    fn symbol(&self, typed: &str) -> String {
        typed.to_ascii_uppercase()
    }

    fn path(&self, _: Plan<'_>) -> String {
        "/v2".to_owned()
    }

    fn subscribe(&self, plan: Plan<'_>) -> Vec<String> {
        let mut messages = Vec::new();
        for symbols in plan.symbols.chunks(AT_ONCE) {
            let list: Vec<String> = symbols.iter().map(|symbol| format!("\"{symbol}\"")).collect();
            let list = list.join(",");
            for channel in plan.channels {
                messages.push(match channel {
                    Channel::Depth => book("subscribe", symbols),
                    // Without the trades from before: they are no news.
                    Channel::Trade => format!(
                        r#"{{"method":"subscribe","params":{{"channel":"trade","symbol":[{list}],"snapshot":false}}}}"#
                    ),
                    Channel::BookTicker => format!(
                        r#"{{"method":"subscribe","params":{{"channel":"ticker","symbol":[{list}],"event_trigger":"bbo"}}}}"#
                    ),
                });
            }
        }
        messages
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::Subscribed
    }

    fn snapshot_path(&self, _: &str) -> String {
        String::new()
    }

    fn resubscribe(&self, symbol: &str) -> Vec<String> {
        let symbol = [symbol.to_owned()];
        vec![book("unsubscribe", &symbol), book("subscribe", &symbol)]
    }

    fn limits(&self) -> Limits {
        Limits {
            // The venue names no number for messages; its connections are limited to about 150 in 10 minutes an address.
            messages: (5, Duration::from_secs(1)),
            connections: (150, Duration::from_secs(600)),
            weight: (1, Duration::from_secs(1)),
            snapshot_weight: 1,
            streams: 1000,
            age: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_json_in_the_venues_words() {
        let symbols: Vec<String> = (0..120).map(|n| format!("S{n}/USD")).collect();
        let plan = Plan { symbols: &symbols, channels: Channel::ALL };
        let messages = Kraken.subscribe(plan);
        assert_eq!(messages.len(), 9, "three channels, fifty symbols at most in each message");
        let mut books = Vec::new();
        for message in messages.iter().chain(&Kraken.resubscribe("BTC/USD")) {
            let json: serde_json::Value = serde_json::from_str(message).unwrap();
            if json["params"]["channel"] == "book" && json["method"] == "subscribe" {
                books.extend(
                    json["params"]["symbol"].as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()),
                );
            }
        }
        assert_eq!(books.len(), 121);
    }
}
