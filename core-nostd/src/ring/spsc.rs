//! One producer, one consumer, messages of variable length.
//!
//! ```text
//! push:    look at the consumer's head, only when the room known of is used up
//!          header, payload                    relaxed stores
//!          newest = where this frame begins   relaxed store, for whoever comes after a kill
//!          tail   = where it ends             Release ── the consumer Acquires it: the frame is whole
//! step:    look at the producer's tail, only when the frames known of are used up
//! release: head   = where the next begins     Release ── the producer Acquires it: nobody reads there any more
//! ```
//!
//! Many frames may share one store of tail ([`Producer::stage`], then [`Producer::publish`]) and one of head (many
//! [`Consumer::step`]s, then [`Consumer::release`]). A frame is contiguous: where it does not fit before the end of the
//! ring a pad covers the rest. `docs/format.md` draws the bytes, `docs/protocols.md` argues the orderings.
//!
//! Each end is killed at any step and attached again without harm. The producer goes on without gap and without using a
//! number twice; frames that it had staged are lost, as if never pushed. The consumer begins at the oldest frame that
//! was not released: what it took and did not release it gets again.
//!
//! Never here: blocking, and who may hold an end. A claim is written through `put`, never through a slice, and a frame
//! is read through a [`Payload`], because a peer may be writing there.
//!
//! ```
//! # #[cfg(feature = "std")] {
//! use chronicle_core::{HeapRegion, ring::spsc::{self, Consumer, Producer, Spec}};
//!
//! let region = HeapRegion::new(spsc::len(1024).unwrap());
//! spsc::format(&region, &Spec { capacity: 1024, ..Spec::default() }).unwrap();
//! let mut producer = Producer::attach(&region).unwrap();
//! let mut consumer = Consumer::attach(&region).unwrap();
//! std::thread::scope(|scope| {
//!     scope.spawn(move || {
//!         producer.push(b"one").unwrap();
//!         let mut claim = producer.claim(3).unwrap();
//!         claim.put(b"two");
//!         claim.commit();
//!     });
//!     let mut taken = Vec::new();
//!     while taken.len() < 2 {
//!         if let Some(frame) = consumer.step().unwrap() {
//!             let mut bytes = [0; 3];
//!             frame.payload.copy_to(&mut bytes);
//!             taken.push((frame.seq, bytes));
//!         } else {
//!             consumer.release();
//!             std::hint::spin_loop();
//!         }
//!     }
//!     assert_eq!(taken, [(1, *b"one"), (2, *b"two")]);
//! });
//! # }
//! ```

use super::{FormatError, Header, Identity, Kind, Occupancy, SPACING, check_capacity};
use crate::{
    Damage, Fault, Payload,
    region::{Region, RegionMut, WindowMut},
    sync::{Ordering, compiler_fence},
    wake::{self, Mode},
};
use core::{alloc::Layout, cell::Cell, fmt, marker::PhantomData};
use static_assertions::const_assert;

/// The producer's line: position behind the newest published frame.
pub const TAIL: usize = SPACING;
/// Position of the header that tells the next producer how far the count came.
pub const NEWEST: usize = TAIL + 4;
/// Upper bits of the seq, stored seldom; see `docs/format.md`.
pub const SEQ_HIGH: usize = TAIL + 8;
/// The consumer's line: position of the oldest frame that is not released.
pub const HEAD: usize = 2 * SPACING;
/// Wake word of who waits for frames.
pub const DATA_WAKE: usize = 3 * SPACING;
/// Wake word of who waits for room.
pub const SPACE_WAKE: usize = DATA_WAKE + 4;
/// How both wait: 0 = fence, 1 = asymmetric.
pub const WAKE_MODE: usize = DATA_WAKE + 8;
/// First byte of the data area.
pub const DATA: usize = 4 * SPACING;

/// Frames begin at multiples of this, so a header never crosses the end of the ring.
pub const FRAME_ALIGN: usize = 8;
/// Length of a frame's header: `len u32` (bit 31: a pad), `seq u32`.
pub const FRAME_HEADER_LEN: usize = 8;
/// In a header's `len`: not a frame, only the rest of the ring.
pub const PAD: u32 = 1 << 31;

const_assert!(FRAME_HEADER_LEN.is_multiple_of(FRAME_ALIGN));
const_assert!(DATA.is_multiple_of(FRAME_ALIGN) && super::MIN_CAPACITY.is_multiple_of(FRAME_ALIGN));
// A length and the pad bit do not meet.
const_assert!(super::MAX_CAPACITY < PAD as usize);
// `widen` allows for fewer than 2³⁰ frames between any two looks, and a lap has at most so many.
const_assert!(super::MAX_CAPACITY / FRAME_HEADER_LEN < 1 << 29);

