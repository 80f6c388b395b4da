//! One producer, one consumer, values of one type, every bit pattern of which is a value.
//!
//! ```text
//! push: look at head, only when the room known of is used up    pop: look at tail, only when …
//!       copy the value into its slot   relaxed words                 copy it out             relaxed words
//!       tail + 1                       Release                       head + 1                Release
//! ```
//!
//! A slot is as long as the value, rounded up to whole words; it has no header, and nothing tells one lap from another
//! but the two positions. So a hostile peer can give the other end wrong *values*, which is why every bit pattern must be
//! one, or an impossible position, which is [`Damage`]. The ring's header names the value's length and nothing else of its
//! type: which type it is, is for the two programs to agree on.
//!
//! Many values may share one store: [`Producer::stage`] and [`Producer::publish`], [`Consumer::step`] and
//! [`Consumer::release`], whole slices, and chunks. After a kill each end goes on as in [`super::spsc`]: what was staged
//! is lost, what was not released is delivered again.
//!
//! Never here: values with pointers or destructors, which only mean something in one process ([`super::local`]).
//!
//! ```
//! # #[cfg(feature = "std")] {
//! use chronicle_core::{HeapRegion, ring::slots::{self, Consumer, Producer, PushError, Spec}};
//!
//! let region = HeapRegion::new(slots::len::<[u32; 3]>(2).unwrap());
//! slots::format::<[u32; 3], _>(&region, &Spec { count: 2, ..Spec::default() }).unwrap();
//! let mut producer = Producer::<[u32; 3], _>::attach(&region).unwrap();
//! let mut consumer = Consumer::<[u32; 3], _>::attach(&region).unwrap();
//! producer.push([1, 2, 3]).unwrap();
//! producer.push([4, 5, 6]).unwrap();
//! assert_eq!(producer.push([7, 8, 9]), Err(PushError::Full([7, 8, 9])));
//! assert_eq!(consumer.pop(), Ok(Some([1, 2, 3])));
//! # }
//! ```

use super::{FormatError, Identity, Kind, Occupancy, SPACING, check_count};
use crate::{
    Damage, Fault,
    region::{Region, RegionMut},
    sync::Ordering,
    wake::{self, Mode},
};
use core::{alloc::Layout, cell::Cell, fmt, marker::PhantomData, mem::MaybeUninit};
use static_assertions::const_assert;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The producer's line: how many values were published, modulo 2³².
pub const TAIL: usize = SPACING;
/// Upper bits of that count, stored seldom; see `docs/format.md`.
pub const TAIL_HIGH: usize = TAIL + 4;
/// The consumer's line: how many values were released, modulo 2³².
pub const HEAD: usize = 2 * SPACING;
/// Wake word of who waits for values.
pub const DATA_WAKE: usize = 3 * SPACING;
/// Wake word of who waits for room.
pub const SPACE_WAKE: usize = DATA_WAKE + 4;
/// How both wait: 0 = fence, 1 = asymmetric.
pub const WAKE_MODE: usize = DATA_WAKE + 8;
/// First slot.
pub const DATA: usize = 4 * SPACING;
/// Longest value.
pub const MAX_VALUE_LEN: usize = 64 * 1024;

// `widen` finds a head that is this far behind the tail.
const_assert!(super::MAX_CAPACITY <= 1 << 30);

/// A value that may lie in memory that others write: every bit pattern is one, and it has no pointers.
pub trait Value: FromBytes + IntoBytes + Immutable + Copy {}
impl<T: FromBytes + IntoBytes + Immutable + Copy> Value for T {}

/// Bytes from one slot to the next.
const fn stride<T>() -> usize {
    const { assert!(size_of::<T>() > 0 && size_of::<T>() <= MAX_VALUE_LEN, "a slot holds 1 byte to 64 KiB") }
    size_of::<T>().next_multiple_of(4)
}

/// What a new ring is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Number of slots: a power of two.
    pub count: usize,
    /// Who it is.
    pub identity: Identity,
    /// How its ends sleep and wake.
    pub wake: Mode,
}

impl Default for Spec {
    /// 1024 slots, nobody in particular, fences.
    fn default() -> Self {
        Spec { count: 1024, identity: Identity::default(), wake: Mode::Fence }
    }
}

