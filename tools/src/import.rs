//! `chronicle import`: recorded market data into the raw streams of a root.

mod half;
mod ledger;

use crate::{
    ingest::{Input, RawStream},
    run::{Count, Failure, Outcome, RootArgs, bytes_bar, print_json, with_stdout},
};
use chronicle::{
    System,
    feed::{
        Cut, Format, Report, Venue,
        report::{Checked, WrongChecksum},
    },
    storage::{
        queue::{Profile, PublisherOptions},
        root::{Name, Root},
    },
};
use half::Half;
use indicatif::ProgressBar;
use ledger::{Done, Entry, Ledger, State};
use std::{collections::BTreeMap, io::Write, path::PathBuf};

/// Append recorded market data to a root's raw streams; makes the root if there is none
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle import --venue binance-spot --root market btcusdt_20240808.gz btcusdt_20240809.gz
  chronicle import --root market BINANCE.ws.1.0 BINANCE.http.0.0 KRAKEN.ws.50.0
  chronicle import --root market deribit_incremental_book_L2_2020-04-01_BTC-PERPETUAL.csv.gz
  chronicle import --root market esh4-glbx-mdp3-20231225.mbo.dbn.zst
  zcat day.gz | chronicle import --venue binance-usdm --root market -

Formats, told by content unless --format names one; gzip and zstd are told by content too:
  binance      lines `<receive time, ns> <message>`
  cryptofeed   its captures: `<receive time, s>: <message>`, the recorder's own lines, answers behind their url
  tardis       CSV: incremental_book_L2, trades, quotes, book_snapshot_5, book_snapshot_25
  dbn          Databento: mbo, mbp-1, mbp-10, trades; definition, status and all else verbatim
  hyperliquid  lines `<receive time, ns> <message>`
The venue is what the data says (Tardis' column `exchange`, Databento's dataset, the host in a capture), else --venue.

A file is imported once, by its content: a second time it is skipped, under another name too, unless --again. An import that
was cut short goes on behind the last record that is there.

