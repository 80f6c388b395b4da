//! The demo's refinery: refines what has come so far, again and again, until it is told to finish.
//!
//! It is killed in the middle of that and started again; it goes on at its last checkpoint. So that the kill lands there
//! on any machine and at any speed, it stands still at a record that it is told: within a run, its lock held and its
//! partitions open, most often with records taken in since the last checkpoint.

use super::{
    Place,
    worker::{Ears, Mouth},
};
use crate::run::Outcome;
use chronicle::{
    System,
    etl::{
        refine::{Options, refine},
        refinery::LatePolicy,
    },
    storage::root::Name,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Stand still, to be killed, when so many frames were taken in.
    #[arg(long)]
    hold_at: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Told {
    /// Raw frames taken in by this process.
    pub(crate) events: u64,
}

pub(crate) fn run(args: Args) -> Outcome {
    let ears = Ears::open();
    let mouth = Mouth::open();
    let system = System;
    let root = args.place.root();
    let venue = Name::new(args.place.venue.name())?;
    let mut events = 0;
    loop {
        let last = ears.finish_was_told();
        // Late records keep a stream of their own: nothing that was recorded may be missing from the replay.
        let options = Options { late_policy: Some(LatePolicy::LateStream), seal: last, ..Options::default() };
        let mut count = 0;
        // The feed makes the raw queue, and may come later.
        if last || root.raw_queue(&venue).join("control.meta").exists() {
            refine(&system, &root, Some(&venue), &options, |progress| {
                count = progress.frames;
                mouth.progress(events + count);
                if args.hold_at.is_some_and(|frames| events + count >= frames) {
                    mouth.hold(events + count);
                }
            })?;
        }
        events += count;
        mouth.progress(events);
        if last {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    mouth.tell(Told { events });
    Ok(())
}
