//! Group `wal-recover`: a log of 128-byte records is opened again, every checksum verified.
//!
//! All of it is in the page cache: what is measured is the work, not the disk. The floor maps a file of frames whose
//! lengths it knows and sums each on one thread, and follows nothing; ours and raft-engine read on as many threads as there
//! are cores.

use super::{
    Field, Role,
    crowd::Sample,
    fresh,
    nosync::frame,
    others::{self, Log},
    ours,
};
use crate::{
    Choice,
    contest::{Line, Target},
    machine,
};
use chronicle_platform::{Open, Platform as _};
use chronicle_platform_linux::Linux;
use std::{path::Path, sync::atomic::Ordering, time::Instant};

const LEN: usize = 128;
const MANY: u64 = 4_200_000;
/// Records in one entry, where a log has such.
const ENTRY: usize = 64;

pub fn run(dir: &Path, choice: &Choice, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let count = if choice.full { MANY } else { MANY / 5 };
    let case = format!("{:.2} M records of {LEN} B, checksums verified", count as f64 / 1e6);
    let mut field = Field::new("wal-recover", case, "records/s");
    let of_crate = dir.join("chronicle");
    let log = ours::open(&of_crate, true)?;
    filled(&log, count)?;
    log.close()?;
    let killed = of_crate.clone();
    field.add(Role::Ours, "chronicle", move || {
        let (log, sample) = recovered(&of_crate, count)?;
        log.close()?;
        Ok(sample)
    });
    field.add(Role::Beside, "chronicle, after a kill", move || {
        // Dropped without being closed: to who comes next the same as a killed writer, and it takes over.
        drop(recovered(&killed, count)?);
        let (log, sample) = recovered(&killed, count)?;
        log.close()?;
        Ok(sample)
    });
    let frames = dir.join("frames");
    let mut bytes = Vec::with_capacity(count as usize * (LEN + 17));
    (1..=count).for_each(|seq| frame(&mut bytes, seq, &payload(seq)));
    std::fs::write(&frames, &bytes).map_err(|it| it.to_string())?;
    drop(bytes);
    field.add(Role::Floor, "bare: mmap, CRC", move || bare(&frames, count));
    for other in others::OTHERS.iter().filter(|it| it.log && matches!(it.name, "okaywal" | "raft-engine" | "RocksDB")) {
        let (full, copy) = (dir.join(other.name), dir.join("copy"));
        filled_log(other, &full, count)?;
        if other.name == "raft-engine" {
            let full = full.clone();
            field.add(Role::Rival, "raft-engine", move || {
                let began = Instant::now();
                all(others::raft_engine_open(&full)?, count)?;
                Ok(Sample::of(count, began.elapsed(), &mut [], None))
            });
        }
        let name = if other.name == "raft-engine" { "raft-engine, and its entries" } else { other.name };
        field.add(Role::Rival, name, move || {
            fresh(&copy, |copy| {
                // It may use up what it recovers.
                copied(&full, copy)?;
                let (each, seen) = others::counting();
                let began = Instant::now();
                (other.read)(copy, each)?;
                let took = began.elapsed();
                // ORDERING: Relaxed: the reader has returned.
                all(seen.load(Ordering::Relaxed), count)?;
                Ok(Sample::of(count, took, &mut [], None))
            })
        });
    }
    field.run(3)?;
    field.line(Target::Ratio(0.8)).map(&mut *out);
    field.beside("raft-engine", "beside", "records/s", true, |it| Some(it.rate), Target::Ratio(5.0)).map(out);
    Ok(())
}

fn payload(seq: u64) -> [u8; LEN] {
    let mut record = [seq as u8; LEN];
    record[..8].copy_from_slice(&seq.to_le_bytes());
    record
}

fn filled_log(other: &others::Other, dir: &Path, count: u64) -> Result<(), String> {
    filled(&*(other.open)(dir, false)?, count)
}

fn filled(log: &dyn Log, count: u64) -> Result<(), String> {
    let mut seq = 0;
    while seq < count {
        let some: Vec<[u8; LEN]> = (seq + 1..=count).take(ENTRY).map(payload).collect();
        let slices: Vec<&[u8]> = some.iter().map(|it| &it[..]).collect();
        log.fill(seq, &slices)?;
        seq += some.len() as u64;
    }
    Ok(())
}

fn all(found: u64, count: u64) -> Result<(), String> {
    if found == count { Ok(()) } else { Err(format!("{found} of {count} records came back")) }
}

fn recovered(dir: &Path, count: u64) -> Result<(ours::Ours, Sample), String> {
    let began = Instant::now();
    let (log, found) = ours::recover(dir)?;
    let took = began.elapsed();
    all(found, count)?;
    Ok((log, Sample::of(count, took, &mut [], None)))
}

fn bare(path: &Path, count: u64) -> Result<Sample, String> {
    let trouble = |it: chronicle_platform::Trouble| it.to_string();
    let began = Instant::now();
    let file = Linux.open(path, Open::Read).map_err(trouble)?;
    let map = Linux.map(&file, count as usize * (LEN + 17)).map_err(trouble)?;
    let mut good = 0;
    for frame in machine::still_bytes(&map).chunks_exact(LEN + 17) {
        if let Some((body, sum)) = frame.split_last_chunk::<4>() {
            good += u64::from(crc32fast::hash(body) == u32::from_le_bytes(*sum));
        }
    }
    let took = began.elapsed();
    all(good, count)?;
    Ok(Sample::of(count, took, &mut [], None))
}

/// A directory's files, and those of directories in it.
pub fn copied(from: &Path, to: &Path) -> Result<(), String> {
    let words = |it: std::io::Error| it.to_string();
    std::fs::create_dir_all(to).map_err(words)?;
    for entry in std::fs::read_dir(from).map_err(words)? {
        let entry = entry.map_err(words)?;
        let to = to.join(entry.file_name());
        if entry.file_type().map_err(words)?.is_dir() {
            copied(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to).map_err(words)?;
        }
    }
    Ok(())
}
