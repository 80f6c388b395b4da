//! The books by order of group `book`: E-mini S&P 500 futures on the evening of 2023-12-25, from Databento's `mbo` records.
//!
//! Decoded beforehand; hftbacktest gets the floats that it takes. Its books hold each order and the sum at each price, but not who
//! stands before whom at a price, as ours and the plain one do. After each play the number of orders and the best prices must be ours.

use crate::contest::{Contest, Line, Measure, Target};
use crate::recordings;
use chronicle_etl::orders::OrderBook;
use chronicle_protocol::{Head, OrderAction, OrderEvent, RecordFlags, Scale, Side};
use std::{
    collections::{BTreeMap, HashMap},
    hint::black_box,
    time::Instant,
};

const ROUNDS: usize = 7;
const FILE: &str = "databento/esh4-glbx-mdp3-20231225.mbo.dbn.zst";

/// The records of a file of `mbo`, by the published layout of its version 1.
fn events(bytes: &[u8]) -> Option<Vec<OrderEvent<'static>>> {
    let u64_at = |record: &[u8], at: usize| Some(u64::from_le_bytes(record.get(at..at + 8)?.try_into().ok()?));
    let u32_at = |record: &[u8], at: usize| Some(u32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let mut rest = bytes.strip_prefix(b"DBN")?.get(5 + u32_at(bytes, 4)? as usize..)?;
    let mut events = Vec::new();
    while let Some(len) = rest.first() {
        let (record, behind) = rest.split_at_checked(usize::from(*len) * 4).filter(|it| !it.0.is_empty())?;
        rest = behind;
        events.push(OrderEvent {
            head: Head { exchange_ns: u64_at(record, 8)?, price: Scale::trimmed(9), ..Head::default() },
            action: match record.get(38)? {
                b'A' => OrderAction::Add,
                b'M' => OrderAction::Modify,
                b'C' => OrderAction::Cancel,
                b'R' => OrderAction::Clear,
                b'T' => OrderAction::Trade,
                b'F' => OrderAction::Fill,
                _ => OrderAction::None,
            },
            side: match record.get(39)? {
                b'B' => Some(Side::Bid),
                b'A' => Some(Side::Ask),
                _ => None,
            },
            order_id: u64_at(record, 16)?,
            price: Some(u64_at(record, 24)? as i64).filter(|price| *price != i64::MAX),
            qty: u32_at(record, 32)?.into(),
            sequence: u32_at(record, 52)?.into(),
            flags: RecordFlags(*record.get(36)?),
            channel: *record.get(37)?,
            symbol: "ESH4",
        });
    }
    Some(events)
}

/// What one would write: orders by id, and queues in the order of price and arrival.
#[derive(Default)]
struct Plain {
    orders: HashMap<u64, (Side, i64, u64, i64)>,
    /// Bids, and asks by the complement of their price.
    queues: [BTreeMap<(i64, u64), (u64, i64)>; 2],
    arrivals: u64,
}

impl Plain {
    fn place(&mut self, side: Side, price: i64, arrival: u64, id: u64, qty: i64) {
        let key = if side == Side::Bid { price } else { !price };
        // The highest price first, and at a price who came first.
        self.queues[side as usize].insert((key, u64::MAX - arrival), (id, qty));
        self.orders.insert(id, (side, price, arrival, qty));
    }

    fn take(&mut self, id: u64) -> Option<(Side, i64, u64, i64)> {
        let order = self.orders.remove(&id)?;
        let key = if order.0 == Side::Bid { order.1 } else { !order.1 };
        self.queues[order.0 as usize].remove(&(key, u64::MAX - order.2));
        Some(order)
    }

    fn apply(&mut self, event: &OrderEvent<'_>) -> Option<()> {
        match event.action {
            OrderAction::Add => {
                self.arrivals += 1;
                self.place(event.side?, event.price?, self.arrivals, event.order_id, event.qty);
            }
            OrderAction::Modify => {
                let (side, price, arrival, qty) = self.take(event.order_id)?;
                let keeps = price == event.price? && event.qty <= qty;
                self.arrivals += u64::from(!keeps);
                let arrival = if keeps { arrival } else { self.arrivals };
                self.place(side, event.price?, arrival, event.order_id, event.qty);
            }
            OrderAction::Cancel => {
                let (side, price, arrival, qty) = self.take(event.order_id)?;
                if qty > event.qty {
                    self.place(side, price, arrival, event.order_id, qty - event.qty);
                }
            }
            _ => {}
        }
        Some(())
    }

    fn best(&self) -> [Option<i64>; 2] {
        let key = |side: usize| self.queues[side].last_key_value().map(|(key, _)| key.0);
        [key(0), key(1).map(|key| !key)]
    }
}

struct Market {
    events: Vec<OrderEvent<'static>>,
    count: usize,
    best: [Option<i64>; 2],
}

impl Market {
    fn of(events: Vec<OrderEvent<'static>>) -> Result<Self, String> {
        let mut market = Self { events, count: 0, best: [None; 2] };
        let book = market.play(OrderBook::new(), |book, event| match book.apply(event) {
            Ok(odd) => black_box(odd).map_or(Ok(()), |odd| Err(odd.to_string())),
            Err(refusal) => Err(refusal.to_string()),
        })?;
        market.count = book.1.count();
        market.best = [book.1.best(Side::Bid), book.1.best(Side::Ask)];
        Ok(market)
    }