/// Bytes that a ring of so many values needs; `None` if no ring has so many.
#[must_use]
pub const fn len<T: Value>(count: usize) -> Option<usize> {
    match check_count(count) {
        // No overflow where `usize` has 64 bits; where it has 32, no such memory.
        Ok(_) => match count.checked_mul(stride::<T>()) {
            Some(data) => data.checked_add(DATA),
            None => None,
        },
        Err(_) => None,
    }
}

/// The memory that a ring of so many values needs; `None` if no ring has so many.
#[must_use]
pub const fn layout<T: Value>(count: usize) -> Option<Layout> {
    let Some(len) = len::<T>(count) else { return None };
    match Layout::from_size_align(len, crate::REGION_ALIGN) {
        Ok(layout) => Some(layout),
        Err(_) => None,
    }
}

/// Makes a ring of a region that nobody uses yet.
///
/// # Errors
///
/// No ring has so many slots, or the region is shorter than the ring.
pub fn format<T: Value, R: RegionMut>(region: &R, spec: &Spec) -> Result<(), FormatError> {
    let count = check_count(spec.count)?;
    let (needed, found) = (len::<T>(spec.count).unwrap_or(usize::MAX), region.len());
    if found < needed {
        return Err(FormatError::Region { needed, found });
    }
    region.window_mut().zero(TAIL, DATA - TAIL);
    super::store_mode(region, WAKE_MODE, spec.wake);
    super::store_header(region, Kind::Slots, count, size_of::<T>() as u32, spec.identity);
    Ok(())
}

/// What both ends read of a ring when they attach: checked once, believed ever after.
struct Attached {
    count: u32,
    wake: Mode,
    tail: u32,
    head: u32,
    high: u32,
}

fn attach<T: Value, R: Region>(region: &R) -> Result<Attached, Damage> {
    let unit = size_of::<T>() as u32;
    let header = super::expect(region, Kind::Slots, |header| {
        if header.unit == unit { len::<T>(header.capacity as usize) } else { None }
    })?;
    let window = region.window();
    let wake = super::read_mode(window, WAKE_MODE)?;
    // ORDERING: the head first, with Acquire: its consumer had seen the tail that it stands before, so the tail that we
    // see next is no older than that. A live peer moves its own meanwhile, and never further than the ring.
    let head = window.load_acquire(HEAD);
    let tail = window.load_acquire(TAIL);
    if tail.wrapping_sub(head) > header.capacity {
        return Err(Damage::at(TAIL as u64, Fault::Field { name: "tail", found: tail.into() }));
    }
    Ok(Attached { count: header.capacity, wake, tail, head, high: window.load(TAIL_HIGH) })
}

/// Why nothing was pushed; the value comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError<T> {
    /// No room now. Staged values take room too, and the consumer cannot release what is not published.
    Full(T),
    /// The consumer's line holds what no consumer stores.
    Damage(T, Damage),
}

impl<T> PushError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        match self {
            PushError::Full(value) | PushError::Damage(value, _) => value,
        }
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Full(_) => f.write_str("ring full"),
            PushError::Damage(_, damage) => damage.fmt(f),
        }
    }
}

impl<T: fmt::Debug> core::error::Error for PushError<T> {}

/// Why there is no chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// There are not so many slots now.
    TooFew {
        /// How many were asked for.
        asked: usize,
        /// How many there are: to write for a producer, to read for a consumer.
        there: usize,
    },
    /// The other end's line holds what it never stores.
    Damage(Damage),
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChunkError::TooFew { asked, there } => write!(f, "chunk of {asked} slots asked for, {there} there"),
            ChunkError::Damage(damage) => damage.fmt(f),
        }
    }
}

impl core::error::Error for ChunkError {}

impl From<Damage> for ChunkError {
    fn from(damage: Damage) -> Self {
        ChunkError::Damage(damage)
    }
}

/// The writing end. May be sent to another thread, not shared:
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<chronicle_core::ring::slots::Producer<u64, &'static chronicle_core::HeapRegion>>();
/// ```
///
/// Aligned to two cache lines, so that the ends do not slow each other down where they lie side by side.
#[derive(Debug)]
#[repr(align(128))]
pub struct Producer<T, R> {
    region: R,
    /// Values written so far, staged ones among them.
    tail: u64,
    /// How far `tail` may go without another look at the consumer's head.
    limit: u64,
    /// What was last stored as tail.
    published: u64,
    /// One less than the number of slots.
    mask: u32,
    wake: Mode,
    values: PhantomData<fn(T)>,
    unshared: PhantomData<Cell<()>>,
}

