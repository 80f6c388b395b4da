//! `chronicle import`: recorded messages into the raw stream of a root.

use crate::{
    ingest::{Input, RawStream, play},
    run::{Count, Failure, Outcome, RootArgs, bytes_bar, print_json, with_stdout},
};
use chronicle::{
    System,
    feed::{Cut, Report, Venue, check},
    storage::queue::{Profile, PublisherOptions},
};
use std::{io::Write, path::PathBuf};

/// Append recorded messages to a root's raw stream; makes the root if there is none
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle import --venue binance-spot --root market btcusdt_20240808.gz btcusdt_20240809.gz
  zcat day.gz | chronicle import --venue binance-usdm --root market -

A line is `<receive time, ns> <json>`; gzip is told by content. What the parser does not know is kept verbatim.
Damage in a file does not stop the rest of it: every whole good record is imported, the rest is reported, exit code 1.")]
pub(crate) struct Args {
    /// Whose messages they are: binance-spot, binance-usdm or binance-coinm
    #[arg(long)]
    venue: Venue,
    #[command(flatten)]
    root: RootArgs,
    /// Import nothing if anything is wrong with any file
    #[arg(long)]
    strict: bool,
    /// One JSON object: {files: [{name, sha256, lines, by_kind, opaque, malformed, truncated_at, …}]}
    #[arg(long)]
    json: bool,
    /// Recordings; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(serde::Serialize)]
struct Imported<'a> {
    files: &'a [Report],
    imported: bool,
}

pub(crate) fn run(args: Args) -> Outcome {
    let mut inputs = args.files.iter().map(|path| Input::open(path)).collect::<Result<Vec<_>, Failure>>()?;
    if args.strict {
        let mut reports = Vec::new();
        for input in &mut inputs {
            let name = input.name.clone();
            reports.push(check(args.venue, name, input.reader()?)?);
        }
        if !reports.iter().all(Report::is_clean) {
            tell(&args, &reports, false)?;
            return Err(Failure::Problem("nothing imported: --strict, and not every file is clean".to_owned()));
        }
    }
    let system = System;
    let root = args.root.named();
    let mut text_len = 0;
    for input in &mut inputs {
        text_len += input.text_len(TEXT_LEN_MAX)?;
    }
    let mut stream = RawStream::open(&system, &root, args.venue, batch(text_len))?;
    let mut reports = Vec::new();
    for input in &mut inputs {
        let bar = bytes_bar(input.len, &input.name);
        if args.json {
            bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        reports.push(play(&mut stream, args.venue, input, &bar, |_, _| ())?);
        bar.finish_and_clear();
    }
    stream.finish()?;
    tell(&args, &reports, true)?;
    if reports.iter().all(Report::is_clean) { Ok(()) } else { Err(Failure::told()) }
}

/// Text above which segments have their full length.
const TEXT_LEN_MAX: u64 = 32 << 20;

/// The raw profile for something that ends: nothing is prepared that is not needed, and a small file takes little disk.
///
/// Each segment can hold all of a small input, so no record is too large for it. Whoever writes next chooses anew.
fn batch(text_len: u64) -> PublisherOptions {
    let raw = PublisherOptions::new(Profile::Raw);
    // A record is shorter than twice its text.
    let enough = (2 * text_len.min(TEXT_LEN_MAX) + (1 << 20)).next_power_of_two().max(4 << 20);
    let segment_len = u32::try_from(enough).unwrap_or(u32::MAX).min(raw.segment_len);
    PublisherOptions { segment_len, segments_ahead: 1, prepare_late: true, ..raw }
}

fn tell(args: &Args, reports: &[Report], imported: bool) -> Outcome {
    if args.json {
        return print_json(&Imported { files: reports, imported });
    }
    with_stdout(|out| {
        table(out, args.venue, reports)?;
        if imported && reports.iter().any(|report| report.first_ingest_ns.is_some()) {
            writeln!(out, "next: chronicle refine --root {}", args.root.root.display())?;
        }
        Ok(())
    })
}

fn table(out: &mut dyn Write, venue: Venue, reports: &[Report]) -> Outcome {
    for report in reports {
        writeln!(out, "{}: {} lines, sha256 {}", report.name, Count(report.lines), report.sha256)?;
        for (kind, count) in &report.by_kind {
            writeln!(out, "  {kind:<14} {:>12}", Count(*count))?;
        }
        if report.opaque > 0 {
            writeln!(out, "  kept verbatim  {:>12}", Count(report.opaque))?;
        }
        if report.malformed > 0 {
            writeln!(out, "  malformed      {:>12}", Count(report.malformed))?;
        }
        for bad in report.malformed_lines.iter().take(20) {
            writeln!(out, "    line {} at byte {}: {}", bad.line, bad.offset, bad.why)?;
        }
        if report.malformed > 20 {
            writeln!(out, "    … and {} more; --json lists them", report.malformed - 20)?;
        }
        if report.malformed > report.lines / 20 {
            writeln!(out, "    so many: is it a recording of {}?", venue.name())?;
        }
        if let Some(cut) = &report.truncated_at {
            writeln!(out, "  truncated: {}", cut_text(cut))?;
        }
        if let Some(cut) = &report.corrupt_at {
            writeln!(out, "  damaged: {}", cut_text(cut))?;
        }
    }
    Ok(())
}

fn cut_text(cut: &Cut) -> String {
    format!(
        "{} at byte {} of the file, in line {}: {} bytes of text came out, the last {} of them no whole line",
        cut.why, cut.compressed_offset, cut.line, cut.text_offset, cut.partial_len
    )
}
