//! One symbol's market: the book, the crowd, and what the world is told of both.
//!
//! Every level that an order or a cancellation changes takes one update id, in order. What changed since the last depth
//! event waits in [`Market::take_depth`]; a level that changed five times stands in it once, with what is there now.
//!
//! ```text
//! change        ask 101   ask 101   bid 99    |  bid 98 ..
//! update id     7         8         9         |  10
//! depth event   U = 7, u = 9, asks [[101, ..]], bids [[99, ..]]
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::decimal;
use crate::flow::{Flow, Move};
use crate::matching::{Book, Fill, OrderId, Placed, Refused, Side, Terms};

/// Most orders that wait in one book; past it new ones are refused.
const RESTING_MAX: usize = 1 << 20;
/// The crowd's moves before anybody looks: they fill the book.
const OPENING_MOVES: usize = 3_000;
const NAME_LEN_MAX: usize = 32;

/// A symbol, and the steps of its prices and quantities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// As the venue writes it: `BTCUSDT`, `BTC/USD`.
    pub name: String,
    /// A tick is 10^-this.
    pub price_decimals: u8,
    /// A lot is 10^-this.
    pub qty_decimals: u8,
    /// Where prices begin.
    pub start_ticks: u64,
}

/// Why a text names no symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotSymbol {
    text: String,
    why: &'static str,
}

impl fmt::Display for NotSymbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "symbol `{}` {}; write it like btcusdt or btcusdt=61800.00", self.text.escape_debug(), self.why)
    }
}

impl std::error::Error for NotSymbol {}

/// `name` or `name=price`; the price says where trading begins and, by its decimals, how fine a tick is.
impl FromStr for Symbol {
    type Err = NotSymbol;

    fn from_str(text: &str) -> Result<Self, NotSymbol> {
        let error = |why| NotSymbol { text: text.to_owned(), why };
        let (name, price) = text.split_once('=').unwrap_or((text, "50000.00"));
        if name.is_empty() || name.len() > NAME_LEN_MAX {
            return Err(error("has a name that is empty or longer than 32 bytes"));
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_-.".contains(&byte)) {
            return Err(error("has a name with other than letters, digits, `/`, `_`, `-` and `.`"));
        }
        let decimals = price.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let price_decimals = u8::try_from(decimals).ok().filter(|decimals| *decimals <= decimal::DECIMALS_MAX);
        let price_decimals = price_decimals.ok_or_else(|| error("has a price with more than 9 decimals"))?;
        let start_ticks = decimal::parse(price, price_decimals).map_err(|_| error("has a price that is not one"))?;
        if !(2..decimal::UNITS_MAX / 4).contains(&start_ticks) {
            return Err(error("has a price that is too small or too large for its decimals"));
        }
        Ok(Self { name: name.to_ascii_uppercase(), price_decimals, qty_decimals: 5, start_ticks })
    }
}

/// What the world is told at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Two orders traded.
    Trade(Trade),
    /// The best price of a side, or what waits there, changed.
    Ticker(Ticker),
}

/// A trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    /// Counts up by one in each symbol.
    pub id: u64,
    /// Its price.
    pub ticks: u64,
    /// How much.
    pub lots: u64,
    /// The order that came, and found the other one waiting.
    pub taker: OrderId,
    /// The order that waited.
    pub maker: OrderId,
    /// Which way the taker went.
    pub taker_side: Side,
}

/// The best of both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticker {
    /// The update after which it was so.
    pub update_id: u64,
    /// The best bid and what waits there; 0 and 0 where nobody bids.
    pub bid: (u64, u64),
    /// The best ask and what waits there; 0 and 0 where nobody offers.
    pub ask: (u64, u64),
}

/// Levels that changed, with what is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    /// The first update in it.
    pub first: u64,
    /// The last update in it.
    pub last: u64,
    /// The last update of the depth event before it; 0 if there was none.
    pub before: u64,
    /// Prices and quantities, the best first; 0 = nothing is left there.
    pub bids: Vec<(u64, u64)>,
    /// The same of the other side.
    pub asks: Vec<(u64, u64)>,
}

/// Counts that a venue keeps: update ids, and where a symbol's trades and orders begin.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    /// The id of the next update.
    pub next_update: u64,
}

impl Ids {
    const fn update(&mut self) -> u64 {
        let id = self.next_update;
        self.next_update += 1;
        id
    }
}

/// The market.
#[derive(Clone, Debug)]
pub struct Market {
    /// What is traded.
    pub symbol: Symbol,
    book: Book,
    flow: Flow,
    next_trade: u64,
    last_update: u64,
    ticker: Ticker,
    waiting: Waiting,
    fills: Vec<Fill>,
}

