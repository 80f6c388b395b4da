//! `chronicle wal bench`: commits a second, and how long each takes, against what the disk allows.

use super::floor::Floor;
use crate::run::{Count, Failure, Outcome, must_be_directory, print_json, with_stdout};
use chronicle::{
    System,
    platform::{Platform, WalOptions, WalWay},
    storage::wal::{Options, Threads, Wal},
};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// Measure durable commits in a directory, against the disk's floor in the same run
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle wal bench /var/lib/app/bench
  chronicle wal bench /var/lib/app/bench --way buffered --seconds 2
  chronicle wal bench /var/lib/app/bench --async --json

Each row: so many threads commit a record, wait until it is durable, and commit the next. The floor is one leader that
writes bare records for all of them, with the same driver and as many writes in flight, into a file that was written before;
log and floor take turns. With --async one thread keeps 64 records on their way and waits for none. A directory that is not
there is made, and removed again.")]
pub(crate) struct Args {
    /// Where: a directory on the disk that is to be measured
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// How long each contender commits in each row
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    seconds: f64,
    /// How bytes go to the device: auto, uring, direct or buffered
    #[arg(long, value_name = "WAY", default_value = "auto", value_parser = parse_way)]
    way: WalWay,
    /// Writes in flight, 1 to 8; 0: what suits the way
    #[arg(long, value_name = "N", default_value_t = 0)]
    depth: u8,
    /// The rows without waiting too
    #[arg(long = "async")]
    asynchronous: bool,
    /// One JSON object a row: {committers, record_bytes, commits_per_s, p50_us, p99_us, floor_commits_per_s, driver, …}
    #[arg(long)]
    json: bool,
}

fn parse_way(text: &str) -> Result<WalWay, String> {
    [WalWay::Auto, WalWay::Uring, WalWay::Direct, WalWay::Buffered]
        .into_iter()
        .find(|way| way.to_string() == text)
        .ok_or_else(|| "one of auto, uring, direct, buffered".to_owned())
}

const COMMITTERS: [usize; 3] = [1, 8, 64];
const RECORDS: [usize; 2] = [128, 1024];
/// Records on their way in an asynchronous row.
const OUTSTANDING: usize = 64;
/// Turns that log and floor take in a row; the median counts.
const TURNS: usize = 3;

#[derive(Clone, Copy, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Wait {
    Blocking,
    Async,
}

#[derive(serde::Serialize)]
struct Row {
    wait: Wait,
    committers: usize,
    record_bytes: usize,
    commits_per_s: f64,
    /// Of a commit, from call to return; none where nobody waits.
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    floor_commits_per_s: f64,
    /// Of the floor.
    ratio: f64,
    /// Records in a batch, on average.
    records_per_batch: f64,
    driver: &'static str,
    way: String,
    depth: u8,
    durable: bool,
    cores: usize,
}

pub(crate) fn run(args: Args) -> Outcome {
    must_be_directory(&args.dir)?;
    if !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        return Err(Failure::Usage(format!("--seconds {}: not more than 0 and at most 3600", args.seconds)));
    }
    // What was not there goes again, and so does what is made in it.
    let made = args.dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).last();
    let made = made.map(Path::to_path_buf);
    let outcome = System.create_dirs(&args.dir).map_err(Failure::from).and_then(|()| {
        let scratch = tempfile::Builder::new().prefix("wal-bench-").tempdir_in(&args.dir)?;
        measure(&args, scratch.path())
    });
    if let Some(made) = made {
        // Empty but for what others may have put there meanwhile.
        let mut dir = Some(args.dir.as_path());
        while let Some(here) = dir
            && here.starts_with(&made)
            && std::fs::remove_dir(here).is_ok()
        {
            dir = here.parent();
        }
    }
    outcome
}

