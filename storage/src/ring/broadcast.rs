//! One writer that nobody can stop, many readers that may lose messages and are told how many, in different processes:
//! [`chronicle_core::ring::broadcast`] with a lock and waiting.
//!
//! A reader maps the ring read-only and holds no lock. To sleep until the writer wakes it, it marks a word in the ring's
//! first bytes, which it maps for writing if it may; a reader without that permission looks every millisecond.

use super::{
    Disconnect, EndOptions, ReceiveError, Waited,
    end::{Deadline, End, wait},
    lock::{self, Held, Peer},
    place,
    wait::{Side, UNWOKEN, park},
};
use crate::{Error, Result};
use chronicle_core::{
    Damage, Region, RegionMut,
    ring::{
        Kind,
        broadcast::{self, AttachError, DATA, DATA_WAKE},
    },
    wake,
};
use chronicle_platform::{Open, Platform, TroubleKind};
use std::{path::Path, time::Duration};
use zerocopy::{FromBytes, IntoBytes};

pub use chronicle_core::ring::broadcast::{Claim, Received, Start, TooLarge};

/// The writing end. May be sent to another thread, not shared.
#[derive(Debug)]
pub struct Writer<P: Platform> {
    ring: broadcast::Writer<P::MapMut>,
    end: End<P>,
    /// For readers to look at, who cannot open the lock. `None` where a reader would not let go of it.
    _alive: Option<Held<P>>,
    // Last: it is given up when nothing else is left.
    _lock: Held<P>,
}

impl<P: Platform> Writer<P> {
    /// Takes the writing end of the ring at `path`.
    ///
    /// # Errors
    ///
    /// Somebody has it ([`Error::Locked`]), also somebody who is stopped; no such ring; damage; trouble.
    pub fn open(platform: &P, path: &Path, options: EndOptions) -> Result<Self> {
        Self::over(platform, &platform.open(path, Open::Write)?, path, options)
    }

    /// As [`Writer::open`], of a ring in memory that was handed over; `path` is where its locks lie.
    ///
    /// # Errors
    ///
    /// As [`Writer::open`].
    pub fn over(platform: &P, file: &P::File, path: &Path, options: EndOptions) -> Result<Self> {
        place::expect(platform, path, file, Kind::Broadcast)?;
        let lock = Held::take(platform, &lock::writer_lock(path), Open::EnsurePrivate)?;
        let alive = match Held::take(platform, &lock::alive_lock(path), Open::Ensure) {
            Ok(alive) => Some(alive),
            // A reader keeps it: readers then believe that there is no writer, and nothing worse.
            Err(Error::Locked { .. }) => None,
            Err(error) => return Err(error),
        };
        let map = place::map(platform, path, file, Kind::Broadcast, &options)?;
        let ring = broadcast::Writer::attach(map).map_err(|damage| Error::damage(path, damage))?;
        let end = End::new(platform, path, ring.wake_mode(), &options)?;
        Ok(Writer { ring, end, _alive: alive, _lock: lock })
    }

    /// Writes a message that readers see at once; returns its seq. It never fails but for the length, and never waits.
    ///
    /// # Errors
    ///
    /// The message is longer than [`Writer::max_payload`].
    #[inline(always)]
    pub fn push(&mut self, message: &[u8]) -> std::result::Result<u64, TooLarge> {
        let seq = self.ring.push(message)?;
        self.wake();
        Ok(seq)
    }

    /// As [`Writer::push`], of `len` bytes that `fill` writes in place.
    ///
    /// # Errors
    ///
    /// As [`Writer::push`]; then `fill` is not called.
    #[inline]
    pub fn push_with(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut Claim<'_, P::MapMut>),
    ) -> std::result::Result<u64, TooLarge> {
        let mut claim = self.ring.claim(len)?;
        fill(&mut claim);
        let seq = claim.commit();
        self.wake();
        Ok(seq)
    }

