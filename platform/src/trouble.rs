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
    /// What an operator should know besides, such as the limit that was hit.
    note: Option<String>,
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
        Trouble(Box::new(Inner { operation, path: path.into(), source: source.into(), note: None }))
    }

    /// The same, with a clause about what stood in the way or what to change.
    #[must_use]
    pub fn noting(mut self, note: impl Into<String>) -> Self {
        self.0.note = Some(note.into());
        self
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
            .field("note", &self.0.note)
            .finish()
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} failed", self.0.path.display(), self.0.operation)?;
        self.0.note.iter().try_for_each(|note| write!(f, ": {note}"))
    }
}

impl Error for Trouble {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0.source)
    }
}