/// What a new ring is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Bytes of the data area: a power of two.
    pub capacity: usize,
    /// Who it is.
    pub identity: Identity,
    /// How its ends sleep and wake.
    pub wake: Mode,
}

impl Default for Spec {
    /// 64 KiB, nobody in particular, fences.
    fn default() -> Self {
        Spec { capacity: 64 * 1024, identity: Identity::default(), wake: Mode::Fence }
    }
}

/// Bytes that a ring of this capacity needs; `None` if no ring has it.
#[must_use]
pub const fn len(capacity: usize) -> Option<usize> {
    match check_capacity(capacity, 0) {
        Ok(_) => Some(DATA + capacity),
        Err(_) => None,
    }
}

/// The memory that a ring of this capacity needs; `None` if no ring has it.
#[must_use]
pub const fn layout(capacity: usize) -> Option<Layout> {
    let Some(len) = len(capacity) else { return None };
    match Layout::from_size_align(len, crate::REGION_ALIGN) {
        Ok(layout) => Some(layout),
        Err(_) => None,
    }
}

/// The largest payload of a ring of this capacity: one that fits an empty ring wherever it stands.
#[must_use]
pub const fn max_payload(capacity: usize) -> usize {
    capacity / 2 - FRAME_HEADER_LEN
}

/// Makes a ring of a region that nobody uses yet.
///
/// # Errors
///
/// No ring has this capacity, or the region is shorter than the ring.
pub fn format<R: RegionMut>(region: &R, spec: &Spec) -> Result<(), FormatError> {
    let capacity = check_capacity(spec.capacity, 0)?;
    let (needed, found) = (DATA + spec.capacity, region.len());
    if found < needed {
        return Err(FormatError::Region { needed, found });
    }
    let window = region.window_mut();
    window.zero(TAIL, DATA - TAIL);
    super::store_mode(region, WAKE_MODE, spec.wake);
    // What `NEWEST` = tail promises: the header there has the next seq.
    window.store64(DATA, 1 << 32);
    super::store_header(region, Kind::Spsc, capacity, 0, spec.identity);
    Ok(())
}

/// Bytes of a frame with this payload. A `usize` that no slice has as its length may come out too small.
#[inline(always)]
const fn frame_len(payload_len: usize) -> usize {
    payload_len.wrapping_add(FRAME_HEADER_LEN + FRAME_ALIGN - 1) & !(FRAME_ALIGN - 1)
}

/// What both ends read of a ring when they attach: checked once, believed ever after.
struct Attached {
    capacity: usize,
    wake: Mode,
    tail: u32,
    head: u32,
}

fn attach<R: Region>(region: &R) -> Result<Attached, Damage> {
    let Header { capacity, .. } = super::expect(region, Kind::Spsc, |header| Some(DATA + header.capacity as usize))?;
    let window = region.window();
    let wake = super::read_mode(window, WAKE_MODE)?;
    // ORDERING: the head first, with Acquire: its consumer had seen the tail that it stands before, so the tail that we
    // see next is no older than that. A live peer moves its own meanwhile, and never further than the ring.
    let head = window.load_acquire(HEAD);
    let tail = window.load_acquire(TAIL);
    let field = |offset, name, found: u32| Err(Damage::at(offset, Fault::Field { name, found: found.into() }));
    if !head.is_multiple_of(FRAME_ALIGN as u32) {
        return field(HEAD as u64, "head", head);
    }
    Ok(Attached { capacity: capacity as usize, wake, tail, head })
}

impl Attached {
    /// Checks how far the ends are apart. A producer's `head` may be old: then the room is more than it says.
    fn check(&self) -> Result<(), Damage> {
        let used = self.tail.wrapping_sub(self.head) as usize;
        if used > self.capacity || !self.tail.is_multiple_of(FRAME_ALIGN as u32) {
            return Err(Damage::at(TAIL as u64, Fault::Field { name: "tail", found: self.tail.into() }));
        }
        Ok(())
    }

    /// Offset in the region of a position.
    fn offset(&self, position: u32) -> usize {
        DATA + (position as usize & (self.capacity - 1))
    }
}

