//! Many producers, one consumer, messages of variable length.
//!
//! Any number of producers, up to the number of slots, take space by one compare-and-swap on the common `tail`, write
//! in place and commit in band, each on its own; one consumer takes frames in the order of their space. A producer that
//! is killed anywhere between the two does not stop the consumer for ever: [`Consumer::reap`] finds out whose the space
//! is and pads it, by proof of death alone, never by a time-out. What a *stopped* producer has claimed waits for it.
//!
//! ```text
//! claim    claiming = 1                            this producer's own word
//!          tail: t → t + need                      the one atomic step; pad and frame together at the ring's end
//!          word at t = CLAIMED | slot | units      the stamp: whose it is and how long
//!          claiming = 0                            Release
//! write    payload words
//! commit   word at t = length + 1                  Release ── the consumer that Acquires it sees the payload
//! release  zeros over all that was taken, head     Release ── the producer that Acquires it sees the zeros
//! ```
//!
//! Everything from `tail` to `head + capacity` is zero, always. A word of 0 in front of the consumer therefore means
//! that nobody has stamped there yet, and space that was claimed and never stamped is known by its zeros.
//!
//! # Why reaping takes nothing from the living
//!
//! [`Consumer::reap`] asks its caller which registered producers are dead, *then* loads `tail` (Acquire) as T, *then*
//! looks at the `claiming` word of each producer that is left (Acquire). If all are 0, space below T without a stamp
//! belongs to the dead:
//!
//! - Let C be a claim below T by a living producer. All changes of `tail` are read-modify-writes with Release, so C's
//!   is in the release sequence that the load of T acquired from: C's `claiming = 1`, which precedes it, *happened
//!   before* our look at that word, and the look finds it or something newer.
//! - It found 0, so one that C's producer, or a later owner of the slot, stored after C's stamp with Release: the stamp
//!   happened before the look, and the walk that follows sees it. (A newer 1 is some later claim's: not yet.)
//! - A slot that is free was freed, with Release, by its owner's drop, after its last claim was stamped and ended.
//! - It does not matter that the words are looked at one after the other, and raised again in between: each look by
//!   itself proves its own producer's claims below T stamped, and what is claimed later lies above T.
//! - The dead store nothing any more, and what they stored is visible to whoever knows of their death (that is the
//!   contract of the question). What they claimed and did not stamp they did not touch either: the stamp comes before
//!   the payload. It is zero up to the next stamp, or to T, and is padded up to there.
//!
//! Space stamped by a dead owner is padded by its stamp. A stamp names a slot, so a slot is given to a new producer only
//! after a walk all the way to T has turned each of the dead one's stamps into a pad; T was loaded after the death was
//! known, so nothing of the dead lies above it.
//!
//! A producer that stops between raising and lowering its flag, without dying, keeps holes unproven, its own and others';
//! one that stops later keeps its own frame and what is behind it. Both are a handful of instructions, or the caller's
//! own code between `claim` and `commit`.
//!
//! # What a hostile peer can do
//!
//! Lose, repeat, forge or reorder messages, or make an end report [`Damage`]; a forged lock in its favour is the
//! platform's to prevent. Each end goes by private copies of what it owns; positions and lengths that it loads are
//! checked against the ring before use; a compare-and-swap that never succeeds ends as [`PushError::Contended`].
//!
//! Never here: who is alive, how to sleep, and numbers on the producers' side: the consumer counts.
//!
//! ```
//! # #[cfg(feature = "std")] {
//! use chronicle_core::{HeapRegion, ring::mpsc};
//!
//! let spec = mpsc::Spec { capacity: 4096, producers: 2, ..mpsc::Spec::default() };
//! let region = HeapRegion::new(mpsc::len(spec.capacity, spec.producers).unwrap());
//! mpsc::format(&region, &spec).unwrap();
//!
//! let mut consumer = mpsc::Consumer::attach(&region).unwrap();
//! std::thread::scope(|scope| {
//!     for name in ["left", "right"] {
//!         let mut producer = mpsc::Producer::register(&region).unwrap();
//!         scope.spawn(move || producer.push(name.as_bytes()).unwrap());
//!     }
//! });
//! let mut seen = Vec::new();
//! while let Some(frame) = consumer.step().unwrap() {
//!     seen.push((frame.seq, frame.payload.len()));
//! }
//! consumer.release();
//! assert!(seen == [(1, 4), (2, 5)] || seen == [(1, 5), (2, 4)]);
//! # }
//! ```
// Positions are counted in 64 bits, so that one that is loaded can never be an old lap's.
#![cfg(any(loom, target_has_atomic = "64"))]

use crate::{
    Damage, Fault, Payload,
    region::{Region, RegionMut, WindowMut},
    ring::{
        FormatError, Identity, Kind, MAX_CAPACITY, Occupancy, SPACING, check_capacity, expect, read_mode, store_header,
        store_mode,
    },
    sync::{Ordering, compiler_fence},
    wake::{self, Mode},
};
use core::{cell::Cell, fmt, marker::PhantomData, mem::ManuallyDrop};
use static_assertions::{const_assert, const_assert_eq};

/// Most producers that a ring can have at a time.
pub const MAX_PRODUCERS: u32 = 64;
/// Bytes in front of a payload: the commit word, and a word that is zero.
pub const FRAME_HEADER_LEN: usize = 8;
/// Wake word of the consumer, for whoever has committed or aborted.
pub const DATA_WAKE: usize = 512;
/// Wake word of producers that wait for space, for the consumer that has released.
pub const SPACE_WAKE: usize = 516;
/// How both of them are used: 0 = [`Mode::Fence`], 1 = [`Mode::Asymmetric`].
pub const WAKE_MODE: usize = 520;

/// Position up to which space is claimed. Changed by compare-and-swap alone.
const TAIL: usize = 128;
/// Position up to which space is free again. The consumer's.
const HEAD: usize = 256;
/// Which of the two marks counts: 0 or 1.
const CURRENT: usize = 384;
/// Two marks of {position u64, frames before it u64}.
const MARKS: usize = 392;
const MARK_LEN: usize = 16;
/// Claims that were padded because their owner was dead, by their stamp (u64), and without one (u64).
const REAPED: usize = 424;
/// One line for each producer.
const SLOTS: usize = 640;
/// In a slot: odd = held; the upper 31 bits count its owners.
const STATE: usize = 0;
/// In a slot: 1 between the moments before a claim and after its stamp.
const CLAIMING: usize = 4;

const_assert!(TAIL.is_multiple_of(SPACING) && HEAD.is_multiple_of(SPACING) && SLOTS.is_multiple_of(SPACING));
const_assert_eq!(CURRENT, HEAD + SPACING);
const_assert_eq!(DATA_WAKE, CURRENT + SPACING);
const_assert_eq!(SLOTS, DATA_WAKE + SPACING);
const_assert!(MARKS + 2 * MARK_LEN <= REAPED && REAPED + 16 <= DATA_WAKE);

/// Bits of a frame's first word: stamped, not committed. Bits 25..31 name the slot, the lower 25 count units.
const CLAIMED: u32 = 1 << 31;
/// Nothing to read here: the lower 30 bits count units.
const PAD: u32 = 1 << 30;
const SLOT_SHIFT: u32 = 25;
const UNITS: u32 = (1 << SLOT_SHIFT) - 1;
/// What lengths and positions are multiples of.
const UNIT: u64 = 8;
/// The longest span that a stamp can name.
const MAX_SPAN: usize = UNITS as usize * UNIT as usize;

const_assert!(MAX_PRODUCERS <= 1 << (31 - SLOT_SHIFT));
const_assert_eq!(FRAME_HEADER_LEN as u64, UNIT);
// A whole ring can be one pad, and no committed length reaches the flags: a word with a flag, or 0, taken for a length
// is more than any ring has, which is how `Consumer::step` tells them with one comparison.
const_assert!((MAX_CAPACITY as u64 / UNIT) < PAD as u64);
const_assert!(MAX_CAPACITY as u64 <= PAD as u64);

/// Compare-and-swaps before an end says that something keeps changing the tail.
const TRIES: u32 = 1 << 16;
/// Looks at head and tail before it says so. Fewer, because a claim may look anew for each exchange; two loads that nobody
/// comes between are soon had.
const LOOKS: u32 = 1 << 10;
/// Pads that one call passes over.
const PADS: u32 = 1 << 10;
/// Claims in which one collision is forgotten.
const HEAT: u32 = 16;
/// No ring of ours gets so far: at a terabyte a second this takes a month.
const LAST_POSITION: u64 = 1 << 62;

/// What a ring is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Bytes of the data area: a power of two.
    pub capacity: usize,
    /// Most producers at a time: 1 to [`MAX_PRODUCERS`].
    pub producers: u32,
    /// How its ends sleep and wake.
    pub wake_mode: Mode,
    /// Who it is.
    pub identity: Identity,
}

