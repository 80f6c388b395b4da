//! `chronicle symbols resolve`: who a venue's symbol was at a moment.

use super::load;
use crate::run::{Failure, Moment, Outcome, parse_moment, print_json, rfc3339, with_stdout};
use chronicle::{
    etl::symbols::Version,
    storage::root::{Date, Name, TimeNs},
};
use std::path::PathBuf;

/// Ask a symbol table who a venue's symbol was at a moment
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle symbols resolve dim_symbol.csv --venue binance-spot --symbol LUNAUSDT --at 2022-05-27T12:00:00Z
  chronicle symbols resolve dim_symbol.csv --venue binance-spot --symbol LUNAUSDT --at 2022-05-27 --json

The answer is the row that is valid then: valid_from <= time < valid_to. The directory is that of the time's day: a day has
the code that it began with, so one that changes within a day is in the paths from the next midnight on. Without a row that
is valid then, the rows before and behind it are told; exit code 1.")]
pub(crate) struct Args {
    /// The table, CSV or Parquet
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The venue
    #[arg(long)]
    venue: Name,
    /// The symbol as the venue writes it
    #[arg(long)]
    symbol: String,
    /// Time of the event, RFC 3339, or a date
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    at: Moment,
    /// One JSON object: {venue, raw_symbol, at, version: {symbol_id, symbol_code, symbol_version_id, valid_from, valid_to}, directory}
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Answer<'a> {
    venue: &'a Name,
    raw_symbol: &'a str,
    at: TimeNs,
    /// `None`: no row is valid then.
    version: Option<&'a Version>,
    /// Where the day's partitions are, below a tier's `v1`.
    directory: Option<String>,
    /// The last row before a time that no row is valid at, and the first one behind it.
    before: Option<&'a Version>,
    behind: Option<&'a Version>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let table = load(&args.file)?;
    let Args { venue, symbol, at, .. } = args;
    let version = table.resolve(venue.as_str(), symbol, at.ns).map(|found| found.version);
    let (before, behind) = match version {
        Some(_) => (None, None),
        None => table.around(venue.as_str(), symbol, at.ns),
    };
    let date = Date::of_ns(at.ns);
    let on = version.and_then(|version| table.on(venue, version.symbol_id, date));
    let directory = on.map(|on| format!("{venue}/{}/{date}", on.code));
    let answer = Answer { venue, raw_symbol: symbol, at: TimeNs(at.ns), version, directory, before, behind };
    if args.json {
        print_json(&answer)?;
        return if version.is_some() { Ok(()) } else { Err(Failure::told()) };
    }
    let Some(version) = version else {
        let end = |version: &Version| version.valid_to.map_or_else(String::new, |to| rfc3339(to.0));
        let mut why = match (before, behind) {
            (None, None) => "the table does not have it".to_owned(),
            _ => "no row is valid then".to_owned(),
        };
        if let Some(before) = before {
            why += &format!("; version {} ended at {}", before.symbol_version_id, end(before));
        }
        if let Some(behind) = behind {
            why += &format!("; version {} begins at {}", behind.symbol_version_id, rfc3339(behind.valid_from.0));
        }
        return Err(Failure::Problem(format!("{venue}/{symbol} at {}: {why}", rfc3339(at.ns))));
    };
    with_stdout(|out| {
        let Version { symbol_id, symbol_code, symbol_version_id, valid_from, valid_to, .. } = version;
        writeln!(out, "symbol_id          {symbol_id}")?;
        writeln!(out, "symbol_code        {symbol_code}")?;
        writeln!(out, "symbol_version_id  {symbol_version_id}")?;
        writeln!(out, "valid_from         {}", rfc3339(valid_from.0))?;
        writeln!(out, "valid_to           {}", valid_to.map_or_else(|| "open".to_owned(), |to| rfc3339(to.0)))?;
        writeln!(out, "directory          {}", answer.directory.as_deref().unwrap_or_default())?;
        Ok(())
    })
}
