//! The bytes of a record, readable without trusting whoever may still write them.

use crate::region::Window;
use core::fmt;
use zerocopy::FromBytes;

/// The program's own word that committed bytes do not change.
///
/// Libraries take an `Option<Trusted>` and never make one: it is the one visible `unsafe` line by which a program buys
/// zero-copy slices of shared memory.
///
/// ```
/// # #![allow(unused)]
/// // SAFETY: both processes are ours, run the same release, and nothing else may open these files (mode 0600).
/// let trusted = unsafe { chronicle_core::Trusted::assert() };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Trusted(());

impl Trusted {
    /// Asserts it.
    ///
    /// # Safety
    ///
    /// As long as a slice made with this value lives, no party, in this process or another, changes the bytes that it
    /// shows, and nobody truncates the file behind them. Which bytes those are, committed ones, is the word of the
    /// protocol that made the [`Payload`]: give the value to payloads of protocols that you trust in this.
    #[must_use]
    pub const unsafe fn assert() -> Self {
        Trusted(())
    }
}

/// A frame's payload: in a region that others may write, or in memory of our own.
///
/// Every method is safe even while a peer scribbles over the region: it then returns bytes that are old or new, word
/// by word. Methods never look beyond [`Payload::len`].
#[derive(Clone, Copy)]
pub struct Payload<'a>(Bytes<'a>);

#[derive(Clone, Copy)]
enum Bytes<'a> {
    Shared { window: Window<'a>, offset: usize, len: usize },
    Own(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// `window[offset..offset + len]`; the caller checked the range.
    #[inline]
    pub(crate) fn shared(window: Window<'a>, offset: usize, len: usize) -> Self {
        Payload(Bytes::Shared { window, offset, len })
    }

    /// `window[offset..offset + len]`, if that is inside: for a protocol that lives above this crate, which says by it
    /// that these bytes are committed.
    #[inline]
    #[must_use]
    pub fn within(window: Window<'a>, offset: usize, len: usize) -> Option<Self> {
        let inside = len <= window.len() && offset <= window.len() - len;
        inside.then(|| Payload::shared(window, offset, len))
    }

    /// A payload in private memory.
    #[inline]
    #[must_use]
    pub const fn own(bytes: &'a [u8]) -> Self {
        Payload(Bytes::Own(bytes))
    }

    /// What is behind the first `at` bytes; empty if there are no more.
    #[inline]
    #[must_use]
    pub fn tail(&self, at: usize) -> Self {
        let at = at.min(self.len());
        match self.0 {
            Bytes::Shared { window, offset, len } => Payload::shared(window, offset + at, len - at),
            Bytes::Own(bytes) => Payload::own(&bytes[at..]),
        }
    }

    /// Length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            Bytes::Shared { len, .. } => len,
            Bytes::Own(bytes) => bytes.len(),
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the first bytes into `out`, as many as fit, and returns them.
    #[inline]
    pub fn copy_to<'o>(&self, out: &'o mut [u8]) -> &'o mut [u8] {
        let n = self.len().min(out.len());
        let out = &mut out[..n];
        self.fill(0, out);
        out
    }

    /// Copies `out.len()` bytes from byte `at`; `false`, and nothing copied, if there are not so many.
    #[inline]
    pub fn copy_at(&self, at: usize, out: &mut [u8]) -> bool {
        let inside = at.checked_add(out.len()).is_some_and(|end| end <= self.len());
        if inside {
            self.fill(at, out);
        }
        inside
    }

    #[inline]
    fn fill(&self, at: usize, out: &mut [u8]) {
        match self.0 {
            Bytes::Shared { window, offset, .. } => window.copy_out(offset + at, out),
            Bytes::Own(bytes) => out.copy_from_slice(&bytes[at..at + out.len()]),
        }
    }

    /// The little-endian `u64` at byte `at`, if it is inside.
    #[inline]
    #[must_use]
    pub fn u64_at(&self, at: usize) -> Option<u64> {
        let mut bytes = [0; 8];
        self.copy_at(at, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    /// A `T` copied from byte `at`, if it is inside. `T` may be at most 256 bytes: larger ones are copied by
    /// [`Payload::copy_at`] into a place of the caller's.
    #[inline]
    #[must_use]
    pub fn read<T: FromBytes>(&self, at: usize) -> Option<T> {
        const { assert!(size_of::<T>() <= 256) }
        if size_of::<T>() > self.len() || at > self.len() - size_of::<T>() {
            return None;
        }
        let (window, offset) = match self.0 {
            Bytes::Shared { window, offset, .. } => (window, offset + at),
            Bytes::Own(bytes) => return T::read_from_bytes(&bytes[at..at + size_of::<T>()]).ok(),
        };
        Some(window.value_out(offset))
    }

    /// The bytes in place. Private memory is always given; shared memory only to who is [`Trusted`].
    #[cfg(not(loom))]
    #[inline]
    #[must_use]
    pub fn as_slice(&self, trusted: Option<&Trusted>) -> Option<&'a [u8]> {
        match (self.0, trusted) {
            (Bytes::Own(bytes), _) => Some(bytes),
            // SAFETY: who made the `Trusted` promised that the bytes of this payload do not change while such a slice
            // lives; core makes payloads of frames whose commit word was seen, and no others.
            (Bytes::Shared { window, offset, len }, Some(_)) => Some(unsafe { window.slice(offset, len) }),
            (Bytes::Shared { .. }, None) => None,
        }
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.0 {
            Bytes::Shared { .. } => "shared",
            Bytes::Own(_) => "own",
        };
        f.debug_struct("Payload").field("len", &self.len()).field("memory", &place).finish()
    }
}
