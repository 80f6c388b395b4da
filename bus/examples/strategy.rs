//! A strategy: buys when the price falls five ticks in a row. Start it before or after `feed` and `router`, kill it, start
//! it again: what it has sent stands in its queue.

mod tick;

use chronicle_bus::{
    Layout, StrategyEnd, Subscriber,
    ends::StrategyOptions,
    orders::{Order, Side},
    typed::Received,
};
use chronicle_platform::Platform;
use chronicle_storage::queue::{Start, SubscriberOptions};
use std::time::Duration;
use tick::{InWords, System, Tick, stream};

fn main() -> Result<(), InWords> {
    let layout = Layout::new(std::env::args().nth(1).unwrap_or("/dev/shm/bus".into()));
    let mut end = StrategyEnd::open(&System, &layout, "falling", &StrategyOptions::default())?;
    println!("epoch {}, on their way: {:?}", end.epoch(), end.unanswered()?);
    let (venue, symbol, name) = stream();
    let newest = SubscriberOptions { start: Start::Latest, ..SubscriberOptions::default() };
    let open = || Subscriber::<_, Tick>::observe(&System, layout.clean_queue(&venue, &symbol, &name), newest.clone());
    let mut ticks = loop {
        match open() {
            Err(error) if error.is_not_found() => std::thread::sleep(Duration::from_millis(100)),
            other => break other?,
        }
    };
    let (mut last, mut falls) = (0, 0);
    loop {
        while let Some(received) = ticks.next()? {
            let Received::Message { time_ns, message: tick, .. } = received else { continue };
            falls = if tick.price.get() < last { falls + 1 } else { 0 };
            last = tick.price.get();
            if falls == 5 {
                let order = Order::limit("demo", "BTCUSDT", Side::Buy, (last, -2), (1, -3))?;
                println!("{:?}", end.send(System.now_ns(), &order.caused_at(time_ns))?);
            }
        }
        while let Some(Some(reply)) = end.next()?.map(|it| it.message()) {
            println!("{reply:?}");
        }
        end.commit()?;
        ticks.queue().wait(Duration::from_millis(10))?;
    }
}
