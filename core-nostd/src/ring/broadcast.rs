//! One writer that nobody can stop, many readers that may lose messages and are told how many.
//!
//! Use it where the newest data matters more than all of it: prices to many strategies, telemetry. The writer never
//! looks at a reader, so a slow, dead or hostile one costs it nothing; readers need read permission only.
//!
//! It is the log's append in a circle. A message is committed in band, by its own commit word, and no word is shared
//! for each message. What a circle adds is that a reader may be *lapped* while it copies:
//!
//! ```text
//! intent: the position up to which the writer may be writing. What lies more than a capacity behind it may be gone.
//!
//! push                                            receive, at position p
//!   (rarely) intent ← further, by whole blocks      commit word at p           Acquire
//!            fence Release                          copy the message out
//!   0 into the next commit word                     fence Acquire
//!   the message                                     intent − p ≤ capacity?
//!   its commit word            Release                yes: what was seen and copied is true, damage included
//!                                                     no: Lapped; none of it counts
//! ```
//!
//! A copy that saw one word of a later lap also sees, behind its fence, the intent that was stored before that word. So
//! nothing that a reader returns was torn, and "empty" is never said of a place that has been overwritten. Positions and
//! sequence numbers are 64 bits wide and never come again, so that no lap is taken for another.
//!
//! A lapped reader goes on at the oldest safe message. The *block table* says where to find one: for each 32nd of the
//! data, where the first message in it begins and which seq it has. `docs/protocols.md` has the whole argument.
//!
//! Never here: slices of the region, for the writer overwrites them at any time; knowledge of who reads.
//!
//! ```
//! # #[cfg(feature = "std")] {
//! use chronicle_core::{HeapRegion, ring::broadcast::{self, Reader, Received, Spec, Start, Writer}};
//!
//! let region = HeapRegion::new(broadcast::len(4096).unwrap());
//! broadcast::format(&region, &Spec { capacity: 4096, ..Spec::default() }).unwrap();
//!
//! let mut writer = Writer::attach(&region).unwrap();
//! let mut reader = Reader::attach(&region, Start::Oldest).unwrap();
//! assert_eq!(writer.push(b"hello"), Ok(1));
//!
//! let mut message = [0; 64];
//! assert_eq!(reader.receive(&mut message), Ok(Received::Message { seq: 1, len: 5 }));
//! assert_eq!(&message[..5], b"hello");
//! assert_eq!(reader.receive(&mut message), Ok(Received::Empty));
//!
//! // The writer waits for nobody. Who falls behind learns what it lost.
//! for _ in 0..1000 {
//!     writer.push(b"more").unwrap();
//! }
//! let Ok(Received::Lapped { lost, resume_seq }) = reader.receive(&mut message) else { panic!("it was lapped") };
//! assert_eq!(reader.receive(&mut message), Ok(Received::Message { seq: resume_seq, len: 4 }));
//! assert_eq!(resume_seq, 2 + lost);
//! # }
//! ```

// Positions are 64-bit words.
#![cfg(any(loom, target_has_atomic = "64"))]

use super::{CapacityReason, FormatError, Header, Identity, Kind, SPACING, check_capacity, expect, store_header};
use crate::{
    Damage, Fault,
    region::{Region, RegionMut, Window, WindowMut},
    sync::{Ordering, fence},
    wake::{self, Mode},
};
use core::{alloc::Layout, cell::Cell, fmt, marker::PhantomData};
use static_assertions::{const_assert, const_assert_eq};
use zerocopy::{FromBytes, IntoBytes};

/// Offset of the `intent` word: on a line that the writer stores to once for each block, so that it stays in the caches
/// of all readers in between.
pub const INTENT: usize = SPACING;
/// Offset of the word that readers sleep on; see [`crate::wake`].
pub const DATA_WAKE: usize = 2 * SPACING;
/// Offset of the word that says how they sleep: 0 = [`Mode::Fence`], 1 = [`Mode::Asymmetric`].
pub const WAKE_MODE: usize = DATA_WAKE + 8;
/// Offset of the block table.
pub const BLOCKS: usize = 3 * SPACING;
/// Offset of the data area.
pub const DATA: usize = BLOCKS + MAX_BLOCKS * BLOCK_LEN;

/// Blocks in a ring, but for the smallest ones.
const MAX_BLOCKS: usize = 32;
/// Bytes of an entry in the block table: place u32, zero u32, seq u64 as two words.
const BLOCK_LEN: usize = 16;
/// The least that a block covers.
const MIN_BLOCK: usize = 16;
/// Bytes before a payload: commit word, low half of the seq.
const FRAME_HEADER: usize = 8;
/// A commit word that says: nothing more in this lap.
const PAD: u32 = u32::MAX;
/// Positions end here, after centuries of writing at the speed of memory: additions to a checked one never overflow.
const POSITION_END: u64 = 1 << 62;
/// Attempts to find a place in a ring whose writer overtakes us: each leaves twice the margin of the one before, the
/// last takes the newest block.
const ATTEMPTS: u32 = 6;

const_assert_eq!(DATA, 896);
const_assert!(DATA.is_multiple_of(SPACING));
// The first attempt's margin is one block or none, the last one's the whole table.
const_assert!(1 << (ATTEMPTS - 1) >= MAX_BLOCKS);
// An entry's place: the offset in a block, in units of 8 and counted from 1, above eight bits of the lap.
const_assert!((super::MAX_CAPACITY / MAX_BLOCKS / 8) < 1 << 24);
// The largest message fits into any ring of four times its length at any offset, pad included, and twice.
const_assert!(super::MIN_CAPACITY / 4 >= MIN_BLOCK);