impl Default for Spec {
    /// 64 KiB, eight producers, fences.
    fn default() -> Self {
        Spec { capacity: 1 << 16, producers: 8, wake_mode: Mode::Fence, identity: Identity::default() }
    }
}

/// Bytes that a ring needs; `None` if there is none like it.
#[must_use]
pub const fn len(capacity: usize, producers: u32) -> Option<usize> {
    if check_capacity(capacity, 0).is_err() || producers == 0 || producers > MAX_PRODUCERS {
        return None;
    }
    Some(data_at(producers) + capacity)
}

/// Memory that a ring needs, for a `static` or an allocator; `None` if there is none like it.
#[must_use]
pub const fn layout(capacity: usize, producers: u32) -> Option<core::alloc::Layout> {
    match len(capacity, producers) {
        Some(len) => match core::alloc::Layout::from_size_align(len, SPACING) {
            Ok(layout) => Some(layout),
            Err(_) => None,
        },
        None => None,
    }
}

/// The longest payload that a ring of this capacity takes: it fits an empty ring wherever that one's tail stands.
#[must_use]
pub const fn max_payload(capacity: usize) -> usize {
    max_span(capacity) - FRAME_HEADER_LEN
}

/// Bytes that a payload takes in the ring, its header and padding included.
#[must_use]
pub const fn frame_len(payload_len: usize) -> Option<usize> {
    if payload_len > MAX_SPAN - FRAME_HEADER_LEN {
        return None;
    }
    Some(needed(payload_len) as usize)
}

const fn max_span(capacity: usize) -> usize {
    if capacity / 2 < MAX_SPAN { capacity / 2 } else { MAX_SPAN }
}

const fn data_at(producers: u32) -> usize {
    SLOTS + SPACING * producers as usize
}

const fn slot_at(slot: u32) -> usize {
    SLOTS + SPACING * slot as usize
}

#[inline(always)]
const fn needed(payload_len: usize) -> u64 {
    (payload_len as u64 + (FRAME_HEADER_LEN as u64 + UNIT - 1)) & !(UNIT - 1)
}

/// What a frame's first word says.
enum Word {
    /// Nobody has stamped it.
    Open,
    Claimed {
        slot: u32,
        len: u64,
    },
    Pad {
        len: u64,
    },
    Committed {
        payload_len: usize,
    },
}

const fn decode(word: u32) -> Word {
    if word & CLAIMED != 0 {
        Word::Claimed { slot: (word & !CLAIMED) >> SLOT_SHIFT, len: (word & UNITS) as u64 * UNIT }
    } else if word & PAD != 0 {
        Word::Pad { len: (word & !PAD) as u64 * UNIT }
    } else if word == 0 {
        Word::Open
    } else {
        Word::Committed { payload_len: word as usize - 1 }
    }
}

fn pad_word(len: u64) -> u32 {
    PAD | (len / UNIT) as u32
}

/// Makes a ring of a region that nobody uses: empty, all slots free.
///
/// # Errors
///
/// No ring is like this, or the region is too small for it.
pub fn format<R: RegionMut>(region: &R, spec: &Spec) -> Result<(), FormatError> {
    let capacity = check_capacity(spec.capacity, 0)?;
    let Some(needed) = len(spec.capacity, spec.producers) else {
        return Err(FormatError::Unit { asked: spec.producers as usize, max: MAX_PRODUCERS as usize });
    };
    if region.len() < needed {
        return Err(FormatError::Region { needed, found: region.len() });
    }
    let window = region.window_mut();
    // ORDERING: Relaxed. The region is nobody else's until its maker hands it over, which orders all of this. Positions
    // are stored whole: no byte of the ring is reached by atomics of two sizes.
    window.zero(0, TAIL);
    window.word64(TAIL).store(0, Ordering::Relaxed);
    window.zero(TAIL + 8, HEAD - (TAIL + 8));
    window.word64(HEAD).store(0, Ordering::Relaxed);
    window.zero(HEAD + 8, needed - (HEAD + 8));
    store_mode(region, WAKE_MODE, spec.wake_mode);
    store_header(region, Kind::Mpsc, capacity, spec.producers, spec.identity);
    Ok(())
}

/// What both ends know of their ring, from a header that was checked.
#[derive(Clone, Copy, Debug)]
struct Shape {
    data: usize,
    capacity: u64,
    producers: u32,
    wake_mode: Mode,
}

impl Shape {
    fn of<R: Region>(region: &R) -> Result<Self, Damage> {
        let header = expect(region, Kind::Mpsc, |header| len(header.capacity as usize, header.unit))?;
        Ok(Shape {
            data: data_at(header.unit),
            capacity: header.capacity.into(),
            producers: header.unit,
            wake_mode: read_mode(region.window(), WAKE_MODE)?,
        })
    }

    #[inline(always)]
    fn offset(self, position: u64) -> usize {
        self.data + (position & (self.capacity - 1)) as usize
    }

    /// Bytes from a position to the ring's end.
    #[inline(always)]
    fn to_end(self, position: u64) -> u64 {
        self.capacity - (position & (self.capacity - 1))
    }
}

fn field(offset: usize, name: &'static str, found: u64) -> Damage {
    Damage::at(offset as u64, Fault::Field { name, found })
}

/// Head and tail as they were at one moment, checked; `None` if they keep changing.
fn ends(window: WindowMut<'_>, shape: &Shape) -> Result<Option<(u64, u64)>, Damage> {
    for _ in 0..LOOKS {
        // ORDERING: Acquire of `tail` pairs with the claim that stored it, whose producer had loaded some head before:
        // ours is not older, so tail is at most a capacity ahead. Acquire of `head` pairs with the release of space:
        // the zeros are visible, and so is a tail no less than head. Tail only grows, so if it is the same before and
        // after, both hold for the same value.
        let tail = window.word64(TAIL).load(Ordering::Acquire);
        let head = window.word64(HEAD).load(Ordering::Acquire);
        if window.word64(TAIL).load(Ordering::Relaxed) != tail {
            core::hint::spin_loop();
            continue;
        }
        if !tail.is_multiple_of(UNIT) || tail > LAST_POSITION {
            return Err(field(TAIL, "tail", tail));
        }
        if !head.is_multiple_of(UNIT) || head > tail || tail - head > shape.capacity {
            return Err(field(HEAD, "head", head));
        }
        return Ok(Some((head, tail)));
    }
    Ok(None)
}

/// What somebody sees who only looks: each number was so at some moment, not all at the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Bytes claimed and not released.
    pub occupancy: Occupancy,
    /// Bit n: slot n is held, by the living or the dead.
    pub held: u64,
    /// Bit n: slot n's owner is between its flag and its stamp.
    pub claiming: u64,
    /// Who owns the oldest space that is claimed and not committed, which is what a consumer will wait for: a slot, or
    /// `None` where there is no stamp. `None` if all that is claimed is committed.
    pub blocked: Option<Option<u32>>,
}

/// Looks at a ring without being one of its ends. Stores nothing.
///
/// # Errors
///
/// The region holds no such ring.
pub fn look<R: Region>(region: &R) -> Result<Look, Damage> {
    let shape = Shape::of(region)?;
    let window = region.window();
    let (mut held, mut claiming) = (0, 0);
    for slot in 0..shape.producers {
        held |= u64::from(window.load_acquire(slot_at(slot) + STATE) & 1) << slot;
        claiming |= u64::from(window.load_acquire(slot_at(slot) + CLAIMING) & 1) << slot;
    }
    // ORDERING: Acquire, so that a later number is not of an earlier moment; nothing is decided by them.
    let head = window.word64(HEAD).load(Ordering::Acquire);
    // What lies before the mark may be zeros already.
    let mark = window.load64(MARKS + MARK_LEN * (window.load_acquire(CURRENT) & 1) as usize);
    let tail = window.word64(TAIL).load(Ordering::Acquire);
    let used = tail.saturating_sub(head).min(shape.capacity) as usize;
    let mut blocked = None;
    let mut position = head.max(mark);
    // Beyond the last position there is no position, only somebody's nonsense.
    let end = tail.min(head.saturating_add(shape.capacity)).min(LAST_POSITION);
    while position < end && position.is_multiple_of(UNIT) {
        let len = match decode(window.load_acquire(shape.offset(position))) {
            Word::Committed { payload_len } => needed(payload_len),
            Word::Pad { len } => len,
            Word::Claimed { slot, .. } => {
                blocked = Some(Some(slot));
                break;
            }
            // The consumer may have come by and cleared it; then its mark is another.
            Word::Open => {
                let now = window.load64(MARKS + MARK_LEN * (window.load_acquire(CURRENT) & 1) as usize);
                blocked = (now == mark).then_some(None);
                break;
            }
        };
        // At least a unit a step, so the capacity bounds the walk; what no producer stores ends it.
        if len == 0 || len > shape.to_end(position) {
            break;
        }
        position += len;
    }
    Ok(Look { occupancy: Occupancy { used, capacity: shape.capacity as usize }, held, claiming, blocked })
}

