//! `chronicle demo`: the whole way of a record, by real processes, proven at its end.
//!
//! ```text
//! feed ──▶ raw queue ──▶ strategy "fast", strategy "slow"
//!             │
//!             └─▶ refinery (killed once, started again) ──▶ tier manager ──▶ check
//! ```
//!
//! Each arrow is a process boundary; each process is this binary again (`demo-part`). This file starts them, shows
//! what they do, and prints what `check` found in the files. It judges nothing itself but who was killed how often.

mod check;
mod feed;
mod refinery;
mod strategy;
mod table;
mod tier;
mod worker;

use crate::{
    ingest::Input,
    run::{Failure, Outcome, Size, TierArgs, must_be_directory, print_json},
};
use chronicle::{
    System,
    feed::Venue,
    platform::{Medium, Platform},
    storage::root::Root,
};
use clap::Subcommand;
use hdrhistogram::Histogram;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use worker::Crew;

/// The recording that comes with the command; `testdata/README.md` has its origin and licence.
const EXCERPT: &[u8] = include_bytes!("../../testdata/binance-spot/ethusdt-20240808-excerpt.gz");
const EXCERPT_NAME: &str = "ethusdt-20240808-excerpt.gz";

/// Play a recording through the whole system and prove what came out
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle demo
  chronicle demo --input btcusdt_20240808.gz --venue binance-usdm --seconds 0
  chronicle demo --keep market && chronicle book --root market --venue binance-spot --symbol ethusdt --at latest

Exit code 0 if every check holds, 1 if one does not.")]
pub(crate) struct Args {
    /// A recording of your own; needs --venue
    #[arg(long, value_name = "FILE", requires = "venue")]
    input: Option<PathBuf>,
    /// Whose messages it holds
    #[arg(long, requires = "input")]
    venue: Option<Venue>,
    /// Play it in about so many seconds; 0 is full speed
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Leave the root in this directory, which must be empty or not exist
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// One JSON object: {ok, events, replay, books, latency_ns, bytes, import_events_per_s, refine_events_per_s, seconds, killed, …}
    #[arg(long)]
    json: bool,
    /// For the tests: a fault that the checks must find
    #[arg(long, hide = true)]
    sabotage: Option<Sabotage>,
}

/// Faults that turn a verdict false; without them a check might not be able to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sabotage {
    /// The feed leaves out one record.
    DropRecord,
    /// A byte of a cold file is changed before the check.
    FlipByte,
    /// The refinery is killed twice.
    KillTwice,
}

#[derive(Subcommand)]
pub(crate) enum Part {
    /// Plays the recording into the raw queue.
    Feed(feed::Args),
    /// Reads the raw queue live.
    Strategy(strategy::Args),
    /// Refines until told to finish.
    Refinery(refinery::Args),
    /// Moves everything to the cold tier.
    Tier(tier::Args),
    /// Compares what is on disk with the recording.
    Check(check::Args),
}

pub(crate) fn part(part: Part) -> Outcome {
    match part {
        Part::Feed(args) => feed::run(args),
        Part::Strategy(args) => strategy::run(args),
        Part::Refinery(args) => refinery::run(args),
        Part::Tier(args) => tier::run(args),
        Part::Check(args) => check::run(args),
    }
}

/// Where every part finds the root and the recording.
#[derive(clap::Args, Clone)]
pub(crate) struct Place {
    #[arg(long)]
    root: PathBuf,
    #[command(flatten)]
    tiers: TierArgs,
    #[arg(long)]
    venue: Venue,
    #[arg(long)]
    input: PathBuf,
    /// The name under which the recording is reported.
    #[arg(long)]
    name: String,
    /// Where strategies and the feed leave their times.
    #[arg(long)]
    scratch: PathBuf,
}

impl Place {
    pub(crate) fn root(&self) -> Root {
        self.tiers.apply(Root::new(&self.root))
    }

    fn arguments(&self) -> Vec<std::ffi::OsString> {
        let mut out: Vec<std::ffi::OsString> = Vec::new();
        let mut pair = |flag: &str, value: &std::ffi::OsStr| out.extend([flag.into(), value.to_owned()]);
        pair("--root", self.root.as_os_str());
        if let Some(hot) = &self.tiers.hot {
            pair("--hot", hot.as_os_str());
        }
        pair("--venue", self.venue.name().as_ref());
        pair("--input", self.input.as_os_str());
        pair("--name", self.name.as_ref());
        pair("--scratch", self.scratch.as_os_str());
        out
    }
}

