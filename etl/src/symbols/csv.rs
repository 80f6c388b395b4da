//! A symbol table as CSV.

use sha2::{Digest, Sha256};

use super::problems::{Problem, ProblemKind, Problems, Reader, Row, RowKind};
use super::{COLUMNS, Table};

pub(super) fn read(bytes: &[u8]) -> Result<Table, Problems> {
    // A mark that some spreadsheets write in front of UTF-8.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut file = csv::ReaderBuilder::new().flexible(true).has_headers(false).trim(csv::Trim::All).from_reader(text);
    let mut records = file.byte_records();
    let mut reader = Reader::new(RowKind::Line);
    let header = match records.next() {
        None => return Err(Problems::of(RowKind::Line, header_problem("file is empty: no header line"))),
        Some(Ok(header)) => header,
        Some(Err(error)) => return Err(Problems::of(RowKind::Line, unreadable(&error))),
    };
    let mut places = [0; COLUMNS.len()];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        let mut found = header.iter().enumerate().filter(|(_, name)| *name == column.as_bytes()).map(|(at, _)| at);
        match (found.next(), found.next()) {
            (Some(at), None) => *place = at,
            (None, _) => reader.problem(header_problem(format!("header has no column {column}"))),
            (Some(_), Some(_)) => reader.problem(header_problem(format!("header names column {column} twice"))),
        }
    }
    if reader.has_problems() {
        return Err(reader.finish().expect_err("bug: a reader with problems finished"));
    }
    let mut lines = Lines { text, at: 0, line: 1 };
    for record in records {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                reader.problem(unreadable(&error));
                break;
            }
        };
        let line = lines.of(record.position().map_or(0, csv::Position::byte));
        if record.len() != header.len() {
            let what = format!("{} fields, the header has {}", record.len(), header.len());
            reader.problem(Problem { kind: ProblemKind::Unreadable, rows: vec![line], what });
            continue;
        }
        let mut cells = [None; COLUMNS.len()];
        let mut whole = true;
        for ((cell, at), column) in cells.iter_mut().zip(places).zip(COLUMNS) {
            match std::str::from_utf8(&record[at]) {
                Ok("") => {}
                Ok(text) => *cell = Some(text),
                Err(_) => {
                    whole = false;
                    let what = format!("{column} is not UTF-8");
                    reader.problem(Problem { kind: ProblemKind::Unreadable, rows: vec![line], what });
                }
            }
        }
        if whole {
            reader.row(line, cells);
        }
    }
    reader.finish().map(|versions| Table::of(versions, Sha256::digest(bytes).into()))
}

/// Lines by position. Those of the reader lag behind where a line ends in two bytes.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the record at or behind a position; positions only grow.
    fn of(&mut self, position: u64) -> Row {
        let position = position as usize;
        while let Some(byte) = self.text.get(self.at) {
            if self.at >= position && !matches!(byte, b'\r' | b'\n') {
                break;
            }
            self.line += u64::from(*byte == b'\n');
            self.at += 1;
        }
        Row(self.line)
    }
}

fn header_problem(what: impl Into<String>) -> Problem {
    Problem { kind: ProblemKind::Columns, rows: vec![Row(1)], what: what.into() }
}

fn unreadable(error: &csv::Error) -> Problem {
    let rows = error.position().map(|at| Row(at.line())).into_iter().collect();
    Problem { kind: ProblemKind::Unreadable, rows, what: error.to_string() }
}
