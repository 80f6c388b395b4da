//! `chronicle refine`: raw streams into partitions by day.

mod follow;

use self::follow::{Wait, follow};
use crate::run::{Count, Failure, Outcome, RootArgs, count_bar, print_json, with_stdout};
use crate::symbols::load;
use chronicle::{
    System,
    etl::{
        refine::{Options, Progress, SHARDS_MAX, refine, venues},
        refinery::LatePolicy,
        report::Report,
        symbols::Unresolved,
    },
    storage::root::{Name, Root, Stream},
};
use std::{io::Write, path::PathBuf, thread};

/// Turn the raw streams of a root into order books, trades and quotes, partitioned by day
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle refine --root market
  chronicle refine --root market --seal --json
  chronicle refine --root market --symbols dim_symbol.csv --unresolved unresolved
  chronicle refine --root market --shards 8
  chronicle refine --root market --follow
  chronicle refine --root market --venue binance-spot --follow --wait spin --json

Goes on where the last run stopped; running it again changes nothing. A day stays open until an hour after its end has
passed on the same symbol, or until --seal. Gaps, duplicates and late records are results, not problems: exit code 0.
With a symbol table, a symbol is who the table says it was at the time of the event, and keeps its book when it is renamed.
The table goes into the checkpoint: later runs need no --symbols, and a later table may only extend it.

With --follow it stays until Ctrl-C or SIGTERM: readers of an open day see a record as soon as it is refined; durable it
is with the next checkpoint, every few seconds. Every so often it tells rates and lag: how long records took from their
receipt until readers could see them. However many shards, followed or not, interrupted or not: the same bytes.")]
pub(crate) struct Args {
    #[command(flatten)]
    root: RootArgs,
    /// What becomes of records that arrive more than an hour after their day: reject or late_stream; fixed at first use
    #[arg(long, value_name = "POLICY")]
    late_policy: Option<LatePolicy>,
    /// Who a symbol is: a symbol table (`chronicle symbols --help`); without, as in the last run, at first the venue's text
    #[arg(long, value_name = "FILE")]
    symbols: Option<PathBuf>,
    /// What becomes of records that the symbol table knows nobody for: error or unresolved (kept there, as they came)
    #[arg(long, value_name = "POLICY", requires = "symbols")]
    unresolved: Option<Unresolved>,
    /// Seal every open day
    #[arg(long)]
    seal: bool,
    /// Only this venue
    #[arg(long)]
    venue: Option<Name>,
    /// Threads that share out the symbols [default: one for each processor; with --follow, 1, which answers soonest]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=SHARDS_MAX as u64))]
    shards: Option<u64>,
    /// Raw records from one checkpoint to the next, at least: what is done again after a kill
    #[arg(long, value_name = "COUNT", default_value_t = Options::default().checkpoint_frames,
        value_parser = clap::value_parser!(u64).range(1..))]
    checkpoint_frames: u64,
    /// Stay, and take in what comes, until Ctrl-C
    #[arg(long, conflicts_with = "seal")]
    follow: bool,
    /// While there is nothing to follow
    #[arg(long, value_name = "HOW", default_value = "sleep", requires = "follow")]
    wait: Wait,
    /// Seconds from one line about rates and lag to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 5, requires = "follow",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    status_every: u64,
    /// Follow for so many seconds only
    #[arg(long, value_name = "SECONDS", requires = "follow")]
    lasts: Option<u64>,
    /// One JSON object: {partitions: [{venue, symbol, date, stream, applied, …, gaps, sealed}]}; with --follow, {status} lines before it
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Outcome {
    let root = args.root.existing()?;
    let report = if args.follow { follow_all(&args, &root)? } else { refine_all(&args, &root)? };
    if args.json {
        return print_json(&report);
    }
    with_stdout(|out| {
        table(out, &report)?;
        for table in &report.tables {
            let (venue, versions, sha256) = (&table.venue, Count(table.versions), &table.sha256);
            writeln!(out, "symbols of {venue}: by a table of {versions} versions, sha256 {sha256}")?;
        }
        if let Some(p) = report.partitions.iter().find(|p| p.stream == Stream::Book && p.counts.applied > 0) {
            let (root, venue, symbol) = (&args.root, &p.venue, &p.symbol);
            writeln!(out, "next: chronicle book {root} --venue {venue} --symbol {symbol} --at latest")?;
        }
        Ok(())
    })
}

