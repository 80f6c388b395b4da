//! `chronicle symbols`: the table that says who a symbol is, checked and asked.

mod check;
mod resolve;

use crate::run::{Failure, Outcome};
use chronicle::etl::symbols::{Problems, Table};
use chronicle_columnar::symbols as parquet;
use clap::Subcommand;
use sha2::{Digest, Sha256};
use std::{fs, path::Path};

/// Check a symbol table, or ask it who a symbol was
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  chronicle symbols check dim_symbol.csv
  chronicle symbols resolve dim_symbol.csv --venue binance-spot --symbol LUNAUSDT --at 2022-05-27

A table has a row for each stretch of time in which nothing about a symbol changed (a slowly changing dimension, type 2), in
CSV with a header line, or Parquet. Its columns: venue, raw_symbol (the venue's own text), symbol_id (whole number; the same over all
names), symbol_code (the name in paths), symbol_version_id (whole number, unique), valid_from (RFC 3339, or a date) and
valid_to (the first moment at which the row is not valid any more; empty = open). Other columns are passed over.
`chronicle refine --symbols FILE` uses it.")]
pub(crate) enum Command {
    Check(check::Args),
    Resolve(resolve::Args),
}

pub(crate) fn run(command: Command) -> Outcome {
    match command {
        Command::Check(args) => check::run(&args),
        Command::Resolve(args) => resolve::run(&args),
    }
}

/// Longest table that is read: ten million versions.
const LEN_MAX: u64 = 1 << 30;

/// The bytes of a table's file.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let there = fs::metadata(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    if there.len() > LEN_MAX {
        return Err(Failure::Problem(format!("{}: {} bytes, at most {LEN_MAX} expected", path.display(), there.len())));
    }
    fs::read(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// A table, or what is wrong with it; its first bytes say which format it has.
fn parse(bytes: Vec<u8>) -> Result<Table, Problems> {
    if bytes.starts_with(parquet::MAGIC) {
        let sha256 = Sha256::digest(&bytes).into();
        return parquet::symbols(bytes, sha256);
    }
    Table::from_csv(&bytes)
}

/// A table that must be right.
pub(crate) fn load(path: &Path) -> Result<Table, Failure> {
    parse(read(path)?).map_err(|problems| {
        Failure::Problem(format!("{}: {problems}; `chronicle symbols check` lists all", path.display()))
    })
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
