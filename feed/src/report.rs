//! What an import found, in the words of `chronicle import --json`.
//!
//! ```text
//! lines = malformed + the sum of by_kind; kinds in parentheses are the recorder's own lines and headers, and make no record
//! records = what was given out: at least one for each message, one for all rows of a message; `opaque` are kept verbatim
//! ```
//!
//! Every list here is bounded, whatever comes in: the counts go on when a list is full.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use chronicle_protocol::OpaqueReason;
use serde::{Serialize, Serializer};

use crate::flaw::Flaw;
use crate::format::Format;
use crate::text::{Cut, Ending, Lines};
use crate::witness::{Answer, Subject};

/// So many malformed lines are listed; all are counted.
pub const MALFORMED_LINES_MAX: usize = 1000;
/// So many kinds are counted by name, those that a venue's records are made of not among them.
const OTHER_KINDS_MAX: usize = 64;
/// The kind under which all further ones are counted.
const FURTHER_KINDS: &str = "(further kinds)";
/// A name longer than this is no kind's.
const KIND_LEN_MAX: usize = 64;
/// So many symbols are listed.
pub(crate) const SYMBOLS_MAX: usize = 1000;

/// A line that was not imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedLine {
    /// Counted from 1.
    pub line: u64,
    /// Offset of its first byte in the (decompressed) text.
    pub offset: u64,
    /// What is wrong with it.
    pub why: Flaw,
}

impl Serialize for MalformedLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape {
            line: u64,
            offset: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            at: Option<usize>,
            why: String,
        }
        Shape { line: self.line, offset: self.offset, at: self.why.at(), why: self.why.to_string() }
            .serialize(serializer)
    }
}

/// How often the venue said something about a book, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What the venue sent.
    pub sent: u64,
    /// Of these, compared: there was a whole book.
    pub checked: u64,
    /// Of these, what the book had too.
    pub matched: u64,
}

/// A checksum that was not the book's. The book is not followed any more from there to its next snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WrongChecksum {
    /// The line that it came in, counted from 1.
    pub line: u64,
    /// Whose book.
    pub symbol: String,
    /// What the venue sent.
    pub sent: u32,
    /// What the book had.
    pub computed: u32,
}

/// What one file held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The name that the file was given.
    pub name: String,
    /// What it is.
    pub format: Format,
    /// Whose data.
    pub venue: String,
    /// SHA-256 of the file's bytes as given, in hex.
    pub sha256: String,
    /// Length of the file as given.
    pub bytes: u64,
    /// Whole lines; of a binary file its records.
    pub lines: u64,
    /// Records given out.
    pub records: u64,
    /// Lines by the venue's word for the message; the malformed not among them.
    pub by_kind: BTreeMap<String, u64>,
    /// Messages kept verbatim.
    pub opaque: u64,
    /// The same by reason.
    pub opaque_by_reason: BTreeMap<&'static str, u64>,
    /// Lines that are no message. They are not imported.
    pub malformed: u64,
    /// The first [`MALFORMED_LINES_MAX`] of them.
    pub malformed_lines: Vec<MalformedLine>,
    /// Where the gzip was cut, if it was.
    pub truncated_at: Option<Cut>,
    /// Where the gzip was damaged otherwise, if it was.
    pub corrupt_at: Option<Cut>,
    /// The symbols that messages named, the first thousand.
    pub symbols: BTreeSet<String>,
    /// Records of a binary file whose instrument it does not name: their symbol is the instrument's number.
    pub unmapped: u64,
    /// Snapshots that named no symbol and were given the only one named so far, in a file that then named another.
    pub doubtful_snapshots: u64,
    /// The venue's checksums of its books, by symbol; those of the first thousand.
    pub checksums: BTreeMap<String, Checked>,
    /// Checksums that were not the book's.
    pub wrong_checksums: u64,
    /// The first [`MALFORMED_LINES_MAX`] of them.
    pub wrong_checksum_lines: Vec<WrongChecksum>,
    /// Changes of books that could only be kept verbatim, so that a book could not be followed.
    pub broken_books: u64,
    /// Best prices that the venue sent beside its books, by symbol. They may be older than the book: one that differs is
    /// no damage.
    pub best_prices: BTreeMap<String, Checked>,
    /// Least receive time of the records.
    pub first_ingest_ns: Option<u64>,
    /// Greatest receive time of the records.
    pub last_ingest_ns: Option<u64>,
}

