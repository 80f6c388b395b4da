//! Why a text is not a message: damage in what came in.
//!
//! A text that *is* a message, though one that no record holds, is not here: it is kept verbatim, as an opaque record.

use core::fmt;

use crate::json::NotJson;

/// Why a line of a recording, or a message of a connection, is malformed. Bytes are counted from its first, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// The line is not UTF-8.
    NotUtf8 {
        /// First byte that is not.
        at: usize,
    },
    /// The line is longer than a line may be.
    TooLong {
        /// What a line may have.
        most: usize,
    },
    /// Nothing but blanks, if that. No recorder writes such a line, so something that was one may be lost there.
    Empty,
    /// The line does not begin with its receive time, in one of the layouts of recordings.
    NoTime,
    /// The message is not JSON.
    NotJson {
        /// Where it stops being JSON.
        at: usize,
        /// What would have gone on.
        expected: &'static str,
    },
    /// A message of a known kind without a field that this kind has.
    Lacks {
        /// The field.
        field: &'static str,
    },
    /// A field with a value of another type than the kind has.
    WrongType {
        /// The field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A field whose number cannot be meant.
    Absurd {
        /// The field.
        field: &'static str,
    },
    /// A row of a file that has no header, or a header that is none of the format's.
    NoHeader,
    /// A row with another number of cells than its header.
    Columns {
        /// What it has.
        found: usize,
        /// What the header has.
        needed: usize,
    },
    /// A row of another venue than the file's first.
    OtherVenue,
    /// A field that is there twice.
    Twice {
        /// The field.
        field: &'static str,
    },
}

impl Flaw {
    /// The byte of the line where it was found, if it is at one.
    #[must_use]
    pub const fn at(&self) -> Option<usize> {
        match self {
            Self::NotUtf8 { at } | Self::NotJson { at, .. } => Some(*at),
            _ => None,
        }
    }

    /// The same flaw of a text that begins at byte `by` of its line.
    #[must_use]
    pub(crate) const fn moved(self, by: usize) -> Self {
        match self {
            Self::NotUtf8 { at } => Self::NotUtf8 { at: at + by },
            Self::NotJson { at, expected } => Self::NotJson { at: at + by, expected },
            other => other,
        }
    }
}

impl From<NotJson> for Flaw {
    fn from(NotJson { at, expected }: NotJson) -> Self {
        Self::NotJson { at, expected }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 { at } => write!(f, "not UTF-8 at byte {at}"),
            Self::TooLong { most } => write!(f, "longer than {most} bytes"),
            Self::Empty => f.write_str("empty line"),
            Self::NoTime => {
                f.write_str("no receive time at its start: neither nanoseconds and a blank, nor seconds and `: `")
            }
            Self::NotJson { at, expected } => write!(f, "not JSON at byte {at}: expected {expected}"),
            Self::Lacks { field } => write!(f, "lacks the field `{field}`"),
            Self::WrongType { field, expected } => write!(f, "field `{field}` is not {expected}"),
            Self::Absurd { field } => write!(f, "field `{field}` has an absurd number"),
            Self::NoHeader => f.write_str("no header with exchange, symbol, timestamp and local_timestamp before it"),
            Self::Columns { found, needed } => write!(f, "{found} cells, the header has {needed}"),
            Self::OtherVenue => f.write_str("of another exchange than the file's first row"),
            Self::Twice { field } => write!(f, "has the field `{field}` twice"),
        }
    }
}

impl core::error::Error for Flaw {}
