//! One producer, one consumer, values of any `Send` type, within one process.
//!
//! ```text
//! push: look at head, only when the room known of is used up    pop: look at tail, only when …
//!       write the slot                                               read the slot out
//!       tail + 1                    Release                          head + 1                Release
//! ```
//!
//! A [`Ring`] is a value: put it on the stack, into a `static` or a struct, and [`Ring::split`] lends its two ends. With
//! the feature `std`, [`channel`] makes one on the heap whose ends own it. What was not popped is dropped with the ring.
//! Chunks take and give many slots with one look and one store: [`Producer::write_chunk_uninit`],
//! [`Producer::write_chunk`], [`Consumer::read_chunk`], with the names and meaning that rtrb gave them.
//!
//! Never here: other processes. The values are Rust's own, with pointers and destructors; between processes use
//! [`super::slots`] or [`super::spsc`].
//!
//! ```
//! use chronicle_core::ring::local::{Full, Ring};
//!
//! let mut ring: Ring<String, 2> = Ring::new();
//! let (mut producer, mut consumer) = ring.split();
//! producer.push("one".to_owned()).unwrap();
//! producer.push("two".to_owned()).unwrap();
//! let Err(Full(back)) = producer.push("three".to_owned()) else { panic!("there are two slots") };
//! assert_eq!(back, "three");
//! assert_eq!(consumer.pop().as_deref(), Some("one"));
//! let chunk = consumer.read_chunk(1).unwrap();
//! assert_eq!(chunk.into_iter().next().as_deref(), Some("two"));
//! assert_eq!(consumer.pop(), None);
//! ```

use super::{Occupancy, SPACING};
use crate::sync::{AtomicU32, Ordering, UnsafeCell};
use core::{cell::Cell, fmt, marker::PhantomData, mem::MaybeUninit, ptr::NonNull};

/// Most slots of a ring: positions are counted modulo 2³².
pub const MAX_CAPACITY: usize = super::MAX_CAPACITY;

type Slot<T> = UnsafeCell<MaybeUninit<T>>;

/// What one end stores and the other one looks at, alone on its lines.
#[repr(C, align(128))]
struct Line {
    /// How many values passed this end, modulo 2³².
    position: AtomicU32,
    /// 1 once this end is gone.
    gone: AtomicU32,
    /// On the consumer's: where leftovers begin while an iterator takes values out, for the case that it is forgotten.
    taken: AtomicU32,
}

// A model checker's atomics have lengths of their own.
static_assertions::const_assert!(cfg!(loom) || size_of::<Line>() == SPACING);

impl Line {
    #[cfg(not(loom))]
    const fn new() -> Self {
        Line { position: AtomicU32::new(0), gone: AtomicU32::new(0), taken: AtomicU32::new(0) }
    }

    #[cfg(loom)]
    fn new() -> Self {
        Line { position: AtomicU32::new(0), gone: AtomicU32::new(0), taken: AtomicU32::new(0) }
    }
}

struct Lines {
    tail: Line,
    head: Line,
}

impl Lines {
    /// Where the values that nobody has taken begin and end. Only for who is alone with the ring.
    fn left(&self) -> (u32, u32) {
        // ORDERING: Relaxed: whoever is alone with the ring heard of its ends' last steps by whatever told it so.
        let (tail, head) = (self.tail.position.load(Ordering::Relaxed), self.head.position.load(Ordering::Relaxed));
        let taken = self.head.taken.load(Ordering::Relaxed);
        // Older than the head, or the same, but for a forgotten iterator. A consumer that ends says it once more, so that
        // after 2³² values an old one is not taken for a new one; of a forgotten consumer some values may be leaked then.
        let ahead = taken.wrapping_sub(head) <= tail.wrapping_sub(head);
        (if ahead { taken } else { head }, tail)
    }
}

/// The slots of a ring that is a value, on lines of their own: a value of 64 bytes lies on one line, not on two.
#[repr(C, align(128))]
struct Inline<T, const N: usize>([Slot<T>; N]);

