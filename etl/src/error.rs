//! What can go wrong while refining or asking for books, in the kinds that a program can act upon.
//!
//! Gaps, late and repeated records are results, not errors: they are counted and stand in the partitions. An [`Error`]
//! means that refining stopped, or that a question has no answer; what was stored is then as the last checkpoint says.

use core::fmt;
use std::io;
use std::path::PathBuf;

use chronicle_protocol::Malformed;
use chronicle_storage::ErrorKind;
use chronicle_storage::root::{Name, TimeNs};

use crate::book::Unfit;
use crate::orders::Refusal;
use crate::query::Invalid;
use crate::refinery::{Disagreement, Stranger};

/// `Result` with this crate's [`Error`], unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why refining stopped, or a question has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Storage said no, or found damage.
    Storage(chronicle_storage::Error),
    /// A stored frame passes its checksum and holds no record: a newer version wrote it, or a bug did.
    Record {
        /// The stream or file that it is in.
        place: String,
        /// Its seq.
        seq: u64,
        /// What is wrong with it.
        malformed: Malformed,
    },
    /// A stored delta says that it was applied, and its numbers do not fit the book before it.
    Unfit {
        /// The file that it is in.
        place: String,
        /// Its seq.
        seq: u64,
        /// Why it does not fit.
        unfit: Unfit,
    },
    /// A stored order event says that it was applied, and no book before it could have taken it.
    Order {
        /// The file that it is in.
        place: String,
        /// Its seq.
        seq: u64,
        /// Why the book cannot take it.
        refusal: Refusal,
    },
    /// Nothing was ever recorded of a venue.
    NothingRecorded {
        /// The venue.
        venue: Name,
    },
    /// The symbol table knows nobody by the text and the time of a record.
    Unresolved {
        /// The raw stream that it is in.
        place: String,
        /// Its seq.
        seq: u64,
        /// Who it is.
        stranger: Stranger,
    },
    /// A symbol table says otherwise about something that was refined already.
    OtherTable(Box<Disagreement>),
    /// There are partitions and no checkpoint. To go on would mean to remove them all as unknown.
    StateMissing {
        /// Where the checkpoint should be.
        checkpoint: PathBuf,
        /// A partition's file.
        partition: PathBuf,
    },
    /// Nothing is stored about this.
    NotFound {
        /// The venue.
        venue: Name,
        /// The symbol.
        symbol: Name,
    },
    /// No book is known at this time: it is before the first one.
    NoBook {
        /// The venue.
        venue: Name,
        /// The symbol.
        symbol: Name,
        /// The time that was asked for; none = the latest.
        at: Option<TimeNs>,
    },
    /// The book is not valid at this time: ids are missing.
    Invalid(Box<Invalid>),
    /// The output could not be written.
    Output(io::Error),
}

impl Error {
    /// Which of the house's kinds it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Storage(error) => error.kind(),
            Self::Record { .. } | Self::Unfit { .. } | Self::Order { .. } => ErrorKind::Damage,
            Self::Output(_) => ErrorKind::Trouble,
            Self::NothingRecorded { .. }
            | Self::Unresolved { .. }
            | Self::OtherTable(_)
            | Self::StateMissing { .. }
            | Self::NotFound { .. }
            | Self::NoBook { .. }
            | Self::Invalid(_) => ErrorKind::Refusal,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::Record { place, seq, malformed } => write!(f, "{place}: frame {seq}: {malformed}"),
            Self::Unfit { place, seq, unfit } => write!(f, "{place}: frame {seq}: {unfit}"),
            Self::Order { place, seq, refusal } => write!(f, "{place}: frame {seq}: {refusal}"),
            Self::NothingRecorded { venue } => {
                write!(f, "{venue}: nothing recorded, neither a raw stream nor a checkpoint")
            }
            Self::Unresolved { place, seq, stranger } => write!(
                f,
                "{place}: frame {seq}: {stranger}; add it to the table, or keep such records with --unresolved unresolved"
            ),
            Self::OtherTable(disagreement) => {
                let Disagreement { venue, code, date, what } = &**disagreement;
                write!(
                    f,
                    "{venue}/{code}/{date}: symbol table does not extend the one before: {what}; give one that only adds \
                     to it, or remove all partitions of the venue and its checkpoint to make them again"
                )
            }
            Self::StateMissing { checkpoint, partition } => write!(
                f,
                "{}: checkpoint missing, though {} exists; put it back, or remove all partitions of the venue to make \
                 them again from its raw stream",
                checkpoint.display(),
                partition.display()
            ),
            Self::NotFound { venue, symbol } => write!(f, "{venue}/{symbol}: nothing stored"),
            Self::NoBook { venue, symbol, at: Some(at) } => write!(f, "{venue}/{symbol}: no book known at {at}"),
            Self::NoBook { venue, symbol, at: None } => write!(f, "{venue}/{symbol}: no book known"),
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::Output(_) => f.write_str("output: write failed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its own text is shown above; what lies beneath is its source.
            Self::Storage(error) => error.source(),
            Self::Output(error) => Some(error),
            _ => None,
        }
    }
}

impl From<chronicle_storage::Error> for Error {
    fn from(error: chronicle_storage::Error) -> Self {
        Self::Storage(error)
    }
}

impl From<chronicle_platform::Trouble> for Error {
    fn from(trouble: chronicle_platform::Trouble) -> Self {
        Self::Storage(trouble.into())
    }
}

impl From<Disagreement> for Error {
    fn from(disagreement: Disagreement) -> Self {
        Self::OtherTable(Box::new(disagreement))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
