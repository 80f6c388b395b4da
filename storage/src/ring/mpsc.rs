//! Many producers, one consumer, messages of variable length, in different processes: [`chronicle_core::ring::mpsc`] with
//! locks and waiting.
//!
//! Each producer registers one of the ring's slots and holds that slot's lock for its life. What a killed producer had
//! claimed stands in the way of what others claimed later, until [`Consumer::reap`] passes over it: it asks the locks who
//! is dead, and nothing else. [`Consumer::wait`] and [`Consumer::step_wait`] reap by themselves, ten times a second while
//! they wait. A consumer that only ever calls [`Consumer::step`] must reap itself, or call `wait(Duration::ZERO)` when it
//! finds nothing: that looks at the clock, and reaps when it is time.
//!
//! A *stopped* producer is not dead: what it has claimed is waited for until it goes on or is killed, and
//! [`Consumer::blocked`] and [`super::status`] say which one it is.

use super::{
    Blocked, Disconnect, EndOptions, ReceiveError, SendError, Waited,
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
        mpsc::{self, DATA_WAKE, RegisterError, SPACE_WAKE},
    },
};
use chronicle_platform::{Open, Platform};
use std::{path::Path, time::Duration};

pub use chronicle_core::ring::mpsc::{Batch, Claim, Frame, PushError, Reaped, frame_len};

/// One of the writing ends. May be sent to another thread, not shared. Dropping it frees its slot.
#[derive(Debug)]
pub struct Producer<P: Platform> {
    /// `None` only while this is dropped.
    ring: Option<mpsc::Producer<P::MapMut>>,
    end: End<P>,
    consumer: Peer<P>,
    // Last: whoever finds this lock free and the slot held knows that its owner is dead.
    pub(super) lock: Held<P>,
}

impl<P: Platform> Producer<P> {
    /// Registers with the ring at `path`.
    ///
    /// # Errors
    ///
    /// All slots are held, by the living or by the dead whom no consumer has reaped for half a second; no such ring;
    /// damage; trouble.
    pub fn open(platform: &P, path: &Path, options: EndOptions) -> Result<Self> {
        Self::over(platform, &platform.open(path, Open::Write)?, path, options)
    }

    /// As [`Producer::open`], of a ring in memory that was handed over; `path` is where its locks lie.
    ///
    /// # Errors
    ///
    /// As [`Producer::open`].
    pub fn over(platform: &P, file: &P::File, path: &Path, options: EndOptions) -> Result<Self> {
        let slots = place::expect(platform, path, file, Kind::Mpsc)?.header.unit;
        for attempt in 1.. {
            // Another map each time: a registration keeps it.
            let map = place::map(platform, path, file, Kind::Mpsc, &options)?;
            let held = mpsc::look(&map).map_err(|damage| Error::damage(path, damage))?.held;
            if let Some((slot, lock)) = free_slot(platform, path, slots, held)? {
                match mpsc::Producer::register_at(map, slot) {
                    Ok(ring) => {
                        let end = End::new(platform, path, ring.wake_mode(), &options)?;
                        let consumer = Peer::new(lock::consumer_lock(path), Open::EnsurePrivate);
                        return Ok(Producer { ring: Some(ring), end, consumer, lock });
                    }
                    // Somebody came and died in between. The lock goes, for the consumer must find it free.
                    Err(RegisterError::Taken { .. } | RegisterError::NoSlot { .. }) => drop(lock),
                    Err(RegisterError::Damage(damage)) => return Err(Error::damage(path, damage)),
                }
            }
            // Those of the dead are freed by the consumer's next look at them.
            if attempt == lock::TRIES {
                break;
            }
            platform.sleep(lock::PAUSE);
        }
        let what =
            format!("no slot left: all {slots} are held, by the living or by the dead that no consumer has reaped");
        Err(Error::Options { path: path.to_path_buf(), what })
    }

    /// Copies a payload into the ring and commits it.
    ///
    /// # Errors
    ///
    /// No room, the payload is too large, or see [`PushError`].
    #[inline]
    pub fn push(&mut self, payload: &[u8]) -> std::result::Result<(), PushError> {
        self.ring_mut().push(payload)?;
        self.wake();
        Ok(())
    }

    /// As [`Producer::push`], of `len` bytes that `fill` writes in place. Until it returns, the consumer gets nothing
    /// that others have claimed later.
    ///
    /// # Errors
    ///
    /// As [`Producer::push`]; then `fill` is not called.
    #[inline]
    pub fn push_with(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut Claim<'_, P::MapMut>),
    ) -> std::result::Result<(), PushError> {
        let mut claim = self.ring_mut().claim(len)?;
        fill(&mut claim);
        claim.commit();
        self.wake();
        Ok(())
    }

