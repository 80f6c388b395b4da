//! One order book, exact: every price level that the venue told, and the venue's own text for it.
//!
//! A [`Book`] is filled from a snapshot ([`Book::replace`]), changed by deltas ([`Book::apply`]) and read best first
//! ([`Book::bids`], [`Book::asks`]). Prices and quantities are integer mantissas under one [`Scale`] each; when a
//! message comes with more decimals, the whole book is rescaled once, exactly, and when that does not fit 64 bits the
//! message is refused and the book stays as it was.
//!
//! ```
//! use chronicle_etl::book::Book;
//! use chronicle_protocol::{Head, Level, Scale};
//!
//! let head = Head { price: Scale::fixed(2), qty: Scale::fixed(3), ..Head::default() };
//! let mut book = Book::new();
//! book.replace(&head, &[Level::new(6_180_020, 2_909)], &[Level::new(6_180_030, 6)]).unwrap();
//! book.apply(&head, &[Level::new(6_180_020, 0), Level::new(6_180_010, 1)], &[]).unwrap();
//! let mut csv = Vec::new();
//! book.write_csv(&mut csv, usize::MAX).unwrap();
//! assert_eq!(csv, b"side,price,qty\nbid,61800.10,0.001\nask,61800.30,0.006\n");
//! ```
//!
//! **One side** is a window of slots, one for each step of the price, where most levels and most updates are, and a sorted
//! sequence for everything else; see `book/side.rs`. On the recordings' updates that takes 60 to 175 M levels a second, the
//! sequence alone 22 to 30, a `BTreeMap` 17 to 20, one sorted vector 18 to 30; the group `book` of
//! benches/rivals measures it again.
//!
//! **Text.** A venue writes either a fixed number of decimals or none that are needless. A message alone may not tell
//! (`61800` and `61804` fit both), so the book keeps one rule and corrects it when a message contradicts it.
//!
//! What a book never does: it is never cut to a depth, drops no level that was not removed, does not repair crossed
//! prices, has no floats, knows no sequence numbers and no time.

mod side;
mod sorted;

use core::cmp::Ordering;
use core::fmt;
use std::io;

use chronicle_protocol::{Decimal, Head, Level, Scale};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use side::Side;

/// The message's numbers and the book's have no common exponent in which all of them fit 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Exponent of the message's numbers.
    pub message_exp: i8,
    /// Exponent of the book's.
    pub book_exp: i8,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "book: numbers with exponent {} do not fit beside those with {}", self.message_exp, self.book_exp)
    }
}

impl core::error::Error for Unfit {}

/// What applying a message met besides levels that were changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Levels that removed a price which was not there.
    pub unknown_removals: u64,
    /// Levels whose price had been in the same side of the message before.
    pub repeated_prices: u64,
}

/// How the two best prices stand to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Touch {
    /// The bid is below the ask, or one of them is missing.
    #[default]
    Apart,
    /// They are equal.
    Locked,
    /// The bid is above the ask.
    Crossed,
}

/// How the numbers of one column are written, as far as messages have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Spelling {
    /// Exponent of all mantissas in the column.
    exp: i8,
    trimmed: bool,
    /// Messages with different scales were seen.
    mixed: bool,
    /// A message said so itself: some of its texts have fewer decimals than others.
    surely_trimmed: bool,
}

impl Spelling {
    fn of(scale: Scale) -> Self {
        Self { exp: scale.exp, trimmed: scale.trimmed, mixed: false, surely_trimmed: scale.trimmed }
    }

    fn scale(self) -> Scale {
        Scale { exp: self.exp, trimmed: self.trimmed }
    }

    /// Whether a message in this scale changes nothing about the spelling.
    #[inline]
    fn agrees(self, scale: Scale) -> bool {
        self.exp == scale.exp
            && if self.mixed { self.surely_trimmed || !self.trimmed } else { self.trimmed == scale.trimmed }
    }

    /// Takes a message's scale into account. `zero` says whether some fixed text, in the message or before it in the
    /// book, ends in a zero behind the point: no trimmed venue writes that.
    fn meet(&mut self, scale: Scale, zero: bool) {
        self.mixed = true;
        self.exp = self.exp.min(scale.exp);
        self.surely_trimmed |= scale.trimmed;
        self.trimmed = self.surely_trimmed || !zero;
    }
}