/// What the demo prints with `--json`.
#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) ok: bool,
    pub(crate) events: u64,
    pub(crate) replay: String,
    pub(crate) books: check::Books,
    pub(crate) verified: check::Verified,
    pub(crate) latency_ns: Latency,
    pub(crate) bytes: check::Bytes,
    pub(crate) import_events_per_s: f64,
    pub(crate) import_mb_per_s: f64,
    pub(crate) refine_events_per_s: f64,
    pub(crate) refined_again: check::Again,
    /// Records that the last refinery took in.
    pub(crate) refined_live: u64,
    /// Records that were taken in again, because no checkpoint had them when the refinery was killed.
    pub(crate) refined_twice: Option<u64>,
    pub(crate) seconds: f64,
    pub(crate) killed: Vec<Killed>,
    pub(crate) strategies: Vec<strategy::Told>,
    pub(crate) input: String,
    pub(crate) hot: String,
    pub(crate) wait: String,
    pub(crate) cores: usize,
    pub(crate) problems: Vec<String>,
    /// What was wrong with the recording: what is whole in it was played and compared.
    pub(crate) notes: Vec<String>,
}

/// From the feed's call to `append` to the fast strategy's hands.
#[derive(Serialize, Default)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

#[derive(Serialize, Clone, Deserialize)]
pub(crate) struct Killed {
    pub(crate) pid: u32,
    pub(crate) phase: String,
}

/// What was hit.
struct Kill {
    pid: u32,
    /// Records that it had taken in, in the middle of its work; `None`: it had all and waited for more.
    at: Option<u64>,
    feed_has_ended: bool,
}

impl Kill {
    fn told(&self, appended: u64) -> Killed {
        let phase = match self.at {
            Some(at) => {
                let feed = if self.feed_has_ended { "the feed had ended" } else { "the feed was playing" };
                format!("while it refined, {at} of {appended} records in; {feed}")
            }
            None => format!("while it waited for more, all {appended} records in"),
        };
        Killed { pid: self.pid, phase }
    }
}

pub(crate) fn run(args: Args) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    // A second handler in one process is impossible here: the demo installs the only one.
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
    let began = Instant::now();
    let system = System;
    let scratch = tempfile::Builder::new().prefix(&prefix()).tempdir()?;
    let with_room = |failure| match failure {
        Failure::Problem(text) => Failure::Problem(text + &little_room(&system, &args, scratch.path())),
        usage => usage,
    };
    let (place, lines) = set_up(&args, &system, scratch.path()).map_err(with_room)?;
    let hot = Hot::choose(&args, &system, scratch.path())?;
    let place = Place { tiers: TierArgs { hot: hot.dir(), ..TierArgs::default() }, ..place };
    let screen = Screen::new(args.json);
    let summary = play(&args, &place, lines, &hot, &screen, &stop, began);
    screen.clear();
    let summary = match summary {
        Err(Failure::Problem(_)) if stop.load(Ordering::Relaxed) => {
            return Err(Failure::Problem("stopped; nothing was left behind".to_owned()));
        }
        other => other.map_err(with_room)?,
    };
    if args.json {
        print_json(&summary)?;
    } else {
        table::print(&summary, args.keep.as_deref())?;
    }
    if summary.ok { Ok(()) } else { Err(Failure::told()) }
}

/// Directories say which demo made them, for who finds one that was killed.
fn prefix() -> String {
    format!("chronicle-demo-{}-", std::process::id())
}

/// The place, and how many lines its recording has.
fn set_up(args: &Args, system: &System, scratch: &Path) -> Result<(Place, u64), Failure> {
    let root = match &args.keep {
        None => scratch.join("root"),
        Some(dir) => {
            must_be_directory(dir)?;
            if dir.is_dir() && std::fs::read_dir(dir)?.next().is_some() {
                return Err(Failure::Usage(format!(
                    "{}: is not empty; --keep wants a directory of its own",
                    dir.display()
                )));
            }
            dir.clone()
        }
    };
    let root = std::path::absolute(root)?;
    system.create_dirs(&root)?;
    // Standard input is gone once read, and the recording is read by two processes.
    let copy = scratch.join("input");
    let copied = |result: std::io::Result<()>| {
        result.map_err(|error| Failure::Problem(format!("{}: the recording cannot be copied: {error}", copy.display())))
    };
    let (venue, name) = match (&args.input, args.venue) {
        (Some(path), Some(venue)) => {
            let mut input = Input::open(path)?;
            let mut from = input.reader()?;
            copied(std::fs::File::create(&copy).and_then(|mut to| std::io::copy(&mut from, &mut to)).map(drop))?;
            drop(from);
            (venue, input.name)
        }
        _ => {
            copied(std::fs::write(&copy, EXCERPT))?;
            (Venue::BinanceSpot, EXCERPT_NAME.to_owned())
        }
    };
    let lines = Input::open(&copy)?.line_count()?;
    let tiers = TierArgs::default();
    Ok((Place { root, tiers, venue, input: copy, name, scratch: scratch.to_owned() }, lines))
}

