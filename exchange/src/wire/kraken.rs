//! Kraken's words, WebSocket v2: books of a fixed depth with a checksum, and trades.
//!
//! Prices and quantities are JSON numbers whose digits count: the checksum is over their text, so the reader must not
//! take them for floats. A book has no ids. After an update the reader cuts its book to the depth it asked for; levels
//! that fall out of it are not named, levels that come into it are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::market::{Market, Symbol, Trade};
use crate::matching::Side;
use crate::snapshot::Writing;
use crate::venue::Venue;

/// Depths that may be asked for.
pub const DEPTHS: [u16; 5] = [10, 25, 100, 500, 1_000];
/// What who follows anything hears every second.
pub const HEARTBEAT: &str = "{\"channel\":\"heartbeat\"}";
/// Levels of a side that the checksum is over.
const CHECKED: usize = 10;

/// What those who asked for one depth know of a book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Prices and quantities, the best first.
    pub bids: Vec<(u64, u64)>,
    /// The same of the other side.
    pub asks: Vec<(u64, u64)>,
}

/// The time as Kraken writes it.
#[must_use]
pub fn time(now_ms: u64) -> String {
    let stamp = i64::try_from(now_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.6}", stamp.unwrap_or(jiff::Timestamp::MAX))
}

impl View {
    /// The best of a market.
    #[must_use]
    pub fn of(market: &Market, depth: u16) -> Self {
        let side = |side| market.book().levels(side).take(usize::from(depth)).collect();
        Self { bids: side(Side::Buy), asks: side(Side::Sell) }
    }

    /// CRC-32 over the best ten asks, then the best ten bids: the digits of price and quantity without the point and
    /// without the zeros in front.
    #[must_use]
    pub fn checksum(&self, writing: Writing) -> u32 {
        let mut text = String::new();
        for (ticks, lots) in self.asks.iter().take(CHECKED).chain(self.bids.iter().take(CHECKED)) {
            for number in [writing.price(*ticks), writing.qty(*lots)] {
                let digits: String = number.chars().filter(|c| *c != '.').collect();
                text.push_str(digits.trim_start_matches('0'));
            }
        }
        crc32fast::hash(text.as_bytes())
    }

    /// What somebody who has `self` must be told so as to have `now`. A price that is still in the book, but no longer
    /// among the best, is not named.
    #[must_use]
    pub fn changes_to(&self, now: &Self, market: &Market) -> Self {
        let side = |before: &[(u64, u64)], now: &[(u64, u64)], side| {
            let before: BTreeMap<u64, u64> = before.iter().copied().collect();
            let after: BTreeMap<u64, u64> = now.iter().copied().collect();
            let gone = before.keys().filter(|ticks| !after.contains_key(ticks));
            let gone = gone.filter(|ticks| market.book().lots_at(side, **ticks) == 0).map(|ticks| (*ticks, 0));
            let new = now.iter().filter(|(ticks, lots)| before.get(ticks) != Some(lots)).copied();
            gone.chain(new).collect()
        };
        Self { bids: side(&self.bids, &now.bids, Side::Buy), asks: side(&self.asks, &now.asks, Side::Sell) }
    }

    const fn is_empty(&self) -> bool {
        self.bids.is_empty() && self.asks.is_empty()
    }

    /// The message that says so; none if there is nothing to say.
    #[must_use]
    pub fn update(&self, symbol: &Symbol, checksum: u32, now_ms: u64) -> Option<String> {
        (!self.is_empty()).then(|| self.message("update", symbol, checksum, Some(now_ms)))
    }

    /// The message with all of it.
    #[must_use]
    pub fn snapshot(&self, symbol: &Symbol, checksum: u32) -> String {
        self.message("snapshot", symbol, checksum, None)
    }

    fn message(&self, kind: &str, symbol: &Symbol, checksum: u32, now_ms: Option<u64>) -> String {
        let writing = Writing::new(Venue::Kraken, symbol);
        let levels = |levels: &[(u64, u64)]| {
            let texts: Vec<String> = levels
                .iter()
                .map(|(ticks, lots)| format!("{{\"price\":{},\"qty\":{}}}", writing.price(*ticks), writing.qty(*lots)))
                .collect();
            texts.join(",")
        };
        let mut out = format!(
            "{{\"channel\":\"book\",\"type\":\"{kind}\",\"data\":[{{\"symbol\":\"{}\",\"bids\":[{}],\"asks\":[{}],\
             \"checksum\":{checksum}",
            symbol.name,
            levels(&self.bids),
            levels(&self.asks),
        );
        if let Some(now_ms) = now_ms {
            // Writing into a `String` cannot fail.
            let _ = write!(out, ",\"timestamp\":\"{}\"", time(now_ms));
        }
        out.push_str("}]}");
        out
    }
}

/// A trade.
#[must_use]
pub fn trade(trade: &Trade, symbol: &Symbol, now_ms: u64) -> String {
    let writing = Writing::new(Venue::Kraken, symbol);
    format!(
        "{{\"channel\":\"trade\",\"type\":\"update\",\"data\":[{{\"symbol\":\"{}\",\"side\":\"{}\",\"price\":{},\
         \"qty\":{},\"ord_type\":\"market\",\"trade_id\":{},\"timestamp\":\"{}\"}}]}}",
        symbol.name,
        match trade.taker_side {
            Side::Buy => "buy",
            Side::Sell => "sell",
        },
        writing.price(trade.ticks),
        writing.qty(trade.lots),
        trade.id,
        time(now_ms),
    )
}
