//! One order book by order, exact: every resting order that the venue told, in the order in which it would be filled.
//!
//! An [`OrderBook`] is changed by one [`OrderEvent`] after another ([`OrderBook::apply`]), read price by price in
//! queue order ([`OrderBook::orders`]), asked where in its queue an order stands ([`OrderBook::position`]), and summed up
//! to the book by price ([`OrderBook::to_book`]).
//!
//! ```
//! use chronicle_etl::orders::OrderBook;
//! use chronicle_protocol::{Head, OrderAction, OrderEvent, RecordFlags, Scale, Side};
//!
//! let add = |order_id, qty| OrderEvent {
//!     head: Head { price: Scale::trimmed(9), ..Head::default() },
//!     action: OrderAction::Add,
//!     side: Some(Side::Bid),
//!     order_id,
//!     price: Some(4_799_250_000_000),
//!     qty,
//!     sequence: 0,
//!     flags: RecordFlags::LAST,
//!     channel: 0,
//!     symbol: "ESH4",
//! };
//! let mut book = OrderBook::new();
//! book.apply(&add(7, 2)).unwrap();
//! book.apply(&add(9, 3)).unwrap();
//! assert_eq!(book.position(9).map(|at| (at.orders_ahead, at.qty_ahead)), Some((1, 2)));
//!
//! let mut csv = Vec::new();
//! book.to_book().write_csv(&mut csv, usize::MAX).unwrap();
//! assert_eq!(csv, b"side,price,qty\nbid,4799.25,5\n");
//! ```
//!
//! ```text
//! by_id     order id ─▶ order                                                  a hash table
//! orders    order ─▶ id, quantity, its queue, the order before and behind it   a slab: no allocation once it is warm
//! queues    queue ─▶ price, side, sum, number, first and last order            another
//! sides     price ─▶ queue, sorted, the best last                              touched where a price comes or goes, or is added to
//! ```
//!
//! So a cancel or a fill costs one look at the hash table, whatever the book's depth.
//!
//! **Priority.** At a price, the order that came first is filled first. An order that is modified keeps its place if its
//! price stays and its quantity does not grow, else it goes behind all others. That is CME's rule for Globex, and what
//! Databento's published example of a book from `mbo` records does for every venue.
//!
//! **What cannot be.** A venue's records may contradict the book: they change what is not there, add what is there, take
//! more than there is. The venue's last word counts and [`apply`](OrderBook::apply) says what it met. Only what no book can
//! hold is refused: then the book stays as it was, and is not the venue's any more.
//!
//! What it never does: it repairs no crossed prices, drops no order that was not taken away, knows no time, and holds no more
//! than [`ORDERS_MAX`] orders, however many a stranger sends.

use core::fmt;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, btree_map};
use std::io;

use chronicle_protocol::{BookOrder, Decimal, Head, Level, OrderAction, OrderEvent, OrdersSnapshot, Scale, Side};
use serde::{Deserialize, Serialize};
use slab::Slab;

use crate::book::{Book, Touch};
use crate::oddity::Oddity;

/// Most orders of a book. Books of the busiest stocks and futures have some tens of thousands.
pub const ORDERS_MAX: usize = 1 << 20;

/// Why an event was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// An order is to be put into the book without a price.
    NoPrice {
        /// Its id.
        order_id: u64,
    },
    /// An order is to be put into the book on no side.
    NoSide {
        /// Its id.
        order_id: u64,
    },
    /// A quantity below 0, or one with which a price's sum does not fit 64 bits.
    Qty {
        /// The order's id.
        order_id: u64,
        /// The quantity's mantissa.
        qty: i64,
    },
    /// The book has [`ORDERS_MAX`] orders.
    Full,
    /// The event's numbers and the book's have no common exponent in which all of them fit 64 bits.
    Unfit {
        /// Exponent of the event's numbers.
        event_exp: i8,
        /// Exponent of the book's.
        book_exp: i8,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPrice { order_id } => write!(f, "order {order_id}: no price"),
            Self::NoSide { order_id } => write!(f, "order {order_id}: no side"),
            Self::Qty { order_id, qty } => write!(f, "order {order_id}: quantity {qty} does not fit the book"),
            Self::Full => write!(f, "order book full: it holds {ORDERS_MAX} orders"),
            Self::Unfit { event_exp, book_exp } => {
                write!(f, "order book: numbers with exponent {event_exp} do not fit beside those with {book_exp}")
            }
        }
    }
}

