//! The writing end of a venue's raw stream, that takes a record whatever readers do.
//!
//! ```text
//! the hot queue has room        claim, write in place, commit                       no copy of our own, no allocation
//! it is full                    append to the overflow queue, on disk               in order: everything goes there ...
//! it has room again             drain the overflow into it, oldest first            ... until nothing is left there
//! the overflow is full too      drop, and say so                                    the caller puts a Gap before the next
//! ```
//!
//! The overflow queue outlives its writer: what a killed feed left in it is drained first by the next one. Its cursor
//! moves behind each frame once that is in the hot queue, so a kill between the two repeats one frame and loses none; the
//! refinery counts a repeated record as a duplicate.
//!
//! Never here: a wait for a reader, a record dropped in silence.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chronicle_core::Append;
use chronicle_platform::Platform;
use chronicle_protocol::Record;
use chronicle_storage::{
    Error,
    queue::{Publisher, PublisherOptions, Queue, ReadError, Refused, Subscriber, SubscriberOptions},
};
use serde::Serialize;

/// Name of the cursor with which the overflow queue is drained.
const DRAIN: &str = "drain";
/// How long a roll of the hot queue may take before it counts as full: preparing a segment is a matter of milliseconds.
const NOT_READY_MAX: Duration = Duration::from_millis(20);
/// Frames between two durable commits of the drain, which lets the overflow use its segments again.
const DRAINED_DURABLY: u64 = 512;

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Into the hot queue: readers see it.
    Hot,
    /// Into the overflow queue: readers see it once there is room.
    Overflow,
    /// Nowhere. The stream must say so before it goes on.
    Dropped,
}

/// Why the raw stream cannot be written any more.
#[derive(Debug)]
#[non_exhaustive]
pub enum RawError {
    /// The hot queue refuses for good.
    Refused(Refused),
    /// The overflow queue cannot be opened or read.
    Overflow(Error),
    /// The overflow queue lost frames: this many at most.
    OverflowLost {
        /// How many.
        frames: u64,
    },
}

impl fmt::Display for RawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => write!(f, "raw queue: {refused}"),
            Self::Overflow(error) => write!(f, "overflow queue: {error}"),
            Self::OverflowLost { frames } => write!(f, "overflow queue: {frames} frames were lost"),
        }
    }
}

impl core::error::Error for RawError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Overflow(error) => error.source(),
            _ => None,
        }
    }
}

/// What was written since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RawCounts {
    /// Records that went into the hot queue at once.
    pub hot: u64,
    /// Records that went into the overflow queue.
    pub overflowed: u64,
    /// Records that went from there into the hot queue.
    pub drained: u64,
    /// Records that went nowhere.
    pub dropped: u64,
}

/// The overflow queue, both ends.
#[derive(Debug)]
struct Overflow<P: Platform> {
    writer: Publisher<P>,
    reader: Subscriber<P>,
    /// The frame that is read and not yet in the hot queue.
    taken: Option<Append>,
    payload: Vec<u8>,
    since_durable: u64,
}

impl<P: Platform> Overflow<P> {
    fn open(platform: &P, path: &Path, options: &PublisherOptions) -> Result<Self, Error> {
        platform.create_dirs(path.parent().unwrap_or(path))?;
        let options = PublisherOptions { required: vec![DRAIN.to_owned()], ..options.clone() };
        let writer = Queue::publisher(platform, path, options)?;
        let reader = Queue::subscriber(platform, path, DRAIN, SubscriberOptions::default())?;
        Ok(Self { writer, reader, taken: None, payload: Vec::new(), since_durable: 0 })
    }