    /// As many messages as fit `len` bytes, each [`mpsc::frame_len`], that `fill` pushes: claimed by one atomic step, seen
    /// all at once, with none of other producers in between.
    ///
    /// # Errors
    ///
    /// As [`Producer::push`]; then `fill` is not called.
    #[inline]
    pub fn push_batch(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut Batch<'_, P::MapMut>),
    ) -> std::result::Result<(), PushError> {
        let mut batch = self.ring_mut().claim_batch(len)?;
        fill(&mut batch);
        batch.commit();
        self.wake();
        Ok(())
    }

    /// One load and one branch while nobody sleeps.
    #[inline(always)]
    fn wake(&self) {
        if self.ring().sleepers(self.end.mode) {
            self.end.wake(self.ring().region(), DATA_WAKE);
        }
    }

    /// As [`Producer::push`], waiting for room.
    ///
    /// # Errors
    ///
    /// The time is over, there is nobody to make room, the payload is too large, or damage and trouble.
    pub fn push_wait(&mut self, payload: &[u8], timeout: Duration) -> std::result::Result<(), SendError> {
        let mut deadline = None;
        let mut waited = Waited::Ready;
        loop {
            match self.push(payload) {
                Ok(()) => return Ok(()),
                Err(PushError::Full { .. } | PushError::Contended) => {}
                Err(PushError::TooLarge { len, max }) => return Err(SendError::TooLarge { len, max }),
                Err(PushError::Damage(damage)) => return Err(Error::damage(&self.end.path, damage).into()),
            }
            match waited {
                Waited::Ready => {}
                Waited::TimedOut => return Err(SendError::TimedOut),
                Waited::Disconnected(why) => return Err(SendError::Disconnected(why)),
            }
            let deadline = *deadline.get_or_insert_with(|| Deadline::after(&self.end.platform, timeout));
            waited = self.wait(payload.len(), deadline.left(&self.end.platform))?;
            waited = deadline.bound(&self.end.platform, waited);
        }
    }

    /// Waits until there is room for a payload of `len` bytes; others may take it first.
    ///
    /// # Errors
    ///
    /// The ring's file was cut, if this end is guarded; trouble.
    pub fn wait(&mut self, len: usize, timeout: Duration) -> Result<Waited> {
        self.end.check(self.ring().region())?;
        wait(self.end.waiting(), timeout, Room { producer: self, len })
    }

    #[inline(always)]
    fn ring(&self) -> &mpsc::Producer<P::MapMut> {
        self.ring.as_ref().expect(HERE)
    }

    #[inline(always)]
    fn ring_mut(&mut self) -> &mut mpsc::Producer<P::MapMut> {
        self.ring.as_mut().expect(HERE)
    }

    /// The slot that this producer holds.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.ring().slot()
    }

    /// How much is claimed and not released; see [`mpsc::Producer::occupancy`].
    ///
    /// # Errors
    ///
    /// Positions that no end of ours stores.
    pub fn occupancy(&self) -> std::result::Result<Occupancy, Damage> {
        self.ring().occupancy()
    }

    /// Whether a peer has cut the file: what was pushed since reaches nobody. Only a guarded end lives to tell.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.end.is_cut(self.ring().region())
    }
}

const HERE: &str = "bug: a producer without its ring is used while it is dropped";

impl<P: Platform> Drop for Producer<P> {
    fn drop(&mut self) {
        // The ring's own drop frees the slot by a store. In a forked child the slot is the parent's still, and nothing of
        // ours is mapped where the store would go.
        if !self.lock.is_ours() {
            std::mem::forget(self.ring.take());
        }
    }
}

/// A slot that nobody holds, with its lock.
fn free_slot<P: Platform>(platform: &P, path: &Path, slots: u32, held: u64) -> Result<Option<(u32, Held<P>)>> {
    for slot in (0..slots).filter(|slot| held >> slot & 1 == 0) {
        if let Some(lock) = Held::try_take(platform, &lock::slot_lock(path, slot), Open::EnsurePrivate)? {
            return Ok(Some((slot, lock)));
        }
    }
    Ok(None)
}

/// A producer that waits for room.
struct Room<'a, P: Platform> {
    producer: &'a mut Producer<P>,
    len: usize,
}

impl<P: Platform> Side for Room<'_, P> {
    fn is_ready(&self) -> bool {
        self.producer.ring().has_room(self.len)
    }

    fn sleep(&self, timeout: Duration) -> Result<()> {
        let (ring, end) = (self.producer.ring(), &self.producer.end);
        let mark = || ring.mark_sleeper();
        park(&end.platform, ring.region(), (SPACE_WAKE, end.mode), timeout, mark, || self.is_ready())
    }

    fn missing(&mut self) -> Result<Option<Disconnect>> {
        self.producer.end.check(self.producer.ring().region())?;
        self.producer.consumer.missing(&self.producer.end.platform)
    }

    fn asked_ns(&mut self) -> &mut u64 {
        &mut self.producer.end.asked_ns
    }
}