impl core::error::Error for Refusal {}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its side.
    pub side: Side,
    /// The order itself.
    pub order: BookOrder,
    /// Orders at its price that are filled before it.
    pub orders_ahead: u32,
    /// Their quantities, summed.
    pub qty_ahead: i64,
}

/// One price of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// The price's mantissa.
    pub price: i64,
    /// Sum of the quantities.
    pub qty: i64,
    /// Number of orders.
    pub count: u32,
}

/// No order before, or behind.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Order {
    id: u64,
    qty: i64,
    queue: u32,
    before: u32,
    behind: u32,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    price: i64,
    qty: i64,
    side: Side,
    count: u32,
    first: u32,
    last: u32,
}

/// Queues of one side by key; the best is the last. A bid's key is its price, an ask's the price's complement, which turns
/// the order round and, unlike minus, exists for every `i64`.
type Prices = BTreeMap<i64, u32>;

const fn key(side: Side, price: i64) -> i64 {
    match side {
        Side::Bid => price,
        Side::Ask => !price,
    }
}

/// An order book of one symbol, order by order. See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Image", into = "Image")]
pub struct OrderBook {
    by_id: HashMap<u64, u32, foldhash::fast::RandomState>,
    orders: Slab<Order>,
    queues: Slab<Queue>,
    bids: Prices,
    asks: Prices,
    price: Scale,
    qty: Scale,
    /// No number yet: the scales are only defaults.
    blank: bool,
}

impl Default for OrderBook {
    fn default() -> Self {
        Self {
            by_id: HashMap::default(),
            orders: Slab::new(),
            queues: Slab::new(),
            bids: Prices::new(),
            asks: Prices::new(),
            price: Scale::default(),
            qty: Scale::default(),
            blank: true,
        }
    }
}

/// What is stored of a book: its orders in the order in which they would be filled; all else follows from them.
#[derive(Serialize, Deserialize)]
struct Image {
    blank: bool,
    price: (i8, bool),
    qty: (i8, bool),
    bids: Vec<(u64, i64, i64)>,
    asks: Vec<(u64, i64, i64)>,
}

impl From<OrderBook> for Image {
    fn from(book: OrderBook) -> Self {
        let all = |side| book.orders(side).map(|o| (o.order_id(), o.price(), o.qty())).collect();
        let pair = |scale: Scale| (scale.exp, scale.trimmed);
        let (bids, asks) = (all(Side::Bid), all(Side::Ask));
        Self { blank: book.blank, price: pair(book.price), qty: pair(book.qty), bids, asks }
    }
}

impl From<Image> for OrderBook {
    fn from(image: Image) -> Self {
        let scale = |(exp, trimmed)| Scale { exp, trimmed };
        let mut book = Self { blank: image.blank, price: scale(image.price), qty: scale(image.qty), ..Self::default() };
        for (side, orders) in [(Side::Bid, image.bids), (Side::Ask, image.asks)] {
            for (id, price, qty) in orders {
                // A book's own image holds nothing that a book does not.
                if qty > 0 {
                    let _ = book.add(side, id, price, qty);
                }
            }
        }
        book
    }
}

impl PartialEq for OrderBook {
    fn eq(&self, other: &Self) -> bool {
        (self.price, self.qty) == (other.price, other.qty)
            && [Side::Bid, Side::Ask].into_iter().all(|side| self.orders(side).eq(other.orders(side)))
    }
}

impl OrderBook {
    /// A book without orders.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what happened to one order into account, and says what of it contradicts the book. Trades and fills leave the
    /// book alone: what they take from it comes as cancels and modifies.
    ///
    /// # Errors
    ///
    /// [`Refusal`], and then nothing was applied.
    #[inline]
    pub fn apply(&mut self, event: &OrderEvent<'_>) -> Result<Option<Oddity>, Refusal> {
        match event.action {
            OrderAction::Add => {
                let (side, price, qty) = self.resting(event)?;
                self.add(side, event.order_id, price, qty)
            }
            OrderAction::Modify => {
                let (side, price, qty) = self.resting(event)?;
                self.modify(side, event.order_id, price, qty)
            }
            OrderAction::Cancel => {
                let qty = self.mantissas(&event.head, None, event.qty)?.1;
                if qty < 0 {
                    return Err(Refusal::Qty { order_id: event.order_id, qty: event.qty });
                }
                Ok(self.cancel(event.order_id, qty))
            }
            OrderAction::Clear => {
                self.clear();
                Ok(None)
            }
            OrderAction::Trade | OrderAction::Fill | OrderAction::None => Ok(None),
        }
    }

