//! Memory that other threads and other processes may touch while we look at it.
//!
//! A [`Region`] is *where* a protocol lives; the protocol decides *what* the bytes mean. Nothing here allocates, maps
//! or frees: a region can be a file mapping, a `static`, a DMA buffer or a test's heap block. Protocols see it
//! through a [`Window`], whose every access is bounds-checked and atomic.
//!
//! The one rule of this module: **no slice of a region is ever created here**, except by the program's own leave
//! ([`crate::Trusted`]). A shared slice promises that the bytes do not change, and another process can break that
//! promise without us ever running unsafe code.
//!
//! With `--cfg loom` a region is a vector of the model checker's atomics and has no address; the protocols above do
//! not notice.

use crate::layout::FRAME_HEADER_LEN;
#[cfg(loom)]
use crate::sync::AtomicU64;
use crate::sync::{AtomicU32, Ordering};
#[cfg(any(loom, target_has_atomic = "64"))]
use crate::word64::Word64;
use core::fmt;

/// Alignment of a region's base: one slot of spacing, two cache lines on every machine that we know.
pub const REGION_ALIGN: usize = 128;

/// Memory that a protocol can live in.
///
/// # Safety
///
/// For as long as the value lives, wherever it is moved to: `base` returns the same address, aligned to
/// [`REGION_ALIGN`]; `len` the same number; `base..base + len` stays mapped and valid for atomic reads of 4 bytes from
/// any thread; and in this process those bytes are reached only through [`Window`]s (a peer process may do as it likes).
/// The methods that have a body here are left as they are: protocols check a length once and go by it from then on.
pub unsafe trait Region {
    /// First byte.
    #[cfg(not(loom))]
    fn base(&self) -> core::ptr::NonNull<u8>;

    /// The words, in a model.
    #[cfg(loom)]
    fn words(&self) -> &[AtomicU32];

    /// The 64-bit position words, in a model: one for each [`REGION_ALIGN`] bytes, the first 8 of them. A protocol that
    /// has one there uses no 32-bit word on the same bytes.
    #[cfg(loom)]
    fn longs(&self) -> &[AtomicU64];

    /// Length in bytes.
    #[cfg(not(loom))]
    fn len(&self) -> usize;

    /// Length in bytes.
    #[cfg(loom)]
    fn len(&self) -> usize {
        self.words().len() * 4
    }

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The checked view that protocols use.
    #[inline]
    fn window(&self) -> Window<'_> {
        #[cfg(not(loom))]
        return Window { base: self.base().as_ptr(), len: self.len(), region: core::marker::PhantomData };
        #[cfg(loom)]
        Window { words: self.words(), longs: self.longs(), len: self.len() }
    }
}

/// A region that may be written.
///
/// # Safety
///
/// As [`Region`], and the bytes are valid for atomic writes too.
pub unsafe trait RegionMut: Region {
    /// The checked view that writers use.
    #[inline]
    fn window_mut(&self) -> WindowMut<'_> {
        WindowMut { view: self.window() }
    }
}

// SAFETY: a reference keeps the region alive and in place, and adds nothing.
unsafe impl<R: Region + ?Sized> Region for &R {
    #[cfg(not(loom))]
    fn base(&self) -> core::ptr::NonNull<u8> {
        (**self).base()
    }
    #[cfg(not(loom))]
    fn len(&self) -> usize {
        (**self).len()
    }
    #[cfg(loom)]
    fn words(&self) -> &[AtomicU32] {
        (**self).words()
    }
    #[cfg(loom)]
    fn longs(&self) -> &[AtomicU64] {
        (**self).longs()
    }
}
// SAFETY: as above.
unsafe impl<R: RegionMut + ?Sized> RegionMut for &R {}