    /// Millions of records a second, and the book.
    fn play<B>(
        &self,
        mut book: B,
        mut apply: impl FnMut(&mut B, &OrderEvent<'static>) -> Result<(), String>,
    ) -> Result<(f64, B), String> {
        let start = Instant::now();
        for event in &self.events {
            apply(&mut book, event)?;
        }
        Ok((self.events.len() as f64 / start.elapsed().as_secs_f64() / 1e6, book))
    }

    fn same(&self, rate: f64, count: usize, best: [Option<i64>; 2]) -> Result<f64, String> {
        if (count, best) == (self.count, self.best) {
            Ok(rate)
        } else {
            Err(format!("{count} orders, best {best:?}; ours {}, {:?}", self.count, self.best))
        }
    }

    fn ours(&self) -> Result<f64, String> {
        let (rate, book) = self.play(OrderBook::new(), |book, event| match book.apply(event) {
            Ok(odd) => {
                black_box(odd);
                Ok(())
            }
            Err(refusal) => Err(refusal.to_string()),
        })?;
        self.same(rate, book.count(), [book.best(Side::Bid), book.best(Side::Ask)])
    }

    fn plain(&self) -> Result<f64, String> {
        let (rate, book) = self.play(Plain::default(), |book, event| {
            book.apply(event).ok_or_else(|| format!("order {} is not there", event.order_id))
        })?;
        self.same(rate, book.orders.len(), book.best())
    }
}

#[cfg(feature = "hftbacktest")]
mod backtest {
    use super::{Market, OrderAction, OrderEvent, Side};
    use hftbacktest::depth::{BTreeMarketDepth, HashMapMarketDepth, L3MarketDepth, ROIVectorMarketDepth};
    use std::{fmt::Display, hint::black_box};

    const TICK: f64 = 0.25;

    impl Market {
        fn depth<D: L3MarketDepth<Error: Display>>(&self, depth: D) -> Result<f64, String> {
            let float = |event: &OrderEvent<'_>| (event.price.unwrap_or_default() as f64 * 1e-9, event.qty as f64);
            let floats: Vec<(f64, f64)> = self.events.iter().map(float).collect();
            let mut numbers = floats.iter();
            let (rate, depth) = self.play(depth, |depth, event| {
                let (price, qty) = numbers.next().copied().unwrap_or_default();
                let done = match (event.action, event.side) {
                    (OrderAction::Add, Some(Side::Bid)) => {
                        depth.add_buy_order(event.order_id, price, qty, 0).map(|it| drop(black_box(it)))
                    }
                    (OrderAction::Add, _) => {
                        depth.add_sell_order(event.order_id, price, qty, 0).map(|it| drop(black_box(it)))
                    }
                    (OrderAction::Modify, _) => {
                        depth.modify_order(event.order_id, price, qty, 0).map(|it| drop(black_box(it)))
                    }
                    // All of them are of what is left.
                    (OrderAction::Cancel, _) => depth.delete_order(event.order_id, 0).map(|it| drop(black_box(it))),
                    _ => Ok(()),
                };
                done.map_err(|it| it.to_string())
            })?;
            let price = |tick: i64| Some(tick * 250_000_000);
            self.same(rate, depth.orders().len(), [price(depth.best_bid_tick()), price(depth.best_ask_tick())])
        }

        pub(super) fn hash(&self) -> Result<f64, String> {
            self.depth(HashMapMarketDepth::new(TICK, 1.0))
        }

        pub(super) fn tree(&self) -> Result<f64, String> {
            self.depth(BTreeMarketDepth::new(TICK, 1.0))
        }

        /// All prices of the recording are in it.
        pub(super) fn range(&self) -> Result<f64, String> {
            self.depth(ROIVectorMarketDepth::new(TICK, 1.0, 0.0, 10_000.0))
        }
    }
}

/// Runs the cases, if the recording is there.
pub fn run(out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let Some(packed) = recordings::bytes(FILE) else { return Ok(()) };
    let bytes = zstd::decode_all(&packed[..]).map_err(|it| format!("{FILE}: {it}"))?;
    let events = events(&bytes).ok_or_else(|| format!("{FILE}: not what its format says"))?;
    let market = &Market::of(events)?;
    #[allow(unused_mut, reason = "without the feature there is one")]
    let mut rivals: Vec<(&'static str, Measure<'_>)> = vec![("HashMap and BTreeMap", Box::new(|| market.plain()))];
    #[cfg(feature = "hftbacktest")]
    {
        rivals.push(("hftbacktest BTree", Box::new(|| market.tree())));
        rivals.push(("hftbacktest HashMap", Box::new(|| market.hash())));
    }
    let contest = |case: &str, rivals, target| Contest {
        group: "book",
        case: case.to_owned(),
        unit: "M records/s",
        higher_is_better: true,
        ours: Box::new(|| market.ours()),
        floor: None,
        rivals,
        target,
    };
    out(contest("L3, all prices, glbx-mdp3 ESH4", rivals, Target::Ratio(1.2)).run(ROUNDS)?);
    #[cfg(feature = "hftbacktest")]
    {
        let range: Vec<(&'static str, Measure<'_>)> = vec![("hftbacktest ROIVector", Box::new(|| market.range()))];
        out(contest("L3, beside one of a range, glbx-mdp3 ESH4", range, Target::None).run(ROUNDS)?);
    }
    Ok(())
}
