//! Queues: a directory of segments with one writer and many readers, in any number of processes.
//!
//! Use a queue to hand events from one program to others at memory speed and to keep them over crashes. The writer is
//! a [`Publisher`], a reader a [`Subscriber`]; both are made by [`Queue`].
//!
//! ```text
//! {queue}/control.meta            identity, options, synced position, bound of seqs (two slots)
//! {queue}/wake.meta               the word that sleepers sleep on
//! {queue}/writer.lock             mode 0600, locked for the writer's life
//! {queue}/alive.lock              mode 0640, so that others may look whether there is a writer
//! {queue}/{id, 20 digits}.q       segments: ended, current, prepared (chronicle_core::layout)
//! {queue}/index/{id}.idx          seek index of a segment
//! {queue}/readers/{name}.meta     cursors
//! ```
//!
//! **The hot path** makes no system call, no allocation and takes no lock: [`Publisher::append`] stores into a mapping
//! that was prepared, faulted in and handed over by a helper thread (or by [`Publisher::maintain`], where the embedder
//! wants no thread). When nothing is ready it refuses; it never waits.
//!
//! **What a crash takes.** A killed process: nothing that `append` returned. A machine that loses power: what was not
//! covered by [`Publisher::sync`] or the [`SyncPolicy`]; readers are told with [`ReadError::Lost`]. A failed sync is a
//! crash of the machine to the next writer.
//!
//! **Who takes a segment's file away** takes its frames from all readers that have not mapped it. The writer sees it within
//! a second, says so ([`Publisher::last_trouble`]) and goes on in the next segment; readers that come there hear of a lap or
//! a loss; [`describe`](fn@describe) and [`verify`](fn@verify) name the segment until the queue has retired it.
//!
//! **Who may write a file may cut it.** A load beyond the new end raises SIGBUS, which ends the process: the documented
//! exit. Readers can write two kinds of files: their own cursors, which the writer reads with `read_at`, and `wake.meta`,
//! which it must map. So a process that can open `wake.meta` for writing can end the writer, as a kill does, and nothing is
//! lost. It is created 0640: that is the writer's own user. Give its group write permission only to readers that you trust
//! that far; a reader without it is woken by nobody and looks every millisecond.
//!
//! Never here: a payload that is looked into, a frame dropped in silence, damage repaired without a word.
//!
//! What others build on:
//!
//! ```text
//! Queue::publisher(&platform, path, PublisherOptions) -> Result<Publisher<P>>
//! Queue::subscriber(&platform, path, name, SubscriberOptions) -> Result<Subscriber<P>>     named, keeps a cursor
//! Queue::observer(&platform, path, SubscriberOptions) -> Result<Subscriber<P>>             leaves no trace
//!
//! Publisher   append(Append, &[u8]) -> Result<u64, Refused>       append_wait(.., Duration) -> Result<u64, Refused>
//!             claim(len) -> Result<PublisherClaim, Refused>       sync() -> Result<Durable>
//!             roll() -> Result<(), Refused>                       maintain()
//!             close() -> Result<Durable>                          counters(), last_trouble(), queue_id(), next_seq()
//!             leave_lost() -> bool                                for who appends seldom
//! Subscriber  next() -> Result<Option<Frame>, ReadError>          poll(limit, |Frame|) -> Result<usize, ReadError>
//!             peek_time() -> Result<Option<u64>, ReadError>       commit(), commit_durable() -> Result<()>
//!             wait(Duration) -> Result<Waited, ReadError>         commit_at(Position), commit_durable_at(Position)
//!             position() -> Position                              seek(Start) -> Result<(), ReadError>
//!             writer_status(ttl) -> Result<WriterStatus>          detect_disconnect(ttl) -> Result<Option<Disconnect>>
//!    whole segments, for who keeps them elsewhere (the recorder):
//!             ended() -> Result<Option<EndedSegment>, ReadError>  the segment stood in, once it has its End
//!             next_in_segment() -> Result<Option<Frame>, ReadError>   as next(), never beyond that End
//!             leave_segment() -> Result<bool, ReadError>          to the start of the one that follows
//! detect_disconnect(&platform, path, ttl) -> Result<Option<Disconnect>>    without a reader
//! describe(&platform, path) -> Result<Description>                 for `inspect`
//! verify(&platform, path, &mut |Error|) -> Result<Verified>        every CRC, seq, chain, index entry and cursor
//! ```