/// Why nothing was claimed. The ring is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// Not enough free space: the consumer has to release some first.
    Full {
        /// Bytes that it takes, and what is passed over at the ring's end.
        needed: usize,
        /// Bytes that were free.
        free: usize,
    },
    /// No ring of this capacity takes so much at once.
    TooLarge {
        /// Bytes asked for.
        len: usize,
        /// The most.
        max: usize,
    },
    /// Others moved the tail at every one of many tries. Honest producers hardly ever manage that.
    Contended,
    /// Positions that no end of ours stores.
    Damage(Damage),
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Full { needed, free } => write!(f, "ring full: {needed} bytes needed, {free} free"),
            PushError::TooLarge { len, max } => write!(f, "{len} bytes are too many: this ring takes at most {max}"),
            PushError::Contended => write!(f, "ring's tail moved at each of {TRIES} tries to claim"),
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

/// Why nobody was registered. The ring is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// All slots are held: by the living, or by the dead until the consumer reaps them.
    NoSlot {
        /// How many there are.
        producers: u32,
    },
    /// The slot asked for is held, perhaps by one who is dead and not reaped yet, or there is none of this number.
    Taken {
        /// The slot.
        slot: u32,
    },
    /// No ring, or one whose positions no end of ours stores.
    Damage(Damage),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegisterError::NoSlot { producers } => {
                write!(f, "no slot left: all {producers} are held, by the living or by the dead not yet reaped")
            }
            RegisterError::Taken { slot } => write!(f, "slot {slot} is held or does not exist"),
            RegisterError::Damage(damage) => damage.fmt(f),
        }
    }
}

impl core::error::Error for RegisterError {}

impl From<Damage> for RegisterError {
    fn from(damage: Damage) -> Self {
        RegisterError::Damage(damage)
    }
}

/// One of the writing ends. Dropping it frees its slot.
///
/// ```compile_fail
/// fn both<T: Sync>() {}
/// both::<chronicle_core::ring::mpsc::Producer<chronicle_core::HeapRegion>>();
/// ```
#[derive(Debug)]
pub struct Producer<R: RegionMut> {
    region: R,
    shape: Shape,
    /// The longest frame.
    max_span: u64,
    slot: u32,
    /// What the slot's state word says while it is ours.
    state: u32,
    /// Where the tail was when we last saw it: the first guess of the next claim.
    tail: u64,
    /// A head that was seen; the true one may be further.
    head: u64,
    /// Offset and length of a stamp of ours that no [`Claim`] or [`Batch`] ended yet; length 0 if there is none. Only
    /// `mem::forget` leaves one behind.
    open: (usize, u64),
    /// How often claims collided of late: [`HEAT`] for each collision, less 1 for each claim.
    heat: u32,
    not_sync: PhantomData<Cell<()>>,
}

impl<R: RegionMut> Producer<R> {
    /// Takes any free slot: within one process, where drops run even in a panic.
    ///
    /// # Errors
    ///
    /// No slot is free, or the region holds no such ring.
    pub fn register(region: R) -> Result<Self, RegisterError> {
        let shape = Shape::of(&region)?;
        for slot in 0..shape.producers {
            if let Some((state, head, tail)) = Self::take_slot(&region, &shape, slot)? {
                return Ok(Self::new(region, shape, slot, state, head, tail));
            }
        }
        Err(RegisterError::NoSlot { producers: shape.producers })
    }

    /// Takes this slot: across processes, by one who holds the lock that proves the slot's owner alive.
    ///
    /// The lock comes first and is held until after the drop, so that whoever finds it free knows that the owner, if
    /// the slot has one, is dead.
    ///
    /// # Errors
    ///
    /// The slot is held, or the region holds no such ring.
    pub fn register_at(region: R, slot: u32) -> Result<Self, RegisterError> {
        let shape = Shape::of(&region)?;
        if slot < shape.producers
            && let Some((state, head, tail)) = Self::take_slot(&region, &shape, slot)?
        {
            return Ok(Self::new(region, shape, slot, state, head, tail));
        }
        Err(RegisterError::Taken { slot })
    }

    fn take_slot(region: &R, shape: &Shape, slot: u32) -> Result<Option<(u32, u64, u64)>, Damage> {
        let window = region.window_mut();
        // Positions that keep changing are looked at again by the first claim.
        let (head, tail) = ends(window, shape)?.unwrap_or((0, 0));
        let word = window.word32(slot_at(slot) + STATE);
        let free = word.load(Ordering::Relaxed);
        // ORDERING: Acquire pairs with the Release of the previous owner's drop or of the consumer that reaped it: this
        // producer's `claiming` words come after that one's. Release is for nobody: the claims that follow release it.
        let ours = free & 1 == 0 && word.compare_exchange(free, free | 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
        Ok(ours.then_some((free | 1, head, tail)))
    }

    fn new(region: R, shape: Shape, slot: u32, state: u32, head: u64, tail: u64) -> Self {
        let max_span = max_span(shape.capacity as usize) as u64;
        let producer =
            Producer { region, shape, max_span, slot, state, tail, head, open: (0, 0), heat: 0, not_sync: PhantomData };
        // It is 0, unless a peer scribbled.
        producer.lower();
        producer
    }

    /// Copies a payload into the ring and commits it.
    ///
    /// Sleepers are woken by the caller, if [`Producer::sleepers`] says so.
    ///
    /// # Errors
    ///
    /// No room, the payload is too large, or see [`PushError`].
    #[inline(always)]
    pub fn push(&mut self, payload: &[u8]) -> Result<(), PushError> {
        let need = needed(payload.len());
        if need > self.max_span {
            return Err(self.too_large(payload.len()));
        }
        let at = self.take(need)?;
        let window = self.region.window_mut();
        // SAFETY: `take` gave space for a header and the payload, in whole units, inside the ring, which `Shape::of`
        // proved to be inside the region.
        unsafe { window.copy_in_proved(at + FRAME_HEADER_LEN, payload) };
        // ORDERING: as in `commit`.
        // SAFETY: as above: the header.
        unsafe { window.store_release_proved(at, payload.len() as u32 + 1) };
        Ok(())
    }

    /// Takes space for a payload of `len` bytes, to be written in place.
    ///
    /// From here to the claim's end the consumer gets nothing that was claimed later.
    ///
    /// # Errors
    ///
    /// As [`Producer::push`].
    #[inline]
    pub fn claim(&mut self, len: usize) -> Result<Claim<'_, R>, PushError> {
        if len > self.max_payload() {
            return Err(self.too_large(len));
        }
        let at = self.take(needed(len))?;
        self.open = (at, needed(len));
        Ok(Claim { producer: self, at, len, filled: 0 })
    }