/// What a ring is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Bytes of the data area: a power of two. A reader may lag by this much, less one 32nd.
    pub capacity: usize,
    /// Who it is.
    pub identity: Identity,
    /// How readers sleep and are woken.
    pub wake: Mode,
}

impl Default for Spec {
    /// 64 KiB, nobody in particular, fences.
    fn default() -> Self {
        Spec { capacity: 64 * 1024, identity: Identity::default(), wake: Mode::Fence }
    }
}

/// Bytes of a region for a ring with that data area; `None` if no ring can have it.
#[must_use]
pub const fn len(capacity: usize) -> Option<usize> {
    match check_capacity(capacity, 0) {
        Ok(_) => Some(DATA + capacity),
        Err(_) => None,
    }
}

/// As [`len`](fn@len), with the alignment.
#[must_use]
pub const fn layout(capacity: usize) -> Option<Layout> {
    let Some(len) = len(capacity) else { return None };
    match Layout::from_size_align(len, crate::REGION_ALIGN) {
        Ok(layout) => Some(layout),
        Err(_) => None,
    }
}

/// The longest message of a ring with that data area.
#[must_use]
pub const fn max_payload(capacity: usize) -> usize {
    capacity / 4 - FRAME_HEADER
}

/// Makes a ring of a region that nobody uses yet. What the data area holds does not matter.
///
/// # Errors
///
/// The capacity cannot be a ring's, or the region is too small for it. The region is then as it was.
pub fn format<R: RegionMut>(region: &R, spec: &Spec) -> Result<(), FormatError> {
    let capacity = check_capacity(spec.capacity, 0)?;
    let Some(needed) = DATA.checked_add(spec.capacity) else {
        let reason = CapacityReason::TooLarge { max: super::MAX_CAPACITY };
        return Err(FormatError::Capacity { asked: spec.capacity, reason });
    };
    if region.len() < needed {
        return Err(FormatError::Region { needed, found: region.len() });
    }
    let shape = Shape::of(capacity);
    let window = region.window_mut();
    window.zero(DATA_WAKE, DATA - DATA_WAKE);
    super::store_mode(region, WAKE_MODE, spec.wake);
    window.store(DATA, 0);
    shape.store_entry(window, 0, 1);
    window.word64(INTENT).store(shape.block, Ordering::Release);
    store_header(region, Kind::Broadcast, capacity, 0, spec.identity);
    Ok(())
}

/// The numbers that follow from a capacity, in private memory: nothing in the region changes them.
#[derive(Clone, Copy, Debug)]
struct Shape {
    capacity: u64,
    /// Bytes that a block covers: a power of two.
    block: u64,
}

/// Where a message begins, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    position: u64,
    seq: u64,
}

impl Shape {
    fn of(capacity: u32) -> Self {
        let capacity = u64::from(capacity);
        Shape { capacity, block: (capacity / MAX_BLOCKS as u64).max(MIN_BLOCK as u64) }
    }

    /// Where in the region a position lies.
    #[inline(always)]
    fn offset(&self, position: u64) -> usize {
        DATA + (position & (self.capacity - 1)) as usize
    }

    /// Bytes from a position to where the ring begins again.
    #[inline(always)]
    fn left(&self, position: u64) -> usize {
        (self.capacity - (position & (self.capacity - 1))) as usize
    }

    #[inline(always)]
    fn max_payload(&self) -> usize {
        self.capacity as usize / 4 - FRAME_HEADER
    }

    fn entry(&self, position: u64) -> usize {
        let count = self.capacity / self.block;
        BLOCKS + (position / self.block % count) as usize * BLOCK_LEN
    }

    /// The lap of a position, as much of it as an entry keeps. Each lap of the writer stores every entry, so one bit
    /// would do.
    fn lap(&self, position: u64) -> u32 {
        (position / self.capacity) as u32 & 0xff
    }

    /// Says that the first message of its block begins here.
    fn store_entry(&self, window: WindowMut<'_>, position: u64, seq: u64) {
        let entry = self.entry(position);
        let place = ((position % self.block / 8) as u32 + 1) << 8 | self.lap(position);
        window.store64(entry + 8, seq);
        // ORDERING: Release pairs with the Acquire in `load_entry`: who sees this place sees its seq, and the frame's
        // commit word at least open.
        window.store_release(entry, place);
    }

    /// The place that the entry of `block` holds, if it is of that lap. To be believed after a look at `intent` only.
    fn load_entry(&self, window: Window<'_>, block: u64) -> Option<Place> {
        let start = block * self.block;
        let entry = self.entry(start);
        // ORDERING: Acquire pairs with the Release in `store_entry`.
        let place = window.load_acquire(entry);
        let within = u64::from(place >> 8).checked_sub(1)? * 8;
        if place & 0xff != self.lap(start) || within >= self.block {
            return None;
        }
        Some(Place { position: start + within, seq: window.load64(entry + 8) })
    }

    /// Checks an `intent` that was loaded.
    fn checked(&self, intent: u64) -> Result<u64, Damage> {
        let whole = intent.is_multiple_of(self.block) && intent >= self.block && intent < POSITION_END;
        if whole { Ok(intent) } else { Err(damaged_intent(intent)) }
    }

