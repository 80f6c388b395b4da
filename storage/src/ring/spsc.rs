//! One producer, one consumer, messages of variable length, in different processes: [`chronicle_core::ring::spsc`] with
//! locks and waiting.
//!
//! Whoever is killed is followed by a process that opens the same end: a producer goes on with the next number, a consumer
//! at the oldest message that was not released.

use super::{
    Disconnect, EndOptions, ReceiveError, SendError, Waited,
    end::{Deadline, End, wait},
    lock::{self, Held, Peer},
    place,
    wait::{Side, park},
};
use crate::{Error, Result};
use chronicle_core::{
    Damage,
    ring::{
        Kind, Occupancy,
        spsc::{self, DATA_WAKE, SPACE_WAKE},
    },
};
use chronicle_platform::{Open, Platform};
use std::{path::Path, time::Duration};

pub use chronicle_core::ring::spsc::{Claim, Frame, PopError, PushError};

/// The writing end. May be sent to another thread, not shared.
#[derive(Debug)]
pub struct Producer<P: Platform> {
    ring: spsc::Producer<P::MapMut>,
    end: End<P>,
    consumer: Peer<P>,
    // Last: it is given up when nothing else is left.
    _lock: Held<P>,
}

impl<P: Platform> Producer<P> {
    /// Takes the writing end of the ring at `path`.
    ///
    /// # Errors
    ///
    /// Somebody has it ([`Error::Locked`]), also somebody who is stopped; no such ring; damage; trouble.
    pub fn open(platform: &P, path: &Path, options: EndOptions) -> Result<Self> {
        Self::over(platform, &platform.open(path, Open::Write)?, path, options)
    }

    /// As [`Producer::open`], of a ring in memory that was handed over; `path` is where its locks lie.
    ///
    /// # Errors
    ///
    /// As [`Producer::open`].
    pub fn over(platform: &P, file: &P::File, path: &Path, options: EndOptions) -> Result<Self> {
        place::expect(platform, path, file, Kind::Spsc)?;
        let lock = Held::take(platform, &lock::producer_lock(path), Open::EnsurePrivate)?;
        let map = place::map(platform, path, file, Kind::Spsc, &options)?;
        let ring = spsc::Producer::attach(map).map_err(|damage| Error::damage(path, damage))?;
        let end = End::new(platform, path, ring.wake_mode(), &options)?;
        let consumer = Peer::new(lock::consumer_lock(path), Open::EnsurePrivate);
        Ok(Producer { ring, end, consumer, _lock: lock })
    }

    /// Pushes one message and publishes it, with all that was staged before; returns its seq.
    ///
    /// # Errors
    ///
    /// No room, the payload is larger than any that this ring takes, or damage.
    #[inline(always)]
    pub fn push(&mut self, payload: &[u8]) -> std::result::Result<u64, PushError> {
        let seq = self.ring.push(payload)?;
        self.wake();
        Ok(seq)
    }

    /// As [`Producer::push`], of `len` bytes that `fill` writes in place.
    ///
    /// # Errors
    ///
    /// As [`Producer::push`]; then `fill` is not called.
    #[inline]
    pub fn push_with(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut Claim<'_, P::MapMut>),
    ) -> std::result::Result<u64, PushError> {
        let mut claim = self.ring.claim(len)?;
        fill(&mut claim);
        let seq = claim.commit();
        self.wake();
        Ok(seq)
    }

    /// Writes one message that the consumer does not see before [`Producer::publish`]; returns its seq.
    ///
    /// # Errors
    ///
    /// As [`Producer::push`]. When staged messages fill the ring, publish them: nobody else can make room.
    #[inline(always)]
    pub fn stage(&mut self, payload: &[u8]) -> std::result::Result<u64, PushError> {
        self.ring.stage(payload)
    }

    /// Makes everything staged visible.
    #[inline(always)]
    pub fn publish(&mut self) {
        self.ring.publish();
        self.wake();
    }

    /// One load and one branch while nobody sleeps.
    #[inline(always)]
    fn wake(&self) {
        if self.ring.sleepers(self.end.mode) {
            self.end.wake(self.ring.region(), DATA_WAKE);
        }
    }

