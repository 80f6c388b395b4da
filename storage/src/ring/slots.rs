//! One producer, one consumer, values of one type, in different processes: [`chronicle_core::ring::slots`] with locks and
//! waiting.
//!
//! The ring's header names the values' length and nothing else of their type: which type it is, is for the two programs to
//! agree on. Whoever is killed is followed by a process that opens the same end: a producer goes on with the next number, a
//! consumer at the oldest value that was not released.

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
        slots::{self, DATA_WAKE, SPACE_WAKE},
    },
};
use chronicle_platform::{Open, Platform};
use std::{path::Path, time::Duration};

pub use chronicle_core::ring::slots::{PushError, Value};

/// The writing end. May be sent to another thread, not shared.
#[derive(Debug)]
pub struct Producer<T, P: Platform> {
    ring: slots::Producer<T, P::MapMut>,
    end: End<P>,
    consumer: Peer<P>,
    // Last: it is given up when nothing else is left.
    _lock: Held<P>,
}

impl<T: Value, P: Platform> Producer<T, P> {
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
        place::expect(platform, path, file, Kind::Slots)?;
        let lock = Held::take(platform, &lock::producer_lock(path), Open::EnsurePrivate)?;
        let map = place::map(platform, path, file, Kind::Slots, &options)?;
        let ring = slots::Producer::attach(map).map_err(|damage| Error::damage(path, damage))?;
        let end = End::new(platform, path, ring.wake_mode(), &options)?;
        let consumer = Peer::new(lock::consumer_lock(path), Open::EnsurePrivate);
        Ok(Producer { ring, end, consumer, _lock: lock })
    }

    /// Pushes one value and publishes it, with all that was staged before.
    ///
    /// # Errors
    ///
    /// No room, or damage; the value comes back.
    #[inline(always)]
    pub fn push(&mut self, value: T) -> std::result::Result<(), PushError<T>> {
        self.ring.push(value)?;
        self.wake();
        Ok(())
    }

    /// Pushes as many of the first values as there is room for, by one store; returns how many.
    ///
    /// # Errors
    ///
    /// Damage.
    #[inline]
    pub fn push_slice(&mut self, values: &[T]) -> std::result::Result<usize, Damage> {
        let count = self.ring.push_slice(values)?;
        self.wake();
        Ok(count)
    }

    /// Writes one value that the consumer does not see before [`Producer::publish`].
    ///
    /// # Errors
    ///
    /// As [`Producer::push`]. When staged values fill the ring, publish them: nobody else can make room.
    #[inline(always)]
    pub fn stage(&mut self, value: T) -> std::result::Result<(), PushError<T>> {
        self.ring.stage(value)
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
    /// The time is over, there is nobody to make room, or damage and trouble.
    pub fn push_wait(&mut self, value: T, timeout: Duration) -> std::result::Result<(), SendError> {
        let mut deadline = None;
        let mut waited = Waited::Ready;
        loop {
            match self.push(value) {
                Ok(()) => return Ok(()),
                Err(PushError::Full(_)) => {}
                Err(PushError::Damage(_, damage)) => return Err(Error::damage(&self.end.path, damage).into()),
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
            waited = self.wait(deadline.left(&self.end.platform))?;
            waited = deadline.bound(&self.end.platform, waited);
        }
    }

    /// Waits until a value can be pushed.
    ///
    /// # Errors
    ///
    /// The ring's file was cut, if this end is guarded; trouble.
    pub fn wait(&mut self, timeout: Duration) -> Result<Waited> {
        self.end.check(self.ring.region())?;
        wait(self.end.waiting(), timeout, Room(self))
    }

    /// The number that the next value gets.
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
struct Room<'a, T, P: Platform>(&'a mut Producer<T, P>);

impl<T: Value, P: Platform> Side for Room<'_, T, P> {
    fn is_ready(&self) -> bool {
        self.0.ring.has_room(1)
    }

    fn sleep(&self, timeout: Duration) -> Result<()> {
        let Producer { ring, end, .. } = &*self.0;
        let mark = || ring.mark_sleeper();
        park(&end.platform, ring.region(), (SPACE_WAKE, end.mode), timeout, mark, || self.is_ready())
    }

    fn missing(&mut self) -> Result<Option<Disconnect>> {
        self.0.end.check(self.0.ring.region())?;
        self.0.consumer.missing(&self.0.end.platform)
    }

    fn asked_ns(&mut self) -> &mut u64 {
        &mut self.0.end.asked_ns
    }
}