mod control;
mod cursor;
mod describe;
mod index;
pub mod layout;
mod missing;
mod names;
mod publisher;
mod recover;
mod segment;
mod slots;
mod subscriber;
mod upkeep;
mod verify;

use crate::{Error, Result};
use chronicle_core::{Checksum, Clock, Trusted};
use chronicle_platform::Platform;
use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use cursor::Position;
pub use describe::{DescribedCounters, DescribedReader, DescribedSegment, Description, SegmentState, describe};
pub use missing::MissingSegment;
pub use publisher::{Counters, Durable, Publisher, PublisherClaim};
pub(crate) use recover::wake_mode;
pub use subscriber::{Disconnect, EndedSegment, Subscriber, Waited, WriterStatus, detect_disconnect};
pub use verify::{Verified, verify, verify_noting};
pub(crate) use verify::{queue_of, verify_control, verify_cursor, verify_index};

/// A directory of segments.
#[derive(Debug)]
pub struct Queue;

impl Queue {
    /// Opens the queue at `path` for writing; makes it where there is none, and recovers it after a crash.
    ///
    /// # Errors
    ///
    /// Another writer has it; an option that it cannot have; damage before the last synced position; the system's.
    pub fn publisher<P: Platform>(
        platform: &P,
        path: impl AsRef<Path>,
        options: PublisherOptions,
    ) -> Result<Publisher<P>> {
        Publisher::open(platform, path.as_ref(), options)
    }

    /// Opens the queue at `path` for reading under a name, which has a cursor of its own and one reader at a time.
    ///
    /// Where the cursor file may not be written the reader reads without one: it commits nothing and holds no segment
    /// back. The directory needs only be readable.
    ///
    /// # Errors
    ///
    /// There is no queue; the name is not one, or another reader has it; damage; the system's.
    pub fn subscriber<P: Platform>(
        platform: &P,
        path: impl AsRef<Path>,
        name: &str,
        options: SubscriberOptions,
    ) -> Result<Subscriber<P>> {
        let name = names::parse_reader(name)?;
        Subscriber::open(platform, path.as_ref(), Some(name), options)
    }

    /// Opens the queue at `path` for reading without a trace: no cursor, and no segment is held back for it.
    ///
    /// # Errors
    ///
    /// As [`Queue::subscriber`].
    pub fn observer<P: Platform>(
        platform: &P,
        path: impl AsRef<Path>,
        options: SubscriberOptions,
    ) -> Result<Subscriber<P>> {
        Subscriber::open(platform, path.as_ref(), None, options)
    }
}

/// Sizes for three kinds of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// All messages of a venue: 64 MiB segments, two prepared ahead, 1 GiB in all.
    Raw,
    /// One refined stream of many: 1 MiB segments, the next one prepared past half of the current, 64 MiB in all.
    Clean,
    /// Orders of one strategy, of thousands: 256 KiB segments, the next prepared past half, 4 MiB in all.
    Orders,
}

/// When the helper makes frames durable by itself. [`Publisher::sync`] does at any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Never.
    #[default]
    None,
    /// Each segment once it has ended.
    Roll,
    /// Every so often, and each segment once it has ended.
    Every(Duration),
}

