//! The demo's strategies: read the raw queue live, as fast as it comes or slowly.

use super::{
    Place,
    worker::{Ears, Mouth, write_times},
};
use crate::run::{Failure, Outcome};
use chronicle::{
    System,
    platform::Platform,
    protocol::{Record, type_id},
    storage::{
        queue::{Disconnect, Queue, Start, Subscriber, SubscriberOptions},
        root::Name,
    },
};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Its name among the queue's readers.
    #[arg(long)]
    reader: String,
    /// Think for 20 µs about every record.
    #[arg(long)]
    slow: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) reader: String,
    pub(crate) records: u64,
    pub(crate) quotes: u64,
    /// Mean spread in basis points: what it is all about, for a strategy.
    pub(crate) mean_spread_bp: f64,
    pub(crate) wait: String,
}

/// Looks for a frame so many times before it sleeps.
const SPINS: u32 = 2000;

pub(crate) fn run(args: Args) -> Outcome {
    let _ears = Ears::open();
    let mouth = Mouth::open();
    let system = System;
    let queue = args.place.root().raw_queue(&Name::new(args.place.venue.name())?);
    let mut subscriber = join(&system, &queue, &args.reader)?;
    let mut times = Vec::new();
    let mut payload = Vec::new();
    let (mut records, mut quotes, mut spread) = (0_u64, 0_u64, 0.0_f64);
    let mut spins = 0;
    let mut ended = false;
    loop {
        let frame = match subscriber.next() {
            Ok(Some(frame)) => frame,
            Ok(None) if spins < SPINS => {
                spins += 1;
                std::hint::spin_loop();
                continue;
            }
            // The writer had closed before this look, and there is nothing left.
            Ok(None) if ended => break,
            Ok(None) => {
                spins = 0;
                subscriber.commit()?;
                subscriber.wait(Duration::from_millis(20))?;
                // Not `Died`: a writer that has just begun does not hold its lock yet. If the feed dies, the demo ends.
                ended = subscriber.detect_disconnect(Duration::from_secs(10))? == Some(Disconnect::Closed);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        times.push((frame.seq, system.monotonic_ns()));
        spins = 0;
        ended = false;
        records += 1;
        mouth.progress(records);
        if frame.type_id == type_id::QUOTE {
            payload.resize(frame.payload.len(), 0);
            frame.payload.copy_to(&mut payload);
            if let Ok(Record::Quote(quote)) = Record::parse(frame.type_id, &payload) {
                let (bid, ask) = (quote.bid_price as f64, quote.ask_price as f64);
                spread += (ask - bid) / (ask + bid) * 2e4;
                quotes += 1;
            }
        }
        if args.slow {
            let until = Instant::now() + Duration::from_micros(20);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
        if records.is_multiple_of(1024) {
            subscriber.commit()?;
        }
    }
    subscriber.commit()?;
    write_times(&args.place.scratch.join(format!("{}.times", args.reader)), &times)?;
    mouth.tell(Told {
        reader: args.reader,
        records,
        quotes,
        mean_spread_bp: if quotes == 0 { 0.0 } else { spread / quotes as f64 },
        wait: format!("spin {SPINS} times, then sleep"),
    });
    Ok(())
}

/// The queue is made by the feed, which may come later.
fn join(system: &System, queue: &std::path::Path, reader: &str) -> Result<Subscriber<System>, Failure> {
    let began = Instant::now();
    loop {
        let options = SubscriberOptions { start: Start::Earliest, ..SubscriberOptions::default() };
        match Queue::subscriber(system, queue, reader, options) {
            Ok(subscriber) => return Ok(subscriber),
            Err(_) if began.elapsed() < Duration::from_secs(20) => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => return Err(error.into()),
        }
    }
}
