//! No quantity comes from nowhere or gets lost, nobody trades at a worse price than somebody else offered, and a seed
//! means the same market for ever.
//!
//! The book is run beside a model that is a list of orders, searched from end to end each time.

use chronicle_exchange::market::{Event, Symbol};
use chronicle_exchange::matching::{Book, OrderId, Placed, Refused, Side, Terms};
use chronicle_exchange::orders::Status;
use chronicle_exchange::random::Random;
use chronicle_exchange::simulation::{Counting, NewOrder, OrderRefused, Simulation};
use sha2::{Digest, Sha256};

#[derive(Clone, Debug)]
struct Resting {
    id: OrderId,
    side: Side,
    ticks: u64,
    lots: u64,
}

#[derive(Default)]
struct Model(Vec<Resting>);

impl Model {
    /// The order that trades next with one of this side and limit: best price, then the oldest.
    fn next(&self, side: Side, limit: Option<u64>) -> Option<usize> {
        let meets = |order: &Resting| match (side, limit) {
            (_, None) => true,
            (Side::Buy, Some(limit)) => order.ticks <= limit,
            (Side::Sell, Some(limit)) => order.ticks >= limit,
        };
        let rank = |order: &Resting| match side {
            Side::Buy => (order.ticks, order.id),
            Side::Sell => (u64::MAX - order.ticks, order.id),
        };
        let others = self.0.iter().enumerate().filter(|(_, order)| order.side == side.other() && meets(order));
        others.min_by_key(|(_, order)| rank(order)).map(|(at, _)| at)
    }

    /// Maker, price and quantity of each trade, and what is left.
    fn trade(&mut self, side: Side, mut lots: u64, limit: Option<u64>) -> (Vec<(OrderId, u64, u64)>, u64) {
        let mut trades = Vec::new();
        while lots > 0
            && let Some(at) = self.next(side, limit)
        {
            let now = lots.min(self.0[at].lots);
            trades.push((self.0[at].id, self.0[at].ticks, now));
            self.0[at].lots -= now;
            lots -= now;
            if self.0[at].lots == 0 {
                self.0.remove(at);
            }
        }
        (trades, lots)
    }

    fn lots_at(&self, side: Side, ticks: u64) -> u64 {
        self.0.iter().filter(|order| (order.side, order.ticks) == (side, ticks)).map(|order| order.lots).sum()
    }
}

#[test]
fn the_book_does_what_a_list_of_orders_does() {
    let seed = 20_240_808;
    let mut random = Random::new(seed);
    let (mut book, mut model, mut fills) = (Book::new(OrderId(1), 40), Model::default(), Vec::new());
    let mut kinds = [0_u32; 6];
    for step in 0..30_000 {
        fills.clear();
        let side = if random.below(2) == 0 { Side::Buy } else { Side::Sell };
        let (ticks, lots) = (90 + random.below(20), 1 + random.below(50));
        let terms = match random.below(10) {
            0..5 => Terms::Limit(ticks),
            5 => Terms::ImmediateOrCancel(ticks),
            6 => Terms::FillOrKill(ticks),
            7 => Terms::MakerOnly(ticks),
            8 => Terms::Market,
            _ => {
                if let Some(order) = model.0.get(random.below(model.0.len().max(1) as u64) as usize).cloned() {
                    assert_eq!(book.cancel(order.id), Some(order.lots), "seed {seed}, step {step}");
                    assert_eq!(book.cancel(order.id), None);
                    model.0.retain(|other| other.id != order.id);
                }
                continue;
            }
        };
        let meets = model.next(side, terms.limit()).is_some();
        let outcome = book.place(side, lots, terms, &mut fills);
        let rests = matches!(terms, Terms::Limit(_) | Terms::MakerOnly(_));
        match outcome {
            Err(Refused::Full) => {
                assert!(rests && model.0.len() >= 40);
                kinds[0] += 1;
            }
            Err(Refused::WouldTake) => {
                assert!(meets && matches!(terms, Terms::MakerOnly(_)));
                kinds[1] += 1;
            }
            Err(Refused::Nothing) => panic!("seed {seed}, step {step}: {lots} lots are something"),
            Ok(Placed { id, filled, rested, lapsed }) => {
                assert_eq!(filled + rested + lapsed, lots, "seed {seed}, step {step}: conserved");
                let there: u64 = {
                    let mut copy = Model(model.0.clone());
                    lots - copy.trade(side, lots, terms.limit()).1
                };
                if matches!(terms, Terms::FillOrKill(_)) && there < lots {
                    assert_eq!((filled, lapsed, fills.len()), (0, lots, 0), "seed {seed}, step {step}: all or nothing");
                    kinds[2] += 1;
                } else {
                    let (trades, left) = model.trade(side, lots, terms.limit());
                    let got: Vec<_> = fills.iter().map(|fill| (fill.maker, fill.ticks, fill.lots)).collect();
                    assert_eq!(got, trades, "seed {seed}, step {step}: price, then time");
                    assert_eq!(if rests { rested } else { lapsed }, left);
                    if rests && left > 0 {
                        model.0.push(Resting { id, side, ticks, lots: left });
                    }
                    kinds[3 + usize::from(!trades.is_empty())] += 1;
                    kinds[5] += u32::from(trades.len() > 1);
                }
            }
        }
        let (bid, ask) = (book.best(Side::Buy), book.best(Side::Sell));
        assert!(bid.zip(ask).is_none_or(|(bid, ask)| bid.0 < ask.0), "seed {seed}, step {step}: crossed");
        assert_eq!(book.resting_count(), model.0.len());
        // What changed is named, and nothing else has changed.
        let touched: Vec<_> = book.take_touched().collect();
        for side in [Side::Buy, Side::Sell] {
            for ticks in 90..110 {
                assert_eq!(book.lots_at(side, ticks), model.lots_at(side, ticks), "seed {seed}, step {step}");
            }
        }
        for fill in &fills {
            assert!(touched.contains(&(side.other(), fill.ticks)));
        }
    }
    assert!(kinds.iter().all(|kind| *kind > 50), "every case occurs: {kinds:?}");
}

