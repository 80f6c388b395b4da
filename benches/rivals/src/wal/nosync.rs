//! Group `wal-nosync`: appends that reach the system, and nobody waits for the device.
//!
//! The floor sums each record and gathers 64 KiB for one `pwrite`, into a file that was written before and is gone round.

use super::{Field, Role, TIME, crowd::Sample, fresh, others, ours};
use crate::contest::{Line, Target};
use std::{
    fs::File,
    hint::black_box,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

const RECORD: [u8; 128] = [0xA5; 128];
/// Appends between two looks at the clock.
const BURST: u64 = 256;

pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let path = dir.join("floor");
    drop(super::bare::prepared(&path)?);
    let file = File::options().write(true).open(&path).map_err(|it| it.to_string())?;
    let mut field = Field::new("wal-nosync", "append without sync, 128 B".to_owned(), "appends/s");
    // As the floor's file, ours is written before, and goes on from round to round.
    let log = ours::open(&dir.join("chronicle"), false)?;
    field.add(Role::Ours, "chronicle", move || {
        let sample = appends(|_| log.append(black_box(&RECORD)))?;
        log.go_round()?;
        Ok(sample)
    });
    field.add(Role::Floor, "bare: CRC, 64 KiB, pwrite", || bare(&file));
    for other in others::OTHERS.iter().filter(|it| it.lazy) {
        let dir = dir.join(other.name);
        field.add(Role::Rival, other.name, move || {
            fresh(&dir, |dir| {
                let log = (other.open)(dir, false)?;
                appends(|nth| log.put(0, nth, black_box(&RECORD)))
            })
        });
    }
    field.run(5)?;
    field.line(Target::Ratio(0.6)).map(&mut *out);
    if let Some(best) = field.best_rival() {
        field
            .beside(best, "beside the best rival:", "appends/s", true, |it| Some(it.rate), Target::Ratio(2.0))
            .map(out);
    }
    Ok(())
}

fn appends(mut append: impl FnMut(u64) -> Result<(), String>) -> Result<Sample, String> {
    let (began, mut count) = (Instant::now(), 0);
    let mut took = Duration::ZERO;
    while took < TIME {
        for nth in count..count + BURST {
            append(nth)?;
        }
        count += BURST;
        took = began.elapsed();
    }
    Ok(Sample::of(count, took, &mut [], None))
}

fn bare(file: &File) -> Result<Sample, String> {
    let (mut buffer, mut at) = (Vec::with_capacity(64 << 10), 0);
    appends(|nth| {
        if buffer.len() + 17 + RECORD.len() > 64 << 10 {
            at = if at + buffer.len() as u64 > super::bare::FILE { 0 } else { at };
            file.write_all_at(&buffer, at).map_err(|it| it.to_string())?;
            at += buffer.len() as u64;
            buffer.clear();
        }
        frame(&mut buffer, nth, black_box(&RECORD));
        Ok(())
    })
}

/// A frame as ours is laid out: what is summed in one go from its beginning to its payload's end.
pub fn frame(buffer: &mut Vec<u8>, seq: u64, record: &[u8]) {
    let from = buffer.len();
    buffer.extend_from_slice(&seq.to_le_bytes());
    buffer.extend_from_slice(&(record.len() as u32).to_le_bytes());
    buffer.push(1);
    buffer.extend_from_slice(record);
    let sum = crc32fast::hash(&buffer[from..]);
    buffer.extend_from_slice(&sum.to_le_bytes());
}
