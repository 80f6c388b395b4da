//! `chronicle demo`: the whole way of a record, by real processes, proven at its end.
//!
//! ```text
//! local exchange ──TCP──▶ feed ──▶ raw queue ──▶ strategy "taker", strategy "maker"
//!       ▲                             │               │ orders      ▲ answers, fills
//!       └────TCP──── router ◀─────────┼───────────────┘             │
//!                      └──────────────┼─────────────────────────────┘
//!                                     └─▶ refinery ──▶ tier manager ──▶ judge
//! ```
//!
//! Each arrow is a process boundary; each process is this binary again (`demo-part`). With `--input` a recording is played
//! instead, and there is no exchange. This file holds what both have in common; [`live`] and [`recorded`] start the
//! processes, kill some, and show what a judge, a process of its own too, found in the files.

mod check;
mod feed;
mod live;
mod recorded;
mod refinery;
mod strategy;
mod table;
mod tier;
mod worker;

use crate::run::{Failure, Outcome, Size, TierArgs, must_be_directory, print_json};
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
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// Trade with a local exchange through the whole system, kill parts of it, and prove what came out
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle demo
  chronicle demo --chaos --seconds 300 --seed 7
  chronicle demo --input btcusdt_20240808.gz --venue binance-usdm --seconds 0
  chronicle demo --keep market && chronicle book --root market --venue binance-spot --symbol btcusdt --at latest

A local exchange, a live feed, two strategies, a router, a refinery and a tier manager, each a process of its own; the
exchange misbehaves, processes are killed with SIGKILL and started again, and at the end a judge compares books, orders and
archive with what the exchange says of itself. With --chaos everything but the exchange is killed, in random order, all the
time. With --input a recording is played instead of trading, which goes with neither --live nor --chaos: nobody in a
recording takes an order. To follow one live, have `chronicle exchange --play` play it and `chronicle feed` follow that.

Exit code 0 if every check holds, 1 if one does not.")]
pub(crate) struct Args {
    /// Play a recording of your own instead of trading; needs --venue
    #[arg(long, value_name = "FILE", requires = "venue")]
    input: Option<PathBuf>,
    /// Whose messages it holds
    #[arg(long, requires = "input")]
    venue: Option<Venue>,
    /// Live, as without --input
    #[arg(long, conflicts_with = "input")]
    live: bool,
    /// Live, and kill processes in random order as long as it lasts
    #[arg(long, conflicts_with = "input")]
    chaos: bool,
    /// Play, or trade, for about so many seconds: 5 by default, 20 with --chaos; 0 = as short as it can be
    #[arg(long, value_parser = clap::value_parser!(u32).range(..=86_400))]
    seconds: Option<u32>,
    /// Live: what the exchange's crowd does and, with --chaos, who is killed when; by default another one each time
    #[arg(long, conflicts_with = "input")]
    seed: Option<u64>,
    /// Live: where the exchange listens; by default a free port of 127.0.0.1
    #[arg(long, value_name = "ADDR", conflicts_with = "input")]
    listen: Option<SocketAddr>,
    /// Leave the root in this directory, which must be empty or not exist
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// One JSON object: {ok, events, replay, books, latency_ns, bytes, import_events_per_s, refine_events_per_s, seconds, killed, …}
    #[arg(long)]
    json: bool,
    /// For the tests: faults that the checks must find
    #[arg(long, hide = true)]
    sabotage: Vec<Sabotage>,
}

impl Args {
    fn sabotages(&self, sabotage: Sabotage) -> bool {
        self.sabotage.contains(&sabotage)
    }
}

/// Faults that turn a verdict false; without them a check might not be able to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sabotage {
    /// Of a recording: the feed leaves out one record.
    DropRecord,
    /// A byte of a cold file is changed before the check.
    FlipByte,
    /// Of a recording: the refinery is killed twice.
    KillTwice,
    /// Live: a quantity of a book that was noted from the exchange is changed before the check.
    WrongBook,
    /// Live: the router says of an order that it is at the exchange, and does not send it.
    LoseOrder,
    /// Live: the router sends an order twice, under two ids.
    DoubleOrder,
    /// Live: the router answers an order twice, and tells of an end that is none.
    AnswerTwice,
    /// Live: a strategy is killed at the end, when nobody is left to remove its registration.
    LeaveStale,
}

