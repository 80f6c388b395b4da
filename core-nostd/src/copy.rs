//! Copies between shared and private memory that cannot be a data race.
//!
//! An ordinary `memcpy` from memory that a peer may be writing is undefined, even if the bytes are thrown away after
//! a failed check. These copies mean: *one relaxed `AtomicU32` access for each 4-aligned word, in some order*. The
//! portable form is written just so; on x86-64 and AArch64 the same meaning is carried out 16 bytes at a time by
//! inline assembly, which the compiler can neither tear nor merge, and whose 16-byte accesses the hardware never
//! splits below an aligned 4-byte word.
//!
//! Never here: bounds checks (see `region.rs`), orderings stronger than relaxed.

use crate::sync::{AtomicU32, Ordering};

/// Copies `len` bytes of private memory into shared words.
///
/// # Safety
///
/// `dst` is 4-aligned and valid for atomic writes of `len` bytes, `src` for reads of `len` bytes, `len` is a multiple
/// of 4, and the two do not overlap.
#[inline(always)]
pub(crate) unsafe fn store_words(dst: *mut u8, src: *const u8, len: usize) {
    debug_assert!(len.is_multiple_of(4));
    let mut at = 0;
    #[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
    while at + 16 <= len {
        // SAFETY: 16 bytes from `at` lie inside both ranges; SSE2 is part of x86-64. For the memory model the
        // block stands for four relaxed stores of the words it covers.
        unsafe {
            core::arch::asm!(
                "movups {x}, [{src}]",
                "movups [{dst}], {x}",
                x = out(xmm_reg) _,
                src = in(reg) src.wrapping_add(at),
                dst = in(reg) dst.wrapping_add(at),
                options(nostack, preserves_flags),
            );
        }
        at += 16;
    }
    #[cfg(all(target_arch = "aarch64", not(miri), not(loom)))]
    while at + 16 <= len {
        // SAFETY: as above; a load or store pair of X registers is single-copy atomic for each aligned word in it.
        unsafe {
            core::arch::asm!(
                "ldp {a}, {b}, [{src}]",
                "stp {a}, {b}, [{dst}]",
                a = out(reg) _,
                b = out(reg) _,
                src = in(reg) src.wrapping_add(at),
                dst = in(reg) dst.wrapping_add(at),
                options(nostack, preserves_flags),
            );
        }
        at += 16;
    }
    while at < len {
        // SAFETY: `src` is valid for `len` bytes and `at + 4 <= len`, because both are multiples of 4.
        let word = unsafe { src.wrapping_add(at).cast::<u32>().read_unaligned() };
        // SAFETY: `dst` is 4-aligned, valid for `len` bytes and only reached through atomics, by the contract above.
        unsafe { word_at(dst.wrapping_add(at)) }.store(word, Ordering::Relaxed);
        at += 4;
    }
}

/// Copies `len` bytes of shared words into private memory.
///
/// # Safety
///
/// `src` is 4-aligned and valid for atomic reads of `len` bytes, `dst` for writes of `len` bytes, `len` is a multiple
/// of 4, and the two do not overlap.
#[inline(always)]
pub(crate) unsafe fn load_words(dst: *mut u8, src: *const u8, len: usize) {
    debug_assert!(len.is_multiple_of(4));
    let mut at = 0;
    #[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
    while at + 16 <= len {
        // SAFETY: 16 bytes from `at` lie inside both ranges. For the memory model the block stands for four relaxed
        // loads of the words it covers.
        unsafe {
            core::arch::asm!(
                "movups {x}, [{src}]",
                "movups [{dst}], {x}",
                x = out(xmm_reg) _,
                src = in(reg) src.wrapping_add(at),
                dst = in(reg) dst.wrapping_add(at),
                options(nostack, preserves_flags),
            );
        }
        at += 16;
    }
    #[cfg(all(target_arch = "aarch64", not(miri), not(loom)))]
    while at + 16 <= len {
        // SAFETY: as above; a load pair of X registers is single-copy atomic for each aligned word in it.
        unsafe {
            core::arch::asm!(
                "ldp {a}, {b}, [{src}]",
                "stp {a}, {b}, [{dst}]",
                a = out(reg) _,
                b = out(reg) _,
                src = in(reg) src.wrapping_add(at),
                dst = in(reg) dst.wrapping_add(at),
                options(nostack, preserves_flags),
            );
        }
        at += 16;
    }
    while at < len {
        // SAFETY: `src` is 4-aligned, valid for `len` bytes and only reached through atomics, by the contract above.
        let word = unsafe { word_at(src.wrapping_add(at).cast_mut()) }.load(Ordering::Relaxed);
        // SAFETY: `dst` is valid for `len` bytes and `at + 4 <= len`, because both are multiples of 4.
        unsafe { dst.wrapping_add(at).cast::<u32>().write_unaligned(word) };
        at += 4;
    }
}

/// The atomic word at `at`.
///
/// # Safety
///
/// `at` is 4-aligned, valid for reads (and for writes, if it is stored to) for `'a`, and reached only through atomics
/// of this size meanwhile.
#[inline(always)]
pub(crate) unsafe fn word_at<'a>(at: *mut u8) -> &'a AtomicU32 {
    // SAFETY: the caller's contract is `from_ptr`'s; with loom this function is never called.
    #[cfg(not(loom))]
    unsafe {
        AtomicU32::from_ptr(at.cast())
    }
    #[cfg(loom)]
    unreachable!("the model has no addresses: {at:p}")
}
