//! What can be wrong in a symbol table: found in one pass over all of it, each fault with the rows that make it.
//!
//! | Kind | What is wrong |
//! |---|---|
//! | `columns` | a column is missing, or named twice |
//! | `unreadable` | a row is not what its file's format allows |
//! | `missing` | a value that must be there is not: any but `valid_to`; above all `valid_from` |
//! | `number` | `symbol_id` or `symbol_version_id` is no whole number from 0 to 2^63 - 1 |
//! | `name` | `venue` or `symbol_code` cannot be in a path, or the code is one that the refinery needs itself |
//! | `time` | `valid_from` or `valid_to` is no time, or says no time zone |
//! | `order` | `valid_from` is not before `valid_to` |
//! | `version` | two rows have one `symbol_version_id` |
//! | `overlap` | two rows about one text, or about one symbol, are valid at one time |
//! | `code` | two symbols have one `symbol_code`, at whatever times |
//! | `empty` | there is no row |
//!
//! A hole, a time between two versions of a symbol at which none is valid, is no fault in itself: a symbol may be taken off
//! and come back. [`super::Table::holes`] lists them, and `chronicle symbols check --strict` refuses them.

use core::fmt;
use std::collections::{BTreeSet, HashMap};

use chronicle_storage::root::{Date, Name, TimeNs};
use serde::Serialize;

use super::{COLUMNS, UNRESOLVED, Version};
use crate::refinery::NO_SYMBOL;

/// Problems that are kept; the others are counted.
const KEPT_MAX: usize = 1_000;
/// The year in which the nanoseconds of a `u64` end, and with them the times that a record can have.
const LAST_YEAR: i16 = 2554;
/// Longest text of a venue that is taken.
const RAW_MAX: usize = 256;

/// A row of a file: its line in a text file, its number from 1 in another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Row(pub u64);

/// How a file's rows are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// By line, the header is 1.
    Line,
    /// By row, from 1.
    Row,
}

impl RowKind {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Row => "row",
        }
    }
}

/// Which rule a row breaks. See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the table above says it once")]
pub enum ProblemKind {
    Columns,
    Unreadable,
    Missing,
    Number,
    Name,
    Time,
    Order,
    Version,
    Overlap,
    Code,
    Empty,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Which rule is broken.
    pub kind: ProblemKind,
    /// The rows that break it.
    pub rows: Vec<Row>,
    /// How.
    pub what: String,
}

/// Everything that is wrong with a table; never nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// How rows are counted.
    pub counted_by: RowKind,
    /// The first of them, in the order of their rows.
    pub list: Vec<Problem>,
    /// How many there are.
    pub count: u64,
}

impl Problems {
    pub(super) fn of(counted_by: RowKind, problem: Problem) -> Self {
        Self { counted_by, list: vec![problem], count: 1 }
    }

    /// A problem in words, with its rows.
    #[must_use]
    pub fn told<'a>(&self, problem: &'a Problem) -> impl fmt::Display + use<'a> {
        Told { problem, counted_by: self.counted_by }
    }
}

struct Told<'a> {
    problem: &'a Problem,
    counted_by: RowKind,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.counted_by.as_str();
        match self.problem.rows[..] {
            [] => {}
            [Row(one)] => write!(f, "{unit} {one}: ")?,
            [ref first @ .., Row(last)] => {
                write!(f, "{unit}s ")?;
                for (i, Row(row)) in first.iter().enumerate() {
                    write!(f, "{}{row}", if i == 0 { "" } else { ", " })?;
                }
                write!(f, " and {last}: ")?;
            }
        }
        f.write_str(&self.problem.what)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(first) = self.list.first() {
            self.told(first).fmt(f)?;
        }
        if self.count > 1 { write!(f, " (and {} more)", self.count - 1) } else { Ok(()) }
    }
}

impl std::error::Error for Problems {}

/// Takes rows and collects what is wrong with them.
pub(super) struct Reader {
    counted_by: RowKind,
    rows: Vec<(Row, Version)>,
    problems: Vec<Problem>,
    count: u64,
}

impl Reader {
    pub(super) fn new(counted_by: RowKind) -> Self {
        Self { counted_by, rows: Vec::new(), problems: Vec::new(), count: 0 }
    }

    pub(super) fn has_problems(&self) -> bool {
        self.count > 0
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.count += 1;
        if self.problems.len() < KEPT_MAX {
            self.problems.push(problem);
        }
    }

