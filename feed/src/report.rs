//! What an import found, in the words of `chronicle import --json`.
//!
//! ```text
//! lines = malformed + the sum of by_kind; kinds in parentheses are the recorder's own lines, and make no record
//! records = what was given out, at least one for each message; of these, `opaque` are kept verbatim
//! ```
//!
//! Every list here is bounded, whatever comes in: the counts go on when a list is full.

use std::collections::{BTreeMap, BTreeSet};

use chronicle_protocol::OpaqueReason;
use serde::{Serialize, Serializer};

use crate::flaw::Flaw;
use crate::text::Cut;

/// So many malformed lines are listed; all are counted.
pub const MALFORMED_LINES_MAX: usize = 1000;
/// So many kinds are counted by name, those that a venue's records are made of not among them.
const OTHER_KINDS_MAX: usize = 64;
/// The kind under which all further ones are counted.
const FURTHER_KINDS: &str = "(further kinds)";
/// A name longer than this is no kind's.
const KIND_LEN_MAX: usize = 64;
/// So many symbols are listed.
const SYMBOLS_MAX: usize = 1000;

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

/// What one file held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The name that the file was given.
    pub name: String,
    /// SHA-256 of the file's bytes as given, in hex.
    pub sha256: String,
    /// Length of the file as given.
    pub bytes: u64,
    /// Whole lines.
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
    /// Snapshots that named no symbol and were given the only one named so far, in a file that then named another.
    pub doubtful_snapshots: u64,
    /// Least receive time of the records.
    pub first_ingest_ns: Option<u64>,
    /// Greatest receive time of the records.
    pub last_ingest_ns: Option<u64>,
}

impl Report {
    pub(crate) fn new(name: String, kinds: &[&str]) -> Self {
        Self {
            name,
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
            doubtful_snapshots: 0,
            first_ingest_ns: None,
            last_ingest_ns: None,
        }
    }

    /// Nothing is wrong with the file: no line malformed, the gzip whole. What `--strict` asks.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.malformed == 0 && self.truncated_at.is_none() && self.corrupt_at.is_none()
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