/// Why nothing was pushed. The ring is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// No room now. Staged frames take room too, and the consumer cannot release what is not published.
    Full {
        /// Bytes that the frame takes, with the pad before it if it needs one.
        needed: usize,
        /// Bytes free.
        free: usize,
    },
    /// No ring of this capacity takes such a payload.
    TooLarge {
        /// Its length.
        len: usize,
        /// The largest one.
        max: usize,
    },
    /// The consumer's line holds what no consumer stores.
    Damage(Damage),
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Full { needed, free } => write!(f, "ring full: frame needs {needed} bytes, {free} free"),
            PushError::TooLarge { len, max } => {
                write!(f, "payload of {len} bytes is too large: this ring takes at most {max}")
            }
            PushError::Damage(damage) => damage.fmt(f),
        }
    }
}

impl core::error::Error for PushError {}

impl From<Damage> for PushError {
    fn from(damage: Damage) -> Self {
        PushError::Damage(damage)
    }
}

/// The writing end.
///
/// Keeps its position in private memory: nothing that a peer writes into the region changes where it writes next.
/// May be sent to another thread, not shared:
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<chronicle_core::ring::spsc::Producer<&'static chronicle_core::HeapRegion>>();
/// ```
///
/// Aligned to two cache lines, so that the ends do not slow each other down where they lie side by side.
#[derive(Debug)]
#[repr(align(128))]
pub struct Producer<R> {
    region: R,
    /// Offset in the region of the next frame.
    at: usize,
    /// Offset behind the room that is known to be free; never past the end of the ring.
    end: usize,
    /// What an offset in this lap lacks to be a position.
    lap: u32,
    /// What was last stored as tail.
    published: u32,
    /// What goes to [`NEWEST`] before the next tail.
    newest: u32,
    next_seq: u64,
    capacity: usize,
    wake: Mode,
    unshared: PhantomData<Cell<()>>,
}

impl<R: RegionMut> Producer<R> {
    /// Goes on where the last producer ended, or begins.
    ///
    /// # Errors
    ///
    /// The header is damaged or another ring's, the region is shorter than the ring, or a position is impossible.
    pub fn attach(region: R) -> Result<Self, Damage> {
        let attached = attach(&region)?;
        attached.check()?;
        let window = region.window();
        let Attached { capacity, tail, .. } = attached;
        let newest = window.load(NEWEST);
        let behind = tail.wrapping_sub(newest).cast_signed();
        if !newest.is_multiple_of(FRAME_ALIGN as u32) || behind.unsigned_abs() as usize > capacity {
            return Err(Damage::at(NEWEST as u64, Fault::Field { name: "newest", found: newest.into() }));
        }
        // At or past the tail: what stands at the tail was never published, and its header has the next seq, whatever it
        // is. Before the tail: the newest frame, or a pad, which has the seq of the frame behind it.
        let next = if behind <= 0 {
            window.load(attached.offset(tail) + 4)
        } else {
            let at = attached.offset(newest);
            window.load(at + 4).wrapping_add((window.load(at) & PAD == 0).into())
        };
        let next_seq = super::widen(window.load(SEQ_HIGH), next);
        let at = attached.offset(tail);
        Ok(Producer {
            region,
            at,
            end: at,
            lap: tail.wrapping_sub(at as u32),
            published: tail,
            newest,
            next_seq,
            capacity,
            wake: attached.wake,
            unshared: PhantomData,
        })
    }

    /// Pushes one frame and publishes it, with all that was staged before; returns its seq.
    ///
    /// Inlined, so that the copy of a payload whose length the caller knows becomes a few stores.
    ///
    /// # Errors
    ///
    /// No room, or the payload is larger than any that this ring takes.
    #[inline(always)]
    pub fn push(&mut self, payload: &[u8]) -> Result<u64, PushError> {
        self.write::<true>(payload)
    }

    /// Writes one frame that the consumer does not see before [`Producer::publish`]; returns its seq.
    ///
    /// # Errors
    ///
    /// As [`Producer::push`]. When staged frames fill the ring, publish them: nobody else can make room.
    #[inline(always)]
    pub fn stage(&mut self, payload: &[u8]) -> Result<u64, PushError> {
        self.write::<false>(payload)
    }

    #[inline(always)]
    fn write<const PUBLISH: bool>(&mut self, payload: &[u8]) -> Result<u64, PushError> {
        let need = frame_len(payload.len());
        if need > self.end - self.at {
            self.make_room(payload.len())?;
        }
        // SAFETY: `at..end` has room for `need` bytes, is inside the data area and so inside the region (`attach`), and
        // `at` is a multiple of 8; no slice is so long that `frame_len` overflows.
        unsafe { self.region.window_mut().copy_in_proved(self.at + FRAME_HEADER_LEN, payload) };
        Ok(self.seal::<PUBLISH>(payload.len(), need))
    }