    /// One load and one branch while nobody sleeps.
    #[inline(always)]
    fn wake(&self) {
        if self.ring.sleepers(self.end.mode) {
            self.end.wake(self.ring.region(), DATA_WAKE);
        }
    }

    /// The seq of the next message.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.ring.next_seq()
    }

    /// The longest message.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.ring.max_payload()
    }

    /// Whether a peer has cut the file: what was pushed since reaches nobody. Only a guarded end lives to tell.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.end.is_cut(self.ring.region())
    }
}

/// A reading end: any number of them. May be sent to another thread, not shared.
#[derive(Debug)]
pub struct Reader<P: Platform> {
    ring: broadcast::Reader<P::Map>,
    end: End<P>,
    /// The ring's first bytes for writing, where we may.
    waker: Option<P::MapMut>,
    writer: Peer<P>,
    guarded: bool,
}

impl<P: Platform> Reader<P> {
    /// Begins to read the ring at `path`.
    ///
    /// # Errors
    ///
    /// No such ring; a seq that it has not reached; damage; trouble; a writer so fast that no place could be found
    /// ([`Error::Busy`]).
    pub fn open(platform: &P, path: &Path, start: Start, options: EndOptions) -> Result<Self> {
        let (file, waker) = match platform.open(path, Open::Write) {
            Ok(file) => (file, true),
            Err(trouble) if trouble.kind() == TroubleKind::Denied => (platform.open(path, Open::Read)?, false),
            Err(trouble) => return Err(trouble.into()),
        };
        Self::attach(platform, &file, path, start, options, waker)
    }

    /// As [`Reader::open`], of a ring in memory that was handed over; `path` is where its writer's lock lies.
    ///
    /// # Errors
    ///
    /// As [`Reader::open`].
    pub fn over(platform: &P, file: &P::File, path: &Path, start: Start, options: EndOptions) -> Result<Self> {
        Self::attach(platform, file, path, start, options, true)
    }

    fn attach(
        platform: &P,
        file: &P::File,
        path: &Path,
        start: Start,
        options: EndOptions,
        waker: bool,
    ) -> Result<Self> {
        let found = place::expect(platform, path, file, Kind::Broadcast)?;
        let map = platform.map(file, found.len)?;
        if options.guard {
            platform.guard(&map)?;
        }
        platform.prefault(&map)?;
        // What was handed over for reading alone cannot be mapped for more: then nobody wakes us.
        let waker = if waker { platform.map_mut(file, DATA).ok() } else { None };
        if let Some(waker) = &waker {
            if options.guard {
                platform.guard_mut(waker)?;
            }
            platform.prefault_mut(waker)?;
        }
        let ring = broadcast::Reader::attach(map, start).map_err(|error| match error {
            AttachError::Damage(damage) => Error::damage(path, damage),
            AttachError::Overtaken => Error::Busy { path: path.to_path_buf() },
            AttachError::Ahead { .. } => Error::Options { path: path.to_path_buf(), what: error.to_string() },
        })?;
        // A reader publishes nothing: barriers need not reach it.
        let end = End::new(platform, path, wake::Mode::Fence, &options)?;
        let writer = Peer::new(lock::alive_lock(path), Open::Read);
        Ok(Reader { ring, end, waker, writer, guarded: options.guard })
    }

    /// Copies the next message into `buffer`, or says that there is none, that some were lost, or that it does not fit.
    ///
    /// # Errors
    ///
    /// Damage: bytes that no writer of ours could have left here.
    #[inline]
    pub fn receive(&mut self, buffer: &mut [u8]) -> std::result::Result<Received, Damage> {
        let received = self.ring.receive(buffer)?;
        self.intact()?;
        Ok(received)
    }

    /// Copies the next message into `value`; [`Received::Unfit`] if it has not exactly its length.
    ///
    /// # Errors
    ///
    /// As [`Reader::receive`].
    #[inline]
    pub fn receive_value<T: FromBytes + IntoBytes>(&mut self, value: &mut T) -> std::result::Result<Received, Damage> {
        let received = self.ring.receive_value(value)?;
        self.intact()?;
        Ok(received)
    }