    /// Takes the texts of a row's [`COLUMNS`].
    pub(super) fn row(&mut self, row: Row, cells: [Option<&str>; COLUMNS.len()]) {
        let before = self.count;
        let mut wrong = |kind, what: String| self.problem(Problem { kind, rows: vec![row], what });
        let [venue, raw_symbol, symbol_id, symbol_code, version_id, valid_from, valid_to] = cells;
        for (cell, column) in cells.iter().zip(COLUMNS).filter(|(_, column)| *column != "valid_to") {
            if cell.is_none_or(str::is_empty) {
                wrong(ProblemKind::Missing, format!("{column} is missing"));
            }
        }
        let mut name = |column: &str, text: &str| match Name::new(text) {
            Ok(name) if column == "symbol_code" && [NO_SYMBOL, UNRESOLVED].contains(&text) => {
                wrong(ProblemKind::Name, format!("symbol_code {name} belongs to the refinery: take another"));
                None
            }
            Ok(name) => Some(name),
            Err(error) => {
                wrong(ProblemKind::Name, format!("{column}: {error}"));
                None
            }
        };
        let venue = venue.and_then(|text| name("venue", text));
        let symbol_code = symbol_code.and_then(|text| name("symbol_code", text));
        let mut number = |column: &str, text: &str| match text.parse::<i64>().ok().and_then(|n| u64::try_from(n).ok()) {
            Some(number) => Some(number),
            None => {
                wrong(ProblemKind::Number, format!("{column} \"{}\" is no whole number", shown(text)));
                None
            }
        };
        let symbol_id = symbol_id.and_then(|text| number("symbol_id", text));
        let version_id = version_id.and_then(|text| number("symbol_version_id", text));
        let mut time = |column: &str, text: &str| match moment(text) {
            Ok(moment) => moment,
            Err(why) => {
                wrong(ProblemKind::Time, format!("{column} \"{}\" {why}", shown(text)));
                None
            }
        };
        let from = valid_from.and_then(|text| time("valid_from", text));
        let to = valid_to.filter(|text| !text.is_empty()).and_then(|text| time("valid_to", text));
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            wrong(ProblemKind::Order, format!("valid_from {from} is not before valid_to {to}"));
        }
        if raw_symbol.is_some_and(|text| text.len() > RAW_MAX) {
            wrong(ProblemKind::Name, format!("raw_symbol has more than {RAW_MAX} bytes"));
        }
        let (Some(venue), Some(raw_symbol), Some(symbol_id), Some(symbol_code), Some(symbol_version_id)) =
            (venue, raw_symbol, symbol_id, symbol_code, version_id)
        else {
            return;
        };
        if let Some(valid_from) = from.filter(|_| self.count == before) {
            let raw_symbol = raw_symbol.to_owned();
            let version =
                Version { venue, raw_symbol, symbol_id, symbol_code, symbol_version_id, valid_from, valid_to: to };
            self.rows.push((row, version));
        } else if self.count == before {
            // Later than any time that a record can have.
            self.problem(Problem {
                kind: ProblemKind::Time,
                rows: vec![row],
                what: "valid_from is later than any record".to_owned(),
            });
        }
    }

    /// The rows, if nothing is wrong with them, one by one or together.
    pub(super) fn finish(self) -> Result<Vec<Version>, Problems> {
        let Self { counted_by, rows, mut problems, count } = self;
        if count == 0 {
            return checked(rows, counted_by);
        }
        // Those of rows together are told as well: nobody wants to mend a table twice.
        let mut all = count;
        if !rows.is_empty()
            && let Err(more) = checked(rows, counted_by)
        {
            all += more.count;
            problems.extend(more.list);
        }
        Err(sorted(counted_by, problems, all))
    }
}

fn sorted(counted_by: RowKind, mut list: Vec<Problem>, count: u64) -> Problems {
    list.sort_by(|a, b| a.rows.cmp(&b.rows));
    list.truncate(KEPT_MAX);
    Problems { counted_by, list, count }
}

/// A hostile table's text must not fill the message.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