    /// Makes everything staged visible, by one store.
    #[inline(always)]
    pub fn publish(&mut self) {
        let tail = self.lap.wrapping_add(self.at as u32);
        show(self.region.window_mut(), self.newest, tail);
        self.published = tail;
    }

    /// Takes space for a payload of `len` bytes, to be written in place.
    ///
    /// # Errors
    ///
    /// As [`Producer::push`].
    #[inline]
    pub fn claim(&mut self, len: usize) -> Result<Claim<'_, R>, PushError> {
        let need = frame_len(len);
        if len > self.capacity || need > self.end - self.at {
            self.make_room(len)?;
        }
        Ok(Claim { producer: self, len, need, filled: 0 })
    }

    /// Whether a payload of `len` bytes could be pushed. Once true it stays so until the next push.
    #[must_use]
    pub fn has_room(&self, len: usize) -> bool {
        len <= self.capacity && (frame_len(len) <= self.end - self.at || self.room_for(len).is_ok())
    }

    /// Writes the header of a frame whose payload is written, and moves behind it; shows it, with all before, or not.
    #[inline(always)]
    fn seal<const PUBLISH: bool>(&mut self, payload_len: usize, need: usize) -> u64 {
        let (window, at, seq) = (self.region.window_mut(), self.at, self.next_seq);
        let (newest, tail) = (self.lap.wrapping_add(at as u32), self.lap.wrapping_add((at + need) as u32));
        // SAFETY: `at..at + need` is inside the data area, by the callers, and `need` covers a header.
        unsafe { window.copy_in_proved(at, &head(payload_len as u32, seq as u32)) };
        if PUBLISH {
            show(window, newest, tail);
            self.published = tail;
        }
        self.newest = newest;
        self.at = at + need;
        self.next_seq = seq + 1;
        seq
    }

    /// What a frame needs and what is free, after a look at the consumer's head.
    fn room_for(&self, payload_len: usize) -> Result<(usize, usize), PushError> {
        let max = max_payload(self.capacity);
        if payload_len > max {
            return Err(PushError::TooLarge { len: payload_len, max });
        }
        // ORDERING: Acquire pairs with the Release in `Consumer::release`: the consumer has read what was before.
        let head = self.region.window().load_acquire(HEAD);
        let position = self.lap.wrapping_add(self.at as u32);
        let used = position.wrapping_sub(head) as usize;
        let visible = self.published.wrapping_sub(head) as usize;
        if !head.is_multiple_of(FRAME_ALIGN as u32) || visible > self.capacity || used > self.capacity {
            return Err(Damage::at(HEAD as u64, Fault::Field { name: "head", found: head.into() }).into());
        }
        let (need, rest) = (frame_len(payload_len), DATA + self.capacity - self.at);
        let needed = if need <= rest { need } else { rest + need };
        let free = self.capacity - used;
        if needed > free {
            return Err(PushError::Full { needed, free });
        }
        Ok((needed, free))
    }

    /// Learns of room for a frame, and pads the rest of the ring if it does not fit there.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, payload_len: usize) -> Result<(), PushError> {
        let (_, mut free) = self.room_for(payload_len)?;
        let ring_end = DATA + self.capacity;
        if self.at == ring_end {
            self.wrap();
        }
        self.mark();
        let rest = ring_end - self.at;
        if frame_len(payload_len) > rest {
            let window = self.region.window_mut();
            window.copy_in(self.at, &head(PAD | (rest - FRAME_HEADER_LEN) as u32, self.next_seq as u32));
            self.wrap();
            free -= rest;
        }
        self.end = self.at + free.min(ring_end - self.at);
        // ORDERING: Relaxed, and late: `widen` allows for more frames than a lap has.
        store(self.region.window_mut(), SEQ_HIGH, (self.next_seq >> 31) as u32, Ordering::Relaxed);
        Ok(())
    }

    fn wrap(&mut self) {
        self.at = DATA;
        self.lap = self.lap.wrapping_add(self.capacity as u32);
    }

    /// Lets [`NEWEST`] name the tail, because what is written next may fall on the header that it names now. At the tail
    /// stands the next seq: that of the first frame staged, or it is put there.
    fn mark(&mut self) {
        #[cfg(loom)]
        if crate::twin::is(crate::twin::Weak::NoMark) {
            return;
        }
        if self.lap.wrapping_add(self.at as u32) == self.published {
            self.region.window_mut().store(self.at + 4, self.next_seq as u32);
        }
        // ORDERING: as in `publish`, on both sides: the header, then its name, then what may fall on the old one.
        compiler_fence(Ordering::SeqCst);
        store(self.region.window_mut(), NEWEST, self.published, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        // What `publish` stores next: the newest staged frame; without any, what stands at the tail already.
        if self.published.wrapping_sub(self.newest).cast_signed() > 0 {
            self.newest = self.published;
        }
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

impl<R: Region> Producer<R> {
    /// The number that the next frame gets.
    #[inline]
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// How the ends sleep and wake, as the ring's creator chose.
    #[must_use]
    pub fn wake_mode(&self) -> Mode {
        self.wake
    }

    /// How much is published and not released. The consumer may release more at any time; nobody else can fill it.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let used = self.published.wrapping_sub(self.region.window().load(HEAD)) as usize;
        Occupancy { used: used.min(self.capacity), capacity: self.capacity }
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

/// Makes all frames before `tail` visible, the newest of which begins at `newest`.
#[inline(always)]
fn show(window: WindowMut<'_>, newest: u32, tail: u32) {
    // ORDERING: this is about a kill, which ends the program between two of its steps: the header that `NEWEST`
    // names is written before `NEWEST`. Only the compiler could swap them; the processor's stores all land.
    compiler_fence(Ordering::Release);
    #[cfg(loom)]
    if crate::twin::is(crate::twin::Weak::NewestAfterTail) {
        store(window, TAIL, tail, Ordering::Release);
        return store(window, NEWEST, newest, Ordering::Relaxed);
    }
    // ORDERING: Relaxed: the Release below keeps it before the tail, and only the next producer reads it.
    store(window, NEWEST, newest, Ordering::Relaxed);
    // ORDERING: Release pairs with the Acquire in `Consumer::look`: whoever sees this tail sees the headers and
    // payloads before it.
    store(window, TAIL, tail, Ordering::Release);
}

#[inline(always)]
fn store(window: WindowMut<'_>, offset: usize, word: u32, ordering: Ordering) {
    debug_assert!(offset < DATA);
    #[cfg(loom)]
    let ordering = crate::twin::step(ordering);
    // SAFETY: the callers' offsets are constants before `DATA`, and `attach` proved the region to reach further.
    unsafe { window.word32_proved(offset) }.store(word, ordering);
}

#[inline(always)]
fn head(len: u32, seq: u32) -> [u8; FRAME_HEADER_LEN] {
    (u64::from(len) | u64::from(seq) << 32).to_le_bytes()
}

/// Space for one frame that its producer fills in place. Dropping it aborts: nothing was stored that anybody can see.
#[must_use = "dropping a claim aborts it"]
#[derive(Debug)]
pub struct Claim<'a, R: RegionMut> {
    producer: &'a mut Producer<R>,
    len: usize,
    need: usize,
    /// Bytes from the start that hold this frame's content; behind them are those of an earlier lap.
    filled: usize,
}

impl<R: RegionMut> Claim<'_, R> {
    /// Length of the payload.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the payload has no bytes.
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
    #[inline]
    pub fn put_at(&mut self, at: usize, bytes: &[u8]) {
        assert!(
            at <= self.len && bytes.len() <= self.len - at,
            "bug: {} bytes at {at} do not fit a claim of {}",
            bytes.len(),
            self.len
        );
        let window = self.payload_window();
        let start = self.producer.at + FRAME_HEADER_LEN;
        if at > self.filled {
            window.zero(start + self.filled, at - self.filled);
        }
        window.copy_in(start + at, bytes);
        self.filled = self.filled.max(at + bytes.len());
    }

    fn payload_window(&self) -> WindowMut<'_> {
        self.producer.region.window_mut()
    }

    /// Makes the frame visible, with all that was staged before; returns its seq.
    #[inline]
    pub fn commit(self) -> u64 {
        self.seal::<true>()
    }

    /// Stages the frame: visible after [`Producer::publish`]. Returns its seq.
    #[inline]
    pub fn stage(self) -> u64 {
        self.seal::<false>()
    }

    /// Gives the space back; the same as dropping the claim.
    pub fn abort(self) {}

    #[inline]
    fn seal<const PUBLISH: bool>(self) -> u64 {
        if self.filled < self.len {
            let start = self.producer.at + FRAME_HEADER_LEN;
            self.payload_window().zero(start + self.filled, self.len - self.filled);
        }
        self.producer.seal::<PUBLISH>(self.len, self.need)
    }
}