impl<T, const N: usize> AsRef<[Slot<T>]> for Inline<T, N> {
    fn as_ref(&self) -> &[Slot<T>] {
        &self.0
    }
}

/// Positions and slots, wherever those are.
struct Shared<T, S: AsRef<[Slot<T>]>> {
    lines: Lines,
    slots: S,
    values: PhantomData<T>,
}

// SAFETY: a value goes from one thread to another through a slot, and never is reached from two at once: that is the
// protocol's argument, at each access.
unsafe impl<T: Send, S: AsRef<[Slot<T>]>> Sync for Shared<T, S> {}
// SAFETY: as above; the slots own what they point to.
unsafe impl<T: Send, S: AsRef<[Slot<T>]>> Send for Shared<T, S> {}

impl<T, S: AsRef<[Slot<T>]>> Drop for Shared<T, S> {
    fn drop(&mut self) {
        let (mut head, tail) = self.lines.left();
        let slots = self.slots.as_ref();
        while core::mem::needs_drop::<T>() && head != tail {
            let slot = &slots[head as usize & (slots.len() - 1)];
            // SAFETY: slots from head to tail hold values, nobody else is there, and each is passed once.
            slot.with_mut(|value| unsafe { value.cast::<T>().drop_in_place() });
            head = head.wrapping_add(1);
        }
    }
}

/// A ring of `N` values, a power of two.
///
/// ```compile_fail
/// let ring = chronicle_core::ring::local::Ring::<u8, 3>::new();
/// ```
pub struct Ring<T, const N: usize>(Shared<T, Inline<T, N>>);

impl<T, const N: usize> Ring<T, N> {
    const CHECK: () =
        assert!(N.is_power_of_two() && N <= MAX_CAPACITY, "a ring's capacity is a power of two up to 2^30");

    /// An empty ring.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        const { Self::CHECK }
        let slots = Inline([const { UnsafeCell::new(MaybeUninit::uninit()) }; N]);
        Ring(Shared { lines: Lines { tail: Line::new(), head: Line::new() }, slots, values: PhantomData })
    }

    /// An empty ring.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        const { Self::CHECK }
        let slots = Inline(core::array::from_fn(|_| UnsafeCell::new(MaybeUninit::uninit())));
        Ring(Shared { lines: Lines { tail: Line::new(), head: Line::new() }, slots, values: PhantomData })
    }

    /// Lends the two ends. What an earlier pair left in the ring is still there.
    pub fn split(&mut self) -> (Producer<'_, T>, Consumer<'_, T>) {
        let Lines { tail, head } = &self.0.lines;
        let (start, _) = self.0.lines.left();
        // ORDERING: Relaxed: there are no ends now, and to send one to a thread orders what was before.
        head.position.store(start, Ordering::Relaxed);
        for line in [tail, head] {
            line.gone.store(0, Ordering::Relaxed);
        }
        ends(&self.0, || Keep::Lent(PhantomData, PhantomData))
    }
}

impl<T, const N: usize> Default for Ring<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> fmt::Debug for Ring<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("capacity", &N).finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "std"))]
pub use heap::channel;

/// A ring that its ends own.
#[cfg(any(test, feature = "std"))]
mod heap {
    use super::*;
    use crate::{ring::FormatError, sync::Arc};

    /// Slots on the heap, on lines of their own.
    pub(super) struct Heap<T> {
        /// A block for each 128 bytes: one more than they fill, never touched.
        #[cfg(not(loom))]
        first: NonNull<Slot<T>>,
        #[cfg(not(loom))]
        capacity: usize,
        #[cfg(loom)]
        slots: Vec<Slot<T>>,
    }

    #[cfg(not(loom))]
    impl<T> Heap<T> {
        fn layout(capacity: usize) -> core::alloc::Layout {
            let array =
                core::alloc::Layout::array::<Slot<T>>(capacity).expect("bug: more slots than an address space has");
            array.align_to(SPACING).expect("bug: more slots than an address space has")
        }