/// The depth event to come.
#[derive(Clone, Debug, Default)]
struct Waiting {
    first: Option<u64>,
    before: u64,
    bids: BTreeMap<u64, u64>,
    asks: BTreeMap<u64, u64>,
}

impl Market {
    /// A market after its opening, whose trades and orders count from `first`.
    #[must_use]
    pub fn open(symbol: Symbol, seed: u64, first: u64, ids: &mut Ids) -> Self {
        let flow = Flow::new(seed, symbol.start_ticks);
        let mut market = Self {
            symbol,
            book: Book::new(OrderId(first), RESTING_MAX),
            flow,
            next_trade: first,
            last_update: 0,
            ticker: Ticker::default(),
            waiting: Waiting::default(),
            fills: Vec::new(),
        };
        let mut unseen = Vec::new();
        for _ in 0..OPENING_MOVES {
            market.step(ids, &mut unseen);
            unseen.clear();
        }
        let _ = market.take_depth();
        market.waiting.before = 0;
        market
    }

    /// The book.
    #[must_use]
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// The last update of this symbol.
    #[must_use]
    pub const fn last_update(&self) -> u64 {
        self.last_update
    }

    /// The best of both sides.
    #[must_use]
    pub const fn ticker(&self) -> Ticker {
        self.ticker
    }

    /// Lets the crowd do one thing. What it trades with may be anybody's waiting order: `events` tell.
    pub fn step(&mut self, ids: &mut Ids, events: &mut Vec<Event>) {
        match self.flow.next(&self.book) {
            Move::Place { side, lots, terms } => {
                // The crowd is told nothing of a refusal: it has more where that came from.
                if let Ok(placed) = self.place(side, lots, terms, ids, events)
                    && placed.rested > 0
                {
                    self.flow.rested(placed.id);
                }
            }
            Move::Cancel(id) => {
                let _ = self.cancel(id, ids, events);
            }
        }
    }

    /// Takes an order. Its trades are the [`Event::Trade`]s appended to `events`.
    ///
    /// # Errors
    ///
    /// If it is refused; nothing has changed then.
    pub fn place(
        &mut self,
        side: Side,
        lots: u64,
        terms: Terms,
        ids: &mut Ids,
        events: &mut Vec<Event>,
    ) -> Result<Placed, Refused> {
        let mut fills = std::mem::take(&mut self.fills);
        let outcome = self.book.place(side, lots, terms, &mut fills);
        for fill in fills.drain(..) {
            let (Ok(placed), id) = (outcome, self.next_trade) else { break };
            self.next_trade += 1;
            let Fill { maker, ticks, lots, .. } = fill;
            events.push(Event::Trade(Trade { id, ticks, lots, taker: placed.id, maker, taker_side: side }));
        }
        self.fills = fills;
        self.note(ids, events);
        outcome
    }

    /// Takes a waiting order out, and says what was left of it.
    pub fn cancel(&mut self, id: OrderId, ids: &mut Ids, events: &mut Vec<Event>) -> Option<u64> {
        let left = self.book.cancel(id);
        self.note(ids, events);
        left
    }

    /// Gives the changed levels their update ids, and says so if the best of a side changed.
    fn note(&mut self, ids: &mut Ids, events: &mut Vec<Event>) {
        let touched: Vec<_> = self.book.take_touched().collect();
        if touched.is_empty() {
            return;
        }
        for (side, ticks) in touched {
            self.last_update = ids.update();
            self.waiting.first.get_or_insert(self.last_update);
            let levels = match side {
                Side::Buy => &mut self.waiting.bids,
                Side::Sell => &mut self.waiting.asks,
            };
            levels.insert(ticks, self.book.lots_at(side, ticks));
        }
        let best = |side| self.book.best(side).unwrap_or((0, 0));
        let ticker = Ticker { update_id: self.last_update, bid: best(Side::Buy), ask: best(Side::Sell) };
        if (ticker.bid, ticker.ask) != (self.ticker.bid, self.ticker.ask) {
            self.ticker = ticker;
            events.push(Event::Ticker(ticker));
        }
    }

    /// What changed since this was last asked; none if nothing did.
    pub fn take_depth(&mut self) -> Option<Depth> {
        let first = self.waiting.first.take()?;
        let before = std::mem::replace(&mut self.waiting.before, self.last_update);
        let bids = std::mem::take(&mut self.waiting.bids).into_iter().rev().collect();
        let asks = std::mem::take(&mut self.waiting.asks).into_iter().collect();
        Some(Depth { first, last: self.last_update, before, bids, asks })
    }
}