    /// Forgets everything and takes these orders.
    ///
    /// # Errors
    ///
    /// [`Refusal`] by the first order that no book can hold; the book is then empty.
    pub fn replace(&mut self, snapshot: &OrdersSnapshot<'_>) -> Result<Option<Oddity>, Refusal> {
        self.clear();
        self.blank = true;
        let mut odd = None;
        for (side, orders) in [(Side::Bid, snapshot.bids), (Side::Ask, snapshot.asks)] {
            for order in orders {
                let numbers = self.mantissas(&snapshot.head, Some(order.price()), order.qty());
                let numbers = numbers.and_then(|numbers| match numbers.1 {
                    0.. => Ok(numbers),
                    qty => Err(Refusal::Qty { order_id: order.order_id(), qty }),
                });
                match numbers.and_then(|(price, qty)| self.add(side, order.order_id(), price, qty)) {
                    Ok(it) => odd = odd.or(it),
                    Err(refusal) => {
                        self.clear();
                        return Err(refusal);
                    }
                }
            }
        }
        Ok(odd)
    }

    /// Takes every order away.
    pub fn clear(&mut self) {
        self.by_id.clear();
        self.orders.clear();
        self.queues.clear();
        self.bids.clear();
        self.asks.clear();
    }

    /// Side and numbers of an event that puts an order somewhere, in the book's scales.
    #[inline]
    fn resting(&mut self, event: &OrderEvent<'_>) -> Result<(Side, i64, i64), Refusal> {
        let order_id = event.order_id;
        let side = event.side.ok_or(Refusal::NoSide { order_id })?;
        if event.price.is_none() {
            return Err(Refusal::NoPrice { order_id });
        }
        if event.qty < 0 {
            return Err(Refusal::Qty { order_id, qty: event.qty });
        }
        let (price, qty) = self.mantissas(&event.head, event.price, event.qty)?;
        Ok((side, price, qty))
    }

    /// A price and a quantity in the book's scales.
    #[inline]
    fn mantissas(&mut self, head: &Head, price: Option<i64>, qty: i64) -> Result<(i64, i64), Refusal> {
        if !self.blank && (head.price, head.qty) == (self.price, self.qty) {
            return Ok((price.unwrap_or(0), qty));
        }
        self.mantissas_rescaled(head, price, qty)
    }

    #[cold]
    fn mantissas_rescaled(&mut self, head: &Head, price: Option<i64>, qty: i64) -> Result<(i64, i64), Refusal> {
        if self.blank {
            (self.price, self.qty, self.blank) = (head.price, head.qty, false);
            return Ok((price.unwrap_or(0), qty));
        }
        let met = |mine: Scale, theirs: Scale| Scale {
            exp: mine.exp.min(theirs.exp),
            trimmed: mine.trimmed || theirs.trimmed || mine.exp != theirs.exp,
        };
        // A message without a price says nothing about prices.
        let price_scale = if price.is_some() { met(self.price, head.price) } else { self.price };
        let qty_scale = met(self.qty, head.qty);
        let numbers = (
            rescaled(price.unwrap_or(0), head.price.exp, price_scale.exp)?,
            rescaled(qty, head.qty.exp, qty_scale.exp)?,
        );
        if (price_scale.exp, qty_scale.exp) != (self.price.exp, self.qty.exp) {
            let mut other = Self { blank: false, price: price_scale, qty: qty_scale, ..Self::default() };
            for side in [Side::Bid, Side::Ask] {
                for order in self.orders(side) {
                    let price = rescaled(order.price(), self.price.exp, price_scale.exp)?;
                    other.add(side, order.order_id(), price, rescaled(order.qty(), self.qty.exp, qty_scale.exp)?)?;
                }
            }
            *self = other;
        }
        (self.price, self.qty) = (price_scale, qty_scale);
        Ok(numbers)
    }

    #[inline]
    fn add(&mut self, side: Side, id: u64, price: i64, qty: i64) -> Result<Option<Oddity>, Refusal> {
        let slot = match self.by_id.entry(id) {
            Entry::Occupied(known) => {
                let slot = *known.get();
                self.requeue(slot, side, price, qty)?;
                return Ok(Some(Oddity::RepeatedOrder));
            }
            // An order without quantity is none.
            Entry::Vacant(_) if qty == 0 => return Ok(None),
            Entry::Vacant(_) if self.orders.len() >= ORDERS_MAX => return Err(Refusal::Full),
            Entry::Vacant(new) => {
                let order = Order { id, qty, queue: NONE, before: NONE, behind: NONE };
                *new.insert(self.orders.insert(order) as u32)
            }
        };
        self.enqueue(slot, side, price).inspect_err(|_| {
            self.orders.remove(slot as usize);
            self.by_id.remove(&id);
        })?;
        Ok(None)
    }

