//! Real files that fail.
//!
//! The simulator of `chronicle-platform` replaces the operating system. Here the system is real: the shipped drivers make
//! their system calls, the kernel has its page cache and its rings, and what fails is the disk below, a FUSE file system
//! in a process of its own ([`Mounted`]). It knows for every file and directory what was *synced* apart from what was
//! *written*, and on request:
//!
//! - the power goes ([`Mounted::cut`], [`Action::Cut`]): what was not synced is lost, kept, torn or reordered, by seed, and
//!   what is left can be mounted and opened ([`Mounted::survivor`]), as often and as differently as one likes;
//! - a write, a sync or an edit of a directory fails, is cut short, or takes its time ([`Fault`]);
//! - the disk is full ([`Mounted::set_capacity`]);
//! - it counts what it was asked ([`Mounted::counts`]): how many flushes a commit costs is read here.
//!
//! A process of its own, because one that serves pages which it has mapped itself can wait for itself for ever, and so
//! that a killed client leaves the disk as it was.
//!
//! What is tested on it is a WAL: another process appends and commits ([`writer`], the program `wal-writer`), what it appends
//! says who did ([`record`]), and what is left is opened here ([`log`]).
//!
//! Where there is no FUSE (`/dev/fuse`, and the right to mount) [`mounted`] says so on standard error, and tests are
//! skipped.
//!
//! Never here: hard and symbolic links, and permissions beyond their being kept.
#![forbid(unsafe_code)]

pub mod control;
pub mod disk;
pub mod log;
pub mod record;
pub mod serve;
pub mod writer;

mod mounted;

pub use control::{Action, Counts, Fault, Kind, Survival};
pub use mounted::{Mounted, mounted};
