//! Logs in shared memory: byte layouts, commit words, framing, and the protocols to append and read.
//!
//! Use this crate to put a log into memory that you own: a file mapping, a `static`, a heap block, a DMA buffer.
//! One writer appends frames; any number of readers, in this process or another, see each frame whole or not at
//! all. `chronicle-storage` builds persistent queues of many segments from it.
//!
//! It is `no_std` and has no allocator. It never blocks, makes a system call, reads a clock, starts a thread or keeps
//! a global: time and sleeping are passed in. No slice of shared memory is ever formed unless the program
//! itself asserts, in one visible `unsafe` line, that nobody will change it ([`Trusted`]). So a safe caller, even a
//! malicious one, and a peer process that scribbles, can produce wrong *data*, reported as [`Damage`], and nothing
//! worse.
//!
//! [`ring`] has messages in a circle, [`wal`] a write-ahead log as a state machine without IO.
//!
//! The bytes are drawn in [`layout`] and, normatively, in `docs/format.md`; the orderings are argued in
//! `docs/protocols.md` and beside each atomic operation.
//!
//! ```
//! # #[cfg(feature = "std")] {
//! use chronicle_core::{format, Append, Appender, HeapRegion, Reader, Spec, Step};
//!
//! let region = HeapRegion::new(4096);
//! format(&region, &Spec { segment_len: 4096, ..Spec::default() }).unwrap();
//!
//! let mut log = Appender::attach(&region).unwrap();
//! log.append(Append { time_ns: 17, type_id: 1, flags: 0 }, b"hello").unwrap();
//!
//! let mut reader = Reader::attach(&region).unwrap();
//! let Step::Frame(frame) = reader.step().unwrap() else { panic!("one frame was committed") };
//! assert_eq!((frame.seq, frame.time_ns, frame.payload.len()), (1, 17, 5));
//! # }
//! ```
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![warn(clippy::std_instead_of_core)]

#[cfg(target_endian = "big")]
compile_error!("Chronicle's bytes are little-endian and its words are read in place: big-endian targets are refused");

mod copy;
mod damage;
pub mod frame;
pub mod layout;
mod log;
mod payload;
mod region;
pub mod ring;
mod segment;
mod sync;
#[cfg(loom)]
pub mod twin;
pub mod wake;
pub mod wal;
#[cfg(any(loom, target_has_atomic = "64"))]
mod word64;

pub use damage::{Damage, Fault};
pub use log::Mark;
pub use log::{Append, AppendError, Appended, Appender, Claim, Frame, Reader, Step};
pub use payload::{Payload, Trusted};
#[cfg(any(test, feature = "std"))]
pub use region::HeapRegion;
pub use region::{REGION_ALIGN, Region, RegionMut, Window, WindowMut};
pub use segment::{
    Begin, Checksum, Clock, FormatError, Header, Seal, Spec, format, header, prepare, read_begin, read_seal,
    store_begin, store_seal,
};
