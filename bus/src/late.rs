//! Who comes late: a snapshot of what went before, then the live stream, without a gap and without a repeat.
//!
//! A snapshot is any state that says up to which frame of which queue it goes ([`Snapshot`]); where it comes from (a
//! queue of snapshots, a file, another process) is the caller's business. [`LateJoiner::join`] takes one, stands the reader behind
//! it, and makes sure that the frame behind it is still to be had:
//!
//! ```text
//! take a snapshot            up to seq s of queue q
//! q is not this queue        refused: seqs of another queue mean nothing here
//! seek to s + 1, look        there, or still to come: joined. frames up to s are passed over, also those that come later
//!                            retired: the snapshot is too old. once more with a newer one, as often as one comes
//! ```
//!
//! A snapshot may be ahead of the reader's view of the queue as well as behind it: its maker reads the same queue and may
//! be faster. What a crash of the machine took is told by the live stream as it is to any reader ([`ReadError::Lost`]).
//!
//! Never here: a snapshot that is made, kept or looked into.

use chronicle_core::Frame;
use chronicle_platform::Platform;
use chronicle_storage::queue::{ReadError, Start, Subscriber};
use std::fmt;

/// A state, and how far it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot<S> {
    /// The queue whose frames it is made of.
    pub queue_id: [u8; 16],
    /// The last frame that is in it; 0 = none is.
    pub seq: u64,
    /// The state.
    pub state: S,
}

/// Why nobody was let in.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError<E> {
    /// There is no snapshot yet: try again later.
    None,
    /// The newest snapshot ends before the oldest frame that is left: try again when there is a newer one.
    TooOld {
        /// The last frame in it.
        snapshot: u64,
        /// The oldest that is left.
        oldest: u64,
    },
    /// The snapshot is of another queue than the reader's.
    OtherQueue {
        /// The snapshot's.
        snapshot: [u8; 16],
        /// The reader's.
        reader: [u8; 16],
    },
    /// The snapshot could not be had.
    Snapshot(E),
    /// The queue could not be read.
    Read(ReadError),
}

impl<E: fmt::Display> fmt::Display for JoinError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |id: &[u8; 16]| format!("{:032x}", u128::from_be_bytes(*id));
        match self {
            JoinError::None => f.write_str("no snapshot yet"),
            JoinError::TooOld { snapshot, oldest } => {
                write!(f, "snapshot ends with seq {snapshot}, the oldest frame left is seq {oldest}")
            }
            JoinError::OtherQueue { snapshot, reader } => {
                write!(f, "snapshot is of queue {}, the reader of queue {}", hex(snapshot), hex(reader))
            }
            JoinError::Snapshot(error) => error.fmt(f),
            JoinError::Read(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for JoinError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JoinError::Snapshot(error) => error.source(),
            JoinError::Read(error) => error.source(),
            _ => None,
        }
    }
}

/// A reader that begins with a snapshot.
#[derive(Debug)]
pub struct LateJoiner<P: Platform> {
    subscriber: Subscriber<P>,
    /// The first frame that is not in the snapshot, once there is one.
    from: Option<u64>,
    /// Met while joining, and told first.
    event: Option<ReadError>,
}

impl<P: Platform> LateJoiner<P> {
    /// Over a reader of the live stream, wherever it stands. It reads nothing before it has joined.
    #[must_use]
    pub fn new(subscriber: Subscriber<P>) -> Self {
        LateJoiner { subscriber, from: None, event: None }
    }

    /// Takes the newest snapshot that `snapshot` has and stands behind it. `snapshot` is asked again as long as what it has
    /// is too old and becomes newer. May be called again at any time, such as after a loss.
    ///
    /// # Errors
    ///
    /// There is no snapshot, or none that the stream still connects to: nothing is read until one is joined.
    pub fn join<S, E>(
        &mut self,
        mut snapshot: impl FnMut() -> Result<Option<Snapshot<S>>, E>,
    ) -> Result<S, JoinError<E>> {
        (self.from, self.event) = (None, None);
        let mut before: Option<(u64, u64)> = None;
        loop {
            let taken = snapshot().map_err(JoinError::Snapshot)?.ok_or(JoinError::None)?;
            let reader = self.subscriber.queue_id();
            if taken.queue_id != reader {
                return Err(JoinError::OtherQueue { snapshot: taken.queue_id, reader });
            }
            if let Some((snapshot, oldest)) = before
                && taken.seq <= snapshot
            {
                return Err(JoinError::TooOld { snapshot, oldest });
            }
            let from = taken.seq.saturating_add(1);
            match self.subscriber.seek(Start::Seq(from)).and_then(|()| self.subscriber.peek_time()) {
                Ok(_) => {}
                Err(ReadError::Lapped { resume_at }) if resume_at > from => {
                    before = Some((taken.seq, resume_at));
                    continue;
                }
                Err(event) if event.is_event() => self.event = Some(event),
                Err(error) => return Err(JoinError::Read(error)),
            }
            self.from = Some(from);
            return Ok(taken.state);
        }
    }

    /// The next frame behind the snapshot, or `None` if the writer has come no further, or nothing was joined.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::next`]. After [`ReadError::Lost`] and [`ReadError::Lapped`] frames are missing behind the
    /// snapshot: join again.
    // Not an iterator: a frame borrows the reader.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, ReadError> {
        if let Some(event) = self.event.take() {
            return Err(event);
        }
        let Some(from) = self.from else { return Ok(None) };
        while self.subscriber.position().is_none_or(|position| position.seq < from) {
            if self.subscriber.next()?.is_none() {
                return Ok(None);
            }
        }
        self.subscriber.next()
    }

    /// The reader itself: to wait, to commit.
    pub fn subscriber(&mut self) -> &mut Subscriber<P> {
        &mut self.subscriber
    }
}