/// For somebody whose demo failed where hardly any room is left.
fn little_room(system: &System, args: &Args, scratch: &Path) -> String {
    for dir in [Some(scratch), args.keep.as_deref()].into_iter().flatten() {
        if let Ok(free) = system.free_bytes(dir)
            && free < ROOM_LITTLE
        {
            let dir = dir.display();
            return format!("\n{dir} has {} left; the demo's files go under TMPDIR, or where --keep says", Size(free));
        }
    }
    String::new()
}

/// Where less than this is free, less than the demo's own recording takes, a lack of room may be the cause.
const ROOM_LITTLE: u64 = 24 << 20;

/// Where the raw queue lies: in memory if there is room for it.
struct Hot {
    memory: Option<tempfile::TempDir>,
    told: String,
}

/// Room that the raw queue's segments and some more need.
const HOT_ROOM: u64 = 96 << 20;

impl Hot {
    fn choose(args: &Args, system: &System, scratch: &Path) -> Result<Self, Failure> {
        if let Some(dir) = &args.keep {
            return Ok(Hot { memory: None, told: format!("{} (kept)", dir.join("hot").display()) });
        }
        let fallback = |why: String| Hot { memory: None, told: format!("disk: {why}") };
        let Some(dir) = system.memory_dir() else {
            return Ok(fallback("this system has no directory in memory".to_owned()));
        };
        if system.medium(scratch).is_ok_and(|medium| medium == Medium::Memory) {
            return Ok(Hot { memory: None, told: "shared memory".to_owned() });
        }
        let free = match system.free_bytes(&dir) {
            Ok(free) => free,
            Err(error) => return Ok(fallback(error.to_string())),
        };
        if free < HOT_ROOM {
            return Ok(fallback(format!("{} has {} MiB free, {} needed", dir.display(), free >> 20, HOT_ROOM >> 20)));
        }
        match tempfile::Builder::new().prefix(&prefix()).tempdir_in(&dir) {
            Ok(memory) => Ok(Hot { memory: Some(memory), told: format!("shared memory ({})", dir.display()) }),
            Err(error) => Ok(fallback(error.to_string())),
        }
    }

    fn dir(&self) -> Option<PathBuf> {
        self.memory.as_ref().map(|dir| dir.path().join("hot"))
    }
}

/// Live progress, on a terminal only.
struct Screen {
    bars: MultiProgress,
}

impl Screen {
    fn new(json: bool) -> Self {
        let bars = MultiProgress::new();
        if json {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        Screen { bars }
    }

    fn bar(&self, what: &str) -> ProgressBar {
        let bar = self.bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {prefix:<16} {human_pos:>12} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        bar
    }

    fn clear(&self) {
        let _ = self.bars.clear();
    }
}

fn play(
    args: &Args,
    place: &Place,
    lines: u64,
    hot: &Hot,
    screen: &Screen,
    stop: &AtomicBool,
    began: Instant,
) -> Result<Summary, Failure> {
    let mut crew = Crew::new(place, screen, stop);
    let drop_record = if args.sabotage == Some(Sabotage::DropRecord) { &["--drop-record"][..] } else { &[] };
    let seconds = args.seconds.to_string();
    let mut feed_arguments = vec!["--over", &seconds, "--await-reader", "fast", "--await-reader", "slow"];
    feed_arguments.extend(drop_record);

    let fast = crew.start("strategy", &["--reader", "fast"])?;
    let slow = crew.start("strategy", &["--reader", "slow", "--slow"])?;
    let mut kills = Vec::new();
    // Once; and once more, where the tests want that to be noticed.
    let twice = args.sabotage == Some(Sabotage::KillTwice);
    let mut hold_at = (lines / 2).max(1);
    let mut refinery = crew.start("refinery", &["--hold-at", &hold_at.to_string()])?;
    let feed = crew.start("feed", &feed_arguments)?;
    loop {
        // A recording may have fewer records than lines; then it never comes so far.
        let has_all = |crew: &Crew<'_>| {
            let feed = crew.told::<feed::Told>(feed);
            feed.is_some_and(|feed| feed.appended < hold_at && crew.progress(refinery) >= feed.appended)
        };
        crew.wait_until(refinery, |crew| crew.holding(refinery).is_some() || has_all(crew))?;
        kills.push(Kill {
            at: crew.holding(refinery),
            feed_has_ended: crew.told::<feed::Told>(feed).is_some(),
            pid: crew.kill(refinery)?,
        });
        if !twice || kills.len() == 2 {
            break;
        }
        hold_at = (lines / 4).max(1);
        refinery = crew.start("refinery", &["--hold-at", &hold_at.to_string()])?;
    }
    let refinery = crew.start("refinery", &[])?;