    /// The first block that `intent` leaves alone, and the block behind the last one that it covers.
    fn blocks(&self, intent: u64) -> (u64, u64) {
        (intent.saturating_sub(self.capacity) / self.block, intent / self.block)
    }

    /// The payload's length that a commit word at `position` says, if a message of that length ends in this lap.
    #[inline(always)]
    fn claimed(&self, commit: u32, position: u64) -> Option<usize> {
        // Open and PAD become lengths that no ring has.
        let len = u64::from(commit.wrapping_sub(1));
        let end = (position & (self.capacity - 1)) + ((len + FRAME_HEADER as u64 + 7) & !7);
        (end <= self.capacity).then_some(len as usize)
    }
}

fn damaged_intent(found: u64) -> Damage {
    Damage::at(INTENT as u64, Fault::Field { name: "intent", found })
}

/// Bytes that a message takes. `len` is a length of real memory or of a message: no overflow.
#[inline(always)]
const fn frame_len(len: usize) -> usize {
    (len + FRAME_HEADER + 7) & !7
}

/// The message is longer than any message of this ring. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Its length.
    pub len: usize,
    /// The longest one.
    pub max: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message of {} bytes is too large: this ring takes at most {}", self.len, self.max)
    }
}

impl core::error::Error for TooLarge {}

/// The writing end. There is one: that is the platform's lock, or the caller's care.
///
/// Keeps its position in private memory: nothing that a peer writes into the region changes where it writes next.
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<chronicle_core::ring::broadcast::Writer<chronicle_core::HeapRegion>>();
/// ```
#[derive(Debug)]
pub struct Writer<R> {
    region: R,
    header: Header,
    wake: Mode,
    shape: Shape,
    tail: u64,
    /// End of the tail's block: messages that end before it need nothing but their own stores.
    limit: u64,
    intent: u64,
    next_seq: u64,
    /// Ends move between threads and are not shared.
    not_sync: PhantomData<Cell<()>>,
}

impl<R: RegionMut> Writer<R> {
    /// Goes on where the last writer stopped, or was stopped, at whatever step: no seq is left out or used twice, and
    /// readers notice nothing.
    ///
    /// # Errors
    ///
    /// Damage: the header is not a broadcast ring's, the region is too short, or what the last writer left could not
    /// have been left by one of ours.
    pub fn attach(region: R) -> Result<Self, Damage> {
        let (header, wake) = attached(&region)?;
        let shape = Shape::of(header.capacity);
        let window = region.window_mut();
        // ORDERING: Acquire pairs with the Release in `announce`; the last writer is gone, and whoever told us that has
        // ordered its stores before us.
        let intent = shape.checked(window.word64(INTENT).load(Ordering::Acquire))?;
        let (first, end) = shape.blocks(intent);
        let newest = (first..end).rev().find_map(|block| shape.load_entry(*window, block));
        let mut at = checked_place(newest, intent)?;
        // Each step is 8 bytes or more, so `intent` bounds the walk.
        while let Some(next) = whole_frame(*window, &shape, at)? {
            if next.position + FRAME_HEADER as u64 > intent {
                return Err(damaged_intent(intent));
            }
            enter(window, &shape, at.position, next);
            at = next;
        }
        let limit = (at.position | (shape.block - 1)) + 1;
        Ok(Writer {
            region,
            header,
            wake,
            shape,
            tail: at.position,
            limit,
            intent,
            next_seq: at.seq,
            not_sync: PhantomData,
        })
    }

    /// Writes a message that readers see at once; returns its seq. It never fails but for the length, and never waits.
    ///
    /// # Errors
    ///
    /// The message is longer than [`Writer::max_payload`].
    // Always: for a message of constant length the copy is a few instructions, out of line it is a loop.
    #[inline(always)]
    pub fn push(&mut self, message: &[u8]) -> Result<u64, TooLarge> {
        let need = self.room(message.len())?;
        let at = self.shape.offset(self.tail) + FRAME_HEADER;
        // SAFETY: `room` made sure that the message, rounded up to a multiple of 8, lies before the end of the data
        // area, which `attach` proved inside the region; offsets are multiples of 8.
        unsafe { self.region.window_mut().copy_in_proved(at, message) };
        Ok(self.commit(message.len(), need))
    }

