//! What the crowd does: seeded random orders that keep a market alive.
//!
//! Four things happen: somebody offers to trade near the other side's best price, somebody gives up waiting, somebody
//! takes what is there, and, once in a while, somebody takes a lot. How often follows how full the book is, so that it
//! neither empties nor grows without bound. There is no model of prices behind it, and none is claimed: it is there to
//! make every kind of change that a book can go through, often.

use crate::decimal::UNITS_MAX;
use crate::matching::{Book, OrderId, Side, Terms};
use crate::random::Random;

/// About as many of the crowd's orders wait.
const CROWD: usize = 1_000;
/// Prices stay below this, so that no sum or product comes near its end.
const TICKS_MAX: u64 = UNITS_MAX / 2;

/// What the crowd does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Places an order.
    Place {
        /// Which way.
        side: Side,
        /// How much.
        lots: u64,
        /// On what terms.
        terms: Terms,
    },
    /// Gives up an order that may have traded meanwhile.
    Cancel(OrderId),
}

/// The crowd of one symbol.
#[derive(Clone, Debug)]
pub struct Flow {
    random: Random,
    /// Orders of the crowd that rested, some of which may be gone.
    waiting: Vec<OrderId>,
    /// The price that a side offers around when the other one is empty.
    last_ticks: u64,
}

impl Flow {
    /// A crowd that `seed` decides, around a price.
    #[must_use]
    pub const fn new(seed: u64, start_ticks: u64) -> Self {
        Self { random: Random::new(seed), waiting: Vec::new(), last_ticks: start_ticks }
    }

    /// What happens next in this book.
    pub fn next(&mut self, book: &Book) -> Move {
        let side = if self.random.below(2) == 0 { Side::Buy } else { Side::Sell };
        let gives_up = if self.waiting.len() > CROWD { 55 } else { 25 };
        match self.random.below(100) {
            chance if chance < gives_up && !self.waiting.is_empty() => {
                let at = self.random.below(self.waiting.len() as u64) as usize;
                Move::Cancel(self.waiting.swap_remove(at))
            }
            chance if chance >= 85 && self.waiting.len() > CROWD / 2 => self.take(side, book),
            _ => self.offer(side, book),
        }
    }

    /// An order of the crowd rests.
    pub fn rested(&mut self, id: OrderId) {
        self.waiting.push(id);
    }

    fn offer(&mut self, side: Side, book: &Book) -> Move {
        let other = book.best(side.other()).map_or(self.last_ticks, |(ticks, _)| ticks);
        let away = 1 + self.random.skewed(10);
        let ticks = match side {
            Side::Buy => other.saturating_sub(away).max(1),
            Side::Sell => (other + away).min(TICKS_MAX),
        };
        Move::Place { side, lots: 1 + self.random.skewed(16), terms: Terms::Limit(ticks) }
    }

    fn take(&mut self, side: Side, book: &Book) -> Move {
        let Some((ticks, _)) = book.best(side.other()) else { return self.offer(side, book) };
        self.last_ticks = ticks;
        let lots = 1 + self.random.skewed(17);
        let terms = match self.random.below(10) {
            0..4 => Terms::Market,
            4..7 => Terms::ImmediateOrCancel(ticks),
            7..9 => Terms::Limit(ticks),
            _ => Terms::FillOrKill(ticks),
        };
        Move::Place { side, lots, terms }
    }
}
