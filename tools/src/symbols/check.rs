//! `chronicle symbols check`: everything that is wrong with a symbol table, and what is in it.

use super::{hex, parse, read};
use crate::run::{Count, Failure, Outcome, print_json, rfc3339, with_stdout};
use chronicle::{
    etl::symbols::{Problem, Problems, Table, Version},
    storage::root::{Name, TimeNs},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, io::Write, path::PathBuf};

/// Find everything that is wrong with a symbol table
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle symbols check dim_symbol.csv
  chronicle symbols check dim_symbol.csv --strict --json

Wrong are: a value or a column that is missing (all but valid_to must be there), a name that no path can hold, a time without
time zone, valid_from not before valid_to, one symbol_version_id twice, two rows that are valid at one time about one text or
about one symbol, and one symbol_code for two symbols. Each is told with its lines (rows in Parquet); exit code 1. With --strict so is a hole,
a time between two versions of a symbol at which it has none; without, holes are listed: it may have been delisted.")]
pub(crate) struct Args {
    /// The table, CSV or Parquet
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A hole between two versions of a symbol is wrong, too
    #[arg(long)]
    strict: bool,
    /// One JSON object: {file, sha256, right, counted_by, problem_count, problems: [{kind, rows, what}], venues, renames, holes}
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Checked<'a> {
    file: String,
    sha256: String,
    /// Nothing is wrong with it.
    right: bool,
    /// What `rows` of a problem count: `line` or `row`.
    counted_by: Option<String>,
    problem_count: u64,
    problems: &'a [Problem],
    venues: BTreeMap<&'a Name, InVenue>,
    renames: Vec<Rename<'a>>,
    holes: Vec<Hole<'a>>,
}

#[derive(serde::Serialize, Default)]
struct InVenue {
    symbols: u64,
    versions: u64,
    /// Symbols whose last version is not open.
    ended: u64,
}

/// Two versions that follow each other under two names.
#[derive(serde::Serialize)]
struct Rename<'a> {
    venue: &'a Name,
    symbol_id: u64,
    from: &'a str,
    to: &'a str,
    from_code: &'a Name,
    to_code: &'a Name,
    at: TimeNs,
    /// The first day whose directory has the new code.
    code_from: String,
}

#[derive(serde::Serialize)]
struct Hole<'a> {
    venue: &'a Name,
    symbol_id: u64,
    symbol_code: &'a Name,
    from: TimeNs,
    to: TimeNs,
}

pub(super) fn run(args: &Args) -> Outcome {
    let bytes = read(&args.file)?;
    let sha256 = hex(Sha256::digest(&bytes).into());
    let table = parse(bytes);
    let (right, checked) = match &table {
        Ok(table) => {
            let holes = holes(table);
            (!args.strict || holes.is_empty(), checked(args, sha256, Ok((table, holes))))
        }
        Err(problems) => (false, checked(args, sha256, Err(problems))),
    };
    let checked = Checked { right, ..checked };
    if args.json {
        print_json(&checked)?;
    } else {
        with_stdout(|out| show(out, &checked, table.as_ref().err()))?;
    }
    if right { Ok(()) } else { Err(Failure::told()) }
}

fn checked<'a>(args: &Args, sha256: String, found: Result<(&'a Table, Vec<Hole<'a>>), &'a Problems>) -> Checked<'a> {
    let mut checked = Checked {
        file: args.file.display().to_string(),
        sha256,
        right: false,
        counted_by: None,
        problem_count: 0,
        problems: &[],
        venues: BTreeMap::new(),
        renames: Vec::new(),
        holes: Vec::new(),
    };
    match found {
        Err(problems) => {
            checked.counted_by = Some(problems.counted_by.as_str().to_owned());
            (checked.problem_count, checked.problems) = (problems.count, &problems.list);
        }
        Ok((table, holes)) => {
            checked.holes = holes;
            for (venue, id) in table.symbols() {
                let versions: Vec<_> = table.of_symbol(venue, id).collect();
                let of = checked.venues.entry(venue).or_default();
                of.symbols += 1;
                of.versions += versions.len() as u64;
                of.ended += u64::from(versions.last().is_some_and(|last| last.valid_to.is_some()));
                let pairs = versions.windows(2).map(|pair| (pair[0], pair[1]));
                checked.renames.extend(pairs.filter(|(a, b)| is_rename(a, b)).map(|(a, b)| rename(table, a, b)));
            }
        }
    }
    checked
}