    /// Room for a message to be written in place. Readers see nothing of it before [`Claim::commit`].
    ///
    /// # Errors
    ///
    /// As [`Writer::push`].
    #[inline]
    pub fn claim(&mut self, len: usize) -> Result<Claim<'_, R>, TooLarge> {
        let need = self.room(len)?;
        Ok(Claim { writer: self, len, need, filled: 0 })
    }

    /// Makes sure that a message of `len` bytes and the commit word behind it may be written at the tail; returns the
    /// bytes that it takes.
    #[inline(always)]
    fn room(&mut self, len: usize) -> Result<usize, TooLarge> {
        // No block is longer than a quarter of the ring: what passes here is not too large.
        let need = frame_len(len);
        if need as u64 + FRAME_HEADER as u64 > self.limit - self.tail {
            self.make_room(len)?;
        }
        Ok(need)
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self, len: usize) -> Result<(), TooLarge> {
        let max = self.shape.max_payload();
        if len > max {
            return Err(TooLarge { len, max });
        }
        let need = frame_len(len) as u64;
        let left = self.shape.left(self.tail) as u64;
        if need > left {
            let next = Place { position: self.tail + left, seq: self.next_seq };
            self.announce(next.position + need + FRAME_HEADER as u64);
            let (at, window) = (self.shape.offset(self.tail), self.region.window_mut());
            self.open(window, next.position);
            store(window, at + 4, self.next_seq as u32, Ordering::Relaxed);
            // ORDERING: Release as in `commit`.
            store(window, at, PAD, Ordering::Release);
            self.move_to(next);
        }
        self.announce(self.tail + need + FRAME_HEADER as u64);
        Ok(())
    }

    /// Tells readers, before it is done, how far the writer is about to write.
    fn announce(&mut self, end: u64) {
        if end <= self.intent {
            return;
        }
        self.intent = end.next_multiple_of(self.shape.block);
        #[cfg(loom)]
        if crate::twin::is(crate::twin::Weak::LateIntent) {
            return;
        }
        #[cfg(loom)]
        crate::twin::step(Ordering::Release);
        // ORDERING: Release pairs with the Acquire in `Reader::find`: who sees this sees the entries of the blocks before.
        self.region.window_mut().word64(INTENT).store(self.intent, Ordering::Release);
        #[cfg(loom)]
        if crate::twin::is(crate::twin::Weak::NoAnnounceFence) {
            return;
        }
        // ORDERING: the Release fence pairs with the Acquire fence in `Reader::intact`: who has copied a word that is
        // stored from here on sees at least this intent behind its fence.
        fence(Ordering::Release);
    }

    #[inline(always)]
    fn commit(&mut self, len: usize, need: usize) -> u64 {
        let seq = self.next_seq;
        let next = Place { position: self.tail + need as u64, seq: seq + 1 };
        let (at, window) = (self.shape.offset(self.tail), self.region.window_mut());
        self.open(window, next.position);
        store(window, at + 4, seq as u32, Ordering::Relaxed);
        // ORDERING: Release pairs with the Acquire in `Reader::take`: who sees this word sees the message, and the next
        // commit word at least open.
        store(window, at, len as u32 + 1, Ordering::Release);
        #[cfg(loom)]
        if crate::twin::is(crate::twin::Weak::LateIntent) {
            self.region.window().word64(INTENT).store(self.intent, Ordering::Release);
        }
        if next.position < self.limit {
            self.tail = next.position;
            self.next_seq = next.seq;
        } else {
            self.move_to(next);
        }
        seq
    }

    /// Opens the commit word at `position`, Relaxed: the commit word before it orders that.
    #[inline(always)]
    fn open(&self, window: WindowMut<'_>, position: u64) {
        #[cfg(loom)]
        if crate::twin::is(crate::twin::Weak::NoOpenWord) {
            return;
        }
        store(window, self.shape.offset(position), 0, Ordering::Relaxed);
    }

    /// Stands at `next`, in another block: what lies before it is committed.
    #[cold]
    #[inline(never)]
    fn move_to(&mut self, next: Place) {
        enter(self.region.window_mut(), &self.shape, self.tail, next);
        self.tail = next.position;
        self.next_seq = next.seq;
        self.limit = (next.position | (self.shape.block - 1)) + 1;
    }

    /// The seq of the next message.
    #[inline]
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The longest message: a quarter of the capacity, less 8.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.shape.max_payload()
    }

    /// After a push: whether readers sleep that must be woken, all of them, on the word at [`DATA_WAKE`].
    #[inline]
    pub fn sleepers(&self, mode: Mode) -> bool {
        // SAFETY: a constant before the data area, and `attach` proved the region to reach further.
        wake::asked(unsafe { self.region.window().word32_proved(DATA_WAKE) }, mode)
    }

    /// How readers sleep and are woken, as the ring's creator chose.
    #[must_use]
    pub fn wake_mode(&self) -> Mode {
        self.wake
    }

    /// The ring's header, as checked when the writer was made.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The memory.
    #[inline]
    #[must_use]
    pub fn region(&self) -> &R {
        &self.region
    }

    /// Gives the memory back.
    #[must_use]
    pub fn into_region(self) -> R {
        self.region
    }
}

#[inline(always)]
fn store(window: WindowMut<'_>, offset: usize, word: u32, ordering: Ordering) {
    #[cfg(loom)]
    let ordering = crate::twin::step(ordering);
    // SAFETY: the callers' offsets are of a header's words at a position: a position is a multiple of 8, so 8 bytes
    // from it lie in the data area, and `attach` proved that inside the region.
    unsafe { window.word32_proved(offset) }.store(word, ordering);
}

/// Brings the block table up to date when the writer goes on from `from` to `next`, if that is in another block.
///
/// Idempotent: a writer that follows a killed one does it again for the frames that it walks over.
fn enter(window: WindowMut<'_>, shape: &Shape, from: u64, next: Place) {
    let (left, entered) = (from / shape.block, next.position / shape.block);
    for skipped in left + 1..entered {
        // No message begins in it: the entry of an earlier lap must not outlive this one.
        window.store(shape.entry(skipped * shape.block), 0);
    }
    if entered > left {
        shape.store_entry(window, next.position, next.seq);
    }
}

/// A message being written in place. Dropping it writes nothing that readers see.
#[derive(Debug)]
#[must_use = "a claim that is not committed is given up"]
pub struct Claim<'a, R: RegionMut> {
    writer: &'a mut Writer<R>,
    len: usize,
    need: usize,
    /// Bytes from the start that hold this message; behind them lie old ones.
    filled: usize,
}