/// An order book of one symbol. See the module.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Book {
    bids: Side,
    asks: Side,
    price: Spelling,
    qty: Spelling,
    /// No message yet: the spellings are only defaults.
    blank: bool,
}

/// One level, price before quantity, in the book's scales.
pub type PriceQty = (i64, i64);

impl Book {
    /// A book without levels.
    #[must_use]
    pub fn new() -> Self {
        Self { blank: true, ..Self::default() }
    }

    /// Forgets everything and takes these levels; those with quantity 0 are none.
    ///
    /// # Errors
    ///
    /// None today: a snapshot alone always fits its own scales. The result is that of [`Book::apply`].
    pub fn replace(&mut self, head: &Head, bids: &[Level], asks: &[Level]) -> Result<Changes, Unfit> {
        *self = Self::new();
        self.apply(head, bids, asks)
    }

    /// Sets the quantity at each price; quantity 0 removes it. When a price comes twice, the last counts.
    ///
    /// # Errors
    ///
    /// [`Unfit`], and then nothing was applied.
    #[inline]
    pub fn apply(&mut self, head: &Head, bids: &[Level], asks: &[Level]) -> Result<Changes, Unfit> {
        if !self.blank && self.price.agrees(head.price) && self.qty.agrees(head.qty) {
            return Ok(self.set_all(bids.iter().map(pair), asks.iter().map(pair)));
        }
        self.apply_scaled(head, bids, asks)
    }

    #[inline]
    fn set_all(
        &mut self,
        bids: impl Iterator<Item = PriceQty> + Clone,
        asks: impl Iterator<Item = PriceQty> + Clone,
    ) -> Changes {
        let (bids, asks) = (set_side(&mut self.bids, 0, bids), set_side(&mut self.asks, -1, asks));
        Changes {
            unknown_removals: bids.unknown_removals + asks.unknown_removals,
            repeated_prices: bids.repeated_prices + asks.repeated_prices,
        }
    }

    #[cold]
    fn apply_scaled(&mut self, head: &Head, bids: &[Level], asks: &[Level]) -> Result<Changes, Unfit> {
        if bids.is_empty() && asks.is_empty() {
            // Its scales are of no numbers.
            return Ok(Changes::default());
        }
        if self.blank {
            self.blank = false;
            self.price = Spelling::of(head.price);
            self.qty = Spelling::of(head.qty);
            return Ok(self.set_all(bids.iter().map(pair), asks.iter().map(pair)));
        }
        let (mut price, mut qty) = (self.price, self.qty);
        let ends_in_zero = |exp: i8, m: i64| exp < 0 && m % 10 == 0;
        let levels = || bids.iter().chain(asks);
        if !price.agrees(head.price) {
            let here = !head.price.trimmed && levels().any(|l| ends_in_zero(head.price.exp, l.price()));
            let before = !price.trimmed && self.levels().any(|l| ends_in_zero(price.exp, l.0));
            price.meet(head.price, here || before);
        }
        if !qty.agrees(head.qty) {
            let here = !head.qty.trimmed && levels().any(|l| ends_in_zero(head.qty.exp, l.qty()));
            let before = !qty.trimmed && self.levels().any(|l| ends_in_zero(qty.exp, l.1));
            qty.meet(head.qty, here || before);
        }
        let scaled = |levels: &[Level]| -> Result<Vec<PriceQty>, Unfit> {
            levels.iter().map(|l| rescale(pair(l), (head.price.exp, head.qty.exp), (price.exp, qty.exp))).collect()
        };
        let (bids, asks) = (scaled(bids)?, scaled(asks)?);
        if (price.exp, qty.exp) != (self.price.exp, self.qty.exp) {
            self.rescale_to(price.exp, qty.exp)?;
        }
        (self.price, self.qty) = (price, qty);
        Ok(self.set_all(bids.iter().copied(), asks.iter().copied()))
    }

    fn rescale_to(&mut self, price_exp: i8, qty_exp: i8) -> Result<(), Unfit> {
        let from = (self.price.exp, self.qty.exp);
        let scaled = |side: &Side, flip: i64| -> Result<Side, Unfit> {
            // The order stays, so this is the side that inserting would give.
            let levels = side.iter().map(|(key, qty)| {
                rescale((key ^ flip, qty), from, (price_exp, qty_exp)).map(|(price, qty)| (price ^ flip, qty))
            });
            let mut levels = levels.collect::<Result<Vec<_>, _>>()?;
            levels.reverse();
            Ok(Side::from(levels))
        };
        let (bids, asks) = (scaled(&self.bids, 0)?, scaled(&self.asks, -1)?);
        (self.bids, self.asks) = (bids, asks);
        Ok(())
    }