    /// Takes `len` bytes at once, for as many frames as fit them: one atomic step for all. Each takes [`frame_len`].
    ///
    /// # Errors
    ///
    /// As [`Producer::push`]; `len` is rounded up to whole frames.
    #[inline]
    pub fn claim_batch(&mut self, len: usize) -> Result<Batch<'_, R>, PushError> {
        let max = self.max_span as usize;
        if len > max {
            return Err(PushError::TooLarge { len, max });
        }
        let len = (len as u64).next_multiple_of(UNIT).max(UNIT);
        let start = self.take(len)?;
        self.open = (start, len);
        Ok(Batch { producer: self, start, at: start, end: start + len as usize, first: 0 })
    }

    /// Whether sleeping consumers must be woken on [`DATA_WAKE`]: after each commit, and also after an abort or drop,
    /// because frames behind it may have waited for it.
    ///
    /// Two producers may both be told to: the second wakes for nothing.
    #[inline]
    pub fn sleepers(&self, mode: Mode) -> bool {
        // SAFETY: a constant before the slots, and `Shape::of` proved the region to reach further.
        wake::asked(unsafe { self.region.window().word32_proved(DATA_WAKE) }, mode)
    }

    /// Marks that this producer is about to sleep on [`SPACE_WAKE`]; returns the value to sleep on. Next:
    /// [`wake::settle`] or the platform's barrier, [`Producer::has_room`], and only then sleep, for a bounded time.
    #[must_use]
    pub fn mark_sleeper(&self) -> u32 {
        wake::mark(self.region.window_mut(), SPACE_WAKE)
    }

    /// Whether a payload of `len` bytes, or a batch of so many less one header, would have been taken just now. Others
    /// may take the space first; it may also have become more. `true` where a claim would report damage.
    #[must_use]
    pub fn has_room(&self, len: usize) -> bool {
        match ends(self.region.window_mut(), &self.shape) {
            Ok(Some((head, tail))) => {
                let need = needed(len.min(self.max_payload()));
                let left = self.shape.to_end(tail);
                tail + if need > left { left + need } else { need } - head <= self.shape.capacity
            }
            Ok(None) | Err(_) => true,
        }
    }

    /// Bytes claimed and not released, pads included: as they were at one moment. They may have become more or fewer;
    /// a ring found empty may already be full.
    ///
    /// # Errors
    ///
    /// Positions that no end of ours stores.
    pub fn occupancy(&self) -> Result<Occupancy, Damage> {
        occupancy(self.region.window_mut(), &self.shape)
    }

    /// Longest payload that this ring takes.
    #[inline]
    #[must_use]
    pub fn max_payload(&self) -> usize {
        max_payload(self.shape.capacity as usize)
    }

    /// How this ring's ends sleep and wake, as its maker said.
    #[must_use]
    pub fn wake_mode(&self) -> Mode {
        self.shape.wake_mode
    }

    /// The slot that this producer holds.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Which of the slot's owners this is; with the slot, what [`Consumer::reap`] asks for.
    #[must_use]
    pub fn incarnation(&self) -> u32 {
        self.state >> 1
    }

    /// The memory.
    #[must_use]
    pub fn region(&self) -> &R {
        &self.region
    }

    #[cold]
    fn too_large(&self, len: usize) -> PushError {
        PushError::TooLarge { len, max: self.max_payload() }
    }

    /// The whole claim: `need` bytes, stamped as ours; their offset.
    #[inline(always)]
    fn take(&mut self, need: u64) -> Result<usize, PushError> {
        if self.open.1 != 0 {
            self.pad_forgotten();
        }
        self.raise();
        let taken = self.advance(need);
        if let Ok((position, pad)) = taken {
            self.stamp(position, pad, need);
        }
        self.lower();
        // ORDERING: no payload word may move before the stamp, for a kill in between would leave words behind that the
        // consumer takes for frames. A kill cuts the program's own order, so the compiler's is all there is to keep.
        compiler_fence(Ordering::SeqCst);
        let (position, pad) = taken?;
        #[cfg(loom)]
        if crate::twin::is(crate::twin::Weak::StampAfterFlag) {
            self.store_stamp(position, pad, need);
        }
        Ok(self.shape.offset(position + pad))
    }

    /// Step 1: from here on the consumer knows that space may be ours without a stamp.
    #[inline(always)]
    fn raise(&self) {
        #[cfg(loom)]
        if crate::twin::is(crate::twin::Weak::FlagAfterClaim) {
            return;
        }
        // ORDERING: Relaxed. The claim's own Release carries it to whoever sees the claim.
        // SAFETY: the slot is one of the ring's, and `Shape::of` proved those to be inside the region.
        unsafe { self.region.window_mut().store_proved(slot_at(self.slot) + CLAIMING, 1) };
    }

    /// Step 2: one compare-and-swap takes what lies before the ring's end and is too short, and `need` bytes behind it.
    /// Returns where it begins and how much is pad.
    #[inline(always)]
    fn advance(&mut self, need: u64) -> Result<(u64, u64), PushError> {
        // A guess: if it is wrong, the failed exchange says the value, and has brought the cache line to write to.
        let tail = self.tail;
        let end = tail.wrapping_add(need);
        if need > self.shape.to_end(tail) || end.wrapping_sub(self.head) > self.shape.capacity {
            return self.advance_slowly(tail, need, 0);
        }
        // SAFETY: a constant before the slots, and `Shape::of` proved the region to reach further.
        let word = unsafe { self.region.window_mut().word64_proved(TAIL) };
        // ORDERING: as in `advance_slowly`.
        match word.compare_exchange(tail, end, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => {
                self.tail = end;
                self.heat = self.heat.saturating_sub(1);
                Ok((tail, 0))
            }
            Err(found) => {
                self.collided(0);
                self.advance_slowly(found, need, 1)
            }
        }
    }

    /// As [`Producer::advance`], from a tail that may be anything, where it takes more than one exchange.
    #[inline(never)]
    fn advance_slowly(&mut self, mut tail: u64, need: u64, tried: u32) -> Result<(u64, u64), PushError> {
        for tries in tried..TRIES {
            let left = self.shape.to_end(tail);
            let pad = if need > left { left } else { 0 };
            let end = tail.wrapping_add(pad + need);
            if end.wrapping_sub(self.head) > self.shape.capacity || !tail.is_multiple_of(UNIT) {
                tail = self.look(need)?;
                continue;
            }
            // ORDERING: Release lets who Acquires this tail, or a later one, see our raised flag: all changes of `tail`
            // are read-modify-writes, so a later one continues our release sequence. Acquire keeps the stamp behind.
            let word = self.region.window_mut().word64(TAIL);
            match word.compare_exchange(tail, end, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    self.tail = end;
                    self.heat = self.heat.saturating_sub(1);
                    return Ok((tail, pad));
                }
                Err(found) => {
                    self.collided(tries);
                    tail = found;
                }
            }
        }
        Err(PushError::Contended)
    }

    /// After an exchange that failed. The next one, with the value found, will hardly fail: the line is ours now.
    ///
    /// So a producer that collides now and then loses nothing. Where producers collide all the time, the line and those
    /// of the frames would change hands for every single message; then one of them waits for about a microsecond, in
    /// which the other claims many times in a row. That makes three of one.
    #[cold]
    #[inline(never)]
    fn collided(&mut self, tries: u32) {
        self.heat = (self.heat + HEAT).min(16 * HEAT);
        if self.heat > 4 * HEAT && tries.is_multiple_of(2) {
            #[cfg(not(loom))]
            for _ in 0..64 {
                core::hint::spin_loop();
            }
        }
    }

    /// Looks at the ends anew: a tail from which `need` bytes fit.
    #[cold]
    #[inline(never)]
    fn look(&mut self, need: u64) -> Result<u64, PushError> {
        let Some((head, tail)) = ends(self.region.window_mut(), &self.shape)? else {
            return Err(PushError::Contended);
        };
        self.head = head;
        let left = self.shape.to_end(tail);
        let need = if need > left { left + need } else { need };
        let free = self.shape.capacity - (tail - head);
        if need > free {
            return Err(PushError::Full { needed: need as usize, free: free as usize });
        }
        Ok(tail)
    }

    /// Step 3: says whose the space is and how long.
    #[inline(always)]
    fn stamp(&self, position: u64, pad: u64, need: u64) {
        #[cfg(loom)]
        if crate::twin::is(crate::twin::Weak::FlagAfterClaim) {
            self.region.window_mut().store(slot_at(self.slot) + CLAIMING, 1);
        }
        #[cfg(loom)]
        if crate::twin::is(crate::twin::Weak::StampAfterFlag) {
            return;
        }
        self.store_stamp(position, pad, need);
    }

    #[inline(always)]
    fn store_stamp(&self, position: u64, pad: u64, need: u64) {
        let window = self.region.window_mut();
        // ORDERING: Relaxed. The Release of `claiming = 0` that follows carries both to the consumer that reaps; to one
        // that comes by, they are words that say all there is to know.
        if pad != 0 {
            // SAFETY: a claimed position is a multiple of 8, so a header from it lies in the ring, which `Shape::of` proved
            // to be inside the region.
            unsafe { window.store_proved(self.shape.offset(position), pad_word(pad)) };
        }
        // SAFETY: as above.
        unsafe { window.store_proved(self.shape.offset(position + pad), self.stamp_word(need)) };
    }

    #[inline]
    fn stamp_word(&self, len: u64) -> u32 {
        CLAIMED | self.slot << SLOT_SHIFT | (len / UNIT) as u32
    }

    /// Step 4: all that we have claimed is stamped.
    #[inline(always)]
    fn lower(&self) {
        // ORDERING: Release pairs with the Acquire in `Consumer::reap`: who sees this 0, or a later one, sees the stamp.
        // SAFETY: the slot is one of the ring's, and `Shape::of` proved those to be inside the region.
        unsafe { self.region.window_mut().store_release_proved(slot_at(self.slot) + CLAIMING, 0) };
    }

    /// Pads what a `mem::forget` left open.
    #[cold]
    #[inline(never)]
    fn pad_forgotten(&mut self) {
        let (at, len) = core::mem::take(&mut self.open);
        abort(self.region.window_mut(), at, len);
    }

    /// Goes through a push for `steps` steps and no further, as one who is killed there: 1 flag, 2 claim, 3 stamp, 4
    /// flag down, 5 part of the payload, 6 all of it, 7 commit.
    #[cfg(any(test, loom))]
    #[doc(hidden)]
    pub fn die(self, payload: &[u8], steps: u32) {
        let mut dying = ManuallyDrop::new(self);
        let need = needed(payload.len());
        if steps >= 1 {
            dying.raise();
        }
        if steps < 2 {
            return;
        }
        let Ok((position, pad)) = dying.advance(need) else { return };
        let at = dying.shape.offset(position + pad);
        let window = dying.region.window_mut();
        if steps >= 3 {
            dying.stamp(position, pad, need);
        }
        if steps >= 4 {
            dying.lower();
        }
        let part = match steps {
            0..5 => 0,
            5 => payload.len() / 2,
            _ => payload.len(),
        };
        window.copy_in(at + FRAME_HEADER_LEN, &payload[..part]);
        if steps >= 7 {
            commit(window, at, payload.len());
        }
    }
}