    /// The next frame that must go into the hot queue, if there is one.
    fn front(&mut self) -> Result<Option<(Append, &[u8])>, RawError> {
        if self.taken.is_none() {
            loop {
                match self.reader.next() {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        self.payload.resize(frame.payload.len(), 0);
                        frame.payload.copy_to(&mut self.payload);
                        self.taken =
                            Some(Append { time_ns: frame.time_ns, type_id: frame.type_id, flags: frame.flags });
                        break;
                    }
                    // Told once; then it goes on behind what was lost.
                    Err(ReadError::Lost { from, to }) => {
                        return Err(RawError::OverflowLost { frames: to.saturating_sub(from).saturating_add(1) });
                    }
                    Err(ReadError::Failed(error)) => return Err(RawError::Overflow(error)),
                    // A reset: the queue was made anew, and nothing of before is in it.
                    Err(event) if event.is_event() => {}
                    // Somebody keeps a segment locked: again later.
                    Err(_) => break,
                }
            }
        }
        Ok(self.taken.map(|append| (append, self.payload.as_slice())))
    }

    /// The front is in the hot queue.
    fn pop(&mut self) -> Result<(), Error> {
        self.taken = None;
        self.reader.commit()?;
        self.since_durable += 1;
        if self.since_durable >= DRAINED_DURABLY {
            self.settle()?;
        }
        Ok(())
    }

    /// Lets the queue use again what is drained.
    fn settle(&mut self) -> Result<(), Error> {
        if self.since_durable > 0 {
            self.since_durable = 0;
            self.reader.commit_durable()?;
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub struct RawEnd<P: Platform> {
    platform: P,
    hot: Publisher<P>,
    overflow: Option<Overflow<P>>,
    overflow_path: PathBuf,
    overflow_options: PublisherOptions,
    /// Something may be left in the overflow: nothing goes into the hot queue before it.
    behind: bool,
    counts: RawCounts,
}

impl<P: Platform> RawEnd<P> {
    /// Takes the hot queue's writer, and the overflow queue that a feed before may have left at `overflow`.
    ///
    /// # Errors
    ///
    /// The overflow queue is there and cannot be opened.
    pub fn new(
        platform: &P,
        hot: Publisher<P>,
        overflow: &Path,
        overflow_options: PublisherOptions,
    ) -> Result<Self, RawError> {
        let mut end = Self {
            platform: platform.clone(),
            hot,
            overflow: None,
            overflow_path: overflow.to_owned(),
            overflow_options,
            behind: false,
            counts: RawCounts::default(),
        };
        if platform.exists(overflow).map_err(|trouble| RawError::Overflow(trouble.into()))? {
            end.overflow = Some(Overflow::open(platform, overflow, &end.overflow_options).map_err(RawError::Overflow)?);
            end.behind = true;
        }
        Ok(end)
    }

    /// Puts a record at the end of the stream.
    ///
    /// # Errors
    ///
    /// The stream cannot be written any more.
    ///
    /// # Panics
    ///
    /// If the record cannot be encoded: those that a venue's dialect reads can.
    pub fn put(&mut self, record: &Record<'_>) -> Result<Put, RawError> {
        if self.behind {
            self.drain(16)?;
        }
        if !self.behind {
            let refused = match write(&mut self.hot, record) {
                Ok(()) => {
                    self.counts.hot += 1;
                    return Ok(Put::Hot);
                }
                Err(Refused::NotReady) => self.put_soon(record)?,
                Err(refused) => Some(refused),
            };
            match refused {
                None => {
                    self.counts.hot += 1;
                    return Ok(Put::Hot);
                }
                Some(refused) if is_final(refused) => return Err(RawError::Refused(refused)),
                Some(Refused::TooLarge { .. }) => {
                    self.counts.dropped += 1;
                    return Ok(Put::Dropped);
                }
                Some(_) => {}
            }
        }
        self.put_aside(record)
    }

    /// The hot queue's next segment is being prepared: that takes a moment.
    #[cold]
    fn put_soon(&mut self, record: &Record<'_>) -> Result<Option<Refused>, RawError> {
        let deadline = self.platform.monotonic_ns().saturating_add(NOT_READY_MAX.as_nanos() as u64);
        loop {
            self.platform.sleep(Duration::from_micros(50));
            match write(&mut self.hot, record) {
                Ok(()) => return Ok(None),
                Err(Refused::NotReady) if self.platform.monotonic_ns() < deadline => {}
                Err(refused) => return Ok(Some(refused)),
            }
        }
    }

    #[cold]
    fn put_aside(&mut self, record: &Record<'_>) -> Result<Put, RawError> {
        let overflow = match &mut self.overflow {
            Some(overflow) => overflow,
            none => none.insert(
                Overflow::open(&self.platform, &self.overflow_path, &self.overflow_options)
                    .map_err(RawError::Overflow)?,
            ),
        };
        let deadline = self.platform.monotonic_ns().saturating_add(NOT_READY_MAX.as_nanos() as u64);
        let mut prepared = 0;
        loop {
            match write(&mut overflow.writer, record) {
                Ok(()) => {
                    self.behind = true;
                    self.counts.overflowed += 1;
                    return Ok(Put::Overflow);
                }
                // Its helper may not have run for long, on a machine that is busy: there is nothing behind this queue, so
                // the segment is prepared here.
                Err(Refused::NotReady) if prepared < 2 || self.platform.monotonic_ns() < deadline => {
                    overflow.writer.maintain();
                    prepared += 1;
                }
                // A disk that is full, a queue that is: the record goes nowhere.
                Err(_) => {
                    self.counts.dropped += 1;
                    return Ok(Put::Dropped);
                }
            }
        }
    }

    /// Moves up to `limit` records from the overflow into the hot queue. Gives whether any are left.
    ///
    /// # Errors
    ///
    /// The stream cannot be written any more.
    pub fn drain(&mut self, limit: usize) -> Result<bool, RawError> {
        let Some(overflow) = self.overflow.as_mut().filter(|_| self.behind) else { return Ok(false) };
        for _ in 0..limit {
            let Some((append, payload)) = overflow.front()? else {
                overflow.settle().map_err(RawError::Overflow)?;
                self.behind = false;
                return Ok(false);
            };
            match self.hot.append(append, payload) {
                Ok(_) => {
                    overflow.pop().map_err(RawError::Overflow)?;
                    self.counts.drained += 1;
                }
                Err(refused) if is_final(refused) => return Err(RawError::Refused(refused)),
                Err(Refused::TooLarge { .. }) => {
                    // It went aside under a writer with larger segments. It cannot go on; what is behind it can.
                    overflow.pop().map_err(RawError::Overflow)?;
                    self.counts.dropped += 1;
                }
                Err(_) => return Ok(true),
            }
        }
        Ok(true)
    }

    /// Something waits in the overflow queue, as far as is known.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// What was written.
    #[must_use]
    pub fn counts(&self) -> RawCounts {
        self.counts
    }

    /// What is wrong with the hot queue, and passes or does not matter to what is appended from now on: a segment whose file
    /// somebody took away is left at once.
    pub(super) fn look(&mut self) -> Option<Arc<Error>> {
        self.hot.leave_lost();
        self.hot.last_trouble()
    }

    /// The hot queue's writer, to end its segment or close it.
    pub fn hot(&mut self) -> &mut Publisher<P> {
        &mut self.hot
    }

    /// Closes the overflow queue and gives the hot queue's writer back. What is still in the overflow stays there for the
    /// next feed.
    ///
    /// # Errors
    ///
    /// The overflow's sync.
    pub fn into_hot(self) -> Result<Publisher<P>, RawError> {
        if let Some(overflow) = self.overflow {
            overflow.writer.close().map_err(RawError::Overflow)?;
        }
        Ok(self.hot)
    }
}

/// Waiting and other queues do not help.
fn is_final(refused: Refused) -> bool {
    matches!(refused, Refused::Poisoned)
}

/// Writes a record where readers will see it.
#[inline]
fn write<P: Platform>(queue: &mut Publisher<P>, record: &Record<'_>) -> Result<(), Refused> {
    let append = Append { time_ns: record.head().ingest_ns, type_id: record.type_id(), flags: 0 };
    let mut claim = queue.claim(record.encoded_len())?;
    match record.write(|bytes| claim.put(bytes)) {
        Ok(()) => {
            claim.commit(append);
            Ok(())
        }
        Err(why) => panic!("bug: a {} that cannot be written: {why}", record.type_name()),
    }
}