impl<R: RegionMut> Claim<'_, R> {
    /// Length of the message.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the message has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes the next bytes, behind what was written so far.
    ///
    /// # Panics
    ///
    /// If they do not fit the claimed length.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.put_at(self.filled, bytes);
    }

    /// Writes bytes at `at`. Bytes that are never written are zero.
    ///
    /// # Panics
    ///
    /// If they do not fit the claimed length.
    pub fn put_at(&mut self, at: usize, bytes: &[u8]) {
        assert!(
            at <= self.len && bytes.len() <= self.len - at,
            "bug: {} bytes at {at} do not fit a claim of {}",
            bytes.len(),
            self.len
        );
        let start = self.start();
        let window = self.writer.region.window_mut();
        if at > self.filled {
            window.zero(start + self.filled, at - self.filled);
        }
        window.copy_in(start + at, bytes);
        self.filled = self.filled.max(at + bytes.len());
    }

    fn start(&self) -> usize {
        self.writer.shape.offset(self.writer.tail) + FRAME_HEADER
    }

    /// Makes the message visible; returns its seq.
    pub fn commit(self) -> u64 {
        let (start, rest) = (self.start() + self.filled, self.len - self.filled);
        self.writer.region.window_mut().zero(start, rest);
        self.writer.commit(self.len, self.need)
    }

    /// Gives the room back; the same as dropping the claim.
    pub fn abort(self) {}
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest message that is safe to read.
    Oldest,
    /// Behind the newest message that is committed when the reader attaches: the first one read is a new one, but for
    /// those that are pushed meanwhile.
    Newest,
    /// At the message with this seq. If it is gone, the first [`Reader::receive`] says how many are lost.
    Seq(u64),
}

/// Why no reader was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// Not a broadcast ring, or not one that a writer of ours could have written.
    Damage(Damage),
    /// A seq that is not the ring's yet.
    Ahead {
        /// The one asked for.
        asked: u64,
        /// The next one.
        next: u64,
    },
    /// The writer lapped every attempt to find a place. It may succeed the next time; the ring is too small for this
    /// writer and this machine.
    Overtaken,
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttachError::Damage(damage) => damage.fmt(f),
            AttachError::Ahead { asked, next } => write!(f, "seq {asked} is ahead: the ring's next one is {next}"),
            AttachError::Overtaken => {
                write!(f, "the writer overtook every attempt to find a place: try again, or use a larger ring")
            }
        }
    }
}

impl core::error::Error for AttachError {}

impl From<Damage> for AttachError {
    fn from(damage: Damage) -> Self {
        AttachError::Damage(damage)
    }
}

/// What a reader got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message: the first `len` bytes of what was given to hold it.
    Message {
        /// Its number in the ring, counted from 1.
        seq: u64,
        /// Its length.
        len: usize,
    },
    /// Nothing yet. (Or, rarely, the writer overtook every attempt to find a place: come again either way.)
    Empty,
    /// The writer overwrote what comes next. The next call reads `resume_seq`.
    Lapped {
        /// Messages lost, at least 1.
        lost: u64,
        /// The seq of the next message.
        resume_seq: u64,
    },
    /// The next message does not fit what was given to hold it. The reader stands before it: come again with `len`
    /// bytes, or [`Reader::skip`] it.
    Unfit {
        /// Its number.
        seq: u64,
        /// Its length.
        len: usize,
    },
}

/// A reading end: any number of them, in any process that may read the region.
///
/// A peer that writes nonsense gets it wrong data or [`Damage`], at worst: everything found is checked before use, and
/// no call does more than a bounded amount of work. Damage is not remembered: the reader stands where it was, and goes
/// on if the writer laps that place.
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<chronicle_core::ring::broadcast::Reader<chronicle_core::HeapRegion>>();
/// ```
#[derive(Debug)]
pub struct Reader<R> {
    region: R,
    header: Header,
    wake: Mode,
    shape: Shape,
    at: Place,
    /// Lost before the place was found, not reported yet.
    lost: u64,
    /// Ends move between threads and are not shared.
    not_sync: PhantomData<Cell<()>>,
}

impl<R: Region> Reader<R> {
    /// Begins to read.
    ///
    /// # Errors
    ///
    /// Damage; a seq that the ring has not reached; or a writer so fast that no place could be found.
    pub fn attach(region: R, start: Start) -> Result<Self, AttachError> {
        let (header, wake) = attached(&region)?;
        let at = Place { position: 0, seq: 1 };
        let shape = Shape::of(header.capacity);
        let mut reader = Reader { region, header, wake, shape, at, lost: 0, not_sync: PhantomData };
        for attempt in 0..ATTEMPTS {
            if reader.settle(start, attempt)? {
                return Ok(reader);
            }
        }
        Err(AttachError::Overtaken)
    }

    /// One attempt to stand where `start` says; `false` if the writer came in between.
    fn settle(&mut self, start: Start, attempt: u32) -> Result<bool, AttachError> {
        let margin = if attempt == 0 { 0 } else { 1 << (attempt - 1) };
        let wanted = match start {
            Start::Oldest => Wanted::Oldest { margin },
            Start::Newest => Wanted::Newest,
            Start::Seq(seq) => Wanted::Seq { seq: seq.max(1), margin },
        };
        let Some(found) = self.find(wanted)? else { return Ok(false) };
        self.at = found;
        self.lost = 0;
        let until = match start {
            Start::Oldest => return Ok(true),
            Start::Newest => u64::MAX,
            Start::Seq(seq) => seq.max(1),
        };
        if until < found.seq {
            self.lost = found.seq - until;
            return Ok(true);
        }
        // What is pushed from here on may stay unread: `end` bounds the walk.
        let end = self.intent()?;
        while self.at.seq < until && self.at.position < end {
            let next = whole_frame(self.region.window(), &self.shape, self.at);
            if !self.intact() {
                return Ok(false);
            }
            match next? {
                Some(next) => self.at = next,
                None => break,
            }
        }
        match start {
            Start::Seq(asked) if asked > self.at.seq => Err(AttachError::Ahead { asked, next: self.at.seq }),
            _ => Ok(true),
        }
    }

