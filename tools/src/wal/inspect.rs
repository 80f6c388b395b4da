//! `chronicle wal inspect`: what a log is made of.

use crate::{
    inspect::table,
    run::{Count, Failure, Outcome, Size, name_of, print_json, rfc3339, with_stdout},
};
use chronicle::{
    System,
    storage::wal::{DescribedSegment, Description, SegmentState, Writer, inspect},
};
use std::{io::Write, path::PathBuf};

/// Show a log's segments, what is durable, who writes, and what opening it would find
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle wal inspect /var/lib/app/wal
  chronicle wal inspect /var/lib/app/wal --json

Exit code 1 if the log could not be opened as it is; `chronicle wal verify` then finds all that is wrong.")]
pub(crate) struct Args {
    /// The log's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// One JSON object: {path, wal_id, writer, recovery, problem, segments: […], spares, leftovers, cut}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Outcome {
    super::existing(&args.dir)?;
    let described = inspect(&System, &args.dir).map_err(|error| match error {
        chronicle::storage::Error::Options { .. } => Failure::Usage(error.to_string()),
        error => error.into(),
    })?;
    if args.json {
        print_json(&described)?;
    } else {
        with_stdout(|out| tell(out, &described))?;
    }
    if described.problem.is_some() { Err(Failure::told()) } else { Ok(()) }
}

fn tell(out: &mut dyn Write, log: &Description) -> Outcome {
    writeln!(out, "log       {}", log.path.display())?;
    writeln!(out, "identity  {}", log.wal_id.as_deref().unwrap_or("-"))?;
    match log.writer {
        Writer::None => writeln!(out, "writer    none")?,
        Writer::Alive { durable_seq, poisoned } => writeln!(
            out,
            "writer    alive, durable to {}{}",
            durable_seq.map_or_else(|| "-".to_owned(), |seq| Count(seq).to_string()),
            if poisoned { ", poisoned: a write or sync failed" } else { "" }
        )?,
    }
    match (&log.recovery, &log.problem) {
        (Some(recovery), _) => writeln!(out, "holds     {recovery}")?,
        (None, Some(problem)) => writeln!(out, "damaged   {problem}")?,
        (None, None) => {}
    }
    let names = [
        "segment", "state", "records", "first", "last", "batches", "payload", "padding", "end", "durable", "epoch",
        "made",
    ];
    let mut rows = vec![names.map(str::to_owned).to_vec()];
    rows.extend(log.segments.iter().map(row));
    writeln!(out)?;
    table(out, &rows, |column| column >= 2 && column + 1 < names.len(), "")?;
    for segment in &log.segments {
        if let Some(fault) = &segment.fault {
            writeln!(out, "{}: {fault}", name_of(&segment.path))?;
        }
    }
    if log.spares > 0 {
        writeln!(out, "{} spare files ready", log.spares)?;
    }
    for (paths, what) in [(&log.leftovers, "left by a crash"), (&log.cut, "put aside by hand")] {
        for path in paths {
            writeln!(out, "{}: {what}", name_of(path))?;
        }
    }
    Ok(())
}

fn row(segment: &DescribedSegment) -> Vec<String> {
    let state = match segment.state {
        SegmentState::Ended => "ended",
        SegmentState::Current => "current",
        SegmentState::Closed => "closed",
        SegmentState::Dead => "dead",
        SegmentState::Damaged => "damaged",
    };
    let dash = || "-".to_owned();
    let header = segment.header.as_ref();
    let batches = segment.batches.as_ref();
    vec![
        segment.id.to_string(),
        state.to_owned(),
        batches.map_or_else(dash, |batches| Count(batches.records).to_string()),
        header.map_or_else(dash, |header| header.first_seq.to_string()),
        batches.and_then(|batches| batches.last_seq).map_or_else(dash, |seq| seq.to_string()),
        batches.map_or_else(dash, |batches| Count(batches.count).to_string()),
        batches.map_or_else(dash, |batches| Size(batches.payload_bytes).to_string()),
        batches.map_or_else(dash, |batches| Size(batches.pad_bytes).to_string()),
        batches.map_or_else(dash, |batches| batches.end.to_string()),
        batches.map_or_else(dash, |batches| super::place(batches.durable)),
        header.map_or_else(dash, |header| header.epoch.to_string()),
        header.map_or_else(dash, |header| rfc3339(header.created_ns)),
    ]
}
