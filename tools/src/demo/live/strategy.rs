//! The live demo's strategies: they read the raw queue's quotes and send orders.
//!
//! What they believe is not the point; that they can be killed at any moment is. One that comes back reads from its own
//! queues which orders are open, and goes on with those.

use super::{
    super::{
        Latency, Place,
        worker::{Ears, Mouth},
    },
    ledger::{self, Ledger},
};
use crate::run::{Failure, Outcome};
use chronicle::{
    System,
    bus::{
        Layout, StrategyEnd,
        ends::StrategyOptions,
        orders::{Life, Order, OrderId, Side},
    },
    platform::Platform,
    protocol::{Quote, Record, type_id},
    storage::{
        queue::{Queue, Start, Subscriber, SubscriberOptions},
        root::Name,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Its name on the bus.
    #[arg(long)]
    reader: String,
    #[command(flatten)]
    place: Place,
    /// Take what is there at once; otherwise make offers, and take them back.
    #[arg(long)]
    takes: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) reader: String,
    /// Read by its last process.
    pub(crate) records: u64,
    pub(crate) quotes: u64,
    pub(crate) mean_spread_bp: f64,
    pub(crate) wait: String,
    /// The epoch of its last registration.
    pub(crate) epoch: u64,
    /// From the feed's receipt of a message to its hands.
    pub(crate) latency_ns: Latency,
}

impl From<Told> for super::super::strategy::Told {
    fn from(told: Told) -> Self {
        let Told { reader, records, quotes, mean_spread_bp, wait, .. } = told;
        Self { reader, records, quotes, mean_spread_bp, wait }
    }
}

/// Looks for a frame so many times before it sleeps.
const SPINS: u32 = 2000;
/// How long it sleeps at most: replies come by another queue.
const SLEEP: Duration = Duration::from_millis(2);
/// Time between two orders.
const PACE_NS: u64 = 40_000_000;
/// After which an offer is taken back.
const OFFER_NS: u64 = 300_000_000;
/// So many orders may be without an end before it waits.
const OPEN_MAX: usize = 16;
/// What is bought or sold at a time: mantissa and exponent.
const QTY: (i64, i8) = (200, -5);
/// How long the router has for the last orders.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(args: Args) -> Outcome {
    let ears = Ears::open();
    let mouth = Mouth::open();
    let mut trader = Trader::open(&args)?;
    let mut ticks = join(&args.place)?;
    let mut payload = Vec::new();
    let mut spins = 0;
    let mut ending: Option<Instant> = None;
    loop {
        let mut idle = true;
        match ticks.next() {
            Ok(Some(frame)) => {
                idle = false;
                trader.records += 1;
                mouth.progress(trader.records);
                let (type_id, time_ns) = (frame.type_id, frame.time_ns);
                trader.delay.saturating_record(System.now_ns().saturating_sub(time_ns).max(1));
                if type_id == type_id::QUOTE {
                    payload.resize(frame.payload.len(), 0);
                    frame.payload.copy_to(&mut payload);
                    if let Ok(Record::Quote(quote)) = Record::parse(type_id, &payload) {
                        trader.quote(&quote, time_ns, ending.is_none())?;
                    }
                }
            }
            Ok(None) => {}
            // A reader that leaves no trace may be overtaken; it goes on with what is there.
            Err(event) if event.is_event() => idle = false,
            Err(error) => return Err(error.into()),
        }
        if trader.hear()? {
            idle = false;
        }
        if ending.is_none() && ears.finish_was_told() {
            ending = Some(Instant::now());
        }
        trader.take_back(ending.is_some())?;
        if let Some(since) = ending {
            if trader.has_ended() {
                break;
            }
            if since.elapsed() > PATIENCE {
                return Err(trader.unfinished());
            }
        }
        if !idle {
            spins = 0;
        } else if spins < SPINS {
            spins += 1;
            std::hint::spin_loop();
        } else {
            spins = 0;
            ticks.wait(SLEEP)?;
        }
    }
    mouth.tell(Told {
        reader: args.reader.clone(),
        records: trader.records,
        quotes: trader.quotes,
        mean_spread_bp: if trader.quotes == 0 { 0.0 } else { trader.spread / trader.quotes as f64 },
        wait: format!("spin {SPINS} times, then sleep"),
        epoch: trader.end.epoch(),
        latency_ns: Latency::of(&trader.delay),
    });
    Ok(())
}

/// An order that has not ended.
struct Open {
    order: Order,
    since_ns: u64,
    asked_back: bool,
}

struct Trader {
    end: StrategyEnd<System>,
    venue: &'static str,
    takes: bool,
    open: BTreeMap<OrderId, Open>,
    /// Sent and not answered, cancels among them.
    owed: BTreeSet<OrderId>,
    last_ns: u64,
    bought: bool,
    records: u64,
    quotes: u64,
    spread: f64,
    delay: hdrhistogram::Histogram<u64>,
}