impl<R: RegionMut> Drop for Producer<R> {
    fn drop(&mut self) {
        if self.open.1 != 0 {
            self.pad_forgotten();
        }
        // ORDERING: Release pairs with the Acquire of the slot's next owner, and of a consumer that reaps: who finds the
        // slot free sees every claim of ours stamped and ended.
        self.region.window_mut().store_release(slot_at(self.slot) + STATE, self.state.wrapping_add(1));
    }
}

#[inline]
fn commit(window: WindowMut<'_>, at: usize, payload_len: usize) {
    // ORDERING: Release pairs with the Acquire in `Consumer::step`: whoever sees this length sees the payload.
    window.store_release(at, payload_len as u32 + 1);
}

fn abort(window: WindowMut<'_>, at: usize, len: u64) {
    // ORDERING: Release pairs with the Acquire in `Consumer::step`: our payload words come before the consumer's zeros.
    window.store_release(at, pad_word(len));
}

fn occupancy(window: WindowMut<'_>, shape: &Shape) -> Result<Occupancy, Damage> {
    // Only a tail that moves at every look leaves us without two ends of one moment.
    let used = ends(window, shape)?.map_or(shape.capacity, |(head, tail)| tail - head);
    Ok(Occupancy { used: used as usize, capacity: shape.capacity as usize })
}

/// Space for one frame that its producer fills in place. Dropping it aborts: the space is passed over.
#[must_use = "dropping a claim aborts it"]
#[derive(Debug)]
pub struct Claim<'a, R: RegionMut> {
    producer: &'a mut Producer<R>,
    at: usize,
    len: usize,
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
        self.producer.region.window_mut().copy_in(self.at + FRAME_HEADER_LEN + at, bytes);
        self.filled = self.filled.max(at + bytes.len());
    }

    /// Makes the frame visible.
    #[inline]
    pub fn commit(self) {
        let claim = &mut *ManuallyDrop::new(self);
        commit(claim.producer.region.window_mut(), claim.at, claim.len);
        claim.producer.open.1 = 0;
    }

    /// Gives the space up; the same as dropping the claim.
    pub fn abort(self) {}
}

impl<R: RegionMut> Drop for Claim<'_, R> {
    fn drop(&mut self) {
        self.producer.pad_forgotten();
    }
}

/// Space for several frames of one producer, claimed in one step. Dropping it passes over what was not published.
///
/// Frames are seen by the consumer from [`Batch::publish`] or [`Batch::commit`] on, all of them at once. No other
/// producer's frames come between them.
#[must_use = "dropping a batch aborts what was not published"]
#[derive(Debug)]
pub struct Batch<'a, R: RegionMut> {
    producer: &'a mut Producer<R>,
    /// Offset of the stamp: the first frame that is not published.
    start: usize,
    /// Where the next frame goes.
    at: usize,
    end: usize,
    /// Commit word of the frame at `start`, stored last; 0 if there is none yet.
    first: u32,
}

impl<R: RegionMut> Batch<'_, R> {
    /// Writes the next frame.
    ///
    /// # Errors
    ///
    /// The batch has no room for it: then it is as it was.
    #[inline(always)]
    pub fn push(&mut self, payload: &[u8]) -> Result<(), PushError> {
        // No slice is so long that its frame's length overflows.
        if needed(payload.len()) > self.left() as u64 {
            return Err(self.full(payload.len()));
        }
        let window = self.producer.region.window_mut();
        // SAFETY: the frame, in whole units, fits what is left of the batch's space, which `take` gave inside the ring,
        // and `Shape::of` proved the ring to be inside the region.
        unsafe { window.copy_in_proved(self.at + FRAME_HEADER_LEN, payload) };
        let word = payload.len() as u32 + 1;
        if self.at == self.start {
            self.first = word;
        } else {
            // ORDERING: Relaxed. The consumer stops at the stamp before it, until the Release that replaces that one.
            // SAFETY: as above: the header.
            unsafe { window.store_proved(self.at, word) };
        }
        self.at += needed(payload.len()) as usize;
        Ok(())
    }

    /// Bytes that frames may still take, headers included.
    #[inline]
    #[must_use]
    pub fn left(&self) -> usize {
        self.end - self.at
    }

    /// Makes the frames written so far visible, and keeps the rest of the space.
    pub fn publish(&mut self) {
        if self.first != 0 && self.at < self.end {
            let rest = (self.end - self.at) as u64;
            let window = self.producer.region.window_mut();
            // ORDERING: Relaxed. The Release below carries it: behind the frames the consumer finds our stamp again.
            window.store(self.at, self.producer.stamp_word(rest));
            self.release();
            self.producer.open = (self.at, rest);
            (self.start, self.first) = (self.at, 0);
        } else {
            self.finish();
        }
    }

    /// Makes the frames written so far visible and passes over the rest of the space.
    #[inline]
    pub fn commit(mut self) {
        self.finish();
    }

    #[inline]
    fn finish(&mut self) {
        if self.first != 0 {
            if self.at < self.end {
                // ORDERING: Relaxed, as for the stamp in `publish`.
                self.producer.region.window_mut().store(self.at, pad_word((self.end - self.at) as u64));
            }
            self.release();
            self.producer.open.1 = 0;
            (self.start, self.at, self.first) = (self.end, self.end, 0);
        }
    }

    #[inline]
    fn release(&self) {
        // ORDERING: Release pairs with the Acquire in `Consumer::step`: whoever sees this length sees the payloads and
        // commit words of the whole batch, and what follows them.
        self.producer.region.window_mut().store_release(self.start, self.first);
    }

    #[cold]
    fn full(&self, len: usize) -> PushError {
        match frame_len(len) {
            Some(needed) => PushError::Full { needed, free: self.left() },
            None => self.producer.too_large(len),
        }
    }
}

impl<R: RegionMut> Drop for Batch<'_, R> {
    #[inline]
    fn drop(&mut self) {
        if self.producer.open.1 != 0 {
            self.producer.pad_forgotten();
        }
    }
}

/// One message, as the consumer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its number, from 1, in the order in which space was claimed; counted by the consumers of this ring, one after
    /// the other.
    pub seq: u64,
    /// Its bytes.
    pub payload: Payload<'a>,
}

/// What a consumer did about the dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Stamped claims that became pads: so many messages, or batches, were never committed.
    pub claims: u64,
    /// Stretches of space without a stamp that became pads: each at least one claim.
    pub holes: u64,
    /// Slots that are free again.
    pub slots: u32,
    /// Dead producers whose slots are still held, because some living producer was just between flag and stamp. Reap
    /// again.
    pub left: u32,
}

/// The reading end.
///
/// ```compile_fail
/// fn both<T: Sync>() {}
/// both::<chronicle_core::ring::mpsc::Consumer<chronicle_core::HeapRegion>>();
/// ```
#[derive(Debug)]
pub struct Consumer<R> {
    region: R,
    shape: Shape,
    /// Position of the next frame.
    at: Cell<u64>,
    /// Where contiguous space that may hold frames ends: the ring's end, or what is taken and not released.
    limit: Cell<u64>,
    /// Position up to which space was released.
    head: Cell<u64>,
    /// Frames before `at`.
    taken: Cell<u64>,
    /// Frames before `head`.
    released: Cell<u64>,
    /// Which mark counts.
    current: Cell<u32>,
    claims: u64,
    holes: u64,
}

impl<R: RegionMut> Consumer<R> {
    /// Begins where the last consumer's last release ended. Frames that it took and did not release come again, with
    /// the same numbers. That there is one consumer at a time is the platform's lock.
    ///
    /// # Errors
    ///
    /// The region holds no such ring, or positions that no end of ours stores.
    pub fn attach(region: R) -> Result<Self, Damage> {
        let shape = Shape::of(&region)?;
        let window = region.window_mut();
        let current = window.load(CURRENT);
        if current > 1 {
            return Err(field(CURRENT, "current", current.into()));
        }
        let mark = MARKS + MARK_LEN * current as usize;
        let (at, taken) = (window.load64(mark), window.load64(mark + 8));
        // ORDERING: `head` and the marks are the consumers' own, and the lock that makes us the only one orders us
        // behind the last. Acquire of `tail` as in `reap`.
        let head = window.word64(HEAD).load(Ordering::Relaxed);
        let tail = window.word64(TAIL).load(Ordering::Acquire);
        if !tail.is_multiple_of(UNIT) || tail > LAST_POSITION {
            return Err(field(TAIL, "tail", tail));
        }
        if !head.is_multiple_of(UNIT) || head > tail || tail - head > shape.capacity {
            return Err(field(HEAD, "head", head));
        }
        if !at.is_multiple_of(UNIT) || at < head || at > tail {
            return Err(field(mark, "mark", at));
        }
        if taken > at / UNIT {
            return Err(field(mark + 8, "mark.frames", taken));
        }
        let (claims, holes) = (window.load64(REAPED), window.load64(REAPED + 8));
        let consumer = Consumer {
            region,
            shape,
            at: Cell::new(at),
            limit: Cell::new(at),
            head: Cell::new(head),
            taken: Cell::new(taken),
            released: Cell::new(taken),
            current: Cell::new(current),
            claims,
            holes,
        };
        // Killed between the mark and the head: the space is released to the end of what the mark says.
        consumer.clear();
        consumer.hand_back();
        Ok(consumer)
    }