What the parser does not know is kept verbatim. Where the venue sends checksums of its books (kraken, okx), each is checked; a
wrong one is damage. Damage in a file does not stop the rest of it: every whole good record is imported, the rest is
reported, exit code 1. An empty line is damage too. If the root takes no more (a full disk, say), what was imported until then
stays and is reported; with --json, `error` has {why, file, records}: the file it stopped in, and how many of its records
are in.")]
pub(crate) struct Args {
    /// Whose data it is, where the files do not say: binance-spot, binance-usdm, binance-coinm, kraken, okx, coinbase, …
    #[arg(long)]
    venue: Option<Name>,
    /// What the files are: auto, binance, cryptofeed, tardis, dbn or hyperliquid
    #[arg(long, default_value = "auto", value_parser = parse_format, hide_default_value = true)]
    format: Wanted,
    #[command(flatten)]
    root: RootArgs,
    /// Import nothing if anything is wrong with any file
    #[arg(long)]
    strict: bool,
    /// Import also what was imported before
    #[arg(long)]
    again: bool,
    /// One JSON object: {files: [{name, format, venue, sha256, lines, records, by_kind, opaque, …, already}], skipped, imported, error}
    #[arg(long)]
    json: bool,
    /// Recordings; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// A format, or whatever the content says.
#[derive(Clone, Copy, Debug)]
struct Wanted(Option<Format>);

fn parse_format(name: &str) -> Result<Wanted, chronicle::feed::UnknownFormat> {
    if name == "auto" { Ok(Wanted(None)) } else { name.parse().map(|format| Wanted(Some(format))) }
}

/// A file whose format and venue are known.
struct File {
    input: Input,
    format: Format,
    venue: Name,
    sha256: [u8; 32],
}

impl File {
    fn hex(&self) -> String {
        self.sha256.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What became of a file that was read to its end.
#[derive(serde::Serialize)]
struct Read {
    #[serde(flatten)]
    report: Report,
    /// So many of its records were in the root before, from an import that was cut short.
    already: u64,
}

/// A file whose content was imported before.
#[derive(serde::Serialize)]
struct Skipped {
    name: String,
    sha256: String,
    venue: String,
    /// Under this name.
    imported_as: String,
    /// When.
    imported_at: String,
    records: u64,
}

#[derive(serde::Serialize)]
struct Imported<'a> {
    /// Those that were read to their end.
    files: &'a [Read],
    skipped: &'a [Skipped],
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

/// What is to be told.
#[derive(Default)]
struct Told {
    files: Vec<Read>,
    skipped: Vec<Skipped>,
}

pub(crate) fn run(args: Args) -> Outcome {
    let inputs = args.files.iter().map(|path| Input::open(path)).collect::<Result<Vec<_>, Failure>>()?;
    let mut files = inputs.into_iter().map(|input| known(&args, input)).collect::<Result<Vec<_>, Failure>>()?;
    let mut told = Told::default();
    if args.strict {
        for file in &mut files {
            let mut recorded = file.input.recorded(file.format, &file.venue, &ProgressBar::hidden())?;
            while recorded.advance()?.is_some() {}
            told.files.push(Read { report: recorded.into_report(), already: 0 });
        }
        if !told.files.iter().all(|read| read.report.is_clean()) {
            tell(&args, &told, false, None)?;
            return Err(Failure::Problem("nothing imported: --strict, and not every file is clean".to_owned()));
        }
        told.files.clear();
    }
    let root = args.root.named()?;
    match bring_in(&args, &root, files, &mut told) {
        Ok(()) => tell(&args, &told, true, None)?,
        Err((Failure::Problem(why), at)) => {
            let (file, records) = at.map_or((None, 0), |(file, records)| (Some(file), records));
            let imported = records > 0 || told.files.iter().any(|read| read.report.records > 0);
            let message = match &file {
                Some(file) => format!("{file}: stopped after {} records: {why}", Count(records)),
                None => why.clone(),
            };
            tell(&args, &told, imported, Some(Stopped { why, file, records }))?;
            return Err(Failure::Problem(message));
        }
        Err((usage, _)) => return Err(usage),
    }
    if told.files.iter().all(|read| read.report.is_clean()) { Ok(()) } else { Err(Failure::told()) }
}

/// Finds out what a file is and whose.
fn known(args: &Args, mut input: Input) -> Result<File, Failure> {
    let name = input.name.clone();
    let wrong = |why: String| Failure::Usage(format!("{name}: {why}"));
    let dialects = || Venue::ALL.iter().map(|venue| venue.name()).collect::<Vec<_>>().join(", ");
    let look = input.look(args.format.0)?;
    let is_dialect = |venue: &Name| venue.as_str().parse::<Venue>().is_ok();
    let format = match look.format {
        Some(format) => format,
        // Lines none of which can be read: what is wrong with each is told.
        None if args.venue.as_ref().is_some_and(is_dialect) => Format::Binance,
        None => {
            let formats = Format::ALL.map(Format::name).join(", ");
            return Err(wrong(format!("no format that is known; --format says which it is: {formats}")));
        }
    };
    let said = look.venue.map(|venue| Name::new(&venue)).transpose();
    let said = said.map_err(|error| wrong(format!("its venue cannot be a directory: {error}; --venue names another")));
    let venue = match (&args.venue, said) {
        (Some(venue), Ok(Some(said))) if *venue != said => {
            return Err(wrong(format!("it is of {said}, as it says itself; leave --venue {venue} away")));
        }
        (None, Ok(None)) => {
            return Err(wrong(format!("it does not say whose data it is; --venue does, one of {}", dialects())));
        }
        (None, Err(why)) => return Err(why),
        (Some(venue), _) => venue.clone(),
        (None, Ok(Some(said))) => said,
    };
    let is_messages = !matches!(format, Format::Tardis | Format::Dbn);
    if is_messages && !is_dialect(&venue) {
        return Err(wrong(format!("messages of `{venue}` cannot be read, only those of {}", dialects())));
    }
    let sha256 = input.sha256()?;
    Ok(File { input, format, venue, sha256 })
}

type At = Option<(String, u64)>;

/// Imports file by file, and says in which it stopped after how many records if it could not go on.
fn bring_in(args: &Args, root: &Root, files: Vec<File>, told: &mut Told) -> Result<(), (Failure, At)> {
    let between = |failure| (failure, None);
    // What is there already needs no lock: another's import may run.
    let mut left = Vec::new();
    let mut text_len: BTreeMap<Name, u64> = BTreeMap::new();
    for mut file in files {
        let ledger = Ledger::read(root, &file.venue).map_err(between)?;
        match skipped(args, &ledger, &file) {
            Some(skipped) => told.skipped.push(skipped),
            None => {
                *text_len.entry(file.venue.clone()).or_default() +=
                    file.input.text_len(TEXT_LEN_MAX).map_err(between)?;
                left.push(file);
            }
        }
    }
    let mut streams: BTreeMap<Name, (RawStream<'_>, Ledger)> = BTreeMap::new();
    for mut file in left {
        let (stream, ledger) = match streams.entry(file.venue.clone()) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let options = batch(text_len.get(&file.venue).copied().unwrap_or(0));
                let stream = RawStream::open(&System, root, file.venue.clone(), options).map_err(between)?;
                place.insert((stream, Ledger::read(root, &file.venue).map_err(between)?))
            }
        };
        // Twice on this command line, or by somebody else meanwhile.
        if let Some(skipped) = skipped(args, ledger, &file) {
            told.skipped.push(skipped);
            continue;
        }
        let bar = bytes_bar(file.input.len, &file.input.name);
        if args.json {
            bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        let mut records = 0;
        let read = take_in(args, root, stream, ledger, &mut file, &bar, &mut records);
        told.files.push(read.map_err(|failure| (failure, Some((file.input.name.clone(), records))))?);
        bar.finish_and_clear();
    }
    streams.into_values().try_for_each(|(stream, _)| stream.finish()).map_err(between)
}

/// Whether a file's content was imported to its end before.
fn skipped(args: &Args, ledger: &Ledger, file: &File) -> Option<Skipped> {
    let sha256 = file.hex();
    match ledger.about(&sha256).filter(|_| !args.again)? {
        Entry { state: State::Done(done), file: imported_as, at, .. } => Some(Skipped {
            name: file.input.name.clone(),
            sha256,
            venue: file.venue.to_string(),
            imported_as: imported_as.clone(),
            imported_at: at.clone(),
            records: done.records,
        }),
        Entry { state: State::Begun { .. }, .. } => None,
    }
}

/// Reads a file into its raw stream, behind what is there of it; `records` is how many are in, whatever happens.
fn take_in(
    args: &Args,
    root: &Root,
    stream: &mut RawStream<'_>,
    ledger: &mut Ledger,
    file: &mut File,
    bar: &ProgressBar,
    records: &mut u64,
) -> Result<Read, Failure> {
    let (name, sha256) = (file.input.name.clone(), file.hex());
    let half = match ledger.about(&sha256).filter(|_| !args.again) {
        // Under the name that it had: its records in the stream have that.
        Some(Entry { state: State::Begun { before }, file: begun_as, .. }) => {
            Half::of(root, stream.venue(), before.map(Into::into), begun_as, file.sha256)?
        }
        _ => {
            let before = stream.address()?.map(Into::into);
            ledger.append(Entry::new(State::Begun { before }, &name, &sha256, file.format))?;
            Half::default()
        }
    };
    let source = ledger.about(&sha256).map_or_else(|| name.clone(), |entry| entry.file.clone());
    *records = half.records;
    let (mut first_seq, mut last_seq) = (half.first_seq, half.last_seq);
    let mut is_current = half.is_current;
    let mut recorded = file.input.recorded(file.format, &file.venue, bar)?;
    let mut index = 0;
    while let Some(parsed) = recorded.advance()? {
        index += 1;
        if index <= half.records {
            continue;
        }
        if !is_current {
            // With the first record's time: the raw stream has no clock of its own.
            stream.source(&source, file.sha256, parsed.ingest_ns)?;
            is_current = true;
        }
        last_seq = stream.record(parsed)?;
        if *records == 0 {
            first_seq = last_seq;
        }
        *records += 1;
    }
    let report = recorded.into_report();
    if report.sha256 != sha256 {
        return Err(Failure::Problem("it changed while it was read; what was read of it is imported".to_owned()));
    }
    stream.sync()?;
    let done = Done {
        records: *records,
        first_seq,
        last_seq,
        first_ingest_ns: report.first_ingest_ns,
        last_ingest_ns: report.last_ingest_ns,
        clean: report.is_clean(),
    };
    ledger.append(Entry::new(State::Done(done), &source, &sha256, file.format))?;
    Ok(Read { report, already: half.records })
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

fn tell(args: &Args, told: &Told, imported: bool, error: Option<Stopped>) -> Outcome {
    let Told { files, skipped } = told;
    if args.json {
        return print_json(&Imported { files, skipped, imported, error });
    }
    with_stdout(|out| {
        for Skipped { name, imported_as, imported_at, records, .. } in skipped {
            let records = Count(*records);
            writeln!(out, "{name}: skipped: already imported as {imported_as} at {imported_at}, {records} records")?;
            writeln!(out, "  --again imports it once more")?;
        }
        for read in files {
            table(out, read)?;
        }
        if error.is_none() && imported && files.iter().any(|read| read.report.first_ingest_ns.is_some()) {
            writeln!(out, "next: chronicle refine {}", args.root)?;
        }
        Ok(())
    })
}

fn table(out: &mut dyn Write, Read { report, already }: &Read) -> Outcome {
    let Report { name, format, venue, .. } = report;
    writeln!(out, "{name}: {} lines, sha256 {}", Count(report.lines), report.sha256)?;
    writeln!(out, "  {format} of {venue}")?;
    if *already > 0 {
        writeln!(out, "  went on behind {:>9} records that were in already", Count(*already))?;
    }
    for (kind, count) in &report.by_kind {
        writeln!(out, "  {kind:<14} {:>12}", Count(*count))?;
    }
    if report.opaque > 0 {
        writeln!(out, "  kept verbatim  {:>12}", Count(report.opaque))?;
    }
    if report.unmapped > 0 {
        writeln!(out, "  unmapped       {:>12}; their symbol is the instrument's number", Count(report.unmapped))?;
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
        writeln!(out, "    so many: is it a recording of {venue}?")?;
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
