//! Numbers that follow from a book as it changes: the stage for code of one's own, and four that ship.
//!
//! A [`Feature`] sees the book when it begins and after each event, and is asked for its values at regular times. Several
//! are one by standing in a tuple. [`feature_rows`] runs it over the stored days of a symbol; it is generic, so that a
//! feature costs what it computes.
//!
//! ```
//! use chronicle_etl::book::Book;
//! use chronicle_etl::features::Feature;
//!
//! /// How often the best bid changed.
//! #[derive(Default)]
//! struct BidMoves {
//!     best: Option<i64>,
//!     count: u64,
//! }
//!
//! impl Feature for BidMoves {
//!     fn columns(&self, out: &mut Vec<String>) {
//!         out.push("bid_moves".to_owned());
//!     }
//!     fn begin(&mut self, book: &Book) {
//!         (self.best, self.count) = (book.bids().next().map(|level| level.0), 0);
//!     }
//!     fn update(&mut self, book: &Book) {
//!         let best = book.bids().next().map(|level| level.0);
//!         self.count += u64::from(best != self.best);
//!         self.best = best;
//!     }
//!     fn values(&mut self, _: &Book, out: &mut Vec<Option<f64>>) {
//!         out.push(Some(std::mem::take(&mut self.count) as f64));
//!     }
//! }
//! ```
//!
//! | Feature | Columns | What it is |
//! |---|---|---|
//! | [`Spread`] | `mid`, `spread` | (a + b) / 2 and a − b, of the best ask price a and the best bid price b |
//! | [`Microprice`] | `microprice` | (a·q_b + b·q_a) / (q_b + q_a): the mid, weighted by the other side's quantity |
//! | [`Imbalance`] | `imbalance_n` | (Q_b − Q_a) / (Q_b + Q_a), of the quantities in the best n levels of each side |
//! | [`Ofi`] | `ofi` | order-flow imbalance at the best prices since the row before, in the quantity's unit |
//!
//! Values are floats: they are derived, and nothing is derived from them here. Where prices are compared and quantities
//! summed up, that is done in integers, and the quotient is rounded once.
//!
//! What a feature never sees: a book that is not the venue's.

use core::cmp::Ordering;

use chronicle_platform::Platform;
use chronicle_protocol::Decimal;
use chronicle_storage::root::{Name, Root};

use crate::book::Book;
use crate::error::Error;
use crate::query::{Rows, Seen, follow_book};

/// Numbers that follow from a book as it changes. See the module.
pub trait Feature {
    /// Adds the names of its columns.
    fn columns(&self, out: &mut Vec<String>);

    /// The book begins here, at first or after a gap: whatever was summed up before is of another stretch.
    fn begin(&mut self, book: &Book);

    /// An event changed the book.
    fn update(&mut self, book: &Book);

    /// Adds a value for each column, for a row; `None` where there is none. What is summed up from row to row begins anew.
    fn values(&mut self, book: &Book, out: &mut Vec<Option<f64>>);
}

macro_rules! tuple_of_features {
    ($($name:ident)+) => {
        #[allow(non_snake_case)]
        impl<$($name: Feature),+> Feature for ($($name,)+) {
            fn columns(&self, out: &mut Vec<String>) {
                let ($($name,)+) = self;
                $($name.columns(out);)+
            }
            fn begin(&mut self, book: &Book) {
                let ($($name,)+) = self;
                $($name.begin(book);)+
            }
            fn update(&mut self, book: &Book) {
                let ($($name,)+) = self;
                $($name.update(book);)+
            }
            fn values(&mut self, book: &Book, out: &mut Vec<Option<f64>>) {
                let ($($name,)+) = self;
                $($name.values(book, out);)+
            }
        }
    };
}
tuple_of_features!(A);
tuple_of_features!(A B);
tuple_of_features!(A B C);
tuple_of_features!(A B C D);
tuple_of_features!(A B C D E);
tuple_of_features!(A B C D E F);

