//! What can go wrong with checkpoints, in the house's kinds, each with the way out in its text.

use crate::{CheckpointId, NameError};
use chronicle_platform::{Trouble, TroubleKind};
use chronicle_storage::wal::{CommitError, ReadError};
use std::{fmt, io, path::PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a checkpoint was not made or not found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The system said no.
    Trouble(Trouble),
    /// Another process (or another handle of this one) has the store.
    Locked {
        /// The lock's file.
        path: PathBuf,
    },
    /// The store may not grow further. Nothing of the operation was done.
    Full {
        /// The store's file.
        path: PathBuf,
        /// What it may hold at most: [`Options::max_len`](crate::Options::max_len).
        max_len: u64,
    },
    /// One transaction would touch more pages than LMDB can keep track of.
    TooLarge {
        /// The store's file.
        path: PathBuf,
    },
    /// The store was written by a version that this one does not know.
    Version {
        /// The store's file.
        path: PathBuf,
        /// Whose number it is: LMDB's or ours.
        of: &'static str,
        /// What the file says.
        found: u32,
        /// What is known.
        known: u32,
    },
    /// Bytes in the store's file that no writer of ours could have left there: it cannot be opened.
    Damage {
        /// The store's file.
        path: PathBuf,
        /// Where, and what.
        what: String,
        /// Whether the commit before the last one is whole: [`Options::previous`](crate::Options::previous) opens it.
        previous: bool,
    },
    /// A checkpoint's record or snapshot does not match its checksum.
    DamagedCheckpoint {
        /// The store's file.
        path: PathBuf,
        /// Which.
        id: CheckpointId,
        /// Where, stored and computed.
        what: String,
        /// The newest older checkpoint of the same state.
        older: Option<CheckpointId>,
    },
    /// A cursor's record does not match its checksum.
    DamagedCursor {
        /// The store's file.
        path: PathBuf,
        /// Which.
        name: String,
        /// Stored and computed.
        what: String,
    },
    /// No such checkpoint.
    Unknown {
        /// The store's file.
        path: PathBuf,
        /// Which.
        id: CheckpointId,
    },
    /// A name that is not allowed.
    Name(NameError),
    /// An option that cannot be.
    Options {
        /// The store's directory.
        path: PathBuf,
        /// Which one, and why.
        what: String,
    },
    /// A write or sync failed earlier: what the medium has is unknown to this handle. Open the store again.
    Poisoned {
        /// The store's file.
        path: PathBuf,
    },
    /// The handle belongs to the process that opened it, and this is a forked child.
    Forked {
        /// The store's file.
        path: PathBuf,
    },
    /// The log's frames behind the snapshot do not begin where it ends: those between were retired.
    TailMissing {
        /// The log's directory.
        path: PathBuf,
        /// What the snapshot stands for; 0 = there is none.
        seq: u64,
        /// The log's oldest frame.
        first_seq: u64,
    },
    /// The log ends before the frame that the snapshot stands for: it lost frames, or is another one.
    LogBehind {
        /// The log's directory.
        path: PathBuf,
        /// What the snapshot stands for.
        seq: u64,
        /// The log's newest frame.
        last: u64,
    },
    /// The checkpoints belong to another log.
    OtherLog {
        /// The store's file.
        path: PathBuf,
        /// The log that they are of.
        stored: [u8; 16],
        /// The log that was given.
        found: [u8; 16],
    },
    /// The frames that a snapshot stands for did not become durable; nothing was saved.
    NotDurable {
        /// The store's file.
        path: PathBuf,
        /// Why not.
        source: CommitError,
    },
    /// The log could not be read.
    Log(ReadError),
    /// The application's own writer or reader of a snapshot failed; nothing was saved.
    Application(io::Error),
}

/// Which of the house's kinds an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Ordinary life: wait, make room, choose another name or checkpoint.
    Refusal,
    /// Bytes that no writer of ours could have made.
    Damage,
    /// The system, or the application's own writer, said no.
    Trouble,
}