#[cfg(any(test, feature = "std"))]
// SAFETY: an `Arc` keeps the region alive and in place, and adds nothing.
unsafe impl<R: Region + ?Sized> Region for std::sync::Arc<R> {
    #[cfg(not(loom))]
    fn base(&self) -> core::ptr::NonNull<u8> {
        (**self).base()
    }
    #[cfg(not(loom))]
    fn len(&self) -> usize {
        (**self).len()
    }
    #[cfg(loom)]
    fn words(&self) -> &[AtomicU32] {
        (**self).words()
    }
    #[cfg(loom)]
    fn longs(&self) -> &[AtomicU64] {
        (**self).longs()
    }
}
#[cfg(any(test, feature = "std"))]
// SAFETY: as above.
unsafe impl<R: RegionMut + ?Sized> RegionMut for std::sync::Arc<R> {}

/// A checked, read-only view of a region.
///
/// Offsets are in bytes. Every method panics if its range is not inside the region or a word is not 4-aligned: ranges
/// that come from shared memory are checked by the protocol before they get here, so such a panic is a bug of ours.
#[derive(Clone, Copy)]
pub struct Window<'r> {
    #[cfg(not(loom))]
    base: *mut u8,
    #[cfg(loom)]
    words: &'r [AtomicU32],
    #[cfg(loom)]
    longs: &'r [AtomicU64],
    len: usize,
    #[cfg(not(loom))]
    region: core::marker::PhantomData<&'r [AtomicU32]>,
}

// SAFETY: a window is a shared reference to atomics, and those may be used from any thread.
#[cfg(not(loom))]
unsafe impl Send for Window<'_> {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl Sync for Window<'_> {}

impl fmt::Debug for Window<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cold]
#[inline(never)]
fn out_of_range(offset: usize, len: usize, window: usize) -> ! {
    panic!("bug: {len} bytes at offset {offset} are not a word-aligned range of a window of {window} bytes")
}

impl<'r> Window<'r> {
    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    fn check(&self, offset: usize, len: usize) {
        if !offset.is_multiple_of(4) || len > self.len || offset > self.len - len {
            out_of_range(offset, len, self.len);
        }
    }