    /// Bids, the best first.
    pub fn bids(&self) -> impl Iterator<Item = PriceQty> + '_ {
        self.bids.iter()
    }

    /// Asks, the best first.
    pub fn asks(&self) -> impl Iterator<Item = PriceQty> + '_ {
        self.asks.iter().map(|(key, qty)| (!key, qty))
    }

    fn levels(&self) -> impl Iterator<Item = PriceQty> + '_ {
        self.bids().chain(self.asks())
    }

    /// The best bid and the best ask.
    #[must_use]
    pub fn best(&self) -> (Option<PriceQty>, Option<PriceQty>) {
        (self.bids.best(), self.asks.best().map(|(key, qty)| (!key, qty)))
    }

    /// How the two stand to each other.
    #[must_use]
    pub fn touch(&self) -> Touch {
        match self.best() {
            (Some(bid), Some(ask)) => match bid.0.cmp(&ask.0) {
                Ordering::Less => Touch::Apart,
                Ordering::Equal => Touch::Locked,
                Ordering::Greater => Touch::Crossed,
            },
            _ => Touch::Apart,
        }
    }

    /// Number of bid levels.
    #[must_use]
    pub fn bid_count(&self) -> usize {
        self.bids.len()
    }

    /// Number of ask levels.
    #[must_use]
    pub fn ask_count(&self) -> usize {
        self.asks.len()
    }

    /// Whether it has no level at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bids.len() + self.asks.len() == 0
    }

    /// How prices are written.
    #[must_use]
    pub fn price_scale(&self) -> Scale {
        self.price.scale()
    }

    /// How quantities are written.
    #[must_use]
    pub fn qty_scale(&self) -> Scale {
        self.qty.scale()
    }

    /// The venue's text for a price of this book.
    #[must_use]
    pub fn price(&self, mantissa: i64) -> Decimal {
        self.price.scale().decimal(mantissa)
    }

    /// The venue's text for a quantity of this book.
    #[must_use]
    pub fn qty(&self, mantissa: i64) -> Decimal {
        self.qty.scale().decimal(mantissa)
    }

    /// Puts all levels into `out`, bids from the best, then asks from the best, as a snapshot record has them; returns
    /// the number of bids.
    pub fn levels_into(&self, out: &mut Vec<Level>) -> usize {
        out.clear();
        out.extend(self.levels().map(|(price, qty)| Level::new(price, qty)));
        self.bids.len()
    }

    /// Writes `side,price,qty` and one row per level, at most `depth` a side: bids from the best, then asks from the
    /// best, in the venue's text.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn write_csv(&self, out: &mut impl io::Write, depth: usize) -> io::Result<()> {
        out.write_all(b"side,price,qty\n")?;
        self.write_rows(out, depth, self.price.scale(), self.qty.scale())
    }

    fn write_rows(&self, out: &mut impl io::Write, depth: usize, price: Scale, qty: Scale) -> io::Result<()> {
        for (p, q) in self.bids().take(depth) {
            writeln!(out, "bid,{},{}", price.decimal(p), qty.decimal(q))?;
        }
        for (p, q) in self.asks().take(depth) {
            writeln!(out, "ask,{},{}", price.decimal(p), qty.decimal(q))?;
        }
        Ok(())
    }

    /// SHA-256 of the rows of [`Book::write_csv`], without their heading, all numbers without needless zeros: equal for
    /// equal books, however they were written.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        struct Hash(Sha256);
        impl io::Write for Hash {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.update(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let plain = |scale: Scale| Scale { trimmed: true, ..scale };
        let mut hash = io::BufWriter::new(Hash(Sha256::new()));
        let written = self.write_rows(&mut hash, usize::MAX, plain(self.price.scale()), plain(self.qty.scale()));
        match written.and_then(|()| hash.into_inner().map_err(|e| e.into_error())) {
            Ok(hash) => hash.0.finalize().into(),
            Err(error) => unreachable!("a hash takes every byte: {error}"),
        }
    }
}

#[inline]
fn pair(level: &Level) -> PriceQty {
    (level.price(), level.qty())
}