    /// Passes over the next message without copying it.
    ///
    /// # Errors
    ///
    /// As [`Reader::receive`].
    pub fn skip(&mut self) -> std::result::Result<Received, Damage> {
        let received = self.ring.skip()?;
        self.intact()?;
        Ok(received)
    }

    #[inline]
    fn intact(&self) -> std::result::Result<(), Damage> {
        if self.is_damaged() { Err(place::cut_damage(self.ring.region())) } else { Ok(()) }
    }

    /// Waits until there is something to receive: a message, or the news that some were lost.
    ///
    /// # Errors
    ///
    /// The ring's file was cut, if this reader is guarded; trouble.
    pub fn wait(&mut self, timeout: Duration) -> Result<Waited> {
        self.intact().map_err(|damage| Error::damage(&self.end.path, damage))?;
        wait(self.end.waiting(), timeout, Data(self))
    }

    /// As [`Reader::receive`], waiting while there is nothing: never [`Received::Empty`].
    ///
    /// # Errors
    ///
    /// The time is over, there is no writer, or damage and trouble.
    pub fn receive_wait(
        &mut self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> std::result::Result<Received, ReceiveError> {
        let mut deadline = None;
        let mut waited = Waited::Ready;
        loop {
            match self.receive(buffer) {
                Ok(Received::Empty) => {}
                Ok(received) => return Ok(received),
                Err(damage) => return Err(Error::damage(&self.end.path, damage).into()),
            }
            match waited {
                Waited::Ready => {}
                Waited::TimedOut => return Err(ReceiveError::TimedOut),
                Waited::Disconnected(why) => return Err(ReceiveError::Disconnected(why)),
            }
            let deadline = *deadline.get_or_insert_with(|| Deadline::after(&self.end.platform, timeout));
            waited = self.wait(deadline.left(&self.end.platform))?;
            waited = deadline.bound(&self.end.platform, waited);
        }
    }

    /// The seq of the next message, if it is not lost.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.ring.next_seq()
    }

    /// Bytes from the reader to where the writer may be writing; see [`broadcast::Reader::lag`].
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.ring.lag()
    }

    /// Whether the writer can wake this reader; else it looks every millisecond while it waits.
    #[must_use]
    pub fn is_woken(&self) -> bool {
        self.waker.is_some()
    }

    /// Whether a peer has cut the file. Only a guarded reader lives to tell.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.guarded && self.end.platform.is_damaged(self.ring.region())
    }
}

/// A reader that waits for messages.
struct Data<'a, P: Platform>(&'a mut Reader<P>);

impl<P: Platform> Side for Data<'_, P> {
    fn is_ready(&self) -> bool {
        self.0.ring.is_ready()
    }

    fn sleep(&self, timeout: Duration) -> Result<()> {
        let Reader { ring, end, waker, .. } = &*self.0;
        match waker {
            Some(waker) => {
                let mark = || wake::mark(waker.window_mut(), DATA_WAKE);
                park(&end.platform, waker, (DATA_WAKE, ring.wake_mode()), timeout, mark, || ring.is_ready())
            }
            None => {
                // Nobody wakes us, but for another reader's sake.
                let seen = ring.region().window().load(DATA_WAKE);
                _ = end.platform.wait(ring.region(), DATA_WAKE, seen, timeout.min(UNWOKEN))?;
                Ok(())
            }
        }
    }

    fn missing(&mut self) -> Result<Option<Disconnect>> {
        self.0.intact().map_err(|damage| Error::damage(&self.0.end.path, damage))?;
        self.0.writer.missing(&self.0.end.platform)
    }

    fn asked_ns(&mut self) -> &mut u64 {
        &mut self.0.end.asked_ns
    }
}
