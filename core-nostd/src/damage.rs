//! Bytes that no writer of ours could have made, or that a crash left behind.
//!
//! Core cannot know which of the two it is: the layer above knows up to where the bytes were synced or sealed. Damage
//! says where, what was found and what was expected; nothing here repairs anything.

use core::fmt;

/// What is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Offset within the segment or file.
    pub offset: u64,
    /// What was found there.
    pub fault: Fault,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u64)]
pub enum Fault {
    /// Shorter than its header says or than a header is.
    Short {
        /// Bytes needed from the start.
        needed: u64,
        /// Bytes there.
        found: u64,
    },
    /// The first eight bytes are another format's.
    Magic {
        /// What they are.
        found: [u8; 8],
    },
    /// Written by a newer version.
    Version {
        /// Its number.
        found: u16,
    },
    /// Needs a feature that this version does not know.
    Incompatible {
        /// The unknown bits.
        bits: u32,
    },
    /// Written with a feature that this version does not know: it may be read, not written.
    ReadOnly {
        /// The unknown bits.
        bits: u32,
    },
    /// A field has a value that no writer stores.
    Field {
        /// Its name in `docs/format.md`.
        name: &'static str,
        /// Its value.
        found: u64,
    },
    /// A checksum does not match its bytes.
    Crc {
        /// The one stored.
        stored: u32,
        /// The one that the bytes give.
        computed: u32,
    },
    /// A frame reaches past the end of its segment.
    Length {
        /// Bytes that its commit word claims, header and padding included.
        claimed: u64,
        /// Bytes that are left for it.
        left: u64,
    },
    /// A frame does not carry the next sequence number.
    Seq {
        /// The next one.
        expected: u64,
        /// The one found.
        found: u64,
    },
    /// Bytes that must be zero are not.
    Padding {
        /// The first such byte's value.
        found: u8,
    },
    /// The segment ends without an `End` frame although it was sealed, or has bytes behind it that it must not have.
    End {
        /// Where it should end.
        expected: u64,
        /// Where it ends.
        found: u64,
    },
}

impl Damage {
    /// `fault` at `offset`.
    #[must_use]
    pub const fn at(offset: u64, fault: Fault) -> Self {
        Damage { offset, fault }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}: {}", self.offset, self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Short { needed, found } => write!(f, "{needed} bytes needed, {found} there"),
            Fault::Magic { found } => write!(f, "magic is \"{}\", not ours", found.escape_ascii()),
            Fault::Version { found } => {
                write!(f, "format version {found} is newer than {}: upgrade to read it", crate::layout::VERSION)
            }
            Fault::Incompatible { bits } => {
                write!(f, "unknown incompatible features {bits:#x}: upgrade to read it")
            }
            Fault::ReadOnly { bits } => write!(f, "unknown ro_compat features {bits:#x}: upgrade to write to it"),
            Fault::Field { name, found } => write!(f, "{name} is {found:#x}, which no writer stores"),
            Fault::Crc { stored, computed } => {
                write!(f, "checksum stored {stored:#010x}, computed {computed:#010x}")
            }
            Fault::Length { claimed, left } => write!(f, "frame claims {claimed} bytes, {left} left"),
            Fault::Seq { expected, found } => write!(f, "seq {expected} expected, {found} found"),
            Fault::Padding { found } => write!(f, "padding holds {found:#04x}, not zero"),
            Fault::End { expected, found } => write!(f, "end at {found}, expected at {expected}"),
        }
    }
}

impl core::error::Error for Damage {}