    /// The next frame; `None` if there is none yet, or if the next one is claimed and not committed.
    ///
    /// Its space stays taken until [`Consumer::release`]. A call passes over a thousand pads at most: `None` may mean
    /// that there are more, and then [`Consumer::is_ready`] says so.
    ///
    /// # Errors
    ///
    /// A length that no producer of ours stores. It stays so; the ring has to be made anew.
    #[inline(always)]
    pub fn step(&self) -> Result<Option<Frame<'_>>, Damage> {
        // ORDERING: Acquire pairs with the Release in `commit` and `Batch::release`: the payload is all there.
        // SAFETY: a position is a multiple of 8, so a header from it lies in the ring, which `Shape::of` proved to be inside
        // the region.
        let mut word =
            unsafe { self.region.window().word32_proved(self.shape.offset(self.at.get())) }.load(Ordering::Acquire);
        // 0, a stamp and a pad give more than any ring has; so this one comparison finds all that is not a frame.
        if needed(word.wrapping_sub(1) as usize) > self.limit.get() - self.at.get() {
            match self.search()? {
                Some(found) => word = found,
                None => return Ok(None),
            }
        }
        let at = self.shape.offset(self.at.get());
        let payload_len = word as usize - 1;
        self.at.set(self.at.get() + needed(payload_len));
        self.taken.set(self.taken.get() + 1);
        let payload = Payload::shared(self.region.window(), at + FRAME_HEADER_LEN, payload_len);
        Ok(Some(Frame { seq: self.taken.get(), payload }))
    }

    /// Passes over pads and the ring's end: the commit word of the frame that stands at `at` then.
    #[cold]
    #[inline(never)]
    fn search(&self) -> Result<Option<u32>, Damage> {
        for _ in 0..PADS {
            self.set_limit();
            if self.at.get() == self.limit.get() {
                // The whole ring is taken and nothing released.
                return Ok(None);
            }
            let at = self.shape.offset(self.at.get());
            // ORDERING: as in `step`; a pad's owner stored nothing after it.
            let word = self.region.window().load_acquire(at);
            let left = self.limit.get() - self.at.get();
            match decode(word) {
                Word::Open | Word::Claimed { .. } => break,
                Word::Pad { len } => {
                    check_len(at, len, left)?;
                    self.at.set(self.at.get() + len);
                }
                Word::Committed { payload_len } => {
                    check_len(at, needed(payload_len), left)?;
                    return Ok(Some(word));
                }
            }
        }
        // Pads alone are nobody's to release, and no frame is out.
        if self.taken.get() == self.released.get() {
            self.give_back();
        }
        Ok(None)
    }

    #[inline]
    fn set_limit(&self) {
        self.limit.set((self.at.get() + self.shape.to_end(self.at.get())).min(self.head.get() + self.shape.capacity));
    }

    /// Gives the space of all frames taken so far back to the producers. Until then a consumer that comes after this
    /// one gets them again.
    #[inline]
    pub fn release(&mut self) {
        self.give_back();
    }

    /// As [`Consumer::release`]; the caller knows that no frame is out.
    #[inline]
    fn give_back(&self) {
        if self.at.get() != self.head.get() {
            self.record();
            #[cfg(loom)]
            if crate::twin::is(crate::twin::Weak::HeadBeforeZeros) {
                let head = self.head.get();
                self.hand_back();
                self.head.set(head);
            }
            self.clear();
            self.hand_back();
        }
    }

    /// Step 1 of a release: who attaches from now on begins here.
    ///
    /// The mark is whole before it counts, so a kill anywhere leaves this one or the one before it.
    #[inline]
    fn record(&self) {
        let window = self.region.window_mut();
        let next = self.current.get() ^ 1;
        let mark = MARKS + MARK_LEN * next as usize;
        // ORDERING: Relaxed, kept in program order by fences for the compiler: these words are read by a later consumer
        // alone, whom a lock orders behind all that this one did before it was killed.
        window.store64(mark, self.at.get());
        window.store64(mark + 8, self.taken.get());
        compiler_fence(Ordering::SeqCst);
        window.store(CURRENT, next);
        compiler_fence(Ordering::SeqCst);
        self.current.set(next);
        self.released.set(self.taken.get());
    }

    /// Step 2: zeros.
    #[inline]
    fn clear(&self) {
        let window = self.region.window_mut();
        let len = self.at.get() - self.head.get();
        let first = len.min(self.shape.to_end(self.head.get()));
        Self::zeros(window, self.shape.offset(self.head.get()), first as usize);
        Self::zeros(window, self.shape.data, (len - first) as usize);
    }

    /// Zeros over whole units of the ring: a sixth of the instructions of `WindowMut::zero`, which takes any range.
    #[inline]
    fn zeros(window: WindowMut<'_>, mut at: usize, len: usize) {
        let end = at + len;
        assert!(
            at.is_multiple_of(UNIT as usize) && len.is_multiple_of(UNIT as usize) && end <= window.len(),
            "bug: {len} bytes at {at} are not units of a ring"
        );
        while end - at >= 64 {
            // SAFETY: `at` is a multiple of 8, and 64 bytes from there end before `end`, which is inside the window.
            unsafe { window.copy_in_proved(at, &[0; 64]) };
            at += 64;
        }
        while at < end {
            // SAFETY: as above, and `end` is a multiple of 8 too.
            unsafe { window.copy_in_proved(at, &[0; UNIT as usize]) };
            at += UNIT as usize;
        }
    }

    /// Step 3: the space is the producers'.
    #[inline]
    fn hand_back(&self) {
        self.head.set(self.at.get());
        self.set_limit();
        #[cfg(loom)]
        if crate::twin::is(crate::twin::Weak::CommitRelaxed) {
            return self.region.window_mut().word64(HEAD).store(self.head.get(), Ordering::Relaxed);
        }
        // ORDERING: Release pairs with the Acquire in `ends`: a producer that sees this head sees the zeros below it,
        // and its own words come after them.
        self.region.window_mut().word64(HEAD).store(self.head.get(), Ordering::Release);
    }

    /// Pads what dead producers have claimed and will never commit, and frees their slots.
    ///
    /// To be called when [`Consumer::step`] gives nothing although [`Consumer::occupancy`] says that something is
    /// there, for a while, or when a producer is known to have died. It costs a question per producer, a look at each,
    /// and a walk over what is claimed.
    ///
    /// `alive` is asked whether the slot's owner of this incarnation still lives. `true` is always safe. `false` is a
    /// promise that it will never store again and that all it stored is visible here: it held a lock that the kernel
    /// has released, or its thread was joined. Time that has passed proves nothing. Within a process, where drops run,
    /// the answer is `true`.
    ///
    /// # Errors
    ///
    /// Words that no producer of ours stores. What was padded before stays padded.
    pub fn reap(&mut self, mut alive: impl FnMut(u32, u32) -> bool) -> Result<Reaped, Damage> {
        let window = self.region.window_mut();
        let state = |slot| window.load_acquire(slot_at(slot) + STATE);
        let claiming = |slot| window.load_acquire(slot_at(slot) + CLAIMING);
        let mut dead = 0u64;
        for slot in 0..self.shape.producers {
            let state = state(slot);
            if state & 1 == 1 && !alive(slot, state >> 1) {
                dead |= 1 << slot;
            }
        }
        // ORDERING: the module's documentation walks through these three: the dead are known, then `tail` (Acquire, from
        // the release sequence of all claims below it), then state and flag of the others (Acquire, from the Release of
        // a drop or of `lower`).
        let tail = window.word64(TAIL).load(Ordering::Acquire);
        let (mut held, mut settled) = (0u64, true);
        for slot in (0..self.shape.producers).filter(|slot| dead >> slot & 1 == 0) {
            if state(slot) & 1 == 1 {
                held |= 1 << slot;
                settled &= claiming(slot) == 0;
            }
        }
        #[cfg(loom)]
        let tail = match crate::twin::is(crate::twin::Weak::TailAfterFlags) {
            true => window.word64(TAIL).load(Ordering::Acquire),
            false => tail,
        };
        if !tail.is_multiple_of(UNIT) || tail < self.at.get() || tail - self.head.get() > self.shape.capacity {
            return Err(field(TAIL, "tail", tail));
        }
        let mut reaped = Reaped { left: dead.count_ones(), ..Reaped::default() };
        let outcome = self.walk(tail, dead, held, settled, &mut reaped);
        self.claims = self.claims.saturating_add(reaped.claims);
        self.holes = self.holes.saturating_add(reaped.holes);
        window.store64(REAPED, self.claims);
        window.store64(REAPED + 8, self.holes);
        #[cfg(loom)]
        let outcome = outcome.map(|walked| walked || crate::twin::is(crate::twin::Weak::FreeUnwalked));
        if outcome? {
            for slot in (0..self.shape.producers).filter(|slot| dead >> slot & 1 == 1) {
                let owned = state(slot);
                window.store(slot_at(slot) + CLAIMING, 0);
                // ORDERING: Release pairs with the Acquire of the slot's next owner: its flag comes after our 0.
                window.store_release(slot_at(slot) + STATE, owned.wrapping_add(owned & 1));
                reaped.slots += 1;
            }
            reaped.left = 0;
        }
        Ok(reaped)
    }

    /// Pads the claims of the dead from here to `tail`; whether it got there.
    fn walk(&self, tail: u64, dead: u64, held: u64, settled: bool, reaped: &mut Reaped) -> Result<bool, Damage> {
        let window = self.region.window_mut();
        let mut position = self.at.get();
        while position < tail {
            let at = self.shape.offset(position);
            let left = self.shape.to_end(position).min(tail - position);
            // ORDERING: Acquire pairs with `commit`, for a batch: the words behind its first are visible then.
            let word = window.load_acquire(at);
            let (len, pad) = match decode(word) {
                Word::Committed { payload_len } => (needed(payload_len), None),
                Word::Pad { len } => (len, None),
                Word::Claimed { slot, len } if dead >> slot & 1 == 1 => (len, Some(&mut reaped.claims)),
                Word::Claimed { slot, len } if held >> slot & 1 == 1 => (len, None),
                // Its slot was free when we looked, and who frees a slot has ended its claims.
                Word::Claimed { .. } => return Err(field(at, "stamp", word.into())),
                Word::Open if !settled => return Ok(false),
                Word::Open => {
                    let mut len = UNIT;
                    while len < left && window.load_acquire(at + len as usize) == 0 {
                        len += UNIT;
                    }
                    (len, Some(&mut reaped.holes))
                }
            };
            check_len(at, len, left)?;
            if let Some(count) = pad {
                // An exchange, so that a frame that is committed after all is not lost to a wrong answer.
                // ORDERING: Relaxed. This consumer reads it, or one behind a lock.
                let pad = pad_word(len);
                if window.word32(at).compare_exchange(word, pad, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                    return Ok(false);
                }
                *count += 1;
            }
            position += len;
        }
        Ok(true)
    }

    /// Whether [`Consumer::step`] would have found a frame or a pad just now. Once true it stays so.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        // Where everything is taken, the word is the first frame's, of this very lap.
        let word = self.region.window().load_acquire(self.shape.offset(self.at.get()));
        self.at.get() < self.head.get() + self.shape.capacity && word != 0 && word & CLAIMED == 0
    }

    /// Marks that this consumer is about to sleep on [`DATA_WAKE`]; returns the value to sleep on. Next:
    /// [`wake::settle`] or the platform's barrier, [`Consumer::is_ready`], and only then sleep, for a bounded time.
    #[must_use]
    pub fn mark_sleeper(&self) -> u32 {
        wake::mark(self.region.window_mut(), DATA_WAKE)
    }

    /// After a release: whether producers that wait for space must be woken on [`SPACE_WAKE`].
    #[inline]
    pub fn sleepers(&self, mode: Mode) -> bool {
        wake::after_commit(self.region.window_mut(), SPACE_WAKE, mode)
    }

    /// Bytes claimed and not released, pads included: as they were at one moment. Producers may have claimed more; it
    /// cannot have become less, because only this consumer releases.
    ///
    /// # Errors
    ///
    /// Positions that no end of ours stores.
    pub fn occupancy(&self) -> Result<Occupancy, Damage> {
        occupancy(self.region.window_mut(), &self.shape)
    }

    /// What all consumers of this ring together did about the dead: claims and holes padded. Slots are not counted.
    #[must_use]
    pub fn reaped(&self) -> Reaped {
        Reaped { claims: self.claims, holes: self.holes, slots: 0, left: 0 }
    }

    /// The number that the next frame gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.taken.get() + 1
    }

    /// How this ring's ends sleep and wake, as its maker said.
    #[must_use]
    pub fn wake_mode(&self) -> Mode {
        self.shape.wake_mode
    }

    /// The memory.
    #[must_use]
    pub fn region(&self) -> &R {
        &self.region
    }

    /// Releases `steps` steps far and no further, as one who is killed there: 1 mark, 2 half of the zeros, 3 all, 4
    /// head.
    #[cfg(any(test, loom))]
    #[doc(hidden)]
    pub fn die(self, steps: u32) {
        if steps >= 1 {
            self.record();
        }
        match steps {
            0 | 1 => {}
            2 => {
                let half = ((self.at.get() - self.head.get()) / 2).min(self.shape.to_end(self.head.get()));
                self.region.window_mut().zero(self.shape.offset(self.head.get()), half as usize);
            }
            _ => self.clear(),
        }
        if steps >= 4 {
            self.hand_back();
        }
    }
}

