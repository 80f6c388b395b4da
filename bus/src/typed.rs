//! Queues of one message.
//!
//! A [`Publisher`] writes records of one type and a [`Subscriber`] reads them; both are storage's queue ends, which
//! [`Publisher::queue`] and [`Subscriber::queue`] hand out for everything that has nothing to do with the type: waiting,
//! seeking, committing, syncing.
//!
//! A frame of another type, or one whose bytes are not the message's, is neither skipped nor an end: it is handed out as
//! what it is ([`Received`]). No allocation and no system call per message, no dynamic dispatch.

use crate::{
    error::Result,
    message::{self, Malformed, Message},
};
use chronicle_core::{Append, Frame};
use chronicle_platform::Platform;
use chronicle_storage::queue::{self, PublisherOptions, Queue, ReadError, Refused, SubscriberOptions};
use std::{marker::PhantomData, path::Path, time::Duration};

/// Writes messages of one type. One at a time has the queue.
#[derive(Debug)]
pub struct Publisher<P: Platform, M: Message> {
    queue: queue::Publisher<P>,
    _message: PhantomData<fn(&M)>,
}

impl<P: Platform, M: Message> Publisher<P, M> {
    /// Opens the queue at `path`; makes it where there is none.
    ///
    /// # Errors
    ///
    /// As [`Queue::publisher`].
    pub fn open(platform: &P, path: impl AsRef<Path>, options: PublisherOptions) -> Result<Self> {
        Ok(Self::over(Queue::publisher(platform, path, options)?))
    }

    /// Over a queue that is open already.
    #[must_use]
    pub fn over(queue: queue::Publisher<P>) -> Self {
        Publisher { queue, _message: PhantomData }
    }

    /// Appends a message: one copy into the mapping, no system call unless somebody sleeps. Returns its seq.
    ///
    /// # Errors
    ///
    /// A refusal; the queue is as it was.
    #[inline]
    pub fn send(&mut self, time_ns: u64, message: &M) -> std::result::Result<u64, Refused> {
        self.queue.append(Append { time_ns, type_id: M::TYPE_ID, flags: 0 }, message.as_bytes())
    }

    /// As [`Publisher::send`], but waits, at most `timeout`, while nothing is ready.
    ///
    /// # Errors
    ///
    /// The refusal that still stood at the end, or one that waiting cannot change.
    pub fn send_wait(&mut self, time_ns: u64, message: &M, timeout: Duration) -> std::result::Result<u64, Refused> {
        self.queue.append_wait(Append { time_ns, type_id: M::TYPE_ID, flags: 0 }, message.as_bytes(), timeout)
    }

    /// The queue itself.
    pub fn queue(&mut self) -> &mut queue::Publisher<P> {
        &mut self.queue
    }

    /// The queue alone.
    #[must_use]
    pub fn into_queue(self) -> queue::Publisher<P> {
        self.queue
    }
}

/// What came.
#[derive(Debug)]
pub enum Received<'a, M> {
    /// A message.
    Message {
        /// Its number in the stream.
        seq: u64,
        /// The stream's clock.
        time_ns: u64,
        /// It.
        message: M,
    },
    /// A frame of another type.
    Other(Frame<'a>),
    /// A frame of this type that is not such a message.
    Malformed {
        /// It, as it lies there.
        frame: Frame<'a>,
        /// What is wrong with it.
        reason: Malformed,
    },
}

impl<'a, M: Message> Received<'a, M> {
    /// What a frame is to a reader of this message.
    #[inline]
    #[must_use]
    pub fn of(frame: Frame<'a>) -> Self {
        match message::read(&frame) {
            Ok(Some(message)) => Received::Message { seq: frame.seq, time_ns: frame.time_ns, message },
            Ok(None) => Received::Other(frame),
            Err(reason) => Received::Malformed { frame, reason },
        }
    }

    /// The message, if it is one.
    #[must_use]
    pub fn message(self) -> Option<M> {
        match self {
            Received::Message { message, .. } => Some(message),
            Received::Other(_) | Received::Malformed { .. } => None,
        }
    }

    /// Its number in the stream, whatever it is.
    #[must_use]
    pub fn seq(&self) -> u64 {
        match self {
            Received::Message { seq, .. } => *seq,
            Received::Other(frame) | Received::Malformed { frame, .. } => frame.seq,
        }
    }
}

/// Reads messages of one type.
#[derive(Debug)]
pub struct Subscriber<P: Platform, M: Message> {
    queue: queue::Subscriber<P>,
    _message: PhantomData<fn() -> M>,
}

impl<P: Platform, M: Message> Subscriber<P, M> {
    /// Opens the queue at `path` under a name, which has a cursor of its own.
    ///
    /// # Errors
    ///
    /// As [`Queue::subscriber`].
    pub fn open(platform: &P, path: impl AsRef<Path>, name: &str, options: SubscriberOptions) -> Result<Self> {
        Ok(Self::over(Queue::subscriber(platform, path, name, options)?))
    }

    /// Opens the queue at `path` without a trace.
    ///
    /// # Errors
    ///
    /// As [`Queue::observer`].
    pub fn observe(platform: &P, path: impl AsRef<Path>, options: SubscriberOptions) -> Result<Self> {
        Ok(Self::over(Queue::observer(platform, path, options)?))
    }

    /// Over a queue that is open already.
    #[must_use]
    pub fn over(queue: queue::Subscriber<P>) -> Self {
        Subscriber { queue, _message: PhantomData }
    }

    /// What comes next, or `None` if the writer has come no further.
    ///
    /// # Errors
    ///
    /// As [`queue::Subscriber::next`]: an event comes once, and the next call goes on behind it.
    // Not an iterator: what it hands out borrows the reader.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> std::result::Result<Option<Received<'_, M>>, ReadError> {
        Ok(self.queue.next()?.map(Received::of))
    }

    /// The queue itself: to wait, to commit, to seek, to ask for its writer.
    pub fn queue(&mut self) -> &mut queue::Subscriber<P> {
        &mut self.queue
    }

    /// The queue alone.
    #[must_use]
    pub fn into_queue(self) -> queue::Subscriber<P> {
        self.queue
    }
}
