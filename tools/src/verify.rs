//! `chronicle verify`: every CRC, seq, index and checksum.

use crate::run::{Count, Failure, Outcome, Size, bytes_bar, print_json, with_stdout};
use chronicle::{
    System,
    storage::verify::{Options, Report, verify_with},
};
use std::{io::Write, path::PathBuf};

/// Check every byte of a file, a queue, a partition's directory or a whole root
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle verify market
  chronicle verify market/cold/v1/binance-spot/btcusdt/2024-08-08/book.q.zst --json

Exit code 1 if anything is damaged; each problem names file and offset. A torn tail behind the last durable position of
a file that is still open is not damage, and is told.")]
pub(crate) struct Args {
    /// A root, a tier, a day's directory, a queue's directory, or a file
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// One JSON object: {files, bytes, frames, problems: [{path, offset, what}], …}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Outcome {
    if !args.path.exists() {
        return Err(Failure::Usage(format!("{}: no such file or directory", args.path.display())));
    }
    let bar = bytes_bar(0, "verify");
    if args.json {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let report = verify_with(&System, &args.path, Options::default(), &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    if args.json {
        print_json(&report)?;
    } else {
        with_stdout(|out| tell(out, &report))?;
    }
    if report.problems.is_empty() { Ok(()) } else { Err(Failure::told()) }
}

fn tell(out: &mut dyn Write, report: &Report) -> Outcome {
    for problem in &report.problems {
        writeln!(out, "damaged: {problem}")?;
    }
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    writeln!(
        out,
        "{}, {} frames, {}: {}",
        match report.files {
            1 => "1 file".to_owned(),
            n => format!("{} files", Count(n)),
        },
        Count(report.frames),
        Size(report.bytes),
        match report.problems.len() {
            0 => "whole".to_owned(),
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        }
    )?;
    Ok(())
}