/// A time; none for one that is later than any record's can be, as 9999-12-31 is.
fn moment(text: &str) -> Result<Option<TimeNs>, &'static str> {
    let date = text.get(.."2024-03-01".len()).and_then(|date| date.parse::<jiff::civil::Date>().ok());
    if date.is_some_and(|date| date.year() > LAST_YEAR) {
        return Ok(None);
    }
    let stamp = match text.parse::<jiff::Timestamp>() {
        Ok(stamp) => stamp,
        Err(_) => match (text.parse::<jiff::civil::Date>(), text.parse::<jiff::civil::DateTime>()) {
            (Ok(date), _) if text.len() == "2024-03-01".len() => match date.to_zoned(jiff::tz::TimeZone::UTC) {
                Ok(zoned) => zoned.timestamp(),
                Err(_) => return Err("is out of range"),
            },
            (_, Ok(_)) => return Err("says no time zone: write Z behind it if it is UTC"),
            _ => return Err("is no time: write it like 2024-08-09T10:00:00Z or 2024-08-09"),
        },
    };
    let ns = stamp.as_nanosecond();
    if ns < 0 {
        return Err("is before 1970");
    }
    Ok(u64::try_from(ns).ok().filter(|ns| *ns < Date::MAX.start_ns()).map(TimeNs))
}

/// Checks rows together that are right one by one.
pub(super) fn checked(rows: Vec<(Row, Version)>, counted_by: RowKind) -> Result<Vec<Version>, Problems> {
    let mut problems = Vec::new();
    if rows.is_empty() {
        problems.push(Problem { kind: ProblemKind::Empty, rows: Vec::new(), what: "no row".to_owned() });
    }
    let mut by_version = HashMap::<u64, Row>::new();
    let mut by_code = HashMap::<(&Name, &Name), (Row, u64)>::new();
    for (row, version) in &rows {
        if let Some(first) = by_version.insert(version.symbol_version_id, *row) {
            let what = format!("symbol_version_id {} is there twice", version.symbol_version_id);
            problems.push(Problem { kind: ProblemKind::Version, rows: vec![first, *row], what });
        }
        let (first, id) = *by_code.entry((&version.venue, &version.symbol_code)).or_insert((*row, version.symbol_id));
        if id != version.symbol_id {
            let what = format!(
                "symbol_code {} of {} belongs to symbol_id {id} and {}; give one of them another: a directory is one symbol's",
                version.symbol_code, version.venue, version.symbol_id
            );
            problems.push(Problem { kind: ProblemKind::Code, rows: vec![first, *row], what });
        }
    }
    let mut order: Vec<_> = rows.iter().collect();
    order.sort_by(|(_, a), (_, b)| {
        (&a.venue, &a.raw_symbol, a.valid_from).cmp(&(&b.venue, &b.raw_symbol, b.valid_from))
    });
    overlaps(&order, &mut problems, |a, b| {
        let same = (&a.venue, &a.raw_symbol) == (&b.venue, &b.raw_symbol);
        same.then(|| format!("{}/{}", a.venue, shown(&a.raw_symbol)))
    });
    order.sort_by_key(|(_, version)| (&version.venue, version.symbol_id, version.valid_from));
    overlaps(&order, &mut problems, |a, b| {
        let same = (&a.venue, a.symbol_id) == (&b.venue, b.symbol_id);
        same.then(|| format!("symbol_id {} of {}", a.symbol_id, a.venue))
    });
    // Two rows with one text and one symbol are told once.
    let mut seen = BTreeSet::new();
    problems.retain(|problem| problem.kind != ProblemKind::Overlap || seen.insert(problem.rows.clone()));
    if problems.is_empty() {
        return Ok(rows.into_iter().map(|(_, version)| version).collect());
    }
    let count = problems.len() as u64;
    Err(sorted(counted_by, problems, count))
}

/// Finds each row that begins before an earlier one of the same group ended; `rows` stand by group and `valid_from`.
fn overlaps(
    rows: &[&(Row, Version)],
    problems: &mut Vec<Problem>,
    same: impl Fn(&Version, &Version) -> Option<String>,
) {
    // The row of the group that reaches furthest.
    let mut reach: Option<&(Row, Version)> = None;
    for it in rows {
        let (row, version) = *it;
        let group = reach.and_then(|(_, before)| same(before, version));
        let Some(((before_row, before), group)) = reach.zip(group) else {
            reach = Some(it);
            continue;
        };
        if before.valid_to.is_none_or(|to| version.valid_from < to) {
            let until = before.valid_to.map_or_else(|| "open".to_owned(), |to| format!("until {to}"));
            let mut rows = vec![*before_row, *row];
            rows.sort();
            let what = format!("{group} has two versions from {} on: the other one is {until}", version.valid_from);
            problems.push(Problem { kind: ProblemKind::Overlap, rows, what });
        }
        let further = match (before.valid_to, version.valid_to) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(before), Some(this)) => this > before,
        };
        if further {
            reach = Some(it);
        }
    }
}
