//! `chronicle import`: recorded messages into the raw stream of a root.

use crate::{
    ingest::{Input, RawStream, play},
    run::{Count, Failure, Outcome, RootArgs, bytes_bar, print_json, with_stdout},
};
use chronicle::{
    System,
    feed::{
        Cut, Report, Venue, check,
        report::{Checked, WrongChecksum},
    },
    storage::{
        queue::{Profile, PublisherOptions},
        root::Root,
    },
};
use std::{collections::BTreeMap, io::Write, path::PathBuf};

/// Append recorded messages to a root's raw stream; makes the root if there is none
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle import --venue binance-spot --root market btcusdt_20240808.gz btcusdt_20240809.gz
  chronicle import --venue binance-spot --root market BINANCE.ws.1.0 BINANCE.http.0.0
  zcat day.gz | chronicle import --venue binance-usdm --root market -

A line is `<receive time, ns> <json>`, or as cryptofeed captures them: `<receive time, s>: <json>` with the recorder's own
lines between, and answers to requests behind their url. Gzip is told by content. What the parser does not know is kept
verbatim. Where the venue sends checksums of its books (kraken, okx), each is checked; a wrong one is damage.
Damage in a file does not stop the rest of it: every whole good record is imported, the rest is reported, exit code 1.
An empty line is damage too. If the root takes no more (a full disk, say), what was imported until then stays and is
reported; with --json, `error` has {why, file, records}: the file it stopped in, and how many of its records are in.")]
pub(crate) struct Args {
    /// Whose messages they are: binance-spot, binance-usdm, binance-coinm, kraken, okx or coinbase
    #[arg(long)]
    venue: Venue,
    #[command(flatten)]
    root: RootArgs,
    /// Import nothing if anything is wrong with any file
    #[arg(long)]
    strict: bool,
    /// One JSON object: {files: [{name, sha256, lines, records, by_kind, opaque, malformed, checksums, truncated_at, …}], imported, error}
    #[arg(long)]
    json: bool,
    /// Recordings; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(serde::Serialize)]
struct Imported<'a> {
    /// Those that were read to their end.
    files: &'a [Report],
    /// Records of them are in the root.
    imported: bool,
    error: Option<Stopped>,
}

/// Where an import ended before its files did.
#[derive(serde::Serialize)]
struct Stopped {
    why: String,
    /// `None`: before the first file, or behind the last.
    file: Option<String>,
    /// Records of that file that are in the root.
    records: u64,
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
            tell(&args, &reports, false, None)?;
            return Err(Failure::Problem("nothing imported: --strict, and not every file is clean".to_owned()));
        }
    }
    let root = args.root.named()?;
    let mut reports = Vec::new();
    match bring_in(&args, &root, &mut inputs, &mut reports) {
        Ok(()) => tell(&args, &reports, true, None)?,
        Err((Failure::Problem(why), at)) => {
            let (file, records) = at.map_or((None, 0), |(file, records)| (Some(file), records));
            let imported = records > 0 || reports.iter().any(|report| report.records > 0);
            let message = match &file {
                Some(file) => format!("{file}: stopped after {} records: {why}", Count(records)),
                None => why.clone(),
            };
            tell(&args, &reports, imported, Some(Stopped { why, file, records }))?;
            return Err(Failure::Problem(message));
        }
        Err((usage, _)) => return Err(usage),
    }
    if reports.iter().all(Report::is_clean) { Ok(()) } else { Err(Failure::told()) }
}

/// Imports file by file, and says in which it stopped after how many records if it could not go on.
fn bring_in(
    args: &Args,
    root: &Root,
    inputs: &mut [Input],
    reports: &mut Vec<Report>,
) -> Result<(), (Failure, Option<(String, u64)>)> {
    let between = |failure| (failure, None);
    let mut text_len = 0;
    for input in inputs.iter_mut() {
        text_len += input.text_len(TEXT_LEN_MAX).map_err(between)?;
    }
    let mut stream = RawStream::open(&System, root, args.venue, batch(text_len)).map_err(between)?;
    for input in inputs {
        let bar = bytes_bar(input.len, &input.name);
        if args.json {
            bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        let before = stream.appended();
        let report = play(&mut stream, args.venue, input, &bar).map_err(|failure| {
            // The frame that names the file is none of its records.
            let records = (stream.appended() - before).saturating_sub(1);
            (failure, Some((input.name.clone(), records)))
        })?;
        reports.push(report);
        bar.finish_and_clear();
    }
    stream.finish().map_err(between)
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

fn tell(args: &Args, reports: &[Report], imported: bool, error: Option<Stopped>) -> Outcome {
    if args.json {
        return print_json(&Imported { files: reports, imported, error });
    }
    with_stdout(|out| {
        table(out, args.venue, reports)?;
        if error.is_none() && imported && reports.iter().any(|report| report.first_ingest_ns.is_some()) {
            writeln!(out, "next: chronicle refine {}", args.root)?;
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
        checks(out, "checksums", "the book's", &report.checksums)?;
        checks(out, "best prices", "the book's; a ticker may be older than its book", &report.best_prices)?;
        for wrong in report.wrong_checksum_lines.iter().take(20) {
            let WrongChecksum { line, symbol, sent, computed } = wrong;
            writeln!(out, "    line {line}: {symbol}: checksum {sent:08x} sent, {computed:08x} of the book")?;
        }
        if report.wrong_checksums > 20 {
            writeln!(out, "    … and {} more; --json lists them", report.wrong_checksums - 20)?;
        }
        if report.broken_books > 0 {
            let count = Count(report.broken_books);
            writeln!(
                out,
                "  books broken   {count:>12} times: a change that no record holds; a gap is marked behind each"
            )?;
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

/// What the venue said about its books, and what came of it, by symbol.
fn checks(out: &mut dyn Write, what: &str, whose: &str, by_symbol: &BTreeMap<String, Checked>) -> Outcome {
    let sum = |of: fn(&Checked) -> u64| Count(by_symbol.values().map(of).sum());
    if by_symbol.is_empty() {
        return Ok(());
    }
    let (sent, checked, matched) = (sum(|c| c.sent), sum(|c| c.checked), sum(|c| c.matched));
    writeln!(out, "  {what:<14} {sent:>12} sent, {checked} checked, {matched} {whose}")?;
    for (symbol, Checked { sent, checked, matched }) in by_symbol.iter().take(40) {
        let (sent, checked, matched) = (Count(*sent), Count(*checked), Count(*matched));
        writeln!(out, "    {symbol:<14} {sent:>10} sent, {checked} checked, {matched} matched")?;
    }
    if by_symbol.len() > 40 {
        writeln!(out, "    … and {} symbols more; --json lists them", by_symbol.len() - 40)?;
    }
    Ok(())
}

fn cut_text(cut: &Cut) -> String {
    format!(
        "{} at byte {} of the file, in line {}: {} bytes of text came out, the last {} of them no whole line",
        cut.why, cut.compressed_offset, cut.line, cut.text_offset, cut.partial_len
    )
}