/// Sets the levels of one side of a message; `flip` makes keys of prices, see [`Side`].
#[inline]
fn set_side(side: &mut Side, flip: i64, levels: impl Iterator<Item = PriceQty> + Clone) -> Changes {
    let mut changes = Changes::default();
    // A venue sorts its sides, one way or the other; then no two prices are equal if all neighbours are in order.
    let (mut count, mut ups, mut downs) = (0, 0, 0);
    let mut before = levels.clone().next().map_or(0, |first| first.0);
    for (price, qty) in levels.clone() {
        changes.unknown_removals += u64::from(side.set(price ^ flip, qty));
        count += 1;
        ups += usize::from(before < price);
        downs += usize::from(before > price);
        before = price;
    }
    if ups.max(downs) + 1 < count {
        changes.repeated_prices = repeated(levels.map(|level| level.0).collect());
    }
    changes
}

/// How many of these prices had been among them before.
#[cold]
fn repeated(mut prices: Vec<i64>) -> u64 {
    prices.sort_unstable();
    prices.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64
}

fn rescale((price, qty): PriceQty, from: (i8, i8), to: (i8, i8)) -> Result<PriceQty, Unfit> {
    let one = |mantissa: i64, from: i8, to: i8| {
        let scale = Scale { exp: from, trimmed: false };
        scale.decimal(mantissa).mantissa_at(to).ok_or(Unfit { message_exp: from, book_exp: to })
    };
    Ok((one(price, from.0, to.0)?, one(qty, from.1, to.1)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn head(price: Scale, qty: Scale) -> Head {
        Head { price, qty, ..Head::default() }
    }

    fn levels(pairs: &[PriceQty]) -> Vec<Level> {
        pairs.iter().map(|(p, q)| Level::new(*p, *q)).collect()
    }

    fn csv(book: &Book) -> String {
        let mut out = Vec::new();
        book.write_csv(&mut out, usize::MAX).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// A chunk that splits, empties or sits at an edge must not lose or reorder a level.
    #[test]
    fn a_side_is_a_sorted_map() {
        let mut seed = 0x5eed_u64;
        println!("seed {seed:#x}");
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let (mut book, mut model) = (Book::new(), BTreeMap::new());
        for round in 0..60_000 {
            // Growing, then shrinking, so that chunks split and vanish.
            let keep = if (round / 15_000) % 2 == 0 { 9 } else { 2 };
            let price = next(6_000) as i64 - 3_000;
            let qty = if next(10) < keep { next(100) as i64 + 1 } else { 0 };
            let side = levels(&[(price, qty)]);
            book.apply(&Head::default(), &side, &side).unwrap();
            if qty == 0 {
                model.remove(&price)
            } else {
                model.insert(price, qty)
            };
            if round % 997 == 0 || round > 59_990 {
                assert!(book.asks().eq(model.iter().map(|(p, q)| (*p, *q))), "round {round}");
                assert!(book.bids().eq(model.iter().rev().map(|(p, q)| (*p, *q))), "round {round}");
                assert_eq!((book.bid_count(), book.ask_count()), (model.len(), model.len()));
            }
        }
    }

    #[test]
    fn prices_at_the_ends_of_i64_keep_their_order() {
        let mut book = Book::new();
        let side = levels(&[(i64::MIN, 1), (i64::MAX, 2), (0, 3), (-1, 4)]);
        book.apply(&Head::default(), &side, &side).unwrap();
        assert_eq!(book.bids().map(|l| l.0).collect::<Vec<_>>(), [i64::MAX, 0, -1, i64::MIN]);
        assert_eq!(book.asks().map(|l| l.0).collect::<Vec<_>>(), [i64::MIN, -1, 0, i64::MAX]);
    }

    #[test]
    fn a_message_says_what_it_met() {
        let mut book = Book::new();
        let mut apply = |bids: &[PriceQty], asks: &[PriceQty]| {
            let changes = book.apply(&Head::default(), &levels(bids), &levels(asks)).unwrap();
            (changes.unknown_removals, changes.repeated_prices, book.touch())
        };
        assert_eq!(apply(&[(10, 1), (9, 1), (9, 0)], &[(11, 1)]), (0, 1, Touch::Apart));
        assert_eq!(apply(&[(9, 0), (8, 0), (11, 2)], &[(12, 0)]), (3, 0, Touch::Locked), "neither way in order");
        assert_eq!(apply(&[(12, 2), (7, 1), (12, 0), (12, 3), (7, 2)], &[]), (0, 3, Touch::Crossed));
        assert_eq!(apply(&[], &[(11, 0)]), (0, 0, Touch::Apart), "one side alone is not crossed");
    }

    #[test]
    fn a_venue_that_trims_is_written_trimmed() {
        let mut book = Book::new();
        book.replace(&head(Scale::fixed(1), Scale::fixed(0)), &levels(&[(618_047, 35)]), &[]).unwrap();
        book.apply(&head(Scale::fixed(0), Scale::fixed(0)), &levels(&[(61_800, 10)]), &[]).unwrap();
        assert_eq!(csv(&book), "side,price,qty\nbid,61804.7,35\nbid,61800,10\n");
        book.apply(&head(Scale::trimmed(2), Scale::trimmed(1)), &levels(&[(6_180_450, 5)]), &[]).unwrap();
        assert_eq!(csv(&book), "side,price,qty\nbid,61804.7,35\nbid,61804.5,0.5\nbid,61800,10\n");
    }

    #[test]
    fn a_venue_that_adds_a_decimal_is_written_fixed() {
        let mut book = Book::new();
        book.replace(&head(Scale::fixed(1), Scale::fixed(0)), &levels(&[(618_040, 35)]), &[]).unwrap();
        book.apply(&head(Scale::fixed(2), Scale::fixed(0)), &levels(&[(6_180_401, 10)]), &[]).unwrap();
        assert_eq!(csv(&book), "side,price,qty\nbid,61804.01,10\nbid,61804.00,35\n");
        // Guessed wrong at first, then shown: the text `0.50` is no trimmed venue's.
        let mut book = Book::new();
        book.replace(&head(Scale::fixed(1), Scale::fixed(0)), &levels(&[(618_041, 35)]), &[]).unwrap();
        book.apply(&head(Scale::fixed(2), Scale::fixed(0)), &levels(&[(6_180_401, 10)]), &[]).unwrap();
        book.apply(&head(Scale::fixed(2), Scale::fixed(0)), &levels(&[(50, 10)]), &[]).unwrap();
        assert_eq!(csv(&book), "side,price,qty\nbid,61804.10,35\nbid,61804.01,10\nbid,0.50,10\n");
    }

    #[test]
    fn the_scales_of_an_empty_message_say_nothing() {
        let mut book = Book::new();
        book.replace(&head(Scale::fixed(2), Scale::fixed(3)), &levels(&[(100, 1)]), &[]).unwrap();
        book.apply(&head(Scale::fixed(0), Scale::fixed(0)), &[], &[]).unwrap();
        assert_eq!(csv(&book), "side,price,qty\nbid,1.00,0.001\n");
        let mut book = Book::new();
        book.replace(&head(Scale::fixed(0), Scale::fixed(0)), &[], &[]).unwrap();
        book.apply(&head(Scale::fixed(2), Scale::fixed(0)), &levels(&[(101, 1)]), &[]).unwrap();
        assert_eq!(csv(&book), "side,price,qty\nbid,1.01,1\n");
    }

    #[test]
    fn a_message_that_does_not_fit_changes_nothing() {
        let mut book = Book::new();
        book.replace(&head(Scale::fixed(0), Scale::fixed(0)), &levels(&[(i64::MAX, 1)]), &[]).unwrap();
        let before = book.clone();
        let unfit = book.apply(&head(Scale::fixed(1), Scale::fixed(0)), &levels(&[(5, 1)]), &[]).unwrap_err();
        assert_eq!(unfit.to_string(), "book: numbers with exponent 0 do not fit beside those with -1");
        assert_eq!(book, before);
        let huge = head(Scale { exp: 127, trimmed: true }, Scale::fixed(0));
        assert!(book.apply(&huge, &levels(&[(5, 1)]), &[]).is_err());
        assert_eq!(book, before);
    }

    #[test]
    fn a_book_survives_its_checkpoint() {
        let mut book = Book::new();
        let side = levels(&(0..2_000).map(|i| (i * 7 % 2_000, i + 1)).collect::<Vec<_>>());
        book.replace(&head(Scale::fixed(2), Scale::trimmed(3)), &side, &side[..700]).unwrap();
        let bytes = postcard::to_stdvec(&book).unwrap();
        assert_eq!(postcard::from_bytes::<Book>(&bytes).unwrap(), book);
    }
}
