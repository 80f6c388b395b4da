//! A book at one moment, in the venue's own writing, whether it comes from the matching engine or from a recording.

use std::fmt::Write as _;

use crate::decimal;
use crate::market::{Market, Symbol};
use crate::matching::Side;
use crate::venue::Venue;

/// A price and what is there, as the venue writes them.
pub type Level = (String, String);

/// A book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The last update in it.
    pub last_update_id: u64,
    /// The best first.
    pub bids: Vec<Level>,
    /// The best first.
    pub asks: Vec<Level>,
}

/// Writes prices and quantities of a symbol as its venue does.
#[derive(Clone, Copy, Debug)]
pub struct Writing {
    price: (u8, u8),
    qty: (u8, u8),
}

impl Writing {
    /// The venue's, for this symbol.
    #[must_use]
    pub const fn new(venue: Venue, symbol: &Symbol) -> Self {
        let (price, qty) = venue.places(symbol);
        Self { price: (symbol.price_decimals, price), qty: (symbol.qty_decimals, qty) }
    }

    /// A price.
    #[must_use]
    pub fn price(self, ticks: u64) -> String {
        decimal::text(u128::from(ticks), self.price.0, self.price.1)
    }

    /// A quantity.
    #[must_use]
    pub fn qty(self, lots: u64) -> String {
        decimal::text(u128::from(lots), self.qty.0, self.qty.1)
    }

    /// A price times a quantity.
    #[must_use]
    pub fn quote(self, ticks_times_lots: u128) -> String {
        decimal::text(ticks_times_lots, self.price.0 + self.qty.0, self.price.1.max(self.qty.1))
    }

    /// A level.
    #[must_use]
    pub fn level(self, (ticks, lots): (u64, u64)) -> Level {
        (self.price(ticks), self.qty(lots))
    }
}

impl Snapshot {
    /// The book of a market; at most `limit` levels of each side.
    #[must_use]
    pub fn of(market: &Market, writing: Writing, limit: usize) -> Self {
        let side = |side| market.book().levels(side).take(limit).map(|level| writing.level(level)).collect();
        Self { last_update_id: market.last_update(), bids: side(Side::Buy), asks: side(Side::Sell) }
    }

    /// The same with at most `limit` levels of each side.
    #[must_use]
    pub fn cut(mut self, limit: usize) -> Self {
        self.bids.truncate(limit);
        self.asks.truncate(limit);
        self
    }
}

/// Writes `[["price","qty"],..]`.
pub fn push_levels(out: &mut String, levels: &[Level]) {
    out.push('[');
    for (at, (price, qty)) in levels.iter().enumerate() {
        // Writing into a `String` cannot fail.
        let _ = write!(out, "{}[\"{price}\",\"{qty}\"]", if at == 0 { "" } else { "," });
    }
    out.push(']');
}