impl Report {
    pub(crate) fn new(name: String, format: Format, venue: &str, kinds: &[&str]) -> Self {
        Self {
            name,
            format,
            venue: venue.to_owned(),
            sha256: String::new(),
            bytes: 0,
            lines: 0,
            records: 0,
            by_kind: kinds.iter().map(|kind| ((*kind).to_owned(), 0)).collect(),
            opaque: 0,
            opaque_by_reason: BTreeMap::new(),
            malformed: 0,
            malformed_lines: Vec::new(),
            truncated_at: None,
            corrupt_at: None,
            symbols: BTreeSet::new(),
            unmapped: 0,
            doubtful_snapshots: 0,
            checksums: BTreeMap::new(),
            wrong_checksums: 0,
            wrong_checksum_lines: Vec::new(),
            broken_books: 0,
            best_prices: BTreeMap::new(),
            first_ingest_ns: None,
            last_ingest_ns: None,
        }
    }

    /// Nothing is wrong with the file: no line malformed, the gzip whole, every book as its venue says. What `--strict` asks.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.malformed == 0
            && self.wrong_checksums == 0
            && self.broken_books == 0
            && self.truncated_at.is_none()
            && self.corrupt_at.is_none()
    }

    /// The file came to its end.
    pub(crate) fn end(&mut self, ending: Option<&Ending>, sha256: [u8; 32], bytes: u64) {
        match ending {
            Some(Ending::Truncated(cut)) => self.truncated_at = Some(cut.clone()),
            Some(Ending::Corrupt(cut)) => self.corrupt_at = Some(cut.clone()),
            Some(Ending::Whole) | None => {}
        }
        self.sha256 = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        self.bytes = bytes;
    }

    /// Its lines came to their end.
    pub(crate) fn close<R: Read>(&mut self, lines: &Lines<R>) {
        self.end(lines.ending(), lines.sha256(), lines.file_offset());
    }

    pub(crate) fn count_kind(&mut self, kind: &str, known: usize) {
        if let Some(count) = self.by_kind.get_mut(kind) {
            *count += 1;
            return;
        }
        let has_room = self.by_kind.len() < known + OTHER_KINDS_MAX && kind.len() <= KIND_LEN_MAX;
        *self.by_kind.entry(if has_room { kind } else { FURTHER_KINDS }.to_owned()).or_default() += 1;
    }

    pub(crate) fn count_malformed(&mut self, line: u64, offset: u64, why: Flaw) {
        self.malformed += 1;
        if self.malformed_lines.len() < MALFORMED_LINES_MAX {
            self.malformed_lines.push(MalformedLine { line, offset, why });
        }
    }

    pub(crate) fn count_opaque(&mut self, reason: OpaqueReason) {
        self.opaque += 1;
        *self.opaque_by_reason.entry(reason.as_str()).or_default() += 1;
    }

    /// What a record proved about the book of `symbol`.
    pub(crate) fn count_answer(&mut self, answer: Answer, symbol: &str, line: u64) {
        let (subject, checked, matched) = match answer {
            Answer::Nothing => return,
            Answer::Broken => {
                self.broken_books += 1;
                return;
            }
            Answer::Unchecked(subject) => (subject, false, false),
            Answer::Matched(subject) => (subject, true, true),
            Answer::OtherBest => (Subject::Best, true, false),
            Answer::WrongChecksum { sent, computed } => {
                self.wrong_checksums += 1;
                if self.wrong_checksum_lines.len() < MALFORMED_LINES_MAX {
                    let symbol = symbol.to_owned();
                    self.wrong_checksum_lines.push(WrongChecksum { line, symbol, sent, computed });
                }
                (Subject::Checksum, true, false)
            }
        };
        let checks = if subject == Subject::Checksum { &mut self.checksums } else { &mut self.best_prices };
        if !checks.contains_key(symbol) {
            if checks.len() == SYMBOLS_MAX {
                return;
            }
            checks.insert(symbol.to_owned(), Checked::default());
        }
        if let Some(counts) = checks.get_mut(symbol) {
            counts.sent += 1;
            counts.checked += u64::from(checked);
            counts.matched += u64::from(matched);
        }
    }

    pub(crate) fn see_symbol(&mut self, symbol: &str) {
        if self.symbols.len() < SYMBOLS_MAX && !self.symbols.contains(symbol) {
            self.symbols.insert(symbol.to_owned());
        }
    }

    pub(crate) fn see_ingest(&mut self, ingest_ns: u64) {
        self.first_ingest_ns = Some(self.first_ingest_ns.map_or(ingest_ns, |first| first.min(ingest_ns)));
        self.last_ingest_ns = Some(self.last_ingest_ns.map_or(ingest_ns, |last| last.max(ingest_ns)));
    }
}
