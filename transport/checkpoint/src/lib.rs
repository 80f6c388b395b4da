//! Checkpoints: what a program knew at a seq of its log, kept so that the log before it can go.
//!
//! ```text
//! save        snapshot + cursors ──one LMDB transaction, durable──▶ checkpoint {state, seq, generation}
//! checkpoint  save, then cut the WAL behind the oldest need: every kept checkpoint, every cursor that holds it
//! recover     snapshot of a checkpoint + every frame of the WAL behind its seq
//! ```
//!
//! A [`Checkpoints`] is one directory beside one WAL. It holds named *states* (the application's snapshots, the newest
//! [`Options::keep`] of each) and *cursors* (how far a consumer came). What is saved together is there together or not at
//! all, so a program that stores its state and its place in the stream by one [`Checkpoints::save`] has applied every
//! message exactly once, whatever died when.
//!
//! | Rule | How it is kept |
//! |---|---|
//! | a checkpoint that was returned is durable | LMDB syncs the data, then writes its meta page through (`O_DSYNC`) |
//! | D-7, D-8 | the store is made under another name, synced, renamed, its directory synced |
//! | D-9 | the WAL is cut only after the transaction is durable and the platform has synced the file, never past the oldest need |
//! | D-17 | LMDB's two meta pages are the two slots; every record has a generation, a CRC bound to its key, and the seq it stands for |
//! | D-2, D-4 | a write or sync that failed poisons the handle: open it again |
//! | D-21 | a kernel lock, held for life, before anything is read |
//! | D-22 | file and directory are synced before anything is believed |
//!
//! LMDB maps its file and trusts it: a wrong page number there is a wild pointer here. So [`Checkpoints::open`] first walks
//! the whole structure of the file with bounds-checked reads (`tree.rs`) and refuses what LMDB could not have written;
//! what is inside records is covered by their CRCs. What this cannot help against is a file that is changed *while* it is
//! open: that is as much undefined behaviour as it is for every other memory map, so the directory is private to owner
//! and group, and everything in it belongs to the one process that holds the lock. No network file systems.
//!
//! Never here: threads that nobody asked for ([`Every`] has one), a format for the application's bytes, network.
#![deny(unsafe_code)]

mod env;
mod error;
mod every;
mod lock;
mod log;
mod name;
mod record;
mod store;
mod tree;

pub use error::{Error, ErrorKind, Result};
pub use every::{Every, Interval};
pub use log::{Recovered, Which};
pub use name::{MAX_NAME, NameError};
pub use store::{Checkpoint, CheckpointId, Checkpoints, Cursor, Holder, Need, Options};