/// One message, as the consumer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its number, from 1.
    pub seq: u64,
    /// Its bytes.
    pub payload: Payload<'a>,
}

/// Why nothing was popped. The ring is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PopError {
    /// The next payload is longer than the buffer given.
    TooShort {
        /// Its length.
        needed: usize,
    },
    /// The region holds what no producer stores.
    Damage(Damage),
}

impl fmt::Display for PopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PopError::TooShort { needed } => write!(f, "buffer too short: the next payload has {needed} bytes"),
            PopError::Damage(damage) => damage.fmt(f),
        }
    }
}

impl core::error::Error for PopError {}

impl From<Damage> for PopError {
    fn from(damage: Damage) -> Self {
        PopError::Damage(damage)
    }
}

/// How far ahead of the frame being read its successors' cache lines are asked for.
///
/// Where the next frame begins is known only once this one's header is here, so the processor cannot fetch ahead by
/// itself: without this each frame waits for its line, 34 ns at 64 bytes where 15 suffice. Never past what is published:
/// those lines are the producer's.
const AHEAD: usize = 512;

/// The reading end.
///
/// It trusts nothing in the region: lengths are loaded once and checked against what is published, every frame must
/// carry the next seq, and what does not fit is [`Damage`]: the consumer stays before it. Frames borrow the consumer,
/// several at once if need be; releasing takes it whole, so no frame outlives its room:
///
/// ```compile_fail
/// # use chronicle_core::{HeapRegion, ring::spsc::Consumer};
/// # fn f(mut consumer: Consumer<HeapRegion>) {
/// let frame = consumer.step().unwrap().unwrap();
/// consumer.release();
/// frame.payload.len();
/// # }
/// ```
///
/// May be sent to another thread, not shared:
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<chronicle_core::ring::spsc::Consumer<&'static chronicle_core::HeapRegion>>();
/// ```
///
/// Aligned to two cache lines, so that the ends do not slow each other down where they lie side by side.
#[derive(Debug)]
#[repr(align(128))]
pub struct Consumer<R> {
    region: R,
    /// Offset in the region of the next frame.
    at: Cell<usize>,
    /// Offset behind the frames that are known to be published; never past the end of the ring.
    end: Cell<usize>,
    /// What an offset in this lap lacks to be a position.
    lap: Cell<u32>,
    /// The seq that the next frame must have.
    next_seq: Cell<u64>,
    /// Whether the first frame is still to say what that is.
    fresh: Cell<bool>,
    /// Offset from which on [`Consumer::pop`] releases: `end`, or where an eighth of the ring is taken and not released.
    due: Cell<usize>,
    /// What was last stored as head.
    released: u32,
    capacity: usize,
    wake: Mode,
}