    /// As [`Producer::push`], waiting for room. Publishes what is staged first if there is none.
    ///
    /// # Errors
    ///
    /// The time is over, there is nobody to make room, the payload is too large, or damage and trouble.
    pub fn push_wait(&mut self, payload: &[u8], timeout: Duration) -> std::result::Result<u64, SendError> {
        let mut deadline = None;
        let mut waited = Waited::Ready;
        loop {
            match self.push(payload) {
                Ok(seq) => return Ok(seq),
                Err(PushError::Full { .. }) => {}
                Err(PushError::TooLarge { len, max }) => return Err(SendError::TooLarge { len, max }),
                Err(PushError::Damage(damage)) => return Err(Error::damage(&self.end.path, damage).into()),
            }
            match waited {
                Waited::Ready => {}
                Waited::TimedOut => return Err(SendError::TimedOut),
                Waited::Disconnected(why) => return Err(SendError::Disconnected(why)),
            }
            let deadline = *deadline.get_or_insert_with(|| {
                self.publish();
                Deadline::after(&self.end.platform, timeout)
            });
            waited = self.wait(payload.len(), deadline.left(&self.end.platform))?;
            waited = deadline.bound(&self.end.platform, waited);
        }
    }

    /// Waits until a payload of `len` bytes can be pushed.
    ///
    /// # Errors
    ///
    /// The ring's file was cut, if this end is guarded; trouble.
    pub fn wait(&mut self, len: usize, timeout: Duration) -> Result<Waited> {
        self.end.check(self.ring.region())?;
        wait(self.end.waiting(), timeout, Room { producer: self, len })
    }

    /// The number that the next message gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.ring.next_seq()
    }

    /// How much is published and not released; see [`Occupancy`] for what may have changed.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        self.ring.occupancy()
    }

    /// Whether a peer has cut the file: what was pushed since reaches nobody. Only a guarded end lives to tell.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.end.is_cut(self.ring.region())
    }
}

/// A producer that waits for room.
struct Room<'a, P: Platform> {
    producer: &'a mut Producer<P>,
    len: usize,
}

impl<P: Platform> Side for Room<'_, P> {
    fn is_ready(&self) -> bool {
        self.producer.ring.has_room(self.len)
    }

    fn sleep(&self, timeout: Duration) -> Result<()> {
        let Producer { ring, end, .. } = &*self.producer;
        let mark = || ring.mark_sleeper();
        park(&end.platform, ring.region(), (SPACE_WAKE, end.mode), timeout, mark, || self.is_ready())
    }

    fn missing(&mut self) -> Result<Option<Disconnect>> {
        self.producer.end.check(self.producer.ring.region())?;
        self.producer.consumer.missing(&self.producer.end.platform)
    }

    fn asked_ns(&mut self) -> &mut u64 {
        &mut self.producer.end.asked_ns
    }
}

/// The reading end. May be sent to another thread, not shared.
#[derive(Debug)]
pub struct Consumer<P: Platform> {
    ring: spsc::Consumer<P::MapMut>,
    end: End<P>,
    producer: Peer<P>,
    // Last: it is given up when nothing else is left.
    _lock: Held<P>,
}

impl<P: Platform> Consumer<P> {
    /// Takes the reading end of the ring at `path`.
    ///
    /// # Errors
    ///
    /// Somebody has it ([`Error::Locked`]), also somebody who is stopped; no such ring; damage; trouble.
    pub fn open(platform: &P, path: &Path, options: EndOptions) -> Result<Self> {
        Self::over(platform, &platform.open(path, Open::Write)?, path, options)
    }

    /// As [`Consumer::open`], of a ring in memory that was handed over; `path` is where its locks lie.
    ///
    /// # Errors
    ///
    /// As [`Consumer::open`].
    pub fn over(platform: &P, file: &P::File, path: &Path, options: EndOptions) -> Result<Self> {
        place::expect(platform, path, file, Kind::Spsc)?;
        let lock = Held::take(platform, &lock::consumer_lock(path), Open::EnsurePrivate)?;
        let map = place::map(platform, path, file, Kind::Spsc, &options)?;
        let ring = spsc::Consumer::attach(map).map_err(|damage| Error::damage(path, damage))?;
        let end = End::new(platform, path, ring.wake_mode(), &options)?;
        let producer = Peer::new(lock::producer_lock(path), Open::EnsurePrivate);
        Ok(Consumer { ring, end, producer, _lock: lock })
    }

