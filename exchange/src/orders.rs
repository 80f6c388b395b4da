//! What clients ordered, and what became of it: the venue's own record, which auditors ask for.
//!
//! Every order of a client is kept, whatever became of it, so that at the end somebody can count: what was ordered is
//! what was filled, plus what was cancelled or lapsed, plus what still waits. The record is bounded: past
//! [`ORDERS_MAX`] orders, new ones are refused.

use std::collections::HashMap;

use crate::market::Trade;
use crate::matching::{OrderId, Side, Terms};

/// Most orders that are kept.
pub const ORDERS_MAX: usize = 1 << 20;

/// How an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It waits, and nothing of it has traded.
    New,
    /// It waits, and some of it has traded.
    PartiallyFilled,
    /// All of it has traded.
    Filled,
    /// Its owner took the rest back.
    Canceled,
    /// The rest lapsed, as its terms say.
    Expired,
}

impl Status {
    /// As Binance writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::PartiallyFilled => "PARTIALLY_FILLED",
            Self::Filled => "FILLED",
            Self::Canceled => "CANCELED",
            Self::Expired => "EXPIRED",
        }
    }
}

/// One side of one trade, as the order sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The trade.
    pub trade: u64,
    /// Its price.
    pub ticks: u64,
    /// How much.
    pub lots: u64,
    /// The order was the one that waited.
    pub maker: bool,
}

/// An order of a client.
#[derive(Clone, Debug)]
pub struct Order {
    /// Index of the symbol.
    pub market: usize,
    /// The venue's name for it, unique in its symbol.
    pub id: OrderId,
    /// The client's name for it, unique for ever.
    pub client_id: String,
    /// Which way.
    pub side: Side,
    /// On what terms.
    pub terms: Terms,
    /// How much.
    pub lots: u64,
    /// What traded of it.
    pub executions: Vec<Execution>,
    /// What waits of it.
    pub resting: u64,
    /// When it came, in ms since 1970.
    pub placed_ms: u64,
    /// When something last happened to it.
    pub changed_ms: u64,
    /// How it stands.
    pub status: Status,
}

impl Order {
    /// How much has traded.
    #[must_use]
    pub fn executed(&self) -> u64 {
        self.executions.iter().map(|execution| execution.lots).sum()
    }

    /// Price times quantity of what has traded, in ticks times lots.
    #[must_use]
    pub fn quote(&self) -> u128 {
        self.executions.iter().map(|execution| u128::from(execution.ticks) * u128::from(execution.lots)).sum()
    }
}

/// All orders of all clients.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    all: Vec<Order>,
    by_client_id: HashMap<String, usize>,
    by_id: HashMap<(usize, OrderId), usize>,
}

impl Orders {
    /// Whether one more would be too many.
    #[must_use]
    pub fn full(&self) -> bool {
        self.all.len() >= ORDERS_MAX
    }

    /// Whether a client has used this name.
    #[must_use]
    pub fn knows(&self, client_id: &str) -> bool {
        self.by_client_id.contains_key(client_id)
    }

    /// All of them, in order of arrival.
    #[must_use]
    pub fn all(&self) -> &[Order] {
        &self.all
    }

    /// The one that its client calls so.
    #[must_use]
    pub fn by_client_id(&self, client_id: &str) -> Option<&Order> {
        self.by_client_id.get(client_id).map(|at| &self.all[*at])
    }

    /// The one that the venue calls so.
    #[must_use]
    pub fn by_id(&self, market: usize, id: OrderId) -> Option<&Order> {
        self.by_id.get(&(market, id)).map(|at| &self.all[*at])
    }

    /// Records a new one, whose client's name must be new.
    pub fn add(&mut self, order: Order) {
        let at = self.all.len();
        self.by_client_id.insert(order.client_id.clone(), at);
        self.by_id.insert((order.market, order.id), at);
        self.all.push(order);
    }

    /// Records that a waiting order has traded, if a client owns it.
    pub fn traded(&mut self, market: usize, trade: &Trade, now_ms: u64) {
        let Some(at) = self.by_id.get(&(market, trade.maker)) else { return };
        let order = &mut self.all[*at];
        order.executions.push(Execution { trade: trade.id, ticks: trade.ticks, lots: trade.lots, maker: true });
        order.resting -= trade.lots;
        order.changed_ms = now_ms;
        order.status = if order.resting == 0 { Status::Filled } else { Status::PartiallyFilled };
    }

    /// Records that a waiting order was taken back, if a client owns it.
    pub fn cancelled(&mut self, market: usize, id: OrderId, now_ms: u64) {
        let Some(at) = self.by_id.get(&(market, id)) else { return };
        let order = &mut self.all[*at];
        order.resting = 0;
        order.changed_ms = now_ms;
        order.status = Status::Canceled;
    }
}