        fn new(capacity: usize) -> Self {
            let layout = Self::layout(capacity);
            if layout.size() == 0 {
                return Heap { first: NonNull::dangling(), capacity };
            }
            // SAFETY: the layout has bytes.
            let memory = unsafe { std::alloc::alloc(layout) };
            let Some(first) = NonNull::new(memory.cast()) else { std::alloc::handle_alloc_error(layout) };
            Heap { first, capacity }
        }
    }

    #[cfg(not(loom))]
    impl<T> Drop for Heap<T> {
        fn drop(&mut self) {
            let layout = Self::layout(self.capacity);
            if layout.size() > 0 {
                // SAFETY: `new` got the memory with this layout.
                unsafe { std::alloc::dealloc(self.first.as_ptr().cast(), layout) };
            }
        }
    }

    #[cfg(loom)]
    impl<T> Heap<T> {
        fn new(capacity: usize) -> Self {
            Heap { slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect() }
        }
    }

    impl<T> AsRef<[Slot<T>]> for Heap<T> {
        fn as_ref(&self) -> &[Slot<T>] {
            // SAFETY: `new` made room for `capacity` slots, aligned for them, and a slot may hold anything.
            #[cfg(not(loom))]
            return unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.capacity) };
            #[cfg(loom)]
            &self.slots
        }
    }

    /// The two ends of a ring on the heap that they own. It goes with the second of them.
    ///
    /// # Errors
    ///
    /// The capacity is not a power of two up to [`MAX_CAPACITY`].
    #[allow(clippy::type_complexity, reason = "two ends; a name for the pair would have to be looked up")]
    pub fn channel<T>(capacity: usize) -> Result<(Producer<'static, T>, Consumer<'static, T>), FormatError> {
        crate::ring::check_count(capacity)?;
        let shared = Arc::new(Shared {
            lines: Lines { tail: Line::new(), head: Line::new() },
            slots: Heap::new(capacity),
            values: PhantomData,
        });
        Ok(ends(&*shared, || Keep::Owned(shared.clone())))
    }
}

/// What an end holds so that its ring stays.
enum Keep<'r, T> {
    Lent(PhantomData<&'r mut ()>, PhantomData<T>),
    #[cfg(any(test, feature = "std"))]
    Owned(#[allow(dead_code, reason = "held, not used")] crate::sync::Arc<Shared<T, heap::Heap<T>>>),
}

fn ends<'r, T, S: AsRef<[Slot<T>]>>(
    shared: &Shared<T, S>,
    keep: impl Fn() -> Keep<'r, T>,
) -> (Producer<'r, T>, Consumer<'r, T>) {
    let slots = shared.slots.as_ref();
    let view = || View {
        lines: NonNull::from(&shared.lines),
        slots: NonNull::from(slots).cast(),
        mask: slots.len() as u32 - 1,
        _keep: keep(),
        unshared: PhantomData,
    };
    // ORDERING: Relaxed: both ends are made here, and sending one to another thread orders what was before.
    let tail = shared.lines.tail.position.load(Ordering::Relaxed);
    let head = shared.lines.head.position.load(Ordering::Relaxed);
    let capacity = slots.len() as u32;
    (Producer { view: view(), tail, limit: head.wrapping_add(capacity) }, Consumer { view: view(), head, limit: tail })
}

/// What both ends know of their ring.
struct View<'r, T> {
    lines: NonNull<Lines>,
    slots: NonNull<Slot<T>>,
    mask: u32,
    _keep: Keep<'r, T>,
    unshared: PhantomData<Cell<()>>,
}

// SAFETY: an end may go to another thread if the values may: it is how they get there.
unsafe impl<T: Send> Send for View<'_, T> {}