impl Trader {
    /// Registers, and finds its orders again.
    fn open(args: &Args) -> Result<Self, Failure> {
        let layout = Layout::of(&args.place.root());
        let options = StrategyOptions { queue: ledger::options(), ..StrategyOptions::default() };
        let end = StrategyEnd::open(&System, &layout, &args.reader, &options)?;
        let owed = end.unanswered()?.iter().map(Order::id).collect();
        let past = Ledger::read(&layout, &Name::new(&args.reader)?)?;
        // Whether an earlier process asked for it back is not worth finding out: it is asked once more.
        let open = |order| Open { order, since_ns: 0, asked_back: false };
        Ok(Trader {
            end,
            venue: args.place.venue.name(),
            takes: args.takes,
            open: past.open().into_iter().map(|(id, order)| (id, open(order))).collect(),
            owed,
            last_ns: 0,
            bought: false,
            records: 0,
            quotes: 0,
            spread: 0.0,
            delay: Latency::histogram()?,
        })
    }

    /// Looks at a quote and may send an order because of it.
    fn quote(&mut self, quote: &Quote<'_>, time_ns: u64, trading: bool) -> Outcome {
        let (bid, ask) = (quote.bid_price as f64, quote.ask_price as f64);
        self.spread += (ask - bid) / (ask + bid) * 2e4;
        self.quotes += 1;
        let now = System.now_ns();
        if !trading || now.saturating_sub(self.last_ns) < PACE_NS || self.open.len() >= OPEN_MAX {
            return Ok(());
        }
        self.bought = !self.bought;
        let side = if self.bought { Side::Buy } else { Side::Sell };
        let price = if self.bought == self.takes { quote.ask_price } else { quote.bid_price };
        let order = Order::limit(self.venue, quote.symbol, side, (price, quote.head.price.exp), QTY)?;
        let order = if self.takes { order.living(Life::Immediate) } else { order };
        if let Ok(order) = self.end.send(now, &order.caused_at(time_ns)) {
            self.last_ns = now;
            self.owed.insert(order.id());
            self.open.insert(order.id(), Open { order, since_ns: now, asked_back: false });
        }
        Ok(())
    }

    /// Takes in what the router says; says whether it said anything.
    fn hear(&mut self) -> Result<bool, Failure> {
        let mut heard = false;
        loop {
            match self.end.next() {
                Ok(Some(received)) => {
                    heard = true;
                    let Some(reply) = received.message() else { continue };
                    self.owed.remove(&reply.id());
                    if reply.is_final() {
                        self.open.remove(&reply.id());
                    }
                }
                Ok(None) => break,
                Err(event) if event.is_event() => {}
                Err(error) => return Err(error.into()),
            }
        }
        if heard {
            self.end.commit()?;
        }
        Ok(heard)
    }

    /// Asks for old offers back; for all of them at the end.
    fn take_back(&mut self, all: bool) -> Outcome {
        let now = System.now_ns();
        for open in self.open.values_mut() {
            let is_offer = open.order.life() == Some(Life::UntilCancelled);
            if !is_offer || open.asked_back || !(all || now.saturating_sub(open.since_ns) > OFFER_NS) {
                continue;
            }
            // A queue that is full has room later.
            let Ok(cancel) = self.end.send(now, &open.order.cancel()) else { break };
            open.asked_back = true;
            self.owed.insert(cancel.id());
        }
        Ok(())
    }

    fn has_ended(&self) -> bool {
        self.open.is_empty() && self.owed.is_empty()
    }

    fn unfinished(&self) -> Failure {
        let open: Vec<String> = self.open.keys().take(5).map(OrderId::to_string).collect();
        let owed: Vec<String> = self.owed.iter().take(5).map(OrderId::to_string).collect();
        Failure::Problem(format!(
            "after {} s {} orders have no end ({}) and {} no answer ({})",
            PATIENCE.as_secs(),
            self.open.len(),
            open.join(", "),
            self.owed.len(),
            owed.join(", ")
        ))
    }
}

/// Reads the raw queue from now on, without a trace. The feed makes the queue, and may come later.
fn join(place: &Place) -> Result<Subscriber<System>, Failure> {
    let queue = place.root().raw_queue(&Name::new(place.venue.name())?);
    let began = Instant::now();
    loop {
        let options = SubscriberOptions { start: Start::Latest, ..SubscriberOptions::default() };
        match Queue::observer(&System, &queue, options) {
            Ok(subscriber) => return Ok(subscriber),
            Err(_) if began.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => return Err(error.into()),
        }
    }
}
