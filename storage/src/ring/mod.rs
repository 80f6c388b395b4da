//! Rings between processes: core's rings in a file or in handed-over memory, with what core leaves out.
//!
//! Use it to hand messages from one process to another at the speed of memory, once: what is read makes room, and nothing
//! is kept. To keep messages, or to read them again, use [`crate::queue`].
//!
//! | Module | Ends | When the other side does not keep up |
//! |---|---|---|
//! | [`spsc`] | one producer, one consumer, bytes | the producer is refused, or waits |
//! | [`slots`] | the same, values of one type | the same |
//! | [`mpsc`] | many producers, one consumer, bytes | the same |
//! | [`broadcast`] | one writer, many readers, bytes | the reader is told how many it lost |
//!
//! What this adds to [`chronicle_core::ring`]:
//!
//! - **Who may hold an end.** An end holds a kernel lock for its life; a second one gets [`Error::Locked`]. The lock of a
//!   killed process is free at once, and the next end goes on where that one was stopped. Process ids and time-outs
//!   prove nothing here. A *stopped* process keeps its end: it is waited for, never raced, and [`status`] shows it.
//! - **Whole from the start.** [`create`] makes a ring under another name and publishes it when it is whole.
//! - **Waiting**: spin, yield, or sleep without cost to the other side ([`WaitPolicy`]); every wait looks now and then
//!   whether there still is another side, and says so ([`Waited::Disconnected`]).
//!
//! ```text
//! {ring}                    the ring; behind it, which boot of the machine it belongs to (docs/format.md)
//! {ring}.producer.lock      0600, held by that end for its life; its text says who, for people
//! {ring}.consumer.lock      the same
//! {ring}.producer-07.lock   the same for each of many producers
//! {ring}.writer.lock        the same for a broadcast ring's writer; beside it .alive.lock, 0640, for its readers to look at
//! {ring}.create.lock        held while a ring is made
//! ```
//!
//! **What a crash takes.** Of a killed producer: what it had not published. Of a killed consumer: nothing; what it took
//! and did not release is delivered again. Of the machine: all of it, wherever the file lay: a ring of an earlier boot is
//! refused, and [`create`] puts a new one in its place.
//!
//! **Who may write a ring may write nonsense into it or cut it.** Nonsense is reported as damage or read as a message.
//! A cut ends the process (SIGBUS) unless the end is guarded ([`EndOptions::guard`]) or lies in sealed memory ([`create_in_memory`]).
//!
//! Files best lie in memory (`/dev/shm`): on a disk the kernel writes pages back now and then, and the next store to each
//! of them faults.
//!
//! Never here: a payload that is looked into, a message dropped in silence.
//!
//! ```
//! # use chronicle_platform::sim::Sim;
//! use chronicle_storage::ring::{self, EndOptions, RingOptions, spsc};
//! use std::{path::Path, time::Duration};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (system, path) = (Sim::new(1), Path::new("/ticks"));
//! ring::create(&system, path, &RingOptions::spsc(1 << 16))?;
//!
//! // In one process:
//! let mut producer = spsc::Producer::open(&system, path, EndOptions::default())?;
//! producer.push(b"hello")?;
//!
//! // In another:
//! let mut consumer = spsc::Consumer::open(&system, path, EndOptions::default())?;
//! let len = consumer.step_wait(Duration::from_secs(1), |frame| frame.payload.len())?;
//! consumer.release();
//! assert_eq!(len, 5);
//! # Ok(()) }
//! ```

pub mod broadcast;
mod end;
mod lock;
pub mod mpsc;
mod place;
pub mod slots;
pub mod spsc;
mod status;
mod wait;

use crate::{Error, queue::WakePolicy};
use chronicle_core::ring::Kind;
use std::fmt;

pub use place::{PLACE_LEN, RawPlace, create, create_in_memory, create_slots, create_slots_in_memory};
pub use status::{Blocked, EndStatus, Holder, Status, status};
pub use wait::{WaitPolicy, Waited};

/// What a ring is to be. Of values of a type: [`create_slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingOptions {
    /// Who its ends are.
    pub kind: Kind,
    /// Bytes of its data, a power of two; for [`Kind::Slots`] how many slots.
    pub capacity: usize,
    /// Most producers at a time ([`Kind::Mpsc`]).
    pub producers: u32,
    /// Who pays for waking.
    pub wake: WakePolicy,
}

impl RingOptions {
    /// One producer, one consumer.
    #[must_use]
    pub fn spsc(capacity: usize) -> Self {
        RingOptions { kind: Kind::Spsc, capacity, producers: 1, wake: WakePolicy::Auto }
    }

    /// Up to so many producers, one consumer.
    #[must_use]
    pub fn mpsc(capacity: usize, producers: u32) -> Self {
        RingOptions { producers, ..RingOptions { kind: Kind::Mpsc, ..RingOptions::spsc(capacity) } }
    }

    /// One writer, any number of readers.
    #[must_use]
    pub fn broadcast(capacity: usize) -> Self {
        RingOptions { kind: Kind::Broadcast, ..RingOptions::spsc(capacity) }
    }
}

/// How an end of a ring behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndOptions {
    /// How its waits pass the time.
    pub wait: WaitPolicy,
    /// Stay alive where a peer cuts the file ([`chronicle_platform::Platform::guard`]); the end then says that it is damaged.
    pub guard: bool,
    /// Pin its pages in memory.
    pub lock_memory: bool,
}

/// Why the other side is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// Nobody has that end: it was given up in order, or never taken.
    Closed,
    /// Whoever had it died.
    Died,
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Disconnect::Closed => "nobody has the other end",
            Disconnect::Died => "the process at the other end died",
        })
    }
}

/// Why nothing was sent within the time. The ring is as it was.
#[derive(Debug)]
pub enum SendError {
    /// There was no room.
    TimedOut,
    /// There was no room, and there is nobody to make some. Sending again waits for somebody to come.
    Disconnected(Disconnect),
    /// No ring of this capacity takes such a payload.
    TooLarge {
        /// Its length.
        len: usize,
        /// The largest one.
        max: usize,
    },
    /// Damage or trouble.
    Failed(Error),
}

/// Why nothing was received within the time.
#[derive(Debug)]
pub enum ReceiveError {
    /// There was nothing.
    TimedOut,
    /// There was nothing, and there is nobody to send. Receiving again waits for somebody to come.
    Disconnected(Disconnect),
    /// Damage or trouble.
    Failed(Error),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::TimedOut => f.write_str("timed out: the ring had no room"),
            SendError::Disconnected(why) => write!(f, "the ring has no room: {why}"),
            SendError::TooLarge { len, max } => {
                write!(f, "payload of {len} bytes is too large: this ring takes at most {max}")
            }
            SendError::Failed(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReceiveError::TimedOut => f.write_str("timed out: the ring was empty"),
            ReceiveError::Disconnected(why) => write!(f, "the ring is empty: {why}"),
            ReceiveError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let SendError::Failed(error) = self { std::error::Error::source(error) } else { None }
    }
}

impl std::error::Error for ReceiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let ReceiveError::Failed(error) = self { std::error::Error::source(error) } else { None }
    }
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        SendError::Failed(error)
    }
}

impl From<Error> for ReceiveError {
    fn from(error: Error) -> Self {
        ReceiveError::Failed(error)
    }
}
