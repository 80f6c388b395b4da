//! `chronicle export`: tables made from the archive.

use crate::{
    book::{Out, not_there, parse_symbol},
    cat::parse_dates,
    run::{Failure, Outcome, RootArgs, with_stdout},
};
use chronicle::{
    System,
    etl::query::{Rows, export_book_snapshot},
    storage::root::{Date, Name},
};

/// Write tables from the archive
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle export --root market --venue binance-spot --symbol btcusdt --date 2024-08-08..2024-08-09 \\
                   --as book-snapshot --depth 25 --every 60s --csv

A row shows the book before the first event at or after its time, and belongs to the day of that time.")]
pub(crate) struct Args {
    #[command(flatten)]
    root: RootArgs,
    /// Such as binance-spot
    #[arg(long)]
    venue: Name,
    /// The symbol code, or the venue's own symbol
    #[arg(long, value_parser = parse_symbol)]
    symbol: Name,
    /// A day, or a range of days `A..B` with both ends
    #[arg(long, value_name = "D[..D]", value_parser = parse_dates)]
    date: (Date, Date),
    /// What the rows are
    #[arg(long = "as", value_name = "TABLE")]
    table: Table,
    /// Levels of each side
    #[arg(long, default_value_t = 25)]
    depth: usize,
    /// From one row to the next: 60s, 500ms, 5m, 1h
    #[arg(long, default_value = "60s", value_parser = parse_span)]
    every: u64,
    /// As CSV, the only form so far
    #[arg(long)]
    csv: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Table {
    /// Books at regular times: minute_ms, last_E, last_u, bid_levels, ask_levels, then the levels.
    BookSnapshot,
}

fn parse_span(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => 1_000_000,
        "s" | "" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(format!("unit \"{unit}\" is none of ms, s, m, h")),
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)) {
        Some(ns) if (1_000_000..=86_400_000_000_000).contains(&ns) => Ok(ns),
        _ => Err("write it like 60s, from 1ms to 24h".to_owned()),
    }
}

pub(crate) fn run(args: Args) -> Outcome {
    if args.depth == 0 || args.depth > 100_000 {
        return Err(Failure::Usage("--depth must be from 1 to 100000".to_owned()));
    }
    let root = args.root.existing()?;
    let Table::BookSnapshot = args.table;
    let _the_only_form = args.csv;
    let rows = Rows { dates: args.date.0..=args.date.1, every_ns: args.every, depth: args.depth };
    with_stdout(|out| {
        export_book_snapshot(&System, &root, &args.venue, &args.symbol, &rows, &mut Out(out))
            .map_err(|error| not_there(error, &root))
    })
}