impl Error {
    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Trouble(_) | Error::Poisoned { .. } | Error::Application(_) => ErrorKind::Trouble,
            Error::NotDurable { source: CommitError::Poisoned | CommitError::Dropped, .. } => ErrorKind::Trouble,
            Error::TailMissing { .. } | Error::LogBehind { .. } => ErrorKind::Damage,
            Error::Log(ReadError::Failed(error)) => match error.kind() {
                chronicle_storage::ErrorKind::Refusal => ErrorKind::Refusal,
                chronicle_storage::ErrorKind::Damage => ErrorKind::Damage,
                chronicle_storage::ErrorKind::Trouble => ErrorKind::Trouble,
            },
            Error::Damage { .. } | Error::DamagedCheckpoint { .. } | Error::DamagedCursor { .. } => ErrorKind::Damage,
            _ => ErrorKind::Refusal,
        }
    }

    /// Whether room is what is missing: on the disk, or in the store.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::Full { .. } => true,
            Error::Trouble(trouble) => trouble.kind() == TroubleKind::NoSpace,
            _ => false,
        }
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
            Error::Trouble(trouble) => trouble.fmt(f),
            Error::Locked { path } => {
                write!(f, "{}: another process has these checkpoints open", path.display())
            }
            Error::Full { path, max_len } => write!(
                f,
                "{}: full, may hold {max_len} bytes: open it with a larger max_len, or remove checkpoints; nothing was saved",
                path.display()
            ),
            Error::TooLarge { path } => {
                write!(f, "{}: too large for one transaction; nothing was saved", path.display())
            }
            Error::Version { path, of, found, known } => {
                write!(f, "{}: {of} version {found}, this program knows {known}", path.display())
            }
            Error::Damage { path, what, previous } => {
                write!(f, "{}: {what}; ", path.display())?;
                f.write_str(if *previous {
                    "the commit before the last one is whole: option previous opens it, the last one is lost"
                } else {
                    "restore the file from a copy, or move it away and rebuild the state from the log"
                })
            }
            Error::DamagedCheckpoint { path, id, what, older } => {
                write!(f, "{}: checkpoint {id}: {what}; ", path.display())?;
                match older {
                    Some(older) => write!(f, "checkpoint {older} is older: recover it, or remove {id}"),
                    None => write!(f, "there is no older one of this state; remove {id} to go on without"),
                }
            }
            Error::DamagedCursor { path, name, what } => {
                write!(f, "{}: cursor {name}: {what}; set it anew or remove it", path.display())
            }
            Error::Unknown { path, id } => write!(f, "{}: no checkpoint {id}", path.display()),
            Error::Name(error) => error.fmt(f),
            Error::Options { path, what } => write!(f, "{}: {what}", path.display()),
            Error::Poisoned { path } => {
                write!(f, "{}: poisoned by a failed write or sync: open it again", path.display())
            }
            Error::Forked { path } => {
                write!(f, "{}: opened by the parent of this process, open it again", path.display())
            }
            Error::TailMissing { path, seq: 0, first_seq } => write!(
                f,
                "{}: no checkpoint, and the log begins with frame {first_seq}, not 1: what was before is in neither",
                path.display()
            ),
            Error::TailMissing { path, seq, first_seq } => write!(
                f,
                "{}: checkpoint of frame {seq}, but the log begins with frame {first_seq}, not {}: recover a newer one",
                path.display(),
                seq.saturating_add(1)
            ),
            Error::LogBehind { path, seq, last } => write!(
                f,
                "{}: checkpoint of frame {seq}, but the log ends with frame {last}: frames that were durable are missing",
                path.display()
            ),
            Error::OtherLog { path, stored, found } => write!(
                f,
                "{}: of log {:032x}, not of {:032x}",
                path.display(),
                u128::from_be_bytes(*stored),
                u128::from_be_bytes(*found)
            ),
            Error::NotDurable { path, source } => write!(f, "{}: nothing was saved: {source}", path.display()),
            Error::Log(error) => error.fmt(f),
            Error::Application(_) => f.write_str("the application's snapshot failed, nothing was saved"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its own text is shown above; the system's reason is what lies beneath.
            Error::Trouble(trouble) => std::error::Error::source(trouble),
            // Their own text is shown above.
            Error::Log(error) => std::error::Error::source(error),
            Error::Application(error) => Some(error),
            _ => None,
        }
    }
}
