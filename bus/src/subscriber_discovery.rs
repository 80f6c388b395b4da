//! Whether somebody writes the queue that one reads, as news.
//!
//! A [`SubscriberDiscovery`] looks at a queue's control file and its writer's lock now and then, and tells what has changed
//! since it last told: that it waits for a queue, that a writer has it, that none has and why. It works before there is a
//! queue, and beside any number of readers.
//!
//! It tells of states, not of everything that happened: a writer that ends and comes back between two looks was never gone.
//! Its seqs go on, so a reader has missed nothing by it.
//!
//! Never here: a queue that is opened, a reader that is moved, a process that is told or ended. What to do about the news
//! is the caller's.

use crate::error::Result;
use chronicle_platform::Platform;
use chronicle_storage::queue;
use std::{
    fmt, mem,
    path::{Path, PathBuf},
    time::Duration,
};

pub use chronicle_storage::queue::{Disconnect, WriterStatus};

/// Whether somebody writes a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// There is no queue.
    Waiting,
    /// A writer has it, and its heart beats.
    Connected,
    /// There is one, and no frames will come for now.
    Disconnected {
        /// Why.
        reason: Disconnect,
    },
}

impl Link {
    /// Whether it is the same news: a silence that lasts is not told again.
    fn is_like(self, other: Link) -> bool {
        match (self, other) {
            (Link::Disconnected { reason }, Link::Disconnected { reason: other }) => {
                mem::discriminant(&reason) == mem::discriminant(&other)
            }
            _ => self == other,
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Link::Waiting => f.write_str("waiting for a queue"),
            Link::Connected => f.write_str("connected"),
            Link::Disconnected { reason: Disconnect::Closed } => f.write_str("disconnected: the writer closed it"),
            Link::Disconnected { reason: Disconnect::Died } => f.write_str("disconnected: the writer died"),
            Link::Disconnected { reason: Disconnect::Stale { age } } => {
                write!(f, "disconnected: the writer has done nothing for {} ms", age.as_millis())
            }
        }
    }
}

/// Looks after one queue. See the module's page.
#[derive(Debug)]
pub struct SubscriberDiscovery<P: Platform> {
    platform: P,
    path: PathBuf,
    ttl: Duration,
    every: Duration,
    told: Option<Link>,
    looked_ns: Option<u64>,
}

impl<P: Platform> SubscriberDiscovery<P> {
    /// For the queue at `path`, there or not. A writer that gives no sign for `ttl` is stale; one with its helper thread
    /// gives several a second.
    #[must_use]
    pub fn new(platform: &P, path: impl AsRef<Path>, ttl: Duration) -> Self {
        SubscriberDiscovery {
            platform: platform.clone(),
            path: path.as_ref().to_path_buf(),
            ttl,
            every: Duration::from_millis(10),
            told: None,
            looked_ns: None,
        }
    }

    /// Looks at most so often; more frequent calls have nothing to tell. 10 ms unless it is said.
    #[must_use]
    pub fn looking_every(self, every: Duration) -> Self {
        SubscriberDiscovery { every, ..self }
    }

    /// What has changed since it was last told; the first look tells in any case.
    ///
    /// # Errors
    ///
    /// The control file is damaged, or the system's: the link is as it was, and the next call looks again.
    pub fn poll(&mut self) -> Result<Option<Link>> {
        let now = self.platform.monotonic_ns();
        if self.looked_ns.is_some_and(|looked| now.wrapping_sub(looked) < self.every.as_nanos() as u64) {
            return Ok(None);
        }
        self.looked_ns = Some(now);
        let link = match queue::detect_disconnect(&self.platform, &self.path, self.ttl) {
            Ok(None) => Link::Connected,
            Ok(Some(reason)) => Link::Disconnected { reason },
            Err(error) if error.is_not_found() => Link::Waiting,
            Err(error) => return Err(error.into()),
        };
        if self.told.is_some_and(|told| told.is_like(link)) {
            return Ok(None);
        }
        self.told = Some(link);
        Ok(Some(link))
    }

    /// What was last told; [`Link::Waiting`] before the first look.
    #[must_use]
    pub fn link(&self) -> Link {
        self.told.unwrap_or(Link::Waiting)
    }
}
