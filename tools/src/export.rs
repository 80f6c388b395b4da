//! `chronicle export`: tables made from the archive.

mod aside;
mod columns;

pub(crate) use self::aside::Aside;
use self::columns::Of;
use crate::{
    book::{not_there, parse_symbol},
    cat::parse_dates,
    run::{Count, Failure, Outcome, RootArgs, chain, with_stdout},
};
use chronicle::{
    System,
    etl::{
        Error,
        query::{Row, Rows, book_rows, export_book_snapshot},
    },
    storage::root::{Date, Name},
};
use serde_json::{Value, json};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Write tables from the archive
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle export --root market --venue binance-spot --symbol btcusdt --date 2024-08-08..2024-08-09 \\
                   --as book-snapshot --depth 25 --every 60s --csv
  chronicle export --root market --venue binance-spot --symbol btcusdt --date 2024-08-08 \\
                   --as arrow --what trades - | python3 docs/notebook.py
  chronicle export --root market --venue binance-spot --symbol btcusdt --date 2024-08-08 \\
                   --as parquet --what books --every 1s --depth 10 books.parquet

A row shows the book before the first event at or after its time, and belongs to the day of that time.

With --json each row is an object on a line of its own, under the CSV's names: {minute_ms, last_E, last_u, bid_levels,
ask_levels, asks: [{price, amount}, …], bids: [{price, amount}, …]}, prices and amounts as text with the venue's own
digits. Where the venue tells its orders one by one, the columns behind minute_ms are last_ts_event (nanoseconds), last_seq
and orders, their number, instead of last_E and last_u.

Rows are printed as they are made. If damage is met, those before it are right and not all: exit code 1, file and offset
and the number of rows on standard error, and with --json a last line {error, rows}.

Arrow and Parquet: times are Timestamp(ns, UTC), prices and quantities Decimal128(38, s), exact; s is the finest that the
days use, which takes a first pass, or what --price-scale and --qty-scale say. Columns and units: docs/replay.md.")]
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
    /// What comes out
    #[arg(long = "as", value_name = "FORMAT")]
    format: Format,
    /// Arrow and Parquet: which table
    #[arg(long, value_name = "TABLE", default_value = "books")]
    what: Of,
    /// Levels of each side
    #[arg(long, default_value_t = 25)]
    depth: usize,
    /// From one row to the next: 60s, 500ms, 5m, 1h
    #[arg(long, default_value = "60s", value_parser = parse_span)]
    every: u64,
    /// As CSV; so it is without --json, too
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// As JSON, an object a line; of a FILE: {file, rows, len, columns: [[name, type], …]}
    #[arg(long)]
    json: bool,
    /// Arrow and Parquet: digits behind the point in prices; one that does not fit is an error
    #[arg(long, value_name = "DIGITS", requires = "qty_scale", value_parser = clap::value_parser!(u8).range(0..=38))]
    price_scale: Option<u8>,
    /// The same in quantities
    #[arg(long, value_name = "DIGITS", requires = "price_scale", value_parser = clap::value_parser!(u8).range(0..=38))]
    qty_scale: Option<u8>,
    /// Arrow and Parquet: where to; `-` is standard output
    #[arg(value_name = "FILE", default_value = "-")]
    out: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Books at regular times as text: minute_ms, last_E, last_u, bid_levels, ask_levels, then the levels
    BookSnapshot,
    /// An Arrow IPC stream of a table
    Arrow,
    /// A Parquet file of a table
    Parquet,
}

pub(crate) fn parse_span(text: &str) -> Result<u64, String> {
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
    if args.format != Format::BookSnapshot {
        return columns::export(&args, &root);
    }
    if args.out != Path::new("-") || args.what != Of::Books {
        return Err(Failure::Usage(
            "--as book-snapshot prints books: FILE and --what are of arrow and parquet".to_owned(),
        ));
    }
    let rows = Rows { dates: args.date.0..=args.date.1, every_ns: args.every, depth: args.depth };
    let mut count = 0;
    let outcome = with_stdout(|out| {
        let outcome = if args.json {
            book_rows(&System, &root, &args.venue, &args.symbol, &rows, |row| {
                serde_json::to_writer(&mut *out, &object(&row, args.depth)).map_err(io::Error::from)?;
                out.write_all(b"\n")?;
                count += 1;
                Ok(())
            })
        } else {
            let mut lines = Lines { out: &mut *out, count: 0 };
            let outcome = export_book_snapshot(&System, &root, &args.venue, &args.symbol, &rows, &mut lines);
            // The heading is no row.
            count = lines.count.saturating_sub(1);
            outcome
        };
        match outcome {
            Err(Error::NotFound { .. } | Error::Output(_)) | Ok(()) => {}
            Err(ref error) if args.json => writeln!(out, "{}", json!({ "error": chain(error), "rows": count }))?,
            Err(_) => {}
        }
        outcome.map_err(|error| not_there(error, &root))
    });
    match outcome {
        Err(Failure::Problem(why)) if count > 0 => {
            Err(Failure::Problem(format!("{why}; the {} rows printed are not all", Count(count))))
        }
        other => other,
    }
}

/// A row under the names that the CSV's columns have.
fn object(row: &Row<'_>, depth: usize) -> Value {
    let book = row.book;
    let level = |(price, qty)| json!({ "price": book.price(price).to_string(), "amount": book.qty(qty).to_string() });
    let mut object = json!({
        "minute_ms": row.time_ns / 1_000_000,
        "bid_levels": book.bid_count(),
        "ask_levels": book.ask_count(),
        "asks": book.asks().take(depth).map(level).collect::<Value>(),
        "bids": book.bids().take(depth).map(level).collect::<Value>(),
    });
    match row.orders {
        Some(orders) => {
            object["last_ts_event"] = row.last_event_ns.into();
            object["last_seq"] = row.last_id.into();
            object["orders"] = orders.count().into();
        }
        None => {
            object["last_E"] = (row.last_event_ns / 1_000_000).into();
            object["last_u"] = row.last_id.into();
        }
    }
    object
}

/// Counts the lines that go through it.
struct Lines<'a> {
    out: &'a mut dyn Write,
    count: u64,
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.count += bytes[..written].iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
