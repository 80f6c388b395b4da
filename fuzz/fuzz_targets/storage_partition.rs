//! A partition of any bytes, growing or sealed: reading it ends, and what is read had its checksum.
#![no_main]

use chronicle_fuzz::{choices, put_segment_right};
use chronicle_platform::{File, Open, Platform, sim::Sim};
use chronicle_storage::{inspect::inspect, partition::PartitionFile, verify::verify};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    let (choice, rest) = choices(data);
    let mut bytes = rest.to_vec();
    if choice & 1 == 1 {
        put_segment_right(&mut bytes);
    }
    let sim = Sim::new(1);
    let path = Path::new("/book.q");
    let file = sim.open(path, Open::Create).expect("a file");
    file.write_at(&bytes, 0).expect("room");
    if let Ok(mut partition) = PartitionFile::open(&sim, path) {
        if choice & 2 == 2 {
            partition.require(bytes.len() as u64 / 2);
        }
        let mut frames = 0;
        while let Ok(Some(frame)) = partition.next() {
            assert!(frame.payload.len() <= bytes.len());
            frames += 1;
            assert!(frames <= bytes.len() / 32);
        }
        let _ = partition.tail();
    }
    let _ = inspect(&sim, path);
    let _ = verify(&sim, path);
});
