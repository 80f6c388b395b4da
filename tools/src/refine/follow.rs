//! `chronicle refine --follow`: the raw stream into partitions as it comes, one follower for each venue.
//!
//! Each has a refiner, with its shards, and reports on it. When to take a checkpoint is decided here, where there is a
//! clock: every few seconds, but never so often that taking them would be most of the work.

use super::Args;
use crate::{
    run::{Count, Failure, Size, line, rfc3339, say, span},
    stop::Stop,
};
use chronicle::{
    System,
    etl::{
        Error,
        refine::{Next, Options, Progress, Refiner},
        report::Report,
    },
    platform::Platform,
    storage::{
        ring::WaitPolicy,
        root::{Name, Root},
    },
};
use hdrhistogram::Histogram;
use std::{
    io::{self, IsTerminal},
    thread,
    time::{Duration, Instant},
};

/// From one checkpoint to the next, at least.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// And so many times as long as the last one took.
const CHECKPOINT_SHARE: u32 = 20;
/// Longest lag that is told apart.
const LAG_NS_MAX: u64 = 1_000_000_000_000;

/// How a follower passes the time until there is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Wait {
    /// Look some 10 µs, then sleep until the writer wakes it.
    Sleep,
    /// Look, and let others run in between.
    Yield,
    /// Look without pause; takes a whole core.
    Spin,
}

impl From<Wait> for WaitPolicy {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Sleep => WaitPolicy::default(),
            Wait::Yield => WaitPolicy::Yield,
            Wait::Spin => WaitPolicy::Spin,
        }
    }
}

/// What a follower did since its last report.
#[derive(serde::Serialize)]
struct Status<'a> {
    venue: &'a Name,
    /// Raw frames taken in since it began.
    frames: u64,
    frames_per_s: f64,
    bytes_per_s: f64,
    /// From a record's receipt until readers of its partition see it: of the first record of each write in the interval.
    /// None if nothing came.
    lag_ns: Option<Lag>,
    /// Since it began.
    checkpoints: u64,
    shards: usize,
    wait: &'static str,
}

#[derive(serde::Serialize)]
struct Lag {
    p50: u64,
    p99: u64,
    max: u64,
}

#[derive(serde::Serialize)]
struct StatusLine<'a> {
    time: String,
    status: Status<'a>,
}

/// Follows every venue until somebody asks it to end; what everything refined so far gave.
pub(super) fn follow(args: &Args, root: &Root, venues: &[Name], options: &Options) -> Result<Report, Failure> {
    let stop = Stop::on_signals().map_err(|error| Failure::Problem(format!("signals: {error}")))?;
    let deadline = args.lasts.map(|lasts| Instant::now() + Duration::from_secs(lasts));
    let mut refiners = Vec::new();
    for venue in venues {
        refiners.push(Refiner::open(&System, root, venue, options.clone())?);
    }
    let follow_one = |refiner: &mut Refiner<System>| -> Result<Report, Error> {
        let mut teller = Teller::new(args, options.shards);
        let result = refiner.follow(args.wait.into(), |progress| {
            let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if stop.asked() || over { Next::Stop } else { teller.told(&progress) }
        });
        if result.is_err() {
            // One venue without its refinery is something to be told at once: the others end too.
            stop.ask();
        }
        result.map(|()| refiner.report())
    };
    let followed = thread::scope(|scope| {
        let threads: Vec<_> = refiners.iter_mut().map(|refiner| scope.spawn(|| follow_one(refiner))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>, Error>>()
    })?;
    let mut report = Report::default();
    for venue in followed {
        report.join(venue);
    }
    report.sort();
    Ok(report)
}

/// Tells what happens, and says when a checkpoint is due.
struct Teller {
    json: bool,
    terminal: bool,
    every: Duration,
    shards: usize,
    wait: Wait,
    lags: Histogram<u64>,
    told: (Instant, u64, u64),
    /// Frames and checkpoints when a checkpoint was last asked for, and when that was.
    asked: Option<Instant>,
    due: Instant,
    in_checkpoint: u64,
}

impl Teller {
    fn new(args: &Args, shards: usize) -> Self {
        let now = Instant::now();
        Self {
            json: args.json,
            terminal: io::stdout().is_terminal() && !args.json,
            every: Duration::from_secs(args.status_every),
            shards,
            wait: args.wait,
            lags: Histogram::new_with_bounds(1, LAG_NS_MAX, 2).expect("bug: these bounds are bounds"),
            told: (now, 0, 0),
            asked: None,
            due: now + CHECKPOINT_EVERY,
            in_checkpoint: 0,
        }
    }

    fn told(&mut self, progress: &Progress<'_>) -> Next {
        let now = Instant::now();
        if let Some((first, _)) = progress.received_ns {
            // A receive time of another clock may lie ahead of ours.
            self.lags.saturating_record(System.now_ns().saturating_sub(first).max(1));
        }
        if now.duration_since(self.told.0) >= self.every {
            self.status(progress, now);
        }
        if let Some(asked) = self.asked.take() {
            self.due = now + CHECKPOINT_EVERY.max(now.duration_since(asked) * CHECKPOINT_SHARE);
        }
        if now < self.due || progress.frames == self.in_checkpoint {
            return Next::GoOn;
        }
        self.in_checkpoint = progress.frames;
        self.asked = Some(now);
        Next::Checkpoint
    }

    fn status(&mut self, progress: &Progress<'_>, now: Instant) {
        let (before, frames, len) = std::mem::replace(&mut self.told, (now, progress.frames, progress.len));
        let seconds = now.duration_since(before).as_secs_f64().max(1e-3);
        let quantile = |q| self.lags.value_at_quantile(q);
        let lag_ns =
            (!self.lags.is_empty()).then(|| Lag { p50: quantile(0.5), p99: quantile(0.99), max: self.lags.max() });
        let status = Status {
            venue: progress.venue,
            frames: progress.frames,
            frames_per_s: (progress.frames - frames) as f64 / seconds,
            bytes_per_s: (progress.len - len) as f64 / seconds,
            lag_ns,
            checkpoints: progress.checkpoints,
            shards: self.shards,
            wait: match self.wait {
                Wait::Sleep => "sleep",
                Wait::Yield => "yield",
                Wait::Spin => "spin",
            },
        };
        self.lags.reset();
        let time = rfc3339(System.now_ns());
        if self.json {
            return line(&StatusLine { time, status });
        }
        let lag = status.lag_ns.as_ref().map_or_else(
            || "nothing came".to_owned(),
            |lag| format!("lag {} p50, {} at most", span(lag.p50), span(lag.max)),
        );
        let text = format!(
            "{}: {} frames, {}/s, {}/s, {lag}, {} checkpoints",
            status.venue,
            Count(status.frames),
            Count(status.frames_per_s as u64),
            Size(status.bytes_per_s as u64),
            Count(status.checkpoints),
        );
        // One line that is written again on a terminal; lines elsewhere.
        say(&if self.terminal { format!("\r\x1b[K{text}") } else { format!("{time}  {text}\n") });
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if self.terminal {
            say("\n");
        }
    }
}