fn refine_all(args: &Args, root: &Root) -> Result<Report, Failure> {
    let bar = count_bar("refined");
    if args.json {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let cores = || thread::available_parallelism().map_or(1, |cores| cores.get().min(SHARDS_MAX));
    let shards = args.shards.map_or_else(cores, |shards| shards as usize);
    let options = Options { shards, ..options(args)? };
    let mut done = Done::default();
    let report =
        refine(&System, root, args.venue.as_ref(), &options, |progress| bar.set_position(done.add(&progress)))?;
    bar.finish_and_clear();
    Ok(report)
}

fn options(args: &Args) -> Result<Options, Failure> {
    let Args { late_policy, unresolved, seal, checkpoint_frames, .. } = *args;
    let symbols = args.symbols.as_deref().map(load).transpose()?;
    Ok(Options { late_policy, symbols, unresolved, seal, checkpoint_frames, ..Options::default() })
}

fn follow_all(args: &Args, root: &Root) -> Result<Report, Failure> {
    let venues = match &args.venue {
        Some(venue) => vec![venue.clone()],
        None => venues(&System, root)?,
    };
    if venues.is_empty() {
        let why = "no venue has a raw stream yet; name the one to wait for with --venue";
        return Err(Failure::Usage(format!("{}: {why}", args.root.root.display())));
    }
    let shards = args.shards.map_or(1, |shards| shards as usize);
    follow(args, root, &venues, &Options { shards, ..options(args)? })
}

fn table(out: &mut dyn Write, report: &Report) -> Outcome {
    if report.partitions.is_empty() {
        writeln!(out, "nothing to refine: no raw records yet; `chronicle import` brings some")?;
        return Ok(());
    }
    writeln!(
        out,
        "{:<14} {:<14} {:<10} {:<7} {:>10} {:>10} {:>8} {:>6} {:>6} {:>6} {:>5} {:>6}",
        "venue", "symbol", "date", "stream", "events", "applied", "before", "dup", "unused", "late", "gaps", "sealed"
    )?;
    for p in &report.partitions {
        writeln!(
            out,
            "{:<14} {:<14} {:<10} {:<7} {:>10} {:>10} {:>8} {:>6} {:>6} {:>6} {:>5} {:>6}",
            p.venue.as_str(),
            p.symbol.as_str(),
            p.date.to_string(),
            p.stream.to_string(),
            Count(p.counts.events),
            Count(p.counts.applied),
            Count(p.counts.dropped_before_snapshot),
            Count(p.counts.duplicates),
            Count(p.counts.not_applied),
            Count(p.counts.late),
            p.gaps.len(),
            if p.sealed { "yes" } else { "no" }
        )?;
        for gap in &p.gaps {
            writeln!(
                out,
                "    gap at {}: ids {} to {} missing ({})",
                gap.time, gap.missing_from, gap.missing_to, gap.cause
            )?;
        }
    }
    Ok(())
}

/// Frames over all venues: each counts its own.
#[derive(Default)]
pub(crate) struct Done {
    venue: String,
    before: u64,
    frames: u64,
}

impl Done {
    pub(crate) fn add(&mut self, progress: &Progress<'_>) -> u64 {
        if self.venue != progress.venue.as_str() {
            self.venue = progress.venue.as_str().to_owned();
            self.before += self.frames;
        }
        self.frames = progress.frames;
        self.before + self.frames
    }
}