    /// Copies the next message into `buffer`.
    ///
    /// # Errors
    ///
    /// Damage: bytes that no writer of ours could have left here.
    #[inline(always)]
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, Damage> {
        self.take(Fit { min: 0, max: buffer.len() }, |window, offset, len| {
            // SAFETY: `take` calls this with the place of a payload, see there.
            unsafe { window.copy_out_proved(offset, &mut buffer[..len]) }
        })
    }

    /// Copies the next message into `value`; [`Received::Unfit`] if it has not exactly its length.
    ///
    /// Unless a message was received, `value` holds nothing of meaning afterwards.
    ///
    /// # Errors
    ///
    /// As [`Reader::receive`].
    #[inline(always)]
    pub fn receive_value<T: FromBytes + IntoBytes>(&mut self, value: &mut T) -> Result<Received, Damage> {
        let len = size_of::<T>();
        self.take(Fit { min: len, max: len }, |window, offset, _| {
            // SAFETY: `take` calls this with the place of a payload of `len` bytes, see there.
            unsafe { window.copy_out_proved(offset, value.as_mut_bytes()) }
        })
    }

    /// Passes over the next message without copying it.
    ///
    /// # Errors
    ///
    /// As [`Reader::receive`].
    pub fn skip(&mut self) -> Result<Received, Damage> {
        self.take(Fit { min: 0, max: usize::MAX }, |_, _, _| ())
    }

