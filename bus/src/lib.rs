//! The bus: processes on one host that find each other by the file system, in whatever order they start and die.
//!
//! A process *registers* what it writes: a venue's raw stream, a refined stream, a strategy's orders. The registration is
//! a directory with the queues, a `LEASE` whose kernel lock says that the process lives, and a `READY` that says that its
//! queues may be opened. Others *discover* it: a first scan, then what the system tells of changes, and a rescan now and
//! then that finds what was not told. Nobody has to be there first; there is no broker and no port.
//!
//! | Module | What it holds |
//! |---|---|
//! | [`layout`] | which directory is whose: [`Layout`], [`Entry`] |
//!
//! Never here: a process that is killed, a queue that is removed, a payload that is looked into. Unread orders are data:
//! they outlive who wrote them.
#![forbid(unsafe_code)]

pub mod error;
pub mod layout;

pub use error::{Error, ErrorKind, Result};
pub use layout::{Entry, Kind, Layout};
