//! The venue as a witness of its own books: what it says about a book is compared with the book that its messages make.
//!
//! ```text
//! snapshot ──▶ book ──delta──▶ book ──▶ checksum computed == checksum sent?   no: the book is wrong until a snapshot
//! ```
//!
//! A [`Witness`] has one symbol's book, to the depth that the venue keeps, with prices and quantities as they were sent:
//! checksums are of texts. Give it every [`Item`] of the symbol in order; it answers what the item proved.
//!
//! | Venue | Checked by |
//! |---|---|
//! | Kraken | CRC-32 over the digits of the 10 best asks, then the 10 best bids, leading zeros off |
//! | OKX | CRC-32 over `bid:size:ask:size:…` of the 25 best levels; when one side is shorter the other goes on alone |
//! | Coinbase | the best bid's and ask's price in each ticker; a ticker made before the book's last change differs |
//! | Binance | nothing: its ids prove what they must, see [`continuity`](crate::continuity) |
//!
//! A wrong book is not checked any further: [`Answer::Unchecked`], until a snapshot comes. What this module never does: it
//! repairs nothing, keeps no second book of what it missed, and asks nothing of the heap once its book has grown.

use core::fmt::{self, Write as _};

use chronicle_protocol::{BookDelta, BookSnapshot, Decimal, DecimalText, Head, Level, Record, Scale};
use crc32fast::Hasher;

use crate::venue::{Item, Venue};

/// What an item proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There was nothing to check.
    Nothing,
    /// The venue said something, and there is no whole book to check it with.
    Unchecked(Subject),
    /// The book is what the venue says.
    Matched(Subject),
    /// The venue's checksum is not the book's: the book is wrong until the next snapshot.
    WrongChecksum {
        /// What the venue sent.
        sent: u32,
        /// What the book has.
        computed: u32,
    },
    /// The venue's best prices are not the book's. The two may be of different moments.
    OtherBest,
    /// A change of the book is missing, because no record could hold it: the book is wrong until the next snapshot.
    Broken,
}

/// What the venue said something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The checksum.
    Checksum,
    /// The best prices.
    Best,
}

/// A level as it was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    price: Decimal,
    qty: Decimal,
}

/// One side, the best level last, because that is where books change.
#[derive(Clone, Debug, Default)]
struct Side {
    levels: Vec<Sent>,
}

impl Side {
    fn set(&mut self, head: &Head, level: &Level, is_bid: bool) {
        let price = head.price.decimal(level.price());
        let sent = Sent { price, qty: head.qty.decimal(level.qty()) };
        let found = self.levels.binary_search_by(|other| {
            let order = other.price.value_cmp(price);
            if is_bid { order } else { order.reverse() }
        });
        match found {
            Ok(at) if level.qty() != 0 => self.levels[at] = sent,
            Ok(at) => drop(self.levels.remove(at)),
            // A price that fell out of the window, or never was in it.
            Err(_) if level.qty() == 0 => {}
            Err(at) => self.levels.insert(at, sent),
        }
    }

    fn cut(&mut self, depth: usize) {
        if let Some(excess) = self.levels.len().checked_sub(depth) {
            self.levels.drain(..excess);
        }
    }

    fn best(&self, count: usize) -> impl Iterator<Item = &Sent> {
        self.levels.iter().rev().take(count)
    }
}

/// One symbol's book beside what its venue says about it.
#[derive(Clone, Debug)]
pub struct Witness {
    venue: Venue,
    bids: Side,
    asks: Side,
    /// Levels a side; everything while unknown.
    depth: Option<u32>,
    /// The least exponents since the snapshot: how many decimals the venue's numbers have.
    exps: [i8; 2],
    whole: bool,
}

impl Witness {
    /// A symbol of which nothing is known. `None`: the venue says nothing about its books.
    #[must_use]
    pub fn new(venue: Venue) -> Option<Self> {
        let side = Side::default();
        let new = Self { venue, bids: side.clone(), asks: side, depth: None, exps: [0; 2], whole: false };
        matches!(venue, Venue::Kraken | Venue::Okx | Venue::Coinbase).then_some(new)
    }

