//! What can go wrong in storage, in kinds that a program can act upon.
//!
//! [`Error`] is returned by everything in this crate that is off the hot path. [`Error::kind`] says which of the house's
//! kinds it is: a *refusal* is ordinary life (a lock is held, a name is not allowed), *damage* is bytes that no writer
//! of ours made, *trouble* is the system's no. A bug of ours is none of these; it panics.
//!
//! Every message begins with the path and, for damage, the offset. Nothing here retries or repairs.

use crate::root::NameError;
use chronicle_core::{Damage, Fault};
use chronicle_platform::{Trouble, TroubleKind};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why something in storage did not work.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The system said no.
    Trouble(Trouble),
    /// A segment, partition or raw file holds bytes that no writer of ours could have made.
    Damage {
        /// The file.
        path: PathBuf,
        /// Where, and what.
        damage: Damage,
    },
    /// A log ends where something that it says elsewhere proves that it went on, durably: a torn tail it is not.
    Hole {
        /// The file.
        path: PathBuf,
        /// Where, and what.
        damage: Damage,
        /// What proves it, in words.
        evidence: String,
    },
    /// Another of our files (an index, a seek table, a cursor, a `meta.json`) holds such bytes.
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What, with evidence: stored and computed.
        what: String,
    },
    /// Somebody else holds the lock.
    Locked {
        /// The lock's file.
        path: PathBuf,
    },
    /// A file is in use in a way that should pass; try again.
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The partition is final: nothing can be appended to it.
    Sealed {
        /// Its file.
        path: PathBuf,
    },
    /// The file is not final yet: it cannot become a cold one.
    Unsealed {
        /// It.
        path: PathBuf,
    },
    /// A payload is larger than any frame can hold.
    TooLarge {
        /// The file it was meant for.
        path: PathBuf,
        /// Its length.
        len: usize,
        /// The largest one.
        max: usize,
    },
    /// A name that must not become part of a path.
    Name(NameError),
    /// An option that this file or directory cannot have.
    Options {
        /// What it was meant for.
        path: PathBuf,
        /// Which one, and why.
        what: String,
    },
    /// What a write-ahead log met earlier, and has told others already.
    Wal(Arc<Error>),
    /// A sync failed earlier: what is on the disk is unknown for ever, and no later success is believed.
    Poisoned {
        /// The file or directory.
        path: PathBuf,
    },
}

/// Which of the house's kinds an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Ordinary life: wait, choose another name, ask the holder.
    Refusal,
    /// Bytes that no writer of ours could have made.
    Damage,
    /// The system said no.
    Trouble,
}

impl Error {
    /// Damage in a segment, partition or raw file.
    pub fn damage(path: impl Into<PathBuf>, damage: Damage) -> Self {
        Error::Damage { path: path.into(), damage }
    }

    /// `fault` at `offset` of a segment, partition or raw file.
    pub fn fault(path: impl Into<PathBuf>, offset: u64, fault: Fault) -> Self {
        Error::damage(path, Damage::at(offset, fault))
    }

    /// Damage in another of our files.
    pub fn malformed(path: impl Into<PathBuf>, offset: u64, what: impl Into<String>) -> Self {
        Error::Malformed { path: path.into(), offset, what: what.into() }
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Wal(error) => error.kind(),
            Error::Trouble(_) | Error::Poisoned { .. } => ErrorKind::Trouble,
            Error::Damage { .. } | Error::Hole { .. } | Error::Malformed { .. } => ErrorKind::Damage,
            Error::Locked { .. }
            | Error::Busy { .. }
            | Error::Sealed { .. }
            | Error::Unsealed { .. }
            | Error::TooLarge { .. }
            | Error::Options { .. }
            | Error::Name(_) => ErrorKind::Refusal,
        }
    }

    /// The file it is about, if it is about one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Error::Wal(error) => error.path(),
            Error::Trouble(trouble) => Some(trouble.path()),
            Error::Damage { path, .. }
            | Error::Hole { path, .. }
            | Error::Malformed { path, .. }
            | Error::Locked { path }
            | Error::Busy { path }
            | Error::Sealed { path }
            | Error::Unsealed { path }
            | Error::TooLarge { path, .. }
            | Error::Options { path, .. }
            | Error::Poisoned { path } => Some(path),
            Error::Name(_) => None,
        }
    }

    /// Where in that file the damage is.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match self {
            Error::Damage { damage, .. } | Error::Hole { damage, .. } => Some(damage.offset),
            Error::Malformed { offset, .. } => Some(*offset),
            Error::Wal(error) => error.offset(),
            _ => None,
        }
    }

    /// Whether the file was not there: who reads tiers looks again, because files move.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Trouble(trouble) if trouble.kind() == TroubleKind::NotFound)
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        Error::Trouble(trouble)
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Error::Name(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Wal(error) => error.fmt(f),
            Error::Trouble(trouble) => trouble.fmt(f),
            Error::Damage { path, damage } => write!(f, "{}: {damage}", path.display()),
            Error::Hole { path, damage, evidence } => write!(f, "{}: {damage}; {evidence}", path.display()),
            Error::Malformed { path, offset, what } => write!(f, "{}: offset {offset}: {what}", path.display()),
            Error::Locked { path } => write!(f, "{}: locked by another process", path.display()),
            Error::Busy { path } => write!(f, "{}: busy", path.display()),
            Error::Sealed { path } => write!(f, "{}: sealed, nothing can be appended", path.display()),
            Error::Unsealed { path } => write!(f, "{}: not sealed yet", path.display()),
            Error::TooLarge { path, len, max } => {
                write!(f, "{}: payload of {len} bytes is too large, a frame holds at most {max}", path.display())
            }
            Error::Name(error) => error.fmt(f),
            Error::Options { path, what } => write!(f, "{}: {what}", path.display()),
            Error::Poisoned { path } => write!(f, "{}: poisoned by a failed sync", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its own text is shown above; the system's reason is what lies beneath.
            Error::Trouble(trouble) => std::error::Error::source(trouble),
            Error::Wal(error) => std::error::Error::source(&**error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn messages_name_path_offset_and_evidence() {
        let error = Error::fault("w/book.q", 160, Fault::Crc { stored: 1, computed: 2 });
        assert_eq!(error.to_string(), "w/book.q: offset 160: checksum stored 0x00000001, computed 0x00000002");
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Damage, Some(160)));

        let error = Error::malformed("c/book.q.zst.idx", 24, "entry 0 overlaps entry 1");
        assert_eq!(error.to_string(), "c/book.q.zst.idx: offset 24: entry 0 overlaps entry 1");
        assert_eq!(error.path(), Some(Path::new("c/book.q.zst.idx")));

        let missing = std::io::Error::from_raw_os_error(2);
        let error = Error::from(Trouble::new("open", "w/book.q", missing));
        assert_eq!(error.to_string(), "w/book.q: open failed");
        assert!(error.is_not_found() && error.source().is_some());
    }
}
