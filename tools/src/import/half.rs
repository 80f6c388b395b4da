//! How much of an import that was cut short is in the raw stream.
//!
//! ```text
//! … | source of another | records | source of this file | records 1..k | source of another | … | end
//!     ^ before, as the ledger has it                       ^^^^^^^^^^^^ these
//! ```
//!
//! The stream is the truth: a record is in it or is not, whatever a writer meant to do when it died. One writer appends at a
//! time and each says whose its records are, so those of a file are all behind sources with its name and content.

use crate::run::Failure;
use chronicle::{
    System,
    protocol::{Record, type_id},
    storage::{
        raw::{RawCursor, RawEvent, RawReader},
        root::{Name, Root},
    },
};

/// What is there of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Half {
    /// Records of the file.
    pub(crate) records: u64,
    /// Seqs of the first and the last of them.
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    /// What is appended now counts as of this file: its source was the last.
    pub(crate) is_current: bool,
}

impl Half {
    /// Counts the records of a file behind a place in a venue's raw stream.
    pub(crate) fn of(
        root: &Root,
        venue: &Name,
        before: Option<RawCursor>,
        name: &str,
        sha256: [u8; 32],
    ) -> Result<Self, Failure> {
        let mut raw = RawReader::open(&System, root, venue, before)?;
        let mut half = Half::default();
        while let Some(event) = raw.next()? {
            match event {
                RawEvent::Lost { from, to, .. } if half.is_current => {
                    return Err(Failure::Problem(format!(
                        "{name}: its import was cut short, and frames {from} to {to} of the raw stream of {venue} are lost: \
                         nobody knows how much of it is there; --again imports it from its beginning"
                    )));
                }
                RawEvent::Lost { .. } => {}
                RawEvent::Frame(raw) if raw.frame.type_id == type_id::SOURCE => {
                    let payload = raw.frame.payload.as_slice(None).unwrap_or_default();
                    let source = Record::parse(raw.frame.type_id, payload);
                    half.is_current =
                        matches!(source, Ok(Record::Source(s)) if s.name == name && s.sha256 == Some(sha256));
                }
                RawEvent::Frame(raw) if half.is_current => {
                    if half.records == 0 {
                        half.first_seq = raw.frame.seq;
                    }
                    (half.records, half.last_seq) = (half.records + 1, raw.frame.seq);
                }
                RawEvent::Frame(_) => {}
            }
        }
        Ok(half)
    }
}
