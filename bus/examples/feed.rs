//! A feed that needs no venue: prices that walk at random, ten a second, on `clean/demo/btcusdt/ticks`.
//!
//! ```text
//! cargo run -p chronicle-bus --example feed     -- /dev/shm/bus
//! cargo run -p chronicle-bus --example router   -- /dev/shm/bus      each in a terminal of its own,
//! cargo run -p chronicle-bus --example strategy -- /dev/shm/bus      in any order
//! ```

mod tick;

use chronicle_bus::{Entry, Layout, Publisher, Registration, RegistrationOptions};
use chronicle_platform::Platform;
use chronicle_storage::queue::{Profile, PublisherOptions};
use std::time::Duration;
use tick::{InWords, System, Tick, stream};

fn main() -> Result<(), InWords> {
    let layout = Layout::new(std::env::args().nth(1).unwrap_or("/dev/shm/bus".into()));
    let (venue, symbol, name) = stream();
    let entry = Entry::Clean { venue: venue.clone(), symbol: symbol.clone(), stream: name.clone() };
    let mut registration = Registration::begin(&System, &layout, entry, RegistrationOptions::default())?;
    let path = layout.clean_queue(&venue, &symbol, &name);
    let mut ticks = Publisher::<_, Tick>::open(&System, path, PublisherOptions::new(Profile::Clean))?;
    registration.ready()?;
    registration.start_renewing()?;
    println!("{} is ready, epoch {}", registration.entry(), registration.epoch());
    let mut price = 6_000_000;
    for id in 1.. {
        price += (System.random() % 21) as i64 - 10;
        ticks.send_wait(System.now_ns(), &Tick { id: id.into(), price: price.into() }, Duration::from_secs(1))?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