/// Who pays for waking sleepers without losing a wake-up; see [`chronicle_core::wake`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WakePolicy {
    /// `Asymmetric` where the platform can, else `Fence`.
    #[default]
    Auto,
    /// The sleeper runs a barrier on all writers; the writer pays nothing.
    Asymmetric,
    /// The writer pays a full fence for each frame: for isolated cores that nobody may interrupt.
    Fence,
}

/// How a writer keeps its queue.
///
/// ```
/// use chronicle_storage::queue::{Profile, PublisherOptions};
/// let options = PublisherOptions { max_bytes: 256 << 20, ..PublisherOptions::new(Profile::Raw) };
/// assert_eq!((options.segment_len, options.segments_ahead), (64 << 20, 2));
/// ```
#[derive(Clone, Debug)]
pub struct PublisherOptions {
    /// Length of segments: a multiple of 32 from 512 bytes to 1 GiB.
    pub segment_len: u32,
    /// Bytes that all segments together may take, prepared ones included. At least three segments.
    pub max_bytes: u64,
    /// Segments kept ready behind the current one.
    pub segments_ahead: u32,
    /// Prepare the next segment only when the current one is half full: small queues stay small.
    pub prepare_late: bool,
    /// What protects a frame. Commit words alone are refused unless the queue lies in memory.
    pub checksum: Checksum,
    /// When frames become durable by themselves.
    pub sync: SyncPolicy,
    /// Who pays for waking.
    pub wake: WakePolicy,
    /// What `time_ns` means.
    pub clock: Clock,
    /// Readers whose durable cursors retention waits for, dead or alive: names, at most 8.
    pub required: Vec<String>,
    /// Longest silence of a reader that still holds segments back; a reader may ask for less.
    pub reader_ttl: Duration,
    /// Bytes behind the writer at which a reader no longer holds segments back; `None` = no limit.
    pub reader_lag_max: Option<u64>,
    /// Own a helper thread. Without it the embedder calls [`Publisher::maintain`].
    pub helper: bool,
    /// Pin prepared segments in memory.
    pub lock_memory: bool,
}

impl PublisherOptions {
    /// The options of a profile.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        let (segment_len, max_bytes, segments_ahead, prepare_late) = match profile {
            Profile::Raw => (64 << 20, 1 << 30, 2, false),
            Profile::Clean => (1 << 20, 64 << 20, 1, true),
            Profile::Orders => (256 << 10, 4 << 20, 1, true),
        };
        PublisherOptions {
            segment_len,
            max_bytes,
            segments_ahead,
            prepare_late,
            checksum: Checksum::Frame,
            sync: SyncPolicy::None,
            wake: WakePolicy::Auto,
            clock: Clock::Ingest,
            required: Vec::new(),
            reader_ttl: Duration::from_secs(10),
            reader_lag_max: None,
            helper: true,
            lock_memory: false,
        }
    }
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self::new(Profile::Raw)
    }
}

/// Where a reader starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Where its cursor says; at the oldest frame if it has none.
    #[default]
    Cursor,
    /// At the oldest frame.
    Earliest,
    /// Behind the newest frame.
    Latest,
    /// At this seq.
    Seq(u64),
    /// So that no frame with this time or a later one is missed.
    Time(u64),
}

/// How a reader reads.
#[derive(Clone, Debug)]
pub struct SubscriberOptions {
    /// Where it starts.
    pub start: Start,
    /// Check every frame's CRC. Without it commit words are enough while the machine lives, and a queue that its writer
    /// has not recovered after a crash is checked all the same.
    pub verify_reads: bool,
    /// Silence after which it no longer holds segments back; bounded by the writer's [`PublisherOptions::reader_ttl`].
    pub ttl: Duration,
    /// Mappings of segments kept for when the writer uses their files again.
    pub keep_segments: usize,
    /// The program's word that committed bytes do not change; handed back by [`Subscriber::trusted`].
    pub trusted: Option<Trusted>,
}