/// All that ship, with the imbalance of the best level and of the best five.
#[must_use]
pub fn shipped() -> impl Feature {
    (Spread, Microprice, Imbalance { levels: 1 }, Imbalance { levels: 5 }, Ofi::default())
}

/// The nearest float to `mantissa` × 10^`exp`, where both are exact as floats; else within two roundings of it.
fn float(mantissa: i128, exp: i8) -> f64 {
    let power = 10_f64.powi(i32::from(exp).abs());
    if exp < 0 { mantissa as f64 / power } else { mantissa as f64 * power }
}

/// The best bid and ask, as mantissas of price and quantity.
fn best(book: &Book) -> Option<((i64, i64), (i64, i64))> {
    book.bids().next().zip(book.asks().next())
}

/// Mid and spread; none while a side is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread;

impl Feature for Spread {
    fn columns(&self, out: &mut Vec<String>) {
        out.extend(["mid", "spread"].map(str::to_owned));
    }

    fn begin(&mut self, _: &Book) {}

    fn update(&mut self, _: &Book) {}

    fn values(&mut self, book: &Book, out: &mut Vec<Option<f64>>) {
        let exp = book.price_scale().exp;
        let prices = best(book).map(|(bid, ask)| (i128::from(bid.0), i128::from(ask.0)));
        out.push(prices.map(|(bid, ask)| float(bid + ask, exp) / 2.0));
        out.push(prices.map(|(bid, ask)| float(ask - bid, exp)));
    }
}

/// The mid weighted by the other side's quantity, which Gatheral and Oomen (2010) call the micro-price and Stoikov (2018)
/// the weighted mid; none while a side is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Microprice;

impl Feature for Microprice {
    fn columns(&self, out: &mut Vec<String>) {
        out.push("microprice".to_owned());
    }

    fn begin(&mut self, _: &Book) {}

    fn update(&mut self, _: &Book) {}

    fn values(&mut self, book: &Book, out: &mut Vec<Option<f64>>) {
        out.push(best(book).map(|(bid, ask)| {
            let [bid_price, bid_qty, ask_price, ask_qty] = [bid.0, bid.1, ask.0, ask.1].map(i128::from);
            // The distance from the bid is weighted, not the prices: products of those may pass 127 bits.
            let (weighted, total) = ((ask_price - bid_price) * bid_qty, bid_qty + ask_qty);
            let exp = book.price_scale().exp;
            float(bid_price, exp) + float(weighted, exp) / total as f64
        }));
    }
}

/// By how much the bids' quantity outweighs the asks', from −1 to 1; none while a side is empty.
#[derive(Clone, Copy, Debug)]
pub struct Imbalance {
    /// Levels of each side that count.
    pub levels: usize,
}

impl Feature for Imbalance {
    fn columns(&self, out: &mut Vec<String>) {
        out.push(format!("imbalance_{}", self.levels));
    }

    fn begin(&mut self, _: &Book) {}

    fn update(&mut self, _: &Book) {}

    fn values(&mut self, book: &Book, out: &mut Vec<Option<f64>>) {
        let bids: i128 = book.bids().take(self.levels).map(|level| i128::from(level.1)).sum();
        let asks: i128 = book.asks().take(self.levels).map(|level| i128::from(level.1)).sum();
        // Quantities are above 0, so the sum of a side is 0 only if it has no level.
        let both = bids != 0 && asks != 0;
        out.push(both.then(|| (bids - asks) as f64 / (bids + asks) as f64));
    }
}

/// Order-flow imbalance at the best prices, of Cont, Kukanov and Stoikov, "The Price Impact of Order Book Events", Journal of
/// Financial Econometrics 12 (2014), section 2.2: the sum over the events since the row before of
///
/// ```text
/// e = [b ≥ b'] q_b − [b ≤ b'] q_b' − [a ≤ a'] q_a + [a ≥ a'] q_a'
/// ```
///
/// where b, q_b, a, q_a are the best prices and quantities behind the event and b', q_b', a', q_a' those before it. A side
/// that is empty before or behind an event adds nothing for it. The first row of a stretch counts from its beginning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ofi {
    bid: Option<(Decimal, Decimal)>,
    ask: Option<(Decimal, Decimal)>,
    /// Sum of the quantities, as a mantissa under `exp`.
    sum: i128,
    exp: i8,
}

