//! `chronicle wal`: write-ahead logs, looked at, checked, printed, cut and measured.

mod bench;
mod cat;
mod floor;
mod inspect;
mod truncate;
mod verify;

use crate::run::{Failure, must_be_directory};
use chronicle::storage::wal::Place;
use clap::Subcommand;
use std::path::Path;

/// Look at, check, print, cut and measure write-ahead logs
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  chronicle wal bench /var/lib/app/bench
  chronicle wal inspect /var/lib/app/wal
  chronicle wal verify /var/lib/app/wal
  chronicle wal cat /var/lib/app/wal --from 1000 --limit 10 --json
  chronicle wal truncate /var/lib/app/wal

A log is a directory of segments. Looking takes no lock and changes nothing, also while a writer is at work: then up to
what it says is durable.")]
pub(crate) enum Command {
    Inspect(inspect::Args),
    Verify(verify::Args),
    Cat(cat::Args),
    Truncate(truncate::Args),
    Bench(bench::Args),
}

pub(crate) fn run(command: Command) -> crate::run::Outcome {
    match command {
        Command::Inspect(args) => inspect::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Cat(args) => cat::run(args),
        Command::Truncate(args) => truncate::run(args),
        Command::Bench(args) => bench::run(args),
    }
}

/// The directory of a log, which must exist.
fn existing(dir: &Path) -> Result<(), Failure> {
    must_be_directory(dir)?;
    if dir.exists() { Ok(()) } else { Err(Failure::Usage(format!("{}: no such directory", dir.display()))) }
}

/// As people read it.
fn place(place: Place) -> String {
    match place.segment {
        0 => "-".to_owned(),
        segment => format!("{segment}:{}", place.offset),
    }
}