    let feed: feed::Told = crew.finish(feed)?;
    if feed.events == 0 {
        return Err(Failure::Problem(format!("{}: no whole message of {} in it", place.name, place.venue.name())));
    }
    let fast: strategy::Told = crew.finish(fast)?;
    let slow: strategy::Told = crew.finish(slow)?;
    crew.tell(refinery, "finish");
    let refinery: refinery::Told = crew.finish(refinery)?;
    let tier = crew.start("tier", &[])?;
    let tier: tier::Told = crew.finish(tier)?;
    if args.sabotage == Some(Sabotage::FlipByte) {
        flip_byte(&place.root().cold)?;
    }
    let check = crew.start("check", &[])?;
    let check: check::Told = crew.finish(check)?;

    let mut problems = check.problems.clone();
    if kills.len() != 1 {
        problems.push(format!("the refinery was killed {} times, once was meant", kills.len()));
    }
    for told in [&fast, &slow] {
        if told.records != feed.appended {
            problems.push(format!("strategy {} read {} of {} records", told.reader, told.records, feed.appended));
        }
    }
    let latency_ns = latency(place, "fast")?;
    // All that went in once is in the archive once; what was taken in more often had not been in a checkpoint.
    let before: Option<u64> = kills.iter().map(|kill| kill.at).sum();
    let refined_twice = before.map(|before| (before + refinery.events).saturating_sub(feed.appended));
    Ok(Summary {
        ok: problems.is_empty(),
        events: feed.events,
        replay: check.replay,
        books: check.books,
        verified: check.verified,
        latency_ns,
        bytes: check::Bytes { raw: feed.bytes, warm: tier.warm_bytes, cold: tier.cold_bytes },
        import_events_per_s: feed.events_per_s,
        import_mb_per_s: feed.mb_per_s,
        refine_events_per_s: check.refined_again.events_per_s,
        refined_again: check.refined_again,
        refined_live: refinery.events,
        seconds: began.elapsed().as_secs_f64(),
        killed: kills.iter().map(|kill| kill.told(feed.appended)).collect(),
        refined_twice,
        wait: fast.wait.clone(),
        strategies: vec![fast, slow],
        input: place.name.clone(),
        hot: hot.told.clone(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        problems,
        notes: feed.notes,
    })
}

/// Joins the feed's times with a strategy's by seq.
fn latency(place: &Place, reader: &str) -> Result<Latency, Failure> {
    let sent = times(&place.scratch.join("feed.times"))?;
    let seen = times(&place.scratch.join(format!("{reader}.times")))?;
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 3)?;
    let mut sent = sent.into_iter().peekable();
    for (seq, at) in seen {
        while sent.next_if(|(other, _)| *other < seq).is_some() {}
        if let Some((other, from)) = sent.peek()
            && *other == seq
        {
            histogram.saturating_record(at.saturating_sub(*from).max(1));
        }
    }
    if histogram.is_empty() {
        return Ok(Latency::default());
    }
    Ok(Latency {
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
    })
}

/// (seq, ns) pairs that a part wrote with [`worker::write_times`].
fn times(path: &Path) -> Result<Vec<(u64, u64)>, Failure> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.read_to_end(&mut bytes)?;
    let (pairs, _) = bytes.as_chunks::<16>();
    Ok(pairs
        .iter()
        .map(|pair| {
            let (seq, at) = pair.split_at(8);
            let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            (word(seq), word(at))
        })
        .collect())
}

/// Changes one byte in the middle of the first cold book.
fn flip_byte(cold: &Path) -> Result<(), Failure> {
    let mut directories = vec![cold.to_owned()];
    while let Some(dir) = directories.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.file_name().is_some_and(|name| name == "book.q.zst") {
                let mut bytes = std::fs::read(&path)?;
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
                std::fs::write(&path, bytes)?;
                return Ok(());
            }
        }
    }
    Err(Failure::Problem("no cold book to change a byte of".to_owned()))
}
