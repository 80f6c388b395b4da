//! What the fuzz targets share: getting past checksums, so that what lies behind them is reached too.
//!
//! A checksum keeps a fuzzer out, and a malicious writer it does not keep out. Each target that reads checksummed
//! bytes therefore takes the first byte of its input as a choice: leave the checksums as they are, or put them right.

use chronicle_core::layout::{COMMIT_END, FRAME_HEADER_LEN, HEADER_LEN, frame_len};

/// The first byte's lowest bits as choices, and the rest.
pub fn choices(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// Stores the CRC-32 of `bytes[from..at]`, started from `seed`, at `at`; nothing if there is no room.
pub fn put_crc(bytes: &mut [u8], from: usize, at: usize, seed: u32) {
    if at + 4 <= bytes.len() && from <= at {
        let mut crc = crc32fast::Hasher::new_with_initial(seed);
        crc.update(&bytes[from..at]);
        let crc = crc.finalize().to_le_bytes();
        bytes[at..at + 4].copy_from_slice(&crc);
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Puts the checksums of a segment's header, of its late fields and of its frames right, as far as it makes sense.
pub fn put_segment_right(bytes: &mut [u8]) {
    if bytes.len() < HEADER_LEN {
        return;
    }
    bytes[..8].copy_from_slice(b"CHRONLOG");
    put_crc(bytes, 0, 76, 0);
    let salt = u32_at(bytes, 72).unwrap_or(0);
    put_crc(bytes, 80, 88, salt);
    put_crc(bytes, 92, 124, salt);
    let mut at = HEADER_LEN;
    while let Some(commit) = u32_at(bytes, at) {
        let payload = if commit == COMMIT_END { 0 } else { (commit as usize).wrapping_sub(1) };
        let Some(len) = frame_len(payload).filter(|len| at + len <= bytes.len()) else { break };
        let mut crc = crc32fast::Hasher::new_with_initial(salt ^ commit);
        crc.update(&bytes[at + 8..at + FRAME_HEADER_LEN + payload]);
        let crc = crc.finalize().to_le_bytes();
        bytes[at + 4..at + 8].copy_from_slice(&crc);
        at += len;
    }
}

/// Puts the checksums of a WAL segment's frames right, batch by batch, as far as it makes sense.
pub fn put_wal_right(bytes: &mut [u8], header: &chronicle_core::wal::Header) {
    use chronicle_core::wal::layout::{FRAME_HEADER_LEN, FRAME_OVERHEAD};
    let block = header.block_size as usize;
    let mut at = block;
    while at + FRAME_OVERHEAD <= bytes.len() {
        // A frame where one may begin; behind padding, and where none fits, the next block.
        let kind = bytes[at + FRAME_HEADER_LEN - 1];
        let len = u32_at(bytes, at + 8).unwrap_or(0) as usize;
        let end = at + FRAME_HEADER_LEN + len;
        if (1..=6).contains(&kind) && end + 4 <= bytes.len() {
            put_crc(bytes, at, end, header.salt);
            at = end + 4;
        } else {
            at = (at + 1).next_multiple_of(block);
        }
    }
}
