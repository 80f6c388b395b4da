//! A limit order book that matches by price, then time.
//!
//! ```text
//! a buy of q at limit p:
//!   while q > 0 and the lowest ask is ≤ p:
//!     trade with the oldest order of that ask, at the ask's price
//!   what is left rests at p (GTC), or lapses (IOC, market)
//! ```
//!
//! The real code departs from it in three ways: fill-or-kill looks first whether all of q is there and touches nothing
//! otherwise; a maker-only order is refused if it would trade at all; and the levels that changed are noted, since they
//! are what the world gets to see.
//!
//! Prices are whole ticks and quantities whole lots. There is no clock, no randomness and no text here: the same calls
//! give the same book.

use std::collections::{BTreeMap, HashMap};

/// Who wants what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Wants to buy; rests among the bids.
    Buy,
    /// Wants to sell; rests among the asks.
    Sell,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }
}

/// Names an order. Given in order of arrival, so that among orders of one price the smaller is the older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// At what price an order trades, and what becomes of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// At this price or better; the rest waits in the book.
    Limit(u64),
    /// At this price or better; the rest lapses.
    ImmediateOrCancel(u64),
    /// At this price or better, all of it or nothing.
    FillOrKill(u64),
    /// Waits in the book, and is refused if it would trade at once.
    MakerOnly(u64),
    /// At any price; the rest lapses.
    Market,
}

impl Terms {
    /// The limit, where there is one.
    #[must_use]
    pub const fn limit(self) -> Option<u64> {
        match self {
            Self::Limit(at) | Self::ImmediateOrCancel(at) | Self::FillOrKill(at) | Self::MakerOnly(at) => Some(at),
            Self::Market => None,
        }
    }
}

/// One trade between the order that came and one that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The order that waited.
    pub maker: OrderId,
    /// The price: the maker's.
    pub ticks: u64,
    /// How much.
    pub lots: u64,
    /// Nothing of the maker is left.
    pub maker_done: bool,
}

/// What became of an order's quantity: `filled + rested + lapsed` is all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its name from now on.
    pub id: OrderId,
    /// Traded at once.
    pub filled: u64,
    /// Waits in the book.
    pub rested: u64,
    /// Neither: it is gone.
    pub lapsed: u64,
}

/// Why an order did not get into the book at all. The book is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No quantity, or a price of 0.
    Nothing,
    /// A maker-only order that would trade.
    WouldTake,
    /// As many orders wait as may.
    Full,
}

/// The orders at one price.
#[derive(Clone, Debug, Default)]
struct Level {
    /// The sum of `orders`.
    lots: u64,
    /// What is left of each, the oldest first.
    orders: BTreeMap<OrderId, u64>,
}

/// The book.
#[derive(Clone, Debug)]
pub struct Book {
    bids: BTreeMap<u64, Level>,
    asks: BTreeMap<u64, Level>,
    /// Where each waiting order is.
    places: HashMap<OrderId, (Side, u64)>,
    next: u64,
    resting_max: usize,
    /// Levels that changed since [`Book::take_touched`].
    touched: Vec<(Side, u64)>,
}

impl Book {
    /// An empty one, whose first order will be called `first` and in which `resting_max` orders may wait.
    #[must_use]
    pub fn new(first: OrderId, resting_max: usize) -> Self {
        Self {
            bids: BTreeMap::new(),
            asks: BTreeMap::new(),
            places: HashMap::new(),
            next: first.0,
            resting_max,
            touched: Vec::new(),
        }
    }

    fn side(&self, side: Side) -> &BTreeMap<u64, Level> {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut BTreeMap<u64, Level> {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }

    /// The best price of a side and what waits there.
    #[must_use]
    pub fn best(&self, side: Side) -> Option<(u64, u64)> {
        let best = match side {
            Side::Buy => self.bids.last_key_value(),
            Side::Sell => self.asks.first_key_value(),
        };
        best.map(|(ticks, level)| (*ticks, level.lots))
    }

    /// What waits at a price; 0 where nothing does.
    #[must_use]
    pub fn lots_at(&self, side: Side, ticks: u64) -> u64 {
        self.side(side).get(&ticks).map_or(0, |level| level.lots)
    }

    /// Prices and what waits there, the best first.
    pub fn levels(&self, side: Side) -> Box<dyn Iterator<Item = (u64, u64)> + '_> {
        let pair = |(ticks, level): (&u64, &Level)| (*ticks, level.lots);
        match side {
            Side::Buy => Box::new(self.bids.iter().rev().map(pair)),
            Side::Sell => Box::new(self.asks.iter().map(pair)),
        }
    }

    /// How many orders wait.
    #[must_use]
    pub fn resting_count(&self) -> usize {
        self.places.len()
    }

