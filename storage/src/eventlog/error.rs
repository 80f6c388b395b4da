//! Why an event was not taken. Nothing of it is anywhere then.

use std::fmt;

/// Why a ring did not take an event, or could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// No room for it now; or ever, if it needs more than the ring holds.
    NotEnoughSpace {
        /// Bytes that it needs.
        required: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// No ring has this capacity.
    InvalidCapacity {
        /// The one asked for.
        capacity: usize,
        /// Why not.
        reason: &'static str,
    },
    /// The header says another length than the payload has.
    PayloadLength {
        /// What the header says.
        stated: usize,
        /// What was given.
        given: usize,
    },
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::NotEnoughSpace { required, available } => {
                write!(f, "ring full: event needs {required} bytes, {available} available")
            }
            RingError::InvalidCapacity { capacity, reason } => write!(f, "ring capacity {capacity}: {reason}"),
            RingError::PayloadLength { stated, given } => fmt_length(f, *stated, *given),
        }
    }
}

impl std::error::Error for RingError {}

/// Why a log did not take an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The log is at its limit.
    NotEnoughSpace {
        /// Bytes that the event needs.
        required: u64,
        /// Bytes left.
        available: u64,
    },
    /// The next part of the file is being prepared: try again, or wait with `write_event`.
    NotReady,
    /// The disk is full: nothing is lost, and the log goes on once there is room. See `last_trouble`.
    NoSpace,
    /// The file could not be extended for another reason. See `last_trouble`.
    PrepareFailed,
    /// A sync failed earlier: what of the log is durable is unknown for ever.
    Poisoned,
    /// The header says another length than the payload has.
    PayloadLength {
        /// What the header says.
        stated: usize,
        /// What was given.
        given: usize,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::NotEnoughSpace { required, available } => {
                write!(f, "event log full: event needs {required} bytes, {available} available")
            }
            WriteError::NotReady => f.write_str("event log not ready: its next part is being prepared"),
            WriteError::NoSpace => f.write_str("event log cannot grow: no space left on the device"),
            WriteError::PrepareFailed => f.write_str("event log cannot grow: its file could not be extended"),
            WriteError::Poisoned => f.write_str("event log poisoned by a failed sync"),
            WriteError::PayloadLength { stated, given } => fmt_length(f, *stated, *given),
        }
    }
}

impl std::error::Error for WriteError {}

fn fmt_length(f: &mut fmt::Formatter<'_>, stated: usize, given: usize) -> fmt::Result {
    write!(f, "event header says {stated} bytes of payload, {given} given")
}
