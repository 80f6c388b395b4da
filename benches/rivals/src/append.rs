//! Group `append`: one frame of 64 bytes into memory that is there already.
//!
//! The floor is what nobody can leave out: the copy, and the Release that makes it visible. Beside it a segment keeps
//! its promises: a header with seq, time and kind, room checked, an open word ahead, and with CRC a sum over all of it.

use crate::{
    contest::{Contest, Line, Target},
    machine,
};
use chronicle_core::{Append, Appender, Checksum, Spec, format};
use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

/// Times that a segment is written from end to end in one round: whatever ran before leaves it cold for the first.
const PASSES: u64 = 10;
/// Appends to time in one round of a rival.
const RIVAL_APPENDS: u64 = 20_000;

pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    for mib in [4, 64] {
        for checksum in [Checksum::CommitWord, Checksum::Frame] {
            out(segment(dir, mib << 20, checksum)?.run(if mib > 4 { 9 } else { 25 })?);
        }
    }
    Ok(())
}

fn segment(dir: &Path, len: usize, checksum: Checksum) -> Result<Contest<'static>, String> {
    let summed = checksum == Checksum::Frame;
    let ours = machine::warm_file(&dir.join(format!("ours-{len}-{summed}")), len)?;
    let floor = machine::warm_file(&dir.join(format!("floor-{len}-{summed}")), len)?;
    let payload = [7_u8; 64];
    let spec = Spec { segment_len: len as u32, checksum, salt: 5, ..Spec::default() };
    let what = if summed { "CRC" } else { "commit word" };
    let rivals = if len == 4 << 20 && !summed { rivals(dir) } else { Vec::new() };
    Ok(Contest {
        group: "append",
        case: format!("64 B, {what}, warm tmpfs segment of {} MiB", len >> 20),
        unit: "ns",
        higher_is_better: false,
        ours: Box::new(move || {
            let (mut took, mut count) = (Duration::ZERO, 0);
            for _ in 0..passes(len) {
                format(&ours, &spec).map_err(|it| it.to_string())?;
                let mut log = Appender::attach(&ours).map_err(|it| it.to_string())?;
                let began = Instant::now();
                while log.append(Append { time_ns: count, type_id: 1, flags: 0 }, black_box(&payload[..])).is_ok() {
                    count += 1;
                }
                took += began.elapsed();
            }
            Ok(each(took, count))
        }),
        floor: Some(if summed {
            (
                "copy, crc32fast, Release",
                Box::new(move || {
                    timed(|| (0..passes(len)).map(|_| machine::copy_sum_and_release(&floor, &payload)).sum())
                }),
            )
        } else {
            (
                "copy, Release",
                Box::new(move || timed(|| (0..passes(len)).map(|_| machine::copy_and_release(&floor, &payload)).sum())),
            )
        }),
        rivals,
        target: Target::Ratio(if summed { 1.1 } else { 1.5 }),
    })
}

fn passes(len: usize) -> u64 {
    if len > 4 << 20 { 2 } else { PASSES }
}

fn each(time: Duration, count: u64) -> f64 {
    time.as_nanos() as f64 / count as f64
}

fn timed(work: impl FnOnce() -> u64) -> Result<f64, String> {
    let began = Instant::now();
    let count = work();
    Ok(each(began.elapsed(), count))
}

fn rivals(dir: &Path) -> Vec<(&'static str, crate::contest::Measure<'static>)> {
    let (kekbit_dir, commitlog_dir, queue_dir) = (dir.join("kekbit"), dir.join("commitlog"), dir.join("queue-file"));
    // On their own ground these do more (queue-file removes from the front, commitlog keeps an index) or less; none of
    // them has a writer without system calls and a reader in another process at once.
    vec![
        ("kekbit, new pages", Box::new(move || fresh(&kekbit_dir, kekbit))),
        ("commitlog", Box::new(move || fresh(&commitlog_dir, commitlog))),
        ("queue-file, no sync", Box::new(move || fresh(&queue_dir, queue_file))),
    ]
}

/// Runs in an empty directory and leaves none.
fn fresh(dir: &Path, measure: impl FnOnce(&Path) -> Result<f64, String>) -> Result<f64, String> {
    std::fs::create_dir_all(dir).map_err(|it| it.to_string())?;
    let figure = measure(dir);
    std::fs::remove_dir_all(dir).map_err(|it| it.to_string())?;
    figure
}

fn kekbit(dir: &Path) -> Result<f64, String> {
    use kekbit::{
        api::{EncoderHandler, Writer},
        core::{Metadata, TickUnit, shm_writer},
    };
    // A channel is written once from end to end and never again, so its pages are always new ones: the name says so.
    let metadata = Metadata::new(1, 2, 8 << 20, 128, u64::MAX / 2, TickUnit::Nanos);
    let mut writer = shm_writer(dir, &metadata, EncoderHandler::default()).map_err(|it| format!("{it:?}"))?;
    let payload = [7_u8; 64];
    timed_result(|| {
        for _ in 0..RIVAL_APPENDS {
            writer.write(black_box(&payload)).map_err(|it| format!("{it:?}"))?;
        }
        Ok(RIVAL_APPENDS)
    })
}

fn commitlog(dir: &Path) -> Result<f64, String> {
    let mut log = commitlog::CommitLog::new(commitlog::LogOptions::new(dir)).map_err(|it| it.to_string())?;
    let payload = [7_u8; 64];
    timed_result(|| {
        for _ in 0..RIVAL_APPENDS {
            log.append_msg(black_box(&payload)).map_err(|it| it.to_string())?;
        }
        Ok(RIVAL_APPENDS)
    })
}

fn queue_file(dir: &Path) -> Result<f64, String> {
    let mut queue = queue_file::QueueFile::with_capacity(dir.join("queue"), 8 << 20).map_err(|it| it.to_string())?;
    queue.set_sync_writes(false);
    let payload = [7_u8; 64];
    timed_result(|| {
        for _ in 0..RIVAL_APPENDS {
            queue.add(black_box(&payload)).map_err(|it| it.to_string())?;
        }
        Ok(RIVAL_APPENDS)
    })
}

fn timed_result(work: impl FnOnce() -> Result<u64, String>) -> Result<f64, String> {
    let began = Instant::now();
    let count = work()?;
    Ok(each(began.elapsed(), count))
}
