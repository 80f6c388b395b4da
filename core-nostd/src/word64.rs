//! A 64-bit position in a region whose other words are 32 bits wide.
//!
//! Safe code may look at any bytes of a region through a [`crate::Window`], 4 at a time, also at the halves of a position
//! that a ring is moving. Two *Rust* atomics of different sizes that race on the same bytes are undefined, because a
//! compiler may carry them out in ways that do not mix. So on x86-64 and AArch64 a position is reached by instructions that
//! are named here, and both architectures define what overlapping aligned accesses of different sizes do: each half is
//! seen as some access left it. For the memory model each block stands for an access of two `AtomicU32`s at once, with the
//! ordering that the method is given; the compiler sees assembly that may touch any memory, and moves nothing across it.
//!
//! Elsewhere, in a model and under Miri it is an `AtomicU64`, and looking at its halves meanwhile is not covered.

#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri), not(loom))))]
pub(crate) use portable::Word64;
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri), not(loom)))]
pub(crate) use wide::Word64;

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri), not(loom)))]
mod wide {
    use crate::sync::Ordering;
    use core::{arch::asm, marker::PhantomData};

    /// One position.
    #[derive(Clone, Copy)]
    pub(crate) struct Word64<'r> {
        at: *mut u64,
        region: PhantomData<&'r u64>,
    }

    impl Word64<'_> {
        /// The position at `at`.
        ///
        /// # Safety
        ///
        /// `at` is 8-aligned, valid for reads of 8 bytes (and for writes, if it is stored to) for `'r`, and reached only
        /// through these and through 32-bit atomics meanwhile.
        #[inline(always)]
        pub(crate) unsafe fn at(at: *mut u8) -> Self {
            Word64 { at: at.cast(), region: PhantomData }
        }

        /// Every load here acquires: on x86-64 all do, and on AArch64 nothing hot loads one.
        #[inline(always)]
        pub(crate) fn load(self, _: Ordering) -> u64 {
            let value: u64;
            // SAFETY: `at` may be read, by its contract. Without `nomem` no later access moves before the block.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                asm!(
                    "mov {value}, qword ptr [{at}]",
                    value = out(reg) value,
                    at = in(reg) self.at,
                    options(nostack, preserves_flags),
                );
            }
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            unsafe {
                asm!(
                    "ldar {value}, [{at}]",
                    value = out(reg) value,
                    at = in(reg) self.at,
                    options(nostack, preserves_flags),
                );
            }
            value
        }

        /// Every store here releases.
        #[inline(always)]
        pub(crate) fn store(self, value: u64, _: Ordering) {
            // SAFETY: `at` may be written, by its contract. Without `nomem` no earlier access moves behind the block.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                asm!(
                    "mov qword ptr [{at}], {value}",
                    value = in(reg) value,
                    at = in(reg) self.at,
                    options(nostack, preserves_flags),
                );
            }
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            unsafe {
                asm!(
                    "stlr {value}, [{at}]",
                    value = in(reg) value,
                    at = in(reg) self.at,
                    options(nostack, preserves_flags),
                );
            }
        }

        /// Stores `new` if it holds `expected`; what it held otherwise. Acquires and releases.
        #[inline(always)]
        pub(crate) fn compare_exchange(self, expected: u64, new: u64, _: Ordering, _: Ordering) -> Result<u64, u64> {
            let found: u64;
            // SAFETY: `at` may be read and written, by its contract.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                asm!(
                    "lock cmpxchg qword ptr [{at}], {new}",
                    new = in(reg) new,
                    at = in(reg) self.at,
                    inout("rax") expected => found,
                    options(nostack),
                );
            }
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            unsafe {
                asm!(
                    "2:",
                    "ldaxr {found}, [{at}]",
                    "cmp {found}, {expected}",
                    "b.ne 3f",
                    "stlxr {failed:w}, {new}, [{at}]",
                    "cbnz {failed:w}, 2b",
                    "b 4f",
                    "3:",
                    "clrex",
                    "4:",
                    found = out(reg) found,
                    failed = out(reg) _,
                    expected = in(reg) expected,
                    new = in(reg) new,
                    at = in(reg) self.at,
                    options(nostack),
                );
            }
            if found == expected { Ok(found) } else { Err(found) }
        }
    }
}

#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri), not(loom))))]
mod portable {
    use crate::sync::{AtomicU64, Ordering};

    /// One position.
    #[derive(Clone, Copy)]
    pub(crate) struct Word64<'r>(&'r AtomicU64);

    impl<'r> Word64<'r> {
        /// The position at `at`.
        ///
        /// # Safety
        ///
        /// `at` is 8-aligned, valid for reads of 8 bytes (and for writes, if it is stored to) for `'r`, and reached only
        /// through atomics of this size meanwhile.
        #[cfg(not(loom))]
        #[inline(always)]
        pub(crate) unsafe fn at(at: *mut u8) -> Self {
            // SAFETY: the caller's contract is `from_ptr`'s.
            Word64(unsafe { AtomicU64::from_ptr(at.cast()) })
        }

        #[cfg(loom)]
        pub(crate) fn of(word: &'r AtomicU64) -> Self {
            Word64(word)
        }

        #[inline(always)]
        pub(crate) fn load(self, ordering: Ordering) -> u64 {
            self.0.load(ordering)
        }

        #[inline(always)]
        pub(crate) fn store(self, value: u64, ordering: Ordering) {
            self.0.store(value, ordering);
        }

        #[inline(always)]
        pub(crate) fn compare_exchange(
            self,
            expected: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.0.compare_exchange(expected, new, success, failure)
        }
    }
}