    #[inline(always)]
    pub(crate) fn word32(&self, offset: usize) -> &'r AtomicU32 {
        self.check(offset, 4);
        // SAFETY: `check` proved that 4 aligned bytes at `offset` are inside the region, which by `Region`'s contract
        // stays mapped for 'r and is only reached through atomics like this one.
        #[cfg(not(loom))]
        unsafe {
            crate::copy::word_at(self.base.wrapping_add(offset))
        }
        #[cfg(loom)]
        &self.words[offset / 4]
    }

    /// The 64-bit position word at the start of a [`REGION_ALIGN`] line.
    #[cfg(any(loom, target_has_atomic = "64"))]
    #[inline(always)]
    pub(crate) fn word64(&self, offset: usize) -> Word64<'r> {
        self.check(offset, 8);
        if !offset.is_multiple_of(REGION_ALIGN) {
            out_of_range(offset, 8, self.len);
        }
        // SAFETY: `check` and the test above proved it.
        unsafe { self.word64_proved(offset) }
    }

    /// As [`Window::word64`], of a word whose place was proved once, when an end was attached.
    ///
    /// # Safety
    ///
    /// `offset` is a multiple of [`REGION_ALIGN`] and `offset + 8` is inside the window.
    #[cfg(any(loom, target_has_atomic = "64"))]
    #[inline(always)]
    pub(crate) unsafe fn word64_proved(&self, offset: usize) -> Word64<'r> {
        debug_assert!(offset.is_multiple_of(REGION_ALIGN) && offset + 8 <= self.len);
        // SAFETY: the caller proved that 8 bytes at `offset` are inside the region, aligned because the base and the
        // offset are multiples of 128; by `Region`'s contract they stay mapped for 'r and are reached through windows.
        #[cfg(not(loom))]
        unsafe {
            Word64::at(self.base.wrapping_add(offset))
        }
        #[cfg(loom)]
        Word64::of(&self.longs[offset / REGION_ALIGN])
    }

    /// A word whose place was proved once, when an end was attached.
    ///
    /// # Safety
    ///
    /// `offset` is a multiple of 4 and `offset + 4` is inside the window.
    #[inline(always)]
    pub(crate) unsafe fn word32_proved(&self, offset: usize) -> &'r AtomicU32 {
        debug_assert!(offset.is_multiple_of(4) && offset + 4 <= self.len);
        // SAFETY: the caller proved that 4 aligned bytes at `offset` are inside the region, which by `Region`'s contract
        // stays mapped for 'r and is only reached through atomics like this one.
        #[cfg(not(loom))]
        unsafe {
            crate::copy::word_at(self.base.wrapping_add(offset))
        }
        #[cfg(loom)]
        &self.words[offset / 4]
    }

    /// Loads a word, Relaxed: a hint or a value that something else orders.
    #[inline]
    pub fn load(&self, offset: usize) -> u32 {
        self.word32(offset).load(Ordering::Relaxed)
    }

    /// Loads a word, Acquire: what its writer stored before a Release of the value seen is visible after this.
    #[inline]
    pub fn load_acquire(&self, offset: usize) -> u32 {
        self.word32(offset).load(Ordering::Acquire)
    }

    /// Asks for the cache line at `offset` ahead of its use. It need not be inside.
    #[inline(always)]
    pub(crate) fn prefetch(&self, offset: usize) {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse", not(miri), not(loom)))]
        // SAFETY: a prefetch reads nothing that the program could see and never faults, whatever the address.
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(
                self.base.wrapping_add(offset).cast(),
            );
        }
        #[cfg(not(all(target_arch = "x86_64", target_feature = "sse", not(miri), not(loom))))]
        let _ = offset;
    }

    /// Loads two words as a `u64`, Relaxed and not atomic as a whole.
    #[inline]
    pub fn load64(&self, offset: usize) -> u64 {
        u64::from(self.load(offset)) | u64::from(self.load(offset + 4)) << 32
    }

    /// Copies bytes out, from any offset. A word that a peer changes meanwhile is old or new, never in between.
    #[inline]
    pub fn copy_out(&self, offset: usize, out: &mut [u8]) {
        // SAFETY: `out` is valid for writes of its length.
        unsafe { self.move_out(offset, out.as_mut_ptr(), out.len()) };
    }

    /// Copies bytes out, from any offset, into memory that may be uninitialised.
    ///
    /// # Safety
    ///
    /// `out` is valid for writes of `len` bytes.
    #[inline]
    pub(crate) unsafe fn move_out(&self, offset: usize, out: *mut u8, len: usize) {
        if offset.is_multiple_of(4) && len.is_multiple_of(4) {
            self.check(offset, len);
            // SAFETY: `check` proved the source, and the caller the target.
            unsafe { self.move_out_proved(offset, out, len) };
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.move_out_unaligned(offset, out, len) };
        }
    }

    /// Copies a value out, from any offset.
    #[inline(always)]
    pub(crate) fn value_out<T: zerocopy::FromBytes>(&self, offset: usize) -> T {
        let mut value = core::mem::MaybeUninit::<T>::uninit();
        if offset.is_multiple_of(4) && size_of::<T>().is_multiple_of(4) {
            self.check(offset, size_of::<T>());
            // SAFETY: `check` proved the source, and a value is valid for writes of its length.
            unsafe { self.move_out_proved(offset, value.as_mut_ptr().cast(), size_of::<T>()) };
            // SAFETY: all bytes were written, and any bytes are a value (`FromBytes`).
            return unsafe { value.assume_init() };
        }
        // Its own value: this one's address leaves the function, and the one above can stay in registers.
        let mut value = core::mem::MaybeUninit::<T>::uninit();
        // SAFETY: a value is valid for writes of its length.
        unsafe { self.move_out(offset, value.as_mut_ptr().cast(), size_of::<T>()) };
        // SAFETY: as above.
        unsafe { value.assume_init() }
    }

    /// # Safety
    ///
    /// As [`Window::move_out`].
    #[inline(never)]
    unsafe fn move_out_unaligned(self, mut offset: usize, mut out: *mut u8, mut len: usize) {
        let skip = offset % 4;
        if skip != 0 && len > 0 {
            let first = (4 - skip).min(len);
            let bytes = self.load(offset - skip).to_le_bytes();
            // SAFETY: `first` is at most `len` and at most what is left of the word.
            unsafe { out.copy_from_nonoverlapping(bytes.as_ptr().wrapping_add(skip), first) };
            (offset, out, len) = (offset + first, out.wrapping_add(first), len - first);
        }
        if len > 0 {
            self.check(offset, len.next_multiple_of(4));
            // SAFETY: `check` proved the source with the rest of its last word: a region is whole words. `len` bytes of
            // the target are left.
            unsafe { self.move_out_proved(offset, out, len) };
        }
    }

    /// Copies bytes out from `offset`, Relaxed.
    ///
    /// # Safety
    ///
    /// `offset` is a multiple of 4, and `out.len()` rounded up to a multiple of 4 fits the window behind it.
    #[inline(always)]
    #[cfg_attr(not(any(loom, target_has_atomic = "64")), allow(dead_code, reason = "the broadcast ring uses it"))]
    pub(crate) unsafe fn copy_out_proved(&self, offset: usize, out: &mut [u8]) {
        // SAFETY: the caller proved the source, and `out` is valid for its length.
        unsafe { self.move_out_proved(offset, out.as_mut_ptr(), out.len()) };
    }

    /// Copies bytes out from `offset`, Relaxed, into memory that may be uninitialised.
    ///
    /// # Safety
    ///
    /// `offset` is a multiple of 4, `len` rounded up to a multiple of 4 fits the window behind it, and `out` is valid for
    /// writes of `len` bytes.
    #[inline(always)]
    pub(crate) unsafe fn move_out_proved(&self, offset: usize, out: *mut u8, len: usize) {
        debug_assert!(offset.is_multiple_of(4) && offset + len.next_multiple_of(4) <= self.len);
        let whole = len & !3;
        #[cfg(not(loom))]
        // SAFETY: the caller proved both ranges; the source is 4-aligned because the base is, and private memory does not
        // overlap a region.
        unsafe {
            crate::copy::load_words(out, self.base.wrapping_add(offset), whole);
        }
        #[cfg(loom)]
        for at in (0..whole).step_by(4) {
            // SAFETY: `at + 4 <= len` bytes of `out` may be written.
            unsafe { out.wrapping_add(at).cast::<u32>().write_unaligned(self.load(offset + at)) };
        }
        if whole < len {
            // SAFETY: the caller proved the word that holds the last bytes.
            let last = unsafe { self.word32_proved(offset + whole) }.load(Ordering::Relaxed).to_le_bytes();
            for (i, byte) in last.into_iter().enumerate().take(len - whole) {
                // SAFETY: `whole + i < len`, and `len` bytes of `out` may be written.
                unsafe { out.wrapping_add(whole + i).write(byte) };
            }
        }
    }

    /// As [`Window::move_out_proved`], out of line: for lengths that no caller knows.
    ///
    /// # Safety
    ///
    /// The same.
    #[inline(never)]
    pub(crate) unsafe fn move_out_any(self, offset: usize, out: *mut u8, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.move_out_proved(offset, out, len) };
    }

    /// The bytes themselves. See [`crate::Payload::as_slice`].
    ///
    /// # Safety
    ///
    /// Nobody, in this process or another, changes these bytes for `'r`.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) unsafe fn slice(&self, offset: usize, len: usize) -> &'r [u8] {
        if len > self.len || offset > self.len - len {
            out_of_range(offset, len, self.len);
        }
        // SAFETY: the range is inside the region, mapped for 'r; that it does not change is the caller's promise.
        unsafe { core::slice::from_raw_parts(self.base.wrapping_add(offset), len) }
    }
}