impl Ofi {
    fn see(&mut self, book: &Book) -> [Option<(Decimal, Decimal)>; 2] {
        let level = |(price, qty)| (book.price(price), book.qty(qty));
        let now = (book.bids().next().map(level), book.asks().next().map(level));
        let before = [self.bid, self.ask];
        (self.bid, self.ask) = now;
        // A book's exponent only falls; what was summed up goes with it.
        let exp = book.qty_scale().exp;
        if exp < self.exp {
            let factor = 10_i128.checked_pow((i32::from(self.exp) - i32::from(exp)).unsigned_abs());
            self.sum = factor.and_then(|factor| self.sum.checked_mul(factor)).unwrap_or(0);
        }
        self.exp = exp;
        before
    }

    /// What one side says: more where it improved, less where it fell back.
    fn side(&self, now: Option<(Decimal, Decimal)>, before: Option<(Decimal, Decimal)>, better: Ordering) -> i128 {
        let Some((now, before)) = now.zip(before) else { return 0 };
        let qty = |level: (Decimal, Decimal)| level.1.mantissa_at(self.exp).map_or(0, i128::from);
        match now.0.value_cmp(before.0) {
            Ordering::Equal => qty(now) - qty(before),
            order if order == better => qty(now),
            _ => -qty(before),
        }
    }
}

impl Feature for Ofi {
    fn columns(&self, out: &mut Vec<String>) {
        out.push("ofi".to_owned());
    }

    fn begin(&mut self, book: &Book) {
        *self = Self { exp: book.qty_scale().exp, ..Self::default() };
        self.see(book);
    }

    fn update(&mut self, book: &Book) {
        let [bid, ask] = self.see(book);
        self.sum += self.side(self.bid, bid, Ordering::Greater) - self.side(self.ask, ask, Ordering::Less);
    }

    fn values(&mut self, _: &Book, out: &mut Vec<Option<f64>>) {
        out.push(Some(float(std::mem::take(&mut self.sum), self.exp)));
    }
}

/// The values at a regular time.
#[derive(Clone, Copy, Debug)]
pub struct FeatureRow<'a> {
    /// The row's time, a multiple of the interval.
    pub time_ns: u64,
    /// Whether the book was the venue's then; if not, no column has a value.
    pub valid: bool,
    /// One for each column.
    pub values: &'a [Option<f64>],
}

/// Runs a feature over the stored days of a symbol; rows stand as those of [`book_rows`](crate::query::book_rows) do, and
/// those without a valid book are among them. [`Rows::depth`] is of no matter.
///
/// # Errors
///
/// As [`book_rows`](crate::query::book_rows).
pub fn feature_rows<P: Platform, F: Feature, E: From<Error>>(
    platform: &P,
    root: &Root,
    venue: &Name,
    symbol: &Name,
    rows: &Rows,
    feature: &mut F,
    mut each: impl FnMut(FeatureRow<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut columns = Vec::new();
    feature.columns(&mut columns);
    let none = vec![None; columns.len()];
    let mut values = Vec::with_capacity(columns.len());
    follow_book(platform, root, venue, symbol, rows, |seen| {
        match seen {
            Seen::Began { book, .. } => feature.begin(book),
            Seen::Changed { book, .. } => feature.update(book),
            Seen::Broken { .. } => {}
            Seen::Row(row) if row.valid => {
                values.clear();
                feature.values(row.book, &mut values);
                each(FeatureRow { time_ns: row.time_ns, valid: true, values: &values })?;
            }
            Seen::Row(row) => each(FeatureRow { time_ns: row.time_ns, valid: false, values: &none })?,
        }
        Ok(())
    })
}
