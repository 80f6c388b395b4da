//! The demo's tier manager: takes it to be three days later and moves everything to the cold tier.

use super::{
    Place,
    worker::{Ears, Mouth},
};
use crate::run::{Failure, Outcome};
use chronicle::{
    System,
    storage::{
        reader::ArchiveReader,
        root::{Date, Name, Root},
        tier::{Policy, run_once},
    },
};
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) warm_bytes: u64,
    pub(crate) cold_bytes: u64,
}

pub(crate) fn run(args: Args) -> Outcome {
    let _ears = Ears::open();
    let mouth = Mouth::open();
    let system = System;
    let root = args.place.root();
    let warm_bytes = size(&root.warm.join("v1"))?;
    let now = last_day(&system, &root, args.place.venue.name())?.end_ns() + 3 * 86_400_000_000_000;
    let report = run_once(&system, &root, now, &Policy::default())?;
    mouth.progress(report.moved.len() as u64);
    mouth.tell(Told { warm_bytes, cold_bytes: size(&root.cold.join("v1"))? });
    Ok(())
}

fn last_day(system: &System, root: &Root, venue: &str) -> Result<Date, Failure> {
    let archive = ArchiveReader::open(system, root)?;
    let venue = Name::new(venue)?;
    let mut last = None;
    for symbol in archive.symbols(&venue)? {
        last = last.max(archive.dates(&venue, &symbol)?.into_iter().max());
    }
    last.ok_or_else(|| Failure::Problem("nothing was refined: the recording has no records".to_owned()))
}

/// Bytes of the files under a directory.
fn size(dir: &Path) -> Result<u64, Failure> {
    let mut total = 0;
    if dir.is_dir() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            total += if entry.path().is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
        }
    }
    Ok(total)
}