    /// What is left of a waiting order.
    #[must_use]
    pub fn resting(&self, id: OrderId) -> Option<u64> {
        let (side, ticks) = self.places.get(&id)?;
        self.side(*side).get(ticks)?.orders.get(&id).copied()
    }

    /// The levels that changed since this was last asked, each once per order or cancellation that changed it, in order.
    pub fn take_touched(&mut self) -> std::vec::Drain<'_, (Side, u64)> {
        self.touched.drain(..)
    }

    /// Whether an order of `side` with this limit trades with somebody who waits at `ticks`.
    const fn crosses(side: Side, limit: Option<u64>, ticks: u64) -> bool {
        match (side, limit) {
            (_, None) => true,
            (Side::Buy, Some(limit)) => ticks <= limit,
            (Side::Sell, Some(limit)) => ticks >= limit,
        }
    }

    /// Takes an order, and appends its trades to `fills`.
    ///
    /// # Errors
    ///
    /// If it is refused; nothing has changed then. A fill-or-kill order that finds too little is not refused: it lapses.
    pub fn place(&mut self, side: Side, lots: u64, terms: Terms, fills: &mut Vec<Fill>) -> Result<Placed, Refused> {
        let limit = terms.limit();
        if lots == 0 || limit == Some(0) {
            return Err(Refused::Nothing);
        }
        if self.places.len() >= self.resting_max && matches!(terms, Terms::Limit(_) | Terms::MakerOnly(_)) {
            return Err(Refused::Full);
        }
        let meets = self.best(side.other()).is_some_and(|(ticks, _)| Self::crosses(side, limit, ticks));
        if meets && matches!(terms, Terms::MakerOnly(_)) {
            return Err(Refused::WouldTake);
        }
        let id = OrderId(self.next);
        self.next += 1;
        if matches!(terms, Terms::FillOrKill(_)) && !self.offers(side, lots, limit) {
            return Ok(Placed { id, filled: 0, rested: 0, lapsed: lots });
        }
        let left = if meets { self.take(side, lots, limit, fills) } else { lots };
        let rests = matches!(terms, Terms::Limit(_) | Terms::MakerOnly(_)) && left > 0;
        if let (true, Some(ticks)) = (rests, limit) {
            let level = self.side_mut(side).entry(ticks).or_default();
            level.lots += left;
            level.orders.insert(id, left);
            self.places.insert(id, (side, ticks));
            self.touched.push((side, ticks));
        }
        let (rested, lapsed) = if rests { (left, 0) } else { (0, left) };
        Ok(Placed { id, filled: lots - left, rested, lapsed })
    }

    /// Whether the other side has this much within the limit.
    fn offers(&self, side: Side, lots: u64, limit: Option<u64>) -> bool {
        let mut found = 0;
        for (ticks, there) in self.levels(side.other()) {
            if !Self::crosses(side, limit, ticks) {
                break;
            }
            found += there;
            if found >= lots {
                return true;
            }
        }
        false
    }

    /// Trades up to `left` with the other side, and says what is left.
    fn take(&mut self, side: Side, mut left: u64, limit: Option<u64>, fills: &mut Vec<Fill>) -> u64 {
        let other = match side {
            Side::Buy => &mut self.asks,
            Side::Sell => &mut self.bids,
        };
        while left > 0 {
            let entry = match side {
                Side::Buy => other.first_entry(),
                Side::Sell => other.last_entry(),
            };
            let Some(mut entry) = entry.filter(|entry| Self::crosses(side, limit, *entry.key())) else { break };
            let ticks = *entry.key();
            let level = entry.get_mut();
            while left > 0
                && let Some(mut oldest) = level.orders.first_entry()
            {
                let lots = left.min(*oldest.get());
                *oldest.get_mut() -= lots;
                level.lots -= lots;
                left -= lots;
                let maker = *oldest.key();
                let maker_done = *oldest.get() == 0;
                if maker_done {
                    oldest.remove();
                    self.places.remove(&maker);
                }
                fills.push(Fill { maker, ticks, lots, maker_done });
            }
            if level.orders.is_empty() {
                entry.remove();
            }
            self.touched.push((side.other(), ticks));
        }
        left
    }

    /// Takes a waiting order out, and says what was left of it; none if it does not wait.
    pub fn cancel(&mut self, id: OrderId) -> Option<u64> {
        let (side, ticks) = self.places.remove(&id)?;
        let levels = self.side_mut(side);
        let level = levels.get_mut(&ticks)?;
        let left = level.orders.remove(&id)?;
        level.lots -= left;
        if level.orders.is_empty() {
            levels.remove(&ticks);
        }
        self.touched.push((side, ticks));
        Some(left)
    }
}