/// A checked view for the writer of a region. Derefs to [`Window`].
///
/// Two writers on one region corrupt the log, never memory: keeping it to one is the platform's lease.
#[derive(Clone, Copy, Debug)]
pub struct WindowMut<'r> {
    view: Window<'r>,
}

impl<'r> core::ops::Deref for WindowMut<'r> {
    type Target = Window<'r>;
    #[inline]
    fn deref(&self) -> &Window<'r> {
        &self.view
    }
}

impl WindowMut<'_> {
    /// Stores a word, Relaxed.
    #[inline]
    pub fn store(&self, offset: usize, word: u32) {
        #[cfg(loom)]
        crate::twin::step(Ordering::Relaxed);
        self.word32(offset).store(word, Ordering::Relaxed);
    }

    /// Stores a word, Release: everything stored before it is visible to whoever Acquires this value.
    #[inline]
    pub fn store_release(&self, offset: usize, word: u32) {
        #[cfg(loom)]
        if crate::twin::is(crate::twin::Weak::CommitRelaxed) {
            return self.store(offset, word);
        }
        self.word32(offset).store(word, Ordering::Release);
    }

    /// As [`WindowMut::store`], of a word whose place was proved.
    ///
    /// # Safety
    ///
    /// `offset` is a multiple of 4 and `offset + 4` is inside the window.
    #[cfg_attr(
        not(any(loom, target_has_atomic = "64")),
        allow(dead_code, reason = "the ring of many producers uses it")
    )]
    #[inline(always)]
    pub(crate) unsafe fn store_proved(&self, offset: usize, word: u32) {
        #[cfg(loom)]
        crate::twin::step(Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { self.word32_proved(offset) }.store(word, Ordering::Relaxed);
    }

    /// As [`WindowMut::store_release`], of a word whose place was proved.
    ///
    /// # Safety
    ///
    /// `offset` is a multiple of 4 and `offset + 4` is inside the window.
    #[cfg_attr(
        not(any(loom, target_has_atomic = "64")),
        allow(dead_code, reason = "the ring of many producers uses it")
    )]
    #[inline(always)]
    pub(crate) unsafe fn store_release_proved(&self, offset: usize, word: u32) {
        #[cfg(loom)]
        if crate::twin::is(crate::twin::Weak::CommitRelaxed) {
            return self.store(offset, word);
        }
        // SAFETY: the caller's promise.
        unsafe { self.word32_proved(offset) }.store(word, Ordering::Release);
    }

    /// Opens the slot that follows a frame, Relaxed: the frame's own commit word orders it.
    #[inline]
    pub(crate) fn open(&self, offset: usize) {
        #[cfg(loom)]
        if crate::twin::is(crate::twin::Weak::NoOpenWord) {
            return;
        }
        self.store(offset, 0);
    }

    /// Stores a `u64` as two words, Relaxed and not atomic as a whole.
    #[inline]
    pub fn store64(&self, offset: usize, value: u64) {
        self.store(offset, value as u32);
        self.store(offset + 4, (value >> 32) as u32);
    }

    /// Copies bytes in, from any offset, Relaxed. Bytes of a word outside the range keep their value as long as
    /// nobody else writes them.
    #[inline]
    pub fn copy_in(&self, offset: usize, bytes: &[u8]) {
        if offset.is_multiple_of(4) && bytes.len().is_multiple_of(4) {
            self.words_in(offset, bytes);
        } else {
            self.copy_in_unaligned(offset, bytes);
        }
    }

    /// Stores a frame of the WAL at `offset`, at any alignment, Relaxed: 13 bytes of header, the payload, the checksum.
    #[inline(always)]
    pub(crate) fn wal_frame(&self, offset: usize, seq: u64, kind: u8, payload: &[u8], crc: u32) {
        let len = payload.len();
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
        {
            let whole = len + 17;
            if whole > self.len || offset > self.len - whole {
                out_of_range(offset, whole, self.len);
            }
            let base = self.base.wrapping_add(offset);
            // SAFETY: the test above proved `whole` bytes from `base` to be inside the region, which is whole words that
            // `RegionMut` makes writable; the first 8 of them.
            unsafe { crate::copy::store_8(base, seq) };
            // SAFETY: as above: the 8 that end with the header; the first three of them are stored again.
            unsafe {
                crate::copy::store_8(base.wrapping_add(5), seq >> 40 | (len as u64) << 24 | u64::from(kind) << 56)
            };
            // SAFETY: as above: behind the 13 bytes of the header; private memory does not overlap a region.
            unsafe { crate::copy::store_bytes(base.wrapping_add(13), payload.as_ptr(), len) };
            // SAFETY: as above: the last 4 of them.
            unsafe { crate::copy::store_4(base.wrapping_add(13 + len), crc) };
        }
        #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom))))]
        {
            let mut head = [0; 13];
            head[..8].copy_from_slice(&seq.to_le_bytes());
            head[8..12].copy_from_slice(&(len as u32).to_le_bytes());
            head[12] = kind;
            self.copy_in(offset, &head);
            self.copy_in(offset + 13, payload);
            self.copy_in(offset + 13 + len, &crc.to_le_bytes());
        }
    }

    #[inline(never)]
    fn copy_in_unaligned(&self, offset: usize, bytes: &[u8]) {
        let skip = offset % 4;
        let start = offset - skip;
        if skip == 0 {
            let whole = bytes.len() & !3;
            self.words_in(start, &bytes[..whole]);
            self.partial_in(start + whole, 0, &bytes[whole..]);
        } else {
            let (first, rest) = bytes.split_at((4 - skip).min(bytes.len()));
            self.partial_in(start, skip, first);
            if !rest.is_empty() {
                self.copy_in(start + 4, rest);
            }
        }
    }

    /// Stores a frame of `len` bytes at `offset` and an open word behind it: everything but its commit word.
    ///
    /// The same as a store of each word, padding zero.
    ///
    /// # Safety
    ///
    /// `offset` and `len` are multiples of 4, `offset + len + 4` is inside the window, and `len` covers a header and
    /// the payload.
    #[inline(always)]
    pub(crate) unsafe fn frame(&self, offset: usize, len: usize, head: FrameWords, payload: &[u8]) {
        debug_assert!(len >= FRAME_HEADER_LEN && payload.len() <= len - FRAME_HEADER_LEN);
        debug_assert!(offset.is_multiple_of(4) && len.is_multiple_of(4) && offset + len + 4 <= self.len);
        #[cfg(not(loom))]
        {
            let base = self.base.wrapping_add(offset);
            // The last slot first, whatever part of it is padding: no branch on the payload's length.
            // SAFETY: the contract gives `len + 4` writable bytes from `base`, and `len` is at least a slot.
            unsafe { crate::copy::zero_slot(base.wrapping_add(len - FRAME_HEADER_LEN)) };
            // SAFETY: as above: the first slot. The word that it leaves out, the commit word, is 0.
            unsafe { crate::copy::store_head(base, head.crc, [head.seq, head.time_ns, head.kind.into()]) };
            let whole = payload.len() & !3;
            let at = base.wrapping_add(FRAME_HEADER_LEN);
            // SAFETY: the contract keeps the payload inside `len`; private memory does not overlap a region.
            unsafe { crate::copy::store_words(at, payload.as_ptr(), whole) };
            if whole < payload.len() {
                // SAFETY: `len` is a multiple of 4, so the payload's last, partial word is inside it.
                unsafe { crate::copy::word_at(at.wrapping_add(whole)) }
                    .store(partial_word(&payload[whole..]), Ordering::Relaxed);
            }
        }
        #[cfg(loom)]
        {
            self.store(offset + 4, head.crc);
            self.store64(offset + 8, head.seq);
            self.store64(offset + 16, head.time_ns);
            self.store64(offset + 24, head.kind.into());
            self.copy_in(offset + FRAME_HEADER_LEN, payload);
            self.zero(offset + FRAME_HEADER_LEN + payload.len(), len - FRAME_HEADER_LEN - payload.len());
            self.open(offset + len);
        }
    }

    /// Stores a value at `offset`, Relaxed. Zeros fill up the last word where it does not.
    ///
    /// # Safety
    ///
    /// `offset` is a multiple of 4, and the value's length rounded up to a multiple of 4 fits the window behind it.
    #[inline(always)]
    pub(crate) unsafe fn value_in_proved<T: zerocopy::IntoBytes + zerocopy::Immutable>(
        &self,
        offset: usize,
        value: &T,
    ) {
        #[cfg(not(loom))]
        if size_of::<T>().is_multiple_of(4) {
            let at = self.base.wrapping_add(offset);
            // SAFETY: the caller proved the range, 4-aligned because the base is; private memory does not overlap a
            // region.
            return unsafe { crate::copy::store_value(at, core::ptr::from_ref(value).cast(), size_of::<T>()) };
        }
        // SAFETY: the caller's promise.
        unsafe { self.copy_in_proved(offset, value.as_bytes()) };
    }

    /// Stores bytes at `offset`, Relaxed. Zeros fill up the last word where the bytes do not.
    ///
    /// # Safety
    ///
    /// `offset` is a multiple of 4, and `bytes.len()` rounded up to a multiple of 4 fits the window behind it.
    #[inline(always)]
    pub(crate) unsafe fn copy_in_proved(&self, offset: usize, bytes: &[u8]) {
        debug_assert!(offset.is_multiple_of(4) && offset + bytes.len().next_multiple_of(4) <= self.len);
        #[cfg(not(loom))]
        {
            let whole = bytes.len() & !3;
            let at = self.base.wrapping_add(offset);
            // SAFETY: the caller proved the range, 4-aligned because the base is; private memory does not overlap a
            // region.
            unsafe { crate::copy::store_words(at, bytes.as_ptr(), whole) };
            if whole < bytes.len() {
                // SAFETY: as above: the word that holds the last bytes.
                unsafe { crate::copy::word_at(at.wrapping_add(whole)) }
                    .store(partial_word(&bytes[whole..]), Ordering::Relaxed);
            }
        }
        #[cfg(loom)]
        for (i, bytes) in bytes.chunks(4).enumerate() {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            self.store(offset + i * 4, u32::from_le_bytes(word));
        }
    }

    #[inline(always)]
    fn words_in(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        // SAFETY: `check` proved the target range, 4-aligned because the base is, and `RegionMut` makes it writable;
        // the length is a multiple of 4 at both callers, and private memory does not overlap a region.
        #[cfg(not(loom))]
        unsafe {
            crate::copy::store_words(self.base.wrapping_add(offset), bytes.as_ptr(), bytes.len());
        }
        #[cfg(loom)]
        for (i, bytes) in bytes.chunks_exact(4).enumerate() {
            self.store(offset + i * 4, u32::from_le_bytes(bytes.try_into().expect("chunks of 4")));
        }
    }

    fn partial_in(&self, word: usize, skip: usize, bytes: &[u8]) {
        if !bytes.is_empty() {
            let mut whole = self.load(word).to_le_bytes();
            whole[skip..skip + bytes.len()].copy_from_slice(bytes);
            self.store(word, u32::from_le_bytes(whole));
        }
    }

    /// Stores zeros over `len` bytes, from any offset.
    pub fn zero(&self, offset: usize, len: usize) {
        const ZEROS: [u8; 64] = [0; 64];
        let mut at = 0;
        while at < len {
            let n = (len - at).min(ZEROS.len());
            self.copy_in(offset + at, &ZEROS[..n]);
            at += n;
        }
    }
}

