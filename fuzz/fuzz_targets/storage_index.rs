//! The index of a cold file: what is accepted tiles file and source without hole or overlap.
#![no_main]

use chronicle_storage::archive::parse_index;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(index) = parse_index(data) else { return };
    let (mut offset, mut compressed_offset) = (0u64, 0u64);
    for (at, compressed_at, compressed_len, len) in index.entries {
        assert_eq!((at, compressed_at), (offset, compressed_offset));
        offset += u64::from(len);
        compressed_offset += u64::from(compressed_len);
    }
});
