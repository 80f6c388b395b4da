//! A router whose venue fills everything at once. One at a time; kill it, start another: no order is filled twice.

mod tick;

use chronicle_bus::{
    Layout, RouterEnd,
    ends::{FromStrategy, Past, RouterOptions, Taken},
    orders::Reply,
};
use chronicle_platform::Platform;
use std::time::Duration;
use tick::{InWords, System};

fn main() -> Result<(), InWords> {
    let layout = Layout::new(std::env::args().nth(1).unwrap_or("/dev/shm/bus".into()));
    let mut router = RouterEnd::open(&System, &layout, RouterOptions::default())?;
    loop {
        for news in router.drive() {
            println!("{news:?}");
        }
        while let Some(next) = router.next(System.now_ns()) {
            let FromStrategy::Order(taken) = next else {
                println!("{next:?}");
                continue;
            };
            println!("{:?}, fresh: {}", taken.order, taken.fresh);
            // What is fresh nobody has sent before. Anything else is looked up by its id: where a real router asks the
            // venue, this one asks its own replies, because they are all that its venue does.
            if !taken.fresh && is_known(&router, &taken)? {
                router.reply(&taken, System.now_ns(), &Reply::known(&taken.order))?;
                continue;
            }
            let (price, qty) = (taken.order.price.get(), taken.order.qty.get());
            router.reply(&taken, System.now_ns(), &Reply::acked(&taken.order, taken.seq))?;
            router.reply(&taken, System.now_ns(), &Reply::filled(&taken.order, taken.seq, 1, price, qty, qty))?;
        }
        router.wait(Duration::from_millis(10));
    }
}

fn is_known(router: &RouterEnd<System>, taken: &Taken) -> chronicle_bus::Result<bool> {
    let mut is_known = false;
    let its = |past| matches!(past, Past::Reply(reply) if reply.id() == taken.order.id());
    router.history(taken.from, |past| is_known |= its(past))?;
    Ok(is_known)
}