fn symbols() -> Vec<Symbol> {
    ["btcusdt=61800.00", "ethusdt=2650.00", "solusdt=150.0"].map(|text| text.parse().unwrap()).to_vec()
}

/// All events of so many steps as one number.
fn digest(seed: u64, counting: Counting) -> String {
    let mut simulation = Simulation::open(&symbols(), seed, 1, counting);
    let (mut hash, mut events) = (Sha256::new(), Vec::new());
    for step in 0..20_000 {
        simulation.step(step % 3, 0, &mut events);
        if step % 100 == 0 {
            hash.update(format!("{:?}", simulation.take_depth(step / 100 % 3)));
        }
        for event in events.drain(..) {
            hash.update(format!("{event:?}"));
        }
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_seed_means_one_market() {
    let one = digest(7, Counting::PerSymbol);
    assert_eq!(one, digest(7, Counting::PerSymbol));
    assert_ne!(one, digest(8, Counting::PerSymbol));
    assert_ne!(one, digest(7, Counting::Shared), "ids are part of it");
}

#[test]
fn clients_orders_add_up_whatever_the_crowd_does() {
    let mut simulation = Simulation::open(&symbols(), 3, 1, Counting::PerSymbol);
    let mut random = Random::new(11);
    let mut events = Vec::new();
    let (mut bought, mut trades) = (0, 0_u64);
    for at in 0..5_000_u64 {
        let market = random.below(3) as usize;
        let best = simulation.markets()[market].ticker();
        let (side, ticks) = match random.below(2) {
            0 => (Side::Buy, best.bid.0.max(2) + random.below(4)),
            _ => (Side::Sell, best.ask.0.max(2) - 1 + random.below(4)),
        };
        let terms = [Terms::Limit(ticks), Terms::ImmediateOrCancel(ticks), Terms::FillOrKill(ticks), Terms::Market];
        let terms = terms[random.below(4) as usize];
        let new = NewOrder { market, client_id: format!("c{at}"), side, lots: 1 + random.skewed(14), terms };
        simulation.place(new.clone(), at, &mut events).unwrap();
        assert_eq!(simulation.place(new, at, &mut events).err(), Some(OrderRefused::Duplicate));
        for _ in 0..3 {
            simulation.step(market, at, &mut events);
        }
        if random.below(3) == 0 {
            let orders = simulation.orders().all();
            let (market, id) = {
                let order = &orders[random.below(orders.len() as u64) as usize];
                (order.market, order.id)
            };
            let _ = simulation.cancel(market, id, at, &mut events);
        }
        trades += events.drain(..).filter(|event| matches!(event, Event::Trade(_))).count() as u64;
    }
    let mut statuses = std::collections::BTreeMap::new();
    for order in simulation.orders().all() {
        let executed = order.executed();
        let in_book = simulation.markets()[order.market].book().resting(order.id).unwrap_or(0);
        assert_eq!(order.resting, in_book, "what the record says waits does wait");
        match order.status {
            Status::New => assert!(executed == 0 && in_book == order.lots),
            Status::PartiallyFilled => assert!(executed > 0 && executed + in_book == order.lots && in_book > 0),
            Status::Filled => assert_eq!(executed, order.lots),
            Status::Canceled | Status::Expired => assert!(executed < order.lots && in_book == 0),
        }
        if let Some(limit) = order.terms.limit() {
            for execution in &order.executions {
                match order.side {
                    Side::Buy => assert!(execution.ticks <= limit),
                    Side::Sell => assert!(execution.ticks >= limit),
                }
            }
        }
        bought += executed;
        *statuses.entry(order.status.name()).or_insert(0) += 1;
    }
    assert!(bought > 0 && trades > 1_000);
    assert!(statuses.len() == 5 && statuses.values().all(|count| *count > 4), "every case occurs: {statuses:?}");
}