fn is_rename(a: &Version, b: &Version) -> bool {
    a.raw_symbol != b.raw_symbol || a.symbol_code != b.symbol_code
}

fn rename<'a>(table: &Table, a: &'a Version, b: &'a Version) -> Rename<'a> {
    let mut day = chronicle::storage::root::Date::of_ns(b.valid_from.0);
    let begins_with = |day| table.on(&b.venue, b.symbol_id, day).is_some_and(|on| on.code == b.symbol_code);
    if !begins_with(day) {
        day = day.next().unwrap_or(day);
    }
    Rename {
        venue: &b.venue,
        symbol_id: b.symbol_id,
        from: &a.raw_symbol,
        to: &b.raw_symbol,
        from_code: &a.symbol_code,
        to_code: &b.symbol_code,
        at: b.valid_from,
        code_from: day.to_string(),
    }
}

fn holes(table: &Table) -> Vec<Hole<'_>> {
    let all = table.holes().filter_map(|(before, behind)| {
        let Version { venue, symbol_id, symbol_code, valid_to, .. } = before;
        Some(Hole { venue, symbol_id: *symbol_id, symbol_code, from: (*valid_to)?, to: behind.valid_from })
    });
    all.collect()
}

/// Lines of one kind that are shown.
const SHOWN: usize = 50;

fn show(out: &mut dyn Write, checked: &Checked<'_>, problems: Option<&Problems>) -> Outcome {
    writeln!(out, "{}: sha256 {}", checked.file, checked.sha256)?;
    if let Some(problems) = problems {
        for problem in problems.list.iter().take(SHOWN) {
            writeln!(out, "  {}", problems.told(problem))?;
        }
        if problems.count > SHOWN as u64 {
            writeln!(out, "  … and {} more; --json lists up to 1,000", Count(problems.count - SHOWN as u64))?;
        }
        writeln!(out, "{} problems", Count(problems.count))?;
        return Ok(());
    }
    for (venue, of) in &checked.venues {
        let InVenue { symbols, versions, ended } = of;
        writeln!(
            out,
            "  {venue}: {} symbols, {} versions, {} ended",
            Count(*symbols),
            Count(*versions),
            Count(*ended)
        )?;
    }
    for r in checked.renames.iter().take(SHOWN) {
        let (from, to, at) = (r.from, r.to, rfc3339(r.at.0));
        writeln!(
            out,
            "  {} symbol_id {}: {from} becomes {to} at {at}, {} becomes {} on {}",
            r.venue, r.symbol_id, r.from_code, r.to_code, r.code_from
        )?;
    }
    if checked.renames.len() > SHOWN {
        writeln!(out, "  … and {} renames more; --json lists them", checked.renames.len() - SHOWN)?;
    }
    for h in checked.holes.iter().take(SHOWN) {
        let (from, to) = (rfc3339(h.from.0), rfc3339(h.to.0));
        writeln!(out, "  {} symbol_id {} ({}): no version from {from} to {to}", h.venue, h.symbol_id, h.symbol_code)?;
    }
    if checked.holes.len() > SHOWN {
        writeln!(out, "  … and {} holes more; --json lists them", checked.holes.len() - SHOWN)?;
    }
    match (checked.right, checked.holes.len()) {
        (true, _) => writeln!(out, "right; next: chronicle refine --symbols {} --root …", checked.file)?,
        (false, holes) => writeln!(out, "{holes} holes, and --strict allows none")?,
    }
    Ok(())
}