impl<T> View<'_, T> {
    #[inline(always)]
    fn lines(&self) -> &Lines {
        // SAFETY: `_keep` keeps the ring alive and in place: lent for as long as the end lives, or owned.
        unsafe { self.lines.as_ref() }
    }

    #[inline(always)]
    fn slot(&self, position: u32) -> &Slot<T> {
        // SAFETY: the masked index is below the number of slots; they live as `lines` do.
        unsafe { &*self.slots.as_ptr().wrapping_add((position & self.mask) as usize) }
    }

    fn capacity(&self) -> usize {
        self.mask as usize + 1
    }

    #[inline(always)]
    fn publish(&self, tail: u32) {
        let ordering = Ordering::Release;
        #[cfg(loom)]
        let ordering = crate::twin::step(ordering);
        // ORDERING: Release pairs with the Acquire in `Consumer::look`: whoever sees this position sees the values
        // before it.
        self.lines().tail.position.store(tail, ordering);
    }

    #[inline(always)]
    fn release(&self, head: u32) {
        let ordering = Ordering::Release;
        #[cfg(loom)]
        let ordering = if crate::twin::is(crate::twin::Weak::HeadRelaxed) { Ordering::Relaxed } else { ordering };
        // ORDERING: Release pairs with the Acquire in `Producer::look`: whoever sees this position may write the slots
        // before it, because the values were read or dropped.
        self.lines().head.position.store(head, ordering);
    }

    /// `count` slots from a position on: those before the end of the ring, and how many go on at its beginning.
    #[cfg(not(loom))]
    fn parts(&self, position: u32, count: usize) -> (*mut T, usize, *mut T, usize) {
        let at = (position & self.mask) as usize;
        let first = count.min(self.capacity() - at);
        let base: *mut T = self.slots.as_ptr().cast();
        (base.wrapping_add(at), first, base, count - first)
    }
}

/// There is no room; the value comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ring full")
    }
}

impl<T> core::error::Error for Full<T> {}

/// There are not so many slots now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFewSlots {
    /// How many were asked for.
    pub asked: usize,
    /// How many there are: to write for a producer, to read for a consumer.
    pub there: usize,
}

impl fmt::Display for TooFewSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chunk of {} slots asked for, {} there", self.asked, self.there)
    }
}

impl core::error::Error for TooFewSlots {}

/// The writing end. May be sent to another thread, not shared:
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<chronicle_core::ring::local::Producer<'static, u8>>();
/// ```
///
/// Aligned to two cache lines, so that the ends do not slow each other down where they lie side by side.
#[repr(align(128))]
pub struct Producer<'r, T> {
    view: View<'r, T>,
    /// Position of the next value.
    tail: u32,
    /// Position behind the room that is known to be free.
    limit: u32,
}

impl<T> Producer<'_, T> {
    /// Pushes one value.
    ///
    /// # Errors
    ///
    /// The ring is full; the value comes back.
    #[inline(always)]
    pub fn push(&mut self, value: T) -> Result<(), Full<T>> {
        if self.tail == self.limit && self.look() == 0 {
            return Err(Full(value));
        }
        let slot = self.view.slot(self.tail);
        // SAFETY: the slot is before `limit`, so the consumer has taken what it held and does not look at it (`look`).
        slot.with_mut(|slot| unsafe { slot.cast::<T>().write(value) });
        self.tail = self.tail.wrapping_add(1);
        self.view.publish(self.tail);
        Ok(())
    }

    /// Looks at the consumer's head; returns how many slots are free.
    #[cold]
    #[inline(never)]
    fn look(&mut self) -> usize {
        // ORDERING: Acquire pairs with the Release in `Consumer::release`: the values before this head were read.
        let head = self.view.lines().head.position.load(Ordering::Acquire);
        self.limit = head.wrapping_add(self.view.mask).wrapping_add(1);
        self.known()
    }

    fn known(&self) -> usize {
        self.limit.wrapping_sub(self.tail) as usize
    }

    fn need(&mut self, count: usize) -> Result<u32, TooFewSlots> {
        if count > self.known() {
            let there = self.look();
            if count > there {
                return Err(TooFewSlots { asked: count, there });
            }
        }
        Ok(count as u32)
    }

    /// Takes `count` slots to be filled, all or none. Dropping the chunk without committing gives them back.
    ///
    /// # Errors
    ///
    /// There are not so many now.
    #[inline]
    pub fn write_chunk_uninit(&mut self, count: usize) -> Result<WriteChunkUninit<'_, T>, TooFewSlots> {
        let count = self.need(count)?;
        Ok(WriteChunkUninit { view: &self.view, tail: &mut self.tail, count })
    }

    /// How many values are in the ring. The consumer may take more at any time; nobody else can put more in.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let head = self.view.lines().head.position.load(Ordering::Relaxed);
        Occupancy { used: self.tail.wrapping_sub(head) as usize, capacity: self.view.capacity() }
    }

    /// Whether the consumer is gone, so that nobody will take what is pushed. Once true it stays so.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in the consumer's drop: its last head is seen too.
        self.view.lines().head.gone.load(Ordering::Acquire) != 0
    }
}