impl<T: Value, R: RegionMut> Producer<T, R> {
    /// Goes on where the last producer ended, or begins.
    ///
    /// # Errors
    ///
    /// The header is damaged or another ring's, its values have another length, the region is shorter than the ring, or a
    /// position is impossible.
    pub fn attach(region: R) -> Result<Self, Damage> {
        let Attached { count, wake, tail, high, .. } = attach::<T, R>(&region)?;
        let tail = super::widen(high, tail);
        Ok(Producer {
            region,
            tail,
            limit: tail,
            published: tail,
            mask: count - 1,
            wake,
            values: PhantomData,
            unshared: PhantomData,
        })
    }

    /// Pushes one value and publishes it, with all that was staged before.
    ///
    /// # Errors
    ///
    /// No room; the value comes back.
    #[inline(always)]
    pub fn push(&mut self, value: T) -> Result<(), PushError<T>> {
        self.stage(value)?;
        self.publish();
        Ok(())
    }

    /// Writes one value that the consumer does not see before [`Producer::publish`].
    ///
    /// # Errors
    ///
    /// As [`Producer::push`]. When staged values fill the ring, publish them: nobody else can make room.
    #[inline(always)]
    pub fn stage(&mut self, value: T) -> Result<(), PushError<T>> {
        if self.tail == self.limit {
            match self.look() {
                Ok(0) => return Err(PushError::Full(value)),
                Ok(_) => {}
                Err(damage) => return Err(PushError::Damage(value, damage)),
            }
        }
        self.put(&value);
        Ok(())
    }

    /// Writes the value at the tail, which must be before the limit.
    #[inline(always)]
    fn put(&mut self, value: &T) {
        debug_assert!(self.tail < self.limit);
        // SAFETY: the slot's index is below the count, and `attach` proved so many slots inside the region, each
        // `stride` bytes, a multiple of 4, and no shorter than the value.
        unsafe { self.region.window_mut().value_in_proved(offset::<T>(self.tail, self.mask), value) };
        self.tail += 1;
    }

    /// Makes everything staged visible, by one store.
    #[inline(always)]
    pub fn publish(&mut self) {
        let ordering = Ordering::Release;
        #[cfg(loom)]
        let ordering = crate::twin::step(ordering);
        // ORDERING: Release pairs with the Acquire in `Consumer::look`: whoever sees this tail sees the values before it.
        // SAFETY: a constant before `DATA`, and `attach` proved the region to reach further.
        unsafe { self.region.window().word32_proved(TAIL) }.store(self.tail as u32, ordering);
        self.published = self.tail;
    }

    /// Pushes as many of the first values as there is room for, by one store; returns how many.
    ///
    /// # Errors
    ///
    /// Damage: an impossible head.
    pub fn push_slice(&mut self, values: &[T]) -> Result<usize, Damage> {
        let count = self.known(values.len())?.min(values.len());
        if stride::<T>() == size_of::<T>() {
            let to_end = self.count() as usize - (self.tail as u32 & self.mask) as usize;
            let (first, second) = values[..count].split_at(count.min(to_end));
            for part in [first, second] {
                // SAFETY: as in `put`, for slots that follow each other without a gap, up to the last one at most.
                unsafe { self.region.window_mut().copy_in_proved(offset::<T>(self.tail, self.mask), part.as_bytes()) };
                self.tail += part.len() as u64;
            }
        } else {
            values[..count].iter().for_each(|value| self.put(value));
        }
        if count > 0 {
            self.publish();
        }
        Ok(count)
    }

