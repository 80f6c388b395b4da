//! Group `tick-to-order`: a tick is appended, a strategy in another process reads it and sends an order, the router has it.
//!
//! That is one trip there and back, so the floor is the bare one: a cache line to the same process and back, probed right
//! before and right after, as in group `ipc-queue`. The router's process stands for the feed too. Orders are answered, and
//! the replies read, outside of what is measured.

use crate::{
    contest::{Line, Target, line},
    machine,
    ping::{self, BARE, BUSY_NS, SAME_PLACE, until},
    queue::{Other, say},
};
use chronicle_bus::{
    Layout, Message, Publisher, RouterEnd, StrategyEnd, Subscriber,
    ends::{FromStrategy, RouterOptions, StrategyOptions},
    message::OWN_TYPES,
    orders::{Order, Reply, Side},
    typed::Received,
};
use chronicle_platform_linux::Linux;
use chronicle_storage::queue::{Profile, PublisherOptions, SubscriberOptions};
use std::{
    hint::spin_loop,
    path::Path,
    time::{Duration, Instant},
};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, byteorder::little_endian::I64, byteorder::little_endian::U64,
};

const ROUNDS: usize = 5;
const WARM: u64 = 2_000;
const TICKS: u64 = 20_000;
/// A round ends after so long, however many ticks there were.
const LONGEST: Duration = Duration::from_secs(2);
/// How many replies a strategy reads before it commits.
const COMMIT_EVERY: u64 = 64;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
struct Tick {
    number: U64,
    price: I64,
    qty: I64,
}

impl Message for Tick {
    const TYPE_ID: u16 = OWN_TYPES;
}

/// Ends the strategy.
const STOP: u64 = u64::MAX;

pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    if !machine::pin(1) {
        eprintln!("tick-to-order: one processor alone: two processes cannot both spin, skipped");
        return Ok(());
    }
    machine::pin(0);
    let result = measure(dir, out);
    machine::unpin();
    result
}

fn measure(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let tick = machine::tick_ns();
    let mut nth = 0;
    let mut fresh = || -> Result<std::path::PathBuf, String> {
        nth += 1;
        let dir = dir.join(nth.to_string());
        std::fs::create_dir(&dir).map_err(|it| it.to_string())?;
        Ok(dir)
    };
    let (mut ours, mut tail, mut floor, mut moved) = (vec![], vec![], vec![], 0);
    while ours.len() < ROUNDS {
        let first = ping::round_trips(BARE, &fresh()?, tick)?;
        let (p50, p99) = orders(&fresh()?, tick)?;
        let second = ping::round_trips(BARE, &fresh()?, tick)?;
        let is_busy = first.p50.max(second.p50) > BUSY_NS;
        if is_busy || (first.p50 - second.p50).abs() > SAME_PLACE * first.p50.min(second.p50) {
            moved += 1;
            if moved <= 2 * ROUNDS {
                continue;
            }
            if is_busy {
                let ns = first.p50.max(second.p50);
                return Err(format!("a bare trip took {ns:.0} ns: the processors are busy, measure when they are not"));
            }
        }
        floor.push(f64::midpoint(first.p50, second.p50));
        ours.push(p50);
        tail.push(p99);
    }
    let bare = Some(("bare cache line there and back, same processors", &floor[..]));
    let group = "tick-to-order";
    out(line(group, "tick appended to order taken, p50".into(), "ns", false, &ours, bare, &[], Target::None));
    out(line(group, "tick appended to order taken, p99".into(), "ns", false, &tail, None, &[], Target::None));
    if moved > 0 {
        eprintln!("tick-to-order: in {moved} rounds the processors moved or were busy");
    }
    Ok(())
}