    fn modify(&mut self, side: Side, id: u64, price: i64, qty: i64) -> Result<Option<Oddity>, Refusal> {
        let Some(slot) = self.by_id.get(&id).copied() else {
            self.add(side, id, price, qty)?;
            return Ok(Some(Oddity::UnknownOrder));
        };
        let order = &mut self.orders[slot as usize];
        let queue = &mut self.queues[order.queue as usize];
        if (queue.side, queue.price) == (side, price) && (1..=order.qty).contains(&qty) {
            queue.qty -= order.qty - qty;
            order.qty = qty;
            return Ok(None);
        }
        let turned = queue.side != side;
        self.requeue(slot, side, price, qty)?;
        Ok(turned.then_some(Oddity::RepeatedOrder))
    }

    #[inline]
    fn cancel(&mut self, id: u64, qty: i64) -> Option<Oddity> {
        let Entry::Occupied(known) = self.by_id.entry(id) else { return Some(Oddity::UnknownOrder) };
        let slot = *known.get();
        let order = &mut self.orders[slot as usize];
        if qty < order.qty {
            order.qty -= qty;
            self.queues[order.queue as usize].qty -= qty;
            return None;
        }
        let over = qty > order.qty;
        known.remove();
        self.dequeue(slot);
        self.orders.remove(slot as usize);
        over.then_some(Oddity::OverCancel)
    }

    /// Puts an order that is in the book behind all others at a price; without quantity it is gone.
    fn requeue(&mut self, slot: u32, side: Side, price: i64, qty: i64) -> Result<(), Refusal> {
        let Order { id, qty: own, queue, .. } = self.orders[slot as usize];
        if let Some(index) = self.prices(side).get(&key(side, price)) {
            let own = if *index == queue { own } else { 0 };
            let others = self.queues[*index as usize].qty - own;
            others.checked_add(qty).ok_or(Refusal::Qty { order_id: id, qty })?;
        }
        self.dequeue(slot);
        if qty == 0 {
            self.orders.remove(slot as usize);
            self.by_id.remove(&id);
            return Ok(());
        }
        self.orders[slot as usize].qty = qty;
        self.enqueue(slot, side, price)
    }

    /// Puts an order that is in no queue behind all others at a price.
    #[inline]
    fn enqueue(&mut self, slot: u32, side: Side, price: i64) -> Result<(), Refusal> {
        let Order { id, qty, .. } = self.orders[slot as usize];
        let prices = match side {
            Side::Bid => &mut self.bids,
            Side::Ask => &mut self.asks,
        };
        let index = match prices.entry(key(side, price)) {
            btree_map::Entry::Occupied(known) => *known.get(),
            btree_map::Entry::Vacant(new) => {
                let queue = Queue { price, qty: 0, side, count: 0, first: slot, last: NONE };
                *new.insert(self.queues.insert(queue) as u32)
            }
        };
        let queue = &mut self.queues[index as usize];
        queue.qty = queue.qty.checked_add(qty).ok_or(Refusal::Qty { order_id: id, qty })?;
        queue.count += 1;
        let before = std::mem::replace(&mut queue.last, slot);
        if before != NONE {
            self.orders[before as usize].behind = slot;
        }
        let order = &mut self.orders[slot as usize];
        (order.queue, order.before, order.behind) = (index, before, NONE);
        Ok(())
    }

    /// Takes an order out of its queue; an empty queue is none.
    #[inline]
    fn dequeue(&mut self, slot: u32) {
        let Order { qty, queue: index, before, behind, .. } = self.orders[slot as usize];
        let queue = &mut self.queues[index as usize];
        queue.qty -= qty;
        queue.count -= 1;
        if queue.count == 0 {
            let Queue { side, price, .. } = self.queues.remove(index as usize);
            match side {
                Side::Bid => self.bids.remove(&key(side, price)),
                Side::Ask => self.asks.remove(&key(side, price)),
            };
            return;
        }
        match before {
            NONE => queue.first = behind,
            before => self.orders[before as usize].behind = behind,
        }
        match behind {
            NONE => queue.last = before,
            behind => self.orders[behind as usize].before = before,
        }
    }

    fn prices(&self, side: Side) -> &Prices {
        match side {
            Side::Bid => &self.bids,
            Side::Ask => &self.asks,
        }
    }