    /// Takes `count` slots to be filled, all or none.
    ///
    /// # Errors
    ///
    /// There are not so many now, or damage.
    #[inline]
    pub fn chunk(&mut self, count: usize) -> Result<WriteChunk<'_, T, R>, ChunkError> {
        let there = self.known(count)?;
        if count > there {
            return Err(ChunkError::TooFew { asked: count, there });
        }
        Ok(WriteChunk { start: self.tail, end: self.tail + count as u64, producer: self })
    }

    /// How many slots are known to be free, after a look if those are fewer than `wanted`.
    #[inline]
    fn known(&mut self, wanted: usize) -> Result<usize, Damage> {
        let known = (self.limit - self.tail) as usize;
        if known < wanted { self.look() } else { Ok(known) }
    }

    /// Looks at the consumer's head; returns how many slots are free.
    #[cold]
    #[inline(never)]
    fn look(&mut self) -> Result<usize, Damage> {
        let free = self.free()?;
        self.limit = self.tail + free as u64;
        // ORDERING: Relaxed, and late: `widen` allows for as many values as a ring has.
        self.region.window_mut().store(TAIL_HIGH, (self.published >> 31) as u32);
        Ok(free)
    }

    fn free(&self) -> Result<usize, Damage> {
        // ORDERING: Acquire pairs with the Release in `Consumer::release`: the values before this head were read.
        let head = self.region.window().load_acquire(HEAD);
        let used = (self.tail as u32).wrapping_sub(head);
        if used > self.count() || (self.published as u32).wrapping_sub(head) > self.count() {
            return Err(Damage::at(HEAD as u64, Fault::Field { name: "head", found: head.into() }));
        }
        Ok((self.count() - used) as usize)
    }

    /// Whether `count` values could be pushed. Once true it stays so until the next push.
    #[must_use]
    pub fn has_room(&self, count: usize) -> bool {
        (self.limit - self.tail) as usize >= count || self.free().is_ok_and(|free| free >= count)
    }

    /// After a publication: whether the consumer sleeps and must be woken, on [`DATA_WAKE`]. One load and one branch
    /// while it does not.
    #[inline]
    #[must_use]
    pub fn sleepers(&self, mode: Mode) -> bool {
        // SAFETY: a constant before `DATA`, and `attach` proved the region to reach further.
        wake::asked(unsafe { self.region.window().word32_proved(DATA_WAKE) }, mode)
    }

    /// Marks that this end is about to sleep until there is room; returns the value of [`SPACE_WAKE`] to sleep on. Next:
    /// [`wake::settle`] or the platform's barrier, then [`Producer::has_room`] once more.
    #[must_use]
    pub fn mark_sleeper(&self) -> u32 {
        wake::mark(self.region.window_mut(), SPACE_WAKE)
    }
}

/// Offset of the slot that the value number `position`, from 0, lies in.
#[inline(always)]
fn offset<T>(position: u64, mask: u32) -> usize {
    DATA + (position as u32 & mask) as usize * stride::<T>()
}

impl<T, R: Region> Producer<T, R> {
    fn count(&self) -> u32 {
        self.mask + 1
    }

    /// The number that the next value gets, from 1.
    #[inline]
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.tail + 1
    }

    /// How the ends sleep and wake, as the ring's creator chose.
    #[must_use]
    pub fn wake_mode(&self) -> Mode {
        self.wake
    }

    /// How much is published and not released. The consumer may release more at any time; nobody else can fill it.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let used = (self.published as u32).wrapping_sub(self.region.window().load(HEAD));
        Occupancy { used: used.min(self.count()) as usize, capacity: self.count() as usize }
    }

    /// The memory.
    #[must_use]
    pub fn region(&self) -> &R {
        &self.region
    }

    /// Gives the memory back. What is staged and not published was never pushed.
    #[must_use]
    pub fn into_region(self) -> R {
        self.region
    }
}

/// Slots to be filled. Dropping the chunk gives them back, as if nothing was put; forgetting it leaves what was put staged.
#[must_use = "dropping a chunk gives its slots back"]
#[derive(Debug)]
pub struct WriteChunk<'a, T, R> {
    producer: &'a mut Producer<T, R>,
    start: u64,
    end: u64,
}

impl<T: Value, R: RegionMut> WriteChunk<'_, T, R> {
    /// How many slots are still to be filled.
    #[must_use]
    pub fn left(&self) -> usize {
        (self.end - self.producer.tail) as usize
    }

    /// Fills the next slot.
    ///
    /// # Panics
    ///
    /// If all are filled.
    #[inline(always)]
    pub fn put(&mut self, value: T) {
        assert!(self.producer.tail < self.end, "bug: all {} slots of this chunk are filled", self.end - self.start);
        self.producer.put(&value);
    }

    /// Publishes what was put, with all that was staged before; the other slots go back.
    #[inline]
    pub fn commit(mut self) {
        self.start = self.producer.tail;
        self.producer.publish();
    }
}

impl<T, R> Drop for WriteChunk<'_, T, R> {
    #[inline]
    fn drop(&mut self) {
        self.producer.tail = self.start;
    }
}

