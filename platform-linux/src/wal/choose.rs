//! Which way: what was asked for, what works here, what a measurement says.
//!
//! ```text
//! uring ──refused──▶ direct ──refused──▶ buffered          each step with its reason, in `WalMode::why`
//! auto: measured, if a directory was given for it; else
//!       one or two in flight → direct  who submits waits anyway, and the flush waits for no thread of the kernel's
//!       more, or one thread  → uring   to have several in flight, or to do something else meanwhile
//! ```

use super::{
    Way,
    calls::Calls,
    segment::try_direct,
    uring::{Ring, why_refused},
};
use crate::{LinuxFile, LinuxMapMut, file, lease, memory};
use chronicle_core::wal::{Op, OpId, Outcome, SyncBy};
use chronicle_platform::{File, Medium, MemoryOptions, Open, Result, Trouble, WalMode, WalOptions, WalWay};
use rustix::io::Errno;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

pub(super) fn choose(memory: Arc<LinuxMapMut>, lock: &LinuxFile, options: &WalOptions) -> Result<(Way, WalMode)> {
    let mut why = Vec::new();
    let mut measured = Vec::new();
    let asked = match options.way {
        WalWay::Auto => {
            if let Some(dir) = &options.measure {
                match measure(dir, options) {
                    Ok(figures) => measured = figures,
                    Err(trouble) => why.push(format!("nothing was measured: {}", with_source(&trouble))),
                }
            }
            let fastest = measured.iter().min_by_key(|(_, time)| *time);
            let unmeasured = if options.depth > 2 || options.one_thread { WalWay::Uring } else { WalWay::Direct };
            fastest.map_or(unmeasured, |(way, _)| *way)
        }
        way => way,
    };
    let (way, driver, got) = make(asked, memory, lock, options, &mut why);
    let durable = file::medium(lock.path())? == Medium::Disk;
    if !durable {
        why.push("the log lies in memory".to_owned());
    }
    let mode = WalMode {
        way: got,
        driver,
        direct: got != WalWay::Buffered,
        sync: if got == WalWay::Buffered { SyncBy::Op } else { SyncBy::Write },
        ends_in_submit: got != WalWay::Uring,
        durable,
        why: (!why.is_empty()).then(|| why.join("; ")),
        measured,
    };
    Ok((way, mode))
}

/// The way asked for, or the next best one.
fn make(
    asked: WalWay,
    memory: Arc<LinuxMapMut>,
    lock: &LinuxFile,
    options: &WalOptions,
    why: &mut Vec<String>,
) -> (Way, &'static str, WalWay) {
    let direct = match asked {
        WalWay::Buffered => false,
        _ => match try_direct(lock, options.block_size) {
            Ok(()) => true,
            Err(reason) => {
                why.push(reason);
                false
            }
        },
    };
    if direct && asked == WalWay::Uring {
        match Ring::new(memory.clone(), lock, options, why) {
            Ok(ring) => return (Way::Ring(Box::new(ring)), "io_uring", WalWay::Uring),
            Err(trouble) => why.push(why_refused(&trouble)),
        }
    }
    let calls = Way::Calls(Calls::new(memory, options, direct));
    if direct { (calls, "pwritev2", WalWay::Direct) } else { (calls, "pwritev2 and fdatasync", WalWay::Buffered) }
}

/// A trouble with what the system said, on one line.
pub(super) fn with_source(trouble: &Trouble) -> String {
    match std::error::Error::source(trouble) {
        Some(source) => format!("{trouble}: {source}"),
        None => trouble.to_string(),
    }
}

/// Blocks of the scratch file; a turn of the measurement writes each once.
const BLOCKS: usize = 32;

/// How long one durable write of a block takes in each way that works, on a scratch file in `dir`, with as many in flight
/// as the log will have.
///
/// The ways take turns, and the best turn of each counts: what else the machine does meanwhile only adds to one.
fn measure(dir: &Path, options: &WalOptions) -> Result<Vec<(WalWay, Duration)>> {
    const TURNS: usize = 3;
    let scratch = Scratch::new(dir, options)?;
    let mut ways = Vec::new();
    for asked in [WalWay::Uring, WalWay::Direct, WalWay::Buffered] {
        let map = memory::make(scratch.block * scratch.depth, &MemoryOptions::default())?.map;
        let (way, _, got) = make(asked, Arc::new(map), &scratch.file, options, &mut Vec::new());
        if got == asked {
            way.attach(1, &scratch.path)?;
            ways.push((way, got, Duration::MAX));
        }
    }
    for _ in 0..TURNS {
        for (way, got, best) in &mut ways {
            *best = scratch.turn(way, *got != WalWay::Buffered)?.min(*best);
        }
    }
    Ok(ways.into_iter().map(|(_, got, best)| (got, best)).collect())
}

/// A file that is removed again.
struct Scratch {
    file: LinuxFile,
    path: PathBuf,
    block: usize,
    depth: usize,
}

impl Scratch {
    fn new(dir: &Path, options: &WalOptions) -> Result<Scratch> {
        let path = dir.join(format!("measure-{:032x}.tmp", lease::random()));
        let file = file::open(&path, Open::Create)?;
        let depth = usize::from(options.depth.max(1));
        let scratch = Scratch { file, path, block: options.block_size as usize, depth };
        let len = (BLOCKS * scratch.block) as u64;
        scratch.file.allocate(len)?;
        scratch.file.fill(0, len)?;
        scratch.file.sync()?;
        Ok(scratch)
    }

    /// Time for each of some durable writes; fewer where they take longer than a tenth of a second together.
    fn turn(&self, way: &Way, sync: bool) -> Result<Duration> {
        let began = Instant::now();
        let mut written = 0_usize;
        let mut in_flight = 0;
        while written < BLOCKS && began.elapsed() < Duration::from_millis(100) {
            let op = OpId::from_number(written as u32);
            let (offset, from) = ((written * self.block) as u64, written % self.depth * self.block);
            way.submit(&Op::Write { op, segment: 1, offset, from, len: self.block as u32, sync })?;
            written += 1;
            in_flight += 1;
            if !sync {
                in_flight -= self.reap(way)?;
                way.submit(&Op::Sync { op, segment: 1 })?;
                in_flight += 1;
            }
            if in_flight >= self.depth {
                in_flight -= self.reap(way)?;
            }
        }
        while in_flight > 0 {
            in_flight -= self.reap(way)?;
        }
        Ok(began.elapsed() / written as u32)
    }

    fn reap(&self, way: &Way) -> Result<usize> {
        let mut failed = None;
        let count = way.reap(true, &mut |_, outcome| {
            if let Outcome::Failed(errno) = outcome {
                failed = Some(Errno::from_raw_os_error(errno));
            }
        })?;
        failed.map_or(Ok(count), |errno| Err(Trouble::new("measure", &*self.path, errno)))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is found by its name.
        _ = file::remove(&self.path);
    }
}