/// The reading end. May be sent to another thread, not shared.
#[derive(Debug)]
pub struct Consumer<P: Platform> {
    ring: mpsc::Consumer<P::MapMut>,
    end: End<P>,
    /// One for each slot.
    producers: Vec<Peer<P>>,
    /// What the last look at the producers came to.
    missing: Option<Disconnect>,
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
        let slots = place::expect(platform, path, file, Kind::Mpsc)?.header.unit;
        let lock = Held::take(platform, &lock::consumer_lock(path), Open::EnsurePrivate)?;
        let map = place::map(platform, path, file, Kind::Mpsc, &options)?;
        let ring = mpsc::Consumer::attach(map).map_err(|damage| Error::damage(path, damage))?;
        let end = End::new(platform, path, ring.wake_mode(), &options)?;
        let producers =
            (0..slots).map(|slot| Peer::new(lock::slot_lock(path, slot), Open::EnsurePrivate)).collect::<Vec<_>>();
        let mut consumer = Consumer { ring, end, producers, missing: None, _lock: lock };
        // Those who died while nobody was here.
        consumer.reap()?;
        Ok(consumer)
    }

    /// The next message; `None` if there is none yet, or if the next one is claimed and not committed. Its room is the
    /// producers' after [`Consumer::release`].
    ///
    /// # Errors
    ///
    /// A length that no producer of ours stores. It stays so; the ring has to be made anew.
    #[inline]
    pub fn step(&self) -> std::result::Result<Option<Frame<'_>>, Damage> {
        self.ring.step()
    }

    /// Gives the room of all messages taken so far back to the producers.
    #[inline]
    pub fn release(&mut self) {
        self.ring.release();
        if self.ring.sleepers(self.end.mode) {
            self.end.wake(self.ring.region(), SPACE_WAKE);
        }
    }

    /// Passes over what dead producers claimed and will never commit, and frees their slots. Who is dead is asked of the
    /// kernel: a slot that is held and whose lock is free.
    ///
    /// # Errors
    ///
    /// Words that no producer of ours stores; trouble with a lock.
    pub fn reap(&mut self) -> Result<Reaped> {
        let (platform, producers) = (&self.end.platform, &mut self.producers);
        let (mut living, mut trouble) = (false, None);
        let reaped = self.ring.reap(|slot, _| {
            // A slot that the header did not have when we looked first: a peer's word, and nobody's death.
            let Some(producer) = producers.get_mut(slot as usize) else { return true };
            match producer.missing(platform) {
                Ok(missing) => {
                    living |= missing.is_none();
                    missing.is_none()
                }
                // Not proved dead.
                Err(error) => {
                    trouble = Some(error);
                    true
                }
            }
        });
        let reaped = reaped.map_err(|damage| Error::damage(&self.end.path, damage))?;
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        self.missing = match (living, reaped.slots > 0) {
            (true, _) => None,
            (false, true) => Some(Disconnect::Died),
            (false, false) => Some(self.missing.unwrap_or(Disconnect::Closed)),
        };
        // What was passed over may be room.
        if self.ring.sleepers(self.end.mode) {
            self.end.wake(self.ring.region(), SPACE_WAKE);
        }
        Ok(reaped)
    }

    /// What all consumers of this ring together passed over because its owner was dead.
    #[must_use]
    pub fn reaped(&self) -> Reaped {
        self.ring.reaped()
    }

    /// Waits until there is something to step to. Reaps now and then.
    ///
    /// # Errors
    ///
    /// Damage; the ring's file was cut, if this end is guarded; trouble.
    pub fn wait(&mut self, timeout: Duration) -> Result<Waited> {
        self.end.check(self.ring.region())?;
        wait(self.end.waiting(), timeout, Data(self))
    }

    /// Waits for the next message and gives it to `take`. Its room is the producers' after [`Consumer::release`]; before
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

    /// What this consumer waits for, if it is there and claimed: a living producer that is about to commit, a stopped
    /// one, or a dead one that was not reaped yet.
    ///
    /// # Errors
    ///
    /// Positions that no end of ours stores.
    pub fn blocked(&self) -> std::result::Result<Option<Blocked>, Damage> {
        Ok(Blocked::of(&mpsc::look(self.ring.region())?))
    }

    /// How much is claimed and not released; see [`mpsc::Consumer::occupancy`].
    ///
    /// # Errors
    ///
    /// Positions that no end of ours stores.
    pub fn occupancy(&self) -> std::result::Result<Occupancy, Damage> {
        self.ring.occupancy()
    }

    /// The number that the next message gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.ring.next_seq()
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
        self.0.reap()?;
        Ok(self.0.missing)
    }

    fn asked_ns(&mut self) -> &mut u64 {
        &mut self.0.end.asked_ns
    }
}