impl<T: Copy> Producer<'_, T> {
    /// Pushes as many of the first values as there is room for, with one store; returns how many.
    pub fn push_slice(&mut self, values: &[T]) -> usize {
        let count = values.len().min(self.view.capacity());
        let count = match self.write_chunk_uninit(count) {
            Ok(chunk) => return chunk.fill_from_iter(values.iter().copied()),
            Err(TooFewSlots { there, .. }) => there,
        };
        self.write_chunk_uninit(count).map_or(0, |chunk| chunk.fill_from_iter(values.iter().copied()))
    }
}

impl<T: Default> Producer<'_, T> {
    /// As [`Producer::write_chunk_uninit`], every slot filled with the default value.
    ///
    /// # Errors
    ///
    /// There are not so many now.
    pub fn write_chunk(&mut self, count: usize) -> Result<WriteChunk<'_, T>, TooFewSlots> {
        let mut chunk = WriteChunk { slots: self.write_chunk_uninit(count)?, filled: 0 };
        while chunk.filled < chunk.slots.count {
            let slot = chunk.slots.view.slot(chunk.slots.tail.wrapping_add(chunk.filled));
            let value = T::default();
            // SAFETY: the slot is the chunk's, and holds nothing.
            slot.with_mut(|slot| unsafe { slot.cast::<T>().write(value) });
            chunk.filled += 1;
        }
        Ok(chunk)
    }
}

impl<T> Drop for Producer<'_, T> {
    fn drop(&mut self) {
        // ORDERING: Release pairs with the Acquire in `Consumer::is_abandoned`: whoever sees this sees our last tail.
        self.view.lines().tail.gone.store(1, Ordering::Release);
    }
}

impl<T> fmt::Debug for Producer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("occupancy", &self.occupancy()).finish_non_exhaustive()
    }
}

/// Slots to be filled. They hold nothing yet.
#[must_use = "dropping a chunk gives its slots back"]
pub struct WriteChunkUninit<'a, T> {
    view: &'a View<'a, T>,
    tail: &'a mut u32,
    count: u32,
}

/// Publishes what was written even if the iterator that makes the values panics.
struct Filled<'a, 'b, T> {
    view: &'a View<'b, T>,
    tail: &'a mut u32,
    next: u32,
}

impl<T> Drop for Filled<'_, '_, T> {
    fn drop(&mut self) {
        if *self.tail != self.next {
            *self.tail = self.next;
            self.view.publish(self.next);
        }
    }
}

impl<'a, T> WriteChunkUninit<'a, T> {
    /// Number of slots.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Fills the slots in order until either runs out, and publishes what was filled; returns how many.
    ///
    /// If the iterator panics, what it had given is published.
    #[inline]
    pub fn fill_from_iter(self, values: impl IntoIterator<Item = T>) -> usize {
        let start = *self.tail;
        let mut filled = Filled { view: self.view, tail: self.tail, next: start };
        let end = start.wrapping_add(self.count);
        let mut values = values.into_iter();
        while filled.next != end {
            let Some(value) = values.next() else { break };
            // SAFETY: the slot is the chunk's, and holds nothing.
            filled.view.slot(filled.next).with_mut(|slot| unsafe { slot.cast::<T>().write(value) });
            filled.next = filled.next.wrapping_add(1);
        }
        filled.next.wrapping_sub(start) as usize
    }