impl<R: RegionMut> Consumer<R> {
    /// Begins at the oldest frame that is not released.
    ///
    /// # Errors
    ///
    /// The header is damaged or another ring's, the region is shorter than the ring, or a position is impossible.
    pub fn attach(region: R) -> Result<Self, Damage> {
        let attached = attach(&region)?;
        attached.check()?;
        let at = attached.offset(attached.head);
        Ok(Consumer {
            region,
            at: Cell::new(at),
            end: Cell::new(at),
            lap: Cell::new(attached.head.wrapping_sub(at as u32)),
            next_seq: Cell::new(0),
            fresh: Cell::new(true),
            due: Cell::new(at),
            released: attached.head,
            capacity: attached.capacity,
            wake: attached.wake,
        })
    }

    /// Frees the room of every frame taken so far, by one store.
    #[inline]
    pub fn release(&mut self) {
        let head = self.position();
        // ORDERING: Release pairs with the Acquire in `Producer::room_for`: our loads of these frames come before it, so
        // the producer's next stores there cannot be seen by them.
        // SAFETY: a constant before `DATA`, and `attach` proved the region to reach further.
        unsafe { self.region.window().word32_proved(HEAD) }.store(head, Ordering::Release);
        self.released = head;
        self.set_due();
    }

    /// Copies the next frame into `out`: its seq and its bytes, or `None` if there is nothing.
    ///
    /// Releases by itself, all that was taken, once nothing more is known to be there or an eighth of the ring is due: a
    /// store for each frame would take the line from the producer each time. [`Consumer::release`] frees at once.
    ///
    /// # Errors
    ///
    /// `out` is too short, and the frame is still there; or damage, as [`Consumer::step`].
    #[inline(always)]
    pub fn pop<'o>(&mut self, out: &'o mut [u8]) -> Result<Option<(u64, &'o mut [u8])>, PopError> {
        match self.frame_here() {
            Some(Frame { seq, payload }) if payload.len() <= out.len() => Ok(Some(self.take(seq, payload.len(), out))),
            _ => self.pop_slowly(out),
        }
    }

    /// As [`Consumer::pop`], where it takes more than a look at the next header.
    #[cold]
    #[inline(never)]
    fn pop_slowly<'o>(&mut self, out: &'o mut [u8]) -> Result<Option<(u64, &'o mut [u8])>, PopError> {
        let Some(Frame { seq, payload }) = self.peek()? else { return Ok(None) };
        let len = payload.len();
        if len > out.len() { Err(PopError::TooShort { needed: len }) } else { Ok(Some(self.take(seq, len, out))) }
    }

    /// Copies the frame at hand, whose header was checked and says `len` bytes, which `out` has.
    #[inline(always)]
    fn take<'o>(&mut self, seq: u64, len: usize, out: &'o mut [u8]) -> (u64, &'o mut [u8]) {
        let window = self.region.window();
        let from = self.at.get() + FRAME_HEADER_LEN;
        let exact = len == out.len();
        let out = &mut out[..len];
        // A caller that gives exactly a frame's length may know it when it is compiled: then this is a few instructions.
        if exact {
            // SAFETY: `frame_here` or `seek` found `len` bytes behind the header at `at`, up to `end` at most: with the
            // rest of their last word inside the data area, and so inside the region (`attach`). `out` is as long.
            unsafe { window.move_out_proved(from, out.as_mut_ptr(), out.len()) };
        } else {
            // SAFETY: as above.
            unsafe { window.move_out_any(from, out.as_mut_ptr(), len) };
        }
        self.pass(len);
        if self.at.get() >= self.due.get() {
            self.release();
        }
        (seq, out)
    }

    /// After a release: whether the producer waits for room and must be woken, on [`SPACE_WAKE`].
    #[inline]
    #[must_use]
    pub fn sleepers(&self, mode: Mode) -> bool {
        // SAFETY: a constant before `DATA`, and `attach` proved the region to reach further.
        wake::asked(unsafe { self.region.window().word32_proved(SPACE_WAKE) }, mode)
    }

    /// Marks that this end is about to sleep until there is a frame; returns the value of [`DATA_WAKE`] to sleep on. Next:
    /// [`wake::settle`] or the platform's barrier, then [`Consumer::is_ready`] once more.
    #[must_use]
    pub fn mark_sleeper(&self) -> u32 {
        wake::mark(self.region.window_mut(), DATA_WAKE)
    }
}