/// Fewer than four bytes as a word, zeros behind them.
#[cfg(not(loom))]
#[inline(always)]
fn partial_word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// A frame's header without its commit word.
#[derive(Clone, Copy)]
pub(crate) struct FrameWords {
    pub(crate) crc: u32,
    pub(crate) seq: u64,
    pub(crate) time_ns: u64,
    /// `type_id`, and `flags` above it.
    pub(crate) kind: u32,
}

/// A region on the heap, zeroed at birth: for one process, for tests and for examples.
#[cfg(any(test, feature = "std"))]
pub struct HeapRegion {
    #[cfg(not(loom))]
    slots: Box<[Slot]>,
    #[cfg(loom)]
    words: Vec<AtomicU32>,
    #[cfg(loom)]
    longs: Vec<AtomicU64>,
    #[cfg(not(loom))]
    len: usize,
}

#[cfg(all(any(test, feature = "std"), not(loom)))]
#[repr(C, align(128))]
struct Slot([AtomicU32; REGION_ALIGN / 4]);

#[cfg(any(test, feature = "std"))]
impl HeapRegion {
    /// A region of `len` bytes, rounded up to whole words.
    #[must_use]
    pub fn new(len: usize) -> Self {
        #[cfg(not(loom))]
        return HeapRegion {
            slots: (0..len.div_ceil(REGION_ALIGN)).map(|_| Slot([const { AtomicU32::new(0) }; 32])).collect(),
            len: len.next_multiple_of(4),
        };
        #[cfg(loom)]
        HeapRegion {
            words: (0..len.div_ceil(4)).map(|_| AtomicU32::new(0)).collect(),
            longs: (0..len.div_ceil(REGION_ALIGN)).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

#[cfg(any(test, feature = "std"))]
impl fmt::Debug for HeapRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeapRegion").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "std"))]
// SAFETY: the box owns its slots until drop and does not move them; they are `AtomicU32`s in `UnsafeCell`s, aligned to
// 128, and private, so that nothing but a window reaches them.
unsafe impl Region for HeapRegion {
    #[cfg(not(loom))]
    fn base(&self) -> core::ptr::NonNull<u8> {
        core::ptr::NonNull::from(&*self.slots).cast()
    }
    #[cfg(not(loom))]
    fn len(&self) -> usize {
        self.len
    }
    #[cfg(loom)]
    fn words(&self) -> &[AtomicU32] {
        &self.words
    }
    #[cfg(loom)]
    fn longs(&self) -> &[AtomicU64] {
        &self.longs
    }
}

#[cfg(any(test, feature = "std"))]
// SAFETY: the atomics are mutable through a shared reference.
unsafe impl RegionMut for HeapRegion {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn copies_agree_with_a_plain_vector_at_every_offset_and_length() {
        let region = HeapRegion::new(256);
        let mut model = vec![0u8; 256];
        let bytes: Vec<u8> = (1..=100).collect();
        // Miri takes a thousand times as long: every seventh offset reaches each alignment too.
        for offset in (0..40).step_by(if cfg!(miri) { 7 } else { 1 }) {
            for len in 0..=70 {
                region.window_mut().copy_in(offset, &bytes[..len]);
                model[offset..offset + len].copy_from_slice(&bytes[..len]);
                let mut all = vec![0; 256];
                region.window().copy_out(0, &mut all);
                assert_eq!(all, model, "after {len} bytes at {offset}");
                let mut part = vec![0; len];
                region.window().copy_out(offset, &mut part);
                assert_eq!(part, &bytes[..len]);
            }
        }
        region.window_mut().zero(3, 131);
        model[3..134].fill(0);
        let mut all = vec![0; 256];
        region.window().copy_out(0, &mut all);
        assert_eq!(all, model);
    }

    #[test]
    fn ranges_outside_panic_with_the_numbers() {
        let region = HeapRegion::new(64);
        let attempts: [fn(Window<'_>); 4] =
            [|w| _ = w.load(64), |w| _ = w.load(2), |w| _ = w.load(usize::MAX - 3), |w| w.copy_out(60, &mut [0; 8])];
        for attempt in attempts {
            let window = region.window();
            std::panic::catch_unwind(|| attempt(window)).expect_err("outside the window");
        }
    }
}