    /// The prices of a side, the best first.
    pub fn depths(&self, side: Side) -> impl Iterator<Item = Depth> + '_ {
        self.queues_of(side).map(|queue| Depth { price: queue.price, qty: queue.qty, count: queue.count })
    }

    fn queues_of(&self, side: Side) -> impl Iterator<Item = &Queue> + '_ {
        self.prices(side).values().rev().map(|index| &self.queues[*index as usize])
    }

    fn queue(&self, queue: &Queue) -> impl Iterator<Item = BookOrder> + '_ {
        let price = queue.price;
        let mut next = queue.first;
        std::iter::from_fn(move || {
            let order = self.orders.get(next as usize)?;
            next = order.behind;
            Some(BookOrder::new(order.id, price, order.qty))
        })
    }

    /// The orders of a side: the best price first, and at a price the one that is filled first.
    pub fn orders(&self, side: Side) -> impl Iterator<Item = BookOrder> + '_ {
        self.orders_to(side, usize::MAX)
    }

    /// Those of them at the best `depth` prices.
    pub fn orders_to(&self, side: Side, depth: usize) -> impl Iterator<Item = BookOrder> + '_ {
        self.queues_of(side).take(depth).flat_map(|queue| self.queue(queue))
    }

    /// Where an order stands, if it is in the book. Takes as long as its queue is.
    #[must_use]
    pub fn position(&self, order_id: u64) -> Option<Position> {
        let order = self.orders.get(*self.by_id.get(&order_id)? as usize)?;
        let queue = &self.queues[order.queue as usize];
        let (mut orders_ahead, mut qty_ahead, mut at) = (0, 0, order.before);
        while let Some(ahead) = self.orders.get(at as usize) {
            orders_ahead += 1;
            qty_ahead += ahead.qty;
            at = ahead.before;
        }
        let order = BookOrder::new(order.id, queue.price, order.qty);
        Some(Position { side: queue.side, order, orders_ahead, qty_ahead })
    }

    /// Number of orders.
    #[must_use]
    pub fn count(&self) -> usize {
        self.orders.len()
    }

    /// Number of prices of a side.
    #[must_use]
    pub fn price_count(&self, side: Side) -> usize {
        self.prices(side).len()
    }

    /// The best price of a side.
    #[inline]
    #[must_use]
    pub fn best(&self, side: Side) -> Option<i64> {
        // Its own inverse.
        self.prices(side).last_key_value().map(|(best, _)| key(side, *best))
    }

    /// How the best prices stand to each other.
    #[must_use]
    pub fn touch(&self) -> Touch {
        match (self.best(Side::Bid), self.best(Side::Ask)) {
            (Some(bid), Some(ask)) if bid > ask => Touch::Crossed,
            (Some(bid), Some(ask)) if bid == ask => Touch::Locked,
            _ => Touch::Apart,
        }
    }

    /// How prices are written.
    #[must_use]
    pub fn price_scale(&self) -> Scale {
        self.price
    }

    /// How quantities are written.
    #[must_use]
    pub fn qty_scale(&self) -> Scale {
        self.qty
    }

    /// The text of a price of this book.
    #[must_use]
    pub fn price(&self, mantissa: i64) -> Decimal {
        self.price.decimal(mantissa)
    }

    /// The text of a quantity of this book.
    #[must_use]
    pub fn qty(&self, mantissa: i64) -> Decimal {
        self.qty.decimal(mantissa)
    }

    /// The book by price: at each price the sum of its orders.
    #[must_use]
    pub fn to_book(&self) -> Book {
        let levels = |side| self.depths(side).map(|depth| Level::new(depth.price, depth.qty)).collect::<Vec<_>>();
        let head = Head { price: self.price, qty: self.qty, ..Head::default() };
        let mut book = Book::new();
        // Alone it always fits its own scales.
        let _ = book.replace(&head, &levels(Side::Bid), &levels(Side::Ask));
        book
    }

    /// Puts all orders into `out`, bids, then asks, as a snapshot record has them; returns the number of bids.
    pub fn orders_into(&self, out: &mut Vec<BookOrder>) -> usize {
        out.clear();
        out.extend(self.orders(Side::Bid));
        let bids = out.len();
        out.extend(self.orders(Side::Ask));
        bids
    }

    /// Writes `order_id,side,price,size` and one row per order at the best `depth` prices of each side: bids from the best,
    /// then asks from the best, those at one price by their ids.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn write_csv(&self, out: &mut impl io::Write, depth: usize) -> io::Result<()> {
        out.write_all(b"order_id,side,price,size\n")?;
        let mut queue: Vec<BookOrder> = Vec::new();
        for side in [Side::Bid, Side::Ask] {
            for at in self.queues_of(side).take(depth) {
                queue.clear();
                queue.extend(self.queue(at));
                queue.sort_unstable_by_key(BookOrder::order_id);
                for order in &queue {
                    let (price, qty) = (self.price(order.price()), self.qty(order.qty()));
                    writeln!(out, "{},{},{price},{qty}", order.order_id(), side.as_str())?;
                }
            }
        }
        Ok(())
    }
}

