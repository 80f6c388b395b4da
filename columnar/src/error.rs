//! Why a table could not be given out, or not all of it.

use core::fmt;

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;

/// `Result` with this crate's [`Error`], unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a table could not be given out. Batches that were given out before are right, and not all.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Reading the archive.
    Read(chronicle_etl::Error),
    /// A stored number does not fit its column.
    Misfit {
        /// The file and the frame that it is in.
        place: String,
        /// What does not fit.
        misfit: Misfit,
    },
    /// Arrow, or the output behind it.
    Arrow(ArrowError),
    /// Parquet, or the output behind it.
    Parquet(ParquetError),
}

/// A number that its column cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misfit {
    /// More digits behind the point, or before it, than the column has.
    Digits {
        /// The number.
        number: String,
        /// Digits behind the point in the column.
        scale: u8,
    },
    /// A time that 63 bits of nanoseconds do not reach.
    Time {
        /// The time, ns since 1970.
        ns: u64,
    },
}

impl Error {
    /// Whether the reader of the output has left.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                return io.kind() == std::io::ErrorKind::BrokenPipe;
            }
            if let Some(ArrowError::IoError(_, io)) = error.downcast_ref::<ArrowError>() {
                return io.kind() == std::io::ErrorKind::BrokenPipe;
            }
            cause = error.source();
        }
        false
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digits { number, scale } => {
                write!(f, "number {number} does not fit a column with {scale} of 38 digits behind the point")
            }
            Self::Time { ns } => write!(f, "time {ns} ns since 1970 does not fit a column of times, which end in 2262"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Misfit { place, misfit } => write!(f, "{place}: {misfit}"),
            Self::Arrow(_) => f.write_str("arrow stream: write failed"),
            Self::Parquet(_) => f.write_str("parquet file: write failed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its own text is shown above; what lies beneath is its source.
            Self::Read(error) => error.source(),
            Self::Misfit { .. } => None,
            Self::Arrow(error) => Some(error),
            Self::Parquet(error) => Some(error),
        }
    }
}

impl From<chronicle_etl::Error> for Error {
    fn from(error: chronicle_etl::Error) -> Self {
        Self::Read(error)
    }
}

impl From<chronicle_storage::Error> for Error {
    fn from(error: chronicle_storage::Error) -> Self {
        Self::Read(error.into())
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

impl From<ParquetError> for Error {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error)
    }
}