    /// The slots: those before the end of the ring, then those at its beginning.
    #[cfg(not(loom))]
    pub fn as_mut_slices(&mut self) -> (&mut [MaybeUninit<T>], &mut [MaybeUninit<T>]) {
        let (first, first_count, second, second_count) = self.view.parts(*self.tail, self.len());
        // SAFETY: the slots from `tail` on, `count` of them, are free and ours (`Producer::need`), and borrowed with the
        // chunk; a slot is a `MaybeUninit<T>` in a transparent cell.
        let first = unsafe { core::slice::from_raw_parts_mut(first.cast(), first_count) };
        // SAFETY: as above; there are no more slots than the ring has, so the two parts do not meet.
        let second = unsafe { core::slice::from_raw_parts_mut(second.cast(), second_count) };
        (first, second)
    }

    /// Publishes the first `count` slots.
    ///
    /// # Safety
    ///
    /// They were filled.
    ///
    /// # Panics
    ///
    /// If the chunk has fewer.
    pub unsafe fn commit(self, count: usize) {
        assert!(count <= self.len(), "bug: {count} slots committed of a chunk of {}", self.len());
        *self.tail = self.tail.wrapping_add(count as u32);
        self.view.publish(*self.tail);
    }

    /// Publishes all slots.
    ///
    /// # Safety
    ///
    /// They were filled.
    pub unsafe fn commit_all(self) {
        let count = self.len();
        // SAFETY: the caller's promise.
        unsafe { self.commit(count) };
    }
}

impl<T> fmt::Debug for WriteChunkUninit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteChunkUninit").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Slots that hold default values, to be changed and committed.
#[must_use = "dropping a chunk gives its slots back"]
pub struct WriteChunk<'a, T> {
    slots: WriteChunkUninit<'a, T>,
    /// How many slots hold a value of the chunk's, from its first one on.
    filled: u32,
}

impl<T> WriteChunk<'_, T> {
    /// Number of slots.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The values: those before the end of the ring, then those at its beginning.
    #[cfg(not(loom))]
    pub fn as_mut_slices(&mut self) -> (&mut [T], &mut [T]) {
        let (first, first_count, second, second_count) = self.slots.view.parts(*self.slots.tail, self.slots.len());
        // SAFETY: as in `WriteChunkUninit::as_mut_slices`, and `write_chunk` filled all of them.
        let first = unsafe { core::slice::from_raw_parts_mut(first, first_count) };
        // SAFETY: as above.
        let second = unsafe { core::slice::from_raw_parts_mut(second, second_count) };
        (first, second)
    }

    /// Publishes the first `count` values and drops the others.
    ///
    /// # Panics
    ///
    /// If the chunk has fewer.
    pub fn commit(mut self, count: usize) {
        assert!(count <= self.len(), "bug: {count} slots committed of a chunk of {}", self.len());
        // Last to first, so that what is left is always the chunk's first slots.
        while self.filled as usize > count {
            self.drop_last();
        }
        self.filled = 0;
        *self.slots.tail = self.slots.tail.wrapping_add(count as u32);
        self.slots.view.publish(*self.slots.tail);
    }

    /// Publishes all values.
    pub fn commit_all(self) {
        let count = self.len();
        self.commit(count);
    }

    fn drop_last(&mut self) {
        self.filled -= 1;
        let slot = self.slots.view.slot(self.slots.tail.wrapping_add(self.filled));
        // SAFETY: the slot held a value of the chunk's, and by the count no longer does.
        slot.with_mut(|value| unsafe { value.cast::<T>().drop_in_place() });
    }
}

impl<T> Drop for WriteChunk<'_, T> {
    fn drop(&mut self) {
        while self.filled > 0 {
            self.drop_last();
        }
    }
}

impl<T> fmt::Debug for WriteChunk<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteChunk").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The reading end. May be sent to another thread, not shared:
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<chronicle_core::ring::local::Consumer<'static, u8>>();
/// ```
///
/// Aligned to two cache lines, so that the ends do not slow each other down where they lie side by side.
#[repr(align(128))]
pub struct Consumer<'r, T> {
    view: View<'r, T>,
    /// Position of the oldest value.
    head: u32,
    /// Position behind the values that are known to be there.
    limit: u32,
}

