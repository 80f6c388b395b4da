//! `chronicle derive`: features computed from books, as Parquet in paths that query engines read as columns.

use crate::{
    book::{not_there, parse_symbol},
    cat::parse_dates,
    export::{Aside, parse_span},
    run::{Count, Failure, Outcome, RootArgs, count_bar, print_json, with_stdout},
};
use chronicle::{
    System,
    etl::{features::shipped, query::Rows},
    storage::{
        reader::ArchiveReader,
        root::{Date, Name, Root},
    },
};
use chronicle_columnar::{Error, ParquetFile, Sink, derive, feature_schema};
use serde_json::json;
use std::path::PathBuf;

/// Compute features of a symbol's books into Parquet files, one for each day
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle derive --root market --venue binance-spot --symbol btcusdt --every 1s
  chronicle derive --root market --venue binance-spot --symbol btcusdt --date 2024-08-08 --every 100ms --out derived

A row stands at each multiple of --every and is about the book before the first event at or after it; where ids are
missing, `valid` is false and all else is null. Columns: time, valid, mid, spread, microprice, imbalance_1, imbalance_5, ofi;
what they are is in docs/replay.md. Floats: they are derived, the archive keeps the exact numbers.

A file is DIR/book/venue=V/symbol=S/date=D/book.parquet; one that is there is replaced when the new one is whole. The same
archive gives the same bytes. Features of your own: a Rust trait, chronicle_etl::features.")]
pub(crate) struct Args {
    #[command(flatten)]
    root: RootArgs,
    /// Such as binance-spot
    #[arg(long)]
    venue: Name,
    /// The symbol code, or the venue's own symbol
    #[arg(long, value_parser = parse_symbol)]
    symbol: Name,
    /// A day, or a range of days `A..B` with both ends; all, if none is given
    #[arg(long, value_name = "D[..D]", value_parser = parse_dates)]
    date: Option<(Date, Date)>,
    /// From one row to the next: 60s, 500ms, 5m, 1h
    #[arg(long, default_value = "1s", value_parser = parse_span)]
    every: u64,
    /// Where to, if not ROOT/derived
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// One JSON object: {files: [{file, date, rows}]}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Outcome {
    let root = args.root.existing()?;
    let (venue, symbol) = (&args.venue, &args.symbol);
    let mut dates = ArchiveReader::open(&System, &root)?.dates(venue, symbol)?;
    if dates.is_empty() {
        let (venue, symbol) = (venue.clone(), symbol.clone());
        return Err(not_there(chronicle::etl::Error::NotFound { venue, symbol }, &root));
    }
    dates.retain(|date| args.date.is_none_or(|(first, last)| (first..=last).contains(date)));
    let out = args.out.clone().unwrap_or_else(|| args.root.root.join("derived"));
    let bar = count_bar("derived");
    if args.json {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let mut files = Vec::new();
    for date in dates {
        let dir = out.join(format!("book/venue={venue}/symbol={symbol}/date={date}"));
        let file = dir.join("book.parquet");
        let rows = day(&args, &root, date, &file)?;
        bar.inc(rows);
        files.push((file, date, rows));
    }
    bar.finish_and_clear();
    if args.json {
        let files: Vec<_> =
            files.iter().map(|(file, date, rows)| json!({ "file": file, "date": date, "rows": rows })).collect();
        return print_json(&json!({ "files": files }));
    }
    with_stdout(|out| {
        for (file, _, rows) in &files {
            writeln!(out, "{:>12} rows  {}", Count(*rows), file.display())?;
        }
        Ok(())
    })
}

/// One day's file.
fn day(args: &Args, root: &Root, date: Date, file: &std::path::Path) -> Result<u64, Failure> {
    let failure = |error| match error {
        Error::Read(error) => not_there(error, root),
        other => other.into(),
    };
    let (venue, symbol) = (&args.venue, &args.symbol);
    let mut feature = shipped();
    let aside = Aside::new(file)?;
    let mut sink = ParquetFile::new(aside.out(), feature_schema(venue, symbol, &feature)).map_err(failure)?;
    let rows = Rows { dates: date..=date, every_ns: args.every, depth: 0 };
    let count = derive(&System, root, venue, symbol, &rows, &mut feature, &mut sink).map_err(failure)?;
    sink.close().map_err(failure)?;
    aside.publish()?;
    Ok(count)
}