    /// One message, if its length is in `fit`, which is given to `copy` as an offset and a length: the offset is a
    /// multiple of 8, and the length, rounded up to such, ends inside the data area, which `attach` proved inside the
    /// region. `copy` may be called more than once.
    #[inline(always)]
    fn take(&mut self, fit: Fit, mut copy: impl FnMut(Window<'_>, usize, usize)) -> Result<Received, Damage> {
        match self.attempt(fit, &mut copy) {
            Some(received) => Ok(received),
            None => self.take_slowly(fit, &mut copy),
        }
    }

    /// The next message, if it is there as it should be and was not overwritten meanwhile.
    #[inline(always)]
    fn attempt(&mut self, fit: Fit, mut copy: impl FnMut(Window<'_>, usize, usize)) -> Option<Received> {
        let Place { position, seq } = self.at;
        let (commit, seq_low) = self.head();
        let len = self.shape.claimed(commit, position)?;
        if seq_low != seq as u32 || len < fit.min || len > fit.max || self.lost > 0 {
            return None;
        }
        copy(self.region.window(), self.shape.offset(position) + FRAME_HEADER, len);
        if !self.intact() {
            return None;
        }
        self.at = Place { position: position + frame_len(len) as u64, seq: seq + 1 };
        Some(Received::Message { seq, len })
    }

    /// The commit word, and the low half of the seq, at the reader's position.
    #[inline(always)]
    fn head(&self) -> (u32, u32) {
        let window = self.region.window();
        let at = self.shape.offset(self.at.position);
        // ORDERING: Acquire pairs with the Release in `Writer::commit`: the message, and the word behind it, are as they
        // were when this word was stored, or younger; `intact` tells which.
        // SAFETY: a position is a multiple of 8, so 8 bytes from it lie in the data area, and `attach` proved that
        // inside the region.
        let commit = unsafe { window.word32_proved(at) }.load(Ordering::Acquire);
        // SAFETY: as above.
        let seq_low = unsafe { window.word32_proved(at + 4) }.load(Ordering::Relaxed);
        (commit, seq_low)
    }

    #[inline(never)]
    fn take_slowly(&mut self, fit: Fit, copy: &mut dyn FnMut(Window<'_>, usize, usize)) -> Result<Received, Damage> {
        // A pad, or a lap that lost nothing, is passed over. Two of those follow each other only where somebody lies.
        for _ in 0..4 {
            if let Some(received) = self.otherwise(fit)? {
                return Ok(received);
            }
            if let Some(received) = self.attempt(fit, &mut *copy) {
                return Ok(received);
            }
        }
        Ok(Received::Empty)
    }

    /// Whether everything that was loaded from the reader's position on, before this call, was of its lap.
    #[inline(always)]
    fn intact(&self) -> bool {
        // ORDERING: the Acquire fence pairs with the Release fence in `Writer::announce`: had a load before it seen a
        // word of a later lap, the intent stored before that word would be seen here.
        #[cfg(loom)]
        let fence = |ordering| {
            if !crate::twin::is(crate::twin::Weak::NoLookFence) {
                fence(ordering);
            }
        };
        fence(Ordering::Acquire);
        // SAFETY: a constant before the data area, and `attach` proved the region to reach further.
        let intent = unsafe { self.region.window().word64_proved(INTENT) }.load(Ordering::Relaxed);
        intent.wrapping_sub(self.at.position) <= self.shape.capacity
    }

    /// What stands here if not simply the next message. `None`: look again.
    fn otherwise(&mut self, fit: Fit) -> Result<Option<Received>, Damage> {
        let (commit, seq_low) = self.head();
        // What was found counts only if the writer had not come by.
        if !self.intact() {
            return self.resume();
        }
        if self.lost > 0 {
            let lost = core::mem::take(&mut self.lost);
            return Ok(Some(Received::Lapped { lost, resume_seq: self.at.seq }));
        }
        if commit == 0 {
            return Ok(Some(Received::Empty));
        }
        check_seq(&self.shape, self.at, seq_low)?;
        match self.shape.claimed(commit, self.at.position) {
            Some(len) if len < fit.min || len > fit.max => Ok(Some(Received::Unfit { seq: self.at.seq, len })),
            Some(_) => Ok(None),
            None => {
                self.at = passed(&self.shape, self.at, commit)?;
                Ok(None)
            }
        }
    }

    /// The reader was lapped: goes on at the oldest place that leaves it some room.
    #[cold]
    fn resume(&mut self) -> Result<Option<Received>, Damage> {
        for attempt in 0..ATTEMPTS {
            let Some(found) = self.find(Wanted::Oldest { margin: 1 << attempt })? else { continue };
            // A place behind us, or more messages than bytes in between, is nothing that our writer says.
            let lost = found.seq.checked_sub(self.at.seq);
            let Some(lost) = lost.filter(|_| found.position > self.at.position) else {
                let entry = self.shape.entry(found.position) as u64;
                return Err(Damage::at(entry, Fault::Seq { expected: self.at.seq, found: found.seq }));
            };
            let lost = lost + core::mem::take(&mut self.lost);
            self.at = found;
            return Ok((lost > 0).then_some(Received::Lapped { lost, resume_seq: found.seq }));
        }
        Ok(Some(Received::Empty))
    }

    /// `intent` as it is now, if a writer of ours could have stored it while we stand here.
    fn intent(&self) -> Result<u64, Damage> {
        // ORDERING: Acquire pairs with the Release in `Writer::announce`: the entries of the blocks before are visible.
        let intent = self.shape.checked(self.region.window().word64(INTENT).load(Ordering::Acquire))?;
        if intent < self.at.position { Err(damaged_intent(intent)) } else { Ok(intent) }
    }

    /// A place in the block table that was safe after it was read; `None` if the writer came in between.
    fn find(&self, wanted: Wanted) -> Result<Option<Place>, Damage> {
        let window = self.region.window();
        let intent = self.intent()?;
        let (first, end) = self.shape.blocks(intent);
        let entry = |block| self.shape.load_entry(window, block);
        let oldest = |margin: u64| {
            let from = (first + margin).min(end - 1);
            (from..end).find_map(entry).or_else(|| (first..from).rev().find_map(entry))
        };
        let found = match wanted {
            Wanted::Oldest { margin } => oldest(margin),
            Wanted::Newest => (first..end).rev().find_map(entry),
            Wanted::Seq { seq, margin } => {
                let holds = |place: &Place| place.seq <= seq;
                (first + margin..end).rev().filter_map(entry).find(holds).or_else(|| oldest(margin))
            }
        };
        // ORDERING: the Acquire fence pairs with the Release fence in `Writer::announce`, as in `intact`.
        fence(Ordering::Acquire);
        let now = window.word64(INTENT).load(Ordering::Relaxed);
        let start = found.map_or(first * self.shape.block, |place| place.position);
        if now.wrapping_sub(start) > self.shape.capacity {
            return Ok(None);
        }
        checked_place(found, intent).map(Some)
    }

    /// Whether [`Reader::receive`] has something to say: a message, or that the reader was lapped. May turn true at any
    /// time; once true it stays so until then. (Where only a pad stands, `receive` passes it and finds nothing yet.)
    #[inline]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `Writer::commit`.
        let commit = self.region.window().load_acquire(self.shape.offset(self.at.position));
        commit != 0 || self.lost > 0 || !self.intact()
    }

    /// The seq of the next message, if it is not lost.
    #[inline]
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.at.seq - self.lost
    }

    /// Bytes from the reader to where the writer may be writing, of [`Header::capacity`]: above it the reader is lapped.
    ///
    /// A snapshot that may have grown by the time it is read; nothing but the reader's own steps makes it smaller. It
    /// counts up to one block more than was written.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.region.window().word64(INTENT).load(Ordering::Relaxed).saturating_sub(self.at.position)
    }

    /// How readers sleep and are woken, as the ring's creator chose.
    #[must_use]
    pub fn wake_mode(&self) -> Mode {
        self.wake
    }

    /// The ring's header, as checked when the reader was made.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The memory.
    #[inline]
    #[must_use]
    pub fn region(&self) -> &R {
        &self.region
    }

    /// Gives the memory back.
    #[must_use]
    pub fn into_region(self) -> R {
        self.region
    }
}

impl<R: RegionMut> Reader<R> {
    /// Marks that this reader is about to sleep; returns the value to sleep on, at [`DATA_WAKE`]. See [`wake::mark`]
    /// for what comes next; the second look is [`Reader::is_ready`].
    ///
    /// It is the one thing for which a reader writes. Readers that may not poll, or sleep for a bounded time.
    #[must_use]
    pub fn mark_sleeper(&self) -> u32 {
        wake::mark(self.region.window_mut(), DATA_WAKE)
    }
}

/// Lengths of a message that a reader takes.
#[derive(Clone, Copy)]
struct Fit {
    min: usize,
    max: usize,
}

