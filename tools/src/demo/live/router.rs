//! The live demo's router: takes the orders of all strategies to the exchange, and tells them what became of each.
//!
//! The exchange is asked by an id that is made of the order's own, so that it never does twice what is asked twice. What
//! it was asked is unknown after a lost answer, and after a router's death: then it is looked up before anything is sent.
//! What a router needs to know when it comes back stands in the strategies' queues and at the exchange.

use super::{
    super::{
        Place, Sabotage,
        worker::{Ears, Mouth},
    },
    exchange::{Answer, Exchange},
    ledger,
};
use crate::run::{Failure, Outcome};
use chronicle::{
    System,
    bus::{
        Layout, RouterEnd,
        ends::{FromStrategy, News, Past, RouterOptions, Taken},
        orders::{Action, Life, OrderId, OrderKind, Reason, Reply, Side},
    },
    platform::Platform,
    protocol::{DecimalText, Scale},
    storage::queue::{PublisherOptions, Refused},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    #[arg(long)]
    exchange: SocketAddr,
    /// What it does wrong, one thing with each of its first orders.
    #[arg(long)]
    sabotage: Vec<Sabotage>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Told {
    /// Orders taken by this process, cancels among them.
    pub(crate) taken: u64,
    /// Of those, how many an earlier process may have taken.
    pub(crate) looked_up: u64,
}

/// Where the exchange takes orders.
const ORDERS: &str = "/api/v3/order";
/// How often an order that waits at the exchange is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long it sleeps when there is nothing.
const SLEEP: Duration = Duration::from_millis(5);
/// How long a strategy's queue may be full.
const ROOM_MAX: Duration = Duration::from_secs(10);
/// "Unknown order sent": there is none to cancel. "Order does not exist": there is none to look at.
const NONE_TO_CANCEL: i64 = -2011;
const NO_SUCH_ORDER: i64 = -2013;

pub(crate) fn run(args: Args) -> Outcome {
    let ears = Ears::open();
    let mouth = Mouth::open();
    let layout = Layout::of(&args.place.root());
    let queue = PublisherOptions { helper: false, ..ledger::options() };
    let end = RouterEnd::open(&System, &layout, RouterOptions { queue, ..RouterOptions::default() })?;
    let mut router = Router {
        end,
        exchange: Exchange::new(args.exchange),
        working: BTreeMap::new(),
        sabotage: args.sabotage,
        told: Told { taken: 0, looked_up: 0 },
    };
    loop {
        for news in router.end.drive() {
            match news {
                News::Joined { number, .. } => router.remember(number)?,
                News::Refused { strategy, error } => {
                    return Err(Failure::Problem(format!("strategy {strategy}: {}", crate::run::chain(&error))));
                }
                News::Released { .. } | News::Changed(_) => {}
            }
        }
        let now = System.now_ns();
        let mut idle = true;
        while let Some(next) = router.end.next(now) {
            idle = false;
            match next {
                FromStrategy::Order(taken) => router.take(&taken)?,
                FromStrategy::Unreadable { from, seq, type_id, .. } => {
                    return Err(Failure::Problem(format!(
                        "frame {seq} of strategy {from} is of type {type_id}, no order"
                    )));
                }
                FromStrategy::Event(event) => {
                    return Err(Failure::Problem(format!("orders were lost: {event:?}")));
                }
            }
            mouth.progress(router.told.taken);
        }
        router.look()?;
        if idle && ears.finish_was_told() && router.working.is_empty() {
            break;
        }
        router.end.wait(SLEEP);
    }
    mouth.tell(router.told);
    Ok(())
}

/// An order at the exchange whose end was not told yet.
struct Working {
    taken: Taken,
    /// When it was asked how it stands.
    looked: Instant,
    /// The fills that were told, by the venue's numbers.
    told: BTreeSet<u64>,
    /// Their sum.
    filled: i64,
}

impl Working {
    fn new(taken: Taken) -> Self {
        Working { taken, looked: Instant::now(), told: BTreeSet::new(), filled: 0 }
    }
}

struct Router {
    end: RouterEnd<System>,
    exchange: Exchange,
    working: BTreeMap<(u32, OrderId), Working>,
    sabotage: Vec<Sabotage>,
    told: Told,
}

impl Router {
    /// Finds the orders of a strategy that earlier routers answered, and whose end they did not tell.
    fn remember(&mut self, number: u32) -> Outcome {
        let working = &mut self.working;
        self.end.history(number, |past| match past {
            Past::Order(taken) if taken.order.action() == Some(Action::New) => {
                let work = Working::new(taken);
                working.insert((number, taken.order.id()), work);
            }
            Past::Order(_) => {}
            Past::Reply(reply) if reply.is_final() => drop(working.remove(&(number, reply.id()))),
            Past::Reply(reply) => {
                if let Some(work) = working.get_mut(&(number, reply.id()))
                    && reply.fill_id.get() > 0
                    && work.told.insert(reply.fill_id.get())
                {
                    work.filled += reply.qty.get();
                }
            }
        })?;
        Ok(())
    }

    fn take(&mut self, taken: &Taken) -> Outcome {
        self.told.taken += 1;
        self.told.looked_up += u64::from(!taken.fresh);
        let sabotage = if taken.order.action() == Some(Action::New) { self.sabotage.pop() } else { None };
        if sabotage == Some(Sabotage::LoseOrder) {
            self.reply(taken, &Reply::acked(&taken.order, 1))?;
            return self.reply(taken, &Reply::cancelled(&taken.order, 1, 0, Reason::Venue));
        }
        if taken.order.action() == Some(Action::Cancel) {
            return self.cancel(taken);
        }
        let answer = self.place(taken)?;
        if !answer.is_ok() {
            let code = i32::try_from(answer.code()).unwrap_or_default();
            return self.reply(taken, &Reply::rejected(&taken.order, Reason::Venue, code));
        }
        self.reply(taken, &Reply::acked(&taken.order, number(&answer.body["orderId"])))?;
        if sabotage == Some(Sabotage::AnswerTwice) {
            self.reply(taken, &Reply::acked(&taken.order, number(&answer.body["orderId"])))?;
        }
        if sabotage == Some(Sabotage::DoubleOrder) {
            self.exchange.must("POST", &format!("{}.again", self.target(taken)))?;
        }
        let key = (taken.from, taken.order.id());
        self.working.insert(key, Working::new(*taken));
        self.settle(key, &answer.body)?;
        if sabotage == Some(Sabotage::AnswerTwice) {
            self.reply(taken, &Reply::cancelled(&taken.order, number(&answer.body["orderId"]), 0, Reason::None))?;
        }
        Ok(())
    }

    /// Has the exchange have the order, once. What it says is how the order stands, or why it has it not.
    fn place(&mut self, taken: &Taken) -> Result<Answer, Failure> {
        let mut seen = !taken.fresh;
        loop {
            if seen {
                let answer = self.exchange.ask("GET", &self.named(taken, taken.order.id()))?;
                if answer.code() != NO_SUCH_ORDER {
                    return Ok(answer);
                }
            }
            // Not again before it was looked up: from here on it may be there.
            let target = self.target(taken);
            match self.exchange.once("POST", &target) {
                // An attempt that seemed lost has arrived meanwhile.
                Ok(answer) if answer.body["msg"] == "Duplicate order sent." => {}
                Ok(answer) if answer.is_ok() || (400..500).contains(&answer.status) => return Ok(answer),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
            seen = true;
        }
    }

    fn target(&self, taken: &Taken) -> String {
        let order = &taken.order;
        let text = |mantissa: i64, exp: i8| Scale::trimmed(exp.min(0).unsigned_abs()).decimal(mantissa).to_string();
        let side = if order.side() == Some(Side::Sell) { "SELL" } else { "BUY" };
        let terms = match (order.kind(), order.life()) {
            (Some(OrderKind::Market), _) => "type=MARKET".to_owned(),
            (_, life) => {
                let life = match life {
                    Some(Life::Immediate) => "IOC",
                    Some(Life::AllOrNothing) => "FOK",
                    _ => "GTC",
                };
                format!("type=LIMIT&timeInForce={life}&price={}", text(order.price.get(), order.price_exp))
            }
        };
        format!(
            "{ORDERS}?symbol={}&side={side}&{terms}&quantity={}&newClientOrderId={}",
            order.symbol(),
            text(order.qty.get(), order.qty_exp),
            self.client_id(taken, order.id())
        )
    }

    /// An order of this strategy, as the exchange is asked for it.
    fn named(&self, taken: &Taken, id: OrderId) -> String {
        format!("{ORDERS}?symbol={}&origClientOrderId={}", taken.order.symbol(), self.client_id(taken, id))
    }

    fn client_id(&self, taken: &Taken, id: OrderId) -> String {
        ledger::client_id(self.end.strategy(taken.from).map_or("", |name| name.as_str()), id)
    }

    /// Asks the exchange to end an order. A cancel that it heard before finds the order cancelled, and that is well.
    fn cancel(&mut self, taken: &Taken) -> Outcome {
        let target = taken.order.target();
        let named = self.named(taken, target);
        let mut answer = self.exchange.ask("DELETE", &named)?;
        if answer.code() == NONE_TO_CANCEL {
            answer = self.exchange.ask("GET", &named)?;
        }
        if answer.is_ok() && answer.body["status"] == "CANCELED" {
            self.reply(taken, &Reply::acked(&taken.order, number(&answer.body["orderId"])))?;
        } else {
            let code = i32::try_from(answer.code()).unwrap_or_default();
            self.reply(taken, &Reply::rejected(&taken.order, Reason::UnknownOrder, code))?;
        }
        if answer.is_ok() { self.settle((taken.from, target), &answer.body) } else { Ok(()) }
    }

    /// Looks at the order that was not looked at for longest, if it is time: new orders do not wait behind old ones.
    fn look(&mut self) -> Outcome {
        let waiting = self.working.iter().min_by_key(|(_, work)| work.looked);
        let Some((&key, work)) = waiting.filter(|(_, work)| work.looked.elapsed() >= LOOK_EVERY) else { return Ok(()) };
        let taken = work.taken;
        let stands = self.exchange.get(&self.named(&taken, taken.order.id()))?;
        self.settle(key, &stands)
    }

    /// Tells what is new about an order, from how it stands at the exchange.
    fn settle(&mut self, key: (u32, OrderId), stands: &Value) -> Outcome {
        // Its end was told.
        let Some(mut work) = self.working.remove(&key) else { return Ok(()) };
        work.looked = Instant::now();
        let order = work.taken.order;
        let (venue_id, venue_ns) = (number(&stands["orderId"]), number(&stands["transactTime"]) * 1_000_000);
        let at = |reply: Reply| Reply { venue_ns: venue_ns.into(), ..reply };
        let mut ended = false;
        for fill in stands["fills"].as_array().into_iter().flatten() {
            let id = number(&fill["tradeId"]);
            if !work.told.insert(id) {
                continue;
            }
            let price = mantissa(&fill["price"], order.price_exp)?;
            let qty = mantissa(&fill["qty"], order.qty_exp)?;
            work.filled += qty;
            let reply = at(Reply::filled(&order, venue_id, id, price, qty, work.filled));
            self.reply(&work.taken, &reply)?;
            ended |= reply.is_final();
        }
        let reason = match stands["status"].as_str() {
            Some("CANCELED") => Some(Reason::Asked),
            Some("EXPIRED") => Some(Reason::None),
            _ => None,
        };
        if let Some(reason) = reason {
            self.reply(&work.taken, &at(Reply::cancelled(&order, venue_id, work.filled, reason)))?;
            ended = true;
        }
        if !ended {
            self.working.insert(key, work);
        }
        Ok(())
    }

    /// Appends a reply, when there is room for it.
    fn reply(&mut self, taken: &Taken, reply: &Reply) -> Outcome {
        let began = Instant::now();
        loop {
            match self.end.reply(taken, System.now_ns(), reply) {
                Ok(_) => return Ok(()),
                Err(Refused::QueueFull { .. } | Refused::NotReady) if began.elapsed() < ROOM_MAX => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(refused) => return Err(refused.into()),
            }
        }
    }
}

/// A number of the exchange's; 0 = none.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// A decimal text of the exchange's as the order writes its numbers.
fn mantissa(text: &Value, exp: i8) -> Result<i64, Failure> {
    let shown = text.as_str().unwrap_or_default();
    let parsed = DecimalText::parse(shown.as_bytes()).ok();
    let mantissa = parsed.and_then(|text| Scale::fixed(text.decimals).decimal(text.mantissa).mantissa_at(exp));
    mantissa
        .ok_or_else(|| Failure::Problem(format!("the exchange says {text} where a number in units of 1e{exp} belongs")))
}
