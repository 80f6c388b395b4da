//! All symbols of one venue, the crowds and the clients in them: the whole exchange without its sockets.
//!
//! It has no clock and no thread. [`Simulation::step`] lets the crowd of one symbol do one thing; the same seed and the
//! same calls give the same events, ids included.

use crate::market::{Event, Ids, Market, Symbol};
use crate::matching::{OrderId, Placed, Refused, Side, Terms};
use crate::orders::{Execution, Order, Orders, Status};
use crate::random::Random;

/// How a venue counts updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// Each symbol for itself: an event's first update is the one after the last event's last.
    PerSymbol,
    /// All symbols together: an event names the last event of its symbol instead.
    Shared,
}

/// A new order of a client.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// Index of the symbol.
    pub market: usize,
    /// The client's name for it; empty = one is given.
    pub client_id: String,
    /// Which way.
    pub side: Side,
    /// How much.
    pub lots: u64,
    /// On what terms.
    pub terms: Terms,
}

/// Why a client's order was not taken. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderRefused {
    /// A client has used this name for an order.
    Duplicate,
    /// The venue keeps as many orders as it may.
    TooMany,
    /// A recording is played: nobody can trade with it.
    Closed,
    /// The book refused it.
    Book(Refused),
}

/// The venue.
#[derive(Clone, Debug)]
pub struct Simulation {
    markets: Vec<Market>,
    /// One for each symbol, or one for all.
    ids: Vec<Ids>,
    orders: Orders,
}

impl Simulation {
    /// A venue after its opening. All ids count from `first`.
    #[must_use]
    pub fn open(symbols: &[Symbol], seed: u64, first: u64, counting: Counting) -> Self {
        let mut seeds = Random::new(seed);
        let count = if counting == Counting::Shared { 1 } else { symbols.len() };
        let mut ids = vec![Ids { next_update: first }; count.max(1)];
        let markets = symbols
            .iter()
            .enumerate()
            .map(|(at, symbol)| {
                let at = at.min(count - 1);
                Market::open(symbol.clone(), seeds.next(), first, &mut ids[at])
            })
            .collect();
        Self { markets, ids, orders: Orders::default() }
    }

    /// The markets, in the order of their symbols.
    #[must_use]
    pub fn markets(&self) -> &[Market] {
        &self.markets
    }

    /// One of them, and the ids that it uses.
    fn market(&mut self, at: usize) -> (&mut Market, &mut Ids) {
        let ids = at.min(self.ids.len() - 1);
        (&mut self.markets[at], &mut self.ids[ids])
    }

    /// What clients ordered.
    #[must_use]
    pub const fn orders(&self) -> &Orders {
        &self.orders
    }

    /// Lets the crowd of one symbol do one thing, and appends what the world is told.
    pub fn step(&mut self, market: usize, now_ms: u64, events: &mut Vec<Event>) {
        let from = events.len();
        let (the_market, ids) = self.market(market);
        the_market.step(ids, events);
        self.settle(market, now_ms, &events[from..]);
    }

    /// Takes what changed in a symbol since this was last asked.
    pub fn take_depth(&mut self, market: usize) -> Option<crate::market::Depth> {
        self.markets[market].take_depth()
    }

    /// Gives the clients who waited what they traded.
    fn settle(&mut self, market: usize, now_ms: u64, events: &[Event]) {
        for event in events {
            if let Event::Trade(trade) = event {
                self.orders.traded(market, trade, now_ms);
            }
        }
    }

    /// Takes a client's order.
    ///
    /// # Errors
    ///
    /// If it is refused; nothing has changed then.
    pub fn place(&mut self, new: NewOrder, now_ms: u64, events: &mut Vec<Event>) -> Result<&Order, OrderRefused> {
        if !new.client_id.is_empty() && self.orders.knows(&new.client_id) {
            return Err(OrderRefused::Duplicate);
        }
        if self.orders.full() {
            return Err(OrderRefused::TooMany);
        }
        let NewOrder { market, client_id, side, lots, terms } = new;
        let from = events.len();
        let (the_market, ids) = self.market(market);
        let placed = the_market.place(side, lots, terms, ids, events).map_err(OrderRefused::Book)?;
        self.settle(market, now_ms, &events[from..]);
        let executions = events[from..]
            .iter()
            .filter_map(|event| match event {
                Event::Trade(trade) => {
                    Some(Execution { trade: trade.id, ticks: trade.ticks, lots: trade.lots, maker: false })
                }
                Event::Ticker(_) => None,
            })
            .collect();
        let Placed { id, filled, rested, lapsed } = placed;
        let status = match (filled, rested, lapsed) {
            (_, 0, 1..) => Status::Expired,
            (0, _, _) => Status::New,
            (_, 0, _) => Status::Filled,
            _ => Status::PartiallyFilled,
        };
        let client_id = if client_id.is_empty() { self.name_for(market, id) } else { client_id };
        let order = Order {
            market,
            id,
            client_id,
            side,
            terms,
            lots,
            executions,
            resting: rested,
            placed_ms: now_ms,
            changed_ms: now_ms,
            status,
        };
        self.orders.add(order);
        Ok(&self.orders.all()[self.orders.all().len() - 1])
    }

    /// A client's name for an order whose client gave none.
    fn name_for(&self, market: usize, id: OrderId) -> String {
        let mut name = format!("x-{market}-{}", id.0);
        while self.orders.knows(&name) {
            name.push('_');
        }
        name
    }

    /// Takes a client's waiting order out of its book; none if no such order of a client waits.
    pub fn cancel(&mut self, market: usize, id: OrderId, now_ms: u64, events: &mut Vec<Event>) -> Option<&Order> {
        self.orders.by_id(market, id)?;
        let (the_market, ids) = self.market(market);
        the_market.cancel(id, ids, events)?;
        self.orders.cancelled(market, id, now_ms);
        self.orders.by_id(market, id)
    }
}