#[derive(Subcommand)]
pub(crate) enum Part {
    /// Runs a command, and ends with the demo.
    Held(live::HeldArgs),
    /// Trades on the raw queue's quotes.
    Trader(live::strategy::Args),
    /// Takes orders to the exchange and answers them.
    Router(live::router::Args),
    /// Compares what is on disk with what the exchange says of itself.
    Judge(live::judge::Args),
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
        Part::Held(args) => live::held(args),
        Part::Trader(args) => live::strategy::run(args),
        Part::Router(args) => live::router::run(args),
        Part::Judge(args) => live::judge::run(args),
        Part::Feed(args) => feed::run(args),
        Part::Strategy(args) => strategy::run(args),
        Part::Refinery(args) => refinery::run(args),
        Part::Tier(args) => tier::run(args),
        Part::Check(args) => check::run(args),
    }
}

/// Where every part finds the root.
#[derive(clap::Args, Clone)]
pub(crate) struct Place {
    #[arg(long)]
    root: PathBuf,
    #[command(flatten)]
    tiers: TierArgs,
    #[arg(long)]
    venue: Venue,
    /// Where parts leave what other parts read.
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
    /// What there is to say of trading live only.
    #[serde(flatten)]
    pub(crate) live: Option<live::Traded>,
}

/// How long something took, in ns. `latency_ns` of a [`Summary`] is from the feed to the fast strategy's hands: from its
/// call to `append`, of a recording; live, from the receipt of the message.
#[derive(Serialize, Deserialize, Default, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Latency {
    pub(crate) fn histogram() -> Result<Histogram<u64>, Failure> {
        Ok(Histogram::new_with_bounds(1, 3_600_000_000_000, 3)?)
    }

    /// Zeros of an empty one.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Latency::default();
        }
        Latency {
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

#[derive(Serialize, Clone, Deserialize)]
pub(crate) struct Killed {
    pub(crate) pid: u32,
    pub(crate) phase: String,
}

pub(crate) fn run(args: Args) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    // A second handler in one process is impossible here: the demo installs the only one.
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
    let system = System;
    let scratch = tempfile::Builder::new().prefix(&prefix()).tempdir().map_err(|error| no_scratch(&error))?;
    let with_room = |failure| match failure {
        Failure::Problem(text) => Failure::Problem(text + &little_room(&system, &args, scratch.path())),
        usage => usage,
    };
    let root = root_of(&args, &system, scratch.path()).map_err(with_room)?;
    let hot = Hot::choose(&args, &system, scratch.path())?;
    let screen = Screen::new(args.json);
    let stage = Stage {
        args: &args,
        root,
        scratch: scratch.path(),
        hot: &hot,
        screen: &screen,
        stop: &stop,
        began: Instant::now(),
    };
    let summary = match (&args.input, args.venue) {
        (Some(path), Some(venue)) if !args.live => recorded::run(&stage, path, venue),
        _ => live::run(&stage),
    };
    screen.clear();
    let summary = match summary {
        Err(Failure::Problem(_)) if stop.load(Ordering::Relaxed) => {
            return Err(Failure::Problem(match &args.keep {
                None => "stopped; nothing was left behind".to_owned(),
                Some(dir) => format!("stopped; what was made until then is in {}", dir.display()),
            }));
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

/// The system's directory for temporary files is none.
fn no_scratch(error: &std::io::Error) -> Failure {
    // Behind the reason it says a name that nobody has chosen.
    let text = error.to_string();
    let why = text.split(" at path ").next().unwrap_or(&text);
    let dir = std::env::temp_dir();
    Failure::Problem(format!(
        "{}: no directory can be made there: {why}; the demo's files go under TMPDIR: set it to a directory that you may \
         write, or unset it",
        dir.display()
    ))
}

/// Where the root is made: a new directory, or one that is empty.
fn root_of(args: &Args, system: &System, scratch: &Path) -> Result<PathBuf, Failure> {
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
    Ok(root)
}

/// What a demo is played on.
struct Stage<'a> {
    args: &'a Args,
    root: PathBuf,
    scratch: &'a Path,
    hot: &'a Hot,
    screen: &'a Screen,
    stop: &'a Arc<AtomicBool>,
    began: Instant,
}

impl Stage<'_> {
    fn place(&self, venue: Venue) -> Place {
        let tiers = TierArgs { hot: self.hot.dir(), ..TierArgs::default() };
        Place { root: self.root.clone(), tiers, venue, scratch: self.scratch.to_owned() }
    }
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