/// A frame's length as stored, against what is left for it.
#[inline]
fn check_len(at: usize, claimed: u64, left: u64) -> Result<(), Damage> {
    if claimed == 0 || claimed > left {
        return Err(Damage::at(at as u64, Fault::Length { claimed, left }));
    }
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::HeapRegion;

    const CAPACITY: usize = 256;

    fn ring(capacity: usize, producers: u32) -> HeapRegion {
        let region = HeapRegion::new(len(capacity, producers).unwrap());
        // Noise: nothing may depend on what was there.
        for at in (0..region.len()).step_by(4) {
            region.window_mut().store(at, 0xdead_beef);
        }
        format(&region, &Spec { capacity, producers, ..Spec::default() }).unwrap();
        region
    }

    fn take(consumer: &mut Consumer<&HeapRegion>) -> Vec<(u64, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(frame) = consumer.step().unwrap() {
            let mut payload = vec![0; frame.payload.len()];
            frame.payload.copy_to(&mut payload);
            all.push((frame.seq, payload));
        }
        all
    }

    /// All of the data area that is not claimed is zero: what reaping rests on.
    fn assert_clean(region: &HeapRegion) {
        let shape = Shape::of(region).unwrap();
        let (head, tail) = ends(region.window_mut(), &shape).unwrap().unwrap();
        for position in (tail..head + shape.capacity).step_by(4) {
            assert_eq!(region.window().load(shape.offset(position)), 0, "position {position} of {head}..{tail}");
        }
    }

    #[test]
    fn frames_of_two_producers_come_in_the_order_of_their_claims() {
        let region = ring(CAPACITY, 2);
        let mut left = Producer::register(&region).unwrap();
        let mut right = Producer::register(&region).unwrap();
        let mut consumer = Consumer::attach(&region).unwrap();
        assert_eq!(Producer::register(&region).unwrap_err(), RegisterError::NoSlot { producers: 2 });
        for round in 0..100u64 {
            let mut claim = left.claim(5).unwrap();
            claim.put(b"ab");
            right.push(b"second").unwrap();
            assert!(consumer.step().unwrap().is_none() && !consumer.is_ready());
            claim.put_at(4, b"c");
            claim.commit();
            right.claim(30).unwrap().abort();
            let expected = vec![(2 * round + 1, b"ab\0\0c".to_vec()), (2 * round + 2, b"second".to_vec())];
            assert_eq!(take(&mut consumer), expected);
            consumer.release();
            assert_eq!(consumer.occupancy().unwrap(), Occupancy { used: 0, capacity: CAPACITY });
            assert_clean(&region);
        }
    }

    #[test]
    fn a_batch_is_seen_at_once_or_as_far_as_it_was_published() {
        let region = ring(CAPACITY, 1);
        let mut producer = Producer::register(&region).unwrap();
        let mut consumer = Consumer::attach(&region).unwrap();
        for round in 0..50 {
            let mut batch = producer.claim_batch(2 * frame_len(9).unwrap() + 8 + 16).unwrap();
            batch.push(b"123456789").unwrap();
            assert!(consumer.step().unwrap().is_none());
            batch.publish();
            assert_eq!(take(&mut consumer).len(), 1);
            batch.push(b"x").unwrap();
            assert_eq!(batch.left(), 8 + 24);
            assert_eq!(batch.push(&[0; 25]), Err(PushError::Full { needed: 40, free: 32 }));
            match round % 3 {
                0 => batch.commit(),
                1 => drop(batch),
                _ => core::mem::forget(batch),
            }
            let seen = take(&mut consumer);
            assert_eq!(seen.len(), usize::from(round % 3 == 0));
            if round % 3 == 2 {
                assert!(!consumer.is_ready());
                // What was forgotten is padded by the next claim.
                producer.push(b"next").unwrap();
                assert_eq!(take(&mut consumer).len(), 1);
            }
            consumer.release();
            assert_clean(&region);
        }
        producer.claim_batch(CAPACITY / 2).unwrap().commit();
        assert!(take(&mut consumer).is_empty());
        assert_eq!(consumer.occupancy().unwrap().used, 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_numbers() {
        let region = ring(CAPACITY, 1);
        let mut producer = Producer::register(&region).unwrap();
        let mut consumer = Consumer::attach(&region).unwrap();
        assert_eq!(producer.max_payload(), CAPACITY / 2 - 8);
        assert_eq!(producer.push(&[1; 121]), Err(PushError::TooLarge { len: 121, max: 120 }));
        assert_eq!(producer.claim_batch(129).unwrap_err(), PushError::TooLarge { len: 129, max: 128 });
        // Wherever the tail stands, the largest payload fits an empty ring.
        for len in (0..=120).chain((0..=120).rev()) {
            producer.push(&vec![7; len]).unwrap();
            assert_eq!(take(&mut consumer).last().unwrap().1, vec![7; len]);
            consumer.release();
            producer.push(&[9; 120]).unwrap();
            assert_eq!(take(&mut consumer).last().unwrap().1, vec![9; 120]);
            consumer.release();
            assert_clean(&region);
        }
        let mut pushed = 0;
        while producer.has_room(0) {
            producer.push(&[]).unwrap();
            pushed += 1;
        }
        assert_eq!(producer.push(&[]), Err(PushError::Full { needed: 8, free: 0 }));
        assert_eq!((pushed, take(&mut consumer).len()), (32, 32));
        assert!(consumer.step().unwrap().is_none() && !consumer.is_ready());
        assert!(!producer.has_room(0));
        consumer.release();
        assert!(producer.has_room(120));
    }

    #[test]
    fn s_5_a_producer_killed_at_any_step_stops_nobody_for_ever() {
        for steps in 0..=7 {
            for before in 0..32 {
                let region = ring(CAPACITY, 2);
                let mut consumer = Consumer::attach(&region).unwrap();
                let mut living = Producer::register(&region).unwrap();
                for _ in 0..before {
                    living.push(&[]).unwrap();
                    assert!(consumer.step().unwrap().is_some());
                    consumer.release();
                }
                let dying = Producer::register(&region).unwrap();
                let (slot, incarnation) = (dying.slot(), dying.incarnation());
                dying.die(&[0xff; 40], steps);
                living.push(b"behind").unwrap();
                // Nobody knows yet.
                assert_eq!(consumer.reap(|_, _| true).unwrap(), Reaped::default());
                let early = take(&mut consumer);
                assert_eq!(early.len(), [1, 1, 0, 0, 0, 0, 0, 2][steps as usize], "{steps} steps");
                let reaped = consumer.reap(|of, its| of != slot || its != incarnation).unwrap();
                // Two where the claim would have gone behind a pad: nothing says that it was one.
                let holes = u64::from(steps == 2) * reaped.holes.clamp(1, 2);
                let claims = u64::from((3..7).contains(&steps));
                assert_eq!(reaped, Reaped { claims, holes, slots: 1, left: 0 }, "{steps} steps");
                let late = take(&mut consumer);
                assert_eq!(early.len() + late.len(), if steps == 7 { 2 } else { 1 });
                assert_eq!(early.iter().chain(&late).last().unwrap().1, b"behind");
                consumer.release();
                assert_clean(&region);
                assert_eq!(consumer.occupancy().unwrap().used, 0);
                let next = Producer::register_at(&region, slot).unwrap();
                assert_eq!((next.slot(), next.incarnation()), (slot, incarnation + 1));
                assert_eq!(Consumer::attach(&region).unwrap().reaped(), Reaped { slots: 0, ..reaped });
            }
        }
    }

    #[test]
    fn a_living_producer_between_flag_and_stamp_keeps_holes_unproven() {
        let region = ring(CAPACITY, 3);
        let mut consumer = Consumer::attach(&region).unwrap();
        let dying = Producer::register(&region).unwrap();
        let mut stopped = Producer::register(&region).unwrap();
        let mut living = Producer::register(&region).unwrap();
        dying.die(&[1; 8], 2);
        stopped.raise();
        let (position, pad) = stopped.advance(needed(4)).unwrap();
        living.push(b"after").unwrap();
        let dead = |slot: u32, _: u32| slot != 0;
        assert_eq!(consumer.reap(dead).unwrap(), Reaped { left: 1, ..Reaped::default() });
        stopped.stamp(position, pad, needed(4));
        stopped.lower();
        assert_eq!(consumer.reap(dead).unwrap(), Reaped { holes: 1, slots: 1, ..Reaped::default() });
        assert!(take(&mut consumer).is_empty());
        commit(region.window_mut(), stopped.shape.offset(position + pad), 4);
        assert_eq!(take(&mut consumer).len(), 2);
    }

    #[test]
    fn who_looks_sees_what_is_waited_for() {
        let region = ring(CAPACITY, 3);
        let mut consumer = Consumer::attach(&region).unwrap();
        let mut first = Producer::register(&region).unwrap();
        let mut second = Producer::register(&region).unwrap();
        assert_eq!(look(&region).unwrap().held, 0b011);
        for _ in 0..50 {
            first.push(b"committed").unwrap();
            assert_eq!(look(&region).unwrap().blocked, None);
            let claim = second.claim(20).unwrap();
            first.push(b"behind").unwrap();
            let seen = look(&region).unwrap();
            assert_eq!((seen.blocked, seen.claiming), (Some(Some(1)), 0));
            assert_eq!(seen.occupancy, consumer.occupancy().unwrap());
            claim.commit();
            first.raise();
            let (position, pad) = first.advance(needed(4)).unwrap();
            let seen = look(&region).unwrap();
            assert_eq!((seen.blocked, seen.claiming), (Some(None), 0b001));
            first.stamp(position, pad, needed(4));
            first.lower();
            commit(region.window_mut(), first.shape.offset(position + pad), 4);
            assert_eq!(look(&region).unwrap().blocked, None);
            assert_eq!(take(&mut consumer).len(), 4);
            consumer.release();
        }
    }

    #[test]
    fn a_consumer_killed_at_any_step_of_a_release_loses_and_renumbers_nothing() {
        for steps in 0..=4 {
            for before in 0..32 {
                let region = ring(CAPACITY, 1);
                let mut producer = Producer::register(&region).unwrap();
                let mut consumer = Consumer::attach(&region).unwrap();
                for _ in 0..before {
                    producer.push(&[]).unwrap();
                    take(&mut consumer);
                    consumer.release();
                }
                for payload in [&[0xa1; 24][..], &[0xa2; 9], &[0xa3; 60]] {
                    producer.push(payload).unwrap();
                }
                let first = consumer.step().unwrap().unwrap().seq;
                assert_eq!(consumer.step().unwrap().unwrap().seq, first + 1);
                consumer.die(steps);
                let mut next = Consumer::attach(&region).unwrap();
                assert_clean(&region);
                let seen: Vec<_> = take(&mut next).into_iter().map(|(seq, payload)| (seq, payload[0])).collect();
                let all = [(first, 0xa1), (first + 1, 0xa2), (first + 2, 0xa3)];
                assert_eq!(seen, if steps == 0 { &all[..] } else { &all[2..] }, "{steps} steps");
                next.release();
                assert_clean(&region);
            }
        }
    }

    #[test]
    fn positions_pass_every_power_of_two() {
        for start in [(1u64 << 32) - 64, (1 << 31) - 64, (1 << 48) - 64] {
            let region = ring(64, 1);
            let window = region.window_mut();
            window.word64(TAIL).store(start, Ordering::Relaxed);
            window.word64(HEAD).store(start, Ordering::Relaxed);
            window.store64(MARKS, start);
            window.store64(MARKS + 8, (1 << 32) - 3);
            if start / 8 < (1 << 32) - 3 {
                window.store64(MARKS + 8, 5);
            }
            let mut consumer = Consumer::attach(&region).unwrap();
            let mut producer = Producer::register(&region).unwrap();
            let mut expected = consumer.next_seq();
            for i in 0..100u8 {
                producer.push(&[i; 11]).unwrap();
                assert_eq!(take(&mut consumer), [(expected, vec![i; 11])]);
                expected += 1;
                consumer.release();
                assert_eq!(Consumer::attach(&region).unwrap().next_seq(), expected);
            }
        }
    }
}
