//! The system said no: what was tried, on which path, and what the system answered.

use std::{error::Error, fmt, io, path::PathBuf};

/// A failed system operation.
///
/// Kept small and complete: an operator reads operation, path and reason in one line; a program asks
/// [`Trouble::kind`] or [`Trouble::errno`].
pub struct Trouble(Box<Inner>);

struct Inner {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What a program can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TroubleKind {
    /// No such file or directory.
    NotFound,
    /// The name is taken.
    Exists,
    /// Not allowed.
    Denied,
    /// No space, no inodes, or over quota: may clear by itself.
    NoSpace,
    /// The system does not offer this.
    Unsupported,
    /// The device failed; the file's durable content is unknown.
    Io,
    /// Anything else; see [`Trouble::errno`].
    Other,
}

impl Trouble {
    /// The operation `operation` on `path` failed with `source`.
    pub fn new(operation: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Trouble(Box::new(Inner { operation, path: path.into(), source: source.into() }))
    }

    /// What a program can do about it.
    #[must_use]
    pub fn kind(&self) -> TroubleKind {
        match self.0.source.kind() {
            io::ErrorKind::NotFound => TroubleKind::NotFound,
            io::ErrorKind::AlreadyExists => TroubleKind::Exists,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => TroubleKind::Denied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => TroubleKind::NoSpace,
            io::ErrorKind::Unsupported => TroubleKind::Unsupported,
            _ if self.errno() == Some(5) => TroubleKind::Io,
            _ => TroubleKind::Other,
        }
    }

    /// The system's number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.0.source.raw_os_error()
    }

    /// The operation that failed, as a word: `open`, `allocate`, `sync`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// What it was done to.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.0.path
    }
}

impl fmt::Debug for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trouble")
            .field("operation", &self.0.operation)
            .field("path", &self.0.path)
            .field("source", &self.0.source)
            .finish()
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} failed", self.0.path.display(), self.0.operation)
    }
}

impl Error for Trouble {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0.source)
    }
}
