//! `chronicle wal verify`: every checksum, number and link of a log.

use crate::run::{Count, Failure, Outcome, Size, chain, print_json, with_stdout};
use chronicle::{
    System,
    storage::wal::{Verified, verify},
};
use std::path::PathBuf;

/// Check every byte of a log
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle wal verify /var/lib/app/wal
  chronicle wal verify /var/lib/app/wal --json

Exit code 1 if anything is damaged; each problem names file and offset. A torn tail, which any crash may leave behind the
last durable record, is no damage, and is told.")]
pub(crate) struct Args {
    /// The log's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// One JSON object: {segments, batches, records, bytes, torn, problems: [{path, offset, what}]}
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Problem {
    path: Option<PathBuf>,
    offset: Option<u64>,
    what: String,
}

#[derive(serde::Serialize)]
struct Told {
    segments: u64,
    batches: u64,
    records: u64,
    bytes: u64,
    torn: Option<chronicle::storage::wal::Cut>,
    problems: Vec<Problem>,
}

pub(crate) fn run(args: Args) -> Outcome {
    super::existing(&args.dir)?;
    let mut problems = Vec::new();
    let Verified { segments, batches, records, bytes, torn, .. } = verify(&System, &args.dir, &mut |error| {
        problems.push(Problem { path: error.path().map(PathBuf::from), offset: error.offset(), what: chain(&error) });
    })?;
    if segments == 0 && problems.is_empty() {
        return Err(Failure::Usage(format!("{}: no log: it has no segments", args.dir.display())));
    }
    let told = Told { segments, batches, records, bytes, torn, problems };
    if args.json {
        print_json(&told)?;
    } else {
        with_stdout(|out| {
            for problem in &told.problems {
                writeln!(out, "damaged: {}", problem.what)?;
            }
            if let Some(torn) = &told.torn {
                let place = format!("{}: offset {}", torn.path.display(), torn.offset);
                writeln!(out, "torn tail: {place}: {} of unacknowledged batches: {}", Size(torn.bytes), torn.why)?;
            }
            writeln!(
                out,
                "{} segments, {} batches, {} records, {}: {}",
                Count(told.segments),
                Count(told.batches),
                Count(told.records),
                Size(told.bytes),
                match told.problems.len() {
                    0 => "whole".to_owned(),
                    1 => "1 problem; `chronicle wal truncate` shows the way out".to_owned(),
                    n => format!("{n} problems; `chronicle wal truncate` shows the way out"),
                }
            )?;
            Ok(())
        })?;
    }
    if told.problems.is_empty() { Ok(()) } else { Err(Failure::told()) }
}