/// The reading end. May be sent to another thread, not shared.
#[derive(Debug)]
pub struct Consumer<T, P: Platform> {
    ring: slots::Consumer<T, P::MapMut>,
    end: End<P>,
    producer: Peer<P>,
    // Last: it is given up when nothing else is left.
    _lock: Held<P>,
}

impl<T: Value, P: Platform> Consumer<T, P> {
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
        place::expect(platform, path, file, Kind::Slots)?;
        let lock = Held::take(platform, &lock::consumer_lock(path), Open::EnsurePrivate)?;
        let map = place::map(platform, path, file, Kind::Slots, &options)?;
        let ring = slots::Consumer::attach(map).map_err(|damage| Error::damage(path, damage))?;
        let end = End::new(platform, path, ring.wake_mode(), &options)?;
        let producer = Peer::new(lock::producer_lock(path), Open::EnsurePrivate);
        Ok(Consumer { ring, end, producer, _lock: lock })
    }

    /// Takes the oldest value and releases it, with all that was taken before; `None` if there is none now.
    ///
    /// # Errors
    ///
    /// Damage: what no producer stores. The consumer stays where it is.
    #[inline(always)]
    pub fn pop(&mut self) -> std::result::Result<Option<T>, Damage> {
        let value = self.ring.pop()?;
        self.end.intact(self.ring.region())?;
        self.wake();
        Ok(value)
    }

    /// Takes as many of the oldest values as there are and fit, and releases them by one store; returns how many.
    ///
    /// # Errors
    ///
    /// As [`Consumer::pop`].
    #[inline]
    pub fn pop_slice(&mut self, out: &mut [T]) -> std::result::Result<usize, Damage> {
        let count = self.ring.pop_slice(out)?;
        self.end.intact(self.ring.region())?;
        self.wake();
        Ok(count)
    }

    /// Takes the oldest value. Its slot is the producer's after [`Consumer::release`].
    ///
    /// # Errors
    ///
    /// As [`Consumer::pop`].
    #[inline(always)]
    pub fn step(&mut self) -> std::result::Result<Option<T>, Damage> {
        let value = self.ring.step()?;
        self.end.intact(self.ring.region())?;
        Ok(value)
    }

    /// Frees the slots of all values taken so far.
    #[inline]
    pub fn release(&mut self) {
        self.ring.release();
        self.wake();
    }

    /// One load and one branch while nobody sleeps.
    #[inline(always)]
    fn wake(&self) {
        if self.ring.sleepers(self.end.mode) {
            self.end.wake(self.ring.region(), SPACE_WAKE);
        }
    }

    /// Waits until there is a value.
    ///
    /// # Errors
    ///
    /// The ring's file was cut, if this end is guarded; trouble.
    pub fn wait(&mut self, timeout: Duration) -> Result<Waited> {
        self.end.check(self.ring.region())?;
        wait(self.end.waiting(), timeout, Data(self))
    }

    /// As [`Consumer::pop`], waiting for a value.
    ///
    /// # Errors
    ///
    /// The time is over, there is nobody to send, or damage and trouble.
    pub fn pop_wait(&mut self, timeout: Duration) -> std::result::Result<T, ReceiveError> {
        let mut deadline = None;
        let mut waited = Waited::Ready;
        loop {
            match self.pop() {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {}
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

    /// How much is published and not released; see [`Occupancy`] for what may have changed.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        self.ring.occupancy()
    }

    /// Whether a peer has cut the file: what was read since is not the ring's. Only a guarded end lives to tell.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.end.is_cut(self.ring.region())
    }
}

/// A consumer that waits for values.
struct Data<'a, T, P: Platform>(&'a mut Consumer<T, P>);

impl<T: Value, P: Platform> Side for Data<'_, T, P> {
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
