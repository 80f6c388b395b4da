//! The log under test, as this process opens and reads it.

use crate::writer::Job;
use chronicle_platform::WalWay;
use chronicle_platform_linux::Linux;
use chronicle_storage::{
    Error,
    wal::{Options, ReaderOptions, Recovery, SegmentState, Threads, Wal, WalReader, inspect},
};
use std::path::Path;

/// The options that a job stands for.
///
/// # Errors
///
/// A word that is none.
pub fn options(job: &Job) -> Result<Options, String> {
    Ok(Options {
        way: match job.way {
            "auto" => WalWay::Auto,
            "uring" => WalWay::Uring,
            "direct" => WalWay::Direct,
            "buffered" => WalWay::Buffered,
            other => return Err(format!("no way is called {other}")),
        },
        threads: match job.threads {
            "own" => Threads::Own,
            "callers" => Threads::Callers,
            "one" => Threads::One,
            other => return Err(format!("threads are own, callers or one, not {other}")),
        },
        segment_len: job.segment_len,
        batch_len: job.batch_len,
        depth: job.depth,
        retain_bytes: (job.retain_bytes != 0).then_some(job.retain_bytes),
        ..Options::default()
    })
}

/// Opens the log, which is recovered by that, and leaves it as a crash would.
///
/// # Errors
///
/// As [`Wal::open`].
pub fn recover(dir: &Path, job: &Job) -> Result<Recovery, Error> {
    let options = options(job).expect("a job of ours");
    Wal::open(&Linux, dir, &options).map(|(_, recovery)| recovery)
}

/// All records that are durable, as a reader of another process finds them.
///
/// # Errors
///
/// The reader's.
pub fn read(dir: &Path) -> Result<Vec<(u64, Vec<u8>)>, String> {
    let mut reader =
        WalReader::open(&Linux, dir, 0, ReaderOptions::default()).map_err(|error| format!("{error}: {error:?}"))?;
    let mut records = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(record)) => records.push((record.seq, record.payload.to_vec())),
            Ok(None) => return Ok(records),
            Err(error) => return Err(format!("behind record {}: {error}: {error:?}", records.len())),
        }
    }
}

/// Length of the segments that the log holds: what `retain_bytes` is counted in, whatever there is of records in them.
///
/// # Errors
///
/// As [`inspect`].
pub fn segment_bytes(dir: &Path) -> Result<u64, String> {
    let log = inspect(&Linux, dir).map_err(|error| format!("{error}: {error:?}"))?;
    Ok(log.segments.iter().filter(|segment| segment.state != SegmentState::Dead).map(|s| s.file_bytes).sum())
}