    /// Takes the next message; `None` if there is none now. Its room is the producer's after [`Consumer::release`].
    ///
    /// # Errors
    ///
    /// Damage: what no producer stores. The consumer stays where it is.
    #[inline(always)]
    pub fn step(&self) -> std::result::Result<Option<Frame<'_>>, Damage> {
        self.ring.step()
    }

    /// Frees the room of every message taken so far.
    #[inline]
    pub fn release(&mut self) {
        self.ring.release();
        self.wake();
    }

    /// Copies the next message into `out`: its seq and its bytes, or `None` if there is nothing. Releases by itself, now
    /// and then.
    ///
    /// # Errors
    ///
    /// `out` is too short, and the message is still there; or damage.
    #[inline]
    pub fn pop<'o>(&mut self, out: &'o mut [u8]) -> std::result::Result<Option<(u64, &'o mut [u8])>, PopError> {
        let popped = self.ring.pop(out)?;
        self.end.intact(self.ring.region())?;
        self.wake();
        Ok(popped)
    }

    /// One load and one branch while nobody sleeps.
    #[inline(always)]
    fn wake(&self) {
        if self.ring.sleepers(self.end.mode) {
            self.end.wake(self.ring.region(), SPACE_WAKE);
        }
    }

    /// Waits until there is something to step to.
    ///
    /// # Errors
    ///
    /// The ring's file was cut, if this end is guarded; trouble.
    pub fn wait(&mut self, timeout: Duration) -> Result<Waited> {
        self.end.check(self.ring.region())?;
        wait(self.end.waiting(), timeout, Data(self))
    }

    /// Waits for the next message and gives it to `take`. Its room is the producer's after [`Consumer::release`]; before
    /// waiting, what was taken so far is released.
    ///
    /// # Errors
    ///
    /// The time is over, there is nobody to send, or damage and trouble.
    pub fn step_wait<T>(
        &mut self,
        timeout: Duration,
        take: impl FnOnce(Frame<'_>) -> T,
    ) -> std::result::Result<T, ReceiveError> {
        let mut deadline = None;
        let mut waited = Waited::Ready;
        loop {
            match self.ring.step() {
                Ok(Some(frame)) => return Ok(take(frame)),
                Ok(None) => {}
                Err(damage) => return Err(Error::damage(&self.end.path, damage).into()),
            }
            match waited {
                Waited::Ready => {}
                Waited::TimedOut => return Err(ReceiveError::TimedOut),
                Waited::Disconnected(why) => return Err(ReceiveError::Disconnected(why)),
            }
            let deadline = *deadline.get_or_insert_with(|| {
                self.release();
                Deadline::after(&self.end.platform, timeout)
            });
            waited = self.wait(deadline.left(&self.end.platform))?;
            waited = deadline.bound(&self.end.platform, waited);
        }
    }

    /// How much is published and not released; see [`Occupancy`] for what may have changed.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        self.ring.occupancy()
    }

    /// Whether a peer has cut the file: what was read since is not the ring's. Only a guarded end lives to tell. Ask after
    /// a payload was read and before it is believed.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.end.is_cut(self.ring.region())
    }
}

/// A consumer that waits for messages.
struct Data<'a, P: Platform>(&'a mut Consumer<P>);

impl<P: Platform> Side for Data<'_, P> {
    fn is_ready(&self) -> bool {
        self.0.ring.is_ready()
    }

    fn sleep(&self, timeout: Duration) -> Result<()> {
        let Consumer { ring, end, .. } = &*self.0;
        let mark = || ring.mark_sleeper();
        park(&end.platform, ring.region(), (DATA_WAKE, end.mode), timeout, mark, || ring.is_ready())
    }

    fn missing(&mut self) -> Result<Option<Disconnect>> {
        self.0.end.check(self.0.ring.region())?;
        self.0.producer.missing(&self.0.end.platform)
    }

    fn asked_ns(&mut self) -> &mut u64 {
        &mut self.0.end.asked_ns
    }
}