/// Median and 99th of a hundred, ns.
fn orders(dir: &Path, tick: f64) -> Result<(f64, f64), String> {
    let layout = Layout::new(dir.join("hot"));
    let options = PublisherOptions::new(Profile::Clean);
    let mut ticks = Publisher::<_, Tick>::open(&Linux, dir.join("ticks"), options).map_err(|it| it.to_string())?;
    let mut router = RouterEnd::open(&Linux, &layout, RouterOptions::default()).map_err(|it| it.to_string())?;
    let mut other = Other::start(&[], &["tick-strategy"], dir)?;
    other.hear()?;
    let began = Instant::now();
    while router.strategies().next().is_none() {
        router.drive();
        if began.elapsed() > Duration::from_secs(10) {
            return Err("the strategy was never found".to_owned());
        }
    }
    let mut trips = Vec::with_capacity(TICKS as usize);
    let mut since = Instant::now();
    for number in 0..WARM + TICKS {
        if number.is_multiple_of(64) {
            router.maintain();
            if since.elapsed() > LONGEST && number > 64 {
                break;
            }
        }
        let message = Tick { number: number.into(), price: 100.into(), qty: 1.into() };
        let began = machine::ticks();
        ticks.send_wait(number + 1, &message, Duration::from_secs(1)).map_err(|it| it.to_string())?;
        let taken = loop {
            match router.next(number + 1) {
                Some(FromStrategy::Order(taken)) => break taken,
                Some(other) => return Err(format!("{other:?}")),
                None => spin_loop(),
            }
        };
        let took = machine::ticks() - began;
        if taken.order.cause_ns.get() != number + 1 {
            return Err(format!("tick {number} was answered by {:?}", taken.order));
        }
        if number == WARM {
            trips.clear();
            since = Instant::now();
        }
        trips.push(took);
        let reply = Reply::acked(&taken.order, number);
        until(|| router.reply(&taken, number + 1, &reply).map(|_| ()).map_err(|it| it.to_string()))?;
    }
    let stop = Tick { number: STOP.into(), price: 0.into(), qty: 0.into() };
    ticks.send_wait(u64::MAX, &stop, Duration::from_secs(1)).map_err(|it| it.to_string())?;
    other.hear()?;
    trips.sort_unstable();
    let at = |share: f64| trips[((trips.len() - 1) as f64 * share) as usize] as f64 * tick;
    Ok((at(0.5), at(0.99)))
}

/// The other process: an order for every tick.
pub fn strategy(dir: &Path) -> Result<(), String> {
    // It was born on its parent's processor, and would take that one for all there are.
    machine::unpin();
    machine::pin(1);
    let text = |error: chronicle_bus::Error| error.to_string();
    let mut ticks = Subscriber::<_, Tick>::open(&Linux, dir.join("ticks"), "strategy", SubscriberOptions::default())
        .map_err(text)?;
    let layout = Layout::new(dir.join("hot"));
    let mut end = StrategyEnd::open(&Linux, &layout, "bench", &StrategyOptions::default()).map_err(text)?;
    let order = Order::limit("venue", "BTCUSDT", Side::Buy, (100, 0), (1, 0)).map_err(|it| it.to_string())?;
    say("ready");
    let mut heard = 0;
    loop {
        match ticks.next().map_err(|it| it.to_string())? {
            Some(Received::Message { message, .. }) if message.number.get() == STOP => break,
            Some(Received::Message { message, time_ns, .. }) => {
                let order = Order { price: message.price, ..order.caused_at(time_ns) };
                until(|| end.send(time_ns, &order).map(|_| ()).map_err(|it| it.to_string()))?;
            }
            Some(_) => return Err("no tick".to_owned()),
            None => {
                // Between two ticks there is time.
                while end.next().map_err(|it| it.to_string())?.is_some() {
                    heard += 1;
                    if heard % COMMIT_EVERY == 0 {
                        ticks.queue().commit().map_err(|it| it.to_string())?;
                        end.commit().map_err(text)?;
                    }
                }
                spin_loop();
            }
        }
    }
    say("done");
    Ok(())
}
