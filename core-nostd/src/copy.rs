//! Copies between shared and private memory that cannot be a data race.
//!
//! An ordinary `memcpy` from memory that a peer may be writing is undefined, even if the bytes are thrown away after
//! a failed check. These copies mean: *one relaxed `AtomicU32` access for each 4-aligned word, in some order*. The
//! portable form is written just so; on x86-64 and on AArch64 the same meaning is carried out 8 or 16 bytes at a time
//! by inline assembly, which the compiler can neither tear nor merge. What it may assume of the hardware, and no more: an
//! 8-byte or a 16-byte SSE access at a 4-aligned address is never split inside an aligned 4-byte word; a load or store pair
//! of *32-bit* registers is single-copy atomic for each of the two words. (A pair of 64-bit registers is not, where the
//! address is a multiple of 4 but not of 8.) Where copies are short, and on AArch64, only the shared side is touched by assembly: private
//! memory may have any alignment or be a register, and how to reach that is the compiler's knowledge.
//!
//! Never here: bounds checks (see `region.rs`), orderings stronger than relaxed.

// A model has no addresses; its copies go word by word in `region.rs`.
#![cfg_attr(loom, allow(dead_code))]

use crate::sync::{AtomicU32, Ordering};

/// Up to so many bytes go through general registers.
///
/// Short payloads have just been put together from numbers on the caller's stack. A 16-byte load that spans two such
/// stores cannot be forwarded: it waits until they leave the core, behind every store to the region that still waits for
/// its cache line from the other processor, some 100 ns each. 8-byte loads are forwarded, and where the compiler still
/// has the numbers in registers there is no load at all.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
const SHORT: usize = 128;

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
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
    if len > SHORT {
        // SAFETY: the caller's contract is the same.
        return unsafe { store_long(dst, src, len) };
    }
    #[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
    {
        while at + 64 <= len {
            // SAFETY: 64 bytes from `at` lie inside `src`, and every bit pattern is eight numbers.
            let [a, b, c, d, e, f, g, h] = unsafe { src.wrapping_add(at).cast::<[u64; 8]>().read_unaligned() };
            // SAFETY: 32 bytes from `at` lie inside `dst`.
            unsafe { store_four::<0>(dst.wrapping_add(at), [a, b, c, d]) };
            // SAFETY: as do the 32 bytes behind them.
            unsafe { store_four::<32>(dst.wrapping_add(at), [e, f, g, h]) };
            at += 64;
        }
        if at == len {
            return;
        }
        if len & 32 != 0 {
            // SAFETY: `len - at` is `len % 64`: 32 bytes from `at` lie inside `src`.
            let four = unsafe { src.wrapping_add(at).cast::<[u64; 4]>().read_unaligned() };
            // SAFETY: and inside `dst`.
            unsafe { store_four::<0>(dst.wrapping_add(at), four) };
            at += 32;
        }
        while at + 8 <= len {
            // SAFETY: 8 bytes from `at` lie inside `src`, and every bit pattern is a number.
            let two = unsafe { src.wrapping_add(at).cast::<u64>().read_unaligned() };
            // SAFETY: 8 bytes from `at` lie inside `dst`. For the memory model the block stands for two relaxed stores.
            unsafe {
                core::arch::asm!(
                    "mov qword ptr [{dst}], {two}",
                    two = in(reg) two,
                    dst = in(reg) dst.wrapping_add(at),
                    options(nostack, preserves_flags),
                );
            }
            at += 8;
        }
    }
    #[cfg(all(target_arch = "aarch64", not(miri), not(loom)))]
    while at + 16 <= len {
        // SAFETY: 16 bytes from `at` lie inside `src`, and every bit pattern is four words.
        let [a, b, c, d] = unsafe { src.wrapping_add(at).cast::<[u32; 4]>().read_unaligned() };
        // SAFETY: 16 bytes from `at` lie inside `dst`; a store pair of W registers stands for two relaxed stores.
        unsafe {
            core::arch::asm!(
                "stp {a:w}, {b:w}, [{dst}]",
                "stp {c:w}, {d:w}, [{dst}, #8]",
                a = in(reg) a,
                b = in(reg) b,
                c = in(reg) c,
                d = in(reg) d,
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

/// Copies a value into shared words: as [`store_words`], for what a caller gave by value.
///
/// It is in registers, or was copied whole: 16 bytes a step wait for nothing, and are half as many steps.
///
/// # Safety
///
/// `dst` is 4-aligned and valid for atomic writes of `len` bytes, `value` for reads of `len` bytes, `len` is a multiple of
/// 4, and the two do not overlap.
#[inline(always)]
pub(crate) unsafe fn store_value(dst: *mut u8, value: *const u8, len: usize) {
    #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom))))]
    let at = 0;
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
    let mut at = 0;
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
    while len <= SHORT && at + 64 <= len {
        use core::arch::x86_64::__m128i;
        // SAFETY: 64 bytes from `at` lie inside `value`.
        let [a, b, c, d] = unsafe { value.wrapping_add(at).cast::<[__m128i; 4]>().read_unaligned() };
        // SAFETY: 64 bytes from `at` lie inside `dst`. For the memory model the block stands for sixteen relaxed stores.
        unsafe {
            core::arch::asm!(
                "movups [{dst}], {a}",
                "movups [{dst} + 16], {b}",
                "movups [{dst} + 32], {c}",
                "movups [{dst} + 48], {d}",
                a = in(xmm_reg) a,
                b = in(xmm_reg) b,
                c = in(xmm_reg) c,
                d = in(xmm_reg) d,
                dst = in(reg) dst.wrapping_add(at),
                options(nostack, preserves_flags),
            );
        }
        at += 64;
    }
    // SAFETY: the rest, by the caller's contract.
    unsafe { store_words(dst.wrapping_add(at), value.wrapping_add(at), len - at) };
}

/// Copies private memory to any address of shared memory.
///
/// Carried out in steps of 1 to 64 bytes that may overlap. For the memory model it stands for this: for each byte, load the
/// aligned word that it is in, relaxed, change the byte, store the word, relaxed; in some order, some of them twice. Bytes
/// of a word outside the range keep their value as long as nobody else writes them.
///
/// # Safety
///
/// `dst` is valid for atomic writes of `len` bytes and, widened to whole aligned words, of atomic reads; `src` for reads of
/// `len` bytes, and the two do not overlap.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
#[inline(always)]
pub(crate) unsafe fn store_bytes(dst: *mut u8, src: *const u8, len: usize) {
    let mut at = 0;
    while at + 64 <= len {
        // SAFETY: 64 bytes from `at` lie inside both ranges.
        unsafe { move_64(dst.wrapping_add(at), src.wrapping_add(at)) };
        at += 64;
    }
    while at + 16 <= len {
        // SAFETY: 16 bytes from `at` lie inside both ranges.
        unsafe { move_16(dst.wrapping_add(at), src.wrapping_add(at)) };
        at += 16;
    }
    if at == len {
        return;
    }
    if len >= 16 {
        // The last 16 once more with the rest behind them.
        // SAFETY: they lie inside both ranges.
        return unsafe { move_16(dst.wrapping_add(len - 16), src.wrapping_add(len - 16)) };
    }
    if len >= 8 {
        for at in [0, len - 8] {
            // SAFETY: 8 bytes from `at` lie inside `src`, and every bit pattern is a number.
            let eight = unsafe { src.wrapping_add(at).cast::<u64>().read_unaligned() };
            // SAFETY: and inside `dst`.
            unsafe { store_8(dst.wrapping_add(at), eight) };
        }
        return;
    }
    while at < len {
        // SAFETY: `at < len`.
        let byte = unsafe { src.wrapping_add(at).read() };
        // SAFETY: `at < len`; SSE2 or not, a byte's store is one.
        unsafe {
            core::arch::asm!(
                "mov byte ptr [{dst}], {byte}",
                byte = in(reg_byte) byte,
                dst = in(reg) dst.wrapping_add(at),
                options(nostack, preserves_flags),
            );
        }
        at += 1;
    }
}

/// Stores a number at any address: as [`store_bytes`].
///
/// # Safety
///
/// As [`store_bytes`], for 8 bytes.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
#[inline(always)]
pub(crate) unsafe fn store_8(dst: *mut u8, value: u64) {
    // SAFETY: the caller's contract.
    unsafe {
        core::arch::asm!(
            "mov qword ptr [{dst}], {value}",
            value = in(reg) value,
            dst = in(reg) dst,
            options(nostack, preserves_flags),
        );
    }
}

/// Stores a number at any address: as [`store_bytes`].
///
/// # Safety
///
/// As [`store_bytes`], for 4 bytes.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
#[inline(always)]
pub(crate) unsafe fn store_4(dst: *mut u8, value: u32) {
    // SAFETY: the caller's contract.
    unsafe {
        core::arch::asm!(
            "mov dword ptr [{dst}], {value:e}",
            value = in(reg) value,
            dst = in(reg) dst,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies 16 bytes: as [`store_bytes`].
///
/// # Safety
///
/// As [`store_bytes`], for 16 bytes.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
#[inline(always)]
unsafe fn move_16(dst: *mut u8, src: *const u8) {
    use core::arch::x86_64::__m128i;
    // SAFETY: the caller's contract.
    let four = unsafe { src.cast::<__m128i>().read_unaligned() };
    // SAFETY: the caller's contract.
    unsafe {
        core::arch::asm!(
            "movups [{dst}], {four}",
            four = in(xmm_reg) four,
            dst = in(reg) dst,
            options(nostack, preserves_flags),
        );
    }
}

/// Stores four numbers at `dst + AT`.
///
/// # Safety
///
/// `dst + AT` is 4-aligned and valid for atomic writes of 32 bytes.
#[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
#[inline(always)]
unsafe fn store_four<const AT: usize>(dst: *mut u8, [a, b, c, d]: [u64; 4]) {
    // SAFETY: 32 bytes from `AT` may be written, by the contract above. For the memory model the block stands for eight
    // relaxed stores.
    unsafe {
        core::arch::asm!(
            "mov qword ptr [{dst} + {at}], {a}",
            "mov qword ptr [{dst} + {at} + 8], {b}",
            "mov qword ptr [{dst} + {at} + 16], {c}",
            "mov qword ptr [{dst} + {at} + 24], {d}",
            a = in(reg) a,
            b = in(reg) b,
            c = in(reg) c,
            d = in(reg) d,
            at = const AT,
            dst = in(reg) dst,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies more than [`SHORT`] bytes of private memory into shared words.
///
/// # Safety
///
/// As [`store_words`].
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
#[inline(never)]
unsafe fn store_long(dst: *mut u8, src: *const u8, len: usize) {
    let whole = len & !63;
    let mut at = 0;
    while at < whole {
        // SAFETY: 64 bytes from `at` lie inside both ranges; SSE2 is part of x86-64. For the memory model the block
        // stands for sixteen relaxed stores of the words it covers.
        unsafe { move_64(dst.wrapping_add(at), src.wrapping_add(at)) };
        at += 64;
    }
    // SAFETY: the rest of both ranges, less than 64 bytes.
    unsafe { store_words(dst.wrapping_add(at), src.wrapping_add(at), len - at) };
}

/// Copies more than [`SHORT`] bytes of shared words into private memory.
///
/// # Safety
///
/// As [`load_words`].
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
#[inline(never)]
unsafe fn load_long(dst: *mut u8, src: *const u8, len: usize) {
    let whole = len & !63;
    let mut at = 0;
    while at < whole {
        // SAFETY: 64 bytes from `at` lie inside both ranges; SSE2 is part of x86-64. For the memory model the block
        // stands for sixteen relaxed loads of the words it covers.
        unsafe { move_64(dst.wrapping_add(at), src.wrapping_add(at)) };
        at += 64;
    }
    // SAFETY: the rest of both ranges, less than 64 bytes.
    unsafe { load_words(dst.wrapping_add(at), src.wrapping_add(at), len - at) };
}

/// Copies 64 bytes.
///
/// # Safety
///
/// `src` is valid for reads and `dst` for writes of 64 bytes, and the two do not overlap.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
#[inline(always)]
unsafe fn move_64(dst: *mut u8, src: *const u8) {
    // SAFETY: the caller's contract.
    unsafe {
        core::arch::asm!(
            "movups {a}, [{src}]",
            "movups {b}, [{src} + 16]",
            "movups {c}, [{src} + 32]",
            "movups {d}, [{src} + 48]",
            "movups [{dst}], {a}",
            "movups [{dst} + 16], {b}",
            "movups [{dst} + 32], {c}",
            "movups [{dst} + 48], {d}",
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            src = in(reg) src,
            dst = in(reg) dst,
            options(nostack, preserves_flags),
        );
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
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
    {
        use core::arch::x86_64::__m128i;
        if len > SHORT {
            // SAFETY: the caller's contract is the same.
            return unsafe { load_long(dst, src, len) };
        }
        while at + 64 <= len {
            let (a, b, c, d): (__m128i, __m128i, __m128i, __m128i);
            // SAFETY: 64 bytes from `at` lie inside `src`. For the memory model the block stands for sixteen relaxed
            // loads.
            unsafe {
                core::arch::asm!(
                    "movups {a}, [{src}]",
                    "movups {b}, [{src} + 16]",
                    "movups {c}, [{src} + 32]",
                    "movups {d}, [{src} + 48]",
                    a = out(xmm_reg) a,
                    b = out(xmm_reg) b,
                    c = out(xmm_reg) c,
                    d = out(xmm_reg) d,
                    src = in(reg) src.wrapping_add(at),
                    options(nostack, preserves_flags, readonly),
                );
            }
            // SAFETY: 64 bytes from `at` lie inside `dst`.
            unsafe { dst.wrapping_add(at).cast::<[__m128i; 4]>().write_unaligned([a, b, c, d]) };
            at += 64;
        }
        if at == len {
            return;
        }
        while at + 16 <= len {
            let four: __m128i;
            // SAFETY: 16 bytes from `at` lie inside `src`. For the memory model the block stands for four relaxed loads.
            unsafe {
                core::arch::asm!(
                    "movups {four}, [{src}]",
                    four = out(xmm_reg) four,
                    src = in(reg) src.wrapping_add(at),
                    options(nostack, preserves_flags, readonly),
                );
            }
            // In one store: whoever loads 8 or 16 of these bytes next has them forwarded.
            // SAFETY: 16 bytes from `at` lie inside `dst`.
            unsafe { dst.wrapping_add(at).cast::<__m128i>().write_unaligned(four) };
            at += 16;
        }
    }
    #[cfg(all(target_arch = "aarch64", not(miri), not(loom)))]
    while at + 16 <= len {
        let (a, b, c, d): (u32, u32, u32, u32);
        // SAFETY: 16 bytes from `at` lie inside `src`; a load pair of W registers stands for two relaxed loads.
        unsafe {
            core::arch::asm!(
                "ldp {a:w}, {b:w}, [{src}]",
                "ldp {c:w}, {d:w}, [{src}, #8]",
                a = out(reg) a,
                b = out(reg) b,
                c = out(reg) c,
                d = lateout(reg) d,
                src = in(reg) src.wrapping_add(at),
                options(nostack, preserves_flags, readonly),
            );
        }
        // SAFETY: 16 bytes from `at` lie inside `dst`.
        unsafe { dst.wrapping_add(at).cast::<[u32; 4]>().write_unaligned([a, b, c, d]) };
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

/// Stores the seven words behind a frame's commit word: `crc`, then three pairs.
///
/// # Safety
///
/// `dst` is 4-aligned, valid for atomic writes of 32 bytes, and reached only through atomics meanwhile.
#[inline(always)]
pub(crate) unsafe fn store_head(dst: *mut u8, crc: u32, pairs: [u64; 3]) {
    #[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
    // SAFETY: 32 bytes at `dst` may be written, by the contract above. For the memory model the block stands for seven
    // relaxed stores.
    unsafe {
        core::arch::asm!(
            "mov dword ptr [{dst} + 4], {crc:e}",
            "mov qword ptr [{dst} + 8], {a}",
            "mov qword ptr [{dst} + 16], {b}",
            "mov qword ptr [{dst} + 24], {c}",
            crc = in(reg) crc,
            a = in(reg) pairs[0],
            b = in(reg) pairs[1],
            c = in(reg) pairs[2],
            dst = in(reg) dst,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
    {
        // SAFETY: bytes 4..8 of the 32.
        unsafe { word_at(dst.wrapping_add(4)) }.store(crc, Ordering::Relaxed);
        for (i, pair) in pairs.into_iter().enumerate() {
            // SAFETY: bytes 8..32 in steps of 8; the lower word.
            unsafe { word_at(dst.wrapping_add(8 + 8 * i)) }.store(pair as u32, Ordering::Relaxed);
            // SAFETY: the upper word.
            unsafe { word_at(dst.wrapping_add(12 + 8 * i)) }.store((pair >> 32) as u32, Ordering::Relaxed);
        }
    }
}

/// Stores zeros over the nine words from `dst`: a frame's last slot and the commit word behind it.
///
/// # Safety
///
/// `dst` is 4-aligned, valid for atomic writes of 36 bytes, and reached only through atomics meanwhile.
#[inline(always)]
pub(crate) unsafe fn zero_slot(dst: *mut u8) {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom)))]
    // SAFETY: 36 bytes at `dst` may be written, by the contract above. For the memory model the block stands for nine
    // relaxed stores.
    unsafe {
        core::arch::asm!(
            "xorps {zero}, {zero}",
            "movups [{dst}], {zero}",
            "movups [{dst} + 16], {zero}",
            "mov dword ptr [{dst} + 32], 0",
            zero = out(xmm_reg) _,
            dst = in(reg) dst,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri), not(loom))))]
    for i in 0..9 {
        // SAFETY: words 0..9 of the 36 bytes.
        unsafe { word_at(dst.wrapping_add(4 * i)) }.store(0, Ordering::Relaxed);
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