impl<T> Consumer<'_, T> {
    /// Takes the oldest value.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.limit && self.look() == 0 {
            return None;
        }
        // SAFETY: the slot is before `limit`, so it holds a value that the producer has published and does not look at
        // any more (`look`); the head moves behind it, so it is read out once.
        let value = self.view.slot(self.head).with_mut(|slot| unsafe { slot.cast::<T>().read() });
        self.head = self.head.wrapping_add(1);
        self.view.release(self.head);
        Some(value)
    }

    /// The oldest value, where it is.
    #[cfg(not(loom))]
    #[inline]
    pub fn peek(&mut self) -> Option<&T> {
        if self.head == self.limit && self.look() == 0 {
            return None;
        }
        // SAFETY: as in `pop`; it stays there as long as the consumer is borrowed.
        self.view.slot(self.head).with(|slot| Some(unsafe { &*slot.cast::<T>() }))
    }

    /// Looks at the producer's tail; returns how many values there are.
    #[cold]
    #[inline(never)]
    fn look(&mut self) -> usize {
        // ORDERING: Acquire pairs with the Release in `View::publish`: the values before this tail are whole.
        self.limit = self.view.lines().tail.position.load(Ordering::Acquire);
        self.known()
    }

    fn known(&self) -> usize {
        self.limit.wrapping_sub(self.head) as usize
    }

    /// Takes `count` values to be read in place, all or none. Dropping the chunk without committing leaves them.
    ///
    /// # Errors
    ///
    /// There are not so many now.
    #[inline]
    pub fn read_chunk(&mut self, count: usize) -> Result<ReadChunk<'_, T>, TooFewSlots> {
        if count > self.known() {
            let there = self.look();
            if count > there {
                return Err(TooFewSlots { asked: count, there });
            }
        }
        Ok(ReadChunk { view: &self.view, head: &mut self.head, count: count as u32 })
    }

    /// How many values are in the ring. The producer may put in more at any time; nobody else can take them.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let tail = self.view.lines().tail.position.load(Ordering::Relaxed);
        Occupancy { used: tail.wrapping_sub(self.head) as usize, capacity: self.view.capacity() }
    }

    /// Whether the producer is gone. Once true it stays so, and what it pushed last is there: when the ring is empty now,
    /// it stays empty.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in the producer's drop: its last tail is seen by the next look.
        self.view.lines().tail.gone.load(Ordering::Acquire) != 0
    }
}

impl<T: Copy> Consumer<'_, T> {
    /// Takes as many of the oldest values as there are and fit, with one store; returns how many.
    pub fn pop_slice(&mut self, out: &mut [T]) -> usize {
        let chunk = match self.read_chunk(out.len()) {
            Ok(chunk) => chunk,
            Err(TooFewSlots { there, .. }) => match self.read_chunk(there) {
                Ok(chunk) => chunk,
                Err(_) => return 0,
            },
        };
        let count = chunk.len();
        for (to, value) in out.iter_mut().zip(chunk) {
            *to = value;
        }
        count
    }
}

impl<T> Drop for Consumer<'_, T> {
    fn drop(&mut self) {
        // ORDERING: Relaxed, as in `ReadChunk::into_iter`.
        self.view.lines().head.taken.store(self.head, Ordering::Relaxed);
        // ORDERING: Release pairs with the Acquire in `Producer::is_abandoned`: whoever sees this sees our last head.
        self.view.lines().head.gone.store(1, Ordering::Release);
    }
}

impl<T> fmt::Debug for Consumer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("occupancy", &self.occupancy()).finish_non_exhaustive()
    }
}

/// Values to be read in place or taken out, then given back by one store.
#[must_use = "dropping a chunk leaves its values in the ring"]
pub struct ReadChunk<'a, T> {
    view: &'a View<'a, T>,
    head: &'a mut u32,
    count: u32,
}

