//! A cold file of any bytes: its tables bound what is read and decompressed, and damage is told.
#![no_main]

use chronicle_fuzz::{choices, put_crc};
use chronicle_platform::{File, Open, Platform, sim::Sim};
use chronicle_storage::{
    archive::{ColdFile, parse_tables},
    inspect::inspect,
};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

/// Puts the checksums of tables and seek table right, where the lengths in them lead to some.
fn put_right(bytes: &mut [u8]) {
    let len = bytes.len();
    let Some(count) = len.checked_sub(9).map(|at| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four")))
    else {
        return;
    };
    let count = count as usize;
    let Some(seek_at) = count.checked_mul(8).and_then(|entries| len.checked_sub(17 + entries)) else { return };
    let Some(tables_at) = count.checked_sub(1).and_then(|blocks| seek_at.checked_sub(84 + 36 * blocks)) else { return };
    let seek_crc = crc32fast::hash(&bytes[seek_at..]).to_le_bytes();
    bytes[tables_at + 72..tables_at + 76].copy_from_slice(&seek_crc);
    put_crc(bytes, tables_at, seek_at - 4, 0);
}

fuzz_target!(|data: &[u8]| {
    let (choice, rest) = choices(data);
    let mut bytes = rest.to_vec();
    if choice & 1 == 1 {
        put_right(&mut bytes);
    }
    let parsed = parse_tables(&bytes, bytes.len() as u64);
    if let Ok(tables) = &parsed {
        let sum: u64 = tables.blocks.iter().map(|block| u64::from(block.len)).sum();
        assert_eq!(sum, tables.source_len);
        // Blocks that claim to be large would only be slow here; that the claim is bounded was just checked.
        if sum > 1 << 20 {
            return;
        }
    }
    let sim = Sim::new(1);
    let path = Path::new("/cold/book.q.zst");
    sim.create_dirs(path.parent().expect("a directory")).expect("a directory");
    let file = sim.open(path, Open::Create).expect("a file");
    file.write_at(&bytes, 0).expect("room");
    let opened = ColdFile::open(&sim, path);
    assert_eq!(opened.is_ok(), parsed.is_ok());
    if let Ok(cold) = opened {
        let mut block = Vec::new();
        for i in 0..cold.blocks().len() {
            if cold.read_block(i, &mut block).is_ok() {
                assert_eq!(block.len(), cold.blocks()[i].len as usize);
            }
            let _ = cold.verify_block(i, &mut block);
        }
        let _ = inspect(&sim, path);
    }
});