/// The reading end. May be sent to another thread, not shared:
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<chronicle_core::ring::slots::Consumer<u64, &'static chronicle_core::HeapRegion>>();
/// ```
///
/// Aligned to two cache lines, so that the ends do not slow each other down where they lie side by side.
#[derive(Debug)]
#[repr(align(128))]
pub struct Consumer<T, R> {
    region: R,
    /// Values taken so far.
    head: u64,
    /// How far `head` may go without another look at the producer's tail.
    limit: u64,
    /// What was last stored as head.
    released: u64,
    /// One less than the number of slots.
    mask: u32,
    wake: Mode,
    values: PhantomData<fn() -> T>,
    unshared: PhantomData<Cell<()>>,
}

impl<T: Value, R: RegionMut> Consumer<T, R> {
    /// Begins at the oldest value that is not released.
    ///
    /// # Errors
    ///
    /// The header is damaged or another ring's, its values have another length, the region is shorter than the ring, or a
    /// position is impossible.
    pub fn attach(region: R) -> Result<Self, Damage> {
        let Attached { count, wake, head, high, .. } = attach::<T, R>(&region)?;
        let head = super::widen(high, head);
        Ok(Consumer {
            region,
            head,
            limit: head,
            released: head,
            mask: count - 1,
            wake,
            values: PhantomData,
            unshared: PhantomData,
        })
    }

    /// Takes the oldest value and releases it, with all that was taken before.
    ///
    /// # Errors
    ///
    /// Damage: an impossible tail.
    #[inline(always)]
    pub fn pop(&mut self) -> Result<Option<T>, Damage> {
        if self.head == self.limit && self.look()? == 0 {
            return Ok(None);
        }
        let value = self.take();
        self.release();
        Ok(Some(value))
    }

    /// Takes the oldest value. Its slot is the producer's after [`Consumer::release`].
    ///
    /// # Errors
    ///
    /// Damage: an impossible tail.
    #[inline(always)]
    pub fn step(&mut self) -> Result<Option<T>, Damage> {
        if self.head == self.limit && self.look()? == 0 {
            return Ok(None);
        }
        Ok(Some(self.take()))
    }

    /// Copies the value at the head, which must be before the limit.
    #[inline(always)]
    fn take(&mut self) -> T {
        debug_assert!(self.head < self.limit);
        let mut value = MaybeUninit::<T>::uninit();
        let at = offset::<T>(self.head, self.mask);
        // SAFETY: the slot's index is below the count, and `attach` proved so many slots inside the region, each
        // `stride` bytes, a multiple of 4, and no shorter than the value.
        unsafe { self.region.window().move_out_proved(at, value.as_mut_ptr().cast(), size_of::<T>()) };
        self.head += 1;
        // SAFETY: all bytes were written, and any bytes are a value (`FromBytes`).
        unsafe { value.assume_init() }
    }

    /// Frees the slots of all values taken so far, by one store.
    #[inline(always)]
    pub fn release(&mut self) {
        // ORDERING: Release pairs with the Acquire in `Producer::free`: our loads of these slots come before it, so the
        // producer's next stores there cannot be seen by them.
        // SAFETY: a constant before `DATA`, and `attach` proved the region to reach further.
        unsafe { self.region.window().word32_proved(HEAD) }.store(self.head as u32, Ordering::Release);
        self.released = self.head;
    }

    /// Takes as many of the oldest values as there are and fit, by one store; returns how many.
    ///
    /// # Errors
    ///
    /// Damage: an impossible tail.
    pub fn pop_slice(&mut self, out: &mut [T]) -> Result<usize, Damage> {
        let count = self.known(out.len())?.min(out.len());
        if stride::<T>() == size_of::<T>() {
            let to_end = self.count() as usize - (self.head as u32 & self.mask) as usize;
            let (first, second) = out[..count].split_at_mut(count.min(to_end));
            for part in [first, second] {
                let at = offset::<T>(self.head, self.mask);
                // SAFETY: as in `take`, for slots that follow each other without a gap, up to the last one at most.
                unsafe { self.region.window().move_out_proved(at, part.as_mut_ptr().cast(), size_of_val(part)) };
                self.head += part.len() as u64;
            }
        } else {
            out[..count].iter_mut().for_each(|value| *value = self.take());
        }
        if count > 0 {
            self.release();
        }
        Ok(count)
    }