impl<T> ReadChunk<'_, T> {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values: those before the end of the ring, then those at its beginning.
    #[cfg(not(loom))]
    #[must_use]
    pub fn as_slices(&self) -> (&[T], &[T]) {
        let (first, first_count, second, second_count) = self.view.parts(*self.head, self.len());
        // SAFETY: the slots from `head` on, `count` of them, hold values (`Consumer::read_chunk`) that nobody else looks
        // at before the chunk gives them back, and it is borrowed.
        let first = unsafe { core::slice::from_raw_parts(first, first_count) };
        // SAFETY: as above.
        let second = unsafe { core::slice::from_raw_parts(second, second_count) };
        (first, second)
    }

    /// Drops the first `count` values and gives their slots back; the others stay in the ring.
    ///
    /// If a destructor panics, its value and those before are gone and the others stay.
    ///
    /// # Panics
    ///
    /// If the chunk has fewer.
    #[inline]
    pub fn commit(self, count: usize) {
        assert!(count <= self.len(), "bug: {count} slots committed of a chunk of {}", self.len());
        if core::mem::needs_drop::<T>() {
            self.into_iter().take(count).for_each(drop);
        } else {
            *self.head = self.head.wrapping_add(count as u32);
            self.view.release(*self.head);
        }
    }

    /// Drops all values and gives their slots back.
    #[inline]
    pub fn commit_all(self) {
        let count = self.len();
        self.commit(count);
    }
}

impl<'a, T> IntoIterator for ReadChunk<'a, T> {
    type Item = T;
    type IntoIter = ReadChunkIter<'a, T>;

    /// Takes the values out. Dropping the iterator gives back the slots of what it gave; the others stay in the ring.
    #[inline]
    fn into_iter(self) -> ReadChunkIter<'a, T> {
        let ReadChunk { view, head, count } = self;
        let (next, end) = (*head, head.wrapping_add(count));
        // If the iterator is forgotten, so are all values of the chunk: nobody may take one a second time.
        *head = end;
        // ORDERING: Relaxed: for who is alone with the ring later.
        view.lines().head.taken.store(end, Ordering::Relaxed);
        ReadChunkIter { next, end, view, head }
    }
}

impl<T> fmt::Debug for ReadChunk<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadChunk").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The values of a [`ReadChunk`], by value.
pub struct ReadChunkIter<'a, T> {
    view: &'a View<'a, T>,
    head: &'a mut u32,
    next: u32,
    end: u32,
}

impl<T> Iterator for ReadChunkIter<'_, T> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        if self.next == self.end {
            return None;
        }
        // SAFETY: the slot holds a value that is ours, and `next` moves behind it: it is read out once.
        let value = self.view.slot(self.next).with_mut(|slot| unsafe { slot.cast::<T>().read() });
        self.next = self.next.wrapping_add(1);
        Some(value)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end.wrapping_sub(self.next) as usize;
        (left, Some(left))
    }
}

impl<T> ExactSizeIterator for ReadChunkIter<'_, T> {}

impl<T> Drop for ReadChunkIter<'_, T> {
    #[inline]
    fn drop(&mut self) {
        *self.head = self.next;
        // ORDERING: Relaxed, as in `into_iter`.
        self.view.lines().head.taken.store(self.next, Ordering::Relaxed);
        self.view.release(self.next);
    }
}

impl<T> fmt::Debug for ReadChunkIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadChunkIter").field("left", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_stays_wherever_the_positions_stand() {
        for start in [0, 1, u32::MAX - 2, u32::MAX, 1 << 31] {
            let mut ring: Ring<u32, 8> = Ring::new();
            for line in [&ring.0.lines.tail, &ring.0.lines.head] {
                // As after so many values, none of which an iterator took.
                line.position.store(start, Ordering::Relaxed);
            }
            {
                let (mut producer, mut consumer) = ring.split();
                for value in 0..6 {
                    producer.push(value).unwrap();
                }
                assert_eq!(consumer.pop(), Some(0), "from {start}");
            }
            for value in 1..6 {
                assert_eq!(ring.split().1.pop(), Some(value), "from {start}");
            }
            assert_eq!(ring.split().1.pop(), None);
        }
    }
}
