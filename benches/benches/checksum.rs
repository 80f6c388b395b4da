//! Would CRC-32C, which processors compute by an instruction, halve the cost of a small append?
//!
//! Prints a table for `docs/decisions/0008-one-checksum.md`. The column with CRC-32C is an append without checksum and the
//! instruction over the same bytes beside it: what an append with it would cost at best.

// Tables for a decision; nobody calls into it.
#![allow(missing_docs)]

#[cfg(target_arch = "x86_64")]
fn main() {
    if !std::is_x86_feature_detected!("sse4.2") {
        eprintln!("checksum: this processor has no CRC-32C instruction, nothing to compare");
        return;
    }
    println!("ns an append, medians of 15 interleaved rounds, segment of 4 MiB");
    println!("{:>8}  {:>12}  {:>12}  {:>20}", "payload", "no checksum", "CRC-32", "with CRC-32C at best");
    for payload in [16, 64, 256] {
        let [plain, summed, instruction] = x86::compare(payload);
        println!("{payload:>8}  {plain:>12.1}  {summed:>12.1}  {instruction:>20.1}");
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    eprintln!("checksum: the CRC-32C instruction is compared on x86-64 only");
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use chronicle_core::{Append, Appender, Checksum, HeapRegion, Spec, format};
    use core::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};
    use std::{hint::black_box, time::Instant};

    const SEGMENT: usize = 4 << 20;
    const HEADER_PART: usize = 24;
    const ROUNDS: usize = 15;

    /// Appends without checksum, with CRC-32 as shipped, and without beside CRC-32C over the same bytes.
    pub(crate) fn compare(payload: usize) -> [f64; 3] {
        let mut figures: [Vec<f64>; 3] = Default::default();
        for _ in 0..ROUNDS {
            figures[0].push(append(payload, Checksum::CommitWord, false));
            figures[1].push(append(payload, Checksum::Frame, false));
            figures[2].push(append(payload, Checksum::CommitWord, true));
        }
        figures.map(|mut of_one| {
            of_one.sort_by(f64::total_cmp);
            of_one[ROUNDS / 2]
        })
    }

    /// Nanoseconds an append: the best of five passes over a segment.
    fn append(payload: usize, checksum: Checksum, beside: bool) -> f64 {
        let region = HeapRegion::new(SEGMENT);
        let spec = Spec { segment_len: SEGMENT as u32, checksum, salt: 5, ..Spec::default() };
        let payload = vec![7_u8; payload];
        let mut summed = vec![0; HEADER_PART + payload.len()];
        let mut best = f64::MAX;
        for _ in 0..5 {
            format(&region, &spec).expect("the region is as long as the segment");
            let mut log = Appender::attach(&region).expect("it was formatted just now");
            let (began, mut count) = (Instant::now(), 0_u64);
            loop {
                let payload = black_box(&payload[..]);
                if beside {
                    summed[..8].copy_from_slice(&count.to_le_bytes());
                    summed[HEADER_PART..].copy_from_slice(payload);
                    // SAFETY: `main` found the instruction.
                    black_box(unsafe { crc32c(count as u32, &summed) });
                }
                if log.append(Append { time_ns: count, type_id: 1, flags: 0 }, payload).is_err() {
                    break;
                }
                count += 1;
            }
            best = best.min(began.elapsed().as_nanos() as f64 / count as f64);
        }
        best
    }

    /// # Safety
    ///
    /// The processor has SSE4.2.
    #[target_feature(enable = "sse4.2")]
    unsafe fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
        let (words, rest) = bytes.as_chunks::<8>();
        let whole = words.iter().fold(u64::from(seed), |crc, word| _mm_crc32_u64(crc, u64::from_le_bytes(*word)));
        rest.iter().fold(whole as u32, |crc, byte| _mm_crc32_u8(crc, *byte))
    }
}