impl<R: Region> Consumer<R> {
    /// Takes the next frame; `None` if there is none now. Its room is the producer's after [`Consumer::release`].
    ///
    /// # Errors
    ///
    /// Damage: an impossible tail, a frame longer than what is published, a seq that is not the next. The consumer stays
    /// where it is.
    #[inline(always)]
    pub fn step(&self) -> Result<Option<Frame<'_>>, Damage> {
        let next = self.peek()?;
        if let Some(frame) = &next {
            self.pass(frame.payload.len());
        }
        Ok(next)
    }

    /// To be called when `end`, `released` or the lap has changed.
    #[inline]
    fn set_due(&self) {
        let taken = self.position().wrapping_sub(self.released) as usize;
        self.due.set(self.end.get().min(self.at.get() + (self.capacity / 8).saturating_sub(taken)));
    }

    #[inline(always)]
    fn pass(&self, payload_len: usize) {
        self.at.set(self.at.get() + frame_len(payload_len));
        self.next_seq.set(self.next_seq.get().wrapping_add(1));
    }

    #[inline(always)]
    fn peek(&self) -> Result<Option<Frame<'_>>, Damage> {
        match self.frame_here() {
            None => self.seek(),
            found => Ok(found),
        }
    }

    /// The frame at hand, if all is as it should be.
    #[inline(always)]
    fn frame_here(&self) -> Option<Frame<'_>> {
        let (at, end, seq) = (self.at.get(), self.end.get(), self.next_seq.get());
        if at == end {
            return None;
        }
        let (len, found) = self.header(at);
        if end - at > AHEAD {
            self.region.window().prefetch(at + AHEAD);
        }
        // A pad's bit makes the length larger than any ring.
        (u64::from(len) <= (end - at - FRAME_HEADER_LEN) as u64 && found == seq as u32)
            .then(|| Frame { seq, payload: Payload::shared(self.region.window(), at + FRAME_HEADER_LEN, len as usize) })
    }

    /// The two words of the header at `at`, which must be before `end`.
    #[inline(always)]
    fn header(&self, at: usize) -> (u32, u32) {
        debug_assert!(at < self.end.get());
        let window = self.region.window();
        // ORDERING: Relaxed: the Acquire of a tail behind them, in `look`, ordered them.
        // SAFETY: `at` and `end` are multiples of 8 and `at < end`, so a header's 8 bytes are inside the data area, and
        // `attach` proved that inside the region.
        let len = unsafe { window.word32_proved(at) }.load(Ordering::Relaxed);
        // SAFETY: as above.
        let seq = unsafe { window.word32_proved(at + 4) }.load(Ordering::Relaxed);
        (len, seq)
    }

    /// What stands here if not simply the next frame: nothing, a pad, the end of what was known, or damage.
    ///
    /// Goes round at most once: a pad is never accepted at the ring's beginning.
    #[cold]
    #[inline(never)]
    fn seek(&self) -> Result<Option<Frame<'_>>, Damage> {
        let ring_end = DATA + self.capacity;
        loop {
            if self.at.get() == ring_end {
                self.lap.set(self.lap.get().wrapping_add(self.capacity as u32));
                self.at.set(DATA);
                self.end.set(DATA);
            }
            let at = self.at.get();
            if at == self.end.get() && !self.look()? {
                return Ok(None);
            }
            let (left, expected) = (self.end.get() - at, self.next_seq.get());
            let (len, seq) = self.header(at);
            let claimed = u64::from(len & !PAD) + FRAME_HEADER_LEN as u64;
            let pad = len & PAD != 0;
            let fits = if pad {
                at != DATA && claimed == (ring_end - at) as u64 && claimed == left as u64
            } else {
                claimed <= left as u64
            };
            if !fits {
                return Err(Damage::at(at as u64, Fault::Length { claimed, left: left as u64 }));
            }
            if seq != expected as u32 {
                return Err(Damage::at(at as u64, Fault::Seq { expected: expected & 0xffff_ffff, found: seq.into() }));
            }
            if !pad {
                let payload = Payload::shared(self.region.window(), at + FRAME_HEADER_LEN, len as usize);
                return Ok(Some(Frame { seq: expected, payload }));
            }
            self.at.set(ring_end);
        }
    }

    /// Looks at the producer's tail; whether there is anything behind it. Then `at..end` is not empty.
    fn look(&self) -> Result<bool, Damage> {
        let (at, position, window) = (self.at.get(), self.position(), self.region.window());
        // ORDERING: Acquire pairs with the Release in `Producer::publish`: headers and payloads before this tail are
        // whole.
        let tail = window.load_acquire(TAIL);
        let (more, held) = (tail.wrapping_sub(position) as usize, position.wrapping_sub(self.released) as usize);
        if !tail.is_multiple_of(FRAME_ALIGN as u32) || more > self.capacity - held {
            return Err(Damage::at(TAIL as u64, Fault::Field { name: "tail", found: tail.into() }));
        }
        if more == 0 {
            return Ok(false);
        }
        self.end.set(at + more.min(DATA + self.capacity - at));
        self.set_due();
        if self.fresh.replace(false) {
            // Nobody overwrites the oldest frame before we release it, so its header is enough to learn the seq from; a
            // live producer's `SEQ_HIGH` is no more than a lap ahead of it.
            self.next_seq.set(super::widen(window.load(SEQ_HIGH), self.header(at).1));
        }
        Ok(true)
    }

    fn position(&self) -> u32 {
        self.lap.get().wrapping_add(self.at.get() as u32)
    }

    /// Whether there is something behind what was taken. May turn true at any time; once true it stays so until the next
    /// step.
    #[inline]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.at.get() != self.end.get() || self.region.window().load_acquire(TAIL) != self.position()
    }

    /// How the ends sleep and wake, as the ring's creator chose.
    #[must_use]
    pub fn wake_mode(&self) -> Mode {
        self.wake
    }

    /// How much is published and not released. The producer may publish more at any time; nobody else can empty it.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let used = self.region.window().load(TAIL).wrapping_sub(self.released) as usize;
        Occupancy { used: used.min(self.capacity), capacity: self.capacity }
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