    /// Takes `count` values, all or none.
    ///
    /// # Errors
    ///
    /// There are not so many now, or damage.
    #[inline]
    pub fn chunk(&mut self, count: usize) -> Result<ReadChunk<'_, T, R>, ChunkError> {
        let there = self.known(count)?;
        if count > there {
            return Err(ChunkError::TooFew { asked: count, there });
        }
        Ok(ReadChunk { start: self.head, end: self.head + count as u64, consumer: self })
    }

    /// After a release: whether the producer waits for room and must be woken, on [`SPACE_WAKE`].
    #[inline]
    #[must_use]
    pub fn sleepers(&self, mode: Mode) -> bool {
        // SAFETY: a constant before `DATA`, and `attach` proved the region to reach further.
        wake::asked(unsafe { self.region.window().word32_proved(SPACE_WAKE) }, mode)
    }

    /// Marks that this end is about to sleep until there is a value; returns the value of [`DATA_WAKE`] to sleep on. Next:
    /// [`wake::settle`] or the platform's barrier, then [`Consumer::is_ready`] once more.
    #[must_use]
    pub fn mark_sleeper(&self) -> u32 {
        wake::mark(self.region.window_mut(), DATA_WAKE)
    }
}

impl<T, R: Region> Consumer<T, R> {
    fn count(&self) -> u32 {
        self.mask + 1
    }

    /// How many values are known to be there, after a look if those are fewer than `wanted`.
    #[inline]
    fn known(&mut self, wanted: usize) -> Result<usize, Damage> {
        let known = (self.limit - self.head) as usize;
        if known < wanted { self.look() } else { Ok(known) }
    }

    /// Looks at the producer's tail; returns how many values there are.
    #[cold]
    #[inline(never)]
    fn look(&mut self) -> Result<usize, Damage> {
        // ORDERING: Acquire pairs with the Release in `Producer::publish`: the values before this tail are whole.
        let tail = self.region.window().load_acquire(TAIL);
        let (there, held) = (tail.wrapping_sub(self.head as u32), (self.head - self.released) as u32);
        if there > self.count() - held {
            return Err(Damage::at(TAIL as u64, Fault::Field { name: "tail", found: tail.into() }));
        }
        self.limit = self.head + u64::from(there);
        Ok(there as usize)
    }

    /// Whether there is a value behind what was taken. May turn true at any time; once true it stays so until the next
    /// step.
    #[inline]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.head != self.limit || self.region.window().load_acquire(TAIL) != self.head as u32
    }

    /// The number of the value that is taken next, from 1.
    #[inline]
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.head + 1
    }

    /// How the ends sleep and wake, as the ring's creator chose.
    #[must_use]
    pub fn wake_mode(&self) -> Mode {
        self.wake
    }

    /// How much is published and not released. The producer may publish more at any time; nobody else can empty it.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let used = self.region.window().load(TAIL).wrapping_sub(self.released as u32);
        Occupancy { used: used.min(self.count()) as usize, capacity: self.count() as usize }
    }

    /// The memory.
    #[must_use]
    pub fn region(&self) -> &R {
        &self.region
    }

    /// Gives the memory back. What was taken and not released is delivered again to the next consumer.
    #[must_use]
    pub fn into_region(self) -> R {
        self.region
    }
}

/// Values to be taken, an iterator. Dropping the chunk leaves them in the ring; committing releases those that were taken.
#[must_use = "dropping a chunk leaves its values in the ring"]
#[derive(Debug)]
pub struct ReadChunk<'a, T, R> {
    consumer: &'a mut Consumer<T, R>,
    start: u64,
    end: u64,
}

impl<T: Value, R: RegionMut> ReadChunk<'_, T, R> {
    /// Releases the values that the iterator gave, by one store, with all that was taken before; the others stay.
    #[inline]
    pub fn commit(mut self) {
        self.start = self.consumer.head;
        self.consumer.release();
    }
}

impl<T: Value, R: RegionMut> Iterator for ReadChunk<'_, T, R> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        (self.consumer.head < self.end).then(|| self.consumer.take())
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.end - self.consumer.head) as usize;
        (left, Some(left))
    }
}

impl<T: Value, R: RegionMut> ExactSizeIterator for ReadChunk<'_, T, R> {}

impl<T, R> Drop for ReadChunk<'_, T, R> {
    #[inline]
    fn drop(&mut self) {
        self.consumer.head = self.start;
    }
}