fn measure(args: &Args, scratch: &Path) -> Outcome {
    let options = Options { way: args.way, depth: args.depth, ..Options::default() };
    let mut cases: Vec<(Wait, usize, usize)> = Vec::new();
    for committers in COMMITTERS {
        cases.extend(RECORDS.map(|record| (Wait::Blocking, committers, record)));
    }
    if args.asynchronous {
        cases.extend(RECORDS.map(|record| (Wait::Async, 1, record)));
    }
    let bar = ProgressBar::new(cases.len() as u64);
    if args.json {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{msg:<24!} [{bar:32}] row {pos} of {len}, {eta} left") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message("wal bench");
    let mut rows = Vec::new();
    for (wait, committers, record) in cases {
        let dir = scratch.join(format!("{}-{record}", committers + rows.len() * 100));
        std::fs::create_dir(&dir)?;
        let row = one(&dir, &options, wait, committers, &vec![b'x'; record], Duration::from_secs_f64(args.seconds))?;
        std::fs::remove_dir_all(&dir)?;
        if args.json {
            print_json(&row)?;
        }
        rows.push(row);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if args.json { Ok(()) } else { with_stdout(|out| table(out, &rows)) }
}

/// What one turn gave.
struct Turn {
    rate: f64,
    waits: Histogram<u64>,
}

fn one(
    dir: &Path,
    options: &Options,
    wait: Wait,
    committers: usize,
    record: &[u8],
    time: Duration,
) -> Result<Row, Failure> {
    let threads = match wait {
        Wait::Blocking => Threads::Own,
        Wait::Async => Threads::Callers,
    };
    let options = Options { threads, ..options.clone() };
    let (wal, _) = Wal::open(&System, dir.join("wal"), &options)?;
    let mode = wal.mode();
    // The way that the log settled on, so that both use the same.
    let floor = Floor::new(
        dir,
        &WalOptions { way: mode.way, depth: wal.depth(), block_size: options.block_size, ..WalOptions::default() },
    )?;
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    let slice = time / TURNS as u32;
    for _ in 0..TURNS {
        match wait {
            Wait::Blocking => {
                let before = wal.durable();
                ours.push(crowd(committers, slice, || {
                    let seq = wal.append(record)?;
                    Ok(wal.commit(seq)?)
                })?);
                // What was counted is what the log says is durable.
                debug_assert!(wal.durable() > before);
                floors.push(
                    crowd(committers, slice, || floor.commit(record).map_err(|trouble| Failure::from(&*trouble)))?.rate,
                );
            }
            Wait::Async => {
                ours.push(several(&wal, record, slice)?);
                let began = Instant::now();
                let count = floor.several(record, OUTSTANDING, slice).map_err(|trouble| Failure::from(&*trouble))?;
                floors.push(count as f64 / began.elapsed().as_secs_f64());
            }
        }
        // Nobody needs what is behind.
        wal.truncate_before(wal.durable());
    }
    ours.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    floors.sort_by(f64::total_cmp);
    let floor_commits_per_s = floors[TURNS / 2];
    let middle = &ours[TURNS / 2];
    let stats = wal.stats();
    let us = |at: f64| (!middle.waits.is_empty()).then(|| middle.waits.value_at_quantile(at) as f64 / 1e3);
    let row = Row {
        wait,
        committers,
        record_bytes: record.len(),
        commits_per_s: middle.rate,
        p50_us: us(0.5),
        p99_us: us(0.99),
        floor_commits_per_s,
        ratio: middle.rate / floor_commits_per_s,
        records_per_batch: stats.frames_per_batch(),
        driver: mode.driver,
        way: mode.way.to_string(),
        depth: wal.depth(),
        durable: mode.durable,
        cores: System.processors()?.len(),
    };
    wal.close()?;
    Ok(row)
}

/// Lets threads commit for so long.
fn crowd(committers: usize, time: Duration, commit: impl Fn() -> Result<(), Failure> + Sync) -> Result<Turn, Failure> {
    let (stop, start) = (AtomicBool::new(false), Barrier::new(committers + 1));
    let one = || -> Result<(Histogram<u64>, Instant), Failure> {
        let mut waits = histogram();
        start.wait();
        let mut before = Instant::now();
        // ORDERING: Relaxed: a hint to end.
        while !stop.load(Ordering::Relaxed) {
            commit()?;
            let now = Instant::now();
            waits.saturating_record(now.duration_since(before).as_nanos() as u64);
            before = now;
        }
        Ok((waits, before))
    };
    std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..committers)
            .map(|_| std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, one))
            .collect::<Result<_, _>>()?;
        let began = Instant::now();
        start.wait();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let (mut waits, mut last) = (histogram(), began);
        for committer in crowd {
            match committer.join() {
                Ok(result) => {
                    let (its, ended) = result?;
                    waits.add(its).map_err(|error| Failure::Problem(error.to_string()))?;
                    last = last.max(ended);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(Turn { rate: waits.len() as f64 / last.duration_since(began).as_secs_f64(), waits })
    })
}

/// Keeps records on their way from this thread alone, for so long.
fn several(wal: &Wal<System>, record: &[u8], time: Duration) -> Result<Turn, Failure> {
    let first = wal.durable();
    let mut appended = first;
    let began = Instant::now();
    while began.elapsed() < time {
        while appended - wal.durable() < OUTSTANDING as u64 {
            appended = wal.append(record)?;
        }
        // Asked for once, all of them are written; then it is this thread that takes in what has ended.
        let commit = std::pin::pin!(wal.commit_async(appended));
        if let Poll::Ready(result) = commit.poll(&mut Context::from_waker(Waker::noop())) {
            result?;
        }
        wal.drive_waiting();
    }
    let count = wal.durable() - first;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    wal.commit(appended)?;
    Ok(Turn { rate, waits: histogram() })
}

fn histogram() -> Histogram<u64> {
    // From a microsecond to a minute, to three figures.
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("bug: the bounds are in order")
}

fn table(out: &mut dyn std::io::Write, rows: &[Row]) -> Outcome {
    let Some(first) = rows.first() else { return Ok(()) };
    let mut cells = vec![
        ["committers", "record", "commits/s", "p50 us", "p99 us", "floor/s", "of floor", "records/batch"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for row in rows {
        let us = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time:.0}"));
        cells.push(vec![
            match row.wait {
                Wait::Blocking => row.committers.to_string(),
                Wait::Async => format!("async, {OUTSTANDING} under way"),
            },
            format!("{} B", row.record_bytes),
            Count(row.commits_per_s as u64).to_string(),
            us(row.p50_us),
            us(row.p99_us),
            Count(row.floor_commits_per_s as u64).to_string(),
            format!("{:.2}", row.ratio),
            format!("{:.1}", row.records_per_batch),
        ]);
    }
    crate::inspect::table(out, &cells, |column| column > 0, "")?;
    writeln!(
        out,
        "{}, {} at most in flight, {} cores; blocked committers sleep{}",
        first.driver,
        first.depth,
        first.cores,
        if first.durable { "" } else { "; nothing here is durable: the directory lies in memory" }
    )?;
    Ok(())
}