fn rescaled(mantissa: i64, from: i8, to: i8) -> Result<i64, Refusal> {
    let scale = Scale { exp: from, trimmed: false };
    scale.decimal(mantissa).mantissa_at(to).ok_or(Refusal::Unfit { event_exp: from, book_exp: to })
}

#[cfg(test)]
mod tests {
    use chronicle_protocol::RecordFlags;

    use super::*;

    const HEAD: Head = Head {
        exchange_ns: 1,
        ingest_ns: 1,
        transact_ns: 0,
        price: Scale { exp: -2, trimmed: true },
        qty: Scale { exp: 0, trimmed: false },
    };

    fn event(action: OrderAction, side: Side, order_id: u64, price: i64, qty: i64) -> OrderEvent<'static> {
        let (side, price) = (Some(side), Some(price));
        let flags = RecordFlags::LAST;
        OrderEvent { head: HEAD, action, side, order_id, price, qty, sequence: 0, flags, channel: 0, symbol: "X" }
    }

    fn add(order_id: u64, price: i64, qty: i64) -> OrderEvent<'static> {
        event(OrderAction::Add, Side::Bid, order_id, price, qty)
    }

    fn modify(order_id: u64, price: i64, qty: i64) -> OrderEvent<'static> {
        event(OrderAction::Modify, Side::Bid, order_id, price, qty)
    }

    fn cancel(order_id: u64, qty: i64) -> OrderEvent<'static> {
        event(OrderAction::Cancel, Side::Bid, order_id, 0, qty)
    }

    fn bids(book: &OrderBook) -> Vec<(u64, i64, i64)> {
        book.orders(Side::Bid).map(|o| (o.order_id(), o.price(), o.qty())).collect()
    }

    #[test]
    fn an_order_keeps_its_place_unless_it_moves_or_grows() {
        let mut book = OrderBook::new();
        for id in 1..=4 {
            book.apply(&add(id, 500, 10)).unwrap();
        }
        book.apply(&modify(1, 500, 9)).unwrap();
        assert_eq!(bids(&book)[0], (1, 500, 9), "less keeps its place");
        book.apply(&modify(1, 500, 9)).unwrap();
        assert_eq!(bids(&book)[0], (1, 500, 9), "and so does the same");
        book.apply(&modify(2, 500, 11)).unwrap();
        assert_eq!(bids(&book).iter().map(|o| o.0).collect::<Vec<_>>(), [1, 3, 4, 2], "more goes behind all");
        book.apply(&modify(3, 501, 10)).unwrap();
        book.apply(&modify(3, 500, 10)).unwrap();
        assert_eq!(bids(&book).iter().map(|o| o.0).collect::<Vec<_>>(), [1, 4, 2, 3], "there and back is not the same");
        let at = book.position(3).unwrap();
        assert_eq!((at.side, at.orders_ahead, at.qty_ahead, at.order.qty()), (Side::Bid, 3, 30, 10));
        assert_eq!(book.position(9), None);
        assert_eq!(book.depths(Side::Bid).collect::<Vec<_>>(), [Depth { price: 500, qty: 40, count: 4 }]);
        book.apply(&modify(1, 500, 0)).unwrap();
        assert_eq!(book.count(), 3, "nothing is no order");
    }

    #[test]
    fn what_contradicts_the_book_is_said_and_the_last_word_counts() {
        let mut book = OrderBook::new();
        assert_eq!(book.apply(&add(1, 500, 10)), Ok(None));
        assert_eq!(book.apply(&add(2, 500, 1)), Ok(None));
        assert_eq!(book.apply(&add(1, 400, 5)), Ok(Some(Oddity::RepeatedOrder)));
        assert_eq!(bids(&book), [(2, 500, 1), (1, 400, 5)]);
        assert_eq!(book.apply(&cancel(7, 1)), Ok(Some(Oddity::UnknownOrder)));
        assert_eq!(book.apply(&modify(7, 300, 2)), Ok(Some(Oddity::UnknownOrder)));
        assert_eq!(bids(&book), [(2, 500, 1), (1, 400, 5), (7, 300, 2)]);
        assert_eq!(book.apply(&event(OrderAction::Modify, Side::Ask, 7, 300, 2)), Ok(Some(Oddity::RepeatedOrder)));
        assert_eq!((book.best(Side::Bid), book.best(Side::Ask), book.touch()), (Some(500), Some(300), Touch::Crossed));
        assert_eq!(book.apply(&cancel(1, 4)), Ok(None));
        assert_eq!(book.apply(&cancel(1, 4)), Ok(Some(Oddity::OverCancel)));
        assert_eq!(bids(&book), [(2, 500, 1)]);
        assert_eq!(book.apply(&add(3, 1, 0)), Ok(None));
        for action in [OrderAction::Trade, OrderAction::Fill, OrderAction::None] {
            assert_eq!(book.apply(&event(action, Side::Bid, 2, 500, 1)), Ok(None));
        }
        assert_eq!(book.count(), 2);
        assert_eq!(
            book.apply(&OrderEvent { side: None, price: None, ..event(OrderAction::Clear, Side::Bid, 0, 0, 0) }),
            Ok(None)
        );
        assert_eq!((book.count(), book.price_count(Side::Bid), book.price_count(Side::Ask)), (0, 0, 0));
    }

    /// A stranger's numbers must end in a refusal that changes nothing.
    #[test]
    fn what_no_book_can_hold_is_refused_and_changes_nothing() {
        let mut book = OrderBook::new();
        book.apply(&add(1, i64::MIN, i64::MAX)).unwrap();
        book.apply(&add(2, 500, 3)).unwrap();
        let before = book.clone();
        let refused = |event: &OrderEvent<'_>| {
            let mut book = before.clone();
            let refusal = book.apply(event).unwrap_err();
            assert_eq!(book, before, "{event:?}");
            refusal.to_string()
        };
        assert_eq!(refused(&add(3, i64::MIN, 1)), "order 3: quantity 1 does not fit the book");
        assert_eq!(refused(&modify(2, i64::MIN, 1)), "order 2: quantity 1 does not fit the book");
        assert_eq!(refused(&add(2, i64::MIN, 1)), "order 2: quantity 1 does not fit the book");
        assert_eq!(refused(&add(3, 500, -1)), "order 3: quantity -1 does not fit the book");
        assert_eq!(refused(&cancel(2, i64::MIN)), "order 2: quantity -9223372036854775808 does not fit the book");
        assert_eq!(refused(&OrderEvent { price: None, ..add(3, 0, 1) }), "order 3: no price");
        assert_eq!(refused(&OrderEvent { side: None, ..modify(2, 0, 1) }), "order 2: no side");
        let finer = Head { price: Scale::trimmed(18), ..HEAD };
        let unfit = "order book: numbers with exponent -2 do not fit beside those with -18";
        assert_eq!(refused(&OrderEvent { head: finer, ..add(3, 5, 1) }), unfit);
        let coarser = Head { price: Scale { exp: 127, trimmed: false }, ..HEAD };
        let unfit = "order book: numbers with exponent 127 do not fit beside those with -2";
        assert_eq!(refused(&OrderEvent { head: coarser, ..add(3, 5, 1) }), unfit);
        // The largest sum there is, and the order that makes it, modified in its place.
        assert_eq!(book.apply(&modify(1, i64::MIN, i64::MAX)), Ok(None));
    }

    #[test]
    fn finer_numbers_rescale_the_book_exactly() {
        let mut book = OrderBook::new();
        book.apply(&add(1, 501, 10)).unwrap();
        book.apply(&add(2, 500, 3)).unwrap();
        let finer = Head { price: Scale::trimmed(4), qty: Scale::fixed(1), ..HEAD };
        book.apply(&OrderEvent { head: finer, ..add(3, 50_050, 5) }).unwrap();
        let mut csv = Vec::new();
        book.write_csv(&mut csv, usize::MAX).unwrap();
        let rows = "order_id,side,price,size\n1,bid,5.01,10\n3,bid,5.005,0.5\n2,bid,5,3\n";
        assert_eq!(String::from_utf8(csv).unwrap(), rows);
        // One in the old scale still fits.
        book.apply(&cancel(1, 10)).unwrap();
        assert_eq!(book.count(), 2);
    }

    /// SplitMix64: small, and the seed is all there is to print.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % n
        }
    }

    /// Orders in the order of their priority, as a child would keep them.
    #[derive(Default)]
    struct Plain(Vec<(Side, u64, i64, i64)>);

    impl Plain {
        fn apply(&mut self, event: &OrderEvent<'_>) {
            let (id, qty) = (event.order_id, event.qty);
            let at = self.0.iter().position(|o| o.1 == id);
            let order = (event.side.unwrap(), id, event.price.unwrap(), qty);
            match (event.action, at) {
                (OrderAction::Cancel, Some(at)) => self.0[at].3 -= qty,
                (OrderAction::Modify, Some(at))
                    if (self.0[at].0, self.0[at].2) == (order.0, order.2) && qty <= self.0[at].3 =>
                {
                    self.0[at].3 = qty;
                }
                (OrderAction::Add | OrderAction::Modify, at) => {
                    at.map(|at| self.0.remove(at));
                    self.0.push(order);
                }
                (OrderAction::Clear, _) => self.0.clear(),
                _ => {}
            }
            self.0.retain(|o| o.3 > 0);
        }

        fn side(&self, side: Side) -> Vec<(u64, i64, i64)> {
            let mut orders: Vec<_> = self.0.iter().filter(|o| o.0 == side).map(|o| (o.1, o.2, o.3)).collect();
            orders.sort_by_key(|o| std::cmp::Reverse(key(side, o.1)));
            orders
        }
    }

    /// After every one of many events: the orders, their places, and the sums by price are those of a plain list.
    #[test]
    fn it_is_always_the_book_of_a_plain_list() {
        for seed in 0..20 {
            println!("seed {seed}");
            let mut random = Random(seed);
            let (mut book, mut plain) = (OrderBook::new(), Plain::default());
            for step in 0..3_000 {
                let action = match random.below(100) {
                    0..45 => OrderAction::Add,
                    45..70 => OrderAction::Cancel,
                    70..95 => OrderAction::Modify,
                    95..99 => OrderAction::Fill,
                    _ if random.below(20) == 0 => OrderAction::Clear,
                    _ => OrderAction::None,
                };
                let side = if random.below(2) == 0 { Side::Bid } else { Side::Ask };
                let price = random.below(6) as i64 - 3;
                let event = event(action, side, random.below(60), price, random.below(8) as i64);
                book.apply(&event).unwrap();
                plain.apply(&event);
                let mut levels = [Vec::new(), Vec::new()];
                for (side, levels) in [Side::Bid, Side::Ask].into_iter().zip(&mut levels) {
                    let expected = plain.side(side);
                    let found: Vec<_> = book.orders(side).map(|o| (o.order_id(), o.price(), o.qty())).collect();
                    assert_eq!(found, expected, "step {step}");
                    for (i, (id, price, qty)) in expected.iter().enumerate() {
                        let ahead = expected[..i].iter().filter(|o| o.1 == *price);
                        let position = book.position(*id).unwrap();
                        let sums = ahead.fold((0, 0), |(count, sum), o| (count + 1, sum + o.2));
                        assert_eq!((position.orders_ahead, position.qty_ahead), sums, "step {step}");
                        match levels.last_mut() {
                            Some((last, sum)) if last == price => *sum += qty,
                            _ => levels.push((*price, *qty)),
                        }
                    }
                }
                let summed = book.to_book();
                assert!(summed.bids().eq(levels[0].iter().copied()), "step {step}");
                assert!(summed.asks().eq(levels[1].iter().copied()), "step {step}");
                assert_eq!((book.count(), summed.touch()), (plain.0.len(), book.touch()));
            }
            let bytes = postcard::to_stdvec(&book).unwrap();
            let mut again: OrderBook = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(again, book);
            assert_eq!(postcard::to_stdvec(&again).unwrap(), bytes);
            // Not only equal, but going on equally.
            let event = add(3, 1, 100);
            assert_eq!(again.apply(&event), book.apply(&event));
            assert_eq!(again, book);
        }
    }

    #[test]
    fn it_holds_so_many_orders_and_no_more() {
        let mut book = OrderBook::new();
        for id in 0..ORDERS_MAX as u64 {
            book.apply(&add(id, id as i64 % 7, 1)).unwrap();
        }
        assert_eq!(book.apply(&add(u64::MAX, 1, 1)), Err(Refusal::Full));
        assert_eq!(book.apply(&modify(5, 3, 2)), Ok(None), "what is there may change");
        book.apply(&cancel(6, 1)).unwrap();
        assert_eq!(book.apply(&add(u64::MAX, 1, 1)), Ok(None));
    }
}
