//! `chronicle quality`: what the days of a root are worth.
//!
//! The numbers are the library's ([`chronicle::etl::quality`]); here they become a table, an object, or one page for a
//! browser (`quality/page.rs`).

mod page;

use crate::run::{Count, Failure, Outcome, RootArgs, Size, TierArgs, chain, name_of, print_json, with_stdout};
use chronicle::{
    System,
    etl::{
        oddity::Oddity,
        quality::{DayId, DayQuality, Look, Totals, VenueQuality, days, join_checkpoint, look},
        refine::durable_lens,
    },
    storage::{
        reader::ArchiveReader,
        root::{Date, Name, Root},
    },
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Say what the days of a root are worth: coverage, gaps, late, repeated and crossed data, rates
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle quality market
  chronicle quality market --html -o quality.html
  chronicle quality market --venue binance-spot --from 2024-08-01 --to 2024-08-31 --json

Each partition is read from end to end, on all processors; --quick asks names, lengths and meta.json alone, and then there
is no valid time and no rate. Gaps are results, not problems. Exit code 1 if a file is damaged: what
could be read of its day is shown beside what is wrong with it.")]
pub(crate) struct Args {
    /// Directory that has warm/ cold/ under it
    #[arg(value_name = "ROOT")]
    root: PathBuf,
    #[command(flatten)]
    tiers: TierArgs,
    /// Only this venue
    #[arg(long)]
    venue: Option<Name>,
    /// Only this symbol
    #[arg(long, value_parser = crate::book::parse_symbol)]
    symbol: Option<Name>,
    /// Only days from this one on
    #[arg(long, value_name = "DATE")]
    from: Option<Date>,
    /// Only days up to this one
    #[arg(long, value_name = "DATE")]
    to: Option<Date>,
    /// Read no partition
    #[arg(long)]
    quick: bool,
    /// One page for a browser: nothing in it is fetched from anywhere
    #[arg(long)]
    html: bool,
    /// Into this file; else on standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// One JSON object: {root, read, totals, venues, days: [{venue, symbol, date, sealed, counts, gaps, late, book, rates, streams, …}]}
    #[arg(long, conflicts_with = "html")]
    json: bool,
}

/// All that is known.
#[derive(Serialize)]
struct Quality {
    /// The root's name without its directories.
    root: String,
    /// The partitions were read.
    read: bool,
    totals: Totals,
    venues: Vec<VenueQuality>,
    days: Vec<DayQuality>,
    /// What is wrong beside the days' own files.
    problems: Vec<String>,
}

pub(crate) fn run(args: Args) -> Outcome {
    let root = RootArgs { root: args.root.clone(), tiers: args.tiers.clone() }.existing()?;
    let quality = survey(&args, &root)?;
    let is_whole = quality.problems.is_empty() && quality.totals.damaged == 0;
    match &args.output {
        Some(path) if path != Path::new("-") => {
            let mut bytes = Vec::new();
            write(&args, &quality, &mut bytes)?;
            fs::write(path, &bytes)
                .map_err(|error| Failure::Problem(format!("{}: cannot be written: {error}", path.display())))?;
            if !args.json {
                with_stdout(|out| {
                    writeln!(out, "{}: {}", path.display(), Size(bytes.len() as u64))?;
                    total_line(out, &quality)
                })?;
            }
        }
        _ if args.json => print_json(&quality)?,
        _ => with_stdout(|out| write(&args, &quality, out))?,
    }
    if is_whole { Ok(()) } else { Err(Failure::told()) }
}

fn write(args: &Args, quality: &Quality, out: &mut dyn Write) -> Outcome {
    if args.json {
        serde_json::to_writer(&mut *out, quality).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else if args.html {
        page::write(out, quality)?;
    } else {
        table(out, quality)?;
    }
    Ok(())
}

fn survey(args: &Args, root: &Root) -> Result<Quality, Failure> {
    let archive = ArchiveReader::open(&System, root)?;
    let mut all = days(&System, root)?;
    all.retain(|day| {
        args.venue.as_ref().is_none_or(|venue| day.venue == *venue)
            && args.symbol.as_ref().is_none_or(|symbol| day.symbol == *symbol)
            && args.from.is_none_or(|from| day.date >= from)
            && args.to.is_none_or(|to| day.date <= to)
    });
    if all.is_empty() && (args.venue.is_some() || args.symbol.is_some()) {
        return Err(Failure::Usage(format!("nothing like that is stored{}", crate::run::what_there_is(root))));
    }
    let mut problems = Vec::new();
    let venues: BTreeSet<Name> = all.iter().map(|day| day.venue.clone()).collect();
    let mut durable = BTreeMap::new();
    for venue in &venues {
        match durable_lens(&System, root, venue) {
            Ok(lens) => durable.extend(lens),
            Err(error) => problems.push(chain(&error)),
        }
    }
    let mut found = look_at_all(&archive, &all, Look { read: !args.quick, durable: &durable }, args.json)?;
    let mut of_venues = Vec::new();
    for venue in &venues {
        // What is wrong with it was said above.
        of_venues.extend(join_checkpoint(&System, root, venue, &mut found).unwrap_or_default());
    }
    Ok(Quality {
        root: name_of(&args.root.canonicalize().unwrap_or_else(|_| args.root.clone())),
        read: !args.quick,
        totals: Totals::of(&found),
        venues: of_venues,
        days: found,
        problems,
    })
}

/// Looks at all days, on all processors; the answers are in the days' order.
fn look_at_all(
    archive: &ArchiveReader<System>,
    days: &[DayId],
    how: Look<'_>,
    silent: bool,
) -> Result<Vec<DayQuality>, Failure> {
    let bar = ProgressBar::new(days.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:32}] {human_pos} of {human_len} days, {eta} left") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message("looking");
    if silent {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(BTreeMap::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(days.len().max(1));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    // ORDERING: Relaxed; it hands out numbers and publishes nothing.
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(day) = days.get(at) else { break };
                    let answer = look(&System, archive, day, how);
                    answers.lock().unwrap_or_else(PoisonError::into_inner).insert(at, answer);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(answers.into_values().collect::<Result<Vec<_>, _>>()?)
}

/// Whether a day is final, in a word.
fn state_of(day: &DayQuality) -> &'static str {
    match (day.problems.is_empty(), day.sealed) {
        (false, _) => "damaged",
        (true, true) => "sealed",
        (true, false) => "open",
    }
}

/// The share of the time between a day's first and last event that has a valid book, in thousandths.
fn valid_permille(day: &DayQuality) -> Option<u64> {
    let book = day.book.as_ref()?;
    let whole = book.valid_ns.checked_add(book.invalid_ns)?;
    match whole {
        // One event alone, or none that gave a book.
        0 => book.begun.then_some(1000),
        // What is not quite all is not all.
        _ => Some((u128::from(book.valid_ns) * 1000 / u128::from(whole)) as u64),
    }
}

fn percent(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// Nanoseconds as people say them.
fn time_of(ns: u64) -> String {
    match ns {
        0 => "0".to_owned(),
        1..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        1_000_000_000..60_000_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        _ => {
            let seconds = ns / 1_000_000_000;
            format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
        }
    }
}

fn table(out: &mut dyn Write, quality: &Quality) -> Outcome {
    if quality.days.is_empty() {
        writeln!(out, "nothing is refined yet; `chronicle refine` does it")?;
        return Ok(());
    }
    writeln!(
        out,
        "{:<14} {:<14} {:<10} {:<7} {:>8} {:>5} {:>10} {:>8} {:>8} {:>10} {:>11} {:>10}",
        "venue", "symbol", "date", "state", "valid", "gaps", "not valid", "late", "dup", "crossed", "records", "bytes"
    )?;
    for day in &quality.days {
        let book = day.book.as_ref();
        let time =
            |of: fn(&chronicle::etl::quality::BookQuality) -> u64| book.map_or("-".to_owned(), |b| time_of(of(b)));
        writeln!(
            out,
            "{:<14} {:<14} {:<10} {:<7} {:>8} {:>5} {:>10} {:>8} {:>8} {:>10} {:>11} {:>10}",
            day.venue.as_str(),
            day.symbol.as_str(),
            day.date.to_string(),
            state_of(day),
            valid_permille(day).map_or("-".to_owned(), percent),
            Count(day.own_gaps()),
            time(|book| book.invalid_ns),
            day.late.map_or("-".to_owned(), |late| Count(late).to_string()),
            Count(day.count("duplicates")),
            time_of(day.count(Oddity::CrossedNs.as_str())),
            Count(day.count("events")),
            Size(day.bytes())
        )?;
        for problem in &day.problems {
            writeln!(out, "    damaged: {problem}")?;
        }
    }
    for problem in &quality.problems {
        writeln!(out, "damaged: {problem}")?;
    }
    total_line(out, quality)
}

fn total_line(out: &mut dyn Write, quality: &Quality) -> Outcome {
    let Totals { days, sealed, damaged, events, gaps, .. } = &quality.totals;
    writeln!(
        out,
        "{} days of symbols, {} sealed, {} damaged: {} records, {} gaps",
        Count(*days),
        Count(*sealed),
        Count(*damaged),
        Count(*events),
        Count(*gaps)
    )?;
    Ok(())
}