    /// Whether there was a snapshot and nothing since showed that the book is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The stream began anew, or is known to have a hole: nothing is checked until a snapshot.
    pub fn lost(&mut self) {
        self.whole = false;
    }

    /// Takes an item of this symbol.
    pub fn see(&mut self, item: &Item<'_>) -> Answer {
        let proof = &item.proof;
        if proof.depth.is_some() {
            self.depth = proof.depth;
        }
        if proof.breaks {
            self.whole = false;
            return Answer::Broken;
        }
        match &item.record {
            Record::BookSnapshot(snapshot) => self.replace(snapshot),
            Record::BookDelta(delta) if self.whole => self.change(delta),
            _ => {}
        }
        match (proof.checksum, proof.best) {
            (Some(_), _) if !self.whole => Answer::Unchecked(Subject::Checksum),
            (Some(sent), _) => {
                let computed = self.checksum();
                if sent == computed {
                    return Answer::Matched(Subject::Checksum);
                }
                self.whole = false;
                Answer::WrongChecksum { sent, computed }
            }
            (None, Some(_)) if !self.whole => Answer::Unchecked(Subject::Best),
            (None, Some([bid, ask])) => {
                let is = |side: &Side, text: DecimalText| {
                    let said = Scale::fixed(text.decimals).decimal(text.mantissa);
                    side.best(1).next().is_some_and(|level| level.price.value_cmp(said).is_eq())
                };
                if is(&self.bids, bid) && is(&self.asks, ask) {
                    Answer::Matched(Subject::Best)
                } else {
                    Answer::OtherBest
                }
            }
            (None, None) => Answer::Nothing,
        }
    }

    fn replace(&mut self, snapshot: &BookSnapshot<'_>) {
        self.bids.levels.clear();
        self.asks.levels.clear();
        self.exps = [0; 2];
        self.whole = true;
        self.set(&snapshot.head, snapshot.bids, snapshot.asks);
    }

    fn change(&mut self, delta: &BookDelta<'_>) {
        self.set(&delta.head, delta.bids, delta.asks);
    }

    fn set(&mut self, head: &Head, bids: &[Level], asks: &[Level]) {
        if !bids.is_empty() || !asks.is_empty() {
            self.exps = [self.exps[0].min(head.price.exp), self.exps[1].min(head.qty.exp)];
        }
        bids.iter().for_each(|level| self.bids.set(head, level, true));
        asks.iter().for_each(|level| self.asks.set(head, level, false));
        if let Some(depth) = self.depth {
            self.bids.cut(depth as usize);
            self.asks.cut(depth as usize);
        }
    }

    /// The checksum that the venue would send for this book.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        let mut text = Crc(Hasher::new());
        // A hash takes any text.
        let _ = match self.venue {
            Venue::Okx => self.write_okx(&mut text),
            _ => self.write_kraken(&mut text),
        };
        text.0.finalize()
    }

    /// All digits without leading zeros; with as many decimals as the venue's numbers have, should zeros have been left
    /// off at an end.
    fn write_kraken(&self, to: &mut Crc) -> fmt::Result {
        let [price_exp, qty_exp] = self.exps;
        for level in self.asks.best(10).chain(self.bids.best(10)) {
            for (number, exp) in [(level.price, price_exp), (level.qty, qty_exp)] {
                match number.mantissa_at(exp) {
                    Some(digits) => write!(to, "{digits}")?,
                    // More digits than any quantity there is has.
                    None => write!(to, "{}", number.mantissa)?,
                }
            }
        }
        Ok(())
    }

    fn write_okx(&self, to: &mut Crc) -> fmt::Result {
        let (mut bids, mut asks) = (self.bids.best(25), self.asks.best(25));
        let mut first = true;
        loop {
            let pair = [bids.next(), asks.next()];
            if pair.iter().all(Option::is_none) {
                return Ok(());
            }
            for level in pair.into_iter().flatten() {
                let colon = if core::mem::take(&mut first) { "" } else { ":" };
                write!(to, "{colon}{}:{}", level.price, level.qty)?;
            }
        }
    }
}

/// A hash that is written to as text.
struct Crc(Hasher);

impl fmt::Write for Crc {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