/// Which place a reader looks for.
#[derive(Clone, Copy)]
enum Wanted {
    /// The oldest, so many blocks away from what the writer overwrites next.
    Oldest { margin: u64 },
    /// The newest.
    Newest,
    /// The newest that is not behind this seq; the oldest if there is none.
    Seq { seq: u64, margin: u64 },
}

/// Checks a header, and that the region is as long as it says; how its ends sleep.
fn attached<R: Region>(region: &R) -> Result<(Header, Mode), Damage> {
    let header = expect(region, Kind::Broadcast, |header| (header.unit == 0).then(|| DATA + header.capacity as usize))?;
    Ok((header, super::read_mode(region.window(), WAKE_MODE)?))
}

/// A place from the block table that no writer came over meanwhile. Messages take 8 bytes or more, so a position bounds
/// its seq; and every honest table holds a place.
fn checked_place(place: Option<Place>, intent: u64) -> Result<Place, Damage> {
    let Some(place) = place else {
        return Err(Damage::at(BLOCKS as u64, Fault::Field { name: "blocks", found: intent }));
    };
    match place.seq.checked_sub(1) {
        Some(before) if before <= place.position / FRAME_HEADER as u64 => Ok(place),
        _ => Err(Damage::at(BLOCKS as u64, Fault::Seq { expected: place.position / 8 + 1, found: place.seq })),
    }
}

/// The place behind the frame or pad at `at`; `None` if nothing is committed there.
fn whole_frame(window: Window<'_>, shape: &Shape, at: Place) -> Result<Option<Place>, Damage> {
    let offset = shape.offset(at.position);
    // ORDERING: Acquire pairs with the Release in `Writer::commit`: the next commit word is at least open.
    let commit = window.load_acquire(offset);
    if commit == 0 {
        return Ok(None);
    }
    check_seq(shape, at, window.load(offset + 4))?;
    match shape.claimed(commit, at.position) {
        Some(len) => Ok(Some(Place { position: at.position + frame_len(len) as u64, seq: at.seq + 1 })),
        None => passed(shape, at, commit).map(Some),
    }
}

/// Damage if the header at `at` does not carry its seq.
fn check_seq(shape: &Shape, at: Place, found: u32) -> Result<(), Damage> {
    if found == at.seq as u32 {
        return Ok(());
    }
    let expected = at.seq & u64::from(u32::MAX);
    Err(Damage::at(shape.offset(at.position) as u64, Fault::Seq { expected, found: found.into() }))
}

/// The place behind a pad; damage if the word at `at` is not one.
fn passed(shape: &Shape, at: Place, commit: u32) -> Result<Place, Damage> {
    let left = shape.left(at.position) as u64;
    // A pad is shorter than the message that did not fit.
    if commit == PAD && left < shape.capacity / 4 {
        return Ok(Place { position: at.position + left, seq: at.seq });
    }
    let claimed = u64::from(commit) + FRAME_HEADER as u64 - 1;
    Err(Damage::at(shape.offset(at.position) as u64, Fault::Length { claimed, left }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HeapRegion;

    fn ring(capacity: usize) -> HeapRegion {
        let region = HeapRegion::new(len(capacity).unwrap());
        format(&region, &Spec { capacity, ..Spec::default() }).unwrap();
        region
    }

    #[test]
    fn ends_move_between_threads() {
        fn send<T: Send>() {}
        send::<Writer<HeapRegion>>();
        send::<Reader<HeapRegion>>();
    }

    #[test]
    fn messages_come_out_as_they_went_in_over_many_laps() {
        for capacity in [64, 128, 256, 1024, 4096] {
            let region = ring(capacity);
            let mut writer = Writer::attach(&region).unwrap();
            let mut reader = Reader::attach(&region, Start::Newest).unwrap();
            let mut buffer = vec![0; capacity];
            for seq in 1..2000u64 {
                let len = (seq as usize * 7) % (writer.max_payload() + 1);
                let message: Vec<u8> = (0..len).map(|i| (i as u64 ^ seq) as u8).collect();
                assert_eq!(writer.push(&message), Ok(seq));
                assert!(reader.is_ready());
                assert_eq!(reader.receive(&mut buffer), Ok(Received::Message { seq, len }), "capacity {capacity}");
                assert_eq!(&buffer[..len], message);
                assert_eq!(reader.receive(&mut buffer), Ok(Received::Empty));
                assert!(!reader.is_ready());
            }
        }
    }

    #[test]
    fn a_lapped_reader_loses_what_it_is_told_and_nothing_else() {
        let region = ring(1024);
        let mut writer = Writer::attach(&region).unwrap();
        let mut reader = Reader::attach(&region, Start::Oldest).unwrap();
        for seq in 1..=1000u64 {
            writer.push(&seq.to_le_bytes()).unwrap();
        }
        let mut buffer = [0; 8];
        let Ok(Received::Lapped { lost, resume_seq }) = reader.receive(&mut buffer) else { panic!("it was lapped") };
        assert_eq!(resume_seq, lost + 1);
        // 16 bytes each: a capacity, less the block that the writer is in and the block that is left as a margin.
        assert_eq!(1000 - lost, (1024 - 2 * 32) / 16);
        for seq in resume_seq..=1000 {
            let mut value = 0u64;
            assert_eq!(reader.receive_value(&mut value), Ok(Received::Message { seq, len: 8 }));
            assert_eq!(value, seq);
        }
        assert_eq!(reader.receive(&mut buffer), Ok(Received::Empty));
    }
}
