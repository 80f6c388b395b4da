//! Two processes that talk to each other: a queue each way.
//!
//! Each side writes one queue, which opening makes, and reads the other's, which may not be there yet: nobody has to be
//! first. Until the other side has come, [`Duplex::next`] has nothing, and says so in no other way; who wants to be told
//! watches the other's queue with a [`SubscriberDiscovery`](crate::SubscriberDiscovery).

use crate::{
    error::Result,
    message::Message,
    typed::{Publisher, Received, Subscriber},
};
use chronicle_platform::Platform;
use chronicle_storage::queue::{PublisherOptions, Queue, ReadError, Refused, SubscriberOptions};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How often a side looks whether the other has come.
const LOOK: Duration = Duration::from_millis(1);

/// One side of a conversation: sends `Out`, receives `In`.
#[derive(Debug)]
pub struct Duplex<P: Platform, Out: Message, In: Message> {
    platform: P,
    out: Publisher<P, Out>,
    /// `None` until the other side has made its queue.
    input: Option<Subscriber<P, In>>,
    path: PathBuf,
    name: String,
    options: SubscriberOptions,
    /// When it was last looked for.
    looked_ns: Option<u64>,
}

impl<P: Platform, Out: Message, In: Message> Duplex<P, Out, In> {
    /// Opens a side that writes the queue at `out` and reads the one at `input`, as the reader `name`.
    ///
    /// # Errors
    ///
    /// As [`Publisher::open`] and, where the other side's queue is there, [`Subscriber::open`].
    pub fn open(
        platform: &P,
        out: impl AsRef<Path>,
        input: impl Into<PathBuf>,
        name: &str,
        publisher: PublisherOptions,
        subscriber: SubscriberOptions,
    ) -> Result<Self> {
        let mut duplex = Duplex {
            platform: platform.clone(),
            out: Publisher::open(platform, out, publisher)?,
            input: None,
            path: input.into(),
            name: name.to_owned(),
            options: subscriber,
            looked_ns: None,
        };
        duplex.look()?;
        Ok(duplex)
    }

    /// Whether the other side's queue is there and open. It never becomes false again.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.input.is_some()
    }

    /// Sends a message. It waits in the queue for the other side, there or not.
    ///
    /// # Errors
    ///
    /// As [`Publisher::send`].
    #[inline]
    pub fn send(&mut self, time_ns: u64, message: &Out) -> std::result::Result<u64, Refused> {
        self.out.send(time_ns, message)
    }

    /// What comes next from the other side; `None` too while it has never been there.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::next`], and what opening the other side's queue may meet.
    // Not an iterator: what it hands out borrows the reader.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> std::result::Result<Option<Received<'_, In>>, ReadError> {
        if !self.is_connected() {
            self.look()?;
        }
        match &mut self.input {
            Some(subscriber) => subscriber.next(),
            None => Ok(None),
        }
    }

    /// The end that sends.
    pub fn out(&mut self) -> &mut Publisher<P, Out> {
        &mut self.out
    }

    /// The end that receives, once the other side has come.
    pub fn input(&mut self) -> Option<&mut Subscriber<P, In>> {
        self.input.as_mut()
    }

    #[cold]
    fn look(&mut self) -> chronicle_storage::Result<()> {
        let now = self.platform.monotonic_ns();
        if self.looked_ns.is_some_and(|looked| now.wrapping_sub(looked) < LOOK.as_nanos() as u64) {
            return Ok(());
        }
        self.looked_ns = Some(now);
        match Queue::subscriber(&self.platform, &self.path, &self.name, self.options.clone()) {
            Ok(queue) => self.input = Some(Subscriber::over(queue)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