impl Default for SubscriberOptions {
    fn default() -> Self {
        SubscriberOptions {
            start: Start::Cursor,
            verify_reads: false,
            ttl: Duration::from_secs(10),
            keep_segments: 64,
            trusted: None,
        }
    }
}

/// Why nothing was appended. The queue is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The next segment is being prepared: try again at once or a little later.
    NotReady,
    /// There is no disk space to prepare it; tried again all the time. See [`Publisher::last_trouble`].
    NoSpace,
    /// Preparing it failed otherwise; tried again all the time. See [`Publisher::last_trouble`].
    PrepareFailed,
    /// The budget is used up and readers still need all of it.
    QueueFull {
        /// Bytes that segments take.
        used: u64,
        /// The budget.
        max: u64,
    },
    /// No segment can take such a payload.
    TooLarge {
        /// Its length.
        len: usize,
        /// The largest one.
        max: usize,
    },
    /// A sync failed: what is on the disk is unknown for ever, so this writer appends nothing more. Appends find out at
    /// their next index entry or roll, and at once where it was [`Publisher::sync`] that failed; frames that were appended
    /// in between are as readable, and as little durable, as those before. Open the queue again: what memory holds is
    /// checked and written to new files before anything else.
    Poisoned,
}

impl Refused {
    /// Whether waiting can change it.
    fn passes(self) -> bool {
        match self {
            Refused::NotReady | Refused::NoSpace | Refused::PrepareFailed | Refused::QueueFull { .. } => true,
            Refused::TooLarge { .. } | Refused::Poisoned => false,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NotReady => f.write_str("next segment not ready yet"),
            Refused::NoSpace => f.write_str("next segment not prepared: no space"),
            Refused::PrepareFailed => f.write_str("next segment not prepared: preparing it failed"),
            Refused::QueueFull { used, max } => {
                write!(f, "queue full: {used} of {max} bytes used, and readers need all of them")
            }
            Refused::TooLarge { len, max } => {
                write!(f, "payload of {len} bytes is too large: a segment takes at most {max}")
            }
            Refused::Poisoned => f.write_str("queue poisoned by a failed sync"),
        }
    }
}

impl std::error::Error for Refused {}

/// Why a reader got no frame. The first three are events: each is told once, and the next call goes on behind it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// A crash of the machine took frames: none of these will come. `to` is a bound, the frames may have been fewer.
    Lost {
        /// The first.
        from: u64,
        /// Not beyond this one.
        to: u64,
    },
    /// The reader was too slow: segments that it had not read are gone.
    Lapped {
        /// The oldest seq that is still there; reading goes on with it.
        resume_at: u64,
    },
    /// The cursor belongs to another queue that stood here before; reading goes on where a reader without cursor starts.
    Reset {
        /// The queue's epoch.
        epoch: u32,
    },
    /// For a second somebody has kept the segment locked.
    Busy {
        /// The segment.
        path: PathBuf,
    },
    /// Damage or trouble.
    Failed(Error),
}

impl ReadError {
    /// Whether it is news about the stream, behind which reading goes on.
    #[must_use]
    pub fn is_event(&self) -> bool {
        matches!(self, ReadError::Lost { .. } | ReadError::Lapped { .. } | ReadError::Reset { .. })
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Lost { from, to } => write!(f, "frames lost in a crash: seq {from} up to at most {to}"),
            ReadError::Lapped { resume_at } => write!(f, "reader lapped: oldest frame is seq {resume_at}"),
            ReadError::Reset { epoch } => write!(f, "cursor of another queue: this one is at epoch {epoch}"),
            ReadError::Busy { path } => write!(f, "{}: locked by another process for a second", path.display()),
            ReadError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Failed(error) => std::error::Error::source(error),
            _ => None,
        }
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        ReadError::Failed(error)
    }
}

impl From<chronicle_platform::Trouble> for ReadError {
    fn from(trouble: chronicle_platform::Trouble) -> Self {
        ReadError::Failed(trouble.into())
    }
}
