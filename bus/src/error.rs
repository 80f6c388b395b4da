//! What can go wrong on the bus, in kinds that a program can act upon.
//!
//! [`Error::kind`] says which of the house's kinds it is: a *refusal* is ordinary life (somebody else is registered, a
//! name is not allowed), *damage* is bytes that no process of ours wrote, *trouble* is the system's no.
//!
//! Nothing here retries or repairs.

use chronicle_platform::{Trouble, TroubleKind};
use chronicle_storage::root::NameError;
use std::{
    fmt,
    path::{Path, PathBuf},
};

pub use chronicle_storage::ErrorKind;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why something on the bus did not work.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The system said no.
    Trouble(Trouble),
    /// A queue, its cursor or its lock: storage's error.
    Storage(chronicle_storage::Error),
    /// A file of the bus holds bytes that no process of ours wrote.
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What, with evidence.
        what: String,
    },
    /// Somebody else is registered.
    Taken {
        /// The lock that it holds.
        path: PathBuf,
        /// Its process id, as its lease says: for people.
        pid: Option<u32>,
    },
    /// Something that is not ours stands where a file of the bus has to be.
    Foreign {
        /// Its path.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// The directory of a registration was removed or replaced under it.
    Evicted {
        /// What is gone, or somebody else's.
        path: PathBuf,
    },
    /// A name that must not become part of a path.
    Name(NameError),
    /// An option that cannot be had.
    Options {
        /// Which one, and why.
        what: String,
    },
}

impl Error {
    /// Bytes that no process of ours wrote.
    pub fn malformed(path: impl Into<PathBuf>, offset: u64, what: impl Into<String>) -> Self {
        Error::Malformed { path: path.into(), offset, what: what.into() }
    }

    /// An option that cannot be had.
    pub fn options(what: impl Into<String>) -> Self {
        Error::Options { what: what.into() }
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Trouble(_) => ErrorKind::Trouble,
            Error::Storage(error) => error.kind(),
            Error::Malformed { .. } => ErrorKind::Damage,
            Error::Taken { .. }
            | Error::Foreign { .. }
            | Error::Evicted { .. }
            | Error::Name(_)
            | Error::Options { .. } => ErrorKind::Refusal,
        }
    }

    /// The file it is about, if it is about one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Error::Trouble(trouble) => Some(trouble.path()),
            Error::Storage(error) => error.path(),
            Error::Malformed { path, .. }
            | Error::Taken { path, .. }
            | Error::Foreign { path, .. }
            | Error::Evicted { path } => Some(path),
            Error::Name(_) | Error::Options { .. } => None,
        }
    }

    /// Whether a file or directory was not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Error::Trouble(trouble) => trouble.kind() == TroubleKind::NotFound,
            Error::Storage(error) => error.is_not_found(),
            _ => false,
        }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        Error::Trouble(trouble)
    }
}

impl From<chronicle_storage::Error> for Error {
    fn from(error: chronicle_storage::Error) -> Self {
        Error::Storage(error)
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
            Error::Trouble(trouble) => trouble.fmt(f),
            Error::Storage(error) => error.fmt(f),
            Error::Malformed { path, offset, what } => write!(f, "{}: offset {offset}: {what}", path.display()),
            Error::Taken { path, pid: Some(pid) } => write!(f, "{}: held by process {pid}", path.display()),
            Error::Taken { path, pid: None } => write!(f, "{}: held by another process", path.display()),
            Error::Foreign { path, what } => {
                write!(f, "{}: {what}: a file of the bus has to be there; remove what is in the way", path.display())
            }
            Error::Evicted { path } => {
                write!(f, "{}: removed or replaced under its owner: register again", path.display())
            }
            Error::Name(error) => error.fmt(f),
            Error::Options { what } => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its own text is shown above; what lies beneath is the source.
            Error::Trouble(trouble) => std::error::Error::source(trouble),
            Error::Storage(error) => std::error::Error::source(error),
            _ => None,
        }
    }
}
